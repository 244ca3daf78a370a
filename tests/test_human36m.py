"""The reader of Human3.6M, on small files in its format."""

import numpy as np
import pytest

from hybrik_jax.body.projection import project
from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.annotation import Skipped
from hybrik_jax.datasets.readers import human36m, reading
from tests.annotations import (
    CENTRE,
    FOCAL,
    H36M_OF_29,
    HEIGHT,
    WIDTH,
    close,
    h36m_entry,
    one,
    people_of,
    read_h36m,
    skipped,
    standing_m,
)


@pytest.fixture(scope='module')
def joints_m():
    return standing_m()


def test_human36m_with_29_joints(tmp_path, joints_m):
    entry = h36m_entry(joints_m)
    person = one(read_h36m(tmp_path, entry))
    labels = person.labels
    assert person.name == 'human36m/train/s_01_act_02_subact_01_ca_01/000006'
    assert person.photo == tmp_path / 'images' / entry['file_name']
    assert (person.sequence, person.action) == ('s_01_act_02_subact_01_ca_01', 'Directions')
    close(labels['joints_m'], joints_m - joints_m[0])
    close(labels['root_m'], joints_m[0] + [0, 0.03, 0])
    close(labels['joints_px'][:, :2], project(joints_m, FOCAL, CENTRE), 1e-4)
    close(labels['joints_px'][:, 2], joints_m[:, 2] - joints_m[0, 2])
    close(labels['h36m_joints_m'], (joints_m - joints_m[0])[H36M_OF_29])
    for name in ('joints_weight', 'joints_px_weight', 'h36m_weight', 'camera_weight', 'smpl_weight'):
        assert (labels[name] == 1).all(), name
    assert (labels['visible'] == 0).all()
    assert labels['box_enlargement'] == 1.0
    close(labels['pose'].ravel(), entry['thetas'])
    close(labels['betas'], entry['betas'])
    assert labels['twist_weight'][5] == 0 == labels['twists'][5]
    assert labels['twist_weight'].sum() == 22
    close(np.delete(labels['twists'], 5), np.delete(entry['angle_twist']['angle'], 5))
    x, y, w, h = entry['bbox']
    close(labels['box'], [x, y, x + w - 1, y + h - 1], 1e-4)
    assert sanity.check_person(person) == []


def test_human36m_with_24_joints_and_without_twists_or_shape(tmp_path, joints_m):
    name = 's_11_act_16_subact_02_ca_04/s_11_act_16_subact_02_ca_04_000123.jpg'
    entry = h36m_entry(joints_m, 24, file_name=name, angle_twist=None, thetas=None, betas=None)
    person = one(read_h36m(tmp_path, entry, split='test'))
    labels = person.labels
    assert person.action == 'WalkTogether'
    assert (labels['joints_weight'] == (np.arange(29) < 24)).all()
    assert (labels['joints_px_weight'] == (np.arange(29) < 24)[:, None]).all()
    assert not labels['joints_px'][24:].any() and not labels['joints_m'][24:].any()
    assert labels['smpl_weight'] == 0 and not labels['twist_weight'].any() and not labels['pose'].any()
    assert sanity.check_person(person) == []


def test_human36m_twists_down_to_minus_ten_count(tmp_path, joints_m):
    angle = np.zeros(23)
    angle[:2] = -9.99, -10.01
    twist = {'angle': angle.tolist(), 'cos': np.cos(angle).tolist(), 'sin': np.sin(angle).tolist()}
    labels = one(read_h36m(tmp_path, h36m_entry(joints_m, angle_twist=twist))).labels
    assert labels['twist_weight'][:3].tolist() == [1, 0, 1]


@pytest.mark.parametrize('take', human36m.EXCLUDED)
def test_human36m_excludes_wrong_fits(tmp_path, joints_m, take):
    entry = h36m_entry(joints_m, file_name=f'{take}_03/{take}_03_000001.jpg')
    assert skipped(read_h36m(tmp_path, entry, split='test')).reason == 'excluded file'


def test_human36m_leaves_out_subjects_of_the_other_split(tmp_path, joints_m):
    other = skipped(read_h36m(tmp_path, h36m_entry(joints_m), split='test'))
    assert other == Skipped('subject of another split', h36m_entry(joints_m)['file_name'])


def test_boxes_are_clipped_and_empty_ones_left_out(tmp_path, joints_m):
    def read(bbox):
        return list(read_h36m(tmp_path, h36m_entry(joints_m, bbox=bbox)))

    close(one(read([-50, 10, 200, 10000])).labels['box'], [0, 10, 149, HEIGHT - 1])
    close(one(read([900, 0, 5000, 50])).labels['box'], [900, 0, WIDTH - 1, 49])
    for empty in ([10, 10, 0, 0], [10, 10, 1, 50], [2000, 10, 50, 50], [10, -90, 50, 80]):
        assert skipped(read(empty)).reason == reading.NO_BOX


def test_every_act_has_its_name(tmp_path, joints_m):
    names = [f's_05_act_{act:02d}_subact_02_ca_03' for act in range(2, 17)]
    people = people_of(
        read_h36m(tmp_path, *(h36m_entry(joints_m, file_name=f'{n}/{n}_000001.jpg') for n in names))
    )
    assert tuple(person.action for person in people) == human36m.ACTIONS
    assert (people[8].action, people[13].action) == ('SittingDown', 'WalkDog')
