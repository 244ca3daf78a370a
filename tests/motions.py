"""Two people who move, for tests of files: poses of the library, and a gap in the second's frames."""

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.synthetic.poses import PoseLibrary
from hybrik_jax.types import Camera, Motion

CAMERA = Camera(focal=(900.0, 880.0), centre=(330.0, 230.0), size=(640, 480))
FRAMES = (np.arange(8), np.array([3, 4, 5, 9, 10]))


def two_people() -> list[Motion]:
    """Returns ada, in frames 0 to 7, and ben, in frames 3 to 5, 9 and 10, of a video of 25 frames/s."""
    rng = np.random.default_rng(3)
    return [moving(name, frames, rng) for name, frames in zip(('ada', 'ben'), FRAMES, strict=True)]


def moving(name: str, frames: np.ndarray, rng: np.random.Generator) -> Motion:
    """Returns a person in front of the camera, upright, who turns and takes another pose in each frame."""
    poses = PoseLibrary('test').poses
    rotations = Rotation.from_rotvec(poses[rng.integers(len(poses), size=len(frames))].reshape(-1, 3))
    rotations = rotations.as_matrix().reshape(-1, 24, 3, 3)
    upright = Rotation.from_euler('YX', np.stack([40.0 * frames, 0 * frames + 180.0], 1), degrees=True)
    rotations[:, 0] = upright.as_matrix() @ rotations[:, 0]
    start = rng.uniform([-1, -0.3, 3], [1, 0.3, 5])
    return Motion(
        name=name,
        body='open_body (CC0)',
        camera=CAMERA,
        frame_rate=25.0,
        frames=frames,
        rotations=rotations.astype(np.float32),
        betas=rng.normal(0, 1.5, 10).astype(np.float32),
        translation_m=(start + np.outer(frames, [0.05, 0.01, -0.03])).astype(np.float32),
        filled=frames == 4,
    )


def assert_same(found, expected, atol):
    assert [one.name for one in found] == [one.name for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.body, one.camera, one.frame_rate) == (other.body, other.camera, other.frame_rate)
        for field in ('frames', 'rotations', 'betas', 'translation_m', 'filled'):
            np.testing.assert_allclose(getattr(one, field), getattr(other, field), atol=atol, err_msg=field)
        assert one.filled.dtype == bool and one.frames.dtype.kind == 'i'
