"""Scores a network on real photos whose 2D keypoints are labelled, in a file of COCO's form.

    python -m tools.score_keypoints --annotations person_keypoints_val2017.json --photos val2017 \\
        --checkpoint runs/synthetic --out runs/synthetic/keypoints

Anybody can measure this on pictures of their own (docs/datasets.md): the figures are those of the dataset
'coco' in an evaluation (hybrik_jax/evaluate_2d.py says what is done), by keypoint, for any run without its
configuration. Written: keypoints.json, and keypoints.md, which is printed, too. PCK: percent of the keypoints
closer than 0.2 of the torso (hybrik_jax/scoring/keypoints.py).
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from hybrik_jax import compiler, evaluate_2d
from hybrik_jax.ending import write_whole
from hybrik_jax.scoring import keypoints
from tools import in_one_line
from tools.predict import add_network_options, load_predictor

_HEADINGS = {
    'pck': 'PCK at 0.2 torso (percent)',
    'error': 'mean error (percent of the torso)',
    'error_px': 'mean error (px)',
}


def table(rows: dict[str, dict[str, float]], said: str) -> str:
    """Returns the figures in Markdown, under a line that says whose they are."""
    cells = [
        [name, row['keypoints'], *(f'{row[m]:.1f}' if m in row else '' for m in _HEADINGS)]
        for name, row in rows.items()
    ]
    headings, sides = ['keypoint', 'labels', *_HEADINGS.values()], ('left', *['right'] * 4)
    return f'{said}\n\n{tabulate(cells, headings, "pipe", disable_numparse=True, colalign=sides)}\n'


def run(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns what is written for the command line `argv`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--annotations', required=True, metavar='FILE', help="JSON of COCO's person keypoints"
    )
    parser.add_argument('--photos', required=True, metavar='DIR', help='where the file_name of images begins')
    parser.add_argument('--out', metavar='DIR', help='default: keypoints in the workdir, or in runs')
    add_network_options(parser)
    args = parser.parse_args(argv)
    labelled = evaluate_2d.LabelledPeople.read(args.annotations, args.photos)
    predictor = load_predictor(args)
    points = evaluate_2d.predict_all({'': predictor}, labelled)['']
    rows = keypoints.by_part(labelled.errors(points), labelled.torsos_px(), evaluate_2d.NAMES)
    run, flip = predictor.run, 'on' if predictor.flip else 'off'
    network = f'{run.folder.name} step {run.step}, {predictor.parameters} parameters, flip test {flip}'
    said = f'{labelled.protocol}, root {evaluate_2d.root_of(predictor)}, {network}'
    text, out = (
        table(rows, said),
        pathlib.Path(args.out or pathlib.Path(args.checkpoint or 'runs') / 'keypoints'),
    )
    counts = {'people': len(labelled.people), 'without_torso': labelled.without_torso}
    result = {'protocol': said, **counts, 'figures': rows}
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / 'keypoints.json', json.dumps(result, indent=1, allow_nan=False) + '\n')
    write_whole(out / 'keypoints.md', text)
    print(text)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Scores what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
