"""Several people in one picture: the nearer ones are in front, and everybody has a colour."""

import dataclasses

import numpy as np
import pytest

from hybrik_jax.types import Person, View
from hybrik_jax.view import people as pictures
from hybrik_jax.view import render
from tests.test_view import sphere

CAMERA = {'focal': 90.0, 'centre': (47.5, 31.5)}
SIZE = {'height': 64, 'width': 96}
FAR = 1e9
PHOTO = np.full((240, 320, 3), 128, np.uint8)


def depths(middle_m, radius_m):
    """Where the ray of each pixel first meets a sphere; very far away where it does not."""
    x, y = (grid / CAMERA['focal'] for grid in np.meshgrid(np.arange(96) - 47.5, np.arange(64) - 31.5))
    rays = np.stack([x, y, np.ones_like(x)], -1)
    half = rays @ middle_m / (rays**2).sum(-1)
    square = half**2 - (middle_m @ middle_m - radius_m**2) / (rays**2).sum(-1)
    return np.where(square > 0, half - np.sqrt(np.maximum(square, 0)), FAR)


def test_the_nearest_surface_is_seen_whatever_the_order():
    """Two spheres through one another: each pixel has the colour of the one whose surface is nearer there."""
    middles = np.array([[-0.15, 0, 3.0], [0.15, 0, 3.1]])
    (a, faces), (b, _) = (sphere(middle, 0.3, rings=48) for middle in middles)
    red, blue = render.Mesh(a, colour=(1, 0, 0), **CAMERA), render.Mesh(b, colour=(0, 0, 1), **CAMERA)
    rgb, coverage = render.shade_meshes([red, blue], faces, **SIZE)
    np.testing.assert_array_equal(render.shade_meshes([blue, red], faces, **SIZE)[0], rgb)
    near, far = (depths(middle, 0.3) for middle in middles)
    both = (coverage == 1) & (np.maximum(near, far) < FAR) & (np.abs(near - far) > 0.02)
    first = near < far
    assert (both & first).sum() > 50 and (both & ~first).sum() > 10
    np.testing.assert_array_equal(rgb[both][:, 0] > rgb[both][:, 2], first[both])


def test_cameras_of_their_own_are_compared_at_one_focal_length():
    """Who fills more of a photo is nearer, however far away a long lens would put this person."""
    (small, faces), (large, _) = sphere([0, 0, 6.0], 0.3), sphere([0, 0, 8.0], 0.3)
    red = render.Mesh(small, 60.0, CAMERA['centre'], colour=(1, 0, 0))
    blue = render.Mesh(large, 180.0, CAMERA['centre'], colour=(0, 0, 1))
    for meshes in ([red, blue], [blue, red]):
        rgb, coverage = render.shade_meshes(meshes, faces, **SIZE)
        assert (coverage == 1).any() and (rgb[coverage == 1][:, 2] > rgb[coverage == 1][:, 0]).all()


@pytest.fixture
def person(body) -> Person:
    """The free body at rest, facing the camera from 4 m."""
    vertices = np.asarray(body.v_template) * [1, -1, -1]
    view = View(
        photo_size=(320, 240),
        box=np.array([0, 0, 320, 240.0]),
        crop_to_photo=np.eye(2, 3),
        focal=np.full(2, 400.0),
        focal_assumed=False,
        centre=np.array([159.5, 119.5]),
        centre_assumed=False,
        root_depth_m=4.0,
        root_depth_assumed=False,
    )
    names = (field.name for field in dataclasses.fields(Person) if field.name not in ('view', 'warnings'))
    arrays = dict.fromkeys(names, np.zeros((24, 3)))
    arrays |= {'vertices_m': vertices - vertices.mean(0), 'translation_m': np.array([0, 0, 4.0])}
    return Person(view=view, warnings=(), **arrays)


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_of_overlapping_people_the_nearer_one_is_seen(body, person, order):
    """Where the nearer one is, the overlay is as if nobody stood behind, whatever the order of the people."""
    nearer = dataclasses.replace(person, translation_m=np.array([0.1, 0, 4.0]))
    farther = dataclasses.replace(person, translation_m=np.array([-0.1, 0, 7.0]))
    people = [(nearer, farther)[k] for k in order]
    drawn = pictures.draw_overlay(PHOTO, people, body.faces)
    colours = [render.person_colour(k) for k in range(2)]
    shaded = [
        render.shade_meshes(
            [render.Mesh(one.vertices_m + one.translation_m, one.view.focal, one.view.centre, colour)],
            body.faces,
            height=240,
            width=320,
        )
        for one, colour in zip(people, colours, strict=True)
    ]
    (rgb, covered), (_, behind) = (shaded[order.index(k)] for k in range(2))
    inside, only_behind = covered == 1, (covered == 0) & (behind == 1)
    assert (inside & (behind > 0)).sum() > 500 and only_behind.sum() > 100
    expected = 128 + render.OPACITY * (255 * rgb[inside] - 128)
    np.testing.assert_allclose(drawn[inside], expected, atol=0.51)
    assert (drawn[only_behind] != 128).any(-1).all()


def test_everybody_has_a_colour():
    first = [render.person_colour(number) for number in range(8)]
    apart = [np.abs(np.subtract(a, b)).max() for k, a in enumerate(first) for b in first[:k]]
    assert min(apart) > 0.1 and first[0] == render.PREDICTION_COLOUR
    assert render.person_colour(9) == first[1]


@pytest.mark.parametrize('size', [(1, 1), (1, 12_000), (12_000, 1), (3, 5000)])
def test_photos_of_any_shape_are_drawn(body, person, size):
    photo = np.full((*size, 3), 99, np.uint8)
    drawn = pictures.draw_overlay(photo, [person], body.faces)
    assert max(drawn.shape[:2]) == min(max(size), pictures.LARGEST_PICTURE) and min(drawn.shape[:2]) >= 1


def test_a_photo_that_is_too_long_for_a_jpeg_is_made_smaller():
    content = pictures.encode(np.full((2, 70_000, 3), 99, np.uint8), '.jpg')
    assert content.startswith(b'\xff\xd8') and content.endswith(b'\xff\xd9')
