"""The third part of the training of the package's network: crops that are larger once more.

Goes on from the run of `configs/synthetic_efficientnet_160.py`, with its people.

    python -m hybrik_jax.main --config configs/synthetic_efficientnet.py
    python -m hybrik_jax.main --config configs/synthetic_efficientnet_160.py
    python -m hybrik_jax.main --config configs/synthetic_efficientnet_192.py
"""

from ml_collections import ConfigDict

from configs import synthetic_efficientnet_160


def get_config() -> ConfigDict:
    """Returns the last part of the training of the package's network."""
    config = synthetic_efficientnet_160.get_config()
    config.workdir = 'runs/synthetic_efficientnet_192'
    config.image_size = 192
    config.num_epochs = 14
    config.pretrained.network = 'runs/synthetic_efficientnet_160'
    config.optimizer.learning_rate = 3e-4
    config.optimizer.warmup_steps = 500
    return config
