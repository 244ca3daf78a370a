"""One training step, one evaluation step, and the only pmap.

The state is not stacked: parameters, averages and metrics keep their natural shapes (`in_axes=None` in,
`out_axes=None` out), only the batch has a leading device axis.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from hybrik_jax import inference, losses
from hybrik_jax.body import smpl
from hybrik_jax.types import Batch, Measured, Posed, Rooted

AXIS = 'batch'  # the device axis
PARAMETERS = ('raw', 'tail', 'ema')  # as trained, mean of the last updates, moving average


@chex.dataclass(frozen=True, mappable_dataclass=False)
class TrainState:
    """All that training changes. A `variables` is {'params': ..., 'batch_stats': ...}.

    step: () int32, updates done.
    variables: what is trained; ema: its exponential average; tail: its mean over the last `tail_count`
        updates.
    optimizer: the state of optax.
    Of a network that is only predicted with, optimizer and the parameters that were not kept are None.
    """

    step: jax.Array
    variables: Any
    optimizer: Any
    ema: Any
    tail: Any
    tail_count: jax.Array

    def parameters(self, which: str) -> Any:
        """Returns the variables named 'raw', 'ema' or 'tail'.

        Raises:
            ValueError: for another name, the tail average has not begun, or they were not kept.
        """
        if which not in PARAMETERS:
            raise ValueError(f'There are no parameters {which!r}: choose one of {", ".join(PARAMETERS)}.')
        if which == 'tail' and not int(self.tail_count):
            raise ValueError(f'The tail average has not begun at step {int(self.step)}: choose ema or raw.')
        found = self.variables if which == 'raw' else getattr(self, which)
        if found is None:  # of the network that comes with the package
            raise ValueError(
                f'Of this network only the {self.averaged()} parameters were kept, not {which!r}.'
            )
        return found

    def averaged(self) -> str:
        """Returns the name of the parameters to predict with: 'tail', before that has begun 'ema'."""
        return 'tail' if int(self.tail_count) else 'ema'


def inverse_square_root(peak: float, warmup_steps: int) -> optax.Schedule:
    """Returns the paper's learning rate: linear to `peak` over n `warmup_steps`, then peak sqrt(n / step)."""
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)

    def decay(updates_after_warmup: jax.Array) -> jax.Array:
        return peak * jnp.sqrt(warmup_steps / (jnp.maximum(updates_after_warmup, 0) + warmup_steps))

    return optax.join_schedules([warmup, decay], [warmup_steps])


def learning_rate(config: Any, epoch_steps: int) -> optax.Schedule:
    """Returns the schedule of `config.optimizer` for epochs of so many updates."""
    if config.schedule == 'inverse_square_root':
        return inverse_square_root(config.learning_rate, config.warmup_steps)
    drops = {round(epoch * epoch_steps): 0.1 for epoch in config.drop_epochs}
    return optax.piecewise_constant_schedule(config.learning_rate, drops)


def create_optimizer(config: Any, epoch_steps: int = 1) -> optax.GradientTransformation:
    """Returns Adam with the schedule of `config.optimizer`; its state is alike for any. Build it once."""
    adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
    if config.moment_dtype == 'bfloat16':
        adam = _moments_rounded(adam)
    scaling = optax.scale_by_learning_rate(learning_rate(config, epoch_steps))
    if config.backbone_rate != 1.0 or config.backbone_frozen:
        scaling = _backbone_slower(scaling, config.backbone_rate, config.backbone_frozen)
    adam = optax.chain(adam, scaling)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam) if config.clip_norm > 0 else adam


def _backbone_slower(
    scaling: optax.GradientTransformation, rate: float, frozen: int
) -> optax.GradientTransformation:
    """Returns `optax.scale_by_learning_rate` whose updates of the backbone are smaller; its state is alike.

    Args:
        rate: what they are multiplied by, after `frozen` updates of zero.
    """

    def update(
        updates: Any, state: optax.ScaleByScheduleState, params: Any = None
    ) -> tuple[Any, optax.ScaleByScheduleState]:
        share = jnp.where(state.count < frozen, 0.0, rate)
        updates, state = scaling.update(updates, state, params)
        backbone = jax.tree.map(lambda x: (share * x).astype(x.dtype), updates['backbone'])
        return {**updates, 'backbone': backbone}, state

    return optax.GradientTransformation(scaling.init, update)


def _moments_rounded(adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns `optax.scale_by_adam` whose moments are kept in bfloat16, rounded at random.

    The second one moves by thousandths, less than half a step of bfloat16: rounded to the nearest it would
    stand still. All is computed in float32 (optax's own `mu_dtype` computes with a b1 of 0.898: bfloat16 has
    no 0.9, and steps are 1.6 % short).
    """

    def of_moments(state: optax.ScaleByAdamState, change: Callable) -> optax.ScaleByAdamState:
        mu, nu = change((state.mu, state.nu))
        return state._replace(mu=mu, nu=nu)

    def init(params: Any) -> optax.ScaleByAdamState:
        return of_moments(adam.init(params), partial(optax.tree.cast, dtype=jnp.bfloat16))

    def update(
        gradient: Any, state: optax.ScaleByAdamState, params: Any = None
    ) -> tuple[Any, optax.ScaleByAdamState]:
        def rounded(moments: Any) -> Any:
            leaves, structure = jax.tree.flatten(moments)
            key = jax.random.fold_in(jax.random.key(0), full.count)
            seeds = jax.random.bits(key, (len(leaves),), jnp.uint32)
            return jax.tree.unflatten(structure, map(round_at_random, leaves, seeds))

        full = of_moments(state, partial(optax.tree.cast, dtype=jnp.float32))
        updates, full = adam.update(gradient, full, params)
        return updates, of_moments(full, rounded)

    return optax.GradientTransformation(init, update)


def round_at_random(x: jax.Array, seed: jax.Array) -> jax.Array:
    """Returns x, rounded to one of the two bfloat16 next to it, so that the expected value is x itself.

    Args:
        seed: () uint32. JAX's generator would have a step of 200 arrays compiled for minutes: this is a hash
            of seed and position.
    """
    x = x.astype(jnp.float32)
    n = jax.lax.iota(jnp.uint32, x.size).reshape(x.shape) ^ seed
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # C. Wellons' lowbias32
        n = (n ^ (n >> shift)) * jnp.uint32(factor)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + (n >> 16)
    cut = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
    return jnp.where(jnp.isfinite(x), cut, x).astype(jnp.bfloat16)


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
    network: inference.Network,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    loss_weights: dict[str, float],
    seed: int,
    ema_decay: float,
    tail_start: int,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the next state and the step's metrics, from one device's share of the batch (inside pmap).

    Each term of the loss is (sum of errors over all devices) / (sum of weights over all devices): the local
    sum is differentiated over the global divisor, and the gradients are added up. An update whose loss or
    gradient is not finite is not made: the state comes back unchanged but for the step, and `finite` is 0.

    Args:
        body: an argument, or its 25 MB would be constants; `without_mesh` where nothing is skinned.
        batch: leading axis = this device's examples.
        loss_weights: term -> weight.
        tail_start: the tail average begins after this update.
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    own_key = jax.random.fold_in(key, 1 + jax.lax.axis_index(AXIS))
    dropout_key, patches_key = jax.random.split(own_key)
    rngs = {'dropout': dropout_key, 'patches': patches_key, 'patch_count': jax.random.fold_in(key, 0)}
    images = inference.normalise(batch.image, network)
    skinned = losses.need_mesh(loss_weights)

    def local_loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        output, changed = network.model.apply(
            {**state.variables, 'params': params},
            images,
            training=True,
            init_betas=jnp.asarray(network.init_betas),
            rngs=rngs,
            mutable=['batch_stats'],
        )
        posed = None
        if not isinstance(output, Rooted):
            posed = inference.pose(output, batch.crop, body, network=network, training=True, skinned=skinned)
        terms = losses.terms(output, posed, batch)
        divisors = {name: jax.lax.psum(jax.lax.stop_gradient(d), AXIS) for name, (_, d) in terms.items()}
        shares = {name: losses.ratio(n, divisors[name]) for name, (n, _) in terms.items()}
        return weighted(shares), (shares, changed['batch_stats'])

    def weighted(shares: dict[str, jax.Array]) -> jax.Array:
        return sum(loss_weights[name] * share for name, share in shares.items() if loss_weights[name])

    params = state.variables['params']
    gradient, (shares, batch_stats) = jax.grad(local_loss, has_aux=True)(params)
    gradient, shares = jax.lax.psum((gradient, shares), AXIS)
    loss, gradient_norm = weighted(shares), optax.global_norm(gradient)
    finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)

    updates, optimizer_state = optimizer.update(gradient, state.optimizer, params)
    params = optax.apply_updates(params, updates)
    variables = {'params': params, 'batch_stats': jax.lax.pmean(batch_stats, AXIS)}
    done = state.step + 1
    decay = jnp.minimum(ema_decay, (1.0 + done) / (10.0 + done))
    tail_count = jnp.where(done > tail_start, state.tail_count + 1, 0)
    share_of_new = jnp.where(tail_count > 0, 1.0 / jnp.maximum(tail_count, 1), 0.0)

    def moved(average: Any, share: jax.Array) -> Any:
        return jax.tree.map(lambda old, new: old + share.astype(old.dtype) * (new - old), average, variables)

    updated = TrainState(
        step=done,
        variables=variables,
        optimizer=optimizer_state,
        ema=moved(state.ema, 1 - decay),
        tail=moved(state.tail, share_of_new),
        tail_count=tail_count,
    )
    unchanged = TrainState(**{**vars(state), 'step': done})
    metrics = {f'loss_{name}': share for name, share in shares.items()}
    metrics |= {
        'loss': loss,
        'gradient_norm': gradient_norm,
        'finite': finite.astype(jnp.float32),
        'learning_rate': jnp.asarray(schedule(state.step)),
    }
    return jax.tree.map(partial(jnp.where, finite), updated, unchanged), metrics


def eval_step(
    variables: Any, body: smpl.SMPL, batch: Batch, *, network: inference.Network, flip: bool
) -> Measured:
    """Returns what figures are made of, from one device's share; `flip` as in `inference.forward`."""
    if network.of_roots:
        return Measured(root_m=inference.locate(network, variables, batch.image, batch.crop, flip=flip))
    _, posed = inference.forward(network, variables, body, batch.image, batch.crop, flip=flip)
    return measure(posed, batch, body)


def measure(posed: Posed, batch: Batch, body: smpl.SMPL) -> Measured:
    """Returns what figures are made of: the posed bodies' joints, and their vertices' errors."""
    true = inference.label_vertices(body, batch.betas, batch.quaternions)
    return Measured(
        posed_joints_m=posed.posed_joints_m,
        h36m_joints_m=posed.h36m_joints_m,
        pve_m=jnp.linalg.norm(posed.vertices_m - true, axis=-1).mean(-1),
        root_m=posed.root_m,
    )


def parallel_train_step(devices: Sequence[jax.Device] | None = None, **fixed: Any) -> Callable:
    """Returns `train_step` over the devices, or this process's: (state, body, batch) -> (state, metrics).

    The batch has a leading device axis, see `split_over_devices`.
    """
    step = partial(train_step, **fixed)
    return jax.pmap(step, AXIS, in_axes=(None, None, 0), out_axes=None, donate_argnums=(0,), devices=devices)


def parallel_eval_step(**fixed: Any) -> Callable:
    """Returns `eval_step` over this process's devices: (variables, body, batch) -> `Measured`."""
    return jax.pmap(partial(eval_step, **fixed), axis_name=AXIS, in_axes=(None, None, 0))


def replicate(tree: Any) -> Any:
    """Returns the arrays of `tree` on every device of this process, laid out as the parallel steps do.

    A state that comes in laid out otherwise would have the training step compiled twice.
    """
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def without_mesh(body: smpl.SMPL) -> smpl.SMPL:
    """Returns the body without its mesh: enough for the inverse kinematics and for all joints."""
    mesh = ('v_template', 'directions', 'joint_regressor', 'weights', 'faces')
    return dataclasses.replace(body, **dict.fromkeys(mesh))


def split_over_devices(batch: Batch, devices: int) -> Batch:
    """Returns the batch with a leading device axis; raises ValueError where it cannot be split evenly."""
    size = batch.image.shape[0]
    if size % devices:
        raise ValueError(
            f'batch_size={size} cannot be split over {devices} devices: make --config.batch_size a multiple.'
        )
    return jax.tree.map(lambda x: x.reshape((devices, size // devices) + x.shape[1:]), batch)
