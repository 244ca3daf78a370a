"""Tries the inverse kinematics on a million skeletons of named kinds and prints a table of what was worst.

usage: python -m tools.fuzz_ik [--people 1000000] [--seed 0] [--body SMPL.pkl]
Columns: people with values or gradients (to joints, twists, rest joints, leaf rotations) that are not finite,
the largest entry of |R'R - 1|, and how far forward kinematics of the solution is off the skeleton, where the
body can reach it.
The exit status is 1 where a figure is over its limit.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from hybrik_jax.body import ik, rotations, skeleton, smpl, smpl_file

BATCH = 4096  # people at once
ORTHOGONAL = 1e-5  # of |R'R - 1|
REACHED_MM = {'training': 0.5, 'evaluation': 0.1, 'naive': 0.5}
_POOL = 64  # shapes among which one is chosen for its hips
_PARENTS = np.array((0, *skeleton.PARENTS_29[1:]))

People = dict[str, np.ndarray]  # joints (B, 29, 3), twists (B, 23, 2), rest (B, 29, 3), leaves (B, 5, 4)


@dataclasses.dataclass
class Row:
    """What was found of one kind, number of joints and form; `reached_mm` is None of other than reachable."""

    kind: str
    joints: int
    form: str
    people: int = 0
    values: int = 0
    gradients: int = 0
    orthogonal: float = 0.0
    reached_mm: float | None = None

    def within(self) -> bool:
        """Returns whether no figure is over its limit."""
        reached = self.reached_mm is None or self.reached_mm <= REACHED_MM[self.form]
        return not self.values and not self.gradients and self.orthogonal <= ORTHOGONAL and reached


def reachable(rng: np.random.Generator, body: smpl.SMPL, count: int) -> People:
    """Returns random poses of random shapes, betas ~ N(0, 1), with their true twists and leaf rotations."""
    return _posed(rng, body, rng.normal(size=(count, smpl.NUM_BETAS)))


def hips_on_the_spine(rng: np.random.Generator, body: smpl.SMPL, count: int) -> People:
    """Returns reachable people; of 64 shapes each that with the hips' middle nearest to the spine's line."""
    betas = rng.normal(size=(count, _POOL, smpl.NUM_BETAS)).astype(np.float32)
    template, dirs = np.asarray(body.rest_joints_template)[:4], np.asarray(body.rest_joints_dirs)[:4]
    rest = template + np.einsum('jab,npb->npja', dirs, betas, optimize=True)
    middle, spine = rest[..., 1:3, :].mean(2) - rest[..., 0, :], rest[..., 3, :] - rest[..., 0, :]
    off = np.linalg.norm(np.cross(middle, spine), axis=-1) / np.linalg.norm(spine, axis=-1)
    return _posed(rng, body, betas[np.arange(count), off.argmin(axis=1)])


def _posed(rng: np.random.Generator, body: smpl.SMPL, betas: np.ndarray) -> People:
    vectors = 0.5 * rng.normal(size=(len(betas), 24, 3))
    vectors[:, 0] *= 4  # any way round
    return {k: np.array(v) for k, v in _pose(body, *(np.float32(x) for x in (betas, vectors))).items()}


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0, 0))
def _pose(body: smpl.SMPL, betas: jax.Array, vectors: jax.Array) -> dict[str, jax.Array]:
    matrices, rest = jax.vmap(rotations.axis_angle_to_matrix)(vectors), smpl.rest_joints(body, betas)
    world, joints = smpl.pose_skeleton(matrices, rest)
    parents = np.array(skeleton.LEAF_PARENTS)
    leaves = joints[parents] + rotations.rotate(world[parents], rest[24:] - rest[parents])
    angles = ik.pose_to_twists(matrices, rest)
    return {
        'joints': jnp.concatenate([joints, leaves]),
        'twists': jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1),
        'rest': rest,
        'leaves': jax.vmap(rotations.matrix_to_quaternion)(matrices[np.array(skeleton.LEAF_JOINTS)]),
    }


def noisy(rng: np.random.Generator, body: smpl.SMPL, count: int) -> People:
    """Returns reachable people whose joints are off by 1 to 300 mm (standard deviation)."""
    people = reachable(rng, body, count)
    people['joints'] += 10 ** rng.uniform(-3, -0.5, (count, 1, 1)) * rng.normal(size=(count, 29, 3))
    return people


def anything(rng: np.random.Generator, body: smpl.SMPL, count: int) -> People:
    """Returns joints all over a few metres, twists and leaf rotations of any length."""
    people = reachable(rng, body, count)
    drawn = {key: rng.normal(size=value.shape) for key, value in people.items() if key != 'rest'}
    return people | drawn


def scaled(rng: np.random.Generator, body: smpl.SMPL, count: int) -> People:
    """Returns noisy people, and all of them, one joint, their rest joints, twists or leaves of any size."""
    people = noisy(rng, body, count)

    def size(*shape: int) -> np.ndarray:
        return 10 ** rng.uniform(-45, 38, (count, *shape)).clip(-45, 37)

    def some(share: float) -> np.ndarray:
        return rng.random(count) < share

    one = np.zeros((count, 29, 1))
    one[np.arange(count), rng.integers(29, size=count)] = 1
    both, joints, joint, rest = some(0.3), some(0.5), some(0.3), some(0.2)
    factor = np.where(both[:, None, None], size(1, 1), 1)
    people['joints'] = (
        people['joints'] * factor * np.where(joints[:, None, None], size(1, 1), 1).clip(0, 1e37)
    )
    people['rest'] = people['rest'] * factor * np.where(rest[:, None, None], size(1, 1), 1).clip(0, 1e37)
    people['joints'] = people['joints'] * np.where(joint[:, None, None], one * size(1, 1) + (1 - one), 1)
    people['twists'] = people['twists'] * np.where(some(0.5)[:, None, None], size(23, 1), 1)
    people['leaves'] = people['leaves'] * np.where(some(0.5)[:, None, None], size(5, 1), 1)
    return people


def degenerate(rng: np.random.Generator, body: smpl.SMPL, count: int) -> People:
    """Returns people of whom something has no answer: the cases of `DEGENERATE` in turn, some of them two."""
    people = reachable(rng, body, count)
    cases = list(DEGENERATE.values())
    for i in range(count):
        one = {key: value[i] for key, value in people.items()}
        cases[i % len(cases)](rng, one)
        if rng.random() < 0.3:
            cases[rng.integers(len(cases))](rng, one)
    return people


def _chain(rest: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns the rest skeleton (29, 3) from the origin on, every bone multiplied by its factor (29,)."""
    bones = rest - rest[_PARENTS]
    made = np.zeros_like(rest)
    for joint, parent in enumerate(skeleton.PARENTS_29[1:], start=1):
        made[joint] = made[parent] + factors[joint] * bones[joint]
    return made


def _bend(rng: np.random.Generator, one: People) -> None:
    """Makes the bones opposite to their rest bones, exactly or nearly, most of them or a few."""
    signs = np.where(rng.random(29) < rng.choice([0.1, 0.5, 1.0]), -1.0, 1.0)
    one['joints'][:] = _chain(one['rest'], signs)
    one['joints'] += rng.choice([0, 1e-7, 1e-5, 1e-3]) * rng.normal(size=(29, 3))


def _spin_half(rng: np.random.Generator, one: People) -> None:
    """Turns everything half way round about the spine, or nearly."""
    spine = one['rest'][3] - one['rest'][0]
    spine = spine / max(np.linalg.norm(spine), 1e-9)
    one['joints'][:] = one['rest'] @ (2 * np.outer(spine, spine) - np.eye(3))
    one['joints'] += rng.choice([0, 1e-7, 1e-5, 1e-3]) * rng.normal(size=(29, 3))


def _no_bones(rng: np.random.Generator, one: People) -> None:
    """Puts some joints where their parents are."""
    some = rng.random(29) < rng.choice([0.05, 0.3, 1.0])
    one['joints'][some] = one['joints'][_PARENTS[some]]


def _no_rest_bones(rng: np.random.Generator, one: People) -> None:
    """Takes some rest bones away."""
    one['rest'][:] = _chain(one['rest'], np.where(rng.random(29) < rng.choice([0.05, 0.3, 1.0]), 0.0, 1.0))


def _set(key: str, value: Callable[[np.random.Generator, np.ndarray], np.ndarray]) -> Callable:
    def change(rng: np.random.Generator, one: People) -> None:
        one[key][:] = value(rng, one[key])

    return change


DEGENERATE: dict[str, Callable[[np.random.Generator, People], None]] = {
    'opposite bones': _bend,
    'half a turn about the spine': _spin_half,
    'joints at their parents': _no_bones,
    'no rest bones': _no_rest_bones,
    'rest pose': lambda rng, one: one['joints'].__setitem__(slice(None), one['rest']),
    'zero skeleton': _set('joints', lambda rng, x: 0 * x),
    'tiny skeleton': _set('joints', lambda rng, x: x * 10 ** rng.uniform(-38, -3)),
    'on a line': _set('joints', lambda rng, x: np.arange(29)[:, None] * rng.normal(size=3)),
    'one point': _set('joints', lambda rng, x: 0 * x + rng.normal(size=3)),
    'flat': _set('joints', lambda rng, x: x * [1, 1, 0]),
    'mirrored': _set('joints', lambda rng, x: x * [-1, 1, 1]),
    'zero rest skeleton': _set('rest', lambda rng, x: 0 * x),
    'zero twists': _set('twists', lambda rng, x: 0 * x),
    'tiny and huge twists': _set('twists', lambda rng, x: x * 10 ** rng.uniform(-38, 18, (23, 1))),
    'zero leaf rotations': _set('leaves', lambda rng, x: 0 * x),
}
KINDS: dict[str, Callable[[np.random.Generator, smpl.SMPL, int], People]] = {
    'reachable': reachable,
    "reachable, hips' middle near the spine": hips_on_the_spine,
    'noisy': noisy,
    'random': anything,
    'degenerate': degenerate,
    'scaled by 1e-45 to 1e37': scaled,
}


@functools.partial(jax.jit, static_argnums=2)
def _solve(people: dict[str, jax.Array], weights: jax.Array, form: str) -> tuple[jax.Array, ...]:
    """Returns rotations (B, 24, 3, 3), their joints (B, 24, 3), and whose gradients are finite (B,)."""

    def objective(people: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        columns = (people[key] for key in ('joints', 'twists', 'rest', 'leaves'))
        solved = jax.vmap(functools.partial(ik.solve, form=form))(*columns)
        return jnp.sum(solved * weights), solved

    gradients, solved = jax.grad(objective, has_aux=True)(people)
    finite = [jnp.isfinite(x).all(axis=(1, 2)) for x in gradients.values()]
    return solved, jax.vmap(ik.forward_kinematics)(solved, people['rest']), jnp.stack(finite).all(axis=0)


def fuzz(body: smpl.SMPL, *, people: int, seed: int = 0, batch: int = BATCH) -> Iterator[Row]:
    """Yields a row for each kind, number of joints and form; together they have about so many `people`."""
    share = -(-people // (2 * len(ik.FORMS) * len(KINDS)))
    weights = np.random.default_rng(seed).normal(size=(24, 3, 3)).astype(np.float32)
    bar = tqdm(total=2 * len(ik.FORMS) * len(KINDS) * share, unit='skeleton', unit_scale=True, mininterval=1)
    for number, (kind, make) in enumerate(KINDS.items()):
        rows = [Row(kind, n, form) for n in (24, 29) for form in ik.FORMS]
        rng = np.random.default_rng((seed, number))
        for start in range(0, share, batch):
            drawn = {
                key: np.float32(value.clip(-3e38, 3e38)) for key, value in make(rng, body, batch).items()
            }
            for row in rows:
                _try(row, drawn, weights, kept=min(batch, share - start))
                bar.update(min(batch, share - start))
        yield from rows
    bar.close()


def _try(row: Row, people: People, weights: np.ndarray, kept: int) -> None:
    """Adds to a row what is found of the first so many people."""
    people = people | {'joints': people['joints'][:, : row.joints]}
    outputs = _solve(people, weights, row.form)
    solved, posed, gradients = (np.asarray(x[:kept], np.float64) for x in outputs)
    row.people += kept
    row.values += int((~np.isfinite(solved).all(axis=(1, 2, 3))).sum())
    row.gradients += int((gradients == 0).sum())
    square = np.einsum('njba,njbc->njac', solved, solved)
    row.orthogonal = max(row.orthogonal, float(np.nan_to_num(np.abs(square - np.eye(3)), nan=np.inf).max()))
    if row.kind.startswith('reachable'):
        truth = people['joints'][:kept, :24].astype(np.float64)
        off = (posed - posed[:, :1]) - (truth - truth[:, :1])
        off_mm = float(np.nan_to_num(1e3 * np.linalg.norm(off, axis=-1), nan=np.inf).max())
        row.reached_mm = max(row.reached_mm or 0.0, off_mm)


def main() -> int:
    """Prints the table; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument('--people', type=int, default=1_000_000, help='skeletons in all; default %(default)s')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--body', help='SMPL file; default: the embedded body')
    args = parser.parse_args()
    print(
        f'{"kind":<40}joints form       {"people":>8}{"values":>8}{"gradients":>10}{"|RR-1|":>9}{"off mm":>9}'
    )
    fine = True
    for row in fuzz(smpl_file.load_body(args.body), people=args.people, seed=args.seed):
        reached = '' if row.reached_mm is None else f'{row.reached_mm:.4f}'
        bad = f'{row.values:>8}{row.gradients:>10}'
        end = '' if row.within() else '  over'
        tqdm.write(
            f'{row.kind:<40}{row.joints:>4}   {row.form:<11}{row.people:>8}{bad}{row.orthogonal:>9.1e}'
            f'{reached:>9}{end}'
        )
        fine = fine and row.within()
    return 0 if fine else 1


if __name__ == '__main__':
    sys.exit(main())
