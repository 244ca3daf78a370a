"""HybrIK's own deconvolution head on Human3.6M, MSCOCO, MPI-INF-3DHP and 3DPW; otherwise hybrik_deconv.py.

    python -m hybrik_jax.main --config configs/hybrik_deconv_pw3d.py --config.data.root=data \
        --config.body=SMPL_NEUTRAL.pkl --config.h36m_regressor=J_regressor_h36m.npy \
        --config.init_betas=h36m_mean_beta.npy --config.pretrained.backbone=resnet34.pth

To expect (HybrIK, CVPR 2021, ResNet-34): PA-MPJPE 45.0 mm on 3DPW. Training at this scale has not been run by
us yet.
"""

from ml_collections import ConfigDict

from configs import hybrik_deconv, hybrik_transformer_pw3d


def get_config() -> ConfigDict:
    """Returns the baseline's setting with 3DPW."""
    config = hybrik_deconv.get_config()
    config.workdir = 'runs/hybrik_deconv_pw3d'
    config.data.mixture = hybrik_transformer_pw3d.get_config().data.mixture
    return config
