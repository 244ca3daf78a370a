"""Predicts the bodies of people in photos and draws them.

    python -m tools.predict PHOTO
    python -m tools.predict PHOTO --box x,y,w,h --checkpoint runs/synthetic
    python -m tools.predict FOLDER --boxes boxes.json --out out/
    python -m tools.predict --synthetic 0 --checkpoint runs/synthetic

Without --checkpoint by the network that comes with the package.

boxes.json says where people are: {"photo.jpg": [[x, y, w, h], ...], ...}, pixels; [] where nobody is. In
photos without boxes people are looked for (hybrik_jax/detect.py), or with --whole-photo each is taken as one
person's.

Writes into --out (of several photos, or a folder, into a folder of each photo's name): overlay.png, the
meshes on the photo; photo.jpg, the photo as the network saw it; of each person side.png, the mesh from the
camera's right, and crop.png, the part of the photo that the network looks at with its 2D joints (side_1.png
... where there are several people); prediction.json, and prediction.npz with the meshes; with --format also
files for Blender and other programs (docs/predict.md). What is assumed about camera and depth where they are
not given is said in prediction.json (hybrik_jax/photo.py).

The same command again goes on where it was stopped. Photos that could not be used are listed at the end, and
the exit status is 1; so it is where people were looked for and nobody at all was found.
"""

import argparse
import math
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

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
from tools import in_one_line
from tools.predict_files import about_photo, refuse_to_replace, write
from tools.predict_photos import predict_photos, summary, tell

# Of the photos in a folder: what is read, and what is none of ours and named at the end.
SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.avif')
UNREAD_SUFFIXES = (
    '.heic', '.heif', '.jxl', '.jp2', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.raf', '.orf', '.rw2',
)  # fmt: skip


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
    """Returns the photos that are named, and in place of a folder the photos in it, sorted by name.

    Raises:
        FileNotFoundError: a folder without photos.
        ValueError: two photos of one name, whose results would be in one folder.
    """
    photos: list[pathlib.Path] = []
    for path in map(pathlib.Path, paths):
        if os.path.isdir(path):
            shown = sorted(file for file in path.iterdir() if not file.name.startswith('.'))
            inside = [file for file in shown if file.suffix.lower() in SUFFIXES + UNREAD_SUFFIXES]
            if not inside:
                raise FileNotFoundError(f'The folder {path} holds no photo ({", ".join(SUFFIXES)}).')
            if others := [file.name for file in shown if file not in inside]:
                print(f'{path}: left out what is no photo by its name, {len(others)} such as {others[0]}')
            photos += inside
        else:
            photos.append(path)
    named: dict[str, pathlib.Path] = {}
    for photo in photos:
        if photo.name in named:
            raise ValueError(
                f'{named[photo.name]} and {photo} have the same name, which their results would have, too: '
                'give them to two commands with an --out each.'
            )
        named[photo.name] = photo
    return photos


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


def add_network_options(parser: argparse.ArgumentParser, *, checkpoint: bool = True) -> None:
    """Adds the options that choose a checkpoint's parameters and body model, and the checkpoint itself.

    Args:
        checkpoint: whether it is chosen by an option.
    """
    if checkpoint:
        parser.add_argument(
            '--checkpoint',
            metavar='DIR',
            help='workdir of a run; default: the network that comes with the package',
        )
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


def load_predictor(args: argparse.Namespace, **options: Any) -> Predictor:
    """Returns the predictor of `add_network_options`' options; says which one it is where nobody did.

    Args:
        options: others of `Predictor.load`, which this raises the errors of.
    """
    predictor = Predictor.load(args.checkpoint, **network_options(args), **options)
    if args.checkpoint is None:
        backbone = predictor.run.config['model']['backbone']['name']
        trained = 'synthetic people only' if predictor.synthetic_only else 'real photos'
        print(
            f'no --checkpoint: the network of the package, {backbone} at {predictor.network.image_size} '
            f'pixels, {predictor.run.step} updates on {trained}',
            file=sys.stderr,
        )
    return predictor


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('photos', nargs='*', metavar='PHOTO', help='files, or folders of them')
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
    parser.add_argument('--out', metavar='DIR', help='default: runs/predictions/NAME')
    parser.add_argument(
        '--again', action='store_true', help='predict anew what this command predicted before'
    )
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
    return parser


def run(argv: Sequence[str] | None = None) -> list[pathlib.Path]:
    """Returns the files written for the command line `argv`; raises where nothing can be done.

    Photos of several that cannot be used are named on stderr, and the others are predicted.
    """
    args = _parser().parse_args(argv)
    args.formats = parse_formats(args.formats, tuple(PEOPLE_FORMATS))
    if bool(args.photos) == (args.synthetic is not None):
        raise ValueError('Give a PHOTO or --synthetic INDEX, one of the two.')
    if args.synthetic is not None and (args.box or args.boxes):
        raise ValueError('--synthetic takes the box of the test image: leave --box away.')
    if args.synthetic is not None:
        return _predict_test_image(args)

    photos = find_photos(args.photos)
    alone = len(args.photos) == 1 and not os.path.isdir(args.photos[0])
    if args.box and (not alone or args.boxes):
        raise ValueError('--box is for one PHOTO: give the boxes of several in a --boxes FILE.')
    if args.box and args.whole_photo:
        raise ValueError('--box says where the person is: leave --whole-photo away.')
    boxes = read_boxes(args.boxes) if args.boxes else {}
    if args.box:
        boxes = {photos[0].name: [parse_box(text) for text in args.box]}
    unknown = [name for name in boxes if name not in {photo.name for photo in photos}]
    if unknown:
        raise ValueError(f'--boxes {args.boxes} names {unknown[0]!r}, which is none of the photos.')
    out = pathlib.Path(args.out or pathlib.Path('runs/predictions') / (photos[0].stem if alone else ''))
    folders = [out if alone else out / photo.name for photo in photos]
    for photo, folder in zip(photos, folders, strict=True):
        refuse_to_replace(photo, folder)
    if alone:
        read_photo(photos[0])  # what is wrong is said before the network is loaded
    detector = None
    if not args.whole_photo and any(photo.name not in boxes for photo in photos):
        detector = detect.Detector.load(score=args.score, tiles=args.tiles)
    predictor = load_predictor(args, detector=detector)
    done = predict_photos(
        predictor,
        photos,
        folders,
        boxes=boxes,
        formats=args.formats,
        focal=args.focal,
        root_depth_m=args.root_depth,
        looking=None if args.whole_photo else {'score': args.score, 'tiles': args.tiles},
        again=args.again,
    )
    if alone and done.failed:
        raise done.failed[photos[0]]
    tell(done, boxes, args.score)
    if done.failed or (detector is not None and not any(done.people.values())):
        raise SystemExit(1)
    return done.files


def _predict_test_image(args: argparse.Namespace) -> list[pathlib.Path]:
    predictor = load_predictor(args)
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


def main(argv: Sequence[str] | None = None) -> None:
    """Predicts what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
