"""JSON that others wrote, read whole or streamed: one limit on its depth and on the digits of its numbers."""

import contextlib
import io
import json
import math
import os
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import ijson
import numpy as np

from hybrik_jax.files import FileError, open_plain, shown

NO_CHARACTER = '\ufdd0'  # what half of a surrogate pair reads as; Unicode has no such character
LARGEST = 2**28  # bytes of a file that is read whole
_MOST_DIGITS = 400  # of one number
_DEEPEST = 64  # lists and objects within each other; published files have 6
_OTHERS = {
    b'PK\x03\x04': 'a zip archive, as .npz files are',
    b'\x93NUMPY': 'a NumPy array',
    b'\x80': 'a pickle',
    b'\x1f\x8b': 'a gzip archive',
    b'MATLAB': 'a MATLAB file',
    b'\x89HDF': 'an HDF5 file',
}


def read(path: str | os.PathLike, kind: str = 'a JSON file') -> Any:
    """Returns what a JSON file holds.

    Args:
        kind: what the file is, for messages, such as 'a file of boxes'.
    Raises:
        FileNotFoundError, FileError: as `stream`.
    """
    with open_plain(path, kind, LARGEST) as file:
        return parse(file.read(), path)


def parse(data: bytes, path: str | os.PathLike) -> Any:
    """Returns what the bytes of a JSON file hold; FileError as `read`."""
    with _explained(path, len(data)):
        guarded = _Guarded(io.BytesIO(data), path)
        return json.loads(b''.join(iter(lambda: guarded.read(1 << 20), b'')))


def stream(path: str | os.PathLike, key: str) -> Iterator[Any]:
    """Yields what the list under the top-level `key` of a JSON file holds, one value at a time.

    Bare NaN and Infinity are None, half of a surrogate pair is `NO_CHARACTER`. Without such a list there is
    nothing.

    Raises:
        FileError: the file is no JSON, is cut off, or is nested too deep.
        FileNotFoundError: there is no such file.
    """
    with _open(path) as file:
        yield from ijson.items(file, f'{key}.item', use_float=True)


def read_top(
    path: str | os.PathLike, keys: Collection[str] = ()
) -> tuple[dict[str, str] | None, dict[str, Any]]:
    """Returns what the top of a JSON file is made of, without what lists hold.

    Args:
        keys: whose values are wanted, wherever they stand.
    Returns:
        'list', 'object' or 'value' for every top-level key, or None where the top is no object; the values
        of `keys`.
    Raises:
        FileError, FileNotFoundError: as `stream`.
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
def _open(path: str | os.PathLike) -> Iterator['_Guarded']:
    """Opens a JSON file for ijson."""
    with open_plain(path, 'a JSON file') as file, _explained(path, os.fstat(file.fileno()).st_size):
        yield _Guarded(file, path)


@contextlib.contextmanager
def _explained(path: str | os.PathLike, size: int) -> Iterator[None]:
    """Turns what is wrong with a JSON file of `size` bytes as a whole into a FileError."""
    try:
        yield
    except FileError:
        raise
    except (ijson.JSONError, ValueError) as error:
        text = str(error).replace('\\n', '\n').removeprefix("b'").strip().split('\n')[0]
        if 'overflow' in text or 'digits' in text:
            raise FileError(f'{shown(path)} holds a number of too many digits ({text}).') from error
        hint = 'it may be cut off, download or write it again'
        raise FileError(f'{shown(path)} is no whole JSON file ({size} bytes; {text}): {hint}.') from error


class _Guarded:
    """A JSON file for ijson in which nothing is left that ijson cannot bear or JSON does not know.

    Bare NaN and Infinity, which Python writes, read as null, half of a surrogate pair as `NO_CHARACTER`, a
    number that neither 64 bits nor a float hold as a text that says so: whoever reads the field refuses it.
    Nesting is counted before ijson sees it: it would take memory with the square of the depth.
    """

    _token = re.compile(rb'(?:\A|(?<=[\[,:\s]))-?(?:NaN|Infinity)(?=[,\]}\s])')
    _perhaps_large = re.compile(rb'[0-9]{19}|[eE]\+?[0-9]{3}')
    _text_or_number = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|-?[0-9][0-9.eE+-]*', re.DOTALL)
    _delimiters = re.compile(rb'.*[\[\]{},:\s]', re.DOTALL)
    _escape = re.compile(rb'\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)', re.DOTALL)
    _steps = bytes.maketrans(b'[{]}', b'\x01\x01\xff\xff')
    _no_brackets = bytes(set(range(256)) - set(b'[]{}'))

    def __init__(self, file: BinaryIO, path: str | os.PathLike) -> None:
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
                if self._perhaps_large.search(ready):
                    before = b'"' * self._in_text + self._backslash
                    ready = self._text_or_number.sub(_named, before + ready)[len(before) :]
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
                raise FileError(f'{shown(self._path)} is {kind}, not JSON: {hint}.')
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
                raise FileError(f'{shown(self._path)} {deep}: is it the right file?')
            self._depth += int(depths[-1])


def _named(match: re.Match[bytes]) -> bytes:
    """Returns a text as it is, and in place of a number that is too large a text that says so."""
    text = match[0]
    if text.startswith(b'"'):
        return text
    whole = text.removeprefix(b'-').isdigit()
    if len(text) <= _MOST_DIGITS and (abs(int(text)) < 2**63 if whole else _is_finite(text)):
        return text
    return f'"too large a number{NO_CHARACTER}"'.encode()


def _is_finite(text: bytes) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:  # no number at all, which the parser will say
        return True
