"""Predicted people as files: prediction.json for reading, prediction.npz with the meshes."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrik_jax.body import skeleton
from hybrik_jax.body.smpl import SMPL
from hybrik_jax.types import Person

CONVENTIONS = (
    'metres; camera axes x right, y down, z forward; joints_m relative to the pelvis, add '
    'camera_translation_m to place them; pixels of the photo, pixel centres at integers; box x y w h; '
    'axis-angle in radians relative to the parent joint'
)


def write_json(path: pathlib.Path, people: Sequence[Person], body: SMPL, about: dict[str, Any]) -> None:
    """Writes everything but the meshes as one JSON object.

    Args:
        body: that the people were predicted with; not used.
        about: what is to be said beside the people, such as photo and checkpoint.
    """
    shared = {'conventions': CONVENTIONS, 'joint_names': list(skeleton.JOINT_NAMES)}
    content = about | shared | {'people': [_as_json(person) for person in people]}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n')


def _as_json(person: Person) -> dict[str, Any]:
    view = person.view
    return {
        'warnings': list(person.warnings),
        'box': _numbers(view.box, 2),
        'box_score': None if view.box_score is None else round(view.box_score, 4),
        'focal': _numbers(view.focal, 3),
        'focal_assumed': view.focal_assumed,
        'centre': _numbers(view.centre, 3),
        'centre_assumed': view.centre_assumed,
        'root_depth_m': round(view.root_depth_m, 6),
        'root_depth_assumed': view.root_depth_assumed,
        'root_depth_by': view.root_depth_by,
        'camera_translation_m': _numbers(person.translation_m),
        'reprojection_px': round(person.reprojection_px, 3),
        'joints_m': _numbers(person.posed_joints_m),
        'joints_px': _numbers(person.joints_px[: skeleton.NUM_JOINTS], 3),
        'projected_joints_px': _numbers(person.projected_px, 3),
        'rotations_axis_angle': _numbers(person.axis_angles),
        'betas': _numbers(person.betas),
    }


def _numbers(array: np.ndarray, digits: int = 6) -> list:
    return np.round(np.asarray(array, np.float64), digits).tolist()


def write_npz(path: pathlib.Path, people: Sequence[Person], body: SMPL, about: dict[str, Any]) -> None:
    """Writes arrays with a leading axis of people, meshes among them, and their faces (F, 3); not `about`.

    The `box_score` of a box that was given is NaN.
    """
    arrays = {
        'vertices_m': [person.vertices_m for person in people],
        'joints_m': [person.posed_joints_m for person in people],
        'lifted_joints_m': [person.lifted_joints_m for person in people],
        'joints_px': [person.joints_px for person in people],
        'projected_joints_px': [person.projected_px for person in people],
        'rotations': [person.rotations for person in people],
        'rotations_axis_angle': [person.axis_angles for person in people],
        'betas': [person.betas for person in people],
        'camera_translation_m': [person.translation_m for person in people],
        'focal': [person.view.focal for person in people],
        'centre': [person.view.centre for person in people],
        'box': [person.view.box for person in people],
        'box_score': [math.nan if one.view.box_score is None else one.view.box_score for one in people],
        'crop_to_photo': [person.view.crop_to_photo for person in people],
    }
    arrays = {name: np.array(value) for name, value in arrays.items()}
    np.savez_compressed(path, faces=np.asarray(body.faces), **arrays)
