"""Builds open_body.npz (SMPL file schema, posedirs still zero) from the CC0 MakeHuman/MPFB2 assets.

`fit_posedirs` then adds the pose correctives.
"""

import json
import time
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from tools.build_open_body.joints import JOINT, JOINT_NAMES, MIRROR_JOINTS, PARENTS
from tools.build_open_body.mpfb_assets import (
    N_BASE,
    N_BODY,
    NEUTRAL,
    Groups,
    Phenotypes,
    load_base,
    load_mirror,
    sample_phenotype,
)
from tools.build_open_body.rig import Rig, symmetrise, to_tpose
from tools.build_open_body.skin_topology import closed_triangles, decimate, outer_quads

# vertex ids with a well-known meaning in SMPL files keep that meaning here
SEMANTIC_IDS = {
    411: 'headtop',
    332: 'nose',
    6260: 'Reye',
    2800: 'Leye',
    4071: 'Rear',
    583: 'Lear',
    6191: 'Rthumb',
    5782: 'Rindex',
    5905: 'Rmiddle',
    6016: 'Rring',
    6133: 'Rpinky',
    2746: 'Lthumb',
    2319: 'Lindex',
    2445: 'Lmiddle',
    2556: 'Lring',
    2673: 'Lpinky',
    3216: 'Lbigtoe',
    3226: 'Lsmalltoe',
    3387: 'Lheel',
    6617: 'Rbigtoe',
    6624: 'Rsmalltoe',
    6787: 'Rheel',
}
LEAVES = ['headtop', 'Lmiddle', 'Rmiddle', 'Lbigtoe', 'Rbigtoe']
FLIP = np.array([-1.0, 1.0, 1.0])


def sample_bodies(
    base: np.ndarray, groups: Groups, rig: Rig, mirror: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns T-posed, symmetric random adults: vertices (count, 19158, 3), joints (count, 24, 3)."""
    rng, people = np.random.default_rng(seed), Phenotypes(base)
    bodies, joints = np.zeros((count, N_BASE, 3), np.float32), np.zeros((count, 24, 3))
    for i in range(count):
        posed, placed = to_tpose(people.vertices(sample_phenotype(rng)), rig)
        bodies[i], joints[i] = symmetrise(posed, placed, mirror)
    return bodies, joints


def semantic_vertices(
    mean: np.ndarray, used: np.ndarray, mirror: np.ndarray, rig: Rig, groups: Groups
) -> dict[str, int]:
    """Returns the base vertex ids of the named surface points; the right side mirrors the left."""
    weights, bone = rig.weights[used], rig.bones.index

    def farthest(bones: list[str], direction: list[float]) -> int:
        mine = used[weights[:, [bone(b) for b in bones]].sum(1) > 0.6]
        return int(mine[np.argmax(mean[mine] @ np.array(direction, float))])

    midline = used[mirror[used] == used]
    top = int(midline[np.argmax(mean[midline, 1])])
    below = mean[top, 1] - mean[midline, 1]
    out = {
        'headtop': top,
        'nose': int(midline[np.argmax(np.where((below > 0.08) & (below < 0.19), mean[midline, 2], -1))]),
    }
    for k, finger in enumerate(['thumb', 'index', 'middle', 'ring', 'pinky']):
        out['L' + finger] = farthest([f'finger{k + 1}-3.L'], [1, 0, 0.6 if k == 0 else 0])
    out['Lbigtoe'], out['Lsmalltoe'] = farthest(['toe1-2.L'], [0, 0, 1]), farthest(['toe5-3.L'], [0, 0, 1])
    foot = used[weights[:, bone('foot.L')] > 0.5]
    out['Lheel'] = int(foot[np.argmin(mean[foot, 2] + 0.5 * mean[foot, 1])])
    eye = mean[np.unique([i for f in groups['helper-l-eye'] for i in f])].mean(0)
    near = used[np.argsort(np.linalg.norm(mean[used] - eye, axis=1))[:200]]
    out['Leye'] = int(
        near[np.argmin(np.linalg.norm(mean[near][:, :2] - eye[:2], axis=1) - 0.3 * mean[near][:, 2])]
    )
    side = used[(weights[:, bone('head')] > 0.5) & (np.abs(mean[used, 1] - eye[1]) < 0.035)]
    out['Lear'] = int(side[np.argmax(mean[side, 0])])
    for name in [k for k in out if k[0] == 'L']:
        out['R' + name[1:]] = int(mirror[out[name]])
    return out


def vertex_order(kept: np.ndarray, semantic: dict[str, int]) -> np.ndarray:
    """Returns base ids (n,) in output order: semantic vertices at their SMPL ids, then the others."""
    order = np.full(len(kept), -1)
    for i, name in SEMANTIC_IDS.items():
        if i < len(kept):
            order[i] = semantic[name]
    order[order < 0] = [v for v in kept.tolist() if v not in set(order.tolist())]
    return order


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns one third of the area of the faces around each vertex (n,)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(vertices))


def shape_space(
    bodies: np.ndarray, mean: np.ndarray, faces: np.ndarray, mirror: np.ndarray, count: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns shapedirs (n, 3, count), betas (s, count) and the share of variance of every component.

    They are an area-weighted PCA of bodies (s, n, 3); the betas have unit variance.
    """
    area = vertex_areas(mean, faces)
    weighted = ((bodies - mean) * np.sqrt(area)[:, None]).reshape(len(bodies), -1)
    u, s, _ = np.linalg.svd(weighted, full_matrices=False)
    betas = u[:, :count] * np.sqrt(len(bodies))
    dirs = np.einsum('nb,nvc->vcb', betas, bodies - mean) / len(bodies)
    for b in range(count):  # sign: taller (first) or heavier is positive
        if b == 0:
            sign = np.sign((dirs[:, 1, 0] * np.sign(mean[:, 1]) * area).sum())
        else:
            sign = np.sign((dirs[:, :, b] * (mean * [1, 0, 1])).sum())
        dirs[:, :, b] *= sign
        betas[:, b] *= sign
    dirs = 0.5 * (dirs + dirs[mirror] * FLIP[None, :, None])
    return dirs, betas, s**2 / (s**2).sum()


class JointFitter:
    """Sparse convex combinations of vertices that reproduce a point over all sampled bodies."""

    def __init__(self, bodies: np.ndarray, mean: np.ndarray, weights: np.ndarray) -> None:
        self.bodies, self.mean = bodies, mean
        arm = [JOINT[f'{s}_{k}'] for s in 'LR' for k in ('shoulder', 'elbow', 'wrist', 'hand')]
        self.arm = weights[:, arm].sum(1) > 0.5

    def fit(
        self, points: np.ndarray, nearest: int = 250, slab: float | None = None, ridge: float = 0.002
    ) -> np.ndarray:
        """Returns non-negative weights (n,), summing to 1, that reproduce points (s, 3).

        Candidates: the `nearest` vertices, or with `slab` (metres) the torso vertices within that height of
        the point.
        """
        centre = points.mean(0)
        if slab is None:
            near = np.argsort(np.linalg.norm(self.mean - centre, axis=1))[:nearest]
        else:
            near = np.flatnonzero(
                (np.abs(self.mean[:, 1] - centre[1]) < slab)
                & ~self.arm
                & (np.abs(self.mean[:, 0] - centre[0]) < 0.25)
            )
        scale, k = np.sqrt(len(points)), len(near)
        moves = (self.bodies[:, near] - self.mean[near]).transpose(0, 2, 1).reshape(-1, k)
        a = np.concatenate(
            [moves, scale * 2 * self.mean[near].T, scale * 20 * np.ones((1, k)), scale * ridge * np.eye(k)]
        )
        b = np.concatenate([(points - centre).ravel(), scale * 2 * centre, [scale * 20.0], np.zeros(k)])
        r = np.linalg.qr(np.c_[a, b], mode='r')  # same least-squares problem, k + 1 rows
        w, _ = nnls(r[:, :-1], r[:, -1])
        w[w < 1e-3] = 0
        out = np.zeros(len(self.mean))
        out[near] = w / w.sum()
        return out


def joint_regressor(fitter: JointFitter, joints: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Returns the regressor (24, n); right rows mirror the left, midline rows are symmetrised."""
    torso = {'pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head', 'L_collar', 'L_hip'}
    limb = {'L_hand', 'L_foot', 'L_wrist', 'L_ankle', 'L_elbow', 'L_knee'}
    out = np.zeros((24, len(fitter.mean)))
    for j, name in enumerate(JOINT_NAMES):
        if not name.startswith('R_'):
            out[j] = fitter.fit(
                joints[:, j], nearest=120 if name in limb else 250, slab=0.05 if name in torso else None
            )
    for j, name in enumerate(JOINT_NAMES):
        if name.startswith('R_'):
            out[j] = out[MIRROR_JOINTS[j]][mirror]
        elif MIRROR_JOINTS[j] == j:
            out[j] = 0.5 * (out[j] + out[j][mirror])
    return out


def h36m_regressor(
    fitter: JointFitter, joints: np.ndarray, bodies: np.ndarray, mirror: np.ndarray
) -> np.ndarray:
    """Returns the regressor (17, n) of the Human3.6M joints, in the order of `skeleton.H36M_NAMES`."""
    ids = {name: i for i, name in SEMANTIC_IDS.items()}
    j = {name: joints[:, JOINT[name]] for name in JOINT_NAMES}
    nose, top = bodies[:, ids['nose']], bodies[:, ids['headtop']]
    points = {
        0: (j['L_hip'] + j['R_hip']) / 2,
        1: j['L_hip'],
        2: j['L_knee'],
        3: j['L_ankle'],
        7: 0.2 * j['spine1'] + 0.8 * j['spine2'],
        8: j['neck'],
        9: 0.5 * nose + 0.5 * j['head'],
        10: 0.75 * top + 0.25 * j['head'],
        11: j['L_shoulder'],
        12: j['L_elbow'],
        13: j['L_wrist'],
    }
    out = np.zeros((17, len(fitter.mean)))
    for k, p in points.items():
        out[k] = fitter.fit(
            p, nearest=120 if k in (2, 3, 12, 13) else 400, slab=0.05 if k in (0, 1, 7, 8) else None
        )
    for right, left in ((4, 1), (5, 2), (6, 3), (14, 11), (15, 12), (16, 13)):
        out[right] = out[left][mirror]
    for k in (0, 7, 8, 9, 10):
        out[k] = 0.5 * (out[k] + out[k][mirror])
    return out


def build(out: Path, samples: int = 600, n_vertices: int = 6890, seed: int = 0) -> None:
    """Writes the model to `out`: shapes from `samples` random adults, decimated to n_vertices vertices."""
    start = time.time()

    def say(*words: object) -> None:
        print(f'[{time.time() - start:4.0f}s]', *words, flush=True)

    base, groups = load_base()
    rig, mirror_base = Rig(groups), load_mirror()
    bodies, joints = sample_bodies(base, groups, rig, mirror_base, samples, seed)
    mean = bodies.mean(0, dtype=float)
    stature = np.ptp(bodies[:, :N_BODY, 1], axis=1)
    say(f'{samples} bodies, stature {stature.mean():.3f} +- {stature.std():.3f} m')

    neutral = Phenotypes(base).vertices(NEUTRAL)
    eyes = [neutral[np.unique([i for f in groups[f'helper-{s}-eye'] for i in f])].mean(0) for s in 'lr']
    quads = outer_quads(neutral, np.array(groups['body']), mirror_base, eyes)
    triangles = closed_triangles(mean, neutral, quads)
    used = np.unique(triangles)
    semantic = semantic_vertices(mean, used, mirror_base, rig, groups)
    detail = np.ones(N_BASE)  # hands keep detail, face and feet lose it
    for names, value in ((['head'], 0.6), (['L_hand', 'R_hand'], 1.5), (['L_foot', 'R_foot'], 0.5)):
        detail[rig.weights24[:, [JOINT[n] for n in names]].sum(1) > 0.5] = value
    kept, faces = decimate(mean, triangles, mirror_base, n_vertices, locked=semantic.values(), weight=detail)
    say(
        f'{len(used)} -> {len(kept)} vertices, {len(faces)} faces; '
        f'a closed surface of genus 0 has {2 * len(kept) - 4} faces'
    )

    order = vertex_order(kept, semantic)
    position = np.full(N_BASE, -1)
    position[order] = np.arange(len(order))
    faces, mirror = position[faces], position[mirror_base[order]]
    shapes, template = bodies[:, order].astype(float), mean[order]
    shapedirs, _, ratio = shape_space(shapes, template, faces, mirror)
    say('explained variance', ratio[:10].round(4).tolist(), 'sum', round(float(ratio[:10].sum()), 4))

    weights = rig.weights24[order]
    weights = 0.5 * (weights + weights[mirror][:, MIRROR_JOINTS])
    weights[weights < 4e-3] = 0
    weights /= weights.sum(1, keepdims=True)

    fitter = JointFitter(shapes, template, weights)
    regressor = joint_regressor(fitter, joints, mirror)
    error = np.linalg.norm(np.einsum('jv,nvc->njc', regressor, shapes) - joints, axis=2) * 1e3
    say(
        'J_regressor non-zeros',
        int((regressor > 0).sum()),
        'error mm per joint',
        error.mean(0).round(1).tolist(),
    )
    h36m = h36m_regressor(fitter, joints, shapes, mirror)

    template = 0.5 * (template + template[mirror] * FLIP)
    ids = {name: i for i, name in SEMANTIC_IDS.items()}
    np.savez_compressed(
        out,
        v_template=template.astype(np.float32),
        shapedirs=shapedirs.astype(np.float32),
        posedirs=np.zeros((len(order), 3, 207), np.float32),
        J_regressor=regressor.astype(np.float32),
        weights=weights.astype(np.float32),
        f=faces.astype(np.uint32),
        kintree_table=np.stack([np.where(PARENTS < 0, 2**32 - 1, PARENTS), np.arange(24)]).astype(np.uint32),
        J_regressor_h36m=h36m.astype(np.float32),
        mirror=mirror.astype(np.int32),
        hm08_vertex=order.astype(np.int32),
        leaf_vertices=np.array([ids[n] for n in LEAVES], np.int32),
        joint_names=np.array(JOINT_NAMES),
        bs_type=np.array('lrotmin'),
        bs_style=np.array('lbs'),
        model_name=np.array('open_body (CC0)'),
        semantic_vertices=np.array(json.dumps(ids)),
        explained_variance=ratio[:10].astype(np.float32),
    )
    say('wrote', out)
