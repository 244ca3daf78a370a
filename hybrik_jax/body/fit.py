"""From other programs' 3D landmarks to SMPL's rotations, without any training.

    from hybrik_jax.body import fit, smpl_file

    body = smpl_file.load_body()
    fitted = fit.from_landmarks(points, 'mediapipe', visibility, body=body)  # points (B, 33, 3)
    fitted.rotations, fitted.betas  # (B, 24, 3, 3), (B, 10)
    fitted.names(0)  # which joints of person 0 were seen and which were filled

The landmarks tell the orientation of each part of the body as far as they can (`parts`), from the pelvis
outwards; what they leave open is taken from the part that it hangs on. From these orientations the solver
(`ik.solve`) gets its twists, and the joints that no landmark shows; the solver turns the bones.
`docs/landmarks.md` has an example and what each idea is worth.
"""

import functools
from collections.abc import Callable, Collection, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import ik, parts, smpl
from hybrik_jax.body import rotations as rot
from hybrik_jax.body.landmarks import SEGMENTS, SLOTS, landmarks_of, rest_elements
from hybrik_jax.body.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS, PARENTS_29

# Axes of the points -> camera frame, x right, y down, z forward. The result is in the camera frame.
AXES = {
    'camera': np.eye(3),  # x right, y down, z forward: MediaPipe's world landmarks, Human3.6M's cameras
    'y_up': np.diag([1.0, -1.0, -1.0]),  # x right, y up, z to the viewer: OpenGL, glTF
    'z_up': np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]),  # x right, y forward, z up: Blender
    'unity': np.diag([1.0, -1.0, 1.0]),  # x right, y up, z forward: left-handed
}
# What can be left out, to measure what it is worth: `python -m tools.fit_landmarks --measure`.
IDEAS = ('shape', 'offsets', 'spine', 'bending planes', 'ends')

_AT_ONCE = 64  # people; fewer are filled up, so that one program is compiled for any number
_BENT = 0.2  # sine of the angle from which on a bent limb tells its twist
_J = {name: joint for joint, name in enumerate(JOINT_NAMES)}
_SPINE = tuple(_J[name] for name in ('pelvis', 'spine1', 'spine2', 'spine3', 'neck'))


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Fit:
    """Fitted people; numpy arrays, B of them (a single person has no leading axis).

    The landmarks are scale * (landmarks of the posed body) + translation, so far as they can be met; the
    posed body is `smpl.skin(body, betas, rotations)`.

    rotations: (B, 24, 3, 3) relative to the parent; the root leads into the camera frame.
    betas: (B, 10) shapes.
    scale: (B,) units of the points per metre of the body.
    translation: (B, 3) camera frame, in the unit of the points.
    known: (B, 24) bool: the direction of the joint's bone comes from landmarks; elsewhere it is filled.
    twist_known: (B, 24) bool: so does its turn about this bone; elsewhere it is that of the parent.
    residual_m: (B, N) how far each landmark is off the fitted body, metres of the body; NaN where it was
        missing or is not used.
    """

    rotations: chex.Array
    betas: chex.Array
    scale: chex.Array
    translation: chex.Array
    known: chex.Array
    twist_known: chex.Array
    residual_m: chex.Array

    def names(self, person: int = 0) -> dict[str, tuple[str, ...]]:
        """Returns the names of the joints that are 'known', known 'without twist', and 'filled'."""
        known, twist = (np.reshape(x, (-1, NUM_JOINTS))[person] for x in (self.known, self.twist_known))
        kinds = {'known': known & twist, 'without twist': known & ~twist, 'filled': ~known}
        return {kind: tuple(JOINT_NAMES[j] for j in np.flatnonzero(some)) for kind, some in kinds.items()}


def _joints_and_worlds(
    points: parts.Points, rest_m: jax.Array, ideas: dict[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Returns joints (29, 3), body's metres, and orientations (24, 3, 3) that the landmarks tell."""
    spine_turns = parts.turn_torso(points, rest_m, ideas['spine'])
    pelvis, chest = spine_turns[0], spine_turns[3]
    head = parts.turn_head(points, chest)
    collars = parts.turn_collars(points, rest_m, chest)
    parents = jnp.stack([pelvis, pelvis, *collars])
    limb = functools.partial(parts.turn_limb, planes=ideas['bending planes'], ends=ideas['ends'])
    limbs = jax.vmap(limb)(parts.limb_landmarks(points), jnp.asarray(parts.BENDING), parents)
    turns = dict(zip(('pelvis', 'spine1', 'spine2', 'spine3'), spine_turns, strict=True))
    turns |= {'head': head, 'neck': rot.matmul(chest, parts.share_of(rot.matmul(chest.T, head), 0.5))}
    for (first, second, third, *_), turned in zip(parts.LIMBS, limbs, strict=True):
        turns |= dict(zip((first, second, third), turned, strict=True))
    for side, collar, leg, arm in zip(('left', 'right'), collars, limbs[:2], limbs[2:], strict=True):
        turns |= {f'{side}_collar': collar, f'{side}_foot': leg[2], f'{side}_hand': arm[2]}
    worlds = jnp.stack([turns[name] for name in JOINT_NAMES])

    def joint(mark: parts.Points, name: str, frame: int) -> parts.Points:
        """Returns the joint of a mark that moves with `frame`."""
        rest = rest_m[_J[name]]
        return mark._replace(seen=mark.seen - ideas['offsets'] * rot.rotate(worlds[frame], mark.rest - rest))

    root = joint(parts.first(points.at('pelvis'), parts.middle_of_hips(points)), 'pelvis', 0)
    neck = joint(parts.first(points.at('neck'), parts.middle_of_shoulders(points)), 'neck', _J['spine3'])
    bones = rest_m[np.array(_SPINE[1:])] - rest_m[np.array(_SPINE[:-1])]
    spine = jnp.cumsum(rot.rotate(worlds[np.array(_SPINE[:-1])], bones), axis=0)
    start = jnp.where(root.known > 0, root.seen, neck.seen - spine[-1])
    # What the spine is too short or too long is shared by its bones.
    height = jnp.cumsum(rot.norm(bones))[:, None]
    off = jnp.where(root.known * neck.known > 0, neck.seen - start - spine[-1], 0.0)
    spine = start + jnp.concatenate([jnp.zeros((1, 3)), spine + off * height / height[-1]])

    # Joints that are seen, and those that are not in their place beside their parents.
    marks = [joint(points.at(name), name, max(PARENTS[_J[name]], 0)) for name in JOINT_NAMES]
    marks[_J['head']] = joint(points.at(*parts.HEAD_MARKS).middle(), 'head', _J['head'])
    marks[0], marks[_J['neck']] = root, neck
    for number, filled in zip(_SPINE, spine, strict=True):
        marks[number] = parts.first(marks[number], parts.Points(filled, rest_m[number], jnp.ones(())))
    seen, known = jnp.stack([mark.seen for mark in marks]), jnp.stack([mark.known for mark in marks])
    seen = jnp.concatenate([seen, jnp.zeros((smpl.NUM_LEAVES, 3))])
    known = jnp.concatenate([known, jnp.zeros(smpl.NUM_LEAVES)])
    parents = np.array((0, *PARENTS_29[1:]))
    bones = rot.rotate(worlds[parents], rest_m - rest_m[parents])

    def place(joints: jax.Array, joint: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        number, parent, bone, seen, known = joint
        return joints.at[number].set(jnp.where(known > 0, seen, joints[parent] + bone)), None

    joints = jax.lax.scan(place, jnp.zeros((29, 3)), (np.arange(29), parents, bones, seen, known))[0]
    return joints, worlds


def _solve(joints_m: jax.Array, worlds: jax.Array, rest_m: jax.Array) -> jax.Array:
    """Returns local rotations (24, 3, 3) that bring the body onto joints, with the twists of `worlds`."""
    local = rot.matmul(rot.pick(worlds, PARENTS[1:]).swapaxes(-1, -2), worlds[1:])
    twists = ik.pose_to_twists(jnp.concatenate([worlds[:1], local]), rest_m)
    return ik.solve(joints_m, jnp.stack([jnp.cos(twists), jnp.sin(twists)], axis=-1), rest_m)


def _known(seen: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns of which joints landmarks tell the bone's direction, and of which its twist, bool (B, 24) each.

    Args:
        seen, known: landmarks (B, S, 3), and 0. or 1. (B, S).
    """

    def has(*names: str) -> np.ndarray:
        return known[:, [SLOTS.index(name) for name in names]] > 0

    def both(part: str) -> np.ndarray:
        return has(f'left_{part}', f'right_{part}').all(axis=1)

    def direction(start: str, end: str) -> np.ndarray:
        bone = seen[:, SLOTS.index(end)] - seen[:, SLOTS.index(start)]
        return bone / np.maximum(np.linalg.norm(bone, axis=-1, keepdims=True), 1e-12)

    hips, shoulders = (
        both('hip') | has('mid_hip', 'pelvis').any(1),
        both('shoulder') | has('mid_shoulder', 'neck').any(1),
    )
    spine, head = has('torso', 'spine2').any(1), has(*parts.HEAD_MARKS).sum(1)
    directed = {'pelvis': hips & (shoulders | spine), 'spine3': shoulders & (hips | spine)}
    directed |= dict.fromkeys(('neck', 'head'), shoulders & (head > 0))
    directed |= {bone[0]: has(*bone).all(1) for bone in (('spine1', 'spine2'), ('spine2', 'spine3'))}
    turned = {'pelvis': both('hip'), 'spine3': both('shoulder'), 'neck': head > 1, 'head': head > 1}
    for first, second, third, *marks in parts.LIMBS:
        directed[first], directed[second] = (has(*bone).all(1) for bone in ((first, second), (second, third)))
        ends = has(*marks).sum(1)
        directed[third] = has(third)[:, 0] & (ends > 0)
        straight = np.abs(np.sum(direction(first, second) * direction(second, third), axis=-1))
        ahead = has(third)[:, 0] & (ends > 1)
        turned[first] = ahead | (directed[second] & (straight < np.sqrt(1 - _BENT**2)))
        turned[second] = turned[third] = ahead
    for side in ('left', 'right'):
        directed[f'{side}_collar'] = has(f'{side}_shoulder')[:, 0] & directed['spine3']
    none = np.zeros(len(known), bool)
    directed, turned = (
        np.stack([table.get(name, none) for name in JOINT_NAMES], axis=1) for table in (directed, turned)
    )
    return directed, directed & turned


def _fit_one(
    seen: jax.Array,
    known: jax.Array,
    given_betas: jax.Array,
    tables: tuple[jax.Array, ...],
    ideas: dict[str, jax.Array],
) -> dict[str, jax.Array]:
    """Returns the columns of `Fit` for one person: landmarks (S, 3) in the camera frame, known (S,) 0. or 1.

    Args:
        given_betas: (10,); not finite where they shall be fitted.
        tables: weights (S, E), `rest_elements`, the body's rest joints and their directions.
        ideas: 0. or 1. for each of `IDEAS`.
    """
    weights, template, dirs, rest_template, rest_dirs = tables

    def resting(betas: jax.Array) -> tuple[jax.Array, jax.Array, parts.Points]:
        elements = template + jnp.einsum('jab,b->ja', dirs, betas, precision='highest')
        rest_m = rest_template + jnp.einsum('jab,b->ja', rest_dirs, betas, precision='highest')
        return rest_m, elements, parts.Points(seen, jnp.dot(weights, elements, precision='highest'), known)

    mark_dirs = jnp.einsum('se,ecb->scb', weights, dirs, precision='highest')
    given = jnp.all(jnp.isfinite(given_betas))
    fitted = ideas['shape'] * parts.scale_and_betas(resting(jnp.zeros(smpl.NUM_BETAS))[2], mark_dirs)[1]
    betas = jnp.where(given, jnp.where(given, given_betas, 0.0), fitted)
    rest_m, elements, points = resting(betas)
    scale = parts.scale_and_betas(points, mark_dirs)[0]
    points = points._replace(seen=seen / scale)
    rotations = _solve(*_joints_and_worlds(points, rest_m, ideas), rest_m)

    world, posed = smpl.pose_skeleton(rotations, rest_m)
    moved = rot.pick(posed, SEGMENTS) + rot.rotate(
        rot.pick(world, SEGMENTS), elements - rot.pick(rest_m, SEGMENTS)
    )
    made = jnp.dot(weights, moved, precision='highest')
    shift = jnp.sum(known[:, None] * (points.seen - made), axis=0) / jnp.maximum(jnp.sum(known), 1.0)
    return {
        'rotations': rotations,
        'betas': betas,
        'scale': scale,
        'translation': scale * shift,
        'residual_m': rot.norm(points.seen - made - shift),
    }


# Hundreds of small steps: the CPU's compiler would take longer to optimise them than thousands of people do.
_QUICKLY = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}


@functools.cache
def _fit_people() -> Callable:
    """Returns `_fit_one` for a batch, compiled for the device in use."""
    options = _QUICKLY if jax.default_backend() == 'cpu' else None
    return jax.jit(jax.vmap(_fit_one, (0, 0, 0, None, None)), compiler_options=options)


def from_landmarks(
    points: np.ndarray,
    names: str | Sequence[str],
    visibility: np.ndarray | None = None,
    *,
    body: smpl.SMPL,
    betas: np.ndarray | None = None,
    axes: str = 'camera',
    min_visibility: float = 0.5,
    without: Collection[str] = (),
) -> Fit:
    """Returns SMPL's rotations of people whose 3D landmarks another program found.

    Args:
        points: (B, N, 3) or, of one person, (N, 3); in any unit and about any origin.
        names: 'coco' (17), 'h36m' (17), 'mediapipe' (33 world landmarks), 'openpose' (BODY_25), or the names
            of the N landmarks, keys of `landmarks.LANDMARKS`.
        visibility: (B, N) or (N,); a landmark below `min_visibility` is missing, and its point may be
            anything. None: all are there.
        betas: (10,) or (B, 10) shapes of the people; None: fitted to the lengths of their bones.
        axes: what the points' axes are, a key of `AXES`; rotations and translation are in the camera frame.
        without: of `IDEAS`, what to leave out; for measuring.
    Raises:
        ValueError: for unknown names or axes, wrong shapes, or a visible landmark that is not finite.
    """
    table = landmarks_of(names)
    points, visible = _checked(points, visibility, table.count, min_visibility)
    if axes not in AXES:
        raise ValueError(f'axes={axes!r}: must be one of {", ".join(AXES)}.')
    unknown = [idea for idea in without if idea not in IDEAS]
    if unknown:
        raise ValueError(f'without={unknown!r}: the ideas are {", ".join(IDEAS)}.')
    single = points.ndim == 2
    if single:
        points, visible = points[None], visible[None]
    count = len(points)
    if betas is None:
        betas = np.full((count, smpl.NUM_BETAS), np.nan)
    elif np.shape(betas) not in ((smpl.NUM_BETAS,), (count, smpl.NUM_BETAS)) or not np.isfinite(betas).all():
        raise ValueError(
            f'betas {np.shape(betas)}: must be finite, (10,) or ({count}, 10), one row a person.'
        )
    betas = np.broadcast_to(np.asarray(betas, np.float32), (count, smpl.NUM_BETAS))

    # About their middle, so that float32 is fine enough wherever people stand.
    points = np.where(visible[..., None], points, 0.0) @ AXES[axes].T
    centre = points.sum(axis=1) / np.maximum(visible.sum(axis=1), 1)[:, None]
    seen = np.zeros((count, len(SLOTS), 3), np.float32)
    known = np.zeros((count, len(SLOTS)), np.float32)
    known[:, table.slots] = visible[:, table.used]
    seen[:, table.slots] = (points - centre[:, None])[:, table.used]
    read = table.weights[table.slots]
    tables = (table.weights, *rest_elements(body, read), body.rest_joints_template, body.rest_joints_dirs)
    ideas = {idea: np.float32(idea not in without) for idea in IDEAS}
    found = []
    for start in range(0, max(count, 1), _AT_ONCE):
        part = [x[start : start + _AT_ONCE] for x in (seen, known, betas)]
        kept = len(part[0])
        part = [np.concatenate([x, np.zeros((_AT_ONCE - kept, *x.shape[1:]), np.float32)]) for x in part]
        fitted = _fit_people()(*part, tables, ideas)
        found.append({key: np.array(value)[:kept] for key, value in fitted.items()})
    columns = {key: np.concatenate([part[key] for part in found]) for key in found[0]}
    columns['translation'] = columns['translation'] + centre
    residual = np.full((count, table.count), np.nan, np.float32)
    residual[:, table.used] = columns['residual_m'][:, table.slots]
    columns['residual_m'] = np.where(visible, residual, np.nan)
    columns['known'], columns['twist_known'] = _known(seen, known)
    return Fit(**({key: value[0] for key, value in columns.items()} if single else columns))


def _checked(
    points: np.ndarray, visibility: np.ndarray | None, count: int, min_visibility: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (..., N, 3), float64, and which of them are there (..., N)."""
    points = np.asarray(points, np.float64)
    if points.ndim not in (2, 3) or points.shape[-2:] != (count, 3):
        raise ValueError(
            f'points {points.shape}: expected are ({count}, 3) of one person or (B, {count}, 3), for these '
            'names.'
        )
    visible = np.ones(points.shape[:-1], bool)
    if visibility is not None:
        visibility = np.asarray(visibility, np.float64)
        if visibility.shape != points.shape[:-1]:
            raise ValueError(f'visibility {visibility.shape}: expected is {points.shape[:-1]}, as of points.')
        visible = visibility >= min_visibility  # NaN is not
    wrong = np.argwhere(visible & ~np.isfinite(points).all(axis=-1))
    if len(wrong):
        raise ValueError(
            f'points: {len(wrong)} visible landmarks are not finite, the first at '
            f'{tuple(map(int, wrong[0]))}: give missing ones a visibility of 0.'
        )
    return points, visible
