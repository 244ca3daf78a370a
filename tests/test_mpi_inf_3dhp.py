"""The reader of MPI-INF-3DHP, on small files in its format."""

import numpy as np
import pytest

from hybrik_jax.body import skeleton
from hybrik_jax.body.projection import project
from hybrik_jax.datasets import sanity
from tests.annotations import (
    CENTRE,
    FOCAL,
    H36M_OF_29,
    close,
    hp3d_entry,
    joints_28,
    one,
    people_of,
    read_hp3d,
    standing_m,
)


@pytest.fixture(scope='module')
def joints_m():
    return standing_m()


SUPERVISED_BY_3DHP = [0, 4, 5, 7, 8, 12, 16, 17, 18, 19, 20, 21]


@pytest.mark.parametrize('count, split', [(28, 'train'), (17, 'test')])
def test_mpi_inf_3dhp(tmp_path, joints_m, count, split):
    entry = hp3d_entry(joints_m, count)
    person = one(read_hp3d(tmp_path, entry, split=split))
    labels, chosen = person.labels, np.isin(np.arange(29), SUPERVISED_BY_3DHP)
    assert person.photo == tmp_path / f'mpi_inf_3dhp_{split}_set' / entry['file_name']
    if split == 'test':
        assert (person.sequence, person.action) == ('TS3', 'Reach')
        assert person.name == 'mpi_inf_3dhp/test/TS3/imageSequence/img_000007'
    else:
        assert (person.sequence, person.action) == ('S1/Seq2/video_4', '')
    assert (labels['joints_weight'] == chosen).all()
    assert (labels['joints_px_weight'] == chosen[:, None]).all()
    close(labels['joints_m'], np.where(chosen[:, None], joints_m - joints_m[0], 0))
    close(labels['joints_px'][chosen, :2], project(joints_m, FOCAL, CENTRE)[chosen], 1e-4)
    close(labels['root_m'], joints_m[0])
    close(labels['focal'], FOCAL)
    close(labels['centre'], CENTRE)
    assert labels['box_enlargement'] == 1.25
    assert labels['smpl_weight'] == 0 == labels['twist_weight'].sum()
    # the Human3.6M joints: all but nose (the file's head) and torso (its spine) have SMPL namesakes here
    expected = (joints_m - joints_m[0])[H36M_OF_29]
    expected[7] = (joints_m - joints_m[0])[3]
    close(labels['h36m_joints_m'], expected)
    assert (labels['h36m_weight'] == 1).all()
    assert sanity.check_person(person) == []


def test_mpi_inf_3dhp_joint_tables_agree_by_name():
    names = [skeleton.MPI_NAMES[j] for j in skeleton.MPI_OF_MPI_TEST]
    assert names[:3] + names[14:] == ['head_top', 'neck', 'right_shoulder', 'pelvis', 'spine', 'head']
    h36m = [names[j] for j in skeleton.MPI_TEST_OF_H36M]
    assert h36m[:4] == ['pelvis', 'left_hip', 'left_knee', 'left_ankle']
    assert h36m[8:12] == ['neck', 'head', 'head_top', 'left_shoulder']
    assert skeleton.MPI_NAMES[skeleton.MPI_OF_SMPL[0]] == 'pelvis'


def test_every_activity_has_its_name(tmp_path, joints_m):
    entries = [hp3d_entry(joints_m, 17, activity_id=i) for i in range(1, 8)]
    actions = [person.action for person in people_of(read_hp3d(tmp_path, *entries, split='test'))]
    assert actions == ['Stand', 'Exe', 'Sit', 'Reach', 'Floor', 'Sports', 'Miscell']


def test_the_datasets_own_asymmetries_pass(tmp_path, joints_m):
    """Its markers put one hip, knee or shoulder centimetres further out than the other."""
    points = 1000 * joints_28(joints_m)
    for joint, shift in ((18, 60), (23, 15), (19, -40), (9, 50), (15, 35)):
        points[joint, 0] += shift
    person = one(read_hp3d(tmp_path, hp3d_entry(joints_m, keypoints_cam=points.tolist())))
    assert sanity.check_person(person) == []
