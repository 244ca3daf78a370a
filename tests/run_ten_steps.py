"""Updates over any number of devices and hosts, from the same global batches; leaves a checkpoint.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.run_ten_steps \
        '{"runs": [["FOLDER", 1, 10], ["OTHER", 8, 10]], "changes": {"model__lifting": "rootnet"}}'

Each run is a folder, its devices of this host and its last step; where there is a checkpoint it goes on from
there. Beside: `double` (all in float64, or in the types of the configuration), `host`, `hosts` and `port` (of
host 0). A run's metrics are in FOLDER/metrics-STEP.json, STEP being the one it began after.
"""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np

from hybrik_jax import config as configuration
from hybrik_jax import setup
from hybrik_jax.body import smpl
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.model.hybrik import initialise
from hybrik_jax.step import fresh_state, parallel_train_step, replicate
from tests.helpers import batch_of, person, tiny_config, without_3d

GIVEN = {'runs': [], 'changes': {}, 'double': True, 'host': 0, 'hosts': 1, 'port': 0}
STEPS, EXAMPLES = 10, 16
ONLY_2D = (0, 1, 2, 5, 11, 12)  # of eight devices the first has no 3D label at all, the last nothing but


def double(tree):
    """Returns the tree with its floating-point arrays in float64."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if np.asarray(x).dtype.kind == 'f' else x, tree)


def random_variables(model, image_size, kind):
    """Returns variables of a fitting size, of a kind of float, without compiling the network's own start."""
    shapes = jax.eval_shape(lambda key: initialise(model, key, image_size=image_size), jax.random.key(0))
    rng = np.random.default_rng(0)

    def random(path, like):
        if len(like.shape) > 1:
            return kind(rng.normal(0, np.prod(like.shape[:-1]) ** -0.5, like.shape))
        return np.full(like.shape, 1.0 if path[-1].key in ('scale', 'var') else 0.0, kind)

    return jax.tree_util.tree_map_with_path(random, shapes)


def main(given: dict) -> None:
    """Makes the runs that are `given`."""
    jax.config.update('jax_enable_x64', given['double'])
    if given['hosts'] > 1:
        jax.config.update('jax_cpu_collectives_implementation', 'gloo')
        jax.distributed.initialize(f'localhost:{given["port"]}', given['hosts'], given['host'])

    config = tiny_config(
        'unused',
        'unused',
        model__backbone__sync_batch_norm=True,
        model__transformer__dropout=0.0,
        model__deconv__dropout=0.0,
        model__transformer__patch_sampling=1.0,
        loss__rotations=1.0,
        loss__twists=1.0,
        loss__smpl_joints=1.0,
        loss__h36m_joints=1.0,
        optimizer__warmup_steps=1,
        **given['changes'],
    )
    config = configuration.resolved(config)
    plain, kind = configuration.plain(config), np.float64 if given['double'] else np.float32
    if given['double']:  # no configuration of a user's may say so
        for part in ('backbone', 'deconv', 'transformer'):
            config.model[part].dtype = 'float64'
    body = setup.load_body(config)
    if given['double']:
        arrays = {f.name: getattr(body, f.name) for f in dataclasses.fields(body)}
        body = smpl.SMPL(**{k: double(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()})
    network = setup.create_network(config, body)
    settings = setup.step_settings(config, network, STEPS, 1) | {'ema_decay': 0.9, 'tail_start': 4}
    step = parallel_train_step(**settings)
    variables = random_variables(network.model, config.image_size, kind)
    body = replicate(setup.body_of_step(config, body))
    share = EXAMPLES // given['hosts']

    for folder, devices, stop in given['runs']:
        checkpoints = Checkpoints(folder)
        fresh = fresh_state(variables, settings['optimizer'])
        state = replicate(checkpoints.restore(fresh, plain) or fresh)
        start, metrics = int(state.step), []
        for update in range(start, stop):
            people = [person(EXAMPLES * update + i) for i in range(EXAMPLES)]
            people = [without_3d(p) if i in ONLY_2D else p for i, p in enumerate(people)]
            batch = batch_of(people[share * given['host'] :][:share], devices)
            state, values = step(state, body, double(batch) if given['double'] else batch)
            metrics.append({name: float(value) for name, value in values.items()})
        checkpoints.save(state, plain)
        checkpoints.wait_for_all_hosts()
        if not given['host']:
            (pathlib.Path(folder) / f'metrics-{start}.json').write_text(json.dumps(metrics))
    print(f'host {given["host"]} of {jax.process_count()}, {jax.device_count()} devices: done')


if __name__ == '__main__':
    main(GIVEN | json.loads(sys.argv[1]))
