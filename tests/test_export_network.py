"""Networks for other programs: what they take and give, what is said of them, and StableHLO without us."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from hybrik_jax import deploy
from hybrik_jax.body import skeleton
from hybrik_jax.body.smpl import BodyName
from hybrik_jax.export import onnx, stablehlo
from hybrik_jax.export.deployable import differences
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Crop
from hybrik_jax.units import DEPTH_SCALE_M
from tests import deployables
from tools import export_onnx, export_stablehlo

PEOPLE = 3
# The loader of docs/deployment.md, between files for its arrays.
(LOADING,) = [block for block in deployables.documented() if 'deserialize' in block]
LOADER = f"""
import sys
import numpy
globals().update(numpy.load('inputs.npz'))
{LOADING}
numpy.savez('said.npz', **said)
assert not [name for name in sys.modules if name.startswith(('hybrik_jax', 'flax'))]
"""


@pytest.fixture(scope='module')
def predictor():
    return deployables.predictor_of('transformer')


@pytest.fixture(scope='module')
def network(predictor):
    return deploy.deployable(predictor, vertices=True)


@pytest.fixture(scope='module')
def inputs(network):
    return deploy.trial_inputs(network, PEOPLE)


@pytest.fixture(scope='module')
def content(network):
    return stablehlo.serialise(network)


@pytest.fixture(scope='module')
def said(content, inputs, tmp_path_factory):
    """What the file says to a program that has JAX alone, in another folder."""
    folder = tmp_path_factory.mktemp('elsewhere')
    (folder / 'network.stablehlo').write_bytes(content)
    np.savez(folder / 'inputs.npz', **inputs)
    done = subprocess.run([sys.executable, '-c', LOADER], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / 'said.npz') as file:
        return dict(file)


def test_stablehlo_says_what_prediction_says(said, predictor, inputs):
    """Prediction by its own forward pass, which finds the root's rotation by singular values."""
    root_m = np.float32([0, 0, 1]) * inputs['root_depth_m'][:, None]
    crop = Crop(
        crop_to_photo=inputs['crop_to_photo'], inverse_intrinsics=inputs['inverse_intrinsics'], root_m=root_m
    )
    lifted, posed, _ = predictor.forward(inputs['image'], crop)
    np.testing.assert_allclose(said['rotations'], posed.rotations, atol=1e-3)
    np.testing.assert_allclose(said['betas'], posed.betas, atol=1e-5)
    np.testing.assert_allclose(said['joints_m'], posed.posed_joints_m, atol=1e-4)
    np.testing.assert_allclose(said['vertices_m'], posed.vertices_m, atol=1e-4)
    depth_m = inputs['root_depth_m'] + DEPTH_SCALE_M * lifted.uvd[:, 0, 2]
    np.testing.assert_allclose(said['root_m'][:, 2], depth_m, atol=1e-5)
    size = predictor.network.image_size
    for row, uvd in enumerate(lifted.uvd):
        affine = inputs['crop_to_photo'][row]
        expected = (uvd[:, :2] + 0.5) * size @ affine[:, :2].T + affine[:, 2]
        np.testing.assert_allclose(said['joints_px'][row], expected, atol=1e-2)


def test_the_root_is_where_the_photo_shows_it(said, inputs):
    pixels = np.einsum('nij,nj->ni', np.linalg.inv(inputs['inverse_intrinsics']), said['root_m'])
    np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], said['joints_px'][:, 0], atol=0.05)


def test_stablehlo_is_of_any_number_of_people_for_every_device(content):
    exported = jax.export.deserialize(bytearray(content))
    assert exported.platforms == ('cpu', 'cuda', 'tpu')
    assert {str(one.shape[0]) for one in (*exported.in_avals, *exported.out_avals)} == {'people'}
    # Nothing that one device's libraries alone have: only JAX's own check of the number of people.
    assert set(re.findall(r'custom_call @(\w+)', exported.mlir_module())) == {'shape_assertion'}


def test_what_is_said_of_a_network_is_what_it_is(network, predictor, inputs):
    about = json.loads(json.dumps(network.described()))
    for side, shapes in (('inputs', inputs), ('outputs', jax.eval_shape(network.function, *inputs.values()))):
        assert [one['name'] for one in about[side]] == [*shapes] if side == 'inputs' else {*shapes}
        for one in about[side]:
            assert one['shape'] == ['people', *shapes[one['name']].shape[1:]]
            assert one['kind'] == str(shapes[one['name']].dtype) and one['meaning']
    assert about['crop']['size'] == predictor.network.image_size == 64
    assert about['joint_names'] == list(skeleton.JOINT_NAMES)
    assert about['network']['flip_test'] and about['network']['camera'] is None
    assert len(about['checkpoint']['config_hash']) == 12 and about['checkpoint']['synthetic_only']
    assert 'CC0' in about['licence']


def test_the_crop_is_cut_as_it_says(network):
    """`about['crop']` in NumPy, against prediction's own frames."""
    import cv2

    from hybrik_jax.photo import Request, crop_of, frame

    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    x, y, w, h = 30, 20, 50, 80
    (framed,) = frame(Request(photo=photo, boxes=[[x, y, w, h]]), 64)
    said = network.about['crop']
    side = said['enlargement'] * (max(w, h) - 1)
    s = side / said['size']
    middle_x, middle_y = x + (w - 1) / 2, y + (h - 1) / 2
    crop_to_photo = np.array([[s, 0, middle_x - side / 2], [0, s, middle_y - side / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    np.testing.assert_allclose(crop_to_photo, crop_of(framed.view).crop_to_photo, atol=1e-4)
    np.testing.assert_array_equal(cv2.warpAffine(photo, crop_to_photo, (64, 64), flags=flags), framed.image)
    assert 'crop_to_photo = [[s, 0, middle_x - side / 2], [0, s, middle_y - side / 2]]' in said['how']


def test_a_licensed_body_is_said(predictor):
    other = deployables.predictor_of('transformer')
    other.body = dataclasses.replace(predictor.body, name=BodyName('SMPL'))
    licence = deploy.deployable(other).about['licence']
    assert 'SMPL' in licence and 'do not redistribute' in licence


QUICK = ('transformer', 'transformer with camera', 'deconv of 29 joints', 'deconv with camera')


@pytest.mark.parametrize(
    'kind',
    [
        *QUICK,
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in deployables.KINDS if kind not in QUICK),
    ],
)
def test_every_kind_of_network_can_be_traced(kind):
    """Networks with a camera tell the depth themselves; all compute in float32, and none of them loops."""
    one = deploy.deployable(deployables.predictor_of(kind))
    has_camera = one.about['network']['camera'] is not None
    assert has_camera == ('camera' in kind)
    assert [x.name for x in one.inputs][3:] == ([] if has_camera else ['root_depth_m'])
    assert [x.kind for x in one.outputs] == ['float32'] * 5
    joints = {x.name: x.shape for x in one.outputs}['joints_px'][0]
    assert joints == (29 if '29' in kind or kind in ('deconv with camera', 'hrnet with camera') else 24)


def test_a_file_that_says_something_else_is_refused(network, inputs, said):
    assert max(differences(network, said, inputs).values()) < 1e-2
    wrong = said['joints_m'].copy()
    wrong[1, 5, 2] += 1.1e-3
    with pytest.raises(ValueError, match='other joints_m than the network itself, by 0.0011'):
        differences(network, said | {'joints_m': wrong}, inputs)
    with pytest.raises(ValueError, match='other betas'):
        differences(network, said | {'betas': np.full_like(said['betas'], np.nan)}, inputs)
    with pytest.raises(ValueError, match='What was written gives'):
        differences(network, {'joints_m': said['joints_m']}, inputs)


@pytest.mark.parametrize(
    ('tool', 'options', 'message'),
    [
        (export_stablehlo, ['--out', 'network.onnx'], 'another ending than .stablehlo'),
        (export_onnx, ['--out', 'network.stablehlo'], 'another ending than .onnx'),
        (export_onnx, ['--out', 'network.onnx', '--rootnet', 'runs/root'], 'the depth is an input'),
    ],
)
def test_bad_options(tool, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tool.run(['--checkpoint', str(tmp_path), *options])


@pytest.mark.parametrize(
    ('form', 'message'), [(onnx, 'pip install "onnx'), (stablehlo, 'pip install "flatbuffers')]
)
def test_a_missing_package_is_named_with_its_command(form, message, network, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ValueError, match=message):
        form.serialise(network)


def test_the_tool_writes_what_was_compared(network, content, said, predictor, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(Predictor, 'load', lambda folder, **options: predictor)
    monkeypatch.setattr(deploy, 'deployable', lambda predictor, *, vertices: network)
    monkeypatch.setattr(stablehlo, 'serialise', lambda network: content)
    monkeypatch.setattr(stablehlo, 'run', lambda content, inputs: said)
    out = tmp_path / 'out' / 'network.stablehlo'
    export_stablehlo.run(['--checkpoint', 'runs/none', '--out', str(out), '--vertices'])
    assert out.read_bytes() == content
    about = json.loads(out.with_suffix('.json').read_text())
    assert about['platforms'] == ['cpu', 'cuda', 'tpu'] and about['inputs'][0]['name'] == 'image'
    printed = capsys.readouterr().out
    assert 'root_depth_m' in printed and 'CC0' in printed
    wrong = said | {'joints_m': said['joints_m'] + 1.0}
    monkeypatch.setattr(stablehlo, 'run', lambda content, inputs: wrong)
    other = tmp_path / 'other.stablehlo'
    with pytest.raises(ValueError, match='other joints_m'):
        export_stablehlo.run(['--checkpoint', 'runs/none', '--out', str(other), '--vertices'])
    assert not other.exists()
