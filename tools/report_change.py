"""Before and after, for the report of a run that began with a trained network (`pretrained.network`)."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybrik_jax import bundled
from hybrik_jax.detect import DetectorFunction
from hybrik_jax.evaluate import PRETRAINED
from hybrik_jax.predict import Predictor
from hybrik_jax.view import report

Pictures = Sequence[tuple[str, np.ndarray]]


def load_before(
    config: Mapping[str, Any], detector: DetectorFunction | None, options: Mapping[str, Any]
) -> Predictor | None:
    """Returns the predictor of the network that a run began with; None of a run that began otherwise.

    Args:
        config: the run's, nested dicts.
        options: of the run's own predictor, of which the choice of a checkpoint is not its.
    Raises:
        FileNotFoundError: that network is gone.
    """
    named = (config.get('pretrained') or {}).get('network')
    if not named:
        return None
    shared = {name: options[name] for name in ('flip', 'body', 'h36m_regressor', 'root') if name in options}
    return Predictor.load(None if named == bundled.NAME else named, detector=detector, **shared)


def change(
    before: Predictor,
    after: Predictor,
    evaluations: tuple[Mapping[str, Any], Mapping[str, Any]],
    examples: tuple[Sequence[report.Example], Sequence[report.Example]],
    pictures: tuple[Pictures, Pictures],
) -> report.Change:
    """Returns what the report says of two networks.

    Args:
        evaluations: of both, as evaluation.json holds them; {} where there is none.
        examples: the same test images, predicted by both.
        pictures: of the same photos, captions and pictures.
    """
    folder = before.run.folder
    name = "the package's network" if folder == bundled.FILE else pathlib.Path(folder).stem
    titles = (
        f'before: {name}, {before.parameters} parameters',
        f'after {after.run.step} more updates: {after.parameters} parameters',
    )
    scored = [
        _row(evaluation, parameters, after.flip)
        for evaluation, parameters in zip(evaluations, (PRETRAINED, after.parameters), strict=True)
    ]
    rows = []
    if all(scored):
        rows = [{'parameters': title} | _measures(row) for title, row in zip(titles, scored, strict=True)]
    constants = evaluations[1].get('constant_prediction') or {}
    constant = constants.get(scored[1].get('dataset'), {}) if rows else {}
    return report.Change(
        said=_said(scored, after.flip) if rows else 'There are no figures of both on the same test images.',
        rows=rows,
        constant=constant,
        examples=list(zip(*examples, strict=True)),
        pictures=[
            (f'{title.partition(":")[0]}: {caption}', picture)
            for pair in zip(*pictures, strict=False)
            for title, (caption, picture) in zip(titles, pair, strict=True)
        ],
    )


def _row(evaluation: Mapping[str, Any], parameters: str, flip: bool) -> Mapping[str, Any]:
    """Returns the figures of all frames of the first dataset, {} where there are none."""
    for row in evaluation.get('rows') or []:
        mine = row.get('parameters') == parameters and row.get('flip_test') == flip
        if mine and row.get('group', 'all') == 'all' and 'mpjpe_mm' in row:
            return row
    return {}


def _measures(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key.endswith('_mm')}


def _said(scored: Sequence[Mapping[str, Any]], flip: bool) -> str:
    """Returns in a sentence what changed, and on what."""
    one, other = (float(row['mpjpe_mm']) for row in scored)
    moved = abs(other - one)
    how = f'{moved:.1f} mm {"lower" if other < one else "higher"}' if moved >= 0.05 else 'the same'
    return (
        f'On the {scored[1].get("frames", "")} test images of {scored[1].get("dataset", "the run")}, '
        f'{"with" if flip else "without"} flip test, MPJPE is {how} after than before '
        f'({100 * other / one:.1f} % of it).'
    )
