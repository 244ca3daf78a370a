"""Reads Human3.6M from HybrIK's parsed annotation files: SMPL joints, pose, shape, twists; lengths in mm.

Source: Ionescu et al. 2014; protocol 2: subjects 1, 5, 6, 7, 8 train, 9 and 11 test.
"""

import pathlib
import re
from collections.abc import Iterator

import numpy as np

from hybrik_jax import annotation_file, catalogue
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import reading
from hybrik_jax.units import MM_PER_M

DATASET = catalogue.DATASETS['human36m']
SUBJECTS = {'train': (1, 5, 6, 7, 8), 'test': (9, 11)}
# Their SMPL fits are wrong, whatever the camera.
EXCLUDED = ('s_09_act_05_subact_02_ca', 's_09_act_10_subact_02_ca', 's_09_act_13_subact_01_ca')
FIRST_ACT = 2
ACTIONS = (
    'Directions', 'Discussion', 'Eating', 'Greeting', 'Phoning', 'Posing', 'Purchases', 'Sitting',
    'SittingDown', 'Smoking', 'Photo', 'Waiting', 'Walking', 'WalkDog', 'WalkTogether',
)  # fmt: skip
BOX_ENLARGEMENT = 1.0  # the file's boxes are enlarged already
MISSING_TWIST = -10.0  # radians; smaller ones say that there is none
_FILE_NAME = re.compile(r's_(\d+)_act_(\d+)_subact_(\d+)_ca_(\d+)')


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody in the file's order, one at a time; `root` holds annotations/ and images/."""
    root = pathlib.Path(root)
    for fields in annotation_file.paired_items(reading.find(root, DATASET, split)):
        yield _person(fields, root, split)


def _person(fields: annotation_file.Fields, root: pathlib.Path, split: str) -> AnnotatedPerson | Skipped:
    file_name = fields.path('file_name')
    match = _FILE_NAME.search(pathlib.PurePosixPath(file_name).name)
    act = int(match[2]) - FIRST_ACT if match else -1
    if not 0 <= act < len(ACTIONS):
        raise AnnotationError(
            f'{fields.where}: file_name is {file_name!r}, expected is one like '
            f's_09_act_02_subact_01_ca_01_000001.jpg with act {FIRST_ACT:02d} to '
            f'{FIRST_ACT + len(ACTIONS) - 1}. Is it the right file?'
        )
    if match[0].startswith(EXCLUDED):
        return Skipped('excluded file', file_name)
    if int(match[1]) not in SUBJECTS[split]:
        return Skipped('subject of another split', file_name)
    box = fields.box()
    if box is None:
        return Skipped(reading.NO_BOX, file_name)

    focal, centre = fields.numbers('cam_param.f', (2,)), fields.numbers('cam_param.c', (2,))
    points_m, valid = reading.padded(fields.numbers('smpl_joints', (24, 3), (29, 3)) / MM_PER_M)
    labels = reading.start(*fields.size(), box, BOX_ENLARGEMENT)
    labels |= reading.camera(focal, centre, fields.numbers('root_coord', (3,)) / MM_PER_M)
    labels |= reading.joints(points_m, valid) | reading.projected(points_m, valid, focal, centre)
    labels |= reading.h36m_joints(fields.numbers('h36m_joints', (17, 3)) / MM_PER_M)
    if fields.has('thetas') or fields.has('betas'):
        pose, betas = fields.numbers('thetas', (24, 3)), fields.numbers('betas', (10,))
        labels |= {'pose': pose, 'betas': betas, 'smpl_weight': 1}
    if fields.has('angle_twist'):
        angle = fields.numbers('angle_twist.angle', (23,))
        known = ~(angle < MISSING_TWIST)  # also where it is not a number, so that this is found
        labels |= {'twists': np.where(known, angle, 0), 'twist_weight': known}
    stem = pathlib.PurePosixPath(file_name).stem
    frame = stem.removeprefix(match[0]).strip('_') or stem
    return reading.person(
        fields,
        name=f'human36m/{split}/{match[0]}/{frame}',
        photo=root / 'images' / file_name,
        labels=labels,
        sequence=match[0],
        action=ACTIONS[act],
    )
