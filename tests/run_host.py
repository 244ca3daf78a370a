"""One of several hosts of a training run on this machine, stopped on the way and started again; then
evaluated.

    python -m tests.run_host HOST HOSTS PORT WORKDIR DATA_ROOT

Host 0 is the coordinator; all hosts must be started. The last host alone gets SIGTERM when step 1 is done.
"""

import os
import signal
import sys

import jax

from hybrik_jax import evaluate, metric_writer, train
from tests.helpers import tiny_config

# What makes the result independent of the number of devices, to float32's rounding; four steps, validated on
# three.
SAME_ON_ANY_DEVICES = {
    'model__backbone__sync_batch_norm': True,
    'model__transformer__dropout': 0.0,
    'model__transformer__patch_sampling': 1.0,
    'num_epochs': 1,
    'checkpoint_every': 10,
    'optimizer__warmup_steps': 1,
    'data__validation_examples': 3,
    'average__tail_epochs': 10.0,
    'evaluation__parameters': ('raw',),
    'evaluation__flips': (False,),
}


class StopsItself(metric_writer.MetricWriter):
    """A writer that sends its process SIGTERM after the first step."""

    def write(self, kind, step, values):
        super().write(kind, step, values)
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Trains as host `HOST`."""
    host, hosts, port, workdir, data_root = sys.argv[1:]
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.distributed.initialize(f'localhost:{port}', num_processes=int(hosts), process_id=int(host))
    config = tiny_config(workdir, data_root, **SAME_ON_ANY_DEVICES)
    if int(host) == int(hosts) - 1:
        train.MetricWriter = StopsItself
    try:
        train.train(config)
    except SystemExit as end:
        print(f'host {host} stopped with status {end.code}')
    train.MetricWriter = metric_writer.MetricWriter
    evaluate.evaluate(config, train.train(config))
    print(f'host {host} of {jax.process_count()}: {jax.device_count()} devices, done')


if __name__ == '__main__':
    main()
