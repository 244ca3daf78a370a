"""Builds a dataset from the annotation files as they are published; docs/datasets.md says where to get them.

usage: python -m tools.build_dataset NAME --data-root DIR [--out DIR] [--body SMPL.pkl --h36m-regressor
    FILE.npy]
NAME is human36m, mpi_inf_3dhp, pw3d, coco or custom; DIR holds the dataset's folder (h36m, 3dhp, pw3d, coco).
A build that was stopped goes on with the same command; nothing unfinished is ever taken for a dataset.
"""

import argparse
import functools
import os
import pathlib
import sys

from hybrik_jax.datasets.annotation import AnnotationError
from hybrik_jax.datasets.region import LARGEST_SIDE, QUALITY

NAMES = ('human36m', 'mpi_inf_3dhp', 'pw3d', 'coco', 'custom')


def main(arguments: list[str] | None = None) -> None:
    """Builds what the command line says, prints the summary; exit status 1 with a message where it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', choices=NAMES)
    parser.add_argument(
        '--data-root', required=True, help="holds the dataset's own folder; for custom: the JSON file"
    )
    parser.add_argument('--out', help='folder of the built dataset; default data/NAME')
    parser.add_argument(
        '--split', action='append', help='only this split (may be repeated); default: all there are'
    )
    parser.add_argument(
        '--official', action='store_true', help='3DPW: read sequenceFiles/*.pkl, not the parsed JSON'
    )
    parser.add_argument('--body', help='SMPL file, to make labels that the annotations lack')
    parser.add_argument('--h36m-regressor', help='.npy (17, V), with --body')
    parser.add_argument('--male', help='SMPL file, for the men of --official (their shapes belong to it)')
    parser.add_argument('--female', help='SMPL file, for the women of --official')
    parser.add_argument(
        '--open-body', action='store_true', help='pose and betas are of the embedded body, not of SMPL'
    )
    parser.add_argument(
        '--skip-unreadable', action='store_true', help='leave out people whose photo cannot be read'
    )
    parser.add_argument(
        '--largest-side', type=int, default=LARGEST_SIDE, help='pixels of the stored crop square'
    )
    parser.add_argument('--quality', type=int, default=QUALITY, help='of the stored JPEGs')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes; the result is the same'
    )
    args = parser.parse_args(arguments)
    try:
        build(args)
    except (AnnotationError, OSError, ValueError) as error:
        sys.exit(f'{parser.prog}: {error}')


def build(args: argparse.Namespace) -> pathlib.Path:
    """Returns the folder of the dataset that the parsed command line asks for."""
    from hybrik_jax.body import smpl, smpl_file
    from hybrik_jax.datasets import build as builder
    from hybrik_jax.datasets import labels  # here: worker processes import this file and need no JAX
    from hybrik_jax.datasets.readers import coco, custom, human36m, mpi_inf_3dhp, pw3d

    if args.open_body and args.body:
        raise ValueError('Give --body or --open-body, not both.')
    module = {m.NAME: m for m in (coco, custom, human36m, mpi_inf_3dhp, pw3d)}[args.name]
    root = pathlib.Path(args.data_root)
    if args.name != 'custom':
        root = root / module.FOLDER if (root / module.FOLDER).is_dir() else root
    read, names = module.read, module.SPLITS
    if args.official:
        if args.name != 'pw3d':
            raise ValueError(f'--official is for pw3d, not for {args.name}.')
        if not args.body and not args.open_body:
            raise ValueError(
                '--official needs --body SMPL_NEUTRAL.pkl: those files have no joints, only poses.'
            )
        read, names = pw3d.read_official, pw3d.OFFICIAL_SPLITS
    if args.name == 'coco' and not args.split:  # most people have the training photos only
        names = [split for split in names if (root / module.FILES[split]).exists()] or names
    body = smpl_file.load_body(args.body, args.h36m_regressor) if args.body or args.open_body else None
    genders = {'male': args.male, 'female': args.female}
    of_gender = {g: smpl_file.load_body(path, args.h36m_regressor) for g, path in genders.items() if path}
    splits = {split: functools.partial(read, root, split) for split in args.split or names}
    settings = builder.Settings(
        dataset=args.name,
        body=body.name if body is not None else smpl.SMPL_NAME,
        largest_side=args.largest_side,
        quality=args.quality,
        skip_unreadable=args.skip_unreadable,
        labels=labels.DESCRIPTION if body is not None else '',
    )
    return builder.build(
        splits,
        args.out or pathlib.Path('data') / args.name,
        settings,
        make_labels=labels.maker(body, of_gender=of_gender) if body is not None else None,
        workers=args.workers,
    )


if __name__ == '__main__':
    main()
