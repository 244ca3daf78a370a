"""Building a dataset: people from a reader -> regions cut by several processes -> array_record files that
tfds opens.

A build goes through the annotations twice: first all of them are read and checked, which takes no photo; then
photos are cut, a shard of people at a time. A finished shard is a file that stays: a build that was stopped
goes on after it. Everything is written into a folder named *.incomplete, which is renamed when it is whole.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tqdm import tqdm

from hybrik_jax.data import record
from hybrik_jax.data.store import is_finished
from hybrik_jax.datasets import processes, region, sanity
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped

VERSION = '1.0.0'
SHARD = 500  # people of one shard, skipped ones included
SHOWN = 20  # problems in a message
_FEW = 0.01  # so many implausible annotations are left out; more, and something is wrong with all of them

Read = Callable[[], Iterable[AnnotatedPerson | Skipped]]
MakeLabels = Callable[[Sequence[AnnotatedPerson]], Sequence[AnnotatedPerson]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a build's content besides the annotations.

    dataset: its name in the records. body: the name of the body model that pose and betas belong to.
        largest_side,
    quality: see `region.cut`. skip_unreadable: leave out people whose photo is missing or damaged. labels:
        says in
    words which labels are made, so that a resumed build makes the same.
    """

    dataset: str
    body: str
    largest_side: int = region.LARGEST_SIDE
    quality: int = region.QUALITY
    skip_unreadable: bool = False
    labels: str = ''


def build(
    splits: dict[str, Read],
    out: str | pathlib.Path,
    settings: Settings,
    *,
    make_labels: MakeLabels | None = None,
    workers: int = 1,
    shard: int = SHARD,
) -> pathlib.Path:
    """Returns the folder of the finished dataset, `out`; one that is there already is left as it is.

    Args:
        splits: split name -> a function that reads its people from the start, the same ones each time.
        make_labels: adds labels that the annotations lack to a list of people, keeping their number and
            order.
        workers: processes; 0 cuts in this one. Does not change the result.
        shard: people per file.
    Raises:
        AnnotationError: the annotations cannot be right, or photos cannot be read; lists the first 20
            problems. What is cut already stays, and the same command goes on.
    """
    out = pathlib.Path(out).absolute()
    if is_finished(out):
        print(f'{out} is there already.')
        return out
    if out.exists():
        raise FileExistsError(
            f'{out} is there but is no finished dataset: move it away, or choose another folder.'
        )
    counts, skipped, fingerprint = survey(splits)
    if not any(counts.values()):
        raise AnnotationError(f'{settings.dataset}: there is nobody to build from in {", ".join(splits)}.')
    folder = out.with_name(out.name + '.incomplete')
    plan = {'settings': dataclasses.asdict(settings), 'shard': shard, 'people': fingerprint}
    _start_or_resume(folder, plan)
    started = time.perf_counter()
    for split, read in splits.items():
        _cut_split(read, counts[split], folder, split, settings, make_labels, workers, shard)
    report = {split: _finish_split(folder, split, settings.dataset) for split in splits if counts[split]}
    for split, reasons in skipped.items():
        report.setdefault(split, _SplitReport()).skipped.update(reasons)
    _write_metadata(folder, settings, report)
    folder.rename(out)
    text = summary(report, out, time.perf_counter() - started)
    (out / 'summary.txt').write_text(text + '\n')
    print(text)
    return out


def survey(splits: dict[str, Read]) -> tuple[dict[str, int], dict[str, collections.Counter], str]:
    """Returns people per split, those left out by reason, and a fingerprint of all names, having read
    everything once.

    Raises AnnotationError with the first 20 problems: names that occur twice, or more people than one in a
    hundred in whom `sanity.check_person` finds something (fewer are left out when photos are cut).
    """
    counts, skipped, digest = {}, {}, hashlib.sha256()
    for split, read in splits.items():
        problems, twice, seen, implausible = [], [], set(), 0
        counts[split], skipped[split] = 0, collections.Counter()
        for item in tqdm(read(), desc=f'{split}: check annotations', unit='person', mininterval=1):
            if isinstance(item, Skipped):
                skipped[split][item.reason] += 1
                continue
            counts[split] += 1
            digest.update(f'{split}/{item.name}\n'.encode())
            if hash(item.name) in seen:
                twice.append(item.name)
            seen.add(hash(item.name))
            found = sanity.check_person(item)
            implausible += bool(found)
            problems += [f'{item.name}: {problem}' for problem in found] if len(problems) < SHOWN else []
        if twice:
            raise AnnotationError(_listed(f'Names of split {split!r} that occur more than once', twice))
        if implausible > _FEW * counts[split]:
            title = f'The annotations of split {split!r} cannot be right ({implausible} of {counts[split]} people)'
            raise AnnotationError(_listed(title, problems))
    return counts, skipped, digest.hexdigest()


def _start_or_resume(folder: pathlib.Path, plan: dict) -> None:
    """Makes the folder of an unfinished build, or checks that the one there has the same plan."""
    path = folder / 'build.json'
    if path.exists() and (before := json.loads(path.read_text())) != plan:
        different = [k for k in plan if before.get(k) != plan[k]]
        raise AnnotationError(
            f'{folder} holds an unfinished build with other {", ".join(different)}: remove it, or repeat its settings.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan, indent=1) + '\n')


def _cut_split(read, count, folder, split, settings, make_labels, workers, shard) -> None:
    """Writes the shards of a split that are not there yet; raises with the photos that cannot be read."""
    people = (item for item in read() if isinstance(item, AnnotatedPerson))
    failed: list[str] = []
    progress = tqdm(total=count, desc=f'{split}: cut', unit='person', mininterval=1)
    with processes.pool(workers) as submit, progress as bar:
        waiting: collections.deque[tuple[int, Future]] = collections.deque()

        def settle() -> None:
            size, future = waiting.popleft()
            failed.extend(future.result())
            bar.update(size)

        for index in itertools.count():
            chunk = list(itertools.islice(people, shard))
            if not chunk or len(failed) >= SHOWN:
                break
            if (folder / _shard_name(split, index, 'json')).exists():
                bar.update(len(chunk))
                continue  # cut before the build was stopped
            chunk = list(make_labels(chunk)) if make_labels else chunk
            waiting.append((len(chunk), submit(_write_shard, chunk, folder, split, index, settings)))
            if len(waiting) > 2 * max(workers, 1):
                settle()
        while waiting:
            settle()
    if failed:
        hint = 'Mend them, or give --skip-unreadable; what is cut already stays'
        raise AnnotationError(_listed(f'Photos of split {split!r} cannot be used ({hint})', failed))


def _write_shard(people, folder, split, index, settings) -> list[str]:
    """Writes one shard and, last, its report; returns what is wrong with photos, in which case nothing is
    written.
    """
    path = folder / _shard_name(split, index, 'array_record')
    features, failed, skipped, examples, size = record.features(), [], collections.Counter(), 0, 0
    writer = array_record_module.ArrayRecordWriter(str(path) + '.tmp', 'group_size:1')
    for person in people:
        if sanity.check_person(person):
            skipped['implausible annotation'] += 1
            continue
        try:
            data = features.serialize_example(_to_record(person, settings))
        except (OSError, ValueError) as error:
            failed.append(f'{person.name}: {error}')
            skipped[f'photo {"missing" if isinstance(error, OSError) else "damaged or of another size"}'] += 1
            continue
        writer.write(data)
        examples, size = examples + 1, size + len(data)
    writer.close()
    if failed and not settings.skip_unreadable:
        os.remove(str(path) + '.tmp')
        return failed
    os.replace(str(path) + '.tmp', path)
    report = path.with_suffix('.json.tmp')
    report.write_text(json.dumps({'examples': examples, 'bytes': size, 'skipped': skipped}))
    os.replace(report, path.with_suffix('.json'))
    return []


def _to_record(person: AnnotatedPerson, settings: Settings) -> dict:
    """Returns the checked record of a person, its region cut."""
    photo, encoded = region.read_photo(person.photo)
    width, height = int(person.labels['width']), int(person.labels['height'])
    if photo.shape[1::-1] != (width, height):
        raise ValueError(
            f'{person.photo} is {photo.shape[1]} x {photo.shape[0]} pixels, the annotation says {width} x {height}'
        )
    labels = {k: np.asarray(v, record.FEATURES[k].dtype) for k, v in person.labels.items()}
    cut = region.cut(
        photo,
        labels['box'],
        float(labels['box_enlargement']),
        encoded=encoded,
        largest_side=settings.largest_side,
        quality=settings.quality,
    )
    texts = {
        'name': person.name,
        'dataset': settings.dataset,
        'sequence': person.sequence,
        'action': person.action,
    }
    texts['body'] = settings.body if labels['smpl_weight'] > 0 else ''
    finished = labels | cut | texts
    record.check(finished)
    return finished


@dataclasses.dataclass
class _SplitReport:
    lengths: list[int] = dataclasses.field(default_factory=list)
    size: int = 0
    skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def _shard_name(split: str, index: int, suffix: str) -> str:
    return f'{split}-{index:05d}.{suffix}'


def _finish_split(folder: pathlib.Path, split: str, dataset: str) -> _SplitReport:
    """Returns what the shards of a split hold, having given them the names that tfds expects."""
    report = _SplitReport()
    full = []
    for path in sorted(folder.glob(f'{split}-[0-9]*.json')):
        shard = json.loads(path.read_text())
        report.skipped.update(shard['skipped'])
        if shard['examples']:
            full.append(path.with_suffix('.array_record'))
            report.lengths.append(shard['examples'])
            report.size += shard['bytes']
        else:
            path.with_suffix('.array_record').unlink(missing_ok=True)
    for i, path in enumerate(full):
        named = folder / f'{dataset}-{split}.array_record-{i:05d}-of-{len(full):05d}'
        if path.exists():  # not where a kill came between two renames
            path.rename(named)
    return report


def _write_metadata(folder: pathlib.Path, settings: Settings, report: dict[str, _SplitReport]) -> None:
    """Writes what tfds needs to open the folder; this makes a dataset of it."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=settings.dataset, filetype_suffix='array_record'
    )
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=one.lengths,
            num_bytes=one.size,
            filename_template=template.replace(split=split),
        )
        for split, one in report.items()
        if one.lengths
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=record.features(),
        split_infos=infos,
        version=VERSION,
        filename_template=template,
        check_data=False,
    )
    for path in folder.glob('*-[0-9]*.json'):
        path.unlink()


def summary(report: dict[str, _SplitReport], folder: pathlib.Path, seconds: float) -> str:
    """Returns the examples, the skipped ones by reason and the size on disk of every split."""
    lines = [f'built {folder} in {seconds:.1f} s']
    for split, one in report.items():
        lines.append(f'{split:<12}{sum(one.lengths):>8} people {one.size / 1e6:>9.1f} MB')
        lines += [f'{"":<12}{count:>8} left out: {reason}' for reason, count in one.skipped.most_common()]
    return '\n'.join(lines)


def _listed(title: str, problems: list[str]) -> str:
    more = f'\n  and {len(problems) - SHOWN} more' if len(problems) > SHOWN else ''
    return f'{title}:\n  ' + '\n  '.join(problems[:SHOWN]) + more
