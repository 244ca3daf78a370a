"""Evaluation: a checkpoint's figures on splits under stated protocols, one table out.

Frames are spread over hosts and devices, every record is read once, and all variants of a network
(parameters, flip test) see it then. What is scored, and how, is in `scoring.protocols`.
"""

import dataclasses
import hashlib
import logging
import pathlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from hybrik_jax import catalogue, checkpoint, evaluate_2d, inference, setup
from hybrik_jax import config as configuration
from hybrik_jax.body import skeleton
from hybrik_jax.data import augment, pipeline
from hybrik_jax.predict import Predictor
from hybrik_jax.roots import GUESSES, PredictedRoots, RootFinder, root_guesses
from hybrik_jax.scoring import protocols, table
from hybrik_jax.scoring.protocols import Frames, Protocol
from hybrik_jax.scoring.roots_and_boxes import Found, check_box_is_stored, read_numbers
from hybrik_jax.step import TrainState, parallel_eval_step, split_over_devices
from hybrik_jax.types import Batch, Crop, Measured

LOG = logging.getLogger(__name__)
PRETRAINED = 'pretrained'  # what parameters are called that are scored before any update
Variant = Callable[[Batch], Measured]  # from a batch with a device axis to figures with one
_TEXT_BYTES = {'name': 256, 'sequence': 128, 'action': 128}
_ABOUT_PEOPLE = {
    'gender': 'one neutral body model for everybody, on both sides',
    'constant prediction': "mean root-relative joints of the dataset's training split",
}
# Fields of an example that are kept for scoring; the first have the same name in `Frames`.
_AS_THEY_ARE = ('joints_weight', 'h36m_weight', 'smpl_weight', 'root_m', 'true_root_m', 'has_camera')
_KEPT = (*_AS_THEY_ARE, *_TEXT_BYTES, 'joints_m', 'h36m_joints_m')


def evaluate(config: ConfigDict, state: TrainState | None = None) -> dict[str, Any]:
    """Scores the test splits of `config.evaluation.datasets`; returns, prints and writes what is written.

    Args:
        state: None reads the last checkpoint in `config.workdir`; where there is none, what is scored is the
            network that the run would begin with, if `config.pretrained.network` names one.
    Returns:
        What `scoring.table.write` writes.
    Raises:
        ValueError: a published protocol shall be scored with another body than SMPL; what cannot be scored.
        FileNotFoundError: no checkpoint, dataset, root or box file.
    """
    config = configuration.resolved(config)
    configuration.check(config, devices=jax.device_count(), hosts=jax.process_count())
    options, plain = config.evaluation, configuration.plain(config)
    body = setup.load_body(config)
    by_run = bool(options.root_file) and pathlib.Path(options.root_file).is_dir()
    finder = RootFinder.load(options.root_file) if by_run else None
    names = tuple(options.datasets) or (config.data.test,)
    on_photos = [name for name in names if catalogue.scored_on_photos(name)]
    splits = [_Split.open(config, name, body, finder) for name in names if name not in on_photos]
    labelled = _labelled_people(options, finder) if on_photos else None
    network = setup.create_network(config, body)
    state, variables = _scored(config, network, state)
    run = checkpoint.Run(pathlib.Path(config.workdir), int(state.step), plain, state)
    body_on_device = jax.device_put(body)
    variants: dict[tuple[str, bool], Variant] = {}
    for flip in options.flips:
        step = parallel_eval_step(network=network, flip=flip)
        variants |= {(name, flip): partial(step, own, body_on_device) for name, own in variables.items()}
    hashes = {name: checkpoint_hash(own) for name, own in variables.items()}
    rows, constant, guesses = [], {}, {}
    for split in splits:
        others = _root_guesses(config, split, body) if network.of_roots else {}
        own_rows, frames = score_split(
            variants | {(title, False): guess for title, guess in others.items()},
            split.source,
            split.protocol,
            batch_size=options.batch_size or config.batch_size,
            crop_size=config.image_size,
            threads=config.data.read_threads,
            prefetch=config.data.prefetch,
            title=f'test, {split.name}',
            roots=split.roots,
            boxes=split.boxes,
            box_enlargement=options.box_enlargement,
            by_network=network.camera is not None or network.of_roots,
        )
        said = {'dataset': split.name, 'body_model': str(body.name), 'config': configuration.digest(plain)}
        if network.of_roots:
            own_rows = [row | {'body_model': '', 'gender': ''} for row in own_rows]
            guesses[split.name] = {
                row['parameters']: {m: v for m, v in row.items() if m in protocols.MEASURES}
                for row in own_rows
                if row['parameters'] in others
            }
        elif figures := _constant_prediction(config, split, body, frames):
            constant[split.name] = figures
        rows += [
            said | {'checkpoint': hashes[row['parameters']]} | row
            for row in own_rows
            if row['parameters'] in hashes
        ]
    for name in on_photos:
        predictors = _predictors(config, run, body, list(variables), finder)
        said = {'dataset': name, 'body_model': str(body.name), 'config': configuration.digest(plain)}
        own_rows = evaluate_2d.rows(predictors, labelled)
        rows += [said | {'checkpoint': hashes[row['parameters']]} | row for row in own_rows]
    result = {
        'step': run.step,
        'tail_updates': int(state.tail_count),
        'rows': rows,
        'constant_prediction': constant,
        'guesses': guesses,
        'protocol': protocols.explanations(rows)
        | {'box': 'enlarged as the dataset says, unless a figure is given'}
        | (GUESSES if network.of_roots else _ABOUT_PEOPLE)
        | ({protocols.TWO_D.name: labelled.protocol} if labelled else {}),
    }
    if jax.process_index() == 0:
        table.write(result, pathlib.Path(config.workdir))
        print(table.markdown(result, details=False))
    return result


@dataclasses.dataclass(frozen=True)
class _Split:
    """The test split of a dataset, its protocol, and roots and boxes that other programs found for it."""

    name: str
    source: Sequence
    protocol: Protocol
    roots: Found | PredictedRoots | None
    boxes: Found | None

    @classmethod
    def open(cls, config: ConfigDict, name: str, body: Any, finder: RootFinder | None) -> '_Split':
        options = config.evaluation
        source = setup.open_source(config, name, 'test', body)
        named = augment.text(source[0]['dataset']) if len(source) else name
        if config.model.lifting == 'rootnet':
            protocol = protocols.ROOTS
        else:
            protocol = catalogue.protocol_of(named, str(body.name), allow_other_body=options.allow_other_body)
        folder = pathlib.Path(config.data.root) / name
        found = {
            kind: Found(path.replace('{dataset}', name), kind, read_numbers(folder, 'test'))
            for kind, path in (('root', options.root_file), ('box', options.box_file))
            if path and not (kind == 'root' and finder)
        }
        if finder:
            found['root'] = PredictedRoots(finder.label, finder.of_records(source))
        return cls(name, source, protocol, roots=found.get('root'), boxes=found.get('box'))


def _scored(
    config: ConfigDict, network: inference.Network, state: TrainState | None
) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state and the variables to score, by their names."""
    if state is None:
        like = setup.state_shapes(config, network)
        try:
            state = checkpoint.load(config.workdir, config=configuration.plain(config), like=like).state
        except FileNotFoundError:
            if not config.pretrained.network:
                raise
            state = setup.initial_state(config, network)
            LOG.info('Scored as it is, before any update: the network %s.', config.pretrained.network)
            return state, {PRETRAINED: state.variables}
    return state, {name: state.parameters(name) for name in _parameters(config.evaluation.parameters, state)}


def _labelled_people(options: Any, finder: RootFinder | None) -> evaluate_2d.LabelledPeople:
    """Returns the people of `config.evaluation.keypoint_file`."""
    for name, given in (('root_file', options.root_file and not finder), ('box_file', options.box_file)):
        if given:
            raise ValueError(
                f'evaluation.{name}={getattr(options, name)} is of records, and 2D keypoints are scored on '
                "photos: score 'coco' by a command of its own."
            )
    return evaluate_2d.LabelledPeople.read(options.keypoint_file, options.keypoint_photos)


def _predictors(
    config: ConfigDict, run: checkpoint.Run, body: Any, parameters: Sequence[str], finder: RootFinder | None
) -> dict[tuple[str, bool], Predictor]:
    """Returns what predicts photos, by parameters and flip test."""
    network = inference.create_network(config, setup.init_betas(config, body))
    return {
        (name, flip): Predictor(run, network, body, parameters=which, flip=flip, root=finder)
        for flip in config.evaluation.flips
        for name, which in ((name, 'raw' if name == PRETRAINED else name) for name in parameters)
    }


def _parameters(wanted: Sequence[str], state: TrainState) -> list[str]:
    """Returns those of the wanted parameters that there are yet."""
    names = [name for name in wanted if name != 'tail' or int(state.tail_count)]
    if len(names) < len(wanted):
        LOG.info('The tail average has not begun at step %d: it is left out.', int(state.step))
    return names or [state.averaged()]


def _constant_prediction(config: ConfigDict, split: _Split, body: Any, frames: Frames) -> dict[str, float]:
    """Returns the figures of the best constant guess, {} where the training split is not at hand."""
    try:
        train = setup.open_source(config, split.name, 'train', body)
    except (FileNotFoundError, ValueError) as error:
        LOG.info('No constant prediction for %s: %s', split.name, error)
        return {}
    return constant_prediction(train, frames, split.protocol, examples=config.evaluation.constant_examples)


def _root_guesses(config: ConfigDict, split: _Split, body: Any) -> dict[str, Variant]:
    """Returns title -> what a RootNet is compared with, constants where the training split is at hand."""
    try:
        train = setup.open_source(config, split.name, 'train', body)
    except (FileNotFoundError, ValueError) as error:
        LOG.info('No constant roots for %s: %s', split.name, error)
        train = ()
    records = (train[index] for index in _spread(len(train), config.evaluation.constant_examples))

    def as_variant(guess: Callable[[Crop], Any], batch: Batch) -> Measured:
        crop = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch.crop)
        return Measured(root_m=np.asarray(guess(crop)).reshape(batch.crop.root_m.shape))

    guesses = root_guesses(records, crop_size=config.image_size)
    return {title: partial(as_variant, guess) for title, guess in guesses.items()}


def _spread(length: int, examples: int) -> list[int]:
    """Returns so many indices of a sequence, evenly spaced; 0: all."""
    count = length if examples == 0 else min(examples, length)
    return np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()


# ---- predicting


def measure_split(
    variants: Mapping[Hashable, Variant],
    source: Sequence,
    *,
    batch_size: int,
    crop_size: int,
    threads: int = 4,
    prefetch: int = 64,
    examples: int = 0,
    title: str = 'evaluate',
    roots: Found | PredictedRoots | None = None,
    boxes: Found | None = None,
    box_enlargement: float = 1.25,
) -> dict[Hashable, Frames]:
    """Returns, for each variant of a network, predictions and truth of every example of a split, in order.

    Args:
        batch_size: over all hosts.
        threads, prefetch: as in `pipeline.training_batches`.
        examples: the first n only; 0: all.
        roots: in place of the annotation's root joint; boxes: in place of the annotated ones, then enlarged
            by `box_enlargement` instead of the record's own.
    Raises:
        ValueError: there are no examples; or a root or box file has nothing for a record.
    """
    hosts, host, devices = jax.process_count(), jax.process_index(), jax.local_device_count()
    total = len(source) if examples == 0 else min(examples, len(source))
    if total == 0:
        raise ValueError('The split to evaluate has no examples.')
    mine = range(host, host + hosts * -(-total // hosts), hosts)  # the last one may be read by several hosts

    def example_of(index: int) -> dict[str, np.ndarray]:
        record = source[min(index, len(source) - 1)]
        facts = {name: _padded(record[name], size) for name, size in _TEXT_BYTES.items()}
        facts['true_root_m'] = np.asarray(record['root_m'], np.float32)
        facts['has_camera'] = np.bool_(record['camera_weight'] > 0)
        if roots is not None:
            record = record | {'root_m': roots.root_m(record)}
        if boxes is not None:
            record = record | {'box': boxes.box(record), 'box_enlargement': np.float32(box_enlargement)}
            check_box_is_stored(record, record['box'], box_enlargement)
        return pipeline.evaluation_example(record, crop_size=crop_size) | facts

    batches = pipeline.evaluation_batches(
        mine,
        example_of,
        batch_size=max(devices, batch_size // hosts // devices * devices),
        threads=threads,
        prefetch=prefetch,
    )
    collected: dict[str, list[np.ndarray]] = {}
    progress = tqdm(total=len(mine), desc=title, unit='image', disable=host != 0, mininterval=1, leave=False)
    for fields, count in batches:
        arrays = {name: fields[name] for name in _KEPT}
        batch = split_over_devices(pipeline.to_batch(fields), devices)
        for number, variant in enumerate(variants.values()):
            measured = {name: value for name, value in vars(variant(batch)).items() if value is not None}
            arrays |= {
                f'{name} {number}': np.asarray(value).reshape(-1, *value.shape[2:])
                for name, value in measured.items()
            }
        for key, value in arrays.items():
            collected.setdefault(key, []).append(value[:count])
        progress.update(count)
    progress.close()
    arrays = _gathered({key: np.concatenate(parts) for key, parts in collected.items()}, hosts)
    arrays = {key: value[:total] for key, value in arrays.items()}
    return {name: _frames(arrays, number) for number, name in enumerate(variants)}


def _gathered(arrays: dict[str, np.ndarray], hosts: int) -> dict[str, np.ndarray]:
    """Returns the arrays of all hosts, whose frames take turns, in the order of the frames."""
    if hosts == 1:
        return arrays
    gathered = multihost_utils.process_allgather(arrays)
    # (hosts, n, ...): frame i is [i % hosts, i // hosts]
    return {key: np.swapaxes(value, 0, 1).reshape(-1, *value.shape[2:]) for key, value in gathered.items()}


def _frames(arrays: dict[str, np.ndarray], variant: int) -> Frames:
    root_m = arrays.get(f'root_m {variant}', arrays['root_m'])  # the network's own, where it tells one
    return Frames(
        names=_texts(arrays['name']),
        sequences=_texts(arrays['sequence']),
        actions=_texts(arrays['action']),
        joints_m=arrays.get(f'posed_joints_m {variant}'),
        true_joints_m=arrays['joints_m'],
        h36m_joints_m=arrays.get(f'h36m_joints_m {variant}'),
        true_h36m_joints_m=arrays['h36m_joints_m'],
        pve_m=arrays.get(f'pve_m {variant}'),
        **{name: arrays[name] for name in _AS_THEY_ARE} | {'root_m': root_m},
    )


def _padded(text: str | bytes, size: int) -> np.ndarray:
    """Returns a text as `size` bytes, which travel between hosts."""
    data = augment.text(text).encode()
    if len(data) > size:
        raise ValueError(f'The text {data.decode()!r} of a record is longer than {size} bytes.')
    return np.frombuffer(data.ljust(size, b'\0'), np.uint8)


def _texts(padded: np.ndarray) -> list[str]:
    return [bytes(row).rstrip(b'\0').decode() for row in np.asarray(padded, np.uint8)]


# ---- scoring


def score_split(
    variants: Mapping[tuple[str, bool], Variant],
    source: Sequence,
    protocol: Protocol,
    *,
    roots: Found | PredictedRoots | None = None,
    boxes: Found | None = None,
    box_enlargement: float = 1.25,
    by_network: bool = False,
    **options: Any,
) -> tuple[list[dict[str, Any]], Frames]:
    """Returns the rows of a split, those of `protocols.score` by variant, and the last variant's frames.

    A row has all of `scoring.table.PROTOCOL` but dataset, body_model, checkpoint and config.

    Args:
        variants: (parameters, flip test) -> function, as in `measure_split`, which takes the `options` too.
        by_network: the network tells where the root is.
    Raises:
        ValueError: see `measure_split` and `protocols.check`.
    """
    measured = measure_split(
        variants, source, roots=roots, boxes=boxes, box_enlargement=box_enlargement, **options
    )
    said = {
        'protocol': protocol.name,
        'joints': protocol.joints,
        'root': f'predicted ({roots.label})' if roots else "the network's" if by_network else 'annotation',
        'box': f'detected ({boxes.label}) x {box_enlargement:g}' if boxes else 'annotated',
        'gender': 'neutral',
    }
    rows, frames = [], None
    for (parameters, flip), frames in measured.items():
        scored = protocols.score(frames, protocol, root_is_annotation=not (roots or by_network))
        rows += [said | {'parameters': parameters, 'flip_test': flip} | row for row in scored]
    return rows, frames


def errors_mm(frames: Frames) -> dict[str, np.ndarray]:
    """Returns the errors of frames, millimetres, by measure: those of the frames that have its labels.

    A measure without any label is left out, and so is MRPE, but of a RootNet.
    """
    errors, of_roots = protocols.errors_mm(frames), frames.joints_m is None
    labelled = {m: e[~np.isnan(e)] for m, e in errors.items() if of_roots or not m.startswith('mrpe')}
    return {m: e for m, e in labelled.items() if len(e)}


def constant_prediction(
    train: Sequence, frames: Frames, protocol: Protocol, *, examples: int = 0
) -> dict[str, float]:
    """Returns what the mean root-relative joints of `train` score; {} where they have no labels.

    It is what a network that does not look at the image can reach.

    Args:
        frames: whose truth is guessed.
        examples: how many records of `train` are read, evenly spaced; 0: all.
    """
    joints, h36m = [], []
    for index in _spread(len(train), examples):
        record = train[index]
        if (record['joints_weight'][: skeleton.NUM_JOINTS] > 0).all():
            joints.append(record['joints_m'][: skeleton.NUM_JOINTS])
        if (record['h36m_weight'] > 0).all():
            h36m.append(record['h36m_joints_m'])
    if not h36m:
        return {}
    mean = np.mean(joints, 0, np.float64) if joints else np.zeros((skeleton.NUM_JOINTS, 3))
    guess = dataclasses.replace(
        frames,
        joints_m=np.broadcast_to(mean, np.shape(frames.true_joints_m)),
        joints_weight=frames.joints_weight * bool(joints),
        h36m_joints_m=np.broadcast_to(np.mean(h36m, 0, np.float64), np.shape(frames.true_h36m_joints_m)),
        pve_m=None,
        root_m=frames.true_root_m,
    )
    protocol = dataclasses.replace(protocol, required=(), groups=(), mean_over='')
    return {m: v for m, v in protocols.score(guess, protocol)[0].items() if m in protocols.MEASURES}


def checkpoint_hash(variables: Any) -> str:
    """Returns the first 12 digits of the sha256 of all parameter arrays by name."""
    digest = hashlib.sha256()
    for path, leaf in sorted(jax.tree_util.tree_leaves_with_path(variables), key=lambda item: str(item[0])):
        array = np.asarray(leaf)
        digest.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]
