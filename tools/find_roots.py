"""Writes where a RootNet sees the root joints of a dataset's people: what config.evaluation.root_file reads.

usage: python -m tools.find_roots data/pw3d --rootnet runs/rootnet --out roots.json [--split test]
       python -m hybrik_jax.main --config ... --mode evaluate --config.evaluation.root=predicted \\
           --config.evaluation.root_file=roots.json

OUT is {record name: [x, y, z] in millimetres}, camera frame. The error against the annotated roots is printed
beside that of a square of 2 m around each person. Boxes are the dataset's, cameras too; a record without a
camera is an error.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from hybrik_jax import compiler, ending
from hybrik_jax.data import store
from hybrik_jax.roots import RootFinder
from hybrik_jax.step import PARAMETERS
from hybrik_jax.units import MM_PER_M


def find_roots(
    dataset: str,
    rootnet: str,
    out: str,
    *,
    split: str = 'test',
    parameters: str | None = None,
    best: bool = False,
) -> list[str]:
    """Writes the root file `out`; returns what to tell, a line each.

    Args:
        dataset: the folder of a built dataset.
        rootnet: the workdir of a RootNet's run; parameters, best: as in `RootFinder.load`.
    Raises:
        FileNotFoundError: there is no such dataset or run.
        ValueError: the run is not a RootNet's; a record without camera; a root that lies behind the camera.
    """
    source = store.open_split(pathlib.Path(dataset), split)
    finder = RootFinder.load(rootnet, parameters=parameters, best=best)
    if not len(source):
        raise ValueError(f'{dataset} has no people in its split {split!r}: give another --split.')
    found = finder.of_records(source)
    rounded = {
        name: np.round(MM_PER_M * root.root_m.astype(float), 3).tolist() for name, root in found.items()
    }
    ending.write_whole(pathlib.Path(out), json.dumps(rounded, indent=0) + '\n')
    lines = [f'{out}: {len(rounded)} roots of {dataset}, {split}, by {finder.label}']
    own, true, square = (MM_PER_M * np.array(roots) for roots in zip(*found.values(), strict=True))
    for title, guess in (('RootNet', own), ('a square of 2 m', square)):
        errors = np.abs(guess - true)
        per_axis = ', '.join(f'{axis} {error:.1f}' for axis, error in zip('xyz', errors.mean(0), strict=True))
        lines.append(f'{title}: MRPE {np.linalg.norm(errors, axis=1).mean():.1f} mm ({per_axis})')
    return lines


def main() -> int:
    """Writes the root file that the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dataset', help='folder of a built dataset')
    parser.add_argument('--rootnet', required=True, metavar='DIR', help="workdir of a RootNet's run")
    parser.add_argument('--out', required=True, metavar='FILE', help='JSON file to write')
    parser.add_argument('--split', default='test', help='default: test')
    parser.add_argument('--parameters', choices=PARAMETERS, help='default: tail, before it has begun ema')
    parser.add_argument('--best', action='store_true', help='the best checkpoint instead of the last')
    args = parser.parse_args()
    try:
        options = {'split': args.split, 'parameters': args.parameters, 'best': args.best}
        print('\n'.join(find_roots(args.dataset, args.rootnet, args.out, **options)))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    compiler.set_up()
    sys.exit(main())
