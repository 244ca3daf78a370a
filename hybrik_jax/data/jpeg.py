"""JPEG files of which a part can be decoded: ordinary files, with restart markers between tiles.

A restart marker (ITU-T T.81, B.2.4.4 and F.1.1.5.2) lets the decoder start afresh, so the segments between
markers are independent. Here a segment is a tile: one row of blocks high and a whole fraction of the image
wide. The tiles of a window, under a header with the window's size, are a JPEG file of their own; its pixels
are those of the whole image, except one pixel inside its cut edges, where the colours of the tiles left out
would be interpolated.
"""

import struct
import threading
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

_LARGEST_TILE = 64  # pixels wide, at most
# Colour sampling -> width and height of a unit of blocks.
_BLOCKS = {'444': (8, 8), '422': (16, 8), '420': (16, 16)}
SAMPLINGS = tuple(_BLOCKS)
_MEMORY = 1 << 24  # bytes, so many that NumPy asks for huge pages, which a turned warp wants
_EDGE = 1  # pixels at a cut edge that interpolated colours change


class _Header(NamedTuple):
    """What the header of a JPEG file says; `frame` and `scan` are offsets of frame header and data."""

    width: int
    height: int
    unit: tuple[int, int]
    restart_interval: int
    frame: int
    scan: int


def encode(image: np.ndarray, quality: int, sampling: str = '444') -> bytes:
    """Returns the JPEG file of an image (height, width, 3) uint8 RGB; `decode` reads windows of it.

    Args:
        quality: 1 to 100, the tables of libjpeg.
        sampling: of colours, one of `SAMPLINGS`.
    """
    units = -(-image.shape[1] // _BLOCKS[sampling][0])
    most = _LARGEST_TILE // _BLOCKS[sampling][0]
    # Every row of tiles begins a new one.
    interval = max(n for n in range(1, most + 1) if units % n == 0)
    colours = getattr(cv2, f'IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}')
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colours]
    options += [cv2.IMWRITE_JPEG_RST_INTERVAL, interval]
    written, data = cv2.imencode('.jpg', image[..., ::-1], options)
    if not written:
        raise ValueError(f'An image of shape {image.shape} cannot be written as JPEG.')
    return data.tobytes()


_thread = threading.local()


def decode(
    data: bytes, window: tuple[int, int, int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns an image (height, width, 4) uint8, RGB and padding, and the pixel (x, y) where it begins.

    The image holds the whole window, and more; files without tiles are decoded as a whole. It is valid until
    this thread's next call: fresh memory for each image costs as much as the crop's warp.

    Args:
        window: x0 y0 x1 y1 of the pixels that are needed, the last ones excluded; None for all.
    Raises:
        ValueError: where the bytes are no readable JPEG.
    """
    start = (0, 0)
    if window is not None:
        data, start = _cut(data, window)
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    size = 4 * height * width  # four channels: OpenCV warps them in half the time of three
    if getattr(_thread, 'memory', None) is None or len(_thread.memory) < size:
        _thread.memory = np.empty(max(size, _MEMORY), np.uint8)
    image = simplejpeg.decode_jpeg(data, 'RGBX', fastdct=False, fastupsample=False, buffer=_thread.memory)
    return image, start


def _cut(data: bytes, window: tuple[int, int, int, int]) -> tuple[bytes, tuple[int, int]]:
    """Returns the JPEG file of the tiles that the window touches and its first pixel (x, y)."""
    header = _read_header(data)
    if header is None or not header.restart_interval:
        return data, (0, 0)
    tile = np.array([header.unit[0] * header.restart_interval, header.unit[1]])
    size = np.array([header.width, header.height])
    columns, rows = -(-size // tile)
    body = np.frombuffer(data, np.uint8)
    escapes = np.flatnonzero(body[header.scan : -2] == 0xFF) + header.scan
    codes = body[escapes + 1]
    markers = escapes[codes != 0]  # 0: the byte 0xFF of the data itself
    if len(markers) != columns * rows - 1 or (body[markers + 1] & 0xF8 != 0xD0).any():
        return data, (0, 0)  # another writer's file, whose segments are not whole tiles
    starts = np.concatenate([[header.scan], markers + 2])
    ends = np.concatenate([markers + 2, [len(data)]])  # each with the marker that follows

    low = np.clip(np.array(window[:2]) - _EDGE, 0, size - 1) // tile
    high = -(-np.clip(np.array(window[2:]) + _EDGE, low * tile + 1, size) // tile)
    chosen = np.arange(low[1], high[1])[:, None] * columns + np.arange(low[0], high[0])
    head = bytearray(data[: header.scan])
    width, height = np.minimum(high * tile, size) - low * tile
    struct.pack_into('>HH', head, header.frame + 5, height, width)
    segments = [data[starts[row[0]] : ends[row[-1]]] for row in chosen]
    out = np.frombuffer(bytearray().join([head, *segments]), np.uint8)
    after = len(head) + np.cumsum((ends - starts)[chosen.reshape(-1)])
    out[after - 1] = 0xD0 + np.arange(len(after)) % 8  # markers count 0 to 7
    out[after[-1] - 1] = 0xD9  # and the last one ends the image
    return out.tobytes(), tuple((low * tile).tolist())


def _read_header(data: bytes) -> _Header | None:
    """Returns the header of a baseline JPEG file with one scan, None where it is not one."""
    at, frame, restart_interval = 2, 0, 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        code, length = struct.unpack_from('>xBH', data, at)
        if code == 0xC0:
            frame = at
            height, width, components = struct.unpack_from('>HHB', data, at + 5)
            unit = (8 * (data[at + 11] >> 4), 8 * (data[at + 11] & 15)) if components == 3 else (8, 8)
        elif code == 0xDD:
            (restart_interval,) = struct.unpack_from('>H', data, at + 4)
        at += 2 + length
        if code == 0xDA:
            return _Header(width, height, unit, restart_interval, frame, at) if frame else None
    return None
