"""Plausible human poses from anatomical joint angles: archetypes, mixed, perturbed, limited and balanced.

No motion capture is used. A pose is first described by 8 midline and 2 x 17 side angles in degrees (see
DOFS), drawn as
    legs archetype x trunk archetype x arm archetype(s)      or      a whole-body archetype (lying,
    crawling, handstand),
plus correlated noise, clipped to joint limits with couplings, converted to SMPL axis-angle, stood on its
feet (soles levelled, centre of mass over the support) and dropped if limbs run through each other.

The file has axis_angle (n, 24, 3) float16, mirrored twins in the second half, and kind (n,), names of the
archetypes.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.synthetic.posed_body import forward_kinematics, to_axis_angle, to_matrices
from tools.build_open_body.joints import JOINT, mirror_pose

# fmt: off
# name: (lowest, highest, everyday standard deviation), degrees
MIDLINE = {
    'root_pitch': (-180, 180, 3), 'root_roll': (-180, 180, 2.5),     # + forward, + to the left
    'spine_flex': (-35, 80, 6), 'spine_side': (-40, 40, 5), 'spine_twist': (-50, 50, 7),
    'neck_flex': (-50, 45, 9), 'neck_side': (-32, 32, 5), 'neck_twist': (-75, 75, 16)}
SIDED = {
    'hip_flex': (-28, 130, 6), 'hip_abd': (-28, 60, 4), 'hip_rot': (-38, 50, 7),  # + forward, out, external
    'knee': (0, 148, 6), 'ankle': (-48, 32, 5), 'foot_inv': (-12, 18, 3), 'toe': (-15, 45, 4),  # + toes up
    'clav_up': (-8, 14, 3), 'clav_fwd': (-14, 16, 4),
    'arm_flex': (-55, 178, 9), 'arm_abd': (-50, 178, 8), 'arm_rot': (-65, 85, 12),  # + forward, out, internal
    'elbow': (0, 148, 12), 'pron': (-75, 80, 16),                    # + palm turned down/back
    'wrist_flex': (-60, 65, 9), 'wrist_dev': (-18, 22, 5), 'curl': (-5, 75, 9)}
DOFS = list(MIDLINE) + [f'{s}_{k}' for s in 'LR' for k in SIDED]
INDEX = {name: i for i, name in enumerate(DOFS)}
LOW, HIGH, SPREAD = (np.array([(MIDLINE | SIDED)[n[2:] if n[:2] in ('L_', 'R_') else n][k] for n in DOFS],
        float)
                     for k in range(3))
SPINE_SHARES = ((JOINT['spine1'], 0.38), (JOINT['spine2'], 0.34), (JOINT['spine3'], 0.28))
NECK_SHARES = ((JOINT['neck'], 0.5), (JOINT['head'], 0.5))

# ---- archetypes. A side angle without L_/R_ holds for both sides. name: (weight, angles)
LEGS = {
    'stand': (9, dict(hip_abd=3, hip_rot=6, knee=3)),
    'stand_narrow': (3, dict(hip_abd=-1, hip_rot=4, knee=2)),
    'stand_wide': (4, dict(hip_abd=16, hip_rot=10, knee=6)),
    'contrapposto': (5, dict(L_hip_abd=-4, R_hip_flex=14, R_hip_abd=12, R_hip_rot=16, R_knee=22,
            root_roll=4, spine_side=-6)),
    'crossed_standing': (1, dict(L_hip_abd=-10, R_hip_abd=-9, L_hip_flex=8, R_hip_flex=-4, L_knee=12)),
    'step': (4, dict(L_hip_flex=22, L_knee=12, R_hip_flex=-12, R_knee=8, R_toe=15)),
    'stairs': (2, dict(L_hip_flex=62, L_knee=72, R_hip_flex=-2, R_knee=6)),
    'lunge': (4, dict(L_hip_flex=60, L_knee=64, R_hip_flex=-22, R_knee=42, R_ankle=15, R_toe=38)),
    'side_lunge': (2, dict(L_hip_flex=55, L_hip_abd=28, L_hip_rot=25, L_knee=85, R_hip_abd=38,
            R_hip_flex=18, R_knee=3, spine_flex=10)),
    'half_squat': (4, dict(hip_flex=48, hip_abd=12, hip_rot=14, knee=58, ankle=18, spine_flex=12)),
    'squat': (3, dict(hip_flex=92, hip_abd=16, hip_rot=18, knee=105, ankle=28, spine_flex=16)),
    'deep_squat': (2, dict(hip_flex=118, hip_abd=18, hip_rot=20, knee=138, ankle=30, spine_flex=28)),
    'crouch_split': (2, dict(L_hip_flex=112, L_knee=120, R_hip_flex=62, R_knee=138, R_ankle=22, R_toe=40,
            spine_flex=22)),
    'one_leg': (2, dict(L_hip_flex=68, L_knee=82, R_knee=3)),
    'tree': (1, dict(L_hip_flex=62, L_hip_abd=48, L_hip_rot=48, L_knee=125, R_knee=2)),
    'kick': (2, dict(L_hip_flex=82, L_knee=14, L_ankle=-18, R_hip_flex=6, R_knee=12, spine_flex=14)),
    'side_kick': (1, dict(L_hip_abd=58, L_hip_flex=30, L_knee=10, R_knee=10, spine_side=-16)),
    'back_kick': (2, dict(L_hip_flex=-22, L_knee=80, R_hip_flex=10, R_knee=14)),
    'arabesque': (1, dict(L_hip_flex=-26, L_knee=6, L_ankle=-35, R_hip_flex=48, R_knee=4, root_pitch=46,
            spine_flex=-14, neck_flex=-16)),
    'tiptoe': (1, dict(hip_abd=2, knee=2, ankle=-32, toe=30)),
    'bow_legs': (3, dict(hip_flex=62, knee=8, hip_abd=5, spine_flex=34)),
    'pick_up': (2, dict(hip_flex=88, knee=32, hip_abd=8, spine_flex=48)),
}
LEGS_FREE = {  # feet are not a support: jump, run, sit, kneel
    'sprint': (3, dict(L_hip_flex=78, L_knee=92, L_ankle=8, R_hip_flex=-22, R_knee=24, R_ankle=-30,
            R_toe=20, root_pitch=14)),
    'run_flight': (3, dict(L_hip_flex=46, L_knee=52, R_hip_flex=-18, R_knee=72, R_ankle=-18, root_pitch=8)),
    'jump': (2, dict(hip_flex=8, hip_abd=10, knee=16, ankle=-34)),
    'jump_tuck': (1, dict(hip_flex=98, hip_abd=10, knee=105, ankle=-15, spine_flex=20)),
    'star_jump': (2, dict(hip_abd=36, knee=4, ankle=-25)),
    'split_leap': (1, dict(L_hip_flex=82, L_knee=8, L_ankle=-30, R_hip_flex=-28, R_knee=20, R_ankle=-35)),
    'sit_chair': (6, dict(hip_flex=86, hip_abd=7, hip_rot=6, knee=86, ankle=2)),
    'sit_slouch': (3, dict(hip_flex=68, hip_abd=10, knee=62, root_pitch=-22, spine_flex=18, ankle=4)),
    'sit_legs_crossed': (2, dict(L_hip_flex=96, L_hip_abd=-8, L_hip_rot=14, L_knee=78, L_ankle=-12,
            R_hip_flex=84, R_knee=88)),
    'sit_ankle_on_knee': (1, dict(L_hip_flex=88, L_hip_abd=38, L_hip_rot=48, L_knee=98, R_hip_flex=84,
            R_knee=86)),
    'sit_floor': (2, dict(hip_flex=88, hip_abd=8, knee=10, spine_flex=8, ankle=-12)),
    'sit_floor_bent': (2, dict(hip_flex=112, hip_abd=10, knee=98, spine_flex=20, ankle=-8)),
    'sit_cross_legged': (2, dict(hip_flex=92, hip_abd=44, hip_rot=48, knee=122, ankle=-16, spine_flex=14)),
    'kneel_one': (2, dict(L_hip_flex=96, L_knee=102, R_hip_flex=2, R_knee=92, R_ankle=-10, R_toe=35,
            root_pitch=4)),
    'kneel_both': (2, dict(hip_flex=4, hip_abd=4, knee=90, ankle=-40)),
    'kneel_sit': (2, dict(hip_flex=72, hip_abd=6, knee=145, ankle=-45)),
    'cycle': (1, dict(L_hip_flex=92, L_knee=98, R_hip_flex=42, R_knee=42, root_pitch=26, spine_flex=30,
            neck_flex=-28)),
    'climb': (1, dict(L_hip_flex=92, L_hip_abd=30, L_hip_rot=30, L_knee=104, R_hip_flex=12, R_hip_abd=12,
            R_knee=14, R_ankle=-20)),
    'ski': (1, dict(hip_flex=70, knee=82, ankle=26, hip_abd=6, root_pitch=24, spine_flex=24, neck_flex=-24)),
}
TRUNK = {
    'straight': (10, {}), 'slouch': (3, dict(spine_flex=14, neck_flex=16)), 'lean_back': (2,
            dict(spine_flex=-12, neck_flex=-6)),
    'look_down': (3, dict(neck_flex=28, spine_flex=4)), 'look_up': (2, dict(neck_flex=-32, spine_flex=-4)),
    'look_left': (3, dict(neck_twist=52, spine_twist=12)), 'turn': (3, dict(spine_twist=34, neck_twist=26)),
    'counter_turn': (1, dict(spine_twist=30, neck_twist=-36)), 'side_bend': (2, dict(spine_side=26,
            neck_side=10)),
    'tilt_head': (2, dict(neck_side=20, neck_twist=8)), 'hunch': (2, dict(spine_flex=36, neck_flex=-12)),
    'side_twist': (2, dict(spine_side=18, spine_twist=-28, spine_flex=18)),
}
ARM = {  # one arm; angles without the L_/R_ prefix
    'hang': (12, dict(arm_abd=9, arm_flex=2, elbow=14, pron=12, curl=14)),
    'hang_loose': (5, dict(arm_abd=16, arm_flex=10, elbow=32, pron=20, curl=22)),
    'back_swing': (3, dict(arm_flex=-32, arm_abd=10, elbow=28, curl=24)),
    'front_swing': (3, dict(arm_flex=34, arm_abd=4, elbow=42, curl=26, pron=20)),
    'run_front': (2, dict(arm_flex=42, arm_abd=6, elbow=102, arm_rot=24, curl=55)),
    'run_back': (2, dict(arm_flex=-44, arm_abd=12, elbow=92, curl=55)),
    'on_hip': (5, dict(arm_abd=46, arm_flex=-14, arm_rot=62, elbow=92, pron=42, wrist_flex=28, curl=18)),
    'in_pocket': (3, dict(arm_abd=18, arm_flex=-16, elbow=44, arm_rot=10, pron=10)),
    'phone': (3, dict(arm_flex=44, arm_abd=30, arm_rot=12, elbow=142, pron=-10, curl=48)),
    'hold_phone': (3, dict(arm_flex=26, arm_abd=8, arm_rot=28, elbow=96, pron=-28, curl=38)),
    'drink': (2, dict(arm_flex=62, arm_abd=26, arm_rot=38, elbow=128, pron=8, curl=52)),
    'wave': (3, dict(arm_abd=72, arm_flex=14, arm_rot=-58, elbow=88, pron=12)),
    'wave_high': (2, dict(arm_abd=140, arm_flex=28, elbow=26, pron=18)),
    'point_front': (3, dict(arm_flex=86, arm_abd=6, elbow=6, pron=30, curl=42)),
    'point_side': (3, dict(arm_abd=88, arm_flex=10, elbow=6, pron=34)),
    'reach_up': (4, dict(arm_flex=160, arm_abd=14, elbow=14)),
    'reach_cross': (2, dict(arm_flex=76, arm_abd=-34, elbow=24, arm_rot=24, clav_fwd=12)),
    'reach_down': (3, dict(arm_flex=58, arm_abd=6, elbow=10, clav_fwd=10)),
    'reach_back': (2, dict(arm_flex=-44, arm_abd=28, elbow=12)),
    'touch_head': (3, dict(arm_abd=96, arm_flex=44, arm_rot=-32, elbow=134, pron=10)),
    'scratch_neck': (2, dict(arm_flex=128, arm_abd=44, elbow=140)),
    'touch_chest': (2, dict(arm_flex=30, arm_abd=20, arm_rot=64, elbow=118, pron=36)),
    'touch_shoulder': (2, dict(arm_flex=64, arm_abd=-14, arm_rot=42, elbow=132)),
    'behind_back': (2, dict(arm_flex=-34, arm_abd=14, arm_rot=74, elbow=82, pron=20)),
    'shield_face': (1, dict(arm_flex=98, arm_abd=22, arm_rot=58, elbow=98)),
    'throw': (2, dict(arm_abd=98, arm_flex=-14, arm_rot=-62, elbow=92, curl=44)),
    'punch': (2, dict(arm_flex=84, arm_abd=4, elbow=8, pron=68, curl=72, clav_fwd=12)),
    'guard': (2, dict(arm_flex=44, arm_abd=12, arm_rot=12, elbow=136, curl=72)),
    'serve': (1, dict(arm_abd=148, arm_flex=14, elbow=72, curl=52)),
    'wing': (2, dict(arm_abd=68, arm_flex=-8, elbow=16, pron=30)),
    'elbow_out': (2, dict(arm_abd=78, arm_flex=24, arm_rot=70, elbow=98, pron=30)),
    'offer': (2, dict(arm_flex=44, arm_abd=14, elbow=64, pron=-62)),
}
ARMS = {                                                             # both arms together
    'crossed': (4, dict(arm_flex=40, arm_abd=4, arm_rot=66, elbow=104, pron=20, L_arm_flex=46, L_elbow=112)),
    'clasped_front': (3, dict(arm_flex=14, arm_abd=8, arm_rot=46, elbow=58, pron=8)),
    'clasped_back': (2, dict(arm_flex=-26, arm_abd=10, arm_rot=62, elbow=48)),
    'hands_behind_head': (3, dict(arm_abd=104, arm_flex=42, arm_rot=-48, elbow=138)),
    'carry_box': (3, dict(arm_flex=32, arm_abd=14, elbow=82, pron=-18, curl=18)),
    'overhead': (3, dict(arm_flex=158, arm_abd=16, elbow=16)),
    'v_sign': (3, dict(arm_abd=136, arm_flex=12, elbow=8)),
    't_pose': (3, dict(arm_abd=88, arm_flex=4, elbow=5, pron=60)),
    'forward': (3, dict(arm_flex=86, arm_abd=8, elbow=10)),
    'clap': (2, dict(arm_flex=52, arm_abd=4, arm_rot=38, elbow=78)),
    'pray': (1, dict(arm_flex=44, arm_abd=10, arm_rot=52, elbow=118, wrist_flex=-28)),
    'surrender': (2, dict(arm_abd=84, arm_flex=8, arm_rot=-64, elbow=88)),
    'swing_bat': (2, dict(L_arm_flex=70, L_arm_abd=-36, L_elbow=32, R_arm_flex=58, R_arm_abd=18, R_elbow=84,
            L_arm_rot=20,
                          R_arm_rot=40, curl=70, spine_twist=-34)),
    'archery': (1, dict(L_arm_abd=84, L_arm_flex=22, L_elbow=6, R_arm_abd=86, R_arm_flex=26, R_elbow=138,
            R_arm_rot=40, curl=55,
                        neck_twist=60)),
    'boxer': (2, dict(arm_flex=52, arm_abd=10, arm_rot=14, elbow=126, curl=74, spine_flex=12)),
    'read': (3, dict(arm_flex=28, arm_abd=12, arm_rot=32, elbow=100, pron=-30, neck_flex=26)),
    'push': (2, dict(arm_flex=72, arm_abd=14, elbow=48, wrist_flex=-52, pron=50)),
    'hug': (2, dict(arm_flex=70, arm_abd=24, arm_rot=34, elbow=62)),
    'dance': (2, dict(L_arm_abd=120, L_arm_flex=30, L_elbow=48, R_arm_abd=62, R_arm_flex=18, R_elbow=34,
            spine_side=-10)),
    'fly': (1, dict(arm_abd=98, arm_flex=-14, elbow=14)),
}
WHOLE = {  # weight, angles; root pitch/roll give the attitude
    'lie_back': (4, dict(root_pitch=-90, arm_abd=26, elbow=22, hip_abd=8, hip_rot=14, knee=6)),
    'lie_back_knees': (3, dict(root_pitch=-90, arm_abd=40, elbow=48, hip_flex=46, knee=92, hip_abd=6)),
    'lie_front': (3, dict(root_pitch=90, arm_abd=34, elbow=32, hip_abd=8, ankle=-38, knee=6, neck_twist=58)),
    'lie_front_elbows': (2, dict(root_pitch=84, arm_flex=82, arm_abd=14, elbow=92, spine_flex=-28,
            neck_flex=-28, ankle=-34)),
    'lie_side': (3, dict(root_roll=88, L_arm_flex=84, R_arm_flex=46, elbow=62, L_hip_flex=48, R_hip_flex=72,
            L_knee=62, R_knee=88,
                         spine_flex=22)),
    'lie_curl': (2, dict(root_roll=88, arm_flex=58, elbow=112, hip_flex=102, knee=122, spine_flex=38,
            neck_flex=26)),
    'plank': (2, dict(root_pitch=76, arm_flex=84, elbow=4, wrist_flex=-58, toe=42, ankle=12, neck_flex=-12)),
    'push_up': (2, dict(root_pitch=84, arm_flex=42, arm_abd=52, elbow=98, wrist_flex=-50, toe=42, ankle=12,
            neck_flex=-14)),
    'side_plank': (1, dict(root_roll=66, L_arm_abd=86, R_arm_abd=86, elbow=4)),
    'crawl': (4, dict(root_pitch=82, L_hip_flex=98, R_hip_flex=74, L_knee=92, R_knee=84, L_arm_flex=74,
            R_arm_flex=96, elbow=10,
                      wrist_flex=-54, ankle=-36, neck_flex=-34)),
    'bear_crawl': (2, dict(root_pitch=104, hip_flex=98, knee=48, arm_flex=122, elbow=8, wrist_flex=-44,
            toe=36, neck_flex=-20)),
    'down_dog': (1, dict(root_pitch=128, hip_flex=112, knee=6, arm_flex=164, elbow=4, wrist_flex=-38,
            ankle=12)),
    'bridge': (1, dict(root_pitch=-112, hip_flex=-12, knee=88, arm_abd=22, elbow=8, spine_flex=-22)),
    'sit_up': (2, dict(root_pitch=-48, hip_flex=62, knee=88, spine_flex=36, arm_flex=92, arm_abd=24,
            arm_rot=-30, elbow=128)),
    'sit_lean_hands': (2, dict(root_pitch=-24, hip_flex=70, knee=38, arm_flex=-42, arm_abd=18, elbow=5,
            wrist_flex=-48)),
    'handstand': (2, dict(root_pitch=178, arm_flex=172, elbow=4, wrist_flex=-56, hip_flex=4, ankle=-34,
            neck_flex=-24)),
    'handstand_split': (1, dict(root_pitch=176, arm_flex=170, elbow=5, wrist_flex=-52, L_hip_flex=58,
            R_hip_flex=-22, L_knee=24,
                                R_knee=38, neck_flex=-22)),
    'cartwheel': (1, dict(root_roll=128, arm_abd=156, elbow=5, hip_abd=46, knee=4, ankle=-22)),
    'dive': (1, dict(root_pitch=112, arm_flex=168, elbow=6, hip_flex=12, ankle=-38)),
    'swim': (1, dict(root_pitch=88, L_arm_flex=168, R_arm_flex=-34, R_elbow=62, L_hip_flex=12,
            R_hip_flex=-14, ankle=-38,
                     spine_twist=16, neck_twist=-30)),
    'fall_back': (1, dict(root_pitch=-44, arm_abd=64, arm_flex=44, elbow=32, hip_flex=52, L_knee=62,
            R_knee=24, neck_flex=22)),
    'fall_side': (1, dict(root_roll=46, L_arm_abd=78, R_arm_abd=96, elbow=34, hip_abd=14, R_hip_abd=30,
            knee=26)),
}

# textbook gait angles (degrees) at eight equal steps of the cycle of one leg, starting at heel strike
GAIT = {'walk': dict(hip=[26, 21, 8, -4, -11, 0, 22, 30], knee=[4, 16, 8, 4, 12, 44, 62, 22], ankle=[0, -4,
        5, 10, 2, -18, -2, 2],
                     arm=18, elbow=18, lean=2),
        'run': dict(hip=[40, 30, 10, -8, -20, -2, 34, 52], knee=[16, 40, 26, 14, 28, 84, 108, 60], ankle=[4,
                16, 12, -8, -26, -10, 2, 4],
                    arm=34, elbow=84, lean=8)}

# fmt: on


def pick(rng, table):
    """Returns random (name, angles) of an archetype table, by weight."""
    names = list(table)
    weights = np.array([table[n][0] for n in names], float)
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    return name, table[name][1]


def add_angles(target, angles, scale=1.0, sides='LR'):
    """Adds archetype angles (dict) times scale to `target` (len(DOFS),); plain side names go to `sides`."""
    explicit = {k for k in angles if k[:2] in ('L_', 'R_')}
    for key, value in angles.items():
        if key in INDEX:
            target[INDEX[key]] += scale * value
        else:
            for s in sides:
                if f'{s}_{key}' not in explicit:
                    target[INDEX[f'{s}_{key}']] += scale * value


def swap_sides(vector):
    """Returns mirror a DOF vector (len(DOFS),): left and right change places, sideways midline angles change sign."""
    out = vector.copy()
    m, n = len(MIDLINE), len(SIDED)
    out[m : m + n], out[m + n :] = vector[m + n :], vector[m : m + n]
    for name in ('root_roll', 'spine_side', 'spine_twist', 'neck_side', 'neck_twist'):
        out[INDEX[name]] *= -1
    return out


def gait_angles(rng, kind):
    """Returns angles (len(DOFS),) of a random moment of a walking or running cycle."""
    g, out = GAIT[kind], np.zeros(len(DOFS))
    phase, gain = rng.random(), rng.uniform(0.6, 1.25)
    for side, shift in (('L', 0.0), ('R', 0.5)):
        t = ((phase + shift) % 1) * 8

        def at(curve, t=t):
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


def noise(rng, scale):
    """Returns correlated noise (len(DOFS),): half of a side's deviation is shared with the other side."""
    m, n = len(MIDLINE), len(SIDED)
    z, common = rng.normal(size=len(DOFS)), rng.normal(size=n)
    z[m : m + n], z[m + n :] = (0.7 * z[m : m + n] + 0.7 * common), (0.7 * z[m + n :] + 0.7 * common)
    return scale * SPREAD * z


def add_arms(rng, target):
    """Returns name of the arms' archetype, drawn together or one by one and added to `target` (len(DOFS),)."""
    if rng.random() < 0.36:
        name, angles = pick(rng, ARMS)
        add_angles(target, angles)
        return name
    names = []
    same = rng.random() < 0.25
    for side in 'LR':
        if not (same and names):
            name, angles = pick(rng, ARM)
        add_angles(target, angles, sides=side)
        names.append(name)
    return '+'.join(names)


def draw(rng):
    """Returns one random DOF vector (len(DOFS),) in degrees, its support ("feet" | "free") and its archetype name."""
    v, support, kind = np.zeros(len(DOFS)), 'feet', rng.random()
    if kind < 0.12:
        name, angles = pick(rng, WHOLE)
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
            v[
                [INDEX[f'{s}_{k}'] for s in 'LR' for k in ('arm_flex', 'arm_abd', 'elbow', 'pron', 'curl')]
            ] *= 0.2
            name += '/' + add_arms(rng, v)
        support, scale = ('feet' if name[0] == 'w' else 'free'), 0.8
    else:
        table, support = (LEGS, 'feet') if kind < 0.76 else (LEGS_FREE, 'free')
        legs, angles = pick(rng, table)
        if rng.random() < 0.25:  # between two leg archetypes of the same table
            _, other = pick(rng, table)
            t = rng.uniform(0.15, 0.6)
            add_angles(v, angles, 1 - t)
            add_angles(v, other, t)
        else:
            add_angles(v, angles, rng.uniform(0.75, 1.1))
        if rng.random() < 0.5:
            v = swap_sides(v)
        extra = np.zeros(len(DOFS))
        trunk, angles = pick(rng, TRUNK)
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


def limit(v):
    """Returns DOF vectors (..., len(DOFS)) within the joint limits and the couplings between joints."""
    v = np.clip(v, LOW, HIGH)

    def col(name):
        return v[..., INDEX[name]]

    def put(name, value):
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


def axis_rotation(axis, degrees):
    """Rotations by degrees (n,) about a coordinate axis."""
    return Rotation.from_euler(axis, np.asarray(degrees)[:, None], degrees=True)


def trunk_rotation(flex, side, twist):
    """Returns forward flexion, bend to the left, turn to the left (degrees) -> Rotation, as one exponential map."""
    return Rotation.from_rotvec(np.deg2rad(np.stack([flex, twist, -side], -1)))


def to_pose(v):
    """Returns DOF vectors (n, len(DOFS)) in degrees -> axis-angle poses (n, 24, 3)."""
    v = np.atleast_2d(v)

    def col(name):
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

        def get(name, s=s):
            return col(f'{s}_{name}')

        flip = np.array([1.0, 1.0, 1.0] if s == 'L' else [1.0, -1.0, -1.0])

        def put(joint, rotation, s=s, flip=flip):
            pose[:, JOINT[f'{s}_{joint}']] = rotation.as_rotvec() * flip

        def swing(flex, abd):
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


# fmt: off
# ---- physics-light clean-up: feet on the ground, balance, no limb through another
SEGMENTS = [(0, 6, 0.20), (6, 12, 0.26), (12, 15, 0.08)] + [            # joint, joint, share of the body mass
    (a + s, b + s, m) for s in (0, 1) for a, b, m in ((1, 4, 0.10), (4, 7, 0.045), (7, 10, 0.015), (16, 18,
            0.028), (18, 20, 0.025))]

# fmt: on


def support_weights(joints):
    """Returns weights (n, 4) of [L ankle, R ankle, L ball, R ball] as ground contacts, from their heights."""
    height = joints[:, [7, 8, 10, 11], 1] - np.array([0.075, 0.075, 0.02, 0.02])
    w = np.exp(-np.clip(height - height.min(1, keepdims=True), 0, None) / 0.035)
    return w / w.sum(1, keepdims=True)


def stand_on_feet(pose, rest_joints, rounds=4):
    """Returns level the soles of supporting feet and lean the root until the centre of mass is over the support.

    pose (n, 24, 3), rest_joints (24, 3). Angles are changed by at most 30 degrees per ankle.
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


# fmt: off
CAPSULES = {  # name: (joint, joint, extension beyond the end, radius m)
    'trunk': (0, 9, 0.10, 0.105), 'head': (12, 15, 0.10, 0.085),
    'L_upper': (16, 18, 0.0, 0.042), 'R_upper': (17, 19, 0.0, 0.042),
    'L_fore': (18, 20, 0.13, 0.034), 'R_fore': (19, 21, 0.13, 0.034),
    'L_thigh': (1, 4, 0.0, 0.068), 'R_thigh': (2, 5, 0.0, 0.068), 'L_shin': (4, 7, 0.04, 0.045),
            'R_shin': (5, 8, 0.04, 0.045),
    'L_foot': (7, 10, 0.05, 0.03), 'R_foot': (8, 11, 0.05, 0.03)}
PAIRS = [(f'{s}_fore', other) for s in 'LR' for other in ('trunk', 'head', 'L_thigh', 'R_thigh', 'L_shin',
        'R_shin')] + [
    (f'{s}_{part}', other) for s, o in ('LR', 'RL') for part, other in (('upper', 'head'), ('shin',
            'trunk'), ('foot', 'trunk'),
                                                                       ('fore', f'{o}_upper'))] + [
    ('L_fore', 'R_fore'), ('L_thigh', 'R_shin'), ('R_thigh', 'L_shin'), ('L_shin', 'R_shin'), ('L_foot',
            'R_foot'),
    ('L_foot', 'R_shin'), ('R_foot', 'L_shin'), ('L_thigh', 'R_thigh')]

# fmt: on


def penetration(joints, samples=9):
    """Returns deepest overlap (n,) in metres between limb capsules that should not meet; joints (n, 24, 3)."""
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


def sample_poses(count, rng, rest_joints, tolerance=0.015):
    """Returns plausible poses (count, 24, 3) and their archetype names; rest_joints (24, 3) of the mean body."""
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


def limit_poses(count, rng):
    """Returns poses (count, 24, 3) uniform inside the joint limits, plausible or not (to fit correctives)."""
    v = rng.uniform(LOW, HIGH, (count, len(DOFS)))
    quiet = rng.random((count, len(DOFS))) < 0.35
    v[quiet] *= 0.25
    v[:, :2] = 0
    return to_pose(limit(v))


def rest_joints_of(body_path):
    """Returns (24, 3) rest joints of the mean shape of an open_body.npz."""
    with np.load(body_path) as body:
        return (body['J_regressor'] @ body['v_template']).astype(float)


def write(out: Path, body: Path, count: int = 2000, seed: int = 0) -> None:
    """Writes `count` poses to the .npz `out`, the second half mirror images of the first."""
    poses, names = sample_poses(count // 2, np.random.default_rng(seed), rest_joints_of(body))
    both = np.concatenate([poses, mirror_pose(poses)])
    np.savez_compressed(out, axis_angle=both.astype(np.float16), kind=np.array(names + names))
    print(f'{out}: {both.shape}, {len(set(names))} archetype combinations')
