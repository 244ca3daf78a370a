"""Command-line programs around the package; run them with `python -m tools.NAME --help`."""
