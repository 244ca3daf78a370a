"""Before and after: what a network scores that a run begins with, and how the report shows it."""

import json
import types
from contextlib import closing

import jax
import numpy as np
import pytest

from configs import demo, synthetic_efficientnet_192
from hybrik_jax import config as configuration
from hybrik_jax import evaluate, main, setup
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.predict import Predictor, run_config
from hybrik_jax.view import report as page
from tests.helpers import run_python, tiny_config
from tools import report, report_change

FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
VERTICES = np.array([[0, 0, 3], [0.5, 0, 3], [0, 0.5, 3], [0, 0, 3.5]], np.float32)


def scored(parameters, mpjpe_mm):
    row = {
        'dataset': 'synthetic',
        'parameters': parameters,
        'group': 'all',
        'frames': 200,
        'mpjpe_mm': mpjpe_mm,
    }
    rows = [row | {'flip_test': flip, 'mpjpe_mm': mpjpe_mm + 5 * (not flip)} for flip in (False, True)]
    return {'rows': rows, 'constant_prediction': {'synthetic': {'mpjpe_mm': 300.0}}}


def example(error_mm):
    return page.Example(
        image=np.full((64, 64, 3), 90, np.uint8),
        true_vertices_m=VERTICES,
        predicted_vertices_m=VERTICES + 0.1,
        faces=FACES,
        focal=64.0,
        centre=(32, 32),
        error_mm=error_mm,
        name='person 7',
    )


def predictor_of(step, parameters):
    run = types.SimpleNamespace(folder='assets/network.npz', step=step)
    return types.SimpleNamespace(run=run, parameters=parameters, flip=True)


@pytest.mark.parametrize(
    'after_mm, said', [(110.0, '10.0 mm lower'), (130.0, '10.0 mm higher'), (120, 'the same')]
)
def test_the_report_shows_both(tmp_path, after_mm, said):
    """Figures of the same flip test, errors of each test image, pictures in pairs; worse is said, too."""
    picture = np.zeros((8, 8, 3), np.uint8)
    change = report_change.change(
        predictor_of(17500, 'tail'),
        predictor_of(240, 'tail'),
        evaluations=(scored('pretrained', 120.0), scored('tail', after_mm)),
        examples=([example(111.1)], [example(99.9)]),
        pictures=([('photo.jpg, prediction', picture)], [('photo.jpg, prediction', picture)]),
    )
    assert (
        f'MPJPE is {said}' in change.said and 'On the 200 test images of synthetic, with flip' in change.said
    )
    assert [row['mpjpe_mm'] for row in change.rows] == [120.0, after_mm]
    text = page.write_report(tmp_path / 'report.html', title='t', change=change).read_text()
    section = text.split('Before and after')[1].split('<h2>')[0]
    assert section.count('<img') == 4 + 2
    for words in (
        'before <b>111.1 mm</b>, after <b>99.9 mm</b>',
        'before: network, tail parameters',
        'after 240 more updates: tail parameters',
        'after 240 more updates: photo.jpg, prediction',
        '300.0',
    ):
        assert words in section, words


def test_without_figures_of_both_the_report_says_so():
    parts = {'examples': ([], []), 'pictures': ([], [])}
    before, after = scored('pretrained', 99.0), scored('tail', 99.0)
    for evaluations in (({}, after), (before, {}), (after, before)):
        change = report_change.change(
            predictor_of(1, 'tail'), predictor_of(2, 'tail'), evaluations=evaluations, **parts
        )
        assert change.said == 'There are no figures of both on the same test images.' and not change.rows


def test_a_run_that_began_otherwise_has_no_before():
    for config in ({}, {'pretrained': {'backbone': 'x'}}, {'pretrained': {'network': ''}}):
        assert report_change.load_before(config, None, {}) is None


def test_the_report_of_a_run_that_went_on(small_run, predictor, tmp_path, monkeypatch):
    """From the workdir alone: the network that it began with is loaded, and its figures are read."""
    config = json.loads((small_run / 'config.json').read_text())
    config['pretrained']['network'] = str(small_run)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    (tmp_path / 'evaluation.json').write_text(json.dumps(scored('ema', 150.0)))
    (tmp_path / 'before').mkdir()
    (tmp_path / 'before' / 'evaluation.json').write_text(json.dumps(scored('pretrained', 160.0)))
    asked = []
    monkeypatch.setattr(Predictor, 'load', lambda folder, **options: asked.append(folder) or predictor)
    text = report.write(tmp_path, examples=1).read_text()
    assert asked == [tmp_path, str(small_run)]
    section = text.split('Before and after')[1].split('<h2>')[0]
    assert 'MPJPE is 10.0 mm lower' in section and section.count('<img') == 4
    assert 'trained from scratch' not in text


# ---- what a run begins with is scored


def test_it_is_scored_once_before_the_first_update(tmp_path, monkeypatch):
    config = demo.get_config()
    config.workdir, asked = str(tmp_path), []
    monkeypatch.setattr(evaluate, 'evaluate', lambda config: asked.append(config.workdir))
    main.score_before(config, tmp_path / 'before')
    assert asked == [str(tmp_path / 'before')] and config.workdir == str(tmp_path)
    (tmp_path / 'before').mkdir()
    (tmp_path / 'before' / 'evaluation.json').write_text('{}')
    main.score_before(config, tmp_path / 'before')
    assert len(asked) == 1


def test_where_there_is_no_checkpoint_what_the_run_begins_with_is_scored(predictor, small_run, tmp_path):
    config = run_config(predictor.run)
    config.workdir = str(tmp_path)
    network = setup.create_network(config, predictor.body)
    with pytest.raises(FileNotFoundError, match='holds no checkpoints'):
        evaluate._scored(config, network, None)
    config.pretrained.network = str(small_run)
    state, variables = evaluate._scored(config, network, None)
    assert int(state.step) == 0 and list(variables) == ['pretrained']
    jax.tree.map(np.testing.assert_array_equal, variables['pretrained'], predictor.run.state.ema)


@pytest.mark.slow  # a training step and two evaluations are compiled
def test_a_run_goes_on_from_another(tmp_path, data_root):
    """The whole chain: scored before, trained, scored after, and the report has both."""
    first, run = tmp_path / 'first', tmp_path / 'run'
    config = tiny_config(first, data_root, seed=1)
    network = setup.create_network(config, setup.load_body(config))
    state = setup.initial_state(config, network)
    with closing(Checkpoints(first)) as checkpoints:
        checkpoints.save(state, configuration.plain(config))
    process = run_python(
        *('-m', 'hybrik_jax.main', '--config=tests/tiny_config.py', f'--config.workdir={run}'),
        *(f'--config.data.root={data_root}', f'--config.pretrained.network={first}'),
    )
    said = process.communicate()[0]
    assert process.returncode == 0 and f'The run begins with the network {first}' in said, said
    before, after = (json.loads((run / part / 'evaluation.json').read_text()) for part in ('before', '.'))
    assert {row['parameters'] for row in before['rows']} == {'pretrained'}
    assert {row['checkpoint'] for row in before['rows']} == {evaluate.checkpoint_hash(state.ema)}
    assert {row['parameters'] for row in after['rows']} == {'raw', 'tail', 'ema'}
    section = report.write(run, examples=1).read_text().split('Before and after')[1].split('<h2>')[0]
    assert 'after 12 more updates: tail parameters' in section and section.count('<img') == 4


def test_the_demo_goes_on_with_the_network_that_is_trained_for_the_package():
    own, other = (configuration.plain(one.get_config()) for one in (demo, synthetic_efficientnet_192))
    assert configuration.network_differences(other, own) == [] and other['image_size'] == own['image_size']
    configuration.check(demo.get_config(), devices=1, hosts=1)


def test_the_demo_goes_on_with_the_network_of_the_package():
    assert setup.pretrained_network(demo.get_config()).step > 0
