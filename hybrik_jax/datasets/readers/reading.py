"""What the readers of published annotation files share: finding files, checked fields, labels from points.

Numbers that are not finite pass here: `sanity.check_person` names them by field and index.
"""

import dataclasses
import itertools
import pathlib
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from hybrik_jax import boxes, catalogue
from hybrik_jax.body.projection import project
from hybrik_jax.data import record
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, stream_items
from hybrik_jax.json_file import NO_CHARACTER

NO_BOX = 'box without area in the photo'
_LARGEST_PHOTO = 1 << 20  # pixels, either side
_LONGEST_TEXT = 1000  # characters


def find(
    root: pathlib.Path, dataset: catalogue.Dataset, split: str, files: Mapping[str, str] | None = None
) -> pathlib.Path:
    """Returns the file (or folder) of a split in the folder `root` of a dataset; it is there.

    Args:
        files: split -> path below root, in place of `dataset.files`.

    Raises:
        ValueError: naming the splits that there are.
        FileNotFoundError: saying what is expected where, and whose folder `root` looks like.
    """
    title, files = dataset.title, files or dataset.files
    if split not in files:
        raise ValueError(f'{title} has no split {split!r}, only {", ".join(files)}.')
    path = root / files[split]
    if path.exists():
        return path
    known = [one for one in catalogue.DATASETS.values() if one.marks]
    marked = [one.title for one in known if one != dataset and any(any(root.glob(m)) for m in one.marks)]
    layout = '(docs/datasets.md shows the layout)'
    message = f'{path} is missing: the folder of {title} should hold {files[split]} {layout}.'
    if not root.is_dir():
        message += f' There is no folder {root}.'
    elif marked:
        message += f' {root} looks like the folder of {" and ".join(marked)}: were folders mixed up?'
    elif inner := [one.folder for one in known if (root / one.folder).is_dir()]:
        message += f' {root} holds {", ".join(inner)}: give the folder of the one dataset.'
    raise FileNotFoundError(message)


def paired_items(path: pathlib.Path) -> Iterator['Fields']:
    """Yields images[i] merged with annotations[i] of a JSON file in which these lists are parallel.

    Raises:
        AnnotationError: as `stream_items` does, and where the lists differ in length.
    """
    lists = stream_items(path, 'images'), stream_items(path, 'annotations')
    for index, (image, annotation) in enumerate(itertools.zip_longest(*lists)):
        if image is None or annotation is None:
            shorter = 'images' if image is None else 'annotations'
            raise AnnotationError(
                f'{path}: {shorter} ends after {index} entries, the other list goes on: images and '
                'annotations must be parallel. Download the file again.'
            )
        numbers = {'image_id': image.get('id')}  # `id` is the annotation's
        yield Fields(numbers | image | annotation, f'{path}, record {index}')


def joined_items(path: pathlib.Path, of_image: Callable[['Fields'], dict[str, Any]]) -> Iterator['Fields']:
    """Yields the annotations of a JSON file of COCO's form, each with what `of_image` says of its image.

    What is said of images is kept in memory.

    Raises:
        AnnotationError: as `stream_items` does, and for an image_id that no image has.
    """
    images = {}
    for index, item in enumerate(stream_items(path, 'images')):
        image = Fields(item, f'{path}, images[{index}]')
        images[image.key('id')] = of_image(image)
    for index, item in enumerate(stream_items(path, 'annotations')):
        fields = Fields(item, f'{path}, annotations[{index}]')
        image_id = fields.key('image_id')
        if image_id not in images:
            raise AnnotationError(
                f'{fields.where}: image_id is {reprlib.repr(image_id)}, no image has this id.'
            )
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
        """Returns the field; AnnotationError where it is missing or null."""
        value, siblings = self._look_up(name)
        if value is None:
            raise AnnotationError(
                f'{self.where}: {name} is missing; there are: {_listed(siblings)}. '
                'Is it the right file, and the right version of it?'
            )
        return value

    def text(self, name: str) -> str:
        """Returns a text that is not empty."""
        value = self.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT or NO_CHARACTER in value:
            raise AnnotationError(f'{self.where}: {name} is {reprlib.repr(value)}, expected is a text.')
        if '\0' in value:
            raise AnnotationError(f'{self.where}: {name} is {reprlib.repr(value)}, with a zero in it.')
        return value

    def path(self, name: str) -> str:
        """Returns a text that is a path below the dataset's folder."""
        value = self.text(name)
        if '..' in pathlib.PurePosixPath(value).parts or value.startswith('/'):
            raise AnnotationError(f'{self.where}: {name} is {value!r}, which leaves the folder.')
        return value

    def key(self, name: str) -> int | float | str:
        """Returns a text or a number that something is called by."""
        if isinstance(self.get(name), str):
            return self.text(name)
        value = self.number(name)
        if not (abs(value) < 2**63 and value == int(value)):
            raise AnnotationError(f'{self.where}: {name} is {value:.4g}, expected is a whole number.')
        return value

    def number(self, name: str) -> float:
        """Returns one number."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
            raise AnnotationError(f'{self.where}: {name} is {reprlib.repr(value)}, expected is a number.')
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
            raise AnnotationError(f'{self.where}: {name} is no regular list of numbers ({error}).') from None
        flat = array.size == max(array.shape, default=0)
        for shape in shapes:
            if array.shape == shape or flat and array.size == np.prod(shape):
                return array.reshape(shape)
        expected = ' or '.join(map(str, shapes))
        raise AnnotationError(f'{self.where}: {name} has the shape {array.shape}, expected is {expected}.')

    def count(self, name: str) -> int:
        """Returns the length of a list."""
        value = self.get(name)
        if not isinstance(value, list | tuple) and not (isinstance(value, np.ndarray) and value.ndim):
            raise AnnotationError(f'{self.where}: {name} is {type(value).__name__}, expected is a list.')
        return len(value)

    def size(self) -> tuple[int, int]:
        """Returns width and height of the photo, pixels."""
        width, height = self.number('width'), self.number('height')
        if not (1 <= width <= _LARGEST_PHOTO and 1 <= height <= _LARGEST_PHOTO):
            size = f'{reprlib.repr(width)} and {reprlib.repr(height)}'
            raise AnnotationError(f'{self.where}: width and height are {size}, not those of a photo.')
        return int(width), int(height)

    def box(self, name: str = 'bbox') -> np.ndarray | None:
        """Returns the box (4,) xyxy of the field x y w h, clipped to the photo; None where none is left."""
        box, size = self.numbers(name, (4,)), self.size()
        try:
            return boxes.clipped(box, *size)
        except ValueError as error:
            raise AnnotationError(f'{self.where}: {name}: {error}.') from None

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


def person(fields: Fields, *, labels: Mapping[str, Any], **known: Any) -> AnnotatedPerson:
    """Returns the person of an annotation, with its `image_id` and `id` where these are whole numbers.

    Args:
        labels: of any types, see `finished`.
        **known: name, photo and, where there are such, sequence and action, as in `AnnotatedPerson`.
    """
    image_id, annotation_id = (
        value if isinstance(value, int) and not isinstance(value, bool) else None
        for value in (fields.item.get('image_id'), fields.item.get('id'))
    )
    return AnnotatedPerson(labels=finished(labels), image_id=image_id, annotation_id=annotation_id, **known)


# ---- fields of `record.FEATURES`, to be merged into a person's labels


def start(width: int, height: int, box: np.ndarray, box_enlargement: float) -> dict[str, Any]:
    """Returns the labels of a person of whom only the box is known: `record.FEATURES` without region_*."""
    known = {'width': width, 'height': height, 'box': box, 'box_enlargement': box_enlargement}
    return {name: value for name, value in (record.blank() | known).items() if not name.startswith('region_')}


def camera(focal: np.ndarray, centre: np.ndarray, root_m: np.ndarray) -> dict[str, Any]:
    """Returns the fields of a known camera, pixels, and the annotation's root (3,), camera frame, metres."""
    return {'focal': focal, 'centre': centre, 'root_m': root_m, 'camera_weight': 1.0}


def joints(points_m: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Returns joints_m and its weights from joints (29, 3), camera frame, metres; valid (29,) ones exist."""
    valid = np.asarray(valid, bool)
    return {'joints_m': np.where(valid[:, None], points_m - points_m[0], 0), 'joints_weight': valid}


def pixels(places: np.ndarray, depth_m: np.ndarray | None, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Returns joints_px and its weights from photo pixels (29, 2) and depths (29,), to joint 0, or None."""
    known = depth_m is not None
    valid = np.asarray(valid, bool)[:, None]
    both = np.concatenate([places, depth_m[:, None] if known else np.zeros((29, 1))], 1)
    weight = np.concatenate([valid, valid, valid & known], 1)
    return {'joints_px': np.where(weight, both, 0), 'joints_px_weight': weight}


def projected(
    points_m: np.ndarray, valid: np.ndarray, focal: np.ndarray, centre: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns joints_px and its weights by projecting joints (29, 3), camera frame, metres.

    A joint in the camera's plane has no pixel: its weight is zero.
    """
    valid = np.asarray(valid, bool) & (points_m[:, 2] != 0)
    points_m = np.where(valid[:, None], points_m, [0.0, 0.0, 1.0])
    return pixels(project(points_m, focal, centre), points_m[:, 2] - points_m[0, 2], valid)


def h36m_joints(points_m: np.ndarray) -> dict[str, np.ndarray]:
    """Returns h36m_joints_m and its weights from all 17 joints (17, 3), camera frame, metres."""
    return {'h36m_joints_m': points_m - points_m[0], 'h36m_weight': np.ones(17)}


def finished(labels: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns labels in the types of `record.FEATURES`; `record.check` looks at their shapes."""
    return {name: np.asarray(value, record.FEATURES[name].dtype) for name, value in labels.items()}


def padded(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (24 or 29, ...) filled up with zeros to 29, and which of them there are, (29,) bool."""
    out = np.zeros((29, *points.shape[1:]))
    out[: len(points)] = points
    return out, np.arange(29) < len(points)
