"""A video in, its people's motions out, in three passes of which each can be resumed or repeated alone.

    watch = Stopwatch()
    found = find_people(video, detector, parts, every=3, ...)      # boxes in every third frame
    followed = tracking.follow(found.detections(), settings)       # who is who
    seen = predict_people(video, predictor, followed, parts, ...)  # the network, in every frame
    motions, lost = make_motions(seen, predictor, video, ...)      # one shape a person, smoothed

`find_people` and `predict_people` read the video from its beginning, frame by frame, and write what they find
in files of `CHUNK` frames (`parts.Parts`), which are not computed again: memory does not grow with the video
but for what is kept of each person and frame, about two kilobytes.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from hybrik_jax import detect, smoothing, tracking
from hybrik_jax.body import skeleton, smpl
from hybrik_jax.inference import in_batches
from hybrik_jax.parts import Parts
from hybrik_jax.photo import OWN_CAMERAS, Request, camera_of
from hybrik_jax.predict import Predictor, place
from hybrik_jax.tracking import Followed
from hybrik_jax.types import Camera, Motion
from hybrik_jax.video import Video

CHUNK = 64  # frames
EVERY = 3  # frames between two in which people are looked for
SHORTEST = 10  # frames that a person must be seen in
_ENDS = 1 << 20  # bytes of a video's beginning and end that tell it from others
Progress = Callable[[str, Iterable], Iterable]  # wraps what is gone through, for a bar with its name


class Stopwatch:
    """Where the time goes: seconds by part of the work; of a part within another, the inner one's alone."""

    def __init__(self):
        """A stopwatch that has measured nothing."""
        self.seconds: dict[str, float] = {}
        self._inside: list[str] = []
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures what is done while entered."""
        self._charge()
        self._inside.append(name)
        try:
            yield
        finally:
            self._charge()
            self._inside.pop()

    def over(self, name: str, rows: Iterable) -> Iterator[Any]:
        """Yields rows, and measures how long each takes to come."""
        rows = iter(rows)
        while True:
            with self.part(name):
                row = next(rows, rows)
            if row is rows:
                return
            yield row

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._inside:
            name = self._inside[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def fingerprint(path: pathlib.Path) -> str:
    """Returns a hash of a file's size, first and last megabyte."""
    size = path.stat().st_size
    with path.open('rb') as file:
        head = file.read(_ENDS)
        file.seek(max(size - _ENDS, 0), os.SEEK_SET)
        return hashlib.sha256(b'%d ' % size + head + file.read(_ENDS)).hexdigest()


# ---- where people are


@dataclasses.dataclass(frozen=True)
class Found:
    """What the detector says of a video: `detections()` of its frames, read from its parts.

    count: the video's frames; fault, repeated, left_out: as in `video.Video`.
    parts, number: where the detections are, and how many parts there are.
    """

    count: int
    fault: str
    repeated: int
    left_out: int
    parts: Parts
    number: int

    def detections(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Yields frame, boxes (K, 4), scores (K,) and looks (K, D) of each frame that was looked at."""
        for number in range(self.number):
            part = self.parts.read(number)
            ends = np.cumsum(part['counts'])
            for frame, end, count in zip(part['frames'].tolist(), ends, part['counts'], strict=True):
                rows = slice(end - count, end)
                yield frame, part['boxes'][rows], part['scores'][rows], part['looks'][rows].astype(np.float32)


def find_people(
    video: Video,
    detector: detect.DetectorFunction,
    parts: Parts,
    *,
    every: int,
    watch: Stopwatch,
    progress: Progress,
) -> Found:
    """Returns what the detector finds in every `every`-th frame and the last one."""
    known = 0  # parts that are there
    while (part := parts.read(known)) is not None:
        known += 1
        if 'end' in part:
            return _found(part, parts, known)
    resumed, frame, number = known * CHUNK, None, -1
    rows: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def look() -> None:
        with watch.part('detect'):
            boxes, scores = detect.find(detector, frame)
            rows.append((number, boxes, scores, tracking.looks_of(frame, boxes)))

    for following in enumerate(progress('find', watch.over('read', video.frames()))):
        number, frame = following
        if number < resumed:
            continue
        if number % CHUNK == 0 and number > resumed:
            parts.write(known, _as_arrays(rows))
            known, rows = known + 1, []
        if number % every == 0:
            look()
    if number >= resumed and (not rows or rows[-1][0] != number):
        look()
    counts = np.array([number + 1, video.repeated, video.left_out])
    last = _as_arrays(rows) | {'end': counts, 'fault': np.array(video.fault)}
    parts.write(known, last)
    return _found(last, parts, known + 1)


def _as_arrays(rows: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    frames, boxes, scores, looks = zip(*rows, strict=True) if rows else ((), (), (), ())
    return {
        'frames': np.array(frames, int),
        'counts': np.array([len(one) for one in scores], int),
        'boxes': np.concatenate([np.zeros((0, 4)), *boxes]),
        'scores': np.concatenate([np.zeros(0), *scores]),
        'looks': np.concatenate([np.zeros((0, tracking.COLOURS)), *looks]).astype(np.float16),
    }


def _found(last: dict[str, np.ndarray], parts: Parts, number: int) -> Found:
    count, repeated, left_out = last['end'].tolist()
    return Found(count, str(last['fault']), repeated, left_out, parts, number)


def longer(followed: Sequence[Followed], least: int) -> list[Followed]:
    """Returns those who are seen in `least` frames or more."""
    return [one for one in followed if len(one.frames) >= least]


# ---- what the network says of them


def predict_people(
    video: Video,
    predictor: Predictor,
    followed: Sequence[Followed],
    parts: Parts,
    *,
    focal: float | None,
    watch: Stopwatch,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Returns what the network says of everybody in every frame, a row for each, by frame and person.

    person: (R,) index into `followed`. frame: (R,). score: (R,) the detector's.
    rotations, betas: (R, 24, 3, 3), (R, 10), as in `types.Person`.
    joints_px: (R, 24, 2) the network's 2D joints. translation_m: (R, 3). depth_m, focal: (R,), (R, 2)
    the root's depth and the camera that the joints were lifted with.

    Args:
        focal: of the camera, pixels; None: assumed.
    """
    everywhere = np.concatenate([np.zeros(0, int), *(one.frames for one in followed)])
    person = np.repeat(np.arange(len(followed)), [len(one.frames) for one in followed])
    row = np.concatenate([np.zeros(0, int), *(np.arange(len(one.frames)) for one in followed)])
    order = np.lexsort([person, everywhere])
    of_frame: dict[int, list[tuple[int, int]]] = {}
    for k in order:
        of_frame.setdefault(int(everywhere[k]), []).append((int(person[k]), int(row[k])))
    chunks = sorted({frame // CHUNK for frame in of_frame})
    stored = {chunk: parts.read(chunk) for chunk in chunks}
    if all(part is not None for part in stored.values()):
        return _joined(list(stored.values()))

    frames = enumerate(progress('predict', watch.over('read', video.frames())))
    number, frame = next(frames)
    for chunk in (chunk for chunk in chunks if stored[chunk] is None):
        wanted = [one for one in range(chunk * CHUNK, (chunk + 1) * CHUNK) if one in of_frame]

        def requests(wanted: Sequence[int] = wanted) -> Iterator[Request]:
            nonlocal number, frame
            for one in wanted:
                while number < one:
                    number, frame = next(frames)
                boxes = [followed[who].boxes[k] for who, k in of_frame[one]]
                yield Request(photo=frame, boxes=boxes, intrinsics=focal)

        with watch.part('network'):
            seen = [_kept(people) for people in predictor.predict(requests())]
        rows = [pair for one in wanted for pair in of_frame[one]]
        stored[chunk] = {
            'person': np.array([who for who, _ in rows]),
            'frame': np.array([followed[who].frames[k] for who, k in rows]),
            'score': np.array([followed[who].scores[k] for who, k in rows]),
            **{name: np.concatenate([one[name] for one in seen]) for name in seen[0]},
        }
        parts.write(chunk, stored[chunk])
    return _joined([stored[chunk] for chunk in chunks])


def _kept(people: Sequence[Any]) -> dict[str, np.ndarray]:
    """Returns what is kept of the people of a frame."""
    return {
        'rotations': np.stack([one.rotations for one in people]),
        'betas': np.stack([one.betas for one in people]),
        'joints_px': np.stack([one.joints_px[: skeleton.NUM_JOINTS] for one in people]),
        'translation_m': np.stack([one.translation_m for one in people]),
        'depth_m': np.array([one.view.root_depth_m for one in people]),
        'focal': np.stack([one.view.focal for one in people]),
    }


def _joined(stored: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not stored:
        return {'person': np.zeros(0, int)}
    return {name: np.concatenate([part[name] for part in stored]) for name in stored[0]}


# ---- motions


def make_motions(
    seen: dict[str, np.ndarray], predictor: Predictor, video: Video, *, focal: float | None, strength: str
) -> tuple[list[Motion], int]:
    """Returns everybody's motion, and in how many rows a body could not be fitted to the 2D joints.

    A person's shape is the median of what the network says in all frames. Where the network does not tell
    where the pelvis is, the body of that shape is moved to where it projects closest to the 2D joints. Then
    gaps are filled and jitter is taken out (`smoothing`).

    Args:
        seen: of `predict_people`.
        focal: as there.
        strength: of `smoothing.STRENGTHS`.
    """
    focal_px, centre = camera_of(focal, *video.size)
    camera = Camera(focal=tuple(focal_px.tolist()), centre=tuple(centre.tolist()), size=video.size)
    told = predictor.network.camera is not None and predictor.network.camera not in OWN_CAMERAS
    motions, lost = [], 0
    for number in range(int(seen['person'].max(initial=-1)) + 1):
        rows = {name: array[seen['person'] == number] for name, array in seen.items()}
        betas = np.median(rows['betas'], axis=0)
        translation_m = rows['translation_m']
        if not told:
            joints_m = posed(predictor.body, betas, rows['rotations'], mesh=False)
            depths = rows['depth_m'] * np.sqrt((focal_px / rows['focal']).prod(1))  # as this camera sees it
            placed = [
                place(*one, depth_m=depth_m, focal=focal_px, centre=centre)
                for *one, depth_m in zip(joints_m, rows['joints_px'], depths, strict=True)
            ]
            translation_m = np.stack([where for where, _ in placed])
            lost += sum(not fits for _, fits in placed)
        motion = Motion(
            name=f'person_{number}',
            body=str(predictor.body.name),
            camera=camera,
            frame_rate=video.frame_rate,
            frames=rows['frame'],
            rotations=rows['rotations'],
            betas=betas,
            translation_m=translation_m,
            filled=np.zeros(len(rows['frame']), bool),
        )
        motions.append(smoothing.smooth(smoothing.fill(motion), strength))
    return motions, lost


def posed(body: smpl.SMPL, betas: np.ndarray, rotations: np.ndarray, *, mesh: bool) -> np.ndarray:
    """Returns the vertices (T, V, 3) of posed bodies, or their joints (T, 24, 3); relative to the pelvis.

    Args:
        betas: (10,) or (T, 10).
        rotations: (T, 24, 3, 3) local.
        mesh: vertices, not joints.
    """
    betas = np.broadcast_to(betas, (len(rotations), smpl.NUM_BETAS))
    arrays = betas.astype(np.float32), np.asarray(rotations, np.float32)
    return in_batches(partial(_skinned, body, mesh=mesh), *arrays)


@partial(jax.jit, static_argnames='mesh')
def _skinned(body: smpl.SMPL, betas: jax.Array, rotations: jax.Array, *, mesh: bool) -> jax.Array:
    skin = jax.vmap(partial(smpl.skin, body, mesh=mesh))(betas, rotations)
    return (skin.vertices if mesh else skin.joints) - skin.joints[:, :1]


def meshes(
    motions: Sequence[Motion], body: smpl.SMPL, count: int
) -> Iterator[list[tuple[int, np.ndarray, bool]]]:
    """Yields for each of `count` frames who is there: number of the motion, vertices (V, 3), whether filled.

    The vertices are in the camera frame, metres.
    """
    for start in range(0, count, CHUNK):
        who, betas, rotations, places, frames, filled = [], [], [], [], [], []
        for number, motion in enumerate(motions):
            rows = np.flatnonzero((motion.frames >= start) & (motion.frames < start + CHUNK))
            who += [number] * len(rows)
            betas += [motion.betas] * len(rows)
            rotations += list(motion.rotations[rows])
            places += list(motion.translation_m[rows])
            frames += motion.frames[rows].tolist()
            filled += motion.filled[rows].tolist()
        vertices_m = posed(body, np.array(betas), np.array(rotations), mesh=True) if who else []
        for frame in range(start, min(start + CHUNK, count)):
            rows = [k for k, one in enumerate(frames) if one == frame]
            yield [(who[k], vertices_m[k] + places[k], filled[k]) for k in rows]
