"""RootNet at work: where the root joints of people are, in photos and in the records of datasets.

Its crop is the square around a person's box, 1.25 times as large; of a record it is the record's own. What it
tells of the depth is how much farther away the root is than a square of 2 m that fills the crop: without
intrinsics that depends on the focal length, which is assumed then, as `photo` says.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from hybrik_jax import checkpoint, inference
from hybrik_jax import config as configuration
from hybrik_jax.body.smpl import NUM_BETAS
from hybrik_jax.data import augment, pipeline
from hybrik_jax.photo import ENLARGEMENT, Framed, Request, batch_of, frame
from hybrik_jax.scoring.metrics import geometric_median
from hybrik_jax.scoring.roots_and_boxes import NEAREST_MM
from hybrik_jax.types import Crop, Rooted
from hybrik_jax.units import MM_PER_M

RECORDS_AT_ONCE = 32
# What can be said of roots without looking at the image, for comparison.
GUESSES = {
    'a square of 2 m': 'the root in the middle of the crop, where a square of 2 m would fill the crop',
    'a constant root': "the root that has the least MRPE on the dataset's training split",
    'a constant place in the crop': "the training split's median place in the crop, and median depth over "
    "the square's",
}


class FoundRoot(NamedTuple):
    """A record's root, (3,) each, camera frame, metres.

    root_m: the RootNet's; true_root_m: the annotation's; square_root_m: the middle of the box, at the depth
        of the square of 2 m.
    """

    root_m: np.ndarray
    true_root_m: np.ndarray
    square_root_m: np.ndarray


@dataclasses.dataclass(frozen=True)
class PredictedRoots:
    """The roots of a split by a RootNet, for the evaluation as `scoring.roots_and_boxes.Found` is."""

    label: str
    found: dict[str, FoundRoot]

    def root_m(self, record: dict[str, Any]) -> np.ndarray:
        """Returns the root (3,) of a record of that split in the camera frame, metres."""
        return np.asarray(self.found[augment.text(record['name'])].root_m, np.float32)


class RootFinder:
    """A RootNet, ready for photos and records.

    run: the checkpoint: folder, step, configuration.
    network: see `inference`.
    parameters: 'tail', 'ema' or 'raw', what was chosen.
    """

    def __init__(self, run: checkpoint.Run, network: inference.Network, *, parameters: str):
        self.run, self.network, self.parameters = run, network, parameters
        self._variables = jax.device_put(run.state.parameters(parameters))
        self._locate = jax.jit(partial(inference.locate, network))

    @classmethod
    def load(
        cls, folder: str | pathlib.Path, *, parameters: str | None = None, best: bool = False
    ) -> 'RootFinder':
        """Returns the RootNet of a run's last (or best) checkpoint; arguments as in `Predictor.load`.

        Raises:
            FileNotFoundError: no run, no checkpoint.
            ValueError: a run of another network; parameters that are not there.
        """
        run = checkpoint.load(folder, best=best)
        config = ConfigDict(configuration.completed(run.config))
        if config.model.lifting != 'rootnet':
            raise ValueError(
                f'{run.folder} is a run with model.lifting={config.model.lifting!r}, not a RootNet: give the '
                "folder that tools.import_torch made of RootNet's weights, or of a run of configs/rootnet.py."
            )
        network = inference.create_network(config, np.zeros(NUM_BETAS))
        return cls(run, network, parameters=parameters or run.state.averaged())

    @property
    def label(self) -> str:
        """Returns what to call it in results."""
        return f'RootNet run {self.run.folder.name}, step {self.run.step}, {self.parameters} parameters'

    def find(self, people: Sequence[Framed]) -> np.ndarray:
        """Returns the roots (N, 3) of people framed by `frame_roots`, camera frame, metres."""
        return self.locate(*batch_of(people))

    def locate(self, images: np.ndarray, crop: Crop) -> np.ndarray:
        """Returns the roots (N, 3) of crops (N, S, S, 3) uint8; arguments as in `inference.locate`."""
        return inference.in_batches(partial(self._locate, self._variables), images, crop)

    def of_records(self, source: Sequence[dict[str, Any]]) -> dict[str, FoundRoot]:
        """Returns record name -> root of a whole split, in its order.

        Raises:
            ValueError: naming a record without camera; a root that is behind the camera.
        """
        progress = tqdm(self._of_records(source), total=len(source), desc='roots', unit='image', leave=False)
        found = dict(progress)
        behind = [name for name, root in found.items() if not root.root_m[2] * MM_PER_M >= NEAREST_MM]
        if behind:
            raise ValueError(
                f'{self.label} sees {len(behind)} of {len(found)} roots behind the camera or closer than '
                f'{NEAREST_MM:g} mm, such as that of {behind[0]!r}: these parameters are not usable.'
            )
        return found

    def _of_records(self, source: Sequence[dict[str, Any]]) -> Iterator[tuple[str, FoundRoot]]:
        size = self.network.image_size

        def example_of(index: int) -> dict[str, np.ndarray]:
            record = source[index]
            name = augment.text(record['name'])
            if not record['camera_weight'] > 0:
                raise ValueError(f'Record {name!r} has no camera: the root in its frame cannot be predicted.')
            return pipeline.evaluation_example(record, crop_size=size) | {'name': np.array(name)}

        count = len(source)
        examples = pipeline.evaluation_batches(
            range(count), example_of, batch_size=min(count, RECORDS_AT_ONCE)
        )
        for fields, filled in examples:
            crop = pipeline.to_batch(fields).crop
            squares = np.asarray(inference.square_roots(crop, crop_size=size))
            roots = zip(self.locate(fields['image'], crop), crop.root_m, squares, strict=True)
            for name, root in list(zip(fields['name'].tolist(), roots, strict=True))[:filled]:
                yield name, FoundRoot(*root)


def frame_roots(request: Request, image_size: int) -> list[Framed]:
    """Returns RootNet's crops of a request's people; their depth is that of the square of 2 m.

    Its boxes are moved to where their left and upper edges are on the photo, before they are clipped.

    Raises:
        FileNotFoundError, ValueError: as `photo.frame`.
    """
    moved = request.boxes
    if moved is not None:
        moved = np.array([[max(0.0, x), max(0.0, y), w, h] for x, y, w, h in moved]).reshape(-1, 4)
    own = dataclasses.replace(request, boxes=moved, root_depth_m=None, enlargement=ENLARGEMENT)
    return frame(own, image_size)


def root_guesses(
    records: Iterable[dict[str, Any]], *, crop_size: int
) -> dict[str, Callable[[Crop], jax.Array | np.ndarray]]:
    """Returns the `GUESSES` that there are, by title: functions from crops to roots (B, 3).

    Args:
        records: people to learn the constants from; without one that has a camera there are none.
    """

    def targets(record: dict[str, Any]) -> dict[str, np.ndarray]:
        affine = augment.affine_of(record, augment.Augmentation(), crop_size)
        return augment.make_targets(record, affine, crop_size)

    square, constant, in_crop = GUESSES
    guesses = {square: jax.jit(partial(inference.square_roots, crop_size=crop_size))}
    if known := [targets(record) for record in records if record['camera_weight'] > 0]:
        fields = pipeline.stack(known)
        crop = Crop(**{field.name: fields[field.name] for field in dataclasses.fields(Crop)})
        root_m = np.float32(geometric_median(crop.root_m))
        ratio = np.median(crop.root_m[:, 2] / np.asarray(guesses[square](crop))[:, 2])
        uv = np.median(fields['uvd'][fields['uvd_weight'][:, 0, 0] > 0, 0, :2], 0)

        @jax.jit
        def same_in_every_crop(crop: Crop) -> jax.Array:
            count = crop.root_m.shape[0]
            rooted = Rooted(uv=jnp.tile(uv, (count, 1)), depth_ratio=jnp.full(count, ratio))
            return inference.place_roots(rooted, crop, crop_size=crop_size)

        guesses[constant] = lambda crop: np.broadcast_to(root_m, crop.root_m.shape)
        guesses[in_crop] = same_in_every_crop
    return guesses
