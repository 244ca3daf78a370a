"""BVH, a skeleton and its motion as text, for Blender, MotionBuilder and other animation programs.

Centimetres, y up, z towards the camera, which stands in the origin. A file holds one person, from the first
frame to the last without gaps. The rest pose is the person's own; the root's position is that of the pelvis;
angles are degrees, turned about z, then the new x, then the new y.

Source: the format is described by the University of Wisconsin, "Biovision BVH".
"""

import pathlib
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.body import skeleton, smpl
from hybrik_jax.ending import write_whole
from hybrik_jax.export import tracks
from hybrik_jax.types import Motion

CM_PER_M = 100.0
_ANGLES = 'Zrotation Xrotation Yrotation'
_ORDER = 'ZXY'


def write_bvh(path: pathlib.Path, motions: Sequence[Motion], body: smpl.SMPL) -> None:
    """Writes a .bvh file of each person, see `tracks.path_of`.

    Raises:
        ValueError: the motions are of another body model.
    """
    for motion in motions:
        text = _text(tracks.turned(tracks.without_gaps(motion), tracks.Y_UP), body)
        write_whole(tracks.path_of(pathlib.Path(path), motion, motions), text)


def _text(motion: Motion, body: smpl.SMPL) -> str:
    """Returns the file of a motion that is y up."""
    offsets_cm = CM_PER_M * tracks.rest_skeleton(motion, body)
    offsets_cm[1:] -= offsets_cm[list(skeleton.PARENTS_29[1:])]
    offsets_cm[0] = 0  # the position says where the root is
    order: list[int] = []
    lines = ['HIERARCHY', *_joint_lines(0, 0, offsets_cm, order), 'MOTION']
    lines += [f'Frames: {len(motion.frames)}', f'Frame Time: {1 / motion.frame_rate:.8f}']
    rows = [CM_PER_M * motion.translation_m, *(_angles(motion.rotations[:, joint]) for joint in order)]
    lines += [' '.join(f'{number:.5f}' for number in row) for row in np.concatenate(rows, axis=1)]
    return '\n'.join(lines) + '\n'


def _joint_lines(joint: int, depth: int, offsets_cm: np.ndarray, order: list[int]) -> Iterator[str]:
    """Yields the lines of a joint and all below it, and adds them to `order`, in which frames list them."""
    indent = '\t' * depth
    leaf = joint >= skeleton.NUM_JOINTS
    kind = 'End' if leaf else 'JOINT' if joint else 'ROOT'
    yield f'{indent}{kind} {"Site" if leaf else skeleton.JOINT_NAMES[joint]}'
    yield f'{indent}{{'
    yield f'{indent}\tOFFSET ' + ' '.join(f'{number:.5f}' for number in offsets_cm[joint])
    if not leaf:
        order.append(joint)
        position = '' if joint else 'Xposition Yposition Zposition '
        yield f'{indent}\tCHANNELS {3 if joint else 6} {position}{_ANGLES}'
    for child, parent in enumerate(skeleton.PARENTS_29):
        if parent == joint:
            yield from _joint_lines(child, depth + 1, offsets_cm, order)
    yield f'{indent}}}'


def _angles(rotations: np.ndarray) -> np.ndarray:
    """Returns degrees (T, 3) of rotations (T, 3, 3) about z, x and y, without jumps by full turns."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Gimbal lock')  # any of the angles that fit will do
        degrees = Rotation.from_matrix(rotations).as_euler(_ORDER, degrees=True)
    return np.unwrap(degrees, axis=0, period=360.0)
