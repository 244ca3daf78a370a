"""How fast training examples are read: from full photos as the original does, from records, through threads.

Photos are one CC0 picture, enlarged, with grain; people are 30 to 60 percent of a photo's height;
augmentations are drawn as in training.
"""

import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from hybrik_jax.data import augment, pipeline, record, store
from hybrik_jax.datasets import build
from hybrik_jax.datasets.annotation import AnnotatedPerson
from tools.benchmark.measure import Case, Program
from tools.benchmark.parts import row_of

PICTURE = pathlib.Path(__file__).parents[2] / 'docs' / 'photographer.jpg'
PHOTO = 1000  # side, pixels
BATCH = 32


def photo_of(width: int, height: int, seed: int) -> np.ndarray:
    """Returns a photo (height, width, 3) uint8: the picture, enlarged, with grain."""
    rng = np.random.default_rng(seed)
    picture = cv2.imread(str(PICTURE))
    large = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return np.clip(large + rng.normal(0, 3, large.shape), 0, 255).astype(np.uint8)


def write_people(folder: pathlib.Path, width: int, height: int, count: int) -> list[AnnotatedPerson]:
    """Returns people in photos that are written into `folder` as JPEGs of quality 95."""
    people = []
    for index in range(count):
        rng = np.random.default_rng(index)
        path = folder / f'{width}_{index:04d}.jpg'
        cv2.imwrite(str(path), photo_of(width, height, index), [cv2.IMWRITE_JPEG_QUALITY, 95])
        tall = rng.uniform(0.3, 0.6) * height
        x, y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.35, 0.65) * height
        box = [x - 0.2 * tall, y - tall / 2, x + 0.2 * tall, y + tall / 2]
        labels = labels_of(box, width, height, 1.25)
        people.append(AnnotatedPerson(f'{width}/{index:06d}', path, labels))
    return people


def labels_of(box: Sequence[float], width: int, height: int, enlargement: float) -> dict[str, np.ndarray]:
    """Returns the labels of somebody of whom only the box (x0 y0 x1 y1, pixels) is known."""
    known = {
        'width': width,
        'height': height,
        'box': np.clip(box, 0, [width - 1, height - 1] * 2),
        'box_enlargement': enlargement,
    }
    labels = {k: np.asarray(v, record.FEATURES[k].dtype) for k, v in (record.blank() | known).items()}
    return {k: v for k, v in labels.items() if not k.startswith('region_')}


def from_full_photo(
    person: AnnotatedPerson, one: dict, drawn: augment.Augmentation, crop_size: int
) -> dict[str, np.ndarray]:
    """Returns the example of a person, made from the whole photo as the original does.

    OpenCV decodes the file, colours are swapped, half of the photos are mirrored as numpy views, an affine
    warp makes the crop, its colours are scaled; targets are ours.
    """
    photo = cv2.cvtColor(cv2.imread(str(person.photo)), cv2.COLOR_BGR2RGB)
    if drawn.mirror:
        photo, one = photo[:, ::-1, :], augment.mirror_record(one)
    affine = augment.affine_of(one, drawn, crop_size)
    crop = augment.crop_image(photo, affine, drawn, crop_size)
    return augment.make_targets(one, affine, crop_size) | {'image': crop}


def reading(crop_size: int, *, count: int = 24, batches: int = 4) -> Iterator[Case]:
    """Yields reading in one thread, from full photos and from records, and of batches through all cores.

    Args:
        count: people to read. batches: of each thread.
    """
    cores = os.cpu_count() or 1
    of_thread = (('full photos, 1 thread', _from_photos), ('records, 1 thread', _from_records))
    for name, function in of_thread:
        yield _case(name, count, functools.partial(function, count, crop_size))
    batches *= cores
    name = f'batches, {cores} threads'
    yield _case(name, batches * BATCH, functools.partial(_batches, count, crop_size, batches, cores))


def _case(name: str, images: int, prepare: Callable[[], Callable[[], Any]]) -> Case:
    return Case(
        row_of('input', name, images, f'{PHOTO} x {PHOTO} photos'), lambda: Program(None, lambda _: prepare())
    )


@functools.cache
def _built(count: int) -> tuple[tempfile.TemporaryDirectory, list[AnnotatedPerson], Sequence[dict]]:
    """Returns a folder, people in photos there, and their records; the folder goes with the process."""
    folder = tempfile.TemporaryDirectory()
    path = pathlib.Path(folder.name)
    people = write_people(path, PHOTO, PHOTO, count)
    settings = build.Settings(dataset='benchmark', body='')
    build.build({'train': lambda: iter(people)}, path / 'built', settings, workers=0)
    return folder, people, store.open_split(path / 'built', 'train')


def _draws(records: Sequence[dict]) -> list[augment.Augmentation]:
    rng, settings = np.random.default_rng(0), augment.AugmentationSettings()
    return [augment.draw(rng, one, settings) for one in records]


def _from_photos(count: int, crop_size: int) -> Callable[[], Any]:
    _, people, source = _built(count)
    records = [source[i] for i in range(count)]
    whole, draws = [one | record.whole_photo(PHOTO, PHOTO) for one in records], _draws(records)

    return _in_one_thread(lambda i: from_full_photo(people[i], whole[i], draws[i], crop_size), count)


def _from_records(count: int, crop_size: int) -> Callable[[], Any]:
    source = _built(count)[2]
    draws = _draws([source[i] for i in range(count)])
    return _in_one_thread(lambda i: augment.make_example(source[i], draws[i], crop_size=crop_size), count)


def _in_one_thread(example_of: Callable[[int], Any], count: int) -> Callable[[], None]:
    """Returns a call that makes examples 0 to count - 1, OpenCV with a thread of its own."""

    def call() -> None:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        for i in range(count):
            example_of(i)
        cv2.setNumThreads(threads)

    return call


def _batches(count: int, crop_size: int, batches: int, threads: int) -> Callable[[], Any]:
    settings = augment.AugmentationSettings()
    examples = pipeline.training_examples(
        {'benchmark': _built(count)[2]}, {'benchmark': 1.0}, settings=settings, crop_size=crop_size, seed=0
    )

    def call() -> None:
        stream = pipeline.training_batches(examples, batch_size=BATCH, threads=threads, prefetch=BATCH)
        for _ in range(batches):
            next(stream)

    return call
