"""Every comparison with recorded outputs is in reach of one command (the rooms' own tests run the
comparisons).
"""

import numpy as np
import pytest

from tools import compare_recorded


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing'):
        compare_recorded.compare_all(tmp_path / 'missing')


def test_an_error_over_its_tolerance_fails_and_so_does_one_that_is_no_number():
    rows = [
        ('group', 'fine', 1e-6, 1e-5),
        ('group', 'over', 2e-5, 1e-5),
        ('group', 'nan', float('nan'), 1e-5),
    ]
    assert [row[1] for row in compare_recorded.failed(rows)] == ['over', 'nan']


def test_a_changed_recording_is_noticed(golden, tmp_path, monkeypatch, capsys):
    recorded = dict(np.load(golden / 'schedule.npz'))
    recorded['learning_rate_every_100'][50] *= 1.001
    np.savez(tmp_path / 'schedule.npz', **recorded)
    only = {'schedule': compare_recorded.COMPARISONS['schedule']}
    monkeypatch.setattr(compare_recorded, 'COMPARISONS', only)
    monkeypatch.setattr('sys.argv', ['compare_recorded', '--golden', str(tmp_path)])
    assert compare_recorded.main() == 1
    assert 'OVER' in capsys.readouterr().out
    monkeypatch.setattr('sys.argv', ['compare_recorded', '--golden', str(golden)])
    assert compare_recorded.main() == 0


def test_the_table_covers_every_recorded_file(golden):
    covered = ('lbs', 'ik_', 'model_', 'loss', 'schedule', 'metrics', 'crop_')
    assert all(path.name.startswith(covered) for path in golden.glob('*.npz'))
