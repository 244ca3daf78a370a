"""Command-line programs around the package; run them with `python -m tools.NAME --help`."""

import sys

from hybrik_jax import ending

if sys.argv[0] == '-m':  # Python is looking for the program to run; else somebody else's command imports one
    ending.of_command()
