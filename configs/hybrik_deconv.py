"""HybrIK's own deconvolution head, the paper's baseline, on Human3.6M, MSCOCO and MPI-INF-3DHP.

    python -m hybrik_jax.main --config configs/hybrik_deconv.py --config.data.root=data \
        --config.body=SMPL_NEUTRAL.pkl --config.h36m_regressor=J_regressor_h36m.npy \
        --config.init_betas=h36m_mean_beta.npy --config.pretrained.backbone=resnet34.pth

To expect (HybrIK, CVPR 2021, ResNet-34): PA-MPJPE 34.5 mm on Human3.6M, 48.8 on 3DPW. Training at this scale
has not been run by us yet. For accelerators: XLA's transposed convolutions are very slow on a CPU.
`--config.model.deconv.num_joints=29` localises the leaf joints too.
"""

from ml_collections import ConfigDict

from configs import hybrik_transformer


def get_config() -> ConfigDict:
    """Returns the baseline's setting."""
    config = hybrik_transformer.get_config()
    config.workdir = 'runs/hybrik_deconv'
    config.model.lifting = 'deconv'
    return config
