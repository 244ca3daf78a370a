"""Files of roots and boxes that other programs found: by name, photo and number; refusals."""

import json
import time

import numpy as np
import pytest

from hybrik_jax.data import record, store
from hybrik_jax.scoring import roots_and_boxes
from tests import miniature
from tools import build_dataset


def person(name: str, box=(50.0, 40.0, 149.0, 139.0)) -> dict:
    fields = record.blank() | record.whole_photo(230, 200)
    return fields | {'name': name.encode(), 'box': np.array(box, np.float32)}


def found(tmp_path, content, kind='root') -> roots_and_boxes.Found:
    path = tmp_path / f'{kind}.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return roots_and_boxes.Found(path, kind)


def test_roots_by_record_name(tmp_path):
    roots = found(tmp_path, {'pw3d/test/a/1-0': [12.5, -310, 4120.75], 'pw3d/test/a/1-1': [0, 0, 5000]})
    np.testing.assert_allclose(roots.root_m(person('pw3d/test/a/1-0')), [0.0125, -0.31, 4.12075], rtol=1e-6)
    np.testing.assert_allclose(roots.root_m(person('pw3d/test/a/1-1')), [0, 0, 5], rtol=1e-6)
    assert roots.label.startswith('root.json ') and len(roots.label) == len('root.json ') + 8
    with pytest.raises(ValueError, match="no root for record 'pw3d/test/b'.*such as 'pw3d/test/a/1-0'"):
        roots.root_m(person('pw3d/test/b'))


@pytest.mark.parametrize('key', ['file_name', 'image_id'])
def test_roots_of_rootnets_list(tmp_path, key):
    roots = found(
        tmp_path,
        [
            {key: 's_09_act_02/s_09_act_02_000001.jpg', 'root_cam': [1, 2, 4001.0]},
            {key: 's_09_act_03/s_09_act_03_000001.jpg', 'root_cam': [1, 2, 4002.0]},
            {key: 'images/TS1/img_7.jpg', 'root_cam': [1, 2, 4003.0], 'bbox': [0, 0, 20, 20], 'score': 1.0},
            {key: 'images/TS1/img_7.jpg', 'root_cam': [1, 2, 4004.0], 'bbox': [55, 45, 90, 100]},
            {key: 's_11_act_02_000001.jpg', 'root_cam': [1, 2, 4006.0]},
            {'name': 'x/test/named', 'root_cam': [1, 2, 4005.0]},
        ],
    )
    depths = {
        'human36m/test/s_09_act_02/000001': 4.001,
        'human36m/test/s_09_act_03/s_09_act_03_000001': 4.002,
        'mpi_inf_3dhp/test/TS1/img_7': 4.004,
        'x/test/named': 4.005,
        'human36m/test/s_11_act_02/000001': 4.006,
    }
    for name, depth in depths.items():
        assert roots.root_m(person(name))[2] == pytest.approx(depth)
        assert roots.root_m(person(name))[2] == pytest.approx(depth)  # asked again
    with pytest.raises(ValueError, match='several photos fit'):
        roots.root_m(person('human36m/test/000001'))
    with pytest.raises(ValueError, match='2 entries, none with a bbox that overlaps'):
        roots.root_m(person('mpi_inf_3dhp/test/TS1/img_7-1', box=(180, 150, 220, 190)))
    with pytest.raises(ValueError, match="entry 3 fits the records 'mpi_inf_3dhp/test/TS1/img_7' and"):
        roots.root_m(person('mpi_inf_3dhp/test/TS1/img_7-1'))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"a": [1, 2', 'no whole JSON'),
        ('3', 'neither an object nor a list'),
        ({}, 'is empty'),
        ({'a': [1, 2]}, "entry 'a' has .1, 2., expected are 3 numbers: x y z, millimetres"),
        ({'a': 'text'}, 'expected are 3 numbers'),
        ('{"a": [1, 2, NaN]}', 'expected are 3 numbers'),
        ({'a': [0.1, 0.2, 4.1]}, "entry 'a' has its root at z = 4.1: it looks like metres: give millimetres"),
        ({'a': [0, 0, -4000]}, 'it lies behind the camera'),
        ([{'image_id': [17], 'root_cam': [0, 0, 4000]}], r'image_id=\[17\], which names no photo'),
        ([{'image_id': True, 'root_cam': [0, 0, 4000]}], 'image_id=True, which names no photo'),
        ([{'image_id': 1.5, 'root_cam': [0, 0, 4000]}], 'image_id=1.5, which names no photo'),
        ([{'id': '1', 'root_cam': [0, 0, 4000]}], 'image_id=None, which names no photo'),
        ([{'name': {}, 'root_cam': [0, 0, 4000]}], r'name={}, expected is a text'),
        ([['a', 1]], 'entry 0 is no object'),
        ({'a': ['1', '2', '4000']}, 'expected are 3 numbers'),
        ({'a': [True, 2, 4000]}, 'expected are 3 numbers'),
        ({'a': [0, 0, 10**4000]}, 'expected are 3 numbers'),
        ('{"a": [0, 0, 1' + '0' * 5000 + ']}', "entry 'a' has .*too large a number"),
        ('{"a": [0, 0, 1e300]}', 'expected are 3 numbers'),
        ('[' * 100_000, 'nested more than 64 deep'),
        ('[' * 100_000 + ']' * 100_000, 'nested more than 64 deep'),
        ({'a': [[[[0] * 3] * 3] * 3] * 300}, 'expected are 3 numbers'),
        ([{'image_id': 'a.jpg'}], "entry 0 is no object with 'root_cam'"),
        ([{'name': 'a', 'root_cam': [0, 0, 4000]}] * 2, "entry 1 is the second one for 'a'"),
    ],
)
def test_root_files_that_cannot_be_used(tmp_path, content, message):
    """Whatever is in the file, one line says what is wrong with it, at once."""
    started = time.monotonic()
    with pytest.raises(ValueError, match=message) as error:
        found(tmp_path, content)
    said = str(error.value)
    assert len(said) < len(str(tmp_path)) + 300 and '\n' not in said and time.monotonic() - started < 2


def test_cocos_photo_numbers(tmp_path):
    """A detector's list for MSCOCO: the photo by its number, the person by its box."""
    boxes = [
        {'image_id': 785, 'category_id': 1, 'bbox': [50, 40, 100, 90], 'score': 0.9},
        {'image_id': 785, 'category_id': 1, 'bbox': [150, 40, 60, 100], 'score': 0.8},
        {'image_id': 9, 'bbox': [50, 40, 100, 100]},
    ]
    listed = found(tmp_path, boxes, 'box')
    named = 'coco/validation/000000000785-442619'
    np.testing.assert_array_equal(listed.box(person(named)), [50, 40, 149, 129])
    right = person('coco/validation/000000000785-99', (150.0, 40.0, 209.0, 139.0))
    np.testing.assert_array_equal(listed.box(right), [150, 40, 209, 139])
    with pytest.raises(ValueError, match='no box for record .*; it has 2 of others, such as 785'):
        listed.box(person('coco/validation/000000000786-1'))


def test_annotation_numbers(tmp_path):
    """annotations[].id alone, or telling people of one photo apart; a detector's running id does not."""
    listed = [
        {'image_id': 785, 'id': 11, 'root_cam': [0, 0, 4001]},
        {'image_id': 785, 'id': 12, 'root_cam': [0, 0, 4002]},
        {'ann_id': 13, 'root_cam': [0, 0, 4003]},
        {'annotation_id': 14, 'root_cam': [0, 0, 4004]},
        {'image_id': 786, 'id': 1, 'root_cam': [0, 0, 4005], 'bbox': [150, 40, 60, 100]},
        {'image_id': 786, 'id': 2, 'root_cam': [0, 0, 4006], 'bbox': [50, 40, 100, 100]},
    ]
    roots = found(tmp_path, listed)
    for photo, annotation, depth in ((785, 11, 1), (785, 12, 2), (700, 13, 3), (701, 14, 4), (786, 99, 6)):
        record = person(f'coco/train/{photo:012d}-{annotation}')
        assert roots.root_m(record)[2] == pytest.approx(4 + depth / 1000)


def test_numbers_of_parsed_files(tmp_path):
    """images[].id of a file whose photos have other names: known where the dataset was built with it."""
    listed = [{'image_id': 7000 + k, 'root_cam': [0, 0, 4000.0 + k]} for k in range(3)]
    path = tmp_path / 'roots.json'
    path.write_text(json.dumps(listed))
    names = [f'human36m/test/s_09_act_02_subact_01_ca_01/{k:06d}' for k in range(3)]
    numbers = {name: (7002 - k, None) for k, name in enumerate(names)}
    roots = roots_and_boxes.Found(path, 'root', numbers)
    assert [roots.root_m(person(name))[2] for name in names] == pytest.approx([4.002, 4.001, 4.0])
    without = roots_and_boxes.Found(path, 'root')
    with pytest.raises(ValueError, match='numbers of its photos are not known: build the dataset again'):
        without.root_m(person(names[0]))


def test_numbers_come_with_a_build(tmp_path):
    """Entries by the numbers of the published files find the records that were built from them."""
    truth = miniature.write_all(tmp_path / 'raw', train=1, test=3)
    files = {
        'human36m': 'h36m/annotations/Sample_20_test_Human36M_smpl_protocol_2.json',
        'mpi_inf_3dhp': '3dhp/annotation_mpi_inf_3dhp_test.json',
        'pw3d': 'pw3d/json/3DPW_test_new.json',
    }
    for name, file in files.items():
        folder = tmp_path / name
        arguments = ['--data-root', str(tmp_path / 'raw'), '--split', 'test', '--workers', '0']
        build_dataset.main([name, *arguments, '--out', str(folder)])
        numbers = roots_and_boxes.read_numbers(folder, 'test')
        annotations = json.loads((tmp_path / 'raw' / file).read_text())['annotations']
        by_image = [{'image_id': a['image_id'], 'bbox': a['bbox']} for a in annotations]
        by_annotation = [{'annotation_id': a['id'], 'bbox': a['bbox']} for a in annotations]
        for listed in (by_image, by_annotation):
            path = tmp_path / 'boxes.json'
            path.write_text(json.dumps(listed))
            boxes = roots_and_boxes.Found(path, 'box', numbers)
            source = store.open_split(folder, 'test')
            assert len(source) == len(truth[name]['test'])
            for stored in source:
                np.testing.assert_allclose(boxes.box(stored), stored['box'], atol=1e-3)


def test_a_missing_root_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.json is no file, a root file is one'):
        roots_and_boxes.Found(tmp_path / 'none.json', 'root')


def test_boxes(tmp_path):
    boxes = found(tmp_path, {'a/test/1': [-10, 20, 61, 101], 'a/test/2': [300, 20, 10, 10]}, 'box')
    np.testing.assert_array_equal(boxes.box(person('a/test/1')), [0, 20, 50, 120])
    with pytest.raises(ValueError, match="'a/test/2' misses the photo"):
        boxes.box(person('a/test/2'))
    listed = found(tmp_path, [{'file_name': 'x/1.png', 'bbox': [50, 40, 100, 100]}], 'box')
    np.testing.assert_array_equal(listed.box(person('a/test/x/1')), [50, 40, 149, 139])
    with pytest.raises(ValueError, match='expected are 4 numbers'):
        found(tmp_path, {'a': [1, 2, 3]}, 'box')


def test_a_box_beyond_the_stored_region():
    whole = person('a/test/1')
    roots_and_boxes.check_box_is_stored(whole, np.array([0, 0, 229, 199]), 1.25)
    half = {'region_offset': np.array([40.5, 30.5]), 'region_scale': 0.5, 'region_size': np.array([60, 60])}
    cut = whole | half  # photo pixels 40 to 159 and 30 to 149
    roots_and_boxes.check_box_is_stored(cut, np.array([50, 40, 149, 139]), 1.0)
    roots_and_boxes.check_box_is_stored(cut, np.array([50, 40, 149, 139]), 1.2)
    with pytest.raises(ValueError, match="record 'a/test/1': the crop of the detected box reaches"):
        roots_and_boxes.check_box_is_stored(cut, np.array([50, 40, 149, 139]), 1.4)
