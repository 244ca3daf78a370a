"""Error measures: recorded values, invariances, edges; what is written of them."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.metric_writer import MetricWriter, read_metrics
from hybrik_jax.scoring import metrics
from tools.recorded import training as recorded


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 17, 3))
    return truth + rng.normal(0, 0.1, truth.shape), truth


def moved(points, seed=1):
    """`points` under a random similarity."""
    rotation = Rotation.random(random_state=seed).as_matrix()
    return 1.7 * points @ rotation.T + np.array([3.0, -2.0, 5.0])


def test_recorded(golden):
    for what, error, tolerance in recorded.compare_metrics(golden):
        assert error <= tolerance, f'{what}: {error:.2e} > {tolerance:.0e}'


def test_mpjpe_does_not_see_the_root(pair):
    prediction, truth = pair
    shifted = metrics.mpjpe(prediction + [1.0, 2.0, 3.0], truth - [5.0, 0.0, 1.0])
    np.testing.assert_allclose(shifted, metrics.mpjpe(prediction, truth), rtol=1e-12)


def test_mpjpe_of_chosen_joints(pair):
    prediction, truth = pair
    other = prediction.copy()
    other[:, 5] += 10
    np.testing.assert_array_equal(
        metrics.mpjpe(other, truth, joints=(1, 2)), metrics.mpjpe(prediction, truth, joints=(1, 2))
    )
    assert (metrics.mpjpe(other, truth, joints=(4, 5)) > 1).all()


def test_alignment_undoes_every_similarity(pair):
    prediction, truth = pair
    np.testing.assert_allclose(metrics.similarity_align(moved(truth), truth), truth, atol=1e-12)
    same = metrics.similarity_align(moved(prediction), truth)
    np.testing.assert_allclose(same, metrics.similarity_align(prediction, truth), atol=1e-12)
    np.testing.assert_allclose(metrics.pa_mpjpe(moved(truth), truth), 0, atol=1e-12)


def test_alignment_is_the_best_similarity(pair):
    """No similarity near the found one has a smaller squared error."""
    prediction, truth = pair
    aligned = metrics.similarity_align(prediction, truth)
    best = ((aligned - truth) ** 2).sum((1, 2))
    centre = aligned.mean(1, keepdims=True)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        turn = Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix()
        other = (1 + rng.normal(0, 0.03)) * (aligned - centre) @ turn.T + centre + rng.normal(0, 0.01, 3)
        assert (((other - truth) ** 2).sum((1, 2)) >= best).all()


def test_alignment_does_not_reflect(pair):
    _, truth = pair
    assert (metrics.pa_mpjpe(truth * [-1.0, 1.0, 1.0], truth) > 0.1).all()


@pytest.mark.parametrize('shape', ['point', 'line', 'plane'])
def test_alignment_of_flat_poses_is_finite(pair, shape):
    _, truth = pair
    flat = truth * {'point': [0.0, 0.0, 0.0], 'line': [1.0, 0.0, 0.0], 'plane': [1.0, 1.0, 0.0]}[shape]
    aligned = metrics.similarity_align(flat, truth)
    assert np.isfinite(aligned).all()
    if shape == 'point':
        np.testing.assert_allclose(
            aligned, np.broadcast_to(truth.mean(1, keepdims=True), truth.shape), atol=1e-12
        )


def test_all_joints_align_before_the_protocols_are_taken(pair):
    prediction, truth = pair
    errors = np.linalg.norm(metrics.similarity_align(prediction, truth) - truth, axis=-1)
    np.testing.assert_allclose(metrics.pa_mpjpe(prediction, truth, joints=(3, 7)), errors[:, [3, 7]].mean(-1))


@pytest.mark.parametrize('measure', [metrics.joint_errors, metrics.similarity_align, metrics.pa_mpjpe])
def test_shapes_that_differ_are_refused(pair, measure):
    with pytest.raises(ValueError, match='differ in shape'):
        measure(pair[0], pair[1][:, :14])


def test_an_error_at_the_threshold_does_not_count():
    pck, auc = metrics.pck_auc(np.array([[0.150], [np.nextafter(0.150, 0)]]), [[0]])
    assert pck[0] == 50
    np.testing.assert_allclose(auc[0], 100 * 0.5 / 31)  # one of two frames, at the last of 31 thresholds
    _, auc = metrics.pck_auc(np.zeros((1, 1)), [[0]])
    np.testing.assert_allclose(auc[0], 100 * 30 / 31)  # 0 is not strictly below the threshold 0


def test_groups_weigh_by_their_size():
    pck, _ = metrics.pck_auc(np.array([[0.0, 1.0, 1.0]]), [[0], [1, 2]])
    np.testing.assert_allclose(pck, [100, 0, 100 / 3])


# ------------------------------------------------------------------------------------------------ writing
def test_rows_are_read_back_and_later_ones_forgotten(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    for step in (1, 2, 3):
        writer.write('train', step, {'loss': step / 2, 'bad': float('nan')})
    writer.close()
    rows = read_metrics(tmp_path / 'metrics.jsonl')
    assert rows[1] == {'kind': 'train', 'step': 2, 'loss': 1.0, 'bad': None}
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.forget_after(2)
    writer.write('train', 3, {'loss': 9.0})
    assert [row.get('loss') for row in read_metrics(tmp_path / 'metrics.jsonl')] == [0.5, 1.0, 9.0]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text(json.dumps({'step': 1}) + '\n{"step": 2, "lo')
    assert read_metrics(path) == [{'step': 1}]
    path.write_text('{"st\n' + json.dumps({'step': 1}) + '\n')
    with pytest.raises(ValueError, match='line 1 is not JSON'):
        read_metrics(path)


def test_a_full_disk_is_named(tmp_path):
    (tmp_path / 'metrics.jsonl').symlink_to('/dev/full')
    with pytest.raises(OSError, match=r'metrics\.jsonl cannot be written: No space left'):
        MetricWriter(tmp_path, tensorboard=False).write('train', 1, {'loss': 1.0})


def test_other_hosts_write_nothing(tmp_path):
    writer = MetricWriter(tmp_path, active=False)
    writer.write('train', 1, {'loss': 1.0})
    writer.close()
    assert not list(tmp_path.iterdir())


def test_tensorboard_can_read_the_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = MetricWriter(tmp_path)
    writer.write('train', 7, {'loss': 0.5})
    writer.close()
    events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
    (scalar,) = events.Scalars('train/loss')
    assert (scalar.step, scalar.value) == (7, 0.5)
