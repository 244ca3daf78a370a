"""The tiny run on a mixture of the four miniature datasets of `tests/miniature`, scored on three of them."""

from ml_collections import ConfigDict

from tests import tiny_config


def get_config() -> ConfigDict:
    """Returns the tiny configuration with the paper's datasets and proportions."""
    config = tiny_config.get_config()
    config.workdir = 'runs/mixed'
    config.num_epochs = 2
    config.data.mixture = ConfigDict({'human36m': 0.3, 'coco': 0.4, 'mpi_inf_3dhp': 0.1, 'pw3d': 0.2})
    config.data.validation = 'human36m'
    config.data.validation_split = 'test'
    config.augmentation.occlusion = ConfigDict(
        {'human36m': (0.3, 2.0), 'coco': (0.7, 3.3), 'pw3d': (0.3, 2.0)}
    )
    config.evaluation.datasets = ('human36m', 'pw3d', 'mpi_inf_3dhp')
    config.evaluation.allow_other_body = True
    return config
