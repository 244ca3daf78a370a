"""Writes a run's network as a PyTorch state dict under the released checkpoints' names, without PyTorch.

usage: python -m tools.export_torch --checkpoint runs/synthetic --out model.pth [--parameters tail] [--best]
           [--buffers-from RELEASED.pth]

A .safetensors OUT is written in that format, a .pth.tar as RootNet's programs write and read it: in
{'network': ...}, with `module.` before each name. The file is read back and compared before it gets its name.
What the original programs ask for beside the network, the body model's `smpl.*`, is licensed and is taken
from a file of theirs: see docs/checkpoints.md.
"""

import argparse
import re
import sys

import numpy as np

from hybrik_jax import checkpoint
from hybrik_jax.body import smpl_file
from hybrik_jax.export import torch as torch_export
from hybrik_jax.export import torch_file
from hybrik_jax.model.lifting import START_SCALE
from hybrik_jax.step import PARAMETERS

BUFFERS = re.compile(r'smpl\..*|init_cam')


def export(
    workdir: str,
    out: str,
    *,
    parameters: str | None = None,
    best: bool = False,
    buffers_from: str | None = None,
) -> str:
    """Writes a run's last or best checkpoint; returns in words what was written.

    Args:
        parameters: 'raw', 'tail' or 'ema'; None: the tail average, or ema where that has not begun.
        buffers_from: a file of the original program, whose `smpl.*` and `init_cam` are taken over.
    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if the tail average is asked for and has not begun, or a file cannot be read or written.
    """
    run = checkpoint.load(workdir, best=best)
    which = parameters or run.state.averaged()
    state_dict = torch_export.to_state_dict(run.state.parameters(which))
    norms = [name.removesuffix('running_var') for name in state_dict if name.endswith('.running_var')]
    state_dict |= {f'{norm}num_batches_tracked': np.array(run.step, np.int64) for norm in norms}
    if run.config['model']['lifting'] != 'rootnet':
        path = run.config['init_betas']
        betas = smpl_file.load_mean_betas(path, None) if path else np.zeros(10)
        state_dict['init_shape'] = np.asarray(betas, np.float32)
        if 'deccam.bias' in state_dict:
            start = np.zeros(state_dict['deccam.bias'].shape, np.float32)
            start[0] = START_SCALE
            state_dict['init_cam'] = start
    if buffers_from:
        theirs = torch_export.bare_names(torch_file.read(buffers_from))
        state_dict |= {name: array for name, array in theirs.items() if BUFFERS.fullmatch(name)}
    if out.endswith(torch_file.ROOTNET_ENDING):
        state_dict = {f'module.{name}': array for name, array in state_dict.items()}
    torch_file.write(out, state_dict)
    return (
        f'{out}: {len(state_dict)} arrays, the {which} parameters of step {run.step}, read back and compared'
    )


def main() -> int:
    """Exports what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', required=True, help="a run's workdir")
    parser.add_argument('--out', required=True, help='.pth, .safetensors or .pth.tar file')
    parser.add_argument('--parameters', choices=PARAMETERS, help='default: tail, or ema before that begins')
    parser.add_argument('--best', action='store_true', help='the best checkpoint instead of the last')
    parser.add_argument('--buffers-from', help='a released file, for strict loading in the original programs')
    args = parser.parse_args()
    try:
        options = {'parameters': args.parameters, 'best': args.best, 'buffers_from': args.buffers_from}
        print(export(args.checkpoint, args.out, **options))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
