"""Reads MPI-INF-3DHP from HybrIK's parsed annotation files: 28 joints, or 17 in the test file; lengths in mm.

Source: Mehta et al. 2017.
"""

import pathlib
import re
from collections.abc import Iterator

import numpy as np

from hybrik_jax import annotation_file, catalogue
from hybrik_jax.body import skeleton
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import reading
from hybrik_jax.units import MM_PER_M

DATASET = catalogue.DATASETS['mpi_inf_3dhp']
PHOTOS = {'train': 'mpi_inf_3dhp_train_set', 'test': 'mpi_inf_3dhp_test_set'}
ACTIVITIES = DATASET.protocol.actions  # activity_id 1..7
BOX_ENLARGEMENT = 1.25
_SEQUENCE = re.compile(r'TS([1-6])')


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody in the file's order, one at a time.

    `root` holds the annotation files and the folders mpi_inf_3dhp_{train,test}_set.
    """
    root = pathlib.Path(root)
    for fields in annotation_file.paired_items(reading.find(root, DATASET, split)):
        yield _person(fields, root, split)


def _person(fields: annotation_file.Fields, root: pathlib.Path, split: str) -> AnnotatedPerson | Skipped:
    file_name = fields.path('file_name')
    box = fields.box()
    if box is None:
        return Skipped(reading.NO_BOX, file_name)
    intrinsics = fields.numbers('cam_param.intrinsic_param', (3, 3), (3, 4))
    focal, centre = np.diag(intrinsics)[:2], intrinsics[:2, 2]
    given_m = fields.numbers('keypoints_cam', (28, 3), (17, 3)) / MM_PER_M
    names = skeleton.MPI_OF_MPI_TEST if len(given_m) == 17 else range(28)
    at = dict(zip(names, given_m, strict=True))  # one of the 28 joints -> where it is

    points_m, valid = np.zeros((29, 3)), np.zeros(29, bool)
    for smpl, joint in DATASET.joints.items():
        points_m[smpl], valid[smpl] = at[joint], True
    h36m_m = np.array([at[skeleton.MPI_OF_MPI_TEST[joint]] for joint in skeleton.MPI_TEST_OF_H36M])
    labels = reading.start(*fields.size(), box, BOX_ENLARGEMENT)
    labels |= reading.camera(focal, centre, points_m[0]) | reading.joints(points_m, valid)
    labels |= reading.projected(points_m, valid, focal, centre) | reading.h36m_joints(h36m_m)
    path = pathlib.PurePosixPath(file_name)
    return reading.person(
        fields,
        name=f'mpi_inf_3dhp/{split}/{path.with_suffix("")}',
        photo=root / PHOTOS[split] / file_name,
        labels=labels,
        sequence=_test_sequence(fields, path) if split == 'test' else str(path.parent),
        action=_activity(fields),
    )


def _test_sequence(fields: annotation_file.Fields, path: pathlib.PurePosixPath) -> str:
    """Returns the folder TS1..TS6 that a test frame is in."""
    found = [part for part in path.parts if _SEQUENCE.fullmatch(part)]
    if not found:
        raise AnnotationError(
            f'{fields.where}: file_name is {str(path)!r}, expected is one in a folder TS1 to TS6.'
        )
    return found[-1]


def _activity(fields: annotation_file.Fields) -> str:
    """Returns the activity's name; empty where the file has none, as the training file."""
    if not fields.has('activity_id'):
        return ''
    number = fields.number('activity_id')
    if number not in range(1, len(ACTIVITIES) + 1):
        raise AnnotationError(f'{fields.where}: activity_id is {number}, expected is 1 to {len(ACTIVITIES)}.')
    return ACTIVITIES[int(number) - 1]
