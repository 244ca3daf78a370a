"""A person's motion over time: short gaps filled, jitter taken out, rotations treated as rotations.

Smoothing is Savitzky and Golay's (1964): each frame gets the value, at its place, of a parabola through its
neighbours. Of rotations it is a parabola of rotation vectors from the frame's own rotation on, which depends
on no way of writing them.
"""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from hybrik_jax.types import Motion

# Seconds on either side of a frame that its parabola looks at.
STRENGTHS = {'off': 0.0, 'light': 0.1, 'strong': 0.25}
LONGEST_GAP_S = 0.5
_AT_ONCE = 64  # frames


def fill(motion: Motion, most: int | None = None) -> Motion:
    """Returns the motion without its gaps of at most `most` frames; None: those of half a second at most.

    In between rotations turn at a steady rate about one axis (slerp), and the pelvis moves on a line; such
    frames are `filled`.
    """
    most = round(LONGEST_GAP_S * motion.frame_rate) if most is None else most
    known = np.asarray(motion.frames)
    gaps = [range(a + 1, b) for a, b in zip(known, known[1:], strict=False) if 1 < b - a <= most + 1]
    if not gaps:
        return motion
    frames = np.sort(np.concatenate([known, *gaps]))
    new = ~np.isin(frames, known)
    filled, rotations = np.ones(len(frames), bool), np.zeros((len(frames), *motion.rotations.shape[1:]))
    filled[~new], rotations[~new] = motion.filled, motion.rotations
    for joint, turns in enumerate(np.asarray(motion.rotations).swapaxes(0, 1)):
        rotations[new, joint] = Slerp(known, Rotation.from_matrix(turns))(frames[new]).as_matrix()
    lines = [np.interp(frames, known, axis) for axis in motion.translation_m.T]
    return dataclasses.replace(
        motion, frames=frames, rotations=rotations, translation_m=np.stack(lines, axis=1), filled=filled
    )


def smooth(motion: Motion, strength: str) -> Motion:
    """Returns the motion without jitter, by a strength of `STRENGTHS`. No parabola reaches over a gap.

    Raises:
        ValueError: for an unknown strength.
    """
    if strength not in STRENGTHS:
        raise ValueError(f'No smoothing {strength!r}: choose one of {", ".join(STRENGTHS)}.')
    reach = round(STRENGTHS[strength] * motion.frame_rate)
    if reach < 2:  # a parabola through three frames is what they are
        return motion
    parts = np.split(np.arange(len(motion.frames)), np.flatnonzero(np.diff(motion.frames) > 1) + 1)
    smoothed = [_smooth(motion.rotations[part], motion.translation_m[part], reach) for part in parts]
    rotations, translation_m = (np.concatenate(both) for both in zip(*smoothed, strict=True))
    return dataclasses.replace(motion, rotations=rotations, translation_m=translation_m)


def _smooth(rotations: np.ndarray, places: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rotations (T, J, 3, 3) and places (T, 3) of frames in a row, `reach` of them on a side."""
    count, joints = rotations.shape[:2]
    width = min(2 * reach + 1, count)
    if width < 4:
        return rotations, places
    first = np.clip(np.arange(count) - reach, 0, count - width)
    window = first[:, None] + np.arange(width)  # (T, W)
    weights = np.stack([np.linalg.pinv(np.vander(row - t, 3))[2] for t, row in enumerate(window)])
    turned = np.empty(rotations.shape)
    for start in range(0, count, _AT_ONCE):  # what a frame needs on its way is some hundred kilobytes
        rows = slice(start, start + _AT_ONCE)
        here = rotations[rows]
        own = Rotation.from_matrix(np.repeat(here[:, None], width, 1).reshape(-1, 3, 3))
        others = Rotation.from_matrix(rotations[window[rows]].reshape(-1, 3, 3))
        away = (own.inv() * others).as_rotvec().reshape(len(here), width, joints, 3)
        turn = np.einsum('tw,twjc->tjc', weights[rows], away).reshape(-1, 3)
        smoothed = Rotation.from_matrix(here.reshape(-1, 3, 3)) * Rotation.from_rotvec(turn)
        turned[rows] = smoothed.as_matrix().reshape(here.shape)
    return turned, np.einsum('tw,twc->tc', weights, places[window])
