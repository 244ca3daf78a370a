"""A run of measurements: in order of worth, as long as there is time, written after each, resumed."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax import ending
from tools.benchmark import tables
from tools.benchmark.measure import NO_TIME, Case, Measurement, measure

LOG = logging.getLogger(__name__)
ROOT = pathlib.Path(__file__).parents[2]
# What a case takes in all until one was measured, seconds: with an accelerator, on two CPU cores.
EXPECTED_S = {
    'step': (60.0, 75.0),
    'inference': (15.0, 25.0),
    'solver': (6.0, 8.0),
    'skinning': (6.0, 8.0),
    'input': (8.0, 8.0),
}
TURNS_S = 20.0  # of a group's turns, at the most


def environment() -> dict[str, Any]:
    """Returns what figures depend on: device, versions, and the state of the program."""
    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in ('jax', 'jaxlib', 'flax', 'numpy')}
    return {
        'device': device.device_kind,
        'platform': device.platform,
        'devices': jax.local_device_count(),
        'cores': os.cpu_count(),
        'processor': _processor(),
        'python': platform.python_version(),
        **versions,
        'xla_flags': os.environ.get('XLA_FLAGS', ''),
        'program': _program(),
    }


def _processor() -> str:
    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _program() -> str:
    """Returns 12 digits that tell the package's and the tool's source files apart from others."""
    total = hashlib.sha256()
    for path in sorted((*ROOT.glob('hybrik_jax/**/*.py'), *ROOT.glob('tools/benchmark/*.py'))):
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


@dataclasses.dataclass
class Session:
    """Results of a run, in a folder or nowhere.

    out: where results.json, table.md and picture.png go; None: nowhere.
    minutes: after which nothing more is begun; None: there is no limit.
    """

    out: pathlib.Path | None
    repeats: int
    minutes: float | None = None
    compilers: int = 1
    reference: Callable[[], Any] | None = None
    clock: Callable[[], float] = time.perf_counter
    environment: dict[str, Any] = dataclasses.field(default_factory=environment)

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.took: dict[str, list[float]] = {}
        self.rows: dict[tuple, Measurement] = {row.key: row for row in self._earlier()}
        self.turn = max((row.turn for row in self.rows.values()), default=0)

    def _earlier(self) -> list[Measurement]:
        """Returns the rows of an earlier run in this folder, with the same device and the same program."""
        if self.out is None or not (self.out / 'results.json').is_file():
            return []
        environment, rows = read(self.out / 'results.json')
        if environment != self.environment:
            LOG.info('%s holds results of another device or program: measuring all again.', self.out)
            return []
        return [row for row in rows if row.note != NO_TIME]

    def expected_s(self, part: str) -> float:
        """Returns what one more case of a part will take, seconds: as earlier ones, at least the table's."""
        usual = EXPECTED_S[part][self.environment['platform'] == 'cpu']
        return max(usual, float(np.mean(self.took.get(part, [usual]))))

    def left_s(self) -> float:
        """Returns the seconds until the limit."""
        return float('inf') if self.minutes is None else 60 * self.minutes + self.started - self.clock()

    def run(self, title: str, cases: Sequence[Case]) -> list[Measurement]:
        """Returns the rows of cases, measured in turns unless they were in an earlier run, and writes all."""
        wanted = [case for case in cases if self._missing(case)]
        planned = [0.0]

        def allow(case: Case) -> bool:
            more = self.expected_s(case.row.part) / max(1, min(self.compilers, len(wanted)))
            if sum(planned) + more > left_s:
                return False
            planned.append(more)
            return True

        if wanted:
            self.turn += 1
            began, left_s = self.clock(), self.left_s()
            LOG.info('%s: %d to measure, %s', title, len(wanted), self._time_left())
            limit_s = min(TURNS_S, max(2.0, left_s / 8))
            for row in measure(
                wanted,
                repeats=self.repeats,
                limit_s=limit_s,
                turn=self.turn,
                compilers=self.compilers,
                reference=self.reference,
                allow=allow,
                clock=self.clock,
            ):
                self.rows[row.key] = row
                LOG.info('  %s', line(row))
            done = [case for case in wanted if not self._missing(case)]
            if done:
                each = (self.clock() - began) / len(done)
                for case in done:
                    self.took.setdefault(case.row.part, []).append(each * min(self.compilers, len(done)))
            self.write()
        return [self.rows[case.row.key] for case in cases]

    def plan(self, cases: Sequence[Case]) -> None:
        """Names cases as not measured until they are, so that results name them wherever this ends."""
        for case in cases:
            if self._missing(case):
                self.rows[case.row.key] = dataclasses.replace(case.row, note=NO_TIME)

    def _missing(self, case: Case) -> bool:
        return case.row.key not in self.rows or self.rows[case.row.key].note == NO_TIME

    def _time_left(self) -> str:
        return '' if self.minutes is None else f'{max(0.0, self.left_s()):.0f} s left'

    def write(self) -> None:
        """Writes results, table and picture into the folder."""
        if self.out is None:
            return
        rows = list(self.rows.values())
        write(self.out / 'results.json', self.environment, rows)
        about = ', '.join(f'{name} {value}' for name, value in self.environment.items() if value != '')
        parts = [about, tables.table(rows), 'Over the first configuration:', tables.ratios(rows)]
        ending.write_whole(self.out / 'table.md', '\n\n'.join(parts) + '\n')
        title = f'{self.environment["device"]}, jax {self.environment["jax"]}'
        tables.picture(rows, self.out / 'picture.png', title)


def line(row: Measurement) -> str:
    """Returns one line about a row."""
    what = f'{row.part}: {row.name}, {row.config}, {row.batch}'
    if row.note:
        return f'{what}: {row.note}'
    compiled = '' if row.compile_s is None else f', compiled in {row.compile_s:.1f} s'
    return f'{what}: {1e3 * row.median_s:.4g} ms, {row.images_per_s:.4g} a second{compiled}'


def write(path: pathlib.Path, environment: dict[str, Any], rows: Sequence[Measurement]) -> None:
    """Writes a file of results."""
    content = {'environment': environment, 'rows': [dataclasses.asdict(row) for row in rows]}
    ending.write_whole(path, json.dumps(content, indent=1) + '\n')


def read(path: pathlib.Path) -> tuple[dict[str, Any], list[Measurement]]:
    """Returns environment and rows of a file of results.

    Raises:
        ValueError: if it is none.
    """
    try:
        content = json.loads(path.read_text())
        rows = [Measurement(**row) for row in content['rows']]
        return content['environment'], rows
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} holds no results of tools.benchmark ({error}): remove it.') from error


def reference() -> Callable[[], Any]:
    """Returns a fixed piece of work, a NumPy product and an XLA convolution: the measure of a machine."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(768, 768)).astype(np.float32)
    images = jnp.asarray(rng.normal(size=(8, 32, 32, 64)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 64, 64)), jnp.float32)
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding='SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    compiled = jax.jit(convolve).lower(images, kernel).compile()

    def call() -> Any:
        for _ in range(4):
            matrix @ matrix
        return jax.block_until_ready([compiled(images, kernel) for _ in range(4)])

    return call
