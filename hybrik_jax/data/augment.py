"""From one record to one training or evaluation example: draw, crop, targets (numpy and OpenCV, one person).

The geometry of a crop, the order of its operations and every target follow the released data pipeline as its
recorded crops fix it, with one choice of our own: a mirrored photo gets a mirrored camera.
"""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import simplejpeg
from scipy.spatial.transform import Rotation

from hybrik_jax.body import skeleton
from hybrik_jax.boxes import centre_and_side
from hybrik_jax.data import jpeg
from hybrik_jax.data.record import text
from hybrik_jax.units import DEPTH_SCALE_M

UPPER_BODY = (0, 3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)
_AS_THEY_ARE = ('root_m', 'h36m_joints_m', 'h36m_weight', 'betas', 'smpl_weight', 'twist_weight')
# Field of a record -> order of its entries in the mirrored record, and what each is multiplied with.
_FLIP_X = (-1, 1, 1)
_MIRRORED = {
    'joints_px': (skeleton.MIRROR_JOINTS_29, _FLIP_X),
    'joints_px_weight': (skeleton.MIRROR_JOINTS_29, 1),
    'joints_m': (skeleton.MIRROR_JOINTS_29, _FLIP_X),
    'joints_weight': (skeleton.MIRROR_JOINTS_29, 1),
    'visible': (skeleton.MIRROR_JOINTS_29, 1),
    'h36m_joints_m': (skeleton.MIRROR_H36M, _FLIP_X),
    'h36m_weight': (skeleton.MIRROR_H36M, 1),
    'pose': (skeleton.MIRROR_JOINTS, (1, -1, -1)),
    'twists': (skeleton.MIRROR_TWISTS, -1),
    'twist_weight': (skeleton.MIRROR_TWISTS, 1),
}


@dataclass(frozen=True)
class Augmentation:
    """One draw. `Augmentation()` is the evaluation crop.

    scale: factor of the box's side.
    shift: (2,) of the box's middle, in sides of the enlarged box.
    rotation_degrees: of the crop about the box's centre.
    mirror: whether the photo is mirrored first.
    colour: (3,) factors of the RGB channels.
    occlusion: (x0, y0, x1, y1, noise seed), photo pixels before mirroring, or None.
    box: (4,) the half body's box in place of the annotated one, photo pixels before mirroring, or None.
    mirror_camera: whether the camera of a mirrored photo is mirrored too, see `mirror_record`.
    """

    scale: float = 1.0
    rotation_degrees: float = 0.0
    mirror: bool = False
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    occlusion: tuple[int, int, int, int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    mirror_camera: bool = True
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class AugmentationSettings:
    """The keys of `config.augmentation`; their meaning is written in configs/default.py.

    occlusion: dataset -> (largest share of the box, largest aspect).
    """

    scale: float = 0.3
    shift: float = 0.0
    rotation_degrees: float = 30.0
    rotation_probability: float = 0.6
    mirror_probability: float = 0.5
    mirror_camera: bool = True
    colour: float = 0.2
    half_body_probability: float = -1.0
    occlusion: dict[str, tuple[float, float]] = field(default_factory=dict)


def draw(rng: np.random.Generator, record: dict[str, Any], settings: AugmentationSettings) -> Augmentation:
    """Returns one random `Augmentation` for `record`; everything random in an example happens here."""
    box = half_body_box(rng, record) if rng.random() < settings.half_body_probability else None
    scale = float(np.clip(1 + settings.scale * rng.standard_normal(), 1 - settings.scale, 1 + settings.scale))
    rotation = 0.0
    if rng.random() < settings.rotation_probability:
        limit = 2 * settings.rotation_degrees
        rotation = float(np.clip(settings.rotation_degrees * rng.standard_normal(), -limit, limit))
    mirror = bool(rng.random() < settings.mirror_probability)
    colour = tuple(rng.uniform(1 - settings.colour, 1 + settings.colour, 3).tolist())
    area, aspect = settings.occlusion.get(text(record['dataset']), (0.0, 1.0))
    occlusion = draw_occlusion(rng, record, area, aspect) if area > 0 else None
    shift = (0.0, 0.0)
    if settings.shift > 0:  # nothing is drawn otherwise, or runs of before would see other crops
        limit = 2 * settings.shift
        shift = tuple(np.clip(settings.shift * rng.standard_normal(2), -limit, limit).tolist())
    return Augmentation(scale, rotation, mirror, colour, occlusion, box, settings.mirror_camera, shift)


def half_body_box(rng: np.random.Generator, record: dict[str, Any]) -> tuple[float, ...] | None:
    """Returns a box (xyxy), 1.5 times as large as the labelled joints of the upper or of the lower body.

    None where 8 or fewer joints have pixels, or 2 or fewer of the half that is drawn.
    """
    labelled = record['joints_px_weight'][:, 0] > 0
    if labelled.sum() <= 8:
        return None
    upper = np.isin(np.arange(len(labelled)), UPPER_BODY)
    chosen = labelled & (upper if rng.random() < 0.5 else ~upper)
    if chosen.sum() <= 2:
        return None
    points = record['joints_px'][chosen, :2]
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, (high - low) / 2 * 1.5
    return tuple(np.concatenate([middle - half, middle + half]).tolist())


def draw_occlusion(
    rng: np.random.Generator, record: dict[str, Any], largest_area: float, largest_aspect: float
) -> tuple[int, ...] | None:
    """Returns the corners of a rectangle inside the photo and a noise seed.

    Area, a share of the enlarged box, and aspect are drawn uniformly; rectangles that leave the photo are
    drawn again (50 times at most, after which there is none).
    """
    (x0, y0), side = centre_and_side(record['box'], float(record['box_enlargement']))
    x0, y0 = x0 - side / 2, y0 - side / 2
    for _ in range(50):
        area = rng.uniform(0, largest_area) * side * side
        aspect = rng.uniform(1 / largest_aspect, largest_aspect)
        h, w = np.sqrt(area * aspect), np.sqrt(area / aspect)
        x, y = rng.uniform(x0, x0 + side), rng.uniform(y0, y0 + side)
        if x >= 0 and y >= 0 and x + w < record['width'] and y + h < record['height']:
            return int(x), int(y), int(x + w), int(y + h), int(rng.integers(2**31))
    return None


def crop_affine(centre: np.ndarray, side: float, rotation_degrees: float, crop_size: int) -> np.ndarray:
    """Returns the similarity (2, 3) that takes photo pixels to crop pixels.

    The box's centre goes to (crop_size / 2, crop_size / 2), and the photo vector (side / 2) (sin r, -cos r),
    y down, to (0, -crop_size / 2).
    """
    angle = np.deg2rad(rotation_degrees)
    scale = crop_size / side
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.concatenate([turn, (crop_size / 2 - turn @ centre)[:, None]], 1)


def affine_of(record: dict[str, Any], augmentation: Augmentation, crop_size: int) -> np.ndarray:
    """Returns the map (2, 3) from photo pixels to crop pixels of one example."""
    centre, side = centre_and_side(record['box'], float(record['box_enlargement']))
    return crop_affine(
        centre + side * np.array(augmentation.shift),
        side * augmentation.scale,
        augmentation.rotation_degrees,
        crop_size,
    )


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """Returns the inverse (2, 3) of an affine map (2, 3)."""
    return cv2.invertAffineTransform(np.asarray(affine, np.float64))


def decode_jpeg(record: dict[str, Any]) -> np.ndarray:
    """Returns the whole image of a record, (height, width, 3) uint8 RGB; see `decode_window`."""
    return np.ascontiguousarray(decode_window(record, None)[0][..., :3])


def decode_window(
    record: dict[str, Any], window: tuple[int, int, int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns a window of a record's image, and where it begins, as `jpeg.decode` does.

    Raises:
        ValueError: where the bytes are no readable JPEG or have another size than the record says.
    """
    data = bytes(record['image'])
    try:
        size = simplejpeg.decode_jpeg_header(data)[1::-1]
        if size != tuple(record['region_size']):
            raise ValueError(f'{size} pixels (width, height), the record says {tuple(record["region_size"])}')
        return jpeg.decode(data, window)
    except ValueError as error:
        raise ValueError(
            f'record {text(record["name"])!r} of {text(record["dataset"])!r}: its JPEG cannot be decoded '
            f'({error}). Build the dataset again.'
        ) from error


def photo_to_image(record: dict[str, Any]) -> np.ndarray:
    """Returns the affine map (2, 3) from photo pixels to pixels of the record's image."""
    scale, offset = float(record['region_scale']), record['region_offset'].astype(np.float64)
    return np.concatenate([np.eye(2) * scale, -scale * offset[:, None]], 1)


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Returns the affine map (2, 3) that is `first` (2, 3), then `second` (2, 3)."""
    linear = second[:, :2] @ first[:, :2]
    return np.concatenate([linear, (second[:, :2] @ first[:, 2] + second[:, 2])[:, None]], 1)


def window_of_crop(affine: np.ndarray, crop_size: int) -> tuple[int, int, int, int]:
    """Returns the pixels (x0 y0 x1 y1, the last excluded) of an image that a crop interpolates between.

    Args:
        affine: (2, 3), image pixels to crop pixels.
    """
    back = invert_affine(affine)
    last = crop_size - 1
    corners = np.array([[0, 0], [last, 0], [0, last], [last, last]]) @ back[:, :2].T + back[:, 2]
    low, high = np.floor(corners.min(0)) - 1, np.floor(corners.max(0)) + 3
    return tuple(np.concatenate([low, high]).astype(int).tolist())


def crop_image(
    image: np.ndarray, affine: np.ndarray, augmentation: Augmentation, crop_size: int
) -> np.ndarray:
    """Returns the crop (crop_size, crop_size, 3) uint8 of an image of 3 or 4 channels; zeros outside."""
    crop = cv2.warpAffine(image, affine, (crop_size, crop_size), flags=cv2.INTER_LINEAR)
    crop = crop if crop.shape[2] == 3 else cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB)
    if augmentation.colour != (1.0, 1.0, 1.0):
        levels = np.arange(256, dtype=np.float32)[:, None] * np.asarray(augmentation.colour, np.float32)
        crop = cv2.LUT(crop, np.clip(levels, 0, 255).astype(np.uint8)[None])
    return crop


def mirror_record(record: dict[str, Any], *, mirror_camera: bool = True) -> dict[str, Any]:
    """Returns the labels of the mirrored photo; mirroring twice gives them back.

    x -> width - 1 - x on the photo; camera x -> -x; left and right joints change places; pose (x, y, z) ->
    (x, -y, -z); twists change sign. With `mirror_camera=False` focal centre and root stay as they are, which
    is what the original does.
    """
    mirrored = dict(record)
    last = float(record['width']) - 1
    x0, y0, x1, y1 = np.asarray(record['box'], np.float32)
    mirrored['box'] = np.array([last - x1, y0, last - x0, y1], np.float32)
    left, top = record['region_offset']
    extent = (float(record['region_size'][0]) - 1) / float(record['region_scale'])  # photo pixels
    mirrored['region_offset'] = np.array([last - left - extent, top], np.float32)
    for name, (order, sign) in _MIRRORED.items():
        mirrored[name] = record[name][list(order)] * np.array(sign, np.float32)
    mirrored['joints_px'] = np.float32(mirrored['joints_px']) + np.array([last, 0, 0], np.float32)
    if mirror_camera:
        mirrored['centre'] = np.array([last - record['centre'][0], record['centre'][1]], np.float32)
        mirrored['root_m'] = record['root_m'] * np.array(_FLIP_X, np.float32)
    return mirrored


def inverse_intrinsics(focal: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Returns (3, 3), homogeneous photo pixels -> ray with z = 1, of focal lengths and centre in pixels."""
    (fx, fy), (cx, cy) = focal, centre
    return np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1]])


def make_example(
    record: dict[str, Any],
    augmentation: Augmentation,
    *,
    crop_size: int,
    image: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Returns the fields of `types.Batch` for one person, without the batch axis.

    Args:
        record: as `record.FEATURES` says.
        augmentation: what was drawn; `Augmentation()` in evaluation.
        crop_size: side of the crop, pixels.
        image: the decoded image where the caller has it already.
    """
    to_stored = photo_to_image(record)
    if augmentation.box is not None:
        record = dict(record, box=np.array(augmentation.box, np.float32))
    if augmentation.mirror:
        record = mirror_record(record, mirror_camera=augmentation.mirror_camera)
    affine = affine_of(record, augmentation, crop_size)
    from_image = compose(affine, invert_affine(photo_to_image(record)))
    if augmentation.mirror:  # the image itself stays: one pass over its pixels less
        last = float(record['region_size'][0]) - 1
        from_image = compose(from_image, np.array([[-1.0, 0, last], [0, 1, 0]]))
    start = (0, 0)
    if image is None:
        image, start = decode_window(record, window_of_crop(from_image, crop_size))
        from_image[:, 2] += from_image[:, :2] @ start
    elif augmentation.occlusion is not None:
        image = image.copy()
    if augmentation.occlusion is not None:
        *corners, seed = augmentation.occlusion
        corners = np.reshape(corners, (2, 2)) @ to_stored[:, :2].T + to_stored[:, 2] - start
        (x0, y0), (x1, y1) = np.clip(np.round(corners), 0, image.shape[1::-1]).astype(int)
        covered = image[y0:y1, x0:x1, :3]
        covered[:] = np.random.default_rng(seed).integers(0, 256, covered.shape, np.uint8)
    crop = crop_image(image, from_image, augmentation, crop_size)
    return make_targets(record, affine, crop_size) | {'image': crop}


def make_targets(record: dict[str, Any], affine: np.ndarray, crop_size: int) -> dict[str, np.ndarray]:
    """Returns the fields of `types.Batch` for one person but the image, float32.

    Args:
        record: mirrored already where its crop is.
        affine: (2, 3), photo pixels to crop pixels.
    """
    pixels = record['joints_px'].astype(np.float64)
    on_crop = pixels[:, :2] @ affine[:, :2].T + affine[:, 2]
    uvd = np.concatenate([on_crop / crop_size - 0.5, pixels[:, 2:] / DEPTH_SCALE_M], 1)
    inside = (np.abs(uvd) <= 0.5).all(1, keepdims=True)
    camera_weight = float(record['camera_weight'])
    inverse = inverse_intrinsics(record['focal'], record['centre']) if camera_weight > 0 else np.zeros((3, 3))
    pose = Rotation.from_rotvec(record['pose'].astype(np.float64))
    twists = record['twists'].astype(np.float64)
    targets = {name: record[name] for name in _AS_THEY_ARE} | {
        'crop_to_photo': invert_affine(affine),
        'inverse_intrinsics': inverse,
        'uvd': np.where(inside, uvd, 0),
        'uvd_weight': record['joints_px_weight'] * inside,
        'joints_m': record['joints_m'][: skeleton.NUM_JOINTS],
        'joints_weight': record['joints_weight'][: skeleton.NUM_JOINTS],
        'quaternions': pose.as_quat(canonical=True, scalar_first=True),
        'twists': np.stack([np.cos(twists), np.sin(twists)], -1),
    }
    return {name: np.asarray(value, np.float32) for name, value in targets.items()}
