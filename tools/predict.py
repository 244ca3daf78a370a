"""Predicts the bodies of people in photos and draws them.

    python -m tools.predict PHOTO --checkpoint runs/synthetic
    python -m tools.predict PHOTO --box x,y,w,h --checkpoint runs/synthetic
    python -m tools.predict FOLDER --boxes boxes.json --checkpoint runs/synthetic --out out/
    python -m tools.predict --synthetic 0 --checkpoint runs/synthetic

boxes.json says where people are: {"photo.jpg": [[x, y, w, h], ...], ...}, pixels. In photos without a box
people are looked for (hybrik_jax/detect.py), or with --whole-photo each is taken as one person's.

Writes into --out (of several photos into a folder of each photo's name): overlay.png, the meshes on the
photo; and of each person side.png, the mesh from the camera's right, and crop.png, the part of the photo that
the network looks at with its 2D joints (side_1.png ... where there are several people); prediction.json, and
prediction.npz with the meshes; with --format also files for Blender and other programs (docs/predict.md).
What is assumed about camera and depth where they are not given is said in prediction.json
(hybrik_jax/photo.py).
"""

import argparse
import logging
import math
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from hybrik_jax import compiler, detect, json_file
from hybrik_jax.body import skeleton
from hybrik_jax.data import augment, store
from hybrik_jax.export import DEFAULT_PEOPLE_FORMATS, PEOPLE_FORMATS, parse_formats
from hybrik_jax.photo import DEPTH_M, FOCAL_PX, OWN_CAMERAS, Request, read_photo
from hybrik_jax.predict import Predictor
from hybrik_jax.step import PARAMETERS
from hybrik_jax.types import Person
from hybrik_jax.units import MM_PER_M
from hybrik_jax.view import people as pictures
from hybrik_jax.view import render
from tools import in_one_line

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def parse_box(text: str) -> list[float]:
    """Returns the box x y w h of 'x,y,w,h'; ValueError for anything else."""
    try:
        box = [float(part) for part in text.split(',')]
    except ValueError:
        box = []
    if len(box) != 4:
        raise ValueError(
            f'--box {text!r} is not four numbers: give x,y,w,h in pixels, such as 281,45,219,347.'
        )
    return box


def within(low: float, high: float, unit: str) -> Callable[[str], float]:
    """Returns what makes a number between two limits of an option's text."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f'{text!r:.40} cannot be: give {low:g} to {high:g} {unit}')
        return value

    return number


def read_boxes(path: str) -> dict[str, Any]:
    """Returns photo's name -> boxes of a --boxes file; ValueError, naming the file, where it is none."""
    content = json_file.read(path, 'a --boxes file')
    if not isinstance(content, dict):
        raise ValueError(
            f'--boxes {path} holds no object: {{"photo.jpg": [[x, y, w, h], ...], ...}} is expected.'
        )
    return content


def find_photos(paths: Sequence[str]) -> list[pathlib.Path]:
    """Returns the photos that are named, and in place of a folder the photos in it, sorted by name."""
    photos: list[pathlib.Path] = []
    for path in map(pathlib.Path, paths):
        if os.path.isdir(path):
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise FileNotFoundError(f'The folder {path} holds no photo ({", ".join(SUFFIXES)}).')
            photos += inside
        else:
            photos.append(path)
    return photos


def write(
    out: pathlib.Path,
    photo: np.ndarray,
    people: Sequence[Person],
    predictor: Predictor,
    *,
    about: dict[str, Any],
    formats: Sequence[str] = DEFAULT_PEOPLE_FORMATS,
) -> list[pathlib.Path]:
    """Returns the files written into the folder `out`, which replace older ones when all are complete.

    Args:
        about: what is said beside the people, such as the photo's name.
    """
    faces = np.asarray(predictor.body.faces)
    drawn = {'overlay.png': pictures.draw_overlay(photo, people, faces)}
    for number, person in enumerate(people):
        suffix = f'_{number}' if len(people) > 1 else ''
        drawn[f'side{suffix}.png'] = render.side_view(person.vertices_m, faces, size=512)
        drawn[f'crop{suffix}.png'] = pictures.draw_crop(photo, person, predictor.network.image_size)
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = out / '.unfinished'
        shutil.rmtree(unfinished, ignore_errors=True)  # of a command that was killed
        unfinished.mkdir()
    except OSError as error:
        raise OSError(
            error.errno, f'--out {out} cannot be written to ({error.strerror}): give a folder.'
        ) from error
    try:
        for name, picture in drawn.items():
            cv2.imwrite(str(unfinished / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        for name in formats:
            file_name, write_people = PEOPLE_FORMATS[name]
            write_people(unfinished / file_name, people, predictor.body, about)
        files = sorted(unfinished.iterdir())
        for file in files:
            os.replace(file, out / file.name)
        return [out / file.name for file in files]
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def about_photo(predictor: Predictor, name: str, photo: np.ndarray) -> dict[str, Any]:
    """Returns what prediction.json says beside the people."""
    mixture = predictor.run.config['data']['mixture']
    return {
        'photo': name,
        'photo_size': list(photo.shape[1::-1]),
        'checkpoint': {
            'folder': str(predictor.run.folder),
            'step': predictor.run.step,
            'parameters': predictor.parameters,
            'flip_test': predictor.flip,
            'image_size': predictor.network.image_size,
            'trained_on': [dataset for dataset, share in mixture.items() if share > 0],
            'synthetic_only': predictor.synthetic_only,
        },
        'body_model': str(predictor.body.name),
    }


def open_test_split(predictor: Predictor) -> Sequence[dict[str, Any]]:
    """Returns the test split that a run is evaluated on; FileNotFoundError where it was not built."""
    data = predictor.run.config['data']
    return store.open_split(pathlib.Path(data['root']) / data['test'], 'test')


def request_of_record(record: dict[str, Any], camera: str | None = None, **changes: Any) -> Request:
    """Returns the request for a dataset's record: its box, and where it has one its camera and root depth.

    Args:
        camera: the network's, as in `inference.Network`: what it tells itself is left out.
        changes: fields of `Request` in place of the record's.
    """
    scale, offset = (
        float(record['region_scale']),
        record['region_offset'],
    )  # the photo here is the stored region
    x0, y0, x1, y1 = ((record['box'].reshape(2, 2) - offset) * scale).ravel().tolist()
    known = {
        'photo': augment.decode_jpeg(record),
        'boxes': [[x0, y0, x1 - x0 + 1, y1 - y0 + 1]],
        'enlargement': float(record['box_enlargement']),
    }
    if record['camera_weight'] > 0 and camera not in OWN_CAMERAS:
        known['intrinsics'] = np.append(record['focal'] * scale, (record['centre'] - offset) * scale)
        known |= {} if camera else {'root_depth_m': float(record['root_m'][2])}
    return Request(**known | {name: value for name, value in changes.items() if value is not None})


def truth_errors_mm(person: Person, record: dict[str, Any]) -> dict[str, float]:
    """Returns the mean error of the 24 joints, each side relative to its pelvis; {} without labels."""
    joints = slice(skeleton.NUM_JOINTS)
    if not np.all(record['joints_weight'][joints] > 0):
        return {}
    distances = np.linalg.norm(person.posed_joints_m - record['joints_m'][joints], axis=-1)
    return {'mpjpe_24_mm': round(MM_PER_M * float(distances.mean()), 3)}


# ---- command line


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose a checkpoint's parameters and body model."""
    parser.add_argument('--parameters', choices=PARAMETERS, help='default: tail, before it has begun ema')
    parser.add_argument(
        '--best', action='store_true', help='the best checkpoint by validation, not the last one'
    )
    parser.add_argument('--no-flip', dest='flip', action='store_false', help='without the mirrored image')
    parser.add_argument('--body', metavar='FILE', help='SMPL file, where it is not where it was in training')
    parser.add_argument('--h36m-regressor', metavar='FILE', help='.npy (17, V), with an SMPL file')
    parser.add_argument('--rootnet', metavar='DIR', help="RootNet's run, for depths that are not given")


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `Predictor.load` that `add_network_options` has read."""
    names = ('parameters', 'best', 'flip', 'body', 'h36m_regressor')
    return {name: getattr(args, name) for name in names} | {'root': args.rootnet}


def run(argv: Sequence[str] | None = None) -> list[pathlib.Path]:
    """Returns the files written for the command line `argv`; raises where nothing can be done.

    A photo of several that cannot be used is named on stderr, and the others are predicted.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('photos', nargs='*', metavar='PHOTO', help='JPEG or PNG files, or folders of them')
    parser.add_argument(
        '--synthetic', type=int, metavar='INDEX', help="in place of PHOTO: the run's test image INDEX"
    )
    parser.add_argument(
        '--box',
        action='append',
        metavar='x,y,w,h',
        help='of a person in the one PHOTO, pixels; may be repeated; write --box=-5,... if negative',
    )
    parser.add_argument('--boxes', metavar='FILE', help='JSON: photo -> boxes of its people')
    parser.add_argument(
        '--whole-photo', action='store_true', help="a photo without a box is one person's: look for nobody"
    )
    parser.add_argument(
        '--score',
        type=within(*detect.SCORES, ''),
        default=detect.SCORE,
        help=f'from which on the detector takes a box for a person (default {detect.SCORE:g})',
    )
    parser.add_argument(
        '--tiles',
        type=int,
        choices=range(detect.TILES[0], detect.TILES[1] + 1),
        default=detect.TILES[0],
        metavar='N',
        help='the detector also looks at N x N parts of a photo, for small people',
    )
    parser.add_argument('--checkpoint', required=True, metavar='DIR', help='workdir of a run')
    parser.add_argument('--out', metavar='DIR', help='default: runs/predictions/NAME')
    parser.add_argument(
        '--focal', type=within(*FOCAL_PX, 'pixels'), metavar='PX', help="default: the photo's diagonal"
    )
    parser.add_argument(
        '--root-depth',
        type=within(*DEPTH_M, 'metres'),
        metavar='M',
        help='of the pelvis, metres; default: assumed',
    )
    parser.add_argument(
        '--format',
        '--formats',
        dest='formats',
        nargs='+',
        default=list(DEFAULT_PEOPLE_FORMATS),
        metavar='NAME',
        help=f'files to write, such as json,glb: {", ".join(PEOPLE_FORMATS)}; default: json,npz',
    )
    add_network_options(parser)
    args = parser.parse_args(argv)
    args.formats = parse_formats(args.formats, tuple(PEOPLE_FORMATS))
    if bool(args.photos) == (args.synthetic is not None):
        raise ValueError('Give a PHOTO or --synthetic INDEX, one of the two.')
    if args.synthetic is not None and (args.box or args.boxes):
        raise ValueError('--synthetic takes the box of the test image: leave --box away.')
    if args.synthetic is not None:
        return _predict_test_image(args)

    photos = find_photos(args.photos)
    if args.box and (len(photos) > 1 or args.boxes):
        raise ValueError('--box is for one PHOTO: give the boxes of several in a --boxes FILE.')
    if args.box and args.whole_photo:
        raise ValueError('--box says where the person is: leave --whole-photo away.')
    boxes = read_boxes(args.boxes) if args.boxes else {}
    if args.box:
        boxes = {photos[0].name: [parse_box(text) for text in args.box]}
    unknown = [name for name in boxes if name not in {photo.name for photo in photos}]
    if unknown:
        raise ValueError(f'--boxes {args.boxes} names {unknown[0]!r}, which is none of the photos.')
    if len(photos) == 1:
        read_photo(photos[0])  # what is wrong is said before the network is loaded
    detector = None
    if not args.whole_photo and any(photo.name not in boxes for photo in photos):
        detector = detect.Detector.load(score=args.score, tiles=args.tiles)
    predictor = Predictor.load(args.checkpoint, detector=detector, **network_options(args))
    failed: list[str] = []
    empty: list[str] = []

    def on_error(request: Request, error: Exception) -> None:
        if len(photos) == 1:
            raise error
        failed.append(str(request.photo))
        print(f'error: {request.photo}: {error}', file=sys.stderr)

    def requests() -> Iterator[Request]:
        for photo in photos:
            yield Request(
                photo=photo,
                boxes=boxes.get(photo.name),
                intrinsics=args.focal,
                root_depth_m=args.root_depth,
            )

    files, people_count, started = [], 0, time.perf_counter()
    for path, people in zip(photos, predictor.predict(requests(), on_error=on_error), strict=True):
        if str(path) in failed:
            continue
        if not people:
            empty.append(str(path))
            continue
        people_count += len(people)
        out = pathlib.Path(
            args.out or pathlib.Path('runs/predictions') / (path.stem if len(photos) == 1 else '')
        )
        out = out if len(photos) == 1 else out / path.name
        photo = read_photo(path)
        about = about_photo(predictor, path.name, photo)
        files += write(out, photo, people, predictor, about=about, formats=args.formats)
        print(summary(path.name, people, predictor))
    seconds = time.perf_counter() - started
    if len(photos) > 1:
        print(
            f'{people_count} people in {len(photos) - len(failed)} photos, {people_count / seconds:.1f} '
            'people/s with '
            f'drawing, {predictor.compilations} compilations; {len(failed)} photos could not be used'
        )
    if files:
        more = f' and {len(files) - 6} more' if len(files) > 6 else ''
        print('wrote ' + ', '.join(map(str, files[:6])) + more)
    if empty:
        print(
            f'nobody was found in {", ".join(empty)}: give a --score below {args.score:g}, more --tiles for '
            'small people, their --boxes, or --whole-photo',
            file=sys.stderr,
        )
    if failed or not files:
        raise SystemExit(1)
    return files


def _predict_test_image(args: argparse.Namespace) -> list[pathlib.Path]:
    predictor = Predictor.load(args.checkpoint, **network_options(args))
    source = open_test_split(predictor)
    if not 0 <= args.synthetic < len(source):
        raise ValueError(
            f'--synthetic {args.synthetic}: the test split has the images 0 to {len(source) - 1}.'
        )
    record = source[args.synthetic]
    name = augment.text(record['name']).replace('/', '_')
    camera = predictor.network.camera
    request = request_of_record(record, camera, intrinsics=args.focal, root_depth_m=args.root_depth)
    people = next(predictor.predict([request]))
    errors = truth_errors_mm(people[0], record)
    about = about_photo(predictor, name, request.photo) | errors
    out = pathlib.Path(args.out or pathlib.Path('runs/predictions') / name)
    files = write(out, request.photo, people, predictor, about=about, formats=args.formats)
    print(summary(name, people, predictor))
    for key, value in errors.items():
        print(f'error against the label ({key}): {value:.1f}')
    print('wrote ' + ', '.join(map(str, files)))
    return files


def summary(name: str, people: Sequence[Person], predictor: Predictor) -> str:
    """Returns a few lines for people."""
    lines = [
        f'{name}: {len(people)} people, by {predictor.run.folder.name} step {predictor.run.step}, '
        f'{predictor.parameters} parameters, flip test {"on" if predictor.flip else "off"}, body '
        f'{predictor.body.name}'
    ]
    for person in people:
        view = person.view
        depth_by = 'assumed' if view.root_depth_assumed else view.root_depth_by or 'given'
        place = ', '.join(f'{x:.2f}' for x in person.translation_m)
        lines.append(
            f'  box {",".join(f"{x:g}" for x in view.box)}; focal length {view.focal[0]:.0f} px '
            f'({"assumed" if view.focal_assumed else "given"}), lifted at {view.root_depth_m:.2f} m '
            f'({depth_by}), fitted at ({place}) m, its joints '
            f'{person.reprojection_px:.1f} px from the 2D joints on average'
        )
    warnings = dict.fromkeys(warning for person in people for warning in person.warnings)
    return '\n'.join(lines + [f'  warning: {warning}' for warning in warnings])


def main(argv: Sequence[str] | None = None) -> None:
    """Predicts what the command line `argv` says; an error is one line and exit status 1."""
    logging.getLogger('absl').setLevel(logging.ERROR)  # orbax warns of reading a folder that it cannot write
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
