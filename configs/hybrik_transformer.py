"""The paper's setting: HybrIK-Transformer, ResNet-34, 6 blocks, 200 epochs of batch 256.

    python -m hybrik_jax.main --config configs/hybrik_transformer.py \
        --config.pretrained.backbone=resnet34.pth --config.data.root=data

The backbone starts from torchvision's ImageNet weights, as in the paper. The mixture here is the synthetic people;
no published score belongs to it.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the paper's hyperparameters."""
    config = default.get_config()
    config.workdir = 'runs/hybrik_transformer'
    return config
