"""The truth, said in a network's own words, scores 0 under every protocol; a planted error scores what it is.

Records, crops, camera, inverse kinematics, skinning and scoring are those of the evaluation.
"""

import csv
import functools
import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax import config as configuration
from hybrik_jax import evaluate, inference, setup, step
from hybrik_jax.body import ik, rotations, skeleton, smpl, smpl_file
from hybrik_jax.data import record
from hybrik_jax.scoring import protocols, roots_and_boxes, table
from hybrik_jax.types import Batch, Lifted, Measured, Posed
from hybrik_jax.units import DEPTH_SCALE_M
from tests import helpers

PEOPLE = 4
MM = 1000.0
# float32 all the way (4 m away, 29 joints, 6890 vertices): hundredths of a millimetre
TOLERANCE_MM = 0.05
DATASETS = ('synthetic', 'human36m', 'pw3d', 'mpi_inf_3dhp')


@pytest.fixture(scope='module')
def body() -> smpl.SMPL:
    return smpl_file.load_body()


@pytest.fixture(scope='module')
def people(body) -> dict[str, np.ndarray]:
    """Posed people upright before the camera: pose, betas, and in metres joints, Human3.6M joints,
    vertices.
    """
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(PEOPLE, 10)).astype(np.float32)
    pose = rng.normal(0, 0.3, (PEOPLE, 24, 3))
    headings = Rotation.from_euler('y', rng.uniform(-3, 3, (PEOPLE, 1))) * Rotation.from_rotvec(pose[:, 0])
    pose[:, 0] = (Rotation.from_rotvec([np.pi, 0, 0]) * headings).as_rotvec()

    @jax.jit
    def posed(body, betas, pose):
        def one(betas, pose):
            matrices = jax.vmap(rotations.axis_angle_to_matrix)(pose)
            skinned = smpl.skin(body, betas, matrices)
            leaves = skinned.vertices[jnp.asarray(body.leaf_vertices)]
            return {
                'joints': jnp.concatenate([skinned.joints, leaves]) - skinned.joints[0],
                'h36m': skinned.h36m_joints - skinned.h36m_joints[0],
                'vertices': skinned.vertices - skinned.joints[0],
                'pelvis': skinned.h36m_joints[0] - skinned.joints[0],
                'twists': ik.pose_to_twists(matrices, smpl.rest_joints(body, betas)),
            }

        return jax.vmap(one)(betas, pose)

    made = posed(body, betas, jnp.asarray(pose, jnp.float32))
    return {key: np.array(value) for key, value in made.items()} | {
        'betas': betas,
        'pose': pose.astype(np.float32),
    }


def records(people, dataset: str, root_offset_m=(0.0, 0.0, 0.0)) -> list[dict]:
    """Returns the people as records of a dataset; their annotated root is joint 0 moved by
    `root_offset_m`.
    """
    rng = np.random.default_rng(1)
    made = []
    for k in range(PEOPLE):
        joint_0 = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), rng.uniform(3.5, 4.5)])
        camera = people['joints'][k] + joint_0
        focal, centre = np.array([270.0, 280.0]), np.array([132.0, 89.0])
        pixels = camera[:, :2] / camera[:, 2:] * focal + centre
        box = np.clip([*(pixels.min(0) - 5), *(pixels.max(0) + 5)], 0, [229, 199] * 2)
        has_smpl = dataset != 'mpi_inf_3dhp'
        changes = {
            'box': box,
            'focal': focal,
            'centre': centre,
            'joints_px': np.concatenate([pixels, people['joints'][k][:, 2:]], 1),
            'joints_m': people['joints'][k],
            'h36m_joints_m': people['h36m'][k],
            'root_m': joint_0 + root_offset_m,
            'pose': people['pose'][k],
            'betas': people['betas'][k],
            'twists': people['twists'][k],
            'smpl_weight': float(has_smpl),
        }
        texts = {
            'name': f'{dataset}/test/TS{k // 2 + 1}/{k:06d}'.encode(),
            'dataset': dataset.encode(),
            'sequence': f'TS{k // 2 + 1}'.encode(),
            'action': str(1 + k % 2).encode(),
        }
        one = helpers.person(k, **changes) | texts
        record.check(one)
        made.append(one)
    return made


def lifted_from_batch(batch: Batch, *, joints_m: np.ndarray | None = None, count: int = 24) -> Lifted:
    """Returns the labels of a batch as what a faultless network would say, from the batch alone (float64).

    How far away a person is comes from the labelled pixels and root-relative joints; with it, pixels and
    depth relative to the root in use give back the joints, wherever that root is.

    Args:
        joints_m: (B, 24, 3) other joints to say, relative to joint 0; `count` of 29 would need the leaves
            too.
        count: 24, with leaf rotations, or 29 joints.
    """
    crop_size = batch.image.shape[1]
    assert (np.asarray(batch.uvd_weight) == 1).all(), 'a joint outside of the crop has no label'
    lifted = []
    for k in range(len(batch.image)):
        affine = np.asarray(batch.crop.crop_to_photo[k], np.float64)
        inverse_camera = np.asarray(batch.crop.inverse_intrinsics[k], np.float64)
        uvd = np.asarray(batch.uvd[k], np.float64)
        photo = (uvd[:, :2] + 0.5) * crop_size @ affine[:, :2].T + affine[:, 2]
        rays = np.concatenate([photo, np.ones((29, 1))], 1) @ inverse_camera.T
        depth = DEPTH_SCALE_M * uvd[:, 2]
        # ray_i (distance + depth_i) - ray_0 distance = joint_i, in x and y
        labelled = np.asarray(batch.joints_m[k], np.float64)
        unknown = (rays[:24] - rays[0])[:, :2].ravel()
        known = (labelled - rays[:24] * depth[:24, None])[:, :2].ravel()
        distance = unknown @ known / (unknown @ unknown)
        camera = rays * (distance + depth)[:, None]
        if joints_m is not None:
            camera[:24] = rays[0] * distance + joints_m[k]
        on_photo = (camera / camera[:, 2:]) @ np.linalg.inv(inverse_camera).T
        on_crop = (on_photo[:, :2] - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
        d = (camera[:, 2:] - float(batch.crop.root_m[k][2])) / DEPTH_SCALE_M
        lifted.append(np.concatenate([on_crop / crop_size - 0.5, d], 1)[:count])
    leaves = np.asarray(batch.quaternions)[:, list(skeleton.LEAF_JOINTS)] if count == 24 else None
    return Lifted(
        uvd=np.asarray(lifted, np.float32),
        twists=np.asarray(batch.twists),
        leaf_quaternions=leaves,
        betas=np.asarray(batch.betas),
    )


@functools.cache
def network(crop_size: int = helpers.CROP_SIZE) -> inference.Network:
    """The forward pass without a network: what is said is made by hand."""
    return inference.Network(
        model=None,
        image_size=crop_size,
        image_mean=(0.0,) * 3,
        image_std=(1.0,) * 3,
        init_betas=np.zeros(10),
        right_hand='leaf',
    )


@jax.jit
def _posed(lifted: Lifted, batch: Batch, body) -> tuple[Posed, Measured]:
    posed = inference.pose(lifted, batch.crop, body, network=network())
    return posed, step.measure(posed, batch, body)


def predictor(body, *, turn: np.ndarray | None = None, count: int = 24):
    """Returns an evaluation step, batch -> outputs with device axis, that knows the truth, turned by
    `turn`.
    """

    def predict(batch: Batch) -> Measured:
        devices = batch.image.shape[0]
        flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), batch)
        joints = None if turn is None else np.asarray(flat.joints_m, np.float64) @ turn.T
        lifted = lifted_from_batch(flat, joints_m=joints, count=count)
        _, measured = _posed(lifted, flat, body)
        return jax.tree.map(lambda x: np.asarray(x).reshape(devices, -1, *x.shape[1:]), measured)

    return predict


def score(predict, source, dataset, **options):
    rows, _ = evaluate.score_split(
        {('ema', False): predict},
        source,
        protocols.PROTOCOLS[dataset],
        batch_size=PEOPLE,
        crop_size=helpers.CROP_SIZE,
        **options,
    )
    return rows


def roots_file(tmp_path, source, offset_mm=(0.0, 0.0, 0.0)) -> roots_and_boxes.Found:
    path = tmp_path / 'roots.json'
    roots = {r['name'].decode(): (MM * r['root_m'] + offset_mm).astype(float).tolist() for r in source}
    path.write_text(json.dumps(roots))
    return roots_and_boxes.Found(path, 'root')


def assert_faultless(rows, dataset):
    for row in rows:
        assert set(protocols.PROTOCOLS[dataset].measures) <= row.keys()
        for measure in protocols.PROTOCOLS[dataset].measures:
            if measure.startswith('pck'):
                assert row[measure] == 100
            elif measure.startswith('auc'):
                assert row[measure] == pytest.approx(100 * 30 / 31)
            else:
                assert row[measure] < TOLERANCE_MM, (row['over'], measure)


@pytest.mark.parametrize('dataset', DATASETS)
def test_annotated_root(body, people, dataset):
    rows = score(predictor(body), records(people, dataset), dataset)
    assert_faultless(rows, dataset)
    assert rows[0]['root'] == 'annotation' and rows[0]['box'] == 'annotated' and 'mrpe_mm' not in rows[0]
    groups = {'mpi_inf_3dhp': 1 + 2 + 2, 'human36m': 1 + 1 + 2, 'synthetic': 1 + 2, 'pw3d': 1}
    assert len(rows) == groups[dataset]


@pytest.mark.parametrize('dataset', DATASETS)
def test_annotated_root_beside_joint_0(body, people, dataset):
    """As in the published files: the annotation's root is some centimetres from joint 0."""
    rows = score(predictor(body), records(people, dataset, (0.02, -0.03, 0.04)), dataset)
    assert_faultless(rows, dataset)


@pytest.mark.parametrize('dataset', DATASETS)
def test_root_file(body, people, dataset, tmp_path):
    source = records(people, dataset)
    rows = score(predictor(body), source, dataset, roots=roots_file(tmp_path, source))
    assert_faultless(rows, dataset)
    assert all(row['mrpe_mm'] < 0.001 and row['root'].startswith('predicted (roots.json') for row in rows)


def test_root_file_that_is_off(body, people, tmp_path):
    """MRPE is what was planted; the rest does not suffer from a predictor that says depths from that root."""
    source = records(people, 'pw3d')
    rows = score(predictor(body), source, 'pw3d', roots=roots_file(tmp_path, source, (30.0, -40.0, 120.0)))
    assert_faultless(rows, 'pw3d')
    assert rows[0]['mrpe_mm'] == pytest.approx(130, abs=1e-3)
    assert [rows[0][f'mrpe_{axis}_mm'] for axis in 'xyz'] == pytest.approx([30, 40, 120], abs=1e-3)


def test_a_wrong_distance_scales_what_the_labels_say(body, people, tmp_path):
    """A predictor of depths from joint 0, placed 200 mm too far: ray_i (z_i + 0.2) - ray_0 (z_0 + 0.2)."""
    source = records(people, 'pw3d')
    roots = roots_file(tmp_path, source, (0.0, 0.0, 200.0))

    said = []

    def predict(batch: Batch) -> Measured:
        flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), batch)
        lifted = lifted_from_batch(flat)
        lifted = lifted.replace(uvd=np.asarray(flat.uvd)[:, :24])
        posed, measured = _posed(lifted, flat, body)
        said.append(np.asarray(posed.lifted_joints_m))
        return jax.tree.map(lambda x: np.asarray(x)[None], measured)

    options = {'batch_size': PEOPLE, 'crop_size': helpers.CROP_SIZE, 'roots': roots}
    frames = evaluate.measure_split({0: predict}, source, **options)[0]
    camera = frames.true_joints_m + frames.true_root_m[:, None]
    rays = camera / camera[..., 2:]
    wanted = frames.true_joints_m + 0.2 * (rays - rays[:, :1])
    np.testing.assert_allclose(np.concatenate(said)[: len(frames)], wanted, atol=2e-5)


def test_29_joints_without_leaf_rotations(body, people):
    assert_faultless(score(predictor(body, count=29), records(people, 'pw3d'), 'pw3d'), 'pw3d')


@pytest.mark.parametrize('dataset', DATASETS)
def test_turned_people_score_the_turn(body, people, dataset):
    """The whole person turned about joint 0: every joint and vertex is off by what the turn moves it; PA is
    0.
    """
    turn = Rotation.from_euler('xyz', [5, -12, 8], degrees=True).as_matrix()
    protocol = protocols.PROTOCOLS[dataset]
    row = score(predictor(body, turn=turn), records(people, dataset), dataset)[0]

    def moved(points):
        return MM * np.linalg.norm(points @ turn.T - points, axis=-1)

    h36m = moved(people['h36m'])
    wanted = {'mpjpe_mm': h36m[:, list(protocol.h36m_joints)].mean(), 'pa_mpjpe_mm': 0}
    wanted |= {
        'mpjpe_24_mm': moved(people['joints'][:, :24]).mean(),
        'pve_mm': moved(people['vertices']).mean(),
    }
    for measure, value in wanted.items():
        if measure in protocol.measures:
            assert row[measure] == pytest.approx(value, abs=TOLERANCE_MM), measure
    assert wanted['mpjpe_mm'] > 50
    if dataset == 'mpi_inf_3dhp':
        expected = protocols.mpi_percentages(h36m / MM)
        assert {m: row[m] for m in expected} == pytest.approx(expected, abs=0.5)


def test_detected_boxes(body, people, tmp_path):
    source = records(people, 'pw3d')
    boxes = {}
    for one in source:
        x0, y0, x1, y1 = (float(v) for v in one['box'])
        boxes[one['name'].decode()] = [x0 + 3, y0 + 2, x1 - x0 + 5, y1 - y0 - 3]
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps(boxes))
    rows = score(
        predictor(body), source, 'pw3d', boxes=roots_and_boxes.Found(path, 'box'), box_enlargement=1.5
    )
    assert_faultless(rows, 'pw3d')
    assert rows[0]['box'].startswith('detected (boxes.json') and rows[0]['box'].endswith('x 1.5')
    del boxes['pw3d/test/TS1/000001']
    path.write_text(json.dumps(boxes))
    with pytest.raises(ValueError, match="no box for record 'pw3d/test/TS1/000001'"):
        score(predictor(body), source, 'pw3d', boxes=roots_and_boxes.Found(path, 'box'))


def test_every_record_is_read_once(body, people):
    read = []

    class Source(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    variants = {('raw', False): predictor(body), ('ema', False): predictor(body)}
    rows, frames = evaluate.score_split(
        variants,
        Source(records(people, 'pw3d')[:3]),
        protocols.PROTOCOLS['pw3d'],
        batch_size=PEOPLE,
        crop_size=helpers.CROP_SIZE,
    )
    assert (
        sorted(read) == [0, 1, 2]
        and len(frames) == 3
        and [row['parameters'] for row in rows] == ['raw', 'ema']
    )
    assert list(frames.names) == [f'pw3d/test/TS{k // 2 + 1}/{k:06d}' for k in range(3)]


def test_predictions_that_are_not_finite_name_the_record(body, people):
    perfect = predictor(body)

    def predict(batch):
        measured = perfect(batch)
        joints_m = np.array(measured.posed_joints_m)
        joints_m[0, 2, 5] = np.nan
        return measured.replace(posed_joints_m=joints_m)

    with pytest.raises(ValueError, match="record 'pw3d/test/TS2/000002': joints_m is not finite"):
        score(predict, records(people, 'pw3d'), 'pw3d')


# ---- the whole evaluation
@pytest.fixture
def evaluated(body, people, tmp_path, monkeypatch):
    """Returns a function that runs `evaluate` with a network that knows the truth."""

    def run(tail_count=5, **overrides):
        config = helpers.tiny_config(tmp_path / 'run', tmp_path, evaluation__batch_size=PEOPLE, **overrides)
        state = types.SimpleNamespace(
            step=7,
            tail_count=tail_count,
            parameters=lambda which: {'params': np.full(3, len(which), np.float32)},
        )

        def perfect_step(*, network, flip):
            return lambda variables, body_on_device, batch: predictor(body)(batch)

        monkeypatch.setattr(evaluate, 'parallel_eval_step', perfect_step)
        monkeypatch.setattr(setup, 'open_source', lambda config, name, split, body: records(people, name))
        monkeypatch.setattr(setup, 'create_network', lambda *unused: None)
        return evaluate.evaluate(config, state)

    return run


def test_one_command_for_all_datasets(evaluated, tmp_path, capsys):
    result = evaluated(evaluation__datasets=DATASETS, evaluation__allow_other_body=True)
    rows = [row for row in result['rows'] if row['group'] == 'all']
    assert len(rows) == len(DATASETS) * 3 * 2
    for row in rows:
        assert set(table.PROTOCOL) <= row.keys() and row['frames'] == PEOPLE
        assert row['body_model'] == 'open_body (CC0)' and len(row['checkpoint']) == len(row['config']) == 12
        assert row['mpjpe_mm'] < TOLERANCE_MM
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
        (roots_file(tmp_path, records(people, name)).path).rename(tmp_path / f'{name}.json')
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
        ({'root': 'rootnet'}, "evaluation.root='rootnet': choose 'annotation'"),
        ({'flips': ()}, 'evaluation.flips'),
        ({'parameters': ('raw', 'best')}, 'evaluation.parameters'),
        ({'datasets': ('pw3d', 'pw3d')}, 'evaluation.datasets'),
        ({'box_enlargement': 0.0}, 'box_enlargement=0.0 must be positive'),
        ({'constant_examples': -1}, 'constant_examples=-1'),
    ],
)
def test_settings_that_cannot_work(tmp_path, overrides, message):
    config = helpers.tiny_config(tmp_path, tmp_path, **{f'evaluation__{k}': v for k, v in overrides.items()})
    with pytest.raises(ValueError, match=message):
        configuration.check(config, devices=1, hosts=1)


def test_a_missing_root_file_is_named(evaluated):
    with pytest.raises(FileNotFoundError, match='no root file'):
        evaluated(evaluation__root='predicted', evaluation__root_file='nowhere.json')


def test_validation_errors_of_a_split(body, people):
    """What training watches, with frames that have no 3D labels among them."""
    source = records(people, 'synthetic')
    for weight in ('h36m_weight', 'joints_weight'):
        source[1][weight] = np.zeros_like(source[1][weight])
    options = {'batch_size': PEOPLE, 'crop_size': helpers.CROP_SIZE}
    frames = evaluate.measure_split({'': predictor(body)}, source, **options)['']
    errors = evaluate.errors_mm(frames)
    assert {m: len(e) for m, e in errors.items()} == {
        'mpjpe_mm': 3,
        'pa_mpjpe_mm': 3,
        'mpjpe_24_mm': 3,
        'pve_mm': 4,
    }
    assert all(e.max() < TOLERANCE_MM for e in errors.values())
