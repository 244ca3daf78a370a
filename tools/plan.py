"""Prints what a configuration's training step takes of devices that need not be there.

    python -m tools.plan --config configs/hybrik_transformer.py --target h100 --target v5e:2x2
    python -m tools.plan --config configs/hybrik_transformer.py --compare configs/hybrik_deconv.py \
        --target h100 --batch 64,256 --nosearch --config.preset=lean --json plan.json

The real step is compiled ahead of time, one to three minutes each, by JAX's CUDA plugin (h100, a100,
a100-40gb, 4090, l4, t4, 4xa100 ...) or by libtpu (v4, v5e, v5p, v6e, with a slice: v5e:2x2). Either is
installed into a folder of its own at the first time, see --cache. Printed for each device, over which the
batch is split: memory by what it holds, what it hands to collective operations in a step, and whether it
fits; FLOPs per image are XLA's count on the same step lowered for a CPU (`ahead.flops_per_image`). --search
finds the largest batch that fits: two batches give a line, a compilation proves where it meets the limit.
Where the step does not fit, or with --advise, options that take less are compiled in turn. Of a card's
memory 92% can be used, with XLA_PYTHON_CLIENT_MEM_FRACTION=0.92; JAX takes 75% by itself.

For CUDA it is a lower bound: nothing is tuned without a card, so that what convolutions want beside inputs
and outputs is missing, as is what CUDA itself takes.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from typing import Any

from absl import app, flags
from ml_collections import config_flags
from tabulate import tabulate

from hybrik_jax import config as configuration
from hybrik_jax import ending, main
from tools import ahead

FLAGS = flags.FLAGS
flags.DEFINE_multi_string('target', ['h100'], 'What to compile for: h100, 4xa100, v5e:2x2 ...; repeatable.')
flags.DEFINE_multi_string(
    'compare', [], 'Another configuration file, planned with the same overrides; repeatable.'
)
flags.DEFINE_list('batch', [], 'Batch sizes, over all devices, instead of the one of the configuration.')
flags.DEFINE_bool('search', True, 'Find the largest batch that fits.')
flags.DEFINE_bool('advise', False, 'Try the options that take less memory, even where the step fits.')
flags.DEFINE_string('json', '', 'File for the figures.')
flags.DEFINE_string(
    'cache',
    os.environ.get('HYBRIK_JAX_PLAN_CACHE', '~/.cache/hybrik_jax/plan'),
    'Folder of the compilers; also HYBRIK_JAX_PLAN_CACHE.',
)
flags.DEFINE_string('answer', '', 'Used by the program itself: the file for the rows of one target.')

# What is tried in turn where a step does not fit: the same arithmetic first.
REMAT = {'preset': '', 'model.backbone.remat': True, 'model.transformer.remat': True}
ADVICE = (REMAT, {'preset': 'fast'}, {'preset': 'lean'})


def plan(config: Any, target: ahead.Target, *, batches: list[int], search: bool, advise: bool) -> list[dict]:
    """Returns the rows of a configuration on a target; see `ahead.measure`.

    Args:
        batches: sizes to measure.
        search: add the row of the largest batch that fits, marked 'largest'.
        advise: try every option, not only until one makes the largest of `batches` fit where it does not.
    Raises:
        ValueError: the configuration cannot work, or there is no compiler.
    """
    devices = target.devices()
    flops: dict[tuple, float] = {}

    def measured(changes: dict[str, Any], size: int) -> dict[str, Any]:
        print(f'{target.text}: compiling for {size} images {said(changes)}', file=sys.stderr, flush=True)
        one = ahead.changed(config, {**changes, 'batch_size': size})
        configuration.check(one, devices=len(devices), hosts=1)
        if (key := said(changes)) not in flops:
            flops[key] = ahead.flops_per_image(one, len(devices))
        row = ahead.measure(one, target, devices)
        return {'changes': changes, 'flops_per_image': flops[key], **row}

    rows = [measured({}, size) for size in batches]
    if search:
        found = ahead.largest_batch(rows, lambda size: measured({}, size), len(devices), target.limit)
        rows.append({**(found or {'batch_size': 0, 'changes': {}}), 'largest': True})
    for changes in ADVICE:
        fits = [row for row in rows if row['batch_size'] == max(batches) and row['fits']]
        if advise or not fits:
            rows.append(measured(changes, max(batches)))
    return rows


def said(changes: dict[str, Any]) -> str:
    """Returns changes of a configuration as they are written on the command line."""
    return ' '.join(f'--config.{name}={value}' for name, value in changes.items())


def column(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row's figures in words, by what they are."""
    if not row.get('total'):
        return {'fits': 'none does' if row.get('largest') else 'no'}
    texts = {
        name: f'{size / ahead.MIB:,.0f} MiB'
        for name, size in row.get('memory', {}).items()
        if abs(size) > ahead.MIB / 2
    }
    share = row['total'] / row['limit']
    fits = f'{"yes" if row["fits"] else "no"}, {share:.0%} of {row["limit"] / 2**30:.1f} GiB'
    texts |= {'together': f'{row["total"] / ahead.MIB:,.0f} MiB', 'fits': fits}
    texts['GFLOPs per image'] = f'{row["flops_per_image"] / 1e9:.1f}'
    for name, size in row.get('collectives', {}).items():
        texts[f'{name} per step'] = f'{size / ahead.MIB:,.0f} MiB'
    return texts | {'seconds to compile': f'{row["compile_s"]:.0f}'}


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows of one target as a table of columns, with ratios to the first configuration."""
    headings, columns = [], []
    for row in rows:
        name = 'largest: ' if row.get('largest') else ''
        lines = [
            pathlib.Path(row['config']).stem,
            f'{name}batch {row["batch_size"]}',
            *said(row['changes']).split(),
        ]
        headings.append('\n'.join(line.removeprefix('--config.') for line in lines))
        columns.append(column(row))
        first = next((other for other in rows if _alike(other, row)), row)
        if first['config'] != row['config'] and row.get('total') and first.get('total'):
            ratios = first['total'] / row['total'], first['flops_per_image'] / row['flops_per_image']
            name = pathlib.Path(first['config']).stem
            columns[-1][f'{name} / this, memory'] = f'{ratios[0]:.2f}'
            columns[-1][f'{name} / this, FLOPs'] = f'{ratios[1]:.2f}'
    names = list(dict.fromkeys(name for texts in columns for name in texts))
    lines = [[name, *(texts.get(name, '') for texts in columns)] for name in names]
    return tabulate(lines, ['per device', *headings], stralign='right', disable_numparse=True)


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ('batch_size', 'changes', 'largest'))


def _answer() -> None:
    """Writes the rows of the one target and configuration of the flags; the process that a plan starts."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()  # with its parent
    config, target = FLAGS.config, ahead.Target.parse(FLAGS.target[0])
    batches = [int(size) for size in FLAGS.batch] or [config.batch_size]
    try:
        found = {'rows': plan(config, target, batches=batches, search=FLAGS.search, advise=FLAGS.advise)}
    except ValueError as error:
        if FLAGS.debug:
            raise
        found = {'error': str(error)}
    pathlib.Path(FLAGS.answer).write_text(json.dumps(found), encoding='utf-8')


def _ask(config: str, target: ahead.Target) -> list[dict[str, Any]]:
    """Returns the rows of a configuration file on a target, from a process that has the compiler."""
    folder = ahead.compiler(target.kind, pathlib.Path(FLAGS.cache).expanduser())
    with tempfile.TemporaryDirectory() as temporary:
        answer, log = pathlib.Path(temporary) / 'rows.json', pathlib.Path(temporary) / 'log'
        overrides = config_flags.get_override_values(FLAGS['config']).items()
        command = [sys.executable, '-m', 'tools.plan', f'--config={config}', f'--target={target.text}']
        command += [f'--config.{key}={value}' for key, value in overrides]
        command += [f'--{name}={FLAGS[name].value}' for name in ('search', 'advise', 'debug')]
        command += [f'--batch={",".join(FLAGS.batch)}', f'--answer={answer}']
        environment = ahead.environment(target.kind, folder, os.environ)
        with (
            subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process,
            log.open('w') as file,
        ):
            for line in process.stderr:
                (sys.stderr if FLAGS.debug or line.startswith(f'{target.text}: ') else file).write(line)
        if not answer.exists():
            words = ' '.join(log.read_text().strip().splitlines()[-3:])
            how = f'ended with {process.returncode}: {words}'
            if process.returncode < 0:  # the kernel's answer where memory is short
                how = f'was killed by signal {-process.returncode}; a compilation takes some 4 GB of memory'
            raise ValueError(f'{config} on {target.text}: the compiler {how}')
        found = json.loads(answer.read_text(encoding='utf-8'))
    if 'error' in found:
        raise ValueError(f'{config} on {target.text}: {found["error"]}')
    return [{'config': config, 'target': target.text, **row} for row in found['rows']]


def _run(argv: list[str]) -> None:
    """Prints the plan of the flags."""
    if FLAGS.answer:
        _answer()
        return
    files = [config_flags.get_config_filename(FLAGS['config']), *FLAGS.compare]
    rows = []
    try:
        if wrong := [size for size in FLAGS.batch if not size.isdigit() or not int(size)]:
            raise ValueError(f'--batch={wrong[0]} is no batch size: give whole numbers such as 64,256.')
        if missing := [file for file in files if not pathlib.Path(file).is_file()]:
            raise ValueError(
                f'There is no configuration file {missing[0]}: give --compare a path in configs/.'
            )
        for target in [ahead.Target.parse(text) for text in FLAGS.target]:
            found = [row for file in files for row in _ask(file, target)]
            rows += found
            print(f'\n{target.text}, {found[0].get("devices", "")} device(s)\n{table(found)}')
            if FLAGS.json:
                ending.write_whole(pathlib.Path(FLAGS.json), json.dumps(rows, indent=1) + '\n')
    except (ValueError, OSError) as error:
        if FLAGS.debug:
            raise
        sys.exit(str(error))


if __name__ == '__main__':
    app.run(_run, flags_parser=main.parse)
