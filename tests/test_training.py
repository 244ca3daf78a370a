"""The training loop: killed and resumed, stopped, refused, averaged; bad labels; does it learn."""

import dataclasses
import json
import os
import shutil
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrik_jax import checkpoint, metric_writer, setup, train
from hybrik_jax import config as configuration
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.metric_writer import read_metrics
from hybrik_jax.step import TrainState, replicate
from tests import helpers
from tests.helpers import (
    batch_of,
    degenerate_skeletons,
    examples_of,
    figures,
    person,
    tiny_config,
    without_3d,
)

STEPS, TAIL_START = 12, 8  # of the tiny configuration
CHECKPOINT_EVERY = 3


def checkpoints_in(folder, kind='checkpoints'):
    """The steps of the finished checkpoints in a run's folder."""
    return sorted(int(path.name) for path in (folder / kind).iterdir() if path.name.isdigit())


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory, data_root):
    """(folder, final state) of a run of 12 steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, train.train(tiny_config(folder, data_root))


@pytest.fixture(scope='module')
def stopped_run(tmp_path_factory, data_root):
    """(folder, exit status) of the same run that got SIGTERM when step 4 was written down."""
    folder = tmp_path_factory.mktemp('stopped')

    class Writer(metric_writer.MetricWriter):
        def write(self, kind, step, values):
            super().write(kind, step, values)
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, 'MetricWriter', Writer)
        with pytest.raises(SystemExit) as end:
            train.train(tiny_config(folder, data_root))
    return folder, end.value.code


# ------------------------------------------------------------------------------------------------
# interruptions
def test_killed_and_resumed_is_uninterrupted(tmp_path, data_root, whole_run):
    """After kill -9 the run goes on from its last checkpoint: every figure and the final state are the
    same.
    """
    whole, whole_state = whole_run
    process = helpers.run_python(
        '-m',
        'hybrik_jax.main',
        '--config=tests/tiny_config.py',
        f'--config.workdir={tmp_path}',
        f'--config.data.root={data_root}',
    )
    metrics, end = tmp_path / 'metrics.jsonl', time.monotonic() + 600
    # Killed with a checkpoint on disk and steps beyond it.
    while not (
        metrics.exists() and len(read_metrics(metrics)) > CHECKPOINT_EVERY + 1 and checkpoints_in(tmp_path)
    ):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    done, last = len(read_metrics(metrics)), checkpoints_in(tmp_path)[-1]
    assert last < STEPS

    state = train.train(tiny_config(tmp_path, data_root))
    resumed, uninterrupted = figures(tmp_path), figures(whole)
    assert done > last and list(resumed) == list(uninterrupted)
    for at, row in uninterrupted.items():
        assert resumed[at] == pytest.approx(row, rel=1e-6), at
    assert helpers.largest_difference(state, whole_state) < 1e-6


def test_a_stopped_run_ends_orderly(stopped_run):
    """The step that follows the signal is finished and saved, and the exit status tells the signal."""
    folder, status = stopped_run
    assert status == 128 + signal.SIGTERM
    assert checkpoints_in(folder) == [3, 5]
    assert max(step for _, step in figures(folder)) == 5
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_nonfinite_loss_stops_the_run(tmp_path, data_root, stopped_run, monkeypatch):
    """The message names the step, the batch is kept, earlier checkpoints stay, none is written of it."""
    folder = shutil.copytree(stopped_run[0], tmp_path / 'run')

    class Poisoned:
        """The training people, one of them with a shape that is no number."""

        def __init__(self, source):
            self.source = source

        def __len__(self):
            return len(self.source)

        def __getitem__(self, index):
            one = self.source[index]
            return one | {'betas': np.full(10, np.nan, np.float32)} if index == 7 else one

    sources = setup.training_sources
    monkeypatch.setattr(
        setup, 'training_sources', lambda *a: {k: Poisoned(s) for k, s in sources(*a).items()}
    )
    with pytest.raises(
        FloatingPointError, match=r'Step \d+: loss or gradient is not finite \(.*nan'
    ) as error:
        train.train(tiny_config(folder, data_root))
    step = int(str(error.value).split()[1].rstrip(':'))
    assert 6 <= step <= 8  # every person is seen once in three steps
    (saved,) = folder.glob('nonfinite_step_*.npz')
    assert saved.name == f'nonfinite_step_{step}_host_0.npz' and str(saved) in str(error.value)
    batch = np.load(saved)
    assert np.isnan(batch['betas']).all(1).sum() == 1 and batch['image'].shape == (8, 64, 64, 3)
    assert checkpoints_in(folder)[-1] < step and checkpoints_in(folder)[0] >= 3
    assert checkpoint.load(folder).step == checkpoints_in(folder)[-1]


def test_another_configuration_is_refused(data_root, whole_run):
    """All keys that differ are named, with both values; the folder stays as it is."""
    folder, _ = whole_run
    before = figures(folder)
    other = tiny_config(folder, data_root, seed=3, optimizer__learning_rate=0.25)
    with pytest.raises(ValueError, match='belongs to another configuration') as error:
        train.train(other)
    assert 'seed: 0 there, 3 now' in str(error.value)
    assert 'optimizer.learning_rate: 0.0005 there, 0.25 now' in str(error.value)
    assert figures(folder) == before
    assert json.loads((folder / 'config.json').read_text())['seed'] == 0


def test_what_may_change_when_a_run_goes_on():
    a = {'workdir': 'x', 'data': {'root': 'y', 'workers': 0}, 'seed': 1, 'gone': 2}
    b = {'workdir': 'z', 'data': {'root': 'q', 'workers': 2}, 'seed': 1, 'new': (1, 2)}
    assert configuration.differences(a, b) == [
        "gone: 2 there, '(absent)' now",
        "new: '(absent)' there, [1, 2] now",
    ]


# ---- what is written
def test_files_of_a_run(whole_run, data_root):
    """The last two checkpoints and the best one are kept, as configured; each has what a run needs to go
    on.
    """
    folder, state = whole_run
    assert checkpoints_in(folder) == [9, 12]
    assert checkpoints_in(folder, 'best') == [12]
    assert len(figures(folder)) == STEPS + 1
    run = checkpoint.load(folder)
    assert run.step == STEPS and run.config == configuration.plain(tiny_config(folder, data_root))
    assert helpers.largest_difference(run.state.variables, state.variables) == 0
    assert int(run.state.tail_count) == int(state.tail_count) > 0
    with pytest.raises(FileNotFoundError, match='holds no checkpoints'):
        checkpoint.load(folder / 'nothing')


def small_state(step):
    variables = {'params': {'w': jnp.full(3, float(step))}, 'batch_stats': {}}
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        variables=variables,
        optimizer={'count': jnp.asarray(step)},
        ema=variables,
        tail=variables,
        tail_count=jnp.asarray(0),
    )


def test_the_best_and_the_last_are_kept(tmp_path):
    """A lower score is better; a step without a score, or with one that is no number, is never the best."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, score in ((1, 5.0), (2, 3.0), (3, 4.0), (4, float('nan')), (5, None)):
        checkpoints.save(small_state(step), {'seed': 0}, score=score)
    checkpoints.close()
    assert checkpoints_in(tmp_path) == [4, 5]
    assert checkpoints_in(tmp_path, 'best') == [2]
    again = Checkpoints(tmp_path, keep=2)
    last = again.restore(small_state(0), {'seed': 0})
    best = again.restore(small_state(0), {'seed': 0}, best=True)
    assert (int(last.step), int(best.step)) == (5, 2)
    assert best.variables['params']['w'].tolist() == [2, 2, 2]
    again.save(small_state(6), {'seed': 0}, score=2.0)
    again.close()
    assert checkpoints_in(tmp_path) == [5, 6] and checkpoints_in(tmp_path, 'best') == [6]
    assert checkpoint.load(tmp_path, best=True).step == 6


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    """The configuration is the same, the arrays are not: the message names one that differs."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(small_state(1), {})
    checkpoints.close()
    other = small_state(0)
    other = dataclasses.replace(
        other, variables=jax.tree.map(lambda x: np.zeros((*x.shape, 2)), other.variables)
    )
    message = 'step 1 .*does not fit this network: 1 of 6 arrays differ .*params.w: .3,. there, .3, 2. now'
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path).restore(other, {})


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    assert Checkpoints(tmp_path).restore(small_state(0), {}) is None


# ---- the step
# alone
@pytest.fixture(scope='module')
def tiny(data_root):
    """The step of the tiny configuration; the same program as the runs above."""
    return helpers.trainer(tiny_config('unused', data_root))


@pytest.fixture(scope='module')
def people():
    return [person(i) for i in range(8)]


def is_healthy(before, state, rows):
    """Whether updates were made, with nothing in them that is no number."""
    moved = helpers.largest_difference(before['params'], state.variables['params']) > 0
    return all(row['finite'] == 1 for row in rows) and helpers.all_finite(state) and moved


def test_it_learns_and_averages(tiny, people):
    """On one batch the loss falls by 40 % in 40 steps; tail and EMA are the means that they are said to
    be.
    """
    batch = batch_of(people)
    state = tiny.initial()
    ema = jax.tree.map(np.array, state.variables)
    rows, tail, last = [], [], 40
    for step in range(1, last + 1):
        state, (row,) = tiny.run(state, batch)
        rows.append(row)
        decay = min(0.999, (1 + step) / (10 + step))
        ema = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * np.asarray(new), ema, state.variables
        )
        if step <= TAIL_START:
            assert int(state.tail_count) == 0
            assert state.averaged() == 'ema'
            with pytest.raises(ValueError, match=f'tail average has not begun at step {step}'):
                state.parameters('tail')
        elif step <= TAIL_START + 4:
            tail.append(jax.tree.map(np.array, state.variables))
        if step == TAIL_START + 4:
            mean = jax.tree.map(lambda *x: np.mean(x, axis=0, dtype=np.float64), *tail)
            assert int(state.tail_count) == 4 and state.averaged() == 'tail'
            assert helpers.largest_difference(mean, state.parameters('tail')) < 1e-5
            assert helpers.largest_difference(ema, state.parameters('ema')) < 1e-5
    assert int(state.step) == last and state.parameters('raw') is state.variables
    losses = [row['loss'] for row in rows]
    assert np.mean(losses[-3:]) < 0.6 * losses[0], losses


def test_a_bad_batch_makes_no_update(tiny, people):
    state, _ = tiny.run(tiny.initial(), batch_of(people), 2)
    before = jax.tree.map(np.array, state)
    bad = examples_of(people)['uvd']
    bad[3, 5, 0] = np.nan
    state, (row,) = tiny.run(state, batch_of(people, uvd=bad))
    assert row['finite'] == 0 and np.isnan(row['loss'])
    assert int(state.step) == 3
    for name in ('variables', 'optimizer', 'ema', 'tail', 'tail_count'):
        assert helpers.largest_difference(getattr(before, name), getattr(state, name)) == 0, name


@pytest.mark.parametrize('labels', ['all 2D', 'degenerate', 'nothing at all'])
def test_odd_labels_give_finite_gradients(tiny, people, labels):
    """No 3D label anywhere, skeletons without extent or with bones turned back, no label of any kind."""
    state = tiny.initial()
    before = jax.tree.map(np.array, state.variables)
    if labels == 'all 2D':
        batch = batch_of([without_3d(p) for p in people])
    elif labels == 'degenerate':
        fields = examples_of(people)
        joints = degenerate_skeletons(
            np.concatenate([fields['joints_m'], np.zeros((8, 5, 3), np.float32)], 1)
        )
        batch = batch_of(people, uvd=degenerate_skeletons(fields['uvd']), joints_m=joints[:, :24])
    else:
        weights = {k: np.zeros_like(v) for k, v in examples_of(people).items() if k.endswith('weight')}
        batch = batch_of(people, inverse_intrinsics=np.zeros((8, 3, 3), np.float32), **weights)
    state, rows = tiny.run(state, batch, 2)  # the first update has rate 0
    if labels == 'nothing at all':
        assert all(row['finite'] == 1 and row['loss'] == 0 == row['gradient_norm'] for row in rows)
    else:
        assert is_healthy(before, state, rows), rows


def silenced(variables):
    """The variables with every head at zero: all joints in one point, twists and leaf rotations without
    length.
    """
    params = jax.tree.map(np.array, variables['params'])
    for name, head in params['lifting'].items():
        if name.startswith('head_'):
            params['lifting'][name] = jax.tree.map(np.zeros_like, head)
    return variables | {'params': params}


@pytest.mark.parametrize('cameras', ['known', 'unknown'])
def test_a_network_that_says_nothing_gets_finite_gradients(tiny, people, cameras):
    """Predicted skeletons without extent, through camera, inverse kinematics and loss; then it moves on."""
    state = tiny.initial()
    variables = silenced(state.variables)
    state = replicate(dataclasses.replace(state, variables=variables))
    state, rows = tiny.run(
        state, batch_of(people if cameras == 'known' else [without_3d(p) for p in people]), 3
    )
    assert is_healthy(variables, state, rows), rows


@pytest.mark.slow  # a minute: transposed convolutions are slow on a CPU
def test_the_deconvolution_baseline_trains(data_root, people):
    """29 joints, all-2D and 3D examples mixed: finite, and the statistics of its own normalisation move."""
    trainer = helpers.trainer(
        tiny_config('unused', data_root, model__lifting='deconv', model__deconv__num_joints=29)
    )
    state = trainer.initial()
    before = jax.tree.map(np.array, state.variables)
    mixed = [without_3d(p) if i % 2 else p for i, p in enumerate(people)]
    state, rows = trainer.run(state, batch_of(mixed), 2)
    assert is_healthy(before, state, rows), rows
    moved = jax.tree.map(lambda a, b: bool((a != np.asarray(b)).any()), before, state.variables)
    assert all(jax.tree.leaves(moved['batch_stats'])) and all(jax.tree.leaves(moved['params']['lifting']))
