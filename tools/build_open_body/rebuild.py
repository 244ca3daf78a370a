"""Makes open_body.npz, garments.npz and poses.npz again from CC0 assets and compares them with the package's.

usage: python -m tools.build_open_body.rebuild --out FOLDER
Takes 2.5 minutes of one core. README.md of this folder says what to install.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from hybrik_jax.synthetic.posed_body import ASSETS
from tools.build_open_body import build_garments, build_open_body, fit_posedirs, mpfb_assets, pose_sampler

FILES = ('open_body.npz', 'garments.npz', 'poses.npz')


def rebuild(out: Path) -> None:
    """Writes the three files to the folder `out`.

    Raises:
        ValueError: where an asset is not as expected.
    """
    mpfb_assets.verify()
    out.mkdir(parents=True, exist_ok=True)
    body = out / 'open_body.npz'
    with tempfile.TemporaryDirectory() as folder:
        uncorrected = Path(folder) / 'without_posedirs.npz'
        build_open_body.build(uncorrected)
        fit_posedirs.fit(uncorrected, body)
    build_garments.build(body, out / 'garments.npz')
    pose_sampler.write(out / 'poses.npz', body)


def differences(made: Path, expected: Path) -> dict[str, float]:
    """Returns the largest difference of every array of two .npz files; inf where shapes or texts differ."""
    with np.load(made) as a, np.load(expected) as b:
        out = {name: np.inf for name in set(a.files) ^ set(b.files)}
        for name in sorted(set(a.files) & set(b.files)):
            x, y = a[name], b[name]
            if x.shape != y.shape or x.dtype != y.dtype:
                out[name] = np.inf
            elif x.dtype.kind == 'U':
                out[name] = 0.0 if (x == y).all() else np.inf
            else:
                out[name] = float(np.abs(x.astype(float) - y.astype(float)).max(initial=0.0))
    return out


def main() -> None:
    """Rebuilds, then prints the largest difference of every array."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder, made if missing')
    out = parser.parse_args().out
    rebuild(out)
    for name in FILES:
        print(name, 'largest differences from the file of the package:')
        for key, value in differences(out / name, ASSETS / name).items():
            print(f'  {key:<28}{value:.3g}')


if __name__ == '__main__':
    main()
