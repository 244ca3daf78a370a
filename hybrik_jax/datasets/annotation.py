"""What a reader of annotation files yields, and what all readers share: boxes, and JSON streamed safely."""

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import ijson
import numpy as np

NO_CHARACTER = '\ufdd0'  # what half of a surrogate pair reads as; Unicode has no such character
_DEEPEST = 64  # lists and objects within each other; published files have 6
_OTHERS = {
    b'PK\x03\x04': 'a zip archive, as .npz files are',
    b'\x93NUMPY': 'a NumPy array',
    b'\x80': 'a pickle',
    b'\x1f\x8b': 'a gzip archive',
    b'MATLAB': 'a MATLAB file',
    b'\x89HDF': 'an HDF5 file',
}


class AnnotationError(ValueError):
    """An annotation file that is not what it should be: file, record, field, and what to do."""


@dataclasses.dataclass(frozen=True)
class AnnotatedPerson:
    """One annotated person whose image is not cut yet.

    name: unique in its dataset, with the split, such as 'coco/train/000000000785-442619'.
    photo: the image file.
    labels: every field of `record.FEATURES` but region_*; frames and units as there.
    sequence, action: what figures are grouped by; may be empty.
    image_id, annotation_id: images[].id and annotations[].id of the annotation file, None where it has none.
    """

    name: str
    photo: pathlib.Path
    labels: dict[str, np.ndarray]
    sequence: str = ''
    action: str = ''
    image_id: int | None = None
    annotation_id: int | None = None


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An annotation that is left out: `reason` is the same text for the same cause, `where` names the one."""

    reason: str
    where: str


def stream_items(path: pathlib.Path, key: str) -> Iterator[dict[str, Any]]:
    """Yields the objects of the list under the top-level `key` of a JSON file, one at a time.

    Raises:
        AnnotationError, FileNotFoundError: as `stream`, or there is no such list.
    """
    index = -1
    for index, item in enumerate(stream(path, key)):
        if not isinstance(item, dict):
            kind = type(item).__name__
            raise AnnotationError(f'{path}: {key}[{index}] is {kind}, not an object: is it the right file?')
        yield item
    if index < 0:
        kinds, _ = read_top(path)
        if kinds is None or kinds.get(key) != 'list':
            there = 'it is no object' if kinds is None else f'only {list(kinds)[:10]}'
            raise AnnotationError(f'{path} has no list {key!r}, {there}: is it the right file?')


def stream(path: pathlib.Path, key: str) -> Iterator[Any]:
    """Yields what the list under the top-level `key` of a JSON file holds, one value at a time.

    Bare NaN and Infinity are None, half of a surrogate pair is `NO_CHARACTER`. Without such a list there is
    nothing.

    Raises:
        AnnotationError: the file is no JSON, is cut off, or is nested too deep.
        FileNotFoundError: there is no such file.
    """
    with _open(path) as file:
        yield from ijson.items(file, f'{key}.item', use_float=True)


def read_top(path: pathlib.Path, keys: Collection[str] = ()) -> tuple[dict[str, str] | None, dict[str, Any]]:
    """Returns what the top of a JSON file is made of, without what lists hold.

    Args:
        keys: whose values are wanted, wherever they stand.
    Returns:
        'list', 'object' or 'value' for every top-level key, or None where the top is no object; the values
        of `keys`.
    Raises:
        AnnotationError, FileNotFoundError: as `stream`.
    """
    kinds, values = {}, {}
    key, builder, depth = '', None, 0
    with _open(path) as file:
        for event, value in ijson.basic_parse(file, use_float=True):
            if event in ('end_map', 'end_array'):
                depth -= 1
            elif depth == 0 and event != 'start_map':
                return None, {}
            elif depth == 1 and event == 'map_key':
                key, builder = value, ijson.ObjectBuilder() if value in keys else None
                continue
            elif depth == 1:
                kinds[key] = {'start_array': 'list', 'start_map': 'object'}.get(event, 'value')
            if builder is not None and depth:
                builder.event(event, value)
                values[key] = builder.value
            if event in ('start_map', 'start_array'):
                depth += 1
    return kinds, values


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator['_Guarded']:
    """Opens a JSON file for ijson; what is wrong with it as a whole becomes an AnnotationError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise AnnotationError(f'{path} is a folder or a device, not a JSON file.')
    with open(path, 'rb') as file:
        try:
            yield _Guarded(file, path)
        except (ijson.JSONError, ValueError) as error:
            if isinstance(error, AnnotationError):
                raise
            text = str(error).replace('\\n', '\n').removeprefix("b'").strip().split('\n')[0]
            if 'overflow' in text or 'digits' in text:
                raise AnnotationError(f'{path} holds a number of too many digits ({text}).') from error
            size, hint = path.stat().st_size, 'it may be cut off, download or write it again'
            raise AnnotationError(f'{path} is no whole JSON file ({size} bytes; {text}): {hint}.') from error


class _Guarded:
    """A JSON file for ijson in which nothing is left that ijson cannot bear or JSON does not know.

    Bare NaN and Infinity, which Python writes, read as null, half of a surrogate pair as `NO_CHARACTER`.
    Nesting is counted before ijson sees it: it would take memory with the square of the depth.
    """

    _token = re.compile(rb'(?:\A|(?<=[\[,:\s]))-?(?:NaN|Infinity)(?=[,\]}\s])')
    _delimiters = re.compile(rb'.*[\[\]{},:\s]', re.DOTALL)
    _escape = re.compile(rb'\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)', re.DOTALL)
    _steps = bytes.maketrans(b'[{]}', b'\x01\x01\xff\xff')
    _no_brackets = bytes(set(range(256)) - set(b'[]{}'))

    def __init__(self, file: BinaryIO, path: pathlib.Path) -> None:
        self._file, self._path, self._rest, self._start = file, path, b'', True
        self._depth, self._in_text, self._backslash = 0, 0, b''

    def read(self, size: int = -1) -> bytes:
        """Returns bytes up to a delimiter, not always `size` of them; nothing at the end."""
        while size:
            new = self._file.read(size)
            data = self._rest + (self._first(new) if self._start else new)
            whole = self._delimiters.match(data) if new else None
            cut = whole.end() if whole else len(data) if not new or len(data) > size + 64 else 0
            ready, self._rest = data[:cut], data[cut:]
            if ready or not new:
                self._count(ready)
                if b'\\u' in ready:
                    ready = self._escape.sub(lambda m: rb'\ufdd0' if m[1] else m[0], ready)
                return self._token.sub(b'null', ready) if b'NaN' in ready or b'Infinity' in ready else ready
        return b''

    def _first(self, data: bytes) -> bytes:
        """Returns the first bytes without a byte order mark; raises where the file is no JSON."""
        self._start = False
        for mark, kind in _OTHERS.items():
            if data.startswith(mark):
                hint = 'write what it holds as JSON (see docs/datasets.md)'
                raise AnnotationError(f'{self._path} is {kind}, not JSON: {hint}.')
        return data.removeprefix(b'\xef\xbb\xbf')

    def _count(self, data: bytes) -> None:
        """Follows how deep lists and objects are within each other, brackets in texts left out."""
        if self._backslash or b'\\' in data:
            data = re.sub(rb'\\.', b'', self._backslash + data, flags=re.DOTALL)
            self._backslash = b'\\' if data.endswith(b'\\') else b''
        parts = data.split(b'"')
        outside = b' '.join(parts[self._in_text :: 2])
        self._in_text = (self._in_text + len(parts) - 1) % 2
        depths = np.frombuffer(outside.translate(self._steps, self._no_brackets), np.int8).cumsum(dtype=int)
        if len(depths):
            if self._depth + depths.max() > _DEEPEST:
                deep = f'is nested more than {_DEEPEST} deep'
                raise AnnotationError(f'{self._path} {deep}: is it the right file?')
            self._depth += int(depths[-1])
