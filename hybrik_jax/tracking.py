"""Who is who from frame to frame: boxes of people in, numbers of tracks out.

In the manner of ByteTrack (Zhang et al. 2022): confident detections are given to tracks first, doubtful ones
may only go on with a track that was seen in the frame before. A box's centre and size move with constant
velocity (a Kalman filter, its noise in proportion to the box's height); a track that is out of sight is
looked for where it would have gone, in an area that grows with the time. Beyond ByteTrack, tracks remember
the colours of a person, where they are given (`looks_of`): who crosses whose way is told by them, too.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from hybrik_jax.boxes import as_corners, overlap

_POSITION, _VELOCITY = 1 / 40, 1 / 400  # standard deviations of a frame's change, in box heights
_HIDDEN = 0.02  # cost of each frame that a track was not seen in: who is in sight goes first
_NEVER = 1e6  # a cost
_FRESH = 0.1  # share of a track's colours that are of its latest detection
COLOURS = 512  # shares of them: 4 of light, 8 of red and green, 8 of blue and yellow, of two halves
_HALVES = ((0.15, 0.45), (0.45, 0.75))  # of a box, from its top: clothes
_GATE = 9.49  # 95 % of chi square with four degrees of freedom


@dataclasses.dataclass(frozen=True)
class TrackSettings:
    """When detections make and continue tracks.

    high: score from which a detection starts a track; low: from which it continues one.
    overlap: least intersection over union with the box where a track is expected.
    doubtful_overlap: the same for scores below `high`.
    hidden_frames: how long a track is kept that nobody sees.
    unlike: how different the colours of a track and its detection may be, 0 to 1.
    crowded: a detection that overlaps another one's box by more starts no track, and tells no colours.
    """

    high: float = 0.3
    low: float = 0.1
    overlap: float = 0.2
    doubtful_overlap: float = 0.5
    hidden_frames: int = 30
    unlike: float = 0.6
    crowded: float = 0.3


@dataclasses.dataclass
class Track:
    """A person's box over time.

    number: of the person, from 0. mean: (8,) centre x, y, width, height and their changes per frame, pixels.
    covariance: (8, 8). unseen: frames since it was last seen. look: (D,) its colours, None: not known.
    """

    number: int
    mean: np.ndarray
    covariance: np.ndarray
    unseen: int = 0
    look: np.ndarray | None = None

    @property
    def box(self) -> np.ndarray:
        """Returns the box (4,) x y w h where it is expected."""
        x, y, w, h = self.mean[:4]
        return np.array([x - w / 2, y - h / 2, w, h])


class Tracker:
    """Follows the people of one video: `tracker(boxes, scores)` for every frame, in order."""

    def __init__(self, settings: TrackSettings | None = None):
        self.settings = settings or TrackSettings()
        self.tracks: list[Track] = []
        self._next = 0

    def __call__(
        self, boxes: np.ndarray, scores: np.ndarray, looks: np.ndarray | None = None, *, elapsed: int = 1
    ) -> np.ndarray:
        """Returns the track of each box of a frame (N,), -1 where it belongs to none and starts none.

        Args:
            boxes: (N, 4) x y w h, pixels. scores: (N,). looks: (N, D) of `looks_of`; None: not known.
            elapsed: how many frames after the one before it is.
        Raises:
            ValueError: boxes or scores are not finite, a box has no size, or their numbers differ.
        """
        boxes, scores = np.asarray(boxes, float).reshape(-1, 4), np.asarray(scores, float).reshape(-1)
        if len(boxes) != len(scores) or not np.isfinite(boxes).all() or not np.isfinite(scores).all():
            raise ValueError(f'{len(boxes)} boxes with {len(scores)} scores: as many, and all finite.')
        if (boxes[:, 2:] <= 0).any():
            raise ValueError(
                f'A box without size: {boxes[(boxes[:, 2:] <= 0).any(1)][0].tolist()} (x y w h).'
            )
        options = self.settings
        for track in self.tracks:
            for _ in range(elapsed):
                _predict(track)
        numbers = np.full(len(boxes), -1)
        sure = np.flatnonzero(scores >= options.high)
        doubtful = np.flatnonzero((scores >= options.low) & (scores < options.high))
        rest = list(self.tracks)
        seen_before = {track.number for track in rest if track.unseen <= elapsed}
        corners = as_corners(boxes)
        near = overlap(corners[:, None], corners[None]) * (1 - np.eye(len(boxes)))
        free = ~(near[:, sure] > options.crowded).any(1)

        def give(detections: np.ndarray, tracks: list[Track], cost: np.ndarray, most: float) -> None:
            unlike = _unlike(None if looks is None else looks[detections], tracks)
            cost = np.where((cost <= most) & (unlike <= options.unlike), cost + unlike, _NEVER)
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if cost[row, column] < _NEVER:
                    index, track = detections[row], tracks[column]
                    numbers[index] = track.number
                    _update(track, boxes[index])
                    if looks is not None and free[index]:
                        track.look = looks[index] if track.look is None else _mixed(track.look, looks[index])

        def left(tracks: list[Track]) -> list[Track]:
            return [track for track in tracks if track.number not in set(numbers)]

        hidden = np.array([_HIDDEN * min(t.unseen - 1, 10) for t in rest])
        give(sure, rest, _cost(boxes[sure], rest) + hidden, 1 - options.overlap)
        rest = left(rest)
        recent = [track for track in rest if track.number in seen_before]
        give(doubtful, recent, _cost(boxes[doubtful], recent), 1 - options.doubtful_overlap)
        rest, sure = left(rest), sure[numbers[sure] < 0]
        give(sure, rest, _distances(boxes[sure], rest), _GATE)
        for index in sure[numbers[sure] < 0]:
            taken = numbers >= 0
            if (near[index, taken] > options.crowded).any():
                continue
            look = looks[index] if looks is not None and free[index] else None
            self.tracks.append(_started(self._next, boxes[index], look))
            numbers[index], self._next = self._next, self._next + 1
        self.tracks = [track for track in self.tracks if track.unseen <= options.hidden_frames]
        return numbers


def looks_of(photo: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns what colours people have (N, COLOURS): histograms of the middle of their upper and lower half.

    Args:
        photo: (height, width, 3) uint8 RGB.
        boxes: (N, 4) x y w h, pixels.
    """
    lab, rows = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB), []
    for x, y, w, h in boxes:
        left, right = int(max(x + 0.3 * w, 0)), int(x + 0.7 * w) + 1
        for top, bottom in _HALVES:
            part = lab[int(max(y + top * h, 0)) : int(y + bottom * h) + 1, left:right].reshape(-1, 3)
            light = part[:, 0].astype(int) // 64
            a, b = np.clip((part[:, 1:].astype(int) - 88) // 10, 0, 7).T  # 128 is grey
            counts = np.bincount(64 * light + 8 * a + b, minlength=256)
            rows.append(counts / max(2 * counts.sum(), 1))
    return np.array(rows, np.float32).reshape(len(boxes), COLOURS)


def _unlike(looks: np.ndarray | None, tracks: Sequence[Track]) -> np.ndarray:
    """Returns Hellinger's distances (N, M), 0 to 1, of looks (N, D) and tracks', 0 where one is not known."""
    if looks is None:
        return np.zeros(len(tracks))
    columns = [
        np.zeros(len(looks))
        if track.look is None
        else np.sqrt(np.clip(1 - np.sqrt(looks * track.look).sum(1), 0, 1))
        for track in tracks
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(looks), 0))


def _mixed(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return (1 - _FRESH) * old + _FRESH * new


@dataclasses.dataclass(frozen=True)
class Followed:
    """Where a person is in the frames of a video.

    frames: (T,) int, increasing; there are gaps where the person was not found.
    boxes: (T, 4) x y w h, pixels. scores: (T,) the detector's.
    """

    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def follow(
    detections: Iterable[tuple[int, np.ndarray, np.ndarray, np.ndarray | None]],
    settings: TrackSettings | None = None,
) -> list[Followed]:
    """Returns the people of a video in which somebody was looked for in some frames, the first one first.

    Who is found in two of those frames in a row moves in between on a line.

    Args:
        detections: of those frames, in order: number of the frame, boxes, scores, looks as `Tracker` takes
            them.
        settings: of the tracker.
    """
    tracker, tracks, before = Tracker(settings), {}, -1
    for k, (frame, boxes, scores, looks) in enumerate(detections):
        numbers, before = tracker(boxes, scores, looks, elapsed=frame - before), frame
        for number, box, score in zip(numbers, boxes, scores, strict=True):
            if number >= 0:
                tracks.setdefault(int(number), []).append((k, frame, *box, score))
    return [_between(np.array(tracks[number])) for number in sorted(tracks)]


def _between(rows: np.ndarray) -> Followed:
    """Returns one person of rows (K, 7): which time somebody was looked for, frame, box, score."""
    known = rows[:, 1].astype(int)
    all_frames = np.arange(known[0], known[-1] + 1)
    last = np.searchsorted(known, all_frames, side='right') - 1  # the latest row that is not later
    following = np.minimum(last + 1, len(rows) - 1)
    seen = (known[last] == all_frames) | (rows[following, 0] - rows[last, 0] == 1)
    frames = all_frames[seen]
    values = np.stack([np.interp(frames, known, column) for column in rows[:, 2:].T], axis=1)
    return Followed(frames=frames, boxes=values[:, :4], scores=values[:, 4])


def _cost(boxes: np.ndarray, tracks: Sequence[Track]) -> np.ndarray:
    """Returns 1 - intersection over union (N, M) of boxes (N, 4) and where tracks are expected."""
    expected = np.array([track.box for track in tracks]).reshape(-1, 4)
    return 1 - overlap(as_corners(boxes)[:, None], as_corners(expected)[None])


def _measured(box: np.ndarray) -> np.ndarray:
    return np.array([*(box[:2] + box[2:] / 2), *box[2:]])


def _noise(height: float) -> np.ndarray:
    """Returns the variances (4,) of what is measured."""
    return np.full(4, (_POSITION * height) ** 2)


def _started(number: int, box: np.ndarray, look: np.ndarray | None) -> Track:
    height = box[3]
    spread = np.r_[np.full(4, 2 * _POSITION * height), np.full(4, 10 * _VELOCITY * height)]
    return Track(number, np.r_[_measured(box), np.zeros(4)], np.diag(spread**2), look=look)


_STEP = np.eye(8) + np.eye(8, k=4)  # positions move by their changes


def _predict(track: Track) -> None:
    height = track.mean[3]
    if track.unseen:  # nobody sees it grow or shrink
        track.mean[6:] = 0
    spread = np.r_[np.full(4, _POSITION * height), np.full(4, _VELOCITY * height)]
    track.mean = _STEP @ track.mean
    track.covariance = _STEP @ track.covariance @ _STEP.T + np.diag(spread**2)
    track.mean[2:4] = np.maximum(track.mean[2:4], 1.0)
    track.unseen += 1


def _update(track: Track, box: np.ndarray) -> None:
    innovation = track.covariance[:4, :4] + np.diag(_noise(track.mean[3]))
    gain = np.linalg.solve(innovation, track.covariance[:4]).T
    track.mean = track.mean + gain @ (_measured(box) - track.mean[:4])
    track.covariance = track.covariance - gain @ innovation @ gain.T
    track.unseen = 0


def _distances(boxes: np.ndarray, tracks: Sequence[Track]) -> np.ndarray:
    """Returns squared Mahalanobis distances (N, M) of boxes from where tracks are expected."""
    cost = np.zeros((len(boxes), len(tracks)))
    for column, track in enumerate(tracks):
        off = np.array([_measured(box) - track.mean[:4] for box in boxes]).reshape(-1, 4)
        innovation = track.covariance[:4, :4] + np.diag(_noise(track.mean[3]))
        cost[:, column] = np.sum(off * np.linalg.solve(innovation, off.T).T, -1)
    return cost
