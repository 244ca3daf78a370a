"""The benchmark: its cases run for real on a tiny network, its clockwork with made-up clocks."""

import dataclasses
import json

import numpy as np
import pytest

from tests import tiny_config
from tools.benchmark import __main__ as command
from tools.benchmark import configs, measure, parts, reading, session, tables
from tools.benchmark.measure import NO_TIME, OUT_OF_MEMORY, Case, Measurement, Program

TINY = 'tests/tiny_config.py'


class Clock:
    """A clock that only moves when something takes time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def taking(self, seconds):
        """Returns a call that takes so long, or one after another the seconds of a list."""
        several = iter(seconds) if isinstance(seconds, list) else None

        def call():
            self.now += next(several) if several else seconds

        return call


def case(name, call, *, part='solver', config='', batch=1, trace=None):
    return Case(
        Measurement(part=part, name=name, config=config, batch=batch),
        trace or (lambda: Program(None, lambda _: call)),
        queued=False,
    )


def measured(cases, clock, **options):
    options = {'repeats': 4, 'limit_s': 1e9, 'settle': lambda _: None} | options
    return list(measure.measure(cases, clock=clock, **options))


def a_session(out, clock, **options):
    environment = {'device': 'made up', 'platform': 'cpu', 'jax': '0', 'program': 'one'}
    options = {'minutes': None, 'environment': environment} | options
    return session.Session(out, 3, clock=clock, **options)


@pytest.mark.slow  # compiles a minute and a half on an empty cache
def test_a_step_an_inference_and_the_solver_of_a_tiny_network(tmp_path):
    config = configs.load(f'{TINY}:batch_size=2')
    now = session.Session(tmp_path, 2)
    cases = [parts.step(TINY, config), *parts.inferences(TINY, config, (1,)), next(parts.solver((2,)))]
    rows = now.run('tiny', cases)
    assert [row.note for row in rows] == [''] * 3, rows
    for row in rows:
        assert 0 < row.least_s <= row.low_s <= row.median_s <= row.high_s, row
        assert row.compile_s > 0 and row.flops_per_image > 0 and row.held_bytes > 0, row
    step = rows[0]
    count = 2 * 3 * 64 * 64  # its images must be among the arguments
    assert step.memory['arguments'] > count and step.memory['aliased'] > 0.9 * step.memory['outputs']
    assert step.flops_per_image > 3 * rows[1].flops_per_image / 2  # forward and backward against forward
    table = (tmp_path / 'table.md').read_text()
    assert 'step: train' in table and (tmp_path / 'picture.png').stat().st_size > 1000
    environment, again = session.read(tmp_path / 'results.json')
    assert [dataclasses.replace(row, relative=None, peak=None) for row in again] == rows
    assert {'device', 'jax', 'python', 'program', 'processor'} <= environment.keys()


def test_reading_is_measured_in_one_thread_and_through_all():
    rows = session.Session(None, 3).run('input', list(reading.reading(64, count=2, batches=1)))
    assert [row.note for row in rows] == [''] * 3, rows
    full, records, _ = (row.images_per_s for row in rows)
    assert records > full > 0


def test_configurations_are_named_in_one_word():
    config = configs.load(f'{TINY}:batch_size=2,model.image_mean=(0.1,0.2,0.3),optimizer.clip_norm=1')
    assert config.batch_size == 2 and config.model.image_mean == (0.1, 0.2, 0.3)
    assert config.optimizer.clip_norm == 1.0
    lean = configs.load('lean,batch_size=4', base=TINY)
    assert lean.batch_size == 4 and lean.model.backbone.remat and lean.model.backbone.dtype == 'bfloat16'
    exact = configs.load(f'{TINY}:exact')
    assert exact.to_dict() == tiny_config.get_config().to_dict() | {'preset': 'exact'}
    for spec, said in (
        ('none.py', 'none.py cannot be read'),
        (f'{TINY}:batch_siz=2', 'did you mean batch_size'),
        (f'{TINY}:batch_size=none', "batch_size='none' should be"),
        (f'{TINY}:quick', "'quick' is no override"),
        ('lean', "'lean' is no configuration"),
    ):
        with pytest.raises(ValueError, match=said):
            configs.load(spec)


def test_functions_take_turns_and_noise_falls_on_all():
    clock, order = Clock(), []

    def one(name, seconds):
        call = clock.taking(seconds)
        return lambda: (order.append(name), call())[1]

    cases = [case('a', one('a', 1.0)), case('b', one('b', 2.0))]
    rows = measured(cases, clock, reference=one('reference', 4.0))
    assert ''.join(order).endswith('abreference' * 4)
    assert [row.median_s for row in rows] == [1.0, 2.0]
    assert [row.relative for row in rows] == [(0.25,) * 3, (0.5,) * 3]
    assert rows[0].turn == rows[1].turn
    assert (
        len(measured(cases, clock, limit_s=6.0)) == 2 and measured(cases, clock, limit_s=0.0)[0].repeats == 3
    )


def test_ratios_are_over_the_first_configuration():
    clock = Clock()
    # a warm-up call and one that tells how long it takes, then the turns
    slow = [1.0] * 2 + [1.0, 1.2, 1.1, 0.9]
    fast = [0.5] * 2 + [0.5, 0.6, 0.55, 0.45]
    cases = [case(n, clock.taking(s), config=n) for n, s in (('one.py', slow), ('two.py', fast))]
    rows = [dataclasses.replace(row, name='f') for row in measured(cases, clock)]
    line = tables.ratios(rows).splitlines()[-1]
    assert [cell.strip() for cell in line.split('|')[3:6]] == ['two.py', 'one.py', '0.500'], line
    apart = [rows[0], dataclasses.replace(rows[1], turn=7)]
    assert 'not in turns' in tables.ratios(apart)


@pytest.mark.parametrize('where', ['trace', 'first call', 'turns'])
def test_out_of_memory_is_a_result_and_the_others_go_on(where):
    clock, calls = Clock(), [0]

    def full(*_):
        calls[0] += 1
        if where == 'trace' or calls[0] > {'first call': 0, 'turns': 3}[where]:
            raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore')
        clock.now += 1

    first = case('too large', full, trace=full if where == 'trace' else None)
    rows = measured([first, case('fits', clock.taking(1.0))], clock)
    assert rows[0].note == OUT_OF_MEMORY and rows[0].median_s is None
    assert rows[1].median_s == 1.0 or where == 'turns', rows
    assert OUT_OF_MEMORY in tables.table(rows)


def test_what_fails_otherwise_says_so_in_a_line():
    def broken():
        raise ValueError('no such thing\nand a long story')

    row = measured([case('broken', None, trace=broken)], Clock())[0]
    assert row.note == 'failed: no such thing'


def test_the_minutes_are_kept_and_what_is_left_out_is_named(tmp_path):
    clock = Clock()
    now = a_session(tmp_path, clock, minutes=1.0)
    groups = [[case(f'{k}', clock.taking(2.0))] for k in range(8)]  # 6 turns of 2 s each
    for group in groups:
        now.plan(group)
    for k, group in enumerate(groups):
        now.run(str(k), group)
    notes = [row.note for row in now.rows.values()]
    assert clock.now <= 60 and notes.count('') >= 3 and notes.count(NO_TIME) >= 2, notes
    assert notes == sorted(notes), 'the first ones are the worthiest'
    assert (tmp_path / 'table.md').read_text().count(NO_TIME) == notes.count(NO_TIME)


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    clock, calls = Clock(), []

    def counted(name):
        return lambda: (calls.append(name), clock.taking(1.0)())[1]

    cases = [case(name, counted(name)) for name in 'ab']
    first = a_session(tmp_path, clock)
    first.plan(cases)
    first.run('a', cases[:1])  # and is stopped
    calls.clear()
    again = a_session(tmp_path, clock)
    rows = again.run('both', cases)
    assert set(calls) == {'b'} and [row.note for row in rows] == ['', '']
    calls.clear()
    other = {'device': 'another', 'platform': 'cpu', 'jax': '0', 'program': 'one'}
    a_session(tmp_path, clock, environment=other).run('both', cases)
    assert set(calls) == {'a', 'b'}


def test_only_a_fall_of_more_than_a_tenth_beyond_the_spread_is_accused():
    def row(name, median, spread):
        return Measurement(part='step', name=name, relative=(median, median - spread, median + spread))

    before = [
        row('same', 1.0, 0.02),
        row('fell', 1.0, 0.02),
        row('noisy', 1.0, 0.02),
        row('little', 1.0, 0.0),
    ]
    now = [row('same', 1.0, 0.02), row('fell', 1.2, 0.02), row('noisy', 1.2, 0.3), row('little', 1.05, 0.0)]
    falls = tables.fallen([*now, row('new', 9.0, 0.0)], before)
    assert falls == {('step', 'fell', '', 1): pytest.approx(1.2)}
    assert tables.verdict(now, before, falls).count('FELL') == 1


@pytest.mark.parametrize(('slower', 'status'), [(1.2, 1), (1.05, 0), (0.5, 0)])
def test_the_check_measures_again_before_it_accuses(tmp_path, monkeypatch, capsys, slower, status):
    clock, speed = Clock(), [1.0]

    def short():
        yield 'group', [case('f', lambda: clock.taking(speed[0])())]

    monkeypatch.setattr(command, 'short', short)
    monkeypatch.setattr(session, 'reference', lambda: clock.taking(2.0))
    original = session.Session
    monkeypatch.setattr(session, 'Session', lambda *a, **k: original(*a, clock=clock, **k))
    file = tmp_path / 'recorded.json'
    assert command.main(['--check', str(file), '--update', '--repeats', '3']) == 0
    speed[0] = slower
    assert command.main(['--check', str(file), '--repeats', '3']) == status
    assert ('times as long as recorded' in capsys.readouterr().out) == bool(status)
    assert json.loads(file.read_text())['rows'][0]['relative'] == [0.5] * 3


def test_peaks_and_their_precision():
    assert measure.peak_of('NVIDIA H100 80GB HBM3', 'gpu', True) == (989e12, 'bfloat16')
    assert measure.peak_of('NVIDIA H100 PCIe', 'gpu', True)[0] == 756e12
    assert measure.peak_of('NVIDIA A100-SXM4-80GB', 'gpu', False)[0] == 156e12
    assert measure.peak_of('TPU v5 lite', 'tpu', False) == (197e12, 'bfloat16')
    assert measure.peak_of('TPU v5p', 'tpu', True)[0] == 459e12
    assert measure.peak_of('NVIDIA L40S', 'gpu', True) is None
    assert measure.peak_of('cpu', 'cpu', False) is None
    row = Measurement('step', 'train', device='NVIDIA H100 80GB HBM3', batch=64, flops_per_image=1e12)
    row = measure.with_peak(measure.timed(row, np.array([0.128, 0.128])), True)
    assert row.mfu == pytest.approx(500e12 / 989e12)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--only', 'steps'], '--only steps: there are step'),
        (['--batch', 'x'], '--batch x'),
        (['--colour'], 'unknown arguments: --colour'),
        (['--repeats', '1'], 'three at the least'),
        (['--config', 'none.py', '--only', 'step'], 'none.py cannot be read'),
        (['--check', 'README.md'], 'holds no results'),
        (['--check', 'none.json'], 'record it with --update'),
    ],
)
def test_wrong_commands_end_with_a_line(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr(command, 'short', lambda: iter(()))
    try:
        status = command.main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2 and said in capsys.readouterr().err
