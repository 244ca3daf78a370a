"""Command-line programs around the package; run them with `python -m tools.NAME --help`."""

import sys

from hybrik_jax import ending

if (
    sys.argv[0] == '-m'
):  # Python is looking for the program to run; whoever imports one has a command of his own
    ending.of_command()
