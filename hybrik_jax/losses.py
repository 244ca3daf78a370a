"""The training loss: terms as (sum of errors, what to divide by), so that both can travel across devices.

Coordinates enter in crop units (uvd) or in units of 2 m; the factor 64 of the L1 terms and the two kinds of mean are
the released program's, fixed by its recorded values.
"""

import chex
import jax
import jax.numpy as jnp

from hybrik_jax.data.augment import DEPTH_SCALE_M
from hybrik_jax.types import Batch

L1_FACTOR = 64.0
Term = tuple[jax.Array, jax.Array]  # sum of errors, divisor


def weighted_l1(prediction: jax.Array, target: jax.Array, weight: jax.Array) -> Term:
    """Returns (64 x weighted sum of absolute errors, sum of weights); the three shapes must be equal."""
    chex.assert_equal_shape([prediction, target, weight])
    return L1_FACTOR * jnp.sum(weight * jnp.abs(prediction - target)), jnp.sum(weight)


def masked_mse(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> Term:
    """Returns (sum of masked squared errors, number of *all* elements); the three shapes must be equal."""
    chex.assert_equal_shape([prediction, target, mask])
    return jnp.sum(jnp.square(mask * (prediction - target))), jnp.asarray(prediction.size, prediction.dtype)


def loss_terms(
    *,
    uvd: jax.Array,
    betas: jax.Array,
    quaternions: jax.Array,
    twists: jax.Array,
    smpl_joints_m: jax.Array,
    h36m_joints_m: jax.Array | None,
    batch: Batch,
) -> dict[str, Term]:
    """Returns the terms by the names of `config.loss`: uvd, betas, rotations, twists, smpl_joints, h36m_joints.

    Args:
        uvd: (B, 24 or 29, 3); fewer joints than the targets' 29 are compared with the first ones.
        betas, quaternions, twists: (B, 10), (B, 24, 4), (B, 23, 2).
        smpl_joints_m, h36m_joints_m: (B, 24, 3), (B, 17, 3) of the posed body, root-relative; the latter's term is
            left out where it is None.
    Source: HybrIK (Li et al. 2021), section 3.4, with the weights and means of the released program.
    """
    joints = uvd.shape[1]

    def over(weight: jax.Array, like: jax.Array) -> jax.Array:
        return jnp.broadcast_to(weight.reshape(weight.shape + (1,) * (like.ndim - weight.ndim)), like.shape)

    def joints_term(joints_m: jax.Array, target_m: jax.Array, weight: jax.Array) -> Term:
        return weighted_l1(joints_m / DEPTH_SCALE_M, target_m / DEPTH_SCALE_M, over(weight, target_m))

    terms = {
        'uvd': weighted_l1(uvd, batch.uvd[:, :joints], batch.uvd_weight[:, :joints]),
        'betas': masked_mse(betas, batch.betas, over(batch.smpl_weight, betas)),
        'rotations': masked_mse(quaternions, batch.quaternions, over(batch.smpl_weight, quaternions)),
        'twists': masked_mse(twists, batch.twists, over(batch.twist_weight, twists)),
        'smpl_joints': joints_term(smpl_joints_m, batch.joints_m, batch.joints_weight),
    }
    if h36m_joints_m is not None:
        terms['h36m_joints'] = joints_term(h36m_joints_m, batch.h36m_joints_m, batch.h36m_weight)
    return terms


def ratio(numerator: jax.Array, divisor: jax.Array) -> jax.Array:
    """Returns numerator / divisor, and 0 where there is nothing to divide by (no label of that kind in the batch)."""
    return jnp.where(divisor > 0, numerator / jnp.where(divisor > 0, divisor, 1.0), 0.0)
