"""The datasets that this package knows, one entry each; whoever lists datasets takes them from here.

A new dataset is an entry of `DATASETS` and a reader, see `hybrik_jax.datasets`.
"""

import dataclasses
from collections.abc import Mapping

from hybrik_jax.body import skeleton
from hybrik_jax.scoring.protocols import BODY_MEASURES, H36M_MEASURES, TWO_D, Protocol

SMPL_NAME = 'SMPL'  # as in body.smpl, which needs JAX
_READERS = 'hybrik_jax.datasets.readers'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """What there is to know about a dataset.

    name: in records, configurations, command lines and folders of built data.
    title: what its authors call it.
    reader: the module that reads it, imported by those who make records.
    drawn: there are no annotation files, its people are drawn.
    protocol: how it is scored.
    folder: its folder in a root that holds several datasets; '' where it is not one of those.
    files: split -> its annotation file in that folder.
    marks: patterns of paths that its folder has and that of no other dataset.
    joints: SMPL joint -> the point of its own skeleton that stands for it; empty where joints are SMPL's.
    occlusion: largest share of the box that an occluder covers in training, and its largest aspect; None: the
        configuration says.
    """

    name: str
    title: str
    reader: str
    protocol: Protocol
    drawn: bool = False
    folder: str = ''
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    marks: tuple[str, ...] = ()
    joints: Mapping[int, int] = dataclasses.field(default_factory=dict)
    occlusion: tuple[float, float] | None = None


_ENTRIES = (
    Dataset(
        name='human36m',
        title='Human3.6M',
        reader=f'{_READERS}.human36m',
        folder='h36m',
        files={
            'train': 'annotations/Sample_5_train_Human36M_smpl_leaf_twist_protocol_2.json',
            'test': 'annotations/Sample_20_test_Human36M_smpl_protocol_2.json',
        },
        marks=('annotations/*uman36M*.json',),
        occlusion=(0.3, 2.0),
        protocol=Protocol(
            name='human36m',
            joints='14 of the 17 Human3.6M joints (protocol 2)',
            required=('mpjpe_mm', 'pa_mpjpe_mm'),
            groups=('action',),
            mean_over='action',
        ),
    ),
    Dataset(
        name='mpi_inf_3dhp',
        title='MPI-INF-3DHP',
        reader=f'{_READERS}.mpi_inf_3dhp',
        folder='3dhp',
        files={
            'train': 'annotation_mpi_inf_3dhp_train_v2.json',
            'test': 'annotation_mpi_inf_3dhp_test.json',
        },
        marks=('annotation_mpi_inf_3dhp_*.json', 'mpi_inf_3dhp_*_set'),
        joints=skeleton.MPI_OF_SMPL,
        occlusion=(0.0, 2.0),
        protocol=Protocol(
            name='mpi_inf_3dhp',
            joints='all 17 of the test file',
            h36m_joints=tuple(range(17)),
            measures=H36M_MEASURES,
            required=H36M_MEASURES,
            groups=('sequence', 'action'),
            actions=('Stand', 'Exe', 'Sit', 'Reach', 'Floor', 'Sports', 'Miscell'),
        ),
    ),
    Dataset(
        name='pw3d',
        title='3DPW',
        reader=f'{_READERS}.pw3d',
        folder='pw3d',
        files={'train': 'json/3DPW_train_new.json', 'test': 'json/3DPW_test_new.json'},
        marks=('json/3DPW_*.json', 'imageFiles', 'sequenceFiles'),
        occlusion=(0.3, 2.0),
        protocol=Protocol(name='pw3d', required=BODY_MEASURES),
    ),
    Dataset(
        name='coco',
        title='MSCOCO',
        reader=f'{_READERS}.coco',
        folder='coco',
        files={
            'train': 'annotations/person_keypoints_train2017.json',
            'validation': 'annotations/person_keypoints_val2017.json',
        },
        marks=('annotations/person_keypoints_*.json', 'train2017', 'val2017'),
        joints=skeleton.COCO_OF_SMPL,
        occlusion=(0.7, 3.3),
        protocol=TWO_D,
    ),
    Dataset(
        name='custom',
        title='your own data',
        reader=f'{_READERS}.custom',
        protocol=Protocol(name='custom', groups=('action',)),
    ),
    Dataset(
        name='synthetic',
        title='the synthetic people',
        reader='hybrik_jax.synthetic.reader',
        drawn=True,
        protocol=Protocol(name='synthetic', groups=('action',)),
    ),
)
DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _ENTRIES}


def occlusion() -> dict[str, tuple[float, float]]:
    """Returns dataset -> (largest share of the box, largest aspect) for `config.augmentation.occlusion`."""
    return {name: dataset.occlusion for name, dataset in DATASETS.items() if dataset.occlusion}


def scored_on_photos(dataset: str) -> bool:
    """Returns whether a dataset is scored on labelled photos, not on records, which need not be built."""
    return dataset in DATASETS and DATASETS[dataset].protocol is TWO_D


def protocol_of(dataset: str, body_name: str, *, allow_other_body: bool = False) -> Protocol:
    """Returns the protocol of a dataset, known or not; a published one is scored with SMPL only.

    Args:
        dataset: as the records name it.
        allow_other_body: score a published dataset with another body than SMPL, under another name:
            'human36m-like (open_body)'.

    Raises:
        ValueError: a published protocol, and the body is not SMPL.
    """
    unpublished = Protocol(name=dataset, groups=('action',))
    protocol = DATASETS[dataset].protocol if dataset in DATASETS else unpublished
    if not protocol.required or body_name == SMPL_NAME:
        return protocol
    variant = f'{dataset}-like ({body_name.split(" (")[0]})'
    if not allow_other_body:
        raise ValueError(
            f'{dataset!r} is a published protocol, and the body model is {body_name!r}, not {SMPL_NAME!r}: '
            'its joints are other points of another mesh, and no figure made with it may carry that name. '
            'Give the SMPL file (--config.body=... --config.h36m_regressor=...), or score the unpublished '
            f'variant, {variant!r}, with --config.evaluation.allow_other_body=True.'
        )
    return dataclasses.replace(protocol, name=variant)
