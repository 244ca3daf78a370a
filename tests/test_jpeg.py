"""A part of a JPEG file, decoded, is that part of the decoded file, whoever wrote it."""

import threading

import cv2
import numpy as np
import pytest
import simplejpeg

from hybrik_jax.data import jpeg


def picture(width: int, height: int) -> np.ndarray:
    """Returns a colourful picture (height, width, 3) uint8 with grain."""
    rng = np.random.default_rng(width)
    small = rng.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), np.uint8)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(large + rng.integers(-4, 5, large.shape), 0, 255).astype(np.uint8)


def whole(data: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)


WINDOWS = [
    (0, 0, 1, 1),
    (100, 90, 150, 101),
    (37, 5, 260, 200),
    (200, 150, 10**6, 10**6),
    (-50, -50, 20, 400),
]


@pytest.mark.parametrize('sampling', ['444', '422', '420'])
@pytest.mark.parametrize('size', [(300, 250), (304, 256), (977, 231), (17, 9)], ids=str)
def test_a_window_has_the_pixels_of_the_whole(sampling, size):
    """Bit for bit; 977 pixels are 62 units of 16 and 123 of 8: tiles of several widths."""
    data = jpeg.encode(picture(*size), 90, sampling)
    expected = whole(data)
    assert expected.shape[1::-1] == size
    for window in WINDOWS:
        x0, y0, x1, y1 = np.clip(window, 0, [*size, *size])
        image, (x, y) = jpeg.decode(data, window)
        height, width = image.shape[:2]
        assert x <= x0 and y <= y0 and x + width >= x1 and y + height >= y1, window
        part = image[y0 - y : y1 - y, x0 - x : x1 - x, :3]
        np.testing.assert_array_equal(part, expected[y0:y1, x0:x1])


def test_a_window_decodes_little():
    """At most a tile (64 x 16 pixels) and the edge are decoded around a window."""
    data = jpeg.encode(picture(960, 960), 95, '420')
    image, start = jpeg.decode(data, (300, 300, 500, 500))
    assert image.shape[0] <= 200 + 2 * 17 and image.shape[1] <= 200 + 2 * 65 and min(start) > 200


def test_restart_markers_cost_little():
    photo = picture(960, 960)
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    plain = cv2.imencode('.jpg', photo[..., ::-1], options)[1].tobytes()
    tiled = jpeg.encode(photo, 95, '420')
    np.testing.assert_array_equal(whole(tiled), whole(plain))
    assert len(tiled) < 1.02 * len(plain)


@pytest.mark.parametrize('options', [[], ['RST_INTERVAL', 5], ['PROGRESSIVE', 1, 'RST_INTERVAL', 4]], ids=str)
def test_files_of_other_writers_are_decoded_as_a_whole(options):
    names = [getattr(cv2, f'IMWRITE_JPEG_{o}') if isinstance(o, str) else o for o in options]
    data = cv2.imencode('.jpg', picture(300, 250), names)[1].tobytes()
    image, start = jpeg.decode(data, (100, 100, 120, 120))
    assert start == (0, 0)
    np.testing.assert_array_equal(image[..., :3], whole(data))


def test_a_file_in_grey_has_three_equal_channels():
    data = cv2.imencode('.jpg', picture(64, 48)[..., 0])[1].tobytes()
    image, _ = jpeg.decode(data, (10, 10, 20, 20))
    assert image.shape == (48, 64, 4) and (np.ptp(image[..., :3], axis=-1) == 0).all()


def test_what_is_cut_off_is_refused():
    data = jpeg.encode(picture(300, 250), 90)
    for window in (None, (100, 100, 120, 120)):
        with pytest.raises(ValueError):
            jpeg.decode(data[: len(data) // 2], window)
    with pytest.raises(ValueError):
        jpeg.decode(b'no picture', (0, 0, 5, 5))


def test_threads_do_not_share_memory():
    """Each thread's image stays while another thread decodes."""
    files = [jpeg.encode(np.full((300, 300, 3), level, np.uint8), 90) for level in (10, 200)]
    both = threading.Barrier(2)
    right = []

    def decode(which):
        for _ in range(20):
            image, _ = jpeg.decode(files[which], (50, 50, 200, 200))
            both.wait(timeout=60)
            right.append(np.abs(image[..., :3].astype(int) - (10, 200)[which]).max() <= 1)
            both.wait(timeout=60)

    threads = [threading.Thread(target=decode, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 40 and all(right)
