"""Photos that others wrote: refused by their header, before anything is decoded, where they are too large."""

import io
import os
import warnings
from typing import BinaryIO

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from hybrik_jax.files import FileError, open_plain, shown

LARGEST_PIXELS = 80_000_000  # decoding takes 6 bytes of each
_LARGEST_FILE = 2**28  # bytes
_KIND = 'a photo'
_FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'GIF')
_ORIENTATION, _TILES, _BITS = 0x0112, (322, 323), 258  # tags of EXIF and TIFF
# How a photo is turned upright: whether rows and columns are exchanged first, then which axes are reversed.
_UPRIGHT = {
    2: (False, (1,)), 3: (False, (0, 1)), 4: (False, (0,)), 5: (True, ()),
    6: (True, (1,)), 7: (True, (0, 1)), 8: (True, (0,)),
}  # fmt: skip


def size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns width and height of a photo as it is stored (EXIF turns nothing), from its header.

    Raises:
        FileNotFoundError, FileError: as `read`.
    """
    with open_plain(path, _KIND, _LARGEST_FILE) as file:
        return _header(file, path)[0]


def read(path: str | os.PathLike, *, upright: bool) -> tuple[np.ndarray, bytes]:
    """Returns the photo, (height, width, 3) uint8 RGB, and the file's bytes.

    Args:
        upright: turn it as its EXIF data say.
    Raises:
        FileNotFoundError: there is no such file.
        FileError: naming the file, where it is no image, is damaged or cut off, or has too many pixels.
    """
    with open_plain(path, _KIND, _LARGEST_FILE) as file:
        data = file.read()
    _, orientation = _header(io.BytesIO(data), path)
    if simplejpeg.is_jpeg(data):
        try:
            photo = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
        except ValueError as error:
            if 'premature' in str(error).lower() or 'corrupt' in str(error).lower():
                raise FileError(f'{shown(path)} cannot be read: it is damaged ({error}).') from error
        else:
            exchanged, reversed_axes = _UPRIGHT.get(orientation if upright else 1, (False, ()))
            photo = photo.transpose(1, 0, 2) if exchanged else photo
            return np.ascontiguousarray(np.flip(photo, reversed_axes)), data
    before = cv2.utils.logging.setLogLevel(0)  # what is wrong is said below
    try:
        flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        photo = None
    finally:
        cv2.utils.logging.setLogLevel(before)
    if photo is None:
        raise FileError(f'{shown(path)} cannot be read: it is damaged.')
    return photo, data


def _header(file: BinaryIO, path: str | os.PathLike) -> tuple[tuple[int, int], int]:
    """Returns width, height and EXIF's orientation of a photo that can be decoded in bounded memory."""
    pixels = 0
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            orientation = image.getexif().get(_ORIENTATION, 1) if image.format == 'JPEG' else 1
            if image.format == 'TIFF':  # its tiles, which may be larger than the picture, are decoded whole
                tile = [image.tag_v2.get(tag, 1) for tag in _TILES]
                pixels = tile[0] * tile[1] * sum(image.tag_v2.get(_BITS, (1,))) / 24
            if image.format == 'PNG':
                image.verify()
    except Image.DecompressionBombError:
        width = height = LARGEST_PIXELS
    except Exception as error:  # each of Pillow's formats raises what it comes upon
        what = f'it is no image ({", ".join(_FORMATS)}) or is damaged'
        raise FileError(f'{shown(path)} cannot be read: {what}.') from error
    if max(width * height, pixels) > LARGEST_PIXELS:
        limit = f'{LARGEST_PIXELS // 10**6} million pixels'
        raise FileError(f'{shown(path)} has more than {limit}, the most that are read: make it smaller.')
    return (width, height), orientation
