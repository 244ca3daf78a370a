"""PyTorch's weight files without PyTorch: its zip format, and safetensors. Nothing in a file is executed.

A `.pth` of PyTorch 1.6 or later is a zip of `NAME/data.pkl`, the pickle of a dict whose tensors refer to
storages, and `NAME/data/KEY`, the bytes of each storage. Before, it was five pickles one after the other (a
number that marks the format, its version, the machine, the dict, the keys of the storages), then the storages
in the order of the keys, each the count of its numbers and their bytes.
"""

import contextlib
import dataclasses
import io
import math
import os
import pathlib
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from hybrik_jax import safe_pickle
from hybrik_jax.files import FileError, open_plain

# Storage of PyTorch, type of safetensors, type of numpy.
_TYPES = (
    ('torch.FloatStorage', 'F32', np.dtype(np.float32)),
    ('torch.DoubleStorage', 'F64', np.dtype(np.float64)),
    ('torch.HalfStorage', 'F16', np.dtype(np.float16)),
    ('torch.BFloat16Storage', 'BF16', np.dtype(ml_dtypes.bfloat16)),
    ('torch.LongStorage', 'I64', np.dtype(np.int64)),
    ('torch.IntStorage', 'I32', np.dtype(np.int32)),
    ('torch.ShortStorage', 'I16', np.dtype(np.int16)),
    ('torch.CharStorage', 'I8', np.dtype(np.int8)),
    ('torch.ByteStorage', 'U8', np.dtype(np.uint8)),
    ('torch.BoolStorage', 'BOOL', np.dtype(np.bool_)),
)
STORAGES = {storage: dtype for storage, _, dtype in _TYPES}
SAFETENSORS = {name: dtype for _, name, dtype in _TYPES}
# What a state dict may be wrapped in, and what stands in training checkpoints beside it.
WRAPPERS = ('network', 'state_dict', 'model_state_dict', 'model')
ROOTNET_ENDING = '.pth.tar'
BESIDE = {f'torch.{name}' for name in ('Size', 'device', 'float16', 'bfloat16', 'float32', 'float64')}
BESIDE |= {'collections.defaultdict', 'collections.Counter'}
BESIDE |= {f'__builtin__.{name}' for name in ('dict', 'float', 'int', 'list')}
TENSOR, PARAMETER = 'torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_parameter'
STORAGE = safe_pickle.Name('torch.storage')
LARGEST_PICKLE = 2**26  # bytes; the tensors are elsewhere
LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # the first pickle of the format before 1.6
LEGACY_VERSION = 1001


class _Unpickler(safe_pickle.Unpickler):
    """Makes stand-ins of tensors and storages."""

    names = safe_pickle.NAMES | STORAGES.keys() | BESIDE | {TENSOR, PARAMETER}
    holds = 'tensors'

    def persistent_load(self, pid: Any) -> safe_pickle.StandIn:
        """Returns the stand-in of a storage."""
        return safe_pickle.StandIn(STORAGE, pid)


class _LegacyUnpickler(_Unpickler):
    """Notes the type of each storage, too: of those that no tensor of ours has, the bytes lie in the file."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.types: dict[str, np.dtype] = {}

    def persistent_load(self, pid: Any) -> safe_pickle.StandIn:
        """Returns the stand-in of a storage; it has no part of another, as files of before 0.4 can have."""
        what, kind, key, place, size, part = pid
        if what != 'storage' or part is not None or not isinstance(key, str):
            raise safe_pickle.Refused('a storage that is a part of another')
        self.types[key] = STORAGES[kind]
        return safe_pickle.StandIn(STORAGE, (what, kind, key, place, size))


class _Pickler(pickle._Pickler):
    """Writes stand-ins as what they stand for: the inverse of `_Unpickler`."""

    def persistent_id(self, obj: Any) -> tuple | None:
        """Returns how a storage is referred to."""
        return obj.args if isinstance(obj, safe_pickle.StandIn) and obj.stands_for == STORAGE else None

    def _save_name(self, name: safe_pickle.Name) -> None:
        module, _, attribute = name.rpartition('.')
        self.write(pickle.GLOBAL + f'{module}\n{attribute}\n'.encode())

    def _save_call(self, made: safe_pickle.StandIn) -> None:
        self.save(made.stands_for)
        self.save(made.args)
        self.write(pickle.REDUCE)

    dispatch = pickle._Pickler.dispatch | {safe_pickle.Name: _save_name, safe_pickle.StandIn: _save_call}


@dataclasses.dataclass
class _Archive:
    """A `.pth` that is open: its bytes are read once, storage by storage, and not copied.

    prefix: the folder in the zip. left: how many bytes the file can still hold. storages: what has been read.
    """

    zip: zipfile.ZipFile
    prefix: str
    left: int
    storages: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def read(self, name: str, largest: int) -> bytes:
        """Returns the bytes of an entry of at most `largest` bytes, stored as they are."""
        entry = self.zip.getinfo(self.prefix + name)
        if entry.compress_type != zipfile.ZIP_STORED or not 0 <= entry.file_size <= min(largest, self.left):
            raise FileError(f'{self.zip.filename}: {entry.filename} is compressed or larger than can be.')
        self.left -= entry.file_size
        return self.zip.read(entry)

    def storage(self, key: str) -> bytes:
        """Returns the bytes of a storage."""
        if key not in self.storages:
            self.storages[key] = self.read(f'data/{key}', self.left)
        return self.storages[key]


def _view(tensor: safe_pickle.StandIn, storage_of: Callable[[str], bytes]) -> np.ndarray:
    """Returns the array of a tensor's stand-in: a view of its storage, every number of it checked."""
    if tensor.stands_for == PARAMETER:
        tensor = tensor.args[0]
    storage, offset, shape, strides = tensor.args[:4]
    _, kind, key, _, _ = storage.args
    dtype = STORAGES[kind]
    for numbers in ((offset,), shape, strides):
        fits = isinstance(numbers, tuple) and len(numbers) <= 16
        if not fits or any(type(n) is not int or not 0 <= n < 2**40 for n in numbers):
            raise TypeError('shape, strides or offset cannot be')
    if not isinstance(key, str):
        raise TypeError('its storage has no name')
    data, size = storage_of(key), math.prod(shape)
    count = len(data) // dtype.itemsize
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if size > count or (size and last >= count):
        raise TypeError(f'shape {shape}, strides {strides} and offset {offset} in {count} numbers')
    if not size:
        return np.zeros(shape, dtype)
    steps = tuple(stride * dtype.itemsize for stride in strides)
    return np.ndarray(shape, dtype, buffer=data, offset=offset * dtype.itemsize, strides=steps)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the state dict in a `.pth` or `.safetensors` file, name -> read-only array of the file's type.

    A dict wrapped in another under 'network' (RootNet), 'state_dict', 'model_state_dict' or 'model' is
    unwrapped; entries that are no tensors are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        FileError: naming the file, if it is damaged, of another format, or holds no state dict.
    """
    path = pathlib.Path(path)
    with open_plain(path, 'a weight file') as file:
        start = file.read(512)
    if start.startswith(b'PK\x03\x04'):
        return _read_zip(path)
    if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < LARGEST_PICKLE:
        return _read_safetensors(path)
    if start.startswith(LEGACY):
        return _read_legacy(path)
    if start[257:262] == b'ustar':
        raise FileError(
            f'{path} is a tar, the oldest format of PyTorch. Write it anew where PyTorch is installed: '
            'torch.save(torch.load(OLD, weights_only=False), NEW).'
        )
    raise FileError(f'{path} ({path.stat().st_size} bytes) is no .pth of PyTorch and no .safetensors file.')


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
    with _naming(path), zipfile.ZipFile(path) as file:
        names = file.namelist()
        pickles = [name for name in names if name.count('/') == 1 and name.endswith('/data.pkl')]
        if len(pickles) != 1 or pickles[0].replace('data.pkl', 'constants.pkl') in names:
            raise FileError(f'{path} is a zip, but holds no state dict of PyTorch.')
        archive = _Archive(file, pickles[0].removesuffix('data.pkl'), path.stat().st_size)
        if archive.prefix + 'byteorder' in names and archive.read('byteorder', 16) != b'little':
            raise FileError(f'{path} was written on a big-endian machine: write it anew on another.')
        data = io.BytesIO(archive.read('data.pkl', LARGEST_PICKLE))
        return _arrays(_Unpickler(data).load(), path, archive.storage)


def _read_legacy(path: pathlib.Path) -> dict[str, np.ndarray]:
    with _naming(path), open(path, 'rb') as file:
        _, version, machine = (_Unpickler(file).load() for _ in range(3))
        if version != LEGACY_VERSION or not machine['little_endian']:
            raise FileError(f'{path} was written on a big-endian machine: write it anew on another.')
        unpickler = _LegacyUnpickler(file)
        content, keys, storages = unpickler.load(), _Unpickler(file).load(), {}
        for key in keys:
            length = int.from_bytes(file.read(8), 'little') * unpickler.types[key].itemsize
            if length > path.stat().st_size - file.tell():
                raise EOFError(f'{length} bytes are promised')
            storages[key] = file.read(length)
        return _arrays(content, path, storages.__getitem__)


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Raises what reading a damaged or hostile file raises as a FileError that names the file."""
    try:
        yield
    except FileError:
        raise
    except safe_pickle.Refused as error:
        raise FileError(
            f'{path}: refused to load {error}: a state dict holds tensors and plain values only, and nothing '
            'in its file is executed. Do not trust this file; if it is your own, save its state_dict() alone.'
        ) from None
    except (zipfile.BadZipFile, OSError, RuntimeError, *safe_pickle.DAMAGED) as error:
        raise FileError(
            f'{path} is damaged or cut off ({type(error).__name__}: {str(error)[:100]}): download it again.'
        ) from error


def _arrays(content: Any, path: pathlib.Path, storage_of: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dict, out of what it is wrapped in, as arrays."""
    arrays = {}
    for name, tensor in _unwrapped(content, path).items():
        try:
            arrays[name] = _view(tensor, storage_of)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise FileError(f'{path}: the tensor {name!r} cannot be read ({str(error)[:200]}).') from error
    return arrays


def _unwrapped(content: Any, path: pathlib.Path) -> dict[str, safe_pickle.StandIn]:
    """Returns the tensors of a state dict, out of what it is wrapped in."""
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise FileError(f'{path} holds a {type(content).__name__}, expected is a dict from names to tensors.')
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and getattr(value, 'stands_for', None) in (TENSOR, PARAMETER)
    }
    if not tensors:
        there = ', '.join(repr(key)[:40] for key in list(content)[:10]) or 'nothing'
        raise FileError(f'{path} holds no state dict (a dict from names to tensors), but {there}.')
    return tensors


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        entries = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(entry['data'], SAFETENSORS[entry['dtype']]).reshape(entry['shape'])
            for name, entry in entries
        }
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise FileError(f'{path} is damaged or no safetensors file ({error}): download it again.') from error


def write(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes name -> array as `.pth` or `.safetensors`, by the file's ending, and reads it back.

    A `.pth.tar` is a `.pth` that holds {'network': state_dict}.

    Raises:
        ValueError: for another ending, or if the file does not give back what was written.
    """
    path = pathlib.Path(path)
    wrapped = path.name.endswith(ROOTNET_ENDING)
    if path.suffix not in ('.pth', '.pt', '.safetensors') and not wrapped:
        raise FileError(f'{path}: the ending says the format, choose .pth or .safetensors.')
    arrays = {name: np.array(array, order='C') for name, array in state_dict.items()}
    partial = path.with_name(f'.{path.name}.partial')
    try:
        if path.suffix == '.safetensors':
            partial.write_bytes(safetensors.numpy.save(arrays, metadata={'format': 'pt'}))
        else:
            _write_zip(partial, arrays, wrapper='network' if wrapped else None)
        written = read(partial)
        same = (
            written[name].dtype == array.dtype and np.array_equal(written[name], array, equal_nan=True)
            for name, array in arrays.items()
        )
        if written.keys() != arrays.keys() or not all(same):
            raise FileError(f'{path} does not give back what was written: is the disk full or failing?')
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_zip(path: pathlib.Path, arrays: Mapping[str, np.ndarray], *, wrapper: str | None) -> None:
    """Writes what `torch.save` writes of an OrderedDict of tensors, or of a dict {wrapper: that}."""
    storages = {dtype: safe_pickle.Name(name) for name, dtype in STORAGES.items()}
    tensors, data = OrderedDict(), {}
    for number, (name, array) in enumerate(arrays.items()):
        key, strides = str(number), tuple(step // array.itemsize for step in array.strides)
        storage = safe_pickle.StandIn(STORAGE, ('storage', storages[array.dtype], key, 'cpu', array.size))
        arguments = (storage, 0, array.shape, strides, False, OrderedDict())
        tensors[name] = safe_pickle.StandIn(safe_pickle.Name(TENSOR), arguments)
        data[f'data/{key}'] = array.data
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=2).dump({wrapper: tensors} if wrapper else tensors)
    entries = {'data.pkl': pickled.getvalue(), 'byteorder': b'little', 'version': b'3\n'} | data
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(f'archive/{name}'), content)
