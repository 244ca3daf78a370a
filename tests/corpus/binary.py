"""Bad files of numbers: body models, mean shapes, sequences of 3DPW, weights of PyTorch."""

import io
import json
import os
import pathlib
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable

import numpy as np

from hybrik_jax.body import smpl_file
from tests import own_people
from tests.corpus.entry import Entry, file
from tools import build_dataset, import_torch

SIX_GIGABYTES = struct.pack('<Q', 6_000_000_000)
START = b'\x80\x04'


class Call:
    """What would be called if a pickle were loaded by Python."""

    def __reduce__(self) -> tuple:
        return os.system, ('touch touched',)


def npy(descr: str = '<f8', shape: str = '(3,)', data: bytes = b'\0' * 24) -> bytes:
    """An array of numpy's format, its header as wanted."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b'\x93NUMPY\x01\0' + struct.pack('<H', len(header)) + header + data


def npz(compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """An archive of such arrays."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, 'w', compression) as archive:
        for name, content in entries.items():
            archive.writestr(f'{name}.npy', content)
    return made.getvalue()


def bomb() -> bytes:
    """An archive of 1 MB that promises a gigabyte, and holds some of it."""
    made = npz(zipfile.ZIP_DEFLATED, v_template=npy(shape='(125000,)', data=b'\0' * 1_000_000))
    size = struct.pack('<I', 1_000_000 + len(npy(shape='(125000,)', data=b'')))
    return made.replace(size, struct.pack('<I', 1 << 30))


def pipe(name: str) -> Callable[[pathlib.Path], pathlib.Path]:
    """What makes a pipe that nobody writes into."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


def folder_named(name: str) -> Callable[[pathlib.Path], pathlib.Path]:
    """What makes a folder in place of a file."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        (folder / name).mkdir()
        return folder / name

    return make


def grown(name: str, content: bytes, size: int) -> Callable[[pathlib.Path], pathlib.Path]:
    """What makes a file with nothing behind its content, of this size."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        path = file(name, content)(folder)
        os.truncate(path, size)
        return path

    return make


def arrays(**changes: object) -> dict[str, object]:
    """The arrays of a body model, most of them of another shape."""
    return {key: np.zeros((1, 3)) for key in smpl_file._KEYS} | changes


OBJECTS = pickle.dumps(arrays(v_template=np.array([None, {}], object)))
NOT_FINITE = pickle.dumps(arrays(v_template=np.full((4, 3), np.nan)))
REFUSED, DAMAGED = 'refused to load', 'is no readable pickle of a body model'
BODIES = {
    'bytearray.pkl': (START + b'\x96' + SIX_GIGABYTES + b'x' * 99, DAMAGED),
    'bytes.pkl': (START + b'\x8e' + SIX_GIGABYTES + b'x' * 99, DAMAGED),
    'text.pkl': (START + b'\x8d' + SIX_GIGABYTES + b'x' * 99, DAMAGED),
    'long.pkl': (START + b'\x8b' + struct.pack('<i', 2**31 - 1) + b'x' * 99, DAMAGED),
    'frame.pkl': (START + b'\x95' + SIX_GIGABYTES + b'\xff' * 99, DAMAGED),
    'memo.pkl': (START + b'Nr' + struct.pack('<I', 2**32 - 1) + b'.', 'is a pickled dict'),
    'lists.pkl': (START + b']' * 5_000_000, REFUSED),
    'nested.pkl': (START + b'}\x8c\x01a' + b']' * 100_000 + b'a' * 99_999 + b's.', REFUSED),
    'call.pkl': (pickle.dumps(Call()), REFUSED),
    'class.pkl': (b'c__main__\nNothing\n.', REFUSED),
    'objects.pkl': (OBJECTS, REFUSED),
    'not finite.pkl': (NOT_FINITE, 'v_template'),
    'list.pkl': (pickle.dumps([1, 2]), 'is a pickled dict'),
    'keys.pkl': (pickle.dumps({'f': np.zeros((3, 3))}), 'missing: v_template'),
    'shapes.pkl': (pickle.dumps(arrays()), 'shapedirs'),
    'cut.pkl': (pickle.dumps(arrays())[:-40], DAMAGED),
    'empty.pkl': (b'', DAMAGED),
    'page.pkl': ('<html>login</html>', DAMAGED),
    'bomb.npz': (bomb(), 'it promises'),
    'shape.npz': (npz(v_template=npy(shape='(1000000000000,)')), 'v_template'),
    'product.npz': (npz(v_template=npy(shape='(4294967296, 4294967296)')), 'v_template'),
    'objects.npz': (npz(v_template=npy('|O')), 'v_template'),
    'cut.npz': (npz(v_template=npy())[:-30], 'no'),
}  # fmt: skip
MEANS = {
    'shape.npy': (npy(shape='(1000000000000,)'), 'promises the shape'),
    'nine.npy': (npy(shape='(9,)', data=b'\0' * 72), 'betas'),
    'objects.npy': (npy('|O', data=pickle.dumps([Call()])), 'no plain numbers'),
    'cut.npy': (npy(shape='(10,)'), 'it is cut off'),
    'text.npy': ('ten numbers', 'not a readable .npy'),
}


def weights(pickled: bytes, data: bytes = b'\0' * 8, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A file as PyTorch writes it, with this pickle and one storage."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, 'w', compression) as archive:
        archive.writestr('a/data.pkl', pickled)
        archive.writestr('a/data/0', data)
    return made.getvalue()


def safetensors(header: dict | str, data: bytes = b'\0' * 8) -> bytes:
    """A file of safetensors with this header."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack('<Q', len(text)) + text + data


WEIGHTS = {
    'empty.pth': (b'', 'is no .pth'),
    'page.pth': ('<html>404</html>', 'is no .pth'),
    'bytearray.pth': (weights(START + b'\x96' + SIX_GIGABYTES), 'damaged or cut off'),
    'call.pth': (weights(pickle.dumps(Call())), REFUSED),
    'bomb.pth': (weights(b'\0' * 100_000_000, compression=zipfile.ZIP_DEFLATED), 'is compressed'),
    'nothing.pth': (weights(pickle.dumps({})), 'no state dict'),
    'list.pth': (weights(pickle.dumps([1])), 'holds a list'),
    'zip.pth': (npz(a=npy()), 'holds no state dict'),
    'cut.pth': (weights(pickle.dumps({}))[:-30], 'cut off'),
    'old.pth': (b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19' + b'.' * 99, 'damaged or cut off'),
    'oldest.pth': (b'\0' * 257 + b'ustar' + b'\0' * 250, 'is a tar'),
    'shape.safetensors': (
        safetensors({'w': {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 2**42]}}), 'damaged'
    ),
    'offsets.safetensors': (
        safetensors({'w': {'dtype': 'F32', 'shape': [2], 'data_offsets': [8, 0]}}), 'damaged'
    ),
    'nested.safetensors': (safetensors('{"w":' * 100_000), 'damaged'),
    'header.safetensors': (struct.pack('<Q', 2**25) + b'{"w": 1}', 'damaged'),
    'stranger.safetensors': (
        safetensors({'w': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}), 'no network that is known'
    ),
}  # fmt: skip


def with_body(path: pathlib.Path) -> None:
    """Builds own data with a body model."""
    data = own_people.write(path.parent, [own_people.entry()])
    out = path.parent / 'out'
    command = ['custom', '--data-root', str(data), '--out', str(out), '--workers', '0', '--body', str(path)]
    build_dataset.main(command)


def mean_shape(path: pathlib.Path) -> None:
    """Reads a mean shape."""
    smpl_file.load_mean_betas(path, None)


def imported(path: pathlib.Path) -> int:
    """Imports weights."""
    sys.argv = ['import_torch', str(path), '--out', str(path.parent / 'run')]
    return import_torch.main()


def sequence(content: bytes) -> Callable[[pathlib.Path], pathlib.Path]:
    """What makes a sequence file of 3DPW in its folder."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        path = folder / 'sequenceFiles' / 'train' / 'walk_00.pkl'
        path.parent.mkdir(parents=True)
        (folder / 'imageFiles' / 'walk_00').mkdir(parents=True)
        own_people.write(folder, [])
        (folder / 'photos' / 'a.jpg').rename(folder / 'imageFiles' / 'walk_00' / 'image_00000.jpg')
        path.write_bytes(content)
        return folder

    return make


def with_sequences(folder: pathlib.Path) -> None:
    """Builds 3DPW from its official files."""
    options = [
        '--official',
        '--open-body',
        '--split',
        'train',
        '--workers',
        '0',
        '--out',
        str(folder / 'out'),
    ]
    build_dataset.main(['pw3d', '--data-root', str(folder), *options])


CAMERAS = {'cam_poses': np.eye(4)[None], 'cam_intrinsics': np.diag([500.0, 500, 1])}
SEQUENCES = {
    'a call': (pickle.dumps(Call()), REFUSED),
    'no cameras': (pickle.dumps({'poses': []}), 'cam_poses is missing'),
    'a number of cameras': (pickle.dumps({'cam_poses': 5}), 'cam_poses is int'),
    'cameras of another shape': (pickle.dumps(CAMERAS | {'cam_poses': np.eye(3)[None]}), 'cam_poses'),
    'nobody in it': (pickle.dumps(CAMERAS), 'poses is missing'),
    'poses of numbers': (pickle.dumps(CAMERAS | {'poses': [1, 2]}), 'trans is missing'),
}


def entries() -> list[Entry]:
    """Returns all bad files of numbers."""
    found = [
        Entry(f'body/{name}', file(name, content), with_body, (name, says))
        for name, (content, says) in BODIES.items()
    ]
    found += [
        Entry('body/pipe.pkl', pipe('pipe.pkl'), with_body, ('pipe.pkl', 'this is a pipe')),
        Entry('body/folder.pkl', folder_named('folder.pkl'), with_body, ('folder.pkl', 'this is a folder')),
        Entry('body/sparse.pkl', grown('sparse.pkl', START, 7 << 30), with_body, ('sparse.pkl', 'at most')),
        Entry('body/no.pkl', lambda folder: folder / 'no.pkl', with_body, ('no.pkl', 'there is no file')),
    ]
    for name, (content, says) in MEANS.items():
        found.append(Entry(f'mean shape/{name}', file(name, content), mean_shape, (name, says)))
    for name, (content, says) in WEIGHTS.items():
        found.append(Entry(f'weights/{name}', file(name, content), imported, (name, says)))
    found += [
        Entry('weights/pipe.pth', pipe('pipe.pth'), imported, ('pipe.pth', 'this is a pipe')),
        Entry('weights/folder.pth', folder_named('folder.pth'), imported, ('folder.pth', 'this is a folder')),
    ]
    for name, (content, says) in SEQUENCES.items():
        found.append(Entry(f'sequence/{name}', sequence(content), with_sequences, ('walk_00.pkl', says)))
    return found
