"""Small videos for tests, by PyAV: frame k is grey by its number, with a red corner and a blue figure."""

import pathlib
from fractions import Fraction

import av
import numpy as np

RATE, SOUND_RATE = 25, 48000
STEP = 5  # of grey from frame to frame
SIZE = (96, 64)
FIGURE = (20, 44)  # its width and height


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Returns frame `number` (height, width, 3) uint8 RGB."""
    frame = np.full((size[1], size[0], 3), 20 + STEP * number % 200, np.uint8)
    frame[:16, :16] = (255, 0, 0)
    x, y, w, h = figure(number)
    frame[y : y + h, x : x + w] = (0, 0, 255)
    return frame


def figure(number: int) -> tuple[int, int, int, int]:
    """Returns the box x y w h of the figure in frame `number`."""
    return 30 + number, 12, *FIGURE


def number_of(frame: np.ndarray) -> int:
    """Returns which frame a picture shows."""
    corner = frame[-6:-2, 2:6] if frame.shape[1] > frame.shape[0] else frame[-6:-2, -6:-2]
    return round((float(corner.mean()) - 20) / STEP)


def write(
    path: pathlib.Path,
    count: int = 20,
    *,
    size: tuple[int, int] = SIZE,
    sound: str | None = 'aac',
    rotation: int = 0,
    milliseconds: list[int] | None = None,
    options: dict[str, str] | None = None,
) -> pathlib.Path:
    """Returns the path of a video of `count` frames, written there.

    Args:
        size: (width, height).
        sound: the codec of a tone as long as the picture, None: silent.
        rotation: degrees, of the metadata.
        milliseconds: when each frame is shown; None: at a constant rate.
        options: of the container.
    """
    base = Fraction(1, 1000) if milliseconds else Fraction(1, RATE)
    with av.open(str(path), 'w', options=options or {}) as container:
        stream = container.add_stream('libx264', rate=RATE, options={'crf': '12', 'g': '10', 'bf': '0'})
        stream.width, stream.height = size
        stream.pix_fmt = 'yuv444p' if size[0] % 2 or size[1] % 2 else 'yuv420p'
        stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        sounds = container.add_stream(sound, rate=SOUND_RATE, layout='mono') if sound else None
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format='rgb24')
            frame.pts, frame.time_base = (milliseconds or range(count))[number], base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sounds:
            write_tone(container, sounds, count / RATE)
    return path


def write_tone(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    wave = np.sin(np.arange(round(seconds * SOUND_RATE)) * (2 * np.pi * 440 / SOUND_RATE))
    frame = av.AudioFrame.from_ndarray((8000 * wave).astype(np.int16)[None], format='s16', layout='mono')
    frame.sample_rate, frame.pts = SOUND_RATE, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_sound(path: pathlib.Path) -> pathlib.Path:
    """Returns the path of a file without a picture."""
    with av.open(str(path), 'w') as container:
        write_tone(container, container.add_stream('aac', rate=SOUND_RATE, layout='mono'), 1.0)
    return path


def sound_packets(path: pathlib.Path) -> list[tuple[float, bytes]]:
    """Returns time and content of the packets of a file's sound."""
    with av.open(str(path)) as container:
        packets = container.demux(audio=0)
        return [(round(float(one.pts * one.time_base), 4), bytes(one)) for one in packets if one.size]


def samples(path: pathlib.Path) -> int:
    """Returns how many samples a file's sound has."""
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))
