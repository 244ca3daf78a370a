"""Error measures of 3D human pose, in metres, per frame; millimetres are made where figures are reported."""

from collections.abc import Sequence

import numpy as np

from hybrik_jax.units import MM_PER_M

PCK_THRESHOLD_M = 0.150
AUC_THRESHOLDS_M = np.arange(0, 151, 5) / MM_PER_M


def joint_errors(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the Euclidean distances (..., J) of points (..., J, 3)."""
    if prediction.shape != truth.shape:
        raise ValueError(f'prediction {prediction.shape} and truth {truth.shape} differ in shape.')
    return np.linalg.norm(prediction - truth, axis=-1)


def mpjpe(prediction: np.ndarray, truth: np.ndarray, *, joints: Sequence[int] | None = None) -> np.ndarray:
    """Returns the mean per joint position error (N,) after subtracting each side's own joint 0.

    Args:
        prediction, truth: (N, J, 3) metres, camera frame.
        joints: the protocol's joints, indices into J; None: all.
    """
    errors = joint_errors(prediction - prediction[:, :1], truth - truth[:, :1])
    return (errors if joints is None else errors[:, list(joints)]).mean(-1)


def similarity_align(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns `prediction` (N, J, 3) brought onto `truth` by the best scale, rotation and translation.

    No reflection. A prediction without extent (all joints in one point) comes back as the truth's mean.

    Source: Umeyama 1991.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f'prediction {prediction.shape} and truth {truth.shape} differ in shape.')
    p_mean, t_mean = prediction.mean(1, keepdims=True), truth.mean(1, keepdims=True)
    p, t = prediction - p_mean, truth - t_mean
    u, s, vt = np.linalg.svd(np.swapaxes(p, 1, 2) @ t)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = np.swapaxes((u * sign[:, None]) @ vt, 1, 2)
    variance = (p**2).sum((1, 2))
    scale = np.divide((s * sign).sum(1), variance, out=np.zeros_like(variance), where=variance > 0)
    return scale[:, None, None] * np.swapaxes(rotation @ np.swapaxes(p, 1, 2), 1, 2) + t_mean


def pa_mpjpe(prediction: np.ndarray, truth: np.ndarray, *, joints: Sequence[int] | None = None) -> np.ndarray:
    """Returns the error (N,) after `similarity_align` on all J joints, over the protocol's joints."""
    errors = joint_errors(similarity_align(prediction, truth), truth)
    return (errors if joints is None else errors[:, list(joints)]).mean(-1)


def pck_auc(errors_m: np.ndarray, groups: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns PCK at 150 mm and AUC over 0, 5, ..., 150 mm, percent: (G + 1,) each.

    The last is over all groups, weighted by group size.

    Args:
        errors_m: (N, J) joint errors of one sequence, metres.
        groups: G lists of columns, such as [[0], [1], [2, 5], ...]; errors strictly below a threshold count.

    Source: MPI-INF-3DHP (Mehta et al. 2017), as the released evaluation counts it.
    """
    sizes = [len(g) for g in groups]
    pck = np.array([(errors_m[:, list(g)] < PCK_THRESHOLD_M).mean() for g in groups])
    auc = np.array([np.mean([(errors_m[:, list(g)] < t).mean() for t in AUC_THRESHOLDS_M]) for g in groups])
    return tuple(100 * np.append(x, np.average(x, weights=sizes)) for x in (pck, auc))


def geometric_median(points: np.ndarray) -> np.ndarray:
    """Returns the point (D,) with the least mean distance to points (N, D), by Weiszfeld's iteration."""
    points = np.asarray(points, np.float64)
    median = points.mean(0)
    for _ in range(100):
        nearness = 1.0 / np.maximum(np.linalg.norm(points - median, axis=1), 1e-9)
        median = nearness @ points / nearness.sum()
    return median
