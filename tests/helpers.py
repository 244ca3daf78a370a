"""What several tests share: a tiny run, a tiny dataset, people made of numbers, a trainer without its
loop.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from hybrik_jax import setup
from hybrik_jax.body import skeleton
from hybrik_jax.data import augment, pipeline, record
from hybrik_jax.metric_writer import read_metrics
from hybrik_jax.step import TrainState, parallel_train_step, replicate, split_over_devices
from hybrik_jax.synthetic import reader
from hybrik_jax.types import Batch
from tests import quick
from tests import tiny_config as tiny_config_file

ROOT = pathlib.Path(__file__).parents[1]
TIMES = {'images_per_second', 'step_seconds', 'data_wait_share'}  # in which runs differ that are the same
CROP_SIZE = 64


def tiny_config(workdir: str | pathlib.Path, data_root: str | pathlib.Path, **overrides: Any) -> ConfigDict:
    """Returns the configuration of `tests/tiny_config.py`; overrides are named like
    `optimizer__learning_rate=0.1`.
    """
    config = tiny_config_file.get_config()
    config.workdir, config.data.root = str(workdir), str(data_root)
    with config.unlocked():
        config.update_from_flattened_dict(
            {name.replace('__', '.'): value for name, value in overrides.items()}
        )
    return config.lock()


def build_tiny_data(folder: pathlib.Path) -> pathlib.Path:
    """Returns `folder` as a data root that holds the synthetic people of the tiny configuration."""
    sizes = tiny_config_file.get_config().data.synthetic.to_dict()
    reader.build(folder / 'synthetic', **sizes, workers=0)
    return folder


def run_python(*arguments: str, devices: int = 1, **options: Any) -> subprocess.Popen:
    """Starts this Python in the repository root, seeing `devices` CPU devices, with this compilation
    cache.
    """
    seen = [f'--xla_force_host_platform_device_count={devices}'] if devices > 1 else []
    environment = os.environ | {'XLA_FLAGS': ' '.join([quick.FLAGS, *seen]), 'PYTHONUNBUFFERED': '1'}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def figures(folder: str | pathlib.Path) -> dict[tuple[str, int], dict[str, float]]:
    """Returns (kind, step) -> figures of a run, times left out; each is there once."""
    rows = read_metrics(pathlib.Path(folder) / 'metrics.jsonl')
    assert len({(row['kind'], row['step']) for row in rows}) == len(rows)
    return {
        (row['kind'], row['step']): {k: v for k, v in row.items() if k not in (*TIMES, 'kind')}
        for row in rows
    }


def person(seed: int, **changes: Any) -> dict[str, Any]:
    """Returns a record that keeps to the schema: random joints in front of a random camera, on a photo of
    noise.

    Its camera is not centred, its pixels are the joints projected, its box holds them all. `changes` replace
    fields.
    """
    rng = np.random.default_rng(seed)
    width, height = 230, 200
    focal, centre = rng.uniform(260, 300, 2), np.array([width / 2 + 17, height / 2 - 11])
    root = np.array([rng.uniform(-0.3, 0.1), rng.uniform(-0.1, 0.2), rng.uniform(3.4, 4.2)])
    joints = np.concatenate([np.zeros((1, 3)), rng.uniform(-0.7, 0.7, (28, 3))])
    camera = joints + root
    pixels = camera[:, :2] / camera[:, 2:] * focal + centre
    low, high = pixels.min(0), pixels.max(0)
    h36m = np.concatenate([np.zeros((1, 3)), rng.uniform(-0.7, 0.7, (16, 3))])
    smooth = cv2.resize(rng.integers(0, 256, (20, 23, 3), np.uint8), (width, height))
    fields = record.blank() | {
        **record.whole_photo(width, height),
        'box': np.clip([*low, *high], 0, [width - 1, height - 1] * 2),
        'box_enlargement': 1.5,
        'focal': focal,
        'centre': centre,
        'camera_weight': 1.0,
        'joints_px': np.concatenate([pixels, joints[:, 2:]], 1),
        'joints_px_weight': np.ones((29, 3)),
        'joints_m': joints,
        'joints_weight': np.ones(29),
        'h36m_joints_m': h36m,
        'h36m_weight': np.ones(17),
        'root_m': root,
        'pose': rng.normal(0, 0.5, (24, 3)),
        'betas': rng.normal(0, 1, 10),
        'smpl_weight': 1.0,
        'twists': rng.uniform(-1, 1, 23),
        'twist_weight': np.ones(23),
        'visible': np.ones(29),
    }
    fields |= changes
    fields = {name: np.asarray(value, record.FEATURES[name].dtype)[()] for name, value in fields.items()}
    jpeg = cv2.imencode('.jpg', smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    texts = {
        'name': f'test/{seed:03d}',
        'dataset': 'test',
        'body': 'open_body (CC0)',
        'sequence': '',
        'action': '',
    }
    return fields | {record.IMAGE: jpeg} | texts


def without_3d(example: dict[str, Any]) -> dict[str, Any]:
    """Returns a person of which only pixels are known: no camera, no depth, no pose, as in COCO."""
    px_weight = np.array(example['joints_px_weight'])
    px_weight[:, 2] = 0
    zero = record.blank()
    known = (*record.whole_photo(1, 1), 'box', 'box_enlargement', 'joints_px', 'visible')
    return example | {k: v for k, v in zero.items() if k not in known} | {'joints_px_weight': px_weight}


def examples_of(people: list[dict[str, Any]], crop_size: int = CROP_SIZE) -> dict[str, np.ndarray]:
    """Returns the stacked, not augmented examples of records."""
    return pipeline.stack(
        [augment.make_example(p, augment.Augmentation(), crop_size=crop_size) for p in people]
    )


def batch_of(people: list[dict[str, Any]], devices: int = 1, **replaced: np.ndarray) -> Batch:
    """Returns a batch with its device axis; `replaced` are fields of the stacked examples to put in their
    place.
    """
    return split_over_devices(pipeline.to_batch(examples_of(people) | replaced), devices)


def degenerate_skeletons(uvd: np.ndarray) -> np.ndarray:
    """Returns targets (B, 29, 3) in which every second skeleton is bad.

    In turn: all joints in one point; every bone of no length but those of the root; bones turned back on
    their parents.
    """
    uvd = uvd.copy()
    uvd[0::6] = uvd[0::6, :1]
    parents = np.array(skeleton.PARENTS_29)
    for joint in range(4, 29):
        uvd[2::6, joint] = uvd[2::6, parents[joint]]
        uvd[4::6, joint] = (
            uvd[4::6, parents[parents[joint]]] if parents[parents[joint]] >= 0 else uvd[4::6, 0]
        )
    return uvd


@dataclasses.dataclass(frozen=True)
class Trainer:
    """The step of a configuration with all that it needs."""

    initial: Callable[[], TrainState]
    step: Callable  # (state, body, batch) -> (state, metrics); the state is given away
    body: Any

    def run(
        self, state: TrainState, batch: Batch, steps: int = 1
    ) -> tuple[TrainState, list[dict[str, float]]]:
        """Returns the state after `steps` updates on one batch, and the metrics of each."""
        rows = []
        for _ in range(steps):
            state, metrics = self.step(state, self.body, batch)
            rows.append({name: float(value) for name, value in metrics.items()})
        return state, rows


def trainer(config: ConfigDict) -> Trainer:
    """Returns the training step as `train.train` makes it from `config`."""
    body = setup.load_body(config)
    network = setup.create_network(config, body)
    total_steps = round(config.num_epochs * config.steps_per_epoch)
    settings = setup.step_settings(config, network, total_steps, config.steps_per_epoch)
    return Trainer(
        initial=lambda: replicate(setup.initial_state(config, network)),
        step=parallel_train_step(**settings),
        body=replicate(setup.body_of_step(config, body)),
    )


def all_finite(tree: Any) -> bool:
    """Returns whether every number in a tree of arrays is finite."""
    return all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(tree))


def largest_difference(a: Any, b: Any) -> float:
    """Returns the largest absolute difference between two trees of arrays of one structure."""
    pairs = jax.tree.map(lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max()), a, b)
    return max(jax.tree.leaves(pairs))
