"""Lifting by the heat maps of an HRNet's own finest branch: HybrIK's network for photos without a known root.

Source: Li et al., HybrIK-X (2023), and its released program's HRNet with a camera.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.body.smpl import NUM_BETAS
from hybrik_jax.model.deconv import OWN_DEPTH
from hybrik_jax.model.lifting import NUM_TWISTS, START_SCALE, linear
from hybrik_jax.types import Lifted

NUM_JOINTS = 29


def columns_of(volumes: jax.Array) -> jax.Array:
    """Returns what each column of heat-map volumes adds up to: (B, K, columns, 3), see `Lifted.columns`.

    Args:
        volumes: (B, rows, columns, K, depths) scores; their softmax over a joint's whole volume is the
            probability of the joint's place.
    """
    probability = nn.softmax(volumes, axis=(1, 2, 4))
    rows, depths = (jnp.arange(volumes.shape[axis]) / volumes.shape[axis] for axis in (1, 4))
    by_row = probability.sum(axis=4)
    row_share = jnp.einsum('brck,r->bkc', by_row, rows)
    depth_share = jnp.einsum('bckd,d->bkc', probability.sum(axis=1), depths)
    return jnp.stack([jnp.swapaxes(by_row.sum(axis=1), 1, 2), row_share, depth_share], axis=-1)


def expected_uvd(columns: jax.Array) -> jax.Array:
    """Returns the joints (B, K, 3) of `Lifted.columns`: the expected place, d in units of 2 m."""
    places = jnp.arange(columns.shape[2]) / columns.shape[2]
    mass, v, d = jnp.moveaxis(columns.sum(axis=2), -1, 0)
    u = jnp.sum(columns[..., 0] * places, axis=-1)
    mass = jnp.maximum(mass, 1e-6)  # less than one where `mirrored_columns` has moved a column out
    u, v, d = u / mass, v / mass, d / mass
    return jnp.stack([u - 0.5, v - 0.5, OWN_DEPTH * (d - 0.5)], axis=-1)


def mirrored_columns(columns: jax.Array) -> jax.Array:
    """Returns `Lifted.columns` of the mirror image, as released: moved by one column, the first one twice.

    Joints keep their places among the joints.
    """
    columns = columns[..., ::-1, :]
    return jnp.concatenate([columns[..., :1, :], columns[..., :-1, :]], axis=-2)


class VolumeLifting(nn.Module):
    """Lifts (feature map (B, h, w, C), finest branch (B, 8 h, 8 w, W)) to a `Lifted` of 29 joints.

    A 1x1 convolution makes heat-map volumes of (depth_bins, 8 h, 8 w) per joint; global average pooling and a
    linear layer each make twists, shape, the scale of the network's own camera and the joints' uncertainty.

    depth_bins, dtype: as in `DeconvLifting`.
    """

    depth_bins: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: tuple[jax.Array, jax.Array], *, training: bool, init_betas: jax.Array
    ) -> Lifted:
        del training  # nothing is dropped
        pooled, finest = features
        full = jnp.promote_types(pooled.dtype, jnp.float32)
        small = nn.initializers.normal(0.001)
        heat_map = nn.Conv(
            NUM_JOINTS * self.depth_bins, (1, 1), kernel_init=small, dtype=self.dtype, name='heat_map'
        )
        x = heat_map(finest.astype(self.dtype)).astype(full)
        columns = columns_of(x.reshape(*x.shape[:3], NUM_JOINTS, self.depth_bins))
        h = pooled.astype(full).mean(axis=(1, 2))
        twists = linear(NUM_TWISTS * 2, dtype=full, name='head_twists')(h)
        return Lifted(
            uvd=expected_uvd(columns),
            twists=twists.reshape(-1, NUM_TWISTS, 2),
            leaf_quaternions=None,
            betas=init_betas + linear(NUM_BETAS, dtype=full, name='head_betas')(h),
            scale=START_SCALE + linear(1, dtype=full, name='head_camera')(h)[:, 0],
            sigmas=nn.sigmoid(linear(NUM_JOINTS, dtype=full, name='head_sigmas')(h)),
            columns=columns,
        )


def create(config: Any, axis_name: str | None) -> VolumeLifting:
    """Returns the lifting network of `config`, a section `model`; its heat maps are those of `deconv`.

    The backbone must be a HRNet: `config.check` refuses others.
    """
    return VolumeLifting(depth_bins=config.deconv.depth_bins, dtype=jnp.dtype(config.deconv.dtype))
