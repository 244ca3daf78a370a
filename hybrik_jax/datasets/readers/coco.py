"""Reads MSCOCO person keypoints from the official files: 17 keypoints on the photo, no camera.

Source: Lin et al. 2014.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hybrik_jax import annotation_file, catalogue
from hybrik_jax.datasets.annotation import AnnotatedPerson, Skipped
from hybrik_jax.datasets.readers import reading

DATASET = catalogue.DATASETS['coco']
PHOTOS = {'train': 'train2017', 'validation': 'val2017'}
BOX_ENLARGEMENT = 1.25


def splits(root: pathlib.Path) -> tuple[str, ...]:
    """Returns the splits whose file is there (most people have the training photos only), or all."""
    there = [split for split, file in DATASET.files.items() if (root / file).exists()]
    return tuple(there or DATASET.files)


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody in the order of `annotations`; the file's list of images is kept in memory.

    Left out: crowds, people without area, keypoints or a box. `root` holds annotations/, train2017/ and
    val2017/.
    """
    root = pathlib.Path(root)

    def of_image(fields: annotation_file.Fields) -> dict[str, Any]:
        width, height = fields.size()
        return {'photo': _photo(fields, split), 'width': width, 'height': height}

    for fields in annotation_file.joined_items(reading.find(root, DATASET, split), of_image):
        yield _person(fields, root, split)


def _photo(fields: annotation_file.Fields, split: str) -> str:
    """Returns where the photo is below the root: the end of its address, or its name in the folder."""
    if fields.has('coco_url'):
        parts = fields.text('coco_url').rstrip('/').split('/')[-2:]
        if len(parts) == 2 and '' not in parts and '..' not in parts:
            return '/'.join(parts)
    return f'{PHOTOS[split]}/{fields.path("file_name")}'


def _person(fields: annotation_file.Fields, root: pathlib.Path, split: str) -> AnnotatedPerson | Skipped:
    photo = fields.text('photo')
    name = f'{pathlib.PurePosixPath(photo).stem}-{fields.key("id")}'
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
    for smpl, keypoint in DATASET.joints.items():
        places[smpl], valid[smpl] = keypoints[keypoint, :2], labelled[keypoint]
        visible[smpl] = keypoints[keypoint, 2] == 2
    labels = reading.start(*fields.size(), box, BOX_ENLARGEMENT)
    labels |= reading.pixels(places, None, valid) | {'visible': visible}
    return reading.person(fields, name=f'coco/{split}/{name}', photo=root / photo, labels=labels)
