"""The body model: its rest joints, and skinning of one person. `smpl_file` loads it.

SMPL: Loper et al. 2015. The embedded body (`assets/open_body.npz`, CC0) has another shape space: parameters
and regressors of one mean nothing to the other, which `check_same_body` guards.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import rotations as rot
from hybrik_jax.body.skeleton import LEVELS_24, NUM_JOINTS, PARENTS

SMPL_NAME = 'SMPL'
NUM_BETAS, NUM_LEAVES = 10, 5
_AT_ONCE = 64  # people


@jax.tree_util.register_static
class BodyName(str):
    """A body model's name: a str that is part of a pytree's structure instead of a leaf."""


@chex.dataclass(frozen=True, mappable_dataclass=False)
class SMPL:
    """A body model: V vertices, 24 joints, 10 shape and 207 pose directions; numpy float32 unless said.

    A pytree: pass it to a jitted function as an argument, or XLA takes its 20 MB as constants.

    v_template: (V, 3) rest vertices of the mean shape, metres.
    directions: (217, 3, V) metres per unit of each beta, then of (rotation - identity), joints 1..23, row by
        row: the file's shapedirs and posedirs, as a product reads them.
    joint_regressor: (24, V).
    h36m_regressor: (17, V), or None where no regressor was given.
    weights: (V, 24).
    faces: (F, 3) int32.
    leaf_vertices: (5,) int32: head top, left and right middle finger tip, left and right big toe.
    point_template: (P, 24, 4) points that are linear in vertices: the leaf vertices, and where there is a
        regressor the 17 Human3.6M joints; what each joint contributes to them at rest, sum of
        regressor * weight * (x, y, z, 1).
    point_directions: (217, P, 24, 4) the same of the directions; (x, y, z, 0).
    rest_joints_template: (29, 3) metres: 24 regressed joints and the leaf vertices of the mean shape.
    rest_joints_dirs: (29, 3, 10) metres per unit of beta.
    name: 'SMPL', 'open_body (CC0)', ...; static.
    """

    v_template: chex.Array
    directions: chex.Array
    joint_regressor: chex.Array
    h36m_regressor: chex.Array | None
    weights: chex.Array
    faces: chex.Array
    leaf_vertices: chex.Array
    point_template: chex.Array
    point_directions: chex.Array
    rest_joints_template: chex.Array
    rest_joints_dirs: chex.Array
    name: BodyName


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Skinned:
    """A posed body in the frame that its root rotation leads to, metres; nothing has been subtracted.

    vertices: (V, 3); None where no mesh was asked for.
    joints: (24, 3) SMPL joints.
    h36m_joints: (17, 3) Human3.6M joints; None without a regressor.
    leaves: (5, 3) the leaf vertices.
    """

    vertices: chex.Array | None
    joints: chex.Array
    h36m_joints: chex.Array | None
    leaves: chex.Array


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


def skin(body: SMPL, betas: jax.Array, rotations: jax.Array, *, mesh: bool = True) -> Skinned:
    """Returns the posed body of one person; callers write `jax.vmap`, or `each_person` for many.

    Everything is a product of a person's row with a table, so that people together are one matrix product.

    Args:
        betas: (10,) shape.
        rotations: (24, 3, 3) rotations relative to the parent.
        mesh: False leaves out the vertices; joints, Human3.6M joints and leaves are the same without them.
    Source: Loper et al. 2015, equations 2 to 9.
    """
    rest = rest_joints(body, betas)[:NUM_JOINTS]
    world, joints = pose_skeleton(rotations, rest)
    moves = jnp.concatenate([world, (joints - rot.rotate(world, rest))[:, :, None]], axis=-1)
    feature = jnp.concatenate([betas, (rotations[1:] - jnp.eye(3, dtype=rotations.dtype)).ravel()])

    # What a point takes of each joint's vertices is linear in the feature: no vertex is needed for it.
    points = body.point_template + jnp.tensordot(feature, body.point_directions, 1, precision='highest')
    points = jnp.einsum('jcd,pjd->pc', moves, points, precision='highest')
    vertices = None
    if mesh:
        shaped = jnp.dot(feature, body.directions.reshape(len(feature), -1), precision='highest')
        shaped = shaped.reshape(3, -1) + body.v_template.T
        moves = jnp.einsum('jk,vj->kv', moves.reshape(-1, 12), body.weights, precision='highest')
        kind = jnp.result_type(moves, shaped)
        vertices = _moved(moves.astype(kind), shaped.astype(kind))
    h36m_joints = None if body.h36m_regressor is None else points[NUM_LEAVES:]
    return Skinned(vertices=vertices, joints=joints, h36m_joints=h36m_joints, leaves=points[:NUM_LEAVES])


@jax.custom_vjp
def _moved(moves: jax.Array, points: jax.Array) -> jax.Array:
    """Returns points (3, V) moved by (12, V), rows of 3 x 4 matrices, as (V, 3).

    Sums of three products are written out, and so is the gradient: on CPUs reductions over an axis of three,
    and what the derivative of taking rows becomes, take several times as long.
    """
    x, y, z = points
    rows = (moves[i] * x + moves[i + 1] * y + moves[i + 2] * z + moves[i + 3] for i in (0, 4, 8))
    return jnp.stack(list(rows), axis=-1)


def _moved_backward(inputs: tuple[jax.Array, jax.Array], slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    (moves, points), slope = inputs, slope.T
    x, y, z = slope
    of_moves = jnp.concatenate([slope[:, None] * points, slope[:, None]], axis=1).reshape(moves.shape)
    return of_moves, jnp.stack([moves[i] * x + moves[i + 4] * y + moves[i + 8] * z for i in range(3)])


_moved.defvjp(lambda moves, points: (_moved(moves, points), (moves, points)), _moved_backward)


def each_person(function: Callable, *people: Any) -> Any:
    """Returns `jax.vmap(function)(*people)`; CPUs take 64 people at a time where there are a multiple of 64.

    What a mesh passes through on its way, 0.4 MB a person, then stays in caches. Where their number is left
    open, in programs that are exported, it is `jax.vmap`.
    """
    count = jax.tree.leaves(people)[0].shape[0]
    if jax.export.is_symbolic_dim(count) or count <= _AT_ONCE or count % _AT_ONCE:
        return jax.vmap(function)(*people)

    def in_turns(*people: Any) -> Any:
        return jax.lax.map(lambda person: function(*person), people, batch_size=_AT_ONCE)

    return jax.lax.platform_dependent(*people, cpu=in_turns, default=jax.vmap(function))


def check_same_body(body: SMPL, name: str, what: str) -> None:
    """Raises ValueError, which calls it `what`, if what was made for the body model `name` meets another."""
    if str(name) != str(body.name):
        raise ValueError(
            f'{what} was made for the body model {str(name)!r}, but {str(body.name)!r} is loaded: their '
            f'shape spaces and meshes differ. Load {str(name)!r}, or leave this out.'
        )
