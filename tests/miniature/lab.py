"""The two datasets of one person per photo and millimetres: Human3.6M and MPI-INF-3DHP, as HybrIK's users
have them.
"""

import json
import pathlib

import numpy as np

from hybrik_jax.synthetic.posed_body import to_matrices
from tests.miniature.people import (
    Camera,
    TruePerson,
    Truth,
    draw_person,
    draw_picture,
    generator,
    places,
    random_camera,
    write_photo,
)

MM = 1000.0
MISSING = -999.0

H36M_FILES = {
    'train': 'Sample_5_train_Human36M_smpl_leaf_twist_protocol_2.json',
    'test': 'Sample_20_test_Human36M_smpl_protocol_2.json',
}
H36M_SUBJECTS = {'train': (1, 5, 6, 7, 8), 'test': (9, 11)}
H36M_STEP = {'train': 5, 'test': 20}
H36M_EXCLUDED = ('s_09_act_05_subact_02_ca_01', 's_09_act_10_subact_02_ca_02', 's_09_act_13_subact_01_ca_03')

MPI_FILES = {
    'train': 'annotation_mpi_inf_3dhp_train_v2.json',
    'test': 'annotation_mpi_inf_3dhp_test.json',
}
MPI_FOLDERS = {'train': 'mpi_inf_3dhp_train_set', 'test': 'mpi_inf_3dhp_test_set'}
# Which of the 28 joints are the 17 of the test file, and which of those 17 Human3.6M joint k is.
MPI_17_OF_28 = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
MPI_17_OF_H36M = (14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
# Joint of the 29 that each of the 28 is; -1: a point of its own, see `mpi_28`.
# fmt: off
MPI_28_OF_SMPL = (
    9, -1, 6, 3, 0, 12, 15, 24, 13, 16, 18, 20, 22, 14, 17, 19, 21, 23, 1, 4, 7, 10, 27, 2, 5, 8, 11, 28,
)
# fmt: on


def write_human36m(folder: pathlib.Path, *, train: int = 6, test: int = 6, seed: int = 0) -> Truth:
    """Writes annotations/ and images/; `train` and `test` photos, and one excluded one in the test file.

    Of the training people the second of six lacks some twists and the fourth all, the first of three has 24
    joints (the others 29); the test file has no twists, and 29 joints of the first of three (the others 24).
    Every fourth is clipped. The boxes are squares of 1.25 times the body; the root is the Human3.6M pelvis,
    not joint 0.
    """
    folder = pathlib.Path(folder)
    splits = {'train': [], 'test': []}
    for split, count in (('train', train), ('test', test)):
        images, annotations = [], []
        excluded = min(2, count) if split == 'test' else -1
        for i in range(count + (split == 'test')):
            rng = generator(seed, 'human36m', split, i)
            subject = H36M_SUBJECTS[split][i % len(H36M_SUBJECTS[split])]
            action, camera_number = 2 + i % 15, 1 + i % 4
            sequence = f's_{subject:02d}_act_{action:02d}_subact_{1 + i // 15 % 2:02d}_ca_{camera_number:02d}'
            if i == excluded:
                sequence = H36M_EXCLUDED[seed % 3]
                subject, action, camera_number = 9, int(sequence[9:11]), int(sequence[-2:])
            elif sequence.startswith(tuple(name[:-3] for name in H36M_EXCLUDED)):
                sequence = sequence.replace('s_09', 's_11')
                subject = 11
            frame = 1 + i * H36M_STEP[split]
            name = f'{sequence}/{sequence}_{frame:06d}.jpg'
            person, _ = _photographed(rng, split, folder / 'images' / name, 400, 400, clipped=i % 4 == 3)
            x, y, w, h = person.box
            side = 1.25 * max(w, h)
            person.box = np.array([x + (w - side) / 2, y + (h - side) / 2, side, side])
            person.root_m = person.h36m_joints_m[0]
            person.sequence, person.activity = sequence, action
            person.left_out = 'excluded file' if i == excluded else ''
            world = to_matrices(rng.normal(0, 1, 3))
            images.append(
                {
                    'id': i,
                    'file_name': name,
                    'width': person.width,
                    'height': person.height,
                    'subject': subject,
                    'action_idx': action,
                    'subaction_idx': int(sequence[-8:-6]),
                    'cam_idx': camera_number,
                    'frame_idx': frame - 1,
                    'cam_param': {
                        'R': world.tolist(),
                        't': (rng.normal(0, 2, 3) * MM).tolist(),
                        'f': person.focal.tolist(),
                        'c': person.centre.tolist(),
                    },
                }
            )
            joints = person.joints_m[: 24 if (i % 3 == 0) == (split == 'train') else 29]
            annotation = {
                'id': i,
                'image_id': i,
                'bbox': person.box.tolist(),
                'thetas': person.pose.ravel().tolist(),
                'betas': person.betas.tolist(),
                'root_coord': (person.root_m * MM).tolist(),
                'smpl_joints': (joints * MM).tolist(),
                'h36m_joints': (person.h36m_joints_m * MM).tolist(),
            }
            if split == 'train' and i % 6 != 3:
                person.twists_known = np.arange(23) % 7 != 2 if i % 6 == 1 else np.ones(23, bool)
                annotation['angle_twist'] = {
                    key: np.where(person.twists_known, value, MISSING).tolist()
                    for key, value in (
                        ('angle', person.twists),
                        ('cos', np.cos(person.twists)),
                        ('sin', np.sin(person.twists)),
                    )
                }
            annotations.append(annotation)
            splits[split].append(person)
        _write_json(
            folder / 'annotations' / H36M_FILES[split], {'images': images, 'annotations': annotations}
        )
    return Truth(splits)


def write_mpi_inf_3dhp(folder: pathlib.Path, *, train: int = 6, test: int = 6, seed: int = 0) -> Truth:
    """Writes both files and both folders of photos; `train` and `test` photos, every fourth person clipped.

    Training: 28 joints, those of the joint map are the SMPL joints that they supervise (so those
    of them that are Human3.6M joints too are some centimetres off the truth's). Test: 17 joints, the body's
    Human3.6M ones; 3 x 4 intrinsic matrices; TS1..TS6 and activity 1..7 in turn. The root is the pelvis.
    """
    folder = pathlib.Path(folder)
    splits = {'train': [], 'test': []}
    for split, count in (('train', train), ('test', test)):
        images, annotations = [], []
        for i in range(count):
            rng = generator(seed, 'mpi_inf_3dhp', split, i)
            frame = 1 + 10 * i
            if split == 'train':
                sequence = f'S{1 + i % 8}/Seq{1 + i % 2}'
                name = f'{sequence}/imageFrames/video_{i % 9}/frame_{frame:06d}.jpg'
            else:
                sequence = f'TS{1 + i % 6}'
                name = f'{sequence}/imageSequence/img_{frame:06d}.jpg'
            width, height = (480, 270) if sequence in ('TS5', 'TS6') else (400, 400)
            path = folder / MPI_FOLDERS[split] / name
            person, camera = _photographed(rng, split, path, width, height, clipped=i % 4 == 3)
            person.sequence = sequence
            joints = mpi_28(person) if split == 'train' else mpi_17(person)
            person.root_m = joints[4 if split == 'train' else 14]
            matrix = camera.matrix()
            annotation = {
                'id': i,
                'image_id': i,
                'bbox': person.box.tolist(),
                'keypoints_cam': (joints * MM).tolist(),
                'keypoints_img': camera.pixels(joints).tolist(),
                'keypoints_vis': [1] * len(joints),
            }
            if split == 'test':
                matrix = np.concatenate([matrix, np.zeros((3, 1))], 1)
                annotation['activity_id'] = person.activity = 1 + i % 7
            images.append(
                {
                    'id': i,
                    'file_name': name,
                    'width': person.width,
                    'height': person.height,
                    'cam_param': {'intrinsic_param': matrix.tolist()},
                }
            )
            annotations.append(annotation)
            splits[split].append(person)
        _write_json(folder / MPI_FILES[split], {'images': images, 'annotations': annotations})
    return Truth(splits)


def mpi_28(person: TruePerson) -> np.ndarray:
    """MPI-INF-3DHP's 28 joints (28, 3), metres: SMPL joints and leaf vertices, spine4 between spine3 and
    neck.
    """
    joints = person.joints_m[list(MPI_28_OF_SMPL)]
    joints[1] = (person.joints_m[9] + person.joints_m[12]) / 2
    return joints


def mpi_17(person: TruePerson) -> np.ndarray:
    """The 17 joints (17, 3) of MPI-INF-3DHP's test file, metres: the Human3.6M joints in its order."""
    joints = np.empty((17, 3))
    joints[list(MPI_17_OF_H36M)] = person.h36m_joints_m
    return joints


def _photographed(
    rng: np.random.Generator, split: str, path: pathlib.Path, width: int, height: int, clipped: bool
) -> tuple[TruePerson, Camera]:
    """A person, whose photo has been written to `path`, and the camera."""
    camera = random_camera(rng, width, height)
    [(middle, size)] = places(rng, camera, 1, clipped)
    person = draw_person(rng, split, camera, middle, size)
    write_photo(path, draw_picture(rng, camera, [person]).image)
    person.photo = path
    return person, camera


def _write_json(path: pathlib.Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
