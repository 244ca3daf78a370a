"""People whose truth is known as records of any dataset, and an evaluation step that says it."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax import catalogue, evaluate, inference, step
from hybrik_jax.body import ik, rotations, skeleton, smpl
from hybrik_jax.datasets import record_check
from hybrik_jax.scoring import roots_and_boxes
from hybrik_jax.types import Batch, Lifted, Measured, Posed
from hybrik_jax.units import DEPTH_SCALE_M, MM_PER_M
from tests import helpers

PEOPLE = 4
# float32 all the way (4 m away, 29 joints, 6890 vertices): hundredths of a millimetre
TOLERANCE_MM = 0.05
DATASETS = ('synthetic', 'human36m', 'pw3d', 'mpi_inf_3dhp')


def pose_people(body: smpl.SMPL) -> dict[str, np.ndarray]:
    """Returns people upright before the camera: pose, betas, and in metres joints and vertices."""
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(PEOPLE, 10)).astype(np.float32)
    pose = rng.normal(0, 0.3, (PEOPLE, 24, 3))
    headings = Rotation.from_euler('y', rng.uniform(-3, 3, (PEOPLE, 1))) * Rotation.from_rotvec(pose[:, 0])
    pose[:, 0] = (Rotation.from_rotvec([np.pi, 0, 0]) * headings).as_rotvec()

    @jax.jit
    def posed(body, betas, pose):
        def one(betas, pose):
            matrices = jax.vmap(rotations.axis_angle_to_matrix)(pose)
            skinned = smpl.skin(body, betas, matrices)
            leaves = skinned.vertices[jnp.asarray(body.leaf_vertices)]
            return {
                'joints': jnp.concatenate([skinned.joints, leaves]) - skinned.joints[0],
                'h36m': skinned.h36m_joints - skinned.h36m_joints[0],
                'vertices': skinned.vertices - skinned.joints[0],
                'pelvis': skinned.h36m_joints[0] - skinned.joints[0],
                'twists': ik.pose_to_twists(matrices, smpl.rest_joints(body, betas)),
            }

        return jax.vmap(one)(betas, pose)

    made = posed(body, betas, jnp.asarray(pose, jnp.float32))
    return {key: np.array(value) for key, value in made.items()} | {
        'betas': betas,
        'pose': pose.astype(np.float32),
    }


def records(people, dataset: str, root_offset_m=(0.0, 0.0, 0.0)) -> list[dict]:
    """Returns the people as records of a dataset; their annotated root is joint 0 moved by
    `root_offset_m`.
    """
    rng = np.random.default_rng(1)
    made = []
    for k in range(PEOPLE):
        joint_0 = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), rng.uniform(3.5, 4.5)])
        camera = people['joints'][k] + joint_0
        focal, centre = np.array([270.0, 280.0]), np.array([132.0, 89.0])
        pixels = camera[:, :2] / camera[:, 2:] * focal + centre
        box = np.clip([*(pixels.min(0) - 5), *(pixels.max(0) + 5)], 0, [229, 199] * 2)
        has_smpl = dataset != 'mpi_inf_3dhp'
        changes = {
            'box': box,
            'focal': focal,
            'centre': centre,
            'joints_px': np.concatenate([pixels, people['joints'][k][:, 2:]], 1),
            'joints_m': people['joints'][k],
            'h36m_joints_m': people['h36m'][k],
            'root_m': joint_0 + root_offset_m,
            'pose': people['pose'][k],
            'betas': people['betas'][k],
            'twists': people['twists'][k],
            'smpl_weight': float(has_smpl),
        }
        texts = {
            'name': f'{dataset}/test/TS{k // 2 + 1}/{k:06d}'.encode(),
            'dataset': dataset.encode(),
            'sequence': f'TS{k // 2 + 1}'.encode(),
            'action': str(1 + k % 2).encode(),
        }
        one = helpers.person(k, **changes) | texts
        record_check.check(one)
        made.append(one)
    return made


def lifted_from_batch(batch: Batch, *, joints_m: np.ndarray | None = None, count: int = 24) -> Lifted:
    """Returns the labels of a batch as what a faultless network would say, from the batch alone (float64).

    How far away a person is comes from the labelled pixels and root-relative joints; with it, pixels and
    depth relative to the root in use give back the joints, wherever that root is.

    Args:
        joints_m: (B, 24, 3) other joints to say, relative to joint 0; `count` of 29 would need the leaves
            too.
        count: 24, with leaf rotations, or 29 joints.
    """
    crop_size = batch.image.shape[1]
    assert (np.asarray(batch.uvd_weight) == 1).all(), 'a joint outside of the crop has no label'
    lifted = []
    for k in range(len(batch.image)):
        affine = np.asarray(batch.crop.crop_to_photo[k], np.float64)
        inverse_camera = np.asarray(batch.crop.inverse_intrinsics[k], np.float64)
        uvd = np.asarray(batch.uvd[k], np.float64)
        photo = (uvd[:, :2] + 0.5) * crop_size @ affine[:, :2].T + affine[:, 2]
        rays = np.concatenate([photo, np.ones((29, 1))], 1) @ inverse_camera.T
        depth = DEPTH_SCALE_M * uvd[:, 2]
        # ray_i (distance + depth_i) - ray_0 distance = joint_i, in x and y
        labelled = np.asarray(batch.joints_m[k], np.float64)
        unknown = (rays[:24] - rays[0])[:, :2].ravel()
        known = (labelled - rays[:24] * depth[:24, None])[:, :2].ravel()
        distance = unknown @ known / (unknown @ unknown)
        camera = rays * (distance + depth)[:, None]
        if joints_m is not None:
            camera[:24] = rays[0] * distance + joints_m[k]
        on_photo = (camera / camera[:, 2:]) @ np.linalg.inv(inverse_camera).T
        on_crop = (on_photo[:, :2] - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
        d = (camera[:, 2:] - float(batch.crop.root_m[k][2])) / DEPTH_SCALE_M
        lifted.append(np.concatenate([on_crop / crop_size - 0.5, d], 1)[:count])
    leaves = np.asarray(batch.quaternions)[:, list(skeleton.LEAF_JOINTS)] if count == 24 else None
    return Lifted(
        uvd=np.asarray(lifted, np.float32),
        twists=np.asarray(batch.twists),
        leaf_quaternions=leaves,
        betas=np.asarray(batch.betas),
    )


@functools.cache
def network(crop_size: int = helpers.CROP_SIZE) -> inference.Network:
    """The forward pass without a network: what is said is made by hand."""
    return inference.Network(
        model=None,
        image_size=crop_size,
        image_mean=(0.0,) * 3,
        image_std=(1.0,) * 3,
        init_betas=np.zeros(10),
        right_hand='leaf',
    )


@jax.jit
def pose_and_measure(lifted: Lifted, batch: Batch, body) -> tuple[Posed, Measured]:
    posed = inference.pose(lifted, batch.crop, body, network=network())
    return posed, step.measure(posed, batch, body)


def predictor(body, *, turn: np.ndarray | None = None, count: int = 24):
    """Returns an evaluation step, batch -> outputs with device axis, that knows the truth, turned by
    `turn`.
    """

    def predict(batch: Batch) -> Measured:
        devices = batch.image.shape[0]
        flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), batch)
        joints = None if turn is None else np.asarray(flat.joints_m, np.float64) @ turn.T
        lifted = lifted_from_batch(flat, joints_m=joints, count=count)
        _, measured = pose_and_measure(lifted, flat, body)
        return jax.tree.map(lambda x: np.asarray(x).reshape(devices, -1, *x.shape[1:]), measured)

    return predict


def score(predict, source, dataset, **options):
    rows, _ = evaluate.score_split(
        {('ema', False): predict},
        source,
        catalogue.DATASETS[dataset].protocol,
        batch_size=PEOPLE,
        crop_size=helpers.CROP_SIZE,
        **options,
    )
    return rows


def roots_file(tmp_path, source, offset_mm=(0.0, 0.0, 0.0)) -> roots_and_boxes.Found:
    path = tmp_path / 'roots.json'
    roots = {r['name'].decode(): (MM_PER_M * r['root_m'] + offset_mm).astype(float).tolist() for r in source}
    path.write_text(json.dumps(roots))
    return roots_and_boxes.Found(path, 'root')


def assert_faultless(rows, dataset):
    for row in rows:
        assert set(catalogue.DATASETS[dataset].protocol.measures) <= row.keys()
        for measure in catalogue.DATASETS[dataset].protocol.measures:
            if measure.startswith('pck'):
                assert row[measure] == 100
            elif measure.startswith('auc'):
                assert row[measure] == pytest.approx(100 * 30 / 31)
            else:
                assert row[measure] < TOLERANCE_MM, (row['over'], measure)
