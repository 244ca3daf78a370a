"""Predicts the people of a video: who is who, how they move, and draws them.

    python -m tools.predict_video walk.mp4 --out out/
    python -m tools.predict_video walk.mp4 --checkpoint runs/synthetic --out out/ --smooth strong --format glb

Without --checkpoint by the network that comes with the package.
Writes into --out: overlay.mp4, everybody's mesh on the video, in a colour for each, paler where nobody saw
the person, with the video's sound; motions.npz (hybrik_jax/export/motion.py), and with --format files for
Blender and other programs; video.json, what is said beside them. What was computed stays in --out/parts: the
same command goes on where it was stopped or killed, and with another --smooth or --format the network is not
asked again. docs/video.md says more.
"""

import argparse
import ctypes
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tqdm

from hybrik_jax import compiler, detect, predict_video, smoothing, tracking, video, workdir
from hybrik_jax.ending import write_whole
from hybrik_jax.export import MOTION_FORMATS, parse_formats
from hybrik_jax.export.motion import write_motions
from hybrik_jax.parts import Parts
from hybrik_jax.photo import FOCAL_PX
from hybrik_jax.predict import SYNTHETIC_WARNING, Predictor, hash_of
from hybrik_jax.types import Motion
from hybrik_jax.view.video import draw_people
from tools import in_one_line
from tools.predict import add_network_options, load_predictor, within

DOUBTFUL = 1 / 3  # of --score: from which on a box goes on with a person who is there already
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
REMEMBERED_S = 2.0  # how long a person who is out of sight is waited for


def whole(low: int, high: int) -> Callable[[str], int]:
    """Returns what makes a whole number between two limits of an option's text."""
    number = within(low, high, '')

    def count(text: str) -> int:
        value = number(text)
        if value % 1:
            raise argparse.ArgumentTypeError(f'{text!r:.40} is no whole number')
        return int(value)

    return count


def _bar(total: int) -> predict_video.Progress:
    def progress(name: str, rows: Iterable) -> Iterable:
        return tqdm.tqdm(rows, desc=name, total=total or None, unit=' frames', disable=None)

    return progress


def find_and_follow(
    source: video.Video, args: argparse.Namespace, watch: predict_video.Stopwatch
) -> tuple[predict_video.Found, list[tracking.Followed]]:
    """Returns where people are in a video, and who is who among them."""
    low = max(args.score * DOUBTFUL, detect.SCORES[0])
    depends = {
        'video': predict_video.fingerprint(source.path),
        'read by': source.by,
        'every': args.every,
        'detector': [predict_video.fingerprint(detect.WEIGHTS_FILE), low, args.tiles],
    }
    parts = Parts(args.out / 'parts', 'boxes', depends)
    detector = detect.Detector.load(score=low, tiles=args.tiles)
    progress = _bar(source.length)
    found = predict_video.find_people(
        source, detector, parts, every=args.every, watch=watch, progress=progress
    )
    _say_resumed(parts, 'the search for people')  # before the parts are read again
    settings = tracking.TrackSettings(
        high=args.score, low=low, hidden_frames=round(REMEMBERED_S * source.frame_rate)
    )
    return found, tracking.follow(found.detections(), settings)


def _say_resumed(parts: Parts, what: str) -> None:
    if parts.others:
        print(
            f'{parts.folder} held {what} of another video or with other options: done again', file=sys.stderr
        )
    if parts.found:
        print(f'{what}: {parts.found} parts were there already')


def ask_network(
    source: video.Video,
    predictor: Predictor,
    followed: Sequence[tracking.Followed],
    args: argparse.Namespace,
    watch: predict_video.Stopwatch,
    count: int,
) -> dict[str, np.ndarray]:
    """Returns `predict_video.predict_people` of everybody."""
    depends = {
        'video': predict_video.fingerprint(source.path),
        'read by': source.by,
        'boxes': hash_of('', [[one.frames, one.boxes, one.scores] for one in followed]),
        'network': predictor.digest(),
        'focal': args.focal,
    }
    parts = Parts(args.out / 'parts', 'people', depends)
    seen = predict_video.predict_people(
        source, predictor, followed, parts, focal=args.focal, watch=watch, progress=_bar(count)
    )
    _say_resumed(parts, 'what the network says')
    return seen


def draw(
    source: video.Video,
    motions: Sequence[Motion],
    predictor: Predictor,
    path: pathlib.Path,
    watch: predict_video.Stopwatch,
    count: int,
) -> None:
    """Writes the video with everybody's mesh on it, its first `count` frames."""
    faces = np.asarray(predictor.body.faces)
    everybody = watch.over('draw', predict_video.meshes(motions, predictor.body, count))
    frames = watch.over('read', source.frames())
    with watch.part('write'), video.writing(path, source.size, source.rate, sound=source) as write:
        for people, frame in _bar(count)('draw', zip(everybody, frames)):  # noqa: B905
            with watch.part('draw'):
                if people:
                    frame = draw_people(frame, people, faces, motions[0].camera)  # everybody's is the same
            write(frame)


def warnings_of(
    source: video.Video, found: predict_video.Found, predictor: Predictor, args: argparse.Namespace
) -> list[str]:
    """Returns what whoever uses the results should know of the video and the network."""
    said = []
    if found.fault:
        said.append(f'the video breaks off after {found.count} frames: {found.fault}')
    elif found.repeated or found.left_out:
        said.append(
            f'the video has a variable rate: at {source.frame_rate:.3f} frames/s {found.repeated} frames are '
            f'repeated and {found.left_out} left out'
        )
    if source.by != 'PyAV':
        said.append(video.WITHOUT_PYAV)
    if predictor.synthetic_only:
        said.append(SYNTHETIC_WARNING)
    if args.focal is None:
        said.append(
            "the focal length is assumed to be the frame's diagonal, and depths are in proportion to it"
        )
    return said


def about_motions(motions: Sequence[Motion]) -> list[dict[str, Any]]:
    """Returns for each person the first and last frame, and how many frames are seen and filled."""
    return [
        {
            'name': motion.name,
            'first': int(motion.frames[0]),
            'last': int(motion.frames[-1]),
            'seen': int((~motion.filled).sum()),
            'filled': int(motion.filled.sum()),
        }
        for motion in motions
    ]


def predict(source: video.Video, predictor: Predictor, args: argparse.Namespace) -> bool:
    """Writes everything about a video into --out; returns whether the video was whole."""
    watch = predict_video.Stopwatch()
    found, followed = find_and_follow(source, args, watch)
    said = warnings_of(source, found, predictor, args)
    least = min(args.shortest, found.count)
    kept = predict_video.longer(followed, least)
    if len(kept) < len(followed):
        said.append(f'{len(followed) - len(kept)} people seen in fewer than {least} frames are left out')
    if not kept:
        said.append('nobody was found: give a lower --score, more --tiles for small people, or --shortest 1')
    seen = ask_network(source, predictor, kept, args, watch, found.count)
    with watch.part('smooth'):
        motions, lost = predict_video.make_motions(
            seen, predictor, source, focal=args.focal, strength=args.smooth
        )
    del seen  # of a long video it is large, and the motions are made
    if lost:
        said.append(f'{lost} bodies could not be fitted to the 2D joints: their depth is a guess')
    draw(source, motions, predictor, args.out / 'overlay.mp4', watch, found.count)
    write_motions(args.out / 'motions.npz', motions)
    for name in args.formats if motions else ():
        ending, write = MOTION_FORMATS[name]
        write(args.out / f'motions{ending}', motions, predictor.body)
    content = {
        'source': str(source.path.absolute()),
        'size': list(source.size),
        'frame_rate': source.frame_rate,
        'frames': found.count,
        'smoothing': args.smooth,
        'body_model': str(predictor.body.name),
        'checkpoint': predictor.about(),
        'people': about_motions(motions),
        'seconds': {name: round(seconds, 3) for name, seconds in watch.seconds.items()},
        'warnings': said,
    }
    write_whole(args.out / 'video.json', json.dumps(content, indent=1, allow_nan=False) + '\n')
    for motion in content['people']:
        print('{name}: frames {first} to {last}, seen in {seen}, filled {filled}'.format(**motion))
    print(f'{"part":<10}{"seconds":>10}{"frames/s":>10}')
    for name, seconds in watch.seconds.items():
        print(f'{name:<10}{seconds:>10.1f}{found.count / max(seconds, 1e-9):>10.1f}')
    for line in said:
        print(f'warning: {line}', file=sys.stderr)
    print(f'wrote overlay.mp4, motions.npz, video.json into {args.out}')
    return not found.fault


def run(argv: Sequence[str] | None = None) -> None:
    """Predicts what the command line `argv` says; raises where nothing can be done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('video', type=pathlib.Path, metavar='IN', help='a video file')
    parser.add_argument('--out', type=pathlib.Path, metavar='DIR', help='default: runs/predictions/NAME')
    parser.add_argument(
        '--smooth', choices=tuple(smoothing.STRENGTHS), default='light', help='against jitter; default: light'
    )
    parser.add_argument(
        '--every',
        type=whole(1, 1000),
        default=predict_video.EVERY,
        metavar='N',
        help=f'look for people in every N-th frame (default {predict_video.EVERY})',
    )
    parser.add_argument(
        '--shortest',
        type=whole(1, 10**6),
        default=predict_video.SHORTEST,
        metavar='N',
        help=f'leave out who is seen in fewer frames (default {predict_video.SHORTEST})',
    )
    parser.add_argument(
        '--score',
        type=within(*detect.SCORES, ''),
        default=detect.SCORE,
        help=f'from which on a box is taken for a new person (default {detect.SCORE:g})',
    )
    parser.add_argument(
        '--tiles',
        type=whole(*detect.TILES),
        default=detect.TILES[0],
        metavar='N',
        help='the detector also looks at N x N parts of a frame, for small people',
    )
    parser.add_argument(
        '--focal', type=within(*FOCAL_PX, 'pixels'), metavar='PX', help="default: the frame's diagonal"
    )
    parser.add_argument(
        '--format',
        '--formats',
        dest='formats',
        nargs='+',
        default=[],
        metavar='NAME',
        help=f'also write motions as such files: {", ".join(MOTION_FORMATS)}',
    )
    add_network_options(parser)
    args = parser.parse_args(argv)
    args.formats = [name for name in parse_formats(args.formats, tuple(MOTION_FORMATS)) if name != 'npz']
    args.out = args.out or pathlib.Path('runs/predictions') / args.video.stem
    source = video.Video.open(args.video)  # what is wrong is said before the network is loaded
    if source.by != 'PyAV':
        print(video.WITHOUT_PYAV, file=sys.stderr)
    with workdir.lock(workdir.create(args.out, '--out'), '--out'):
        if not predict(source, load_predictor(args), args):
            raise SystemExit(1)


def give_back_memory() -> None:
    """Makes glibc give freed arrays of 256 kB and more back, of which it would keep ever more."""
    library = ctypes.CDLL(None)
    if hasattr(library, 'mallopt'):
        library.mallopt(M_MMAP_THRESHOLD, 1 << 18)


def main(argv: Sequence[str] | None = None) -> None:
    """Predicts what the command line `argv` says; an error is one line and exit status 1."""
    give_back_memory()
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
