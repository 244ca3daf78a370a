"""What tools.predict and tools.predict_video wrote, read for a page of results."""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tqdm

from hybrik_jax import json_file
from hybrik_jax.export.motion import read_motions
from hybrik_jax.files import FileError, shown
from hybrik_jax.photo import read_photo
from hybrik_jax.types import Motion
from hybrik_jax.video import Video
from hybrik_jax.view import result

PHOTO, VIDEO, MOTIONS = 'prediction.json', 'video.json', 'motions.npz'
OVERLAY_PICTURES = 'The picture is {}, on which the meshes are drawn: {} is not there.'
FILLED = 'Hatched, and paler: frames in which nobody saw the person, filled in.'
SYNTHETIC_BANNER = (
    'The network was trained on synthetic people only: on real photos and videos expect large errors.'
)
_CHECKPOINT = {
    'folder': 'checkpoint',
    'step': 'step',
    'parameters': 'parameters',
    'flip_test': 'flip test',
    'trained_on': 'trained on',
}
_PERSON = {
    'box': 'box (x, y, w, h)',
    'box_score': "detector's score",
    'camera_translation_m': 'pelvis in the camera frame, m',
    'reprojection_px': 'distance from the 2D joints, px',
}
_MOST = 10**7  # frames, pixels; as export.motion
_OTHER_SHAPE = 0.02  # by which the shape of a picture may differ, as sizes are rounded


def scenes_of(folder: pathlib.Path) -> list[result.Scene]:
    """Returns what a folder of tools.predict or tools.predict_video holds: photos, or one video.

    Raises:
        FileNotFoundError: there is no such folder, or nothing of theirs in it.
        ValueError: naming the file, where something in it cannot be.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{shown(folder)} is no folder: name one that tools.predict or predict_video wrote.'
        )
    if (folder / VIDEO).is_file():
        return [video_scene(folder)]
    inside = sorted(path.parent for path in folder.glob(f'[!.]*/{PHOTO}'))
    photos = [folder] if (folder / PHOTO).is_file() else inside
    if not photos:
        raise FileNotFoundError(
            f'{shown(folder)} holds neither {PHOTO} nor {VIDEO}, nor do the folders in it: name a folder '
            'that tools.predict or tools.predict_video wrote.'
        )
    count = min(len(photos), result.MOST_PHOTOS)
    if count < len(photos):
        print(f'A page has at most {count} photos: {len(photos) - count} are left out.', file=sys.stderr)
    return [photo_scene(one, count) for one in tqdm.tqdm(photos[:count], disable=count == 1, unit='photo')]


# ---- a photo


def photo_scene(folder: pathlib.Path, count: int = 1) -> result.Scene:
    """Returns the photo of a folder of tools.predict.

    Args:
        count: how many photos the page has.
    """
    path = folder / PHOTO
    about = _object(json_file.read(path, 'a prediction'), path)
    if 'people' not in about:
        raise FileError(f'{shown(path)} has no people in it: is it a file of tools.predict?')
    motions = read_motions(path)
    picture, missing = _first_of(folder, 'photo.jpg', 'overlay.png')
    photo = read_photo(picture)
    size = motions[0].camera.size if motions else photo.shape[1::-1]
    _check_shape(photo.shape[1::-1], size, picture)
    boxes = [_box(person.get('box'), path) for person in about['people']]
    people = [
        result.Seen(motion, box, _camera_facts(person) | _named(_PERSON, person), _texts(person, 'warnings'))
        for motion, box, person in zip(motions, boxes, about['people'], strict=True)
    ]
    return result.Scene(
        name=str(about.get('photo', folder.name)),
        size=size,
        pictures=result.shrink([photo], count),
        people=people,
        caption=missing or _assumed(about['people']),
        facts={'photo': about.get('photo'), 'size': _size(size)} | _shared_facts(about),
        warnings=[missing] if missing else [],
        banner=_banner(about),
    )


def _camera_facts(person: Mapping[str, Any]) -> dict[str, Any]:
    """Returns focal length, principal point and depth of a person in prediction.json, and who says so."""
    said = {
        key: 'assumed' if person.get(f'{key}_assumed') else 'given'
        for key in ('focal', 'centre', 'root_depth')
    }
    by = person.get('root_depth_by') or said['root_depth']
    return {
        f'focal length, px ({said["focal"]})': person.get('focal'),
        f'principal point, px ({said["centre"]})': person.get('centre'),
        f'depth to lift the joints with, m ({by})': person.get('root_depth_m'),
    }


def _assumed(people: Sequence[Mapping[str, Any]]) -> str:
    """Returns a line that says what nobody gave."""
    known = {'focal_assumed': 'focal length', 'root_depth_assumed': 'depth'}
    assumed = [name for key, name in known.items() if any(person.get(key) is True for person in people)]
    return f'Assumed: {" and ".join(assumed)}. Details say more.' if assumed else ''


def _box(value: Any, path: pathlib.Path) -> list[float] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 4 and all(isinstance(x, int | float) for x in value)):
        raise FileError(f'{shown(path)}: the box {value!r:.80} is not x, y, w, h.')
    return value


# ---- a video


def video_scene(folder: pathlib.Path) -> result.Scene:
    """Returns the video of a folder of tools.predict_video."""
    path = folder / VIDEO
    about = _object(json_file.read(path, 'the description of a video'), path)
    size, rate, frames = (about.get(key) for key in ('size', 'frame_rate', 'frames'))
    numbers = [*size, rate, frames] if isinstance(size, list) and len(size) == 2 else [None]
    if not all(isinstance(number, int | float) and 0 < number <= _MOST for number in numbers):
        raise FileError(f'{shown(path)}: size, frame_rate and frames must be numbers from 0 to {_MOST}.')
    size = (int(size[0]), int(size[1]))
    source = pathlib.Path(str(about.get('source', '')))
    overlay = folder / 'overlay.mp4'
    video = next((one for one in (source, folder / source.name) if one.is_file()), overlay)
    missing = OVERLAY_PICTURES.format(overlay.name, shown(source)) if video == overlay else ''
    read = Video.open(video)
    _check_shape(read.size, size, video)
    bar = tqdm.tqdm(read.frames(), total=int(frames), unit='frame')
    pictures = result.shrink(bar, int(frames))
    motions = read_motions(folder / MOTIONS)
    return result.Scene(
        name=source.name,
        size=size,
        pictures=pictures,
        people=[result.Seen(motion, facts=_track_facts(motion)) for motion in motions],
        frame_rate=float(rate),
        frame_count=int(frames),
        caption=missing or FILLED * any(motion.filled.any() for motion in motions),
        facts={'source': about.get('source'), 'size': _size(size), 'frames a second': rate, 'frames': frames}
        | {'smoothing': about.get('smoothing'), 'seconds': about.get('seconds')}
        | _shared_facts(about),
        warnings=_texts(about, 'warnings') + ([missing] if missing else []),
        banner=_banner(about),
    )


def _track_facts(motion: Motion) -> dict[str, Any]:
    filled = int(motion.filled.sum())
    return {
        'frames': f'{motion.frames[0]} to {motion.frames[-1]}',
        'seen in': f'{len(motion.frames) - filled} frames',
        'filled': f'{filled} frames in which nobody saw the person',
        'focal length, px': motion.camera.focal,
        'principal point, px': motion.camera.centre,
    }


# ---- both


def _object(content: Any, path: pathlib.Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise FileError(f'{shown(path)} holds no object: is it a file of tools.predict or predict_video?')
    return content


def _first_of(folder: pathlib.Path, wanted: str, other: str) -> tuple[pathlib.Path, str]:
    """Returns the picture `wanted`, else the `other` one, and what is to be said then."""
    if (folder / wanted).is_file():
        return folder / wanted, ''
    if (folder / other).is_file():
        return folder / other, OVERLAY_PICTURES.format(other, wanted)
    raise FileNotFoundError(f'{shown(folder)} holds neither {wanted} nor {other}: predict once more.')


def _check_shape(found: Sequence[int], size: Sequence[int], path: pathlib.Path) -> None:
    """Raises FileError where a picture is not of the shape of (width, height), whatever its size."""
    width, height = found
    # A side of n pixels is rounded by half a pixel.
    if abs(width * size[1] - height * size[0]) > _OTHER_SHAPE * width * size[1] + max(size):
        raise FileError(
            f'{shown(path)} has {width} x {height} pixels, the people are of a picture of {size[0]} x '
            f'{size[1]}: it is another one.'
        )


def _size(size: Sequence[int]) -> str:
    return f'{size[0]} x {size[1]} pixels'


def _named(names: Mapping[str, str], content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[key] for key, name in names.items() if content.get(key) is not None}


def _texts(content: Mapping[str, Any], key: str) -> list[str]:
    found = content.get(key)
    return [str(one) for one in found] if isinstance(found, list) else []


def _checkpoint(about: Mapping[str, Any]) -> dict[str, Any]:
    found = about.get('checkpoint')
    return found if isinstance(found, dict) else {}


def _shared_facts(about: Mapping[str, Any]) -> dict[str, Any]:
    return _named(_CHECKPOINT, _checkpoint(about)) | {'body model': about.get('body_model')}


def _banner(about: Mapping[str, Any]) -> str:
    return SYNTHETIC_BANNER if _checkpoint(about).get('synthetic_only') else ''
