"""Files of people's own data for tests: one person who stands, entries and whole files of such people."""

import json

import cv2
import numpy as np

from hybrik_jax.body import skeleton
from hybrik_jax.body.projection import project
from hybrik_jax.data import record
from hybrik_jax.datasets.readers import custom

WIDTH, HEIGHT = 320, 240
FOCAL, CENTRE = np.array([300.0, 310.0]), np.array([170.0, 115.0])
ROOT = np.array([0.1, 0.05, 3.0])
# A person who stands, arms hanging: metres from the pelvis, y down.
STANDING = {
    'pelvis': (0, 0, 0), 'left_hip': (0.06, 0.09, 0), 'right_hip': (-0.06, 0.09, 0), 'spine1': (0, -0.1, 0),
    'left_knee': (0.08, 0.47, 0), 'right_knee': (-0.08, 0.47, 0.02), 'left_ankle': (0.08, 0.87, 0.04),
    'right_ankle': (-0.08, 0.87, 0.03), 'neck': (0, -0.5, 0), 'head': (0, -0.6, 0),
    'left_shoulder': (0.18, -0.43, 0), 'right_shoulder': (-0.18, -0.43, 0), 'left_elbow': (0.22, -0.17, 0.02),
    'right_elbow': (-0.22, -0.17, 0), 'left_wrist': (0.24, 0.08, -0.05), 'right_wrist': (-0.24, 0.08, 0),
}  # fmt: skip


def joints_of(names):
    """Returns joints (n, 3) of the standing person, camera frame, metres; near the pelvis where not known."""
    return np.array([STANDING.get(name, (0.01 * k, -0.2, 0.001 * k)) for k, name in enumerate(names)]) + ROOT


def pixels_of(points):
    return project(points, FOCAL, CENTRE)


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
    (folder / 'photos' / 'notes.txt').write_text('not a photo')
    if not (folder / 'photos' / 'endless.jpg').is_symlink():
        (folder / 'photos' / 'endless.jpg').symlink_to('/dev/zero')
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
