"""Conversion of parameters from and to PyTorch."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn

from hybrik_jax.export import torch as export
from hybrik_jax.model import hybrik, lifting, resnet
from tools.recorded import model as recorded

GOLDEN = pathlib.Path(__file__).parent / 'golden'
NAMES = json.loads((GOLDEN / 'state_dict.json').read_text())
ARCHITECTURES = [
    'transformer_resnet34',
    'transformer_resnet18_original',
    'deconv24_resnet34',
    'deconv29_resnet34',
    'transformer_hrnet48',
]


@functools.cache
def template(architecture):
    model = recorded.network_like(architecture, NAMES[architecture])
    return jax.eval_shape(functools.partial(hybrik.initialise, model, image_size=256), jax.random.key(0))


def random_state(architecture, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape, np.float32) for name, shape in NAMES[architecture].items()}


@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_round_trip_and_released_names(architecture):
    state = random_state(architecture)
    back = export.to_state_dict(export.from_state_dict(state, template(architecture)))
    assert {name: list(array.shape) for name, array in back.items()} == NAMES[architecture]
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_all_that_does_not_fit_is_named_at_once():
    state = random_state('transformer_resnet18_original')
    del state['decphi.bias'], state['preact.bn1.running_var']
    state['decjoint.weight'] = state['decjoint.weight'].T
    state['surprise.weight'] = np.zeros(3)
    state['preact.conv1.weight'][0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError) as caught:
        export.from_state_dict(state, template('transformer_resnet18_original'))
    missing, rest = str(caught.value).split('missing:')[1].split('unexpected:')
    unexpected, rest = rest.split('wrong shape:')
    wrong, not_finite = rest.split('not finite:')
    assert missing.split() == ['decphi.bias', 'preact.bn1.running_var']
    assert unexpected.split() == ['surprise.weight']
    assert wrong.strip() == 'decjoint.weight is (512, 3), expected (3, 512)'
    assert not_finite.strip() == 'preact.conv1.weight has 1 of 9408 numbers'


def test_what_released_files_hold_besides():
    state = random_state('transformer_resnet18_original')
    released = {f'module.{name}': array for name, array in state.items()}
    released |= {
        'module.smpl.v_template': np.zeros((5, 3)),
        'module.init_shape': np.arange(10.0)[None],
        'module.preact.bn1.num_batches_tracked': np.array(7),
    }
    variables = export.from_state_dict(released, template('transformer_resnet18_original'))
    np.testing.assert_array_equal(
        variables['params']['lifting']['row_codes'], state['pos_embedding.row_embed.weight']
    )
    np.testing.assert_array_equal(export.mean_shape(released), np.arange(10))
    assert export.mean_shape(state) is None


def test_a_module_without_a_row_is_named():
    with pytest.raises(ValueError, match='params/lifting/other/kernel'):
        export.torch_name(('params', 'lifting', 'other', 'kernel'))


@pytest.mark.parametrize('source', ['torchvision', 'hybrik'])
def test_backbone_alone(source):
    state = random_state('transformer_resnet18_original')
    if source == 'torchvision':
        state = {name.removeprefix('preact.'): array for name, array in state.items() if 'preact' in name}
        state |= {'fc.weight': np.zeros((1000, 512)), 'fc.bias': np.zeros(1000)}
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template('transformer_resnet18_original'))
    loaded = export.load_backbone(state, variables)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    kernel = loaded['params']['backbone']['layer2_0']['shortcut_conv']['kernel']
    name = 'layer2.0.downsample.0.weight'
    np.testing.assert_array_equal(
        kernel, state[name if source == 'torchvision' else f'preact.{name}'].transpose(2, 3, 1, 0)
    )
    assert not any(np.any(x) for x in jax.tree.leaves(loaded['params']['lifting']))
    assert not any(np.any(x) for x in jax.tree.leaves(variables))
    with pytest.raises(ValueError, match='layer4.2.conv2.weight'):
        deeper = random_state('deconv24_resnet34')
        export.load_backbone(deeper, variables)


def test_transposed_convolution_is_pytorchs():
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 3)).astype(np.float32)
    theirs = torch.nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1, bias=False)
    kernel = export._from_torch_layout(('kernel',), theirs.weight.detach().numpy())
    ours = nn.ConvTranspose(
        4, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)), use_bias=False, transpose_kernel=True
    )
    expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours.apply({'params': {'kernel': kernel}}, x), expected, atol=1e-5)


@pytest.mark.parametrize('training', [False, True])
def test_bottleneck_block_is_pytorchs(training):
    """Depths 50 and more, which no recorded HybrIK network has: stride in the 3x3 convolution."""
    conv, norm = functools.partial(torch.nn.Conv2d, bias=False), torch.nn.BatchNorm2d
    torch.manual_seed(0)
    main = torch.nn.Sequential(
        conv(6, 4, 1),
        norm(4),
        torch.nn.ReLU(),
        conv(4, 4, 3, stride=2, padding=1),
        norm(4),
        torch.nn.ReLU(),
        conv(4, 16, 1),
        norm(16),
    )
    shortcut = torch.nn.Sequential(conv(6, 16, 1, stride=2), norm(16))
    for module in (*main, *shortcut):
        if isinstance(module, norm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.normal_()
            module.bias.data.normal_()

    def state():
        names = {'0': 'conv1', '1': 'bn1', '3': 'conv2', '4': 'bn2', '6': 'conv3', '7': 'bn3'}
        entries = {f'layer1.0.{names[name[0]]}{name[1:]}': value for name, value in main.state_dict().items()}
        entries |= {f'layer1.0.downsample.{name}': value for name, value in shortcut.state_dict().items()}
        return {name: value.clone() for name, value in entries.items()}

    x = np.random.default_rng(0).standard_normal((4, 9, 9, 6)).astype(np.float32)
    block = resnet.Block(
        planes=4, stride=2, bottleneck=True, training=training, axis_name=None, dtype=jnp.float32
    )
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    nested = {name: {'backbone': {'layer1_0': tree}} for name, tree in shapes.items()}
    converted = export.from_state_dict({f'preact.{name}': value for name, value in state().items()}, nested)
    variables = {name: tree['backbone']['layer1_0'] for name, tree in converted.items()}
    ours, changed = block.apply(variables, x, mutable=['batch_stats'])

    main.train(training)
    shortcut.train(training)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2))
    with torch.no_grad():
        theirs = torch.relu(main(images) + shortcut(images)).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    # PyTorch's running variance takes n / (n - 1) times our batch variance: n = 4 * 5 * 5 after the stride.
    after = state()
    statistics = changed['batch_stats']['bn3']
    np.testing.assert_allclose(statistics['mean'], after['layer1.0.bn3.running_mean'], atol=1e-6)
    np.testing.assert_allclose(
        statistics['var'], after['layer1.0.bn3.running_var'], rtol=2e-3 if training else 0
    )


def test_attention_is_pytorchs():
    width, x = 8, np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    to = np.random.default_rng(1).standard_normal((2, 7, 8)).astype(np.float32)
    hidden = np.arange(7)[None] >= np.array([[4], [6]])
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(width, 2, batch_first=True)
    torch.nn.init.normal_(theirs.in_proj_bias)
    weight, bias = theirs.in_proj_weight.detach().numpy(), theirs.in_proj_bias.detach().numpy()
    params = {
        name: {'kernel': weight[i * width : (i + 1) * width].T, 'bias': bias[i * width : (i + 1) * width]}
        for i, name in enumerate(('query', 'key', 'value'))
    }
    params['out'] = {
        'kernel': theirs.out_proj.weight.detach().numpy().T,
        'bias': theirs.out_proj.bias.detach().numpy(),
    }
    attention = lifting.Attention(num_heads=2, dtype=jnp.float32)
    ours = jax.jit(attention.apply)({'params': params}, x, to, jnp.asarray(~hidden))
    expected, _ = theirs(
        torch.from_numpy(x),
        torch.from_numpy(to),
        torch.from_numpy(to),
        key_padding_mask=torch.from_numpy(hidden),
    )
    np.testing.assert_allclose(ours, expected.detach().numpy(), atol=1e-5)
