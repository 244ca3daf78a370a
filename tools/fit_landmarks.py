"""Fits SMPL to 3D landmarks of another program, without any network; or measures how well that goes.

usage: python -m tools.fit_landmarks LANDMARKS.json --skeleton mediapipe --out people.npz
       python -m tools.fit_landmarks --measure [--people 500] [--skeleton coco]

LANDMARKS.json is {"points": [[[x, y, z], ...], ...], "visibility": [[v, ...], ...]}, one list for each person
or frame; visibility may be left out. OUT holds what `hybrik_jax.body.fit.Fit` does.

--measure poses the embedded body (poses of the library, betas ~ N(0, 1)), takes the landmarks of its mesh,
fits, poses the fitted body by the whole of the model, and prints how far it is off: the skeleton's own
landmarks and SMPL's 24 joints, mean and 95th percentile, the mesh, and the rotations of joints, with and
without 10 mm of noise (standard deviation of each coordinate), with all ideas, and with one or all left out.
"""

import argparse
import io
import pathlib
import sys

import jax
import numpy as np
from tqdm import tqdm

from hybrik_jax import compiler, json_file
from hybrik_jax.body import fit, landmarks, smpl, smpl_file
from hybrik_jax.ending import write_whole
from hybrik_jax.synthetic.posed_body import ASSETS, to_matrices
from hybrik_jax.units import MM_PER_M

NOISE_M = 0.01
_MESH_STEP = 10  # of the mesh every so many vertices are compared

Posed = dict[str, np.ndarray]  # mesh (B, V / 10, 3), joints (B, 24, 3), elements (B, E, 3)
_skin = jax.jit(jax.vmap(smpl.skin, (None, 0, 0)))


def pose(body: smpl.SMPL, betas: np.ndarray, rotations: np.ndarray) -> Posed:
    """Returns posed bodies, metres, skinned with all of the model: betas (B, 10), rotations (B, 24, 3, 3)."""
    named = [vertex for vertex, _ in landmarks.VERTEX_ELEMENTS.values()]
    rows = np.array([*named, *range(0, len(body.v_template), _MESH_STEP)])
    few = body.replace(
        v_template=body.v_template[rows], directions=body.directions[:, :, rows], weights=body.weights[rows]
    )
    skinned = _skin(few, np.float32(betas), np.float32(rotations))
    vertices, joints, of_h36m = (
        np.asarray(x) for x in (skinned.vertices, skinned.joints, skinned.h36m_joints)
    )
    elements = np.concatenate([joints, vertices[:, : len(named)], of_h36m], axis=1)
    return {'mesh': vertices[:, len(named) :], 'joints': joints, 'elements': elements}


def draw_people(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns betas (B, 10) ~ N(0, 1) and rotations (B, 24, 3, 3) of library poses, camera frame."""
    rng = np.random.default_rng(seed)
    with np.load(ASSETS / 'poses.npz') as file:
        poses = file['axis_angle'].astype(np.float64)
    rotations = to_matrices(poses[rng.choice(len(poses), count, replace=count > len(poses))])
    rotations[:, 0] = fit.AXES['y_up'] @ rotations[:, 0]
    return rng.normal(size=(count, smpl.NUM_BETAS)), rotations


def points_of(posed: Posed, skeleton: str) -> np.ndarray:
    """Returns the landmarks (B, N, 3) of posed bodies, metres; zeros for those that are not used."""
    table = landmarks.landmarks_of(skeleton)
    points = np.zeros((len(posed['joints']), table.count, 3))
    points[:, table.used] = np.einsum('se,bec->bsc', table.weights[table.slots], posed['elements'])
    return points


def errors(
    body: smpl.SMPL, truth: Posed, rotations: np.ndarray, skeleton: str, fitted: fit.Fit
) -> dict[str, np.ndarray]:
    """Returns how far fitted people are off: 'landmarks', 'joints', 'mesh' in mm, 'rotations' in degrees."""
    made = pose(body, fitted.betas, fitted.rotations)
    used = landmarks.landmarks_of(skeleton).used

    def distance(found: np.ndarray, true: np.ndarray) -> np.ndarray:
        moved = fitted.scale[:, None, None] * found + fitted.translation[:, None]
        return MM_PER_M * np.linalg.norm(moved - true, axis=-1)

    trace = np.einsum('bjrc,bjrc->bj', fitted.rotations.astype(np.float64), rotations)
    return {
        'landmarks': distance(points_of(made, skeleton)[:, used], points_of(truth, skeleton)[:, used]),
        'joints': distance(made['joints'], truth['joints']),
        'mesh': distance(made['mesh'], truth['mesh']),
        'rotations': np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))),
    }


def measure(skeletons: list[str], people: int) -> None:
    """Prints the table."""
    body = smpl_file.load_body()
    betas, rotations = draw_people(people)
    truth = pose(body, betas, rotations)
    print('mm: mean / 95th percentile   landmarks      joints     mesh  rotations (degrees)')
    variants = [(), *((idea,) for idea in fit.IDEAS), fit.IDEAS]
    runs = [(s, noise, left_out) for s in skeletons for noise in (0.0, NOISE_M) for left_out in variants]
    for skeleton, noise, left_out in tqdm(runs, unit='run', mininterval=1):
        points = points_of(truth, skeleton)
        points += noise * np.random.default_rng(1).normal(size=points.shape)
        fitted = fit.from_landmarks(points, skeleton, body=body, without=left_out)
        off = errors(body, truth, rotations, skeleton, fitted)
        pairs = [
            f'{off[key].mean():6.1f} /{np.percentile(off[key], 95):6.1f}' for key in ('landmarks', 'joints')
        ]
        title = 'all left out' if left_out == fit.IDEAS else f'no {left_out[0]}' if left_out else ''
        row = f'{skeleton:<10}{MM_PER_M * noise:2.0f} mm {title:<18}'
        tqdm.write(f'{row}{"  ".join(pairs)} {off["mesh"].mean():6.1f} {off["rotations"].mean():6.1f}')


def fit_file(path: str, skeleton: str, out: str, *, axes: str, body: smpl.SMPL) -> list[str]:
    """Writes the fit of the people in a JSON file as an `.npz` file; returns what to tell, a line each.

    Raises:
        ValueError: for a file that is not as this module says, or as `fit.from_landmarks` does.
        FileNotFoundError: there is no such file.
    """
    given = json_file.read(path, 'a file of landmarks')
    if not isinstance(given, dict) or 'points' not in given:
        raise ValueError(
            f'{path}: expected is an object with the key points, and if there is one visibility.'
        )
    try:
        points, visibility = (
            None if given.get(key) is None else np.array(given[key], np.float64)
            for key in ('points', 'visibility')
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'{path}: points and visibility must be lists of numbers, as long as each other.'
        ) from error
    fitted = fit.from_landmarks(points, skeleton, visibility, body=body, axes=axes)
    target = pathlib.Path(out)
    file = io.BytesIO()
    np.savez(file, **vars(fitted), body_model=str(body.name))
    write_whole(target, file.getvalue())
    residual = MM_PER_M * np.nanmean(fitted.residual_m) if np.isfinite(fitted.residual_m).any() else np.nan
    told = [
        f'{target}: {len(np.atleast_1d(fitted.scale))} people, landmarks met within {residual:.1f} mm (mean).'
    ]
    return told + [
        f'Of the first: {kind}: {", ".join(of) or "none"}.' for kind, of in fitted.names(0).items()
    ]


def main() -> int:
    """Does what the command line asks for; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument('landmarks', nargs='?', metavar='LANDMARKS.json')
    parser.add_argument('--skeleton', choices=landmarks.SKELETONS)
    parser.add_argument('--out', metavar='FILE', help='.npz file to write')
    parser.add_argument(
        '--axes', choices=fit.AXES, default='camera', help='of the points; default: %(default)s'
    )
    parser.add_argument('--body', help='SMPL file; default: the embedded body')
    parser.add_argument(
        '--measure', action='store_true', help='print what each idea is worth, of --skeleton or all'
    )
    parser.add_argument('--people', type=int, default=500, help='to measure; default: %(default)s')
    args = parser.parse_args()
    if args.measure:
        measure([args.skeleton] if args.skeleton else list(landmarks.SKELETONS), args.people)
        return 0
    if not args.landmarks or not args.skeleton or not args.out:
        parser.error('give a file of landmarks, --skeleton and --out, or --measure')
    try:
        body = smpl_file.load_body(args.body)
        print('\n'.join(fit_file(args.landmarks, args.skeleton, args.out, axes=args.axes, body=body)))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    compiler.set_up()
    sys.exit(main())
