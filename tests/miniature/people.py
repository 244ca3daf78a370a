"""People whose every number is known: the free body posed, put before a pinhole camera and drawn into a
photo.

numpy, scipy and OpenCV only, nothing is compiled. Frames as in `hybrik_jax.data.record`: camera x right, y
down, z forward, metres; pixels of the photo with their centres at integers.
"""

import dataclasses
import functools
import pathlib
import zlib

import cv2
import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.synthetic.posed_body import PosedBody, to_axis_angle, to_matrices, twist_angles
from hybrik_jax.synthetic.poses import PoseLibrary
from hybrik_jax.view.rasterise import rasterise

LIBRARY_SPLIT = {'train': 'train', 'validation': 'validation', 'val': 'validation', 'test': 'test'}
FACING = np.diag([1.0, -1.0, -1.0])  # model axes to those of a camera that the person faces
SMALLEST_DEPTH = 0.5  # metres from the camera to the nearest point of a person


@dataclasses.dataclass
class Camera:
    """A pinhole camera: photo size in pixels, focal (2,) and centre (2,) in pixels."""

    width: int
    height: int
    focal: np.ndarray
    centre: np.ndarray

    def pixels(self, points_m: np.ndarray) -> np.ndarray:
        """Photo pixels (n, 2) of camera-frame points (n, 3), metres."""
        return project(np.asarray(points_m, np.float64), self.focal, self.centre)

    def shows(self, pixels: np.ndarray) -> np.ndarray:
        """(n,) bool: which of the pixels (n, 2) lie on the photo."""
        return ((pixels >= -0.5) & (pixels < [self.width - 0.5, self.height - 0.5])).all(1)

    def matrix(self) -> np.ndarray:
        """The intrinsic matrix (3, 3)."""
        return np.array([[self.focal[0], 0, self.centre[0]], [0, self.focal[1], self.centre[1]], [0, 0, 1.0]])


@dataclasses.dataclass
class TruePerson:
    """One annotated person as it truly is; float64, camera frame, metres, nothing subtracted.

    photo: the image file.
    joints_m: (29, 3) SMPL joints and leaf vertices.
    h36m_joints_m: (17, 3) Human3.6M joints.
    pose: (24, 3) axis-angle, row 0 takes model axes to camera axes. betas: (10,) of the free body.
    twists: (23,) radians; twists_known: (23,) bool, which of them the file gives.
    focal, centre: (2,) pixels, also where the file gives no camera.
    box: (4,) x y w h as the file gives it; where it gives none, the tight one around the mesh, not clipped.
    root_m: (3,) the root as the file gives it; joint 0 where it gives none.
    width, height: of the photo, pixels.
    sequence, activity: as in the file; '' and 0 where there is none.
    left_out: '' or why the dataset's rules leave this person out.
    vertices: (V, 3) float32.
    """

    photo: pathlib.Path
    joints_m: np.ndarray
    h36m_joints_m: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    twists: np.ndarray
    focal: np.ndarray
    centre: np.ndarray
    box: np.ndarray
    width: int
    height: int
    root_m: np.ndarray
    twists_known: np.ndarray
    sequence: str = ''
    activity: int = 0
    left_out: str = ''
    vertices: np.ndarray | None = None


@dataclasses.dataclass
class Truth:
    """What was written: split -> annotated people in the order of the file, with those to be left out."""

    splits: dict[str, list[TruePerson]]

    def __getitem__(self, split: str) -> list[TruePerson]:
        """The people of a split that a reader yields, in the order of the file."""
        return [person for person in self.splits[split] if not person.left_out]

    def left_out(self, split: str) -> list[TruePerson]:
        """The people of a split that a reader has to leave out, with the reason in `left_out`."""
        return [person for person in self.splits[split] if person.left_out]


@functools.cache
def body() -> PosedBody:
    """The free body, loaded once."""
    return PosedBody()


@functools.cache
def library(split: str) -> PoseLibrary:
    """The poses of a split, loaded once."""
    return PoseLibrary(LIBRARY_SPLIT[split])


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A random stream of its own for a seed and a place, such as ('coco', 'train', 3)."""
    return np.random.default_rng([seed, zlib.crc32('/'.join(map(str, names)).encode())])


def random_camera(rng: np.random.Generator, width: int, height: int) -> Camera:
    """A camera with two focal lengths and a principal point some per cent off the photo's middle."""
    size = np.array([width, height])
    focal = rng.uniform(1.1, 1.6) * max(width, height) * np.array([1, rng.uniform(0.99, 1.01)])
    off = rng.choice([-1, 1], 2) * rng.uniform(0.01, 0.05, 2)
    return Camera(width, height, focal, (size - 1) / 2 + off * size)


def random_betas(rng: np.random.Generator) -> np.ndarray:
    """Shape (10,), float64 numbers that float32 holds exactly."""
    return np.clip(rng.normal(size=10), -2, 2).astype(np.float32).astype(np.float64)


def draw_person(
    rng: np.random.Generator,
    split: str,
    camera: Camera,
    middle: np.ndarray,
    size: float,
    betas: np.ndarray | None = None,
) -> TruePerson:
    """A person in a pose of the split's library, without photo and box of a file.

    The box around the mesh has its middle at the pixel `middle` (2,) and a longer side of about `size`
    pixels.
    """
    betas = random_betas(rng) if betas is None else betas
    poses = library(split).poses
    rotations = to_matrices(poses[rng.integers(len(poses))])
    turn = to_matrices(np.array([[rng.normal(0, 0.1), 0, 0], [0, rng.normal(0, 0.9), 0]]))
    rotations[0] = turn[0] @ FACING @ turn[1] @ rotations[0]
    pose = to_axis_angle(rotations).astype(np.float32).astype(np.float64)

    rotations = to_matrices(pose)
    shape = betas.astype(np.float32)
    world, joints, shift = body().skeleton(shape, rotations)
    vertices = body().surface.pose(shape, rotations.astype(np.float32), world, shift)
    move = _placed(vertices - joints[0], camera, np.asarray(middle, float), size) - joints[0]
    vertices = vertices + move
    joints = np.concatenate([joints + move, vertices[body().leaf]])
    pixels = camera.pixels(vertices)
    low, high = pixels.min(0), pixels.max(0)
    return TruePerson(
        photo=pathlib.Path(),
        joints_m=joints,
        h36m_joints_m=body().h36m @ vertices,
        pose=pose,
        betas=betas,
        twists=twist_angles(rotations, body().rest_points(shape).astype(np.float64)),
        focal=camera.focal,
        centre=camera.centre,
        box=np.concatenate([low, high - low + 1]),
        width=camera.width,
        height=camera.height,
        root_m=joints[0],
        twists_known=np.zeros(23, bool),
        vertices=vertices.astype(np.float32),
    )


def _placed(points: np.ndarray, camera: Camera, middle: np.ndarray, size: float) -> np.ndarray:
    """Where (3,) to put the pelvis of points (n, 3) around it, so that their box is as wanted."""
    points = points[::5].astype(np.float64)
    nearest = SMALLEST_DEPTH - points[:, 2].min()
    root = np.array([0, 0, max(camera.focal[1] * np.ptp(points[:, :2], 0).max() / size, nearest)])
    for _ in range(6):
        pixels = camera.pixels(points + root)
        low, high = pixels.min(0), pixels.max(0)
        root[2] = max(root[2] * (high - low).max() / size, nearest)
        root[:2] += (middle - (low + high) / 2) * root[2] / camera.focal
    return root


def places(
    rng: np.random.Generator, camera: Camera, count: int, clipped: bool
) -> list[tuple[np.ndarray, float]]:
    """Middle (2,) and size, pixels, of `count` people side by side; clipped: the last is partly outside."""
    share = camera.width / count
    out = []
    for k in range(count):
        size = rng.uniform(0.55, 0.8) * min(camera.height, 1.6 * share)
        middle = np.array([(k + rng.uniform(0.42, 0.58)) * share, camera.height * rng.uniform(0.47, 0.53)])
        if clipped and k == count - 1:
            middle[1] = camera.height - rng.uniform(0.1, 0.25) * size
            middle[0] = camera.width - rng.uniform(0.1, 0.25) * size
        out.append((middle, size))
    return out


@dataclasses.dataclass
class Picture:
    """A drawn photo: image (h, w, 3) uint8 RGB, owner (h, w): whom a pixel shows, -1 where nobody."""

    image: np.ndarray
    owner: np.ndarray


def draw_picture(rng: np.random.Generator, camera: Camera, people: list[TruePerson]) -> Picture:
    """The people, shaded and in plain clothes, before a blurred backdrop."""
    width, height = camera.width, camera.height
    light = np.array([rng.normal(0, 0.5), -1.0, -0.8])
    light /= np.linalg.norm(light)
    count = len(body().surface.template)
    vertices = np.concatenate([person.vertices for person in people])
    normals = np.concatenate([body().surface.normals(person.vertices) for person in people])
    colours = np.concatenate([_clothes(rng) for _ in people])
    colours *= (0.5 + 0.5 * np.clip(normals @ light, 0, 1))[:, None]
    faces = np.concatenate([body().surface.faces + k * count for k in range(len(people))])
    found = rasterise(vertices, faces, camera.focal, camera.centre, height, width)

    backdrop = rng.uniform(0.3, 0.8, 3) + rng.normal(0, 0.06, (7, 9, 1)) + rng.normal(0, 0.03, (7, 9, 3))
    backdrop = cv2.resize(backdrop.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(backdrop, 0, 1).reshape(-1, 3)
    image[found.pixel] = found.interpolate(colours.astype(np.float32), faces)
    owner = np.full(height * width, -1)
    owner[found.pixel] = found.face // len(body().surface.faces)
    return Picture(
        image=(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(height, width, 3),
        owner=owner.reshape(height, width),
    )


def _clothes(rng):
    """Colours (V, 3) of the vertices: skin, hair, shirt, trousers and shoes by their places at rest."""
    x, y, _ = body().surface.template.T
    skin = rng.uniform(0.45, 1) * np.array([0.95, 0.72, 0.6])
    shirt, trousers, hair = rng.uniform(0.1, 0.95, (3, 3))
    out = np.tile(skin, (len(x), 1))
    out[(y < rng.uniform(-0.05, 0.05)) & (y > rng.uniform(-0.9, -0.4))] = trousers
    out[(y > 0) & (y < 0.4) & (np.abs(x) < rng.choice([0.3, 0.7]))] = shirt
    out[y < -0.92] = hair
    out[y > y.max() - 0.1] = hair
    return out


def write_photo(path: pathlib.Path, image: np.ndarray) -> None:
    """Writes an RGB image as a JPEG file and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    good, jpeg = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not good:
        raise OSError(f'{path}: the photo could not be encoded.')
    path.write_bytes(jpeg.tobytes())


def keypoints_of(person: TruePerson) -> dict[str, np.ndarray]:
    """Camera-frame points (3,), metres, of what keypoint detectors look for, by COCO's names and 'neck'."""
    at = {name: person.vertices[vertex].astype(np.float64) for name, vertex in body().point.items()}
    points = {'nose': at['nose']}
    for side, letter, offset in (('left', 'L', 0), ('right', 'R', 1)):
        points |= {f'{side}_eye': at[f'{letter}eye'], f'{side}_ear': at[f'{letter}ear']}
        for name, joint in (
            ('shoulder', 16),
            ('elbow', 18),
            ('wrist', 20),
            ('hip', 1),
            ('knee', 4),
            ('ankle', 7),
        ):
            points[f'{side}_{name}'] = person.joints_m[joint + offset]
    points['neck'] = (points['left_shoulder'] + points['right_shoulder']) / 2
    return points
