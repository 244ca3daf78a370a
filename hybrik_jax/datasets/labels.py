"""Labels that annotations lack, made from SMPL pose and shape: joints, Human3.6M joints, twist angles.

Between `body`, which can pose, and `data`, which stores: used when a dataset is built.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from hybrik_jax.body import skeleton, smpl
from hybrik_jax.body.labels import pose_labels
from hybrik_jax.body.projection import project
from hybrik_jax.datasets.annotation import AnnotatedPerson
from hybrik_jax.datasets.readers import pw3d

DESCRIPTION = 'from SMPL pose and shape where the annotation has none: joints, Human3.6M joints, twists'


def maker(
    body: smpl.SMPL, *, of_gender: Mapping[str, smpl.SMPL] | None = None, batch_size: int = 64
) -> Callable[[Sequence[AnnotatedPerson]], list[AnnotatedPerson]]:
    """Returns a function that adds to people with pose and shape the labels that they lack; what is there
    stays.

    Joints are placed by `root_m` where the camera is known, and their pixels are the projection; people of
    3DPW's official files are placed by their translation.

    Args:
        of_gender: 'male' and 'female' models, for people whose shape belongs to one; `body` where there is
            none.
        batch_size: people posed at once; one compilation, whatever the number of people.
    """
    solve = jax.jit(jax.vmap(pose_labels, in_axes=(None, 0, 0)))
    bodies = {'': jax.device_put(body)} | {g: jax.device_put(b) for g, b in (of_gender or {}).items()}

    def complete(people: Sequence[AnnotatedPerson]) -> list[AnnotatedPerson]:
        people = list(people)
        for gender, model in bodies.items():
            chosen = [i for i, p in enumerate(people) if _lacks(p) and _model_of(p, bodies) == gender]
            for start in range(0, len(chosen), batch_size):
                some = chosen[start : start + batch_size]
                filled = some + [some[-1]] * (batch_size - len(some))
                poses, betas = (np.stack([people[i].labels[k] for i in filled]) for k in ('pose', 'betas'))
                made = jax.tree.map(np.asarray, solve(model, poses, betas))
                for row, i in enumerate(some):
                    people[i] = _with_labels(people[i], jax.tree.map(lambda x, row=row: x[row], made))
        return people

    return complete


def _model_of(person: AnnotatedPerson, bodies: Mapping[str, smpl.SMPL]) -> str:
    """Returns which of the bodies a person's shape belongs to."""
    gender = person.gender if isinstance(person, pw3d.UnplacedPerson) else ''
    return gender if gender in bodies else ''


def _lacks(person: AnnotatedPerson) -> bool:
    """Returns whether a person with pose and shape lacks any label that they give."""
    labels = person.labels
    if not labels['smpl_weight'] > 0:
        return False
    return not (
        labels['joints_weight'][: skeleton.NUM_JOINTS].any()
        and labels['h36m_weight'].any()
        and labels['twist_weight'].any()
    )


def _with_labels(person: AnnotatedPerson, made) -> AnnotatedPerson:
    """Returns the person with the labels of `pose_labels` in place of missing ones."""
    if isinstance(person, pw3d.UnplacedPerson):
        return pw3d.with_body_labels(person, made)
    labels = dict(person.labels)
    if not labels['joints_weight'].any():
        joints = made.joints_m - made.joints_m[0]
        labels |= {'joints_m': joints.astype(np.float32), 'joints_weight': np.ones(29, np.float32)}
        if labels['camera_weight'] > 0:
            pixels = project(joints + labels['root_m'], labels['focal'], labels['centre'])
            labels['joints_px'] = np.concatenate([pixels, joints[:, 2:]], 1).astype(np.float32)
            labels['joints_px_weight'] = np.ones((29, 3), np.float32)
    if not labels['h36m_weight'].any() and made.h36m_joints_m is not None:
        h36m = made.h36m_joints_m - made.h36m_joints_m[0]
        labels |= {'h36m_joints_m': h36m.astype(np.float32), 'h36m_weight': np.ones(17, np.float32)}
    if not labels['twist_weight'].any():
        labels |= {'twists': made.twists.astype(np.float32), 'twist_weight': np.ones(23, np.float32)}
    return dataclasses.replace(person, labels=labels)
