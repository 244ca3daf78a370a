"""Builds the dataset of synthetic people.

usage: python -m tools.build_synthetic --out data/synthetic --train 20000 --validation 500 --test 1000
Takes about 40 ms of one core and 10 kB per image.
"""

import argparse
import os


def main() -> None:
    """Builds what the command line says and prints what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', required=True, help='folder, made if missing')
    for split in ('train', 'validation', 'test'):
        parser.add_argument(
            f'--{split}', type=int, required=True, metavar='N', help='images; 0: no such split'
        )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--size', type=int, default=256, help='height and width of the photos, pixels')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes; the result is the same'
    )
    args = parser.parse_args()
    from hybrik_jax.synthetic.builder import build  # here: the worker processes import this file too

    build(
        args.out,
        train=args.train,
        validation=args.validation,
        test=args.test,
        seed=args.seed,
        size=args.size,
        workers=args.workers,
    )


if __name__ == '__main__':
    main()
