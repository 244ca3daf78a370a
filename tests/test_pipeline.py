"""The stream of batches: the same whatever hosts, threads, workers and interruptions; mixtures; evaluation
batches.
"""

import itertools

import numpy as np
import pytest

from hybrik_jax.data import pipeline
from hybrik_jax.data.augment import AugmentationSettings
from tests.helpers import CROP_SIZE, person

SETTINGS = AugmentationSettings(occlusion={'test': (0.3, 2.0)})


@pytest.fixture(scope='module')
def people():
    """Twelve records, the first beta of each its number."""
    return [person(i, betas=np.full(10, i)) for i in range(12)]


def stream(sources, mixture=None, seed=0):
    mixture = mixture or dict.fromkeys(sources, 1.0)
    return pipeline.training_examples(sources, mixture, settings=SETTINGS, crop_size=CROP_SIZE, seed=seed)


def take(examples, count=3, batch_size=8, **options):
    batches = pipeline.training_batches(
        examples, **{'batch_size': batch_size, 'threads': 1, 'prefetch': 4} | options
    )
    return list(itertools.islice(batches, count))


def assert_same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_two_hosts_make_the_batch_of_one(people):
    examples = stream({'a': people[:5], 'b': people[5:]}, {'a': 0.7, 'b': 0.3})
    whole = take(examples)
    halves = [take(examples, host=host, hosts=2) for host in (0, 1)]
    # Host h has every second example from h on.
    union = [
        {k: np.stack([a[k], b[k]], 1).reshape(-1, *a[k].shape[1:]) for k in a}
        for a, b in zip(*halves, strict=True)
    ]
    assert_same(union, whole)


def test_a_resumed_stream_goes_on_where_it_was(people):
    examples = stream({'a': people})
    assert_same(take(examples, 5)[3:], take(examples, 2, start_step=3))
    assert_same(take(examples, 5)[3:], take(stream({'a': people}), 2, start_step=3))


def test_threads_and_read_ahead_change_nothing(people):
    examples = stream({'a': people})
    assert_same(take(examples), take(examples, threads=4, prefetch=32))


def test_worker_processes_change_nothing(people):
    examples = stream({'a': people[:5], 'b': people[5:]})
    assert_same(take(examples, 2), take(examples, 2, workers=1))


def test_seeds_differ_and_repeats_are_augmented_anew(people):
    first = take(stream({'a': people}), 6)
    assert (first[0]['betas'] != take(stream({'a': people}, seed=1), 1)[0]['betas']).any()
    images = np.concatenate([batch['image'] for batch in first])
    number = np.concatenate([batch['betas'][:, 0] for batch in first])
    for i in range(12):
        mine = images[number == i]
        assert len(mine) == 4  # 48 examples: every person once in each of four rounds
        assert len({image.tobytes() for image in mine}) == 4


def test_mixture_has_its_proportions(people):
    """Datasets of different lengths are repeated; the shorter one does not end the stream."""
    examples = stream({'a': people[:3], 'b': people[3:]}, {'a': 3.0, 'b': 1.0})
    numbers = np.concatenate([batch['betas'][:, 0] for batch in take(examples, 10)])
    assert (numbers < 3).mean() == pytest.approx(0.75, abs=0.03)


def test_a_dataset_with_share_0_is_left_out(people):
    examples = stream({'a': people[:6]}, {'a': 1.0, 'missing': 0.0})
    assert take(examples, 1)[0]['betas'].max() < 6


def test_nothing_to_train_on_is_refused(people):
    with pytest.raises(ValueError, match='no dataset with a positive share'):
        stream({'a': people}, {'a': 0.0})
    with pytest.raises(ValueError, match="dataset 'b' has no training examples"):
        stream({'a': people, 'b': []})


def test_a_batch_that_hosts_cannot_share_is_refused(people):
    with pytest.raises(ValueError, match='batch_size=8 cannot be split over 3 hosts'):
        pipeline.training_batches(stream({'a': people}), batch_size=8, hosts=3)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_corrupt_jpeg_in_the_data_names_its_record(people, workers):
    broken = [p | {'image': p['image'][:20]} if i == 4 else p for i, p in enumerate(people)]
    with pytest.raises(Exception, match="record 'test/004' of 'test': its JPEG cannot be decoded"):
        take(stream({'a': broken}), 3, workers=workers)


@pytest.mark.parametrize(
    ('threads', 'examples', 'counts'), [(1, 12, [5, 5, 2]), (4, 7, [5, 2]), (3, 10, [5, 5])]
)
def test_evaluation_sees_every_example_once(people, threads, examples, counts):
    """In order, whatever the number of reader threads."""

    def example_of(index):
        return pipeline.evaluation_example(people[index], crop_size=CROP_SIZE)

    keys = range(examples)
    batches = list(pipeline.evaluation_batches(keys, example_of, batch_size=5, threads=threads))
    assert [count for _, count in batches] == counts
    assert all(len(fields['image']) == 5 for fields, _ in batches)
    seen = np.concatenate([fields['betas'][:count, 0] for fields, count in batches])
    np.testing.assert_array_equal(seen, np.arange(sum(counts)))
    last, count = batches[-1]
    assert (last['betas'][count:] == last['betas'][count - 1]).all()


def test_batch_has_every_field(people):
    batch = pipeline.to_batch(take(stream({'a': people}), 1)[0])
    assert batch.image.shape == (8, CROP_SIZE, CROP_SIZE, 3) and batch.image.dtype == np.uint8
    assert batch.crop.crop_to_photo.shape == (8, 2, 3) and batch.uvd.shape == (8, 29, 3)
    assert batch.quaternions.shape == (8, 24, 4) and batch.twists.shape == (8, 23, 2)
