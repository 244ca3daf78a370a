"""Roots and boxes that another program found, from JSON, by record (numpy).

Our format, one object: record name -> [x, y, z] of the root in the camera frame, MILLIMETRES; or record name
-> [x, y, w, h] of the box, pixels of the photo. For example

    {"pw3d/test/downtown_walking_00/image_00010-0": [12.5, -310.0, 4120.7]}

Also read: the list that RootNet's programs and detectors write, [{"image_id" or "file_name": ..., "root_cam":
[x, y, z], "bbox": [x, y, w, h]}, ...].

- `file_name`, or `image_id` as text, is the photo's file. A record belongs to a photo if its name, after
  dataset and split, is the file's path without its ending, or ends like it; what follows a last '-' may be
  missing (which of several people), and a folder's name may be repeated in the file's name.
- `image_id` as a whole number is images[].id of the annotation file, for MSCOCO the photo's number.
- `annotation_id` (or `ann_id`; or `id`, where no photo is named) is annotations[].id.
- `name` is a record's name.

Where several entries are of one photo, that with the record's annotations[].id is taken, or the one whose
bbox overlaps the record's most (at least half).
"""

import dataclasses
import hashlib
import pathlib
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrik_jax import boxes, json_file
from hybrik_jax.files import open_plain
from hybrik_jax.units import MM_PER_M

LEAST_OVERLAP = 0.5
NEAREST_MM = 100.0  # a root closer than this is in metres
_LONGEST_NAME = 1000  # characters

Numbers = tuple[int | None, int | None]  # images[].id, annotations[].id


def numbers_path(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Returns where a built dataset keeps the numbers of its annotation file: record name -> `Numbers`."""
    return folder / f'numbers_{split}.json'


def read_numbers(folder: pathlib.Path, split: str) -> dict[str, Numbers]:
    """Returns the numbers of the records of a built dataset's split; {} where it was built without."""
    path = numbers_path(folder, split)
    if not path.is_file():
        return {}
    try:
        return {name: (image, annotation) for name, (image, annotation) in json_file.read(path).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is damaged ({error}): build the dataset again.') from error


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One entry of a list: its place, what was found, the box that it is of, the annotation that it is of."""

    place: int
    numbers: np.ndarray
    bbox: np.ndarray | None
    annotation: int | None


class Found:
    """The entries of one file: `root_m` and `box` answer for a record; an entry is given to one record."""

    def __init__(self, path: str | pathlib.Path, kind: str, numbers: Mapping[str, Numbers] | None = None):
        """Reads the file.

        Args:
            path: the JSON file.
            kind: 'root' or 'box': what is read of an entry.
            numbers: of the records that will be asked for, see `read_numbers`.

        Raises:
            FileNotFoundError, FileError: as `json_file.read`.
            ValueError: naming the file and the entry, where it is not of a form above.
        """
        self.path, self.kind = pathlib.Path(path), kind
        with open_plain(self.path, f'a {kind} file', json_file.LARGEST) as file:
            data = file.read()
        self.label = f'{self.path.name} {hashlib.sha256(data).hexdigest()[:8]}'
        self._record_numbers = numbers or {}
        self._by_name: dict[str, np.ndarray] = {}
        self._by_annotation: dict[int, list[_Entry]] = {}
        self._by_photo: dict[tuple[str, ...] | int, list[_Entry]] = {}  # path, or number
        self._photos_ending: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        self._taken: dict[int, str] = {}
        content = json_file.parse(data, self.path)
        if not isinstance(content, dict | list) or not content:
            raise ValueError(f'{self.path} is empty, or holds neither an object nor a list.')
        if isinstance(content, dict):
            for name, value in content.items():
                self._by_name[name] = self._numbers(value, f'entry {_shown(name)}', kind)
        else:
            for place, entry in enumerate(content):
                self._add(place, entry)

    def root_m(self, record: Mapping[str, Any]) -> np.ndarray:
        """Returns the root (3,) of a record in the camera frame, metres; ValueError where there is none."""
        return self._find(record) / np.float32(MM_PER_M)

    def box(self, record: Mapping[str, Any]) -> np.ndarray:
        """Returns the box (4,) xyxy of a record, clipped to its photo; ValueError where there is none."""
        found = self._find(record)
        box = boxes.clipped(found, int(record['width']), int(record['height']))
        if box is None:
            raise ValueError(f'{self.path}: the box {found.tolist()} of {_name(record)!r} misses the photo.')
        return box

    def _add(self, place: int, entry: Any) -> None:
        where, key = f'entry {place}', 'root_cam' if self.kind == 'root' else 'bbox'
        if not isinstance(entry, dict) or key not in entry:
            raise ValueError(f'{self.path}: {where} is no object with {key!r}.')
        numbers = self._numbers(entry[key], where, self.kind)
        name, photo = entry.get('name'), entry.get('file_name') or entry.get('image_id')
        if name is not None:
            if not isinstance(name, str) or len(name) > _LONGEST_NAME:
                raise ValueError(f'{self.path}: {where} has name={_shown(name)}, expected is a text.')
            if name in self._by_name:
                raise ValueError(f'{self.path}: {where} is the second one for {_shown(name)}.')
            self._by_name[name] = numbers
            return
        bbox = self._numbers(entry['bbox'], where, 'box') if 'bbox' in entry else None
        ids = [entry[key] for key in ('annotation_id', 'ann_id', 'id') if type(entry.get(key)) is int]
        one = _Entry(place, numbers, bbox, ids[0] if ids else None)
        if photo is None and ids:
            self._by_annotation.setdefault(ids[0], []).append(one)
        elif type(photo) is int:
            self._by_photo.setdefault(photo, []).append(one)
        elif isinstance(photo, str) and len(photo) <= _LONGEST_NAME:
            parts = _parts(photo.removesuffix(pathlib.PurePosixPath(photo).suffix))
            self._by_photo.setdefault(parts, []).append(one)
            for start in range(len(parts)):
                self._photos_ending.setdefault(parts[start:], set()).add(parts)
        else:
            raise ValueError(
                f'{self.path}: {where} has image_id={_shown(photo)}, which names no photo: give every '
                'entry "image_id", "file_name" or "name" (of the record).'
            )

    def _numbers(self, value: Any, where: str, kind: str) -> np.ndarray:
        """Returns the root (3,) or box (4,) float32 of an entry, checked."""
        count, meaning = (3, 'x y z, millimetres') if kind == 'root' else (4, 'x y w h, pixels')
        if not (isinstance(value, list) and len(value) == count and all(map(_is_plain, value))):
            shown = _shown(value)
            raise ValueError(f'{self.path}: {where} has {shown}, expected are {count} numbers: {meaning}.')
        numbers = np.array(value, np.float64).astype(np.float32)
        if kind == 'root' and numbers[2] < NEAREST_MM:
            guess = 'looks like metres: give millimetres' if numbers[2] > 0 else 'lies behind the camera'
            raise ValueError(f'{self.path}: {where} has its root at z = {numbers[2]:g}: it {guess}.')
        return numbers

    def _find(self, record: Mapping[str, Any]) -> np.ndarray:
        name = _name(record)
        if name in self._by_name:
            return self._by_name[name]
        in_name = re.fullmatch(r'[^/]*/[^/]*/(\d+)-(\d+)', name)  # coco/train/PHOTO-ANNOTATION
        known = map(int, in_name.groups()) if in_name else (None, None)
        photo_number, annotation = self._record_numbers.get(name, known)
        if annotation in self._by_annotation:
            return self._choose(self._by_annotation[annotation], f'id {annotation}', record, annotation)
        parts = _parts('/'.join(name.split('/')[2:]))
        wholes = [parts, (*parts[:-1], parts[-1].rsplit('-', 1)[0])] if parts else []
        joined = [('_'.join(whole[-2:]),) for whole in wholes]  # folder and number as a file's name alone
        endings = [whole[start:] for whole in wholes for start in range(1, len(whole))]
        for tried in (*wholes, *joined, *endings):
            photos = self._photos_ending.get(tried, set())
            if len(photos) > 1:
                raise ValueError(
                    f'{self.path}: several photos fit record {name!r}, such as {"/".join(min(photos))!r}: '
                    'give the entries "name".'
                )
            if photos:
                photo = min(photos)
                return self._choose(self._by_photo[photo], f'photo {"/".join(photo)!r}', record, annotation)
        if photo_number in self._by_photo:
            return self._choose(self._by_photo[photo_number], f'photo {photo_number}', record, annotation)
        others = [*self._by_name, *self._by_photo, *self._by_annotation]
        other = '/'.join(others[0]) if isinstance(others[0], tuple) else others[0]
        advice = 'give the entries "file_name" or "name"'
        if isinstance(other, int) and name not in self._record_numbers:
            advice = f'the numbers of its photos are not known: build the dataset again, or {advice}'
        raise ValueError(
            f'{self.path} has no {self.kind} for record {name!r}; it has {len(others)} of others, such as '
            f'{other!r:.200}: {advice}.'
        )

    def _choose(
        self, entries: list[_Entry], what: str, record: Mapping[str, Any], annotation: int | None
    ) -> np.ndarray:
        """Returns what was found of the one of the entries of a photo that is of a record."""
        name = _name(record)
        same = [one for one in entries if one.annotation is not None and one.annotation == annotation]
        entries = same if len(same) == 1 else entries
        if len(entries) > 1 or entries[0].bbox is not None:
            overlaps = [_overlap(entry.bbox, record) for entry in entries]
            best = int(np.argmax(overlaps))
            if overlaps[best] < LEAST_OVERLAP:
                raise ValueError(
                    f'{self.path}: {what} has {len(entries)} entries, none with a bbox that overlaps the box '
                    f'of record {name!r} by half: give the entries "name".'
                )
            entries = [entries[best]]
        other = self._taken.setdefault(entries[0].place, name)
        if other != name:
            raise ValueError(
                f'{self.path}: entry {entries[0].place} fits the records {other!r} and {name!r}: give the '
                'entries "name".'
            )
        return entries[0].numbers


def check_box_is_stored(record: Mapping[str, Any], box: np.ndarray, enlargement: float) -> None:
    """Raises ValueError where the crop around a box (4,) xyxy shows over 2 pixels that are not stored."""
    centre, side = boxes.centre_and_side(box, enlargement)
    last = np.array([record['width'], record['height']]) - 1
    low, high = (np.clip(centre + sign * side / 2, 0, last) for sign in (-1, 1))
    scale = float(record['region_scale'])
    half = 0.5 / scale - 0.5
    stored_low = record['region_offset'] - half
    stored_high = record['region_offset'] + (record['region_size'] - 1) / scale + half
    if (low < stored_low - 2).any() or (high > stored_high + 2).any():
        raise ValueError(
            f'record {_name(record)!r}: the crop of the detected box reaches from {low.round()} to '
            f'{high.round()} (x, y) on the photo, the record holds only {stored_low.round()} to '
            f'{stored_high.round()}: the box is of somebody else, or build the dataset with these boxes.'
        )


def _name(record: Mapping[str, Any]) -> str:
    name = record['name']
    return name.decode() if isinstance(name, bytes) else str(name)


def _overlap(xywh: np.ndarray | None, record: Mapping[str, Any]) -> float:
    """Returns the intersection over union of a box and a record's; 0 without a box on the photo."""
    box = None if xywh is None else boxes.clipped(xywh, int(record['width']), int(record['height']))
    return 0.0 if box is None else float(boxes.overlap(box, record['box']))


def _shown(value: Any) -> str:
    """Returns a value of a file for a message, short whatever it is."""
    return reprlib.repr(value)[:80]


def _is_plain(value: Any) -> bool:
    """Returns whether a value is a number that a float32 holds; true and false are none."""
    return type(value) in (int, float) and abs(value) < 1e38


def _parts(path: str) -> tuple[str, ...]:
    """Returns a path's parts; 'S9/S9_0001' is ('S9', '0001')."""
    parts = [part for part in path.replace('\\', '/').split('/') if part and part != '.']
    if len(parts) > 1 and parts[-1].startswith(f'{parts[-2]}_'):
        parts[-1] = parts[-1].removeprefix(f'{parts[-2]}_')
    return tuple(parts)
