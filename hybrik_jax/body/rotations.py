"""Rotations of one joint: axis-angle, quaternions, swing and twist, best alignment.

Every function takes one rotation or vector (callers write `jax.vmap`), and has finite values and gradients
for every input whose entries lie within +-`LARGEST`: zero vectors, antiparallel vectors and singular matrices
included. What is called a rotation is one: |R'R - 1| is at most 1e-5 in float32. Lengths of vectors of which
only the direction counts do not matter, from 1e-37 on. No matrix product is left to the device's reduced
precision: products of 3 x 3 matrices are sums of elementwise products.
"""

import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 1e15  # squares of squares still fit into float32 once sizes are divided out
_OPPOSITE = 1e-6  # radians by which two directions may miss half a turn for the rotation's axis to be unknown
_UNDETERMINED = 1e-6  # share of the largest singular value below which rounding decides
_MAX_GRADIENT = 1e6
ALIGNMENTS = ('svd', 'quaternion')
_SQUARINGS = 24  # of a matrix: its eigenvalues to the power of 2^24 differ where float32 tells them apart
# _CROSS @ v is the matrix of v x: one product with a constant compiles far faster than nine stacked entries.
_CROSS = np.zeros((3, 3, 3), np.float32)
_CROSS[[0, 1, 2], [2, 0, 1], [1, 2, 0]] = 1.0
_CROSS[[0, 1, 2], [1, 2, 0], [2, 0, 1]] = -1.0


def norm(vector: jax.Array) -> jax.Array:
    """Returns the length of a vector (over the last axis), with gradient zero at zero length."""
    squared = jnp.sum(vector * vector, axis=-1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def unscaled(x: jax.Array) -> jax.Array:
    """Returns `x` divided by its largest magnitude; zeros where that is below 1e-37.

    For what does not depend on the size of `x`. Its gradient is bounded (see `bound_gradient`).
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    some = size > 1e-37
    return jnp.where(some, bound_gradient(x), 0.0) / jnp.where(some, size, 1.0)


def direction(vector: jax.Array, fallback: jax.Array | None = None) -> jax.Array:
    """Returns the unit vector along `vector` (N,), where that is zero along `fallback`; zero without one."""
    vector = unscaled(vector)
    length = norm(vector)
    some = length > 0
    unit = vector / jnp.where(some, length, 1.0)
    return unit if fallback is None else jnp.where(some, unit, direction(fallback))


def pick(x: jax.Array, indices: np.ndarray) -> jax.Array:
    """Returns x[indices] along the first axis, for constant indices; -1 picks zeros.

    A product with zeros and ones, exact in full precision. The gradient of plain indexing would be a scatter,
    which is slow, and on GPUs adds in no fixed order.
    """
    indices = np.asarray(indices)
    chosen = (indices[..., None] == np.arange(x.shape[0])).astype(x.dtype)
    return jnp.tensordot(chosen, x, axes=1, precision='highest')


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the product of matrices (..., n, k) and (..., k, m), in full precision."""
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def rotate(rotation: jax.Array, vector: jax.Array) -> jax.Array:
    """Returns `rotation` (..., 3, 3) applied to `vector` (..., 3), in full precision."""
    return jnp.sum(rotation * vector[..., None, :], axis=-1)


def rotate_back(rotation: jax.Array, vector: jax.Array) -> jax.Array:
    """Returns the inverse of `rotation` (..., 3, 3) applied to `vector` (..., 3), in full precision."""
    return jnp.sum(rotation * vector[..., :, None], axis=-2)


def cross_matrix(vector: jax.Array) -> jax.Array:
    """Returns the matrix K (3, 3) with K @ x = vector x x."""
    return jnp.sum(_CROSS.astype(vector.dtype) * vector, axis=-1)


def _axis_square(axis: jax.Array) -> jax.Array:
    """Returns cross_matrix(axis) @ cross_matrix(axis)."""
    return axis[:, None] * axis[None, :] - jnp.sum(axis * axis) * jnp.eye(3, dtype=axis.dtype)


def axis_angle_to_matrix(axis_angle: jax.Array) -> jax.Array:
    """Returns the rotation (3, 3) about `axis_angle` (3,) by its length, radians; smooth at zero."""
    squared = jnp.sum(axis_angle * axis_angle)
    small = squared < 1e-6
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    sine = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    half = jnp.where(small, 1.0 - squared / 24.0, jnp.sin(angle / 2) / (angle / 2))
    eye = jnp.eye(3, dtype=axis_angle.dtype)
    return eye + sine * cross_matrix(axis_angle) + 0.5 * half * half * _axis_square(axis_angle)


def matrix_to_quaternion(rotation: jax.Array) -> jax.Array:
    """Returns the unit quaternion (4,), (w, x, y, z), of a rotation (3, 3).

    Its sign: where m22 < 1e-6, x is positive if m00 > m11, else y; elsewhere z is positive if m00 < -m11,
    else w.

    Source: HybrIK's released program, whose signs the recordings share.
    """
    m = rotation
    x = 1 + m[0, 0] - m[1, 1] - m[2, 2]
    y = 1 - m[0, 0] + m[1, 1] - m[2, 2]
    z = 1 - m[0, 0] - m[1, 1] + m[2, 2]
    w = 1 + m[0, 0] + m[1, 1] + m[2, 2]
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2]
    low = m[2, 2] < 1e-6
    use_x = low & (m[0, 0] > m[1, 1])
    use_z = ~low & (m[0, 0] < -m[1, 1])
    squared = jnp.where(low, jnp.where(use_x, x, y), jnp.where(use_z, z, w))
    quaternion = jnp.where(
        low,
        jnp.where(use_x, jnp.stack([wx, x, xy, xz]), jnp.stack([wy, xy, y, yz])),
        jnp.where(use_z, jnp.stack([wz, xz, yz, z]), jnp.stack([w, wx, wy, wz])),
    )
    return 0.5 * quaternion / jnp.sqrt(jnp.maximum(squared, 1e-6))


def quaternion_to_matrix(quaternion: jax.Array) -> jax.Array:
    """Returns the rotation (3, 3) of a quaternion (4,), (w, x, y, z), any length; zero: the identity."""
    return _turn(*jnp.split(direction(quaternion), [1]))


def _turn(w: jax.Array, vector: jax.Array) -> jax.Array:
    """Returns the rotation (3, 3) of a quaternion of length one: its real part and its `vector` (3,)."""
    return jnp.eye(3, dtype=vector.dtype) + 2 * (w * cross_matrix(vector) + _axis_square(vector))


def matrix_to_axis_angle(rotation: jax.Array) -> jax.Array:
    """Returns axis times angle (3,), angle in [0, pi] radians, of a rotation (3, 3)."""
    quaternion = matrix_to_quaternion(rotation)
    quaternion = jnp.where(quaternion[0] < 0, -quaternion, quaternion)
    w, vector = quaternion[0], quaternion[1:]
    sine = norm(vector)
    small = sine < 1e-4
    factor = jnp.where(
        small, 2.0 / jnp.where(small, w, 1.0), 2.0 * jnp.arctan2(sine, w) / jnp.where(small, 1.0, sine)
    )
    return factor * vector


def rotation_about(axis: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Returns the rotation (3, 3) about the unit vector `axis` (3,), or the identity for a zero axis.

    `cosine` and `sine` are those of one angle: their squares add up to one.
    """
    eye = jnp.eye(3, dtype=axis.dtype)
    return eye + sine * cross_matrix(axis) + (1 - cosine) * _axis_square(axis)


def rotation_between(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the smallest rotation (3, 3) that turns `a` (3,) to the direction of `b` (3,).

    Lengths do not matter; a zero vector gives the identity, and opposite vectors half a turn about an axis
    that depends on `a` alone. Gradients of nearly degenerate directions, infinite in the limit, are bounded
    (see `bound_gradient`).

    It is the quaternion (a . h, a x h) of the half-way direction h, which has length one whatever h is.
    """
    a, b = direction(a), direction(b)
    middle, apart = a + b, a - b
    # Of nearly opposite vectors what is left in the middle is mostly the rounding of their lengths.
    rounding = jnp.sum(middle * apart) / jnp.maximum(jnp.sum(apart * apart), 1.0)
    middle -= jax.lax.stop_gradient(jnp.clip(rounding, -_OPPOSITE, _OPPOSITE) * apart)
    sideways = jnp.array([1.0, 0.0, 0.0], a.dtype), jnp.array([0.0, 1.0, 0.0], a.dtype)
    across = rotate(cross_matrix(a), jnp.where(jnp.abs(a[0]) < 0.6, *sideways))
    half = direction(jnp.where(jnp.max(jnp.abs(middle)) < _OPPOSITE, across, middle))
    return _turn(jnp.sum(a * half), rotate(cross_matrix(a), half))


@jax.custom_vjp
def bound_gradient(x: jax.Array) -> jax.Array:
    """Returns `x`, with each entry of its gradient clipped to +-1e6.

    The direction of a vector has a slope of 1 / length. Along a chain of nine joints such slopes multiply;
    bounding them at every joint keeps the product finite, and no gradient that means anything is that large.
    """
    return x


bound_gradient.defvjp(
    lambda x: (x, None), lambda _, gradient: (jnp.clip(gradient, -_MAX_GRADIENT, _MAX_GRADIENT),)
)


def twist_swing(rotation: jax.Array, bone: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits `rotation` into swing and twist about `bone`.

    Args:
        rotation: (3, 3) local rotation.
        bone: (3,) rest bone vector, metres; its length does not matter, zero length gives no twist.
    Returns:
        swing (3, 3), twist angle in radians, in (-pi, pi]; rotation = swing @ turn(bone, angle), and the
        swing is the smallest rotation from bone to rotation @ bone. Where those two are opposite, any twist
        would do: it is zero.
    Source: HybrIK (Li et al. 2021), section 3.2.
    """
    axis = direction(bone)
    quaternion = matrix_to_quaternion(rotation)
    w, along = quaternion[0], jnp.sum(quaternion[1:] * axis)
    sine, cosine = 2 * w * along, w * w - along * along
    undefined = w * w + along * along < 1e-12
    sine = jnp.where(undefined | (sine == 0), 0.0, sine)
    angle = jnp.arctan2(sine, jnp.where(undefined, 1.0, cosine))
    twist = rotation_about(axis, jnp.cos(angle), jnp.sin(angle))
    return matmul(rotation, twist.T), angle


def kabsch(source: jax.Array, target: jax.Array, *, by: str = 'svd') -> jax.Array:
    """Returns the rotation (3, 3) that best aligns `source` vectors with `target` vectors, in least squares.

    Args:
        source, target: (N, 3) vectors; nothing is centred, and neither scale matters. All zero: the identity.
            All on a line, or mirror images that fit as well in any turn about one: the smallest rotation.
        by: one of `ALIGNMENTS`. 'svd': a singular value decomposition. 'quaternion': the same rotation by
            sums and products alone, for programs of other frameworks; its gradient is not looked after.
    Returns:
        R with target ~ source @ R.T. Its gradient is the exact one where the rotation is determined, and zero
        along the directions in which it is not.
    Raises:
        ValueError: for an unknown `by`.
    Source: Kabsch 1976; reflections are mended at the smallest singular value. Quaternions: Horn 1987.
    """
    if by not in ALIGNMENTS:
        raise ValueError(f'by={by!r}: must be one of {", ".join(ALIGNMENTS)}.')
    align = _best_rotation if by == 'svd' else _best_rotation_by_quaternion
    return align(jnp.sum(unscaled(target)[:, :, None] * unscaled(source)[:, None, :], axis=0))


@jax.custom_jvp
def _best_rotation(covariance: jax.Array) -> jax.Array:
    return _best_rotation_svd(covariance)[0]


def _best_rotation_svd(covariance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns R that maximises trace(R.T @ C), U (3, 3) and s = (s0, s1, +-s2), with C = U diag(s) U.T R."""
    zero = jnp.all(covariance == 0)
    u, s, vt = jnp.linalg.svd(jnp.where(zero, jnp.eye(3, dtype=covariance.dtype), covariance))
    sign = jnp.where(jnp.linalg.det(u) * jnp.linalg.det(vt) < 0, -1.0, 1.0).astype(covariance.dtype)
    signs = jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign])
    s = jnp.where(zero, 0.0, s * signs)
    undetermined = s[1] + s[2] <= _UNDETERMINED * s[0]
    rotation = jnp.where(undetermined, rotation_between(vt[0], u[:, 0]), matmul(u * signs, vt))
    return jnp.where(zero, jnp.eye(3, dtype=covariance.dtype), rotation), u, s


@_best_rotation.defjvp
def _best_rotation_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Returns R and dR = [w] R, which keeps C R.T = S symmetric: (trace(S) - S) w = vee(dC R.T - R dC.T)."""
    (covariance,), (change,) = primals, tangents
    rotation, u, s = _best_rotation_svd(covariance)
    moved = matmul(change, rotation.T)
    lever = jnp.stack([moved[2, 1] - moved[1, 2], moved[0, 2] - moved[2, 0], moved[1, 0] - moved[0, 1]])
    stiffness = jnp.stack([s[1] + s[2], s[0] + s[2], s[0] + s[1]])
    determined = stiffness > _UNDETERMINED * s[0]
    inverse = jnp.where(determined, 1.0 / jnp.where(determined, stiffness, 1.0), 0.0)
    turn = rotate(u, inverse * rotate_back(u, lever))
    return rotation, matmul(cross_matrix(turn), rotation)


def _dominant(matrix: jax.Array) -> jax.Array:
    """Returns the unit eigenvector (n,) of the largest eigenvalue of a matrix (n, n), symmetric and positive.

    Squared again and again the matrix becomes the projection onto it, of which the longest column is taken.
    """
    for _ in range(_SQUARINGS):
        matrix = unscaled(matmul(matrix, matrix))
    longest = jnp.argmax(jnp.sum(matrix * np.eye(len(matrix)), axis=1)) == np.arange(len(matrix))
    return direction(jnp.sum(jnp.where(longest, matrix, 0.0), axis=1))


def _best_rotation_by_quaternion(covariance: jax.Array) -> jax.Array:
    """Returns R that maximises trace(R.T @ C), from the dominant eigenvector of Horn's 4 x 4 matrix of C."""
    c = unscaled(covariance)
    trace = c[0, 0] + c[1, 1] + c[2, 2]
    skew = jnp.stack([c[2, 1] - c[1, 2], c[0, 2] - c[2, 0], c[1, 0] - c[0, 1]])
    below = jnp.concatenate([skew[:, None], c + c.T - trace * jnp.eye(3, dtype=c.dtype)], axis=1)
    horn = jnp.concatenate([jnp.append(trace, skew)[None], below])
    # Its eigenvalues are s0 + s1 + s2 for the best rotation, and -s0 - s1 + s2 at the least: above zero now.
    size = 2.0 * norm(c.ravel())
    quaternion = _dominant(horn + size * jnp.eye(4, dtype=c.dtype))
    rotation = quaternion_to_matrix(quaternion)
    first = _dominant(matmul(c.T, c))
    image = rotate(c, first)
    largest = norm(image)
    undetermined = jnp.sum(rotation * c) - largest <= _UNDETERMINED * largest  # s1 + s2
    rotation = jnp.where(undetermined, rotation_between(first, image), rotation)
    return jnp.where(jnp.all(covariance == 0), jnp.eye(3, dtype=c.dtype), rotation)
