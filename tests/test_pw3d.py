"""The readers of 3DPW, parsed and official, on small files in their formats; labels made from SMPL."""

import pathlib
import pickle

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.body.projection import project
from hybrik_jax.datasets import labels as making
from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.annotation import AnnotationError, Skipped
from hybrik_jax.datasets.readers import pw3d
from tests.annotations import (
    CENTRE,
    FOCAL,
    H36M_OF_29,
    HEIGHT,
    WIDTH,
    close,
    one,
    people_of,
    pw3d_annotation,
    skipped,
    standing_m,
    write_pw3d,
)


@pytest.fixture(scope='module')
def joints_m():
    return standing_m()


@pytest.mark.parametrize('count', [24, 29])
def test_pw3d_parsed(tmp_path, joints_m, count):
    annotation = pw3d_annotation(joints_m, count)
    write_pw3d(tmp_path, joints_m, annotation)
    person = one(pw3d.read(tmp_path, 'train'))
    labels, there = person.labels, np.arange(29) < count
    assert person.name == 'pw3d/train/courtyard_golf_00/image_00001-31'
    assert person.photo == tmp_path / 'imageFiles/courtyard_golf_00/image_00001.jpg'
    assert person.sequence == 'courtyard_golf_00'
    close(labels['joints_m'][there], (joints_m - joints_m[0])[there])
    close(labels['joints_px'][there, :2], project(joints_m, FOCAL, CENTRE)[there], 1e-4)
    close(labels['joints_px'][there, 2], (joints_m - joints_m[0])[there, 2])
    assert (labels['joints_weight'] == there).all()
    assert (labels['joints_px_weight'] == there[:, None]).all()
    close(labels['root_m'], joints_m[0])
    close(labels['h36m_joints_m'], (joints_m - joints_m[0])[H36M_OF_29])
    close(labels['pose'].ravel(), annotation['smpl_param']['pose'])
    assert labels['smpl_weight'] == 1 and labels['box_enlargement'] == 1.25
    assert not labels['twist_weight'].any()
    assert sanity.check_person(person) == []


@pytest.mark.parametrize(
    'bbox, kept', [([990, 10, 80, 300], True), ([996, 10, 80, 300], False), ([9, 9, 0, 0], False)]
)
def test_pw3d_drops_boxes_under_5_px_after_clipping(tmp_path, joints_m, bbox, kept):
    write_pw3d(tmp_path, joints_m, pw3d_annotation(joints_m, bbox=bbox))
    items = list(pw3d.read(tmp_path, 'train'))
    assert one(items) if kept else skipped(items).reason == 'box under 5 px'


def test_pw3d_names_annotations_without_image(tmp_path, joints_m):
    write_pw3d(tmp_path, joints_m, pw3d_annotation(joints_m, image_id=5))
    with pytest.raises(
        AnnotationError, match=r'3DPW_train_new.json, annotations\[0\]: image_id is 5, no image has'
    ):
        list(pw3d.read(tmp_path, 'train'))


@pytest.fixture(scope='module')
def world(body):
    """Two people in a moving camera's world: the content of a sequence file, and its truth."""
    rng = np.random.default_rng(3)
    frames, people = 2, 2
    poses = rng.normal(0, 0.25, (people, frames, 72))
    poses[..., :3] = rng.normal(0, 1.5, (people, frames, 3))
    betas = rng.normal(0, 1, (people, 10))
    trans = rng.normal(0, 0.5, (people, frames, 3))
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    cameras[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 1.5, (frames, 3))).as_matrix()
    cameras[:, :3, 3] = rng.normal(0, 0.3, (frames, 3)) + [0, 0, 5]
    poses2d = np.zeros((people, frames, 3, 18))
    poses2d[:, :, 0], poses2d[:, :, 1] = rng.uniform(300, 500, (2, people, frames, 18))
    poses2d[:, :, 2] = 0.9
    intrinsics = np.array([[FOCAL[0], 0, CENTRE[0]], [0, FOCAL[1], CENTRE[1]], [0, 0, 1]])
    return {
        'sequence': 'downtown_test_00',
        'poses': list(poses),
        'betas': list(betas),
        'trans': list(trans),
        'cam_poses': cameras,
        'cam_intrinsics': intrinsics,
        'poses2d': list(poses2d),
        'campose_valid': [np.array([1, 1]), np.array([1, 0])],
        'genders': ['m', 'f'],
        'img_frame_ids': np.array([0, 2]),
        'texture_maps': [],
    }


def write_sequence(root, content, split='test', protocol=2) -> pathlib.Path:
    path = root / 'sequenceFiles' / split / 'downtown_test_00.pkl'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    photos = root / 'imageFiles' / 'downtown_test_00'
    photos.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(photos / 'image_00000.jpg'), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return path


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_official_pickles(tmp_path, world, protocol):
    write_sequence(tmp_path, world, protocol=protocol)
    items = list(pw3d.read_official(tmp_path, 'test'))
    assert items[3] == Skipped('camera pose not valid', 'downtown_test_00/image_00001-1')
    people = people_of(items[:3])
    assert [person.name for person in people] == [
        'pw3d/test/downtown_test_00/image_00000-0',
        'pw3d/test/downtown_test_00/image_00000-1',
        'pw3d/test/downtown_test_00/image_00001-0',
    ]
    assert people[2].photo == tmp_path / 'imageFiles/downtown_test_00/image_00001.jpg'
    assert [person.gender for person in people] == ['male', 'female', 'male']
    for person in people:
        labels = person.labels
        assert (int(labels['width']), int(labels['height'])) == (WIDTH, HEIGHT)
        assert labels['smpl_weight'] == 1 and labels['camera_weight'] == 0
        assert not labels['joints_weight'].any() and not labels['h36m_weight'].any()
        assert sanity.check_person(person) == []


def test_labels_of_the_body_place_official_people(tmp_path, world, body):
    """The pose in the camera frame gives the same body as posing in the world and moving it to the camera."""
    write_sequence(tmp_path, world)
    unplaced = people_of(list(pw3d.read_official(tmp_path, 'test'))[:3])[2]  # person 0 of frame 1
    made = making.pose_labels(body, unplaced.labels['pose'], unplaced.labels['betas'])
    person = making.with_labels(unplaced, made)
    people_of([person])
    assert sanity.check_person(person) == []

    pose, betas = (np.asarray(world[k][0], np.float32) for k in ('poses', 'betas'))
    in_world = making.pose_labels(body, pose[1].reshape(24, 3), betas)
    camera, trans = world['cam_poses'][1], world['trans'][0][1]

    def to_camera(points):
        return (np.asarray(points, np.float64) + trans) @ camera[:3, :3].T + camera[:3, 3]

    truth, labels = to_camera(in_world.joints_m), person.labels
    close(labels['joints_m'] + labels['root_m'], truth, 2e-5)
    close(labels['root_m'], truth[0], 2e-5)
    h36m = to_camera(in_world.h36m_joints_m)
    close(labels['h36m_joints_m'], h36m - h36m[0], 2e-5)
    close(labels['twists'], in_world.twists, 1e-5)  # the camera turns nothing but joint 0
    close(labels['joints_px'][:, :2], project(truth, FOCAL, CENTRE), 0.05)
    for name in (
        'camera_weight',
        'joints_weight',
        'joints_px_weight',
        'h36m_weight',
        'twist_weight',
        'smpl_weight',
    ):
        assert (labels[name] == 1).all(), name
    low, high = labels['joints_px'][:, :2].min(0), labels['joints_px'][:, :2].max(0)
    last = [WIDTH - 1, HEIGHT - 1]
    grown = np.concatenate(
        [np.clip(1.1 * low - 0.1 * high, 0, last), np.clip(1.1 * high - 0.1 * low, 0, last)]
    )
    close(labels['box'], grown, 1e-2)
    # leaf points are vertices of the posed mesh
    assert np.asarray(made.joints_m).shape == (29, 3)
    rest = making.pose_labels(body, np.zeros((24, 3), np.float32), np.zeros(10, np.float32))
    close(rest.joints_m, body.rest_joints_template, 1e-5)
    close(rest.twists, np.zeros(23))


def test_labels_need_one_person(body):
    with pytest.raises(ValueError, match=r'shape \(24, 3\), this has \(2, 24, 3\)'):
        making.pose_labels(body, np.zeros((2, 24, 3)), np.zeros(10))


def test_official_people_without_points_and_with_tiny_boxes(tmp_path, world):
    poses2d = np.array(world['poses2d'])
    poses2d[0, :, 2] = 0
    poses2d[1, :, :2] = 100 + np.arange(18) / 10
    write_sequence(tmp_path, world | {'poses2d': list(poses2d)})
    reasons = [item.reason for item in pw3d.read_official(tmp_path, 'test')]
    assert reasons == [
        'no point in poses2d',
        'box under 5 px',
        'no point in poses2d',
        'camera pose not valid',
    ]


def test_official_box_holds_the_visible_points(tmp_path, world):
    poses2d = np.array(world['poses2d'])
    poses2d[0, 0, :, 0] = 5000, 5000, 0  # not seen
    write_sequence(tmp_path, world | {'poses2d': list(poses2d)})
    box = next(pw3d.read_official(tmp_path, 'test')).labels['box']
    low, high = poses2d[0, 0, :2, 1:].min(1), poses2d[0, 0, :2, 1:].max(1)
    close(box, [*(low - 0.1 * (high - low)), *(high + 0.1 * (high - low))], 1e-3)


class _Call:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_malicious_sequence_file_is_refused_and_nothing_runs(tmp_path, world):
    touched = tmp_path / 'touched'
    write_sequence(tmp_path, world | {'texture_maps': _Call(touched)})
    with pytest.raises(
        AnnotationError, match=r'downtown_test_00.pkl: refused to load \w+\.open: .* Do not trust'
    ):
        list(pw3d.read_official(tmp_path, 'test'))
    assert not touched.exists()


@pytest.mark.parametrize(
    'change, message',
    [
        ({'poses': None}, r'downtown_test_00.pkl: poses is missing; there are: .*cam_poses'),
        ({'trans': [np.zeros((2, 3))]}, 'trans is of 1 people, poses of 2'),
        ({'trans': [np.zeros((5, 3))] * 2}, r'person 0: trans has the shape \(5, 3\), expected is \(2, 3\)'),
        ({'cam_poses': np.zeros((2, 3, 4))}, r'cam_poses has the shape \(2, 3, 4\), expected is \(2, 4, 4\)'),
        ({'cam_poses': np.zeros((2, 4, 4))}, 'frame 0: cam_poses holds no rotation'),
        ({'betas': [np.zeros(3)] * 2}, 'person 0: betas has 3 numbers, expected are 10'),
        ({'betas': [['a'] * 10] * 2}, 'person 0: betas is no regular list of numbers'),
        ({'poses': 7}, 'poses is int, expected is a list'),
        ({'poses': [[10**400]] * 2}, 'person 0: poses is no regular list of numbers'),
        ({'cam_poses': np.float64(1)}, 'cam_poses is float64, expected is a list'),
    ],
)
def test_wrong_sequence_files_are_named(tmp_path, world, change, message):
    write_sequence(tmp_path, world | change)
    with pytest.raises(AnnotationError, match=message):
        list(pw3d.read_official(tmp_path, 'test'))


def test_damaged_sequence_files_and_missing_photos(tmp_path, world):
    path = write_sequence(tmp_path, world)
    with pytest.raises(
        FileNotFoundError, match='sequenceFiles/train is missing: the folder of 3DPW should hold'
    ):
        list(pw3d.read_official(tmp_path, 'train'))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AnnotationError, match='downtown_test_00.pkl is no readable pickle .* cut off'):
        list(pw3d.read_official(tmp_path, 'test'))
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(AnnotationError, match='this is a list'):
        list(pw3d.read_official(tmp_path, 'test'))
    path.write_bytes(whole)
    (tmp_path / 'imageFiles/downtown_test_00/image_00000.jpg').write_bytes(b'no photo')
    with pytest.raises(AnnotationError, match='image_00000.jpg cannot be read: it is no image'):
        list(pw3d.read_official(tmp_path, 'test'))
    (tmp_path / 'imageFiles/downtown_test_00/image_00000.jpg').unlink()
    with pytest.raises(
        FileNotFoundError, match=r'downtown_test_00 holds no image_\*.jpg: unpack imageFiles.zip'
    ):
        list(pw3d.read_official(tmp_path, 'test'))
    path.unlink()
    with pytest.raises(FileNotFoundError, match='holds no .pkl file'):
        list(pw3d.read_official(tmp_path, 'test'))
