"""Imports go one way: body -> model -> step -> loops; data and pictures stand beside them; nothing imports a
loop.
"""

import ast
import dataclasses
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = 'hybrik_jax'
SKELETON = 'body.skeleton'  # numbers only, for everybody

# Room (the longest name that fits counts) -> foreign packages, and rooms or modules of ours.
ALLOWED = {
    '__init__': ((), ()),
    'assets': ((), ()),
    'types': (('jax', 'chex'), ()),
    'safe_pickle': (('numpy',), ()),
    'body': (('numpy', 'jax', 'chex', 'scipy'), ('body', 'safe_pickle')),
    'model': (('numpy', 'jax', 'flax'), ('body', 'model', 'types')),
    'view': (('numpy', 'cv2'), ('view', SKELETON)),
    'data': (
        (
            'array_record',
            'ijson',
            'numpy',
            'cv2',
            'simplejpeg',
            'grain',
            'tensorflow_datasets',
            'tqdm',
            'scipy',
        ),
        ('data', 'safe_pickle', 'types', 'view.rasterise', SKELETON),
    ),
    'export': (('numpy', 'flax', 'torch'), ('export', SKELETON)),
    'losses': (('jax', 'chex'), ('types', 'data.augment')),
    'metrics': (('numpy',), ()),
    'protocols': (('numpy',), ('metrics', 'data.mpi_inf_3dhp', SKELETON)),
    'detections': (('numpy',), ('data.annotation', 'data.augment')),
    'metric_writer': (('tensorboard', 'absl'), ()),
    'step': (('numpy', 'jax', 'chex', 'optax'), ('losses', 'body', 'model', 'types')),
    'checkpoint': (('numpy', 'jax', 'orbax', 'absl'), ('step',)),
    'labelling': (('numpy', 'jax'), ('body', 'data')),
    'setup': (
        ('numpy', 'jax', 'optax', 'absl', 'ml_collections'),
        ('body', 'data', 'export', 'model', 'step', 'types'),
    ),
    'evaluate': (('numpy', 'jax', 'tqdm'), ('protocols', 'detections', SKELETON, 'data', 'step')),
    'train': (
        ('numpy', 'jax', 'absl', 'ml_collections', 'tqdm'),
        (
            'evaluate',
            'protocols',
            'detections',
            'setup',
            'checkpoint',
            'data',
            'metric_writer',
            'step',
            'types',
        ),
    ),
    'main': (('jax', 'absl', 'ml_collections'), ('train',)),
}
ONLY_IN = {'orbax': {'checkpoint'}, 'flax': {'model', 'export'}, 'torch': {'export'}, 'grain': {'data'}}
INSIDE_FUNCTIONS = {'torch', 'tensorboard'}  # what most users do without is imported where it is used


@dataclasses.dataclass(frozen=True)
class Import:
    module: str  # absolute name of what is imported
    line: int
    at_top: bool


def imports_of(path: pathlib.Path) -> list[Import]:
    tree = ast.parse(path.read_text())
    in_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        at_top = id(node) not in in_functions
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, at_top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}: relative import'
            for alias in node.names:
                # `from package import module` and `from module import name` look the same
                full = f'{node.module}.{alias.name}'
                is_module = (ROOT / full.replace('.', '/')).with_suffix('.py').exists()
                package = (ROOT / full.replace('.', '/')).is_dir()
                found.append(Import(full if is_module or package else node.module, node.lineno, at_top))
    return found


def module_name(path: pathlib.Path) -> str:
    """The module's name without the package's, such as 'body.ik'."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' and len(parts) > 1 else parts)


def within(name: str, rooms) -> bool:
    return any(name == room or name.startswith(room + '.') for room in rooms)


MODULES = sorted((ROOT / PACKAGE).rglob('*.py'))


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_imports_follow_the_direction(path):
    name = module_name(path)
    room = name.split('.')[0]
    assert room in ALLOWED, f'{path} is in no known room: add it, with what it may import'
    foreign, ours = ALLOWED[room]
    for one in imports_of(path):
        where = f'{path.relative_to(ROOT)}:{one.line} imports {one.module}'
        top = one.module.split('.')[0]
        if top in sys.stdlib_module_names:
            continue
        if top == PACKAGE:
            inner = one.module.removeprefix(PACKAGE).removeprefix('.')
            assert within(inner, ours), f'{where}; {room} may import {ours}'
            continue
        assert top in foreign, f'{where}; {room} may import {foreign}'
        if top in INSIDE_FUNCTIONS:
            assert not one.at_top, f'{where} at the top: import it in the function that needs it'


def test_some_packages_have_one_user():
    for path in MODULES:
        room = module_name(path).split('.')[0]
        for one in imports_of(path):
            top = one.module.split('.')[0]
            assert room in ONLY_IN.get(top, {room}), f'{path}:{one.line} imports {top}'


def test_tests_and_tools_are_not_imported():
    for path in MODULES:
        for one in imports_of(path):
            assert one.module.split('.')[0] not in ('tests', 'tools', 'configs'), f'{path}:{one.line}'


def test_the_check_sees_what_it_should(tmp_path):
    source = 'import torch\nfrom hybrik_jax import train\nfrom hybrik_jax.body.ik import solve\ndef f():\n    import orbax\n'
    path = tmp_path / 'module.py'
    path.write_text(source)
    found = {(one.module, one.at_top) for one in imports_of(path)}
    assert found == {
        ('torch', True),
        ('hybrik_jax.train', True),
        ('hybrik_jax.body.ik', True),
        ('orbax', False),
    }
