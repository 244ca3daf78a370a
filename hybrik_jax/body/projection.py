"""From the camera frame to pixels, for NumPy and JAX arrays alike; nothing is imported."""

from typing import Any


def project(points_m: Any, focal: Any, centre: Any) -> Any:
    """Returns pixels (..., 2), centres at integers, of camera-frame points (..., 3), metres; no distortion.

    Args:
        focal, centre: (2,) pixels; focal may be one number. A point in the camera's plane (z = 0) has no
            pixel.
    """
    return points_m[..., :2] / points_m[..., 2:] * focal + centre
