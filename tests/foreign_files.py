"""Readers of .glb and .bvh files that share nothing with the writers."""

import json
import struct

import numpy as np
from scipy.spatial.transform import Rotation


class Glb:
    """A .glb file, read with struct and json."""

    def __init__(self, path):
        data = path.read_bytes()
        magic, version, length = struct.unpack_from('<4sII', data)
        assert magic == b'glTF' and version == 2 and length == len(data)
        size, kind = struct.unpack_from('<I4s', data, 12)
        assert kind == b'JSON' and size % 4 == 0
        self.content = json.loads(data[20 : 20 + size])
        size_2, kind = struct.unpack_from('<I4s', data, 20 + size)
        assert kind == b'BIN\0' and 28 + size + size_2 == len(data)
        self.binary = data[28 + size :]
        assert self.content['buffers'] == [{'byteLength': len(self.binary)}]
        self.nodes = self.content['nodes']

    def array(self, number):
        accessor = self.content['accessors'][number]
        view = self.content['bufferViews'][accessor['bufferView']]
        kind = {5121: '<u1', 5125: '<u4', 5126: '<f4'}[accessor['componentType']]
        width = {'SCALAR': 1, 'VEC3': 3, 'VEC4': 4, 'MAT4': 16}[accessor['type']]
        count = accessor['count'] * width
        values = np.frombuffer(self.binary, kind, count, view['byteOffset']).reshape(-1, width)
        if 'min' in accessor:
            np.testing.assert_allclose(values.min(0), accessor['min'], rtol=1e-6)
            np.testing.assert_allclose(values.max(0), accessor['max'], rtol=1e-6)
        return values

    def named(self, name):
        (number,) = (k for k, node in enumerate(self.nodes) if node.get('name') == name)
        return number

    def channels(self):
        """Returns (node, path) -> seconds (T,), values (T, n)."""
        found = {}
        for animation in self.content.get('animations', []):
            for channel in animation['channels']:
                sampler = animation['samplers'][channel['sampler']]
                key = channel['target']['node'], channel['target']['path']
                found[key] = self.array(sampler['input'])[:, 0], self.array(sampler['output'])
        return found

    def matrices(self, channels, key):
        """Returns the world matrix of each node at key frame `key`; None: as the nodes stand."""

        def held(values, key):
            return values[min(key, len(values) - 1)]  # of people with fewer frames the last

        local = []
        for number, node in enumerate(self.nodes):
            place, turn = node.get('translation', (0, 0, 0)), node.get('rotation', (0, 0, 0, 1))
            if key is not None and (number, 'translation') in channels:
                place = held(channels[number, 'translation'][1], key)
            if key is not None and (number, 'rotation') in channels:
                turn = held(channels[number, 'rotation'][1], key)
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = Rotation.from_quat(turn).as_matrix(), place
            local.append(matrix)
        world = {}

        def walk(number, above):
            world[number] = above @ local[number]
            for child in self.nodes[number].get('children', []):
                walk(child, world[number])

        for root in self.content['scenes'][self.content['scene']]['nodes']:
            walk(root, np.eye(4))
        assert len(world) == len(self.nodes)
        return world

    def skin(self, name, channels, key):
        """Returns the joints (24, 3) and vertices (V, 3) of a person by linear skinning."""
        person = self.nodes[self.named(name)]
        skin = self.content['skins'][person['skin']]
        world = self.matrices(channels, key)
        inverse = self.array(skin['inverseBindMatrices']).reshape(-1, 4, 4).transpose(0, 2, 1)
        matrices = np.stack([world[joint] for joint in skin['joints']])
        attributes = self.content['meshes'][person['mesh']]['primitives'][0]['attributes']
        rest, joints, weights = (
            np.concatenate([self.array(attributes[name]) for name in sorted(attributes) if kind in name], 1)
            for kind in ('POSITION', 'JOINTS_', 'WEIGHTS_')
        )
        blended = np.einsum('vk,vkab->vab', weights, (matrices @ inverse)[joints])
        vertices = np.einsum('vab,vb->va', blended, np.pad(rest, ((0, 0), (0, 1)), constant_values=1))
        return matrices[:, :3, 3], vertices[:, :3]


def read_bvh(path):
    """Returns joint names, end sites (name of the joint above), world positions (T, n, 3), frame time."""
    head, motion_lines = path.read_text().split('MOTION\n')
    names, parents, offsets, channels, ends, stack = [], [], [], [], [], []
    for line in head.splitlines()[1:]:
        words = line.split()
        if words[0] in ('ROOT', 'JOINT', 'End'):
            if words[0] == 'End':
                ends.append(names[stack[-1]])
            names.append(words[1])
            parents.append(stack[-1] if stack else -1)
            offsets.append(None)
            channels.append([])
            stack.append(len(names) - 1)
        elif words[0] == 'OFFSET':
            offsets[stack[-1]] = np.array(words[1:], float)
        elif words[0] == 'CHANNELS':
            channels[stack[-1]] = words[2:]
            assert len(words) == 2 + int(words[1])
        elif words[0] == '}':
            stack.pop()
    frames, time, *rows = motion_lines.splitlines()
    values = np.array([row.split() for row in rows], float)
    assert int(frames.removeprefix('Frames:')) == len(values)
    at, worlds, places = 0, [], []
    for parent, offset, own in zip(parents, offsets, channels, strict=True):
        move = np.tile(offset, (len(values), 1))
        turn = np.tile(np.eye(3), (len(values), 1, 1))
        for channel in own:
            column, at = values[:, at], at + 1
            if channel.endswith('position'):
                move[:, 'XYZ'.index(channel[0])] += column
            else:
                turn = turn @ about(channel[0].lower(), column)
        if parent >= 0:
            move = places[parent] + np.einsum('tab,tb->ta', worlds[parent], move)
            turn = worlds[parent] @ turn
        worlds.append(turn)
        places.append(move)
    assert at == values.shape[1]
    return names, ends, np.stack(places, axis=1), float(time.removeprefix('Frame Time:'))


def about(axis, degrees):
    """Returns rotations (T, 3, 3) about an axis by degrees (T,)."""
    return Rotation.from_euler(axis, np.reshape(degrees, (-1, 1)), degrees=True).as_matrix()
