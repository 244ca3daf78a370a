"""Where the figures of a run go: the console, `metrics.jsonl`, TensorBoard event files."""

import json
import logging
import math
import pathlib
import time
from typing import Any

from hybrik_jax.ending import write_whole

LOG = logging.getLogger(__name__)
NOT_ON_CONSOLE = ('loss_smpl_joints', 'loss_h36m_joints', 'gradient_norm', 'epoch')


class MetricWriter:
    """A run's figures, written row by row as they come; a run that goes on appends to its files.

    workdir: folder of the run.
    tensorboard: also write event files (readable by `tensorboard --logdir`).
    active: False on all hosts but the first: then nothing is written.
    """

    def __init__(self, workdir: str | pathlib.Path, *, tensorboard: bool = True, active: bool = True):
        self.active = active
        self.path = pathlib.Path(workdir) / 'metrics.jsonl'
        self._events = None
        if active:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if tensorboard:
                from tensorboard.summary.writer.event_file_writer import EventFileWriter

                self._events = EventFileWriter(str(self.path.parent / 'tensorboard'))

    def forget_after(self, step: int) -> None:
        """Drops the rows of later steps, which a resumed run will write again."""
        if self.active and self.path.exists():
            kept = [json.dumps(row) + '\n' for row in read_metrics(self.path) if row['step'] <= step]
            write_whole(self.path, ''.join(kept))

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Writes one row of numbers, those that are not finite as null.

        Args:
            kind: 'train' or 'validation'.
            step: updates done.
        Raises:
            OSError: naming the file, where it cannot be written.
        """
        if not self.active:
            return
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        try:
            with self.path.open('a') as f:
                f.write(json.dumps({'kind': kind, 'step': step} | finite) + '\n')
        except OSError as error:  # of a full disk it names no file
            how = f'{error.strerror}; make room, and the same command goes on'
            raise OSError(error.errno, f'{self.path} cannot be written: {how}') from error
        if self._events is not None:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary

            scalars = [Summary.Value(tag=f'{kind}/{name}', simple_value=x) for name, x in numbers.items()]
            self._events.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=scalars)))
        shown = ', '.join(f'{n} {v:.4g}' for n, v in numbers.items() if n not in NOT_ON_CONSOLE)
        LOG.info('%s step %d: %s', kind, step, shown)

    def close(self) -> None:
        """Flushes the event files."""
        if self._events is not None:
            self._events.close()


def read_metrics(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Returns the rows of a `metrics.jsonl`; a last line that a kill cut short is left out.

    Raises:
        ValueError: another line is not JSON.
    """
    rows, lines = [], pathlib.Path(path).read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f'{path}, line {number} is not JSON: {error}') from error
    return rows
