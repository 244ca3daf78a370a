"""Plausible human poses from anatomical joint angles: archetypes, mixed, perturbed, limited and balanced.

No motion capture is used. A pose is first described by 8 midline and 2 x 17 side angles in degrees (see
DOFS): archetypes of legs, trunk and arms, or one of a whole body (lying, crawling, a handstand), plus
correlated noise, clipped to joint limits with couplings. It is then converted to SMPL's axis-angle, stood on
its feet (soles levelled, centre of mass over the support) and dropped if limbs run through each other.

The file has axis_angle (n, 24, 3) float16, mirrored twins in the second half, and kind (n,), names of the
archetypes.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.synthetic.posed_body import forward_kinematics, to_axis_angle, to_matrices
from tools.build_open_body.joints import JOINT, mirror_pose

# Name -> lowest, highest, everyday standard deviation, degrees; beside it where positive angles lead.
MIDLINE = {
    'root_pitch': (-180, 180, 3),  # forward
    'root_roll': (-180, 180, 2.5),  # to the left
    'spine_flex': (-35, 80, 6),
    'spine_side': (-40, 40, 5),
    'spine_twist': (-50, 50, 7),
    'neck_flex': (-50, 45, 9),
    'neck_side': (-32, 32, 5),
    'neck_twist': (-75, 75, 16),
}
SIDED = {
    'hip_flex': (-28, 130, 6),  # forward
    'hip_abd': (-28, 60, 4),  # out
    'hip_rot': (-38, 50, 7),  # external
    'knee': (0, 148, 6),
    'ankle': (-48, 32, 5),  # toes up
    'foot_inv': (-12, 18, 3),
    'toe': (-15, 45, 4),  # up
    'clav_up': (-8, 14, 3),
    'clav_fwd': (-14, 16, 4),
    'arm_flex': (-55, 178, 9),  # forward
    'arm_abd': (-50, 178, 8),  # out
    'arm_rot': (-65, 85, 12),  # internal
    'elbow': (0, 148, 12),
    'pron': (-75, 80, 16),  # palm turned down or back
    'wrist_flex': (-60, 65, 9),
    'wrist_dev': (-18, 22, 5),
    'curl': (-5, 75, 9),
}
DOFS = [*MIDLINE, *(f'{side}_{name}' for side in 'LR' for name in SIDED)]
INDEX = {name: i for i, name in enumerate(DOFS)}
LOW, HIGH, SPREAD = np.array([*MIDLINE.values(), *SIDED.values(), *SIDED.values()], float).T
SPINE_SHARES = ((JOINT['spine1'], 0.38), (JOINT['spine2'], 0.34), (JOINT['spine3'], 0.28))
NECK_SHARES = ((JOINT['neck'], 0.5), (JOINT['head'], 0.5))

Angles = dict[str, float]
with open(Path(__file__).with_name('archetypes.toml'), 'rb') as _file:
    ARCHETYPES = tomllib.load(_file)  # part of the body -> name -> weight and angles


def pick(rng: np.random.Generator, part: str) -> tuple[str, Angles]:
    """Returns name and angles of a random archetype of a part of the body, by weight."""
    table = ARCHETYPES[part]
    names = list(table)
    weights = np.array([table[name]['weight'] for name in names], float)
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    return name, {key: value for key, value in table[name].items() if key != 'weight'}


def add_angles(target: np.ndarray, angles: Angles, scale: float = 1.0, sides: str = 'LR') -> None:
    """Adds archetype angles times scale to `target` (len(DOFS),); plain side names go to `sides`."""
    explicit = {k for k in angles if k[:2] in ('L_', 'R_')}
    for key, value in angles.items():
        if key in INDEX:
            target[INDEX[key]] += scale * value
        else:
            for s in sides:
                if f'{s}_{key}' not in explicit:
                    target[INDEX[f'{s}_{key}']] += scale * value


def swap_sides(vector: np.ndarray) -> np.ndarray:
    """Mirrors a DOF vector (len(DOFS),): sides change places, sideways midline angles change sign."""
    out = vector.copy()
    m, n = len(MIDLINE), len(SIDED)
    out[m : m + n], out[m + n :] = vector[m + n :], vector[m : m + n]
    for name in ('root_roll', 'spine_side', 'spine_twist', 'neck_side', 'neck_twist'):
        out[INDEX[name]] *= -1
    return out


def gait_angles(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Returns angles (len(DOFS),) of a random moment of a walking or running cycle."""
    g, out = ARCHETYPES['gait'][kind], np.zeros(len(DOFS))
    phase, gain = rng.random(), rng.uniform(0.6, 1.25)
    for side, shift in (('L', 0.0), ('R', 0.5)):
        t = ((phase + shift) % 1) * 8

        def at(curve: Sequence[float], t: float = t) -> float:
            return np.interp(t, np.arange(9), np.append(curve, curve[0]))

        swing = np.cos(2 * np.pi * (t / 8 - 0.02))  # +1 when this leg is in front: the arm goes back
        add_angles(
            out,
            dict(
                hip_flex=gain * at(g['hip']),
                knee=gain * at(g['knee']),
                ankle=at(g['ankle']),
                hip_abd=1,
                hip_rot=4,
                arm_flex=-gain * g['arm'] * swing + 4,
                elbow=g['elbow'] + gain * 12 * (1 - swing),
                arm_abd=8,
                pron=16,
                curl=20 if kind == 'walk' else 55,
            ),
            sides=side,
        )
        out[INDEX['spine_twist']] += (4 if side == 'L' else -4) * swing * gain
    out[INDEX['root_pitch']] += g['lean']
    return out


def noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Returns correlated noise (len(DOFS),): half of a side's deviation is shared with the other side."""
    m, n = len(MIDLINE), len(SIDED)
    z, common = rng.normal(size=len(DOFS)), rng.normal(size=n)
    z[m : m + n], z[m + n :] = (0.7 * z[m : m + n] + 0.7 * common), (0.7 * z[m + n :] + 0.7 * common)
    return scale * SPREAD * z


def add_arms(rng: np.random.Generator, target: np.ndarray) -> str:
    """Adds arms, drawn together or one by one, to `target` (len(DOFS),) and returns their name."""
    if rng.random() < 0.36:
        name, angles = pick(rng, 'arms')
        add_angles(target, angles)
        return name
    names = []
    same = rng.random() < 0.25
    for side in 'LR':
        if not (same and names):
            name, angles = pick(rng, 'arm')
        add_angles(target, angles, sides=side)
        names.append(name)
    return '+'.join(names)


def draw(rng: np.random.Generator) -> tuple[np.ndarray, str, str]:
    """Returns a random DOF vector (len(DOFS),), degrees, its support ('feet' or 'free') and name."""
    v, support, kind = np.zeros(len(DOFS)), 'feet', rng.random()
    if kind < 0.12:
        name, angles = pick(rng, 'whole')
        add_angles(v, angles)
        if rng.random() < 0.3:  # part of the way towards another arm position
            arms = np.zeros(len(DOFS))
            add_arms(rng, arms)
            v += rng.uniform(0.2, 0.6) * arms
        support, scale = 'free', 1.2
    elif kind < 0.27:
        name = rng.choice(['walk', 'walk', 'run'])
        v += gait_angles(rng, name)
        if rng.random() < 0.3:  # walking while doing something with the arms
            moving = ('arm_flex', 'arm_abd', 'elbow', 'pron', 'curl')
            v[[INDEX[f'{side}_{angle}'] for side in 'LR' for angle in moving]] *= 0.2
            name += '/' + add_arms(rng, v)
        support, scale = ('feet' if name[0] == 'w' else 'free'), 0.8
    else:
        part, support = ('legs', 'feet') if kind < 0.76 else ('legs_free', 'free')
        legs, angles = pick(rng, part)
        if rng.random() < 0.25:  # between two leg archetypes of the same table
            _, other = pick(rng, part)
            t = rng.uniform(0.15, 0.6)
            add_angles(v, angles, 1 - t)
            add_angles(v, other, t)
        else:
            add_angles(v, angles, rng.uniform(0.75, 1.1))
        if rng.random() < 0.5:
            v = swap_sides(v)
        extra = np.zeros(len(DOFS))
        trunk, angles = pick(rng, 'trunk')
        add_angles(extra, angles, rng.uniform(0.4, 1.1))
        v += swap_sides(extra) if rng.random() < 0.5 else extra
        arms = np.zeros(len(DOFS))
        name = legs + '/' + trunk + '/' + add_arms(rng, arms)
        v += swap_sides(arms) if rng.random() < 0.5 else arms
        scale = 1.0
    v += noise(rng, scale * rng.choice([0.7, 1.0, 1.6], p=[0.4, 0.4, 0.2]))
    if rng.random() < 0.12:  # a few angles anywhere inside their limits
        for i in rng.choice(np.arange(2, len(DOFS)), 3, replace=False):
            v[i] = 0.5 * v[i] + 0.5 * rng.uniform(LOW[i], HIGH[i])
    return limit(v), support, name


def limit(v: np.ndarray) -> np.ndarray:
    """Returns DOF vectors (..., len(DOFS)) within the joint limits and the couplings between joints."""
    v = np.clip(v, LOW, HIGH)

    def col(name: str) -> np.ndarray:
        return v[..., INDEX[name]]

    def put(name: str, value: np.ndarray) -> None:
        v[..., INDEX[name]] = value

    for s in 'LR':
        flex, abd = col(f'{s}_hip_flex'), col(f'{s}_hip_abd')
        put(f'{s}_hip_abd', np.clip(abd, -28, np.where(flex < 0, 45, 60)))
        put(
            f'{s}_knee',
            np.maximum(col(f'{s}_knee'), 0.9 * (flex - 0.4 * np.maximum(col('spine_flex'), 0) - 88)),
        )  # hamstrings
        flex, abd = col(f'{s}_arm_flex'), col(f'{s}_arm_abd')
        swing = np.hypot(flex, abd)
        shrink = np.minimum(1, 174 / np.maximum(swing, 1))  # the arm cannot pass beyond straight up
        put(f'{s}_arm_flex', flex * shrink)
        put(f'{s}_arm_abd', abd * shrink)
        room = np.interp(swing * shrink, [0, 90, 175], [1.0, 0.9, 0.4])  # a raised arm rotates less
        put(f'{s}_arm_rot', np.clip(col(f'{s}_arm_rot'), -65 * room, 85 * room))
    put('spine_twist', col('spine_twist') * np.interp(col('spine_flex'), [0, 80], [1, 0.6]))
    return v


def axis_rotation(axis: str, degrees: np.ndarray) -> Rotation:
    """Rotations by degrees (n,) about a coordinate axis."""
    return Rotation.from_euler(axis, np.asarray(degrees)[:, None], degrees=True)


def trunk_rotation(flex: np.ndarray, side: np.ndarray, twist: np.ndarray) -> Rotation:
    """Returns flexion forward, bend and turn to the left (degrees) as one exponential map."""
    return Rotation.from_rotvec(np.deg2rad(np.stack([flex, twist, -side], -1)))


def to_pose(v: np.ndarray) -> np.ndarray:
    """Returns axis-angle poses (n, 24, 3) of DOF vectors (n, len(DOFS)) in degrees."""
    v = np.atleast_2d(v)

    def col(name: str) -> np.ndarray:
        return v[:, INDEX[name]]

    pose, zero = np.zeros((len(v), 24, 3)), np.zeros(len(v))
    root = axis_rotation('x', col('root_pitch')) * axis_rotation('z', -col('root_roll'))
    pose[:, 0] = root.as_rotvec()
    for shares, part in ((SPINE_SHARES, 'spine'), (NECK_SHARES, 'neck')):
        for joint, share in shares:
            pose[:, joint] = trunk_rotation(
                *(share * col(f'{part}_{k}') for k in ('flex', 'side', 'twist'))
            ).as_rotvec()
    for s in 'LR':  # written for the left side, mirrored for the right

        def get(name: str, s: str = s) -> np.ndarray:
            return col(f'{s}_{name}')

        flip = np.array([1.0, 1.0, 1.0] if s == 'L' else [1.0, -1.0, -1.0])

        def put(joint: str, rotation: Rotation, s: str = s, flip: np.ndarray = flip) -> None:
            pose[:, JOINT[f'{s}_{joint}']] = rotation.as_rotvec() * flip

        def swing(flex: np.ndarray, abd: np.ndarray) -> Rotation:
            return Rotation.from_rotvec(np.deg2rad(np.stack([-flex, zero, abd], 1)))

        put('hip', swing(get('hip_flex'), get('hip_abd')) * axis_rotation('y', get('hip_rot')))
        put('knee', axis_rotation('x', get('knee')))
        put('ankle', axis_rotation('x', -get('ankle')) * axis_rotation('z', -get('foot_inv')))
        put('foot', axis_rotation('x', -get('toe')))
        flex, abd = get('arm_flex'), get('arm_abd')
        raised = np.hypot(flex, abd)  # shoulder rhythm: the collar bone follows the arm
        up = get('clav_up') + 0.20 * np.clip(raised - 30, 0, 120)
        forward = get('clav_fwd') + 0.10 * np.clip(flex, -40, 90) - 0.10 * np.clip(abd, -50, 0)
        collar = axis_rotation('y', -forward) * axis_rotation('z', up)
        arm = swing(flex, abd) * axis_rotation('z', zero - 90) * axis_rotation('x', get('arm_rot'))
        put('collar', collar)
        put('shoulder', collar.inv() * arm)
        put('elbow', axis_rotation('y', -get('elbow')) * axis_rotation('x', 0.4 * get('pron')))
        put(
            'wrist',
            axis_rotation('x', 0.6 * get('pron'))
            * axis_rotation('y', -get('wrist_dev'))
            * axis_rotation('z', -get('wrist_flex')),
        )
        put('hand', axis_rotation('z', -get('curl')))
    return pose


LIMBS = ((1, 4, 0.10), (4, 7, 0.045), (7, 10, 0.015), (16, 18, 0.028), (18, 20, 0.025))
# Joint, joint, share of the body mass.
SEGMENTS = [
    (0, 6, 0.20),
    (6, 12, 0.26),
    (12, 15, 0.08),
    *((a + s, b + s, m) for s in (0, 1) for a, b, m in LIMBS),
]


def support_weights(joints: np.ndarray) -> np.ndarray:
    """Returns weights (n, 4) of [L ankle, R ankle, L ball, R ball] as ground contacts, from their heights."""
    height = joints[:, [7, 8, 10, 11], 1] - np.array([0.075, 0.075, 0.02, 0.02])
    w = np.exp(-np.clip(height - height.min(1, keepdims=True), 0, None) / 0.035)
    return w / w.sum(1, keepdims=True)


def stand_on_feet(pose: np.ndarray, rest_joints: np.ndarray, rounds: int = 4) -> np.ndarray:
    """Levels the soles of supporting feet and leans the root until the centre of mass is over the support.

    Args:
        pose: (n, 24, 3) axis-angle; ankles are turned by at most 30 degrees.
        rest_joints: (24, 3).
    """
    rotations = to_matrices(pose)
    for _ in range(rounds):
        world, joints = forward_kinematics(rotations, rest_joints)
        weight = support_weights(joints)
        for k, (knee, ankle) in enumerate(((4, 7), (5, 8))):
            contact = weight[:, k] + weight[:, k + 2] > 0.35
            forward = world[:, ankle, :, 2] * [1, 0, 1]  # heading of the foot on the ground
            level = axis_rotation('y', np.rad2deg(np.arctan2(forward[:, 0], forward[:, 2]))).as_matrix()
            wanted = Rotation.from_matrix(np.swapaxes(world[:, knee], 1, 2) @ level).as_rotvec()
            size = np.linalg.norm(wanted, axis=1, keepdims=True)
            wanted *= np.minimum(1, np.deg2rad(30) / np.maximum(size, 1e-6))
            rotations[contact, ankle] = Rotation.from_rotvec(wanted[contact]).as_matrix()
        world, joints = forward_kinematics(rotations, rest_joints)
        weight = support_weights(joints)
        feet = np.einsum('nk,nkc->nc', weight, joints[:, [7, 8, 10, 11]])
        mass = sum(m * 0.5 * (joints[:, a] + joints[:, b]) for a, b, m in SEGMENTS) / sum(
            m for *_, m in SEGMENTS
        )
        arm = mass - feet
        lean = 0.9 * np.arctan2(arm[:, [0, 2]], np.maximum(arm[:, 1:2], 0.2))
        fix = Rotation.from_rotvec(np.stack([-lean[:, 1], np.zeros(len(pose)), lean[:, 0]], 1)).as_matrix()
        rotations[:, 0] = fix @ rotations[:, 0]
    return to_axis_angle(rotations)


CAPSULES = {  # name: (joint, joint, extension beyond the end, radius m)
    'trunk': (0, 9, 0.10, 0.105),
    'head': (12, 15, 0.10, 0.085),
    'L_upper': (16, 18, 0.0, 0.042),
    'R_upper': (17, 19, 0.0, 0.042),
    'L_fore': (18, 20, 0.13, 0.034),
    'R_fore': (19, 21, 0.13, 0.034),
    'L_thigh': (1, 4, 0.0, 0.068),
    'R_thigh': (2, 5, 0.0, 0.068),
    'L_shin': (4, 7, 0.04, 0.045),
    'R_shin': (5, 8, 0.04, 0.045),
    'L_foot': (7, 10, 0.05, 0.03),
    'R_foot': (8, 11, 0.05, 0.03),
}
BOTH_LEGS = ('L_thigh', 'R_thigh', 'L_shin', 'R_shin')
PAIRS = [  # of capsules that should not meet
    *((f'{s}_fore', other) for s in 'LR' for other in ('trunk', 'head', *BOTH_LEGS)),
    *(
        (f'{s}_{part}', other)
        for s, o in ('LR', 'RL')
        for part, other in (('upper', 'head'), ('shin', 'trunk'), ('foot', 'trunk'), ('fore', f'{o}_upper'))
    ),
    ('L_fore', 'R_fore'),
    ('L_thigh', 'R_shin'),
    ('R_thigh', 'L_shin'),
    ('L_shin', 'R_shin'),
    ('L_foot', 'R_foot'),
    ('L_foot', 'R_shin'),
    ('R_foot', 'L_shin'),
    ('L_thigh', 'R_thigh'),
]


def penetration(joints: np.ndarray, samples: int = 9) -> np.ndarray:
    """Returns the deepest overlap (n,), metres, of capsules that should not meet; joints (n, 24, 3)."""
    t = np.linspace(0, 1, samples)[:, None]
    points = {}
    for name, (a, b, extra, radius) in CAPSULES.items():
        start, end = joints[:, a], joints[:, b]
        bone = end - start
        end = end + bone / np.linalg.norm(bone, axis=1, keepdims=True) * extra
        if 'thigh' in name:
            start = start + 0.3 * bone  # the groin is allowed to touch
        points[name] = (start[:, None] * (1 - t) + end[:, None] * t, radius)
    worst = np.zeros(len(joints))
    for a, b in PAIRS:
        (pa, ra), (pb, rb) = points[a], points[b]
        gap = np.linalg.norm(pa[:, :, None] - pb[:, None], axis=-1).min((1, 2))
        worst = np.maximum(worst, ra + rb - gap)
    return worst


def sample_poses(
    count: int, rng: np.random.Generator, rest_joints: np.ndarray, tolerance: float = 0.015
) -> tuple[np.ndarray, list[str]]:
    """Returns plausible poses (count, 24, 3) and their names; rest_joints (24, 3) are the mean body's."""
    poses, names = [], []
    while len(names) < count:
        drawn = [draw(rng) for _ in range(512)]
        pose = to_pose(np.array([d[0] for d in drawn]))
        feet = np.array([d[1] == 'feet' for d in drawn])
        pose[feet] = stand_on_feet(pose[feet], rest_joints)
        _, joints = forward_kinematics(to_matrices(pose), rest_joints)
        lean = np.linalg.norm(pose[:, 0], axis=1)
        good = (penetration(joints) < tolerance) & ~(feet & (lean > np.deg2rad(70)))
        poses.append(pose[good])
        names += [d[2] for d, g in zip(drawn, good, strict=True) if g]
    return np.concatenate(poses)[:count], names[:count]


def limit_poses(count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns poses (count, 24, 3) uniform inside the joint limits, plausible or not."""
    v = rng.uniform(LOW, HIGH, (count, len(DOFS)))
    quiet = rng.random((count, len(DOFS))) < 0.35
    v[quiet] *= 0.25
    v[:, :2] = 0
    return to_pose(limit(v))


def rest_joints_of(body_path: Path) -> np.ndarray:
    """Returns rest joints (24, 3) of the mean shape of an open_body.npz."""
    with np.load(body_path) as body:
        return (body['J_regressor'] @ body['v_template']).astype(float)


def write(out: Path, body: Path, count: int = 2000, seed: int = 0) -> None:
    """Writes `count` poses to the .npz `out`, the second half mirror images of the first."""
    poses, names = sample_poses(count // 2, np.random.default_rng(seed), rest_joints_of(body))
    both = np.concatenate([poses, mirror_pose(poses)])
    np.savez_compressed(out, axis_angle=both.astype(np.float16), kind=np.array(names + names))
    print(f'{out}: {both.shape}, {len(set(names))} archetype combinations')
