"""Building: what readers yield becomes records; stopped builds go on, broken ones leave nothing."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from hybrik_jax import catalogue, datasets
from hybrik_jax.data import augment, record, store
from hybrik_jax.datasets import build
from hybrik_jax.datasets.annotation import AnnotatedPerson, AnnotationError, Skipped
from hybrik_jax.datasets.readers import custom
from hybrik_jax.scoring import roots_and_boxes
from tests.helpers import ROOT, person
from tools import build_dataset
from tools.recorded import training as recorded

SETTINGS = build.Settings(dataset='test', body='SMPL')


def people(folder, count, *, first=0):
    """Annotated people whose photos lie in `folder`."""
    folder.mkdir(exist_ok=True)
    found = []
    for seed in range(first, first + count):
        one = plausible(seed)
        path = folder / f'{seed:03d}.jpg'
        path.write_bytes(one[record.IMAGE])
        labels = {name: one[name] for name in record.FEATURES if not name.startswith('region_')}
        found.append(
            AnnotatedPerson(f'test/{seed:03d}', path, labels, sequence=f'S{seed % 2}', action='Walking')
        )
    return found


def plausible(seed):
    """A record whose joints are those of a standing person instead of anywhere."""
    one = person(seed)
    unlabelled = ('joints_m', 'joints_weight', 'h36m_joints_m', 'h36m_weight', 'joints_px_weight')
    return one | {name: np.zeros_like(one[name]) for name in unlabelled}


@pytest.fixture
def photos(tmp_path):
    return people(tmp_path / 'photos', 7)


def built(tmp_path, found, **options):
    options = {'workers': 0, 'shard': 3, **options}
    return build.build({'train': lambda: iter(found)}, tmp_path / 'data' / 'test', SETTINGS, **options)


def test_records_are_read_as_tfds_reads_them(tmp_path, photos):
    """Our reader, which knows the schema, gives what tfds's general one gives: values, types and shapes."""
    folder = built(tmp_path, photos)
    ours = store.open_split(folder, 'train')
    skip = {record.IMAGE: tfds.decode.SkipDecoding()}
    theirs = tfds.builder_from_directory(str(folder)).as_data_source('train', decoders=skip)
    for index in range(7):
        one, other = ours[index], theirs[index]
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert type(one[name]) is type(value), name
            assert getattr(one[name], 'dtype', None) == getattr(value, 'dtype', None), name
            np.testing.assert_array_equal(one[name], value, err_msg=name)
    assert ours[-1]['name'] == theirs[6]['name'] and len(list(ours)) == 7
    with pytest.raises(IndexError):
        ours[7]


def test_records_are_what_was_annotated(tmp_path, photos, capsys):
    """In order, with every label, in shards of three; skipped people are counted by reason."""
    left_out = [Skipped('crowd', 'here'), Skipped('crowd', 'there'), Skipped('area 0', 'here')]
    folder = built(tmp_path, [photos[0], *left_out, *photos[1:]])
    source = store.open_split(folder, 'train')
    assert len(source) == 7
    assert len(list(folder.glob('*.array_record*'))) == 3
    for annotated, stored in zip(photos, source, strict=True):
        assert augment.text(stored['name']) == annotated.name
        texts = [augment.text(stored[name]) for name in ('sequence', 'action', 'body')]
        assert texts == [annotated.sequence, 'Walking', 'SMPL']
        for name, value in annotated.labels.items():
            np.testing.assert_array_equal(stored[name], value, err_msg=name)
        augment.make_example(stored, augment.Augmentation(), crop_size=64)
    printed = capsys.readouterr().out
    assert '7 people' in printed and '2 left out: crowd' in printed and '1 left out: area 0' in printed
    assert (folder / 'summary.txt').read_text() in printed


def test_two_workers_make_the_same(tmp_path, photos):
    one, two = built(tmp_path / 'a', photos), built(tmp_path / 'b', photos, workers=2)
    for first, second in zip(store.open_split(one, 'train'), store.open_split(two, 'train'), strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_what_is_there_is_not_built_again(tmp_path, photos, capsys):
    folder = built(tmp_path, photos)
    before = folder.stat().st_mtime_ns
    assert built(tmp_path, photos[:3]) == folder and folder.stat().st_mtime_ns == before
    assert 'is there already' in capsys.readouterr().out
    other = dataclasses.replace(SETTINGS, quality=80)
    with pytest.raises(FileExistsError, match='is there already, built with quality 95, not 80: move it'):
        build.build({'train': lambda: iter(photos)}, folder, other, workers=0)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'quality': 1000}, 'quality=1000'),
        ({'quality': 0}, 'quality=0'),
        ({'largest_side': 0}, 'largest_side=0'),
        ({'largest_side': -5}, 'largest_side=-5'),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **options)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--quality', '1000'], 'argument --quality: 1000 is not possible: give 1 to 100'),
        (['--largest-side', '0'], 'argument --largest-side: 0 is not possible: give at least 32'),
        (['--largest-side', '-5'], 'argument --largest-side: -5 is not possible'),
        (['--workers', '-1'], 'argument --workers: -1 is not possible: give at least 0'),
        (['--official'], 'unrecognized arguments: --official'),
    ],
)
def test_impossible_arguments_are_refused_before_anything_starts(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        build_dataset.main(['coco', '--data-root', 'nowhere', '--out', str(tmp_path / 'coco'), *arguments])
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_dataset_of_the_catalogue_can_be_named(capsys):
    with pytest.raises(SystemExit):
        build_dataset.main(['--help'])
    shown = capsys.readouterr().out
    for name, dataset in catalogue.DATASETS.items():
        assert name in shown and dataset.title in shown
        reader = datasets.reader_of(name)
        assert hasattr(reader, 'build' if dataset.drawn else 'read')


def test_photos_outside_are_allowed_by_an_option(tmp_path, monkeypatch):
    """Own data is asked for with the option, and only for the splits that its file has."""
    asked = []

    def read(path, split, **options):
        asked.append((path, split, options))
        return iter(())

    monkeypatch.setattr(custom, 'read', read)
    monkeypatch.setattr(custom, 'splits', lambda path: ('test',))
    file = tmp_path / 'people.json'
    for options in ([], ['--allow-outside']):
        with pytest.raises(SystemExit, match='nobody to build from in test'):
            build_dataset.main(['custom', '--data-root', str(file), '--out', str(tmp_path / 'out'), *options])
    assert asked == [(file, 'test', {}), (file, 'test', {'allow_outside': True})]


def test_a_device_is_no_photo(tmp_path, photos):
    endless = [dataclasses.replace(photos[0], photo=pathlib.Path('/dev/zero'))]
    with pytest.raises(AnnotationError, match='/dev/zero is no file, a photo is one: this is a device'):
        built(tmp_path, endless)
    long = [dataclasses.replace(photos[0], photo=pathlib.Path('x' * 10_000))]
    with pytest.raises(AnnotationError, match='x... is no file'):
        build.build({'train': lambda: iter(long)}, tmp_path / 'long', SETTINGS, workers=0)


def test_numbers_of_the_annotation_file_are_kept_beside_the_records(tmp_path, photos):
    def numbered(person, image_id):
        return dataclasses.replace(person, image_id=image_id, annotation_id=50 + image_id)

    folder = built(tmp_path, [*(numbered(person, 7 + k) for k, person in enumerate(photos[:5])), *photos[5:]])
    numbers = roots_and_boxes.read_numbers(folder, 'train')
    assert numbers == {f'test/{k:03d}': (7 + k, 57 + k) for k in range(5)}
    assert roots_and_boxes.read_numbers(folder, 'test') == {}


def test_an_unreadable_photo_is_named_and_what_is_cut_stays(tmp_path, photos):
    """The first and second shard are whole: when the photo is mended only the third is cut."""
    contents = photos[6].photo.read_bytes()
    for broken, message in ((contents[:300], 'damaged'), (None, 'no file of this name')):
        photos[6].photo.unlink()
        if broken:
            photos[6].photo.write_bytes(broken)
        with pytest.raises(AnnotationError, match=rf'(?s)skip-unreadable.*test/006.*({message})'):
            built(tmp_path, photos)
    assert not (tmp_path / 'data' / 'test').exists()
    kept = sorted((tmp_path / 'data' / 'test.incomplete').glob('*.array_record'))
    written = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 2
    photos[6].photo.write_bytes(contents)
    folder = built(tmp_path, photos)
    assert len(store.open_split(folder, 'train')) == 7
    assert [path.stat().st_mtime_ns for path in sorted(folder.glob('*.array_record*'))][:2] == written


def test_unreadable_photos_can_be_left_out(tmp_path, photos, capsys):
    photos[2].photo.write_bytes(b'nothing')
    photos[3].photo.unlink()
    settings = dataclasses.replace(SETTINGS, skip_unreadable=True)
    folder = build.build({'train': lambda: iter(photos)}, tmp_path / 'out', settings, workers=0, shard=3)
    assert [r['name'] for r in store.open_split(folder, 'train')] == [
        b'test/%03d' % i for i in (0, 1, 4, 5, 6)
    ]
    printed = capsys.readouterr().out
    assert '1 left out: photo missing' in printed and '1 left out: photo damaged' in printed


def test_who_is_not_made_in_time_is_left_out(tmp_path, photos, capsys):
    """A shard is made however little time there is; the dataset is finished, and stays as it is."""
    folder = built(tmp_path, photos, minutes={'train': 1e-9})
    assert len(store.open_split(folder, 'train')) == 3
    assert f'4 left out: {build.TOO_LATE}' in capsys.readouterr().out
    assert built(tmp_path, photos) == folder and len(store.open_split(folder, 'train')) == 3
    enough = tmp_path / 'enough'
    build.build(
        {'train': lambda: iter(photos)}, enough, SETTINGS, workers=0, minutes={'train': 9.0, 'test': 0.0}
    )
    assert len(store.open_split(enough, 'train')) == 7


def test_another_build_does_not_go_on_with_half_of_this_one(tmp_path, photos):
    photos[6].photo.unlink()
    with pytest.raises(AnnotationError):
        built(tmp_path, photos)
    with pytest.raises(AnnotationError, match='unfinished build with other people'):
        built(tmp_path, photos[:5])


def test_a_photo_of_another_size_is_named(tmp_path, photos):
    photos[1].labels['width'] = np.int32(300)
    with pytest.raises(
        AnnotationError, match=r'test/001: .*is 230 x 200 pixels, the annotation says 300 x 200'
    ):
        built(tmp_path, photos)


def test_names_that_occur_twice_are_refused(tmp_path, photos):
    with pytest.raises(AnnotationError, match='occur more than once:\n  test/003'):
        built(tmp_path, [*photos, photos[3]])


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match='nobody to build from in train'):
        built(tmp_path, [Skipped('crowd', 'all')])


def test_a_few_implausible_people_are_left_out_and_many_are_an_error(tmp_path, photos, monkeypatch, capsys):
    photos[4].labels['betas'] = np.full(10, 500, np.float32)
    with pytest.raises(AnnotationError, match=r'(?s)cannot be right \(1 of 7 people\).*test/004: '):
        built(tmp_path, photos)
    monkeypatch.setattr(build, '_FEW', 0.2)
    folder = built(tmp_path, photos)
    assert len(store.open_split(folder, 'train')) == 6
    assert '1 left out: implausible annotation' in capsys.readouterr().out


def test_a_folder_that_is_no_dataset_is_not_touched(tmp_path, photos):
    precious = tmp_path / 'data' / 'test' / 'thesis.txt'
    precious.parent.mkdir(parents=True)
    precious.write_text('mine')
    with pytest.raises(FileExistsError, match='move it away'):
        built(tmp_path, photos)
    assert precious.read_text() == 'mine'


def test_made_labels_are_stored(tmp_path, photos):
    def make(some):
        return [
            dataclasses.replace(p, labels=p.labels | {'betas': np.full(10, 0.5, np.float32)}) for p in some
        ]

    folder = built(tmp_path, photos, making=build.Making(labels=make))
    assert all((r['betas'] == 0.5).all() for r in store.open_split(folder, 'train'))


@pytest.mark.parametrize('name', ['test', 'test_mult125', 'train_plain', 'train_rot', 'train_flip'])
def test_recorded_crops_match_through_built_records(tmp_path, golden, name, monkeypatch):
    """The recorded crops and targets, with the photo stored on disk, cut, coded, written and read again."""
    import cv2

    path = golden / f'crop_{name}.npz'
    labels = recorded.record_of(np.load(path))
    labels = {k: np.asarray(v, record.FEATURES[k].dtype) for k, v in labels.items() if k in record.FEATURES}
    labels = {k: v for k, v in labels.items() if not k.startswith('region_')}
    photo = tmp_path / 'photo.png'
    cv2.imwrite(str(photo), recorded.pattern_photo()[..., ::-1])
    folder = tmp_path / 'data'
    settings = dataclasses.replace(SETTINGS, quality=100)
    # The recorded joints are random points, some of the recorded boxes leave the photo.
    monkeypatch.setattr(build.record_check, 'check', lambda record: None)
    person = AnnotatedPerson(name, photo, labels)
    making = build.Making(problems=lambda person: [])
    build.build({'test': lambda: iter([person])}, folder, settings, making=making, workers=0)
    rows = recorded.crop_rows(path, store.open_split(folder, 'test')[0])
    assert [row for row in rows if not row[1] <= row[2]] == []


KILLED = """
import os, pathlib, signal, sys
from hybrik_jax.datasets import build, region
from tests.test_build import SETTINGS, people

folder = pathlib.Path(sys.argv[1])
found = people(folder / 'photos', 7)
read_photo, count = region.read_photo, [0]

def counting(path):
    count[0] += 1
    if count[0] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return read_photo(path)

region.read_photo = counting
build.build({'train': lambda: iter(found)}, folder / 'data', SETTINGS, workers=0, shard=2)
print(count[0], 'photos were cut')
"""


def test_a_killed_build_goes_on(tmp_path):
    """Killed -9 in the second shard, then in the third; at last three photos are left; all is there."""
    outputs = []
    for at in ('4', '3', '100'):
        command = [sys.executable, '-c', KILLED, str(tmp_path), at]
        outputs.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False))
        if at != '100':
            assert outputs[-1].returncode == -9, outputs[-1].stderr
            with pytest.raises(FileNotFoundError, match='no finished dataset'):
                store.open_split(tmp_path / 'data', 'train')
    assert '3 photos were cut' in outputs[-1].stdout, outputs[-1].stdout + outputs[-1].stderr
    source = store.open_split(tmp_path / 'data', 'train')
    assert [r['name'] for r in source] == [b'test/%03d' % i for i in range(7)]


def test_an_older_schema_is_named(tmp_path, photos):
    folder = built(tmp_path, photos)
    (folder / store.SUMS).unlink()  # older ones have none
    path = folder / 'features.json'
    features = json.loads(path.read_text())
    del features['featuresDict']['features']['region_scale']
    path.write_text(json.dumps(features))
    with pytest.raises(ValueError, match='another schema .region_scale.: remove it and build it again'):
        store.open_split(folder, 'train')


def test_records_are_found_below_a_folder(tmp_path, photos):
    folder = built(tmp_path, photos)
    assert store.find(folder.parent) == folder
    assert isinstance(store.find(str(folder)), pathlib.Path)
