"""Opening built datasets: folders of array_record files with tfds's description, by random access.

`SHA256SUMS` in the folder holds a checksum of every file, in the form of coreutils' sha256sum. Those of the
small files are compared whenever a dataset is opened, those of the records by `verify`; that a record is
damaged is noticed when it is read, too, by array_record's own checksums.
"""

import bisect
import hashlib
import itertools
import os
import pathlib
import textwrap
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from hybrik_jax.data import record

SUMS = 'SHA256SUMS'
_RECORDS = '.array_record-'


def is_finished(folder: pathlib.Path) -> bool:
    """Returns whether the folder is a whole dataset; unfinished ones are named incomplete*, *.incomplete."""
    return (folder / 'dataset_info.json').is_file() and 'incomplete' not in folder.name


def find(folder: str | pathlib.Path) -> pathlib.Path:
    """Returns the one finished dataset at or below `folder` (at most three levels).

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where there are several.
    """
    folder = pathlib.Path(folder)
    if is_finished(folder):
        return folder
    infos = (info for depth in ('*', '*/*', '*/*/*') for info in folder.glob(f'{depth}/dataset_info.json'))
    found = sorted(info.parent for info in infos if is_finished(info.parent))
    if not found:
        raise FileNotFoundError(
            f'There is no finished dataset in {folder}. Build it: python -m tools.build_dataset NAME '
            f'--out {folder} (--help and docs/datasets.md say how; NAME is synthetic for drawn people).'
        )
    if len(found) > 1:
        raise ValueError(f'{folder} holds several datasets, name one of them: {", ".join(map(str, found))}.')
    return found[0]


def open_split(folder: str | pathlib.Path, split: str) -> Sequence[dict]:
    """Returns the records of a split as a random-access sequence.

    An element is a dict as `record` says: image and texts as bytes, scalars as int and float.

    Raises:
        FileNotFoundError, ValueError: see `find`; ValueError too where the split is missing or the dataset
            was built with another version of the schema.
    """
    path = find(folder)
    _check(path, {name: value for name, value in read_sums(path).items() if _RECORDS not in name})
    try:
        builder = tfds.builder_from_directory(str(path))
        info = builder.info
    except Exception as error:  # tfds has no error of its own for a damaged description
        raise damaged(path, f'dataset_info.json or features.json cannot be read ({_short(error)})') from error
    if split not in info.splits:
        raise ValueError(f'{path} has no split {split!r}, only {", ".join(info.splits)}.')
    wanted = {record.IMAGE, *record.FEATURES, *record.TEXTS}
    if set(info.features) != wanted:
        different = sorted(wanted ^ set(info.features))
        raise ValueError(
            f'{path} was built with another schema ({", ".join(different)}): remove it and build it again.'
        )
    raw_bytes = tfds.decode.DeserializeMethod.RAW_BYTES
    files = [pathlib.Path(file) for file in info.splits[split].filepaths]
    if missing := [file for file in files if not file.is_file()]:
        raise damaged(missing[0], 'is missing')
    try:
        raw = builder.as_data_source(split, deserialize_method=raw_bytes)
    except Exception as error:  # array_record's are RuntimeErrors, grain's asserts
        raise damaged(path, f'cannot be opened ({_short(error)})') from error
    return _Records(raw, files, list(itertools.accumulate(info.splits[split].shard_lengths)))


def verify(folder: str | pathlib.Path) -> str:
    """Returns in words what was compared: every file of the dataset at or below `folder` with its checksum.

    Raises:
        FileNotFoundError: see `find`.
        ValueError: a file is damaged or missing; names the first one.
    """
    path, start = find(folder), time.perf_counter()
    sums = read_sums(path)
    if not sums:
        return (
            f'{path} was built before checksums were kept: nothing can be verified. Build it again for that.'
        )
    _check(path, sums)
    megabytes, seconds = sum((path / name).stat().st_size for name in sums) / 1e6, time.perf_counter() - start
    speed = f'{megabytes:.1f} MB in {seconds:.1f} s, {megabytes / seconds:.0f} MB/s'
    return f'{path}: all {len(sums)} files are what was built ({speed}).'


def file_hash(path: pathlib.Path) -> str:
    """Returns the sha256 of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def write_sums(folder: pathlib.Path, known: dict[str, str]) -> None:
    """Writes the checksums of all files in a folder; those that are `known` by name are not computed."""
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS)
    lines = (f'{known.get(name) or file_hash(folder / name)}  {name}\n' for name in names)
    (folder / SUMS).write_text(''.join(lines))


def read_sums(folder: pathlib.Path) -> dict[str, str]:
    """Returns file name -> checksum of a dataset, {} of one that was built before there were checksums."""
    path = folder / SUMS
    lines = path.read_bytes().decode(errors='replace').splitlines() if path.is_file() else []
    rows = [line.split('  ') for line in lines]
    if any(len(row) != 2 or '/' in row[1] for row in rows) or path.is_file() and not rows:
        raise damaged(path, 'is not what was built')
    return {name: value for value, name in rows}


def damaged(path: pathlib.Path, how: str) -> ValueError:
    """Returns the error about a dataset's folder or a file in it: what is wrong and how to build it again."""
    folder = path if path.is_dir() else path.parent
    name = next((file.name.split('-')[0] for file in folder.glob(f'*{_RECORDS}*')), 'NAME')
    command = f'python -m tools.build_dataset {name} --out {folder} (and the options that it was built with)'
    return ValueError(f'{path} {how}: remove {folder} and build it again, {command}.')


def _check(folder: pathlib.Path, sums: dict[str, str]) -> None:
    """Raises ValueError where a file is not what its checksum in `sums` says."""

    def wrong(name: str) -> str:
        try:
            return '' if file_hash(folder / name) == sums[name] else f'is not what was built (see {SUMS})'
        except OSError as error:
            return f'cannot be read ({error.strerror})'

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for name, how in zip(sums, threads.map(wrong, sums), strict=True):
            if how:
                threads.shutdown(cancel_futures=True)
                raise damaged(folder / name, how)


def _short(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 150, placeholder=' ...')


class _Records(Sequence):
    """The records of a split, read by our schema: five times as fast as by tfds's general description.

    Of each file, `ends` has the index after its last record.
    """

    def __init__(self, raw: Sequence[bytes], files: Sequence[pathlib.Path], ends: Sequence[int]):
        self._raw, self._files, self._ends = raw, files, ends

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        index = range(len(self._raw))[index]  # IndexError outside, as iteration wants it
        try:
            return _decode(self._raw[index])
        except Exception as error:  # array_record's own is RuntimeError, a record's are many
            file = self._files[bisect.bisect_right(self._ends, index)]
            raise damaged(file, f'cannot be read, it is damaged or incomplete ({_short(error)})') from error


def _decode(raw: bytes) -> dict[str, Any]:
    stored = tf_example_pb2.Example.FromString(raw).features.feature
    out = {name: stored[name].bytes_list.value[0] for name in (record.IMAGE, *record.TEXTS)}
    for name, field in record.FEATURES.items():
        kind = 'float_list' if field.dtype is np.float32 else 'int64_list'
        values = getattr(stored[name], kind).value
        array = np.fromiter(values, field.dtype, len(values)).reshape(field.shape)
        out[name] = array if field.shape else values[0]
    return out
