"""Lifting by a Transformer: 53 (or 48) query tokens ask the patches of a feature map for a pose.

Source: Oreshkin, 3D Human Pose and Shape Estimation via HybrIK-Transformer (2023), section Method.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.body import skeleton
from hybrik_jax.body.smpl import NUM_BETAS
from hybrik_jax.types import Lifted

NUM_TWISTS = skeleton.NUM_JOINTS - 1
NUM_LEAVES = len(skeleton.LEAF_JOINTS)
JOINT_TYPES = 10  # rows of the table of output types; four are used, ten are what released checkpoints hold
LEAKY_SLOPE = 0.01
START_SCALE = 0.9  # of a network's camera, before what it learns is added
VARIANTS = ('custom', 'original')


def linear(features: int, *, gain: float = 1 / 3, dtype: Any = jnp.float32, name: str) -> nn.Dense:
    """Returns a linear layer whose weights start uniform with variance gain / fan-in; bias zero.

    The gain as it is has them within 1 / sqrt(fan-in), as PyTorch's start.
    """
    return nn.Dense(
        features,
        dtype=dtype,
        name=name,
        kernel_init=nn.initializers.variance_scaling(gain, 'fan_in', 'uniform'),
    )


def soft_argmax(volumes: jax.Array) -> jax.Array:
    """Returns the expected place in each volume: (B, K, 3) as (column, row, depth), each in [-0.5, 0.5).

    Args:
        volumes: (B, rows, columns, K, depths) scores; their softmax over a joint's whole volume is the
            probability of the joint's place: index / length of its axis - 0.5.
    """
    probability = nn.softmax(volumes, axis=(1, 2, 4))

    def expected(marginal: jax.Array) -> jax.Array:
        size = marginal.shape[1]
        return jnp.einsum('bsk,s->bk', marginal, jnp.arange(size, dtype=marginal.dtype)) / size - 0.5

    columns, rows = probability.sum(axis=(1, 4)), probability.sum(axis=(2, 4))
    depths = jnp.swapaxes(probability.sum(axis=(1, 2)), 1, 2)
    return jnp.stack([expected(columns), expected(rows), expected(depths)], axis=-1)


def sample_patches(
    count_key: jax.Array, subset_key: jax.Array, shape: tuple[int, int], min_fraction: float
) -> jax.Array:
    """Returns which patches each example may see: bool of `shape` (B, N), n of them in every row.

    n is uniform in [floor(min_fraction N), N], both ends included (at least one), and drawn with `count_key`,
    the same on all replicas of a step; the rows are independent draws without replacement.

    Source: the paper's section Method, 'a small note on training methodology'.
    """
    n = jax.random.randint(count_key, (), max(1, int(min_fraction * shape[1])), shape[1] + 1)
    order = jnp.argsort(jax.random.uniform(subset_key, shape), axis=-1)
    return jnp.argsort(order, axis=-1) < n


class UnbiasedLayerNorm(nn.Module):
    """Normalisation over the last axis: scale (x - mean) / (std + 1e-6) + shift, std the unbiased deviation.

    Computed in float32 and given back in x's own type. The gradient is finite where the deviation is zero.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        scale = self.param('scale', nn.initializers.ones, (width,))
        shift = self.param('shift', nn.initializers.zeros, (width,))
        full = x.astype(jnp.promote_types(x.dtype, scale.dtype))
        centred = full - jnp.mean(full, axis=-1, keepdims=True)
        variance = jnp.sum(centred**2, axis=-1, keepdims=True) / (width - 1)
        constant = variance == 0.0
        deviation = jnp.where(constant, 0.0, jnp.sqrt(jnp.where(constant, 1.0, variance)))
        return (scale * centred / (deviation + 1e-6) + shift).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head attention: queries (B or 1, Q, D), sources (B, N, D) -> (B, Q, D).

    Scores are divided by sqrt(D / num_heads); the softmax is taken in float32. `visible` (B, N) bool, where
    given, tells which sources may be attended to: the others might as well not exist. `gain` is that of
    `linear`.

    Raises:
        ValueError: if D cannot be split over the heads.
    """

    num_heads: int
    dtype: Any
    gain: float = 1 / 3

    @nn.compact
    def __call__(self, queries: jax.Array, sources: jax.Array, visible: jax.Array | None = None) -> jax.Array:
        width = queries.shape[-1]
        if width % self.num_heads:
            raise ValueError(f'width={width} cannot be split over {self.num_heads} heads: not a multiple.')
        per_head = width // self.num_heads

        def heads(x: jax.Array, name: str) -> jax.Array:
            x = linear(width, gain=self.gain, dtype=self.dtype, name=name)(x)
            return x.reshape(*x.shape[:2], self.num_heads, per_head)

        query, key, value = heads(queries, 'query'), heads(sources, 'key'), heads(sources, 'value')
        query = jnp.broadcast_to(query, (sources.shape[0], *query.shape[1:]))
        scores = jnp.einsum('bqhc,bnhc->bhqn', query, key) / jnp.sqrt(per_head).astype(query.dtype)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        if visible is not None:
            scores = jnp.where(visible[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        weights = nn.softmax(scores, axis=-1).astype(value.dtype)
        attended = jnp.einsum('bhqn,bnhc->bqhc', weights, value)
        attended = attended.reshape(*attended.shape[:2], width)
        return linear(width, gain=self.gain, dtype=self.dtype, name='out')(attended)


class FeedForward(nn.Module):
    """norm(dropout(h) + x), h being x after `depth` linear layers with an activation each: (B, N, D) -> same.

    The layers are `hidden_width` wide, the last one D.
    """

    hidden_width: int
    depth: int
    leaky: bool
    dropout: float
    training: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x
        for i in range(self.depth):
            features = self.hidden_width if i < self.depth - 1 else x.shape[-1]
            h = linear(features, dtype=self.dtype, name=f'linear{i}')(h)
            h = nn.leaky_relu(h, LEAKY_SLOPE) if self.leaky else nn.relu(h)
        h = nn.Dropout(self.dropout, deterministic=not self.training)(h)
        return UnbiasedLayerNorm(name='norm')(h + x)


class TransformerBlock(nn.Module):
    """One block: sources (B, N, D), queries (B or 1, Q, D) -> both, of B, one round further.

    Sources attend to themselves; queries attend to themselves, then to the sources of this block. Each
    attention is followed by dropout, the residual, normalisation and ReLU. What queries that are the same for
    all images (1, Q, D) say to each other is computed once.
    """

    num_heads: int
    ffn_width: int
    ffn_depth: int
    leaky: bool
    dropout: float
    training: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, sources: jax.Array, queries: jax.Array, visible: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        def attend(x: jax.Array, to: jax.Array, name: str, visible: jax.Array | None = None) -> jax.Array:
            attended = Attention(self.num_heads, self.dtype, name=f'{name}_attention')(x, to, visible)
            if self.training and self.dropout:  # every image has its own
                attended = jnp.broadcast_to(attended, (sources.shape[0], *attended.shape[1:]))
            attended = nn.Dropout(self.dropout, deterministic=not self.training)(attended)
            return nn.relu(UnbiasedLayerNorm(name=f'{name}_norm')(attended + x))

        feed_forward = functools.partial(
            FeedForward, self.ffn_width, self.ffn_depth, self.leaky, self.dropout, self.training, self.dtype
        )
        sources = feed_forward(name='source_ffn')(attend(sources, sources, 'source', visible))
        queries = attend(queries, queries, 'query')
        queries = feed_forward(name='query_ffn')(attend(queries, sources, 'cross', visible))
        return sources, queries


class TransformerLifting(nn.Module):
    """Lifts a feature map (B, h, w, C) and a mean shape (10,) to a `Lifted` of 24 joints.

    Query tokens, in order: 24 joints, 23 twists (joint k + 1 uses row k of the joint table), five leaf
    rotations (rows 24..28), one shape. Linear layers start uniform within 1 / sqrt(fan-in) with zero bias,
    the joint and type tables standard normal, the position tables uniform in [0, 1), with a row per row and
    column of the feature map. For the random streams of training see `HybrIK`.

    variant: 'custom' (LeakyReLU in the feed-forward networks; the paper's) or 'original' (ReLU throughout).
    num_blocks, num_heads, width, ffn_width, ffn_depth, dropout: of the blocks; the paper's are the defaults.
    leaf_tokens: False gives the paper's 48 tokens and no leaf rotations.
    camera: one more token, the last, tells the scale of the crop at the person's depth (`Lifted.scale`).
    patch_sampling: smallest fraction of the patches that a training batch may be shown; 1.0: always all.
    remat: keep only block boundaries for the backward pass.
    dtype: of the computation; softmax, normalisation, heads and parameters are float32.

    Raises:
        ValueError: for an unknown variant, patch_sampling outside (0, 1], odd C, or a width that the heads
            cannot share.
    """

    variant: str = 'custom'
    num_blocks: int = 6
    num_heads: int = 8
    width: int = 512
    ffn_width: int = 512
    ffn_depth: int = 3
    dropout: float = 0.1
    leaf_tokens: bool = True
    camera: bool = False
    patch_sampling: float = 0.2
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, *, training: bool, init_betas: jax.Array) -> Lifted:
        if self.variant not in VARIANTS:
            raise ValueError(f'No Transformer variant {self.variant!r}: choose one of {VARIANTS}.')
        if not 0.0 < self.patch_sampling <= 1.0:
            raise ValueError(f'patch_sampling={self.patch_sampling}: must be in (0, 1]; 1 shows all patches.')
        batch_size, rows, columns, channels = features.shape
        if channels % 2:
            raise ValueError(f'The feature map has {channels} channels: position codes need an even number.')
        full = jnp.promote_types(features.dtype, jnp.float32)

        row_codes = self.param('row_codes', nn.initializers.uniform(1.0), (rows, channels // 2))
        column_codes = self.param('column_codes', nn.initializers.uniform(1.0), (columns, channels // 2))
        half = (rows, columns, channels // 2)
        codes = jnp.concatenate(
            [jnp.broadcast_to(column_codes[None], half), jnp.broadcast_to(row_codes[:, None], half)], axis=-1
        )
        sources = (features.astype(full) + codes).reshape(batch_size, rows * columns, channels)
        queries = self._query_tokens(channels)[None]  # the same for every image, until they look at it

        visible = None
        if training and self.patch_sampling < 1.0:
            keys = self.make_rng('patch_count'), self.make_rng('patches')
            visible = sample_patches(*keys, sources.shape[:2], self.patch_sampling)

        sources = linear(self.width, dtype=self.dtype, name='project_sources')(sources)
        queries = linear(self.width, dtype=self.dtype, name='project_queries')(queries)
        block_class = nn.remat(TransformerBlock) if self.remat else TransformerBlock
        for i in range(self.num_blocks):
            sources, queries = block_class(
                num_heads=self.num_heads,
                ffn_width=self.ffn_width,
                ffn_depth=self.ffn_depth,
                leaky=self.variant == 'custom',
                dropout=self.dropout,
                training=training,
                dtype=self.dtype,
                name=f'block{i}',
            )(sources, queries, visible)
        tokens = linear(channels, dtype=self.dtype, name='project_back')(queries).astype(full)
        return self._heads(tokens, full, init_betas)

    def _query_tokens(self, channels: int) -> jax.Array:
        """Returns the query tokens before projection: (53 or 48, one more with a camera, channels)."""
        normal = nn.initializers.normal(1.0)
        joint = self.param('joint_embeddings', normal, (skeleton.NUM_JOINTS + NUM_LEAVES, channels))
        type_ = self.param('type_embeddings', normal, (JOINT_TYPES, channels))
        tokens = [joint[: skeleton.NUM_JOINTS] + type_[0], joint[:NUM_TWISTS] + type_[1]]
        if self.leaf_tokens:
            tokens.append(joint[skeleton.NUM_JOINTS :] + type_[2])
        return jnp.concatenate([*tokens, type_[3:5] if self.camera else type_[3:4]])

    def _heads(self, tokens: jax.Array, dtype: Any, init_betas: jax.Array) -> Lifted:
        """Returns what the tokens (B, 53 or 48, one more with a camera, channels) say."""
        scale = None
        if self.camera:
            tokens, last = tokens[:, :-1], tokens[:, -1]
            scale = START_SCALE + linear(1, dtype=dtype, name='head_camera')(last)[:, 0]
        end_of_twists = skeleton.NUM_JOINTS + NUM_TWISTS
        leaf_quaternions = None
        if self.leaf_tokens:
            leaf_quaternions = linear(4, dtype=dtype, name='head_leaves')(tokens[:, end_of_twists:-1])
        return Lifted(
            uvd=linear(3, dtype=dtype, name='head_joints')(tokens[:, : skeleton.NUM_JOINTS]),
            twists=linear(2, dtype=dtype, name='head_twists')(tokens[:, skeleton.NUM_JOINTS : end_of_twists]),
            leaf_quaternions=leaf_quaternions,
            betas=init_betas + linear(NUM_BETAS, dtype=dtype, name='head_betas')(tokens[:, -1]),
            scale=scale,
        )


def create(config: Any, axis_name: str | None) -> TransformerLifting:
    """Returns the lifting network of `config.transformer`, a section of `config.model`; keys are fields."""
    options = dict(config.transformer)
    return TransformerLifting(**{**options, 'dtype': jnp.dtype(options['dtype'])})
