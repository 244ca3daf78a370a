"""Bad files of people's own data: the validator says what is wrong, and then a build must not work."""

import functools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from tests import own_people as good
from tests.corpus.entry import Entry
from tests.corpus.photos import built, png
from tests.corpus.published import DEEP, HUGE, Raw, dumped
from tools import validate_people

Make = Callable[[pathlib.Path], pathlib.Path]
FLAT = [[60.0 + 2 * k, 60.0 + 5 * k, 2] for k in range(17)]
SECRET = 'root:x:0:0:nobody shall read this'


def people(changes: dict[str, Any], **fields: Any) -> Callable[[pathlib.Path], pathlib.Path]:
    """What writes two people, the second one with other fields, or a file with other fields."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        path = good.write(folder, [good.entry(), good.entry()])
        content = json.loads(path.read_text())
        content['people'][1] |= changes
        content |= fields
        path.write_text(dumped(content))
        return path

    return make


def of_coco(annotation: dict[str, Any], image: dict[str, Any] | None = None, **source: Any) -> Callable:
    """What writes a file of COCO's form beside the file that names it."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        one = {'id': 5, 'image_id': 7, 'bbox': [50, 50, 90, 120], 'keypoints': sum(FLAT, [])}
        known = {'id': 7, 'file_name': 'a.jpg', 'width': good.WIDTH, 'height': good.HEIGHT}
        content = {'images': [known | (image or {})], 'annotations': [one, one | {'id': 6} | annotation]}
        (folder / 'kp.json').write_text(dumped(content))
        coco = {'file': 'kp.json', 'skeleton': 'coco17'} | source
        return good.write(folder, None, coco=coco)

    return make


def text(content: str | bytes) -> Callable[[pathlib.Path], pathlib.Path]:
    """What writes a file of this content."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        path = good.write(folder, [])
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def secret(
    name: str, write: Callable[[pathlib.Path], pathlib.Path]
) -> Callable[[pathlib.Path], pathlib.Path]:
    """What writes own data into a folder, beside which there is something that they may not read."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        (folder / name).write_text(SECRET)
        (folder / 'mine').mkdir()
        path = write(folder / 'mine')
        (folder / 'mine' / 'photos' / 'elsewhere').symlink_to(folder)
        (folder / 'mine' / 'link.json').symlink_to(folder / name)
        return path

    return make


def with_photo(name: str, content: bytes | None, **changes: Any) -> Callable[[pathlib.Path], pathlib.Path]:
    """What writes people of whom the second one has this photo; None: a pipe."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        path = people({'photo': name, **changes})(folder)
        if content is None:
            os.mkfifo(folder / 'photos' / name)
        else:
            (folder / 'photos' / name).write_bytes(content)
        return path

    return make


def cut_jpeg(folder: pathlib.Path) -> pathlib.Path:
    """A photo that is cut off behind its header, whose size is said."""
    path = people({'photo': 'cut.jpg', 'photo_size': [good.WIDTH, good.HEIGHT]})(folder)
    (folder / 'photos' / 'cut.jpg').write_bytes((folder / 'photos' / 'a.jpg').read_bytes()[:-400])
    return path


def corners_of_one_split(folder: pathlib.Path) -> pathlib.Path:
    """Boxes that are corners in one split, outnumbered by those of another one."""
    x, y, w, h = good.BOX
    train = [good.entry() for _ in range(5)]
    test = [good.entry(box=[x, y, x + w, y + h], split='test') for _ in range(3)]
    return good.write(folder, [*train, *test])


SECOND = 'people[1]'
BAD = {
    'keypoints that are a number': (people({'keypoints_2d': 5}), SECOND, 'keypoints_2d'),
    'points that are a number': (
        people({'keypoints_2d': {'skeleton': 'coco17', 'points': 3}}), SECOND, 'points'
    ),
    'a name that is a number': (people({'name': 17}), SECOND, 'name'),
    'a name of a list': (people({'name': ['anna']}), SECOND, 'name'),
    'a huge integer in a box': (people({'box': [HUGE, 1, 2, 3]}), SECOND, 'box'),
    'a large exponent in a box': (people({'box': Raw('[1e999, 1, 2, 3]')}), SECOND, 'box'),
    'NaN in a box': (people({'box': Raw('[NaN, 1, 2, 3]')}), SECOND, 'box'),
    'a huge integer as name': (people({'name': HUGE}), SECOND, 'name'),
    'a photo that is null': (people({'photo': None}), SECOND, 'photo'),
    'half a character': (people({'photo': Raw('"\\ud800.jpg"')}), SECOND, 'photo'),
    'a misspelt field': (people({'bocks': 1}), SECOND, 'bocks'),
    'an unknown split': (people({'split': 'dev'}), SECOND, 'split'),
    'a person that is a number': (people({}, people=[4]), 'people[0]', 'must be an object'),
    'people that are an object': (people({}, people={}), 'people', 'must be a list'),
    'another format': (people({}, format='people 2'), 'format', "'people 2'"),
    'nobody': (text('{"format": "hybrik_jax people 1", "people": []}'), 'people', 'there is nobody'),
    'nested': (people({'extra': Raw(DEEP)}), 'nested more than 64 deep', ''),
    'cut off': (text('{"format": "hybrik_jax people 1", "people": ['), 'no whole JSON', ''),
    'binary': (text(b'\x93NUMPY\x01\x00v\x00'), 'is a NumPy array, not JSON', ''),
    'a joint map of texts': (people({}, skeletons={'mine': {'count': 'six'}}), 'skeletons', 'six'),
    'a root that is missing': (people({}, photos_root='nowhere'), 'photos_root', 'there is no folder'),
    'a root elsewhere': (people({}, photos_root='/usr'), 'photos_root', '--allow-outside'),
    'a photo elsewhere': (
        secret('secret.jpg', people({'photo': '../../secret.jpg'})), SECOND, 'outside of photos_root'
    ),
    'a photo behind a link': (
        secret('secret.jpg', people({'photo': 'elsewhere/secret.jpg'})), SECOND, 'outside of photos_root'
    ),
    'a COCO file elsewhere': (
        secret('secret.json', of_coco({}, file='../secret.json')), 'coco.file', '--allow-outside'
    ),
    'a COCO file behind a link': (
        secret('secret.json', of_coco({}, file='link.json')), 'coco.file', '--allow-outside'
    ),
    'a COCO file of the system': (of_coco({}, file='/etc/passwd'), 'coco.file', '--allow-outside'),
    'a COCO id of a list': (of_coco({'id': [1]}), 'annotations[1]', 'id'),
    'a huge COCO id': (of_coco({'id': HUGE}), 'annotations[1]', 'id'),
    'a COCO image of none': (of_coco({'image_id': 8}), 'annotations[1]', 'image_id'),
    'COCO keypoints of a number': (of_coco({'keypoints': 5}), 'annotations[1]', 'points'),
    'a COCO photo elsewhere': (of_coco({}, {'file_name': '/etc/passwd'}), 'annotations[0]', 'photo'),
    'a COCO width in words': (of_coco({}, {'width': 'wide'}), 'annotations[0]', 'photo_size'),
    'a photo that is a pipe': (with_photo('pipe.jpg', None), SECOND, 'pipe.jpg'),
    'a photo that is a bomb': (with_photo('bomb.png', png(60_000, 60_000)), SECOND, 'bomb.png'),
    'a photo of another size': (people({'photo': 'b.png', 'photo_size': [320, 240]}), SECOND, 'photo_size'),
    'a photo that is cut off': (cut_jpeg, SECOND, 'cut.jpg'),
    'corners in one split': (corners_of_one_split, 'people[5]', 'box'),
}  # fmt: skip
GOOD = {
    'people': people({}),
    'of COCO': of_coco({}),
    'named and sized': people({'name': 'anna', 'photo_size': [good.WIDTH, good.HEIGHT], 'split': 'test'}),
    'a cross of splits': people({'split': 'validation', 'extra': [1]}),
    'crowds beside a person': of_coco({'iscrowd': 1}),
}


def validated(*given: str | pathlib.Path) -> int:
    """Runs the validator."""
    return validate_people.main([*map(str, given)])


def entries() -> list[Entry]:
    """Returns all bad own data, each for the validator."""
    found = []
    for name, (make, *says) in BAD.items():
        file = 'kp.json' if says[0].startswith('annotations') else 'people.json'
        found.append(Entry(f'own/{name}', make, validated, (file, *says), 2))
    outside = functools.partial(validated, '--allow-outside')
    unread = secret('secret.json', of_coco({}, file='../secret.json'))
    found.append(
        Entry('own/an allowed COCO file that is none', unread, outside, ('secret.json', 'no whole JSON'))
    )
    return found


def pairs() -> list[tuple[str, Callable, Callable]]:
    """Returns every own file, good and bad: name, how it is made, and how it is built."""
    makes = {name: make for name, (make, *_) in BAD.items()} | GOOD
    return [(name, make, functools.partial(built)) for name, make in makes.items()]
