"""People's own data: whatever is wrong is named with file, record, field and what to do."""

import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from hybrik_jax.datasets import annotation
from hybrik_jax.datasets.readers import custom
from tests.own_people import HEIGHT, ROOT, SMPL, WIDTH, entry, keypoints, write

PROJECT = pathlib.Path(__file__).parents[1]


def with_3d(**changes):
    return entry(joints_3d=entry()['joints_3d'] | changes)


def nan_at(joint):
    points = SMPL.tolist()
    points[joint][1] = float('nan')
    return points


NAMED = [{**entry(), 'name': 'twice'}] * 2
FLIPPED = ((SMPL - ROOT) * [1, -1, -1] + ROOT).tolist()
WRONG = {
    'missing image': (entry(photo='no.jpg'), 'photo', 'there is no file'),
    'photo that is none': (entry(photo='notes.txt'), 'photo', 'is no image'),
    'photo outside': (entry(photo='../people.json'), 'photo', 'is outside of photos_root: --allow-outside'),
    'photo elsewhere': (entry(photo='/etc/hostname'), 'photo', 'is outside of photos_root: --allow-outside'),
    'photo that is a device': (
        entry(photo='endless.jpg'),
        'photo',
        'is outside of photos_root: --allow-outside',
    ),
    'photo that is a folder': (entry(photo='.'), 'photo', 'is a folder or a device'),
    'photo of a very long name': (entry(photo='a' * 1000), 'photo', 'there is no file'),
    'another size': (entry(photo_size=[240, 320]), 'photo_size', 'is 240 x 320, the file has 320 x 240'),
    'half a size': (entry(photo_size=[320.5, 240]), 'photo_size', '[0] is 320.5, must be a valid integer'),
    'no photo': (entry(photo=None), 'photo', 'is missing'),
    'misspelt field': (entry(keypoint_2d=1), 'keypoint_2d', 'no such field; there are action'),
    'no label': (entry(joints_3d=None), '', 'nothing is labelled'),
    'three numbers in a box': (
        entry(box=[1, 2, 3]),
        'box',
        'has 3 elements, must have 4 (x, y, width, height in pixels)',
    ),
    'box of no size': (entry(box=[10, 10, 0, 30]), 'box', 'has no size'),
    'box outside': (entry(box=[500, 10, 40, 30]), 'box', 'has no part in the photo of 320 x 240'),
    'text in a box': (entry(box=[1, 2, 'x', 3]), 'box', "[2] is 'x', must be a finite number"),
    'too few joints': (
        with_3d(points_m=SMPL[:20].tolist()),
        'joints_3d.points_m',
        "has 20 points, the skeleton 'smpl24' has 24",
    ),
    'points of two numbers': (
        with_3d(points_m=SMPL[:, :2].tolist()),
        'joints_3d.points_m',
        '[0] has 2 elements, must have 3',
    ),
    'rows of two lengths': (
        with_3d(points_m=[[1, 2], *SMPL[1:].tolist()]),
        'joints_3d.points_m',
        '[0] has 2 elements, must have 3',
    ),
    'NaN': (
        with_3d(points_m=nan_at(3)),
        'joints_3d.points_m',
        '[3][1] is null or NaN, must be a finite number',
    ),
    'millimetres': (
        with_3d(points_m=(1000 * SMPL).tolist()),
        'joints_3d.points_m',
        'as if millimetres were taken for metres',
    ),
    'centimetres': (
        with_3d(points_m=(100 * SMPL).tolist()),
        'joints_3d.points_m',
        'as if centimetres were taken for metres',
    ),
    'unknown skeleton': (
        with_3d(skeleton='smpl42'),
        'joints_3d.skeleton',
        "'smpl42' is not known; there are smpl24",
    ),
    'another frame': (
        with_3d(frame='world'),
        'joints_3d.frame',
        "is 'world', must be 'camera' (x right, y down",
    ),
    'behind the camera': (
        with_3d(points_m=(-SMPL).tolist()),
        'joints_3d.points_m',
        '[0] lies behind the camera (24 such): z must be forward',
    ),
    'no camera': (entry(camera=None), 'camera', 'is missing: 3D joints need'),
    'half a camera': (entry(camera={'focal': [300, 300]}), 'camera.centre', 'is missing'),
    'focal length in mm': (
        entry(camera={'focal': [24, 24], 'centre': [1, 1]}),
        'camera.focal',
        'pixels, not milli',
    ),
    'another camera': (
        with_3d(points_m=(SMPL + [2, 0, 0]).tolist()),
        'joints_3d.points_m',
        '0 % of them project',
    ),
    'no pelvis': (
        entry(joints_3d={'skeleton': 'coco17', 'frame': 'camera', 'points_m': SMPL[:17].tolist()}),
        'joints_3d.root',
        'has no pelvis',
    ),
    'flipped axes': (
        entry(joints_3d=entry()['joints_3d'] | {'points_m': FLIPPED}, keypoints_2d=keypoints()),
        'keypoints_2d.points',
        'from the projected 3D joints',
    ),
    'confidences': (entry(keypoints_2d=keypoints(v=0.7)), 'keypoints_2d.points', 'v is 0.7'),
    'normalised keypoints': (
        entry(joints_3d=None, keypoints_2d={'skeleton': 'smpl24', 'points': [[0.5, 0.5, 2]] * 24}),
        'keypoints_2d.points',
        'they look normalised',
    ),
    'degrees': (entry(smpl={'pose': [[90, 0, 0]] * 24, 'betas': [0] * 10}), 'smpl.pose', 'not degrees'),
    'too many betas': (
        entry(smpl={'pose': [[0] * 3] * 24, 'betas': [0] * 16}),
        'smpl.betas',
        'has 16 elements, must have 10',
    ),
    'name that is a number': (entry(name=7), 'name', 'is 7, must be a valid string'),
    'another split': (entry(split='dev'), 'split', "is 'dev', must be 'train', 'validation' or 'test'"),
    'name that cannot be encoded': (
        entry(name='a\ud800'),
        'name',
        ', it holds a zero or half of a surrogate pair',
    ),
    'name with a low surrogate': (
        entry(name='\udc00b'),
        'name',
        ', it holds a zero or half of a surrogate pair',
    ),
    'sequence with a zero': (entry(sequence='a\0'), 'sequence', 'cannot be encoded'),
    'endless enlargement': (
        entry(box_enlargement=1e30),
        'box_enlargement',
        'is 1e+30, must be less than or equal to 10',
    ),
    'box of a million pixels': (entry(box=[0, 0, 1e6, 50]), 'box', '[2] is 1000000.0, must be less'),
    'box of many photos': (entry(box=[0, 0, 3000, 50]), 'box', 'is much larger than the photo of 320 x 240'),
    'relative to the pelvis': (
        with_3d(points_m=(SMPL - ROOT).tolist()),
        'joints_3d.points_m',
        '[0], the pelvis, is 0, 0, 0: relative to the pelvis? joints_3d are in the camera frame',
    ),
    'relative to a pelvis that is no point': (
        entry(
            joints_3d={
                'skeleton': 'coco17',
                'frame': 'camera',
                'points_m': (SMPL - ROOT - 0.02)[:17].tolist(),
            }
        ),
        'joints_3d.points_m',
        'such): relative to the pelvis? joints_3d are in the camera frame',
    ),
    'zeros in space': (
        with_3d(points_m=[*SMPL[:20].tolist(), *[[0, 0, 0]] * 4]),
        'joints_3d.points_m',
        '[20] is 0, 0, 0 (4 such): use null for a point that is not known',
    ),
    'zeros on the photo': (
        entry(keypoints_2d={'skeleton': 'smpl24', 'points': [*keypoints()['points'][:23], [0, 0, 2]]}),
        'keypoints_2d.points',
        '[23] is 0, 0 (1 such): v must be 0',
    ),
    'no record': ('a.jpg', '', 'must be an object'),
}


LEFT_TO_THE_CUTTER = ('missing image', 'photo that is none', 'photo of a very long name', 'another size')


@pytest.mark.parametrize('case', WRONG)
def test_what_is_wrong_is_named(tmp_path, case):
    record, field, message = WRONG[case]
    path = write(tmp_path, [entry(), record, entry()])
    problems = custom.validate(path)
    assert [(p.record, p.field) for p in problems] == [('people[1]', field)], [str(p) for p in problems]
    assert message in problems[0].message and problems[0].file == path
    if case not in LEFT_TO_THE_CUTTER:
        with pytest.raises(annotation.AnnotationError, match=r'people\[1\].*validate_people'):
            list(custom.read(path, 'train'))


@pytest.mark.parametrize(
    'fields, field, message',
    [
        ({'format': 'coco'}, 'format', "is 'coco', not 'hybrik_jax people 1'"),
        ({'photos_root': 'pictures'}, 'photos_root', 'there is no folder'),
        ({'peoples': []}, 'peoples', 'no such field'),
        ({'people': []}, 'people', 'there is nobody'),
        ({'people': {}}, 'people', 'must be a list'),
        ({'box_enlargement': 0}, 'box_enlargement', 'is 0, must be greater than or equal to 0.1'),
        (
            {'skeletons': {'m': {'count': 2.5, 'head': 1}}},
            'skeletons.m.count',
            'is 2.5, must be a valid integer',
        ),
        ({'skeletons': {'m': {'count': 2, 'head': 2}}}, 'skeletons.m.head', 'is 2, must be below count, 2'),
        ({'skeletons': {'m': {'nose': 1}}}, 'skeletons.m.nose', 'is none of our joints: pelvis'),
        (
            {'skeletons': {'m': {'left_knee': 1, '4': 2}}},
            'skeletons.m.',
            "is the joint 'left_knee', and so is",
        ),
        (
            {'skeletons': {'m': {'h36m:nose': 1, 'h36m:09': 2}}},
            'skeletons.m.h36m:',
            "is the joint 'nose', and so is",
        ),
        ({'skeletons': {'m': 5}}, 'skeletons.m', 'is 5, must be an object'),
        ({'box_enlargement': 1e30}, 'box_enlargement', 'is 1e+30, must be less'),
        ({'photos_root': ['a']}, 'photos_root', "is ['a'], must be a valid string"),
        ({'skeletons': {'coco17': {'head': 1}}}, 'skeletons.coco17', 'is the name of a known skeleton'),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path, fields, field, message):
    path = write(tmp_path, fields.pop('people', [entry()]), **fields)
    problems = custom.validate(path)
    assert problems[0].field.startswith(field) and message in problems[0].message, problems
    assert len(problems) == 1


def test_broken_files(tmp_path):
    path = write(tmp_path, [entry()] * 50)
    path.write_text(path.read_text()[:-900])
    (problem,) = custom.validate(path)
    assert 'no whole JSON file' in problem.message and 'cut off' in problem.message
    (problem,) = custom.validate(tmp_path / 'none.json')
    assert problem.message == 'is no file, a JSON file is one: there is no file of this name.'
    path.write_text('[1, 2]')
    assert 'its top is a list (as MPII' in custom.validate(path)[0].message
    (tmp_path / 'empty').mkdir()
    assert (
        'has none of train.json, validation.json, test.json' in custom.validate(tmp_path / 'empty')[0].message
    )


def test_names_that_occur_twice(tmp_path):
    (problem,) = custom.validate(write(tmp_path, NAMED))
    assert (problem.record, problem.field) == (
        'people[1]',
        'name',
    ) and 'the name of people[0] too' in problem.message


def test_the_first_problems_only_and_the_tool(tmp_path):
    path = write(tmp_path, [entry(box=[0, 0, 0, 0])] * 30)
    assert [p.record for p in custom.validate(path)] == [f'people[{k}]' for k in range(20)]
    assert len(custom.validate(path, limit=3)) == 3
    command = [sys.executable, '-m', 'tools.validate_people', str(path), '--limit', '2']
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[1].startswith(f'{path}: people[1].box: [0, 0, 0, 0] has no size')
    assert 'the first 2' in done.stdout
    everybody = [entry(), entry(joints_3d=None, camera=None, keypoints_2d=keypoints()), entry(split='test')]
    command[3] = str(write(tmp_path, everybody))
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        'train: 2 people, 2 with joints on the photo, 1 with 3D joints, 1 with camera and root',
        'test: 1 people, 1 with joints on the photo, 1 with 3D joints, 1 with camera and root',
    ]
    command[3] = str(write(tmp_path, [entry(photo='../photos/../people.json')]))
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert '--allow-outside takes it' in done.stdout and len(done.stdout.splitlines()) == 1
    done = subprocess.run([*command, '--allow-outside'], cwd=PROJECT, capture_output=True, text=True)
    assert 'is no image' in done.stdout


def test_examples_of_the_documentation_are_valid(tmp_path):
    text = (PROJECT / 'docs' / 'datasets.md').read_text()
    people, with_coco = (json.loads(part.split('```')[0]) for part in text.split('```json\n')[1:])
    for name, size in {'photos/walk/0001.jpg': (720, 1280), 'photos/street.jpg': (400, 200)}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
    path = tmp_path / 'people.json'
    path.write_text(json.dumps(people))
    assert [str(problem) for problem in custom.validate(path)] == []
    assert [p.name for p in custom.read(path, 'train')] == [
        'custom/train/walk/0001/anna',
        'custom/train/000001',
    ]
    path.write_text(json.dumps(with_coco))
    assert [problem.field for problem in custom.validate(path)] == [
        'photos_root',
        'coco.file',
    ]  # neither is there
    assert all(kind in text for kind in custom.SKELETONS)


def test_names_that_are_automatic_numbers(tmp_path):
    (problem,) = custom.validate(write(tmp_path, [entry(), entry(), entry(name='000001')]))
    assert (problem.record, problem.field) == ('people[2]', 'name')
    assert "'train/000001' is the name of people[1] too" in problem.message
    (problem,) = custom.validate(write(tmp_path, [entry(name='000001'), entry()]))
    assert problem.record == 'people[1]' and 'people[0]' in problem.message
    assert custom.validate(write(tmp_path, [entry(name='000001'), entry(name='000000')])) == []
    assert custom.validate(write(tmp_path, [entry(), entry(name='000000', split='test')])) == []


def test_photos_outside_are_taken_where_that_is_said(tmp_path):
    cv2.imwrite(str(tmp_path / 'outside.png'), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'linked').symlink_to(tmp_path)
    names = ['../outside.png', str(tmp_path / 'outside.png'), '../photos/../outside.png']
    path = write(tmp_path, [entry(photo=name) for name in [*names, 'linked/outside.png', '../photos/a.jpg']])
    assert [p.record for p in custom.validate(path)] == ['people[0]', 'people[1]', 'people[2]', 'people[3]']
    with pytest.raises(annotation.AnnotationError, match='is outside of photos_root: --allow-outside'):
        list(custom.read(path, 'train'))
    assert custom.validate(path, allow_outside=True) == []
    assert len(list(custom.read(path, 'train', allow_outside=True))) == 5
    path = write(tmp_path, [entry(photo='/dev/zero', photo_size=[WIDTH, HEIGHT])])
    (problem,) = custom.validate(path, allow_outside=True)
    assert problem.message == '/dev/zero is a folder or a device'
    with pytest.raises(annotation.AnnotationError, match='is a folder or a device'):
        list(custom.read(path, 'train', allow_outside=True))


def corners(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def test_boxes_of_corners_are_noticed(tmp_path):
    """In a photo where both readings are possible; a single odd one among right ones is nobody's mistake."""
    points = keypoints()
    pixels = np.array(points['points'])[:, :2]
    low, high = pixels.min(0) - 5, pixels.max(0) + 5
    box = [*low, *(high - low)]
    right = entry(joints_3d=None, camera=None, keypoints_2d=points, box=box)
    (problem,) = custom.validate(write(tmp_path, [right | {'box': corners(box)}] * 3 + [right]))
    assert (problem.record, problem.field) == ('people[0]', 'box')
    assert 'looks like x0, y0, x1, y1 (as do 3 of 4 boxes)' in problem.message
    with pytest.raises(annotation.AnnotationError, match='looks like x0, y0, x1, y1'):
        list(custom.read(write(tmp_path, [right | {'box': corners(box)}]), 'train'))
    assert custom.validate(write(tmp_path, [right, right | {'box': corners(box)}])) == []
    smpl = {'pose': [[0.1] * 3] * 24, 'betas': [0] * 10}
    alone = entry(joints_3d=None, camera=None, smpl=smpl, box=[180, 130, 300, 230])  # leaves the photo
    (problem,) = custom.validate(write(tmp_path, [alone]))
    assert 'looks like x0, y0, x1, y1' in problem.message
    for fine in ([180, 130, 100, 100], [180, 130, 150, 120], [10, 10, 300, 220], [180, 20, 200, 230]):
        assert custom.validate(write(tmp_path, [alone | {'box': fine}])) == [], fine
