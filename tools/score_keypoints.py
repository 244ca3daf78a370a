"""Scores a network on real photos whose 2D keypoints are labelled, in a file of COCO's form.

    python -m tools.score_keypoints --annotations person_keypoints_val2017.json --photos val2017 \\
        --checkpoint runs/synthetic --out runs/synthetic/keypoints

Anybody can measure this on pictures of their own (docs/datasets.md). Everybody with a labelled torso is
predicted in the annotated box with the camera assumed, as tools.predict does; COCO's 17 keypoints are read
off the body (12 of its joints; nose, eyes and ears are vertices of its mesh), projected, and compared with
the labels that are marked as visible. Written: keypoints.json, and keypoints.md, which is printed, too.
PCK: percent of the keypoints closer than 0.2 of the torso (hybrik_jax/scoring/keypoints.py).
"""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from hybrik_jax import compiler
from hybrik_jax.body import landmarks
from hybrik_jax.body.projection import project
from hybrik_jax.datasets.readers import reading
from hybrik_jax.ending import write_whole
from hybrik_jax.photo import Request
from hybrik_jax.predict import Predictor
from hybrik_jax.scoring import keypoints
from hybrik_jax.types import Person
from tools import in_one_line
from tools.predict import add_network_options, load_predictor

NAMES = landmarks.SKELETONS['coco']
VISIBLE = 2  # COCO's mark of a keypoint that can be seen; 1: labelled, but covered


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A labelled person: the photo's file, box (4,) x y w h, keypoints (17, 2), pixels, and marks (17,)."""

    photo: pathlib.Path
    box: np.ndarray
    points_px: np.ndarray
    marks: np.ndarray


def read_people(annotations: pathlib.Path, photos: pathlib.Path) -> tuple[list[Labelled], int]:
    """Returns everybody of an annotation file with a torso, those of one photo in a row; how many have none.

    Crowds and other categories than people are passed over.

    Raises:
        AnnotationError: a field is missing or cannot be; FileNotFoundError: there is no such file.
    """
    people, without = {}, 0
    for fields in reading.joined_items(annotations, lambda image: {'file_name': image.path('file_name')}):
        if fields.item.get('iscrowd') or fields.item.get('category_id', 1) != 1:
            continue
        points = fields.numbers('keypoints', (len(NAMES), 3))
        torso = keypoints.torso_px(points[None, :, :2], points[None, :, 2] > 0, NAMES)
        if np.isnan(torso[0]):
            without += 1
            continue
        photo = photos / fields.path('file_name')
        box = fields.numbers('bbox', (4,))
        people.setdefault(photo, []).append(Labelled(photo, box, points[:, :2], points[:, 2]))
    return [one for of_photo in people.values() for one in of_photo], without


def keypoints_px(person: Person) -> np.ndarray:
    """Returns COCO's keypoints (17, 2) of a predicted body on its photo, pixels."""
    points_m = landmarks.of_posed('coco', person.posed_joints_m, person.vertices_m) + person.translation_m
    in_front = np.maximum(points_m, [-np.inf, -np.inf, 1e-6])
    return project(in_front, person.view.focal, person.view.centre)


def errors_of(predictor: Predictor, people: Sequence[Labelled]) -> np.ndarray:
    """Returns the errors (N, 17) of visible keypoints in torso lengths; NaN of those not labelled as such."""
    requests = (Request(photo=one.photo, boxes=[one.box]) for one in people)
    shown: Iterable[Any] = tqdm(
        predictor.predict(requests), total=len(people), unit='person', desc='keypoints', leave=False
    )
    predicted = np.array([keypoints_px(person) for (person,) in shown])
    true, marks = (np.array([getattr(one, name) for one in people]) for name in ('points_px', 'marks'))
    torsos = keypoints.torso_px(true, marks > 0, NAMES)
    return keypoints.relative_errors(predicted, true, marks == VISIBLE, torsos)


def scores(errors: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns the figures of errors (N, 17) over all keypoints and of each, left and right together."""
    parts = dict.fromkeys(name.removeprefix('left_').removeprefix('right_') for name in NAMES)
    rows = {'all': keypoints.score(errors)}
    for part in parts:
        chosen = [k for k, name in enumerate(NAMES) if name.split('_')[-1] == part]
        rows[part] = keypoints.score(errors[:, chosen])
    return rows


def table(rows: dict[str, dict[str, float]], said: str) -> str:
    """Returns the figures in Markdown, under a line that says whose they are."""
    cells = [
        [name, row['keypoints'], *(f'{row[m]:.1f}' if m in row else '' for m in ('pck', 'error'))]
        for name, row in rows.items()
    ]
    headings = ['keypoint', 'labels', 'PCK at 0.2 torso (percent)', 'mean error (percent of the torso)']
    sides = ('left', 'right', 'right', 'right')
    return f'{said}\n\n{tabulate(cells, headings, "pipe", disable_numparse=True, colalign=sides)}\n'


def run(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns what is written for the command line `argv`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--annotations', required=True, metavar='FILE', help="JSON of COCO's person keypoints"
    )
    parser.add_argument('--photos', required=True, metavar='DIR', help='where the file_name of images begins')
    parser.add_argument('--out', metavar='DIR', help='default: keypoints in the workdir, or in runs')
    add_network_options(parser)
    args = parser.parse_args(argv)
    people, without = read_people(pathlib.Path(args.annotations), pathlib.Path(args.photos))
    if not people:
        raise ValueError(
            f'{args.annotations} has nobody with a shoulder and the hip across from it labelled: there is '
            'nothing to measure errors in.'
        )
    predictor = load_predictor(args)
    rows = scores(errors_of(predictor, people))
    run = predictor.run
    said = (
        f'{pathlib.Path(args.annotations).name}: {len(people)} people ({without} without a labelled torso '
        f'left out), boxes annotated, camera assumed, {run.folder.name} step {run.step}, '
        f'{predictor.parameters} parameters, flip test {"on" if predictor.flip else "off"}'
    )
    out = pathlib.Path(args.out or pathlib.Path(args.checkpoint or 'runs') / 'keypoints')
    text = table(rows, said)
    result = {'protocol': said, 'people': len(people), 'without_torso': without, 'figures': rows}
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / 'keypoints.json', json.dumps(result, indent=1, allow_nan=False) + '\n')
    write_whole(out / 'keypoints.md', text)
    print(text)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Scores what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
