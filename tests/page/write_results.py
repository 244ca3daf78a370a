"""Writes folders as tools.predict and tools.predict_video do, of drawn people, and pages of them.

python -m tests.page.write_results DIR [SIZE [FRAMES]]

DIR/photo, DIR/own_cameras, DIR/photos (four) and DIR/video, each with its result.html; and what
tests/page/check.mjs compares the pages with: DIR/expected.json, and in DIR/expected joints and vertices by
smpl.skin and silhouettes of tools.predict's overlay.
"""

import dataclasses
import json
import pathlib
import sys

import cv2
import jax
import numpy as np
from scipy.spatial.transform import Rotation

from hybrik_jax.body import smpl, smpl_file
from hybrik_jax.body.projection import project
from hybrik_jax.export import motion, people
from hybrik_jax.synthetic.generator import Generator, random_light, render_person
from hybrik_jax.synthetic.posed_body import to_matrices
from hybrik_jax.synthetic.scene import Camera, room
from hybrik_jax.synthetic.things import cast_shadow
from hybrik_jax.types import Camera as VideoCamera
from hybrik_jax.types import Motion, Person, View
from hybrik_jax.view import people as pictures
from tools import view_result

RATE = 12.5
NAMES = ('ada', 'ben', 'cleo')
PATHS = (((-1.3, 0.3), (0.7, -0.3)), ((1.2, -0.4), (-0.5, -0.9)), ((0.2, -1.6), (1.5, -1.1)))  # x, z, metres
HEADINGS = ((0.9, 0.2), (-1.3, -0.4), (0.3, -0.8))
KINDS = ('walk', 'step', 'stand/', 'contrapposto')
EVERY = 10  # frames from one pose of the library to the next
HOSTILE = '</script><img src=x onerror=alert(1)>'  # a text that must stay one
ABOUT = {
    'checkpoint': {
        'folder': 'runs/drawn',
        'step': 1000,
        'parameters': 'tail',
        'flip_test': True,
        'image_size': 256,
        'trained_on': ['synthetic'],
        'synthetic_only': True,
    },
    'body_model': 'open_body (CC0)',
}


def rotations_of(number: int, count: int, poses: np.ndarray) -> np.ndarray:
    """Returns world rotations (count, 24, 3, 3) of somebody who goes from pose to pose."""
    rng = np.random.default_rng(number + 20)
    keys = Rotation.from_rotvec(poses[rng.integers(len(poses), size=count // EVERY + 2)].reshape(-1, 3))
    keys = keys.as_matrix().reshape(-1, 24, 3, 3)
    out = np.empty((count, 24, 3, 3))
    for frame in range(count):
        (at, rest), heading = divmod(frame, EVERY), np.interp(frame, [0, count], HEADINGS[number])
        share = 0.5 - 0.5 * np.cos(np.pi * rest / EVERY)
        turn = Rotation.from_matrix(keys[at].transpose(0, 2, 1) @ keys[at + 1]).as_rotvec()
        out[frame] = keys[at] @ Rotation.from_rotvec(share * turn).as_matrix()
        out[frame, 0] = to_matrices(np.array([0, heading, 0])) @ out[frame, 0]
    return out.astype(np.float32)


def draw(size: int, count: int) -> tuple[list[np.ndarray], list[Motion]]:
    """Returns frames (3/4 size, size, 3) uint8 RGB of three people in a room, and their motions."""
    generator = Generator('train', size=size)
    kinds = generator.library.kinds
    poses = generator.library.poses[[str(kind).startswith(KINDS) for kind in kinds]]
    tilt = np.deg2rad(9)
    view = np.array([[1, 0, 0], [0, -np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), -np.cos(tilt)]])
    camera = Camera(view, np.array([0.0, 1.7, 4.6]), 1.15 * size, ((size - 1) / 2, (size - 1) / 2), size)
    rng = np.random.default_rng(5)
    light = random_light(rng)
    background, floor, points = room(rng, camera, camera.rays())
    background = np.ascontiguousarray(background, np.float32).reshape(size, size, 3)
    betas = np.clip(rng.normal(size=(len(NAMES), 10)), -1.5, 1.5).astype(np.float32)
    rotations = [rotations_of(number, count, poses) for number in range(len(NAMES))]
    roots, frames, top = np.zeros((len(NAMES), count, 3)), [], size // 6
    for frame in range(count):
        image, layers = background.copy(), []
        for number in range(len(NAMES)):
            own = np.random.default_rng(number + 40)
            parts, bare, joints = generator.stylist.dress(own, betas[number], rotations[number][frame])
            x, z = (np.interp(frame, [0, count], ends) for ends in zip(*PATHS[number], strict=True))
            move = np.array([x - joints[0, 0], -bare[:, 1].min(), z - joints[0, 2]], np.float32)
            for part in parts:
                part.vertices = part.vertices + move
            cast_shadow(image, floor, points, bare[::2] + move, light, np.random.default_rng(1))
            roots[number, frame] = camera.to_camera(joints[:1] + move)[0]
            layers.append((roots[number, frame, 2], render_person(parts, camera, light, own)[:2]))
        for _, (colour, alpha) in sorted(layers, key=lambda layer: -layer[0]):
            image = image * (1 - alpha[..., None]) + colour
        frames.append((image[top : top + 3 * size // 4] * 255 + 0.5).clip(0, 255).astype(np.uint8))
    for own in rotations:
        own[:, 0] = view @ own[:, 0]
    seen = VideoCamera(
        focal=(camera.focal, camera.focal),
        centre=(camera.centre[0], camera.centre[1] - top),
        size=(size, 3 * size // 4),
    )
    numbers = np.arange(count)
    there = (numbers >= 0, numbers >= count // 5, (numbers < count // 3) | (numbers >= count // 2))
    return frames, [
        Motion(
            name=name,
            body=ABOUT['body_model'],
            camera=seen,
            frame_rate=RATE,
            frames=numbers[there[k]],
            rotations=rotations[k][there[k]],
            betas=betas[k],
            translation_m=roots[k][there[k]].astype(np.float32),
            filled=np.isin(numbers, range(count // 2, count // 2 + 4))[there[k]] & (k == 2),
        )
        for k, name in enumerate(NAMES)
    ]


def skinned(one: Motion, row: int, body: smpl.SMPL) -> tuple[np.ndarray, np.ndarray]:
    """Returns vertices (V, 3) and joints (24, 3) of a row of a motion, camera frame, metres."""
    posed = _skin(body, one.betas, one.rotations[row])
    move = one.translation_m[row] - np.asarray(posed.joints[0])
    return np.asarray(posed.vertices) + move, np.asarray(posed.joints) + move


_skin = jax.jit(smpl.skin)


def as_people(motions: list[Motion], frame: int, body: smpl.SMPL) -> list[Person]:
    """Returns those who are there in a frame, as `Predictor` does."""
    found = []
    for one in motions:
        (rows,) = np.nonzero(one.frames == frame)
        if not len(rows):
            continue
        row = int(rows[0])
        vertices, joints = skinned(one, row, body)
        pixels = project(vertices, np.array(one.camera.focal), np.array(one.camera.centre))
        low, high = pixels.min(0).clip(0), np.minimum(pixels.max(0), np.array(one.camera.size) - 1)
        root = one.translation_m[row]
        joints_px = project(joints, np.array(one.camera.focal), np.array(one.camera.centre))
        view = View(
            photo_size=one.camera.size,
            box=np.concatenate([low, high - low + 1]),
            crop_to_photo=np.eye(2, 3),
            focal=np.array(one.camera.focal),
            focal_assumed=False,
            centre=np.array(one.camera.centre),
            centre_assumed=False,
            root_depth_m=float(root[2]),
            root_depth_assumed=True,
            box_score=0.9,
        )
        rotations = one.rotations[row]
        found.append(
            Person(
                view=view,
                translation_m=root,
                joints_px=joints_px,
                projected_px=joints_px,
                posed_joints_m=joints - root,
                lifted_joints_m=joints - root,
                vertices_m=vertices - root,
                rotations=rotations,
                axis_angles=Rotation.from_matrix(rotations).as_rotvec(),
                betas=one.betas,
                warnings=('These people are drawn, and what is shown is how they were drawn.', HOSTILE),
            )
        )
    return found


def with_camera(person: Person, scale: float, shift: float) -> Person:
    """Returns the person as another camera would: `scale` times the focal length, centre `shift` px aside."""
    view = dataclasses.replace(
        person.view, focal=person.view.focal * scale, centre=person.view.centre + [shift, -shift]
    )
    return dataclasses.replace(person, view=view)


def write_photo(folder: pathlib.Path, image: np.ndarray, seen: list[Person], body: smpl.SMPL) -> None:
    """Writes what tools.predict does, of it what the page reads."""
    folder.mkdir(parents=True, exist_ok=True)
    bgr = image[..., ::-1]
    cv2.imwrite(str(folder / 'photo.jpg'), bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
    about = {'photo': f'{folder.name}.jpg', 'photo_size': list(image.shape[1::-1])} | ABOUT
    people.write_json(folder / 'prediction.json', seen, body, about)


def write_video(folder: pathlib.Path, frames: list[np.ndarray], motions: list[Motion]) -> None:
    """Writes what tools.predict_video does, of it what the page reads, and the video."""
    folder.mkdir(parents=True, exist_ok=True)
    size = frames[0].shape[1::-1]
    video = cv2.VideoWriter(str(folder / 'source.mp4'), cv2.VideoWriter.fourcc(*'mp4v'), RATE, size)
    for frame in frames:
        video.write(np.ascontiguousarray(frame[..., ::-1]))
    video.release()
    motion.write_motions(folder / 'motions.npz', motions)
    described = [
        {
            'name': one.name,
            'first': int(one.frames[0]),
            'last': int(one.frames[-1]),
            'seen': int((~one.filled).sum()),
            'filled': int(one.filled.sum()),
        }
        for one in motions
    ]
    about = {
        'source': str(folder / 'source.mp4'),
        'size': list(size),
        'frame_rate': RATE,
        'frames': len(frames),
        'smoothing': 'light',
        'people': described,
        'seconds': {'read': 0.1},
        'warnings': [],
    }
    (folder / 'video.json').write_text(json.dumps(about | ABOUT))


def silhouette(seen: list[Person], body: smpl.SMPL) -> np.ndarray:
    """Returns which pixels the overlay of tools.predict covers by half and more, (height, width) bool."""
    width, height = seen[0].view.photo_size
    faces = np.asarray(body.faces)
    black, white = (
        pictures.draw_overlay(np.full((height, width, 3), shade, np.uint8), seen, faces).astype(int)
        for shade in (0, 255)
    )
    hidden = 1 - (white - black).mean(2) / 255  # how much of the photo, which is seen through the meshes
    return hidden >= 0.49 * np.median(hidden[hidden > 0.1])


def main(out: pathlib.Path, size: int = 400, count: int = 30) -> None:
    body = smpl_file.load_body()
    frames, motions = draw(size, count)
    write_video(out / 'video', frames, motions)
    shots = {'together': 1 + count // 5, 'first': 0, 'last': count - 1}
    for name, frame in shots.items():
        write_photo(out / 'photos' / name, frames[frame], as_people(motions, frame, body), body)
    write_photo(out / 'photos' / 'nobody', frames[0], [], body)
    together = as_people(motions, shots['together'], body)
    own = [with_camera(person, 1 + 0.3 * k, 12.0 * k) for k, person in enumerate(together)]
    (out / 'expected').mkdir(exist_ok=True)
    for kind, seen in {'photo': together, 'own_cameras': own}.items():
        write_photo(out / kind, frames[shots['together']], seen, body)
        silhouette(seen, body).astype(np.uint8).tofile(out / 'expected' / f'silhouette_{kind}.u8')
    for kind in ('photo', 'own_cameras', 'photos', 'video'):
        view_result.run([str(out / kind)])
    expected = []
    for number, one in enumerate(motions):
        for row in {0, len(one.frames) // 2, len(one.frames) - 1}:
            name, (vertices, joints) = f'{number}_{row}', skinned(one, row, body)
            vertices.astype('<f4').tofile(out / 'expected' / f'vertices_{name}.f4')
            joints.astype('<f4').tofile(out / 'expected' / f'joints_{name}.f4')
            expected.append({'person': number, 'frame': int(one.frames[row]), 'name': name})
    (out / 'expected.json').write_text(json.dumps({'size': motions[0].camera.size, 'posed': expected}))


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
