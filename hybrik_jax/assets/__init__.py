"""Data files of the package: the embedded body model, see LICENSE-open_body.md."""
