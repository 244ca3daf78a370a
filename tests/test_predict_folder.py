"""Prediction of folders: resumed is uninterrupted, one bad photo ends nothing, results are never mixed."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from hybrik_jax.photo import Request, read_photo
from hybrik_jax.predict import BATCH_SIZES, MOST_WAITING, Predictor
from tests import small_run as small
from tests.helpers import ROOT
from tools import export_motion, predict, predict_files
from tools.predict_photos import predict_photos

BOXES = {
    'a.jpg': [[60, 10, 40, 100], [10, 10, 30, 60]],
    'b.png': [[20, 20, 50, 80]],
    'c.jpg': [],
    'd.jpg': [[50, 10, 60, 90]],
}


BVH = 'prediction_person_0.bvh'


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> list[pathlib.Path]:
    folder = tmp_path_factory.mktemp('folder')
    return [small.write_photo(folder / name, 160 - 10 * k, 120 + 10 * k) for k, name in enumerate(BOXES)]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    """What is drawn is not looked at here: test_predict_tool.py does that."""

    def draw(photo, people, predictor):
        names = ['overlay', *(f'{kind}_{k}' for kind in ('side', 'crop') for k in range(len(people)))]
        return {f'{name}.png': np.full((4, 4, 3), 99, np.uint8) for name in names}

    monkeypatch.setattr(predict_files, '_pictures', draw)


@pytest.fixture
def command(predictor, photos, tmp_path):
    """Predicts the photos into `tmp_path`/out, or what else is asked for."""

    def run(out='out', boxes=BOXES, photos=photos, **options):
        folders = [tmp_path / out / photo.name for photo in photos]
        options = {'formats': ['json', 'bvh']} | options
        return predict_photos(predictor, photos, folders, boxes=boxes, **options)

    return run


@pytest.fixture
def tool(predictor, photos, monkeypatch, tmp_path):
    """The command line on the folder of the photos, with the network that is loaded already."""
    monkeypatch.setattr(Predictor, 'load', lambda *unused, **options: predictor)
    (tmp_path / 'boxes.json').write_text(json.dumps(BOXES))

    def run(*options, folders=photos[0].parent, boxes=True):
        given = ['--boxes', str(tmp_path / 'boxes.json')] if boxes else []
        arguments = ['--checkpoint', 'run', '--out', str(tmp_path / 'out'), *given, *options]
        return predict.run([*map(str, np.atleast_1d(folders)), *arguments, '--format', 'bvh'])

    return run


# ---- resuming


def test_what_is_there_is_not_predicted_again(command, tmp_path, monkeypatch):
    first = command()
    assert {photo.name: count for photo, count in first.people.items()} == {
        'a.jpg': 2, 'b.png': 1, 'c.jpg': 0, 'd.jpg': 1
    }  # fmt: skip
    before = content(tmp_path)
    monkeypatch.setattr(Predictor, 'forward', lambda *unused: pytest.fail('predicted again'))
    again = command()
    assert again.files == [] and again.people == first.people and len(again.known) == 4
    assert content(tmp_path) == before


class Killed(BaseException):
    """What stands for kill -9."""


@contextlib.contextmanager
def killed_at_move(monkeypatch, moment):
    """Ends what is done inside at the n-th move of a file, and nothing is tidied up."""
    moves = []

    def replace(source, target):
        moves.append(source)
        if len(moves) == moment:
            raise Killed
        shutil.move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(predict_files.os, 'replace', replace)
        patch.setattr(predict_files.shutil, 'rmtree', lambda *unused, **options: None)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize('moment', [1, 3, 8, 11, 17])
def test_killed_at_any_move_of_a_file_and_resumed_is_uninterrupted(command, tmp_path, monkeypatch, moment):
    """What is half there is predicted again, and what was not finished goes."""
    command('whole')
    with killed_at_move(monkeypatch, moment):
        command('killed')
    assert content(tmp_path / 'killed') != content(tmp_path / 'whole')
    command('killed')
    assert content(tmp_path / 'killed') == content(tmp_path / 'whole')
    assert not list((tmp_path / 'killed').rglob('.unfinished'))


@pytest.mark.parametrize('moment', [2, 5])
def test_another_command_that_was_killed_leaves_no_mixture(command, photos, tmp_path, monkeypatch, moment):
    """Though files of both have the same sizes, those of the first one are not taken for whole again."""
    moved = BOXES | {'d.jpg': [[40, 20, 60, 90]]}
    command(photos=photos[3:])
    before = content(tmp_path)
    with killed_at_move(monkeypatch, moment):
        command(photos=photos[3:], boxes=moved)
    shutil.rmtree(tmp_path / 'out' / 'd.jpg' / '.unfinished')  # the only trace, if somebody tidies up
    assert not command(photos=photos[3:]).known
    assert content(tmp_path) == before


@pytest.mark.parametrize('damage', ['missing', 'cut', 'no record', 'cut record', 'unfinished'])
def test_results_that_are_not_whole_are_made_again(command, tmp_path, damage):
    command()
    before = content(tmp_path)
    folder = tmp_path / 'out' / 'a.jpg'
    if damage == 'missing':
        (folder / 'overlay.png').unlink()
    elif damage == 'cut':
        os.truncate(folder / BVH, 100)
    elif damage == 'no record':
        (folder / 'prediction.json').unlink()
    elif damage == 'cut record':
        os.truncate(folder / 'prediction.json', 300)
    else:
        (folder / '.unfinished').mkdir()
        (folder / '.unfinished' / 'overlay.png').write_bytes(b'half')
    again = command()
    assert {path.parent.name for path in again.files} == {'a.jpg'}
    assert content(tmp_path) == before


def test_another_command_replaces_all_of_an_earlier_one(command, photos, tmp_path):
    """Other boxes, another camera, another photo of this name: predicted anew, and no old file is left."""
    command()
    fewer = BOXES | {'a.jpg': BOXES['a.jpg'][:1]}
    again = command(boxes=fewer)
    assert {path.parent.name for path in again.files} == {'a.jpg'}
    names = {path.name for path in (tmp_path / 'out' / 'a.jpg').iterdir()}
    assert names == {
        'overlay.png',
        'photo.jpg',
        'side_0.png',
        'crop_0.png',
        'prediction.json',
        'prediction.bvh',
    }
    assert len(command(boxes=fewer, focal=300.0).known) == 0
    assert len(command(boxes=fewer, focal=300.0).known) == 4
    assert len(command(boxes=fewer, focal=300.0, again=True).known) == 0
    assert (
        len(command(boxes=fewer, focal=300.0, looking={'score': 0.5}).known) == 4
    )  # of whom nobody is looked for
    other = tmp_path / 'other'
    other.mkdir()
    changed = [other / photo.name for photo in photos]
    for k, (path, old) in enumerate(zip(changed, photos, strict=True)):
        small.write_photo(path, 100, 90) if k == 1 else shutil.copy(old, path)
    again = command(boxes=fewer, focal=300.0, photos=changed)
    assert {path.parent.name for path in again.files} == {'b.png'}


def test_files_of_others_stay(command, tmp_path):
    """What prediction did not write is not deleted, whatever a record that somebody changed says."""
    command()
    folder = tmp_path / 'out' / 'a.jpg'
    (folder / 'notes.txt').write_text('mine')
    (tmp_path / 'out' / 'precious').write_text('mine')
    record = json.loads((folder / 'prediction.json').read_text())
    record['files'] |= {'../precious': 4, str(tmp_path / 'out' / 'precious'): 4, '..': 1}
    (folder / 'prediction.json').write_text(json.dumps(record))
    command(boxes=BOXES | {'a.jpg': BOXES['a.jpg'][:1]})
    assert (folder / 'notes.txt').read_text() == (tmp_path / 'out' / 'precious').read_text() == 'mine'


def test_the_same_people_are_seen_together_as_without_an_interruption(predictor, monkeypatch):
    """To the last bit: a batch of another size, or with others in it, would add up in another order."""
    rng = np.random.default_rng(0)
    counts = [20, 0, 20, 3]  # two batches: the first one is full with the third photo
    requests = [
        Request(
            photo=rng.integers(0, 256, (90, 120, 3), np.uint8),
            boxes=np.concatenate([rng.uniform(0, 20, (n, 2)), rng.uniform(25, 60, (n, 2))], 1),
        )
        for n in counts
    ]
    whole = list(predictor.predict(requests))
    sizes = []
    forward = Predictor.forward

    def counted(self, images, crop):
        sizes.append(len(images))
        return forward(self, images, crop)

    monkeypatch.setattr(Predictor, 'forward', counted)

    def resumed(*known):
        sizes.clear()
        told = {id(requests[k]): counts[k] for k in known}
        return list(predictor.predict(requests, known=lambda request: told.get(id(request)))), sizes

    for known, expected in (
        ((0,), [40, 3]),
        ((0, 1, 2), [3]),
        ((3,), [40]),
        ((0, 1, 2, 3), []),
        ((), [40, 3]),
    ):
        found, seen = resumed(*known)
        assert seen == expected
        for k in set(range(4)) - set(known):
            assert len(found[k]) == counts[k]
            for one, other in zip(found[k], whole[k], strict=True):
                np.testing.assert_array_equal(one.vertices_m, other.vertices_m)
                np.testing.assert_array_equal(one.joints_px, other.joints_px)


def test_no_more_than_a_batch_is_read_ahead(predictor):
    """However many photos there are, a batch's results come before the next batch is read."""
    read = []

    def requests():
        for number in range(1000):
            read.append(number)
            yield Request(photo=np.full((40, 40, 3), 9, np.uint8), boxes=[[5, 5, 30, 30]])

    found = predictor.predict(requests())
    next(found)
    assert len(read) == BATCH_SIZES[-1]


def test_photos_of_nobody_do_not_wait_for_people(predictor):
    """Nor are they held in memory until there are some."""
    read = []

    def requests():
        for _ in range(1000):
            photo = np.full((40, 40, 3), 9, np.uint8)
            read.append(weakref.ref(photo))
            yield Request(photo=photo, boxes=[])

    assert next(predictor.predict(requests())) == []
    assert len(read) == MOST_WAITING
    assert sum(photo() is not None for photo in read) <= 1


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(small_run, tmp_path):
    """The real command, killed when the first batch's results begin to appear."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    names = [f'{number:02}.jpg' for number in range(12)]
    boxes = {name: [[10 + k, 10, 40, 90] for k in range(6)] for name in names}
    for number, name in enumerate(names):
        small.write_photo(folder / name, 160 + number)
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))

    def start(out):
        arguments = [str(folder), '--boxes', str(tmp_path / 'boxes.json'), '--checkpoint', str(small_run)]
        command = [sys.executable, '-m', 'tools.predict', *arguments, '--out', str(tmp_path / out)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    process = start('killed')
    while not list((tmp_path / 'killed').glob('03.jpg/*')):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / 'killed' / names[-1]).exists()
    for out in ('killed', 'whole'):
        process = start(out)
        said = process.communicate()[1]
        assert process.returncode == 0, said
    assert content(tmp_path / 'killed') == content(tmp_path / 'whole')


# ---- what is said, and the exit status


def test_bad_photos_are_listed_at_the_end(tool, photos, tmp_path, capsys):
    folder = tmp_path / 'photos'
    shutil.copytree(photos[0].parent, folder)
    (folder / '0.jpg').write_bytes(b'\xff\xd8\xff\xe0 no JPEG')
    (folder / 'phone.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    (folder / 'x.jpg').mkdir()
    (folder / 'notes.txt').write_text('no photo')
    (folder / '.hidden.jpg').write_text('no photo')
    for expected in (14, 0):  # and again, when there is nothing left to do
        with pytest.raises(SystemExit) as stop:
            tool('--whole-photo', folders=folder)
        assert stop.value.code == 1
        said = capsys.readouterr()
        lines = said.err.split('\r')[-1].strip().splitlines()
        assert [line.split()[0] for line in lines] == ['error:'] * 3
        assert '0.jpg cannot be read' in lines[0] and lines[0].count('0.jpg') == 1
        assert 'phone.heic cannot be read: it is HEIC' in lines[1] and 'heif-convert' in lines[1]
        assert 'x.jpg is no file' in lines[2] and 'this is a folder' in lines[2]
        assert 'left out what is no photo by its name, 1 such as notes.txt' in said.out
        assert '3 photos could not be used' in said.out
        assert ('predicted before by the same command' in said.out) == (not expected)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(BOXES)


def test_a_bad_box_is_told_with_its_photo(tool, photos, tmp_path, capsys):
    (tmp_path / 'boxes.json').write_text(json.dumps(BOXES | {'b.png': [[900, 900, 10, 10]]}))
    with pytest.raises(SystemExit):
        tool()
    said = capsys.readouterr().err
    assert 'b.png: The box 900,900,10,10 has no part in the photo' in said
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.jpg', 'c.jpg', 'd.jpg']


def test_nobody_is_here_and_nobody_was_found_are_two_things(tool, photos, tmp_path, capsys):
    tool()
    said = capsys.readouterr()
    assert 'nobody is in ' in said.out and 'c.jpg, as --boxes says' in said.out
    assert '--score' not in said.err and 'nobody' not in said.err
    record = json.loads((tmp_path / 'out' / 'c.jpg' / 'prediction.json').read_text())
    assert record['people'] == [] and set(record['files']) == {'photo.jpg'}
    (tmp_path / 'boxes.json').write_text('{"c.jpg": []}')
    assert tool(folders=photos[2])  # one photo, of which it is said that nobody is there
    assert 'as --boxes says' in capsys.readouterr().out


def test_two_photos_of_one_name_are_refused(tool, photos, tmp_path):
    shutil.copytree(photos[0].parent, tmp_path / 'other')
    with pytest.raises(ValueError, match='a.jpg and .*a.jpg have the same name'):
        tool(folders=[photos[0].parent, tmp_path / 'other'])


@pytest.mark.parametrize('name', ['photo.jpg', 'Photo.JPG', 'overlay.png', 'side_12.png', 'crop.png'])
def test_a_photo_is_never_written_over(predictor, tmp_path, monkeypatch, name):
    """Neither one whose name is that of a result, nor a folder of photos by folders of their names."""
    monkeypatch.setattr(Predictor, 'load', lambda *unused, **options: predictor)
    path = small.write_photo(tmp_path / name)
    before = path.read_bytes()
    for photo, out in ((path, tmp_path), (tmp_path, tmp_path), (path, tmp_path / 'x' / '..')):
        with pytest.raises(ValueError, match=f'written over .*{name} itself: give another folder as --out'):
            predict.run([str(photo), '--whole-photo', '--checkpoint', 'run', '--out', str(out)])
    assert path.read_bytes() == before
    predict.run([str(path), '--whole-photo', '--checkpoint', 'run', '--out', str(tmp_path / 'out')])
    assert (tmp_path / 'out' / 'photo.jpg').exists()


def test_a_folder_of_one_photo_is_a_folder(tool, photos, tmp_path):
    (tmp_path / 'single').mkdir()
    shutil.copy(photos[1], tmp_path / 'single')
    tool('--whole-photo', folders=tmp_path / 'single', boxes=False)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['b.png']


def test_files_of_a_folder_with_nobody_in_one_photo_are_exported(tool, tmp_path, capsys):
    tool()
    capsys.readouterr()
    export_motion.run([str(tmp_path / 'out'), '--format', 'bvh'])
    said = capsys.readouterr().out
    assert 'of 3 files of motions' in said and '1 photos have nobody in them' in said


def test_the_photo_that_the_network_saw_is_written(command, photos, tmp_path):
    command()
    seen = read_photo(tmp_path / 'out' / 'b.png' / 'photo.jpg').astype(int)
    assert np.abs(seen - read_photo(photos[1])).mean() < 3
