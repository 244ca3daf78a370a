"""Frames of numbers alone, for tests of protocols and tables."""

import dataclasses

import numpy as np

from hybrik_jax.scoring import protocols

SEQUENCES, ACTIONS = ('TS1', 'TS2', 'TS6'), ('1', '3', '7')


def truth(count: int = 12, seed: int = 0) -> protocols.Frames:
    """Returns frames whose prediction is the truth; groups of 6, 4 and 2 frames."""
    rng = np.random.default_rng(seed)
    joints, h36m = rng.normal(0, 0.4, (count, 24, 3)), rng.normal(0, 0.4, (count, 17, 3))
    joints -= joints[:, :1]
    h36m -= h36m[:, :1]
    root = rng.normal([0.0, 0.0, 4.0], 0.3, (count, 3))
    group = np.repeat([0, 1, 2], [6, 4, 2])
    return protocols.Frames(
        names=[f'x/test/{k:03d}' for k in range(count)],
        sequences=[SEQUENCES[g] for g in group],
        actions=[ACTIONS[g] for g in group],
        joints_m=joints,
        true_joints_m=joints,
        joints_weight=np.ones((count, 24)),
        h36m_joints_m=h36m,
        true_h36m_joints_m=h36m,
        h36m_weight=np.ones((count, 17)),
        pve_m=np.zeros(count),
        smpl_weight=np.ones(count),
        root_m=root,
        true_root_m=root,
        has_camera=np.ones(count, bool),
    )


def planted(frames: protocols.Frames, **fields) -> protocols.Frames:
    return dataclasses.replace(frames, **fields)


def uneven() -> protocols.Frames:
    """Errors of 11, 21 and 61 mm in the three groups, at every joint but the pelvis."""
    frames = truth()
    h36m = frames.h36m_joints_m.copy()
    h36m[:, 1:, 0] += np.repeat([0.011, 0.021, 0.061], [6, 4, 2])[:, None]
    return planted(frames, h36m_joints_m=h36m)
