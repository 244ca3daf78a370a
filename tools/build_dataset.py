"""Builds a dataset from its annotation files as they are published, or draws synthetic people.

usage: python -m tools.build_dataset NAME --data-root DIR [--out DIR] [--body SMPL.pkl --h36m-regressor FILE]
       python -m tools.build_dataset synthetic --train 20000 --validation 500 --test 1000 [--out DIR]
       python -m tools.build_dataset verify data/coco data/synthetic
DIR holds the dataset's folder; docs/datasets.md says where to get what. NAME --help shows the options of a
dataset. A build that was stopped goes on with the same command; nothing unfinished is taken for a dataset.
The last form compares every file of built datasets with its checksum.
"""

import argparse
import functools
import os
import pathlib
import sys
from collections.abc import Callable

from hybrik_jax import catalogue, datasets
from hybrik_jax.data import store
from hybrik_jax.datasets.annotation import AnnotationError
from hybrik_jax.datasets.region import LARGEST_SIDE, QUALITY, SMALLEST_SIDE


def main(arguments: list[str] | None = None) -> None:
    """Builds what the command line says, prints the summary; exit status 1 with a message where it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = parser.add_subparsers(dest='name', required=True, metavar='NAME')
    for name, dataset in catalogue.DATASETS.items():
        one = names.add_parser(name, help=dataset.title)
        one.add_argument('--out', default=f'data/{name}', help='folder of the result; default %(default)s')
        workers = 'processes, 0: none besides this one; the result is the same'
        one.add_argument('--workers', type=_number(0), default=os.cpu_count(), help=workers)
        _add_drawing(one) if dataset.drawn else _add_reading(one, dataset)
    checking = names.add_parser('verify', help='compare the files of built datasets with their checksums')
    checking.add_argument('folder', nargs='+')
    args = parser.parse_args(arguments)
    try:
        if args.name == 'verify':
            for folder in args.folder:
                print(store.verify(folder))
            return
        draw(args) if catalogue.DATASETS[args.name].drawn else build(args)
    except (AnnotationError, OSError, ValueError) as error:
        sys.exit(f'{parser.prog}: {error}')


def _number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Returns what makes a whole number of at least `least` (and at most `most`) of an argument's text."""

    def number(text: str) -> int:
        value = int(text)
        if value < least or most is not None and value > most:
            limits = f'at least {least}' if most is None else f'{least} to {most}'
            raise argparse.ArgumentTypeError(f'{value} is not possible: give {limits}')
        return value

    return number


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    """Adds the options of people who are drawn. About 40 ms of one core and 10 kB per image."""
    add = parser.add_argument
    for split in ('train', 'validation', 'test'):
        add(f'--{split}', type=_number(0), required=True, metavar='N', help='people; 0: no such split')
    add('--seed', type=_number(0), default=0)
    add('--size', type=_number(32), default=256, help='side of the photos, pixels')
    add('--train-size', type=_number(0), default=0, help='of the training photos; 0: the same')


def _add_reading(parser: argparse.ArgumentParser, dataset: catalogue.Dataset) -> None:
    """Adds the options of a dataset that is read."""
    add = parser.add_argument
    where = f'holds {dataset.folder}/' if dataset.folder else 'the JSON file, or its folder'
    add('--data-root', required=True, help=where)
    add('--split', action='append', help='only this split (may be repeated); default: all there are')
    add('--body', help='SMPL file, to make labels that the annotations lack')
    add('--h36m-regressor', help='.npy (17, V), with --body')
    add('--open-body', action='store_true', help='pose and betas are of the embedded body, not of SMPL')
    add('--skip-unreadable', action='store_true', help='leave out people whose photo cannot be read')
    side = 'pixels of the stored crop square'
    add('--largest-side', type=_number(SMALLEST_SIDE), default=LARGEST_SIDE, help=side)
    add('--quality', type=_number(1, 100), default=QUALITY, help='of the stored JPEGs')
    if dataset.name == 'pw3d':
        add('--official', action='store_true', help='read sequenceFiles/*.pkl, not the parsed JSON')
        add('--male', help='SMPL file, for the men of --official (their shapes belong to it)')
        add('--female', help='SMPL file, for the women of --official')
    if dataset.name == 'custom':
        outside = "photos_root and coco.file may lie outside of the file's folder, photos outside of that"
        add('--allow-outside', action='store_true', help=outside)


def draw(args: argparse.Namespace) -> pathlib.Path:
    """Returns the folder of the people that the parsed command line asks for."""
    keys = ('train', 'validation', 'test', 'seed', 'size', 'train_size', 'workers')
    numbers = {key: getattr(args, key) for key in keys}
    return datasets.reader_of(args.name).build(args.out, **numbers)


def build(args: argparse.Namespace) -> pathlib.Path:
    """Returns the folder of the dataset that the parsed command line asks for."""
    # Here: worker processes import this file and need no JAX.
    from hybrik_jax.body import smpl, smpl_file
    from hybrik_jax.datasets import build as building
    from hybrik_jax.datasets import labels

    if args.open_body and args.body:
        raise ValueError('Give --body or --open-body, not both.')
    reader, root = datasets.reader_of(args.name), datasets.folder_of(args.name, args.data_root)
    read, splits, genders = reader.read, args.split or datasets.splits_of(args.name, root), {}
    if args.name == 'custom' and args.allow_outside:
        read = functools.partial(read, allow_outside=True)
    if args.name == 'pw3d' and args.official:
        if not args.body and not args.open_body:
            raise ValueError('--official needs --body SMPL_NEUTRAL.pkl: those files have only poses.')
        read, splits = reader.read_official, args.split or reader.OFFICIAL_FOLDERS
        genders = {'male': args.male, 'female': args.female}
    making = building.FROM_PHOTOS
    body_name, recipe = smpl.SMPL_NAME, ''
    if args.body or args.open_body:
        body = smpl_file.load_body(args.body, args.h36m_regressor)
        of_gender = {g: smpl_file.load_body(path, args.h36m_regressor) for g, path in genders.items() if path}
        making = building.Making(labels=labels.maker(body, of_gender=of_gender))
        body_name, recipe = body.name, labels.DESCRIPTION
    settings = building.Settings(
        dataset=args.name,
        body=body_name,
        largest_side=args.largest_side,
        quality=args.quality,
        skip_unreadable=args.skip_unreadable,
        recipe=recipe,
    )
    people = {split: functools.partial(read, root, split) for split in splits}
    return building.build(people, args.out, settings, making=making, workers=args.workers)


if __name__ == '__main__':
    main()
