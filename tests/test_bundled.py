"""The network that comes with the package: made of a run, read, predicted and trained with, or refused."""

import dataclasses
import json
import re
import types

import jax
import numpy as np
import pytest

from hybrik_jax import bundled, checkpoint, setup
from hybrik_jax import config as configuration
from hybrik_jax.predict import Predictor, run_config
from tools import bundle, predict, predict_video

BOX = [[60, 10, 40, 100]]


@pytest.fixture(scope='module')
def run(small_run):
    """The tiny run."""
    return checkpoint.load(small_run)


@pytest.fixture(scope='module')
def network_file(run, tmp_path_factory):
    """The file of its network."""
    config = bundle.without_places(configuration.completed(run.config), run.folder.name)
    path = tmp_path_factory.mktemp('bundled') / 'network.npz'
    path.write_bytes(bundled.pack(run, parameters='ema', config=config))
    return path


@pytest.fixture
def in_the_package(network_file, monkeypatch):
    """The tiny network in the place of the package's own."""
    monkeypatch.setattr(bundled, 'FILE', network_file)


def test_the_same_people(in_the_package, predictor, photo_file, data_root):
    """Half precision moves no joint by more than a millimetre, no parameter by more than float16 rounds."""
    own = Predictor.load()
    (one,), (other,) = predictor(photo_file, BOX), own(photo_file, BOX)
    far_mm = 1000 * np.linalg.norm(one.posed_joints_m - other.posed_joints_m, axis=-1)
    assert 0 < far_mm.max() < 1
    whole, half = predictor.run.state.ema, own.run.state.ema
    for exact, rounded in zip(jax.tree.leaves(whole['params']), jax.tree.leaves(half['params']), strict=True):
        np.testing.assert_allclose(rounded, exact, rtol=2**-11, atol=2**-25)
    assert jax.tree.structure(whole['params']) == jax.tree.structure(half['params'])
    jax.tree.map(np.testing.assert_array_equal, whole['batch_stats'], half['batch_stats'])
    assert own.parameters == 'ema' and own.synthetic_only and own.run.step == predictor.run.step


def test_the_tool_gives_the_same_bytes_and_says_what_changes(small_run, network_file, tmp_path, capsys):
    again = bundle.run(['--checkpoint', str(small_run), '--out', str(tmp_path / 'again.npz')])
    assert again.read_bytes() == network_file.read_bytes()
    said = capsys.readouterr().out
    size = f'{network_file.stat().st_size / 1e6:.2f} MB'
    assert size in said and f'the ema parameters of {small_run.name} after 0 updates' in said
    far_mm = [float(number) for number in re.findall(r'of 4 test people by (\S+) mm', said)]
    assert len(far_mm) == 2 and 0 < max(far_mm) < 1
    exact, half = map(
        float, re.search(r'MPJPE .24 joints.: (\S+) mm, in half precision (\S+) mm', said).groups()
    )
    assert exact > 50 and abs(half - exact) < 1


def test_it_says_what_it_is_and_nothing_of_this_machine(small_run, network_file, data_root):
    run = bundled.load(network_file)
    assert run.config['workdir'] == f'runs/{small_run.name}' and run.config['data']['root'] == 'data'
    text = network_file.read_bytes()
    assert str(data_root).encode() not in text and str(small_run).encode() not in text
    with np.load(network_file) as file:
        about = json.loads(file['about'].tobytes())
    assert about['licence'] == 'Apache-2.0' and small_run.name in about['source']


def test_of_a_tail_average_the_tail_average_is_kept(run, tmp_path):
    """What was not kept is refused by name."""
    state = dataclasses.replace(run.state, tail_count=np.int32(7), tail=run.state.ema)
    run = dataclasses.replace(run, state=state)
    file = tmp_path / 'tail.npz'
    file.write_bytes(bundled.pack(run, parameters='tail', config=run.config))
    state = bundled.load(file).state
    assert state.averaged() == 'tail' and int(state.tail_count) == 7
    for name in ('ema', 'raw'):
        with pytest.raises(ValueError, match=f"only the tail parameters were kept, not '{name}'"):
            state.parameters(name)
    with pytest.raises(ValueError, match="not 'raw'"):
        bundled.pack(run, parameters='raw', config=run.config)


def test_without_a_file_one_line_says_what_to_do(tmp_path, monkeypatch, photo_file, capsys):
    monkeypatch.setattr(bundled, 'FILE', tmp_path / 'assets' / 'network.npz')
    with pytest.raises(FileNotFoundError, match='came without its network.*--checkpoint'):
        Predictor.load()
    with pytest.raises(SystemExit, match='error: This package came without its network'):
        predict.main([str(photo_file), '--out', str(tmp_path / 'out')])


def test_damage_is_noticed(network_file, tmp_path):
    """Cut off, a bit turned in an array or in what is said of it, another zip, another format, no zip."""
    whole, file = network_file.read_bytes(), tmp_path / 'network.npz'
    places = [whole.index(b'"format"') + 2, *(round(share * len(whole)) for share in (0.3, 0.6, 0.9))]
    damaged = [whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :] for place in places]
    other = tmp_path / 'other.npz'
    np.savez(other, about=np.frombuffer(b'[1]', np.uint8))
    for content in (*damaged, whole[: len(whole) // 2], b'', b'nothing', other.read_bytes()):
        file.write_bytes(content)
        with pytest.raises(ValueError, match='is damaged or no network of tools.bundle'):
            bundled.load(file)
    with np.load(network_file) as arrays:
        contents = dict(arrays)
    about = json.loads(contents.pop('about').tobytes())

    def written(about, **arrays):
        np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)

    written(about | {'format': 2}, **contents)
    with pytest.raises(ValueError, match='has format 2, this version of the package reads 1'):
        bundled.load(file)
    del contents[next(iter(contents))]
    written(about, **contents)
    with pytest.raises(ValueError, match='arrays are missing'):
        bundled.load(file)


@pytest.mark.parametrize('value, said', [(1e6, 'up to 1e.06'), (np.nan, 'some not finite')])
def test_what_half_precision_cannot_hold_is_refused(run, value, said):
    variables = jax.tree.map(np.array, run.state.ema)
    jax.tree.leaves(variables['params'])[0].flat[0] = value
    bad = dataclasses.replace(run, state=dataclasses.replace(run.state, ema=variables))
    with pytest.raises(ValueError, match=f'params/.* 1 values that float16 cannot hold .*{said}'):
        bundled.pack(bad, parameters='ema', config=run.config)


def test_a_network_that_is_too_large_is_refused(run, monkeypatch):
    monkeypatch.setattr(bundled, 'LARGEST', 1_000_000)
    with pytest.raises(ValueError, match='MB, the package has room for 1: bundle a smaller one'):
        bundled.pack(run, parameters='ema', config=run.config)


@pytest.mark.parametrize(
    'key, value, said',
    [
        ('body', 'SMPL_NEUTRAL.pkl', 'licences of their own .body.'),
        ('data.mixture', {'synthetic': 0.5, 'coco': 0.5}, 'it has seen synthetic, coco'),
        ('pretrained.backbone', 'resnet34.pth', 'its backbone is of resnet34.pth'),
        ('model.lifting', 'rootnet', 'it is a RootNet'),
    ],
)
def test_what_may_not_be_passed_on_is_refused(run, tmp_path, monkeypatch, key, value, said):
    """Of the run itself and of the one that it began with."""
    config = configuration.flat(configuration.completed(run.config))
    config['pretrained.backbone'] = 'efficientnet_lite0'
    bundle.check_may_be_passed_on(configuration.nested(config), 'runs/a')
    other = configuration.nested(config | {key: value})
    with pytest.raises(ValueError, match=f'runs/a cannot come with the package: .*{said}'):
        bundle.check_may_be_passed_on(other, 'runs/a')
    later = configuration.nested(config | {'pretrained.network': 'runs/a'})
    monkeypatch.setattr(checkpoint, 'load', lambda name: checkpoint.Run(tmp_path, 1, other, None))
    with pytest.raises(ValueError, match=f'runs/a cannot come with the package: .*{said}'):
        bundle.check_may_be_passed_on(later, 'runs/b')


# ---- commands


def test_commands_take_it_where_no_checkpoint_is_named(in_the_package, photo_file, tmp_path, capsys):
    """One line says which network it is; its one average cannot be exchanged."""
    words = [str(photo_file), '--box', '60,10,40,100', '--out', str(tmp_path / 'out')]
    predict.run(words)
    said = capsys.readouterr().err
    assert 'no --checkpoint: the network of the package, resnet at 64 pixels, 0 updates on synthetic' in said
    record = json.loads((tmp_path / 'out' / 'prediction.json').read_text())
    assert record['checkpoint']['folder'].endswith('network.npz') and record['checkpoint']['synthetic_only']
    with pytest.raises(ValueError, match='one checkpoint: leave best away'):
        predict.run([*words, '--best'])
    with pytest.raises(ValueError, match="only the ema parameters were kept, not 'raw'"):
        predict.run([*words, '--parameters', 'raw'])


def test_videos_take_it_too(in_the_package, tmp_path, monkeypatch):
    asked = []

    def predicted(source, predictor, args):
        asked.append(predictor.run.folder.name)
        return True

    monkeypatch.setattr(predict_video.video.Video, 'open', lambda path: types.SimpleNamespace(by='PyAV'))
    monkeypatch.setattr(predict_video, 'predict', predicted)
    predict_video.run(['walk.mp4', '--out', str(tmp_path)])
    assert asked == ['network.npz']


# ---- training goes on from it


@pytest.mark.parametrize('name', ['bundled', 'a run'])
def test_a_run_begins_with_it(in_the_package, small_run, predictor, name):
    """Parameters, statistics and the moving average are its own, the optimizer is new, no update is made."""
    config = run_config(predictor.run)
    config.pretrained.network = 'bundled' if name == 'bundled' else str(small_run)
    network = setup.create_network(config, predictor.body)
    state = setup.initial_state(config, network)
    expected = bundled.load().state.ema if name == 'bundled' else predictor.run.state.ema
    for variables in (state.variables, state.ema):
        jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert int(state.step) == int(state.tail_count) == 0
    assert not any(np.any(x) for x in jax.tree.leaves(state.optimizer))


def test_a_run_begins_with_it_at_another_image_size(in_the_package, predictor):
    """Position tables are interpolated over the places of the larger map, all else is its own."""
    config = run_config(predictor.run)
    config.pretrained.network, config.image_size = 'bundled', 96
    network = setup.create_network(config, predictor.body)
    own, taken = bundled.load().state.ema, setup.initial_state(config, network).variables
    assert jax.tree.structure(own) == jax.tree.structure(taken)
    changed = []
    for (path, before), after in zip(jax.tree.leaves_with_path(own), jax.tree.leaves(taken), strict=True):
        if np.shape(before) == np.shape(after):
            np.testing.assert_array_equal(before, after)
            continue
        changed.append(path[-1].key)
        # 2 rows become 3: of the first and the last the neighbours, in the middle the mean.
        assert (before.shape[0], after.shape[0]) == (2, 3)
        np.testing.assert_allclose(after, [before[0], before.mean(0), before[1]], rtol=1e-5)
    assert sorted(changed) == ['column_codes', 'row_codes']


def test_another_network_is_refused_by_name(in_the_package, predictor):
    config = run_config(predictor.run)
    config.pretrained.network = 'bundled'
    # What leaves the meaning of parameters as it is may differ, and what this network does not have.
    config.model.transformer.dropout, config.model.backbone.dtype, config.model.deconv.width = (
        0.3,
        'bfloat16',
        9,
    )
    assert setup.pretrained_network(config).step == 0
    config.model.transformer.num_blocks, config.model.transformer.width = 2, 96
    with pytest.raises(ValueError, match="'bundled' is another network.*configuration:\n") as error:
        setup.pretrained_network(config)
    assert 'model.transformer.width: 64 there, 96 now' in str(error.value)
    assert 'model.transformer.num_blocks: 1 there, 2 now' in str(error.value)
    assert str(error.value).count(' there, ') == 2
    config.pretrained.network, config.pretrained.backbone = 'bundled', 'efficientnet_lite0'
    with pytest.raises(ValueError, match="pretrained.network='bundled' has a backbone of its own"):
        configuration.check(config, devices=1, hosts=1)
