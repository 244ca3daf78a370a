"""What was measured as a table, as ratios, as one picture, and against what was measured before."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tabulate import tabulate

from tools.benchmark.measure import Measurement

MIB = 2**20
TOLERATED = 1.1  # of a time over the recorded one, both relative to the reference of their own machine
Rows = Sequence[Measurement]


def table(rows: Rows) -> str:
    """Returns a Markdown table of all rows, those not measured with the reason."""
    heads = ('what', 'configuration', 'batch', 'time', 'least', 'quartiles', 'a second', 'compile')
    heads += ('GFLOP each', 'MiB', 'peak MiB', 'MFU')
    lines = []
    for row in rows:
        start = f'{row.part}: {row.name}', row.config, row.batch
        if row.note:
            lines.append((*start, row.note, *[''] * 8))
            continue
        lines.append(
            (
                *start,
                _time(row.median_s),
                _time(row.least_s),
                f'{_time(row.low_s)} - {_time(row.high_s)}',
                f'{row.images_per_s:.4g}',
                _or_none(row.compile_s, '{:.1f} s') + ('' if row.compiled_alone else ' (beside others)'),
                _or_none(row.flops_per_image, '{:.3g}', 1e9),
                _or_none(row.held_bytes, '{:.0f}', MIB),
                _or_none(row.peak_bytes, '{:.0f}', MIB),
                _or_none(row.mfu, '{:.1f} %', 0.01) + (f' of {row.peak[1]}' if row.peak else ''),
            )
        )
    return tabulate(lines, heads, 'pipe', disable_numparse=True)


def _time(seconds: float) -> str:
    return f'{seconds:.2f} s' if seconds >= 1 else f'{1e3 * seconds:.3g} ms'


def _or_none(value: float | None, form: str, unit: float = 1.0) -> str:
    return '-' if value is None else form.format(value / unit)


def ratios(rows: Rows) -> str:
    """Returns a Markdown table of every configuration over the first one of the same function and batch.

    Below 1 is faster, or smaller. The spread is of the quartiles: the quickest of one over the slowest of the
    other, and the other way round.
    """
    lines, first = [], {}
    for row in rows:
        group = row.part, '' if row.part == 'step' else row.name, row.batch
        if row.note:
            continue
        base = first.setdefault(group, row)
        if base is row:
            continue
        held = row.held_bytes and base.held_bytes and row.held_bytes / base.held_bytes
        flops = row.flops_per_image and base.flops_per_image and row.flops_per_image / base.flops_per_image
        lines.append(
            (
                f'{row.part}: {row.name}',
                row.batch,
                row.config,
                base.config if row.name == base.name else f'{base.config}: {base.name}',
                f'{row.median_s / base.median_s:.3f}' + ('' if row.turn == base.turn else ' (not in turns)'),
                f'{row.least_s / base.least_s:.3f}',
                f'{row.low_s / base.high_s:.3f} - {row.high_s / base.low_s:.3f}',
                f'{held:.3f}' if held else '-',
                f'{flops:.3f}' if flops else '-',
            )
        )
    if not lines:
        return ''
    heads = ('what', 'batch', 'configuration', 'over', 'median', 'least', 'spread', 'memory', 'FLOPs')
    return tabulate(lines, heads, 'pipe', disable_numparse=True)


def fallen(now: Iterable[Measurement], before: Iterable[Measurement]) -> dict[tuple, float]:
    """Returns the rows (part, name, config, batch) that got slower by more than a tenth, and how many times.

    Times are relative to those of the reference on their own machine; the fall must be outside of the spread:
    the lower quartile now is above the upper quartile before.
    """
    known = {which(row): row for row in before}
    found = {}
    for row in now:
        base = known.get(which(row))
        if base is None or row.relative is None or base.relative is None:
            continue
        (median, low, _), (median_before, _, high_before) = row.relative, base.relative
        if median > TOLERATED * median_before and low > high_before:
            found[which(row)] = median / median_before
    return found


def which(row: Measurement) -> tuple:
    """Returns what tells rows apart on different machines, and under changed configurations."""
    return row.part, row.name, row.config, row.batch


def verdict(now: Rows, before: Rows, falls: Mapping[tuple, float]) -> str:
    """Returns a table of all rows against the recorded ones, times relative to the reference."""
    known, lines = {which(row): row for row in before}, []
    for row in now:
        base = known.get(which(row))
        if row.relative is None or base is None or base.relative is None:
            said, share = row.note or 'not recorded', ''
        else:
            share = f'{row.relative[0] / base.relative[0]:.2f}'
            said = 'FELL' if which(row) in falls else ''
        spread = '' if row.relative is None else f'{row.relative[1]:.3g} - {row.relative[2]:.3g}'
        lines.append((f'{row.part}: {row.name}', row.config, row.batch, share, spread, said))
    heads = ('what', 'configuration', 'batch', 'time over recorded', 'now, of the reference', '')
    return tabulate(lines, heads, 'pipe', disable_numparse=True)


def picture(rows: Rows, path: pathlib.Path, title: str) -> None:
    """Draws speed and memory as bars, a panel for every part; whiskers are the quartiles."""
    from matplotlib.figure import Figure

    good = [row for row in rows if not row.note and row.median_s]
    panels = []
    for part in dict.fromkeys(row.part for row in good):
        of_part = [row for row in good if row.part == part]
        panels.append(
            (f'{part}: {"people" if part in ("solver", "skinning") else "images"} a second', of_part)
        )
        if part == 'step' and any(row.held_bytes for row in of_part):
            panels.append(('step: MiB on a device, as compiled', [row for row in of_part if row.held_bytes]))
    if not panels:
        return
    heights = [len(of_part) + 1.5 for _, of_part in panels]
    figure = Figure(figsize=(10, 0.28 * sum(heights) + 1), layout='constrained')
    figure.suptitle(title, fontsize=10)
    axes = np.atleast_1d(figure.subplots(len(panels), 1, height_ratios=heights))
    for axis, (label, of_part) in zip(axes, panels, strict=True):
        names = [_label(row) for row in of_part]
        places = np.arange(len(of_part))
        if 'MiB' in label:
            values, whiskers = np.array([row.held_bytes / MIB for row in of_part]), None
        else:
            values = np.array([row.images_per_s for row in of_part])
            low = values - [row.batch / row.high_s for row in of_part]
            whiskers = np.stack([low, [row.batch / row.low_s for row in of_part] - values])
        axis.barh(places, values, xerr=whiskers, color='#4477aa', error_kw={'lw': 1, 'capsize': 2})
        if values.max() > 30 * values.min():
            axis.set_xscale('log')
        for place, value in zip(places, values, strict=True):
            axis.annotate(f' {value:.4g}', (value, place), fontsize=7, va='bottom')
        axis.set_yticks(places, names, fontsize=7)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.tick_params(axis='x', labelsize=7)
        axis.set_title(label, fontsize=8, loc='left')
        axis.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=130)


def _label(row: Measurement) -> str:
    config = row.config.removeprefix('configs/').replace('.py', '')
    config = '' if row.part not in ('step', 'inference') else f'{config}, '
    name = '' if row.name == 'train' else f'{row.name}, '
    return f'{name}{config}{row.batch}'
