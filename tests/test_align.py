"""The root's rotation by quaternions, for exported networks, against the one by singular values."""

import functools

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.body import ik, rotations, smpl
from tools import fuzz_ik
from tools.recorded import body as recorded

COUNT = 512
align = {by: jax.jit(jax.vmap(functools.partial(rotations.kabsch, by=by))) for by in rotations.ALIGNMENTS}


def turned(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Vectors (N, M, 3), each row of M by a random rotation of its own."""
    matrices = Rotation.random(len(vectors), random_state=seed).as_matrix()
    return np.einsum('nij,nkj->nki', matrices, vectors)


def half_turned(vectors: np.ndarray) -> np.ndarray:
    axes = np.random.default_rng(5).normal(size=(len(vectors), 3))
    axes *= np.pi / np.linalg.norm(axes, axis=1, keepdims=True)
    return np.einsum('nij,nkj->nki', Rotation.from_rotvec(axes).as_matrix(), vectors)


def pairs(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and what they shall be turned to, (N, 3, 3) each."""
    rng = np.random.default_rng(1)
    vectors, line = rng.normal(size=(COUNT, 3, 3)), rng.normal(size=(COUNT, 1, 3))
    line = line * rng.uniform(0.5, 2.0, (COUNT, 3, 1))
    axes = np.tile(np.eye(3), (COUNT, 1, 1))
    return {
        'turned': lambda: (vectors, turned(vectors)),
        'turned, with noise': lambda: (vectors, turned(vectors) + 0.1 * rng.normal(size=vectors.shape)),
        'nothing in common': lambda: (vectors, rng.normal(size=vectors.shape)),
        'half turns': lambda: (vectors, half_turned(vectors)),
        'mirrored': lambda: (vectors, turned(vectors) * [1.0, 1.0, -1.0]),
        'the same': lambda: (vectors, vectors),
        'through the origin': lambda: (vectors, -vectors),
        'huge': lambda: (1e15 * vectors, 1e15 * turned(vectors)),
        'tiny': lambda: (1e-30 * vectors, 1e-30 * turned(vectors)),
        'collinear': lambda: (line, turned(line)),
        'collinear and opposite': lambda: (line, -line),
        # Mirror images in which a turn about one axis changes nothing: the smallest rotation is wanted.
        'a mirror image that may turn': lambda: (axes, turned(axes * [1.0, 0.5, -0.5])),
        'zero': lambda: (0 * vectors, vectors),
    }[kind]()


@pytest.mark.parametrize(
    'kind',
    [
        'turned',
        'turned, with noise',
        'nothing in common',
        'half turns',
        'mirrored',
        'the same',
        'through the origin',
        'huge',
        'tiny',
        'collinear',
        'collinear and opposite',
        'a mirror image that may turn',
        'zero',
    ],
)
def test_quaternions_find_the_rotation_of_singular_values(kind):
    source, target = (np.float32(x) for x in pairs(kind))
    found, expected = (np.asarray(align[by](source, target), np.float64) for by in ('quaternion', 'svd'))
    unit = np.einsum('nji,njk->nik', found, found)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=fuzz_ik.ORTHOGONAL)
    assert np.linalg.det(found).min() > 0.999
    # Rounding turns a rotation the more, the less the vectors say of it: by 1e-7 of s0 / (s1 + s2).
    covariance = np.einsum(
        'nki,nkj->nij', *(np.float64(x) / max(np.abs(x).max(), 1e-37) for x in (target, source))
    )
    s0, s1, s2 = np.linalg.svd(covariance)[1].T
    said = s1 + s2 * np.sign(np.linalg.det(covariance)) > 1e-3 * s0
    condition = np.where(said, s0 / np.where(said, s1 + s2 * np.sign(np.linalg.det(covariance)), 1.0), 10.0)
    assert (np.abs(found - expected).max((1, 2)) <= 2e-6 * np.maximum(condition, 1.0)).all()


def test_nearly_collinear_vectors_are_aligned_as_well():
    """Where rounding decides about the turn, both leave as little of the target unreached.

    What is not told from a line, s1 + s2 of 1e-6 s0, is off it by a thousandth of its length: a turn about
    the line misplaces it by twice that, and rounding adds to it.
    """
    rng = np.random.default_rng(2)
    line = rng.normal(size=(COUNT, 1, 3)) * rng.uniform(0.5, 2.0, (COUNT, 3, 1))
    source = np.float32(line + 10.0 ** rng.uniform(-7, -1, (COUNT, 1, 1)) * rng.normal(size=line.shape))
    target = np.float32(turned(source))
    errors = {
        by: np.linalg.norm(
            np.einsum('nij,nkj->nki', np.asarray(align[by](source, target)), source) - target, axis=2
        )
        for by in rotations.ALIGNMENTS
    }
    sizes = np.linalg.norm(target, axis=2)
    assert (errors['quaternion'] <= errors['svd'] + 3e-3 * sizes).all()
    assert np.median(errors['quaternion'] / sizes) < 1e-5


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="by='horn': must be one of svd, quaternion"):
        rotations.kabsch(np.eye(3), np.eye(3), by='horn')


@pytest.mark.parametrize('count', [24, 29])
def test_the_solver_agrees_with_the_recorded_outputs(golden, count):
    """The released program's skeletons, noisy ones among them: as for the root by singular values."""
    files = sorted(golden.glob(f'ik_{count}joints_eval_noise*.npz'))
    assert files

    @jax.jit
    def quaternions(body, skeleton, twists, betas, leaves):
        rest = jax.vmap(smpl.rest_joints, in_axes=(None, 0))(body, betas)
        right_hand = 'released' if count == 24 else 'leaf'
        solve = functools.partial(ik.solve, right_hand=right_hand, align_by='quaternion')
        solved = jax.vmap(solve)(skeleton, twists, rest, leaves)
        return jax.vmap(jax.vmap(rotations.matrix_to_quaternion))(solved)

    for path in files:
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files}
        toy = recorded.toy_body(golden, int(arrays['body_seed']))
        inputs = (arrays['skeleton'], arrays['twists'], arrays['betas'], arrays.get('leaf_quaternions'))
        worst = np.abs(np.asarray(quaternions(toy, *inputs)) - arrays['quaternions']).max()
        assert worst < recorded._QUATERNION, f'{path.stem}: {worst:.2e}'
