"""Skeleton tables, camera, body model files and skinning."""

import os
import pickle
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from hybrik_jax.body import camera, projection, rotations, skeleton, smpl, smpl_file
from hybrik_jax.data import augment
from hybrik_jax.step import without_mesh
from tools.recorded import body as recorded

GOLDEN = Path(__file__).parent / 'golden'


@pytest.fixture(scope='module')
def open_body() -> smpl.SMPL:
    return smpl_file.load_body()


@pytest.fixture(scope='module')
def arrays() -> dict:
    """A tiny body of 40 vertices in the SMPL file schema."""
    rng = np.random.default_rng(0)
    parents = np.array(skeleton.PARENTS).astype(np.int64)
    parents[0] = 2**32 - 1
    regressor = rng.random((24, 40)) * (rng.random((24, 40)) < 0.3)
    weights = rng.random((40, 24))
    return {
        'v_template': rng.normal(size=(40, 3)),
        'shapedirs': rng.normal(size=(40, 3, 12)),
        'posedirs': rng.normal(size=(40, 3, 207)),
        'J_regressor': regressor,
        'weights': weights / weights.sum(1, keepdims=True),
        'kintree_table': np.stack([parents, np.arange(24)]),
        'f': rng.integers(0, 40, (60, 3)),
        'leaf_vertices': np.array([3, 5, 7, 9, 11]),
    }


# ---- skeleton


def test_every_mirror_is_its_own_inverse():
    for mirror in (
        skeleton.MIRROR_JOINTS,
        skeleton.MIRROR_JOINTS_29,
        skeleton.MIRROR_H36M,
        skeleton.MIRROR_TWISTS,
        skeleton.MIRROR_LEAVES,
    ):
        assert [mirror[k] for k in mirror] == list(range(len(mirror)))
    assert skeleton.MIRROR_LEAVES == (1, 0, 2, 4, 3)
    named = (skeleton.MIRROR_JOINTS, skeleton.JOINT_NAMES), (skeleton.MIRROR_H36M, skeleton.H36M_NAMES)
    for table, names in named:
        for joint, other in enumerate(table):
            assert names[joint].replace('left', 'right') == names[other].replace('left', 'right')


def test_levels_follow_the_parents():
    levels = skeleton.tree_levels(skeleton.PARENTS_29)
    assert len(levels) == 10
    assert sorted(sum(levels, ())) == list(range(29))
    for above, level in zip(levels[:-1], levels[1:], strict=True):
        assert all(skeleton.PARENTS_29[joint] in above for joint in level)


def test_relevant_children():
    assert skeleton.RELEVANT_CHILD_24[:10] == (3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
    assert [j for j in range(24) if skeleton.RELEVANT_CHILD_24[j] < 0] == list(skeleton.LEAF_JOINTS)
    assert [skeleton.RELEVANT_CHILD_29[j] for j in skeleton.LEAF_JOINTS] == [27, 28, 24, 25, 26]


# ---- camera


def test_projected_joints_lift_back():
    rng = np.random.default_rng(8)
    focal, centre = jnp.array([1100.0, 1150.0]), jnp.array([500.0, 480.0])
    root = jnp.array([0.3, -0.2, 4.0])
    relative = rng.uniform(-0.6, 0.6, (24, 3)).astype(np.float32)
    relative[0] = 0
    angle, scale, crop_size = 0.4, 2.5, 256
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    crop_to_photo = np.concatenate([turn, [[210.0], [90.0]]], axis=1).astype(np.float32)
    pixels = projection.project(relative + root, focal, centre)
    crop = np.linalg.solve(turn, (np.asarray(pixels) - crop_to_photo[:, 2]).T).T
    uvd = np.concatenate([crop / crop_size - 0.5, relative[:, 2:] / 2.0], axis=1).astype(np.float32)
    inverse = jnp.asarray(augment.inverse_intrinsics(focal, centre), jnp.float32)
    joints_m = camera.uvd_to_camera(uvd, crop_to_photo, inverse, root, crop_size=crop_size)
    # 1e-5 m: float32 pixels of 1e3 at 4 m and a focal length of 1100
    np.testing.assert_allclose(joints_m, relative, atol=1e-5)
    unknown = camera.uvd_to_camera(uvd, crop_to_photo, jnp.zeros((3, 3)), root, crop_size=crop_size)
    np.testing.assert_array_equal(unknown, np.zeros((24, 3)))


def test_the_depth_at_which_a_square_of_2_m_fills_a_crop():
    """Two metres, projected at that depth, are as wide as the crop, turned or not; no camera gives no NaN."""
    focal, side, crop_size = np.array([1100.0, 1100.0]), 370.0, 256
    crop_to_photo = augment.invert_affine(augment.crop_affine(np.array([500.0, 480]), side, 40.0, crop_size))
    inverse = augment.inverse_intrinsics(focal, np.array([510.0, 470.0]))
    depth = camera.square_depth(jnp.asarray(crop_to_photo), jnp.asarray(inverse), crop_size)
    edge = projection.project(np.array([[-1, 0, depth], [1, 0, depth]]), focal, np.zeros(2))
    assert np.ptp(np.asarray(edge)[:, 0]) == pytest.approx(side, rel=1e-5)
    wide = augment.inverse_intrinsics(focal * [4, 1], np.zeros(2))
    assert camera.square_depth(jnp.asarray(crop_to_photo), jnp.asarray(wide), crop_size) == 2 * depth
    gradient = jax.grad(camera.square_depth, argnums=(0, 1))
    unknown = jnp.asarray(crop_to_photo), jnp.zeros((3, 3))
    assert camera.square_depth(*unknown, crop_size) == 0
    assert not any(np.asarray(x).any() for x in gradient(*unknown, crop_size))


# ---- skinning


def test_skinning_agrees_with_the_recorded_outputs():
    for what, error, tolerance in recorded.compare_skinning(GOLDEN):
        assert error < tolerance, what


skin_one = jax.jit(smpl.skin)


def test_rest_pose_is_the_shaped_template_and_the_root_turns_everything(open_body):
    betas = np.linspace(-1, 1, 10).astype(np.float32)
    rest = np.broadcast_to(np.eye(3, dtype=np.float32), (24, 3, 3)).copy()
    posed = skin_one(open_body, betas, rest)
    joints = smpl.rest_joints(open_body, betas)
    shaped = open_body.v_template + np.tensordot(betas, open_body.directions[:10], 1).T
    np.testing.assert_allclose(posed.vertices, shaped, atol=1e-5)
    np.testing.assert_allclose(posed.joints, joints[:24], atol=1e-6)
    np.testing.assert_allclose(posed.vertices[open_body.leaf_vertices], joints[24:], atol=1e-6)
    rest[0] = rotations.axis_angle_to_matrix(np.array([0.3, -1.1, 0.7], np.float32))
    turned = skin_one(open_body, betas, rest)
    pelvis = joints[0]
    for after, before in ((turned.vertices, posed.vertices), (turned.h36m_joints, posed.h36m_joints)):
        np.testing.assert_allclose(after, (before - pelvis) @ rest[0].T + pelvis, atol=1e-5)


def random_people(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns betas (count, 10) and rotations (count, 24, 3, 3)."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(0, 0.6, size=(count, 24, 3)).astype(np.float32)
    turns = jax.vmap(jax.vmap(rotations.axis_angle_to_matrix))(vectors)
    return rng.normal(size=(count, 10)).astype(np.float32), np.asarray(turns)


def as_written(body: smpl.SMPL, betas: jax.Array, turns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns vertices and Human3.6M joints of one person by the paper's equations, vertex by vertex."""
    rest = smpl.rest_joints(body, betas)[:24]
    feature = jnp.concatenate([betas, (turns[1:] - jnp.eye(3)).ravel()])
    shaped = body.v_template + jnp.einsum('fav,f->va', body.directions, feature)
    worlds, joints = smpl.pose_skeleton(turns, rest)
    moved = jnp.einsum('jab,vjb->vja', worlds, shaped[:, None] - rest) + joints
    vertices = jnp.einsum('vj,vja->va', body.weights, moved)
    return vertices, body.h36m_regressor @ vertices


def test_skinning_and_its_gradient_are_the_papers_equations(arrays):
    """In float64, of a body whose regressor does not add up to one; its tables are float32."""
    rng = np.random.default_rng(2)
    body = smpl_file.body_from_arrays(arrays | {'J_regressor_h36m': rng.normal(size=(17, 40))})
    with jax.enable_x64(True):
        betas, turns = (jnp.asarray(x[0], jnp.float64) for x in random_people(1))

        def skinned(betas: jax.Array, turns: jax.Array) -> tuple[jax.Array, jax.Array]:
            posed = smpl.skin(body, betas, turns)
            return posed.vertices, posed.h36m_joints

        slopes = rng.normal(size=(40, 3)), rng.normal(size=(17, 3))

        @partial(jax.jit, static_argnums=0)
        def values_and_gradients(function: Callable) -> tuple:
            (vertices, h36m), pull = jax.vjp(function, betas, turns)
            nothing = jnp.zeros((40, 3)), jnp.zeros((17, 3))
            return (vertices, *pull((slopes[0], nothing[1]))), (h36m, *pull((nothing[0], slopes[1])))

        found, wanted = values_and_gradients(skinned), values_and_gradients(partial(as_written, body))
        assert found[0][0].dtype == np.float64
        for of_found, of_wanted, tolerance in zip(found, wanted, (1e-10, 1e-5), strict=True):
            for one, other in zip(of_found, of_wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


def test_joints_without_a_mesh_are_those_of_the_mesh(open_body):
    betas, turns = random_people(64)
    posed = jax.jit(jax.vmap(smpl.skin, (None, 0, 0)))(open_body, betas, turns)
    no_mesh = without_mesh(open_body)
    bare = jax.jit(jax.vmap(partial(smpl.skin, mesh=False), (None, 0, 0)))(no_mesh, betas, turns)
    vertices = np.asarray(posed.vertices, np.float64)
    assert bare.vertices is None
    np.testing.assert_allclose(bare.joints, posed.joints, atol=1e-6)
    np.testing.assert_allclose(bare.leaves, vertices[:, open_body.leaf_vertices], atol=1e-6)
    np.testing.assert_allclose(bare.h36m_joints, open_body.h36m_regressor @ vertices, atol=1e-6)


def test_a_person_alone_is_the_person_among_64_and_1024(open_body):
    betas, turns = random_people(1024)
    pose = jax.jit(lambda body, *people: smpl.each_person(partial(smpl.skin, body), *people))
    many = pose(open_body, betas, turns)
    for chosen in (slice(0, 64), slice(0, 1), slice(1023, 1024), slice(100, 103)):
        few = pose(open_body, betas[chosen], turns[chosen])
        for one, other in zip(jax.tree.leaves(few), jax.tree.leaves(many), strict=True):
            np.testing.assert_allclose(one, other[chosen], rtol=0, atol=1e-6)


def test_skinning_gradient_is_finite_at_the_rest_pose(open_body):
    def objective(pose, betas, body):
        matrices = jax.vmap(rotations.axis_angle_to_matrix)(pose)
        return jnp.sum(smpl.skin(body, betas, matrices).vertices ** 2)

    slope = jax.jit(jax.grad(objective, argnums=(0, 1)))
    for gradient in slope(np.zeros((24, 3), np.float32), np.zeros(10, np.float32), open_body):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_wrong_betas_are_refused(open_body):
    with pytest.raises(ValueError, match=r'\(10,\)'):
        smpl.rest_joints(open_body, jnp.zeros(300))


# ---- files


def same_body(a: smpl.SMPL, b: smpl.SMPL) -> None:
    keys = ('v_template', 'directions', 'joint_regressor', 'weights', 'faces', 'leaf_vertices')
    for key in keys:
        np.testing.assert_array_equal(getattr(a, key), getattr(b, key), err_msg=key)


def official_pickle(arrays: dict, path: Path, protocol: int, expression: str = 'J') -> None:
    """Writes `arrays` as SMPL's own files hold them: a sparse regressor, and objects of chumpy's classes.

    expression: which of them chumpy would have to compute; nobody needs J.
    """
    modules = {name: types.ModuleType(name) for name in ('chumpy', 'chumpy.ch', 'chumpy.reordering')}

    class Ch:
        def __init__(self, **state):
            self.__dict__.update(state)

    class Select(Ch):
        pass

    for cls, module in ((Ch, 'chumpy.ch'), (Select, 'chumpy.reordering')):
        cls.__module__, cls.__qualname__ = module, cls.__name__
        setattr(modules[module], cls.__name__, cls)
    content = dict(arrays)
    content['J_regressor'] = scipy.sparse.csc_matrix(arrays['J_regressor'])
    content['shapedirs'] = Ch(x=arrays['shapedirs'], _dirty_vars={'x'})
    chosen = Ch(x=arrays['posedirs'].ravel()[::-1].copy())
    count = arrays['posedirs'].size
    shape = arrays['posedirs'].shape
    content['posedirs'] = Select(a=chosen, idxs=np.arange(count)[::-1], preferred_shape=shape)
    content['bs_type'] = 'lrotmin'
    content[expression] = Ch(terms=3)
    sys.modules.update(modules)
    try:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    finally:
        for name in modules:
            del sys.modules[name]


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_official_pickle_loads_without_chumpy(arrays, tmp_path, protocol):
    path = tmp_path / 'basic_model.pkl'
    official_pickle(arrays, path, protocol)
    assert 'chumpy' not in sys.modules
    loaded = smpl_file.load_body(path)
    assert 'chumpy' not in sys.modules
    expected = smpl_file.body_from_arrays(arrays)
    same_body(loaded, expected)
    np.testing.assert_allclose(loaded.rest_joints_template, expected.rest_joints_template, atol=1e-6)
    np.testing.assert_array_equal(loaded.leaf_vertices, arrays['leaf_vertices'])


def test_csr_regressor_and_npz_load_the_same(arrays, tmp_path):
    content = {**arrays, 'J_regressor': scipy.sparse.csr_matrix(arrays['J_regressor'])}
    (tmp_path / 'body.pkl').write_bytes(pickle.dumps(content, protocol=2))
    np.savez(tmp_path / 'body.npz', **arrays)
    same_body(smpl_file.load_body(tmp_path / 'body.pkl'), smpl_file.load_body(tmp_path / 'body.npz'))
    assert smpl_file.load_body(tmp_path / 'body.npz').name == 'body'


class Payload:
    """Runs `call` when it is unpickled by anything that executes what it reads."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('name', ['system', 'eval', 'open', 'getattr'])
def test_a_malicious_pickle_is_refused_and_nothing_runs(arrays, tmp_path, name):
    touched, path = tmp_path / 'touched', tmp_path / 'evil.pkl'
    calls = {
        'system': (os.system, (f'touch {touched}',)),
        'eval': (eval, (f'open({str(touched)!r}, "w")',)),
        'open': (open, (str(touched), 'w')),
        'getattr': (getattr, ('text', 'upper')),
    }
    for protocol in (0, 2, 5):
        path.write_bytes(pickle.dumps({**arrays, 'extra': Payload(calls[name])}, protocol=protocol))
        with pytest.raises(ValueError, match=rf'evil.pkl.*refused to load \w+\.{name}'):
            smpl_file.load_body(path)
    assert not touched.exists()


def test_stand_ins_of_chumpy_run_nothing_and_expressions_are_named(arrays, tmp_path):
    path = tmp_path / 'expression.pkl'
    official_pickle(arrays, path, 2, expression='weights')
    with pytest.raises(ValueError, match=r'expression.pkl: weights is a chumpy\.ch\.Ch .*open the file with'):
        smpl_file.load_body(path)


def test_damaged_and_foreign_files_name_themselves(tmp_path):
    for name, data in (('empty.pkl', b''), ('cut.pkl', b'\x80\x02}q\x00'), ('cut.npz', b'PK\x03\x04abc')):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            smpl_file.load_body(tmp_path / name)
    (tmp_path / 'list.pkl').write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match='list.pkl.*dict'):
        smpl_file.load_body(tmp_path / 'list.pkl')


@pytest.mark.parametrize(
    ('key', 'change', 'message'),
    [
        ('weights', lambda x: x[:, :23], r'weights has the shape \(40, 23\) and .* shape \(40, 24\)'),
        ('shapedirs', lambda x: x[:, :, :9], r'shapedirs.*\(40, 3, 10 or more\)'),
        ('posedirs', lambda x: x.reshape(120, 207), r'posedirs.*\(40, 3, 207\)'),
        ('v_template', lambda x: np.where(x > 1, np.nan, x), 'v_template.*not finite'),
        ('J_regressor', lambda x: x.astype(str), 'J_regressor .* type'),
        ('f', lambda x: x + 40, 'f names vertices'),
        ('kintree_table', lambda x: x[:, ::-1], 'kintree_table gives the parents'),
    ],
)
def test_wrong_arrays_are_named(arrays, tmp_path, key, change, message):
    path = tmp_path / 'wrong.npz'
    np.savez(path, **{**arrays, key: change(arrays[key])})
    with pytest.raises(ValueError, match=rf'wrong.npz: {message}'):
        smpl_file.load_body(path)


def test_missing_keys_are_named(arrays, tmp_path):
    np.savez(tmp_path / 'half.npz', **{key: arrays[key] for key in ('v_template', 'f')})
    with pytest.raises(ValueError, match='half.npz.*missing: shapedirs, posedirs'):
        smpl_file.load_body(tmp_path / 'half.npz')


# ---- what belongs to which body


def test_names_and_the_guard(open_body, arrays, tmp_path):
    assert open_body.name == 'open_body (CC0)'
    assert len(jax.tree_util.tree_leaves(open_body)) == 11  # the name is not among them
    smpl.check_same_body(open_body, 'open_body (CC0)', 'the poses')
    with pytest.raises(ValueError, match="the betas was made for the body model 'SMPL'"):
        smpl.check_same_body(open_body, 'SMPL', 'the betas')
    path = tmp_path / 'named.pkl'
    path.write_bytes(pickle.dumps({**arrays, 'model_name': []}, protocol=2))
    with pytest.raises(ValueError, match='named.pkl: model_name is a list, expected is a text'):
        smpl_file.load_body(path)


def test_regressor_file_belongs_to_bodies_without_their_own(open_body, arrays, tmp_path):
    path, regressor = tmp_path / 'J_regressor_h36m.npy', np.random.default_rng(0).random((17, 40))
    np.save(path, regressor)
    np.savez(tmp_path / 'body.npz', **arrays)
    assert smpl_file.load_body(tmp_path / 'body.npz').h36m_regressor is None
    loaded = smpl_file.load_body(tmp_path / 'body.npz', h36m_regressor=path)
    np.testing.assert_array_equal(loaded.h36m_regressor, regressor.astype(np.float32))
    with pytest.raises(ValueError, match='carries its own J_regressor_h36m'):
        smpl_file.load_body(h36m_regressor=path)
    np.save(path, regressor[:, :39])
    with pytest.raises(ValueError, match=r'J_regressor_h36m.npy.*\(17, 39\).*\(17, 40\)'):
        smpl_file.load_body(tmp_path / 'body.npz', h36m_regressor=path)


def test_mean_shape_of_another_body_is_refused(open_body, tmp_path):
    np.save(tmp_path / 'mean.npy', np.zeros(10))
    with pytest.raises(ValueError, match="mean.npy was made for the body model 'SMPL'"):
        smpl_file.load_mean_betas(tmp_path / 'mean.npy', open_body)
    np.savez(tmp_path / 'mean.npz', betas=np.ones(10), model_name='open_body (CC0)')
    np.testing.assert_array_equal(smpl_file.load_mean_betas(tmp_path / 'mean.npz', open_body), np.ones(10))


def test_the_open_body_has_its_left_and_right_joints_where_their_names_say():
    """SMPL's and the Human3.6M joints of a limb lie on one side, within a decimetre of each other."""
    body = smpl_file.load_body()
    smpl_joints, h36m = (np.asarray(r) @ body.v_template for r in (body.joint_regressor, body.h36m_regressor))
    for k, name in enumerate(skeleton.H36M_NAMES):
        if name in skeleton.JOINT_NAMES:
            assert np.linalg.norm(h36m[k] - smpl_joints[skeleton.JOINT_NAMES.index(name)]) < 0.12, name
