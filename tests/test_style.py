"""One style, checked by rules: docstrings of one form, and files that fit on a few screens.

Line length, formatting, annotations and dead imports are ruff's (`make test` runs it first).
"""

import ast
import pathlib
import re
import subprocess
import textwrap
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LONGEST_FILE = 450
SECTIONS = ('Args', 'Returns', 'Raises', 'Source')
VERB = re.compile(r'Returns\b|Yields\b|[A-Z][a-z]+s\b(?! \(| of\b)')  # but not 'Rotations (24, 3, 3) of ...'
SECTION = re.compile(r'([A-Z][a-z]+):( .+)?$')
ENTRY = re.compile(r' {4}\*{0,2}\w+(, \*{0,2}\w+)*: \S')
MODULES = sorted(path for room in ('hybrik_jax', 'tools') for path in (ROOT / room).rglob('*.py'))

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(body: list[ast.stmt], prefix: str = '') -> Iterator[tuple[str, Documented]]:
    """Yields name and definition of the public functions, classes and methods of a module or class body."""
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith('_'):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f'{prefix}{node.name}.')


def faults_of_docstring(text: str | None, *, function: bool) -> Iterator[str]:
    """Yields what is wrong with a docstring, as `ast.get_docstring` gives it."""
    if text is None:
        yield 'has no docstring'
        return
    lines = text.splitlines()
    if not lines[0].endswith('.'):
        yield f'first line {lines[0]!r} does not end with a period: one sentence on one line'
    if function and not VERB.match(lines[0]):
        yield f'first line {lines[0]!r} does not begin with a verb in -s, such as "Returns"'
    if len(lines) > 1 and lines[1]:
        yield 'no blank line follows the first line'
    section, seen = '', []
    for line in lines[1:]:
        heading = SECTION.match(line)
        if heading and (heading[1] in SECTIONS or not heading[2]):
            section = heading[1]
            seen.append(section)
            if section not in SECTIONS:
                yield f'section {section!r} is none of {", ".join(SECTIONS)}'
            if (section == 'Source') != bool(heading[2]):
                yield f'{line!r}: only a source stands on the line of its heading'
        elif section in ('Args', 'Raises') and line.startswith(' '):
            if not ENTRY.match(line) and not line.startswith(' ' * 8):
                yield f'{section}: {line.strip()!r} is neither "name: text" indented by 4 nor indented by 8'
        elif section == 'Returns' and line.startswith(' ') and not line.startswith(' ' * 4):
            yield f'Returns: {line.strip()!r} is not indented by 4'
    if seen != sorted(set(seen), key=lambda name: SECTIONS.index(name) if name in SECTIONS else -1):
        yield f'sections {", ".join(seen)} are not in the order {", ".join(SECTIONS)}'


def faults_of_module(source: str) -> Iterator[str]:
    """Yields 'line N: name: fault' for the docstrings of a module."""
    tree = ast.parse(source)
    for fault in faults_of_docstring(ast.get_docstring(tree), function=False):
        yield f'line 1: module: {fault}'
    for name, node in public(tree.body):
        function = not isinstance(node, ast.ClassDef)
        for fault in faults_of_docstring(ast.get_docstring(node), function=function):
            yield f'line {node.lineno}: {name}: {fault}'


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_have_one_form(path):
    faults = list(faults_of_module(path.read_text()))
    assert not faults, '\n'.join(f'{path.relative_to(ROOT)}, {fault}' for fault in faults)


def python_files() -> list[pathlib.Path]:
    """Returns the Python files of the project: git's, or where there is no git, those of its folders."""
    listed = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard', '*.py'], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    folders = ('hybrik_jax', 'tools', 'tests', 'configs')
    return [path for folder in folders for path in (ROOT / folder).rglob('*.py')]


def test_no_file_is_long():
    files = python_files()
    assert len(files) > 50
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files}
    long = {str(path): length for path, length in lengths.items() if length > LONGEST_FILE}
    assert not long, f'over {LONGEST_FILE} lines, split by topic: {long}'


def test_tests_that_the_documents_name_are_there():
    """A document names a test `tests/FILE.py::test`, and others of the same file `::test`."""
    named = []
    for path in (*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')):
        file = ''
        for match in re.finditer(r'`(?=tests/|::)(tests/\w+\.py)?(?:::(test_\w+))?`', path.read_text()):
            file = match[1] or file
            named.append((file, match[2] or ''))
    assert len(named) > 30
    for file, test in named:
        assert not test or f'def {test}(' in (ROOT / file).read_text(), f'{file}::{test}'
        assert (ROOT / file).is_file(), file


GOOD = '''
    """Splits `rotation` into swing and twist about `bone`.

    A remark of more than one line: it may
    contain colons.

    Args:
        rotation: (3, 3) local rotation.
        bone, other: (3,) metres; a text that goes on
            in the next line.
        **options: others.
    Returns:
        swing (3, 3), twist angle.
    Raises:
        ValueError: where there is none.
    Source: HybrIK (Li et al. 2021), section 3.2.
    """
'''


def test_the_check_accepts_the_form():
    assert list(faults_of_docstring(textwrap.dedent(GOOD).strip()[3:-3], function=True)) == []


@pytest.mark.parametrize(
    'text, fault',
    [
        (None, 'no docstring'),
        ('Rotations (24, 3, 3) of a person.', 'verb'),
        ('Names of the bones.', 'verb'),
        ('The rotation.', 'verb'),
        ('Return the rotation.', 'verb'),
        ('Returns a rotation of a', 'period'),
        ('Returns a rotation of a\nperson.', 'period'),
        ('Returns a rotation.\nOf a person.', 'blank'),
        ('Returns a rotation.\n\nParameters:\n    a: b.', "section 'Parameters'"),
        ('Returns a rotation.\n\nNote:\n    text', "section 'Note'"),
        ('Returns a rotation.\n\nArgs:\n  a: b.', 'indented by 4'),
        ('Returns a rotation.\n\nArgs:\n    a: b\n    goes on here without a name.', 'indented by 4'),
        ('Returns a rotation.\n\nRaises:\n    ValueError: b.\nArgs:\n    a: b.', 'order'),
        ('Returns a rotation.\n\nReturns:\n  a', 'indented by 4'),
        ('Returns a rotation.\n\nSource:\n    a paper', 'heading'),
        ('Returns a rotation.\n\nRaises: ValueError', 'heading'),
    ],
)
def test_the_check_refuses_other_forms(text, fault):
    faults = ' | '.join(faults_of_docstring(text, function=True))
    assert fault in faults
