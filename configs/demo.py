"""A few minutes of training: shows that the whole chain runs, not how good it gets.

    python -m hybrik_jax.main --config configs/demo.py

`configs/synthetic.py` is the longer run.
"""

from ml_collections import ConfigDict

from configs import synthetic


def get_config() -> ConfigDict:
    """Returns the embedded default at a size for a first look."""
    config = synthetic.get_config()
    config.workdir = 'runs/demo'
    config.data.root = 'data/demo'
    config.data.synthetic.train = 4000
    config.data.synthetic.validation = 100
    config.data.synthetic.test = 200
    config.num_epochs = 3
    config.steps_per_epoch = 200
    config.optimizer.warmup_steps = 200
    config.average.tail_epochs = 1.0
    config.average.ema_decay = 0.99
    config.validate_every = 400
    config.checkpoint_every = 200
    config.log_every = 20
    return config
