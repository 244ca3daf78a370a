"""Every record that travels between the rooms of the program: its shapes, units and frames, once.

B: batch size; K: joints that a network localises (24, or 29 with the five mesh leaves); V: vertices.
Lengths are metres; the camera frame has x right, y down, z forward; a batched record has a leading B.
"""

import chex
import jax


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Crop:
    """How the pixels of one crop relate to the camera.

    crop_to_photo: (2, 3) inverse of the crop's affine map: crop pixels -> photo pixels.
    inverse_intrinsics: (3, 3) homogeneous photo pixels -> ray with z = 1; all zeros where the camera is unknown
        (2D datasets).
    root_m: (3,) the root joint, camera frame, metres.
    """

    crop_to_photo: jax.Array
    inverse_intrinsics: jax.Array
    root_m: jax.Array


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Lifted:
    """What a network says about a batch of crops.

    uvd: (B, K, 3) u, v in [-0.5, 0.5] across the crop; d is the root-relative depth divided by 2 m.
    twists: (B, 23, 2) cosine and sine of the twist of joints 1..23, not normalised.
    leaf_quaternions: (B, 5, 4) (w, x, y, z), not normalised, of the local rotations of joints 10, 11, 15, 22 and
        23 in that order; None where the network says nothing of them.
    betas: (B, 10) shape coefficients, the mean shape already added.
    """

    uvd: jax.Array
    twists: jax.Array
    leaf_quaternions: jax.Array | None
    betas: jax.Array


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Posed:
    """A posed body per crop, after inverse kinematics and, where asked for, skinning; axes of the camera.

    lifted_joints_m: (B, K, 3) the network's joints before the inverse kinematics, relative to its joint 0.
    rotations: (B, 24, 3, 3) local rotation matrices.
    betas: (B, 10) shape coefficients.
    posed_joints_m: (B, 24, 3) SMPL's joints of the posed body, relative to its joint 0.
    h36m_joints_m: (B, 17, 3) its Human3.6M joints, relative to the same joint 0 of SMPL; None without skinning or
        without regressor.
    vertices_m: (B, V, 3) relative to the same joint 0; None without skinning.
    """

    lifted_joints_m: jax.Array
    rotations: jax.Array
    betas: jax.Array
    posed_joints_m: jax.Array
    h36m_joints_m: jax.Array | None
    vertices_m: jax.Array | None


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Measured:
    """What figures are made of, per example.

    posed_joints_m, h36m_joints_m: as in `Posed`.
    pve_m: (B,) mean distance of the vertices to those of the labels, each side relative to SMPL's joint 0.
    """

    posed_joints_m: jax.Array
    h36m_joints_m: jax.Array | None
    pve_m: jax.Array


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Batch:
    """People with their labels, as the input pipeline hands them over. Every weight is 0 where a label is missing.

    image: (B, H, W, 3) uint8 RGB crops.
    crop: crop -> photo -> camera, see `Crop`; zero inverse intrinsics where the camera is unknown.
    uvd, uvd_weight: (B, 29, 3) targets of `Lifted.uvd` (24 joints, then the five mesh leaves).
    joints_m, joints_weight: (B, 24, 3), (B, 24) camera frame, relative to joint 0.
    h36m_joints_m, h36m_weight: (B, 17, 3), (B, 17) camera frame, relative to the Human3.6M pelvis.
    quaternions: (B, 24, 4) (w, x, y, z), w >= 0, local rotations; row 0 takes model axes to camera axes.
    betas: (B, 10) shape coefficients of the training's body model.
    smpl_weight: (B,) for quaternions and betas.
    twists, twist_weight: (B, 23, 2), (B, 23) cosine and sine of the twist of joints 1..23.
    """

    image: jax.Array
    crop: Crop
    uvd: jax.Array
    uvd_weight: jax.Array
    joints_m: jax.Array
    joints_weight: jax.Array
    h36m_joints_m: jax.Array
    h36m_weight: jax.Array
    quaternions: jax.Array
    betas: jax.Array
    smpl_weight: jax.Array
    twists: jax.Array
    twist_weight: jax.Array
