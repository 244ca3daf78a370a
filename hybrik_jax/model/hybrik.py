"""HybrIK networks, and the way from what they say to a posed body."""
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hybrik_jax.body import camera, ik, skeleton, smpl
from hybrik_jax.model.deconv import DeconvLifting
from hybrik_jax.model.lifting import NUM_BETAS, TransformerLifting
from hybrik_jax.model.resnet import ResNet
from hybrik_jax.types import BodyPrediction, Crop, Lifted


class HybrIK(nn.Module):
    """A backbone and a lifting network: images (B, H, W, 3), normalised, and a mean shape (10,) -> `Lifted`.

    backbone: called with (images, training=...), gives a feature map.
    lifting: called with (feature map, training=..., init_betas=...), gives a `Lifted`.

    Random streams needed in training: 'dropout', and for the Transformer with patch sampling 'patch_count'
    (same key on every device) and 'patches' (a different one on every device). Training changes
    'batch_stats'.
    """
    backbone: nn.Module
    lifting: nn.Module

    def __call__(self, images: jax.Array, *, training: bool, init_betas: jax.Array) -> Lifted:
        features = self.backbone(images, training=training)
        return self.lifting(features, training=training, init_betas=init_betas)

    def features(self, images: jax.Array) -> jax.Array:
        """Returns the feature map at inference: `model.apply(variables, images, method='features')`."""
        return self.backbone(images, training=False)


def create_model(config: Any, *, axis_name: str | None = None) -> HybrIK:
    """Returns the network that `config`, the section `model` of a configuration, describes.

    Keys read: `lifting` ('transformer' or 'deconv'); `backbone.{depth, width, dtype, remat, sync_batch_norm}`;
    `transformer.{variant, num_blocks, num_heads, width, ffn_width, ffn_depth, dropout, leaf_tokens,
    patch_sampling, remat, dtype}`; `deconv.{num_joints, width, depth_bins, dropout, dtype}`. Types are names
    such as 'float32' or 'bfloat16'.

    Args:
        axis_name: of the device axis, used where `backbone.sync_batch_norm` asks for it.
    Raises:
        ValueError: if `lifting` names no lifting network, or batch statistics shall be shared and no axis is
            named.
    """
    if config.backbone.sync_batch_norm and axis_name is None:
        raise ValueError('model.backbone.sync_batch_norm=True needs the device axis: pass axis_name.')
    statistics_axis = axis_name if config.backbone.sync_batch_norm else None
    backbone = ResNet(depth=config.backbone.depth, width=config.backbone.width, remat=config.backbone.remat,
                      axis_name=statistics_axis, dtype=jnp.dtype(config.backbone.dtype))
    if config.lifting == 'transformer':
        options = dict(config.transformer)
        lifting = TransformerLifting(**{**options, 'dtype': jnp.dtype(options['dtype'])})
    elif config.lifting == 'deconv':
        options = dict(config.deconv)
        lifting = DeconvLifting(**{**options, 'dtype': jnp.dtype(options['dtype'])},
                                axis_name=statistics_axis)
    else:
        raise ValueError(f"model.lifting={config.lifting!r}: choose 'transformer' or 'deconv'.")
    return HybrIK(backbone=backbone, lifting=lifting)


def initialise(model: HybrIK, key: jax.Array, *, image_size: int) -> dict[str, Any]:
    """Returns fresh variables, {'params': ..., 'batch_stats': ...}, for square images of `image_size` pixels.

    The position tables of the Transformer have `image_size` / 32 rows: variables fit one image size.
    """
    images = jnp.zeros((1, image_size, image_size, 3))
    betas = jnp.zeros(NUM_BETAS)
    return jax.jit(lambda key: model.init(key, images, training=False, init_betas=betas))(key)


def normalise_image(images: jax.Array, *, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Returns (image / 255 - mean) / std, shape unchanged, float32 (float64 stays float64).

    Args:
        images: (..., 3) RGB in 0..255, uint8 or float.
        mean, std: per channel, in RGB order, of images in [0, 1].
    """
    images = jnp.asarray(images)
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    return (images.astype(dtype) / 255.0 - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def mirror_lifted(lifted: Lifted) -> Lifted:
    """Returns `lifted` of the mirror image: left and right swapped, u negated, turns reversed."""
    joints = (skeleton.MIRROR_JOINTS if lifted.uvd.shape[-2] == skeleton.NUM_JOINTS
              else skeleton.MIRROR_JOINTS_29)
    leaves = lifted.leaf_quaternions
    if leaves is not None:
        leaves = leaves[..., np.array(skeleton.MIRROR_LEAVES), :] * jnp.array([1.0, 1.0, -1.0, -1.0])
    return Lifted(uvd=lifted.uvd[..., np.array(joints), :] * jnp.array([-1.0, 1.0, 1.0]),
                  twists=lifted.twists[..., np.array(skeleton.MIRROR_TWISTS), :] * jnp.array([1.0, -1.0]),
                  leaf_quaternions=leaves, betas=lifted.betas)


def flip_test(predict: Callable[[jax.Array], Lifted], images: jax.Array) -> Lifted:
    """Returns the mean of what `predict` says of the images and, mirrored back, of their mirror images.

    Args:
        predict: images (B, H, W, 3) -> `Lifted`.
        images: (B, H, W, 3). Both halves go through `predict` in one batch of 2 B.
    """
    both = predict(jnp.concatenate([images, images[:, :, ::-1]]))
    straight = jax.tree.map(lambda x: x[:len(images)], both)
    mirrored = mirror_lifted(jax.tree.map(lambda x: x[len(images):], both))
    return jax.tree.map(lambda a, b: (a + b) / 2.0, straight, mirrored)


def body_from_lifted(lifted: Lifted, crop: Crop, body: smpl.SMPL, *, training: bool, crop_size: int,
                     right_hand: str, skinned: bool = True) -> BodyPrediction:
    """Returns the posed bodies that `lifted` describes: camera, inverse kinematics, skinning.

    Args:
        lifted: a batch.
        crop: of the same batch. Where the camera is unknown (zero inverse intrinsics) all joints are zero and
            every gradient is finite.
        training: use the solver's training form (no singular value decomposition).
        crop_size: side of the crop, pixels.
        right_hand: 'leaf', or 'released' for released checkpoints; see `body.ik.solve`.
        skinned: False leaves out vertices and Human3.6M joints; SMPL's joints then come from forward
            kinematics.
    """
    def one_person(lifted: Lifted, crop: Crop) -> BodyPrediction:
        joints_m = camera.uvd_to_camera(lifted.uvd, crop.crop_to_photo, crop.inverse_intrinsics, crop.root_m,
                                        crop_size=crop_size)
        rest_m = smpl.rest_joints(body, lifted.betas)
        rotations = ik.solve(joints_m, lifted.twists, rest_m, lifted.leaf_quaternions, training=training,
                             right_hand=right_hand)
        vertices_m = h36m_joints_m = None
        if skinned:
            posed = smpl.skin(body, lifted.betas, rotations)
            smpl_joints_m, pelvis = posed.joints, posed.joints[0]
            if posed.h36m_joints is not None:
                pelvis = posed.h36m_joints[0]
                h36m_joints_m = posed.h36m_joints - pelvis
            vertices_m = posed.vertices - pelvis
        else:
            smpl_joints_m = ik.forward_kinematics(rotations, rest_m)
        return BodyPrediction(joints_m=joints_m, rotations=rotations, betas=lifted.betas,
                              vertices_m=vertices_m, smpl_joints_m=smpl_joints_m - smpl_joints_m[0],
                              h36m_joints_m=h36m_joints_m)

    return jax.vmap(one_person)(lifted, crop)
