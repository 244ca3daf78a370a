"""Configurations as one names them on a command line: `FILE.py`, `FILE.py:KEY=VALUE,KEY=VALUE`."""

import ast
import pathlib
import re
import runpy
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from hybrik_jax import config as configuration

PRESETS = {name: f'preset={name}' for name in configuration.PRESETS}


def load(spec: str, *, base: str = '', overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the configuration that a text names.

    Args:
        spec: `FILE.py`, then a colon and overrides or names of presets with commas between; these alone are
            about the file `base`.
        overrides: `KEY=VALUE`, made before those of the text.
    Raises:
        ValueError: for a file that is none, a key that is none, a value that cannot be.
    """
    file, changes = apart(spec, base)
    changes = ','.join(PRESETS.get(change, change) for change in _split(changes))
    if not _is_file(file):
        raise ValueError(f'{spec!r} is no configuration: give FILE.py or FILE.py:KEY=VALUE,KEY=VALUE.')
    if not pathlib.Path(file).is_file():
        raise ValueError(f'{file} cannot be read: there is no such file.')
    config = runpy.run_path(file)['get_config']()
    for change in [*overrides, *_split(changes)]:
        _change(config, change)
    config = configuration.resolved(config)
    configuration.check(config, devices=jax.device_count(), hosts=jax.process_count())
    return config


def apart(spec: str, base: str) -> tuple[str, str]:
    """Returns the file and the changes that a text names; the file is `base` where there are only changes."""
    file, _, changes = spec.partition(':') if _is_file(spec) else (base, ':', spec)
    return file, changes


def _split(changes: str) -> list[str]:
    """Returns overrides, and names of presets, that have commas between; values may have commas, too."""
    names = '|'.join(PRESETS)
    return [change for change in re.split(rf',(?=[\w.]+=|(?:{names})(?:,|$))', changes) if change]


def _is_file(spec: str) -> bool:
    return spec.partition(':')[0].endswith('.py')


def _change(config: ConfigDict, change: str) -> None:
    name, equals, text = change.partition('=')
    if not equals:
        raise ValueError(f'{change!r} is no override: give KEY=VALUE.')
    if name not in configuration.KEYS:
        raise ValueError(configuration.misspelt(name))
    value = _value(text)
    if isinstance(value, int) and not isinstance(value, bool) and isinstance(_at(config, name), float):
        value = float(value)
    if refused := configuration.problem(name, value):
        raise ValueError(refused)
    with config.unlocked():
        config.update_from_flattened_dict({name: value})


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _at(config: Any, name: str) -> Any:
    for part in name.split('.'):
        config = config[part]
    return config
