"""The orientation of each part of one body that landmarks tell, and its scale and shape; callers `vmap`.

A part turns the lines between its landmarks from where they rest to where they are seen. What these lines
leave open, the part that it hangs on decides: both stand in one least-squares alignment, `_align`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import rotations as rot
from hybrik_jax.body.landmarks import NOTHING, SLOTS
from hybrik_jax.body.smpl import NUM_BETAS

_UPRIGHT = np.diag([1.0, -1.0, -1.0]).astype(np.float32)  # facing the camera
_LENGTHS = (
    ('left_hip', 'right_hip'),
    ('left_shoulder', 'right_shoulder'),
    *(
        (f'{side}_{a}', f'{side}_{b}')
        for side in ('left', 'right')
        for a, b in (('hip', 'knee'), ('knee', 'ankle'), ('shoulder', 'elbow'), ('elbow', 'wrist'))
    ),
    ('left_hip', 'left_shoulder'),
    ('right_hip', 'right_shoulder'),
)
_LENGTH_NOISE_M = 0.01  # how far a bone's length is trusted against betas ~ N(0, 1)
HEAD_MARKS = ('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'head', 'head_top')
_HAND_MARKS = (
    'index_knuckle', 'pinky_knuckle', 'thumb_knuckle', 'hand', 'index_tip', 'pinky_tip', 'middle_tip',
)  # fmt: skip
_FOOT_MARKS = ('heel', 'big_toe', 'small_toe', 'foot_index', 'foot')
LIMBS = tuple(
    tuple(f'{side}_{part}' for part in parts)
    for parts in (('hip', 'knee', 'ankle', *_FOOT_MARKS), ('shoulder', 'elbow', 'wrist', *_HAND_MARKS))
    for side in ('left', 'right')
)
# Where the lower part of a limb goes at rest when the limb bends: shins back, forearms forward.
BENDING = np.array([[0, 0, -1], [0, 0, -1], [0, 0, 1], [0, 0, 1]], np.float32)
_HOLD = 0.2  # of a part's turn, by the part that it hangs on; a line that is seen has 1
_ENDS = 0.2  # what toes and thumbs tell of the twist of their limb
_MAIN = 10.0  # the line of hips or shoulders, against the spine


class Points(NamedTuple):
    """Landmarks: where they are seen and where they rest (..., 3), body's metres; known (...), 0. or 1."""

    seen: jax.Array
    rest: jax.Array
    known: jax.Array

    def at(self, *names: str) -> 'Points':
        """Returns some of the S landmarks by name; a single one without an axis."""
        rows = [SLOTS.index(name) for name in names]
        return Points(*(x[rows[0]] if len(rows) == 1 else x[np.array(rows)] for x in self))

    def middle(self) -> 'Points':
        """Returns the mean of those that are known; missing if none is."""
        weight = self.known / jnp.maximum(jnp.sum(self.known), 1.0)
        seen, rest = (jnp.sum(weight[:, None] * x, axis=0) for x in self[:2])
        return Points(seen, rest, jnp.max(self.known))


def first(*points: Points) -> Points:
    """Returns the first point that is known; the last one if none is."""
    *earlier, chosen = points
    for point in reversed(earlier):
        chosen = Points(*(jnp.where(point.known > 0, a, b) for a, b in zip(point, chosen, strict=True)))
    return chosen


def _pair(points: Points, part: str) -> Points:
    """Returns the middle of the left and the right `part`; missing if one of them is."""
    both = points.at(f'left_{part}', f'right_{part}')
    return both.middle()._replace(known=jnp.min(both.known))


def middle_of_hips(points: Points) -> Points:
    """Returns the middle of both hips, or the landmark that stands for it."""
    return first(_pair(points, 'hip'), points.at('mid_hip'), points.at('pelvis'))


def middle_of_shoulders(points: Points) -> Points:
    """Returns the middle of both shoulders, or the landmark that stands for it."""
    return first(_pair(points, 'shoulder'), points.at('mid_shoulder'), points.at('neck'))


def _on_spine(points: Points) -> Points:
    return first(points.at('torso'), points.at('spine2'))


class _Lines(NamedTuple):
    """Directions at rest (..., 3) and as seen (..., 3), and how much they count (...), zero if unknown."""

    rest: jax.Array
    seen: jax.Array
    weight: jax.Array

    def times(self, factor: float | jax.Array) -> '_Lines':
        """Returns them with a weight that is `factor` times as large."""
        return self._replace(weight=factor * self.weight)


def _line(start: Points, end: Points) -> _Lines:
    return _Lines(
        rot.direction(end.rest - start.rest), rot.direction(end.seen - start.seen), start.known * end.known
    )


def _align(prior: jax.Array, *lines: _Lines) -> jax.Array:
    """Returns the rotation (3, 3) that turns lines from rest to where they are seen, else like `prior`."""
    rest = [jnp.atleast_2d(line.weight[..., None] * line.rest) for line in lines]
    seen = [jnp.atleast_2d(line.seen) for line in lines]
    return rot.kabsch(jnp.concatenate([*rest, _HOLD * jnp.eye(3)]), jnp.concatenate([*seen, _HOLD * prior.T]))


def share_of(rotation: jax.Array, share: float) -> jax.Array:
    """Returns the rotation (3, 3) about the same axis by a share of the angle."""
    return rot.axis_angle_to_matrix(share * rot.matrix_to_axis_angle(rotation))


def _across(line: _Lines, bone: _Lines) -> _Lines:
    """Returns the part of a line at right angles to a bone, which tells the bone's twist."""
    rest = line.rest - jnp.sum(line.rest * bone.rest) * bone.rest
    seen = line.seen - jnp.sum(line.seen * bone.seen) * bone.seen
    return _Lines(rest, seen, line.weight * bone.weight)


def turn_torso(points: Points, rest_m: jax.Array, with_spine: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the orientations (3, 3) of pelvis, spine1, spine2 and spine3: the spine turns in equal steps.

    The hips' line and the shoulders' line fix pelvis and chest but for their nodding. That is told by the
    line from the hips' middle to the shoulders', to both; where there is a landmark on the spine, by its
    lower part to the pelvis and by its upper part to the chest.
    """
    hips, shoulders, spine = middle_of_hips(points), middle_of_shoulders(points), _on_spine(points)
    hip_line = _line(points.at('left_hip'), points.at('right_hip'))
    shoulder_line = _line(points.at('left_shoulder'), points.at('right_shoulder'))
    sides = [_line(points.at(f'{side}_hip'), points.at(f'{side}_shoulder')) for side in ('left', 'right')]
    whole = _line(hips, shoulders).times(1 - spine.known)
    lower, upper = _line(hips, spine), _line(spine, shoulders)
    nod = [
        *(side.times(0.1) for side in sides),
        _line(shoulders, points.at(*HEAD_MARKS).middle()).times(0.1),
    ]
    both = _align(jnp.asarray(_UPRIGHT), hip_line, shoulder_line, *nod, whole, lower, upper)
    bones = jnp.stack(
        [rest_m[3] - hips.rest, rest_m[6] - rest_m[3], rest_m[9] - rest_m[6], shoulders.rest - rest_m[9]]
    )

    def chain(pelvis: jax.Array, chest: jax.Array) -> jax.Array:
        step = share_of(rot.matmul(pelvis.T, chest), 1 / 3)
        spine1 = rot.matmul(pelvis, step)
        return jnp.stack([pelvis, spine1, rot.matmul(spine1, step), chest])

    def refine(_: int, turns: jax.Array) -> jax.Array:
        # The line from hips to shoulders as the bent spine has it now, seen from pelvis and from chest.
        made = rot.direction(jnp.sum(rot.rotate(turns, bones), axis=0))
        of_pelvis, of_chest = (whole._replace(rest=rot.rotate_back(turns[k], made)) for k in (0, 3))
        pelvis = _align(both, hip_line.times(_MAIN), of_pelvis, lower)
        chest = _align(both, shoulder_line.times(_MAIN), of_chest, upper)
        return chain(pelvis, chest)

    turns = jax.lax.fori_loop(0, 4, refine, jnp.stack([both] * 4))
    return tuple(jnp.where(with_spine > 0, turns, both))


def turn_collars(points: Points, rest_m: jax.Array, chest: jax.Array) -> jax.Array:
    """Returns the orientations (2, 3, 3) of the left and the right collar: turned to the shoulders."""
    base = first(points.at('neck'), middle_of_shoulders(points))
    turns = []
    for side, joint in (('left', 13), ('right', 14)):
        collar = Points(base.seen + rot.rotate(chest, rest_m[joint] - base.rest), rest_m[joint], base.known)
        line = _line(collar, points.at(f'{side}_shoulder'))
        swing = rot.rotation_between(rot.rotate(chest, line.rest), line.seen)
        turns.append(jnp.where(line.weight > 0, rot.matmul(swing, chest), chest))
    return jnp.stack(turns)


def turn_head(points: Points, chest: jax.Array) -> jax.Array:
    """Returns the orientation (3, 3) of the head."""
    marks = points.at(*HEAD_MARKS)
    centre = marks.middle()
    spread = _Lines(10 * (marks.rest - centre.rest), 10 * (marks.seen - centre.seen), marks.known)
    return _align(chest, spread, _line(middle_of_shoulders(points), centre).times(0.3))


def turn_limb(
    limb: Points, bending: jax.Array, parent: jax.Array, planes: jax.Array, ends: jax.Array
) -> jax.Array:
    """Returns the orientations (3, 3, 3) of an arm's or leg's upper part, lower part and end.

    Args:
        limb: shoulder, elbow, wrist or hip, knee, ankle, and the landmarks of the hand or foot.
        bending: (3,) where the lower part goes at rest when the limb bends.
        parent: (3, 3) orientation of chest or pelvis.
        planes, ends: 0. or 1., whether to use the plane that a bent limb lies in, and its end's landmarks.
    """
    start, middle, end = (Points(*(x[k] for x in limb)) for k in range(3))
    marks = Points(*(x[3:] for x in limb))
    marks = marks._replace(known=ends * marks.known)
    upper_bone, lower_bone = _line(start, middle), _line(middle, end)
    plane = _across(lower_bone._replace(rest=bending), upper_bone).times(planes)
    upper = _align(parent, upper_bone, plane)
    lower = _align(upper, lower_bone)
    lines = jax.vmap(_line, (None, 0))(end, marks)
    between = jax.vmap(jax.vmap(_line, (None, 0)), (0, None))(marks, marks)
    between = _Lines(*(x.reshape(-1, *x.shape[2:]) for x in between))
    last = _align(lower, lines, between.times(0.5))
    # Toes and thumbs point forward at rest: they tell the twist of the limb, too, even of a straight one.
    forward = jnp.array([0.0, 0.0, 1.0])
    ahead = _Lines(forward, rot.rotate(last, forward), end.known * (jnp.sum(marks.known) > 1))
    upper = _align(parent, upper_bone, plane, _across(ahead, upper_bone).times(_ENDS))
    lower = _align(upper, lower_bone, _across(ahead, lower_bone).times(_ENDS))
    return jnp.stack([upper, lower, last])


def limb_landmarks(points: Points) -> Points:
    """Returns the landmarks of the four limbs, left leg first, in as many places each."""
    longest = max(map(len, LIMBS))
    names = [name for limb in LIMBS for name in (*limb, *[NOTHING] * (longest - len(limb)))]
    return Points(*(x.reshape(4, longest, *x.shape[1:]) for x in points.at(*names)))


def scale_and_betas(points: Points, mark_dirs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the scale () of the resting shape, and the betas (10,) whose bones are as long as those seen.

    These betas are the most likely ones ~ N(0, 1) if lengths are off by 10 mm: few lengths tell ten numbers.

    Args:
        mark_dirs: (S, 3, 10), what betas move the resting landmarks by.
    """
    starts, ends = (points.at(*names) for names in zip(*_LENGTHS, strict=True))
    first, last = (np.array([SLOTS.index(name) for name in names]) for names in zip(*_LENGTHS, strict=True))
    some = starts.known * ends.known
    bones = ends.rest - starts.rest
    rest, length = rot.norm(bones), rot.norm(ends.seen - starts.seen)
    total, at_rest = jnp.sum(some * length), jnp.sum(some * rest)
    fine = (total > 0) & (at_rest > 0)
    scale = jnp.where(fine, total, 1.0) / jnp.where(fine, at_rest, 1.0)
    slope = jnp.einsum('nc,ncb->nb', jax.vmap(rot.direction)(bones), mark_dirs[last] - mark_dirs[first])
    slope, off = some[:, None] * slope / _LENGTH_NOISE_M, some * (length / scale - rest) / _LENGTH_NOISE_M
    return scale, jnp.linalg.solve(slope.T @ slope + jnp.eye(NUM_BETAS), slope.T @ off)
