"""People drawn on the frames of a video: a colour and a number for each, paler where nobody saw them."""

import cv2
import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.view import render

# Light colours that are told apart on most photos, RGB in [0, 1]; the seventh person has the first one again.
COLOURS = (
    (0.48, 0.66, 0.90),
    (0.95, 0.67, 0.35),
    (0.52, 0.78, 0.50),
    (0.90, 0.52, 0.60),
    (0.72, 0.60, 0.88),
    (0.88, 0.82, 0.40),
)
OPACITY, FILLED_OPACITY = 0.85, 0.35
MARGIN = 2  # pixels around a person


def draw_person(
    frame: np.ndarray,
    vertices_m: np.ndarray,
    faces: np.ndarray,
    *,
    number: int,
    filled: bool,
    focal: np.ndarray,
    centre: np.ndarray,
) -> np.ndarray:
    """Returns the frame (height, width, 3) uint8 RGB with one person's mesh on it, and the number above.

    Args:
        vertices_m: (V, 3) camera frame, metres.
        faces: (F, 3).
        number: of the person, from 0, for the colour, too.
        filled: drawn paler.
        focal, centre: (2,), pixels.
    """
    in_front = vertices_m[vertices_m[:, 2] > render.NEAR_M]
    if not len(in_front):
        return frame
    pixels = project(in_front, focal, centre)
    size = np.array(frame.shape[1::-1])
    x0, y0 = np.clip(np.floor(pixels.min(0)) - MARGIN, 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(pixels.max(0)) + MARGIN + 1, 0, size).astype(int)
    if x0 >= x1 or y0 >= y1:
        return frame
    colour = COLOURS[number % len(COLOURS)]
    frame = frame.copy()
    frame[y0:y1, x0:x1] = render.overlay(
        frame[y0:y1, x0:x1],
        vertices_m,
        faces,
        focal=focal,
        centre=np.asarray(centre) - [x0, y0],
        colour=colour,
        opacity=FILLED_OPACITY if filled else OPACITY,
    )
    _write_number(frame, number, colour, ((x0 + x1) // 2, y0))
    return frame


def _write_number(frame: np.ndarray, number: int, colour: tuple, place: tuple[int, int]) -> None:
    """Writes the number in place, its middle at x, its foot at y, within the frame."""
    height, width = frame.shape[:2]
    scale = max(min(height, width) / 700, 0.35)
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(round(2 * scale), 1)
    (w, h), _ = cv2.getTextSize(str(number), font, scale, thick)
    corner = int(np.clip(place[0] - w // 2, 0, max(width - w, 0))), int(np.clip(place[1] - 3, h + 2, height))
    light = [round(255 * x) for x in colour]
    for paint, extra in (((20, 20, 20), 2), (light, 0)):
        cv2.putText(frame, str(number), corner, font, scale, paint, thick + extra, cv2.LINE_AA)
