"""Reads Human3.6M from the parsed annotation files of HybrIK: SMPL joints, pose, shape, twists; lengths in
mm.

Source: Ionescu et al. 2014; protocol 2: subjects 1, 5, 6, 7, 8 train, 9 and 11 test.
"""

import pathlib
import re
from collections.abc import Iterator

import numpy as np

from hybrik_jax.datasets.annotation import MM, AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import reading

NAME = 'human36m'
TITLE = 'Human3.6M'
SPLITS = ('train', 'test')
FOLDER = 'h36m'
FILES = {
    'train': 'annotations/Sample_5_train_Human36M_smpl_leaf_twist_protocol_2.json',
    'test': 'annotations/Sample_20_test_Human36M_smpl_protocol_2.json',
}
SUBJECTS = {'train': (1, 5, 6, 7, 8), 'test': (9, 11)}
# Their SMPL fits are wrong, whatever the camera.
EXCLUDED = ('s_09_act_05_subact_02_ca', 's_09_act_10_subact_02_ca', 's_09_act_13_subact_01_ca')
FIRST_ACT = 2
ACTIONS = (
    'Directions', 'Discussion', 'Eating', 'Greeting', 'Phoning', 'Posing', 'Purchases', 'Sitting', 'SittingDown',
    'Smoking', 'Photo', 'Waiting', 'Walking', 'WalkDog', 'WalkTogether',
)  # fmt: skip
BOX_ENLARGEMENT = 1.0  # the file's boxes are enlarged already
MISSING_TWIST = -10.0  # radians; smaller ones say that there is none
_FILE_NAME = re.compile(r's_(\d+)_act_(\d+)_subact_(\d+)_ca_(\d+)')


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody in a split, in the file's order; memory does not depend on the file's size.

    Args:
        root: holds annotations/ and images/.
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
    match = _FILE_NAME.search(pathlib.PurePosixPath(file_name).name)
    act = int(match[2]) - FIRST_ACT if match else -1
    if not 0 <= act < len(ACTIONS):
        raise AnnotationError(
            f'{fields.where}: file_name is {file_name!r}, expected is one like s_09_act_02_subact_01_ca_01_000001.jpg '
            f'with act {FIRST_ACT:02d} to {FIRST_ACT + len(ACTIONS) - 1}. Is it the right file?'
        )
    if match[0].startswith(EXCLUDED):
        return Skipped('excluded file', file_name)
    if int(match[1]) not in SUBJECTS[split]:
        return Skipped('subject of another split', file_name)
    box = fields.box()
    if box is None:
        return Skipped(reading.NO_BOX, file_name)

    focal, centre = fields.numbers('cam_param.f', (2,)), fields.numbers('cam_param.c', (2,))
    points_m, valid = reading.padded(MM * fields.numbers('smpl_joints', (24, 3), (29, 3)))
    labels = reading.start(*fields.size(), box, BOX_ENLARGEMENT)
    labels |= reading.camera(focal, centre, MM * fields.numbers('root_coord', (3,)))
    labels |= reading.joints(points_m, valid) | reading.projected(points_m, valid, focal, centre)
    labels |= reading.h36m_joints(MM * fields.numbers('h36m_joints', (17, 3)))
    if fields.has('thetas') or fields.has('betas'):
        labels |= {
            'pose': fields.numbers('thetas', (24, 3)),
            'betas': fields.numbers('betas', (10,)),
            'smpl_weight': 1,
        }
    if fields.has('angle_twist'):
        angle = fields.numbers('angle_twist.angle', (23,))
        known = ~(angle < MISSING_TWIST)  # also where it is not a number, so that this is found
        labels |= {'twists': np.where(known, angle, 0), 'twist_weight': known}
    stem = pathlib.PurePosixPath(file_name).stem
    frame = stem.removeprefix(match[0]).strip('_') or stem
    return AnnotatedPerson(
        name=f'{NAME}/{split}/{match[0]}/{frame}',
        photo=root / 'images' / file_name,
        labels=reading.finished(labels),
        sequence=match[0],
        action=ACTIONS[act],
    )
