"""The schema as tfds writes it, and the check that a record keeps to it before it is written."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import simplejpeg

from hybrik_jax.data import record as schema


def features() -> Any:
    """Returns the schema for tfds, a `tfds.features.FeaturesDict`; images are JPEG bytes."""
    import tensorflow_datasets as tfds  # here: processes that draw people do without

    image = tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg', doc='the photo, RGB')
    out = {schema.IMAGE: image}
    for name, field in schema.FEATURES.items():
        out[name] = tfds.features.Tensor(shape=field.shape, dtype=field.dtype, doc=field.meaning)
    for name, meaning in schema.TEXTS.items():
        out[name] = tfds.features.Text(doc=meaning)
    return tfds.features.FeaturesDict(out)


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
        raise ValueError(f'record {schema.text(name)}: {"; ".join(wrong)}.')


def _faults_of_form(record: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with names, types and shapes, and numbers that can nowhere be."""
    known = {schema.IMAGE, *schema.FEATURES, *schema.TEXTS}
    for name in sorted(known - record.keys()):
        yield f'{name} is missing (an unknown label is zeros with a zero weight)'
    for name in sorted(record.keys() - known):
        yield f'{name} is not a field of the schema'
    for name in schema.TEXTS.keys() & record.keys():
        if not isinstance(record[name], (str, bytes)):
            yield f'{name} is a {type(record[name]).__name__}, not text'
        elif not record[name] and name not in schema.MAY_BE_EMPTY:
            yield f'{name} is empty'
    for name, field in schema.FEATURES.items():
        value = np.asarray(record.get(name, np.zeros(field.shape, field.dtype)))
        # tfds reads scalars back as int and float.
        same_kind = np.can_cast(value.dtype, field.dtype, 'same_kind')
        if value.shape != field.shape or not (value.dtype == field.dtype or same_kind and field.shape == ()):
            yield f'{name} is {value.dtype} {value.shape}, not {np.dtype(field.dtype)} {field.shape}'
        elif not np.isfinite(value).all():
            yield f'{name} has values that are not finite at {_where(~np.isfinite(value))}'
        elif name in schema.WEIGHTS and (value < 0).any():
            yield f'{name} is negative at {_where(value < 0)}'


def _faults_of_values(record: dict[str, Any]) -> Iterator[str]:
    """Yields where the fields of a record of the right form contradict each other."""
    try:
        found = simplejpeg.decode_jpeg_header(record[schema.IMAGE])[:2]
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
