"""The layers whose gradients are written out say what Flax's do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hybrik_jax.model.depthwise import depthwise
from hybrik_jax.model.layers import BatchNorm, max_pool
from hybrik_jax.model.lifting import TransformerBlock
from hybrik_jax.model.resnet import convolution


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize('shape', [(2, 8, 12, 5), (1, 2, 2, 3)])
def test_max_pool_is_flax_pooling_with_equal_maxima_too(rng, shape):
    def of_flax(x):
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    for values in (rng.normal(size=shape), np.round(rng.normal(size=shape)), np.zeros(shape)):
        x = jnp.asarray(values, jnp.float32)
        pooled, gradient = jax.vjp(max_pool, x)
        expected, expected_gradient = jax.vjp(of_flax, x)
        seed = jnp.asarray(rng.normal(size=pooled.shape), jnp.float32)
        np.testing.assert_array_equal(pooled, expected)
        np.testing.assert_allclose(gradient(seed)[0], expected_gradient(seed)[0], atol=1e-6)


def test_max_pool_hides_no_nan():
    x = jnp.ones((1, 4, 4, 1)).at[0, 3, 3, 0].set(jnp.nan)
    assert np.isnan(max_pool(x)).sum() == 1
    assert np.isnan(jax.vjp(max_pool, x)[0]).sum() == 1


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('training', [True, False])
def test_batch_norm_is_flax_batch_norm(rng, dtype, training):
    x = jnp.asarray(3.0 + 2.0 * rng.normal(size=(4, 6, 5, 7)), dtype)
    seed = jnp.asarray(rng.normal(size=x.shape), dtype)
    variables = {
        'params': {'scale': jnp.asarray(rng.normal(size=7)), 'bias': jnp.asarray(rng.normal(size=7))},
        'batch_stats': {'mean': jnp.asarray(rng.normal(size=7)), 'var': 1.0 + jnp.asarray(rng.random(7))},
    }
    flax = nn.BatchNorm(use_running_average=not training, momentum=0.9, epsilon=1e-5, dtype=dtype)

    def outcome(module):
        def run(params, x):
            y, changed = module.apply({**variables, 'params': params}, x, mutable=['batch_stats'])
            return y, changed.get('batch_stats', variables['batch_stats'])

        y, gradient, statistics = jax.vjp(run, variables['params'], x, has_aux=True)
        return y, gradient(seed), statistics

    assert BatchNorm(training=training).apply(variables, x, mutable=['batch_stats'])[0].dtype == dtype
    tolerance = 1e-5 if dtype == 'float32' else 0.05

    def close(a, b):
        np.testing.assert_allclose(
            np.asarray(a, float), np.asarray(b, float), rtol=tolerance, atol=10 * tolerance
        )

    jax.tree.map(close, outcome(BatchNorm(training=training)), outcome(flax))


@pytest.mark.parametrize(
    ('size', 'stride', 'dilation', 'side'),
    [(3, 1, 1, 6), (3, 2, 1, 8), (5, 2, 1, 7), (5, 1, 2, 4), (5, 2, 2, 9)],
)
def test_depthwise_is_the_convolution_of_a_group_a_channel(rng, size, stride, dilation, side):
    """Its gradients too, in rectangles, at odd sizes and where the kernel is larger than the map."""

    def of_jax(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            (stride, stride),
            'SAME',
            rhs_dilation=(dilation, dilation),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=7,
        )

    x = jnp.asarray(rng.normal(size=(2, side, side + 1, 7)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 7)), jnp.float32)
    seed = jnp.asarray(rng.normal(size=jax.eval_shape(of_jax, x, kernel).shape), jnp.float32)

    def outcome(function):
        def run(x, kernel):
            y, gradients = jax.vjp(function, x, kernel)
            return y, *gradients(seed)

        return jax.jit(run)(x, kernel)

    y, *gradients = outcome(functools.partial(depthwise, stride=stride, dilation=dilation))
    expected, *expected_gradients = outcome(of_jax)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for mine, theirs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    half = depthwise(x.astype(jnp.bfloat16), kernel, stride=stride, dilation=dilation)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, float), y, atol=0.1)


def test_depthwise_padded_for_another_stride_says_the_same_where_that_goes(rng):
    x = jnp.asarray(rng.normal(size=(1, 8, 6, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(5, 5, 3)), jnp.float32)
    dense = depthwise(x, kernel, padded_for=2)
    assert dense.shape == x.shape
    np.testing.assert_allclose(dense[:, ::2, ::2], depthwise(x, kernel, stride=2), atol=1e-5)


def test_what_queries_of_all_images_say_to_each_other_is_computed_once(rng):
    """(1, Q, D) queries give what (B, Q, D) copies of them do, with the same dropout, at fewer operations."""
    sources = jnp.asarray(rng.normal(size=(8, 9, 16)), jnp.float32)
    queries = jnp.asarray(rng.normal(size=(1, 50, 16)), jnp.float32)
    copies = jnp.broadcast_to(queries, (8, 50, 16))
    for training in (False, True):
        block = TransformerBlock(
            num_heads=2,
            ffn_width=16,
            ffn_depth=2,
            leaky=True,
            dropout=0.1,
            training=training,
            dtype='float32',
        )
        keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
        params = block.init(keys, sources, copies, None)

        def run(queries, block=block, params=params):
            return block.apply(params, sources, queries, None, rngs={'dropout': jax.random.key(2)})

        for once, each in zip(run(queries), run(copies), strict=True):
            np.testing.assert_allclose(once, each, atol=1e-5)
        flops = [jax.jit(run).lower(x).compile().cost_analysis()['flops'] for x in (queries, copies)]
        assert flops[0] < 0.8 * flops[1]


@pytest.mark.parametrize(('stride', 'bias', 'sides'), [(1, False, (4, 6)), (2, True, (5, 4))])
def test_a_1x1_convolution_is_flax_convolution_parameters_and_all(rng, stride, bias, sides):
    x = jnp.asarray(rng.normal(size=(2, *sides, 3)), jnp.float32)
    flax = nn.Conv(7, (1, 1), strides=(stride, stride), use_bias=bias)
    ours = convolution(7, 1, stride=stride, bias=bias, name='conv')
    variables = flax.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, variables)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), variables)

    def value_and_gradients(module):
        return module.apply(variables, x), jax.grad(
            lambda variables, x: jnp.sum(module.apply(variables, x) ** 2), argnums=(0, 1)
        )(variables, x)

    with jax.default_matmul_precision('highest'):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
            value_and_gradients(ours),
            value_and_gradients(flax),
        )
