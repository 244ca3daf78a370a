"""From network coordinates to the camera frame, for one person; the way back to pixels is in `projection`."""

import jax
import jax.numpy as jnp

from hybrik_jax.body import rotations
from hybrik_jax.units import DEPTH_SCALE_M

SQUARE_M = 2.0  # side of the square whose depth is that of a crop which it fills
OWN_FOCAL = 1000.0 / 256.0  # of the camera that HybrIK's camera networks assume, in crop widths
NARROWEST = 1e-3  # least scale: the crop is a kilometre wide


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
    rays = rays_of(uvd, crop_to_photo, inverse_intrinsics, crop_size)
    joints_m = rays * (DEPTH_SCALE_M * uvd[:, 2:] + root_m[2]) - root_m
    return joints_m - joints_m[:1]


def rays_of(
    uvd: jax.Array, crop_to_photo: jax.Array, inverse_intrinsics: jax.Array, crop_size: int
) -> jax.Array:
    """Returns where joints (K, 2 or 3) were at a depth of one, (K, 3); arguments as in `uvd_to_camera`."""
    crop = (uvd[:, :2] + 0.5) * crop_size
    photo = rotations.rotate(crop_to_photo[:, :2], crop) + crop_to_photo[:, 2]
    homogeneous = jnp.concatenate([photo, jnp.ones_like(photo[:, :1])], axis=-1)
    return rotations.rotate(inverse_intrinsics, homogeneous)


def square_depth(crop_to_photo: jax.Array, inverse_intrinsics: jax.Array, crop_size: int) -> jax.Array:
    """Returns the depth (), metres, at which a square of 2 m fills a crop; 0 where the camera is unknown.

    Arguments are those of `uvd_to_camera`; the two focal lengths count by their geometric mean.
    """
    flat = inverse_intrinsics[0, 0] * inverse_intrinsics[1, 1]
    known = flat > 0
    focal = jax.lax.rsqrt(jnp.where(known, flat, 1.0))
    return jnp.where(known, SQUARE_M * focal / side_px(crop_to_photo, crop_size), 0.0)


def side_px(crop_to_photo: jax.Array, crop_size: int) -> jax.Array:
    """Returns the side of a crop in pixels of its photo."""
    (a, b), (c, d) = crop_to_photo[:, :2]
    return crop_size * jnp.sqrt(jnp.abs(a * d - b * c))


def depth_of_scale(scale: jax.Array, square_m: jax.Array) -> jax.Array:
    """Returns the root's depth, metres, from a crop's scale and its `square_depth`.

    A crop that is 1 / scale metres wide at the root's depth fills up with a square of 2 m at `square_m`.
    """
    return square_m / (SQUARE_M * jnp.maximum(scale, NARROWEST))


def own_intrinsics(
    crop_to_photo: jax.Array, inverse_intrinsics: jax.Array, *, crop_size: int, of_photo: bool
) -> jax.Array:
    """Returns the inverse intrinsics (3, 3) of a camera of 1000 px for a crop of 256 px.

    Args:
        crop_to_photo, inverse_intrinsics: as in `uvd_to_camera`.
        of_photo: its principal point is that of `inverse_intrinsics`; False, or where they are zero: the
            middle of the crop.
    """
    centre = rotations.rotate(crop_to_photo[:, :2], jnp.full(2, crop_size / 2)) + crop_to_photo[:, 2]
    if of_photo:
        flat = jnp.stack([inverse_intrinsics[0, 0], inverse_intrinsics[1, 1]])
        known = flat > 0
        centre = jnp.where(known, -inverse_intrinsics[:2, 2] / jnp.where(known, flat, 1.0), centre)
    focal = OWN_FOCAL * side_px(crop_to_photo, crop_size)
    across = jnp.concatenate([jnp.eye(2) / focal, -centre[:, None] / focal], axis=1)
    return jnp.concatenate([across, jnp.array([[0.0, 0.0, 1.0]])])


def fitted_depth(
    rays: jax.Array, joints_m: jax.Array, depths_m: jax.Array, sigmas: jax.Array, otherwise: jax.Array
) -> jax.Array:
    """Returns the root's depth, metres, at which a body projects closest to where its joints were seen.

    Least squares over X = ray (D + depth) in x and y, each joint weighted by max(0, 1 - 10 sigma).

    Args:
        rays: (J, 3) of the joints that were seen, see `rays_of`.
        joints_m: (J, 2 or 3) x and y of the body's joints in the camera frame.
        depths_m: (J,) their depths relative to the root's.
        sigmas: (J,) as in `Lifted`.
        otherwise: what is returned where the joints do not tell.
    """
    weights = jnp.square(jnp.maximum(0.0, 1.0 - 10.0 * sigmas))[:, None]
    rays = rays[:, :2]
    left = jnp.sum(weights * jnp.square(rays))
    right = jnp.sum(weights * rays * (joints_m[:, :2] - rays * depths_m[:, None]))
    return jnp.where(left > 0, right / jnp.where(left > 0, left, 1.0), otherwise)
