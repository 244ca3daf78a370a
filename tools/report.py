"""Writes the report of a run: curves, metrics, test images with true and predicted meshes, what was run.

    python -m tools.report runs/synthetic
    python -m tools.report runs/synthetic --photo people.jpg
    python -m tools.report runs/synthetic --photo person.jpg --box 281,45,219,347

One HTML file that needs no other file. What a run does not have yet (evaluation, log, checkpoint) is left
out, and the report says so. Of a run that began with a trained network (`pretrained.network`), what that
scored and predicts stands beside it.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrik_jax import compiler, detect, inference, json_file, metric_writer
from hybrik_jax import config as configuration
from hybrik_jax import workdir as folders
from hybrik_jax.body import skeleton
from hybrik_jax.boxes import centre_and_side
from hybrik_jax.data import augment, pipeline, store
from hybrik_jax.photo import Request, read_photo
from hybrik_jax.predict import Predictor, synthetic_only
from hybrik_jax.scoring import metrics
from hybrik_jax.units import MM_PER_M
from hybrik_jax.view import people as pictures
from hybrik_jax.view import report
from tools import in_one_line, predict, report_change

PICTURE_PIXELS = 256  # the crops in the report
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'chex', 'numpy')
CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'


def test_examples(predictor: Predictor, source: Sequence, count: int) -> list[report.Example]:
    """Returns `count` evenly spaced examples of a split with true and predicted meshes and their MPJPE.

    As in the evaluation, the pelvis of the label places the prediction in the camera frame; the error is that
    of the 14 evaluation joints where the body has a Human3.6M regressor, else of the 24.
    """
    indices = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int))
    if not len(indices):
        return []
    records = [source[int(i)] for i in indices]
    size = predictor.network.image_size
    batch = pipeline.to_batch(
        pipeline.stack([pipeline.evaluation_example(r, crop_size=size) for r in records])
    )
    _, posed, _ = predictor.forward(batch.image, batch.crop)
    if posed.h36m_joints_m is None:
        errors = metrics.mpjpe(posed.posed_joints_m, batch.joints_m)
    else:
        joints = skeleton.EVALUATION_JOINTS_14
        errors = metrics.mpjpe(posed.h36m_joints_m, batch.h36m_joints_m, joints=joints)
    true = np.asarray(jax.jit(inference.label_vertices)(predictor.body, batch.betas, batch.quaternions))
    examples = []
    for k, record in enumerate(records):
        focal, centre = crop_camera(record, PICTURE_PIXELS)
        has_camera = record['camera_weight'] > 0  # NaN is drawn as a blank
        same_body = augment.text(record['body']) == str(predictor.body.name)
        known = has_camera and same_body and record['smpl_weight'] > 0
        examples.append(
            report.Example(
                image=pipeline.evaluation_example(record, crop_size=PICTURE_PIXELS)['image'],
                true_vertices_m=true[k] + record['root_m'] if known else np.full_like(true[k], np.nan),
                predicted_vertices_m=posed.vertices_m[k] + (record['root_m'] if has_camera else np.nan),
                faces=np.asarray(predictor.body.faces),
                focal=focal,
                centre=centre,
                error_mm=MM_PER_M * float(errors[k]) if np.all(record['h36m_weight'] > 0) else np.nan,
                name=augment.text(record['name']),
            )
        )
    return examples


def crop_camera(record: Mapping[str, Any], crop_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns focal lengths (2,) and principal point (2,) of a record's evaluation crop, crop pixels."""
    centre, side = centre_and_side(record['box'], float(record['box_enlargement']))
    affine = augment.crop_affine(centre, side, 0.0, crop_size)
    return np.asarray(record['focal']) * crop_size / side, affine[:, :2] @ record['centre'] + affine[:, 2]


def photo_pictures(
    predictor: Predictor, photos: Sequence[tuple[str, list[float] | None]]
) -> list[tuple[str, np.ndarray]]:
    """Returns captions and pictures, overlay and side views, of the people in each (file, box or None).

    People are looked for where there is no box, if `predictor` has a detector.
    """
    shown, faces = [], np.asarray(predictor.body.faces)
    requests = [Request(photo=file, boxes=None if box is None else [box]) for file, box in photos]
    for (file, _), people in zip(photos, predictor.predict(requests), strict=True):
        name = pathlib.Path(file).name
        overlay = pictures.draw_overlay(read_photo(file), people, faces)
        shown.append((f'{name}, {"prediction (assumed camera)" if people else "nobody was found"}', overlay))
        sides = [pictures.draw_side(one, number, faces, 360) for number, one in enumerate(people)]
        shown += [(f'{name}, from the side', side) for side in sides]
    return shown


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the object in a JSON file, {} where there is none; ValueError, naming it, if it is broken."""
    if not path.is_file():
        return {}
    content = json_file.read(path)
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__} where an object is expected.')
    return content


def training_command(config: Mapping[str, Any]) -> str:
    """Returns a command that trains as `config` says: the nearest file in configs/ and what differs."""
    nearest = None
    for path in sorted(CONFIGS.glob('*.py')):
        base = configuration.flat(
            json.loads(importlib.import_module(f'configs.{path.stem}').get_config().to_json_best_effort())
        )
        changed = {
            key: value for key, value in configuration.flat(config).items() if base.get(key, None) != value
        }
        if nearest is None or len(changed) < len(nearest[1]):
            nearest = path.name, changed
    if nearest is None:
        return ''
    words = [
        f'--config.{key}={tuple(value) if isinstance(value, list) else value}'
        for key, value in nearest[1].items()
    ]
    return ' '.join(['python -m hybrik_jax.main --config', f'configs/{nearest[0]}', *map(shlex.quote, words)])


def training_seconds(log: Sequence[Mapping[str, Any]]) -> float:
    """Returns the time spent in training steps, from the logged step times; validation is not in it."""
    total, before = 0.0, 0
    for line in log:
        if line.get('kind') == 'train' and line.get('step_seconds') is not None:
            total += line['step_seconds'] * max(0, line['step'] - before)
            before = line['step']
    return total


def dataset_sizes(config: ConfigDict) -> dict[str, str]:
    """Returns 'dataset, split' -> number of examples, or what is missing."""
    wanted = [(name, 'train') for name, share in config.data.mixture.items() if share > 0]
    wanted += [(config.data.validation, config.data.validation_split)]
    wanted += [(name, 'test') for name in config.evaluation.datasets or (config.data.test,)]
    sizes = {}
    for name, split in wanted:
        try:
            source = store.open_split(pathlib.Path(config.data.root) / name, split)
            sizes[f'{name}, {split}'] = f'{len(source)} examples'
        except (FileNotFoundError, ValueError):
            sizes[f'{name}, {split}'] = 'not on this machine'
    return sizes


def what_was_run(
    config: Mapping[str, Any], log: Sequence[Mapping[str, Any]], predictor: Predictor | None
) -> dict[str, Any]:
    """Returns the facts of the report."""
    facts: dict[str, Any] = {}
    if config:
        facts['command (equivalent)'] = training_command(config)
    steps = [line['step'] for line in log if line.get('kind') == 'train']
    if steps:
        facts['training steps logged'] = max(steps)
        facts['training time'] = (
            f'{training_seconds(log) / 60:.1f} minutes in training steps, validation not counted'
        )
    if predictor is not None:
        flip = 'with' if predictor.flip else 'without'
        facts['meshes'] = f'{predictor.parameters} parameters of step {predictor.run.step}, {flip} flip test'
        facts['body model'] = str(predictor.body.name)
    if config:
        facts['datasets'] = dataset_sizes(ConfigDict(config))
    devices = jax.devices()
    accelerators = f'{len(devices)} x {devices[0].device_kind}, ' if devices[0].platform != 'cpu' else ''
    facts['machine of this report'] = (
        f'{accelerators}{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}'
    )
    facts['versions'] = ', '.join(f'{name} {importlib.metadata.version(name)}' for name in PACKAGES)
    if config:
        facts['configuration'] = configuration.flat(config)
    return facts


def honest_notes(
    config: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    predictor: Predictor | None,
    missing: Sequence[str],
) -> list[str]:
    """Returns what a reader of the figures should know."""
    notes = list(missing)
    rows = [
        row for row in evaluation.get('rows') or [] if 'mpjpe_mm' in row and row.get('group', 'all') == 'all'
    ]
    constants = evaluation.get('constant_prediction') or {}
    for dataset in dict.fromkeys(row.get('dataset') for row in rows):
        own = [row for row in rows if row.get('dataset') == dataset]
        constant = (constants if dataset is None else constants.get(dataset) or {}).get('mpjpe_mm')
        if not constant:
            continue
        best = min(own, key=lambda row: row['mpjpe_mm'])
        flip = 'with' if best['flip_test'] else 'without'
        where = f'{dataset}, ' if dataset else ''
        notes.append(
            f'The lowest MPJPE, {best["mpjpe_mm"]:.1f} mm ({where}{best["parameters"]} parameters, {flip} '
            'flip test), '
            f'is {100 * best["mpjpe_mm"] / constant:.1f}% of the {constant:.1f} mm of the best constant '
            'prediction, '
            'the mean pose of the training set: what a network reaches that does not look at the image.'
        )
    variants = sorted({row['protocol'] for row in rows if '-like (' in row.get('protocol', '')})
    if variants:
        notes.append(
            f'{", ".join(variants)}: scored like a published protocol, but with another body model than '
            'SMPL. These '
            'figures cannot be compared with published ones.'
        )
    if any('pck_released' in row for row in rows):
        notes.append(
            'PCK and AUC of MPI-INF-3DHP are given in the order of joints that the test file has, and "as '
            'released": '
            'the published figures were counted with the groups of joints applied to another order, in which '
            'the pelvis, never wrong, is taken for the head and the right arm is left out.'
        )
    if config and synthetic_only(config):
        notes.append(
            'Trained and tested on synthetic people: rendered images of a free body (CC0), which is not '
            'SMPL. The '
            'figures say that the program learns; they say nothing of its accuracy on real photos, and '
            'cannot be '
            'compared with published ones.'
        )
    if config and not (config['pretrained']['backbone'] or config['pretrained'].get('network')):
        notes.append(
            'The backbone was trained from scratch: no ImageNet weights, which the paper starts from.'
        )
    if predictor is not None:
        notes.append(
            f'The crops above are cut from the photos again at {PICTURE_PIXELS} pixels; the network sees '
            f'{predictor.network.image_size}. The meshes of the test images are placed at the pelvis of the '
            'label, as in the '
            'evaluation; those of other photos are moved to fit the predicted 2D joints, under an assumed '
            'camera.'
        )
    return notes


def write(
    workdir: str | pathlib.Path,
    out: str | pathlib.Path | None = None,
    *,
    examples: int = 12,
    photos: Sequence[tuple[str, list[float] | None]] = (),
    **network_options: Any,
) -> pathlib.Path:
    """Returns the report's path, after writing it.

    Args:
        workdir: of the run.
        out: the HTML file; None: report.html in the workdir.
        examples: how many test images.
        photos: (file, box x y w h of a person to predict; None: people are looked for).
        network_options: of `Predictor.load`.
    Raises:
        FileNotFoundError: no such folder; photos are to be predicted, and there is no checkpoint.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise FileNotFoundError(f'{workdir} is no folder: give the workdir of a run.')
    config = read_json(workdir / 'config.json')
    evaluation = read_json(workdir / 'evaluation.json')
    log_file = workdir / 'metrics.jsonl'
    log = metric_writer.read_metrics(log_file) if log_file.is_file() else []
    missing = [
        f'There is no {name}.'
        for name, found in (('metrics.jsonl', log), ('config.json', config))
        if not found
    ]
    predictor, before, shown, change = None, None, [], None
    if not photos and (config.get('model') or {}).get('lifting') == 'rootnet':
        missing.append('No meshes: a RootNet tells roots, whose errors are in the table.')
    else:
        try:
            look = any(box is None for _, box in photos)
            detector = detect.Detector.load() if look else None
            predictor = Predictor.load(workdir, detector=detector, **network_options)
        except FileNotFoundError as error:
            if photos:
                raise
            missing.append(f'No meshes: {error}')
    source, seen = None, []
    if predictor is not None:
        config = config or predictor.run.config
        try:
            source = predict.open_test_split(predictor)
            shown = test_examples(predictor, source, examples)
        except FileNotFoundError as error:
            missing.append(f'No test images: {error}')
        seen = photo_pictures(predictor, photos)
        try:
            before = report_change.load_before(config, detector, network_options)
        except FileNotFoundError as error:
            missing.append(f'Nothing of before: {error}')
    if before is not None:
        change = report_change.change(
            before,
            predictor,
            evaluations=(read_json(workdir / folders.BEFORE / 'evaluation.json'), evaluation),
            examples=(test_examples(before, source, examples) if shown else [], shown),
            pictures=(photo_pictures(before, photos), seen),
        )
    only_synthetic = not config or synthetic_only(config)
    return report.write_report(
        out or workdir / 'report.html',
        title=f'HybrIK in JAX: {workdir.resolve().name}',
        facts=what_was_run(config, log, predictor),
        train_log=[without_idle_terms(row, config) for row in log],
        evaluation=evaluation,
        examples=shown,
        pictures=() if change else seen,
        change=change,
        notes=honest_notes(config, evaluation, predictor, missing),
        banner=report.SYNTHETIC_BANNER if only_synthetic else None,
    )


def without_idle_terms(row: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of the log without the loss terms that have no weight in `config`."""
    idle = {f'loss_{name}' for name, weight in (config['loss'] if config else {}).items() if not weight}
    return {key: value for key, value in row.items() if key not in idle}


def run(argv: Sequence[str] | None = None) -> pathlib.Path:
    """Returns the path of the report for the command line `argv`; raises where something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('workdir', metavar='WORKDIR', help='folder of a run')
    parser.add_argument('--out', metavar='FILE', help='default: WORKDIR/report.html')
    parser.add_argument('--examples', type=int, default=12, metavar='N', help='test images (default: 12)')
    parser.add_argument(
        '--photo', action='append', default=[], help='a photo to predict; may be given several times'
    )
    parser.add_argument(
        '--box',
        action='append',
        default=[],
        metavar='x,y,w,h',
        help='one for each --photo; without, people are looked for',
    )
    predict.add_network_options(parser, checkpoint=False)
    args = parser.parse_args(argv)
    if args.examples < 0:
        raise ValueError(f'--examples {args.examples} must not be negative.')
    if args.box and len(args.box) != len(args.photo):
        raise ValueError(
            f'{len(args.photo)} --photo and {len(args.box)} --box: give one box for each photo, or none.'
        )
    boxes = [predict.parse_box(box) for box in args.box] or [None] * len(args.photo)
    photos = list(zip(args.photo, boxes, strict=True))
    for photo, _ in photos:
        read_photo(photo)  # what is wrong is said before the network is loaded
    path = write(
        args.workdir, args.out, examples=args.examples, photos=photos, **predict.network_options(args)
    )
    print(f'wrote {path}')
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
