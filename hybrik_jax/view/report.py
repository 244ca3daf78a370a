"""The report of a run on one page: figures, pictures of test images, curves, what was run."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hybrik_jax.view import page
from hybrik_jax.view.curves import Series, line_chart
from hybrik_jax.view.render import PREDICTION_COLOUR, TRUTH_COLOUR, overlay, side_view

SYNTHETIC_BANNER = (
    'Synthetic people, free CC0 body: these numbers are not comparable with published SMPL benchmarks.'
)
PICTURE_PIXELS = 256  # smaller crops are enlarged to this before a mesh is drawn on them

# Names of figures, in the order of their columns; another one is called by its key.
NAMES = {
    'parameters': 'parameters',
    'flip_test': 'flip test',
    'mpjpe_mm': 'MPJPE',
    'of_constant': 'of constant',
    'pa_mpjpe_mm': 'PA-MPJPE',
    'pve_mm': 'PVE',
    'mpjpe_24_mm': 'MPJPE, 24 joints',
    'pck_3dhp': 'PCK at 150 mm, %',
    'auc_3dhp': 'AUC, %',
    'pck_released': 'PCK as released, %',
    'auc_released': 'AUC as released, %',
    'mrpe_mm': 'MRPE',
    'mrpe_x_mm': 'MRPE, x',
    'mrpe_y_mm': 'MRPE, y',
    'mrpe_z_mm': 'MRPE, z',
    'protocol': 'scored as',
    'config': 'configuration',
    'loss': 'total',
    'loss_uvd': 'joint positions',
    'loss_betas': 'shape',
    'loss_root_uv': 'place of the root',
    'loss_root_depth': 'depth of the root',
}
# What a row says of its protocol: said once below the table where all rows agree, else a column.
PROTOCOL = (
    'protocol', 'joints', 'root', 'box', 'body_model', 'gender', 'frames', 'config', 'over', 'checkpoint',
)  # fmt: skip
NO_COLUMNS = {'name', 'dataset', 'group', 'frames_of'}
MEDIANS = ('images_per_second', 'step_seconds', 'data_wait_share')  # over the log, that are said


@dataclass(frozen=True)
class Example:
    """One test image with its true and its predicted mesh.

    image: (H, W, 3) uint8 RGB.
    true_vertices_m, predicted_vertices_m: (V, 3) metres, absolute, in the frame of the camera that `focal`
        and `centre` describe; not drawn where not finite.
    faces: (F, 3) vertex numbers.
    focal, centre: one number or (fx, fy), and (2,), in pixels of `image`.
    error_mm: written beside it; NaN where not known.
    """

    image: np.ndarray
    true_vertices_m: np.ndarray
    predicted_vertices_m: np.ndarray
    faces: np.ndarray
    focal: float | Sequence[float]
    centre: Sequence[float]
    error_mm: float
    name: str = ''


@dataclass(frozen=True)
class Change:
    """What the network says that a run began with, before, and what the run's own says, after.

    said: what changed, in words.
    rows: figures of both, as of `write_report`; none where there are none of the same images.
    constant: figures of the constant prediction on them.
    examples: pairs of the same test image.
    pictures: captions and pictures (H, W, 3) uint8 RGB, both of one photo one after the other.
    """

    said: str
    rows: Sequence[Mapping[str, Any]] = ()
    constant: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[tuple[Example, Example]] = ()
    pictures: Sequence[tuple[str, np.ndarray]] = ()

    @property
    def drawn(self) -> list[tuple[Example, Example, dict[str, np.ndarray | None]]]:
        """Returns each pair with its pictures by their captions."""
        rows = []
        for before, after in self.examples:
            one, other = _example_pictures(before), _example_pictures(after)
            shown = {'image': other['image'], 'truth': other['truth']}
            rows.append((before, after, shown | {'before': one['prediction'], 'after': other['prediction']}))
        return rows


@dataclass(frozen=True)
class _Table:
    """The figures on one dataset.

    columns: keys of the rows and of the constant prediction; both may lack some.
    lowest: of the columns where that is the best.
    said: what all rows share, by name.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    constant: Mapping[str, Any]
    lowest: Mapping[str, float]
    said: Mapping[str, Any]


@dataclass(frozen=True)
class _Chart:
    """Curves of one kind, `references` as in `line_chart`; two_scales: logarithmic as well as linear."""

    title: str
    series: Sequence[Series]
    references: Sequence[tuple[str, float]] = ()
    two_scales: bool = False

    @property
    def broken(self) -> int:
        """The number of values that are not finite."""
        return sum(int((~np.isfinite(one.y)).sum()) for one in self.series)


def write_report(
    out_path: str | os.PathLike,
    *,
    title: str,
    facts: Mapping[str, Any] | None = None,
    train_log: Sequence[Mapping[str, Any]] = (),
    evaluation: Mapping[str, Any] | None = None,
    examples: Sequence[Example] = (),
    pictures: Sequence[tuple[str, np.ndarray]] = (),
    change: Change | None = None,
    notes: str | Sequence[str] = (),
    banner: str | None = SYNTHETIC_BANNER,
) -> Path:
    """Writes one HTML file that needs no other file, no network and no script, and returns its path.

    Anything may be missing or not finite; the page then says so.

    Args:
        facts: what was run: name -> text, number, list or mapping (shown as a table of its own). Text under
            'command', and text of several lines, is shown as it is.
        train_log: lines of metrics.jsonl. {'kind': 'train', 'step', 'loss', 'loss_*', 'learning_rate',
            'images_per_second', 'step_seconds', 'data_wait_share', ...} and {'kind': 'validation', 'step',
            'mpjpe_*_mm', ...}. Where a step occurs twice (a resumed run) the later line counts.
        evaluation: {'protocol': {name: text}, 'rows': [{'parameters', 'flip_test', 'mpjpe_mm', ...}],
            'constant_prediction': {dataset: {'mpjpe_mm', 'mpjpe_24_mm'}}, 'guesses': {dataset: {title:
            {'mrpe_mm', ...}}}}. Rows have 'dataset' and what else
            `PROTOCOL` lists; those whose 'group' is neither 'all' nor 'mean' are left out. With one dataset,
            the constant prediction may stand without its name, and 'frames' and 'dataset' beside it.
        examples: test images, shown in the order given.
        pictures: (caption, (H, W, 3) uint8 RGB) pairs.
        change: of a run that began with a trained network.
        notes: one paragraph or several.
        banner: shown on top; None for none.

    Raises:
        OSError: the file cannot be written; an older file of this name is then left as it was.
    """
    evaluation = evaluation or {}
    rows = [row for row in evaluation.get('rows') or [] if row and row.get('group', 'all') in ('all', 'mean')]
    constants = evaluation.get('constant_prediction') or {}
    if not any(isinstance(value, Mapping) for value in constants.values()):  # a single dataset's
        constants = {rows[0].get('dataset', '') if rows else '': constants}
    of_dataset = {row.get('dataset', ''): [] for row in rows} | {name: [] for name in constants}
    for row in rows:
        of_dataset[row.get('dataset', '')].append(row)
    for name, guesses in (evaluation.get('guesses') or {}).items():
        of_dataset.setdefault(name, []).extend({'parameters': t, **figures} for t, figures in guesses.items())
    first = next(iter(of_dataset), '')
    tables = [
        _table(name, own, constants.get(name) or {})
        for name, own in of_dataset.items()
        if own or constants.get(name)
    ]
    constant_mm = _number((constants.get(first) or {}).get('mpjpe_mm'))
    scored = [row for row in of_dataset.get(first, ()) if row.get('group') != 'mean']
    scored = [row for row in scored if math.isfinite(_number(row.get('mpjpe_mm')))]
    best = min(scored, key=lambda row: _number(row['mpjpe_mm']), default={})
    protocol = {key: evaluation[key] for key in ('dataset', 'frames') if evaluation.get(key) is not None}
    train, validation = _by_step(train_log, 'train'), _by_step(train_log, 'validation')
    return page.write(
        out_path,
        'report',
        title=title,
        banner=banner,
        best=best,
        several=len(tables) > 1,
        constant_mm=constant_mm,
        frames=_number(evaluation.get('frames', best.get('frames'))),
        train=train,
        medians={key: _median(line.get(key) for line in train) for key in MEDIANS},
        last_epoch=_number(train[-1].get('epoch')) if train else math.nan,
        tables=tables,
        protocol=protocol | (evaluation.get('protocol') or {}),
        in_mm=any(key.endswith('_mm') for table in tables for key in table.columns),
        examples=[(one, _example_pictures(one)) for one in examples],
        errors_mm=[float(one.error_mm) for one in examples if math.isfinite(one.error_mm)],
        pictures=pictures,
        change=change,
        change_table=_table('', change.rows, change.constant) if change and change.rows else None,
        charts=_charts(train, validation, constant_mm) if train or validation else [],
        facts=facts or {},
        notes=[notes] if isinstance(notes, str) else notes,
        name_of=_name,
        cell=_cell,
        line_chart=line_chart,
    )


# ---- figures


def _table(heading: str, rows: Sequence[Mapping], constant: Mapping) -> _Table:
    """Returns the table of a dataset, with MPJPE also in percent of the constant prediction's."""
    first = rows[0] if rows else {}
    shared = [
        key
        for key in PROTOCOL
        if key in first and all(row.get(key, first[key]) == first[key] for row in rows)
    ]
    whole = _number(constant.get('mpjpe_mm'))
    if rows and whole > 0:
        shares = [100 * _number(row.get('mpjpe_mm')) / whole for row in [*rows, constant]]
        shares = [f'{share:.1f}%' if math.isfinite(share) else None for share in shares]
        *rows, constant = [
            {**row, 'of_constant': share} for row, share in zip([*rows, constant], shares, strict=True)
        ]
    found = dict.fromkeys(['parameters', *_keys([*rows, constant])])
    hidden = NO_COLUMNS.union(shared)
    columns = [key for key in dict.fromkeys([*NAMES, *found]) if key in found and key not in hidden]
    lowest = {}
    for key in columns:
        values = [value for value in (_number(row.get(key)) for row in rows) if math.isfinite(value)]
        if key.endswith('_mm') and len(values) > 1:
            lowest[key] = min(values)
    return _Table(heading, columns, rows, constant, lowest, {_name(key): first[key] for key in shared})


def _cell(key: str, value: Any) -> str:
    """Returns a value of a table of figures as text."""
    if isinstance(value, str | bool | np.bool_) and value != '':
        return page.value_text(value)
    if not math.isfinite(_number(value)):
        return '–'
    return f'{_number(value):.1f}' if key.endswith('_mm') else f'{_number(value):g}'


def _name(key: str) -> str:
    return NAMES.get(key) or key.removeprefix('loss_').removesuffix('_mm').replace('_', ' ')


def _example_pictures(example: Example) -> dict[str, np.ndarray | None]:
    """Returns the pictures of an example by their captions; None where a mesh is not finite."""
    image = np.asarray(example.image)
    enlarge = max(1, math.ceil(PICTURE_PIXELS / max(image.shape[:2])))
    image = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    camera = {
        'focal': np.asarray(example.focal, np.float64) * enlarge,
        'centre': (np.asarray(example.centre, np.float64) + 0.5) * enlarge - 0.5,
    }
    faces, truth, prediction = example.faces, example.true_vertices_m, example.predicted_vertices_m
    pictures = {'image': image} | dict.fromkeys(('truth', 'prediction', 'from the side'))
    known = bool(np.isfinite(truth).all())
    if known:
        pictures['truth'] = overlay(image, truth, faces, colour=TRUTH_COLOUR, **camera)
    if np.isfinite(prediction).all():
        pictures['prediction'] = overlay(image, prediction, faces, colour=PREDICTION_COLOUR, **camera)
        ghost, size = truth if known else None, max(image.shape[:2])
        pictures['from the side'] = side_view(prediction, faces, size=size, ghost_vertices_m=ghost)
    return pictures


# ---- curves


def _charts(
    train: Sequence[Mapping], validation: Sequence[Mapping], constant_mm: float
) -> list[_Chart | str]:
    """Returns the charts of a run; a sentence stands for one that cannot be."""
    losses = _series(train, 'loss', noisy=True)
    losses = [series for series in losses if any(math.isfinite(y) and y != 0 for y in series.y)]
    total = [series for series in losses if series.name == NAMES['loss']]
    terms = [series for series in losses if series.name != NAMES['loss']]
    measure = next((m for m in ('mpjpe', 'mrpe') if _series(validation, m)), 'mpjpe')
    errors = _series(validation, measure)
    references = [(f'constant prediction, {constant_mm:.0f} mm', constant_mm)]
    charts = [
        _Chart('Training loss, total', total, two_scales=True),
        _Chart('Training loss, by term', terms, two_scales=True),
        '' if losses else 'No training loss was logged.',
        _Chart(f'Validation {measure.upper()} (mm)', errors, references),
        '' if errors else 'No validation was logged.',
        _Chart('Learning rate', _series(train, 'learning_rate')),
        _Chart('Training throughput (images/s)', _series(train, 'images_per_second', noisy=True)),
    ]
    return [chart for chart in charts if (chart.series if isinstance(chart, _Chart) else chart)]


def _series(lines: Sequence[Mapping], prefix: str, *, noisy: bool = False) -> list[Series]:
    """Returns the curve of each key that is `prefix` or begins with it and an underscore."""
    series = []
    for key in _keys(lines):
        if f'{key}_'.startswith(f'{prefix}_'):
            steps, values = zip(*((line['step'], line[key]) for line in lines if key in line), strict=True)
            x, y = [_number(step) for step in steps], [_number(value) for value in values]
            series.append(Series(_name(key), x, y, noisy, colour=len(series)))
    return series


# ---- logs and results


def _by_step(log: Sequence[Mapping], kind: str) -> list[Mapping]:
    """Returns the lines of one kind in the order of their steps; of two with the same step, the later one."""
    lines = {_number(line.get('step')): line for line in log if line.get('kind') == kind}
    return [lines[step] for step in sorted(filter(math.isfinite, lines))]


def _keys(lines: Sequence[Mapping]) -> list[str]:
    return list(dict.fromkeys(key for line in lines for key in line))


def _number(value: Any) -> float:
    """Returns the value as a float; NaN for None, text and anything else that is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _median(values: Iterable[Any]) -> float:
    finite = [number for number in map(_number, values) if math.isfinite(number)]
    return float(np.median(finite)) if finite else math.nan
