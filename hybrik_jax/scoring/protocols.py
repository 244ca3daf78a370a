"""Evaluation protocols: which joints, which figures, over which frames; metres in, mm and percent out.

The protocol of a dataset is in its entry of `hybrik_jax.catalogue`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hybrik_jax.body import skeleton
from hybrik_jax.scoring import metrics
from hybrik_jax.units import MM_PER_M

ALL_FRAMES = 'all frames'

# Figures in the order of their columns -> heading.
MEASURES = {
    'mpjpe_mm': 'MPJPE (mm)',
    'pa_mpjpe_mm': 'PA-MPJPE (mm)',
    'mpjpe_24_mm': 'MPJPE, 24 SMPL joints (mm)',
    'pve_mm': 'PVE (mm)',
    'pck_3dhp': 'PCK at 150 mm (percent)',
    'auc_3dhp': 'AUC (percent)',
    'pck_released': 'PCK, released (percent)',
    'auc_released': 'AUC, released (percent)',
    'mrpe_mm': 'MRPE (mm)',
    'mrpe_x_mm': 'MRPE, x (mm)',
    'mrpe_y_mm': 'MRPE, y (mm)',
    'mrpe_z_mm': 'MRPE, z (mm)',
    'pck_2d': 'PCK at 0.2 torso (percent)',
    'error_2d': 'reprojection error by torso (percent)',
    'error_px_2d': 'reprojection error (px)',
}
EXPLANATIONS = {
    'mpjpe_mm': 'mean joint distance, each side relative to its own Human3.6M pelvis; the prediction is '
    'regressed from its mesh',
    'pa_mpjpe_mm': 'after the similarity (no reflection) that best aligns prediction to truth on all 17 '
    'joints',
    'mpjpe_24_mm': "mean distance of SMPL's joints, each side relative to its joint 0",
    'pve_mm': 'mean vertex distance to the body of the labels, each side relative to its SMPL pelvis',
    'pck_3dhp': 'joints strictly closer than 150 mm, by groups of joints, weighted by group size',
    'auc_3dhp': 'mean of the same over the thresholds 0, 5, ..., 150 mm (a faultless prediction has 96.8: '
    'nothing is strictly below 0)',
    'pck_released': "as the released program counts: the test file's groups applied to errors in Human3.6M's "
    'order, so that "Head" is the pelvis, which is never wrong, and the right arm is left out; published PCK '
    'are these',
    'auc_released': 'likewise for the AUC',
    'pck_2d': 'visible keypoints whose projection is closer than 0.2 of the torso (left shoulder to right '
    'hip or the other way, the longer one that is labelled)',
    'error_2d': 'mean distance of the visible keypoints to their projections, in lengths of the torso',
    'error_px_2d': 'the same in pixels of the photo',
    'mrpe_mm': "mean distance of the root in use to the annotation's; x, y, z: mean absolute differences",
}

# Head, neck, shoulders, elbows, wrists, hips, knees, ankles: joints of MPI-INF-3DHP's test file.
MPI_GROUPS = ([0], [1], [2, 5], [3, 6], [4, 7], [8, 11], [9, 12], [10, 13])

_PERCENT = ('pck_3dhp', 'auc_3dhp', 'pck_released', 'auc_released')
H36M_MEASURES = ('mpjpe_mm', 'pa_mpjpe_mm', *_PERCENT)
BODY_MEASURES = ('mpjpe_mm', 'pa_mpjpe_mm', 'mpjpe_24_mm', 'pve_mm')


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a dataset is scored.

    name: under which the figures are printed.
    joints: which are scored, in words.
    h36m_joints: these of the 17 Human3.6M joints.
    measures: keys of `MEASURES`.
    required: those whose labels no frame may lack; a published protocol has some.
    groups: record texts, 'action' or 'sequence', by which figures are given too.
    mean_over: one of them whose groups are averaged as well, or ''.
    actions: names of the actions in their order, where records may number them (from 1).
    """

    name: str
    joints: str = '14 of the 17 Human3.6M joints'
    h36m_joints: tuple[int, ...] = skeleton.EVALUATION_JOINTS_14
    measures: tuple[str, ...] = BODY_MEASURES
    required: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    mean_over: str = ''
    actions: tuple[str, ...] = ()


ROOTS = Protocol(name='RootNet', joints='root joint', measures=())  # MRPE alone, of every dataset
TWO_D = Protocol(  # on photos, not on records: `evaluate_2d`
    name='2D', joints="COCO's keypoints, those visible", measures=('pck_2d', 'error_2d', 'error_px_2d')
)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Predictions and truth of N frames, one person each; camera frame, metres; None: no such prediction.

    names, sequences, actions: (N,) texts of the records.
    joints_m, true_joints_m, joints_weight: (N, 24, 3), (N, 24, 3), (N, 24).
    h36m_joints_m, true_h36m_joints_m, h36m_weight: (N, 17, 3), (N, 17, 3), (N, 17).
    pve_m, smpl_weight: (N,) mean vertex distance; 0 where no body is labelled.
    root_m, true_root_m: (N, 3) the root that was used, and the annotation's.
    has_camera: (N,) bool.
    """

    names: Sequence[str]
    sequences: Sequence[str]
    actions: Sequence[str]
    joints_m: np.ndarray | None
    true_joints_m: np.ndarray
    joints_weight: np.ndarray
    h36m_joints_m: np.ndarray | None
    true_h36m_joints_m: np.ndarray
    h36m_weight: np.ndarray
    pve_m: np.ndarray | None
    smpl_weight: np.ndarray
    root_m: np.ndarray
    true_root_m: np.ndarray
    has_camera: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def labelled(self, measure: str) -> np.ndarray:
        """Returns which frames (N,) have all labels that a measure needs."""
        if measure == 'mpjpe_24_mm':
            return (np.asarray(self.joints_weight) > 0).all(1)
        if measure == 'pve_mm':
            return np.asarray(self.smpl_weight) > 0
        if measure.startswith('mrpe'):
            return np.asarray(self.has_camera, bool)
        return (np.asarray(self.h36m_weight) > 0).all(1)


def check(frames: Frames, protocol: Protocol) -> None:
    """Raises ValueError, naming record and field, where frames cannot be scored under a protocol.

    That is: no frames, numbers that are not finite, no camera, a label or a prediction missing that the
    protocol needs, no action or sequence to give figures by.
    """
    if not len(frames):
        raise ValueError(f'protocol {protocol.name!r}: there are no frames to score.')

    def refuse(which: np.ndarray, fault: str, advice: str) -> None:
        if which.any():
            name, share = frames.names[int(np.argmax(which))], f'{which.sum()} of {len(frames)} frames'
            raise ValueError(f'protocol {protocol.name!r}: record {name!r} {fault} ({share}): {advice}.')

    for field, values in vars(frames).items():
        if values is not None and np.asarray(values).dtype.kind == 'f':
            finite = np.isfinite(values).reshape(len(frames), -1).all(1)
            refuse(~finite, f'has {field} that is not finite', 'the labels or the checkpoint are damaged')
    no_frame = 'what a network says of its crop cannot be brought into the camera frame'
    refuse(~np.asarray(frames.has_camera, bool), 'has no camera', no_frame)
    if frames.h36m_joints_m is None and set(protocol.required) & set(H36M_MEASURES):
        raise ValueError(
            f'protocol {protocol.name!r} scores Human3.6M joints, and the body model has no regressor for '
            'them: give --config.h36m_regressor.'
        )
    build = 'every frame is scored, build the dataset with it'
    for measure in protocol.required:
        refuse(~frames.labelled(measure), f'has not all labels that {MEASURES[measure]} needs', build)
    for group in protocol.groups if protocol.required else ():
        unnamed = np.array([not text for text in _texts(frames, group)])
        refuse(unnamed, f'has no {group} to give figures by', build)


def _texts(frames: Frames, group: str) -> Sequence[str]:
    return frames.actions if group == 'action' else frames.sequences


def errors_mm(frames: Frames, joints: Sequence[int] = skeleton.EVALUATION_JOINTS_14) -> dict[str, np.ndarray]:
    """Returns the measures that are means over frames, (N,) millimetres each; NaN where a frame has no label.

    Args:
        joints: of the 17 Human3.6M joints, for mpjpe_mm and pa_mpjpe_mm.
    """
    errors = {}
    if frames.joints_m is not None:
        errors['mpjpe_24_mm'] = metrics.mpjpe(_double(frames.joints_m), _double(frames.true_joints_m))
    if frames.pve_m is not None:
        errors['pve_mm'] = _double(frames.pve_m)
    if frames.h36m_joints_m is not None:
        pair = _double(frames.h36m_joints_m), _double(frames.true_h36m_joints_m)
        errors['mpjpe_mm'] = metrics.mpjpe(*pair, joints=joints)
        errors['pa_mpjpe_mm'] = metrics.pa_mpjpe(*pair, joints=joints)
    off = _double(frames.root_m) - _double(frames.true_root_m)
    errors['mrpe_mm'] = np.linalg.norm(off, axis=-1)
    errors |= {f'mrpe_{axis}_mm': np.abs(off[:, k]) for k, axis in enumerate('xyz')}
    return {m: np.where(frames.labelled(m), MM_PER_M * errors[m], np.nan) for m in MEASURES if m in errors}


def mpi_percentages(h36m_errors_m: np.ndarray) -> dict[str, float]:
    """Returns PCK and AUC, percent, of MPI-INF-3DHP in both variants, over all frames given.

    Args:
        h36m_errors_m: (N, 17) joint errors in Human3.6M's order, metres, relative to the pelvis.
    """
    out = {}
    orders = {'3dhp': h36m_errors_m[:, list(skeleton.H36M_OF_MPI_TEST)], 'released': h36m_errors_m}
    for variant, errors in orders.items():
        pck, auc = metrics.pck_auc(errors, MPI_GROUPS)
        out |= {f'pck_{variant}': float(pck[-1]), f'auc_{variant}': float(auc[-1])}
    return out


def score(frames: Frames, protocol: Protocol, *, root_is_annotation: bool = True) -> list[dict[str, Any]]:
    """Returns the figures of a protocol: one row over all frames, then mean over groups, then each group.

    Every row has 'group' ('all', 'mean', 'action' or 'sequence'), 'over' (in words), 'frames', and the
    measures; 'frames_of', where a measure has labels in fewer frames, says in how many.

    Args:
        root_is_annotation: False adds MRPE.

    Raises:
        ValueError: see `check`.
    """
    check(frames, protocol)
    measures = list(protocol.measures)
    measures += [] if root_is_annotation else [m for m in MEASURES if m.startswith('mrpe')]
    by_frame = {m: e for m, e in errors_mm(frames, protocol.h36m_joints).items() if m in measures}
    joint_errors = None
    if frames.h36m_joints_m is not None and set(measures) & set(_PERCENT):
        sides = _double(frames.h36m_joints_m), _double(frames.true_h36m_joints_m)
        joint_errors = metrics.joint_errors(*(side - side[:, :1] for side in sides))

    def row(group: str, over: str, chosen: np.ndarray) -> dict[str, Any]:
        out = {'group': group, 'over': over, 'frames': int(chosen.sum())}
        known = {m: errors[chosen & ~np.isnan(errors)] for m, errors in by_frame.items()}
        figures = {m: float(errors.mean()) for m, errors in known.items() if len(errors)}
        if joint_errors is not None:
            figures |= mpi_percentages(joint_errors[chosen])
        out |= {m: figures[m] for m in MEASURES if m in figures}
        fewer = {m: len(errors) for m, errors in known.items() if 0 < len(errors) < chosen.sum()}
        return out | ({'frames_of': fewer} if fewer else {})

    rows = [row('all', ALL_FRAMES, np.ones(len(frames), bool))]
    numbered = {str(number): name for number, name in enumerate(protocol.actions, start=1)}
    for group in protocol.groups:
        known = numbered if group == 'action' else {}
        texts = np.array([known.get(text, text) for text in _texts(frames, group)])
        names = sorted({str(text) for text in texts if text}, key=partial(_order, protocol.actions))
        own = [row(group, f'{group} {name}', texts == name) for name in names]
        if group == protocol.mean_over:
            common = [m for m in MEASURES if all(m in one for one in own)]
            mean = {m: float(np.mean([one[m] for one in own])) for m in common}
            said = {'group': 'mean', 'over': f'mean of {len(own)} {group}s', 'frames': len(frames)}
            rows.append(said | mean)
        rows += own
    return rows


def _order(actions: Sequence[str], name: str) -> tuple:
    """Returns what groups are sorted by: actions as the protocol has them, numbers by value, names."""
    if name in actions:
        return 0, actions.index(name), ''
    return (0, int(name), '') if name.isdecimal() else (1, 0, name)


def explanations(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns what the measures of these rows mean, by the measure's name."""
    return {
        MEASURES[m].split(' (')[0]: text for m, text in EXPLANATIONS.items() if any(m in row for row in rows)
    }


def _double(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)
