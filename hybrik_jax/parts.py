"""Results of a long computation, part by part: each a file that is there as a whole or not at all."""

import hashlib
import io
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from hybrik_jax import __version__
from hybrik_jax.ending import write_whole

_KEY = 'depends'


class Parts:
    """Numbered files NAME_00000.npz of a folder, which know what they were computed from.

    found, others: how many were read, and how many there are that were computed from something else.
    """

    def __init__(self, folder: pathlib.Path, name: str, depends: Any):
        """Parts of the folder; `depends`, what can be written as JSON, is all that they are computed from.

        Beside it counts the version of this package.
        """
        self.folder, self.name, self.found, self.others = folder, name, 0, 0
        depends = {'version': __version__, 'depends': depends}
        self._key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    def read(self, number: int) -> dict[str, np.ndarray] | None:
        """Returns the arrays of a part; None where it is missing, damaged, or of something else."""
        try:
            with np.load(self._path(number)) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        if arrays.pop(_KEY, None) != self._key:
            self.others += 1
            return None
        self.found += 1
        return arrays

    def write(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes a part."""
        file = io.BytesIO()
        np.savez_compressed(file, **arrays, **{_KEY: self._key})
        write_whole(self._path(number), file.getvalue())

    def _path(self, number: int) -> pathlib.Path:
        return self.folder / f'{self.name}_{number:05d}.npz'
