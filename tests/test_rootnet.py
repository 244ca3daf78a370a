"""RootNet: its network against recordings, its weights there and back, its roots for photos and datasets."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
import torch

from configs import rootnet as rootnet_config
from hybrik_jax import checkpoint, inference
from hybrik_jax import config as configuration
from hybrik_jax.body.projection import project
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.data import store
from hybrik_jax.evaluate import evaluate
from hybrik_jax.export import torch as export
from hybrik_jax.model import hybrik
from hybrik_jax.photo import Request
from hybrik_jax.predict import Predictor, run_config
from hybrik_jax.roots import RootFinder, frame_roots
from hybrik_jax.scoring.roots_and_boxes import Found
from hybrik_jax.step import create_optimizer, fresh_state
from hybrik_jax.types import Rooted
from hybrik_jax.units import MM_PER_M
from tests import helpers
from tests import small_run as small
from tests.test_import_torch import NAMES, ROOT, options, original_module, seeded_state
from tools import export_torch, find_roots, import_torch
from tools import predict as predict_tool
from tools.recorded import rootnet as recorded

NAME = 'rootnet_resnet50'


def small_config(workdir):
    """A narrow RootNet."""
    config = rootnet_config.get_config()
    config.workdir = str(workdir)
    config.image_size = 64
    config.model.backbone.depth = 18
    config.model.backbone.width = 16
    config.model.deconv.width = 16
    return config


def variables_of(config, seed):
    """Returns variables of the network of a configuration, small random numbers."""
    model, rng = hybrik.create_model(config.model), np.random.default_rng(seed)
    create = functools.partial(hybrik.initialise, model, image_size=config.image_size)
    shapes = jax.eval_shape(create, jax.random.key(0))
    return jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes)


def write_run(workdir, change=lambda variables: variables):
    """Returns the workdir of a narrow RootNet's run with random, then changed parameters."""
    config = small_config(workdir)
    variables = change(variables_of(config, 0))
    checkpoints = Checkpoints(workdir)
    checkpoints.save(fresh_state(variables, create_optimizer(config.optimizer)), configuration.plain(config))
    checkpoints.close()
    return workdir


def saying(ratio):
    """Returns a change of parameters after which the depth is `ratio` times the square's."""

    def change(variables):
        head = variables['params']['lifting']['head_depth']
        head['kernel'][:], head['bias'][:] = 0, ratio
        return variables

    return change


@pytest.fixture(scope='module')
def rootnet_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp('rootnet') / 'run', saying(1.25))


def test_recorded(golden):
    rows = recorded.compare_rootnet(golden)
    assert [row[0].split('/')[1] for row in rows] == ['place', 'depth', 'crop_boxes_xywh', 'crop_k']
    assert not [row for row in rows if not row[1] <= row[2]]


def test_there_and_back(golden, tmp_path, monkeypatch):
    """PyTorch's snapshot -> run -> the recorded outputs -> snapshot: what RootNet's own module takes."""
    monkeypatch.chdir(ROOT)
    recording = dict(np.load(golden / f'model_{NAME}.npz'))
    state = seeded_state(NAME)
    module = original_module(state)
    del module._buffers['init_shape']  # a RootNet has none
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    data_parallel = torch.nn.DataParallel(module)
    optimizer = torch.optim.Adam([next(module.parameters())])
    file, run, written = tmp_path / 'snapshot_19.pth.tar', tmp_path / 'run', tmp_path / 'snapshot_0.pth.tar'
    content = {'epoch': 19, 'network': data_parallel.state_dict(), 'optimizer': optimizer.state_dict()}
    torch.save(content, file)

    said = '\n'.join(import_torch.import_file(str(file), str(run), options(file)))
    assert 'RootNet, which predicts where the root joint is, on a ResNet-50, 34.1 million numbers' in said
    assert 'tools.find_roots' in said and 'body' not in said and 'mean shape' not in said
    loaded = checkpoint.load(run)
    assert loaded.config['image_size'] == 256
    assert loaded.config['model']['image_mean'] == [0.485, 0.456, 0.406]
    network = inference.create_network(run_config(loaded), np.zeros(10))
    images, square_mm = recorded.recorded_images(recording), recording['k_value']
    coord = recorded.recorded_coord(network.model, loaded.state.variables, images, square_mm)
    rows = recorded.compare_outputs(coord, recording)
    assert len(rows) == 2 and not [row for row in rows if not row[1] <= row[2]]
    del loaded

    assert 'read back and compared' in export_torch.export(str(run), str(written), parameters='raw')
    shutil.rmtree(run)
    back = torch.load(written, weights_only=True, mmap=True)
    assert back.keys() == {'network'}
    data_parallel.load_state_dict(back['network'], strict=True, assign=True)
    for name, array in state.items():
        np.testing.assert_array_equal(back['network'][f'module.{name}'], array, err_msg=name)


def test_what_a_rootnet_says_is_brought_into_the_camera_frame(golden):
    """A joint projected into a turned crop, and its depth over the square's, give the joint back."""
    people = [helpers.person(seed) for seed in range(4)]
    crop = helpers.batch_of(people).crop
    crop = jax.tree.map(lambda x: np.asarray(x)[0], crop)
    true_m = np.stack([one['root_m'] for one in people])
    sides = helpers.CROP_SIZE * np.sqrt(np.linalg.det(crop.crop_to_photo[:, :, :2]))
    square_m = 2 * np.sqrt([one['focal'].prod() for one in people]) / sides
    pixels = np.stack([project(one['root_m'][None], one['focal'], one['centre'])[0] for one in people])
    linear, shift = crop.crop_to_photo[:, :, :2], crop.crop_to_photo[:, :, 2]
    on_crop = np.stack([np.linalg.solve(a, p) for a, p in zip(linear, pixels - shift, strict=True)])

    @dataclasses.dataclass(frozen=True)
    class Oracle:
        def apply(self, variables, images, **unused):
            return Rooted(uv=on_crop / helpers.CROP_SIZE - 0.5, depth_ratio=true_m[:, 2] / square_m)

    network = inference.create_network(small_config('unused'), np.zeros(10))
    network = dataclasses.replace(network, model=Oracle(), image_size=helpers.CROP_SIZE)
    crop = dataclasses.replace(crop, root_m=np.full((4, 3), np.nan))
    images = np.zeros((4, helpers.CROP_SIZE, helpers.CROP_SIZE, 3), np.uint8)
    np.testing.assert_allclose(inference.locate(network, {}, images, crop), true_m, atol=2e-4)


def test_the_root_file_of_a_dataset_is_what_evaluation_reads(
    rootnet_run, small_run, data_root, tmp_path, monkeypatch, capsys
):
    """Every root stands at 1.25 times the square's depth, and its MRPE in the table is what the tool says."""
    out = tmp_path / 'roots.json'
    monkeypatch.chdir(tmp_path)
    args = [str(data_root / 'synthetic'), '--rootnet', str(rootnet_run), '--out', str(out)]
    monkeypatch.setattr('sys.argv', ['find_roots', *args])
    assert find_roots.main() == 0
    source = store.open_split(data_root / 'synthetic', 'test')
    found, errors = Found(out, 'root'), []
    for record in source:
        side = 1.25 * (record['box'][2:] - record['box'][:2]).max()
        root_m = found.root_m(record)
        assert root_m[2] == pytest.approx(1.25 * 2 * np.sqrt(record['focal'].prod()) / side, rel=1e-5)
        at_px = project(root_m[None].astype(np.float64), record['focal'], record['centre'])[0]
        assert (record['box'][:2] - side < at_px).all() and (at_px < record['box'][2:] + side).all()
        errors.append(np.linalg.norm(root_m - record['root_m']) * MM_PER_M)
    config = small.run_config(small_run, data_root)
    config.evaluation.root, config.evaluation.root_file = 'predicted', str(out)
    config.evaluation.parameters, config.evaluation.flips = ('raw',), (False,)
    (row,) = evaluate(config)['rows']
    assert row['root'].startswith('predicted (roots.json')
    assert row['mrpe_mm'] == pytest.approx(np.mean(errors), abs=0.01)
    said = capsys.readouterr().out
    assert f'RootNet: MRPE {row["mrpe_mm"]:.1f} mm' in said and 'a square of 2 m: MRPE' in said
    # The run itself in place of a file.
    config.evaluation.root_file = str(rootnet_run)
    (again,) = evaluate(config)['rows']
    assert again['root'] == 'predicted (RootNet run run, step 0, ema parameters)'
    assert again['mrpe_mm'] == pytest.approx(row['mrpe_mm'], abs=0.01)


BOX = [60, 10, 40, 100]


def test_a_predictor_takes_the_depth_from_a_rootnet(rootnet_run, small_run, photo_file, capsys, tmp_path):
    plain = Predictor.load(small_run)(photo_file, [BOX])[0]
    predictor = Predictor.load(small_run, root=rootnet_run)
    boxes = [BOX, [20, 30, 50, 60]]
    (person, other) = predictor(photo_file, boxes)
    view = person.view
    assert view.root_depth_m == pytest.approx(1.25 * plain.view.root_depth_m, rel=1e-5)
    assert view.root_depth_by == 'RootNet run run, step 0, ema parameters' and not view.root_depth_assumed
    assert any('in proportion to the focal length, which is assumed' in text for text in person.warnings)
    assert other.view.root_depth_m != view.root_depth_m
    # With a camera nothing is assumed; a depth that is given stays.
    (known,) = predictor(photo_file, [BOX], intrinsics=[210, 210, 80, 61])
    assert not any('focal length' in text for text in known.warnings)
    (given,) = predictor(photo_file, [BOX], root_depth_m=3.5)
    assert given.view.root_depth_m == 3.5 and given.view.root_depth_by == ''
    assert predictor(photo_file, np.zeros((0, 4))) == []
    assert plain.view.root_depth_assumed and plain.view.root_depth_by == ''

    command = [
        str(photo_file),
        '--box',
        '60,10,40,100',
        '--checkpoint',
        str(small_run),
        '--out',
        str(tmp_path),
    ]
    predict_tool.main([*command, '--rootnet', str(rootnet_run)])
    said = json.loads((tmp_path / 'prediction.json').read_text())['people'][0]
    assert said['root_depth_m'] == pytest.approx(view.root_depth_m, abs=1e-5)
    assert said['root_depth_by'] == view.root_depth_by and not said['root_depth_assumed']
    assert f'm ({view.root_depth_by}), fitted at' in capsys.readouterr().out


def test_a_depth_behind_the_camera_is_not_taken(small_run, photo_file, data_root, tmp_path):
    run = write_run(tmp_path / 'behind', saying(-1.0))
    (person,) = Predictor.load(small_run, root=run)(photo_file, [BOX])
    assert person.view.root_depth_assumed and person.view.root_depth_m > 0
    assert any('cannot be: one is assumed instead' in text for text in person.warnings)
    with pytest.raises(ValueError, match=r'sees 4 of 4 roots behind the camera .* not usable'):
        find_roots.find_roots(str(data_root / 'synthetic'), str(run), str(tmp_path / 'roots.json'))
    assert not (tmp_path / 'roots.json').exists()


def test_crops_do_not_depend_on_the_enlargement_of_the_people(rootnet_run):
    photo = np.zeros((120, 160, 3), np.uint8)
    finder = RootFinder.load(rootnet_run)
    one, other = (
        frame_roots(Request(photo=photo, boxes=[BOX], enlargement=e), finder.network.image_size)[0].view
        for e in (1.25, 1.6)
    )
    assert one.root_depth_m == other.root_depth_m


def test_one_network_in_place_of_the_other(rootnet_run, small_run, data_root, tmp_path, monkeypatch):
    """Runs and files: each message says what it is and what to do."""
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match='a run of RootNet, which predicts root joints.*give it as root='):
        Predictor.load(rootnet_run)
    with pytest.raises(ValueError, match="lifting='transformer', not a RootNet: give the folder"):
        Predictor.load(small_run, root=small_run)
    people = small.run_config(small_run, data_root)
    with pytest.raises(ValueError, match=r"(?s)another conf.*'rootnet' there, 'transformer' now.*Give an"):
        evaluate(small.run_config(rootnet_run, data_root))
    with pytest.raises(ValueError, match=r"(?s)another conf.*'transformer' there, 'rootnet' now.*Give an"):
        of_roots = small_config(small_run)
        of_roots.data.root, of_roots.evaluation.datasets = str(data_root), ()
        evaluate(of_roots)
    people.evaluation.update(root='predicted', root_file=str(small_run))
    with pytest.raises(ValueError, match="'transformer', not a RootNet: give the .* configs.rootnet.py"):
        evaluate(people)
    file = tmp_path / 'snapshot_19.pth.tar'
    people.evaluation.root_file = str(file)
    with pytest.raises(ValueError, match='holds weights: make them a run by tools.import_torch, and give'):
        evaluate(people)
    file.touch()
    with pytest.raises(FileNotFoundError, match='is a file: make it a run by tools.import_torch snapshot_19'):
        Predictor.load(small_run, root=file)
    file.unlink()

    def shapes_of(name):
        return {key: np.broadcast_to(np.float32(0), shape) for key, shape in NAMES[name].items()}

    def refused(name, match, **changes):
        monkeypatch.setattr(import_torch.torch_file, 'read', lambda file: shapes_of(name))
        with pytest.raises(ValueError, match=match):
            import_torch.import_file('x.pth', str(tmp_path / 'run'), options('x.pth', **changes))
        assert not list(tmp_path.iterdir())

    refused(
        NAME,
        r'(?s)RootNet, .* does not fit configs/hybrik_transformer.py. Give a configuration that it fits, or '
        r"none,.*model.lifting is 'transformer' in the configuration, 'rootnet' in the file",
        config='configs/hybrik_transformer.py',
    )
    refused(
        'transformer_resnet34',
        r"(?s)HybrIK-Transformer .* not fit configs/rootnet.py. .*'rootnet' in the configuration, 'tr",
        config='configs/rootnet.py',
    )
    refused(NAME, 'it has no body and no Transformer, leave --body', body='SMPL_NEUTRAL.pkl')


def test_records_without_camera_are_named(rootnet_run):
    people = [helpers.without_3d(helpers.person(0))]
    with pytest.raises(ValueError, match="Record 'test/000' has no camera"):
        list(RootFinder.load(rootnet_run).of_records(people))


def test_a_trunk_serves_either_network():
    """A RootNet's trunk can start people's network, and torchvision's a RootNet's."""
    config = small_config('unused')
    state = export.to_state_dict(variables_of(config, 1))
    assert {name.split('.')[0] for name in state} == {'backbone', 'root'}
    bare = {name.removeprefix('backbone.'): array for name, array in state.items() if 'backbone.' in name}
    other = variables_of(config, 2)
    for given in (state, bare, bare | {'fc.weight': np.zeros(3)}):
        loaded = export.to_state_dict(export.load_backbone(given, other))
        for name, array in bare.items():
            np.testing.assert_array_equal(loaded[f'backbone.{name}'], array)
    config.model.lifting = 'deconv'
    written = export.to_state_dict(export.load_backbone(state, variables_of(config, 3)))
    for name, array in bare.items():
        np.testing.assert_array_equal(written[f'preact.{name}'], array)
