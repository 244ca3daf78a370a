"""One training step, one evaluation step, and the only pmap.

The state is not stacked: parameters, averages and metrics keep their natural shapes (`in_axes=None` in,
`out_axes=None` out), only the batch has a leading device axis.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from hybrik_jax import losses
from hybrik_jax.body import rotations as rot
from hybrik_jax.body import smpl
from hybrik_jax.model.hybrik import HybrIK, body_from_lifted, flip_test, initialise, normalise_image
from hybrik_jax.types import Batch, Lifted

AXIS = 'batch'  # the device axis


@chex.dataclass(frozen=True, mappable_dataclass=False)
class TrainState:
    """All that training changes. A `variables` is {'params': ..., 'batch_stats': ...}.

    step: () int32, updates done.
    variables: what is trained; ema: its exponential average; tail: its mean over the last `tail_count` updates.
    optimizer: the state of optax.
    """

    step: jax.Array
    variables: Any
    optimizer: Any
    ema: Any
    tail: Any
    tail_count: jax.Array

    def parameters(self, which: str) -> Any:
        """Returns the variables named 'raw', 'ema' or 'tail'; before the tail has begun, 'tail' is 'raw'."""
        if which == 'tail' and int(self.tail_count) > 0:
            return self.tail
        return self.ema if which == 'ema' else self.variables


def inverse_square_root(peak: float, warmup_steps: int) -> optax.Schedule:
    """Returns the paper's learning rate: linear from 0 to `peak` over `warmup_steps`, then peak sqrt(warmup / n)."""
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)

    def decay(updates_after_warmup: jax.Array) -> jax.Array:
        return peak * jnp.sqrt(warmup_steps / (jnp.maximum(updates_after_warmup, 0) + warmup_steps))

    return optax.join_schedules([warmup, decay], [warmup_steps])


def create_optimizer(config: Any) -> optax.GradientTransformation:
    """Returns Adam with the inverse-square-root schedule, from `config.optimizer`. Build it once."""
    schedule = inverse_square_root(config.learning_rate, config.warmup_steps)
    adam = optax.adam(schedule, b1=config.b1, b2=config.b2, eps=config.eps)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam) if config.clip_norm > 0 else adam


def create_state(model: HybrIK, optimizer: optax.GradientTransformation, *, seed: int, image_size: int) -> TrainState:
    """Returns the state before the first update."""
    variables = initialise(model, jax.random.key(seed), image_size=image_size)
    return fresh_state(variables, optimizer)


def fresh_state(variables: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first update of the given variables."""
    copy = partial(jax.tree.map, jnp.array)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=copy(variables),
        optimizer=optimizer.init(variables['params']),
        ema=copy(variables),
        tail=jax.tree.map(jnp.zeros_like, variables),
        tail_count=jnp.zeros((), jnp.int32),
    )


def train_step(
    state: TrainState,
    body: smpl.SMPL,
    batch: Batch,
    *,
    model: HybrIK,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    loss_weights: dict[str, float],
    model_config: Any,
    init_betas: jax.Array,
    seed: int,
    ema_decay: float,
    tail_start: int,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the next state and the step's metrics, from one device's share of the batch (inside pmap).

    Each term of the loss is (sum of errors over all devices) / (sum of weights over all devices): the local sum is
    differentiated over the global divisor, and the gradients are added up. An update whose loss or gradient is not
    finite is not made: the state comes back unchanged but for the step, and `finite` is 0.

    Args:
        body: an argument, or its 25 MB would be constants of the program; `without_mesh` where nothing is skinned.
        batch: leading axis = this device's examples.
        loss_weights: term -> weight, `config.loss`.
        tail_start: the tail average begins after this update.
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    own_key = jax.random.fold_in(key, 1 + jax.lax.axis_index(AXIS))
    dropout_key, patches_key = jax.random.split(own_key)
    rngs = {'dropout': dropout_key, 'patches': patches_key, 'patch_count': jax.random.fold_in(key, 0)}
    images = normalise_image(batch.image, mean=model_config.image_mean, std=model_config.image_std)
    skinned = loss_weights['h36m_joints'] > 0

    def local_loss(params):
        lifted, changed = model.apply(
            {**state.variables, 'params': params},
            images,
            training=True,
            init_betas=init_betas,
            rngs=rngs,
            mutable=['batch_stats'],
        )
        posed = body_from_lifted(
            lifted,
            batch.crop,
            body,
            training=True,
            crop_size=batch.image.shape[1],
            right_hand=model_config.right_hand,
            skinned=skinned,
        )
        terms = losses.loss_terms(
            uvd=lifted.uvd,
            betas=lifted.betas,
            quaternions=jax.vmap(jax.vmap(rot.matrix_to_quaternion))(posed.rotations),
            twists=lifted.twists,
            smpl_joints_m=posed.smpl_joints_m,
            h36m_joints_m=posed.h36m_joints_m,
            batch=batch,
        )
        divisors = {name: jax.lax.psum(jax.lax.stop_gradient(d), AXIS) for name, (_, d) in terms.items()}
        shares = {name: losses.ratio(n, divisors[name]) for name, (n, _) in terms.items()}
        total = sum(loss_weights[name] * share for name, share in shares.items() if loss_weights[name])
        return total, (shares, changed['batch_stats'])

    params = state.variables['params']
    gradient, (shares, batch_stats) = jax.grad(local_loss, has_aux=True)(params)
    gradient, shares = jax.lax.psum((gradient, shares), AXIS)
    loss = sum(loss_weights[name] * share for name, share in shares.items() if loss_weights[name])
    gradient_norm = optax.global_norm(gradient)
    finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)

    updates, optimizer_state = optimizer.update(gradient, state.optimizer, params)
    variables = {
        'params': optax.apply_updates(params, updates),
        'batch_stats': jax.lax.pmean(batch_stats, AXIS),
    }
    done = state.step + 1
    decay = jnp.minimum(ema_decay, (1.0 + done) / (10.0 + done))
    tail_count = jnp.where(done > tail_start, state.tail_count + 1, 0)
    share_of_new = jnp.where(tail_count > 0, 1.0 / jnp.maximum(tail_count, 1), 0.0)
    updated = TrainState(
        step=done,
        variables=variables,
        optimizer=optimizer_state,
        ema=jax.tree.map(lambda old, new: old + (1 - decay).astype(old.dtype) * (new - old), state.ema, variables),
        tail=jax.tree.map(
            lambda old, new: old + share_of_new.astype(old.dtype) * (new - old), state.tail, variables
        ),
        tail_count=tail_count,
    )
    unchanged = TrainState(**{**vars(state), 'step': done})
    state_after = jax.tree.map(partial(jnp.where, finite), updated, unchanged)
    metrics = {f'loss_{name}': share for name, share in shares.items()}
    metrics |= {
        'loss': loss,
        'gradient_norm': gradient_norm,
        'finite': finite.astype(jnp.float32),
        'learning_rate': jnp.asarray(schedule(state.step)),
    }
    return state_after, metrics


def eval_step(
    variables: Any,
    body: smpl.SMPL,
    batch: Batch,
    *,
    model: HybrIK,
    model_config: Any,
    init_betas: jax.Array,
    flip: bool,
) -> dict[str, jax.Array]:
    """Returns, per example of one device's share, the `pose_outputs` of what the network says of it.

    Args:
        flip: average with what it says of the mirror image.
    """
    images = normalise_image(batch.image, mean=model_config.image_mean, std=model_config.image_std)

    def predict(images):
        return model.apply(variables, images, training=False, init_betas=init_betas)

    lifted = flip_test(predict, images) if flip else predict(images)
    return pose_outputs(lifted, batch, body, right_hand=model_config.right_hand)


def pose_outputs(lifted: Lifted, batch: Batch, body: smpl.SMPL, *, right_hand: str) -> dict[str, jax.Array | None]:
    """Returns, per example, the body that a network's word describes, and its errors that need the vertices.

    joints_m (24, 3) and h36m_joints_m (17, 3; None without regressor) of the posed body, lifted_joints_m (K, 3),
    rotations (24, 3, 3), betas (10,), pve_m () the mean vertex distance, both relative to SMPL's pelvis, against the
    body of the labels, root_m (3,) the root joint that placed the person in the camera frame.
    """
    posed = body_from_lifted(
        lifted, batch.crop, body, training=False, crop_size=batch.image.shape[1], right_hand=right_hand
    )

    def vertices(betas, rotations):
        skinned = smpl.skin(body, betas, rotations)
        return skinned.vertices - skinned.joints[0]

    def vertex_error(betas, rotations, true_betas, quaternions):
        true = vertices(true_betas, jax.vmap(rot.quaternion_to_matrix)(quaternions))
        return jnp.mean(jnp.linalg.norm(vertices(betas, rotations) - true, axis=-1))

    return {
        'joints_m': posed.smpl_joints_m,
        'h36m_joints_m': posed.h36m_joints_m,
        'lifted_joints_m': posed.joints_m,
        'rotations': posed.rotations,
        'betas': posed.betas,
        'pve_m': jax.vmap(vertex_error)(posed.betas, posed.rotations, batch.betas, batch.quaternions),
        'root_m': batch.crop.root_m,
    }


def parallel_train_step(**fixed: Any) -> Callable:
    """Returns `train_step` over this process's devices: (state, body, batch) -> (state, metrics).

    The batch has a leading device axis, see `split_over_devices`.
    """
    return jax.pmap(
        partial(train_step, **fixed), axis_name=AXIS, in_axes=(None, None, 0), out_axes=None, donate_argnums=(0,)
    )


def parallel_eval_step(**fixed: Any) -> Callable:
    """Returns `eval_step` over this process's devices: (variables, body, batch) -> dict, device axis."""
    return jax.pmap(partial(eval_step, **fixed), axis_name=AXIS, in_axes=(None, None, 0))


def replicate(tree: Any) -> Any:
    """Returns the arrays of `tree` on every device of this process, laid out as the parallel steps give them back.

    A state that comes in laid out otherwise would have the training step compiled twice.
    """
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def without_mesh(body: smpl.SMPL) -> smpl.SMPL:
    """Returns the body's skeleton alone: enough for the inverse kinematics, not for skinning."""
    mesh = ('v_template', 'shapedirs', 'posedirs', 'joint_regressor', 'h36m_regressor', 'weights', 'faces')
    return dataclasses.replace(body, **dict.fromkeys(mesh))


def split_over_devices(batch: Batch, devices: int) -> Batch:
    """Returns the batch with a leading device axis.

    Raises ValueError where it cannot be split evenly.
    """
    size = batch.image.shape[0]
    if size % devices:
        raise ValueError(
            f'batch_size={size} cannot be split over {devices} devices: make --config.batch_size a multiple.'
        )
    return jax.tree.map(lambda x: x.reshape((devices, size // devices) + x.shape[1:]), batch)
