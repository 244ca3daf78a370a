"""Who is who from frame to frame: boxes of people in, numbers of tracks out.

In the manner of ByteTrack (Zhang et al. 2022): confident detections are given to tracks first, doubtful ones
may only go on with a track that was seen in the frame before. A box's centre and size move with constant
velocity (a Kalman filter, its noise in proportion to the box's height); a track that is out of sight is
looked for where it would have gone, in an area that grows with the time.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from hybrik_jax.boxes import as_corners, overlap

_POSITION, _VELOCITY = 1 / 40, 1 / 400  # standard deviations of a frame's change, in box heights
_HIDDEN = 0.02  # cost of each frame that a track was not seen in: who is in sight goes first
_GATE = 9.49  # 95 % of chi square with four degrees of freedom


@dataclasses.dataclass(frozen=True)
class TrackSettings:
    """When detections make and continue tracks.

    high: score from which a detection starts a track; low: from which it continues one.
    overlap: least intersection over union with the box where a track is expected.
    doubtful_overlap: the same for scores below `high`.
    hidden_frames: how long a track is kept that nobody sees.
    """

    high: float = 0.3
    low: float = 0.1
    overlap: float = 0.2
    doubtful_overlap: float = 0.5
    hidden_frames: int = 30


@dataclasses.dataclass
class Track:
    """A person's box over time.

    number: of the person, from 0. mean: (8,) centre x, y, width, height and their changes per frame, pixels.
    covariance: (8, 8). unseen: frames since it was last seen.
    """

    number: int
    mean: np.ndarray
    covariance: np.ndarray
    unseen: int = 0

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

    def __call__(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns the track of each box of the next frame (N,), -1 where a doubtful one belongs to none.

        Args:
            boxes: (N, 4) x y w h, pixels. scores: (N,).
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
            _predict(track)
        numbers = np.full(len(boxes), -1)
        sure = np.flatnonzero(scores >= options.high)
        doubtful = np.flatnonzero((scores >= options.low) & (scores < options.high))
        rest = list(self.tracks)
        seen_before = {track.number for track in rest if track.unseen <= 1}

        def give(detections: np.ndarray, tracks: list[Track], cost: np.ndarray, most: float) -> None:
            for row, column in zip(*linear_sum_assignment(np.minimum(cost, 1e6)), strict=True):
                if cost[row, column] <= most:
                    numbers[detections[row]] = tracks[column].number
                    _update(tracks[column], boxes[detections[row]])

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
            self.tracks.append(_started(self._next, boxes[index]))
            numbers[index], self._next = self._next, self._next + 1
        self.tracks = [track for track in self.tracks if track.unseen <= options.hidden_frames]
        return numbers


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
    frames: Sequence[int],
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    settings: TrackSettings | None = None,
) -> list[Followed]:
    """Returns the people of a video in which somebody was looked for in some frames, the first one first.

    Who is found in two of those frames in a row moves in between on a line.

    Args:
        frames: (N,) numbers of those frames, increasing.
        boxes, scores: of each of them, as `Tracker` takes them.
        settings: of the tracker, for which each of those frames is the next one.
    """
    tracker, tracks = Tracker(settings), {}
    for k, (frame, found, sure) in enumerate(zip(frames, boxes, scores, strict=True)):
        for number, box, score in zip(tracker(found, sure), found, sure, strict=True):
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


def _started(number: int, box: np.ndarray) -> Track:
    height = box[3]
    spread = np.r_[np.full(4, 2 * _POSITION * height), np.full(4, 10 * _VELOCITY * height)]
    return Track(number, np.r_[_measured(box), np.zeros(4)], np.diag(spread**2))


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
