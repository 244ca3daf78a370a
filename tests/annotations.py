"""Small annotation files in the published formats: entries, writers, and what their readers yield."""

import functools
import json
import pathlib

import numpy as np

from hybrik_jax.body import skeleton, smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.data import record
from hybrik_jax.datasets.annotation import AnnotatedPerson, Skipped
from hybrik_jax.datasets.readers import coco, human36m, mpi_inf_3dhp, pw3d

WIDTH, HEIGHT = 1000, 900
FOCAL, CENTRE = np.array([1145.0, 1144.0]), np.array([512.5, 505.0])
H36M_OF_29 = [0, 1, 4, 7, 2, 5, 8, 6, 12, 15, 24, 16, 18, 20, 17, 19, 21]


@functools.cache
def standing_m() -> np.ndarray:
    """Joints (29, 3) of somebody standing 4 m away, camera frame, metres."""
    rest = smpl_file.load_body().rest_joints_template.astype(np.float64)
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
    write_paired(root / human36m.DATASET.files[split], entries)
    return human36m.read(root, split)


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
    points = points if count == 28 else points[list(skeleton.MPI_OF_MPI_TEST)]
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
    write_paired(root / mpi_inf_3dhp.DATASET.files[split], entries)
    return mpi_inf_3dhp.read(root, split)


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
    write(root / pw3d.DATASET.files[split], {'images': images, 'annotations': list(annotations)})


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
        root / coco.DATASET.files[split],
        {'info': {}, 'images': [entry], 'annotations': list(annotations), 'categories': []},
    )
    return coco.read(root, split)
