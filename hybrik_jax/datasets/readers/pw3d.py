"""Reads 3DPW, from the parsed annotation files of HybrIK or from the official sequence pickles; lengths in
metres.

The parsed files carry joints in the camera frame. The official ones carry SMPL's pose, shape and translation
in a world frame, and where the root joint comes to lie depends on the body model: `read_official` yields
`UnplacedPerson`, whose pose is in the camera frame already but who has no joints yet; `with_body_labels` adds
them.

Source: von Marcard et al. 2018.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import simplejpeg
from scipy.spatial.transform import Rotation

from hybrik_jax import safe_pickle
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import reading

NAME = 'pw3d'
TITLE = '3DPW'
SPLITS = ('train', 'test')
OFFICIAL_SPLITS = ('train', 'validation', 'test')
FOLDER = 'pw3d'
FILES = {'train': 'json/3DPW_train_new.json', 'test': 'json/3DPW_test_new.json'}
BOX_ENLARGEMENT = 1.25
SMALLEST_BOX = 5.0  # pixels, either side
# The official files have no boxes: the one of the points is grown by this on every side, as a share of its
# own size.
BOX_MARGIN = 0.1
GENDERS = {'m': 'male', 'f': 'female', 'n': 'neutral'}
_TOO_SMALL = 'box under 5 px'


class BodyLabels(Protocol):
    """What `body.labels.pose_labels` returns, as numpy arrays."""

    joints_m: np.ndarray  # (29, 3)
    h36m_joints_m: np.ndarray | None  # (17, 3)
    twists: np.ndarray  # (23,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnplacedPerson(AnnotatedPerson):
    """A person of the official files: pose and shape, camera's focal lengths and centre; no joints, no root.

    Joint 0 lies at turn @ (joint 0 of this shape at rest) + trans_m in the camera frame: SMPL turns about
    that joint, not about its origin.

    turn: (3, 3) world axes to camera axes. trans_m: (3,) metres. gender: of the SMPL model that the shape
        belongs to.
    """

    turn: np.ndarray
    trans_m: np.ndarray
    gender: str


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody in a split of the parsed files, in the order of `annotations`.

    The file's list of images is kept in memory. Pixels of leaf joints, which the files do not have, are
    projected.

    Args:
        root: holds json/ and imageFiles/.
        split: 'train' or 'test'.
    Raises:
        FileNotFoundError: naming the file that is missing. AnnotationError: naming file, record and field.
    """
    root = pathlib.Path(root)
    path = reading.find(root, FILES, split, TITLE)
    for fields in reading.joined_items(path, _of_image):
        yield _person(fields, root, split)


def _of_image(fields: reading.Fields) -> dict[str, Any]:
    width, height = fields.size()
    return {
        'width': width,
        'height': height,
        'sequence': fields.text('sequence'),
        'file_name': fields.text('file_name'),
        'focal': fields.numbers('cam_param.focal', (2,)),
        'princpt': fields.numbers('cam_param.princpt', (2,)),
    }


def _person(fields: reading.Fields, root: pathlib.Path, split: str) -> AnnotatedPerson | Skipped:
    sequence, file_name = fields.text('sequence'), fields.text('file_name')
    name = f'{sequence}/{pathlib.PurePosixPath(file_name).stem}-{fields.get("id")}'
    box = fields.box()
    if _small(box):
        return Skipped(_TOO_SMALL, name)
    focal, centre = fields.numbers('focal', (2,)), fields.numbers('princpt', (2,))
    points_m, valid = reading.padded(fields.numbers('smpl_joint_cam', (24, 3), (29, 3)))
    given, has_pixel = reading.padded(fields.numbers('smpl_joint_img', (24, 3), (29, 3)))
    labels = reading.start(*fields.size(), box, BOX_ENLARGEMENT)
    labels |= reading.camera(focal, centre, points_m[0]) | reading.joints(points_m, valid)
    computed = reading.projected(points_m, valid, focal, centre)
    annotated = reading.pixels(given[:, :2], given[:, 2] - given[0, 2], has_pixel)
    labels |= {key: np.where(has_pixel[:, None], annotated[key], computed[key]) for key in annotated}
    labels |= reading.h36m_joints(fields.numbers('h36m_joints', (17, 3)))
    if fields.has('smpl_param'):
        pose, betas = fields.numbers('smpl_param.pose', (24, 3)), fields.numbers('smpl_param.shape', (10,))
        labels |= {'pose': pose, 'betas': betas, 'smpl_weight': 1}
    return AnnotatedPerson(
        name=f'{NAME}/{split}/{name}',
        photo=root / 'imageFiles' / sequence / file_name,
        labels=reading.finished(labels),
        sequence=sequence,
    )


def _small(box: np.ndarray | None) -> bool:
    return box is None or bool(((box[2:] - box[:2]) < SMALLEST_BOX).any())


# ---- the official pickles


def read_official(root: str | pathlib.Path, split: str) -> Iterator[UnplacedPerson | Skipped]:
    """Yields everybody in every frame of a split's sequences; one sequence file is in memory at a time.

    Left out: frames whose camera is not aligned (campose_valid), people without a point in poses2d. The box
    is that of the points in poses2d, grown; `with_body_labels` replaces it.

    Args:
        root: holds sequenceFiles/{train,validation,test}/*.pkl and imageFiles/.
        split: 'train', 'validation' or 'test'.
    Raises:
        FileNotFoundError: naming what is missing. AnnotationError: naming file and field; a pickle that holds
            anything
        but numpy arrays is refused unexecuted.
    """
    root = pathlib.Path(root)
    folders = {name: f'sequenceFiles/{name}' for name in OFFICIAL_SPLITS}
    folder = reading.find(root, folders, split, TITLE)
    paths = sorted(folder.glob('*.pkl'))
    if not paths:
        raise FileNotFoundError(f'{folder} holds no .pkl file: unpack sequenceFiles.zip of 3DPW here.')
    for path in paths:
        yield from _read_sequence(path, root, split)


def _read_sequence(path: pathlib.Path, root: pathlib.Path, split: str) -> Iterator[UnplacedPerson | Skipped]:
    fields = reading.Fields(load_arrays(path), str(path))
    sequence = fields.text('sequence') if fields.has('sequence') else path.stem
    photos = root / 'imageFiles' / sequence
    width, height = _photo_size(photos)
    cameras = np.asarray(fields.get('cam_poses'), np.float64)
    frames = len(cameras)
    cameras = fields.numbers('cam_poses', (frames, 4, 4))
    intrinsics = fields.numbers('cam_intrinsics', (3, 3))
    focal, centre = np.diag(intrinsics)[:2], intrinsics[:2, 2]
    people = len(fields.get('poses'))
    shapes = {
        'poses': (frames, 72),
        'trans': (frames, 3),
        'poses2d': (frames, 3, 18),
        'campose_valid': (frames,),
    }
    of_person = []
    for key in (*shapes, 'betas', 'genders'):
        if len(fields.get(key)) != people:
            raise AnnotationError(f'{path}: {key} is of {len(fields.get(key))} people, poses of {people}.')
    for k in range(people):
        one = reading.Fields({key: fields.get(key)[k] for key in (*shapes, 'betas')}, f'{path}, person {k}')
        arrays = {key: one.numbers(key, shape) for key, shape in shapes.items()}
        betas = np.asarray(one.get('betas'), np.float64).ravel()
        if betas.size < 10:
            raise AnnotationError(f'{path}, person {k}: betas has {betas.size} numbers, expected are 10.')
        of_person.append(arrays | {'betas': betas[:10], 'gender': str(fields.get('genders')[k])})

    for frame in range(frames):
        turn, shift = cameras[frame, :3, :3], cameras[frame, :3, 3]
        for k, one in enumerate(of_person):
            name = f'{sequence}/image_{frame:05d}-{k}'
            if not one['campose_valid'][frame] > 0:
                yield Skipped('camera pose not valid', name)
                continue
            points = one['poses2d'][frame].T
            points = points[points[:, 2] > 0, :2]
            if not len(points):
                yield Skipped('no point in poses2d', name)
                continue
            box = _grown_box(points, width, height)
            if _small(box):
                yield Skipped(_TOO_SMALL, name)
                continue
            pose = one['poses'][frame].reshape(24, 3)
            labels = reading.start(width, height, box, BOX_ENLARGEMENT)
            labels |= {'focal': focal, 'centre': centre, 'betas': one['betas'], 'smpl_weight': 1}
            labels |= {'pose': np.concatenate([_turned(turn, pose[:1], f'{path}, frame {frame}'), pose[1:]])}
            yield UnplacedPerson(
                name=f'{NAME}/{split}/{name}',
                photo=photos / f'image_{frame:05d}.jpg',
                labels=reading.finished(labels),
                sequence=sequence,
                turn=turn,
                trans_m=turn @ one['trans'][frame] + shift,
                gender=GENDERS.get(one['gender'], one['gender']),
            )


def with_body_labels(person: UnplacedPerson, made: BodyLabels) -> AnnotatedPerson:
    """Returns the person with joints, Human3.6M joints, twists, root, pixels and the box around the projected
    joints.

    Args:
        person: of `read_official`.
        made: `pose_labels` of its pose and betas, by the body model of its gender; not moved, joint 0 where
            it rests.
    """
    labels, rest_root = dict(person.labels), np.asarray(made.joints_m[0], np.float64)
    root_m = person.turn @ rest_root + person.trans_m
    points_m = np.asarray(made.joints_m, np.float64) - rest_root + root_m
    everything = np.ones(29, bool)
    labels |= reading.camera(labels['focal'], labels['centre'], root_m)
    labels |= reading.joints(points_m, everything)
    labels |= reading.projected(points_m, everything, labels['focal'], labels['centre'])
    labels |= {'twists': made.twists, 'twist_weight': np.ones(23)}
    if made.h36m_joints_m is not None:
        labels |= reading.h36m_joints(np.asarray(made.h36m_joints_m, np.float64))
    if (points_m[:, 2] > 0).all():
        box = _grown_box(labels['joints_px'][:, :2], int(labels['width']), int(labels['height']))
        labels['box'] = labels['box'] if _small(box) else box
    known = {field.name: getattr(person, field.name) for field in dataclasses.fields(AnnotatedPerson)}
    return AnnotatedPerson(**known | {'labels': reading.finished(labels)})


def _grown_box(points: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """The box (4,) xyxy of points (N, 2) with its margin, clipped to the photo; None where nothing is left of
    it.
    """
    low, high = points.min(0), points.max(0)
    margin = BOX_MARGIN * (high - low)
    last = np.array([width - 1, height - 1])
    low, high = np.clip(low - margin, 0, last), np.clip(high + margin, 0, last)
    return np.concatenate([low, high]) if (high > low).all() else None


def _turned(turn: np.ndarray, axis_angle: np.ndarray, where: str) -> np.ndarray:
    """The axis-angle vectors (N, 3) of rotations `axis_angle` (N, 3) followed by the rotation `turn` (3,
    3).
    """
    if not np.abs(turn @ turn.T - np.eye(3)).max() < 1e-2 or np.linalg.det(turn) < 0:
        raise AnnotationError(f'{where}: cam_poses holds no rotation: {turn.tolist()}.')
    if not np.isfinite(axis_angle).all():
        return axis_angle  # found by sanity.check_person
    return (Rotation.from_matrix(turn) * Rotation.from_rotvec(axis_angle)).as_rotvec()


def _photo_size(folder: pathlib.Path) -> tuple[int, int]:
    """Width and height of the photos of a sequence, from the header of its first one."""
    first = min(folder.glob('image_*.jpg'), default=None)
    if first is None:
        raise FileNotFoundError(
            f'{folder} holds no image_*.jpg: unpack imageFiles.zip of 3DPW beside sequenceFiles.'
        )
    try:
        height, width = simplejpeg.decode_jpeg_header(first.read_bytes())[:2]
    except ValueError as error:
        raise AnnotationError(f'{first} is no readable JPEG ({error}).') from error
    return width, height


def load_arrays(path: pathlib.Path) -> dict[str, Any]:
    """Returns the dict in a pickle (Python 2 or 3) of numpy arrays, lists, numbers and texts; runs nothing in
    it.

    Raises AnnotationError, naming the file and the class, where the pickle refers to anything else or is
    none.
    """
    try:
        return safe_pickle.load_dict(path, 'a sequence of 3DPW')
    except ValueError as error:
        raise AnnotationError(str(error)) from error
