"""Evaluation: errors of a split under a stated protocol, one table out (JSON, Markdown).

Frames are spread over hosts and devices; errors come back per frame and are averaged once.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from hybrik_jax import metrics
from hybrik_jax.body import skeleton
from hybrik_jax.data import pipeline
from hybrik_jax.step import split_over_devices

MM = 1000.0
MEASURES = {
    'mpjpe_mm': 'MPJPE, 14 joints',
    'pa_mpjpe_mm': 'PA-MPJPE, 14 joints',
    'mpjpe_24_mm': 'MPJPE, 24 SMPL joints',
    'pve_mm': 'PVE',
}


def predict_split(
    eval_step: Callable,
    variables: Any,
    source: Sequence,
    *,
    batch_size: int,
    crop_size: int,
    examples: int = 0,
    title: str = 'evaluate',
) -> dict[str, np.ndarray]:
    """Returns the network's outputs and the truth for every example of a split, (N, ...) each, in order.

    Args:
        eval_step: of `step.parallel_eval_step`.
        examples: the first n only; 0: all.
    Returns:
        the outputs of `step.eval_step`, and true_joints_m (24, 3), true_h36m_joints_m (17, 3), metres.
    """
    hosts, host, devices = jax.process_count(), jax.process_index(), jax.local_device_count()
    total = len(source) if examples == 0 else min(examples, len(source))
    if total == 0:
        raise ValueError('The split to evaluate has no examples.')
    local_size = max(devices, batch_size // hosts // devices * devices)
    mine = _Share(source, host, hosts, -(-total // hosts))
    collected: dict[str, list[np.ndarray]] = {}
    batches = pipeline.evaluation_batches(mine, batch_size=local_size, crop_size=crop_size)
    progress = tqdm(total=len(mine), desc=title, unit='image', disable=host != 0, mininterval=1, leave=False)
    for fields, count in batches:
        batch = pipeline.to_batch(fields)
        outputs = dict(eval_step(variables, split_over_devices(batch, devices)))
        outputs = {k: np.asarray(v).reshape((-1,) + v.shape[2:]) for k, v in outputs.items() if v is not None}
        outputs |= {'true_joints_m': batch.joints_m, 'true_h36m_joints_m': batch.h36m_joints_m}
        for key, value in outputs.items():
            collected.setdefault(key, []).append(value[:count])
        progress.update(count)
    progress.close()
    arrays = {key: np.concatenate(parts) for key, parts in collected.items()}
    if hosts > 1:
        gathered = multihost_utils.process_allgather(arrays)  # (hosts, n, ...): frame i is [i % hosts, i // hosts]
        arrays = {k: np.swapaxes(v, 0, 1).reshape((-1,) + v.shape[2:]) for k, v in gathered.items()}
    return {key: value[:total] for key, value in arrays.items()}


class _Share(Sequence):
    """Every `hosts`-th example from `host` on, `length` of them, the last one repeated where there are too few."""

    def __init__(self, source: Sequence, host: int, hosts: int, length: int):
        self.source, self.host, self.hosts, self.length = source, host, hosts, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.source[min(self.host + index * self.hosts, len(self.source) - 1)]


def errors_mm(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the measures of every frame, (N,) millimetres each, by the keys of `MEASURES`."""
    errors = {
        'mpjpe_24_mm': metrics.mpjpe(outputs['joints_m'], outputs['true_joints_m']),
        'pve_mm': outputs['pve_m'],
    }
    if 'h36m_joints_m' in outputs:
        pair = outputs['h36m_joints_m'], outputs['true_h36m_joints_m']
        joints = skeleton.EVALUATION_JOINTS_14
        errors['mpjpe_mm'] = metrics.mpjpe(*pair, joints=joints)
        errors['pa_mpjpe_mm'] = metrics.pa_mpjpe(*pair, joints=joints)
    return {key: MM * errors[key] for key in MEASURES if key in errors}


def constant_prediction(train: Sequence, test: Sequence, *, examples: int = 0) -> dict[str, float]:
    """Returns the errors on `test` of the best constant guess, the mean root-relative joints of `train`, mm.

    This is what a network that does not look at the image can reach; `examples` limits how many of `train` are read.
    """

    def joints_of(source: Sequence, limit: int) -> tuple[np.ndarray, np.ndarray]:
        records = [source[i] for i in range(limit)]
        return (
            np.stack([r['joints_m'][: skeleton.NUM_JOINTS] for r in records]),
            np.stack([r['h36m_joints_m'] for r in records]),
        )

    smpl_mean, h36m_mean = (x.mean(0) for x in joints_of(train, min(examples or len(train), len(train))))
    smpl, h36m = joints_of(test, len(test))
    joints = skeleton.EVALUATION_JOINTS_14
    guess = np.broadcast_to(h36m_mean, h36m.shape)
    return {
        'mpjpe_mm': float(MM * metrics.mpjpe(guess, h36m, joints=joints).mean()),
        'pa_mpjpe_mm': float(MM * metrics.pa_mpjpe(guess, h36m, joints=joints).mean()),
        'mpjpe_24_mm': float(MM * metrics.mpjpe(np.broadcast_to(smpl_mean, smpl.shape), smpl).mean()),
    }


def table(evaluation: dict[str, Any]) -> str:
    """Returns the evaluation as a Markdown table with its protocol below."""
    measures = [m for m in MEASURES if any(m in row for row in evaluation['rows'])]
    header = ['parameters', 'flip test'] + [f'{MEASURES[m]} (mm)' for m in measures]
    lines = ['| ' + ' | '.join(header) + ' |', '|' + '---|' * len(header)]
    for row in evaluation['rows']:
        cells = [row['parameters'], 'yes' if row['flip_test'] else 'no'] + [f'{row[m]:.1f}' for m in measures]
        lines.append('| ' + ' | '.join(cells) + ' |')
    constant = evaluation['constant_prediction']
    cells = ['best constant prediction', ''] + [f'{constant[m]:.1f}' if m in constant else '' for m in measures]
    lines.append('| ' + ' | '.join(cells) + ' |')
    protocol = '; '.join(f'{name}: {value}' for name, value in evaluation['protocol'].items())
    return '\n'.join(lines) + f'\n\nProtocol. {protocol}.\n'


def write(evaluation: dict[str, Any], folder: str | pathlib.Path) -> None:
    """Writes `evaluation.json` and `evaluation.md` into `folder`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'evaluation.json').write_text(json.dumps(evaluation, indent=1) + '\n')
    (folder / 'evaluation.md').write_text(table(evaluation))
