"""Recorded crops, targets, losses, schedule and metrics against ours."""

import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from hybrik_jax import losses
from hybrik_jax.data import augment, record
from hybrik_jax.scoring import metrics
from hybrik_jax.step import inverse_square_root
from hybrik_jax.types import Batch, Lifted, Posed
from hybrik_jax.units import DEPTH_SCALE_M, MM_PER_M

MEAN, STD = np.array((0.406, 0.457, 0.480)), np.array((0.225, 0.224, 0.229))
JOINT_GROUPS = [[0], [1], [2, 5], [3, 6], [4, 7], [8, 11], [9, 12], [10, 13]]
TERMS = {
    'UVD24_WEIGHT': 'uvd',
    'BETA_WEIGHT': 'betas',
    'THETA_WEIGHT': 'rotations',
    'TWIST_WEIGHT': 'twists',
    'XYZ_SMPL24_WEIGHT': 'smpl_joints',
    'XYZ_SMPL17_WEIGHT': 'h36m_joints',
}
Row = tuple[str, float, float]  # what, worst error, tolerance


def compare_losses(golden: pathlib.Path) -> list[Row]:
    """Returns the relative errors of the total loss and of its terms (float32 here, float64 there)."""
    z = np.load(golden / 'loss.npz')

    def target(name: str, *shape: int) -> jnp.ndarray:
        return jnp.asarray(z[name].reshape(len(z['pred_shape']), *shape), jnp.float32)

    batch = Batch(
        image=None,
        crop=None,
        uvd=target('target_uvd_29', 29, 3),
        uvd_weight=target('target_weight_29', 29, 3),
        joints_m=target('target_xyz_24', 24, 3) * DEPTH_SCALE_M,
        joints_weight=target('target_weight_24', 24, 3),
        h36m_joints_m=target('target_xyz_17', 17, 3) * DEPTH_SCALE_M,
        h36m_weight=target('target_weight_17', 17, 3),
        quaternions=target('target_theta', 24, 4),
        betas=target('target_beta', 10),
        smpl_weight=target('target_smpl_weight'),
        twists=target('target_twist', 23, 2),
        twist_weight=target('target_twist_weight', 23, 2),
    )
    lifted = Lifted(
        uvd=target('pred_uvd_jts', 24, 3),
        twists=target('pred_phi', 23, 2),
        leaf_quaternions=None,
        betas=target('pred_shape', 10),
    )
    posed = Posed(
        lifted_joints_m=None,
        rotations=None,
        betas=lifted.betas,
        posed_joints_m=target('pred_xyz_jts_24_struct', 24, 3) * DEPTH_SCALE_M,
        h36m_joints_m=None,
        vertices_m=None,
    )
    terms = {
        name: losses.TERMS[name].error(lifted, posed, batch)
        for name in TERMS.values()
        if name not in ('rotations', 'h36m_joints')
    }
    terms['rotations'] = losses.quaternions(target('pred_theta_mats', 24, 4), batch)
    h36m_joints_m = (
        target('pred_xyz_jts_17', 17, 3) * DEPTH_SCALE_M
    )  # of random numbers, relative to no joint
    terms['h36m_joints'] = losses.joints(h36m_joints_m, batch.h36m_joints_m, batch.h36m_weight)
    weights = json.loads(str(z['weights']))
    values = {name: float(losses.ratio(*term)) for name, term in terms.items()}
    total = sum(weights[theirs] * values[ours] for theirs, ours in TERMS.items())
    recorded = {
        'total': (total, z['loss']),
        'betas': (values['betas'], z['loss_beta']),
        'rotations': (values['rotations'], z['loss_theta']),
        'uvd': (values['uvd'], z['loss_uvd']),
        'smpl_joints': (values['smpl_joints'], z['loss_xyz_smpl24']),
        'h36m_joints': (values['h36m_joints'], z['loss_xyz_smpl17']),
    }
    return [(f'loss {name}, relative', abs(a / b - 1), 1e-5) for name, (a, b) in recorded.items()]


def compare_schedule(golden: pathlib.Path) -> list[Row]:
    """Returns the largest error of the learning rate before update 0, 100, 200, ..., relative to the peak."""
    recorded = np.load(golden / 'schedule.npz')['learning_rate_every_100']
    schedule = inverse_square_root(5e-4, 4000)
    ours = np.array([float(schedule(100 * i)) for i in range(len(recorded))])
    return [('learning rate, relative to its peak', np.abs(ours - recorded).max() / 5e-4, 1e-5)]


def compare_metrics(golden: pathlib.Path) -> list[Row]:
    """Returns the errors of alignment (relative to the extent), MPJPE (mm), PCK and AUC (percent)."""
    z = np.load(golden / 'metrics.npz')
    aligned = metrics.similarity_align(z['S1'], z['S2'])
    sequences = z['error'].reshape(len(z['pck_per_sequence']), -1, z['error'].shape[1])
    pck_auc = [metrics.pck_auc(errors / MM_PER_M, JOINT_GROUPS) for errors in sequences]
    mpjpe = np.concatenate([sequences.mean(1), sequences.mean((1, 2))[:, None]], 1)
    extent = np.abs(z['aligned']).max()
    return [
        ('similarity alignment, relative', np.abs(aligned - z['aligned']).max() / extent, 1e-6),
        ('MPJPE per joint and sequence (mm)', np.abs(mpjpe - z['mpjpe_per_sequence']).max(), 1e-6),
        ('PCK (percent)', np.abs(np.array([p for p, _ in pck_auc]) - z['pck_per_sequence']).max(), 1e-6),
        ('AUC (percent)', np.abs(np.array([a for _, a in pck_auc]) - z['auc_per_sequence']).max(), 1e-6),
    ]


def pattern_photo() -> np.ndarray:
    """Returns the photo (480, 640, 3) uint8 that the recorded crops were cut from."""
    x, y = np.meshgrid(np.arange(640), np.arange(480))
    return np.stack([x * 255 / 640, y * 255 / 480, 127 + 100 * np.sin(x / 17) * np.cos(y / 13)], -1).astype(
        np.uint8
    )


def record_of(z: Any) -> dict[str, Any]:
    """Returns the label part of a recorded crop as one of our records (metres, image left out)."""
    pixels = np.array(z['label_joint_img_29'])
    pixels[:, 2] /= MM_PER_M
    camera = z['label_joint_cam_29'] / MM_PER_M
    h36m = z['label_joint_relative_17'] / MM_PER_M
    return {
        'name': 'recorded',
        'dataset': 'recorded',
        **record.whole_photo(int(z['label_width']), int(z['label_height'])),
        'box': z['label_bbox'],
        'box_enlargement': float(z['scale_mult']),
        'focal': z['label_f'],
        'centre': z['label_c'],
        'camera_weight': 1.0,
        'joints_px': pixels,
        'joints_px_weight': z['label_joint_vis_29'],
        'joints_m': camera - camera[:1],
        'joints_weight': z['label_joint_vis_29'][:, 0],
        'h36m_joints_m': h36m - h36m[:1],
        'h36m_weight': z['label_joint_vis_17'][:, 0],
        'root_m': z['label_root_cam'] / MM_PER_M,
        'pose': z['label_theta'],
        'betas': z['label_beta'],
        'smpl_weight': 1.0,
        'twists': np.arctan2(z['label_twist_phi'][:, 1], z['label_twist_phi'][:, 0]),
        'twist_weight': z['label_twist_weight'][:, 0],
        'visible': z['label_joint_vis_29'][:, 0],
    }


def compare_crop(path: pathlib.Path) -> list[Row]:
    """Returns the errors of one recorded crop of a photo that is stored whole."""
    return crop_rows(path, record_of(np.load(path)), pattern_photo())


def crop_rows(path: pathlib.Path, stored: dict[str, Any], image: np.ndarray | None = None) -> list[Row]:
    """Returns the errors of one recorded crop: pixels (mean, grey levels of 1), every target.

    Args:
        stored: the record to make the crop from; image: its image where it is decoded already.
    """
    z = np.load(path)
    colour = tuple(float(c) for c in z['color'])
    scale, rotation, mirror = float(z['scale']), float(z['rotation_deg']), bool(z['flip'])
    drawn = augment.Augmentation(scale, rotation, mirror, colour, mirror_camera=False)
    ours = augment.make_example(stored, drawn, crop_size=256, image=image)
    crop = (ours['image'][::4, ::4] / 255 - MEAN) / STD
    pixel_error = np.abs((crop.transpose(2, 0, 1) - z['crop_every_4']) * STD[:, None, None]).mean()

    def error(mine: np.ndarray, name: str, scale: float = 1.0) -> float:
        return float(np.abs(mine.reshape(-1) - z[name].reshape(-1) / scale).max())

    shown = ours['uvd_weight'].reshape(-1) > 0
    uvd = np.abs(ours['uvd'].reshape(-1) - z['target_uvd_29'])[shown].max()
    twist = np.abs(ours['twists'] - z['target_twist']).max()
    pairs = {
        'pixels, mean': (pixel_error, 1 / 255),
        'uvd': (uvd, 1e-5),
        'uvd weight': (error(ours['uvd_weight'], 'target_weight_29'), 0.0),
        'xyz of 24': (error(ours['joints_m'] / DEPTH_SCALE_M, 'target_xyz_24'), 1e-5),
        'weight of 24': (error(np.repeat(ours['joints_weight'], 3), 'target_weight_24'), 0.0),
        'xyz of 17': (error(ours['h36m_joints_m'] / DEPTH_SCALE_M, 'target_xyz_17'), 1e-5),
        'weight of 17': (error(np.repeat(ours['h36m_weight'], 3), 'target_weight_17'), 0.0),
        'quaternions': (error(ours['quaternions'], 'target_theta'), 1e-5),
        'betas': (error(ours['betas'], 'target_beta'), 1e-6),
        'twists': (twist, 1e-5),
        'twist weight': (error(np.repeat(ours['twist_weight'], 2), 'target_twist_weight'), 0.0),
        'inverse affine (px)': (error(ours['crop_to_photo'], 'trans_inv'), 1e-2),
        'inverse intrinsics': (error(ours['inverse_intrinsics'], 'intrinsic_param'), 1e-6),
        'root (m)': (error(ours['root_m'], 'joint_root', MM_PER_M), 1e-6),
    }
    return [(f'{path.stem}: {what}', value, tolerance) for what, (value, tolerance) in pairs.items()]


def compare_crops(golden: pathlib.Path) -> list[Row]:
    """Returns the rows of every `crop_*.npz`."""
    return [row for path in sorted(golden.glob('crop_*.npz')) for row in compare_crop(path)]
