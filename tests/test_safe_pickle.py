"""Hostile and damaged pickles and arrays: one sentence, in bounded time and memory, and nothing executed."""

import os
import pathlib
import pickle
import resource
import struct
import time
import zipfile

import numpy as np
import pytest

from hybrik_jax import safe_pickle
from hybrik_jax.body import smpl_file

# ---- pieces of pickles, as their author would put them together

START, NONE, FALSE, REDUCE, BUILD = b'\x80\x02', b'N', b'\x89', b'R', b'b'


def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def data(value):
    return b'B' + struct.pack('<I', len(value)) + value


def number(value):
    size = value.bit_length() // 8 + 1
    return b'\x8b' + struct.pack('<i', size) + value.to_bytes(size, 'little', signed=True)


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def tuple_of(*parts):
    return b'(' + b''.join(parts) + b't'


def dict_of(**entries):
    return b'}(' + b''.join(text(key) + value for key, value in entries.items()) + b'u'


def file_of(**entries):
    return START + dict_of(**entries) + b'.'


def dtype(code='f8', order='<', fields=(NONE, NONE, NONE), times=1):
    made = name('numpy', 'dtype') + tuple_of(text(code), number(0), number(1)) + REDUCE
    state = tuple_of(number(3), text(order), *fields, number(-1), number(-1), number(0))
    return made + times * (state + BUILD)


MAKE = name('numpy._core.multiarray', '_reconstruct')
MAKE += tuple_of(name('numpy', 'ndarray'), tuple_of(number(0)), data(b'b')) + REDUCE


def array(shape=(2,), kind=None, bytes_=16, times=1, sides=None):
    sides = tuple_of(*map(number, shape)) if sides is None else sides
    state = tuple_of(number(1), sides, kind or dtype(), FALSE, data(b'\0' * bytes_))
    return MAKE + times * (state + BUILD)


def buffer(kind, shape, order='C', bytes_=16):
    arguments = tuple_of(data(b'\0' * bytes_), kind, tuple_of(*map(number, shape)), text(order))
    return name('numpy._core.numeric', '_frombuffer') + arguments + REDUCE


def scalar(kind, bytes_):
    return name('numpy._core.multiarray', 'scalar') + tuple_of(kind, data(b'\0' * bytes_)) + REDUCE


def load(tmp_path, content):
    path = tmp_path / 'file.pkl'
    path.write_bytes(content)
    start = time.monotonic()
    try:
        return safe_pickle.load_dict(path, 'a body model')
    except ValueError as error:
        assert 'file.pkl' in str(error) and len(str(error)) < 500
        raise
    finally:
        assert time.monotonic() - start < 5


def test_the_pieces_are_what_numpy_writes(tmp_path):
    """With nothing forged they load, as with Python's own unpickler: refused below is the forgery."""
    whole = file_of(a=array(), b=buffer(dtype(), (2, 1)), c=scalar(dtype('i4'), 4), d=array((0, 3), bytes_=0))
    for loaded in (load(tmp_path, whole), pickle.loads(whole)):
        np.testing.assert_array_equal(loaded['a'], np.zeros(2))
        assert loaded['b'].shape == (2, 1) and loaded['c'] == 0 and loaded['d'].shape == (0, 3)


@pytest.mark.parametrize('protocol', range(6))
def test_all_plain_arrays_come_back(tmp_path, protocol):
    rng = np.random.default_rng(0)
    content = {
        'order': np.asfortranarray(rng.normal(size=(3, 4))),
        'swapped': rng.normal(size=(2, 5)).astype('>f4'),
        'half': rng.normal(size=3).astype(np.float16),
        'flags': np.array([[True, False]]),
        'words': np.array(['a', 'bcd']),
        'bytes': np.array([b'x', b'yz']),
        'whole': np.arange(6, dtype=np.uint16).reshape(1, 2, 3),
        'one': np.float32(3.5),
        'none': np.zeros((0, 2)),
        'point': np.array(3.0),
        'people': [{'name': 'é', 3: (None, True, 2**70, 1.5)}],
    }
    loaded = load(tmp_path, pickle.dumps(content, protocol))
    assert loaded.keys() == content.keys() and loaded['people'] == content['people']
    for key in content:
        if key != 'people':
            np.testing.assert_array_equal(loaded[key], content[key])
            assert loaded[key].dtype == content[key].dtype and type(loaded[key]) is type(content[key])
    loaded['order'][0] = 1  # ours to write to
    sets = {'a': {1}, 'b': frozenset('x')}
    if protocol >= 4:  # before, they are calls, whose arguments are kept
        assert load(tmp_path, pickle.dumps(sets, protocol)) == {'a': [1], 'b': ['x']}


def test_truth_values_are_zero_or_one(tmp_path):
    kind = dtype('b1', '|')
    content = file_of(
        a=MAKE + tuple_of(number(1), tuple_of(number(3)), kind, FALSE, data(b'\0\1\xff')) + BUILD
    )
    flags = load(tmp_path, content)['a']
    assert flags.tolist() == [False, True, True] and flags.view(np.uint8).tolist() == [0, 1, 1]


FORGED = {
    'a buffer': name('numpy', 'ndarray') + tuple_of(tuple_of(number(2)), dtype(), data(b'\0' * 16)) + REDUCE,
    'a second state': array(times=2),
    'a second state of a type': array(kind=dtype(times=2)),
    'objects': array(kind=dtype('O', '|'), shape=(2,)),
    'void': array(kind=dtype('V8', '|')),
    'dates': array(kind=dtype('M8')),
    'complex': array(kind=dtype('c16')),
    'a record': array(kind=dtype('f8', fields=(NONE, tuple_of(text('a')), b'}'))),
    'a part': array(kind=dtype('f8', fields=(tuple_of(dtype(), tuple_of(number(9))), NONE, NONE))),
    'a type in words': array(kind=dtype('f8,f8')),
    'a type of no text': array(kind=name('numpy', 'dtype') + tuple_of(number(3)) + REDUCE),
    'a type that is none': array(kind=NONE),
    'an order': array(kind=dtype(order='?')),
    'too few bytes': array(bytes_=8),
    'too many bytes': array(bytes_=24),
    'a negative side': array(shape=(-2,)),
    'two negative sides': array(shape=(-1, -2)),
    'a terabyte': array(shape=(2**37,)),
    'a side of 5000 digits': array(shape=(10**5000,)),
    'a product that wraps': array(shape=(2**32, 2**32, 2), bytes_=0),
    'ranks': array(shape=(1,) * 33 + (2,)),
    'a list as shape': array(sides=b'](' + number(2) + b'e'),
    'a truth value as side': array(sides=tuple_of(b'\x88', number(2))),
    'a large scalar': scalar(dtype(), 16),
    'a scalar of objects': scalar(dtype('O', '|'), 8),
    'a buffer too short': buffer(dtype(), (3,)),
    'an order of axes': buffer(dtype(), (2,), order='A'),
    'bytes of a list': MAKE + tuple_of(number(1), tuple_of(number(0)), dtype(), FALSE, b']') + BUILD,
    'no state': MAKE,
    'half a state': MAKE + tuple_of(number(1)) + BUILD,
    'a state for a number': number(3) + dict_of(a=NONE) + BUILD,
    'a state for a name': name('numpy', 'ndarray') + tuple_of(NONE, dict_of(__call__=NONE)) + BUILD,
    'a call of a text': text('x') + tuple_of() + REDUCE,
    'a call with a list': name('numpy', 'dtype') + b']' + REDUCE,
    'a call of a result': array() + tuple_of() + REDUCE,
    'keyword arguments': name('numpy', 'dtype') + b')}\x92',
    'a registered extension': b'\x82\x01',
    'a persistent object': text('x') + b'Q',
    'encoding': name('_codecs', 'encode') + tuple_of(text('x'), text('rot13')) + REDUCE,
    'no class': name('copy_reg', '_reconstructor') + tuple_of(NONE) + REDUCE,
    'items in a number': number(3) + NONE + b'a',
    'entries in a list': b']' + text('x') + NONE + b's',
    'an import': name('os', 'system'),
    'a dotted name': name('numpy', 'ndarray.__new__'),
    'an attribute of ours': name('hybrik_jax.safe_pickle', 'pickle'),
}


@pytest.mark.parametrize('what', FORGED)
def test_forged_arrays_are_refused(what, tmp_path):
    with pytest.raises(ValueError, match='file.pkl: refused to load|file.pkl is no readable pickle'):
        load(tmp_path, file_of(a=FORGED[what]))


def nested(opening, closing=b'', depth=100_000):
    return opening * depth + closing * depth


MANY = 500 * buffer(dtype(), (2**17,)).replace(data(b'\0' * 16), b'h\x01')
ENDLESS = {
    'lists': (b']' + nested(b']', b'a'), 'nested more than 100 deep'),
    'tuples': (NONE + nested(b'\x85'), 'nested more than 100 deep'),
    'a tuple as key': (b'}' + NONE + nested(b'\x85') + NONE + b's', 'a dict whose key is a tuple'),
    'a huge number as key': (b'}' + number(2**100) + NONE + b's', 'a dict whose key is a int'),
    'a key of an old dict': (b'(' + NONE + b'\x85' + NONE + b'd', 'a dict whose key is a tuple'),
    'itself': (b']q\x00h\x00a', 'a list that holds itself'),
    'doubled': (b']' + 60 * b'q\x010](h\x01h\x01e', 'more than 10,000,000 items'),
    'copies': (
        data(b'\0' * 2**20) + b'q\x010](' + MANY + b'e',
        'arrays that are larger than the file',
    ),
    'a length': (b'\x8e' + struct.pack('<Q', 2**62) + b'x', 'no readable pickle'),
    'a length of bytes': (b'\x96' + struct.pack('<Q', 2**38) + b'x', 'no readable pickle'),
    'a number in words': (b'F' + b'9x' * 5000 + b'\n', 'no readable pickle'),
    'a frame': (b'\x95' + struct.pack('<Q', 2**62) + b'x', 'no readable pickle'),
    'an opcode': (b'\xff', 'no readable pickle'),
    'digits': (b'I' + b'9' * 5000 + b'\n', 'no readable pickle'),
}  # fmt: skip


@pytest.mark.parametrize('what', ENDLESS)
def test_pickles_that_would_take_for_ever_are_refused(what, tmp_path):
    content, message = ENDLESS[what]
    with pytest.raises(ValueError, match=message):
        load(tmp_path, file_of(a=content))


def test_an_index_into_the_memo_takes_no_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = file_of(a=NONE + b'r' + struct.pack('<I', 2**32 - 1), b=b'j' + struct.pack('<I', 2**32 - 1))
    assert load(tmp_path, content) == {'a': None, 'b': None}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 50_000  # kB


def test_damaged_anywhere_it_is_refused_or_read(tmp_path):
    """Cut off or changed in a few bytes, a file ends in a message or in plain values, never otherwise."""
    rng = np.random.default_rng(0)
    content = {'a': rng.normal(size=(2, 3)), 'b': [np.arange(3), 'text', {'c': (1, 2.5)}], 'd': {1, 2}}
    refused = 0
    for protocol in (0, 2, 4):
        whole = pickle.dumps(content, protocol)
        for _ in range(200):
            changed = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            for _ in range(rng.integers(0, 4)):
                changed[rng.integers(len(changed))] = rng.integers(256)
            try:
                load(tmp_path, bytes(changed))
            except ValueError:
                refused += 1
    assert refused > 500


def test_what_is_no_file(tmp_path):
    for path in ('/dev/zero', tmp_path):
        with pytest.raises(ValueError, match='is no file, a body model is one'):
            safe_pickle.load_dict(path, 'a body model')


# ---- body models


def body_file(tmp_path, **changes):
    """A body in numpy's arrays, in a pickle, with raw pieces in place of some."""
    arrays = {key: array((1,), bytes_=8) for key in smpl_file._KEYS}
    path = tmp_path / 'body.pkl'
    path.write_bytes(file_of(**(arrays | changes)))
    return path


def sparse(shape=(2, 3), indptr=(0, 1, 1, 2), indices=(0, 1), values=2):
    def ints(numbers):
        packed = data(struct.pack(f'<{len(numbers)}i', *numbers))
        return MAKE + tuple_of(number(1), tuple_of(number(len(numbers))), dtype('i4'), FALSE, packed) + BUILD

    state = dict(_shape=tuple_of(*map(number, shape)), indptr=ints(indptr), indices=ints(indices))
    state['data'] = array((values,), bytes_=8 * values)
    return name('scipy.sparse.csc', 'csc_matrix') + b')\x81' + dict_of(**state) + BUILD


@pytest.mark.parametrize(
    ('piece', 'message'),
    [
        (sparse(), r'shapedirs has the shape \(1,\) .* of the shape \(2, 3'),
        (sparse(shape=(2**20, 2**20)), 'csc_matrix that cannot be read .*the shape'),
        (sparse(shape=(2, -3)), 'csc_matrix that cannot be read'),
        (sparse(indices=(0, 7)), 'csc_matrix that cannot be read'),
        (sparse(indices=(0, -1)), 'indices fit no column'),
        (sparse(indptr=(0, 5, 1, 2)), 'indptr fits neither'),
        (sparse(indptr=(0, 5, 0, 0)), 'indptr fits neither'),
        (sparse(indptr=(0, 1, 2)), 'indptr fits neither'),
        (sparse(values=1), 'indices fit no column or no data'),
        (name('chumpy.ch', 'Ch') + b')\x81q\x05' + dict_of(x=b'h\x05') + BUILD, 'a chumpy.ch.Ch that cannot'),
        (name('chumpy.ch', 'Ch') + b')\x81', 'a chumpy.ch.Ch that cannot'),
        (b'](' + 3 * number(1) + b'e', 'v_template is a list, expected is an array'),
        (text('x'), 'v_template is a str, expected is an array'),
    ],
)  # fmt: skip
def test_forged_pieces_of_a_body(tmp_path, piece, message):
    with pytest.raises(ValueError, match=f'body.pkl: .*{message}'):
        smpl_file.load_body(body_file(tmp_path, v_template=piece))


def npy(tmp_path, header, content=b'\0' * 64, version=b'\x01\x00'):
    size = struct.pack('<H' if version[0] == 1 else '<I', len(header) + 1)
    path = tmp_path / 'array.npy'
    path.write_bytes(b'\x93NUMPY' + version + size + header.encode() + b'\n' + content)
    return path


@pytest.mark.parametrize(
    ('header', 'message'),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", 'promises the shape'),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 'promises the shape'),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -8)}", 'promises the shape'),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}", 'cut off|promises'),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 'object'),
        ("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", 'no plain numbers'),
        ("{'descr': '<f8'}", 'does not contain the correct keys'),
        ('(' * 3000, 'multi-line statement'),
    ],
)
def test_headers_that_promise_what_is_not_there(tmp_path, header, message):
    path = npy(tmp_path, header)
    with pytest.raises(ValueError, match=f'array.npy.*{message}'):
        smpl_file.load_mean_betas(path, None)
    archive = tmp_path / 'body.npz'
    with zipfile.ZipFile(archive, 'w') as made:
        made.write(path, 'v_template.npy')
    with pytest.raises(ValueError, match=f'body.npz.* v_template .*({message})'):
        smpl_file.load_body(archive)


def test_arrays_of_numpy_still_load(tmp_path):
    for betas in (np.arange(10.0), np.arange(10, dtype=np.int16)[None], np.arange(10, dtype='>f4')):
        np.save(tmp_path / 'betas.npy', betas)
        np.testing.assert_array_equal(smpl_file.load_mean_betas(tmp_path / 'betas.npy', None), np.arange(10))
    np.savez(tmp_path / 'one.npz', betas=np.zeros(10))
    os.rename(tmp_path / 'one.npz', tmp_path / 'renamed.npy')
    with pytest.raises(ValueError, match='renamed.npy.*this is an .npz file'):
        smpl_file.load_mean_betas(tmp_path / 'renamed.npy', None)
    for path in (pathlib.Path('/dev/zero'), tmp_path):
        with pytest.raises(ValueError, match='is no file'):
            smpl_file.load_mean_betas(path, None)
