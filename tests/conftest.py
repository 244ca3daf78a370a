"""Settings of all tests: compiled programs are kept between runs, the recorded outputs are at hand."""

import os
import pathlib

os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(pathlib.Path(__file__).parent.parent / '.jax_cache'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import pytest
from absl import flags

GOLDEN = pathlib.Path(__file__).parent / 'golden'


@pytest.fixture(scope='session')
def golden() -> pathlib.Path:
    """The folder of recorded outputs."""
    return GOLDEN


@pytest.fixture(scope='session', autouse=True)
def parsed_flags() -> None:
    """grain reads absl flags, which no test parses."""
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope='session')
def data_root(tmp_path_factory) -> pathlib.Path:
    """A data root with a few synthetic people, see `tests/tiny_config.py`."""
    from tests import helpers

    return helpers.build_tiny_data(tmp_path_factory.mktemp('data'))
