"""Times of functions that take turns, with what XLA says of them and what the device can do at best."""

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

SHORTEST_S = 0.02  # a repeat of a shorter call is several calls, of which the device may hold some in a queue
SETTLE_S = 0.05  # after a turn of a library with threads of its own, before the next one's
NO_TIME = 'not measured: no time left'
OUT_OF_MEMORY = 'out of memory'

# Part of a device's kind -> dense peak, operations a second: bfloat16 (summed in float32), TF32, float32.
# A TPU multiplies float32 in bfloat16 where JAX's default precision is not changed.
PEAKS = {
    'H100 PCIe': (756e12, 378e12, 51e12),
    'H100 NVL': (835e12, 417.5e12, 60e12),
    'H100': (989e12, 494.7e12, 67e12),
    'H200': (989e12, 494.7e12, 67e12),
    'A100': (312e12, 156e12, 19.5e12),
    'RTX 4090': (165.2e12, 82.6e12, 82.6e12),
    'NVIDIA L4 ': (121e12, 60e12, 30.3e12),
    'TPU v4': (275e12,),
    'TPU v5 lite': (197e12,),
    'TPU v5e': (197e12,),
    'TPU v5': (459e12,),
    'TPU v6': (918e12,),
}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One row of the table; what could not be had is None.

    part, name: 'step' ...; name says which of the part's functions.
    config: the configuration, as it was asked for.
    digest: of the configuration with everything that counts.
    device, devices: kind, and how many work together.
    batch: images or people of a call, over all devices.
    note: '' where it was measured, otherwise why not.
    turn: rows of one number were measured in turns, side by side.
    median_s, least_s, low_s, high_s: of a call; low and high are the quartiles.
    relative: median, lower and upper quartile of the time over the reference's in the same turn.
    repeats, calls: timings, and calls in each.
    compile_s: tracing and compiling, without any cache; compiled_alone: nothing else was compiled meanwhile.
    flops_per_image: of the program as written, recomputation included.
    memory: bytes on each device, as XLA laid the program out: arguments, outputs, aliased, temporary, code.
    peak_bytes: the most that the device held beyond what it held before, where this call was its highest.
    peak: the device's operations a second that `mfu` is a share of, and their kind.
    """

    part: str
    name: str
    config: str = ''
    digest: str = ''
    device: str = ''
    devices: int = 1
    batch: int = 1
    note: str = ''
    turn: int = 0
    median_s: float | None = None
    least_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    relative: tuple[float, float, float] | None = None
    repeats: int = 0
    calls: int = 1
    compile_s: float | None = None
    compiled_alone: bool = True
    flops_per_image: float | None = None
    memory: dict[str, int] | None = None
    peak_bytes: int | None = None
    peak: tuple[float, str] | None = None
    mfu: float | None = None

    @property
    def images_per_s(self) -> float | None:
        """Returns images or people a second, by the median."""
        return self.batch / self.median_s if self.median_s else None

    @property
    def held_bytes(self) -> int | None:
        """Returns what the program needs on a device in all: arguments, results and what is between."""
        if self.memory is None:
            return None
        held = self.memory
        return held['arguments'] + held['outputs'] - held['aliased'] + held['temporary']

    @property
    def key(self) -> tuple:
        """Returns what tells rows apart."""
        return self.part, self.name, self.config, self.digest, self.batch


@dataclasses.dataclass(frozen=True)
class Program:
    """A traced function.

    lowered: to be compiled; None of what is no JAX.
    start: (compiled or None) -> the call to be timed; its result is waited for.
    """

    lowered: jax.stages.Lowered | None
    start: Callable[[Any], Callable[[], Any]]


@dataclasses.dataclass(frozen=True)
class Case:
    """What there is to measure: `row` is its row before anything is known, `trace` makes the program.

    queued: several short calls may be in the device's queue; otherwise each is waited for.
    bfloat16: whether most of its arithmetic is.
    """

    row: Measurement
    trace: Callable[[], Program]
    queued: bool = True
    bfloat16: bool = False


def peak_of(kind: str, platform: str, bfloat16: bool) -> tuple[float, str] | None:
    """Returns the peak of a kind of device for arithmetic of this type, operations a second, and its name."""
    known = [peaks for name, peaks in PEAKS.items() if name.lower() in f'{kind} '.lower()]
    if not known:
        return None
    if bfloat16 or platform == 'tpu':
        return known[0][0], 'bfloat16'
    return known[0][1], "TF32, JAX's default for float32"


def take_turns(
    calls: Sequence[Callable[[], Any]],
    *,
    repeats: int,
    limit_s: float,
    queued: Sequence[bool] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[float], Any] = time.sleep,
) -> tuple[np.ndarray, list[int]]:
    """Returns the seconds of a call (rounds, functions), the functions taking turns, and calls per timing.

    Args:
        repeats: rounds; fewer where they would take over `limit_s`, but three at the least.
        queued: of which functions short calls are timed together.
    """
    queued = queued or [True] * len(calls)

    def seconds(call: Callable[[], Any], times: int) -> float:
        started = clock()
        results = [call() for _ in range(times)]
        jax.block_until_ready(results)
        return (clock() - started) / times

    first = [seconds(call, 1) for call in calls]
    each = [max(1, int(SHORTEST_S / max(s, 1e-6))) if q else 1 for s, q in zip(first, queued, strict=True)]
    started, rows = clock(), []
    while len(rows) < repeats and (len(rows) < 3 or clock() - started < limit_s):
        row = []
        for call, times in zip(calls, each, strict=True):
            settle(SETTLE_S if len(calls) > 1 else 0.0)
            row.append(seconds(call, times))
        rows.append(row)
    return np.array(rows), each


def measure(
    cases: Sequence[Case],
    *,
    repeats: int,
    limit_s: float,
    turn: int = 0,
    compilers: int = 1,
    reference: Callable[[], Any] | None = None,
    allow: Callable[[Case], bool] = lambda case: True,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[float], Any] = time.sleep,
) -> Iterator[Measurement]:
    """Yields the row of every case, measured in turns; what fails says why and stops nobody else.

    Args:
        compilers: how many programs are compiled at once; the first one is compiled by itself.
        reference: a call that takes its turn too, for `Measurement.relative`.
        allow: asked before each case is traced: is there time for it?
    """
    rows: dict[int, Measurement] = {}
    programs: dict[int, tuple[Program, float]] = {}
    for i, case in enumerate(cases):
        rows[i] = dataclasses.replace(case.row, turn=turn)
        if not allow(case):
            rows[i] = dataclasses.replace(rows[i], note=NO_TIME)
            continue
        started = clock()
        try:
            programs[i] = case.trace(), clock() - started
        except Exception as error:
            rows[i] = dataclasses.replace(rows[i], note=reason(error))

    def build(i: int) -> tuple[int, Any, Measurement]:
        program, trace_s = programs[i]
        try:
            return i, *_compiled(program, rows[i], trace_s, clock)
        except Exception as error:
            return i, None, dataclasses.replace(rows[i], note=reason(error))

    order = list(programs)
    built = [build(i) for i in order[:1]]
    with ThreadPoolExecutor(max(1, compilers)) as pool:
        alone = compilers == 1 or len(order) < 3
        built += [
            (i, done, dataclasses.replace(row, compiled_alone=alone))
            for i, done, row in pool.map(build, order[1:])
        ]
    calls: dict[int, Callable[[], Any]] = {}
    # From the smallest on: of the device's memory only the highest mark is known.
    for i, compiled, row in sorted(built, key=lambda one: one[2].held_bytes or 0):
        rows[i] = row
        if row.note:
            continue
        try:
            calls[i], peak_bytes = _warm(programs[i][0], compiled)
            rows[i] = dataclasses.replace(row, peak_bytes=peak_bytes)
        except Exception as error:
            rows[i] = dataclasses.replace(row, note=reason(error))
    if calls:
        names = sorted(calls)
        functions = [calls[i] for i in names] + ([reference] if reference else [])
        try:
            queued = [cases[i].queued for i in names] + ([True] if reference else [])
            times, each = take_turns(
                functions, repeats=repeats, limit_s=limit_s, queued=queued, clock=clock, settle=settle
            )
        except Exception as error:
            rows |= {i: dataclasses.replace(rows[i], note=reason(error)) for i in names}
        else:
            for k, i in enumerate(names):
                relative = times[:, k] / times[:, -1] if reference else None
                rows[i] = timed(rows[i], times[:, k], relative, calls=each[k])
    programs.clear(), calls.clear(), built.clear()
    gc.collect()
    yield from (with_peak(rows[i], cases[i].bfloat16) for i in sorted(rows))


def timed(
    row: Measurement, seconds: np.ndarray, relative: np.ndarray | None = None, *, calls: int = 1
) -> Measurement:
    """Returns the row with the figures of timings (rounds,)."""
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    shares = None
    if relative is not None:
        shares = tuple(float(x) for x in np.quantile(relative, [0.5, 0.25, 0.75]))
    return dataclasses.replace(
        row,
        median_s=float(median),
        least_s=float(seconds.min()),
        low_s=float(low),
        high_s=float(high),
        relative=shares,
        repeats=len(seconds),
        calls=calls,
    )


def with_peak(row: Measurement, bfloat16: bool) -> Measurement:
    """Returns the row with the peak of its device, and its share of that."""
    peak = peak_of(row.device, jax.default_backend(), bfloat16)
    if peak is None or not row.median_s or not row.flops_per_image:
        return row
    rate = row.flops_per_image * row.batch / row.median_s / row.devices
    return dataclasses.replace(row, peak=peak, mfu=rate / peak[0])


def reason(error: Exception) -> str:
    """Returns one line about what a case failed with."""
    said = str(error).strip() or type(error).__name__
    if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in said or 'out of memory' in said.lower():
        return OUT_OF_MEMORY
    if isinstance(error, ModuleNotFoundError):
        return f'not measured: {said}'
    return f'failed: {said.splitlines()[0][:160]}'


def _compiled(
    program: Program, row: Measurement, trace_s: float, clock: Callable[[], float]
) -> tuple[Any, Measurement]:
    """Returns the compiled program (None of what is no JAX) and the row with what XLA says of it."""
    if program.lowered is None:
        return None, row
    started = clock()
    compiled = program.lowered.compile()
    compile_s = trace_s + clock() - started
    flops, found = _first(program.lowered.cost_analysis()).get('flops'), compiled.memory_analysis()
    memory = None
    if found is not None:
        memory = {
            'arguments': found.argument_size_in_bytes,
            'outputs': found.output_size_in_bytes,
            'aliased': found.alias_size_in_bytes,
            'temporary': found.temp_size_in_bytes,
            'code': found.generated_code_size_in_bytes,
        }
    per_image = float(flops) * row.devices / row.batch if flops else None
    return compiled, dataclasses.replace(row, compile_s=compile_s, flops_per_image=per_image, memory=memory)


def _first(analysis: Any) -> dict[str, float]:
    """Returns the analysis of a program's only module: older releases of JAX give a list."""
    return (analysis[0] if isinstance(analysis, list) else analysis) or {}


def _warm(program: Program, compiled: Any) -> tuple[Callable[[], Any], int | None]:
    """Returns the call, which has been called once, and by how much it raised the device's high mark."""
    before = jax.local_devices()[0].memory_stats() or {}
    call = program.start(compiled)
    jax.block_until_ready(call())
    after = jax.local_devices()[0].memory_stats() or {}
    high = after.get('peak_bytes_in_use')
    if high is None or high <= before.get('peak_bytes_in_use', 0):
        return call, None
    return call, int(high - before.get('bytes_in_use', 0))
