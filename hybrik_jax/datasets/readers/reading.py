"""What the readers of published annotation files share: finding files, labels from points.

Numbers that are not finite pass here: `sanity.check_person` names them by field and index.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrik_jax import annotation_file, catalogue
from hybrik_jax.body.projection import project
from hybrik_jax.data import record
from hybrik_jax.datasets.annotation import AnnotatedPerson

NO_BOX = 'box without area in the photo'


def find(
    root: pathlib.Path, dataset: catalogue.Dataset, split: str, files: Mapping[str, str] | None = None
) -> pathlib.Path:
    """Returns the file (or folder) of a split in the folder `root` of a dataset; it is there.

    Args:
        files: split -> path below root, in place of `dataset.files`.

    Raises:
        ValueError: naming the splits that there are.
        FileNotFoundError: saying what is expected where, and whose folder `root` looks like.
    """
    title, files = dataset.title, files or dataset.files
    if split not in files:
        raise ValueError(f'{title} has no split {split!r}, only {", ".join(files)}.')
    path = root / files[split]
    if path.exists():
        return path
    known = [one for one in catalogue.DATASETS.values() if one.marks]
    marked = [one.title for one in known if one != dataset and any(any(root.glob(m)) for m in one.marks)]
    layout = '(docs/datasets.md shows the layout)'
    message = f'{path} is missing: the folder of {title} should hold {files[split]} {layout}.'
    if not root.is_dir():
        message += f' There is no folder {root}.'
    elif marked:
        message += f' {root} looks like the folder of {" and ".join(marked)}: were folders mixed up?'
    elif inner := [one.folder for one in known if (root / one.folder).is_dir()]:
        message += f' {root} holds {", ".join(inner)}: give the folder of the one dataset.'
    raise FileNotFoundError(message)


def person(fields: annotation_file.Fields, *, labels: Mapping[str, Any], **known: Any) -> AnnotatedPerson:
    """Returns the person of an annotation, with its `image_id` and `id` where these are whole numbers.

    Args:
        labels: of any types, see `finished`.
        **known: name, photo and, where there are such, sequence and action, as in `AnnotatedPerson`.
    """
    image_id, annotation_id = (
        value if isinstance(value, int) and not isinstance(value, bool) else None
        for value in (fields.item.get('image_id'), fields.item.get('id'))
    )
    return AnnotatedPerson(labels=finished(labels), image_id=image_id, annotation_id=annotation_id, **known)


# ---- fields of `record.FEATURES`, to be merged into a person's labels


def start(width: int, height: int, box: np.ndarray, box_enlargement: float) -> dict[str, Any]:
    """Returns the labels of a person of whom only the box is known: `record.FEATURES` without region_*."""
    known = {'width': width, 'height': height, 'box': box, 'box_enlargement': box_enlargement}
    return {name: value for name, value in (record.blank() | known).items() if not name.startswith('region_')}


def camera(focal: np.ndarray, centre: np.ndarray, root_m: np.ndarray) -> dict[str, Any]:
    """Returns the fields of a known camera, pixels, and the annotation's root (3,), camera frame, metres."""
    return {'focal': focal, 'centre': centre, 'root_m': root_m, 'camera_weight': 1.0}


def joints(points_m: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Returns joints_m and its weights from joints (29, 3), camera frame, metres; valid (29,) ones exist."""
    valid = np.asarray(valid, bool)
    return {'joints_m': np.where(valid[:, None], points_m - points_m[0], 0), 'joints_weight': valid}


def pixels(places: np.ndarray, depth_m: np.ndarray | None, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Returns joints_px and its weights from photo pixels (29, 2) and depths (29,), to joint 0, or None."""
    known = depth_m is not None
    valid = np.asarray(valid, bool)[:, None]
    both = np.concatenate([places, depth_m[:, None] if known else np.zeros((29, 1))], 1)
    weight = np.concatenate([valid, valid, valid & known], 1)
    return {'joints_px': np.where(weight, both, 0), 'joints_px_weight': weight}


def projected(
    points_m: np.ndarray, valid: np.ndarray, focal: np.ndarray, centre: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns joints_px and its weights by projecting joints (29, 3), camera frame, metres.

    A joint in the camera's plane has no pixel: its weight is zero.
    """
    valid = np.asarray(valid, bool) & (points_m[:, 2] != 0)
    points_m = np.where(valid[:, None], points_m, [0.0, 0.0, 1.0])
    return pixels(project(points_m, focal, centre), points_m[:, 2] - points_m[0, 2], valid)


def h36m_joints(points_m: np.ndarray) -> dict[str, np.ndarray]:
    """Returns h36m_joints_m and its weights from all 17 joints (17, 3), camera frame, metres."""
    return {'h36m_joints_m': points_m - points_m[0], 'h36m_weight': np.ones(17)}


def finished(labels: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns labels in the types of `record.FEATURES`; `record.check` looks at their shapes."""
    return {name: np.asarray(value, record.FEATURES[name].dtype) for name, value in labels.items()}


def padded(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (24 or 29, ...) filled up with zeros to 29, and which of them there are, (29,) bool."""
    out = np.zeros((29, *points.shape[1:]))
    out[: len(points)] = points
    return out, np.arange(29) < len(points)
