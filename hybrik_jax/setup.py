"""From a configuration to the things that training and evaluation work with; every check of a
configuration.
"""

import dataclasses
import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from hybrik_jax.body import smpl, smpl_file
from hybrik_jax.data import augment, store
from hybrik_jax.export import torch as torch_export
from hybrik_jax.model.hybrik import HybrIK, create_model
from hybrik_jax.step import (
    AXIS,
    TrainState,
    create_optimizer,
    create_state,
    fresh_state,
    inverse_square_root,
    parallel_eval_step,
)
from hybrik_jax.synthetic import builder as synthetic

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with what its steps need; `eval_step(flip=...)` is compiled once for each."""

    model: HybrIK
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    init_betas: Any
    eval_step: Callable[..., Callable]


def plain(config: ConfigDict) -> dict[str, Any]:
    """Returns the configuration as nested dicts of JSON values."""
    return json.loads(config.to_json_best_effort())


def check(config: ConfigDict, *, devices: int, hosts: int) -> None:
    """Raises ValueError, naming the key and what to do, where a configuration cannot work."""
    problems = []
    for name, size in (
        ('batch_size', config.batch_size),
        ('evaluation.batch_size', config.evaluation.batch_size),
    ):
        if size % devices:
            problems.append(
                f'{name}={size} cannot be split over {devices} devices: make --config.{name} a multiple of {devices}.'
            )
    if config.batch_size <= 0:
        problems.append(f'batch_size={config.batch_size} must be positive.')
    if config.image_size <= 0 or config.image_size % 32:
        problems.append(
            f"image_size={config.image_size} must be a positive multiple of 32, the backbone's stride."
        )
    if config.num_epochs <= 0:
        problems.append(f'num_epochs={config.num_epochs} must be positive.')
    if config.optimizer.warmup_steps < 1:
        problems.append(f'optimizer.warmup_steps={config.optimizer.warmup_steps} must be at least 1.')
    shares = dict(config.data.mixture)
    if any(share < 0 for share in shares.values()) or sum(shares.values()) <= 0:
        problems.append(f'data.mixture={shares} needs shares of at least 0, one of them positive.')
    if config.validate_parameters not in ('raw', 'ema'):
        problems.append(f"validate_parameters={config.validate_parameters!r}: choose 'raw' or 'ema'.")
    problems += _evaluation_problems(config.evaluation)
    if config.model.right_hand not in ('leaf', 'released'):
        problems.append(f"model.right_hand={config.model.right_hand!r}: choose 'leaf' or 'released'.")
    if not 0 < config.average.ema_decay < 1:
        problems.append(f'average.ema_decay={config.average.ema_decay} must lie between 0 and 1.')
    if problems:
        raise ValueError('The configuration cannot work:\n  ' + '\n  '.join(problems))


def _evaluation_problems(config: ConfigDict) -> list[str]:
    """Returns what is wrong with the section `evaluation` of a configuration."""
    problems = []
    if config.root not in ('annotation', 'predicted'):
        problems.append(
            f"evaluation.root={config.root!r}: choose 'annotation', or 'predicted' with a root_file."
        )
    elif config.root == 'predicted' and not config.root_file:
        problems.append(
            "evaluation.root='predicted' needs roots that another program has predicted: give "
            '--config.evaluation.root_file=FILE.json.'
        )
    elif config.root == 'annotation' and config.root_file:
        problems.append(
            f'evaluation.root_file={config.root_file!r} would not be used: add --config.evaluation.root=predicted.'
        )
    if (
        not config.flips
        or not set(config.flips) <= {False, True}
        or len(set(config.flips)) < len(config.flips)
    ):
        problems.append(f'evaluation.flips={tuple(config.flips)}: give False, True, or both.')
    names = tuple(config.parameters)
    if not names or not set(names) <= {'raw', 'tail', 'ema'} or len(set(names)) < len(names):
        problems.append(f"evaluation.parameters={names}: choose some of 'raw', 'tail' and 'ema'.")
    datasets = tuple(config.datasets)
    if not all(isinstance(name, str) and name for name in datasets) or len(set(datasets)) < len(datasets):
        problems.append(f'evaluation.datasets={datasets}: give names of datasets, each once.')
    if config.box_enlargement <= 0:
        problems.append(f'evaluation.box_enlargement={config.box_enlargement} must be positive.')
    if config.constant_examples < 0:
        problems.append(f'evaluation.constant_examples={config.constant_examples} must not be negative.')
    return problems


def create_workdir(workdir: str) -> pathlib.Path:
    """Returns the run's folder, made if missing; raises OSError where nothing can be written there."""
    path = pathlib.Path(workdir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:  # a name of its own: other hosts do the same
            probe.write(b'0' * 4096)
    except OSError as error:
        raise OSError(
            error.errno,
            f'--config.workdir={workdir} cannot be written to ({error.strerror}): give another folder.',
        ) from error
    return path


def load_body(config: ConfigDict) -> smpl.SMPL:
    """Returns the body model of `config.body`, or the embedded one."""
    return smpl_file.load_body(config.body or None, config.h36m_regressor or None)


def init_betas(config: ConfigDict, body: smpl.SMPL) -> np.ndarray:
    """Returns the mean shape (10,): from `config.init_betas`, or zeros."""
    if not config.init_betas:
        return np.zeros(10, np.float32)
    return smpl_file.load_mean_betas(config.init_betas, body)


def open_source(config: ConfigDict, dataset: str, split: str, body: smpl.SMPL) -> Sequence:
    """Returns a split of a dataset as a random-access sequence of records.

    The synthetic people are drawn first where they are missing. Raises FileNotFoundError for any other
    missing dataset, ValueError where its betas belong to another body model.
    """
    folder = pathlib.Path(config.data.root) / dataset
    try:
        store.find(folder)
    except FileNotFoundError as error:
        if dataset != 'synthetic':
            raise FileNotFoundError(
                f'There is no dataset {dataset!r} in {folder}: build it there (docs/datasets.md), or point '
                '--config.data.root elsewhere.'
            ) from error
        if jax.process_count() > 1:  # one host would build what another reads
            raise
        sizes = config.data.synthetic
        LOG.info('No synthetic people in %s: drawing %d of them for training.', folder, sizes.train)
        synthetic.build(
            folder,
            train=sizes.train,
            validation=sizes.validation,
            test=sizes.test,
            seed=sizes.seed,
            workers=os.cpu_count() or 1,
        )
    source = store.open_split(folder, split)
    if len(source):
        first = source[0]
        if first['smpl_weight'] > 0:
            smpl.check_same_body(body, augment.text(first['body']), f'pose and betas of dataset {dataset!r}')
    return source


def training_sources(config: ConfigDict, body: smpl.SMPL) -> dict[str, Sequence]:
    """Returns the training split of every dataset in the mixture."""
    return {
        name: open_source(config, name, 'train', body)
        for name, share in config.data.mixture.items()
        if share > 0
    }


def training_length(config: ConfigDict, sources: dict[str, Sequence]) -> tuple[int, int]:
    """Returns (updates in all, updates in an epoch). An epoch is twice the largest dataset, if not given."""
    largest = max(len(source) for source in sources.values())
    epoch_steps = config.steps_per_epoch or max(1, round(2 * largest / config.batch_size))
    return round(config.num_epochs * epoch_steps), epoch_steps


def augmentation_settings(config: ConfigDict) -> augment.AugmentationSettings:
    """Returns `config.augmentation` as the pipeline's settings."""
    options = dict(config.augmentation)
    occlusion = {name: tuple(limits) for name, limits in options.pop('occlusion').items()}
    return augment.AugmentationSettings(**options, occlusion=occlusion)


def create_network(config: ConfigDict, body: smpl.SMPL) -> Network:
    """Returns the network of `config.model` with its optimizer and evaluation steps."""
    model = create_model(config.model, axis_name=AXIS)
    betas = jnp.asarray(init_betas(config, body))

    @cache
    def eval_step(*, flip: bool) -> Callable:
        step = parallel_eval_step(model=model, model_config=config.model, init_betas=betas, flip=flip)
        return lambda variables, batch: step(variables, body_on_device, batch)

    body_on_device = jax.device_put(body)
    return Network(
        model=model,
        optimizer=create_optimizer(config.optimizer),
        schedule=inverse_square_root(config.optimizer.learning_rate, config.optimizer.warmup_steps),
        init_betas=betas,
        eval_step=eval_step,
    )


def initial_state(config: ConfigDict, network: Network) -> TrainState:
    """Returns the state before the first update, with the backbone of `config.pretrained.backbone` if
    named.
    """
    state = create_state(network.model, network.optimizer, seed=config.seed, image_size=config.image_size)
    if not config.pretrained.backbone:
        return state
    weights = torch_export.load_torch_file(config.pretrained.backbone)
    return fresh_state(torch_export.load_backbone(weights, state.variables), network.optimizer)
