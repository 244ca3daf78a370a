"""Self-contained HTML pages from one template, `page.html`: no scripts, no links, all text escaped."""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np

from hybrik_jax.view import curves
from hybrik_jax.view.render import encode_jpeg


def write(path: str | os.PathLike, kind: str, **content: Any) -> Path:
    """Writes a page whole, beside its place and then renamed, and returns its path.

    Args:
        kind: 'report' or 'sheet', which part of the template it is.
        content: what that part names.

    Raises:
        OSError: the file cannot be written; an older file of this name is then left as it was.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'value': value_text, 'picture': _picture, 'svg': markupsafe.Markup}
    environment.tests['finite'] = math.isfinite
    text = environment.get_template('page.html').render(kind=kind, chart_size=curves.SIZE, **content)
    path = Path(path)
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
    return markupsafe.Markup(f'src="{encode_jpeg(image, quality)}" width="{width}" height="{height}"')
