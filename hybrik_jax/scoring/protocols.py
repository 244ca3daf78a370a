"""Evaluation protocols: which joints, which figures, over which frames (numpy; metres in, mm and percent
out).

A published protocol (`PUBLISHED`) is scored with SMPL only: with another body the joints are other points of
another mesh, and the figure would not be the one that its name promises. `protocol_of` says so.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybrik_jax.body import skeleton
from hybrik_jax.datasets.readers.mpi_inf_3dhp import ACTIVITIES as MPI_ACTIVITIES
from hybrik_jax.datasets.readers.mpi_inf_3dhp import H36M_OF_TEST as MPI_TEST_OF_H36M
from hybrik_jax.scoring import metrics

MM = 1000.0
SMPL_NAME = 'SMPL'
PUBLISHED = ('human36m', 'pw3d', 'mpi_inf_3dhp')
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
}
EXPLANATIONS = {
    'mpjpe_mm': 'mean joint distance, each side relative to its own Human3.6M pelvis; the prediction is regressed '
    'from its mesh',
    'pa_mpjpe_mm': 'after the similarity (no reflection) that best aligns prediction to truth on all 17 joints',
    'mpjpe_24_mm': "mean distance of SMPL's joints, each side relative to its joint 0",
    'pve_mm': 'mean vertex distance to the body of the labels, each side relative to its SMPL pelvis',
    'pck_3dhp': 'joints strictly closer than 150 mm, by groups of joints, weighted by group size',
    'auc_3dhp': 'mean of the same over the thresholds 0, 5, ..., 150 mm (a faultless prediction has 96.8: nothing is '
    'strictly below 0)',
    'pck_released': "as the released program counts: the test file's groups applied to errors in Human3.6M's order, "
    'so that "Head" is the pelvis, which is never wrong, and the right arm is left out; published PCK are these',
    'auc_released': 'likewise for the AUC',
    'mrpe_mm': "mean distance of the root in use to the annotation's; x, y, z: mean absolute differences",
}

# Human3.6M joint that is joint k of MPI-INF-3DHP's test file.
H36M_OF_MPI_TEST = tuple(MPI_TEST_OF_H36M.index(k) for k in range(17))
# Head, neck, shoulders, elbows, wrists, hips, knees, ankles: joints of that test file.
MPI_GROUPS = ([0], [1], [2, 5], [3, 6], [4, 7], [8, 11], [9, 12], [10, 13])


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a dataset is scored.

    name: under which the figures are printed. joints: which are scored, in words. h36m_joints: these of the
        17.
    measures: keys of `MEASURES`. required: those whose labels no frame may lack. groups: record texts,
        'action' or
    'sequence', by which figures are given too. mean_over: one of them whose groups are averaged as well, or
    ''.
    """

    name: str
    joints: str
    h36m_joints: tuple[int, ...]
    measures: tuple[str, ...]
    required: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    mean_over: str = ''


_FOURTEEN = '14 of the 17 Human3.6M joints'
_PERCENT = ('pck_3dhp', 'auc_3dhp', 'pck_released', 'auc_released')
_H36M_MEASURES = ('mpjpe_mm', 'pa_mpjpe_mm', *_PERCENT)
_BODY_MEASURES = ('mpjpe_mm', 'pa_mpjpe_mm', 'mpjpe_24_mm', 'pve_mm')
PROTOCOLS = {
    'synthetic': Protocol(
        name='synthetic',
        joints=_FOURTEEN,
        h36m_joints=skeleton.EVALUATION_JOINTS_14,
        measures=_BODY_MEASURES,
        groups=('action',),
    ),
    'human36m': Protocol(
        name='human36m',
        joints=f'{_FOURTEEN} (protocol 2)',
        h36m_joints=skeleton.EVALUATION_JOINTS_14,
        measures=_BODY_MEASURES,
        required=('mpjpe_mm', 'pa_mpjpe_mm'),
        groups=('action',),
        mean_over='action',
    ),
    'pw3d': Protocol(
        name='pw3d',
        joints=_FOURTEEN,
        h36m_joints=skeleton.EVALUATION_JOINTS_14,
        measures=_BODY_MEASURES,
        required=_BODY_MEASURES,
    ),
    'mpi_inf_3dhp': Protocol(
        name='mpi_inf_3dhp',
        joints='all 17 of the test file',
        h36m_joints=tuple(range(17)),
        measures=_H36M_MEASURES,
        required=_H36M_MEASURES,
        groups=('sequence', 'action'),
    ),
}


def protocol_of(dataset: str, body_name: str, *, allow_other_body: bool = False) -> Protocol:
    """Returns the protocol of a dataset; datasets without a published one are scored as the synthetic people
    are.

    Args:
        dataset: as the records name it.
        body_name: of the body model in use.
        allow_other_body: score a published dataset with another body than SMPL, under another name:
            'human36m-like (open_body)'.
    Raises:
        ValueError: a published protocol, and the body is not SMPL.
    """
    if dataset not in PUBLISHED:
        return dataclasses.replace(PROTOCOLS['synthetic'], name=dataset)
    protocol = PROTOCOLS[dataset]
    if body_name == SMPL_NAME:
        return protocol
    if not allow_other_body:
        raise ValueError(
            f'{dataset!r} is a published protocol, and the body model is {body_name!r}, not {SMPL_NAME!r}: its joints '
            'are other points of another mesh, and no figure made with it may carry that name. Give the SMPL file '
            '(--config.body=... --config.h36m_regressor=...), or score the unpublished variant, '
            f'{_variant(dataset, body_name)!r}, with --config.evaluation.allow_other_body=True.'
        )
    return dataclasses.replace(protocol, name=_variant(dataset, body_name))


def _variant(dataset: str, body_name: str) -> str:
    return f'{dataset}-like ({body_name.split(" (")[0]})'


@dataclasses.dataclass(frozen=True)
class Frames:
    """Predictions and truth of N frames, one person each; camera frame, metres. None: there is no such
    prediction.

    names, sequences, actions: texts of the records, (N,). Predictions: joints_m (N, 24, 3), h36m_joints_m (N,
        17, 3),
    pve_m (N,) mean vertex distance, root_m (N, 3) the root that was used. Truth: true_joints_m,
    true_h36m_joints_m, true_root_m, with weights (N, 24), (N, 17), and smpl_weight (N,) of the body behind
    pve_m, 0 where there is no label; has_camera (N,).
    """

    names: Sequence[str]
    sequences: Sequence[str]
    actions: Sequence[str]
    joints_m: np.ndarray
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
            return np.ones(len(self), bool)
        return (np.asarray(self.h36m_weight) > 0).all(1)


def check(frames: Frames, protocol: Protocol) -> None:
    """Raises ValueError, naming record and field, where frames cannot be scored under a protocol.

    That is: no frames, numbers that are not finite, no camera, a label or a prediction missing that the
    protocol needs, no action or sequence to give figures by.
    """
    if not len(frames):
        raise ValueError(f'protocol {protocol.name!r}: there are no frames to score.')
    for field in dataclasses.fields(frames):
        values = getattr(frames, field.name)
        if values is None or np.asarray(values).dtype.kind != 'f':
            continue
        bad = ~np.isfinite(np.asarray(values)).reshape(len(frames), -1).all(1)
        if bad.any():
            raise ValueError(
                f'{_record(frames, bad)}: {field.name} is not finite ({bad.sum()} of {len(frames)} frames).'
            )
    blind = ~np.asarray(frames.has_camera, bool)
    if blind.any():
        raise ValueError(
            f'{_record(frames, blind)} has no camera ({blind.sum()} of {len(frames)} frames): what a network says of '
            'its crop cannot be brought into the camera frame.'
        )
    if frames.h36m_joints_m is None and set(protocol.required) & set(_H36M_MEASURES):
        raise ValueError(
            f'protocol {protocol.name!r} scores Human3.6M joints, and the body model has no regressor for them: give '
            '--config.h36m_regressor.'
        )
    for measure in protocol.required:
        lacking = ~frames.labelled(measure)
        if lacking.any():
            raise ValueError(
                f'{_record(frames, lacking)} has not all labels that {MEASURES[measure]} needs ({lacking.sum()} of '
                f'{len(frames)} frames): protocol {protocol.name!r} scores every frame. Build the dataset with them.'
            )
    for group in protocol.groups if protocol.required else ():
        unnamed = np.array([not text for text in _texts(frames, group)])
        if unnamed.any():
            raise ValueError(
                f'{_record(frames, unnamed)} has no {group} ({unnamed.sum()} of {len(frames)} frames): protocol '
                f'{protocol.name!r} gives figures by {group}. Build the dataset with it.'
            )


def _record(frames: Frames, mask: np.ndarray) -> str:
    return f'record {frames.names[int(np.argmax(mask))]!r}'


def _texts(frames: Frames, group: str) -> list[str]:
    return list(frames.actions if group == 'action' else frames.sequences)


def errors_mm(frames: Frames, joints: Sequence[int] = skeleton.EVALUATION_JOINTS_14) -> dict[str, np.ndarray]:
    """Returns the measures that are means over frames, (N,) millimetres each; NaN where a frame has no label.

    Args:
        joints: of the 17 Human3.6M joints, for mpjpe_mm and pa_mpjpe_mm.
    """
    errors = {'mpjpe_24_mm': metrics.mpjpe(_double(frames.joints_m), _double(frames.true_joints_m))}
    if frames.pve_m is not None:
        errors['pve_mm'] = _double(frames.pve_m)
    if frames.h36m_joints_m is not None:
        pair = _double(frames.h36m_joints_m), _double(frames.true_h36m_joints_m)
        errors['mpjpe_mm'] = metrics.mpjpe(*pair, joints=joints)
        errors['pa_mpjpe_mm'] = metrics.pa_mpjpe(*pair, joints=joints)
    distance, by_axis = metrics.root_errors(_double(frames.root_m), _double(frames.true_root_m))
    errors |= {'mrpe_mm': distance, **{f'mrpe_{axis}_mm': by_axis[:, k] for k, axis in enumerate('xyz')}}
    return {m: np.where(frames.labelled(m), MM * errors[m], np.nan) for m in MEASURES if m in errors}


def mpi_percentages(h36m_errors_m: np.ndarray) -> dict[str, float]:
    """Returns PCK and AUC, percent, of MPI-INF-3DHP in both variants, over all frames given.

    Args:
        h36m_errors_m: (N, 17) joint errors in Human3.6M's order, metres, relative to the pelvis.
    """
    out = {}
    orders = {'3dhp': h36m_errors_m[:, list(H36M_OF_MPI_TEST)], 'released': h36m_errors_m}
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
    measures = [
        *protocol.measures,
        *(() if root_is_annotation else [m for m in MEASURES if m.startswith('mrpe')]),
    ]
    by_frame = {m: e for m, e in errors_mm(frames, protocol.h36m_joints).items() if m in measures}
    joint_errors = None
    if frames.h36m_joints_m is not None and set(measures) & set(_PERCENT):
        sides = (_double(x) for x in (frames.h36m_joints_m, frames.true_h36m_joints_m))
        joint_errors = metrics.joint_errors(*(x - x[:, :1] for x in sides))

    def row(group: str, over: str, chosen: np.ndarray) -> dict[str, Any]:
        figures, fewer = {}, {}
        for measure, errors in by_frame.items():
            known = errors[chosen][~np.isnan(errors[chosen])]
            if len(known):
                figures[measure] = float(known.mean())
            if 0 < len(known) < chosen.sum():
                fewer[measure] = len(known)
        if joint_errors is not None:
            figures |= mpi_percentages(joint_errors[chosen])
        ordered = {m: figures[m] for m in MEASURES if m in figures}
        return (
            {'group': group, 'over': over, 'frames': int(chosen.sum())}
            | ordered
            | ({'frames_of': fewer} if fewer else {})
        )

    rows = [row('all', ALL_FRAMES, np.ones(len(frames), bool))]
    for group in protocol.groups:
        texts = np.array([_group_name(text, group, protocol) for text in _texts(frames, group)])
        names = sorted({str(text) for text in texts if text}, key=_group_order)
        own = [row(group, f'{group} {name}', texts == name) for name in names]
        if group == protocol.mean_over:
            common = [m for m in MEASURES if all(m in one for one in own)]
            mean = {m: float(np.mean([one[m] for one in own])) for m in common}
            rows.append(
                {'group': 'mean', 'over': f'mean of {len(own)} {group}s', 'frames': len(frames)} | mean
            )
        rows += own
    return rows


def _group_name(text: str, group: str, protocol: Protocol) -> str:
    """MPI-INF-3DHP's activities by name where the record has the number."""
    mpi = protocol.measures == PROTOCOLS['mpi_inf_3dhp'].measures and group == 'action'
    return MPI_ACTIVITIES[int(text) - 1] if mpi and text in '1234567' and len(text) == 1 else str(text)


def _group_order(name: str) -> tuple:
    """Activities as MPI-INF-3DHP numbers them, everything else by its name, numbers by their value."""
    if name in MPI_ACTIVITIES:
        return 0, MPI_ACTIVITIES.index(name), ''
    return (0, int(name), '') if name.isdigit() else (1, 0, name)


def explanations(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns what the measures of these rows mean, by the measure's name."""
    return {
        MEASURES[m].split(' (')[0]: text for m, text in EXPLANATIONS.items() if any(m in row for row in rows)
    }


def _double(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)
