"""HybrIK-Transformer, ResNet-34, on Human3.6M, MSCOCO and MPI-INF-3DHP: 200 epochs of batch 256.

    python -m hybrik_jax.main --config configs/hybrik_transformer.py --config.data.root=data \
        --config.body=SMPL_NEUTRAL.pkl --config.h36m_regressor=J_regressor_h36m.npy \
        --config.init_betas=h36m_mean_beta.npy --config.pretrained.backbone=resnet34.pth

The datasets are built as docs/datasets.md says. Scores are published for the larger HRNet-W48 backbone only
(paper): Human3.6M PA-MPJPE 29.83 mm, MPJPE 48.82; 3DPW 43.43 / 73.57, PVE 87.29; 3DHP PCK 89.33, AUC 49.06,
MPJPE 85.23. With ResNet-34 HybrIK's own head has 34.5 mm PA-MPJPE on Human3.6M and 48.8 on 3DPW (CVPR 2021).
Training at this scale has not been run by us yet.
"""

from ml_collections import ConfigDict

from configs import default

# Largest share of the box that an occluder covers, and its largest aspect.
OCCLUSION = {'human36m': (0.3, 2.0), 'pw3d': (0.3, 2.0), 'coco': (0.7, 3.3), 'mpi_inf_3dhp': (0.0, 2.0)}


def get_config() -> ConfigDict:
    """Returns the paper's setting without 3DPW."""
    config = default.get_config()
    config.workdir = 'runs/hybrik_transformer'
    config.data.mixture = ConfigDict({'human36m': 0.4, 'coco': 0.5, 'mpi_inf_3dhp': 0.1})
    config.data.validation = 'human36m'
    config.data.validation_split = 'test'
    config.data.validation_examples = 2000
    config.augmentation.occlusion = ConfigDict(OCCLUSION)
    config.evaluation.datasets = ('human36m', 'pw3d', 'mpi_inf_3dhp')
    return config
