"""HybrIK-Transformer at its full size on synthetic people, on a GPU, for so many minutes at a time.

    pip install -e '.[cuda12]'
    python -m hybrik_jax.main --config configs/synthetic_gpu.py --config.minutes=30
    python -m hybrik_jax.main --config configs/synthetic_gpu.py --mode evaluate

ResNet-34 from scratch, crops of 256 x 256. The first line of Python draws people on all cores, for a quarter
of the minutes at most, trains until the minutes are over, with a checkpoint every two of them, and goes on
from the last one each time it is given again, also where the people had to be drawn anew. A GPU needs some of
the first minutes to compile. Any end is a good end: the learning rate falls as 1 / sqrt(update), and since
nobody knows which updates will be the last ones, there is no tail average; the moving one counts.

Tried on a CPU at toy size (tests/test_minutes.py), not on a GPU yet: batch, rates and shares are not tuned.
"""

import os

from ml_collections import ConfigDict

from configs import default

CORES = os.cpu_count() or 1


def get_config() -> ConfigDict:
    """Returns the paper's network on synthetic people, ended by the clock."""
    config = default.get_config()
    config.workdir = 'runs/synthetic_gpu'
    config.preset = 'fast'
    config.batch_size = 128
    config.num_epochs = 1000  # more than anybody waits for
    config.steps_per_epoch = 1000
    config.minutes = 60.0
    config.data.synthetic.train = 200000
    config.data.workers = min(CORES - 2, 12) if CORES > 4 else 0
    config.optimizer.warmup_steps = 2000
    config.average.tail_epochs = 0.0
    config.validate_every = 5000
    config.checkpoint_every = 50000
    config.checkpoint_minutes = 2.0
    config.keep_checkpoints = 2  # a gigabyte each
    config.evaluation.parameters = ('raw', 'ema')
    return config
