"""Bad photos, in prediction and in building."""

import functools
import io
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from hybrik_jax.datasets.readers import custom
from tests.corpus.entry import Entry, file
from tools import build_dataset, predict

NO_RUN = '/nowhere/run'
LARGE = 60_000


def png(width: int, height: int, rows: int = 1, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header promises a size, with a few of its rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0))
    data = chunk(b'IDAT', zlib.compress(b'\0' * (rows * (1 + 3 * width))))
    return b'\x89PNG\r\n\x1a\n' + header + data + chunk(b'IEND', b'')


@functools.cache
def picture(form: str, **options) -> bytes:
    """A small picture in a format of Pillow."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, form, **options)
    return file.getvalue()


def patched(form: str, at: int | bytes, data: bytes, skip: int = 0, **options) -> bytes:
    """That picture with other bytes at a place, or at `skip` bytes behind a mark."""
    content = bytearray(picture(form, **options))
    at = at if isinstance(at, int) else content.index(at) + skip
    content[at : at + len(data)] = data
    return bytes(content)


def tiff(**changes: int) -> bytes:
    """A TIFF whose tags say other numbers."""
    content = bytearray(picture('TIFF'))
    (at,) = struct.unpack_from('<I', content, 4)
    (count,) = struct.unpack_from('<H', content, at)
    tags = {'width': 256, 'height': 257, 'rows': 278}
    for k in range(count):
        place = at + 2 + 12 * k
        for name, value in changes.items():
            if struct.unpack_from('<H', content, place)[0] == tags[name]:
                struct.pack_into('<HII', content, place + 2, 4, 1, value)
    return bytes(content)


def tiled_tiff(side: int) -> bytes:
    """A TIFF of 64 x 48 pixels in one tile that is larger than it."""
    tags = {256: 64, 257: 48, 258: 8, 259: 1, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 100}
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items())
    return b'II*\0' + struct.pack('<I', 8) + struct.pack('<H', len(tags)) + entries + struct.pack('<I', 0)


def fifo(folder: pathlib.Path) -> pathlib.Path:
    """A pipe that nobody writes into."""
    os.mkfifo(folder / 'pipe.jpg')
    return folder / 'pipe.jpg'


def directory(folder: pathlib.Path) -> pathlib.Path:
    """A folder of a photo's name."""
    (folder / 'folder.jpg').mkdir()
    return folder / 'folder.jpg'


def sparse(folder: pathlib.Path) -> pathlib.Path:
    """A JPEG with gigabytes of nothing behind it."""
    path = file('sparse.jpg', picture('JPEG'))(folder)
    os.truncate(path, 3 << 30)
    return path


def link(target: str) -> Callable[[pathlib.Path], pathlib.Path]:
    """A link of a photo's name."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        (folder / 'link.jpg').symlink_to(target)
        return folder / 'link.jpg'

    return make


JPEG, WEBP = picture('JPEG'), picture('WEBP', lossless=True)
NOISE = np.random.default_rng(1).integers(0, 256, 3000, np.uint8).tobytes()
TOO_LARGE, DAMAGED = 'has more than 80 million pixels', 'cannot be read'
SIZES = struct.pack('>HH', LARGE, LARGE)
# name -> how it is made, what is said
BAD = {
    'bomb.png': (file('bomb.png', png(LARGE, LARGE)), TOO_LARGE),
    'just too large.png': (file('just too large.png', png(10_000, 8_001)), TOO_LARGE),
    'bomb.jpg': (file('bomb.jpg', patched('JPEG', b'\xff\xc0', SIZES, skip=5)), TOO_LARGE),
    'bomb of scans.jpg': (
        file('bomb of scans.jpg', patched('JPEG', b'\xff\xc2', SIZES, skip=5, progressive=True)),
        TOO_LARGE,
    ),
    'bomb.gif': (file('bomb.gif', patched('GIF', 6, b'\xff' * 4)), TOO_LARGE),
    'bomb.bmp': (file('bomb.bmp', patched('BMP', 18, struct.pack('<ii', LARGE, LARGE))), TOO_LARGE),
    'upside down.bmp': (
        file('upside down.bmp', patched('BMP', 18, struct.pack('<ii', LARGE, -LARGE))), TOO_LARGE
    ),
    'bomb.tif': (file('bomb.tif', tiff(width=LARGE, height=LARGE, rows=LARGE)), TOO_LARGE),
    'tile.tif': (file('tile.tif', tiled_tiff(32_768)), TOO_LARGE),
    'bomb.webp': (file('bomb.webp', patched('WEBP', 21, b'\xff' * 4, lossless=True)), TOO_LARGE),
    'cut.jpg': (file('cut.jpg', JPEG[:900]), DAMAGED),
    'cut.png': (file('cut.png', picture('PNG')[:-900]), DAMAGED),
    'cut.webp': (file('cut.webp', WEBP[: len(WEBP) // 2]), DAMAGED),
    'cut.gif': (file('cut.gif', picture('GIF')[:500]), DAMAGED),
    'cut.bmp': (file('cut.bmp', picture('BMP')[:500]), DAMAGED),
    'cut.tif': (file('cut.tif', picture('TIFF')[:500]), DAMAGED),
    'cut late.jpg': (file('cut late.jpg', JPEG[:-300]), DAMAGED),
    'head.jpg': (file('head.jpg', JPEG[:20]), DAMAGED),
    'flipped.png': (file('flipped.png', patched('PNG', b'IDAT', b'\xff\x00', skip=500)), DAMAGED),
    'no size.png': (file('no size.png', png(0, 0)), DAMAGED),
    'no size.jpg': (file('no size.jpg', patched('JPEG', b'\xff\xc0', b'\0' * 4, skip=5)), DAMAGED),
    'empty.jpg': (file('empty.jpg', b''), DAMAGED),
    'noise.jpg': (file('noise.jpg', NOISE), DAMAGED),
    'start.jpg': (file('start.jpg', b'\xff\xd8\xff\xe0' + NOISE), DAMAGED),
    'page.jpg': (file('page.jpg', '<html>404 Not Found</html>'), DAMAGED),
    'vector.png': (file('vector.png', '<svg xmlns="http://www.w3.org/2000/svg"/>'), DAMAGED),
    'raw.png': (file('raw.png', b'P6 60000 60000 255\n' + NOISE), DAMAGED),
    'pipe.jpg': (fifo, 'this is a pipe'),
    'folder.jpg': (directory, 'folder'),
    'sparse.jpg': (sparse, 'has 3221225472 bytes, a photo has at most'),
    'link.jpg to a device': (link('/dev/zero'), 'this is a device'),
    'link.jpg to nothing': (link('nothing'), 'there is no file'),
}  # fmt: skip
BUILT = (
    'bomb.png', 'bomb.jpg', 'bomb.gif', 'tile.tif', 'cut.jpg', 'cut.png', 'flipped.png', 'empty.jpg',
    'page.jpg', 'sparse.jpg',
)  # fmt: skip


def predicted(photo: pathlib.Path) -> None:
    """Runs the command of prediction, which looks at a photo before it loads a network."""
    predict.main([str(photo), '--checkpoint', NO_RUN])


def in_a_folder(
    make: Callable[[pathlib.Path], pathlib.Path], name: str
) -> Callable[[pathlib.Path], pathlib.Path]:
    """What makes own data with this photo and a good one."""

    def written(folder: pathlib.Path) -> pathlib.Path:
        (folder / 'photos').mkdir()
        photo = make(folder / 'photos')
        cv2.imwrite(str(folder / 'photos' / 'good.png'), np.zeros((48, 64, 3), np.uint8))
        points = [[20.0 + k, 10.0 + 2 * k, 2] for k in range(17)]
        entry = {'box': [5, 5, 50, 40], 'keypoints_2d': {'skeleton': 'coco17', 'points': points}}
        people = [entry | {'photo': one, 'photo_size': [64, 48]} for one in ('good.png', photo.name)]
        content = {'format': custom.FORMAT, 'photos_root': 'photos', 'people': people}
        (folder / 'people.json').write_text(json.dumps(content))
        return folder / 'people.json'

    return written


def built(path: pathlib.Path, *options: str) -> None:
    """Builds own data in this process."""
    out = path.parent / 'out'
    build_dataset.main(['custom', '--data-root', str(path), '--out', str(out), '--workers', '0', *options])


def entries() -> list[Entry]:
    """Returns all bad photos."""
    found = []
    for name, (make, says) in BAD.items():
        names = (name.split(' to ')[0], says)
        found.append(Entry(f'predicted photo/{name}', make, predicted, names))
        if name in BUILT:
            made = in_a_folder(make, name)
            found.append(Entry(f'built photo/{name}', made, built, names, lines=2))
    return found
