"""People drawn on the frames of a video: a colour and a number for each, paler where nobody saw them."""

from collections.abc import Sequence

import cv2
import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.types import Camera
from hybrik_jax.view import render

FILLED_OPACITY = 0.35
DARK = (20, 20, 20)  # the edge of numbers, uint8 RGB


def draw_people(
    frame: np.ndarray, people: Sequence[tuple[int, np.ndarray, bool]], faces: np.ndarray, camera: Camera
) -> np.ndarray:
    """Returns the frame (height, width, 3) uint8 RGB with everybody's mesh on it, and the numbers above.

    Args:
        people: number of a person, from 0, which decides about the colour; vertices (V, 3), camera frame,
            metres; whether nobody saw the person: drawn paler.
        faces: (F, 3).
    """
    meshes = [
        render.Mesh(
            vertices_m,
            camera.focal,
            camera.centre,
            render.person_colour(number),
            FILLED_OPACITY if filled else render.OPACITY,
        )
        for number, vertices_m, filled in people
    ]
    frame = render.overlay_meshes(frame, meshes, faces)
    for (number, vertices_m, _), mesh in zip(people, meshes, strict=True):
        in_front = vertices_m[vertices_m[:, 2] > render.NEAR_M]
        if len(in_front):
            x, y = project(in_front, np.array(camera.focal), np.array(camera.centre)).T
            if x.max() >= 0 and x.min() < frame.shape[1] and y.max() >= 0 and y.min() < frame.shape[0]:
                _write_number(frame, number, mesh.colour, ((x.min() + x.max()) / 2, y.min()))
    return frame


def _write_number(
    frame: np.ndarray, number: int, colour: Sequence[float], place: tuple[float, float]
) -> None:
    """Writes the number in place, its middle at x, its foot at y, within the frame."""
    height, width = frame.shape[:2]
    scale = max(min(height, width) / 700, 0.35)
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(round(2 * scale), 1)
    (w, h), _ = cv2.getTextSize(str(number), font, scale, thick)
    x, y = np.clip(place[0] - w / 2, 0, max(width - w, 0)), np.clip(place[1] - 3, h + 2, max(height, h + 2))
    for paint, extra in ((DARK, 2), ([round(255 * c) for c in colour], 0)):
        cv2.putText(frame, str(number), (int(x), int(y)), font, scale, paint, thick + extra, cv2.LINE_AA)
