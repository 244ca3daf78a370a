"""The page of results: what is in it, that it needs nothing else, and folders that cannot be shown."""

import base64
import gzip
import json
import re

import cv2
import numpy as np
import pytest

from hybrik_jax.body import smpl_file
from hybrik_jax.export import motion
from hybrik_jax.view import result
from tests import motions
from tools import result_scenes, view_result

HOSTILE = '</script><script>alert("1")</script><!-- & "\' \u2028'
SIZE = motions.CAMERA.size
ABOUT = {
    'body_model': 'open_body (CC0)',
    'checkpoint': {'folder': 'runs/x', 'step': 3, 'trained_on': ['synthetic'], 'synthetic_only': True},
}
RNG = np.random.default_rng(0)


def a_person() -> dict:
    return {
        'warnings': [HOSTILE],
        'box': [10, 20, 300, 400],
        'focal': [900.0, 900.0],
        'focal_assumed': True,
        'centre': [319.5, 239.5],
        'centre_assumed': True,
        'root_depth_m': 4.0,
        'root_depth_assumed': False,
        'root_depth_by': 'RootNet',
        'camera_translation_m': [0.1, 0.2, 4.0],
        'rotations_axis_angle': RNG.normal(0, 0.3, (24, 3)).tolist(),
        'betas': [0.1] * 10,
    }


def write_photo(folder, people=None, picture='photo.jpg', **about):
    """Returns the folder, with what tools.predict writes of a photo."""
    folder.mkdir(parents=True)
    image = RNG.integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / picture), cv2.resize(image, SIZE))
    content = {'photo': f'{folder.name}.jpg', 'photo_size': SIZE} | ABOUT
    content |= {'people': [a_person(), a_person()] if people is None else people} | about
    (folder / 'prediction.json').write_text(json.dumps(content))
    return folder


def write_video(folder, count=11, name='source.mp4', size=SIZE, **about):
    """Returns the folder, with what tools.predict_video writes, and a video of this name in it."""
    folder.mkdir(parents=True)
    writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*'mp4v'), 25.0, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 20 * number, np.uint8))
    writer.release()
    motion.write_motions(folder / 'motions.npz', motions.two_people())
    content = {'source': '/nowhere/source.mp4', 'size': SIZE, 'frame_rate': 25.0, 'frames': 11} | ABOUT
    (folder / 'video.json').write_text(json.dumps(content | {'warnings': [HOSTILE]} | about))
    return folder


def page_of(folder, *options):
    """Returns the text of the page of a folder, and what its script finds in it: content, bytes of arrays."""
    text = view_result.run([str(folder), *options]).read_text('utf-8')
    content = json.loads(re.search(r'id="content">(.*?)</script>', text, re.DOTALL)[1])
    arrays = gzip.decompress(base64.b64decode(re.search(r'id="arrays">(.*?)</script>', text)[1]))
    return text, content, arrays


def array(place, data):
    return np.frombuffer(data, np.dtype(place['type']), place['count'], place['at'])


def test_a_page_holds_photo_people_and_what_is_said(tmp_path):
    _, content, arrays = page_of(write_photo(tmp_path / 'walk'))
    (scene,) = content['scenes']
    assert (content['title'], scene['name'], scene['summary']) == ('walk.jpg', 'walk.jpg', '2 people')
    assert scene['size'] == list(SIZE) and scene['frame_count'] == 1 and 'synthetic people' in scene['banner']
    jpeg = base64.b64decode(scene['pictures'][0])
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).shape == (SIZE[1], SIZE[0], 3)
    assert scene['caption'] == 'Assumed: focal length. Details say more.'
    one = scene['people'][1]
    assert one['warnings'] == [HOSTILE] and one['box'] == [10, 20, 300, 400]
    assert ['focal length, px (assumed)', '900, 900'] in one['facts']
    assert ['depth to lift the joints with, m (RootNet)', '4'] in one['facts']
    assert scene['cameras'] == [{'focal': [900, 900], 'centre': [319.5, 239.5]}]
    np.testing.assert_allclose(array(one['translation_m'], arrays), [0.1, 0.2, 4.0], rtol=1e-6)


def test_a_page_asks_for_nothing_and_texts_stay_texts(tmp_path):
    folder = write_photo(tmp_path / 'photo', photo=HOSTILE)
    text, content, _ = page_of(folder, '--title', HOSTILE)
    assert content['title'] == HOSTILE and content['scenes'][0]['name'] == HOSTILE
    assert 'alert("1")' not in text and text.count('<script') == text.count('</script>') == 4
    assert "default-src 'none'; script-src 'unsafe-inline' data:;" in text
    page = re.sub(r'(?s)<script type="importmap">.*?</script>', '', text)
    assert 'http' not in page.replace('http-equiv', '')
    assert not re.search(r'(src|href)="(?!data:)|@import|url\(', page)
    imports = json.loads(re.search(r'"importmap">(.*?)</script>', text)[1])['imports']
    wanted = r"(?m)^import .+ from '(\w+)';"
    needed = set(re.findall(wanted, text))
    for source in imports.values():
        assert source.startswith('data:text/javascript;base64,')
        needed |= set(re.findall(wanted, base64.b64decode(source.split(',')[1]).decode()))
    assert needed == imports.keys()


def test_a_video_has_its_tracks_and_says_whose_pictures_it_shows(tmp_path, capsys):
    _, content, arrays = page_of(write_video(tmp_path / 'found'))
    (scene,) = content['scenes']
    assert scene['frame_count'] == 11 and scene['frame_step'] == 1 and len(scene['pictures']) == 11
    assert scene['summary'] == '2 people · 11 frames, 25 a second' and scene['caption'].startswith('Hatched')
    assert [person['name'] for person in scene['people']] == ['ada', 'ben']
    for person, frames in zip(scene['people'], motions.FRAMES, strict=True):
        np.testing.assert_array_equal(array(person['frames'], arrays), frames)
        np.testing.assert_array_equal(array(person['filled'], arrays), frames == 4)

    _, content, _ = page_of(write_video(tmp_path / 'lost', name='overlay.mp4'))
    (scene,) = content['scenes']
    assert scene['caption'].startswith('The picture is overlay.mp4') and scene['caption'] in scene['warnings']


def test_rotations_are_kept_to_less_than_a_tenth_of_a_milliradian(tmp_path):
    from scipy.spatial.transform import Rotation

    _, content, arrays = page_of(write_video(tmp_path / 'video'))
    for person, one in zip(content['scenes'][0]['people'], motions.two_people(), strict=True):
        kept = Rotation.from_quat(array(person['quaternions'], arrays).reshape(-1, 4))
        apart = (kept.inv() * Rotation.from_matrix(one.rotations.reshape(-1, 3, 3))).magnitude()
        assert apart.max() < 1e-4


def test_the_body_is_kept_to_less_than_a_millimetre():
    body, arrays = smpl_file.load_body(), result._Arrays()
    places = result._body(body, arrays)
    for name, expected, most in (('shape', body.directions[:10], 2e-6), ('pose', body.directions[10:], 2e-4)):
        values, scales = (array(places[name][key], arrays.data) for key in ('values', 'scales'))
        kept = values.reshape(len(scales), -1, 3) * scales[:, None, None]
        assert np.abs(kept.transpose(0, 2, 1) - expected).max() < most
    np.testing.assert_array_equal(array(places['template'], arrays.data), body.v_template.ravel())
    np.testing.assert_array_equal(array(places['faces'], arrays.data), body.faces.ravel())


def test_many_photos_are_one_page_with_thumbnails(tmp_path):
    for name in 'ba':
        write_photo(tmp_path / name, people=[a_person()])
    write_photo(tmp_path / 'nobody', people=[])
    _, content, _ = page_of(tmp_path)
    assert [scene['name'] for scene in content['scenes']] == ['a.jpg', 'b.jpg', 'nobody.jpg']
    assert content['scenes'][2]['summary'] == 'nobody was found' and content['title'] == tmp_path.name
    thumbnail = base64.b64decode(content['scenes'][0]['thumbnail'])
    assert max(cv2.imdecode(np.frombuffer(thumbnail, np.uint8), 1).shape) == 160


def test_a_long_video_leaves_frames_out_and_a_large_picture_is_made_smaller():
    frames = [RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    whole = result.shrink(iter(frames), 20)
    assert (len(whole.files), whole.step, whole.size) == (20, 1, (64, 48))
    most = sum(map(len, whole.files)) // 3
    some = result.shrink(iter(frames), 20, most_bytes=most)
    assert some.step == 4 and len(some.files) == 5 and sum(map(len, some.files)) <= most
    assert list(some.files) == list(whole.files[::4])
    assert result.shrink([np.zeros((500, 1000, 3), np.uint8)], 1000).size == (480, 240)

    ada, ben = (result.Seen(one) for one in motions.two_people())
    scene = result.Scene('v', SIZE, some, [ada, ben], frame_rate=25.0, frame_count=20)
    body = smpl_file.load_body()
    content = result._scene(scene, body, arrays := result._Arrays(), several=False)
    assert content['frame_count'] == 5 and 'one frame of 4 is shown' in content['summary']
    assert [array(one['frames'], arrays.data).tolist() for one in content['people']] == [[0, 4], [4]]


def test_people_with_cameras_of_their_own_are_drawn_from_far_to_near(tmp_path):
    people = [
        a_person() | {'focal': [focal, focal], 'camera_translation_m': [0, 0, depth]}
        for focal, depth in ((500, 3), (501, 9))
    ]
    _, content, _ = page_of(write_photo(tmp_path / 'photo', people=people))
    (scene,) = content['scenes']
    assert [camera['focal'][0] for camera in scene['cameras']] == [501, 500]
    assert [person['camera'] for person in scene['people']] == [1, 0]


def damage(tmp_path, name):
    """Returns a folder that cannot be shown."""
    folder = tmp_path / 'x'
    if name == 'nothing in it':
        folder.mkdir()
    elif name == 'no picture':
        (write_photo(folder) / 'photo.jpg').unlink()
    elif name == 'another picture':
        cv2.imwrite(str(write_photo(folder) / 'photo.jpg'), np.zeros((90, 30, 3), np.uint8))
    elif name == 'no JSON':
        (write_photo(folder) / 'prediction.json').write_text('{"people": [')
    elif name == 'a list':
        (write_photo(folder) / 'prediction.json').write_text('[]')
    elif name == 'no people':
        (write_photo(folder) / 'prediction.json').write_text('{"motions": []}')
    elif name == 'a box':
        write_photo(folder, people=[a_person() | {'box': [1, 2, 'x', 3]}])
    elif name == 'another body':
        write_photo(folder, body_model='SMPL')
    elif name == 'no size':
        write_video(folder, size=SIZE, frames=-1)
    elif name == 'no video':
        (write_video(folder) / 'source.mp4').unlink()
    elif name == 'no frames':
        (write_video(folder) / 'source.mp4').write_text('no video')
    elif name == 'another video':
        write_video(folder, size=(64, 64))
    elif name == 'no motions':
        (write_video(folder) / 'motions.npz').unlink()
    return folder


@pytest.mark.parametrize(
    'name, said',
    [
        ('no folder', 'is no folder: name one that tools.predict'),
        ('nothing in it', 'holds neither prediction.json nor video.json'),
        ('no picture', 'holds neither photo.jpg nor overlay.png'),
        ('another picture', '30 x 90 pixels, the people are of a picture of 640 x 480'),
        ('no JSON', 'no whole JSON file'),
        ('a list', 'holds no object'),
        ('no people', 'has no people in it'),
        ('a box', 'is not x, y, w, h'),
        ('another body', "'SMPL', 'open_body .CC0.' is loaded: give its file as --body"),
        ('no size', 'size, frame_rate and frames must be numbers'),
        ('no video', 'overlay.mp4 is no file, a video is one'),
        ('no frames', 'source.mp4 is a text, no video'),
        ('another video', '64 x 64 pixels, the people are of a picture of 640 x 480'),
        ('no motions', 'motions.npz is no file'),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(tmp_path, name, said):
    folder = damage(tmp_path, name)
    with pytest.raises(SystemExit) as ended:
        view_result.main([str(folder)])
    assert re.search(said, ended.value.code) and '\n' not in ended.value.code
    assert not (folder / 'result.html').exists()


def test_a_foreign_body_is_said_to_be_in_the_page(tmp_path, monkeypatch, capsys):
    from hybrik_jax.body.smpl import BodyName

    body = smpl_file.load_body().replace(name=BodyName('SMPL'))
    monkeypatch.setattr(smpl_file, 'load_body', lambda path: body)
    _, content, _ = page_of(write_photo(tmp_path / 'photo', body_model='SMPL'), '--body', 'SMPL.pkl')
    warning = content['scenes'][0]['warnings'][0]
    assert "contains the body model 'SMPL'" in warning and warning in capsys.readouterr().err


def test_an_overlay_is_shown_where_there_is_no_photo(tmp_path):
    scene = result_scenes.photo_scene(write_photo(tmp_path / 'photo', picture='overlay.png'))
    assert (
        scene.caption == 'The picture is overlay.png, on which the meshes are drawn: photo.jpg is not there.'
    )
