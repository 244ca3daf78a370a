"""Finds annotations that cannot be right: units, axes, cameras and boxes that contradict each other.

The limits are wide: what real data hold passes, what a wrong unit or axis makes of them does not.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hybrik_jax.body.projection import project
from hybrik_jax.datasets import record_check
from hybrik_jax.datasets.annotation import AnnotatedPerson

# Limbs and their usual lengths in metres: thighs, lower legs, upper arms, forearms.
LIMBS = {
    (1, 4): 0.38, (2, 5): 0.38, (4, 7): 0.40, (5, 8): 0.40,
    (16, 18): 0.26, (17, 19): 0.26, (18, 20): 0.25, (19, 21): 0.25,
}  # fmt: skip
LIMBS_H36M = {
    (1, 2): 0.42, (4, 5): 0.42, (2, 3): 0.42, (5, 6): 0.42,
    (11, 12): 0.28, (14, 15): 0.28, (12, 13): 0.25, (15, 16): 0.25,
}  # fmt: skip
_LIMB_RATIOS = (0.4, 2.0)  # of the middle one to the usual length: children to giants
_UNITS = {
    1e3: 'millimetres were taken for metres',
    1e2: 'centimetres were taken for metres',
    1e-2: 'centimetres were expected and metres given',
    1e-3: 'millimetres were expected and metres given',
}
_LONGEST_BONE_M = 1.5
_MOST_PIXELS_OFF = 5.0  # projection against pixels: at least this, or
_MOST_BOX_OFF = 0.05  # this share of the box
_MOST_ROOT_OFF_M = 0.5
_MOST_DEPTH_OFF_M = 0.05
_MOST_FITS = 20
_FARTHEST_M = 200.0
_LARGEST_ANGLE = 15.0  # radians
_LARGEST_BETA = 20.0
_FEWEST_JOINTS = 4  # with fewer labelled nothing is said about them
_SHOWN = 5

Labels = Mapping[str, np.ndarray]


def check_person(person: AnnotatedPerson) -> list[str]:
    """Returns what is wrong with an annotated person, one sentence each; empty where nothing is.

    Values that are not finite, the box, the camera, limbs of no human length (with a guess at the unit),
    joints behind the camera, joints whose projection is not where their pixels are, joints that are not near
    the box, pose or shape of no possible size.
    """
    labels = person.labels
    problems = [
        f'{name}{_places(~np.isfinite(value))} is not finite'
        for name, value in labels.items()
        if not np.isfinite(value).all()
    ]
    if problems:
        return problems  # they would spoil what follows
    problems += record_check.place_faults(labels)
    placed = not problems and labels['camera_weight'] > 0
    for name, weight, limbs in (
        ('joints_m', labels['joints_weight'], LIMBS),
        ('h36m_joints_m', labels['h36m_weight'], LIMBS_H36M),
    ):
        if text := wrong_unit(labels[name], weight, limbs):
            problems.append(f'{name}: {text}')
            continue
        for (a, b), length in _limb_lengths(labels[name], weight, limbs).items():
            if length > _LONGEST_BONE_M:
                problems.append(f'{name}: joints {a} and {b} are {length:.3g} m apart')
    if placed:
        problems += _projection_problems(labels)
    if not problems or labels['camera_weight'] == 0:
        problems += _placement_problems(labels)
    problems += _pose_problems(labels)
    return problems


def wrong_unit(points: np.ndarray, weight: np.ndarray, limbs: Mapping[tuple, float]) -> str:
    """Returns what is wrong where the median limb is of no human length, with a guess at the unit, or ''.

    Args:
        points: (N, 3) metres.
        weight: (N,), zero where a point is not known.
        limbs: pairs of points and their usual length, metres.
    """
    lengths = _limb_lengths(points, weight, limbs)
    ratio = float(np.median([length / limbs[pair] for pair, length in lengths.items()] or [1]))
    low, high = _LIMB_RATIOS
    if low <= ratio <= high:
        return ''
    guess = next((f': as if {text}' for unit, text in _UNITS.items() if low <= ratio / unit <= high), '')
    return f'limbs are {ratio:.3g} times as long as usual (median of {len(lengths)}){guess}'


def _limb_lengths(points: np.ndarray, weight: np.ndarray, limbs: Mapping[tuple, float]) -> dict[tuple, float]:
    known = [(a, b) for a, b in limbs if weight[a] > 0 and weight[b] > 0]
    return {(a, b): float(np.linalg.norm(points[a] - points[b])) for a, b in known}


def _projection_problems(labels: Labels) -> Iterator[str]:
    """Where joint 0 lies is not annotated (root_m may be another point): it is found from the pixels."""
    distance = np.linalg.norm(labels['root_m'])
    if distance > _FARTHEST_M:
        yield f'root_m is {distance:.4g} m away: as if millimetres were taken for metres'
        return
    points, pixels = (labels[name].astype(np.float64) for name in ('joints_m', 'joints_px'))
    placed = labels['joints_weight'] > 0
    on_photo = placed & (labels['joints_px_weight'][:, :2] > 0).all(1)
    focal, centre = labels['focal'].astype(np.float64), labels['centre'].astype(np.float64)
    tolerance = max(_MOST_PIXELS_OFF, _MOST_BOX_OFF * float((labels['box'][2:] - labels['box'][:2]).max()))
    origin = labels['root_m'].astype(np.float64)
    if on_photo.sum() >= _FEWEST_JOINTS:
        origin = _origin(points[on_photo], pixels[on_photo, :2], focal, centre, tolerance)
        apart = float(np.linalg.norm(origin - labels['root_m']))
        if apart > max(_MOST_ROOT_OFF_M, 0.1 * abs(float(labels['root_m'][2]))):
            yield (
                f'root_m {short(labels["root_m"])} and the place {short(origin)} that joints_m and '
                f'joints_px give joint 0 are {apart:.3g} m apart: check units, focal, centre and axes'
            )
            return
    behind = placed & (points[:, 2] + origin[2] <= 0)
    if behind.any():
        yield f'joints_m{_places(behind)} lies behind the camera: z must point forward'
        return
    if on_photo.any():
        off = np.linalg.norm(project(points + origin, focal, centre) - pixels[:, :2], axis=1) * on_photo
        if off.max() > tolerance:
            yield (
                f'joints_px{_places(off == off.max())} is {off.max():.1f} px from where joints_m projects: '
                'check the axes (x right, y down, z forward), focal, centre and units'
            )
    deep = placed & (labels['joints_px_weight'][:, 2] > 0)
    off = np.abs(pixels[:, 2] - points[:, 2]) * deep
    if off.max() > _MOST_DEPTH_OFF_M:
        yield (
            f'joints_px{_places(off == off.max())}: its depth differs from joints_m by {off.max():.3g} m: it '
            'should be metres relative to joint 0'
        )


def _origin(
    points: np.ndarray, pixels: np.ndarray, focal: np.ndarray, centre: np.ndarray, tolerance: float
) -> np.ndarray:
    """Returns the place (3,) of the origin of points (N, 3) whose pixels (N, 2) are known; N >= 2.

    Least squares; where that leaves more than `tolerance` pixels, least absolute errors (reweighted), which
    single wrong pixels hardly move.
    """
    rays = (pixels - centre) / focal  # x / z, y / z
    matrix = np.zeros((len(points), 2, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1
    matrix[:, :, 2] = -rays
    right = rays * points[:, 2:] - points[:, :2]
    weight = np.ones((len(points), 1))
    for _ in range(_MOST_FITS):
        rows = (matrix * weight[..., None]).reshape(-1, 3)
        origin = np.linalg.lstsq(rows, (right * weight).reshape(-1), rcond=None)[0]
        pixels_off = np.linalg.norm((matrix @ origin - right) * focal, axis=1)
        off = pixels_off / max(float(abs(origin[2])), 1e-3)
        if off.max() <= tolerance:
            break
        weight = 1 / np.sqrt(np.maximum(off, 0.1))[:, None]
    return origin


def _placement_problems(labels: Labels) -> Iterator[str]:
    """Where the box touches the photo's border only joints on the photo count: others may be cut off."""
    box = labels['box'].astype(np.float64)
    last = np.array([labels['width'], labels['height']], np.float64) - 1
    labelled = (labels['joints_px_weight'][:, :2] > 0).all(1)
    points = labels['joints_px'][labelled, :2]
    if (box[:2] <= 1).any() or (box[2:] >= last - 1).any():
        points = points[((points >= 0) & (points <= last)).all(1)]
    if len(points) < _FEWEST_JOINTS:
        return
    centre, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max()  # a square of twice the side
    near = (np.abs(points - centre) <= reach).all(1)
    if near.mean() < 1 / 3:
        swapped = (np.abs(points[:, ::-1] - centre) <= reach).all(1).mean() > 2 / 3
        guess = 'as if u and v were exchanged' if swapped else 'check axes and units'
        far = f'{len(points) - near.sum()} of {len(points)} joints'
        yield f'joints_px: {far} are far outside the box {box.round(1).tolist()}: {guess}'


def _pose_problems(labels: Labels) -> Iterator[str]:
    turns = np.linalg.norm(labels['pose'], axis=1) * (labels['smpl_weight'] > 0)
    twists = np.abs(labels['twists']) * (labels['twist_weight'] > 0)
    betas = np.abs(labels['betas']) * (labels['smpl_weight'] > 0)
    for name, sizes, most, question in (
        ('pose', turns, _LARGEST_ANGLE, ' radians: are these degrees?'),
        ('twists', twists, _LARGEST_ANGLE, ' radians: are these degrees?'),
        ('betas', betas, _LARGEST_BETA, ': is it the shape of this body model?'),
    ):
        if sizes.max() > most:
            yield f'{name}{_places(sizes > most)} reaches {sizes.max():.4g}{question}'


def short(numbers: Iterable[float]) -> str:
    """Returns numbers for a message."""
    return f'[{", ".join(f"{x:.4g}" for x in numbers)}]'


def _places(mask: np.ndarray) -> str:
    """Returns the first places where a mask is true: '[3, 1]', '[3], [5]', or nothing for a scalar."""
    places = [list(map(int, place)) for place in np.argwhere(mask)]
    shown = ', '.join(str(place) for place in places[:_SHOWN] if place)
    return shown + (f' and {len(places) - _SHOWN} more' if len(places) > _SHOWN else '')
