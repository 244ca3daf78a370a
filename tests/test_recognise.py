"""Networks are recognised by the names and shapes of their parameters."""

import functools
import json
import pathlib
import runpy

import jax
import numpy as np
import pytest

from configs import default
from hybrik_jax import config as configuration
from hybrik_jax.export import torch as export
from hybrik_jax.export.recognise import recognise
from hybrik_jax.model import hybrik
from tools import import_torch

ROOT = pathlib.Path(__file__).parents[1]
NAMES = json.loads((ROOT / 'tests' / 'golden' / 'state_dict.json').read_text())


def empty(shapes):
    """Arrays of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def state_of(config):
    """The names and shapes of the network that a configuration describes."""
    model = hybrik.create_model(config.model)
    create = functools.partial(hybrik.initialise, model, image_size=config.image_size)
    shapes = jax.eval_shape(create, jax.random.key(0))
    return export.to_state_dict(jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes))


@pytest.mark.parametrize(
    ('changes', 'joints', 'title'),
    [
        ({}, 24, 'HybrIK-Transformer with 6 blocks of width 512, feed-forward 3 x 512, on a ResNet-34'),
        (
            {
                'image_size': 96,
                'model.backbone.depth': 50,
                'model.backbone.width': 16,
                'model.transformer.num_blocks': 11,
                'model.transformer.width': 64,
                'model.transformer.ffn_width': 24,
                'model.transformer.ffn_depth': 2,
                'model.transformer.leaf_tokens': False,
            },
            24,
            'HybrIK-Transformer with 11 blocks of width 64, feed-forward 2 x 24, on a ResNet-50',
        ),
        (
            {
                'image_size': 96,
                'model.lifting': 'light',
                'model.backbone.depth': 18,
                'model.light.convolutions': 3,
                'model.light.num_blocks': 2,
                'model.light.width': 24,
                'model.light.ffn_width': 40,
                'model.light.depth_bins': 5,
            },
            24,
            'a light Transformer with 2 blocks of width 24 on a ResNet-18',
        ),
        (
            {
                'image_size': 160,
                'model.lifting': 'light',
                'model.backbone.name': 'efficientnet_lite0',
                'model.backbone.stages': 5,
            },
            24,
            'a light Transformer with 1 blocks of width 128 on an EfficientNet-Lite0 of 5 stages',
        ),
        (
            {
                'image_size': 96,
                'model.backbone.name': 'efficientnet_lite2',
                'model.backbone.stride': 32,
            },
            24,
            'feed-forward 3 x 512, on an EfficientNet-Lite2',
        ),
        (
            {'model.backbone.name': 'hrnet', 'model.backbone.width': 18},
            24,
            'feed-forward 3 x 512, on an HRNet-W18',
        ),
        ({'model.backbone.depth': 152, 'model.lifting': 'deconv'}, 24, 'with 24 joints on a ResNet-152'),
        (
            {
                'model.lifting': 'deconv',
                'model.backbone.depth': 18,
                'model.deconv.num_joints': 29,
                'model.deconv.width': 32,
                'model.deconv.depth_bins': 16,
            },
            29,
            "HybrIK's deconvolution head with 29 joints on a ResNet-18",
        ),
        (
            {'model.lifting': 'rootnet', 'model.backbone.depth': 50, 'model.deconv.width': 32},
            1,
            'RootNet, which predicts where the root joint is, on a ResNet-50',
        ),
    ],
)
def test_every_size_is_found_again(changes, joints, title):
    config = default.get_config()
    config.update_from_flattened_dict(changes)
    state = state_of(config)
    architecture = recognise({f'module.{name}': array for name, array in state.items()})
    assert title in architecture.title and architecture.num_joints == joints
    for key, value in changes.items():
        assert (architecture.keys | architecture.assumed)[key] == value, key
    # What was found goes with the configuration that an import starts from.
    file = ROOT / import_torch.BASES[architecture.keys['model.lifting']]
    base = runpy.run_path(str(file))['get_config']()
    base.update_from_flattened_dict(architecture.keys | architecture.assumed)
    configuration.check(base, devices=1, hosts=1)


def test_a_backbone_alone():
    names = NAMES['transformer_resnet18_original']
    state = {name.removeprefix('preact.'): shape for name, shape in names.items() if 'preact.' in name}
    architecture = recognise(empty(state | {'fc.weight': (1000, 512), 'fc.bias': (1000,)}))
    resnet = {'model.backbone.name': 'resnet', 'model.backbone.depth': 18, 'model.backbone.width': 64}
    assert architecture.keys == resnet and architecture.num_joints is None
    names = NAMES['transformer_hrnet48']
    state = {name.removeprefix('preact.'): shape for name, shape in names.items() if 'preact.' in name}
    architecture = recognise(empty(state | {'classifier.weight': (1000, 2048)}))
    assert architecture.keys == {'model.backbone.name': 'hrnet', 'model.backbone.width': 48}
    assert architecture.title == 'an HRNet-W48 alone' and architecture.num_joints is None


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        ({'encoder.weight': (3, 3), 'decoder.weight': (3, 3)}, 'no network that is known .* decoder.weight'),
        (
            {'layer1.0.conv1.weight': (64, 64, 3, 3)},
            r'has \(1, 0, 0, 0\) basic blocks: none of ResNet-18, -34',
        ),
        (
            {'_blocks.0._project_conv.weight': (17, 32, 1, 1)},
            'has 1 inverted residual blocks and ends in 17 channels: none of efficientnet_lite0',
        ),
        ({'smpl.v_template': (6890, 3)}, 'no network that is known .* there are none'),
    ],
)
def test_what_is_not_here_is_called_by_its_name(shapes, message):
    with pytest.raises(ValueError, match=message):
        recognise(empty(shapes))
