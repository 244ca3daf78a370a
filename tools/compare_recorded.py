"""Compares everything with recorded outputs of the released programs and prints a table.

usage: python -m tools.compare_recorded --golden DIR
DIR has the files of tests/golden (other seeds are fine). Exit status 1 where an error is over its tolerance.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable

from tools.recorded import body, model, rootnet, training

COMPARISONS: dict[str, Callable] = {
    'skinning': body.compare_skinning,
    'inverse kinematics': body.compare_ik,
    'networks': model.compare_models,
    'root network': rootnet.compare_rootnet,
    'losses': training.compare_losses,
    'schedule': training.compare_schedule,
    'metrics': training.compare_metrics,
    'crops and targets': training.compare_crops,
}


def compare_all(golden: pathlib.Path) -> list[tuple[str, str, float, float]]:
    """Returns (group, what, worst error, tolerance) of every comparison against the folder `golden`.

    Raises FileNotFoundError where a file of the folder is missing, ValueError where a group found nothing in
    it.
    """
    if not golden.is_dir():
        raise FileNotFoundError(f'--golden {golden} is no folder.')
    rows = []
    for group, compare in COMPARISONS.items():
        started = time.perf_counter()
        found = compare(golden)
        if not found:
            raise FileNotFoundError(f'{golden} has no recordings for {group}.')
        print(f'{group}: {len(found)} comparisons, {time.perf_counter() - started:.0f} s', file=sys.stderr)
        rows += [(group, *row) for row in found]
    return rows


def failed(rows: list[tuple[str, str, float, float]]) -> list[tuple[str, str, float, float]]:
    """Returns the rows whose error is over its tolerance; an error that is not a number is over."""
    return [row for row in rows if not row[2] <= row[3]]


def main() -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--golden', required=True, type=pathlib.Path)
    try:
        rows = compare_all(parser.parse_args().golden)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    width = max(len(row[1]) for row in rows)
    print(f'{"":<20}{"":<{width}}  worst error  tolerance')
    for row in rows:
        group, what, error, tolerance = row
        verdict = 'OVER' if failed([row]) else ''
        print(f'{group:<20}{what:<{width}}  {error:>11.2e}  {tolerance:>9.0e}  {verdict}')
    over = failed(rows)
    print(f'{len(rows)} comparisons, {len(over)} over their tolerance.')
    return 1 if over else 0


if __name__ == '__main__':
    sys.exit(main())
