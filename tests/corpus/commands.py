"""Bad roots, boxes, runs, configurations and options."""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

from configs import default
from hybrik_jax import config as configuration
from hybrik_jax.photo import Request, frame
from hybrik_jax.predict import Predictor
from hybrik_jax.scoring import roots_and_boxes
from tests.corpus.binary import folder_named, pipe
from tests.corpus.entry import Entry, file
from tests.corpus.photos import JPEG, NO_RUN
from tests.corpus.published import DEEP, HUGE, Raw, dumped
from tools import build_dataset, import_torch, predict, report, view_dataset

FOUND = {
    'nested': (Raw(DEEP), 'nested more than 64 deep'),
    'cut off': (Raw('{"a": [1, 2'), 'no whole JSON'),
    'a number': (3, 'neither an object nor a list'),
    'a text for a root': ({'a': 'near'}, "entry 'a'"),
    'two numbers': ({'a': [1, 2]}, "entry 'a'"),
    'NaN': (Raw('{"a": [1, 2, NaN]}'), "entry 'a'"),
    'a huge integer': ({'a': [0, 0, HUGE]}, "entry 'a'"),
    'a large exponent': (Raw('{"a": [0, 0, 1e999]}'), "entry 'a'"),
    'metres': ({'a': [0.1, 0.2, 4.1]}, "entry 'a'"),
    'an image of a list': ([{'image_id': [1], 'root_cam': [0, 0, 4000]}], 'entry 0'),
    'a path without end': ([{'file_name': 'a/' * 200_000, 'root_cam': [0, 0, 4000]}], 'entry 0'),
    'an entry of a text': (['a'], 'entry 0'),
    'a name twice': ([{'name': 'a', 'root_cam': [0, 0, 4000]}] * 2, 'entry 1'),
    'a name of a number': ([{'name': 5, 'root_cam': [0, 0, 4000]}], 'entry 0'),
}  # fmt: skip
BOXES = {
    'nested': (Raw(DEEP), 'nested more than 64 deep'),
    'cut off': (Raw('{"photo.jpg": [[1, 2'), 'no whole JSON'),
    'a list': ([1], 'holds no object'),
    'another photo': ({'other.jpg': []}, 'other.jpg'),
}
REQUESTS = {
    'a box of texts': ({'boxes': [['a', 'b', 'c', 'd']]}, 'boxes='),
    'a box of huge integers': ({'boxes': [[HUGE] * 4]}, 'boxes='),
    'a box of no size': ({'boxes': [[1, 2, 0, 5]]}, 'The box 1,2,0,5'),
    'a box outside': ({'boxes': [[1000, 2, 5, 5]]}, 'The box 1000,2,5,5'),
    'a box of NaN': ({'boxes': [[float('nan'), 2, 5, 5]]}, 'The box nan,2,5,5'),
    'a focal length of a text': ({'intrinsics': 'far'}, 'intrinsics='),
    'a focal length of 1e30': ({'intrinsics': 1e30}, 'focal length 1e+30'),
    'a centre without end': ({'intrinsics': [500, 500, float('inf'), 0]}, 'principal point'),
    'a depth of 1e30': ({'root_depth_m': 1e30}, 'root depth 1e+30'),
    'a depth of a text': ({'root_depth_m': 'far'}, 'root_depth_m='),
    'depths of two': ({'root_depth_m': [3.0, 4.0]}, 'root_depth_m'),
    'no enlargement': ({'enlargement': 0.0}, 'enlargement=0'),
}
OPTIONS = {
    'focal length of nothing': (['--focal', '0'], '--focal'),
    'negative focal length': (['--focal=-5'], '--focal'),
    'focal length of NaN': (['--focal', 'nan'], '--focal'),
    'focal length of 1e30': (['--focal', '1e30'], '--focal'),
    'focal length in words': (['--focal', 'far'], '--focal'),
    'depth of nothing': (['--root-depth', '0'], '--root-depth'),
    'depth of 1e30': (['--root-depth', '1e30'], '--root-depth'),
    'depth in words': (['--root-depth', 'far'], '--root-depth'),
    'box of three numbers': (['--box', '1,2,3'], '--box'),
    'box in words': (['--box', 'a,b,c,d'], '--box'),
    'unknown format': (['--formats', 'fbx'], '--format '),
    'two boxes': (['--box', '1,2,3,4', '--boxes', 'boxes.json'], '--box'),
}
KEYS = {
    'data.workers': -1,
    'batch_size': 0,
    'image_size': 10**9,
    'model.lifting': 'magic',
    'model.backbone.depth': 33,
    'evaluation.parameters': ('best',),
    'body': 7,
    'data.mixture': {'synthetic': -1.0},
}
COMMANDS = {
    'build/negative workers': (
        build_dataset.main, ['coco', '--data-root', '.', '--workers', '-1'], '--workers'
    ),
    'build/no quality': (build_dataset.main, ['coco', '--data-root', '.', '--quality', '0'], '--quality'),
    'build/nowhere': (build_dataset.main, ['coco', '--data-root', '/nowhere'], '/nowhere'),
    'build/two bodies': (
        build_dataset.main, ['coco', '--data-root', '.', '--open-body', '--body', 'x.pkl'], '--open-body'
    ),
    'build/official without body': (
        build_dataset.main, ['pw3d', '--data-root', '.', '--official'], '--official needs --body'
    ),
    'view/nothing to show': (view_dataset.main, ['/nowhere', '-n', '0'], '-n 0'),
    'view/nowhere': (view_dataset.main, ['/nowhere'], '/nowhere'),
    'view/annotations nowhere': (
        view_dataset.main, ['--annotations', 'coco', '--root', '/nowhere'], '/nowhere'
    ),
}  # fmt: skip


def json_file(name: str, content: Any) -> Callable[[pathlib.Path], pathlib.Path]:
    """What writes JSON."""
    return file(name, content.text if isinstance(content, Raw) else dumped(content))


def root(path: pathlib.Path) -> None:
    """Reads a file of roots, as an evaluation does."""
    roots_and_boxes.Found(path, 'root')


def command(*options: str) -> Callable[[pathlib.Path], None]:
    """The command of prediction on a good photo."""

    def call(path: pathlib.Path) -> None:
        photo = file('photo.jpg', JPEG)(path.parent)
        given = [str(path) if one == 'FILE' else one for one in options]
        predict.main([str(photo), '--checkpoint', NO_RUN, *given])

    return call


def asked(changes: dict[str, Any]) -> Callable[[pathlib.Path], None]:
    """What the predictor does first with a request."""
    return lambda path: frame(Request(photo=path, **changes), 64)


def checked(key: str, value: Any) -> Callable[[Any], None]:
    """What a program does first with a configuration."""

    def call(_: Any) -> None:
        config = default.get_config()
        with config.unlocked():
            inside = config
            for part in key.split('.')[:-1]:
                inside = inside[part]
            inside._fields[key.split('.')[-1]] = value
        configuration.check(config, devices=1, hosts=1)

    return call


def imported_with(path: pathlib.Path) -> int:
    """Imports weights with a configuration."""
    sys.argv = ['import_torch', 'no.pth', '--out', str(path.parent / 'run'), '--config', str(path)]
    return import_torch.main()


def reported(path: pathlib.Path) -> None:
    """Makes the report of a run."""
    report.run([str(path.parent)])


def load(folder: pathlib.Path) -> None:
    """Loads a predictor."""
    Predictor.load(folder)


def half_a_run(name: str, inside: str = '') -> Callable[[pathlib.Path], pathlib.Path]:
    """What makes the folder of a run with one thing in it."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        (folder / 'run').mkdir()
        if inside:
            (folder / 'run' / name / inside).mkdir(parents=True)
        else:
            (folder / 'run' / name).write_text('no folder')
        return folder / 'run'

    return make


def entries() -> list[Entry]:
    """Returns all of them."""
    found = []
    for name, (content, says) in FOUND.items():
        found.append(Entry(f'roots/{name}', json_file('roots.json', content), root, ('roots.json', says)))
    found.append(Entry('roots/pipe', pipe('roots.json'), root, ('roots.json', 'this is a pipe')))
    for name, (content, says) in BOXES.items():
        made = json_file('boxes.json', content)
        found.append(Entry(f'boxes/{name}', made, command('--boxes', 'FILE'), ('boxes.json', says)))
    found.append(
        Entry('boxes/pipe', pipe('boxes.json'), command('--boxes', 'FILE'), ('boxes.json', 'a pipe'))
    )
    photo = file('photo.jpg', JPEG)
    for name, (changes, says) in REQUESTS.items():
        found.append(Entry(f'request/{name}', photo, asked(changes), (says,)))
    for name, (options, says) in OPTIONS.items():
        found.append(Entry(f'option/{name}', photo, command(*options), (says,), 12))
    for name, (call, options, says) in COMMANDS.items():
        wanted = 12 if says.startswith('-') else 1
        found.append(Entry(name, lambda _: None, lambda _, c=call, o=options: c(o), (says,), wanted))
    for key, value in KEYS.items():
        found.append(Entry(f'key/{key}', lambda _: None, checked(key, value), (key,), 2))
    found += [
        Entry('run/nowhere', lambda folder: folder / 'run', load, ('run', 'holds no checkpoints')),
        Entry('run/a file', file('run', 'no folder'), load, ('run', 'is a file', 'tools.import_torch')),
        Entry('run/checkpoints are a file', half_a_run('checkpoints'), load, ('run', 'no checkpoints')),
        Entry(
            'run/an unfinished checkpoint', half_a_run('checkpoints', 'x.tmp'), load, ('run', 'no finished')
        ),
        Entry('config/pipe', pipe('config.py'), imported_with, ('config.py', 'this is a pipe')),
        Entry('config/folder', folder_named('config.py'), imported_with, ('config.py', 'this is a folder')),
        Entry('config/syntax', file('config.py', 'def get_config(:'), imported_with, ('config.py',)),
        Entry('config/nothing', file('config.py', 'x = 1'), imported_with, ('config.py', 'get_config')),
        Entry('report/nested', file('evaluation.json', DEEP), reported, ('evaluation.json', 'nested')),
        Entry(
            'report/cut off', file('evaluation.json', '{"a"'), reported, ('evaluation.json', 'no whole JSON')
        ),
        Entry('report/a list', file('evaluation.json', '[1]'), reported, ('evaluation.json', 'a list')),
    ]
    return found
