"""Measures tools.predict_video on a drawn video with its truth (hybrik_jax/synthetic/walkers.py).

    python -m tools.measure_video --out build/video
    python -m tools.measure_video --checkpoint runs/synthetic --out build/video --only people

people: 300 frames of 640 x 480, three people who cross, one hidden by a wall: how often somebody is taken for
somebody else, joint and acceleration errors without and with smoothing, the time of each part, the sound.
clothes: the same walks in other clothes and shapes, 320 x 240: people and switches of detector and tracker
alone, with and without the colours of clothes.
memory: 300 and 3,000 frames of 320 x 240, the same ones again and again, each in a process of its own.
kill: the command killed -9 three times, at half of each pass, against one that was left alone.

What was drawn or predicted for an earlier command in --out is used again.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from hybrik_jax import compiler, detect, predict_video, smoothing, tracking
from hybrik_jax.body import smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.ending import write_whole
from hybrik_jax.export.motion import read_motions
from hybrik_jax.synthetic.walkers import FRAME_RATE, FRAMES, Walkers
from hybrik_jax.types import Motion
from hybrik_jax.units import MM_PER_M
from hybrik_jax.video import Video, pyav, writing
from tools import in_one_line

SIZE, SMALL_SIZE = (640, 480), (320, 240)
REPEATS = 10
SEEDS = range(1, 6)
SOUND_RATE, TONE_HZ = 48000, 440
FAR = 1e3
NEAR = 0.5  # of a person's height in the picture: who is farther away is somebody else
KILLED_AT = {'find': 'boxes_00002.npz', 'predict': 'people_00002.npz', 'draw': '.unfinished_overlay.mp4'}


def write_tone(path: pathlib.Path, seconds: float) -> None:
    """Writes a video file of one grey frame that sounds, for its sound (AAC, mono)."""
    av = pyav()
    with av.open(str(path), 'w') as container:
        picture = container.add_stream('libx264', rate=FRAME_RATE)
        picture.width, picture.height, picture.pix_fmt = 16, 16, 'yuv420p'
        stream = container.add_stream('aac', rate=SOUND_RATE, layout='mono')
        frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 128, np.uint8), format='rgb24')
        container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        wave = np.sin(np.arange(round(seconds * SOUND_RATE)) * (2 * np.pi * TONE_HZ / SOUND_RATE))
        sound = av.AudioFrame.from_ndarray((8000 * wave).astype(np.int16)[None], format='s16', layout='mono')
        sound.sample_rate, sound.pts = SOUND_RATE, 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def draw_video(path: pathlib.Path, size: tuple[int, int], repeats: int = 1) -> None:
    """Writes the drawn video so many times in a row, with a tone, and the truth of one time as .npz.

    The truth: joints_m (T, P, 24, 3) and visible (T, P), as in `walkers.Truth`; intrinsics (4,).
    """
    if path.exists():
        return
    walkers = Walkers(*size)
    drawn = [walkers.frame(number) for number in tqdm(range(FRAMES), desc=f'draw {path.name}', disable=None)]
    file = path.with_suffix('.npz')
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file,
        joints_m=[[one.joints_m for one in people] for _, people in drawn],
        visible=[[one.visible for one in people] for _, people in drawn],
        intrinsics=walkers.intrinsics,
    )
    tone = path.with_name(f'tone_{path.name}')
    write_tone(tone, repeats * FRAMES / FRAME_RATE)
    with writing(path, size, Fraction(FRAME_RATE), sound=Video.open(tone)) as write:
        for _ in range(repeats):
            for frame, _ in drawn:
                write(frame)
    tone.unlink()


def command(video: pathlib.Path, out: pathlib.Path, args: argparse.Namespace, *more: str) -> list[str]:
    """Returns the command line that predicts a drawn video."""
    focal = np.load(video.parent / f'{video.stem.split("_")[0]}.npz')['intrinsics'][0]
    known = ['--focal', f'{focal:g}', '--every', str(args.every)]
    known += ['--checkpoint', args.checkpoint] if args.checkpoint else []
    return [sys.executable, '-m', 'tools.predict_video', str(video), '--out', str(out), *known, *more]


def predicted(line: Sequence[str]) -> int:
    """Returns the most memory, bytes, that a command line took; ValueError where it failed."""
    with subprocess.Popen(line) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ValueError(f'{" ".join(line)} ended with the status {process.returncode}.')
    return usage.ru_maxrss * 1024


# ---- people


def assign(found: Sequence[Sequence[tuple[int, np.ndarray]]], true_px: np.ndarray) -> np.ndarray:
    """Returns the number of who was found that is each true person in each frame (T, P), -1 for nobody.

    Who was somebody stays so while their middles are near in the picture; the others are assigned so that
    these are closest.

    Args:
        found: of each frame number and middle (2,), pixels, of everybody.
        true_px: (T, P, J, 2) the true joints in the picture.
    Source: Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance", 2008, section 2.1.
    """
    who, last = np.full(true_px.shape[:2], -1), np.full(true_px.shape[1], -1)
    for frame, candidates in enumerate(found):
        if not candidates:
            continue
        numbers = np.array([number for number, _ in candidates])
        middles = np.stack([middle for _, middle in candidates])
        apart = np.linalg.norm(true_px[frame].mean(1)[:, None] - middles[None], axis=-1)
        apart /= np.ptp(true_px[frame], axis=1)[:, None, 1]
        apart -= FAR * ((numbers[None] == last[:, None]) & (apart < NEAR))
        for person, k in zip(*linear_sum_assignment(apart), strict=True):
            if apart[person, k] < NEAR:
                who[frame, person] = last[person] = numbers[k]
    return who


def switches(who: np.ndarray) -> int:
    """Returns how often a true person becomes somebody else, of `assign`'s (T, P)."""
    return int(sum(np.count_nonzero(np.diff(numbers[numbers >= 0])) for numbers in who.T))


def match(motions: Sequence[Motion], truth: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns who of the motions is each true person, and where that one's joints are.

    Returns:
        (T, P) of `assign`; (T, P, 24, 3) their joints relative to the pelvis, metres.
    """
    focal, centre = truth['intrinsics'][:2], truth['intrinsics'][2:]
    true_px = project(truth['joints_m'], focal, centre)
    body = smpl_file.load_body()
    found: list[list[tuple[int, np.ndarray]]] = [[] for _ in true_px]
    own: dict[tuple[int, int], np.ndarray] = {}
    for number, motion in enumerate(motions):
        posed = predict_video.posed(body, motion.betas, motion.rotations, mesh=False)
        middles = project(posed + motion.translation_m[:, None], focal, centre).mean(1)
        for frame, joints_m, middle in zip(motion.frames, posed, middles, strict=True):
            found[frame].append((number, middle))
            own[frame, number] = joints_m
    who, nobody = assign(found, true_px), np.full((24, 3), np.nan)
    return who, np.array([[own.get((t, k), nobody) for k in row] for t, row in enumerate(who.tolist())])


def score(motions: Sequence[Motion], truth: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns switches, coverage and errors of motions against the truth of `draw_video`."""
    who, joints_m = match(motions, truth)
    true_m = truth['joints_m'] - truth['joints_m'][:, :, :1]
    distances = np.linalg.norm(joints_m - true_m, axis=-1).mean(-1)  # (T, P)
    faster, true_faster = (x[2:] - 2 * x[1:-1] + x[:-2] for x in (joints_m, true_m))
    one = (who[2:] == who[1:-1]) & (who[1:-1] == who[:-2]) & (who[1:-1] >= 0)
    off = np.linalg.norm(faster - true_faster, axis=-1).mean(-1)[one]
    return {
        'people': len(motions),
        'switches': switches(who),
        'present': [round(float((numbers >= 0).mean()), 3) for numbers in who.T],
        'hidden_frames': (truth['visible'] < 0.05).sum(0).tolist(),
        'mpjpe_mm': round(MM_PER_M * float(np.nanmean(distances)), 2),
        'acceleration_error_mm_per_frame2': round(MM_PER_M * float(off.mean()), 2),
    }


def sound_samples(path: pathlib.Path) -> int:
    """Returns how many samples a file's sound has."""
    with pyav().open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def measure_people(args: argparse.Namespace) -> dict[str, Any]:
    """Returns identities, errors by smoothing, seconds and frames/s by part, and the sound's samples."""
    video, out = args.out / 'walkers.mp4', args.out / 'people'
    draw_video(video, SIZE)
    with np.load(video.with_suffix('.npz')) as file:
        truth = dict(file)
    figures: dict[str, Any] = {'frames': FRAMES, 'size': SIZE, 'every': args.every}
    for strength in smoothing.STRENGTHS:
        predicted(command(video, out, args, '--smooth', strength))
        figures[strength] = score(read_motions(out / 'motions.npz'), truth)
        seconds = json.loads((out / 'video.json').read_text())['seconds']
        if 'network' in seconds:  # the others take its results
            figures['seconds'] = seconds
            figures['frames/s'] = {name: round(FRAMES / s, 1) for name, s in seconds.items() if s > 0.05}
    figures['sound_samples'] = [sound_samples(video), sound_samples(out / 'overlay.mp4')]
    return figures


def measure_clothes(args: argparse.Namespace) -> dict[str, Any]:
    """Returns people and switches in other clothes and shapes, of detector and tracker alone."""
    detector, looked = detect.Detector.load(score=detect.SCORE / 3), range(0, FRAMES, args.every)
    rows = []
    for seed in SEEDS:
        walkers = Walkers(*SMALL_SIZE, seed=seed)
        centre = np.array(walkers.intrinsics[2:])
        found, true_px = [], []
        for number in tqdm(looked, desc=f'clothes {seed}', disable=None):
            frame, people = walkers.frame(number)
            boxes, scores = detector(frame)
            found.append((number, boxes, scores, tracking.looks_of(frame, boxes)))
            true_px.append([project(one.joints_m, walkers.intrinsics[0], centre) for one in people])
        for known in (True, False):
            seen = [
                (number, boxes, scores, looks if known else None) for number, boxes, scores, looks in found
            ]
            settings = tracking.TrackSettings(hidden_frames=2 * FRAME_RATE)
            tracks = predict_video.longer(tracking.follow(seen, settings), predict_video.SHORTEST)
            middles: list[list[tuple[int, np.ndarray]]] = [[] for _ in looked]
            for k, track in enumerate(tracks):
                for number, (x, y, w, h) in zip(track.frames.tolist(), track.boxes, strict=True):
                    if number % args.every == 0:
                        middles[number // args.every].append((k, np.array([x + w / 2, y + h / 2])))
            changed = switches(assign(middles, np.array(true_px)))
            rows.append({'seed': seed, 'colours': known, 'people': len(tracks), 'switches': changed})
    return {'size': SMALL_SIZE, 'every': args.every, 'rows': rows}


# ---- memory and kills


def measure_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the most memory, MB, for 300 and 3,000 frames, and the ratio."""
    peaks = []
    for repeats in (1, REPEATS):
        video = args.out / f'small{"_long" if repeats > 1 else ""}.mp4'
        draw_video(video, SMALL_SIZE, repeats)
        out = args.out / f'memory_{repeats}'
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        peaks.append((repeats * FRAMES, predicted(command(video, out, args)), time.monotonic() - began))
    return {
        'size': SMALL_SIZE,
        'frames': [frames for frames, _, _ in peaks],
        'peak_MB': [round(peak / 1e6) for _, peak, _ in peaks],
        'seconds': [round(seconds) for _, _, seconds in peaks],
        'ratio': round(peaks[1][1] / peaks[0][1], 3),
    }


def measure_kills(args: argparse.Namespace) -> dict[str, Any]:
    """Returns at which passes the command was killed, and whether its end equals that of one left alone."""
    video, whole, killed = args.out / 'small.mp4', args.out / 'whole', args.out / 'killed'
    draw_video(video, SMALL_SIZE)
    for out in (whole, killed):
        shutil.rmtree(out, ignore_errors=True)
    predicted(command(video, whole, args))
    done = []
    for name, sign in KILLED_AT.items():
        with subprocess.Popen(command(video, killed, args)) as process:
            while process.poll() is None and not list(killed.rglob(sign)):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if process.returncode == -signal.SIGKILL:
                done.append(name)
    predicted(command(video, killed, args))
    with np.load(whole / 'motions.npz') as one, np.load(killed / 'motions.npz') as other:
        equal = one.files == other.files and all(np.array_equal(one[name], other[name]) for name in one.files)
    return {'killed_while': done, 'resumed_is_uninterrupted': equal, 'arrays': len(one.files)}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    'people': measure_people,
    'clothes': measure_clothes,
    'memory': measure_memory,
    'kill': measure_kills,
}


def run(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns all figures for the command line `argv`, having printed and written them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--checkpoint', metavar='DIR', help="workdir of a run; default: the package's network"
    )
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('build/video'), metavar='DIR')
    parser.add_argument('--every', type=int, default=predict_video.EVERY, metavar='N')
    parser.add_argument('--only', nargs='+', choices=tuple(PARTS), default=list(PARTS))
    args = parser.parse_args(argv)
    if pyav() is None:
        raise ValueError('The drawn video has sound: pip install av')
    figures = {}
    for name in args.only:
        figures[name] = PARTS[name](args)
        write_whole(args.out / f'{name}.json', json.dumps(figures[name], indent=1) + '\n')
        print(name, json.dumps(figures[name], indent=1))
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
