"""The one schema: what every dataset stores about one person.

A record's image is a region of the photo, possibly smaller (`data.region` cuts it), or all of it. Every other
field is about the photo: image pixel = (photo pixel - region_offset) * region_scale.

Frames: pixels of the photo with pixel centres at integers; camera frame x right, y down, z forward, metres;
u = focal * X / Z + centre, without lens distortion. A missing label is zeros with a zero weight, never a
missing key.
"""

from typing import NamedTuple

import numpy as np


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
