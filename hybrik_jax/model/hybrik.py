"""HybrIK networks: a backbone and a lifting network, from a configuration."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrik_jax.model.deconv import DeconvLifting
from hybrik_jax.model.lifting import NUM_BETAS, TransformerLifting
from hybrik_jax.model.resnet import ResNet
from hybrik_jax.types import Lifted


class HybrIK(nn.Module):
    """A backbone and a lifting network: images (B, H, W, 3), normalised, and a mean shape (10,) -> `Lifted`.

    backbone: called with (images, training=...), gives a feature map.
    lifting: called with (feature map, training=..., init_betas=...), gives a `Lifted`.

    Random streams needed in training: 'dropout', and for the Transformer with patch sampling 'patch_count'
    (same key on every device) and 'patches' (a different one on every device). Training changes
    'batch_stats'.
    """

    backbone: nn.Module
    lifting: nn.Module

    def __call__(self, images: jax.Array, *, training: bool, init_betas: jax.Array) -> Lifted:
        features = self.backbone(images, training=training)
        return self.lifting(features, training=training, init_betas=init_betas)

    def features(self, images: jax.Array) -> jax.Array:
        """Returns the feature map at inference: `model.apply(variables, images, method='features')`."""
        return self.backbone(images, training=False)


def create_model(config: Any, *, axis_name: str | None = None) -> HybrIK:
    """Returns the network that `config`, the section `model` of a configuration, describes.

    Keys read: `lifting` ('transformer' or 'deconv'); `backbone.{depth, width, dtype, remat,
    sync_batch_norm}`; `transformer.{variant, num_blocks, num_heads, width, ffn_width, ffn_depth, dropout,
    leaf_tokens, patch_sampling, remat, dtype}`; `deconv.{num_joints, width, depth_bins, dropout, dtype}`.
    Types are names such as 'float32' or 'bfloat16'.

    Args:
        axis_name: of the device axis, used where `backbone.sync_batch_norm` asks for it.
    Raises:
        ValueError: if `lifting` names no lifting network, or batch statistics shall be shared and no axis is
            named.
    """
    if config.backbone.sync_batch_norm and axis_name is None:
        raise ValueError('model.backbone.sync_batch_norm=True needs the device axis: pass axis_name.')
    statistics_axis = axis_name if config.backbone.sync_batch_norm else None
    backbone = ResNet(
        depth=config.backbone.depth,
        width=config.backbone.width,
        remat=config.backbone.remat,
        axis_name=statistics_axis,
        dtype=jnp.dtype(config.backbone.dtype),
    )
    if config.lifting == 'transformer':
        options = dict(config.transformer)
        lifting = TransformerLifting(**{**options, 'dtype': jnp.dtype(options['dtype'])})
    elif config.lifting == 'deconv':
        options = dict(config.deconv)
        lifting = DeconvLifting(
            **{**options, 'dtype': jnp.dtype(options['dtype'])}, axis_name=statistics_axis
        )
    else:
        raise ValueError(f"model.lifting={config.lifting!r}: choose 'transformer' or 'deconv'.")
    return HybrIK(backbone=backbone, lifting=lifting)


def initialise(model: HybrIK, key: jax.Array, *, image_size: int) -> dict[str, Any]:
    """Returns fresh variables, {'params': ..., 'batch_stats': ...}, for square images of `image_size` pixels.

    The position tables of the Transformer have `image_size` / 32 rows: variables fit one image size.
    """
    images = jnp.zeros((1, image_size, image_size, 3))
    betas = jnp.zeros(NUM_BETAS)
    return jax.jit(lambda key: model.init(key, images, training=False, init_betas=betas))(key)
