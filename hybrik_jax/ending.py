"""How a command ends on Ctrl-C, SIGTERM or a closed pipe: at once and with one line, its processes with it.

Nothing is unwound: what a command writes is fit for a kill at any moment.
"""

import contextlib
import io
import multiprocessing
import os
import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

SIGNALS = {signal.SIGINT: 'Ctrl-C', signal.SIGTERM: 'SIGTERM'}
_told: list[socket.socket] = []  # both ends of what a signal writes to, in a command
_patient: list['Request'] = []  # those who are entered


def of_command() -> None:
    """Makes this process end as a command does; to be called before imports that take time.

    SIGINT and SIGTERM end it with one line and the status 128 + number, whatever it is doing, unless a
    `Request` is entered. What reads its output may stop reading: status 141 without a word.
    """
    # Python's own handlers wait for the main thread, which may be in the compiler for a minute.
    _told[:] = socket.socketpair()
    _told[1].setblocking(False)
    signal.set_wakeup_fd(_told[1].fileno(), warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _nothing)
    threading.Thread(target=_watch, daemon=True).start()
    sys.warnoptions.append('ignore:resource_tracker')  # its process cleans up after us, and need not say so
    if sys.stdout is not None:
        binary = io.BufferedWriter(_Output(sys.stdout.fileno(), 'w', closefd=False))
        sys.stdout = io.TextIOWrapper(binary, sys.stdout.encoding, sys.stdout.errors, line_buffering=True)


def _nothing(*unused: Any) -> None:
    pass


def _watch() -> None:
    asked = False
    while byte := _told[0].recv(1):
        if byte[0] not in SIGNALS:
            continue
        name, waits = SIGNALS[byte[0]], bool(_patient) and _patient[-1].worth_waiting and not asked
        how = 'stopping after this step; once more: at once.' if waits else 'the same command starts again.'
        start = '\n' if os.isatty(2) else ''  # the line may show a progress bar
        with contextlib.suppress(OSError):
            os.write(2, f'{start}Stopped by {name}: {how}\n'.encode())
        if not waits:
            os._exit(128 + byte[0])
        asked = True


class _Output(io.FileIO):
    """Standard output; where nobody reads it any more, the process ends."""

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            os._exit(128 + signal.SIGPIPE)


class Request:
    """While entered, SIGINT and SIGTERM ask for an orderly end; asked twice, the end is at once.

    requested: the signal's number, else 0.
    worth_waiting: to be set when there is something to save: before, a command ends at once.
    """

    def __init__(self):
        self.requested, self.worth_waiting = 0, False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> 'Request':
        with contextlib.suppress(ValueError):  # not in the main thread: signals stay as they are
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._ask)
        _patient.append(self)
        return self

    def __exit__(self, *unused: Any) -> None:
        _patient.remove(self)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.requested and not _told:  # twice, and no command
            raise KeyboardInterrupt
        self.requested = number


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file, its folder too; whatever ends the process, the file is the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.unfinished')
    try:
        unfinished.write_bytes(content.encode('utf-8') if isinstance(content, str) else content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


# ---- worker processes


@contextlib.contextmanager
def starting_workers(*signals: int) -> Iterator[None]:
    """Makes processes that this thread starts while it is entered deaf to signals, from their first moment.

    They come to a whole group, and are the parent's to answer. One that ended while it was handing over a
    batch would leave a parent that finishes its step waiting for the rest of it.
    """
    resource_tracker.ensure_running()  # else it is started with the first worker, and unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def of_worker(*unused: Any) -> None:
    """Makes this worker process leave Ctrl-C to its parent and end when that ends, in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
