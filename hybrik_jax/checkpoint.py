"""Checkpoints: the last few and the best, with everything that a run needs to go on. The only user of orbax.

A run's folder has `checkpoints/` (the last ones, to resume from) and `best/` (the best by validation). Each
holds parameters, averages, optimizer, step, data position and configuration; orbax writes under another name
and renames, so that a kill leaves no half checkpoint.
"""

import contextlib
import dataclasses
import errno
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from hybrik_jax import config as configuration
from hybrik_jax.step import TrainState

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a checkpoint holds: arrays as NumPy's, configuration as nested dicts."""

    folder: pathlib.Path
    step: int
    config: dict[str, Any]
    state: TrainState


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
            # One at a time: orbax counts its barriers between hosts per process, whichever manager it is.
            # The best one first: a run that is killed in between goes on before this step and scores again.
            self._recent.wait_until_finished()
            if score is not None and np.isfinite(score) and step not in self._best.all_steps():
                self._best.save(step, args=items, metrics={'score': float(score)})
                self._best.wait_until_finished()
            if step not in self._recent.all_steps():
                self._recent.save(step, args=items)

    def wait(self) -> None:
        """Returns when everything is on disk."""
        with _explaining(self.workdir):
            self._recent.wait_until_finished()
            self._best.wait_until_finished()

    def wait_for_all_hosts(self) -> None:
        """Returns when everything of every host is on disk; all hosts must call it."""
        self.wait()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices('checkpoints are written')

    def restore(self, state: TrainState, config: dict[str, Any], *, best: bool = False) -> TrainState | None:
        """Returns the last (or the best) state, None where there is none.

        Args:
            state: a state of the same network and optimizer, for the structure.
            config: what the run is about to do; it must agree with the checkpoint's but for the keys
                that may change (`config.KEYS`).
        Raises:
            ValueError: the checkpoint belongs to another configuration; the message lists what differs.
        """
        manager = self._best if best else self._recent
        if manager.latest_step() is None:
            return None
        run = load(self.workdir, best=best, config=config, like=state)
        LOG.info('Restored step %d from %s.', run.step, manager.directory)
        # The training step decides where they live.
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), run.state)

    def close(self) -> None:
        """Waits and releases the folders."""
        self.wait()
        self._recent.close()
        self._best.close()


def load(
    folder: str | pathlib.Path,
    *,
    best: bool = False,
    config: dict[str, Any] | None = None,
    like: TrainState | None = None,
) -> Run:
    """Returns a run's last or best checkpoint, for evaluation, prediction and export; writes nothing.

    Args:
        config: what it shall be used for; it must agree with the checkpoint's as in `Checkpoints.restore`.
        like: a state of the network that it shall be used in; None leaves the optimizer's state out.
    Raises:
        FileNotFoundError: the folder holds no run, or no finished checkpoint.
        ValueError: it belongs to another configuration or network.
    """
    folder = pathlib.Path(folder).absolute()
    path = folder / ('best' if best else 'checkpoints')
    if not path.is_dir():
        raise FileNotFoundError(
            f'{folder} holds no checkpoints: {path} is missing. Give the workdir of a run.'
        )
    manager = ocp.CheckpointManager(path, options=ocp.CheckpointManagerOptions(read_only=True))
    step = manager.latest_step()
    if step is None:
        raise FileNotFoundError(f'{path} holds no finished checkpoint. Train first, or give another workdir.')
    saved = _read_meta(manager, step)['config']
    if config is not None:
        _refuse_other_config(saved, config, manager)
    arrays = path / str(step) / 'state'
    wanted = ocp.StandardCheckpointer().metadata(arrays).item_metadata
    if like is not None:
        _refuse_other_shapes(wanted, _fields(like), manager)
        wanted = _fields(like)
    # As NumPy's, whatever devices wrote them; zeros that take no room say shape and type.
    wanted = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), wanted)
    wanted = dict(wanted)
    if like is None:  # no run goes on from here: two fifths of the file need not be read
        del wanted['optimizer']
    reading = ocp.args.PyTreeRestore(
        wanted, restore_args=ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
    )
    fields = ocp.PyTreeCheckpointer().restore(arrays, args=reading)
    state = TrainState(**{'optimizer': None, **fields})
    manager.close()
    return Run(folder, step, saved, state)


def _read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    return manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']


def _refuse_other_config(
    saved: dict[str, Any], wanted: dict[str, Any], manager: ocp.CheckpointManager
) -> None:
    differing = configuration.differences(saved, wanted)
    if differing:
        raise ValueError(
            f'The checkpoint of step {manager.latest_step()} in {manager.directory.parent} belongs to '
            'another configuration:\n  '
            + '\n  '.join(differing)
            + '\nGive another --config.workdir, or the configuration that it was made with.'
        )


def _refuse_other_shapes(saved: Any, wanted: Any, manager: ocp.CheckpointManager) -> None:
    saved, wanted = _shapes(saved), _shapes(wanted)
    differing = sorted(name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
    if differing:
        shown = '; '.join(
            f'{name}: {saved.get(name, "absent")} there, {wanted.get(name, "absent")} now'
            for name in differing[:5]
        )
        raise ValueError(
            f'The checkpoint of step {manager.latest_step()} in {manager.directory} does not fit this '
            'network: '
            f'{len(differing)} of {len(wanted)} arrays differ ({shown}). Was it made by another version of '
            'the program?'
        )


def _fields(state: TrainState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _as_tree(state: TrainState) -> dict[str, Any]:
    """Returns the state as nested dicts; of several hosts as global arrays, which orbax asks for."""
    tree = _fields(state)
    if jax.process_count() > 1:
        return jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, tree)
    # One copy now: the training step that follows gives its input's memory away.
    return jax.tree.map(lambda x: x if isinstance(x, np.ndarray) else np.array(x), tree)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of every array of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='.'): tuple(leaf.shape) for path, leaf in leaves
    }


@contextlib.contextmanager
def _explaining(workdir: pathlib.Path) -> Iterator[None]:
    """Turns what goes wrong while writing (a full disk is tensorstore's ValueError) into one clear
    OSError.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        code = getattr(error, 'errno', None) or errno.EIO
        reason = 'the disk is full' if code in (errno.ENOSPC, errno.EDQUOT) else str(error).splitlines()[0]
        raise OSError(
            code,
            f'A checkpoint could not be written to {workdir}: {reason}. Earlier checkpoints are untouched; '
            'make room '
            'and start the same command again, it goes on from the last one.',
        ) from error
