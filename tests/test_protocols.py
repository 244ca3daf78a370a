"""Protocols by numbers alone: faultless and planted predictions, groups, roots, boxes, refusals, what is
written.
"""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax import evaluate
from hybrik_jax.body import skeleton, smpl
from hybrik_jax.data import record
from hybrik_jax.scoring import protocols, roots_and_boxes
from hybrik_jax.view import report
from tests import helpers
from tools import report as run_report

MM = 1000.0
GROUP_JOINTS = [joint for group in protocols.MPI_GROUPS for joint in group]
EVERY = ('synthetic', 'human36m', 'pw3d', 'mpi_inf_3dhp')
SEQUENCES, ACTIONS = ('TS1', 'TS2', 'TS6'), ('1', '3', '7')


def truth(count: int = 12, seed: int = 0) -> protocols.Frames:
    """Returns frames whose prediction is the truth; groups of 6, 4 and 2 frames."""
    rng = np.random.default_rng(seed)
    joints, h36m = rng.normal(0, 0.4, (count, 24, 3)), rng.normal(0, 0.4, (count, 17, 3))
    joints -= joints[:, :1]
    h36m -= h36m[:, :1]
    root = rng.normal([0.0, 0.0, 4.0], 0.3, (count, 3))
    group = np.repeat([0, 1, 2], [6, 4, 2])
    return protocols.Frames(
        names=[f'x/test/{k:03d}' for k in range(count)],
        sequences=[SEQUENCES[g] for g in group],
        actions=[ACTIONS[g] for g in group],
        joints_m=joints,
        true_joints_m=joints,
        joints_weight=np.ones((count, 24)),
        h36m_joints_m=h36m,
        true_h36m_joints_m=h36m,
        h36m_weight=np.ones((count, 17)),
        pve_m=np.zeros(count),
        smpl_weight=np.ones(count),
        root_m=root,
        true_root_m=root,
        has_camera=np.ones(count, bool),
    )


def planted(frames: protocols.Frames, **fields) -> protocols.Frames:
    return dataclasses.replace(frames, **fields)


def overall(frames, name, **options) -> dict:
    return protocols.score(frames, protocols.PROTOCOLS[name], **options)[0]


# ---------------------------------------------------------------------------------- faultless and planted
# predictions
@pytest.mark.parametrize('root_is_annotation', [True, False])
@pytest.mark.parametrize('name', EVERY)
def test_a_faultless_prediction(name, root_is_annotation):
    protocol = protocols.PROTOCOLS[name]
    rows = protocols.score(truth(), protocol, root_is_annotation=root_is_annotation)
    for row in rows:
        measures = [m for m in row if m in protocols.MEASURES]
        assert set(measures) >= set(protocol.measures)
        assert ('mrpe_mm' in row) == (not root_is_annotation)
        for measure in measures:
            # AUC: of its 31 thresholds the first is 0, and nothing is strictly below it
            wanted = {'pck': 100.0, 'auc': 100 * 30 / 31}.get(measure[:3], 0.0)
            assert row[measure] == pytest.approx(wanted, abs=1e-9), measure


@pytest.mark.parametrize('name', EVERY)
def test_one_shifted_joint(name):
    """14 joints: 70 mm at one of them is 5 mm; a joint that is not scored costs nothing, the pelvis moves
    all.
    """
    frames, protocol = truth(), protocols.PROTOCOLS[name]
    count = len(protocol.h36m_joints)
    for joint in range(17):
        h36m = frames.h36m_joints_m.copy()
        h36m[:, joint] += [0.042, 0.0, -0.056]  # 70 mm
        row = overall(planted(frames, h36m_joints_m=h36m), name)
        if joint == 0:
            assert row['mpjpe_mm'] == pytest.approx(70 * (count - (0 in protocol.h36m_joints)) / count)
        else:
            assert row['mpjpe_mm'] == pytest.approx(
                70 / count if joint in protocol.h36m_joints else 0, abs=1e-9
            )
        assert row['pa_mpjpe_mm'] > 0
    if 'mpjpe_24_mm' in protocol.measures:
        joints = frames.joints_m.copy()
        joints[:, 5, 1] += 0.240
        row = overall(planted(frames, joints_m=joints, pve_m=np.full(len(frames), 0.031)), name)
        assert row['mpjpe_24_mm'] == pytest.approx(10)
        assert row['pve_mm'] == pytest.approx(31)
        assert row['mpjpe_mm'] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize('name', EVERY)
def test_turned_and_scaled_predictions(name):
    frames, protocol = truth(), protocols.PROTOCOLS[name]
    joints = list(protocol.h36m_joints)
    lengths = np.linalg.norm(frames.true_h36m_joints_m[:, joints], axis=-1).mean()
    scaled = overall(planted(frames, h36m_joints_m=1.1 * frames.h36m_joints_m + [0.1, 0.2, 0.3]), name)
    assert scaled['mpjpe_mm'] == pytest.approx(100 * lengths)
    assert scaled['pa_mpjpe_mm'] == pytest.approx(0, abs=1e-9)
    turn = Rotation.from_rotvec([0.0, 0.0, np.pi]).as_matrix()
    turned = overall(planted(frames, h36m_joints_m=frames.h36m_joints_m @ turn.T), name)
    across = np.linalg.norm(frames.true_h36m_joints_m[:, joints, :2], axis=-1).mean()
    assert turned['mpjpe_mm'] == pytest.approx(2 * MM * across)
    assert turned['pa_mpjpe_mm'] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize('name', EVERY)
def test_a_root_that_is_off(name):
    """MRPE is the offset; figures relative to the pelvis do not see it; without a root file there is no
    MRPE.
    """
    frames = truth()
    moved = planted(frames, root_m=frames.true_root_m + [0.003, -0.004, 0.012])
    row = overall(moved, name, root_is_annotation=False)
    assert row['mrpe_mm'] == pytest.approx(13)
    assert [row[f'mrpe_{axis}_mm'] for axis in 'xyz'] == pytest.approx([3, 4, 12])
    assert row['mpjpe_mm'] == pytest.approx(0, abs=1e-9)
    assert 'mrpe_mm' not in overall(moved, name)


def test_figures_are_relative_to_each_sides_pelvis():
    frames = truth()
    row = overall(
        planted(frames, h36m_joints_m=frames.h36m_joints_m + 1, joints_m=frames.joints_m - 2), 'pw3d'
    )
    assert row['mpjpe_mm'] == pytest.approx(0, abs=1e-9) and row['mpjpe_24_mm'] == pytest.approx(0, abs=1e-9)


# -------------------------------------------------------------------------------------------------
# MPI-INF-3DHP
def test_the_orders_of_mpi_joints_are_inverse():
    names = (
        'head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip '
        'right_knee right_ankle left_hip left_knee left_ankle pelvis torso head'
    ).split()  # of the test file
    same = {'head_top': 'head', 'head': 'nose'}
    for test_joint, h36m_joint in enumerate(protocols.H36M_OF_MPI_TEST):
        assert protocols.MPI_TEST_OF_H36M[h36m_joint] == test_joint
        name = names[test_joint]
        assert skeleton.H36M_NAMES[h36m_joint] == same.get(name, name)


def test_a_joint_counts_in_its_group():
    """One joint 200 mm off: `3dhp` loses it for what it is, `released` for the place of its index."""
    frames = truth()
    for test_joint, h36m_joint in enumerate(protocols.H36M_OF_MPI_TEST):
        if h36m_joint == 0:
            continue
        h36m = frames.h36m_joints_m.copy()
        h36m[:, h36m_joint, 2] += 0.2
        row = overall(planted(frames, h36m_joints_m=h36m), 'mpi_inf_3dhp')
        lost = 100 / len(GROUP_JOINTS)
        assert row['pck_3dhp'] == pytest.approx(100 - lost * (test_joint in GROUP_JOINTS))
        assert row['pck_released'] == pytest.approx(100 - lost * (h36m_joint in GROUP_JOINTS))


def test_the_released_variant_does_not_see_the_right_arm():
    frames = truth()
    h36m = frames.h36m_joints_m.copy()
    h36m[:, [14, 15, 16]] += 5
    row = overall(planted(frames, h36m_joints_m=h36m), 'mpi_inf_3dhp')
    assert row['pck_released'] == 100 and row['pck_3dhp'] == pytest.approx(100 * (1 - 3 / 14))


def test_auc_of_a_planted_error():
    """All joints but the pelvis 52 mm off: 20 of 31 thresholds are above; the released 'Head' is never
    wrong.
    """
    frames = truth()
    h36m = frames.h36m_joints_m.copy()
    h36m[:, 1:, 1] += 0.052
    row = overall(planted(frames, h36m_joints_m=h36m), 'mpi_inf_3dhp')
    assert row['auc_3dhp'] == pytest.approx(100 * 20 / 31)
    assert row['auc_released'] == pytest.approx(100 * (13 * 20 + 30) / 14 / 31)
    assert row['mpjpe_mm'] == pytest.approx(52 * 16 / 17)


def test_recorded_figures(golden):
    """The recorded errors are indexed by the groups directly, which is the released variant."""
    z = np.load(golden / 'metrics.npz')
    sequences = z['error'].reshape(6, 100, 17) / MM
    to_h36m = np.array(protocols.MPI_TEST_OF_H36M)
    for errors, pck, auc in zip(sequences, z['pck_per_sequence'], z['auc_per_sequence'], strict=True):
        released = protocols.mpi_percentages(errors)
        assert released['pck_released'] == pytest.approx(pck[-1], abs=1e-6)
        assert released['auc_released'] == pytest.approx(auc[-1], abs=1e-6)
        own_order = protocols.mpi_percentages(errors[:, to_h36m])  # as if the columns were the test file's
        assert own_order['pck_3dhp'] == pytest.approx(pck[-1], abs=1e-6)
        assert own_order['auc_3dhp'] == pytest.approx(auc[-1], abs=1e-6)


def test_recorded_alignment(golden):
    z = np.load(golden / 'metrics.npz')
    count = len(z['S1'])
    frames = dataclasses.replace(
        truth(12),
        **{
            name: np.resize(getattr(truth(), name), (count, *np.shape(getattr(truth(), name))[1:]))
            for name in ('joints_m', 'true_joints_m', 'root_m', 'true_root_m')
        },
        names=[str(k) for k in range(count)],
        sequences=['TS1'] * count,
        actions=['2'] * count,
        joints_weight=np.ones((count, 24)),
        h36m_weight=np.ones((count, 17)),
        smpl_weight=np.ones(count),
        pve_m=np.zeros(count),
        has_camera=np.ones(count, bool),
        h36m_joints_m=z['S1'] / MM,
        true_h36m_joints_m=z['S2'] / MM,
    )
    wanted = np.linalg.norm(z['aligned'] - z['S2'], axis=-1)
    assert overall(frames, 'mpi_inf_3dhp')['pa_mpjpe_mm'] == pytest.approx(wanted.mean(), rel=1e-6)
    fourteen = list(skeleton.EVALUATION_JOINTS_14)
    assert overall(frames, 'human36m')['pa_mpjpe_mm'] == pytest.approx(wanted[:, fourteen].mean(), rel=1e-6)


# -------------------------------------------------------------------------------------------------------
# groups
def uneven() -> protocols.Frames:
    """Errors of 11, 21 and 61 mm in the three groups, at every joint but the pelvis."""
    frames = truth()
    h36m = frames.h36m_joints_m.copy()
    h36m[:, 1:, 0] += np.repeat([0.011, 0.021, 0.061], [6, 4, 2])[:, None]
    return planted(frames, h36m_joints_m=h36m)


def test_human36m_by_action_over_frames_and_over_actions():
    rows = protocols.score(uneven(), protocols.PROTOCOLS['human36m'])
    assert [(row['over'], row['frames']) for row in rows] == [
        ('all frames', 12), ('mean of 3 actions', 12), ('action 1', 6), ('action 3', 4), ('action 7', 2),
    ]  # fmt: skip
    assert [row['mpjpe_mm'] for row in rows] == pytest.approx(
        [(6 * 11 + 4 * 21 + 2 * 61) / 12, 31, 11, 21, 61]
    )


def test_mpi_by_sequence_and_activity():
    frames = planted(uneven(), sequences=['TS1'] * 6 + ['TS2'] * 6)
    rows = protocols.score(frames, protocols.PROTOCOLS['mpi_inf_3dhp'])
    over = {row['over']: row for row in rows}
    assert list(over) == [
        'all frames', 'sequence TS1', 'sequence TS2', 'action Stand', 'action Sit', 'action Miscell',
    ]  # fmt: skip
    assert over['sequence TS2']['mpjpe_mm'] == pytest.approx((4 * 21 + 2 * 61) / 6 * 16 / 17)
    assert over['action Miscell']['auc_3dhp'] == pytest.approx(100 * 18 / 31)  # 61 < 65, ..., 150
    named = planted(frames, actions=['Floor'] * 12)
    assert protocols.score(named, protocols.PROTOCOLS['mpi_inf_3dhp'])[-1]['over'] == 'action Floor'


def test_frames_without_groups_have_one_row():
    assert len(protocols.score(truth(), protocols.PROTOCOLS['pw3d'])) == 1
    assert len(protocols.score(planted(truth(), actions=[''] * 12), protocols.PROTOCOLS['synthetic'])) == 1


def test_labels_in_some_frames_only():
    frames = truth()
    weight = np.ones(12)
    weight[3:] = 0
    frames = planted(frames, smpl_weight=weight, pve_m=np.arange(12) / MM)
    row = overall(frames, 'human36m')
    assert row['pve_mm'] == pytest.approx(1) and row['frames_of'] == {'pve_mm': 3} and row['frames'] == 12
    assert 'pve_mm' not in overall(planted(frames, smpl_weight=np.zeros(12)), 'human36m')


# ------------------------------------------------------------------------------------------------------
# refusals
@pytest.mark.parametrize(
    'field', ['joints_m', 'true_joints_m', 'h36m_joints_m', 'true_h36m_joints_m', 'pve_m', 'root_m']
)
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_numbers_that_are_not_finite_name_the_record(field, bad):
    values = np.array(getattr(truth(), field))
    values[7] = bad
    for name in EVERY:
        with pytest.raises(ValueError, match=f"record 'x/test/007': {field} is not finite \\(1 of 12"):
            overall(planted(truth(), **{field: values}), name)


def test_what_a_published_protocol_needs():
    frames, weight = truth(), np.ones((12, 17))
    weight[4, 9] = 0
    with pytest.raises(
        ValueError, match="record 'x/test/004' has not all labels that MPJPE.*'human36m' scores every"
    ):
        overall(planted(frames, h36m_weight=weight), 'human36m')
    assert overall(planted(frames, h36m_weight=weight), 'synthetic')['frames_of'] == {
        'mpjpe_mm': 11,
        'pa_mpjpe_mm': 11,
    }
    with pytest.raises(ValueError, match='PVE'):
        overall(planted(frames, smpl_weight=np.zeros(12)), 'pw3d')
    with pytest.raises(ValueError, match="'x/test/000' has no action"):
        overall(planted(frames, actions=[''] * 12), 'human36m')
    with pytest.raises(ValueError, match='has no sequence'):
        overall(planted(frames, sequences=[''] * 12), 'mpi_inf_3dhp')
    with pytest.raises(ValueError, match='no regressor.*h36m_regressor'):
        overall(planted(frames, h36m_joints_m=None), 'pw3d')
    with pytest.raises(ValueError, match="'x/test/000' has no camera"):
        overall(planted(frames, has_camera=np.zeros(12, bool)), 'synthetic')
    nothing = {f.name: getattr(frames, f.name)[:0] for f in dataclasses.fields(frames)}
    with pytest.raises(ValueError, match='no frames'):
        overall(protocols.Frames(**nothing), 'synthetic')


@pytest.mark.parametrize('name', protocols.PUBLISHED)
def test_published_names_are_for_smpl(name):
    assert protocols.SMPL_NAME == smpl.SMPL_NAME
    assert protocols.protocol_of(name, 'SMPL') == protocols.PROTOCOLS[name]
    with pytest.raises(ValueError, match=f"'{name}' is a published protocol.*'{name}-like \\(open_body\\)'"):
        protocols.protocol_of(name, 'open_body (CC0)')
    variant = protocols.protocol_of(name, 'open_body (CC0)', allow_other_body=True)
    assert (
        variant.name == f'{name}-like (open_body)' and variant.measures == protocols.PROTOCOLS[name].measures
    )
    assert protocols.protocol_of(name, 'SMPL', allow_other_body=True).name == name


def test_other_datasets_have_their_own_name():
    for name in ('synthetic', 'custom', 'somebody'):
        protocol = protocols.protocol_of(name, 'open_body (CC0)')
        assert protocol.name == name and protocol.measures == protocols.PROTOCOLS['synthetic'].measures


# ------------------------------------------------------------------------------------------------ roots and
# boxes
def person(name: str, box=(50.0, 40.0, 149.0, 139.0)) -> dict:
    fields = record.blank() | record.whole_photo(230, 200)
    return fields | {'name': name.encode(), 'box': np.array(box, np.float32)}


def found(tmp_path, content, kind='root') -> roots_and_boxes.Found:
    path = tmp_path / f'{kind}.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return roots_and_boxes.Found(path, kind)


def test_roots_by_record_name(tmp_path):
    roots = found(tmp_path, {'pw3d/test/a/1-0': [12.5, -310, 4120.75], 'pw3d/test/a/1-1': [0, 0, 5000]})
    np.testing.assert_allclose(roots.root_m(person('pw3d/test/a/1-0')), [0.0125, -0.31, 4.12075], rtol=1e-6)
    np.testing.assert_allclose(roots.root_m(person('pw3d/test/a/1-1')), [0, 0, 5], rtol=1e-6)
    assert roots.label.startswith('root.json ') and len(roots.label) == len('root.json ') + 8
    with pytest.raises(ValueError, match="no root for record 'pw3d/test/b'.*such as 'pw3d/test/a/1-0'"):
        roots.root_m(person('pw3d/test/b'))


@pytest.mark.parametrize('key', ['file_name', 'image_id'])
def test_roots_of_rootnets_list(tmp_path, key):
    roots = found(
        tmp_path,
        [
            {key: 's_09_act_02/s_09_act_02_000001.jpg', 'root_cam': [1, 2, 4001.0]},
            {key: 's_09_act_03/s_09_act_03_000001.jpg', 'root_cam': [1, 2, 4002.0]},
            {key: 'images/TS1/img_7.jpg', 'root_cam': [1, 2, 4003.0], 'bbox': [0, 0, 20, 20], 'score': 1.0},
            {key: 'images/TS1/img_7.jpg', 'root_cam': [1, 2, 4004.0], 'bbox': [55, 45, 90, 100]},
            {key: 's_11_act_02_000001.jpg', 'root_cam': [1, 2, 4006.0]},
            {'name': 'x/test/named', 'root_cam': [1, 2, 4005.0]},
        ],
    )
    depths = {
        'human36m/test/s_09_act_02/000001': 4.001,
        'human36m/test/s_09_act_03/s_09_act_03_000001': 4.002,
        'mpi_inf_3dhp/test/TS1/img_7': 4.004,
        'x/test/named': 4.005,
        'human36m/test/s_11_act_02/000001': 4.006,
    }
    for name, depth in depths.items():
        assert roots.root_m(person(name))[2] == pytest.approx(depth)
        assert roots.root_m(person(name))[2] == pytest.approx(depth)  # asked again
    with pytest.raises(ValueError, match='several photos fit'):
        roots.root_m(person('human36m/test/000001'))
    with pytest.raises(ValueError, match='2 entries, none with a bbox that overlaps'):
        roots.root_m(person('mpi_inf_3dhp/test/TS1/img_7-1', box=(180, 150, 220, 190)))
    with pytest.raises(ValueError, match="entry 3 fits the records 'mpi_inf_3dhp/test/TS1/img_7' and"):
        roots.root_m(person('mpi_inf_3dhp/test/TS1/img_7-1'))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"a": [1, 2', 'no JSON'),
        ('3', 'neither an object nor a list'),
        ({}, 'is empty'),
        ({'a': [1, 2]}, "entry 'a' has .1, 2., expected are 3 numbers: x y z, millimetres"),
        ({'a': 'text'}, 'expected are 3 numbers'),
        ('{"a": [1, 2, NaN]}', 'expected are 3 numbers'),
        ({'a': [0.1, 0.2, 4.1]}, '4.1 mm before the camera: roots are in millimetres'),
        ([{'image_id': 17, 'root_cam': [0, 0, 4000]}], 'image_id=17, which names no file'),
        ([{'image_id': 'a.jpg'}], "entry 0 is no object with 'root_cam'"),
        ([{'name': 'a', 'root_cam': [0, 0, 4000]}] * 2, "entry 1 is the second one for 'a'"),
    ],
)
def test_root_files_that_cannot_be_used(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        found(tmp_path, content)


def test_a_missing_root_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no root file'):
        roots_and_boxes.Found(tmp_path / 'none.json', 'root')


def test_boxes(tmp_path):
    boxes = found(tmp_path, {'a/test/1': [-10, 20, 61, 101], 'a/test/2': [300, 20, 10, 10]}, 'box')
    np.testing.assert_array_equal(boxes.box(person('a/test/1')), [0, 20, 50, 120])
    with pytest.raises(ValueError, match="'a/test/2' misses the photo"):
        boxes.box(person('a/test/2'))
    listed = found(tmp_path, [{'file_name': 'x/1.png', 'bbox': [50, 40, 100, 100]}], 'box')
    np.testing.assert_array_equal(listed.box(person('a/test/x/1')), [50, 40, 149, 139])
    with pytest.raises(ValueError, match='expected are 4 numbers'):
        found(tmp_path, {'a': [1, 2, 3]}, 'box')


def test_a_box_beyond_the_stored_region():
    whole = person('a/test/1')
    roots_and_boxes.check_box_is_stored(whole, np.array([0, 0, 229, 199]), 1.25)
    half = {'region_offset': np.array([40.5, 30.5]), 'region_scale': 0.5, 'region_size': np.array([60, 60])}
    cut = whole | half  # photo pixels 40 to 159 and 30 to 149
    roots_and_boxes.check_box_is_stored(cut, np.array([50, 40, 149, 139]), 1.0)
    roots_and_boxes.check_box_is_stored(cut, np.array([50, 40, 149, 139]), 1.2)
    with pytest.raises(ValueError, match="record 'a/test/1': the crop of the detected box reaches"):
        roots_and_boxes.check_box_is_stored(cut, np.array([50, 40, 149, 139]), 1.4)


# -------------------------------------------------------------------------------------------------------
# writing
def evaluation() -> dict:
    rows = []
    for name in ('human36m', 'mpi_inf_3dhp'):
        for flip in (False, True):
            for row in protocols.score(uneven(), protocols.PROTOCOLS[name], root_is_annotation=False):
                said = {
                    'dataset': name,
                    'protocol': f'{name}-like (open_body)',
                    'joints': protocols.PROTOCOLS[name].joints,
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
    text = evaluate.table(evaluation())
    main = text.split('\n\n')[0].splitlines()
    header = cells(main[0])
    assert header[: len(evaluate.PROTOCOL)] == list(evaluate.PROTOCOL.values())
    rows = [dict(zip(header, cells(line), strict=True)) for line in main[2:]]
    assert [row['over'] for row in rows] == ['all frames', 'mean of 3 actions'] * 2 + ['all frames'] * 3
    for row in rows[:-1]:
        assert all(row[name] for name in evaluate.PROTOCOL.values())
        assert all(row[name] == '' or float(row[name]) >= 0 for name in header[len(evaluate.PROTOCOL) :])
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
    assert 'action' not in evaluate.table(evaluation(), details=False).split('Protocol.')[0].replace(
        '3 actions', ''
    )


def test_files_that_are_written(tmp_path):
    wanted = evaluation()
    evaluate.write(wanted, tmp_path)
    assert json.loads((tmp_path / 'evaluation.json').read_text()) == json.loads(json.dumps(wanted))
    assert (tmp_path / 'evaluation.md').read_text() == evaluate.table(wanted)
    rows = list(csv.DictReader(io.StringIO((tmp_path / 'evaluation.csv').read_text())))
    assert len(rows) == len(wanted['rows']) + 1
    for got, row in zip(rows, wanted['rows'], strict=False):
        assert got['protocol'] == row['protocol'] and got['over'] == row['over']
        assert float(got['mpjpe_mm']) == pytest.approx(row['mpjpe_mm'], abs=1e-4)
        assert (got['pck_3dhp'] == '') == ('pck_3dhp' not in row)
    wanted['rows'][0]['mpjpe_mm'] = float('nan')
    with pytest.raises(ValueError, match='human36m, all frames: mpjpe_mm is not finite'):
        evaluate.write(wanted, tmp_path)


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
    assert 'human36m, MPJPE (mm): 7 of 12 frames have the label.' in evaluate.table(wanted)


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
    assert evaluate.config_hash(config) == evaluate.config_hash(moved)
    assert evaluate.config_hash(config) != evaluate.config_hash(
        {**config, 'data': {'mixture': {'coco': 0.4}}}
    )
    assert len(evaluate.config_hash(config)) == len(evaluate.checkpoint_hash(arrays)) == 12


def test_constant_prediction_is_the_mean_of_the_labelled():
    frames = truth()
    train = [helpers.person(seed) for seed in range(3)] + [helpers.without_3d(helpers.person(3))]
    mean = np.mean([person['h36m_joints_m'] for person in train[:3]], 0)
    figures = evaluate.constant_prediction(train, frames, protocols.PROTOCOLS['pw3d'])
    fourteen = list(skeleton.EVALUATION_JOINTS_14)
    wanted = np.linalg.norm(mean - frames.true_h36m_joints_m, axis=-1)[:, fourteen].mean()
    assert figures['mpjpe_mm'] == pytest.approx(MM * wanted) and 'pve_mm' not in figures
    assert set(evaluate.constant_prediction(train, frames, protocols.PROTOCOLS['mpi_inf_3dhp'])) >= {
        'pck_3dhp'
    }
    assert evaluate.constant_prediction(train[3:], frames, protocols.PROTOCOLS['pw3d']) == {}
