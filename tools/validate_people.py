"""Checks people's own data (docs/datasets.md, "Your own data") and says what is in it.

usage: python -m tools.validate_people FILE.json or FOLDER
Prints what is wrong, one line each with file, record and field; the exit status is 1 where there is anything.
"""

import argparse
import collections
import sys

from hybrik_jax.datasets.annotation import AnnotatedPerson, Skipped
from hybrik_jax.datasets.readers import custom


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('file', help='the JSON file, or a folder with train.json, validation.json, test.json')
    parser.add_argument('--limit', type=int, default=20, help='stop after so many problems')
    outside = "photos_root and coco.file may lie outside of the file's folder, photos outside of that"
    parser.add_argument('--allow-outside', action='store_true', help=outside)
    headers = 'do not decode the photos, as a build does: look at their headers'
    parser.add_argument('--headers-only', action='store_true', help=headers)
    args = parser.parse_args(arguments)
    sys.stdout.reconfigure(errors='backslashreplace')
    problems, counts, left_out = 0, collections.Counter(), collections.Counter()
    options = {'allow_outside': args.allow_outside, 'headers_only': args.headers_only}
    for item in custom.examine(args.file, **options):
        if isinstance(item, AnnotatedPerson):
            split = item.name.split('/')[1]
            counts.update((split, label) for label in ('people', *labels_of(item)))
        elif isinstance(item, Skipped):
            left_out[item.reason] += 1
        else:
            print(item)
            problems += 1
            if problems >= args.limit:
                print(f'There may be more: these are the first {args.limit}.')
                break
    if not problems:
        print(f'{args.file}: nothing is wrong.')
        if args.headers_only:
            print('Of the photos only the headers were read: a build decodes them and may find damage.')
        for split in custom.SPLITS:
            has = [f'{count} {label}' for (of, label), count in counts.items() if of == split]
            print(f'{split}: {", ".join(has)}') if has else None
        for reason, count in left_out.items():
            print(f'left out: {count} {reason}')
    return 1 if problems else 0


def labels_of(person: AnnotatedPerson) -> list[str]:
    """Returns what is labelled of a person, in words."""
    labels = person.labels
    there = {
        'with joints on the photo': labels['joints_px_weight'].any(),
        'with 3D joints': labels['joints_weight'].any() or labels['h36m_weight'].any(),
        'with pose and shape': labels['smpl_weight'] > 0,
        'with camera and root': labels['camera_weight'] > 0,
    }
    return [name for name, is_there in there.items() if is_there]


if __name__ == '__main__':
    sys.exit(main())
