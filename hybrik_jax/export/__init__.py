"""Files for other programs: one module for each format."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from hybrik_jax.body.smpl import SMPL
from hybrik_jax.export import amass, bvh, gltf, mesh, motion, people, tracks
from hybrik_jax.types import Person

# Formats of motions: option -> (what a file's name ends with, (path, motions, body) -> None).
MOTION_FORMATS: dict[str, tuple[str, Callable[..., None]]] = {
    'glb': ('.glb', gltf.write_glb),
    'bvh': ('.bvh', bvh.write_bvh),
    'obj': ('.obj', mesh.write_obj),
    'ply': ('.ply', mesh.write_ply),
    'amass': ('_amass.npz', amass.write_amass),
    'json': ('.json', lambda path, motions, body: motion.write_motions(path, motions)),
    'npz': ('.npz', lambda path, motions, body: motion.write_motions(path, motions)),
}


def _of_photo(write: Callable[..., None]) -> Callable[..., None]:
    """Returns a writer of motions as one of predicted people; where there is nobody it writes nothing."""

    def write_people(path: pathlib.Path, seen: Sequence[Person], body: SMPL, about: dict[str, Any]) -> None:
        if seen:
            write(path, tracks.of_people(seen, body.name), body)

    return write_people


# Formats of predicted people: option -> (file name, (path, people, body, about) -> None).
PEOPLE_FORMATS: dict[str, tuple[str, Callable[..., None]]] = {
    **{name: (f'prediction{end}', _of_photo(write)) for name, (end, write) in MOTION_FORMATS.items()},
    'json': ('prediction.json', people.write_json),
    'npz': ('prediction.npz', people.write_npz),
}
DEFAULT_PEOPLE_FORMATS = ('json', 'npz')


def parse_formats(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns the formats named in texts such as 'glb,bvh'; ValueError for one that is not `known`."""
    names = [name.strip() for text in texts for name in text.split(',')]
    for name in names:
        if name not in known:
            raise ValueError(f'--format {name!r:.40} is not known: the formats are {", ".join(known)}.')
    return list(dict.fromkeys(names))
