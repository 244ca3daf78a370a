"""Where people are in a photo: the detector that comes with the package.

    from hybrik_jax.detect import Detector

    detector = Detector.load()
    boxes, scores = detector(photo)  # (N, 4) x y w h in pixels, (N,); the best first

Any function photo -> boxes, scores is a detector: `Predictor` takes one. The weights are those of MediaPipe's
SSD MobileNetV2 (`assets/LICENSE-detector.md`), which sees the photo as 300 x 300 pixels: it finds people who
are higher than about a tenth of the photo. Smaller ones are found with `tiles`.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator

import cv2
import jax
import numpy as np

from hybrik_jax.boxes import overlap
from hybrik_jax.model import detector as network

WEIGHTS_FILE = pathlib.Path(__file__).parent / 'assets' / 'detector.npz'
SCORE = 0.3  # from which on a box is taken for a person's
SCORES = (0.01, 1.0)  # what that can be
SAME_PERSON = 0.5  # boxes that overlap by more (intersection over union) are of one person
TILES = (1, 8)  # what `tiles` can be
CUT = 0.01  # of a tile's side: boxes that end closer to an edge inside the photo are cut off by it
# How the network was trained: the sides of anchors, and the scales of what it says of them.
SCALES = (0.2, 0.95)  # of the finest and the coarsest map, of the image's side
FINEST_SCALE = 0.1  # of the finest map's first anchor
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)  # width to height
CENTRE_SCALE, SIZE_SCALE = 10.0, 5.0

DetectorFunction = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # photo -> boxes, scores


class Detector:
    """Finds people in photos: `detector(photo) -> boxes, scores`.

    score: from 0.01 to 1, from which on a box is taken for a person's.
    tiles: 1: the whole photo is looked at; n: also n x n parts of it, each of 2 / (n + 1) of its sides.
    """

    def __init__(self, weights: network.Weights, *, score: float = SCORE, tiles: int = 1):
        """A detector of `network.forward`'s weights; ValueError for a score or tiles that cannot be."""
        if not SCORES[0] <= score <= SCORES[1]:
            raise ValueError(f'score={score} cannot be: give {SCORES[0]:g} to {SCORES[1]:g}.')
        if not TILES[0] <= tiles <= TILES[1] or tiles != int(tiles):
            raise ValueError(f'tiles={tiles} cannot be: give {TILES[0]} to {TILES[1]}.')
        self.score, self.tiles = score, tiles
        self._forward = functools.partial(jax.jit(_forward), jax.device_put(dict(weights)))

    @classmethod
    def load(cls, *, score: float = SCORE, tiles: int = 1) -> 'Detector':
        """Returns the detector with the package's weights; arguments as of the class.

        Raises:
            ValueError: a score or tiles that cannot be.
        """
        return cls(load_weights(), score=score, tiles=tiles)

    def __call__(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns people's boxes (N, 4) x y w h, pixels, within the photo, and scores (N,), the best first.

        Args:
            photo: (height, width, 3) uint8 RGB.
        Raises:
            ValueError: it is no such array.
        """
        if not isinstance(photo, np.ndarray) or photo.dtype != np.uint8 or photo.shape[2:] != (3,):
            what = f'{photo.dtype} of shape {photo.shape}' if isinstance(photo, np.ndarray) else type(photo)
            raise ValueError(f'The photo is {what}: give (height, width, 3) uint8 RGB.')
        if not photo.size:
            raise ValueError(f'The photo of shape {photo.shape} has no pixels.')
        found = []
        for place in _places(*photo.shape[:2], self.tiles):
            corners, scores = (np.asarray(one[0]) for one in self._forward(_seen(photo, place)[None]))
            found.append(_in_photo(photo, place, corners, scores, self.score))
        corners, scores = (np.concatenate(rows) for rows in zip(*found, strict=True))
        kept = suppress(corners, scores)
        corners, scores = corners[kept], scores[kept]
        return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1), scores


def find(detector: DetectorFunction, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes (N, 4) x y w h, float64, and scores (N,) of any detector, in its order.

    Raises:
        ValueError: the detector returned something else.
    """
    try:
        boxes, scores = (np.asarray(one, np.float64) for one in detector(photo))
        boxes = boxes.reshape(-1, 4)
        scores = scores.reshape(len(boxes))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'The detector does not return boxes (N, 4) x y w h and scores (N,) of a photo: {error}'
        ) from error
    if not np.isfinite(scores).all():
        raise ValueError('The detector returns scores that are not finite.')
    return boxes, scores


def load_weights(path: pathlib.Path = WEIGHTS_FILE) -> dict[str, np.ndarray]:
    """Returns the weights of `network.forward`, float32, of a file that `tools.build_detector` made."""
    with np.load(path) as file:
        return {name: file[name].astype(np.float32) for name in file.files if '/' in name}


@functools.cache
def anchors() -> np.ndarray:
    """Returns the boxes (1917, 4) that the network's are relative to: centre x y, width, height.

    In units of the image's sides, in the order of `network.forward`.
    Source: Liu et al., "SSD", ECCV 2016, section 2.2, with the first map's three anchors of its authors'
        successors at TensorFlow (`reduce_boxes_in_lowest_layer`).
    """
    low, high = SCALES
    maps = len(network.MAP_SIZES)
    scales = [*(low + (high - low) * k / (maps - 1) for k in range(maps)), 1.0]
    rows = []
    for k, side in enumerate(network.MAP_SIZES):
        shapes = [(scales[k], ratio) for ratio in RATIOS] + [(np.sqrt(scales[k] * scales[k + 1]), 1.0)]
        if k == 0:
            shapes = [(FINEST_SCALE, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        sizes = np.array([(scale * np.sqrt(ratio), scale / np.sqrt(ratio)) for scale, ratio in shapes])
        middles = (np.arange(side) + 0.5) / side
        y, x = np.meshgrid(middles, middles, indexing='ij')
        centres = np.repeat(np.stack([x.ravel(), y.ravel()], 1), len(sizes), axis=0)
        rows.append(np.concatenate([centres, np.tile(sizes, (side * side, 1))], 1))
    return np.concatenate(rows).astype(np.float32)


def decode(encoded: jax.Array) -> jax.Array:
    """Returns corners (..., 1917, 4) x0 y0 x1 y1, in units of the image's sides, of what the network says.

    Args:
        encoded: (..., 1917, 4) dy dx dh dw: how centre and size differ from the anchor's.
    """
    anchor = anchors()
    centre = anchor[:, :2] + encoded[..., 1::-1] / CENTRE_SCALE * anchor[:, 2:]
    half = jax.numpy.exp(encoded[..., :1:-1] / SIZE_SCALE) * anchor[:, 2:] / 2
    return jax.numpy.concatenate([centre - half, centre + half], -1)


def suppress(corners: np.ndarray, scores: np.ndarray, limit: float = SAME_PERSON) -> np.ndarray:
    """Returns the indices (K,), the best first, of boxes that no better one overlaps by more than `limit`.

    Args:
        corners: (N, 4) x0 y0 x1 y1.
        scores: (N,).
    """
    kept = []
    left = np.argsort(-scores, kind='stable')
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[overlap(corners[best], corners[left]) <= limit]
    return np.array(kept, int)


def _forward(weights: network.Weights, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns corners (B, 1917, 4) in units of the image's sides and scores (B, 1917) of uint8 images."""
    encoded, logits = network.forward(weights, images.astype(np.float32) / 127.5 - 1)
    return decode(encoded), jax.nn.sigmoid(logits)


def _places(height: int, width: int, tiles: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields x0 y0 x1 y1, the last not included, of the photo and of its tiles."""
    yield 0, 0, width, height
    if tiles > 1:
        starts = [np.round(np.arange(tiles) * side / (tiles + 1)).astype(int) for side in (width, height)]
        w, h = (-(-2 * side // (tiles + 1)) for side in (width, height))
        for y in starts[1].tolist():
            for x in starts[0].tolist():
                yield x, y, min(x + w, width), min(y + h, height)


def _seen(photo: np.ndarray, place: tuple[int, int, int, int]) -> np.ndarray:
    """Returns a part of the photo as the network sees it, (300, 300, 3) uint8; its sides' ratio is lost."""
    x0, y0, x1, y1 = place
    part = photo[y0:y1, x0:x1]
    larger = min(part.shape[:2]) >= network.IMAGE_SIZE
    how = cv2.INTER_AREA if larger else cv2.INTER_LINEAR
    return cv2.resize(part, (network.IMAGE_SIZE,) * 2, interpolation=how)


def _in_photo(
    photo: np.ndarray,
    place: tuple[int, int, int, int],
    corners: np.ndarray,
    scores: np.ndarray,
    score: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns corners (K, 4) in pixels and scores (K,) of whom the network finds in one part, not cut off."""
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = place
    inner = np.array([x0 > 0, y0 > 0, x1 < width, y1 < height])
    beyond = np.concatenate([corners[:, :2] < CUT, corners[:, 2:] > 1 - CUT], 1)
    kept = (scores >= score) & ~(beyond & inner).any(1)
    side = np.array([x1 - x0, y1 - y0] * 2)
    return np.clip(corners[kept], 0, 1) * side + [x0, y0] * 2, scores[kept]
