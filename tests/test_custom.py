"""People's own data: what a file says is what the labels hold."""

import json

import numpy as np
import pytest

from hybrik_jax import image_file
from hybrik_jax.body import skeleton
from hybrik_jax.datasets import record_check
from hybrik_jax.datasets.readers import custom
from tests.own_people import (
    HEIGHT,
    ROOT,
    SMPL,
    STANDING,
    WIDTH,
    as_record,
    entry,
    joints_of,
    keypoints,
    only,
    pixels_of,
    write,
)


def test_3d_joints_become_labels(tmp_path):
    path = write(tmp_path, [entry(name='p', sequence='s', action='walk')])
    assert custom.validate(path) == []
    person = only(path)
    labels = person.labels
    assert (person.name, person.sequence, person.action) == ('custom/train/p', 's', 'walk')
    assert person.photo == tmp_path / 'photos' / 'a.jpg'
    np.testing.assert_allclose(labels['box'], [130, 40, 229, 219])
    assert labels['box_enlargement'] == 1.25 and (labels['width'], labels['height']) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(labels['root_m'], ROOT, atol=1e-6)
    np.testing.assert_allclose(labels['joints_m'][:24], SMPL - ROOT, atol=1e-6)
    np.testing.assert_allclose(labels['joints_px'][:24, :2], pixels_of(SMPL), atol=1e-3)
    np.testing.assert_allclose(labels['joints_px'][:24, 2], SMPL[:, 2] - ROOT[2], atol=1e-6)
    for name in ('joints_weight', 'joints_px_weight'):
        assert (labels[name][:24] == 1).all() and (labels[name][24:] == 0).all()
    assert labels['camera_weight'] == 1 and labels['smpl_weight'] == 0 and not labels['h36m_weight'].any()
    assert not labels['visible'].any() and not labels['twist_weight'].any()
    record_check.check(as_record(person, tmp_path))


def test_coco_keypoints_are_pixels_only(tmp_path):
    points = pixels_of(joints_of(['pelvis'] * 17))
    points = [
        [*map(float, p), v] for p, v in zip(points, [0] * 5 + [2] * 6 + [0, 0, 1, 2, 0, 2], strict=True)
    ]
    points[13] = [150.0, 160.0, 1]
    keypoints_2d = {'skeleton': 'coco17', 'points': points}
    path = write(tmp_path, [entry(joints_3d=None, camera=None, keypoints_2d=keypoints_2d)])
    assert custom.validate(path) == []
    labels = only(path).labels
    assert np.flatnonzero(labels['joints_px_weight'][:, 0]).tolist() == [4, 5, 8, 16, 17, 18, 19, 20, 21]
    assert not labels['joints_px_weight'][:, 2].any() and not labels['joints_weight'].any()
    assert labels['camera_weight'] == 0
    np.testing.assert_allclose(labels['joints_px'][4], [150, 160, 0])
    assert np.flatnonzero(labels['visible']).tolist() == [5, 8, 16, 17, 18, 19, 20, 21]
    record_check.check(as_record(only(path), tmp_path))


@pytest.mark.parametrize('kind, names', [('h36m17', skeleton.H36M_NAMES), ('mpi28', None)])
def test_named_skeletons_put_joints_where_they_belong(tmp_path, kind, names):
    if kind == 'mpi28':
        names = skeleton.MPI_NAMES
    points = joints_of(names)
    joints_3d = {'skeleton': kind, 'frame': 'camera', 'points_m': points.tolist()}
    path = write(tmp_path, [entry(joints_3d=joints_3d)])
    assert custom.validate(path) == []
    labels = only(path).labels
    for ours, weights, our_names in (
        ('joints_m', 'joints_weight', skeleton.JOINT_NAMES),
        ('h36m_joints_m', 'h36m_weight', skeleton.H36M_NAMES),
    ):
        for joint in np.flatnonzero(labels[weights]):
            name = our_names[joint]
            if name in STANDING and name in names and not (kind == 'mpi28' and name == 'head'):
                np.testing.assert_allclose(labels[ours][joint], STANDING[name], atol=1e-6, err_msg=name)
    assert labels['h36m_weight'].all()
    assert np.flatnonzero(labels['joints_weight']).tolist() == [0, 4, 5, 7, 8, 12, 16, 17, 18, 19, 20, 21]


def test_own_skeleton_by_name_number_and_h36m(tmp_path):
    mine = {'count': 4, 'left_knee': 2, '7': 0, 'head_top': 1, 'h36m:left_knee': 2}
    points = [*joints_of(['left_ankle', 'head', 'left_knee']).tolist(), None]
    joints_3d = {'skeleton': 'mine', 'frame': 'camera', 'points_m': points, 'root': ROOT.tolist()}
    path = write(tmp_path, [entry(joints_3d=joints_3d)], skeletons={'mine': mine})
    assert custom.validate(path) == []
    labels = only(path).labels
    assert np.flatnonzero(labels['joints_weight']).tolist() == [4, 7, 24]
    np.testing.assert_allclose(labels['joints_m'][4], STANDING['left_knee'], atol=1e-6)
    assert np.flatnonzero(labels['h36m_weight']).tolist() == [2]
    np.testing.assert_allclose(labels['h36m_joints_m'][2], STANDING['left_knee'], atol=1e-6)
    np.testing.assert_allclose(labels['root_m'], ROOT, atol=1e-6)


def test_unknown_points_have_no_weight(tmp_path):
    points = SMPL.tolist()
    points[20] = None
    path = write(tmp_path, [entry(joints_3d={'skeleton': 'smpl24', 'frame': 'camera', 'points_m': points})])
    labels = only(path).labels
    assert labels['joints_weight'][20] == 0 and labels['joints_weight'][:24].sum() == 23
    assert not labels['joints_m'][20].any() and not labels['joints_px'][20].any()


def test_keypoints_add_to_3d_joints(tmp_path):
    """Joints with 3D keep their projection; keypoints say what is visible, and add joints that have no 3D."""
    points = [*SMPL.tolist()]
    points[20] = None
    joints_3d = {'skeleton': 'smpl24', 'frame': 'camera', 'points_m': points}
    shifted = keypoints()
    for point in shifted['points']:
        point[0] += 2.0
    shifted['points'][16][2], shifted['points'][17][2] = 0, 1
    path = write(tmp_path, [entry(joints_3d=joints_3d, keypoints_2d=shifted)])
    assert custom.validate(path) == []
    labels = only(path).labels
    expected = pixels_of(SMPL)
    expected[20, 0] += 2
    np.testing.assert_allclose(labels['joints_px'][:24, :2], expected, atol=1e-3)
    assert (
        labels['joints_px_weight'][20].tolist() == [1, 1, 0] and labels['joints_px_weight'][:24].sum() == 71
    )
    assert np.flatnonzero(labels['visible'][:24] == 0).tolist() == [16, 17]


@pytest.mark.parametrize('flat', [False, True])
def test_smpl_alone_and_with_a_root(tmp_path, flat):
    pose = np.random.default_rng(0).normal(0, 0.5, (24, 3))
    smpl = {'pose': (pose.ravel() if flat else pose).tolist(), 'betas': [0.5] * 10}
    alone = entry(joints_3d=None, camera=None, smpl=smpl, name='alone')
    placed = entry(joints_3d=None, smpl=smpl | {'root': ROOT.tolist()}, name='placed')
    path = write(tmp_path, [alone, placed])
    assert custom.validate(path) == []
    alone, placed = custom.read(path, 'train')
    for person in (alone, placed):
        np.testing.assert_allclose(person.labels['pose'], pose, atol=1e-6)
        assert person.labels['smpl_weight'] == 1 and not person.labels['twist_weight'].any()
        assert not person.labels['joints_weight'].any()
    assert alone.labels['camera_weight'] == 0 and placed.labels['camera_weight'] == 1
    np.testing.assert_allclose(placed.labels['root_m'], ROOT, atol=1e-6)


def test_splits_in_one_file_and_in_a_folder(tmp_path):
    people = [entry(name='a'), entry(name='a', split='test'), entry(name='b', split='test')]
    path = write(tmp_path, people)
    assert custom.validate(path) == []
    assert custom.splits(path) == ('train', 'test')
    assert [p.name for p in custom.read(path, 'test')] == ['custom/test/a', 'custom/test/b']
    folder = tmp_path / 'folder'
    folder.mkdir()
    write(folder, [entry()], 'train.json')
    write(folder, [entry(), entry()], 'test.json')
    assert custom.splits(folder) == ('train', 'test')
    assert custom.validate(folder) == []
    assert [p.name for p in custom.read(folder, 'test')] == ['custom/test/000000', 'custom/test/000001']
    assert list(custom.read(folder, 'validation')) == []
    (folder / 'train.json').write_text('[')
    assert len(list(custom.read(folder, 'test'))) == 2
    with pytest.raises(FileNotFoundError, match='has none of train.json'):
        list(custom.read(folder.parent / 'photos', 'train'))


def test_photo_sizes(tmp_path):
    path = write(tmp_path, [entry()])
    assert image_file.size(tmp_path / 'photos' / 'a.jpg') == (WIDTH, HEIGHT)
    assert image_file.size(tmp_path / 'photos' / 'b.png') == (150, 100)
    with pytest.raises(ValueError, match='no image'):
        image_file.size(path)


def test_what_cannot_be_opened_is_left_to_whoever_cuts(tmp_path):
    path = write(tmp_path, [entry(photo='missing.jpg')])
    person = only(path)
    assert person.photo.name == 'missing.jpg'
    np.testing.assert_allclose(person.labels['box'], [130, 40, 229, 219])
    (problem,) = custom.validate(path)
    assert (problem.record, problem.field) == ('people[0]', 'photo') and 'there is no file' in problem.message


def test_coco_files_with_a_joint_map(tmp_path):
    flat = [60.0, 60.0, 2, 70.0, 90.0, 1, 0, 0, 0]
    one = {'image_id': 7, 'bbox': [40, 40, 60, 70], 'keypoints': flat, 'iscrowd': 0, 'area': 3.0}
    annotations = [
        one | {'id': 1},
        one | {'id': 2, 'iscrowd': 1},
        one | {'id': 3, 'keypoints': [0] * 9},
        one | {'id': 4, 'area': 0},
        one | {'id': 5, 'bbox': [400, 400, 10, 10]},
    ]
    images = [{'id': 7, 'file_name': 'a.jpg', 'width': WIDTH, 'height': HEIGHT}]
    (tmp_path / 'kp.json').write_text(json.dumps({'images': images, 'annotations': annotations}))
    mine = {'count': 3, 'left_knee': 0, 'left_ankle': 1, 'right_ankle': 2}
    coco = {'file': 'kp.json', 'skeleton': 'mine'}
    path = write(tmp_path, None, skeletons={'mine': mine}, coco=coco)
    assert custom.validate(path) == []
    assert custom.splits(path) == ('train',)
    person, *skipped = custom.read(path, 'train')
    assert person.name == 'custom/train/1'
    assert np.flatnonzero(person.labels['joints_px_weight'][:, 0]).tolist() == [4, 7]
    assert np.flatnonzero(person.labels['visible']).tolist() == [4]
    assert [s.reason for s in skipped] == ['crowd', 'no labelled keypoint', 'no area', 'no area']
    wrong = one | {'id': 9, 'keypoints': flat[:6]}
    (tmp_path / 'kp.json').write_text(json.dumps({'images': images, 'annotations': [wrong]}))
    (problem,) = custom.validate(path)
    assert problem.record == 'annotations[0] (id 9)' and problem.field == 'keypoints_2d.points'
    assert "has 2 points, the skeleton 'mine' has 3" in problem.message
