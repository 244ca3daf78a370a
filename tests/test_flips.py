"""Single flipped bits in files of checkpoints and datasets: noticed, or nothing that is read differs."""

import collections
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from hybrik_jax import checkpoint
from hybrik_jax.data import store
from tests.test_bad_input import tiny_state

SPLITS = ('train', 'validation', 'test')


def flips(folder: pathlib.Path, count: int, read: Callable[[], Any]) -> collections.Counter:
    """Returns how many of `count` flips over a folder's files, and of one in each file, ended how.

    Files are drawn by their size. 'noticed' is a ValueError of one line that names the folder, 'harmless'
    that everything read is equal; anything else is an error.
    """
    true, rng, tally = read(), np.random.default_rng(0), collections.Counter()
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    sizes = np.array([path.stat().st_size for path in files])
    drawn = [*range(len(files)), *rng.choice(len(files), count, p=sizes / sizes.sum())]
    for number in drawn:
        path, at, bit = files[number], int(rng.integers(sizes[number])), int(rng.integers(8))
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        try:
            found = read()
        except ValueError as error:
            assert str(folder) in str(error) and '\n' not in str(error), error
            tally['noticed'] += 1
        else:
            same = jax.tree.map(np.array_equal, found, true)
            assert all(jax.tree.leaves(same)), (
                f'bit {bit} of byte {at} of {path}: read as if nothing were wrong'
            )
            tally['harmless'] += 1
        path.write_bytes(whole)
    return tally


def contents(folder: pathlib.Path, best: bool) -> Any:
    run = checkpoint.load(folder, best=best)
    return {'config': run.config, 'step': run.step, 'state': jax.tree.map(np.asarray, run.state)}


@pytest.mark.parametrize('best', [False, True])
def test_flips_in_a_checkpoint(tmp_path, capfd, best):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(tiny_state(step), {'a': 1, 'b': {'c': 0.1}}, score=3.0 - step)
    checkpoints.close()
    capfd.readouterr()
    folder = tmp_path / ('best' if best else 'checkpoints') / '2'
    tally = flips(folder, 100, lambda: contents(tmp_path, best))
    said = capfd.readouterr()
    assert 'Traceback' not in said.err + said.out
    print('checkpoint:', dict(tally))
    assert tally['noticed'] > 90


@pytest.mark.slow
def test_flips_in_the_checkpoint_of_a_network(tmp_path, small_run, capfd):
    shutil.copytree(small_run, tmp_path / 'run')
    tally = flips(tmp_path / 'run' / 'checkpoints' / '0', 100, lambda: contents(tmp_path / 'run', False))
    assert 'Traceback' not in capfd.readouterr().err
    print('checkpoint of a network:', dict(tally))
    assert tally['noticed'] > 30  # the optimizer's arrays are not read


def test_flips_in_a_dataset(tmp_path, data_root):
    """Without `verify`: the small files are always compared, and array_record checks every chunk."""
    folder = tmp_path / 'synthetic'
    shutil.copytree(data_root / 'synthetic', folder)
    read = lambda: [list(store.open_split(folder, split)) for split in SPLITS]  # noqa: E731
    tally = flips(folder, 100, read)
    print('dataset:', dict(tally))
    assert tally['noticed'] > 30  # half of such small shards is filling


def test_verify_notices_every_flip(tmp_path, data_root):
    """Even those that are harmless; only the summary has no checksum."""
    folder = tmp_path / 'synthetic'
    shutil.copytree(data_root / 'synthetic', folder)
    (folder / 'summary.txt').unlink()
    assert 'all 6 files are what was built' in store.verify(tmp_path)
    tally = flips(folder, 100, lambda: store.verify(folder) and None)
    print('verify:', dict(tally))
    assert tally['harmless'] <= 1  # a line's end in SHA256SUMS
