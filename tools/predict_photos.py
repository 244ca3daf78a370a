"""Prediction of many photos: what is there already is left as it is, and one bad photo ends nothing."""

import collections
import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from hybrik_jax.photo import Request, read_photo
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Person
from tools.predict_files import about_photo, people_written, request_of_photo, write

MOST_SHOWN = 6  # files, or kinds of warnings


@dataclasses.dataclass
class Outcome:
    """What came of photos so far.

    files: that were written.
    people: photo -> how many are in it, of photos that could be used.
    known: photos of which an earlier command had done the same.
    failed: photo -> why it could not be used.
    warnings: text -> of how many people or photos, of those that are not known.
    compilations: of the network.
    seconds: the whole time.
    """

    files: list[pathlib.Path] = dataclasses.field(default_factory=list)
    people: dict[pathlib.Path, int] = dataclasses.field(default_factory=dict)
    known: set[pathlib.Path] = dataclasses.field(default_factory=set)
    failed: dict[pathlib.Path, Exception] = dataclasses.field(default_factory=dict)
    warnings: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    compilations: int = 0
    seconds: float = 0.0


def predict_photos(
    predictor: Predictor,
    photos: Sequence[pathlib.Path],
    folders: Sequence[pathlib.Path],
    *,
    boxes: dict[str, Any],
    formats: Sequence[str],
    focal: float | None = None,
    root_depth_m: float | None = None,
    looking: dict[str, Any] | None = None,
    again: bool = False,
) -> Outcome:
    """Returns what came of photos, whose results are written; no more than one batch of them is in memory.

    Args:
        folders: of each photo's results.
        boxes: photo's name -> boxes; others are looked for if `predictor` has a detector.
        formats: of `export.PEOPLE_FORMATS`.
        focal, root_depth_m: as in `Request`, of all photos; None: assumed.
        looking: how the detector looks, as results follow from it.
        again: predict what is there already, too.
    Raises:
        OSError: results cannot be written.
        ValueError: the network's predictions are not finite.
    """
    shared = {
        'network': predictor.digest(),
        'focal': focal,
        'root_depth_m': root_depth_m,
        'formats': list(formats),
    }
    folder_of = dict(zip(photos, folders, strict=True))
    asked: dict[pathlib.Path, dict[str, Any]] = {}  # of the photos of a batch
    done, seen = Outcome(), 0

    def requests() -> Iterator[Request]:
        for photo in photos:
            given = boxes.get(photo.name)
            yield Request(photo=photo, boxes=given, intrinsics=focal, root_depth_m=root_depth_m)

    def known(request: Request) -> int | None:
        photo = request.photo
        try:
            how = {'boxes': request.boxes, 'looking': looking if request.boxes is None else None}
            asked[photo] = request_of_photo(photo, shared | how)
        except (OSError, ValueError):
            return None  # it is said when the photo is read
        count = None if again else people_written(folder_of[photo], asked[photo])
        if count is not None:
            done.known.add(photo)
            done.people[photo] = count
        return count

    def on_error(request: Request, error: Exception) -> None:
        done.failed[request.photo] = error

    started = time.perf_counter()
    progress = tqdm(photos, unit='photo', disable=len(photos) == 1, leave=False)
    predictions = predictor.predict(requests(), on_error=on_error, known=known)
    for path, people in zip(progress, predictions, strict=True):
        request = asked.pop(path, None)
        if path not in done.known and path not in done.failed:
            try:
                photo = read_photo(path)
                about = about_photo(predictor, path.name, photo, path) | {'request': request}
            except (OSError, ValueError) as error:  # it was there when it was predicted
                done.failed[path] = error
                continue
            done.files += write(folder_of[path], photo, people, predictor, about=about, formats=formats)
            done.people[path] = len(people)
            done.warnings.update(about['warnings'])
            done.warnings.update(warning for person in people for warning in person.warnings)
            if len(photos) > 1:
                tqdm.write(f'{path.name}: {len(people)} people', file=sys.stdout)
            elif people:
                print(summary(path.name, people, predictor))
                print(*(f'  warning: {warning}\n' for warning in about['warnings']), sep='', end='')
        seen += done.people.get(path, 0)
        failed = {'failed': len(done.failed)} if done.failed else {}
        progress.set_postfix({'people': seen} | failed, refresh=False)
    done.compilations, done.seconds = predictor.compilations, time.perf_counter() - started
    return done


def tell(done: Outcome, told: dict[str, Any], score: float) -> None:
    """Prints what came of several photos, and on stderr what there is to do.

    Args:
        told: photo's name -> boxes, of those for which they were given.
        score: from which on the detector took a box for a person.
    """
    new = sum(count for photo, count in done.people.items() if photo not in done.known)
    new_photos = len(done.people) - len(done.known)
    if new_photos + len(done.failed) > 1:
        print(
            f'{new} people in {new_photos} photos, {new / done.seconds:.1f} people/s with drawing, '
            f'{done.compilations} compilations; {len(done.failed)} photos could not be used'
        )
        for warning, count in done.warnings.most_common(MOST_SHOWN):
            print(f'  warning ({count} times): {warning}')
        if len(done.warnings) > MOST_SHOWN:
            print(f'  {len(done.warnings) - MOST_SHOWN} other warnings are in the prediction.json files')
    if done.known:
        listed = _listed([photo for photo in done.people if photo in done.known])
        print(f'predicted before by the same command (--again does it anew): {listed}')
    if done.files:
        print('wrote ' + _listed(done.files))
    empty = [photo for photo, count in done.people.items() if not count]
    if nobody_there := [photo for photo in empty if photo.name in told]:
        print(f'nobody is in {_listed(nobody_there)}, as --boxes says')
    if nobody_found := [photo for photo in empty if photo.name not in told]:
        print(
            f'nobody was found in {_listed(nobody_found)}: give a --score below {score:g}, more --tiles for '
            'small people, their --boxes, or --whole-photo',
            file=sys.stderr,
        )
    for photo, error in done.failed.items():
        where = '' if str(photo) in str(error) else f'{photo}: '
        print(f'error: {where}{error}', file=sys.stderr)


def _listed(paths: Sequence[pathlib.Path]) -> str:
    more = f' and {len(paths) - MOST_SHOWN} more' if len(paths) > MOST_SHOWN else ''
    return ', '.join(map(str, paths[:MOST_SHOWN])) + more


def summary(name: str, people: Sequence[Person], predictor: Predictor) -> str:
    """Returns a few lines for people."""
    lines = [
        f'{name}: {len(people)} people, by {predictor.run.folder.name} step {predictor.run.step}, '
        f'{predictor.parameters} parameters, flip test {"on" if predictor.flip else "off"}, body '
        f'{predictor.body.name}'
    ]
    for person in people:
        view = person.view
        depth_by = 'assumed' if view.root_depth_assumed else view.root_depth_by or 'given'
        place = ', '.join(f'{x:.2f}' for x in person.translation_m)
        lines.append(
            f'  box {",".join(f"{x:g}" for x in view.box)}; focal length {view.focal[0]:.0f} px '
            f'({"assumed" if view.focal_assumed else "given"}), lifted at {view.root_depth_m:.2f} m '
            f'({depth_by}), fitted at ({place}) m, its joints '
            f'{person.reprojection_px:.1f} px from the 2D joints on average'
        )
    warnings = dict.fromkeys(warning for person in people for warning in person.warnings)
    return '\n'.join(lines + [f'  warning: {warning}' for warning in warnings])
