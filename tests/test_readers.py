"""Readers of the published annotation files, on small files in their formats; labels from SMPL; the sanity
check.
"""

import dataclasses
import json
import pathlib
import pickle

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.body import labels as body_labels
from hybrik_jax.body import smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.data import record
from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import coco, human36m, mpi_inf_3dhp, pw3d, reading

WIDTH, HEIGHT = 1000, 900
FOCAL, CENTRE = np.array([1145.0, 1144.0]), np.array([512.5, 505.0])
H36M_OF_29 = [0, 1, 4, 7, 2, 5, 8, 6, 12, 15, 24, 16, 18, 20, 17, 19, 21]
READERS = (human36m, mpi_inf_3dhp, pw3d, coco)


@pytest.fixture(scope='module')
def body():
    return smpl_file.load_body()


@pytest.fixture(scope='module')
def joints_m(body):
    """Joints (29, 3) of somebody standing 4 m away, camera frame, metres."""
    rest = body.rest_joints_template.astype(np.float64)
    return (rest - rest[0]) * [1, -1, -1] + [0.2, -0.1, 4.0]


def box_of(points_m, margin=20):
    pixels = project(points_m, FOCAL, CENTRE)
    low, high = pixels.min(0) - margin, pixels.max(0) + margin
    return [*low.tolist(), *(high - low).tolist()]


def write(path: pathlib.Path, content) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def people_of(items) -> list[AnnotatedPerson]:
    """The people, each of whom keeps to the schema; none may have been left out."""
    items = list(items)
    assert not [item for item in items if isinstance(item, Skipped)]
    for person in items:
        assert set(person.labels) == {name for name in record.FEATURES if not name.startswith('region_')}
        for name, value in person.labels.items():
            field = record.FEATURES[name]
            assert (value.shape, value.dtype) == (field.shape, field.dtype), name
    return items


def one(items) -> AnnotatedPerson:
    (person,) = people_of(items)
    return person


def skipped(items) -> Skipped:
    (item,) = items
    assert isinstance(item, Skipped)
    return item


def close(actual, expected, tolerance=1e-6):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


# ---- Human3.6M


def h36m_entry(joints_m, count=29, **changes) -> dict:
    """One image merged with its annotation; `root_coord` is 3 cm from joint 0; twist 5 is missing."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(-1, 1, 23)
    angle[5] = -999.0
    entry = {
        'file_name': 's_01_act_02_subact_01_ca_01/s_01_act_02_subact_01_ca_01_000006.jpg',
        'width': WIDTH,
        'height': HEIGHT,
        'cam_param': {'f': FOCAL.tolist(), 'c': CENTRE.tolist(), 'R': [], 't': []},
        'bbox': box_of(joints_m),
        'smpl_joints': (1000 * joints_m[:count]).tolist(),
        'h36m_joints': (1000 * joints_m[H36M_OF_29]).tolist(),
        'root_coord': (1000 * joints_m[0] + [0, 30, 0]).tolist(),
        'thetas': rng.normal(0, 0.3, 72).tolist(),
        'betas': rng.normal(0, 1, 10).tolist(),
        'angle_twist': {
            'angle': angle.tolist(),
            'cos': np.cos(angle).tolist(),
            'sin': np.sin(angle).tolist(),
        },
    }
    return {key: value for key, value in (entry | changes).items() if value is not None}


IMAGE_KEYS = ('file_name', 'width', 'height', 'cam_param')


def write_paired(path, entries) -> pathlib.Path:
    images = [{k: v for k, v in e.items() if k in IMAGE_KEYS} for e in entries]
    annotations = [{k: v for k, v in e.items() if k not in IMAGE_KEYS} for e in entries]
    return write(path, {'images': images, 'annotations': annotations})


def read_h36m(root, *entries, split='train'):
    write_paired(root / human36m.FILES[split], entries)
    return human36m.read(root, split)


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


# ---- MPI-INF-3DHP


def joints_28(joints_m) -> np.ndarray:
    """The 28 joints (28, 3), metres: each its SMPL namesake, or a point of its own."""
    smpl_of = {4: 0, 19: 4, 24: 5, 20: 7, 25: 8, 5: 12, 9: 16, 14: 17, 10: 18, 15: 19, 11: 20, 16: 21}
    smpl_of |= {18: 1, 23: 2, 3: 3, 2: 6, 0: 9, 6: 15, 7: 24}
    points = joints_m[0] + np.random.default_rng(1).uniform(-0.2, 0.2, (28, 3))
    for index, joint in smpl_of.items():
        points[index] = joints_m[joint]
    return points


def hp3d_entry(joints_m, count=28, **changes) -> dict:
    points = joints_28(joints_m)
    points = points if count == 28 else points[list(mpi_inf_3dhp.TEST_JOINTS)]
    intrinsics = [[FOCAL[0], 0, CENTRE[0], 0], [0, FOCAL[1], CENTRE[1], 0], [0, 0, 1, 0]]
    entry = {
        'file_name': 'TS3/imageSequence/img_000007.jpg' if count == 17 else 'S1/Seq2/video_4/000012.jpg',
        'width': WIDTH,
        'height': HEIGHT,
        'cam_param': {'intrinsic_param': intrinsics if count == 17 else [row[:3] for row in intrinsics]},
        'bbox': box_of(joints_m),
        'keypoints_cam': (1000 * points).tolist(),
    }
    return entry | ({'activity_id': 4} if count == 17 else {}) | changes


def read_hp3d(root, *entries, split='train'):
    write_paired(root / mpi_inf_3dhp.FILES[split], entries)
    return mpi_inf_3dhp.read(root, split)


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
    names = [mpi_inf_3dhp.JOINTS[j] for j in mpi_inf_3dhp.TEST_JOINTS]
    assert names[:3] + names[14:] == ['head_top', 'neck', 'right_shoulder', 'pelvis', 'spine', 'head']
    h36m = [names[j] for j in mpi_inf_3dhp.H36M_OF_TEST]
    assert h36m[:4] == ['pelvis', 'left_hip', 'left_knee', 'left_ankle']
    assert h36m[8:12] == ['neck', 'head', 'head_top', 'left_shoulder']
    assert mpi_inf_3dhp.JOINTS[mpi_inf_3dhp.PELVIS] == 'pelvis'


def test_every_activity_has_its_name(tmp_path, joints_m):
    entries = [hp3d_entry(joints_m, 17, activity_id=i) for i in range(1, 8)]
    actions = [person.action for person in people_of(read_hp3d(tmp_path, *entries, split='test'))]
    assert actions == ['Stand', 'Exe', 'Sit', 'Reach', 'Floor', 'Sports', 'Miscell']


# ---- 3DPW, parsed


def write_pw3d(root, joints_m, *annotations, split='train', **image) -> None:
    images = [
        {
            'id': 900 + k,
            'file_name': f'image_{k:05d}.jpg',
            'sequence': 'courtyard_golf_00',
            'width': WIDTH,
            'height': HEIGHT,
            'cam_param': {'focal': FOCAL.tolist(), 'princpt': CENTRE.tolist()},
        }
        | image
        for k in range(2)
    ]
    write(root / pw3d.FILES[split], {'images': images, 'annotations': list(annotations)})


def pw3d_annotation(joints_m, count=24, **changes) -> dict:
    rng = np.random.default_rng(2)
    pixels = np.concatenate([project(joints_m, FOCAL, CENTRE), joints_m[:, 2:]], 1)[:24]
    annotation = {
        'id': 31,
        'image_id': 901,
        'bbox': box_of(joints_m),
        'smpl_joint_cam': joints_m[:count].tolist(),
        'smpl_joint_img': pixels.tolist(),
        'h36m_joints': joints_m[H36M_OF_29].tolist(),
        'smpl_param': {'pose': rng.normal(0, 0.3, 72).tolist(), 'shape': rng.normal(0, 1, 10).tolist()},
    }
    return annotation | changes


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


# ---- 3DPW, official pickles, and labels made from the body


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
    made = body_labels.pose_labels(body, unplaced.labels['pose'], unplaced.labels['betas'])
    person = pw3d.with_body_labels(unplaced, made)
    assert type(person) is AnnotatedPerson
    people_of([person])
    assert sanity.check_person(person) == []

    pose, betas = (np.asarray(world[k][0], np.float32) for k in ('poses', 'betas'))
    in_world = body_labels.pose_labels(body, pose[1].reshape(24, 3), betas)
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
    rest = body_labels.pose_labels(body, np.zeros((24, 3), np.float32), np.zeros(10, np.float32))
    close(rest.joints_m, body.rest_joints_template, 1e-5)
    close(rest.twists, np.zeros(23))


def test_labels_need_one_person(body):
    with pytest.raises(ValueError, match=r'shape \(24, 3\), this has \(2, 24, 3\)'):
        body_labels.pose_labels(body, np.zeros((2, 24, 3)), np.zeros(10))


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
    with pytest.raises(AnnotationError, match='image_00000.jpg is no readable JPEG'):
        list(pw3d.read_official(tmp_path, 'test'))
    (tmp_path / 'imageFiles/downtown_test_00/image_00000.jpg').unlink()
    with pytest.raises(
        FileNotFoundError, match=r'downtown_test_00 holds no image_\*.jpg: unpack imageFiles.zip'
    ):
        list(pw3d.read_official(tmp_path, 'test'))
    path.unlink()
    with pytest.raises(FileNotFoundError, match='holds no .pkl file'):
        list(pw3d.read_official(tmp_path, 'test'))


# ---- MSCOCO


def coco_annotation(**changes) -> dict:
    keypoints = np.stack([100 + 10.0 * np.arange(17), 50 + 20.0 * np.arange(17), np.full(17, 2)], 1)
    keypoints[7] = 0  # left elbow: not labelled
    keypoints[9, 2] = 1  # left wrist: covered
    annotation = {
        'id': 77,
        'image_id': 9,
        'bbox': [90.0, 40.0, 200.0, 350.0],
        'area': 30000.0,
        'iscrowd': 0,
        'category_id': 1,
        'num_keypoints': 16,
        'keypoints': keypoints.ravel().tolist(),
    }
    return annotation | changes


def read_coco(root, *annotations, split='train', **image):
    entry = {'id': 9, 'file_name': '000000000009.jpg', 'width': 640, 'height': 480}
    entry['coco_url'] = 'http://images.cocodataset.org/train2017/000000000009.jpg'
    entry = {key: value for key, value in (entry | image).items() if value is not None}
    write(
        root / coco.FILES[split],
        {'info': {}, 'images': [entry], 'annotations': list(annotations), 'categories': []},
    )
    return coco.read(root, split)


def test_coco(tmp_path):
    annotation = coco_annotation()
    person = one(read_coco(tmp_path, annotation))
    labels, keypoints = person.labels, np.reshape(annotation['keypoints'], (17, 3))
    assert person.name == 'coco/train/000000000009-77'
    assert person.photo == tmp_path / 'train2017/000000000009.jpg'
    expected = {4: 13, 5: 14, 7: 15, 8: 16, 16: 5, 17: 6, 19: 8, 20: 9, 21: 10}  # 18 <- 7 is not labelled
    assert sorted(np.flatnonzero(labels['joints_px_weight'][:, 0])) == sorted(expected)
    for joint, keypoint in expected.items():
        close(labels['joints_px'][joint], [*keypoints[keypoint, :2], 0])
    assert (labels['joints_px_weight'][:, 1] == labels['joints_px_weight'][:, 0]).all()
    assert not labels['joints_px_weight'][:, 2].any()
    assert not labels['joints_px'][18].any()
    assert sorted(np.flatnonzero(labels['visible'])) == sorted(set(expected) - {20})
    close(labels['box'], [90, 40, 289, 389])
    assert labels['box_enlargement'] == 1.25
    for name in ('camera_weight', 'joints_weight', 'h36m_weight', 'smpl_weight', 'twist_weight'):
        assert not labels[name].any(), name
    assert sanity.check_person(person) == []


@pytest.mark.parametrize(
    'split, url, photo',
    [
        ('train', None, 'train2017/000000000009.jpg'),
        ('validation', None, 'val2017/000000000009.jpg'),
        ('validation', 'http://images.cocodataset.org/val2017/000000000123.jpg', 'val2017/000000000123.jpg'),
    ],
)
def test_coco_photo_with_and_without_address(tmp_path, split, url, photo):
    assert one(read_coco(tmp_path, coco_annotation(), split=split, coco_url=url)).photo == tmp_path / photo


@pytest.mark.parametrize(
    'change, reason',
    [
        ({'iscrowd': 1, 'segmentation': {'counts': [], 'size': []}}, 'crowd'),
        ({'area': 0}, 'no area'),
        ({'keypoints': [0] * 51}, 'no visible keypoint'),
        ({'bbox': [700, 10, 50, 50]}, reading.NO_BOX),
        ({'category_id': 18}, 'not a person'),
    ],
)
def test_coco_leaves_out(tmp_path, change, reason):
    assert skipped(read_coco(tmp_path, coco_annotation(**change))).reason == reason


def test_coco_real_file_reads():
    folder = next(
        (p / 'shared/samples/coco' for p in pathlib.Path(__file__).parents if (p / 'shared').is_dir()), None
    )
    if folder is None or not folder.is_dir():
        pytest.skip('the sample photo is not here')
    person = one(coco.read(folder, 'validation'))
    assert person.name == 'coco/validation/000000000785-442619'
    assert person.photo.is_file()
    assert person.labels['joints_px_weight'][:, 0].sum() == 10
    assert sanity.check_person(person) == []


# ---- files that are missing, damaged or mixed up


@pytest.mark.parametrize('reader', READERS, ids=lambda reader: reader.NAME)
def test_missing_files_say_what_belongs_where(tmp_path, reader):
    split = reader.SPLITS[0]
    with pytest.raises(FileNotFoundError) as error:
        next(reader.read(tmp_path / 'nowhere', split))
    for part in (reader.FILES[split], f'the folder of {reader.TITLE} should hold', 'There is no folder'):
        assert part in str(error.value)
    with pytest.raises(ValueError, match='has no split .*holiday.*, only train'):
        next(reader.read(tmp_path, 'holiday'))


@pytest.mark.parametrize('reader', READERS, ids=lambda reader: reader.NAME)
def test_mixed_up_folders_are_recognised(tmp_path, joints_m, reader):
    write_paired(tmp_path / 'h36m' / human36m.FILES['test'], [])
    write_paired(tmp_path / '3dhp' / mpi_inf_3dhp.FILES['test'], [])
    write_pw3d(tmp_path / 'pw3d', joints_m, split='test')
    read_coco(tmp_path / 'coco', split='validation')
    for other in READERS:
        if other is not reader:
            with pytest.raises(
                FileNotFoundError, match=f'looks like the folder of {other.TITLE}: were folders mixed'
            ):
                next(reader.read(tmp_path / other.FOLDER, 'train'))
    with pytest.raises(
        FileNotFoundError, match='holds h36m, 3dhp, pw3d, coco: give the folder of the one dataset'
    ):
        next(reader.read(tmp_path, 'train'))
    with pytest.raises(FileNotFoundError) as error:
        next(reader.read(tmp_path / reader.FOLDER, 'train'))  # the right folder, without this file
    assert 'mixed up' not in str(error.value)


@pytest.mark.parametrize('reader', READERS, ids=lambda reader: reader.NAME)
def test_truncated_and_foreign_files_are_named(tmp_path, joints_m, reader):
    path = tmp_path / reader.FILES['train']
    read_h36m(tmp_path, h36m_entry(joints_m))
    read_hp3d(tmp_path, hp3d_entry(joints_m))
    write_pw3d(tmp_path, joints_m, pw3d_annotation(joints_m))
    read_coco(tmp_path, coco_annotation())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(AnnotationError, match=rf'{path.name} is no whole JSON file [\s\S]* cut off'):
        list(reader.read(tmp_path, 'train'))
    write(path, {'pictures': [], 'notes': []})
    with pytest.raises(AnnotationError, match=f"{path.name} has no list 'images', only .*pictures"):
        list(reader.read(tmp_path, 'train'))
    write(path, {'images': [{'a': 1}], 'annotations': [{'b': 2}]})
    with pytest.raises(AnnotationError, match=r'(record 0|images\[0\]): .* is missing; there are: a'):
        list(reader.read(tmp_path, 'train'))
    write(path, {'images': [], 'annotations': []})
    assert list(reader.read(tmp_path, 'train')) == []


def test_parallel_lists_of_different_length_are_named(tmp_path, joints_m):
    path = write_paired(tmp_path / human36m.FILES['train'], [h36m_entry(joints_m)] * 2)
    content = json.loads(path.read_text())
    write(path, content | {'annotations': content['annotations'][:1]})
    items = human36m.read(tmp_path, 'train')
    assert isinstance(next(items), AnnotatedPerson)
    with pytest.raises(AnnotationError, match='annotations ends after 1 entries, the other list goes on'):
        next(items)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'smpl_joints': None}, 'record 1: smpl_joints is missing; there are: .*bbox'),
        (
            {'smpl_joints': [[0, 0, 0]] * 23},
            r'smpl_joints has the shape \(23, 3\), expected is \(24, 3\) or \(29, 3\)',
        ),
        ({'smpl_joints': np.zeros((3, 24)).tolist()}, r'smpl_joints has the shape \(3, 24\)'),
        ({'smpl_joints': [[0, 0, 0], [1, 2]]}, 'smpl_joints is no regular list of numbers'),
        ({'smpl_joints': 'many'}, 'smpl_joints is no regular list of numbers'),
        ({'cam_param': {'f': [1, 2]}}, 'cam_param.c is missing; there are: f'),
        ({'cam_param': None}, 'cam_param.f is missing'),
        ({'thetas': None}, 'thetas is missing'),
        (
            {'angle_twist': {'angle': [0] * 22}},
            r'angle_twist.angle has the shape \(22,\), expected is \(23,\)',
        ),
        ({'bbox': [1, 2, 3]}, r'bbox has the shape \(3,\), expected is \(4,\)'),
        ({'bbox': [1, 2, None, 4]}, 'record 1: bbox: box .* is not finite'),
        ({'width': 0}, 'width and height are 0 and 900, not positive'),
        ({'width': 'wide'}, "width is 'wide', expected is a number"),
        ({'file_name': 'a.jpg'}, "file_name is 'a.jpg', expected is one like s_09_act_02"),
        ({'file_name': 's_01_act_17_subact_01_ca_01_000001.jpg'}, 'with act 02 to 16'),
        ({'file_name': 7}, 'file_name is 7, expected is a text'),
    ],
)
def test_wrong_fields_are_named_with_file_and_record(tmp_path, joints_m, change, message):
    items = read_h36m(tmp_path, h36m_entry(joints_m), h36m_entry(joints_m, **change))
    assert isinstance(next(items), AnnotatedPerson)
    with pytest.raises(AnnotationError, match=message) as error:
        next(items)
    assert str(tmp_path / human36m.FILES['train']) in str(error.value)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'activity_id': 8}, 'activity_id is 8, expected is 1 to 7'),
        ({'file_name': 'S1/Seq1/0.jpg'}, 'expected is one in a folder TS1 to TS6'),
        ({'cam_param': {'intrinsic_param': [[1, 2], [3, 4]]}}, r'expected is \(3, 3\) or \(3, 4\)'),
        ({'keypoints_cam': np.zeros((24, 3)).tolist()}, r'expected is \(28, 3\) or \(17, 3\)'),
    ],
)
def test_wrong_fields_of_3dhp_are_named(tmp_path, joints_m, change, message):
    with pytest.raises(AnnotationError, match=message):
        list(read_hp3d(tmp_path, hp3d_entry(joints_m, 17, **change), split='test'))


def test_wrong_fields_of_coco_are_named(tmp_path):
    with pytest.raises(
        AnnotationError, match=r'annotations\[0\]: keypoints has the shape \(6,\), expected is'
    ):
        list(read_coco(tmp_path, coco_annotation(keypoints=[1] * 6)))
    with pytest.raises(AnnotationError, match=r'annotations\[0\]: image_id is 5, no image has this id'):
        list(read_coco(tmp_path, coco_annotation(image_id=5)))


# ---- the sanity check


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
