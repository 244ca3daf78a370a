"""HybrIK's own deconvolution head, the baseline that the Transformer replaces; otherwise the paper's setting.

    python -m hybrik_jax.main --config configs/hybrik_deconv.py --config.model.deconv.num_joints=29

For accelerators: XLA's transposed convolutions are very slow on a CPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the baseline's setting."""
    config = default.get_config()
    config.workdir = 'runs/hybrik_deconv'
    config.model.lifting = 'deconv'
    return config
