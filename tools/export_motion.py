"""Writes people's motions, or the people of a photo, as files for other programs.

    python -m tools.export_motion out/motions.npz --format glb,bvh --out out/
    python -m tools.export_motion runs/predictions/photo --format glb,obj,amass
    python -m tools.export_motion out/motions.npz --format ply --frame 120

IN is a file of motions (.npz, .json), a prediction.json of tools.predict, or a folder that holds one of
these; of a folder with the folders of several photos, each photo's people are written into a folder of its
name. docs/predict.md says which format is for which program. BVH and AMASS files hold one person each.
"""

import argparse
import pathlib
from collections.abc import Sequence

import tqdm

from hybrik_jax import compiler
from hybrik_jax.body import smpl, smpl_file
from hybrik_jax.export import MOTION_FORMATS, parse_formats, tracks
from hybrik_jax.export.motion import FILE_NAMES, file_of, read_motions
from tools import in_one_line


def find_sources(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns `path`, or where it is a folder of photos' folders, those."""
    if not path.is_dir() or any((path / name).is_file() for name in FILE_NAMES):
        return [path]
    inside = sorted({file.parent for name in FILE_NAMES for file in path.glob(f'*/{name}')})
    return inside or [path]


def export(
    source: pathlib.Path, out: pathlib.Path, formats: Sequence[str], body: smpl.SMPL, frame: int | None = None
) -> None:
    """Writes the motions of a file into the folder `out`, a file for each format (BVH, AMASS: and person).

    Args:
        formats: of `MOTION_FORMATS`.
        frame: write this frame of the video alone.
    Raises:
        FileNotFoundError, ValueError: see `read_motions`; nobody in it, or in that frame; another body model.
    """
    motions = read_motions(source)
    if not motions:
        raise ValueError(f'{source} holds nobody.')
    if frame is not None:
        motions = tracks.at_frame(motions, frame)
    files = {name: out / f'motions{MOTION_FORMATS[name][0]}' for name in formats}
    if file_of(source).resolve() in {file.resolve() for file in files.values()}:
        raise ValueError(f'{file_of(source)} would be written over: give another folder as --out.')
    for name, file in files.items():
        MOTION_FORMATS[name][1](file, motions, body)


def run(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; raises where that cannot be done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=pathlib.Path, metavar='IN', help='file of motions, or folder')
    parser.add_argument(
        '--format',
        nargs='+',
        required=True,
        metavar='NAME',
        help=f'such as glb,bvh: {", ".join(MOTION_FORMATS)}',
    )
    parser.add_argument('--out', type=pathlib.Path, metavar='DIR', help='default: the folder of IN')
    parser.add_argument('--frame', type=int, metavar='N', help='this frame of the video alone')
    parser.add_argument(
        '--body', metavar='FILE', help='SMPL file, where the motions are not of the free body'
    )
    args = parser.parse_args(argv)
    formats = parse_formats(args.format, tuple(MOTION_FORMATS))
    sources = find_sources(args.source)
    body = smpl_file.load_body(args.body)
    out = args.out or (args.source if args.source.is_dir() else args.source.parent)
    empty = [source for source in sources if len(sources) > 1 and not read_motions(source)]
    for source in tqdm.tqdm([one for one in sources if one not in empty], disable=len(sources) == 1):
        export(source, out if len(sources) == 1 else out / source.name, formats, body, args.frame)
    print(f'wrote {", ".join(formats)} of {len(sources) - len(empty)} files of motions into {out}')
    if empty:
        print(f'{len(empty)} photos have nobody in them, such as {empty[0].name}')


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
