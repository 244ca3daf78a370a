"""The compiler's settings, on machines that are made up."""

import os
import subprocess
import sys

import pytest

from hybrik_jax import compiler
from tests import helpers

NVIDIA, TPU, AMD = '/proc/driver/nvidia', '/dev/accel0', '/dev/kfd'


@pytest.mark.parametrize(
    ('environment', 'plugins', 'paths', 'wanted'),
    [
        ({}, [], [], True),  # a laptop
        ({'JAX_PLATFORMS': ''}, [], [], True),
        ({}, [], [NVIDIA], True),  # a card that JAX has no plugin for
        ({}, ['xla_cuda12'], [], True),  # a plugin that finds no card
        ({}, ['xla_cuda12'], [NVIDIA], False),
        ({}, ['xla_cuda13'], ['/dev/nvidiactl'], False),  # a container
        ({}, ['jax_plugins.xla_cuda12'], ['/dev/dxg'], False),  # Windows' subsystem for Linux
        ({'JAX_PLATFORMS': 'cpu'}, ['xla_cuda12'], [NVIDIA], True),
        ({'JAX_PLATFORMS': 'cpu,cuda'}, ['xla_cuda12'], [NVIDIA], True),
        ({'JAX_PLATFORMS': 'cuda,cpu'}, ['xla_cuda12'], [NVIDIA], False),
        ({'JAX_PLATFORMS': 'cuda'}, [], [], False),
        ({}, ['libtpu'], [TPU], False),
        ({'TPU_NAME': 'local'}, ['libtpu'], [], False),
        ({'JAX_PLATFORMS': 'tpu,cpu'}, ['libtpu'], [TPU], False),
        ({'JAX_PLATFORMS': 'cpu'}, ['libtpu'], [TPU], True),
        ({}, ['xla_rocm7'], [AMD], False),
        ({}, [], [AMD], True),
        ({}, ['xla_cuda12', 'libtpu'], [], False),
        ({}, ['somebody_elses'], [], False),
    ],
)
def test_the_flag_is_set_where_jax_uses_the_cpu(environment, plugins, paths, wanted):
    found = compiler.flags(environment, plugins=plugins, exists=paths.__contains__)
    assert found == ({'XLA_FLAGS': ' '.join(compiler.CPU_FLAGS)} if wanted else {})


@pytest.mark.parametrize('own', ['', '--xla_force_host_platform_device_count=4'])
def test_flags_that_the_user_has_set_stay(own):
    assert compiler.flags({'XLA_FLAGS': own, 'JAX_PLATFORMS': 'cpu'}, plugins=[], exists=bool) == {}


def test_plugins_are_looked_for_as_jax_does(tmp_path, monkeypatch):
    before = compiler.installed_plugins()
    folder = tmp_path / 'jax_plugins' / 'xla_cuda99'
    folder.mkdir(parents=True)
    (folder / '__init__.py').touch()
    (tmp_path / 'libtpu').mkdir()
    (tmp_path / 'libtpu' / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert compiler.installed_plugins() == before | {'xla_cuda99', 'libtpu'}


def test_programs_are_kept_between_processes(tmp_path):
    """The second process takes from the user's cache what the first one compiled, unless another is named."""
    program = (
        'from hybrik_jax import compiler; compiler.set_up(); import jax; '
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0); jax.jit(lambda x: 3 * x)(2.0)"
    )
    kept = {name: value for name, value in os.environ.items() if 'COMPILATION_CACHE' not in name}

    def run(**changes):
        environment = kept | {'XDG_CACHE_HOME': str(tmp_path / 'home')} | changes
        subprocess.run([sys.executable, '-c', program], check=True, env=environment, cwd=helpers.ROOT)
        return sorted(path.name for path in tmp_path.rglob('*-cache'))

    programs = run()
    assert programs and run() == programs
    assert all(path.parents[2].name == 'hybrik_jax' for path in tmp_path.rglob('*-cache'))
    assert len(run(JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'other'))) == 2 * len(programs)
