"""From a configuration to the things that training and evaluation work with."""

import pathlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrik_jax import bundled, checkpoint, inference, losses
from hybrik_jax import config as configuration
from hybrik_jax.body import smpl, smpl_file
from hybrik_jax.data import augment, store
from hybrik_jax.export import imagenet, torch_file
from hybrik_jax.export import torch as torch_export
from hybrik_jax.export.recognise import check_backbone
from hybrik_jax.model.hybrik import for_another_size, initialise
from hybrik_jax.step import (
    AXIS,
    TrainState,
    create_optimizer,
    fresh_state,
    learning_rate,
    without_mesh,
)


def load_body(config: ConfigDict) -> smpl.SMPL:
    """Returns the body model of `config.body`, or the embedded one.

    Raises:
        ValueError: if a weight of the loss needs its Human3.6M joints, and it has no regressor for them.
    """
    body = smpl_file.load_body(config.body or None, config.h36m_regressor or None)
    if config.loss.h36m_joints > 0 and body.h36m_regressor is None:
        raise ValueError(
            f'{config.body} has no regressor for Human3.6M joints: name one by --config.h36m_regressor, or '
            'set --config.loss.h36m_joints=0.'
        )
    return body


def body_of_step(config: ConfigDict, body: smpl.SMPL) -> smpl.SMPL:
    """Returns the body as the training step wants it: without its mesh, unless a loss needs that."""
    return body if losses.need_mesh(config.loss) else without_mesh(body)


def init_betas(config: ConfigDict, body: smpl.SMPL) -> np.ndarray:
    """Returns the mean shape (10,): from `config.init_betas`, or zeros."""
    if not config.init_betas:
        return np.zeros(smpl.NUM_BETAS, np.float32)
    return smpl_file.load_mean_betas(config.init_betas, body)


def create_network(config: ConfigDict, body: smpl.SMPL) -> inference.Network:
    """Returns the network of `config`, to be run over devices."""
    return inference.create_network(config, init_betas(config, body), axis_name=AXIS)


def open_source(config: ConfigDict, dataset: str, split: str, body: smpl.SMPL) -> Sequence:
    """Returns a split of a dataset as a random-access sequence of records; builds nothing.

    Raises:
        FileNotFoundError: the dataset is not in `config.data.root`.
        ValueError: it has no such split, or its betas belong to another body model.
    """
    folder = pathlib.Path(config.data.root) / dataset
    try:
        source = store.open_split(folder, split)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'There is no dataset {dataset!r} in {folder}: build it there (docs/datasets.md), or point '
            '--config.data.root elsewhere.'
        ) from error
    if len(source) and source[0]['smpl_weight'] > 0 and config.model.lifting != 'rootnet':
        name = augment.text(source[0]['body'])
        smpl.check_same_body(body, name, f'pose and betas of dataset {dataset!r}')
    return source


def training_sources(config: ConfigDict, body: smpl.SMPL) -> dict[str, Sequence]:
    """Returns the training split of every dataset in the mixture."""
    names = [name for name, share in config.data.mixture.items() if share > 0]
    return {name: open_source(config, name, 'train', body) for name in names}


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


def step_settings(
    config: ConfigDict, network: inference.Network, total_steps: int, epoch_steps: int
) -> dict[str, Any]:
    """Returns the arguments of `step.parallel_train_step` for a run of so many updates."""
    options = config.optimizer
    return {
        'network': network,
        'optimizer': create_optimizer(options, epoch_steps),
        'schedule': learning_rate(options, epoch_steps),
        'loss_weights': dict(config.loss),
        'seed': config.seed,
        'ema_decay': config.average.ema_decay,
        'tail_start': max(0, total_steps - round(config.average.tail_epochs * epoch_steps)),
    }


def state_shapes(config: ConfigDict, network: inference.Network) -> TrainState:
    """Returns the state of a run with shapes and types in place of arrays; nothing is computed."""
    optimizer = create_optimizer(config.optimizer)
    create = partial(initialise, network.model, image_size=config.image_size)
    return jax.eval_shape(lambda key: fresh_state(create(key), optimizer), jax.random.key(config.seed))


def pretrained_weights(config: ConfigDict) -> dict[str, np.ndarray] | None:
    """Returns the weights that `config.pretrained.backbone` names, PyTorch name -> array; None without any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: they cannot be read, their package is not installed, or they are of another backbone.
    """
    if not config.pretrained.backbone:
        return None
    weights = torch_file.read(imagenet.weight_file(config.pretrained.backbone))
    check_backbone(weights, config.model.backbone, config.pretrained.backbone)
    return weights


def pretrained_network(config: ConfigDict) -> checkpoint.Run | None:
    """Returns the run whose network `config.pretrained.network` names; None without any.

    Raises:
        FileNotFoundError: there is no such run, or the package came without a network.
        ValueError: its network is another than that of `config`; or it is damaged.
    """
    name = config.pretrained.network
    if not name:
        return None
    run = bundled.load() if name == bundled.NAME else checkpoint.load(name)
    if differing := configuration.network_differences(run.config, configuration.plain(config)):
        raise ValueError(
            f'pretrained.network={name!r} is another network than that of this configuration:\n  '
            + '\n  '.join(differing)
            + '\nTake its values, or train without --config.pretrained.network.'
        )
    return run


def initial_state(config: ConfigDict, network: inference.Network) -> TrainState:
    """Returns the state before the first update, with what `config.pretrained` names.

    Parameters and their moving average are the averaged ones of `pretrained.network`, whose image size may be
    another one.

    Raises:
        FileNotFoundError, ValueError: see `pretrained_weights` and `pretrained_network`.
    """
    if (run := pretrained_network(config)) is not None:
        wanted = state_shapes(config, network).variables
        variables = for_another_size(run.state.parameters(run.state.averaged()), wanted)
        if jax.tree.map(np.shape, variables) != jax.tree.map(lambda x: x.shape, wanted):
            raise ValueError(
                f'{run.folder} holds other arrays than this network has: is it of another version?'
            )
        return fresh_state(variables, create_optimizer(config.optimizer))
    weights = pretrained_weights(config)
    variables = initialise(network.model, jax.random.key(config.seed), image_size=config.image_size)
    if weights is not None:
        variables = torch_export.load_backbone(weights, variables)
    return fresh_state(variables, create_optimizer(config.optimizer))
