"""What only the people of the split 'train' have, so that a network trained on them follows real photos.

Poses put together of several, photos that cut the person off, other people behind, hard light, backgrounds
without a place, and the faults of real cameras and files. The splits that measure go without: what they hold
never changes. All chances are drawn from `stream`, a random stream of its own, so that an example to which
nothing of this happens is drawn like those of the other splits.

Images are float32 RGB in 0..1; lengths in pixels are those of a photo of 256 pixels and grow with its size.
"""

import dataclasses

import cv2
import numpy as np

from hybrik_jax.synthetic.paint import hsv, muted, noise_at
from hybrik_jax.synthetic.posed_body import forward_kinematics, to_matrices
from hybrik_jax.synthetic.poses import SPLITS, PoseLibrary
from hybrik_jax.synthetic.scene import Background, Camera, floor_points

SPLIT = 'train'

MIXED_POSE, THIRD_ARM = 0.5, 0.35  # the second: of the mixed ones
CUT_OFF = 0.2
OTHERS = 0.2
HARD_LIGHT = 0.25
NO_PLACE = 0.25
MOTION_BLUR, LOW_RESOLUTION, NOISE, SHARPENED, GREY = 0.15, 0.2, 0.2, 0.15, 0.03

LEGS = (0, 1, 2, 4, 5, 7, 8, 10, 11)  # with the orientation of the whole body
ARMS = ((13, 16, 18, 20, 22), (14, 17, 19, 21, 23))
LYING = ('lie', 'swim', 'side_plank')
ON_HANDS = (
    'bear_crawl', 'bridge', 'cartwheel', 'crawl', 'dive', 'down_dog', 'handstand', 'plank', 'push_up'
)  # fmt: skip
LEG_BONES = ((1, 4), (4, 7), (7, 10), (2, 5), (5, 8), (8, 11))
FOREARMS = ((18, 20, 22), (19, 21, 23))
NEAREST_LEG_M, NEAREST_ARM_M = 0.09, 0.06  # between the axes of limbs that do not go through each other


def stream(seed: int, split: str, index: int) -> np.random.Generator | None:
    """Returns the random stream of what this module does to an example, None where it does nothing."""
    return np.random.default_rng([seed, SPLITS.index(split), index, 1]) if split == SPLIT else None


# ------------------------------------------------------------------------------------------------ poses
def family(kind: str) -> str:
    """Returns 'lying', 'on hands' or 'upright' of an archetype's name: poses of a family can be mixed."""
    if kind.startswith(LYING):
        return 'lying'
    return 'on hands' if kind.startswith(ON_HANDS) else 'upright'


class PoseMixer:
    """Makes new poses of the library's: legs of one, trunk, head and arms of another, an arm of a third."""

    def __init__(self, library: PoseLibrary, rest_joints: np.ndarray) -> None:
        """Mixes the poses of `library`; rest_joints (24, 3), metres, of the body that they are tried on."""
        self.library, self.rest = library, rest_joints.astype(np.float64)
        families = np.array([family(str(kind)) for kind in library.kinds])
        self.of_family = {name: np.flatnonzero(families == name) for name in np.unique(families)}

    def mix(self, i: int, rng: np.random.Generator) -> np.ndarray:
        """Returns a pose (24, 3), axis-angle, radians, with the legs and the orientation of pose `i`.

        Half of the answers are pose `i` as it is; so is one for which three tries put an arm through a leg.
        """
        own = self.library.poses[i]
        if rng.random() >= MIXED_POSE:
            return own.copy()
        others = self.of_family[family(str(self.library.kinds[i]))]
        for _ in range(3):
            pose = self.library.poses[rng.choice(others)].copy()
            if rng.random() < THIRD_ARM:
                arm = list(ARMS[rng.integers(2)])
                pose[arm] = self.library.poses[rng.choice(others)][arm]
            pose[list(LEGS)] = own[list(LEGS)]
            if self.limbs_apart(pose):
                return pose
        return own.copy()

    def limbs_apart(self, pose: np.ndarray) -> bool:
        """Returns whether both forearms of a pose (24, 3) keep clear of the legs and of each other."""
        joints = forward_kinematics(to_matrices(pose), self.rest)[1]
        left, right = (_along(joints[list(arm)]) for arm in FOREARMS)
        legs = np.concatenate([_along(joints[list(bone)]) for bone in LEG_BONES])
        return bool(
            _nearest(np.concatenate([left, right]), legs) > NEAREST_LEG_M
            and _nearest(left, right) > NEAREST_ARM_M
        )


def _along(corners: np.ndarray) -> np.ndarray:
    """Returns points (5 (n - 1) + 1, 3), evenly along every part of the path through corners (n, 3)."""
    at = np.linspace(0, len(corners) - 1, 5 * (len(corners) - 1) + 1)
    k = np.minimum(at.astype(int), len(corners) - 2)
    return corners[k] + (at - k)[:, None] * (corners[k + 1] - corners[k])


def _nearest(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the least distance between points (n, 3) and points (m, 3)."""
    return float(np.sqrt(((a[:, None] - b[None]) ** 2).sum(2).min()))


# ------------------------------------------------------------------------------------------------ camera
def cut_off(camera: Camera, vertices: np.ndarray, rng: np.random.Generator) -> Camera:
    """Returns the camera, in a fifth of the cases brought nearer so that its photo cuts the person off.

    Below the knees or the hips mostly, else at one side. The camera zooms and moves without turning.

    Args:
        vertices: (n, 3) the person in the world, metres.
    """
    if rng.random() >= CUT_OFF:
        return camera
    uv = camera.pixels(vertices)
    low, high = uv.min(0), uv.max(0)
    extent = high - low
    side = rng.choice(['bottom', 'left', 'right'], p=[0.7, 0.15, 0.15])
    if side == 'bottom':
        gone = rng.choice([rng.uniform(0.15, 0.35), rng.uniform(0.35, 0.55)])
        high = high - [0, gone * extent[1]]
    else:
        gone = rng.uniform(0.2, 0.4) * extent[0]
        low, high = (low + [gone, 0], high) if side == 'left' else (low, high - [gone, 0])
    size = camera.size
    zoom = np.clip(rng.uniform(0.6, 0.98) * size / (high - low).max(), 0.6, 3.0)
    focal = camera.focal * zoom
    low, high = ((corner - camera.centre) * zoom + camera.centre for corner in (low, high))
    free = size - (high - low)  # of the photo, around what is left of the person
    wanted = free * np.clip(rng.normal(0.5, 0.15, 2), 0, 1) - 0.5  # its upper left corner
    if side == 'bottom':
        wanted[1] = free[1] - 0.5
    else:
        wanted[0] = -0.5 if side == 'left' else free[0] - 0.5
    depth = float(np.median(camera.to_camera(vertices)[:, 2]))
    off = (low - wanted) * depth / focal
    position = camera.position + camera.rotation.T @ np.array([off[0], off[1], 0])
    position[1] = max(position[1], 0.08)
    return dataclasses.replace(camera, position=position, focal=focal)


def hard_light(light: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Returns the unit vector (3,) to the light and what the light from all around is multiplied by.

    They are `light` and 1; in a quarter of the cases a lamp in front or at a side, and much less than 1.
    """
    if rng.random() >= HARD_LIGHT:
        return light, 1.0
    angle = np.deg2rad(rng.uniform(-110, 110))  # 0 is at the camera's side
    light = np.array([np.sin(angle), rng.uniform(0.2, 1.3), np.cos(angle)])
    return light / np.linalg.norm(light), float(rng.uniform(0.3, 0.7))


# ------------------------------------------------------------------------------------------------ others
def others(rng: np.random.Generator) -> int:
    """Returns how many other people are in the photo: none mostly, else one or two."""
    return int(rng.choice([1, 2], p=[0.8, 0.2])) if rng.random() < OTHERS else 0


def place_behind(
    vertices: np.ndarray,
    camera: Camera,
    floor: np.ndarray,
    behind: float,
    middle: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns the way (3,) along the floor, metres, that brings another person wholly behind the first.

    Args:
        vertices: (n, 3) the other person in the world, feet on the floor, at the origin.
        floor: (s * s,) bool, the pixels that show floor; it stands on them if that can be had.
        behind: the depth of what is farthest of the first person, metres.
        middle: (2,) the first person's place in the photo, pixels.
    """
    forward, right = (camera.rotation[k] * [1, 0, 1] for k in (2, 0))
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    sideways = middle[0] + rng.choice([-1, 1]) * rng.uniform(0.12, 0.55) * camera.size
    gap, size = rng.uniform(0.1, 3.5), camera.size
    lowest = vertices[vertices[:, 1].argmin()]
    way = np.zeros(3)
    for _ in range(4):
        seen = camera.to_camera(vertices)
        away = (behind + gap - seen[:, 2].min()) / (forward @ camera.rotation[2])
        way = forward * away
        x, _, z = camera.to_camera((vertices + way).mean(0, keepdims=True))[0]
        way = way + right * ((sideways - camera.centre[0]) * z / camera.focal - x)
        u, v = np.rint(camera.pixels((lowest + way)[None])[0]).astype(int)
        if not (0 <= u < size and 0 <= v < size) or floor[v * size + u]:
            break
        gap *= 0.4
    nearest = camera.to_camera(vertices + way)[:, 2].min()
    return way + forward * max(0.0, (behind + 0.02 - nearest) / (forward @ camera.rotation[2]))


# ------------------------------------------------------------------------------------------------ background
def no_place(rng: np.random.Generator, camera: Camera, rays: np.ndarray) -> Background:
    """Returns a background that shows nothing: gradients, noise and a heap of blurred shapes of all sizes.

    Shapes whose sizes follow a power law hide each other as the things of a photo do (the dead leaves model,
    Lee, Mumford and Huang 2001). In half of the cases there is a floor of its own colour.
    """
    size = camera.size
    palette = [muted(rng, 0.1, 1.0, 0.7) for _ in range(rng.integers(2, 5))]
    palette += [hsv(rng.random(), rng.beta(1.2, 2.0), rng.uniform(0.2, 1.0))]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * np.pi)
    blend = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    image = (palette[0] * (1 - blend) + palette[-1] * blend).astype(np.float32)
    if rng.random() < 0.7:
        _heap(image, palette, rng)
    for cells in (2, 4, 9, 20, 45):
        if rng.random() < 0.5:
            n = rng.normal(0, 1, (cells, cells, 1)) + rng.normal(
                0, rng.choice([0.05, 0.3]), (cells, cells, 3)
            )
            n = cv2.resize(n.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
            image += n * np.float32(rng.uniform(0.02, 0.3) / cells**0.5)
    if rng.random() < 0.6:
        grain = noise_at(x, y, float(np.exp(rng.uniform(3, 6.5))), rng, rng.choice(['smooth', 'fine']))
        image *= 1 + np.float32(rng.uniform(0.03, 0.3)) * grain[..., None]
    if rng.random() < 0.5:
        blur = float(np.exp(rng.uniform(np.log(0.5), np.log(10))))
        image = cv2.GaussianBlur(image, (0, 0), blur * size / 256)
    image = np.clip(image, 0.0, 1.0).reshape(-1, 3)
    floor = rays[1] < -0.02
    if rng.random() < 0.5:
        p, _ = floor_points(camera, rays, np.flatnonzero(floor), 60)
        ground = muted(rng, 0.15, 0.9, 0.6) * (
            1 + rng.uniform(0.02, 0.2) * noise_at(p[0], p[2], rng.uniform(10, 120), rng)[:, None]
        )
        image[floor] = np.clip(ground[floor], 0, 1)
        return image, floor, p
    return image, np.zeros_like(floor), np.full(rays.shape, 1e3, np.float32)


def _heap(image: np.ndarray, palette: list, rng: np.random.Generator) -> None:
    """Paints a heap of shapes of the palette's colours (3,) over an image (s, s, 3), in place."""
    size = image.shape[0]
    smallest = rng.uniform(0.02, 0.15)
    round_ones = rng.random()
    for _ in range(int(rng.integers(5, 90))):
        radius = min(smallest / np.sqrt(rng.uniform(0.004, 1)), 0.6) * size
        centre = rng.uniform(-0.1, 1.1, 2) * size
        tone = palette[rng.integers(len(palette))] * rng.uniform(0.6, 1.25) + rng.normal(0, 0.04, 3)
        tone = tuple(float(c) for c in np.clip(tone, 0, 1))
        corners = 16 if rng.random() < round_ones else int(rng.integers(3, 7))
        angle = rng.uniform(0, 6.3) + np.arange(corners) * 2 * np.pi / corners
        ring = np.stack([np.cos(angle), np.sin(angle) * rng.uniform(0.3, 1)], 1)
        if corners < 16:
            ring *= rng.uniform(0.5, 1.2, (corners, 1))
        c, s = np.cos(turn := rng.uniform(0, 3.2)), np.sin(turn)
        ring = ring @ np.array([[c, s], [-s, c]]) * radius + centre
        cv2.fillPoly(image, [(ring * 16).round().astype(np.int32)], tone, cv2.LINE_AA, 4)


# ------------------------------------------------------------------------------------------------ the photo
def photograph(image: np.ndarray, quality: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Returns an image (s, s, 3) with faults that photos have, and the quality of its JPEG file.

    White balance, exposure, contrast, vignetting, motion blur, few pixels, noise, sharpening, no colours.
    """
    image = _tones(image, rng)
    unclear = rng.random()
    if unclear < MOTION_BLUR:
        image = _motion_blur(image, rng)
    elif unclear < MOTION_BLUR + LOW_RESOLUTION:
        image = _few_pixels(image, rng)
        quality = min(quality, int(rng.integers(25, 96)))
    if rng.random() < NOISE:
        image = _noise(image, rng)
    elif rng.random() < SHARPENED:
        soft = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 2.0)) * len(image) / 256)
        image = image + np.float32(rng.uniform(0.3, 1.2)) * (image - soft)
    if rng.random() < GREY:
        grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
        image = np.repeat(grey[..., None], 3, 2) * (1 + rng.choice([0, 0.06]) * np.array([1, 0, -1]))
    if rng.random() < 0.15:
        quality = min(quality, int(rng.integers(12, 36)))
    return np.clip(image, 0, 1).astype(np.float32), quality


def _tones(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image after white balance, exposure, gamma, contrast, haze and vignetting."""
    if rng.random() < 0.4:
        warm = rng.normal(0, 0.1)
        image = image * np.exp(rng.normal(0, 0.04, 3) + [warm, 0, -warm]).astype(np.float32)
    exposure, brightest = rng.random(), float(np.quantile(image[::4, ::4], 0.95))
    if exposure < 0.6:  # the camera chose it well
        image = image * np.float32(np.clip(rng.uniform(0.7, 1.0) / max(brightest, 0.05), 0.8, 3.0))
    elif exposure < 0.67:
        image = image * np.float32(rng.uniform(1.2, 1.6) / max(brightest, 0.2))
    elif exposure < 0.71:
        image = image * np.float32(rng.uniform(0.5, 0.8))
    if rng.random() < 0.35:
        image = np.power(np.clip(image, 0, 1), np.float32(np.exp(rng.normal(-0.05, 0.25))))
    if rng.random() < 0.35:
        middle = image.mean()
        image = middle + (image - middle) * np.float32(np.exp(rng.normal(0.05, 0.2)))
    if rng.random() < 0.06:
        haze = np.float32(rng.uniform(0.1, 0.4))
        image = image * (1 - haze) + haze * np.float32(rng.uniform(0.6, 1.0))
    if rng.random() < 0.15:
        line = np.linspace(-1, 1, len(image), dtype=np.float32)
        centre = rng.normal(0, 0.2, 2).astype(np.float32)
        away = (line - centre[0])[None] ** 2 + (line - centre[1])[:, None] ** 2
        image = image / (1 + np.float32(rng.uniform(0.1, 0.7)) * away)[..., None]
    return np.clip(image, 0, 1)


def _motion_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image (s, s, 3) as a camera saw it that moved along a straight line meanwhile."""
    length = rng.uniform(3, 14) * len(image) / 256
    angle = rng.uniform(0, np.pi)
    half = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for t in np.linspace(-length / 2, length / 2, 4 * half + 1):  # every point falls on four cells
        x, y = half + t * np.cos(angle), half + t * np.sin(angle)
        i, j = int(x), int(y)
        fx, fy = x - i, y - j
        kernel[j : j + 2, i : i + 2] += np.outer([1 - fy, fy], [1 - fx, fx])
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _few_pixels(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image (s, s, 3) after it was small, in half of the cases in a poor JPEG file."""
    size = len(image)
    small = max(int(size * rng.uniform(0.35, 0.75)), 16)
    image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        _, file = cv2.imencode('.jpg', pixels[..., ::-1], quality)
        image = cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255
    way = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[rng.choice(3, p=[0.5, 0.45, 0.05])]
    return cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=way)


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image (s, s, 3) with a sensor's noise, which grows with the light, fine or in grains."""
    strength = rng.uniform(0.01, 0.045)
    cells = int(len(image) * rng.choice([1.0, 0.5]))
    noise = rng.standard_normal((cells, cells, 3), np.float32)
    if rng.random() < 0.4:
        noise[...] = noise[..., :1]
    if cells < len(image):
        noise = cv2.resize(noise, (len(image), len(image)), interpolation=cv2.INTER_LINEAR) * 1.3
    return image + np.float32(strength) * noise * (0.4 + np.sqrt(np.clip(image, 0, 1)))
