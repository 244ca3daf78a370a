"""Worker processes for building datasets. Imports nothing that a worker could do without."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import cv2

_ONE_THREAD = {name: '1' for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')}


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Callable[..., Future]]:
    """Yields submit(function, *arguments) -> Future, run in `workers` processes of one thread each.

    workers=0 calls the function at once in this process. A worker starts when there is work for it, and ends
    when the parent process ends in any way.

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
    try:
        yield executor.submit
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
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
