"""From annotation files in the published formats to a trained and scored network, on miniature datasets."""

import dataclasses
import json
import pathlib
import time

import numpy as np
import pytest

from hybrik_jax import evaluate, train
from hybrik_jax.body.projection import project
from hybrik_jax.data import augment, record, store
from hybrik_jax.metric_writer import read_metrics
from tests import helpers, miniature, mixed_config, small_run
from tests.helpers import figures
from tools import build_dataset, find_roots

NAMES = ('human36m', 'mpi_inf_3dhp', 'pw3d', 'coco')
SAMPLE = pathlib.Path(__file__).parents[2] / 'shared' / 'samples' / 'coco'


@dataclasses.dataclass(frozen=True)
class Built:
    """Where the miniature datasets were written and built, and their truth."""

    raw: pathlib.Path
    root: pathlib.Path
    truth: dict


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    raw, root = tmp_path_factory.mktemp('raw'), tmp_path_factory.mktemp('built')
    truth = miniature.write_all(raw, train=6, test=7)
    for name in NAMES:
        build_dataset.main(
            [name, '--data-root', str(raw), '--out', str(root / name), '--open-body', '--workers', '0']
        )
    official = ['--out', str(root / 'pw3d_official'), '--official', '--open-body', '--workers', '0']
    build_dataset.main(['pw3d', '--data-root', str(raw), *official])
    return Built(raw, root, truth)


def pairs_of(built, name):
    """Every (true person, record) of a built dataset."""
    found = []
    for split in built.truth[name].splits:
        found += list(zip(built.truth[name][split], store.open_split(built.root / name, split), strict=True))
    return found


@pytest.mark.parametrize('name', [*NAMES, 'pw3d_official'])
def test_records_hold_the_truth(built, name):
    """Joints, pixels, pose, twists and camera of every record are those of the body that was drawn."""
    pairs = pairs_of(built, name)
    assert len(pairs) >= 10
    labelled = 0
    for true, stored in pairs:
        visible = stored['joints_px_weight'][:, 0] > 0
        pixels = project(true.joints_m, true.focal, true.centre)
        off = np.abs(stored['joints_px'][:, :2] - pixels)[visible]
        # A joint of COCO or 3DHP that stands for an SMPL joint lies on the same body, near it.
        assert off.max() < (0.5 if name in ('human36m', 'pw3d', 'pw3d_official') else 40.0)
        labelled += visible.sum()
        if stored['camera_weight'] > 0:
            np.testing.assert_allclose(stored['focal'], true.focal, rtol=1e-5)
            np.testing.assert_allclose(stored['centre'], true.centre, rtol=1e-5)
            joints = stored['joints_m'] + (true.joints_m[0] if name == 'human36m' else stored['root_m'])
            again = project(joints, stored['focal'], stored['centre'])
            known = visible & (stored['joints_weight'] > 0)
            assert np.abs(again - stored['joints_px'][:, :2])[known].max() < 0.5
        if stored['smpl_weight'] > 0:
            known = stored['joints_weight'] > 0
            np.testing.assert_allclose(
                stored['joints_m'][known], (true.joints_m - true.joints_m[0])[known], atol=2e-3
            )
            twists = np.abs((stored['twists'] - true.twists + np.pi) % (2 * np.pi) - np.pi)
            assert twists[stored['twist_weight'] > 0].max() < 1e-3
            np.testing.assert_allclose(stored['betas'], true.betas, atol=1e-5)
        # The 28 points of 3DHP's training set are near the Human3.6M joints, not the same.
        if stored['h36m_weight'].any() and not stored['name'].startswith(b'mpi_inf_3dhp/train'):
            h36m = true.h36m_joints_m - true.h36m_joints_m[0]
            np.testing.assert_allclose(stored['h36m_joints_m'], h36m, atol=2e-3)
    assert labelled > 5 * len(pairs)


@pytest.mark.parametrize('name', NAMES)
def test_every_record_mirrored_twice_is_itself(built, name):
    for _, stored in pairs_of(built, name):
        twice = augment.mirror_record(augment.mirror_record(stored))
        for field in record.FEATURES:
            np.testing.assert_allclose(twice[field], stored[field], atol=1e-3, err_msg=field)


@pytest.mark.parametrize('name', NAMES)
def test_a_crop_of_a_record_is_the_crop_of_its_photo(built, name):
    """The crops of stored regions differ from those of whole photos by JPEG noise, at the ends of the
    augmentation.
    """
    import cv2

    draws = (
        augment.Augmentation(),
        augment.Augmentation(scale=1.3, rotation_degrees=45, mirror=True),
        augment.Augmentation(scale=0.7, rotation_degrees=-60),
    )
    changes = []
    for true, stored in pairs_of(built, name):
        photo = cv2.imread(str(true.photo))[..., ::-1]
        whole = stored | record.whole_photo(photo.shape[1], photo.shape[0])
        for drawn in draws:
            of_photo = augment.make_example(whole, drawn, crop_size=128, image=np.ascontiguousarray(photo))
            of_region = augment.make_example(stored, drawn, crop_size=128)
            changes.append(np.abs(of_photo['image'].astype(float) - of_region['image']).mean())
            for field in of_photo.keys() - {'image'}:
                np.testing.assert_array_equal(of_photo[field], of_region[field], err_msg=field)
    assert max(changes) < 2.0 and np.mean(changes) < 1.0


@pytest.fixture(scope='module')
def mixed(built, tmp_path_factory):
    """(configuration, result) of a run on four datasets that nothing interrupted."""
    config = mixed_config.get_config()
    config.data.root = str(built.root)
    config.workdir = str(tmp_path_factory.mktemp('mixed') / 'whole')
    return config.lock(), evaluate.evaluate(config, train.train(config))


def test_a_mixed_run_is_scored(mixed):
    """Four datasets in the paper's proportions; three sets in one table."""
    config, result = mixed
    rows = [row for (kind, _), row in figures(config.workdir).items() if kind == 'train']
    shares = {name: np.mean([row[f'share_{name}'] for row in rows]) for name in config.data.mixture}
    for name, share in config.data.mixture.items():
        assert shares[name] == pytest.approx(share, abs=0.08), shares

    scored = {row['dataset'] for row in result['rows']}
    assert scored == {'human36m', 'pw3d', 'mpi_inf_3dhp'}
    for row in result['rows']:
        assert 'open_body' in row['protocol'] and np.isfinite(row['mpjpe_mm'])
    folder = pathlib.Path(config.workdir)
    written = json.loads((folder / 'evaluation.json').read_text())
    assert len(written['rows']) == len(result['rows'])
    assert (folder / 'evaluation.csv').exists() and (folder / 'evaluation.md').exists()


@pytest.mark.slow  # tests/test_training.py kills a run on one dataset
def test_a_mixed_run_is_killed_and_resumed(mixed, tmp_path):
    """Killed -9 and resumed, a run on four datasets equals the whole one."""
    config, _ = mixed
    process = helpers.run_python(
        '-m',
        'hybrik_jax.main',
        '--config=tests/mixed_config.py',
        f'--config.workdir={tmp_path}',
        f'--config.data.root={config.data.root}',
    )
    metrics, end = tmp_path / 'metrics.jsonl', time.monotonic() + 900
    while not (metrics.exists() and len(read_metrics(metrics)) > 4):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    again = config.copy_and_resolve_references()
    again.workdir = str(tmp_path)
    train.train(again)
    whole, killed = figures(config.workdir), figures(tmp_path)
    assert whole.keys() == killed.keys()
    for at, row in whole.items():
        assert killed[at] == pytest.approx(row, rel=1e-6), at


@pytest.mark.skipif(not SAMPLE.is_dir(), reason='the real photo is not in this clone')
def test_the_real_photo_builds(tmp_path):
    """MSCOCO's own annotation file of one photo: everybody with keypoints becomes a record whose joints are
    on it.
    """
    build_dataset.main(
        [
            'coco',
            '--data-root',
            str(SAMPLE),
            '--split',
            'validation',
            '--out',
            str(tmp_path / 'coco'),
            '--workers',
            '0',
        ]
    )
    source = store.open_split(tmp_path / 'coco', 'validation')
    assert len(source) >= 1
    for stored in source:
        example = augment.make_example(stored, augment.Augmentation(), crop_size=256)
        assert (example['uvd_weight'][:, :2].any(1)).sum() >= 4 and example['image'].std() > 10


@pytest.mark.slow  # a minute of compilation
def test_roots_of_a_rootnet_in_the_published_tables(built, tmp_path):
    """A RootNet is trained on 3D and 2D people, scored by itself, and its roots place another network's
    people: from its run, from the root file of `tools.find_roots`, and moved by what was planted.
    """
    of_roots = mixed_config.get_config()
    of_roots.update_from_flattened_dict(
        {'data.root': str(built.root), 'workdir': str(tmp_path / 'rootnet'), 'num_epochs': 1}
    )
    of_roots.model.lifting = 'rootnet'
    of_roots.data.mixture = {'human36m': 0.5, 'coco': 0.5}
    of_roots.evaluation.update(parameters=('raw',), flips=(False,), allow_other_body=False)
    own = {row['dataset']: row for row in evaluate.evaluate(of_roots, train.train(of_roots))['rows']}
    assert own.keys() == set(of_roots.evaluation.datasets)

    people = small_run.run_config(small_run.write_run(tmp_path / 'people', built.root), built.root)
    people.evaluation.update(
        datasets=of_roots.evaluation.datasets,
        parameters=('raw',),
        flips=(False,),
        allow_other_body=True,
        root='predicted',
        root_file=of_roots.workdir,
    )
    by_run = all_rows(evaluate.evaluate(people))
    for name in own:
        file = tmp_path / f'roots_{name}.json'
        find_roots.find_roots(str(built.root / name), of_roots.workdir, str(file), parameters='raw')
    source = store.open_split(built.root / 'pw3d', 'test')
    planted = {augment.text(one['name']): (1000 * one['root_m'] + [30, -40, 120]).tolist() for one in source}
    (tmp_path / 'roots_pw3d.json').write_text(json.dumps(planted))
    people.evaluation.root_file = str(tmp_path / 'roots_{dataset}.json')
    by_file = all_rows(evaluate.evaluate(people))
    for name, row in own.items():
        assert by_run[name]['root'] == 'predicted (RootNet run rootnet, step 4, tail parameters)'
        assert by_file[name]['root'].startswith(f'predicted (roots_{name}.json')
        assert 'mpjpe_mm' not in row and by_file[name]['mpjpe_mm'] > 0 and by_run[name]['mrpe_mm'] > 0
        wanted = {measure: row[measure] for measure in row if measure.startswith('mrpe')}
        if name == 'pw3d':
            wanted = {'mrpe_mm': 130, 'mrpe_x_mm': 30, 'mrpe_y_mm': 40, 'mrpe_z_mm': 120}
        assert {measure: by_file[name][measure] for measure in wanted} == pytest.approx(wanted, abs=0.01)


def all_rows(result):
    """The row over all frames of each dataset."""
    return {row['dataset']: row for row in result['rows'] if row['group'] == 'all'}
