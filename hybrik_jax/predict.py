"""The package's front door: photos in, people out.

    from hybrik_jax.predict import Predictor

    predictor = Predictor.load()  # the network that comes with the package; or Predictor.load('runs/NAME')
    people = predictor('photo.jpg', boxes=[[281, 45, 219, 347]])
    print(people[0].posed_joints_m + people[0].translation_m)

With `Predictor.load(detector=detect.Detector.load())` the boxes can be left away.
What a photo does not say is assumed (`photo`), and every `Person` says what was. With that camera and depth
the joints are lifted; the body that follows from them, whose size is its own, is then moved to where its
joints project closest to the network's 2D joints: `translation_m`. A network with a camera tells where
the pelvis is instead, and nothing is assumed but, where it uses the photo's camera, the focal length.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import hybrik_jax
from hybrik_jax import bundled, checkpoint, detect, inference, setup
from hybrik_jax import config as configuration
from hybrik_jax.body import rotations as rot
from hybrik_jax.body import skeleton, smpl, smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.inference import BATCH_SIZES
from hybrik_jax.photo import DEPTH_M, Framed, Request, batch_of, frame, read_photo
from hybrik_jax.roots import RootFinder, frame_roots
from hybrik_jax.types import Crop, Lifted, Person, Posed, View

MOST_WAITING = 4 * BATCH_SIZES[-1]  # photos of a batch, however few people are in them
PLAUSIBLE = 4.0  # a fitted depth that differs by more than this factor from the one lifted with is a failure
FIT_ROUNDS = 4  # of reweighting; the last one moves the mesh by less than a millimetre
SYNTHETIC_WARNING = (
    'The network was trained on synthetic people only: on real photos expect large errors, and do not '
    'compare them with published figures.'
)


class Predictor:
    """A trained network and its body, ready for photos: `predictor(photo, boxes) -> list[Person]`.

    network, body: see `inference`, `body.smpl`.
    run: the checkpoint: folder, step, configuration.
    parameters: 'tail', 'ema' or 'raw', what was chosen.
    flip: average over the image and its mirror image.
    root: the RootNet that tells depths which are not given, None: they are assumed.
    detector: a function photo (height, width, 3) uint8 RGB -> boxes (N, 4) x y w h in pixels, scores (N,),
        such as `detect.Detector`, for photos without boxes. None: such a photo is one person's as a whole.
    """

    def __init__(
        self,
        run: checkpoint.Run,
        network: inference.Network,
        body: smpl.SMPL,
        *,
        parameters: str,
        flip: bool,
        root: RootFinder | None = None,
        detector: detect.DetectorFunction | None = None,
    ):
        self.run, self.network, self.body, self.root = run, network, body, root
        self.detector = detector
        self.parameters, self.flip = parameters, flip
        self._on_device = jax.device_put((run.state.parameters(parameters), body))
        self._forward = jax.jit(partial(_forward, network=network, flip=flip))

    @classmethod
    def load(
        cls,
        folder: str | pathlib.Path | None = None,
        *,
        parameters: str | None = None,
        best: bool = False,
        flip: bool = True,
        body: str | pathlib.Path | None = None,
        h36m_regressor: str | pathlib.Path | None = None,
        root: str | pathlib.Path | None = None,
        detector: detect.DetectorFunction | None = None,
    ) -> 'Predictor':
        """Returns the predictor of a run's last (or best) checkpoint, or of the network of the package.

        Args:
            folder: the run's workdir; None: the network that comes with the package, `bundled`.
            parameters: 'tail', 'ema', 'raw'; None: 'tail' where that average has begun, else 'ema'.
            flip: average over the image and its mirror image.
            body, h36m_regressor: body model files in place of those that the run's configuration names.
            root: the workdir of a RootNet's run, for depths that are not given; its parameters are chosen as
                for None. None: they are assumed.
            detector: as of the class.
        Raises:
            FileNotFoundError: no run, no checkpoint, no body file.
            ValueError: parameters that are not there, another body model than the network's, a RootNet's run
                in place of people's or the other way round.
        """
        if folder is None and best:
            raise ValueError('The network that comes with the package is one checkpoint: leave best away.')
        run = bundled.load() if folder is None else checkpoint.load(folder, best=best)
        config = run_config(run)
        if config.model.lifting == 'rootnet':
            raise ValueError(
                f'{run.folder} is a run of RootNet, which predicts root joints, not people: give it as root='
                "(--rootnet) beside a people's run."
            )
        model = _load_body(config, run.folder, body, h36m_regressor)
        network = inference.create_network(config, setup.init_betas(config, model))
        if network.camera and root is not None:
            raise ValueError(
                f'{run.folder} is a run of a network with a camera, which tells how far away people are: '
                'leave root (--rootnet) away.'
            )
        parameters = parameters or run.state.averaged()
        finder = None if root is None else RootFinder.load(root)
        return cls(run, network, model, parameters=parameters, flip=flip, root=finder, detector=detector)

    @property
    def synthetic_only(self) -> bool:
        """Tells whether no real photo was seen in training."""
        return synthetic_only(self.run.config)

    def about(self) -> dict[str, Any]:
        """Returns what is said of the network beside results, as it is written into JSON."""
        mixture = self.run.config['data']['mixture']
        return {
            'folder': str(self.run.folder),
            'step': self.run.step,
            'parameters': self.parameters,
            'flip_test': self.flip,
            'image_size': self.network.image_size,
            'trained_on': [dataset for dataset, share in mixture.items() if share > 0],
            'synthetic_only': self.synthetic_only,
        }

    def digest(self) -> str:
        """Returns a hash of what predictions follow from beside the photo: network, body, program."""
        used = [self.run.state.parameters(self.parameters), self.body]
        if self.root is not None:
            used.append(self.root.run.state.parameters(self.root.parameters))
        said = {'version': hybrik_jax.__version__, 'config': self.run.config, 'flip_test': self.flip}
        return hash_of(json.dumps(said, sort_keys=True), used)

    @property
    def compilations(self) -> int:
        """Counts the sizes of batch that were compiled so far."""
        return self._forward._cache_size()

    def __call__(
        self,
        photo: str | pathlib.Path | np.ndarray,
        boxes: Any = None,
        intrinsics: Any = None,
        root_depth_m: Any = None,
    ) -> list[Person]:
        """Returns the people in the boxes of a photo, in their order; arguments as in `Request`.

        Without boxes: those whom the detector finds, in its order, [] where it finds nobody; without a
        detector, the whole photo is taken as the box of one person.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no image; a box, camera or depth that cannot be; a detector that does not
                return boxes and scores; a prediction that is not finite.
        """
        request = Request(photo=photo, boxes=boxes, intrinsics=intrinsics, root_depth_m=root_depth_m)
        return next(self.predict([request]))

    def predict(
        self,
        requests: Iterable[Request],
        *,
        on_error: Callable[[Request, Exception], None] | None = None,
        known: Callable[[Request], int | None] | None = None,
    ) -> Iterator[list[Person]]:
        """Yields the people of each request, in order; the network sees people of several photos together.

        Args:
            on_error: called for a request whose photo, box, camera or depth cannot be used; it gives [].
                None: the error is raised, before any result of the batch that it would be in.
            known: tells of a request how many people were predicted before, None: it was not predicted. A
                batch of people who are all known is left out, its requests give []. Others are predicted
                whole, so that everybody is seen with the same people, and comes out the same to the last
                bit, as if nobody had been known.
        Raises:
            FileNotFoundError, ValueError: see `__call__`.
        """
        batch: list[list[Framed] | Request] = []  # people, or a request whose people are known
        count = 0
        for request in requests:
            before = None if known is None else known(request)
            batch.append(self._frame_or_tell(request, on_error) if before is None else request)
            count += len(batch[-1]) if before is None else before
            if count >= BATCH_SIZES[-1] or len(batch) == MOST_WAITING:
                yield from self._predict_batch(batch, on_error)
                batch, count = [], 0
        yield from self._predict_batch(batch, on_error)

    def _predict_batch(
        self,
        batch: Sequence[list[Framed] | Request],
        on_error: Callable[[Request, Exception], None] | None,
    ) -> Iterator[list[Person]]:
        """Yields the people of each entry of a batch; [] of all where nobody is new."""
        if not any(one for one in batch if isinstance(one, list)):
            yield from ([] for _ in batch)
            return
        yield from self._finish(
            [one if isinstance(one, list) else self._frame_or_tell(one, on_error) for one in batch]
        )

    def _frame_or_tell(
        self, request: Request, on_error: Callable[[Request, Exception], None] | None
    ) -> list[Framed]:
        """Returns the people of a request, [] where `on_error` was told that it cannot be used."""
        try:
            return self._frame(request)
        except (OSError, ValueError) as error:
            if on_error is None:
                raise
            on_error(request, error)
            return []

    def _frame(self, request: Request) -> list[Framed]:
        """Returns the people of a request; the detector finds those of a request without boxes."""
        if self.detector is None or request.boxes is not None:
            return self._frame_boxes(request)
        photo = request.photo if isinstance(request.photo, np.ndarray) else read_photo(request.photo)
        boxes, scores = detect.find(self.detector, photo)
        if not len(boxes):
            return []
        people = self._frame_boxes(dataclasses.replace(request, photo=photo, boxes=boxes))
        return [
            dataclasses.replace(one, view=dataclasses.replace(one.view, box_score=score))
            for one, score in zip(people, scores.tolist(), strict=True)
        ]

    def _frame_boxes(self, request: Request) -> list[Framed]:
        """Returns the people of a request; those whose depth is not given are framed for the RootNet, too."""
        if self.root is None or request.root_depth_m is not None:
            return frame(request, self.network.image_size, self.network.camera)
        if not isinstance(request.photo, np.ndarray):
            request = dataclasses.replace(request, photo=read_photo(request.photo))  # once for both
        people = frame(request, self.network.image_size)
        roots = frame_roots(request, self.root.network.image_size)
        return [dataclasses.replace(one, root=root) for one, root in zip(people, roots, strict=True)]

    def _with_roots(self, people: list[Framed]) -> list[Framed]:
        """Returns the people with the depths that the RootNet predicts for those who are framed for it."""
        asked = [one for one in people if one.root is not None]
        if not asked:
            return people
        depths = iter(self.root.find([one.root for one in asked])[:, 2].tolist())
        return [one if one.root is None else self._placed(one, next(depths)) for one in people]

    def _placed(self, one: Framed, depth_m: float) -> Framed:
        """Returns a person at the depth that the RootNet predicts; where that cannot be it stays assumed."""
        said, view = list(one.warnings), one.view
        if DEPTH_M[0] <= depth_m <= DEPTH_M[1]:
            view = dataclasses.replace(
                view, root_depth_m=depth_m, root_depth_assumed=False, root_depth_by=self.root.label
            )
            if view.focal_assumed:
                said.append("RootNet's depth is in proportion to the focal length, which is assumed.")
        else:
            said.append(
                f'RootNet predicts a root depth of {depth_m:.2f} m, which cannot be: one is assumed instead.'
            )
        return dataclasses.replace(one, view=view, warnings=tuple(said))

    def forward(self, images: np.ndarray, crop: Crop) -> tuple[Lifted, Posed, np.ndarray]:
        """Returns what the network says of crops (B, S, S, 3) uint8, the posed bodies, and their axis-angles.

        In batches as `inference.in_batches` makes them. All arrays are NumPy's.
        """
        return inference.in_batches(partial(self._forward, *self._on_device), images, crop)

    def _finish(self, waiting: Sequence[Sequence[Framed]]) -> Iterator[list[Person]]:
        """Yields the people of each photo, having run the network once over all of them."""
        everybody = self._with_roots([one for people in waiting for one in people])
        finished: Iterator[Person] = iter(())
        if everybody:
            outputs = self.forward(*batch_of(everybody))
            if not all(np.isfinite(x).all() for x in jax.tree.leaves(outputs)):
                raise ValueError(
                    f'The prediction is not finite: the {self.parameters} parameters of step '
                    f'{self.run.step} in {self.run.folder} are not usable.'
                )
            rows = (jax.tree.map(lambda x, k=k: x[k], outputs) for k in range(len(everybody)))
            finished = (self._person(one, *row) for one, row in zip(everybody, rows, strict=True))
        for people in waiting:
            yield [next(finished) for _ in people]

    def _seen(self, view: View, root_m: np.ndarray, said: list[str]) -> tuple[View, list[str]]:
        """Returns the view, and what is said, of a person whom the network's camera sees at `root_m` (3,)."""
        if not DEPTH_M[0] <= root_m[2] <= DEPTH_M[1]:
            lost = f"The network's camera sees the person at {root_m[2]:.2f} m, which cannot be"
            return view, [*said, f'{lost}: a depth is assumed instead.']
        if view.focal_assumed:
            said = [*said, "The depth is in proportion to the camera's focal length, which is assumed."]
        by = "the network's own camera"
        depth_m = float(root_m[2])
        view = dataclasses.replace(view, root_depth_m=depth_m, root_depth_assumed=False, root_depth_by=by)
        return view, said

    def _person(self, framed: Framed, lifted: Lifted, posed: Posed, axis_angles: np.ndarray) -> Person:
        """Returns the person, moved to where the posed body projects closest to the network's 2D joints."""
        view, said = framed.view, list(framed.warnings)
        if self.synthetic_only:
            said.insert(0, SYNTHETIC_WARNING)
        crop_px = (np.asarray(lifted.uvd[:, :2], np.float64) + 0.5) * self.network.image_size
        joints_px = crop_px @ view.crop_to_photo[:, :2].T + view.crop_to_photo[:, 2]
        camera = {'focal': view.focal, 'centre': view.centre}
        if posed.root_m is not None:
            view, said = self._seen(view, posed.root_m, said)
        depth_m = view.root_depth_m
        if posed.root_m is not None and view.root_depth_by:
            translation_m = np.asarray(posed.root_m, np.float64)
        else:
            two_d = joints_px[: skeleton.NUM_JOINTS]
            translation_m, fits = place(posed.posed_joints_m, two_d, depth_m=depth_m, **camera)
            if not fits:
                said.append(
                    f'The body cannot be fitted to the 2D joints; it is placed at a depth of {depth_m:.2f} m.'
                )
        in_front = np.maximum(posed.posed_joints_m + translation_m, [-np.inf, -np.inf, 1e-6])
        return Person(
            view=view,
            translation_m=translation_m,
            joints_px=joints_px,
            projected_px=project(in_front, **camera),
            posed_joints_m=posed.posed_joints_m,
            lifted_joints_m=posed.lifted_joints_m,
            vertices_m=posed.vertices_m,
            rotations=posed.rotations,
            axis_angles=axis_angles,
            betas=posed.betas,
            warnings=tuple(said),
        )


def _forward(
    variables: Any, body: smpl.SMPL, images: jax.Array, crop: Crop, *, network: inference.Network, flip: bool
) -> tuple[Lifted, Posed, jax.Array]:
    lifted, posed = inference.forward(network, variables, body, images, crop, flip=flip)
    return lifted, posed, jax.vmap(jax.vmap(rot.matrix_to_axis_angle))(posed.rotations)


def hash_of(text: str, arrays: Any) -> str:
    """Returns a hash, in hexadecimal, of a text and of all arrays of a tree, their types and shapes."""
    found = hashlib.sha256(text.encode())
    for leaf in jax.tree.leaves(arrays):
        array = np.ascontiguousarray(leaf)
        found.update(f'{array.dtype} {array.shape}'.encode())
        found.update(array)
    return found.hexdigest()


def run_config(run: checkpoint.Run) -> ConfigDict:
    """Returns the configuration of a run."""
    return ConfigDict(configuration.completed(run.config))


def synthetic_only(config: dict[str, Any]) -> bool:
    """Returns whether a run with this configuration sees no real photo in training."""
    return all(name == 'synthetic' for name, share in config['data']['mixture'].items() if share > 0)


def _load_body(
    config: ConfigDict,
    folder: pathlib.Path,
    body_file: str | pathlib.Path | None,
    h36m_regressor: str | pathlib.Path | None,
) -> smpl.SMPL:
    path, regressor = body_file or config.body, h36m_regressor or config.h36m_regressor
    for file, option in ((path, 'body'), (regressor, 'h36m_regressor')):
        if file and not pathlib.Path(file).is_file():
            raise FileNotFoundError(
                f'{file} does not exist: the network needs its body model, give {option}.'
            )
    trained_with_embedded = not config.body
    with config.unlocked():
        config.body, config.h36m_regressor = str(path), str(regressor)
    body = setup.load_body(config)
    if trained_with_embedded and body_file:
        smpl.check_same_body(body, smpl_file.load_body().name, f'the checkpoint in {folder}')
    return body


def place(
    joints_m: np.ndarray, joints_px: np.ndarray, *, depth_m: float, focal: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Returns the translation (3,) of `fit_translation`, and whether its depth is plausible.

    Where it is not, the translation is the best one at `depth_m`, the depth that the joints were lifted with.
    """
    fit = partial(fit_translation, joints_m, joints_px, focal=focal, centre=centre)
    translation_m = fit()
    if depth_m / PLAUSIBLE < translation_m[2] < depth_m * PLAUSIBLE:
        return translation_m, True
    return fit(depth_m=depth_m), False


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
        joints_m: (J, 3) in any place, axes of the camera.
        joints_px: (J, 2) pixels.
        focal, centre: (2,), pixels.
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
            right = (weights * focal * known).ravel()
            translation = np.linalg.lstsq(rows.reshape(-1, 3), right, rcond=None)[0]
        else:
            across = (weights**2 * (known + rays * depth_m)).sum(0) / (weights**2).sum()
            translation = np.append(across, depth_m)
        weights = 1 / np.maximum(joints_m[:, 2:] + translation[2], 0.1)
    return translation
