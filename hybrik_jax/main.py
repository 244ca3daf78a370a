"""Trains and evaluates: `python -m hybrik_jax.main --config configs/NAME.py [--config.KEY=VALUE ...]`."""

import logging
import os
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

# XLA's CPU back end runs matrix products in YNNPACK only if asked to; it must be asked before JAX starts.
_CPU_FLAG = '--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT'

LOG = logging.getLogger('hybrik_jax')
FLAGS = flags.FLAGS
config_flags.DEFINE_config_file('config', None, 'Configuration file, see configs/.', lock_config=True)
flags.DEFINE_enum(
    'mode', 'train', ['train', 'evaluate'], 'train (and evaluate at the end), or evaluate only.'
)
flags.DEFINE_bool('distributed', False, 'Several hosts: call jax.distributed.initialize() first.')
flags.DEFINE_bool('debug', False, 'Show the whole traceback of an error instead of its message.')
flags.mark_flag_as_required('config')


def show_log() -> None:
    """Writes this package's messages to stderr; the libraries' own stay at warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    if len(argv) > 1:
        raise app.UsageError(f'Unknown arguments: {argv[1:]}. Overrides look like --config.batch_size=64.')
    if os.environ.get('JAX_PLATFORMS', '') == 'cpu' or not pathlib.Path('/proc/driver/nvidia').exists():
        os.environ.setdefault('XLA_FLAGS', _CPU_FLAG)
    show_log()
    import jax

    from hybrik_jax import train

    if FLAGS.distributed:
        jax.distributed.initialize()
    try:
        state = train.train(FLAGS.config) if FLAGS.mode == 'train' else None
        train.test(FLAGS.config, state)
    except (ValueError, OSError, FloatingPointError) as error:
        if FLAGS.debug:
            raise
        LOG.error('%s', error)
        raise SystemExit(1) from None


if __name__ == '__main__':
    app.run(main)
