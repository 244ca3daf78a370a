"""The report of a run: its examples, its figures, what it says where something is missing."""

import copy
import json

import numpy as np
import pytest

from configs import synthetic as synthetic_config
from hybrik_jax import config as configuration
from hybrik_jax.data import augment, pipeline, store
from hybrik_jax.detect import Detector
from hybrik_jax.photo import read_photo
from hybrik_jax.predict import Predictor
from tests import small_run as small
from tools import report


def test_examples_of_a_true_network(predictor, data_root):
    """True and predicted meshes agree, and the crop's camera projects the labelled joints where they are."""
    source = store.open_split(data_root / 'synthetic', 'test')
    true = small.telling_the_truth(predictor, [source[i] for i in range(4)])
    examples = report.test_examples(true, source, 12)
    assert [example.name for example in examples] == [augment.text(source[i]['name']) for i in range(4)]
    for example, record in zip(examples, source, strict=True):
        assert example.error_mm < 2
        np.testing.assert_allclose(example.predicted_vertices_m, example.true_vertices_m, atol=5e-3)
        row = pipeline.evaluation_example(record, crop_size=report.PICTURE_PIXELS)
        root = record['root_m'][:2] / record['root_m'][2] * example.focal + example.centre
        expected = (row['uvd'][0, :2] + 0.5) * report.PICTURE_PIXELS
        np.testing.assert_allclose(root, expected, atol=0.05)


def test_report(small_run, predictor, photo_file, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, 'load', lambda *args, **options: predictor)
    rows = [{'parameters': 'raw', 'flip_test': False, 'mpjpe_mm': 150.0, 'pve_mm': 170.0}]
    evaluation = {'rows': rows, 'constant_prediction': {'mpjpe_mm': 300.0}, 'protocol': {'data': 'test'}}
    (tmp_path / 'evaluation.json').write_text(json.dumps(evaluation))
    (tmp_path / 'config.json').write_text((small_run / 'config.json').read_text())
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


def test_people_of_photos_without_a_box_are_looked_for(predictor, photo_file):
    """Everybody whom the detector finds is shown; of a photo with nobody the photo itself."""
    found = np.array([[60, 10, 40, 100], [10, 10, 30, 60.0]])
    looking = copy.copy(predictor)
    looking.detector = lambda photo: (found, np.ones(len(found)))
    captions = [caption for caption, _ in report.photo_pictures(looking, [(str(photo_file), None)])]
    assert captions == ['person.jpg, prediction (assumed camera)'] + 2 * ['person.jpg, from the side']
    looking.detector = lambda photo: (np.zeros((0, 4)), np.zeros(0))
    ((caption, picture),) = report.photo_pictures(looking, [(str(photo_file), None)])
    assert caption == 'person.jpg, nobody was found'
    np.testing.assert_array_equal(picture, read_photo(photo_file))
    ((caption, _), _) = report.photo_pictures(looking, [(str(photo_file), [60, 10, 40, 100])])
    assert 'prediction' in caption


def test_the_report_loads_a_detector_where_there_is_no_box(photo_file, tmp_path, monkeypatch):
    asked = []

    def load(*unused, detector, **options):
        asked.append(detector)
        raise FileNotFoundError('enough')

    monkeypatch.setattr(Predictor, 'load', load)
    for box in ([], ['--box', '60,10,40,100']):
        with pytest.raises(FileNotFoundError, match='enough'):
            report.run([str(tmp_path), '--photo', str(photo_file), *box])
    assert isinstance(asked[0], Detector) and asked[1] is None


def test_report_without_anything(tmp_path):
    page = report.run([str(tmp_path)]).read_text()
    assert 'There is no metrics.jsonl.' in page and 'No meshes' in page
    (tmp_path / 'evaluation.json').write_text('{')
    with pytest.raises(ValueError, match='evaluation.json is no whole JSON'):
        report.run([str(tmp_path)])


def test_bad_report_arguments(photo_file, tmp_path):
    with pytest.raises(FileNotFoundError, match='is no folder'):
        report.run([str(tmp_path / 'missing')])
    with pytest.raises(ValueError, match='one box for each photo'):
        report.run([str(tmp_path), '--photo', str(photo_file), '--box', '0,0,9,9', '--box', '0,0,9,9'])
    with pytest.raises(FileNotFoundError, match='holds no checkpoints'):
        report.run([str(tmp_path), '--photo', str(photo_file)])


def test_training_command_names_what_differs():
    config = configuration.plain(synthetic_config.get_config())
    assert report.training_command(config) == 'python -m hybrik_jax.main --config configs/synthetic.py'
    config['optimizer']['learning_rate'] = 0.25
    config['model']['image_std'] = [0.25, 0.25, 0.25]
    command = report.training_command(config)
    assert command.endswith(
        "'--config.model.image_std=(0.25, 0.25, 0.25)' --config.optimizer.learning_rate=0.25"
    )


def test_report_names_what_is_not_on_this_machine(small_run):
    config = synthetic_config.get_config()
    config.data.root = str(small_run / 'nowhere')
    assert set(report.dataset_sizes(config).values()) == {'not on this machine'}
