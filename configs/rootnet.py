"""RootNet on a ResNet-50: where the root joint is, for the depth that HybrIK lifts people with.

    python -m tools.import_torch snapshot_19.pth.tar --out runs/rootnet
    python -m hybrik_jax.main --config configs/rootnet.py --config.data.root=data \
        --config.pretrained.backbone=resnet50.pth

The first line takes released weights; the second one trains on Human3.6M and MSCOCO, half of each, for 20
epochs of batch 32 a GPU (`--config.batch_size` is that of all of them). Network, crops, normalisation and
optimizer are the released ones. The weights of the loss are the original's, which averages |x| and |y| in
cells of the heat map and |depth| in millimetres: one unit of `root_depth` is 2 m / 64 = 31.25 mm. Here each
is divided by the number of its own labels. The tail average is not the original's. Training at this scale
has not been run by us.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns RootNet's setting."""
    config = default.get_config()
    config.workdir = 'runs/rootnet'
    config.batch_size = 32
    config.num_epochs = 20
    config.model.lifting = 'rootnet'
    config.model.image_mean = (0.485, 0.456, 0.406)  # ImageNet's, in RGB order: not HybrIK's reversed ones
    config.model.image_std = (0.229, 0.224, 0.225)
    config.model.backbone.depth = 50
    config.data.mixture = ConfigDict({'human36m': 0.5, 'coco': 0.5})
    config.data.validation = 'human36m'
    config.data.validation_split = 'test'
    config.data.validation_examples = 2000
    config.augmentation.scale = 0.0
    config.loss.root_uv = 2 / 3
    config.loss.root_depth = 31.25 / 3
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'drops'
    config.optimizer.drop_epochs = (17,)
    config.average.tail_epochs = 3.0  # those at the lower rate
    config.evaluation.datasets = ('human36m', 'pw3d', 'mpi_inf_3dhp')
    return config
