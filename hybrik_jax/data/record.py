"""The one schema: what every dataset stores about one person, and the check that a record keeps to it.

A record's image is a region of the photo, possibly smaller (`data.region` cuts it), or all of it. Every other
field is about the photo: image pixel = (photo pixel - region_offset) * region_scale.

Frames: pixels of the photo with pixel centres at integers; camera frame x right, y down, z forward, metres;
u = focal * X / Z + centre, without lens distortion. A missing label is zeros with a zero weight, never a
missing key.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import simplejpeg


class Field(NamedTuple):
    """Shape, dtype and meaning of one entry of a record."""

    shape: tuple[int, ...]
    dtype: type
    meaning: str


IMAGE = 'image'
TEXTS = {
    'name': 'unique id, for example synthetic/train/000123',
    'dataset': 'the dataset it is from',
    'body': "body model that pose and betas belong to, for example 'open_body (CC0)'; may be empty",
    'sequence': 'the recording it is from, for figures by sequence; may be empty',
    'action': 'what the person does, for figures by action; may be empty',
}
MAY_BE_EMPTY = ('body', 'sequence', 'action')
FEATURES = {
    'width': Field((), np.int32, 'width of the photo, pixels'),
    'height': Field((), np.int32, 'height of the photo, pixels'),
    'region_offset': Field((2,), np.float32, 'photo pixel (x, y) of the centre of the image pixel (0, 0)'),
    'region_scale': Field((), np.float32, 'image pixels for a photo pixel; 1 where the region was only cut'),
    'region_size': Field((2,), np.int32, 'width and height of the image'),
    'box': Field((4,), np.float32, 'x0 y0 x1 y1 of the person, pixels, clipped to the photo, not enlarged'),
    'box_enlargement': Field((), np.float32, 'what to multiply the side of the square around the box with'),
    'focal': Field((2,), np.float32, 'focal lengths, pixels'),
    'centre': Field((2,), np.float32, 'principal point, pixels'),
    'camera_weight': Field((), np.float32, '0: focal, centre and root_m are not known'),
    'joints_px': Field((29, 3), np.float32, 'pixels u, v and depth relative to joint 0, metres'),
    'joints_px_weight': Field((29, 3), np.float32, 'one for each of u, v and depth'),
    'joints_m': Field((29, 3), np.float32, '24 joints and 5 leaf points, camera frame, relative to joint 0'),
    'joints_weight': Field((29,), np.float32, 'of joints_m'),
    'h36m_joints_m': Field((17, 3), np.float32, 'Human3.6M joints, camera frame, relative to their joint 0'),
    'h36m_weight': Field((17,), np.float32, 'of h36m_joints_m'),
    'root_m': Field((3,), np.float32, "the annotation's root (about joint 0), camera frame, metres"),
    'pose': Field((24, 3), np.float32, 'axis-angle, radians; row 0 takes model axes to camera axes'),
    'betas': Field((10,), np.float32, 'shape coefficients of the body model'),
    'smpl_weight': Field((), np.float32, 'of pose and betas'),
    'twists': Field((23,), np.float32, 'twist of joints 1..23 about their rest bone, radians'),
    'twist_weight': Field((23,), np.float32, 'of twists'),
    'visible': Field((29,), np.float32, '1: annotated as visible in the photo, 0: not (also where unknown)'),
}
WEIGHTS = tuple(name for name in FEATURES if name.endswith('weight')) + ('visible',)


def features() -> Any:
    """Returns the schema for tfds, a `tfds.features.FeaturesDict`; images are JPEG bytes."""
    import tensorflow_datasets as tfds  # here: processes that draw people do without

    out = {IMAGE: tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg', doc='the photo, RGB')}
    for name, field in FEATURES.items():
        out[name] = tfds.features.Tensor(shape=field.shape, dtype=field.dtype, doc=field.meaning)
    for name, meaning in TEXTS.items():
        out[name] = tfds.features.Text(doc=meaning)
    return tfds.features.FeaturesDict(out)


def blank() -> dict[str, np.ndarray]:
    """Returns a record's numeric fields as zeros, nothing labelled; image and texts are for the caller."""
    return {name: np.zeros(field.shape, field.dtype) for name, field in FEATURES.items()}


def whole_photo(width: int, height: int) -> dict[str, np.ndarray]:
    """Returns the fields that say: the image is the whole photo, `width` x `height` pixels."""
    return {
        'width': np.int32(width),
        'height': np.int32(height),
        'region_offset': np.zeros(2, np.float32),
        'region_scale': np.float32(1),
        'region_size': np.array([width, height], np.int32),
    }


def text(value: str | bytes) -> str:
    """Returns a record's text field as str; tfds reads it back as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def check(record: dict) -> None:
    """Refuses a record that does not keep to the schema.

    Args:
        record: image as JPEG bytes, the numeric fields as numpy arrays, texts as str or bytes.
    Raises:
        ValueError: naming the record, every field at fault and what is wrong with it.
    """
    wrong = list(_faults_of_form(record)) or list(_faults_of_values(record))
    if wrong:
        name = record.get('name', 'without a name')
        raise ValueError(f'record {text(name)}: {"; ".join(wrong)}.')


def _faults_of_form(record: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with names, types and shapes, and numbers that can nowhere be."""
    known = {IMAGE, *FEATURES, *TEXTS}
    for name in sorted(known - record.keys()):
        yield f'{name} is missing (an unknown label is zeros with a zero weight)'
    for name in sorted(record.keys() - known):
        yield f'{name} is not a field of the schema'
    for name in TEXTS.keys() & record.keys():
        if not isinstance(record[name], (str, bytes)):
            yield f'{name} is a {type(record[name]).__name__}, not text'
        elif not record[name] and name not in MAY_BE_EMPTY:
            yield f'{name} is empty'
    for name, field in FEATURES.items():
        value = np.asarray(record.get(name, np.zeros(field.shape, field.dtype)))
        # tfds reads scalars back as int and float.
        same_kind = np.can_cast(value.dtype, field.dtype, 'same_kind')
        if value.shape != field.shape or not (value.dtype == field.dtype or same_kind and field.shape == ()):
            yield f'{name} is {value.dtype} {value.shape}, not {np.dtype(field.dtype)} {field.shape}'
        elif not np.isfinite(value).all():
            yield f'{name} has values that are not finite at {_where(~np.isfinite(value))}'
        elif name in WEIGHTS and (value < 0).any():
            yield f'{name} is negative at {_where(value < 0)}'


def _faults_of_values(record: dict[str, Any]) -> Iterator[str]:
    """Yields where the fields of a record of the right form contradict each other."""
    try:
        found = simplejpeg.decode_jpeg_header(record[IMAGE])[:2]
    except (ValueError, TypeError) as error:
        yield f'image is not a JPEG file in bytes ({error})'
    else:
        if found[::-1] != tuple(record['region_size']):
            said = record['region_size'].tolist()
            yield f'image is {found[1]} x {found[0]} pixels, region_size says {said}'
    if record['region_scale'] <= 0:
        yield f'region_scale is {float(record["region_scale"])}, not positive'
    yield from place_faults(record)
    if record['smpl_weight'] > 0 and not record['body']:
        yield 'body is empty although smpl_weight is not zero'


def place_faults(labels: Mapping[str, Any]) -> Iterator[str]:
    """Yields what cannot be right about box and camera, one sentence each; the shapes are right."""
    width, height = int(labels['width']), int(labels['height'])
    x0, y0, x1, y1 = box = [float(x) for x in labels['box']]
    if not (x1 > x0 and y1 > y0):
        yield f'box {box} has no area'
    if x0 < 0 or y0 < 0 or x1 > width - 1 or y1 > height - 1:
        yield f'box {box} is not clipped to the photo of {width} x {height}'
    if labels['box_enlargement'] <= 0:
        yield f'box_enlargement is {float(labels["box_enlargement"])}, not positive'
    if labels['camera_weight'] > 0:
        if (labels['focal'] <= 0).any():
            yield f'focal is {labels["focal"].tolist()}, not positive, although camera_weight is not zero'
        if labels['root_m'][2] <= 0:
            yield f'root_m lies behind the camera (z = {float(labels["root_m"][2])}): z must point forward'


def _where(mask: np.ndarray) -> str:
    """Returns the first places where a mask is true, for a message."""
    return ', '.join(str(place or 'the scalar') for place in np.argwhere(mask)[:3].tolist())
