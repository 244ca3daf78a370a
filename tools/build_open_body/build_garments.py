"""Builds garments.npz (tights, skirt, long hair) from base.obj's helper geometry; they share betas and pose.

Per garment g (n vertices, m faces):
  g/v_template (n, 3) float32 metres; g/shapedirs (n, 3, 10) float16; g/f (m, 3) uint16
  g/weight_joint (n, 4) uint8, g/weight (n, 4) float16: the four largest skinning weights
  g/nearest_body_vertex (n,) uint16: the body vertex whose posedirs the garment vertex borrows
  g/covered packed bits: body vertices hidden under the whole garment
"""

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from tools.build_open_body.joints import MIRROR_JOINTS
from tools.build_open_body.mpfb_assets import Phenotypes, load_base, load_mirror, sample_phenotype
from tools.build_open_body.rig import Rig, symmetrise, to_tpose
from tools.build_open_body.skin_topology import boundary_loops

GARMENTS = {  # name: (group, reach m)
    'tights': ('helper-tights', 0.05),
    'skirt': ('helper-skirt', 0.30),
    'hair': ('helper-hair', 0.08),
}
RIGID_ANCHOR = {'hair': 411}  # borrows the (zero) posedirs of the head top


def triangles(polygons: list[tuple[int, ...]]) -> np.ndarray:
    """Returns triangles (m, 3) that fan out over faces given as vertex-index tuples."""
    return np.array([(p[0], p[k], p[k + 1]) for p in polygons for k in range(1, len(p) - 1)])


def covered_vertices(
    body: dict[str, np.ndarray], template: np.ndarray, faces: np.ndarray, reach: float
) -> np.ndarray:
    """Returns which body vertices meet the garment within `reach` m along their normal, off its border."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    mesh = trimesh.Trimesh(body['v_template'], body['f'].astype(int), process=False)
    origin = np.asarray(mesh.vertices) - 0.004 * mesh.vertex_normals  # the garment may lie slightly inside
    hit, ray, _ = RayMeshIntersector(trimesh.Trimesh(template, faces, process=False)).intersects_location(
        origin, mesh.vertex_normals, multiple_hits=False
    )
    distance = np.full(len(origin), np.inf)
    distance[ray] = np.linalg.norm(hit - origin[ray], axis=1)
    border = np.unique([v for loop in boundary_loops(faces) for v in loop])
    away = cKDTree(template[border]).query(origin)[0] > 0.02
    out = (distance < reach) & away
    return out & out[body['mirror']]


def build(body_path: Path, out_path: Path, samples: int = 300, seed: int = 7) -> None:
    """Writes `out_path`: T-posed garments of random adults regressed on their betas, with rig weights."""
    with np.load(body_path) as z:
        body = {k: z[k] for k in z.files}
    base, groups = load_base()
    rig, mirror, people = Rig(groups), load_mirror(), Phenotypes(base)
    rng = np.random.default_rng(seed)
    dirs = body['shapedirs'].astype(float).reshape(-1, 10)
    solve = np.linalg.inv(dirs.T @ dirs) @ dirs.T
    faces = {name: triangles(groups[group]) for name, (group, _) in GARMENTS.items()}
    ids = {name: np.unique(f) for name, f in faces.items()}
    betas, shapes = np.zeros((samples, 10)), {name: [] for name in GARMENTS}
    for i in range(samples):
        posed, joints = to_tpose(people.vertices(sample_phenotype(rng)), rig)
        posed, _ = symmetrise(posed, joints, mirror)
        betas[i] = solve @ (posed[body['hm08_vertex']] - body['v_template']).ravel()
        for name in GARMENTS:
            shapes[name].append(posed[ids[name]])
    design = np.c_[np.ones(samples), betas]
    out = {}
    for name, (_, reach) in GARMENTS.items():
        y = np.array(shapes[name])
        coef = np.linalg.lstsq(design, y.reshape(samples, -1), rcond=None)[0]
        error = np.linalg.norm((design @ coef).reshape(y.shape) - y, axis=2).mean() * 1e3
        coef = coef.reshape(11, -1, 3)
        f = np.searchsorted(ids[name], faces[name])
        weights = rig.weights24[ids[name]]
        twin = np.searchsorted(ids[name], mirror[ids[name]])
        weights = 0.5 * (weights + weights[twin][:, MIRROR_JOINTS])
        top = np.argsort(-weights, 1)[:, :4]
        value = np.take_along_axis(weights, top, 1)
        covered = np.zeros(len(body['mirror']), bool)
        if name != 'hair':
            covered = covered_vertices(body, coef[0], f, reach)
        nearest = cKDTree(body['v_template']).query(coef[0])[1]
        if name in RIGID_ANCHOR:
            nearest[:] = RIGID_ANCHOR[name]
        for key, array in dict(
            v_template=coef[0].astype(np.float32),
            shapedirs=coef[1:].transpose(1, 2, 0).astype(np.float16),
            f=f.astype(np.uint16),
            weight_joint=top.astype(np.uint8),
            weight=(value / value.sum(1, keepdims=True)).astype(np.float16),
            nearest_body_vertex=nearest.astype(np.uint16),
            covered=np.packbits(covered),
        ).items():
            out[f'{name}/{key}'] = array
        print(
            f'{name}: {len(ids[name])} vertices, {len(f)} faces, shape residual {error:.1f} mm, '
            f'covers {covered.sum()} body vertices'
        )
    np.savez_compressed(out_path, **out)
