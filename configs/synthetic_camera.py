"""HybrIK-Transformer that tells the depth itself, on synthetic people, sized for 2 CPU cores.

    python -m hybrik_jax.main --config configs/synthetic_camera.py
    python -m tools.compare_depths --checkpoint runs/synthetic_camera

One query token more than `configs/synthetic.py`, the camera's, and a seventh of its updates.
"""

from ml_collections import ConfigDict

from configs import synthetic


def get_config() -> ConfigDict:
    """Returns the embedded default with a camera token."""
    config = synthetic.get_config()
    config.workdir = 'runs/synthetic_camera'
    config.num_epochs = 5
    config.data.synthetic.train = 20000
    config.model.transformer.camera = True
    config.evaluation.root = 'network'
    return config
