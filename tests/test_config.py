"""The table of configuration keys: complete; what cannot be is refused by name; what may differ; hashes."""

import functools
import importlib
import json
import math
import pathlib
import re
from operator import getitem

import pytest
from ml_collections import ConfigDict

from configs import default, synthetic
from hybrik_jax import config as configuration
from hybrik_jax.config import KEYS, check

ROOT = pathlib.Path(__file__).parents[1]
FILES = [*(ROOT / 'configs').glob('*.py'), *(ROOT / 'tests').glob('*[dy]_config.py')]


def changed(key, value):
    """Returns the default with another value, whatever its type, as a configuration file could make it."""
    config = ConfigDict(default.get_config().to_dict(), type_safe=False)
    *sections, last = key.split('.')
    section = config
    for name in sections:
        section = section[name]
    section[last] = value
    return config


def test_the_table_has_the_keys_of_the_default():
    assert configuration.flat(default.get_config().to_dict()).keys() == KEYS.keys()


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_configurations_of_the_package_are_accepted(path):
    module = importlib.import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    check(module.get_config(), devices=1, hosts=1)


CANNOT_BE = [
    ('workdir', ''),
    ('workdir', 'a\0b'),
    ('seed', -1),
    ('seed', 2**40),
    ('seed', 10**5000),
    ('image_size', 0),
    ('image_size', -32),
    ('image_size', 100),
    ('image_size', 256.0),
    ('body', None),
    ('init_betas', 3),
    ('batch_size', 0),
    ('batch_size', -4),
    ('batch_size', True),
    ('batch_size', 'many'),
    ('num_epochs', 0),
    ('num_epochs', 2.5),
    ('minutes', -1.0),
    ('checkpoint_minutes', math.inf),
    ('steps_per_epoch', -1),
    ('model.lifting', 'transfomer'),
    ('model.image_mean', (0.4, 0.4)),
    ('model.image_mean', (104.0, 117.0, 123.0)),
    ('model.image_std', (0.2, 0.0, 0.2)),
    ('model.right_hand', 'left'),
    ('model.backbone.name', 'vgg'),
    ('model.backbone.depth', 35),
    ('model.backbone.width', 0),
    ('model.backbone.width', -64),
    ('model.backbone.dtype', 'float'),
    ('model.backbone.stride', 16),
    ('model.backbone.stride', 8),
    ('model.backbone.remat', 1),
    ('model.transformer.variant', 'free'),
    ('model.transformer.num_blocks', 0),
    ('model.transformer.num_heads', 0),
    ('model.transformer.num_heads', 7),
    ('model.transformer.width', 0),
    ('model.transformer.ffn_width', 0),
    ('model.transformer.ffn_depth', -3),
    ('model.transformer.dropout', 2),
    ('model.transformer.dropout', -1),
    ('model.transformer.dropout', 1.0),
    ('model.transformer.patch_sampling', 0.0),
    ('model.transformer.patch_sampling', 1.5),
    ('model.deconv.num_joints', 25),
    ('model.deconv.depth_bins', 1),
    ('model.deconv.dropout', math.nan),
    ('pretrained.backbone', ['a.pth']),
    ('data.root', ''),
    ('data.mixture', {}),
    ('data.mixture', {'synthetic': 0.0}),
    ('data.mixture', {'synthetic': -1.0}),
    ('data.mixture', {'synthetic': math.inf}),
    ('data.mixture', {'old/coco': 1.0}),
    ('data.mixture', 'synthetic'),
    ('data.validation', ''),
    ('data.test', 'a/b'),
    ('data.validation_split', None),
    ('data.validation_examples', -1),
    ('data.read_threads', 0),
    ('data.read_threads', -4),
    ('data.prefetch', 0),
    ('data.workers', -1),
    ('data.synthetic.train', -1),
    ('data.synthetic.seed', -1),
    ('augmentation.scale', 1.0),
    ('augmentation.scale', -0.3),
    ('augmentation.rotation_degrees', -30.0),
    ('augmentation.rotation_probability', 1.1),
    ('augmentation.mirror_probability', -0.5),
    ('augmentation.colour', 2.0),
    ('augmentation.occlusion', {'coco': (0.7, 0.0)}),
    ('augmentation.occlusion', {'coco': 0.7}),
    ('augmentation.occlusion', {'coco': (7.0, 3.3)}),
    ('loss.uvd', -1.0),
    ('loss.betas', math.nan),
    ('optimizer.learning_rate', 0.0),
    ('optimizer.learning_rate', -1e-3),
    ('optimizer.learning_rate', math.inf),
    ('optimizer.learning_rate', 1e3),
    ('optimizer.warmup_steps', 0),
    ('optimizer.b1', 2),
    ('optimizer.b1', 1.0),
    ('optimizer.b2', -0.1),
    ('optimizer.eps', 0.0),
    ('optimizer.clip_norm', -1.0),
    ('optimizer.backbone_rate', -0.1),
    ('optimizer.backbone_rate', 2.0),
    ('optimizer.backbone_frozen', -1),
    ('average.tail_epochs', -1.0),
    ('average.ema_decay', 1.0),
    ('average.ema_decay', 0.0),
    ('log_every', 0),
    ('log_every', -50),
    ('validate_every', -1),
    ('validate_parameters', 'tial'),
    ('validate_parameters', 'tail'),
    ('checkpoint_every', -1),
    ('keep_checkpoints', 0),
    ('tensorboard', 'yes'),
    ('evaluation.batch_size', -8),
    ('evaluation.batch_size', 30),
    ('evaluation.datasets', ('pw3d', 'pw3d')),
    ('evaluation.datasets', (3,)),
    ('evaluation.datasets', 'pw3d'),
    ('evaluation.parameters', ()),
    ('evaluation.parameters', ('raw', 'best')),
    ('evaluation.parameters', ('raw', 'raw')),
    ('evaluation.flips', ()),
    ('evaluation.flips', (3,)),
    ('evaluation.root', 'rootnet'),
    ('evaluation.root', 'predicted'),
    ('evaluation.root_file', 'roots.json'),
    ('evaluation.keypoint_file', 'people.json'),
    ('evaluation.box_enlargement', 0.0),
    ('evaluation.box_enlargement', 1e30),
    ('evaluation.constant_examples', -1),
]


@pytest.mark.parametrize(
    ('key', 'value'), CANNOT_BE, ids=lambda value: repr(value)[:40] if value != 10**5000 else 'big'
)
def test_a_value_that_cannot_be_is_refused_by_name(key, value):
    with pytest.raises(ValueError, match=rf'(?m)^  .*\b{re.escape(key)}=') as error:
        check(changed(key, value), devices=4, hosts=1)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize('key', KEYS)
def test_no_key_takes_everything(key):
    for value in (None, math.nan, -1e308, (None,), {'': 1}, 'no\nline'):
        with pytest.raises(ValueError, match=rf'(?m)^  {re.escape(key)}='):
            check(changed(key, value), devices=1, hosts=1)


def test_all_problems_are_told_at_once():
    config = default.get_config()
    config.batch_size, config.image_size, config.log_every = 30, 100, 0
    with pytest.raises(ValueError) as error:
        check(config, devices=4, hosts=2)
    message = str(error.value)
    assert (
        'batch_size=30 cannot be split over 4 devices of 2 hosts: make --config.batch_size a multiple of 4'
        in message
    )
    assert 'image_size=100 should be a multiple of 32' in message
    assert 'log_every=0 should be greater than or equal to 1' in message


def test_a_loss_needs_a_term():
    config = default.get_config()
    for name in config.loss:
        config.loss[name] = 0.0
    with pytest.raises(ValueError, match='loss.uvd, .* are all 0'):
        check(config, devices=1, hosts=1)


def test_keys_that_are_not_there():
    config = default.get_config()
    config.batchsize = 8
    del config.model.transformer.dropout
    config.model.deconv = ConfigDict()
    with pytest.raises(ValueError) as error:
        check(config, devices=1, hosts=1)
    message = str(error.value)
    assert "no key 'batchsize': did you mean batch_size?" in message
    assert (
        'Missing: model.deconv.camera, model.deconv.depth_bins,' in message
        and 'model.transformer.dropout' in message
    )


def test_a_value_in_place_of_a_section():
    with pytest.raises(ValueError, match=r'model.backbone=34 should be the section of model.backbone.name, '):
        check(changed('model.backbone', 34), devices=1, hosts=1)


@pytest.mark.parametrize(
    ('name', 'key'),
    [
        ('batchsize', 'batch_size'),
        ('model.backbone.dept', 'model.backbone.depth'),
        ('evaluaton.root', 'evaluation.root'),
        ('optimiser.learning_rate', 'optimizer.learning_rate'),
        ('learning_rate', 'optimizer.learning_rate'),
        ('data.read_thread', 'data.read_threads'),
        ('q', None),
    ],
)
def test_the_nearest_key(name, key):
    advice = f'did you mean {key}?' if key else 'configs/default.py has all keys.'
    assert configuration.misspelt(name) == f'There is no key {name!r}: {advice}'


def test_what_may_change_when_a_run_goes_on():
    saved = configuration.plain(default.get_config())
    config = default.get_config()
    config.workdir, config.data.root, config.num_epochs, config.evaluation.flips = 'x', 'y', 300, (True,)
    assert configuration.differences(saved, configuration.plain(config)) == []
    config.seed, config.data.mixture, config.loss.uvd = 3, ConfigDict({'coco': 1.0}), 2.0
    assert configuration.differences(saved, configuration.plain(config)) == [
        "data.mixture: {'synthetic': 1.0} there, {'coco': 1.0} now",
        'loss.uvd: 1.0 there, 2.0 now',
        'seed: 0 there, 3 now',
    ]
    assert configuration.differences({'seed': 1, 'gone': 2}, {'seed': 1, 'new': (1, 2)}) == [
        "gone: 2 there, '(absent)' now",
        "new: '(absent)' there, [1, 2] now",
    ]


def test_a_run_from_before_a_key_goes_on():
    saved = configuration.plain(default.get_config())
    del saved['model']['backbone']['name'], saved['loss']['h36m_joints']
    wanted = configuration.plain(default.get_config())
    assert configuration.differences(saved, wanted) == []
    assert configuration.completed(saved) == wanted and 'name' not in saved['model']['backbone']
    wanted['loss']['h36m_joints'] = 0.1
    assert configuration.differences(saved, wanted) == ['loss.h36m_joints: 0.0 there, 0.1 now']


def test_a_plain_configuration_is_json():
    plain = configuration.plain(synthetic.get_config())
    assert json.loads(json.dumps(plain)) == plain
    assert plain['evaluation']['flips'] == [False, True] and plain['model']['backbone']['depth'] == 18


@pytest.mark.parametrize('name', configuration.PRESETS)
def test_a_preset_sets_the_keys_of_its_row_and_counts_as_they_do(name):
    config = default.get_config()
    config.preset = name
    config.model.backbone.dtype, config.model.backbone.remat = 'bfloat16', True
    resolved = configuration.resolved(config.lock())
    values = configuration.flat(configuration.plain(resolved))
    assert {key: values[key] for key in configuration.PRESETS[name]} == configuration.PRESETS[name]
    configuration.check(resolved, devices=1, hosts=1)
    assert config.model.backbone.dtype == 'bfloat16', 'the configuration that was given is left alone'
    assert configuration.plain(configuration.resolved(resolved)) == configuration.plain(resolved)
    same = default.get_config()
    for key, value in configuration.PRESETS[name].items():
        *sections, last = key.split('.')
        functools.reduce(getitem, sections, same)[last] = value
    assert configuration.digest(configuration.plain(same)) == configuration.digest(
        configuration.plain(resolved)
    )


def test_without_a_preset_the_keys_are_as_they_stand():
    config = default.get_config()
    config.model.backbone.remat = True
    assert configuration.resolved(config) is config
    config.preset = 'leen'
    with pytest.raises(ValueError, match=r"preset='leen' should be '', 'exact', 'fast' or 'lean'"):
        configuration.resolved(config)


def test_the_hash_is_of_what_changes_figures():
    config = default.get_config()
    config.data.mixture = ConfigDict({'coco': 0.5, 'pw3d': 0.5})
    one = configuration.digest(configuration.plain(config))
    config.workdir, config.data.root, config.log_every, config.evaluation.batch_size = 'a', 'b', 7, 3
    config.data.mixture = ConfigDict({'pw3d': 0.5, 'coco': 0.5})
    assert configuration.digest(configuration.plain(config)) == one
    config.data.mixture.coco = 0.25
    assert configuration.digest(configuration.plain(config)) != one


def test_the_hash_of_published_tables():
    """Keys of before the backbone had a name, and there were cameras and RootNets, hashed then."""
    later = 'model.backbone.name model.transformer.camera model.deconv.camera loss.camera loss.root_uv '
    later += 'loss.root_depth optimizer.schedule optimizer.drop_epochs optimizer.moment_dtype '
    later += 'model.backbone.stride optimizer.backbone_rate optimizer.backbone_frozen '
    later += 'model.backbone.stages model.backbone.frozen_stages model.backbone.frozen '
    later += 'data.synthetic.train_size pretrained.network augmentation.shift '
    later += ' '.join(key for key in KEYS if key.startswith('model.light.'))
    for module, digest in ((default, 'c50ff28da7ff'), (synthetic, '3eaa15e7c934')):
        plain = configuration.plain(module.get_config())
        for key in later.split():
            *sections, last = key.split('.')
            del functools.reduce(dict.__getitem__, sections, plain)[last]
        assert configuration.digest(plain) == digest
