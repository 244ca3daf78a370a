"""Three float64 updates on one device and on all of them, from the same global batches; prints how far they
part.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.run_three_steps [LIFTING]

The last line is JSON: the largest differences of parameters, batch statistics, averages and metrics, and how
far the updates moved the parameters.
"""

import dataclasses
import json
import sys

import jax

jax.config.update('jax_enable_x64', True)

import numpy as np  # noqa: E402

from hybrik_jax import setup  # noqa: E402
from hybrik_jax.body import smpl  # noqa: E402
from hybrik_jax.model.hybrik import initialise  # noqa: E402
from hybrik_jax.step import fresh_state, parallel_train_step, replicate  # noqa: E402
from tests.helpers import batch_of, largest_difference, person, tiny_config, without_3d  # noqa: E402

STEPS, EXAMPLES = 3, 8
ONLY_2D = (0, 1, 2, 5)  # of four devices the first has no 3D label at all, the last has nothing but


def double(tree):
    """Returns the tree with its floating-point arrays in float64."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if np.asarray(x).dtype.kind == 'f' else x, tree)


def random_variables(model, image_size):
    """Returns variables of a fitting size, in float64, without compiling the network's own initialisation."""
    shapes = jax.eval_shape(lambda key: initialise(model, key, image_size=image_size), jax.random.key(0))
    rng = np.random.default_rng(0)

    def random(path, like):
        if len(like.shape) > 1:
            return rng.normal(0, np.prod(like.shape[:-1]) ** -0.5, like.shape)
        return np.full(like.shape, 1.0 if path[-1].key in ('scale', 'var') else 0.0)

    return jax.tree_util.tree_map_with_path(random, shapes)


def main() -> None:
    """Compares one device with all."""
    config = tiny_config(
        'unused',
        'unused',
        model__lifting=sys.argv[1] if len(sys.argv) > 1 else 'transformer',
        model__backbone__dtype='float64',
        model__deconv__dtype='float64',
        model__transformer__dtype='float64',
        model__backbone__sync_batch_norm=True,
        model__transformer__dropout=0.0,
        model__transformer__patch_sampling=1.0,
        loss__rotations=1.0,
        loss__twists=1.0,
        loss__smpl_joints=1.0,
        loss__h36m_joints=1.0,
        optimizer__warmup_steps=1,
    )
    body = setup.load_body(config)
    arrays = {f.name: getattr(body, f.name) for f in dataclasses.fields(body)}
    body = smpl.SMPL(**{k: double(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()})
    network = setup.create_network(config, body)
    variables = random_variables(network.model, config.image_size)

    def run(devices: int):
        settings = setup.step_settings(config, network, STEPS, 1) | {'ema_decay': 0.9, 'tail_start': 1}
        state = replicate(fresh_state(variables, settings['optimizer']))
        step = parallel_train_step(**settings)
        metrics = []
        for update in range(STEPS):
            people = [person(EXAMPLES * update + i) for i in range(EXAMPLES)]
            people = [without_3d(p) if i in ONLY_2D else p for i, p in enumerate(people)]
            batch = double(batch_of(people, devices))
            state, values = step(state, replicate(body), batch)
            metrics.append(jax.tree.map(np.asarray, values))
        return jax.tree.map(np.asarray, state), metrics

    one, metrics_of_one = run(1)
    all_, metrics_of_all = run(jax.device_count())
    start = variables['params']
    print(
        json.dumps(
            {
                'devices': jax.device_count(),
                'parameters': largest_difference(one.variables['params'], all_.variables['params']),
                'batch_statistics': largest_difference(
                    one.variables['batch_stats'], all_.variables['batch_stats']
                ),
                'averages': largest_difference((one.ema, one.tail), (all_.ema, all_.tail)),
                'metrics': largest_difference(metrics_of_one, metrics_of_all),
                'moved': largest_difference(start, one.variables['params']),
                'largest_statistic': max(
                    np.abs(x).max() for x in jax.tree.leaves(one.variables['batch_stats'])
                ),
                'types': sorted({str(x.dtype) for x in jax.tree.leaves(one.variables)}),
                'finite': min(float(m['finite']) for m in metrics_of_one + metrics_of_all),
                'losses': [float(m['loss']) for m in metrics_of_one],
            }
        )
    )


if __name__ == '__main__':
    main()
