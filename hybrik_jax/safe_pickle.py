"""Unpickling without running code: containers, plain values, arrays of numpy; everything else is refused.

Nothing that a file names is looked up, and nothing of a file reaches numpy's constructors: what it would call
becomes a `StandIn`, a record of the call, and arrays are made here from a shape, a plain type and exactly
their bytes.
"""

import dataclasses
import math
import os
import pathlib
import pickle
import re
import struct
from typing import Any, BinaryIO

import numpy as np

from hybrik_jax.files import open_plain

PLAIN_TYPE = re.compile(r'[<>=|]?(b1|\?|[iu][1248]|f[248]|[SU][0-9]{1,6})')
LARGEST = 2**29  # bytes of a file; SMPL's have half of it
LARGEST_SIDE = 2**40
DEEPEST = 100
_SMALL = 2**16  # bytes that may be asked for without a look at the file's size
MOST_ITEMS = 10_000_000  # in all containers, one that occurs twice counted twice
MOST_READS = 500_000  # of opcodes and their arguments; published files need some thousands
# What reading a damaged pickle can raise.
DAMAGED = (
    pickle.UnpicklingError, struct.error, EOFError, MemoryError, AssertionError,
    AttributeError, LookupError, OverflowError, TypeError, ValueError,
)  # fmt: skip


class Refused(Exception):
    """The pickle asked for something that is not on the list."""


class Name(str):
    """What a pickle calls an importable thing, `module.name`; it is not imported."""

    __slots__ = ()


@dataclasses.dataclass(slots=True, eq=False)
class StandIn:
    """Takes the place of an object: what the pickle would call, with what, and the state it would set."""

    stands_for: Name
    args: tuple
    state: Any = None


_ARRAY_MODULES = ('numpy.core.', 'numpy._core.')
NAMES = {'numpy.ndarray', 'numpy.dtype', '_codecs.encode', 'collections.OrderedDict'}
NAMES |= {'copy_reg._reconstructor', 'copyreg._reconstructor'}
for _module in _ARRAY_MODULES:
    NAMES |= {f'{_module}multiarray._reconstruct', f'{_module}multiarray.scalar'}
    NAMES |= {f'{_module}numeric._frombuffer'}
for _module in ('__builtin__', 'builtins'):
    NAMES |= {f'{_module}.{name}' for name in ('object', 'set', 'frozenset', 'bytes')}


class _Measured:
    """A file from where it stands on, asked for no more bytes than it has, and not without end."""

    def __init__(self, file: BinaryIO):
        self._file, self._reads, start = file, 0, file.tell()
        self._size = file.seek(0, os.SEEK_END)
        file.seek(start)

    def read(self, size: int) -> bytes:
        """Returns `size` bytes; what is not there is not made room for."""
        self._count()
        if size > _SMALL and size > self._size - self._file.tell():
            raise EOFError(f'{size} bytes are promised, the file has {self._size}')
        return self._file.read(size)

    def readline(self) -> bytes:
        """Returns the bytes up to the end of the line."""
        self._count()
        return self._file.readline()

    def _count(self) -> None:
        self._reads += 1
        if self._reads > MOST_READS:
            raise Refused(f'a pickle of more than {MOST_READS:,} parts')


class Unpickler(pickle._Unpickler):
    """Python's own unpickler, of which nothing is left that looks up, calls or hashes what the file says.

    Sets come as lists, objects as `StandIn`. (It is the one written in Python: in C, a memo index of 2^31
    fills 32 GB.)

    names: `module.name` of what may occur. holds: in words, what that is.
    """

    names = NAMES
    holds = 'arrays of numpy'

    def __init__(self, file: BinaryIO):
        super().__init__(_Measured(file), encoding='latin1')

    def allows(self, module: str, name: str) -> bool:
        """Returns whether a pickle may name this."""
        return f'{module}.{name}' in self.names

    def find_class(self, module: str, name: str) -> Name:
        """Returns the name itself; raises `Refused` where it is not on the list."""
        if not self.allows(module, name):
            raise Refused(f'{module}.{name}')
        return Name(f'{module}.{name}')

    def persistent_load(self, pid: Any) -> Any:
        """Raises `Refused`."""
        raise Refused('a persistent object')

    def _make(self, name: Any, args: Any) -> Any:
        if isinstance(name, Name) and name.endswith('._reconstructor'):  # protocols 0 and 1 make objects so
            name, args = args[0], ()
        if not isinstance(name, Name) or not isinstance(args, tuple):
            raise Refused(f'a call of a {type(name).__name__}')
        filled_later = name == 'collections.defaultdict' or (name == 'collections.OrderedDict' and not args)
        return {} if filled_later else StandIn(name, args)

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(self._make(klass, tuple(args)))

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], args)

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, dict):  # attributes of an OrderedDict, such as PyTorch's versions
            return
        if not isinstance(made, StandIn) or made.state is not None:
            raise Refused(f'a second state for a {getattr(made, "stands_for", type(made).__name__)}')
        made.state = state

    def _set_items(self, items: list) -> None:
        made = self.stack[-1]
        if not isinstance(made, dict):
            raise Refused(f'entries in a {type(made).__name__}')
        for key, value in zip(items[::2], items[1::2], strict=True):
            # To hash others than texts and small numbers could take for ever.
            if not isinstance(key, str | bytes | int) or (isinstance(key, int) and key.bit_length() >= 64):
                raise Refused(f'a dict whose key is a {type(key).__name__}')
            made[key] = value

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set_items(items)

    dispatch = pickle._Unpickler.dispatch | {
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: lambda self: self._set_items(self.pop_mark()),
        pickle.DICT[0]: _dict,
        pickle.EMPTY_SET[0]: pickle._Unpickler.load_empty_list,
        pickle.ADDITEMS[0]: pickle._Unpickler.load_appends,
        pickle.FROZENSET[0]: pickle._Unpickler.load_list,
        # Python's own fills as many bytes as are promised before it looks how many there are.
        pickle.BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,
        pickle.FRAME[0]: lambda self: self.read(8),  # what is in a frame is read as if there were none
    }
    for _code in (pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        del dispatch[_code[0]]


class _Builder:
    """Puts arrays of ours in the place of the stand-ins for numpy's.

    Args:
        allowance: how many bytes may be copied; bytes that occur often could fill the memory.
    """

    def __init__(self, allowance: int):
        self.allowance = allowance
        # By identity; only what the pickle made is looked up here, and all of that is there from the start.
        self.done: dict[int, tuple[Any, int] | None] = {}

    def build(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        """Returns `value` with arrays, and how many items it has; what occurs twice counts twice."""
        if not isinstance(value, dict | list | tuple | StandIn):
            return value, 1
        if depth > DEEPEST:
            raise Refused(f'containers nested more than {DEEPEST} deep')
        if id(value) not in self.done:
            self.done[id(value)] = (value, 1) if isinstance(value, StandIn) else None
            self.done[id(value)] = self._build(value, depth + 1)
        built = self.done[id(value)]
        if built is None:
            raise Refused(f'a {type(value).__name__} that holds itself')
        if built[1] > MOST_ITEMS:
            raise Refused(f'containers of more than {MOST_ITEMS:,} items')
        return built

    def _build(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, StandIn):
            value.args, _ = self.build(value.args, depth)
            value.state, _ = self.build(value.state, depth)
            return self._object(value), 1
        built = [self.build(part, depth) for part in (value.values() if isinstance(value, dict) else value)]
        items = [item for item, _ in built]
        made = dict(zip(value, items, strict=True)) if isinstance(value, dict) else type(value)(items)
        return made, 1 + sum(count for _, count in built)

    def _object(self, made: StandIn) -> Any:
        """Returns the array, number or bytes that a stand-in is; others as they are, for who knows them."""
        name, args, order = made.stands_for, made.args, 'C'
        if name == '_codecs.encode':  # how Python 3 writes bytes into protocol 2
            data, encoding = args
            if encoding != 'latin1':
                raise Refused('_codecs.encode to something else than latin1')
            return self._bytes(data)
        if name in ('__builtin__.bytes', 'builtins.bytes') and not args:
            return b''
        if name == 'numpy.ndarray':
            raise Refused('an array that is not made as numpy writes it')
        if not name.startswith(_ARRAY_MODULES):
            return made
        if name.endswith('.scalar'):
            kind, data = args
            return self._array((), kind, data, order)[()]
        if name.endswith('._frombuffer'):
            data, kind, shape, order = args
        else:
            _, shape, kind, fortran, data = made.state
            order = 'F' if fortran else 'C'
        return self._array(shape, kind, data, order)

    def _bytes(self, data: Any) -> bytes:
        if not isinstance(data, str | bytes):
            raise Refused(f'bytes made of a {type(data).__name__}')
        self.allowance -= len(data)
        if self.allowance < 0:
            raise Refused('arrays that are larger than the file')
        return data.encode('latin1') if isinstance(data, str) else data

    def _array(self, shape: Any, kind: Any, data: Any, order: Any) -> np.ndarray:
        """Returns the array of a shape, a plain type and exactly its bytes, all of them checked."""
        dtype = _plain_type(kind)
        sides = shape if isinstance(shape, tuple) else (-1,)
        if len(sides) > 32 or not all(type(side) is int and 0 <= side < LARGEST_SIDE for side in sides):
            raise Refused('an array of a shape that cannot be')
        data = self._bytes(data)
        if math.prod(sides) * dtype.itemsize != len(data) or order not in ('C', 'F'):
            raise Refused(f'an array of shape {sides} and type {dtype} made of {len(data)} bytes')
        if dtype.kind == 'b':  # a byte that is neither 0 nor 1 is no truth value
            return np.ndarray(sides, np.uint8, buffer=data, order=order).astype(bool)
        return np.ndarray(sides, dtype, buffer=data, order=order).copy()


def _plain_type(kind: Any) -> np.dtype:
    """Returns numpy's type for the stand-in of one: truth values, numbers or text, without fields."""
    if not isinstance(kind, StandIn) or kind.stands_for != 'numpy.dtype':
        raise Refused('an array without a type')
    code, order = kind.args[0], '|'
    if kind.state is not None:
        _, order, *records = kind.state[:5]
        if records != [None] * 3:
            raise Refused('an array of records')
    if not isinstance(code, str) or not PLAIN_TYPE.fullmatch(code) or order not in ('<', '>', '=', '|'):
        raise Refused('an array of something else than numbers or text')
    return np.dtype(code).newbyteorder(order)


def load_dict(path: str | pathlib.Path, kind: str, unpickler: type[Unpickler] = Unpickler) -> dict[str, Any]:
    """Returns the dict in a pickle of Python 2 or 3; runs nothing in it.

    Args:
        kind: what the file is, for messages, such as 'a body model'.
    Raises:
        FileNotFoundError, FileError: as `files.open_plain`.
        ValueError: naming the file and the class, if the pickle refers to anything that the unpickler does
            not allow; naming the file, if it is no pickle, or one of something else than a dict.
    """
    with open_plain(path, kind, LARGEST) as file:
        try:
            content = unpickler(file).load()
            content, _ = _Builder(8 * os.fstat(file.fileno()).st_size).build(content)
        except Refused as error:
            raise ValueError(
                f'{path}: refused to load {error}: {kind} may hold {unpickler.holds} only, and nothing in '
                'its file is executed. Do not trust this file.'
            ) from None
        except DAMAGED as error:
            raise ValueError(
                f'{path} is no readable pickle of {kind} ({type(error).__name__}: {str(error)[:100]}): it '
                'may be another file, or cut off: download it again.'
            ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: {kind} is a pickled dict, this is a {type(content).__name__}.')
    return content
