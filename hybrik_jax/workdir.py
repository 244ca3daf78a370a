"""The folder of a run: made, tried, and held by one run at a time."""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import pathlib
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import IO

LOCK = 'run.lock'
BEFORE = 'before'  # folder in it: what the network scores that the run begins with
PATIENCE_S = 2.0  # a killed process takes a moment to let go
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
LOG = logging.getLogger(__name__)


def create(workdir: str | pathlib.Path, option: str = '--config.workdir') -> pathlib.Path:
    """Returns the run's folder as an absolute path, made if missing.

    Args:
        option: of the command line that chooses the folder, for messages.
    Raises:
        OSError: nothing can be written there.
    """
    path = pathlib.Path(workdir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:  # a name of its own: other hosts do the same
            probe.write(b'0' * 4096)
    except OSError as error:
        problem = f'{option}={workdir} cannot be written to ({error.strerror or error})'
        raise OSError(f'{problem}: give another folder.') from error
    return path


@contextlib.contextmanager
def lock(workdir: pathlib.Path, option: str = '--config.workdir') -> Iterator[None]:
    """Holds the folder of a run against a second run while entered; readers need not ask.

    The kernel keeps the lock with the open file `run.lock`: it goes with the process, however that ends, and
    what the file says afterwards is of the last run. Of a run on several hosts only the first one may enter.
    On a file system without locks a warning is logged and nothing is held.

    Args:
        option: of the command line that chooses the folder, for messages.
    Raises:
        BlockingIOError: another process holds it, here or on a host that shares the file system's locks.
    """
    with (workdir / LOCK).open('a+') as file:
        give_up = time.monotonic() + PATIENCE_S
        while not _taken(file):
            if time.monotonic() > give_up:
                advice = f'wait for it, stop it, or give another {option}'
                raise BlockingIOError(f'{workdir} is in use by {_holder(workdir)}: {advice}.')
            time.sleep(0.05)
        file.truncate(0)
        started = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
        holder = {'host': socket.gethostname(), 'process': os.getpid(), 'started': started}
        file.write(json.dumps(holder) + '\n')
        file.flush()
        yield


def _taken(file: IO[str]) -> bool:
    """Returns whether the lock is ours now; where there are no locks, it is."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        LOG.warning('%s cannot be locked (%s): start no second run there.', file.name, error.strerror)
    return True


def _holder(workdir: pathlib.Path) -> str:
    """Returns who holds the lock, as far as its file says."""
    try:
        holder = json.loads((workdir / LOCK).read_text())
        return f'process {holder["process"]} on host {holder["host"]} since {holder["started"]}'
    except (ValueError, KeyError, TypeError):  # it was taken a moment ago
        return 'another process'
