"""The training loop, from an empty folder (or where a run was stopped) to an evaluated network."""

import json
import logging
import math
import pathlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from hybrik_jax import config as configuration
from hybrik_jax import ending, setup, workdir
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.data import pipeline
from hybrik_jax.evaluate import errors_mm, measure_split
from hybrik_jax.metric_writer import MetricWriter
from hybrik_jax.step import (
    TrainState,
    parallel_eval_step,
    parallel_train_step,
    replicate,
    split_over_devices,
)

LOG = logging.getLogger(__name__)
WATCHED = ('mpjpe_mm', 'mpjpe_24_mm', 'mrpe_mm')  # the best checkpoint is that of the first one that there is


def train(config: ConfigDict, *, started: float | None = None) -> TrainState:
    """Returns the final state of a run as `config` says, from the last checkpoint in its workdir on.

    Writes into the workdir: config.json, metrics.jsonl, tensorboard/, checkpoints/, best/. SIGTERM, SIGINT
    and the end of `config.minutes` end it after the running step with a checkpoint, and the process, too; the
    same command goes on from there.

    Args:
        started: the `time.monotonic()` from which `config.minutes` count; None: they begin now.
    Raises:
        ValueError: the configuration does not fit the devices, the data or the checkpoint that is there.
        FloatingPointError: the loss is not finite; the batch is saved and the message names the step.
        SystemExit: it was ended before its last step: with the status 128 + signal, or 0 when time was up.
    """
    started = time.monotonic() if started is None else started
    config = configuration.resolved(config)
    host, hosts, devices = jax.process_index(), jax.process_count(), jax.device_count()
    configuration.check(config, devices=devices, hosts=hosts)
    path = workdir.create(config.workdir)
    with workdir.lock(path) if host == 0 else nullcontext():
        return _train(config, path, started)


def _train(config: ConfigDict, path: pathlib.Path, started: float) -> TrainState:
    """Returns the final state of a run whose folder `path` is ours alone; see `train`."""
    host, hosts, devices = jax.process_index(), jax.process_count(), jax.device_count()
    body = setup.load_body(config)
    sources = setup.training_sources(config, body)
    validation = setup.open_source(config, config.data.validation, config.data.validation_split, body)
    network = setup.create_network(config, body)
    total_steps, epoch_steps = setup.training_length(config, sources)
    every = {
        'validate': config.validate_every or epoch_steps,
        'checkpoint': config.checkpoint_every or epoch_steps,
    }

    plain_config = configuration.plain(config)
    checkpoints = Checkpoints(path, keep=config.keep_checkpoints)
    restored = checkpoints.restore(setup.state_shapes(config, network), plain_config)
    state = replicate(setup.initial_state(config, network) if restored is None else restored)
    start = int(state.step)
    writer = MetricWriter(path, tensorboard=config.tensorboard, active=host == 0)
    writer.forget_after(start)
    if host == 0:
        ending.write_whole(path / 'config.json', json.dumps(plain_config, indent=1) + '\n')
    count = sum(x.size for x in jax.tree.leaves(state.variables['params']))
    LOG.info(
        '%s: %.1f M parameters, %d devices on %d hosts, steps %d..%d, batch %d.',
        *(config.model.lifting, count / 1e6, devices, hosts, start, total_steps, config.batch_size),
    )
    if config.pretrained.network:
        LOG.info('The run begins with the network %s.', config.pretrained.network)
    elif not config.pretrained.backbone:
        LOG.info('The backbone is trained from scratch: config.pretrained.backbone names no weights.')

    step_fn = parallel_train_step(**setup.step_settings(config, network, total_steps, epoch_steps))
    body_on_device = replicate(setup.body_of_step(config, body))
    examples = pipeline.training_examples(
        sources,
        config.data.mixture,
        settings=setup.augmentation_settings(config),
        crop_size=config.image_size,
        seed=config.seed,
    )
    batches = pipeline.training_batches(
        examples,
        batch_size=config.batch_size,
        start_step=start,
        host=host,
        hosts=hosts,
        threads=config.data.read_threads,
        prefetch=config.data.prefetch,
        workers=config.data.workers,
    )

    eval_step = parallel_eval_step(network=network, flip=False)
    whole_body = jax.device_put(body)

    def validate(state: TrainState) -> float:
        variables = state.parameters(config.validate_parameters)
        frames = measure_split(
            {'': partial(eval_step, variables, whole_body)},
            validation,
            batch_size=config.evaluation.batch_size or config.batch_size,
            crop_size=config.image_size,
            threads=config.data.read_threads,
            prefetch=config.data.prefetch,
            examples=config.data.validation_examples,
            title='validate',
        )['']
        errors = {measure: float(values.mean()) for measure, values in errors_mm(frames).items()}
        writer.write('validation', int(state.step), errors)
        watched = [errors[measure] for measure in WATCHED if measure in errors]
        if not watched:
            raise ValueError(
                f'data.validation={config.data.validation!r} has no label to watch this network by: choose a '
                'dataset with joints in 3D, for a RootNet one with cameras.'
            )
        return watched[0]

    stop = ending.Request()
    clock = _Clock(started, minutes=config.minutes, checkpoint_minutes=config.checkpoint_minutes)
    in_flight: deque[tuple[int, dict, dict]] = deque()  # steps whose metrics have not been looked at yet
    meter = _Meter(config.batch_size, names=list(sources))
    bar = tqdm(total=total_steps, initial=start, desc='train', unit='step', disable=host != 0, mininterval=2)
    # However the loop ends, what was saved is on disk before anybody hears of it.
    with stop, closing(checkpoints), closing(writer), closing(bar), closing(batches):
        for step in range(start + 1, total_steps + 1):
            with meter.clock('waiting for data'):
                fields = next(batches)
            batch = split_over_devices(pipeline.to_batch(fields), jax.local_device_count())
            state, metrics = step_fn(state, body_on_device, batch)
            stop.worth_waiting = True
            in_flight.append((step, metrics, fields))
            meter.step(fields[pipeline.SOURCE])
            due = {name: step % n == 0 or step == total_steps for name, n in every.items()}
            log_now = step % config.log_every == 0 or step == start + 1
            # Looking at a step's figures waits for it: staying one behind, the device never waits for us.
            # Several hosts must stop at one step; they ask each other now and then: it costs a round trip.
            signalled = over = 0
            if hosts == 1 or log_now:
                signalled, over, unsaved = _anywhere(stop.requested, clock.is_over(), clock.is_unsaved())
                due['checkpoint'] |= bool(unsaved)
            stopping = signalled or (over and step < total_steps)
            settle = log_now or any(due.values()) or stopping
            while len(in_flight) > (0 if settle else 1):
                metrics = _checked(*in_flight.popleft(), folder=path, host=host)
            bar.update()
            if log_now:
                figures = {k: float(v) for k, v in metrics.items() if k != 'finite'}
                writer.write('train', step, figures | meter.read() | {'epoch': step / epoch_steps})
                bar.set_postfix(loss=f'{figures["loss"]:.3f}')
            with meter.clock('no training'):
                score = validate(state) if due['validate'] else None
                if due['checkpoint'] or score is not None or stopping:
                    checkpoints.save(state, plain_config, score=score)
                    clock.saved()
            if stopping:
                checkpoints.wait_for_all_hosts()
                LOG.info('Stopped at step %d; the same command goes on from there.', step)
                if signalled:
                    sys.exit(128 + signalled)
                said = f'The {config.minutes:g} minutes are over at epoch {step / epoch_steps:.2f}'
                LOG.info('%s of %d. --mode evaluate scores what was learned.', said, config.num_epochs)
                sys.exit(0)
        checkpoints.wait_for_all_hosts()
        (signalled,) = _anywhere(stop.requested)
        if signalled:
            sys.exit(128 + signalled)
    return state


def _anywhere(*numbers: int) -> list[int]:
    """Returns the largest that any host has of each number; all hosts must call it at the same step."""
    if jax.process_count() == 1:
        return list(numbers)
    return multihost_utils.process_allgather(np.array(numbers, np.int32)).max(0).tolist()


def _checked(
    step: int, metrics: dict, fields: dict[str, np.ndarray], *, folder: pathlib.Path, host: int
) -> dict:
    """Returns the metrics of a step as numpy; raises where its loss or gradient was not finite."""
    metrics = {name: np.asarray(value) for name, value in metrics.items()}
    if metrics['finite']:
        return metrics
    path = folder / f'nonfinite_step_{step}_host_{host}.npz'
    np.savez_compressed(path, **fields)
    terms = ', '.join(
        f'{k} {float(v):.4g}' for k, v in metrics.items() if k.startswith('loss') or 'norm' in k
    )
    raise FloatingPointError(
        f'Step {step}: loss or gradient is not finite ({terms}). The batch is in {path}; the update was not '
        'made, and the checkpoints are of earlier steps. Look for bad labels in the batch, or lower '
        '--config.optimizer.learning_rate.'
    )


class _Clock:
    """What is due by the clock: the end of the run, a checkpoint. 0 minutes are never over."""

    def __init__(self, started: float, *, minutes: float, checkpoint_minutes: float):
        self.end = started + 60 * minutes if minutes else math.inf
        self.between = 60 * checkpoint_minutes if checkpoint_minutes else math.inf
        self.saved()

    def saved(self) -> None:
        """Begins the time to the next checkpoint."""
        self.last = time.monotonic()

    def is_over(self) -> bool:
        """Returns whether the run's time is up."""
        return time.monotonic() >= self.end

    def is_unsaved(self) -> bool:
        """Returns whether there was no checkpoint for too long."""
        return time.monotonic() >= self.last + self.between


class _Meter:
    """Figures between two reads: speed, share of time spent waiting for data, shares of the datasets."""

    def __init__(self, batch_size: int, *, names: list[str]):
        self.batch_size, self.names = batch_size, names
        self._reset()

    def _reset(self) -> None:
        self.steps, self.started = 0, time.perf_counter()
        self.seconds = {'waiting for data': 0.0, 'no training': 0.0}
        self.counts = np.zeros(len(self.names), int)

    @contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """Counts the time that passes in it as 'waiting for data' or 'no training'."""
        began = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - began

    def step(self, sources: np.ndarray) -> None:
        """Counts one step, whose examples are from datasets number `sources` (B,)."""
        self.steps += 1
        self.counts += np.bincount(sources, minlength=len(self.names))

    def read(self) -> dict[str, float]:
        """Returns the figures since the last read, of this host."""
        seconds = max(time.perf_counter() - self.started - self.seconds['no training'], 1e-9)
        shares = self.counts / max(self.counts.sum(), 1)
        figures = {
            'images_per_second': self.steps * self.batch_size / seconds,
            'step_seconds': seconds / max(self.steps, 1),
            'data_wait_share': self.seconds['waiting for data'] / seconds,
            **{f'share_{name}': float(share) for name, share in zip(self.names, shares, strict=True)},
        }
        self._reset()
        return figures
