"""The skeleton of `hybrik_jax.body.skeleton` as arrays, with the short names (L_hip, R_hip, ...) used here.

Model space: metres, x to the person's left, y up, z forward; the rest pose is a T-pose.
"""

import numpy as np

from hybrik_jax.body import skeleton

JOINT_NAMES = [name.replace('left_', 'L_').replace('right_', 'R_') for name in skeleton.JOINT_NAMES]
JOINT = {name: i for i, name in enumerate(JOINT_NAMES)}
PARENTS = np.array(skeleton.PARENTS)
MIRROR_JOINTS = np.array(skeleton.MIRROR_JOINTS)


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """Axis-angle poses (..., 24, 3) reflected in the sagittal plane: left and right change places."""
    return pose[..., MIRROR_JOINTS, :] * np.array([1.0, -1.0, -1.0])
