"""Inverse kinematics: the pose comes back, gradients are finite, recorded outputs agree."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrik_jax.body import ik, rotations, skeleton, smpl
from tools import fuzz_ik
from tools.recorded import body as recorded

GOLDEN = Path(__file__).parent / 'golden'
PEOPLE = 8


@pytest.fixture(scope='module')
def people(body) -> dict:
    """Random posed people: betas, local rotations, rest joints, posed joints and leaf joints, twists."""
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(PEOPLE, 10)).astype(np.float32)
    vectors = 0.5 * rng.normal(size=(PEOPLE, 24, 3)).astype(np.float32)
    vectors[:, 0] *= 3

    @jax.jit
    @jax.vmap
    def pose(betas, vectors):
        matrices = jax.vmap(rotations.axis_angle_to_matrix)(vectors)
        rest = smpl.rest_joints(body, betas)
        world, joints = smpl.pose_skeleton(matrices, rest)
        # The leaf points move rigidly with the joints that they belong to, without pose correctives.
        parents = np.array(skeleton.LEAF_PARENTS)
        leaves = joints[parents] + rotations.rotate(world[parents], rest[24:] - rest[parents])
        twists = ik.pose_to_twists(matrices, rest)
        ends = matrices[np.array(skeleton.LEAF_JOINTS)]
        return {
            'betas': betas,
            'rotations': matrices,
            'rest': rest,
            'joints_29': jnp.concatenate([joints, leaves]),
            'twists': jnp.stack([jnp.cos(twists), jnp.sin(twists)], axis=-1),
            'leaf_quaternions': jax.vmap(rotations.matrix_to_quaternion)(ends),
        }

    return {key: np.array(value) for key, value in pose(betas, vectors).items()}


forward = jax.jit(jax.vmap(ik.forward_kinematics))
labels = jax.jit(jax.vmap(ik.pose_to_twists))


@functools.partial(jax.jit, static_argnames=('form', 'right_hand', 'stop_gradient'))
def solve_all(joints, twists, rest, leaves=None, *, form='evaluation', right_hand='leaf', stop_gradient=True):
    one = functools.partial(ik.solve, form=form, right_hand=right_hand, stop_gradient=stop_gradient)
    inputs = (joints, twists, rest) if leaves is None else (joints, twists, rest, leaves)
    return jax.vmap(one)(*inputs)


@pytest.mark.parametrize('form', ik.FORMS)
@pytest.mark.parametrize('count', [24, 29])
def test_solving_a_posed_skeleton_returns_its_pose(people, count, form):
    joints = people['joints_29'][:, :count] + 5.0  # any origin
    solved = solve_all(joints, people['twists'], people['rest'], people['leaf_quaternions'], form=form)
    # Without SVD the spin about the spine is ill-conditioned, the hips' mean being about 1 cm off it: 2 mm.
    posed = forward(solved, people['rest'])
    truth = people['joints_29'][:, :24] - people['joints_29'][:, :1]
    reached = posed - posed[:, :1]
    exact = form == 'evaluation'
    tolerance = 1e-4 if exact else 2e-3
    followed = [j for j in range(24) if exact or j not in (1, 2, 13, 14)]
    np.testing.assert_allclose(reached[:, np.array(followed)], truth[:, np.array(followed)], atol=tolerance)
    if exact:
        np.testing.assert_allclose(solved, people['rotations'], atol=2e-3)


def test_twists_and_leaves_need_no_norm_and_the_labels_come_back(people):
    solved = solve_all(
        people['joints_29'][:, :24],
        3.0 * people['twists'],
        people['rest'],
        -2.0 * people['leaf_quaternions'],
    )
    np.testing.assert_allclose(solved, people['rotations'], atol=2e-3)
    angles = labels(solved, people['rest'])
    turned = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    np.testing.assert_allclose(turned, people['twists'], atol=5e-3)


def test_mirrored_people_have_mirrored_poses(people):
    flip = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
    joints = people['joints_29'][:, np.array(skeleton.MIRROR_JOINTS_29)] @ flip
    rest = people['rest'][:, np.array(skeleton.MIRROR_JOINTS_29)] @ flip
    twists = people['twists'][:, np.array(skeleton.MIRROR_TWISTS)] * np.array([1.0, -1.0], np.float32)
    leaves = people['leaf_quaternions']  # not used for 29 joints
    solved = solve_all(joints, twists, rest, leaves)
    expected = flip @ people['rotations'][:, np.array(skeleton.MIRROR_JOINTS)] @ flip
    np.testing.assert_allclose(solved, expected, atol=2e-3)


def test_alone_it_takes_joints_and_betas(people, body):
    joints = people['joints_29'][:, :24]
    alone = ik.joints_to_rotations(
        joints, people['betas'], body, people['twists'], people['leaf_quaternions']
    )
    np.testing.assert_allclose(alone, people['rotations'], atol=2e-3)
    without = ik.joints_to_rotations(joints, people['betas'], body)
    posed = forward(without, people['rest'])
    trunk = np.array([*range(13), 15])  # the arms hang on collars that only a twist of spine3 brings round
    reached, truth = posed[:, trunk] - posed[:, :1], joints[:, trunk] - joints[:, :1]
    np.testing.assert_allclose(reached, truth, atol=1e-4)
    with pytest.raises(ValueError, match='leading axis'):
        ik.joints_to_rotations(joints[0], people['betas'][0], body)


@pytest.mark.parametrize('size', [1e20, 3e38])
def test_huge_betas_give_rotations(people, body, size):
    betas = np.float32(size) * np.sign(people['betas'])
    solved = np.asarray(ik.joints_to_rotations(people['joints_29'][:, :24], betas, body), np.float64)
    unit = np.einsum('njba,njbc->njac', solved, solved)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=fuzz_ik.ORTHOGONAL)


def test_right_hand_is_the_fifth_quaternion_or_as_released(people):
    joints, twists, rest = people['joints_29'][:, :24], people['twists'], people['rest']
    leaves = people['leaf_quaternions']
    changed = leaves.copy()
    changed[:, 4] = (1, 0, 0, 0)
    leaf = solve_all(joints, twists, rest, leaves)
    released = solve_all(joints, twists, rest, leaves, right_hand='released')
    np.testing.assert_array_equal(leaf[:, :23], released[:, :23])
    np.testing.assert_array_equal(released, solve_all(joints, twists, rest, changed, right_hand='released'))
    still = solve_all(joints, twists, rest, changed)[:, 23]
    np.testing.assert_allclose(still, np.broadcast_to(np.eye(3), still.shape), atol=1e-6)
    assert np.abs(leaf[:, 23] - released[:, 23]).max() > 0.1


def test_wrong_inputs_are_refused(people):
    joints, twists, rest = people['joints_29'][0], people['twists'][0], people['rest'][0]
    with pytest.raises(ValueError, match='24 or 29'):
        ik.solve(joints[:17], twists, rest)
    with pytest.raises(ValueError, match='as many rest joints'):
        ik.solve(joints, twists, rest[:24])
    with pytest.raises(ValueError, match='right_hand'):
        ik.solve(joints, twists, rest, right_hand='left')
    with pytest.raises(ValueError, match="form='train': must be one of training, evaluation, naive"):
        ik.solve(joints, twists, rest, form='train')


@pytest.mark.slow  # a minute of compilation; `python -m tools.fuzz_ik` is the same for a million
def test_fuzzing_finds_rotations_and_finite_gradients_everywhere(body):
    rows = list(fuzz_ik.fuzz(body, people=36 * 1024, batch=1024))
    assert len(rows) == 6 * len(fuzz_ik.KINDS)
    assert sum(row.people for row in rows) == 36 * 1024
    for row in rows:
        assert row.within(), row


@pytest.mark.slow  # a minute, of compiling
def test_fuzzing_sees_what_is_wrong(body, monkeypatch):
    """Half a millimetre is over the limit of reachable skeletons, and NaN over every limit."""
    right = fuzz_ik._solve

    def wrong(people, weights, form):
        solved, posed, finite = (np.array(x) for x in right(people, weights, form))
        solved[3] *= 1.0001
        posed[3, 5] += 6e-4
        finite[3] = False
        solved[4, 2, 1, 1] = np.nan
        return solved, posed, finite

    monkeypatch.setattr(fuzz_ik, '_solve', wrong)
    row = next(fuzz_ik.fuzz(body, people=24 * 1024, batch=1024))
    assert not row.within() and row.values == 1 and row.gradients == 1
    assert row.orthogonal == np.inf and row.reached_mm > 0.5


@pytest.mark.parametrize(
    ('count', 'form', 'right_hand', 'stop_gradient'),
    [
        (24, 'training', 'released', True),
        (24, 'evaluation', 'released', False),
        (24, 'naive', 'released', True),
        (29, 'evaluation', 'leaf', False),
    ],
)
def test_degenerate_inputs_are_finite_with_every_option(body, count, form, right_hand, stop_gradient):
    rng = np.random.default_rng(3)
    people = {key: np.float32(value) for key, value in fuzz_ik.degenerate(rng, body, 256).items()}

    def objective(*inputs):
        solved = solve_all(*inputs, form=form, right_hand=right_hand, stop_gradient=stop_gradient)
        quaternions = jax.vmap(jax.vmap(rotations.matrix_to_quaternion))(solved)
        return jnp.sum(quaternions) + jnp.sum(solved[..., 0] * solved[..., 1]), solved

    inputs = people['joints'][:, :count], people['twists'], people['rest'], people['leaves']
    gradients, solved = jax.jit(jax.grad(objective, argnums=(0, 1, 2, 3), has_aux=True))(*inputs)
    for array in (solved, *gradients):
        assert np.isfinite(array).all()


@pytest.mark.parametrize('count', [24, 29])
def test_the_naive_form_follows_the_bones_whatever_their_lengths(people, count):
    """Bones of half to twice their length: training's form, which aims at their ends, misses them."""
    parents = np.array((0, *skeleton.PARENTS_29[1:]))
    bones = people['joints_29'] - people['joints_29'][:, parents]
    bones *= 2 ** np.random.default_rng(2).uniform(-1, 1, (PEOPLE, 29, 1)).astype(np.float32)
    joints = np.zeros_like(bones)
    for joint, parent in enumerate(skeleton.PARENTS_29[1:], start=1):
        joints[:, joint] = joints[:, parent] + bones[:, joint]
    ends = np.array([child for child in skeleton.RELEVANT_CHILD_24 if child >= 0])

    def off_degrees(form):
        inputs = joints[:, :count], people['twists'], people['rest'], people['leaf_quaternions']
        posed = np.asarray(forward(solve_all(*inputs, form=form), people['rest']))
        along = posed[:, ends] - posed[:, parents[ends]]
        lengths = np.linalg.norm(along, axis=-1) * np.linalg.norm(bones[:, ends], axis=-1)
        cross = np.linalg.norm(np.cross(along, bones[:, ends]), axis=-1)
        return np.rad2deg(
            np.arctan2(cross / lengths, np.sum(along * bones[:, ends], axis=-1) / lengths)
        ).max()

    assert off_degrees('naive') < 0.01 and off_degrees('training') > 5


def test_opposite_bones_are_reached(people):
    """Every bone points the other way: half turns, one after the other, that evaluation's FK follows."""
    bones = people['rest'] - people['rest'][:, np.array((0, *skeleton.PARENTS_29[1:]))]
    joints = np.zeros_like(bones)
    for joint, parent in enumerate(skeleton.PARENTS_29[1:], start=1):
        joints[:, joint] = joints[:, parent] - bones[:, joint]
    twists = np.tile(np.array([1.0, 0.0], np.float32), (PEOPLE, 23, 1))
    solved = solve_all(joints, twists, people['rest'])
    posed = np.asarray(forward(solved, people['rest']))
    # The hips are no rotation of themselves turned over, nor do the collars follow: all other bones do.
    followed = np.array([j for j in range(4, 24) if j not in (13, 14)])
    parents = np.array(skeleton.PARENTS_29)[followed]
    along = np.sum((posed[:, followed] - posed[:, parents]) * -bones[:, followed], axis=-1)
    np.testing.assert_allclose(along, np.sum(bones[:, followed] ** 2, axis=-1), rtol=2e-3)


def test_a_zero_skeleton_is_the_identity_without_twists(people):
    twists = np.tile(np.array([1.0, 0.0], np.float32), (PEOPLE, 23, 1))
    joints = np.zeros((PEOPLE, 29, 3), np.float32)
    solved = solve_all(joints, twists, people['rest'], people['leaf_quaternions'])
    np.testing.assert_allclose(solved, np.broadcast_to(np.eye(3), solved.shape), atol=1e-6)


def test_predicted_bones_are_cut_from_the_gradient(people):
    noise = 0.03 * np.random.default_rng(1).normal(size=(PEOPLE, 24, 3)).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def slope(joints, stop_gradient, form='training'):
        def objective(joints):
            options = {'form': form, 'stop_gradient': stop_gradient}
            solved = solve_all(joints, people['twists'], people['rest'], **options)
            return jnp.sum(solved * np.arange(9.0).reshape(3, 3))

        return jnp.max(jnp.abs(jax.grad(objective)(joints)), axis=(0, 2))

    joints = people['joints_29'][:, :24] + noise
    cut, through = np.asarray(slope(joints, True)), np.asarray(slope(joints, False))
    assert [j for j in range(24) if cut[j] == 0] == [1, 2, 3, 13, 14]
    assert (through[[1, 2, 3]] > 0).all() and (through[[13, 14]] == 0).all()
    # Of the naive form's bones only those at the pelvis, which the root alone depends on, are cut.
    assert [j for j, slope in enumerate(slope(joints, True, 'naive')) if slope == 0] == [0]


def test_solver_agrees_with_the_recorded_outputs():
    comparisons = recorded.compare_ik(GOLDEN)
    assert len(comparisons) == 60
    for what, error, tolerance in comparisons:
        assert error < tolerance, f'{what}: {error:.2e}'
