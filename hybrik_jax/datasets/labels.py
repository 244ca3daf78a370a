"""Labels that annotations lack, made from SMPL pose and shape: joints, Human3.6M joints, twist angles."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hybrik_jax.body import ik, smpl
from hybrik_jax.body import rotations as rot
from hybrik_jax.body.skeleton import NUM_JOINTS
from hybrik_jax.datasets.annotation import AnnotatedPerson
from hybrik_jax.datasets.readers import pw3d, reading

DESCRIPTION = 'from SMPL pose and shape where the annotation has none: joints, Human3.6M joints, twists'
_EVERY_JOINT = np.ones(29, bool)


@chex.dataclass(frozen=True, mappable_dataclass=False)
class PoseLabels:
    """What a pose and a shape say about one person, in the frame that the root rotation leads to, metres.

    Joint 0 stays where it rests in this shape: subtract it for root-relative joints.

    joints_m: (29, 3) 24 joints, and the leaf vertices of the posed mesh.
    h36m_joints_m: (17, 3), None where the body has no regressor for them.
    twists: (23,) of joints 1..23 about their rest bones, radians in (-pi, pi].
    """

    joints_m: jax.Array
    h36m_joints_m: jax.Array | None
    twists: jax.Array


def pose_labels(body: smpl.SMPL, pose: jax.Array, betas: jax.Array) -> PoseLabels:
    """Returns the joints and twists of one person; `jax.vmap` for several.

    Args:
        body: the body model that pose and betas belong to.
        pose: (24, 3) axis-angle, radians.
        betas: (10,) shape.

    Raises:
        ValueError: for other shapes.
    """
    if jnp.shape(pose) != (NUM_JOINTS, 3):
        raise ValueError(
            f'pose of one person must have the shape ({NUM_JOINTS}, 3), this has {jnp.shape(pose)}: use '
            'jax.vmap for several people.'
        )
    rotations = jax.vmap(rot.axis_angle_to_matrix)(jnp.asarray(pose))
    skinned = smpl.skin(body, betas, rotations, mesh=False)
    return PoseLabels(
        joints_m=jnp.concatenate([skinned.joints, skinned.leaves]),
        h36m_joints_m=skinned.h36m_joints,
        twists=ik.pose_to_twists(rotations, smpl.rest_joints(body, betas)),
    )


def maker(
    body: smpl.SMPL, *, of_gender: Mapping[str, smpl.SMPL] | None = None, batch_size: int = 64
) -> Callable[[Sequence[AnnotatedPerson]], list[AnnotatedPerson]]:
    """Returns a function that adds to people with pose and shape the labels that they lack.

    Args:
        of_gender: 'male' and 'female' models, for people whose shape belongs to one; `body` where there is
            none.
        batch_size: people posed at once; one compilation, whatever the number of people.
    """
    solve = jax.jit(jax.vmap(pose_labels, in_axes=(None, 0, 0)))
    bodies = {'': jax.device_put(body)} | {g: jax.device_put(b) for g, b in (of_gender or {}).items()}

    def complete(people: Sequence[AnnotatedPerson]) -> list[AnnotatedPerson]:
        people = list(people)
        genders = [getattr(person, 'gender', '') for person in people]
        genders = [gender if gender in bodies else '' for gender in genders]
        for gender, model in bodies.items():
            chosen = [i for i, person in enumerate(people) if genders[i] == gender and _lacks(person)]
            for start in range(0, len(chosen), batch_size):
                some = chosen[start : start + batch_size]
                filled = some + [some[-1]] * (batch_size - len(some))
                poses, betas = (np.stack([people[i].labels[k] for i in filled]) for k in ('pose', 'betas'))
                made = jax.tree.map(np.asarray, solve(model, poses, betas))
                for row, i in enumerate(some):
                    people[i] = with_labels(people[i], jax.tree.map(lambda x, row=row: x[row], made))
        return people

    return complete


def _lacks(person: AnnotatedPerson) -> bool:
    """Returns whether a person with pose and shape lacks any label that they give."""
    labels = person.labels
    weights = labels['joints_weight'][:NUM_JOINTS], labels['h36m_weight'], labels['twist_weight']
    return labels['smpl_weight'] > 0 and not all(weight.any() for weight in weights)


def with_labels(person: AnnotatedPerson, made: PoseLabels) -> AnnotatedPerson:
    """Returns the person with the labels of its pose and shape in place of missing ones.

    Joints are placed by `root_m` where the camera is known, and their pixels are the projection. People of
    3DPW's official files are placed by their translation, and get the box around their projected joints.
    """
    labels = dict(person.labels)
    joints_m = np.asarray(made.joints_m, np.float64)
    unplaced = isinstance(person, pw3d.UnplacedPerson)
    if unplaced:
        root_m = person.turn @ joints_m[0] + person.trans_m
        labels |= reading.camera(labels['focal'], labels['centre'], root_m)
    if not labels['joints_weight'].any():
        labels |= reading.joints(joints_m, _EVERY_JOINT)
        if labels['camera_weight'] > 0:
            placed_m = joints_m - joints_m[0] + labels['root_m']
            labels |= reading.projected(placed_m, _EVERY_JOINT, labels['focal'], labels['centre'])
            if unplaced and (placed_m[:, 2] > 0).all():
                size = int(labels['width']), int(labels['height'])
                box = pw3d.grown_box(labels['joints_px'][:, :2], *size)
                labels['box'] = labels['box'] if pw3d.is_small(box) else box
    if not labels['h36m_weight'].any() and made.h36m_joints_m is not None:
        labels |= reading.h36m_joints(np.asarray(made.h36m_joints_m, np.float64))
    if not labels['twist_weight'].any():
        labels |= {'twists': made.twists, 'twist_weight': np.ones(23)}
    return dataclasses.replace(person, labels=reading.finished(labels))
