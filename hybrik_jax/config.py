"""Configurations: one table of every key, what values it may have and what it means, and the checks of it."""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from hybrik_jax import catalogue, losses, step
from hybrik_jax.model import efficientnet, hybrik, lifting, resnet
from hybrik_jax.types import Lifted, Rooted

LARGEST = 2**31 - 1
_SHOWN = 80  # characters of a value in a message
# Last parts of keys of `model` in which networks may differ whose parameters mean the same.
_SAME_NETWORK = {'dtype', 'remat', 'sync_batch_norm', 'frozen_stages', 'frozen', 'dropout', 'patch_sampling'}


def whole(low: int, high: int = LARGEST, **limits: int) -> Any:
    """Returns the type of whole numbers from `low` to `high`, both included; `limits`: pydantic's."""
    return Annotated[int, Field(strict=True, ge=low, le=high, **limits)]


def number(**limits: float) -> Any:
    """Returns the type of finite numbers within `limits`: gt, ge, lt, le."""
    return Annotated[float, Field(strict=True, allow_inf_nan=False, **limits)]


def text(pattern: str, description: str) -> Any:
    """Returns the type of printable texts that match a pattern; the description completes 'should be'."""

    def matching(value: str) -> str:
        if not value.isprintable() or not re.fullmatch(pattern, value):
            raise ValueError(f'Input should be {description}')
        return value

    return Annotated[str, Field(strict=True), AfterValidator(matching)]


def different(each: Any, *, least: int = 0) -> Any:
    """Returns the type of tuples of at least so many values, no two of them the same."""

    def once(value: tuple) -> tuple:
        if len(set(value)) < len(value):
            raise ValueError('Input should have no value twice')
        return value

    return Annotated[tuple[each, ...], Field(min_length=least), AfterValidator(once)]


# Values that --config.preset gives to several keys. 'exact': float32, as published. 'fast': activations in
# bfloat16; parameters, statistics, normalisation, softmax, camera and solver stay float32. 'lean': besides,
# activations are computed again in the backward pass, and Adam's moments are kept in bfloat16.
PRESETS: dict[str, dict[str, Any]] = {
    name: {
        'model.backbone.dtype': dtype,
        'model.transformer.dtype': dtype,
        'model.light.dtype': dtype,
        'model.deconv.dtype': dtype,
        'model.backbone.remat': lean,
        'model.transformer.remat': lean,
        'optimizer.moment_dtype': moment,
    }
    for name, dtype, lean, moment in (
        ('exact', 'float32', False, 'float32'),
        ('fast', 'bfloat16', False, 'float32'),
        ('lean', 'bfloat16', True, 'bfloat16'),
    )
}
THREE = Field(min_length=3, max_length=3)
FLAG = Annotated[bool, Field(strict=True)]
FILE = text('.*', "a path, or '' for none")
FOLDER = text(r'.*\S.*', 'the path of a folder')
NAME = text(r'\w[^/]*', 'a name: letters first, no slash')
DTYPE = Literal['float32', 'bfloat16']
PROBABILITY = number(ge=0, le=1)
WEIGHT = number(ge=0)
MINUTES = number(ge=0, le=1e6)


@dataclasses.dataclass(frozen=True)
class Key:
    """What there is to know about a key.

    values: the type of its values. resume: it may differ between a run and its continuation or evaluation.
    counts: it enters the hash. Not so where things lie, how fast they are read, and what every row of an
        evaluation says itself.
    before: what runs had that were saved before there was the key; None: all have it.
    """

    values: Any
    resume: bool = False
    counts: bool = True
    before: Any = None


def _aside(values: Any) -> Key:
    """Returns a key that may differ on resuming and does not enter the hash."""
    return Key(values, resume=True, counts=False)


KEYS: dict[str, Key] = {
    'workdir': _aside(FOLDER),
    'seed': Key(whole(0)),
    'image_size': Key(whole(32, 4096, multiple_of=32)),
    'body': Key(FILE),
    'h36m_regressor': Key(FILE),
    'init_betas': Key(FILE),
    'preset': Key(Literal['', *PRESETS], resume=True, counts=False, before=''),
    'batch_size': Key(whole(1)),
    'num_epochs': Key(whole(1), resume=True),
    'minutes': Key(MINUTES, resume=True, counts=False, before=0.0),
    'steps_per_epoch': Key(whole(0)),
    'model.lifting': Key(Literal[tuple(hybrik.LIFTINGS)]),
    'model.image_mean': Key(Annotated[tuple[PROBABILITY, ...], THREE]),
    'model.image_std': Key(Annotated[tuple[number(gt=0, le=1), ...], THREE]),
    'model.right_hand': Key(Literal['leaf', 'released']),
    'model.backbone.name': Key(Literal[tuple(hybrik.BACKBONES)], before='resnet'),
    'model.backbone.depth': Key(Literal[tuple(resnet.STAGES)]),
    'model.backbone.width': Key(whole(1, 4096)),
    'model.backbone.stride': Key(Literal[efficientnet.STRIDES], before=32),
    'model.backbone.stages': Key(Literal[efficientnet.COUNTS], before=7),
    'model.backbone.frozen_stages': Key(whole(0, len(efficientnet.STAGES)), before=0),
    'model.backbone.frozen': Key(different(Literal[efficientnet.FREEZABLE]), before=[]),
    'model.backbone.dtype': Key(DTYPE),
    'model.backbone.remat': Key(FLAG),
    'model.backbone.sync_batch_norm': Key(FLAG),
    'model.transformer.variant': Key(Literal[tuple(lifting.VARIANTS)]),
    'model.transformer.num_blocks': Key(whole(1, 1000)),
    'model.transformer.num_heads': Key(whole(1, 1000)),
    'model.transformer.width': Key(whole(2, 2**16)),
    'model.transformer.ffn_width': Key(whole(1, 2**16)),
    'model.transformer.ffn_depth': Key(whole(1, 100)),
    'model.transformer.dropout': Key(number(ge=0, lt=1)),
    'model.transformer.leaf_tokens': Key(FLAG),
    'model.transformer.camera': Key(FLAG, before=False),
    'model.transformer.patch_sampling': Key(number(gt=0, le=1)),
    'model.transformer.remat': Key(FLAG),
    'model.transformer.dtype': Key(DTYPE),
    'model.light.convolutions': Key(whole(0, 100), before=2),
    'model.light.num_blocks': Key(whole(1, 1000), before=1),
    'model.light.num_heads': Key(whole(1, 1000), before=4),
    'model.light.width': Key(whole(2, 2**16), before=128),
    'model.light.ffn_width': Key(whole(1, 2**16), before=256),
    'model.light.depth_bins': Key(whole(2, 4096), before=8),
    'model.light.dtype': Key(DTYPE, before='float32'),
    'model.deconv.num_joints': Key(Literal[24, 29]),
    'model.deconv.width': Key(whole(1, 2**16)),
    'model.deconv.depth_bins': Key(whole(2, 4096)),
    'model.deconv.dtype': Key(DTYPE),
    'model.deconv.dropout': Key(number(ge=0, lt=1)),
    'model.deconv.camera': Key(FLAG, before=False),
    'pretrained.backbone': Key(FILE, resume=True),
    'pretrained.network': Key(FILE, resume=True, before=''),
    'data.root': _aside(FOLDER),
    'data.mixture': Key(dict[NAME, WEIGHT]),
    'data.validation': Key(NAME),
    'data.test': Key(NAME, resume=True),
    'data.validation_split': Key(NAME),
    'data.validation_examples': Key(whole(0)),
    'data.read_threads': _aside(whole(1, 1024)),
    'data.prefetch': _aside(whole(1, 2**20)),
    'data.workers': _aside(whole(0, 1024)),
    'data.synthetic.train': Key(whole(0)),
    'data.synthetic.validation': Key(whole(0)),
    'data.synthetic.test': Key(whole(0)),
    'data.synthetic.seed': Key(whole(0)),
    'data.synthetic.train_size': Key(whole(0), before=0),
    'augmentation.scale': Key(number(ge=0, lt=1)),
    'augmentation.shift': Key(number(ge=0, lt=0.25), before=0.0),
    'augmentation.rotation_degrees': Key(number(ge=0, le=180)),
    'augmentation.rotation_probability': Key(PROBABILITY),
    'augmentation.mirror_probability': Key(PROBABILITY),
    'augmentation.mirror_camera': Key(FLAG),
    'augmentation.colour': Key(PROBABILITY),
    'augmentation.half_body_probability': Key(number(ge=-1, le=1)),
    'augmentation.occlusion': Key(dict[NAME, tuple[PROBABILITY, number(ge=1)]]),
    **{f'loss.{name}': Key(WEIGHT, before=0.0) for name in losses.TERMS},
    'optimizer.learning_rate': Key(number(gt=0, le=1)),
    'optimizer.schedule': Key(Literal['inverse_square_root', 'drops'], before='inverse_square_root'),
    'optimizer.warmup_steps': Key(whole(1)),
    'optimizer.drop_epochs': Key(different(number(gt=0)), before=[]),
    'optimizer.b1': Key(number(ge=0, lt=1)),
    'optimizer.b2': Key(number(ge=0, lt=1)),
    'optimizer.eps': Key(number(gt=0, le=1)),
    'optimizer.moment_dtype': Key(DTYPE, before='float32'),
    'optimizer.clip_norm': Key(WEIGHT),
    'optimizer.backbone_rate': Key(PROBABILITY, before=1.0),
    'optimizer.backbone_frozen': Key(whole(0), before=0),
    'average.tail_epochs': Key(WEIGHT),
    'average.ema_decay': Key(number(gt=0, lt=1)),
    'log_every': _aside(whole(1)),
    'validate_every': Key(whole(0), resume=True),
    'validate_parameters': Key(Literal['raw', 'ema']),
    'checkpoint_every': Key(whole(0), resume=True),
    'checkpoint_minutes': Key(MINUTES, resume=True, counts=False, before=0.0),
    'keep_checkpoints': _aside(whole(1)),
    'tensorboard': _aside(FLAG),
    'evaluation.batch_size': _aside(whole(0)),
    'evaluation.datasets': _aside(different(NAME)),
    'evaluation.parameters': _aside(different(Literal[tuple(step.PARAMETERS)], least=1)),
    'evaluation.flips': _aside(different(FLAG, least=1)),
    'evaluation.root': _aside(Literal['annotation', 'predicted', 'network']),
    'evaluation.root_file': _aside(FILE),
    'evaluation.box_file': _aside(FILE),
    'evaluation.box_enlargement': _aside(number(gt=0, le=10)),
    'evaluation.keypoint_file': Key(FILE, resume=True, counts=False, before=''),
    'evaluation.keypoint_photos': Key(FILE, resume=True, counts=False, before=''),
    'evaluation.allow_other_body': _aside(FLAG),
    'evaluation.constant_examples': _aside(whole(0)),
}


def resolved(config: ConfigDict) -> ConfigDict:
    """Returns the configuration with the values of its preset; one without a preset as it is.

    Raises:
        ValueError: there is no such preset.
    """
    if not config.preset:
        return config
    if line := problem('preset', config.preset):
        raise ValueError(f'The configuration cannot work:\n  {line}')
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(PRESETS[config.preset])
    return config


def check(config: ConfigDict, *, devices: int, hosts: int) -> None:
    """Raises ValueError where a configuration cannot work, with a line for everything that is to blame.

    Args:
        devices: of all hosts together.
    """
    values = flat(config.to_dict())
    refused = {name: line for name in KEYS.keys() & values.keys() if (line := problem(name, values[name]))}
    fine = {name: value for name, value in values.items() if name in KEYS and name not in refused}
    lines = [*_misplaced(values), *sorted(refused.values()), *_contradictions(fine, devices, hosts)]
    if lines:
        raise ValueError('The configuration cannot work:\n  ' + '\n  '.join(lines))


def problem(name: str, value: Any) -> str | None:
    """Returns a line if a key cannot have this value, otherwise None."""
    try:
        TypeAdapter(KEYS[name].values).validate_python(value)
    except ValidationError as error:
        said = re.sub(r'^(Value error, )?(Input|Tuple) ', '', error.errors()[0]['msg'])
        return f'{name}={_shown(value)} {said}.'
    return None


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        return '...'
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'


def _misplaced(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the names of the keys."""
    for name in sorted(values.keys() - KEYS.keys()):
        if inside := [key for key in KEYS if key.startswith(f'{name}.')]:
            yield f'{name}={_shown(values[name])} should be the section of {", ".join(inside)}.'
        else:
            yield misspelt(name)
    if missing := KEYS.keys() - values.keys():
        yield f'Missing: {", ".join(sorted(missing))}. Start from configs/default.py, which has every key.'


def _contradictions(fine: Mapping[str, Any], devices: int, hosts: int) -> Iterator[str]:
    """Yields what values that are right by themselves cannot be together, or on so many devices."""

    def have(*names: str) -> bool:
        return all(name in fine for name in names)

    for name in ('batch_size', 'evaluation.batch_size'):
        if have(name) and fine[name] % devices:
            where = f'{devices} devices' + (f' of {hosts} hosts' if hosts > 1 else '')
            remedy = f'make --config.{name} a multiple of {devices}'
            yield f'{name}={fine[name]} cannot be split over {where}: {remedy}.'
    for section in ('model.transformer', 'model.light'):
        width, heads = f'{section}.width', f'{section}.num_heads'
        if have(width, heads) and fine[width] % fine[heads]:
            yield f'{width}={fine[width]} cannot be split over {heads}={fine[heads]}: make it a multiple.'
    if fine.get('pretrained.network') and fine.get('pretrained.backbone'):
        remedy = 'add --config.pretrained.backbone='
        yield f'pretrained.network={fine["pretrained.network"]!r} has a backbone of its own: {remedy}.'
    if have('data.mixture') and not any(fine['data.mixture'].values()):
        yield f'data.mixture={_shown(fine["data.mixture"])} needs a dataset with a positive share.'
    output = Rooted if fine.get('model.lifting') == 'rootnet' else Lifted
    terms = [f'loss.{name}' for name in losses.of_output(output)]
    if have(*terms) and not any(fine[term] for term in terms):
        yield f'{", ".join(terms)} are all 0: there would be nothing to learn.'
    lifting, backbone = fine.get('model.lifting'), fine.get('model.backbone.name')
    if lifting == 'volumes' and backbone not in (None, 'hrnet'):
        remedy = 'add --config.model.backbone.name=hrnet, or take deconv'
        yield f"model.lifting='volumes' reads the finest branch of an HRNet, not of {backbone!r}: {remedy}."
    if fine.get('model.backbone.stride') == 16 and backbone not in (None, *efficientnet.SCALES):
        remedy = 'add --config.model.backbone.name=efficientnet_lite0, or take 32'
        yield f'model.backbone.stride=16 is for an EfficientNet-Lite, not for {backbone!r}: {remedy}.'
    if backbone not in (None, *efficientnet.SCALES):
        for key, usual in (('stages', 7), ('frozen_stages', 0), ('frozen', ())):
            name = f'model.backbone.{key}'
            if name in fine and fine[name] != usual:
                yield f'{name}={fine[name]!r} is for an EfficientNet-Lite, not for {backbone!r}: drop it.'
    if lifting == 'deconv' and fine.get('model.deconv.camera') and fine.get('model.deconv.num_joints') == 24:
        remedy = 'add --config.model.deconv.num_joints=29'
        yield f'model.deconv.camera=True goes with 29 joints: {remedy}.'
    if output is Rooted and fine.get('evaluation.root') == 'predicted':
        yield "evaluation.root='predicted' cannot be: a RootNet tells the roots itself. Leave it out."
    if fine.get('optimizer.schedule') == 'drops' and not fine.get('optimizer.drop_epochs', True):
        yield "optimizer.schedule='drops' needs epochs: give --config.optimizer.drop_epochs=17,"
    if have('evaluation.root', 'evaluation.root_file'):
        root, file = fine['evaluation.root'], fine['evaluation.root_file']
        if root == 'predicted' and not file:
            remedy = "give --config.evaluation.root_file=FILE.json, or a RootNet's run"
            yield f'evaluation.root={root!r} needs roots that were predicted: {remedy}.'
        if file.endswith(('.pth', '.tar', '.safetensors')):
            remedy = 'make them a run by tools.import_torch, and give its folder'
            yield f'evaluation.root_file={_shown(file)} holds weights: {remedy}.'
        if root == 'annotation' and file:
            remedy = 'add --config.evaluation.root=predicted'
            yield f'evaluation.root_file={_shown(file)} would not be used: {remedy}.'
        yield from _other_root(fine, root)
    yield from _photos_to_score(fine, of_roots=output is Rooted)


def _photos_to_score(fine: Mapping[str, Any], *, of_roots: bool) -> Iterator[str]:
    """Yields what is wrong with the scoring of 2D keypoints on photos."""
    names = ('evaluation.datasets', 'data.test', 'evaluation.keypoint_file', 'evaluation.keypoint_photos')
    if not all(name in fine for name in names):
        return
    datasets, test, file, photos = (fine[name] for name in names)
    scored = [name for name in datasets or (test,) if catalogue.scored_on_photos(name)]
    if scored and of_roots:
        yield f'{scored[0]!r} is scored by 2D keypoints, which a RootNet does not predict: leave it out.'
    elif scored and not file:
        remedy = "give --config.evaluation.keypoint_file=FILE.json, of COCO's form"
        yield f'{scored[0]!r} is scored by the 2D keypoints of photos: {remedy}.'
    if not scored and (file or photos):
        remedy = """add --config.evaluation.datasets="('coco',)\""""
        yield f'evaluation.keypoint_file={_shown(file)} would not be used: {remedy}.'


def _other_root(fine: Mapping[str, Any], root: str) -> Iterator[str]:
    """Yields what is wrong where people are placed otherwise than the network can be."""
    names = ('model.lifting', 'model.transformer.camera', 'model.deconv.camera')
    if not all(name in fine for name in names):
        return
    sees = hybrik.camera_of(ConfigDict(nested({name: fine[name] for name in names})).model) is not None
    if sees and root != 'network':
        remedy = 'add --config.evaluation.root=network, without evaluation.root_file'
        yield f'evaluation.root={root!r} cannot be: this network places people by its own camera: {remedy}.'
    if not sees and root == 'network':
        remedy = "take 'annotation' or 'predicted', or train one with --config.model.transformer.camera=True"
        yield f'evaluation.root={root!r} needs a network with a camera: {remedy}.'


def misspelt(name: str) -> str:
    """Returns the line about a name that is no key, with the key that it most likely means."""
    for key in ('data.mixture', 'augmentation.occlusion'):
        if name.startswith(f'{key}.'):
            return f'{name}: this configuration has no such dataset. Give all of --config.{key}="{{...}}".'
    ending = [key for key in KEYS if key.endswith(f'.{name}')]
    nearest = ending or difflib.get_close_matches(name, KEYS, 1)
    advice = f'did you mean {nearest[0]}?' if nearest else 'configs/default.py has all keys.'
    return f'There is no key {name!r}: {advice}'


def plain(config: ConfigDict) -> dict[str, Any]:
    """Returns the configuration as nested dicts of JSON values."""
    return json.loads(config.to_json_best_effort())


def flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Returns key -> value of a nested configuration; a key whose value is a mapping stays one."""
    values = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and f'{prefix}{name}' not in KEYS:
            values |= flat(value, f'{prefix}{name}.')
        else:
            values[f'{prefix}{name}'] = value
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `flat` has flattened."""
    tree = {}
    for name, value in values.items():
        *sections, last = name.split('.')
        section = tree
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value
    return tree


def completed(saved: dict[str, Any]) -> dict[str, Any]:
    """Returns a saved configuration (nested dicts) with the keys that came later, as they were before."""
    before = {name: key.before for name, key in KEYS.items() if key.before is not None}
    return nested(before | flat(json.loads(json.dumps(saved))))


def differences(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Returns a line for every key in which two configurations (nested dicts) differ and must not."""
    there, now = flat(completed(saved)), flat(completed(wanted))
    lines = []
    for name in sorted(there.keys() | now.keys()):
        one, other = there.get(name, '(absent)'), now.get(name, '(absent)')
        if one != other and not (name in KEYS and KEYS[name].resume):
            lines.append(f'{name}: {one!r} there, {other!r} now')
    return lines


def network_differences(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Returns a line for every key in which the networks of two configurations (nested dicts) differ.

    How they are computed and trained is not looked at: precision, dropout, what stands still, the size of
    images.
    """
    there, now = flat(completed(saved)), flat(completed(wanted))
    sections = {'transformer', 'light', 'deconv'}
    own = now['model.lifting'] if now['model.lifting'] in sections else 'deconv'
    others = {f'model.{name}' for name in sections - {own}}
    if now['model.backbone.name'] != 'resnet':
        others.add('model.backbone.depth')
    names = [name for name in KEYS if name.startswith('model.') and name.split('.')[-1] not in _SAME_NETWORK]
    names = [name for name in names if not others & {name, name.rpartition('.')[0]}]
    return [f'{name}: {there[name]!r} there, {now[name]!r} now' for name in names if there[name] != now[name]]


def digest(config: Mapping[str, Any]) -> str:
    """Returns 12 hexadecimal digits that tell configurations (nested dicts) of different figures apart."""
    counting = {name: value for name, value in flat(config).items() if name not in KEYS or KEYS[name].counts}
    return hashlib.sha256(json.dumps(nested(counting), sort_keys=True).encode()).hexdigest()[:12]
