"""EfficientNet-Lite backbones whose arithmetic and layout are the published ones', so that their weights fit.

Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (2019); Lite: no
squeeze-and-excitation, ReLU6, stem and head of one width, first and last
stage of one depth (TensorFlow's efficientnet/lite).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.model.depthwise import depthwise
from hybrik_jax.model.layers import BatchNorm
from hybrik_jax.model.resnet import check_sides, convolution

# Name -> factor of the widths, of the depths.
SCALES = {
    'efficientnet_lite0': (1.0, 1.0),
    'efficientnet_lite1': (1.0, 1.1),
    'efficientnet_lite2': (1.1, 1.2),
}
STRIDES = (16, 32)  # that a feature map may have
COUNTS = (5, 7)  # of stages that a network may have, see `model.backbone.stages`
FREEZABLE = ('depthwise', 'statistics')
STEM = 32
DIVISOR = 8  # of all widths
MOMENTUM = 0.99
EPSILON = 1e-3
# What the published weights were trained with: (x - 127) / 128 of colours in 0..255.
IMAGE_MEAN = (127 / 255,) * 3
IMAGE_STD = (128 / 255,) * 3


class Stage(NamedTuple):
    """Blocks that follow each other; the first has the stride, the others 1.

    size: rows of the depthwise kernels. expansion: inner width over that of the input. planes: output width.
    """

    blocks: int
    size: int
    stride: int
    expansion: int
    planes: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def stages_of(name: str) -> tuple[Stage, ...]:
    """Returns the stages of one of `SCALES`: blocks rounded up, widths to multiples of 8."""
    width, depth = SCALES[name]

    def scaled(stage: Stage) -> Stage:
        planes = int(width * stage.planes + DIVISOR / 2) // DIVISOR * DIVISOR
        if planes < 0.9 * width * stage.planes:
            planes += DIVISOR
        fixed = stage in (STAGES[0], STAGES[-1])
        return stage._replace(
            planes=planes, blocks=stage.blocks if fixed else math.ceil(depth * stage.blocks)
        )

    return tuple(map(scaled, STAGES))


class Depthwise(nn.Module):
    """A depthwise convolution without bias, see `depthwise.depthwise`: (B, h, w, C) -> (B, h', w', C)."""

    size: int
    stride: int
    dilation: int
    padded_for: int
    fixed: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        start = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')
        kernel = self.param('kernel', start, (self.size, self.size, 1, x.shape[-1]))
        kernel = jax.lax.stop_gradient(kernel) if self.fixed else kernel
        return depthwise(
            x, kernel[:, :, 0], stride=self.stride, dilation=self.dilation, padded_for=self.padded_for
        )


class Block(nn.Module):
    """An inverted residual block: (B, h, w, C) -> (B, h', w', planes).

    A 1x1 convolution to `expansion` C (none where that is 1), a depthwise one, a 1x1 one without activation;
    x is added where the shape allows it.

    stride: of the depthwise convolution in the published network.
    dense: go over the map by single steps nevertheless, h' = h; every `stride`-th place is the same then.
    dilation: distance of the places of a depthwise kernel, after such blocks.
    """

    planes: int
    size: int
    stride: int
    expansion: int
    dense: bool
    dilation: int
    training: bool
    fixed: bool
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = functools.partial(convolution, size=1, dtype=self.dtype)
        norm = functools.partial(
            BatchNorm,
            training=self.training,
            axis_name=self.axis_name,
            momentum=MOMENTUM,
            epsilon=EPSILON,
        )
        y = x
        if self.expansion != 1:
            y = conv(self.expansion * x.shape[-1], name='expand_conv')(y)
            y = nn.relu6(norm(name='expand_bn')(y))
        y = Depthwise(
            size=self.size,
            stride=1 if self.dense else self.stride,
            dilation=self.dilation,
            padded_for=self.stride,
            fixed=self.fixed,
            name='depthwise_conv',
        )(y)
        y = nn.relu6(norm(name='depthwise_bn')(y))
        y = norm(name='project_bn')(conv(self.planes, name='project_conv')(y))
        return x + y if self.stride == 1 and x.shape == y.shape else y


class EfficientNetLite(nn.Module):
    """The last stage's feature map: images (B, H, W, 3), normalised -> (B, H / stride, W / stride, C).

    C is 320 (Lite0, Lite1) or 352 (Lite2), without activation; the published head (to 1280 channels, pooled
    for 1000 classes) is not here, and no block is left out by chance in training. Convolutions start as the
    published ones do (normal, variance 2 / fan-out).

    stages: see `stages_of`.
    stride: 32 as published, or 16: the last stride is left out and what follows it is dilated, so that every
        second row and column is the map of stride 32, the pretrained features, and the others lie between.
    frozen_stages: the stem and so many stages stand still, statistics and all: no backward pass reaches them.
    frozen: what stands still in the other stages, of `FREEZABLE`: the depthwise kernels, the running
        statistics, which are what training normalises by then.
    axis_name, dtype: as in `ResNet`.
    remat: keep only the block boundaries for the backward pass.

    Raises:
        ValueError: if there is no such stride, or an image side is no multiple of 32.
    """

    stages: tuple[Stage, ...] = STAGES
    stride: int = 32
    frozen_stages: int = 0
    frozen: tuple[str, ...] = ()
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, training: bool) -> jax.Array:
        if self.stride not in STRIDES:
            raise ValueError(f'No feature map of stride {self.stride}: choose one of {STRIDES}.')
        check_sides(images)
        block_class = nn.remat(Block) if self.remat else Block
        x = nn.Conv(
            STEM,
            (3, 3),
            strides=(2, 2),
            padding='SAME',  # TensorFlow's: zeros below and on the right only
            use_bias=False,
            dtype=self.dtype,
            name='stem_conv',
            kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
        )(images.astype(self.dtype))
        by_batch = training and 'statistics' not in self.frozen
        norm = BatchNorm(
            training=by_batch and not self.frozen_stages,
            axis_name=self.axis_name,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            name='stem_bn',
        )
        x = nn.relu6(norm(x))
        reached, dilation, number = 2, 1, 0
        for place, stage in enumerate(self.stages):
            x = jax.lax.stop_gradient(x) if 0 < self.frozen_stages == place else x
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                dense = reached * stride > self.stride
                x = block_class(
                    planes=stage.planes,
                    size=stage.size,
                    stride=stride,
                    expansion=stage.expansion,
                    dense=dense,
                    dilation=dilation,
                    training=by_batch and place >= self.frozen_stages,
                    fixed='depthwise' in self.frozen,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f'block{number}',
                )(x)
                number += 1
                reached, dilation = (reached, dilation * stride) if dense else (reached * stride, dilation)
        return jax.lax.stop_gradient(x) if self.frozen_stages == len(self.stages) else x


def create(config: Any, axis_name: str | None) -> EfficientNetLite:
    """Returns the backbone of `config.backbone`, a section of `config.model`, but for its depth and width."""
    return EfficientNetLite(
        stages=stages_of(config.backbone.name)[: config.backbone.stages],
        stride=config.backbone.stride,
        frozen_stages=config.backbone.frozen_stages,
        frozen=tuple(config.backbone.frozen),
        remat=config.backbone.remat,
        axis_name=axis_name,
        dtype=jnp.dtype(config.backbone.dtype),
    )
