"""The check of annotations that cannot be right: units, axes, cameras, boxes."""

import dataclasses

import numpy as np
import pytest

from hybrik_jax.data import record
from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.annotation import AnnotatedPerson
from hybrik_jax.datasets.readers import pw3d
from tests.annotations import (
    HEIGHT,
    box_of,
    coco_annotation,
    h36m_entry,
    one,
    pw3d_annotation,
    read_coco,
    read_h36m,
    standing_m,
    write_pw3d,
)


@pytest.fixture(scope='module')
def joints_m():
    return standing_m()


@pytest.fixture
def healthy(tmp_path, joints_m):
    return one(read_h36m(tmp_path, h36m_entry(joints_m)))


def changed(person, **changes) -> AnnotatedPerson:
    """The person with labels replaced; a function is applied to the label."""
    labels = dict(person.labels)
    for name, change in changes.items():
        value = change(labels[name].copy()) if callable(change) else change
        labels[name] = np.asarray(value, record.FEATURES[name].dtype)
    return dataclasses.replace(person, labels=labels)


def put(index, value):
    """A change that sets one entry."""

    def change(array):
        array[index] = value
        return array

    return change


def problem(person) -> str:
    problems = sanity.check_person(person)
    assert problems
    return '; '.join(problems)


def test_nan_joints_are_named_by_field_and_index(tmp_path, joints_m, healthy):
    joints = (1000 * joints_m).tolist()
    joints[3][1] = None  # null in the file
    text = problem(one(read_h36m(tmp_path, h36m_entry(joints_m, smpl_joints=joints))))
    assert 'joints_m[3, 1] is not finite' in text and 'joints_px[3, 1] is not finite' in text
    assert problem(changed(healthy, root_m=put(2, np.inf))) == 'root_m[2] is not finite'
    assert problem(changed(healthy, smpl_weight=np.nan)) == 'smpl_weight is not finite'
    text = problem(changed(healthy, pose=np.full((24, 3), np.nan)))
    assert text == 'pose[0, 0], [0, 1], [0, 2], [1, 0], [1, 1] and 67 more is not finite'


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'box': [10, 10, 10, 60]}, r'box [10.0, 10.0, 10.0, 60.0] has no area'),
        ({'box': [10, 10, 1000, 60]}, 'is not clipped to the photo of 1000 x 900'),
        ({'box_enlargement': 0}, 'box_enlargement is 0.0, not positive'),
        ({'focal': [0, 5]}, 'focal is [0.0, 5.0], not positive'),
        ({'root_m': lambda x: -x}, 'lies behind the camera'),
        ({'root_m': lambda x: 1000 * x}, 'm away: as if millimetres were taken for metres'),
        ({'root_m': lambda x: x + [2, 0, 0]}, 'are 2 m apart: check units, focal, centre and axes'),
        ({'focal': lambda x: x / 2}, 'm apart: check units, focal, centre and axes'),
        ({'joints_m': lambda x: x[:, [0, 2, 1]]}, 'm apart: check units, focal, centre and axes'),
        ({'joints_m': lambda x: x * [1, -1, 1]}, 'm apart: check units, focal, centre and axes'),
        ({'joints_m': lambda x: x * [-1, 1, 1]}, 'm apart: check units, focal, centre and axes'),
        ({'joints_px': put((slice(7, 10), 1), 50)}, 'px from where joints_m projects: check the axes'),
        ({'joints_px': put((7, 0), 100)}, 'joints_px[7] is'),
        ({'joints_px': lambda x: x * [1, 1, 1000]}, 'its depth differs from joints_m by'),
        ({'joints_m': lambda x: 1000 * x}, 'joints_m: limbs are 1.0'),
        ({'joints_m': lambda x: 1000 * x}, 'as if millimetres were taken for metres'),
        ({'joints_m': lambda x: x / 1000}, 'as if millimetres were expected and metres given'),
        ({'h36m_joints_m': lambda x: 100 * x}, 'as if centimetres were taken for metres'),
        ({'h36m_joints_m': lambda x: 5 * x}, 'h36m_joints_m: limbs are'),
        ({'joints_m': put(18, (2, 0, 0))}, 'm apart'),
        (
            {'box': [10, 10, 60, 60]},
            'joints are far outside the box [10.0, 10.0, 60.0, 60.0]: check axes and units',
        ),
        ({'pose': lambda x: 180 / np.pi * x}, 'radians: are these degrees?'),
        ({'twists': lambda x: 180 / np.pi * x}, 'radians: are these degrees?'),
        ({'betas': put(0, 50)}, 'is it the shape of this body model?'),
    ],
)
def test_what_cannot_be_right_is_found(healthy, changes, message):
    assert sanity.check_person(healthy) == []
    assert message in problem(changed(healthy, **changes))


def test_joints_behind_the_camera(healthy):
    shift = np.array([0, 0, float(healthy.labels['root_m'][2]) + 0.3])
    weights = {'joints_px_weight': np.zeros((29, 3))}
    text = problem(changed(healthy, joints_m=lambda x: put(9, x[9] - shift)(x), **weights))
    assert text == 'joints_m[9] lies behind the camera: z must point forward'


def test_wrong_units_in_the_files_are_found(tmp_path, joints_m):
    """Metres where the format has millimetres, millimetres where it has metres."""
    metres = h36m_entry(joints_m)
    for key in ('smpl_joints', 'h36m_joints', 'root_coord'):
        metres[key] = (np.array(metres[key]) / 1000).tolist()
    text = problem(one(read_h36m(tmp_path, metres)))
    assert 'joints_m: limbs are 0.001' in text and 'millimetres were expected and metres given' in text
    millimetres = pw3d_annotation(joints_m)
    for key in ('smpl_joint_cam', 'h36m_joints'):
        millimetres[key] = (1000 * np.array(millimetres[key])).tolist()
    write_pw3d(tmp_path, joints_m, millimetres)
    assert 'millimetres were taken for metres' in problem(one(pw3d.read(tmp_path, 'train')))


def test_exchanged_pixel_axes_of_coco_are_found(tmp_path):
    annotation = coco_annotation(bbox=[250, 30, 60, 130])
    places = np.stack([np.full(17, 280.0), np.linspace(40, 150, 17), np.full(17, 2)], 1)
    right = one(read_coco(tmp_path, annotation | {'keypoints': places.ravel().tolist()}))
    assert sanity.check_person(right) == []
    wrong = one(read_coco(tmp_path, annotation | {'keypoints': places[:, [1, 0, 2]].ravel().tolist()}))
    assert 'joints are far outside the box' in problem(wrong) and 'u and v were exchanged' in problem(wrong)


def test_people_cut_off_by_the_photo_pass(tmp_path, joints_m):
    """Somebody close by of whom only head and shoulders are on the photo."""
    near = joints_m - joints_m[0] + [0.1, 0.95, 1.6]
    x, y, w, h = box_of(near, 5)
    entry = h36m_entry(near, bbox=[x, max(y, 0), w, min(h, HEIGHT - max(y, 0))])
    person = one(read_h36m(tmp_path, entry))
    assert (person.labels['joints_px'][:, 1] > HEIGHT).mean() > 0.5
    assert sanity.check_person(person) == []
