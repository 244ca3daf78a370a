"""Training for so many minutes at a time: the command for a GPU, tried at toy size."""

import json
import time

import pytest

from configs import synthetic_gpu
from hybrik_jax import evaluate, train
from tests import helpers
from tests.test_training import checkpoints_in

# What makes a toy of configs/synthetic_gpu.py, which is otherwise as it stands: the compiled step is that of
# tests/tiny_config.py.
TOY = {
    'preset': 'exact',
    'image_size': 64,
    'batch_size': 8,
    'num_epochs': 2,
    'steps_per_epoch': 4,
    'model.backbone.depth': 18,
    'model.backbone.width': 16,
    'model.transformer.num_blocks': 1,
    'model.transformer.num_heads': 2,
    'model.transformer.width': 64,
    'model.transformer.ffn_width': 64,
    'data.synthetic.validation': 4,
    'data.synthetic.test': 4,
    'data.workers': 0,
    'loss.smpl_joints': 0.1,
    'optimizer.warmup_steps': 4,
    'log_every': 1,
    'tensorboard': False,
    'evaluation.flips': (False,),
}


def toy(workdir, data_root, **overrides):
    """Returns the configuration for a GPU, small."""
    config = synthetic_gpu.get_config()
    config.workdir, config.data.root = str(workdir), str(data_root)
    config.update_from_flattened_dict(TOY | {'keep_checkpoints': 9} | overrides)
    return config.lock()


@pytest.mark.slow  # compiles a step and an evaluation
def test_minutes_end_a_run_which_goes_on_and_is_scored(tmp_path, data_root, caplog):
    """Time that is up before the first step leaves room for one; then there is a checkpoint at every tick."""
    config = toy(tmp_path, data_root, minutes=2.0, checkpoint_minutes=1e-9)
    with caplog.at_level('INFO'), pytest.raises(SystemExit) as end:
        train.train(config, started=time.monotonic() - 120)
    assert end.value.code == 0 and checkpoints_in(tmp_path) == [1]
    assert 'Stopped at step 1; the same command goes on from there.' in caplog.text
    assert 'The 2 minutes are over at epoch 0.25 of 2.' in caplog.text
    state = train.train(config, started=time.monotonic() - 60)
    assert int(state.step) == 8 and int(state.tail_count) == 0 and state.averaged() == 'ema'
    assert checkpoints_in(tmp_path) == list(range(1, 9))
    result = evaluate.evaluate(config)
    assert result['step'] == 8 and {row['parameters'] for row in result['rows']} == {'raw', 'ema'}


def test_the_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(train.time, 'monotonic', lambda: now[0])
    clock = train._Clock(40.0, minutes=3.0, checkpoint_minutes=1.0)
    for seconds, over, unsaved in ((100.0, False, False), (160.0, False, True), (220.0, True, True)):
        now[0] = seconds
        assert (clock.is_over(), clock.is_unsaved()) == (over, unsaved), seconds
    clock.saved()
    assert clock.is_over() and not clock.is_unsaved()
    never = train._Clock(-1e9, minutes=0.0, checkpoint_minutes=0.0)
    assert not never.is_over() and not never.is_unsaved()


@pytest.mark.slow  # three processes, two of which compile
def test_the_commands_from_an_empty_folder(tmp_path):
    """As the configuration says: people are drawn for a part of the time, training stops, goes on, scores."""
    keys = TOY | {'workdir': tmp_path / 'run', 'data.root': tmp_path / 'data', 'num_epochs': 1000}
    command = ['-m', 'hybrik_jax.main', '--config=configs/synthetic_gpu.py', '--config.minutes=0.4']
    command += [f'--config.{key}={value}' for key, value in keys.items()]

    def run(*more: str) -> str:
        process = helpers.run_python(*command, *more)
        text, _ = process.communicate(timeout=900)
        assert process.returncode == 0, text
        return text

    steps = [0]
    for first in (True, False):
        text = run()
        assert ('left out: not made in the time that was given' in text) == first
        assert 'The 0.4 minutes are over' in text
        steps.append(checkpoints_in(tmp_path / 'run')[-1])
    assert 0 < steps[1] < steps[2]
    run('--mode=evaluate')
    assert json.loads((tmp_path / 'run' / 'evaluation.json').read_text())['step'] == steps[2]
