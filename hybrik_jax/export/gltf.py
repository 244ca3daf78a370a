"""GLB, the binary form of glTF 2.0: skinned, animated people for Blender, game engines and browsers.

y up, metres, z towards the camera, which stands in the origin. Each person is one node with a mesh (the rest
pose is the template in the person's shape) and below it the 24 joints, posed as in the first frame; motions
of more than one frame are one animation, whose time 0 is frame 0 of the video: before and after a person's
own frames players hold the first and last. Each camera is a node.

What a file cannot say: SMPL's pose blend shapes, which glTF's linear skinning lacks, so that skin differs at
bent joints while the joints are exact; a principal point outside of the picture's middle, which is in the
camera's `extras`. Vertices of the free body follow up to six joints: the four that count most are in the
first set (JOINTS_0), and some players read no second one.

Source: Khronos, glTF 2.0 specification.
"""

import json
import math
import pathlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.body import skeleton, smpl
from hybrik_jax.body.mesh import vertex_normals
from hybrik_jax.ending import write_whole
from hybrik_jax.export import tracks
from hybrik_jax.types import Camera, Motion

_KINDS = {np.dtype(np.uint8): 5121, np.dtype(np.uint32): 5125, np.dtype(np.float32): 5126}
_SHAPES = {(): 'SCALAR', (3,): 'VEC3', (4,): 'VEC4', (4, 4): 'MAT4'}
_VERTICES, _INDICES = 34962, 34963  # what a buffer view is for
_SET = 4  # joints of a vertex in one attribute
_NEAR_M = 0.05
_SKIN_COLOUR = [0.48, 0.66, 0.90, 1.0]  # light blue


def write_glb(path: pathlib.Path, motions: Sequence[Motion], body: smpl.SMPL) -> None:
    """Writes all people of a video or photo, and its camera, as one .glb file.

    Raises:
        ValueError: there is nobody, or the motions are of another body model.
    """
    if not motions:
        raise ValueError(f'{path}: there is nobody to write.')
    file = _File()
    for motion in motions:
        _add_person(file, tracks.turned(motion, tracks.Y_UP), body)
    for camera in dict.fromkeys(motion.camera for motion in motions):
        _add_camera(file, camera)
    write_whole(pathlib.Path(path), file.glb())


class _File:
    """A glTF file that is being put together: its JSON, and the bytes that this points into."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.roots: list[int] = []
        matte = {'baseColorFactor': _SKIN_COLOUR, 'metallicFactor': 0.0, 'roughnessFactor': 0.8}
        self.content: dict[str, Any] = {
            'asset': {'version': '2.0', 'generator': 'hybrik_jax'},
            'scene': 0,
            'scenes': [{'nodes': self.roots}],
            'materials': [{'name': 'skin', 'pbrMetallicRoughness': matte}],
        }

    def add(self, what: str, item: dict[str, Any]) -> int:
        """Returns the number of a new item of the list `what`."""
        items = self.content.setdefault(what, [])
        items.append(item)
        return len(items) - 1

    def add_array(self, array: np.ndarray, target: int | None = None, *, bounds: bool = False) -> int:
        """Returns the number of the accessor of an array (N, ...), uint8, uint32 or float32.

        Args:
            target: what it is for, `_VERTICES` or `_INDICES`.
            bounds: say its least and largest values, which glTF wants of positions and times.
        """
        self.binary += bytes(-len(self.binary) % 4)
        view = {'buffer': 0, 'byteOffset': len(self.binary), 'byteLength': array.nbytes}
        if target is not None:
            view['target'] = target
        self.binary += np.ascontiguousarray(array, array.dtype.newbyteorder('<')).tobytes()
        accessor = {
            'bufferView': self.add('bufferViews', view),
            'componentType': _KINDS[array.dtype],
            'count': len(array),
            'type': _SHAPES[array.shape[1:]],
        }
        if bounds:
            columns = array.reshape(len(array), -1)
            accessor |= {'min': columns.min(0).tolist(), 'max': columns.max(0).tolist()}
        return self.add('accessors', accessor)

    def glb(self) -> bytes:
        """Returns the file: a header, a chunk of JSON, a chunk of bytes, all of whole words of four bytes."""
        binary = bytes(self.binary) + bytes(-len(self.binary) % 4)
        content = self.content | {'buffers': [{'byteLength': len(binary)}]}
        text = json.dumps(content, allow_nan=False, separators=(',', ':')).encode()
        text += b' ' * (-len(text) % 4)
        chunks = struct.pack('<I4s', len(text), b'JSON') + text
        chunks += struct.pack('<I4s', len(binary), b'BIN\0') + binary
        return struct.pack('<4sII', b'glTF', 2, 12 + len(chunks)) + chunks


def _add_person(file: _File, motion: Motion, body: smpl.SMPL) -> None:
    """Adds a person's mesh, skeleton and animation; the motion is y up."""
    rest_m = tracks.rest_skeleton(motion, body)[: skeleton.NUM_JOINTS]
    offsets_m = [rest_m[joint] - rest_m[max(parent, 0)] for joint, parent in enumerate(skeleton.PARENTS)]
    quaternions = _quaternions(motion.rotations)
    person = file.add('nodes', {'name': motion.name, 'extras': {'body_model': motion.body}})
    joints = []
    for joint, name in enumerate(skeleton.JOINT_NAMES):
        place_m = offsets_m[joint] if joint else motion.translation_m[0]
        pose = {'translation': place_m.tolist(), 'rotation': quaternions[0, joint].tolist()}
        joints.append(file.add('nodes', {'name': name} | pose))
    nodes = file.content['nodes']
    nodes[person] |= {'mesh': file.add('meshes', _mesh(file, motion, body)), 'children': joints[:1]}
    nodes[person]['extras']['betas'] = np.asarray(motion.betas, np.float64).tolist()
    for joint, parent in enumerate(skeleton.PARENTS[1:], start=1):
        nodes[joints[parent]].setdefault('children', []).append(joints[joint])
    file.roots.append(person)

    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    inverse_bind[:, 3, :3] = -rest_m  # column by column, as glTF stores matrices
    skin = {'joints': joints, 'inverseBindMatrices': file.add_array(inverse_bind)}
    nodes[person]['skin'] = file.add('skins', {'name': motion.name} | skin)
    if len(motion.frames) > 1:
        _add_animation(file, motion, quaternions, joints)


def _mesh(file: _File, motion: Motion, body: smpl.SMPL) -> dict[str, Any]:
    """Returns the mesh of the template in the person's shape, with the joints that each vertex follows."""
    directions = np.asarray(body.directions[: smpl.NUM_BETAS], np.float64)
    shaped_m = body.v_template + np.tensordot(motion.betas, directions, 1).T
    joints, weights = influences(np.asarray(body.weights))
    attributes = {
        'POSITION': file.add_array(shaped_m.astype(np.float32), _VERTICES, bounds=True),
        'NORMAL': file.add_array(vertex_normals(shaped_m, body.faces).astype(np.float32), _VERTICES),
    }
    for number in range(joints.shape[1] // _SET):
        part = slice(number * _SET, (number + 1) * _SET)
        attributes[f'JOINTS_{number}'] = file.add_array(joints[:, part].astype(np.uint8), _VERTICES)
        attributes[f'WEIGHTS_{number}'] = file.add_array(weights[:, part].astype(np.float32), _VERTICES)
    indices = file.add_array(np.asarray(body.faces, np.uint32).ravel(), _INDICES)
    return {
        'name': f'{motion.name}_mesh',
        'primitives': [{'attributes': attributes, 'indices': indices, 'material': 0}],
    }


def influences(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the joints that each vertex follows and their weights, both (V, 4 n), the largest first.

    Args:
        weights: (V, 24); rows of the result add up to one. A joint without weight is joint 0.
    """
    most = np.count_nonzero(weights, axis=1).max()
    joints = np.argsort(-weights, axis=1, kind='stable')[:, : _SET * math.ceil(most / _SET)]
    found = np.take_along_axis(weights, joints, axis=1).astype(np.float64)
    return np.where(found > 0, joints, 0), found / found.sum(1, keepdims=True)


def _add_animation(file: _File, motion: Motion, quaternions: np.ndarray, joints: Sequence[int]) -> None:
    """Adds the person's key frames to the one animation of the file."""
    if 'animations' not in file.content:
        file.add('animations', {'name': 'motion', 'samplers': [], 'channels': []})
    animation = file.content['animations'][0]
    seconds = file.add_array((motion.frames / motion.frame_rate).astype(np.float32), bounds=True)

    def add_channel(joint: int, path: str, values: np.ndarray) -> None:
        output = file.add_array(values.astype(np.float32))
        animation['samplers'].append({'input': seconds, 'output': output, 'interpolation': 'LINEAR'})
        target = {'node': joints[joint], 'path': path}
        animation['channels'].append({'sampler': len(animation['samplers']) - 1, 'target': target})

    add_channel(0, 'translation', motion.translation_m)
    for joint in range(skeleton.NUM_JOINTS):
        add_channel(joint, 'rotation', quaternions[:, joint])


def _quaternions(rotations: np.ndarray) -> np.ndarray:
    """Returns unit quaternions (T, 24, 4), (x, y, z, w), whose signs do not jump from frame to frame."""
    quaternions = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat().reshape(*rotations.shape[:2], 4)
    turns = np.sum(quaternions[1:] * quaternions[:-1], axis=-1, keepdims=True)
    quaternions[1:] *= np.cumprod(np.where(turns < 0, -1.0, 1.0), axis=0)
    return quaternions


def _add_camera(file: _File, camera: Camera) -> None:
    """Adds a camera in the origin, which looks along -z as glTF's do."""
    (width, height), (fx, fy) = camera.size, camera.focal
    perspective = {
        'yfov': 2 * math.atan(height / (2 * fy)),
        'aspectRatio': (width / fx) / (height / fy),
        'znear': _NEAR_M,
    }
    extras = {'focal_px': camera.focal, 'centre_px': camera.centre, 'size_px': camera.size}
    number = file.add('cameras', {'type': 'perspective', 'perspective': perspective, 'extras': extras})
    file.roots.append(file.add('nodes', {'name': f'camera_{number}', 'camera': number}))
