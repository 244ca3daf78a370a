"""What a reader of annotation files yields, and what all readers share."""

import dataclasses
import pathlib

import numpy as np

from hybrik_jax import files

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
