"""Measures the person detector: on photos with boxes made by hand, on drawn people, and its time.

    python -m tools.measure_detector --out build/detector.json
    python -m tools.measure_detector --boxes boxes.json      # {"photo.jpg": [[x, y, w, h], ...]}, beside it

Drawn are one to five standing people on the backgrounds of hybrik_jax.synthetic, photos of 640 x 640 pixels,
in four sizes: the share of the photo's height that 1.7 m are where they stand. Their true boxes are those of
what is drawn of each alone. Found is who overlaps a box by half (intersection over union), each box counts
once; who is hidden by more than half need not be found.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from hybrik_jax import compiler, json_file
from hybrik_jax.boxes import as_corners, overlap
from hybrik_jax.detect import SCORE, Detector
from hybrik_jax.ending import write_whole
from hybrik_jax.photo import read_photo
from hybrik_jax.synthetic.generator import Generator, random_light, render_person
from hybrik_jax.synthetic.scene import Camera, outdoors, room, studio
from hybrik_jax.synthetic.things import cast_shadow, lens
from tools import in_one_line

PHOTOGRAPHER = pathlib.Path(__file__).parents[1] / 'docs' / 'photographer.jpg'
PHOTOGRAPHER_BOX = [0, 62, 332, 450]  # made by hand
SIZE = 640
SHARES = (0.8, 0.4, 0.2, 0.1)
COUNTS = (1, 2, 3, 5)
HEIGHT_M = 1.7
UPRIGHT_M = 1.4  # who is less high in a pose does not stand
FOUND = 0.5  # overlap with the true box
VISIBLE = 0.5  # share of a person's pixels
SCORES = (0.2, SCORE, 0.4, 0.5)
TILES = (1, 2)
REPEATS = 20


class Scene(NamedTuple):
    """A drawn photo (S, S, 3) uint8 RGB.

    boxes: (N, 4) x0 y0 x1 y1 of its people.
    visible: (N,) the share of each that nobody hides.
    """

    photo: np.ndarray
    boxes: np.ndarray
    visible: np.ndarray


def draw_scene(generator: Generator, rng: np.random.Generator, count: int, share: float) -> Scene:
    """Returns a scene of `count` people, of whom 1.7 m are `share` of the photo's height."""
    size, focal = generator.size, 1.2 * generator.size
    distance = focal * HEIGHT_M / (share * size)
    up = rng.uniform(1.2, 1.8) - HEIGHT_M / 2  # the camera above people's middle
    c, s = np.cos(np.arctan2(up, distance)), np.sin(np.arctan2(up, distance))
    camera = Camera(
        np.array([[1, 0, 0], [0, -c, s], [0, -s, -c]]),
        np.array([0, HEIGHT_M / 2 + up, distance]),
        focal,
        ((size - 1) / 2, (size - 1) / 2),
        size,
    )
    light = random_light(rng)
    width = HEIGHT_M / share  # metres that the photo shows where people stand
    backdrop = rng.choice([room, outdoors, studio] if width < 3 else [outdoors, studio])
    image, floor, points = backdrop(rng, camera, camera.rays())
    image = np.ascontiguousarray(image, np.float32).reshape(size, size, 3)
    people = []
    for slot in range(count):
        x = ((slot + 0.5 + rng.uniform(-0.25, 0.25)) / count - 0.5) * width
        people.append(_standing(generator, rng, np.array([x, 0, rng.uniform(-0.4, 0.4)])))
    people.sort(key=lambda person: person[1][:, 2].mean())  # the farthest first
    for _, bare in people:
        cast_shadow(image, floor, points, bare[::2], light, rng)
    layers = [render_person(parts, camera, light, rng)[:2] for parts, _ in people]
    boxes, visible = [], []
    for k, (colour, alpha) in enumerate(layers):
        image = image * (1 - alpha[..., None]) + colour
        y, x = np.nonzero(alpha > 0.5)
        boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
        shown = np.prod([1 - nearer for _, nearer in layers[k + 1 :]] or [np.ones_like(alpha)], axis=0)
        visible.append((alpha * shown).sum() / alpha.sum())
    photo = (np.clip(lens(image, rng), 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(photo, np.array(boxes, np.float64), np.array(visible))


def _standing(generator: Generator, rng: np.random.Generator, place: np.ndarray) -> tuple[list, np.ndarray]:
    """Returns the parts of a person who stands at a place of the floor, and the skin's vertices."""
    while True:
        rotations = generator.random_pose(rng)[0]
        betas = np.clip(rng.normal(size=10), -2.5, 2.5).astype(np.float32)
        parts, bare, joints = generator.stylist.dress(rng, betas, rotations.astype(np.float32))
        if np.ptp(bare[:, 1]) > UPRIGHT_M:
            break
    move = (place - [joints[0, 0], bare[:, 1].min(), joints[0, 2]]).astype(np.float32)
    for part in parts:
        part.vertices = part.vertices + move
    return parts, bare + move


def count_found(found: np.ndarray, scene: Scene) -> tuple[int, int, int]:
    """Returns how many people are found, missed, and how many boxes (N, 4) x0 y0 x1 y1 are nobody's."""
    taken = np.zeros(len(scene.boxes), bool)
    needed = scene.visible >= VISIBLE
    wrong = 0
    for box in found:  # the best first
        overlaps = np.where(taken, 0, overlap(box, scene.boxes))
        if overlaps.max() >= FOUND:
            taken[overlaps.argmax()] = True
        else:
            wrong += 1
    return int((taken & needed).sum()), int((~taken & needed).sum()), wrong


def scenes(images: int, seed: int) -> Iterator[tuple[float, int, Scene]]:
    """Yields share, count and scene, `images` of each kind."""
    generator = Generator('test', size=SIZE)
    for share in SHARES:
        for count in COUNTS:
            for number in range(images):
                rng = np.random.default_rng([seed, int(100 * share), count, number])
                yield share, count, draw_scene(generator, rng, count, share)


def measure_scenes(images: int, seed: int) -> list[dict[str, Any]]:
    """Returns for each share, count, number of tiles and score how many are found, missed and wrong."""
    detectors = {tiles: Detector.load(score=min(SCORES), tiles=tiles) for tiles in TILES}
    totals: dict[tuple, np.ndarray] = {}
    drawn = scenes(images, seed)
    for share, count, scene in tqdm(drawn, total=images * len(SHARES) * len(COUNTS), disable=None):
        for tiles, detector in detectors.items():
            boxes, scores = detector(scene.photo)
            for score in SCORES:
                counted = count_found(as_corners(boxes[scores >= score]), scene)
                key = (share, count, tiles, score)
                totals[key] = totals.get(key, np.zeros(3, int)) + counted
    names = ('share', 'count', 'tiles', 'score', 'found', 'missed', 'wrong')
    return [dict(zip(names, (*key, *total.tolist()), strict=True)) for key, total in totals.items()]


def measure_photo(detector: Detector, path: pathlib.Path, boxes: Sequence) -> dict[str, Any]:
    """Returns of a photo each true box's best overlap and score, and how many other boxes there are."""
    found, scores = detector(read_photo(path))
    true = as_corners(np.array(boxes, np.float64).reshape(-1, 4))
    overlaps = overlap(true[:, None], as_corners(found)[None]) if len(found) else np.zeros((len(true), 1))
    best = overlaps.argmax(1)
    told = [round(float(scores[k]), 3) if len(found) else None for k in best]
    others = len(found) - len(set(best[overlaps.max(1) >= FOUND].tolist()))
    return {
        'photo': path.name,
        'overlaps': overlaps.max(1).round(3).tolist(),
        'scores': told,
        'others': others,
    }


def measure_time(photo: np.ndarray) -> dict[str, Any]:
    """Returns seconds by the clock and of all cores together: of the first photo, and medians of 20.

    The first photo includes reading the weights, and compilation where the compiler's cache lacks the
    program; nobody may have used a detector in this process before.
    """
    clock, processor = _seconds(lambda: Detector.load()(photo))
    result = {'photo_size': list(photo.shape[1::-1]), 'first': {'s': clock, 'cpu_s': processor}}
    for tiles in TILES:
        now = Detector.load(tiles=tiles)
        now(photo)
        spent = np.array([_seconds(lambda now=now: now(photo)) for _ in range(REPEATS)])
        wall, processor = np.median(spent, axis=0).tolist()
        result[f'tiles_{tiles}'] = {'median_s': wall, 'least_s': spent[:, 0].min(), 'median_cpu_s': processor}
    return result


def _seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns seconds by the clock and of all cores together."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processor


def table(rows: Sequence[dict[str, Any]], by: str, **only: Any) -> list[str]:
    """Returns lines of recall and precision of the rows that have the values `only`, added up by a column."""
    rows = [row for row in rows if all(row[name] == value for name, value in only.items())]
    lines = []
    for value in dict.fromkeys(row[by] for row in rows):
        found, missed, wrong = (
            sum(row[name] for row in rows if row[by] == value) for name in ('found', 'missed', 'wrong')
        )
        precision = f'{found / (found + wrong):.2f}' if found + wrong else '-'
        lines.append(
            f'  {by} {value:<4}: recall {found / (found + missed):.2f} of {found + missed}, '
            f'precision {precision}'
        )
    return lines


def run(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns all figures for the command line `argv`, having printed them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--boxes', type=pathlib.Path, metavar='FILE', help='photos and true boxes, JSON')
    parser.add_argument(
        '--images', type=int, default=4, help='drawn photos of each size and number of people'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=pathlib.Path, metavar='FILE', help='all figures as JSON')
    args = parser.parse_args(argv)
    photos = {PHOTOGRAPHER: [PHOTOGRAPHER_BOX]}
    if args.boxes:
        given = json_file.read(args.boxes, 'a --boxes file')
        photos |= {args.boxes.parent / name: boxes for name, boxes in given.items()}
    figures: dict[str, Any] = {'time': measure_time(read_photo(PHOTOGRAPHER))}
    print(json.dumps(figures['time'], indent=1))
    detector = Detector.load()
    figures['photos'] = [measure_photo(detector, path, boxes) for path, boxes in photos.items()]
    for row in figures['photos']:
        print(row)
    figures['drawn'] = measure_scenes(args.images, args.seed) if args.images else []
    for tiles in TILES if args.images else ():
        print(f'{tiles} x {tiles} tiles, by size, number of people and score:')
        for by, only in (('share', {'score': SCORE}), ('count', {'score': SCORE}), ('score', {})):
            print('\n'.join(table(figures['drawn'], by, tiles=tiles, **only)))
    if args.out:
        write_whole(args.out, json.dumps(figures, indent=1) + '\n')
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
