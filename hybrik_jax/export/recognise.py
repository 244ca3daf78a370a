"""Which network a state dict belongs to, from its names and shapes alone."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrik_jax.export.torch import clean_names
from hybrik_jax.model.resnet import STAGES

# Names that only a network has which is not here yet.
NOT_YET = (
    (r'root\.(xy_layer|depth_layer|deconv_layers)\..*', 'a RootNet, which predicts where the root joint is'),
    (r'(preact\.)?(stage2|transition1)\..*', 'a network on an HRNet'),
    (r'dec(cam|sigma)\..*', "HybrIK's network with a camera"),
)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the names and shapes of a state dict say.

    title: the network in words.
    keys: configuration key -> value, such as {'model.backbone.depth': 34}.
    assumed: the same for what no name and no shape tells; the released networks' values.
    num_joints: 24 or 29; None for a backbone alone.
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
    for pattern, title in NOT_YET:
        if any(re.fullmatch(pattern, name) for name in shapes):
            raise ValueError(f'These are the weights of {title}: not supported yet.')
    if shapes.numbered(r'transformer\.layer_norm_src\.(\d+)\.'):
        return _transformer(shapes)
    if shapes.numbered(r'deconv_layers\.(\d+)\.'):
        return _deconv(shapes)
    if shapes.numbered(r'layer1\.(\d+)\.'):
        keys = _resnet(shapes, '')
        return Architecture(f'a ResNet-{keys["model.backbone.depth"]} alone', keys)
    raise ValueError(
        'These are the weights of no network that is known here: expected are the names of HybrIK, HybrIK-'
        f"Transformer or torchvision's ResNets, there are {', '.join(sorted(shapes)[:5]) or 'none'} ..."
    )


def _resnet(shapes: _Shapes, prefix: str) -> dict[str, Any]:
    """Returns the configuration keys of the ResNet below `prefix`."""
    blocks = tuple(shapes.numbered(rf'{re.escape(prefix)}layer{stage}\.(\d+)\.') for stage in range(1, 5))
    bottleneck = bool(shapes.numbered(rf'{re.escape(prefix)}layer\d\.(\d+)\.conv3\.'))
    for depth, layout in STAGES.items():
        if layout == (blocks, bottleneck):
            width = shapes.side(f'{prefix}conv1.weight', 0, 64)
            return {'model.backbone.depth': depth, 'model.backbone.width': width}
    kind, known = 'bottleneck' if bottleneck else 'basic', ', -'.join(map(str, STAGES))
    raise ValueError(f'The backbone has {blocks} {kind} blocks: none of ResNet-{known}.')


def _transformer(shapes: _Shapes) -> Architecture:
    ffn = 'transformer.ffn_src.0.fc_layers.'
    blocks = shapes.numbered(r'transformer\.layer_norm_src\.(\d+)\.')
    width = shapes.side('transformer.input_projection_src.weight', 0, 512)
    ffn_width, ffn_depth = shapes.side(f'{ffn}0.weight', 0, 512), shapes.numbered(re.escape(ffn) + r'(\d+)\.')
    keys = _resnet(shapes, 'preact.') | {
        'model.lifting': 'transformer',
        'model.transformer.num_blocks': blocks,
        'model.transformer.width': width,
        'model.transformer.ffn_width': ffn_width,
        'model.transformer.ffn_depth': ffn_depth,
        'model.transformer.leaf_tokens': 'decleaf.weight' in shapes,
        'image_size': 32 * shapes.side('pos_embedding.row_embed.weight', 0, 8),
    }
    title = (
        f'HybrIK-Transformer with {blocks} blocks of width {width}, feed-forward {ffn_depth} x {ffn_width}, '
        f'on a ResNet-{keys["model.backbone.depth"]}'
    )
    assumed = {'model.transformer.variant': 'custom', 'model.transformer.num_heads': 8}
    return Architecture(title, keys, assumed, num_joints=24)


def _deconv(shapes: _Shapes) -> Architecture:
    joints = 24 if 'decleaf.weight' in shapes else 29
    keys = _resnet(shapes, 'preact.') | {
        'model.lifting': 'deconv',
        'model.deconv.num_joints': joints,
        'model.deconv.width': shapes.side('deconv_layers.0.weight', 1, 256),
        'model.deconv.depth_bins': shapes.side('final_layer.weight', 0, 64 * joints) // joints,
    }
    depth = keys['model.backbone.depth']
    title = f"HybrIK's deconvolution head with {joints} joints on a ResNet-{depth}"
    return Architecture(title, keys, {'image_size': 256}, num_joints=joints)
