"""What prediction writes of a photo: pictures, files of its people, and what they were made from.

`prediction.json` is written last. It says how large the other files are (`files`) and what was asked for
(`request`): a photo whose results are whole need not be predicted again when the same is asked again.
"""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrik_jax import image_file, json_file
from hybrik_jax.export import DEFAULT_PEOPLE_FORMATS, PEOPLE_FORMATS
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Person
from hybrik_jax.view import people as pictures

RECORD, WRITE_RECORD = PEOPLE_FORMATS['json']
UNFINISHED = '.unfinished'  # folder of what is not complete yet
SIDE_PICTURE = 512  # pixels
_PICTURES = re.compile(r'photo\.jpg|(overlay|(side|crop)(_\d+)?)\.png', re.IGNORECASE)
SEVERAL = 'The file holds several pictures: the first one was used.'


def write(
    out: pathlib.Path,
    photo: np.ndarray,
    people: Sequence[Person],
    predictor: Predictor,
    *,
    about: dict[str, Any],
    formats: Sequence[str] = DEFAULT_PEOPLE_FORMATS,
) -> list[pathlib.Path]:
    """Returns the files written into the folder `out`, which replace older ones when all are complete.

    Of a photo with nobody: the photo itself and prediction.json, which is always written.

    Args:
        photo: (height, width, 3) uint8 RGB, as the network saw it.
        about: what prediction.json says beside the people, such as the photo's name.
        formats: of `PEOPLE_FORMATS`.
    Raises:
        OSError: the folder cannot be written to.
    """
    drawn = _pictures(photo, people, predictor) if people else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = out / UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)  # of a command that was killed
        unfinished.mkdir()
    except OSError as error:
        raise OSError(
            error.errno, f'--out {out} cannot be written to ({error.strerror}): give a folder.'
        ) from error
    try:
        for name, picture in ({'photo.jpg': photo} | drawn).items():
            (unfinished / name).write_bytes(pictures.encode(picture, pathlib.Path(name).suffix))
        for name in formats if people else ():
            file_name, write_people = PEOPLE_FORMATS[name]
            if file_name != RECORD:
                write_people(unfinished / file_name, people, predictor.body, about)
        sizes = {file.name: file.stat().st_size for file in sorted(unfinished.iterdir())}
        WRITE_RECORD(unfinished / RECORD, people, predictor.body, about | {'files': sizes})
        _put_in_place(unfinished, out)
        return [out / name for name in sorted([*sizes, RECORD])]
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def refuse_to_replace(photo: pathlib.Path, out: pathlib.Path) -> None:
    """Raises ValueError where results in the folder `out` would be written over their photo itself."""
    if out.resolve() == photo.resolve() or (
        out.resolve() == photo.parent.resolve() and _PICTURES.fullmatch(photo.name)
    ):
        raise ValueError(f'Results would be written over {photo} itself: give another folder as --out.')


def _pictures(photo: np.ndarray, people: Sequence[Person], predictor: Predictor) -> dict[str, np.ndarray]:
    """Returns file name -> picture, uint8 RGB, of everybody and of each."""
    faces = np.asarray(predictor.body.faces)
    drawn = {'overlay.png': pictures.draw_overlay(photo, people, faces)}
    for number, person in enumerate(people):
        suffix = f'_{number}' if len(people) > 1 else ''
        drawn[f'side{suffix}.png'] = pictures.draw_side(person, number, faces, SIDE_PICTURE)
        drawn[f'crop{suffix}.png'] = pictures.draw_crop(photo, person, number, predictor.network.image_size)
    return drawn


def _put_in_place(unfinished: pathlib.Path, out: pathlib.Path) -> None:
    """Moves finished files, prediction.json last; what an earlier one names and this one does not goes."""
    earlier = set(_read_record(out).get('files', {}))
    (out / RECORD).unlink(missing_ok=True)  # from here to the last line, nobody takes them for whole
    names = {file.name for file in unfinished.iterdir()}
    for name in sorted(names - {RECORD}):
        os.replace(unfinished / name, out / name)
    for name in earlier - names:
        if pathlib.PurePath(name).name == name and (out / name).is_file():
            (out / name).unlink()
    os.replace(unfinished / RECORD, out / RECORD)


def _read_record(out: pathlib.Path) -> dict[str, Any]:
    """Returns what the prediction.json in a folder says, {} where there is none that can be read."""
    try:
        content = json_file.read(out / RECORD)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get('files', {}), dict) else {}


def people_written(out: pathlib.Path, request: dict[str, Any]) -> int | None:
    """Returns how many people's results are in `out`, whole and made as `request` asks; None of others."""
    record = _read_record(out)
    if record.get('request') != request or (out / UNFINISHED).exists():
        return None
    for name, size in record.get('files', {}).items():
        try:
            if (out / name).stat().st_size != size:
                return None
        except OSError:
            return None
    return len(record['people'])


def request_of_photo(path: pathlib.Path, options: dict[str, Any]) -> dict[str, Any]:
    """Returns what the results of a photo follow from: the file's content, and options, as JSON holds them.

    Raises:
        FileNotFoundError, FileError: there is no such file, or it is none or too large.
    """
    return json.loads(json.dumps(options | {'photo_sha256': image_file.sha256(path)}))


def about_photo(
    predictor: Predictor, name: str, photo: np.ndarray, path: pathlib.Path | None = None
) -> dict[str, Any]:
    """Returns what prediction.json says beside the people.

    Args:
        photo: (height, width, 3).
        path: of its file; None where there is none.
    """
    return {
        'photo': name,
        'photo_size': list(photo.shape[1::-1]),
        'warnings': [SEVERAL] if path is not None and image_file.holds_several(path) else [],
        'checkpoint': predictor.about(),
        'body_model': str(predictor.body.name),
    }
