"""The folder of a run: made, tried, and one run's at a time."""

import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from hybrik_jax import workdir

HOLD = """
import pathlib, sys, time
from hybrik_jax import workdir
with workdir.lock(pathlib.Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """Tests do not wait for who will not let go."""
    monkeypatch.setattr(workdir, 'PATIENCE_S', 0.0)


@pytest.fixture
def other_run(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert workdir.create('runs/new') == tmp_path / 'runs' / 'new'
    assert not list((tmp_path / 'runs' / 'new').iterdir())


def test_a_folder_that_cannot_be_written_to(tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('not a folder')
    with pytest.raises(
        OSError, match=r'^--config.workdir=.*/file/run cannot be written to .*give another folder'
    ):
        workdir.create(str(blocked / 'run'))
    assert blocked.read_text() == 'not a folder'


def test_a_second_run_is_refused_and_told_whose_folder_it_is(tmp_path, other_run):
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(BlockingIOError) as error, workdir.lock(tmp_path):
        pytest.fail('held twice')
    message = str(error.value)
    assert message.startswith(
        f'{tmp_path} is in use by process {other_run.pid} on host {socket.gethostname()} since 2'
    )
    assert message.endswith('wait for it, stop it, or give another --config.workdir.')
    assert other_run.poll() is None
    assert (tmp_path / 'config.json').read_text() == '{}'  # readers are not kept out


def test_a_killed_run_frees_its_folder(tmp_path, other_run, monkeypatch):
    monkeypatch.setattr(workdir, 'PATIENCE_S', 2.0)
    os.kill(other_run.pid, signal.SIGKILL)
    with workdir.lock(tmp_path):
        holder = json.loads((tmp_path / workdir.LOCK).read_text())
        assert holder['process'] == os.getpid() and set(holder) == {'host', 'process', 'started'}


def test_the_lock_is_given_back_however_a_run_ends(tmp_path):
    with pytest.raises(FloatingPointError), workdir.lock(tmp_path):
        raise FloatingPointError
    with workdir.lock(tmp_path):
        pass


def test_processes_that_a_run_starts_do_not_keep_its_lock(tmp_path):
    with workdir.lock(tmp_path):
        child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    with workdir.lock(tmp_path):
        pass
    child.communicate(b'\n')


def test_a_holder_that_has_not_written_its_name_yet(tmp_path):
    with (tmp_path / workdir.LOCK).open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match='is in use by another process:'), workdir.lock(tmp_path):
            pytest.fail('held twice')


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def flock(*unused):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', flock)
    with caplog.at_level(logging.WARNING), workdir.lock(tmp_path):
        assert 'cannot be locked (No locks available): start no second run there' in caplog.text
