"""MakeHuman's 163-bone default rig reduced to SMPL's 24 joints, dual-quaternion skinning, and the T-pose."""

import numpy as np
from scipy.spatial.transform import Rotation

from tools.build_open_body.joints import JOINT, JOINT_NAMES, MIRROR_JOINTS, PARENTS
from tools.build_open_body.mpfb_assets import Groups, load_rig_weights

# default-rig bone -> SMPL joint; the right side is derived from the left
BONE_TO_JOINT = {
    'root': 'pelvis',
    'spine05': 'pelvis',
    'spine04': 'pelvis',
    'pelvis.L': 'pelvis',
    'spine03': 'spine1',
    'spine02': 'spine2',
    'breast.L': 'spine3',
    'spine01': 'spine3',
    'neck01': 'neck',
    'neck02': 'neck',
    'neck03': 'neck',
    'head': 'head',
    'clavicle.L': 'L_collar',
    'shoulder01.L': 'L_collar',
    'upperarm01.L': 'L_shoulder',
    'upperarm02.L': 'L_shoulder',
    'lowerarm01.L': 'L_elbow',
    'lowerarm02.L': 'L_elbow',
    'wrist.L': 'L_wrist',
    'upperleg01.L': 'L_hip',
    'upperleg02.L': 'L_hip',
    'lowerleg01.L': 'L_knee',
    'lowerleg02.L': 'L_knee',
    'foot.L': 'L_ankle',
}
# joint centre = mean of the centres of these helper cubes of base.obj
JOINT_CUBES = {
    'pelvis': ['joint-spine-4'],
    'spine1': ['joint-spine-3'],
    'spine2': ['joint-spine-2'],
    'spine3': ['joint-spine-1'],
    'neck': ['joint-neck'],
    'head': ['joint-head'],
    'L_hip': ['joint-l-upper-leg'],
    'L_knee': ['joint-l-knee'],
    'L_ankle': ['joint-l-ankle'],
    'L_foot': [f'joint-l-toe-{k}-1' for k in (1, 2, 3, 4)],
    'L_collar': ['joint-l-clavicle', 'joint-l-scapula'],
    'L_shoulder': ['joint-l-shoulder'],
    'L_elbow': ['joint-l-elbow'],
    'L_wrist': ['joint-l-hand'],
    'L_hand': ['joint-l-finger-3-1'],
}
HAND_CUBES = {'index': 'joint-l-finger-2-1', 'pinky': 'joint-l-finger-5-1', 'middle': 'joint-l-finger-3-1'}
# share of the twist that each split limb bone takes (the segment's own joint, or the wrist for the forearm)
UPPER_ARM_TWIST = {'upperarm01': 0.35, 'upperarm02': 1.0}
FOREARM_TWIST = {'lowerarm01': 0.3, 'lowerarm02': 0.75}
THIGH_TWIST = {'upperleg01': 0.35}


def bone_joint(bone: str) -> int:
    """Returns the index of the SMPL joint that drives a default-rig bone."""
    side = bone[-1] if bone[-2:] in ('.L', '.R') else ''
    left = bone[:-1] + 'L' if side else bone
    name = BONE_TO_JOINT.get(left)
    if name is None:
        for prefix, joint in (('finger', 'L_hand'), ('metacarpal', 'L_wrist'), ('toe', 'L_foot')):
            if left.startswith(prefix):
                name = joint
                break
        else:
            name = 'head'  # face, jaw, eyes, tongue
    return JOINT[name.replace('L_', 'R_') if side == 'R' else name]


class Rig:
    """Bones, weights and joint cubes of the base mesh."""

    def __init__(self, groups: Groups) -> None:
        self.cubes = {
            name: np.unique([i for f in faces for i in f])
            for name, faces in groups.items()
            if name.startswith('joint')
        }
        self.bones, self.weights = load_rig_weights()  # (19158, 163)
        self.joint_of_bone = np.array([bone_joint(b) for b in self.bones])
        self.weights24 = np.zeros((len(self.weights), 24))
        np.add.at(self.weights24.T, self.joint_of_bone, self.weights.T)

    def cube_centre(self, vertices: np.ndarray, names: list[str]) -> np.ndarray:
        """Returns the mean (3,) of the centres of the named cubes."""
        return np.mean([vertices[self.cubes[n]].mean(0) for n in names], 0)

    def joints(self, vertices: np.ndarray) -> np.ndarray:
        """Returns joint centres (24, 3) of base-mesh vertices (19158, 3)."""
        out = np.zeros((24, 3))
        for j, name in enumerate(JOINT_NAMES):
            right = name.startswith('R_')
            cubes = JOINT_CUBES['L_' + name[2:] if right else name]
            out[j] = self.cube_centre(vertices, [c.replace('-l-', '-r-') for c in cubes] if right else cubes)
        return out

    def hand_points(self, vertices: np.ndarray, side: str) -> dict[str, np.ndarray]:
        """Returns the centres (3,) of the knuckles 'index', 'middle' and 'pinky'."""
        return {
            k: self.cube_centre(vertices, [c.replace('-l-', f'-{side.lower()}-')])
            for k, c in HAND_CUBES.items()
        }


def unit(v: np.ndarray) -> np.ndarray:
    """Returns a vector of length 1 in the direction of v."""
    return v / np.linalg.norm(v)


def frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns orthonormal columns: `first`, `second` made orthogonal to it, and their cross product."""
    first = unit(first)
    second = unit(second - first * (first @ second))
    return np.stack([first, second, np.cross(first, second)], 1)


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the shortest rotation (3, 3) taking direction a to direction b."""
    a, b = unit(a), unit(b)
    v, c = np.cross(a, b), a @ b
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """Returns quaternions (n, 4), w first, of rotations (n, 3, 3)."""
    return np.roll(Rotation.from_matrix(matrices).as_quat(), 1, axis=-1)


def twist_about(matrix: np.ndarray, axis: np.ndarray) -> float:
    """Returns the angle of the twist about the unit `axis` in matrix = swing * twist."""
    q = quaternions(matrix[None])[0]
    angle = 2 * np.arctan2(q[1:] @ axis, q[0])
    return (angle + np.pi) % (2 * np.pi) - np.pi


def quaternion_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns products (..., 4) of quaternions (w, x, y, z)."""
    w1, x1, y1, z1 = np.moveaxis(a, -1, 0)
    w2, x2, y2, z2 = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        -1,
    )


def dual_quaternion_skin(
    vertices: np.ndarray, weights: np.ndarray, rotations: np.ndarray, translations: np.ndarray
) -> np.ndarray:
    """Returns vertices (n, 3) under weights (n, b) and motions x -> R x + t, R (b, 3, 3), t (b, 3)."""
    q = quaternions(rotations)
    dual = 0.5 * quaternion_product(np.concatenate([np.zeros((len(q), 1)), translations], 1), q)
    sign = np.where(q[weights.argmax(1)] @ q.T < 0, -1.0, 1.0)  # shortest way round, per vertex
    w = weights * sign
    real, dual = w @ q, w @ dual
    norm = np.linalg.norm(real, axis=1, keepdims=True)
    real, dual = real / norm, dual / norm
    s, u, sd, ud = real[:, :1], real[:, 1:], dual[:, :1], dual[:, 1:]
    rotated = vertices + 2 * np.cross(u, np.cross(u, vertices) + s * vertices)
    return rotated + 2 * (s * ud - sd * u + np.cross(u, ud))


def rotation_z(degrees: float) -> np.ndarray:
    """Returns the rotation (3, 3) about the z axis."""
    return Rotation.from_euler('z', degrees, degrees=True).as_matrix()


def tpose_rotations(
    joints: np.ndarray, hands: dict[str, dict[str, np.ndarray]], clavicle_degrees: float = 9.0
) -> np.ndarray:
    """Returns global rotations (24, 3, 3) from MakeHuman's rest (arms at about 45 degrees) to the T-pose."""
    out = np.tile(np.eye(3), (24, 1, 1))
    for side, s in (('L', 1.0), ('R', -1.0)):
        at = {k: joints[JOINT[f'{side}_{k}']] for k in ('hip', 'knee', 'ankle', 'shoulder', 'elbow', 'wrist')}

        def put(joint: str, matrix: np.ndarray, side: str = side) -> None:
            out[JOINT[f'{side}_{joint}']] = matrix

        put('hip', rotation_between(at['knee'] - at['hip'], np.array([s * -0.015, -1, -0.01])))
        put('knee', rotation_between(at['ankle'] - at['knee'], np.array([s * -0.035, -1, -0.10])))
        foot = Rotation.from_euler('y', s * 10, degrees=True).as_matrix()
        put('ankle', foot)
        put('foot', foot)
        put('collar', rotation_z(s * clavicle_degrees))
        upper, lower = at['elbow'] - at['shoulder'], at['wrist'] - at['elbow']
        hinge = np.cross(upper, lower)  # the elbow's axis becomes vertical
        straight = frame(np.array([s, 0, 0]), np.array([0, -s, 0]))
        put('shoulder', straight @ frame(upper, hinge).T)
        put('elbow', straight @ frame(lower, hinge).T)
        palm = frame(hands[side]['middle'] - at['wrist'], hands[side]['index'] - hands[side]['pinky'])
        hand = frame(np.array([s, 0, 0]), np.array([0, 0, 1.0])) @ palm.T
        put('wrist', hand)
        put('hand', hand)
    return out


def place_joints(rotations: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Returns joint positions (24, 3) after global rotations (24, 3, 3), pelvis at the origin."""
    out = np.zeros((24, 3))
    for j in range(1, 24):
        out[j] = out[PARENTS[j]] + rotations[PARENTS[j]] @ (joints[j] - joints[PARENTS[j]])
    return out


def to_tpose(vertices: np.ndarray, rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """Returns base vertices (19158, 3) and joints (24, 3) brought from MakeHuman's rest pose to the T-pose.

    Mirror-symmetric up to rounding; the roll of wrist and shoulder is spread over the split limb bones.
    """
    joints = rig.joints(vertices)
    hands = {s: rig.hand_points(vertices, s) for s in 'LR'}
    target = tpose_rotations(joints, hands)
    placed = place_joints(target, joints)
    rotations = target[rig.joint_of_bone].copy()
    for side, s in (('L', 1.0), ('R', -1.0)):
        elbow, wrist, shoulder, collar = (
            JOINT[f'{side}_{k}'] for k in ('elbow', 'wrist', 'shoulder', 'collar')
        )
        axis = np.array([s, 0, 0])
        no_roll = rotation_between(target[collar] @ (joints[elbow] - joints[shoulder]), axis) @ target[collar]
        for start, end, shares in (
            (no_roll, target[shoulder], UPPER_ARM_TWIST),
            (target[elbow], target[wrist], FOREARM_TWIST),
        ):
            roll = twist_about(end @ start.T, axis)
            for bone, share in shares.items():
                rotations[rig.bones.index(f'{bone}.{side}')] = (
                    Rotation.from_rotvec(axis * roll * share).as_matrix() @ start
                )
    translations = placed[rig.joint_of_bone] - np.einsum('bij,bj->bi', rotations, joints[rig.joint_of_bone])
    return dual_quaternion_skin(vertices, rig.weights, rotations, translations), placed


def symmetrise(vertices: np.ndarray, joints: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns T-posed vertices (n, 3) and joints (24, 3), averaged with their mirror images."""
    flip = np.array([-1.0, 1.0, 1.0])
    return 0.5 * (vertices + vertices[mirror] * flip), 0.5 * (joints + joints[MIRROR_JOINTS] * flip)
