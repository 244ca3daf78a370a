"""Worker processes for building datasets. Imports nothing that a worker could do without."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import cv2

from hybrik_jax import ending

_ONE_THREAD = {name: '1' for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')}


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Callable[..., Future]]:
    """Yields submit(function, *arguments) -> Future, run in `workers` processes of one thread each.

    workers=0 calls the function at once in this process. A worker starts when there is work for it, and ends
    when the parent process ends in any way; Ctrl-C is the parent process's.

    Raises:
        ValueError: a negative number of workers.
    """
    if workers < 0:
        raise ValueError(f'workers={workers}: give 0 (this process) or the number of worker processes.')
    if not workers:
        yield _now
        return
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)  # inherited by the workers, which start one by one while this runs
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), initializer=_start_worker)

    def submit(function: Callable, *arguments: Any) -> Future:
        with ending.starting_workers(signal.SIGINT):  # not SIGTERM, by which a broken pool ends its workers
            return executor.submit(function, *arguments)

    try:
        yield submit
    finally:
        executor.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _now(function: Callable, *arguments: Any) -> Future:
    future: Future = Future()
    future.set_result(function(*arguments))
    return future


def _start_worker() -> None:
    ending.of_worker()
    cv2.setNumThreads(1)
