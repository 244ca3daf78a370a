"""What a user can get wrong in a configuration or on disk, and the message that says so.

Body files (malicious pickle, wrong keys, regressor of another body) are in test_body.py, records and images
in test_synthetic.py and test_pipeline.py, boxes and photos in test_predict.py, checkpoints of another
configuration and non-finite losses in test_training.py.
"""

import errno
import pathlib
import resource
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default, synthetic
from hybrik_jax import setup, train
from hybrik_jax.body import smpl_file
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.step import TrainState

ROOT = pathlib.Path(__file__).parent.parent


def run_main(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'hybrik_jax.main', *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_misspelt_override_names_the_key():
    result = run_main('--config', 'configs/synthetic.py', '--config.optimiser.learning_rate=1')
    assert result.returncode != 0
    assert 'optimiser' in result.stderr


def test_an_override_of_the_wrong_type_is_refused():
    result = run_main('--config', 'configs/synthetic.py', '--config.batch_size=many')
    assert result.returncode != 0
    assert 'batch_size' in result.stderr


def test_an_argument_without_dashes_is_refused():
    result = run_main('--config', 'configs/synthetic.py', 'config.batch_size=8')
    assert result.returncode != 0
    assert '--config.batch_size=64' in result.stderr + result.stdout


def test_a_missing_dataset_is_a_message_not_a_traceback(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        'from configs import synthetic\n'
        'def get_config():\n'
        '    config = synthetic.get_config()\n'
        "    config.data.mixture = {'coco': 1.0}\n"
        f'    config.workdir = {str(tmp_path / "run")!r}\n'
        f'    config.data.root = {str(tmp_path)!r}\n'
        '    return config\n'
    )
    result = run_main('--config', str(config))
    assert result.returncode == 1
    assert "There is no dataset 'coco'" in result.stderr
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        (
            'batch_size',
            30,
            r'batch_size=30 cannot be split over 4 devices: make --config.batch_size a multiple of 4',
        ),
        ('batch_size', 0, 'batch_size=0 must be positive'),
        ('image_size', 100, 'image_size=100 must be a positive multiple of 32'),
        ('num_epochs', 0, 'num_epochs=0'),
        ('data.mixture', {'synthetic': 0.0}, 'data.mixture'),
        ('data.mixture', {'synthetic': -1.0}, 'data.mixture'),
        ('optimizer.warmup_steps', 0, 'warmup_steps=0'),
        ('validate_parameters', 'tial', "validate_parameters='tial'"),
        ('evaluation.root', 'rootnet', "evaluation.root='rootnet'"),
        ('model.right_hand', 'left', "model.right_hand='left'"),
        ('average.ema_decay', 1.0, 'ema_decay=1.0'),
    ],
)
def test_a_configuration_that_cannot_work(key, value, message):
    config = default.get_config()
    setup.check(config, devices=4, hosts=1)
    *parents, last = key.split('.')
    section = config
    for parent in parents:
        section = section[parent]
    section[last] = value
    with pytest.raises(ValueError, match=message):
        setup.check(config, devices=4, hosts=1)


def test_all_problems_of_a_configuration_are_told_at_once():
    config = default.get_config()
    config.batch_size, config.image_size = 30, 100
    with pytest.raises(ValueError, match='(?s)batch_size=30.*image_size=100'):
        setup.check(config, devices=4, hosts=1)


def test_a_workdir_that_cannot_be_written_to(tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('not a folder')
    with pytest.raises(OSError, match='give another folder'):
        setup.create_workdir(str(blocked / 'run'))
    assert blocked.read_text() == 'not a folder'


def test_evaluating_a_folder_without_checkpoints(tmp_path, monkeypatch):
    config = synthetic.get_config()
    config.workdir = str(tmp_path / 'nothing')
    monkeypatch.setattr(setup, 'open_source', lambda *unused: [])
    with pytest.raises(FileNotFoundError, match='train first'):
        train.test(config)


def test_betas_of_another_body_are_refused(tmp_path):
    mean = tmp_path / 'mean.npy'
    np.save(mean, np.zeros(10))
    config = synthetic.get_config()
    config.init_betas = str(mean)  # a bare .npy is SMPL's
    with pytest.raises(ValueError, match="made for the body model 'SMPL'"):
        setup.init_betas(config, smpl_file.load_body())


def test_a_mean_shape_of_the_wrong_length_or_with_nan(tmp_path):
    body = smpl_file.load_body()
    for betas in (np.zeros(9), np.full(10, np.nan)):
        path = tmp_path / 'mean.npz'
        np.savez(path, betas=betas, model_name=str(body.name))
        config = synthetic.get_config()
        config.init_betas = str(path)
        with pytest.raises(ValueError, match='mean.npz'):
            setup.init_betas(config, body)


def tiny_state(step: int) -> TrainState:
    variables = {
        'params': {'a': jnp.asarray(np.random.default_rng(step).normal(size=300_000))},
        'batch_stats': {},
    }
    return TrainState(
        step=jnp.asarray(step), variables=variables, optimizer=(), ema=variables, tail=variables,
        tail_count=jnp.asarray(0),
    )  # fmt: skip


def test_a_disk_that_takes_no_more_leaves_the_earlier_checkpoint(tmp_path):
    """The limit on a file's size makes the write itself fail, as a full disk does."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(tiny_state(1), {'a': 1})
    checkpoints.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        with pytest.raises(OSError, match='could not be written.*Earlier checkpoints are untouched'):
            checkpoints.save(tiny_state(2), {'a': 1})
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    again = Checkpoints(tmp_path, keep=2)
    restored = again.restore(tiny_state(0), {'a': 1})
    assert int(restored.step) == 1
    expected = tiny_state(1).variables['params']['a']
    np.testing.assert_array_equal(restored.variables['params']['a'], expected)


def test_a_full_disk_is_called_full(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def full(*unused, **unused_too):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(checkpoints._recent, 'save', full)
    with pytest.raises(OSError, match='the disk is full'):
        checkpoints.save(tiny_state(1), {})


def test_several_hosts_do_not_build_a_dataset_each(tmp_path, monkeypatch):
    config = synthetic.get_config()
    config.data.root = str(tmp_path)
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    with pytest.raises(FileNotFoundError, match='Build it'):
        setup.open_source(config, 'synthetic', 'train', smpl_file.load_body())
