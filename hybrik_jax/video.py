"""Videos: frames in, frames and the source's sound out.

    video = Video.open('walk.mp4')
    with writing(pathlib.Path('overlay.mp4'), video.size, video.rate, sound=video) as write:
        for frame in video.frames():  # (height, width, 3) uint8 RGB, turned as the video says
            write(frame)

Read and written by PyAV, the extra `hybrik_jax[video]`; without it by OpenCV, which has no sound. Frames come
at a constant rate: of a video of variable rate each instant of its average rate takes the latest frame that
was due within half a frame's time of it. Of a video that breaks off all frames before that come, and `fault`
says why.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from hybrik_jax.files import open_plain, shown

WITHOUT_PYAV = (
    'PyAV is not installed: videos are read and written by OpenCV, without sound and not as H.264. '
    'For both: pip install av'
)
RATES = (0.1, 1000)  # frames/s; others are a file's mistakes
MISSING_S = 0.5  # of a file that is so much shorter than it says, the end is missing
USUAL_RATE = Fraction(25)  # where a file does not say
ENCODER = {'crf': '20', 'preset': 'veryfast'}  # x264's constant quality, hardly to be told from the source
_BEGINNING = 256  # bytes
_TEXT = frozenset(b'\t\n\r' + bytes(range(32, 127)))
_LIMITS = {'protocol_whitelist': 'file'}  # whatever a file says, we open no address


@dataclasses.dataclass
class Video:
    """A video file that can be read from its beginning as often as wanted.

    path: of the file.
    size: (width, height) as shown.
    rate: of its frames, a fraction of frames/s.
    length: how many frames there will be, as far as the file says; 0: it does not.
    by: 'PyAV' or 'OpenCV', who reads it.
    fault: once `frames` has ended: why that was before the video's end; '' where it was not.
    repeated, left_out: once `frames` has ended: how many frames were, because the video's rate is variable.
    """

    path: pathlib.Path
    size: tuple[int, int]
    rate: Fraction
    length: int
    by: str
    fault: str = ''
    repeated: int = 0
    left_out: int = 0

    @classmethod
    def open(cls, path: str | pathlib.Path) -> 'Video':
        """Returns the video in a file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no video, or has no picture.
        """
        path = pathlib.Path(path)
        with open_plain(path, 'a video') as file:
            begins = file.read(_BEGINNING)
        if begins and all(byte in _TEXT for byte in begins):  # a playlist, too, which may lead anywhere
            raise ValueError(f'{shown(path)} is a text, no video.')
        rate, length, by = (_about_by_pyav if pyav() else _about_by_opencv)(path)
        if rate is None or not RATES[0] <= rate <= RATES[1]:
            rate = USUAL_RATE
        video = cls(path, (0, 0), rate, length, by)
        first = next(video.frames(), None)
        if first is None:
            why = f' ({video.fault})' if video.fault else ''
            raise ValueError(f'{shown(path)} holds no frame that can be read{why}.')
        video.size = (first.shape[1], first.shape[0])
        return video

    @property
    def frame_rate(self) -> float:
        """Returns frames per second."""
        return float(self.rate)

    def frames(self) -> Iterator[np.ndarray]:
        """Yields its frames (height, width, 3) uint8 RGB at the constant rate."""
        self.fault, self.repeated, self.left_out = '', 0, 0
        held, number = None, 0  # the latest frame, and the instant that it is for unless another one comes
        for due, frame in (_decode_by_pyav if self.by == 'PyAV' else _decode_by_opencv)(self):
            if held is not None:
                if frame.shape != held.shape:
                    self.fault = f'its frames change from {_sides(held)} to {_sides(frame)} pixels'
                    break
                due = number + 1 if due is None else due
                self.left_out += due <= number
                self.repeated += max(due - number - 1, 0)
                for _ in range(number, due):
                    yield held
                number = max(number, due)
            held = frame
        if held is not None:
            yield held


def pyav() -> Any:
    """Returns PyAV's package, None where it is not installed."""
    try:
        import av
    except ImportError:
        return None
    av.logging.set_level(av.logging.PANIC)  # what is wrong with a file we say ourselves, in one line
    return av


def _sides(frame: np.ndarray) -> str:
    return f'{frame.shape[1]} x {frame.shape[0]}'


# ---- reading


def _about_by_pyav(path: pathlib.Path) -> tuple[Fraction | None, int, str]:
    """Returns the rate, the number of frames as far as it is known, and who reads."""
    with _opened(path) as container:
        stream = _picture_stream(container, path)
        rate = stream.average_rate or stream.guessed_rate
        length = stream.frames or round(_duration(container) * (rate or 0))
        return rate, length, 'PyAV'


def _duration(container: Any) -> Fraction:
    """Returns how long a file says that it is, seconds; 0 where it does not."""
    return Fraction(container.duration or 0, pyav().time_base)


def _opened(path: pathlib.Path) -> Any:
    av = pyav()
    try:
        return av.open(os.path.abspath(path), options=_LIMITS, metadata_errors='replace')
    except av.FFmpegError as error:
        raise ValueError(f'{shown(path)} is no video that can be read ({error.strerror}).') from error


def _picture_stream(container: Any, path: pathlib.Path) -> Any:
    attached = pyav().stream.Disposition.attached_pic  # the cover of a piece of music
    streams = [one for one in container.streams.video if not one.disposition & attached]
    if not streams:
        held = ', '.join(sorted({one.type for one in container.streams})) or 'nothing'
        raise ValueError(f'{shown(path)} has no video stream, it holds {held}: give a video.')
    return streams[0]


def _decode_by_pyav(video: Video) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yields for each frame that is in the file the instant nearest to it, from 0 on, and the frame."""
    av, start = pyav(), None
    with _opened(video.path) as container:
        stream = _picture_stream(container, video.path)
        stream.thread_type = 'SLICE'  # else what follows a damaged frame is decoded before it is noticed
        for frame in _decoded(video, container, stream):
            due = None
            if frame.pts is not None and frame.time_base:
                start = frame.pts if start is None else start
                due = round((frame.pts - start) * frame.time_base * video.rate)
            try:
                array = frame.to_ndarray(format='rgb24')
            except (av.FFmpegError, ValueError, MemoryError) as error:
                video.fault = f'a frame cannot be converted: {error}'
                return
            yield due, np.ascontiguousarray(np.rot90(array, round(frame.rotation / 90)))


def _decoded(video: Video, container: Any, stream: Any) -> Iterator[Any]:
    """Yields PyAV's frames up to the first one that is missing or damaged."""
    av, end = pyav(), Fraction(0)
    lost = any(entry.pos + entry.size > video.path.stat().st_size for entry in stream.index_entries)
    begin = Fraction(container.start_time or 0, av.time_base)
    try:
        for packet in container.demux():  # others too: they tell how far the file goes
            if packet.is_corrupt and packet.stream is stream:
                lost = True
                break
            if packet.pts is not None and packet.time_base:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream is stream:
                yield from packet.decode()
    except av.FFmpegError as error:
        video.fault = f'damaged: {error.strerror}'
    lost |= end - begin < _duration(container) - MISSING_S
    if lost and not video.fault:
        video.fault = 'the end of the file is missing'
    if video.fault:
        with contextlib.suppress(av.FFmpegError):  # what the decoder holds back
            yield from stream.decode(None)


def _about_by_opencv(path: pathlib.Path) -> tuple[Fraction | None, int, str]:
    """Returns what `_about_by_pyav` does."""
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise ValueError(f'{shown(path)} is no video that OpenCV can read.')
    rate, length = capture.get(cv2.CAP_PROP_FPS), max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    capture.release()
    return Fraction(rate).limit_denominator(1001), length, 'OpenCV'


def _decode_by_opencv(video: Video) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yields what `_decode_by_pyav` does."""
    capture, count, start = cv2.VideoCapture(os.path.abspath(video.path), cv2.CAP_FFMPEG), 0, None
    try:
        while True:
            there, frame = capture.read()
            if not there:
                break
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # of this frame
            start = seconds if start is None else start
            count += 1
            yield round((seconds - start) * video.frame_rate), cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if count < video.length:
        video.fault = f'only {count} of {video.length} frames can be read'


# ---- writing


@contextlib.contextmanager
def writing(
    path: pathlib.Path, size: tuple[int, int], rate: Fraction, *, sound: Video | None = None
) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that appends a frame (height, width, 3) uint8 RGB to a video, H.264 in MP4.

    The file appears when the context ends without an error. H.264 needs even sides: of odd ones the last row
    or column is repeated.

    Args:
        size: (width, height).
        rate: of the frames.
        sound: a video whose sound is copied as it is; encoded as AAC where MP4 does not take it; None: none.
    Raises:
        OSError: nothing can be written there.
    """
    unfinished = path.with_name(f'.unfinished_{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (_writing_by_pyav if pyav() else _writing_by_opencv)(unfinished, size, rate, sound) as write:
            yield lambda frame: write(_even(frame))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], mode='edge')


@contextlib.contextmanager
def _writing_by_pyav(
    path: pathlib.Path, size: tuple[int, int], rate: Fraction, sound: Video | None
) -> Iterator[Callable[[np.ndarray], None]]:
    av = pyav()
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(av.open(str(path), 'w', format='mp4'))
        stream = container.add_stream('libx264', rate=rate, options=ENCODER)
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt, stream.codec_context.time_base = 'yuv420p', 1 / rate
        sounds = _Sound(stack, container, sound) if sound is not None else None
        written = 0

        def write(frame: np.ndarray) -> None:
            nonlocal written
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            picture.pts, picture.time_base = written, 1 / rate
            container.mux(stream.encode(picture))
            written += 1
            if sounds:
                sounds.up_to(written / rate)

        yield write
        container.mux(stream.encode(None))
        if sounds:
            sounds.up_to(None)


class _Sound:
    """The sound of a video on its way into another one, whose picture begins at 0."""

    def __init__(self, stack: contextlib.ExitStack, container: Any, source: Video):
        """Opens the source, which is closed with the stack, and makes the stream in `container`."""
        opened = stack.enter_context(_opened(source.path))
        self._container, self._packets, self._next = container, iter(()), None
        if not opened.streams.audio:
            return
        stream, picture = opened.streams.audio[0], _picture_stream(opened, source.path)
        start = Fraction(picture.start_time or 0) * picture.time_base
        if stream.codec_context.name in container.supported_codecs:
            self._packets = _copied(opened, stream, container.add_stream_from_template(stream), start)
        else:
            encoder = container.add_stream('aac', rate=stream.codec_context.sample_rate)
            self._packets = _encoded(opened, stream, encoder, start)

    def up_to(self, seconds: Fraction | None) -> None:
        """Writes what begins to sound before `seconds`; None: the rest."""
        while True:
            self._next = self._next or next(self._packets, None)
            if self._next is None or (
                seconds is not None and self._next.dts * self._next.time_base > seconds
            ):
                return
            self._container.mux(self._next)
            self._next = None


def _copied(opened: Any, stream: Any, to: Any, start: Fraction) -> Iterator[Any]:
    """Yields the packets of a stream for another container, `start` seconds earlier."""
    with contextlib.suppress(pyav().FFmpegError):  # sound that breaks off
        for packet in opened.demux(stream):
            if packet.dts is not None and packet.size:
                earlier = round(start / packet.time_base)
                packet.dts, packet.pts = packet.dts - earlier, (packet.pts or packet.dts) - earlier
                packet.stream = to
                yield packet


def _encoded(opened: Any, stream: Any, encoder: Any, start: Fraction) -> Iterator[Any]:
    """Yields the same as `_copied`, decoded and encoded again."""
    with contextlib.suppress(pyav().FFmpegError):
        for frame in opened.decode(stream):
            if frame.pts is not None:
                frame.pts -= round(start / frame.time_base)
            yield from encoder.encode(frame)
    yield from encoder.encode(None)


@contextlib.contextmanager
def _writing_by_opencv(
    path: pathlib.Path, size: tuple[int, int], rate: Fraction, sound: Video | None
) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives what `_writing_by_pyav` does, without sound, and MPEG-4: OpenCV's wheel has no H.264 encoder."""
    sides = tuple(side + side % 2 for side in size)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'mp4v'), float(rate), sides)
    if not writer.isOpened():
        raise OSError(f'{shown(path)} cannot be written by OpenCV: pip install av')
    try:
        yield lambda frame: writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
