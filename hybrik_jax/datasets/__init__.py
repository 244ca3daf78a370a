"""Making records: readers of annotation files, checks, regions, builds. The core never imports this room.

A reader is a module that an entry of `hybrik_jax.catalogue` names, with

    read(root, split)   yields everybody in a split of the dataset's folder, the same ones in the same order
                        each time: `annotation.AnnotatedPerson`, or `Skipped` for who is left out. It raises
                        FileNotFoundError, naming the file that is missing, and AnnotationError, naming
                        file, record and field.
    splits(root)        the splits that can be read; where it is missing, those of the entry's files.

The reader of a dataset that is drawn has `build(folder, ...)` in place of these.
"""

import importlib
import pathlib
import types
from collections.abc import Sequence

from hybrik_jax import catalogue


def reader_of(name: str) -> types.ModuleType:
    """Returns the reader of a dataset of the catalogue, imported now."""
    return importlib.import_module(catalogue.DATASETS[name].reader)


def folder_of(name: str, root: str | pathlib.Path) -> pathlib.Path:
    """Returns the dataset's own folder: the one of its name in `root`, which may hold several, or `root`."""
    root = pathlib.Path(root)
    folder = root / catalogue.DATASETS[name].folder
    return folder if folder.is_dir() else root


def splits_of(name: str, folder: pathlib.Path) -> Sequence[str]:
    """Returns the splits of a dataset that can be read from its folder."""
    reader = reader_of(name)
    return reader.splits(folder) if hasattr(reader, 'splits') else tuple(catalogue.DATASETS[name].files)
