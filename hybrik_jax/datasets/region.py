"""Cutting the region of a photo that one person's crops can reach, at bounded size.

A crop is a square of the box's side, enlarged, scaled by up to 1.3 and turned by any angle: it lies within a
square of 1.3 sqrt(2) times that side; where a shifted crop (`augmentation.shift`) leaves that, it is black. A
region is cut on the grid of the photo's own JPEG blocks and coded with its own colour sampling, which changes
pixels less than coding the photo again would. Only very large people are stored smaller; their crops are
smoother than the original's, which samples every second or third pixel there.
"""

import pathlib
from typing import Any

import cv2
import numpy as np
import simplejpeg

from hybrik_jax import image_file
from hybrik_jax.boxes import centre_and_side
from hybrik_jax.data import jpeg, record

LARGEST_SCALE = 1.3
LARGEST_SIDE = 512  # of the crop square in stored pixels
SMALLEST_SIDE = 32  # that LARGEST_SIDE may be set to
QUALITY = 95
_STEPS = 16  # regions are made smaller by n / 16, their sides are multiples of 16: whole pixels come out
_MARGIN = 2  # pixels around, for the interpolation


def read_photo(path: pathlib.Path) -> tuple[np.ndarray, bytes]:
    """Returns the photo (height, width, 3) uint8 RGB, not turned by its EXIF tag, and the file's bytes.

    Raises:
        FileNotFoundError, FileError: as `image_file.read`.
    """
    return image_file.read(path, upright=False)


def cut(
    photo: np.ndarray,
    box: np.ndarray,
    enlargement: float,
    *,
    encoded: bytes | None = None,
    largest_side: int = LARGEST_SIDE,
    quality: int = QUALITY,
) -> dict[str, Any]:
    """Returns the record's image and region fields for one person.

    Args:
        photo: (height, width, 3) uint8 RGB.
        box: (4,) xyxy, photo pixels; `enlargement` of its side.
        encoded: the photo's own JPEG bytes, taken as they are where the region is all of it.
        largest_side: of the crop square in stored pixels; larger people are stored smaller.
    """
    encoded = encoded if encoded and simplejpeg.is_jpeg(encoded) else None
    height, width = photo.shape[:2]
    centre, side = centre_and_side(box, enlargement)
    reach = side * LARGEST_SCALE * np.sqrt(2) / 2 + _MARGIN
    # On the grid of the photo's own JPEG blocks, so that coding again changes least.
    low = np.maximum(np.floor(centre - reach), 0).astype(int) // _STEPS * _STEPS
    high = np.minimum(np.ceil(centre + reach), [width - 1, height - 1]).astype(int) + 1
    steps = _STEPS if side <= largest_side else max(1, int(_STEPS * largest_side / side))
    fields = record.whole_photo(width, height)
    if steps == _STEPS:
        if (low == 0).all() and (high == [width, height]).all() and encoded:
            return fields | {record.IMAGE: encoded}
        region, scale = photo[low[1] : high[1], low[0] : high[0]], 1.0
    else:
        size = -(-(high - low) // _STEPS) * _STEPS
        region = np.zeros((size[1], size[0], 3), np.uint8)  # black where it leaves the photo, as a crop is
        inside = photo[low[1] : low[1] + size[1], low[0] : low[0] + size[0]]
        region[: inside.shape[0], : inside.shape[1]] = inside
        scale = steps / _STEPS
        region = cv2.resize(region, tuple((size * steps // _STEPS).tolist()), interpolation=cv2.INTER_AREA)
    sampling = simplejpeg.decode_jpeg_header(encoded)[3] if encoded else '444'
    sampling = sampling if sampling in jpeg.SAMPLINGS else '444'
    return fields | {
        record.IMAGE: jpeg.encode(region, quality, sampling),
        'region_offset': (low + 0.5 / scale - 0.5).astype(np.float32),
        'region_scale': np.float32(scale),
        'region_size': np.array(region.shape[1::-1], np.int32),
    }
