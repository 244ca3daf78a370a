"""Whole networks against recorded outputs: backbone, lifting, flip test, inverse kinematics and skinning."""

import functools
import importlib.util
import json
import pathlib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from hybrik_jax import inference
from hybrik_jax.body import rotations, smpl, smpl_file
from hybrik_jax.export import torch as torch_export
from hybrik_jax.export.recognise import recognise
from hybrik_jax.model import hybrik
from hybrik_jax.types import Crop, Lifted, Posed
from hybrik_jax.units import DEPTH_SCALE_M, MM_PER_M

# Both sides compute in float32, some sixty layers deep, in different orders; the outputs are of order one.
TOLERANCE = 1e-3


def load_module(path: pathlib.Path) -> types.ModuleType:
    """Returns the Python file at `path` as a module, without touching the list of imported modules."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network_like(name: str, shapes: Mapping[str, Sequence[int]]) -> hybrik.HybrIK:
    """Returns the network that has parameters of these PyTorch names and shapes.

    Args:
        name: such as 'transformer_resnet18_original'; only the variant is read from it.
    """
    architecture = recognise({key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()})
    config = default.get_config()
    config.update_from_flattened_dict(architecture.keys | architecture.assumed)
    config.model.transformer.variant = 'original' if name.endswith('original') else 'custom'
    return hybrik.create_model(config.model)


def seeded_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns PyTorch name -> array, the weights that the recording `path` (`model_NAME.npz`) was made with.

    Where it has a `norm_gain`, that multiplies the scales of the backbone's normalisations.
    """
    recorded, folder = np.load(path), path.parent
    shapes = json.loads((folder / 'state_dict.json').read_text())[path.stem.removeprefix('model_')]
    seeded = load_module(folder / 'seeded_weights.py').seeded
    weights = {
        name: seeded(name, tuple(shape), int(recorded['weight_seed'])) for name, shape in shapes.items()
    }
    for name, array in weights.items():
        if 'norm_gain' in recorded and re.fullmatch(r'preact\..*\.weight', name) and array.ndim == 1:
            array *= recorded['norm_gain']
    return weights


@functools.cache
def load_toy_body(golden_dir: pathlib.Path, seed: int) -> smpl.SMPL:
    """Returns the random body model that the recordings with this `body_seed` used."""
    arrays = load_module(golden_dir / 'toy_body.py').make_toy_body(seed)
    return smpl_file.body_from_arrays(arrays, source='toy_body.py')


def recorded_form(lifted: Lifted, posed: Posed) -> dict[str, np.ndarray]:
    """Returns outputs under the recordings' names, shapes and units: joints in 2 m, vertices in metres."""
    quaternions = jax.vmap(jax.vmap(rotations.matrix_to_quaternion))(posed.rotations)
    outputs = {
        'pred_uvd_jts': lifted.uvd,
        'pred_phi': lifted.twists,
        'pred_shape': lifted.betas,
        'pred_theta_mats': quaternions,
        'pred_xyz_jts_24': posed.lifted_joints_m[:, :24] / DEPTH_SCALE_M,
        'pred_xyz_jts_24_struct': posed.posed_joints_m / DEPTH_SCALE_M,
        'pred_xyz_jts_17': (posed.h36m_joints_m - posed.h36m_joints_m[:, :1]) / DEPTH_SCALE_M,
        'pred_vertices_every_10': posed.vertices_m[:, ::10] - posed.h36m_joints_m[:, :1],
    }
    if lifted.leaf_quaternions is not None:
        outputs['pred_leaf'] = lifted.leaf_quaternions
    return {name: np.asarray(value) for name, value in outputs.items()}


def largest_error(name: str, ours: np.ndarray, recorded: np.ndarray) -> float:
    """Returns the largest difference over max(1, largest recorded value); quaternions up to their sign."""
    ours = ours.reshape(recorded.shape)
    difference = np.abs(ours - recorded)
    if name.endswith('theta_mats'):
        ours, recorded = ours.reshape(-1, 4), recorded.reshape(-1, 4)
        difference = np.minimum(np.abs(ours - recorded).max(-1), np.abs(ours + recorded).max(-1))
    return float(difference.max() / max(1.0, np.abs(recorded).max()))


def compare_model(path: pathlib.Path) -> list[tuple[str, float, float]]:
    """Returns (what, error, tolerance) for every output in one `model_*.npz`; see `compare_models`."""
    recorded, weights = dict(np.load(path)), seeded_weights(path)
    images = np.random.RandomState(int(recorded['input_seed'])).standard_normal((2, 3, 256, 256))
    images = jnp.asarray(images.astype(np.float32).transpose(0, 2, 3, 1))
    model = network_like(path.stem, {key: array.shape for key, array in weights.items()})
    create = functools.partial(hybrik.initialise, model, image_size=images.shape[1])
    variables = torch_export.from_state_dict(weights, jax.eval_shape(create, jax.random.key(0)))
    del weights

    @jax.jit
    def apply(variables: Any, images: jax.Array) -> tuple[jax.Array, Lifted]:
        def features_and_lifted(network: hybrik.HybrIK, images: jax.Array) -> tuple[jax.Array, Lifted]:
            features = network.backbone(images, training=False)
            lifted = network.lifting(features, training=False, init_betas=jnp.asarray(recorded['init_shape']))
            return features.mean(axis=(1, 2)), lifted

        return model.apply(variables, images, method=features_and_lifted)

    def predict(images: jax.Array) -> Lifted:
        """Returns the outputs for any multiple of two images, two at a time: one compilation."""
        pairs = [apply(variables, images[i : i + 2])[1] for i in range(0, len(images), 2)]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *pairs)

    body = load_toy_body(path.parent, int(recorded['body_seed']))
    crop = Crop(
        crop_to_photo=jnp.asarray(recorded['trans_inv']),
        inverse_intrinsics=jnp.asarray(recorded['intrinsics_inv']),
        root_m=jnp.asarray(recorded['joint_root']) / MM_PER_M,
    )
    # Images are recorded normalised: the network's own normalisation has no part here.
    network = inference.Network(
        model=model,
        image_size=images.shape[1],
        image_mean=(0.0,) * 3,
        image_std=(1.0,) * 3,
        init_betas=recorded['init_shape'],
        right_hand='released',
    )

    @jax.jit
    def pose(lifted: Lifted) -> Posed:
        return inference.pose(lifted, crop, body, network=network)

    with jax.default_matmul_precision('highest'):
        channels, lifted = apply(variables, images)
        flipped = inference.flip_test(predict, images)
        ours = {
            'backbone_mean_per_channel': np.asarray(channels),
            **recorded_form(lifted, pose(lifted)),
            **{f'flip_{key}': value for key, value in recorded_form(flipped, pose(flipped)).items()},
        }
    inputs = {
        'body_seed',
        'weight_seed',
        'input_seed',
        'init_shape',
        'trans_inv',
        'intrinsics_inv',
        'joint_root',
        'depth_factor',
        'norm_gain',
    }
    unknown = sorted(set(recorded) - inputs - set(ours))
    if unknown:
        raise ValueError(f'{path.name} records {unknown}, which nothing here computes.')
    return [
        (f'{path.stem}/{key}', largest_error(key, ours[key], recorded[key]), TOLERANCE)
        for key in recorded
        if key in ours
    ]


def compare_models(golden_dir: str | pathlib.Path) -> list[tuple[str, float, float]]:
    """Returns (what, error, tolerance) for every output of every recorded HybrIK network in `golden_dir`.

    Args:
        golden_dir: holds `model_{transformer,deconv}*.npz`, `seeded_weights.py`, `toy_body.py` and
            `state_dict.json`; any seeds will do.
    Raises:
        FileNotFoundError: if the folder holds no such recording.
        ValueError: if a recording holds an output that nothing here computes.
    """
    golden_dir = pathlib.Path(golden_dir)
    paths = sorted([*golden_dir.glob('model_transformer*.npz'), *golden_dir.glob('model_deconv*.npz')])
    if not paths:
        raise FileNotFoundError(f'No model_transformer*.npz or model_deconv*.npz in {golden_dir}.')
    return [row for path in paths for row in compare_model(path)]
