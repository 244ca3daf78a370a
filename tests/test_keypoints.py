"""2D keypoints on photos: what a figure is, and the command that tells it."""

import json

import numpy as np
import pytest

from configs import rootnet_synthetic
from hybrik_jax import config as configuration
from hybrik_jax import evaluate, evaluate_2d
from hybrik_jax.body import landmarks
from hybrik_jax.body.skeleton import JOINT_NAMES
from hybrik_jax.evaluate_2d import NAMES
from hybrik_jax.scoring import keypoints, table
from tests import small_run as small
from tests.miniature import street
from tools import score_keypoints

LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = (
    NAMES.index(name) for name in ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
)


def standing(people: int = 1) -> np.ndarray:
    """Returns keypoints (N, 17, 2) whose torso is 100 px long (60 across, 80 down)."""
    points = np.random.default_rng(0).uniform(0, 300, (people, len(NAMES), 2))
    points[:, LEFT_SHOULDER], points[:, RIGHT_HIP] = [100, 100], [160, 180]
    points[:, RIGHT_SHOULDER], points[:, LEFT_HIP] = [140, 100], [110, 170]
    return points


def test_the_torso_is_its_longer_diagonal_that_is_labelled():
    points, labelled = standing(3), np.ones((3, len(NAMES)), bool)
    labelled[1, LEFT_SHOULDER] = False
    labelled[2, [LEFT_SHOULDER, LEFT_HIP]] = False
    torsos = keypoints.torso_px(points, labelled, NAMES)
    np.testing.assert_allclose(torsos, [100, np.hypot(30, 70), np.nan])


def test_a_keypoint_is_right_below_a_fifth_of_the_torso():
    true, labelled = standing(), np.ones((1, len(NAMES)), bool)
    labelled[0, 16] = False  # seventeen of them, one is not visible
    predicted = true + 0
    predicted[0, 0] += [19.9, 0]
    predicted[0, 1] += [0, 20.0]  # as far as the threshold: wrong
    predicted[0, 2] += [30.0, 40.0]
    predicted[0, 16] += 1000
    errors = keypoints.relative_errors(predicted, true, labelled, np.array([100.0]))
    assert np.isnan(errors[0, 16])
    torsos = np.array([200.0])
    figures = keypoints.score(errors, torsos)
    assert figures == {
        'keypoints': 16,
        'pck': pytest.approx(100 * 14 / 16),
        'error': pytest.approx((19.9 + 20 + 50) / 16),
        'error_px': pytest.approx(2 * (19.9 + 20 + 50) / 16),
    }
    assert keypoints.score(errors[:, 16:], torsos) == {'keypoints': 0}
    parts = keypoints.by_part(errors, torsos, NAMES)
    assert parts['all'] == figures and (parts['eye']['keypoints'], parts['ankle']['keypoints']) == (2, 1)
    assert parts['nose']['error_px'] == pytest.approx(2 * 19.9)


def test_who_has_no_torso_has_no_errors():
    true, labelled = standing(2), np.ones((2, len(NAMES)), bool)
    errors = keypoints.relative_errors(true, true, labelled, np.array([np.nan, 100.0]))
    assert np.isnan(errors[0]).all() and (errors[1] == 0).all()


def test_wrong_input_of_the_measure_is_named():
    true, labelled = standing(), np.ones((1, len(NAMES)), bool)
    with pytest.raises(ValueError, match=r'\(1, 16\)'):
        keypoints.relative_errors(true, true, labelled[:, 1:], np.ones(1))
    with pytest.raises(ValueError, match='not finite'):
        keypoints.relative_errors(true * np.nan, true, labelled, np.ones(1))


def test_landmarks_are_read_off_a_posed_body():
    joints, vertices = np.arange(72.0).reshape(24, 3), 1000.0 + np.arange(3 * 6890).reshape(6890, 3)
    coco = landmarks.of_posed('coco', joints, vertices)
    assert coco.shape == (17, 3)
    np.testing.assert_allclose(coco[LEFT_HIP], joints[JOINT_NAMES.index('left_hip')])
    np.testing.assert_allclose(coco[NAMES.index('nose')], vertices[332], rtol=1e-6)
    with pytest.raises(ValueError, match='regressed'):
        landmarks.of_posed('h36m', joints, vertices)
    with pytest.raises(ValueError, match='6890 vertices, not of 10475'):
        landmarks.of_posed('coco', joints, np.zeros((10475, 3)))


@pytest.fixture
def labelled_photo(predictor, tmp_path) -> dict:
    """A photo, and an annotation file that says of it what the network of the small run does."""
    (tmp_path / 'photos' / 'inner').mkdir(parents=True)
    photo = small.write_photo(tmp_path / 'photos' / 'inner' / 'one.jpg')
    box = [60, 10, 40, 100]
    (person,) = predictor(photo, boxes=[box])
    points = evaluate_2d.keypoints_px(person)
    marked = np.concatenate([points, np.full((17, 1), 2.0)], axis=1)
    annotation = {'id': 1, 'image_id': 7, 'category_id': 1, 'bbox': box, 'keypoints': marked.ravel().tolist()}
    content = {'images': [{'id': 7, 'file_name': 'inner/one.jpg'}], 'annotations': [annotation]}
    return {'photos': tmp_path / 'photos', 'content': content, 'points': points, 'file': tmp_path / 'a.json'}


def scored(labelled_photo, small_run, out) -> dict:
    labelled_photo['file'].write_text(json.dumps(labelled_photo['content']))
    command = ['--annotations', str(labelled_photo['file']), '--photos', str(labelled_photo['photos'])]
    return score_keypoints.run([*command, '--checkpoint', str(small_run), '--out', str(out)])


def test_the_command_scores_what_is_labelled(labelled_photo, small_run, tmp_path, capsys):
    """Labels that are the network's own predictions have no error; moved ones have that of their move."""
    out, annotations = tmp_path / 'out', labelled_photo['content']['annotations']
    own = scored(labelled_photo, small_run, out)['figures']
    near = pytest.approx(0, abs=0.01)
    assert own['all'] == {'keypoints': 17, 'pck': 100.0, 'error': near, 'error_px': near}

    torso = keypoints.torso_px(labelled_photo['points'][None], np.ones((1, 17), bool), NAMES)[0]
    moved = np.array(annotations[0]['keypoints']).reshape(17, 3)
    moved[NAMES.index('left_wrist'), 0] += 0.5 * torso
    moved[NAMES.index('right_ear'), 2] = 1  # covered by something: it does not count
    annotations += [annotations[0] | {'id': 2, 'keypoints': moved.ravel().tolist()}]
    hidden = moved * [1, 1, 0]
    annotations += [annotations[0] | {'id': 3, 'keypoints': hidden.ravel().tolist()}]
    annotations += [annotations[0] | {'id': 4, 'iscrowd': 1}]
    result = scored(labelled_photo, small_run, out)
    assert (result['people'], result['without_torso']) == (2, 1)
    assert result['figures']['wrist'] == {
        'keypoints': 4, 'pck': 75.0, 'error': pytest.approx(100 * 0.5 / 4, abs=0.01),
        'error_px': pytest.approx(torso * 0.5 / 4, abs=0.01),
    }  # fmt: skip
    assert result['figures']['ear']['keypoints'] == 3
    assert json.loads((out / 'keypoints.json').read_text()) == result
    text = (out / 'keypoints.md').read_text()
    assert text in capsys.readouterr().out and '2 people (1 without' in text and '| wrist' in text


@pytest.mark.parametrize(
    'change, said',
    [
        ({'keypoints': [1.0] * 50}, r'annotations\[0\].*keypoints'),
        ({'keypoints': [0.0] * 51}, 'has nobody with a shoulder'),
        ({'bbox': [0, 0, 1]}, r'annotations\[0\].*bbox'),
        ({'image_id': 8}, 'no image has this id'),
    ],
)
def test_annotations_that_cannot_be_scored_are_named(labelled_photo, small_run, tmp_path, change, said):
    annotation = labelled_photo['content']['annotations'][0]
    annotation.update(change)
    with pytest.raises(ValueError, match=said):
        scored(labelled_photo, small_run, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_photo_that_is_missing_is_named(labelled_photo, small_run, tmp_path):
    (labelled_photo['photos'] / 'inner' / 'one.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='one.jpg'):
        scored(labelled_photo, small_run, tmp_path / 'out')


# ---- as a dataset of the evaluation


def on_photos(labelled_photo, small_run, data_root, **changes):
    """Returns the configuration that scores the small run on the labelled photo."""
    labelled_photo['file'].write_text(json.dumps(labelled_photo['content']))
    config = small.run_config(small_run, data_root)
    config.evaluation.datasets = ('coco',)
    config.evaluation.keypoint_file = str(labelled_photo['file'])
    config.evaluation.keypoint_photos = str(labelled_photo['photos'])
    config.evaluation.parameters, config.evaluation.flips = ('ema',), (True,)
    config.update_from_flattened_dict({f'evaluation.{key}': value for key, value in changes.items()})
    return config.lock()


def test_an_evaluation_scores_photos(labelled_photo, small_run, data_root, tmp_path, monkeypatch):
    """No dataset is built or opened; a row says whose keypoints they are, files have every keypoint."""
    config = on_photos(labelled_photo, small_run, data_root)
    write = table.write
    monkeypatch.setattr(table, 'write', lambda result, folder: write(result, tmp_path))
    annotations = labelled_photo['content']['annotations']
    moved = np.array(annotations[0]['keypoints']).reshape(17, 3)
    moved[:, 1] += 7
    annotations += [annotations[0] | {'id': 2, 'keypoints': moved.ravel().tolist()}]
    on_photos(labelled_photo, small_run, data_root)
    result = evaluate.evaluate(config)
    first, *rest = result['rows']
    assert set(table.PROTOCOL) <= first.keys() and first['frames'] == 2 and first['root'] == 'assumed'
    assert (first['dataset'], first['protocol'], first['over']) == ('coco', '2D', '34 visible keypoints')
    torso = keypoints.torso_px(labelled_photo['points'][None], np.ones((1, 17), bool), NAMES)[0]
    assert first['error_px_2d'] == pytest.approx(3.5, abs=0.01)
    assert first['error_2d'] == pytest.approx(100 * 3.5 / torso, rel=0.01)
    assert first['pck_2d'] == (100 if 7 < 0.2 * torso else 50)
    assert [row['over'] for row in rest][:2] == ['nose, 2', 'eye, 4'] and len(rest) == 9
    assert 'a.json: 2 people (0 without a labelled torso left out)' in result['protocol']['2D']
    text = (tmp_path / 'evaluation.md').read_text()
    assert 'PCK at 0.2 torso (percent)' in text and 'coco, by keypoint' in text
    assert json.loads((tmp_path / 'evaluation.json').read_text()) == json.loads(json.dumps(result))


@pytest.mark.parametrize(
    'changes, said',
    [
        (
            {'keypoint_file': '', 'keypoint_photos': ''},
            "'coco' is scored by the 2D keypoints of photos: give",
        ),
        ({'datasets': ('synthetic',)}, 'keypoint_file=.* would not be used: add'),
        ({'box_file': 'boxes.json'}, 'box_file=boxes.json is of records'),
        ({'root': 'predicted', 'root_file': 'roots.json'}, 'root_file=roots.json is of records'),
        ({'keypoint_file': 'nowhere.json'}, 'nowhere.json'),
    ],
)
def test_photos_that_cannot_be_scored(labelled_photo, small_run, data_root, changes, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        evaluate.evaluate(on_photos(labelled_photo, small_run, data_root, **changes))


def test_a_rootnet_has_no_keypoints():
    config = rootnet_synthetic.get_config()
    config.evaluation.datasets, config.evaluation.keypoint_file = ('coco',), 'a.json'
    with pytest.raises(ValueError, match='which a RootNet does not predict'):
        configuration.check(config, devices=1, hosts=1)


def test_the_miniature_of_coco_is_read(tmp_path):
    """Crowds and people without a torso are left out; photos lie where the file says, each in one place."""
    truth = street.write_coco(tmp_path, train=1, validation=8)
    file = tmp_path / 'annotations' / 'person_keypoints_val2017.json'
    found = evaluate_2d.LabelledPeople.read(file, tmp_path / 'val2017')
    usual = [a for a in json.loads(file.read_text())['annotations'] if not a['iscrowd']]
    assert len(found.people) + found.without_torso == len(usual) <= len(truth.splits['validation'])
    photos = [one.photo for one in found.people]
    assert all(photo.is_file() for photo in photos)
    assert len(set(photos)) == sum(a != b for a, b in zip(photos, [None, *photos], strict=False))
    errors = found.errors(np.array([one.points_px for one in found.people]))
    figures = keypoints.by_part(errors, found.torsos_px(), NAMES)
    visible = sum((one.marks == 2).sum() for one in found.people)
    assert figures['all'] == {'keypoints': visible, 'pck': 100.0, 'error': 0.0, 'error_px': 0.0}
