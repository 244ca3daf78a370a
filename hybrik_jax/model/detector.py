"""The network that finds people: SSD on MobileNetV2, (300, 300) images to 1917 boxes and their scores.

Its numbers come from another project (`assets/LICENSE-detector.md`), batch normalisations are contained in
them, and it is not trained here: functions of a dictionary of weights.
Source: Sandler et al., "MobileNetV2", CVPR 2018; Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hybrik_jax.model.depthwise import depthwise

IMAGE_SIZE = 300
MAP_SIZES = (19, 10, 5, 3, 2, 1)  # of the feature maps that boxes are predicted from
BOXES_PER_CELL = (3, 6, 6, 6, 6, 6)  # of each map
NUM_BOXES = sum(size**2 * boxes for size, boxes in zip(MAP_SIZES, BOXES_PER_CELL, strict=True))
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)  # of MobileNetV2's blocks
FIRST_MAP_BLOCK = 13  # its expanded features are the first map

Weights = Mapping[str, jax.Array]  # 'LAYER/kernel' and 'LAYER/bias' of every layer


class Layer(NamedTuple):
    """One convolution, 'same' padded: its kind, 'dense' or 'depthwise', its stride, whether ReLU6 follows."""

    name: str
    kind: str
    stride: int
    relu6: bool


def layers() -> Iterator[Layer]:
    """Yields the layers in the order in which the file that they come from computes them."""
    yield Layer('stem', 'dense', 2, True)
    for number, stride in enumerate(STRIDES):
        if number:
            yield Layer(f'block_{number}/expand', 'dense', 1, True)
        if number == FIRST_MAP_BLOCK:
            yield from _predictor(0)
        yield Layer(f'block_{number}/depthwise', 'depthwise', stride, True)
        yield Layer(f'block_{number}/project', 'dense', 1, False)
    yield Layer('last', 'dense', 1, True)
    yield from _predictor(1)
    for number in range(2, len(MAP_SIZES)):
        yield Layer(f'map_{number}/reduce', 'dense', 1, True)
        yield Layer(f'map_{number}/shrink', 'dense', 2, True)
        yield from _predictor(number)


def _predictor(number: int) -> Iterator[Layer]:
    yield Layer(f'map_{number}/boxes', 'dense', 1, False)
    yield Layer(f'map_{number}/scores', 'dense', 1, False)


def forward(weights: Weights, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the encoded boxes (B, 1917, 4) and the logits (B, 1917) that each is a person's.

    The boxes of a map follow each other row by row, those of a cell together; the maps from fine to coarse.

    Args:
        weights: kernels (3, 3, I, O), of 1 x 1 convolutions (I, O), depthwise ones (3, 3, C); biases (O,).
        images: (B, 300, 300, 3), colours in [-1, 1].
    """
    maps, x = [], images
    for layer in layers():
        part = layer.name.split('/')[-1]
        if part in ('boxes', 'scores'):
            maps.append(_convolve(weights, layer, x))
            continue
        if part in ('expand', 'depthwise') and (part == 'expand' or layer.name == 'block_0/depthwise'):
            shortcut = x
        x = _convolve(weights, layer, x)
        if part == 'project' and x.shape == shortcut.shape:
            x = x + shortcut
    count = len(images)
    encoded = jnp.concatenate([one.reshape(count, -1, 4) for one in maps[::2]], 1)
    return encoded, jnp.concatenate([one.reshape(count, -1) for one in maps[1::2]], 1)


def _convolve(weights: Weights, layer: Layer, x: jax.Array) -> jax.Array:
    kernel, bias = weights[f'{layer.name}/kernel'], weights[f'{layer.name}/bias']
    if layer.kind == 'depthwise':
        x = depthwise(x, kernel, stride=layer.stride)
    elif kernel.ndim == 2:
        x = x @ kernel
    else:
        x = lax.conv_general_dilated(
            x, kernel, (layer.stride,) * 2, 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
    return jnp.clip(x + bias, 0, 6) if layer.relu6 else x + bias
