"""Everything around the person: camera, backgrounds with a ground plane, shadow, clutter, occluders, lens.

World space is model space put on the floor: metres, y up, floor at y = 0, the person near the origin.
Images are float32 RGB in 0..1, (size, size, 3).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hybrik_jax.body.projection import project


@dataclass
class Camera:
    """A pinhole camera with square pixels.

    rotation (3, 3) world -> camera axes (x right, y down, z forward), position (3,) metres in the world,
    focal length in pixels, centre (2,) pixels (pixel centres at integers), size: height and width of the
    square image.
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
        """Returns world-space direction through each pixel (3, size * size) float32, camera z component 1."""
        line = np.arange(self.size, dtype=np.float32)
        x, y = (line - self.centre[0]) / self.focal, (line - self.centre[1]) / self.focal
        r = self.rotation
        return np.stack(
            [((y * r[1, k] + r[2, k])[:, None] + (x * r[0, k])[None]).ravel() for k in range(3)]
        ).astype(np.float32)


def make_noise_bank(seed=0, size=256):
    """Returns tileable noise (size, size, 4) float32; channels: smooth, fine, slopes in x and y of the smooth one."""
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) * size
    out = []
    for exponent, low in ((1.9, 3), (1.0, 10)):
        spectrum = np.fft.fft2(rng.normal(size=(size, size))) / np.maximum(f, 1) ** exponent * (f >= low)
        n = np.fft.ifft2(spectrum).real
        out.append(n / n.std())
    out += [np.roll(out[0], -1, 1) - out[0], np.roll(out[0], -1, 0) - out[0]]
    return np.stack([o / o.std() for o in out], -1).astype(np.float32)


NOISE = make_noise_bank()
BANKS = {'smooth': NOISE[..., 0].copy(), 'fine': NOISE[..., 1].copy(), 'slope': NOISE[..., 2:].copy()}


def noise_at(u, v, scale, rng, channel='smooth'):
    """Returns tileable noise of unit variance at coordinates u, v of equal shape.

    scale: texels per unit; the shift is random.
    channel: 'smooth', 'fine' or 'slope' (two values per point: the x and y slopes of the smooth noise).
    """
    shift = rng.uniform(0, 256, 2)
    n = u.size
    columns = max(-(-n // 4096), 1)  # cv2.remap wants less than 32768 rows and columns
    x, y = np.zeros(columns * 4096, np.float32), np.zeros(columns * 4096, np.float32)
    for out, w, s in ((x, u, shift[0]), (y, v, shift[1])):
        t = w.ravel() * np.float32(scale) + np.float32(s)
        out[:n] = t - 256 * np.floor(t * (1 / 256))
    bank = BANKS[channel]
    out = cv2.remap(
        bank, x.reshape(columns, 4096), y.reshape(columns, 4096), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    return out.reshape(columns * 4096, -1)[:n].reshape(u.shape + (() if bank.ndim == 2 else (bank.shape[2],)))


def hsv(h, s, v):
    """Returns one RGB colour (3,) float32 from hue (turns), saturation, value."""
    k = (np.array([5, 3, 1]) + h * 6) % 6
    return (v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)


def muted(rng, low=0.2, high=0.95, strength=0.5):
    """Returns A random, not very saturated colour (3,); hues of wood, stone, paint and foliage are the commonest."""
    hue = (rng.random(), rng.normal(0.09, 0.025), rng.normal(0.59, 0.03), rng.normal(0.28, 0.05))[
        rng.choice(4, p=[0.22, 0.46, 0.18, 0.14])
    ]
    return hsv(hue % 1, strength * rng.beta(1.2, 2.2), rng.uniform(low, high))


# ---------------------------------------------------------------- surfaces of rooms and grounds
def texture(rng, u, v, base):
    """Returns colour (n, 3) of a floor or wall material at plane coordinates u, v (n,) in metres."""
    kind = rng.choice(
        ['plain', 'tiles', 'planks', 'bricks', 'carpet', 'mottled', 'checker', 'stripes'],
        p=[0.26, 0.13, 0.18, 0.08, 0.13, 0.10, 0.05, 0.07],
    )
    grain = rng.uniform(4, 12) if kind == 'planks' else 1.0  # wood: the noise is drawn out along the plank
    shade = 1 + rng.uniform(0.015, 0.07) * noise_at(u, v * grain, rng.uniform(15, 70), rng)
    if kind == 'carpet':
        shade += 0.08 * noise_at(u, v, rng.uniform(150, 400), rng, 'fine')
    elif kind == 'mottled':
        shade += rng.uniform(0.05, 0.17) * noise_at(u, v, rng.uniform(6, 40), rng) + 0.04 * noise_at(
            u, v, 120, rng, 'fine'
        )
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


def wall_things(rng, u, v, colour):
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
            colour[inside] = (
                fill * (1 + 0.2 * noise_at(u[inside], v[inside], rng.uniform(40, 160), rng))[:, None]
            )
            colour[frame] = muted(rng, 0.1, 1.0, 0.3)
    if rng.random() < 0.6:
        colour[v < 0.09] *= rng.uniform(0.5, 1.3)


def room(rng, camera, rays):
    """Returns indoor background: floor, three walls at random distances, ceiling, a lamp.

    Like the other backgrounds: rays (3, n) -> image (n, 3), floor mask (n,) and world points (3, n).
    """
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


def outdoors(rng, camera, rays):
    """Returns sky with clouds, hazy skyline or hills, and a ground of grass, asphalt, sand or paving."""
    d = rays
    up = d[1] / np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
    top, horizon = (
        hsv(rng.uniform(0.52, 0.62), rng.uniform(0.1, 0.6), rng.uniform(0.55, 0.95)),
        hsv(rng.uniform(0.05, 0.6), rng.uniform(0, 0.2), rng.uniform(0.75, 1)),
    )
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
            ridge = (
                0.08
                + 0.04 * noise_at(heading, np.zeros_like(heading), 90, rng)
                + 0.02 * noise_at(heading * 3, up * 3, 200, rng, 'fine')
            )
        else:
            step = np.floor(heading * scale * 4)
            ridge = 0.05 + 0.22 * np.modf(np.abs(np.sin(step * 91.7 + layer) * 4375.85))[0]
        mine = (up < ridge) & (up > -0.3)
        colour = (
            muted(rng, 0.25, 0.7, 0.6)
            if kind != 1
            else hsv(rng.uniform(0.18, 0.38), rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5))
        )
        haze = rng.uniform(0.1, 0.6)
        tone = (1 - haze) * colour + haze * horizon
        image[mine] = tone * (1 + 0.07 * noise_at(heading[mine] * 5, up[mine] * 5, 90, rng, 'fine'))[:, None]
    floor = np.flatnonzero(up < -1e-3)
    p, t = floor_points(camera, d, floor, 400)
    base = (
        muted(rng, 0.25, 0.75, 0.4)
        if rng.random() < 0.6
        else hsv(rng.uniform(0.1, 0.35), rng.uniform(0.2, 0.55), rng.uniform(0.25, 0.6))
    )
    ground = texture(rng, p[0, floor], p[2, floor], base)
    fog = 1 - np.exp(-t / np.float32(rng.uniform(15, 80)))[:, None]
    image[floor] = ground * (1 - fog) + (0.6 * horizon + 0.4 * base) * fog
    return image, up < -1e-3, p


def floor_points(camera, rays, chosen, farthest):
    """Returns world points (3, n) where the rays `chosen` meet y = 0 (others: 1 km away), and their ray lengths."""
    origin = camera.position.astype(np.float32)
    t = np.minimum(-origin[1] / rays[1, chosen], np.float32(farthest))
    p = np.full(rays.shape, 1e3, np.float32)
    p[:, chosen] = origin[:, None] + rays[:, chosen] * t
    return p, t


def studio(rng, camera, rays):
    """Returns A seamless backdrop: a blurred colour field like a photograph out of focus, over a plain floor."""
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


# ---------------------------------------------------------------- shadow, clutter, occluders
def cast_shadow(image, floor, points, vertices, light, rng):
    """Darkens the floor, in place, where `vertices` (n, 3) block the light and, softly, where they touch it.

    image (s, s, 3), floor (s * s,) bool, points (3, s * s) world positions of the pixels, light (3,) unit
    vector towards the light.
    """
    cells, span = 96, 3.2
    slope = np.clip(light[[0, 2]] / max(light[1], 0.25), -1.4, 1.4)
    cast = vertices[:, [0, 2]] - vertices[:, 1:2] * slope
    middle = (cast.min(0) + cast.max(0)) / 2

    def splat(xz, weight, sigma):
        cell = np.floor((xz - middle) / span * cells + cells / 2).astype(int)
        ok = ((cell >= 0) & (cell < cells)).all(1)
        grid = np.bincount(cell[ok, 1] * cells + cell[ok, 0], weight[ok], cells * cells).reshape(cells, cells)
        return cv2.GaussianBlur(np.minimum(grid, 4).astype(np.float32), (0, 0), sigma)

    shadow = np.clip(splat(cast, np.ones(len(cast)), rng.uniform(1.0, 3.0)) / 1.6, 0, 1) * rng.uniform(
        0.15, 0.65
    )
    low = np.clip(1 - vertices[:, 1] / 0.16, 0, 1)
    contact = np.clip(splat(vertices[:, [0, 2]], low, 1.6), 0, 1) * rng.uniform(0.3, 0.7)
    u, v = (
        (points[k] - np.float32(m)) * np.float32(cells / span) + np.float32(cells / 2 - 0.5)
        for k, m in ((0, middle[0]), (2, middle[1]))
    )
    mine = np.flatnonzero(floor & (np.abs(u - cells / 2) < cells / 2) & (np.abs(v - cells / 2) < cells / 2))
    if len(mine):
        dark = cv2.remap(
            1 - (1 - shadow) * (1 - contact),
            *(np.resize(q[mine], (-(-len(mine) // 4096), 4096)) for q in (u, v)),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        image.reshape(-1, 3)[mine] *= 1 - dark.ravel()[: len(mine), None]


CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
BOX_FACES = [
    ((0, 1, 3, 2), (-1, 0, 0)),
    ((4, 6, 7, 5), (1, 0, 0)),
    ((0, 4, 5, 1), (0, -1, 0)),
    ((2, 3, 7, 6), (0, 1, 0)),
    ((0, 2, 6, 4), (0, 0, -1)),
    ((1, 5, 7, 3), (0, 0, 1)),
]


def draw_box(image, camera, centre, half, yaw, colour, light):
    """Paints a shaded cuboid over what is there; centre, half sizes (3,) metres, yaw radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    corners = (CORNERS * half) @ turn.T + centre
    seen = camera.to_camera(corners)
    if seen[:, 2].min() < 0.2:
        return
    uv = project(seen, camera.focal, camera.centre) * 16
    if np.abs(uv).max() > 3e5:
        return
    for face, normal in BOX_FACES:
        n = turn @ np.array(normal, float)
        if (corners[list(face)].mean(0) - camera.position) @ n < 0:
            tone = colour * (0.5 + 0.5 * max(0.0, n @ light) + 0.1 * n[1])
            cv2.fillConvexPoly(
                image, uv[list(face)].round().astype(np.int32), tuple(float(x) for x in tone), cv2.LINE_AA, 4
            )


def clutter(image, camera, rng, light, behind):
    """Paints a few boxes and poles on the floor beyond `behind` metres (camera z), far ones first."""
    things = []
    for _ in range(rng.integers(0, 6)):
        z = behind + rng.uniform(0.3, 4)
        x = rng.uniform(-0.6, 0.6) * z * camera.size / camera.focal
        at = camera.position + camera.rotation.T @ np.array([x, 0, z])
        kind = rng.integers(3)
        half = (
            rng.uniform(0.15, 0.5, 3),
            np.array([0.03, rng.uniform(0.4, 1.1), 0.03]),
            rng.uniform([0.2, 0.4, 0.15], [0.6, 1.1, 0.35]),
        )[kind]
        things.append((z, np.array([at[0], half[1], at[2]]), half))
    for _, centre, half in sorted(things, key=lambda t: -t[0]):
        draw_box(image, camera, centre, half, rng.uniform(0, 3.14), muted(rng, 0.15, 0.95, 0.6), light)


def occluders(image, box, rng):
    """Returns mask (size, size) float32, 0..1, of one or two things painted in front of the person, in place.

    Furniture from below, a post, a floating panel or blob. box: the person's x0 y0 x1 y1, pixels.
    """
    size = image.shape[0]
    total = np.zeros((size, size), np.float32)
    x0, y0, x1, y1 = box
    w, h = max(x1 - x0, 20), max(y1 - y0, 20)
    for _ in range(1 + (rng.random() < 0.3)):
        mask = np.zeros((size, size), np.uint8)
        kind = rng.choice(['furniture', 'post', 'blob', 'panel'], p=[0.35, 0.2, 0.3, 0.15])
        if kind == 'furniture':
            top = y1 - h * rng.uniform(0.12, 0.5)
            left = rng.uniform(x0 - 0.6 * w, x0 + 0.6 * w)
            right = left + rng.uniform(0.5, 1.6) * w
            tilt, drop = rng.normal(0, 0.05) * h, size + 5
            polygon = [
                (left, top),
                (right, top + tilt),
                (right + rng.normal(0, 0.08) * w, drop),
                (left + rng.normal(0, 0.08) * w, drop),
            ]
        elif kind == 'post':
            at, wide = rng.uniform(x0, x1), rng.uniform(0.06, 0.25) * w + 2
            lean = rng.normal(0, 0.06) * size
            polygon = [
                (at - wide / 2 + lean, -5),
                (at + wide / 2 + lean, -5),
                (at + wide / 2, size + 5),
                (at - wide / 2, size + 5),
            ]
        elif kind == 'panel':
            cx, cy, a, b = (
                rng.uniform(x0, x1),
                rng.uniform(y0, y1),
                rng.uniform(0.12, 0.3) * w,
                rng.uniform(0.08, 0.22) * h,
            )
            turn = rng.normal(0, 0.3)
            polygon = [
                (
                    cx + a * p * np.cos(turn) - b * q * np.sin(turn),
                    cy + a * p * np.sin(turn) + b * q * np.cos(turn),
                )
                for p, q in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            ]
        else:
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            ragged = (
                1 + 0.16 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.1 * np.sin(5 * angle + rng.uniform(0, 6))
            )
            polygon = np.stack(
                [
                    rng.uniform(x0, x1) + rng.uniform(0.08, 0.28) * h * ragged * np.cos(angle),
                    rng.uniform(y0, y1) + rng.uniform(0.06, 0.2) * h * ragged * np.sin(angle),
                ],
                1,
            )
        cv2.fillPoly(mask, [(np.array(polygon) * 16).round().astype(np.int32)], 255, cv2.LINE_AA, 4)
        ys, xs = np.nonzero(mask)
        if len(ys):
            alpha = mask[ys, xs, None].astype(np.float32) / 255
            tone = (
                muted(rng, 0.1, 0.9, 0.6)
                * (1 + rng.uniform(0.02, 0.15) * noise_at(xs / 256, ys / 256, rng.uniform(100, 500), rng))[
                    :, None
                ]
            )
            tone *= (1 + rng.normal(0, 0.25) * (xs / size - 0.5) + rng.normal(0, 0.25) * (ys / size - 0.5))[
                :, None
            ]
            image[ys, xs] = image[ys, xs] * (1 - alpha) + np.clip(tone, 0, 1) * alpha
            total[ys, xs] = np.maximum(total[ys, xs], alpha[:, 0])
    return total


def lens(image, rng):
    """Returns the image (float32, 0..1) after white balance, exposure, blur, loss of resolution and sensor noise."""
    size = image.shape[0]
    image = image * (rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.04, 3))).astype(np.float32)
    if rng.random() < 0.35:
        image = np.power(np.clip(image, 0, 1), np.float32(rng.uniform(0.8, 1.25)))
    kind = rng.random()
    if kind < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.3)))
    elif kind < 0.33:
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        a = rng.uniform(0, np.pi)
        m = (length - 1) / 2
        cv2.line(
            kernel,
            (round(m - m * np.cos(a)), round(m - m * np.sin(a))),
            (round(m + m * np.cos(a)), round(m + m * np.sin(a))),
            1.0,
        )
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    elif kind < 0.45:
        small = int(size * rng.uniform(0.35, 0.8))
        image = cv2.resize(
            cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA),
            (size, size),
            interpolation=cv2.INTER_LINEAR,
        )
    if rng.random() < 0.7:
        image = image + rng.uniform(0, 0.035) * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 1)
