"""Curves over training steps, drawn by matplotlib as SVG that stands inside a page and takes its colours."""

import html
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZE = (460, 280)  # pixels, width and height
LEFT, RIGHT, TOP, BOTTOM = 54, 18, 14, 40  # margins round the plotting area, pixels
SERIES_COLOURS = 8  # the page's colours c0 .. c7
MOST_POINTS = 300  # a longer curve is drawn through this many averages
FEW_POINTS = 20  # so few are marked one by one, and no mean is drawn over them
# What stands for the page's colours while matplotlib draws: var(--c0) follows the light or dark scheme.
_COLOURS = {
    name: f'#0000{number:02x}'
    for number, name in enumerate(['ink', 'soft', 'line', *(f'c{k}' for k in range(SERIES_COLOURS))], 1)
}
_STYLE = {
    'svg.fonttype': 'none',
    'font.size': 12,
    'text.parse_math': False,
    'axes.xmargin': 0,
    'axes.spines.left': False,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.edgecolor': _COLOURS['soft'],
    'axes.labelcolor': _COLOURS['soft'],
    'axes.grid': True,
    'axes.grid.axis': 'y',
    'grid.color': _COLOURS['line'],
    'lines.solid_capstyle': 'round',
    'xtick.labelcolor': _COLOURS['soft'],
    'ytick.labelcolor': _COLOURS['soft'],
    'xtick.major.size': 0,
    'ytick.major.size': 0,
    'xtick.major.pad': 7,
    'ytick.major.pad': 7,
}


@dataclass(frozen=True)
class Series:
    """One curve: finite positions and as many values; a value that is not finite breaks the curve.

    noisy: drawn pale, with a running mean over it.
    colour: number of one of the page's colours.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    noisy: bool = False
    colour: int = 0


def line_chart(
    series: Sequence[Series],
    *,
    log_y: bool = False,
    from_zero: bool = False,
    references: Sequence[tuple[str, float]] = (),
) -> str:
    """Returns what belongs into an `<svg>` of `SIZE`; '' where there is nothing to draw.

    Args:
        log_y: logarithmic values; those not above zero are left out.
        from_zero: start the value axis at zero (ignored with `log_y`).
        references: (text, value) horizontal lines.
    """
    curves = [_points(one, log_y) for one in series]
    known = [np.stack([x, y])[:, np.isfinite(y)] for x, y in curves]
    steps, values = np.concatenate([np.zeros((2, 0)), *known], axis=1)
    if not len(steps):
        return ''
    import matplotlib
    from matplotlib import figure, ticker

    with matplotlib.rc_context(_STYLE):
        width, height = SIZE
        picture = figure.Figure(figsize=(width / 72, height / 72), frameon=False)
        area = (LEFT / width, BOTTOM / height, 1 - (LEFT + RIGHT) / width, 1 - (TOP + BOTTOM) / height)
        axes = picture.add_axes(area, facecolor='none', xlabel='step')
        tips: list[str] = []
        for text, value in references:
            if math.isfinite(value):
                axes.axhline(value, color=_COLOURS['ink'], linestyle=(0, (5, 4)), linewidth=1)
                place = {'xycoords': ('axes fraction', 'data'), 'textcoords': 'offset points'}
                axes.annotate(text, (1, value), (-4, -14), ha='right', color=_COLOURS['ink'], **place)
        for one, (x, y) in zip(series, curves, strict=True):
            _draw(axes, one, x, y, tips)
        axes.set_yscale('log' if log_y else 'linear')
        axes.yaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        if log_y:
            across = values.max() / values.min()
            if across > 10:
                axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if across < 300 else (1,)))
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        elif from_zero:
            axes.set_ylim(bottom=min(0, values.min()))
        if 0 < steps.min() < 0.1 * steps.max():
            axes.set_xlim(0, steps.max())
        plain, thousands = ticker.StrMethodFormatter('{x:g}'), ticker.EngFormatter(sep='')
        axes.xaxis.set_major_formatter(thousands if steps.max() >= 1e4 else plain)
        axes.yaxis.set_major_formatter(plain)
        svg = io.StringIO()
        picture.savefig(svg, format='svg', metadata={'Date': None})
    return _for_page(svg.getvalue(), tips)


def _draw(axes: Any, one: Series, x: np.ndarray, y: np.ndarray, tips: list[str]) -> None:
    """Draws a curve; what a single point says goes to the end of `tips`, its number into the drawing."""
    colour = _COLOURS[f'c{one.colour % SERIES_COLOURS}']
    few = np.isfinite(y).sum() <= FEW_POINTS
    if one.noisy and not few:
        axes.plot(x, y, color=colour, linewidth=1, alpha=0.3)
        y = _running_mean(y, max(3, len(y) // 20))
    axes.plot(x, y, color=colour, linewidth=2)
    for step, value in zip(x, y, strict=True) if few else ():
        if math.isfinite(value):  # a line without length and with round ends is a disc
            axes.plot([step, step], [value, value], color=colour, linewidth=6, gid=f'tip{len(tips)}')
            tips.append(f'{one.name}, step {step:g}: {value:.6g}')


def _for_page(svg: str, tips: Sequence[str]) -> str:
    """Returns a drawing of matplotlib's without its head and names, in the page's colours and font."""
    svg = svg[svg.index('<g id="figure_1">') : svg.rindex('</svg>')]
    svg = re.sub(r'<g id="tip(\d+)">', lambda m: f'<g><title>{html.escape(tips[int(m[1])])}</title>', svg)
    svg = re.sub(r'<(g|path) id="[^"]*"', r'<\1', svg)
    svg = re.sub(r'<defs>.*?</defs>| clip-path="[^"]*"', '', svg, flags=re.DOTALL)
    svg = re.sub(r'font-family: [^;"]*(; )?', '', svg)
    for name, colour in _COLOURS.items():
        svg = svg.replace(f': {colour}', f': var(--{name})')
    return svg


def _points(series: Series, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y, float64, thinned to MOST_POINTS means of neighbours; NaN where there is no value."""
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    y = np.where(np.isfinite(y) & ((y > 0) | (not log_y)), y, np.nan)
    if len(x) <= MOST_POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), MOST_POINTS)
    means = [np.nanmean(y[group]) if np.isfinite(y[group]).any() else np.nan for group in groups]
    return np.array([x[group].mean() for group in groups]), np.array(means)


def _running_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Returns centred means over `window` neighbours (fewer at the ends); NaN stays and is not counted."""
    known = np.isfinite(y)
    total = np.convolve(np.where(known, y, 0.0), np.ones(window), mode='same')
    count = np.convolve(known.astype(np.float64), np.ones(window), mode='same')
    return np.where(known, total / np.maximum(count, 1), np.nan)
