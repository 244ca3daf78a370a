"""The truth, said in a network's own words, scores 0 under every protocol; a planted error scores what it is.

Records, crops, camera, inverse kinematics, skinning and scoring are those of the evaluation.
"""

import json

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax import catalogue, evaluate
from hybrik_jax.scoring import protocols, roots_and_boxes
from hybrik_jax.types import Batch, Measured
from hybrik_jax.units import MM_PER_M
from tests import helpers, truth


@pytest.fixture(scope='module')
def people(body) -> dict[str, np.ndarray]:
    return truth.pose_people(body)


@pytest.mark.parametrize('dataset', truth.DATASETS)
def test_annotated_root(body, people, dataset):
    rows = truth.score(truth.predictor(body), truth.records(people, dataset), dataset)
    truth.assert_faultless(rows, dataset)
    assert rows[0]['root'] == 'annotation' and rows[0]['box'] == 'annotated' and 'mrpe_mm' not in rows[0]
    groups = {'mpi_inf_3dhp': 1 + 2 + 2, 'human36m': 1 + 1 + 2, 'synthetic': 1 + 2, 'pw3d': 1}
    assert len(rows) == groups[dataset]


@pytest.mark.parametrize('dataset', truth.DATASETS)
def test_annotated_root_beside_joint_0(body, people, dataset):
    """As in the published files: the annotation's root is some centimetres from joint 0."""
    rows = truth.score(truth.predictor(body), truth.records(people, dataset, (0.02, -0.03, 0.04)), dataset)
    truth.assert_faultless(rows, dataset)


@pytest.mark.parametrize('dataset', truth.DATASETS)
def test_root_file(body, people, dataset, tmp_path):
    source = truth.records(people, dataset)
    rows = truth.score(truth.predictor(body), source, dataset, roots=truth.roots_file(tmp_path, source))
    truth.assert_faultless(rows, dataset)
    assert all(row['mrpe_mm'] < 0.001 and row['root'].startswith('predicted (roots.json') for row in rows)


def test_root_file_that_is_off(body, people, tmp_path):
    """MRPE is what was planted; the rest does not suffer from a truth.predictor that says depths from that
    root."""
    source = truth.records(people, 'pw3d')
    rows = truth.score(
        truth.predictor(body), source, 'pw3d', roots=truth.roots_file(tmp_path, source, (30.0, -40.0, 120.0))
    )
    truth.assert_faultless(rows, 'pw3d')
    assert rows[0]['mrpe_mm'] == pytest.approx(130, abs=1e-3)
    assert [rows[0][f'mrpe_{axis}_mm'] for axis in 'xyz'] == pytest.approx([30, 40, 120], abs=1e-3)


def test_a_wrong_distance_scales_what_the_labels_say(body, people, tmp_path):
    """A truth.predictor of depths from joint 0, placed 200 mm too far: ray_i (z_i + 0.2) - ray_0 (z_0 +
    0.2)."""
    source = truth.records(people, 'pw3d')
    roots = truth.roots_file(tmp_path, source, (0.0, 0.0, 200.0))

    said = []

    def predict(batch: Batch) -> Measured:
        flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), batch)
        lifted = truth.lifted_from_batch(flat)
        lifted = lifted.replace(uvd=np.asarray(flat.uvd)[:, :24])
        posed, measured = truth.pose_and_measure(lifted, flat, body)
        said.append(np.asarray(posed.lifted_joints_m))
        return jax.tree.map(lambda x: np.asarray(x)[None], measured)

    options = {'batch_size': truth.PEOPLE, 'crop_size': helpers.CROP_SIZE, 'roots': roots}
    frames = evaluate.measure_split({0: predict}, source, **options)[0]
    camera = frames.true_joints_m + frames.true_root_m[:, None]
    rays = camera / camera[..., 2:]
    wanted = frames.true_joints_m + 0.2 * (rays - rays[:, :1])
    np.testing.assert_allclose(np.concatenate(said)[: len(frames)], wanted, atol=2e-5)


def test_29_joints_without_leaf_rotations(body, people):
    truth.assert_faultless(
        truth.score(truth.predictor(body, count=29), truth.records(people, 'pw3d'), 'pw3d'), 'pw3d'
    )


@pytest.mark.parametrize('dataset', truth.DATASETS)
def test_turned_people_score_the_turn(body, people, dataset):
    """The whole person turned about joint 0: every joint and vertex is off by what the turn moves it; PA is
    0.
    """
    turn = Rotation.from_euler('xyz', [5, -12, 8], degrees=True).as_matrix()
    protocol = catalogue.DATASETS[dataset].protocol
    row = truth.score(truth.predictor(body, turn=turn), truth.records(people, dataset), dataset)[0]

    def moved(points):
        return MM_PER_M * np.linalg.norm(points @ turn.T - points, axis=-1)

    h36m = moved(people['h36m'])
    wanted = {'mpjpe_mm': h36m[:, list(protocol.h36m_joints)].mean(), 'pa_mpjpe_mm': 0}
    wanted |= {
        'mpjpe_24_mm': moved(people['joints'][:, :24]).mean(),
        'pve_mm': moved(people['vertices']).mean(),
    }
    for measure, value in wanted.items():
        if measure in protocol.measures:
            assert row[measure] == pytest.approx(value, abs=truth.TOLERANCE_MM), measure
    assert wanted['mpjpe_mm'] > 50
    if dataset == 'mpi_inf_3dhp':
        expected = protocols.mpi_percentages(h36m / MM_PER_M)
        assert {m: row[m] for m in expected} == pytest.approx(expected, abs=0.5)


def test_detected_boxes(body, people, tmp_path):
    source = truth.records(people, 'pw3d')
    boxes = {}
    for one in source:
        x0, y0, x1, y1 = (float(v) for v in one['box'])
        boxes[one['name'].decode()] = [x0 + 3, y0 + 2, x1 - x0 + 5, y1 - y0 - 3]
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps(boxes))
    rows = truth.score(
        truth.predictor(body), source, 'pw3d', boxes=roots_and_boxes.Found(path, 'box'), box_enlargement=1.5
    )
    truth.assert_faultless(rows, 'pw3d')
    assert rows[0]['box'].startswith('detected (boxes.json') and rows[0]['box'].endswith('x 1.5')
    del boxes['pw3d/test/TS1/000001']
    path.write_text(json.dumps(boxes))
    with pytest.raises(ValueError, match="no box for record 'pw3d/test/TS1/000001'"):
        truth.score(truth.predictor(body), source, 'pw3d', boxes=roots_and_boxes.Found(path, 'box'))


def test_every_record_is_read_once(body, people):
    read = []

    class Source(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    variants = {('raw', False): truth.predictor(body), ('ema', False): truth.predictor(body)}
    rows, frames = evaluate.score_split(
        variants,
        Source(truth.records(people, 'pw3d')[:3]),
        catalogue.DATASETS['pw3d'].protocol,
        batch_size=truth.PEOPLE,
        crop_size=helpers.CROP_SIZE,
    )
    assert (
        sorted(read) == [0, 1, 2]
        and len(frames) == 3
        and [row['parameters'] for row in rows] == ['raw', 'ema']
    )
    assert list(frames.names) == [f'pw3d/test/TS{k // 2 + 1}/{k:06d}' for k in range(3)]


def test_predictions_that_are_not_finite_name_the_record(body, people):
    perfect = truth.predictor(body)

    def predict(batch):
        measured = perfect(batch)
        joints_m = np.array(measured.posed_joints_m)
        joints_m[0, 2, 5] = np.nan
        return measured.replace(posed_joints_m=joints_m)

    with pytest.raises(ValueError, match="record 'pw3d/test/TS2/000002' has joints_m that is not finite"):
        truth.score(predict, truth.records(people, 'pw3d'), 'pw3d')
