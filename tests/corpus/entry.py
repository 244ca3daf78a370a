"""One bad input of the corpus: how it is made, where it goes in, and what the one line about it names."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """One bad input.

    name: 'kind/what'.
    make: writes it into an empty folder; returns what `call` takes.
    call: the entry point that a user would meet it at.
    says: texts that the line must hold: the file and, where there are such, record and field.
    lines: how many there are at the most; above 1 only where a build lists people, or usage comes first.
    """

    name: str
    make: Callable[[pathlib.Path], Any]
    call: Callable[[Any], Any]
    says: tuple[str, ...]
    lines: int = 1


def file(name: str, content: bytes | str) -> Callable[[pathlib.Path], pathlib.Path]:
    """Returns what writes one file and returns its path."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make
