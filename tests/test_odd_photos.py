"""Photos of odd kinds: each is read as it should look, or one line says what is wrong.

Damaged and hostile files are in tests/corpus/photos.py.
"""

import json
import pathlib
import struct
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from hybrik_jax import image_file
from hybrik_jax.detect import Detector
from hybrik_jax.files import FileError
from hybrik_jax.photo import Request, frame, read_photo
from hybrik_jax.predict import Predictor
from hybrik_jax.view import people as pictures
from tools import predict, predict_files

WIDTH, HEIGHT = 160, 120
PICTURE = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8),
    (WIDTH, HEIGHT),
    interpolation=cv2.INTER_CUBIC,
)
BOX = [[40, 20, 60, 90]]


@pytest.fixture
def saved(tmp_path):
    """Writes a picture as a file of Pillow's, and returns its path."""

    def save(name: str, picture=PICTURE, mode: str | None = None, **options) -> pathlib.Path:
        image = Image.fromarray(picture)
        path = tmp_path / name
        (image.convert(mode) if mode else image).save(path, **options)
        return path

    return save


@pytest.fixture
def tool(predictor, monkeypatch, tmp_path):
    """The command line on one photo, with the network that is loaded already; returns prediction.json."""
    monkeypatch.setattr(Predictor, 'load', lambda *unused, **options: predictor)
    monkeypatch.setattr(predict_files, 'SIDE_PICTURE', 48)  # which takes most of the time

    def run(photo: pathlib.Path, *options: str) -> dict:
        predict.run([str(photo), *options, '--checkpoint', 'run', '--out', str(tmp_path / 'out')])
        return json.loads((tmp_path / 'out' / 'prediction.json').read_text())

    return run


def off(path: pathlib.Path, expected: np.ndarray = PICTURE) -> float:
    """The largest difference of a photo that is read to what it should look like, levels of 256."""
    photo = read_photo(path)
    assert photo.dtype == np.uint8 and photo.shape == expected.shape and photo.flags.c_contiguous
    return float(np.abs(photo.astype(int) - expected).max())


# ---- formats


@pytest.mark.parametrize(
    ('name', 'options', 'most'),
    [
        ('a.jpg', {'quality': 100, 'subsampling': 0}, 4),
        ('a.jfif', {'format': 'JPEG', 'quality': 100, 'subsampling': 0}, 4),
        ('a.jpeg', {'quality': 100, 'subsampling': 0, 'progressive': True}, 4),
        ('a.png', {}, 0),
        ('a.bmp', {}, 0),
        ('a.tif', {}, 0),
        ('a.tiff', {'compression': 'tiff_lzw'}, 0),
        ('a.webp', {'lossless': True}, 0),
        ('a.avif', {'quality': 100, 'subsampling': '4:4:4'}, 4),
    ],
)
def test_formats(saved, name, options, most):
    path = saved(name, **options)
    assert path.suffix in predict.SUFFIXES
    assert off(path) <= most and not image_file.holds_several(path)


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif', 'a.webp'])
def test_grayscale(saved, name):
    options = {'lossless': True} if name == 'a.webp' else {'quality': 100} if name == 'a.jpg' else {}
    path = saved(name, PICTURE[..., 1], 'RGB' if name == 'a.webp' else 'L', **options)
    assert off(path, np.repeat(PICTURE[..., 1:2], 3, axis=2)) <= 2


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
@pytest.mark.parametrize('channels', [1, 3])
def test_16_bits_become_8(tmp_path, suffix, channels):
    path = tmp_path / f'a{suffix}'
    noise = np.random.default_rng(1).integers(0, 256, PICTURE.shape, np.uint16)
    wide = PICTURE[..., :channels].astype(np.uint16) * 256 + noise[..., :channels]
    assert cv2.imwrite(str(path), wide[..., ::-1])
    assert off(path, np.broadcast_to(PICTURE[..., :channels], PICTURE.shape)) <= 1  # TIFF's are rounded


@pytest.mark.parametrize('name', ['a.jpg', 'a.tif'])
def test_cmyk(saved, name):
    path = saved(name, mode='CMYK', **({'quality': 100, 'subsampling': 0} if name == 'a.jpg' else {}))
    assert Image.open(path).mode == 'CMYK' and off(path) <= 6


def test_one_bit(saved):
    black = PICTURE[..., 0] > 128
    assert off(saved('a.png', black), np.repeat(black[..., None] * 255, 3, axis=2)) == 0


# ---- transparency


HALF = np.full((HEIGHT, WIDTH), 255, np.uint8)
HALF[:40], HALF[40:60] = 0, 128
ON_WHITE = np.rint(255 - (255.0 - PICTURE) * HALF[..., None] / 255)


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.webp', 'a.avif'])
def test_transparent_pixels_are_white(saved, name):
    """Whatever colours lie below; half transparent ones are mixed."""
    options = {
        'a.webp': {'lossless': True, 'exact': True},
        'a.avif': {'quality': 100, 'subsampling': '4:4:4'},
    }
    path = saved(name, np.dstack([PICTURE, HALF]), **options.get(name, {}))
    assert off(path, ON_WHITE) <= (4 if name == 'a.avif' else 1)
    assert (read_photo(path)[:40] == 255).all()


def test_transparency_of_other_kinds(saved, tmp_path):
    gray = saved('gray.png', np.dstack([PICTURE[..., 0], HALF]), 'LA')
    assert off(gray, np.repeat(ON_WHITE[..., :1], 3, axis=2)) <= 1
    wide = np.dstack([PICTURE[..., ::-1], HALF]).astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / 'wide.png'), wide) and off(tmp_path / 'wide.png', ON_WHITE) <= 1
    few = Image.fromarray(PICTURE).quantize(16)
    clear = np.array(few) == 3
    expected = np.where(clear[..., None], 255, np.array(few.convert('RGB')))
    for name in ('palette.png', 'palette.gif'):
        few.save(tmp_path / name, transparency=3)
        assert clear.any() and off(tmp_path / name, expected) == 0, name


# ---- turned by EXIF


TURNED = ('a.jpg', 'a.png', 'a.webp', 'a.tif', 'a.avif', 'a.mpo')


def with_orientation(path: pathlib.Path, picture: np.ndarray, orientation: int) -> pathlib.Path:
    """A file with this orientation; .mpo is a JPEG with a second, smaller picture, as phones write it."""
    exif, image = Image.Exif(), Image.fromarray(picture)
    exif[0x0112] = orientation
    options = {
        '.webp': {'lossless': True, 'exact': True},
        '.jpg': {'quality': 100, 'subsampling': 0},
        '.avif': {'quality': 100, 'subsampling': '4:4:4'},
        '.mpo': {
            'quality': 100,
            'subsampling': 0,
            'save_all': True,
            'append_images': [image.resize((20, 15))],
        },
    }
    image.save(path, exif=exif, **options.get(path.suffix, {}))
    return path.rename(path.with_suffix('.jpg')) if path.suffix == '.mpo' else path


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF's table says, written out for its eight numbers."""
    turns = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: np.rot90,
    }
    return turns[orientation](picture)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('name', TURNED)
def test_photos_are_turned_upright_in_every_format(tmp_path, name, orientation):
    path = with_orientation(tmp_path / name, PICTURE, orientation)
    assert off(path, upright(PICTURE, orientation)) <= 4


def test_transparent_photos_are_turned_upright(tmp_path):
    for name in ('a.png', 'a.webp', 'a.tif'):
        path = with_orientation(tmp_path / name, np.dstack([PICTURE, HALF]), 6)
        assert off(path, upright(ON_WHITE, 6)) <= 1, name


@pytest.mark.parametrize('orientation', range(1, 9))
def test_boxes_are_in_the_turned_photo(tool, tmp_path, orientation):
    """The command predicts the same of a photo however it is stored; the box is one in the upright photo."""
    stored = {k: upright(PICTURE, {6: 8, 8: 6}.get(k, k)) for k in range(1, 9)}[orientation]
    path = with_orientation(tmp_path / 'a.png', stored, orientation)
    content = tool(path, '--box', '40,20,60,90', '--format', 'json')
    assert content['photo_size'] == [WIDTH, HEIGHT]
    (person,) = content['people']
    assert person['box'] == BOX[0]
    crop = cv2.cvtColor(cv2.imread(str(tmp_path / 'out' / 'photo.jpg')), cv2.COLOR_BGR2RGB)
    assert np.abs(crop.astype(int) - PICTURE).max() < 30 and np.abs(crop.astype(int) - PICTURE).mean() < 3
    (straight,) = frame(Request(photo=PICTURE, boxes=BOX), 64)
    (turned,) = frame(Request(photo=path, boxes=BOX), 64)
    np.testing.assert_array_equal(turned.image, straight.image)


# ---- several pictures in a file


@pytest.mark.parametrize('name', ['a.gif', 'a.webp', 'a.png', 'a.tif', 'a.avif'])
def test_the_first_of_several_pictures_is_used_and_that_is_said(tool, tmp_path, capsys, name):
    images = [Image.fromarray(np.roll(PICTURE, 30 * k, axis=1)) for k in range(3)]
    images = [image.quantize(64) for image in images] if name == 'a.gif' else images
    options = {'.webp': {'lossless': True}, '.avif': {'quality': 100, 'subsampling': '4:4:4'}}
    path = tmp_path / name
    images[0].save(path, save_all=True, append_images=images[1:], **options.get(path.suffix, {}))
    assert off(path, np.array(images[0].convert('RGB'))) <= 4
    content = tool(path, '--whole-photo', '--format', 'json')
    assert content['warnings'] == [predict_files.SEVERAL]
    assert predict_files.SEVERAL in capsys.readouterr().out


def test_the_second_picture_of_a_phone_is_its_own_business(tmp_path):
    path = with_orientation(tmp_path / 'a.mpo', PICTURE, 1)
    assert Image.open(path).n_frames == 2 and not image_file.holds_several(path)


# ---- sizes


def test_one_pixel(tool, predictor, tmp_path, capsys):
    """Nobody is found in it, and as a whole it is too small for a person: both are said."""
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(ValueError, match='The box 0,0,1,1 has no part .* more than a pixel wide and high'):
        tool(path, '--whole-photo')
    with pytest.raises(ValueError, match='has no part'):
        tool(path, '--box', '0,0,1,1')
    predictor.detector = Detector.load()
    try:
        with pytest.raises(SystemExit) as stop:
            tool(path)
    finally:
        predictor.detector = None
    assert stop.value.code == 1 and 'nobody was found in' in capsys.readouterr().err


@pytest.mark.parametrize('height, width', [(600, 12_000), (12_000, 600), (4, 40_000)])
def test_large_photos_in_bounded_time_and_memory(tool, tmp_path, height, width):
    """The crop is the right place of the photo; the overlay is of `LARGEST_PICTURE`; photo.jpg is whole."""
    photo = np.full((height, width, 3), 60, np.uint8)
    x, y = (width - 300, 1) if width > height else (1, height - 300)
    w, h = (200, min(height - 2, 500)) if width > height else (500, 200)
    photo[y : y + h, x : x + w] = (250, 20, 20)
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), photo[..., ::-1])
    started = time.process_time()
    tracemalloc.start()
    content = tool(path, '--box', f'{x},{y},{w},{h}', '--format', 'json')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content['people'][0]['box'] == [x, y, w, h] and content['photo_size'] == [width, height]
    overlay = cv2.imread(str(tmp_path / 'out' / 'overlay.png'))
    assert max(overlay.shape[:2]) == pictures.LARGEST_PICTURE
    assert cv2.imread(str(tmp_path / 'out' / 'photo.jpg')).shape == photo.shape
    crop = cv2.imread(str(tmp_path / 'out' / 'crop.png'))[..., ::-1]
    assert (np.abs(crop.astype(int) - (250, 20, 20)).max(-1) < 40).mean() > 0.005
    assert time.process_time() - started < 20 and peak < 400e6


def test_more_than_80_million_pixels_are_refused_by_the_header(tool, saved):
    with pytest.raises(FileError, match='has more than 80 million pixels, the most that are read'):
        tool(saved('a.gif', np.zeros((9_000, 9_000), np.uint8)))


# ---- what is no photo


HEIC = struct.pack('>I', 24) + b'ftyp%b\0\0\0\0mif1heic' + bytes(200)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.heic', HEIC % b'heic', 'it is HEIC, which is not read. Convert it, .* heif-convert'),
        ('a.jpg', HEIC % b'mif1', 'it is HEIC'),  # as some phones send them
        ('a.mp4', HEIC % b'isom', 'it is no image .JPEG, PNG, .* or is damaged'),
        ('empty.jpg', b'', 'it is no image'),
        ('text.jpg', b'Dear diary', 'it is no image'),
    ],
)
def test_what_is_no_photo(tool, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=f'{name} cannot be read: {message}'):
        tool(tmp_path / name)


def test_a_jpeg_that_is_cut_off(tool, saved, tmp_path):
    path = saved('a.jpg', quality=95)
    (tmp_path / 'cut.jpg').write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileError, match='cut.jpg cannot be read: it is damaged'):
        tool(tmp_path / 'cut.jpg')


def test_a_folder_of_a_photos_name(tool, tmp_path):
    (tmp_path / 'x.jpg').mkdir()
    with pytest.raises(FileNotFoundError, match='The folder .*x.jpg holds no photo .\\.jpg, '):
        tool(tmp_path / 'x.jpg')


# ---- people and boxes


def test_thirty_people(tool, tmp_path):
    """In two batches; everybody has files of their own, and the overlay shows a mesh where each box is."""
    photo = np.full((500, 1200, 3), 128, np.uint8)
    places = [(120 * (k % 10) + 10, 165 * (k // 10) + 5) for k in range(30)]
    for x, y in places:
        cv2.ellipse(photo, (x + 50, y + 75), (25, 70), 0, 0, 360, (200, 60, 40), -1)
    path = tmp_path / 'crowd.png'
    cv2.imwrite(str(path), photo)
    boxes = [part for x, y in places for part in ('--box', f'{x},{y},100,150')]
    content = tool(path, *boxes, '--format', 'json')
    assert [tuple(person['box'][:2]) for person in content['people']] == places
    names = {file.name for file in (tmp_path / 'out').iterdir()}
    assert {f'{kind}_{k}.png' for kind in ('side', 'crop') for k in range(30)} <= names


@pytest.mark.parametrize(
    ('box', 'message'),
    [
        ('500,10,20,50', 'The box 500,10,20,50 has no part in the photo of 160 x 120'),
        ('-50,-50,40,40', 'has no part'),
        ('nan,10,20,50', 'The box nan,10,20,50 has numbers that are not finite'),
        ('10,10,inf,50', 'not finite'),
        ('10,10,0,50', 'The box 10,10,0,50 has no size'),
        ('10,10,20,-5', 'has no size'),
    ],
)
def test_boxes_that_cannot_be(tool, saved, tmp_path, box, message):
    with pytest.raises(ValueError, match=message):
        tool(saved('a.png'), f'--box={box}')
    assert not (tmp_path / 'out').exists()


def test_a_box_that_leaves_the_photo_is_clipped_and_that_is_said(tool, saved, capsys):
    (person,) = tool(saved('a.png'), '--box=-40,30,100,200', '--format', 'json')['people']
    assert person['box'] == [0, 30, 60, 90]
    assert any('leaves the photo and was clipped to 0,30,60,90' in text for text in person['warnings'])
    assert 'clipped to 0,30,60,90' in capsys.readouterr().out
