"""The dataset viewer: joints, boxes and meshes land on the right pixels, odd labels are pointed out."""

import re

import cv2
import numpy as np
import pytest

from hybrik_jax import catalogue
from hybrik_jax.body import skeleton
from hybrik_jax.body.projection import project
from hybrik_jax.data import augment, record
from hybrik_jax.datasets import record_check, region
from hybrik_jax.view import sheet
from tests import helpers, test_custom
from tools import view_dataset

GREY = np.full((300, 300, 3), 128, np.uint8)


class NoBody:
    """A body model of a name that no record has."""

    class body:  # noqa: N801
        name = 'another'


class Sticks:
    """Stands for the body: a small tetrahedron at joint 0."""

    class body:  # noqa: N801
        name = 'open_body (CC0)'
        faces = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 3], [0, 3, 1], [1, 2, 3], [1, 3, 2]])

    def vertices(self, quaternions, betas):
        return 0.05 * np.array([[0, -1, 0], [1, 1, 0], [-1, 1, 0], [0, 0, 1.0]])


def entry_of(one, drawn=None, body=None):
    drawn = drawn or augment.Augmentation()
    return view_dataset.record_entry(one, drawn, crop_size=64, body=body or NoBody())


def changed(picture, ground):
    return (picture != ground).any(-1)


def centroid(mask):
    return np.argwhere(mask).mean(0)[::-1]


def test_joints_are_discs_rings_or_absent():
    joints = np.zeros((29, 2))
    joints[1], joints[2], joints[16] = (100, 50), (200, 50), (150.5, 200)
    valid, known = np.zeros(29, bool), np.zeros(29, bool)
    valid[1], known[2] = True, True
    drawn = sheet.draw_joints(GREY, joints, valid, known=known)
    mask = changed(drawn, GREY)
    assert drawn[50, 100].tolist() == list(sheet.LEFT)
    assert mask[44:57, 194:207].any() and not mask[50, 200]  # a ring is empty inside
    assert not mask[180:220].any() and (GREY == 128).all()
    joints[3] = np.nan
    valid[3] = True
    assert (sheet.draw_joints(GREY, joints, valid, known=known) == drawn).all()


def test_bones_join_valid_joints_in_the_colour_of_their_side():
    joints = np.zeros((29, 2))
    joints[17], joints[19], joints[21] = (50, 50), (250, 50), (250, 250)
    valid = np.zeros(29, bool)
    valid[[17, 19]] = True
    drawn = sheet.draw_joints(GREY, joints, valid, known=np.isin(np.arange(29), [21]))
    assert drawn[50, 150].tolist() == list(sheet.RIGHT)
    assert not changed(drawn, GREY)[150, 250]


@pytest.mark.parametrize('side', [64, 300, 1000])
@pytest.mark.parametrize('scale', [1.0, 0.5])
def test_annotations_land_on_the_stored_region(side, scale):
    labels = record.blank()
    offset = np.array([20.0, 30.0])
    labels['joints_px'][15] = [*(np.array([side * 0.5, side * 0.25]) / scale + offset), 0]
    labels['joints_px_weight'][15] = 1
    labels['box'] = np.array([*offset, *(offset + (side - 1) / scale)])
    image = np.full((side, side, 3), 128, np.uint8)
    drawn = sheet.draw_annotation(image, labels, offset=offset, scale=scale)
    factor = drawn.shape[0] / side
    assert sheet.SMALLEST <= drawn.shape[0] <= sheet.LARGEST
    middle = changed(drawn, 128)[10:-10, 10:-10]
    wanted = (np.array([side * 0.5, side * 0.25]) + 0.5) * factor - 0.5
    np.testing.assert_allclose(centroid(middle) + 10, wanted, atol=1)
    assert changed(drawn, 128)[6:-6, :6].any(1).all()  # the box


@pytest.mark.parametrize('rotation', [0.0, 35.0])
@pytest.mark.parametrize('mirror', [False, True])
def test_joints_and_mesh_follow_the_augmentation(rotation, mirror):
    one = helpers.person(3)
    one['joints_px_weight'][1:] = 0
    one['joints_px'][1:] = 0
    drawn = augment.Augmentation(scale=1.2, rotation_degrees=rotation, mirror=mirror)
    example = augment.make_example(one, drawn, crop_size=64)
    entry = entry_of(one, drawn, Sticks())
    pictures = dict(entry.pictures)
    wanted = (example['uvd'][0, :2] + 0.5) * 64 * 4  # pictures are four times as large
    plain = sheet.to_picture(example['image'])[0]
    np.testing.assert_allclose(centroid(changed(pictures['crop'], plain)), wanted, atol=2)
    mesh = changed(pictures['crop with the body of pose and betas'], plain)
    np.testing.assert_allclose(centroid(mesh), wanted, atol=6)


def test_mesh_with_unequal_focal_lengths_projects_as_the_camera_does():
    affine = augment.crop_affine((90, 80), 120, 25, 256)
    focal, centre = np.array([300.0, 240.0]), np.array([100.0, 70.0])
    point = np.array([[0.1, 0.05, 3.0]])
    tetrahedron = 0.02 * Sticks().vertices(None, None) / 0.05 + point
    crop = np.full((256, 256, 3), 128, np.uint8)
    camera = {'focal': focal, 'centre': centre, 'photo_to_crop': affine}
    drawn = sheet.draw_mesh(crop, tetrahedron, Sticks.body.faces, **camera)
    photo = project(point, focal, centre)[0]
    np.testing.assert_allclose(centroid(changed(drawn, crop)), affine[:, :2] @ photo + affine[:, 2], atol=2)


def test_meshes_of_another_body_are_not_drawn():
    entry = entry_of(helpers.person(0))
    assert [caption for caption, _ in entry.pictures] == ['crop', 'stored region, box, joints']
    said = entry.facts['mesh']
    assert said == "not drawn: pose and betas are of 'open_body (CC0)', 'another' is loaded (--body)"


def test_records_without_a_camera_or_3d(tmp_path):
    entry = entry_of(helpers.without_3d(helpers.person(1)))
    facts = entry.facts
    assert facts['camera'] == 'not known' and 'bones' not in facts
    assert 'u, v 29/29; depth 0/29; 3D 0/29' in facts['weights'] and 'SMPL 0' in facts['weights']
    placeless = helpers.person(2, camera_weight=0.0)
    assert entry_of(placeless, body=Sticks()).pictures[1][0] == 'body (no camera to place it)'


def test_the_real_body_is_drawn_where_the_person_is():
    one = helpers.person(4)
    entry = entry_of(one, body=view_dataset.BodyPictures())
    caption, picture = entry.pictures[1]
    assert caption == 'crop with the body of pose and betas'
    plain = sheet.to_picture(augment.make_example(one, augment.Augmentation(), crop_size=64)['image'])[0]
    mask = changed(picture, plain)
    assert 0.02 < mask.mean() < 0.6
    pelvis = (augment.make_example(one, augment.Augmentation(), crop_size=64)['uvd'][0, :2] + 0.5) * 256
    assert np.abs(centroid(mask) - pelvis).max() < 60


def test_labels_that_look_wrong_are_pointed_out():
    labels = record.blank() | {'width': 100, 'height': 100, 'camera_weight': 1.0, 'focal': [100, 100]}
    standing = test_custom.SMPL - test_custom.ROOT
    labels['joints_m'][:24], labels['joints_weight'][:24] = standing, 1
    labels['root_m'] = np.array([0, 0, 3.0])
    facts, warnings = sheet.describe(labels)
    assert 'thighs 38 / 38' in facts['bones'] and not warnings
    _, warnings = sheet.describe(
        labels | {'joints_m': 1000 * labels['joints_m'], 'root_m': np.array([0, 0, 3000.0])}
    )
    assert any('thighs of 38' in text for text in warnings) and any(
        '3e+03 m from the camera' in t for t in warnings
    )


def test_bones_that_differ_between_left_and_right():
    labels = record.blank()
    labels['joints_m'][:24], labels['joints_weight'][:24] = test_custom.SMPL - test_custom.ROOT, 1
    hip, knee, shoulder, elbow, wrist = 1, 4, 16, 18, 20
    for first, second in ((hip, knee), (shoulder, elbow)):  # as far apart as MPI-INF-3DHP's own labels are
        joints = labels['joints_m'].copy()
        joints[second] = joints[first] + 1.4 * (joints[second] - joints[first])
        joints[[j for j in (7, 10) if second == knee]] += joints[second] - labels['joints_m'][second]
        joints[[j for j in (20, 22) if second == elbow]] += joints[second] - labels['joints_m'][second]
        assert sheet.describe(labels | {'joints_m': joints})[1] == []
    swapped = labels['joints_m'].copy()
    swapped[[elbow, wrist]] = swapped[[wrist, elbow]]
    assert any('upper arms differ' in text for text in sheet.describe(labels | {'joints_m': swapped})[1])
    one_in_mm = labels['joints_m'].copy()
    one_in_mm[knee] *= 1000
    assert any('thighs of' in text for text in sheet.describe(labels | {'joints_m': one_in_mm})[1])


def test_page_is_self_contained(tmp_path):
    entries = [
        sheet.Entry('<one> & only', [('crop', GREY), ('gone', None)], {'a': '<b>'}, ['odd "label"']),
        entry_of(helpers.person(5)),
    ]
    path = sheet.write_sheet(
        tmp_path / 'new' / 'sheet.html', title='a < b', entries=entries, facts={'n': '2'}
    )
    page = path.read_text()
    assert '&lt;one&gt; &amp; only' in page and '&lt;b&gt;' in page and 'odd &#34;label&#34;' in page
    assert not re.search(r'(src|href)="(?!data:image/jpeg;base64,)', page) and '<script' not in page
    assert page.count('<img ') == 3 and page.count('class="blank"') == 1
    assert [p.name for p in path.parent.iterdir()] == ['sheet.html']
    empty = sheet.write_sheet(tmp_path / 'empty.html', title='none', entries=[])
    assert 'nothing to show' in empty.read_text()


def cut_record(person):
    """The record of an annotated person with a photo."""
    photo, encoded = region.read_photo(person.photo)
    labels = person.labels
    cut = region.cut(
        photo, labels['box'], float(labels['box_enlargement']), encoded=encoded, largest_side=100
    )
    texts = {'name': person.name, 'dataset': 'custom', 'body': '', 'sequence': '', 'action': ''}
    return labels | cut | texts


def test_regions_made_smaller_show_joints_where_the_photo_has_them(tmp_path):
    path = test_custom.write(tmp_path, [test_custom.entry()])
    person = test_custom.only(path)
    photo = np.full((test_custom.HEIGHT, test_custom.WIDTH, 3), 90, np.uint8)
    head = np.rint(person.labels['joints_px'][15, :2]).astype(int)
    cv2.circle(photo, head.tolist(), 6, (250, 250, 250), -1)
    cv2.imwrite(str(person.photo), photo)
    one = cut_record(person)
    assert one['region_scale'] < 1
    record_check.check(one)
    one['joints_px_weight'][[j for j in range(29) if j != 15]] = 0
    one['joints_px'][[j for j in range(29) if j != 15]] = 0
    entry = entry_of(one)
    for name, picture in entry.pictures:
        bright = (picture > 200).all(-1)
        bright[-1] = False
        joint = (picture == np.array(sheet.side_colour(15))).all(-1)
        ring = bright & ~joint
        assert joint.any() and ring.any(), name
        np.testing.assert_allclose(centroid(joint), centroid(bright | joint), atol=1.5, err_msg=name)


def test_annotations_are_viewed_without_building(tmp_path, capsys):
    people = [
        test_custom.entry(name='<a>'),
        test_custom.entry(name='b'),
        test_custom.entry(photo='gone.jpg', name='c'),
    ]
    path = test_custom.write(tmp_path, people)
    out = tmp_path / 'sheet.html'
    view_dataset.main(['--annotations', 'custom', '--root', str(path), '-n', '5', '--out', str(out)])
    assert '3 examples' in capsys.readouterr().out
    page = out.read_text()
    assert page.count('<img ') == 2 and 'gone.jpg is missing' in page and 'custom/train/&lt;a&gt;' in page
    assert 'thighs 38 / 38' in page


def test_built_records_are_viewed(data_root, tmp_path, capsys):
    def sheet_of(*arguments):
        out = tmp_path / 'sheet.html'
        view_dataset.main([str(data_root / 'synthetic'), '-n', '2', '--out', str(out), *arguments])
        assert capsys.readouterr().out == f'2 examples: {out}\n'
        return out.read_text()

    page = sheet_of('--seed', '3')
    assert page.count('<img ') == 6 and page.count('crop with the body of pose and betas</figcaption>') == 2
    assert '24 in the split, 2 shown, seed 3' in page and '256 pixels, augmented' in page
    assert 'class="warning"' not in page and 'lower legs' in page
    assert sheet_of('--seed', '3') == page != sheet_of('--seed', '4')
    plain = sheet_of('--no-augmentation')
    assert plain.count('scale 1.00, rotation 0 degrees, not mirrored, occlusion none') == 2


def test_what_the_command_line_refuses(tmp_path, capsys):
    for arguments in ([], ['data', '--annotations', 'coco', '--root', 'x'], ['--annotations', 'coco']):
        with pytest.raises(SystemExit):
            view_dataset.main(arguments)
        assert 'or --annotations NAME --root DIR' in capsys.readouterr().err
    for arguments in (['-n', '0'], ['-n', '-3'], ['--among', '0'], ['--seed', '-1']):
        with pytest.raises(SystemExit):
            view_dataset.main([str(tmp_path), *arguments])
        assert 'at least 1' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='no finished dataset'):
        view_dataset.main([str(tmp_path)])
    with pytest.raises(SystemExit, match='no.json is no file'):
        view_dataset.main(['--annotations', 'custom', '--root', str(tmp_path / 'no.json')])


def test_readers_of_the_viewer_are_those_there_are():
    assert set(view_dataset.READERS) == {name for name, one in catalogue.DATASETS.items() if not one.drawn}
    assert len(view_dataset.READERS) == 5
    assert len(skeleton.EDGES) == 28
