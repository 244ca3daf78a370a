"""The figures of an evaluation as files: JSON, CSV and a Markdown table whose rows say their protocol.

An evaluation is the object in `evaluation.json`: step, tail_updates; rows, each with the keys of `PROTOCOL`,
group and measures; constant_prediction: dataset -> measures; guesses, of roots: dataset -> title -> measures;
protocol: what the measures mean.
"""

import csv
import io
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from hybrik_jax.ending import write_whole
from hybrik_jax.scoring.protocols import MEASURES

# What every row of a table says of itself -> heading.
PROTOCOL = {
    'dataset': 'dataset',
    'protocol': 'protocol',
    'over': 'over',
    'joints': 'joints',
    'root': 'root',
    'box': 'box',
    'flip_test': 'flip test',
    'parameters': 'parameters',
    'body_model': 'body model',
    'gender': 'gender',
    'frames': 'frames',
    'checkpoint': 'checkpoint',
    'config': 'config',
}


def markdown(evaluation: dict[str, Any], *, details: bool = True) -> str:
    """Returns the evaluation in Markdown: a table over all frames, then, with `details`, one by group.

    Every row carries its protocol; cells of figures hold numbers only.
    """
    rows = [*evaluation['rows'], *_constant_rows(evaluation)]
    main = [row for row in rows if row['group'] in ('all', 'mean')]
    parts = [_table(main)]
    for dataset in dict.fromkeys(row['dataset'] for row in rows) if details else ():
        for group in ('sequence', 'action', 'keypoint'):
            chosen = [row for row in rows if (row['dataset'], row['group']) == (dataset, group)]
            if chosen:
                parts += [f'{dataset}, by {group}:\n', _table(chosen)]
    fewer = {
        f'{row["dataset"]}, {MEASURES[m]}: {n} of {row["frames"]} frames have the label'
        for row in main
        for m, n in row.get('frames_of', {}).items()
    }
    parts += [f'{text}.\n' for text in sorted(fewer)]
    explained = '; '.join(f'{name}: {text}' for name, text in evaluation['protocol'].items())
    return '\n'.join([*parts, f'Protocol. {explained}.\n'])


def _table(rows: Sequence[dict[str, Any]]) -> str:
    measures = [m for m in MEASURES if any(m in row for row in rows)]
    cells = []
    for row in rows:
        said = [_word(row.get(key, '')).replace('|', '/') for key in PROTOCOL]
        cells.append(said + [f'{row[m]:.1f}' if m in row else '' for m in measures])
    headings = [*PROTOCOL.values(), *(MEASURES[m] for m in measures)]
    sides = ['left'] * len(PROTOCOL) + ['right'] * len(measures)
    return tabulate(cells, headings, 'pipe', disable_numparse=True, colalign=sides) + '\n'


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return str(value)


def _constant_rows(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the constant predictions and other guesses as rows like the others."""
    rows = []
    guesses = {
        name: {'constant prediction': f} for name, f in evaluation.get('constant_prediction', {}).items()
    }
    guesses |= evaluation.get('guesses', {})
    for dataset, title, figures in ((d, t, f) for d, titled in guesses.items() for t, f in titled.items()):
        like = next(row for row in evaluation['rows'] if row['dataset'] == dataset and row['group'] == 'all')
        said = {key: like[key] for key in ('dataset', 'protocol', 'group', 'over', 'joints', 'frames')}
        rows.append(said | {'parameters': title} | figures)
    return rows


def comma_separated(evaluation: dict[str, Any]) -> str:
    """Returns all rows as CSV, with a heading; a figure that a row does not have is empty."""
    rows = [*evaluation['rows'], *_constant_rows(evaluation)]
    keys = [*PROTOCOL, 'group', *(m for m in MEASURES if any(m in row for row in rows))]
    out = io.StringIO()
    writer = csv.DictWriter(out, keys, extrasaction='ignore', restval='', lineterminator='\n')
    writer.writeheader()
    for row in rows:
        writer.writerow({k: round(v, 4) if isinstance(v, float) else _word(v) for k, v in row.items()})
    return out.getvalue()


def write(evaluation: dict[str, Any], folder: str | pathlib.Path) -> None:
    """Writes `evaluation.json`, `evaluation.csv` and `evaluation.md` into `folder`.

    Raises:
        ValueError: a figure is not finite.
    """
    for row in evaluation['rows']:
        if bad := [m for m in MEASURES if m in row and not math.isfinite(row[m])]:
            raise ValueError(f'{row["dataset"]}, {row["over"]}: {", ".join(bad)} is not finite.')
    folder = pathlib.Path(folder)
    write_whole(folder / 'evaluation.json', json.dumps(evaluation, indent=1, allow_nan=False) + '\n')
    write_whole(folder / 'evaluation.csv', comma_separated(evaluation))
    write_whole(folder / 'evaluation.md', markdown(evaluation))
