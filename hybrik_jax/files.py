"""Opening files that others wrote: plain files only, of a size that can be right."""

import os
import pathlib
import stat
from typing import BinaryIO

_KINDS = {stat.S_IFDIR: 'a folder', stat.S_IFIFO: 'a pipe', stat.S_IFSOCK: 'a socket'}
_LONGEST_NAME = 200  # characters shown


class FileError(ValueError):
    """A file that is not what it should be: file, place in it, and what to do."""


def open_plain(path: str | os.PathLike, kind: str, largest: int | None = None) -> BinaryIO:
    """Returns a file opened for reading; devices, pipes and folders are not opened, as they may have no end.

    Args:
        kind: what the file is, for messages, such as 'a photo'.
        largest: in bytes.
    Raises:
        FileNotFoundError: there is no such file.
        FileError: naming the file, where it is none or is too large.
        OSError: it cannot be opened.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # also a name that has zeros in it
        found = None
    except OSError:
        if len(str(path)) < _LONGEST_NAME:
            raise
        found = None  # the name is too long
    wrong = f'{shown(path)} is no file, {kind} is one'
    if found is None:
        raise FileNotFoundError(f'{wrong}: there is no file of this name.')
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f'{wrong}: this is {_KINDS.get(stat.S_IFMT(found.st_mode), "a device")}.')
    if largest is not None and found.st_size > largest:
        limit = f'{kind} has at most {largest} bytes'
        raise FileError(f'{shown(path)} has {found.st_size} bytes, {limit}: is it the right file?')
    return pathlib.Path(path).open('rb')


def shown(path: str | os.PathLike) -> str:
    """Returns a path for a message: on one line, shortened."""
    text = os.fspath(path)
    text = text if len(text) < _LONGEST_NAME else f'{text[:_LONGEST_NAME]}...'
    return ''.join(c if c.isprintable() else f'\\u{ord(c):04x}' for c in text)
