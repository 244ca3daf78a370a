"""Own data in COCO's form: who is a person, whose joints they are, and files that are of another kind."""

import json

import numpy as np
import pytest

from hybrik_jax.datasets.readers import custom
from tests.own_people import HEIGHT, WIDTH, entry, write

FLAT = [60.0, 60.0, 2, 70.0, 90.0, 1, 65.0, 80.0, 2]
MINE = {'count': 3, 'left_knee': 0, 'left_ankle': 1, 'h36m:right_ankle': 2}


def write_coco(folder, annotations=None, images=None, categories=None, skeleton='mine', names=None):
    """Writes a file of COCO's form and the file that names it; returns the latter's path."""
    one = {'id': 1, 'image_id': 7, 'bbox': [40, 40, 60, 70], 'keypoints': FLAT, 'category_id': 1}
    content = {
        'images': images or [{'id': 7, 'file_name': 'a.jpg', 'width': WIDTH, 'height': HEIGHT}],
        'annotations': [one | changes for changes in annotations or [{}]],
    }
    content |= {'categories': categories} if categories is not None else {}
    (folder / 'kp.json').write_text(json.dumps(content))
    coco = {'file': 'kp.json', 'skeleton': skeleton} | ({'categories': names} if names else {})
    return write(folder, None, skeletons={'mine': MINE}, coco=coco)


def test_animals_are_not_people(tmp_path):
    categories = [{'id': 3, 'name': 'dog'}, {'id': 4, 'name': 'Person'}, {'id': 5, 'name': 'player'}]
    annotations = [{'id': k, 'category_id': k} for k in (3, 4, 5)]
    path = write_coco(tmp_path, annotations, categories=categories)
    items = list(custom.read(path, 'train'))
    assert [getattr(item, 'name', None) or item.reason for item in items] == [
        'not a person',
        'custom/train/4',
        'not a person',
    ]
    path = write_coco(tmp_path, annotations, categories=categories, names=['player', 'person'])
    assert [p.name for p in custom.read(path, 'train') if hasattr(p, 'name')] == [
        'custom/train/4',
        'custom/train/5',
    ]
    (problem,) = custom.validate(write_coco(tmp_path, annotations, categories=categories[:1]))
    assert (
        "none is called 'person', there are 'dog': list those that are people as coco.categories"
        in problem.message
    )
    (problem,) = custom.validate(
        write_coco(tmp_path, [{'category_id': 18}])
    )  # no categories: COCO's own numbers
    assert problem.message == 'there is nobody: 1 are left out: not a person'


@pytest.mark.parametrize(
    'names, message',
    [
        (
            ['right_knee', 'left_ankle', 'right_ankle'],
            "point 0 is 'right_knee', and 'left_knee' in the skeleton 'mine'",
        ),
        (['LKnee', 'RAnkle', 'right_ankle'], "point 1 is 'RAnkle', and 'left_ankle' in"),
        (['left_knee', 'left_ankle', 'left ankle'], "point 2 is 'left ankle', and 'right_ankle' in"),
        (['l_hip', 'left_ankle', 'right_ankle'], "point 0 is 'l_hip', and 'left_knee' in"),
        (['nose', 'left_ankle', 'right_ankle'], "point 0 is 'nose', and 'left_knee' in"),
        (['left_knee', 'left_ankle'], 'there are 2 names, the skeleton has 3 points'),
        (['left_knee', 'ankle_l', 'r.ankle'], ''),
        (['kneeLeft', 'left_sock', 'x'], ''),
    ],
)
def test_names_of_keypoints_are_compared_with_the_joint_map(tmp_path, names, message):
    path = write_coco(tmp_path, categories=[{'id': 1, 'name': 'person', 'keypoints': names}])
    problems = custom.validate(path)
    assert bool(problems) == bool(message)
    if message:
        assert 'kp.json: categories (id 1).keypoints: ' + message in str(
            problems[0]
        ) and 'mend the joint map' in str(problems[0])


def test_the_names_of_coco_itself_fit_its_skeleton(tmp_path):
    names = ['nose'] + [
        f'{s}_{p}'
        for p in ('eye', 'ear', 'shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
        for s in ('left', 'right')
    ]
    person = [{'id': 1, 'name': 'person', 'keypoints': names}]
    path = write_coco(tmp_path, [{'keypoints': [60.0, 60.0, 2] * 17}], categories=person, skeleton='coco17')
    assert custom.validate(path) == []
    swapped = [names[0], *(name for pair in zip(names[2::2], names[1::2], strict=True) for name in pair)]
    (tmp_path / 'kp.json').write_text(
        (tmp_path / 'kp.json').read_text().replace(json.dumps(names), json.dumps(swapped))
    )
    assert "is 'right_knee', and 'left_knee' in the skeleton 'coco17'" in custom.validate(path)[0].message


def test_files_of_another_kind_are_told_what_they_are(tmp_path):
    path = write_coco(tmp_path)
    (problem,) = custom.validate(tmp_path / 'kp.json')
    assert "a file of COCO's form" in problem.message and '"coco": {"file": "kp.json"' in problem.message
    path.write_text(json.dumps([{'image': 'a.jpg', 'joints': []}]))
    (problem,) = custom.validate(path)
    assert 'its top is a list (as MPII' in problem.message and 'Your own data' in problem.message
    path = tmp_path / 'people.npz'
    np.savez(path, box=np.zeros(4))
    (problem,) = custom.validate(path)
    assert 'is a zip archive, as .npz files are, not JSON: write what it holds as JSON' in problem.message
    (problem,) = custom.validate('/dev/zero')
    assert 'this is a device' in problem.message
    path = write(tmp_path, [entry()])
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())  # as Windows writes it
    assert custom.validate(path) == []
