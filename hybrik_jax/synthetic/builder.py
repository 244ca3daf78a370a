"""The dataset of synthetic people as a tfds builder (array_record files, no TensorFlow), and where it is.

Splits: every split has a random stream of its own and poses of its own (`poses.assign_splits`): about 8 %
of the pose library is test, 4 % validation, the rest train; a pose and its mirror image are in the same
split. Bodies, clothes, cameras and backgrounds are drawn anew for every image, so no two splits share one.

A build is atomic: tfds writes into a folder named incomplete* and renames it when everything is written.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from hybrik_jax.data import record, store
from hybrik_jax.synthetic import workers as worker_processes
from hybrik_jax.synthetic.poses import SPLITS

NAME = 'synthetic_people'


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
    """What decides the content: examples per split, seed, and height and width of the photos in pixels."""

    name: str = dataclasses.field(init=False)
    train: int
    validation: int
    test: int
    seed: int = 0
    size: int = 256

    def __post_init__(self):
        for split in SPLITS:
            if getattr(self, split) < 0:
                raise ValueError(
                    f'{split}={getattr(self, split)}: the number of examples cannot be negative.'
                )
        if not any(self.counts.values()):
            raise ValueError(
                f'There is nothing to build: give at least one of {", ".join(SPLITS)} a number above 0.'
            )
        if self.size < 32 or self.seed < 0:
            raise ValueError(
                f'size={self.size}, seed={self.seed}: size must be at least 32, seed not negative.'
            )
        sizes = '_'.join(f'{split}{count}' for split, count in self.counts.items())
        self.name = f'{sizes}_seed{self.seed}_{self.size}px'

    @property
    def counts(self) -> dict[str, int]:
        """{split: number of examples}."""
        return {split: getattr(self, split) for split in SPLITS}


class SyntheticPeople(tfds.core.GeneratorBasedBuilder):
    """Photos of made-up people, one person each, with all labels of `hybrik_jax.data.record`."""

    VERSION = tfds.core.Version('2.0.0')
    RELEASE_NOTES = {
        '2.0.0': 'Records say which region of the photo their image is.',
        '1.0.0': 'First version.',
    }
    url_infos = {}  # no downloads; tfds's own look-up wants importlib_resources, which it does not install

    def __init__(self, *, workers: int = 1, **kwargs):
        """A builder; workers: how many processes draw, without a change in the result.

        kwargs: tfds's own; config is a SyntheticConfig.
        """
        self.workers = workers
        super().__init__(**kwargs)

    def _info(self):
        return self.dataset_info_from_configs(
            description='Photos of made-up people with all labels; body, poses and clothes are CC0.',
            features=record.features(),
            disable_shuffling=True,  # example i of a split is image i
            license='CC0 1.0',
        )

    def _split_generators(self, dl_manager):
        counts = self.builder_config.counts
        return {split: self._generate_examples(split, count) for split, count in counts.items() if count}

    def _generate_examples(self, split, count):
        config = self.builder_config
        examples = worker_processes.generate(
            split, count, seed=config.seed, size=config.size, workers=self.workers
        )
        for index, example in enumerate(tqdm(examples, desc=split, total=count, unit='image', mininterval=1)):
            record.check(example)
            yield index, example


def build(
    out: str | Path,
    *,
    train: int,
    validation: int,
    test: int,
    seed: int = 0,
    size: int = 256,
    workers: int = 1,
) -> Path:
    """Path of the finished dataset below the folder `out`; what is there already is not built again.

    The path names the numbers of examples, seed and size, so that different builds do not collide.

    Args:
        out: folder, made if missing.
        train, validation, test: number of examples; 0 leaves a split out.
        seed: of all randomness.
        size: height and width of the photos, pixels.
        workers: processes; 0 draws in this process. Does not change the result.
    """
    config = SyntheticConfig(train=train, validation=validation, test=test, seed=seed, size=size)
    builder = SyntheticPeople(config=config, data_dir=str(out), file_format='array_record', workers=workers)
    path = Path(builder.data_dir)
    if path.exists():
        if not store.is_finished(path):
            raise FileExistsError(
                f'{path} is there but is not a finished dataset: remove it, then build again.'
            )
        print(f'{path} is there already.')
        return path
    started = time.perf_counter()
    tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory() as unused:  # tfds wants a folder for downloads; there are none
        builder.download_and_prepare(download_dir=unused)
    seconds = time.perf_counter() - started
    print(summary(builder, seconds))
    left = [str(p) for p in path.parent.glob('incomplete*')]
    if left:
        print('Left by a build that was stopped (or is still running elsewhere): ' + ', '.join(left))
    return path


def summary(builder: tfds.core.DatasetBuilder, seconds: float) -> str:
    """One line per split and a total: examples, MB; seconds and images per second of the whole build."""
    splits = builder.info.splits
    lines = [
        f'{name:<12}{split.num_examples:>8} images {split.num_bytes / 1e6:>9.1f} MB'
        for name, split in splits.items()
    ]
    images, size = sum(s.num_examples for s in splits.values()), sum(s.num_bytes for s in splits.values())
    lines.append(f'{"total":<12}{images:>8} images {size / 1e6:>9.1f} MB')
    lines.append(f'{seconds:.1f} s, {images / seconds:.1f} images/s')
    return '\n'.join([f'built {builder.data_dir}', *lines])
