"""Writes a run's network as a PyTorch state dict under the released checkpoints' names.

usage: python -m tools.export_torch --checkpoint runs/synthetic --out model.pth [--parameters tail] [--best]
"""

import argparse
import sys

from hybrik_jax import checkpoint
from hybrik_jax.export import torch as torch_export


def export(workdir: str, out: str, *, parameters: str = 'tail', best: bool = False) -> int:
    """Writes the variables named `parameters` ('raw', 'tail' or 'ema') of a run's last or best checkpoint.

    Returns how many arrays were written. Raises FileNotFoundError where there is no checkpoint, ValueError
    where the tail average has not begun.
    """
    step, _, tree = checkpoint.load(workdir, best=best)
    if parameters == 'tail' and int(tree['tail_count']) == 0:
        raise ValueError(
            f'{workdir}: the tail average has not begun at step {step}; choose --parameters ema or raw.'
        )
    variables = tree['variables' if parameters == 'raw' else parameters]
    state_dict = torch_export.to_state_dict(variables)
    torch_export.save_torch_file(out, state_dict)
    return len(state_dict)


def main() -> int:
    """Exports what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', required=True, help="a run's workdir")
    parser.add_argument('--out', required=True, help='.pth file')
    parser.add_argument('--parameters', choices=['raw', 'tail', 'ema'], default='tail')
    parser.add_argument('--best', action='store_true', help='the best checkpoint instead of the last')
    args = parser.parse_args()
    try:
        count = export(args.checkpoint, args.out, parameters=args.parameters, best=args.best)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f'{count} arrays in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
