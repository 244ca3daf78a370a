"""Evaluation on real photos: the 2D keypoints of people who are labelled in a file of COCO's form.

Everybody with a labelled torso is predicted in the annotated box as `predict` does it with any photo: with a
camera that is assumed, or the network's own. COCO's 17 keypoints are read off the body (12 of its joints;
nose, eyes and ears are vertices of its mesh), projected, and compared with the labels that are marked as
visible. What the figures are is in `scoring.keypoints`.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from hybrik_jax import annotation_file
from hybrik_jax.body import landmarks
from hybrik_jax.body.projection import project
from hybrik_jax.files import shown
from hybrik_jax.inference import BATCH_SIZES
from hybrik_jax.photo import Request, read_photo
from hybrik_jax.predict import Predictor
from hybrik_jax.scoring import keypoints, protocols
from hybrik_jax.types import Person

NAMES = landmarks.SKELETONS['coco']
VISIBLE = 2  # COCO's mark of a keypoint that can be seen; 1: labelled, but covered
_PERSON = 1  # COCO's category


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A labelled person: the photo's file, box (4,) x y w h, keypoints (17, 2), pixels, and marks (17,)."""

    photo: pathlib.Path
    box: np.ndarray
    points_px: np.ndarray
    marks: np.ndarray


@dataclasses.dataclass(frozen=True)
class LabelledPeople:
    """Everybody of an annotation file with a torso, those of one photo in a row.

    file: the annotations.
    without_torso: how many there are besides, who are left out.
    """

    file: pathlib.Path
    people: Sequence[Labelled]
    without_torso: int

    @classmethod
    def read(cls, file: str | pathlib.Path, photos: str | pathlib.Path = '') -> 'LabelledPeople':
        """Returns the people of a file of COCO's form; crowds and other categories are passed over.

        Args:
            photos: the folder in which `file_name` of the images begins; '' is the folder of the file.
        Raises:
            FileError: a field is missing or cannot be.
            FileNotFoundError: there is no such file.
            ValueError: nobody has a torso.
        """
        file = pathlib.Path(file)
        folder = pathlib.Path(photos) if photos else file.parent
        people, without = {}, 0
        for fields in annotation_file.joined_items(file, _of_image):
            if fields.item.get('iscrowd') or fields.item.get('category_id', _PERSON) != _PERSON:
                continue
            points = fields.numbers('keypoints', (len(NAMES), 3))
            if np.isnan(keypoints.torso_px(points[None, :, :2], points[None, :, 2] > 0, NAMES)[0]):
                without += 1
                continue
            one = Labelled(
                photo=folder / fields.path('file_name'),
                box=fields.numbers('bbox', (4,)),
                points_px=points[:, :2],
                marks=points[:, 2],
            )
            people.setdefault(one.photo, []).append(one)
        if not people:
            raise ValueError(
                f'{shown(file)} has nobody with a shoulder and the hip across from it labelled: there is '
                'nothing to measure errors in.'
            )
        return cls(file, [one for of_photo in people.values() for one in of_photo], without)

    @property
    def protocol(self) -> str:
        """Returns whom figures are of, in words."""
        left_out = f'{self.without_torso} without a labelled torso left out'
        return f'{self.file.name}: {len(self.people)} people ({left_out}), boxes annotated'

    def torsos_px(self) -> np.ndarray:
        """Returns the length of each person's torso (N,), pixels."""
        points, marks = self._stacked()
        return keypoints.torso_px(points, marks > 0, NAMES)

    def errors(self, predicted_px: np.ndarray) -> np.ndarray:
        """Returns the errors (N, 17) in torsos of keypoints (N, 17, 2); NaN where none is visible."""
        points, marks = self._stacked()
        return keypoints.relative_errors(predicted_px, points, marks == VISIBLE, self.torsos_px())

    def _stacked(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([one.points_px for one in self.people]), np.array([one.marks for one in self.people])


def _of_image(image: annotation_file.Fields) -> dict[str, Any]:
    return {'file_name': image.path('file_name')}


def keypoints_px(person: Person) -> np.ndarray:
    """Returns COCO's keypoints (17, 2) of a predicted body on its photo, pixels."""
    points_m = landmarks.of_posed('coco', person.posed_joints_m, person.vertices_m) + person.translation_m
    in_front = np.maximum(points_m, [-np.inf, -np.inf, 1e-6])
    return project(in_front, person.view.focal, person.view.centre)


def root_of(predictor: Predictor) -> str:
    """Returns in words whose depth people are lifted with."""
    if predictor.root is not None:
        return f'predicted ({predictor.root.label})'
    return "the network's" if predictor.network.camera else 'assumed'


def predict_all(
    predictors: Mapping[Hashable, Predictor], labelled: LabelledPeople
) -> dict[Hashable, np.ndarray]:
    """Returns the keypoints (N, 17, 2) of everybody, pixels, by each predictor; a photo is read once.

    Raises:
        FileNotFoundError, ValueError: a photo or a box that cannot be used.
    """
    found = {name: [] for name in predictors}
    with tqdm(total=len(labelled.people), desc='2D keypoints', unit='person', leave=False) as bar:
        for requests in _requests(labelled.people):
            for name, predictor in predictors.items():
                found[name] += [keypoints_px(one) for people in predictor.predict(requests) for one in people]
            bar.update(sum(len(request.boxes) for request in requests))
    return {name: np.array(points) for name, points in found.items()}


def _requests(people: Sequence[Labelled]) -> Iterator[list[Request]]:
    """Yields the people photo by photo, about as many at once as a batch holds."""
    requests, count = [], 0
    for photo, of_photo in itertools.groupby(people, lambda one: one.photo):
        boxes = [one.box for one in of_photo]
        requests.append(Request(photo=read_photo(photo), boxes=boxes))
        count += len(boxes)
        if count >= BATCH_SIZES[-1]:
            yield requests
            requests, count = [], 0
    if requests:
        yield requests


def rows(predictors: Mapping[tuple[str, bool], Predictor], labelled: LabelledPeople) -> list[dict[str, Any]]:
    """Returns the rows of an evaluation: all keypoints, then each, left and right together, by predictor.

    A row has all of `scoring.table.PROTOCOL` but dataset, body_model, checkpoint and config.

    Args:
        predictors: by parameters and flip test.
    """
    torsos = labelled.torsos_px()
    found = []
    for (parameters, flip), points in predict_all(predictors, labelled).items():
        said = {
            'protocol': protocols.TWO_D.name,
            'joints': protocols.TWO_D.joints,
            'root': root_of(predictors[parameters, flip]),
            'box': 'annotated',
            'gender': 'neutral',
            'parameters': parameters,
            'flip_test': flip,
            'frames': len(labelled.people),
        }
        for part, figures in keypoints.by_part(labelled.errors(points), torsos, NAMES).items():
            every = part == keypoints.ALL
            over = f'{figures["keypoints"]} visible keypoints' if every else f'{part}, {figures["keypoints"]}'
            measures = {f'{m}_2d': figures[m] for m in ('pck', 'error', 'error_px') if m in figures}
            found.append(said | {'group': 'all' if every else 'keypoint', 'over': over} | measures)
    return found
