"""Files of motions: what is written is read back, and what cannot be is named."""

import dataclasses

import numpy as np
import pytest

from hybrik_jax.export import motion
from tests import motions as people
from tests.motions import assert_same


@pytest.fixture(scope='module')
def two():
    return people.two_people()


@pytest.mark.parametrize(('end', 'atol'), [('.npz', 0), ('.json', 2e-6)])
def test_motions_are_read_back(tmp_path, two, end, atol):
    path = tmp_path / f'motions{end}'
    motion.write_motions(path, two)
    assert_same(motion.read_motions(path), two, atol)
    assert_same(motion.read_motions(tmp_path), two, atol)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (
            {'rotations': np.ones((8, 24, 3, 3))},
            'person 0: rotations holds 192 matrices that are no rotation',
        ),
        ({'rotations': -np.tile(np.eye(3), (8, 24, 1, 1))}, 'the first of pelvis in frame 0'),
        ({'rotations': np.zeros((8, 23, 3, 3))}, r'rotations must be numbers of the shape \(T, 24, 3, 3\)'),
        ({'rotations': np.tile(np.eye(3), (7, 24, 1, 1))}, 'rotations has 7 frames, frames has 8'),
        ({'betas': np.zeros(16)}, r'betas must be numbers of the shape \(10,\), it has the shape \(16,\)'),
        ({'betas': np.full(10, np.nan)}, 'betas holds 10 numbers that are not finite'),
        ({'translation_m': np.full((8, 3), 1e300)}, 'translation_m holds 24 numbers'),
        ({'translation_m': np.array([['a'] * 3] * 8)}, 'translation_m must be numbers .* something else'),
        ({'frames': np.arange(8)[::-1]}, 'frames must increase'),
        ({'frames': np.arange(8) + 0.5}, 'frames holds something but whole numbers from 0 to'),
        ({'frames': np.arange(8) - 1}, 'frames holds something but whole numbers from 0 to'),
        ({'frames': np.arange(8) * 2_000_000}, 'frames holds something but whole numbers from 0 to'),
        ({'frames': np.zeros(0, int)}, 'frames must be numbers of the shape'),
        ({'frame_rate': 0.0}, 'frame_rate must be positive'),
        ({'focal': (0.0, 1.0)}, 'focal must be positive'),
        ({'size': (0, 480)}, 'size holds something but whole numbers from 1 to'),
        ({'name': '../ada'}, "the name '../ada' cannot be"),
        ({'name': ''}, 'name must be a text'),
        ({'name': 'ben'}, "2 people are called 'ben'"),
        ({'body': 3}, 'body must be a text'),
    ],
)
def test_what_cannot_be_is_named(tmp_path, two, changes, said):
    """In writing, and in reading a file that somebody else wrote."""
    camera = {key: value for key, value in changes.items() if key in ('focal', 'size')}
    rest = {key: value for key, value in changes.items() if key not in camera}
    wrong = dataclasses.replace(two[0], **rest, camera=dataclasses.replace(two[0].camera, **camera))
    with pytest.raises(ValueError, match=said):
        motion.write_motions(tmp_path / 'wrong.npz', [wrong, two[1]])
    assert not list(tmp_path.iterdir())
    motion.write_motions(tmp_path / 'right.npz', two)
    with np.load(tmp_path / 'right.npz') as file:
        arrays = dict(file) | {f'0/{key}': value for key, value in changes.items()}
    np.savez(tmp_path / 'wrong.npz', **arrays)
    with pytest.raises(ValueError, match=f'wrong.npz.*{said}'):
        motion.read_motions(tmp_path / 'wrong.npz')


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('[]', 'is no file of motions'),
        ('{"a": 1}', 'is no file of motions'),
        ('{"motions": {}}', 'people are a list of objects'),
        ('{"motions": [3]}', 'people are a list of objects'),
        ('{"motions": [{"name": "a"}]}', 'person 0: body, focal, .* is missing'),
        ('{"people": [{}]}', 'person 0: rotations_axis_angle must be numbers'),
        ('{"motions": [{"rotations_axis_angle": [[1, 2], [3]]}]}', 'rotations_axis_angle must be numbers'),
        ('{', 'no whole JSON file'),
    ],
)
def test_json_that_is_something_else(tmp_path, content, said):
    (tmp_path / 'motions.json').write_text(content)
    with pytest.raises(ValueError, match=f'motions.json.*{said}'):
        motion.read_motions(tmp_path / 'motions.json')


def test_files_that_are_something_else(tmp_path, two):
    np.savez(tmp_path / 'prediction.npz', rotations=np.zeros(3))
    with pytest.raises(ValueError, match='give one, or of the files of tools.predict prediction.json'):
        motion.read_motions(tmp_path / 'prediction.npz')
    with pytest.raises(FileNotFoundError, match='holds none of motions.npz'):
        motion.read_motions(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'none\.npz is no file, a file of motions is one'):
        motion.read_motions(tmp_path / 'none.npz')
    with pytest.raises(ValueError, match='written as .npz or .json'):
        motion.write_motions(tmp_path / 'motions.txt', two)
