"""HybrIK-Transformer, HRNet-W48, on Human3.6M, MSCOCO and MPI-INF-3DHP: the paper's network.

    python -m hybrik_jax.main --config configs/hybrik_transformer_hrnet.py --config.data.root=data \
        --config.body=SMPL_NEUTRAL.pkl --config.h36m_regressor=J_regressor_h36m.npy \
        --config.init_betas=h36m_mean_beta.npy --config.pretrained.backbone=hrnet_w48-8ef0771d.pth

To expect, by the paper and by what the author's notebook printed: 3DPW PA-MPJPE 43.43 mm, MPJPE 73.57, PVE
87.29; Human3.6M PA-MPJPE 29.83, MPJPE 48.82. The paper also has 3DHP: PCK 89.33, AUC 49.06, MPJPE 85.23.
Training at this scale has not been run by us yet. The batch is the released one, 56 a GPU on four of them;
`--config.model.backbone.remat=True` and `--config.model.backbone.dtype=bfloat16` need less memory.

The step of 56 images takes of one 80 GB card, compiled without a card (`python -m tools.plan`, whose
help says how, and why it is a lower bound), in float32 at least 19745 MiB, with backbone and Transformer
rematerialised 8141 MiB; 2054 of either are the state and the batch.
"""

from ml_collections import ConfigDict

from configs import hybrik_transformer


def get_config() -> ConfigDict:
    """Returns the paper's setting on the larger backbone."""
    config = hybrik_transformer.get_config()
    config.workdir = 'runs/hybrik_transformer_hrnet'
    config.batch_size = 224
    config.model.backbone.name = 'hrnet'
    config.model.backbone.width = 48
    return config
