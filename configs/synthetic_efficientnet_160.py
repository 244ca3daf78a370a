"""The second part of the training of the package's network: larger crops.

Goes on from the run of `configs/synthetic_efficientnet.py`.

    python -m hybrik_jax.main --config configs/synthetic_efficientnet.py
    python -m hybrik_jax.main --config configs/synthetic_efficientnet_160.py

Crops of 160 x 160 have 100 patches; the position table is interpolated. A step costs 1.6 times as much, and
what was learnt at 128 x 128 need not be learnt again. docs/default_network.md has the figures.
"""

from ml_collections import ConfigDict

from configs import synthetic_efficientnet


def get_config() -> ConfigDict:
    """Returns the second part of the training of the package's network."""
    config = synthetic_efficientnet.get_config()
    config.workdir = 'runs/synthetic_efficientnet_160'
    config.image_size = 160
    config.num_epochs = 13
    config.pretrained.backbone = ''
    config.pretrained.network = 'runs/synthetic_efficientnet'
    config.data.root = 'data/large'
    config.data.synthetic.train = 40000
    config.data.synthetic.train_size = 192
    config.optimizer.learning_rate = 4e-4
    config.optimizer.warmup_steps = 800
    config.optimizer.backbone_frozen = 0
    return config
