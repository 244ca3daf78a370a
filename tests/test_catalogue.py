"""The catalogue: every dataset has what it needs; published protocols are for SMPL."""

import pathlib
import subprocess
import sys

import pytest

from hybrik_jax import catalogue
from hybrik_jax.body import skeleton, smpl
from hybrik_jax.catalogue import DATASETS
from hybrik_jax.scoring import protocols

ROOT = pathlib.Path(__file__).parents[1]


def test_entries_are_complete():
    """What is said of a dataset fits together: its name, its marks and files, joints of SMPL."""
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        on_photos = catalogue.scored_on_photos(name)
        assert dataset.protocol.name == (protocols.TWO_D.name if on_photos else name)
        assert set(dataset.protocol.required) <= set(dataset.protocol.measures) <= set(protocols.MEASURES)
        assert bool(dataset.folder) == bool(dataset.files) == bool(dataset.marks)
        assert set(dataset.joints) <= set(range(skeleton.NUM_JOINTS))
    folders = [dataset.folder for dataset in DATASETS.values() if dataset.folder]
    assert len(set(folders)) == len(folders) >= 4


def test_occlusion_is_the_papers():
    expected = {'human36m': (0.3, 2.0), 'pw3d': (0.3, 2.0), 'coco': (0.7, 3.3), 'mpi_inf_3dhp': (0.0, 2.0)}
    assert expected.items() <= catalogue.occlusion().items()
    assert not {'custom', 'synthetic'} & set(catalogue.occlusion())


def test_the_catalogue_needs_no_jax_and_no_reader():
    code = 'import sys, hybrik_jax.catalogue as _; '
    code += "print([name for name in sys.modules if name == 'jax' or name.startswith('hybrik_jax.datasets')])"
    out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'


@pytest.mark.parametrize('name', ['human36m', 'mpi_inf_3dhp', 'pw3d'])
def test_published_names_are_for_smpl(name):
    assert catalogue.SMPL_NAME == smpl.SMPL_NAME
    assert catalogue.protocol_of(name, 'SMPL') == DATASETS[name].protocol
    with pytest.raises(ValueError, match=f"'{name}' is a published protocol.*'{name}-like \\(open_body\\)'"):
        catalogue.protocol_of(name, 'open_body (CC0)')
    variant = catalogue.protocol_of(name, 'open_body (CC0)', allow_other_body=True)
    assert variant.name == f'{name}-like (open_body)' and variant.measures == DATASETS[name].protocol.measures
    assert catalogue.protocol_of(name, 'SMPL', allow_other_body=True).name == name


def test_coco_is_scored_on_photos():
    assert [name for name in (*DATASETS, 'somebody') if catalogue.scored_on_photos(name)] == ['coco']


def test_other_datasets_have_their_own_name():
    for name in ('synthetic', 'custom', 'somebody'):
        protocol = catalogue.protocol_of(name, 'open_body (CC0)')
        assert protocol.name == name and protocol.measures == DATASETS['synthetic'].protocol.measures
