"""One synthetic photo of one person and its labels; numpy, scipy and OpenCV only, so that workers start fast.

Labels follow `hybrik_jax.data.record`. The box is that of the whole body (also where it is hidden), clipped.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.data.record import whole_photo
from hybrik_jax.synthetic import variety
from hybrik_jax.synthetic.paint import muted, noise_at
from hybrik_jax.synthetic.people import Part, Stylist
from hybrik_jax.synthetic.posed_body import PosedBody, to_axis_angle, to_matrices, twist_angles
from hybrik_jax.synthetic.poses import SPLITS, PoseLibrary
from hybrik_jax.synthetic.scene import Camera, outdoors, room, studio
from hybrik_jax.synthetic.things import cast_shadow, clutter, draw_box, lens, occluders
from hybrik_jax.view.rasterise import rasterise

DATASET = 'synthetic'
BODY = 'open_body (CC0)'
BOX_ENLARGEMENT = 1.25
SUPERSAMPLE = 2
AIRBORNE = ('run', 'jump', 'sprint', 'star', 'split', 'dive', 'swim', 'fall', 'cycle', 'climb')
SEATED = ('sit_chair', 'sit_slouch', 'sit_legs', 'sit_ankle')


class Generator:
    """Makes the examples of one split.

    Example `index` depends on (seed, split, index, size) alone: each has a random stream of its own.
    """

    def __init__(self, split: str, *, seed: int = 0, size: int = 256):
        """A generator with body, garments and the split's poses loaded; photos are size x size pixels."""
        self.split, self.seed, self.size = split, seed, size
        self.library = PoseLibrary(split)
        self.body = PosedBody()
        self.stylist = Stylist(self.body, self.body.garments())
        self.mixer = variety.PoseMixer(self.library, self.body.rest[:24])
        self.seat_vertices = np.asarray(self.body.surface.weights[:, 0].todense()).ravel() > 0.5

    def record(self, index: int) -> dict:
        """Returns the record of example `index`, image as JPEG bytes."""
        image, quality, label = self.draw(index)
        _, jpeg = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        one = np.ones((), np.float32)
        joints, h36m = label['joints'], label['h36m_joints']
        return {
            'image': jpeg.tobytes(),
            **whole_photo(self.size, self.size),
            'box': label['box'],
            'box_enlargement': one * BOX_ENLARGEMENT,
            'focal': label['focal'],
            'centre': label['centre'],
            'camera_weight': one,
            'joints_px': np.concatenate([label['pixels'], joints[:, 2:] - joints[0, 2]], 1),
            'joints_px_weight': np.ones((29, 3), np.float32),
            'joints_m': joints - joints[0],
            'joints_weight': np.ones(29, np.float32),
            'h36m_joints_m': h36m - h36m[0],
            'h36m_weight': np.ones(17, np.float32),
            'root_m': joints[0],
            'pose': label['pose'],
            'betas': label['betas'],
            'smpl_weight': one,
            'twists': label['twists'],
            'twist_weight': np.ones(23, np.float32),
            'visible': label['visible'],
            'name': f'{DATASET}/{self.split}/{index:06d}',
            'dataset': DATASET,
            'body': BODY,
            'sequence': '',
            'action': '',
        }

    def random_pose(
        self, rng: np.random.Generator, extra: np.random.Generator | None = None
    ) -> tuple[np.ndarray, str, float]:
        """Returns local rotations (24, 3, 3), row 0 in world axes, archetype name, heading in radians.

        A pose of the library, with `extra` perhaps one mixed of several (named after the legs), with small
        perturbations and a random heading.
        """
        i = rng.integers(len(self.library.poses))
        pose = self.library.poses[i].copy() if extra is None else self.mixer.mix(i, extra)
        stiff = np.where(np.isin(np.arange(1, 22), (4, 5, 18, 19)), 0.4, 1)  # knees and elbows move less
        pose[1:22] += rng.normal(0, rng.choice([0.02, 0.06, 0.1]), (21, 3)) * stiff[:, None]
        rotations = to_matrices(pose)
        heading = rng.uniform(-np.pi, np.pi) if rng.random() < 0.7 else rng.normal(0, 0.6)
        rotations[0] = to_matrices(np.array([0, heading, 0])) @ rotations[0]
        return rotations, str(self.library.kinds[i]), heading

    def draw(self, index: int) -> tuple[np.ndarray, int, dict]:
        """Returns the photo (size, size, 3) uint8 RGB, JPEG quality and labels of example `index`.

        The labels, float32: box (4,), focal (2,), centre (2,), pixels (29, 2), joints (29, 3) and h36m_joints
        (17, 3) in the camera frame, metres, pose (24, 3), betas (10,), twists (23,), visible (29,).
        """
        size = self.size
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        extra = variety.stream(self.seed, self.split, index)
        betas = np.clip(rng.normal(size=10), -2.5, 2.5).astype(np.float32)
        rotations, kind, heading = self.random_pose(rng, extra)
        parts, bare, joints = self.stylist.dress(rng, betas, rotations.astype(np.float32))
        lift = -bare[:, 1].min() + (
            rng.uniform(0, 0.35) if kind.startswith(AIRBORNE) and rng.random() < 0.6 else 0.0
        )
        move = np.array([-joints[0, 0], lift, -joints[0, 2]], np.float32)  # model -> world
        bare = bare + move
        for part in parts:
            part.vertices = part.vertices + move
        camera = random_camera(rng, bare, size)
        light, ambient = random_light(rng), 1.0
        if extra is not None:
            camera = variety.cut_off(camera, bare, extra)
            light, ambient = variety.hard_light(light, extra)

        # ---- behind the person
        rays = camera.rays()
        backdrop = rng.choice([room, outdoors, studio], p=[0.5, 0.33, 0.17])
        if extra is not None and extra.random() < variety.NO_PLACE:
            image, floor, points = variety.no_place(extra, camera, rays)
        else:
            image, floor, points = backdrop(rng, camera, rays)
        image = np.ascontiguousarray(image, np.float32).reshape(size, size, 3)
        depth = camera.to_camera(bare)[:, 2]
        cast_shadow(image, floor, points, bare[::2], light, rng)
        if backdrop is not studio or rng.random() < 0.4:
            clutter(image, camera, rng, light, float(depth.max()))
        if extra is not None:
            for _ in range(variety.others(extra)):
                image = self.with_another(image, camera, light, (floor, points), bare, extra)
        if kind.startswith(SEATED) and rng.random() < 0.95:
            seat = bare[self.seat_vertices]
            top = seat[:, 1].min() + 0.015
            half = np.array([rng.uniform(0.17, 0.3), top / 2, rng.uniform(0.17, 0.26)])
            middle = (seat.min(0) + seat.max(0)) / 2
            draw_box(
                image,
                camera,
                np.array([middle[0], top / 2, middle[2]]),
                half,
                heading,
                muted(rng, 0.2, 0.9, 0.6),
                light,
            )
        if rng.random() < 0.25:  # depth of field
            image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 3.0)))

        # ---- the person
        colour, alpha, z_buffer = render_person(parts, camera, light, rng, ambient)
        image = image * (1 - alpha[..., None]) + colour
        surface = camera.to_camera(bare)
        uv = project(surface, camera.focal, camera.centre)
        box = np.clip(np.concatenate([uv.min(0), uv.max(0)]), 0, size - 1)

        # ---- in front
        mask = occluders(image, box, rng) if rng.random() < 0.3 else np.zeros((size, size), np.float32)
        blur = 1.0 if extra is None else size / 256
        image, quality = lens(image, rng, blur), int(rng.integers(35, 96))
        if extra is not None:
            image, quality = variety.photograph(image, quality, extra)

        joints = np.concatenate([camera.to_camera(joints + move), surface[self.body.leaf]])
        pixels = project(joints, camera.focal, camera.centre)
        to_camera = rotations.copy()
        to_camera[0] = camera.rotation @ rotations[0]
        label = {
            'box': box,
            'focal': np.full(2, camera.focal),
            'centre': np.array(camera.centre),
            'pixels': pixels,
            'joints': joints,
            'h36m_joints': self.body.h36m @ surface,
            'pose': to_axis_angle(to_camera),
            'betas': betas,
            'twists': twist_angles(rotations, self.body.rest_points(betas)),
            'visible': visibility(joints, pixels, z_buffer, mask) >= BEHIND_BODY,
        }
        label = {name: value.astype(np.float32) for name, value in label.items()}
        return (image * 255 + 0.5).astype(np.uint8), quality, label

    def with_another(
        self,
        image: np.ndarray,
        camera: Camera,
        light: np.ndarray,
        ground: tuple[np.ndarray, np.ndarray],
        first: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Returns the photo (size, size, 3) with another person, who has no labels, behind the first.

        Args:
            light: (3,) unit vector towards the light, world axes.
            ground: floor mask (size * size,) and world points (3, size * size) of the pixels.
            first: (n, 3) vertices of the first person, who is still to be drawn, in the world, metres.
        """
        betas = np.clip(rng.normal(size=10), -2.5, 2.5).astype(np.float32)
        rotations, _, _ = self.random_pose(rng)
        parts, bare, joints = self.stylist.dress(rng, betas, rotations.astype(np.float32))
        move = np.array([-joints[0, 0], -bare[:, 1].min(), -joints[0, 2]])
        seen = camera.to_camera(first)
        middle = project(seen, camera.focal, camera.centre).mean(0)
        move = move + variety.place_behind(bare + move, camera, ground[0], seen[:, 2].max(), middle, rng)
        move = move.astype(np.float32)
        for part in parts:
            part.vertices = part.vertices + move
        cast_shadow(image, *ground, bare[::2] + move, light, rng)
        colour, alpha, _ = render_person(parts, camera, light, rng)
        return image * (1 - alpha[..., None]) + colour


def random_camera(rng: np.random.Generator, vertices: np.ndarray, size: int) -> Camera:
    """Returns a camera that frames world vertices (n, 3): 1..5 widths of focal length, tilted, off centre."""
    focal = size * np.exp(rng.uniform(0.0, np.log(5.0)))
    low, high = vertices.min(0), vertices.max(0)
    middle = (low + high) / 2
    fill = (
        rng.uniform(1.0, 1.5) if rng.random() < 0.12 else rng.uniform(0.5, 0.95)
    )  # some people leave the frame
    span = max(high[1] - low[1], np.hypot(high[0] - low[0], high[2] - low[2]) * 0.8, 0.7)
    distance = max(focal * span / (fill * size), 0.9 + 0.5 * span)
    lowest = np.arcsin(np.clip((0.12 - middle[1]) / distance, -0.9, 0.9))  # the camera stays above the floor
    elevation = np.clip(np.deg2rad(rng.normal(6, 12)), lowest, np.deg2rad(60))
    c, s = np.cos(elevation), np.sin(elevation)
    view = np.array([[1, 0, 0], [0, -c, s], [0, -s, -c]])  # rows: right, down, forward
    roll = np.deg2rad(rng.normal(0, 3))
    view = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]) @ view
    camera = Camera(
        view,
        middle - distance * view[2],
        focal,
        ((size - 1) / 2 + rng.normal(0, 0.01) * size, (size - 1) / 2 + rng.normal(0, 0.01) * size),
        size,
    )
    uv = camera.pixels(vertices)  # centre the projected box, then jitter
    off = (uv.min(0) + uv.max(0)) / 2 - (size - 1) / 2 - size * rng.normal(0, 0.05, 2)
    camera.position = camera.position + view.T @ np.array(
        [off[0] * distance / focal, off[1] * distance / focal, 0]
    )
    camera.position[1] = max(camera.position[1], 0.08)
    return camera


def random_light(rng: np.random.Generator) -> np.ndarray:
    """Returns the unit vector (3,) towards the main light, world axes (the camera is on the +z side)."""
    light = np.array([rng.normal(0, 0.7), abs(rng.normal(0.8, 0.35)) + 0.2, rng.normal(0.35, 0.6)])
    return light / np.linalg.norm(light)


def render_person(
    parts: Sequence[Part],
    camera: Camera,
    light: np.ndarray,
    rng: np.random.Generator,
    less_ambient: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns premultiplied colour (size, size, 3), coverage (size, size), supersampled depth, inf: none.

    Args:
        light: (3,) unit vector towards the light, world axes.
        less_ambient: what the light from all around is multiplied by; less than 1 is a hard light.
    """
    ss = SUPERSAMPLE
    side = camera.size * ss
    start = np.cumsum([0] + [len(p.vertices) for p in parts])
    faces = np.concatenate([p.faces + a for p, a in zip(parts, start[:-1], strict=True)])
    owner = np.repeat(np.arange(len(parts)), [len(p.faces) for p in parts])
    vertices = camera.to_camera(np.concatenate([p.vertices for p in parts]))
    attributes = np.concatenate(
        [
            np.concatenate([p.normals for p in parts]) @ camera.rotation.T.astype(np.float32),
            np.concatenate([p.rest for p in parts]),
        ],
        1,
    ).astype(np.float32)
    two_sided = np.array([p.two_sided for p in parts])[owner]
    f = rasterise(
        vertices, faces, camera.focal * ss, (np.array(camera.centre) + 0.5) * ss - 0.5, side, side, two_sided
    )
    values = f.interpolate(attributes, faces)
    normal, rest, of = values[:, :3], values[:, 3:], owner[f.face]
    colour, folds, gloss = np.zeros_like(rest), np.zeros(len(of), np.float32), np.zeros(len(of), np.float32)
    for k, part in enumerate(parts):
        mine = np.flatnonzero(of == k)
        if len(mine):
            colour[mine] = part.colour(rest[mine])
            folds[mine], gloss[mine] = part.folds, part.gloss
    slope = noise_at(rest[:, 0] + 0.7 * rest[:, 2], 0.6 * rest[:, 1], rng.uniform(60, 140), rng, 'slope')
    normal[:, :2] += slope * folds[:, None]
    normal /= np.sqrt(np.einsum('pc,pc->p', normal, normal))[:, None] + np.float32(1e-9)
    normal[normal[:, 2] > 0.15] *= -1  # inner side of skirts and hair

    to_light = (camera.rotation @ light).astype(np.float32)
    up = camera.rotation[:, 1].astype(np.float32)  # world up in camera axes
    ambient = rng.uniform(0.3, 0.7) * less_ambient
    warm = (1 + rng.normal(0, 0.05, 3)).astype(np.float32)
    sky = 0.72 + 0.28 * (normal @ up)
    lit = np.clip(normal @ to_light, 0, 1)
    fill = np.clip(normal @ np.array([rng.normal(0, 0.8), -0.2, -0.7], np.float32), 0, 1)
    shade = ambient * sky + rng.uniform(0, 0.2) * fill
    half = to_light + np.array([0, 0, -1], np.float32)
    half /= np.linalg.norm(half)
    glint = np.clip(normal @ half, 0, 1)
    glint = glint * glint * glint
    for _ in range(3):
        glint *= glint  # to the power of 24
    glint *= gloss
    colour = colour * (shade[:, None] + ((1.1 - ambient) * lit)[:, None] * warm) + glint[:, None]
    np.clip(colour, 0, 1, out=colour)

    depth = np.full(side * side, np.inf, np.float32)
    depth[f.pixel] = f.depth
    layer = f.image(np.concatenate([colour, np.ones((len(colour), 1), np.float32)], 1))
    layer = cv2.resize(layer, (camera.size, camera.size), interpolation=cv2.INTER_AREA)
    return layer[..., :3], layer[..., 3], depth.reshape(side, side)


# flesh (metres) that may lie in front of a joint before it counts as hidden by the body, joints 0..28
# fmt: off
DEPTH_OF_JOINT = np.array([
    0.22, 0.19, 0.19, 0.22, 0.12, 0.12, 0.22, 0.09, 0.09, 0.22, 0.08, 0.08, 0.16, 0.17, 0.17, 0.17,
    0.13, 0.13, 0.10, 0.10, 0.08, 0.08, 0.08, 0.08, 0.15, 0.05, 0.05, 0.06, 0.06,
])
# fmt: on
OUTSIDE, BEHIND_THING, BEHIND_BODY, IN_VIEW = range(4)


def visibility(
    joints: np.ndarray, pixels: np.ndarray, z_buffer: np.ndarray, occluder: np.ndarray
) -> np.ndarray:
    """Returns codes (29,): outside the photo, behind an occluder, behind the own body, in view.

    Args:
        joints: (29, 3) camera frame, metres.
        pixels: (29, 2) their pixels.
        z_buffer: (SUPERSAMPLE * size, SUPERSAMPLE * size) depth of the person, metres, inf where empty.
        occluder: (size, size) how much of a pixel something in front covers, 0..1.
    """
    size = len(occluder)
    x, y = (pixels + 0.5).T  # from the corner of the photo
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    x, y = np.clip(x, 0, size - 1e-3), np.clip(y, 0, size - 1e-3)
    covered = occluder[y.astype(int), x.astype(int)] > 0.5
    surface = z_buffer[(y * SUPERSAMPLE).astype(int), (x * SUPERSAMPLE).astype(int)]
    behind = joints[:, 2] - surface > DEPTH_OF_JOINT  # never where the buffer is empty (inf)
    seen = np.where(behind, BEHIND_BODY, IN_VIEW)
    return np.where(~inside, OUTSIDE, np.where(covered, BEHIND_THING, seen))
