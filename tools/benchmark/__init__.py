"""What training, inference, the body and reading cost on this machine: `python -m tools.benchmark --help`."""
