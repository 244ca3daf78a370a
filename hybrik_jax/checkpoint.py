"""Checkpoints: the last few and the best, with everything that a run needs to go on. The only user of orbax.

A run's folder has `checkpoints/` (the last ones, to resume from) and `best/` (the best by validation). Each
holds parameters, averages, optimizer, step, data position and configuration; orbax writes under another name
and renames, so that a kill leaves no half checkpoint. `meta/metadata` holds a sha256 of every array and of
itself, and what is read is compared with them: no damage passes for a checkpoint.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import logging
import pathlib
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from hybrik_jax import config as configuration
from hybrik_jax.step import TrainState

LOG = logging.getLogger(__name__)
_UNHASHED = {'step', 'data_position', 'config'}  # what older versions wrote


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
        _hush()
        self.workdir = pathlib.Path(workdir).absolute()
        self._recent = _manager(self.workdir / 'checkpoints', keep)
        self._best = _manager(self.workdir / 'best', 1)
        self._best_score = _score_of_best(self.workdir / 'best')

    def latest_step(self) -> int | None:
        """Returns the step of the last checkpoint, None where there is none."""
        return max(_steps(self.workdir / 'checkpoints'), default=None)

    def save(self, state: TrainState, config: dict[str, Any], *, score: float | None = None) -> None:
        """Writes a checkpoint, in the background; with a `score` (lower is better) also among the best.

        Args:
            config: the run's configuration as plain nested dicts.
        """
        step = int(state.step)
        tree = _as_tree(state)
        # The position in the data stream is the step: see `data.pipeline`.
        meta = {'step': step, 'data_position': step, 'config': config, 'arrays': _hashes(tree)}
        with _explaining(self.workdir):
            # One at a time: orbax counts its barriers between hosts per process, whichever manager it is.
            # The best one first: a run that is killed in between goes on before this step and scores again.
            self._recent.wait_until_finished()
            if score is not None and score < self._best_score:
                self._best_score = float(score)
                self._best.save(step, args=_items(tree, meta | {'score': float(score)}))
                self._best.wait_until_finished()
            if step not in _steps(self.workdir / 'checkpoints'):
                self._recent.save(step, args=_items(tree, meta))

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
        if not _steps(self.workdir / ('best' if best else 'checkpoints')):
            return None
        run = load(self.workdir, best=best, config=config, like=state)
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
        ValueError: it belongs to another configuration or network; or it is damaged: then no other step is
            taken in its place, and the message says how to ask for the one before it.
    """
    _hush()
    folder = pathlib.Path(folder).absolute()
    path = folder / ('best' if best else 'checkpoints')
    if folder.is_file():
        advice = f'make it a run by tools.import_torch {folder.name} --out runs/NAME, and give that folder'
        raise FileNotFoundError(f'{folder} is a file: {advice}.')
    if not path.is_dir():
        raise FileNotFoundError(
            f'{folder} holds no checkpoints: {path} is missing. Give the workdir of a run.'
        )
    if not (steps := _steps(path)):
        raise FileNotFoundError(f'{path} holds no finished checkpoint. Train first, or give another workdir.')
    step = max(steps)
    with _naming_damage(path, step) as arrays:
        meta = _read_meta(arrays)
        arrays /= 'state'
        stored = dict(ocp.PyTreeCheckpointHandler().metadata(arrays).tree)
        if _named(stored).keys() != meta.get('arrays', _named(stored)).keys():
            raise ValueError('it does not hold the arrays that were written')
    if config is not None:
        _refuse_other_config(meta['config'], config, path / str(step))
    if like is not None:
        _refuse_other_shapes(stored, _fields(like), path / str(step))
        stored = _fields(like)
    else:  # no run goes on from here: two fifths of the file need not be read
        del stored['optimizer']
    # As NumPy's, whatever devices wrote them; zeros that take no room say shape and type.
    wanted = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), stored)
    reading = ocp.args.PyTreeRestore(
        wanted, restore_args=ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
    )
    with _naming_damage(path, step):
        fields = ocp.PyTreeCheckpointHandler().restore(arrays, args=reading)
        _check_hashes(fields, meta)
    LOG.info('Read step %d from %s.', step, path)
    return Run(folder, step, meta['config'], TrainState(**{'optimizer': None, **fields}))


def _manager(path: pathlib.Path, keep: int) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(path, options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True))


def _items(tree: dict[str, Any], meta: dict[str, Any]) -> ocp.args.Composite:
    meta = json.loads(json.dumps(meta))
    meta['sha256'] = _hash_of_meta(meta)
    return ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))


def _steps(path: pathlib.Path) -> list[int]:
    """Returns the steps of the finished checkpoints in a folder; unfinished ones are not mere numbers."""
    return [int(one.name) for one in path.iterdir() if one.name.isdecimal()] if path.is_dir() else []


def _score_of_best(path: pathlib.Path) -> float:
    """Returns the score of the checkpoint in `best/`, infinity where there is none."""
    if not (steps := _steps(path)):
        return float('inf')
    with _naming_damage(path, max(steps)) as folder:
        meta = _read_meta(folder)
        if 'score' not in meta and meta.keys() == _UNHASHED:  # older versions left it to orbax
            meta = json.loads((folder / 'metrics' / 'metrics').read_bytes())
        return float(meta['score'])


# ---- damage


def _hash(array: Any) -> str:
    array = np.ascontiguousarray(array)
    found = hashlib.sha256(f'{array.dtype} {array.shape}'.encode())
    found.update(array.reshape(-1).view(np.uint8))
    return found.hexdigest()


def _hashes(tree: Any) -> dict[str, str]:
    """Returns name -> sha256 of every array of a tree; of several hosts, each has the whole state."""
    leaves = _named(tree)
    with ThreadPoolExecutor() as threads:
        return dict(zip(leaves, threads.map(_hash, leaves.values()), strict=True))


def _hash_of_meta(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _read_meta(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the metadata of a checkpoint's folder, checked against its own hash."""
    meta, text = {}, (folder / 'meta' / 'metadata').read_bytes()
    with contextlib.suppress(ValueError):
        meta = json.loads(text)
    if (said := meta.pop('sha256', None)) is None and meta.keys() == _UNHASHED:
        LOG.warning('%s is of an older version and has no hashes: its arrays cannot be checked.', folder)
    elif said != _hash_of_meta(meta):
        raise ValueError('meta/metadata is not what was written')
    if str(meta['step']) != folder.name:
        raise ValueError(f'it is the checkpoint of step {meta["step"]}')
    return meta


def _check_hashes(fields: dict[str, Any], meta: dict[str, Any]) -> None:
    if (said := meta.get('arrays')) is None:
        return
    found = _hashes(fields)
    if wrong := [name for name, value in found.items() if said.get(name) != value]:
        more = f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''
        raise ValueError(f'array {wrong[0]}{more} is not what was written')


@contextlib.contextmanager
def _naming_damage(path: pathlib.Path, step: int) -> Iterator[pathlib.Path]:
    """Gives a checkpoint's folder for reading, and makes one line of whatever goes wrong with it."""
    folder = path / str(step)
    try:
        yield folder
    except Exception as error:  # orbax and tensorstore have no error of their own for what they cannot read
        what = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=' ...').rstrip('.')
        before = max((s for s in _steps(path) if s < step), default=None)
        other = path.with_name('checkpoints' if path.name == 'best' else 'best')
        advice = f'Only when it is moved away is step {before} taken, the one before it'
        if before is None:
            advice = 'There is none before it; to do without it, move it away'
            advice += f' ({other} has step {max(steps)})' if (steps := _steps(other)) else ''
        moved = f'mv {folder} {path.parent / path.name}-{step}.damaged'
        raise ValueError(f'{folder} is damaged: {what}. {advice}: {moved}') from error


@functools.cache
def _hush() -> None:
    """Silences what threads and tasks say when one read or write of many fails: it is raised to us as well.

    orbax logs it with a traceback each time, asyncio what nobody asks for, and tensorstore's threads find
    the loop closed that they served.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if 'Event loop is closed' not in str(unraisable.exc_value):
            before(unraisable)

    sys.unraisablehook = hook
    logging.getLogger('absl').addFilter(lambda record: 'orbax' not in record.pathname)
    logging.getLogger('asyncio').addFilter(lambda record: 'was never retrieved' not in record.getMessage())


def _refuse_other_config(saved: dict[str, Any], wanted: dict[str, Any], folder: pathlib.Path) -> None:
    differing = configuration.differences(saved, wanted)
    if differing:
        raise ValueError(
            f'The checkpoint of step {folder.name} in {folder.parent.parent} belongs to another '
            'configuration:\n  '
            + '\n  '.join(differing)
            + '\nGive another --config.workdir, or the configuration that it was made with.'
        )


def _refuse_other_shapes(saved: Any, wanted: Any, folder: pathlib.Path) -> None:
    saved, wanted = ({name: tuple(x.shape) for name, x in _named(tree).items()} for tree in (saved, wanted))
    differing = sorted(name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
    if differing:
        shown = '; '.join(
            f'{name}: {saved.get(name, "absent")} there, {wanted.get(name, "absent")} now'
            for name in differing[:5]
        )
        raise ValueError(
            f'The checkpoint of step {folder.name} in {folder.parent} does not fit this network: '
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


def _named(tree: Any) -> dict[str, Any]:
    """Returns name -> array of every array of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf for path, leaf in leaves}


@contextlib.contextmanager
def _explaining(workdir: pathlib.Path) -> Iterator[None]:
    """Makes one clear OSError of what goes wrong while writing; a full disk is tensorstore's ValueError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        what = textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=' ...').rstrip('.')
        full = getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT) or 'RESOURCE_EXHAUSTED' in what
        problem = f'A checkpoint could not be written to {workdir}: {"the disk is full" if full else what}'
        advice = 'make room and start the same command again, it goes on from the last one'
        raise OSError(f'{problem}. Earlier checkpoints are untouched; {advice}.') from error
