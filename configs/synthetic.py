"""HybrIK-Transformer on synthetic people, sized for 2 CPU cores.

    python -m hybrik_jax.main --config configs/synthetic.py

About two hours of training (17,500 updates of 32) after 25 minutes of drawing people. Reaches an MPJPE of 201
mm on the synthetic test split, 59 % of the constant prediction's, with tail-averaged parameters and flip
test; the run of that figure had the first 24,000 of the 60,000 people only until update 12,404.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the embedded default: the paper's network, losses and schedule, small."""
    config = default.get_config()
    config.workdir = 'runs/synthetic'
    config.image_size = 96
    config.batch_size = 32
    config.num_epochs = 35
    config.steps_per_epoch = 500
    # Nothing is pretrained here, and from scratch the number of images seen counts most: half the widths of a
    # ResNet-18 see three times as many in the same time.
    config.model.backbone.depth = 18
    config.model.backbone.width = 32
    config.model.transformer.num_blocks = 2
    config.model.transformer.width = 128
    config.model.transformer.ffn_width = 128
    config.model.transformer.dropout = 0.0
    config.model.transformer.patch_sampling = 1.0  # a 96 x 96 crop has nine patches
    config.data.synthetic.train = 60000
    config.augmentation.scale = 0.15
    config.augmentation.rotation_probability = 0.4
    config.augmentation.rotation_degrees = 15.0
    config.optimizer.warmup_steps = 1000
    config.average.tail_epochs = 2.0
    config.average.ema_decay = 0.998
    config.validate_every = 1000
    return config
