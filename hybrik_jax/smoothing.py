"""A person's motion over time: short gaps filled, jitter taken out, rotations treated as rotations.

Smoothing is Savitzky and Golay's (1964): each frame gets the value, at its place, of a parabola through its
neighbours. Of rotations it is a parabola of rotation vectors from the frame's own rotation on, which depends
on no way of writing them.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

# Seconds on either side of a frame that its parabola looks at.
STRENGTHS = {'off': 0.0, 'light': 0.1, 'strong': 0.25}
LONGEST_GAP_S = 0.5


def fill(
    frames: Sequence[int], rotations: np.ndarray, places: np.ndarray, *, frame_rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns frames, rotations, places and which of them are filled in (bool): gaps up to half a second.

    Rotations in a gap turn at constant speed the shorter way round, places move at constant speed.

    Args:
        frames: (T,) numbers of frames, ascending. rotations: (T, J, 3, 3). places: (T, 3) or (T, N).
        frame_rate: frames a second.
    Raises:
        ValueError: the numbers of frames do not ascend, or the arrays are not as many.
    """
    frames = np.asarray(frames, int)
    if not len(frames) == len(rotations) == len(places) or (np.diff(frames) <= 0).any():
        raise ValueError(
            f'{len(frames)} frames, {len(rotations)} rotations, {len(places)} places: as many, ascending.'
        )
    most = round(LONGEST_GAP_S * frame_rate)
    wanted = np.concatenate(
        [np.arange(a, b) if b - a - 1 <= most else [a] for a, b in zip(frames, frames[1:], strict=False)]
        + [frames[-1:]]
    ).astype(int)
    after = np.clip(np.searchsorted(frames, wanted, side='right'), 1, max(len(frames) - 1, 1))
    before, after = after - 1, np.minimum(after, len(frames) - 1)
    span = np.maximum(frames[after] - frames[before], 1)
    share = (wanted - frames[before]) / span
    joints = rotations.shape[1]
    start, end = (Rotation.from_matrix(rotations[i].reshape(-1, 3, 3)) for i in (before, after))
    turn = (start.inv() * end).as_rotvec() * np.repeat(share, joints)[:, None]
    turned = (start * Rotation.from_rotvec(turn)).as_matrix().reshape(-1, joints, 3, 3)
    moved = places[before] + share[:, None] * (places[after] - places[before])
    known = np.isin(wanted, frames)
    turned[known], moved[known] = rotations, places
    return wanted, turned, moved, ~known


def smooth(
    frames: Sequence[int], rotations: np.ndarray, places: np.ndarray, *, frame_rate: float, strength: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rotations and places without jitter; arguments as in `fill`. No parabola reaches over a gap.

    Raises:
        ValueError: for an unknown strength.
    """
    if strength not in STRENGTHS:
        raise ValueError(f'No smoothing {strength!r}: choose one of {", ".join(STRENGTHS)}.')
    reach = round(STRENGTHS[strength] * frame_rate)
    rotations, places = np.array(rotations), np.array(places)
    if reach < 2:  # a parabola through three frames is what they are
        return rotations, places
    ends = np.flatnonzero(np.diff(np.asarray(frames, int)) > 1) + 1
    parts = np.split(np.arange(len(rotations)), ends)
    smoothed = [_smooth(rotations[part], places[part], reach) for part in parts]
    return tuple(np.concatenate(both) for both in zip(*smoothed, strict=True))


def _smooth(rotations: np.ndarray, places: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    count, joints = rotations.shape[:2]
    width = min(2 * reach + 1, count)
    if width < 4:
        return rotations, places
    first = np.clip(np.arange(count) - reach, 0, count - width)
    window = first[:, None] + np.arange(width)  # (T, W)
    weights = np.stack([np.linalg.pinv(np.vander(row - t, 3))[2] for t, row in enumerate(window)])
    own = Rotation.from_matrix(np.repeat(rotations[:, None], width, 1).reshape(-1, 3, 3))
    others = Rotation.from_matrix(rotations[window].reshape(-1, 3, 3))
    away = (own.inv() * others).as_rotvec().reshape(count, width, joints, 3)
    turn = np.einsum('tw,twjc->tjc', weights, away).reshape(-1, 3)
    turned = Rotation.from_matrix(rotations.reshape(-1, 3, 3)) * Rotation.from_rotvec(turn)
    moved = np.einsum('tw,twc->tc', weights, places[window])
    return turned.as_matrix().reshape(rotations.shape), moved
