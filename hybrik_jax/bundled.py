"""The network that comes with the package: its parameters in half precision, in one file, and what it is.

    run = bundled.load()  # as `checkpoint.load` reads a run

The file is an .npz: `params/...`, each rounded to float16; `batch_stats/...` in float32: means and variances
of activations are few, and some variances lie below what float16 tells apart; `about`, JSON as bytes: format,
updates done, which average of the parameters it is, configuration, where it comes from. It is not compressed
(halves of noise hardly are) and has no dates: the same run gives the same bytes. `tools.bundle` makes it.
"""

import io
import json
import pathlib
import zipfile
from typing import Any

import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

import hybrik_jax
from hybrik_jax import checkpoint
from hybrik_jax.body import smpl_file
from hybrik_jax.step import TrainState

FILE = pathlib.Path(__file__).parent / 'assets' / 'network.npz'
NAME = 'bundled'  # what `pretrained.network` calls it
FORMAT = 1
LARGEST = 16_000_000  # bytes: everybody who installs the package has them
LICENCE = 'Apache-2.0'
AVERAGES = ('tail', 'ema')
_ABOUT = 'about'
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


def pack(run: checkpoint.Run, *, parameters: str, config: dict[str, Any]) -> bytes:
    """Returns the file of a run's network, one of its averages.

    Args:
        parameters: 'tail' or 'ema'.
        config: what the file says of the run's configuration (nested dicts), in place of `run.config`, which
            may name folders of one machine.
    Raises:
        ValueError: that average has not begun; a parameter or statistic that float16 cannot hold or that is
            not finite; a file that would be larger than `LARGEST`.
    """
    if parameters not in AVERAGES:
        raise ValueError(f'The bundled network is an average of parameters, {AVERAGES}: not {parameters!r}.')
    arrays = _rounded(run.state.parameters(parameters))
    about = {
        'format': FORMAT,
        'step': run.step,
        'parameters': parameters,
        'tail_updates': int(run.state.tail_count),
        'config': config,
        'source': f'tools.bundle of hybrik_jax {hybrik_jax.__version__}, run {run.folder.name}',
        'licence': LICENCE,
        'arrays': sorted(arrays),
    }
    text = json.dumps(about, sort_keys=True, allow_nan=False).encode()
    arrays = {_ABOUT: np.frombuffer(text, np.uint8), **arrays}
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f'{name}.npy', _DATE), content.getvalue())
    if file.tell() > LARGEST:
        raise ValueError(
            f'The network takes {file.tell() / 1e6:.1f} MB, the package has room for {LARGEST / 1e6:g}: '
            'bundle a smaller one.'
        )
    return file.getvalue()


def load(path: pathlib.Path | None = None) -> checkpoint.Run:
    """Returns the run of a file of `pack`: of its parameters that average alone, in float32, no optimizer.

    Args:
        path: None: the package's own.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another version of the program.
    """
    path = path or FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'This package came without its network ({path.name} is not in {path.parent.name}): name the '
            'folder of a run (--checkpoint), or make the file by tools.bundle.'
        )
    try:
        arrays = smpl_file.read_npz(path)
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        if about['format'] == FORMAT and about['arrays'] != sorted(arrays):
            raise ValueError('arrays are missing')
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is damaged or no network of tools.bundle: install the package again ({error!s:.200}).'
        ) from error
    if about['format'] != FORMAT:
        raise ValueError(
            f'{path} has format {about["format"]}, this version of the package reads {FORMAT}: bundle anew.'
        )
    variables: dict[str, Any] = {'params': {}, 'batch_stats': {}}
    for name, array in arrays.items():
        *folders, last = name.split('/')
        tree = variables
        for folder in folders:
            tree = tree.setdefault(folder, {})
        tree[last] = array.astype(np.float32)
    averages = dict.fromkeys(AVERAGES) | {about['parameters']: variables}
    count = np.int32(about['tail_updates'] if about['parameters'] == 'tail' else 0)
    step = np.int32(about['step'])
    state = TrainState(step=step, variables=None, optimizer=None, **averages, tail_count=count)
    return checkpoint.Run(path, about['step'], about['config'], state)


def _rounded(variables: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of variables by name, parameters as float16, statistics as float32."""
    arrays = {}
    for path, leaf in tree_leaves_with_path(variables):
        name = keystr(path, simple=True, separator='/')
        array = np.asarray(leaf, np.float32)
        with np.errstate(over='ignore'):
            rounded = array.astype(np.float16 if name.startswith('params/') else np.float32)
        if wrong := np.count_nonzero(~np.isfinite(rounded)):
            extreme = f'up to {np.abs(array).max():g}' if np.isfinite(array).all() else 'some not finite'
            raise ValueError(
                f'{name} has {wrong} values that {rounded.dtype} cannot hold ({extreme}): the network cannot '
                'be bundled.'
            )
        arrays[name] = np.ascontiguousarray(rounded)
    return dict(sorted(arrays.items()))
