"""Identities over time, and motions without gaps and jitter."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax import smoothing, tracking
from hybrik_jax.tracking import Tracker
from hybrik_jax.types import Camera, Motion

FRAMES, RATE = 300, 30.0


def walkers(rng):
    """Yields frame by frame boxes, scores and who they are of: two people cross, a third stands in their way.

    Whoever is behind another is not seen, the third is hidden for 20 frames; now and then a box is missed or
    doubtful, and all are off by some pixels.
    """
    ways = (lambda t: 100 + 4 * t, lambda t: 1300 - 4 * t, lambda t: 600 + 150 * np.sin(t / 40))
    for t in range(FRAMES):
        rows = []
        for person, way in enumerate(ways):
            behind = any(abs(way(t) - other(t)) < 30 for other in ways[:person])
            if behind or (person == 2 and 120 <= t < 140) or rng.random() < 0.05:
                continue
            width = 80 * (1 + 0.2 * np.sin(t / 5 + person))
            box = np.array([way(t) - width / 2, 300 - 10 * person, width, 200 + 10 * person])
            rows.append((box + rng.normal(0, 3, 4), rng.choice([0.6, 0.2], p=[0.9, 0.1]), person))
        yield tuple(map(np.array, zip(*rows, strict=True))) if rows else (np.zeros((0, 4)), np.zeros(0), [])


def test_people_who_cross_and_hide_stay_who_they_are():
    """Of ten videos nine have no switch of identity at all, and none more than one there and back."""
    switches = []
    for seed in range(10):
        tracker, tracks = Tracker(), {0: [], 1: [], 2: []}
        for boxes, scores, who in walkers(np.random.default_rng(seed)):
            for person, number in zip(who, tracker(boxes, scores), strict=True):
                if number >= 0:
                    tracks[person].append(number)
        switches.append(sum(int(np.count_nonzero(np.diff(numbers))) for numbers in tracks.values()))
    assert sorted(switches)[-2] == 0 and max(switches) <= 4, switches


def test_a_track_ends_and_is_not_taken_up_by_a_stranger():
    tracker = Tracker()
    assert tracker([[0, 0, 50, 100]], [0.9]).tolist() == [0]
    assert tracker([[2, 0, 50, 100], [400, 0, 50, 100]], [0.9, 0.8]).tolist() == [0, 1]
    for _ in range(40):
        assert tracker([[400, 0, 50, 100]], [0.9]).tolist() == [1]
    assert tracker([[400, 0, 50, 100], [4, 0, 50, 100]], [0.9, 0.9]).tolist() == [1, 2]


def test_doubtful_boxes_go_on_with_a_track_and_start_none():
    tracker = Tracker()
    assert tracker([[0, 0, 50, 100]], [0.2]).tolist() == [-1]
    tracker([[0, 0, 50, 100]], [0.9])
    assert tracker([[1, 0, 50, 100], [300, 0, 50, 100]], [0.2, 0.2]).tolist() == [0, -1]
    assert tracker(np.zeros((0, 4)), []).tolist() == []


@pytest.mark.parametrize(
    ('boxes', 'scores', 'words'),
    [
        ([[0, 0, 1, 1]], [], '1 boxes with 0 scores'),
        ([[0, 0, np.nan, 1]], [0.5], 'finite'),
        ([[0, 0, 0, 1]], [0.5], r'without size: \[0.0, 0.0, 0.0, 1.0\]'),
    ],
)
def test_impossible_boxes_are_refused(boxes, scores, words):
    with pytest.raises(ValueError, match=words):
        Tracker()(boxes, scores)


def motion_of(rotations, places, frames=None):
    return Motion(
        name='ada',
        body='a body',
        camera=Camera(focal=(1000.0, 1000.0), centre=(320.0, 240.0), size=(640, 480)),
        frame_rate=RATE,
        frames=np.arange(len(rotations)) if frames is None else np.asarray(frames),
        rotations=rotations,
        betas=np.zeros(10),
        translation_m=places,
        filled=np.zeros(len(rotations), bool),
    )


@pytest.fixture
def moving():
    """Rotations (T, 2, 3, 3) and places (T, 3) of somebody who swings and walks, and both with noise."""
    rng, t = np.random.default_rng(0), np.arange(FRAMES) / RATE
    rates, phases, sizes = [0.5, 0.8, 0.3] * 2, rng.uniform(0, 6, 6), rng.uniform(0.3, 1.0, 6)
    vectors = np.stack(
        [a * np.sin(2 * np.pi * f * t + p) for f, p, a in zip(rates, phases, sizes, strict=True)], 1
    )
    true = Rotation.from_rotvec(vectors.reshape(-1, 3))
    noisy = true * Rotation.from_rotvec(rng.normal(0, 0.05, (2 * FRAMES, 3)))
    rotations, jittered = (x.as_matrix().reshape(FRAMES, 2, 3, 3) for x in (true, noisy))
    places = np.stack([np.sin(t), np.cos(t), t], 1)
    return rotations, places, jittered, places + rng.normal(0, 0.01, places.shape)


def degrees_between(one, other):
    between = Rotation.from_matrix(one.reshape(-1, 3, 3)).inv() * Rotation.from_matrix(
        other.reshape(-1, 3, 3)
    )
    return np.degrees(between.magnitude())


def test_smoothing_brings_nearer_to_the_truth(moving):
    rotations, places, jittered, noisy = moving
    errors = {}
    for strength in smoothing.STRENGTHS:
        smoothed = smoothing.smooth(motion_of(jittered, noisy), strength)
        turned = smoothed.rotations
        identities = np.broadcast_to(np.eye(3), turned.shape)
        np.testing.assert_allclose(turned @ turned.swapaxes(-1, -2), identities, atol=1e-12)
        off_m = np.abs(smoothed.translation_m - places).mean()
        errors[strength] = degrees_between(turned, rotations).mean(), off_m
    assert errors['off'] == (degrees_between(jittered, rotations).mean(), np.abs(noisy - places).mean())
    for less, more, share in (('off', 'light', 0.65), ('light', 'strong', 0.8)):
        assert errors[more][0] < share * errors[less][0] and errors[more][1] < share * errors[less][1]


def test_smoothing_keeps_what_is_smooth_and_does_not_reach_over_gaps(moving):
    rotations, places = moving[:2]
    smoothed = smoothing.smooth(motion_of(rotations, places), 'light')
    assert degrees_between(smoothed.rotations, rotations).max() < 0.5
    assert np.abs(smoothed.translation_m - places).max() < 1e-4
    turned = rotations.copy()
    turned[150:] = Rotation.from_rotvec([0, 2.0, 0]).as_matrix() @ turned[150:]
    smoothed = smoothing.smooth(motion_of(turned, places, [*range(150), *range(200, 350)]), 'light')
    assert degrees_between(smoothed.rotations, turned).max() < 0.5


def test_gaps_of_half_a_second_are_filled_and_marked(moving):
    rotations, places = moving[:2]
    kept = np.r_[0:50, 60:100, 130:FRAMES]
    motion = motion_of(rotations[kept], places[kept], kept)
    filled = smoothing.fill(motion)
    np.testing.assert_array_equal(filled.frames, np.r_[0:100, 130:FRAMES])
    np.testing.assert_array_equal(filled.frames[filled.filled], np.arange(50, 60))
    np.testing.assert_array_equal(filled.rotations[~filled.filled], rotations[kept])
    np.testing.assert_array_equal(filled.translation_m[~filled.filled], places[kept])
    steps = degrees_between(filled.rotations[49:60], filled.rotations[50:61]).reshape(11, 2)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:1], steps.shape), atol=1e-6)
    np.testing.assert_allclose(11 * steps[0], degrees_between(rotations[49], rotations[60]), atol=1e-6)
    np.testing.assert_allclose(filled.translation_m[54], places[49] + 5 / 11 * (places[60] - places[49]))
    assert len(smoothing.fill(motion, most=30).frames) == FRAMES
    one = motion_of(rotations[:1], places[:1])
    assert smoothing.fill(one) is one


def test_an_unknown_strength_is_refused(moving):
    with pytest.raises(ValueError, match="No smoothing 'much'"):
        smoothing.smooth(motion_of(*moving[:2]), 'much')


def test_colours_tell_who_is_who_after_a_crossing():
    """Two people walk up to each other, are one box for a while, and turn back: by place alone they swap."""
    rng = np.random.default_rng(0)
    colours = np.eye(tracking.COLOURS, dtype=np.float32)[:2]

    def walk(known):
        tracker, told = Tracker(), {0: [], 1: []}
        for t in range(120):
            apart = 4 * abs(t - 60)
            people = [0, 1] if apart > 40 else [0]
            places = [300 - apart / 2, 300 + apart / 2] if apart > 40 else [300]
            boxes = np.array([[x, 100, 60, 180] for x in places]) + rng.normal(0, 1, (len(people), 4))
            looks = colours[people] if known and apart > 40 else None
            numbers = tracker(boxes, np.full(len(people), 0.9), looks)
            for person, number in zip(people, numbers, strict=True):
                if apart > 40:
                    told[person].append(int(number))
        return told

    assert {person: set(numbers) for person, numbers in walk(known=True).items()} == {0: {0}, 1: {1}}
    assert {person: set(numbers) for person, numbers in walk(known=False).items()} == {0: {0, 1}, 1: {0, 1}}


def test_looks_are_shares_of_colours():
    photo = np.zeros((100, 200, 3), np.uint8)
    photo[:, :100] = (200, 30, 30)
    boxes = np.array([[10, 0, 60, 100], [110, 0, 60, 100], [12, 2, 60, 95], [-30, -20, 80, 300]])
    looks = tracking.looks_of(photo, boxes)
    assert looks.shape == (4, tracking.COLOURS)
    np.testing.assert_allclose(looks.sum(1), [1, 1, 1, 0.5], atol=1e-6)  # half of the last is outside
    np.testing.assert_allclose(looks[0], looks[2])
    assert np.abs(looks[0] - looks[1]).sum() == pytest.approx(2)
    assert tracking.looks_of(photo, np.zeros((0, 4))).shape == (0, tracking.COLOURS)


def test_between_two_detections_people_move_on_a_line():
    """Of frames 0, 3, 6, 9, 12 the one at 6 sees nobody: 4 to 8 are a gap."""
    found = [(k, np.array([[4.0 * k, 5, 40, 80]]), np.array([0.5 + 0.01 * k]), None) for k in (0, 3, 9, 12)]
    found.insert(2, (6, np.zeros((0, 4)), np.zeros(0), None))
    (person,) = tracking.follow(found)
    np.testing.assert_array_equal(person.frames, [0, 1, 2, 3, 9, 10, 11, 12])
    np.testing.assert_allclose(person.boxes[:, 0], 4.0 * person.frames)
    np.testing.assert_allclose(person.scores, 0.5 + 0.01 * person.frames)
    assert tracking.follow([]) == []


def test_frames_in_between_count():
    """A track is waited for by frames, however few of them somebody looks at."""
    for elapsed, known in ((10, 3), (11, 2)):
        tracker = Tracker(tracking.TrackSettings(hidden_frames=30))
        tracker([[0, 0, 50, 100]], [0.9])
        for _ in range(3):
            tracker(np.zeros((0, 4)), [], elapsed=elapsed)
        assert len(tracker.tracks) == (known == 3)


def test_a_double_box_is_no_new_person():
    tracker = Tracker()
    assert tracker([[0, 0, 50, 100]], [0.9]).tolist() == [0]
    assert tracker([[0, 0, 50, 100], [15, 5, 50, 100]], [0.9, 0.8]).tolist() == [0, -1]
    assert tracker([[0, 0, 50, 100], [45, 5, 50, 100]], [0.9, 0.8]).tolist() == [0, 1]
