"""RootNet on a ResNet-50: where the root joint is, for the depth that HybrIK lifts people with.

    python -m tools.import_torch snapshot_19.pth.tar --out runs/rootnet

The network, crops and normalisation are the released ones. It cannot be trained by `hybrik_jax.main` yet:
what stands here of its training is what the original's and this package's settings have in common.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns RootNet's setting."""
    config = default.get_config()
    config.workdir = 'runs/rootnet'
    config.batch_size = 32
    config.num_epochs = 20
    config.model.lifting = 'rootnet'
    config.model.image_mean = (0.485, 0.456, 0.406)  # ImageNet's, in RGB order: not HybrIK's reversed ones
    config.model.image_std = (0.229, 0.224, 0.225)
    config.model.backbone.depth = 50
    config.augmentation.scale = 0.0
    config.optimizer.learning_rate = 1e-3
    return config
