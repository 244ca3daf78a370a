"""What a reader of annotation files yields, and what all readers share."""

import dataclasses
import pathlib
import reprlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hybrik_jax import files, json_file

AnnotationError = files.FileError  # of annotations: file, record, field, and what to do


@dataclasses.dataclass(frozen=True)
class AnnotatedPerson:
    """One annotated person whose image is not cut yet.

    name: unique in its dataset, with the split, such as 'coco/train/000000000785-442619'.
    photo: the image file.
    labels: every field of `record.FEATURES` but region_*; frames and units as there.
    sequence, action: what figures are grouped by; may be empty.
    image_id, annotation_id: images[].id and annotations[].id of the annotation file, None where it has none.
    """

    name: str
    photo: pathlib.Path
    labels: dict[str, np.ndarray]
    sequence: str = ''
    action: str = ''
    image_id: int | None = None
    annotation_id: int | None = None


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An annotation that is left out: `reason` is the same text for the same cause, `where` names the one."""

    reason: str
    where: str


def stream_items(path: pathlib.Path, key: str) -> Iterator[dict[str, Any]]:
    """Yields the objects of the list under the top-level `key` of a JSON file, one at a time.

    Raises:
        AnnotationError, FileNotFoundError: as `json_file.stream`, or there is no such list.
    """
    index = -1
    for index, item in enumerate(json_file.stream(path, key)):
        if not isinstance(item, dict):
            kind = type(item).__name__
            raise AnnotationError(f'{path}: {key}[{index}] is {kind}, not an object: is it the right file?')
        yield item
    if index < 0:
        kinds, _ = json_file.read_top(path)
        if kinds is None or kinds.get(key) != 'list':
            there = 'it is no object' if kinds is None else f'only {reprlib.repr(list(kinds)[:10])}'
            raise AnnotationError(f'{path} has no list {key!r}, {there}: is it the right file?')
