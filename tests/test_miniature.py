"""The miniature datasets are what they claim: they parse, their photos decode, their 2D is their 3D
projected.
"""

import json
import pickle

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.body import smpl, smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.body.skeleton import RELEVANT_CHILD_29
from hybrik_jax.synthetic.posed_body import to_matrices
from tests import miniature
from tests.miniature.lab import H36M_FILES, MISSING, MPI_17_OF_28, MPI_FILES, MPI_FOLDERS, mpi_17, mpi_28
from tests.miniature.people import body, keypoints_of
from tests.miniature.street import COCO_17, OPENPOSE_18, PW3D_FILES

MM = 1e-3


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A data root with all miniature datasets, and their truth by dataset."""
    root = tmp_path_factory.mktemp('miniature')
    return root, miniature.write_all(root, train=6, test=6)


def pairs(path):
    """The (image, annotation) pairs of a file in which the two are parallel lists."""
    content = json.loads(path.read_text())
    return list(zip(content['images'], content['annotations'], strict=True))


def pixels_of(person, points_m):
    return project(points_m, person.focal, person.centre)


def test_photos_decode_and_have_their_size(written):
    _, truth = written
    for name, one in truth.items():
        for split, people in one.splits.items():
            assert people, (name, split)
            for person in people:
                image = cv2.imread(str(person.photo))
                assert image is not None and image.shape == (person.height, person.width, 3), person.photo
                assert (np.abs(person.centre - (np.array([person.width, person.height]) - 1) / 2) > 1).all()


def test_truth_is_the_body_models(written):
    """What pose and betas give with the body model itself, moved to the root, is the truth: 0 mm for the
    perfect.
    """
    _, truth = written
    model = smpl_file.load_body(None)
    person = truth['human36m']['train'][1]
    turns = jnp.asarray(to_matrices(person.pose), jnp.float32)
    skinned = smpl.skin(model, jnp.asarray(person.betas, jnp.float32), turns)
    move = person.joints_m[0] - np.asarray(skinned.joints[0])
    np.testing.assert_allclose(skinned.joints + move, person.joints_m[:24], atol=1e-5)
    np.testing.assert_allclose(skinned.vertices[model.leaf_vertices] + move, person.joints_m[24:], atol=1e-5)
    np.testing.assert_allclose(skinned.h36m_joints + move, person.h36m_joints_m, atol=1e-5)
    np.testing.assert_allclose(skinned.vertices + move, person.vertices, atol=1e-5)


def test_boxes_hold_the_bodies(written):
    _, truth = written
    for name, one in truth.items():
        for people in one.splits.values():
            partly_outside = 0
            for person in people:
                if person.left_out in ('crowd', 'box under 5 px'):
                    continue
                size = np.array([person.width, person.height])
                pixels = pixels_of(person, person.vertices)
                shown = np.clip(pixels, 0, size - 1)
                partly_outside += np.abs(pixels - shown).max() > 10
                low, high = person.box[:2], person.box[:2] + person.box[2:] - 1
                assert (shown >= low - 0.02).all() and (shown <= high + 0.02).all(), (name, person.photo)
            assert partly_outside or len(people) < 5, name


def test_human36m(written):
    root, truth = written
    for split, file in H36M_FILES.items():
        people = truth['human36m'].splits[split]
        found = pairs(root / 'h36m' / 'annotations' / file)
        assert len(found) == len(people)
        for (image, label), person in zip(found, people, strict=True):
            assert root / 'h36m' / 'images' / image['file_name'] == person.photo
            assert person.photo.parent.name == person.sequence and person.photo.name.startswith(
                person.sequence
            )
            focal, centre = np.array(image['cam_param']['f']), np.array(image['cam_param']['c'])
            joints = np.array(label['smpl_joints']) * MM
            assert joints.shape in ((24, 3), (29, 3))
            expected = pixels_of(person, person.joints_m[: len(joints)])
            np.testing.assert_allclose(project(joints, focal, centre), expected, atol=1e-3)
            np.testing.assert_allclose(np.array(label['h36m_joints']) * MM, person.h36m_joints_m, atol=1e-9)
            np.testing.assert_allclose(np.reshape(label['thetas'], (24, 3)), person.pose)
            np.testing.assert_allclose(np.array(label['root_coord']) * MM, person.root_m)
            if 'angle_twist' in label:
                angle, cos, sin = (np.array(label['angle_twist'][key]) for key in ('angle', 'cos', 'sin'))
                np.testing.assert_array_equal(angle > -10, person.twists_known)
                np.testing.assert_allclose(np.arctan2(sin, cos)[angle > -10], person.twists[angle > -10])
                assert (cos[angle < -10] == MISSING).all()
            else:
                assert not person.twists_known.any()
    train = truth['human36m']['train']
    assert {person.twists_known.sum() for person in train} == {0, 20, 23}
    assert not truth['human36m'].left_out('train')
    assert [person.left_out for person in truth['human36m'].left_out('test')] == ['excluded file']
    assert len({person.activity for person in truth['human36m']['test']}) > 3


def test_mpi_inf_3dhp(written):
    root, truth = written
    for split, file in MPI_FILES.items():
        people = truth['mpi_inf_3dhp'][split]
        for (image, label), person in zip(pairs(root / '3dhp' / file), people, strict=True):
            assert root / '3dhp' / MPI_FOLDERS[split] / image['file_name'] == person.photo
            matrix = np.array(image['cam_param']['intrinsic_param'])
            assert matrix.shape == ((3, 3) if split == 'train' else (3, 4))
            joints = np.array(label['keypoints_cam']) * MM
            expected = project(joints, [matrix[0, 0], matrix[1, 1]], matrix[:2, 2])
            np.testing.assert_allclose(label['keypoints_img'], expected, atol=1e-6)
            if split == 'train':
                assert joints.shape == (28, 3)
                for smpl_joint, own in (
                    (0, 4),
                    (4, 19),
                    (5, 24),
                    (7, 20),
                    (8, 25),
                    (12, 5),
                    (16, 9),
                    (17, 14),
                ):
                    np.testing.assert_allclose(joints[own], person.joints_m[smpl_joint])
                for smpl_joint, own in ((18, 10), (19, 15), (20, 11), (21, 16)):
                    np.testing.assert_allclose(joints[own], person.joints_m[smpl_joint])
            else:
                order = [14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]
                np.testing.assert_allclose(joints[order], person.h36m_joints_m)
                assert person.photo.parts[-3] == person.sequence and label['activity_id'] == person.activity
    assert {person.sequence for person in truth['mpi_inf_3dhp']['test']} == {f'TS{k}' for k in range(1, 7)}


def test_the_17_of_the_28_joints_lie_where_the_17_do(written):
    """The two joint sets of MPI-INF-3DHP name the same places; the points differ by some centimetres."""
    _, truth = written
    for person in truth['mpi_inf_3dhp']['train']:
        apart = np.linalg.norm(mpi_28(person)[list(MPI_17_OF_28)] - mpi_17(person), axis=1)
        assert apart.max() < 0.2 and apart.mean() < 0.06


def test_pw3d(written):
    root, truth = written
    for split, file in PW3D_FILES.items():
        content = json.loads((root / 'pw3d' / 'json' / file).read_text())
        images = {image['id']: image for image in content['images']}
        people = truth['pw3d'].splits[split]
        assert len(images) == 6 and len(content['annotations']) == len(people)
        sizes = set()
        for label, person in zip(content['annotations'], people, strict=True):
            image = images[label['image_id']]
            assert root / 'pw3d' / 'imageFiles' / image['sequence'] / image['file_name'] == person.photo
            joints, pixels = np.array(label['smpl_joint_cam']), np.array(label['smpl_joint_img'])
            sizes.add(joints.shape)
            expected = project(joints[:24], image['cam_param']['focal'], image['cam_param']['princpt'])
            np.testing.assert_allclose(pixels[:, :2], expected, atol=1e-6)
            np.testing.assert_allclose(joints, person.joints_m[: len(joints)])
            assert np.shape(label['smpl_param']['pose']) == (72,) and np.shape(
                label['smpl_param']['shape']
            ) == (10,)
        assert sizes == {(24, 3), (29, 3)}
        assert len(truth['pw3d'][split]) == 12
        for person in truth['pw3d'].left_out(split):
            assert min(annotation_size(person)) < 5
        for person in truth['pw3d'][split]:
            assert min(annotation_size(person)) > 20


def annotation_size(person):
    """Width and height of a box after clipping."""
    size = np.array([person.width, person.height]) - 1
    low = np.clip(person.box[:2], 0, size)
    return np.clip(person.box[:2] + person.box[2:] - 1, 0, size) - low


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # numpy.core, as the files name it
def test_pw3d_official(written):
    root, truth = written
    for split in ('train', 'validation', 'test'):
        people = iter(truth['pw3d_official'].splits[split])
        for path in sorted((root / 'pw3d' / 'sequenceFiles' / split).glob('*.pkl')):
            raw = path.read_bytes()
            assert raw[:2] == b'\x80\x02' and b'numpy.core.multiarray' in raw and b'_codecs' not in raw
            content = pickle.loads(raw, encoding='latin1')
            assert content['sequence'] == path.stem
            cameras, matrix = content['cam_poses'], content['cam_intrinsics']
            assert cameras.shape == (len(content['img_frame_ids']), 4, 4) and matrix.shape == (3, 3)
            for frame, camera in enumerate(cameras):
                for actor, betas in enumerate(content['betas']):
                    person = next(people)
                    name = f'image_{frame:05d}.jpg'
                    assert person.photo == root / 'pw3d' / 'imageFiles' / content['sequence'] / name
                    valid = content['campose_valid'][actor][frame]
                    assert (person.left_out == 'camera pose not valid') == (not valid)
                    joints = posed(
                        content['poses'][actor][frame], betas, content['trans'][actor][frame], camera
                    )
                    np.testing.assert_allclose(joints, person.joints_m[:24], atol=1e-5)
                    recorded = content['jointPositions'][actor][frame].reshape(24, 3)
                    np.testing.assert_allclose(recorded @ camera[:3, :3].T + camera[:3, 3], joints, atol=1e-5)
                    points = keypoints_of(person)
                    expected = pixels_of(person, np.array([points[name] for name in OPENPOSE_18]))
                    found = content['poses2d'][actor][frame]
                    seen = found[2] > 0
                    assert seen.any() == (not person.left_out)
                    np.testing.assert_allclose(found[:2, seen].T, expected[seen], atol=0.01)
        assert next(people, None) is None
    assert len(truth['pw3d_official']['test']) == 11
    key = {(person.photo, tuple(person.betas)): person for person in truth['pw3d']['test']}
    for person in truth['pw3d_official']['test']:
        same = key[person.photo, tuple(person.betas)]
        np.testing.assert_array_equal(same.joints_m, person.joints_m)


def posed(pose, betas, trans, to_camera):
    """The 24 joints in the camera frame of an actor of a sequence file."""
    _, joints, _ = body().skeleton(betas.astype(np.float32), to_matrices(pose.reshape(24, 3)))
    return (joints + trans) @ to_camera[:3, :3].T + to_camera[:3, 3]


def test_coco(written):
    root, truth = written
    levels = set()
    for split, short in (('train', 'train'), ('validation', 'val')):
        content = json.loads(
            (root / 'coco' / 'annotations' / f'person_keypoints_{short}2017.json').read_text()
        )
        images = {image['id']: image for image in content['images']}
        people = truth['coco'].splits[split]
        assert len({label['id'] for label in content['annotations']}) == len(people)
        for label, person in zip(content['annotations'], people, strict=True):
            image = images[label['image_id']]
            url = image.get('coco_url')
            path = f'{short}2017/{image["file_name"]}' if url is None else '/'.join(url.split('/')[-2:])
            assert root / 'coco' / path == person.photo
            keypoints = np.reshape(label['keypoints'], (17, 3))
            assert label['num_keypoints'] == (keypoints[:, 2] > 0).sum()
            known = keypoints[:, 2] > 0
            levels |= set(keypoints[:, 2].tolist())
            points = keypoints_of(person)
            expected = pixels_of(person, np.array([points[name] for name in COCO_17]))
            assert np.abs(keypoints[known, :2] - expected[known]).max(initial=0) <= 0.5 + 1e-6
            x, y, w, h = label['bbox']
            assert 0 <= x < x + w <= image['width'] + 0.02 and 0 <= y < y + h <= image['height'] + 0.02
            reason = {'crowd': label['iscrowd'] == 1, 'no area': label['area'] <= 0}
            reason['no visible keypoint'] = not known.any() and not label['iscrowd']
            assert [name for name, so in reason.items() if so] == [person.left_out][: bool(person.left_out)]
        assert sum('coco_url' not in image for image in content['images']) == 1
        assert len(truth['coco'].left_out(split)) == 3
    assert levels == {0, 1, 2}


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in ('a', 'b'):
        miniature.write_all(tmp_path / name, train=2, test=1, seed=3)
    miniature.write_all(tmp_path / 'c', train=2, test=1, seed=4)
    files = {path.relative_to(tmp_path / 'a') for path in (tmp_path / 'a').rglob('*') if path.is_file()}
    assert len(files) > 15
    for file in files:
        assert (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes(), file
    changed = [f for f in files if (tmp_path / 'c' / f).exists()]
    assert any((tmp_path / 'a' / f).read_bytes() != (tmp_path / 'c' / f).read_bytes() for f in changed)


def test_twists_rebuild_the_rotations(written):
    """The swing and the true twist about the rest bone give the local rotation back."""
    _, truth = written
    person = truth['human36m']['train'][0]
    rest = body().rest_points(person.betas)
    for joint in range(1, 24):
        bone = rest[RELEVANT_CHILD_29[joint]] - rest[joint]
        bone = bone / np.linalg.norm(bone)
        turn = Rotation.from_rotvec(person.pose[joint])
        swing = turn * Rotation.from_rotvec(-person.twists[joint - 1] * bone)
        assert abs(swing.as_rotvec() @ bone) < 1e-4  # what is left turns about no part of the bone
        np.testing.assert_allclose(swing.apply(bone), turn.apply(bone), atol=1e-6)
