"""The CPU's compiler flag, on machines that are made up."""

import pytest

from hybrik_jax import compiler

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
    assert found == ({'XLA_FLAGS': compiler.CPU_FLAG} if wanted else {})


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
