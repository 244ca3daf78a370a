"""What tests of commands share: a run with random parameters, a predictor that tells the truth, a photo."""

import copy
import json
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import synthetic as synthetic_config
from hybrik_jax import config as configuration
from hybrik_jax import inference, setup
from hybrik_jax.body import rotations as rot
from hybrik_jax.body import skeleton
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.data import augment, pipeline
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Lifted
from hybrik_jax.units import DEPTH_SCALE_M

# What a small run changes in configs/synthetic.py.
SMALL = {
    'image_size': 64,
    'model.backbone.depth': 18,
    'model.transformer.num_blocks': 1,
    'model.transformer.width': 64,
    'model.transformer.ffn_width': 64,
}


def run_config(workdir: pathlib.Path, data_root: pathlib.Path) -> ConfigDict:
    """Returns the configuration of a small run on synthetic people."""
    config = synthetic_config.get_config()
    config.workdir = str(workdir)
    config.data.root = str(data_root)
    config.update_from_flattened_dict(SMALL)
    return config


def write_run(workdir: pathlib.Path, data_root: pathlib.Path) -> pathlib.Path:
    """Returns the workdir of a run that was stopped before its first step."""
    config = run_config(workdir, data_root)
    network = setup.create_network(config, setup.load_body(config))
    checkpoints = Checkpoints(workdir)
    checkpoints.save(setup.initial_state(config, network), configuration.plain(config))
    checkpoints.close()
    (workdir / 'config.json').write_text(json.dumps(configuration.plain(config)))
    return workdir


def write_photo(path: pathlib.Path, width: int = 160, height: int = 120) -> pathlib.Path:
    """Returns the path of a drawn photo of something like a person."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 8, 3), np.uint8)
    photo = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    centre, axes = (width // 2, height // 2), (width // 10, 3 * height // 8)
    cv2.ellipse(photo, centre, axes, 0, 0, 360, (40, 60, 200), -1)
    cv2.imwrite(str(path), photo)
    return path


def telling_the_truth(predictor: Predictor, records: list[dict]) -> Predictor:
    """Returns a predictor that says, whatever it sees, what the labels of the records are."""
    size = predictor.network.image_size
    lifted = []
    for record in records:
        row = pipeline.evaluation_example(record, crop_size=size)
        affine = augment.invert_affine(row['crop_to_photo'])
        on_crop = record['joints_px'][:, :2] @ affine[:, :2].T + affine[:, 2]
        depth = record['joints_px'][:, 2:] / DEPTH_SCALE_M
        lifted.append(
            Lifted(
                uvd=np.concatenate([on_crop / size - 0.5, depth], 1)[: skeleton.NUM_JOINTS],
                twists=row['twists'],
                leaf_quaternions=row['quaternions'][list(skeleton.LEAF_JOINTS)],
                betas=row['betas'],
            )
        )
    batch = jax.tree.map(lambda *rows: jnp.stack([jnp.asarray(x, jnp.float32) for x in rows]), *lifted)

    def forward(images, crop):
        posed = inference.pose(batch, crop, predictor.body, network=predictor.network)
        axis_angles = jax.vmap(jax.vmap(rot.matrix_to_axis_angle))(posed.rotations)
        return jax.tree.map(np.asarray, (batch, posed, axis_angles))

    true = copy.copy(predictor)
    true.forward = forward
    return true
