"""The camera, and what is behind the person: a room, the outdoors or a studio, on a ground plane.

World space is model space put on the floor: metres, y up, floor at y = 0, the person near the origin.
Images are float32 RGB in 0..1, (size, size, 3).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.synthetic.paint import hsv, muted, noise_at

Background = tuple[np.ndarray, np.ndarray, np.ndarray]  # image (n, 3), floor mask (n,), world points (3, n)


@dataclass
class Camera:
    """A pinhole camera with square pixels.

    rotation: (3, 3) world -> camera axes (x right, y down, z forward).
    position: (3,) metres in the world.
    focal: focal length, pixels.
    centre: (2,) pixels, whose centres are at integers.
    size: height and width of the image, pixels.
    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    centre: tuple
    size: int

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Returns camera-frame points (n, 3) float32 of world points (n, 3), metres."""
        return ((points - self.position) @ self.rotation.T).astype(np.float32)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Returns pixels (n, 2) of world points (n, 3)."""
        return project(self.to_camera(points), self.focal, self.centre)

    def rays(self) -> np.ndarray:
        """Returns directions (3, size * size) through the pixels, world axes, camera z component 1."""
        line = np.arange(self.size, dtype=np.float32)
        x, y = (line - self.centre[0]) / self.focal, (line - self.centre[1]) / self.focal
        r = self.rotation
        rays = [((y * r[1, k] + r[2, k])[:, None] + (x * r[0, k])[None]).ravel() for k in range(3)]
        return np.stack(rays).astype(np.float32)


def texture(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Returns the colour (n, 3) of a floor or wall material at plane coordinates u, v (n,) in metres."""
    kind = rng.choice(
        ['plain', 'tiles', 'planks', 'bricks', 'carpet', 'mottled', 'checker', 'stripes'],
        p=[0.26, 0.13, 0.18, 0.08, 0.13, 0.10, 0.05, 0.07],
    )
    grain = rng.uniform(4, 12) if kind == 'planks' else 1.0  # wood: the noise is drawn out along the plank
    shade = 1 + rng.uniform(0.015, 0.07) * noise_at(u, v * grain, rng.uniform(15, 70), rng)
    if kind == 'carpet':
        shade += 0.08 * noise_at(u, v, rng.uniform(150, 400), rng, 'fine')
    elif kind == 'mottled':
        coarse = rng.uniform(0.05, 0.17) * noise_at(u, v, rng.uniform(6, 40), rng)
        shade += coarse + 0.04 * noise_at(u, v, 120, rng, 'fine')
    elif kind == 'stripes':
        shade += rng.uniform(0.04, 0.2) * (np.sin(u * rng.uniform(8, 60)) > rng.uniform(-0.5, 0.7))
    colour = base * shade[:, None]
    if kind in ('tiles', 'planks', 'bricks', 'checker'):
        side = rng.uniform(0.2, 0.8)
        a, b, stagger = {
            'tiles': (side, side, 0),
            'checker': (side, side, 0),
            'bricks': (0.26, 0.09, 0.5),
            'planks': (rng.uniform(0.9, 1.8), 0.14, 0.37),
        }[kind]  # size along u and v, shift per row
        row = np.floor(v / b)
        along = u / a + stagger * row
        iu = np.floor(along)
        if kind == 'checker':
            other = muted(rng)
            colour = np.where(((iu + row) % 2 > 0)[:, None], colour, other * shade[:, None])
        else:
            jitter = np.modf(np.abs(np.sin(iu * 12.9898 + row * 78.233) * 43758.5453))[0]
            colour *= (1 + rng.uniform(0.03, 0.2) * (jitter - 0.5))[:, None].astype(np.float32)
            fu, fv = np.abs(along - iu - 0.5), np.abs(v / b - row - 0.5)
            joint = (fu > 0.5 - 0.006 / a) | (fv > 0.5 - 0.004 / b)
            colour = np.where(joint[:, None], colour * rng.uniform(0.55, 0.9), colour)
    return colour.astype(np.float32)


def wall_things(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, colour: np.ndarray) -> None:
    """Paints frames, doors and a skirting board on a wall: u along it, v up (n,), colour (n, 3) in place."""
    for _ in range(rng.integers(0, 5)):
        w, h, cu = rng.uniform(0.2, 1.3), rng.uniform(0.2, 1.2), rng.uniform(-3, 3)
        cv = rng.uniform(1.1, 1.9)
        if rng.random() < 0.25:
            w, h, cv = rng.uniform(0.4, 0.55), 2.05, 1.02  # a door
        du, dv = np.abs(u - cu), np.abs(v - cv)
        inside = (du < w / 2) & (dv < h / 2)
        if inside.any():
            frame = inside & ((du > w / 2 - 0.04) | (dv > h / 2 - 0.04))
            fill = muted(rng, 0.3, 1.0)
            grain = noise_at(u[inside], v[inside], rng.uniform(40, 160), rng)
            colour[inside] = fill * (1 + 0.2 * grain)[:, None]
            colour[frame] = muted(rng, 0.1, 1.0, 0.3)
    if rng.random() < 0.6:
        colour[v < 0.09] *= rng.uniform(0.5, 1.3)


def room(rng: np.random.Generator, camera: Camera, rays: np.ndarray) -> Background:
    """Returns an indoor background of rays (3, n): floor, three walls somewhere, ceiling, a lamp."""
    turn = rng.normal(0, 0.35)
    c, s = np.cos(turn), np.sin(turn)
    to_room = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)
    d, o = to_room @ rays, to_room @ camera.position.astype(np.float32)
    planes = [
        (1, 0.0),
        (2, -rng.uniform(0.7, 5)),
        (0, -rng.uniform(1.2, 5)),
        (0, rng.uniform(1.2, 5)),
        (1, rng.uniform(2.4, 3.6)),
    ]
    best, which = np.full(d.shape[1], 60, np.float32), np.full(d.shape[1], -1, np.int8)
    with np.errstate(divide='ignore', invalid='ignore'):
        for k, (axis, at) in enumerate(planes):
            t = np.float32(at - o[axis]) / d[axis]
            nearer = (t > 1e-3) & (t < best)
            np.copyto(best, t, where=nearer)
            np.copyto(which, np.int8(k), where=nearer)
    p = o[:, None] + d * best
    wall_colour = muted(rng, 0.45, 1.0, 0.35)
    image = np.empty((p.shape[1], 3), np.float32)
    image[which < 0] = wall_colour * 0.7
    for k, (axis, _) in enumerate(planes):
        mine = np.flatnonzero(which == k)
        if len(mine):
            u, v = (p[0, mine], p[2, mine]) if axis == 1 else (p[2 if axis == 0 else 0, mine], p[1, mine])
            if k == 0:
                image[mine] = texture(rng, u, v, muted(rng, 0.2, 0.85, 0.6))
            elif k == 4:
                image[mine] = wall_colour * 0.5 + 0.45
            else:
                surface = texture(rng, u, v, wall_colour * rng.uniform(0.8, 1.05))
                wall_things(rng, u, v, surface)
                image[mine] = surface
    lamp = (rng.normal(0, 1.5), planes[4][1] - 0.2, rng.normal(0, 1.5))
    away = sum((p[k] - np.float32(lamp[k])) ** 2 for k in range(3))
    image *= (rng.uniform(0.45, 0.8) + rng.uniform(0.3, 0.7) / (1 + away / 6))[:, None]
    return image, which == 0, to_room.T @ p


def outdoors(rng: np.random.Generator, camera: Camera, rays: np.ndarray) -> Background:
    """Returns a background of sky with clouds, skyline or hills, on grass, asphalt, sand or paving."""
    d = rays
    up = d[1] / np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
    top = hsv(rng.uniform(0.52, 0.62), rng.uniform(0.1, 0.6), rng.uniform(0.55, 0.95))
    horizon = hsv(rng.uniform(0.05, 0.6), rng.uniform(0, 0.2), rng.uniform(0.75, 1))
    blend = np.clip(up / 0.5, 0, 1)[:, None] ** 0.6
    image = (horizon + (top - horizon) * blend).astype(np.float32)
    heading = np.arctan2(d[0], -d[2])
    image += rng.uniform(0, 0.08) * noise_at(heading * 2, up * 5, 30, rng)[:, None]
    for layer in range(rng.integers(0, 4)):  # hills, trees or buildings, hazier when farther
        kind = rng.integers(3)
        scale = rng.uniform(2, 6)
        if kind == 0:
            ridge = 0.06 + 0.05 * noise_at(heading, np.zeros_like(heading), 14 * scale, rng)
        elif kind == 1:
            ridge = 0.08 + 0.04 * noise_at(heading, np.zeros_like(heading), 90, rng)
            ridge = ridge + 0.02 * noise_at(heading * 3, up * 3, 200, rng, 'fine')
        else:
            step = np.floor(heading * scale * 4)
            ridge = 0.05 + 0.22 * np.modf(np.abs(np.sin(step * 91.7 + layer) * 4375.85))[0]
        mine = (up < ridge) & (up > -0.3)
        if kind == 1:
            colour = hsv(rng.uniform(0.18, 0.38), rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5))
        else:
            colour = muted(rng, 0.25, 0.7, 0.6)
        haze = rng.uniform(0.1, 0.6)
        tone = (1 - haze) * colour + haze * horizon
        image[mine] = tone * (1 + 0.07 * noise_at(heading[mine] * 5, up[mine] * 5, 90, rng, 'fine'))[:, None]
    floor = np.flatnonzero(up < -1e-3)
    p, t = floor_points(camera, d, floor, 400)
    if rng.random() < 0.6:
        base = muted(rng, 0.25, 0.75, 0.4)
    else:
        base = hsv(rng.uniform(0.1, 0.35), rng.uniform(0.2, 0.55), rng.uniform(0.25, 0.6))
    ground = texture(rng, p[0, floor], p[2, floor], base)
    fog = 1 - np.exp(-t / np.float32(rng.uniform(15, 80)))[:, None]
    image[floor] = ground * (1 - fog) + (0.6 * horizon + 0.4 * base) * fog
    return image, up < -1e-3, p


def floor_points(
    camera: Camera, rays: np.ndarray, chosen: np.ndarray, farthest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (3, n) where the rays `chosen` meet y = 0 (others: 1 km away), and their lengths."""
    origin = camera.position.astype(np.float32)
    t = np.minimum(-origin[1] / rays[1, chosen], np.float32(farthest))
    p = np.full(rays.shape, 1e3, np.float32)
    p[:, chosen] = origin[:, None] + rays[:, chosen] * t
    return p, t


def studio(rng: np.random.Generator, camera: Camera, rays: np.ndarray) -> Background:
    """Returns a seamless backdrop: a blurred colour field like a photo out of focus, over a plain floor."""
    size = camera.size
    field = np.ones((size, size, 3), np.float32) * muted(rng, 0.25, 0.95, 0.6)
    strength = rng.uniform(0.2, 1)
    for cells, amount in ((3, 0.26), (7, 0.16), (20, 0.07), (60, 0.03)):
        n = rng.normal(0, amount, (cells, cells, 1)) + rng.normal(0, 0.2 * amount, (cells, cells, 3))
        field += cv2.resize(n.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC) * (
            strength * rng.uniform(0.3, 1)
        )
    image = np.clip(field, 0.02, 0.95).reshape(-1, 3)
    floor = rays[1] < -0.02
    p, _ = floor_points(camera, rays, np.flatnonzero(floor), 60)
    fade = np.clip((np.hypot(p[0], p[2]) - 1.5) / 2.0, 0, 1)[:, None]
    image = image * fade + (1 - fade) * (0.4 * image + 0.6 * muted(rng, 0.3, 0.95, 0.4))
    return image, floor, p
