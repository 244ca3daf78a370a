"""The open body and its garments, posed with numpy and scipy.sparse, so that worker processes need no jax.

Model space: metres, x to the person's left, y up, z forward; the rest pose is a T-pose.
"""

import json
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

from hybrik_jax.body.skeleton import PARENTS, RELEVANT_CHILD_29

ASSETS = Path(__file__).parents[1] / 'assets'


def to_matrices(pose: np.ndarray) -> np.ndarray:
    """Returns rotation matrices (..., 3, 3) of axis-angle vectors (..., 3), radians."""
    return Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(pose.shape[:-1] + (3, 3))


def to_axis_angle(matrices: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (..., 3), radians, of rotation matrices (..., 3, 3)."""
    return Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec().reshape(matrices.shape[:-1])


def forward_kinematics(rotations: np.ndarray, rest_joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns world rotations (..., 24, 3, 3) and joints (..., 24, 3), metres.

    Args:
        rotations: (..., 24, 3, 3) relative to the parent.
        rest_joints: (24, 3) or (..., 24, 3), metres.
    """
    rest_joints = np.broadcast_to(rest_joints, rotations.shape[:-2] + (3,))
    world = np.empty_like(rotations)
    position = np.empty(rotations.shape[:-2] + (3,), rotations.dtype)
    world[..., 0, :, :], position[..., 0, :] = rotations[..., 0, :, :], rest_joints[..., 0, :]
    for j in range(1, 24):
        p = PARENTS[j]
        world[..., j, :, :] = world[..., p, :, :] @ rotations[..., j, :, :]
        bone = rest_joints[..., j, :] - rest_joints[..., p, :]
        position[..., j, :] = position[..., p, :] + (world[..., p, :, :] @ bone[..., None])[..., 0]
    return world, position


def twist_angles(rotations: np.ndarray, rest_points: np.ndarray) -> np.ndarray:
    """Returns twists (23,), radians in (-pi, pi], of joints 1..23 about their own rest bone.

    R = swing @ twist, where swing is the smallest rotation that takes the bone t to R t. The twist is then
    the part of R's quaternion along t, because the axis of that swing is perpendicular to t.

    Args:
        rotations: (24, 3, 3) relative to the parent.
        rest_points: (29, 3) rest joints and leaf points, metres.
    Source: HybrIK (Li et al. 2021), section 3.2; bones as in a skeleton of 29 joints.
    """
    axis = rest_points[list(RELEVANT_CHILD_29[1:24])] - rest_points[1:24]
    axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    q = Rotation.from_matrix(rotations[1:]).as_quat()  # x, y, z, w
    angle = 2 * np.arctan2((q[:, :3] * axis).sum(1), q[:, 3])
    return np.pi - (np.pi - angle) % (2 * np.pi)


class Surface:
    """A skinned triangle surface that shares the body's betas and pose.

    template: (n, 3) metres.
    shapedirs: (n, 3, 10).
    posedirs: sparse (3n, 207).
    weights: sparse (n, 24).
    faces: (m, 3).
    """

    def __init__(
        self,
        template: np.ndarray,
        shapedirs: np.ndarray,
        posedirs: sparse.csr_matrix,
        weights: sparse.csr_matrix,
        faces: np.ndarray,
    ) -> None:
        self.template = template.astype(np.float32)
        self.shapedirs = shapedirs.astype(np.float32)
        self.posedirs = sparse.csr_matrix(posedirs, dtype=np.float32)
        self.weights = sparse.csr_matrix(weights, dtype=np.float32)
        self.faces = faces.astype(np.int32)
        self.around = corner_matrix(len(template), self.faces)

    def pose(
        self, betas: np.ndarray, rotations: np.ndarray, world: np.ndarray, shift: np.ndarray
    ) -> np.ndarray:
        """Returns posed vertices (n, 3), metres.

        Args:
            betas: (10,).
            rotations, world: (24, 3, 3) local and world rotations.
            shift: (24, 3) posed joint - world @ rest joint.
        """
        v = self.template + self.shapedirs @ betas
        v += (self.posedirs @ (rotations[1:] - np.eye(3, dtype=np.float32)).ravel()).reshape(-1, 3)
        motion = np.concatenate([world, shift[:, :, None]], 2).reshape(24, 12)
        motion = (self.weights @ motion).reshape(-1, 3, 4)
        return np.einsum('vab,vb->va', motion[:, :, :3], v) + motion[:, :, 3]

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Returns unit vertex normals (n, 3), area weighted."""
        a, b, c = (vertices.take(self.faces[:, k], 0) for k in range(3))
        n = self.around @ cross(b - a, c - a)
        return n / np.maximum(np.sqrt(np.einsum('vc,vc->v', n, n)), 1e-12)[:, None]


def corner_matrix(num_vertices: int, faces: np.ndarray) -> sparse.csr_matrix:
    """Returns a sparse 0/1 matrix (num_vertices, m): row v sums over the faces (m, 3) around vertex v."""
    column = np.repeat(np.arange(len(faces)), 3)
    ones = np.ones(3 * len(faces), np.float32)
    return sparse.csr_matrix((ones, (faces.ravel(), column)), (num_vertices, len(faces)))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns cross products (n, 3) of the rows of two arrays (faster than numpy.cross)."""
    out = np.empty_like(a)
    out[:, 0] = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    out[:, 1] = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    out[:, 2] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return out


class PosedBody:
    """The body model, ready to pose.

    surface: of the body.
    leaf: (5,) vertex ids.
    h36m: sparse (17, n) regressor.
    point: semantic name -> vertex id.
    """

    def __init__(self, path: Path = ASSETS / 'open_body.npz') -> None:
        with np.load(path) as file:
            m = {k: file[k] for k in file.files}
        n = len(m['v_template'])
        self.posedirs = m['posedirs'].astype(np.float32)  # (n, 3, 207), 98 % zeros
        posedirs = sparse.csr_matrix(self.posedirs.reshape(3 * n, 207))
        self.surface = Surface(m['v_template'], m['shapedirs'], posedirs, m['weights'], m['f'])
        regressor = sparse.csr_matrix(m['J_regressor'])
        self.leaf = m['leaf_vertices']
        self.rest = np.concatenate([regressor @ m['v_template'], m['v_template'][self.leaf]]).astype(
            np.float32
        )
        dirs = m['shapedirs'].astype(np.float32).reshape(n, -1)
        self.rest_dirs = (
            np.concatenate([regressor @ dirs, dirs[self.leaf]]).reshape(29, 3, -1).astype(np.float32)
        )
        self.h36m = sparse.csr_matrix(m['J_regressor_h36m'].astype(np.float32))
        self.point = json.loads(str(m['semantic_vertices']))

    def rest_points(self, betas: np.ndarray) -> np.ndarray:
        """Returns rest joints and leaf points (29, 3), metres, of the shape betas (10,)."""
        return self.rest + self.rest_dirs @ betas

    def skeleton(self, betas: np.ndarray, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns world rotations (24, 3, 3), joints and skinning shifts (24, 3) of rotations (24, 3, 3)."""
        rest = self.rest_points(betas)[:24]
        world, joints = forward_kinematics(rotations.astype(np.float32), rest)
        return world, joints, joints - np.einsum('jab,jb->ja', world, rest)

    def garments(self, path: Path = ASSETS / 'garments.npz') -> dict[str, tuple[Surface, np.ndarray]]:
        """Returns {name: (Surface, covered)}; covered (n,) bool marks the body vertices under the garment.

        A garment's vertex borrows the posedirs of the nearest body vertex.
        """
        out = {}
        with np.load(path) as file:
            for name in sorted({key.split('/')[0] for key in file.files}):
                g = {key.split('/')[1]: file[key] for key in file.files if key.startswith(name + '/')}
                n = len(g['v_template'])
                rows = np.repeat(np.arange(n), g['weight_joint'].shape[1])
                weight = g['weight'].astype(np.float32).ravel()
                weights = sparse.csr_matrix((weight, (rows, g['weight_joint'].ravel())), (n, 24))
                posedirs = self.posedirs[g['nearest_body_vertex']].reshape(3 * n, 207)
                surface = Surface(g['v_template'], g['shapedirs'], posedirs, weights, g['f'])
                out[name] = (surface, np.unpackbits(g['covered'])[: len(self.surface.template)].astype(bool))
        return out
