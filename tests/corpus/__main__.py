"""Puts every bad input of the corpus in, and says what comes out: one line, seconds and memory of each.

usage: python -m tests.corpus [NAME ...] [--json]
All run in this process, which ends where one takes longer than `PATIENCE_S` or asks for more than `LIMIT`.
"""

import contextlib
import faulthandler
import json
import os
import pathlib
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

from tests.corpus import binary, commands, own, photos, published
from tests.corpus.entry import Entry

PATIENCE_S = 30
LIMIT = 8 << 30  # bytes of addresses: a failure shall not take the machine with it
PROGRESS = re.compile(r'[^\r\n]*\r|.*\b(check|make records):.*person.*\n?')


def entries() -> list[Entry]:
    """Returns the whole corpus."""
    rooms = (photos, published, own, binary, commands)
    found = [entry for room in rooms for entry in room.entries()]
    assert len({one.name for one in found}) == len(found)
    return found


def peak_mb() -> float:
    """Returns the most memory that this process had since `forget_peak`, MB."""
    status = pathlib.Path('/proc/self/status')
    if status.exists():
        return int(re.search(r'VmHWM:\s+(\d+)', status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of all its life


def forget_peak() -> None:
    """Makes `peak_mb` start anew, where the system can."""
    with contextlib.suppress(OSError):
        pathlib.Path('/proc/self/clear_refs').write_text('5')


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Takes what is written to stdout and stderr, by libraries in C too; it is in the list afterwards."""
    texts = []
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush(), sys.stderr.flush()
        kept = [os.dup(1), os.dup(2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield texts
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
            file.seek(0)
            texts.append(file.read().decode(errors='backslashreplace'))


def outcome(entry: Entry, folder: pathlib.Path) -> dict[str, Any]:
    """Returns what an entry says, its seconds of CPU, MB, and how it failed if it did."""
    given, failure, message = entry.make(folder), '', ''
    forget_peak()
    argv, before, started = sys.argv, peak_mb(), time.process_time()
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    with heard() as texts:
        try:
            status = entry.call(given)
            failure = '' if status == 1 else 'accepted'
        except SystemExit as stop:
            message = stop.code if isinstance(stop.code, str) else ''
            failure = '' if stop.code else 'accepted'
        except (ValueError, OSError) as error:
            message = str(error)
        except BaseException:
            failure = traceback.format_exc()
    faulthandler.cancel_dump_traceback_later()
    sys.argv, seconds, mb = argv, time.process_time() - started, peak_mb() - before
    said = PROGRESS.sub('', texts[0]) + message
    return {'name': entry.name, 'said': said.strip(), 'failure': failure, 'seconds': seconds, 'mb': mb}


def main(names: list[str], *, as_json: bool) -> None:
    """Prints what comes of the entries of these names, or of all."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, hard))
    for entry in entries():
        if names and entry.name not in names:
            continue
        if as_json:
            print(json.dumps({'started': entry.name}), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found = outcome(entry, pathlib.Path(folder))
            found['said'] = found['said'].replace(folder, '.')
        if as_json:
            print(json.dumps(found), flush=True)
        else:
            print(f'{found["name"]:<44} {found["seconds"]:5.2f} s {found["mb"]:4.0f} MB  {found["said"]}')
            print(found['failure'], end='' if not found['failure'] else '\n')


if __name__ == '__main__':
    main([one for one in sys.argv[1:] if one != '--json'], as_json='--json' in sys.argv)
