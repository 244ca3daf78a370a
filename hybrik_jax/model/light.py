"""Lifting by a light Transformer: joint tokens look for their joints in small heat-map volumes.

For networks that are too small, or trained too shortly, for the paper's lifting (`lifting`), which learns
late where to look. Ours, no published network: measured in docs/default_network.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hybrik_jax.body import skeleton
from hybrik_jax.body.smpl import NUM_BETAS
from hybrik_jax.model.lifting import NUM_LEAVES, NUM_TWISTS, Attention, linear, soft_argmax
from hybrik_jax.types import Lifted

TOKENS = (skeleton.NUM_JOINTS, NUM_TWISTS, NUM_LEAVES, 1)  # how many for joints, twists, leaves, the shape
KEY_WIDTH = 32  # channels in which joint tokens and patches are compared
REACH = 1.25  # side of a joint's volume in sides of the crop, and of 2 m: joints may lie a little outside
GAIN = 1.0  # of linear layers as they start: outputs vary as much as inputs


class LightBlock(nn.Module):
    """One block: sources (B, N, D), queries (B or 1, Q, D) -> both, of B, one round further.

    Sources attend to themselves; queries attend to themselves, then to the sources of this block. Sources and
    queries each go through a feed-forward network of `ffn_width` hidden units at the end. All of these see
    normalised tokens, and what they say is added.
    """

    num_heads: int
    ffn_width: int
    dtype: Any

    @nn.compact
    def __call__(self, sources: jax.Array, queries: jax.Array) -> tuple[jax.Array, jax.Array]:
        def norm(x: jax.Array, name: str) -> jax.Array:
            return nn.LayerNorm(dtype=self.dtype, name=f'{name}_norm')(x)

        def attend(x: jax.Array, name: str, to: jax.Array | None = None) -> jax.Array:
            normalised = norm(x, name)
            to = normalised if to is None else norm(to, f'{name}_to')
            return x + Attention(self.num_heads, self.dtype, GAIN, name=f'{name}_attention')(normalised, to)

        def feed_forward(x: jax.Array, name: str) -> jax.Array:
            h = linear(self.ffn_width, gain=GAIN, dtype=self.dtype, name=f'{name}_linear0')(norm(x, name))
            return x + linear(x.shape[-1], gain=GAIN, dtype=self.dtype, name=f'{name}_linear1')(nn.gelu(h))

        sources = feed_forward(attend(sources, 'source'), 'source_ffn')
        queries = attend(attend(queries, 'query'), 'cross', sources)
        return sources, feed_forward(queries, 'query_ffn')


class LightLifting(nn.Module):
    """Lifts a feature map (B, h, w, C) and a mean shape (10,) to a `Lifted` of 24 joints.

    3x3 convolutions, then blocks of tokens: the patches, with a position table, and queries of 24 joints, 23
    twists, five leaf rotations and one shape. Every joint token scores the patches at `depth_bins` depths
    each; the joint is where the softmax of the scores expects it. Linear layers read the rest off the other
    tokens.

    convolutions: before the blocks, `width` channels each.
    num_blocks, num_heads, width, ffn_width: of the blocks.
    depth_bins: cells along the depth of a joint's volume, which has the places of the feature map.
    dtype: of the computation; softmax, heads and parameters are float32.

    Raises:
        ValueError: if the heads cannot share the width.
    """

    convolutions: int = 2
    num_blocks: int = 1
    num_heads: int = 4
    width: int = 128
    ffn_width: int = 256
    depth_bins: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, *, training: bool, init_betas: jax.Array) -> Lifted:
        del training  # nothing is dropped
        batch_size, rows, columns, _ = features.shape
        full = jnp.promote_types(features.dtype, jnp.float32)
        normal = nn.initializers.normal(0.5)
        x = features.astype(self.dtype)
        for i in range(self.convolutions):
            x = nn.relu(nn.Conv(self.width, (3, 3), dtype=self.dtype, name=f'neck{i}')(x))
        x = nn.LayerNorm(dtype=self.dtype, name='neck_norm')(x.reshape(batch_size, rows * columns, -1))
        places = self.param('positions', normal, (rows, columns, self.width))
        sources = linear(self.width, gain=GAIN, dtype=self.dtype, name='source_projection')(x)
        sources = sources + places.reshape(1, rows * columns, self.width).astype(self.dtype)
        queries = self.param('queries', normal, (sum(TOKENS), self.width))[None].astype(self.dtype)
        for i in range(self.num_blocks):
            block = LightBlock(self.num_heads, self.ffn_width, self.dtype, name=f'layer{i}')
            sources, queries = block(sources, queries)
        sources = nn.LayerNorm(dtype=full, name='source_norm')(sources)
        tokens = nn.LayerNorm(dtype=full, name='query_norm')(queries)

        joints, twists, leaves, shape = jnp.split(tokens, np.cumsum(TOKENS[:-1]), axis=1)
        scores = self._scores(joints, sources).reshape(batch_size, rows, columns, -1, self.depth_bins)
        # From the corners of cells to their middles.
        uvd = soft_argmax(scores) + 0.5 / jnp.array([columns, rows, self.depth_bins], full)
        zero = nn.initializers.zeros
        betas = nn.Dense(NUM_BETAS, kernel_init=zero, dtype=full, name='head_betas')(shape[:, 0])
        turned = linear(4, gain=GAIN, dtype=full, name='head_leaves')(leaves)
        return Lifted(
            uvd=REACH * uvd,
            twists=linear(2, gain=GAIN, dtype=full, name='head_twists')(twists),
            leaf_quaternions=turned + jnp.array([1.0, 0.0, 0.0, 0.0], full),
            betas=init_betas + betas,
        )

    def _scores(self, joints: jax.Array, sources: jax.Array) -> jax.Array:
        """Returns how well cells fit: joints (B, J, D), sources (B, N, D) -> (B, N, J, `depth_bins`)."""
        dtype = joints.dtype
        wanted = linear(self.depth_bins * KEY_WIDTH, gain=GAIN, dtype=dtype, name='volume_queries')(joints)
        wanted = wanted.reshape(*joints.shape[:2], self.depth_bins, KEY_WIDTH)
        there = linear(KEY_WIDTH, gain=GAIN, dtype=dtype, name='volume_keys')(sources)
        return jnp.einsum('bjdc,bnc->bnjd', wanted, there) / KEY_WIDTH**0.5


def create(config: Any, axis_name: str | None) -> LightLifting:
    """Returns the lifting network of `config.light`, a section of `config.model`; keys are fields."""
    options = dict(config.light)
    return LightLifting(**{**options, 'dtype': jnp.dtype(options['dtype'])})
