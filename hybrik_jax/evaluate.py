"""Evaluation: a network's figures on splits under stated protocols, one table out (JSON, CSV, Markdown).

Frames are spread over hosts and devices, every record is read once, and all variants of a network
(parameters, flip test) see it then. What is scored, and how, is in `protocols`.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
import pathlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from hybrik_jax.body import skeleton
from hybrik_jax.data import pipeline
from hybrik_jax.scoring import protocols, roots_and_boxes
from hybrik_jax.step import split_over_devices

MM = protocols.MM
KEPT = ('joints_m', 'h36m_joints_m', 'pve_m', 'root_m')  # outputs that figures are made of
# What every row of a table says of itself -> heading.
PROTOCOL = {
    'dataset': 'dataset',
    'protocol': 'protocol',
    'over': 'over',
    'joints': 'joints',
    'root': 'root',
    'box': 'box',
    'flip_test': 'flip test',
    'parameters': 'parameters',
    'body_model': 'body model',
    'gender': 'gender',
    'frames': 'frames',
    'checkpoint': 'checkpoint',
    'config': 'config',
}
CONSTANT = 'constant prediction'
# Keys that say where things lie and how fast they are read, or that every row states itself.
NOT_IN_CONFIG_HASH = (
    'workdir', 'evaluation', 'log_every', 'keep_checkpoints', 'tensorboard', 'data.root', 'data.read_threads',
    'data.prefetch', 'data.workers',
)  # fmt: skip
_TEXT_BYTES = {'name': 256, 'sequence': 128, 'action': 128}
_TRUTH = {
    'true_joints_m': 'joints_m',
    'true_joints_weight': 'joints_weight',
    'true_h36m_joints_m': 'h36m_joints_m',
    'true_h36m_weight': 'h36m_weight',
    'true_smpl_weight': 'smpl_weight',
}


# ---- predicting


def predict_split(
    eval_step: Callable,
    variables: Any,
    source: Sequence,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Returns the network's outputs and the truth for every example of a split, (N, ...) each, in order.

    Args:
        eval_step: of `step.parallel_eval_step`, body already given.
        options: of `predict_variants`, `keep` excepted: batch_size and crop_size at least.
    Returns:
        the outputs of `step.eval_step`, and the truth as `predict_variants` gives it.
    """
    variants = {'': lambda batch: eval_step(variables, batch)}
    truth, outputs = predict_variants(variants, source, keep=None, **options)
    return outputs[''] | truth


def predict_variants(
    variants: Mapping[Hashable, Callable[[Any], dict[str, Any]]],
    source: Sequence,
    *,
    batch_size: int,
    crop_size: int,
    examples: int = 0,
    title: str = 'evaluate',
    roots: roots_and_boxes.Found | None = None,
    boxes: roots_and_boxes.Found | None = None,
    box_enlargement: float = 1.25,
    keep: Sequence[str] | None = KEPT,
) -> tuple[dict[str, np.ndarray], dict[Hashable, dict[str, np.ndarray]]]:
    """Returns the truth, and the outputs of each variant of a network, for every example of a split, in
    order.

    Args:
        variants: key -> function from a batch with device axis to outputs with device axis
            (`step.eval_step`).
        examples: the first n only; 0: all.
        roots: in place of the annotation's root joint; boxes: in place of the annotated ones, then enlarged
            by `box_enlargement` instead of the record's own.
        keep: names of the outputs to return; None: all.
    Returns:
        truth: name, sequence, action (N,) texts; true_joints_m (N, 24, 3), true_h36m_joints_m (N, 17, 3),
        true_root_m (N, 3), metres; true_joints_weight, true_h36m_weight, true_smpl_weight, camera_weight.
        variant -> output -> (N, ...).
    Raises:
        ValueError: there are no examples; or a root or box file has nothing for a record.
    """
    hosts, host, devices = jax.process_count(), jax.process_index(), jax.local_device_count()
    total = len(source) if examples == 0 else min(examples, len(source))
    if total == 0:
        raise ValueError('The split to evaluate has no examples.')
    local_size = max(devices, batch_size // hosts // devices * devices)
    mine = _Share(source, host, hosts, -(-total // hosts), roots, boxes, box_enlargement)
    collected: dict[tuple, list[np.ndarray]] = {}
    batches = pipeline.evaluation_batches(mine, batch_size=local_size, crop_size=crop_size)
    progress = tqdm(total=len(mine), desc=title, unit='image', disable=host != 0, mininterval=1, leave=False)
    for fields, count in batches:
        batch = pipeline.to_batch(fields)
        split = split_over_devices(batch, devices)
        arrays = {('truth', name): getattr(batch, field) for name, field in _TRUTH.items()}
        for number, predict in enumerate(variants.values()):
            outputs = {
                k: v for k, v in predict(split).items() if v is not None and (keep is None or k in keep)
            }
            for name, value in outputs.items():
                arrays[number, name] = np.asarray(value).reshape((-1,) + value.shape[2:])
        for key, value in arrays.items():
            collected.setdefault(key, []).append(np.asarray(value[:count]))
        progress.update(count)
    progress.close()
    arrays = {key: np.concatenate(parts) for key, parts in collected.items()}
    arrays |= {('truth', name): value for name, value in mine.facts().items()}
    if hosts > 1:
        keys = sorted(arrays, key=str)  # gathered as a list: the same order everywhere
        gathered = multihost_utils.process_allgather([arrays[key] for key in keys])
        # (hosts, n, ...): frame i is [i % hosts, i // hosts]
        arrays = {
            k: np.swapaxes(v, 0, 1).reshape((-1,) + v.shape[2:]) for k, v in zip(keys, gathered, strict=True)
        }
    by_variant: dict[Any, dict[str, np.ndarray]] = {'truth': {}} | {n: {} for n in range(len(variants))}
    for (variant, name), value in arrays.items():
        by_variant[variant][name] = value[:total]
    truth = by_variant.pop('truth')
    truth |= {name: _texts(truth[name]) for name in _TEXT_BYTES}
    return truth, dict(zip(variants, by_variant.values(), strict=True))


class _Share(Sequence):
    """Every `hosts`-th example from `host` on, `length` of them, the last one repeated where there are too
    few.

    Given roots and boxes are put in the place of the annotated ones. What figures need beside the batch is
    kept as the records pass by.
    """

    def __init__(
        self,
        source: Sequence,
        host: int,
        hosts: int,
        length: int,
        roots: roots_and_boxes.Found | None,
        boxes: roots_and_boxes.Found | None,
        box_enlargement: float,
    ):
        self.source, self.host, self.hosts, self.length = source, host, hosts, length
        self.roots, self.boxes, self.box_enlargement = roots, boxes, box_enlargement
        self._facts: list[dict[str, np.ndarray] | None] = [None] * length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        record = self.source[min(self.host + index * self.hosts, len(self.source) - 1)]
        self._facts[index] = {
            'true_root_m': np.asarray(record['root_m'], np.float32),
            'camera_weight': np.float32(record['camera_weight']),
            **{name: _padded(record[name], size) for name, size in _TEXT_BYTES.items()},
        }
        changed = {}
        if self.roots is not None:
            changed['root_m'] = self.roots.root_m(record)
        if self.boxes is not None:
            changed['box'] = self.boxes.box(record)
            changed['box_enlargement'] = np.float32(self.box_enlargement)
            roots_and_boxes.check_box_is_stored(record, changed['box'], self.box_enlargement)
        return {**record, **changed}

    def facts(self) -> dict[str, np.ndarray]:
        """Returns what was kept of the records, (length, ...) each; all of them must have been read."""
        return {name: np.stack([one[name] for one in self._facts]) for name in self._facts[0]}


def _padded(text: str | bytes, size: int) -> np.ndarray:
    """A text as `size` bytes, which travel between hosts."""
    data = text if isinstance(text, bytes) else str(text).encode()
    if len(data) > size:
        raise ValueError(f'The text {data.decode()!r} of a record is longer than {size} bytes.')
    return np.frombuffer(data.ljust(size, b'\0'), np.uint8)


def _texts(padded: np.ndarray) -> np.ndarray:
    return np.array([bytes(row).rstrip(b'\0').decode() for row in np.asarray(padded, np.uint8)])


# ---- scoring


def frames_of(truth: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> protocols.Frames:
    """Returns what `predict_variants` gave for one variant as the frames that a protocol scores."""
    return protocols.Frames(
        names=truth['name'].tolist(),
        sequences=truth['sequence'].tolist(),
        actions=truth['action'].tolist(),
        joints_m=outputs['joints_m'],
        true_joints_m=truth['true_joints_m'],
        joints_weight=truth['true_joints_weight'],
        h36m_joints_m=outputs.get('h36m_joints_m'),
        true_h36m_joints_m=truth['true_h36m_joints_m'],
        h36m_weight=truth['true_h36m_weight'],
        pve_m=outputs.get('pve_m'),
        smpl_weight=truth['true_smpl_weight'],
        root_m=outputs['root_m'],
        true_root_m=truth['true_root_m'],
        has_camera=truth['camera_weight'] > 0,
    )


def score_split(
    variants: Mapping[tuple[str, bool], Callable[[Any], dict[str, Any]]],
    source: Sequence,
    protocol: protocols.Protocol,
    *,
    roots: roots_and_boxes.Found | None = None,
    boxes: roots_and_boxes.Found | None = None,
    box_enlargement: float = 1.25,
    **options: Any,
) -> tuple[list[dict[str, Any]], protocols.Frames]:
    """Returns the rows of a split, for each variant those of `protocols.score`, and the frames of the last
    variant.

    A row has all of `PROTOCOL` but dataset, body_model, checkpoint and config, which the caller knows.

    Args:
        variants: (parameters, flip test) -> function, as in `predict_variants`, which takes the `options`
            too.
    Raises:
        ValueError: see `predict_variants` and `protocols.check`.
    """
    truth, outputs = predict_variants(
        variants, source, roots=roots, boxes=boxes, box_enlargement=box_enlargement, **options
    )
    said = {
        'protocol': protocol.name,
        'joints': protocol.joints,
        'root': f'predicted ({roots.label})' if roots else 'annotation',
        'box': f'detected ({boxes.label}) x {box_enlargement:g}' if boxes else 'annotated',
        'gender': 'neutral',
    }
    rows = []
    for parameters, flip in variants:
        frames = frames_of(truth, outputs[parameters, flip])
        scored = protocols.score(frames, protocol, root_is_annotation=roots is None)
        rows += [said | {'parameters': parameters, 'flip_test': flip} | row for row in scored]
    return rows, frames


def errors_mm(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the errors of the frames of `predict_split`, millimetres, by measure: those of the frames with
    labels.

    A measure without any label is left out, and so is MRPE.
    """
    errors = protocols.errors_mm(frames_of(outputs, outputs))
    known = {m: e[~np.isnan(e)] for m, e in errors.items() if not m.startswith('mrpe')}
    return {m: e for m, e in known.items() if len(e)}


def constant_prediction(
    train: Sequence, frames: protocols.Frames, protocol: protocols.Protocol, *, examples: int = 0
) -> dict[str, float]:
    """Returns the figures of the best constant guess, the mean root-relative joints of `train`; {} without
    labels.

    This is what a network that does not look at the image can reach.

    Args:
        frames: whose truth is guessed.
        examples: how many records of `train` are read, evenly spaced; 0: all.
    """
    count = len(train) if examples == 0 else min(examples, len(train))
    sums = {'joints': np.zeros((skeleton.NUM_JOINTS, 3)), 'h36m': np.zeros((17, 3))}
    counts = dict.fromkeys(sums, 0)
    for index in np.unique(np.linspace(0, len(train) - 1, count).round().astype(int)):
        record = train[int(index)]
        for kind, size in (('joints', skeleton.NUM_JOINTS), ('h36m', 17)):
            if np.all(np.asarray(record[f'{kind}_weight'])[:size] > 0):
                sums[kind] += record['joints_m' if kind == 'joints' else 'h36m_joints_m'][:size]
                counts[kind] += 1
    if not counts['h36m']:
        return {}
    means = {kind: sums[kind] / max(counts[kind], 1) for kind in sums}
    guess = dataclasses.replace(
        frames,
        joints_m=np.broadcast_to(means['joints'], np.shape(frames.true_joints_m)),
        joints_weight=np.asarray(frames.joints_weight) * (counts['joints'] > 0),
        h36m_joints_m=np.broadcast_to(means['h36m'], np.shape(frames.true_h36m_joints_m)),
        pve_m=None,
        root_m=frames.true_root_m,
    )
    protocol = dataclasses.replace(protocol, required=(), groups=(), mean_over='')
    return {m: v for m, v in protocols.score(guess, protocol)[0].items() if m in protocols.MEASURES}


def checkpoint_hash(variables: Any) -> str:
    """Returns the first 12 digits of the sha256 of all parameter arrays, by name: the same numbers, the same
    hash.
    """
    digest = hashlib.sha256()
    for path, leaf in sorted(jax.tree_util.tree_leaves_with_path(variables), key=lambda item: str(item[0])):
        array = np.asarray(leaf)
        digest.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def config_hash(config: dict[str, Any]) -> str:
    """Returns the first 12 digits of the sha256 of a configuration (nested dicts) without
    `NOT_IN_CONFIG_HASH`.
    """

    def kept(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
        out = {}
        for key, value in tree.items():
            if prefix + key not in NOT_IN_CONFIG_HASH:
                out[key] = kept(value, f'{prefix}{key}.') if isinstance(value, dict) else value
        return out

    return hashlib.sha256(json.dumps(kept(config), sort_keys=True).encode()).hexdigest()[:12]


# ---- writing


def table(evaluation: dict[str, Any], *, details: bool = True) -> str:
    """Returns the evaluation in Markdown: a table of the rows over all frames, then, with `details`, by
    group.

    Every row carries its protocol; cells of figures hold numbers only.
    """
    rows = [*evaluation['rows'], *_constant_rows(evaluation)]
    main = [row for row in rows if row['group'] in ('all', 'mean')]
    parts = [_markdown(main)]
    for dataset in dict.fromkeys(row['dataset'] for row in rows) if details else ():
        for group in ('sequence', 'action'):
            chosen = [row for row in rows if (row['dataset'], row['group']) == (dataset, group)]
            if chosen:
                parts += [f'{dataset}, by {group}:\n', _markdown(chosen)]
    fewer = {
        f'{row["dataset"]}, {protocols.MEASURES[m]}: {n} of {row["frames"]} frames have the label'
        for row in main
        for m, n in (row.get('frames_of') or {}).items()
    }
    parts += [f'{text}.\n' for text in sorted(fewer)]
    explained = '; '.join(f'{name}: {text}' for name, text in evaluation['protocol'].items())
    return '\n'.join([*parts, f'Protocol. {explained}.\n'])


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    measures = [m for m in protocols.MEASURES if any(m in row for row in rows)]
    lines = [_line([*PROTOCOL.values(), *(protocols.MEASURES[m] for m in measures)])]
    lines.append('|' + '---|' * len(PROTOCOL) + '---:|' * len(measures))
    for row in rows:
        lines.append(
            _line([*(_word(row.get(key)) for key in PROTOCOL), *(_figure(row.get(m)) for m in measures)])
        )
    return '\n'.join(lines) + '\n'


def _line(cells: Iterable[str]) -> str:
    return '| ' + ' | '.join(cell.replace('|', '/') for cell in cells) + ' |'


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return '' if value is None else str(value)


def _figure(value: Any) -> str:
    return '' if value is None else f'{value:.1f}'


def _constant_rows(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """The constant predictions as rows like the others."""
    rows = []
    for dataset, figures in (evaluation.get('constant_prediction') or {}).items():
        like = next(row for row in evaluation['rows'] if row['dataset'] == dataset and row['group'] == 'all')
        said = {
            key: like[key]
            for key in ('dataset', 'protocol', 'group', 'over', 'joints', 'frames')
            if key in like
        }
        rows.append(said | {'parameters': CONSTANT} | figures)
    return rows


def comma_separated(evaluation: dict[str, Any]) -> str:
    """Returns all rows as CSV, with a heading; a figure that a row does not have is empty."""
    rows = [*evaluation['rows'], *_constant_rows(evaluation)]
    keys = [*PROTOCOL, 'group', *(m for m in protocols.MEASURES if any(m in row for row in rows))]
    out = io.StringIO()
    writer = csv.DictWriter(out, keys, extrasaction='ignore', restval='', lineterminator='\n')
    writer.writeheader()
    for row in rows:
        writer.writerow({k: round(v, 4) if isinstance(v, float) else _word(v) for k, v in row.items()})
    return out.getvalue()


def write(evaluation: dict[str, Any], folder: str | pathlib.Path) -> None:
    """Writes `evaluation.json`, `evaluation.csv` and `evaluation.md` into `folder`.

    The object in `evaluation.json`: step, tail_updates; rows, each with the keys of `PROTOCOL`, group and
    measures;
    constant_prediction: dataset -> measures; protocol: what the measures mean.
    """
    for row in evaluation['rows']:
        if bad := [m for m in protocols.MEASURES if m in row and not math.isfinite(row[m])]:
            raise ValueError(f'{row["dataset"]}, {row["over"]}: {", ".join(bad)} is not finite.')
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'evaluation.json').write_text(json.dumps(evaluation, indent=1, allow_nan=False) + '\n')
    (folder / 'evaluation.csv').write_text(comma_separated(evaluation))
    (folder / 'evaluation.md').write_text(table(evaluation))
