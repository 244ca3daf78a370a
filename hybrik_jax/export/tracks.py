"""What formats do with motions before they write them: other axes, one frame, no gaps, a file per person."""

import dataclasses
import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from hybrik_jax import smoothing
from hybrik_jax.body import smpl
from hybrik_jax.types import Camera, Motion, Person

PHOTO_FRAME_RATE = 30.0  # of the one frame that a photo is; the Blender add-ons refuse fewer
_MOST_MISSING = 100_000  # frames: an hour of 30 frames/s
# Rows are the axes of other programs in the camera frame (x right, y down, z forward).
Y_UP = np.diag([1.0, -1.0, -1.0])  # glTF, BVH, OBJ, PLY: z towards the camera, which looks along -z
Z_UP = np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]
)  # AMASS, Blender: y away from the camera


def of_people(people: Sequence[Person], body_name: str) -> list[Motion]:
    """Returns the people of a photo as motions of one frame, person_0, person_1, ...

    Args:
        body_name: of the body model that predicted them.
    """
    return [
        Motion(
            name=f'person_{number}',
            body=str(body_name),
            camera=Camera(
                focal=tuple(map(float, person.view.focal)),
                centre=tuple(map(float, person.view.centre)),
                size=tuple(map(int, person.view.photo_size)),
            ),
            frame_rate=PHOTO_FRAME_RATE,
            frames=np.zeros(1, int),
            rotations=np.asarray(person.rotations)[None],
            betas=np.asarray(person.betas),
            translation_m=np.asarray(person.translation_m)[None],
            filled=np.zeros(1, bool),
        )
        for number, person in enumerate(people)
    ]


def turned(motion: Motion, axes: np.ndarray) -> Motion:
    """Returns the motion in other axes: the root's rotations and the pelvis; nothing else depends on them.

    Args:
        axes: (3, 3) a rotation from the camera frame, `Y_UP` or `Z_UP`.
    """
    rotations = np.array(motion.rotations, np.float64)
    rotations[:, 0] = axes @ rotations[:, 0]
    translation_m = np.asarray(motion.translation_m, np.float64) @ axes.T
    return dataclasses.replace(motion, rotations=rotations, translation_m=translation_m)


def at_frame(motions: Sequence[Motion], frame: int) -> list[Motion]:
    """Returns those who have a frame, as motions of that frame alone; ValueError where nobody has it."""
    found = []
    for motion in motions:
        (rows,) = np.nonzero(motion.frames == frame)
        if len(rows):
            parts = {name: getattr(motion, name)[rows] for name in ('frames', 'rotations', 'filled')}
            found.append(dataclasses.replace(motion, translation_m=motion.translation_m[rows], **parts))
    if not found:
        frames = [end for motion in motions for end in (motion.frames[0], motion.frames[-1])]
        where = f'there are people in frames {min(frames)} to {max(frames)}' if frames else 'nor in others'
        raise ValueError(f'Nobody is there in frame {frame}: {where}.')
    return found


def without_gaps(motion: Motion) -> Motion:
    """Returns the motion with a row for every frame from its first to its last, for formats without times.

    What is missing is filled as players of glTF do between key frames, see `smoothing.fill`; ValueError if
    that is too much.
    """
    missing = int(motion.frames[-1] - motion.frames[0]) + 1 - len(motion.frames)
    if missing > _MOST_MISSING:
        raise ValueError(
            f'The motion of {motion.name} lacks {missing} of the frames {motion.frames[0]} to '
            f'{motion.frames[-1]}, too many to be filled: write its parts as motions of their own.'
        )
    return smoothing.fill(motion, most=missing)


def rest_skeleton(motion: Motion, body: smpl.SMPL) -> np.ndarray:
    """Returns the rest joints (29, 3) of the person's shape, metres; ValueError where the body is another."""
    smpl.check_same_body(body, motion.body, f'The motion of {motion.name}')
    return np.asarray(smpl.rest_joints(body, jnp.asarray(motion.betas, jnp.float32)), np.float64)


def path_of(path: pathlib.Path, motion: Motion, motions: Sequence[Motion]) -> pathlib.Path:
    """Returns the file of a person in formats that have one for each: of several, its name is added."""
    return path if len(motions) == 1 else path.with_name(f'{path.stem}_{motion.name}{path.suffix}')
