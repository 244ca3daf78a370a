"""Photos that others wrote: refused by their header, before anything is decoded, where they are too large.

What is transparent is white, as most programs show it. Of several pictures in a file the first one is read.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from hybrik_jax.files import FileError, open_plain, shown

LARGEST_PIXELS = 80_000_000  # decoding takes up to 7 bytes of each, 13 of TIFF, 17 where some are transparent
_LARGEST_FILE = 2**28  # bytes
_KIND = 'a photo'
_FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'GIF', 'AVIF')
_ORIENTATION, _TILES, _BITS = 0x0112, (322, 323), 258  # tags of EXIF and TIFF
# Turned upright here; libtiff turns TIFF, and others have no EXIF data.
_TURNED = ('JPEG', 'MPO', 'PNG', 'WEBP', 'AVIF')
# May hold several pictures of equal rank; MPO is a JPEG, to whose first picture the others belong.
_IN_TURN = ('GIF', 'WEBP', 'PNG', 'TIFF', 'AVIF')
_HEIC = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')  # brands behind b'ftyp'
_STRIPS = 16  # a photo is laid on white in so many parts, which bounds the memory
# How a photo is turned upright: whether rows and columns are exchanged first, then which axes are reversed.
_UPRIGHT = {
    2: (False, (1,)), 3: (False, (0, 1)), 4: (False, (0,)), 5: (True, ()),
    6: (True, (1,)), 7: (True, (0, 1)), 8: (True, (0,)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Header:
    """What is known of a photo before it is decoded.

    size: width and height as it is stored.
    orientation: EXIF's, 1 where decoding turns the photo, or nothing does.
    transparent: whether it may have transparent pixels.
    several: whether it holds more than one picture.
    """

    size: tuple[int, int]
    orientation: int
    transparent: bool
    several: bool


def size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns width and height of a photo as it is stored (EXIF turns nothing), from its header.

    Raises:
        FileNotFoundError, FileError: as `read`.
    """
    with open_plain(path, _KIND, _LARGEST_FILE) as file:
        return _header(file, path).size


def holds_several(path: str | os.PathLike) -> bool:
    """Returns whether a file holds more pictures than the first, which is read: animations, TIFF's pages.

    Raises:
        FileNotFoundError, FileError: as `read`.
    """
    with open_plain(path, _KIND, _LARGEST_FILE) as file:
        return _header(file, path).several


def sha256(path: str | os.PathLike) -> str:
    """Returns the hash of a photo's file, in hexadecimal, without looking at what it holds.

    Raises:
        FileNotFoundError, FileError: there is no such file, or it is none or too large.
    """
    with open_plain(path, _KIND, _LARGEST_FILE) as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


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
    header = _header(io.BytesIO(data), path)
    photo = None
    if simplejpeg.is_jpeg(data):
        try:
            photo = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
        except ValueError as error:  # of CMYK too, which OpenCV reads
            if 'premature' in str(error).lower() or 'corrupt' in str(error).lower():
                raise FileError(f'{shown(path)} cannot be read: it is damaged ({error}).') from error
    if photo is None and header.transparent:
        with _opened(io.BytesIO(data), path) as image:
            photo = _on_white(np.asarray(image.convert('RGBA')))
    if photo is None:
        photo = _decoded(data)
    if photo is None:
        raise FileError(f'{shown(path)} cannot be read: it is damaged.')
    exchanged, reversed_axes = _UPRIGHT.get(header.orientation if upright else 1, (False, ()))
    photo = photo.transpose(1, 0, 2) if exchanged else photo
    return np.ascontiguousarray(np.flip(photo, reversed_axes)), data


def _decoded(data: bytes) -> np.ndarray | None:
    """Returns what OpenCV makes of a file's bytes, None where that is nothing; it says no word about it."""
    before = cv2.utils.logging.setLogLevel(0)
    try:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(before)


def _on_white(photo: np.ndarray) -> np.ndarray:
    """Returns a photo (height, width, 4) uint8 RGB and opacity as it looks on white, (height, width, 3)."""
    out = np.empty((*photo.shape[:2], 3), np.uint8)
    for part, seen in zip(np.array_split(photo, _STRIPS), np.array_split(out, _STRIPS), strict=True):
        missing = (255 - part[..., :3]).astype(np.uint16)
        seen[...] = 255 - missing * part[..., 3:] // 255
    return out


def _header(file: BinaryIO, path: str | os.PathLike) -> _Header:
    """Returns the header of a photo that can be decoded in bounded memory."""
    with _opened(file, path) as image:
        width, height = image.size
        orientation = 1
        # Pillow would decode a PNG whole to look for EXIF data behind its pixels.
        if image.format in _TURNED and (image.format != 'PNG' or 'exif' in image.info):
            orientation = image.getexif().get(_ORIENTATION, 1)
        pixels = width * height
        if image.format == 'TIFF':  # its tiles, which may be larger than the picture, are decoded whole
            tile = [image.tag_v2.get(tag, 1) for tag in _TILES]
            pixels = max(pixels, tile[0] * tile[1] * sum(image.tag_v2.get(_BITS, (1,))) / 24)
        transparent = image.has_transparency_data
        several = image.format in _IN_TURN and getattr(image, 'is_animated', False)
        if image.format == 'PNG':
            image.verify()
    if pixels > LARGEST_PIXELS:
        raise _too_large(path)
    return _Header((width, height), orientation, transparent, several)


@contextlib.contextmanager
def _opened(file: BinaryIO, path: str | os.PathLike) -> Iterator[Image.Image]:
    """Opens a photo in Pillow, which decodes nothing yet; FileError, naming it, for whatever goes wrong."""
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(file, formats=_FORMATS) as image:
            yield image
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except Exception as error:  # each of Pillow's formats raises what it comes upon
        file.seek(0)
        start = file.read(12)
        what = f'it is no image ({", ".join(_FORMATS)}) or is damaged'
        if start[4:8] == b'ftyp' and start[8:] in _HEIC:
            what = 'it is HEIC, which is not read. Convert it, for example by: heif-convert IN.heic OUT.jpg'
        raise FileError(f'{shown(path)} cannot be read: {what}.') from error


def _too_large(path: str | os.PathLike) -> FileError:
    limit = f'{LARGEST_PIXELS // 10**6} million pixels'
    return FileError(f'{shown(path)} has more than {limit}, the most that are read: make it smaller.')
