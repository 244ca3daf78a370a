"""Reads MSCOCO person keypoints from the official files: 17 keypoints on the photo, no camera.

Source: Lin et al. 2014.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hybrik_jax.datasets.annotation import AnnotatedPerson, Skipped
from hybrik_jax.datasets.readers import reading

NAME = 'coco'
TITLE = 'MSCOCO'
SPLITS = ('train', 'validation')
FOLDER = 'coco'
FILES = {
    'train': 'annotations/person_keypoints_train2017.json',
    'validation': 'annotations/person_keypoints_val2017.json',
}
PHOTOS = {'train': 'train2017', 'validation': 'val2017'}
BOX_ENLARGEMENT = 1.25
# SMPL joint: the keypoint that supervises it.
SMPL_OF_KEYPOINTS = {4: 13, 5: 14, 7: 15, 8: 16, 16: 5, 17: 6, 18: 7, 19: 8, 20: 9, 21: 10}


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody in a split, in the order of `annotations`; the file's list of images is kept in
    memory.

    Left out: crowds, people without area, keypoints or a box.

    Args:
        root: holds annotations/, train2017/ and val2017/.
        split: 'train' or 'validation'.
    Raises:
        FileNotFoundError: naming the file that is missing. AnnotationError: naming file, record and field.
    """
    root = pathlib.Path(root)
    path = reading.find(root, FILES, split, TITLE)

    def of_image(fields: reading.Fields) -> dict[str, Any]:
        width, height = fields.size()
        return {'photo': _photo(fields, split), 'width': width, 'height': height}

    for fields in reading.joined_items(path, of_image):
        yield _person(fields, root, split)


def _photo(fields: reading.Fields, split: str) -> str:
    """Where the photo is below the root: the last two parts of its address, or its name in the split's
    folder.
    """
    if fields.has('coco_url'):
        parts = fields.text('coco_url').rstrip('/').split('/')[-2:]
        if len(parts) == 2 and '' not in parts and '..' not in parts:
            return '/'.join(parts)
    return f'{PHOTOS[split]}/{fields.text("file_name")}'


def _person(fields: reading.Fields, root: pathlib.Path, split: str) -> AnnotatedPerson | Skipped:
    photo = fields.text('photo')
    name = f'{pathlib.PurePosixPath(photo).stem}-{fields.get("id")}'
    if fields.item.get('iscrowd'):
        return Skipped('crowd', name)
    if fields.item.get('category_id', 1) != 1:
        return Skipped('not a person', name)
    if not fields.number('area') > 0:
        return Skipped('no area', name)
    keypoints = fields.numbers('keypoints', (17, 3))
    labelled = keypoints[:, 2] > 0  # 1: covered by something, 2: visible
    if not labelled.any():
        return Skipped('no visible keypoint', name)
    box = fields.box()
    if box is None:
        return Skipped(reading.NO_BOX, name)

    places, valid, visible = np.zeros((29, 2)), np.zeros(29, bool), np.zeros(29)
    for smpl, keypoint in SMPL_OF_KEYPOINTS.items():
        places[smpl], valid[smpl] = keypoints[keypoint, :2], labelled[keypoint]
        visible[smpl] = keypoints[keypoint, 2] == 2
    labels = reading.start(*fields.size(), box, BOX_ENLARGEMENT)
    labels |= reading.pixels(places, None, valid) | {'visible': visible}
    return AnnotatedPerson(name=f'{NAME}/{split}/{name}', photo=root / photo, labels=reading.finished(labels))
