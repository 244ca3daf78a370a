"""What other programs' landmarks are on a body: tables of four skeletons, and of every landmark there is.

A landmark is a weighted mean of elements: SMPL's joints, named vertices of SMPL's mesh, and for the Human3.6M
skeleton the body's own regressed joints. Each element moves rigidly with one segment, the part of the body
that one joint turns. That is exact for joints, and for the mesh but for its pose correctives.

What these programs mean by a joint is only known as well as people annotate it: that COCO's hips lie where
SMPL's hips turn is a choice, the usual one; a detector's hips may lie some centimetres off.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybrik_jax.body.skeleton import H36M_NAMES, JOINT_NAMES, NUM_JOINTS, PARENTS
from hybrik_jax.body.smpl import NUM_BETAS, SMPL

NUM_VERTICES = 6890  # of SMPL's mesh
Definition = dict[str, float]  # element: its weight; the weights of one landmark add up to one

# Numbers of vertices that programs look up in SMPL's mesh (the embedded body has them at the same numbers),
# of the left or the middle, of the right, and the left or middle joint that they move with.
_VERTICES = {
    'nose': (332, 332, 'head'),
    'head_top': (411, 411, 'head'),
    'eye': (2800, 6260, 'head'),
    'ear': (583, 4071, 'head'),
    'thumb_tip': (2746, 6191, 'left_hand'),
    'index_tip': (2319, 5782, 'left_hand'),
    'middle_tip': (2445, 5905, 'left_hand'),
    'pinky_tip': (2673, 6133, 'left_hand'),
    'heel': (3387, 6787, 'left_ankle'),
    'big_toe': (3216, 6617, 'left_foot'),
    'small_toe': (3226, 6624, 'left_foot'),
}


def _vertex_elements() -> dict[str, tuple[int, int]]:
    """Returns name -> (vertex, segment) of the named vertices."""
    found = {}
    for name, (left, right, joint) in _VERTICES.items():
        if left == right:
            found[name] = left, JOINT_NAMES.index(joint)
            continue
        for side, vertex in (('left', left), ('right', right)):
            found[f'{side}_{name}'] = vertex, JOINT_NAMES.index(joint.replace('left', side))
    return found


VERTEX_ELEMENTS = _vertex_elements()
_H36M_ELEMENTS = tuple(f'h36m_{name}' for name in H36M_NAMES)
# The segment of each Human3.6M joint: a limb's joint moves with the part above it, as SMPL's do.
_H36M_SEGMENT = {'pelvis': 'pelvis', 'torso': 'spine1', 'neck': 'spine3', 'nose': 'head', 'head': 'head'}

ELEMENTS = (*JOINT_NAMES, *VERTEX_ELEMENTS, *_H36M_ELEMENTS)


def _segments() -> tuple[int, ...]:
    joints = [max(parent, 0) for parent in PARENTS]
    vertices = [segment for _, segment in VERTEX_ELEMENTS.values()]
    of_h36m = []
    for name in H36M_NAMES:
        joint = JOINT_NAMES.index(_H36M_SEGMENT.get(name, name))
        of_h36m.append(joint if name in _H36M_SEGMENT else PARENTS[joint])
    return (*joints, *vertices, *of_h36m)


SEGMENTS = _segments()  # of each element, the joint whose rotation carries it


def _both_sides(definition: Definition, name: str) -> dict[str, Definition]:
    """Returns the definitions left_NAME and right_NAME of a definition whose elements lack the side."""
    return {f'{s}_{name}': {f'{s}_{part}': w for part, w in definition.items()} for s in ('left', 'right')}


# Every landmark that a sequence of names may hold: SMPL's 24 joints, the named vertices, and mixtures.
LANDMARKS: dict[str, Definition] = {
    **{name: {name: 1.0} for name in (*JOINT_NAMES, *VERTEX_ELEMENTS)},
    'mid_hip': {'left_hip': 0.5, 'right_hip': 0.5},
    'mid_shoulder': {'left_shoulder': 0.5, 'right_shoulder': 0.5},
    # The knuckles: about half of the way from the wrist to the finger tips, two thirds to that of the thumb.
    **_both_sides({'wrist': 0.47, 'index_tip': 0.53}, 'index_knuckle'),
    **_both_sides({'wrist': 0.47, 'pinky_tip': 0.53}, 'pinky_knuckle'),
    **_both_sides({'wrist': 0.35, 'thumb_tip': 0.65}, 'thumb_knuckle'),
    **_both_sides({'big_toe': 0.67, 'small_toe': 0.33}, 'foot_index'),
}

_LIMBS = ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
_COCO_NAMES = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear',
    *(f'{side}_{part}' for part in _LIMBS for side in ('left', 'right')),
)  # fmt: skip
_OPENPOSE_NAMES = (
    'nose', 'mid_shoulder', 'right_shoulder', 'right_elbow', 'right_wrist', 'left_shoulder', 'left_elbow',
    'left_wrist', 'mid_hip', 'right_hip', 'right_knee', 'right_ankle', 'left_hip', 'left_knee', 'left_ankle',
    'right_eye', 'left_eye', 'right_ear', 'left_ear', 'left_big_toe', 'left_small_toe', 'left_heel',
    'right_big_toe', 'right_small_toe', 'right_heel',
)  # fmt: skip
_MEDIAPIPE_NAMES = (
    'nose', 'left_eye_inner', 'left_eye', 'left_eye_outer', 'right_eye_inner', 'right_eye', 'right_eye_outer',
    'left_ear', 'right_ear', 'mouth_left', 'mouth_right', 'left_shoulder', 'right_shoulder', 'left_elbow',
    'right_elbow', 'left_wrist', 'right_wrist', 'left_pinky_knuckle', 'right_pinky_knuckle',
    'left_index_knuckle', 'right_index_knuckle', 'left_thumb_knuckle', 'right_thumb_knuckle', 'left_hip',
    'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle', 'left_heel', 'right_heel',
    'left_foot_index', 'right_foot_index',
)  # fmt: skip
# Landmarks that are given and not used: SMPL's mesh has no agreed vertices for them, and the nose, eyes and
# ears beside them tell as much.
UNUSED = (
    'left_eye_inner', 'left_eye_outer', 'right_eye_inner', 'right_eye_outer', 'mouth_left', 'mouth_right',
)  # fmt: skip

# The known skeletons: the landmarks in the order of the program that makes them: MediaPipe's Pose Landmarker,
# OpenPose's output format BODY_25, COCO's keypoints, HybrIK's Human3.6M joints.
SKELETONS: dict[str, tuple[str, ...]] = {
    'coco': _COCO_NAMES,
    'h36m': H36M_NAMES,
    'mediapipe': _MEDIAPIPE_NAMES,
    'openpose': _OPENPOSE_NAMES,
}


# Where landmarks are kept while they are fitted: every one that there is has a slot.
NOTHING = ''  # the name of a landmark that is always missing
SLOTS = (*LANDMARKS, 'torso', NOTHING)  # torso, the middle of the spine, is of Human3.6M only


class Landmarks(NamedTuple):
    """Where the landmarks of one skeleton are on a body: U of the N that are given are used.

    count: N.
    used: (U,) places among the given ones.
    slots: (U,) their places in `SLOTS`.
    weights: (S, E) of the elements of `ELEMENTS`, for all slots.
    """

    count: int
    used: np.ndarray
    slots: np.ndarray
    weights: np.ndarray


def landmarks_of(names: str | Sequence[str]) -> Landmarks:
    """Returns the table of a known skeleton, or of landmarks by their names.

    Args:
        names: 'coco', 'h36m', 'mediapipe', 'openpose', or a sequence of keys of `LANDMARKS` and `UNUSED`.
    Raises:
        ValueError: for an unknown skeleton, unknown names, or a name that stands twice.
    """
    table = dict(LANDMARKS)
    if isinstance(names, str):
        if names not in SKELETONS:
            raise ValueError(
                f'names={names!r}: known skeletons are {", ".join(SKELETONS)}; of another one give the '
                'sequence of its landmarks.'
            )
        if names == 'h36m':
            table |= {name: {f'h36m_{name}': 1.0} for name in H36M_NAMES}
        names = SKELETONS[names]
    names = tuple(names)
    unknown = [str(name) for name in names if name not in table and name not in UNUSED]
    if unknown:
        raise ValueError(
            f'Unknown landmarks: {", ".join(unknown)}. Known are {", ".join((*LANDMARKS, *UNUSED))}; leave '
            'the columns of others out.'
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'Landmarks given twice: {", ".join(twice)}: leave one of each out.')
    used = [place for place, name in enumerate(names) if name not in UNUSED]
    weights = np.zeros((len(SLOTS), len(ELEMENTS)), np.float32)
    for name, definition in table.items():
        for element, weight in definition.items():
            weights[SLOTS.index(name), ELEMENTS.index(element)] = weight
    slots = [SLOTS.index(names[place]) for place in used]
    return Landmarks(len(names), np.array(used, int), np.array(slots, int), weights)


def rest_elements(body: SMPL, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the elements of the mean shape (E, 3), metres, and what each beta moves them by (E, 3, 10).

    Args:
        weights: (U, E) of the landmarks that will be read: Human3.6M's elements are zeros where none of them
            is among these and the body has no regressor.
    Raises:
        ValueError: if the mesh is not numbered as SMPL's, or Human3.6M joints are read of a body without
            their regressor.
    """
    template, shape_dirs = np.asarray(body.v_template), np.asarray(body.directions)[:NUM_BETAS]
    vertices = np.array([vertex for vertex, _ in VERTEX_ELEMENTS.values()])
    if len(template) != NUM_VERTICES:
        raise ValueError(
            f"{body.name}: landmarks are vertices of a mesh that is numbered as SMPL's, with {NUM_VERTICES} "
            f'vertices; this one has {len(template)}. Load SMPL or the embedded body.'
        )
    regressor = body.h36m_regressor
    if regressor is None:
        if weights[:, -len(H36M_NAMES) :].any():
            raise ValueError(
                f'{body.name}: landmarks of Human3.6M need the regressor of its joints: give '
                'load_body(path, h36m_regressor=FILE), or take the embedded body.'
            )
        regressor = np.zeros((len(H36M_NAMES), len(template)), np.float32)
    rest = np.concatenate(
        [np.asarray(body.rest_joints_template)[:NUM_JOINTS], template[vertices], regressor @ template]
    )
    of_vertices = shape_dirs[:, :, vertices].transpose(2, 1, 0)
    of_h36m = np.einsum('jv,bcv->jcb', regressor, shape_dirs, optimize=True)
    dirs = np.concatenate([np.asarray(body.rest_joints_dirs)[:NUM_JOINTS], of_vertices, of_h36m])
    return rest.astype(np.float32), dirs.astype(np.float32)


def of_posed(names: str | Sequence[str], joints_m: np.ndarray, vertices_m: np.ndarray) -> np.ndarray:
    """Returns the used landmarks (U, 3) of a posed body, in the frame of its joints and mesh.

    Args:
        names: as in `landmarks_of`, but not 'h36m': a body's own regressor tells those.
        joints_m: (24, 3) SMPL's joints. vertices_m: (V, 3) of a mesh that is numbered as SMPL's.
    Raises:
        ValueError: as `landmarks_of`; another mesh; Human3.6M's joints.
    """
    table = landmarks_of(names)
    vertices = [vertex for vertex, _ in VERTEX_ELEMENTS.values()]
    if len(vertices_m) != NUM_VERTICES:
        raise ValueError(f"Landmarks need SMPL's mesh of {NUM_VERTICES} vertices, not of {len(vertices_m)}.")
    elements = np.concatenate([np.asarray(joints_m)[:NUM_JOINTS], np.asarray(vertices_m)[vertices]])
    weights = table.weights[table.slots]
    if weights[:, len(elements) :].any():
        raise ValueError(
            f'names={names!r}: the joints of Human3.6M are regressed from the mesh, not looked up.'
        )
    return weights[:, : len(elements)] @ elements
