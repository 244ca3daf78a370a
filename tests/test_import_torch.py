"""From weight files of PyTorch to run folders and back: `tools.import_torch` and `tools.export_torch`."""

import argparse
import functools
import json
import pathlib
import runpy
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from ml_collections import ConfigDict

from hybrik_jax import checkpoint, inference, setup
from hybrik_jax import config as configuration
from hybrik_jax.body import smpl_file
from hybrik_jax.export import torch as export
from hybrik_jax.export import torch_file
from hybrik_jax.step import create_optimizer, fresh_state
from tools import export_torch, import_torch
from tools.recorded import model as recorded

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / 'tests' / 'golden'
NAMES = json.loads((GOLDEN / 'state_dict.json').read_text())
SMALLEST = 'transformer_resnet18_original'
# How the file of each network is made: what wraps the dict, and whether by data-parallel training.
FORMS = {
    'transformer_resnet34': (None, False),
    SMALLEST: ('state_dict', True),
    'deconv24_resnet34': ('model', False),
    'deconv29_resnet34': ('network', True),
    'deconv29cam_resnet34': (None, False),
    'transformer_hrnet48': (None, False),
    'hrnetcam29_hrnet48': ('model', False),
}
# 100 million numbers; and what differs little from others that are tried.
HEAVY = ('transformer_hrnet48', 'hrnetcam29_hrnet48', 'transformer_resnet18_original', 'deconv24_resnet34')


def options(file, **changes):
    fixed = dict(config=None, body=None, h36m_regressor=None, variant=None, heads=None, right_hand='released')
    return argparse.Namespace(file=str(file), **(fixed | changes))


def seeded_state(architecture):
    return recorded.seeded_weights(GOLDEN / f'model_{architecture}.npz')


def original_module(state):
    """Returns a PyTorch module with parameters and buffers of these names, real normalisations among them."""
    root = torch.nn.Module()
    for name, array in state.items():
        *parents, leaf = name.split('.')
        module = root
        for i, parent in enumerate(parents):
            if parent not in module._modules:
                is_norm = '.'.join([*parents[: i + 1], 'running_var']) in state
                module.add_module(parent, torch.nn.BatchNorm2d(len(array)) if is_norm else torch.nn.Module())
            module = module._modules[parent]
        if not hasattr(module, leaf):
            module.register_parameter(leaf, torch.nn.Parameter(torch.zeros(array.shape)))
    root.register_buffer('init_shape', torch.zeros(10))
    if 'deccam.bias' in state:
        root.register_buffer('init_cam', torch.zeros(len(state['deccam.bias'])))
    return root


def write_original(path, architecture, recording):
    """Writes a file as the original programs do, by PyTorch."""
    wrapper, data_parallel = FORMS[architecture]
    state = seeded_state(architecture)
    module = original_module(state)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    content = module.state_dict()
    content['init_shape'] = torch.from_numpy(recording['init_shape']).float().reshape(10)
    content['smpl.v_template'] = torch.randn(7, 3)
    content['smpl.parents'] = torch.arange(24)
    for name in content:
        if name.endswith(('num_batches_tracked', 'parents')):
            content[name] = content[name].float()  # as averaging leaves them
    if data_parallel:
        content = {f'module.{name}': tensor for name, tensor in content.items()}
    torch.save({wrapper: content, 'epoch': 3} if wrapper else content, path)
    return state


def toy_body(folder, seed):
    path = folder / 'toy.npz'
    np.savez(path, **recorded.load_module(GOLDEN / 'toy_body.py').make_toy_body(seed), model_name='toy')
    return path


def outputs(config, variables, recording):
    """Returns what the network of a run says of the recorded images, with flip test."""
    config = ConfigDict(config)
    config.model.image_mean, config.model.image_std = (0.0,) * 3, (1.0,) * 3  # they are normalised already
    body = setup.load_body(config)
    network = inference.create_network(config, setup.init_betas(config, body))
    crop = recorded.crops_of(recording)['']
    forward = jax.jit(functools.partial(inference.forward, network, flip=True))
    with jax.default_matmul_precision('highest'):
        images = 255 * recorded.recorded_images(recording)
        lifted, posed = forward(variables, body, images, crop)
    return recorded.recorded_form(lifted, posed, network.camera)


@pytest.mark.parametrize(
    'architecture', [pytest.param(name, marks=[pytest.mark.slow] * (name in HEAVY)) for name in FORMS]
)
def test_there_and_back(architecture, tmp_path, monkeypatch):
    """PyTorch's file -> run -> the recorded outputs -> file: the same content, which its own module takes."""
    monkeypatch.chdir(ROOT)
    recording = dict(np.load(GOLDEN / f'model_{architecture}.npz'))
    file, run = tmp_path / 'released.pth', tmp_path / 'run'
    state = write_original(file, architecture, recording)
    path = toy_body(tmp_path, int(recording['body_seed']))
    changes = {'variant': 'original'} if architecture.endswith('original') else {}
    said = '\n'.join(import_torch.import_file(str(file), str(run), options(file, body=str(path), **changes)))
    backbone = 'HRNet-W48' if architecture in HEAVY else f'ResNet-{34 if "34" in architecture else 18}'
    assert backbone in said
    assert ("right_hand='released'" in said) == ('29' not in architecture)

    ending = '.safetensors' if '29' in architecture else '.pth'
    written, loads, load = tmp_path / f'again{ending}', [], checkpoint.load
    monkeypatch.setattr(checkpoint, 'load', lambda *a, **kw: loads.append(load(*a, **kw)) or loads[-1])
    said = export_torch.export(str(run), str(written), parameters='raw', buffers_from=str(file))
    assert 'read back and compared' in said
    loaded = loads.pop()
    config, variables = loaded.config, loaded.state.variables
    assert loaded.step == 0

    # The configuration in the folder is the checkpoint's.
    assert config == json.loads((run / 'config.json').read_text())
    assert configuration.plain(runpy.run_path(str(run / 'config.py'))['get_config']()) == config
    assert config['model']['right_hand'] == ('leaf' if '29' in architecture else 'released')
    # The mean shape belongs to the body that was given, so that the guard between bodies lets it through.
    body, config = smpl_file.load_body(path), ConfigDict(config)
    assert setup.load_body(config).name == body.name == 'toy'
    np.testing.assert_array_equal(setup.init_betas(config, body), recording['init_shape'].reshape(-1))
    with pytest.raises(ValueError, match="made for the body model 'toy'"):
        setup.init_betas(config, smpl_file.load_body())

    # The network that test_model.py compares with the recording; its weights, as written, are compared below.
    expected = recorded.network_like(architecture, NAMES[architecture])
    assert inference.create_network(config, np.zeros(10)).model == expected and config.image_size == 256
    del loaded  # a gigabyte
    assert config.evaluation.root == ('network' if 'cam' in architecture else 'annotation')
    if architecture in (SMALLEST, *HEAVY):
        ours = outputs(config, variables, recording)
        ours = {key: value for key, value in ours.items() if f'flip_{key}' in recording}
        assert len(ours) == {SMALLEST: 9, HEAVY[0]: 8, HEAVY[1]: 12}[architecture]
        for key, value in ours.items():
            error = recorded.largest_error(key, value, recording[f'flip_{key}'])
            assert error <= recorded.tolerance(key, inference.camera_of(config.model)), key
    del variables
    shutil.rmtree(run)

    if ending == '.pth':
        back = torch.load(written, weights_only=True, mmap=True)
    else:
        back = safetensors.torch.load_file(written)
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    np.testing.assert_array_equal(back['init_shape'], recording['init_shape'].reshape(-1))
    with torch.device('meta'):
        module = original_module(state)
        module.smpl = torch.nn.Module()
        module.smpl.register_buffer('v_template', torch.zeros(7, 3))
        module.smpl.register_buffer('parents', torch.zeros(24, dtype=torch.int64))
    module.load_state_dict(back, strict=True, assign=True)
    file.unlink()


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """The smallest network's file, its recording and its weights."""
    folder = tmp_path_factory.mktemp('small')
    recording = dict(np.load(GOLDEN / f'model_{SMALLEST}.npz'))
    state = write_original(folder / 'released.pth', SMALLEST, recording)
    yield folder / 'released.pth', state
    shutil.rmtree(folder)


def test_without_pytorch_installed(small, tmp_path):
    """A process that cannot import torch imports, exports in both formats, and imports its own files."""
    program = (
        'import sys\n'
        'sys.modules["torch"] = None  # importing it raises ImportError\n'
        'from tools import export_torch, import_torch\n'
        'for command in sys.argv[1:]:\n'
        '    name, *sys.argv[1:] = command.split()\n'
        '    status = (import_torch if name == "import" else export_torch).main()\n'
        'raise SystemExit(status)\n'
    )
    one, two, st = tmp_path / 'one', tmp_path / 'two', tmp_path / 'weights.safetensors'
    commands = (
        f'import {small[0]} --out {one} --right-hand leaf',
        f'export --checkpoint {one} --out {st} --parameters raw',
        f'import {st} --out {two}',
        f'export --checkpoint {two} --out {tmp_path}/weights.pth',
        f'import {st} --out {two}',
    )
    command = [sys.executable, '-c', program, *commands]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1 and 'exists already: give another folder' in result.stderr, result.stderr
    assert result.stdout.count('read back and compared') == 2
    back = torch.load(tmp_path / 'weights.pth', weights_only=True)
    assert back.keys() == safetensors.torch.load_file(st).keys()
    for name, array in small[1].items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    config = json.loads((one / 'config.json').read_text())
    assert config['model']['right_hand'] == 'leaf' and config['model']['transformer']['variant'] == 'custom'
    assert json.loads((two / 'config.json').read_text())['model']['right_hand'] == 'released'
    shutil.rmtree(one)
    shutil.rmtree(two)


def test_a_file_that_does_not_fit_the_configuration_and_the_state(small, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    asked = options(small[0], config='configs/hybrik_transformer.py')
    with pytest.raises(ValueError) as caught:
        import_torch.import_file(asked.file, str(tmp_path / 'run'), asked)
    lines = str(caught.value).splitlines()
    assert 'does not fit configs/hybrik_transformer.py' in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ['model.backbone.depth', 'model.transformer.num_blocks']
    assert not list(tmp_path.iterdir())

    base = tmp_path / 'mine.py'
    base.write_text(
        'from configs import hybrik_transformer\n'
        'def get_config():\n'
        '    config = hybrik_transformer.get_config()\n'
        '    config.model.backbone.depth = 18\n'
        '    config.model.transformer.num_blocks = 2\n'
        "    config.model.transformer.variant = 'original'\n"
        '    config.num_epochs = 7\n'
        '    return config\n'
    )
    asked = options(small[0], config=str(base))
    said = import_torch.import_file(asked.file, str(tmp_path / 'run'), asked)
    assert any('the file holds smpl.*' in line for line in said)
    loaded = checkpoint.load(tmp_path / 'run')
    config, state = loaded.config, loaded.state
    assert config['num_epochs'] == 7 and config['model']['transformer']['variant'] == 'original'
    # What is saved is the state before the first update.
    optimizer = create_optimizer(ConfigDict(config['optimizer']))
    expected = fresh_state(export.from_state_dict(small[1], state.variables), optimizer)
    whole = checkpoint.load(tmp_path / 'run', like=expected).state
    for saved, fresh in zip(jax.tree.leaves(whole), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(saved, fresh)
    shutil.rmtree(tmp_path / 'run')


def test_resnets_of_torchvision(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    state = seeded_state(SMALLEST)
    state = {name.removeprefix('preact.'): array for name, array in state.items() if 'preact.' in name}
    file = tmp_path / 'resnet18.pth'
    torch_file.write(
        file, state | {'fc.weight': np.zeros((1000, 512), np.float32), 'fc.bias': np.zeros(1000)}
    )
    with pytest.raises(ValueError, match=r'ResNet-18 alone.*--config.pretrained.backbone=.*resnet18.pth'):
        import_torch.import_file(str(file), str(tmp_path / 'run'), options(file))
    base = tmp_path / 'small.py'
    base.write_text(
        'from configs import synthetic\n'
        'def get_config():\n'
        '    config = synthetic.get_config()\n'
        '    config.model.backbone.width = 64\n'
        '    return config\n'
    )
    asked = options(file, config=str(base))
    said = import_torch.import_file(str(file), str(tmp_path / 'run'), asked)
    assert 'all but the backbone starts anew' in said
    loaded = checkpoint.load(tmp_path / 'run')
    config = loaded.config
    assert loaded.step == 0 and config['model']['right_hand'] == 'leaf' and config['init_betas'] == ''
    written = export.to_state_dict(loaded.state.variables)
    for name, array in state.items():
        np.testing.assert_array_equal(written[f'preact.{name}'], array)
    assert written['decjoint.weight'].any()


def test_export_names_what_cannot_be(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no checkpoints'):
        export_torch.export(str(tmp_path), str(tmp_path / 'out.pth'))
    with pytest.raises(ValueError, match=r'choose .pth or .safetensors'):
        torch_file.write(tmp_path / 'out.npz', {'a': np.zeros(3, np.float32)})
    assert not list(tmp_path.iterdir())


def test_a_mean_shape_that_is_none():
    for wrong in (np.zeros(9), np.full(10, np.nan)):
        with pytest.raises(ValueError, match='init_shape.*ten finite numbers'):
            export.mean_shape({'module.init_shape': wrong})
