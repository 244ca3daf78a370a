"""The .npz layout of AMASS, which Blender's SMPL-X add-ons and many programs of research read.

Metres and radians, z up, y away from the camera, which stands in the origin. A file holds one person, from
the first frame to the last without gaps:

    poses (T, 165)      axis-angles of SMPL-X's 55 joints: the first 66 numbers are the 22 joints of the
                        body, the rest (jaw, eyes, fingers) are zeros; cut to 156 it is the layout of
                        AMASS's older files for SMPL+H, whose 22 body joints are the same
    root_orient, pose_body, pose_jaw, pose_eye, pose_hand
                        the same in parts: (T, 3), (T, 63), (T, 3), (T, 6), (T, 90)
    trans (T, 3)        what the model is moved by: the pelvis less where it rests in the person's shape
    betas (16,)         the ten of the motion, then zeros
    gender              'neutral'
    mocap_frame_rate    frames per second; older files call it mocap_framerate, both are there
    mocap_time_length   seconds
    surface_model_type  'smplx', the layout of `poses`
    body_model          whose shape the betas are

SMPL's two hand joints (22, 23) have no place in it and are left out. Betas mean a shape in the body's own
shape space alone: SMPL-X in Blender has another, set its shape to zero there or expect another figure.

Source: https://amass.is.tue.mpg.de; what the add-ons read: operators.py of Meshcapade's SMPL_blender_addon.
"""

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.body import smpl
from hybrik_jax.ending import write_whole
from hybrik_jax.export import tracks
from hybrik_jax.types import Motion

BODY_JOINTS = 22  # of SMPL's 24, those that SMPL+H and SMPL-X share
NUM_BETAS = 16
_PARTS = {
    'root_orient': slice(0, 3),
    'pose_body': slice(3, 66),
    'pose_jaw': slice(66, 69),
    'pose_eye': slice(69, 75),
    'pose_hand': slice(75, 165),
}


def write_amass(path: pathlib.Path, motions: Sequence[Motion], body: smpl.SMPL) -> None:
    """Writes an .npz file of each person, see `tracks.path_of`.

    Raises:
        ValueError: the motions are of another body model.
    """
    for motion in motions:
        file = io.BytesIO()
        np.savez_compressed(file, **_arrays(tracks.turned(tracks.without_gaps(motion), tracks.Z_UP), body))
        write_whole(tracks.path_of(pathlib.Path(path), motion, motions), file.getvalue())


def _arrays(motion: Motion, body: smpl.SMPL) -> dict[str, np.ndarray]:
    """Returns the arrays of a motion that is z up."""
    count = len(motion.frames)
    poses = np.zeros((count, 165))
    matrices = motion.rotations[:, :BODY_JOINTS].reshape(-1, 3, 3)
    poses[:, : 3 * BODY_JOINTS] = Rotation.from_matrix(matrices).as_rotvec().reshape(count, -1)
    rate = np.array(motion.frame_rate)
    return {
        'poses': poses,
        'trans': motion.translation_m - tracks.rest_skeleton(motion, body)[0],
        'betas': np.pad(np.asarray(motion.betas, np.float64), (0, NUM_BETAS - smpl.NUM_BETAS)),
        'gender': np.array('neutral'),
        'mocap_frame_rate': rate,
        'mocap_framerate': rate,
        'mocap_time_length': np.array(count / motion.frame_rate),
        'surface_model_type': np.array('smplx'),
        'body_model': np.array(motion.body),
    } | {name: poses[:, part] for name, part in _PARTS.items()}
