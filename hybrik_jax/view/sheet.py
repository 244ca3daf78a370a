"""Examples of a dataset on one page: pictures with joints and meshes, and what the labels say.

Pictures are uint8 RGB. Labels are the fields of a record: pixels of the photo, metres, camera frame.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hybrik_jax.body import skeleton
from hybrik_jax.view import page
from hybrik_jax.view.render import draw_skeleton, overlay

LEFT, RIGHT, MIDDLE = (60, 150, 255), (255, 130, 30), (225, 225, 225)  # RGB, the person's own left and right
BOX = (70, 220, 90)
LARGEST = 420  # pixels of a picture's longer side
SMALLEST = 256  # smaller pictures are enlarged to this
# The ends of the bones that are measured; {} stands for the side.
BONES = {
    'thighs': ('{}_hip', '{}_knee'),
    'lower legs': ('{}_knee', '{}_ankle'),
    'upper arms': ('{}_shoulder', '{}_elbow'),
    'forearms': ('{}_elbow', '{}_wrist'),
    'shoulders': ('left_shoulder', 'right_shoulder'),
}
USUAL_M = (0.1, 0.7)
# Left to right: MPI-INF-3DHP's own labels reach 1.4; swapped joints or another unit go far beyond.
MOST_UNEQUAL = 1.5


@dataclass(frozen=True)
class Entry:
    """One example: pictures with captions (None: it cannot be drawn), facts by name, and warnings."""

    title: str
    pictures: Sequence[tuple[str, np.ndarray | None]]
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def write_sheet(
    path: str | os.PathLike, *, title: str, entries: Sequence[Entry], facts: Mapping[str, str] | None = None
) -> Path:
    """Writes one HTML file that needs no other file, no script and no network, and returns its path."""
    legend = {"the person's left": LEFT, 'right': RIGHT, 'middle': MIDDLE, 'box': BOX}
    return page.write(path, 'sheet', title=title, entries=entries, facts=facts or {}, legend=legend)


# ---- pictures


def side_colour(joint: int) -> tuple[int, int, int]:
    """Returns the colour, RGB, of one of the 29 joints by the person's side."""
    name = (skeleton.JOINT_NAMES + skeleton.LEAF_NAMES)[joint]
    return LEFT if name.startswith('left') else RIGHT if name.startswith('right') else MIDDLE


def draw_joints(
    image: np.ndarray, joints_px: np.ndarray, valid: np.ndarray, *, known: np.ndarray
) -> np.ndarray:
    """Returns the image (H, W, 3) with joints: a disc where valid, a ring where only `known`, else nothing.

    Args:
        joints_px: (29, 2) pixels of the image, pixel centres at integers.
        valid: (29,) bool, joints that the losses see; bones join two of these.
        known: (29,) bool, joints with a place, also without weight.
    """
    valid = np.asarray(valid, bool)
    rings = np.asarray(known, bool) & ~valid
    places = np.where((valid | rings)[:, None], np.asarray(joints_px, np.float64), np.nan)
    colours = [side_colour(joint) for joint in range(len(places))]
    return draw_skeleton(image, places, skeleton.EDGES, colour=np.array(colours) / 255, rings=rings)


def to_picture(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the image at the size that sheets have, and by what its pixels were multiplied."""
    longer = max(image.shape[:2])
    factor = min(max(longer, SMALLEST), LARGEST) / longer
    if factor == 1:
        return image, 1.0
    size = [max(1, round(n * factor)) for n in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), factor


def draw_annotation(
    image: np.ndarray, labels: Mapping[str, Any], *, offset: Sequence[float] = (0, 0), scale: float = 1.0
) -> np.ndarray:
    """Returns an annotation's box and joints on its image, small.

    Args:
        image: the photo, or the region of it whose pixels are (photo pixel - offset) * scale.
        labels: box, joints_px and joints_px_weight, in pixels of the photo.
    """
    picture, factor = to_picture(image)

    def place(photo: Any) -> np.ndarray:
        pixels = (np.asarray(photo, np.float64) - np.asarray(offset, np.float64)) * scale
        return (pixels + 0.5) * factor - 0.5

    low, high = np.rint(np.clip(place(np.reshape(labels['box'], (2, 2))), -1e4, 1e4)).astype(int).tolist()
    picture = np.ascontiguousarray(picture).copy()
    cv2.rectangle(picture, low, high, BOX, max(1, round(max(picture.shape[:2]) / 200)))
    joints = np.asarray(labels['joints_px'])
    valid = (np.asarray(labels['joints_px_weight'])[:, :2] > 0).all(1)
    return draw_joints(picture, place(joints[:, :2]), valid, known=joints.any(1))


def draw_crop(
    crop: np.ndarray, uvd: np.ndarray, uvd_weight: np.ndarray, joints_px: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Returns a crop with the joints that the network is asked for.

    Args:
        crop: (S, S, 3) as the network sees it.
        uvd: (29, 3) targets, u and v in [-0.5, 0.5].
        uvd_weight: (29, 3).
        joints_px, known: (29, 2) crop pixels and (29,) bool of joints that may lack weight, to draw as rings.
    """
    picture, factor = to_picture(crop)
    valid = (np.asarray(uvd_weight)[:, :2] > 0).all(1)
    targets_px = (np.asarray(uvd, np.float64)[:, :2] + 0.5) * crop.shape[0]
    pixels = np.where(valid[:, None], targets_px, joints_px)
    return draw_joints(picture, (pixels + 0.5) * factor - 0.5, valid, known=known)


def draw_mesh(
    crop: np.ndarray,
    vertices_m: np.ndarray,
    faces: np.ndarray,
    *,
    focal: Sequence[float],
    centre: Sequence[float],
    photo_to_crop: np.ndarray,
) -> np.ndarray:
    """Returns a crop with a mesh over it.

    Args:
        vertices_m: (V, 3) camera frame, metres, absolute.
        focal, centre: (2,) of the camera, pixels of the photo.
        photo_to_crop: (2, 3) affine map; where it turns, the mesh is turned, so that one camera draws both.
    """
    picture, factor = to_picture(crop)
    affine = np.asarray(photo_to_crop, np.float64)
    linear = affine[:, :2] * np.asarray(focal, np.float64)
    length = math.sqrt(abs(np.linalg.det(linear)))
    turned = np.concatenate([vertices_m[:, :2] @ (linear / length).T, vertices_m[:, 2:]], 1)
    middle = affine[:, :2] @ np.asarray(centre, np.float64) + affine[:, 2]
    return overlay(
        picture, turned, faces, focal=length * factor, centre=(middle + 0.5) * factor - 0.5, opacity=0.75
    )


# ---- what the labels say


def describe(labels: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Returns facts by name, to check units and axes by, and warnings about labels that look wrong."""
    weight = {k: np.asarray(labels[k]) for k in labels if k.endswith('weight') or k == 'visible'}
    facts, warnings = {}, []
    facts['photo'] = f'{int(labels["width"])} x {int(labels["height"])}'
    if 'region_size' in labels:
        stored = ' x '.join(str(int(n)) for n in labels['region_size'])
        scale, offset = float(labels['region_scale']), _numbers(labels['region_offset'])
        facts['photo'] += f', stored {stored} at scale {scale:.3g} from {offset}'
    box, grown = np.asarray(labels['box'], np.float64), float(labels['box_enlargement'])
    facts['box'] = f'{_numbers(box)}: {_numbers(box[2:] - box[:2])} px, enlarged {grown:g} times'
    uv, depth = (weight['joints_px_weight'][:, :2] > 0).all(1), weight['joints_px_weight'][:, 2] > 0
    facts['weights'] = (
        f'u, v {uv.sum()}/29; depth {depth.sum()}/29; 3D {(weight["joints_weight"] > 0).sum()}/29; '
        f'Human3.6M {(weight["h36m_weight"] > 0).sum()}/17; SMPL {float(weight["smpl_weight"]):g}; '
        f'twists {(weight["twist_weight"] > 0).sum()}/23; visible {(weight["visible"] > 0).sum()}/29'
    )
    if weight['camera_weight'] > 0:
        root = np.asarray(labels['root_m'], np.float64)
        facts['focal, centre'] = f'{_numbers(labels["focal"])}; {_numbers(labels["centre"])} px'
        facts['root'] = f'{_numbers(root, 3)} m (depth {root[2]:.2f} m)'
        if not 0.3 < root[2] < 100:
            warnings.append(f'the root is {root[2]:.3g} m from the camera')
    else:
        facts['camera'] = 'not known'
    for name, joints, known, joint_names in (
        ('bones', 'joints_m', 'joints_weight', skeleton.JOINT_NAMES),
        ('Human3.6M bones', 'h36m_joints_m', 'h36m_weight', skeleton.H36M_NAMES),
    ):
        lengths = _bone_lengths(np.asarray(labels[joints]), weight[known] > 0, joint_names)
        shown = [f'{bone} {" / ".join(f"{100 * x:.0f}" for x in both)}' for bone, both in lengths.items()]
        if shown:
            facts[name] = f'{", ".join(shown)} cm (left / right)'
        for bone, both in lengths.items():
            if not all(USUAL_M[0] <= x <= USUAL_M[1] for x in both):
                warnings.append(f'{name}: {bone} of {max(both):.3g} m')
            elif max(both) > MOST_UNEQUAL * min(both):
                warnings.append(f'{name}: {bone} differ, {both[0]:.2f} m left and {both[1]:.2f} m right')
    if depth.any() and (spread := np.ptp(np.asarray(labels['joints_px'])[depth, 2])) > 3:
        warnings.append(f'depths of joints_px span {spread:.3g} m')
    return facts, warnings


def _bone_lengths(joints_m: np.ndarray, known: np.ndarray, names: Sequence[str]) -> dict[str, list[float]]:
    """Returns the lengths in metres, left then right, of the bones whose two ends are known."""
    lengths = {}
    for bone, ends in BONES.items():
        pairs = [tuple(names.index(end.format(side)) for end in ends) for side in ('left', 'right')]
        found = [
            np.linalg.norm(joints_m[a] - joints_m[b]) for a, b in dict.fromkeys(pairs) if known[a] & known[b]
        ]
        if found:
            lengths[bone] = [float(length) for length in found]
    return lengths


def _numbers(values: Any, digits: int = 1) -> str:
    return ', '.join(f'{float(x):.{digits}f}' for x in np.ravel(values))
