"""HybrIK-Transformer on synthetic people, sized for 2 CPU cores.

    python -m hybrik_jax.main --config configs/synthetic.py
"""

from configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the embedded default: the paper's network and training, small."""
    config = default.get_config()
    config.workdir = 'runs/synthetic'
    config.image_size = 96
    config.batch_size = 32
    config.num_epochs = 16
    config.steps_per_epoch = 250
    config.model.backbone.depth = 18
    config.model.transformer.num_blocks = 2
    config.model.transformer.width = 256
    config.model.transformer.ffn_width = 256
    config.model.transformer.dropout = 0.0
    config.model.transformer.patch_sampling = 1.0
    config.data.synthetic.train = 24000
    config.augmentation.scale = 0.2
    config.augmentation.rotation_degrees = 15.0
    config.optimizer.warmup_steps = 800
    config.average.tail_epochs = 2.0
    config.validate_every = 500
    config.average.ema_decay = 0.998
    return config
