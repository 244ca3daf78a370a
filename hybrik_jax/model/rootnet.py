"""RootNet's head: where the root joint is in a crop, and how far away.

Source: Moon et al., Camera Distance-aware Top-down Approach for 3D Multi-person Pose Estimation (2019).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.model.deconv import upsampled
from hybrik_jax.model.layers import BatchNorm
from hybrik_jax.model.lifting import soft_argmax
from hybrik_jax.types import Rooted


class RootHead(nn.Module):
    """Finds the root joint in a feature map (B, h, w, C): a `Rooted`.

    Three transposed convolutions and a 1x1 convolution make one heat map (8 h, 8 w), whose expected place is
    the root's; global average pooling and a 1x1 convolution make the depth. Convolutions start as
    N(0, 0.001^2), and the depth as that of the 2 m square (its bias is one; a choice of ours).

    width, axis_name, dtype: as in `DeconvLifting`; soft-argmax, depth and parameters are float32.
    """

    width: int = 256
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, *, training: bool, init_betas: jax.Array | None = None) -> Rooted:
        del init_betas  # a body's; every network of the registry is called alike
        full = jnp.promote_types(features.dtype, jnp.float32)
        norm = functools.partial(BatchNorm, training=training, axis_name=self.axis_name)
        one = functools.partial(nn.Conv, 1, (1, 1), kernel_init=nn.initializers.normal(0.001))
        x = upsampled(features.astype(self.dtype), width=self.width, norm=norm, dtype=self.dtype)
        heat_map = one(dtype=self.dtype, name='head_xy')(x).astype(full)
        pooled = features.astype(full).mean(axis=(1, 2), keepdims=True)
        ratio = one(dtype=full, bias_init=nn.initializers.ones, name='head_depth')(pooled)
        return Rooted(uv=soft_argmax(heat_map[..., None])[:, 0, :2], depth_ratio=ratio[:, 0, 0, 0])


def create(config: Any, axis_name: str | None) -> RootHead:
    """Returns the head of `config`, a section `model`; its layers are those of `config.deconv`."""
    options = config.deconv
    return RootHead(width=options.width, dtype=jnp.dtype(options.dtype), axis_name=axis_name)
