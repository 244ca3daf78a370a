"""Writes a run's network as ONNX: crops in, posed bodies out, for onnxruntime and other programs.

    python -m tools.export_onnx --checkpoint runs/synthetic --out network.onnx
    python -m tools.export_onnx --checkpoint runs/synthetic --out network.onnx --vertices --no-flip

One file for any number of people; its metadata say what inputs and outputs are. What was written is run in
onnxruntime and compared with the network before it gets its name. It needs the extra [onnx]:
pip install -r requirements-onnx.txt. docs/deployment.md has the loaders.
"""

import pathlib
from collections.abc import Sequence

from hybrik_jax import compiler
from hybrik_jax.ending import write_whole
from hybrik_jax.export import onnx
from hybrik_jax.export.deployable import Deployable
from tools import in_one_line
from tools.export_stablehlo import export


def _write(path: pathlib.Path, network: Deployable, content: bytes) -> None:
    write_whole(path, content)


def run(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; raises where that cannot be done."""
    export(argv, description=__doc__, ending='.onnx', form=onnx, write=_write)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
