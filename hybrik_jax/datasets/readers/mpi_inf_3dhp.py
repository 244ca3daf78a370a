"""Reads MPI-INF-3DHP from the parsed annotation files of HybrIK: 28 joints, or 17 in the test file; lengths
in mm.

Source: Mehta et al. 2017.
"""

import pathlib
import re
from collections.abc import Iterator

import numpy as np

from hybrik_jax.datasets.annotation import MM, AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import reading

NAME = 'mpi_inf_3dhp'
TITLE = 'MPI-INF-3DHP'
SPLITS = ('train', 'test')
FOLDER = '3dhp'
FILES = {'train': 'annotation_mpi_inf_3dhp_train_v2.json', 'test': 'annotation_mpi_inf_3dhp_test.json'}
PHOTOS = {'train': 'mpi_inf_3dhp_train_set', 'test': 'mpi_inf_3dhp_test_set'}
ACTIVITIES = ('Stand', 'Exe', 'Sit', 'Reach', 'Floor', 'Sports', 'Miscell')  # activity_id 1..7
BOX_ENLARGEMENT = 1.25

JOINTS = (
    'spine3', 'spine4', 'spine2', 'spine', 'pelvis', 'neck', 'head', 'head_top', 'left_clavicle', 'left_shoulder',
    'left_elbow', 'left_wrist', 'left_hand', 'right_clavicle', 'right_shoulder', 'right_elbow', 'right_wrist',
    'right_hand', 'left_hip', 'left_knee', 'left_ankle', 'left_foot', 'left_toe', 'right_hip', 'right_knee',
    'right_ankle', 'right_foot', 'right_toe',
)  # fmt: skip
PELVIS = 4
# The test file's 17 joints are these of the 28.
TEST_JOINTS = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
# Human3.6M joint k is this one of the 17.
H36M_OF_TEST = (14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
# SMPL joint: the one of the 28 that supervises it. All of them are among the 17.
SMPL_OF_JOINTS = {0: 4, 4: 19, 5: 24, 7: 20, 8: 25, 12: 5, 16: 9, 17: 14, 18: 10, 19: 15, 20: 11, 21: 16}
_SEQUENCE = re.compile(r'TS([1-6])')


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody in a split, in the file's order; memory does not depend on the file's size.

    Args:
        root: holds the annotation files and the folders mpi_inf_3dhp_{train,test}_set.
        split: 'train' or 'test'.
    Raises:
        FileNotFoundError: naming the file that is missing. AnnotationError: naming file, record and field.
    """
    root = pathlib.Path(root)
    path = reading.find(root, FILES, split, TITLE)
    for fields in reading.paired_items(path):
        yield _person(fields, root, split)


def _person(fields: reading.Fields, root: pathlib.Path, split: str) -> AnnotatedPerson | Skipped:
    file_name = fields.text('file_name')
    box = fields.box()
    if box is None:
        return Skipped(reading.NO_BOX, file_name)
    intrinsics = fields.numbers('cam_param.intrinsic_param', (3, 3), (3, 4))
    focal, centre = np.diag(intrinsics)[:2], intrinsics[:2, 2]
    test_m = MM * fields.numbers('keypoints_cam', (28, 3), (17, 3))
    if len(test_m) == len(JOINTS):
        test_m = test_m[list(TEST_JOINTS)]

    points_m, valid = np.zeros((29, 3)), np.zeros(29, bool)
    for smpl, joint in SMPL_OF_JOINTS.items():
        points_m[smpl], valid[smpl] = test_m[TEST_JOINTS.index(joint)], True
    labels = reading.start(*fields.size(), box, BOX_ENLARGEMENT)
    labels |= reading.camera(focal, centre, test_m[TEST_JOINTS.index(PELVIS)])
    labels |= reading.joints(points_m, valid) | reading.projected(points_m, valid, focal, centre)
    labels |= reading.h36m_joints(test_m[list(H36M_OF_TEST)])
    path = pathlib.PurePosixPath(file_name)
    return AnnotatedPerson(
        name=f'{NAME}/{split}/{path.with_suffix("")}',
        photo=root / PHOTOS[split] / file_name,
        labels=reading.finished(labels),
        sequence=_test_sequence(fields, path) if split == 'test' else str(path.parent),
        action=_activity(fields),
    )


def _test_sequence(fields: reading.Fields, path: pathlib.PurePosixPath) -> str:
    """The folder TS1..TS6 that a test frame is in."""
    found = [part for part in path.parts if _SEQUENCE.fullmatch(part)]
    if not found:
        raise AnnotationError(
            f'{fields.where}: file_name is {str(path)!r}, expected is one in a folder TS1 to TS6.'
        )
    return found[-1]


def _activity(fields: reading.Fields) -> str:
    """The activity's name; empty where the file has none, as the training file."""
    if not fields.has('activity_id'):
        return ''
    number = fields.number('activity_id')
    if number not in range(1, len(ACTIVITIES) + 1):
        raise AnnotationError(f'{fields.where}: activity_id is {number}, expected is 1 to {len(ACTIVITIES)}.')
    return ACTIVITIES[int(number) - 1]
