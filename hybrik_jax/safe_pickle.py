"""Unpickling without running code: numpy arrays and plain values, everything else is refused."""

import pathlib
import pickle
from typing import Any

import numpy as np


class Refused(Exception):
    """The pickle asked for something that is not on the list."""


def _numpy_scalar(dtype: np.dtype, data: bytes | str) -> Any:
    """A numpy scalar of a plain type, from its bytes."""
    if dtype.kind not in 'biufSU':
        raise Refused(f'a numpy scalar of type {dtype}')
    return np.frombuffer(data.encode('latin1') if isinstance(data, str) else data, dtype)[0]


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into protocol 2."""
    if encoding != 'latin1':
        raise Refused(f'_codecs.encode to {encoding}')
    return text.encode('latin1')


ARRAYS = {('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): np.dtype, ('_codecs', 'encode'): _latin1}
for _module in ('numpy.core', 'numpy._core'):
    # numpy's own makers of arrays, fetched the way that numpy names them in its pickles.
    ARRAYS |= {(f'{_module}.multiarray', '_reconstruct'): np.zeros(1).__reduce__()[0]}
    ARRAYS |= {(f'{_module}.multiarray', 'scalar'): _numpy_scalar}
    ARRAYS |= {(f'{_module}.numeric', '_frombuffer'): np.zeros(1).__reduce_ex__(5)[0]}


class Unpickler(pickle.Unpickler):
    """Makes what `allowed` names, (module, name) -> object, and nothing else; raises `Refused`.

    `holds` says in words what that is.
    """

    allowed = ARRAYS
    holds = 'arrays of numpy'

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.allowed:
            return self.allowed[module, name]
        raise Refused(f'{module}.{name}')

    def persistent_load(self, pid: Any) -> Any:
        raise Refused(f'the persistent object {pid!r}')


def load_dict(path: str | pathlib.Path, kind: str, unpickler: type[Unpickler] = Unpickler) -> dict[str, Any]:
    """Returns the dict in a pickle of Python 2 or 3; runs nothing in it.

    Args:
        kind: what the file is, for messages, such as 'a body model'.
    Raises:
        FileNotFoundError; ValueError, naming the file and the class, where the pickle refers to anything that
        the unpickler does not allow, or naming the file where it is no pickle, or one of something else than
        a dict.
    """
    with open(path, 'rb') as file:
        try:
            content = unpickler(file, encoding='latin1').load()
        except Refused as error:
            raise ValueError(
                f'{path}: refused to load {error}: {kind} may hold {unpickler.holds} only, and nothing in its file is '
                'executed. Do not trust this file.'
            ) from None
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(
                f'{path} is no readable pickle of {kind} ({type(error).__name__}: {error}): it may be another file, or '
                'cut off: download it again.'
            ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: {kind} is a pickled dict, this is a {type(content).__name__}.')
    return content
