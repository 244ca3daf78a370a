"""Every bad input of the corpus ends in one line that names the thing, in bounded time and memory."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.corpus import __main__ as corpus
from tests.corpus import own
from tools import view_dataset

ROOT = pathlib.Path(__file__).parents[1]
ENTRIES = {entry.name: entry for entry in corpus.entries()}
MOST_SECONDS, MOST_MB = 2.0, 500
LONGEST = 1500  # characters of a line


@pytest.fixture(scope='module')
def outcomes() -> dict[str, dict]:
    """Name -> what came of each entry; a process that ends before it should is started again behind it."""
    found, left = {}, list(ENTRIES)
    while left:
        command = [sys.executable, '-m', 'tests.corpus', '--json', *left]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        for line in filter(None, done.stdout.splitlines()):
            one = json.loads(line)
            last = one.get('started') or one['name']
            found[last] = one if 'name' in one else {'failure': f'ended the process: {done.stderr[-2000:]}'}
        assert found, done.stderr
        left = left[left.index(last) + 1 :]
    return found


@pytest.mark.parametrize('name', ENTRIES)
def test_one_line_names_what_is_wrong(name, outcomes):
    entry, found = ENTRIES[name], outcomes[name]
    assert not found['failure'], found['failure']
    said = found['said']
    lines = said.splitlines()
    assert 1 <= len(lines) <= entry.lines and max(map(len, lines)) < LONGEST, said[:3000]
    assert all(text in said for text in entry.says), (entry.says, said)
    assert 'Traceback' not in said and 'nobody shall read this' not in said and 'root:x' not in said
    assert found['seconds'] < MOST_SECONDS and found['mb'] < MOST_MB, found


def test_the_corpus_is_large_and_even():
    kinds = {}
    for name in ENTRIES:
        kinds.setdefault(name.split('/')[0], []).append(name)
    assert len(ENTRIES) >= 150 and len(kinds) >= 15
    assert max(map(len, kinds.values())) <= len(ENTRIES) / 4


@pytest.mark.parametrize(('name', 'make', 'build'), own.pairs(), ids=[name for name, *_ in own.pairs()])
def test_where_the_validator_finds_nothing_a_build_works(name, make, build, tmp_path, capsys):
    path = make(tmp_path)
    fine = own.validated(path) == 0
    said = capsys.readouterr().out
    assert fine == ('nothing is wrong' in said) == (name in own.GOOD)
    if fine:
        build(path)
        assert (path.parent / 'out' / 'dataset_info.json').exists()
    else:
        with pytest.raises(SystemExit) as stop:
            build(path)
        assert isinstance(stop.value.code, str) and not (path.parent / 'out').exists()


def test_headers_alone_are_said_to_be_no_whole_look(tmp_path, capsys):
    """The one photo that a build cannot use and that has a good header."""
    path = own.cut_jpeg(tmp_path)
    assert own.validated(path) == 1
    assert own.validate_people.main([str(path), '--headers-only']) == 0
    assert 'a build decodes them and may find damage' in capsys.readouterr().out


def test_bad_photos_can_be_left_out(tmp_path, capsys):
    """--skip-unreadable leaves out and counts what it would name."""
    from tests.corpus import photos

    for name in ('bomb.png', 'cut.jpg', 'sparse.jpg', 'tile.tif'):
        folder = tmp_path / name
        folder.mkdir()
        photos.built(photos.in_a_folder(photos.BAD[name][0], name)(folder), '--skip-unreadable')
        assert '1 left out: photo damaged' in capsys.readouterr().out


def test_what_lies_elsewhere_is_validated_built_and_shown_where_that_is_said(tmp_path, capsys):
    path = own.secret('unused.txt', own.people({'photo': 'elsewhere/there.jpg'}))(tmp_path)
    (tmp_path / 'there.jpg').write_bytes((path.parent / 'photos' / 'a.jpg').read_bytes())
    shown = ['--annotations', 'custom', '--root', str(path), '--out', str(tmp_path / 'sheet.html')]
    with pytest.raises(SystemExit, match='outside of photos_root'):
        view_dataset.main(shown)
    assert own.validated(path) == 1 and own.validated(path, '--allow-outside') == 0
    own.built(path, '--allow-outside')
    view_dataset.main([*shown, '--allow-outside'])
    assert (path.parent / 'out').is_dir() and (tmp_path / 'sheet.html').is_file()
