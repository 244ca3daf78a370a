"""The number of devices and of hosts changes nothing but the speed."""

import json
import socket

import jax
import numpy as np
import pytest

from hybrik_jax import checkpoint, evaluate, setup, train
from hybrik_jax.metric_writer import read_metrics
from hybrik_jax.step import split_over_devices
from tests import helpers
from tests.run_host import SAME_ON_ANY_DEVICES
from tools import ahead


@pytest.mark.parametrize('lifting', ['transformer', 'rootnet'])
def test_one_device_is_four_devices(lifting):
    """Three updates of the same global batches give the same parameters, statistics and averages, to about
    1e-9.

    In float64, as float32's own noise would hide a wrong divisor. Half the examples have no 3D label, spread
    unevenly over the devices, so that a mean of the devices' ratios in place of a ratio of sums shows. Batch
    normalisation is the synchronised one here: the paper's setting has statistics of each device, which the
    number of devices changes. Dropout and patch sampling are off: their random numbers are each device's own.
    """
    process = helpers.run_python('-m', 'tests.run_three_steps', lifting, devices=4)
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output
    found = json.loads(output.splitlines()[-1])
    assert found['devices'] == 4 and found['types'] == ['float64'] and found['finite'] == 1, found
    assert found['moved'] > 1e-4, found
    for what in ('parameters', 'batch_statistics', 'averages', 'metrics'):
        assert found[what] < 1e-9, found


def test_the_step_whose_memory_is_told_is_the_one_that_trains():
    config = helpers.tiny_config('unused', 'unused', batch_size=2)
    (state, _, batch), _ = ahead.lower(config, jax.devices()[:1]).args_info
    types = jax.tree.map(lambda x: (x.shape, x.dtype), (state, batch))
    network = setup.create_network(config, setup.load_body(config))
    people = helpers.batch_of([helpers.person(0), helpers.person(1)])
    expected = setup.state_shapes(config, network), people
    assert types == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


def test_a_batch_that_devices_cannot_share_is_refused():
    batch = helpers.batch_of([helpers.person(0)] * 3)
    with pytest.raises(
        ValueError, match='batch_size=1 cannot be split over 4 devices: make --config.batch_size'
    ):
        split_over_devices(batch, 4)


@pytest.mark.slow  # three compilations side by side: minutes on two cores
def test_two_hosts_are_one(tmp_path, data_root):
    """Two processes with a device each train as one process does, although one of them is asked to stop on
    the way.

    Both stop at the same step and go on together from the checkpoint that they wrote; they validate and
    evaluate together, and one process can read what they leave.
    """
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = str(free.getsockname()[1])
    shared = tmp_path / 'two'
    hosts = [
        helpers.run_python('-m', 'tests.run_host', str(host), '2', port, str(shared), str(data_root))
        for host in range(2)
    ]
    try:
        config = helpers.tiny_config(tmp_path / 'one', data_root, **SAME_ON_ANY_DEVICES)
        alone = train.train(config)
        expected_rows = evaluate.evaluate(config, alone)['rows']
        outputs = [host.communicate(timeout=900)[0] for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    for number, (host, output) in enumerate(zip(hosts, outputs, strict=True)):
        assert host.returncode == 0, '\n'.join(outputs)
        assert f'host {number} stopped with status 143' in output
        assert f'host {number} of 2: 2 devices, done' in output

    one, two = (read_metrics(folder / 'metrics.jsonl') for folder in (tmp_path / 'one', shared))
    steps = [('train', 1), ('train', 2), ('train', 3), ('train', 4), ('validation', 4)]
    assert [(row['kind'], row['step']) for row in two] == steps
    for row, expected in zip(two, one, strict=True):
        for name in expected.keys() - {
            'kind',
            'time',
            'images_per_second',
            'step_seconds',
            'data_wait_share',
        }:
            assert row[name] == pytest.approx(expected[name], rel=1e-3), (row['step'], name)

    rows = json.loads((shared / 'evaluation.json').read_text())['rows']
    assert len(rows) == len(expected_rows) >= 1
    for row, expected in zip(rows, expected_rows, strict=True):
        for name in expected.keys() - {'checkpoint', 'config'}:
            value = (
                pytest.approx(expected[name], rel=1e-3)
                if isinstance(expected[name], float)
                else expected[name]
            )
            assert row[name] == value, name

    assert sorted(path.name for path in (shared / 'checkpoints').iterdir()) == ['2', '4']
    run = checkpoint.load(shared)
    assert run.step == 4
    kernel = run.state.variables['params']['lifting']['head_joints']['kernel']
    np.testing.assert_allclose(
        kernel, alone.variables['params']['lifting']['head_joints']['kernel'], atol=1e-3
    )
