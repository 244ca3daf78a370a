"""What a reader of annotation files yields, and what all readers share: boxes, projection, streamed JSON."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import ijson
import numpy as np

MM = 1e-3  # metres


class AnnotationError(ValueError):
    """An annotation file is not what it should be; the message names file, record and field, and what to
    do.
    """


@dataclasses.dataclass(frozen=True)
class AnnotatedPerson:
    """One annotated person whose image is not cut yet.

    name: unique in its dataset, with the split, such as 'coco/train/000000000785-442619'.
    photo: the image file.
    labels: every field of `record.FEATURES` but region_*; frames and units as there.
    sequence, action: what figures are grouped by; may be empty.
    """

    name: str
    photo: pathlib.Path
    labels: dict[str, np.ndarray]
    sequence: str = ''
    action: str = ''


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An annotation that is left out: `reason` is the same text for the same cause, `where` names the one."""

    reason: str
    where: str


def box_from_xywh(box: Any, width: int, height: int) -> np.ndarray | None:
    """Returns the box x0 y0 x1 y1 (4,) float32 of x y w h, clipped to the photo; None where nothing is left
    of it.

    x1 = x0 + max(0, w - 1), then both to [0, width - 1]; likewise y.
    """
    x, y, w, h = (float(v) for v in box)
    if not np.isfinite([x, y, w, h]).all():
        raise AnnotationError(f'box {list(box)} is not finite')
    low = np.clip([x, y], 0, [width - 1, height - 1])
    high = np.clip([x + max(0.0, w - 1), y + max(0.0, h - 1)], 0, [width - 1, height - 1])
    return np.array([*low, *high], np.float32) if (high > low).all() else None


def stream_items(path: pathlib.Path, key: str) -> Iterator[dict[str, Any]]:
    """Yields the elements of the list under the top-level `key` of a JSON file, one at a time, numbers as
    float.

    Raises AnnotationError where the file is no JSON, is cut off, or has no such list; FileNotFoundError.
    """
    found = False
    with open(path, 'rb') as file, _explaining(path):
        for item in ijson.items(file, f'{key}.item', use_float=True):
            found = True
            if not isinstance(item, dict):
                raise AnnotationError(
                    f'{path}: {key} holds {type(item).__name__}, not objects: is it the right file?'
                )
            yield item
    if not found:
        with open(path, 'rb') as file, _explaining(path):
            keys = [
                value for prefix, event, value in ijson.parse(file) if event == 'map_key' and prefix == ''
            ]
        if key not in keys:
            raise AnnotationError(f'{path} has no list {key!r}, only {keys[:10]}: is it the right file?')


@contextlib.contextmanager
def _explaining(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except ijson.JSONError as error:
        size = path.stat().st_size
        raise AnnotationError(
            f'{path} is no whole JSON file ({size} bytes; {error}): it may be cut off (download it again), or hold '
            'NaN, which JSON does not know.'
        ) from error
