"""Kill -9 at random moments of everything that writes: the end is as if nothing had happened."""

import collections
import json
import os
import pathlib
import random
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from hybrik_jax import checkpoint
from hybrik_jax.data import store
from hybrik_jax.datasets import build
from tests.test_build import SETTINGS, people
from tests.test_signals import Command, building, custom_people, training
from tests.test_training import checkpoints_in, figures

STEPS, LEFTOVERS = 240, ('tmp', 'incomplete', 'unfinished', 'partial')


class Kills:
    """Commands that are killed -9, worker processes beside them; `left_s`: phase -> how long any lived on."""

    def __init__(self, folder: pathlib.Path, seed: int = 0):
        self.output, self.random = folder / 'output', random.Random(seed)
        self.left_s: dict[str, list[float]] = collections.defaultdict(list)

    def whole(self, arguments: list[str]) -> float:
        """Returns how long a command takes that is left alone; it must succeed."""
        began = time.monotonic()
        with Command(self.output, *arguments) as command:
            assert command.process.wait(900) == 0, command.text()
            command.seconds_until_nobody_is_left()
        return time.monotonic() - began

    def kill(self, phase: str, arguments: list[str], since, latest_s: float, **options) -> bool:
        """Kills a command up to `latest_s` after `since`: a text of its output, or a function of it.

        Returns:
            False where it had ended before.
        """
        with Command(self.output, *arguments, **options) as command:
            happened = since if callable(since) else lambda text: since in text
            command.wait_for(lambda: command.process.poll() is not None or happened(command.text()))
            time.sleep(latest_s * self.random.random())
            if command.process.poll() is not None:
                assert command.process.returncode == 0, command.text()
                return False
            os.kill(command.process.pid, signal.SIGKILL)
            command.process.wait()
            self.left_s[phase].append(command.seconds_until_nobody_is_left())
        return True

    def builds(
        self, phase: str, arguments, folder: pathlib.Path, kills: int, *, finishing: bool = False
    ) -> None:
        """Kills the building of datasets so often, then lets it end; each one equals one that was left alone.

        Args:
            arguments: of the command that builds its argument.
            finishing: kill when the shards are complete.
        """
        whole, number, done = folder / f'{phase} whole', 0, 0
        seconds = self.whole(arguments(whole))
        while done < kills:
            out = folder / f'{phase} {number}'
            waiting = out.with_name(f'{out.name}.incomplete')
            since = (lambda text, w=waiting: list(w.glob('*-of-*'))) if finishing else (lambda text: True)
            killed = self.kill(phase, arguments(out), since, 0.05 if finishing else seconds)
            done, number = done + killed, number + (not killed or out.is_dir())
        for out in (folder / f'{phase} {n}' for n in range(number + 1)):
            self.whole(arguments(out))
            assert contents(out) == contents(whole), out
        assert not [path for path in folder.iterdir() if path.suffix == '.incomplete']


def contents(folder: pathlib.Path) -> dict[str, object]:
    """Returns name -> content of a dataset's files and the records of its shards."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    store.verify(folder)
    own = [name for name in found if name in (store.SUMS, 'summary.txt') or 'array_record' in name]
    found |= dict.fromkeys(own)
    for split in json.loads(found['dataset_info.json'])['splits']:
        # The shards' own bytes differ between two builds: the fields of a record have no order.
        for number, record in enumerate(store.open_split(folder, split['name'])):
            fields = {name: (np.asarray(x).dtype.str, np.asarray(x).tobytes()) for name, x in record.items()}
            found[f'{split["name"]} {number}'] = fields
    return found


def places(folder: pathlib.Path) -> list[str]:
    """Returns what is in a run's folder, but for the files inside checkpoints."""
    found = [str(path.relative_to(folder)) for path in folder.rglob('*')]
    assert not [name for name in found if any(word in name for word in LEFTOVERS)]
    return sorted(name for name in found if name.count('/') < 2)


def test_killed_builds_are_whole(tmp_path):
    """Two kills; the fifty are slow."""
    source, kills = custom_people(tmp_path / 'source', 40), Kills(tmp_path, seed=1)
    kills.builds('build', lambda out: building(source, out), tmp_path, 2)


def test_killed_before_the_last_rename(tmp_path, monkeypatch):
    """All is written, the summary too: what the same command writes again agrees with the checksums."""
    found, out = people(tmp_path / 'photos', 3), tmp_path / 'data'

    def built() -> None:
        build.build({'train': lambda: iter(found)}, out, SETTINGS, workers=0)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, 'rename', lambda path, to: 1 / 0 if to == out else os.rename(path, to))
        with pytest.raises(ZeroDivisionError):
            built()
    summary = tmp_path / 'data.incomplete' / 'summary.txt'
    summary.write_text(summary.read_text().replace('built', 'built once'))
    built()
    assert 'all 4 files' in store.verify(out)


@pytest.mark.slow  # about ten minutes on two cores
def test_fifty_kills(tmp_path, capsys):
    """Drawing, building, compiling, steps, checkpoints, evaluation, with two worker processes each."""
    kills, began = Kills(tmp_path), time.monotonic()
    sizes = ('--train=420', '--validation=8', '--test=8', '--size=64', '--workers=2')
    kills.builds(
        'draw', lambda out: ['tools.build_dataset', 'synthetic', '--out', str(out), *sizes], tmp_path, 9
    )
    source = custom_people(tmp_path / 'source', 300)
    kills.builds('build', lambda out: building(source, out), tmp_path, 9)
    kills.builds('finish a build', lambda out: building(source, out), tmp_path, 4, finishing=True)

    data, whole, run = tmp_path / 'data', tmp_path / 'whole', tmp_path / 'run'
    shutil.copytree(tmp_path / 'draw 0', data / 'synthetic')
    keys = (
        f'num_epochs={STEPS // 4}',
        'checkpoint_every=6',
        'validate_every=60',
        'optimizer.learning_rate=2e-4',
    )
    arguments = training(run, data, *keys)
    for _ in range(
        7
    ):  # what is compiled before the step stays in this cache; the step takes longer than it gets
        assert kills.kill('compile', arguments, f'0/{STEPS}', 5.0, cache=tmp_path / 'cache')
    assert not checkpoints_in(run)
    kills.whole(training(whole, data, *keys))

    def writing(text):
        return 'train step' in text and list(run.glob('*/*tmp*'))

    for _ in range(8):
        assert kills.kill('steps', arguments, 'train step', 1.0), 'no steps were left'
        assert kills.kill('write a checkpoint', arguments, writing, 0.05), 'no steps were left'
    while len(kills.left_s['evaluate']) < 5:
        kills.kill('evaluate', arguments, 'test, synthetic:', 5.0)
    kills.whole(arguments)

    assert figures(run) == figures(whole) and len(figures(run)) == STEPS + STEPS // 60
    assert places(run) == places(whole)
    for best in (False, True):
        one, other = (checkpoint.load(folder, best=best) for folder in (run, whole))
        assert one.step == other.step
        assert jax.tree.all(jax.tree.map(np.array_equal, one.state, other.state))
    assert checkpoints_in(run) == checkpoints_in(whole)
    for name in ('evaluation.json', 'evaluation.csv', 'evaluation.md'):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert json.loads((run / 'config.json').read_text())['workdir'] == str(run)
    assert sum(map(len, kills.left_s.values())) == 50
    with capsys.disabled():
        print(f'\n{"phase":<20}{"kills":>6}{"last process ended after, s":>30}')
        for phase, seconds in kills.left_s.items():
            print(f'{phase:<20}{len(seconds):>6}{max(seconds):>30.2f}')
        print(f'resumed = uninterrupted, in {time.monotonic() - began:.0f} s')
