"""What others get: the package declares what it needs, packs what it reads, and runs from any folder."""

import ast
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hybrik_jax
from tests import small_run

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'hybrik_jax'
with open(ROOT / 'pyproject.toml', 'rb') as _file:
    SETTINGS = tomllib.load(_file)
PROJECT = SETTINGS['project']


def ranges(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


def pinned(name: str) -> dict[str, str]:
    """Returns distribution -> version of a requirements file."""
    lines = (ROOT / name).read_text().splitlines()
    pairs = [line.split('==') for line in lines if '==' in line and not line.startswith('#')]
    return {canonicalize_name(name): version for name, version in pairs}


def imported() -> set[str]:
    """Returns the distributions that the package's files import."""
    names = set()
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split('.')[0])
    # What an extra brings is imported where it is used, and says how to install it.
    optional = ranges([one for extra in PROJECT['optional-dependencies'].values() for one in extra])
    optional = optional.keys() - ranges(PROJECT['dependencies']).keys()
    names = {name for name in names if canonicalize_name(name) not in optional}
    names -= sys.stdlib_module_names | {PACKAGE.name}
    providers = importlib.metadata.packages_distributions()
    assert names <= providers.keys(), f'nothing installed provides {sorted(names - providers.keys())}'
    return {canonicalize_name(distribution) for name in names for distribution in providers[name]}


def test_what_is_imported_is_declared_and_the_other_way_round():
    assert imported() == ranges(PROJECT['dependencies']).keys()


def test_ranges_hold_the_versions_that_are_tested():
    declared, versions = ranges(PROJECT['dependencies']), pinned('requirements.txt')
    assert declared.keys() == versions.keys()
    for name, requirement in declared.items():
        assert requirement.specifier.contains(versions[name]), f'{requirement} leaves out {versions[name]}'
        operators = {one.operator for one in requirement.specifier}
        assert operators == {'>=', '<'}, f'{requirement}: give the lowest tried and the next breaking version'
        assert importlib.metadata.version(name).startswith(versions[name]), f'{name} is installed otherwise'


def test_extras_fit_what_is_pinned():
    extras, versions = PROJECT['optional-dependencies'], pinned('requirements-test.txt')
    for name, requirement in ranges(extras['test'] + extras['torch'] + extras['video']).items():
        assert requirement.specifier.contains(versions[name]), f'{requirement} leaves out {versions[name]}'
    assert ranges(extras['test']).keys() == versions.keys()
    jax = ranges(PROJECT['dependencies'])['jax'].specifier
    versions = pinned('requirements-onnx.txt')
    assert versions.keys() == ranges(extras['onnx']).keys() | ranges(extras['stablehlo']).keys()
    for name, requirement in ranges(extras['onnx'] + extras['stablehlo']).items():
        assert requirement.specifier.contains(versions[name]), f'{requirement} leaves out {versions[name]}'
    for accelerator in ('cuda12', 'tpu'):
        (requirement,) = map(Requirement, extras[accelerator])
        assert requirement.name == 'jax' and requirement.specifier == jax
        assert requirement.extras == {accelerator}


def test_files_that_are_no_python_are_packed():
    patterns = SETTINGS['tool']['setuptools']['package-data'][PACKAGE.name]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    others = {
        path
        for path in PACKAGE.rglob('*')
        if path.is_file() and path.suffix not in ('.py', '.pyc') and '__pycache__' not in path.parts
    }
    assert packed == others
    for pattern in PROJECT['license-files']:
        assert list(ROOT.glob(pattern)), f'no file matches {pattern}'
    assert all((path / '__init__.py').exists() for path in {path.parent for path in PACKAGE.rglob('*.py')})


def test_the_version_has_its_entry():
    release = re.match(r'\d+\.\d+\.\d+', hybrik_jax.__version__)[0]
    assert f'\n## {release} ' in (ROOT / 'CHANGELOG.md').read_text()


USE = """
import json, pathlib, sys
import numpy as np
import hybrik_jax
from hybrik_jax.body import ik, smpl_file
from hybrik_jax.predict import Predictor

assert pathlib.Path(hybrik_jax.__file__).is_relative_to(sys.prefix), hybrik_jax.__file__
body = smpl_file.load_body()
rest = np.asarray(body.rest_joints_template)[None, :24]
rotations = ik.joints_to_rotations(rest, np.zeros((1, 10)), body)
assert np.abs(rotations - np.eye(3)).max() < 1e-2
(person,) = Predictor.load(sys.argv[1])(sys.argv[2], boxes=[[40, 10, 60, 100]])
print(json.dumps(np.asarray(person.posed_joints_m).tolist()))
"""


@pytest.mark.slow
def test_installed_it_works_from_another_folder(tmp_path):
    """`pip install .` in an empty environment: body, solver and Predictor, without the checkout."""
    source, environment, elsewhere = (tmp_path / name for name in ('source', 'environment', 'elsewhere'))
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'README.md', 'LICENSE', 'THIRD_PARTY_NOTICES.md', 'requirements.txt'):
        shutil.copy(ROOT / name, source)
    run, photo = (
        small_run.write_run(tmp_path / 'run', tmp_path),
        small_run.write_photo(tmp_path / 'photo.png'),
    )
    elsewhere.mkdir()
    subprocess.run([sys.executable, '-m', 'venv', environment], check=True)
    python = environment / 'bin' / 'python'
    install = [python, '-m', 'pip', 'install', '-q', '-c', source / 'requirements.txt', source]
    subprocess.run(install, check=True, cwd=elsewhere)
    done = subprocess.run(
        [python, '-c', USE, run, photo], cwd=elsewhere, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    here = small_run.Predictor.load(run)(photo, boxes=[[40, 10, 60, 100]])[0].posed_joints_m
    there = ast.literal_eval(done.stdout.splitlines()[-1])
    assert abs(here - there).max() < 1e-4
