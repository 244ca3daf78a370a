"""HybrIK networks: a backbone and a lifting network, each of them named in a registry, from a configuration.

Another backbone is one file and one entry of `BACKBONES`, another lifting network one file and one of
`LIFTINGS`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from hybrik_jax.model import deconv, efficientnet, hrnet, lifting, light, resnet, rootnet, volumes
from hybrik_jax.types import Lifted, Rooted

# Name -> (section `model` of a configuration, axis of shared batch statistics or None) -> module.
BACKBONES: dict[str, Callable[[Any, str | None], nn.Module]] = {
    'resnet': resnet.create,
    'hrnet': hrnet.create,
    **dict.fromkeys(efficientnet.SCALES, efficientnet.create),
}
# Name -> mean and deviation (3,) RGB of images in [0, 1], of a backbone whose weights want their own.
NORMALISATIONS = dict.fromkeys(efficientnet.SCALES, (efficientnet.IMAGE_MEAN, efficientnet.IMAGE_STD))
LIFTINGS: dict[str, Callable[[Any, str | None], nn.Module]] = {
    'transformer': lifting.create,
    'light': light.create,
    'deconv': deconv.create,
    'volumes': volumes.create,
    'rootnet': rootnet.create,
}
POSITION_TABLES = ('row_codes', 'column_codes', 'positions')  # have entries for places of the feature map


class HybrIK(nn.Module):
    """A backbone and a lifting network: images (B, H, W, 3), normalised, and a mean shape (10,) -> `Lifted`.

    With the lifting network 'rootnet' it is a RootNet and makes a `Rooted`.

    Random streams needed in training: 'dropout', and for the Transformer with patch sampling 'patch_count'
    (same key on every device) and 'patches' (a different one on every device). Training changes
    'batch_stats'.
    """

    backbone: nn.Module
    lifting: nn.Module

    def __call__(self, images: jax.Array, *, training: bool, init_betas: jax.Array) -> Lifted | Rooted:
        features = self.backbone(images, training=training)
        return self.lifting(features, training=training, init_betas=init_betas)


def create_model(config: Any, *, axis_name: str | None = None) -> HybrIK:
    """Returns the network that `config`, the section `model` of a configuration, describes.

    Args:
        axis_name: of the device axis, used where `backbone.sync_batch_norm` asks for it.
    Raises:
        ValueError: for an unknown name, or if batch statistics shall be shared and no axis is named.
    """
    if config.backbone.sync_batch_norm and axis_name is None:
        raise ValueError('model.backbone.sync_batch_norm=True needs the device axis: pass axis_name.')
    statistics_axis = axis_name if config.backbone.sync_batch_norm else None
    create_backbone = _look_up(BACKBONES, config.backbone.name, 'model.backbone.name')
    create_lifting = _look_up(LIFTINGS, config.lifting, 'model.lifting')
    return HybrIK(create_backbone(config, statistics_axis), create_lifting(config, statistics_axis))


def normalisation_of(config: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and deviation (3,) RGB, of images in [0, 1], for the network of `config`.

    They are the backbone's own, or those of `config`, the section `model` of a configuration.
    """
    return NORMALISATIONS.get(config.backbone.name, (tuple(config.image_mean), tuple(config.image_std)))


def camera_of(config: Any) -> str | None:
    """Returns whose camera the network of `config`, a section `model`, places people with.

    None: that of the data, with a root depth that somebody else tells. 'scale': that of the data; the network
    tells the scale. 'crop', 'photo': one of its own, see `inference.Network`.
    """
    if config.lifting == 'volumes':
        return 'photo'
    if config.lifting == 'deconv' and config.deconv.camera:
        return 'crop'
    return 'scale' if config.lifting == 'transformer' and config.transformer.camera else None


def _look_up(registry: Mapping[str, Callable], name: str, key: str) -> Callable:
    if name not in registry:
        raise ValueError(f'{key}={name!r}: choose one of {", ".join(sorted(registry))}.')
    return registry[name]


def initialise(model: HybrIK, key: jax.Array, *, image_size: int) -> dict[str, Any]:
    """Returns fresh variables, {'params': ..., 'batch_stats': ...}, for square images of `image_size` pixels.

    The position tables of Transformers have a row for each row of the feature map: variables fit one image
    size, and `for_another_size` makes them fit another.
    """
    images = jnp.zeros((1, image_size, image_size, 3))
    betas = jnp.zeros(lifting.NUM_BETAS)
    return jax.jit(lambda key: model.init(key, images, training=False, init_betas=betas))(key)


def for_another_size(variables: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns variables whose position tables are interpolated to the shapes of another image size.

    Args:
        variables: of a network; arrays other than position tables are left as they are.
        shapes: those of the same network for the wanted image size, arrays or `jax.ShapeDtypeStruct`.
    """
    wanted = traverse_util.flatten_dict(shapes)

    def fit(path: tuple[str, ...], array: Any) -> Any:
        like = np.shape(wanted.get(path))
        if path[-1] not in POSITION_TABLES or len(like) != np.ndim(array) or like == np.shape(array):
            return array
        return jax.image.resize(array, like, 'linear')

    fitted = {path: fit(path, array) for path, array in traverse_util.flatten_dict(variables).items()}
    return traverse_util.unflatten_dict(fitted)
