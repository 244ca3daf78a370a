"""The compiler's settings: flags that the CPU wants, where JAX will use the CPU, and a cache of programs."""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import pkgutil
import platform
from collections.abc import Callable, Collection, Mapping

# XLA's CPU back end runs matrix products in YNNPACK only if asked to: a training step of a ResNet-18 is then
# 1.5 times as fast; asked to look closely, it leaves out a copy of every array of the state, 5 % of the step.
# The compiler of another device may not know the flags, and ends the program then.
CPU_FLAGS = (
    '--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT',
    '--xla_cpu_copy_insertion_use_region_analysis=true',
)
# JAX reaches other devices through plugins. Part of a plugin's name -> paths that are there where its device
# is; any other plugin is taken to have a device.
_SIGNS = {'cuda': ('/proc/driver/nvidia', '/dev/nvidiactl', '/dev/dxg'), 'rocm': ('/dev/kfd',)}


def set_up() -> None:
    """Sets the compiler's flags and cache for this machine; to be called before JAX uses a device."""
    os.environ.update(flags(os.environ, plugins=installed_plugins(), exists=os.path.exists))
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # JAX_COMPILATION_CACHE_DIR names another
        jax.config.update('jax_compilation_cache_dir', str(cache_folder(os.environ)))


def cache_folder(environment: Mapping[str, str]) -> pathlib.Path:
    """Returns the user's folder of compiled programs, one of each kind of processor: homes are shared."""
    try:
        about = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
        kind = next(line for line in about.splitlines() if line.startswith(('flags', 'Features')))
    except (OSError, StopIteration):
        kind = platform.processor()
    kind = hashlib.sha256(f'{platform.machine()} {kind}'.encode()).hexdigest()[:12]
    home = environment.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    return pathlib.Path(home) / 'hybrik_jax' / 'programs' / kind


def flags(
    environment: Mapping[str, str], *, plugins: Collection[str], exists: Callable[[str], bool]
) -> dict[str, str]:
    """Returns what to add to the environment: nothing where it has XLA_FLAGS, or JAX will not use the CPU.

    Args:
        plugins: names of JAX's plugins.
        exists: whether there is a path.
    """
    platforms = environment.get('JAX_PLATFORMS', '').split(',')  # the first one named is used
    uses_cpu = platforms[0].strip() == 'cpu'
    if platforms == ['']:
        signs = [[paths for name, paths in _SIGNS.items() if name in plugin] for plugin in plugins]
        uses_cpu = all(known and not any(map(exists, known[0])) for known in signs)
    return {'XLA_FLAGS': ' '.join(CPU_FLAGS)} if uses_cpu and 'XLA_FLAGS' not in environment else {}


def installed_plugins() -> set[str]:
    """Returns the names of JAX's plugins as JAX looks for them, and 'libtpu' where it is installed."""
    names = {entry.name for entry in importlib.metadata.entry_points(group='jax_plugins')}
    namespace = importlib.util.find_spec('jax_plugins')
    if namespace and namespace.submodule_search_locations:
        names |= {module.name for module in pkgutil.iter_modules(namespace.submodule_search_locations)}
    return names | ({'libtpu'} if importlib.util.find_spec('libtpu') else set())
