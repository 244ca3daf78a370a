"""Skinning and inverse kinematics against recorded outputs.

Works on any folder of the form of `tests/golden`: `toy_body.py`, `lbs.npz` and
`ik_{24,29}joints_{eval,train}_noise*.npz`. The recordings are float32 arithmetic of another program in
another order: positions agree to 1e-5 m and quaternions to 1e-4 (a chain of nine joints, each a normalised
float32 vector); gradients pass through the normalisation of short vectors, hence 2e-4 of an array's maximum.
"""

import functools
import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from hybrik_jax.body import ik, rotations, smpl, smpl_file

Comparison = tuple[str, float, float]

_POSITION_M = 1e-5
_QUATERNION = 1e-4
_POSED_M = 1e-4  # joints and vertices posed by the solved rotations
_GRADIENT = 2e-4


def toy_body(golden_dir: str | Path, seed: int) -> smpl.SMPL:
    """Returns the body model of the recordings, made by `toy_body.py` of `golden_dir` from `seed`."""
    path = Path(golden_dir) / 'toy_body.py'
    spec = importlib.util.spec_from_file_location('recorded_toy_body', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return smpl_file.body_from_arrays(module.make_toy_body(seed), source=f'{path}, seed {seed}')


def compare_skinning(golden_dir: str | Path) -> list[Comparison]:
    """Returns (what, worst error, tolerance) of skinning against `lbs.npz`; metres, and rotation entries."""
    with np.load(Path(golden_dir) / 'lbs.npz') as file:
        recorded = {key: file[key] for key in file.files}
    body = toy_body(golden_dir, int(recorded['body_seed']))
    matrices = jax.vmap(jax.vmap(rotations.axis_angle_to_matrix))(recorded['pose'])
    posed = jax.jit(jax.vmap(smpl.skin, in_axes=(None, 0, 0)))(body, recorded['betas'], matrices)
    return [
        ('lbs rotations', _worst(matrices, recorded['rotations']), _POSITION_M),
        ('lbs vertices', _worst(posed.vertices[:, ::10], recorded['vertices_every_10']), _POSITION_M),
        ('lbs joints', _worst(posed.joints, recorded['joints']), _POSITION_M),
        ('lbs joints_h36m', _worst(posed.h36m_joints, recorded['joints_h36m']), _POSITION_M),
    ]


def compare_ik(golden_dir: str | Path) -> list[Comparison]:
    """Returns (what, worst error, tolerance) of the solver against every `ik_*.npz`.

    Quaternions; joints and vertices posed with them, metres; gradients, as a fraction of the recorded array's
    largest entry. Recorded gradient entries that are not finite are skipped; ours must be finite there.
    """
    files = sorted(Path(golden_dir).glob('ik_*joints_*_noise*.npz'))
    if not files:
        raise FileNotFoundError(f'{golden_dir}: no ik_*joints_*_noise*.npz files.')
    bodies, comparisons = {}, []
    for path in files:
        with np.load(path) as file:
            recorded = {key: file[key] for key in file.files}
        count, form = re.fullmatch(r'ik_(\d+)joints_(eval|train)_noise.*', path.stem).groups()
        seed = int(recorded['body_seed'])
        if seed not in bodies:
            bodies[seed] = toy_body(golden_dir, seed)
        inputs = {
            key: recorded[key]
            for key in ('skeleton', 'twists', 'betas', 'leaf_quaternions')
            if key in recorded
        }
        # The 24-joint recordings carry the released program's index slip in the right hand.
        right_hand = 'released' if count == '24' else 'leaf'
        form = {'eval': 'evaluation', 'train': 'training'}[form]
        quaternions, matrices, gradients = _solve(
            inputs, bodies[seed], recorded['grad_weights'], form=form, right_hand=right_hand
        )
        outputs = {'quaternions': quaternions, **_pose(bodies[seed], recorded['betas'], matrices)}
        for key, tolerance in (
            ('quaternions', _QUATERNION),
            ('joints', _POSED_M),
            ('joints_h36m', _POSED_M),
            ('vertices_every_10', _POSED_M),
        ):
            comparisons.append((f'{path.stem} {key}', _worst(outputs[key], recorded[key]), tolerance))
        for key, gradient in gradients.items():
            comparisons.append(
                (f'{path.stem} grad_{key}', _worst_gradient(gradient, recorded[f'grad_{key}']), _GRADIENT)
            )
    return comparisons


@functools.partial(jax.jit, static_argnames=('form', 'right_hand'))
def _solve(
    inputs: dict[str, jax.Array], body: smpl.SMPL, grad_weights: jax.Array, *, form: str, right_hand: str
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Returns quaternions, rotations, and the gradients of sum(quaternions * grad_weights) to the inputs."""

    def solve(inputs: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rest = jax.vmap(smpl.rest_joints, in_axes=(None, 0))(body, inputs['betas'])
        one = functools.partial(ik.solve, form=form, right_hand=right_hand)
        arguments = [inputs['skeleton'], inputs['twists'], rest]
        if 'leaf_quaternions' in inputs:
            arguments.append(inputs['leaf_quaternions'])
        matrices = jax.vmap(one)(*arguments)
        return jax.vmap(jax.vmap(rotations.matrix_to_quaternion))(matrices), matrices

    def objective(inputs: dict[str, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        quaternions, matrices = solve(inputs)
        return jnp.sum(quaternions.reshape(len(quaternions), -1) * grad_weights), (quaternions, matrices)

    gradients, (quaternions, matrices) = jax.grad(objective, has_aux=True)(inputs)
    return quaternions, matrices, gradients


@jax.jit
def _pose(body: smpl.SMPL, betas: jax.Array, matrices: jax.Array) -> dict[str, jax.Array]:
    """Returns joints relative to SMPL's pelvis, the others relative to the Human3.6M pelvis."""
    posed = jax.vmap(smpl.skin, in_axes=(None, 0, 0))(body, betas, matrices)
    return {
        'joints': posed.joints - posed.joints[:, :1],
        'joints_h36m': posed.h36m_joints - posed.h36m_joints[:, :1],
        'vertices_every_10': posed.vertices[:, ::10] - posed.h36m_joints[:, :1],
    }


def _worst(ours: ArrayLike, recorded: np.ndarray) -> float:
    return float(np.max(np.abs(np.asarray(ours, np.float64) - recorded)))


def _worst_gradient(ours: ArrayLike, recorded: np.ndarray) -> float:
    ours = np.asarray(ours, np.float64)
    if not np.isfinite(ours).all():
        return float('inf')
    known = np.isfinite(recorded)
    if not known.any():
        return 0.0
    scale = np.abs(recorded[known]).max()
    return float(np.abs(ours - recorded)[known].max() / max(scale, 1e-12))
