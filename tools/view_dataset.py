"""Writes an HTML sheet of examples of a built dataset as the network sees them, beside what is annotated.

    python -m tools.view_dataset data/coco --split train -n 24 --out sheet.html
    python -m tools.view_dataset --annotations coco --root data/coco --split train --out sheet.html

The first form shows built records: the augmented crop with the joints that the losses see, the body that pose
and betas make where they belong to the body model that is loaded, and the stored region with box and joints.
The second form shows what a reader makes of annotation files, on the photos, without building anything. A
joint with a weight is a disc, one that has a place but no weight a ring. Wrong units, axes, sides and boxes
show at once.
"""

import argparse
import functools
import itertools
import pathlib
import runpy
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrik_jax import catalogue, datasets
from hybrik_jax.data import augment
from hybrik_jax.datasets import annotation, region
from hybrik_jax.files import open_plain
from hybrik_jax.view import render, sheet

if TYPE_CHECKING:
    from hybrik_jax.body import smpl

# Whose annotations can be shown: the names of the catalogue.
READERS = tuple(name for name, dataset in catalogue.DATASETS.items() if not dataset.drawn)
CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'hybrik_transformer.py'
AMONG = 2000


def main(arguments: list[str] | None = None) -> None:
    """Writes what the command line says; an error is one line and exit status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('dataset', nargs='?', help='folder of a built dataset')
    add('--annotations', choices=READERS, help='show annotations of this dataset instead')
    add('--root', help='with --annotations: the folder of that dataset; for custom the JSON file')
    add('--official', action='store_true', help='with --annotations pw3d: sequenceFiles/*.pkl')
    add('--allow-outside', action='store_true', help='with --annotations custom: as tools.build_dataset')
    add('--among', type=int, default=AMONG, help='with --annotations: draw from the first so many')
    add('--split', default='train')
    add('-n', type=int, default=24, help='examples')
    add('--out', default='sheet.html')
    add('--seed', type=int, default=0, help='of the choice and the augmentation')
    add('--no-augmentation', action='store_true', help='the crops of evaluation')
    add('--body', help='SMPL file; the embedded body if left out')
    add('--config', default=str(CONFIG), help='whose augmentation and image size are used')
    args = parser.parse_args(arguments)
    if (args.dataset is None) == (args.annotations is None) or (args.root is None) != (
        args.annotations is None
    ):
        parser.error('give the folder of a built dataset, or --annotations NAME --root DIR')
    if min(args.n, args.among) < 1 or args.seed < 0:
        parser.error(
            f'-n {args.n}, --among {args.among}, --seed {args.seed}: the first two at least 1, seed 0'
        )
    try:
        entries, facts = annotation_entries(args) if args.annotations else record_entries(args)
        title = f'{args.annotations or args.dataset}, {args.split}'
        path = sheet.write_sheet(args.out, title=title, entries=entries, facts=facts)
    except (OSError, ValueError) as error:
        sys.exit(f'{parser.prog}: {error}')
    print(f'{len(entries)} examples: {path}')


# ---- built records


def record_entries(args: argparse.Namespace) -> tuple[list[sheet.Entry], dict[str, str]]:
    """Returns the entries of n records of a built dataset, and what is said about all of them."""
    from hybrik_jax import setup
    from hybrik_jax.data import store

    source = store.open_split(args.dataset, args.split)
    open_plain(args.config, 'a configuration').close()
    config = runpy.run_path(args.config)['get_config']()
    settings = setup.augmentation_settings(config)
    chosen = np.random.default_rng(args.seed).choice(len(source), min(args.n, len(source)), replace=False)
    body = BodyPictures(args.body)
    entries = []
    for index in np.sort(chosen).tolist():
        record, drawn = source[index], augment.Augmentation()
        if not args.no_augmentation:
            drawn = augment.draw(np.random.default_rng([args.seed, index]), record, settings)
        entries.append(record_entry(record, drawn, crop_size=config.image_size, body=body))
    how = 'as in evaluation' if args.no_augmentation else 'augmented'
    return entries, {
        'records': f'{len(source)} in the split, {len(chosen)} shown, seed {args.seed}',
        'crop': f'{config.image_size} pixels, {how}',
    }


class BodyPictures:
    """Meshes of a body model, which is loaded when the first one is asked for."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path

    @functools.cached_property
    def body(self) -> 'smpl.SMPL':
        """Returns the body model."""
        from hybrik_jax.body import smpl_file

        return smpl_file.load_body(self._path)

    @functools.cached_property
    def _label_vertices(self) -> Callable:
        import jax

        from hybrik_jax import inference

        return jax.jit(inference.label_vertices)

    def vertices(self, quaternions: np.ndarray, betas: np.ndarray) -> np.ndarray:
        """Returns vertices (V, 3), metres, relative to joint 0, of rotations (24, 4) and betas (10,)."""
        return np.asarray(self._label_vertices(self.body, betas[None], quaternions[None])[0], np.float64)


def record_entry(
    record: dict[str, Any], drawn: augment.Augmentation, *, crop_size: int, body: BodyPictures
) -> sheet.Entry:
    """Returns the pictures and facts of one record under an augmentation."""
    example = augment.make_example(record, drawn, crop_size=crop_size)
    seen = augment.mirror_record(record, mirror_camera=drawn.mirror_camera) if drawn.mirror else record
    photo_to_crop = augment.invert_affine(example['crop_to_photo'].astype(np.float64))
    pixels = np.asarray(seen['joints_px'], np.float64)[:, :2] @ photo_to_crop[:, :2].T + photo_to_crop[:, 2]
    known = np.asarray(seen['joints_px']).any(1)
    crop = sheet.draw_crop(example['image'], example['uvd'], example['uvd_weight'], pixels, known)
    pictures = [('crop', crop)]
    keys = [key for key in ('dataset', 'body', 'sequence', 'action') if record[key]]
    facts, warnings = sheet.describe(record)
    facts = {key: augment.text(record[key]) for key in keys} | facts
    if record['smpl_weight'] > 0:
        name, loaded = augment.text(record['body']), str(body.body.name)
        if name == loaded:
            pictures.append(_mesh_picture(example, seen, photo_to_crop, body))
        else:
            facts['mesh'] = f'not drawn: pose and betas are of {name!r}, {loaded!r} is loaded (--body)'
    offset, scale = record['region_offset'], float(record['region_scale'])
    annotated = sheet.draw_annotation(augment.decode_jpeg(record), record, offset=offset, scale=scale)
    pictures.append(('stored region, box, joints', annotated))
    facts['drawn'] = (
        f'scale {drawn.scale:.2f}, rotation {drawn.rotation_degrees:.0f} degrees, '
        f'{"mirrored" if drawn.mirror else "not mirrored"}, '
        f'occlusion {"none" if drawn.occlusion is None else drawn.occlusion[:4]}'
    )
    lost = int(((record['joints_px_weight'][:, 0] > 0) & (example['uvd_weight'][:, 0] == 0)).sum())
    if lost:
        facts['drawn'] += f'; {lost} joints left the crop or its depth range'
    return sheet.Entry(augment.text(record['name']), pictures, facts, warnings)


def _mesh_picture(
    example: dict[str, Any], seen: dict[str, Any], photo_to_crop: np.ndarray, body: BodyPictures
) -> tuple[str, np.ndarray]:
    """Returns caption and picture of the body on the crop; without a camera, of the body alone."""
    vertices, faces = body.vertices(example['quaternions'], example['betas']), np.asarray(body.body.faces)
    if seen['camera_weight'] == 0:
        return 'body (no camera to place it)', render.side_view(vertices, faces, turn_degrees=0)
    focal, centre = np.asarray(seen['focal'], np.float64), np.asarray(seen['centre'], np.float64)
    root = np.asarray(seen['root_m'], np.float64)
    if seen['joints_px_weight'][0, 0] > 0:  # joint 0, at the root's depth: the root may be another point
        root = np.append((np.asarray(seen['joints_px'])[0, :2] - centre) / focal * root[2], root[2])
    picture = sheet.draw_mesh(
        example['image'], vertices + root, faces, focal=focal, centre=centre, photo_to_crop=photo_to_crop
    )
    return 'crop with the body of pose and betas', picture


# ---- annotations


def annotation_entries(args: argparse.Namespace) -> tuple[list[sheet.Entry], dict[str, str]]:
    """Returns the entries of n of the first `args.among` annotations of a reader, and what is said of all."""
    module = datasets.reader_of(args.annotations)
    read = module.read_official if args.official else module.read
    if args.annotations == 'custom' and args.allow_outside:
        read = functools.partial(read, allow_outside=True)
    people, skipped = [], Counter()
    for item in itertools.islice(read(pathlib.Path(args.root), args.split), max(args.among, args.n)):
        if isinstance(item, annotation.Skipped):
            skipped[item.reason] += 1
        else:
            people.append(item)
    chosen = np.random.default_rng(args.seed).choice(len(people), min(args.n, len(people)), replace=False)
    entries = [annotation_entry(people[index]) for index in np.sort(chosen).tolist()]
    said = f'{len(people)} people and {sum(skipped.values())} left out among the first {args.among}'
    left_out = {f'left out: {reason}': str(count) for reason, count in skipped.most_common()}
    return entries, {'annotations': said} | left_out


def annotation_entry(person: annotation.AnnotatedPerson) -> sheet.Entry:
    """Returns picture and facts of one annotated person; a photo that cannot be read is a warning."""
    facts, warnings = sheet.describe(person.labels)
    texts = {'photo file': str(person.photo), 'sequence': person.sequence, 'action': person.action}
    picture = None
    try:
        photo, _ = region.read_photo(person.photo)
    except (OSError, ValueError):
        warnings.insert(0, f'{person.photo} is missing or cannot be read')
    else:
        size, annotated = photo.shape[1::-1], (int(person.labels['width']), int(person.labels['height']))
        if size != annotated:
            said = f'the photo is {size[0]} x {size[1]}, annotated {annotated[0]} x {annotated[1]}'
            warnings.insert(0, said)
        picture = sheet.draw_annotation(photo, person.labels)
    facts = {name: text for name, text in texts.items() if text} | facts
    return sheet.Entry(person.name, [('photo, box, joints', picture)], facts, warnings)


if __name__ == '__main__':
    main()
