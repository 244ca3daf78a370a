"""Conversion of parameters from and to other programs' files."""
