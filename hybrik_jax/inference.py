"""The forward pass, whoever calls it: images -> `Lifted` -> `Posed`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import camera, ik, skeleton, smpl
from hybrik_jax.body import rotations as rot
from hybrik_jax.model.hybrik import HybrIK, camera_of, create_model, normalisation_of
from hybrik_jax.model.volumes import expected_uvd, mirrored_columns
from hybrik_jax.types import Crop, Lifted, Posed, Rooted
from hybrik_jax.units import DEPTH_SCALE_M

BATCH_SIZES = (1, 4, 32)  # batches are filled up to one of these: so many compilations at the most


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with what its forward pass needs beside variables and body.

    model: the Flax module.
    image_size: side of its crops, pixels.
    image_mean, image_std: (3,) RGB, of images in [0, 1].
    init_betas: (10,) the mean shape, which its shape is added to.
    right_hand: 'leaf', or 'released' for released checkpoints; see `body.ik.solve`.
    camera: None where a root depth must be known; otherwise the network tells the crop's scale, and looks
        'scale': with the data's camera; 'crop', 'photo': with one of its own, of 1000 px for a crop of 256
        px, whose axis goes through the middle of the crop, or through the photo's principal point: that one
        solves its scale again, once it knows the body.
    of_roots: whether it is a RootNet, which says `Rooted` in place of `Lifted`.
    align_by: how the solver finds the root's rotation, see `body.rotations.kabsch`.
    """

    model: HybrIK
    image_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    init_betas: np.ndarray
    right_hand: str
    camera: str | None = None
    of_roots: bool = False
    align_by: str = 'svd'


def create_network(config: Any, init_betas: np.ndarray, *, axis_name: str | None = None) -> Network:
    """Returns the network of `config.model` and `config.image_size`.

    Args:
        init_betas: (10,) the mean shape.
        axis_name: of the device axis, in training; None: batch statistics are not shared.
    """
    if axis_name is None and config.model.backbone.sync_batch_norm:
        config = config.copy_and_resolve_references()
        config.model.backbone.sync_batch_norm = False
    image_mean, image_std = normalisation_of(config.model)
    return Network(
        model=create_model(config.model, axis_name=axis_name),
        image_size=config.image_size,
        image_mean=image_mean,
        image_std=image_std,
        init_betas=np.asarray(init_betas, np.float32),
        right_hand=config.model.right_hand,
        camera=camera_of(config.model),
        of_roots=config.model.lifting == 'rootnet',
    )


def forward(
    network: Network,
    variables: Any,
    body: smpl.SMPL,
    images: jax.Array,
    crop: Crop,
    *,
    flip: bool = False,
    skinned: bool = True,
) -> tuple[Lifted, Posed]:
    """Returns what the network says of a batch of crops, and the bodies that follow from it.

    Args:
        images: (B, S, S, 3) uint8 RGB.
        crop: of the same batch.
        flip: average with what the network says of the mirror images.
        skinned: see `pose`.
    """
    lifted = lift(network, variables, images, flip=flip)
    return lifted, pose(lifted, crop, body, network=network, skinned=skinned)


def lift(network: Network, variables: Any, images: jax.Array, *, flip: bool = False) -> Lifted | Rooted:
    """Returns what the network says of images (B, S, S, 3) uint8 RGB; arguments as in `forward`."""

    def predict(images: jax.Array) -> Lifted:
        init_betas = jnp.asarray(network.init_betas)
        return network.model.apply(variables, images, training=False, init_betas=init_betas)

    images = normalise(images, network)
    return flip_test(predict, images) if flip else predict(images)


def locate(
    network: Network, variables: Any, images: jax.Array, crop: Crop, *, flip: bool = False
) -> jax.Array:
    """Returns the root joints (B, 3) that a RootNet sees, camera frame, metres; arguments as in `forward`."""
    return place_roots(lift(network, variables, images, flip=flip), crop, crop_size=network.image_size)


def place_roots(rooted: Rooted, crop: Crop, *, crop_size: int) -> jax.Array:
    """Returns the root joints (B, 3) that `rooted` describes, camera frame, metres.

    Args:
        crop: of the same batch; its root is not looked at. Where the camera is unknown, roots are zero.
    """

    def one_root(rooted: Rooted, crop: Crop) -> jax.Array:
        (ray,) = camera.rays_of(rooted.uv[None], crop.crop_to_photo, crop.inverse_intrinsics, crop_size)
        square_m = camera.square_depth(crop.crop_to_photo, crop.inverse_intrinsics, crop_size)
        return ray * rooted.depth_ratio * square_m

    return jax.vmap(one_root)(rooted, crop)


def square_roots(crop: Crop, *, crop_size: int) -> jax.Array:
    """Returns roots (B, 3) in the middle of their crops, at the depth at which a square of 2 m fills them."""
    count = crop.root_m.shape[0]
    middle = Rooted(uv=jnp.zeros((count, 2)), depth_ratio=jnp.ones(count))
    return place_roots(middle, crop, crop_size=crop_size)


def in_batches(function: Callable, *arrays: Any) -> Any:
    """Returns what a function says of examples, called with batches of one of `BATCH_SIZES`; NumPy arrays.

    Args:
        function: of trees of arrays with a leading axis B, gives one of such.
        arrays: the same with a leading axis of any length but zero. Batches are filled up, or it is split.
    """
    total, parts, start = len(jax.tree.leaves(arrays)[0]), [], 0
    while start < total:
        left = total - start
        # The least size that holds everybody left, where that is not mostly filling, or a smaller one.
        fitting = [size for size in BATCH_SIZES if left <= size <= 2 * left]
        size = fitting[0] if fitting else max(size for size in BATCH_SIZES if size <= left)
        count = min(size, left)
        rows = start + np.minimum(np.arange(size), count - 1)
        outputs = function(*jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], arrays))
        parts.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], outputs))
        start += count
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def normalise(images: jax.Array, network: Network) -> jax.Array:
    """Returns (image / 255 - mean) / std, shape unchanged, float32 (float64 stays float64).

    Images are (..., 3) RGB in 0..255, uint8 or float.
    """
    images = jnp.asarray(images)
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    mean, std = jnp.asarray(network.image_mean, dtype), jnp.asarray(network.image_std, dtype)
    return (images.astype(dtype) / 255.0 - mean) / std


def flip_test(predict: Callable[[jax.Array], Any], images: jax.Array) -> Any:
    """Returns the mean of what `predict` says of the images and, mirrored back, of their mirror images.

    Images are (B, H, W, 3); both halves go through `predict` in one batch of 2 B.
    """
    both = predict(jnp.concatenate([images, jnp.flip(images, 2)]))
    count = images.shape[0]
    straight, mirrored = (
        jax.tree.map(lambda x, k=k: jax.lax.slice_in_dim(x, k * count, (k + 1) * count), both)
        for k in range(2)
    )
    mirrored = mirror_lifted(mirrored)
    mean = jax.tree.map(lambda a, b: (a + b) / 2.0, straight, mirrored)
    if isinstance(mean, Rooted) or mean.scale is None:
        return mean
    scale = 2.0 / (1.0 / straight.scale + 1.0 / mirrored.scale)
    uvd = mean.uvd
    if mean.translation is not None:  # joints are averaged in the camera's frame, not in the crop
        depths = [
            DEPTH_SCALE_M * one.uvd[..., 2:] + camera.OWN_FOCAL / one.scale[:, None, None]
            for one in (straight, mirrored)
        ]
        seen = straight.uvd[..., :2] * depths[0] + mirrored.uvd[..., :2] * depths[1]
        uvd = jnp.concatenate([seen / (depths[0] + depths[1]), uvd[..., 2:]], axis=-1)
    return dataclasses.replace(mean, uvd=uvd, scale=scale)


def mirror_lifted(lifted: Lifted | Rooted) -> Lifted | Rooted:
    """Returns `lifted` of the mirror image: left and right swapped, u negated, turns reversed."""
    if isinstance(lifted, Rooted):
        return Rooted(uv=lifted.uv * jnp.array([-1.0, 1.0]), depth_ratio=lifted.depth_ratio)
    joints = skeleton.MIRROR_JOINTS_29 if lifted.uvd.shape[-2] == 29 else skeleton.MIRROR_JOINTS
    leaves = lifted.leaf_quaternions
    if leaves is not None:
        leaves = leaves[..., np.array(skeleton.MIRROR_LEAVES), :] * jnp.array([1.0, 1.0, -1.0, -1.0])
    uvd = lifted.uvd * jnp.array([-1.0, 1.0, 1.0])
    columns, sigmas, translation = lifted.columns, lifted.sigmas, lifted.translation
    if columns is not None:
        columns = mirrored_columns(columns)
        uvd = expected_uvd(columns)
        columns = columns[..., np.array(joints), :, :]
    return Lifted(
        uvd=uvd[..., np.array(joints), :],
        twists=lifted.twists[..., np.array(skeleton.MIRROR_TWISTS), :] * jnp.array([1.0, -1.0]),
        leaf_quaternions=leaves,
        betas=lifted.betas,
        scale=lifted.scale,
        translation=None if translation is None else translation * jnp.array([-1.0, 1.0]),
        sigmas=None if sigmas is None else sigmas[..., np.array(joints)],
        columns=columns,
    )


def pose(
    lifted: Lifted,
    crop: Crop,
    body: smpl.SMPL,
    *,
    network: Network,
    training: bool = False,
    skinned: bool = True,
) -> Posed:
    """Returns the posed bodies that `lifted` describes: camera, inverse kinematics, skinning.

    Args:
        crop: of the same batch. Where the camera is unknown (zero inverse intrinsics) all joints are zero and
            every gradient is finite.
        training: use the solver's training form (no singular value decomposition).
        skinned: False leaves out the vertices.
    """

    def one_person(lifted: Lifted, crop: Crop) -> Posed:
        rest_m = smpl.rest_joints(body, lifted.betas)
        root_m = None
        if network.camera:
            crop, root_m = _own_view(lifted, crop, rest_m, network=network, training=training)
        placed = crop.crop_to_photo, crop.inverse_intrinsics, crop.root_m
        joints_m = camera.uvd_to_camera(lifted.uvd, *placed, crop_size=network.image_size)
        form = 'training' if training else 'evaluation'
        how = {'form': form, 'right_hand': network.right_hand, 'align_by': network.align_by}
        solve = functools.partial(ik.solve, **how)
        rotations = solve(joints_m, lifted.twists, rest_m, lifted.leaf_quaternions)
        skin = smpl.skin(body, lifted.betas, rotations, mesh=skinned)
        root = skin.joints[0]
        return Posed(
            lifted_joints_m=joints_m,
            rotations=rotations,
            betas=lifted.betas,
            posed_joints_m=skin.joints - root,
            h36m_joints_m=None if skin.h36m_joints is None else skin.h36m_joints - root,
            vertices_m=skin.vertices - root if skinned else None,
            root_m=root_m,
        )

    if skinned:
        return smpl.each_person(one_person, lifted, crop)
    return jax.vmap(one_person)(lifted, crop)


def _own_view(
    lifted: Lifted, crop: Crop, rest_m: jax.Array, *, network: Network, training: bool
) -> tuple[Crop, jax.Array]:
    """Returns one person's crop as the network's camera sees it, and where that is in the crop's own camera.

    No gradient goes to the scale: it has a term of the loss. The second result is joint 0, (3,), metres.
    """
    size, scale = network.image_size, jax.lax.stop_gradient(lifted.scale)
    inverse = crop.inverse_intrinsics
    if network.camera != 'scale':
        of_photo = network.camera == 'photo'
        inverse = camera.own_intrinsics(crop.crop_to_photo, inverse, crop_size=size, of_photo=of_photo)
    square_m = camera.square_depth(crop.crop_to_photo, inverse, size)
    depth_m = camera.depth_of_scale(scale, square_m)
    rays = camera.rays_of(lifted.uvd, crop.crop_to_photo, inverse, size)
    d_m = DEPTH_SCALE_M * lifted.uvd[:, 2:]
    if network.camera == 'photo' and not training:
        joints_m = rays * (d_m + depth_m)
        rotations = ik.solve(joints_m - joints_m[:1], lifted.twists, rest_m, form='naive')
        body_m = ik.forward_kinematics(rotations, rest_m)
        at_m = body_m - body_m[:1] + jnp.append(joints_m[0, :2], d_m[0])
        sigmas = lifted.sigmas[: len(at_m)]
        depth_m = camera.fitted_depth(rays[: len(at_m)], at_m, at_m[:, 2], sigmas, depth_m)
        scale = square_m / (camera.SQUARE_M * depth_m)
    own = Crop(
        crop_to_photo=crop.crop_to_photo,
        inverse_intrinsics=inverse,
        root_m=jnp.stack([jnp.zeros_like(depth_m)] * 2 + [depth_m]),
    )
    true_square_m = camera.square_depth(crop.crop_to_photo, crop.inverse_intrinsics, size)
    ray = camera.rays_of(lifted.uvd[:1], crop.crop_to_photo, crop.inverse_intrinsics, size)[0]
    return own, ray * (d_m[0] + camera.depth_of_scale(scale, true_square_m))


def label_vertices(body: smpl.SMPL, betas: jax.Array, quaternions: jax.Array) -> jax.Array:
    """Returns the vertices (B, V, 3) of labelled bodies, relative to SMPL's joint 0, metres.

    Args:
        betas, quaternions: (B, 10), (B, 24, 4) (w, x, y, z) local rotations, as in `Batch`.
    """

    def one_person(betas: jax.Array, quaternions: jax.Array) -> jax.Array:
        skin = smpl.skin(body, betas, jax.vmap(rot.quaternion_to_matrix)(quaternions))
        return skin.vertices - skin.joints[0]

    return smpl.each_person(one_person, betas, quaternions)
