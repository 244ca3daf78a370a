"""One self-contained HTML page about a run: curves, metrics, pictures, what was run. No scripts, no links."""

import html
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hybrik_jax.view.render import (
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    encode_jpeg,
    overlay,
    side_view,
)

SYNTHETIC_BANNER = (
    'Synthetic people, free CC0 body: these numbers are not comparable with published SMPL benchmarks.'
)
PICTURE_PIXELS = 256  # smaller crops are enlarged to this before a mesh is drawn on them
CURVE_POINTS = 300  # a longer curve is drawn through this many averages
SERIES_COLOURS = 8  # CSS classes c0 .. c7

TERM_NAMES = {
    'loss': 'total',
    'loss_uvd': 'joint positions',
    'loss_betas': 'shape',
    'loss_rotations': 'rotations',
    'loss_twists': 'twists',
}
METRIC_NAMES = {
    'parameters': 'parameters',
    'flip_test': 'flip test',
    'mpjpe_mm': 'MPJPE',
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
}
# What a row says of its protocol: said once below the table where all rows agree, else a column.
PROTOCOL_NAMES = {
    'protocol': 'scored as',
    'joints': 'joints',
    'root': 'root',
    'box': 'box',
    'body_model': 'body model',
    'gender': 'gender',
    'frames': 'frames',
    'config': 'configuration',
    'over': 'over',
    'checkpoint': 'checkpoint',
}


@dataclass(frozen=True)
class Example:
    """One test image with its true and its predicted mesh.

    image: (H, W, 3) uint8 RGB. Vertices: (V, 3) metres, absolute, in the frame of the camera that `focal`
    (one number or (fx, fy)) and `centre` (2,) describe in pixels of `image`. error_mm: written beside it.
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
class Series:
    """One curve: positions and values of equal length; a value that is not finite breaks the curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    noisy: bool = False  # drawn pale, with a running mean over it
    colour: int = 0


def write_report(
    out_path: str | os.PathLike,
    *,
    title: str,
    facts: Mapping[str, Any] | None = None,
    train_log: Sequence[Mapping[str, Any]] = (),
    evaluation: Mapping[str, Any] | None = None,
    examples: Sequence[Example] = (),
    pictures: Sequence[tuple[str, np.ndarray]] = (),
    notes: str | Sequence[str] = (),
    banner: str | None = SYNTHETIC_BANNER,
) -> Path:
    """The path of the page it has written: one HTML file that needs no other file, no network and no script.

    Anything may be missing or not finite; the page then says so.

    Args:
        facts: what was run: name -> text, number, list or mapping (shown as a table of its own). Text under
            'command', and text of several lines, is shown as it is.
        train_log: lines of metrics.jsonl. {'kind': 'train', 'step', 'loss', 'loss_*', 'learning_rate',
            'images_per_second', 'step_seconds', 'data_wait_share', ...} and {'kind': 'validation', 'step',
            'mpjpe_*_mm', ...}. Where a step occurs twice (a resumed run) the later line counts.
        evaluation: {'protocol': {name: text}, 'rows': [{'parameters', 'flip_test', 'mpjpe_mm', ...}],
            'constant_prediction': {dataset: {'mpjpe_mm', 'mpjpe_24_mm'}}}. Rows of several datasets have
            'dataset' and what else `PROTOCOL_NAMES` lists; those whose 'group' is neither 'all' nor 'mean'
            are left out. With one dataset, the constant prediction may stand without its name, and 'frames'
            and 'dataset' beside it.
        examples: test images, shown in the order given.
        pictures: (caption, (H, W, 3) uint8 RGB) pairs.
        notes: one paragraph or several.
        banner: shown on top; None for none.
    Raises:
        OSError: the file cannot be written; an older file of this name is then left as it was.
    """
    facts, evaluation = dict(facts or {}), dict(evaluation or {})
    train = _by_step(train_log, 'train')
    validation = _by_step(train_log, 'validation')
    notes = [notes] if isinstance(notes, str) else list(notes)
    body = [
        f'<h1>{_escape(title)}</h1>',
        f'<p class="banner" role="note">{_escape(banner)}</p>' if banner else '',
        _headline(train, evaluation),
        _evaluation_section(evaluation),
        _examples_section(examples),
        _pictures_section(pictures),
        _training_section(train, validation, evaluation),
        _section('What was run', _facts_table(facts) if facts else _missing('Nothing was recorded.')),
        _section('Notes', ''.join(f'<p>{_escape(note)}</p>' for note in notes)) if notes else '',
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{_escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n'
        + '\n'.join(part for part in body if part)
        + '\n</main></body></html>\n'
    )
    return _write_whole(Path(out_path), page)


# ------------------------------------------------------------ sections


def _headline(train: list[Mapping], evaluation: Mapping) -> str:
    tiles = []
    best = _best_row(evaluation)
    constant = _number(_constant(evaluation).get('mpjpe_mm'))
    if best:
        error = _number(best.get('mpjpe_mm'))
        flip = ', flip test' if best.get('flip_test') else ''
        where = f'{best["dataset"]}, ' if len(_datasets(evaluation)) > 1 else ''
        tiles.append((f'{error:.1f} mm', f'lowest MPJPE ({where}{best.get("parameters", "?")}{flip})'))
        if constant > 0:
            tiles.append(
                (f'{100 * error / constant:.0f}%', f'of the constant prediction’s {constant:.1f} mm')
            )
    if train:
        tiles.append((f'{_number(train[-1].get("step")):,.0f}', 'training steps'))
        rate = _median(line.get('images_per_second') for line in train)
        if math.isfinite(rate):
            tiles.append((f'{rate:.3g}', 'images per second while training (median)'))
    frames = _number(evaluation.get('frames', (best or {}).get('frames')))
    if frames > 0:
        tiles.append((f'{frames:,.0f}', 'test images'))
    cells = ''.join(
        f'<div><b>{_escape(value)}</b><span>{_escape(text)}</span></div>' for value, text in tiles
    )
    return f'<div class="tiles">{cells}</div>' if tiles else ''


def _evaluation_section(evaluation: Mapping) -> str:
    protocol = dict(evaluation.get('protocol') or {})
    for key, name in (('dataset', 'dataset'), ('frames', 'frames')):
        if evaluation.get(key) is not None:
            protocol.setdefault(name, evaluation[key])
    parts, rows, in_mm = [], [], False
    datasets = _datasets(evaluation)
    for dataset in datasets:
        own, constant = _rows(evaluation, dataset), _constant(evaluation, dataset)
        if not own and not constant:
            continue
        rows += own
        common = {
            name: own[0][key]
            for key, name in PROTOCOL_NAMES.items()
            if own and key in own[0] and all(row.get(key) == own[0][key] for row in own)
        }
        hidden = {
            'name',
            'dataset',
            'group',
            'frames_of',
            *(k for k, n in PROTOCOL_NAMES.items() if n in common),
        }
        keys = list(METRIC_NAMES)
        keys += [key for row in [*own, constant] for key in row if key not in keys and key not in hidden]
        keys = [
            key
            for key in dict.fromkeys(keys)
            if key == 'parameters' or any(key in row for row in [*own, constant])
        ]
        in_mm |= any(key.endswith('_mm') for key in keys)
        if len(datasets) > 1:
            parts.append(f'<h3>{_escape(dataset)}</h3>')
        parts.append(_metrics_table(keys, own, constant))
        if common:
            said = '; '.join(f'{_escape(name)}: {_value(value)}' for name, value in common.items())
            parts.append(f'<p class="small">{said}</p>')
    if in_mm:
        parts.append(
            '<p class="small">Errors in millimetres; smaller is better. Bold: lowest of its column.</p>'
        )
    if not parts:
        parts.append(_missing('There is no evaluation yet.'))
    if protocol:
        terms = ''.join(f'<dt>{_escape(key)}</dt><dd>{_value(value)}</dd>' for key, value in protocol.items())
        parts.append(f'<h3>Protocol</h3><dl>{terms}</dl>')
    elif rows:
        parts.append(_missing('The protocol of these figures was not stated.'))
    return _section('Evaluation', ''.join(parts))


def _metrics_table(keys: Sequence[str], rows: Sequence[Mapping], constant: Mapping) -> str:
    lowest = {}
    for key in keys:
        values = [_number(row.get(key)) for row in rows if not isinstance(row.get(key), bool)]
        values = [value for value in values if math.isfinite(value)]
        if key.endswith('_mm') and len(values) > 1:
            lowest[key] = min(values)
    share = 'mpjpe_mm' in keys and _number(constant.get('mpjpe_mm')) > 0 and bool(rows)

    def cells(row: Mapping, first: str | None = None) -> str:
        out = []
        for number, key in enumerate(keys):
            if first is not None and number == 0:
                out.append(f'<th scope="row">{first}</th>')
                continue
            value = row.get(key)
            text = _cell(key, value) if key in row or first is None else ''
            if key in lowest and _number(value) == lowest[key] and first is None:
                text = f'<b>{text}</b>'
            tag = 'th scope="row"' if number == 0 else 'td'
            out.append(f'<{tag}>{text}</{tag.split()[0]}>')
            if key == 'mpjpe_mm' and share:
                percent = 100 * _number(value) / _number(constant['mpjpe_mm'])
                out.append(f'<td>{percent:.1f}%</td>' if math.isfinite(percent) else '<td>–</td>')
        return ''.join(out)

    head = []
    for key in keys:
        unit = ' <span class="unit">mm</span>' if key.endswith('_mm') else ''
        name = METRIC_NAMES.get(key, key.removesuffix('_mm').replace('_', ' '))
        head.append(f'<th scope="col">{_escape(name)}{unit}</th>')
        if key == 'mpjpe_mm' and share:
            head.append('<th scope="col">of constant</th>')
    lines = [f'<tr>{cells(row)}</tr>' for row in rows]
    if constant:
        lines.append(f'<tr class="reference">{cells(constant, "constant prediction")}</tr>')
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{"".join(head)}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div>'
    )


def _examples_section(examples: Sequence[Example]) -> str:
    if not examples:
        return _section('Test images', _missing('No test images were given.'))
    columns = ('image', 'truth', 'prediction', 'from the side')
    parts = [
        '<p class="small">Of each image: the network\'s crop (drawn finer than it sees it), the true mesh, '
        'the predicted mesh, and the predicted mesh from the camera’s right (the true one in grey behind it); '
        'and its error.</p>',
        '<div class="examples">',
    ]
    for example in examples:
        error = _number(example.error_mm)
        figure = f'{error:.1f} mm' if math.isfinite(error) else 'no error known'
        pictures = ''.join(
            f'<figure>{_picture(picture, f"{example.name} {column}".strip())}'
            f'<figcaption>{column}</figcaption></figure>'
            for column, picture in zip(columns, _example_pictures(example), strict=True)
        )
        name = f' <span>{_escape(example.name)}</span>' if example.name else ''
        parts.append(
            f'<div class="example"><div class="four">{pictures}</div><p><b>{figure}</b>{name}</p></div>'
        )
    parts.append('</div>')
    errors = [_number(example.error_mm) for example in examples]
    errors = [error for error in errors if math.isfinite(error)]
    if errors:
        parts.append(f'<p class="small">Mean error of the {len(errors)} shown: {np.mean(errors):.1f} mm.</p>')
    return _section('Test images', ''.join(parts))


def _example_pictures(example: Example) -> list[np.ndarray | None]:
    """The four pictures of a row; None where a mesh cannot be drawn because it is not finite."""
    enlarge = max(1, math.ceil(PICTURE_PIXELS / max(example.image.shape[:2])))
    image = np.asarray(example.image)
    if enlarge > 1:
        image = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    camera = {
        'focal': np.asarray(example.focal, np.float64) * enlarge,
        'centre': (np.asarray(example.centre, np.float64) + 0.5) * enlarge - 0.5,
    }
    truth, prediction = np.asarray(example.true_vertices_m), np.asarray(example.predicted_vertices_m)
    has_truth, has_prediction = np.isfinite(truth).all(), np.isfinite(prediction).all()
    size = max(image.shape[:2])
    return [
        image,
        overlay(image, truth, example.faces, colour=TRUTH_COLOUR, **camera) if has_truth else None,
        overlay(image, prediction, example.faces, colour=PREDICTION_COLOUR, **camera)
        if has_prediction
        else None,
        side_view(prediction, example.faces, size=size, ghost_vertices_m=truth if has_truth else None)
        if has_prediction
        else None,
    ]


def _pictures_section(pictures: Sequence[tuple[str, np.ndarray]]) -> str:
    if not pictures:
        return ''
    figures = ''.join(
        f'<figure>{_picture(image, text)}<figcaption>{_escape(text)}</figcaption></figure>'
        for text, image in pictures
    )
    return _section('Pictures', f'<div class="pictures">{figures}</div>')


def _training_section(train: list[Mapping], validation: list[Mapping], evaluation: Mapping) -> str:
    if not train and not validation:
        return _section('Training', _missing('There is no training log.'))
    charts = []
    losses = _series(train, [key for key in _keys(train) if key == 'loss' or key.startswith('loss_')])
    losses = [series for series in losses if any(math.isfinite(y) and y != 0 for y in series.y)]
    total = [series for series in losses if series.name == TERM_NAMES['loss']]
    terms = [series for series in losses if series.name != TERM_NAMES['loss']]
    if total:
        charts.append(_two_scales('Training loss, total', total, 'total'))
    if terms:
        charts.append(_two_scales('Training loss, by term', terms, 'terms'))
    if not losses:
        charts.append(_missing('No training loss was logged.'))

    constant = _number(_constant(evaluation).get('mpjpe_mm'))
    references = [(f'constant prediction, {constant:.0f} mm', constant)] if math.isfinite(constant) else []
    keys = [key for key in _keys(validation) if key.startswith('mpjpe') and key.endswith('_mm')]
    curves = [
        Series(METRIC_NAMES.get(key, key.removesuffix('_mm')), s.x, s.y, colour=s.colour)
        for key, s in zip(keys, _series(validation, keys, noisy=False), strict=True)
    ]
    if curves:
        charts.append(_chart_figure('Validation MPJPE (mm)', curves, references=references, from_zero=True))
    else:
        charts.append(_missing('No validation was logged.'))
    for key, name in (
        ('learning_rate', 'Learning rate'),
        ('images_per_second', 'Training throughput (images/s)'),
    ):
        curve = _series(train, [key], noisy=key != 'learning_rate') if key in _keys(train) else []
        if curve:
            charts.append(_chart_figure(name, curve, from_zero=True))
    return _section('Training', f'<div class="charts">{"".join(charts)}</div>{_pace(train)}')


def _pace(train: list[Mapping]) -> str:
    said = []
    seconds = _median(line.get('step_seconds') for line in train)
    waiting = _median(line.get('data_wait_share') for line in train)
    if math.isfinite(seconds):
        said.append(f'median step {1000 * seconds:.0f} ms' if seconds < 1 else f'median step {seconds:.2f} s')
    if math.isfinite(waiting):
        said.append(f'{100 * waiting:.1f}% of it spent waiting for data')
    epochs = [_number(line.get('epoch')) for line in train]
    if epochs and math.isfinite(epochs[-1]):
        said.append(f'last epoch logged {epochs[-1]:g}')
    return f'<p class="small">{_escape(", ".join(said).capitalize())}.</p>' if said else ''


def _facts_table(facts: Mapping[str, Any]) -> str:
    rows = []
    for key, value in facts.items():
        name = f'<th scope="row">{_escape(key)}</th>'
        if isinstance(value, Mapping):
            inner = _facts_table(value) if value else '–'
            if len(value) > 8:
                inner = f'<details><summary>{len(value)} entries</summary>{inner}</details>'
            rows.append(f'<tr>{name}<td>{inner}</td></tr>')
        elif isinstance(value, str) and ('\n' in value or str(key).lower().startswith('command')):
            rows.append(f'<tr>{name}<td><pre>{_escape(value)}</pre></td></tr>')
        else:
            rows.append(f'<tr>{name}<td>{_value(value)}</td></tr>')
    return f'<table class="facts"><tbody>{"".join(rows)}</tbody></table>'


# ------------------------------------------------------------ charts

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 14, 40  # margins round the plotting area, in the SVG's units


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str = 'step',
    log_y: bool = False,
    from_zero: bool = False,
    references: Sequence[tuple[str, float]] = (),
) -> str:
    """An inline `<svg>` of the curves with axes, ticks and grid lines.

    Args:
        label: what the chart shows, for readers who cannot see it.
        log_y: logarithmic values; those not above zero are left out.
        from_zero: start the value axis at zero (ignored with `log_y`).
        references: (text, value) horizontal lines.
    """
    curves = [_points(one, log_y) for one in series]
    xs = np.concatenate([x[np.isfinite(y)] for x, y in curves] or [np.zeros(0)])
    ys = np.concatenate([y[np.isfinite(y)] for _, y in curves] or [np.zeros(0)])
    lines = [(text, value) for text, value in references if math.isfinite(value) and (value > 0 or not log_y)]
    if not len(xs):
        return _missing('No finite value to draw.')
    values = np.concatenate([ys, [value for _, value in lines]])
    low, high = float(values.min()), float(values.max())
    if log_y:
        y_ticks, low, high = _log_ticks(low, high)
    else:
        y_ticks, low, high = _ticks(min(low, 0.0) if from_zero else low, high, 5, outwards=True)
    first, last = float(xs.min()), float(xs.max())
    x_ticks, first, last = _ticks(0.0 if 0 < first < 0.1 * last else first, last, 6, outwards=False)

    def across(x: np.ndarray | float) -> np.ndarray:
        return LEFT + (np.asarray(x) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def down(y: np.ndarray | float) -> np.ndarray:
        scale = np.log10 if log_y else np.asarray
        share = (scale(y) - scale(low)) / (scale(high) - scale(low))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_escape(label)}">']
    for tick in y_ticks:
        y = float(down(tick))
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="end" x="{LEFT - 7}" y="{y + 4:.1f}">{_short(tick)}</text>')
    for tick in x_ticks:
        x = float(across(tick))
        out.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" '
            f'y2="{HEIGHT - BOTTOM + 4}"/>'
        )
        out.append(f'<text class="middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{_short(tick)}</text>')
    out.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="middle" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 5}">'
        f'{_escape(x_label)}</text>'
    )
    for text, value in lines:
        y = float(down(value))
        out.append(
            f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="end halo" x="{WIDTH - RIGHT - 4}" y="{y + (-6 if y > TOP + 16 else 15):.1f}">'
            f'{_escape(text)}</text>'
        )
    for one, (x, y) in zip(series, curves, strict=True):
        colour = f'c{one.colour % SERIES_COLOURS}'
        if one.noisy and np.isfinite(y).sum() > 20:
            out.append(_path(across(x), down(y), f'{colour} pale'))
            y = _running_mean(y, max(3, len(y) // 20))
        out.append(_path(across(x), down(y), colour))
        if np.isfinite(y).sum() <= 20:
            for px, py, step, value in zip(across(x), down(y), x, y, strict=True):
                if math.isfinite(py):
                    out.append(
                        f'<circle class="{colour}" cx="{px:.1f}" cy="{py:.1f}" r="3">'
                        f'<title>{_escape(one.name)}, {x_label} {step:g}: {value:.6g}</title></circle>'
                    )
    return ''.join(out) + '</svg>'


def _chart_figure(title: str, series: Sequence[Series], **options: Any) -> str:
    heading = f'<h3>{_escape(title)}</h3>{_legend(series)}'
    return f'<figure class="chart">{heading}{_chart(title, series, **options)}</figure>'


def _two_scales(title: str, series: Sequence[Series], name: str) -> str:
    """A chart with a logarithmic and a linear form; two radio buttons choose, without a script."""
    return (
        f'<figure class="chart"><h3>{_escape(title)}</h3>{_legend(series)}'
        f'<input type="radio" name="scale-{name}" id="log-{name}" checked><label for="log-{name}">log</label>'
        f'<input type="radio" name="scale-{name}" id="linear-{name}">'
        f'<label for="linear-{name}">linear</label>'
        f'<div class="log">{_chart(title, series, log_y=True)}</div>'
        f'<div class="linear">{_chart(title, series, from_zero=True)}</div></figure>'
    )


def _chart(title: str, series: Sequence[Series], **options: Any) -> str:
    broken = sum(int((~np.isfinite(np.asarray(one.y, np.float64))).sum()) for one in series)
    said = f'Values that are not finite and are left out: {broken}.'
    warning = f'<p class="small">{said}</p>' if broken else ''
    return line_chart(series, label=title, **options) + warning


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ''
    items = ''.join(
        f'<span><i class="c{s.colour % SERIES_COLOURS}"></i>{_escape(s.name)}</span>' for s in series
    )
    return f'<p class="legend">{items}</p>'


def _series(lines: Sequence[Mapping], keys: Sequence[str], noisy: bool = True) -> list[Series]:
    out = []
    for number, key in enumerate(keys):
        chosen = [line for line in lines if key in line]
        x = [_number(line['step']) for line in chosen]
        y = [_number(line[key]) for line in chosen]
        name = TERM_NAMES.get(key, key.removeprefix('loss_').replace('_', ' '))
        out.append(Series(name, x, y, noisy=noisy, colour=number))
    return out


def _points(series: Series, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
    """x, y as float64, thinned to CURVE_POINTS means of neighbours; NaN where nothing can be drawn."""
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    y = np.where(np.isfinite(y) & np.isfinite(x) & ((y > 0) | (not log_y)), y, np.nan)
    x = np.where(np.isfinite(x), x, 0.0)
    if len(x) <= CURVE_POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), CURVE_POINTS)
    means = [np.nanmean(y[group]) if np.isfinite(y[group]).any() else np.nan for group in groups]
    return np.array([x[group].mean() for group in groups]), np.array(means)


def _running_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Centred means over `window` neighbours (fewer at the ends); NaN stays NaN and is not counted."""
    known = np.isfinite(y)
    kernel = np.ones(window)
    total = np.convolve(np.where(known, y, 0.0), kernel, mode='same')
    count = np.convolve(known.astype(np.float64), kernel, mode='same')
    return np.where(known, total / np.maximum(count, 1), np.nan)


def _path(x: np.ndarray, y: np.ndarray, classes: str) -> str:
    steps, pen = [], 'M'
    for px, py in zip(x, y, strict=True):
        if math.isfinite(py):
            steps.append(f'{pen}{px:.1f} {py:.1f}')
            pen = 'L'
        else:
            pen = 'M'
    return f'<path class="{classes}" d="{"".join(steps)}"/>'


def _ticks(low: float, high: float, count: int, outwards: bool) -> tuple[list[float], float, float]:
    """Round tick values for [low, high] and the axis' ends; outwards: widened so that both ends are ticks."""
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = abs(high) * 0.1 or 1.0
        low, high = (0.0 if low == 0 else low - room), high + room
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    if outwards:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)], low, high


def _log_ticks(low: float, high: float) -> tuple[list[float], float, float]:
    """Tick values 1, 2, 5 per decade (decades alone over a long range) and the ends of a logarithmic axis."""
    if high <= low * (1 + 1e-9):
        low, high = low / 2, high * 2
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = math.log10(high / low) > 2.5
    marks = [m * 10.0**d for d in decades for m in ((1,) if wide else (1, 2, 5))]
    below = max([mark for mark in marks if mark <= low * (1 + 1e-9)], default=low)
    above = min([mark for mark in marks if mark >= high * (1 - 1e-9)], default=high)
    ticks = [mark for mark in marks if below * (1 - 1e-9) <= mark <= above * (1 + 1e-9)]
    while len(ticks) > 9:
        ticks = ticks[::2]
    return ticks, below, above


def _short(value: float) -> str:
    if value == 0:
        return '0'
    if abs(value) >= 1e6:
        return f'{value / 1e6:g}M'
    if abs(value) >= 1e4:
        return f'{value / 1e3:g}k'
    if abs(value) < 2e-3:
        mantissa, exponent = f'{value:.3e}'.split('e')
        return f'{float(mantissa):g}e{int(exponent)}'
    return f'{value:.4g}'


# ------------------------------------------------------------ small things


def _by_step(log: Sequence[Mapping], kind: str) -> list[Mapping]:
    """The lines of one kind in the order of their steps; of two with the same step, the later one."""
    lines = {
        _number(line.get('step')): line
        for line in log
        if line.get('kind') == kind and math.isfinite(_number(line.get('step')))
    }
    return [lines[step] for step in sorted(lines)]


def _keys(lines: Sequence[Mapping]) -> list[str]:
    return list(dict.fromkeys(key for line in lines for key in line))


def _datasets(evaluation: Mapping) -> list[str]:
    """The datasets of the rows, in their order; [''] where the rows name none."""
    return list(dict.fromkeys(row.get('dataset', '') for row in evaluation.get('rows') or [] if row)) or ['']


def _rows(evaluation: Mapping, dataset: str) -> list[Mapping]:
    """The rows of a dataset over all of its frames, and means over groups; figures by action are left out."""
    rows = [row for row in evaluation.get('rows') or [] if row and row.get('dataset', '') == dataset]
    return [row for row in rows if row.get('group', 'all') in ('all', 'mean')]


def _constant(evaluation: Mapping, dataset: str | None = None) -> Mapping:
    """The constant prediction on a dataset, None: on the first one; {} where there is none."""
    constants = evaluation.get('constant_prediction') or {}
    if not any(isinstance(value, Mapping) for value in constants.values()):
        return constants
    return constants.get(_datasets(evaluation)[0] if dataset is None else dataset) or {}


def _best_row(evaluation: Mapping) -> Mapping | None:
    """The row of the first dataset, over all frames, with the lowest MPJPE."""
    rows = _rows(evaluation, _datasets(evaluation)[0])
    rows = [row for row in rows if math.isfinite(_number(row.get('mpjpe_mm'))) and row.get('group') != 'mean']
    return min(rows, key=lambda row: _number(row['mpjpe_mm'])) if rows else None


def _number(value: Any) -> float:
    """The value as a float; NaN for None, text and anything else that is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _median(values: Any) -> float:
    finite = [number for number in map(_number, values) if math.isfinite(number)]
    return float(np.median(finite)) if finite else math.nan


def _cell(key: str, value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return 'yes' if value else 'no'
    number = _number(value)
    if isinstance(value, str) and value:
        return _escape(value)
    if not math.isfinite(number):
        return '–'
    return f'{number:.1f}' if key.endswith('_mm') else f'{number:g}'


def _value(value: Any) -> str:
    if value is None:
        return '–'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.6g}' if math.isfinite(value) else _escape(str(value))
    if isinstance(value, Mapping):
        return '; '.join(f'{_escape(str(key))}: {_value(inner)}' for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ', '.join(_value(item) for item in value) or '–'
    return _escape(str(value))


def _picture(image: np.ndarray | None, text: str) -> str:
    if image is None:
        return '<div class="blank">not finite, cannot be drawn</div>'
    height, width = image.shape[:2]
    return f'<img src="{encode_jpeg(image)}" width="{width}" height="{height}" alt="{_escape(text)}">'


def _section(heading: str, content: str) -> str:
    return f'<section><h2>{_escape(heading)}</h2>{content}</section>'


def _missing(text: str) -> str:
    return f'<p class="missing">{_escape(text)}</p>'


def _escape(text: Any) -> str:
    return html.escape(str(text), quote=True)


def _write_whole(path: Path, text: str) -> Path:
    """Writes beside the target and renames, so that nobody meets half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


_STYLE = """
:root{color-scheme:light dark;--page:#fbfaf8;--card:#fff;--ink:#1d1d1b;--soft:#66645f;--line:#e2dfd9;
--warn:#fff3d6;
--warnline:#d9a020;--c0:#2a6fbb;--c1:#c8561b;--c2:#15836a;--c3:#7a55b8;--c4:#a8790a;--c5:#c03a74;
--c6:#4a7d1d;--c7:#5a6470}
@media (prefers-color-scheme:dark){:root{--page:#171716;--card:#201f1e;--ink:#ecebe7;--soft:#a5a29b;
--line:#3a3835;
--warn:#3a2f12;--warnline:#b88a22;--c0:#6ea8ea;--c1:#ef8d55;--c2:#4dbd9f;--c3:#b094e6;--c4:#d8ad43;
--c5:#ec7fae;
--c6:#8fc55b;--c7:#a3adb9}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.7rem;line-height:1.2;margin:.4em 0}
h2{font-size:1.2rem;margin:2.2em 0 .6em;padding-bottom:.25em;border-bottom:1px solid var(--line)}
h3{font-size:.98rem;margin:1em 0 .3em}
p{margin:.5em 0}
.banner{background:var(--warn);border-left:4px solid var(--warnline);padding:.6em .9em;font-weight:600}
.small,.missing,figcaption,.unit{color:var(--soft);font-size:.86rem}
.missing{border:1px dashed var(--line);border-radius:6px;padding:.6em .9em}
.unit{font-weight:400}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:1em 0}
.tiles div{flex:1 1 150px;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.6em .9em}
.tiles b{display:block;font-size:1.45rem;line-height:1.3}
.tiles span{color:var(--soft);font-size:.84rem;line-height:1.3;display:block}
.scroll{overflow-x:auto}
table{border-collapse:collapse}
.numbers{width:100%;font-variant-numeric:tabular-nums}
.numbers th,.numbers td{padding:.4em .7em;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--line)}
.numbers th:first-child{text-align:left}
.numbers thead th{white-space:normal;vertical-align:bottom;font-size:.88rem}
.numbers tbody th{font-weight:400;white-space:normal}
.reference th,.reference td{color:var(--soft);font-style:italic}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1.2em;margin:.4em 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.facts{width:100%}
.facts th{text-align:left;font-weight:400;color:var(--soft);white-space:nowrap;padding-right:1.2em}
.facts th,.facts td{vertical-align:top;padding:.25em .8em .25em 0;border-bottom:1px solid var(--line)}
.facts td{width:100%;overflow-wrap:anywhere}
.facts .facts tr:last-child>*{border-bottom:0}
summary{cursor:pointer;color:var(--soft)}
pre{margin:.2em 0;white-space:pre-wrap;overflow-wrap:anywhere;
font:.86rem/1.45 ui-monospace,Menlo,Consolas,monospace}
figure{margin:0}
.examples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,700px),1fr));gap:16px}
.example{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:6px}
.example p{margin:.3em .3em 0;font-size:.9rem}.example p span{color:var(--soft)}
.four{display:grid;grid-template-columns:repeat(4,1fr);gap:4px}
@media (max-width:600px){.four{grid-template-columns:repeat(2,1fr)}}
.four figcaption{font-size:.75rem;text-align:center}
img{display:block;width:100%;height:auto;border-radius:4px}
.blank{aspect-ratio:1;display:grid;place-items:center;text-align:center;color:var(--soft);font-size:.75rem;
border:1px dashed var(--line);border-radius:4px}
.pictures{display:flex;flex-wrap:wrap;gap:16px}
.pictures figure{flex:0 1 auto;max-width:100%}.pictures img{width:auto;max-width:100%}
.charts .missing{align-self:start;margin:0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}
.chart{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 12px;
position:relative}
.chart h3{margin:.1em 0 .3em}
.chart svg{display:block;width:100%;height:auto}
.chart input{position:absolute;opacity:0}
.chart label{position:absolute;top:9px;right:66px;width:44px;text-align:center;font-size:.78rem;
color:var(--soft);
border:1px solid var(--line);cursor:pointer;border-radius:9px}
.chart label:nth-of-type(2){right:12px;width:50px}
.chart input:checked+label{color:var(--ink);border-color:var(--soft);font-weight:600}
.chart input:focus-visible+label{outline:2px solid var(--c0)}
.chart .linear{display:none}
.chart input:nth-of-type(2):checked~.linear{display:block}
.chart input:nth-of-type(2):checked~.log{display:none}
.legend{margin:0;font-size:.82rem;color:var(--soft);display:flex;flex-wrap:wrap;gap:0 1em}
.legend i{display:inline-block;width:1em;height:3px;vertical-align:middle;margin-right:.4em;
border-radius:2px}
svg text{fill:var(--soft);font-size:12px}
svg .end{text-anchor:end}svg .middle{text-anchor:middle}
svg .halo{fill:var(--ink);paint-order:stroke;stroke:var(--card);stroke-width:4px}
svg line{stroke:var(--line)}svg .axis,svg .tick{stroke:var(--soft)}
svg .reference{stroke:var(--ink);stroke-dasharray:5 4}
svg path{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg .pale{stroke-width:1;opacity:.3}
""" + ''.join(
    f'svg path.c{k}{{stroke:var(--c{k})}}svg circle.c{k}{{fill:var(--c{k})}}'
    f'i.c{k}{{background:var(--c{k})}}\n'
    for k in range(SERIES_COLOURS)
)
