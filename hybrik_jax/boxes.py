"""Boxes of people, pixels: x y w h as annotations give them, x0 y0 x1 y1 as records hold them."""

from collections.abc import Sequence

import numpy as np


def clipped(xywh: Sequence[float], width: int, height: int) -> np.ndarray | None:
    """Returns the box x0 y0 x1 y1 (4,) float32 of a box x y w h; None where nothing of it is on the photo.

    x1 = x0 + max(0, w - 1), then both to [0, width - 1]; likewise y.

    Raises:
        ValueError: a number that is not finite.
    """
    x, y, w, h = (float(number) for number in xywh)
    if not np.isfinite([x, y, w, h]).all():
        raise ValueError(f'box {[x, y, w, h]} is not finite')
    low = np.clip([x, y], 0, [width - 1, height - 1])
    high = np.clip([x + max(0.0, w - 1), y + max(0.0, h - 1)], 0, [width - 1, height - 1])
    return np.array([*low, *high], np.float32) if (high > low).all() else None


def centre_and_side(xyxy: np.ndarray, enlargement: float) -> tuple[np.ndarray, float]:
    """Returns the centre (2,) of a box and the side of the square crop around it: its longer one, larger."""
    box = np.asarray(xyxy, np.float64)
    return (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max() * enlargement)


def as_corners(xywh: np.ndarray) -> np.ndarray:
    """Returns boxes x y w h (N, 4) as x0 y0 x1 y1."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the intersection over union (...,) of boxes x0 y0 x1 y1 (..., 4), which broadcast."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=-1)
    either = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - inside
    return inside / np.maximum(either, 1e-9)
