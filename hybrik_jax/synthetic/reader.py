"""The synthetic people as a dataset: whom to draw, and how one of them becomes a record.

Splits: every split has a random stream of its own and poses of its own (`poses.assign_splits`): about 8 %
of the pose library is test, 4 % validation, the rest train; a pose and its mirror image are in the same
split. Bodies, clothes, cameras and backgrounds are drawn anew for every image, so no two splits share one.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

from hybrik_jax.datasets import build as building
from hybrik_jax.synthetic.generator import BODY, DATASET, Generator
from hybrik_jax.synthetic.poses import SPLITS

SIZE = 256
SMALLEST = 32
_SHARD = 200  # people of one file: some ten seconds


@dataclasses.dataclass(frozen=True)
class DrawnPerson:
    """Somebody who will be drawn; seed of all randomness, height and width of the photo in pixels."""

    split: str
    index: int
    seed: int
    size: int

    @property
    def name(self) -> str:
        """Its name in the records, unique in all splits."""
        return f'{DATASET}/{self.split}/{self.index:06d}'


def people(split: str, count: int, *, seed: int, size: int) -> Iterator[DrawnPerson]:
    """Yields the people 0 .. count - 1 of a split."""
    for index in range(count):
        yield DrawnPerson(split, index, seed, size)


@functools.lru_cache(maxsize=1)
def _generator(split: str, seed: int, size: int) -> Generator:
    """Returns the generator of a split, which every worker process keeps."""
    return Generator(split, seed=seed, size=size)


def draw(person: DrawnPerson, settings: building.Settings) -> dict[str, Any]:
    """Returns the record of a person; it depends on (seed, split, index, size) alone."""
    return _generator(person.split, person.seed, person.size).record(person.index)


def _nothing_wrong(person: DrawnPerson) -> tuple[()]:
    return ()


def build(
    folder: str | pathlib.Path,
    *,
    train: int,
    validation: int,
    test: int,
    seed: int = 0,
    size: int = SIZE,
    train_size: int = 0,
    workers: int = 1,
    minutes: float = 0,
) -> pathlib.Path:
    """Returns `folder` as the finished dataset; the same one that is there already is left as it is.

    Args:
        train, validation, test: number of people; 0 leaves a split out.
        seed: of all randomness.
        size: height and width of the photos, pixels.
        train_size: that of the training photos, where it is another one.
        workers: processes; 0 draws in this process. Does not change the result.
        minutes: after so many, those who are left of the training people are left out; 0: nobody is.

    Raises:
        ValueError: numbers that cannot be.
        FileExistsError: `folder` is something else, or was built with other numbers.
    """
    counts = dict(zip(SPLITS, (train, validation, test), strict=True))
    for split, count in counts.items():
        if count < 0:
            raise ValueError(f'{split}={count}: the number of people cannot be negative.')
    if not any(counts.values()):
        raise ValueError(f'There is nobody to draw: give one of {", ".join(SPLITS)} a number above 0.')
    if size < SMALLEST or seed < 0:
        raise ValueError(f'size={size}, seed={seed}: size must be at least {SMALLEST}, seed not negative.')
    if 0 != train_size < SMALLEST:
        raise ValueError(
            f'train_size={train_size} must be at least {SMALLEST}, or 0 for the size of the others.'
        )
    sizes = dict.fromkeys(SPLITS, size) | ({'train': train_size} if train_size else {})
    numbers = ', '.join(f'{split}={count}' for split, count in counts.items())
    numbers += f', seed={seed}, size={size}' + (f', train_size={train_size}' if train_size else '')
    settings = building.Settings(dataset=DATASET, body=BODY, recipe=f'drawn with {numbers}')
    return building.build(
        {
            split: functools.partial(people, split, count, seed=seed, size=sizes[split])
            for split, count in counts.items()
            if count
        },
        folder,
        settings,
        making=building.Making(problems=_nothing_wrong, record=draw),
        workers=workers,
        shard=_SHARD,
        minutes={'train': minutes} if minutes else None,
    )
