"""HRNet backbones whose arithmetic and layout are HybrIK-Transformer's, so that released weights fit.

Source: Wang et al., Deep High-Resolution Representation Learning for Visual Recognition (2020); the way to
one feature map is that of its ImageNet network, with biased convolutions.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.model.layers import BatchNorm
from hybrik_jax.model.resnet import Block, check_sides, convolution

MODULES = {2: 1, 3: 4, 4: 3}  # stage -> its modules; stage n has n branches
BLOCKS = 4  # of the stem, and of each branch of a module
STEM = 64
HEAD = 32  # planes of the first branch's bottleneck on the way out
CHANNELS = 2048


def _unit(
    x: jax.Array,
    planes: int,
    size: int,
    *,
    stride: int = 1,
    bias: bool = False,
    relu: bool = True,
    dtype: Any,
    name: str,
    **norm: Any,
) -> jax.Array:
    """Returns x after a convolution, batch normalisation and ReLU, which the calling module then owns."""
    x = convolution(planes, size, stride=stride, bias=bias, dtype=dtype, name=f'{name}_conv')(x)
    x = BatchNorm(name=f'{name}_bn', **norm)(x)
    return nn.relu(x) if relu else x


class Exchange(nn.Module):
    """What the branches of a module tell each other: maps (B, h / 2^i, w / 2^i, 2^i C) -> the same shapes.

    Each becomes the ReLU of the sum of all: lower resolutions by a 1x1 convolution and nearest-neighbour
    upsampling, higher ones by 3x3 convolutions of stride 2, of which the last changes the width.
    """

    training: bool
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, maps: list[jax.Array]) -> list[jax.Array]:
        unit = functools.partial(_unit, training=self.training, axis_name=self.axis_name, dtype=self.dtype)
        sums = []
        for i, own in enumerate(maps):
            total = 0
            for j, x in enumerate(maps):
                for k in range(i - j):
                    last = k == i - j - 1
                    planes = own.shape[-1] if last else x.shape[-1]
                    x = unit(x, planes, 3, stride=2, relu=not last, name=f'down{i}_{j}_{k}')
                if j > i:
                    x = unit(x, own.shape[-1], 1, relu=False, name=f'up{i}_{j}')
                    x = x.repeat(2 ** (j - i), axis=1).repeat(2 ** (j - i), axis=2)
                total += x
            sums.append(nn.relu(total))
        return sums


class HRNet(nn.Module):
    """The unpooled feature map of an HRNet: images (B, H, W, 3), normalised -> (B, H / 32, W / 32, 2048).

    width: channels of the branch of highest resolution, doubled by each further one; released: 48.
    axis_name, dtype: as in `ResNet`.
    remat: keep only what is between residual blocks and exchanges for the backward pass.
    finest: return the branch of highest resolution (B, H / 4, W / 4, width) beside it: (map, branch).

    Raises:
        ValueError: if an image side is no multiple of 32.
    """

    width: int = 48
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False
    finest: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, training: bool) -> jax.Array | tuple[jax.Array, jax.Array]:
        check_sides(images)
        options = dict(training=training, axis_name=self.axis_name, dtype=self.dtype)
        unit = functools.partial(_unit, **options)
        block = functools.partial(nn.remat(Block) if self.remat else Block, stride=1, **options)
        exchange = functools.partial(nn.remat(Exchange) if self.remat else Exchange, **options)

        x = images.astype(self.dtype)
        for i in range(2):
            x = unit(x, STEM, 3, stride=2, name=f'stem{i + 1}')
        for i in range(BLOCKS):
            x = block(planes=STEM, bottleneck=True, name=f'layer1_{i}')(x)
        maps = []
        for stage, modules in MODULES.items():
            lowest = maps[-1] if maps else x
            maps = maps or [unit(x, self.width, 3, name='transition1_0')]
            planes = self.width * 2 ** (stage - 1)
            maps = [*maps, unit(lowest, planes, 3, stride=2, name=f'transition{stage - 1}_{stage - 1}')]
            for module in range(modules):
                for branch in range(stage):
                    for i in range(BLOCKS):
                        maps[branch] = block(
                            planes=self.width * 2**branch,
                            bottleneck=False,
                            name=f'stage{stage}_{module}_branch{branch}_{i}',
                        )(maps[branch])
                maps = exchange(name=f'stage{stage}_{module}_exchange')(maps)

        finest = maps[0]
        maps = [
            block(planes=HEAD * 2**i, bottleneck=True, name=f'increase{i}')(x) for i, x in enumerate(maps)
        ]
        x = maps[0]
        for i, lower in enumerate(maps[1:]):
            x = unit(x, lower.shape[-1], 3, stride=2, bias=True, name=f'downsample{i}')
            x += lower
        x = unit(x, CHANNELS, 1, bias=True, name='features')
        return (x, finest) if self.finest else x


def create(config: Any, axis_name: str | None) -> HRNet:
    """Returns the backbone of `config.backbone`, a section of `config.model`, but for its depth."""
    return HRNet(
        width=config.backbone.width,
        remat=config.backbone.remat,
        finest=config.lifting == 'volumes',
        axis_name=axis_name,
        dtype=jnp.dtype(config.backbone.dtype),
    )
