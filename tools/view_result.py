"""Writes a page to look at what was predicted: one HTML file that needs nothing else, and no network.

    python -m tools.view_result out/                    # of a photo, a folder of photos or a video: out/result.html
    python -m tools.view_result out/ --out people.html

DIR is what tools.predict or tools.predict_video wrote. The page shows the picture with the meshes over it
beside a space that can be turned; docs/predict.md says what else. The frames of a video are those of the
video itself where it is still at its place, else those of overlay.mp4, with the meshes that are drawn there.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tqdm

from hybrik_jax import compiler, json_file
from hybrik_jax.body import smpl, smpl_file
from hybrik_jax.ending import write_whole
from hybrik_jax.export.motion import read_motions
from hybrik_jax.files import FileError, open_plain, shown
from hybrik_jax.photo import read_photo
from hybrik_jax.view import result
from tools import in_one_line

PHOTO, VIDEO, MOTIONS = 'prediction.json', 'video.json', 'motions.npz'
OVERLAY_PICTURES = 'The picture is {}, on which the meshes are drawn: {} is not there.'
SYNTHETIC_BANNER = (
    'The network was trained on synthetic people only: on real photos and videos expect large errors.'
)
SMPL_WARNING = (
    'This page contains the body model {!r}: pass it on only to people who may have that model, too '
    '(the licence of SMPL forbids redistribution).'
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
    photos = [folder] if (folder / PHOTO).is_file() else sorted(p.parent for p in folder.glob(f'*/{PHOTO}'))
    if not photos:
        raise FileNotFoundError(
            f'{shown(folder)} holds neither {PHOTO} nor {VIDEO}, nor do the folders in it: name a folder that '
            'tools.predict or tools.predict_video wrote.'
        )
    count = min(len(photos), result.MOST_PHOTOS)
    return [photo_scene(one, count) for one in tqdm.tqdm(photos[:count], disable=count == 1, unit='photo')]


# ---- a photo


def photo_scene(folder: pathlib.Path, count: int = 1) -> result.Scene:
    """Returns the photo of a folder of tools.predict.

    Args:
        count: how many photos the page has.
    """
    path = folder / PHOTO
    about = _object(json_file.read(path, 'a prediction'), path)
    motions = read_motions(path)
    picture, missing = _first_of(folder, 'photo.jpg', 'overlay.png')
    photo = read_photo(picture)
    size = motions[0].camera.size if motions else photo.shape[1::-1]
    _check_shape(photo, size, picture)
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
        facts={'photo': about.get('photo'), 'size': size} | _shared_facts(about),
        warnings=[missing] if missing else [],
        banner=_banner(about),
    )


def _camera_facts(person: Mapping[str, Any]) -> dict[str, Any]:
    """Returns focal length, principal point and depth of a person in prediction.json, and who says so."""
    depth = 'assumed' if person.get('root_depth_assumed') else person.get('root_depth_by') or 'given'
    said = {True: ' (assumed)', False: ' (given)'}
    return {
        f'focal length, px{said.get(person.get("focal_assumed"), "")}': person.get('focal'),
        f'principal point, px{said.get(person.get("centre_assumed"), "")}': person.get('centre'),
        f'depth to lift the joints with, m ({depth})': person.get('root_depth_m'),
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
    if not all(isinstance(number, int | float) and number > 0 for number in numbers):
        raise FileError(f'{shown(path)}: size, frame_rate and frames must be positive numbers.')
    size = (int(size[0]), int(size[1]))
    source = pathlib.Path(str(about.get('source', '')))
    overlay = folder / 'overlay.mp4'
    video = next((one for one in (source, folder / source.name) if one.is_file()), overlay)
    missing = OVERLAY_PICTURES.format(overlay.name, shown(source)) if video == overlay else ''
    if video == overlay:
        open_plain(overlay, 'a video').close()  # or one line says that it is not there
    bar = tqdm.tqdm(read_frames(video, size), total=int(frames), unit='frame')
    pictures = result.shrink(bar, int(frames))
    described = {str(one.get('name')): one for one in about.get('people', []) if isinstance(one, dict)}
    return result.Scene(
        name=source.name,
        size=size,
        pictures=pictures,
        people=[
            result.Seen(motion, facts=described.get(motion.name, {}))
            for motion in read_motions(folder / MOTIONS)
        ],
        frame_rate=float(rate),
        frame_count=int(frames),
        caption=missing,
        facts={key: about.get(key) for key in ('source', 'size', 'frame_rate', 'frames', 'smoothing')}
        | _shared_facts(about)
        | {'seconds': about.get('seconds')},
        warnings=_texts(about, 'warnings') + ([missing] if missing else []),
        banner=_banner(about),
    )


def read_frames(path: pathlib.Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields the frames of a video, (height, width, 3) uint8 RGB.

    Args:
        size: (width, height) that they have; of others the shape must be the same.
    Raises:
        ValueError: naming the file, where it has no frame, or frames of another shape.
    """
    video = cv2.VideoCapture(str(path))
    try:
        found, frame = video.read()
        if not found:
            raise FileError(f'{shown(path)} cannot be read as a video.')
        _check_shape(frame, size, path)
        while found:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            found, frame = video.read()
    finally:
        video.release()


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


def _check_shape(picture: np.ndarray, size: Sequence[int], path: pathlib.Path) -> None:
    """Raises FileError where a picture is not of the shape of (width, height), whatever its size."""
    height, width = picture.shape[:2]
    # A side of n pixels is rounded by half a pixel.
    if abs(width * size[1] - height * size[0]) > _OTHER_SHAPE * width * size[1] + max(size):
        raise FileError(
            f'{shown(path)} has {width} x {height} pixels, the people are of a picture of {size[0]} x '
            f'{size[1]}: it is another one.'
        )


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


# ---- command line


def load_body(scenes: Sequence[result.Scene], path: str | None) -> smpl.SMPL:
    """Returns the body model of a file, None for the free one; ValueError where the people have another."""
    body = smpl_file.load_body(path)
    for seen in (seen for scene in scenes for seen in scene.people):
        if seen.motion.body != str(body.name):
            raise ValueError(
                f'The people were predicted with the body model {seen.motion.body!r}, {str(body.name)!r} is '
                'loaded: give its file as --body.'
            )
    return body


def run(argv: Sequence[str] | None = None) -> pathlib.Path:
    """Returns the page written for the command line `argv`; raises where that cannot be done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=pathlib.Path, metavar='DIR', help='what was predicted')
    parser.add_argument('--out', type=pathlib.Path, metavar='FILE', help='default: DIR/result.html')
    parser.add_argument('--title', help='of the page; default: the name of the photo, video or folder')
    parser.add_argument('--body', metavar='FILE', help='SMPL file, where people are not of the free body')
    args = parser.parse_args(argv)
    scenes = scenes_of(args.folder)
    body = load_body(scenes, args.body)
    title = args.title or (scenes[0].name if len(scenes) == 1 else args.folder.resolve().name)
    if '(CC0)' not in str(body.name):
        scenes[0].warnings.append(SMPL_WARNING.format(str(body.name)))
        print(scenes[0].warnings[-1], file=sys.stderr)
    page = result.make_page(title, scenes, body)
    out = args.out or args.folder / 'result.html'
    write_whole(out, page)
    print(f'{shown(out)}: {len(scenes)} {"scene" if len(scenes) == 1 else "scenes"}, {len(page) / 1e6:.1f} MB')
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
