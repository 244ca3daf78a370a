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
from ml_collections import ConfigDict

from configs import default
from hybrik_jax import inference
from hybrik_jax.body import rotations, smpl, smpl_file
from hybrik_jax.body.camera import OWN_FOCAL
from hybrik_jax.data import augment
from hybrik_jax.export import torch as torch_export
from hybrik_jax.export.recognise import recognise
from hybrik_jax.model import hybrik
from hybrik_jax.model.deconv import OWN_DEPTH
from hybrik_jax.types import Crop, Lifted, Posed
from hybrik_jax.units import DEPTH_SCALE_M, MM_PER_M

# Both sides compute in float32, some sixty layers deep, in different orders; the outputs are of order one.
TOLERANCE = 1e-3
SOLVED_TOLERANCE = 1e-2
OWN_DEPTH_M = OWN_DEPTH * DEPTH_SCALE_M
INPUTS = frozenset(
    'body_seed weight_seed input_seed init_shape init_cam trans_inv intrinsics_inv joint_root depth_factor '
    'norm_gain deccam_gain decsigma_bias_shift focal_length depth_m photo_boxes_xyxy photo_centre'.split()
)


def load_module(path: pathlib.Path) -> types.ModuleType:
    """Returns the Python file at `path` as a module, without touching the list of imported modules."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network_like(name: str, shapes: Mapping[str, Sequence[int]]) -> hybrik.HybrIK:
    """Returns the network that has parameters of these PyTorch names and shapes; see `model_section`."""
    return hybrik.create_model(model_section(name, shapes))


def model_section(name: str, shapes: Mapping[str, Sequence[int]]) -> ConfigDict:
    """Returns the section `model` of the network that has parameters of these PyTorch names and shapes.

    Args:
        name: such as 'transformer_resnet18_original'; only the variant is read from it.
    """
    architecture = recognise({key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()})
    config = default.get_config()
    config.update_from_flattened_dict(architecture.keys | architecture.assumed)
    config.model.transformer.variant = 'original' if name.endswith('original') else 'custom'
    return config.model


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
    if 'deccam_gain' in recorded:
        weights['deccam.weight'] *= recorded['deccam_gain']
    if 'decsigma_bias_shift' in recorded:
        weights['decsigma.bias'] += recorded['decsigma_bias_shift']
    return weights


def recorded_images(recorded: Mapping[str, np.ndarray]) -> jax.Array:
    """Returns the images (2, 256, 256, 3) of a recording."""
    images = np.random.RandomState(int(recorded['input_seed'])).standard_normal((2, 3, 256, 256))
    return jnp.asarray(images.astype(np.float32).transpose(0, 2, 3, 1))


@functools.cache
def load_toy_body(golden_dir: pathlib.Path, seed: int) -> smpl.SMPL:
    """Returns the random body model that the recordings with this `body_seed` used."""
    arrays = load_module(golden_dir / 'toy_body.py').make_toy_body(seed)
    return smpl_file.body_from_arrays(arrays, source='toy_body.py')


def recorded_form(lifted: Lifted, posed: Posed, camera: str | None = None) -> dict[str, np.ndarray]:
    """Returns outputs under the recordings' names, shapes and units: joints in 2 m, vertices in metres.

    Args:
        camera: as in `inference.Network`; with one, units are those that the specification tells.
    """
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
    if camera:
        uvd = lifted.uvd / jnp.array([1.0, 1.0, OWN_DEPTH])
        outputs |= {'pred_uvd_jts': uvd, 'pred_xyz_jts_29': posed.lifted_joints_m / OWN_DEPTH_M}
    if camera == 'crop':
        depth_m = OWN_FOCAL / lifted.scale[:, None]
        outputs |= {
            'pred_xyz_jts_24': outputs['pred_xyz_jts_29'][:, :24] / 2,
            'cam_scale': lifted.scale,
            'cam_trans': lifted.translation,
            'cam_root': posed.root_m,
            'transl': jnp.concatenate([lifted.translation, depth_m], axis=-1),
        }
    elif camera == 'photo':
        d_m = DEPTH_SCALE_M * lifted.uvd[:, 0, 2]
        outputs |= {
            'pred_theta_mats': posed.rotations,
            'pred_xyz_jts_24_struct': posed.posed_joints_m / OWN_DEPTH_M,
            'pred_xyz_jts_17': outputs['pred_xyz_jts_17'] * DEPTH_SCALE_M / OWN_DEPTH_M,
            'cam_scale': OWN_FOCAL / (posed.root_m[:, 2] - d_m),
            'cam_root': posed.root_m,
            'transl': posed.root_m,
            'pred_camera': lifted.scale,
            'pred_sigma': lifted.sigmas,
        }
    return {name: np.asarray(value) for name, value in outputs.items()}


def largest_error(name: str, ours: np.ndarray, recorded: np.ndarray) -> float:
    """Returns the largest difference over max(1, largest recorded value); quaternions up to their sign."""
    ours = ours.reshape(recorded.shape)
    difference = np.abs(ours - recorded)
    if name.endswith('theta_mats') and recorded.shape[-1] == 96:
        ours, recorded = ours.reshape(-1, 4), recorded.reshape(-1, 4)
        difference = np.minimum(np.abs(ours - recorded).max(-1), np.abs(ours + recorded).max(-1))
    return float(difference.max() / max(1.0, np.abs(recorded).max()))


def compare_model(path: pathlib.Path) -> list[tuple[str, float, float]]:
    """Returns (what, error, tolerance) for every output in one `model_*.npz`; see `compare_models`."""
    recorded, weights = dict(np.load(path)), seeded_weights(path)
    images = recorded_images(recorded)
    section = model_section(path.stem, {key: array.shape for key, array in weights.items()})
    model = hybrik.create_model(section)
    create = functools.partial(hybrik.initialise, model, image_size=images.shape[1])
    variables = torch_export.from_state_dict(weights, jax.eval_shape(create, jax.random.key(0)))
    del weights

    @jax.jit
    def apply(variables: Any, images: jax.Array) -> tuple[jax.Array, Lifted]:
        def features_and_lifted(network: hybrik.HybrIK, images: jax.Array) -> tuple[jax.Array, Lifted]:
            features = network.backbone(images, training=False)
            lifted = network.lifting(features, training=False, init_betas=jnp.asarray(recorded['init_shape']))
            coarse = features[0] if isinstance(features, tuple) else features
            return coarse.mean(axis=(1, 2)), lifted

        return model.apply(variables, images, method=features_and_lifted)

    def predict(images: jax.Array) -> Lifted:
        """Returns the outputs for any multiple of two images, two at a time: one compilation."""
        pairs = [apply(variables, images[i : i + 2])[1] for i in range(0, len(images), 2)]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *pairs)

    body = load_toy_body(path.parent, int(recorded['body_seed']))
    # Images are recorded normalised: the network's own normalisation has no part here.
    network = inference.Network(
        model=model,
        image_size=images.shape[1],
        image_mean=(0.0,) * 3,
        image_std=(1.0,) * 3,
        init_betas=recorded['init_shape'],
        right_hand='released',
        camera=hybrik.camera_of(section),
    )
    pose = jax.jit(functools.partial(inference.pose, network=network))
    with jax.default_matmul_precision('highest'):
        channels, lifted = apply(variables, images)
        flipped = inference.flip_test(predict, images)
        ours = {'backbone_mean_per_channel': np.asarray(channels)}
        for prefix, crop in crops_of(recorded).items():
            ours |= {
                f'{part}{prefix}{key}': value
                for part, said in (('', lifted), ('flip_', flipped))
                for key, value in recorded_form(said, pose(said, crop, body), network.camera).items()
            }
        if network.camera == 'crop':
            # Of these the released program reports the mirrored image's, as they are; ours are means.
            mirrored = predict(images[:, :, ::-1])
            form = recorded_form(mirrored, pose(mirrored, crops_of(recorded)[''], body), network.camera)
            ours |= {f'flip_{key}': form[key] for key in form if re.fullmatch('pred_uvd.*|cam.*|transl', key)}
    unknown = sorted(key for key in set(recorded) - INPUTS - set(ours) if not key.endswith('maxvals'))
    if unknown:
        raise ValueError(f'{path.name} records {unknown}, which nothing here computes.')
    return [
        (f'{path.stem}/{key}', largest_error(key, ours[key], recorded[key]), tolerance(key, network.camera))
        for key in recorded
        if key in ours
    ]


def tolerance(key: str, camera: str | None) -> float:
    """Returns the tolerance of an output: with random weights, a scale solved again is hardly defined."""
    solved = camera == 'photo' and re.search('xyz|theta|cam_scale|cam_root|transl', key)
    return SOLVED_TOLERANCE if solved else TOLERANCE


def crops_of(recorded: Mapping[str, np.ndarray]) -> dict[str, Crop]:
    """Returns the crops of a recording's two people, by the prefix of their outputs' names."""
    if 'joint_root' in recorded:
        return {
            '': Crop(
                crop_to_photo=jnp.asarray(recorded['trans_inv']),
                inverse_intrinsics=jnp.asarray(recorded['intrinsics_inv']),
                root_m=jnp.asarray(recorded['joint_root']) / MM_PER_M,
            )
        }
    boxes = {'': (np.array([[0.0, 0, 256, 256]] * 2), np.array([[128.0, 128]] * 2))}
    if 'photo_boxes_xyxy' in recorded:
        boxes['photo_'] = recorded['photo_boxes_xyxy'], recorded['photo_centre']
    crops = {}
    for prefix, (corners, centres) in boxes.items():
        sides = corners[:, 2] - corners[:, 0]
        focal = OWN_FOCAL * sides[:, None]
        inverse = [augment.inverse_intrinsics(f.repeat(2), c) for f, c in zip(focal, centres, strict=True)]
        crops[prefix] = Crop(
            crop_to_photo=jnp.concatenate([sides[:, None, None] / 256 * np.eye(2), corners[:, :2, None]], -1),
            inverse_intrinsics=jnp.asarray(np.stack(inverse), jnp.float32),
            root_m=jnp.zeros((2, 3)),
        )
    return crops


def recordings(golden_dir: str | pathlib.Path) -> list[pathlib.Path]:
    """Returns the recorded HybrIK networks in `golden_dir`; FileNotFoundError where there are none."""
    kinds = ('model_transformer*.npz', 'model_deconv*.npz', 'model_hrnetcam*.npz')
    paths = sorted(path for kind in kinds for path in pathlib.Path(golden_dir).glob(kind))
    if not paths:
        raise FileNotFoundError(f'No {" or ".join(kinds)} in {golden_dir}.')
    return paths


def compare_models(golden_dir: str | pathlib.Path) -> list[tuple[str, float, float]]:
    """Returns (what, error, tolerance) for every output of every recorded HybrIK network in `golden_dir`.

    Args:
        golden_dir: holds `model_{transformer,deconv,hrnetcam}*.npz`, `seeded_weights.py`, `toy_body.py` and
            `state_dict.json`; any seeds will do.
    Raises:
        FileNotFoundError: if the folder holds no such recording.
        ValueError: if a recording holds an output that nothing here computes.
    """
    return [row for path in recordings(golden_dir) for row in compare_model(path)]
