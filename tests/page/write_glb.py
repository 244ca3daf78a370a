"""Writes two .glb files for the validator: two people who move, and one frame of them.

python -m tests.page.write_glb DIR
"""

import pathlib
import sys

from hybrik_jax.body import smpl_file
from hybrik_jax.export import gltf, tracks
from tests import motions


def main(folder: pathlib.Path) -> None:
    two, body = motions.two_people(), smpl_file.load_body()
    gltf.write_glb(folder / 'motion.glb', two, body)
    gltf.write_glb(folder / 'frame.glb', tracks.at_frame(two, 4), body)


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
