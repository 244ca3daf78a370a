"""The pose library and which of its poses belong to which split.

The library has 2000 poses: 1000 and, 1000 places further on, their mirror images. What is held out is
decided by the name of the pose's archetype ('stand/straight/push'), so that a pose, its mirror image and
the few other poses of the same make are in one split. Names that stand for a whole family (the phases and
strides of a gait, crawling, lying and other whole-body poses) are divided pose by pose, each with its
mirror image: test then asks for new phases and strides, not for a way of moving that training never showed.
"""

from pathlib import Path
from zlib import crc32

import numpy as np

from hybrik_jax.synthetic.posed_body import ASSETS

SPLITS = ('train', 'validation', 'test')
HELD_OUT = {0: 'test', 1: 'test', 2: 'validation'}  # of 25 parts
FAMILY = 5  # a name with so many entries or more is divided pose by pose


def assign_splits(kinds: np.ndarray) -> np.ndarray:
    """Returns the split (n,) of every pose from its archetype (n,); the second half mirrors the first.

    A fixed function of the names: about 8 % of the poses are test, 4 % validation, the rest train.
    """
    half = len(kinds) // 2
    names, count = np.unique(kinds, return_counts=True)
    families = set(names[count >= FAMILY])
    keys = [f'{kind} {i % half}' if kind in families else str(kind) for i, kind in enumerate(kinds)]
    return np.array([HELD_OUT.get(crc32(key.encode()) % 25, 'train') for key in keys])


class PoseLibrary:
    """Poses (n, 24, 3) axis-angle, radians, and archetype names (n,) of one split."""

    def __init__(self, split: str, path: Path = ASSETS / 'poses.npz') -> None:
        if split not in SPLITS:
            raise ValueError(f'split={split!r}: the splits are {", ".join(SPLITS)}.')
        with np.load(path) as file:
            poses, kinds = file['axis_angle'].astype(np.float64), file['kind'].astype(str)
        self.index = np.flatnonzero(assign_splits(kinds) == split)
        self.poses, self.kinds = poses[self.index], kinds[self.index]
