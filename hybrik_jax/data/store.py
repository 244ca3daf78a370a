"""Opening built datasets: folders of array_record files with tfds's description, by random access."""

import pathlib
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from hybrik_jax.data import record


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
    builder = tfds.builder_from_directory(str(path))
    if split not in builder.info.splits:
        raise ValueError(f'{path} has no split {split!r}, only {", ".join(builder.info.splits)}.')
    wanted = {record.IMAGE, *record.FEATURES, *record.TEXTS}
    if set(builder.info.features) != wanted:
        different = sorted(wanted ^ set(builder.info.features))
        raise ValueError(
            f'{path} was built with another schema ({", ".join(different)}): remove it and build it again.'
        )
    raw_bytes = tfds.decode.DeserializeMethod.RAW_BYTES
    return _Records(builder.as_data_source(split, deserialize_method=raw_bytes))


class _Records(Sequence):
    """The records of a split, read by our schema: five times as fast as by tfds's general description."""

    def __init__(self, raw: Sequence[bytes]):
        self._raw = raw

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        raw = self._raw[range(len(self._raw))[index]]  # IndexError outside, as iteration wants it
        stored = tf_example_pb2.Example.FromString(raw).features.feature
        out = {name: stored[name].bytes_list.value[0] for name in (record.IMAGE, *record.TEXTS)}
        for name, field in record.FEATURES.items():
            kind = 'float_list' if field.dtype is np.float32 else 'int64_list'
            values = getattr(stored[name], kind).value
            array = np.fromiter(values, field.dtype, len(values)).reshape(field.shape)
            out[name] = array if field.shape else values[0]
        return out
