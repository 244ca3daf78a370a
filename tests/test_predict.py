"""The prediction and report tools, on a tiny network with random parameters and on one that says the
truth.
"""

import dataclasses
import json
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import synthetic as synthetic_config
from hybrik_jax import setup
from hybrik_jax.body import skeleton, smpl_file
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.data import augment, store
from hybrik_jax.synthetic import builder
from hybrik_jax.types import Lifted
from hybrik_jax.units import DEPTH_SCALE_M
from tools import predict, report

PICTURES = ('overlay.png', 'side.png', 'crop.png')
FILES = sorted([*PICTURES, 'prediction.json', 'prediction.npz'])


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """Folder that is config.data.root: the tiny dataset is its folder 'synthetic'."""
    root = tmp_path_factory.mktemp('data')
    builder.build(root / 'synthetic', train=4, validation=2, test=4, workers=0)
    return root


@pytest.fixture(scope='module')
def run(tmp_path_factory, dataset):
    """Workdir of a run that was stopped before its first step."""
    workdir = tmp_path_factory.mktemp('run')
    config = synthetic_config.get_config()
    config.workdir = str(workdir)
    config.data.root = str(dataset)
    config.image_size = 64
    config.model.backbone.depth = 18
    config.model.transformer.num_blocks = 1
    config.model.transformer.width = 64
    config.model.transformer.ffn_width = 64
    network = setup.create_network(config, setup.load_body(config))
    checkpoints = Checkpoints(workdir)
    checkpoints.save(setup.initial_state(config, network), setup.plain(config))
    checkpoints.close()
    (workdir / 'config.json').write_text(json.dumps(setup.plain(config)))
    return workdir


@pytest.fixture(scope='module')
def network(run):
    return predict.load_network(run)


@pytest.fixture(scope='module')
def photo_file(tmp_path_factory):
    """A drawn photo, 160 x 120 pixels."""
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    cv2.ellipse(photo, (80, 60), (15, 45), 0, 0, 360, (40, 60, 200), -1)
    path = tmp_path_factory.mktemp('photos') / 'person.jpg'
    cv2.imwrite(str(path), photo)
    return path


def telling_the_truth(network: predict.Network, records: list[dict]) -> predict.Network:
    """Returns a network that says, whatever it sees, what the labels of the records are."""
    rows = [augment.make_example(r, augment.Augmentation(), crop_size=network.image_size) for r in records]
    lifted = []
    for record, row in zip(records, rows, strict=True):
        affine = augment.invert_affine(row['crop_to_photo'])
        on_crop = record['joints_px'][:, :2] @ affine[:, :2].T + affine[:, 2]
        depth = record['joints_px'][:, 2:] / DEPTH_SCALE_M
        lifted.append(
            Lifted(
                uvd=np.concatenate([on_crop / network.image_size - 0.5, depth], 1)[: skeleton.NUM_JOINTS],
                twists=row['twists'],
                leaf_quaternions=row['quaternions'][list(skeleton.LEAF_JOINTS)],
                betas=row['betas'],
            )
        )
    batch = jax.tree.map(lambda *rows: jnp.stack([jnp.asarray(x, jnp.float32) for x in rows]), *lifted)
    return dataclasses.replace(network, lift=lambda images: batch)


# ------------------------------------------------------------------------------------------------ prediction
def test_prediction_of_a_photo(run, photo_file, tmp_path, capsys):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'overlay.png').write_text('older')
    command = [str(photo_file), '--box', '60,10,40,100', '--checkpoint', str(run), '--out', str(out)]
    files = predict.run(command)
    assert sorted(path.name for path in files) == FILES == sorted(path.name for path in out.iterdir())
    assert cv2.imread(str(out / 'overlay.png')).shape == (120, 160, 3)
    assert all(cv2.imread(str(out / name)) is not None for name in PICTURES)

    content = json.loads((out / 'prediction.json').read_text())
    arrays = np.load(out / 'prediction.npz')
    assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
    assert content['focal'] == [200, 200] and content['focal_assumed'] and content['centre'] == [79.5, 59.5]
    assert content['root_depth_assumed'] and content['root_depth_m'] == pytest.approx(2 * 200 / (1.25 * 99))
    assert content['box'] == [60, 10, 40, 100] and content['photo_size'] == [160, 120]
    assert content['checkpoint']['parameters'] == 'ema' and content['checkpoint']['flip_test']
    assert content['checkpoint']['step'] == 0 and content['body_model'] == 'open_body (CC0)'
    assert predict.SYNTHETIC_WARNING in content['warnings']
    shapes = {'joints_m': (24, 3), 'joints_px': (24, 2), 'rotations_axis_angle': (24, 3), 'betas': (10,)}
    assert {name: np.shape(content[name]) for name in shapes} == shapes
    placed = arrays['joints_m'] + arrays['camera_translation_m']
    projected = placed[:, :2] / placed[:, 2:] * 200 + [79.5, 59.5]
    np.testing.assert_allclose(projected, content['projected_joints_px'], atol=0.01)
    assert arrays['vertices_m'].shape[1] == 3 and arrays['faces'].max() < len(arrays['vertices_m'])
    said = capsys.readouterr().out
    assert 'assumed' in said and 'synthetic people only' in said and str(out) in said


def test_whole_photo_and_clipped_box_are_said(network, photo_file):
    photo = predict.read_photo(photo_file)
    whole = predict.predict(photo, None, network=network)
    assert whole.box.tolist() == [0, 0, 160, 120] and any('whole photo' in text for text in whole.warnings)
    clipped = predict.predict(photo, np.array([-20, 30, 60, 200]), network=network)
    assert clipped.box.tolist() == [0, 30, 40, 90] and any('0,30,40,90' in text for text in clipped.warnings)


def test_true_network_gives_the_labelled_body(network, dataset):
    """With labels in place of a network's word, the body is the labelled one, and sits on the person."""
    source = store.open_split(dataset / 'synthetic', 'test')
    for record in (source[0], source[1]):
        true = telling_the_truth(network, [record])
        _, prediction = predict.predict_record(record, network=true)
        np.testing.assert_allclose(prediction.joints_m, record['joints_m'][:24], atol=2e-3)
        np.testing.assert_allclose(prediction.translation_m, record['root_m'], atol=5e-3)
        np.testing.assert_allclose(prediction.projected_px, record['joints_px'][:24, :2], atol=0.5)
        assert predict.truth_errors_mm(prediction, record)['mpjpe_24_mm'] < 2
        assert not prediction.focal_assumed and not prediction.root_depth_assumed


def test_overlay_sits_on_the_person_under_an_assumed_camera(network, dataset):
    record = store.open_split(dataset / 'synthetic', 'test')[0]
    photo = augment.decode_jpeg(record)
    x0, y0, x1, y1 = record['box']
    box = np.array([x0, y0, x1 - x0 + 1, y1 - y0 + 1])
    enlargement = float(record['box_enlargement'])
    true = telling_the_truth(network, [record])
    prediction = predict.predict(photo, box, network=true, enlargement=enlargement, focal=400.0)
    assert prediction.reprojection_px < 0.04 * max(box[2:])
    drawn = predict.draw_overlay(photo, prediction, network.body.faces)
    rows, columns = np.nonzero((drawn != photo).any(-1))
    found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
    np.testing.assert_allclose(found, [x0, y0, x1, y1], atol=0.12 * max(box[2:]))


@pytest.mark.parametrize('depth_m', [None, 4.0])
def test_translation_is_found_again(depth_m):
    rng = np.random.default_rng(0)
    joints = 0.4 * rng.normal(size=(24, 3))
    focal, centre, true = np.array([500.0, 520.0]), np.array([310.0, 200.0]), np.array([0.5, -0.3, 4.0])
    pixels = (joints + true)[:, :2] / (joints + true)[:, 2:] * focal + centre
    found = predict.fit_translation(joints, pixels, focal=focal, centre=centre, depth_m=depth_m)
    np.testing.assert_allclose(found, true, atol=1e-9)


def test_translation_is_the_best_in_pixels():
    """With noisy pixels no step away from the answer projects better."""
    rng = np.random.default_rng(1)
    joints = 0.4 * rng.normal(size=(24, 3)) + [0.3, -0.2, 3.0]
    focal, centre = np.array([500.0, 500.0]), np.array([310.0, 200.0])
    pixels = joints[:, :2] / joints[:, 2:] * focal + centre + 3 * rng.normal(size=(24, 2))

    def error(translation):
        placed = joints - joints[:1] + translation
        return (((placed[:, :2] / placed[:, 2:]) * focal + centre - pixels) ** 2).sum()

    found = predict.fit_translation(joints - joints[:1], pixels, focal=focal, centre=centre)
    best = min(error(found + step) for step in 0.02 * np.concatenate([np.eye(3), -np.eye(3)]))
    assert error(found) < best


def test_parameters_are_chosen():
    tree = {'variables': 'r', 'ema': 'e', 'tail': 't', 'tail_count': np.array(0)}
    assert predict.choose_parameters(tree, None, 3) == ('ema', 'e')
    assert predict.choose_parameters(tree, 'raw', 3) == ('raw', 'r')
    with pytest.raises(ValueError, match='tail average has not begun at step 3'):
        predict.choose_parameters(tree, 'tail', 3)
    assert predict.choose_parameters(tree | {'tail_count': np.array(2)}, None, 3) == ('tail', 't')


def test_synthetic_test_image(run, network, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, 'load_network', lambda *args, **options: network)
    predict.run(['--synthetic', '1', '--checkpoint', str(run), '--out', str(tmp_path)])
    content = json.loads((tmp_path / 'prediction.json').read_text())
    assert content['mpjpe_24_mm'] > 0 and not content['focal_assumed'] and not content['root_depth_assumed']
    for index in ('4', '-1'):
        with pytest.raises(ValueError, match='test split has the images 0 to 3'):
            predict.run(['--synthetic', index, '--checkpoint', str(run), '--out', str(tmp_path)])


# ------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--box', '1,2,3'], 'not four numbers'),
        (['--box', 'a,b,c,d'], 'not four numbers'),
        (['--box', '10,10,0,50'], 'has no size'),
        (['--box', '10,10,50,-3'], 'has no size'),
        (['--box', 'nan,10,20,50'], 'not finite'),
        (['--box', '10,10,inf,50'], 'not finite'),
        (['--box', '500,10,20,50'], 'no part in the photo of 160 x 120'),
        (['--box=-50,-50,40,40'], 'no part in the photo'),
        (['--synthetic', '0'], 'one of the two'),
    ],
)
def test_bad_boxes(options, message, photo_file, tmp_path):
    with pytest.raises(ValueError, match=message):
        predict.run(
            [str(photo_file), *options, '--checkpoint', str(tmp_path), '--out', str(tmp_path / 'out')]
        )
    assert not (tmp_path / 'out').exists()


def test_bad_photos(tmp_path):
    broken, empty = tmp_path / 'broken.jpg', tmp_path / 'empty.png'
    broken.write_bytes(b'\xff\xd8\xff\xe0 no JPEG')
    empty.touch()
    with pytest.raises(FileNotFoundError, match='missing.jpg does not exist'):
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


@pytest.mark.parametrize('value', [0.0, -5.0, float('nan'), float('inf')])
def test_bad_camera(value, network, photo_file):
    photo = predict.read_photo(photo_file)
    with pytest.raises(ValueError, match='focal length .* must be a positive number of pixels'):
        predict.predict(photo, None, network=network, focal=value)
    with pytest.raises(ValueError, match='root depth .* must be a positive number of metres'):
        predict.predict(photo, None, network=network, root_depth_m=value)


def test_bad_parameters_of_a_network(network, photo_file):
    def lift(images):
        return jax.tree.map(lambda x: x * jnp.nan, network.lift(images))

    with pytest.raises(ValueError, match='not finite: the parameters of step 0'):
        predict.predict(predict.read_photo(photo_file), None, network=dataclasses.replace(network, lift=lift))


def test_other_body_is_refused(run, tmp_path):
    with np.load(smpl_file.OPEN_BODY_FILE) as file:
        np.savez(tmp_path / 'other.npz', **{**file, 'model_name': 'another body'})
    with pytest.raises(ValueError, match='open_body'):
        predict.load_network(run, body_file=str(tmp_path / 'other.npz'))
    with pytest.raises(FileNotFoundError, match='give --body FILE'):
        predict.load_network(run, body_file=str(tmp_path / 'missing.npz'))


def test_unwritable_out_keeps_older_outputs(network, photo_file, tmp_path, monkeypatch):
    photo = predict.read_photo(photo_file)
    prediction = predict.predict(photo, None, network=network)
    in_the_way = tmp_path / 'file'
    in_the_way.touch()
    with pytest.raises(OSError, match='cannot be written to'):
        predict.write(in_the_way, photo, prediction, network, photo_name='person')
    (tmp_path / 'prediction.json').write_text('older')
    monkeypatch.setattr(predict.np, 'savez_compressed', lambda *args, **arrays: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict.write(tmp_path, photo, prediction, network, photo_name='person')
    assert (tmp_path / 'prediction.json').read_text() == 'older'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'prediction.json']


def test_error_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr('sys.argv', ['predict', str(tmp_path / 'none.jpg'), '--checkpoint', str(tmp_path)])
    with pytest.raises(SystemExit, match='error: The photo .* does not exist'):
        predict.main()


# ------------------------------------------------------------------------------------------------ report
def test_examples_of_a_true_network(network, dataset):
    """True and predicted meshes agree, and the crop's camera projects the labelled joints where they are."""
    source = store.open_split(dataset / 'synthetic', 'test')
    true = telling_the_truth(network, [source[i] for i in range(4)])
    examples = report.test_examples(true, source, 12)
    assert [example.name for example in examples] == [augment.text(source[i]['name']) for i in range(4)]
    for example, record in zip(examples, source, strict=True):
        assert example.error_mm < 2
        np.testing.assert_allclose(example.predicted_vertices_m, example.true_vertices_m, atol=5e-3)
        row = augment.make_example(record, augment.Augmentation(), crop_size=report.PICTURE_PIXELS)
        root = record['root_m'][:2] / record['root_m'][2] * example.focal + example.centre
        expected = (row['uvd'][0, :2] + 0.5) * report.PICTURE_PIXELS
        np.testing.assert_allclose(root, expected, atol=0.05)


def test_report(run, network, photo_file, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, 'load_network', lambda *args, **options: network)
    rows = [{'parameters': 'raw', 'flip_test': False, 'mpjpe_mm': 150.0, 'pve_mm': 170.0}]
    evaluation = {'rows': rows, 'constant_prediction': {'mpjpe_mm': 300.0}, 'protocol': {'data': 'test'}}
    (tmp_path / 'evaluation.json').write_text(json.dumps(evaluation))
    (tmp_path / 'config.json').write_text((run / 'config.json').read_text())
    lines = [
        {'kind': 'train', 'step': s, 'loss': 9.0 / s, 'learning_rate': 1e-4, 'step_seconds': 2.0}
        for s in (1, 2)
    ]
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    path = report.run([str(tmp_path), '--examples', '2', '--photo', str(photo_file), '--box', '60,10,40,100'])
    page = path.read_text()
    assert path == tmp_path / 'report.html'
    assert page.count('data:image/jpeg') == 2 * 4 + 2
    assert '50.0% of the 300.0 mm' in page and 'person.jpg' in page and 'synthetic people' in page
    assert '--config configs/synthetic.py' in page and '--config.image_size=64' in page
    assert 'http' not in page.split('<body>')[1].replace('http://www.w3.org', '')


def test_report_without_anything(tmp_path):
    page = report.run([str(tmp_path)]).read_text()
    assert 'There is no metrics.jsonl.' in page and 'No meshes' in page
    (tmp_path / 'evaluation.json').write_text('{')
    with pytest.raises(ValueError, match='evaluation.json is not readable JSON'):
        report.run([str(tmp_path)])


def test_bad_report_arguments(photo_file, tmp_path):
    with pytest.raises(FileNotFoundError, match='is no folder'):
        report.run([str(tmp_path / 'missing')])
    with pytest.raises(ValueError, match='one box for each photo'):
        report.run([str(tmp_path), '--photo', str(photo_file), '--box', '0,0,9,9', '--box', '0,0,9,9'])
    with pytest.raises(FileNotFoundError, match='holds no checkpoints'):
        report.run([str(tmp_path), '--photo', str(photo_file)])


def test_training_command_names_what_differs():
    config = setup.plain(synthetic_config.get_config())
    assert report.training_command(config) == 'python -m hybrik_jax.main --config configs/synthetic.py'
    config['optimizer']['learning_rate'] = 0.25
    config['model']['image_std'] = [0.25, 0.25, 0.25]
    command = report.training_command(config)
    assert command.endswith(
        "'--config.model.image_std=(0.25, 0.25, 0.25)' --config.optimizer.learning_rate=0.25"
    )


def test_report_names_what_is_not_on_this_machine(run):
    config = synthetic_config.get_config()
    config.data.root = str(pathlib.Path(run) / 'nowhere')
    assert set(report.dataset_sizes(config).values()) == {'not on this machine'}
