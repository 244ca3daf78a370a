"""From 3D joints and twists to SMPL's rotations: the analytical inverse kinematics, and its labels.

Usable alone, without any network:

    import numpy as np
    from hybrik_jax.body import ik, smpl, smpl_file

    body = smpl_file.load_body()  # or load_body('basicModel_neutral.pkl')
    joints_m = np.load('joints.npy')  # (B, 24, 3) metres, any frame; or (B, 29, 3) with the leaf joints
    betas = np.zeros((len(joints_m), 10))
    rotations = ik.joints_to_rotations(joints_m, betas, body)  # (B, 24, 3, 3)

Source: HybrIK (Li et al. 2021), section 3, adaptive variant, and its released program.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import rotations as rot
from hybrik_jax.body import smpl
from hybrik_jax.body.skeleton import (
    LEAF_JOINTS,
    LEVELS_24,
    NUM_JOINTS,
    PARENTS,
    PARENTS_29,
    RELEVANT_CHILD_24,
    RELEVANT_CHILD_29,
)

_WIDTH = max(map(len, LEVELS_24))
# (8, 5) the joints level by level, each level filled up to the widest one with copies of its first joint.
_SLOTS = np.array([(*level, *(level[:1] * (_WIDTH - len(level)))) for level in LEVELS_24[1:]])
# (8, 5, 5) which slot of the level above holds the parent of each.
_PARENT_OF_SLOT = np.array(
    [
        [np.arange(_WIDTH) == above.index(PARENTS[joint]) for joint in level]
        for above, level in zip(LEVELS_24[:-1], _SLOTS, strict=True)
    ]
)
# (23,) where joints 1..23 are among all slots.
_SLOT_OF_JOINT = np.array([_SLOTS.ravel().tolist().index(joint) for joint in range(1, NUM_JOINTS)])

FORMS = ('training', 'evaluation', 'naive')
# Beyond this, evaluation trusts the predicted bone more than the joint that is still to be reached.
_FAR_M = 0.015
_EPSILON = 1e-8  # m^2, the released program's
_RIGHT_HAND = 23
# A vector that is shorter than this share of what it is the difference of is rounding: it has no direction.
_ROUNDING = 1e-5
# The hips' middle tells the spin about the spine if it is off the spine by this share of the hips' distance.
_OFF_SPINE = 0.01
# Distances of the hips' middle from the spine, at rest and predicted, multiplied, m^2: the recordings' least.
_SHOWN_FROM = 1.2e-4

_Level = tuple[jax.Array, jax.Array]  # world rotations (5, 3, 3) and positions (5, 3) of one level's slots


def solve(
    joints_m: jax.Array,
    twists: jax.Array,
    rest_m: jax.Array,
    leaf_quaternions: jax.Array | None = None,
    *,
    form: str = 'evaluation',
    right_hand: str = 'leaf',
    stop_gradient: bool = True,
    align_by: str = 'svd',
) -> jax.Array:
    """Returns local rotations (24, 3, 3) of one person that bring the rest skeleton onto the joints.

    Joints of one level of the tree are solved together, level after level. For every finite input, values and
    gradients are finite and the values are rotations: |R'R - 1| is at most 1e-5 in float32 (the right hand as
    'released' excepted). Coordinates beyond 1e15 m count as 1e15 m. Where a direction is undefined, a joint
    turns by its twist alone, and the root does not spin; a bone that shall point the other way turns half way
    round about an axis that depends on the bone alone. `python -m tools.fuzz_ik` tries it.

    Args:
        joints_m: (24, 3) or (29, 3) joints, metres, any origin; joint 0's rotation leads into their frame.
        twists: (23, 2) cosine and sine of joints 1..23 about their rest bones; normalised here.
        rest_m: (29, 3) rest joints of this shape, metres (`smpl.rest_joints`); 24 are used for 24 joints.
        leaf_quaternions: (5, 4) local rotations of joints 10, 11, 15, 22, 23 for 24 joints, not normalised;
            None: identity. Not used for 29 joints, where the leaf joints give these rotations.
        form: 'evaluation': the root by SVD; each bone turned to where its end shall be, or, if that is more
            than 15 mm off, along the predicted bone (child minus joint). 'training': the root by swing and
            spin, each bone turned to where its end shall be, however far off. 'naive': the root as in
            'training', each bone along the predicted one; where lengths are wrong, errors add up along limbs.
        right_hand: 'leaf' uses the fifth leaf quaternion for joint 23. 'released' repeats the index slip of
            the released 24-joint program, whose checkpoints depend on it: the hand points to the pelvis. Of a
            pelvis that rests within a centimetre of the origin it makes not quite a rotation, as recorded.
        stop_gradient: none through predicted bones (root, evaluation's mended ones), as in the released
            program. Through those that 'naive' turns to there is one all the same: it has no others.
        align_by: how evaluation's form finds the root, see `rotations.kabsch`.
    Raises:
        ValueError: for another number of joints, or an unknown `form`, `right_hand` or `align_by`.
    """
    count = joints_m.shape[0]
    if count not in (24, 29) or rest_m.shape[0] < count:
        raise ValueError(
            f'joints_m {joints_m.shape}, rest_m {rest_m.shape}: the solver takes 24 or 29 joints of one '
            'person and as many rest joints (smpl.rest_joints).'
        )
    if form not in FORMS:
        raise ValueError(f'form={form!r}: must be one of {", ".join(FORMS)}.')
    if right_hand not in ('leaf', 'released'):
        raise ValueError(f"right_hand={right_hand!r}: must be 'leaf' or 'released'.")
    child = list(RELEVANT_CHILD_24 if count == 24 else RELEVANT_CHILD_29)
    if right_hand == 'released' and count == 24:
        child[_RIGHT_HAND] = 0
    # One type throughout: float32, or float64 where a caller works in it.
    kind = jnp.result_type(jnp.float32, joints_m, twists, rest_m)
    twists = jnp.asarray(twists, kind)
    joints_m, rest_m = (
        jnp.clip(jnp.asarray(x, kind), -rot.LARGEST, rot.LARGEST) for x in (joints_m, rest_m[:count])
    )

    # Bone 0 has no parent to come from: it is t_0, which is what 'released' finds there.
    parents = PARENTS_29[:count]
    bones = rest_m - rot.pick(rest_m, parents)
    predicted = joints_m - rot.pick(joints_m, parents)
    cut = jax.lax.stop_gradient(predicted) if stop_gradient else predicted
    predicted, cut = (jnp.concatenate([bones[:1], x[1:]]) for x in (predicted, cut))
    targets = joints_m - joints_m[0] + rest_m[0]

    # What depends on no other joint: bone to the relevant child, that child's target, mended bone, twist and
    # leaf rotation. Joints without a relevant child get zeros; their own rotation is chosen in the end.
    bone, target = rot.pick(bones, child), rot.pick(targets, child)
    child_bone = rot.pick(predicted if form == 'naive' else cut, child)
    mended = jax.vmap(rot.direction)(child_bone, bone) * rot.norm(bone)[:, None]
    twist = _twist_rotations(bone, jnp.concatenate([twists[:1], twists]))  # entry 0 is not used
    given = jnp.broadcast_to(jnp.eye(3, dtype=kind), (NUM_JOINTS, 3, 3))
    if leaf_quaternions is not None:
        leaves = jax.vmap(rot.quaternion_to_matrix)(jnp.asarray(leaf_quaternions, kind))
        leaf_of = [LEAF_JOINTS.index(j) if j in LEAF_JOINTS else -1 for j in range(NUM_JOINTS)]
        given = rot.pick(leaves, leaf_of)

    def solve_level(above: _Level, level: tuple) -> tuple[_Level, jax.Array]:
        world, position = above
        parent, is_end, is_hand, joint = level
        offset, bone, target, mended, twist, given = jnp.split(joint, (3, 6, 9, 12, 21), axis=-1)
        twist, given = twist.reshape(_WIDTH, 3, 3), given.reshape(_WIDTH, 3, 3)
        world = rot.matmul(parent, world.reshape(_WIDTH, 9)).reshape(_WIDTH, 3, 3)
        position = rot.matmul(parent, position) + rot.rotate(world, offset)
        wanted = mended if form == 'naive' else target - position
        if form == 'evaluation':
            far = jnp.sum((wanted - mended) ** 2, axis=-1, keepdims=True) > _FAR_M**2
            wanted = jnp.where(far, mended, wanted)
        wanted = _unless_rounding(wanted, rot.norm(bone))
        wanted = rot.rotate_back(world, wanted)
        swing = jax.vmap(rot.rotation_between)(bone, wanted)
        if right_hand == 'released' and count == 24:
            swing = jnp.where(is_hand[:, None, None], jax.vmap(_released_swing)(bone, wanted), swing)
        local = jnp.where(is_end[:, None, None], given, rot.matmul(swing, twist))
        return (rot.matmul(world, local), position), local

    # The bones to hips and spine1 aligned with the predicted ones.
    if form == 'evaluation':
        root = world = rot.kabsch(bones[1:4], cut[1:4], by=align_by)
    else:
        root, world = _root_by_swing(bones, cut)
    start = jnp.broadcast_to(world, (_WIDTH, 3, 3)), jnp.broadcast_to(rest_m[0], (_WIDTH, 3))
    quantities = (bones[:NUM_JOINTS], bone, target, mended, twist, given)
    by_joint = jnp.concatenate([x.reshape(NUM_JOINTS, -1) for x in quantities], axis=-1)
    is_end, is_hand = np.array(child)[_SLOTS] < 0, _SLOTS == _RIGHT_HAND
    levels = jnp.asarray(_PARENT_OF_SLOT, kind), is_end, is_hand, rot.pick(by_joint, _SLOTS)
    _, local = jax.lax.scan(solve_level, start, levels)
    return jnp.concatenate([root[None], rot.pick(local.reshape(-1, 3, 3), _SLOT_OF_JOINT)])


def _released_swing(bone: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns the released program's turn of `bone` to `wanted` (3,): of short ones not quite a rotation."""
    bone, wanted = rot.bound_gradient(bone), rot.bound_gradient(wanted)
    cross = rot.rotate(rot.cross_matrix(bone), wanted)
    area, lengths = rot.norm(cross), rot.norm(bone) * rot.norm(wanted) + _EPSILON
    return rot.rotation_about(cross / (area + _EPSILON), jnp.sum(bone * wanted) / lengths, area / lengths)


def _unless_rounding(vectors: jax.Array, sizes_m: jax.Array) -> jax.Array:
    """Returns vectors (..., 3), zeros in place of those that are nothing beside `sizes_m` (...)."""
    return jnp.where((rot.norm(vectors) > _ROUNDING * sizes_m)[..., None], vectors, 0.0)


def _twist_rotations(bone: jax.Array, twists: jax.Array) -> jax.Array:
    """Returns turns (M, 3, 3) about bones (M, 3) by cosines and sines (M, 2), any length; (0, 0): no turn."""
    twists = jax.vmap(rot.direction, (0, None))(twists, jnp.array([1.0, 0.0], twists.dtype))
    return jax.vmap(rot.rotation_about)(jax.vmap(rot.direction)(bone), twists[:, 0], twists[:, 1])


def _root_by_swing(bones: jax.Array, predicted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the root's rotation without SVD: the spine's smallest rotation, then a spin about it.

    The spin turns the hips' middle, seen along the spine, to the predicted one. Of shapes whose hips have
    their middle on the spine (within 1% of their distance), which tells no spin, it aligns both hips.

    The second result is what the joints that follow take for the root's rotation. It is short of one by some
    1e-8 m^2 / lengths: the released program's epsilon, by which joints of the recorded outputs are turned. It
    fades where the hips' middle is nearer to the spine than in any recording, and would matter more.
    """
    swing = rot.rotation_between(bones[3], predicted[3])
    spine = rot.direction(predicted[3], bones[3])

    def off_spine(hips: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        flat = hips - jnp.sum(hips * spine, axis=-1, keepdims=True) * spine
        flat = _unless_rounding(flat, rot.norm(hips))
        distance = rot.norm(flat[0] - flat[1])
        return flat, _unless_rounding(jnp.mean(flat, axis=0), distance), distance

    hips, middle, distance = off_spine(rot.rotate(swing, bones[1:3]))
    wanted_hips, wanted_middle, _ = off_spine(predicted[1:3])
    by_middle = rot.norm(middle) > _OFF_SPINE * distance
    now = rot.unscaled(jnp.where(by_middle, middle, hips))
    wanted = rot.unscaled(jnp.where(by_middle, wanted_middle, wanted_hips))
    sine = jnp.sum(spine * rot.rotate(jax.vmap(rot.cross_matrix)(now), wanted))
    cosine, sine = rot.direction(jnp.stack([jnp.sum(now * wanted), sine]), jnp.array([1.0, 0.0], spine.dtype))

    lengths, angle = rot.norm(middle) * rot.norm(wanted_middle), jnp.abs(sine)
    short = jnp.where(by_middle, _EPSILON * lengths / jnp.maximum(lengths, _SHOWN_FROM) ** 2, 0.0)
    short *= jnp.where(cosine > 0, 1.0, angle)
    some = angle > 1e-12
    share = jnp.where(some, angle / jnp.where(some, angle + short, 1.0), 1.0)
    seen = 1 - (1 - cosine / (1 + short)) * share**2, sine / (1 + short) * share
    root = rot.rotation_about(spine, *rot.direction(jnp.stack(seen)))
    return rot.matmul(root, swing), rot.matmul(rot.rotation_about(spine, *seen), swing)


def forward_kinematics(rotations: jax.Array, rest_m: jax.Array) -> jax.Array:
    """Returns joints (24, 3), metres, of rest joints (24 or more, 3) under local `rotations` (24, 3, 3)."""
    return smpl.pose_skeleton(rotations, rest_m)[1]


def pose_to_twists(rotations: jax.Array, rest_m: jax.Array) -> jax.Array:
    """Returns twist angles (23,) of joints 1..23 about their rest bones, radians in (-pi, pi].

    Args:
        rotations: (24, 3, 3) local rotations.
        rest_m: (29, 3) rest joints of this shape, metres; the last five end hands, feet and head.
    """
    children = np.array(RELEVANT_CHILD_29[1:])
    bones = rest_m[children] - rest_m[1:NUM_JOINTS]
    return jax.vmap(rot.twist_swing)(rotations[1:], bones)[1]


def joints_to_rotations(
    joints_m: jax.Array,
    betas: jax.Array,
    body: smpl.SMPL,
    twists: jax.Array | None = None,
    leaf_quaternions: jax.Array | None = None,
    *,
    form: str = 'evaluation',
    right_hand: str = 'leaf',
) -> jax.Array:
    """Returns SMPL's rotations (B, 24, 3, 3) of a batch of 3D skeletons: the solver on its own, compiled.

    Args:
        joints_m: (B, 24, 3) or (B, 29, 3) joints in SMPL's order, metres, any origin.
        betas: (B, 10) shapes.
        twists: (B, 23, 2) cosines and sines; None: no twist.
        leaf_quaternions: (B, 5, 4), for 24 joints; None: identity.
        form, right_hand: as in `solve`.
    Raises:
        ValueError: if the batch sizes differ, or as `solve` does.
    """
    joints_m, betas = jnp.asarray(joints_m), jnp.asarray(betas)
    if joints_m.ndim != 3 or betas.shape != (joints_m.shape[0], smpl.NUM_BETAS):
        raise ValueError(
            f'joints_m {joints_m.shape} and betas {betas.shape} must have the shapes (B, 24 or 29, 3) and '
            '(B, 10): give one person a leading axis of length 1.'
        )
    if twists is None:
        twists = jnp.broadcast_to(jnp.array([1.0, 0.0], joints_m.dtype), (joints_m.shape[0], 23, 2))
    template, dirs = body.rest_joints_template, body.rest_joints_dirs
    return _solve_batch(joints_m, betas, twists, leaf_quaternions, template, dirs, form, right_hand)


@functools.partial(jax.jit, static_argnums=(6, 7))
def _solve_batch(
    joints_m: jax.Array,
    betas: jax.Array,
    twists: jax.Array,
    leaf_quaternions: jax.Array | None,
    template: jax.Array,
    dirs: jax.Array,
    form: str,
    right_hand: str,
) -> jax.Array:
    betas = jnp.clip(betas, -rot.LARGEST, rot.LARGEST)  # as `solve` does with joints
    rest_m = template + jnp.einsum('jab,nb->nja', dirs, betas, precision='highest')
    one = functools.partial(solve, form=form, right_hand=right_hand)
    return jax.vmap(one)(joints_m, twists, rest_m, leaf_quaternions)
