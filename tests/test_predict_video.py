"""The command line of videos: everybody's motion, resumed as if it had never been interrupted."""

import json

import av
import numpy as np
import pytest

from hybrik_jax import detect, predict_video, video, workdir
from hybrik_jax.body import smpl_file
from hybrik_jax.export.motion import read_motions
from hybrik_jax.parts import Parts
from hybrik_jax.predict import Predictor
from hybrik_jax.tracking import Followed
from hybrik_jax.types import Camera
from hybrik_jax.view.video import draw_people
from tests import videos
from tools import predict_video as tool

COUNT = 26


class Killed(BaseException):
    """Stands for a kill: nobody catches it."""


class Finder:
    """A detector that sees the blue figure, and at `hidden` calls nobody; `calls` counts."""

    def __init__(self, hidden: tuple[int, ...] = (), killed_at: int | None = None):
        self.hidden, self.killed_at, self.calls = hidden, killed_at, 0

    def __call__(self, photo):
        if self.calls == self.killed_at:
            raise Killed
        self.calls += 1
        if self.calls - 1 in self.hidden:
            return np.zeros((0, 4)), np.zeros(0)
        blue = (photo[..., 2] > 150) & (photo[..., 0] < 80)
        y, x = np.nonzero(blue)
        return np.array([[x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]], float), np.array([0.9])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(predict_video, 'CHUNK', 8)


@pytest.fixture
def walk(tmp_path):
    return videos.write(tmp_path / 'walk.mp4', COUNT)


@pytest.fixture
def command(walk, tmp_path, predictor, monkeypatch):
    """A function (finder, *options) that runs the command line, and returns its folder of results."""
    monkeypatch.setattr(Predictor, 'load', lambda *args, **options: predictor)

    def run(finder, *options, out='out', source=walk):
        monkeypatch.setattr(detect.Detector, 'load', lambda **options: finder)
        arguments = [str(source), '--checkpoint', 'run', '--out', str(tmp_path / out), *options]
        tool.run(arguments)
        return tmp_path / out

    return run


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_everything_is_written(command, walk, predictor, capsys):
    out = command(Finder(), '--format', 'glb,bvh')
    names = ['motions.bvh', 'motions.glb', 'motions.npz', 'overlay.mp4', 'parts', 'run.lock', 'video.json']
    assert sorted(path.name for path in out.iterdir()) == names
    (motion,) = read_motions(out)
    assert motion.frames.tolist() == list(range(COUNT)) and motion.frame_rate == videos.RATE
    assert not motion.filled.any() and motion.camera.size == videos.SIZE
    content = json.loads((out / 'video.json').read_text())
    person = {'name': 'person_0', 'first': 0, 'last': COUNT - 1, 'seen': COUNT, 'filled': 0}
    assert content['people'] == [person] and content['source'] == str(walk)
    assert (content['frames'], content['frame_rate'], content['size']) == (COUNT, 25, [96, 64])
    assert content['smoothing'] == 'light' and content['checkpoint'] == predictor.about()
    assert {'read', 'detect', 'network', 'draw', 'write'} <= content['seconds'].keys()
    assert any('synthetic people only' in one for one in content['warnings'])
    overlay = video.Video.open(out / 'overlay.mp4')
    assert len(list(overlay.frames())) == COUNT and overlay.size == videos.SIZE
    assert [one for _, one in videos.sound_packets(out / 'overlay.mp4')] == [
        one for _, one in videos.sound_packets(walk)
    ]
    said = capsys.readouterr()
    assert 'person_0: frames 0 to 25' in said.out and 'frames/s' in said.out
    assert 'warning: the focal length is assumed' in said.err


def test_killed_between_chunks_and_resumed_is_uninterrupted(command, monkeypatch, tmp_path, capsys):
    whole = arrays(command(Finder(), out='whole') / 'motions.npz')
    with pytest.raises(Killed):
        command(Finder(killed_at=6))  # 0, 3, ... 15, 18: two chunks are stored
    assert len(list((tmp_path / 'out' / 'parts').iterdir())) == 2
    ask, asked = Predictor.predict, []

    def twice(predictor, requests):
        asked.append(0)
        if len(asked) == 3:
            raise Killed
        return ask(predictor, requests)

    finder = Finder()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Predictor, 'predict', twice)
        command(finder)
    assert finder.calls == 4  # of frames 18, 21, 24, 25
    monkeypatch.setattr(Predictor, 'predict', lambda self, requests: asked.append(0) or ask(self, requests))
    finder = Finder()
    resumed = arrays(command(finder) / 'motions.npz')
    assert finder.calls == 0 and len(asked) == 5
    assert resumed.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)
    assert 'parts were there already' in capsys.readouterr().out


def test_another_smoothing_asks_nobody_again(command, monkeypatch):
    light = arrays(command(Finder()) / 'motions.npz')
    monkeypatch.setattr(Predictor, 'predict', lambda *args: 1 / 0)
    finder = Finder()
    off = arrays(command(finder, '--smooth', 'off') / 'motions.npz')
    assert finder.calls == 0
    assert not np.array_equal(light['0/rotations'], off['0/rotations'])
    np.testing.assert_array_equal(light['0/betas'], off['0/betas'])


def test_parts_of_another_video_are_not_taken(command, tmp_path, capsys):
    first = arrays(command(Finder()) / 'motions.npz')
    other = videos.write(tmp_path / 'other.mp4', 20)
    finder = Finder()
    second = arrays(command(finder, source=other) / 'motions.npz')
    assert finder.calls == 8 and len(second['0/frames']) == 20 < len(first['0/frames'])
    assert 'of another video or with other options' in capsys.readouterr().err


def test_parts_that_are_damaged_are_made_again(tmp_path):
    parts = Parts(tmp_path, 'rows', {'video': 1})
    parts.write(0, {'x': np.arange(5000)})
    (path,) = tmp_path.iterdir()
    assert parts.read(0)['x'].sum() == 5000 * 4999 // 2 and parts.found == 1
    content = path.read_bytes()
    for damaged in (content[:100], content[:60] + b'\x00\x01' + content[62:], b''):
        path.write_bytes(damaged)
        assert parts.read(0) is None
    path.write_bytes(content)
    other = Parts(tmp_path, 'rows', {'video': 2})
    assert other.read(0) is None and (other.found, other.others) == (0, 1)


def test_gaps_are_filled_and_marked_and_drawn_paler(command, tmp_path):
    """Nobody is found in frames 9 and 12: seen are 0 to 6 and 15 to 25, the eight between are filled."""
    out = command(Finder(hidden=(3, 4)), '--smooth', 'off')
    (motion,) = read_motions(out)
    assert motion.frames[motion.filled].tolist() == list(range(7, 15))
    (person,) = json.loads((out / 'video.json').read_text())['people']
    assert (person['seen'], person['filled']) == (18, 8)
    body, frame = smpl_file.load_body(), np.full((64, 96, 3), 255, np.uint8)
    posed = predict_video.posed(body, np.zeros(10), motion.rotations[:1], mesh=True)[0]
    camera = Camera(focal=(100, 100), centre=(48, 32), size=(96, 64))
    dark = [
        255 - draw_people(frame, [(0, posed + [0, 0, 4], filled)], body.faces, camera)[30:50].mean()
        for filled in (False, True)
    ]
    assert dark[0] > 1.5 * dark[1] > 0


def test_the_shape_is_one_and_the_body_is_placed_by_it(command, predictor, tmp_path):
    out = command(Finder(), '--smooth', 'off')
    (motion,) = read_motions(out)
    stored = [arrays(path) for path in sorted((out / 'parts').glob('people_*'))]
    betas, joints_px = (np.concatenate([part[name] for part in stored]) for name in ('betas', 'joints_px'))
    assert len(np.unique(betas, axis=0)) > COUNT // 2
    np.testing.assert_allclose(motion.betas, np.median(betas, axis=0), atol=1e-6)
    posed = predict_video.posed(predictor.body, motion.betas, motion.rotations, mesh=False)
    for joints_m, pixels, place in zip(posed, joints_px, motion.translation_m, strict=True):
        expected, _ = predict_video.place(
            joints_m,
            pixels,
            depth_m=place[2],
            focal=np.array(motion.camera.focal),
            centre=motion.camera.centre,
        )
        np.testing.assert_allclose(place, expected, rtol=1e-3, atol=1e-3)


def test_everybody_is_drawn_in_the_frames_of_their_own(command, predictor):
    """The nearer one hides the other whoever comes first (tests/test_overlay.py)."""
    out = command(Finder())
    (one,) = read_motions(out)
    part = {name: getattr(one, name)[:5] for name in ('frames', 'rotations', 'translation_m', 'filled')}
    short = predict_video.dataclasses.replace(one, **part)
    drawn = list(predict_video.meshes([one, short], predictor.body, COUNT))
    numbers = [[number for number, _, _ in people] for people in drawn]
    assert numbers == [[0, 1]] * 5 + [[0]] * (COUNT - 5)
    assert [len(people) for people in predict_video.meshes([short], predictor.body, 8)] == [1] * 5 + [0] * 3


def test_a_broken_video_gives_what_was_before_and_status_1(command, tmp_path, capsys):
    path = videos.write(tmp_path / 'long.mp4', 40, options={'movflags': 'faststart'})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(SystemExit) as status:
        command(Finder(), source=path)
    assert status.value.code == 1
    (motion,) = read_motions(tmp_path / 'out')
    count = len(list(video.Video.open(path).frames()))
    assert motion.frames.tolist() == list(range(count)) and 15 < count < 35
    assert f'warning: the video breaks off after {count} frames' in capsys.readouterr().err
    assert len(list(video.Video.open(tmp_path / 'out' / 'overlay.mp4').frames())) == count


def test_one_frame_is_enough(command, tmp_path):
    out = command(Finder(), source=videos.write(tmp_path / 'one.mp4', 1, sound=None))
    (motion,) = read_motions(out)
    assert motion.frames.tolist() == [0]


def test_nobody_and_who_is_seen_shortly(command, tmp_path, capsys):
    out = command(Finder(hidden=tuple(range(99))))
    assert read_motions(out) == [] and json.loads((out / 'video.json').read_text())['people'] == []
    assert 'nobody was found' in capsys.readouterr().err
    with av.open(str(out / 'overlay.mp4')) as container:
        assert container.streams.video[0].frames == COUNT
    shortly = Finder(hidden=tuple(range(2, 99)))  # seen in frames 0 to 3
    assert read_motions(command(shortly, out='short')) == []
    assert '1 people seen in fewer than 10 frames are left out' in capsys.readouterr().err
    assert len(read_motions(command(Finder(), '--shortest', '4', out='short'))) == 1


def test_a_second_command_in_the_same_folder_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.setattr(workdir, 'PATIENCE_S', 0.0)
    (tmp_path / 'out').mkdir()
    with workdir.lock(tmp_path / 'out'), pytest.raises(BlockingIOError, match='in use by.* another --out'):
        command(Finder())


@pytest.mark.parametrize(
    'options', [['--every', '0'], ['--every', '2.5'], ['--shortest', 'x'], ['--focal', '0']]
)
def test_bad_options_are_named(command, options, capsys):
    with pytest.raises(SystemExit):
        command(Finder(), *options)
    assert f'argument {options[0]}: ' in capsys.readouterr().err


def test_fingerprints_see_both_ends(tmp_path):
    path, found = tmp_path / 'file', set()
    content = bytearray(3 << 20)
    for place in (None, 0, -1):
        if place is not None:
            content[place] = 1
        path.write_bytes(content)
        found.add(predict_video.fingerprint(path))
    path.write_bytes(content + b'\0')
    assert len(found | {predict_video.fingerprint(path)}) == 4


def test_networks_with_a_camera_of_their_own_get_the_videos(predictor, monkeypatch):
    """A depth seen with another focal length is another depth: the pelvis is where its joints project."""
    count, own = 3, 4.0
    rng = np.random.default_rng(0)
    rotations = np.broadcast_to(np.eye(3), (count, 24, 3, 3)).copy()
    rotations[:, 0] = np.diag([1.0, -1.0, -1.0])
    betas = rng.normal(0, 0.1, (count, 10)).astype(np.float32)
    joints_m = predict_video.posed(predictor.body, np.median(betas, axis=0), rotations, mesh=False)
    place = np.array([0.2, -0.1, 5.0])
    focal = np.hypot(96, 64)
    seen = {
        'person': np.zeros(count, int),
        'frame': np.arange(count),
        'score': np.ones(count),
        'rotations': rotations,
        'betas': betas,
        'joints_px': (joints_m + place)[..., :2] / (joints_m + place)[..., 2:] * focal + [47.5, 31.5],
        'translation_m': place + rng.normal(size=(count, 3)),
        'depth_m': np.full(count, place[2] * own),
        'focal': np.full((count, 2), focal * own),
    }
    source = video.Video(None, (96, 64), videos.RATE, count, 'PyAV')
    (motion,), lost = predict_video.make_motions(seen, predictor, source, focal=None, strength='off')
    np.testing.assert_allclose(motion.translation_m, np.tile(place, (count, 1)), atol=1e-3)
    assert lost == 0
    told = predict_video.dataclasses.replace(predictor.network, camera='scale')
    monkeypatch.setattr(predictor, 'network', told)
    (motion,), _ = predict_video.make_motions(seen, predictor, source, focal=None, strength='off')
    np.testing.assert_array_equal(motion.translation_m, seen['translation_m'])


def test_who_is_seen_long_enough_is_kept():
    short, long = (Followed(np.arange(n), np.zeros((n, 4)), np.ones(n)) for n in (3, 4))
    assert predict_video.longer([short, long], 4) == [long]
