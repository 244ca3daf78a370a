"""What is known of the people in a photo before a network is asked: their crops and cameras.

A photo says neither its focal length nor how far away people are. Without intrinsics, the focal length is
taken to be the photo's diagonal (a view of 53 degrees from corner to corner). Without a root depth, the
square around a person is taken to be 2 m wide where the person is. Networks with a camera tell the depth;
those of HybrIK also have a camera of their own, of 1000 px for a crop of 256 px.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hybrik_jax import boxes, image_file
from hybrik_jax.body.camera import OWN_FOCAL, SQUARE_M
from hybrik_jax.data import augment
from hybrik_jax.types import Crop, View

ENLARGEMENT = 1.25  # of the square around a person, as in training
ENLARGEMENTS = (0.1, 10.0)  # what it can be
FOCAL_PX = (1.0, 1e6)  # what a focal length can be
DEPTH_M = (0.01, 1e4)  # what the distance of a root can be
_FARTHEST_CENTRE_PX = 1e6
OWN_CAMERAS = ('crop', 'photo')  # of `inference.Network.camera`, those that take no intrinsics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """People of one photo to predict.

    photo: a file, or (height, width, 3) uint8 RGB.
    boxes: (N, 4) x y w h, pixels, not enlarged; [] where nobody is; None: a `Predictor` asks its detector;
        where it has none, the whole photo is one person's.
    intrinsics: (fx, fy, cx, cy) or a (3, 3) matrix, pixels; one number is a focal length with the photo's
        middle as the principal point; None: assumed.
    root_depth_m: the pelvis' distance from the camera plane, one number or (N,); None: assumed.
    enlargement: of the square around a box.
    """

    photo: str | pathlib.Path | np.ndarray
    boxes: Any = None
    intrinsics: Any = None
    root_depth_m: Any = None
    enlargement: float = ENLARGEMENT


@dataclasses.dataclass(frozen=True)
class Framed:
    """One person's crop (S, S, 3) uint8 RGB, how it was made, and what is to be said about that.

    root: the same person framed for a RootNet, where one shall tell the depth.
    """

    image: np.ndarray
    view: View
    warnings: tuple[str, ...]
    root: 'Framed | None' = None


def frame(request: Request, image_size: int, camera: str | None = None) -> list[Framed]:
    """Returns the people of a request, in the order of its boxes.

    Args:
        camera: the network's, as in `inference.Network`.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image; a box, camera or depth that cannot be, or that the network tells itself.
    """
    if camera and request.root_depth_m is not None:
        raise ValueError(
            'This network tells how far away people are: leave root_depth_m (--root-depth) away, or take a '
            'network without a camera.'
        )
    if camera in OWN_CAMERAS and request.intrinsics is not None:
        raise ValueError(
            'This network looks with a camera of its own, of 1000 px for a crop of 256 px: leave intrinsics '
            '(--focal) away, or take a network that uses them.'
        )
    photo = request.photo if isinstance(request.photo, np.ndarray) else read_photo(request.photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(
            f'The photo is {photo.dtype} of shape {photo.shape}: give (height, width, 3) uint8 RGB.'
        )
    height, width = photo.shape[:2]
    low, high = ENLARGEMENTS
    if not low <= request.enlargement <= high:
        raise ValueError(f'enlargement={request.enlargement} cannot be: it must be {low:g} to {high:g}.')
    warnings = []
    if request.boxes is None:
        warnings.append('No box was given: the whole photo is taken as the box of the person.')
    wanted = _as_boxes([[0, 0, width, height]] if request.boxes is None else request.boxes)
    focal, centre = camera_of(request.intrinsics, width, height)
    people = []
    for box, depth_m in zip(wanted, _depths(request.root_depth_m, len(wanted)), strict=True):
        corners = _clipped(box, width, height)
        used = np.concatenate([corners[:2], corners[2:] - corners[:2] + 1])
        said = list(warnings)
        if np.abs(used - box).max() > 1:
            said.append(f'The box leaves the photo and was clipped to {",".join(f"{x:g}" for x in used)}.')
        crop_centre, side = boxes.centre_and_side(corners, request.enlargement)
        affine = augment.crop_affine(crop_centre, side, 0.0, image_size)
        if camera in OWN_CAMERAS:
            focal = np.full(2, OWN_FOCAL * side)
            centre = crop_centre if camera == 'crop' else centre
        assumed_m = square_m(focal, side)
        view = View(
            photo_size=(width, height),
            box=used,
            crop_to_photo=augment.invert_affine(affine),
            focal=focal,
            focal_assumed=request.intrinsics is None,
            centre=centre,
            centre_assumed=np.ndim(request.intrinsics) == 0,
            root_depth_m=assumed_m if depth_m is None else depth_m,
            root_depth_assumed=depth_m is None,
        )
        image = augment.crop_image(photo, affine, augment.Augmentation(), image_size)
        people.append(Framed(image, view, tuple(said)))
    return people


def square_m(focal: np.ndarray, side: float) -> float:
    """Returns the depth, metres, at which 2 m are `side` pixels wide, of focal lengths (2,) in pixels."""
    return SQUARE_M * math.sqrt(focal[0] * focal[1]) / side


def camera_of(intrinsics: Any, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns focal lengths (2,) and principal point (2,), pixels, assumed where they are not given.

    Args:
        intrinsics: as in `Request`. width, height: of the photo.
    Raises:
        ValueError: they cannot be.
    """
    focal, centre = np.full(2, math.hypot(width, height)), (np.array([width, height]) - 1) / 2
    if intrinsics is not None:
        given = _numbers(intrinsics, 'intrinsics')
        if given.shape == (3, 3):
            focal, centre = np.diag(given)[:2].copy(), given[:2, 2].copy()
        elif given.shape == (4,):
            focal, centre = given[:2], given[2:]
        elif given.shape == ():
            focal = np.full(2, float(given))
        else:
            raise ValueError(
                f'intrinsics have the shape {given.shape}: give fx, fy, cx, cy, or a 3 x 3 matrix, or one '
                'focal length.'
            )
    low, high = FOCAL_PX
    for one in focal:
        if not low <= one <= high:
            raise ValueError(f'The focal length {one:g} cannot be: it must be {low:g} to {high:g} pixels.')
    if not (np.abs(centre) <= _FARTHEST_CENTRE_PX).all():
        raise ValueError(
            f'The principal point {centre.tolist()} cannot be: it must be two numbers of pixels.'
        )
    return focal, centre


def crop_of(view: View) -> Crop:
    """Returns the geometry of a person's crop, float32."""
    inverse = augment.inverse_intrinsics(view.focal, view.centre)
    return Crop(
        crop_to_photo=view.crop_to_photo.astype(np.float32),
        inverse_intrinsics=inverse.astype(np.float32),
        root_m=np.array([0, 0, view.root_depth_m], np.float32),
    )


def batch_of(people: Sequence[Framed]) -> tuple[np.ndarray, Crop]:
    """Returns the crops (N, S, S, 3) uint8 of people, and their geometry with a leading axis."""
    crop = jax.tree.map(lambda *x: np.stack(x), *(crop_of(one.view) for one in people))
    return np.stack([one.image for one in people]), crop


def read_photo(path: str | pathlib.Path) -> np.ndarray:
    """Returns the photo, (height, width, 3) uint8 RGB, turned upright as its EXIF data say.

    Raises:
        FileNotFoundError, FileError: as `image_file.read`.
    """
    return image_file.read(path, upright=True)[0]


def _clipped(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns the corners (4,) x0 y0 x1 y1, the last pixels included, of the part of a box in the photo."""
    named = ','.join(f'{value:g}' for value in box)
    if not np.isfinite(box).all():
        raise ValueError(f'The box {named} has numbers that are not finite: give x,y,w,h in pixels.')
    if (box[2:] <= 0).any():
        raise ValueError(f'The box {named} has no size: width and height, the last two, must be positive.')
    corners = boxes.clipped(box, width, height)
    if corners is None:
        raise ValueError(
            f'The box {named} has no part in the photo of {width} x {height} pixels that is more than '
            'a pixel wide and high.'
        )
    return corners.astype(np.float64)


def _as_boxes(given: Any) -> np.ndarray:
    """Returns boxes as (N, 4) float64."""
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(1)
    if array.shape == (0,):  # nobody's, as JSON says it
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(
            f'boxes={given!r:.100} must be a list of x, y, w, h, four numbers of pixels a person.'
        )
    return array


def _depths(root_depth_m: Any, count: int) -> list[float | None]:
    """Returns the root depth of each of `count` people, None where it is not known."""
    if root_depth_m is None:
        return [None] * count
    depths = _numbers(root_depth_m, 'root_depth_m')
    if depths.shape not in ((), (count,)):
        raise ValueError(
            f'root_depth_m has the shape {depths.shape}: give one number, or one for each of {count} boxes.'
        )
    low, high = DEPTH_M
    for depth in depths.ravel():
        if not low <= depth <= high:
            raise ValueError(f'The root depth {depth:g} cannot be: it must be {low:g} to {high:g} metres.')
    return np.broadcast_to(depths, (count,)).tolist()


def _numbers(given: Any, name: str) -> np.ndarray:
    """Returns numbers as float64; ValueError, saying what they are, where they are none."""
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f'{name}={given!r:.100} must be numbers.') from None
