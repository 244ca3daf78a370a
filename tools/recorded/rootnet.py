"""RootNet against its recorded outputs: crops, the distance of a 2 m square, and the whole network."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np

from hybrik_jax.export import torch as torch_export
from hybrik_jax.model import hybrik
from hybrik_jax.photo import Request
from hybrik_jax.roots import frame_roots
from hybrik_jax.units import MM_PER_M
from tools.recorded.model import largest_error, network_like, recorded_images, seeded_weights

FOCAL_PX = 1500.0  # of the recorded distances
IMAGE_SIZE = 256  # side of its crops
HEAT_MAP = 64  # cells along a side: the unit of recorded places
# Both sides compute in float32, sixty layers deep, in different orders; measured here are 2e-6.
TOLERANCE = 1e-4
CROP_TOLERANCE = 1e-6  # numpy on both sides; ours keeps boxes in float32


def recorded_coord(
    model: hybrik.HybrIK, variables: Any, images: jax.Array, square_mm: np.ndarray
) -> np.ndarray:
    """Returns column and row of the heat map and the depth in millimetres, (B, 3), as recordings have them.

    Args:
        images: (B, S, S, 3), normalised.
        square_mm: (B, 1) distance of the 2 m square.
    """
    apply = jax.jit(lambda variables, images: model.apply(variables, images, training=False, init_betas=None))
    with jax.default_matmul_precision('highest'):
        rooted = apply(variables, images)
    return np.concatenate([(rooted.uv + 0.5) * HEAT_MAP, rooted.depth_ratio[:, None] * square_mm], 1)


def compare_outputs(coord: np.ndarray, recorded: dict[str, np.ndarray]) -> list[tuple[str, float, float]]:
    """Returns (what, error, tolerance) of place and depth: each relative to its own largest value."""
    parts = {'place': np.s_[:, :2], 'depth': np.s_[:, 2:]}
    return [
        (f'model_rootnet/{name}', largest_error(name, coord[part], recorded['coord'][part]), TOLERANCE)
        for name, part in parts.items()
    ]


def compare_crops(recorded: dict[str, np.ndarray]) -> list[tuple[str, float, float]]:
    """Returns (what, error, tolerance) of the crops of recorded boxes and of their distances."""
    width, height = recorded['image_size'].tolist()
    photo = np.zeros((height, width, 3), np.uint8)
    request = Request(photo=photo, boxes=recorded['boxes_xywh'], intrinsics=FOCAL_PX)
    views = [one.view for one in frame_roots(request, IMAGE_SIZE)]
    scaled = [view.crop_to_photo @ [[0, IMAGE_SIZE], [0, IMAGE_SIZE], [1, 0]] for view in views]
    ours = {
        'crop_boxes_xywh': np.array([square.T.ravel() for square in scaled]),
        'crop_k': MM_PER_M * np.array([view.root_depth_m for view in views]),
    }
    return [
        (f'model_rootnet/{name}', largest_error(name, value, recorded[name]), CROP_TOLERANCE)
        for name, value in ours.items()
    ]


def compare_rootnet(golden_dir: str | pathlib.Path) -> list[tuple[str, float, float]]:
    """Returns (what, error, tolerance) for everything in `model_rootnet_resnet50.npz` of `golden_dir`.

    Raises:
        FileNotFoundError: if it is not there.
    """
    path = pathlib.Path(golden_dir) / 'model_rootnet_resnet50.npz'
    recorded, weights = dict(np.load(path)), seeded_weights(path)
    model = network_like(path.stem, {key: array.shape for key, array in weights.items()})
    images = recorded_images(recorded)
    create = functools.partial(hybrik.initialise, model, image_size=images.shape[1])
    variables = torch_export.from_state_dict(weights, jax.eval_shape(create, jax.random.key(0)))
    coord = recorded_coord(model, variables, images, recorded['k_value'])
    return compare_outputs(coord, recorded) + compare_crops(recorded)
