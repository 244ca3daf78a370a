"""Predicts the body of one person in a photo and draws it.

    python -m tools.predict PHOTO --box x,y,w,h --checkpoint runs/synthetic
    python -m tools.predict --synthetic 0 --checkpoint runs/synthetic

Writes into --out: overlay.png (the mesh on the photo), side.png (the mesh from the camera's right), crop.png
(the part of the photo that the network looks at, with its 2D joints), prediction.json and prediction.npz
(with the mesh).

A photo says neither its focal length nor how far away the person is. Without --focal, the focal length is
taken to be the photo's diagonal (a view of 53 degrees from corner to corner). Without --root-depth, the
square around the person is taken to be 2 m wide where the person is. prediction.json marks both as assumed.
With that camera and depth the joints are lifted; the body that follows from them, whose size is its own, is
then moved to where its joints project closest to the network's 2D joints: camera_translation_m.
"""

import argparse
import dataclasses
import json
import logging
import math
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import chex
import cv2
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrik_jax import checkpoint, setup
from hybrik_jax.body import rotations as rot
from hybrik_jax.body import skeleton, smpl, smpl_file
from hybrik_jax.data import augment, store
from hybrik_jax.model.hybrik import body_from_lifted, create_model, flip_test, normalise_image
from hybrik_jax.types import Crop, Lifted
from hybrik_jax.view import render

ENLARGEMENT = 1.25  # of the square around the person, as in training
ASSUMED_SIDE_M = 2.0  # width of the enlarged square, at the person's depth
PLAUSIBLE = (
    4.0  # a fitted depth that differs from the one lifted with by more than this factor is not believed
)
FIT_ROUNDS = 4  # of reweighting; the last one moves the mesh by less than a millimetre
LARGEST_PICTURE = 1600  # pixels; the overlay of a larger photo is drawn this large
CROP_PICTURE = 384  # pixels
SYNTHETIC_WARNING = (
    'The network was trained on synthetic people only: on real photos expect large errors, and do not compare them '
    'with published figures.'
)


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Posed:
    """Posed bodies of a batch; metres, axes of the camera.

    joints_m: (B, 24, 3) and vertices_m: (B, V, 3), of the posed body, relative to SMPL's pelvis.
    lifted_joints_m: (B, K, 3) as lifted, before the inverse kinematics, relative to joint 0.
    h36m_joints_m: (B, 17, 3) relative to the Human3.6M pelvis, or None for a body without that regressor.
    rotations: (B, 24, 3, 3) local; axis_angles: (B, 24, 3) the same in radians; betas: (B, 10).
    """

    joints_m: jax.Array
    vertices_m: jax.Array
    lifted_joints_m: jax.Array
    h36m_joints_m: jax.Array | None
    rotations: jax.Array
    axis_angles: jax.Array
    betas: jax.Array


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network and the body that it poses.

    parameters: 'tail', 'ema' or 'raw', what was chosen. lift: images (B, S, S, 3) uint8 -> `Lifted`; pose:
    (`Lifted`, `Crop`) -> `Posed`; both compiled.
    """

    folder: pathlib.Path
    step: int
    config: ConfigDict
    parameters: str
    flip: bool
    body: smpl.SMPL
    lift: Callable[[jax.Array], Lifted]
    pose: Callable[[Lifted, Crop], Posed]

    @property
    def image_size(self) -> int:
        """Side of the crops, pixels."""
        return self.config.image_size

    @property
    def synthetic_only(self) -> bool:
        """Whether no real photo was seen in training."""
        return all(name == 'synthetic' for name, share in self.config.data.mixture.items() if share > 0)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One person in a photo; metres in the camera frame, pixels of the photo with pixel centres at integers.

    box: (4,) x y w h used, clipped to the photo; crop_to_photo: (2, 3) of the network's crop.
    focal, centre: (2,), pixels; root_depth_m: of the pelvis, as the joints were lifted with.
    translation_m: (3,) where the pelvis is; add it to the relative joints and vertices.
    joints_px: (K, 2) the network's 2D joints; projected_px: (24, 2) the posed body's, projected.
    joints_m: (24, 3), lifted_joints_m: (K, 3), vertices_m: (V, 3): relative to SMPL's pelvis.
    """

    photo_size: tuple[int, int]
    box: np.ndarray
    crop_to_photo: np.ndarray
    focal: np.ndarray
    focal_assumed: bool
    centre: np.ndarray
    root_depth_m: float
    root_depth_assumed: bool
    translation_m: np.ndarray
    joints_px: np.ndarray
    projected_px: np.ndarray
    joints_m: np.ndarray
    lifted_joints_m: np.ndarray
    vertices_m: np.ndarray
    rotations: np.ndarray
    axis_angles: np.ndarray
    betas: np.ndarray
    warnings: tuple[str, ...]

    @property
    def reprojection_px(self) -> float:
        """Mean distance between the posed body's joints on the photo and the network's 2D joints."""
        return float(
            np.linalg.norm(self.projected_px - self.joints_px[: skeleton.NUM_JOINTS], axis=-1).mean()
        )


# ---- inputs


def read_photo(path: str | pathlib.Path) -> np.ndarray:
    """Returns the photo, (height, width, 3) uint8 RGB, turned upright as its EXIF data say.

    Raises:
        FileNotFoundError, ValueError: no such file; not an image that OpenCV can read.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'The photo {path} does not exist: give the path of a JPEG or PNG file.')
    photo = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if photo is None:
        raise ValueError(f'The photo {path} cannot be read: it is damaged, or no JPEG or PNG file.')
    return cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)


def parse_box(text: str) -> np.ndarray:
    """Returns the box (4,) x y w h of 'x,y,w,h'; ValueError for anything else."""
    try:
        box = np.array([float(part) for part in text.split(',')])
    except ValueError:
        box = np.zeros(0)
    if box.shape != (4,):
        raise ValueError(
            f'--box {text!r} is not four numbers: give x,y,w,h in pixels, for example 281,45,219,347.'
        )
    return box


def clip_box(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns the corners (4,) x0 y0 x1 y1, the last pixels included, of the part of an x y w h box in the
    photo.

    Raises ValueError where the numbers are not finite, the box has no size, or no part of it is in the photo.
    """
    box = np.asarray(box, np.float64)
    named = ','.join(f'{value:g}' for value in box)
    if not np.isfinite(box).all():
        raise ValueError(f'The box {named} has numbers that are not finite: give x,y,w,h in pixels.')
    if (box[2:] <= 0).any():
        raise ValueError(
            f'The box {named} has no size: its width and height, the last two numbers, must be positive.'
        )
    last = np.array([width, height]) - 1.0
    low, high = np.maximum(box[:2], 0), np.minimum(box[:2] + box[2:] - 1, last)
    if (high - low < 1).any():
        raise ValueError(f'The box {named} has no part in the photo of {width} x {height} pixels.')
    return np.concatenate([low, high])


def load_network(
    folder: str | pathlib.Path,
    *,
    parameters: str | None = None,
    best: bool = False,
    flip: bool = True,
    body_file: str | None = None,
    h36m_regressor: str | None = None,
) -> Network:
    """Returns the network of a run's last (or best) checkpoint.

    Args:
        folder: the run's workdir.
        parameters: 'tail', 'ema', 'raw'; None: 'tail' where that average has begun, else 'ema'.
        flip: average over the image and its mirror image.
        body_file, h36m_regressor: body model files in place of those that the run's configuration names.
    Raises:
        FileNotFoundError: no run, no checkpoint, no body file.
        ValueError: parameters that are not there, or another body model than the network's.
    """
    step, saved, tree = checkpoint.load(folder, best=best)
    config = ConfigDict(saved)
    parameters, variables = choose_parameters(tree, parameters, step)
    config.model.backbone.sync_batch_norm = False  # needs a device axis; means nothing outside of training
    body = _load_body(config, folder, body_file, h36m_regressor)
    init_betas = jnp.asarray(setup.init_betas(config, body))
    model = create_model(config.model)
    on_device = jax.device_put((variables, body))

    @jax.jit
    def lift(variables, images):
        images = normalise_image(images, mean=config.model.image_mean, std=config.model.image_std)

        def apply(images):
            return model.apply(variables, images, training=False, init_betas=init_betas)

        return flip_test(apply, images) if flip else apply(images)

    @jax.jit
    def pose(body, lifted, crop):
        solved = body_from_lifted(
            lifted,
            crop,
            body,
            training=False,
            crop_size=config.image_size,
            right_hand=config.model.right_hand,
            skinned=False,
        )
        skinned = jax.vmap(smpl.skin, in_axes=(None, 0, 0))(body, solved.betas, solved.rotations)
        pelvis, h36m = skinned.joints[:, :1], skinned.h36m_joints
        return Posed(
            joints_m=skinned.joints - pelvis,
            vertices_m=skinned.vertices - pelvis,
            lifted_joints_m=solved.joints_m,
            h36m_joints_m=None if h36m is None else h36m - h36m[:, :1],
            rotations=solved.rotations,
            axis_angles=jax.vmap(jax.vmap(rot.matrix_to_axis_angle))(solved.rotations),
            betas=solved.betas,
        )

    return Network(
        folder=pathlib.Path(folder),
        step=step,
        config=config,
        parameters=parameters,
        flip=flip,
        body=body,
        lift=lambda images: lift(on_device[0], images),
        pose=lambda lifted, crop: pose(on_device[1], lifted, crop),
    )


def choose_parameters(tree: dict[str, Any], wanted: str | None, step: int) -> tuple[str, Any]:
    """Returns (name, variables) of a checkpoint's tree: those `wanted`, or the tail average, or before it the
    EMA.
    """
    has_tail = int(tree['tail_count']) > 0
    name = wanted or ('tail' if has_tail else 'ema')
    if name == 'tail' and not has_tail:
        raise ValueError(f'The tail average has not begun at step {step}: use --parameters ema or raw.')
    return name, tree[{'raw': 'variables'}.get(name, name)]


def _load_body(
    config: ConfigDict, folder: str | pathlib.Path, body_file: str | None, h36m_regressor: str | None
) -> smpl.SMPL:
    path, regressor = body_file or config.body or None, h36m_regressor or config.h36m_regressor or None
    for file, option in ((path, '--body'), (regressor, '--h36m-regressor')):
        if file is not None and not pathlib.Path(file).is_file():
            raise FileNotFoundError(
                f'{file} does not exist: the network needs its body model, give {option} FILE.'
            )
    body = smpl_file.load_body(path, regressor)
    if not config.body and body_file:
        smpl.check_same_body(body, smpl_file.load_body().name, f'the checkpoint in {folder}')
    return body


# ---- prediction


def predict(
    photo: np.ndarray,
    box: np.ndarray | None,
    *,
    network: Network,
    focal: float | Sequence[float] | None = None,
    centre: Sequence[float] | None = None,
    root_depth_m: float | None = None,
    enlargement: float = ENLARGEMENT,
) -> Prediction:
    """Returns the body of the person in a box of a photo.

    Args:
        photo: (height, width, 3) uint8 RGB.
        box: (4,) x y w h, pixels, not enlarged; None: the whole photo.
        network: of `load_network`.
        focal: pixels, one number or (fx, fy); None: the photo's diagonal.
        centre: (2,) principal point, pixels; None: the middle of the photo.
        root_depth_m: the pelvis' distance from the camera plane, to lift with; None: assumed, see above.
        enlargement: of the square around the box.
    Raises:
        ValueError: a box, focal length or depth that cannot be, or a prediction that is not finite.
    """
    height, width = photo.shape[:2]
    warnings = [SYNTHETIC_WARNING] if network.synthetic_only else []
    if box is None:
        warnings.append('No box was given: the whole photo is taken as the box of the person.')
        box = np.array([0, 0, width, height])
    corners = clip_box(box, width, height)
    used = np.concatenate([corners[:2], corners[2:] - corners[:2] + 1])
    if np.abs(used - box).max() > 1:
        warnings.append(f'The box leaves the photo and was clipped to {",".join(f"{x:g}" for x in used)}.')
    focal_assumed = focal is None
    focal = np.array(np.broadcast_to(math.hypot(width, height) if focal is None else focal, (2,)), np.float64)
    if not (np.isfinite(focal).all() and (focal > 0).all()):
        raise ValueError(f'The focal length {focal[0]:g} cannot be: it must be a positive number of pixels.')
    if root_depth_m is not None and not (math.isfinite(root_depth_m) and root_depth_m > 0):
        raise ValueError(
            f'The root depth {root_depth_m:g} cannot be: it must be a positive number of metres.'
        )
    middle = (np.array([width, height]) - 1) / 2
    centre = np.asarray(middle if centre is None else centre, np.float64)

    crop_centre, side = augment.box_centre_and_side(corners, enlargement)
    affine = augment.crop_affine(crop_centre, side, 0.0, network.image_size)
    image = augment.crop_image(photo, affine, augment.Augmentation(), network.image_size)
    crop_to_photo = augment.invert_affine(affine)
    lifted = network.lift(image[None])
    crop_px = (np.asarray(lifted.uvd[0, :, :2], np.float64) + 0.5) * network.image_size
    joints_px = crop_px @ crop_to_photo[:, :2].T + crop_to_photo[:, 2]

    assumed_m = ASSUMED_SIDE_M * math.sqrt(focal[0] * focal[1]) / side
    depth_m = assumed_m if root_depth_m is None else root_depth_m
    crop = Crop(
        crop_to_photo=np.asarray(crop_to_photo[None], np.float32),
        inverse_intrinsics=np.asarray(augment.inverse_intrinsics(focal, centre)[None], np.float32),
        root_m=np.array([[0, 0, depth_m]], np.float32),
    )
    posed = jax.tree.map(lambda x: np.asarray(x[0]), network.pose(lifted, crop))
    if not all(np.isfinite(x).all() for x in jax.tree.leaves((posed, joints_px))):
        raise ValueError(
            f'The prediction is not finite: the parameters of step {network.step} in {network.folder} are not usable.'
        )
    camera = {'focal': focal, 'centre': centre}
    visible_px = joints_px[: skeleton.NUM_JOINTS]
    translation = fit_translation(posed.joints_m, visible_px, **camera)
    if not depth_m / PLAUSIBLE < translation[2] < depth_m * PLAUSIBLE:
        warnings.append(
            f'The body cannot be fitted to the 2D joints; it is placed at a depth of {depth_m:.2f} m.'
        )
        translation = fit_translation(posed.joints_m, visible_px, **camera, depth_m=depth_m)
    placed = posed.joints_m + translation
    return Prediction(
        photo_size=(width, height),
        box=used,
        crop_to_photo=crop_to_photo,
        focal=focal,
        focal_assumed=focal_assumed,
        centre=centre,
        root_depth_m=depth_m,
        root_depth_assumed=root_depth_m is None,
        translation_m=translation,
        joints_px=joints_px,
        projected_px=placed[:, :2] / np.maximum(placed[:, 2:], 1e-6) * focal + centre,
        joints_m=posed.joints_m,
        lifted_joints_m=posed.lifted_joints_m,
        vertices_m=posed.vertices_m,
        rotations=posed.rotations,
        axis_angles=posed.axis_angles,
        betas=posed.betas,
        warnings=tuple(warnings),
    )


def fit_translation(
    joints_m: np.ndarray,
    joints_px: np.ndarray,
    *,
    focal: np.ndarray,
    centre: np.ndarray,
    depth_m: float | None = None,
) -> np.ndarray:
    """Returns the translation (3,), metres, that takes joints to where they project closest to given pixels.

    Least squares over X + tx = x (Z + tz), Y + ty = y (Z + tz) with the ray (x, y, 1) of each pixel, weighted
    anew by 1 / (Z + tz) until the error is one in pixels.

    Args:
        joints_m: (J, 3) in any place, axes of the camera. joints_px: (J, 2). focal, centre: (2,), pixels.
        depth_m: tz, where it is known.
    """
    joints_m = np.asarray(joints_m, np.float64)
    rays = (np.asarray(joints_px, np.float64) - centre) / focal
    known = rays * joints_m[:, 2:] - joints_m[:, :2]  # tx - x tz = x Z - X
    weights = np.ones((len(joints_m), 1))
    for _ in range(FIT_ROUNDS):
        if depth_m is None:
            rows = np.zeros((len(joints_m), 2, 3))
            rows[:, 0, 0] = rows[:, 1, 1] = 1
            rows[:, :, 2] = -rays
            rows *= (weights * focal)[..., None]
            translation = np.linalg.lstsq(rows.reshape(-1, 3), (weights * focal * known).ravel(), rcond=None)[
                0
            ]
        else:
            across = (weights**2 * (known + rays * depth_m)).sum(0) / (weights**2).sum()
            translation = np.append(across, depth_m)
        weights = 1 / np.maximum(joints_m[:, 2:] + translation[2], 0.1)
    return translation


# ---- outputs


def draw_overlay(photo: np.ndarray, prediction: Prediction, faces: np.ndarray) -> np.ndarray:
    """Returns the photo with the mesh on it, uint8 RGB; a large photo becomes smaller."""
    scale = min(1.0, LARGEST_PICTURE / max(photo.shape[:2]))
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return render.overlay(
        photo,
        prediction.vertices_m + prediction.translation_m,
        faces,
        focal=prediction.focal * scale,
        centre=(prediction.centre + 0.5) * scale - 0.5,
    )


def draw_side(prediction: Prediction, faces: np.ndarray, size: int = 512) -> np.ndarray:
    """Returns the mesh seen from the camera's right, (size, size, 3) uint8 RGB."""
    return render.side_view(prediction.vertices_m + prediction.translation_m, faces, size=size)


def draw_crop(photo: np.ndarray, prediction: Prediction, image_size: int) -> np.ndarray:
    """Returns the network's crop with its 2D joints, uint8 RGB, `CROP_PICTURE` pixels wide."""
    affine = augment.invert_affine(prediction.crop_to_photo) * (CROP_PICTURE / image_size)
    crop = cv2.warpAffine(photo, affine, (CROP_PICTURE, CROP_PICTURE), flags=cv2.INTER_LINEAR)
    joints_px = prediction.joints_px @ affine[:, :2].T + affine[:, 2]
    edges = [edge for edge in skeleton.EDGES if max(edge) < len(joints_px)]
    return render.draw_skeleton(crop, joints_px, edges)


def to_json(prediction: Prediction, network: Network, photo_name: str) -> dict[str, Any]:
    """Returns what prediction.json holds."""

    def numbers(array: np.ndarray, digits: int = 6) -> list:
        return np.round(np.asarray(array, np.float64), digits).tolist()

    p = prediction
    return {
        'photo': photo_name,
        'photo_size': list(p.photo_size),
        'warnings': list(p.warnings),
        'conventions': (
            'metres; camera axes x right, y down, z forward; joints_m relative to the pelvis, add '
            'camera_translation_m to place them; pixels of the photo, pixel centres at integers; box x y w h; '
            'axis-angle in radians relative to the parent joint'
        ),
        'checkpoint': {
            'folder': str(network.folder),
            'step': network.step,
            'parameters': network.parameters,
            'flip_test': network.flip,
            'image_size': network.image_size,
            'trained_on': [name for name, share in network.config.data.mixture.items() if share > 0],
            'synthetic_only': network.synthetic_only,
        },
        'body_model': str(network.body.name),
        'box': numbers(p.box, 2),
        'focal': numbers(p.focal, 3),
        'focal_assumed': p.focal_assumed,
        'centre': numbers(p.centre, 3),
        'root_depth_m': round(p.root_depth_m, 6),
        'root_depth_assumed': p.root_depth_assumed,
        'camera_translation_m': numbers(p.translation_m),
        'reprojection_px': round(p.reprojection_px, 3),
        'joint_names': list(skeleton.JOINT_NAMES),
        'joints_m': numbers(p.joints_m),
        'joints_px': numbers(p.joints_px[: skeleton.NUM_JOINTS], 3),
        'projected_joints_px': numbers(p.projected_px, 3),
        'rotations_axis_angle': numbers(p.axis_angles),
        'betas': numbers(p.betas),
    }


def write(
    out: str | pathlib.Path,
    photo: np.ndarray,
    prediction: Prediction,
    network: Network,
    *,
    photo_name: str,
    more: dict[str, Any] | None = None,
) -> list[pathlib.Path]:
    """Returns the files written into the folder `out`; older ones are replaced when all new ones are
    complete.

    Args:
        more: further entries of prediction.json.
    """
    out = pathlib.Path(out)
    faces = np.asarray(network.body.faces)
    pictures = {
        'overlay.png': draw_overlay(photo, prediction, faces),
        'side.png': draw_side(prediction, faces),
        'crop.png': draw_crop(photo, prediction, network.image_size),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = pathlib.Path(tempfile.mkdtemp(dir=out, prefix='.unfinished-'))
    except OSError as error:
        raise OSError(
            error.errno, f'--out {out} cannot be written to ({error.strerror}): give a folder.'
        ) from error
    try:
        for name, picture in pictures.items():
            done, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            if not done:
                raise ValueError(f'OpenCV could not write {name} of shape {picture.shape}.')
            (unfinished / name).write_bytes(data.tobytes())
        content = to_json(prediction, network, photo_name) | (more or {})
        (unfinished / 'prediction.json').write_text(json.dumps(content, indent=1, allow_nan=False) + '\n')
        np.savez_compressed(
            unfinished / 'prediction.npz',
            vertices_m=prediction.vertices_m,
            faces=faces,
            joints_m=prediction.joints_m,
            lifted_joints_m=prediction.lifted_joints_m,
            joints_px=prediction.joints_px,
            projected_joints_px=prediction.projected_px,
            rotations=prediction.rotations,
            rotations_axis_angle=prediction.axis_angles,
            betas=prediction.betas,
            camera_translation_m=prediction.translation_m,
            focal=prediction.focal,
            centre=prediction.centre,
            box=prediction.box,
            crop_to_photo=prediction.crop_to_photo,
        )
        files = sorted(unfinished.iterdir())
        for file in files:
            os.replace(file, out / file.name)
        return [out / file.name for file in files]
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def open_test_split(config: ConfigDict) -> Sequence[dict[str, Any]]:
    """Returns the test split that a run is evaluated on; FileNotFoundError where it was not built."""
    return store.open_split(pathlib.Path(config.data.root) / config.data.test, 'test')


def predict_record(
    record: dict[str, Any], *, network: Network, **changes: Any
) -> tuple[np.ndarray, Prediction]:
    """Returns (photo, prediction) of a dataset's record: its box, and where it has one its camera and root
    depth.

    Args:
        changes: arguments of `predict` in place of the record's.
    """
    scale, offset = (
        float(record['region_scale']),
        record['region_offset'],
    )  # the photo here is the stored region
    x0, y0, x1, y1 = ((record['box'].reshape(2, 2) - offset) * scale).ravel().tolist()
    known = {'enlargement': float(record['box_enlargement'])}
    if record['camera_weight'] > 0:
        known |= {
            'focal': record['focal'] * scale,
            'centre': (record['centre'] - offset) * scale,
            'root_depth_m': float(record['root_m'][2]),
        }
    known |= {name: value for name, value in changes.items() if value is not None}
    photo = augment.decode_jpeg(record)
    return photo, predict(photo, np.array([x0, y0, x1 - x0 + 1, y1 - y0 + 1]), network=network, **known)


def truth_errors_mm(prediction: Prediction, record: dict[str, Any]) -> dict[str, float]:
    """Returns the mean error of the 24 joints against a record's, relative to the pelvis; {} without
    labels.
    """
    joints = slice(skeleton.NUM_JOINTS)
    if not np.all(record['joints_weight'][joints] > 0):
        return {}
    distances = np.linalg.norm(prediction.joints_m - record['joints_m'][joints], axis=-1)
    return {'mpjpe_24_mm': round(1000 * float(distances.mean()), 3)}


# ---- command line


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose a checkpoint's parameters and body model."""
    parser.add_argument(
        '--parameters', choices=('tail', 'ema', 'raw'), help='default: tail, before it has begun ema'
    )
    parser.add_argument(
        '--best', action='store_true', help='the best checkpoint by validation, not the last one'
    )
    parser.add_argument('--no-flip', dest='flip', action='store_false', help='without the mirrored image')
    parser.add_argument('--body', metavar='FILE', help='SMPL file, where it is not where it was in training')
    parser.add_argument('--h36m-regressor', metavar='FILE', help='.npy (17, V), with an SMPL file')


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `load_network` that `add_network_options` has read."""
    return {
        'parameters': args.parameters,
        'best': args.best,
        'flip': args.flip,
        'body_file': args.body,
        'h36m_regressor': args.h36m_regressor,
    }


def run(argv: Sequence[str] | None = None) -> list[pathlib.Path]:
    """Returns the files written for the command line `argv`; raises where something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('photo', nargs='?', metavar='PHOTO', help='JPEG or PNG file')
    parser.add_argument(
        '--synthetic', type=int, metavar='INDEX', help="in place of PHOTO: the run's test image INDEX"
    )
    parser.add_argument(
        '--box', metavar='x,y,w,h', help='of the person, pixels; write --box=-5,... if negative'
    )
    parser.add_argument('--checkpoint', required=True, metavar='DIR', help='workdir of a run')
    parser.add_argument('--out', metavar='DIR', help='default: runs/predictions/NAME')
    parser.add_argument('--focal', type=float, metavar='PX', help="default: the photo's diagonal")
    parser.add_argument(
        '--root-depth', type=float, metavar='M', help='of the pelvis, metres; default: assumed'
    )
    add_network_options(parser)
    args = parser.parse_args(argv)
    if (args.photo is None) == (args.synthetic is None):
        raise ValueError('Give a PHOTO or --synthetic INDEX, one of the two.')
    if args.synthetic is not None and args.box is not None:
        raise ValueError('--synthetic takes the box of the test image: leave --box away.')

    camera = {'focal': args.focal, 'root_depth_m': args.root_depth}
    more = {}
    if args.photo is not None:
        photo, name = read_photo(args.photo), pathlib.Path(args.photo).stem
        box = None if args.box is None else parse_box(args.box)
        if box is not None:
            clip_box(
                box, photo.shape[1], photo.shape[0]
            )  # what is wrong is said before the network is loaded
        network = load_network(args.checkpoint, **network_options(args))
        prediction = predict(photo, box, network=network, **camera)
    else:
        network = load_network(args.checkpoint, **network_options(args))
        source = open_test_split(network.config)
        if not 0 <= args.synthetic < len(source):
            raise ValueError(
                f'--synthetic {args.synthetic}: the test split has the images 0 to {len(source) - 1}.'
            )
        record = source[args.synthetic]
        name = augment.text(record['name']).replace('/', '_')
        photo, prediction = predict_record(record, network=network, **camera)
        more = truth_errors_mm(prediction, record)
    out = pathlib.Path(args.out or pathlib.Path('runs/predictions') / name)
    photo_name = pathlib.Path(args.photo).name if args.photo is not None else name
    files = write(out, photo, prediction, network, photo_name=photo_name, more=more)
    print(summary(prediction, network, more))
    print('wrote ' + ', '.join(str(file) for file in files))
    return files


def summary(prediction: Prediction, network: Network, errors: dict[str, float]) -> str:
    """Returns a few lines for people."""
    p = prediction
    lines = [
        f'{network.folder}: step {network.step}, {network.parameters} parameters, '
        f'flip test {"on" if network.flip else "off"}, body {network.body.name}',
        f'photo {p.photo_size[0]} x {p.photo_size[1]} px, box {",".join(f"{x:g}" for x in p.box)}',
        f'focal length {p.focal[0]:.0f} px ({"assumed" if p.focal_assumed else "given"}), lifted at '
        f'{p.root_depth_m:.2f} m ({"assumed" if p.root_depth_assumed else "given"})',
        f'pelvis fitted at ({", ".join(f"{x:.2f}" for x in p.translation_m)}) m: the body projects '
        f'{p.reprojection_px:.1f} px from the 2D joints on average',
    ]
    lines += [f'error against the label ({key}): {value:.1f}' for key, value in errors.items()]
    return '\n'.join(lines + [f'warning: {warning}' for warning in p.warnings])


def main() -> None:
    """Predicts what the command line says; an error is one line and exit status 1."""
    logging.getLogger('absl').setLevel(logging.ERROR)  # orbax warns of reading a folder that it cannot write
    try:
        run()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
