"""The predictor, on a tiny network with random parameters and on one that says the truth."""

import copy
import time

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from hybrik_jax import checkpoint
from hybrik_jax import predict as prediction
from hybrik_jax.body import smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.data import augment, store
from hybrik_jax.files import FileError
from hybrik_jax.photo import DEPTH_M, FOCAL_PX, Request, read_photo
from hybrik_jax.predict import BATCH_SIZES, Predictor
from hybrik_jax.view import people as pictures
from tests import small_run as small
from tools import predict as tool

BOXES = [[60, 10, 40, 100], [20, 30, 50, 60], [100, 5, 55, 110]]


def test_a_photo(predictor, photo_file):
    (person,) = predictor(photo_file, [[60, 10, 40, 100]])
    view = person.view
    assert view.focal.tolist() == [200, 200] and view.focal_assumed and view.centre.tolist() == [79.5, 59.5]
    assert view.root_depth_assumed and view.root_depth_m == pytest.approx(2 * 200 / (1.25 * 99))
    assert view.box.tolist() == [60, 10, 40, 100] and view.photo_size == (160, 120)
    assert prediction.SYNTHETIC_WARNING in person.warnings
    projected = project(person.posed_joints_m + person.translation_m, view.focal, view.centre)
    np.testing.assert_allclose(projected, person.projected_px, atol=0.01)
    assert person.vertices_m.shape == (len(predictor.body.v_template), 3)


def test_three_people_are_three_single_calls(predictor, photo_file):
    """Within 1e-5: batches of another size add up in another order."""
    photo = read_photo(photo_file)
    together = predictor(photo, BOXES)
    for one, box in zip(together, BOXES, strict=True):
        (alone,) = predictor(photo, [box])
        for name in (
            'posed_joints_m',
            'lifted_joints_m',
            'vertices_m',
            'rotations',
            'betas',
            'translation_m',
        ):
            np.testing.assert_allclose(getattr(one, name), getattr(alone, name), atol=1e-5, err_msg=name)


def test_photos_of_mixed_size_share_batches(small_run, capsys):
    """50 photos, each with none to four people: at most three compilations, and everybody as in a single
    call."""
    fresh = Predictor.load(small_run)
    rng = np.random.default_rng(0)
    requests = []
    for index in range(50):
        height, width = rng.integers(60, 300, 2)
        photo = rng.integers(0, 256, (height, width, 3), np.uint8)
        boxes = np.concatenate([rng.uniform(0, 20, (index % 5, 2)), rng.uniform(25, 60, (index % 5, 2))], 1)
        requests.append(Request(photo=photo, boxes=boxes.reshape(-1, 4)))
    for size in BATCH_SIZES:
        list(fresh.predict([Request(photo=requests[0].photo, boxes=[[0, 0, 30, 30]] * size)]))
    started = time.perf_counter()
    found = list(fresh.predict(requests))
    seconds = time.perf_counter() - started
    assert [len(people) for people in found] == [index % 5 for index in range(50)]
    assert fresh.compilations == len(BATCH_SIZES) <= 3
    with capsys.disabled():
        print(f'\n100 people in 50 photos: {100 / seconds:.0f} people/s, {fresh.compilations} compilations')
    alone = fresh(requests[9].photo, requests[9].boxes[2:3])[0]
    np.testing.assert_allclose(found[9][2].vertices_m, alone.vertices_m, atol=1e-5)


@pytest.mark.parametrize('count, sizes', [(1, [1]), (3, [4]), (5, [4, 1]), (17, [32]), (70, [32, 32, 4, 4])])
def test_batches_are_not_mostly_filling(predictor, monkeypatch, count, sizes):
    seen = []
    counted = copy.copy(predictor)

    def forward(variables, body, images, crop):
        seen.append(len(images))
        return images.reshape(len(images), -1)[:, :1]

    counted._forward = forward
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    out = counted.forward(images, np.zeros(count))
    np.testing.assert_array_equal(out[:, 0], np.arange(count))
    assert sum(seen) <= 2 * count and seen[: len(sizes)] == sizes


def test_an_error_stops_or_is_told(predictor, photo_file, tmp_path):
    requests = [Request(photo=photo_file), Request(photo=tmp_path / 'none.jpg'), Request(photo=photo_file)]
    with pytest.raises(FileNotFoundError, match='none.jpg is no file'):
        list(predictor.predict(requests))
    told = []
    found = list(predictor.predict(requests, on_error=lambda request, error: told.append((request, error))))
    assert [len(people) for people in found] == [1, 0, 1] and len(told) == 1
    assert told[0][0] is requests[1] and isinstance(told[0][1], FileNotFoundError)


def test_whole_photo_and_clipped_box_are_said(predictor, photo_file):
    (whole,) = predictor(photo_file)
    assert whole.view.box.tolist() == [0, 0, 160, 120]
    assert any('whole photo' in text for text in whole.warnings)
    (clipped,) = predictor(photo_file, [[-20, 30, 60, 200]])
    assert clipped.view.box.tolist() == [0, 30, 40, 90]
    assert any('0,30,40,90' in text for text in clipped.warnings)


def test_intrinsics_in_every_form(predictor, photo_file):
    forms = ([210, 220, 80, 61], np.array([[210, 0, 80], [0, 220, 61], [0, 0, 1.0]]), 210)
    found = [predictor(photo_file, BOXES[:1], intrinsics=form)[0].view for form in forms]
    assert not any(view.focal_assumed for view in found)
    assert [view.centre_assumed for view in found] == [False, False, True]
    assert found[0].focal.tolist() == found[1].focal.tolist() == [210, 220]
    assert found[0].centre.tolist() == found[1].centre.tolist() == [80, 61]
    with pytest.raises(ValueError, match='intrinsics have the shape'):
        predictor(photo_file, intrinsics=[1, 2])


def test_a_root_depth_for_each(predictor, photo_file):
    found = predictor(photo_file, BOXES, root_depth_m=[3.0, 4.0, 5.0])
    assert [one.view.root_depth_m for one in found] == [3, 4, 5]
    assert not any(one.view.root_depth_assumed for one in found)
    with pytest.raises(ValueError, match='one for each of 3 boxes'):
        predictor(photo_file, BOXES, root_depth_m=[3.0, 4.0])


def test_true_network_gives_the_labelled_body(predictor, data_root):
    """With labels in place of a network's word, the body is the labelled one, and sits on the person."""
    source = store.open_split(data_root / 'synthetic', 'test')
    for record in (source[0], source[1]):
        true = small.telling_the_truth(predictor, [record])
        ((person,),) = true.predict([tool.request_of_record(record)])
        np.testing.assert_allclose(person.posed_joints_m, record['joints_m'][:24], atol=2e-3)
        np.testing.assert_allclose(person.translation_m, record['root_m'], atol=5e-3)
        np.testing.assert_allclose(person.projected_px, record['joints_px'][:24, :2], atol=0.5)
        assert tool.truth_errors_mm(person, record)['mpjpe_24_mm'] < 2
        assert not person.view.focal_assumed and not person.view.root_depth_assumed


def test_overlay_sits_on_the_person_under_an_assumed_camera(predictor, data_root):
    record = store.open_split(data_root / 'synthetic', 'test')[0]
    photo = augment.decode_jpeg(record)
    x0, y0, x1, y1 = record['box']
    box = np.array([x0, y0, x1 - x0 + 1, y1 - y0 + 1])
    enlargement = float(record['box_enlargement'])
    true = small.telling_the_truth(predictor, [record])
    request = Request(photo=photo, boxes=[box], enlargement=enlargement, intrinsics=400.0)
    ((person,),) = true.predict([request])
    assert person.reprojection_px < 0.04 * max(box[2:])
    drawn = pictures.draw_overlay(photo, [person], predictor.body.faces)
    rows, columns = np.nonzero((drawn != photo).any(-1))
    found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
    np.testing.assert_allclose(found, [x0, y0, x1, y1], atol=0.12 * max(box[2:]))


@pytest.mark.parametrize('depth_m', [None, 4.0])
def test_translation_is_found_again(depth_m):
    rng = np.random.default_rng(0)
    joints = 0.4 * rng.normal(size=(24, 3))
    focal, centre, true = np.array([500.0, 520.0]), np.array([310.0, 200.0]), np.array([0.5, -0.3, 4.0])
    pixels = project(joints + true, focal, centre)
    found = prediction.fit_translation(joints, pixels, focal=focal, centre=centre, depth_m=depth_m)
    np.testing.assert_allclose(found, true, atol=1e-9)


def test_translation_is_the_best_in_pixels():
    """With noisy pixels no step away from the answer projects better."""
    rng = np.random.default_rng(1)
    joints = 0.4 * rng.normal(size=(24, 3)) + [0.3, -0.2, 3.0]
    camera = {'focal': np.array([500.0, 500.0]), 'centre': np.array([310.0, 200.0])}
    pixels = project(joints, **camera) + 3 * rng.normal(size=(24, 2))

    def error(translation):
        return ((project(joints - joints[:1] + translation, **camera) - pixels) ** 2).sum()

    found = prediction.fit_translation(joints - joints[:1], pixels, **camera)
    best = min(error(found + step) for step in 0.02 * np.concatenate([np.eye(3), -np.eye(3)]))
    assert error(found) < best


def test_parameters_are_chosen(small_run, predictor):
    """In one place: `TrainState`. This run's tail average has not begun."""
    assert predictor.parameters == 'ema'
    assert Predictor.load(small_run, parameters='raw').parameters == 'raw'
    with pytest.raises(ValueError, match='tail average has not begun at step 0'):
        Predictor.load(small_run, parameters='tail')
    with pytest.raises(ValueError, match="no parameters 'best': choose one of raw, tail, ema"):
        Predictor.load(small_run, parameters='best')
    state = checkpoint.load(small_run).state.replace(tail_count=jnp.asarray(2))
    assert state.averaged() == 'tail'


# ---- bad input


@pytest.mark.parametrize(
    ('boxes', 'message'),
    [
        ([[10, 10, 0, 50]], 'has no size'),
        ([[10, 10, 50, -3]], 'has no size'),
        ([[np.nan, 10, 20, 50]], 'not finite'),
        ([[10, 10, np.inf, 50]], 'not finite'),
        ([[500, 10, 20, 50]], 'no part in the photo of 160 x 120'),
        ([[-50, -50, 40, 40]], 'no part in the photo'),
        ([1, 2, 3, 4], 'must be a list of x, y, w, h'),
        ([[1, 2, 3]], 'must be a list of x, y, w, h'),
        ('everywhere', 'must be a list of x, y, w, h'),
    ],
)
def test_bad_boxes(predictor, photo_file, boxes, message):
    with pytest.raises(ValueError, match=message):
        predictor(photo_file, boxes)


@pytest.mark.parametrize('value', [0.0, -5.0, float('nan'), float('inf'), 1e-30, 1e7, 1e30, 10**400, 'far'])
def test_bad_camera(predictor, photo_file, value):
    with pytest.raises(
        ValueError, match='focal length .* must be 1 to 1e.06 pixels|intrinsics=.* must be numb'
    ):
        predictor(photo_file, intrinsics=value)
    with pytest.raises(
        ValueError, match='root depth .* must be 0.01 to 10000 metres|root_depth_m=.* must be'
    ):
        predictor(photo_file, root_depth_m=value)


@pytest.mark.parametrize('focal', FOCAL_PX)
@pytest.mark.parametrize('depth_m', [None, *DEPTH_M])
def test_the_limits_of_cameras_give_finite_people(predictor, photo_file, focal, depth_m):
    (person,) = predictor(photo_file, intrinsics=focal, root_depth_m=depth_m)
    for array in (person.translation_m, person.vertices_m, person.projected_px, person.axis_angles):
        assert np.isfinite(array).all()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_jpegs_are_turned_upright(tmp_path, orientation):
    picture = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / 'turned.jpg'
    Image.fromarray(picture).save(path, exif=exif, quality=95, subsampling=0)
    expected = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read_photo(path), expected)


def test_bad_photos(predictor, tmp_path):
    for photo in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)):
        with pytest.raises(ValueError, match='uint8 RGB'):
            predictor(photo)
    for path in ('/dev/zero', tmp_path, 'x' * 10_000, 'with\0zero', tmp_path / 'missing.jpg'):
        with pytest.raises((FileNotFoundError, FileError), match='is no file, a photo is one') as error:
            predictor(path)
        assert len(str(error.value)) < 400


def test_bad_parameters_of_a_network(predictor, photo_file):
    broken = copy.copy(predictor)
    broken.forward = lambda *inputs: jax.tree.map(lambda x: x * np.nan, predictor.forward(*inputs))
    with pytest.raises(ValueError, match='not finite: the ema parameters of step 0'):
        broken(photo_file)


def test_other_body_is_refused(small_run, tmp_path):
    with np.load(smpl_file.OPEN_BODY_FILE) as file:
        np.savez(tmp_path / 'other.npz', **{**file, 'model_name': 'another body'})
    with pytest.raises(ValueError, match='open_body'):
        Predictor.load(small_run, body=tmp_path / 'other.npz')
    with pytest.raises(FileNotFoundError, match='missing.npz does not exist'):
        Predictor.load(small_run, body=tmp_path / 'missing.npz')
