"""Roots and boxes that another program found, from JSON, by record (numpy).

Our format, one object: record name -> [x, y, z] of the root in the camera frame, MILLIMETRES; or record name
-> [x, y, w, h] of the box, pixels of the photo. For example

    {"pw3d/test/downtown_walking_00/image_00010-0": [12.5, -310.0, 4120.7]}

Also read: the list that RootNet's programs write, [{"image_id" or "file_name": ..., "root_cam": [x, y, z],
"bbox": [x, y, w, h]}, ...], where `image_id` (as text) or `file_name` is the photo's file. A record belongs
to a photo if its name, after dataset and split, is the file's path without its ending, or ends like it; what
follows a last '-' may be missing (which of several people), and a folder's name may be repeated in the file's
name. Where several entries are of one photo, the one whose bbox overlaps the record's most (at least half) is
taken. A `name` in an entry is a record's name.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrik_jax.data.augment import box_centre_and_side, text
from hybrik_jax.datasets.annotation import MM, box_from_xywh

LEAST_OVERLAP = 0.5
NEAREST_MM = 100.0  # a root closer than this is in other units


class Found:
    """The entries of one file: `root_m` and `box` answer for a record. An entry is given to one record only.

    Args:
        path: the JSON file.
        kind: 'root' or 'box': what is read of an entry.
    Raises:
        FileNotFoundError; ValueError, naming the file and the entry, where it is not of a form above.
    """

    def __init__(self, path: str | pathlib.Path, kind: str):
        self.path, self.kind = pathlib.Path(path), kind
        if not self.path.is_file():
            raise FileNotFoundError(f'There is no {kind} file {self.path}.')
        data = self.path.read_bytes()
        self.label = f'{self.path.name} {hashlib.sha256(data).hexdigest()[:8]}'
        try:
            content = json.loads(data)
        except ValueError as error:
            raise ValueError(f'{self.path} is no JSON ({error}): it may be cut off.') from error
        self._by_name: dict[str, np.ndarray] = {}
        self._by_photo: dict[tuple[str, ...], list[tuple[int, np.ndarray, np.ndarray | None]]] = {}
        self._photos_ending: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        self._taken: dict[int, str] = {}
        if isinstance(content, dict):
            self._by_name = {
                name: self._numbers(value, f'entry {name!r}', kind) for name, value in content.items()
            }
        elif isinstance(content, list):
            for number, entry in enumerate(content):
                self._add(number, entry)
        else:
            raise ValueError(f'{self.path} holds neither an object nor a list.')
        if not content:
            raise ValueError(f'{self.path} is empty.')

    def root_m(self, record: Mapping[str, Any]) -> np.ndarray:
        """Returns the root (3,) of a record in the camera frame, metres. Raises ValueError where there is
        none.
        """
        return np.float32(MM) * self._find(record)

    def box(self, record: Mapping[str, Any]) -> np.ndarray:
        """Returns the box (4,) xyxy of a record, clipped to its photo. Raises ValueError where there is
        none.
        """
        found = self._find(record)
        box = box_from_xywh(found, int(record['width']), int(record['height']))
        if box is None:
            raise ValueError(
                f'{self.path}: the box {found.tolist()} of {text(record["name"])!r} misses the photo.'
            )
        return box

    def _add(self, number: int, entry: Any) -> None:
        where, key = f'entry {number}', 'root_cam' if self.kind == 'root' else 'bbox'
        if not isinstance(entry, dict) or key not in entry:
            raise ValueError(f'{self.path}: {where} is no object with {key!r}.')
        numbers = self._numbers(entry[key], where, self.kind)
        if 'name' in entry:
            if entry['name'] in self._by_name:
                raise ValueError(f'{self.path}: {where} is the second one for {entry["name"]!r}.')
            self._by_name[entry['name']] = numbers
            return
        photo = entry.get('file_name', entry.get('image_id'))
        if not isinstance(photo, str):
            raise ValueError(
                f'{self.path}: {where} has image_id={photo!r}, which names no file: add "name" (of the record) or '
                '"file_name" to every entry.'
            )
        parts = _parts(photo.removesuffix(pathlib.PurePosixPath(photo).suffix))
        bbox = self._numbers(entry['bbox'], where, 'box') if 'bbox' in entry else None
        self._by_photo.setdefault(parts, []).append((number, numbers, bbox))
        for start in range(len(parts)):
            self._photos_ending.setdefault(parts[start:], set()).add(parts)

    def _numbers(self, value: Any, where: str, kind: str) -> np.ndarray:
        count, meaning = (3, 'x y z, millimetres') if kind == 'root' else (4, 'x y w h, pixels')
        try:
            numbers = np.asarray(value, np.float32)
        except (TypeError, ValueError):
            numbers = np.empty(0, np.float32)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise ValueError(f'{self.path}: {where} has {value!r}, expected are {count} numbers: {meaning}.')
        if kind == 'root' and numbers[2] < NEAREST_MM:
            raise ValueError(
                f'{self.path}: {where} has its root {numbers[2]:g} mm before the camera: roots are in millimetres.'
            )
        return numbers

    def _find(self, record: Mapping[str, Any]) -> np.ndarray:
        name = text(record['name'])
        if name in self._by_name:
            return self._by_name[name]
        parts = _parts('/'.join(name.split('/')[2:]))
        wholes = [parts, (*parts[:-1], parts[-1].rsplit('-', 1)[0])] if parts else []
        joined = [('_'.join(whole[-2:]),) for whole in wholes]  # folder and number as a file's name alone
        endings = [whole[start:] for whole in wholes for start in range(1, len(whole))]
        for tried in (*wholes, *joined, *endings):
            photos = self._photos_ending.get(tried, set())
            if len(photos) > 1:
                raise ValueError(
                    f'{self.path}: several photos fit record {name!r}, such as {"/".join(min(photos))!r}: give '
                    'the entries "name".'
                )
            if photos:
                return self._of_photo(min(photos), name, record)
        known = [*self._by_name, *('/'.join(parts) for parts in self._by_photo)]
        raise ValueError(
            f'{self.path} has no {self.kind} for record {name!r}; it has {len(known)} of others, such as {known[0]!r}.'
        )

    def _of_photo(self, photo: tuple[str, ...], name: str, record: Mapping[str, Any]) -> np.ndarray:
        entries = self._by_photo[photo]
        if len(entries) > 1 or entries[0][2] is not None:
            overlaps = [0.0 if bbox is None else _overlap(bbox, record['box']) for _, _, bbox in entries]
            best = int(np.argmax(overlaps))
            if overlaps[best] < LEAST_OVERLAP:
                raise ValueError(
                    f'{self.path}: photo {"/".join(photo)!r} has {len(entries)} entries, none with a bbox that '
                    f'overlaps the box of record {name!r} by half: give the entries "name".'
                )
            entries = [entries[best]]
        number, numbers, _ = entries[0]
        other = self._taken.setdefault(number, name)
        if other != name:
            raise ValueError(
                f'{self.path}: entry {number} fits the records {other!r} and {name!r}: give the entries "name".'
            )
        return numbers


def check_box_is_stored(record: Mapping[str, Any], box: np.ndarray, enlargement: float) -> None:
    """Raises ValueError where the crop around a box (4,) xyxy shows parts of the photo that the record lacks.

    A record's image is a region around the annotated box (`data.region`); 2 pixels at its edges are let pass.
    """
    centre, side = box_centre_and_side(box, enlargement)
    last = np.array([record['width'], record['height']], np.float64) - 1
    low, high = (np.clip(centre + sign * side / 2, 0, last) for sign in (-1, 1))
    scale, half = float(record['region_scale']), 0.5 / float(record['region_scale']) - 0.5
    stored_low = np.asarray(record['region_offset'], np.float64) - half
    stored_high = record['region_offset'] + (np.asarray(record['region_size']) - 1) / scale + half
    if (low < stored_low - 2).any() or (high > stored_high + 2).any():
        raise ValueError(
            f'record {text(record["name"])!r}: the crop of the detected box reaches from {low.round().tolist()} to '
            f'{high.round().tolist()} (x, y) on the photo, the record holds only {stored_low.round().tolist()} to '
            f'{stored_high.round().tolist()}: the box is of somebody else, or build the dataset with these boxes.'
        )


def _overlap(xywh: np.ndarray, xyxy: np.ndarray) -> float:
    """Intersection over union of a box x y w h and a box x0 y0 x1 y1."""
    a, b = np.concatenate([xywh[:2], xywh[:2] + xywh[2:]]), np.asarray(xyxy, np.float64)
    inside = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(inside / max(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside, 1e-9))


def _parts(path: str) -> tuple[str, ...]:
    """A path's parts; 'S9/S9_0001' is ('S9', '0001')."""
    parts = [part for part in path.replace('\\', '/').split('/') if part and part != '.']
    if len(parts) > 1 and parts[-1].startswith(f'{parts[-2]}_'):
        parts[-1] = parts[-1].removeprefix(f'{parts[-2]}_')
    return tuple(parts)
