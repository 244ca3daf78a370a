"""Checkpoints: the last few and the best, with everything that a run needs to go on. The only user of orbax.

A run's folder has `checkpoints/` (the last ones, to resume from) and `best/` (the best by validation). Each
holds parameters, averages, optimizer, step, data position and configuration; orbax writes under another name
and renames, so that a kill leaves no half checkpoint.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from hybrik_jax.step import TrainState

# Keys that may change between a run and its continuation, or its evaluation.
FREE_KEYS = (
    'workdir',
    'num_epochs',
    'log_every',
    'validate_every',
    'checkpoint_every',
    'keep_checkpoints',
    'tensorboard',
    'evaluation',
    'pretrained',
    'data.root',
    'data.read_threads',
    'data.prefetch',
    'data.workers',
    'data.test',
)

LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        workdir: the run's folder.
        keep: how many of the last ones to keep.
    """

    def __init__(self, workdir: str | pathlib.Path, *, keep: int = 3):
        self.workdir = pathlib.Path(workdir).absolute()
        recent = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        best = ocp.CheckpointManagerOptions(
            max_to_keep=1, create=True, best_fn=lambda metrics: metrics['score'], best_mode='min'
        )
        self._recent = ocp.CheckpointManager(self.workdir / 'checkpoints', options=recent)
        self._best = ocp.CheckpointManager(self.workdir / 'best', options=best)

    def latest_step(self) -> int | None:
        """Returns the step of the last checkpoint, None where there is none."""
        return self._recent.latest_step()

    def save(self, state: TrainState, config: dict[str, Any], *, score: float | None = None) -> None:
        """Writes a checkpoint, in the background; with a `score` (lower is better) also among the best.

        Args:
            config: the run's configuration as plain nested dicts.
        """
        step = int(state.step)
        # The position in the data stream is the step: see `data.pipeline`.
        meta = {'step': step, 'data_position': step, 'config': config}
        tree = _as_tree(state)
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
        with _explaining(self.workdir):
            # One at a time: orbax counts its barriers between hosts per process, whichever manager meets at
            # them.
            self._best.wait_until_finished()
            if step not in self._recent.all_steps():
                self._recent.save(step, args=items)
            if score is not None and np.isfinite(score) and step not in self._best.all_steps():
                self._recent.wait_until_finished()
                self._best.save(step, args=items, metrics={'score': float(score)})

    def wait(self) -> None:
        """Returns when everything is on disk."""
        with _explaining(self.workdir):
            self._recent.wait_until_finished()
            self._best.wait_until_finished()

    def wait_for_all_hosts(self) -> None:
        """Returns when everything of every host is on disk; all hosts must call it. None then leaves the
        others.
        """
        self.wait()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices('checkpoints are written')

    def restore(self, state: TrainState, config: dict[str, Any], *, best: bool = False) -> TrainState | None:
        """Returns the last (or the best) state, None where there is none.

        Args:
            state: a state of the same network and optimizer, for the structure.
            config: what the run is about to do; it must agree with the checkpoint's (`FREE_KEYS` may differ).
        Raises:
            ValueError: the checkpoint belongs to another configuration; the message lists what differs.
        """
        manager = self._best if best else self._recent
        step = manager.latest_step()
        if step is None:
            return None
        saved = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']
        differing = differences(saved['config'], config)
        if differing:
            raise ValueError(
                f'The checkpoint of step {step} in {self.workdir} belongs to another configuration:\n  '
                + '\n  '.join(differing)
                + '\nGive another --config.workdir, or the configuration that it was made with.'
            )
        return _restore_state(manager, step, state)

    def close(self) -> None:
        """Waits and releases the folders."""
        self.wait()
        self._recent.close()
        self._best.close()


def load(folder: str | pathlib.Path, *, best: bool = False) -> tuple[int, dict[str, Any], Any]:
    """Returns (step, configuration, tree of arrays) of a run's last or best checkpoint, for prediction and
    export.

    Raises FileNotFoundError where the folder holds no run.
    """
    folder = pathlib.Path(folder).absolute()
    kind = 'best' if best else 'checkpoints'
    path = folder / kind
    if not path.is_dir():
        raise FileNotFoundError(
            f'{folder} holds no checkpoints: {path} is missing. Give the workdir of a run.'
        )
    manager = ocp.CheckpointManager(path, options=ocp.CheckpointManagerOptions(read_only=True))
    step = manager.latest_step()
    if step is None:
        raise FileNotFoundError(f'{path} holds no finished checkpoint. Train first, or give another workdir.')
    meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']
    state = path / str(step) / 'state'
    tree = ocp.StandardCheckpointer().restore(state, _as_numpy(_described(state)))
    manager.close()
    return step, meta['config'], tree


def differences(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Returns a line for every key, but the free ones, in which two configurations differ."""
    saved, wanted = _flat(saved), _flat(json.loads(json.dumps(wanted)))
    lines = []
    for key in sorted(saved.keys() | wanted.keys()):
        free = any(key == k or key.startswith(k + '.') for k in FREE_KEYS)
        if not free and saved.get(key, '(absent)') != wanted.get(key, '(absent)'):
            lines.append(f'{key}: {saved.get(key, "(absent)")!r} there, {wanted.get(key, "(absent)")!r} now')
    return lines


def _flat(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat


def _as_tree(state: TrainState) -> dict[str, Any]:
    """Returns the state as nested dicts; where there are several hosts, as global arrays, which orbax asks
    for.
    """
    tree = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    if jax.process_count() > 1:
        return jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, tree)
    # One copy now: the training step that follows gives its input's memory away.
    return jax.tree.map(np.array, tree)


def _described(path: pathlib.Path) -> Any:
    """Returns the saved tree at `path` with shapes and dtypes in place of arrays."""
    return ocp.StandardCheckpointer().metadata(path).item_metadata


def _as_numpy(tree: Any) -> Any:
    """Returns what orbax reads a tree (leaves with shape and dtype) as NumPy arrays for, whatever devices
    wrote it.
    """
    return jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), tree)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of every array of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='.'): tuple(leaf.shape) for path, leaf in leaves
    }


def _restore_state(manager: ocp.CheckpointManager, step: int, state: TrainState) -> TrainState:
    tree = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    saved, wanted = _shapes(_described(pathlib.Path(manager.directory) / str(step) / 'state')), _shapes(tree)
    differing = sorted(name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
    if differing:
        shown = '; '.join(
            f'{n}: {saved.get(n, "absent")} there, {wanted.get(n, "absent")} now' for n in differing[:5]
        )
        raise ValueError(
            f'The checkpoint of step {step} in {manager.directory} does not fit this network: {len(differing)} '
            f'of {len(wanted)} arrays differ ({shown}). Was it made by another version of the program?'
        )
    restored = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_as_numpy(tree)))
    )['state']
    # Host copies: the training step decides where they live.
    local = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), restored)
    LOG.info('Restored step %d from %s.', step, manager.directory)
    return TrainState(**local)


@contextlib.contextmanager
def _explaining(workdir: pathlib.Path) -> Iterator[None]:
    """Turns what goes wrong while writing (tensorstore raises ValueError for a full disk) into one clear
    OSError.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        code = getattr(error, 'errno', None) or errno.EIO
        reason = 'the disk is full' if code in (errno.ENOSPC, errno.EDQUOT) else str(error).splitlines()[0]
        raise OSError(
            code,
            f'A checkpoint could not be written to {workdir}: {reason}. Earlier checkpoints are untouched; make room '
            'and start the same command again, it goes on from the last one.',
        ) from error
