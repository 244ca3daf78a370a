"""HRNet as a backbone: it trains, starts from HRNet's own files, is imported and exported.

Its arithmetic is compared in test_model.py, its names in test_export.py.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

from configs import hybrik_transformer_hrnet, hybrik_transformer_hrnet_pw3d
from hybrik_jax import checkpoint, setup
from hybrik_jax import config as configuration
from hybrik_jax.data import pipeline
from hybrik_jax.export import torch as export
from hybrik_jax.export import torch_file
from hybrik_jax.export.recognise import check_backbone
from hybrik_jax.model import hrnet, hybrik
from hybrik_jax.step import create_optimizer, fresh_state, replicate
from tests import helpers
from tests.helpers import person, tiny_config
from tests.test_import_torch import options
from tools import export_torch, import_torch

ROOT = pathlib.Path(__file__).parents[1]
NARROW = {'model__backbone__name': 'hrnet', 'model__backbone__width': 4}


def shapes_of(config):
    """The variables' shapes of the network that a configuration describes."""
    model = hybrik.create_model(config.model)
    create = functools.partial(hybrik.initialise, model, image_size=config.image_size)
    return jax.eval_shape(create, jax.random.key(0))


def random_variables(shapes):
    """Variables that keep signals' sizes, from NumPy: initialising compiles for a minute."""
    rng = np.random.default_rng(0)

    def random(path, like):
        if len(like.shape) > 1:
            return rng.standard_normal(like.shape, np.float32) / np.sqrt(np.prod(like.shape[:-1]))
        return np.full(like.shape, path[-1].key in ('scale', 'var'), np.float32)

    return jax.tree_util.tree_map_with_path(random, shapes)


@pytest.fixture(scope='module')
def narrow():
    """A narrow network's configuration, its variables, and its backbone under HRNet's own names."""
    config = tiny_config('unused', 'unused', **NARROW)
    variables = random_variables(shapes_of(config))
    state = export.to_state_dict(variables)
    bare = {name.removeprefix('preact.'): array for name, array in state.items() if 'preact.' in name}
    return config, variables, bare


def trains(config):
    """Three steps of two people from random variables: finite, and all of the backbone has moved."""
    trainer = helpers.trainer(config)
    variables = random_variables(shapes_of(config))
    people = helpers.examples_of([person(0), person(1)], config.image_size)
    batch = helpers.split_over_devices(pipeline.to_batch(people), 1)
    before = {key: np.array(value) for key, value in export.to_state_dict(variables).items()}
    state = replicate(fresh_state(variables, create_optimizer(config.optimizer)))
    del variables
    state, rows = trainer.run(state, batch, 3)
    assert all(row['finite'] == 1 for row in rows), rows
    after = export.to_state_dict(state.variables)
    assert all(np.isfinite(array).all() for array in after.values())
    still = [name for name in after if 'preact.' in name and (after[name] == before[name]).all()]
    # The bias of a convolution before a normalisation has no effect, so that its gradient is rounding alone.
    assert not [name for name in still if not name.endswith('.0.bias')]


@pytest.mark.parametrize(
    'changes',
    [{}, {'model__backbone__remat': True}],
    ids=['plain', 'remat'],
)
@pytest.mark.slow  # a minute of compilation each
def test_a_narrow_one_trains(changes, monkeypatch):
    """With a module a stage and a block a branch, and no loss that reads the solved body: every kind of layer
    of the backbone, a fraction of the compilation.
    """
    changes |= {'loss__rotations': 0.0, 'loss__smpl_joints': 0.0}
    monkeypatch.setattr(hrnet, 'MODULES', {2: 1, 3: 1, 4: 1})
    monkeypatch.setattr(hrnet, 'BLOCKS', 1)
    trains(tiny_config('unused', 'unused', batch_size=2, **NARROW, **changes))


@pytest.mark.slow  # minutes of compilation, 12 GB
def test_w48_trains():
    config = hybrik_transformer_hrnet.get_config()
    config.batch_size = 2
    trains(config)


def test_rematerialisation_and_bfloat16_change_no_name_and_no_output_type():
    images = jnp.zeros((1, 64, 64, 3))
    shapes, outputs = [], []
    for changes in ({}, {'remat': True, 'dtype': jnp.bfloat16}):
        network = hrnet.HRNet(width=4, **changes)
        shapes.append(
            jax.eval_shape(functools.partial(network.init, training=False), jax.random.key(0), images)
        )
        outputs.append(jax.eval_shape(functools.partial(network.apply, training=False), shapes[-1], images))
    assert shapes[0] == shapes[1] and {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {'float32'}
    assert [output.dtype.name for output in outputs] == ['float32', 'bfloat16']
    assert outputs[0].shape == outputs[1].shape == (1, 2, 2, 2048)
    with pytest.raises(ValueError, match='both sides must be multiples of 32'):
        jax.eval_shape(functools.partial(network.apply, training=False), shapes[0], jnp.zeros((1, 64, 48, 3)))


def test_the_configurations():
    for module, batch, share in (
        (hybrik_transformer_hrnet, 224, 0),
        (hybrik_transformer_hrnet_pw3d, 224, 0.2),
    ):
        config = module.get_config()
        configuration.check(config, devices=4, hosts=1)
        assert (config.batch_size, config.data.mixture.get('pw3d', 0)) == (batch, share)
        assert hybrik.create_model(config.model).backbone == hrnet.HRNet(width=48)


@pytest.mark.parametrize('kind', ['ImageNet', 'pose', 'HybrIK'])
def test_the_files_to_start_from(kind, narrow):
    """HRNet's own: the trunk is taken and the rest stays; HybrIK's, here with a heat map: all is taken."""
    _, variables, bare = narrow
    fresh = ('incre_modules.', 'downsamp_modules.', 'final_feat_layer.')
    file = {name: array + 1 for name, array in bare.items() if not name.startswith('final_feat_layer.')}
    if kind == 'ImageNet':
        file |= {
            'classifier.weight': np.ones((1000, 2048)),
            'final_layer.0.weight': np.ones((2048, 1024, 1, 1)),
        }
    if kind == 'pose':
        last = tuple(f'stage4.2.fuse_layers.{i}.' for i in (1, 2, 3))
        file = {name: array for name, array in file.items() if not name.startswith((*fresh, *last))}
        file['final_layer.weight'] = np.ones((17, 4, 1, 1))
        fresh += last
    if kind == 'HybrIK':
        file = {f'preact.{name}': array + 1 for name, array in bare.items()}
        file |= {
            'preact.final_layer.weight': np.ones((29 * 64, 4, 1, 1)),
            'decphi.weight': np.ones((46, 2048)),
        }
        fresh = ()
    check_backbone(file, {'name': 'hrnet', 'width': 4, 'depth': 34}, 'file')
    loaded = export.to_state_dict(export.load_backbone(file, variables))
    whole = export.to_state_dict(variables)
    assert loaded.keys() == whole.keys()
    for name, array in loaded.items():
        backbone = name.startswith('preact.') and not name.removeprefix('preact.').startswith(fresh or 'none')
        np.testing.assert_array_equal(array, whole[name] + backbone, err_msg=name)
    del file[next(name for name in file if 'stage3.2.branches.1.0.conv2' in name)]
    with pytest.raises(ValueError, match=r'missing:\n  preact.stage3.2.branches.1.0.conv2.weight$'):
        export.load_backbone(file, variables)


def test_a_backbone_of_another_kind_says_what_to_do(narrow, tmp_path):
    config, _, bare = narrow
    torch_file.write(tmp_path / 'hrnet.pth', bare)
    resnet = tiny_config('unused', 'unused')
    state = export.to_state_dict(random_variables(shapes_of(resnet)))
    torch_file.write(tmp_path / 'resnet.pth', {name.removeprefix('preact.'): state[name] for name in state})
    for mine, file, holds, advice in (
        (resnet, 'hrnet.pth', 'an HRNet-W4', 'name=hrnet --config.model.backbone.width=4 or'),
        (config, 'resnet.pth', 'a ResNet-18', 'name=resnet --config.model.backbone.depth=18 .*width=16 or'),
    ):
        mine = ConfigDict(mine.to_dict())
        mine.pretrained.backbone = str(tmp_path / file)
        mine.model.backbone.depth = 34
        network = setup.create_network(mine, setup.load_body(mine))
        with pytest.raises(ValueError, match=f'{file} holds {holds}, .*add --config.model.backbone.{advice}'):
            setup.initial_state(mine, network)


def test_a_file_of_another_backbone_than_the_configuration_is_not_imported(narrow, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    torch_file.write(tmp_path / 'hrnet.pth', export.to_state_dict(narrow[1]))
    asked = options(tmp_path / 'hrnet.pth', config='configs/hybrik_transformer.py')
    with pytest.raises(ValueError, match='on an HRNet-W4.* Give a configuration that it fits') as caught:
        import_torch.import_file(asked.file, str(tmp_path / 'run'), asked)
    assert "model.backbone.name is 'resnet' in the configuration, 'hrnet' in the file" in str(caught.value)


@pytest.mark.slow  # half a minute; its parts are tested with other files
def test_a_narrow_file_there_and_back(narrow, tmp_path, monkeypatch):
    """PyTorch's file -> run -> file: the same content; the run's network is the file's."""
    monkeypatch.chdir(ROOT)
    config, variables, _ = narrow
    state = export.to_state_dict(variables)
    file, run, back = tmp_path / 'narrow.pth', tmp_path / 'run', tmp_path / 'back.pth'
    torch.save({'model': {f'module.{name}': torch.from_numpy(array) for name, array in state.items()}}, file)
    said = import_torch.import_file(str(file), str(run), options(file, heads=2))
    assert 'on an HRNet-W4' in said[0]
    saved = checkpoint.load(run).config
    assert saved['model']['backbone'] == json.loads(json.dumps(config.model.backbone.to_dict())) | {
        'depth': 34
    }
    export_torch.export(str(run), str(back), parameters='raw')
    written = torch.load(back, weights_only=True)
    for name, array in state.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)
