"""What readers say of files that are missing, damaged or mixed up."""

import json

import numpy as np
import pytest

from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError
from hybrik_jax.datasets.readers import coco, human36m, mpi_inf_3dhp, pw3d
from tests.annotations import (
    coco_annotation,
    h36m_entry,
    hp3d_entry,
    pw3d_annotation,
    read_coco,
    read_h36m,
    read_hp3d,
    standing_m,
    write,
    write_paired,
    write_pw3d,
)


@pytest.fixture(scope='module')
def joints_m():
    return standing_m()


READERS = (human36m, mpi_inf_3dhp, pw3d, coco)


@pytest.mark.parametrize('reader', READERS, ids=lambda reader: reader.DATASET.name)
def test_missing_files_say_what_belongs_where(tmp_path, reader):
    split = next(iter(reader.DATASET.files))
    with pytest.raises(FileNotFoundError) as error:
        next(reader.read(tmp_path / 'nowhere', split))
    for part in (
        reader.DATASET.files[split],
        f'the folder of {reader.DATASET.title} should hold',
        'There is no folder',
    ):
        assert part in str(error.value)
    with pytest.raises(ValueError, match='has no split .*holiday.*, only train'):
        next(reader.read(tmp_path, 'holiday'))


@pytest.mark.parametrize('reader', READERS, ids=lambda reader: reader.DATASET.name)
def test_mixed_up_folders_are_recognised(tmp_path, joints_m, reader):
    write_paired(tmp_path / 'h36m' / human36m.DATASET.files['test'], [])
    write_paired(tmp_path / '3dhp' / mpi_inf_3dhp.DATASET.files['test'], [])
    write_pw3d(tmp_path / 'pw3d', joints_m, split='test')
    read_coco(tmp_path / 'coco', split='validation')
    for other in READERS:
        if other is not reader:
            with pytest.raises(
                FileNotFoundError, match=f'looks like the folder of {other.DATASET.title}: were folders mixed'
            ):
                next(reader.read(tmp_path / other.DATASET.folder, 'train'))
    with pytest.raises(
        FileNotFoundError, match='holds h36m, 3dhp, pw3d, coco: give the folder of the one dataset'
    ):
        next(reader.read(tmp_path, 'train'))
    with pytest.raises(FileNotFoundError) as error:
        next(reader.read(tmp_path / reader.DATASET.folder, 'train'))  # the right folder, without this file
    assert 'mixed up' not in str(error.value)


@pytest.mark.parametrize('reader', READERS, ids=lambda reader: reader.DATASET.name)
def test_truncated_and_foreign_files_are_named(tmp_path, joints_m, reader):
    path = tmp_path / reader.DATASET.files['train']
    read_h36m(tmp_path, h36m_entry(joints_m))
    read_hp3d(tmp_path, hp3d_entry(joints_m))
    write_pw3d(tmp_path, joints_m, pw3d_annotation(joints_m))
    read_coco(tmp_path, coco_annotation())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(AnnotationError, match=rf'{path.name} is no whole JSON file [\s\S]* cut off'):
        list(reader.read(tmp_path, 'train'))
    write(path, {'pictures': [], 'notes': []})
    with pytest.raises(AnnotationError, match=f"{path.name} has no list 'images', only .*pictures"):
        list(reader.read(tmp_path, 'train'))
    write(path, {'images': [{'a': 1}], 'annotations': [{'b': 2}]})
    with pytest.raises(AnnotationError, match=r'(record 0|images\[0\]): .* is missing; there are: a'):
        list(reader.read(tmp_path, 'train'))
    write(path, {'images': [], 'annotations': []})
    assert list(reader.read(tmp_path, 'train')) == []


def test_parallel_lists_of_different_length_are_named(tmp_path, joints_m):
    path = write_paired(tmp_path / human36m.DATASET.files['train'], [h36m_entry(joints_m)] * 2)
    content = json.loads(path.read_text())
    write(path, content | {'annotations': content['annotations'][:1]})
    items = human36m.read(tmp_path, 'train')
    assert isinstance(next(items), AnnotatedPerson)
    with pytest.raises(AnnotationError, match='annotations ends after 1 entries, the other list goes on'):
        next(items)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'smpl_joints': None}, 'record 1: smpl_joints is missing; there are: .*bbox'),
        (
            {'smpl_joints': [[0, 0, 0]] * 23},
            r'smpl_joints has the shape \(23, 3\), expected is \(24, 3\) or \(29, 3\)',
        ),
        ({'smpl_joints': np.zeros((3, 24)).tolist()}, r'smpl_joints has the shape \(3, 24\)'),
        ({'smpl_joints': [[0, 0, 0], [1, 2]]}, 'smpl_joints is no regular list of numbers'),
        ({'smpl_joints': 'many'}, 'smpl_joints is no regular list of numbers'),
        ({'cam_param': {'f': [1, 2]}}, 'cam_param.c is missing; there are: f'),
        ({'cam_param': None}, 'cam_param.f is missing'),
        ({'thetas': None}, 'thetas is missing'),
        (
            {'angle_twist': {'angle': [0] * 22}},
            r'angle_twist.angle has the shape \(22,\), expected is \(23,\)',
        ),
        ({'bbox': [1, 2, 3]}, r'bbox has the shape \(3,\), expected is \(4,\)'),
        ({'bbox': [1, 2, None, 4]}, 'record 1: bbox: box .* is not finite'),
        ({'width': 0}, 'width and height are 0 and 900, not those of a photo'),
        ({'width': 10**18}, 'width and height are 10+ and 900, not those of a photo'),
        ({'width': 'wide'}, "width is 'wide', expected is a number"),
        ({'file_name': 'a.jpg'}, "file_name is 'a.jpg', expected is one like s_09_act_02"),
        ({'file_name': 's_01_act_17_subact_01_ca_01_000001.jpg'}, 'with act 02 to 16'),
        ({'file_name': 7}, 'file_name is 7, expected is a text'),
    ],
)
def test_wrong_fields_are_named_with_file_and_record(tmp_path, joints_m, change, message):
    items = read_h36m(tmp_path, h36m_entry(joints_m), h36m_entry(joints_m, **change))
    assert isinstance(next(items), AnnotatedPerson)
    with pytest.raises(AnnotationError, match=message) as error:
        next(items)
    assert str(tmp_path / human36m.DATASET.files['train']) in str(error.value)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'activity_id': 8}, 'activity_id is 8, expected is 1 to 7'),
        ({'file_name': 'S1/Seq1/0.jpg'}, 'expected is one in a folder TS1 to TS6'),
        ({'cam_param': {'intrinsic_param': [[1, 2], [3, 4]]}}, r'expected is \(3, 3\) or \(3, 4\)'),
        ({'keypoints_cam': np.zeros((24, 3)).tolist()}, r'expected is \(28, 3\) or \(17, 3\)'),
    ],
)
def test_wrong_fields_of_3dhp_are_named(tmp_path, joints_m, change, message):
    with pytest.raises(AnnotationError, match=message):
        list(read_hp3d(tmp_path, hp3d_entry(joints_m, 17, **change), split='test'))


@pytest.mark.parametrize(
    'annotation, image, message',
    [
        ({'keypoints': [1] * 6}, {}, r'annotations\[0\]: keypoints has the shape \(6,\), expected is'),
        ({'keypoints': 7}, {}, r'annotations\[0\]: keypoints has the shape \(\), expected is'),
        ({'image_id': 5}, {}, r'annotations\[0\]: image_id is 5, no image has this id'),
        ({'image_id': [5]}, {}, r'annotations\[0\]: image_id is \[5\], expected is a number'),
        ({'id': {}}, {}, r'annotations\[0\]: id is {}, expected is a number'),
        ({}, {'id': ['a']}, r"images\[0\]: id is \['a'\], expected is a number"),
        (
            {},
            {'file_name': ['a'], 'coco_url': None},
            r"images\[0\]: file_name is \['a'\], expected is a text",
        ),
    ],
)
def test_wrong_fields_of_coco_are_named(tmp_path, annotation, image, message):
    with pytest.raises(AnnotationError, match=message):
        list(read_coco(tmp_path, coco_annotation(**annotation), **image))
