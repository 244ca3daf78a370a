"""A page to look at predicted people: photos or a video beside a space that can be turned, in one file.

The page (`web/`) holds the body model, everybody's rotations and the pictures, and poses the meshes itself,
as `smpl.skin` does; nothing is loaded from anywhere. Rotations are kept as quaternions of 16-bit integers,
shape directions as 16-bit, pose directions as 8-bit integers: of the free body's joints the page is off by
less than 0.1 mm, of its vertices by 0.04 mm on average and less than 1 mm (tests/page/check.mjs).
"""

import base64
import dataclasses
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.body import skeleton, smpl
from hybrik_jax.data import jpeg
from hybrik_jax.types import Motion
from hybrik_jax.view.page import render, value_text
from hybrik_jax.view.render import person_colour

WEB = Path(__file__).parent / 'web'
# How large pictures are, by how many there are: up to so many, pixels of the longer side; then `_SMALLEST`.
_SIDES = ((12, 1280), (60, 960), (400, 640))
_SMALLEST = 480
MOST_BYTES = 15_000_000  # of a page's pictures: in base64, with the rest, a page has less than 30 MB
MOST_PHOTOS = 400
_QUALITY, _THUMBNAIL = 74, 160  # of JPEG; pixels of the longer side
_QUATERNION_UNIT = 32767
# Scripts, by the names that they are imported by.
_MODULES = {'three': 'three.min.js', 'body': 'body.js', 'records': 'records.js', 'views': 'views.js'}


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The pictures of a photo or video, in order.

    files: JPEG files, of the frames 0, step, 2 * step, ...
    size: (width, height) of the first, pixels.
    step: frames from one picture to the next.
    """

    files: Sequence[bytes]
    size: tuple[int, int]
    step: int = 1


@dataclasses.dataclass(frozen=True)
class Seen:
    """Somebody in a photo or video.

    motion: of a photo a motion of the frame 0.
    box: (4,) x y w h in a photo, pixels; None: the page draws one around the body.
    facts, warnings: what the details say of this person.
    """

    motion: Motion
    box: Sequence[float] | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Scene:
    """A photo or video with its people.

    size: (width, height) in pixels, those of the people's cameras.
    frame_rate, frame_count: of the video; a photo is one frame.
    caption: a line below the picture. banner: what must not be overlooked, '' where there is nothing.
    facts, warnings: what the details say.
    """

    name: str
    size: tuple[int, int]
    pictures: Pictures
    people: Sequence[Seen]
    frame_rate: float = 1.0
    frame_count: int = 1
    caption: str = ''
    banner: str = ''
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warnings: Sequence[str] = ()


def shrink(frames: Iterable[np.ndarray], count: int, most_bytes: int = MOST_BYTES) -> Pictures:
    """Returns frames as pictures of a page; of a long video every second, fourth, ... frame.

    Args:
        frames: (height, width, 3) uint8 RGB, in order; they are taken one after the other.
        count: how many pictures the page will have, about; the more, the smaller they are.
        most_bytes: of all pictures together; frames are left out where they would have more.
    Raises:
        ValueError: there is no frame.
    """
    side = next((side for most, side in _SIDES if count <= most), _SMALLEST)
    files, size, step, total = [], (0, 0), 1, 0
    for number, frame in enumerate(frames):
        if number % step:
            continue
        small = _fit(frame, side)
        size = size if files else small.shape[1::-1]
        files.append(jpeg.encode(small, _QUALITY, '420'))
        total += len(files[-1])
        while total > most_bytes and len(files) > 1:
            files, step = files[::2], 2 * step
            total = sum(map(len, files))
    if not files:
        raise ValueError('There is no picture to show.')
    return Pictures(files, size, step)


def make_page(title: str, scenes: Sequence[Scene], body: smpl.SMPL) -> str:
    """Returns the page, HTML, of photos or of a video.

    Args:
        title: of the page.
        scenes: one or more; the page begins with the first.
        body: the model of all motions.
    Raises:
        ValueError: there is no scene, or a motion is of another body model.
    """
    if not scenes:
        raise ValueError('There is nothing to show: a page has at least one photo or video.')
    arrays = _Arrays()
    content = {
        'title': title,
        'body': _body(body, arrays),
        'scenes': [_scene(scene, body, arrays, several=len(scenes) > 1) for scene in scenes],
    }
    imports = {
        name: f'data:text/javascript;base64,{_base64((WEB / file).read_bytes())}'
        for name, file in _MODULES.items()
    }
    return render(
        'web/result.html',
        title=title,
        style=(WEB / 'result.css').read_text('utf-8'),
        script=(WEB / 'result.js').read_text('utf-8'),
        imports=json.dumps({'imports': imports}),
        content=_as_json(content),
        arrays=_base64(gzip.compress(bytes(arrays.data), 9, mtime=0)),
    )


class _Arrays:
    """The numbers of a page, one after the other; the JSON says where each array begins."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Returns how the script finds an array: its type, its first byte, how many numbers it has."""
        self.data += bytes(-len(self.data) % 4)
        place = {'type': array.dtype.name, 'at': len(self.data), 'count': array.size}
        self.data += np.ascontiguousarray(array, array.dtype.newbyteorder('<')).tobytes()
        return place

    def add_rounded(self, table: np.ndarray, dtype: type[np.integer]) -> dict[str, Any]:
        """Returns the same of a table (N, M) as integers, with the scale of each row."""
        largest = np.abs(table).max(1, initial=0)
        scales = np.where(largest > 0, largest, 1) / np.iinfo(dtype).max
        values = np.rint(table / scales[:, None]).astype(dtype)
        return {'values': self.add(values), 'scales': self.add(scales.astype(np.float32))}


def _body(body: smpl.SMPL, arrays: _Arrays) -> dict[str, Any]:
    directions = np.asarray(body.directions, np.float64)
    directions = directions.transpose(0, 2, 1).reshape(len(directions), -1)  # vertex by vertex
    joints = slice(skeleton.NUM_JOINTS)
    floats = {
        'template': body.v_template,
        'weights': body.weights,
        'restJoints': body.rest_joints_template[joints],
        'restDirections': body.rest_joints_dirs[joints],
    }
    return {name: arrays.add(np.asarray(array, np.float32)) for name, array in floats.items()} | {
        'faces': arrays.add(np.asarray(body.faces, np.uint32)),
        'shape': arrays.add_rounded(directions[: smpl.NUM_BETAS], np.int16),
        'pose': arrays.add_rounded(directions[smpl.NUM_BETAS :], np.int8),
        'parents': skeleton.PARENTS,
    }


def _scene(scene: Scene, body: smpl.SMPL, arrays: _Arrays, *, several: bool) -> dict[str, Any]:
    motions = [seen.motion for seen in scene.people]
    nearest: dict[Any, float] = {}
    for motion in motions:
        smpl.check_same_body(body, motion.body, f'The motion of {motion.name}')
        depth = float(motion.translation_m[:, 2].min())
        nearest[motion.camera] = min(depth, nearest.get(motion.camera, depth))
    cameras = sorted(nearest, key=lambda camera: -nearest[camera])  # the nearest is drawn last
    step = scene.pictures.step
    shown = [_thinned(seen, step) for seen in scene.people]
    last = max([0, scene.frame_count - 1, *(int(seen.motion.frames[-1]) for seen in shown if seen)])
    content = {
        'name': scene.name,
        'size': scene.size,
        'picture_size': scene.pictures.size,
        'pictures': [_base64(file) for file in scene.pictures.files],
        'frame_rate': scene.frame_rate,
        'frame_step': step,
        'frame_count': last // step + 1,  # of those that are shown
        'summary': _summary(scene),
        'caption': scene.caption,
        'banner': scene.banner,
        'cameras': [{'focal': camera.focal, 'centre': camera.centre} for camera in cameras],
        'people': [
            _person(seen, cameras.index(seen.motion.camera), arrays) | {'colour': _css(person_colour(number))}
            for number, seen in enumerate(shown)
            if seen
        ],
        'facts': _facts(scene.facts),
        'warnings': list(scene.warnings),
    }
    if several:
        first = cv2.imdecode(np.frombuffer(scene.pictures.files[0], np.uint8), cv2.IMREAD_COLOR_RGB)
        content['thumbnail'] = _base64(jpeg.encode(_fit(first, _THUMBNAIL), _QUALITY, '420'))
    return content


def _summary(scene: Scene) -> str:
    count, step = len(scene.people), scene.pictures.step
    parts = ['1 person' if count == 1 else f'{count} people' if count else 'nobody was found']
    if scene.frame_count > 1:
        parts.append(f'{scene.frame_count} frames, {scene.frame_rate:g} a second')
    if step > 1:
        parts.append(f'one frame of {step} is shown, to keep the page small')
    return ' · '.join(parts)


def _thinned(seen: Seen, step: int) -> Seen | None:
    """Returns the person in the frames 0, step, 2 * step, ..., which are shown; None: in none of them."""
    motion = seen.motion
    rows = motion.frames % step == 0
    if not rows.any():
        return None
    parts = {name: getattr(motion, name)[rows] for name in ('frames', 'rotations', 'translation_m', 'filled')}
    return dataclasses.replace(seen, motion=dataclasses.replace(motion, **parts))


def _person(seen: Seen, camera: int, arrays: _Arrays) -> dict[str, Any]:
    motion = seen.motion
    quaternions = Rotation.from_matrix(motion.rotations.reshape(-1, 3, 3)).as_quat()
    return {
        'name': motion.name,
        'camera': camera,
        'box': None if seen.box is None else [float(value) for value in seen.box],
        'betas': np.asarray(motion.betas, np.float64).tolist(),
        'frames': arrays.add(motion.frames.astype(np.int32)),
        'filled': arrays.add(motion.filled.astype(np.uint8)),
        'quaternions': arrays.add(np.rint(quaternions * _QUATERNION_UNIT).astype(np.int16)),
        'translation_m': arrays.add(motion.translation_m.astype(np.float32)),
        'facts': _facts(seen.facts),
        'warnings': list(seen.warnings),
    }


def _css(colour: Sequence[float]) -> str:
    return '#' + ''.join(f'{round(255 * part):02x}' for part in colour)


def _facts(facts: Mapping[str, Any]) -> list[list[str]]:
    return [[name, value_text(value)] for name, value in facts.items()]


def _fit(image: np.ndarray, side: int) -> np.ndarray:
    """Returns an image whose longer side is at most `side` pixels."""
    scale = min(1.0, side / max(image.shape[:2]))
    size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
    return image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')


def _as_json(content: Any) -> str:
    """Returns JSON for a script element: no text in it can end the element or begin a comment."""
    return json.dumps(content, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')
