"""An imported run is a run like any other: it predicts, is evaluated, trained further and exported again."""

import argparse
import runpy

import numpy as np
import pytest

from hybrik_jax import evaluate, train
from hybrik_jax.export import torch_file
from hybrik_jax.metric_writer import read_metrics
from hybrik_jax.predict import Predictor
from tools import export_torch, import_torch

CONFIG = """
from tests import small_run


def get_config():
    config = small_run.run_config({folder!r}, {data_root!r})
    config.batch_size = 4
    config.num_epochs = 1
    config.steps_per_epoch = 2
    config.tensorboard = False
    config.evaluation.flips = (False,)
    return config
"""


@pytest.fixture(scope='module')
def imported(small_run, data_root, tmp_path_factory):
    """The folder of a run that was made of what a run of ours was exported to."""
    folder = tmp_path_factory.mktemp('imported')
    exported, config, run = folder / 'model.safetensors', folder / 'config.py', folder / 'run'
    export_torch.export(str(small_run), str(exported), parameters='raw')
    config.write_text(CONFIG.format(folder=str(run), data_root=str(data_root)))
    options = argparse.Namespace(
        file=str(exported),
        out=str(run),
        config=str(config),
        body=None,
        h36m_regressor=None,
        variant=None,
        heads=8,
        right_hand='leaf',
    )
    import_torch.import_file(str(exported), str(run), options)
    return run


def test_it_predicts(imported, predictor, photo_file):
    (ours,), (theirs,) = predictor(photo_file), Predictor.load(imported)(photo_file)
    np.testing.assert_allclose(theirs.vertices_m, ours.vertices_m, atol=1e-5)
    np.testing.assert_allclose(theirs.joints_px, ours.joints_px, atol=1e-3)


@pytest.mark.slow  # a minute; each of it is tested elsewhere, of other runs
def test_it_is_evaluated_trained_further_and_exported(imported, tmp_path):
    """In this order: the run goes on from the imported weights, which two updates move a little."""
    config = runpy.run_path(str(imported / 'config.py'))['get_config']()
    before = evaluate.evaluate(config)
    assert before['step'] == 0 and {row['frames'] for row in before['rows'] if row['group'] == 'all'} == {4}
    assert (imported / 'evaluation.md').is_file()
    weights = Predictor.load(imported, parameters='raw').run.state.variables['params']
    state = train.train(config)
    assert int(state.step) == 2
    assert read_metrics(imported / 'metrics.jsonl')[-1]['step'] == 2
    kernel = state.variables['params']['lifting']['head_joints']['kernel']
    np.testing.assert_allclose(kernel, weights['lifting']['head_joints']['kernel'], atol=1e-3)
    said = export_torch.export(str(imported), str(tmp_path / 'again.pth'))
    again = torch_file.read(tmp_path / 'again.pth')
    assert 'step 2' in said and again.keys() == torch_file.read(imported.parent / 'model.safetensors').keys()
