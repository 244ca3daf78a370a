"""Pictures and the report: meshes land on the right pixels, and the page stands alone whatever is missing."""

import dataclasses
import html.parser
import math
import os
import re

import numpy as np
import pytest

from hybrik_jax.view import curves, render, report


def sphere(middle_m, radius_m, rings=24):
    """Vertices and faces of a sphere, counter-clockwise from outside."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.arange(2 * rings) * np.pi / rings, indexing='ij'
    )
    vertices = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1)
    index = np.arange(vertices[..., 0].size).reshape(polar.shape)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    c, d = index[1:], np.roll(index[1:], -1, axis=1)
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return np.asarray(middle_m) + radius_m * vertices.reshape(-1, 3), faces


def centroid(coverage):
    rows, columns = np.indices(coverage.shape)
    return np.array([(columns * coverage).sum(), (rows * coverage).sum()]) / coverage.sum()


GREY = np.full((64, 96, 3), 128, np.uint8)


@pytest.mark.parametrize('pixel', [(20, 30), (70.5, 12.25)])
@pytest.mark.parametrize('focal', [100.0, (100.0, 160.0)])
def test_mesh_is_centred_on_its_pixel(pixel, focal):
    centre, z = np.array([47.0, 33.0]), 4.0
    ray = (np.array(pixel) - centre) / np.broadcast_to(focal, 2)
    vertices, faces = sphere([*(ray * z), z], 0.02)  # about a pixel across
    _, coverage = render.shade_mesh(vertices, faces, focal=focal, centre=centre, height=64, width=96)
    assert coverage.sum() > 0
    assert np.abs(centroid(coverage) - pixel).max() < 0.3  # half a sample of the 2x2 supersampling
    vertices, faces = sphere([*(ray * z), z], 0.2)
    rgb, coverage = render.shade_mesh(vertices, faces, focal=focal, centre=centre, height=64, width=96)
    assert np.abs(centroid(coverage) - pixel).max() < 0.1
    fx, fy = np.broadcast_to(focal, 2)
    # The outline of a sphere off the axis is an ellipse, a little longer than its radius says.
    assert coverage.sum() == pytest.approx(math.pi * fx * fy * (0.2 / z) ** 2, rel=0.06)
    assert rgb.min() >= 0 and rgb.max() <= 1 and coverage.max() == 1


def test_overlay_leaves_the_rest_of_the_photo():
    vertices, faces = sphere([0, 0, 3], 0.3)
    camera = {'focal': 90.0, 'centre': (47.5, 31.5)}
    drawn = render.overlay(GREY, vertices, faces, **camera)
    _, coverage = render.shade_mesh(vertices, faces, height=64, width=96, **camera)
    assert (drawn[coverage == 0] == 128).all()
    assert (drawn[coverage == 1] != 128).any(axis=-1).mean() > 0.95
    assert (render.overlay(GREY, vertices, faces, opacity=0.0, **camera) == GREY).all()
    assert (GREY == 128).all()


@pytest.mark.parametrize('z', [-3.0, 0.0, 0.1, 1e6])
def test_meshes_that_cannot_be_seen_or_touch_the_camera(z):
    vertices, faces = sphere([0, 0, z], 0.3)
    drawn = render.overlay(GREY, vertices, faces, focal=90.0, centre=(47.5, 31.5))
    assert drawn.shape == GREY.shape


def test_side_view_turns_depth_to_the_right():
    near, faces = sphere([0, 0, 3.0], 0.1)
    far, _ = sphere([0, 0, 5.0], 0.1)
    both = np.concatenate([near, far])
    one_is_large = np.concatenate([near, far + 4 * (far - far.mean(0))])
    every_face = np.concatenate([faces, faces + len(near)])
    view = render.side_view(one_is_large, every_face, size=128)
    covered = (view != np.array(render.BACKGROUND)).any(-1)
    columns = np.flatnonzero(covered.any(0))
    assert (
        covered[:, columns[-1] - 20].sum() > covered[:, columns[0] + 3].sum()
    )  # the large one was further away
    view = render.side_view(both, every_face, size=128)
    covered = (view != np.array(render.BACKGROUND)).any(-1)
    assert 0.8 * 128 < np.ptp(np.flatnonzero(covered.any(0))) < 128
    assert np.abs(centroid(covered) - 63.5).max() < 4
    assert not covered[[0, -1]].any() and not covered[:, [0, -1]].any()


def test_side_view_shows_the_ghost_in_the_same_frame():
    vertices, faces = sphere([0, 0, 3.0], 0.1)
    alone = render.side_view(vertices, faces, size=64)
    with_ghost = render.side_view(vertices, faces, size=64, ghost_vertices_m=vertices + [0, 0, 0.4])
    share = [(view != np.array(render.BACKGROUND)).any(-1).mean() for view in (alone, with_ghost)]
    assert share[1] < 0.5 * share[0]  # both fit in, so each is smaller


def test_skeleton_skips_joints_that_are_not_finite():
    joints = np.array([[10.0, 10.0], [80.0, 50.0], [np.nan, 3.0], [1e9, 2.0]])
    drawn = render.draw_skeleton(GREY, joints, [(0, 1), (1, 2), (0, 3)])
    changed = (drawn != GREY).any(-1)
    assert changed[10, 10] and changed[50, 80] and changed[30, 45]
    assert not changed[:6].any()


def test_skeleton_has_a_colour_for_each_joint_and_rings_without_bones():
    joints, colours = np.array([[20.0, 32.0], [50.0, 32.0], [80.0, 32.0]]), np.eye(3)
    drawn = render.draw_skeleton(
        GREY, joints, [(0, 1), (1, 2)], colour=colours, rings=np.array([False, False, True])
    )
    assert drawn[32, 20].tolist() == [255, 0, 0]
    assert np.abs(drawn[32, 35] - [0, 255, 0.0]).max() < 20  # the bone, its edge softened
    changed = (drawn != GREY).any(-1)
    assert not changed[32, 80] and changed[:, 74:86].any()  # empty inside
    assert not changed[:, 60:70].any()  # no bone


def test_side_view_from_the_front_shows_what_the_camera_sees():
    vertices, faces = sphere([0, 0, 3.0], 0.1)
    wide = vertices * [3, 1, 1]
    covered = (render.side_view(wide, faces, size=90, turn_degrees=0) != np.array(render.BACKGROUND)).any(-1)
    assert np.ptp(np.flatnonzero(covered.any(0))) > 2.5 * np.ptp(np.flatnonzero(covered.any(1)))
    assert np.abs(centroid(covered) - 44.5).max() < 2


def test_bad_input_is_named():
    vertices, faces = sphere([0, 0, 3], 0.3)
    camera = {'focal': 90.0, 'centre': (47.5, 31.5)}
    with pytest.raises(ValueError, match='1 of .* vertices are not finite'):
        broken = vertices.copy()
        broken[3, 1] = np.nan
        render.overlay(GREY, broken, faces, **camera)
    with pytest.raises(ValueError, match=r'pass the \(V, 3\) vertices of one person'):
        render.overlay(GREY, vertices[None], faces, **camera)
    with pytest.raises(ValueError, match='uint8 RGB'):
        render.overlay(GREY.astype(np.float32), vertices, faces, **camera)
    with pytest.raises(ValueError, match='must be positive'):
        render.overlay(GREY, vertices, faces, focal=0.0, centre=(0, 0))


# ------------------------------------------------------------ the report


def train_line(step, **changes):
    line = {
        'kind': 'train',
        'step': step,
        'loss': 3.0 / step,
        'loss_uvd': 2.0 / step,
        'loss_betas': 1.0 / step,
        'loss_twists': 0.0,
        'learning_rate': 1e-3,
        'images_per_second': 27.0,
        'step_seconds': 0.6,
        'data_wait_share': 0.02,
        'epoch': step / 100,
    }
    return line | changes


LOG = [train_line(step) for step in range(50, 50 * 801, 50)] + [
    {
        'kind': 'validation',
        'step': step,
        'mpjpe_raw_mm': 300.0 - step / 200,
        'mpjpe_ema_mm': 290.0 - step / 200,
    }
    for step in range(500, 40001, 500)
]
EVALUATION = {
    'protocol': {'joints': '14 of 17', 'root': 'annotated <root> & box'},
    'rows': [
        {
            'parameters': name,
            'flip_test': flip,
            'mpjpe_mm': 100.31 + k,
            'pa_mpjpe_mm': 60.42 + k,
            'pve_mm': 120.53 + k,
            'mpjpe_24_mm': 110.64 + k,
        }
        for k, (name, flip) in enumerate([('raw', False), ('raw', True), ('tail', False), ('ema', True)])
    ],
    'constant_prediction': {'mpjpe_mm': 331.46, 'mpjpe_24_mm': 345.57},
    'frames': 1000,
    'dataset': 'synthetic test split',
}


def example(**changes):
    vertices, faces = sphere([0.1, 0, 3], 0.3)
    one = report.Example(
        image=GREY,
        true_vertices_m=vertices,
        predicted_vertices_m=vertices + 0.05,
        faces=faces,
        focal=90.0,
        centre=(47.5, 31.5),
        error_mm=50.04,
        name='image 7',
    )
    return dataclasses.replace(one, **changes)


class Page(html.parser.HTMLParser):
    """Every tag closed in order, and everything the page refers to."""

    VOID = {'meta', 'img', 'input', 'br', 'link'}

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.tags, self.words = [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [
            v for k, v in attributes if k in ('src', 'href', 'srcset', 'action', 'xlink:href')
        ]

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != 'style':
            self.words.append(data)

    @property
    def text(self):
        return ' '.join(self.words)


def written(tmp_path, **parts):
    text = report.write_report(tmp_path / 'report.html', title='A <run>', **parts).read_text('utf-8')
    page = Page(text)
    assert all(reference.startswith('data:image/') for reference in page.references)
    assert not {'script', 'link', 'iframe', 'object'} & set(page.tags)
    assert 'url(' not in text and '@import' not in text and 'http' not in re.sub('base64,[^"]*', '', text)
    for drawn in re.findall(r'<svg.*?</svg>', text, re.S):
        assert not re.search(r'\b(nan|inf)\b', drawn), drawn[:200]
    return page


def test_whole_report(tmp_path):
    page = written(
        tmp_path,
        facts={'command': 'python -m hybrik_jax.main', 'config': {'model': {'depth': 18}}, 'device': 'CPU'},
        train_log=LOG,
        evaluation=EVALUATION,
        examples=[example(), example(error_mm=12.31)],
        pictures=[('a photo', GREY)],
        notes='One note.',
    )
    for row in [*EVALUATION['rows'], EVALUATION['constant_prediction']]:
        for value in row.values():
            assert (f'{value:.1f}' if isinstance(value, float) else str(value)) in page.text or value in (
                True,
                False,
            )
    assert report.SYNTHETIC_BANNER in page.text
    for wanted in (
        'annotated <root> & box',
        'A <run>',
        'synthetic test split',
        '50.0 mm',
        '12.3 mm',
        'image 7',
        'python -m hybrik_jax.main',
        'constant prediction, 331 mm',
        'One note.',
        '30.3%',
    ):
        assert wanted in page.text, wanted
    assert page.tags.count('img') == 2 * 4 + 1
    assert 'joint positions' in page.text and 'shape' in page.text
    assert 'twists' not in page.text  # a term that is always zero is not drawn
    assert (
        page.tags.count('svg') == 2 + 2 + 1 + 1 + 1
    )  # total and terms in two scales; validation, rate, speed


@pytest.mark.parametrize(
    ('parts', 'said'),
    [
        ({}, ['no training log.', 'no evaluation yet.', 'No test images', 'Nothing was recorded.']),
        ({'train_log': [train_line(1)]}, ['No validation was logged.']),
        ({'train_log': [{'kind': 'train', 'step': 5}]}, ['No training loss was logged.']),
        ({'train_log': LOG[-3:]}, ['Validation MPJPE', 'No training loss was logged.']),
        ({'train_log': [{'note': 'no kind'}, {'kind': 'train'}]}, ['There is no training log.']),
        ({'train_log': [train_line(s, loss=math.nan) for s in (1, 2)]}, ['by term']),
        ({'train_log': [train_line(1), train_line(2, loss=None, loss_uvd=math.inf)]}, ['left out: 1.']),
        ({'train_log': [train_line(1, loss=-1.0, learning_rate=0.0)]}, ['No finite value to draw.']),
        ({'evaluation': {'rows': [{'parameters': 'raw', 'mpjpe_mm': math.nan}]}}, ['–', 'not stated']),
        ({'evaluation': {'rows': [], 'constant_prediction': {'mpjpe_mm': 331.46}}}, ['331.5']),
        ({'evaluation': {'constant_prediction': {'mpjpe_mm': None}}, 'train_log': LOG[-3:]}, ['Validation']),
        ({'facts': {'a': None, 'b': {}, 'c': [1, 2.5], 'd': math.nan, 'e': True}}, ['1, 2.5', 'nan', 'yes']),
        (
            {'examples': [example(predicted_vertices_m=np.full((5, 3), np.nan), error_mm=math.nan)]},
            ['not finite, cannot be drawn', 'no error known'],
        ),
        ({'banner': None}, ['A <run>']),
    ],
)
def test_missing_and_broken_data(tmp_path, parts, said):
    page = written(tmp_path, **parts)
    for wanted in said:
        assert wanted in page.text, wanted


def test_resumed_run_counts_the_later_line(tmp_path):
    page = written(tmp_path, train_log=[train_line(1), train_line(2, images_per_second=5.0), train_line(2)])
    assert '27' in page.text and '16' not in page.text


@pytest.mark.parametrize('value', [0.0, 5.0, -3.0, 1e-12, 1e12])
@pytest.mark.parametrize('log_y', [False, True])
def test_chart_of_a_constant(value, log_y):
    chart = curves.line_chart([curves.Series('a', [1, 2, 3], [value] * 3)], log_y=log_y)
    assert 'nan' not in chart and 'inf' not in chart
    assert ('<path' in chart) == (value > 0 or not log_y)


def points_of(path):
    """Corners of an SVG path, (n, 2) pixels, y down."""
    return np.array(re.findall(r'[ML] (\S+) (\S+)', path), float)


def ticks_of(chart):
    """Values and heights in pixels of the labels left of the plotting area, from below."""
    found = re.findall(r'text-anchor: end[^>]* x="47" y="([^"]*)"[^>]*>([^<]*)<', chart)
    return sorted((float(text.replace('−', '-')), float(y)) for y, text in found)


@pytest.mark.parametrize(
    ('low', 'high'), [(0, 1), (0.013, 0.87), (3, 4000), (2e-7, 9e-7), (-5, 5), (99.9, 100.1)]
)
@pytest.mark.parametrize('log_y', [False, True])
def test_ticks_are_where_their_values_are(low, high, log_y):
    if log_y and low <= 0:
        low = 1e-3
    chart = curves.line_chart([curves.Series('a', [1, 30], [low, high], colour=5)], log_y=log_y)
    values, heights = np.array(ticks_of(chart)).T
    assert 2 <= len(values) <= 9
    values = np.log10(values) if log_y else values
    low, high = np.log10([low, high]) if log_y else (low, high)
    curve = re.search(r'<path d="([^"]*)" style="[^"]*stroke: var\(--c5\); stroke-width: 2', chart)[1]
    (x0, y0), (x1, y1) = points_of(curve)
    heights = heights - 4.56  # from a text's base line to its middle
    np.testing.assert_allclose(heights, y0 + (values - low) / (high - low) * (y1 - y0), atol=0.1)
    np.testing.assert_allclose([x0, x1], [curves.LEFT + (442 - 54) / 30, 442], atol=0.1)


def test_long_curves_are_thinned_and_have_a_running_mean():
    steps = np.arange(1, 20001)
    noise = np.where(steps % 2, 1.0, -1.0)
    chart = curves.line_chart([curves.Series('a', steps, 10 + noise, noisy=True)])
    pale, bold = re.findall(r'<path d="([^"]*)" style="[^"]*stroke: var\(--c0\)', chart)
    assert len(points_of(pale)) <= curves.MOST_POINTS and 'opacity: 0.3' in chart
    assert np.ptp(points_of(bold)[:, 1]) <= np.ptp(points_of(pale)[:, 1])
    broken = [5.0, np.nan, 7.0, np.inf, 9.0]
    chart = curves.line_chart([curves.Series('<a>', range(5), broken)])
    assert chart.count('stroke-width: 6') == 3 and '<title>&lt;a&gt;, step 2: 7</title>' in chart


def test_the_same_log_gives_the_same_page(tmp_path):
    one, other = (
        report.write_report(tmp_path / name, title='t', train_log=LOG, evaluation=EVALUATION)
        for name in ('a.html', 'b.html')
    )
    assert one.read_bytes() == other.read_bytes()


def test_nothing_of_the_input_becomes_a_tag(tmp_path):
    evil = '"><img src=x onerror=alert(1)></style></svg><script>x</script>'
    plain = written(tmp_path, **everything_called('harmless'))
    page = written(tmp_path, **everything_called(evil))
    assert page.tags == plain.tags
    assert page.text.count(evil) >= 10


def everything_called(text):
    """Arguments of `write_report` with `text` wherever there can be text."""
    rows = [
        {
            'parameters': text,
            'dataset': name,
            'protocol': text,
            'box': n,
            'mpjpe_mm': 9.0 + n,
            f'{text}_mm': 3.0,
        }
        for n, name in enumerate([text, text, 'other'])
    ]
    lines = [{'kind': 'train', 'step': step, f'loss_{text}': 1.0} for step in (1, 2)]
    lines += [{'kind': 'validation', 'step': 2, f'mpjpe_{text}_mm': 1.0, f'mpjpe_{text}': 2.0}]
    return {
        'facts': {text: text, 'command': text, 'a': {text: text}, 'b': [text, {text: text}]},
        'train_log': lines,
        'evaluation': {
            'protocol': {text: text},
            'rows': rows,
            'constant_prediction': {'other': {'mpjpe_mm': 5}},
        },
        'examples': [example(name=text)],
        'pictures': [(text, GREY)],
        'notes': [text],
        'banner': text,
    }


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = report.write_report(tmp_path / 'new' / 'report.html', title='first')

    def full(*_):
        raise OSError('No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space left'):
        report.write_report(path, title='second')
    assert 'first' in path.read_text('utf-8')
    assert [entry.name for entry in path.parent.iterdir()] == ['report.html']
