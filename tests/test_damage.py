"""Damaged and partly deleted checkpoints and datasets: one line that says what to do, and doing it helps."""

import json
import logging
import pathlib
import shutil
import subprocess
import sys

import pytest

from hybrik_jax import checkpoint, setup
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.data import pipeline, store
from tests import helpers
from tests.test_bad_input import tiny_state
from tests.test_training import small_state


def written(folder: pathlib.Path, state=small_state) -> pathlib.Path:
    """The workdir of a run with the checkpoints of steps 1 and 2, of which the second is the best."""
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(state(step), {'a': 1}, score=3.0 - step)
    checkpoints.close()
    return folder


def flip(path: pathlib.Path, at: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[at] ^= 4
    path.write_bytes(whole)


def largest(folder: pathlib.Path) -> pathlib.Path:
    """The largest file in a folder."""
    return max((path for path in folder.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)


def test_the_one_before_a_damaged_checkpoint_is_taken_only_when_asked_for(tmp_path, caplog):
    written(tmp_path, tiny_state)
    path = largest(tmp_path / 'checkpoints' / '2')
    flip(path, path.stat().st_size // 2)
    match = r'checkpoints/2 is damaged: array .*params.a is not .* is step 1 taken.*: (mv .*)'
    for _ in range(2):
        with pytest.raises(ValueError, match=match) as raised:
            checkpoint.load(tmp_path)
        with pytest.raises(ValueError, match=match):
            Checkpoints(tmp_path).restore(tiny_state(0), {'a': 1})
    assert checkpoint.load(tmp_path, best=True).step == 2
    subprocess.run(str(raised.value).rpartition(': ')[2], shell=True, check=True)
    caplog.set_level(logging.INFO, 'hybrik_jax')
    again = Checkpoints(tmp_path)
    restored = again.restore(tiny_state(0), {'a': 1})
    assert int(restored.step) == 1 and f'Read step 1 from {tmp_path}/checkpoints' in caplog.text
    again.save(tiny_state(2), {'a': 1}, score=2.0)
    again.close()
    assert checkpoint.load(tmp_path).step == 2


def test_the_score_of_a_damaged_best_is_not_believed(tmp_path):
    written(tmp_path)
    path = tmp_path / 'best' / '2' / 'meta' / 'metadata'
    path.write_text(path.read_text().replace('"score": 1.0', '"score": 9.0'))
    with pytest.raises(ValueError, match='best/2 is damaged.*none before it.*checkpoints has step 2'):
        Checkpoints(tmp_path)


def test_a_checkpoint_of_an_older_version_loads_with_a_line(tmp_path, caplog):
    written(tmp_path)
    for kind in ('checkpoints', 'best'):
        path = tmp_path / kind / '2' / 'meta' / 'metadata'
        meta = json.loads(path.read_text())
        path.write_text(json.dumps({key: meta[key] for key in ('step', 'data_position', 'config')}))
    (tmp_path / 'best' / '2' / 'metrics').mkdir()
    (tmp_path / 'best' / '2' / 'metrics' / 'metrics').write_text('{"score": 1.0}')
    checkpoints = Checkpoints(tmp_path)
    assert int(checkpoints.restore(small_state(0), {'a': 1}).step) == 2
    assert 'checkpoints/2 is of an older version and has no hashes' in caplog.text
    checkpoints.save(small_state(3), {'a': 1}, score=1.5)
    checkpoints.save(small_state(4), {'a': 1}, score=0.5)
    checkpoints.close()
    assert checkpoint.load(tmp_path, best=True).step == 4


@pytest.mark.parametrize('how', ['gone', 'empty', 'cut'])
def test_partly_deleted_checkpoints(tmp_path, capfd, how):
    """Any file or folder of the last step is missing, empty or cut: it is named, or it was not needed."""
    whole = written(tmp_path / 'whole')
    named = 0
    for path in sorted((whole / 'checkpoints' / '2').rglob('*')) + [whole / 'checkpoints' / '2']:
        if path.is_dir() if how == 'cut' else how == 'gone' and path.name == '2':
            continue
        shutil.copytree(whole, tmp_path / 'run')
        target = tmp_path / 'run' / path.relative_to(whole)
        kept = target.read_bytes() if target.is_file() else b''
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        if how == 'empty' and path.is_dir():
            target.mkdir()
        elif how != 'gone':
            target.write_bytes(kept[: len(kept) // 2] if how == 'cut' else b'')
        try:
            restored = Checkpoints(tmp_path / 'run').restore(small_state(0), {'a': 1})
            assert helpers.largest_difference(restored, small_state(2)) == 0
        except ValueError as error:
            assert 'checkpoints/2 is damaged' in str(error) and '\n' not in str(error)
            named += 1
        assert (tmp_path / 'run' / 'checkpoints' / '1').is_dir()
        shutil.rmtree(tmp_path / 'run')
    assert named >= 4
    assert capfd.readouterr().err == ''


def test_a_command_with_a_damaged_checkpoint_says_one_line(tmp_path, small_run):
    shutil.copytree(small_run, tmp_path / 'run')
    path = largest(tmp_path / 'run' / 'checkpoints' / '0')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    command = [
        '-m',
        'tools.export_torch',
        '--checkpoint',
        str(tmp_path / 'run'),
        '--out',
        str(tmp_path / 'm.pth'),
    ]
    process = helpers.run_python(*command)
    said = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 1 and len(said) == 1 and 'checkpoints/0 is damaged' in said[0], said


FULL = """
import logging, pathlib, resource, signal, sys
from tests.test_bad_input import tiny_state
from hybrik_jax.checkpoint import Checkpoints

checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(tiny_state(1), {})
checkpoints.wait()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    checkpoints.save(tiny_state(2), {})
    checkpoints.wait()
except OSError as error:
    print(error)
"""


def test_a_checkpoint_that_cannot_be_written_says_one_line(tmp_path):
    process = helpers.run_python('-c', FULL, str(tmp_path))
    said = process.communicate(timeout=120)[0].splitlines()
    assert len(said) == 1 and 'could not be written' in said[0] and 'Earlier checkpoints' in said[0], said
    assert checkpoint.load(tmp_path).step == 1


# ---- datasets
@pytest.fixture
def dataset(tmp_path, data_root):
    shutil.copytree(data_root / 'synthetic', tmp_path / 'data' / 'synthetic')
    return tmp_path / 'data' / 'synthetic'


def shard(dataset: pathlib.Path, split: str) -> pathlib.Path:
    return next(dataset.glob(f'synthetic-{split}.array_record-*'))


AGAIN = r'build it again, python -m tools.build_dataset synthetic --out {} '


@pytest.mark.parametrize('how', ['gone', 'cut', 'empty'])
def test_a_shard_that_is_missing_or_cut(dataset, how):
    path = shard(dataset, 'train')
    size = path.stat().st_size
    path.unlink()
    if how != 'gone':
        path.write_bytes(b'\0' * (size // 3 if how == 'cut' else 0))
    match = f'synthetic-train.*(is missing|cannot be).*{AGAIN.format(dataset)}'
    with pytest.raises(ValueError, match=match) as raised:
        list(store.open_split(dataset, 'train'))
    assert '\n' not in str(raised.value)
    with pytest.raises(ValueError, match=f'synthetic-train.*{AGAIN.format(dataset)}'):
        store.verify(dataset)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_damaged_record_is_named_in_training(dataset, workers):
    flip(shard(dataset, 'train'), 100_000)
    config = helpers.tiny_config(dataset, dataset.parent)
    examples = pipeline.training_examples(
        {'synthetic': store.open_split(dataset, 'train')},
        {'synthetic': 1.0},
        settings=setup.augmentation_settings(config),
        crop_size=64,
        seed=0,
    )
    batches = pipeline.training_batches(examples, batch_size=8, workers=workers)
    match = f'synthetic-train.*cannot be read, it is damaged.*{AGAIN.format(dataset)}'
    with pytest.raises(ValueError, match=match) as raised:
        for _ in range(20):
            next(batches)
    assert '\n' not in str(raised.value)
    batches.close()


@pytest.mark.parametrize('name', ['build.json', 'features.json', 'dataset_info.json', store.SUMS])
def test_damaged_descriptions_of_a_dataset(dataset, name):
    (dataset / name).write_text('{')
    with pytest.raises(ValueError, match=f'{name} is not what was built.*{AGAIN.format(dataset)}'):
        store.open_split(dataset, 'train')


def test_main_verifies_before_it_begins(dataset, tmp_path):
    """Damage that reading does not meet before hours have passed ends the command at once."""
    flip(shard(dataset, 'train'), 100_000)
    command = [
        '-m',
        'hybrik_jax.main',
        '--config=tests/tiny_config.py',
        f'--config.data.root={dataset.parent}',
    ]
    process = helpers.run_python(*command, f'--config.workdir={tmp_path / "run"}', '--verify')
    said = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 1 and len(said) == 1 and 'is not what was built' in said[0], said


def test_the_tool_verifies_and_tells_of_datasets_without_checksums(dataset):
    command = [sys.executable, '-m', 'tools.build_dataset', 'verify', str(dataset)]
    run = subprocess.run(command, cwd=helpers.ROOT, capture_output=True, text=True, check=True)
    assert 'all 6 files are what was built' in run.stdout and 'MB/s' in run.stdout
    subprocess.run(['sha256sum', '--quiet', '-c', store.SUMS], cwd=dataset, check=True)
    (dataset / store.SUMS).unlink()
    assert 'was built before checksums were kept' in store.verify(dataset)
    assert len(store.open_split(dataset, 'train')) == 24
