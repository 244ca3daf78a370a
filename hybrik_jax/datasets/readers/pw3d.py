"""Reads 3DPW, from HybrIK's parsed annotation files or from the official sequence pickles; lengths in metres.

The parsed files carry joints in the camera frame. The official ones carry SMPL's pose, shape and translation
in a world frame, and where the root joint comes to lie depends on the body model: `read_official` yields
`UnplacedPerson`, whose pose is in the camera frame already but who has no joints yet; `datasets.labels` adds
them.

Source: von Marcard et al. 2018.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax import annotation_file, catalogue, image_file, safe_pickle
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import reading

DATASET = catalogue.DATASETS['pw3d']
OFFICIAL_FOLDERS = {split: f'sequenceFiles/{split}' for split in ('train', 'validation', 'test')}
BOX_ENLARGEMENT = 1.25
SMALLEST_BOX = 5.0  # pixels, either side
# The official files have no boxes: that of the points is grown on every side by this share of its size.
BOX_MARGIN = 0.1
GENDERS = {'m': 'male', 'f': 'female', 'n': 'neutral'}
_TOO_SMALL = 'box under 5 px'


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnplacedPerson(AnnotatedPerson):
    """A person of the official files: pose and shape, focal lengths and centre; no joints, no root.

    Joint 0 lies at turn @ (joint 0 of this shape at rest) + trans_m in the camera frame: SMPL turns about
    that joint, not about its origin.

    turn: (3, 3) world axes to camera axes.
    trans_m: (3,) metres.
    gender: of the SMPL model that the shape belongs to.
    """

    turn: np.ndarray
    trans_m: np.ndarray
    gender: str


def read(root: str | pathlib.Path, split: str) -> Iterator[AnnotatedPerson | Skipped]:
    """Yields everybody of the parsed files in the order of `annotations`; their images are kept in memory.

    `root` holds json/ and imageFiles/. Pixels of leaf joints, which the files do not have, are projected.
    """
    root = pathlib.Path(root)
    for fields in annotation_file.joined_items(reading.find(root, DATASET, split), _of_image):
        yield _person(fields, root, split)


def _of_image(fields: annotation_file.Fields) -> dict[str, Any]:
    width, height = fields.size()
    return {
        'width': width,
        'height': height,
        'sequence': fields.path('sequence'),
        'file_name': fields.path('file_name'),
        'focal': fields.numbers('cam_param.focal', (2,)),
        'princpt': fields.numbers('cam_param.princpt', (2,)),
    }


def _person(fields: annotation_file.Fields, root: pathlib.Path, split: str) -> AnnotatedPerson | Skipped:
    sequence, file_name = fields.path('sequence'), fields.path('file_name')
    name = f'{sequence}/{pathlib.PurePosixPath(file_name).stem}-{fields.key("id")}'
    box = fields.box()
    if is_small(box):
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
    return reading.person(
        fields,
        name=f'pw3d/{split}/{name}',
        photo=root / 'imageFiles' / sequence / file_name,
        labels=labels,
        sequence=sequence,
    )


# ---- the official pickles


def read_official(root: str | pathlib.Path, split: str) -> Iterator[UnplacedPerson | Skipped]:
    """Yields everybody in every frame of a split's sequences; one sequence file is in memory at a time.

    `root` holds sequenceFiles/{train,validation,test}/*.pkl and imageFiles/. Left out: frames whose camera is
    not aligned (campose_valid), people without a point in poses2d. The box is that of the points in poses2d,
    grown; `datasets.labels` replaces it. A pickle that holds anything but numpy arrays is refused unexecuted.
    """
    root = pathlib.Path(root)
    folder = reading.find(root, DATASET, split, OFFICIAL_FOLDERS)
    paths = sorted(folder.glob('*.pkl'))
    if not paths:
        raise FileNotFoundError(f'{folder} holds no .pkl file: unpack sequenceFiles.zip of 3DPW here.')
    for path in paths:
        yield from _read_sequence(path, root, split)


def _read_sequence(path: pathlib.Path, root: pathlib.Path, split: str) -> Iterator[UnplacedPerson | Skipped]:
    try:
        fields = annotation_file.Fields(safe_pickle.load_dict(path, 'a sequence of 3DPW'), str(path))
    except ValueError as error:
        raise AnnotationError(str(error)) from error
    sequence = fields.path('sequence') if fields.has('sequence') else path.stem
    photos = root / 'imageFiles' / sequence
    width, height = _photo_size(photos)
    frames = fields.count('cam_poses')
    cameras = fields.numbers('cam_poses', (frames, 4, 4))
    intrinsics = fields.numbers('cam_intrinsics', (3, 3))
    focal, centre = np.diag(intrinsics)[:2], intrinsics[:2, 2]
    actors = _actors(fields, frames)
    for frame in range(frames):
        turn, shift = cameras[frame, :3, :3], cameras[frame, :3, 3]
        for k, actor in enumerate(actors):
            name = f'{sequence}/image_{frame:05d}-{k}'
            if not actor['campose_valid'][frame] > 0:
                yield Skipped('camera pose not valid', name)
                continue
            points = actor['poses2d'][frame].T
            points = points[points[:, 2] > 0, :2]
            if not len(points):
                yield Skipped('no point in poses2d', name)
                continue
            box = grown_box(points, width, height)
            if is_small(box):
                yield Skipped(_TOO_SMALL, name)
                continue
            pose = actor['poses'][frame].reshape(24, 3)
            pose = np.concatenate([_turned(turn, pose[:1], f'{path}, frame {frame}'), pose[1:]])
            labels = reading.start(width, height, box, BOX_ENLARGEMENT) | {'focal': focal, 'centre': centre}
            labels |= {'pose': pose, 'betas': actor['betas'], 'smpl_weight': 1}
            yield UnplacedPerson(
                name=f'pw3d/{split}/{name}',
                photo=photos / f'image_{frame:05d}.jpg',
                labels=reading.finished(labels),
                sequence=sequence,
                turn=turn,
                trans_m=turn @ actor['trans'][frame] + shift,
                gender=GENDERS.get(actor['gender'], actor['gender']),
            )


def _actors(fields: annotation_file.Fields, frames: int) -> list[dict[str, Any]]:
    """Returns the checked arrays of every person of a sequence file."""
    people = fields.count('poses')
    rows = {'poses': (72,), 'trans': (3,), 'poses2d': (3, 18), 'campose_valid': ()}
    keys = (*rows, 'betas', 'genders')
    for key in keys:
        if (count := fields.count(key)) != people:
            raise AnnotationError(f'{fields.where}: {key} is of {count} people, poses of {people}.')
    actors = []
    for k in range(people):
        one = annotation_file.Fields({key: fields.get(key)[k] for key in keys}, f'{fields.where}, person {k}')
        if (count := one.count('betas')) < 10:
            raise AnnotationError(f'{one.where}: betas has {count} numbers, expected are 10.')
        arrays = {key: one.numbers(key, (frames, *row)) for key, row in rows.items()}
        betas = one.numbers('betas', (count,))[:10]
        actors.append(arrays | {'betas': betas, 'gender': str(one.get('genders'))})
    return actors


def is_small(box: np.ndarray | None) -> bool:
    """Returns whether a box (4,) xyxy is one of those that are left out; None is."""
    return box is None or bool(((box[2:] - box[:2]) < SMALLEST_BOX).any())


def grown_box(points: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """Returns the box (4,) xyxy of points (N, 2) with its margin, on the photo; None where none is left."""
    low, high = points.min(0), points.max(0)
    margin = BOX_MARGIN * (high - low)
    last = np.array([width - 1, height - 1])
    low, high = np.clip(low - margin, 0, last), np.clip(high + margin, 0, last)
    return np.concatenate([low, high]) if (high > low).all() else None


def _turned(turn: np.ndarray, axis_angle: np.ndarray, where: str) -> np.ndarray:
    """Returns the axis-angle vectors (N, 3) of rotations `axis_angle` (N, 3) followed by `turn` (3, 3)."""
    if not np.abs(turn @ turn.T - np.eye(3)).max() < 1e-2 or np.linalg.det(turn) < 0:
        raise AnnotationError(f'{where}: cam_poses holds no rotation: {turn.tolist()}.')
    if not np.isfinite(axis_angle).all():
        return axis_angle  # found by sanity.check_person
    return (Rotation.from_matrix(turn) * Rotation.from_rotvec(axis_angle)).as_rotvec()


def _photo_size(folder: pathlib.Path) -> tuple[int, int]:
    """Returns width and height of the photos of a sequence, from the header of its first one."""
    first = min(folder.glob('image_*.jpg'), default=None)
    if first is None:
        hint = 'unpack imageFiles.zip of 3DPW beside sequenceFiles'
        raise FileNotFoundError(f'{folder} holds no image_*.jpg: {hint}.')
    return image_file.size(first)
