"""What a step takes of devices that are not there: targets, parts, the search, the command."""

import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from hybrik_jax.model import resnet
from tests import helpers
from tools import ahead, plan

GIB = 2**30


@pytest.mark.parametrize(
    ('text', 'kind', 'name', 'count', 'gib'),
    [
        ('h100', 'cuda', 'h100', 1, 73),
        ('4xA100', 'cuda', 'a100', 4, 73),
        ('a100-40gb', 'cuda', 'a100-40gb', 1, 36),
        ('2x4090', 'cuda', '4090', 2, 22),
        ('v5e:2x2', 'tpu', 'v5e', 0, 15),
        ('v5p:2x2x1', 'tpu', 'v5p', 0, 95),
    ],
)
def test_targets_are_read(text, kind, name, count, gib):
    target = ahead.Target.parse(text)
    assert (target.kind, target.name, target.count, target.limit // GIB) == (kind, name, count, gib)


@pytest.mark.parametrize('text', ['', 'h200x', '0xh100', 'v5e', 'v9:2x2', 'v5e:2', 'h100:2x2', '4x'])
def test_other_targets_are_refused_with_the_ones_there_are(text):
    with pytest.raises(
        ValueError, match=f'--target={text} is unknown: give a card .h100, .* or a TPU .v4:2x2x1'
    ):
        ahead.Target.parse(text)


def test_a_cards_limits_are_told_to_the_compiler():
    text = ahead.card_text('4090')
    for line in (
        'major: 8 minor: 9',
        'core_count: 128',
        'optin: 101376',
        f'device_memory_size: {24564 << 20}',
    ):
        assert line in text


@pytest.fixture(scope='module')
def config():
    return helpers.tiny_config('unused', 'unused', batch_size=8)


@pytest.fixture(scope='module')
def lowered(config):
    return ahead.lower(config, jax.devices()[:1])


def test_the_parts_are_the_arguments_of_the_step(lowered):
    parts = ahead.parts(lowered, 1)
    network = parts['parameters and statistics']
    assert parts['averages'] == 2 * network
    assert 1.9 * network < parts['optimizer'] < 2 * network  # Adam has none of the statistics
    assert 8 * 64 * 64 * 3 < parts['batch'] < 2 * 8 * 64 * 64 * 3


def test_what_is_computed_again_is_counted_again(config, lowered):
    """The forward pass is a third of a step: with all of it computed twice, a step has up to 4/3 of FLOPs."""
    plain = lowered.cost_analysis()['flops'] / 8
    again = ahead.flops_per_image(ahead.changed(config, plan.REMAT), 1)
    assert 1.15 < again / plain < 1.34
    assert 'remat' in str(plan.REMAT) and not config.model.backbone.remat  # the configuration stays as it is


def test_flops_are_those_of_a_count_by_hand():
    """ResNet-34's convolutions at 224 pixels: 3.66 G multiplications and additions, 8% on padding."""

    def convolution(side, kernel, stride, *channels, padded):
        taps = [range(x - kernel // 2, x + kernel // 2 + 1) for x in range(0, side, stride)]
        each_way = sum(padded or 0 <= x < side for places in taps for x in places)
        return 2 * channels[0] * channels[1] * each_way**2

    def by_hand(padded):
        total, side, before = convolution(224, 7, 2, 3, 64, padded=padded), 56, 64
        for planes, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
            stride = 1 if planes == before else 2
            total += convolution(side, 3, stride, before, planes, padded=padded)
            total += (stride - 1) * convolution(side, 1, stride, before, planes, padded=padded)
            side //= stride
            total += (2 * count - 1) * convolution(side, 3, 1, planes, planes, padded=padded)
            before = planes
        return total

    network = resnet.ResNet(depth=34)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    create = partial(network.init, jax.random.key(0), training=False)
    variables = jax.eval_shape(create, jnp.zeros(image.shape))
    lowered = jax.jit(partial(network.apply, training=False)).lower(variables, image)
    assert by_hand(padded=True) == pytest.approx(2 * 3.66e9, rel=0.01)
    assert 1 < lowered.cost_analysis()['flops'] / by_hand(padded=False) < 1.01  # normalisation and pooling


def test_collective_bytes_are_read_from_the_program():
    text = """
      %all-reduce.1 = (f32[512,512]{1,0:T(8,128)}, /*index=1*/bf16[10]{0}, f32[]) all-reduce(%a, %b, %c)
      %ars = f32[100]{0} all-reduce-start(%d)
      %ard = f32[100]{0} all-reduce-done(%ars)
      %g = f32[512,512]{1,0} get-tuple-element(%all-reduce.1), index=0
      ROOT %all-gather.3 = pred[4,3]{1,0} all-gather(%e), dimensions={0}
    """
    assert ahead.collectives(text) == {'all-reduce': 4 * 512 * 512 + 20 + 4 + 400, 'all-gather': 12}


def search(memory, first, devices=1, limit=1000.0, says=True):
    """Returns the batch that the search finds, 0 for none, and those that it compiled on the way."""
    compiled = []

    def measured(size):
        compiled.append(size)
        total = memory(size)
        return {
            'batch_size': size,
            'fits': total <= limit,
            'total': total if says or total <= limit else None,
        }

    found = ahead.largest_batch([measured(first)], measured, devices, limit)
    return found['batch_size'] if found else 0, compiled[1:]


def test_the_search_needs_three_compilations_where_memory_is_a_line():
    assert search(lambda n: 100 + n, 64) == (896, [128, 896])
    assert search(lambda n: 100 + n, 64, devices=4) == (896, [128, 896])
    assert search(lambda n: 100 + n / 4, 256, devices=4) == (3584, [512, 3584])


def test_the_search_begins_where_nothing_fits():
    assert search(lambda n: 100 + 10 * n, 256) == (88, [64, 88])
    assert search(lambda n: 2000 + n, 256)[0] == 0
    assert search(lambda n: 100 + 10 * n, 256, says=False)[0] == 88  # halving: no word of how much was wanted


@pytest.mark.parametrize('says', [True, False])
def test_the_search_aims_anew_where_memory_is_no_line(says):
    for memory in (lambda n: 100 + n + n * n / 4000, lambda n: 100 + n * 1.3 if n > 500 else 100 + n):
        found, compiled = search(memory, 64, says=says)
        assert memory(found) <= 1000 and len(compiled) <= 4
        if says:
            assert memory(found) > 890


def test_compilers_are_installed_once(tmp_path, monkeypatch):
    calls = []

    def pip(command, **options):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, 'run', pip)
    folder = ahead.compiler('tpu', tmp_path)
    assert ahead.compiler('tpu', tmp_path) == folder != ahead.compiler('cuda', tmp_path)
    assert [path.name for path in folder.parent.glob('.*')] == []
    assert len(calls) == 2 and '--no-deps' in calls[0] and calls[0][-1].startswith('libtpu==')
    assert [wheel.split('==')[1] for wheel in calls[1][-2:]] == [jax.__version__] * 2


def test_a_failed_installation_says_what_to_do_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, 'run', lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(ValueError, match='pip could not install libtpu.*--target .*tpu-'):
        ahead.compiler('tpu', tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='file cannot be written, give --cache another folder'):
        ahead.compiler('tpu', tmp_path / 'file')


def row(config, total, **changes):
    """Returns a row as `plan` makes it."""
    row = {'config': config, 'batch_size': 64, 'devices': 2, 'limit': 100 * ahead.MIB, 'changes': {}}
    row |= {'flops_per_image': 30e9, 'memory': {'optimizer': total}, 'total': total, 'compile_s': 61.2}
    return row | {'collectives': {'all-reduce': 5 * ahead.MIB}, 'fits': total <= row['limit']} | changes


def test_the_table_compares():
    rows = [
        row('configs/one.py', 45 * ahead.MIB),
        row('configs/two.py', 90 * ahead.MIB, flops_per_image=40e9),
        row('configs/one.py', 120 * ahead.MIB, changes={'preset': 'lean'}),
        {'config': 'configs/two.py', 'batch_size': 0, 'changes': {}, 'largest': True},
    ]
    text = plan.table(rows)
    for words in (
        'one / this, memory',
        '0.50',
        '0.75',
        'no, 120% of 0.1 GiB',
        'yes, 45% of',
        'none does',
        'lean',
    ):
        assert words in text, text


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        (['--target=h1000'], '--target=h1000 is unknown'),
        (['--compare=configs/nix.py'], 'There is no configuration file configs/nix.py'),
        (['--batch=64,x'], '--batch=x is no batch size'),
        (['--config.batchsize=3'], "There is no key 'batchsize'"),
    ],
)
def test_errors_are_one_line(options, line):
    process = helpers.run_python('-m', 'tools.plan', '--config', 'tests/tiny_config.py', *options)
    output = process.communicate(timeout=120)[0].strip()
    assert process.returncode and output.startswith(line) and len(output.splitlines()) == 1


@pytest.mark.slow  # installs the CUDA plugin if it is not there: needs a network, or HYBRIK_JAX_PLAN_CACHE
def test_a_step_is_compiled_for_cards_that_are_not_there(tmp_path):
    """The step of four cards adds up its gradients, of all its parameters."""
    file = tmp_path / 'plan.json'
    command = [sys.executable, '-m', 'tools.plan', '--config', 'tests/tiny_config.py', '--target', '4xh100']
    options = ['--nosearch', '--batch', '32', '--json', str(file)]
    subprocess.run([*command, *options], cwd=helpers.ROOT, env=os.environ, check=True, timeout=900)
    (row,) = json.loads(file.read_text())
    assert row['devices'] == 4 and row['fits'] and row['batch_size'] == 32
    assert row['total'] == sum(row['memory'].values())
    assert abs(row['memory']['padding']) < 0.01 * row['total']
    assert 0.9 < row['collectives']['all-reduce'] / row['memory']['parameters and statistics'] < 1.1
