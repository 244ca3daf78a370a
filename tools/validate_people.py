"""Says what is wrong with a file of people of your own (the schema is in docs/datasets.md).

usage: python -m tools.validate_people people.json

Prints the first 20 problems with file, record and field; the exit status is 1 where there are any.
"""

import argparse
import sys

from hybrik_jax.datasets.readers import custom


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('file', help='the JSON file, or a folder with train.json, validation.json, test.json')
    parser.add_argument('--limit', type=int, default=20, help='stop after so many problems')
    args = parser.parse_args()
    problems = custom.validate(args.file, limit=args.limit)
    for problem in problems:
        print(problem)
    if len(problems) >= args.limit:
        print(f'There may be more: these are the first {args.limit}.')
    if not problems:
        print(f'{args.file}: nothing is wrong.')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
