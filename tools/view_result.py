"""Writes a page to look at what was predicted: one HTML file that needs nothing else, and no network.

    python -m tools.view_result out/                       # writes out/result.html
    python -m tools.view_result out/ --out people.html

DIR is what tools.predict or tools.predict_video wrote: the folder of a photo, of many photos or of a video.
The page shows the picture with the meshes over it beside a space that can be turned; docs/predict.md says
what else. The frames of a video are those of the video itself where it is still at its place, else those of
overlay.mp4, with the meshes that are drawn there.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from hybrik_jax import compiler
from hybrik_jax.body import smpl, smpl_file
from hybrik_jax.ending import write_whole
from hybrik_jax.files import shown
from hybrik_jax.view import result
from tools import in_one_line
from tools.result_scenes import scenes_of

SMPL_WARNING = (
    'This page contains the body model {!r}: pass it on only to people who may have that model, too '
    '(the licence of SMPL forbids redistribution).'
)


def load_body(scenes: Sequence[result.Scene], path: str | None) -> smpl.SMPL:
    """Returns the body model of a file, None for the free one; ValueError where the people have another."""
    body = smpl_file.load_body(path)
    for seen in (seen for scene in scenes for seen in scene.people):
        if seen.motion.body != str(body.name):
            raise ValueError(
                f'The people were predicted with the body model {seen.motion.body!r}, {str(body.name)!r} is '
                'loaded: give its file as --body.'
            )
    return body


def run(argv: Sequence[str] | None = None) -> pathlib.Path:
    """Returns the page written for the command line `argv`; raises where that cannot be done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=pathlib.Path, metavar='DIR', help='what was predicted')
    parser.add_argument('--out', type=pathlib.Path, metavar='FILE', help='default: DIR/result.html')
    parser.add_argument('--title', help='of the page; default: the name of the photo, video or folder')
    parser.add_argument('--body', metavar='FILE', help='SMPL file, where people are not of the free body')
    args = parser.parse_args(argv)
    scenes = scenes_of(args.folder)
    body = load_body(scenes, args.body)
    title = args.title or (scenes[0].name if len(scenes) == 1 else args.folder.resolve().name)
    if '(CC0)' not in str(body.name):
        warning = SMPL_WARNING.format(str(body.name))
        scenes = [dataclasses.replace(scene, warnings=[warning, *scene.warnings]) for scene in scenes]
        print(warning, file=sys.stderr)
    page = result.make_page(title, scenes, body)
    out = args.out or args.folder / 'result.html'
    write_whole(out, page)
    print(f'wrote {shown(out)}, {len(page) / 1e6:.1f} MB')
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
