"""What is measured: training step and inference of a configuration; solver and skinning of a body."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrik_jax import config as configuration
from hybrik_jax import inference, setup
from hybrik_jax.body import ik, rotations, smpl, smpl_file
from hybrik_jax.data import pipeline
from hybrik_jax.model.hybrik import initialise
from hybrik_jax.step import AXIS, replicate, split_over_devices
from hybrik_jax.types import Batch
from tools import ahead
from tools.benchmark.measure import Case, Measurement, Program

INFERENCE_BATCHES = (1, 8, 64, 256)
BODY_BATCHES = (8, 64, 1024)


def row_of(part: str, name: str, batch: int, spec: str = '', config: ConfigDict | None = None) -> Measurement:
    """Returns the row of a case before anything is known but what it is of."""
    return Measurement(
        part=part,
        name=name,
        config=spec,
        digest='' if config is None else configuration.digest(configuration.plain(config)),
        device=jax.devices()[0].device_kind,
        batch=batch,
    )


def people(count: int, image_size: int) -> Batch:
    """Returns a batch of random people with every label, in crops of noise."""
    rng = np.random.default_rng(0)
    size = 64  # of the photo
    one = ahead.person_of(rng.integers(0, 256, (size, size, 3), np.uint8))
    one |= {name: np.ones_like(value) for name, value in one.items() if name.endswith('weight')}
    one |= {'focal': np.float32([80, 80]), 'centre': np.float32([size / 2] * 2)}
    one |= {'root_m': np.float32([0, 0, 4])}
    example = pipeline.evaluation_example(one, crop_size=image_size)
    fields = {name: np.repeat(np.asarray(value)[None], count, 0) for name, value in example.items()}
    fields['image'] = rng.integers(0, 256, fields['image'].shape, np.uint8)
    for name, spread in {'uvd': 0.2, 'joints_m': 0.3, 'betas': 1.0, 'quaternions': 0.2}.items():
        fields[name] = np.float32(fields[name] + rng.normal(0, spread, fields[name].shape))
    return pipeline.to_batch(fields)


def step(spec: str, config: ConfigDict, *, name: str = 'train') -> Case:
    """Returns the training step of a configuration, as training makes it, over this process's devices."""
    devices = jax.local_device_count()
    row = dataclasses.replace(row_of('step', name, config.batch_size, spec, config), devices=devices)
    return Case(row, functools.partial(_step, config), queued=False, bfloat16=is_bfloat16(config))


def _step(config: ConfigDict) -> Program:
    lowered = ahead.lower(config, jax.local_devices())
    (state_shapes, _, _), _ = lowered.args_info

    def start(compiled: Any) -> Callable[[], Any]:
        body = replicate(setup.body_of_step(config, setup.load_body(config)))
        batch = split_over_devices(people(config.batch_size, config.image_size), jax.local_device_count())
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
        batch = jax.device_put(batch, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS)))
        state = [replicate(filled(state_shapes))]  # a step gives the last one's away

        def call() -> Any:
            state[0], metrics = compiled(state[0], body, batch)
            return metrics

        if not float(call()['finite']):
            raise FloatingPointError('the loss is not finite')
        return call

    return Program(lowered, start)


def inferences(spec: str, config: ConfigDict, batches: Sequence[int] = INFERENCE_BATCHES) -> Iterator[Case]:
    """Yields inference with skinning, one device, for every size of batch; images lie on the device."""
    for batch in batches:
        row = row_of('inference', 'images to meshes', batch, spec, config)
        trace = functools.partial(_inference, config, batch)
        yield Case(row, trace, queued=False, bfloat16=is_bfloat16(config))


def _inference(config: ConfigDict, count: int) -> Program:
    body = setup.load_body(config)
    network = inference.create_network(config, setup.init_betas(config, body))
    batch = people(count, config.image_size)

    def forward(variables: Any, body: smpl.SMPL, images: jax.Array, crop: Any) -> Any:
        if network.of_roots:
            return inference.locate(network, variables, images, crop)
        return inference.forward(network, variables, body, images, crop)[1]

    create = functools.partial(initialise, network.model, image_size=config.image_size)
    arguments = jax.eval_shape(create, jax.random.key(config.seed)), body, batch.image, batch.crop
    lowered = jax.jit(forward).lower(*arguments)

    def start(compiled: Any) -> Callable[[], Any]:
        return functools.partial(
            compiled, *jax.device_put((filled(arguments[0]), body, batch.image, batch.crop))
        )

    return Program(lowered, start)


def filled(shapes: Any) -> Any:
    """Returns arrays for shapes of a state or of variables, as sane as a fresh network's.

    Making a fresh network would have to be compiled, too.
    """
    rng = np.random.default_rng(0)

    def array(path: tuple, like: jax.ShapeDtypeStruct) -> np.ndarray:
        names = jax.tree_util.keystr(path)
        if any(part in names for part in ('optimizer', 'tail', 'step', 'bias', 'mean', 'shift')):
            return np.zeros(like.shape, like.dtype)
        if len(like.shape) < 2:  # scales and variances
            return np.ones(like.shape, like.dtype)
        spread = 1 / np.sqrt(np.prod(like.shape[:-1]))
        return np.asarray(rng.normal(0, spread, like.shape), like.dtype)

    return jax.tree_util.tree_map_with_path(array, shapes)


def is_bfloat16(config: ConfigDict) -> bool:
    """Returns whether most of a network's arithmetic, its backbone's, is in bfloat16."""
    return config.model.backbone.dtype == 'bfloat16'


def solver(batches: Sequence[int] = BODY_BATCHES) -> Iterator[Case]:
    """Yields the inverse kinematics alone: its evaluation form, and its training form with the gradient."""
    for batch in batches:
        for name, function in (('evaluation', evaluation), ('training with gradient', training)):
            yield _function('solver', name, batch, function, functools.partial(posed_people, batch))


def skinning(batches: Sequence[int] = BODY_BATCHES) -> Iterator[Case]:
    """Yields skinning alone, with its gradient, and behind the solver."""
    functions = {
        'skinning': skinned,
        'skinning with gradient': skinned_gradient,
        'solver and skinning': solved_and_skinned,
    }
    for batch in batches:
        for name, function in functions.items():
            inputs = functools.partial(solved_people if function is solved_and_skinned else shapes, batch)
            yield _function('skinning', name, batch, function, inputs)


def _function(part: str, name: str, batch: int, function: Callable, inputs: Callable[[], tuple]) -> Case:
    def trace() -> Program:
        arguments = jax.device_put(inputs())
        lowered = jax.jit(function).lower(*arguments)
        return Program(lowered, lambda compiled: functools.partial(compiled, *arguments))

    return Case(row_of(part, name, batch, 'embedded body'), trace)


def posed_people(count: int) -> tuple[jax.Array, ...]:
    """Returns noisy joints (count, 24, 3), twists, rest joints and leaf quaternions of random people."""
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(count, 10)).astype(np.float32)  # first, as in `shapes`
    vectors = 0.4 * rng.normal(size=(count, 24, 3)).astype(np.float32)
    rest = jax.vmap(smpl.rest_joints, in_axes=(None, 0))(smpl_file.load_body(), betas)
    matrices = jax.vmap(jax.vmap(rotations.axis_angle_to_matrix))(vectors)
    joints = jax.vmap(ik.forward_kinematics)(matrices, rest)
    joints += 0.03 * rng.normal(size=joints.shape).astype(np.float32)
    twists = rng.normal(size=(count, 23, 2)).astype(np.float32)
    leaves = rng.normal(size=(count, 5, 4)).astype(np.float32)
    return joints, twists, rest, leaves


def shapes(count: int) -> tuple[Any, ...]:
    """Returns the embedded body with betas and quaternions (count, 24, 4) of random people."""
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(count, 10)).astype(np.float32)
    quaternions = np.float32([1, 0, 0, 0]) + 0.2 * rng.normal(size=(count, 24, 4)).astype(np.float32)
    return smpl_file.load_body(), betas, quaternions


def solved_people(count: int) -> tuple[Any, ...]:
    """Returns the embedded body with joints, twists, betas and leaf quaternions of random people."""
    joints, twists, _, leaves = posed_people(count)
    body, betas, _ = shapes(count)
    return body, joints, twists, betas, leaves


def evaluation(*inputs: jax.Array) -> jax.Array:
    """Returns rotations (B, 24, 3, 3) of the evaluation form."""
    return jax.vmap(ik.solve)(*inputs)


def training(*inputs: jax.Array) -> tuple[jax.Array, ...]:
    """Returns gradients to all inputs of the training form's distance from the identity."""
    solve = jax.vmap(functools.partial(ik.solve, form='training'))

    def distance(*inputs: jax.Array) -> jax.Array:
        return jnp.sum((solve(*inputs) - jnp.eye(3)) ** 2)

    return jax.grad(distance, argnums=(0, 1, 2, 3))(*inputs)


def skinned(body: smpl.SMPL, betas: jax.Array, quaternions: jax.Array) -> jax.Array:
    """Returns vertices (B, V, 3)."""
    return inference.label_vertices(body, betas, quaternions)


def skinned_gradient(body: smpl.SMPL, betas: jax.Array, quaternions: jax.Array) -> tuple[jax.Array, ...]:
    """Returns gradients to betas and quaternions of the vertices' squares."""
    return jax.grad(lambda *inputs: jnp.sum(skinned(body, *inputs) ** 2), argnums=(0, 1))(betas, quaternions)


def solved_and_skinned(
    body: smpl.SMPL, joints: jax.Array, twists: jax.Array, betas: jax.Array, leaves: jax.Array
) -> jax.Array:
    """Returns vertices (B, V, 3) of people given by joints, twists, betas and leaf rotations."""

    def one_person(joints: jax.Array, twists: jax.Array, betas: jax.Array, leaves: jax.Array) -> jax.Array:
        rest = smpl.rest_joints(body, betas)
        return smpl.skin(body, betas, ik.solve(joints, twists, rest, leaves)).vertices

    return smpl.each_person(one_person, joints, twists, betas, leaves)
