"""One self-contained HTML sheet of examples of a dataset: pictures with joints and meshes, and what the
labels say.

Pictures are uint8 RGB. Labels are fields of `data.record.FEATURES`: pixels of the photo, metres, camera
frame.
"""

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hybrik_jax.body import skeleton
from hybrik_jax.view.render import BACKGROUND, encode_jpeg, overlay

LEFT, RIGHT, MIDDLE = (
    (60, 150, 255),
    (255, 130, 30),
    (225, 225, 225),
)  # RGB of the person's own left and right
BOX = (70, 220, 90)
LARGEST = 420  # pixels of a picture's longer side
SMALLEST = 256  # smaller pictures are enlarged to this
# Pairs of the 29 joints for the bone lengths of a person, and what is unusual for them, metres.
BONES = {
    'thighs': ((1, 4), (2, 5)),
    'lower legs': ((4, 7), (5, 8)),
    'upper arms': ((16, 18), (17, 19)),
    'forearms': ((18, 20), (19, 21)),
    'shoulders': ((16, 17),),
}
BONES_H36M = {
    'thighs': ((1, 2), (4, 5)),
    'lower legs': ((2, 3), (5, 6)),
    'upper arms': ((11, 12), (14, 15)),
    'forearms': ((12, 13), (15, 16)),
    'shoulders': ((11, 14),),
}
USUAL_M = (0.1, 0.7)
MOST_UNEQUAL = 1.3  # left to right


@dataclass(frozen=True)
class Entry:
    """One example: pictures with captions (None: it cannot be drawn), facts as (name, text), and warnings."""

    title: str
    pictures: Sequence[tuple[str, np.ndarray | None]]
    facts: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()


def side_colour(joint: int) -> tuple[int, int, int]:
    """Returns the colour, RGB, of one of the 29 joints by the person's side."""
    name = (skeleton.JOINT_NAMES + skeleton.LEAF_NAMES)[joint]
    return LEFT if name.startswith('left') else RIGHT if name.startswith('right') else MIDDLE


def draw_joints(
    image: np.ndarray,
    joints_px: np.ndarray,
    valid: np.ndarray,
    *,
    known: np.ndarray | None = None,
    edges: Sequence[tuple[int, int]] = skeleton.EDGES,
) -> np.ndarray:
    """Returns the image (H, W, 3) with joints: a disc where valid, a ring where only `known`, nothing
    otherwise.

    Args:
        joints_px: (29, 2) pixels of the image, pixel centres at integers.
        valid: (29,) bool, joints that the losses see; bones join two of these.
        known: (29,) bool, joints with a place but without weight; None: none.
    """
    out = np.ascontiguousarray(image).copy()
    height, width = out.shape[:2]
    places = np.asarray(joints_px, np.float64)
    drawable = np.isfinite(places).all(1) & (np.abs(np.nan_to_num(places)) < 4 * max(height, width)).all(1)
    valid = np.asarray(valid, bool) & drawable
    known = drawable & (np.zeros(len(places), bool) if known is None else np.asarray(known, bool)) & ~valid
    fixed = [
        None if not ok else tuple(map(round, (16 * p).tolist()))
        for p, ok in zip(places, drawable, strict=True)
    ]
    size = max(1, round(max(height, width) / 200))
    for a, b in edges:
        if valid[a] and valid[b]:
            cv2.line(out, fixed[a], fixed[b], side_colour(b), size, cv2.LINE_AA, 4)
    for joint, place in enumerate(fixed):
        radius = 16 * (size + 2)
        if valid[joint]:
            cv2.circle(out, place, radius, (0, 0, 0), -1, cv2.LINE_AA, 4)
            cv2.circle(out, place, radius - 16, side_colour(joint), -1, cv2.LINE_AA, 4)
        elif known[joint]:
            cv2.circle(out, place, radius, side_colour(joint), 1, cv2.LINE_AA, 4)
    return out


def draw_box(image: np.ndarray, box: Sequence[float], colour: tuple[int, int, int] = BOX) -> np.ndarray:
    """Returns the image with a box x0 y0 x1 y1, pixels of the image."""
    out = np.ascontiguousarray(image).copy()
    size = max(1, round(max(out.shape[:2]) / 200))
    x0, y0, x1, y1 = (int(round(float(np.clip(c, -1e4, 1e4)))) for c in box)
    cv2.rectangle(out, (x0, y0), (x1, y1), colour, size)
    return out


def to_picture(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the image at the size that sheets have, and by what its pixels were multiplied."""
    longer = max(image.shape[:2])
    factor = LARGEST / longer if longer > LARGEST else SMALLEST / longer if longer < SMALLEST else 1.0
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

    picture = draw_box(picture, place(np.reshape(labels['box'], (2, 2))).ravel())
    joints = np.asarray(labels['joints_px'])
    valid = (np.asarray(labels['joints_px_weight'])[:, :2] > 0).all(1)
    return draw_joints(picture, place(joints[:, :2]), valid, known=joints.any(1))


def draw_crop(
    crop: np.ndarray,
    uvd: np.ndarray,
    uvd_weight: np.ndarray,
    joints_px: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Returns a crop with the joints that the network is asked for.

    Args:
        crop: (S, S, 3) as the network sees it.
        uvd: (29, 3) targets, u and v in [-0.5, 0.5]; uvd_weight: (29, 3).
        joints_px, known: (29, 2) crop pixels and (29,) bool of joints that may lack weight, to draw as rings.
    """
    size = crop.shape[0]
    picture, factor = to_picture(crop)
    valid = (np.asarray(uvd_weight)[:, :2] > 0).all(1)
    pixels = (np.asarray(uvd, np.float64)[:, :2] + 0.5) * size
    if joints_px is not None:
        pixels = np.where(valid[:, None], pixels, joints_px)
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


def draw_mesh_alone(vertices_m: np.ndarray, faces: np.ndarray, size: int = SMALLEST) -> np.ndarray:
    """Returns a mesh (V, 3), metres, seen along the camera's z axis on a neutral ground, framed to fit."""
    low, high = vertices_m.min(0), vertices_m.max(0)
    extent = max(float((high - low).max()), 1e-3)
    moved = vertices_m - (low + high) / 2 + [0, 0, 10 * extent]
    ground = np.broadcast_to(np.array(BACKGROUND, np.uint8), (size, size, 3))
    middle = (size - 1) / 2
    return overlay(ground, moved, faces, focal=8.5 * size, centre=(middle, middle), opacity=1.0)


# ---- what the labels say


def describe(labels: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns facts, (name, text), and warnings about labels that look wrong: numbers to check units and axes
    by.
    """
    weight = {k: np.asarray(labels[k]) for k in labels if k.endswith('weight') or k == 'visible'}
    box = np.asarray(labels['box'], np.float64)
    facts, warnings = [], []
    size = f'{int(labels["width"])} x {int(labels["height"])}'
    if 'region_size' in labels:
        stored = ' x '.join(str(int(n)) for n in labels['region_size'])
        scale, offset = float(labels['region_scale']), _numbers(labels['region_offset'])
        size += f', stored {stored} at scale {scale:.3g} from {offset}'
    facts.append(('photo', size))
    grown = f'{float(labels["box_enlargement"]):g}'
    facts.append(('box', f'{_numbers(box)}: {_numbers(box[2:] - box[:2])} px, enlarged {grown} times'))
    uv, depth = (weight['joints_px_weight'][:, :2] > 0).all(1), weight['joints_px_weight'][:, 2] > 0
    facts.append(
        (
            'weights',
            f'u, v {uv.sum()}/29; depth {depth.sum()}/29; 3D {(weight["joints_weight"] > 0).sum()}/29; '
            f'Human3.6M {(weight["h36m_weight"] > 0).sum()}/17; SMPL {float(weight["smpl_weight"]):g}; '
            f'twists {(weight["twist_weight"] > 0).sum()}/23; visible {(weight["visible"] > 0).sum()}/29',
        )
    )
    if weight['camera_weight'] > 0:
        facts.append(('focal, centre', f'{_numbers(labels["focal"])}; {_numbers(labels["centre"])} px'))
        root = np.asarray(labels['root_m'], np.float64)
        facts.append(('root', f'{_numbers(root, 3)} m (depth {root[2]:.2f} m)'))
        if not 0.3 < root[2] < 100:
            warnings.append(f'the root is {root[2]:.3g} m from the camera')
    else:
        facts.append(('camera', 'not known'))
    for name, joints, known, bones in (
        ('bones', 'joints_m', 'joints_weight', BONES),
        ('Human3.6M bones', 'h36m_joints_m', 'h36m_weight', BONES_H36M),
    ):
        lengths = _bone_lengths(np.asarray(labels[joints]), weight[known] > 0, bones)
        if lengths:
            shown = (
                f'{bone} {" / ".join(f"{100 * x:.0f}" for x in values)}' for bone, values in lengths.items()
            )
            facts.append((name, ', '.join(shown) + ' cm (left / right)'))
            warnings += _bone_warnings(name, lengths)
    if depth.any() and (spread := np.ptp(np.asarray(labels['joints_px'])[depth, 2])) > 3:
        warnings.append(f'depths of joints_px span {spread:.3g} m')
    return facts, warnings


def _bone_lengths(joints_m, known, bones):
    lengths = {}
    for name, pairs in bones.items():
        found = [float(np.linalg.norm(joints_m[a] - joints_m[b])) for a, b in pairs if known[a] and known[b]]
        if found:
            lengths[name] = found
    return lengths


def _bone_warnings(name, lengths):
    out = []
    for bone, values in lengths.items():
        if not all(USUAL_M[0] <= x <= USUAL_M[1] for x in values):
            out.append(f'{name}: {bone} of {max(values):.3g} m')
        elif len(values) == 2 and max(values) > MOST_UNEQUAL * min(values):
            out.append(f'{name}: {bone} differ, {values[0]:.2f} m left and {values[1]:.2f} m right')
    return out


def _numbers(values: Any, digits: int = 1) -> str:
    return ', '.join(f'{float(x):.{digits}f}' for x in np.ravel(values))


# ---- the page


def write_sheet(
    path: str | os.PathLike, *, title: str, entries: Sequence[Entry], facts: Sequence[tuple[str, str]] = ()
) -> Path:
    """Returns the path of the page it has written: one HTML file that needs no other file, no script, no
    network.
    """
    legend = ''.join(
        f'<span><i style="background:rgb{colour}"></i>{name}</span>'
        for colour, name in ((LEFT, "the person's left"), (RIGHT, 'right'), (MIDDLE, 'middle'), (BOX, 'box'))
    )
    cards = ''.join(_card(entry) for entry in entries) or '<p>There is nothing to show.</p>'
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n<h1>{html.escape(title)}</h1>'
        f'{_table(facts)}<p class="legend">{legend}<span>disc: has a weight; ring: a place without weight</span></p>\n'
        f'{cards}\n</main></body></html>\n'
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    unfinished.write_text(page, encoding='utf-8')
    os.replace(unfinished, path)
    return path


def _card(entry: Entry) -> str:
    pictures = ''.join(
        f'<figure>{_image(image, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>'
        for caption, image in entry.pictures
    )
    warnings = ''.join(f'<p class="warning">{html.escape(text)}</p>' for text in entry.warnings)
    return (
        f'<article><h2>{html.escape(entry.title)}</h2><div class="row">{pictures}'
        f'<div class="text">{warnings}{_table(entry.facts)}</div></div></article>\n'
    )


def _image(image: np.ndarray | None, caption: str) -> str:
    if image is None:
        return '<div class="blank">none</div>'
    height, width = image.shape[:2]
    return (
        f'<img src="{encode_jpeg(image, 80)}" width="{width}" height="{height}" alt="{html.escape(caption)}">'
    )


def _table(facts: Sequence[tuple[str, str]]) -> str:
    rows = ''.join(
        f'<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>' for name, text in facts
    )
    return f'<table>{rows}</table>' if rows else ''


_STYLE = """
:root{color-scheme:light dark}
body{margin:0;font:14px/1.45 system-ui,sans-serif}
main{max-width:1500px;margin:0 auto;padding:16px}
h1{font-size:1.4rem}h2{font-size:.95rem;margin:0 0 6px;overflow-wrap:anywhere}
article{border:1px solid #8886;border-radius:8px;padding:10px;margin:12px 0}
.row{display:flex;flex-wrap:wrap;gap:10px;align-items:flex-start}
figure{margin:0}figcaption{font-size:.8rem;opacity:.75}
img{display:block;max-width:100%;height:auto;border-radius:4px}
.text{flex:1 1 340px;min-width:280px}
.blank{width:200px;height:120px;display:grid;place-items:center;border:1px dashed #8886;opacity:.7}
table{border-collapse:collapse}th{text-align:left;vertical-align:top;padding:1px 10px 1px 0;font-weight:600}
th{white-space:nowrap}
td{overflow-wrap:anywhere}
.warning{background:#d9a02033;border-left:4px solid #d9a020;padding:3px 8px;margin:3px 0}
.legend span{margin-right:1.2em}.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.4em;
border-radius:50%}
"""
