"""Labels that follow from SMPL pose and shape: joints with leaf points, Human3.6M joints, twist angles."""

import chex
import jax
import jax.numpy as jnp

from hybrik_jax.body import ik, smpl
from hybrik_jax.body import rotations as rot
from hybrik_jax.body.skeleton import NUM_JOINTS


@chex.dataclass(frozen=True, mappable_dataclass=False)
class PoseLabels:
    """What a pose and a shape say about one person, in the frame that the root rotation leads to, metres.

    Joint 0 stays where it rests in this shape: subtract it for root-relative joints.
    """

    joints_m: chex.Array  # (29, 3) 24 joints, and the leaf vertices of the posed mesh
    h36m_joints_m: chex.Array | None  # (17, 3), None where the body has no regressor for them
    twists: chex.Array  # (23,) of joints 1..23 about their rest bones, radians in (-pi, pi]


def pose_labels(body: smpl.SMPL, pose: jax.Array, betas: jax.Array) -> PoseLabels:
    """The joints and twists of one person; `jax.vmap` for several.

    Args:
        body: the body model that pose and betas belong to.
        pose: (24, 3) axis-angle, radians.
        betas: (10,) shape.
    Raises:
        ValueError: for other shapes.
    """
    if jnp.shape(pose) != (NUM_JOINTS, 3):
        raise ValueError(
            f'pose of one person must have the shape ({NUM_JOINTS}, 3), this has {jnp.shape(pose)}: use jax.vmap for '
            'several people.'
        )
    rotations = jax.vmap(rot.axis_angle_to_matrix)(jnp.asarray(pose))
    skinned = smpl.skin(body, betas, rotations)
    leaves = jnp.take(skinned.vertices, jnp.asarray(body.leaf_vertices), axis=0)
    return PoseLabels(
        joints_m=jnp.concatenate([skinned.joints, leaves]),
        h36m_joints_m=skinned.h36m_joints,
        twists=ik.pose_to_twists(rotations, smpl.rest_joints(body, betas)),
    )
