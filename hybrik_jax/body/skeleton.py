"""Every table of joints: SMPL's 24, its five leaf joints, the 17 of Human3.6M, and those of other datasets.

Tuples and dicts only: everybody may import this file, it needs nothing.
"""

from collections.abc import Sequence

JOINT_NAMES = (
    'pelvis', 'left_hip', 'right_hip', 'spine1', 'left_knee', 'right_knee', 'spine2', 'left_ankle',
    'right_ankle', 'spine3', 'left_foot', 'right_foot', 'neck', 'left_collar', 'right_collar', 'head',
    'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist',
    'left_hand', 'right_hand',
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
NUM_JOINTS = len(JOINT_NAMES)

# Joints 24..28: points of the mesh at the ends of the head, hands and feet.
LEAF_NAMES = ('head_top', 'left_middle_tip', 'right_middle_tip', 'left_big_toe', 'right_big_toe')
LEAF_PARENTS = (15, 22, 23, 10, 11)
SMPL_LEAF_VERTICES = (411, 2445, 5905, 3216, 6617)
PARENTS_29 = PARENTS + LEAF_PARENTS

# Joints whose rotations are given by the five leaf quaternions, in that order.
LEAF_JOINTS = (10, 11, 15, 22, 23)

H36M_NAMES = (
    'pelvis', 'left_hip', 'left_knee', 'left_ankle', 'right_hip', 'right_knee', 'right_ankle', 'torso',
    'neck', 'nose', 'head', 'left_shoulder', 'left_elbow', 'left_wrist', 'right_shoulder', 'right_elbow',
    'right_wrist',
)  # fmt: skip

# The 14 of the 17 Human3.6M joints that protocol 2 and 3DPW are scored on.
EVALUATION_JOINTS_14 = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)

# Points of other datasets. X_OF_Y[k] is the point of X that stands for joint k of Y.
# SMPL joint: the Human3.6M joint that stands for it, as MPI-INF-3DHP's do; the hips do not.
H36M_OF_SMPL = {0: 0, 4: 2, 5: 5, 7: 3, 8: 6, 12: 8, 16: 11, 17: 14, 18: 12, 19: 15, 20: 13, 21: 16}
COCO_OF_SMPL = {4: 13, 5: 14, 7: 15, 8: 16, 16: 5, 17: 6, 18: 7, 19: 8, 20: 9, 21: 10}  # of 17 keypoints
MPI_NAMES = (
    'spine3', 'spine4', 'spine2', 'spine', 'pelvis', 'neck', 'head', 'head_top', 'left_clavicle',
    'left_shoulder', 'left_elbow', 'left_wrist', 'left_hand', 'right_clavicle', 'right_shoulder',
    'right_elbow', 'right_wrist', 'right_hand', 'left_hip', 'left_knee', 'left_ankle', 'left_foot',
    'left_toe', 'right_hip', 'right_knee', 'right_ankle', 'right_foot', 'right_toe',
)  # fmt: skip
MPI_OF_SMPL = {0: 4, 4: 19, 5: 24, 7: 20, 8: 25, 12: 5, 16: 9, 17: 14, 18: 10, 19: 15, 20: 11, 21: 16}
# The 17 joints of MPI-INF-3DHP's test file, which hold all of MPI_OF_SMPL.
MPI_OF_MPI_TEST = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
MPI_TEST_OF_H36M = (14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
H36M_OF_MPI_TEST = tuple(MPI_TEST_OF_H36M.index(joint) for joint in range(17))

MIRROR_PAIRS = ((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23))


def mirror_permutation(count: int, pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Returns the permutation of `count` entries that swaps `pairs`; x[it] exchanges left and right."""
    permutation = list(range(count))
    for left, right in pairs:
        permutation[left], permutation[right] = right, left
    return tuple(permutation)


def relevant_children(parents: Sequence[int]) -> tuple[int, ...]:
    """Returns for joints 0..23 the child that defines the bone of the joint, -1 where there is none.

    The first child in index order, except pelvis -> spine1 and spine3 -> neck.

    Source: HybrIK (Li et al. 2021), section 3.2, and its released program.
    """
    special = {0: 3, 9: 12}
    children = [[c for c, parent in enumerate(parents) if parent == joint] for joint in range(NUM_JOINTS)]
    return tuple(special.get(joint, own[0] if own else -1) for joint, own in enumerate(children))


def tree_levels(parents: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Returns joints by their distance from the root: a joint's parent is in the level before its own."""
    depths = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return tuple(tuple(j for j, d in enumerate(depths) if d == depth) for depth in range(max(depths) + 1))


MIRROR_JOINTS = mirror_permutation(24, MIRROR_PAIRS)
MIRROR_JOINTS_29 = mirror_permutation(29, (*MIRROR_PAIRS, (25, 26), (27, 28)))
MIRROR_H36M = mirror_permutation(17, ((1, 4), (2, 5), (3, 6), (11, 14), (12, 15), (13, 16)))
# Entry k of the twists belongs to joint k + 1.
MIRROR_TWISTS = tuple(joint - 1 for joint in MIRROR_JOINTS[1:])
# Of the five leaf quaternions: feet, head, hands.
MIRROR_LEAVES = tuple(LEAF_JOINTS.index(MIRROR_JOINTS[joint]) for joint in LEAF_JOINTS)

RELEVANT_CHILD_24 = relevant_children(PARENTS)
RELEVANT_CHILD_29 = relevant_children(PARENTS_29)

LEVELS_24 = tree_levels(PARENTS)

# Bones for drawing, (parent, joint), of the 29 joints; the first 23 are those of the 24.
EDGES = tuple((parent, joint) for joint, parent in enumerate(PARENTS_29) if parent >= 0)
