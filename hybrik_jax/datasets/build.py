"""Building a dataset: what a reader yields -> records, by several processes -> array_record files for tfds.

A build goes through a reader twice: first everything is read and checked, which takes no photo; then records
are made, a shard of people at a time. A finished shard is a file that stays: a build that was stopped goes on
after it. Everything is written into a folder named *.incomplete, which is renamed when it is whole.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tqdm import tqdm

from hybrik_jax import json_file
from hybrik_jax.data import store
from hybrik_jax.datasets import processes, record_check, region, sanity
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.ending import write_whole
from hybrik_jax.scoring.roots_and_boxes import numbers_path

VERSION = '1.0.0'
SHARD = 2000  # people of one shard, skipped ones included; readers keep every file of a dataset open
SHOWN = 20  # problems in a message
TOO_LATE = 'not made in the time that was given'
_ELSEWHERE = 'move it away, or choose another folder'
_FEW = 0.01  # so many implausible annotations are left out; more, and something is wrong with all of them

Item = Any  # whom a reader yields: has a `name`, unique in its split
Read = Callable[[], Iterable[Item | Skipped]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a build's content besides the people.

    dataset: its name in the records.
    body: the name of the body model that pose and betas belong to.
    largest_side, quality: see `region.cut`.
    skip_unreadable: leave out people whose photo is missing or damaged.
    recipe: what else decides the records, in words: which labels are made, how many people are drawn.
    """

    dataset: str
    body: str
    largest_side: int = region.LARGEST_SIDE
    quality: int = region.QUALITY
    skip_unreadable: bool = False
    recipe: str = ''

    def __post_init__(self):
        if not 1 <= self.quality <= 100 or self.largest_side < region.SMALLEST_SIDE:
            limits = f'1 to 100, and at least {region.SMALLEST_SIDE} pixels'
            raise ValueError(f'quality={self.quality}, largest_side={self.largest_side}: give {limits}.')


def cut_person(person: AnnotatedPerson, settings: Settings) -> dict[str, Any]:
    """Returns the record of an annotated person, its region cut from the photo.

    Raises OSError or ValueError where the photo cannot be used.
    """
    photo, encoded = region.read_photo(person.photo)
    labels = person.labels
    width, height = int(labels['width']), int(labels['height'])
    if photo.shape[1::-1] != (width, height):
        size = f'{photo.shape[1]} x {photo.shape[0]} pixels'
        raise ValueError(f'{person.photo} is {size}, the annotation says {width} x {height}')
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
        'body': settings.body if labels['smpl_weight'] > 0 else '',
        'sequence': person.sequence,
        'action': person.action,
    }
    return labels | cut | texts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Making:
    """How people become records; functions of the top of a module, as worker processes call them.

    problems: of a person -> what cannot be right about it, a sentence each.
    record: of a person and `Settings` -> its record. OSError, ValueError: its photo cannot be used.
    labels: adds labels that the annotations lack to a list of people, keeping their number and order; runs in
        this process. None: nothing is added.
    """

    problems: Callable[[Item], Sequence[str]] = sanity.check_person
    record: Callable[[Item, Settings], dict[str, Any]] = cut_person
    labels: Callable[[Sequence[Item]], Sequence[Item]] | None = None


FROM_PHOTOS = Making()


def build(
    splits: Mapping[str, Read],
    out: str | pathlib.Path,
    settings: Settings,
    *,
    making: Making = FROM_PHOTOS,
    workers: int = 1,
    shard: int = SHARD,
    minutes: Mapping[str, float] | None = None,
) -> pathlib.Path:
    """Returns the folder of the finished dataset, `out`; one that is there already is left as it is.

    Args:
        splits: split name -> a function that reads its people from the start, the same ones each time.
        workers: processes; 0 makes records in this one. Does not change the result.
        shard: people per file.
        minutes: split -> after so many of making its records, the people who are left are left out; a shard
            that is begun is finished, and there is one.

    Raises:
        AnnotationError: the annotations cannot be right, or photos cannot be read; lists the first 20
            problems. What is made already stays, and the same command goes on.
        FileExistsError: `out` is something else, or was built with other settings.
    """
    out = pathlib.Path(out).absolute()
    if store.is_finished(out):
        _check_settings(out, settings)
        print(f'{out} is there already.')
        return out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f'{out} is there but is no finished dataset: {_ELSEWHERE}.')
    folder, started = out.with_name(out.name + '.incomplete'), time.perf_counter()
    with processes.pool(workers) as submit:
        counts, skipped, fingerprint = survey(splits, making.problems)
        if not any(counts.values()):
            nobody = f'there is nobody to build from in {", ".join(splits)}'
            raise AnnotationError(f'{settings.dataset}: {nobody}.')
        plan = {'settings': dataclasses.asdict(settings), 'shard': shard, 'people': fingerprint}
        _start_or_resume(folder, plan)
        for split, read in splits.items():
            people = (item for item in read() if not isinstance(item, Skipped))
            progress = tqdm(total=counts[split], desc=f'{split}: make records', unit='person', mininterval=1)
            with progress as bar:
                chunks = iter(lambda people=people: list(itertools.islice(people, shard)), [])
                until = time.monotonic() + 60 * (minutes or {}).get(split, math.inf)
                most = 2 * max(workers, 1)
                late = _make_split(chunks, bar, folder, split, settings, making, submit, most, until)
                skipped[split].update({TOO_LATE: late} if late else {})
    reports = {split: _finish_split(folder, split, settings.dataset) for split in splits}
    for split, reasons in skipped.items():
        reports[split].skipped.update(reasons)
    _write_metadata(folder, settings, reports)
    text = summary(reports, out, time.perf_counter() - started)
    (folder / 'summary.txt').write_text(text + '\n')
    folder.rename(out)
    print(text)
    return out


def _check_settings(out: pathlib.Path, settings: Settings) -> None:
    """Raises FileExistsError where the finished dataset `out` says that it was built with other settings."""
    path, before = out / 'build.json', {}
    try:
        before = json_file.read(path)['settings'] if path.is_file() else {}
    except (ValueError, LookupError, TypeError) as error:
        raise store.damaged(path, 'is not what was built') from error
    for key, now in dataclasses.asdict(settings).items():
        if before.get(key, now) != now:
            built = f'built with {key} {before[key]!r}, not {now!r}'
            raise FileExistsError(f'{out} is there already, {built}: {_ELSEWHERE}.')


def survey(
    splits: Mapping[str, Read], problems_of: Callable[[Item], Sequence[str]]
) -> tuple[dict[str, int], dict[str, collections.Counter], str]:
    """Returns people per split, those left out by reason, and a fingerprint of all names.

    Raises:
        AnnotationError: with the first 20 problems: names that occur twice, or more people than one in a
            hundred about whom something cannot be right (fewer are left out later).
    """
    counts, skipped, digest = {}, {}, hashlib.sha256()
    for split, read in splits.items():
        problems, twice, seen, implausible = [], [], set(), 0
        counts[split], skipped[split] = 0, collections.Counter()
        for item in tqdm(read(), desc=f'{split}: check', unit='person', mininterval=1, delay=1):
            if isinstance(item, Skipped):
                skipped[split][item.reason] += 1
                continue
            counts[split] += 1
            digest.update(f'{split}/{item.name}\n'.encode())
            if hash(item.name) in seen:
                twice.append(item.name)
            seen.add(hash(item.name))
            found = problems_of(item)
            implausible += bool(found)
            problems += [f'{item.name}: {problem}' for problem in found] if len(problems) < SHOWN else []
        if twice:
            raise AnnotationError(_listed(f'Names of split {split!r} that occur more than once', twice))
        if implausible > _FEW * counts[split]:
            title = f'The annotations of split {split!r} cannot be right'
            raise AnnotationError(_listed(f'{title} ({implausible} of {counts[split]} people)', problems))
    return counts, skipped, digest.hexdigest()


def _start_or_resume(folder: pathlib.Path, plan: dict) -> None:
    """Makes the folder of an unfinished build, or checks that the one there has the same plan."""
    path = folder / 'build.json'
    if path.exists() and (before := json_file.read(path)) != plan:
        different = [k for k in plan if before.get(k) != plan[k]]
        other = f'an unfinished build with other {", ".join(different)}'
        raise AnnotationError(f'{folder} holds {other}: remove it, or repeat its settings.')
    write_whole(path, json.dumps(plan, indent=1) + '\n')


def _make_split(
    chunks: Iterable[list[Item]],
    bar: tqdm,
    folder: pathlib.Path,
    split: str,
    settings: Settings,
    making: Making,
    submit: Callable[..., Future],
    most: int,
    until: float,
) -> int:
    """Writes the shards of a split that are not there yet; raises with the photos that cannot be read.

    Returns how many people are left out, whose shards would begin after the `time.monotonic()` of `until`.
    """
    failed: list[str] = []
    waiting: collections.deque[tuple[int, Future]] = collections.deque()
    late = 0

    here = dataclasses.replace(making, labels=None)  # what a worker needs, which may have no JAX

    def settle(waiting_at_most: int) -> None:
        while len(waiting) > waiting_at_most:
            size, future = waiting.popleft()
            failed.extend(future.result())
            bar.update(size)

    for index, chunk in enumerate(chunks):
        path = folder / f'{split}-{index:05d}.array_record'
        if path.with_suffix('.json').exists():
            bar.update(len(chunk))  # made before the build was stopped
            continue
        if index and time.monotonic() > until:
            late += len(chunk)
            continue
        chunk = list(making.labels(chunk)) if making.labels else chunk
        waiting.append((len(chunk), submit(_write_shard, path, chunk, settings, here)))
        settle(most)
        if len(failed) >= SHOWN:
            break
    if late:  # who waits for a worker is late, too; the first ones are being made
        late += sum(size for size, future in list(waiting)[1:] if future.cancel())
        waiting = collections.deque(one for one in waiting if not one[1].cancelled())
    settle(0)
    if failed:
        hint = 'Mend them, or give --skip-unreadable; what is made already stays'
        raise AnnotationError(_listed(f'Photos of split {split!r} cannot be used ({hint})', failed))
    return late


def _write_shard(path: pathlib.Path, people: Sequence[Item], settings: Settings, making: Making) -> list[str]:
    """Writes one shard and, last, its report; where photos are wrong, returns how and writes nothing."""
    unfinished = path.with_suffix('.tmp')
    features, report, failed = record_check.features(), _Report(), []
    writer = array_record_module.ArrayRecordWriter(str(unfinished), 'group_size:1')
    for person in people:
        if making.problems(person):
            report.skipped['implausible annotation'] += 1
            continue
        try:
            made = making.record(person, settings)
            record_check.check(made)
        except (OSError, ValueError) as error:
            failed.append(f'{person.name}: {error}')
            how = 'missing' if isinstance(error, OSError) else 'damaged or of another size'
            report.skipped[f'photo {how}'] += 1
            continue
        data = features.serialize_example(made)
        writer.write(data)
        report.examples, report.size = report.examples + 1, report.size + len(data)
        numbers = getattr(person, 'image_id', None), getattr(person, 'annotation_id', None)
        if numbers != (None, None):
            report.numbers[person.name] = numbers
    writer.close()
    if failed and not settings.skip_unreadable:
        unfinished.unlink()
        return failed
    report.sha256 = store.file_hash(unfinished)
    os.replace(unfinished, path)
    write_whole(path.with_suffix('.json'), json.dumps(vars(report)))
    return []


@dataclasses.dataclass
class _Report:
    """What was written of a shard or of a split, and who was left out; `numbers`: image_id, annotation_id.

    sha256: of a shard; hashes: of a split's files by name.
    """

    examples: int = 0
    size: int = 0
    skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    numbers: dict[str, tuple[int | None, int | None]] = dataclasses.field(default_factory=dict)
    lengths: list[int] = dataclasses.field(default_factory=list)
    sha256: str = ''
    hashes: dict[str, str] = dataclasses.field(default_factory=dict)


def _finish_split(folder: pathlib.Path, split: str, dataset: str) -> _Report:
    """Returns what the shards of a split hold, having given them the names that tfds expects."""
    report, full = _Report(), {}
    for path in sorted(folder.glob(f'{split}-[0-9]*.json')):
        shard = _Report(**json_file.read(path))
        report.skipped.update(shard.skipped)
        report.numbers.update(shard.numbers)
        report.examples, report.size = report.examples + shard.examples, report.size + shard.size
        if shard.examples:
            full[path.with_suffix('.array_record')] = shard.sha256
            report.lengths.append(shard.examples)
        else:
            path.with_suffix('.array_record').unlink(missing_ok=True)
    for i, (path, sha256) in enumerate(full.items()):
        name = f'{dataset}-{split}.array_record-{i:05d}-of-{len(full):05d}'
        report.hashes[name] = sha256
        if path.exists():  # not where a kill came between two renames
            path.rename(folder / name)
    if report.numbers:
        numbers_path(folder, split).write_text(json.dumps(report.numbers))
    return report


def _write_metadata(folder: pathlib.Path, settings: Settings, reports: dict[str, _Report]) -> None:
    """Writes what tfds needs to open the folder; this makes a dataset of it."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=settings.dataset, filetype_suffix='array_record'
    )
    infos = [
        tfds.core.SplitInfo(split, one.lengths, one.size, template.replace(split=split))
        for split, one in reports.items()
        if one.lengths
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=record_check.features(),
        split_infos=infos,
        version=VERSION,
        filename_template=template,
        check_data=False,
    )
    # The summary, which no checksum covers, may be there from a build that was killed.
    for path in (*folder.glob('*-[0-9]*.json'), folder / 'summary.txt'):
        path.unlink(missing_ok=True)
    store.write_sums(
        folder, {name: sha256 for one in reports.values() for name, sha256 in one.hashes.items()}
    )


def summary(reports: Mapping[str, _Report], folder: pathlib.Path, seconds: float) -> str:
    """Returns the examples, the skipped ones by reason and the size on disk of every split."""
    people = sum(one.examples for one in reports.values())
    lines = [f'built {folder} in {seconds:.1f} s, {people / max(seconds, 1e-3):.0f} people a second']
    for split, one in reports.items():
        lines.append(f'{split:<12}{one.examples:>8} people {one.size / 1e6:>9.1f} MB')
        lines += [f'{"":<12}{count:>8} left out: {reason}' for reason, count in one.skipped.most_common()]
    return '\n'.join(lines)


def _listed(title: str, problems: list[str]) -> str:
    more = f'\n  and {len(problems) - SHOWN} more' if len(problems) > SHOWN else ''
    return f'{title}:\n  ' + '\n  '.join(problems[:SHOWN]) + more
