"""ONNX: every kind of network in onnxruntime against JAX. `make test-onnx` installs what it needs."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from hybrik_jax import deploy
from hybrik_jax.export import onnx
from hybrik_jax.export.deployable import Array, Deployable, differences
from hybrik_jax.predict import Predictor
from tests import deployables
from tools import export_onnx

pytestmark = pytest.mark.onnx
ROOT = pathlib.Path(__file__).parents[1]
JOINTS_M, ROTATIONS = 2e-4, 1e-2


# Random parameters give it heat maps on a knife's edge: see docs/deployment.md.
NOT_COMPARED = 'hrnet with camera'


@pytest.mark.parametrize('kind', [kind for kind in deployables.KINDS if kind != NOT_COMPARED])
def test_every_kind_of_network_says_in_onnx_what_it_says_in_jax(kind):
    network = deploy.deployable(deployables.predictor_of(kind), vertices=kind == 'transformer')
    content = onnx.serialise(network)
    running = onnx.session(content)
    names = [one.name for one in running.get_outputs()]
    assert names == [one.name for one in network.outputs]
    for people in (1, 3, 8):
        inputs = deploy.trial_inputs(network, people, seed=people)
        found = differences(network, dict(zip(names, running.run(names, inputs), strict=True)), inputs)
        print(kind, people, {name: f'{most:.1e}' for name, most in found.items()})
        assert found['joints_m'] < JOINTS_M and found['rotations'] < ROTATIONS, found
        assert found['joints_px'] < 0.01 and found['betas'] < 1e-4, found


def test_what_is_not_compared_is_written_and_runs():
    network = deploy.deployable(deployables.predictor_of(NOT_COMPARED))
    said = onnx.run(onnx.serialise(network), deploy.trial_inputs(network, 2))
    assert {name: array.shape[1:] for name, array in said.items()} == {
        x.name: x.shape for x in network.outputs
    }
    assert all(np.isfinite(array).all() for array in said.values())


def test_the_file_says_what_it_is():
    import onnx as reader

    network = deploy.deployable(deployables.predictor_of('the paper'))
    model = reader.load_from_string(onnx.serialise(network))
    said = {one.key: one.value for one in model.metadata_props}
    assert json.loads(said['inputs']) == network.described()['inputs']
    assert said['body_model'] == 'open_body (CC0)' and 'CC0' in said['licence']
    assert json.loads(said['checkpoint'])['config_hash'] == network.about['checkpoint']['config_hash']
    shapes = {
        one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim]
        for one in model.graph.input
    }
    assert shapes['image'] == ['people', 64, 64, 3] and shapes['root_depth_m'] == ['people']
    assert [(one.domain, one.version) for one in model.opset_import] == [('', 18)]


def test_the_tool(monkeypatch, tmp_path, capsys):
    predictor = deployables.predictor_of('transformer', flip=False)
    monkeypatch.setattr(Predictor, 'load', lambda folder, **options: predictor)
    export_onnx.run(['--checkpoint', 'runs/none', '--out', str(tmp_path / 'network.onnx')])
    assert 'joints differ from the network by 0.0' in capsys.readouterr().out
    assert onnx.session((tmp_path / 'network.onnx').read_bytes()).get_inputs()[0].name == 'image'


def test_from_a_photo_to_joints_as_documented(tmp_path, monkeypatch):
    """The program of docs/deployment.md, which cuts the crop by hand, against `Predictor`."""
    predictor = deployables.predictor_of('transformer', flip=False)
    photo, box = str(ROOT / 'docs' / 'photographer.jpg'), [0, 62, 332, 450]
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'docs').symlink_to(ROOT / 'docs')
    (tmp_path / 'network.onnx').write_bytes(onnx.serialise(deploy.deployable(predictor)))
    names: dict = {}
    (program,) = [block for block in deployables.documented() if 'onnxruntime' in block]
    exec(program, names)
    (person,) = predictor(photo, boxes=[box])
    np.testing.assert_allclose(names['joints_m'][0], person.posed_joints_m, atol=JOINTS_M)
    np.testing.assert_allclose(names['joints_px'][0], person.joints_px, atol=0.05)


def deployable_of(function, *shapes) -> Deployable:
    inputs = tuple(Array(f'x{k}', shape, 'float32', '') for k, shape in enumerate(shapes))
    one = [jax.ShapeDtypeStruct((1, *shape), np.float32) for shape in shapes]
    outputs = (Array('y', jax.eval_shape(function, *one).shape[1:], 'float32', ''),)
    return Deployable(lambda *x: {'y': function(*x)}, inputs, outputs, {})


def test_what_is_not_written_is_named():
    for function, said in (
        (lambda x: jax.numpy.sort(x), "'sort', which this network uses"),
        (lambda x: jax.lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1))), 'padding between entries'),
        (lambda x: x.reshape(-1, 2, 2)[:, ::2, 1], 'indices along several axes'),
    ):
        with pytest.raises(ValueError, match=f'No ONNX is written for {said}.*StableHLO'):
            onnx.serialise(deployable_of(function, (4,)))


def test_no_other_converter_is_needed():
    assert not {'jax2onnx', 'tf2onnx', 'torch.onnx'} & sys.modules.keys()


@pytest.mark.parametrize(
    'function',
    [
        lambda x, y: x[:, :, 1] + y[:, 2],
        lambda x, y: x[:, np.array([3, 0, 2])] * y[:, 1:],
        lambda x, y: jax.numpy.moveaxis(x[:, :, np.array([1, 0])], 2, 0).transpose(1, 0, 2),
        lambda x, y: jax.numpy.einsum('nij,nkj->nik', x, y),
        lambda x, y: jax.numpy.einsum('nij,nij->n', x, y),
        lambda x, y: jax.numpy.einsum('nij,kj->nki', x, np.arange(8.0, dtype=np.float32).reshape(2, 4)),
        lambda x, y: jax.numpy.concatenate([x, jax.numpy.flip(y, 1)], 2),
        lambda x, y: jax.numpy.broadcast_to(x[:, :1], x.shape).sum(1),
        lambda x, y: jax.numpy.repeat(x, 2, axis=1) - jax.numpy.repeat(y, 2, axis=1),
        lambda x, y: jax.numpy.argmax(x, axis=1).astype(np.float32) + jax.numpy.all(x > y, axis=1),
        lambda x, y: jax.numpy.clip(x, -0.1, 0.2) ** 3 / (1 + y**2),
        lambda x, y: jax.lax.slice_in_dim(jax.numpy.concatenate([x, y]), x.shape[0], 2 * x.shape[0]),
        lambda x, y: jax.lax.scan(lambda c, row: (c + row, c * row), x[:, 0], x.transpose(1, 0, 2))[1][2],
        lambda x, y: jax.nn.softmax(x.reshape(x.shape[0], -1)).reshape(x.shape)[:, 0],
    ],
)
def test_single_operations_are_numpys(function):
    network = deployable_of(function, (4, 4), (4, 4))
    content = onnx.serialise(network)
    rng = np.random.default_rng(0)
    for people in (1, 5):
        inputs = {f'x{k}': rng.normal(size=(people, 4, 4)).astype(np.float32) for k in range(2)}
        expected = np.asarray(function(*map(jax.numpy.asarray, inputs.values())))
        (found,) = onnx.session(content).run(['y'], inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
