"""OBJ and PLY, the posed meshes of one frame, for every program that shows meshes.

Metres, y up, z towards the camera, which stands in the origin. The vertices are the model's own, pose blend
shapes included. Of motions with more than one frame it is the earliest; `tracks.at_frame` chooses another.
"""

import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import smpl
from hybrik_jax.ending import write_whole
from hybrik_jax.export import tracks
from hybrik_jax.types import Motion

_skin = jax.jit(smpl.skin)


def write_obj(path: pathlib.Path, motions: Sequence[Motion], body: smpl.SMPL) -> None:
    """Writes everybody as an object of one .obj file, text.

    Raises:
        ValueError: there is nobody, or the motions are of another body model.
    """
    lines, before = ['# metres, y up'], 1  # vertices count from one
    for motion, vertices_m in _people(motions, body):
        lines.append(f'o {motion.name}')
        lines += [f'v {x:.6f} {y:.6f} {z:.6f}' for x, y, z in vertices_m.tolist()]
        lines += [f'f {a} {b} {c}' for a, b, c in (np.asarray(body.faces) + before).tolist()]
        before += len(vertices_m)
    write_whole(pathlib.Path(path), '\n'.join(lines) + '\n')


def write_ply(path: pathlib.Path, motions: Sequence[Motion], body: smpl.SMPL) -> None:
    """Writes everybody's mesh as one mesh of a binary .ply file.

    Raises:
        ValueError: there is nobody, or the motions are of another body model.
    """
    meshes = [vertices_m for _, vertices_m in _people(motions, body)]
    vertices_m = np.concatenate(meshes).astype('<f4')
    faces = np.empty((len(meshes), len(body.faces)), [('count', 'u1'), ('vertices', '<i4', 3)])
    faces['count'] = 3
    starts = np.arange(len(meshes)) * len(body.v_template)
    faces['vertices'] = np.asarray(body.faces) + starts[:, None, None]
    header = ['ply', 'format binary_little_endian 1.0', 'comment metres, y up']
    header += [f'element vertex {len(vertices_m)}', *(f'property float {axis}' for axis in 'xyz')]
    header += [f'element face {faces.size}', 'property list uchar int vertex_indices', 'end_header', '']
    write_whole(pathlib.Path(path), '\n'.join(header).encode() + vertices_m.tobytes() + faces.tobytes())


def _people(motions: Sequence[Motion], body: smpl.SMPL) -> list[tuple[Motion, np.ndarray]]:
    """Returns those who are there in the earliest frame, each with the vertices (V, 3), y up."""
    people = []
    for motion in tracks.at_frame(motions, min((motion.frames[0] for motion in motions), default=0)):
        smpl.check_same_body(body, motion.body, f'The motion of {motion.name}')
        motion = tracks.turned(motion, tracks.Y_UP)
        rotations = jnp.asarray(motion.rotations[0], jnp.float32)
        skinned = _skin(body, jnp.asarray(motion.betas, jnp.float32), rotations)
        people.append((motion, np.asarray(skinned.vertices - skinned.joints[0]) + motion.translation_m[0]))
    return people
