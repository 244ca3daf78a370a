"""Where people are: the detector that comes with the package, and other detectors plugged in."""

import copy
import hashlib
import json
import shutil
import struct

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from hybrik_jax import detect
from hybrik_jax.boxes import overlap
from hybrik_jax.detect import Detector
from hybrik_jax.model import detector as network
from hybrik_jax.model.depthwise import depthwise
from hybrik_jax.photo import read_photo
from tools import build_detector, measure_detector, predict

PHOTO = build_detector.PHOTO
HAND_MADE = measure_detector.PHOTOGRAPHER_BOX


@pytest.fixture(scope='module')
def detector():
    return Detector.load()


@pytest.fixture(scope='module')
def photographer():
    return read_photo(PHOTO)


# ---- the network


def test_the_network_agrees_with_litert(golden, detector, photographer):
    """Recorded of the original file, see `tools.build_detector --record`; the logits are 2e-5 apart, too."""
    images = photographer[build_detector.PHOTO_PART][None]
    corners, scores = detector._forward(images)
    with np.load(golden / 'litert' / 'detector.npz') as recorded:
        wanted = np.asarray(detect.decode(jnp.asarray(recorded['encoded'])))
        np.testing.assert_allclose(corners[0], wanted, atol=1e-4)  # of the image's side
        np.testing.assert_allclose(scores[0], 1 / (1 + np.exp(-recorded['logits'])), atol=1e-5)
        assert recorded['logits'].max() > 0  # somebody is in it


def test_the_asset_is_what_its_licence_says():
    digest = hashlib.sha256(detect.WEIGHTS_FILE.read_bytes()).hexdigest()
    assert digest in detect.WEIGHTS_FILE.with_name('LICENSE-detector.md').read_text()
    with np.load(detect.WEIGHTS_FILE) as file:
        assert str(file['license']) == 'Apache-2.0' and build_detector.PACKAGE in str(file['source'])
    names = {f'{layer.name}/{part}' for layer in network.layers() for part in ('kernel', 'bias')}
    assert detect.load_weights().keys() == names


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [7, 8])
def test_depthwise_convolution(stride, size):
    """Nine shifted products are the sums that a loop over pixels gives, with zeros around the image."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, size, size, 4)), rng.normal(size=(3, 3, 4))
    found = np.asarray(depthwise(jnp.asarray(x), jnp.asarray(kernel), stride=stride))
    out = -(-size // stride)
    before = max(stride * (out - 1) + 3 - size, 0) // 2
    padded = np.pad(x, ((0, 0), (before, 3), (before, 3), (0, 0)))
    wanted = np.zeros((2, out, out, 4))
    for row in range(out):
        for column in range(out):
            patch = padded[:, stride * row : stride * row + 3, stride * column : stride * column + 3]
            wanted[:, row, column] = (patch * kernel).sum((1, 2))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# ---- boxes


def test_anchors_tile_the_image():
    anchors = detect.anchors()
    assert anchors.shape == (network.NUM_BOXES, 4) == (1917, 4)
    start = 0
    for side, count in zip(network.MAP_SIZES, network.BOXES_PER_CELL, strict=True):
        of_map = anchors[start : start + side * side * count].reshape(side, side, count, 4)
        start += side * side * count
        np.testing.assert_allclose(of_map[..., 0].mean(), 0.5, atol=1e-6)
        np.testing.assert_allclose(np.diff(of_map[0, :, 0, 0]), 1 / side, atol=1e-6)  # x along a row
        np.testing.assert_allclose(np.diff(of_map[:, 0, 0, 1]), 1 / side, atol=1e-6)
        assert np.ptp(of_map[..., 2:].reshape(-1, count * 2), axis=0).max() == 0
    areas = np.sqrt(anchors[:, 2] * anchors[:, 3])
    assert areas.min() == pytest.approx(0.1) and areas[-6:-1] == pytest.approx(0.95)


def test_decoding():
    """Nothing said gives the anchors; a centre moves by a tenth, log sizes count a fifth."""
    anchor = detect.anchors()[1000]
    said = np.zeros((1917, 4), np.float32)
    x, y, w, h = anchor
    np.testing.assert_allclose(
        detect.decode(said)[1000], [x - w / 2, y - h / 2, x + w / 2, y + h / 2], atol=1e-6
    )
    said[1000] = 10, -20, 5 * np.log(2), 5 * np.log(3)  # dy dx dh dw
    x, y, w, h = x - 2 * w, y + h, 3 * w, 2 * h
    np.testing.assert_allclose(
        detect.decode(said)[1000], [x - w / 2, y - h / 2, x + w / 2, y + h / 2], atol=1e-5
    )


def test_suppression():
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 60, (200, 2))
    corners = np.concatenate([low, low + rng.uniform(20, 40, (200, 2))], 1)
    scores = rng.uniform(size=200)
    kept = detect.suppress(corners, scores)
    assert 1 < len(kept) < 200 and (np.diff(scores[kept]) <= 0).all() and scores[kept[0]] == scores.max()
    among = overlap(corners[kept][:, None], corners[kept][None])
    assert (among[~np.eye(len(kept), dtype=bool)] <= detect.SAME_PERSON).all()
    for one in set(range(200)) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[one]]
        assert (overlap(corners[one], corners[better]) > detect.SAME_PERSON).any()
    assert detect.suppress(np.zeros((0, 4)), np.zeros(0)).shape == (0,)
    np.testing.assert_array_equal(corners[kept], corners[kept][detect.suppress(corners[kept], scores[kept])])


# ---- photos


@pytest.mark.parametrize('tiles', [1, 2])
def test_the_photographer_is_found(photographer, tiles):
    boxes, scores = Detector.load(tiles=tiles)(photographer)
    found, true = measure_detector.as_corners(np.stack([boxes[0], HAND_MADE]))
    assert overlap(found, true) > 0.8 and scores[0] > 0.4
    assert len(boxes) == 1


def test_where_the_person_is_in_a_photo(detector, photographer):
    """With a border on the left and above, the box moves with the person; on half the pixels, it halves."""
    (box,), _ = detector(photographer)
    border = cv2.copyMakeBorder(photographer, 80, 0, 120, 0, cv2.BORDER_REFLECT_101)
    (moved, *_), _ = detector(border)
    shifted = [*(box[:2] + [120, 80]), *box[2:]]
    assert overlap(*measure_detector.as_corners(np.array([moved, shifted]))) > 0.7
    (small_box,), _ = detector(np.ascontiguousarray(photographer[::2, ::2]))
    assert overlap(*measure_detector.as_corners(np.array([2 * small_box, box]))) > 0.85


def test_small_people_need_tiles(detector, photographer):
    """A photo of 1280 pixels whose person is a tenth of it."""
    photo = np.full((1280, 1280, 3), 190, np.uint8)
    photo[900:1028, 200:328] = cv2.resize(photographer, (128, 128), interpolation=cv2.INTER_AREA)
    true = np.array([200 + 0, 900 + 62 / 4, 332 / 4, 450 / 4])
    assert len(detector(photo)[0]) == 0
    boxes, _ = Detector.load(tiles=4)(photo)
    best = max(overlap(*measure_detector.as_corners(np.array([box, true]))) for box in boxes)
    assert best > 0.5


@pytest.mark.parametrize('shape', [(300, 300), (1, 1), (40, 3000)])
@pytest.mark.parametrize('colour', [0, 128, 255])
def test_nobody_is_in_an_empty_photo(detector, shape, colour):
    boxes, scores = detector(np.full((*shape, 3), colour, np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,)


def test_tiles_cover_the_photo_and_overlap():
    for height, width in ((100, 150), (301, 77)):
        places = list(detect._places(height, width, 3))
        assert len(places) == 10 and places[0] == (0, 0, width, height)
        covered = np.zeros((height, width), int)
        for x0, y0, x1, y1 in places[1:]:
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
            covered[y0:y1, x0:x1] += 1
        assert covered.min() >= 1 and covered[height // 2, width // 2] >= 4


def test_who_is_cut_off_by_a_tile_is_left_to_others():
    photo = np.zeros((100, 200, 3), np.uint8)
    corners = np.array([[0.0, 0.2, 0.4, 0.8], [0.3, 0.2, 0.7, 1.0], [0.6, 0.2, 1.0, 0.8]])
    kept, _ = detect._in_photo(photo, (0, 0, 100, 100), corners, np.ones(3), 0.3)
    np.testing.assert_allclose(kept, [[0, 20, 40, 80], [30, 20, 70, 100]])  # at edges of the photo they stay
    kept, scores = detect._in_photo(photo, (100, 0, 200, 100), corners, np.array([1, 0.9, 0.2]), 0.3)
    np.testing.assert_allclose(kept, [[130, 20, 170, 100]])
    assert scores.tolist() == [0.9]


def test_bad_input(detector):
    for photo in (
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9, 3)),
        'photo.jpg',
    ):
        with pytest.raises(ValueError, match=r'give \(height, width, 3\) uint8 RGB'):
            detector(photo)
    with pytest.raises(ValueError, match='has no pixels'):
        detector(np.zeros((0, 9, 3), np.uint8))
    for options in (
        {'score': 0},
        {'score': 1.1},
        {'score': np.nan},
        {'tiles': 0},
        {'tiles': 99},
        {'tiles': 1.5},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            Detector({}, **options)


# ---- plug-ins


def with_detector(predictor, detector):
    other = copy.copy(predictor)
    other.detector = detector
    return other


def test_a_plugged_in_detector(predictor, photo_file):
    seen = []

    def detector(photo):
        seen.append(photo)
        return [[60, 10, 40, 100], [10, 10, 30, 60]], [0.9, 0.5]

    plugged = with_detector(predictor, detector)
    first, second = plugged(photo_file)
    assert [first.view.box.tolist(), second.view.box.tolist()] == detector(None)[0]
    assert (first.view.box_score, second.view.box_score) == (0.9, 0.5)
    np.testing.assert_array_equal(seen[0], read_photo(photo_file))
    (given,) = plugged(photo_file, boxes=[[60, 10, 40, 100]])  # where boxes are given it is not asked
    assert len(seen) == 2 and given.view.box_score is None
    np.testing.assert_allclose(given.posed_joints_m, first.posed_joints_m, atol=1e-5)


def test_a_detector_that_finds_nobody(predictor, photo_file):
    assert with_detector(predictor, lambda photo: ([], []))(photo_file) == []
    assert predictor(photo_file, boxes=[]) == []  # as a file of boxes says it
    (whole,) = with_detector(predictor, None)(photo_file)
    assert whole.view.box.tolist() == [0, 0, 160, 120]


@pytest.mark.parametrize(
    'returned',
    [
        None,
        [[1, 2, 3, 4]],
        ([[1, 2, 3]], [0.5]),
        ([[1, 2, 3, 4]], [0.5, 0.6]),
        ([[1, 2, 3, 4]], [np.nan]),
        ('a', 'b'),
    ],
)
def test_a_detector_that_returns_something_else(predictor, photo_file, returned):
    with pytest.raises(ValueError, match='[Tt]he detector'):
        with_detector(predictor, lambda photo: returned)(photo_file)


# ---- the command


def test_the_command_looks_for_people(small_run, tmp_path, capsys):
    """The photographer is found; a photo of nobody is named, and no reason to fail; a broken one is."""
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    shutil.copy(PHOTO, photos)
    cv2.imwrite(str(photos / 'wall.png'), np.full((60, 80, 3), 128, np.uint8))
    command = [str(photos), '--checkpoint', str(small_run), '--out', str(out), '--formats', 'json']
    predict.run(command)
    assert sorted(path.name for path in (out / 'wall.png').iterdir()) == ['photo.jpg', 'prediction.json']
    assert json.loads((out / 'wall.png' / 'prediction.json').read_text())['people'] == []
    (person,) = json.loads((out / PHOTO.name / 'prediction.json').read_text())['people']
    assert overlap(*measure_detector.as_corners(np.array([person['box'], HAND_MADE]))) > 0.8
    assert person['box_score'] > 0.3
    said = capsys.readouterr()
    assert said.err.count('\n') == 1 and 'nobody was found in' in said.err and 'wall.png' in said.err

    with pytest.raises(SystemExit):  # nobody at all
        predict.run([str(photos), '--checkpoint', str(small_run), '--out', str(out), '--score', '1'])
    assert PHOTO.name in capsys.readouterr().err
    assert not list(out.glob('*/overlay.png'))  # of whom was found before
    with pytest.raises(ValueError, match='leave --whole-photo away'):
        predict.run([str(PHOTO), '--box=1,1,9,9', '--whole-photo', '--checkpoint', str(small_run)])


# ---- the tools


def test_another_file_is_no_detector(tmp_path):
    path = tmp_path / 'other.tflite'
    for content in (b'', b'\0\0\0\0TFL3' + bytes(100), b'no model'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match='other.tflite does not hold the detector of @mediapipe'):
            build_detector.read_model(path)
    with pytest.raises(FileNotFoundError):
        build_detector.read_model(tmp_path / 'none.tgz')


def test_counting_of_who_is_found():
    boxes = np.array([[0, 0, 10, 20], [30, 0, 40, 20], [60, 0, 70, 20]], float)
    scene = measure_detector.Scene(np.zeros((1, 1, 3), np.uint8), boxes, np.array([1, 1, 0.2]))
    assert measure_detector.count_found(boxes, scene) == (2, 0, 0)  # the hidden one is no mistake
    twice = boxes[[0, 0]] + [[0, 0, 1, 0]]
    assert measure_detector.count_found(twice, scene) == (1, 1, 1)
    assert measure_detector.count_found(np.zeros((0, 4)), scene) == (0, 2, 0)


def test_reading_a_flatbuffer():
    """A table whose field 0 is a number, field 1 is left out, field 2 is a list and field 3 is a table."""
    fields = struct.pack('<6H', 12, 16, 4, 0, 8, 12)  # their own size, the table's, then offsets in the table
    table = struct.pack('<iiII', 12, -7, 8, 28)  # back to the fields; -7; the list and the table, from there
    numbers = struct.pack('<I3i', 3, 5, 6, -8)
    inner = struct.pack('<4HiH', 6, 6, 4, 0, 8, 300)
    data = struct.pack('<I', 16) + fields + table + numbers + inner
    root = build_detector.Table(data, struct.unpack_from('<I', data)[0])
    assert root.number(0, 'i') == -7 and root.number(1, 'i') == 0 and root.number(9, 'i') == 0
    assert root.array(2, '<i4').tolist() == [5, 6, -8] and root.array(1, '<i4').tolist() == []
    assert root.table(3).number(0, 'H') == 300 and root.tables(1) == []
    with pytest.raises(KeyError):
        root.table(1)
