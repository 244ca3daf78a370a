"""Pictures of predicted people: over the photo, from the side, and as the network saw them."""

from collections.abc import Sequence

import cv2
import numpy as np

from hybrik_jax.body import skeleton
from hybrik_jax.data import augment
from hybrik_jax.types import Person
from hybrik_jax.view import render

LARGEST_PICTURE = 1600  # pixels; the overlay of a larger photo is drawn this large
CROP_PICTURE = 384  # pixels
LARGEST_JPEG = 65_500  # pixels; what the format holds
JPEG_QUALITY = 90


def draw_overlay(photo: np.ndarray, people: Sequence[Person], faces: np.ndarray) -> np.ndarray:
    """Returns the photo, made smaller where it is large, with everybody's mesh on it, uint8 RGB.

    Nearer people are in front; the number of a person among `people` decides about the colour.
    """
    smaller, scale = shrunk(photo, LARGEST_PICTURE)
    meshes = [
        render.Mesh(
            person.vertices_m + person.translation_m,
            focal=person.view.focal * scale,
            centre=(person.view.centre + 0.5) * scale - 0.5,
            colour=render.person_colour(number),
            opacity=render.OPACITY,
        )
        for number, person in enumerate(people)
    ]
    return render.overlay_meshes(smaller, meshes, faces)


def draw_side(person: Person, number: int, faces: np.ndarray, size: int) -> np.ndarray:
    """Returns the person with this number from the camera's right, (size, size, 3) uint8 RGB."""
    return render.side_view(person.vertices_m, faces, size=size, colour=render.person_colour(number))


def shrunk(photo: np.ndarray, largest: int) -> tuple[np.ndarray, float]:
    """Returns the photo with no side longer than `largest` pixels, and by how much it was made smaller."""
    scale = min(1.0, largest / max(photo.shape[:2]))
    if scale < 1:
        size = [max(1, round(side * scale)) for side in photo.shape[1::-1]]
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    return photo, scale


def encode(picture: np.ndarray, suffix: str) -> bytes:
    """Returns a uint8 RGB picture as the content of a '.png' or '.jpg' file.

    A JPEG is made smaller where a side is longer than the format allows.
    """
    if suffix == '.jpg':
        picture, _ = shrunk(picture, LARGEST_JPEG)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == '.jpg' else []
    return cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def draw_crop(photo: np.ndarray, person: Person, number: int, image_size: int) -> np.ndarray:
    """Returns the network's crop with its 2D joints, uint8 RGB, `CROP_PICTURE` pixels wide.

    Args:
        number: of the person in the photo, which decides about the colour.
        image_size: side of the network's crop, pixels.
    """
    affine = augment.invert_affine(person.view.crop_to_photo) * (CROP_PICTURE / image_size)
    crop = cv2.warpAffine(photo, affine, (CROP_PICTURE, CROP_PICTURE), flags=cv2.INTER_LINEAR)
    joints_px = person.joints_px @ affine[:, :2].T + affine[:, 2]
    edges = [edge for edge in skeleton.EDGES if max(edge) < len(joints_px)]
    return render.draw_skeleton(crop, joints_px, edges, colour=render.person_colour(number))
