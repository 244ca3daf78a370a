"""The drawn video and its truth, and the figures that are taken from both."""

import dataclasses

import numpy as np
import pytest

from hybrik_jax import predict_video
from hybrik_jax.body import smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.synthetic import walkers
from hybrik_jax.types import Camera, Motion
from tools import measure_video

FRAMES = 24


@pytest.fixture(scope='module')
def drawn():
    return walkers.Walkers(160, 120)


def test_people_are_where_the_truth_says(drawn):
    picture, people = drawn.frame(10)
    assert picture.shape == (120, 160, 3) and picture.dtype == np.uint8
    fx, fy, cx, cy = drawn.intrinsics
    empty = drawn._background[20:140, :][..., :3] * 255
    changed = np.abs(picture - empty).sum(2) > 30
    for person in people:
        assert person.visible > 0.9
        pixels = np.rint(project(person.joints_m, np.array([fx, fy]), np.array([cx, cy]))).astype(int)
        assert changed[pixels[:, 1], pixels[:, 0]].mean() > 0.9
    again, _ = drawn.frame(10)
    np.testing.assert_array_equal(picture, again)


def test_one_is_hidden_for_twenty_frames_and_two_cross(drawn):
    """Every fourth frame is looked at; the wall's time is about frame 70 to 110."""
    shown = {k: [one.visible for one in drawn.frame(k)[1]] for k in (*range(60, 116, 4), 58)}
    behind = [k for k, visible in shown.items() if visible[2] < 0.05]
    assert 16 <= 4 * len(behind) <= 28
    assert shown[58][1] < 0.6  # behind the first one, whose way is crossed
    assert all(visible[0] > 0.95 for visible in shown.values())


def test_feet_go_by_turns(drawn):
    joints = np.stack([drawn.frame(k)[1][0].joints_m for k in range(30, 66, 3)])
    apart = joints[:, walkers.LEFT_FOOT, 0] - joints[:, walkers.RIGHT_FOOT, 0]
    assert apart.max() > 0.2 and apart.min() < -0.2


@pytest.fixture(scope='module')
def two():
    """Motions of two people who stand side by side, and the truth that they are."""
    rotations = np.broadcast_to(np.eye(3, dtype=np.float32), (FRAMES, 24, 3, 3)).copy()
    rotations[:, 0] = np.diag([1.0, -1.0, -1.0])
    motions = [
        Motion(
            name=f'person_{k}',
            body='open_body (CC0)',
            camera=Camera(focal=(300.0, 300.0), centre=(159.5, 119.5), size=(320, 240)),
            frame_rate=25.0,
            frames=np.arange(FRAMES),
            rotations=rotations,
            betas=np.zeros(10, np.float32),
            translation_m=np.stack([np.full(FRAMES, x), np.zeros(FRAMES), np.full(FRAMES, 5.0)], 1),
            filled=np.zeros(FRAMES, bool),
        )
        for k, x in enumerate((-0.8, 0.8))
    ]
    body = smpl_file.load_body()
    joints = [
        predict_video.posed(body, one.betas, one.rotations, mesh=False) + one.translation_m[:, None]
        for one in motions
    ]
    truth = {
        'joints_m': np.stack(joints, axis=1),
        'visible': np.ones((FRAMES, 2)),
        'intrinsics': np.array([300.0, 300.0, 159.5, 119.5]),
    }
    return motions, truth


def test_the_truth_has_no_errors(two):
    figures = measure_video.score(*two)
    assert figures['switches'] == 0 and figures['present'] == [1, 1] and figures['people'] == 2
    assert figures['mpjpe_mm'] < 1e-3 and figures['acceleration_error_mm_per_frame2'] < 1e-3


def test_a_swap_is_two_switches_and_a_gap_none(two):
    motions, truth = two
    places = [one.translation_m.copy() for one in motions]
    swapped = [
        dataclasses.replace(one, translation_m=np.concatenate([places[k][:12], places[1 - k][12:]]))
        for k, one in enumerate(motions)
    ]
    assert measure_video.score(swapped, truth)['switches'] == 2
    kept = np.r_[0:8, 14:FRAMES]
    parts = {
        name: getattr(motions[0], name)[kept] for name in ('frames', 'rotations', 'translation_m', 'filled')
    }
    figures = measure_video.score([dataclasses.replace(motions[0], **parts), motions[1]], truth)
    assert figures['switches'] == 0 and figures['present'] == [0.75, 1]


def test_jitter_and_a_shift_are_what_they_are(two):
    """A turn of the whole body to and fro by a small angle moves joints by it, and four times it a frame."""
    motions, truth = two
    angle = 0.01 * (-1.0) ** np.arange(FRAMES)
    c, s, o = np.cos(angle), np.sin(angle), np.zeros(FRAMES)
    turn = np.stack([np.stack([c, -s, o], 1), np.stack([s, c, o], 1), np.stack([o, o, o + 1], 1)], 1)
    rotations = motions[0].rotations.astype(np.float64)
    rotations[:, 0] = turn @ rotations[:, 0]
    figures = measure_video.score([dataclasses.replace(motions[0], rotations=rotations), motions[1]], truth)
    relative = truth['joints_m'][0, 0] - truth['joints_m'][0, 0, 0]
    expected = 0.01 * np.linalg.norm(relative[:, :2], axis=1).mean() * 1000
    assert figures['mpjpe_mm'] == pytest.approx(expected / 2, rel=0.01)
    assert figures['acceleration_error_mm_per_frame2'] == pytest.approx(4 * expected / 2, rel=0.01)
