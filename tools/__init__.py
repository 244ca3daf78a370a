"""Command-line programs around the package; run them with `python -m tools.NAME --help`."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from hybrik_jax import ending

if sys.argv[0] == '-m':  # Python is looking for the program to run; else somebody else's command imports one
    ending.of_command()


def in_one_line(run: Callable[[Sequence[str] | None], Any], argv: Sequence[str] | None) -> None:
    """Runs the command line `argv`; an error of what it was given is one line and exit status 1."""
    try:
        run(argv)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
