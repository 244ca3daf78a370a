"""HybrIK's HRNet-W48 with a camera of its own: no root depth is needed.

    python -m tools.import_torch hybrik_hrnet.pth --out runs/hybrik_hrnet --body SMPL_NEUTRAL.pkl \\
        --h36m-regressor J_regressor_h36m.npy
    python -m tools.predict photo.jpg --box x,y,w,h --checkpoint runs/hybrik_hrnet

29 joints by the heat maps of HRNet's finest branch, their uncertainty, and the scale of a camera of 1000 px
for a crop of 256 px. Published, trained with 3DPW: 41.8 mm PA-MPJPE on 3DPW; not reproduced here. The batch
is the published 36 a GPU, on four; the optimizer is this package's, the original's is not specified.
"""

from ml_collections import ConfigDict

from configs import hybrik_deconv


def get_config() -> ConfigDict:
    """Returns the setting of HybrIK's most used checkpoint."""
    config = hybrik_deconv.get_config()
    config.workdir = 'runs/hybrik_hrnet_camera'
    config.batch_size = 144
    config.model.lifting = 'volumes'
    config.model.backbone.name = 'hrnet'
    config.model.backbone.width = 48
    config.model.deconv.num_joints = 29
    config.evaluation.root = 'network'
    return config
