"""Networks with a camera: where they see people, their loss, training, files, and what they refuse."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrik_jax import catalogue, checkpoint, detect, evaluate, inference, losses, setup, step
from hybrik_jax import config as configuration
from hybrik_jax.body import camera
from hybrik_jax.data import pipeline, store
from hybrik_jax.export import torch as export
from hybrik_jax.export.recognise import recognise
from hybrik_jax.model import hrnet, hybrik
from hybrik_jax.model.volumes import expected_uvd, mirrored_columns
from hybrik_jax.photo import frame
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Crop, Measured
from hybrik_jax.units import DEPTH_SCALE_M, MM_PER_M
from tests import helpers, truth
from tests import small_run as small
from tests.helpers import tiny_config
from tools import compare_depths
from tools import predict as tool
from tools.recorded import model as recorded

NAMES = json.loads((pathlib.Path(__file__).parent / 'golden' / 'state_dict.json').read_text())
SQUARES = (compare_depths.ASSUMED, compare_depths.FITTED)
BOX = [[60, 10, 40, 100]]
TOKEN = {'model__transformer__camera': True}
CROP = {
    'model__lifting': 'deconv',
    'model__deconv__num_joints': 29,
    'model__deconv__camera': True,
}
PHOTO = {
    'model__lifting': 'volumes',
    'model__backbone__name': 'hrnet',
    'model__backbone__width': 4,
}
KINDS = {'scale': TOKEN, 'crop': CROP, 'photo': PHOTO}


@pytest.fixture(scope='module')
def people(body):
    """Batch, truth in a network's words, and scale, of three people, whose camera is a network's own."""
    records = truth.records(truth.pose_people(body), 'synthetic')[:3]
    batch = jax.tree.map(lambda x: x[0], helpers.batch_of(records))
    square_m = jax.vmap(functools.partial(camera.square_depth, crop_size=helpers.CROP_SIZE))(
        batch.crop.crop_to_photo, batch.crop.inverse_intrinsics
    )
    return records, batch, square_m / (2 * batch.crop.root_m[:, 2])


def seeing(kind):
    return dataclasses.replace(truth.network(), camera=kind)


def own_crop(crop, kind):
    """Returns the crop with the camera that a network of `kind` has, people where it sees them."""

    def one(crop):
        inverse = camera.own_intrinsics(
            crop.crop_to_photo,
            crop.inverse_intrinsics,
            crop_size=helpers.CROP_SIZE,
            of_photo=kind == 'photo',
        )
        return dataclasses.replace(crop, inverse_intrinsics=inverse)

    return jax.vmap(one)(crop)


def own_batch(batch, kind, scale):
    """Returns the batch as that camera would have seen it: labels that fit its lifting exactly."""
    if kind == 'scale':
        return batch
    crop = own_crop(batch.crop, kind)
    depth = camera.OWN_FOCAL / scale
    rays = jax.vmap(functools.partial(camera.rays_of, crop_size=helpers.CROP_SIZE))(
        batch.uvd[:, :1], crop.crop_to_photo, crop.inverse_intrinsics
    )
    root = rays[:, 0] * depth[:, None]
    joints = batch.joints_m + root[:, None]
    pixels = jax.vmap(lambda x, k: (x / x[:, 2:]) @ jnp.linalg.inv(k).T)(joints, crop.inverse_intrinsics)
    linear = crop.crop_to_photo[:, :, :2]
    on_crop = jnp.einsum(
        'bij,bkj->bki', jnp.linalg.inv(linear), pixels[..., :2] - crop.crop_to_photo[:, None, :, 2]
    )
    d = (joints[..., 2:] - root[:, None, 2:]) / DEPTH_SCALE_M
    uvd = jnp.asarray(batch.uvd).at[:, :24].set(jnp.concatenate([on_crop / helpers.CROP_SIZE - 0.5, d], -1))
    return dataclasses.replace(batch, crop=dataclasses.replace(crop, root_m=root), uvd=uvd)


@pytest.mark.parametrize('kind', KINDS)
def test_the_truth_places_people_where_they_are(body, people, kind):
    """From the scale alone: root and joints. HRNet's camera makes a third of a scale's error by itself."""
    _, batch, scale = people
    batch = own_batch(batch, kind, scale)
    lifted = truth.lifted_from_batch(batch)
    said = dataclasses.replace(lifted, scale=scale, sigmas=jnp.full((3, 24), 0.01))
    blind = dataclasses.replace(batch.crop, root_m=jnp.zeros((3, 3)))
    posed = inference.pose(said, blind, body, network=seeing(kind))
    told = inference.pose(lifted, batch.crop, body, network=truth.network())
    np.testing.assert_allclose(posed.root_m, batch.crop.root_m, atol=2e-3 if kind == 'photo' else 1e-4)
    np.testing.assert_allclose(posed.posed_joints_m, told.posed_joints_m, atol=2e-3)
    if kind == 'photo':
        said = dataclasses.replace(said, scale=1.1 * scale)
        near = inference.pose(said, blind, body, network=seeing(kind))
        assert (np.abs(near.root_m[:, 2] / batch.crop.root_m[:, 2] - 1) < 0.1 / 3).all()
        training = inference.pose(said, blind, body, network=seeing(kind), training=True)
        np.testing.assert_allclose(training.root_m[:, 2] * 1.1, batch.crop.root_m[:, 2], rtol=1e-4)
        unsure = dataclasses.replace(said, sigmas=jnp.full((3, 24), 0.2))
        unsure = inference.pose(unsure, blind, body, network=seeing(kind))
        np.testing.assert_allclose(unsure.root_m, training.root_m, rtol=1e-4)  # nothing to solve with


def test_mrpe_is_the_planted_error(body, people):
    """A scale that is 5 % too small puts the root 1 / 0.95 as far away, along its ray."""
    records, batch, scale = people

    def predict(batch):
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        said = dataclasses.replace(truth.lifted_from_batch(flat), scale=0.95 * scale)
        posed = inference.pose(said, flat.crop, body, network=seeing('scale'))
        return jax.tree.map(lambda x: np.asarray(x)[None], step.measure(posed, flat, body))

    rows, frames = evaluate.score_split(
        {('ema', False): predict},
        records,
        catalogue.DATASETS['synthetic'].protocol,
        batch_size=3,
        crop_size=helpers.CROP_SIZE,
        by_network=True,
    )
    roots = np.stack([one['root_m'] for one in records])
    planted = MM_PER_M * np.linalg.norm(roots * (1 / 0.95 - 1), axis=1).mean()
    assert rows[0]['root'] == "the network's" and rows[0]['mrpe_mm'] == pytest.approx(planted, rel=1e-3)
    np.testing.assert_allclose(frames.root_m, roots / 0.95, rtol=1e-3, atol=1e-4)
    assert isinstance(predict(helpers.batch_of(records)), Measured)


def test_unknown_cameras_stay_finite(body, people):
    """A photo without a camera, as in MSCOCO: no term of the camera, finite values and gradients."""
    _, batch, scale = people
    nothing = Crop(
        crop_to_photo=batch.crop.crop_to_photo,
        inverse_intrinsics=jnp.zeros((3, 3, 3)),
        root_m=jnp.zeros((3, 3)),
    )
    batch = dataclasses.replace(batch, crop=nothing)
    lifted = dataclasses.replace(
        truth.lifted_from_batch(people[1]), scale=scale, sigmas=jnp.full((3, 24), 0.05)
    )
    assert [float(x) for x in losses.scale_error(lifted, None, batch)] == [0, 0]

    def total(lifted):
        posed = inference.pose(lifted, nothing, body, network=seeing('photo'), training=True, skinned=False)
        terms = losses.terms(lifted, posed, batch)
        return sum(losses.ratio(*terms[name]) for name in ('uvd', 'rotations', 'smpl_joints', 'camera'))

    assert helpers.all_finite(jax.jit(jax.value_and_grad(total))(lifted))


def test_the_losses_of_a_camera(people):
    _, batch, scale = people
    lifted = dataclasses.replace(truth.lifted_from_batch(batch), scale=scale)
    assert float(losses.ratio(*losses.scale_error(lifted, None, batch))) == pytest.approx(0, abs=1e-5)
    wrong = dataclasses.replace(lifted, scale=scale * jnp.array([1.0, 1.2, 0.7]))
    assert float(losses.ratio(*losses.scale_error(wrong, None, batch))) == pytest.approx(0.5 / 3, rel=1e-4)
    # The translation puts joint 0 at the origin of the crop's camera.
    there = batch.uvd[:, 0, :2] / scale[:, None]
    moved = dataclasses.replace(lifted, translation=there + jnp.array([0.1, 0.0]))
    assert float(losses.ratio(*losses.scale_error(moved, None, batch))) == pytest.approx(
        0.1 * float(scale.mean()), rel=1e-3
    )

    # Laplace's likelihood is greatest where sigma is the error.
    off = dataclasses.replace(lifted, uvd=lifted.uvd + 0.03)
    values = {
        sigma: float(
            losses.ratio(*losses.uvd(dataclasses.replace(off, sigmas=jnp.full((3, 24), sigma)), None, batch))
        )
        for sigma in (0.02, 0.03, 0.045)
    }
    assert values[0.03] == pytest.approx(np.log(0.06) + 1, rel=1e-4) and values[0.03] == min(values.values())


def test_mirroring_twice():
    """What HRNet's flip test moves by a column is moved; mass is kept but for the last column's."""
    rng = np.random.default_rng(0)
    columns = rng.uniform(0, 1, (1, 29, 8, 3)).astype(np.float32)
    columns /= columns[..., :1].sum(2, keepdims=True)
    mirrored = np.asarray(mirrored_columns(jnp.asarray(columns)))
    np.testing.assert_array_equal(mirrored[..., 1:, :], columns[..., ::-1, :][..., :-1, :])
    np.testing.assert_array_equal(mirrored[..., 0, :], columns[..., -1, :])
    lost = columns.copy()
    lost[..., 1:, :] = 0
    gone = expected_uvd(mirrored_columns(jnp.asarray(lost)))
    assert np.isfinite(gone).all()  # all of the mass has left the crop


@pytest.mark.slow  # a minute each; tests/test_training.py trains a network without a camera
@pytest.mark.parametrize('kind', ['scale', 'crop', 'photo'])
def test_they_train(kind, monkeypatch):
    """Three steps: finite, with a term of the camera, and every head has moved."""
    monkeypatch.setattr(hrnet, 'MODULES', {2: 1, 3: 1, 4: 1})
    monkeypatch.setattr(hrnet, 'BLOCKS', 1)
    changes = {'loss__rotations': 0.0, 'loss__smpl_joints': 0.0, 'evaluation__root': 'network'}
    config = tiny_config('unused', 'unused', batch_size=2, **KINDS[kind], **changes)
    configuration.check(config, devices=1, hosts=1)
    assert hybrik.camera_of(config.model) == kind
    trainer = helpers.trainer(config)
    batch = helpers.split_over_devices(
        pipeline.to_batch(helpers.examples_of([helpers.person(0), helpers.person(1)], config.image_size)), 1
    )
    network = setup.create_network(config, setup.load_body(config))
    state = setup.initial_state(config, network)
    before = jax.tree.map(np.asarray, state.variables['params']['lifting'])
    state, rows = trainer.run(step.replicate(state), batch, 3)
    assert all(row['finite'] == 1 and row['loss_camera'] > 0 for row in rows), rows
    after = state.variables['params']['lifting']
    heads = {
        'scale': ['head_camera'],
        'crop': ['head_camera'],
        'photo': ['head_camera', 'head_sigmas', 'heat_map'],
    }
    for head in heads[kind]:
        assert not np.array_equal(before[head]['kernel'], after[head]['kernel']), head


def test_off_by_default_the_transformer_is_the_released_one():
    config = tiny_config('unused', 'unused')
    network = setup.create_network(config, setup.load_body(config))
    params = setup.state_shapes(config, network).variables['params']
    assert network.camera is None and 'head_camera' not in params['lifting']


@pytest.mark.parametrize('name', ['deconv29cam_resnet34', 'hrnetcam29_hrnet48'])
def test_released_files_are_recognised(name):
    """`strict=True`: names and shapes of what is written are the released ones."""
    shapes = NAMES[name]
    found = recognise({key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()})
    assert 'camera' in found.title and found.num_joints == 29
    model = recorded.network_like(f'model_{name}', shapes)
    leaves = jax.eval_shape(functools.partial(hybrik.initialise, model, image_size=256), jax.random.key(0))
    written = export.to_state_dict(jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), leaves))
    assert {key: list(array.shape) for key, array in written.items()} == shapes


# ---- photos


def write_run(kind, folder, data_root):
    """Returns the folder of a run with random parameters of a network with this kind of camera."""
    config = small.run_config(folder, data_root)
    changes = {key.replace('__', '.'): value for key, value in KINDS[kind].items()}
    config.update_from_flattened_dict(changes | {'evaluation.root': 'network'})
    config.model.deconv.width, config.model.deconv.depth_bins = 8, 8
    network = setup.create_network(config, setup.load_body(config))
    checkpoints = checkpoint.Checkpoints(folder)
    checkpoints.save(setup.initial_state(config, network), configuration.plain(config))
    checkpoints.close()
    return folder


@pytest.fixture(scope='module')
def runs(tmp_path_factory, data_root):
    """Folders of runs, by the kind of their camera; the HRNet's takes long to compile."""
    return {kind: write_run(kind, tmp_path_factory.mktemp(kind), data_root) for kind in ('scale', 'crop')}


@pytest.mark.parametrize('kind', ['scale', 'crop', pytest.param('photo', marks=pytest.mark.slow)])
def test_nothing_is_assumed_of_the_depth(runs, tmp_path, data_root, photo_file, kind, monkeypatch):
    if kind == 'photo':
        monkeypatch.setattr(hrnet, 'MODULES', {2: 1, 3: 1, 4: 1})
        monkeypatch.setattr(hrnet, 'BLOCKS', 1)
    folder = runs[kind] if kind in runs else write_run(kind, tmp_path, data_root)
    (person,) = Predictor.load(folder)(photo_file, BOX)
    view = person.view
    assert not view.root_depth_assumed and view.root_depth_by == "the network's own camera"
    assert view.root_depth_m == pytest.approx(person.translation_m[2])
    assert (
        np.linalg.norm(person.projected_px[0] - person.joints_px[0]) < 0.5
    )  # the pelvis is where it is seen
    side = 1.25 * 99
    focal = 200 if kind == 'scale' else camera.OWN_FOCAL * side
    np.testing.assert_allclose(view.focal, focal, rtol=1e-5)
    np.testing.assert_allclose(view.centre, [79.5, 59.5], atol=20 if kind == 'crop' else 0)
    if kind != 'photo':  # which solves it again, of random joints
        # A scale of 0.9, where training starts, is a crop 1 / 0.9 m wide.
        assert view.root_depth_m == pytest.approx(focal / side / 0.9, rel=0.5)


def test_what_a_network_tells_itself_is_refused(runs, photo_file, tmp_path):
    token, own = (Predictor.load(runs[kind]) for kind in ('scale', 'crop'))
    (person,) = token(photo_file, BOX, intrinsics=400.0)
    assert person.view.focal.tolist() == [400, 400] and not person.view.focal_assumed
    with pytest.raises(ValueError, match='camera of its own.*leave intrinsics .--focal. away'):
        own(photo_file, BOX, intrinsics=400.0)
    for predictor in (token, own):
        with pytest.raises(
            ValueError, match='how far away people are: leave root_depth_m .--root-depth. away'
        ):
            predictor(photo_file, BOX, root_depth_m=3.0)
    with pytest.raises(ValueError, match='leave root .--rootnet. away'):
        Predictor.load(runs['scale'], root=tmp_path)


@pytest.mark.slow  # half a minute
def test_depths_are_compared(runs, data_root, photo_file, tmp_path, capsys):
    """The square's row is what the records alone say of x, y and z; the table and the pictures are there."""
    compare_depths.main(['--checkpoint', str(runs['scale'])])
    rows = [
        line.split(' | ') for line in capsys.readouterr().out.splitlines() if 'square' in line or "'s" in line
    ]
    assert [row[0] for row in rows] == [f'| {name}' for name in ("the network's camera", *SQUARES)]
    source = store.open_split(data_root / 'synthetic', 'test')
    off = []
    for record in (source[index] for index in range(len(source))):
        (view,) = (one.view for one in frame(tool.request_of_record(record, 'scale'), 64))
        off.append(abs(view.root_depth_m - record['root_m'][2]))
    assert float(rows[1][3]) == pytest.approx(MM_PER_M * np.mean(off), abs=0.1)
    compare_depths.main(
        [
            '--checkpoint',
            str(runs['crop']),
            '--photo',
            str(photo_file),
            '--box',
            '60,10,40,100',
            '--out',
            str(tmp_path),
        ]
    )
    assert 'by the network' in capsys.readouterr().out.replace("(the network's own camera)", 'by the network')
    assert all((tmp_path / name / 'overlay.png').exists() for name in ('camera', 'assumed'))
    with pytest.raises(SystemExit, match='camera of its own'):
        compare_depths.main(['--checkpoint', str(runs['crop'])])


def test_depths_of_people_who_are_looked_for(predictor, photo_file, tmp_path, monkeypatch):
    """Both predictions are of the boxes that the detector found; where there are none, that is said."""
    found = np.array([[60, 10, 40, 100], [10, 10, 30, 60.0]])
    monkeypatch.setattr(compare_depths, 'without_camera', lambda one: one)  # which has none
    monkeypatch.setattr(detect.Detector, '__call__', lambda self, photo: (found, np.ones(len(found))))
    compare_depths.draw(predictor, str(photo_file), None, tmp_path)
    for name in ('camera', 'assumed'):
        people = json.loads((tmp_path / name / 'prediction.json').read_text())['people']
        assert [person['box'] for person in people] == found.tolist()
    monkeypatch.setattr(detect.Detector, '__call__', lambda self, photo: (found[:0], np.ones(0)))
    with pytest.raises(ValueError, match='Nobody was found in .*person.jpg: say by --box'):
        compare_depths.draw(predictor, str(photo_file), None, tmp_path)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (TOKEN, "evaluation.root='annotation' cannot be: .* add --config.evaluation.root=network"),
        (
            TOKEN | {'evaluation__root': 'predicted', 'evaluation__root_file': 'roots.json'},
            "evaluation.root='predicted' cannot be: .*=network, without evaluation.root_file",
        ),
        ({'evaluation__root': 'network'}, "evaluation.root='network' needs a network with a camera"),
        (
            CROP | {'model__deconv__num_joints': 24, 'evaluation__root': 'network'},
            'add --config.model.deconv.num_joints=29',
        ),
        (
            {'model__lifting': 'volumes', 'evaluation__root': 'network'},
            'add --config.model.backbone.name=hrnet',
        ),
    ],
)
def test_what_cannot_go_together_says_what_to_do(changes, message):
    config = tiny_config('unused', 'unused', **changes)
    with pytest.raises(ValueError, match=message):
        configuration.check(config, devices=1, hosts=1)
