"""People's own data: one JSON schema, its reader, and a validator that names file, record and field of what
is wrong.

    {"format": "hybrik_jax people 1",
     "photos_root": "photos",            beside this file, or absolute; left out: the folder of this file
     "box_enlargement": 1.25,            1.0 where the boxes have their margin already; 1.25 where left out
     "skeletons": {"mine": {"count": 20, "left_knee": 5, "h36m:neck": 1}},
     "people": [{
       "photo": "walk/0001.jpg",         the only fields that everybody needs are photo, box and a label
       "box": [x, y, w, h],              pixels, around the person, not enlarged
       "keypoints_2d": {"skeleton": "coco17", "points": [[x, y, v], ...]},   v as in COCO: 0 not labelled,
                                         1 labelled but hidden, 2 visible
       "joints_3d": {"skeleton": "mine", "frame": "camera", "points_m": [[x, y, z] or null, ...], "root": [x,
       y, z]}, "smpl": {"pose": [[x, y, z], ... 24], "betas": [... 10], "root": [x, y, z]},
       "camera": {"focal": [fx, fy], "centre": [cx, cy]},
       "photo_size": [width, height], "name": ..., "sequence": ..., "action": ..., "split": ..., "extra":
       anything}]}

Pixels have their centres at integers. Metres, camera frame: x right, y down, z forward. `pose` is axis-angle,
radians, row 0 from model axes to camera axes. `root` is where joint 0 (the pelvis) is in the camera frame;
joints_3d needs it only where its skeleton has no pelvis, smpl only where there are no joints_3d.

In place of "people", "coco" takes a file of MSCOCO's form whose keypoints are in another skeleton:
    "coco": {"file": "keypoints.json", "skeleton": "mine"}, its photos below photos_root.

A skeleton is one of `SKELETONS`, or a map of our own: joint (name or number of `body.skeleton`, 'h36m:' and a
name of the 17 Human3.6M joints for those) -> index of the point, and `count`, how many points a person has.

SPLITS: in a folder, train.json, validation.json and test.json; in a single file `split` of each person,
    'train' where
it is left out.
"""

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import cv2
import ijson
import numpy as np
import simplejpeg

from hybrik_jax.body import skeleton
from hybrik_jax.body.projection import project
from hybrik_jax.data import record
from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped, box_from_xywh
from hybrik_jax.datasets.readers import coco, mpi_inf_3dhp, reading

NAME = 'custom'
SPLITS = ('train', 'validation', 'test')
FOLDER = 'custom'
FORMAT = 'hybrik_jax people 1'
ENLARGEMENT = 1.25

_TOP = {'format', 'photos_root', 'box_enlargement', 'skeletons', 'people', 'coco', 'extra'}
_PERSON = {
    'photo', 'photo_size', 'box', 'box_enlargement', 'keypoints_2d', 'joints_3d', 'smpl', 'camera', 'name', 'sequence',
    'action', 'split', 'extra',
}  # fmt: skip
_H36M = 'h36m:'
_LIMB_M = (0.08, 0.9)  # what the median limb of a child or an adult lies between
_NEAR_BOX = 1.6  # labelled points lie within the box, made so many times larger
_HEAD_BYTES = 1 << 18  # enough of a JPEG to know its size


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Which point of a skeleton is which joint of ours.

    count: points of a person, None where unknown. joints: one of the 29 joints -> point. h36m: one of the 17
    Human3.6M joints -> point.
    """

    count: int | None
    joints: dict[int, int]
    h36m: dict[int, int]


# As MPI-INF-3DHP's: pelvis, neck and limbs stand for SMPL's, the hips do not.
_H36M17 = {0: 0, 4: 2, 5: 5, 7: 3, 8: 6, 12: 8, 16: 11, 17: 14, 18: 12, 19: 15, 20: 13, 21: 16}
SKELETONS = {
    'smpl24': Skeleton(24, {k: k for k in range(24)}, {}),
    'smpl29': Skeleton(29, {k: k for k in range(29)}, {}),
    'h36m17': Skeleton(17, _H36M17, {k: k for k in range(17)}),
    'coco17': Skeleton(17, coco.SMPL_OF_KEYPOINTS, {}),
    'mpi28': Skeleton(
        len(mpi_inf_3dhp.JOINTS),
        mpi_inf_3dhp.SMPL_OF_JOINTS,
        {k: mpi_inf_3dhp.TEST_JOINTS[j] for k, j in enumerate(mpi_inf_3dhp.H36M_OF_TEST)},
    ),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, record (such as 'people[3]', may be empty) and field, and what
    to do.
    """

    file: pathlib.Path
    record: str
    field: str
    message: str

    def __str__(self) -> str:
        where = '.'.join(part for part in (self.record, self.field) if part)
        return f'{self.file}: {where + ": " if where else ""}{self.message}'


def splits(path: str | pathlib.Path) -> tuple[str, ...]:
    """Returns the splits that a file or folder of this schema has, in the order of `SPLITS`."""
    path = pathlib.Path(path)
    if path.is_dir():
        return tuple(split for split in SPLITS if (path / f'{split}.json').is_file())
    if 'coco' in _read_header(path) or path.stem in SPLITS:
        return (_default_split(path),)
    found = {_split_of(entry, path) for _, _, entry in _entries(path)}
    return tuple(split for split in SPLITS if split in found)


def read(path: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields the people of one split of a file of this schema, or of a folder with SPLIT.json in it; maybe
    none.

    Photos are opened for their size where photo_size does not say it. One that cannot be opened is left to
    whoever cuts it to report: its person's width and height are made up. Raises FileNotFoundError, and
    AnnotationError for the first record that is wrong; `validate` lists more of them.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if not splits(path):
            raise FileNotFoundError(
                f'{path} has none of {", ".join(SPLITS)}.json: give the JSON file, or its folder.'
            )
        if split not in splits(path):
            return
        path = path / f'{split}.json'
    for item in _people(path, split):
        if isinstance(item, Problem):
            raise AnnotationError(f'{item}\nFor all that is wrong: python -m tools.validate_people {path}')
        yield item


def validate(path: str | pathlib.Path, limit: int = 20) -> list[Problem]:
    """Returns the first `limit` problems of a file (or of the files of a folder), [] where all is well."""
    path = pathlib.Path(path)
    files = [path / f'{split}.json' for split in splits(path)] if path.is_dir() else [path]
    if not files:
        return [Problem(path, '', '', f'the folder has none of {", ".join(SPLITS)}.json')]
    problems = []
    for file in files:
        try:
            for item in _people(file):
                if isinstance(item, Problem):
                    problems.append(item)
                if len(problems) >= limit:
                    return problems
        except AnnotationError as error:
            problems.append(Problem(file, '', '', str(error).removeprefix(f'{file}: ')))
        except FileNotFoundError as error:
            problems.append(Problem(pathlib.Path(error.filename or file), '', '', 'does not exist'))
    return problems[:limit]


# ---- the file


def _people(path: pathlib.Path, split: str | None = None) -> Iterator[AnnotatedPerson | Skipped | Problem]:
    """Yields what every record of a file gives: a person, or the problems it has.

    split: the records of this split only, and photos that cannot be opened are no problem; None: everything.
    """
    header = _read_header(path)
    skeletons, problems = _checked_header(header, path)
    yield from problems
    if any(problem.field == 'format' for problem in problems):
        return
    root = path.parent / _text(header.get('photos_root', ''))
    enlargement = (
        ENLARGEMENT if any(p.field == 'box_enlargement' for p in problems) else header.get('box_enlargement')
    )
    seen: dict[str, str] = {}
    count = 0
    for count, (file, where, entry) in enumerate(_entries(path, header), 1):
        if split is not None and split != (belongs := _split_of(entry, path)) and belongs in SPLITS:
            continue
        if isinstance(entry, Skipped):
            yield entry
            continue
        faults = _Faults(photos=split is None)
        person = _person(entry, faults, skeletons, root, enlargement or ENLARGEMENT, path, count - 1)
        name = _text(entry.get('name', '')) if isinstance(entry, dict) else ''
        if name:
            key = f'{_split_of(entry, path)}/{name}'
            if key in seen:
                faults.add(
                    'name', f'{name!r} is the name of {seen[key]} too: names must be unique in a split'
                )
            seen.setdefault(key, where)
        if split is None and not faults:
            for message in sanity.check_person(person):  # what a build refuses
                faults.add('', message)
        if faults:
            yield from (Problem(file, where, field, message) for field, message in faults)
        else:
            yield person
    if not count:
        yield Problem(path, '', 'people', 'there is nobody: the list is missing or empty')


def _entries(path: pathlib.Path, header: dict | None = None) -> Iterator[tuple[pathlib.Path, str, Any]]:
    """Yields (file, record's place, entry of `people`, or Skipped) of the file or of the COCO file that it
    names.
    """
    header = _read_header(path) if header is None else header
    if isinstance(header.get('coco'), dict) and isinstance(header['coco'].get('file'), str):
        yield from _coco_entries(path.parent / header['coco']['file'], header['coco'].get('skeleton'))
        return
    with _open(path) as file:
        for index, entry in enumerate(ijson.items(file, 'people.item', use_float=True)):
            yield path, f'people[{index}]', entry


def _coco_entries(path: pathlib.Path, name: str) -> Iterator[tuple[pathlib.Path, str, Any]]:
    """Yields the annotations of a file of MSCOCO's form as entries of `people`, or Skipped."""
    joined = reading.joined_items(path, lambda image: {'image': image.item})
    for index, fields in enumerate(joined):
        one, image = fields.item, fields.item['image']
        place, flat = f'annotations[{index}] (id {one.get("id")})', one.get('keypoints', [])
        points = [flat[k : k + 3] for k in range(0, len(flat), 3)]
        size, box = [image.get('width'), image.get('height')], one.get('bbox', [0, 0, 0, 0])
        usable = _are_numbers(size, 2) and _are_numbers(box, 4)  # what is not is reported, not skipped
        reason = None
        if one.get('iscrowd'):
            reason = 'crowd'
        elif not any(len(point) == 3 and point[2] for point in points):
            reason = 'no labelled keypoint'
        elif (
            (_is_number(one.get('area')) and one['area'] <= 0) or usable and box_from_xywh(box, *size) is None
        ):
            reason = 'no area'
        entry = {
            'photo': image.get('file_name'),
            'photo_size': size,
            'box': box,
            'keypoints_2d': {'skeleton': name, 'points': points},
            'name': str(one.get('id', index)),
        }
        yield path, place, Skipped(reason, f'{path}: {place}') if reason else entry


def _read_header(path: pathlib.Path) -> dict[str, Any]:
    """Returns everything of a file but its people, wherever it stands."""
    header, key, builder = {}, None, None
    with _open(path) as file:
        for prefix, event, value in ijson.parse(file, use_float=True):
            if prefix == '':
                if event == 'map_key':
                    key, builder = value, ijson.ObjectBuilder()
                elif event not in ('start_map', 'end_map'):
                    raise AnnotationError(f'{path}: holds no JSON object: is it the right file?')
            elif key == 'people':
                header.setdefault('people', event == 'start_array')
            else:
                builder.event(event, value)
                header[key] = builder.value
    return header


def _checked_header(header: dict, path: pathlib.Path) -> tuple[dict[str, Skeleton], list[Problem]]:
    """Returns all skeletons by name, and what is wrong with the fields of the file itself."""
    problems = []

    def wrong(field: str, message: str) -> None:
        problems.append(Problem(path, '', field, message))

    if header.get('format') != FORMAT:
        wrong(
            'format',
            f'is {header.get("format")!r}, not {FORMAT!r}: is it the right file? See docs/datasets.md',
        )
        return {}, problems
    for key in sorted(header.keys() - _TOP):
        wrong(key, f'no such field; there are {", ".join(sorted(_TOP))}')
    if not isinstance(header.get('photos_root', ''), str):
        wrong('photos_root', 'must be a folder in quotes')
    elif not (path.parent / header.get('photos_root', '')).is_dir():
        wrong('photos_root', f'there is no folder {path.parent / header["photos_root"]}')
    if not _is_number(header.get('box_enlargement', 1)) or header.get('box_enlargement', 1) <= 0:
        wrong('box_enlargement', f'is {header["box_enlargement"]!r}, must be a positive number')
    if header.get('people') is False:
        wrong('people', 'must be a list')
    if 'coco' in header:
        source = header['coco']
        if not isinstance(source, dict) or set(source) != {'file', 'skeleton'} or 'people' in header:
            wrong('coco', "must be {'file': ..., 'skeleton': ...}, and stand in place of people")
    skeletons = dict(SKELETONS)
    own = header.get('skeletons', {})
    if not isinstance(own, dict):
        wrong('skeletons', 'must be an object: name -> joint map')
        own = {}
    for name, joint_map in own.items():
        faults = _Faults()
        made = _skeleton(name, joint_map, faults)
        problems += [Problem(path, f'skeletons.{name}', field, message) for field, message in faults]
        skeletons[name] = made  # a wrong one too, so that not every person of it is reported
    return skeletons, problems


def _skeleton(name: str, joint_map: Any, faults: '_Faults') -> Skeleton:
    if name in SKELETONS:
        faults.add(
            '', f'is the name of a skeleton that is known already ({", ".join(SKELETONS)}): choose another'
        )
    if not isinstance(joint_map, dict):
        faults.add('', 'must be an object: our joint -> index of its point')
        return Skeleton(None, {}, {})
    joint_map = dict(joint_map)
    count = joint_map.pop('count', None)
    if count is not None and not _is_index(count):
        faults.add('count', f'is {count!r}, must be a whole number of points')
        count = None
    joints, h36m = {}, {}
    for key, index in joint_map.items():
        names, into = (skeleton.H36M_NAMES, h36m) if key.startswith(_H36M) else (_JOINT_NAMES, joints)
        joint = _joint_number(key.removeprefix(_H36M), names)
        if joint is None:
            faults.add(key, f'is none of our joints: {", ".join(names)}, or their numbers')
        elif not _is_index(index) or count is not None and index >= count:
            below = '' if count is None else f' below count, {count}'
            faults.add(key, f'is {index!r}, must be the index of a point, a whole number from 0{below}')
        else:
            into[joint] = index
    if not joints and not h36m and not faults:
        faults.add('', 'names no joint')
    return Skeleton(count, joints, h36m)


_JOINT_NAMES = skeleton.JOINT_NAMES + skeleton.LEAF_NAMES


def _joint_number(key: str, names: tuple[str, ...]) -> int | None:
    if key in names:
        return names.index(key)
    return int(key) if key.isascii() and key.isdigit() and int(key) < len(names) else None


# ---- one person


class _Faults(list):
    """What is wrong with one record: (field, message) pairs. photos: whether one that cannot be opened
    counts.
    """

    def __init__(self, *, photos: bool = True):
        super().__init__()
        self.photos = photos

    def add(self, field: str, message: str) -> None:
        self.append((field, message))

    def numbers(self, field: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray | None:
        """Returns `value` as a float64 array of that shape (None: any length), or None where it is not, and
        says so.
        """
        wanted = ' x '.join('n' if n is None else str(n) for n in shape)
        try:
            array = np.array(value, object)
        except ValueError:  # rows of different kinds
            self.add(field, f'must be {wanted} numbers, its rows differ in length')
            return None
        if array.ndim != len(shape) or any(
            n not in (None, m) for n, m in zip(shape, array.shape, strict=True)
        ):
            rows = (
                [len(row) for row in array if isinstance(row, list)]
                if array.ndim == 1 and len(shape) == 2
                else []
            )
            if rows and array.shape[0] == (shape[0] or array.shape[0]):
                self.add(field, f'has rows of {sorted(set(rows))} numbers, must be {wanted}')
            else:
                self.add(
                    field,
                    f'has {" x ".join(map(str, array.shape)) or "no list of"} numbers, must be {wanted}',
                )
            return None
        bad = [tuple(map(int, place)) for place in np.ndindex(array.shape) if not _is_number(array[place])]
        if bad:
            place = ''.join(f'[{i}]' for i in bad[0])
            value = array[bad[0]]
            shown = 'null or NaN' if value is None else repr(value)
            more = f' ({len(bad)} such)' if len(bad) > 1 else ''
            self.add(field, f'{place} is {shown}, not a finite number{more}')
            return None
        return array.astype(np.float64)

    def known(self, field: str, value: dict, names: set[str], needed: set[str]) -> bool:
        """Returns whether an object has the fields it needs, and reports missing and unknown ones."""
        prefix = f'{field}.' if field else ''
        for name in sorted(value.keys() - names):
            self.add(f'{prefix}{name}', f'no such field; there are {", ".join(sorted(names))}')
        for name in sorted(needed - value.keys()):
            self.add(f'{prefix}{name}', 'is missing')
        return needed <= value.keys()

    def part(self, entry: dict, field: str, names: set[str], needed: set[str]) -> dict | None:
        """Returns the object `entry[field]`, None where it is not there or cannot be used."""
        value = entry.get(field)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.add(field, f'must be an object with {", ".join(sorted(names))}')
            return None
        return value if self.known(field, value, names, needed) else None


def _person(
    entry: Any,
    faults: _Faults,
    skeletons: dict[str, Skeleton],
    root: pathlib.Path,
    enlargement: float,
    path: pathlib.Path,
    index: int,
) -> AnnotatedPerson | None:
    """Returns the person of one entry of `people`; None, or one that cannot be used, where `faults` are
    added.
    """
    if not isinstance(entry, dict):
        faults.add('', 'must be an object')
        return None
    if not faults.known('', entry, _PERSON, {'photo', 'box'}):
        return None
    for field in ('photo', 'name', 'sequence', 'action', 'split'):
        if not isinstance(entry.get(field, ''), str):
            faults.add(field, f'is {entry[field]!r}, must be text')
    split = _split_of(entry, path)
    if split not in SPLITS:
        faults.add('split', f'is {split!r}, must be one of {", ".join(SPLITS)}')
    elif path.stem in SPLITS and split != path.stem:
        faults.add('split', f'is {split!r} in a file that is called {path.name}')

    photo = root / _text(entry['photo'])
    size = _size_of(photo, entry, faults)
    box = faults.numbers('box', entry['box'], (4,))
    if box is None:
        return None
    if (box[2:] <= 0).any():
        faults.add('box', f'{_short(box)} has no size: its last two numbers are width and height')
        return None
    # Of a photo that cannot be opened the reader passes on any size: who cuts it says what is wrong with the
    # photo.
    width, height = (np.ceil(np.maximum(box[:2], 0) + box[2:]).astype(int) + 1) if size is None else size
    corners = box_from_xywh(box, int(width), int(height))
    if corners is None:
        faults.add(
            'box', f'{_short(box)} has no part in the photo of {width} x {height} pixels: it is x, y, w, h'
        )
        return None
    factor = entry.get('box_enlargement', enlargement)
    if not _is_number(factor) or factor <= 0:
        faults.add('box_enlargement', f'is {factor!r}, must be a positive number')
        factor = ENLARGEMENT
    labels = {name: value for name, value in record.blank().items() if not name.startswith('region_')}
    labels |= {'width': np.int32(width), 'height': np.int32(height), 'box': corners}
    labels['box_enlargement'] = np.float32(factor)

    if not {'keypoints_2d', 'joints_3d', 'smpl'} & entry.keys():
        faults.add('', 'nothing is labelled: give keypoints_2d, joints_3d or smpl')
    camera = _camera(entry, faults, width, height)
    root_m = _set_joints_3d(entry, labels, camera, faults, skeletons, box)
    smpl_root_m = _set_smpl(entry, labels, camera, faults)
    _set_keypoints(entry, labels, faults, skeletons, box)
    root_m = smpl_root_m if root_m is None else root_m
    if camera is not None and root_m is not None:
        labels |= {'focal': camera[0].astype(np.float32), 'centre': camera[1].astype(np.float32)}
        labels |= {'root_m': root_m.astype(np.float32), 'camera_weight': np.float32(1)}
    return AnnotatedPerson(
        name=f'{NAME}/{split}/{_text(entry.get("name", "")) or f"{index:06d}"}',
        photo=photo,
        labels=labels,
        sequence=_text(entry.get('sequence', '')),
        action=_text(entry.get('action', '')),
    )


def _camera(entry: dict, faults: _Faults, width: int, height: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns focal lengths (2,) and centre (2,), pixels, or None."""
    camera = faults.part(entry, 'camera', {'focal', 'centre'}, {'focal', 'centre'})
    if camera is None:
        return None
    focal = faults.numbers('camera.focal', camera['focal'], (2,))
    centre = faults.numbers('camera.centre', camera['centre'], (2,))
    if focal is None or centre is None:
        return None
    size = np.array([width, height])
    if (focal < 0.1 * size.max()).any():
        faults.add(
            'camera.focal', f'{_short(focal)} is too short for {width} x {height}: pixels, not millimetres'
        )
        return None
    if (centre < -size).any() or (centre > 2 * size).any():
        faults.add(
            'camera.centre', f'{_short(centre)} is far outside of the photo of {width} x {height} pixels'
        )
    return focal, centre


def _set_joints_3d(entry, labels, camera, faults, skeletons, box) -> np.ndarray | None:
    """Sets the labels that 3D joints give; returns where the root is, (3,) metres, or None without such
    joints.
    """
    part = faults.part(
        entry, 'joints_3d', {'skeleton', 'points_m', 'frame', 'root'}, {'skeleton', 'points_m', 'frame'}
    )
    if part is None:
        return None
    if part['frame'] != 'camera':
        faults.add(
            'joints_3d.frame', f"is {part['frame']!r}: only 'camera' is known (x right, y down, z forward)"
        )
        return None
    if camera is None:
        if 'camera' not in entry:
            faults.add(
                'camera', 'is missing: 3D joints need the focal lengths and the centre of their camera'
            )
        return None
    kind = _skeleton_of(part, 'joints_3d', faults, skeletons)
    raw = part['points_m']
    if kind is None or not isinstance(raw, list):
        if kind is not None:
            faults.add('joints_3d.points_m', 'must be a list of points')
        return None
    known = np.array([row is not None for row in raw], bool)
    filled = [row if row is not None else [0, 0, 0] for row in raw]
    points = faults.numbers('joints_3d.points_m', filled, (kind.count, 3))
    if points is None or not _reaches(kind, points, 'joints_3d.points_m', faults):
        return None
    joints, joints_known = _gather(points, known, kind.joints, 29)
    h36m, h36m_known = _gather(points, known, kind.h36m, 17)
    limb = _median_limb(joints, joints_known, h36m, h36m_known)
    if limb is not None and not _LIMB_M[0] <= limb <= _LIMB_M[1]:
        units = {'millimetres': 1e-3, 'centimetres': 1e-2}
        hint = next(
            (f': they look like {name}' for name, size in units.items() if 0.15 < limb * size < 0.7), ''
        )
        faults.add(
            'joints_3d.points_m', f'must be metres, but the median limb would be {limb:.3g} m long{hint}'
        )
        return None

    root = None
    if 'root' in part:
        root = faults.numbers('joints_3d.root', part['root'], (3,))
        if root is None:
            return None
    elif joints_known[0]:
        root = joints[0]
    elif h36m_known[0]:
        root = h36m[0]
    else:
        faults.add(
            'joints_3d.root',
            'is missing: this skeleton has no pelvis, so say where it is in the camera frame',
        )
        return None
    used = np.concatenate([joints[joints_known], h36m[h36m_known], root[None]])
    if (used[:, 2] <= 0).any():
        faults.add(
            'joints_3d.points_m',
            'points lie behind the camera: z must be forward, in the frame of the camera',
        )
        return None
    if len(used) < 2:
        faults.add('joints_3d', 'has no point that is a joint of ours')
        return None
    pixels = project(used[:-1], *camera)
    inside = _share_in_box(pixels, box)
    if inside < 0.2:  # much of a person may be outside of the photo
        faults.add(
            'joints_3d.points_m',
            f'only {100 * inside:.0f} % of them project into the box, the first to {_short(pixels[0])}: check camera, '
            "axes (x right, y down, z forward, in the camera's frame) and the size of the photo",
        )
        return None

    origin = joints[0] if joints_known[0] else root
    labels['joints_m'] = np.where(joints_known[:, None], joints - origin, 0).astype(np.float32)
    labels['joints_weight'] = joints_known.astype(np.float32)
    origin_h36m = h36m[0] if h36m_known[0] else root
    labels['h36m_joints_m'] = np.where(h36m_known[:, None], h36m - origin_h36m, 0).astype(np.float32)
    labels['h36m_weight'] = h36m_known.astype(np.float32)
    safe = np.where(joints_known[:, None], joints, [0, 0, 1])
    px = np.concatenate([project(safe, *camera), (safe - origin)[:, 2:]], 1)
    labels['joints_px'] = np.where(joints_known[:, None], px, 0).astype(np.float32)
    labels['joints_px_weight'] = np.repeat(joints_known[:, None], 3, 1).astype(np.float32)
    return root


def _set_smpl(entry, labels, camera, faults) -> np.ndarray | None:
    """Sets pose and shape; returns where joint 0 is, (3,) metres, where that is said."""
    part = faults.part(entry, 'smpl', {'pose', 'betas', 'root'}, {'pose', 'betas'})
    if part is None:
        return None
    pose, root = part['pose'], None
    if isinstance(pose, list) and len(pose) == 72 and not any(isinstance(x, list) for x in pose):
        pose = [pose[k : k + 3] for k in range(0, 72, 3)]
    pose = faults.numbers('smpl.pose', pose, (24, 3))
    betas = faults.numbers('smpl.betas', part['betas'], (10,))
    if pose is not None and np.abs(pose).max() > 4 * np.pi:
        faults.add(
            'smpl.pose', f'has angles of {np.abs(pose).max():.3g}: axis-angle vectors in radians, not degrees'
        )
    if betas is not None and np.abs(betas).max() > 20:
        faults.add('smpl.betas', f'{_short(betas)} is no shape of a person')
    if 'root' in part:
        root = faults.numbers('smpl.root', part['root'], (3,))
        if root is not None and root[2] <= 0:
            faults.add('smpl.root', f'{_short(root)} lies behind the camera')
        if camera is None and 'camera' not in entry:
            faults.add('camera', 'is missing: smpl.root needs the focal lengths and the centre of its camera')
    if pose is not None and betas is not None:
        labels |= {
            'pose': pose.astype(np.float32),
            'betas': betas.astype(np.float32),
            'smpl_weight': np.float32(1),
        }
    return root


def _set_keypoints(entry, labels, faults, skeletons, box) -> None:
    """Sets the labels that 2D keypoints give; joints that have 3D keep their projection."""
    part = faults.part(entry, 'keypoints_2d', {'skeleton', 'points'}, {'skeleton', 'points'})
    kind = None if part is None else _skeleton_of(part, 'keypoints_2d', faults, skeletons)
    points = None if kind is None else faults.numbers('keypoints_2d.points', part['points'], (kind.count, 3))
    if points is None or not _reaches(kind, points, 'keypoints_2d.points', faults):
        return
    v = points[:, 2]
    if not np.isin(v, (0, 1, 2)).all():
        odd = v[~np.isin(v, (0, 1, 2))][0]
        faults.add(
            'keypoints_2d.points',
            f'v is {odd:g}: 0 not labelled, 1 labelled but hidden, 2 visible (make these of confidences)',
        )
        return
    pixels, labelled = _gather(points[:, :2], v > 0, kind.joints, 29)
    if not labelled.any():
        if not {'joints_3d', 'smpl'} & entry.keys():
            faults.add('keypoints_2d.points', 'no point that is a joint of ours is labelled (v > 0)')
        return
    inside = _share_in_box(pixels[labelled], box)
    if inside < 0.5:
        small = np.abs(pixels[labelled]).max() <= 1
        hint = (
            'they look normalised, give pixels'
            if small
            else 'is the box x, y, w, h, in pixels of the same photo?'
        )
        faults.add('keypoints_2d.points', f'only {100 * inside:.0f} % of them lie in the box: {hint}')
        return
    both = labelled & (labels['joints_px_weight'][:, 0] > 0)
    if both.sum() >= 3:
        off = float(np.median(np.linalg.norm(labels['joints_px'][both, :2] - pixels[both], axis=1)))
        if off > 0.1 * box[2:].max():
            faults.add(
                'keypoints_2d.points',
                f'lie {off:.0f} px (median) from the projected 3D joints: check camera, axes and order of the joints',
            )
    new = (
        labelled & ~both
    )  # where both are, the projection stays: it is what the 3D joint has to be found from
    labels['joints_px'][new, :2] = pixels[new]
    labels['joints_px_weight'][new, :2] = 1
    visible, _ = _gather(v[:, None] == 2, v > 0, kind.joints, 29)
    labels['visible'] = (labelled & (visible[:, 0] > 0)).astype(np.float32)


def _skeleton_of(part: dict, field: str, faults: _Faults, skeletons: dict[str, Skeleton]) -> Skeleton | None:
    name = part['skeleton']
    if not isinstance(name, str) or name not in skeletons:
        faults.add(f'{field}.skeleton', f'{name!r} is not known; there are {", ".join(skeletons)}')
        return None
    return skeletons[name]


def _reaches(kind: Skeleton, points: np.ndarray, field: str, faults: _Faults) -> bool:
    last = max([*kind.joints.values(), *kind.h36m.values()], default=-1)
    if last >= len(points):
        faults.add(field, f'has {len(points)} points, its skeleton names point {last}')
    return last < len(points)


def _gather(points: np.ndarray, known: np.ndarray, joint_map: dict[int, int], count: int):
    """Returns our joints (count, c), zeros where not known, and which are, (count,), of a skeleton's points
    (n, c).
    """
    out, found = np.zeros((count, points.shape[1])), np.zeros(count, bool)
    for joint, index in joint_map.items():
        if known[index]:
            out[joint], found[joint] = points[index], True
    return out, found


def _median_limb(joints, joints_known, h36m, h36m_known) -> float | None:
    lengths = [
        np.linalg.norm(joints[a] - joints[b]) for a, b in sanity.LIMBS if joints_known[a] and joints_known[b]
    ]
    lengths += [
        np.linalg.norm(h36m[a] - h36m[b]) for a, b in sanity.LIMBS_H36M if h36m_known[a] and h36m_known[b]
    ]
    return float(np.median(lengths)) if lengths else None


def _share_in_box(pixels: np.ndarray, box: np.ndarray) -> float:
    """Returns which share of points (n, 2) lies in a box x y w h made `_NEAR_BOX` times larger on its longer
    side.
    """
    half = box[2:].max() / 2 * _NEAR_BOX
    return float((np.abs(pixels - (box[:2] + box[2:] / 2)) <= half).all(1).mean())


# ---- small things


def _size_of(photo: pathlib.Path, entry: dict, faults: _Faults) -> tuple[int, int] | None:
    """Returns width and height of the photo: photo_size, or what its file says; None where neither is to be
    had.
    """
    if 'photo_size' in entry:
        size = entry['photo_size']
        if isinstance(size, list) and len(size) == 2 and all(_is_index(n) and n > 0 for n in size):
            if faults.photos and not photo.is_file():
                faults.add('photo', f'there is no file {photo}')
            return tuple(size)
        faults.add('photo_size', f'is {size!r}, must be width and height, whole numbers of pixels')
        return None
    try:
        return photo_size(photo)
    except FileNotFoundError:
        message = f'there is no file {photo}'
    except (OSError, ValueError) as error:
        message = str(error)
    if faults.photos:
        faults.add('photo', message)
    return None


def photo_size(path: pathlib.Path) -> tuple[int, int]:
    """Returns width and height of an image file as it is stored (EXIF turns nothing).

    Raises FileNotFoundError; ValueError where it is no image.
    """
    with open(path, 'rb') as file:
        head = file.read(_HEAD_BYTES)
    for data in (head, None):
        try:
            data = path.read_bytes() if data is None else data
            if simplejpeg.is_jpeg(data):
                height, width = simplejpeg.decode_jpeg_header(data)[:2]
                return width, height
        except ValueError:
            continue
    if head[:8] == b'\x89PNG\r\n\x1a\n' and len(head) >= 24:
        return int.from_bytes(head[16:20], 'big'), int.from_bytes(head[20:24], 'big')
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(f'{path} is no image that can be read')
    return image.shape[1], image.shape[0]


def _default_split(path: pathlib.Path) -> str:
    return path.stem if path.stem in SPLITS else 'train'


def _split_of(entry: Any, path: pathlib.Path) -> str:
    default = _default_split(path)
    return _text(entry.get('split', default)) if isinstance(entry, dict) else default


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ''


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_number, values))


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _short(values: np.ndarray) -> str:
    return '[' + ', '.join(f'{x:.4g}' for x in values) + ']'


class _WithoutNan:
    """A file whose bare NaN and Infinity, which Python writes but JSON has not, read as null."""

    _token = re.compile(rb'(?:\A|(?<=[\[,:\s]))-?(?:NaN|Infinity)(?=[,\]}\s])')
    _delimiters = re.compile(rb'.*[\[\]{},:\s]', re.DOTALL)

    def __init__(self, file):
        self._file, self._rest = file, b''

    def read(self, size: int = -1) -> bytes:
        """Returns bytes up to a delimiter, not always `size` of them; nothing at the end."""
        while size:
            new = self._file.read(size)
            data = self._rest + new
            whole = self._delimiters.match(data) if new else None
            cut = whole.end() if whole else len(data) if not new or len(data) > size + 64 else 0
            ready, self._rest = data[:cut], data[cut:]
            if ready or not new:
                return self._token.sub(b'null', ready)
        return b''


@contextlib.contextmanager
def _open(path: pathlib.Path):
    """Context: the file for ijson; JSON that is broken raises AnnotationError."""
    with open(path, 'rb') as file:
        try:
            yield _WithoutNan(file)
        except ijson.JSONError as error:
            size = path.stat().st_size
            text = ' '.join(str(error).split())
            raise AnnotationError(
                f'{path}: no whole JSON file ({size} bytes; {text}): was it cut off?'
            ) from error
