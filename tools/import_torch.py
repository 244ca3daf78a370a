"""Makes a run of weights trained with PyTorch: HybrIK-Transformer's, HybrIK's, RootNet's, or a backbone's.

usage: python -m tools.import_torch hybrik.pth --out runs/hybrik --body SMPL_NEUTRAL.pkl \\
           --h36m-regressor J_regressor_h36m.npy
       python -m tools.import_torch resnet34.pth --out runs/mine --config configs/hybrik_transformer.py

The file is a .pth of PyTorch 1.6 or later, or .safetensors; PyTorch is not needed, nothing in it is executed.
The run can be evaluated, predicted with, exported and trained further like one of our own; its configuration
is OUT/config.py. See docs/checkpoints.md.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import runpy
import shutil
import sys
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrik_jax import config as configuration
from hybrik_jax.body import smpl_file
from hybrik_jax.checkpoint import Checkpoints
from hybrik_jax.export import torch as torch_export
from hybrik_jax.export import torch_file
from hybrik_jax.export.recognise import Architecture, recognise
from hybrik_jax.files import open_plain
from hybrik_jax.model import hybrik
from hybrik_jax.step import create_optimizer, fresh_state

BASES = {
    'transformer': 'configs/hybrik_transformer.py',
    'light': 'configs/hybrik_transformer.py',
    'deconv': 'configs/hybrik_deconv.py',
    'volumes': 'configs/hybrik_hrnet_camera.py',
    'rootnet': 'configs/rootnet.py',
}
CONFIG = '''"""The configuration of weights that tools.import_torch has read.

file: {source}
network: {title}
all the rest: {base}
"""

import runpy

from ml_collections import ConfigDict

CHANGES = {changes}


def get_config() -> ConfigDict:
    """Returns the configuration of {base} with what the imported file says."""
    config = runpy.run_path({base!r})['get_config']()
    config.update_from_flattened_dict(CHANGES)
    return config
'''


def import_file(file: str, out: str, options: argparse.Namespace) -> list[str]:
    """Makes the run folder `out` of a weight file; returns what to tell the user, a line each.

    Args:
        options: the command line's; see `main`.
    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the file cannot be read or does not fit, or `out` is not empty; nothing is left behind.
    """
    folder = pathlib.Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f'--out {out} exists already: give another folder, or remove it.')
    if options.config:
        _load_config(options.config)  # what is wrong with it is said before a large file is read
    entries = torch_file.read(file)
    try:
        architecture = recognise(entries)
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    numbers = sum(array.size for array in torch_export.clean_names(entries).values())
    base, changes, notes = _configuration(architecture, options)
    said = [f'{file}: {architecture.title}, {numbers / 1e6:.1f} million numbers', *notes]
    changes['workdir'] = out
    config = _load_config(base)
    config.update_from_flattened_dict(changes)
    has_body = architecture.num_joints != 1
    if architecture.num_joints and has_body and not config.body:
        said.append('body: the embedded free one, as no --body is given')
        if any(name.startswith('smpl.') for name in torch_export.bare_names(entries)):
            said[-1] += '; the file holds smpl.*, so that its shapes, meshes and figures need SMPL'
    partial = folder.with_name(f'.{folder.name}.unfinished')
    shutil.rmtree(partial, ignore_errors=True)  # of a command that was killed
    try:
        partial.mkdir(parents=True)
        betas = torch_export.mean_shape(entries)
        if betas is None or architecture.num_joints in (None, 1):
            if has_body:
                said.append(f'mean shape: {config.init_betas or "zeros"}, the file has none')
        else:
            body = smpl_file.load_body(config.body or None, config.h36m_regressor or None)
            np.savez(partial / 'init_betas.npz', betas=betas, model_name=str(body.name))
            changes['init_betas'] = os.path.abspath(folder / 'init_betas.npz')
            config.update_from_flattened_dict(changes)
            said.append(f"mean shape: the file's init_shape, taken as one of the body model {body.name!r}")
        variables = _variables(config, architecture, entries)
        del entries  # a large network's share of the memory
        _save_run(partial, config, variables)
        text = CONFIG.format(title=architecture.title, source=file, base=base, changes=_as_source(changes))
        (partial / 'config.py').write_text(text)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    using = f'hybrik_jax.main --config {out}/config.py --mode evaluate'
    if not has_body:
        using = f'tools.find_roots data/NAME --rootnet {out} --out roots.json'
    return [*said, f'Next: python -m {using}']


def _configuration(
    architecture: Architecture, options: argparse.Namespace
) -> tuple[str, dict[str, Any], list[str]]:
    """Returns the configuration to start from, the keys to change in it, and what to tell about them."""
    section = 'model.light' if architecture.keys.get('model.lifting') == 'light' else 'model.transformer'
    asked = {'model.transformer.variant': options.variant, f'{section}.num_heads': options.heads}
    asked = {key: value for key, value in asked.items() if value is not None}
    if architecture.num_joints == 1 and (options.body or options.h36m_regressor or asked):
        raise ValueError(
            f'{options.file} is {architecture.title}: it has no body and no Transformer, leave --body, '
            '--h36m-regressor, --variant and --heads away.'
        )
    changes, said = {}, []
    if options.config:
        base = options.config
        there = configuration.flat(_load_config(base).to_dict())
        differing = [
            f'{key} is {there[key]!r} in the configuration, {value!r} in the file'
            for key, value in architecture.keys.items()
            if there[key] != value
        ]
        if differing:
            raise ValueError(
                f'{options.file} ({architecture.title}) does not fit {base}. Give a configuration that it '
                'fits, or none, and the file tells it:\n  ' + '\n  '.join(differing)
            )
    elif architecture.num_joints is None:
        raise ValueError(
            f'{options.file} is {architecture.title}: train from it with --config.pretrained.backbone='
            f'{options.file}, or give --config configs/X.py for a fresh network on it.'
        )
    else:
        base = BASES[architecture.keys['model.lifting']]
        changes |= architecture.keys | architecture.assumed
        for key, value in (architecture.assumed | asked).items():
            said.append(
                f'{key}={value!r}: {"as asked" if key in asked else "assumed, the file does not tell it"}'
            )
    changes |= asked
    if any(name.endswith('.camera') and value for name, value in architecture.keys.items()):
        changes['evaluation.root'] = 'network'
    if architecture.num_joints == 24 and options.right_hand == 'released':
        changes['model.right_hand'] = 'released'
        said.append(
            "model.right_hand='released', as of a released network: --right-hand leaf for one of ours"
        )
    for key, path in (('body', options.body), ('h36m_regressor', options.h36m_regressor)):
        if path:
            changes[key] = os.path.abspath(path)
    if architecture.num_joints:
        changes['evaluation.parameters'] = ('raw',)  # the averages begin with training
    else:
        said.append('all but the backbone starts anew')
    return base, changes, said


def _load_config(path: str) -> ConfigDict:
    open_plain(path, 'a configuration').close()
    try:
        get_config = runpy.run_path(path).get('get_config')
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, LookupError) as error:
        raise ValueError(f'--config {path} cannot be used: {type(error).__name__}: {error}') from error
    if get_config is None:
        raise ValueError(f'--config {path} defines no get_config(): give a file such as configs/default.py.')
    return get_config()


def _variables(config: ConfigDict, architecture: Architecture, entries: dict[str, np.ndarray]) -> Any:
    """Returns the variables of the file, or fresh ones on its backbone."""
    axis_name = 'batch' if config.model.backbone.sync_batch_norm else None
    model = hybrik.create_model(config.model, axis_name=axis_name)
    create = functools.partial(hybrik.initialise, model, image_size=config.image_size)
    if architecture.num_joints is None:
        return torch_export.load_backbone(entries, create(jax.random.key(config.seed)))
    return torch_export.from_state_dict(entries, jax.eval_shape(create, jax.random.key(0)))


def _save_run(folder: pathlib.Path, config: ConfigDict, variables: Any) -> None:
    """Writes the checkpoint before the first update, and config.json, as training does."""
    optimizer = create_optimizer(config.optimizer)
    # `fresh_state`, without a copy of the variables on a device for each average.
    shapes = jax.eval_shape(functools.partial(fresh_state, optimizer=optimizer), variables)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state = dataclasses.replace(zeros, variables=variables, ema=variables)
    plain = configuration.plain(config)
    checkpoints = Checkpoints(folder)
    checkpoints.save(state, plain)
    checkpoints.close()
    (folder / 'config.json').write_text(json.dumps(plain, indent=1) + '\n')


def _as_source(changes: dict[str, Any]) -> str:
    """Returns the dict as Python source, an entry a line."""
    return '{\n' + ''.join(f'    {key!r}: {value!r},\n' for key, value in changes.items()) + '}'


def main() -> int:
    """Imports what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('file', help='.pth or .safetensors')
    parser.add_argument('--out', required=True, help="the new run's folder")
    parser.add_argument(
        '--config', help='a configuration that the file must fit; else it is told by the file'
    )
    parser.add_argument('--body', help='SMPL file that the network was trained with')
    parser.add_argument('--h36m-regressor', help='.npy, (17, V), for an SMPL file')
    parser.add_argument('--variant', choices=['custom', 'original'], help='of the Transformer; else custom')
    parser.add_argument('--heads', type=int, help='of its attention; else 8')
    parser.add_argument(
        '--right-hand', choices=['released', 'leaf'], default='released', help='24 joints only'
    )
    args = parser.parse_args()
    try:
        lines = import_file(args.file, args.out, args)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print('\n'.join(lines))
    return 0


if __name__ == '__main__':
    sys.exit(main())
