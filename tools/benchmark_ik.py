"""Time of the inverse kinematics per batch, and of its compilation.

    python -m tools.benchmark_ik --batch 64 4096

Prints one row for the evaluation form and one for the training form with its gradient, for 24 joints.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import ik, rotations, smpl, smpl_file


def make_people(count: int) -> tuple[jax.Array, ...]:
    """Returns noisy joints (count, 24, 3), twists, rest joints and leaf quaternions of random people."""
    rng = np.random.default_rng(0)
    vectors = 0.4 * rng.normal(size=(count, 24, 3)).astype(np.float32)
    betas = rng.normal(size=(count, 10)).astype(np.float32)
    rest = jax.vmap(smpl.rest_joints, in_axes=(None, 0))(smpl_file.load_body(), betas)
    matrices = jax.vmap(jax.vmap(rotations.axis_angle_to_matrix))(vectors)
    joints = jax.vmap(ik.forward_kinematics)(matrices, rest)
    joints += 0.03 * rng.normal(size=joints.shape).astype(np.float32)
    twists = rng.normal(size=(count, 23, 2)).astype(np.float32)
    leaves = rng.normal(size=(count, 5, 4)).astype(np.float32)
    return joints, twists, rest, leaves


def evaluation(*people: jax.Array) -> jax.Array:
    """Returns rotations (B, 24, 3, 3) of the evaluation form."""
    return jax.vmap(ik.solve)(*people)


def training(*people: jax.Array) -> tuple[jax.Array, ...]:
    """Returns gradients to all inputs of the training form's distance from the identity."""
    solve = jax.vmap(functools.partial(ik.solve, form='training'))

    def distance(*inputs: jax.Array) -> jax.Array:
        return jnp.sum((solve(*inputs) - jnp.eye(3)) ** 2)

    return jax.grad(distance, argnums=(0, 1, 2, 3))(*people)


def measure(function: Callable, people: Sequence[jax.Array], repeats: int) -> tuple[float, float]:
    """Returns the seconds to trace and compile `function`, and the median of its seconds per call."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*people).compile()
    compile_s = time.perf_counter() - start
    jax.block_until_ready(compiled(*people))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*people))
        times.append(time.perf_counter() - start)
    return compile_s, float(np.median(times))


def main() -> None:
    """Prints the table."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument('--batch', type=int, nargs='+', default=[64, 4096], help='people per batch')
    parser.add_argument('--repeats', type=int, default=20, help='calls, of which the median counts')
    arguments = parser.parse_args()
    jax.config.update('jax_enable_compilation_cache', False)
    print(f'{jax.devices()[0].device_kind}, float32, 24 joints')
    print(f'{"form":<24}{"people":>8}{"compile s":>12}{"batch ms":>12}{"person us":>12}')
    for count in arguments.batch:
        people = make_people(count)
        for name, function in (('evaluation', evaluation), ('training with gradient', training)):
            compile_s, call_s = measure(function, people, arguments.repeats)
            print(f'{name:<24}{count:>8}{compile_s:>12.1f}{1e3 * call_s:>12.2f}{1e6 * call_s / count:>12.2f}')


if __name__ == '__main__':
    main()
