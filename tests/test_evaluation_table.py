"""What is written of an evaluation: table, files, report, hashes."""

import csv
import io
import json

import numpy as np
import pytest

from hybrik_jax import config as configuration
from hybrik_jax import evaluate
from hybrik_jax.body import skeleton
from hybrik_jax.catalogue import DATASETS
from hybrik_jax.scoring import protocols, table
from hybrik_jax.units import MM_PER_M
from hybrik_jax.view import report
from tests import helpers
from tests.frames import truth, uneven
from tools import report as run_report


def evaluation() -> dict:
    rows = []
    for name in ('human36m', 'mpi_inf_3dhp'):
        for flip in (False, True):
            for row in protocols.score(uneven(), DATASETS[name].protocol, root_is_annotation=False):
                said = {
                    'dataset': name,
                    'protocol': f'{name}-like (open_body)',
                    'joints': DATASETS[name].protocol.joints,
                    'root': 'predicted (r.json 01234567)',
                    'box': 'annotated',
                    'flip_test': flip,
                    'parameters': 'ema',
                    'body_model': 'open_body (CC0)',
                    'gender': 'neutral',
                    'checkpoint': 'abc',
                    'config': 'def',
                }
                rows.append(said | row)
    return {
        'step': 3,
        'tail_updates': 0,
        'rows': rows,
        'constant_prediction': {'human36m': {'mpjpe_mm': 340.04, 'pa_mpjpe_mm': 200.0}},
        'protocol': protocols.explanations(rows),
    }


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip('|').split('|')]


def test_the_table_carries_the_protocol_and_bare_numbers():
    text = table.markdown(evaluation())
    main = text.split('\n\n')[0].splitlines()
    header = cells(main[0])
    assert header[: len(table.PROTOCOL)] == list(table.PROTOCOL.values())
    rows = [dict(zip(header, cells(line), strict=True)) for line in main[2:]]
    assert [row['over'] for row in rows] == ['all frames', 'mean of 3 actions'] * 2 + ['all frames'] * 3
    for row in rows[:-1]:
        assert all(row[name] for name in table.PROTOCOL.values())
        assert all(row[name] == '' or float(row[name]) >= 0 for name in header[len(table.PROTOCOL) :])
    assert (
        rows[0]['MPJPE (mm)'] == '22.7' and rows[1]['MPJPE (mm)'] == '31.0' and rows[0]['AUC (percent)'] == ''
    )
    assert [row['flip test'] for row in rows[:3]] == ['no', 'no', 'yes']
    assert rows[-1]['parameters'] == 'constant prediction' and rows[-1]['MPJPE (mm)'] == '340.0'
    assert (
        'mpi_inf_3dhp, by sequence' in text
        and 'action Miscell' in text
        and 'the right arm is left out' in text
    )
    assert 'action' not in table.markdown(evaluation(), details=False).split('Protocol.')[0].replace(
        '3 actions', ''
    )


def test_files_that_are_written(tmp_path):
    wanted = evaluation()
    table.write(wanted, tmp_path)
    assert json.loads((tmp_path / 'evaluation.json').read_text()) == json.loads(json.dumps(wanted))
    assert (tmp_path / 'evaluation.md').read_text() == table.markdown(wanted)
    rows = list(csv.DictReader(io.StringIO((tmp_path / 'evaluation.csv').read_text())))
    assert len(rows) == len(wanted['rows']) + 1
    for got, row in zip(rows, wanted['rows'], strict=False):
        assert got['protocol'] == row['protocol'] and got['over'] == row['over']
        assert float(got['mpjpe_mm']) == pytest.approx(row['mpjpe_mm'], abs=1e-4)
        assert (got['pck_3dhp'] == '') == ('pck_3dhp' not in row)
    wanted['rows'][0]['mpjpe_mm'] = float('nan')
    with pytest.raises(ValueError, match='human36m, all frames: mpjpe_mm is not finite'):
        table.write(wanted, tmp_path)


def test_the_report_shows_each_dataset_with_its_protocol(tmp_path):
    wanted = evaluation()
    for row in wanted['rows']:
        row['checkpoint'] = '12345e678901'  # text, although it reads like a number
    page = report.write_report(tmp_path / 'report.html', title='t', evaluation=wanted).read_text()
    assert '22.7 mm' in page and 'lowest MPJPE (human36m, ema)' in page and '7%' in page
    assert page.count('<h3>human36m</h3>') == page.count('<h3>mpi_inf_3dhp</h3>') == 1
    assert page.count('root: predicted (r.json 01234567)') == 2 and '12345e678901' in page
    assert 'mean of 3 actions' in page and 'action 1<' not in page and 'constant prediction' in page
    config = {'data': {'mixture': {'synthetic': 1.0}}, 'pretrained': {'backbone': 'x'}}
    notes = run_report.honest_notes(config, wanted, None, [])
    assert any(
        '22.7 mm (human36m, ema parameters, without flip test), is 6.7% of the 340.0 mm' in n for n in notes
    )
    assert any(
        note.startswith('human36m-like (open_body), mpi_inf_3dhp-like (open_body): scored') for note in notes
    )


def test_frames_with_fewer_labels_are_told():
    wanted = evaluation()
    wanted['rows'][0]['frames_of'] = {'mpjpe_mm': 7}
    assert 'human36m, MPJPE (mm): 7 of 12 frames have the label.' in table.markdown(wanted)


def test_hashes_are_of_the_content():
    arrays = {'params': {'a': np.arange(6.0), 'b': np.zeros((2, 3))}}
    same = {'params': {'b': np.zeros((2, 3)), 'a': np.arange(6.0)}}
    assert evaluate.checkpoint_hash(arrays) == evaluate.checkpoint_hash(same)
    for other in (np.arange(6.0) + 1e-12, np.arange(6.0, dtype=np.float32), np.arange(6.0).reshape(2, 3)):
        changed = {'params': {**arrays['params'], 'a': other}}
        assert evaluate.checkpoint_hash(changed) != evaluate.checkpoint_hash(arrays)
    config = {
        'workdir': 'a',
        'data': {'root': 'x', 'mixture': {'coco': 0.5}},
        'evaluation': {'root': 'annotation'},
    }
    moved = {'evaluation': {}, 'data': {'mixture': {'coco': 0.5}, 'root': 'y'}, 'workdir': 'b'}
    assert configuration.digest(config) == configuration.digest(moved)
    assert configuration.digest(config) != configuration.digest(
        {**config, 'data': {'mixture': {'coco': 0.4}}}
    )
    assert len(configuration.digest(config)) == len(evaluate.checkpoint_hash(arrays)) == 12


def test_constant_prediction_is_the_mean_of_the_labelled():
    frames = truth()
    train = [helpers.person(seed) for seed in range(3)] + [helpers.without_3d(helpers.person(3))]
    mean = np.mean([person['h36m_joints_m'] for person in train[:3]], 0)
    figures = evaluate.constant_prediction(train, frames, DATASETS['pw3d'].protocol)
    fourteen = list(skeleton.EVALUATION_JOINTS_14)
    wanted = np.linalg.norm(mean - frames.true_h36m_joints_m, axis=-1)[:, fourteen].mean()
    assert figures['mpjpe_mm'] == pytest.approx(MM_PER_M * wanted) and 'pve_mm' not in figures
    assert set(evaluate.constant_prediction(train, frames, DATASETS['mpi_inf_3dhp'].protocol)) >= {'pck_3dhp'}
    assert evaluate.constant_prediction(train[3:], frames, DATASETS['pw3d'].protocol) == {}
