"""Writes miniature datasets in the formats in which the real ones are published, with people whose truth is
known.

The people are the free body in library poses, drawn into small photos (`people.py`); nothing in them is
licensed data. Each writer takes the dataset's own folder and how many photos the splits shall have, and
returns the `Truth`:

    truth = miniature.write_human36m(folder / 'h36m', train=6, test=6, seed=0)
    truth['test']           # what a reader yields, in the order of the file
    truth.left_out('test')  # what it has to skip, each with its reason

The same seed gives the same files. What each dataset has of odd cases is said at its writer.
"""

import pathlib

from tests.miniature.lab import write_human36m, write_mpi_inf_3dhp
from tests.miniature.people import Camera, TruePerson, Truth
from tests.miniature.street import write_coco, write_pw3d, write_pw3d_official

FOLDERS = {'human36m': 'h36m', 'mpi_inf_3dhp': '3dhp', 'pw3d': 'pw3d', 'coco': 'coco'}

__all__ = [
    'FOLDERS',
    'Camera',
    'TruePerson',
    'Truth',
    'write_all',
    'write_coco',
    'write_human36m',
    'write_mpi_inf_3dhp',
    'write_pw3d',
    'write_pw3d_official',
]


def write_all(data_root: pathlib.Path, *, train: int = 6, test: int = 6, seed: int = 0) -> dict[str, Truth]:
    """Writes all four below `data_root`, in the folders that HybrIK's users have; 3DPW in both of its forms.

    Returns the truth by dataset; that of 3DPW's sequence files is 'pw3d_official'. COCO's second split is
    'validation'.
    """
    root = pathlib.Path(data_root)
    return {
        'human36m': write_human36m(root / FOLDERS['human36m'], train=train, test=test, seed=seed),
        'mpi_inf_3dhp': write_mpi_inf_3dhp(root / FOLDERS['mpi_inf_3dhp'], train=train, test=test, seed=seed),
        'pw3d': write_pw3d(root / FOLDERS['pw3d'], train=train, test=test, seed=seed),
        'pw3d_official': write_pw3d_official(
            root / FOLDERS['pw3d'], train=train, test=test, validation=min(test, 2), seed=seed
        ),
        'coco': write_coco(root / FOLDERS['coco'], train=train, validation=test, seed=seed),
    }
