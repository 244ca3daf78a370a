"""Hostile files of people: one line with file and place says what is wrong, in bounded time and memory."""

import json
import time
import tracemalloc

import pytest

from hybrik_jax import annotation_file, json_file
from hybrik_jax.datasets import annotation
from hybrik_jax.datasets.readers import coco, custom
from tests.own_people import HEIGHT, ROOT, WIDTH, entry, keypoints, write

DEEP = 100_000
VALUES = {
    'null': 'null',
    'object': '{}',
    'list': '[]',
    'empty text': '""',
    'negative': '-1',
    'large': '1e308',
    'NaN': 'NaN',
    'infinite': '-Infinity',
    'true': 'true',
    'text': '"\\u0007 <b>\\n"',
    'object in a list': '[{"a": [1, null]}]',
    'lists': '[[[[[[[[[[]]]]]]]]]]',
    '60 deep': '[' * 55 + ']' * 55,
    'very deep': '[' * DEEP + ']' * DEEP,
    'very deep objects': '{"a":' * DEEP + '1' + '}' * DEEP,
    'digits': '9' * 5000,
    'many digits after a point': '0.' + '9' * 5000,
    'large whole number': str(2**62),
    'large exponent': '1e999',
    'long text': f'"{"x" * 100_000}"',
    'zero in a text': '"a\\u0000b"',
    'half a pair': '"\\ud83d"',
    'the other half': '"\\udc00"',
    'bytes': '"\\\\x89PNG\\\\r"',
    'many': f'[{",".join("1" * 20_000)}]',
}
PERSON = entry(
    keypoints_2d=keypoints(),
    smpl={'pose': [[0.1, 0, 0]] * 24, 'betas': [0] * 10, 'root': ROOT.tolist()},
    photo_size=[WIDTH, HEIGHT],
    box_enlargement=1.2,
    name='anna',
    sequence='s',
    action='walk',
    split='train',
    extra=[1],
)
PERSON['joints_3d']['root'] = ROOT.tolist()
MINE = {'count': 24, 'left_knee': 4}
PEOPLE = {
    'format': custom.FORMAT, 'photos_root': 'photos', 'box_enlargement': 1.25, 'skeletons': {'mine': MINE},
    'people': [PERSON, entry()], 'extra': 1,
}  # fmt: skip
FLAT = [float(x) for point in keypoints()['points'] for x in point]
COCO = {
    'images': [{'id': 7, 'file_name': 'a.jpg', 'width': WIDTH, 'height': HEIGHT}],
    'categories': [{'id': 1, 'name': 'person', 'keypoints': ['k'] * 24}],
    'annotations': [
        {
            'id': 5,
            'image_id': 7,
            'category_id': 1,
            'iscrowd': 0,
            'area': 9.0,
            'keypoints': FLAT,
            'bbox': PERSON['box'],
        }
    ],
}
SOURCE = {
    'format': custom.FORMAT, 'photos_root': 'photos',
    'coco': {'file': 'kp.json', 'skeleton': 'smpl24', 'categories': ['person']},
}  # fmt: skip


OF_THE_FILE = ('nested more than 64 deep', 'too many digits', 'is no whole JSON', 'its top is', ', not JSON')


def places(value, path=()):
    """Yields the path of every value within a value; of a list only the first element."""
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


def mutated(content, place, raw):
    """The JSON text of a content whose value at one place is replaced by a raw text."""
    copy = json.loads(json.dumps({'': content}))
    inside = copy
    for key in ('', *place)[:-1]:
        inside = inside[key]
    inside[('', *place)[-1]] = '@@'
    return json.dumps(copy[''] if place else '@@').replace('"@@"', raw)


def check(path):
    """Asserts that a file is validated and read, or refused as it should be; returns the messages."""
    started = time.process_time()
    problems = custom.validate(path)
    messages = [str(problem) for problem in problems]
    for split in custom.SPLITS:
        try:
            assert split not in custom.splits(path) or len(list(custom.read(path, split))) > 0
        except (annotation.AnnotationError, FileNotFoundError) as error:
            messages.append(str(error))
    for message in messages:
        assert '\n' not in message and message.isprintable() and len(message) < 1500, message[:2000]
        assert str(path.parent) in message
    named = [p for p in problems if p.record or p.field]
    whole = [message for message in messages if any(text in message for text in OF_THE_FILE)]
    assert named or whole or not problems or 'kp.json' in messages[0], messages
    assert time.process_time() - started < 1, messages[:1]
    return messages


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hostile')
    write(folder, [entry()])
    return folder


@pytest.mark.parametrize('value', VALUES)
@pytest.mark.parametrize('form', ['people', 'coco', 'source'])
def test_every_field_replaced(folder, form, value):
    content = {'people': PEOPLE, 'coco': COCO, 'source': SOURCE}[form]
    path, refused = folder / 'people.json', 0
    path.write_text(json.dumps(SOURCE))
    (folder / 'kp.json').write_text(json.dumps(COCO))
    mutable = folder / ('kp.json' if form == 'coco' else 'people.json')
    assert check(path) == []
    everywhere = list(places(content))
    few = everywhere[:: len(everywhere) // 5] if value.startswith('very deep') else everywhere
    for place in few:
        mutable.write_text(mutated(content, place, VALUES[value]))
        refused += bool(check(path))
    assert refused >= len(few) / 3


@pytest.mark.parametrize('key', ['\ud800', '\udc00', '\n', '', 'x' * 100_000, '{', 'pe\\ople', '__class__'])
def test_every_object_with_another_field(folder, key):
    path = folder / 'people.json'
    for place in places(PEOPLE):
        copy = json.loads(json.dumps(PEOPLE))
        inside = copy
        for part in place:
            inside = inside[part]
        if isinstance(inside, dict):
            inside[key] = 1
            path.write_text(json.dumps(copy))
            assert check(path), place


def test_files_that_are_cut_or_garbled(folder):
    path = folder / 'people.json'
    data = json.dumps(PEOPLE).encode()
    for end in range(0, len(data) - 1, 97):
        path.write_bytes(data[:end])
        assert check(path)
    for at in range(0, len(data), 61):
        for byte in (b'\x00', b'\xff', b'"', b'\\', b'[', b'}'):
            path.write_bytes(data[:at] + byte + data[at + 1 :])
            check(path)
    for start in (
        b'\x80\x04',
        b'\x1f\x8b',
        b'\x93NUMPY',
        b'MATLAB',
        b'\x00' * 5000,
        b'[' * DEEP,
        b'{"people":' * DEEP,
    ):
        path.write_bytes(start + data)
        assert check(path)


def test_deep_nesting_takes_neither_time_nor_memory(folder):
    path = folder / 'people.json'
    for text in (
        '[' * 1_000_000,
        '{"a":' * 1_000_000,
        '{"people": ' + '[' * 1_000_000 + ']' * 1_000_000 + '}',
    ):
        path.write_text(text)
        started = time.process_time()
        tracemalloc.start()
        (problem,) = custom.validate(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 'is nested more than 64 deep' in problem.message
        assert peak < 20e6 and time.process_time() - started < 1
        for key in ('images', 'people'):
            with pytest.raises(annotation.AnnotationError, match='nested more than 64 deep'):
                list(annotation_file.stream_items(path, key))


def test_brackets_in_texts_are_no_nesting(folder):
    path = folder / 'people.json'
    for text in (
        '[' * 500_000,
        '"[' * 50_000,
        '\\"{' * 50_000,
        '\\' * 65_535 + '[' * 200,
        'x' * 65_530 + '"[[' * 99,
    ):
        path.write_text(json.dumps(PEOPLE | {'extra': text}))
        assert check(path) == [], text[:10]


def test_a_name_keeps_what_json_can_say(folder):
    name = 'Zoë \U0001f600 "NaN" \\u0041 \\\\ud800 [1'
    for ascii_only in (True, False):
        path = folder / 'people.json'
        path.write_text(json.dumps(PEOPLE | {'people': [entry(name=name)]}, ensure_ascii=ascii_only))
        (person,) = custom.read(path, 'train')
        assert person.name == f'custom/train/{name}'


def test_nan_is_found_wherever_the_reads_are_cut(tmp_path):
    class Slow:
        def __init__(self, data):
            self.data = data

        def read(self, size):
            ready, self.data = self.data[:size], self.data[size:]
            return ready

    text = b'{"a": [NaN, -Infinity,Infinity , 1e5, "NaN-Infinity", "\\ud83d\\ude00"], "NaNs": NaN}'
    for size in range(1, len(text) + 1):
        file, read = json_file._Guarded(Slow(text), tmp_path), b''
        while part := file.read(size):
            read += part
        assert json.loads(read)['a'] == [None, None, None, 1e5, 'NaN-Infinity', '\U0001f600'], size


def test_other_readers_share_the_limits(tmp_path):
    path = tmp_path / coco.DATASET.files['train']
    path.parent.mkdir(parents=True)
    path.write_text('{"images": [{"width": 9, "height": 9, "file_name": "a", "id": ' + '9' * 5000 + '}]}')
    with pytest.raises(annotation.AnnotationError, match=r'images\[0\]: id is .too large a number'):
        list(coco.read(tmp_path, 'train'))
    path.write_text('[1]')
    with pytest.raises(annotation.AnnotationError, match="has no list 'images', it is no object"):
        list(coco.read(tmp_path, 'train'))


def test_long_paths_and_devices_as_photos(folder):
    path = folder / 'people.json'
    for photo in (
        '/dev/zero',
        'x' * 10_000,
        'y/' * 5_000,
        '../' * 50 + 'dev/zero',
        'a.jpg\0',
        'endless.jpg',
        '.',
        '/',
    ):
        for sized in ({}, {'photo_size': [WIDTH, HEIGHT]}):
            path.write_text(json.dumps(PEOPLE | {'people': [entry(photo=photo) | sized]}))
            assert check(path), photo
            assert custom.validate(path, allow_outside=True)
