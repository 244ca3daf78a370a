"""Compares where a network with a camera sees people with where they are put when a depth is assumed.

    python -m tools.compare_depths --checkpoint runs/synthetic_camera
    python -m tools.compare_depths --checkpoint runs/synthetic_camera --photo PHOTO --out out/
    python -m tools.compare_depths --checkpoint runs/synthetic_camera --photo PHOTO --box x,y,w,h --out out/

On the run's test split, with its cameras given: the error of the root joint, and how far the 24 posed joints
project from the labelled ones, of the same network three times: placed by its camera; lifted at the depth at
which a square of 2 m fills the crop, which is what prediction assumes without a camera; and that moved to
where it fits the network's 2D joints, which is what prediction makes of it. With a photo, pictures of both;
its people are looked for where no box says where one is.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from hybrik_jax import compiler, detect
from hybrik_jax.body import skeleton
from hybrik_jax.body.projection import project
from hybrik_jax.photo import Request, read_photo
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Person
from hybrik_jax.units import MM_PER_M
from tools import predict as tool
from tools.predict_files import write
from tools.predict_photos import summary

BY_CAMERA, ASSUMED, FITTED = "the network's camera", 'a 2 m square', 'a 2 m square, fitted'


def without_camera(predictor: Predictor) -> Predictor:
    """Returns a predictor with the same network that is told, or assumes, how far away people are."""
    network = dataclasses.replace(predictor.network, camera=None)
    return Predictor(
        predictor.run, network, predictor.body, parameters=predictor.parameters, flip=predictor.flip
    )


def placements(seen: Person, assumed: Person) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns of one person's predictions (root (3,), posed joints (24, 3)), metres, by how it was placed."""
    view = assumed.view
    square = np.append((assumed.joints_px[0] - view.centre) / view.focal, 1.0) * view.root_depth_m
    roots = {BY_CAMERA: seen.translation_m, ASSUMED: square, FITTED: assumed.translation_m}
    bodies = {BY_CAMERA: seen, ASSUMED: assumed, FITTED: assumed}
    return {name: (root, bodies[name].posed_joints_m + root) for name, root in roots.items()}


def errors_of_record(seen: Person, assumed: Person, record: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns of each placement |x|, |y|, |z| and distance of the root, mm, and the joints' distance, px.

    Pixels are those of the photo as it is stored.
    """
    view, true = assumed.view, record['joints_m'][: skeleton.NUM_JOINTS] + record['root_m']
    on_photo = partial(project, focal=view.focal, centre=view.centre)
    errors = {}
    for name, (root, joints) in placements(seen, assumed).items():
        off = MM_PER_M * (root - record['root_m'])
        in_front = np.maximum(joints, [-np.inf, -np.inf, 1e-2])
        pixels = np.linalg.norm(on_photo(in_front) - on_photo(true), axis=-1).mean()
        errors[name] = np.array([*np.abs(off), np.linalg.norm(off), pixels])
    return errors


def compare(predictor: Predictor, source: Sequence[dict[str, Any]], count: int) -> dict[str, np.ndarray]:
    """Returns the mean errors of `errors_of_record` over the first `count` labelled records; 0: all."""
    total = min(count or len(source), len(source))
    records = [source[index] for index in range(total)]
    records = [one for one in records if one['camera_weight'] > 0 and (one['joints_weight'][:24] > 0).all()]
    if not records:
        raise ValueError('The test split has no record with a camera and 3D joints.')
    told = without_camera(predictor)

    def requests() -> Iterator[Request]:
        for record in records:
            yield dataclasses.replace(tool.request_of_record(record), root_depth_m=None)

    pairs = zip(predictor.predict(requests()), told.predict(requests()), records, strict=True)
    errors = [
        errors_of_record(*seen, *assumed, record)
        for seen, assumed, record in tqdm(pairs, total=len(records), unit='person', leave=False)
    ]
    return {name: np.mean([one[name] for one in errors], axis=0) for name in errors[0]}


def table(means: dict[str, np.ndarray], people: str) -> str:
    """Returns the means as a table in Markdown."""
    lines = [
        f'| placed by ({people}) | root x mm | y mm | z mm | root error mm | joints off px |',
        '|---|---|---|---|---|---|',
    ]
    lines += [f'| {name} | ' + ' | '.join(f'{x:.1f}' for x in row) + ' |' for name, row in means.items()]
    return '\n'.join(lines)


def draw(predictor: Predictor, photo: str, box: str | None, out: pathlib.Path) -> list[pathlib.Path]:
    """Returns the pictures of a photo's people, written into two folders below `out`.

    Raises:
        FileNotFoundError: there is no such photo.
        ValueError: it is no photo, or nobody was found in it; a box that cannot be.
    """
    pixels = read_photo(photo)
    if box is None:
        boxes, _ = detect.find(detect.Detector.load(), pixels)
    else:
        boxes = [tool.parse_box(box)]
    if not len(boxes):
        raise ValueError(f'Nobody was found in {photo}: say by --box x,y,w,h where somebody is.')
    files = []
    for name, one in (('camera', predictor), ('assumed', without_camera(predictor))):
        people = one(pixels, boxes)
        files += write(out / name, pixels, people, one, about={'photo': photo}, formats=['json'])
        print(summary(f'{photo}, {name}', people, one))
    return files


def main(argv: Sequence[str] | None = None) -> None:
    """Compares what the command line `argv` says; an error is one line and exit status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', required=True, metavar='DIR', help='workdir of a run with a camera')
    parser.add_argument('--examples', type=int, default=0, help='the first n of the test split; default: all')
    parser.add_argument('--photo', help='in place of the test split: JPEG or PNG')
    parser.add_argument('--box', metavar='x,y,w,h', help='of the person in the photo; default: looked for')
    parser.add_argument('--out', default='runs/compare_depths', metavar='DIR', help='for the pictures')
    args = parser.parse_args(argv)
    try:
        predictor = Predictor.load(args.checkpoint)
        if predictor.network.camera is None:
            raise ValueError(
                f'{args.checkpoint} is a run of a network without a camera: train one with '
                '--config.model.transformer.camera=True --config.evaluation.root=network.'
            )
        if predictor.network.camera != 'scale' and not args.photo:
            raise ValueError(
                f"{args.checkpoint} looks with a camera of its own, not the test split's: give a --photo."
            )
        if args.photo:
            files = draw(predictor, args.photo, args.box, pathlib.Path(args.out))
            print('wrote ' + ', '.join(map(str, files)))
            return
        source = tool.open_test_split(predictor)
        count = min(args.examples or len(source), len(source))
        flip = 'flip test' if predictor.flip else 'no flip test'
        print(table(compare(predictor, source, args.examples), f'{count} people, {flip}'))
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    compiler.set_up()
    main()
