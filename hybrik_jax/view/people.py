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


def draw_overlay(photo: np.ndarray, people: Sequence[Person], faces: np.ndarray) -> np.ndarray:
    """Returns the photo, made smaller where it is large, with everybody's mesh on it, uint8 RGB."""
    scale = min(1.0, LARGEST_PICTURE / max(photo.shape[:2]))
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for person in sorted(people, key=lambda person: -person.translation_m[2]):
        photo = render.overlay(
            photo,
            person.vertices_m + person.translation_m,
            faces,
            focal=person.view.focal * scale,
            centre=(person.view.centre + 0.5) * scale - 0.5,
        )
    return photo


def draw_crop(photo: np.ndarray, person: Person, image_size: int) -> np.ndarray:
    """Returns the network's crop with its 2D joints, uint8 RGB, `CROP_PICTURE` pixels wide.

    Args:
        image_size: side of the network's crop, pixels.
    """
    affine = augment.invert_affine(person.view.crop_to_photo) * (CROP_PICTURE / image_size)
    crop = cv2.warpAffine(photo, affine, (CROP_PICTURE, CROP_PICTURE), flags=cv2.INTER_LINEAR)
    joints_px = person.joints_px @ affine[:, :2].T + affine[:, 2]
    edges = [edge for edge in skeleton.EDGES if max(edge) < len(joints_px)]
    return render.draw_skeleton(crop, joints_px, edges)
