"""The whole evaluation: datasets, variants, root files, what is refused, what is written."""

import csv
import json
import re
import types

import numpy as np
import pytest

from hybrik_jax import config as configuration
from hybrik_jax import evaluate, setup
from hybrik_jax.scoring import table
from tests import helpers, truth


@pytest.fixture(scope='module')
def people(body) -> dict[str, np.ndarray]:
    return truth.pose_people(body)


@pytest.fixture
def evaluated(body, people, tmp_path, monkeypatch):
    """Returns a function that runs `evaluate` with a network that knows the truth."""

    def run(tail_count=5, **overrides):
        config = helpers.tiny_config(
            tmp_path / 'run', tmp_path, evaluation__batch_size=truth.PEOPLE, **overrides
        )
        state = types.SimpleNamespace(
            step=7,
            tail_count=tail_count,
            parameters=lambda which: {'params': np.full(3, len(which), np.float32)},
        )

        def perfect_step(*, network, flip):
            return lambda variables, body_on_device, batch: truth.predictor(body)(batch)

        monkeypatch.setattr(evaluate, 'parallel_eval_step', perfect_step)
        monkeypatch.setattr(
            setup, 'open_source', lambda config, name, split, body: truth.records(people, name)
        )
        network = types.SimpleNamespace(camera=None, of_roots=False)
        monkeypatch.setattr(setup, 'create_network', lambda *unused: network)
        return evaluate.evaluate(config, state)

    return run


def test_one_command_for_all_datasets(evaluated, tmp_path, capsys):
    result = evaluated(evaluation__datasets=truth.DATASETS, evaluation__allow_other_body=True)
    rows = [row for row in result['rows'] if row['group'] == 'all']
    assert len(rows) == len(truth.DATASETS) * 3 * 2
    for row in rows:
        assert set(table.PROTOCOL) <= row.keys() and row['frames'] == truth.PEOPLE
        assert row['body_model'] == 'open_body (CC0)' and len(row['checkpoint']) == len(row['config']) == 12
        assert row['mpjpe_mm'] < truth.TOLERANCE_MM
    assert {row['protocol'] for row in rows} == {
        'synthetic', 'human36m-like (open_body)', 'pw3d-like (open_body)', 'mpi_inf_3dhp-like (open_body)',
    }  # fmt: skip
    # 'raw' and 'ema' are one number here, 'tail' another
    assert len({row['checkpoint'] for row in rows}) == 2
    assert result['constant_prediction']['pw3d']['mpjpe_mm'] > 50
    folder = tmp_path / 'run'
    assert json.loads((folder / 'evaluation.json').read_text()) == json.loads(json.dumps(result))
    with open(folder / 'evaluation.csv') as file:
        assert len(list(csv.DictReader(file))) == len(result['rows']) + len(result['constant_prediction'])
    printed = capsys.readouterr().out
    assert 'human36m-like (open_body)' in printed and re.search(r'\|\s+MPJPE \(mm\) \|', printed)
    assert 'action 1' in (folder / 'evaluation.md').read_text() and 'action 1' not in printed


def test_a_tail_average_that_has_not_begun_is_left_out(evaluated, caplog):
    with caplog.at_level('INFO'):
        rows = evaluated(tail_count=0)['rows']
    assert {row['parameters'] for row in rows} == {'raw', 'ema'}
    assert 'tail average has not begun at step 7' in caplog.text


def test_published_names_are_refused_before_anything_is_computed(evaluated, monkeypatch):
    monkeypatch.setattr(evaluate, 'measure_split', lambda *unused, **unused_too: pytest.fail('was computed'))
    with pytest.raises(ValueError, match="'pw3d' is a published protocol.*allow_other_body=True"):
        evaluated(evaluation__datasets=('synthetic', 'pw3d'))


def test_some_variants_and_a_root_file_for_each_dataset(evaluated, people, tmp_path):
    for name in ('synthetic', 'custom'):
        (truth.roots_file(tmp_path, truth.records(people, name)).path).rename(tmp_path / f'{name}.json')
    result = evaluated(
        evaluation__datasets=('synthetic', 'custom'),
        evaluation__root='predicted',
        evaluation__root_file=str(tmp_path / '{dataset}.json'),
        evaluation__parameters=('ema',),
        evaluation__flips=(True,),
    )
    rows = [row for row in result['rows'] if row['group'] == 'all']
    assert [(row['dataset'], row['parameters'], row['flip_test']) for row in rows] == [
        ('synthetic', 'ema', True), ('custom', 'ema', True),
    ]  # fmt: skip
    assert rows[1]['root'].startswith('predicted (custom.json ') and rows[1]['mrpe_mm'] < 0.001


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'root': 'predicted'}, "root='predicted' needs roots .*root_file=FILE"),
        ({'root_file': 'a.json'}, 'would not be used: add --config.evaluation.root=predicted'),
        ({'root': 'rootnet'}, "evaluation.root='rootnet' should be 'annotation'"),
        ({'flips': ()}, 'evaluation.flips'),
        ({'parameters': ('raw', 'best')}, 'evaluation.parameters'),
        ({'datasets': ('pw3d', 'pw3d')}, 'evaluation.datasets'),
        ({'box_enlargement': 0.0}, 'box_enlargement=0.0 should be greater than 0'),
        ({'constant_examples': -1}, 'constant_examples=-1'),
    ],
)
def test_settings_that_cannot_work(tmp_path, overrides, message):
    config = helpers.tiny_config(tmp_path, tmp_path, **{f'evaluation__{k}': v for k, v in overrides.items()})
    with pytest.raises(ValueError, match=message):
        configuration.check(config, devices=1, hosts=1)


def test_a_missing_root_file_is_named(evaluated):
    with pytest.raises(FileNotFoundError, match='nowhere.json is no file, a root file is one'):
        evaluated(evaluation__root='predicted', evaluation__root_file='nowhere.json')


def test_validation_errors_of_a_split(body, people):
    """What training watches, with frames that have no 3D labels among them."""
    source = truth.records(people, 'synthetic')
    for weight in ('h36m_weight', 'joints_weight'):
        source[1][weight] = np.zeros_like(source[1][weight])
    options = {'batch_size': truth.PEOPLE, 'crop_size': helpers.CROP_SIZE}
    frames = evaluate.measure_split({'': truth.predictor(body)}, source, **options)['']
    errors = evaluate.errors_mm(frames)
    assert {m: len(e) for m, e in errors.items()} == {
        'mpjpe_mm': 3,
        'pa_mpjpe_mm': 3,
        'mpjpe_24_mm': 3,
        'pve_mm': 4,
    }
    assert all(e.max() < truth.TOLERANCE_MM for e in errors.values())
