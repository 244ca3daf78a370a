"""Examples made by several worker processes, in order. Imports nothing that a worker could do without."""

import collections
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import cv2

from hybrik_jax.data.synthetic.generator import Generator

CHUNK = 16  # examples of one task
ONE_THREAD = {name: '1' for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')}

_generator: Generator | None = None  # of this worker process


def generate(split: str, count: int, *, seed: int, size: int, workers: int) -> Iterator[dict]:
    """Yields the records 0..count-1 of a split, in order and the same whatever the number of workers.

    workers=0 makes them in this process. An error in a worker is raised here; a worker that was killed
    (say, for want of memory) raises concurrent.futures.process.BrokenProcessPool.
    """
    if workers < 0:
        raise ValueError(f'workers={workers}: give 0 (this process) or the number of worker processes.')
    if workers == 0:
        generator = Generator(split, seed=seed, size=size)
        yield from map(generator.record, range(count))
        return
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)  # inherited by the workers, which start while this runs
    pool = ProcessPoolExecutor(
        min(workers, -(-count // CHUNK)) or 1,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=_start,
        initargs=(split, seed, size),
    )
    try:
        tasks = (range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK))
        waiting = collections.deque(
            pool.submit(_records, task) for task in itertools.islice(tasks, 4 * workers)
        )
        while waiting:  # a window of tasks, so that finished examples do not pile up
            yield from waiting.popleft().result()
            waiting.extend(pool.submit(_records, task) for task in itertools.islice(tasks, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start(split, seed, size):
    """Sets this worker up: one thread, the generator, and an end when the parent process ends in any way."""
    global _generator
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _generator = Generator(split, seed=seed, size=size)


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _records(indices):
    return [_generator.record(index) for index in indices]
