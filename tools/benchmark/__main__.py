"""Measures training step, inference, body and reading; configurations side by side.

    python -m tools.benchmark --all --out runs/benchmark                     # all that this machine can show
    python -m tools.benchmark --config configs/synthetic.py --only step,inference --out DIR
    python -m tools.benchmark --compare configs/hybrik_transformer.py configs/hybrik_deconv.py --out DIR
    python -m tools.benchmark --config configs/hybrik_transformer.py --compare exact fast lean,batch_size=64
    python -m tools.benchmark --torch --config configs/synthetic.py          # beside an equal PyTorch step
    python -m tools.benchmark --check docs/benchmark.json [--update]         # make benchmark: what fell?

A configuration is FILE.py, or FILE.py:KEY=VALUE,KEY=VALUE, where a preset's name may stand for an override;
with --config, --config.KEY=VALUE works too. Configurations take turns, call by call. DIR gets results.json,
table.md and picture.png after every part; the same command goes on where one was stopped.
"""

import argparse
import json
import logging
import os
import pathlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hybrik_jax import compiler

if TYPE_CHECKING:
    from tools.benchmark.measure import Measurement
    from tools.benchmark.session import Session

PARTS = ('step', 'inference', 'solver', 'skinning', 'input')
TRANSFORMER, DECONV = 'configs/hybrik_transformer.py', 'configs/hybrik_deconv.py'
SMALL = 'configs/synthetic.py'
LOG = logging.getLogger('tools.benchmark')


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Returns the options, and the overrides of `--config.KEY=VALUE`."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog='tools.benchmark', description=__doc__, formatter_class=layout)
    parser.add_argument('--all', action='store_true', help='everything, in order of worth, within --minutes')
    parser.add_argument('--config', default='', metavar='FILE', help=f'default: {SMALL}')
    parser.add_argument('--compare', nargs='+', default=[], metavar='CONFIG', help='configurations in turns')
    parser.add_argument('--torch', action='store_true', help="beside PyTorch's step of an equal network")
    parser.add_argument('--only', default='', help=f'of {",".join(PARTS)}')
    parser.add_argument('--batch', default='', metavar='N,N', help='sizes of batch in place of the usual')
    parser.add_argument('--repeats', type=int, default=20, help='turns (20)')
    parser.add_argument('--minutes', type=float, help='begin nothing that would end later; 8 with --all')
    parser.add_argument('--out', type=pathlib.Path, metavar='DIR', help='folder of results')
    parser.add_argument('--check', type=pathlib.Path, metavar='FILE', help='compare with recorded results')
    parser.add_argument('--update', action='store_true', help='with --check: record the results there')
    parser.add_argument('--json', action='store_true', help='print JSON in place of the table')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    options, rest = parser.parse_known_args(arguments)
    if unknown := [text for text in rest if not text.startswith('--config.') or '=' not in text]:
        parser.error(f'unknown arguments: {" ".join(unknown)}; overrides look like --config.batch_size=64')
    wanted = [part for part in options.only.split(',') if part]
    if strange := set(wanted) - set(PARTS):
        parser.error(f'--only {",".join(sorted(strange))}: there are {", ".join(PARTS)}')
    sizes = [text for text in options.batch.split(',') if text]
    if not all(text.isdecimal() and int(text) for text in sizes):
        parser.error(f'--batch {options.batch}: give sizes like 8,64')
    if options.repeats < 3:
        parser.error('--repeats: three at the least')
    options.only, options.batch = wanted, [int(text) for text in sizes]
    return options, [text.removeprefix('--config.') for text in rest]


def everything(cpu: bool) -> Iterator[tuple[str, list]]:
    """Yields title and cases of all that a machine can show, what matters most first."""
    from tools.benchmark import configs, parts, reading, torch_step

    def steps(*specs: str) -> list:
        return [parts.step(spec, configs.load(spec)) for spec in specs]

    def at(batch: int, *pairs: tuple[str, str]) -> list:
        return steps(*(f'{file}:{preset},batch_size={batch}' for file, preset in pairs))

    small = configs.load(SMALL)
    body = [*parts.solver(), *parts.skinning()]
    if cpu:
        alike = f'{SMALL}:loss.rotations=0'
        yield 'small network', [*steps(SMALL, alike), torch_step.step(alike, configs.load(alike))]
        yield 'small network, inference', list(parts.inferences(SMALL, small, (1, 64)))
        yield 'body', body
        yield 'reading', list(reading.reading(256))
        alike = f'{TRANSFORMER}:loss.rotations=0,batch_size=8'
        yield 'ResNet-34', [*steps(alike), torch_step.step(alike, configs.load(alike))]
        inference = f'{TRANSFORMER}:exact'
        yield 'ResNet-34, inference', list(parts.inferences(inference, configs.load(inference)))
        return
    pairs = [(TRANSFORMER, 'exact'), (DECONV, 'exact'), (TRANSFORMER, 'lean'), (DECONV, 'lean')]
    yield 'Transformer and deconvolution, batch 64', at(64, *pairs, (TRANSFORMER, 'fast'))
    yield 'body', body
    yield 'Transformer and deconvolution, batch 256', at(256, *pairs[2:], *pairs[:2], (TRANSFORMER, 'fast'))
    for preset in ('exact', 'fast'):
        spec = f'{TRANSFORMER}:{preset}'
        yield f'inference, {preset}', list(parts.inferences(spec, configs.load(spec)))
    yield 'reading', list(reading.reading(256))
    yield 'small network', steps(SMALL)


def short() -> Iterator[tuple[str, list]]:
    """Yields title and cases of what `--check` looks at."""
    from tools.benchmark import configs, parts, reading

    small = configs.load(SMALL)
    yield 'step', [parts.step(SMALL, small)]
    yield 'inference', list(parts.inferences(SMALL, small, (1, 64)))
    yield 'body', [*parts.solver((64,)), *parts.skinning((64,))]
    yield 'input', list(reading.reading(256))


def chosen(options: argparse.Namespace, overrides: Sequence[str]) -> Iterator[tuple[str, list]]:
    """Yields title and cases of what the command line names, configurations side by side."""
    from tools.benchmark import configs, parts, reading, torch_step

    base = options.config or SMALL
    specs = options.compare or [base]
    only = options.only or (['step'] if options.compare or options.torch else PARTS)
    pairs = []
    for spec in specs:
        config = configs.load(spec, base=base, overrides=overrides)
        file, changes = configs.apart(spec, base)
        changes = ','.join(filter(None, [*overrides, changes]))
        pairs.append((f'{file}:{changes}' if changes else file, config))
    for part in only:
        if part == 'step':
            cases = []
            for spec, config in pairs:
                for size in options.batch or [config.batch_size]:
                    other = config.copy_and_resolve_references()
                    other.batch_size = size
                    cases.append(parts.step(spec, other))
                    if options.torch:
                        cases.append(torch_step.step(spec, other))
            yield part, cases
        elif part == 'inference':
            for size in options.batch or parts.INFERENCE_BATCHES:
                cases = [case for spec, config in pairs for case in parts.inferences(spec, config, (size,))]
                yield f'{part}, batch {size}', cases
        elif part == 'input':
            yield part, list(reading.reading(pairs[0][1].image_size))
        else:
            yield part, list(getattr(parts, part)(options.batch or parts.BODY_BATCHES))


def check(options: argparse.Namespace) -> int:
    """Returns the status of `--check`: 1 where something fell; what seems to have is measured once more."""
    from tools.benchmark import session, tables

    if not options.update:
        if not options.check.is_file():
            raise ValueError(f'{options.check}: nothing is recorded there: record it with --update.')
        environment, before = session.read(options.check)
    now = session.Session(options.out, options.repeats, reference=session.reference())
    rows = [row for title, cases in short() for row in now.run(title, cases)]
    if options.update:
        session.write(options.check, now.environment, rows)
        print(f'{options.check}: recorded {len(rows)} rows.')
        return 0
    falls = tables.fallen(rows, before)
    for _ in range(2):
        if not falls:
            break
        LOG.info('once more, to be sure: %s', '; '.join(' '.join(map(str, which)) for which in falls))
        again = session.Session(None, options.repeats, reference=now.reference)
        for title, cases in short():
            suspects = [case for case in cases if tables.which(case.row) in falls]
            better = {row.key: row for row in again.run(title, suspects)}
            rows = [_better(row, better.get(row.key)) for row in rows]
        falls = tables.fallen(rows, before)
    print(tables.verdict(rows, before, falls))
    for name in ('processor', 'cores', 'device'):
        if environment[name] != now.environment[name]:
            print(f'Recorded on another {name}, {environment[name]}: ratios are a hint only.')
    for (part, name, config, batch), times in falls.items():
        print(f'{part}: {name}, {config}, batch {batch} takes {times:.2f} times as long as recorded.')
    return 1 if falls else 0


def _better(one: 'Measurement', other: 'Measurement | None') -> 'Measurement':
    """Returns the row whose time over the reference's is the lower one."""
    usable = other is not None and other.relative is not None
    return other if usable and (one.relative is None or other.relative[0] < one.relative[0]) else one


def _stop_at(minutes: float, now: 'Session') -> None:
    """Ends the process a while after the limit, in whatever it hangs; what is known is written."""

    def end() -> None:
        LOG.info('The time is up: what is not in %s was not measured.', now.out)
        os._exit(0)

    timer = threading.Timer(60 * minutes + 20, end)
    timer.daemon = True
    timer.start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what the command line says and returns the exit status."""
    options, overrides = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')
    LOG.setLevel(logging.INFO)
    import jax

    from hybrik_jax import ending
    from tools.benchmark import session, tables

    if options.check is None:
        jax.config.update('jax_enable_compilation_cache', False)  # the times of compiling are cold ones
    cpu = jax.default_backend() == 'cpu'
    try:
        if options.check is not None:
            return check(options)
        minutes = options.minutes or (8.0 if options.all else None)
        compilers = 1 if cpu else max(1, (os.cpu_count() or 1) // 4)
        now = session.Session(options.out, options.repeats, minutes, compilers)
        if options.all:
            _stop_at(minutes, now)
        groups = list(everything(cpu) if options.all else chosen(options, overrides))
        for _, cases in groups:
            now.plan(cases)
        rows = [row for title, cases in groups for row in now.run(title, cases)]
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        sys.stderr.write(f'{error}\n')
        return 2
    if options.json:
        print(json.dumps([row.__dict__ for row in rows], indent=1))
    else:
        print(f'{tables.table(rows)}\n\n{tables.ratios(rows)}')
    if options.out:
        ending.write_whole(
            options.out / 'command.txt', ' '.join(['python -m tools.benchmark', *sys.argv[1:]]) + '\n'
        )
        print(f'\n{options.out}: results.json, table.md, picture.png')
    return 0


if __name__ == '__main__':
    compiler.set_up()
    sys.exit(main())
