"""Every record that travels between the rooms of the program: its shapes, units and frames, once.

B: batch size; K: joints that a network localises (24, or 29 with the five mesh leaves); V: vertices.
Lengths are metres; the camera frame has x right, y down, z forward; a batched record has a leading B.
"""

import dataclasses

import chex
import jax
import numpy as np


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Crop:
    """How the pixels of one crop relate to the camera.

    crop_to_photo: (2, 3) inverse of the crop's affine map: crop pixels -> photo pixels.
    inverse_intrinsics: (3, 3) homogeneous photo pixels -> ray with z = 1; all zeros where the camera is
        unknown (2D datasets).
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
    leaf_quaternions: (B, 5, 4) (w, x, y, z), not normalised, of the local rotations of joints 10, 11, 15, 22
        and 23 in that order; None where the network says nothing of them.
    betas: (B, 10) shape coefficients, the mean shape already added.

    And what only networks with a camera say (`inference.Network.camera`), None of others:

    scale: (B,) one over the metres that the crop is wide at the root's depth.
    translation: (B, 2) x and y of joint 0 in the frame of the crop's own camera, metres.
    sigmas: (B, K) how uncertain each joint is, in (0, 1), in crop widths.
    columns: (B, K, columns, 3) of each column of a joint's heat map its probability, and its shares of the
        expected row and depth, each in [0, 1): what the flip test of HRNet's own heat map moves.
    """

    uvd: jax.Array
    twists: jax.Array
    leaf_quaternions: jax.Array | None
    betas: jax.Array
    scale: jax.Array | None = None
    translation: jax.Array | None = None
    sigmas: jax.Array | None = None
    columns: jax.Array | None = None


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Rooted:
    """Where a RootNet sees the root joint of a batch of crops.

    uv: (B, 2) in [-0.5, 0.5) across the crop.
    depth_ratio: (B,) its depth over that at which a square of 2 m would fill the crop.
    """

    uv: jax.Array
    depth_ratio: jax.Array


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Posed:
    """A posed body per crop, after inverse kinematics, with its mesh where asked for; axes of the camera.

    lifted_joints_m: (B, K, 3) the network's joints before the inverse kinematics, relative to its joint 0.
    rotations: (B, 24, 3, 3) local rotation matrices.
    betas: (B, 10) shape coefficients.
    posed_joints_m: (B, 24, 3) SMPL's joints of the posed body, relative to its joint 0.
    h36m_joints_m: (B, 17, 3) its Human3.6M joints, relative to the same joint 0 of SMPL; None without
        regressor.
    vertices_m: (B, V, 3) relative to the same joint 0; None where no mesh was asked for.
    root_m: (B, 3) where a network with a camera sees joint 0, camera frame; None of others.
    """

    lifted_joints_m: jax.Array
    rotations: jax.Array
    betas: jax.Array
    posed_joints_m: jax.Array
    h36m_joints_m: jax.Array | None
    vertices_m: jax.Array | None
    root_m: jax.Array | None = None


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Measured:
    """What figures are made of, per example.

    posed_joints_m, h36m_joints_m: as in `Posed`; None of a RootNet.
    pve_m: (B,) mean distance of the vertices to those of the labels, each side relative to SMPL's joint 0.
    root_m: (B, 3) where a RootNet or a network with a camera sees joint 0, camera frame; None of others.
    """

    posed_joints_m: jax.Array | None = None
    h36m_joints_m: jax.Array | None = None
    pve_m: jax.Array | None = None
    root_m: jax.Array | None = None


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Batch:
    """People with their labels, as the input pipeline hands them over; a missing label has weight 0.

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


@dataclasses.dataclass(frozen=True)
class View:
    """How one person of a photo is looked at (NumPy); pixels of the photo with pixel centres at integers.

    photo_size: (width, height).
    box: (4,) x y w h used, clipped to the photo.
    crop_to_photo: (2, 3) of the network's crop.
    focal, centre: (2,), pixels; focal_assumed, centre_assumed: whether nobody gave them.
    root_depth_m: of the pelvis, to lift the joints with; root_depth_assumed: whether nobody gave it and no
        network predicted it; root_depth_by: the network that did, a RootNet or the one with a camera that
        predicts the person, '' where none did.
    box_score: the detector's, None where the box was given.
    """

    photo_size: tuple[int, int]
    box: np.ndarray
    crop_to_photo: np.ndarray
    focal: np.ndarray
    focal_assumed: bool
    centre: np.ndarray
    centre_assumed: bool
    root_depth_m: float
    root_depth_assumed: bool
    root_depth_by: str = ''
    box_score: float | None = None


@dataclasses.dataclass(frozen=True)
class Person:
    """One person in a photo, as predicted (NumPy).

    view: box, camera and depth that were given or assumed.
    translation_m: (3,) where the pelvis is in the camera frame; add it to what is relative.
    joints_px: (K, 2) the network's 2D joints on the photo; projected_px: (24, 2) the posed body's, projected.
    posed_joints_m: (24, 3), lifted_joints_m: (K, 3), vertices_m: (V, 3), as in `Posed`.
    rotations: (24, 3, 3) local; axis_angles: (24, 3) the same, radians.
    betas: (10,).
    warnings: what whoever uses this should know.
    """

    view: View
    translation_m: np.ndarray
    joints_px: np.ndarray
    projected_px: np.ndarray
    posed_joints_m: np.ndarray
    lifted_joints_m: np.ndarray
    vertices_m: np.ndarray
    rotations: np.ndarray
    axis_angles: np.ndarray
    betas: np.ndarray
    warnings: tuple[str, ...]

    @property
    def reprojection_px(self) -> float:
        """Returns the mean distance of the posed body's joints on the photo from the network's 2D joints."""
        return float(np.linalg.norm(self.projected_px - self.joints_px[:24], axis=-1).mean())


@dataclasses.dataclass(frozen=True)
class Camera:
    """The camera of a photo or video; pixels with pixel centres at integers.

    focal, centre: (x, y).
    size: (width, height) of the picture.
    """

    focal: tuple[float, float]
    centre: tuple[float, float]
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Motion:
    """One person's track through a video (NumPy); a photo is a motion with T = 1.

    name: of the person, one of a kind among the motions of a file.
    body: name of the body model that `betas` and `rotations` belong to, as in `smpl.SMPL`.
    camera: in whose frame the person moves.
    frame_rate: frames per second of the video.
    frames: (T,) int, numbers of its frames, increasing; there may be gaps.
    rotations: (T, 24, 3, 3) local; entry 0 takes model axes to camera axes.
    betas: (10,), one shape for all frames.
    translation_m: (T, 3) where the pelvis (joint 0) is in the camera frame.
    filled: (T,) bool, frames in which nobody saw the person.
    """

    name: str
    body: str
    camera: Camera
    frame_rate: float
    frames: np.ndarray
    rotations: np.ndarray
    betas: np.ndarray
    translation_m: np.ndarray
    filled: np.ndarray
