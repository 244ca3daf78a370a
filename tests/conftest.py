"""Settings of all tests: compiled programs are kept between runs, the recorded outputs are at hand."""

import ctypes
import gc
import os
import pathlib
from collections.abc import Iterator

os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(pathlib.Path(__file__).parent.parent / '.jax_cache'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
if hasattr(ctypes.CDLL(None), 'mallopt'):  # glibc keeps freed arrays for itself: from 256 kB on it shall not
    ctypes.CDLL(None).mallopt(-3, 1 << 18)

import jax
import pytest
from absl import flags

from tests import quick

if 'XLA_FLAGS' not in os.environ:  # XLA reads them here and now; commands that tests start have their own
    os.environ['XLA_FLAGS'] = quick.FLAGS
    jax.devices()
    del os.environ['XLA_FLAGS']

GOLDEN = pathlib.Path(__file__).parent / 'golden'
# Files that take a minute or more come first, the longest before the others: processes that share the suite,
# file by file (`make test`), are then done at about the same time.
LONG = (
    'test_training', 'test_model', 'test_camera', 'test_ik', 'test_signals', 'test_devices',
    'test_real_datasets', 'test_import_torch', 'test_rootnet_training', 'test_rootnet', 'test_predict',
    'test_predict_folder',
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests by what takes long."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope='session')
def golden() -> pathlib.Path:
    """The folder of recorded outputs."""
    return GOLDEN


@pytest.fixture(scope='session')
def body():
    """The free body."""
    from hybrik_jax.body import smpl_file

    return smpl_file.load_body()


@pytest.fixture(scope='session', autouse=True)
def parsed_flags() -> None:
    """grain reads absl flags, which no test parses."""
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope='module', autouse=True)
def forgotten_programs() -> Iterator[None]:
    """Compiled programs of a file of tests are given back when it ends: all together they take gigabytes."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope='session')
def data_root(tmp_path_factory) -> pathlib.Path:
    """A data root with a few synthetic people, see `tests/tiny_config.py`."""
    from tests import helpers

    return helpers.build_tiny_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='session')
def small_run(tmp_path_factory, data_root) -> pathlib.Path:
    """The workdir of a run with random parameters, see `tests/small_run.py`."""
    from tests import small_run

    return small_run.write_run(tmp_path_factory.mktemp('run'), data_root)


@pytest.fixture(scope='session')
def predictor(small_run):
    """Its predictor."""
    from hybrik_jax.predict import Predictor

    return Predictor.load(small_run)


@pytest.fixture(scope='session')
def photo_file(tmp_path_factory) -> pathlib.Path:
    """A drawn photo, 160 x 120 pixels."""
    from tests import small_run

    return small_run.write_photo(tmp_path_factory.mktemp('photos') / 'person.jpg')
