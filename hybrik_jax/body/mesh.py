"""Normals of a mesh; NumPy alone."""

import numpy as np


def vertex_normals(vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns outward unit normals (V, 3), area weighted; zero at vertices without a face.

    Args:
        vertices_m: (V, 3).
        faces: (F, 3) vertex numbers, counter-clockwise seen from outside.
    """
    corners = vertices_m[faces]
    of_face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices_m)
    np.add.at(normals, faces, of_face[:, None])
    return unit(normals)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns `vectors` (..., N) of length one; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
