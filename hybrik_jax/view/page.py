"""Self-contained HTML pages from templates beside this file: no links, all text escaped.

`page.html` is reports and sheets, which need no scripts; `web/result.html` is of `result`.
"""

import base64
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np

from hybrik_jax.data import jpeg
from hybrik_jax.ending import write_whole
from hybrik_jax.view import curves


def write(path: str | os.PathLike, kind: str, **content: Any) -> Path:
    """Writes a page whole, beside its place and then renamed, and returns its path.

    Args:
        kind: 'report' or 'sheet', which part of the template it is.
        content: what that part names.

    Raises:
        OSError: the file cannot be written; an older file of this name is then left as it was.
    """
    text = render('page.html', kind=kind, chart_size=curves.SIZE, **content)
    path = Path(path)
    write_whole(path, text)
    return path


def render(template: str, **content: Any) -> str:
    """Returns the text of a template, a file beside this one, with its `content`; all of it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'value': value_text, 'picture': _picture, 'svg': markupsafe.Markup}
    environment.tests['finite'] = math.isfinite
    return environment.get_template(template).render(**content)


def value_text(value: Any) -> str:
    """Returns a value as a page shows it: numbers short, lists and mappings on one line."""
    if value is None:
        return '–'
    if isinstance(value, bool | np.bool_):
        return 'yes' if value else 'no'
    if isinstance(value, float) and math.isfinite(value):
        return f'{value:.6g}'
    if isinstance(value, Mapping):
        return '; '.join(f'{key}: {value_text(inner)}' for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ', '.join(value_text(item) for item in value) or '–'
    return str(value)


def _picture(image: np.ndarray, quality: int = 88) -> markupsafe.Markup:
    """Returns the attributes of an `<img>`."""
    height, width = image.shape[:2]
    data = base64.b64encode(jpeg.encode(image, quality, '420')).decode('ascii')
    return markupsafe.Markup(f'src="data:image/jpeg;base64,{data}" width="{width}" height="{height}"')
