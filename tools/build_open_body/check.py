"""Measures the data files; prints figures and raises where a hard requirement fails.

usage: python -m tools.build_open_body.check [--folder F] geometry (needs trimesh and embreex)
       python -m tools.build_open_body.check --smplx      agreement with smplx (needs torch and smplx)
Labels, determinism and the agreement with the package's own body model are in tests/test_synthetic.py.
"""

import argparse
from pathlib import Path

import numpy as np

from hybrik_jax.synthetic.posed_body import ASSETS, PosedBody, to_matrices
from tools.build_open_body.joints import JOINT_NAMES, MIRROR_JOINTS, mirror_pose

FLIP = np.array([-1.0, 1.0, 1.0])
SHAPES = 60  # random bodies


def pose_body(body: PosedBody, betas: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns vertices (n, 3) and joints (24, 3), metres, of betas (10,) and an axis-angle pose (24, 3)."""
    rotations = to_matrices(pose).astype(np.float32)
    world, joints, shift = body.skeleton(betas, rotations)
    return body.surface.pose(betas, rotations, world, shift), joints


def inside(
    vertices: np.ndarray, faces: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns which points (n,) lie inside the mesh, by majority over the parity of 5 random rays."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    scene = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    votes = np.zeros(len(points))
    for d in rng.normal(size=(5, 3)):
        directions = np.tile(d / np.linalg.norm(d), (len(points), 1))
        _, ray, _ = scene.intersects_location(points, directions, multiple_hits=True)
        votes += np.bincount(ray, minlength=len(points)) % 2
    return votes >= 3


def require(true: bool, what: str) -> None:
    """Raises ValueError saying what does not hold, where it does not."""
    if not true:
        raise ValueError(f'The body does not hold to its requirements: {what}.')


def check_symmetry(model: dict, body: PosedBody, poses: np.ndarray, rng: np.random.Generator) -> None:
    """Prints the largest mirror errors in metres."""
    mirror, template = model['mirror'], model['v_template']
    joints = model['J_regressor'] @ template
    error = {
        'v_template': np.abs(template[mirror] * FLIP - template).max(),
        'shapedirs': np.abs(model['shapedirs'][mirror] * FLIP[:, None] - model['shapedirs']).max(),
        'joints': np.abs(joints[MIRROR_JOINTS] * FLIP - joints).max(),
        'weights': np.abs(model['weights'][mirror][:, MIRROR_JOINTS] - model['weights']).max(),
        '20 poses': 0.0,
    }
    mean = np.zeros(10, np.float32)
    for pose in poses[rng.choice(len(poses), 20)]:
        one, other = pose_body(body, mean, pose)[0], pose_body(body, mean, mirror_pose(pose))[0]
        error['20 poses'] = max(error['20 poses'], np.abs(one[mirror] * FLIP - other).max())
    print(
        'mirror symmetry, largest error in m:', {name: float(f'{value:.2g}') for name, value in error.items()}
    )
    require(max(error.values()) < 1e-4, 'left and right differ')


def check_geometry(folder: Path) -> None:
    """Prints symmetry, topology, shape space, and which joints lie inside the mesh."""
    import trimesh

    model = dict(np.load(folder / 'open_body.npz'))
    body, rng = PosedBody(folder / 'open_body.npz'), np.random.default_rng(0)
    poses = np.load(folder / 'poses.npz')['axis_angle'].astype(float)
    check_symmetry(model, body, poses, rng)

    faces, v = model['f'].astype(int), model['v_template']
    mesh = trimesh.Trimesh(v, faces, process=False)
    print(f'Euler number {mesh.euler_number}, volume {mesh.volume:.4f} m3, {mesh.body_count} piece(s)')
    require(mesh.is_watertight and mesh.is_winding_consistent, 'the surface is not closed')
    require(mesh.euler_number == 2, 'the surface has handles')
    require(model['leaf_vertices'].tolist() == [411, 2445, 5905, 3216, 6617], 'the leaf vertices are others')
    require(v[411, 1] == v[:, 1].max(), 'vertex 411 is not the top of the head')
    require(v[2445, 0] > 0.8, 'vertex 2445 is not the tip of the left middle finger')
    require(v[3216, 2] > 0.1 and v[3216, 0] > 0, 'vertex 3216 is not the left big toe')
    rows = model['J_regressor'].sum(1)
    require(np.abs(rows - 1).max() < 1e-5, 'rows of J_regressor do not sum to 1')
    print('explained variance', model['explained_variance'].round(4).tolist())
    print('J_regressor non-zeros', int((model['J_regressor'] > 0).sum()))
    print('weights per vertex at most', int((model['weights'] > 0).sum(1).max()))
    print('posedirs non-zero', round(float(np.mean(model['posedirs'] != 0)), 4))

    rest, moved, h36m, stature = np.zeros(24), np.zeros(24), np.zeros(17), []
    for _ in range(SHAPES):
        betas = np.clip(rng.normal(size=10), -2.5, 2.5).astype(np.float32)
        vertices, joints = pose_body(body, betas, np.zeros((24, 3)))
        stature.append(np.ptp(vertices[:, 1]))
        rest += inside(vertices, faces, joints, rng) / SHAPES
        h36m += inside(vertices, faces, body.h36m @ vertices, rng) / SHAPES
        vertices, joints = pose_body(body, betas, poses[rng.integers(len(poses))])
        moved += inside(vertices, faces, joints, rng) / SHAPES
    print(f'stature of {SHAPES} random shapes {np.mean(stature):.3f} +- {np.std(stature):.3f} m')
    print(f'joints inside the mesh, smallest share: T-pose {rest.min():.2f}, Human3.6M {h36m.min():.2f}')
    outside = {JOINT_NAMES[j]: round(float(x), 2) for j, x in enumerate(moved) if x < 0.999}
    print(f'joints not always inside the posed mesh: {outside}')
    for name, (surface, covered) in body.garments(folder / 'garments.npz').items():
        print(f'{name}: {len(surface.template)} vertices, covers {int(covered.sum())} of the body')


def check_smplx(folder: Path) -> None:
    """Prints the largest difference between smplx.SMPL built from this file and the numpy code."""
    import smplx
    import torch
    from smplx.utils import Struct

    model = dict(np.load(folder / 'open_body.npz'))
    body, rng = PosedBody(folder / 'open_body.npz'), np.random.default_rng(0)
    keys = ('v_template', 'shapedirs', 'posedirs', 'J_regressor', 'weights', 'f', 'kintree_table')
    texts = {key: str(model[key]) for key in ('bs_type', 'bs_style')}
    other = smplx.SMPL('', data_struct=Struct(**{key: model[key] for key in keys}, **texts))
    poses = np.load(folder / 'poses.npz')['axis_angle'].astype(np.float32)
    vertex = joint = 0.0
    for pose in poses[rng.choice(len(poses), 20)]:
        betas = rng.normal(size=10).astype(np.float32)
        out = other(
            betas=torch.tensor(betas[None]),
            body_pose=torch.tensor(pose[None, 1:].reshape(1, -1)),
            global_orient=torch.tensor(pose[None, 0]),
        )
        vertices, joints = pose_body(body, betas, pose)
        vertex = max(vertex, np.abs(out.vertices[0].detach().numpy() - vertices).max())
        joint = max(joint, np.abs(out.joints[0, :24].detach().numpy() - joints).max())
    print(f'smplx, 20 poses: largest difference vertices {vertex:.2e} m, joints {joint:.2e} m')
    require(max(vertex, joint) < 1e-5, 'smplx poses it differently')


def main() -> None:
    """Checks what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--folder', type=Path, default=ASSETS, help='of the three .npz files; default: the package'
    )
    parser.add_argument('--smplx', action='store_true')
    args = parser.parse_args()
    (check_smplx if args.smplx else check_geometry)(args.folder)


if __name__ == '__main__':
    main()
