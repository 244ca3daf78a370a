"""The loss terms: recorded values, masks, refusals; the learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrik_jax import losses
from hybrik_jax.body import rotations as rot
from hybrik_jax.data import pipeline
from hybrik_jax.step import create_optimizer, inverse_square_root
from hybrik_jax.types import Lifted, Posed
from tests import tiny_config
from tests.helpers import examples_of, person, without_3d
from tools.recorded import training as recorded


@pytest.mark.parametrize('compare', [recorded.compare_losses, recorded.compare_schedule])
def test_recorded(golden, compare):
    for what, error, tolerance in compare(golden):
        assert error <= tolerance, f'{what}: {error:.2e} > {tolerance:.0e}'


def predictions(batch, seed=0):
    """Random predictions (lifted, posed), offset from the targets; rotations are those of the targets,
    turned."""
    rng = np.random.default_rng(seed)

    def near(target):
        return jnp.asarray(target + rng.normal(0, 0.1, target.shape), jnp.float32)

    lifted = Lifted(
        uvd=near(batch.uvd[:, :24]), twists=near(batch.twists), leaf_quaternions=None, betas=near(batch.betas)
    )
    posed = Posed(
        lifted_joints_m=near(batch.joints_m),
        rotations=jax.vmap(jax.vmap(rot.quaternion_to_matrix))(near(batch.quaternions)),
        betas=lifted.betas,
        posed_joints_m=near(batch.joints_m),
        h36m_joints_m=near(batch.h36m_joints_m),
        vertices_m=jnp.zeros((len(batch.betas), 1, 3)),
    )
    return lifted, posed


@jax.jit
def values(predicted, batch):
    return {name: losses.ratio(*term) for name, term in losses.terms(*predicted, batch).items()}


def test_l1_is_the_weighted_mean_times_64():
    prediction, target = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[0.0, 4.0, 100.0]])
    numerator, divisor = losses.weighted_l1(prediction, target, jnp.array([[1.0, 0.5, 0.0]]))
    assert float(numerator) == 64 * (1 * 1 + 0.5 * 2)
    assert float(divisor) == 1.5


def test_squared_errors_are_divided_by_all_elements():
    prediction, target = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.zeros((2, 2))
    mask = jnp.array([[1.0, 1.0], [0.0, 0.0]])
    numerator, divisor = losses.masked_mse(prediction, target, mask)
    assert float(numerator) == 5 and float(divisor) == 4


@pytest.mark.parametrize('term', [losses.weighted_l1, losses.masked_mse])
def test_shapes_that_would_broadcast_are_refused(term):
    a, b = jnp.zeros((2, 3)), jnp.zeros((2, 1))
    for shapes in ((a, b, a), (a, a, b), (b, a, a), (a, a, jnp.zeros(3))):
        with pytest.raises(AssertionError, match='shape'):
            term(*shapes)


def test_wrong_number_of_joints_is_refused():
    batch = pipeline.to_batch(examples_of([person(0)]))
    with pytest.raises(AssertionError, match='shape'):
        lifted, posed = predictions(batch)
        values((lifted, posed.replace(posed_joints_m=jnp.zeros((1, 29, 3)))), batch)


def test_no_label_gives_zero_and_zero_gradient():
    """An all-2D batch: terms of 3D labels are 0, not NaN, and pull nowhere; u and v still count."""
    batch = pipeline.to_batch(examples_of([without_3d(person(i)) for i in range(3)]))
    predicted = predictions(batch)
    assert float(values(predicted, batch)['uvd']) > 0
    for name in ('betas', 'rotations', 'twists', 'smpl_joints', 'h36m_joints'):
        assert float(values(predicted, batch)[name]) == 0
    gradients = jax.jit(jax.grad(lambda p: sum(values(p, batch).values())))(predicted)
    of_uvd = np.asarray(gradients[0].uvd)
    rest = jax.tree.leaves((gradients[0].replace(uvd=None), gradients[1]))
    assert not any(np.asarray(gradient).any() for gradient in rest)
    assert of_uvd[..., :2].any() and not of_uvd[..., 2].any()


def test_a_hidden_label_does_not_count():
    """What is masked may be anything, without a change of any term."""
    people = [person(0), without_3d(person(1))]
    fields = examples_of(people)
    predicted = predictions(pipeline.to_batch(fields))
    changed = {k: np.array(v) for k, v in fields.items()}
    changed['uvd'][changed['uvd_weight'] == 0] = 7
    changed['joints_m'][changed['joints_weight'] == 0] = 7
    changed['h36m_joints_m'][changed['h36m_weight'] == 0] = 7
    changed['quaternions'][1] = changed['betas'][1] = changed['twists'][1] = 7
    before = values(predicted, pipeline.to_batch(fields))
    after = values(predicted, pipeline.to_batch(changed))
    assert {k: float(v) for k, v in before.items()} == {k: float(v) for k, v in after.items()}


def test_no_term_needs_the_mesh_and_no_regressor_leaves_the_human36m_term_out(monkeypatch):
    batch = pipeline.to_batch(examples_of([person(0)]))
    lifted, posed = predictions(batch)
    assert 'h36m_joints' in losses.terms(lifted, posed.replace(vertices_m=None), batch)
    assert 'h36m_joints' not in losses.terms(lifted, posed.replace(h36m_joints_m=None), batch)
    assert not losses.need_mesh({name: 1.0 for name in losses.TERMS})
    with_mesh = losses.Term(lambda lifted, posed, batch: (posed.vertices_m.sum(), 1.0), needs_mesh=True)
    monkeypatch.setitem(losses.TERMS, 'vertices', with_mesh)
    assert losses.need_mesh({name: 1.0 for name in losses.TERMS})
    assert 'vertices' in losses.terms(lifted, posed, batch)
    assert 'vertices' not in losses.terms(lifted, posed.replace(vertices_m=None), batch)


def test_ratio_of_nothing_has_a_finite_gradient():
    value, gradient = jax.value_and_grad(lambda n: losses.ratio(n, jnp.zeros(())))(jnp.ones(()))
    assert float(value) == 0 and float(gradient) == 0


def test_learning_rate_rises_then_falls_as_the_square_root():
    schedule = inverse_square_root(0.1, 100)
    rates = [float(schedule(n)) for n in (0, 50, 100, 400, 10000)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05, 0.01], rtol=1e-6)


def test_clipping_bounds_the_gradient():
    """Adam hides the size of a gradient; its first moment does not."""
    config = tiny_config.get_config().optimizer
    gradient = {'w': jnp.full(4, 1000.0)}
    for clip, expected in ((0.0, 1000.0), (2.0, 1.0)):
        config.clip_norm = clip
        optimizer = create_optimizer(config)
        _, state = optimizer.update(gradient, optimizer.init({'w': jnp.zeros(4)}))
        moment = optax.tree_utils.tree_get(state, 'mu')['w']
        np.testing.assert_allclose(moment, (1 - config.b1) * expected * np.ones(4), rtol=1e-5)
