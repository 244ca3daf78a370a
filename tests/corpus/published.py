"""Bad annotation files in the published formats, built by the command."""

import functools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from hybrik_jax.datasets.readers import coco, human36m, mpi_inf_3dhp, pw3d
from tests import annotations as good
from tests.corpus.entry import Entry
from tools import build_dataset

DEEP = '[' * 100_000 + ']' * 100_000
HUGE = 10**400
READERS = {'human36m': human36m, 'mpi_inf_3dhp': mpi_inf_3dhp, 'pw3d': pw3d, 'coco': coco}
SPLIT = {'human36m': 'train', 'mpi_inf_3dhp': 'train', 'pw3d': 'train', 'coco': 'train'}


class Raw:
    """A value that is written as this text, which may be no JSON."""

    def __init__(self, text: str):
        self.text = text


def dumped(content: Any) -> str:
    """JSON in which `Raw` values stand as they are."""
    raw: list[str] = []

    def default(value: Raw) -> str:
        raw.append(value.text)
        return f'@{len(raw) - 1}@'

    text = json.dumps(content, default=default)
    for number, one in enumerate(raw):
        text = text.replace(f'"@{number}@"', one)
    return text


@functools.cache
def whole(dataset: str) -> str:
    """A good file of a dataset, one person, as JSON."""
    joints_m = good.standing_m()
    if dataset == 'coco':
        image = {'id': 9, 'file_name': '000000000009.jpg', 'width': 640, 'height': 480}
        return json.dumps({'images': [image], 'annotations': [good.coco_annotation()]})
    if dataset == 'pw3d':
        camera = {'focal': good.FOCAL.tolist(), 'princpt': good.CENTRE.tolist()}
        image = {'id': 901, 'file_name': 'image_00001.jpg', 'sequence': 'golf', 'cam_param': camera}
        image |= {'width': good.WIDTH, 'height': good.HEIGHT}
        return json.dumps({'images': [image], 'annotations': [good.pw3d_annotation(joints_m)]})
    one = good.h36m_entry(joints_m) if dataset == 'human36m' else good.hp3d_entry(joints_m)
    image = {key: one[key] for key in good.IMAGE_KEYS}
    annotation = {key: value for key, value in one.items() if key not in good.IMAGE_KEYS}
    return json.dumps({'images': [image], 'annotations': [annotation | {'id': 3, 'image_id': 5}]})


def changed(dataset: str, place: str, value: Any) -> str:
    """That file with another value at a place such as 'annotations.bbox'; 'images' is the list itself."""
    content = json.loads(whole(dataset))
    top, *path = place.split('.')
    if not path:
        content[top] = value
        return dumped(content)
    inside = content[top][0]
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return dumped(content)


def build(dataset: str, make: Callable[[pathlib.Path], None]) -> tuple[Callable, Callable]:
    """Returns how a file is made in a dataset's folder, and the command that builds from it."""

    def made(folder: pathlib.Path) -> pathlib.Path:
        path = folder / READERS[dataset].DATASET.files[SPLIT[dataset]]
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        return folder

    def call(folder: pathlib.Path) -> None:
        options = ['--data-root', str(folder), '--split', SPLIT[dataset], '--workers', '0']
        build_dataset.main([dataset, *options, '--out', str(folder / 'out')])

    return made, call


# dataset -> name, place, value, what is said of field or record
FIELDS = {
    'human36m': [
        ('keypoints that are a number', 'annotations.smpl_joints', 5, 'record 0: smpl_joints'),
        ('points of two numbers', 'annotations.smpl_joints', [[1, 2]] * 29, 'record 0: smpl_joints'),
        ('texts for numbers', 'annotations.betas', ['1'] * 10, 'record 0: betas'),
        ('a huge integer', 'annotations.root_coord', [HUGE, 0, 4000], 'record 0: root_coord'),
        ('a large exponent', 'images.cam_param.f', Raw('[1e999, 1000]'), 'record 0: cam_param.f'),
        ('rows of two lengths', 'annotations.thetas', [[0, 0, 0], [0]], 'record 0: thetas'),
        ('a name that is a number', 'images.file_name', 17, 'record 0: file_name is 17'),
        ('a name of another kind', 'images.file_name', 'photo.jpg', "record 0: file_name is 'photo.jpg'"),
        ('a name that leaves', 'images.file_name', '/s_01_act_02_subact_01_ca_01.jpg', 'leaves the folder'),
        ('a width of nothing', 'images.width', 0, 'record 0: width and height'),
        ('a width in words', 'images.width', 'wide', "record 0: width is 'wide'"),
        ('a huge width', 'images.width', HUGE, 'record 0: width'),
        ('no box', 'annotations.bbox', None, 'record 0: bbox is missing'),
        ('metres', 'annotations.smpl_joints', [[0.1, 0.2, 4.0]] * 29, 's_01_act_02'),
    ],
    'mpi_inf_3dhp': [
        ('keypoints that are a text', 'annotations.keypoints_cam', 'many', 'record 0: keypoints_cam'),
        ('keypoints of an object', 'annotations.keypoints_cam', {'a': 1}, 'record 0: keypoints_cam'),
        ('truth values', 'annotations.bbox', [True] * 4, 'record 0: bbox'),
        ('no camera', 'images.cam_param', 3, 'record 0: cam_param.intrinsic_param is missing'),
        ('a camera of one row', 'images.cam_param.intrinsic_param', [[1, 2, 3]], 'intrinsic_param'),
        ('an activity of none', 'annotations.activity_id', 99, 'record 0: activity_id is 99'),
        ('images that are an object', 'images', {}, "no list 'images'"),
        ('an image that is a number', 'images', [4], 'images[0] is int'),
        ('lists of two lengths', 'images', [], 'images'),
        ('a zero in a name', 'images.file_name', 'S1/a\0.jpg', 'record 0: file_name'),
        ('half a character', 'images.file_name', Raw('"S1/\\ud800.jpg"'), 'record 0: file_name'),
        ('a name without end', 'images.file_name', 'x' * 100_000, 'record 0: file_name'),
    ],
    'pw3d': [
        ('an id that is a list', 'annotations.id', [1], 'annotations[0]: id is [1]'),
        ('an id of many digits', 'annotations.id', HUGE, 'annotations[0]: id is'),
        ('half an id', 'annotations.id', 1.5, 'annotations[0]: id is 1.5'),
        ('an id without end', 'images.id', Raw('1e999'), 'images[0]: id is'),
        ('an id that no image has', 'annotations.image_id', 'x' * 5000, 'annotations[0]: image_id'),
        ('a sequence that leaves', 'images.sequence', '../../etc', "sequence is '../../etc', which leaves"),
        ('a sequence of nothing', 'images.sequence', '', "images[0]: sequence is ''"),
        ('a camera that is null', 'images.cam_param', None, 'images[0]: cam_param.focal is missing'),
        ('pixels of nobody', 'annotations.smpl_joint_img', [], 'annotations[0]: smpl_joint_img'),
        ('NaN in a pose', 'annotations.smpl_param.pose', Raw('[' + 'NaN,' * 71 + '1]'), 'pose'),
    ],
    'coco': [
        ('keypoints that are a number', 'annotations.keypoints', 51, 'annotations[0]: keypoints'),
        ('keypoints of 16', 'annotations.keypoints', [1] * 48, 'annotations[0]: keypoints'),
        ('keypoints of texts', 'annotations.keypoints', ['x'] * 51, 'annotations[0]: keypoints'),
        ('an area in words', 'annotations.area', 'large', "annotations[0]: area is 'large'"),
        ('an image id of texts', 'annotations.image_id', {}, 'annotations[0]: image_id is {}'),
        ('a box of NaN', 'annotations.bbox', Raw('[NaN, 1, 2, 3]'), 'annotations[0]: bbox'),
        ('a box of digits', 'annotations.bbox', Raw(f'[{"9" * 5000}, 1, 2, 3]'), 'annotations[0]: bbox'),
        ('an address that leaves', 'images.file_name', '../../../etc/passwd.jpg', 'leaves the folder'),
        ('nothing but crowds', 'annotations.iscrowd', 1, 'there is nobody to build from'),
    ],
}  # fmt: skip
FILES = [
    ('nested', lambda path: path.write_text(f'{{"images": {DEEP}}}'), 'nested more than 64 deep'),
    (
        'nested in an entry',
        lambda path: path.write_text(changed('human36m', 'images.extra', Raw(DEEP))),
        'nested',
    ),
    ('cut off', lambda path: path.write_text(whole('human36m')[:-300]), 'no whole JSON'),
    ('empty', lambda path: path.write_text(''), 'no whole JSON'),
    ('a pickle', lambda path: path.write_bytes(b'\x80\x04}.'), 'is a pickle, not JSON'),
    ('a page', lambda path: path.write_text('<html>moved</html>'), 'no whole JSON'),
    (
        'latin text',
        lambda path: path.write_bytes(b'{"images": [{"file_name": "\xe9\xff"}]}'),
        'no whole JSON',
    ),
    ('a list', lambda path: path.write_text('[1, 2]'), "no list 'images', it is no object"),
    ('a folder', lambda path: path.mkdir(), 'this is a folder'),
    ('a pipe', os.mkfifo, 'this is a pipe'),
    ('a device', lambda path: path.symlink_to('/dev/zero'), 'this is a device'),
]


def entries() -> list[Entry]:
    """Returns all bad annotation files."""
    found = []
    for dataset, rows in FIELDS.items():
        file = pathlib.Path(READERS[dataset].DATASET.files[SPLIT[dataset]]).name
        for name, place, value, says in rows:
            make, call = build(dataset, functools.partial(_write, dataset, place, value))
            listed = says in ('focal', 'pose', 's_01_act_02', 'there is nobody to build from')
            found.append(
                Entry(
                    f'{dataset}/{name}', make, call, (says,) if listed else (file, says), 4 if listed else 1
                )
            )
    file = pathlib.Path(human36m.DATASET.files['train']).name
    for name, write, says in FILES:
        make, call = build('human36m', write)
        found.append(Entry(f'annotations/{name}', make, call, (file, says)))
    return found


def _write(dataset: str, place: str, value: Any, path: pathlib.Path) -> None:
    path.write_text(changed(dataset, place, value))
