"""Depthwise convolutions, whose gradients are written out, since XLA's own are slow on CPUs.

Measured: `tools.measure_depthwise`, docs/checkpoints.md.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Window(NamedTuple):
    """How a depthwise kernel goes over a map: its step, the distance of its own places, zeros around."""

    stride: int
    dilation: int
    pads: tuple[tuple[int, int], tuple[int, int]]


def window_of(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, dilation: int = 1, padded_for: int | None = None
) -> Window:
    """Returns how the kernel goes over x, with zeros around that make it 'SAME'; arguments of `depthwise`."""
    reach, pace = dilation * (kernel.shape[0] - 1) + 1, padded_for or stride
    same = lax.padtype_to_pads(x.shape[1:3], (reach,) * 2, (pace,) * 2, 'SAME')
    pads = tuple(
        (before, max((-(-side // stride) - 1) * stride + reach - before - side, 0))
        for (before, _), side in zip(same, x.shape[1:3], strict=True)
    )
    return Window(stride, dilation, pads)


def depthwise(x: jax.Array, kernel: jax.Array, **how: int | None) -> jax.Array:
    """Returns the depthwise convolution of x (B, H, W, C) with a kernel (k, k, C), 'SAME' padded.

    On a CPU it is k^2 shifted products, and the kernel's gradient is added up image by image: XLA's own
    convolution takes much longer there, above all its gradients (`tools.measure_depthwise`).

    Args:
        how: stride, dilation (1 and 1): of rows and columns alike; the result is (B, ceil(H / stride), ...,
            C). padded_for: the stride that zeros before x are counted for (with stride 2 an even size has one
            fewer there than with stride 1); None: its own.
    """
    return _depthwise(x, kernel.astype(x.dtype), window_of(x, kernel, **how))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    cpu, default = (functools.partial(way, window=window) for way in (shifted, convolved))
    return lax.platform_dependent(x, kernel, cpu=cpu, default=default)


def convolved(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Returns the depthwise convolution as XLA computes it: one with a group a channel."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (window.stride,) * 2,
        window.pads,
        rhs_dilation=(window.dilation,) * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1],
    )


def _seen(x: jax.Array, size: int, window: Window) -> Iterator[tuple[int, int, jax.Array]]:
    """Yields, for every place (i, j) of a kernel of so many rows, what it meets: (..., H', W', C)."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*window.pads, (0, 0)])
    starts = [window.dilation * k for k in range(size)]
    ends = [side - starts[-1] for side in x.shape[-3:-1]]
    for (i, top), (j, left) in itertools.product(enumerate(starts), enumerate(starts)):
        rows, columns = (
            slice(start, start + end, window.stride) for start, end in zip((top, left), ends, strict=True)
        )
        yield i, j, x[..., rows, columns, :]


def shifted(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Returns the depthwise convolution as a sum of k^2 products: the map, shifted, times the kernel."""
    full = kernel.astype(jnp.promote_types(x.dtype, jnp.float32))
    return sum(part * full[i, j] for i, j, part in _seen(x, len(kernel), window)).astype(x.dtype)


def _shifted_backward(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of x and of the kernel."""
    size, full = len(kernel), jnp.promote_types(x.dtype, jnp.float32)
    reach = window.dilation * (size - 1)
    around = []
    for (before, _), side, places in zip(window.pads, x.shape[1:3], gradient.shape[1:3], strict=True):
        spread = (places - 1) * window.stride + 1
        around.append((reach - before, side + before - spread, window.stride - 1))
    spread = lax.pad(gradient, jnp.array(0, gradient.dtype), ((0, 0, 0), *around, (0, 0, 0)))
    of_x = shifted(spread, kernel[::-1, ::-1], Window(1, window.dilation, ((0, 0), (0, 0))))

    def add(sums: list[jax.Array], image: tuple[jax.Array, jax.Array]) -> tuple[list[jax.Array], None]:
        one, its_gradient = image
        parts = (part * its_gradient.astype(full) for _, _, part in _seen(one, size, window))
        return [total + part.sum(0) for total, part in zip(sums, parts, strict=True)], None

    zeros = [jnp.zeros(gradient.shape[2:], full)] * size**2
    sums, _ = lax.scan(add, zeros, (x, gradient))
    of_kernel = jnp.stack([total.sum(0) for total in sums]).reshape(kernel.shape)
    return of_x, of_kernel.astype(kernel.dtype)


def _depthwise_forward(x: jax.Array, kernel: jax.Array, window: Window) -> tuple[jax.Array, tuple]:
    return _depthwise(x, kernel, window), (x, kernel)


def _depthwise_backward(
    window: Window, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def default(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(functools.partial(convolved, window=window), x, kernel)[1](gradient)

    cpu = functools.partial(_shifted_backward, window=window)
    return lax.platform_dependent(*kept, gradient, cpu=cpu, default=default)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
