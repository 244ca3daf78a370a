"""People's own data: what a file says is what the labels hold, and whatever is wrong is named with record and
field.
"""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from hybrik_jax.body import skeleton
from hybrik_jax.data import record
from hybrik_jax.datasets import annotation
from hybrik_jax.datasets.readers import custom
from tests import helpers

WIDTH, HEIGHT = 320, 240
FOCAL, CENTRE = np.array([300.0, 310.0]), np.array([170.0, 115.0])
ROOT = np.array([0.1, 0.05, 3.0])
# A person who stands, arms hanging: metres from the pelvis, y down.
STANDING = {
    'pelvis': (0, 0, 0), 'left_hip': (0.06, 0.09, 0), 'right_hip': (-0.06, 0.09, 0), 'spine1': (0, -0.1, 0),
    'left_knee': (0.08, 0.47, 0), 'right_knee': (-0.08, 0.47, 0.02), 'left_ankle': (0.08, 0.87, 0.04),
    'right_ankle': (-0.08, 0.87, 0.03), 'neck': (0, -0.5, 0), 'head': (0, -0.6, 0), 'left_shoulder': (0.18, -0.43, 0),
    'right_shoulder': (-0.18, -0.43, 0), 'left_elbow': (0.22, -0.17, 0.02), 'right_elbow': (-0.22, -0.17, 0),
    'left_wrist': (0.24, 0.08, -0.05), 'right_wrist': (-0.24, 0.08, 0),
}  # fmt: skip


def joints_of(names):
    """(n, 3) joints of the standing person in the camera frame, metres; [x, 0, x/10] near the pelvis if not
    known.
    """
    return np.array([STANDING.get(name, (0.01 * k, -0.2, 0.001 * k)) for k, name in enumerate(names)]) + ROOT


def pixels_of(points):
    return annotation.project(points, FOCAL, CENTRE)


SMPL = joints_of(skeleton.JOINT_NAMES)
BOX = [130.0, 40.0, 100.0, 180.0]


def entry(**changes):
    """One person with 3D joints; `changes` replace fields, None takes one away."""
    fields = {
        'photo': 'a.jpg',
        'box': BOX,
        'joints_3d': {'skeleton': 'smpl24', 'frame': 'camera', 'points_m': SMPL.tolist()},
        'camera': {'focal': FOCAL.tolist(), 'centre': CENTRE.tolist()},
    } | changes
    return {key: value for key, value in fields.items() if value is not None}


def keypoints(names=None, points=None, v=2, kind='smpl24'):
    pixels = pixels_of(SMPL if points is None else points)
    return {'skeleton': kind, 'points': [[*map(float, p), v] for p in pixels]}


def write(folder, people, name='people.json', **fields):
    """Writes a file of people with its one photo; returns its path."""
    (folder / 'photos').mkdir(exist_ok=True)
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    cv2.imwrite(str(folder / 'photos' / 'a.jpg'), image)
    cv2.imwrite(str(folder / 'photos' / 'b.png'), image[:100, :150])
    path = folder / name
    content = {'format': custom.FORMAT, 'people': people, 'photos_root': 'photos'} | fields
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def only(path, split='train'):
    people = list(custom.read(path, split))
    assert len(people) == 1
    return people[0]


def as_record(person, folder):
    """The record of a person whose photo is stored whole."""
    data = person.photo.read_bytes()
    fields = person.labels | record.whole_photo(int(person.labels['width']), int(person.labels['height']))
    texts = {'dataset': 'custom', 'body': 'SMPL', 'name': person.name, 'sequence': person.sequence}
    return fields | texts | {'action': person.action, record.IMAGE: data}


def test_3d_joints_become_labels(tmp_path):
    path = write(tmp_path, [entry(name='p', sequence='s', action='walk')])
    assert custom.validate(path) == []
    person = only(path)
    labels = person.labels
    assert (person.name, person.sequence, person.action) == ('custom/train/p', 's', 'walk')
    assert person.photo == tmp_path / 'photos' / 'a.jpg'
    np.testing.assert_allclose(labels['box'], [130, 40, 229, 219])
    assert labels['box_enlargement'] == 1.25 and (labels['width'], labels['height']) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(labels['root_m'], ROOT, atol=1e-6)
    np.testing.assert_allclose(labels['joints_m'][:24], SMPL - ROOT, atol=1e-6)
    np.testing.assert_allclose(labels['joints_px'][:24, :2], pixels_of(SMPL), atol=1e-3)
    np.testing.assert_allclose(labels['joints_px'][:24, 2], SMPL[:, 2] - ROOT[2], atol=1e-6)
    for name in ('joints_weight', 'joints_px_weight'):
        assert (labels[name][:24] == 1).all() and (labels[name][24:] == 0).all()
    assert labels['camera_weight'] == 1 and labels['smpl_weight'] == 0 and not labels['h36m_weight'].any()
    assert not labels['visible'].any() and not labels['twist_weight'].any()
    record.check(as_record(person, tmp_path))


def test_coco_keypoints_are_pixels_only(tmp_path):
    points = pixels_of(joints_of(['pelvis'] * 17))
    points = [
        [*map(float, p), v] for p, v in zip(points, [0] * 5 + [2] * 6 + [0, 0, 1, 2, 0, 2], strict=True)
    ]
    points[13] = [150.0, 160.0, 1]
    keypoints_2d = {'skeleton': 'coco17', 'points': points}
    path = write(tmp_path, [entry(joints_3d=None, camera=None, keypoints_2d=keypoints_2d)])
    assert custom.validate(path) == []
    labels = only(path).labels
    assert np.flatnonzero(labels['joints_px_weight'][:, 0]).tolist() == [4, 5, 8, 16, 17, 18, 19, 20, 21]
    assert not labels['joints_px_weight'][:, 2].any() and not labels['joints_weight'].any()
    assert labels['camera_weight'] == 0
    np.testing.assert_allclose(labels['joints_px'][4], [150, 160, 0])
    assert np.flatnonzero(labels['visible']).tolist() == [5, 8, 16, 17, 18, 19, 20, 21]
    record.check(as_record(only(path), tmp_path))


@pytest.mark.parametrize('kind, names', [('h36m17', skeleton.H36M_NAMES), ('mpi28', None)])
def test_named_skeletons_put_joints_where_they_belong(tmp_path, kind, names):
    if kind == 'mpi28':
        names = (
            'spine3 spine4 spine2 spine pelvis neck head head_top left_clavicle left_shoulder left_elbow left_wrist '
            'left_hand right_clavicle right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle '
            'left_foot left_toe right_hip right_knee right_ankle right_foot right_toe'
        ).split()
    points = joints_of(names)
    joints_3d = {'skeleton': kind, 'frame': 'camera', 'points_m': points.tolist()}
    path = write(tmp_path, [entry(joints_3d=joints_3d)])
    assert custom.validate(path) == []
    labels = only(path).labels
    for ours, weights, our_names in (
        ('joints_m', 'joints_weight', skeleton.JOINT_NAMES),
        ('h36m_joints_m', 'h36m_weight', skeleton.H36M_NAMES),
    ):
        for joint in np.flatnonzero(labels[weights]):
            name = our_names[joint]
            if name in STANDING and name in names and not (kind == 'mpi28' and name == 'head'):
                np.testing.assert_allclose(labels[ours][joint], STANDING[name], atol=1e-6, err_msg=name)
    assert labels['h36m_weight'].all()
    assert np.flatnonzero(labels['joints_weight']).tolist() == [0, 4, 5, 7, 8, 12, 16, 17, 18, 19, 20, 21]


def test_own_skeleton_by_name_number_and_h36m(tmp_path):
    mine = {'count': 4, 'left_knee': 2, '7': 0, 'head_top': 1, 'h36m:left_knee': 2}
    points = [*joints_of(['left_ankle', 'head', 'left_knee']).tolist(), None]
    joints_3d = {'skeleton': 'mine', 'frame': 'camera', 'points_m': points, 'root': ROOT.tolist()}
    path = write(tmp_path, [entry(joints_3d=joints_3d)], skeletons={'mine': mine})
    assert custom.validate(path) == []
    labels = only(path).labels
    assert np.flatnonzero(labels['joints_weight']).tolist() == [4, 7, 24]
    np.testing.assert_allclose(labels['joints_m'][4], STANDING['left_knee'], atol=1e-6)
    assert np.flatnonzero(labels['h36m_weight']).tolist() == [2]
    np.testing.assert_allclose(labels['h36m_joints_m'][2], STANDING['left_knee'], atol=1e-6)
    np.testing.assert_allclose(labels['root_m'], ROOT, atol=1e-6)


def test_unknown_points_have_no_weight(tmp_path):
    points = SMPL.tolist()
    points[20] = None
    path = write(tmp_path, [entry(joints_3d={'skeleton': 'smpl24', 'frame': 'camera', 'points_m': points})])
    labels = only(path).labels
    assert labels['joints_weight'][20] == 0 and labels['joints_weight'][:24].sum() == 23
    assert not labels['joints_m'][20].any() and not labels['joints_px'][20].any()


def test_keypoints_add_to_3d_joints(tmp_path):
    """Joints with 3D keep their projection; keypoints say what is visible, and add joints that have no 3D."""
    points = [*SMPL.tolist()]
    points[20] = None
    joints_3d = {'skeleton': 'smpl24', 'frame': 'camera', 'points_m': points}
    shifted = keypoints()
    for point in shifted['points']:
        point[0] += 2.0
    shifted['points'][16][2], shifted['points'][17][2] = 0, 1
    path = write(tmp_path, [entry(joints_3d=joints_3d, keypoints_2d=shifted)])
    assert custom.validate(path) == []
    labels = only(path).labels
    expected = pixels_of(SMPL)
    expected[20, 0] += 2
    np.testing.assert_allclose(labels['joints_px'][:24, :2], expected, atol=1e-3)
    assert (
        labels['joints_px_weight'][20].tolist() == [1, 1, 0] and labels['joints_px_weight'][:24].sum() == 71
    )
    assert np.flatnonzero(labels['visible'][:24] == 0).tolist() == [16, 17]


@pytest.mark.parametrize('flat', [False, True])
def test_smpl_alone_and_with_a_root(tmp_path, flat):
    pose = np.random.default_rng(0).normal(0, 0.5, (24, 3))
    smpl = {'pose': (pose.ravel() if flat else pose).tolist(), 'betas': [0.5] * 10}
    alone = entry(joints_3d=None, camera=None, smpl=smpl, name='alone')
    placed = entry(joints_3d=None, smpl=smpl | {'root': ROOT.tolist()}, name='placed')
    path = write(tmp_path, [alone, placed])
    assert custom.validate(path) == []
    alone, placed = custom.read(path, 'train')
    for person in (alone, placed):
        np.testing.assert_allclose(person.labels['pose'], pose, atol=1e-6)
        assert person.labels['smpl_weight'] == 1 and not person.labels['twist_weight'].any()
        assert not person.labels['joints_weight'].any()
    assert alone.labels['camera_weight'] == 0 and placed.labels['camera_weight'] == 1
    np.testing.assert_allclose(placed.labels['root_m'], ROOT, atol=1e-6)


def test_splits_in_one_file_and_in_a_folder(tmp_path):
    people = [entry(name='a'), entry(name='a', split='test'), entry(name='b', split='test')]
    path = write(tmp_path, people)
    assert custom.validate(path) == []
    assert custom.splits(path) == ('train', 'test')
    assert [p.name for p in custom.read(path, 'test')] == ['custom/test/a', 'custom/test/b']
    folder = tmp_path / 'folder'
    folder.mkdir()
    write(folder, [entry()], 'train.json')
    write(folder, [entry(), entry()], 'test.json')
    assert custom.splits(folder) == ('train', 'test')
    assert custom.validate(folder) == []
    assert [p.name for p in custom.read(folder, 'test')] == ['custom/test/000000', 'custom/test/000001']
    assert list(custom.read(folder, 'validation')) == []
    with pytest.raises(FileNotFoundError, match='has none of train'):
        list(custom.read(folder.parent / 'photos', 'train'))


def test_photo_sizes(tmp_path):
    path = write(tmp_path, [entry()])
    assert custom.photo_size(tmp_path / 'photos' / 'a.jpg') == (WIDTH, HEIGHT)
    assert custom.photo_size(tmp_path / 'photos' / 'b.png') == (150, 100)
    with pytest.raises(ValueError, match='no image'):
        custom.photo_size(path)


def test_what_cannot_be_opened_is_left_to_whoever_cuts(tmp_path):
    path = write(tmp_path, [entry(photo='missing.jpg')])
    person = only(path)
    assert person.photo.name == 'missing.jpg'
    np.testing.assert_allclose(person.labels['box'], [130, 40, 229, 219])
    (problem,) = custom.validate(path)
    assert (problem.record, problem.field) == ('people[0]', 'photo') and 'there is no file' in problem.message


def test_coco_files_with_a_joint_map(tmp_path):
    flat = [60.0, 60.0, 2, 70.0, 90.0, 1, 0, 0, 0]
    one = {'image_id': 7, 'bbox': [40, 40, 60, 70], 'keypoints': flat, 'iscrowd': 0, 'area': 3.0}
    annotations = [
        one | {'id': 1},
        one | {'id': 2, 'iscrowd': 1},
        one | {'id': 3, 'keypoints': [0] * 9},
        one | {'id': 4, 'area': 0},
        one | {'id': 5, 'bbox': [400, 400, 10, 10]},
    ]
    images = [{'id': 7, 'file_name': 'a.jpg', 'width': WIDTH, 'height': HEIGHT}]
    (tmp_path / 'kp.json').write_text(json.dumps({'images': images, 'annotations': annotations}))
    mine = {'count': 3, 'left_knee': 0, 'left_ankle': 1, 'right_ankle': 2}
    coco = {'file': 'kp.json', 'skeleton': 'mine'}
    path = write(tmp_path, None, skeletons={'mine': mine}, coco=coco)
    assert custom.validate(path) == []
    assert custom.splits(path) == ('train',)
    person, *skipped = custom.read(path, 'train')
    assert person.name == 'custom/train/1'
    assert np.flatnonzero(person.labels['joints_px_weight'][:, 0]).tolist() == [4, 7]
    assert np.flatnonzero(person.labels['visible']).tolist() == [4]
    assert [s.reason for s in skipped] == ['crowd', 'no labelled keypoint', 'no area', 'no area']
    wrong = one | {'id': 9, 'keypoints': flat[:6]}
    (tmp_path / 'kp.json').write_text(json.dumps({'images': images, 'annotations': [wrong]}))
    (problem,) = custom.validate(path)
    assert problem.record == 'annotations[0] (id 9)' and problem.field == 'keypoints_2d.points'
    assert '2 x 3 numbers, must be 3 x 3' in problem.message


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
    'photo that is none': (entry(photo='../people.json'), 'photo', 'is no image'),
    'no photo': (entry(photo=None), 'photo', 'is missing'),
    'misspelt field': (entry(keypoint_2d=1), 'keypoint_2d', 'no such field; there are action'),
    'no label': (entry(joints_3d=None), '', 'nothing is labelled'),
    'three numbers in a box': (entry(box=[1, 2, 3]), 'box', 'has 3 numbers, must be 4'),
    'box of no size': (entry(box=[10, 10, 0, 30]), 'box', 'has no size'),
    'box outside': (entry(box=[500, 10, 40, 30]), 'box', 'has no part in the photo of 320 x 240'),
    'text in a box': (entry(box=[1, 2, 'x', 3]), 'box', "[2] is 'x', not a finite number"),
    'too few joints': (
        with_3d(points_m=SMPL[:20].tolist()),
        'joints_3d.points_m',
        '20 x 3 numbers, must be 24 x 3',
    ),
    'points of two numbers': (with_3d(points_m=SMPL[:, :2].tolist()), 'joints_3d.points_m', '24 x 2 numbers'),
    'rows of two lengths': (
        with_3d(points_m=[[1, 2], *SMPL[1:].tolist()]),
        'joints_3d.points_m',
        'rows of [2, 3]',
    ),
    'NaN': (with_3d(points_m=nan_at(3)), 'joints_3d.points_m', '[3][1] is null or NaN'),
    'millimetres': (
        with_3d(points_m=(1000 * SMPL).tolist()),
        'joints_3d.points_m',
        'they look like millimetres',
    ),
    'centimetres': (
        with_3d(points_m=(100 * SMPL).tolist()),
        'joints_3d.points_m',
        'they look like centimetres',
    ),
    'unknown skeleton': (
        with_3d(skeleton='smpl42'),
        'joints_3d.skeleton',
        "'smpl42' is not known; there are smpl24",
    ),
    'another frame': (with_3d(frame='world'), 'joints_3d.frame', "only 'camera' is known"),
    'behind the camera': (
        with_3d(points_m=(-SMPL).tolist()),
        'joints_3d.points_m',
        'points lie behind the camera',
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
        '16 numbers, must be 10',
    ),
    'name that is a number': (entry(name=7), 'name', 'must be text'),
    'another split': (entry(split='dev'), 'split', "is 'dev', must be one of train"),
    'no record': ('a.jpg', '', 'must be an object'),
}


@pytest.mark.parametrize('case', WRONG)
def test_what_is_wrong_is_named(tmp_path, case):
    record, field, message = WRONG[case]
    path = write(tmp_path, [entry(), record, entry()])
    problems = custom.validate(path)
    assert [(p.record, p.field) for p in problems] == [('people[1]', field)], [str(p) for p in problems]
    assert message in problems[0].message and problems[0].file == path
    if case not in ('missing image', 'photo that is none'):
        with pytest.raises(annotation.AnnotationError, match=r'people\[1\].*\n.*validate_people'):
            list(custom.read(path, 'train'))


@pytest.mark.parametrize(
    'fields, field, message',
    [
        ({'format': 'coco'}, 'format', "is 'coco', not 'hybrik_jax people 1'"),
        ({'photos_root': 'pictures'}, 'photos_root', 'there is no folder'),
        ({'peoples': []}, 'peoples', 'no such field'),
        ({'people': []}, 'people', 'there is nobody'),
        ({'people': {}}, 'people', 'must be a list'),
        ({'box_enlargement': 0}, 'box_enlargement', 'is 0, must be a positive number'),
        ({'skeletons': {'m': {'count': 2.5, 'head': 1}}}, 'count', 'is 2.5, must be a whole number'),
        ({'skeletons': {'m': {'count': 2, 'head': 2}}}, 'head', 'is 2, must be the index of a point'),
        ({'skeletons': {'m': {'nose': 1}}}, 'nose', 'is none of our joints: pelvis'),
        ({'skeletons': {'coco17': {'head': 1}}}, '', 'is the name of a skeleton that is known'),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path, fields, field, message):
    path = write(tmp_path, fields.pop('people', [entry()]), **fields)
    problems = custom.validate(path)
    assert problems[0].field == field and message in problems[0].message, problems
    assert all('people' in (p.field, 'people') for p in problems[1:])


def test_broken_files(tmp_path):
    path = write(tmp_path, [entry()] * 50)
    path.write_text(path.read_text()[:-900])
    (problem,) = custom.validate(path)
    assert 'no whole JSON file' in problem.message and 'cut off' in problem.message
    (problem,) = custom.validate(tmp_path / 'none.json')
    assert problem.message == 'does not exist'
    path.write_text('[1, 2]')
    assert 'holds no JSON object' in custom.validate(path)[0].message
    (tmp_path / 'empty').mkdir()
    assert 'has none of train, validation, test.json' in custom.validate(tmp_path / 'empty')[0].message


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
    done = subprocess.run(command, cwd=helpers.ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[1].startswith(f'{path}: people[1].box: [0, 0, 0, 0] has no size')
    assert 'the first 2' in done.stdout


def test_examples_of_the_documentation_are_valid(tmp_path):
    text = (helpers.ROOT / 'docs' / 'datasets.md').read_text()
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
    assert [problem.field for problem in custom.validate(path)] == ['photos_root', '']  # neither is there
    assert all(kind in text for kind in custom.SKELETONS)


def test_nan_is_found_wherever_the_reads_are_cut():
    class Slow:
        def __init__(self, data):
            self.data = data

        def read(self, size):
            ready, self.data = self.data[:size], self.data[size:]
            return ready

    text = b'{"a": [NaN, -Infinity,Infinity , 1e5, "NaN-Infinity"], "NaNs": NaN}'
    for size in range(1, len(text) + 1):
        file, read = custom._WithoutNan(Slow(text)), b''
        while part := file.read(size):
            read += part
        assert json.loads(read) == {'a': [None, None, None, 1e5, 'NaN-Infinity'], 'NaNs': None}, size
