"""Pictures of meshes and skeletons with numpy and OpenCV alone.

Images are uint8 RGB. Vertices are metres in the camera frame (x right, y down, z forward), absolute, not
root-relative. Pixels as OpenCV counts them: u = focal * X / Z + centre, pixel centres at integers.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.body.mesh import unit, vertex_normals
from hybrik_jax.body.projection import project
from hybrik_jax.view.rasterise import rasterise

TRUTH_COLOUR = (0.45, 0.72, 0.55)  # muted green, RGB in [0, 1]
PREDICTION_COLOUR = (0.48, 0.66, 0.90)  # light blue
PERSON_COLOURS = (  # of the people in a picture, by their number
    PREDICTION_COLOUR, (0.93, 0.62, 0.38), (0.50, 0.76, 0.50), (0.86, 0.54, 0.72), (0.88, 0.80, 0.42),
    (0.42, 0.76, 0.76), (0.68, 0.58, 0.88), (0.90, 0.50, 0.46),
)  # fmt: skip
GHOST_COLOUR = (0.72, 0.72, 0.70)  # a second mesh shown for comparison
BACKGROUND = (244, 243, 240)  # of meshes without a photo, uint8 RGB
OPACITY = 0.85  # of meshes over a photo

SUPERSAMPLE = 2
NEAR_M = 0.2  # faces nearer to the camera plane than this are left out
LARGEST_COORDINATE = 16000  # pixels; OpenCV draws with fixed-point coordinates


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A mesh as its camera sees it.

    vertices_m: (V, 3) camera frame, metres.
    focal: pixels, one number or (fx, fy).
    centre: (2,) principal point, pixels.
    colour: (3,) RGB in [0, 1].
    opacity: 1 hides what is behind it, 0 leaves that as it is.
    """

    vertices_m: np.ndarray
    focal: float | Sequence[float]
    centre: Sequence[float]
    colour: Sequence[float] = PREDICTION_COLOUR
    opacity: float = 1.0


def person_colour(number: int) -> tuple[float, float, float]:
    """Returns the colour, RGB in [0, 1], of the person with this number; after eight they come again."""
    return PERSON_COLOURS[number % len(PERSON_COLOURS)]


def shade_mesh(
    vertices_m: np.ndarray,
    faces: np.ndarray,
    *,
    focal: float | Sequence[float],
    centre: Sequence[float],
    height: int,
    width: int,
    colour: Sequence[float] = PREDICTION_COLOUR,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `shade_meshes` of one mesh, whose arguments are those of `Mesh`."""
    return shade_meshes([Mesh(vertices_m, focal, centre, colour)], faces, height=height, width=width)


def shade_meshes(
    meshes: Sequence[Mesh], faces: np.ndarray, *, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns colours (height, width, 3) and coverage (height, width) of meshes under two soft lights.

    Where several are in the way of one another, the nearest surface is seen, whatever their order. Cameras of
    different focal lengths look from different places: depths are compared as multiples of the focal length.

    Args:
        meshes: of the same faces.
        faces: (F, 3) vertex numbers, counter-clockwise seen from outside; back faces are not drawn.
        height, width: pixels.
    Returns:
        rgb float32 in [0, 1], not multiplied by the coverage, 0 where nothing is drawn;
        coverage float32 in [0, 1], times the opacity of the mesh that is seen.
    Raises:
        ValueError: shapes that do not fit, or vertices that are not finite.
    """
    samples = height * width * SUPERSAMPLE**2
    nearest, layer = np.full(samples, np.inf, np.float32), np.zeros((samples, 4), np.float32)
    for mesh in meshes:
        vertices_m = _checked_vertices(mesh.vertices_m)
        focal = np.broadcast_to(np.asarray(mesh.focal, np.float64), (2,))
        if not (focal > 0).all():
            raise ValueError(f'focal={focal.tolist()}: both focal lengths must be positive, in pixels.')
        # vertices may be at z = 0; their faces are dropped
        with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
            seen = rasterise(
                vertices_m,
                faces,
                focal * SUPERSAMPLE,
                (np.asarray(mesh.centre, np.float64) + 0.5) * SUPERSAMPLE - 0.5,
                height * SUPERSAMPLE,
                width * SUPERSAMPLE,
                near=NEAR_M,
            )
        normals = seen.interpolate(vertex_normals(vertices_m, faces).astype(np.float32), faces)
        view = -seen.interpolate(vertices_m.astype(np.float32), faces)
        depth = seen.depth / np.sqrt(focal.prod())
        in_front = depth < nearest[seen.pixel]
        pixel = seen.pixel[in_front]
        nearest[pixel] = depth[in_front]
        layer[pixel, :3] = mesh.opacity * _light(unit(normals), unit(view), mesh.colour)[in_front]
        layer[pixel, 3] = mesh.opacity
    layer = _shrink(layer.reshape(height * SUPERSAMPLE, width * SUPERSAMPLE, 4))
    coverage = layer[..., 3]
    return layer[..., :3] / np.maximum(coverage, 1e-6)[..., None], coverage


def overlay(
    image: np.ndarray,
    vertices_m: np.ndarray,
    faces: np.ndarray,
    *,
    focal: float | Sequence[float],
    centre: Sequence[float],
    colour: Sequence[float] = PREDICTION_COLOUR,
    opacity: float = OPACITY,
) -> np.ndarray:
    """Returns `overlay_meshes` of one mesh, whose arguments are those of `Mesh`."""
    return overlay_meshes(image, [Mesh(vertices_m, focal, centre, colour, opacity)], faces)


def overlay_meshes(image: np.ndarray, meshes: Sequence[Mesh], faces: np.ndarray) -> np.ndarray:
    """Returns the image (H, W, 3) uint8 RGB with meshes drawn over it, the nearer ones in front.

    Arguments as in `shade_meshes`.
    """
    out = _checked_image(image).copy()
    left, top, right, bottom = _window(meshes, *out.shape[1::-1])
    part = out[top:bottom, left:right]
    if not part.size:
        return out
    moved = [
        dataclasses.replace(mesh, centre=np.asarray(mesh.centre, np.float64) - [left, top]) for mesh in meshes
    ]
    rgb, coverage = shade_meshes(moved, faces, height=part.shape[0], width=part.shape[1])
    mixed = part + coverage[..., None] * (255 * rgb - part)
    part[...] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return out


def _window(meshes: Sequence[Mesh], width: int, height: int) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of the part of an image outside of which no mesh is seen."""
    low, high, size = np.full(2, np.inf), np.full(2, -np.inf), np.array([width, height])
    for mesh in meshes:
        vertices_m = _checked_vertices(mesh.vertices_m)
        pixels = project(vertices_m[vertices_m[:, 2] >= NEAR_M], mesh.focal, np.asarray(mesh.centre))
        low = np.minimum(low, pixels.min(0, initial=np.inf))
        high = np.maximum(high, pixels.max(0, initial=-np.inf))
    if not (low <= high).all():
        return 0, 0, 0, 0
    low, high = np.clip(np.floor(low) - 1, 0, size), np.clip(np.ceil(high) + 2, 0, size)
    return *low.astype(int).tolist(), *high.astype(int).tolist()


def side_view(
    vertices_m: np.ndarray,
    faces: np.ndarray,
    *,
    size: int = 256,
    ghost_vertices_m: np.ndarray | None = None,
    turn_degrees: float = 90.0,
    colour: Sequence[float] = PREDICTION_COLOUR,
) -> np.ndarray:
    """Returns the mesh seen from the camera's right, (size, size, 3) uint8 RGB, framed to fit.

    The mesh is turned about the camera's vertical axis through its own middle: what was further from the
    camera is now further to the right.

    Args:
        ghost_vertices_m: (V, 3) or None, a second mesh of the same faces, drawn pale behind the first in the
            same frame (the truth, to judge a prediction by).
        turn_degrees: 90 from the camera's right, 0 from the front.
        colour: (3,) RGB in [0, 1].
    """
    vertices_m = _checked_vertices(vertices_m)
    meshes = [vertices_m] if ghost_vertices_m is None else [_checked_vertices(ghost_vertices_m), vertices_m]
    middle = (vertices_m.min(0) + vertices_m.max(0)) / 2
    turn = Rotation.from_euler('y', turn_degrees, degrees=True)  # at 90: right = old forward
    meshes = [turn.apply(mesh - middle) for mesh in meshes]
    both = np.concatenate(meshes)
    half_extent = max(float(np.abs(both).max()), 1e-3)
    distance = 6 * half_extent + NEAR_M  # far enough for little foreshortening
    projected = both[:, :2] / (both[:, 2:] + distance)
    low, high = projected.min(0), projected.max(0)
    focal = 0.9 * size / max(float((high - low).max()), 1e-6)
    camera = {'focal': focal, 'centre': (size - 1) / 2 - focal * (low + high) / 2}
    meshes = [mesh + [0, 0, distance] for mesh in meshes]

    picture = np.full((size, size, 3), BACKGROUND, np.uint8)
    for ghost in meshes[:-1]:
        picture = overlay(picture, ghost, faces, colour=GHOST_COLOUR, opacity=0.6, **camera)
    return overlay(picture, meshes[-1], faces, opacity=1.0, colour=colour, **camera)


def draw_skeleton(
    image: np.ndarray,
    joints_px: np.ndarray,
    edges: Sequence[tuple[int, int]],
    *,
    colour: Sequence[float] | np.ndarray = PREDICTION_COLOUR,
    rings: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the image (H, W, 3) uint8 RGB with joints and bones drawn over it.

    Args:
        joints_px: (K, 2) pixels, pixel centres at integers; one that is not finite is left out.
        edges: pairs of joint numbers; a bone has the colour of the second.
        colour: (3,) or (K, 3) RGB in [0, 1].
        rings: (K,) bool, joints that are drawn as rings without bones; None: none.
    """
    out = np.ascontiguousarray(_checked_image(image)).copy()
    joints_px = np.asarray(joints_px, np.float64)
    size, shift = max(1, round(max(out.shape[:2]) / 200)), 4  # OpenCV counts sixteenths of pixels
    drawable = (np.abs(np.nan_to_num(joints_px, nan=np.inf)) < LARGEST_COORDINATE).all(axis=1)
    rings = np.zeros(len(joints_px), bool) if rings is None else rings
    fixed = [
        tuple(int(round(c * 2**shift)) for c in joint) if ok else None
        for joint, ok in zip(joints_px, drawable, strict=True)
    ]
    colours = np.rint(255 * np.broadcast_to(colour, (len(joints_px), 3))).astype(int).tolist()
    for a, b in edges:
        if drawable[a] and drawable[b] and not rings[a] and not rings[b]:
            cv2.line(out, fixed[a], fixed[b], colours[b], size, cv2.LINE_AA, shift)
    for place, own, ring in zip(fixed, colours, rings, strict=True):
        radius = (size + 2) * 2**shift
        if place is not None and ring:
            cv2.circle(out, place, radius, own, 1, cv2.LINE_AA, shift)
        elif place is not None:
            cv2.circle(out, place, radius, (0, 0, 0), -1, cv2.LINE_AA, shift)
            cv2.circle(out, place, radius - 2**shift, own, -1, cv2.LINE_AA, shift)
    return out


def _light(normals: np.ndarray, view: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    """Returns RGB (k, 3) of surface points with unit `normals` and directions `view` to the camera (k, 3)."""
    key = unit(np.array([[-0.5, -0.8, -0.9]]))[0]  # towards the light: left, above, in front
    fill = unit(np.array([[0.9, -0.1, -0.4]]))[0]
    wrapped = np.clip((normals @ key + 0.35) / 1.35, 0, 1)  # light that reaches a little round the edge
    diffuse = 0.32 + 0.68 * wrapped**1.3 + 0.20 * np.clip(normals @ fill, 0, 1)
    facing = np.clip((normals * view).sum(1), 0, 1)
    diffuse *= 0.72 + 0.28 * facing  # darker towards the outline, which sets limbs apart
    gloss = 0.10 * np.clip((normals * unit(key + view)).sum(1), 0, 1) ** 24
    rgb = diffuse[:, None] * np.asarray(colour, np.float32) + gloss[:, None]
    return np.clip(rgb, 0, 1).astype(np.float32)


def _shrink(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[0] // SUPERSAMPLE, picture.shape[1] // SUPERSAMPLE
    return picture.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, *picture.shape[2:]).mean((1, 3))


def _checked_vertices(vertices_m: np.ndarray) -> np.ndarray:
    vertices_m = np.asarray(vertices_m, np.float64)
    if vertices_m.ndim != 2 or vertices_m.shape[1] != 3 or not len(vertices_m):
        raise ValueError(f'vertices_m has shape {vertices_m.shape}: pass the (V, 3) vertices of one person.')
    if bad := int((~np.isfinite(vertices_m)).any(axis=1).sum()):
        raise ValueError(f'{bad} of {len(vertices_m)} vertices are not finite: such a mesh cannot be drawn.')
    return vertices_m


def _checked_image(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'image is {image.dtype} of shape {image.shape}: pass (H, W, 3) uint8 RGB.')
    return image
