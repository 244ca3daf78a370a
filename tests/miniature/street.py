"""The two datasets of several people per photo: 3DPW, parsed and as officially released, and MSCOCO
keypoints.
"""

import json
import pathlib
import struct
from typing import Any

import cv2
import numpy as np

from hybrik_jax.synthetic.posed_body import to_axis_angle, to_matrices
from tests.miniature.people import (
    Camera,
    Picture,
    TruePerson,
    Truth,
    body,
    draw_person,
    draw_picture,
    generator,
    keypoints_of,
    places,
    random_betas,
    random_camera,
    write_photo,
)

PW3D_FILES = {'train': '3DPW_train_new.json', 'test': '3DPW_test_new.json'}
PW3D_FRAMES = 3  # photos of a sequence
PW3D_PLACES = ('courtyard_talking', 'downtown_walking', 'outdoors_fencing', 'flat_packing')
OPENPOSE_18 = (
    'nose', 'neck', 'right_shoulder', 'right_elbow', 'right_wrist', 'left_shoulder', 'left_elbow',
    'left_wrist', 'right_hip', 'right_knee', 'right_ankle', 'left_hip', 'left_knee', 'left_ankle',
    'right_eye', 'left_eye', 'right_ear', 'left_ear',
)  # fmt: skip
COCO_17 = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder', 'left_elbow',
    'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee', 'right_knee',
    'left_ankle', 'right_ankle',
)  # fmt: skip
COCO_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10),
    (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip


# ---- 3DPW


def write_pw3d(folder: pathlib.Path, *, train: int = 6, test: int = 6, seed: int = 0) -> Truth:
    """Writes json/ and imageFiles/ with `train` and `test` photos: two people in most, one in every third
    sequence.

    Each person's SMPL joints are 24 or 29 in turn. The list of images is in another order than the
    annotations. Two more annotations have a box that is under 5 px, one of them only after clipping; they
    repeat the first person.
    """
    folder = pathlib.Path(folder)
    splits = {}
    for split, count in (('train', train), ('test', test)):
        images, annotations, splits[split] = [], [], []
        for photo, people in enumerate(_pw3d_photos(folder, split, count, seed)):
            first = people[0]
            images.append(
                {
                    'id': 7000 + photo,
                    'file_name': first.photo.name,
                    'sequence': first.sequence,
                    'width': first.width,
                    'height': first.height,
                    'cam_param': {'focal': first.focal.tolist(), 'princpt': first.centre.tolist()},
                }
            )
            splits[split] += people
            annotations += [_pw3d_annotation(person, 7000 + photo) for person in people]
        if count:
            first = splits[split][0]
            for box in ([20.0, 30.0, 4.0, 4.5], [first.width - 3.0, 30.0, 80.0, 120.0]):
                left = TruePerson(**vars(first) | {'box': np.array(box), 'left_out': 'box under 5 px'})
                splits[split].insert(1, left)
                annotations.insert(1, _pw3d_annotation(left, 7000))
        for number, annotation in enumerate(annotations):
            annotation['id'] = number
            if number % 2:
                annotation['smpl_joint_cam'] = splits[split][number].joints_m.tolist()
        path = folder / 'json' / PW3D_FILES[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({'images': images[::-1], 'annotations': annotations}))
    return Truth(splits)


def _pw3d_annotation(person: TruePerson, image_id: int) -> dict[str, Any]:
    joints = person.joints_m[:24]
    pixels = (joints[:, :2] / joints[:, 2:]) * person.focal + person.centre
    return {
        'image_id': image_id,
        'bbox': person.box.tolist(),
        'smpl_param': {'pose': person.pose.ravel().tolist(), 'shape': person.betas.tolist()},
        'fitted_3d_pose': joints.tolist(),
        'smpl_joint_cam': joints.tolist(),
        'smpl_joint_img': np.concatenate([pixels, joints[:, 2:]], 1).tolist(),
        'h36m_joints': person.h36m_joints_m.tolist(),
    }


def _pw3d_photos(folder: pathlib.Path, split: str, count: int, seed: int) -> list[list[TruePerson]]:
    """The people of each photo of a split, from left to right; the photos are written.

    The photos of a sequence share camera, people and their shapes.
    """
    out = []
    for i in range(count):
        number, frame = divmod(i, PW3D_FRAMES)
        setting = generator(seed, 'pw3d', split, number)
        camera = random_camera(setting, *((480, 360) if number % 2 else (360, 480)))
        shapes = [random_betas(setting) for _ in range(1 if number % 3 == 2 else 2)]
        rng = generator(seed, 'pw3d', split, number, frame)
        people = [
            draw_person(rng, split, camera, middle, size, betas)
            for betas, (middle, size) in zip(
                shapes, places(rng, camera, len(shapes), clipped=i % 4 == 1), strict=True
            )
        ]
        sequence = f'{PW3D_PLACES[number % 4]}_{split}_{number:02d}'
        path = folder / 'imageFiles' / sequence / f'image_{frame:05d}.jpg'
        write_photo(path, draw_picture(rng, camera, people).image)
        for person in people:
            person.photo, person.sequence = path, sequence
        out.append(people)
    return out


def write_pw3d_official(
    folder: pathlib.Path, *, train: int = 6, test: int = 6, validation: int = 2, seed: int = 0
) -> Truth:
    """Writes sequenceFiles/{train,validation,test}/*.pkl and imageFiles/: the people of `write_pw3d`.

    The truth goes by sequence, then photo, then actor. Each sequence has one more frame at its end whose
    camera is not valid for any actor. In a split's first frame the last actor has no 2D joints (none were
    detected), and is left out; joints outside the photo have none either. The truth's boxes are the tight
    ones, the files have none.
    """
    folder = pathlib.Path(folder)
    splits = {}
    for split, count in (('train', train), ('validation', validation), ('test', test)):
        splits[split] = []
        scenes = _pw3d_photos(folder, split, count, seed)
        for sequence in sorted({people[0].sequence for people in scenes}):
            frames = [people for people in scenes if people[0].sequence == sequence]
            invalid = frames[-1][0].photo.with_name(f'image_{len(frames):05d}.jpg')
            invalid.write_bytes(frames[-1][0].photo.read_bytes())
            left_out = {'photo': invalid, 'left_out': 'camera pose not valid'}
            frames.append([TruePerson(**vars(person) | left_out) for person in frames[-1]])
            if frames[0] is scenes[0]:
                frames[0][-1].left_out = 'no point in poses2d'
            content = _sequence(sequence, frames, generator(seed, 'pw3d cameras', sequence))
            path = folder / 'sequenceFiles' / split / f'{sequence}.pkl'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(python2_pickle(content))
            splits[split] += [person for people in frames for person in people]
    return Truth(splits)


def _sequence(name: str, frames: list[list[TruePerson]], rng: np.random.Generator) -> dict[str, Any]:
    """What a sequence file holds of frames of actors; the last frame's camera pose is not valid."""
    count, actors = len(frames), len(frames[0])
    to_camera = np.tile(np.eye(4), (count, 1, 1))  # world to camera, a camera that moves
    to_camera[:, :3, :3] = to_matrices(rng.normal(0, 0.2, 3) + rng.normal(0, 0.03, (count, 3))) @ to_matrices(
        np.array([np.pi, 0, 0])
    )
    to_camera[:, :3, 3] = rng.normal(0, 1, 3) + rng.normal(0, 0.1, (count, 3))
    poses, trans, joints = (
        np.zeros((actors, count, 72)),
        np.zeros((actors, count, 3)),
        np.zeros((actors, count, 72)),
    )
    poses2d = np.zeros((actors, count, 3, 18))
    for frame, people in enumerate(frames):
        turn, shift = to_camera[frame, :3, :3], to_camera[frame, :3, 3]
        for actor, person in enumerate(people):
            pose = person.pose.copy()
            pose[0] = to_axis_angle(turn.T @ to_matrices(pose[0]))
            world = (person.joints_m[:24] - shift) @ turn
            poses[actor, frame], joints[actor, frame] = pose.ravel(), world.ravel()
            trans[actor, frame] = world[0] - body().rest_points(person.betas)[0]
            if not person.left_out:
                points = keypoints_of(person)
                camera = Camera(person.width, person.height, person.focal, person.centre)
                pixels = camera.pixels(np.array([points[name] for name in OPENPOSE_18]))
                found = camera.shows(pixels)
                poses2d[actor, frame, :2] = np.where(found, pixels.T, 0)
                poses2d[actor, frame, 2] = np.where(found, rng.uniform(0.5, 0.95, 18), 0)
    first = frames[0][0]
    valid = np.ones(count, np.int64)
    valid[-1] = 0
    return {
        'sequence': name,
        'genders': ['mf'[actor % 2] for actor in range(actors)],
        'betas': [person.betas for person in frames[0]],
        'betas_clothed': [person.betas for person in frames[0]],
        'poses': list(poses),
        'trans': list(trans),
        'poses_60Hz': [np.repeat(p, 2, 0) for p in poses],
        'trans_60Hz': [np.repeat(t, 2, 0) for t in trans],
        'jointPositions': list(joints),
        'poses2d': list(poses2d),
        'campose_valid': [valid] * actors,
        'cam_poses': to_camera,
        'cam_intrinsics': Camera(first.width, first.height, first.focal, first.centre).matrix(),
        'img_frame_ids': 2 * np.arange(count),
        'v_template_clothed': [np.zeros((0, 3))] * actors,
        'texture_maps': [],
    }


def python2_pickle(value: Any) -> bytes:
    """`value` as Python 2 would have pickled it with protocol 2: text as bytes, arrays by numpy.core's names.

    For dicts, lists, str, int, float and numpy arrays of numbers.
    """
    return b'\x80\x02' + _pickled(value) + b'.'


def _pickled(value: Any) -> bytes:
    if isinstance(value, dict):
        return b'}(' + b''.join(_pickled(k) + _pickled(v) for k, v in value.items()) + b'u'
    if isinstance(value, list):
        return b'](' + b''.join(map(_pickled, value)) + b'e'
    if isinstance(value, tuple):
        return b'(' + b''.join(map(_pickled, value)) + b't'
    if value is None or isinstance(value, bool):
        return {None: b'N', True: b'\x88', False: b'\x89'}[value]
    if isinstance(value, int):
        return b'J' + struct.pack('<i', value)
    if isinstance(value, float):
        return b'G' + struct.pack('>d', value)
    if isinstance(value, str | bytes):
        raw = value.encode('latin1') if isinstance(value, str) else value
        return b'T' + struct.pack('<i', len(raw)) + raw
    if isinstance(value, np.ndarray) and value.dtype.kind in 'iuf':
        make = (
            b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n'
            + _pickled((0,))
            + _pickled('b')
            + b'tR'
        )
        kind = b'cnumpy\ndtype\n' + _pickled((value.dtype.str[1:], 0, 1)) + b'R'
        kind += _pickled((3, '<', None, None, None, -1, -1, 0)) + b'b'
        data = _pickled(np.ascontiguousarray(value, value.dtype.newbyteorder('<')).tobytes())
        return make + b'(' + _pickled(1) + _pickled(value.shape) + kind + _pickled(False) + data + b'tb'
    raise TypeError(f'no Python 2 pickle of {type(value).__name__} is written here')


# ---- MSCOCO


def write_coco(folder: pathlib.Path, *, train: int = 6, validation: int = 6, seed: int = 0) -> Truth:
    """Writes annotations/, train2017/ and val2017/ with `train` and `validation` photos of two people side by
    side.

    Keypoints are whole pixels, 0 0 0 outside the photo, v = 1 behind somebody else; boxes are clipped. Every
    fourth photo has a person at its edge, every fourth one before the other. The first photo of a split also
    has a crowd, an annotation of no area and one without keypoints; the second has no `coco_url`, and lies in
    `folder` itself too, under its `file_name`. The list of images is in another order than the annotations.
    """
    folder = pathlib.Path(folder)
    splits = {}
    for split, count in (('train', train), ('validation', validation)):
        short = {'train': 'train', 'validation': 'val'}[split]
        images, annotations, splits[split] = [], [], []
        for i in range(count):
            rng = generator(seed, 'coco', split, i)
            camera = random_camera(rng, *((400, 300), (320, 400))[i % 2])
            spots = places(rng, camera, 2, clipped=i % 4 == 2)
            if i % 4 == 3:  # the second, larger and so nearer, before the first
                spots[1] = (0.12 * spots[1][0] + 0.88 * spots[0][0], 1.2 * spots[0][1])
            people = [draw_person(rng, split, camera, middle, size) for middle, size in spots]
            picture = draw_picture(rng, camera, people)
            number = 139 + 146 * i + (500000 if split == 'validation' else 0)
            name = f'{number:012d}.jpg'
            image = {
                'license': 4,
                'file_name': name,
                'coco_url': f'http://images.cocodataset.org/{short}2017/{name}',
                'height': camera.height,
                'width': camera.width,
                'date_captured': '2013-11-14 11:18:45',
                'flickr_url': f'http://example.org/{name}',
                'id': number,
            }
            path = folder / f'{short}2017' / name
            if i == 1:
                del image['coco_url']
                write_photo(folder / name, picture.image)
            write_photo(path, picture.image)
            images.append(image)
            found = [_coco_annotation(person, k, camera, picture, number) for k, person in enumerate(people)]
            if i == 0:
                people, found = _with_odd_ones(people, found, camera)
            for person, annotation in zip(people, found, strict=True):
                person.photo = path
                person.box = np.array(annotation['bbox'])
                annotation['id'] = (
                    900100000000 + number if annotation['iscrowd'] else 425000 + len(annotations)
                )
                annotations.append(annotation)
                splits[split].append(person)
        content = {
            'info': {
                'description': 'miniature',
                'version': '1.0',
                'year': 2017,
                'url': '',
                'contributor': '',
            },
            'licenses': [{'url': '', 'id': 4, 'name': 'CC0'}],
            'images': images[::-1],
            'annotations': annotations,
            'categories': [
                {
                    'supercategory': 'person',
                    'id': 1,
                    'name': 'person',
                    'keypoints': list(COCO_17),
                    'skeleton': [list(pair) for pair in COCO_SKELETON],
                }
            ],
        }
        path = folder / 'annotations' / f'person_keypoints_{short}2017.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / f'{short}2017').mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return Truth(splits)


def _coco_annotation(
    person: TruePerson, k: int, camera: Camera, picture: Picture, image_id: int
) -> dict[str, Any]:
    """The annotation, without its id, of the k-th person of a photo."""
    points = keypoints_of(person)
    points = np.array([points[name] for name in COCO_17])
    pixels = camera.pixels(points).round().astype(int)
    shown = ((pixels >= 0) & (pixels < [camera.width, camera.height])).all(1)
    x, y = np.where(shown[:, None], pixels, 0).T
    hidden = (picture.owner[y, x] >= 0) & (picture.owner[y, x] != k)
    keypoints = np.stack([x, y, np.where(shown, np.where(hidden, 1, 2), 0)], 1)
    mask = (picture.owner == k).astype(np.uint8)
    outlines = [
        c for c in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0] if len(c) > 2
    ]
    low = np.clip(person.box[:2], 0, None)
    high = np.clip(person.box[:2] + person.box[2:] - 1, None, [camera.width - 1, camera.height - 1])
    return {
        'segmentation': [outline.ravel().astype(float).tolist() for outline in outlines],
        'num_keypoints': int(shown.sum()),
        'area': float(mask.sum()),
        'iscrowd': 0,
        'keypoints': keypoints.ravel().tolist(),
        'image_id': image_id,
        'bbox': np.concatenate([low, high - low + 1]).round(2).tolist(),
        'category_id': 1,
    }


def _with_odd_ones(
    people: list[TruePerson], found: list[dict[str, Any]], camera: Camera
) -> tuple[list[TruePerson], list[dict[str, Any]]]:
    """People and annotations of a photo with three to be left out between the first and the second."""
    height, width = camera.height, camera.width
    nothing = {'keypoints': [0] * 51, 'num_keypoints': 0}
    crowd = {
        'segmentation': {'counts': [height * 10, height * 5, height * (width - 15)], 'size': [height, width]}
    }
    crowd |= nothing | {'iscrowd': 1, 'area': height * 5.0, 'bbox': [10.0, 0.0, 5.0, float(height)]}
    odd = {
        'crowd': found[0] | crowd,
        'no area': found[0] | {'area': 0.0},
        'no visible keypoint': found[0] | nothing,
    }
    extra = [TruePerson(**vars(people[0]) | {'left_out': reason}) for reason in odd]
    return [people[0], *extra, *people[1:]], [found[0], *odd.values(), *found[1:]]
