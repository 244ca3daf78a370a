"""PyTorch's files, read and written without it: `export.torch_file`."""

import io
import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict, defaultdict

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from hybrik_jax.export import torch_file

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tuple(tensor.shape), name
        np.testing.assert_array_equal(ours[name].astype(np.float64), tensor.detach().double().numpy(), name)


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    values = {str(dtype): (5 * torch.randn(3, 4)).to(dtype) for dtype in DTYPES}
    base = torch.randn(6, 8)
    views = {'transposed': base.t(), 'cut': base[2:5, 1::3], 'wide': base[:1].expand(60, 8)}
    others = {'scalar': torch.tensor(7), 'empty': torch.zeros(0, 3), 'parameter': torch.nn.Parameter(base[0])}
    return values | views | others


def test_every_type_and_view_of_pytorch(tensors, tmp_path):
    del tensors['wide']
    torch.save(tensors, tmp_path / 'weights.pth')
    ours = torch_file.read(tmp_path / 'weights.pth')
    assert_same(ours, tensors)
    assert ours['torch.bfloat16'].dtype == ml_dtypes.bfloat16 and ours['torch.int16'].dtype == np.int16
    assert ours['transposed'].base is not None  # nothing is copied
    plain = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, tmp_path / 'weights.safetensors')
    assert_same(torch_file.read(tmp_path / 'weights.safetensors'), plain)


def test_the_format_before_1_6(tensors, tmp_path):
    """Several pickles and the storages behind them; more of these than the state dict has tensors."""
    del tensors['wide']
    content = {'optimizer': {'state': torch.randn(5)}, 'state_dict': tensors, 'last': torch.zeros(2)}
    torch.save(content, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    ours = torch_file.read(tmp_path / 'old.pth')
    assert_same(ours, tensors)
    assert ours['transposed'].base is not None  # nothing is copied


def test_a_tensor_larger_than_its_storage_is_refused(tensors, tmp_path):
    """What `expand` makes would need more memory than the file has bytes, however much that is."""
    torch.save({'wide': tensors['wide']}, tmp_path / 'wide.pth')
    with pytest.raises(ValueError, match=r"wide.pth: the tensor 'wide' cannot be read \(shape \(60, 8\)"):
        torch_file.read(tmp_path / 'wide.pth')


def test_wrappers_and_what_stands_beside_the_weights(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 2, 4, 4)).sum().backward()
    optimizer.step()
    state = module.state_dict()
    for key in ('network', 'state_dict', 'model_state_dict', 'model'):
        content = {'epoch': 3, key: state, 'optimizer': optimizer.state_dict(), 'best': np.float64(3)}
        content['history'] = defaultdict(list, loss=[1.0, 2.0])
        torch.save(content, tmp_path / 'wrapped.pth')
        assert_same(torch_file.read(tmp_path / 'wrapped.pth'), state)
    torch.save(state | {'note': 'text'}, tmp_path / 'plain.pth')
    assert_same(torch_file.read(tmp_path / 'plain.pth'), state)


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_what_we_write_pytorch_reads(ending, tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    state['0.weight'] = np.asfortranarray(state['0.weight'])
    state['1.running_var'][0] = np.nan
    path = tmp_path / f'ours{ending}'
    torch_file.write(path, state)
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~_umask() and len(list(tmp_path.iterdir())) == 1
    if ending == '.pth':
        theirs = torch.load(path, weights_only=True)
        # HybrIK's programs look into a plain dict for a key 'model', and load anything else as it is.
        assert type(theirs) is OrderedDict
        assert_same(state, torch.load(path, weights_only=True, mmap=True))
    else:
        theirs = safetensors.torch.load_file(path)
    module.load_state_dict(theirs, strict=True)
    assert_same(state, module.state_dict())
    assert theirs['1.num_batches_tracked'].dtype == torch.int64


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'weights.pth'
    torch_file.write(path, {'a': np.zeros(3, np.float32)})
    before = path.read_bytes()
    monkeypatch.setattr(torch_file, 'read', lambda _: {'a': np.ones(3, np.float32)})
    with pytest.raises(ValueError, match='weights.pth does not give back what was written'):
        torch_file.write(path, {'a': np.zeros(3, np.float32)})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# ---- wrong files


class Code:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def archive(pickled, entries=None, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as made:
        for name, data in {'a/data.pkl': pickled, **(entries or {})}.items():
            made.writestr(name, data)
    return file.getvalue()


def number(n):
    return pickle.LONG1 + b'\x09' + struct.pack('<qb', n, 0)


def tensor(shape=(2,), strides=(1,), offset=0, key=b'0', kind=b'FloatStorage', bytes_=8):
    """A file of one tensor, every number of it as wanted."""
    storage = b'(X\x07\0\0\0storagectorch\n' + kind + b'\nX' + struct.pack('<I', len(key)) + key
    storage += b'X\x03\0\0\0cpu' + number(2) + b'tQ'
    shape, strides = (b'(' + b''.join(map(number, sides)) + b't' for sides in (shape, strides))
    made = b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + number(offset) + shape + strides
    made += b'\x89ccollections\nOrderedDict\n)RtR'
    return archive(b'\x80\x02}X\x01\0\0\0w' + made + b's.', {'a/data/0': b'\0' * bytes_})


GOOD = {'w': torch.zeros(100, 100)}
TAR = 'is a tar, the oldest format of PyTorch. Write it anew where PyTorch is installed'


def legacy(content):
    return saved(content, _use_new_zipfile_serialization=False)


WRONG = {
    'empty': (b'', r'empty.pth \(0 bytes\) is no .pth of PyTorch'),
    'text': (b'<html>404 Not Found</html>', 'is no .pth of PyTorch and no .safetensors file'),
    'cut': (saved(GOOD)[:-400], 'cut.pth is damaged or cut off .*: download it again'),
    'flipped': (saved(GOOD).replace(b'\0' * 4000, b'\1' * 4000, 1), 'flipped.pth is damaged .*CRC'),
    'tar': (b'\0' * 257 + b'ustar' + b'\0' * 250, TAR),
    'legacy-cut': (legacy(GOOD)[:-4], 'legacy-cut.pth is damaged or cut off .*40000 bytes are promised'),
    'legacy-start': (legacy(GOOD)[:40], 'legacy-start.pth is damaged or cut off'),
    'legacy-code': (legacy({'x': Code(os.system, 'touch touched')}), r'refused to load \w+.system'),
    'legacy-list': (legacy([torch.zeros(3)]), 'holds a list, expected is a dict'),
    'legacy-big': (
        legacy(GOOD).replace(b'little_endianq\x02\x88', b'little_endianq\x02\x89'),
        'on a big-endian machine',
    ),
    'zip': (archive(b'', {'b/data.pkl': b''}), 'is a zip, but holds no state dict'),
    'program': (archive(b'', {'a/constants.pkl': b''}), 'is a zip, but holds no state dict'),
    'list': (saved([torch.zeros(3)]), 'list.pth holds a list, expected is a dict'),
    'optimizer': (saved({'optimizer': {'state': {}}, 'epoch': 3}), "no state dict .*'optimizer', 'epoch'"),
    'code': (
        saved({'w': torch.zeros(3), 'x': Code(os.system, 'touch touched')}),
        r'refused to load \w+.system',
    ),
    'eval': (saved({'w': torch.zeros(3), 'x': Code(eval, '1')}), r'refused to load \w+.eval: .*Do not trust'),
    'object': (saved({'model': torch.nn.Linear(2, 2)}), r'refused to load torch.nn.modules.linear.Linear'),
    'compressed': (archive(b'}.', compression=zipfile.ZIP_DEFLATED), 'is compressed or larger than can be'),
    'big-endian': (archive(b'}.', {'a/byteorder': b'big'}), 'written on a big-endian machine'),
    'forged-shape': (tensor(shape=(2**39,)), "tensor 'w' cannot be read .*in 2 numbers"),
    'forged-strides': (tensor(strides=(2**39,)), "tensor 'w' cannot be read"),
    'forged-offset': (tensor(offset=1), "tensor 'w' cannot be read"),
    'negative': (tensor(strides=(-1,)), "tensor 'w' cannot be read .*cannot be"),
    'huge': (tensor(shape=(2**62, 2**62), strides=(0, 0)), "tensor 'w' cannot be read .*cannot be"),
    'sides': (tensor(shape=(1,) * 3000, strides=(0,) * 3000), "tensor 'w' cannot be read .*cannot be"),
    'ranks': (tensor(shape=(1, 2)), "tensor 'w' cannot be read"),
    'no-storage': (tensor(key=b'../0'), "tensor 'w' cannot be read .*no item named"),
    'short': (tensor(bytes_=4), "tensor 'w' cannot be read .*in 1 numbers"),
    'quantised': (tensor(kind=b'QInt8Storage'), 'refused to load torch.QInt8Storage'),
    'safetensors-cut': (safetensors.numpy.save({'w': np.zeros(9)})[:-8], 'damaged or no safetensors file'),
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_files_name_themselves(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, message = WRONG[name]
    path = tmp_path / f'{name}.pth'
    path.write_bytes(data)
    start = time.monotonic()
    with pytest.raises(torch_file.FileError, match=message) as caught:
        torch_file.read(path)
    assert time.monotonic() - start < 2 and str(path) in str(caught.value)
    assert not (tmp_path / 'touched').exists()


def test_what_is_no_file(tmp_path):
    for path in ('/dev/zero', tmp_path):
        with pytest.raises(ValueError, match='is no file, a weight file is one: this is a (device|folder)'):
            torch_file.read(path)
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        torch_file.read(tmp_path / 'nothing.pth')


def test_many_tensors_of_one_storage_take_its_memory_once(tmp_path):
    base = torch.zeros(100_000)
    torch.save({f'w{i}': base for i in range(2000)}, tmp_path / 'shared.pth')
    ours = torch_file.read(tmp_path / 'shared.pth')
    assert len({array.__array_interface__['data'][0] for array in ours.values()}) == 1


def test_damaged_anywhere_it_is_refused_or_read(tmp_path):
    """A few bytes changed in the pickle or anywhere: a message that names the file, or arrays that fit it."""
    rng = np.random.default_rng(0)
    whole = saved({'model': {'w': torch.zeros(2, 3), 'v': torch.zeros(4)[1:]}, 'epoch': 3})
    with zipfile.ZipFile(io.BytesIO(whole)) as made:
        entries = {name.replace('archive/', 'a/'): made.read(name) for name in made.namelist()}
    path, refused = tmp_path / 'changed.pth', 0
    for i in range(600):
        content = bytearray(entries['a/data.pkl'] if i % 2 else whole)
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(
            archive(bytes(content), {k: v for k, v in entries.items() if 'pkl' not in k})
            if i % 2
            else content
        )
        try:
            assert sum(array.size for array in torch_file.read(path).values()) <= 10
        except torch_file.FileError as error:
            refused += 1
            assert 'changed.pth' in str(error)
    assert refused > 200


def test_the_format_before_1_6_damaged_anywhere(tmp_path):
    rng = np.random.default_rng(0)
    whole = legacy({'model': {'w': torch.zeros(2, 3), 'v': torch.zeros(4)[1:]}, 'epoch': 3})
    path, refused = tmp_path / 'changed.pth', 0
    for i in range(600):
        content = bytearray(whole[: rng.integers(16, len(whole))] if i % 3 == 0 else whole)
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(16, len(content))] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert sum(array.size for array in torch_file.read(path).values()) <= 10
        except torch_file.FileError as error:
            refused += 1
            assert 'changed.pth' in str(error)
    assert refused > 200
