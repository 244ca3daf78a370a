"""The training loss: terms as (sum of errors, what to divide by), so that both can travel across devices.

Coordinates enter in crop units (uvd) or in units of 2 m; the factor 64 of the L1 terms and the two kinds of
mean are the released program's, fixed by its recorded values. What a network with a camera adds is not
specified beyond 'a Laplace likelihood with the sigmas': the likelihood's constants and the term `camera`,
which no gradient of another term replaces, were chosen here.
A RootNet's terms have the same form: its place in cells of a heat map of 64 x 64, its depth in 2 m / 64.
Source: HybrIK (Li et al. 2021), section 3.4, with the weights and means of the released program; RootNet
(Moon et al. 2019), section 5.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from hybrik_jax.body import camera
from hybrik_jax.body import rotations as rot
from hybrik_jax.types import Batch, Lifted, Posed, Rooted
from hybrik_jax.units import DEPTH_SCALE_M

L1_FACTOR = 64.0
LEAST_SIGMA = 1e-4  # of a crop's width, in the likelihood
Ratio = tuple[jax.Array, jax.Array]  # sum of errors, divisor


@dataclasses.dataclass(frozen=True)
class Term:
    """One term of the loss.

    error: (lifted, posed, batch) -> (sum of errors, divisor); of a RootNet (rooted, None, batch).
    needs_mesh: whether it reads `posed.vertices_m`.
    needs_regressor: whether it reads `posed.h36m_joints_m`.
    output: what the networks say that it is a term of.
    needs_camera: whether it is one of networks with a camera only.
    """

    error: Callable[[Any, Any, Batch], Ratio]
    needs_mesh: bool = False
    needs_regressor: bool = False
    output: type = Lifted
    needs_camera: bool = False


def weighted_l1(prediction: jax.Array, target: jax.Array, weight: jax.Array) -> Ratio:
    """Returns (64 x weighted sum of absolute errors, sum of weights); the three shapes must be equal."""
    chex.assert_equal_shape([prediction, target, weight])
    return L1_FACTOR * jnp.sum(weight * jnp.abs(prediction - target)), jnp.sum(weight)


def masked_mse(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> Ratio:
    """Returns (sum of masked squared errors, number of *all* elements); the three shapes must be equal."""
    chex.assert_equal_shape([prediction, target, mask])
    return jnp.sum(jnp.square(mask * (prediction - target))), jnp.asarray(prediction.size, prediction.dtype)


def uvd(lifted: Lifted, posed: Posed, batch: Batch) -> Ratio:
    """Returns the error of the lifted joints; 24 of them are compared with the first 24 of the 29 targets.

    With sigmas it is their negative log likelihood, Laplace's, each coordinate by itself.
    """
    joints = lifted.uvd.shape[1]
    target, weight = batch.uvd[:, :joints], batch.uvd_weight[:, :joints]
    if lifted.sigmas is None:
        return weighted_l1(lifted.uvd, target, weight)
    sigmas = jnp.maximum(lifted.sigmas, LEAST_SIGMA)[..., None]
    surprise = jnp.log(2.0 * sigmas) + jnp.abs(lifted.uvd - target) / sigmas
    return jnp.sum(weight * surprise), jnp.sum(weight)


def scale_error(lifted: Lifted, posed: Posed, batch: Batch) -> Ratio:
    """Returns the relative error of the scale; of the crop's own camera, that of the translation is added.

    The truth is what the labelled root's depth makes of them; without a known camera there is none.
    """
    square_m = jax.vmap(camera.square_depth, (0, 0, None))(
        batch.crop.crop_to_photo, batch.crop.inverse_intrinsics, batch.image.shape[1]
    )
    depth_m = batch.crop.root_m[:, 2]
    known = (square_m > 0) & (depth_m > 0)
    scale = jnp.where(known, square_m, camera.SQUARE_M) / (camera.SQUARE_M * jnp.where(known, depth_m, 1.0))
    error = jnp.abs(lifted.scale / scale - 1.0)
    if lifted.translation is not None:
        # Joint 0 is u across a crop that is 1 / scale metres wide there.
        across = (lifted.translation - batch.uvd[:, 0, :2] / scale[:, None]) * scale[:, None]
        error += jnp.sum(batch.uvd_weight[:, 0, :2] * jnp.abs(across), axis=-1)
    return jnp.sum(jnp.where(known, error, 0.0)), jnp.sum(known.astype(error.dtype))


def betas(lifted: Lifted, posed: Posed, batch: Batch) -> Ratio:
    """Returns the error of the shape."""
    return masked_mse(lifted.betas, batch.betas, _over(batch.smpl_weight, lifted.betas))


def rotations(lifted: Lifted, posed: Posed, batch: Batch) -> Ratio:
    """Returns the error of the solved rotations, as quaternions."""
    return quaternions(jax.vmap(jax.vmap(rot.matrix_to_quaternion))(posed.rotations), batch)


def quaternions(quaternions: jax.Array, batch: Batch) -> Ratio:
    """Returns the error of local rotations given as quaternions (B, 24, 4)."""
    return masked_mse(quaternions, batch.quaternions, _over(batch.smpl_weight, quaternions))


def twists(lifted: Lifted, posed: Posed, batch: Batch) -> Ratio:
    """Returns the error of the twists' cosines and sines."""
    return masked_mse(lifted.twists, batch.twists, _over(batch.twist_weight, lifted.twists))


def smpl_joints(lifted: Lifted, posed: Posed, batch: Batch) -> Ratio:
    """Returns the error of the posed body's SMPL joints, root-relative."""
    return joints(posed.posed_joints_m, batch.joints_m, batch.joints_weight)


def h36m_joints(lifted: Lifted, posed: Posed, batch: Batch) -> Ratio:
    """Returns the error of the posed body's Human3.6M joints, relative to their own pelvis."""
    own = posed.h36m_joints_m - posed.h36m_joints_m[:, :1]
    return joints(own, batch.h36m_joints_m, batch.h36m_weight)


def joints(joints_m: jax.Array, target_m: jax.Array, weight: jax.Array) -> Ratio:
    """Returns the error of joints (B, J, 3), metres, with weights (B, J) or (B, J, 3)."""
    return weighted_l1(joints_m / DEPTH_SCALE_M, target_m / DEPTH_SCALE_M, _over(weight, target_m))


def root_uv(rooted: Rooted, posed: None, batch: Batch) -> Ratio:
    """Returns the error of the root's place in the crop."""
    return weighted_l1(rooted.uv, batch.uvd[:, 0, :2], batch.uvd_weight[:, 0, :2])


def root_depth(rooted: Rooted, posed: None, batch: Batch) -> Ratio:
    """Returns the error of the root's distance from the camera plane, where the camera is known."""
    placed, true_m = (batch.crop.crop_to_photo, batch.crop.inverse_intrinsics), batch.crop.root_m[:, 2]
    square_m = jax.vmap(camera.square_depth, (0, 0, None))(*placed, batch.image.shape[1])
    known = (square_m > 0).astype(true_m.dtype)
    return weighted_l1(rooted.depth_ratio * square_m / DEPTH_SCALE_M, true_m / DEPTH_SCALE_M, known)


TERMS = {
    'uvd': Term(uvd),
    'betas': Term(betas),
    'rotations': Term(rotations),
    'twists': Term(twists),
    'smpl_joints': Term(smpl_joints),
    'h36m_joints': Term(h36m_joints, needs_regressor=True),
    'camera': Term(scale_error, needs_camera=True),
    'root_uv': Term(root_uv, output=Rooted),
    'root_depth': Term(root_depth, output=Rooted),
}


def need_mesh(weights: Mapping[str, float]) -> bool:
    """Returns whether a term with a weight needs the mesh."""
    return any(weights[name] > 0 and term.needs_mesh for name, term in TERMS.items())


def of_output(output: type) -> dict[str, Term]:
    """Returns the terms of networks that say this: `Lifted` or `Rooted`."""
    return {name: term for name, term in TERMS.items() if term.output is output}


def terms(output: Lifted | Rooted, posed: Posed | None, batch: Batch) -> dict[str, Ratio]:
    """Returns the terms by their names in `config.loss` whose mesh, regressor and camera are there."""
    skinned = posed is not None and posed.vertices_m is not None
    regressed = posed is not None and posed.h36m_joints_m is not None
    sees = isinstance(output, Lifted) and output.scale is not None
    present = {
        name: term
        for name, term in of_output(type(output)).items()
        if (skinned or not term.needs_mesh)
        and (regressed or not term.needs_regressor)
        and (sees or not term.needs_camera)
    }
    return {name: term.error(output, posed, batch) for name, term in present.items()}


def ratio(numerator: jax.Array, divisor: jax.Array) -> jax.Array:
    """Returns numerator / divisor, and 0 where there is no label of that kind in the batch to divide by."""
    return jnp.where(divisor > 0, numerator / jnp.where(divisor > 0, divisor, 1.0), 0.0)


def _over(weight: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.broadcast_to(weight.reshape(weight.shape + (1,) * (like.ndim - weight.ndim)), like.shape)
