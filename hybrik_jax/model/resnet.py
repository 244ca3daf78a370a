"""ResNet backbones whose arithmetic and layout are torchvision's, so that its weights fit.

Source: He et al., Deep Residual Learning for Image Recognition (2016); the stride of a bottleneck block sits
in its 3x3 convolution.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.model.layers import BatchNorm, max_pool

# Blocks of the four stages, and whether they are bottlenecks.
STAGES = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
EXPANSION = 4  # output width of a bottleneck over its planes
CONVOLUTION_START = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class Pointwise(nn.Module):
    """A 1x1 convolution as the matrix product it is: (B, H, W, C) -> (B, H / stride, W / stride, planes).

    XLA's convolutions of this size take two to four times as long on a CPU, above all their gradients
    (docs/default_network.md). Parameters have the names and shapes of a `nn.Conv`'s.
    """

    planes: int
    stride: int
    bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param('kernel', CONVOLUTION_START, (1, 1, x.shape[-1], self.planes))
        for axis in (1, 2):  # a slice by jnp is a gather where the batch has no fixed size
            x = jax.lax.slice_in_dim(x, 0, None, self.stride, axis)
        x = x.astype(self.dtype)
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0].astype(self.dtype)
        if self.bias:
            y = y + self.param('bias', nn.initializers.zeros, (self.planes,)).astype(self.dtype)
        return y.reshape(*x.shape[:-1], self.planes)


def convolution(
    planes: int, size: int, *, stride: int = 1, bias: bool = False, dtype: Any = jnp.float32, name: str
) -> nn.Module:
    """Returns a convolution padded alike on both sides, as PyTorch's is (Flax's 'SAME' is not)."""
    if size == 1:
        return Pointwise(planes, stride, bias, dtype, name=name)
    return nn.Conv(
        planes,
        (size, size),
        strides=(stride, stride),
        padding=[(size // 2, size // 2)] * 2,
        use_bias=bias,
        dtype=dtype,
        name=name,
        kernel_init=CONVOLUTION_START,
    )


def check_sides(images: jax.Array) -> None:
    """Raises ValueError if a side of images (B, H, W, 3) is no multiple of 32 pixels."""
    if images.shape[1] % 32 or images.shape[2] % 32:
        raise ValueError(f'Images are {images.shape[1:3]} pixels: both sides must be multiples of 32.')


class Block(nn.Module):
    """A residual block, basic (two 3x3) or bottleneck (1x1, 3x3, 1x1): (B, h, w, C) -> (B, h', w', C').

    planes: inner width; C' is planes, or four times as much for a bottleneck.
    stride: of the first (basic) or second (bottleneck) convolution; h' = h / stride.
    """

    planes: int
    stride: int
    bottleneck: bool
    training: bool
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = functools.partial(convolution, dtype=self.dtype)
        norm = functools.partial(BatchNorm, training=self.training, axis_name=self.axis_name)
        layers = ((self.planes, 3, self.stride), (self.planes, 3, 1))
        if self.bottleneck:
            layers = ((self.planes, 1, 1), layers[0], (self.planes * EXPANSION, 1, 1))
        y = x
        for i, (planes, size, stride) in enumerate(layers, start=1):
            y = norm(name=f'bn{i}')(conv(planes, size, stride=stride, name=f'conv{i}')(y))
            if i < len(layers):
                y = nn.relu(y)
        if self.stride != 1 or x.shape[-1] != y.shape[-1]:
            x = norm(name='shortcut_bn')(conv(y.shape[-1], 1, stride=self.stride, name='shortcut_conv')(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """The feature map of the fourth stage: images (B, H, W, 3), normalised -> (B, H / 32, W / 32, C).

    C is 8 `width` for depths 18 and 34 (512), 32 `width` for 50, 101 and 152 (2048). Convolutions start as
    torchvision's do (normal, variance 2 / fan-out).

    depth: one of `STAGES`.
    width: planes of the stem and of the first stage, doubled by each further stage; published: 64.
    axis_name: the device axis over which training statistics of batch normalisation are taken; None: each
        device has its own, as in the original. Running variances are biased (PyTorch's are not).
    dtype: of the computation; parameters and statistics are float32.
    remat: keep only the block boundaries (and the images) for the backward pass, at the price of a second
        forward pass.

    Raises:
        ValueError: if there is no such depth, or an image side is no multiple of 32.
    """

    depth: int = 34
    width: int = 64
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, training: bool) -> jax.Array:
        if self.depth not in STAGES:
            raise ValueError(f'No ResNet of depth {self.depth}: choose one of {sorted(STAGES)}.')
        check_sides(images)
        block_counts, bottleneck = STAGES[self.depth]
        block_class = nn.remat(Block) if self.remat else Block

        def stem(module: nn.Module, images: jax.Array) -> jax.Array:
            x = convolution(self.width, 7, stride=2, dtype=self.dtype, name='conv1')(images)
            norm = BatchNorm(training=training, axis_name=self.axis_name, name='bn1')
            return max_pool(nn.relu(norm(x)))

        x = (nn.remat(stem) if self.remat else stem)(self, images.astype(self.dtype))
        for stage, count in enumerate(block_counts, start=1):
            planes = self.width * 2 ** (stage - 1)
            for i in range(count):
                x = block_class(
                    planes=planes,
                    stride=2 if stage > 1 and i == 0 else 1,
                    bottleneck=bottleneck,
                    training=training,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f'layer{stage}_{i}',
                )(x)
        return x


def create(config: Any, axis_name: str | None) -> ResNet:
    """Returns the backbone of `config.backbone`, a section of `config.model`."""
    return ResNet(
        depth=config.backbone.depth,
        width=config.backbone.width,
        remat=config.backbone.remat,
        axis_name=axis_name,
        dtype=jnp.dtype(config.backbone.dtype),
    )
