"""Backbone, lifting networks and the way to a posed body."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import linen as nn

from hybrik_jax import inference
from hybrik_jax.body import smpl_file
from hybrik_jax.model import hybrik, lifting, light, resnet
from hybrik_jax.types import Crop, Lifted
from tools.recorded import model as recorded

GOLDEN = pathlib.Path(__file__).parent / 'golden'
SMALL = dict(num_blocks=2, num_heads=2, width=8, ffn_width=12, ffn_depth=3)


def model_config(**changes):
    config = ml_collections.ConfigDict(
        dict(
            lifting='transformer',
            backbone=dict(
                name='resnet', depth=18, width=64, dtype='float32', remat=False, sync_batch_norm=False
            ),
            transformer=dict(
                variant='custom',
                dropout=0.1,
                leaf_tokens=True,
                patch_sampling=0.2,
                remat=False,
                dtype='float32',
                **SMALL,
            ),
            light=dict(num_blocks=2, width=16, dtype='float32'),
            deconv=dict(num_joints=24, width=16, depth_bins=64, dropout=0.5, dtype='float32'),
        )
    )
    config.update_from_flattened_dict(changes)
    return config


def random_variables(module, *inputs, **options):
    """Returns variables of the module's shapes from NumPy: initialising one compiles for seconds."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(module.init, **options), jax.random.key(0), *inputs)
    return jax.tree.map(lambda x: jnp.asarray(rng.uniform(-0.5, 0.5, x.shape), x.dtype), shapes)


def random_lifted(seed, joints=24, batch_size=2):
    rng = np.random.default_rng(seed)
    return Lifted(
        uvd=jnp.asarray(rng.uniform(-0.5, 0.5, (batch_size, joints, 3)), jnp.float32),
        twists=jnp.asarray(rng.standard_normal((batch_size, 23, 2)), jnp.float32),
        leaf_quaternions=(
            jnp.asarray(rng.standard_normal((batch_size, 5, 4)), jnp.float32) if joints == 24 else None
        ),
        betas=jnp.asarray(rng.standard_normal((batch_size, 10)), jnp.float32),
    )


# 9 outputs (8 with 29 joints, which have no leaf rotations, and of the HRNet, whose vertices are not
# recorded), twice, and the backbone. With a camera: 12, twice; 12, four times, and the backbone.
RECORDED = {
    'transformer_resnet34': 19,
    'transformer_resnet18_original': 19,
    'deconv24_resnet34': 19,
    'deconv29_resnet34': 17,
    'deconv29cam_resnet34': 2 * 12,
    'hrnetcam29_hrnet48': 4 * 12 + 1,
    'transformer_hrnet48': 17,
}
# Its backbone is that of hrnetcam29_hrnet48, its lifting that of transformer_resnet34; a minute to compile.
SLOW = 'transformer_hrnet48'


@pytest.mark.parametrize('name', [pytest.param(n, marks=[pytest.mark.slow] * (n == SLOW)) for n in RECORDED])
def test_recorded_networks(name):
    rows = recorded.compare_model(GOLDEN / f'model_{name}.npz')
    assert len(rows) == RECORDED[name]
    assert not [row for row in rows if not row[1] <= row[2]]


def test_every_recorded_network_is_compared():
    assert {path.stem for path in recorded.recordings(GOLDEN)} == {f'model_{name}' for name in RECORDED}


@pytest.mark.parametrize('size', [64, 256])
@pytest.mark.parametrize(
    'changes, joints, leaves, channels',
    [
        ({}, 24, True, 512),
        ({'backbone.depth': 34, 'transformer.variant': 'original'}, 24, True, 512),
        ({'backbone.depth': 50, 'transformer.leaf_tokens': False}, 24, False, 2048),
        (
            {'backbone.depth': 101, 'backbone.dtype': 'bfloat16', 'transformer.dtype': 'bfloat16'},
            24,
            True,
            2048,
        ),
        ({'backbone.depth': 152, 'backbone.remat': True, 'transformer.remat': True}, 24, True, 2048),
        ({'lifting': 'light'}, 24, True, 512),
        ({'lifting': 'light', 'light.dtype': 'bfloat16'}, 24, True, 512),
        ({'lifting': 'deconv'}, 24, True, 512),
        ({'lifting': 'deconv', 'backbone.name': 'hrnet', 'backbone.width': 18}, 24, True, 2048),
        ({'lifting': 'deconv', 'deconv.num_joints': 29, 'deconv.dtype': 'bfloat16'}, 29, False, 512),
    ],
)
def test_output_shapes(size, changes, joints, leaves, channels):
    model = hybrik.create_model(model_config(**changes))

    def run(key, images):
        variables = hybrik.initialise(model, key, image_size=size)
        rngs = dict(zip(('dropout', 'patches', 'patch_count'), jax.random.split(key, 3), strict=True))
        lifted, _ = model.apply(
            variables, images, training=True, init_betas=jnp.zeros(10), rngs=rngs, mutable=['batch_stats']
        )
        return model.apply(variables, images, method=lambda m, x: m.backbone(x, training=False)), lifted

    features, lifted = jax.eval_shape(run, jax.random.key(0), jnp.zeros((3, size, size, 3)))
    assert features.shape == (3, size // 32, size // 32, channels)
    assert lifted.uvd.shape == (3, joints, 3) and lifted.twists.shape == (3, 23, 2)
    assert lifted.betas.shape == (3, 10)
    assert lifted.leaf_quaternions.shape == (3, 5, 4) if leaves else lifted.leaf_quaternions is None
    assert {leaf.dtype for leaf in jax.tree.leaves(lifted)} == {np.dtype('float32')}


@pytest.mark.parametrize('key', ['backbone.name', 'lifting'])
def test_an_unknown_network_is_refused(key):
    with pytest.raises(ValueError, match=rf"model\.{key}='hourglass': choose one of .*(resnet|transformer)"):
        hybrik.create_model(model_config(**{key: 'hourglass'}))


def test_a_backbone_needs_one_entry(monkeypatch):
    class Pooling(nn.Module):
        """One average colour per 32 x 32 pixels."""

        @nn.compact
        def __call__(self, images, *, training):
            return nn.Dense(6)(nn.avg_pool(images, (32, 32), strides=(32, 32)))

    monkeypatch.setitem(hybrik.BACKBONES, 'pooling', lambda config, axis_name: Pooling())
    model = hybrik.create_model(model_config(**{'backbone.name': 'pooling'}))
    images = jnp.zeros((2, 64, 64, 3))
    variables = jax.eval_shape(functools.partial(hybrik.initialise, model, image_size=64), jax.random.key(0))
    run = functools.partial(model.apply, training=False, init_betas=jnp.zeros(10))
    lifted = jax.eval_shape(run, variables, images)
    assert lifted.uvd.shape == (2, 24, 3) and 'backbone' in variables['params']


def test_tokens_and_position_tables():
    model = lifting.TransformerLifting(**SMALL)
    params = jax.eval_shape(
        functools.partial(model.init, training=False, init_betas=jnp.zeros(10)),
        jax.random.key(0),
        jnp.zeros((1, 4, 6, 10)),
    )['params']
    assert params['row_codes'].shape == (4, 5) and params['column_codes'].shape == (6, 5)
    assert params['joint_embeddings'].shape == (29, 10) and params['type_embeddings'].shape == (10, 10)
    # A hidden layer may have its own width; the last is as wide as the tokens.
    assert params['block0']['source_ffn']['linear1']['kernel'].shape == (12, 12)
    assert params['block0']['source_ffn']['linear2']['kernel'].shape == (12, 8)


def test_hiding_patches_equals_dropping_them():
    rng = np.random.default_rng(0)
    sources, queries = rng.standard_normal((2, 16, 8)), rng.standard_normal((2, 5, 8))
    visible = lifting.sample_patches(*jax.random.split(jax.random.key(2)), shape=(2, 16), min_fraction=0.2)
    count = int(visible[0].sum())
    assert 3 <= count < 16
    block = lifting.TransformerBlock(
        num_heads=2, ffn_width=12, ffn_depth=3, leaky=True, dropout=0.0, training=False, dtype=jnp.float32
    )
    variables = random_variables(block, sources, queries, None)
    apply = jax.jit(block.apply)
    chosen = np.argsort(~np.asarray(visible), axis=1, kind='stable')[:, :count, None]
    hidden, dropped = (sources, queries), (np.take_along_axis(sources, chosen, axis=1), queries)
    for _ in range(2):
        hidden = apply(variables, *hidden, visible)
        dropped = apply(variables, *dropped, None)
    np.testing.assert_allclose(hidden[1], dropped[1], atol=1e-5)
    kept = np.take_along_axis(np.asarray(hidden[0]), chosen, axis=1)
    np.testing.assert_allclose(kept, dropped[0], atol=1e-5)


def test_patch_sampling_distribution():
    sample = functools.partial(lifting.sample_patches, shape=(3, 16), min_fraction=0.2)
    keys = jax.random.split(jax.random.key(0), 4000)
    visible = np.asarray(jax.jit(jax.vmap(sample))(keys, jax.random.split(jax.random.key(1), 4000)))
    counts = visible.sum(axis=-1)
    assert (counts == counts[:, :1]).all()
    # Uniform over floor(0.2 * 16) = 3 .. 16, both included: 14 values, about 286 draws of each.
    frequency = np.bincount(counts[:, 0], minlength=17)
    assert (frequency[:3] == 0).all() and (np.abs(frequency[3:] - 4000 / 14) < 5 * np.sqrt(4000 / 14)).all()
    # Every patch is as likely as any other, and rows are drawn on their own.
    assert np.ptp(visible.mean(axis=(0, 1))) < 0.04
    assert (visible[:, 0] != visible[:, 1]).any(axis=-1).mean() > 0.8
    here, there = sample(keys[0], keys[1]), sample(keys[0], keys[2])
    assert here.sum() == there.sum() and (here != there).any()


def test_patch_sampling_is_for_training_alone():
    features = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 10)), jnp.float32)
    options = dict(dropout=0.0, **{**SMALL, 'num_blocks': 1})
    variables = random_variables(
        lifting.TransformerLifting(**options), features, training=False, init_betas=jnp.zeros(10)
    )

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def uvd(patch_sampling, training):
        rngs = dict(dropout=jax.random.key(0), patches=jax.random.key(1), patch_count=jax.random.key(2))
        model = lifting.TransformerLifting(patch_sampling=patch_sampling, **options)
        return model.apply(variables, features, training=training, init_betas=jnp.zeros(10), rngs=rngs).uvd

    assert not np.allclose(uvd(0.2, True), uvd(0.2, False), atol=1e-4)
    np.testing.assert_allclose(uvd(1.0, True), uvd(0.2, False), atol=1e-5)


def light_network(shape, **options):
    """Returns the light lifting as a function of feature maps, and its parameters."""
    model = light.LightLifting(num_heads=2, width=8, ffn_width=12, depth_bins=4, **options)
    settings = dict(training=False, init_betas=jnp.arange(10.0))
    params = random_variables(model, jnp.zeros(shape), **settings)['params']
    return lambda features, **changes: model.apply({'params': params | changes}, features, **settings), params


def test_joints_of_the_light_lifting_lie_where_their_scores_are_high():
    shape = (1, 4, 6, 10)
    run, params = light_network(shape, convolutions=0)
    features = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    flat = run(features, volume_queries=jax.tree.map(jnp.zeros_like, params['volume_queries']))
    np.testing.assert_allclose(flat.uvd, 0.0, atol=1e-6)
    # Scores without end choose one cell, whose middle is the joint's place.
    sure = dict(params['volume_queries'], kernel=1e5 * params['volume_queries']['kernel'])
    cells = (run(features, volume_queries=sure).uvd / light.REACH + 0.5) * np.array([6, 4, 4])
    np.testing.assert_allclose(cells % 1.0, 0.5, atol=1e-3)
    assert len(np.unique(np.round(cells.reshape(-1, 3), 1), axis=0)) > 1
    # What is the same but for its place moves the joints with it, by whole cells.
    still = {'volume_queries': sure, 'positions': jnp.zeros_like(params['positions'])}
    turned = np.asarray(run(features[:, ::-1, ::-1], **still).uvd)
    np.testing.assert_allclose(turned[..., :2], -np.asarray(run(features, **still).uvd)[..., :2], atol=1e-3)
    # Places are told by the table.
    assert np.abs(turned - run(features[:, ::-1, ::-1], volume_queries=sure).uvd).max() > 0.05


def test_the_light_lifting_starts_from_the_mean_shape():
    model = light.LightLifting(width=8, num_heads=2)
    inputs, betas = jnp.ones((2, 4, 6, 10)), jnp.arange(10.0)
    lifted, _ = jax.jit(functools.partial(model.init_with_output, training=False))(
        jax.random.key(0), inputs, init_betas=betas
    )
    np.testing.assert_array_equal(lifted.betas, np.broadcast_to(betas, (2, 10)))
    assert lifted.uvd.shape == (2, 24, 3) and lifted.twists.shape == (2, 23, 2)
    assert lifted.scale is None and np.isfinite(lifted.leaf_quaternions).all()
    with pytest.raises(ValueError, match='width=10 cannot be split over 4 heads'):
        light.LightLifting(width=10).init(jax.random.key(0), inputs, training=False, init_betas=betas)


def test_layer_norm():
    norm = lifting.UnbiasedLayerNorm()
    x = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    x[1] = 2.0
    variables = norm.init(jax.random.key(0), x)
    expected = (x - x.mean(-1, keepdims=True)) / (x.std(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(norm.apply(variables, x), expected, atol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(norm.apply(variables, x) ** 3))(x)
    assert np.isfinite(gradient).all()


def test_remat_changes_nothing():
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3)), jnp.float32)
    plain, remat = resnet.ResNet(depth=18), resnet.ResNet(depth=18, remat=True)
    shapes = [
        jax.eval_shape(functools.partial(m.init, training=False), jax.random.key(0), images)
        for m in (plain, remat)
    ]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])

    features = jnp.asarray(np.random.default_rng(0).standard_normal((2, 2, 2, 10)), jnp.float32)
    options = {**SMALL, 'num_blocks': 1, 'ffn_depth': 1, 'dropout': 0.0, 'patch_sampling': 1.0}
    plain, remat = (lifting.TransformerLifting(remat=remat, **options) for remat in (False, True))
    variables = random_variables(plain, features, training=False, init_betas=jnp.zeros(10))

    def loss(variables, model):
        return jnp.sum(model.apply(variables, features, training=True, init_betas=jnp.zeros(10)).uvd ** 2)

    gradients = [jax.jit(jax.grad(loss), static_argnums=1)(variables, model) for model in (plain, remat)]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *gradients)


def test_synchronised_batch_norm_sees_the_whole_batch():
    block = functools.partial(
        resnet.Block, planes=4, stride=2, bottleneck=True, training=True, dtype=jnp.float32
    )
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 8, 8, 6)), jnp.float32)
    together, apart = block(axis_name=None), block(axis_name='device')
    variables = random_variables(together, x[0])
    whole, statistics = jax.jit(lambda x: together.apply(variables, x, mutable=['batch_stats']))(
        x.reshape(6, 8, 8, 6)
    )
    parts, part_statistics = jax.jit(
        jax.vmap(lambda x: apart.apply(variables, x, mutable=['batch_stats']), axis_name='device')
    )(x)
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=1e-5), part_statistics, statistics)


def test_soft_argmax_finds_a_peak():
    volumes = np.zeros((1, 8, 16, 2, 4), np.float32)
    volumes[0, 3, 10, 0, 1] = 100.0
    found = lifting.soft_argmax(jnp.asarray(volumes))
    np.testing.assert_allclose(found[0, 0], [10 / 16 - 0.5, 3 / 8 - 0.5, 1 / 4 - 0.5], atol=1e-6)
    # A flat volume: the mean index of each axis.
    np.testing.assert_allclose(found[0, 1], [7.5 / 16 - 0.5, 3.5 / 8 - 0.5, 1.5 / 4 - 0.5], atol=1e-6)


def test_normalise_image():
    image = np.full((2, 2, 3), 255, np.uint8)
    expected = np.broadcast_to((1 - np.array([0.1, 0.2, 0.3])) / np.array([1.0, 2.0, 4.0]), image.shape)
    for kind in (np.uint8, np.float32):
        normalised = inference.normalise(
            image.astype(kind), network_of(None, image_mean=(0.1, 0.2, 0.3), image_std=(1.0, 2.0, 4.0))
        )
        assert normalised.dtype == jnp.float32
        np.testing.assert_allclose(normalised, expected, rtol=1e-6)


@pytest.mark.parametrize('joints', [24, 29])
def test_mirror(joints):
    lifted = random_lifted(0, joints)
    mirrored = inference.mirror_lifted(lifted)
    jax.tree.map(np.testing.assert_array_equal, inference.mirror_lifted(mirrored), lifted)
    np.testing.assert_array_equal(mirrored.uvd[:, 1], lifted.uvd[:, 2] * np.array([-1, 1, 1]))
    # Entry 0 is the twist of joint 1, the left hip; its mirror is joint 2.
    np.testing.assert_array_equal(mirrored.twists[:, 0], lifted.twists[:, 1] * np.array([1, -1]))
    np.testing.assert_array_equal(mirrored.betas, lifted.betas)
    if joints == 24:
        leaves = np.asarray(lifted.leaf_quaternions)[:, [1, 0, 2, 4, 3]] * np.array([1, 1, -1, -1])
        np.testing.assert_array_equal(mirrored.leaf_quaternions, leaves)
    else:
        np.testing.assert_array_equal(mirrored.uvd[:, 25], lifted.uvd[:, 26] * np.array([-1, 1, 1]))
        np.testing.assert_array_equal(mirrored.uvd[:, 24], lifted.uvd[:, 24] * np.array([-1, 1, 1]))


def test_flip_test_commutes_with_mirroring():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((2, 4, 4, 3)), jnp.float32)
    weights = jax.tree.map(
        lambda x: jnp.asarray(rng.standard_normal((48, x[0].size)), jnp.float32), random_lifted(0)
    )

    def predict(images):
        flat = images.reshape(-1, 48)
        return jax.tree.map(
            lambda w, like: (flat @ w).reshape(-1, *like.shape[1:]), weights, random_lifted(0)
        )

    mean = inference.flip_test(predict, images)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-4),
        inference.flip_test(predict, images[:, :, ::-1]),
        inference.mirror_lifted(mean),
    )
    both = jax.tree.map(
        lambda a, b: (a + b) / 2, predict(images), inference.mirror_lifted(predict(images[:, :, ::-1]))
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), mean, both)


def network_of(model, **changes):
    """The forward pass of a model with the plainest settings."""
    settings = {
        'image_size': 256,
        'image_mean': (0.0,) * 3,
        'image_std': (1.0,) * 3,
        'init_betas': np.zeros(10, np.float32),
        'right_hand': 'leaf',
    }
    return inference.Network(model=model, **settings | changes)


@functools.cache
def small_body():
    arrays = recorded.load_module(GOLDEN / 'toy_body.py').make_toy_body(0, num_vertices=240)
    return smpl_file.body_from_arrays({**arrays, 'leaf_vertices': np.array([15, 22, 23, 10, 11])})


def crops(*, known):
    """Two crops, the first of a known camera, the second of one that is `known` or not."""
    inverse = np.array([[1e-3, 0, -0.5], [0, 1e-3, -0.5], [0, 0, 1]], np.float32)
    to_photo = np.array([[1.4, 0, 300], [0, 1.4, 200]], np.float32)
    return Crop(
        crop_to_photo=jnp.asarray(np.stack([to_photo, to_photo])),
        inverse_intrinsics=jnp.asarray(np.stack([inverse, inverse * known])),
        root_m=jnp.asarray([[0.1, 0.2, 4.0], [0.0, 0.0, 0.0]], jnp.float32),
    )


@pytest.mark.parametrize('joints, training', [(24, True), (29, False)])
def test_gradients_are_finite_without_a_camera(joints, training):
    """2D samples carry zero inverse intrinsics: a skeleton of zeros, whose losses have weight zero."""
    crop, body = crops(known=False), small_body()

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(lifted, body):
        posed = inference.pose(lifted, crop, body, network=network_of(None), training=training)
        terms = [jnp.sum(jnp.sin(3.0 * x)) for x in jax.tree.leaves(posed)]
        return sum(terms), posed

    (_, posed), gradient = loss(random_lifted(1, joints), body)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((posed, gradient)))
    np.testing.assert_array_equal(posed.lifted_joints_m[1], 0.0)
    assert np.abs(gradient.uvd[0]).max() > 0 and np.abs(gradient.twists[1]).max() > 0
    # The frames that the record promises.
    np.testing.assert_allclose(posed.posed_joints_m[:, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(posed.lifted_joints_m[:, 0], 0.0, atol=1e-6)
    regressed = np.einsum('jv,bva->bja', body.h36m_regressor, posed.vertices_m)
    sums = np.asarray(body.h36m_regressor).sum(1)
    np.testing.assert_allclose(sums, 1.0, atol=1e-4)
    np.testing.assert_allclose(regressed, posed.h36m_joints_m, atol=1e-4)


def test_unskinned_joints_are_the_skinned_ones():
    lifted, crop = random_lifted(2), crops(known=True)
    pose = jax.jit(
        functools.partial(inference.pose, network=network_of(None), training=True),
        static_argnames='skinned',
    )
    skinned, plain = (pose(lifted, crop, small_body(), skinned=skinned) for skinned in (True, False))
    assert plain.vertices_m is None
    np.testing.assert_allclose(plain.h36m_joints_m, skinned.h36m_joints_m, atol=1e-6)
    assert skinned.vertices_m.shape == (2, 240, 3)
    np.testing.assert_allclose(plain.rotations, skinned.rotations, atol=1e-5)
    np.testing.assert_allclose(plain.posed_joints_m, skinned.posed_joints_m, atol=1e-5)
    bare = dataclasses.replace(small_body(), h36m_regressor=None)
    unregressed = pose(lifted, crop, bare, skinned=True)
    assert unregressed.h36m_joints_m is None
    np.testing.assert_allclose(unregressed.vertices_m, skinned.vertices_m, atol=1e-6)
