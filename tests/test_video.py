"""Videos of every kind in, with all frames that are there; out again with their sound."""

import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from hybrik_jax.video import Video, writing
from tests import videos


def read(path):
    video = Video.open(path)
    return video, list(video.frames())


def numbers(frames):
    return [videos.number_of(frame) for frame in frames]


@pytest.fixture(params=['PyAV', 'OpenCV'])
def reader(request, monkeypatch):
    """Both ways of reading: OpenCV's is that of an installation without PyAV."""
    if request.param == 'OpenCV':
        monkeypatch.setitem(sys.modules, 'av', None)
    return request.param


# ---- reading


def test_a_video_gives_its_frames_again_and_again(tmp_path, reader):
    video, frames = read(videos.write(tmp_path / 'a.mp4'))
    assert (video.by, video.size, video.rate, video.length) == (reader, videos.SIZE, videos.RATE, 20)
    assert numbers(frames) == list(range(20)) == numbers(video.frames())
    assert (video.fault, video.repeated, video.left_out) == ('', 0, 0)
    assert all(frame.dtype == np.uint8 and frame.shape == (64, 96, 3) for frame in frames)
    assert np.abs(frames[3].astype(int) - videos.picture(3)).mean() < 5


@pytest.mark.parametrize(('rotation', 'red'), [(90, (-4, 4)), (180, (-4, -4)), (-90, (4, -4))])
def test_a_rotated_video_is_turned(tmp_path, reader, rotation, red):
    """A turn by 90 degrees is one to the left: the corner that was top left is bottom left."""
    video, frames = read(videos.write(tmp_path / 'a.mp4', 3, rotation=rotation))
    assert video.size == ((64, 96) if rotation % 180 else (96, 64)) == frames[0].shape[1::-1]
    assert frames[0][red][0] > 200 and frames[0][red][2] < 90


@pytest.mark.parametrize('name', ['odd.mp4', 'odd.mkv'])
def test_odd_sizes_are_kept(tmp_path, reader, name):
    video, frames = read(videos.write(tmp_path / name, 4, size=(201, 133)))
    assert video.size == (201, 133) and numbers(frames) == [0, 1, 2, 3]
    assert np.abs(frames[1].astype(int) - videos.picture(1, (201, 133))).mean() < 5


def test_one_frame_without_sound(tmp_path, reader):
    video, frames = read(videos.write(tmp_path / 'a.mp4', 1, sound=None))
    assert numbers(frames) == [0] and video.fault == ''


def test_a_variable_rate_becomes_constant(tmp_path):
    """Twenty frames in 1.6 s: each instant of 12.5 frames/s shows what was due within half a frame."""
    times = [40 * k for k in range(10)] + [400 + 133 * k for k in range(10)]
    video, frames = read(videos.write(tmp_path / 'a.mp4', milliseconds=times, sound=None))
    period = 1000 / video.frame_rate
    instants = np.arange(len(frames)) * period
    expected = [max(k for k, t in enumerate(times) if t <= instant + period / 2) for instant in instants]
    assert numbers(frames) == expected and instants[-1] == pytest.approx(times[-1], abs=period)
    assert video.repeated == sum(np.diff(expected) == 0) > 0
    assert video.left_out == 20 - len(set(expected)) > 0


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv'])
def test_of_a_truncated_video_all_frames_before_are_kept(tmp_path, name):
    path = videos.write(tmp_path / name, 40, options={'movflags': 'faststart'} if name == 'a.mp4' else None)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    video, frames = read(path)
    assert video.fault == 'the end of the file is missing'
    assert numbers(frames) == list(range(len(frames))) and 15 < len(frames) < 35


def test_of_a_damaged_video_all_frames_before_are_kept(tmp_path):
    path = videos.write(tmp_path / 'a.mp4', 40, sound=None)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [one for one in container.demux(video=0) if one.size]
    start = packets[25].pos
    content[start : start + packets[25].size] = b'\xff' * packets[25].size
    path.write_bytes(content)
    video, frames = read(path)
    assert video.fault.startswith('damaged') and numbers(frames) == list(range(25))


def test_opencv_says_that_frames_are_missing(tmp_path, monkeypatch):
    path = videos.write(tmp_path / 'a.mp4', 40, options={'movflags': 'faststart'})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    monkeypatch.setitem(sys.modules, 'av', None)
    video, frames = read(path)
    assert numbers(frames) == list(range(len(frames))) and 15 < len(frames) < 35
    assert video.fault == f'only {len(frames)} of 40 frames can be read'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'This is a text.\n' * 50, 'is a text, no video'),
        (b'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://localhost/a.ts\n', 'is a text, no video'),
        (b'', 'is no video that'),
        (bytes(range(256)) * 50, 'is no video that'),
    ],
)
def test_what_is_no_video_is_said_in_one_line(tmp_path, reader, content, message):
    path = tmp_path / 'a.mp4'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'a.mp4.*({message})') as error:
        Video.open(path)
    assert '\n' not in str(error.value)


def test_sound_alone_is_no_video(tmp_path):
    with pytest.raises(ValueError, match='sound.mp4 has no video stream, it holds audio'):
        Video.open(videos.write_sound(tmp_path / 'sound.mp4'))


def test_a_missing_file_and_a_folder(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match='none.mp4 is no file, a video is one'):
        Video.open(tmp_path / 'none.mp4')
    with pytest.raises(ValueError, match='this is a folder'):
        Video.open(tmp_path)


# ---- writing


def copied(source, path):
    video = Video.open(source)
    with writing(path, video.size, video.rate, sound=video) as write:
        for frame in video.frames():
            write(frame)
    return Video.open(path)


@pytest.mark.parametrize(
    ('name', 'codec'), [('a.mp4', 'aac'), ('a.mkv', 'libmp3lame'), ('a.ts', 'aac'), ('a.mkv', 'flac')]
)
def test_sound_is_copied_packet_by_packet(tmp_path, name, codec):
    source = videos.write(tmp_path / name, sound=codec)
    written = copied(source, tmp_path / 'out.mp4')
    assert numbers(written.frames()) == list(range(20))
    known, found = videos.sound_packets(source), videos.sound_packets(written.path)
    if name == 'a.ts':  # there each has a header of its own, which MP4 keeps once
        known, found = ([len(one) for _, one in packets] for packets in (known, found))
        assert len(known) == len(found)
    else:
        assert [one for _, one in found] == [one for _, one in known]
        np.testing.assert_allclose([t for t, _ in found], [t for t, _ in known], atol=2e-3)


def test_sound_that_mp4_does_not_take_is_encoded(tmp_path):
    source = videos.write(tmp_path / 'a.avi', sound='pcm_u8')
    written = copied(source, tmp_path / 'out.mp4')
    with av.open(str(written.path)) as container:
        assert container.streams.audio[0].codec_context.name == 'aac'
        assert container.streams.video[0].codec_context.pix_fmt == 'yuv420p'
    assert abs(videos.samples(written.path) - videos.samples(source)) <= 2 * 1024


def test_odd_sizes_are_padded_not_stretched(tmp_path):
    written = copied(videos.write(tmp_path / 'a.mp4', 2, size=(201, 133)), tmp_path / 'out.mp4')
    assert written.size == (202, 134)
    frame = next(written.frames())
    assert np.abs(frame[:133, :201].astype(int) - videos.picture(0, (201, 133))).mean() < 5
    assert np.abs(frame[:, 201].astype(int) - frame[:, 200]).mean() < 4


def test_a_video_without_sound_stays_so(tmp_path):
    written = copied(videos.write(tmp_path / 'a.mp4', 3, sound=None), tmp_path / 'out.mp4')
    with av.open(str(written.path)) as container:
        assert not container.streams.audio


def test_without_pyav_the_picture_is_written(tmp_path, monkeypatch):
    source = videos.write(tmp_path / 'a.mp4', 6, size=(97, 64))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'av', None)
        assert copied(source, tmp_path / 'out.mp4').by == 'OpenCV'
    video, frames = read(tmp_path / 'out.mp4')
    assert video.size == (98, 64) and video.rate == videos.RATE
    assert len(frames) == 6 and np.diff(numbers(frames)).tolist() == [1] * 5
    assert np.abs(frames[5][:, :97].astype(int) - videos.picture(5, (97, 64))).mean() < 8


@pytest.mark.parametrize('av_there', [True, False])
def test_a_video_that_is_not_finished_is_not_there(tmp_path, monkeypatch, av_there):
    if not av_there:
        monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(ZeroDivisionError), writing(tmp_path / 'o.mp4', (32, 32), Fraction(25)) as write:
        write(np.zeros((32, 32, 3), np.uint8))
        assert not (tmp_path / 'o.mp4').exists()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
