"""The reader of MSCOCO, on small files in its format."""

import numpy as np
import pytest

from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.readers import reading
from tests.annotations import close, coco_annotation, one, read_coco, skipped


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
