"""Which network a state dict belongs to, from its names and shapes alone."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrik_jax.export.torch import backbone_prefix, clean_names
from hybrik_jax.model.efficientnet import COUNTS, SCALES, STRIDES, stages_of
from hybrik_jax.model.light import KEY_WIDTH
from hybrik_jax.model.resnet import STAGES


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the names and shapes of a state dict say.

    title: the network in words.
    keys: configuration key -> value, such as {'model.backbone.depth': 34}.
    assumed: the same for what no name and no shape tells; the released networks' values.
    num_joints: 24 or 29; 1 for a RootNet; None for a backbone alone.
    """

    title: str
    keys: dict[str, Any]
    assumed: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_joints: int | None = None


class _Shapes(dict[str, tuple[int, ...]]):
    """Name -> shape of the parameters, with the questions that are asked of them."""

    def side(self, name: str, axis: int, otherwise: int) -> int:
        """Returns a side of a parameter's shape, `otherwise` where there is none: that is reported later."""
        return self[name][axis] if axis < len(self.get(name, ())) else otherwise

    def numbered(self, pattern: str) -> int:
        """Returns how many different numbers stand where the pattern, the start of a name, has its group."""
        return len({match[1] for match in map(re.compile(pattern).match, self) if match})


def recognise(state_dict: Mapping[str, Any]) -> Architecture:
    """Returns the network that has parameters of these names and shapes.

    Args:
        state_dict: PyTorch name -> array, as `torch.from_state_dict` takes it.
    Raises:
        ValueError: if it is of a network that is not here, saying which where that is known.
    """
    shapes = _Shapes({name: np.shape(array) for name, array in clean_names(state_dict).items()})
    if shapes.numbered(r'root\.(xy_layer|depth_layer|deconv_layers)\.'):
        return _rootnet(shapes)
    if shapes.numbered(r'transformer\.layer_norm_src\.(\d+)\.'):
        return _transformer(shapes)
    if shapes.numbered(r'light\.layers\.(\d+)\.'):
        return _light(shapes)
    if shapes.numbered(r'deconv_layers\.(\d+)\.'):
        return _deconv(shapes)
    if 'preact.final_layer.weight' in shapes:
        return _volumes(shapes)
    if shapes.numbered(r'(?:layer1|_blocks)\.(\d+)\.'):
        backbone, keys = _backbone(shapes, '')
        return Architecture(f'{backbone} alone', keys)
    raise ValueError(
        'These are the weights of no network that is known here: expected are the names of HybrIK, HybrIK-'
        "Transformer, RootNet, torchvision's ResNets, HRNet or EfficientNet-Lite, there are "
        f'{", ".join(sorted(shapes)[:5]) or "none"} ...'
    )


def check_backbone(state_dict: Mapping[str, Any], config: Mapping[str, Any], source: str) -> None:
    """Raises ValueError, saying what to do, if a file's backbone is not the one that is to start from it.

    Args:
        state_dict: of a backbone alone, of a whole HybrIK network or of a RootNet.
        config: the section `model.backbone` of a configuration.
        source: the file, for the message.
    """
    shapes = _Shapes({name: np.shape(array) for name, array in clean_names(state_dict).items()})
    title, keys = _backbone(shapes, backbone_prefix(shapes))
    wanted = [f'--config.{key}={value}' for key, value in keys.items() if config[key.split('.')[-1]] != value]
    if wanted:
        raise ValueError(
            f'{source} holds {title}, which is not the backbone of this configuration: '
            f'add {" ".join(wanted)} or give the weights of another backbone.'
        )


def _backbone(shapes: _Shapes, prefix: str) -> tuple[str, dict[str, Any]]:
    """Returns the backbone below `prefix` in words, and its configuration keys."""
    if shapes.numbered(rf'{re.escape(prefix)}stage2\.(\d+)\.'):
        width = shapes.side(f'{prefix}transition1.0.0.weight', 0, 48)
        return f'an HRNet-W{width}', {'model.backbone.name': 'hrnet', 'model.backbone.width': width}
    if number := shapes.numbered(rf'{re.escape(prefix)}_blocks\.(\d+)\.'):
        planes = shapes.side(f'{prefix}_blocks.{number - 1}._project_conv.weight', 0, 320)
        return _efficientnet(number, planes)
    blocks = tuple(shapes.numbered(rf'{re.escape(prefix)}layer{stage}\.(\d+)\.') for stage in range(1, 5))
    bottleneck = bool(shapes.numbered(rf'{re.escape(prefix)}layer\d\.(\d+)\.conv3\.'))
    for depth, layout in STAGES.items():
        if layout == (blocks, bottleneck):
            width = shapes.side(f'{prefix}conv1.weight', 0, 64)
            keys = {'model.backbone.name': 'resnet', 'model.backbone.depth': depth}
            return f'a ResNet-{depth}', keys | {'model.backbone.width': width}
    kind, known = 'bottleneck' if bottleneck else 'basic', ', -'.join(map(str, STAGES))
    raise ValueError(f'The backbone has {blocks} {kind} blocks: none of ResNet-{known}.')


def _efficientnet(number: int, planes: int) -> tuple[str, dict[str, Any]]:
    """Returns an EfficientNet-Lite of so many blocks that ends in so many channels, as `_backbone` does."""
    for name, count in itertools.product(SCALES, COUNTS):
        stages = stages_of(name)[:count]
        if (sum(stage.blocks for stage in stages), stages[-1].planes) == (number, planes):
            title, keys = f'an EfficientNet-Lite{name[-1]}', {'model.backbone.name': name}
            if count == max(COUNTS):
                return title, keys
            return f'{title} of {count} stages', keys | {'model.backbone.stages': count}
    raise ValueError(
        f'The backbone has {number} inverted residual blocks and ends in {planes} channels: none of '
        f'{", ".join(SCALES)}.'
    )


def _transformer(shapes: _Shapes) -> Architecture:
    ffn = 'transformer.ffn_src.0.fc_layers.'
    blocks = shapes.numbered(r'transformer\.layer_norm_src\.(\d+)\.')
    width = shapes.side('transformer.input_projection_src.weight', 0, 512)
    ffn_width, ffn_depth = shapes.side(f'{ffn}0.weight', 0, 512), shapes.numbered(re.escape(ffn) + r'(\d+)\.')
    backbone, keys = _backbone(shapes, 'preact.')
    keys |= {
        'model.lifting': 'transformer',
        'model.transformer.num_blocks': blocks,
        'model.transformer.width': width,
        'model.transformer.ffn_width': ffn_width,
        'model.transformer.ffn_depth': ffn_depth,
        'model.transformer.leaf_tokens': 'decleaf.weight' in shapes,
        'model.transformer.camera': 'deccam.weight' in shapes,
    }
    title = (
        f'HybrIK-Transformer with {blocks} blocks of width {width}, feed-forward {ffn_depth} x {ffn_width}, '
        f'on {backbone}' + (', with a camera' if keys['model.transformer.camera'] else '')
    )
    assumed = {'model.transformer.variant': 'custom', 'model.transformer.num_heads': 8}
    _place_size(shapes.side('pos_embedding.row_embed.weight', 0, 8), keys, assumed)
    return Architecture(title, keys, assumed, num_joints=24)


def _place_size(rows: int, keys: dict[str, Any], assumed: dict[str, Any]) -> None:
    """Adds the size of images, which the rows of the feature map tell, to what is known or assumed."""
    name = keys['model.backbone.name']
    if name not in SCALES:
        keys |= {'image_size': 32 * rows}
        return
    stages = stages_of(name)[: keys.get('model.backbone.stages')]
    stride = 2 * math.prod(stage.stride for stage in stages)  # as published, the stem's with it
    if stride <= min(STRIDES):
        keys |= {'image_size': stride * rows}
    else:  # a map of as many rows may have another stride, too
        assumed |= {'image_size': stride * rows, 'model.backbone.stride': stride}


def _light(shapes: _Shapes) -> Architecture:
    backbone, keys = _backbone(shapes, 'preact.')
    blocks = shapes.numbered(r'light\.layers\.(\d+)\.')
    width = shapes.side('light.source_projection.weight', 0, 128)
    keys |= {
        'model.lifting': 'light',
        'model.light.convolutions': shapes.numbered(r'light\.neck(\d+)\.'),
        'model.light.num_blocks': blocks,
        'model.light.width': width,
        'model.light.ffn_width': shapes.side('light.layers.0.source_ffn_linear0.weight', 0, 256),
        'model.light.depth_bins': shapes.side('light.volume_queries.weight', 0, 8 * KEY_WIDTH) // KEY_WIDTH,
    }
    title = f'a light Transformer with {blocks} blocks of width {width} on {backbone}'
    assumed = {'model.light.num_heads': 4}
    _place_size(shapes.side('light.positions', 0, 8), keys, assumed)
    return Architecture(title, keys, assumed, num_joints=24)


def _deconv(shapes: _Shapes) -> Architecture:
    joints = 24 if 'decleaf.weight' in shapes else 29
    backbone, keys = _backbone(shapes, 'preact.')
    keys |= {
        'model.lifting': 'deconv',
        'model.deconv.num_joints': joints,
        'model.deconv.camera': 'deccam.weight' in shapes,
        'model.deconv.width': shapes.side('deconv_layers.0.weight', 1, 256),
        'model.deconv.depth_bins': shapes.side('final_layer.weight', 0, 64 * joints) // joints,
    }
    seeing = ' and a camera' if keys['model.deconv.camera'] else ''
    title = f"HybrIK's deconvolution head with {joints} joints{seeing} on {backbone}"
    return Architecture(title, keys, {'image_size': 256}, num_joints=joints)


def _volumes(shapes: _Shapes) -> Architecture:
    backbone, keys = _backbone(shapes, 'preact.')
    keys |= {
        'model.lifting': 'volumes',
        'model.deconv.depth_bins': shapes.side('preact.final_layer.weight', 0, 64 * 29) // 29,
    }
    title = f"HybrIK's network with 29 joints and a camera on the heat maps of {backbone}"
    return Architecture(title, keys, {'image_size': 256}, num_joints=29)


def _rootnet(shapes: _Shapes) -> Architecture:
    backbone, keys = _backbone(shapes, 'backbone.')
    keys |= {
        'model.lifting': 'rootnet',
        'model.deconv.width': shapes.side('root.deconv_layers.0.weight', 1, 256),
    }
    title = f'RootNet, which predicts where the root joint is, on {backbone}'
    return Architecture(title, keys, {'image_size': 256}, num_joints=1)
