"""Fits pose correctives: LBS + posedirs ~ dual-quaternion skinning of the 163 bones, limb twist spread.

Poses come from pose_sampler.py: two thirds plausible ones (with mirrored twins), one third anywhere in the
limits.
"""

import time
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.synthetic.posed_body import forward_kinematics, to_matrices
from tools.build_open_body.joints import JOINT, MIRROR_JOINTS, mirror_pose
from tools.build_open_body.mpfb_assets import load_rig_weights
from tools.build_open_body.pose_sampler import limit_poses, sample_poses
from tools.build_open_body.rig import (
    FOREARM_TWIST,
    THIGH_TWIST,
    UPPER_ARM_TWIST,
    bone_joint,
    dual_quaternion_skin,
    twist_about,
)


def fine_rotations(
    bones: list[str], joint_of_bone: np.ndarray, local: np.ndarray, world: np.ndarray
) -> np.ndarray:
    """Returns the world rotation (b, 3, 3) of every bone of the default rig.

    It is that of the bone's joint, but limb twist is spread over the bones of upper arm, forearm and thigh.
    """
    out = world[joint_of_bone].copy()

    def spread(
        shares: dict[str, float], side: str, joint: str, axis: np.ndarray, angle: float, rest: float
    ) -> None:
        for bone, share in shares.items():
            name = f'{bone}.{side}'
            if name in bones:
                out[bones.index(name)] = (
                    world[JOINT[f'{side}_{joint}']]
                    @ Rotation.from_rotvec(axis * angle * (share - rest)).as_matrix()
                )

    down = np.array([0, -1.0, 0])
    for side, s in (('L', 1.0), ('R', -1.0)):
        along = np.array([s, 0, 0])
        spread(
            UPPER_ARM_TWIST, side, 'shoulder', along, twist_about(local[JOINT[f'{side}_shoulder']], along), 1
        )
        spread(FOREARM_TWIST, side, 'elbow', along, twist_about(local[JOINT[f'{side}_wrist']], along), 0)
        spread(THIGH_TWIST, side, 'hip', down, twist_about(local[JOINT[f'{side}_hip']], down), 1)
    return out


def residuals(
    template: np.ndarray,
    joints: np.ndarray,
    weights: np.ndarray,
    bones: list[str],
    fine_weights: np.ndarray,
    poses: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns corrections (p, n, 3) at rest that posedirs should make, features (p, 207), LBS error (p,)."""
    joint_of_bone = np.array([bone_joint(b) for b in bones])
    wanted = np.zeros((len(poses), len(template), 3), np.float32)
    features, error = np.zeros((len(poses), 207), np.float32), np.zeros(len(poses))
    for i, local in enumerate(to_matrices(poses)):
        world, placed = forward_kinematics(local, joints)
        fine = fine_rotations(bones, joint_of_bone, local, world)
        target = dual_quaternion_skin(
            template,
            fine_weights,
            fine,
            placed[joint_of_bone] - np.einsum('bij,bj->bi', fine, joints[joint_of_bone]),
        )
        blend = np.einsum('vj,jab->vab', weights, world)
        shift = placed - np.einsum('jab,jb->ja', world, joints)
        linear = np.einsum('vab,vb->va', blend, template) + weights @ shift
        gap = target - linear
        # Damped pull-back to the rest pose.
        normal = np.einsum('vba,vbc->vac', blend, blend) + 0.05 * np.eye(3)
        wanted[i] = np.linalg.solve(normal, np.einsum('vba,vb->va', blend, gap)[..., None])[..., 0]
        features[i] = (local[1:] - np.eye(3)).ravel()
        error[i] = np.linalg.norm(gap, axis=1).mean()
    return wanted, features, error


def relevant_joints(weights: np.ndarray) -> np.ndarray:
    """Returns (n, 24) bool: the joints whose rotation may correct a vertex."""
    touched = weights > 0.01
    out = touched & (weights < 0.995)
    for side in 'LR':
        out[:, JOINT[f'{side}_wrist']] |= touched[:, JOINT[f'{side}_elbow']]  # forearm twist
        for name in ('shoulder', 'hip'):
            out[:, JOINT[f'{side}_{name}']] |= touched[:, JOINT[f'{side}_{name}']]
    out[:, 0] = False
    return out


def ridge_fit(wanted: np.ndarray, features: np.ndarray, relevant: np.ndarray, ridge: float) -> np.ndarray:
    """Returns posedirs (n, 3, 207): one ridge regression per group of vertices with the same joints."""
    out = np.zeros((wanted.shape[1], 3, 207), np.float32)
    groups = {}
    for v, row in enumerate(relevant):
        groups.setdefault(tuple(np.flatnonzero(row)), []).append(v)
    for joints, vertices in groups.items():
        if joints:
            cols = np.concatenate([np.arange(9) + 9 * (j - 1) for j in joints])
            x = features[:, cols].astype(float)
            damped = x.T @ x + ridge * len(x) * np.eye(len(cols))
            coef = np.linalg.solve(damped, x.T @ wanted[:, vertices].reshape(len(x), -1))
            coef = coef.reshape(len(cols), -1, 3).transpose(1, 2, 0)
            out[np.array(vertices)[:, None, None], np.arange(3)[None, :, None], cols] = coef
    return out


def symmetrise(posedirs: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Returns posedirs (n, 3, 207) averaged with their reflection (pose R -> S R S, S = diag(-1, 1, 1))."""
    flip = np.array([-1.0, 1, 1])
    sign = np.outer(flip, flip).ravel()
    twin = np.zeros_like(posedirs)
    for j in range(1, 24):
        k = MIRROR_JOINTS[j]
        twin[:, :, 9 * (j - 1) : 9 * j] = (
            posedirs[mirror][:, :, 9 * (k - 1) : 9 * k] * flip[None, :, None] * sign
        )
    return 0.5 * (posedirs + twin)


def fit(
    source: Path, out: Path, count: int = 1600, ridge: float = 0.006, smallest: float = 0.0002, seed: int = 3
) -> None:
    """Writes the model `source` with fitted posedirs to `out`; entries below `smallest` metres become 0."""
    with np.load(source) as z:
        model = {k: z[k] for k in z.files}
    bones, fine_weights = load_rig_weights()
    fine_weights = fine_weights[model['hm08_vertex']]
    used = fine_weights.max(0) > 1e-6
    bones, fine_weights = [b for b, u in zip(bones, used, strict=True) if u], fine_weights[:, used]
    template, weights = model['v_template'].astype(float), model['weights'].astype(float)
    joints = model['J_regressor'].astype(float) @ template

    rng, start = np.random.default_rng(seed), time.time()
    plausible, _ = sample_poses(count // 3, rng, joints)
    poses = np.concatenate([plausible, mirror_pose(plausible), limit_poses(count - 2 * (count // 3), rng)])
    poses[:, 0] = 0
    held = rng.random(len(poses)) < 0.15
    half = count // 3
    held[half : 2 * half] = held[:half]  # a mirrored twin is held out with its original
    wanted, features, error = residuals(template, joints, weights, bones, fine_weights, poses)
    print(
        f'{len(poses)} poses, {time.time() - start:.0f} s; LBS without correctives is off by '
        f'{error.mean() * 1e3:.2f} mm on average'
    )
    posedirs = symmetrise(
        ridge_fit(wanted[~held], features[~held], relevant_joints(weights), ridge), model['mirror']
    )
    posedirs[np.abs(posedirs) < smallest] = 0
    posedirs = posedirs.astype(np.float16).astype(np.float32)  # fewer significant bits: compresses better
    plain = np.arange(len(poses)) < 2 * (count // 3)
    for name, chosen in (('plausible', held & plain), ('joint-limit', held & ~plain)):
        before = np.linalg.norm(wanted[chosen], axis=2) * 1e3
        made = np.einsum('pk,vck->pvc', features[chosen], posedirs, optimize=True)
        after = np.linalg.norm(wanted[chosen] - made, axis=2) * 1e3
        print(
            f'held-out {name} poses ({chosen.sum()}): residual mean '
            f'{before.mean():.2f} -> {after.mean():.2f} mm, 99th percentile '
            f'{np.percentile(before, 99):.1f} -> {np.percentile(after, 99):.1f} mm'
        )
    print(f'non-zero {np.mean(posedirs != 0):.4f}')
    model['posedirs'] = posedirs
    np.savez_compressed(out, **model)
