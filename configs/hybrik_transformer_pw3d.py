"""HybrIK-Transformer, ResNet-34, on Human3.6M, MSCOCO, MPI-INF-3DHP and 3DPW.

    python -m hybrik_jax.main --config configs/hybrik_transformer_pw3d.py --config.data.root=data \
        --config.body=SMPL_NEUTRAL.pkl --config.h36m_regressor=J_regressor_h36m.npy \
        --config.init_betas=h36m_mean_beta.npy --config.pretrained.backbone=resnet34.pth

To expect (the author's evaluation log): 3DPW PA-MPJPE 45.97 mm, MPJPE 74.86, PVE 88.05; 3DHP PCK 86.70, AUC
47.56, MPJPE 90.21; Human3.6M PA-MPJPE 34.61, MPJPE 50.21. Training at this scale has not been run by us yet.
"""

from ml_collections import ConfigDict

from configs import hybrik_transformer


def get_config() -> ConfigDict:
    """Returns the paper's setting with 3DPW."""
    config = hybrik_transformer.get_config()
    config.workdir = 'runs/hybrik_transformer_pw3d'
    config.data.mixture = ConfigDict({'human36m': 0.3, 'coco': 0.4, 'mpi_inf_3dhp': 0.1, 'pw3d': 0.2})
    return config
