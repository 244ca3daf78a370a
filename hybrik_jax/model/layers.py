"""Layers of the backbones whose gradients are written out, since what XLA makes of them is slow or large.

Measured: docs/performance.md.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

MOMENTUM = 0.9  # of running statistics: they move by a tenth per step, as PyTorch's do
EPSILON = 1e-5
_WINDOW = 3  # of the pooling, whose stride is 2


def column_sums(x: jax.Array) -> jax.Array:
    """Returns the sums (C,) of an array (..., C) over all but the last axis, float32 or wider."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(-1, x.shape[-1])

    def by_product(x: jax.Array) -> jax.Array:  # on a CPU, a reduction of columns does not use its width
        return jnp.dot(jnp.ones((1, x.shape[0]), x.dtype), x, precision='highest')[0]

    return jax.lax.platform_dependent(x, cpu=by_product, default=functools.partial(jnp.sum, axis=0))


@jax.custom_vjp
def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns means (C,) of x (..., C) and of its squares over all but the last axis, float32 or wider."""
    full = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    share = x.shape[-1] / x.size
    return column_sums(full) * share, column_sums(full * full) * share


def _moments_forward(x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    return moments(x), x


def _moments_backward(x: jax.Array, gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array]:
    of_mean, of_square = gradients
    share = x.shape[-1] / x.size
    return ((share * (of_mean + 2.0 * of_square * x.astype(of_mean.dtype))).astype(x.dtype),)


moments.defvjp(_moments_forward, _moments_backward)


@jax.custom_vjp
def scaled(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """Returns x (..., C) times scale (C,) plus shift (C,), computed in their type, in x's own."""
    return (x.astype(scale.dtype) * scale + shift).astype(x.dtype)


def _scaled_forward(x: jax.Array, scale: jax.Array, shift: jax.Array) -> tuple[jax.Array, tuple]:
    return scaled(x, scale, shift), (x, scale)


def _scaled_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, ...]:
    x, scale = kept
    full = gradient.astype(scale.dtype)
    of_scale, of_shift = column_sums(full * x.astype(scale.dtype)), column_sums(full)
    return (full * scale).astype(x.dtype), of_scale.astype(scale.dtype), of_shift.astype(scale.dtype)


scaled.defvjp(_scaled_forward, _scaled_backward)


class BatchNorm(nn.Module):
    """Batch normalisation over all but the last axis: (..., C) -> the same, in its own type.

    Statistics and parameters are float32 or wider, whatever the type of x. Running variances are biased.

    axis_name: the device axis over which training statistics are taken, too; None: each device has its own.
    momentum: share that running statistics keep in a step. epsilon: what is added to variances.
    """

    training: bool
    axis_name: str | None = None
    momentum: float = MOMENTUM
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, width)
        running_variance = self.variable('batch_stats', 'var', jnp.ones, width)
        scale = self.param('scale', nn.initializers.ones, (width,))
        bias = self.param('bias', nn.initializers.zeros, (width,))
        mean, variance = running_mean.value, running_variance.value
        if self.training:
            mean, square = moments(x)
            if self.axis_name is not None and not self.is_initializing():
                mean, square = jax.lax.pmean((mean, square), self.axis_name)
            variance = jnp.maximum(square - mean**2, 0.0)
            if not self.is_initializing():
                kept, new = self.momentum, 1 - self.momentum
                running_mean.value = kept * running_mean.value + new * mean
                running_variance.value = kept * running_variance.value + new * variance
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        return scaled(x, factor, bias - mean * factor)


def _views(x: jax.Array) -> Iterator[jax.Array]:
    """Yields, for every place of a window, what stands there in all windows: (B, H / 2, W / 2, C)."""
    rows, columns = x.shape[1], x.shape[2]
    x = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), ((0, 0, 0), (1, 0, 0), (1, 0, 0), (0, 0, 0)))
    for i in range(_WINDOW):
        for j in range(_WINDOW):
            ends = (x.shape[0], i + rows - 1, j + columns - 1, x.shape[3])
            yield jax.lax.slice(x, (0, i, j, 0), ends, (1, 2, 2, 1))


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maxima over 3x3 windows with stride 2 and padding 1: (B, H, W, C) -> (B, H / 2, W / 2, C).

    H and W must be even. The first of equal maxima gets the gradient. Of the input only the place of each
    maximum is kept for the backward pass.
    """
    return functools.reduce(jnp.maximum, _views(x))


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    views = enumerate(_views(x))
    _, best = next(views)
    place = jnp.zeros(best.shape, jnp.uint8)
    for k, view in views:
        more = view > best
        best, place = jnp.maximum(best, view), jnp.where(more, jnp.uint8(k), place)
    return best, place


def _max_pool_backward(place: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    def given(to_row: tuple[int, int], to_column: tuple[int, int]) -> jax.Array:
        (below, i), (right, j) = to_row, to_column
        share = jnp.where(place == _WINDOW * i + j, gradient, 0)
        # Windows `below` and `right` of this one come to its place; at the edge there are none.
        share = jnp.pad(share[:, below:], ((0, 0), (0, below), (0, 0), (0, 0)))
        return jnp.pad(share[:, :, right:], ((0, 0), (0, 0), (0, right), (0, 0)))

    # Pixel 2 n is in the middle of window n, pixel 2 n + 1 at its end and at the start of window n + 1.
    windows = (((0, 1),), ((0, 2), (1, 0)))
    phases = [
        jnp.stack([sum(given(*ways) for ways in itertools.product(rows, columns)) for columns in windows], 3)
        for rows in windows
    ]
    phases = jnp.stack(phases, axis=2)
    batch, rows, _, columns, _, width = phases.shape
    return (phases.reshape(batch, 2 * rows, 2 * columns, width),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
