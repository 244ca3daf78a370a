"""The compiler flag that the CPU wants, where the CPU is what JAX will use."""

import importlib.metadata
import importlib.util
import os
import pkgutil
from collections.abc import Callable, Collection, Mapping

# XLA's CPU back end runs matrix products in YNNPACK only if asked to: a training step of a ResNet-18 is then
# 1.5 times as fast. The compiler of another device may not know the flag, and ends the program then.
CPU_FLAG = '--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT'
# JAX reaches other devices through plugins. Part of a plugin's name -> paths that are there where its device
# is; any other plugin is taken to have a device.
_SIGNS = {'cuda': ('/proc/driver/nvidia', '/dev/nvidiactl', '/dev/dxg'), 'rocm': ('/dev/kfd',)}


def set_flags() -> None:
    """Sets the compiler's flags for this machine in the environment; to be called before JAX starts."""
    os.environ.update(flags(os.environ, plugins=installed_plugins(), exists=os.path.exists))


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
    return {'XLA_FLAGS': CPU_FLAG} if uses_cpu and 'XLA_FLAGS' not in environment else {}


def installed_plugins() -> set[str]:
    """Returns the names of JAX's plugins as JAX looks for them, and 'libtpu' where it is installed."""
    names = {entry.name for entry in importlib.metadata.entry_points(group='jax_plugins')}
    namespace = importlib.util.find_spec('jax_plugins')
    if namespace and namespace.submodule_search_locations:
        names |= {module.name for module in pkgutil.iter_modules(namespace.submodule_search_locations)}
    return names | ({'libtpu'} if importlib.util.find_spec('libtpu') else set())
