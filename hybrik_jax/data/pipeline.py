"""Batches for training and evaluation: mixed, shuffled, augmented, split over hosts, resumed by position.

Example i of the stream depends on the seed and i alone, whatever the number of hosts, threads or worker
processes; resuming at step n is `stream[n * batch_size:]`. The stream is split over hosts after mixing and
augmenting, so the union of the hosts' batches is the one-host batch, bit for bit.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from hybrik_jax import ending
from hybrik_jax.data import augment
from hybrik_jax.types import Batch, Crop

SOURCE = 'source'  # field of an example: which dataset it is from


def training_examples(
    sources: Mapping[str, Sequence],
    mixture: Mapping[str, float],
    *,
    settings: augment.AugmentationSettings,
    crop_size: int,
    seed: int,
) -> grain.MapDataset:
    """Returns the endless stream of augmented examples (dicts, see `augment.make_example`).

    An example's `SOURCE` is the place of its dataset among those of the mixture with a positive share.

    Args:
        sources: dataset name -> random-access records.
        mixture: dataset name -> share of the examples; a dataset with share 0 is left out.
    """
    names = [name for name, share in mixture.items() if share > 0]
    if not names:
        raise ValueError(f'config.data.mixture={dict(mixture)} has no dataset with a positive share.')
    for name in names:
        if len(sources[name]) == 0:
            raise ValueError(f'dataset {name!r} has no training examples.')

    def augmented(item: tuple[int, dict[str, Any]], rng: np.random.Generator) -> dict[str, np.ndarray]:
        source, record = item
        drawn = augment.draw(rng, record, settings)
        return augment.make_example(record, drawn, crop_size=crop_size) | {SOURCE: np.int32(source)}

    streams = [
        grain.MapDataset.source(sources[name])
        .seed(seed + 1000 * k)
        .shuffle()
        .repeat()
        .map(lambda record, k=k: (k, record))
        for k, name in enumerate(names)
    ]
    mixed = streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, [mixture[n] for n in names])
    return mixed.seed(seed + 1).random_map(augmented)


def training_batches(
    examples: grain.MapDataset,
    *,
    batch_size: int,
    start_step: int = 0,
    host: int = 0,
    hosts: int = 1,
    threads: int = 4,
    prefetch: int = 64,
    workers: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """Returns an endless iterator of this host's share of the batches, from batch `start_step` on.

    Args:
        batch_size: over all hosts.
        threads, prefetch: reader threads and examples read ahead, in each process; a thread makes a batch at
            a time.
        workers: processes that make batches, and end when this one does; 0 keeps the work in this process's
            threads.
    """
    if batch_size % hosts:
        raise ValueError(f'batch_size={batch_size} cannot be split over {hosts} hosts: make it a multiple.')
    local = batch_size // hosts
    batches = examples[host::hosts].batch(local, batch_fn=stack)[start_step:]
    iterable = batches.to_iter_dataset(_read_options(threads, prefetch, local))
    if not workers:
        return iter(iterable)
    options = grain.MultiprocessingOptions(num_workers=workers)
    return _from_workers(iterable.mp_prefetch(options, worker_init_fn=ending.of_worker))


def _from_workers(iterable: grain.IterDataset) -> Iterator[dict[str, np.ndarray]]:
    with ending.starting_workers(*ending.SIGNALS):  # they start with the first batch
        batches = iter(iterable)
        first = next(batches)
    with contextlib.closing(batches):
        yield first
        yield from batches


def evaluation_example(record: dict[str, Any], *, crop_size: int) -> dict[str, np.ndarray]:
    """Returns the example of a record as evaluation sees it, not augmented."""
    return augment.make_example(record, augment.Augmentation(), crop_size=crop_size)


def evaluation_batches(
    keys: Sequence,
    example_of: Callable[[Any], dict[str, np.ndarray]],
    *,
    batch_size: int,
    threads: int = 4,
    prefetch: int = 64,
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yields (batch, count): the example of every key once, in order; the last one fills up the last batch.

    Args:
        example_of: called in reader threads.
        threads, prefetch: as in `training_batches`.
    """
    batches = grain.MapDataset.source(keys).map(example_of).batch(batch_size, batch_fn=stack)
    for fields in batches.to_iter_dataset(_read_options(threads, prefetch, batch_size)):
        count = len(fields['image'])
        if count < batch_size:
            rows = np.minimum(np.arange(batch_size), count - 1)
            fields = {name: value[rows] for name, value in fields.items()}
        yield fields, count


def _read_options(threads: int, prefetch: int, batch_size: int) -> grain.ReadOptions:
    """Returns options for threads that make whole batches: each needs a place in the buffer."""
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, prefetch // batch_size))


def stack(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns examples stacked into one batch, field by field."""
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def to_batch(fields: Mapping[str, np.ndarray]) -> Batch:
    """Returns the `Batch` of stacked example fields; fields that no batch has are left out."""
    crop = Crop(**{field.name: fields[field.name] for field in dataclasses.fields(Crop)})
    rest = [field.name for field in dataclasses.fields(Batch) if field.name != 'crop']
    return Batch(crop=crop, **{name: fields[name] for name in rest})
