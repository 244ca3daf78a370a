"""Networks with random parameters for other programs, small ones of every kind that the registries name."""

import pathlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax import config as configuration
from hybrik_jax import inference, setup
from hybrik_jax.checkpoint import Run
from hybrik_jax.predict import Predictor
from tests import small_run

# What is changed in the configuration of a small run.
SMALLER = {'model.backbone.width': 8, 'model.deconv.width': 16, 'model.deconv.depth_bins': 8}
HRNET = {'model.backbone.name': 'hrnet', 'model.backbone.width': 4}
DECONV_29 = {'model.lifting': 'deconv', 'model.deconv.num_joints': 29}
KINDS = {
    'transformer': {},
    'the paper': {'model.transformer.leaf_tokens': False, 'model.transformer.variant': 'original'},
    'transformer with camera': {'model.transformer.camera': True},
    'light': {'model.lifting': 'light', 'model.light.width': 16, 'model.light.ffn_width': 24},
    'bottlenecks': {'model.backbone.depth': 50, 'model.backbone.remat': True},
    'bfloat16': {'model.backbone.dtype': 'bfloat16', 'model.transformer.dtype': 'bfloat16'},
    'efficientnet': {'model.backbone.name': 'efficientnet_lite0', 'model.backbone.stride': 16},
    'deconv': {'model.lifting': 'deconv', 'model.right_hand': 'released'},
    'deconv of 29 joints': DECONV_29,
    'deconv with camera': DECONV_29 | {'model.deconv.camera': True},
    'hrnet': HRNET,
    'hrnet with camera': HRNET | {'model.lifting': 'volumes'},
}

# How large random kernels are. Heat maps without a peak would put all joints into one point, where nothing
# says how bones turn.
PEAKED = {'volumes': 20.0, 'heat_map': 20.0, 'volume_queries': 20.0, 'head_joints': 0.1}


def predictor_of(kind: str, *, flip: bool = True) -> Predictor:
    """Returns the predictor of a kind of network, with parameters near those that training starts from.

    They are drawn by NumPy: nothing is compiled for it.
    """
    config = small_run.run_config(pathlib.Path('runs/none'), pathlib.Path('data/none'))
    config.update_from_flattened_dict(SMALLER | KINDS[kind])
    body = setup.load_body(config)
    network = inference.create_network(config, setup.init_betas(config, body))
    size, rng = config.image_size, np.random.default_rng(0)
    inputs = jnp.zeros((1, size, size, 3)), jnp.zeros(10)
    shapes = jax.eval_shape(
        lambda images, betas: network.model.init(jax.random.key(0), images, training=False, init_betas=betas),
        *inputs,
    )

    def draw(path: tuple, one: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.normal(size=one.shape)
        if one.ndim > 1:
            size = PEAKED.get(path[-2].key, 1.0)
            return np.float32(size * noise / np.sqrt(np.prod(one.shape[:-1])))
        return np.float32((path[-1].key in ('scale', 'var')) + 0.1 * np.abs(noise))

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    state = types.SimpleNamespace(parameters=lambda which: variables)
    run = Run(folder=pathlib.Path('runs/none'), step=0, config=configuration.plain(config), state=state)
    return Predictor(run, network, body, parameters='raw', flip=flip)


def documented() -> list[str]:
    """Returns the Python programs of docs/deployment.md."""
    text = (pathlib.Path(__file__).parents[1] / 'docs' / 'deployment.md').read_text()
    return re.findall(r'```python\n(.*?)```', text, re.DOTALL)
