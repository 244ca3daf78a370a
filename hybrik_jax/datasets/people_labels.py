"""From one checked record of people's own data to the labels of a person, or to what is wrong with it."""

import numpy as np

from hybrik_jax import boxes
from hybrik_jax.body.projection import project
from hybrik_jax.datasets import sanity
from hybrik_jax.datasets.people_schema import Camera, Joints, Keypoints, Person, Skeleton
from hybrik_jax.datasets.readers import reading

_NEAR_BOX = 1.6  # labelled points lie within the box, made so many times larger
_LARGEST_BOX = 4  # times the photo
_FEWEST_POINTS = 4  # with fewer, nothing is said about the form of a box
_NEAR_M = 2.5  # no camera sees all of a person from so near

Labels = dict[str, np.ndarray]
Intrinsics = tuple[np.ndarray, np.ndarray]


class Wrong(ValueError):
    """What is wrong with a record: its field, such as 'joints_3d.points_m', and what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)


def labels_of(
    entry: Person, size: tuple[int, int] | None, skeletons: dict[str, Skeleton], enlargement: float
) -> Labels:
    """Returns a person's labels, as `record.FEATURES` has them, without region_*.

    Args:
        size: width and height of the photo; None where it cannot be opened: they are made up, so that
            whoever cuts the photo says what is wrong with it.
        enlargement: of the box, where the entry says nothing.
    Raises:
        Wrong: the first thing that cannot be right.
    """
    box = np.array(entry.box)
    made_up = np.maximum(box[:2], 0) + np.maximum(box[2:], 1) + 2
    width, height = size or made_up.astype(int).tolist()
    labels = reading.start(width, height, _corners(box, width, height), entry.box_enlargement or enlargement)
    if not (entry.keypoints_2d or entry.joints_3d or entry.smpl):
        raise Wrong('', 'nothing is labelled: give keypoints_2d, joints_3d or smpl')
    root = entry.smpl.root if entry.smpl else []
    if root and root[2] <= 0:
        raise Wrong('smpl.root', f'{sanity.short(root)} lies behind the camera')
    if (entry.joints_3d or root) and not entry.camera:
        what = '3D joints need' if entry.joints_3d else 'smpl.root needs'
        raise Wrong('camera', f'is missing: {what} the focal lengths and the centre of their camera')
    camera = _camera(entry.camera, size) if entry.camera else None
    if entry.joints_3d:
        root, more = _joints(entry.joints_3d, skeletons, camera, box)
        labels |= more
    if entry.smpl:
        labels |= {'pose': entry.smpl.pose, 'betas': entry.smpl.betas, 'smpl_weight': 1}
    if entry.keypoints_2d:
        labels |= _keypoints(entry.keypoints_2d, skeletons, labels, box)
        if not (entry.joints_3d or entry.smpl or labels['joints_px_weight'].any()):
            raise Wrong('keypoints_2d.points', 'no point that is a joint of ours is labelled (v > 0)')
    if camera and len(root):
        labels |= reading.camera(*camera, root)
    return reading.finished(labels)


def looks_like_corners(box: list[float], labels: Labels) -> bool | None:
    """Returns whether a box that should be x, y, w, h is rather x0, y0, x1, y1; None where both may be.

    Read the other way it must hold the labelled points, which fill a good part of it, and lie about in the
    photo; without points, the box as it was meant must leave the photo on both sides.
    """
    low, high, photo = np.array(box[:2]), np.array(box[2:]), np.array([labels['width'], labels['height']])
    if (low >= high).any() or (high > 1.5 * photo).any():
        return False
    points = labels['joints_px'][labels['joints_px_weight'][:, 0] > 0, :2]
    if len(points) < _FEWEST_POINTS:
        return True if (low + high > 1.1 * photo).all() else None
    side = high - low
    if side.prod() > 0.67 * high.prod():
        return None
    inside = (np.abs(points - (low + high) / 2) <= 0.55 * side).all(1).mean()
    return bool(inside >= 0.9 and (np.ptp(points, axis=0) >= 0.3 * side).all())


def _corners(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns the box x0 y0 x1 y1 (4,) of x y w h, clipped to the photo."""
    photo = f'the photo of {width} x {height} pixels: it is x, y, w, h'
    if (box[2:] <= 0).any():
        raise Wrong('box', f'{sanity.short(box)} has no size: its last two numbers are width and height')
    if (box[2:] > _LARGEST_BOX * max(width, height)).any():
        raise Wrong('box', f'{sanity.short(box)} is much larger than {photo}')
    corners = boxes.clipped(box, width, height)
    if corners is None:
        raise Wrong('box', f'{sanity.short(box)} has no part in {photo}')
    return corners


def _camera(camera: Camera, size: tuple[int, int] | None) -> Intrinsics:
    """Returns focal lengths (2,) and centre (2,), pixels."""
    focal, centre = np.array(camera.focal), np.array(camera.centre)
    photo = np.array(size or (1, 1))
    if (focal < 0.1 * photo.max()).any():
        what = f'is too short for {photo[0]} x {photo[1]}: pixels, not millimetres'
        raise Wrong('camera.focal', f'{sanity.short(focal)} {what}')
    if size and ((centre < -photo) | (centre > 2 * photo)).any():
        raise Wrong(
            'camera.centre',
            f'{sanity.short(centre)} is far outside of the photo of {size[0]} x {size[1]} pixels',
        )
    return focal, centre


def _joints(
    part: Joints, skeletons: dict[str, Skeleton], camera: Intrinsics, box: np.ndarray
) -> tuple[np.ndarray, Labels]:
    """Returns where the root is, (3,) metres, and the labels that 3D joints give."""
    field = 'joints_3d.points_m'
    kind = _skeleton(part, field, part.points_m, skeletons)
    known = np.array([row is not None for row in part.points_m], bool)
    points = np.array([row or (0, 0, 0) for row in part.points_m], float)
    used = np.array([index for index in kind.used if known[index]], int)
    if not used.size:
        raise Wrong(field, 'has no point that is a joint of ours')
    relative = 'relative to the pelvis? joints_3d are in the camera frame'
    zeros = used[(points[used] == 0).all(1)].tolist()
    if zeros and set(zeros) <= {kind.joints.get(0), kind.h36m.get(0)}:
        raise Wrong(field, f'[{zeros[0]}], the pelvis, is 0, 0, 0: {relative}')
    if zeros:
        hint = 'use null for a point that is not known'
        raise Wrong(field, f'[{zeros[0]}] is 0, 0, 0 ({len(zeros)} such): {hint}')
    joints, joints_known = _gather(points, known, kind.joints, 29)
    h36m, h36m_known = _gather(points, known, kind.h36m, 17)
    behind = used[points[used, 2] <= 0]
    if behind.size:
        near = np.abs(points[used]).max() < _NEAR_M
        hint = relative if near else 'z must be forward, in the frame of the camera'
        raise Wrong(field, f'[{behind[0]}] lies behind the camera ({behind.size} such): {hint}')
    if not (part.root or joints_known[0] or h36m_known[0]):
        what = 'this skeleton has no pelvis, so say where it is in the camera frame'
        raise Wrong('joints_3d.root', f'is missing: {what}')
    root = np.array(part.root or (joints[0] if joints_known[0] else h36m[0]))
    if root[2] <= 0:
        raise Wrong('joints_3d.root', f'{sanity.short(root)} lies behind the camera')
    unit = sanity.wrong_unit(joints, joints_known, sanity.LIMBS)
    if unit := unit or sanity.wrong_unit(h36m, h36m_known, sanity.LIMBS_H36M):
        raise Wrong(field, unit)
    pixels = project(points[used], *camera)
    inside = _share_in_box(pixels, box)
    if inside < 0.2:  # much of a person may be outside of the photo
        first = f'[{used[0]}] to {sanity.short(pixels[0])}'
        what = f'only {100 * inside:.0f} % of them project into the box, {first}'
        axes = "axes (x right, y down, z forward, in the camera's frame)"
        raise Wrong(field, f'{what}: check camera, {axes} and the size of the photo')

    joints[0] = joints[0] if joints_known[0] else root
    h36m[0] = h36m[0] if h36m_known[0] else root
    places = project(np.where(joints_known[:, None], joints, [0, 0, 1]), *camera)
    labels = reading.joints(joints, joints_known)
    labels |= reading.pixels(places, joints[:, 2] - joints[0, 2], joints_known)
    labels['h36m_joints_m'] = np.where(h36m_known[:, None], h36m - h36m[0], 0)
    return root, labels | {'h36m_weight': h36m_known}


def _keypoints(part: Keypoints, skeletons: dict[str, Skeleton], labels: Labels, box: np.ndarray) -> Labels:
    """Returns the labels that 2D keypoints give; joints that have 3D keep their projection."""
    field = 'keypoints_2d.points'
    kind = _skeleton(part, field, part.points, skeletons)
    points = np.array(part.points).reshape(-1, 3)
    v = points[:, 2]
    if (odd := np.flatnonzero(~np.isin(v, (0, 1, 2)))).size:
        meant = '0 not labelled, 1 labelled but hidden, 2 visible (make these of confidences)'
        raise Wrong(field, f'[{odd[0]}]: v is {v[odd[0]]:g}: {meant}')
    if (zeros := np.flatnonzero((v > 0) & (points[:, :2] == 0).all(1))).size:
        hint = 'v must be 0 for a point that is not labelled'
        raise Wrong(field, f'[{zeros[0]}] is 0, 0 ({zeros.size} such): {hint}')
    pixels, labelled = _gather(points[:, :2], v > 0, kind.joints, 29)
    inside = _share_in_box(pixels[labelled], box) if labelled.any() else 1
    if inside < 0.5:
        hint = 'is the box x, y, w, h, in pixels of the same photo?'
        if np.abs(pixels[labelled]).max() <= 1:
            hint = 'they look normalised, give pixels'
        raise Wrong(field, f'only {100 * inside:.0f} % of them lie in the box: {hint}')
    weight, places = np.array(labels['joints_px_weight'], float), np.array(labels['joints_px'])
    both = labelled & (weight[:, 0] > 0)
    off = np.median(np.linalg.norm(places[both, :2] - pixels[both], axis=1)) if both.sum() >= 3 else 0
    if off > 0.1 * box[2:].max():
        what = f'lie {off:.0f} px (median) from the projected 3D joints'
        raise Wrong(field, f'{what}: check camera, axes and order of the joints')
    # Where both are, the projection stays: it is what the 3D joint has to be found from.
    new = labelled & ~both
    places[new, :2], weight[new, :2] = pixels[new], 1
    visible, _ = _gather(v[:, None] == 2, v > 0, kind.joints, 29)
    return {'joints_px': places, 'joints_px_weight': weight, 'visible': visible[:, 0]}


def _skeleton(part: Joints | Keypoints, field: str, points: list, skeletons: dict[str, Skeleton]) -> Skeleton:
    """Returns the skeleton of a part, which must have as many points as there are."""
    kind, name = skeletons.get(part.skeleton), part.skeleton
    if kind is None:
        part_name = field.partition('.')[0]
        raise Wrong(f'{part_name}.skeleton', f'{name!r} is not known; there are {", ".join(skeletons)}')
    if kind.count not in (None, len(points)) or kind.used[-1] >= len(points):
        wanted = kind.count or f'at least {kind.used[-1] + 1}'
        raise Wrong(field, f'has {len(points)} points, the skeleton {name!r} has {wanted}')
    return kind


def _gather(points: np.ndarray, known: np.ndarray, joint_map: dict[int, int], count: int) -> tuple:
    """Returns our joints (count, c), zeros where not known, and which are, (count,), of points (n, c)."""
    out, found = np.zeros((count, points.shape[1])), np.zeros(count, bool)
    for joint, index in joint_map.items():
        if known[index]:
            out[joint], found[joint] = points[index], True
    return out, found


def _share_in_box(pixels: np.ndarray, box: np.ndarray) -> float:
    """Returns which share of points (n, 2) is in a square `_NEAR_BOX` times as large as a box x y w h."""
    half = box[2:].max() / 2 * _NEAR_BOX
    return float((np.abs(pixels - (box[:2] + box[2:] / 2)) <= half).all(1).mean())
