"""Makes the network that comes with the package of a run's: one average of its parameters, in half precision.

    python -m tools.bundle --checkpoint runs/NAME --out hybrik_jax/assets/network.npz
    python -m tools.bundle --checkpoint runs/NAME --out network.npz --parameters ema --best

Before it writes, it predicts people of the run's test split with both, and says what half precision changes.
The same run gives the same bytes. Refused is what may not be passed on under the package's licence: a network
of another body than the embedded one, or one that has seen, it or the network that it began with, anything
but synthetic people and the ImageNet weights of `hybrik_jax/export/imagenet.py`; and a file of over 16 MB.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hybrik_jax import bundled, checkpoint, compiler
from hybrik_jax import config as configuration
from hybrik_jax.data import pipeline
from hybrik_jax.ending import write_whole
from hybrik_jax.export.imagenet import PACKAGES
from hybrik_jax.predict import Predictor, synthetic_only
from hybrik_jax.scoring import metrics
from hybrik_jax.units import MM_PER_M
from tools import in_one_line
from tools.predict import open_test_split

PEOPLE = 32  # of the comparison
# What names files or folders of one machine, and what is said in its place.
_PLACES = {'data.root': 'data', 'evaluation.root_file': '', 'evaluation.box_file': ''}


def check_may_be_passed_on(config: dict[str, Any], name: str) -> None:
    """Raises ValueError where a run has seen what its network must not be passed on with.

    Args:
        config: nested dicts, complete.
        name: of the run, for messages.
    """
    backbone, network = config['pretrained']['backbone'], config['pretrained']['network']
    found = [key for key in ('body', 'h36m_regressor', 'init_betas') if config[key]]
    if found:
        why = f'it needs files with licences of their own ({", ".join(found)})'
    elif config['model']['lifting'] == 'rootnet':
        why = 'it is a RootNet, which predicts no people'
    elif not synthetic_only(config):
        why = f'it has seen {", ".join(name for name, share in config["data"]["mixture"].items() if share)}'
    elif backbone not in ('', *PACKAGES):
        why = f'its backbone is of {backbone}, whose licence nobody knows here'
    else:
        if network not in ('', bundled.NAME):
            check_may_be_passed_on(configuration.completed(checkpoint.load(network).config), network)
        return
    raise ValueError(f'{name} cannot come with the package: {why}.')


def without_places(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns a configuration (nested dicts) of the run `name` that says nothing of where things lie."""
    values = configuration.flat(config) | _PLACES | {'workdir': f'runs/{name}'}
    network = values['pretrained.network']
    if network not in ('', bundled.NAME):
        values['pretrained.network'] = f'runs/{pathlib.Path(network).name}'
    return configuration.nested(values)


def compare_mm(predictor: Predictor, half: Predictor, source: Sequence, count: int) -> dict[str, np.ndarray]:
    """Returns what the two predictors say of the same people, compared, in millimetres.

    Args:
        source: a split of labelled people; `count` evenly spaced records of it are looked at.
    Returns:
        'joints' (N, 24) and 'vertices' (N, V): how far those of one are from those of the other; 'whole' and
        'half' (N,): the error of each, that of `tools.report` over SMPL's 24 joints.
    """
    indices = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int))
    size = predictor.network.image_size
    rows = [pipeline.evaluation_example(source[int(i)], crop_size=size) for i in indices]
    batch = pipeline.to_batch(pipeline.stack(rows))
    (_, one, _), (_, other, _) = (each.forward(batch.image, batch.crop) for each in (predictor, half))
    found = {
        'joints': np.linalg.norm(one.posed_joints_m - other.posed_joints_m, axis=-1),
        'vertices': np.linalg.norm(one.vertices_m - other.vertices_m, axis=-1),
        'whole': metrics.mpjpe(one.posed_joints_m, batch.joints_m),
        'half': metrics.mpjpe(other.posed_joints_m, batch.joints_m),
    }
    return {name: MM_PER_M * np.asarray(values) for name, values in found.items()}


def run(argv: Sequence[str] | None = None) -> pathlib.Path:
    """Returns the file written for the command line `argv`; raises where it cannot be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', required=True, metavar='DIR', help='workdir of a run')
    parser.add_argument('--out', required=True, type=pathlib.Path, metavar='FILE', help='FILE.npz')
    parser.add_argument(
        '--parameters', choices=bundled.AVERAGES, help='default: tail, before it has begun ema'
    )
    parser.add_argument(
        '--best', action='store_true', help='the best checkpoint by validation, not the last one'
    )
    args = parser.parse_args(argv)
    whole = Predictor.load(args.checkpoint, parameters=args.parameters, best=args.best)
    config, name = configuration.completed(whole.run.config), whole.run.folder.name
    check_may_be_passed_on(config, str(whole.run.folder))
    content = bundled.pack(whole.run, parameters=whole.parameters, config=without_places(config, name))
    source = open_test_split(whole)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / 'network.npz'
        file.write_bytes(content)
        half_run = bundled.load(file)
    half = Predictor(half_run, whole.network, whole.body, parameters=whole.parameters, flip=whole.flip)
    compared = compare_mm(whole, half, source, PEOPLE)
    write_whole(args.out, content)
    count = sum(np.size(x) for x in jax.tree.leaves(half_run.state.parameters(whole.parameters)))
    print(
        f'{args.out}: {len(content) / 1e6:.2f} MB, {count / 1e6:.2f} M numbers, the {whole.parameters} '
        f'parameters of {name} after {whole.run.step} updates'
    )
    for what in ('joints', 'vertices'):
        far = compared[what]
        print(
            f'half precision moves {what} of {len(far)} test people by {far.mean():.3f} mm on average, '
            f'{far.max():.3f} mm at the most'
        )
    errors = [float(compared[name].mean()) for name in ('whole', 'half')]
    print('their MPJPE (24 joints): {:.2f} mm, in half precision {:.2f} mm'.format(*errors))
    return args.out


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the file that the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    compiler.set_up()
    main()
