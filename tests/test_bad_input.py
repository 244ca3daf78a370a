"""What a user can get wrong on the command line or on disk, and the message that says so.

Values of configuration keys are in test_config.py, the folder of a run in test_workdir.py, body files
(malicious pickle, wrong keys, regressor of another body) in test_body.py, records and images in
test_synthetic.py and test_pipeline.py, boxes and photos in test_predict.py, checkpoints of another
configuration and non-finite losses in test_training.py.
"""

import errno
import json
import logging
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import hybrik_jax.synthetic
from configs import default, synthetic
from hybrik_jax import evaluate, main, setup, workdir
from hybrik_jax.body import smpl_file
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.step import TrainState

ROOT = pathlib.Path(__file__).parent.parent


def run_main(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'hybrik_jax.main', *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


CONFIG = '--config=configs/synthetic.py'
WRONG = [  # command line, what the one line says
    ([CONFIG, '--config.batchsize=3'], "There is no key 'batchsize': did you mean batch_size?"),
    ([CONFIG, '--config.model.backbone.dept=34'], 'did you mean model.backbone.depth?'),
    ([CONFIG, '--config.evaluaton.root=predicted'], 'did you mean evaluation.root?'),
    ([CONFIG, '--config.optimiser.learning_rate', '1'], 'did you mean optimizer.learning_rate?'),
    ([CONFIG, '--noconfig.tensorbord'], 'did you mean tensorboard?'),
    ([CONFIG, '--config.data.mixture.coco=0.5'], 'no such dataset. Give all of --config.data.mixture='),
    ([CONFIG, '--config.batch_size=many'], "batch_size='many' should be a valid integer"),
    ([CONFIG, '--config.batch_size', '2.5'], "batch_size='2.5' should be a valid integer"),
    ([CONFIG, '--config.optimizer.b1=1e'], "optimizer.b1='1e' should be a valid number"),
    ([CONFIG, '--config.tensorboard=perhaps'], "tensorboard='perhaps' should be a valid boolean"),
    ([CONFIG, '--config.evaluation.flips=(True,'], "evaluation.flips='(True,' should be a valid tuple"),
    ([CONFIG, '--config.seed'], 'Missing value for flag --config.seed'),
    ([CONFIG, '--config.model=3'], '--config.model=3'),
    ([CONFIG, '--mode=predict'], 'train|evaluate'),
    ([CONFIG, '--confg.seed=1'], "Unknown command line flag 'confg.seed'"),
    ([CONFIG, 'config.batch_size=8'], 'Overrides look like --config.batch_size=64'),
    ([], '--config'),
    (['--config.seed=1', CONFIG], '--config.seed=1 in argv before'),
    (['--config=configs/nothing.py'], 'configs/nothing.py cannot be read: No such file'),
    (
        ['--config', 'configs/nothing.py', '--config.seed=1'],
        'configs/nothing.py cannot be read: No such file',
    ),
    (['--config=configs'], 'configs cannot be read: Is a directory'),
    (['--config=README.md'], 'README.md cannot be used: SyntaxError'),
]
WRONG_FILES = {  # content of a configuration file, what the one line says
    'import nothing_here': "ModuleNotFoundError: No module named 'nothing_here'",
    'x = 1': "has no attribute 'get_config'",
    'def get_config(): return {}': 'get_config() gives dict, not ConfigDict',
    'def get_config(): raise ValueError("not today")': 'ValueError: not today',
    'def get_config(): return unknown': "NameError: name 'unknown' is not defined",
    'def get_config(kind): return kind': 'TypeError: get_config() missing 1 required positional argument',
    'from configs import default\ndef get_config():\n    config = default.get_config()\n'
    '    config.modell.x = 1': 'did you mean "model" instead of "modell"?',
}
# Flags are parsed once in a process: a process for each command line, all of them from one that has JAX.
IN_TURN = """
import json, os, sys
from absl import app
from hybrik_jax import config, main
for arguments in json.loads(sys.argv[1]):
    if child := os.fork():
        print(f' status {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}', flush=True)
    else:
        sys.argv = ['main', *arguments]
        try:
            app.run(main.main, flags_parser=main.parse)
        except SystemExit as stop:
            sys.stderr.flush()
            os._exit(stop.code)  # at once, without JAX's own end
"""


@pytest.fixture(scope='module')
def answers(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """Command line -> exit status and what it wrote, of all that cannot be."""
    lines = [arguments for arguments, _ in WRONG]
    for number, content in enumerate(WRONG_FILES):
        path = tmp_path_factory.mktemp('configs') / f'config_{number}.py'
        path.write_text(content)
        lines.append([f'--config={path}'])
    command = [sys.executable, '-c', IN_TURN, json.dumps(lines)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    *answers, rest = re.split(r' status (\S+)\n', done.stdout)
    assert not rest and len(answers) == 2 * len(lines)
    given = [*(repr(arguments) for arguments, _ in WRONG), *WRONG_FILES]
    return {one: (int(answers[2 * i + 1]), answers[2 * i]) for i, one in enumerate(given)}


@pytest.mark.parametrize(
    ('given', 'message'),
    [*((repr(arguments), message) for arguments, message in WRONG), *WRONG_FILES.items()],
)
def test_a_command_line_that_cannot_be_ends_in_one_line(given, message, answers):
    status, said = answers[given]
    assert status == 2
    assert message.lower() in said.lower()
    assert said.count('\n') == 1 and 'Traceback' not in said


def test_help_and_traceback_on_demand():
    assert 'Configuration file, see configs/' in run_main('--help').stdout
    result = run_main(CONFIG, '--config.batchsize=3', '--debug')
    assert result.returncode != 0 and 'Traceback' in result.stderr


def test_a_value_that_cannot_be_is_refused_before_anything_starts(tmp_path):
    path = tmp_path / 'run'
    result = run_main(CONFIG, '--config.model.transformer.dropout=2', f'--config.workdir={path}')
    assert result.returncode == 1 and not path.exists()
    assert 'model.transformer.dropout=2.0 should be less than 1' in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_missing_dataset_is_a_message_not_a_traceback(tmp_path):
    result = run_main(
        CONFIG,
        f'--config.workdir={tmp_path / "run"}',
        f'--config.data.root={tmp_path}',
        '--config.data.mixture={"coco": 1.0}',
        '--config.data.validation=coco',
        '--config.data.test=pw3d',
    )
    assert result.returncode == 1
    assert "There is no dataset 'coco'" in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_second_run_in_a_workdir_is_a_message_not_a_traceback(tmp_path):
    with workdir.lock(tmp_path):
        result = run_main(CONFIG, f'--config.workdir={tmp_path}', f'--config.data.root={tmp_path / "data"}')
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert f'{tmp_path} is in use by process {os.getpid()} on host' in result.stderr
    assert not (tmp_path / 'data').exists()


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[pathlib.Path, dict[str, int]]]:
    """What was asked of the drawing of synthetic people, which does nothing."""
    asked = []

    def build(folder, **sizes):
        asked.append((folder, sizes))

    fake = types.SimpleNamespace(build=build)
    monkeypatch.setitem(sys.modules, 'hybrik_jax.synthetic.reader', fake)
    monkeypatch.setattr(hybrik_jax.synthetic, 'reader', fake, raising=False)
    return asked


@pytest.mark.parametrize(
    ('changes', 'wanted'),
    [
        ({}, True),
        ({'data.mixture': {'coco': 1.0}}, True),  # watched and tested still
        (
            {'data.mixture': {'coco': 1.0, 'synthetic': 0.0}, 'data.validation': 'coco', 'data.test': 'coco'},
            False,
        ),
        ({'data.mixture': {'coco': 1.0}, 'data.validation': 'coco'}, True),
        ({'data.mixture': {'coco': 1.0}, 'data.validation': 'coco', 'evaluation.datasets': ('pw3d',)}, False),
    ],
)
def test_missing_people_are_drawn_where_they_are_wanted(tmp_path, drawn, caplog, changes, wanted):
    config = default.get_config()
    config.data.root, config.minutes = str(tmp_path), 10.0
    with config.unlocked():
        for key, value in changes.items():
            section, name = key.split('.')
            config[section][name] = ConfigDict(value) if isinstance(value, dict) else value
    with caplog.at_level(logging.INFO):
        main.draw_missing_people(config, hosts=1)
    how = {'workers': os.cpu_count(), 'minutes': 2.5}
    sizes = {'train': 20000, 'validation': 500, 'test': 1000, 'seed': 0, 'train_size': 0}
    assert drawn == ([(tmp_path / 'synthetic', sizes | how)] if wanted else [])
    assert len(caplog.records) == wanted


def test_people_that_are_there_are_not_drawn_again(data_root, drawn):
    config = default.get_config()
    config.data.root = str(data_root)
    main.draw_missing_people(config, hosts=1)
    assert not drawn


def test_several_hosts_do_not_draw_people_each(tmp_path, drawn):
    config = default.get_config()
    config.data.root = str(tmp_path)
    with pytest.raises(FileNotFoundError, match='before several hosts start'):
        main.draw_missing_people(config, hosts=2)
    assert not drawn


def test_evaluating_a_folder_without_checkpoints(tmp_path, monkeypatch):
    config = synthetic.get_config()
    config.workdir = str(tmp_path / 'nothing')
    monkeypatch.setattr(setup, 'open_source', lambda *unused: [])
    with pytest.raises(FileNotFoundError, match='holds no checkpoints.*Give the workdir of a run'):
        evaluate.evaluate(config)


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
