"""Examples made by several worker processes, in order. Imports nothing that a worker could do without."""

import collections
import itertools
from collections.abc import Iterator

from hybrik_jax.datasets import processes
from hybrik_jax.synthetic.generator import Generator

CHUNK = 16  # examples of one task

_generator: Generator | None = None  # of this worker process


def generate(split: str, count: int, *, seed: int, size: int, workers: int) -> Iterator[dict]:
    """Yields the records 0..count-1 of a split, in order and the same whatever the number of workers.

    workers=0 makes them in this process. An error in a worker is raised here; a worker that was killed
    (say, for want of memory) raises concurrent.futures.process.BrokenProcessPool.
    """
    if workers == 0:
        generator = Generator(split, seed=seed, size=size)
        yield from map(generator.record, range(count))
        return
    with processes.pool(min(workers, -(-count // CHUNK)) or 1, _start, split, seed, size) as submit:
        tasks = (range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK))
        waiting = collections.deque(submit(_records, task) for task in itertools.islice(tasks, 4 * workers))
        while waiting:  # a window of tasks, so that finished examples do not pile up
            yield from waiting.popleft().result()
            waiting.extend(submit(_records, task) for task in itertools.islice(tasks, 1))


def _start(split, seed, size):
    """Gives this worker its generator."""
    global _generator
    _generator = Generator(split, seed=seed, size=size)


def _records(indices):
    return [_generator.record(index) for index in indices]
