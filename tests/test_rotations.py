"""Rotations of one joint: right, of any size of vector, and finite where nothing is defined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrik_jax.body import rotations


def each(function):
    """`function` over a leading axis, compiled as one program: op by op the tests would take minutes."""
    return jax.jit(jax.vmap(function))


def random_rotations(count: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    vectors = size * np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return np.asarray(each(rotations.axis_angle_to_matrix)(vectors))


def test_axis_angle_there_and_back():
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    vectors[0], vectors[1], vectors[2] = 0, (1e-5, 0, 0), (0, np.pi - 1e-3, 0)
    matrices = each(rotations.axis_angle_to_matrix)(vectors)
    # float32: near pi the angle comes from a quaternion whose w is 5e-4
    np.testing.assert_allclose(each(rotations.matrix_to_axis_angle)(matrices), vectors, atol=3e-5)
    again = each(lambda m: rotations.quaternion_to_matrix(rotations.matrix_to_quaternion(m)))(matrices)
    np.testing.assert_allclose(again, matrices, atol=1e-6)


def test_axis_angle_at_zero_has_the_true_gradient():
    jacobian = jax.jit(jax.jacrev(rotations.axis_angle_to_matrix))(jnp.zeros(3))
    columns = np.transpose(jacobian, (2, 1, 0))  # [axis, column] = axis x column
    np.testing.assert_allclose(columns, np.cross(np.eye(3)[:, None], np.eye(3)[None]), atol=1e-7)


def test_rotation_between_turns_a_to_b():
    a, b = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    to_b, to_nothing = each(rotations.rotation_between)(np.stack([a] * 2), np.stack([b, 0 * a]))
    np.testing.assert_allclose(to_b @ a / np.linalg.norm(a), b / np.linalg.norm(b), atol=1e-6)
    np.testing.assert_allclose(to_nothing, np.eye(3), atol=1e-6)


@pytest.mark.parametrize('miss', [0.0, 1e-7, 1e-5, 1e-3])
def test_opposite_vectors_are_half_a_turn_apart(miss):
    rng = np.random.default_rng(8)
    a = np.concatenate([np.eye(3), -np.eye(3), rng.normal(size=(50, 3))]).astype(np.float32)
    b = -a + miss * rng.normal(size=a.shape).astype(np.float32)
    turns = np.asarray(each(rotations.rotation_between)(a, b), np.float64)
    reached = np.einsum('nij,nj->ni', turns, a) / np.linalg.norm(a, axis=1, keepdims=True)
    np.testing.assert_allclose(reached, b / np.linalg.norm(b, axis=1, keepdims=True), atol=2e-6)
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=2e-6)


@pytest.mark.parametrize('size', [1e-30, 1e-9, 1e-3, 1e6, 1e15])
def test_size_does_not_matter(size):
    a, b = np.random.default_rng(9).normal(size=(2, 20, 3)).astype(np.float32)
    size = np.float32(size)
    for function in (rotations.rotation_between, lambda a, b: rotations.kabsch(a[:, None], b[:, None])):
        expected = each(function)(a, b)
        for one, other in ((size * a, b), (a, size * b), (size * a, size * b)):
            np.testing.assert_allclose(each(function)(one, other), expected, atol=2e-6)
    quaternions = np.concatenate([a, b[:, :1]], axis=1)
    turns = each(rotations.quaternion_to_matrix)
    np.testing.assert_allclose(turns(size * quaternions), turns(quaternions), atol=2e-6)


def test_twist_and_swing_recompose_and_the_swing_is_the_smallest():
    bones = np.random.default_rng(2).normal(size=(20, 3)).astype(np.float32)
    matrices = random_rotations(20, 3, size=1.5)
    swing, angle = each(rotations.twist_swing)(matrices, bones)
    axis = bones / np.linalg.norm(bones, axis=1, keepdims=True)
    turn = each(rotations.rotation_about)(axis, np.cos(angle), np.sin(angle))
    np.testing.assert_allclose(swing @ turn, matrices, atol=2e-6)
    smallest = each(rotations.rotation_between)(bones, (matrices @ bones[:, :, None])[:, :, 0])
    np.testing.assert_allclose(swing, smallest, atol=2e-5)
    assert np.all(np.abs(angle) <= np.pi + 1e-6)


def test_twist_of_a_flipped_or_missing_bone_is_zero_and_still_recomposes():
    half_turn = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
    bones = np.array([[0.0, 0.3, 0.0], [0.0, 0.0, 0.0], [0.2, 0.0, 0.0]], np.float32)
    swing, angle = each(rotations.twist_swing)(np.stack([half_turn] * 3), bones)
    np.testing.assert_allclose(angle, [0, 0, np.pi], atol=1e-6)
    np.testing.assert_allclose(swing[:2], np.stack([half_turn] * 2), atol=1e-6)
    np.testing.assert_allclose(swing[2], np.eye(3), atol=1e-6)


def test_kabsch_finds_the_rotation_also_of_coplanar_vectors():
    source = np.random.default_rng(4).normal(size=(3, 3)).astype(np.float32)
    flat = source * np.array([1, 1, 0], np.float32)
    one, two = random_rotations(2, 5)
    mirrored = source * np.array([-1, 1, 1], np.float32)
    targets = np.stack([source @ one.T, flat @ two.T, 0 * source, mirrored])
    best = each(rotations.kabsch)(np.stack([source, flat, source, source]), targets)
    np.testing.assert_allclose(best[0], one, atol=2e-6)
    np.testing.assert_allclose(best[1], two, atol=2e-6)
    np.testing.assert_array_equal(best[2], np.eye(3))
    np.testing.assert_allclose(np.linalg.det(best[3]), 1, atol=1e-5)  # a rotation still, not a reflection


def test_kabsch_of_vectors_on_a_line_is_the_smallest_rotation():
    a, b = np.random.default_rng(5).normal(size=(2, 20, 3)).astype(np.float32)
    lengths = np.array([1.0, -0.4, 2.0], np.float32)[:, None]
    best = each(rotations.kabsch)(lengths * a[:, None], lengths * b[:, None])
    np.testing.assert_allclose(best, each(rotations.rotation_between)(a, b), atol=1e-5)


def test_kabsch_gradient_is_that_of_small_changes():
    rng = np.random.default_rng(6)
    source, change, weight = rng.normal(size=(3, 3, 3))
    target = source @ random_rotations(1, 7)[0].T.astype(np.float64) + 0.1 * rng.normal(size=(3, 3))
    with jax.enable_x64(True):

        def objective(x):
            return jnp.sum(rotations.kabsch(x, jnp.asarray(target)) * weight)

        slope = np.sum(jax.jit(jax.grad(objective))(jnp.asarray(source)) * change)
        step = 1e-6
        ahead, behind = each(objective)(np.stack([source + step * change, source - step * change]))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)


ZERO, X = np.zeros(3), np.array([0.2, 0.0, 0.0])
EYE, TURN_X, TURN_Z = np.eye(3), np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, -1.0, 1.0])
FLAT = np.array([[1.0, 0, 0], [0, 1.0, 0], [1.0, 1.0, 0]])
LINE = np.array([[1.0, 0, 0], [2.0, 0, 0], [-1.0, 0, 0]])


@pytest.mark.parametrize(
    ('function', 'inputs'),
    [
        (rotations.axis_angle_to_matrix, [(ZERO,), (ZERO - 1e-8,), (1e-3 * X,)]),
        (rotations.matrix_to_axis_angle, [(EYE,), (TURN_X,), (TURN_Z,)]),
        (rotations.matrix_to_quaternion, [(EYE,), (0 * EYE,), (TURN_X,)]),
        (rotations.quaternion_to_matrix, [(np.zeros(4),)]),
        (rotations.rotation_between, [(ZERO, ZERO), (X, ZERO), (X, X), (X, -X), (X, 1e-30 * X)]),
        (rotations.twist_swing, [(EYE, ZERO), (TURN_Z, X), (TURN_X, X)]),
        (rotations.kabsch, [(0 * EYE, 0 * EYE), (FLAT, FLAT), (FLAT, 0 * FLAT), (LINE, LINE), (EYE, -EYE)]),
    ],
    ids=lambda x: getattr(x, '__name__', ''),
)
def test_degenerate_rotations_are_finite_in_value_and_gradient(function, inputs):
    @each
    def value_and_gradients(*arguments):
        value, pull = jax.vjp(function, *arguments)
        return value, pull(jax.tree.map(jnp.ones_like, value))

    columns = [np.stack(column).astype(np.float32) for column in zip(*inputs, strict=True)]
    for array in jax.tree.leaves(value_and_gradients(*columns)):
        assert np.isfinite(array).all()
