"""The body model: its rest joints, and skinning of one person. `smpl_file` loads it.

SMPL: Loper et al. 2015. The embedded body (`assets/open_body.npz`, CC0) has another shape space: parameters
and regressors of one mean nothing to the other, which `check_same_body` guards.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import rotations as rot
from hybrik_jax.body.skeleton import LEVELS_24, NUM_JOINTS, PARENTS

SMPL_NAME = 'SMPL'
NUM_BETAS = 10


@jax.tree_util.register_static
class BodyName(str):
    """A body model's name: a str that is part of a pytree's structure instead of a leaf."""


@chex.dataclass(frozen=True, mappable_dataclass=False)
class SMPL:
    """A body model: V vertices, 24 joints, 10 shape and 207 pose directions; numpy float32 unless said.

    A pytree: pass it to a jitted function as an argument, or XLA takes its 20 MB as constants.

    v_template: (V, 3) rest vertices of the mean shape, metres.
    shapedirs: (V, 3, 10) metres per unit of beta.
    posedirs: (V, 3, 207) metres per unit of (rotation - identity), joints 1..23, row by row.
    joint_regressor: (24, V).
    h36m_regressor: (17, V), or None where no regressor was given.
    weights: (V, 24).
    faces: (F, 3) int32.
    leaf_vertices: (5,) int32: head top, left and right middle finger tip, left and right big toe.
    rest_joints_template: (29, 3) metres: 24 regressed joints and the leaf vertices of the mean shape.
    rest_joints_dirs: (29, 3, 10) metres per unit of beta.
    name: 'SMPL', 'open_body (CC0)', ...; static.
    """

    v_template: chex.Array
    shapedirs: chex.Array
    posedirs: chex.Array
    joint_regressor: chex.Array
    h36m_regressor: chex.Array | None
    weights: chex.Array
    faces: chex.Array
    leaf_vertices: chex.Array
    rest_joints_template: chex.Array
    rest_joints_dirs: chex.Array
    name: BodyName


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Skinned:
    """A posed body in the frame that its root rotation leads to, metres; nothing has been subtracted.

    vertices: (V, 3).
    joints: (24, 3) SMPL joints.
    h36m_joints: (17, 3) Human3.6M joints; None without a regressor.
    """

    vertices: chex.Array
    joints: chex.Array
    h36m_joints: chex.Array | None


def rest_joints(body: SMPL, betas: jax.Array) -> jax.Array:
    """Returns the rest joints (29, 3) of the shape `betas` (10,), metres: 24 joints and five leaf vertices.

    Raises:
        ValueError: if there are not ten betas.
    """
    if jnp.shape(betas) != (NUM_BETAS,):
        raise ValueError(
            f'betas of one person must have the shape ({NUM_BETAS},), these have {jnp.shape(betas)}: '
            'cut longer ones, and use jax.vmap for several people.'
        )
    dirs = jnp.asarray(body.rest_joints_dirs)
    return body.rest_joints_template + jnp.einsum('jab,b->ja', dirs, betas, precision='highest')


def pose_skeleton(rotations: jax.Array, rest_m: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns world rotations (24, 3, 3) and joints (24, 3), metres, of a posed skeleton.

    Args:
        rotations: (24, 3, 3) rotations relative to the parent.
        rest_m: (24 or more, 3) rest joints, metres; the first 24 are used. Joint 0 stays where it rests.
    """
    rest_m = rest_m[:NUM_JOINTS]
    bones = rest_m - rot.pick(rest_m, PARENTS)
    worlds, joints = [rotations[:1]], [rest_m[:1]]
    for above, level in zip(LEVELS_24[:-1], LEVELS_24[1:], strict=True):
        parent = [above.index(PARENTS[joint]) for joint in level]
        world = rot.pick(worlds[-1], parent)
        joints.append(rot.pick(joints[-1], parent) + rot.rotate(world, rot.pick(bones, level)))
        worlds.append(rot.matmul(world, rot.pick(rotations, level)))
    order = np.argsort(np.concatenate(LEVELS_24))
    return rot.pick(jnp.concatenate(worlds), order), rot.pick(jnp.concatenate(joints), order)


def skin(body: SMPL, betas: jax.Array, rotations: jax.Array) -> Skinned:
    """Returns the posed body of one person.

    Args:
        betas: (10,) shape.
        rotations: (24, 3, 3) rotations relative to the parent.
    Source: Loper et al. 2015, equations 2 to 9.
    """
    rest = rest_joints(body, betas)[:NUM_JOINTS]
    feature = (rotations[1:] - jnp.eye(3, dtype=rotations.dtype)).reshape(-1)
    shapedirs = jnp.asarray(body.shapedirs).reshape(-1, NUM_BETAS)
    offsets = jnp.einsum('cb,b->c', shapedirs, betas, precision='highest')
    posedirs = jnp.asarray(body.posedirs).reshape(-1, feature.size)
    offsets += jnp.einsum('cf,f->c', posedirs, feature, precision='highest')
    shaped = body.v_template + offsets.reshape(-1, 3)

    world, joints = pose_skeleton(rotations, rest)
    moves = jnp.concatenate([world, (joints - rot.rotate(world, rest))[:, :, None]], axis=-1)
    weights = jnp.asarray(body.weights)
    moves = jnp.einsum('vj,jk->vk', weights, moves.reshape(NUM_JOINTS, 12), precision='highest')
    moves = moves.reshape(-1, 3, 4)
    vertices = rot.rotate(moves[:, :, :3], shaped) + moves[:, :, 3]
    h36m_joints = None
    if body.h36m_regressor is not None:
        h36m_joints = jnp.einsum('jv,va->ja', jnp.asarray(body.h36m_regressor), vertices, precision='highest')
    return Skinned(vertices=vertices, joints=joints, h36m_joints=h36m_joints)


def check_same_body(body: SMPL, name: str, what: str) -> None:
    """Raises ValueError, which calls it `what`, if what was made for the body model `name` meets another."""
    if str(name) != str(body.name):
        raise ValueError(
            f'{what} was made for the body model {str(name)!r}, but {str(body.name)!r} is loaded: their '
            f'shape spaces and meshes differ. Load {str(name)!r}, or leave this out.'
        )
