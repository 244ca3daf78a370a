"""Measures building and reading of datasets, one core.

usage: python -m tools.benchmark_data read        training examples a second: records against full photos
       python -m tools.benchmark_data build [N]   N (100000) small records: time, memory, access, resume

Full photos are read as the original does: OpenCV decodes the file, colours are swapped, half of the photos
are mirrored as numpy views, an affine warp makes the crop, its colours are scaled; targets are ours on both
sides, which take turns. Photos are one CC0 picture, enlarged, with grain; people are 30 to 60 percent of a
photo's height; augmentations are drawn as in training.
"""

import argparse
import contextlib
import multiprocessing
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from unittest import mock

import cv2
import numpy as np

from hybrik_jax.data import augment, record, store
from hybrik_jax.datasets import build, region
from hybrik_jax.datasets.annotation import AnnotatedPerson
from tools.benchmark import reading

SIZES = ((1000, 1000), (1920, 1080))  # width, height
CROP_SIZE = 256


def seconds_of(functions: Sequence[Callable[[int], Any]], count: int, repeats: int = 7) -> np.ndarray:
    """Returns for each function the CPU seconds of one call with 0 to count - 1, (repeats, functions).

    The functions take turns, so that what else the machine does slows all of them; a first round is not
    counted.
    """
    times = np.zeros((repeats + 1, len(functions)))
    for row in times:
        for k, function in enumerate(functions):
            started = time.process_time()
            for index in range(count):
                function(index)
            row[k] = (time.process_time() - started) / count
    return times[1:]


def _theirs(
    people: list[AnnotatedPerson], whole: list[dict], draws: list[augment.Augmentation], index: int
) -> dict[str, np.ndarray]:
    return reading.from_full_photo(people[index], whole[index], draws[index], CROP_SIZE)


def _ours(source: Sequence[dict], draws: list[augment.Augmentation], index: int) -> dict[str, np.ndarray]:
    return augment.make_example(source[index], draws[index], crop_size=CROP_SIZE)


@contextlib.contextmanager
def clock(owner: Any, name: str) -> Iterator[list[float]]:
    """Yields the list of CPU seconds that calls of `owner.name` take meanwhile."""
    function, seconds = getattr(owner, name), []

    def timed(*args):
        started = time.process_time()
        out = function(*args)
        seconds.append(time.process_time() - started)
        return out

    with mock.patch.object(owner, name, timed):
        yield seconds


def read(count: int, largest_side: int) -> None:
    """Prints the table of images a second, one core, and how the time of ours splits."""
    cv2.setNumThreads(1)
    print(
        '| photos | full photo, images/s | records, images/s | ratio | read | decode | crop | the rest | kB |'
    )
    print('|---|---|---|---|---|---|---|---|---|')
    settings = augment.AugmentationSettings()
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            people = reading.write_people(folder, width, height, count)
            build.build(
                {'train': lambda people=people: iter(people)},
                folder / 'built',
                build.Settings(dataset='benchmark', body='', largest_side=largest_side),
                workers=0,
            )
            source = store.open_split(folder / 'built', 'train')
            records = [source[i] for i in range(count)]
            rng = np.random.default_rng(0)
            draws = [augment.draw(rng, one, settings) for one in records]
            whole = [one | record.whole_photo(width, height) for one in records]

            theirs = partial(_theirs, people, whole, draws)
            ours = partial(_ours, source, draws)
            times = seconds_of([theirs, ours, source.__getitem__], count)
            full, total, fetching = np.median(times, 0)
            ratio = np.median(times[:, 0] / times[:, 1])
            with clock(augment, 'decode_window') as decoding, clock(augment, 'crop_image') as cropping:
                seconds_of([ours], count)
            parts = [fetching, np.mean(decoding), np.mean(cropping)]
            shares = ' | '.join(f'{1000 * p:.2f} ms' for p in [*parts, total - sum(parts)])
            size = np.mean([len(one['image']) for one in records]) / 1000
            rates = f'{1 / full:.0f} | {1 / total:.0f} | {ratio:.1f}'
            print(f'| {width} x {height} | {rates} | {shares} | {size:.0f} |')


def _build(folder: pathlib.Path, name: str, count: int, workers: int) -> pathlib.Path:
    """Builds `count` people in the photos of `folder` into its folder `name`."""
    photos = sorted(folder.glob('*.jpg'))

    def people() -> Iterator[AnnotatedPerson]:
        for index in range(count):
            labels = reading.labels_of([40, 20, 90, 110], 160, 120, 1.0)
            yield AnnotatedPerson(f'{index:07d}', photos[index % len(photos)], labels)

    return build.build(
        {'train': people}, folder / name, build.Settings(dataset='many', body=''), workers=workers
    )


def build_many(count: int, workers: int) -> None:
    """Prints time, memory, random access and resume of a build of `count` records from a few small photos."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for index in range(20):
            cv2.imwrite(str(folder / f'{index:02d}.jpg'), reading.photo_of(160, 120, index))
        started = time.perf_counter()
        out = _build(folder, 'built', count, workers)
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f'{count} records in {seconds:.0f} s, {count / seconds:.0f} a second with {workers} workers')
        print(f'memory: {memory:.2f} GB, largest worker {worker:.2f} GB')
        source = store.open_split(out, 'train')
        order = np.random.default_rng(0).integers(count, size=2000)
        access = seconds_of([lambda i: source[int(order[i])]], len(order), 1).item()
        right = all(int(source[int(i)]['name']) == i for i in order[:200])
        print(f'random access: {1e6 * access:.0f} us a record, 200 of 200 the right ones: {right}')

        killed = multiprocessing.get_context('spawn').Process(
            target=_build, args=(folder, 'again', count, workers)
        )
        killed.start()
        shards, done = -(-count // build.SHARD), 0
        while done < shards / 2 and killed.is_alive():
            time.sleep(0.05)
            done = len(list((folder / 'again.incomplete').glob('train-*.json')))
        killed.kill()
        killed.join()
        started = time.perf_counter()
        again = store.open_split(_build(folder, 'again', count, workers), 'train')
        seconds = time.perf_counter() - started
        same = len(again) == count and all(again[int(i)]['image'] == source[int(i)]['image'] for i in order)
        print(
            f'killed -9 after {done} of {shards} shards, resumed and finished in {seconds:.0f} s, all there: '
            f'{same}'
        )


def main() -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=('read', 'build'))
    parser.add_argument('count', type=int, nargs='?')
    parser.add_argument('--largest-side', type=int, default=region.LARGEST_SIDE)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    if args.what == 'read':
        read(args.count or 60, args.largest_side)
    else:
        build_many(args.count or 100_000, args.workers)


if __name__ == '__main__':
    main()
