"""Comparisons with the recorded outputs of the original programs, one file per room of the package."""
