"""Trains and evaluates: `python -m hybrik_jax.main --config configs/NAME.py [--config.KEY=VALUE ...]`."""

import contextlib
import logging
import os
import pathlib
import re
import sys
import time

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from hybrik_jax import compiler, ending

LOG = logging.getLogger('hybrik_jax')
FLAGS = flags.FLAGS
config_flags.DEFINE_config_file('config', None, 'Configuration file, see configs/.', lock_config=True)
flags.DEFINE_enum('mode', 'train', ['train', 'evaluate'], 'train (and evaluate then), or evaluate only.')
flags.DEFINE_bool('distributed', False, 'Several hosts: call jax.distributed.initialize() first.')
flags.DEFINE_bool('verify', False, 'Compare every file of the datasets with its checksum before beginning.')
flags.DEFINE_bool('debug', False, 'Show the whole traceback of an error instead of its message.')
flags.mark_flag_as_required('config')

# What a command line may raise, and a configuration file, which is a program.
_UNUSABLE = (
    flags.Error,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags and returns the arguments; ends with one line where they cannot be used."""
    try:
        arguments = FLAGS(argv)
        if len(arguments) > 1:
            advice = 'Overrides look like --config.batch_size=64.'
            raise flags.Error(f'Unknown arguments: {arguments[1:]}. {advice}')
        if not isinstance(FLAGS.config, ConfigDict):
            getattr(FLAGS.config, 'workdir', None)  # raises what kept the file from being read
            raise TypeError(f'get_config() gives {type(FLAGS.config).__name__}, not ConfigDict')
    except _UNUSABLE as error:
        if '--debug' in argv:
            raise
        sys.stderr.write(f'{_reason(error, argv)}\n')
        raise SystemExit(2) from None
    return arguments


def _reason(error: Exception, argv: list[str]) -> str:
    """Returns the line that says what is wrong with a command line."""
    from hybrik_jax import config as configuration  # not before: it imports JAX

    last = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
    illegal = re.match(r'flag --config\.([^=]+)=(.*?): ', last)
    if illegal and illegal[1] in configuration.KEYS:
        return configuration.problem(illegal[1], illegal[2]) or last
    if isinstance(error, flags.Error) and 'config file' not in str(error):
        return last
    for override in filter(None, (re.match(r'--?(?:no)?config\.([^=]+)', argument) for argument in argv)):
        if not any(f'{key}.'.startswith(f'{override[1]}.') for key in configuration.KEYS):
            return configuration.misspelt(override[1])
    found = re.search(r'--?config[ =](\S+)', ' '.join(argv))
    file = found[1] if found else 'The configuration file'
    if isinstance(error, OSError):
        return f'{file} cannot be read: ' + re.sub(r'.*\[Errno \d+\] ', '', last)
    kind = '' if isinstance(error, flags.Error) else f'{type(error).__name__}: '
    return f'{file} cannot be used: {kind}{last} (--debug shows where)'


def show_log() -> None:
    """Writes this package's messages to stderr; the libraries' own stay at warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)


def used_datasets(config: ConfigDict, *, training: bool = True) -> list[str]:
    """Returns the names of the datasets that a run reads; not `training`: that an evaluation does."""
    from hybrik_jax import catalogue

    mixed = [name for name, share in config.data.mixture.items() if share > 0]
    scored = tuple(config.evaluation.datasets) or (config.data.test,)
    scored = [name for name in scored if not catalogue.scored_on_photos(name)]
    return sorted({*scored, *((*mixed, config.data.validation) if training else ())})


def draw_missing_people(config: ConfigDict, *, hosts: int) -> None:
    """Draws the synthetic people of `config.data.synthetic` where a run wants them and they are missing.

    Those to train on for a quarter of `config.minutes` at most: who is drawn by then is the set.

    Raises:
        FileNotFoundError: there are several hosts, of which one would draw what another reads.
    """
    from hybrik_jax.data import store

    if 'synthetic' not in used_datasets(config):
        return
    folder = pathlib.Path(config.data.root) / 'synthetic'
    try:
        store.find(folder)
    except FileNotFoundError as error:
        if hosts > 1:
            raise FileNotFoundError(f'Draw the people before several hosts start. {error}') from error
        from hybrik_jax import setup
        from hybrik_jax.synthetic import reader

        # What is wrong with them is said before minutes of drawing.
        setup.pretrained_weights(config)
        setup.pretrained_network(config)
        sizes, minutes = config.data.synthetic, config.minutes / 4
        most = f', in {minutes:g} minutes at most' if minutes else ''
        said = f'drawing {sizes.train} of them to train on{most}'
        LOG.info('There are no synthetic people in %s: %s.', folder, said)
        reader.build(folder, **sizes.to_dict(), workers=os.cpu_count() or 1, minutes=minutes)


def score_before(config: ConfigDict, folder: pathlib.Path) -> None:
    """Writes into a folder what the network scores that a run begins with, unless that was done before."""
    from hybrik_jax import evaluate

    if not (folder / 'evaluation.json').exists():
        config = config.copy_and_resolve_references()
        config.workdir = str(folder)
        evaluate.evaluate(config)


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    started = time.monotonic()
    show_log()
    import jax

    from hybrik_jax import config as configuration
    from hybrik_jax import evaluate, train, workdir
    from hybrik_jax.data import store

    if FLAGS.distributed:
        jax.distributed.initialize()
    config, state, hosts = FLAGS.config, None, jax.process_count()
    try:
        configuration.check(config, devices=jax.device_count(), hosts=hosts)
        training, held = FLAGS.mode == 'train', contextlib.nullcontext()
        if training:
            path = workdir.create(config.workdir)
            held = workdir.lock(path) if jax.process_index() == 0 else held
        with held:
            if training:
                draw_missing_people(config, hosts=hosts)
            if FLAGS.verify:
                for name in used_datasets(config, training=training):
                    LOG.info('%s', store.verify(pathlib.Path(config.data.root) / name))
            if training and config.pretrained.network:
                score_before(config, path / workdir.BEFORE)
        if training:
            state = train.train(config, started=started)
        evaluate.evaluate(config, state)
    except (ValueError, OSError, FloatingPointError) as error:
        if FLAGS.debug:
            raise
        LOG.error('%s', error)
        raise SystemExit(1) from None


if __name__ == '__main__':
    ending.of_command()
    compiler.set_up()
    app.run(main, flags_parser=parse)
