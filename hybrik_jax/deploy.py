"""A predictor's network for other programs: which arrays it takes and gives, and what is said about it.

Crops in, posed bodies out: normalising, lifting, the camera's geometry and inverse kinematics are inside;
finding people and cutting crops are not. `export.stablehlo` and `export.onnx` write it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import hybrik_jax
from hybrik_jax import config as configuration
from hybrik_jax import inference
from hybrik_jax.body import camera, rotations, skeleton, smpl, smpl_file
from hybrik_jax.export.deployable import Array, Deployable
from hybrik_jax.photo import ENLARGEMENT, OWN_CAMERAS
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Crop
from hybrik_jax.units import DEPTH_SCALE_M

CONVENTIONS = (
    'lengths in metres; camera axes x right, y down, z forward; pixels of the photo, pixel centres at '
    'integers; rotations relative to the parent joint, that of joint 0 from model axes to camera axes'
)
CROP = (
    'Of the box x y w h of a person: middle = (x + (w - 1) / 2, y + (h - 1) / 2), side = enlargement * '
    '(max(w, h) - 1), s = side / size; crop_to_photo = [[s, 0, middle_x - side / 2], [0, s, middle_y - side '
    '/ 2]]; image = cv2.warpAffine(photo, crop_to_photo, (size, size), flags=cv2.INTER_LINEAR | '
    'cv2.WARP_INVERSE_MAP) of the RGB photo.'
)
FREE_BODY = (
    'The body in this file is the free one that comes with hybrik_jax (CC0). The parameters may be passed on '
    'as the data that they were trained on allow: see checkpoint.trained_on and its licences.'
)
LICENSED_BODY = (
    'This file contains data of the body model {name}, and its parameters were trained with it: the body '
    "model's licence says who may have it. SMPL's (smpl.is.tue.mpg.de) does not allow to pass it on: do not "
    'redistribute this file.'
)


def deployable(predictor: Predictor, *, vertices: bool = False) -> Deployable:
    """Returns a predictor's network, body and flip test as a function of arrays; it computes in float32.

    Args:
        vertices: give the mesh, too.
    """
    variables, body = predictor.run.state.parameters(predictor.parameters), predictor.body
    network = dataclasses.replace(
        predictor.network, model=_in_float32(predictor.network.model), align_by='quaternion'
    )

    def function(
        image: jax.Array,
        crop_to_photo: jax.Array,
        inverse_intrinsics: jax.Array,
        root_depth_m: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        if root_depth_m is None:  # the network tells it
            root_depth_m = jnp.zeros_like(crop_to_photo[:, 0, 0])
        root_m = root_depth_m[:, None] * jnp.array([0.0, 0.0, 1.0])
        crop = Crop(crop_to_photo=crop_to_photo, inverse_intrinsics=inverse_intrinsics, root_m=root_m)
        lifted = inference.lift(network, variables, image, flip=predictor.flip)
        posed = inference.pose(lifted, crop, body, network=network, skinned=vertices)
        crop_px = (lifted.uvd[..., :2] + 0.5) * network.image_size
        turned = rotations.rotate(crop_to_photo[:, None, :, :2], crop_px)
        if posed.root_m is None:
            place = jax.vmap(_seen_root, (0, 0, None))
            root_m = place(lifted.uvd[:, :1], crop, network.image_size)
        else:
            root_m = posed.root_m
        outputs = {
            'rotations': posed.rotations,
            'betas': posed.betas,
            'joints_m': posed.posed_joints_m,
            'joints_px': turned + crop_to_photo[:, None, :, 2],
            'root_m': root_m,
        }
        return outputs | ({'vertices_m': posed.vertices_m} if vertices else {})

    return Deployable(
        function=function,
        inputs=_inputs(network),
        outputs=_outputs(function, network, body),
        about=_about(predictor),
    )


def _in_float32(model: Any) -> Any:
    """Returns a Flax network that computes in float32, whatever it did in training."""
    parts = {name: getattr(model, name).clone(dtype=jnp.float32) for name in ('backbone', 'lifting')}
    return model.clone(**parts)


def _seen_root(uvd: jax.Array, crop: Crop, crop_size: int) -> jax.Array:
    """Returns where a crop's root (3,) is, camera frame, of its joint 0 (1, 3) as lifted."""
    (ray,) = camera.rays_of(uvd, crop.crop_to_photo, crop.inverse_intrinsics, crop_size)
    return ray * (DEPTH_SCALE_M * uvd[0, 2] + crop.root_m[2])


def _inputs(network: inference.Network) -> tuple[Array, ...]:
    size = network.image_size
    of_camera = 'homogeneous pixels of the photo -> ray with z = 1: the inverse of its camera matrix'
    if network.camera in OWN_CAMERAS:
        of_camera += '; the network looks with a camera of its own, this one says where root_m is'
    inputs = (
        Array('image', (size, size, 3), 'uint8', 'RGB crop, 0 to 255: normalising is done inside'),
        Array('crop_to_photo', (2, 3), 'float32', 'affine map, pixels of the crop -> pixels of the photo'),
        Array('inverse_intrinsics', (3, 3), 'float32', of_camera),
    )
    if network.camera:
        return inputs
    of_depth = (
        "distance of the pelvis from the camera's plane, metres; where nobody knows it, 2 * focal length / "
        "side of the crop's square on the photo, both in pixels"
    )
    return (*inputs, Array('root_depth_m', (), 'float32', of_depth))


def _outputs(function: Any, network: inference.Network, body: smpl.SMPL) -> tuple[Array, ...]:
    """Returns what the function gives, with the shapes that it has."""
    meanings = {
        'rotations': 'local rotation matrices of the 24 joints',
        'betas': f'shape coefficients of the body model {body.name}',
        'joints_m': 'the 24 joints of the posed body, metres, camera axes, relative to joint 0',
        'joints_px': "the network's 2D joints, pixels of the photo: the 24"
        ' and, where there are 29, head top, left and right middle finger and big toe',
        'root_m': 'where joint 0 is, metres, camera frame; add it to joints and vertices',
        'vertices_m': 'the mesh, metres, camera axes, relative to joint 0',
    }
    arguments = [jax.ShapeDtypeStruct((1, *one.shape), np.dtype(one.kind)) for one in _inputs(network)]
    shapes = jax.eval_shape(function, *arguments)
    return tuple(
        Array(name, shapes[name].shape[1:], str(shapes[name].dtype), meaning)
        for name, meaning in meanings.items()
        if name in shapes
    )


def _about(predictor: Predictor) -> dict[str, Any]:
    config, network = predictor.run.config, predictor.network
    free = str(predictor.body.name) == str(smpl_file.load_body().name)
    return {
        'producer': f'hybrik_jax {hybrik_jax.__version__}',
        'conventions': CONVENTIONS,
        'joint_names': list(skeleton.JOINT_NAMES),
        'parents': list(skeleton.PARENTS),
        'crop': {'size': network.image_size, 'enlargement': ENLARGEMENT, 'how': CROP},
        'normalisation': {
            'where': 'inside: (image / 255 - mean) / std',
            'mean': list(network.image_mean),
            'std': list(network.image_std),
        },
        'network': {
            'backbone': config['model']['backbone']['name'],
            'lifting': config['model']['lifting'],
            'camera': network.camera,
            'flip_test': predictor.flip,
        },
        'checkpoint': {
            'folder': predictor.run.folder.name,
            'step': predictor.run.step,
            'parameters': predictor.parameters,
            'config_hash': configuration.digest(config),
            'trained_on': [name for name, share in config['data']['mixture'].items() if share > 0],
            'synthetic_only': predictor.synthetic_only,
        },
        'body_model': str(predictor.body.name),
        'licence': FREE_BODY if free else LICENSED_BODY.format(name=predictor.body.name),
    }


def trial_inputs(network: Deployable, people: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns inputs of so many people that mean nothing but fit together: noise, seen from 3 to 6 metres."""
    rng = np.random.default_rng(seed)
    size, focal_px = network.inputs[0].shape[0], 1000.0
    depth_m = rng.uniform(3.0, 6.0, people)
    scale = 2 * focal_px / depth_m / size
    crop_to_photo = np.zeros((people, 2, 3))
    crop_to_photo[:, 0, 0] = crop_to_photo[:, 1, 1] = scale
    crop_to_photo[:, :, 2] = rng.uniform(0.0, 500.0, (people, 2))
    camera_matrix = np.array([[focal_px, 0.0, 640.0], [0.0, focal_px, 360.0], [0.0, 0.0, 1.0]])
    drawn = {
        'image': rng.integers(0, 256, (people, size, size, 3)),
        'crop_to_photo': crop_to_photo,
        'inverse_intrinsics': np.tile(np.linalg.inv(camera_matrix), (people, 1, 1)),
        'root_depth_m': depth_m,
    }
    return {one.name: drawn[one.name].astype(one.kind) for one in network.inputs}
