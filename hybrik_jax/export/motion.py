"""Motions of all people of a video in a file that can be read back: .npz, or .json for reading by eye.

Both hold for each person the fields of `types.Motion`, with the camera's focal, centre and size beside them:
the .npz as arrays '0/rotations', '1/rotations', ...; the .json in a list 'motions', with axis-angles in place
of the rotation matrices, rounded to 1e-6.
"""

import io
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax import json_file
from hybrik_jax.body import rotations, skeleton
from hybrik_jax.body.smpl import NUM_BETAS
from hybrik_jax.body.smpl_file import read_npz
from hybrik_jax.ending import write_whole
from hybrik_jax.export.tracks import PHOTO_FRAME_RATE
from hybrik_jax.files import open_plain, shown
from hybrik_jax.types import Camera, Motion

CONVENTIONS = (
    'metres; camera axes x right, y down, z forward; translation_m is the pelvis; rotations relative to the '
    'parent joint, the first from model to camera axes; pixels with pixel centres at integers; filled: '
    'frames in which nobody saw the person'
)
FILE_NAMES = ('motions.npz', 'motions.json', 'prediction.json')  # in a folder the first of these is read
_SHAPES = {
    'focal': (2,),
    'centre': (2,),
    'size': (2,),
    'frame_rate': (),
    'frames': ('T',),
    'rotations': ('T', skeleton.NUM_JOINTS, 3, 3),
    'betas': (NUM_BETAS,),
    'translation_m': ('T', 3),
    'filled': ('T',),
}
_KEYS = ('name', 'body', *_SHAPES)
_AXIS_ANGLE = 'rotations_axis_angle'
_WHOLE = ('size', 'frames')
_NAME = re.compile(r'\w[\w .-]{0,99}')
_MOST = 10**7  # frames, pixels: 92 hours of 30 frames/s
_OTHER = 'is no file of motions: give one, or of the files of tools.predict prediction.json.'
_PROPER = 1e-4  # how far R'R may be from the identity


def write_motions(path: pathlib.Path, motions: Sequence[Motion]) -> None:
    """Writes motions as .npz or .json, whichever the name of the file ends with.

    Raises:
        ValueError: another ending; a motion that `read_motions` would refuse.
    """
    path = pathlib.Path(path)
    people = [_fields(motion) for motion in _checked(list(map(_fields, motions)), 'The motions')]
    if path.suffix == '.npz':
        arrays = {f'{k}/{key}': value for k, person in enumerate(people) for key, value in person.items()}
        file = io.BytesIO()
        np.savez_compressed(file, conventions=CONVENTIONS, **arrays)
        write_whole(path, file.getvalue())
    elif path.suffix == '.json':
        names = {'conventions': CONVENTIONS, 'joint_names': skeleton.JOINT_NAMES}
        content = names | {'motions': list(map(_as_json, people))}
        write_whole(path, json.dumps(content, allow_nan=False) + '\n')
    else:
        raise ValueError(f'{shown(path)}: motions are written as .npz or .json, name the file so.')


def read_motions(path: str | pathlib.Path) -> list[Motion]:
    """Returns the motions of a file of `write_motions`, or of the photo that a prediction.json is about.

    Args:
        path: the file, or a folder that holds one of them (`FILE_NAMES`).
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming file, person and field, where something is missing, has another shape, is not
            finite or is no rotation.
    """
    path = file_of(path)
    with open_plain(path, 'a file of motions'):
        pass  # it is there, and a file
    if path.suffix == '.npz':
        people = _people_of_arrays(read_npz(path), shown(path))
    else:
        people = _people_of_json(json_file.read(path, 'a file of motions'), shown(path))
    return _checked(people, shown(path))


def file_of(path: str | pathlib.Path) -> pathlib.Path:
    """Returns the file that `read_motions` reads of a path; FileNotFoundError for a folder without one."""
    path = pathlib.Path(path)
    if not path.is_dir():
        return path
    inside = [path / name for name in FILE_NAMES if (path / name).is_file()]
    if not inside:
        raise FileNotFoundError(f'{shown(path)} holds none of {", ".join(FILE_NAMES)}.')
    return inside[0]


def _people_of_arrays(arrays: Mapping[str, np.ndarray], source: str) -> list[dict[str, Any]]:
    """Returns the fields of everybody in an .npz file of motions."""
    if 'conventions' not in arrays:
        raise ValueError(f'{source} {_OTHER}')
    people: dict[str, dict[str, Any]] = {}
    for key, value in arrays.items():
        number, _, name = key.partition('/')
        if name:
            people.setdefault(number, {})[name] = value
    return list(people.values())


def _people_of_json(content: Any, source: str) -> list[dict[str, Any]]:
    """Returns the fields of everybody in a file of motions or a prediction.json."""
    if not isinstance(content, dict) or not {'motions', 'people'} & content.keys():
        raise ValueError(f'{source} {_OTHER}')
    of_photo = 'motions' not in content
    people = content['people' if of_photo else 'motions']
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise ValueError(f'{source}: people are a list of objects, this is something else.')
    if of_photo:
        people = [_of_photo(person, number, content) for number, person in enumerate(people)]
    for number, person in enumerate(people):
        if _AXIS_ANGLE in person:
            what = f'{source}, person {number}: {_AXIS_ANGLE}'
            vectors = _numbers(person[_AXIS_ANGLE], ('T', skeleton.NUM_JOINTS, 3), what)
            matrices = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix()
            person['rotations'] = matrices.reshape(*vectors.shape, 3)
    return people


def _of_photo(person: Mapping[str, Any], number: int, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a motion for somebody in a prediction.json with this `content`."""
    fields = {
        'name': f'person_{number}',
        'body': content.get('body_model'),
        'size': content.get('photo_size'),
        'frame_rate': PHOTO_FRAME_RATE,
        'frames': [0],
        'filled': [False],
        _AXIS_ANGLE: [person.get(_AXIS_ANGLE)],
        'translation_m': [person.get('camera_translation_m')],
    }
    return fields | {key: person[key] for key in ('focal', 'centre', 'betas') if key in person}


def _fields(motion: Motion) -> dict[str, Any]:
    """Returns the fields of a file, by name."""
    known = vars(motion) | vars(motion.camera)
    return {key: known[key] for key in _KEYS}


def _as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    vectors = Rotation.from_matrix(fields['rotations'].reshape(-1, 3, 3)).as_rotvec()
    rest = {key: value for key, value in fields.items() if key != 'rotations'}
    rest[_AXIS_ANGLE] = vectors.reshape(-1, skeleton.NUM_JOINTS, 3)
    for key in (_AXIS_ANGLE, 'betas', 'translation_m'):
        rest[key] = np.round(rest[key].astype(np.float64), 6)
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in rest.items()}


# ---- checks


def _checked(people: Sequence[Mapping[str, Any]], source: str) -> list[Motion]:
    """Returns the motions of fields; ValueError that begins with `source` where one cannot be."""
    motions = [_motion(fields, f'{source}, person {number}') for number, fields in enumerate(people)]
    names = [motion.name for motion in motions]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'{source}: {names.count(name)} people are called {name!r}, give each a name.')
    return motions


def _motion(fields: Mapping[str, Any], where: str) -> Motion:
    missing = [key for key in _KEYS if key not in fields]
    if missing:
        raise ValueError(f'{where}: {", ".join(missing)} is missing.')
    name, body = _text(fields['name'], f'{where}: name'), _text(fields['body'], f'{where}: body')
    if not _NAME.fullmatch(name):
        raise ValueError(f'{where}: the name {name!r:.120} cannot be: use letters, digits, spaces, - and .')
    values = {key: _numbers(fields[key], shape, f'{where}: {key}') for key, shape in _SHAPES.items()}
    for key in _WHOLE:
        low = 1 if key == 'size' else 0
        if not ((values[key] % 1 == 0) & (values[key] >= low) & (values[key] <= _MOST)).all():
            raise ValueError(f'{where}: {key} holds something but whole numbers from {low} to {_MOST}.')
    for key in ('focal', 'frame_rate'):
        if not (values[key] > 0).all():
            raise ValueError(f'{where}: {key} must be positive, this is {values[key].tolist()}.')
    count = len(values['frames'])
    for key in ('rotations', 'translation_m', 'filled'):
        if len(values[key]) != count:
            raise ValueError(f'{where}: {key} has {len(values[key])} frames, frames has {count}.')
    if (np.diff(values['frames']) <= 0).any():
        raise ValueError(f'{where}: frames must increase from one to the next.')
    matrices = values['rotations']
    apart = np.abs(np.einsum('tjab,tjac->tjbc', matrices, matrices) - np.eye(3)).max((2, 3))
    wrong = np.argwhere((apart > _PROPER) | (np.linalg.det(matrices) < 0))
    if len(wrong):
        frame, joint = wrong[0]
        raise ValueError(
            f'{where}: rotations holds {len(wrong)} matrices that are no rotation, the first of '
            f'{skeleton.JOINT_NAMES[joint]} in frame {values["frames"][frame]:.0f}.'
        )
    return Motion(
        name=name,
        body=body,
        camera=Camera(
            focal=tuple(values['focal'].tolist()),
            centre=tuple(values['centre'].tolist()),
            size=tuple(values['size'].astype(int).tolist()),
        ),
        frame_rate=float(values['frame_rate']),
        frames=values['frames'].astype(int),
        rotations=matrices.astype(np.float32),
        betas=values['betas'].astype(np.float32),
        translation_m=values['translation_m'].astype(np.float32),
        filled=values['filled'] != 0,
    )


def _text(value: Any, what: str) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if not isinstance(value, str) or not value:
        raise ValueError(f'{what} must be a text.')
    return str(value)


def _numbers(value: Any, shape: tuple, what: str) -> np.ndarray:
    """Returns `value` as float64, if it is finite and has the `shape`; 'T' is any number from 1 on."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.empty(0, object)
    fits = array.ndim == len(shape) and all(
        size > 0 if wanted == 'T' else size == wanted for size, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype.kind not in 'biuf' or not fits:
        expected = f'({", ".join(map(str, shape))}{"," * (len(shape) == 1)})'
        found = f'the shape {array.shape}' if array.dtype.kind in 'biuf' else 'something else'
        raise ValueError(f'{what} must be numbers of the shape {expected}, it has {found}.')
    if wrong := np.count_nonzero(~(np.abs(array.astype(np.float64)) < rotations.LARGEST)):
        raise ValueError(
            f'{what} holds {wrong} numbers that are not finite, or {rotations.LARGEST:g} and more.'
        )
    return array.astype(np.float64)
