"""The region that is stored of a photo: it holds all that any crop shows, at bounded size, and changes no
target.
"""

import cv2
import numpy as np
import pytest
import simplejpeg

from hybrik_jax.data import augment, record
from hybrik_jax.data.augment import Augmentation
from hybrik_jax.datasets import region
from tests.helpers import person


@pytest.fixture(scope='module')
def photo():
    """A photo (1000, 1150, 3) that is smooth but for some grain, as a photo that was a JPEG is."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (50, 58, 3), np.uint8)
    large = cv2.resize(small, (1150, 1000), interpolation=cv2.INTER_CUBIC).astype(float)
    photo = np.clip(large + rng.normal(0, 2, large.shape), 0, 255).astype(np.uint8)
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(photo, quality=95))


def whole(box, photo):
    """A record of a person in `box` whose image is the photo, and the same with its region cut."""
    height, width = photo.shape[:2]
    one = (
        person(1)
        | record.whole_photo(width, height)
        | {'box': np.float32(box), 'box_enlargement': np.float32(1.25)}
    )
    one['joints_px'] = one['joints_px'] * np.float32([5, 5, 1])
    return one, one | region.cut(photo, one['box'], 1.25)


def coded_again(photo):
    """The photo after one more JPEG coding whose blocks lie elsewhere."""
    shifted = np.ascontiguousarray(np.roll(photo, (3, 5), (0, 1)))
    again = simplejpeg.decode_jpeg(
        simplejpeg.encode_jpeg(shifted, quality=region.QUALITY, colorsubsampling='444')
    )
    return np.roll(again, (-3, -5), (0, 1))


EXTREMES = [
    Augmentation(),
    Augmentation(scale=1.3, rotation_degrees=45),
    Augmentation(scale=1.3, rotation_degrees=-60, mirror=True),
    Augmentation(scale=0.7, rotation_degrees=20, mirror=True),
    Augmentation(scale=1.1, rotation_degrees=-10, occlusion=(520, 480, 600, 560, 3)),
]
BOXES = {
    'small': (500, 400, 560, 520),
    'at the corner': (0, 0, 120, 200),
    'at the other corner': (1049, 800, 1149, 999),
    'medium': (400, 300, 600, 700),
    'large': (300, 100, 700, 900),
    'all of it': (0, 0, 1149, 999),
}


@pytest.mark.parametrize('box', BOXES.values(), ids=BOXES)
@pytest.mark.parametrize('drawn', EXTREMES, ids=str)
def test_a_crop_of_the_region_is_the_crop_of_the_photo(photo, box, drawn):
    """Targets are the same to the bit; pixels change less than by coding the photo as JPEG once more.

    Very large people are stored smaller: their crops, which pass over pixels of the photo, become smoother.
    """
    one, cut = whole(box, photo)
    truth = augment.make_example(one, drawn, crop_size=256, image=photo)
    of_jpeg = augment.make_example(one, drawn, crop_size=256, image=coded_again(photo))
    of_region = augment.make_example(cut, drawn, crop_size=256)
    for name in truth.keys() - {'image'}:
        np.testing.assert_array_equal(truth[name], of_region[name], err_msg=name)
    if drawn.occlusion:  # the noise has the region's grain
        return

    def change(example):
        return np.abs(truth['image'].astype(float) - example['image']).mean()

    limit = 1.1 * change(of_jpeg) + 0.05 if cut['region_scale'] == 1 else 3.0
    assert change(of_region) < limit


@pytest.mark.parametrize('box', BOXES.values(), ids=BOXES)
def test_its_size_is_bounded(photo, box):
    _, cut = whole(box, photo)
    largest = region.LARGEST_SIDE * region.LARGEST_SCALE * 2**0.5 + 32
    assert cut['region_size'].max() <= largest
    decoded = augment.decode_jpeg(cut)
    assert decoded.shape[1::-1] == tuple(cut['region_size'])


@pytest.mark.parametrize('box', BOXES.values(), ids=BOXES)
def test_mirrored_twice_it_is_where_it_was(photo, box):
    _, cut = whole(box, photo)
    twice = augment.mirror_record(augment.mirror_record(cut))
    for name in record.FEATURES:
        np.testing.assert_allclose(twice[name], cut[name], atol=2e-4, err_msg=name)


def test_a_photo_that_is_all_needed_keeps_its_own_bytes(photo):
    small = np.ascontiguousarray(photo[:200, :230])
    encoded = simplejpeg.encode_jpeg(small, quality=70)
    cut = region.cut(small, np.float32([10, 10, 210, 190]), 1.25, encoded=encoded)
    assert cut[record.IMAGE] == encoded and cut['region_scale'] == 1


def test_an_occluder_covers_the_same_place(photo):
    one, cut = whole(BOXES['large'], photo)
    drawn = Augmentation(occlusion=(420, 380, 560, 520, 3))
    covered = []
    for of in (one, cut):
        image = photo if of is one else None
        plain = augment.make_example(of, Augmentation(), crop_size=256, image=image)['image'].astype(int)
        example = augment.make_example(of, drawn, crop_size=256, image=image)
        covered.append(np.abs(example['image'] - plain).max(-1) > 40)
    first, second = (cv2.morphologyEx(c.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5))) for c in covered)
    assert (first != second).mean() < 0.01 and first.mean() > 0.01


@pytest.mark.parametrize(
    ('content', 'message'),
    [(b'', 'no image'), (b'no picture at all', 'no image'), (None, 'damaged')],
)
def test_what_is_no_photo_is_named(tmp_path, photo, content, message):
    path = tmp_path / 'person.jpg'
    path.write_bytes(simplejpeg.encode_jpeg(photo)[:5000] if content is None else content)
    with pytest.raises(ValueError, match=rf'person.jpg.*({message})'):
        region.read_photo(path)


def test_a_photo_that_is_no_jpeg_is_read(tmp_path, photo):
    cv2.imwrite(str(tmp_path / 'person.png'), photo[..., ::-1])
    np.testing.assert_array_equal(region.read_photo(tmp_path / 'person.png')[0], photo)
