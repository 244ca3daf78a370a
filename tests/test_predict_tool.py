"""The command line of prediction: one photo, folders, broken photos, files."""

import json

import cv2
import numpy as np
import pytest

from hybrik_jax.body.projection import project
from hybrik_jax.photo import read_photo
from hybrik_jax.predict import SYNTHETIC_WARNING
from tests import small_run as small
from tools import predict

PICTURES = ('overlay.png', 'side.png', 'crop.png', 'photo.jpg')
FILES = sorted([*PICTURES, 'prediction.json', 'prediction.npz'])


def test_prediction_of_a_photo(small_run, photo_file, tmp_path, capsys):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'overlay.png').write_text('older')
    command = [str(photo_file), '--box', '60,10,40,100', '--checkpoint', str(small_run), '--out', str(out)]
    files = predict.run(command)
    assert sorted(path.name for path in files) == FILES == sorted(path.name for path in out.iterdir())
    assert cv2.imread(str(out / 'overlay.png')).shape == (120, 160, 3)
    assert all(cv2.imread(str(out / name)) is not None for name in PICTURES)

    content = json.loads((out / 'prediction.json').read_text())
    arrays = np.load(out / 'prediction.npz')
    assert all(np.isfinite(arrays[name]).all() for name in arrays.files if name != 'box_score')
    seen = cv2.imread(str(out / 'photo.jpg')).astype(int)
    assert np.abs(seen - cv2.imread(str(photo_file))).mean() < 3
    assert content['photo'] == 'person.jpg' and content['photo_size'] == [160, 120]
    assert content['checkpoint']['parameters'] == 'ema' and content['checkpoint']['flip_test']
    assert content['checkpoint']['step'] == 0 and content['body_model'] == 'open_body (CC0)'
    (person,) = content['people']
    assert person['focal'] == [200, 200] and person['focal_assumed'] and person['centre'] == [79.5, 59.5]
    assert person['root_depth_assumed'] and person['root_depth_m'] == pytest.approx(2 * 200 / (1.25 * 99))
    assert person['box'] == [60, 10, 40, 100]
    assert SYNTHETIC_WARNING in person['warnings']
    shapes = {'joints_m': (24, 3), 'joints_px': (24, 2), 'rotations_axis_angle': (24, 3), 'betas': (10,)}
    assert {name: np.shape(person[name]) for name in shapes} == shapes
    placed = arrays['joints_m'][0] + arrays['camera_translation_m'][0]
    projected = project(placed, 200, np.array([79.5, 59.5]))
    np.testing.assert_allclose(projected, person['projected_joints_px'], atol=0.01)
    assert arrays['vertices_m'].shape[::2] == (1, 3)
    assert np.isnan(arrays['box_score']) and person['box_score'] is None
    assert arrays['faces'].max() < arrays['vertices_m'].shape[1]
    said = capsys.readouterr().out
    assert 'assumed' in said and 'synthetic people only' in said and str(out) in said


def test_a_folder_with_a_broken_photo(small_run, tmp_path, capsys):
    """The others are predicted, with the boxes of the file; what could not be used is named, and the status
    is 1."""
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    small.write_photo(photos / 'a.jpg')
    (photos / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 no JPEG')
    small.write_photo(photos / 'c.png', 90, 140)
    (photos / 'notes.txt').write_text('no photo')
    boxes = {'a.jpg': [[60, 10, 40, 100], [10, 10, 30, 60]]}
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    command = [str(photos), '--boxes', str(tmp_path / 'boxes.json'), '--checkpoint', str(small_run)]
    with pytest.raises(SystemExit) as status:
        predict.run([*command, '--whole-photo', '--out', str(out)])
    assert status.value.code == 1
    assert sorted(path.name for path in out.iterdir()) == ['a.jpg', 'c.png']
    people = json.loads((out / 'a.jpg' / 'prediction.json').read_text())['people']
    assert [person['box'] for person in people] == boxes['a.jpg']
    assert {'side_0.png', 'side_1.png', 'crop_0.png', 'crop_1.png'} <= {
        p.name for p in (out / 'a.jpg').iterdir()
    }
    (whole,) = json.loads((out / 'c.png' / 'prediction.json').read_text())['people']
    assert whole['box'] == [0, 0, 90, 140]
    captured = capsys.readouterr()
    assert 'broken.jpg cannot be read' in captured.err and captured.err.count('\n') == 1
    assert (
        '3 people in 2 photos' in captured.out and 'compilations; 1 photos could not be used' in captured.out
    )


def test_only_the_formats_asked_for(small_run, photo_file, tmp_path):
    command = [str(photo_file), '--whole-photo', '--checkpoint', str(small_run), '--out', str(tmp_path)]
    files = predict.run([*command, '--format', 'json,glb', 'bvh'])
    names = [*PICTURES, 'prediction.json', 'prediction.glb', 'prediction.bvh']
    assert sorted(path.name for path in files) == sorted(names)


def test_synthetic_test_image(small_run, tmp_path):
    predict.run(['--synthetic', '1', '--checkpoint', str(small_run), '--out', str(tmp_path)])
    content = json.loads((tmp_path / 'prediction.json').read_text())
    (person,) = content['people']
    assert content['mpjpe_24_mm'] > 0
    assert not person['focal_assumed'] and not person['root_depth_assumed']
    for index in ('4', '-1'):
        with pytest.raises(ValueError, match='test split has the images 0 to 3'):
            predict.run(['--synthetic', index, '--checkpoint', str(small_run), '--out', str(tmp_path)])


# ---- bad input


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--box', '1,2,3'], 'not four numbers'),
        (['--box', 'a,b,c,d'], 'not four numbers'),
        (['--format', 'json,fbx'], 'the formats are glb, bvh, .* npz'),
        (['--synthetic', '0'], 'one of the two'),
        (['--boxes', 'boxes.json', '--box', '1,2,3,4'], '--box is for one PHOTO'),
    ],
)
def test_bad_options(options, message, photo_file, tmp_path):
    command = [str(photo_file), *options, '--checkpoint', str(tmp_path), '--out', str(tmp_path / 'out')]
    with pytest.raises(ValueError, match=message):
        predict.run(command)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('content', ['', '[1]', '[' * 100_000, '{"other.jpg": []}', '{"person.jpg": {}}'])
def test_bad_box_files(content, small_run, photo_file, tmp_path):
    (tmp_path / 'boxes.json').write_text(content)
    command = [str(photo_file), '--boxes', str(tmp_path / 'boxes.json'), '--checkpoint', str(small_run)]
    with pytest.raises(ValueError, match='box') as error:
        predict.run(command)
    assert '\n' not in str(error.value) and len(str(error.value)) < 400


def test_bad_photos(tmp_path):
    broken, empty = tmp_path / 'broken.jpg', tmp_path / 'empty.png'
    broken.write_bytes(b'\xff\xd8\xff\xe0 no JPEG')
    empty.touch()
    with pytest.raises(FileNotFoundError, match='missing.jpg is no file'):
        predict.run([str(tmp_path / 'missing.jpg'), '--checkpoint', str(tmp_path)])
    for path in (broken, empty):
        with pytest.raises(ValueError, match=f'{path.name} cannot be read'):
            predict.run([str(path), '--checkpoint', str(tmp_path)])


def test_bad_checkpoint_folders(photo_file, tmp_path):
    for folder in (tmp_path / 'missing', tmp_path):
        with pytest.raises(FileNotFoundError, match='holds no checkpoints'):
            predict.run([str(photo_file), '--checkpoint', str(folder)])
    (tmp_path / 'checkpoints').mkdir()
    with pytest.raises(FileNotFoundError, match='no finished checkpoint'):
        predict.run([str(photo_file), '--checkpoint', str(tmp_path)])


def test_unwritable_out_keeps_older_outputs(predictor, photo_file, tmp_path, monkeypatch):
    photo = read_photo(photo_file)
    people = predictor(photo)
    in_the_way = tmp_path / 'file'
    in_the_way.touch()
    with pytest.raises(OSError, match='cannot be written to'):
        predict.write(in_the_way, photo, people, predictor, about={})
    (tmp_path / 'prediction.json').write_text('older')
    monkeypatch.setattr(np, 'savez_compressed', lambda *args, **arrays: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict.write(tmp_path, photo, people, predictor, about={})
    assert (tmp_path / 'prediction.json').read_text() == 'older'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'prediction.json']


def test_error_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr('sys.argv', ['predict', str(tmp_path / 'none.jpg'), '--checkpoint', str(tmp_path)])
    with pytest.raises(SystemExit, match='error: .*none.jpg is no file'):
        predict.main()
