"""Reads people's own data (`people_schema`), and names file, record and field of whatever is wrong.

In a folder train.json, validation.json and test.json are the splits; in a single file `split` of each person
is, 'train' where it is left out.
"""

import collections
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from hybrik_jax import annotation_file, boxes, image_file
from hybrik_jax.datasets import people_schema as schema
from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.people_labels import Wrong, labels_of, looks_like_corners
from hybrik_jax.json_file import read_top, stream

SPLITS = schema.SPLITS
FORMAT = schema.FORMAT
SKELETONS = schema.SKELETONS
_HELP = 'docs/datasets.md, "Your own data", shows the form'


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, record (as 'people[3]', or empty), field, and what to do."""

    file: pathlib.Path
    record: str
    field: str
    message: str

    def __str__(self) -> str:
        where = '.'.join(_one_line(part, 120) for part in (self.record, self.field) if part)
        texts = _one_line(str(self.file), 300), where, _one_line(self.message, 700)
        return ': '.join(text for text in texts if text)


Item = AnnotatedPerson | Skipped | Problem
SizeOf = Callable[[pathlib.Path], tuple[int, int]]


def splits(path: str | pathlib.Path) -> tuple[str, ...]:
    """Returns the splits that a file or folder of this schema has, in the order of `SPLITS`."""
    path = pathlib.Path(path)
    if path.stem in SPLITS or os.path.isdir(path):
        return tuple(file.stem for file in _files(path))
    found = {_split_of(entry, path) for entry in stream(path, 'people')}
    return tuple(split for split in SPLITS if split in found) or ('train',)


def read(
    path: str | pathlib.Path, split: str, *, allow_outside: bool = False
) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields the people of one split of a file of this schema, or of a folder with SPLIT.json; maybe none.

    Photos are opened for their size where photo_size does not say it. One that cannot be opened is left to
    whoever cuts it to report: its person's width and height are made up.

    Args:
        allow_outside: photos_root and coco.file need not lie below the file's folder, nor photos below
            photos_root.
    Raises:
        AnnotationError: the first record that is wrong; `validate` lists more of them.
        FileNotFoundError: there is no such file.
    """
    for file in _files(pathlib.Path(path)):
        if file.stem in SPLITS and file.stem != split:
            continue
        for item in _people(file, split, allow_outside):
            if isinstance(item, Problem):
                raise AnnotationError(f'{item} (all that is wrong: python -m tools.validate_people {path})')
            yield item


def validate(path: str | pathlib.Path, limit: int = 20, **options: bool) -> list[Problem]:
    """Returns the first `limit` problems of a file (or of the files of a folder), [] where all is well.

    options: as `examine`'s.
    """
    problems = (item for item in examine(path, **options) if isinstance(item, Problem))
    return list(itertools.islice(problems, limit))


def examine(
    path: str | pathlib.Path, *, allow_outside: bool = False, headers_only: bool = False
) -> Iterator[Item]:
    """Yields every person of a file or folder, every annotation that is left out, and every problem.

    Args:
        allow_outside: as `read`'s.
        headers_only: do not decode photos: damage behind their headers is found by who cuts them.
    """
    file = path = pathlib.Path(path)
    size_of = functools.lru_cache(1000)(image_file.size if headers_only else _decoded_size)
    try:
        for file in _files(path):
            yield from _people(file, None, allow_outside, size_of)
    except (AnnotationError, OSError) as error:
        said = getattr(error, 'strerror', None) or str(error)
        yield Problem(file, '', '', said.removeprefix(f'{file}').lstrip(': '))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of a folder, or the one file."""
    if not os.path.isdir(path):
        return [path]
    files = [path / f'{split}.json' for split in SPLITS if os.path.isfile(path / f'{split}.json')]
    if not files:
        names = ', '.join(f'{split}.json' for split in SPLITS)
        raise FileNotFoundError(f'{path} has none of {names}: give the JSON file, or its folder')
    return files


def _people(
    path: pathlib.Path, split: str | None, allow_outside: bool, size_of: SizeOf = image_file.size
) -> Iterator[Item]:
    """Yields what every record of a file gives: a person, or the problems it has.

    split: the records of this split only, and photos that cannot be opened are no problem; None: everything.
    size_of: width and height of a photo's file.
    """
    header, skeletons, faults = _header(path, allow_outside)
    yield from (Problem(path, '', field, message) for field, message in faults)
    if header is None or faults:
        return
    file, entries = path, ((f'people[{k}]', entry) for k, entry in enumerate(stream(path, 'people')))
    if header.coco:
        file = path.parent / header.coco.file
        entries = _coco_entries(file, header.coco, skeletons[header.coco.skeleton])
    root = path.parent / header.photos_root
    inside = None if allow_outside else os.path.realpath(root)
    names: dict[int, int] = {}
    left_out, somebody = collections.Counter(), False
    corners, first_corners = collections.Counter(), {}  # by split, as a build looks at one
    for index, (where, raw) in enumerate(entries):
        belongs = _split_of(raw, path)
        if split is not None and split != belongs in SPLITS:
            somebody = True
            continue
        entry, faults = (None, []) if isinstance(raw, Skipped) else schema.parsed(schema.Person, raw)
        if entry and header.coco:
            raw = _left_out(entry, f'{file}: {where}') or raw
        if isinstance(raw, Skipped):
            left_out[raw.reason] += 1
            yield raw
            continue
        somebody = True
        if entry and not faults:
            name = f'{belongs}/{entry.name or f"{index:06d}"}'
            if (other := names.setdefault(hash(name), index)) != index:
                what = f'is the name of {where.partition("[")[0]}[{other}] too (who has none is numbered)'
                faults.append(('name', f'{schema.shown(name)} {what}: names must be unique in a split'))
            if entry.split not in (None, belongs):
                faults.append(('split', f'is {entry.split!r} in a file that is called {path.name}'))
            try:
                photo, size = _photo(entry, root, split is None, inside, size_of)
                labels = labels_of(entry, size, skeletons, header.box_enlargement)
                person = AnnotatedPerson(f'custom/{name}', photo, labels, entry.sequence, entry.action)
                looks = looks_like_corners(entry.box, labels)
                corners[belongs, looks] += 1
                first_corners |= {belongs: where} if looks and belongs not in first_corners else {}
                if split is None:
                    faults += [('', message) for message in sanity.check_person(person)]
            except Wrong as wrong:
                faults.append(wrong.args)
        yield from (Problem(file, where, *fault) for fault in faults)
        if not faults:
            yield person
    for belongs, where in first_corners.items():
        wrong, right = corners[belongs, True], corners[belongs, False]
        if wrong > right:
            what = f'looks like x0, y0, x1, y1 (as do {wrong} of {wrong + right} boxes)'
            yield Problem(file, where, 'box', f'{what}: it must be x, y, width, height')
    if not somebody:
        text = ', '.join(f'{count} are left out: {reason}' for reason, count in left_out.items())
        yield Problem(file, '', 'people', f'there is nobody: {text or "the list is missing or empty"}')


def _header(
    path: pathlib.Path, allow_outside: bool
) -> tuple[schema.Header | None, dict[str, schema.Skeleton], list[tuple[str, str]]]:
    """Returns the fields of the file itself, all skeletons by name, and (field, message) of what is wrong."""
    kinds, values = read_top(path, schema.Header.model_fields)
    if kinds is None or values.get('format') != FORMAT:
        return None, {}, [_another_kind(kinds, values, path)]
    known = sorted([*schema.Header.model_fields, 'people', 'extra'])
    unknown = f'no such field; there are {", ".join(known)}'
    faults = [(key or "''", unknown) for key in sorted(kinds.keys() - {*known})]
    header, more = schema.parsed(schema.Header, values)
    faults, skeletons = faults + more, dict(SKELETONS)
    if kinds.get('people', 'list') != 'list':
        faults.append(('people', 'must be a list'))
    if header is None:
        return None, skeletons, faults
    for name, joint_map in header.skeletons.items():
        skeletons[name], more = schema.own_skeleton(name, joint_map)
        faults += [(f'skeletons.{field}', message) for field, message in more]
    for field, name in (('photos_root', header.photos_root), ('coco.file', header.coco and header.coco.file)):
        if name and not allow_outside and _is_outside(path.parent / name, os.path.realpath(path.parent)):
            what = f'is outside of the folder of {path.name}'
            faults.append((field, f'{path.parent / name} {what}: --allow-outside takes it all the same'))
    if not os.path.isdir(path.parent / header.photos_root):
        faults.append(('photos_root', f'there is no folder {path.parent / header.photos_root}'))
    if header.coco and 'people' in kinds:
        faults.append(('coco', 'stands in place of people: give one of them'))
    if header.coco and header.coco.skeleton not in skeletons:
        name = header.coco.skeleton
        faults.append(('coco.skeleton', f'{name!r} is not known; there are {", ".join(skeletons)}'))
    if header.coco and not os.path.isfile(path.parent / header.coco.file):
        faults.append(('coco.file', f'there is no file {path.parent / header.coco.file}'))
    return header, skeletons, faults


def _another_kind(
    kinds: dict[str, str] | None, values: dict[str, Any], path: pathlib.Path
) -> tuple[str, str]:
    """Returns the field and what to say of a file that is not of this schema."""
    if kinds is None:
        what = "its top is a list (as MPII's is) or a single value, it must be an object with a list 'people'"
        return '', f'{what}; {_HELP}'
    if {'images', 'annotations'} <= kinds.keys():
        coco = f'"coco": {{"file": "{path.name}", "skeleton": "coco17"}}'
        what = "is missing: this is a file of COCO's form. Beside it, write a people.json:"
        return 'format', f'{what} {{"format": "{FORMAT}", "photos_root": ..., {coco}}}; {_HELP}'
    found = schema.shown(values.get('format'))
    return 'format', f'is {found}, not {FORMAT!r}: is it the right file? {_HELP}'


def _coco_entries(
    path: pathlib.Path, source: schema.Coco, kind: schema.Skeleton
) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    """Yields where each annotation of a file of MSCOCO's form is, and its entry of `people` or Skipped.

    What is said of images is kept in memory.
    """
    people = _coco_people(path, source, kind)

    def of_image(image: annotation_file.Fields) -> dict[str, Any]:
        size = [image.item.get('width'), image.item.get('height')]
        sized = {} if size == [None, None] else {'photo_size': size}
        return {'of_image': {'photo': image.item.get('file_name')} | sized}

    for index, fields in enumerate(annotation_file.joined_items(path, of_image)):
        one = fields.item
        where = f'annotations[{index}] (id {schema.shown(one.get("id", "not given"))})'
        area = one.get('area', 1)
        reason = 'no area' if isinstance(area, (int, float)) and area <= 0 else ''
        reason = 'crowd' if one.get('iscrowd') else reason
        reason = 'not a person' if one.get('category_id', 1) not in people else reason
        if reason:
            yield where, Skipped(reason, f'{path}: {where}')
            continue
        flat = one.get('keypoints') or []
        rows = [flat[k : k + 3] for k in range(0, len(flat), 3)] if isinstance(flat, list) else flat
        own = {
            'name': str(fields.key('id')) if fields.has('id') else '',
            'box': one.get('bbox', [0, 0, 0, 0]),
            'keypoints_2d': {'skeleton': source.skeleton, 'points': rows},
        }
        yield where, one['of_image'] | own


def _coco_people(path: pathlib.Path, source: schema.Coco, kind: schema.Skeleton) -> list[int]:
    """Returns which categories are people, having compared the names of their keypoints with the skeleton."""
    categories = []
    for index, raw in enumerate(stream(path, 'categories')):
        category, faults = schema.parsed(schema.CocoCategory, raw)
        if faults:
            raise AnnotationError(f'{path}: categories[{index}].{": ".join(faults[0])}')
        categories.append(category)
    wanted = [name.lower() for name in source.categories]
    people = [category for category in categories if category.name.lower() in wanted]
    if categories and not people:
        names = ', '.join(schema.shown(category.name) for category in categories)
        what = f'none is called {" or ".join(map(schema.shown, source.categories))}, there are {names}'
        raise AnnotationError(f'{path}: categories: {what}: list those that are people as coco.categories')
    for category in people:
        if category.keypoints and (text := schema.contradiction(kind, category.keypoints)):
            what = f'categories (id {category.id}).keypoints: {text} {source.skeleton!r}'
            raise AnnotationError(f'{path}: {what}: mend the joint map')
    return [category.id for category in people] or [1]


def _left_out(entry: schema.Person, where: str) -> Skipped | None:
    """Returns why a person of a file of COCO's form, where many have no keypoints, is left out."""
    if not any(point[2] > 0 for point in entry.keypoints_2d.points):
        return Skipped('no labelled keypoint', where)
    if min(entry.box[2:]) <= 0 or entry.photo_size and boxes.clipped(entry.box, *entry.photo_size) is None:
        return Skipped('no area', where)
    return None


def _is_outside(path: pathlib.Path, folder: str) -> bool:
    """Returns whether a path leads out of a folder (a real path), by '..', as an absolute one or by links."""
    return not pathlib.Path(os.path.realpath(path)).is_relative_to(folder)


def _decoded_size(path: pathlib.Path) -> tuple[int, int]:
    """Returns width and height of a photo, having decoded all of it as a build does."""
    height, width = image_file.read(path, upright=False)[0].shape[:2]
    return width, height


def _photo(
    entry: schema.Person, root: pathlib.Path, strict: bool, inside: str | None, size_of: SizeOf
) -> tuple[pathlib.Path, tuple[int, int] | None]:
    """Returns the photo of an entry with width and height, None where it cannot be opened.

    strict: then it is wrong, as is one of another size than photo_size.
    inside: the folder, a real path, that it must not lead out of; None: it may lie anywhere.
    """
    path, said = root / entry.photo, tuple(entry.photo_size)
    if inside and _is_outside(path, inside):
        raise Wrong('photo', f'{path} is outside of photos_root: --allow-outside takes it all the same')
    if os.path.exists(path) and not os.path.isfile(path):
        raise Wrong('photo', f'{path} is a folder or a device')
    if said and not strict:
        return path, said
    try:
        size = size_of(path)
    except (OSError, ValueError) as error:
        if strict:
            raise Wrong('photo', str(error)) from error
        return path, None
    if said and said != size:
        what = f'the file has {size[0]} x {size[1]} (EXIF turns nothing)'
        raise Wrong('photo_size', f'is {said[0]} x {said[1]}, {what}')
    return path, size


def _split_of(entry: Any, path: pathlib.Path) -> str:
    if path.stem in SPLITS:
        return path.stem
    return str(entry.get('split') or 'train') if isinstance(entry, dict) else 'train'


def _one_line(text: str, most: int) -> str:
    """Returns a text without line breaks and what cannot be printed, shortened in its middle."""
    plain = text if len(text) <= most else f'{text[: most // 2]} ... {text[-most // 2 :]}'
    return ''.join(c if c.isprintable() else f'\\u{ord(c):04x}' for c in plain)
