"""A drawn video with its truth: three people walk about, cross, and one is hidden by a wall for a while.

The walk is a Fourier series over the phase of a step, fitted to the walking poses of the library. World and
camera are those of `scene`; the picture is the middle of a square one.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.synthetic.generator import random_light, render_person
from hybrik_jax.synthetic.people import Stylist
from hybrik_jax.synthetic.posed_body import PosedBody, forward_kinematics, to_matrices
from hybrik_jax.synthetic.poses import SPLITS, PoseLibrary
from hybrik_jax.synthetic.scene import Camera, outdoors
from hybrik_jax.synthetic.things import cast_shadow, draw_box

FRAME_RATE = 25
FRAMES = 300
STRIDE_M = 1.3  # that two steps go
HARMONICS = 2
LEFT_FOOT, RIGHT_FOOT = 7, 8
WALL_MIDDLE = np.array([0.9, 1.1, -2.0])
WALL_HALF = np.array([0.32, 1.1, 0.1])  # hides whoever walks behind it for about 20 frames
WALL_COLOUR = np.array([0.62, 0.55, 0.47])
UP_M, AWAY_M = 1.5, 5.0  # where the camera is


@dataclasses.dataclass(frozen=True)
class Truth:
    """One person in one frame, camera frame, metres.

    joints_m: (24, 3). rotations: (24, 3, 3) local, row 0 in the camera's axes. betas: (10,).
    visible: the share of the person's pixels that nobody and nothing hides.
    """

    joints_m: np.ndarray
    rotations: np.ndarray
    betas: np.ndarray
    visible: float


def fit_walk(body: PosedBody) -> np.ndarray:
    """Returns the coefficients (1 + 2 HARMONICS, 24, 3) of a walk's axis-angles over its phase.

    A pose's phase: the left foot is in front at its maximum, and lifted while it goes forward.
    """
    libraries = [PoseLibrary(split) for split in SPLITS]
    poses = np.concatenate([one.poses[one.kinds == 'walk'] for one in libraries])
    _, joints = forward_kinematics(to_matrices(poses), body.rest[:24].astype(np.float64))
    apart = joints[:, LEFT_FOOT] - joints[:, RIGHT_FOOT]
    phases = np.arctan2(apart[:, 2] / apart[:, 2].std(), apart[:, 1] / apart[:, 1].std())
    solved = np.linalg.lstsq(_waves(phases), poses.reshape(len(poses), -1), rcond=None)[0]
    return solved.reshape(-1, 24, 3)


def _waves(phases: np.ndarray) -> np.ndarray:
    """Returns 1, cos, sin, cos 2, sin 2 ... (N, 1 + 2 HARMONICS) of phases (N,), radians."""
    turns = np.outer(phases, np.arange(1, HARMONICS + 1))
    return np.concatenate([np.ones((len(phases), 1)), np.cos(turns), np.sin(turns)], axis=1)


def _round(radius: float, deep: float, z: float, period_s: float, way: int) -> Callable[[float], np.ndarray]:
    """Returns a walk round an ellipse: seconds -> place (x, z)."""

    def place(t: float) -> np.ndarray:
        angle = way * 2 * np.pi * t / period_s
        return np.array([-way * radius * np.cos(angle), z + deep * np.sin(angle)])

    return place


WAYS = (
    _round(1.4, 0.45, 0.0, 9.0, 1),
    _round(1.7, 0.35, -1.1, 10.0, -1),
    lambda t: np.array([2.8 - 0.5 * t, -2.7]),  # behind the wall
)


class Walkers:
    """The video: `frame(k) -> picture, [Truth, ...]`, for any k."""

    def __init__(self, width: int = 640, height: int = 480, seed: int = 0):
        """A video of width x height pixels, the wider side of which 53 degrees are seen."""
        self.width, self.height, self.seed = width, height, seed
        self.body = PosedBody()
        self.stylist = Stylist(self.body, self.body.garments())
        self.walk = fit_walk(self.body)
        side = max(width, height)
        tilt = np.arctan2(UP_M - 0.9, AWAY_M)
        c, s = np.cos(tilt), np.sin(tilt)
        axes = np.array([[1, 0, 0], [0, -c, s], [0, -s, -c]])
        middle = ((side - 1) / 2, (side - 1) / 2)
        self.camera = Camera(axes, np.array([0, UP_M, AWAY_M]), float(side), middle, side)
        rng = np.random.default_rng(seed)
        self.light = random_light(rng)
        image, self._floor, self._points = outdoors(rng, self.camera, self.camera.rays())
        self._background = np.ascontiguousarray(image, np.float32).reshape(side, side, 3)
        self.betas = np.clip(rng.normal(size=(len(WAYS), 10)), -2, 2).astype(np.float32)
        self._wall, self._wall_depth = self._draw_wall()
        self._offset = ((side - width) // 2, (side - height) // 2)

    def _draw_wall(self) -> tuple[np.ndarray, float]:
        """Returns the square picture (S, S, 4) of the wall alone, premultiplied, and its depth."""
        shape = (self.camera.size, self.camera.size, 3)
        drawn = [np.full(shape, tone, np.float32) for tone in (0.0, 1.0)]
        for image in drawn:
            draw_box(image, self.camera, WALL_MIDDLE, WALL_HALF, 0.0, WALL_COLOUR, self.light)
        alpha = 1 - (drawn[1] - drawn[0]).mean(2, keepdims=True)
        depth = self.camera.to_camera(WALL_MIDDLE[None])[0, 2]
        return np.concatenate([drawn[0], alpha], 2), float(depth)

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """Returns focal lengths and principal point fx, fy, cx, cy, pixels."""
        centre = np.subtract(self.camera.centre, self._offset)
        return self.camera.focal, self.camera.focal, float(centre[0]), float(centre[1])

    def frame(self, number: int) -> tuple[np.ndarray, list[Truth]]:
        """Returns a frame (height, width, 3) uint8 RGB, and the truth of its people."""
        image, people, layers = self._background.copy(), [], [(self._wall_depth, self._wall)]
        for who in range(len(WAYS)):
            rng = np.random.default_rng([self.seed, who])  # the same look in every frame
            parts, bare, joints, rotations = self._person(who, number / FRAME_RATE, rng)
            cast_shadow(image, self._floor, self._points, bare[::2], self.light, rng)
            seen = self.camera.to_camera(bare)
            layers.append((float(seen[:, 2].mean()), self._layer(parts, seen, rng)))
            people.append((self.camera.to_camera(joints), rotations))
        shown = [layer[..., 3] for _, layer in layers]
        order = sorted(range(len(layers)), key=lambda k: -layers[k][0])
        for place, k in enumerate(order):
            nearer = layers[k][1]
            image = image * (1 - nearer[..., 3:]) + nearer[..., :3]
            for other in order[:place]:
                shown[other] = shown[other] * (1 - nearer[..., 3])
        truths = [
            Truth(
                joints_m=joints_m,
                rotations=rotations,
                betas=self.betas[who],
                visible=float(shown[who + 1].sum() / max(layers[who + 1][1][..., 3].sum(), 1e-6)),
            )
            for who, (joints_m, rotations) in enumerate(people)
        ]
        x, y = self._offset
        picture = image[y : y + self.height, x : x + self.width]
        return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), truths

    def _person(self, who: int, seconds: float, rng: np.random.Generator) -> tuple:
        """Returns parts, vertices and joints in the world, and rotations in the camera's axes."""
        way, just = WAYS[who], 0.02  # seconds
        ahead = (way(seconds + just) - way(seconds - just)) / (2 * just)  # metres a second
        steps = np.linspace(0, seconds, 1 + round(100 * seconds)) if seconds else np.zeros(1)
        places = np.stack([way(t) for t in steps])
        gone = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
        phase = 2 * np.pi * gone / STRIDE_M + who
        rotations = to_matrices(
            (_waves(np.array([phase])) @ self.walk.reshape(len(self.walk), -1))[0].reshape(24, 3)
        )
        turn = to_matrices(np.array([0, np.arctan2(ahead[0], ahead[1]), 0]))
        rotations[0] = turn @ rotations[0]
        parts, bare, joints = self.stylist.dress(rng, self.betas[who], rotations.astype(np.float32))
        x, z = way(seconds)
        move = np.array([x - joints[0, 0], -bare[:, 1].min(), z - joints[0, 2]], np.float32)
        for part in parts:
            part.vertices = part.vertices + move
        rotations[0] = self.camera.rotation @ rotations[0]
        return parts, bare + move, joints + move, rotations

    def _layer(self, parts: list, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the square picture (S, S, 4) of one person alone, premultiplied."""
        camera, side = self.camera, self.camera.size
        pixels = project(seen, camera.focal, camera.centre)
        low = np.floor(pixels.min(0)).astype(int) - 8
        window = int(np.ceil(np.ptp(pixels, axis=0).max())) + 16
        centre = (camera.centre[0] - low[0], camera.centre[1] - low[1])
        small = dataclasses.replace(camera, centre=centre, size=window)
        colour, alpha, _ = render_person(parts, small, self.light, rng)
        layer = np.zeros((side + 2 * window, side + 2 * window, 4), np.float32)
        x, y = np.clip(low + window, 0, side + window)
        layer[y : y + window, x : x + window] = np.concatenate([colour, alpha[..., None]], 2)
        return layer[window : window + side, window : window + side]
