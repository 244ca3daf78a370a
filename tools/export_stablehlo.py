"""Writes a run's network as StableHLO: crops in, posed bodies out, for JAX without this package.

    python -m tools.export_stablehlo --checkpoint runs/synthetic --out network.stablehlo
    python -m tools.export_stablehlo --checkpoint runs/synthetic --out network.stablehlo --vertices --no-flip

One file for CPUs, GPUs and TPUs and any number of people, and network.json beside it, which says what its
inputs and outputs are. What was written is run and compared with the network before it gets its name.
docs/deployment.md has the loaders.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Sequence
from types import ModuleType

from hybrik_jax import compiler, deploy
from hybrik_jax.ending import write_whole
from hybrik_jax.export import stablehlo
from hybrik_jax.export.deployable import Deployable, differences
from hybrik_jax.units import MM_PER_M
from tools import in_one_line
from tools.predict import add_network_options, load_predictor

PEOPLE = 3  # of the comparison


def export(
    argv: Sequence[str] | None,
    *,
    description: str,
    ending: str,
    form: ModuleType,
    write: Callable[[pathlib.Path, Deployable, bytes], None],
) -> None:
    """Writes a network as the command line `argv` says.

    Args:
        ending: of the file's name.
        form: module with `serialise` and `run`.
        write: what writes the file, once it is compared.
    Raises:
        FileNotFoundError, ValueError: as `Predictor.load`; packages that are missing; a network that cannot
            be written, or says something else once it is.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', required=True, type=pathlib.Path, metavar='FILE', help=f'FILE{ending}')
    parser.add_argument('--vertices', action='store_true', help='give the meshes, too')
    add_network_options(parser)
    args = parser.parse_args(argv)
    if args.out.suffix != ending:
        raise ValueError(f'--out {args.out} has another ending than {ending}.')
    if args.rootnet:
        raise ValueError('--rootnet: the depth is an input of what is written, leave it away.')
    network = deploy.deployable(load_predictor(args), vertices=args.vertices)
    content = form.serialise(network)
    inputs = deploy.trial_inputs(network, PEOPLE)
    found = differences(network, form.run(content, inputs), inputs)
    write(args.out, network, content)
    print(
        f'{args.out}: {len(content) / 1e6:.1f} MB; of {PEOPLE} people joints differ from the network by '
        f'{MM_PER_M * found["joints_m"]:.4f} mm at the most, rotations by {found["rotations"]:.1e}'
    )
    print(f'inputs {", ".join(one.name for one in network.inputs)}')
    print(f'outputs {", ".join(one.name for one in network.outputs)}')
    print(network.about['licence'])


def _write(path: pathlib.Path, network: Deployable, content: bytes) -> None:
    about = network.described() | {'platforms': list(stablehlo.PLATFORMS)}
    write_whole(path, content)
    write_whole(path.with_suffix('.json'), json.dumps(about, indent=1, allow_nan=False) + '\n')


def run(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; raises where that cannot be done."""
    export(argv, description=__doc__, ending='.stablehlo', form=stablehlo, write=_write)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
