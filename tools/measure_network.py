"""Compares networks as files with prediction on people of photos: what they say, and how long they take.

    python -m tools.measure_network network.onnx network.stablehlo PHOTO [PHOTO ...] --checkpoint runs/NAME

The people are those that the detector finds, each cut out several times, from tightly to loosely. Differences
are the largest ones from prediction's own forward pass. Times are medians of
turns in which everybody runs once, a person; onnxruntime and JAX use as many threads as they like.
"""

import argparse
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from hybrik_jax import compiler, deploy, detect, inference
from hybrik_jax.export import onnx
from hybrik_jax.export.deployable import Deployable
from hybrik_jax.photo import Request, batch_of, frame, read_photo
from hybrik_jax.predict import Predictor
from hybrik_jax.types import Crop
from hybrik_jax.units import MM_PER_M
from tools import in_one_line
from tools.predict import add_network_options, load_predictor

ENLARGEMENTS = (1.0, 1.25, 1.6, 2.0)
Function = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def people_of(photos: Sequence[str], predictor: Predictor, count: int) -> tuple[np.ndarray, Crop]:
    """Returns crops of people in photos and their geometry; ValueError where nobody is found."""
    detector, framed = detect.Detector.load(), []
    for photo in map(read_photo, photos):
        boxes, _ = detect.find(detector, photo)
        for enlargement in ENLARGEMENTS if len(boxes) else ():
            request = Request(photo=photo, boxes=boxes, enlargement=enlargement)
            framed += frame(request, predictor.network.image_size, predictor.network.camera)
    if len(framed) < count:
        raise ValueError(f'{len(framed)} crops of people are found, {count} are needed: give more photos.')
    return batch_of(framed[:count])


def load(path: pathlib.Path) -> Function:
    """Returns the function of a .onnx or .stablehlo file."""
    if path.suffix == '.onnx':
        session = onnx.session(path.read_bytes())
        names = [one.name for one in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))
    call = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return lambda inputs: jax.tree.map(np.asarray, call(*inputs.values()))


def prediction(predictor: Predictor) -> Function:
    """Returns the forward pass of prediction, with meshes, and with the names of a file's outputs."""
    forward = jax.jit(partial(inference.forward, predictor.network, flip=predictor.flip))
    held = jax.device_put((predictor.run.state.parameters(predictor.parameters), predictor.body))

    def function(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        root_m = np.zeros((len(inputs['image']), 3), np.float32)
        root_m[:, 2] = inputs.get('root_depth_m', 0.0)
        crop = Crop(
            crop_to_photo=inputs['crop_to_photo'],
            inverse_intrinsics=inputs['inverse_intrinsics'],
            root_m=root_m,
        )
        _, posed = forward(*held, inputs['image'], crop)
        said = {
            'rotations': posed.rotations,
            'joints_m': posed.posed_joints_m,
            'vertices_m': posed.vertices_m,
        }
        return jax.tree.map(np.asarray, said)

    return function


def measure(
    functions: dict[str, Function], network: Deployable, images: np.ndarray, crop: Crop, *, turns: int
) -> list[list[str | float]]:
    """Returns a row for each function and number of people; the first function is what others are held to."""
    everything = {
        'image': images,
        'crop_to_photo': crop.crop_to_photo,
        'inverse_intrinsics': crop.inverse_intrinsics,
        'root_depth_m': crop.root_m[:, 2],
    }
    rows = []
    for people in (1, 3, len(images)):
        inputs = {one.name: everything[one.name][:people] for one in network.inputs}
        said = {name: function(inputs) for name, function in functions.items()}
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for _ in tqdm(range(turns), leave=False):
            for name, function in functions.items():
                started = time.perf_counter()
                function(inputs)
                seconds[name].append(time.perf_counter() - started)
        first = next(iter(said.values()))
        for name, found in said.items():
            far = {key: np.abs(found[key] - first[key]).max() for key in first if key in found}
            rows.append(
                [
                    name,
                    people,
                    *(MM_PER_M * far[key] if key in far else None for key in ('joints_m', 'vertices_m')),
                    far['rotations'],
                    1000 * statistics.median(seconds[name]) / people,
                ]
            )
    return rows


def run(argv: Sequence[str] | None = None) -> None:
    """Prints the table that the command line `argv` asks for; raises where that cannot be done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='+', metavar='FILE', help='.onnx and .stablehlo files, and photos')
    parser.add_argument('--people', type=int, default=8, metavar='N', help='at the most; default 8')
    parser.add_argument('--turns', type=int, default=20, metavar='N', help='default 20')
    add_network_options(parser)
    args = parser.parse_args(argv)
    files = [pathlib.Path(name) for name in args.names if name.endswith(('.onnx', '.stablehlo'))]
    photos = [name for name in args.names if pathlib.Path(name) not in files]
    predictor = load_predictor(args)
    images, crop = people_of(photos, predictor, args.people)
    functions = {'prediction': prediction(predictor)} | {path.name: load(path) for path in files}
    rows = measure(functions, deploy.deployable(predictor), images, crop, turns=args.turns)
    heads = ('', 'people', 'joints, mm', 'vertices, mm', 'rotations', 'ms a person')
    print(tabulate(rows, heads, 'github', floatfmt=('', '', '.4f', '.4f', '.1e', '.1f'), missingval=''))
    print(f'{len(os.sched_getaffinity(0))} cores')


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what the command line `argv` asks for; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
