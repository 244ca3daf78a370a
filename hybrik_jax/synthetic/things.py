"""What is in front of a background: shadow, clutter and occluders, all painted in place, and the lens.

World space and images are those of `scene`.
"""

import cv2
import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.synthetic.paint import muted, noise_at
from hybrik_jax.synthetic.scene import Camera


def cast_shadow(
    image: np.ndarray,
    floor: np.ndarray,
    points: np.ndarray,
    vertices: np.ndarray,
    light: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Darkens the floor, in place, where `vertices` (n, 3) block the light and, softly, where they touch it.

    Args:
        image: (s, s, 3).
        floor, points: (s * s,) bool and (3, s * s) world positions, of the pixels.
        light: (3,) unit vector towards the light.
    """
    cells, span = 96, 3.2
    slope = np.clip(light[[0, 2]] / max(light[1], 0.25), -1.4, 1.4)
    cast = vertices[:, [0, 2]] - vertices[:, 1:2] * slope
    middle = (cast.min(0) + cast.max(0)) / 2

    def splat(xz: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
        cell = np.floor((xz - middle) / span * cells + cells / 2).astype(int)
        ok = ((cell >= 0) & (cell < cells)).all(1)
        grid = np.bincount(cell[ok, 1] * cells + cell[ok, 0], weight[ok], cells * cells).reshape(cells, cells)
        return cv2.GaussianBlur(np.minimum(grid, 4).astype(np.float32), (0, 0), sigma)

    shadow = np.clip(splat(cast, np.ones(len(cast)), rng.uniform(1.0, 3.0)) / 1.6, 0, 1)
    shadow = shadow * rng.uniform(0.15, 0.65)
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


def draw_box(
    image: np.ndarray,
    camera: Camera,
    centre: np.ndarray,
    half: np.ndarray,
    yaw: float,
    colour: np.ndarray,
    light: np.ndarray,
) -> None:
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


def clutter(
    image: np.ndarray, camera: Camera, rng: np.random.Generator, light: np.ndarray, behind: float
) -> None:
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


def occluders(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paints one or two things in front of the person, in place, and returns their mask (size, size), 0..1.

    Furniture from below, a post, a floating panel or blob.

    Args:
        box: the person's x0 y0 x1 y1, pixels.
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
            right_foot, left_foot = right + rng.normal(0, 0.08) * w, left + rng.normal(0, 0.08) * w
            polygon = [(left, top), (right, top + tilt), (right_foot, drop), (left_foot, drop)]
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
            cx, cy = rng.uniform(x0, x1), rng.uniform(y0, y1)
            a, b = rng.uniform(0.12, 0.3) * w, rng.uniform(0.08, 0.22) * h
            turn = rng.normal(0, 0.3)
            corners = ((-a, -b), (a, -b), (a, b), (-a, b))
            c, s = np.cos(turn), np.sin(turn)
            polygon = [(cx + p * c - q * s, cy + p * s + q * c) for p, q in corners]
        else:
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            ragged = 1 + 0.16 * np.sin(3 * angle + rng.uniform(0, 6))
            ragged = ragged + 0.1 * np.sin(5 * angle + rng.uniform(0, 6))
            x = rng.uniform(x0, x1) + rng.uniform(0.08, 0.28) * h * ragged * np.cos(angle)
            y = rng.uniform(y0, y1) + rng.uniform(0.06, 0.2) * h * ragged * np.sin(angle)
            polygon = np.stack([x, y], 1)
        cv2.fillPoly(mask, [(np.array(polygon) * 16).round().astype(np.int32)], 255, cv2.LINE_AA, 4)
        ys, xs = np.nonzero(mask)
        if len(ys):
            alpha = mask[ys, xs, None].astype(np.float32) / 255
            tone, strength = muted(rng, 0.1, 0.9, 0.6), rng.uniform(0.02, 0.15)
            tone = tone * (1 + strength * noise_at(xs / 256, ys / 256, rng.uniform(100, 500), rng))[:, None]
            slope = 1 + rng.normal(0, 0.25) * (xs / size - 0.5) + rng.normal(0, 0.25) * (ys / size - 0.5)
            tone *= slope[:, None]
            image[ys, xs] = image[ys, xs] * (1 - alpha) + np.clip(tone, 0, 1) * alpha
            total[ys, xs] = np.maximum(total[ys, xs], alpha[:, 0])
    return total


def lens(image: np.ndarray, rng: np.random.Generator, blur: float = 1.0) -> np.ndarray:
    """Returns the image (float32, 0..1) after white balance, exposure, blur, lost resolution and noise.

    Args:
        image: (s, s, 3).
        blur: what the widths of all blurs, pixels, are multiplied by.
    """
    size = image.shape[0]
    image = image * (rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.04, 3))).astype(np.float32)
    if rng.random() < 0.35:
        image = np.power(np.clip(image, 0, 1), np.float32(rng.uniform(0.8, 1.25)))
    kind = rng.random()
    if kind < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.3)) * blur)
    elif kind < 0.33:
        length = max(round(int(rng.integers(3, 8)) * blur), 1)
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
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.7:
        image = image + rng.uniform(0, 0.035) * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 1)
