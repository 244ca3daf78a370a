"""A few minutes of training that go on from the network that comes with the package.

    python -m hybrik_jax.main --config configs/demo.py

First it writes what that network scores on the test images (`runs/demo/before`), then it trains at a low rate
and writes what it scores now: `tools.report runs/demo` shows both. Nothing new is to be learnt here, the
people are drawn like those that it was trained on: the figures improve a little, or hold.
"""

from ml_collections import ConfigDict

from configs import synthetic_efficientnet_192


def get_config() -> ConfigDict:
    """Returns the configuration of the package's network, to go on from it for a moment."""
    config = synthetic_efficientnet_192.get_config()
    config.workdir = 'runs/demo'
    config.data.root = 'data/demo'
    config.data.synthetic.train = 4000
    config.data.synthetic.validation = 100
    config.data.synthetic.test = 200
    config.pretrained.network = 'bundled'
    config.num_epochs = 2
    config.steps_per_epoch = 150
    config.optimizer.learning_rate = 6e-5  # below where the network's own training ended
    config.optimizer.warmup_steps = 50
    config.average.tail_epochs = 1.0
    config.average.ema_decay = 0.98
    config.validate_every = 150
    config.checkpoint_every = 150
    config.log_every = 10
    config.evaluation.parameters = ('tail',)
    return config
