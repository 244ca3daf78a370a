"""RootNet through the one trainer: its loss and schedule, a run that is stopped and resumed, evaluation."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrik_jax import checkpoint, losses, metric_writer, train
from hybrik_jax import config as configuration
from hybrik_jax.data import store
from hybrik_jax.evaluate import evaluate
from hybrik_jax.metric_writer import read_metrics
from hybrik_jax.roots import GUESSES, RootFinder
from hybrik_jax.scoring.metrics import geometric_median
from hybrik_jax.step import create_optimizer, learning_rate
from hybrik_jax.types import Rooted
from hybrik_jax.units import MM_PER_M
from tests import helpers
from tests.helpers import person, tiny_config, without_3d
from tools import report

ROOTNET = {
    'model__lifting': 'rootnet',
    'optimizer__schedule': 'drops',
    'optimizer__learning_rate': 1e-3,
    'optimizer__drop_epochs': (2,),
}
STEPS = 12


def batch_and_truth():
    """A batch of people, the last of which has no camera, with what a faultless RootNet says of them."""
    people = [person(0), person(1), without_3d(person(2))]
    batch = jax.tree.map(lambda x: x[0], helpers.batch_of(people))
    sides = helpers.CROP_SIZE * np.sqrt(np.linalg.det(np.asarray(batch.crop.crop_to_photo)[:, :, :2]))
    focals = np.sqrt([one['focal'].prod() if one['camera_weight'] else 1.0 for one in people])
    square_m = 2 * focals / sides
    ratio = np.float32(np.asarray(batch.crop.root_m)[:, 2] / square_m)
    return batch, Rooted(uv=jnp.asarray(batch.uvd[:, 0, :2]), depth_ratio=jnp.asarray(ratio)), square_m


def test_the_terms_are_cells_of_the_heat_map_and_32nds_of_a_metre():
    batch, truth, square_m = batch_and_truth()
    off = Rooted(
        uv=truth.uv + jnp.array([2.0, -4.0]) / 64,
        depth_ratio=truth.depth_ratio + jnp.asarray([0.5, -0.25, 7.0]) / square_m,
    )

    def values(rooted):
        return {name: float(losses.ratio(*term)) for name, term in losses.terms(rooted, None, batch).items()}

    assert values(truth) == pytest.approx({'root_uv': 0, 'root_depth': 0}, abs=1e-4)
    # Pixels of all three, the depths of two: the third has no camera.
    assert values(off) == pytest.approx({'root_uv': (2 + 4) / 2, 'root_depth': 64 * 0.375 / 2}, rel=1e-4)


def test_people_without_camera_teach_the_place_alone():
    batch, truth, _ = batch_and_truth()

    def total(rooted):
        return sum(numerator for numerator, _ in losses.terms(rooted, None, batch).values())

    gradient = jax.grad(total)(Rooted(uv=truth.uv + 0.1, depth_ratio=truth.depth_ratio + 0.1))
    assert (np.abs(gradient.uv) > 0).all()
    assert (np.asarray(gradient.depth_ratio[:2]) > 0).all() and gradient.depth_ratio[2] == 0


def test_the_rate_drops_after_epochs():
    options = tiny_config('unused', 'unused', **ROOTNET | {'optimizer__drop_epochs': (17, 19.5)}).optimizer
    rate = learning_rate(options, 10)
    expected = {0: 1e-3, 169: 1e-3, 171: 1e-4, 194: 1e-4, 196: 1e-5}
    assert {step: float(rate(step)) for step in expected} == pytest.approx(expected)
    # The optimizer has it, and its state is the same for any.
    optimizer, weights = create_optimizer(options, 10), {'w': jnp.zeros(1)}
    state = create_optimizer(options).init(weights)
    moved = []
    for _ in range(172):
        updates, state = optimizer.update({'w': jnp.ones(1)}, state, weights)
        moved.append(float(updates['w'][0]))
    assert moved[0] == pytest.approx(-1e-3, rel=1e-3) and moved[-1] == pytest.approx(-1e-4, rel=1e-3)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'loss__root_uv': 0.0, 'loss__root_depth': 0.0}, 'loss.root_uv, loss.root_depth are all 0'),
        ({'optimizer__drop_epochs': ()}, "schedule='drops' needs epochs: give --config.optimizer.drop_ep"),
        ({'evaluation__root': 'predicted', 'evaluation__root_file': 'x'}, 'RootNet tells the roots itself'),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    config = tiny_config('unused', 'unused', **ROOTNET | changes)
    with pytest.raises(ValueError, match=message):
        configuration.check(config, devices=1, hosts=1)


def test_the_geometric_median():
    """Of three corners of a right angle it is Fermat's point, from which all are seen under 120 degrees."""
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    towards = corners - geometric_median(corners)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    np.testing.assert_allclose((towards @ towards.T)[np.triu_indices(3, 1)], -0.5, atol=1e-6)


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory, data_root):
    """(folder, final state) of a tiny run that nothing interrupted."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, train.train(tiny_config(folder, data_root, **ROOTNET))


def test_stopped_and_resumed_is_uninterrupted(tmp_path, data_root, whole_run, monkeypatch):
    """SIGTERM after step 4, at the higher rate; the rest equals the whole run, as every figure does."""

    class Writer(metric_writer.MetricWriter):
        def write(self, kind, step, values):
            super().write(kind, step, values)
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    config = tiny_config(tmp_path, data_root, **ROOTNET)
    with monkeypatch.context() as patch:
        patch.setattr(train, 'MetricWriter', Writer)
        with pytest.raises(SystemExit):
            train.train(config)
    assert checkpoint.load(tmp_path).step < STEPS
    state = train.train(config)
    others = {'images_per_second', 'step_seconds', 'data_wait_share', 'time', 'kind'}
    resumed, whole = (
        [{name: value for name, value in row.items() if name not in others} for row in read_metrics(path)]
        for path in (tmp_path / 'metrics.jsonl', whole_run[0] / 'metrics.jsonl')
    )
    assert len(whole) == STEPS + 1 and resumed == [pytest.approx(row, rel=1e-6) for row in whole]
    assert helpers.largest_difference(state, whole_run[1]) < 1e-6
    validation = whole.pop()
    rates = {row['step']: row['learning_rate'] for row in whole}
    assert rates[8] == pytest.approx(1e-3) and rates[10] == pytest.approx(1e-4)
    # What is watched, and the best of it.
    assert {f'mrpe{axis}_mm' for axis in ('', '_x', '_y', '_z')} <= validation.keys()
    assert checkpoint.load(tmp_path, best=True).step == STEPS


def test_evaluation_beside_what_guesses_reach(whole_run, data_root, tmp_path, capsys):
    """The run's figures are those of its roots; the guesses' are those of the records."""
    folder, state = whole_run
    config = tiny_config(folder, data_root, **ROOTNET)
    config.evaluation.parameters = ('raw',)
    result = evaluate(config)
    plain, flipped = result['rows']
    assert [row['flip_test'] for row in (plain, flipped)] == [False, True]
    assert plain['protocol'] == 'RootNet' and plain['root'] == "the network's" and plain['frames'] == 4
    assert 'mpjpe_mm' not in plain and plain['mrpe_mm'] != flipped['mrpe_mm']

    test, learned = (store.open_split(data_root / 'synthetic', split) for split in ('test', 'train'))
    found = RootFinder.load(folder, parameters='raw').of_records(test)
    true = np.stack([root.true_root_m for root in found.values()])

    def figures(roots_m):
        errors = np.abs(np.asarray(roots_m) - true) * MM_PER_M
        axes = dict(zip(('mrpe_x_mm', 'mrpe_y_mm', 'mrpe_z_mm'), errors.mean(0), strict=True))
        return pytest.approx({'mrpe_mm': np.linalg.norm(errors, axis=1).mean()} | axes, rel=1e-3)

    assert {m: plain[m] for m in plain if m.startswith('mrpe')} == figures([f.root_m for f in found.values()])
    guesses = result['guesses']['synthetic']
    assert list(guesses) == list(GUESSES)
    square, constant, in_crop = guesses.values()
    assert square == figures([root.square_root_m for root in found.values()])
    assert constant == figures([geometric_median([one['root_m'] for one in learned])] * 4)
    assert in_crop['mrpe_mm'] < constant['mrpe_mm']
    written = json.loads((folder / 'evaluation.json').read_text())
    table = (folder / 'evaluation.md').read_text()
    assert written['guesses'] == result['guesses'] and 'MRPE, z (mm)' in table
    assert all(title in table and title in capsys.readouterr().out + table for title in GUESSES)
    assert (folder / 'evaluation.csv').read_text().count('\n') == 1 + 2 + 3
    page = report.write(folder, tmp_path / 'report.html').read_text()
    assert 'Validation MRPE (mm)' in page and 'a RootNet tells roots' in page
    assert all(title in page for title in GUESSES) and f'{plain["mrpe_mm"]:.1f}' in page
    # A network of people in the same folder is refused by name.
    other = tiny_config(folder, data_root)
    with pytest.raises(ValueError, match=r"model.lifting: 'rootnet' there, 'transformer' now"):
        evaluate(other)


def test_mirrored_people_are_mirrored_back(whole_run):
    """What the flip test makes of a place that only a mirror image shows."""
    from hybrik_jax import inference

    @dataclasses.dataclass(frozen=True)
    class Bright:
        def apply(self, variables, images, **unused):
            columns = jnp.argmax(images.sum(axis=(1, 3)), axis=1) / images.shape[2] - 0.5
            return Rooted(uv=jnp.stack([columns, columns * 0 + 0.25], 1), depth_ratio=columns + 2)

    network = inference.create_network(tiny_config('unused', 'unused', **ROOTNET), np.zeros(10))
    network = dataclasses.replace(network, model=Bright())
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[0, :, 16] = 255
    rooted = inference.lift(network, {}, images, flip=True)
    # 16 of 64, and its mirror image 47 of 64 (which negating makes 17 of 64).
    np.testing.assert_allclose(rooted.uv, [[16.5 / 64 - 0.5, 0.25]], atol=1e-6)
    np.testing.assert_allclose(rooted.depth_ratio, [2 + (16 + 47) / 128 - 0.5], atol=1e-6)
