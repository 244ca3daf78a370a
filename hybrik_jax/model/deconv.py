"""Lifting by heat-map volumes: the baseline that the paper compares with.

Source: Li et al., HybrIK (2021), section 4.1; Sun et al., Integral Human Pose Regression (2018).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.body import skeleton
from hybrik_jax.body.smpl import NUM_BETAS
from hybrik_jax.model.layers import BatchNorm
from hybrik_jax.model.lifting import NUM_LEAVES, NUM_TWISTS, START_SCALE, linear, soft_argmax
from hybrik_jax.types import Lifted
from hybrik_jax.units import DEPTH_SCALE_M

NUM_LAYERS = 3
HIDDEN = 1024
OWN_DEPTH = 2.2 / DEPTH_SCALE_M  # d of networks with a camera has a unit of 2.2 m


def upsampled(x: jax.Array, *, width: int, norm: Callable[..., nn.Module], dtype: Any) -> jax.Array:
    """Returns a feature map (B, h, w, C) eight times as large, (B, 8 h, 8 w, width), inside of a module.

    Three times a transposed convolution (4x4, stride 2, PyTorch's padding 1), which starts as N(0, 0.001^2),
    the normalisation that `norm` makes of a name, and ReLU.
    """
    for i in range(NUM_LAYERS):
        # PyTorch's padding 1 leaves 4 - 1 - 1 = 2 zeros around the dilated input.
        x = nn.ConvTranspose(
            width,
            (4, 4),
            strides=(2, 2),
            padding=((2, 2), (2, 2)),
            use_bias=False,
            transpose_kernel=True,
            kernel_init=nn.initializers.normal(0.001),
            dtype=dtype,
            name=f'deconv{i}',
        )(x)
        x = nn.relu(norm(name=f'deconv_bn{i}')(x))
    return x


class DeconvLifting(nn.Module):
    """Lifts a feature map (B, h, w, C) and a mean shape (10,) to a `Lifted` of 24 or 29 joints.

    Three transposed convolutions and a 1x1 convolution make heat-map volumes of (depth_bins, 8 h, 8 w) per
    joint; global average pooling and two linear layers without activation make twists, leaf rotations (only
    with 24 joints) and shape. Convolutions start as N(0, 0.001^2) with zero bias.

    num_joints: 24, or 29 to localise the five leaves of the mesh in place of predicting leaf rotations.
    width: channels of the transposed convolutions.
    depth_bins: cells of a volume along the depth axis.
    dropout: after each of the two linear layers.
    camera: tell scale and translation of a camera of the crop, too; its d has a unit of 2.2 m inside.
    axis_name: as in `ResNet`.
    dtype: of the computation; soft-argmax, heads and parameters are float32.

    Raises:
        ValueError: if num_joints is neither 24 nor 29.
    """

    num_joints: int = 24
    width: int = 256
    depth_bins: int = 64
    dropout: float = 0.5
    camera: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, *, training: bool, init_betas: jax.Array) -> Lifted:
        if self.num_joints not in (24, 29):
            raise ValueError(f'num_joints={self.num_joints}: the baseline knows 24 or 29 joints.')
        small = nn.initializers.normal(0.001)
        full = jnp.promote_types(features.dtype, jnp.float32)
        norm = functools.partial(BatchNorm, training=training, axis_name=self.axis_name)
        x = upsampled(features.astype(self.dtype), width=self.width, norm=norm, dtype=self.dtype)
        channels = self.num_joints * self.depth_bins
        x = nn.Conv(channels, (1, 1), kernel_init=small, dtype=self.dtype, name='volumes')(x)
        uvd = soft_argmax(x.astype(full).reshape(*x.shape[:3], self.num_joints, self.depth_bins))

        h = features.astype(full).mean(axis=(1, 2))
        for i in range(2):
            h = linear(HIDDEN, dtype=full, name=f'linear{i}')(h)
            h = nn.Dropout(self.dropout, deterministic=not training)(h)
        twists = linear(NUM_TWISTS * 2, dtype=full, name='head_twists')(h)
        leaf_quaternions = None
        if self.num_joints == skeleton.NUM_JOINTS:
            leaf_quaternions = linear(NUM_LEAVES * 4, dtype=full, name='head_leaves')(h).reshape(
                -1, NUM_LEAVES, 4
            )
        scale = translation = None
        if self.camera:
            seen = linear(3, dtype=full, name='head_camera')(h)
            scale, translation = START_SCALE + seen[:, 0], seen[:, 1:]
            uvd *= jnp.array([1.0, 1.0, OWN_DEPTH], uvd.dtype)
        return Lifted(
            uvd=uvd,
            twists=twists.reshape(-1, NUM_TWISTS, 2),
            leaf_quaternions=leaf_quaternions,
            betas=init_betas + linear(NUM_BETAS, dtype=full, name='head_betas')(h),
            scale=scale,
            translation=translation,
        )


def create(config: Any, axis_name: str | None) -> DeconvLifting:
    """Returns the lifting network of `config.deconv`, a section of `config.model`; keys are its fields."""
    options = dict(config.deconv)
    return DeconvLifting(**{**options, 'dtype': jnp.dtype(options['dtype'])}, axis_name=axis_name)
