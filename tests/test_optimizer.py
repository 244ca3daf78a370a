"""Adam with moments in half the bytes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from hybrik_jax import checkpoint, setup, step, train
from hybrik_jax import config as configuration
from hybrik_jax.config import PRESETS
from tests import helpers


def test_numbers_rounded_at_random_are_right_on_average():
    values = jnp.array([1.0, 1.001, -3.3e-9, 7.7e12, 0.0, 1e-40], jnp.float32)
    many = jnp.broadcast_to(values[:, None], (6, 20000))
    rounded = step.round_at_random(many, jnp.uint32(7))
    assert rounded.dtype == jnp.bfloat16
    near = np.abs(np.asarray(rounded, float) - np.asarray(many, float))
    assert (near <= 2.0**-7 * np.abs(np.asarray(many, float)) + 1e-40).all()
    np.testing.assert_allclose(np.asarray(rounded, float).mean(1)[:5], values[:5], rtol=1e-4)
    unusual = step.round_at_random(jnp.array([np.inf, -np.inf, np.nan]), jnp.uint32(7))
    np.testing.assert_array_equal(np.asarray(unusual, float), [np.inf, -np.inf, np.nan])


def test_moments_in_bfloat16_follow_those_in_float32():
    """A thousand updates with noisy gradients whose size falls: the steps stay within a few percent."""
    options = default.get_config().optimizer
    optimizers = {}
    for name in ('float32', 'bfloat16'):
        options.moment_dtype = name
        optimizers[name] = step.create_optimizer(options)
    params = {'w': jnp.zeros(500)}

    def run(optimizer):
        def one(state, at):
            noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), at), (500,))
            gradient = {'w': (1.0 + noise) * jnp.exp(-at / 400.0)}
            return optimizer.update(gradient, state, params)[::-1]

        return jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(1000.0)))(optimizer.init(params))

    (exact, moved), (lean, moved_lean) = run(optimizers['float32']), run(optimizers['bfloat16'])
    kept, exact_kept = lean[0], exact[0]
    assert {x.dtype for x in jax.tree.leaves((kept.mu, kept.nu))} == {jnp.dtype(jnp.bfloat16)}
    ratio = np.asarray(kept.nu['w'], float) / np.asarray(exact_kept.nu['w'], float)
    assert np.abs(ratio - 1).mean() < 0.05 and abs(ratio.mean() - 1) < 0.01
    ratio = np.asarray(moved_lean['w'].sum(0) / moved['w'].sum(0))
    assert abs(ratio.mean() - 1) < 0.002 and ratio.std() < 0.02, (
        'no steps that are shorter or longer on average'
    )


def test_a_backbone_that_learns_more_slowly():
    """Nothing at first, then a share of its step; the rest and the state are as without."""
    options = default.get_config().optimizer
    options.warmup_steps = 1
    plain = step.create_optimizer(options)
    options.backbone_rate, options.backbone_frozen = 0.25, 2
    slower = step.create_optimizer(options)
    params = {'backbone': {'w': jnp.ones(3)}, 'lifting': jnp.ones(2)}
    gradient = jax.tree.map(lambda x: 0.1 * x, params)
    states = plain.init(params), slower.init(params)
    for number in range(5):
        (expected, one), (updates, other) = (
            optimizer.update(gradient, state)
            for optimizer, state in zip((plain, slower), states, strict=True)
        )
        states = one, other
        share = 0.0 if number < 2 else 0.25
        np.testing.assert_allclose(updates['backbone']['w'], share * expected['backbone']['w'], rtol=1e-6)
        np.testing.assert_array_equal(updates['lifting'], expected['lifting'])
        assert number == 0 or np.all(expected['backbone']['w'] < 0)
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow  # two compilations with everything computed again
def test_a_lean_run_is_stopped_and_goes_on(tmp_path, data_root):
    """Its moments come back from the checkpoint in their own type, bit for bit."""
    config = helpers.tiny_config(tmp_path, data_root, preset='lean', num_epochs=1)
    state = train.train(config)
    there = checkpoint.load(tmp_path)
    saved = configuration.flat(json.loads((tmp_path / 'config.json').read_text()))
    assert {key: saved[key] for key in PRESETS['lean']} == PRESETS['lean']
    lean = configuration.resolved(config)
    shapes = setup.state_shapes(lean, setup.create_network(lean, setup.load_body(lean)))
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, shapes)
    jax.tree.map(np.testing.assert_array_equal, there.state.variables, state.variables)
    config.num_epochs = 2
    further = train.train(config)
    assert int(further.step) == 2 * int(state.step)
    assert all(np.isfinite(np.asarray(x, float)).all() for x in jax.tree.leaves(further))
