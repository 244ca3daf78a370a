"""How well people lie on photos: 2D keypoints against labels that anybody can make of their own pictures.

A keypoint is right where it is closer to its label than 0.2 of the person's torso, which is measured on the
photo from the left shoulder to the right hip, or from the right shoulder to the left hip: whichever is
longer. Source: the percentage of correct keypoints of Yang and Ramanan 2013, with the torso of Sapp and
Taskar 2013.
"""

from collections.abc import Sequence

import numpy as np

PCK_SHARE = 0.2
ALL = 'all'  # keypoints together
TORSO = (('left_shoulder', 'right_hip'), ('right_shoulder', 'left_hip'))


def torso_px(points_px: np.ndarray, labelled: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns the length of each person's torso (N,), pixels; NaN where neither of its diagonals is labelled.

    Args:
        points_px: (N, K, 2) labels.
        labelled: (N, K) bool, which of them there are.
        names: of the K keypoints.
    """
    lengths = []
    for pair in TORSO:
        one, other = (names.index(name) for name in pair)
        length = np.linalg.norm(points_px[:, one] - points_px[:, other], axis=-1)
        lengths.append(np.where(labelled[:, one] & labelled[:, other], length, -1.0))
    longer = np.max(lengths, axis=0)
    return np.where(longer > 0, longer, np.nan)


def relative_errors(
    predicted_px: np.ndarray, true_px: np.ndarray, labelled: np.ndarray, torsos_px: np.ndarray
) -> np.ndarray:
    """Returns distances (N, K) in torso lengths; NaN where there is no label or no torso.

    Args:
        predicted_px, true_px: (N, K, 2) pixels of the same photos.
        labelled: (N, K) bool, the labels that count.
        torsos_px: (N,) as of `torso_px`.
    Raises:
        ValueError: for shapes that do not belong together, or a prediction that is not finite.
    """
    if predicted_px.shape != true_px.shape or labelled.shape != true_px.shape[:2]:
        raise ValueError(
            f'predicted {predicted_px.shape}, true {true_px.shape} and labelled {labelled.shape} keypoints '
            'must be (N, K, 2), (N, K, 2) and (N, K).'
        )
    if not np.isfinite(predicted_px).all():
        raise ValueError('A predicted keypoint is not finite.')
    distances = np.linalg.norm(predicted_px - true_px, axis=-1) / torsos_px[:, None]
    return np.where(labelled, distances, np.nan)


def score(errors: np.ndarray, torsos_px: np.ndarray) -> dict[str, float]:
    """Returns the figures of relative errors (N, K): over all labels in them, not over people.

    pck: percent below 0.2. error: mean, percent of the torso. error_px: mean, pixels of the photo. keypoints:
    how many there are. With no label there are no figures but that.

    Args:
        torsos_px: (N,) as of `torso_px`.
    """
    known = ~np.isnan(errors)
    if not known.any():
        return {'keypoints': 0}
    return {
        'keypoints': int(known.sum()),
        'pck': 100.0 * float((errors[known] < PCK_SHARE).mean()),
        'error': 100.0 * float(errors[known].mean()),
        'error_px': float((errors * torsos_px[:, None])[known].mean()),
    }


def by_part(errors: np.ndarray, torsos_px: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns the figures of errors (N, K) over all keypoints and of each, left and right together.

    Args:
        torsos_px: (N,) as of `torso_px`.
        names: of the K keypoints.
    """
    parts = [name.removeprefix('left_').removeprefix('right_') for name in names]
    rows = {ALL: score(errors, torsos_px)}
    for part in dict.fromkeys(parts):
        rows[part] = score(errors[:, [one == part for one in parts]], torsos_px)
    return rows
