"""Imports go one way: body <- model <- inference <- step, predict <- train, evaluate <- main.

Held by rules, not by a list of files. The core is all of the package but `datasets`, `synthetic` and `view`.
"""

import ast
import dataclasses
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = 'hybrik_jax'
MODULES = sorted((ROOT / PACKAGE).rglob('*.py'))

# A room is a folder or file right below the package. It may import the rooms of higher lines, and itself.
STOREYS = (
    # Nothing of ours is needed: everybody may import these.
    {'files', 'ending'},
    {'assets', 'units', 'types', 'boxes', 'compiler', 'workdir', 'metric_writer'},
    {'safe_pickle', 'json_file', 'image_file', 'video', 'parts'},
    {'annotation_file'},
    {'body'},
    {'data', 'scoring', 'model', 'losses', 'tracking', 'smoothing'},
    {'photo', 'catalogue', 'export', 'inference', 'detect'},
    {'step'},
    {'config'},
    {'checkpoint'},
    {'bundled'},
    {'setup', 'roots'},
    {'predict'},
    {'predict_video', 'deploy', 'evaluate_2d'},
    {'evaluate'},
    {'train'},
    {'main'},
)
OUTSIDE = {'datasets', 'synthetic', 'view'}
LOOPS = {'train', 'evaluate', 'main'}
FILES = {'files', 'safe_pickle', 'json_file', 'annotation_file', 'image_file'}
# Narrower than their storey: rooms of ours that they may know at most.
KNOW_ONLY = {
    'body': {'units', 'files', 'safe_pickle'},
    'data': {'body', 'units', 'types', 'boxes', 'json_file', 'ending'},
    'scoring': {'body', 'units', 'types', 'boxes', 'files', 'json_file', 'ending'},
    'datasets': {'body', 'units', 'types', 'boxes', 'data', 'scoring', 'catalogue', 'ending', *FILES},
    'synthetic': {'body', 'units', 'types', 'data', 'datasets', 'view'},
    'view': {'body', 'units', 'types', 'data', 'ending'},
    'predict_video': {
        *(
            'body',
            'types',
            'detect',
            'smoothing',
            'tracking',
            'inference',
            'photo',
            'predict',
            'parts',
            'video',
        )
    },
}
# The reader of synthetic people, started where a configuration names people who were never drawn: nobody else
# needs a second command. Inside a function, so that the core works without it.
BUILDER = ('main', 'synthetic.reader')
# Third-party packages that may be exchanged: only their own rooms import them.
USERS = {
    'orbax': {'checkpoint'},
    'flax': {'model', 'export'},
    'optax': {'step'},
    'torch': set(),
    'grain': {'data'},
    'matplotlib': {'view'},
    'jinja2': {'view'},
    'markupsafe': {'view'},
    'pydantic': {'config', 'datasets'},
    'safetensors': {'export'},
    'onnx': {'export'},
    'onnxruntime': {'export'},
    'ijson': {'json_file'},
    'PIL': {'image_file'},
    'av': {'video'},
    'tabulate': {'scoring'},
    'tensorboard': {'metric_writer'},
    'array_record': {'datasets'},
    'tensorflow_datasets': {'data', 'datasets'},
}
LAZY = {'av', 'tensorboard', 'matplotlib'}  # imported where they are used: most users do without
WITHOUT_JAX = ['datasets.build', 'synthetic.reader', 'data.record', 'catalogue', 'view.rasterise', 'video']


@dataclasses.dataclass(frozen=True)
class Import:
    """One import: the absolute name of what is imported, its line, whether it is at the top of its file."""

    module: str
    line: int
    at_top: bool


def imports_of(path: pathlib.Path) -> list[Import]:
    """Returns the imports of a file, those in functions included."""
    tree = ast.parse(path.read_text())
    in_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
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
                # `from package import module` and `from module import name` look the same.
                full = f'{node.module}.{alias.name}'
                place = ROOT / full.replace('.', '/')
                is_module = place.with_suffix('.py').exists() or place.is_dir()
                found.append(Import(full if is_module else node.module, node.lineno, at_top))
    return found


def module_name(path: pathlib.Path) -> str:
    """Returns the module's name without the package's, such as 'body.ik'; '' for the package itself."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def may_import(room: str, other: str) -> bool:
    """Returns whether files of a room may import another room of ours."""
    if room == other:
        return True
    if room in KNOW_ONLY:
        return other in KNOW_ONLY[room]
    below = [storey for storey in STOREYS if other in storey]
    above = [k for k, storey in enumerate(STOREYS) if room in storey]
    return bool(below) and STOREYS.index(below[0]) < above[0]


def violations(name: str, imports: list[Import]) -> list[str]:
    """Returns what the imports of the module `name` break, one line each."""
    room, found = name.split('.')[0], []
    for one in imports:
        top, _, inner = one.module.partition('.')
        where = f'{name}, line {one.line}: imports {one.module}'
        if top in ('tests', 'tools', 'configs'):
            found.append(f'{where}, which is outside of the package')
        elif top == PACKAGE and (name, inner) == BUILDER:
            if one.at_top:
                found.append(f'{where} at the top: the core works without it')
        elif top == PACKAGE and inner and not may_import(room, inner.split('.')[0]):
            found.append(f'{where}, which {room} may not know')
        elif top in USERS and room not in USERS[top]:
            found.append(f'{where}: only {sorted(USERS[top])} may')
        elif top in LAZY and one.at_top:
            found.append(f'{where} at the top: import it in the function that needs it')
    return found


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_imports_follow_the_direction(path):
    name = module_name(path)
    room = name.split('.')[0]
    assert not room or room in OUTSIDE or any(room in storey for storey in STOREYS), (
        f'{room} is a new room: say in STOREYS where it stands'
    )
    broken = violations(name, imports_of(path))
    assert not broken, '\n'.join(broken)


def test_the_table_of_rooms_has_no_ghosts():
    rooms = {module_name(path).split('.')[0] for path in MODULES} - {''}
    listed = [room for storey in STOREYS for room in sorted(storey)]
    assert len(listed) == len(set(listed)) and set(listed) | OUTSIDE == rooms


def test_the_core_never_knows_how_records_are_made_or_shown():
    core = [room for storey in STOREYS for room in storey]
    assert not any(may_import(room, other) for room in core for other in OUTSIDE)
    # Nobody imports a loop but the loops that follow it.
    knowers = {(room, loop) for room in core for loop in LOOPS if room != loop and may_import(room, loop)}
    assert knowers == {('train', 'evaluate'), ('main', 'evaluate'), ('main', 'train')}


@pytest.mark.parametrize('module', WITHOUT_JAX)
def test_worker_processes_import_no_jax(module):
    """A process that reads photos or draws people starts in a blink, and leaves the accelerator alone."""
    check = f'import hybrik_jax.{module}, sys; assert "jax" not in sys.modules, "jax is imported"'
    done = subprocess.run([sys.executable, '-c', check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    'name, line, said',
    [
        ('body.ik', 'from hybrik_jax.model import resnet', 'may not know'),
        ('model.resnet', 'import hybrik_jax.inference', 'may not know'),
        ('data.store', 'from hybrik_jax import step', 'may not know'),
        ('data.store', 'from hybrik_jax.scoring.metrics import mpjpe', 'may not know'),
        ('evaluate', 'from hybrik_jax import train', 'may not know'),
        ('predict', 'from hybrik_jax.view import render', 'may not know'),
        ('setup', 'from hybrik_jax.synthetic import reader', 'may not know'),
        ('main', 'from hybrik_jax.synthetic import reader', 'at the top'),
        ('export.torch', 'import torch', r'only \[\] may'),
        ('train', 'import orbax.checkpoint as ocp', 'only .*checkpoint'),
        ('metric_writer', 'from tensorboard.summary import writer', 'at the top'),
        ('losses', 'from tests import helpers', 'outside'),
    ],
)
def test_the_check_sees_what_it_should(tmp_path, name, line, said):
    path = tmp_path / 'module.py'
    path.write_text(f'{line}\n')
    (broken,) = violations(name, imports_of(path))
    assert re.search(said, broken)


def test_the_check_sees_imports_in_functions(tmp_path):
    path = tmp_path / 'module.py'
    path.write_text('import jax\ndef f():\n    from hybrik_jax.synthetic import reader\n')
    assert violations('main', imports_of(path)) == []
    assert len(violations('setup', imports_of(path))) == 1
