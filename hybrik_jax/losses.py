"""The training loss: terms as (sum of errors, what to divide by), so that both can travel across devices.

Coordinates enter in crop units (uvd) or in units of 2 m; the factor 64 of the L1 terms and the two kinds of mean are
the released program's, fixed by its recorded values.
"""

import chex
import jax
import jax.numpy as jnp

from hybrik_jax.body import rotations as rot
from hybrik_jax.data.augment import DEPTH_SCALE_M
from hybrik_jax.types import Batch, BodyPrediction, Lifted

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


def loss_terms(lifted: Lifted, body: BodyPrediction, batch: Batch) -> dict[str, Term]:
    """Returns the terms by the names of `config.loss`: uvd, betas, rotations, twists, smpl_joints, h36m_joints.

    `h36m_joints` is there only if the prediction has them (it takes skinning).
    Source: HybrIK (Li et al. 2021), section 3.4, with the weights of the released program.
    """
    joints = lifted.uvd.shape[1]
    quaternions = jax.vmap(jax.vmap(rot.matrix_to_quaternion))(body.rotations)
    smpl_weight = batch.smpl_weight[:, None]

    def over(weight: jax.Array, like: jax.Array) -> jax.Array:
        return jnp.broadcast_to(weight.reshape(weight.shape + (1,) * (like.ndim - weight.ndim)), like.shape)

    terms = {
        'uvd': weighted_l1(lifted.uvd, batch.uvd[:, :joints], batch.uvd_weight[:, :joints]),
        'betas': masked_mse(lifted.betas, batch.betas, over(batch.smpl_weight, batch.betas)),
        'rotations': masked_mse(quaternions, batch.quaternions, over(smpl_weight, quaternions)),
        'twists': masked_mse(lifted.twists, batch.twists, over(batch.twist_weight, batch.twists)),
        'smpl_joints': weighted_l1(
            body.smpl_joints_m / DEPTH_SCALE_M,
            batch.joints_m / DEPTH_SCALE_M,
            over(batch.joints_weight, batch.joints_m),
        ),
    }
    if body.h36m_joints_m is not None:
        terms['h36m_joints'] = weighted_l1(
            body.h36m_joints_m / DEPTH_SCALE_M,
            batch.h36m_joints_m / DEPTH_SCALE_M,
            over(batch.h36m_weight, batch.h36m_joints_m),
        )
    return terms


def ratio(numerator: jax.Array, divisor: jax.Array) -> jax.Array:
    """Returns numerator / divisor, and 0 where there is nothing to divide by (no label of that kind in the batch)."""
    return jnp.where(divisor > 0, numerator / jnp.where(divisor > 0, divisor, 1.0), 0.0)
