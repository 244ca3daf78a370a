"""Protocols by numbers alone: faultless and planted predictions, groups, refusals."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.body import skeleton
from hybrik_jax.catalogue import DATASETS
from hybrik_jax.scoring import protocols
from hybrik_jax.units import MM_PER_M
from tests.frames import planted, truth, uneven

GROUP_JOINTS = [joint for group in protocols.MPI_GROUPS for joint in group]
EVERY = ('synthetic', 'human36m', 'pw3d', 'mpi_inf_3dhp')


def overall(frames, name, **options) -> dict:
    return protocols.score(frames, DATASETS[name].protocol, **options)[0]


@pytest.mark.parametrize('root_is_annotation', [True, False])
@pytest.mark.parametrize('name', EVERY)
def test_a_faultless_prediction(name, root_is_annotation):
    protocol = DATASETS[name].protocol
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
    frames, protocol = truth(), DATASETS[name].protocol
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
    frames, protocol = truth(), DATASETS[name].protocol
    joints = list(protocol.h36m_joints)
    lengths = np.linalg.norm(frames.true_h36m_joints_m[:, joints], axis=-1).mean()
    scaled = overall(planted(frames, h36m_joints_m=1.1 * frames.h36m_joints_m + [0.1, 0.2, 0.3]), name)
    assert scaled['mpjpe_mm'] == pytest.approx(100 * lengths)
    assert scaled['pa_mpjpe_mm'] == pytest.approx(0, abs=1e-9)
    turn = Rotation.from_rotvec([0.0, 0.0, np.pi]).as_matrix()
    turned = overall(planted(frames, h36m_joints_m=frames.h36m_joints_m @ turn.T), name)
    across = np.linalg.norm(frames.true_h36m_joints_m[:, joints, :2], axis=-1).mean()
    assert turned['mpjpe_mm'] == pytest.approx(2 * MM_PER_M * across)
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


def test_the_orders_of_mpi_joints_are_inverse():
    names = (
        'head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip '
        'right_knee right_ankle left_hip left_knee left_ankle pelvis torso head'
    ).split()  # of the test file
    same = {'head_top': 'head', 'head': 'nose'}
    for test_joint, h36m_joint in enumerate(skeleton.H36M_OF_MPI_TEST):
        assert skeleton.MPI_TEST_OF_H36M[h36m_joint] == test_joint
        name = names[test_joint]
        assert skeleton.H36M_NAMES[h36m_joint] == same.get(name, name)


def test_a_joint_counts_in_its_group():
    """One joint 200 mm off: `3dhp` loses it for what it is, `released` for the place of its index."""
    frames = truth()
    for test_joint, h36m_joint in enumerate(skeleton.H36M_OF_MPI_TEST):
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
    sequences = z['error'].reshape(6, 100, 17) / MM_PER_M
    to_h36m = np.array(skeleton.MPI_TEST_OF_H36M)
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
        h36m_joints_m=z['S1'] / MM_PER_M,
        true_h36m_joints_m=z['S2'] / MM_PER_M,
    )
    wanted = np.linalg.norm(z['aligned'] - z['S2'], axis=-1)
    assert overall(frames, 'mpi_inf_3dhp')['pa_mpjpe_mm'] == pytest.approx(wanted.mean(), rel=1e-6)
    fourteen = list(skeleton.EVALUATION_JOINTS_14)
    assert overall(frames, 'human36m')['pa_mpjpe_mm'] == pytest.approx(wanted[:, fourteen].mean(), rel=1e-6)


def test_human36m_by_action_over_frames_and_over_actions():
    rows = protocols.score(uneven(), DATASETS['human36m'].protocol)
    assert [(row['over'], row['frames']) for row in rows] == [
        ('all frames', 12), ('mean of 3 actions', 12), ('action 1', 6), ('action 3', 4), ('action 7', 2),
    ]  # fmt: skip
    assert [row['mpjpe_mm'] for row in rows] == pytest.approx(
        [(6 * 11 + 4 * 21 + 2 * 61) / 12, 31, 11, 21, 61]
    )


def test_mpi_by_sequence_and_activity():
    frames = planted(uneven(), sequences=['TS1'] * 6 + ['TS2'] * 6)
    rows = protocols.score(frames, DATASETS['mpi_inf_3dhp'].protocol)
    over = {row['over']: row for row in rows}
    assert list(over) == [
        'all frames', 'sequence TS1', 'sequence TS2', 'action Stand', 'action Sit', 'action Miscell',
    ]  # fmt: skip
    assert over['sequence TS2']['mpjpe_mm'] == pytest.approx((4 * 21 + 2 * 61) / 6 * 16 / 17)
    assert over['action Miscell']['auc_3dhp'] == pytest.approx(100 * 18 / 31)  # 61 < 65, ..., 150
    named = planted(frames, actions=['Floor'] * 12)
    assert protocols.score(named, DATASETS['mpi_inf_3dhp'].protocol)[-1]['over'] == 'action Floor'


def test_frames_without_groups_have_one_row():
    assert len(protocols.score(truth(), DATASETS['pw3d'].protocol)) == 1
    assert len(protocols.score(planted(truth(), actions=[''] * 12), DATASETS['synthetic'].protocol)) == 1


def test_labels_in_some_frames_only():
    frames = truth()
    weight = np.ones(12)
    weight[3:] = 0
    frames = planted(frames, smpl_weight=weight, pve_m=np.arange(12) / MM_PER_M)
    row = overall(frames, 'human36m')
    assert row['pve_mm'] == pytest.approx(1) and row['frames_of'] == {'pve_mm': 3} and row['frames'] == 12
    assert 'pve_mm' not in overall(planted(frames, smpl_weight=np.zeros(12)), 'human36m')


@pytest.mark.parametrize(
    'field', ['joints_m', 'true_joints_m', 'h36m_joints_m', 'true_h36m_joints_m', 'pve_m', 'root_m']
)
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_numbers_that_are_not_finite_name_the_record(field, bad):
    values = np.array(getattr(truth(), field))
    values[7] = bad
    for name in EVERY:
        with pytest.raises(
            ValueError, match=f"record 'x/test/007' has {field} that is not finite \\(1 of 12"
        ):
            overall(planted(truth(), **{field: values}), name)


def test_what_a_published_protocol_needs():
    frames, weight = truth(), np.ones((12, 17))
    weight[4, 9] = 0
    with pytest.raises(
        ValueError,
        match="'human36m': record 'x/test/004' has not all labels that MPJPE.*every frame is scored",
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
