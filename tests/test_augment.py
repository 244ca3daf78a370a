"""From record to example: the crop's geometry, mirroring, occlusion, half bodies, targets, broken photos."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.body import camera, ik, projection, smpl_file
from hybrik_jax.body import rotations as rot
from hybrik_jax.boxes import centre_and_side
from hybrik_jax.data import augment, record
from hybrik_jax.data.augment import Augmentation, AugmentationSettings
from hybrik_jax.datasets import record_check
from tests.helpers import CROP_SIZE, person, without_3d
from tools.recorded import training as recorded

SETTINGS = AugmentationSettings(shift=0.05, occlusion={'test': (0.4, 3.0)})
forward_kinematics = jax.jit(ik.forward_kinematics)
twist_swing = jax.jit(rot.twist_swing)
to_camera = jax.jit(camera.uvd_to_camera, static_argnames='crop_size')


def draws(count, settings=SETTINGS, seed=0, **changes):
    """`count` pairs of a person and a random augmentation."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        one = person(i, **changes)
        yield one, augment.draw(rng, one, settings)


def test_helper_keeps_to_the_schema():
    for seed in range(3):
        record_check.check(person(seed))
        record_check.check(without_3d(person(seed)))


def test_recorded_crops(golden):
    rows = recorded.compare_crops(golden)
    assert len(rows) >= 5 * 14
    for what, error, tolerance in rows:
        assert error <= tolerance, f'{what}: {error:.2e} > {tolerance:.0e}'


# ------------------------------------------------------------------------------------------------ geometry
def test_crop_geometry():
    """The box's centre goes to the crop's centre, the photo vector (s/2)(sin r, -cos r) to the middle of the
    top.
    """
    centre, side, degrees = np.array([50.0, 70.0]), 80.0, 25.0
    affine = augment.crop_affine(centre, side, degrees, 256)
    up = side / 2 * np.array([np.sin(np.deg2rad(degrees)), -np.cos(np.deg2rad(degrees))])
    np.testing.assert_allclose(affine @ [*centre, 1], [128, 128], atol=1e-9)
    np.testing.assert_allclose(affine @ [*(centre + up), 1], [128, 0], atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(affine[:, :2]), (256 / side) ** 2)
    inverse = augment.invert_affine(affine)
    np.testing.assert_allclose(inverse @ [*(affine @ [3, 4, 1]), 1], [3, 4], atol=1e-9)


def test_box_grows_to_a_square_and_is_enlarged():
    centre, side = centre_and_side([10, 20, 30, 80], 1.25)
    assert centre.tolist() == [20, 50] and side == 75


def test_a_shift_moves_the_crop_by_its_share_of_the_side():
    one = person(0)
    _, side = centre_and_side(one['box'], float(one['box_enlargement']))
    straight, moved = (
        augment.affine_of(one, Augmentation(scale=1.2, rotation_degrees=30, shift=shift), CROP_SIZE)
        for shift in ((0.0, 0.0), (0.1, -0.05))
    )
    there = augment.invert_affine(straight) @ [CROP_SIZE / 2, CROP_SIZE / 2, 1] + side * np.array(
        [0.1, -0.05]
    )
    np.testing.assert_allclose(moved @ [*there, 1], CROP_SIZE / 2, atol=1e-6)
    np.testing.assert_allclose(moved[:, :2], straight[:, :2])


def test_uvd_and_3d_say_the_same_under_every_augmentation():
    """The crop's uvd, taken back through crop, photo and camera, are the joints: scaled, turned, mirrored or
    not.

    With an off-centre principal point, so that a camera that is not mirrored with the photo would show.
    """
    kinds = set()
    for one, drawn in draws(40, box_enlargement=2.8):
        example = augment.make_example(one, drawn, crop_size=CROP_SIZE)
        assert example['uvd_weight'].all()
        found = to_camera(
            example['uvd'],
            example['crop_to_photo'],
            example['inverse_intrinsics'],
            example['root_m'],
            crop_size=CROP_SIZE,
        )
        np.testing.assert_allclose(found[:24], example['joints_m'], atol=1e-4)
        kinds.add((drawn.mirror, drawn.rotation_degrees != 0, drawn.scale > 1))
    assert len(kinds) == 8


def test_an_unmirrored_camera_is_off():
    one = person(0, box_enlargement=2.8)
    example = augment.make_example(one, Augmentation(mirror=True, mirror_camera=False), crop_size=CROP_SIZE)
    place = {k: example[k] for k in ('uvd', 'crop_to_photo', 'inverse_intrinsics', 'root_m')}
    assert np.abs(to_camera(**place, crop_size=CROP_SIZE)[:24] - example['joints_m']).max() > 1e-2


def test_crop_shows_the_photo_where_the_affine_says():
    """A white patch around a joint appears where that joint's target is."""
    for one, drawn in draws(6, dataclasses.replace(SETTINGS, occlusion={}), box_enlargement=2.8):
        photo = np.zeros((int(one['height']), int(one['width']), 3), np.uint8)
        u, v = np.round(one['joints_px'][7, :2]).astype(int)
        photo[max(v - 8, 0) : v + 9, max(u - 8, 0) : u + 9] = 255
        example = augment.make_example(one, drawn, crop_size=256, image=photo)
        joint = 8 if drawn.mirror else 7
        x, y = np.round((example['uvd'][joint, :2] + 0.5) * 256).astype(int)
        assert example['image'][y, x].min() > 150


# ------------------------------------------------------------------------------------------------ mirror
def test_two_mirrors_are_the_identity():
    one = person(3)
    twice = augment.mirror_record(augment.mirror_record(one))
    assert twice.keys() == one.keys()
    for name in record.FEATURES:
        np.testing.assert_allclose(twice[name], one[name], atol=1e-4, err_msg=name)


def test_mirrored_pixels_are_the_projection_of_the_mirrored_joints():
    mirrored = augment.mirror_record(person(4))
    points = mirrored['joints_m'] + mirrored['root_m']
    pixels = projection.project(points, mirrored['focal'], mirrored['centre'])
    np.testing.assert_allclose(pixels, mirrored['joints_px'][:, :2], atol=1e-3)
    record_check.check(mirrored)


def test_mirrored_pose_gives_the_mirrored_skeleton():
    """Of a symmetric rest skeleton; the root turns too, so that the body in the mirror stands in the
    mirror.
    """
    one = person(5)
    rest = np.array(smpl_file.load_body().rest_joints_template)
    rest[:, 0] -= rest[0, 0]
    other_side = augment.mirror_record(person(0, joints_m=rest))['joints_m']
    symmetric = (rest + other_side) / 2

    def skeleton_of(pose):
        rotations = Rotation.from_rotvec(pose.astype(float)).as_matrix().astype(np.float32)
        return np.asarray(forward_kinematics(rotations, symmetric))

    expected = np.zeros((29, 3), np.float32)
    expected[:24] = skeleton_of(one['pose'])
    expected = augment.mirror_record(person(0, joints_m=expected))['joints_m'][:24]
    np.testing.assert_allclose(skeleton_of(augment.mirror_record(one)['pose']), expected, atol=1e-5)


def test_mirrored_twist_is_the_twist_of_the_mirrored_rotation():
    """turn(bone, angle) in the mirror is turn(mirrored bone, -angle)."""
    bone, angle = np.array([0.3, -0.2, 0.5], np.float32), 0.7
    mirror = np.diag([-1.0, 1.0, 1.0])
    turned = mirror @ Rotation.from_rotvec(angle * bone / np.linalg.norm(bone)).as_matrix() @ mirror
    _, found = twist_swing(turned.astype(np.float32), mirror.astype(np.float32) @ bone)
    np.testing.assert_allclose(found, -angle, atol=1e-5)
    one = person(6)
    mirrored = augment.mirror_record(one)
    left_knee, right_knee = 4 - 1, 5 - 1
    assert mirrored['twists'][left_knee] == -one['twists'][right_knee]


# ------------------------------------------------------------------------------------------------ random
# draws
def test_draws_keep_to_their_limits():
    drawn = [d for _, d in draws(300)]
    scales = np.array([d.scale for d in drawn])
    angles = np.array([d.rotation_degrees for d in drawn])
    colours = np.array([d.colour for d in drawn])
    assert 0.7 <= scales.min() < 0.75 and 1.25 < scales.max() <= 1.3
    shifts = np.array([d.shift for d in drawn])
    assert 0.09 < np.abs(shifts).max() <= 0.1 and 0.03 < shifts.std() < 0.05
    assert np.abs(angles).max() <= 60 and 0.3 < (angles == 0).mean() < 0.5
    assert 0.8 <= colours.min() < 0.81 and 1.19 < colours.max() <= 1.2
    assert 0.4 < np.mean([d.mirror for d in drawn]) < 0.6
    assert all(d.box is None for d in drawn)


def test_all_off_is_the_evaluation_crop():
    settings = AugmentationSettings(
        scale=0.0, rotation_probability=0.0, mirror_probability=0.0, colour=0.0, half_body_probability=0.0
    )
    assert all(d == Augmentation() for _, d in draws(10, settings))


def test_occlusion_stays_in_the_photo_and_in_its_limits():
    found = 0
    for one, drawn in draws(200):
        if drawn.occlusion is None:
            continue
        found += 1
        x0, y0, x1, y1, _ = drawn.occlusion
        assert 0 <= x0 <= x1 < one['width'] and 0 <= y0 <= y1 < one['height']
        _, side = centre_and_side(one['box'], float(one['box_enlargement']))
        assert (x1 - x0) * (y1 - y0) <= 0.4 * side**2 * 1.1 + 300
    assert found > 150


def test_occlusion_changes_its_rectangle_only_and_not_the_record():
    one = person(0)
    photo = augment.decode_jpeg(one)
    before = photo.copy()
    occluded = augment.make_example(
        one, Augmentation(occlusion=(60, 50, 100, 90, 1)), crop_size=256, image=photo
    )
    plain = augment.make_example(one, Augmentation(), crop_size=256, image=photo)
    np.testing.assert_array_equal(photo, before)
    changed = (occluded['image'] != plain['image']).any(-1)
    y, x = np.nonzero(changed)
    corners = augment.invert_affine(plain['crop_to_photo'])
    low, high = corners @ [59, 49, 1], corners @ [100, 90, 1]
    assert changed.any()
    assert (
        low[0] - 1 <= x.min() and x.max() <= high[0] + 1 and low[1] - 1 <= y.min() and y.max() <= high[1] + 1
    )


def test_a_dataset_without_limits_is_not_occluded():
    assert all(
        d.occlusion is None for _, d in draws(20, AugmentationSettings(occlusion={'other': (0.5, 2.0)}))
    )


def test_half_body_holds_one_half():
    """The box is 1.5 times that of the labelled upper or lower joints; too few give none."""
    boxes = set()
    one = person(1)
    rng = np.random.default_rng(0)
    halves = {}
    for name, joints in (('upper', augment.UPPER_BODY), ('lower', set(range(29)) - set(augment.UPPER_BODY))):
        points = one['joints_px'][sorted(joints), :2]
        low, high = points.min(0), points.max(0)
        middle, half = (low + high) / 2, (high - low) * 0.75
        halves[name] = np.array([*(middle - half), *(middle + half)])
    for _ in range(20):
        box = np.array(augment.half_body_box(rng, one))
        (name,) = [n for n, expected in halves.items() if np.allclose(box, expected, atol=1e-3)]
        boxes.add(name)
    assert boxes == {'upper', 'lower'}

    few = np.zeros((29, 3))
    few[:8] = 1
    assert augment.half_body_box(rng, person(1, joints_px_weight=few)) is None
    upper_only = np.repeat(np.isin(np.arange(29), augment.UPPER_BODY)[:, None], 3, 1).astype(float)
    found = [augment.half_body_box(rng, person(1, joints_px_weight=upper_only)) for _ in range(20)]
    assert any(box is None for box in found) and any(box is not None for box in found)


def test_half_body_keeps_uvd_and_3d_together():
    settings = AugmentationSettings(half_body_probability=1.0)
    halves = 0
    for one, drawn in draws(10, settings, box_enlargement=0.7):
        example = augment.make_example(one, drawn, crop_size=CROP_SIZE)
        inside = example['uvd_weight'][:24].all(1)
        halves += not inside.all()
        if not inside[0]:
            continue
        place = {k: example[k] for k in ('uvd', 'crop_to_photo', 'inverse_intrinsics', 'root_m')}
        found = to_camera(**place, crop_size=CROP_SIZE)[:24]
        np.testing.assert_allclose(found[inside], example['joints_m'][inside], atol=1e-4)
    assert halves


# ------------------------------------------------------------------------------------------------ targets
def test_a_joint_outside_the_crop_loses_its_uvd_but_not_its_3d():
    one = person(2, box_enlargement=0.5)
    example = augment.make_example(one, Augmentation(), crop_size=CROP_SIZE)
    outside = example['uvd_weight'].sum(1) == 0
    assert outside.any() and not outside.all()
    assert (example['uvd'][outside] == 0).all() and (np.abs(example['uvd']) <= 0.5).all()
    assert example['joints_weight'].all()


def test_a_person_without_3d_has_zero_weights_and_a_zero_camera():
    example = augment.make_example(without_3d(person(0)), Augmentation(), crop_size=CROP_SIZE)
    for name in ('joints_weight', 'h36m_weight', 'smpl_weight', 'twist_weight', 'inverse_intrinsics'):
        assert not example[name].any(), name
    assert example['uvd_weight'][:, :2].any() and not example['uvd_weight'][:, 2].any()
    assert all(np.isfinite(value).all() for value in example.values())


def test_quaternions_are_those_of_the_axis_angles():
    vectors = np.random.default_rng(0).normal(0, 2, (24, 3))
    vectors[22:] = [[0, 0, 0], [1e-9, 0, 0]]
    example = augment.make_example(person(0, pose=vectors), Augmentation(), crop_size=CROP_SIZE)
    assert (example['quaternions'][:, 0] >= 0).all()
    found = jax.vmap(rot.quaternion_to_matrix)(example['quaternions'])
    np.testing.assert_allclose(found, jax.vmap(rot.axis_angle_to_matrix)(vectors), atol=1e-5)


# ---------------------------------------------------------------------------------------------- broken photos


def test_a_corrupt_jpeg_names_its_record():
    one = person(7)
    broken = one | {'image': one['image'][:20]}
    with pytest.raises(ValueError, match="record 'test/007' of 'test': its JPEG cannot be decoded"):
        augment.make_example(broken, Augmentation(), crop_size=CROP_SIZE)


def test_a_photo_of_another_size_names_its_record():
    one = person(7) | {'region_size': np.array([231, 200], np.int32)}
    with pytest.raises(
        ValueError, match=r"'test/007' of 'test': .*\(230, 200\) pixels \(width, height\), the"
    ):
        augment.make_example(one, Augmentation(), crop_size=CROP_SIZE)
