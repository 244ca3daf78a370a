"""Loading body models: `.npz` files, and SMPL's own pickles without running anything in them."""

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from hybrik_jax import safe_pickle
from hybrik_jax.body.skeleton import NUM_JOINTS, PARENTS, SMPL_LEAF_VERTICES
from hybrik_jax.body.smpl import NUM_BETAS, SMPL, SMPL_NAME, BodyName, check_same_body
from hybrik_jax.files import open_plain

OPEN_BODY_FILE = Path(__file__).parent.parent / 'assets' / 'open_body.npz'
_LARGEST_ARRAY = 2**31  # bytes
# What may come out of an .npz file: so many times its size, or so many bytes. Real ones hold a few times it.
_LARGEST_RATIO, _ALWAYS = 100, 2**26
_DAMAGED = (ValueError, EOFError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
_DAMAGED_ZIP = (*_DAMAGED, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)
_KEYS = ('v_template', 'shapedirs', 'posedirs', 'J_regressor', 'weights', 'kintree_table', 'f')


def load_body(path: str | Path | None = None, h36m_regressor: str | Path | None = None) -> SMPL:
    """Returns the body model of a file.

    Args:
        path: an `.npz` file or one of SMPL's own pickles (chumpy is not needed, nothing in it is executed);
            None for the embedded open body.
        h36m_regressor: `.npy` file with the (17, V) regressor of the Human3.6M joints, for files without one.
    Raises:
        ValueError: naming the file and key, if an array is missing, has the wrong shape or is not finite; if
            a pickle holds anything but numpy, scipy.sparse and chumpy arrays; if a regressor is given for a
            body that has its own.
    """
    path = OPEN_BODY_FILE if path is None else Path(path)
    with open_plain(path, 'a body model', safe_pickle.LARGEST) as file:
        is_zip = file.read(4) == b'PK\x03\x04'
    arrays = read_npz(path) if is_zip else safe_pickle.load_dict(path, 'a body model', _Unpickler)
    body = body_from_arrays(arrays, source=str(path))
    if h36m_regressor is None:
        return body
    if body.h36m_regressor is not None:
        raise ValueError(
            f'{path}: this body ({body.name}) carries its own J_regressor_h36m, and the regressor '
            f'{h36m_regressor} was made for another mesh: leave h36m_regressor away, or load the body model '
            'that it belongs to.'
        )
    shape = (17, len(body.v_template))
    regressor = _checked(_read_npy(h36m_regressor), shape, str(h36m_regressor), 'the Human3.6M regressor')
    tables = _point_tables(body.leaf_vertices, regressor, body.weights, body.v_template, body.directions)
    return body.replace(h36m_regressor=regressor.astype(np.float32), **tables)


def body_from_arrays(arrays: Mapping[str, Any], source: str = 'arrays') -> SMPL:
    """Returns the body model of arrays that have the names and shapes of an SMPL file.

    Args:
        arrays: v_template (V, 3), shapedirs (V, 3, 10 or more), posedirs (V, 3, 207), J_regressor (24, V),
            weights (V, 24), kintree_table (2, 24), f (F, 3); and, where they exist, J_regressor_h36m (17, V),
            leaf_vertices (5,) and model_name.
        source: what errors call the arrays.
    Raises:
        ValueError: naming source and key, if an array is missing, has the wrong shape or is not finite.
    """
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f'{source}: a body model needs the keys {", ".join(_KEYS)}; missing: {", ".join(missing)}; '
            f'there are: {", ".join(sorted(map(str, arrays))) or "none"}.'
        )

    def read(key: str, shape: tuple) -> np.ndarray:
        return _checked(_dense(arrays[key], source, key), shape, source, key)

    v_template = read('v_template', ('V', 3))
    count = len(v_template)
    shapedirs = read('shapedirs', (count, 3, f'{NUM_BETAS} or more'))[:, :, :NUM_BETAS]
    posedirs = read('posedirs', (count, 3, 9 * (NUM_JOINTS - 1)))
    regressor = read('J_regressor', (NUM_JOINTS, count))
    weights = read('weights', (count, NUM_JOINTS))
    faces = read('f', ('F', 3))
    parents = read('kintree_table', (2, NUM_JOINTS))[0, 1:].astype(np.int64).tolist()
    if parents != list(PARENTS[1:]):
        raise ValueError(
            f'{source}: kintree_table gives the parents {parents} to joints 1..23, SMPL has '
            f'{list(PARENTS[1:])}: other skeletons (SMPL-H, SMPL-X) do not fit here.'
        )
    h36m_regressor = None
    if 'J_regressor_h36m' in arrays:
        h36m_regressor = read('J_regressor_h36m', (17, count)).astype(np.float32)
    leaves = np.array(SMPL_LEAF_VERTICES)
    if 'leaf_vertices' in arrays:
        leaves = read('leaf_vertices', (5,)).astype(np.int64)
    for key, indices in (('f', faces), ('leaf_vertices', leaves)):
        if not 0 <= indices.min() <= indices.max() < count:
            low, high = int(indices.min()), int(indices.max())
            raise ValueError(f'{source}: {key} names vertices {low} to {high}, the mesh has {count}.')
    directions = (
        np.concatenate([shapedirs, posedirs], axis=2).transpose(2, 1, 0).astype(np.float32, order='C')
    )
    joint_dirs = np.einsum('jv,vab->jab', regressor, shapedirs, optimize=True)
    name = SMPL_NAME if count == 6890 else Path(source).stem
    return SMPL(
        v_template=v_template.astype(np.float32),
        directions=directions,
        joint_regressor=regressor.astype(np.float32),
        h36m_regressor=h36m_regressor,
        weights=weights.astype(np.float32),
        faces=faces.astype(np.int32),
        leaf_vertices=leaves.astype(np.int32),
        **_point_tables(leaves, h36m_regressor, weights, v_template, directions),
        rest_joints_template=np.concatenate([regressor @ v_template, v_template[leaves]]).astype(np.float32),
        rest_joints_dirs=np.concatenate([joint_dirs, shapedirs[leaves]]).astype(np.float32),
        name=BodyName(_text(arrays.get('model_name', name), source, 'model_name')),
    )


def _point_tables(
    leaves: np.ndarray,
    h36m_regressor: np.ndarray | None,
    weights: np.ndarray,
    v_template: np.ndarray,
    directions: np.ndarray,
) -> dict[str, np.ndarray]:
    """Returns the tables of a body's points, see `SMPL`: vertices `leaves`, and Human3.6M joints if any."""
    rows = np.zeros((len(leaves), len(v_template)))  # points are rows @ vertices
    rows[np.arange(len(leaves)), leaves] = 1.0
    if h36m_regressor is not None:
        rows = np.concatenate([rows, h36m_regressor])
    used = rows.any(axis=0)
    shares = (rows[:, None, used] * weights[used].T).reshape(-1, used.sum())  # (P 24, used vertices)
    template = np.concatenate([v_template[used], np.ones((used.sum(), 1))], axis=1)
    moved = np.tensordot(directions[:, :, used].astype(np.float64), shares, (2, 1))  # (217, 3, P 24)
    moved = np.pad(moved.transpose(0, 2, 1), ((0, 0), (0, 0), (0, 1)))
    shape = len(rows), NUM_JOINTS, 4
    return {
        'point_template': (shares @ template).reshape(shape).astype(np.float32),
        'point_directions': moved.reshape(-1, *shape).astype(np.float32),
    }


def load_mean_betas(path: str | Path, body: SMPL | None) -> np.ndarray:
    """Returns the mean shape (10,), float32, in a `.npy` file or in `betas` of an `.npz` file.

    An `.npz` file names its body in `model_name`; without that, the mean shape is taken to be SMPL's.

    Args:
        body: that the mean shape must belong to; None: whichever.
    Raises:
        ValueError: naming the file, if the betas are another body model's or not ten finite numbers.
    """
    path = Path(path)
    arrays = read_npz(path) if path.suffix == '.npz' else {'betas': _read_npy(path)}
    if 'betas' not in arrays:
        raise ValueError(f'{path}: a mean shape needs the key betas; there are: {", ".join(sorted(arrays))}.')
    if body is not None:
        name = _text(arrays.get('model_name', SMPL_NAME), path, 'model_name')
        check_same_body(body, name, f'the mean shape {path}')
    return _checked(np.squeeze(arrays['betas']), (NUM_BETAS,), str(path), 'betas').astype(np.float32)


def _text(value: Any, source: str | Path, key: str) -> str:
    """Returns a text, or the one text in an array."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str):
        raise ValueError(f'{source}: {key} is a {type(value).__name__}, expected is a text.')
    return value


def _checked(array: np.ndarray, shape: tuple, source: str, key: str) -> np.ndarray:
    """Returns `array` in float64, if numeric, finite and of `shape`: ints, or '10 or more' for a minimum."""
    expected = '(' + ', '.join(map(str, shape)) + ')'

    def fits(size: int, wanted: int | str) -> bool:
        if isinstance(wanted, int):
            return size == wanted
        return size >= int(wanted.split()[0]) if wanted[0].isdigit() else size > 0

    if array.ndim != len(shape) or not all(map(fits, array.shape, shape)) or array.dtype.kind not in 'biuf':
        raise ValueError(
            f'{source}: {key} has the shape {array.shape} and the type {array.dtype}, expected are numbers '
            f'of the shape {expected}.'
        )
    wrong = np.count_nonzero(~np.isfinite(array))
    if wrong:
        raise ValueError(f'{source}: {key}, shape {array.shape}, holds {wrong} entries that are not finite.')
    return array.astype(np.float64)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Returns all arrays of an `.npz` file; ValueError, naming it, where it holds objects or is damaged."""
    arrays = {}
    key = ''
    try:
        with (
            open_plain(path, 'an .npz file', safe_pickle.LARGEST) as opened,
            zipfile.ZipFile(opened) as archive,
        ):
            size = sum(entry.file_size for entry in archive.infolist())
            if size > max(_ALWAYS, _LARGEST_RATIO * path.stat().st_size):
                raise ValueError(f'it promises {size} bytes, {path.stat().st_size} are in the file')
            for entry in archive.infolist():
                key = entry.filename.removesuffix('.npy')
                with archive.open(entry) as file:
                    arrays[key] = _read_array(file, entry.file_size)
    except _DAMAGED_ZIP as error:
        where = f' at key {key}' if key else ''
        raise ValueError(
            f'{path}: not a readable .npz file of plain arrays{where} ({error}): save dense numeric arrays.'
        ) from error
    return arrays


def _read_npy(path: str | Path) -> np.ndarray:
    """Returns the array of a `.npy` file; objects are refused."""
    with open_plain(path, 'an .npy file') as file:
        try:
            if file.read(4) == b'PK\x03\x04':
                raise ValueError('this is an .npz file, expected is one array')
            file.seek(0)
            return _read_array(file, os.fstat(file.fileno()).st_size)
        except _DAMAGED as error:
            raise ValueError(f'{path}: not a readable .npy file of numbers ({error}).') from error


def _read_array(file: BinaryIO, size: int) -> np.ndarray:
    """Returns the array of a stream of `size` bytes in numpy's format, if it has what its header promises."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    count = math.prod(shape)
    if dtype.hasobject or dtype.names or dtype.subdtype:
        raise ValueError(f'it holds {dtype}, no plain numbers')
    if min(shape, default=0) < 0 or count * dtype.itemsize > min(size, _LARGEST_ARRAY):
        raise ValueError(f'its header promises the shape {shape}, the file has {size} bytes')
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ValueError(f'it is cut off: the shape {shape} needs more than its {len(data)} bytes')
    return np.frombuffer(data, dtype, count).reshape(shape, order='F' if fortran else 'C')


class _Unpickler(safe_pickle.Unpickler):
    """Makes numpy arrays and stand-ins, and nothing else."""

    holds = 'arrays of numpy, scipy.sparse and chumpy'

    def allows(self, module: str, name: str) -> bool:
        sparse = module.startswith('scipy.sparse') and name.startswith(('csc_', 'csr_'))
        chumpy = module.split('.')[0] == 'chumpy' and '.' not in name
        return chumpy or sparse or super().allows(module, name)


def _dense(value: Any, source: str, key: str) -> np.ndarray:
    """Returns the dense array of an array, or of the stand-in for one of scipy.sparse or chumpy."""
    if isinstance(value, safe_pickle.StandIn):
        try:
            return _dense_stand_in(value, source, key)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(
                f'{source}: {key} is a {value.stands_for} that cannot be read ({type(error).__name__}: '
                f'{error}): open the file with chumpy once and save this array as a numpy array.'
            ) from error
    if not hasattr(value, '__array__'):
        raise ValueError(f'{source}: {key} is a {type(value).__name__}, expected is an array.')
    return np.asarray(value)


def _dense_stand_in(value: safe_pickle.StandIn, source: str, key: str) -> np.ndarray:
    kind, state = value.stands_for.rpartition('.')[2], value.state
    if isinstance(state, tuple):  # (attributes, slots)
        state = {name: content for part in state if part for name, content in part.items()}
    if kind.startswith(('csc', 'csr')):
        shape = tuple(int(side) for side in state.get('_shape', state.get('shape')))
        indptr, indices, data = (np.asarray(state[part]) for part in ('indptr', 'indices', 'data'))
        sides = shape if kind.startswith('csr') else shape[::-1]
        if len(sides) != 2 or min(sides) < 0 or math.prod(sides) * 8 > _LARGEST_ARRAY:
            raise TypeError(f'the shape {shape}')
        # By hand: scipy's own check lets a pointer that falls to zero pass, and then reads anywhere.
        counts = np.diff(indptr.astype(np.int64))
        if len(counts) != sides[0] or counts.min(initial=0) < 0 or counts.sum() != len(indices):
            raise TypeError('indptr fits neither shape nor indices')
        if indices.min(initial=0) < 0 or len(data) != len(indices):
            raise TypeError('indices fit no column or no data')
        dense = np.zeros(sides)
        np.add.at(dense, (np.repeat(np.arange(sides[0]), counts), indices), data)
        return dense if kind.startswith('csr') else dense.T
    if kind == 'Ch' and 'x' in state:
        return _dense(state['x'], source, key)
    if kind == 'Select':
        chosen = _dense(state['a'], source, key).ravel()[np.asarray(state['idxs'])]
        return chosen.reshape(state['preferred_shape']) if 'preferred_shape' in state else chosen
    raise TypeError('an expression of chumpy would have to be computed')
