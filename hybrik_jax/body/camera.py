"""From network coordinates to the camera frame, for one person; the way back to pixels is in `projection`."""

import jax
import jax.numpy as jnp

from hybrik_jax.body import rotations
from hybrik_jax.units import DEPTH_SCALE_M

SQUARE_M = 2.0  # side of the square that a person is taken to fill


def uvd_to_camera(
    uvd: jax.Array,
    crop_to_photo: jax.Array,
    inverse_intrinsics: jax.Array,
    root_m: jax.Array,
    *,
    crop_size: int,
) -> jax.Array:
    """Returns joints (K, 3) in the camera frame, metres, relative to joint 0.

    Args:
        uvd: (K, 3) u, v in [-0.5, 0.5] across the crop, d the depth relative to the root over 2 m.
        crop_to_photo: (2, 3) inverse crop affine, crop pixels -> photo pixels.
        inverse_intrinsics: (3, 3) photo pixels -> ray with z = 1; zero (camera unknown) gives zero joints.
        root_m: (3,) root joint in the camera frame, metres.
        crop_size: side of the square crop, pixels.
    """
    crop = (uvd[:, :2] + 0.5) * crop_size
    photo = rotations.rotate(crop_to_photo[:, :2], crop) + crop_to_photo[:, 2]
    homogeneous = jnp.concatenate([photo, jnp.ones_like(photo[:, :1])], axis=-1)
    rays = rotations.rotate(inverse_intrinsics, homogeneous)
    joints_m = rays * (DEPTH_SCALE_M * uvd[:, 2:] + root_m[2]) - root_m
    return joints_m - joints_m[:1]


def square_depth(crop_to_photo: jax.Array, inverse_intrinsics: jax.Array, crop_size: int) -> jax.Array:
    """Returns the depth (), metres, at which a square of 2 m fills a crop; 0 where the camera is unknown.

    Arguments are those of `uvd_to_camera`; the two focal lengths count by their geometric mean.
    """
    side = crop_size * jnp.sqrt(jnp.abs(jnp.linalg.det(crop_to_photo[:, :2])))
    inverse_focal = inverse_intrinsics[0, 0] * inverse_intrinsics[1, 1]
    known = inverse_focal > 0
    return jnp.where(known, SQUARE_M / (side * jnp.sqrt(jnp.where(known, inverse_focal, 1.0))), 0.0)
