"""Annotation files, JSON that others wrote: their lists of objects, and checks of what is taken from one.

Numbers that are not finite pass here: whoever uses them names them.
"""

import dataclasses
import itertools
import pathlib
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hybrik_jax import boxes, json_file
from hybrik_jax.files import FileError
from hybrik_jax.json_file import NO_CHARACTER

_LARGEST_PHOTO = 1 << 20  # pixels, either side
_LONGEST_TEXT = 1000  # characters


def stream_items(path: pathlib.Path, key: str) -> Iterator[dict[str, Any]]:
    """Yields the objects of the list under the top-level `key` of a JSON file, one at a time.

    Raises:
        FileError, FileNotFoundError: as `json_file.stream`, or there is no such list.
    """
    index = -1
    for index, item in enumerate(json_file.stream(path, key)):
        if not isinstance(item, dict):
            kind = type(item).__name__
            raise FileError(f'{path}: {key}[{index}] is {kind}, not an object: is it the right file?')
        yield item
    if index < 0:
        kinds, _ = json_file.read_top(path)
        if kinds is None or kinds.get(key) != 'list':
            there = 'it is no object' if kinds is None else f'only {reprlib.repr(list(kinds)[:10])}'
            raise FileError(f'{path} has no list {key!r}, {there}: is it the right file?')


def paired_items(path: pathlib.Path) -> Iterator['Fields']:
    """Yields images[i] merged with annotations[i] of a JSON file in which these lists are parallel.

    Raises:
        FileError: as `stream_items` does, and where the lists differ in length.
    """
    lists = stream_items(path, 'images'), stream_items(path, 'annotations')
    for index, (image, annotation) in enumerate(itertools.zip_longest(*lists)):
        if image is None or annotation is None:
            shorter = 'images' if image is None else 'annotations'
            raise FileError(
                f'{path}: {shorter} ends after {index} entries, the other list goes on: images and '
                'annotations must be parallel. Download the file again.'
            )
        numbers = {'image_id': image.get('id')}  # `id` is the annotation's
        yield Fields(numbers | image | annotation, f'{path}, record {index}')


def joined_items(path: pathlib.Path, of_image: Callable[['Fields'], dict[str, Any]]) -> Iterator['Fields']:
    """Yields the annotations of a JSON file of COCO's form, each with what `of_image` says of its image.

    What is said of images is kept in memory.

    Raises:
        FileError: as `stream_items` does, and for an image_id that no image has.
    """
    images = {}
    for index, item in enumerate(stream_items(path, 'images')):
        image = Fields(item, f'{path}, images[{index}]')
        images[image.key('id')] = of_image(image)
    for index, item in enumerate(stream_items(path, 'annotations')):
        fields = Fields(item, f'{path}, annotations[{index}]')
        image_id = fields.key('image_id')
        if image_id not in images:
            raise FileError(f'{fields.where}: image_id is {reprlib.repr(image_id)}, no image has this id.')
        yield Fields(item | images[image_id], fields.where)


@dataclasses.dataclass(frozen=True)
class Fields:
    """One object of an annotation file; what is taken from it is checked. Names may be paths: cam_param.f.

    item: the object.
    where: what errors call it: file and record.
    """

    item: dict[str, Any]
    where: str

    def has(self, name: str) -> bool:
        """Returns whether the field is there and not null."""
        return self._look_up(name)[0] is not None

    def get(self, name: str) -> Any:
        """Returns the field; FileError where it is missing or null."""
        value, siblings = self._look_up(name)
        if value is None:
            raise FileError(
                f'{self.where}: {name} is missing; there are: {_listed(siblings)}. '
                'Is it the right file, and the right version of it?'
            )
        return value

    def text(self, name: str) -> str:
        """Returns a text that is not empty."""
        value = self.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT or NO_CHARACTER in value:
            raise FileError(f'{self.where}: {name} is {reprlib.repr(value)}, expected is a text.')
        if '\0' in value:
            raise FileError(f'{self.where}: {name} is {reprlib.repr(value)}, with a zero in it.')
        return value

    def path(self, name: str) -> str:
        """Returns a text that is a path below the dataset's folder."""
        value = self.text(name)
        if '..' in pathlib.PurePosixPath(value).parts or value.startswith('/'):
            raise FileError(f'{self.where}: {name} is {value!r}, which leaves the folder.')
        return value

    def key(self, name: str) -> int | float | str:
        """Returns a text or a number that something is called by."""
        if isinstance(self.get(name), str):
            return self.text(name)
        value = self.number(name)
        if not (abs(value) < 2**63 and value == int(value)):
            raise FileError(f'{self.where}: {name} is {value:.4g}, expected is a whole number.')
        return value

    def number(self, name: str) -> float:
        """Returns one number."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
            raise FileError(f'{self.where}: {name} is {reprlib.repr(value)}, expected is a number.')
        return value

    def numbers(self, name: str, *shapes: tuple[int, ...]) -> np.ndarray:
        """Returns numbers as float64 in one of the shapes; a flat list of a shape's size is taken for it."""
        value = self.get(name)
        try:
            array = np.asarray(value)
            if array.dtype.kind in 'SUb':
                raise TypeError(f'it holds texts or truth values: {reprlib.repr(value)}')
            array = array.astype(np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise FileError(f'{self.where}: {name} is no regular list of numbers ({error}).') from None
        flat = array.size == max(array.shape, default=0)
        for shape in shapes:
            if array.shape == shape or flat and array.size == np.prod(shape):
                return array.reshape(shape)
        expected = ' or '.join(map(str, shapes))
        raise FileError(f'{self.where}: {name} has the shape {array.shape}, expected is {expected}.')

    def count(self, name: str) -> int:
        """Returns the length of a list."""
        value = self.get(name)
        if not isinstance(value, list | tuple) and not (isinstance(value, np.ndarray) and value.ndim):
            raise FileError(f'{self.where}: {name} is {type(value).__name__}, expected is a list.')
        return len(value)

    def size(self) -> tuple[int, int]:
        """Returns width and height of the photo, pixels."""
        width, height = self.number('width'), self.number('height')
        if not (1 <= width <= _LARGEST_PHOTO and 1 <= height <= _LARGEST_PHOTO):
            size = f'{reprlib.repr(width)} and {reprlib.repr(height)}'
            raise FileError(f'{self.where}: width and height are {size}, not those of a photo.')
        return int(width), int(height)

    def box(self, name: str = 'bbox') -> np.ndarray | None:
        """Returns the box (4,) xyxy of the field x y w h, clipped to the photo; None where none is left."""
        box, size = self.numbers(name, (4,)), self.size()
        try:
            return boxes.clipped(box, *size)
        except ValueError as error:
            raise FileError(f'{self.where}: {name}: {error}.') from None

    def _look_up(self, name: str) -> tuple[Any, list[str]]:
        """Returns the value, or None; and the fields beside it, for a message."""
        value, siblings = self.item, []
        for part in name.split('.'):
            if not isinstance(value, dict):
                return None, siblings
            siblings, value = sorted(map(str, value)), value.get(part)
        return value, siblings


def _listed(names: list[str]) -> str:
    """Returns names of fields for a message, short whatever they are."""
    plain = [name if name.isidentifier() and len(name) < 40 else reprlib.repr(name) for name in names[:30]]
    return ', '.join(plain) + (f' and {len(names) - 30} more' if len(names) > 30 else '') or 'no fields'
