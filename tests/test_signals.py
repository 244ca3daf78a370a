"""Ctrl-C, SIGTERM, kill -9 and a closed pipe: one line, the status that shells expect, no process left."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import uuid

import pytest

from hybrik_jax.metric_writer import read_metrics
from tests import own_people
from tests.helpers import ROOT
from tests.small_run import SMALL

MARK = 'HYBRIK_TEST_COMMAND'
PATIENCE_S = 300


class Command:
    """A command in a process group of its own, its output in a file; gone without a trace when left."""

    def __init__(self, output: pathlib.Path, *arguments: str, cache: pathlib.Path | None = None):
        self.output, self.mark = output, f'{MARK}={uuid.uuid4()}'
        environment = os.environ | dict([self.mark.split('=')]) | {'PYTHONUNBUFFERED': '1', 'XLA_FLAGS': ''}
        if cache:
            environment |= {'JAX_COMPILATION_CACHE_DIR': str(cache)}
        # A signal that is ignored here, as in the background of a shell, would be ignored there.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with output.open('w') as file:
            self.process = subprocess.Popen(
                [sys.executable, '-m', *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        signal.signal(signal.SIGINT, before)

    def __enter__(self) -> 'Command':
        return self

    def __exit__(self, *unused) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        return self.output.read_text(errors='replace')

    def libraries(self) -> str:
        """Returns what is mapped into the command's memory, one file a line."""
        return pathlib.Path(f'/proc/{self.process.pid}/maps').read_text()

    def children(self) -> list[str]:
        """Returns the numbers of the processes that the command started and that still run."""
        lists = pathlib.Path(f'/proc/{self.process.pid}/task').glob('*/children')
        return sorted(number for children in lists for number in children.read_text().split())

    def wait_for(self, happened) -> None:
        """Returns when `happened()`, or when the output has that text."""
        end = time.monotonic() + PATIENCE_S
        while not (happened in self.text() if isinstance(happened, str) else happened()):
            assert self.process.poll() is None and time.monotonic() < end, self.text()
            time.sleep(0.005)

    def interrupt(self, *numbers: int) -> float:
        """Returns how long the command took to end; the whole group gets the signals, as from a terminal."""
        began = time.monotonic()
        for number in numbers:
            os.killpg(self.process.pid, number)
            time.sleep(0.05)
        self.process.wait(PATIENCE_S)
        return time.monotonic() - began

    def living(self) -> list[str]:
        """Returns the processes of this command, itself and those it started, that still run."""
        found = []
        for folder in pathlib.Path('/proc').glob('[0-9]*'):
            with contextlib.suppress(OSError):  # ended meanwhile; a zombie's is empty
                if self.mark.encode() in (folder / 'environ').read_bytes():
                    found.append((folder / 'cmdline').read_bytes().replace(b'\0', b' ').decode())
        return found

    def seconds_until_nobody_is_left(self, patience: float = 10) -> float:
        began = time.monotonic()
        while left := self.living():
            assert time.monotonic() < began + patience, left
            time.sleep(0.02)
        return time.monotonic() - began


def ended_by(command: Command, *numbers: int, seconds: float = 2) -> None:
    """Asserts that signals end the command at once, with one line."""
    before = command.text()
    took = command.interrupt(*numbers)
    after = command.text()[len(before) :]
    assert command.process.returncode == 128 + numbers[0], command.text()
    assert took < seconds, f'{took:.1f} s: {after}'
    name = {signal.SIGINT: 'Ctrl-C', signal.SIGTERM: 'SIGTERM'}[numbers[0]]
    assert after.count(f'Stopped by {name}: ') == 1 and 'Traceback' not in command.text(), after
    # Beside it, there are progress bars and the program's own words at most.
    assert 'Error' not in after and 'Process' not in after and 'resource_tracker' not in after, after
    command.seconds_until_nobody_is_left()


def training(workdir: pathlib.Path, data_root: pathlib.Path, *more: str) -> list[str]:
    keys = (f'workdir={workdir}', f'data.root={data_root}', 'data.workers=2', *more)
    return ['hybrik_jax.main', '--config=tests/tiny_config.py', *(f'--config.{key}' for key in keys)]


ONCE, TWICE, TERM = (signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)


@pytest.mark.parametrize(
    'numbers', [TWICE, *(pytest.param(n, marks=pytest.mark.slow) for n in (ONCE, TERM))], ids=str
)
@pytest.mark.parametrize('seconds', [2, *(pytest.param(s, marks=pytest.mark.slow) for s in (0, 5))])
def test_while_compiling(tmp_path, data_root, numbers, seconds):
    """The compiler takes 10 to 20 s for a step that it never saw; the workers start before."""
    arguments = training(tmp_path / 'run', data_root, 'optimizer.learning_rate=0.000123')
    with Command(tmp_path / 'output', *arguments) as command:
        command.wait_for('0/12')
        time.sleep(seconds)
        ended_by(command, *numbers)
    assert not list((tmp_path / 'run' / 'checkpoints').iterdir())


@pytest.mark.parametrize('numbers', [ONCE, pytest.param(TERM, marks=pytest.mark.slow)], ids=str)
def test_between_steps(tmp_path, data_root, numbers):
    """The first one: the step is finished and saved."""
    with Command(tmp_path / 'output', *training(tmp_path / 'run', data_root, 'num_epochs=1000')) as command:
        command.wait_for('train step 2:')
        command.interrupt(*numbers)
        assert command.process.returncode == 128 + numbers[0], command.text()
        command.seconds_until_nobody_is_left()
    text = command.text()
    assert text.count('stopping after this step; once more: at once.') == 1 and 'Traceback' not in text
    last = read_metrics(tmp_path / 'run' / 'metrics.jsonl')[-1]['step']
    assert f'Stopped at step {last}; the same command goes on from there.' in text
    assert (tmp_path / 'run' / 'checkpoints' / str(last)).is_dir()


def test_between_steps_twice(tmp_path, data_root):
    with Command(tmp_path / 'output', *training(tmp_path / 'run', data_root, 'num_epochs=1000')) as command:
        command.wait_for('train step 2:')
        took = command.interrupt(signal.SIGINT, signal.SIGINT)
        assert command.process.returncode == 128 + signal.SIGINT and took < 2, command.text()
        assert 'Traceback' not in command.text()
        command.seconds_until_nobody_is_left()


def test_workers_leave_sigterm_to_their_parent(tmp_path, data_root):
    """It comes to a whole group; a worker that it ended in the middle of a batch hung the run."""
    with Command(tmp_path / 'output', *training(tmp_path / 'run', data_root, 'num_epochs=1000')) as command:
        command.wait_for('train step 2:')
        workers = command.children()
        assert len(workers) >= 2
        for worker in workers:
            os.kill(int(worker), signal.SIGTERM)
        steps = command.text().count('train step')
        command.wait_for(lambda: command.text().count('train step') > steps + 50)  # more than are read ahead
        assert command.children() == workers


def test_while_drawing(tmp_path):
    sizes = ('--train=2000', '--validation=0', '--test=0', '--size=32', '--workers=2')
    arguments = ('tools.build_dataset', 'synthetic', '--out', str(tmp_path / 'data'), *sizes)
    with Command(tmp_path / 'output', *arguments) as command:
        command.wait_for(lambda: list((tmp_path / 'data.incomplete').glob('*.tmp')))
        ended_by(command, signal.SIGINT)


def custom_people(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Returns a folder of own data: a train and a test file of `count` people, a photo for each."""
    folder.mkdir()
    for split in ('train', 'test'):
        people = [own_people.entry(photo=f'{split}{number}.jpg') for number in range(count)]
        own_people.write(folder, people, f'{split}.json')
        for person in people:
            shutil.copy(folder / 'photos' / 'a.jpg', folder / 'photos' / person['photo'])
    return folder


def building(source: pathlib.Path, out: pathlib.Path, workers: int = 2) -> list[str]:
    where = ('--data-root', str(source), '--out', str(out))
    return ['tools.build_dataset', 'custom', *where, '--open-body', f'--workers={workers}']


def test_while_building(tmp_path):
    source = custom_people(tmp_path / 'source', 400)
    with Command(tmp_path / 'output', *building(source, tmp_path / 'data')) as command:
        command.wait_for(lambda: list((tmp_path / 'data.incomplete').glob('*.tmp')))
        ended_by(command, signal.SIGINT)


# A library that a command loads at first, and the one with which it opens the run or the data: more than a
# second of work follows.
MOMENTS = {
    'evaluate': ('jaxlib', 'tensorstore'),
    'predict': ('scipy', 'tensorstore'),
    'report': ('jaxlib', 'array_record'),
    'view': ('scipy', 'array_record'),
}


@pytest.mark.parametrize(('kind', 'library'), [(k, name) for k, names in MOMENTS.items() for name in names])
def test_other_commands(tmp_path, small_run, data_root, photo_file, kind, library):
    """While Python imports, and while the network is loaded or compiled."""
    arguments = {
        'evaluate': evaluating(small_run, data_root),
        'predict': ['tools.predict', str(photo_file), f'--checkpoint={small_run}', f'--out={tmp_path}/out'],
        'report': ['tools.report', str(small_run), f'--out={tmp_path}/report.html'],
        'view': ['tools.view_dataset', f'{data_root}/synthetic', '-n', '24', f'--out={tmp_path}/sheet.html'],
    }[kind]
    with Command(tmp_path / 'output', *arguments, cache=tmp_path / 'cache') as command:
        command.wait_for(lambda: library in command.libraries())
        ended_by(command, signal.SIGINT)
    assert not list(tmp_path.glob('*.html'))


def evaluating(workdir: pathlib.Path, data_root: pathlib.Path) -> list[str]:
    keys = {'workdir': workdir, 'data.root': data_root} | SMALL
    overrides = (f'--config.{key}={value}' for key, value in keys.items())
    return ['hybrik_jax.main', '--config=configs/synthetic.py', '--mode=evaluate', *overrides]


def test_while_evaluating(tmp_path, small_run, data_root):
    with Command(tmp_path / 'output', *evaluating(small_run, data_root), cache=tmp_path / 'cache') as command:
        command.wait_for('test, synthetic:')
        ended_by(command, signal.SIGINT)
    assert not list(small_run.glob('evaluation.*'))


def test_nobody_reads_the_output(data_root):
    sizes = ('--train=24', '--validation=4', '--test=4')
    command = [sys.executable, '-m', 'tools.build_dataset', 'synthetic', '--out', f'{data_root}/synthetic']
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, *sizes], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, '')
