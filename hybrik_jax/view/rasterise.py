"""An exact z-buffer rasteriser: all fragments of all triangles at once, fast where triangles are small.

Pixels are counted as OpenCV counts them: the centre of the top left pixel is (0, 0). To draw with s x s
samples per pixel, render with focal * s, centre (c + 0.5) * s - 0.5 and s times the height and width, then
average.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np

from hybrik_jax.body.projection import project


@dataclass
class Fragments:
    """The k visible pixels of a rendered mesh.

    pixel: (k,) flat index y * width + x.
    face: (k,) face number.
    weight: (k, 3) perspective-correct barycentric weights of the face's corners.
    depth: (k,) metres along the camera's z axis.
    height, width: of the picture, pixels.
    """

    pixel: np.ndarray
    face: np.ndarray
    weight: np.ndarray
    depth: np.ndarray
    height: int
    width: int

    def interpolate(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Returns values (k, c) of the visible pixels from values (n, c) of the vertices."""
        corner = faces.take(self.face, 0)
        out = values.take(corner[:, 0], 0) * self.weight[:, :1]
        out += values.take(corner[:, 1], 0) * self.weight[:, 1:2]
        out += values.take(corner[:, 2], 0) * self.weight[:, 2:]
        return out

    def image(self, values: np.ndarray, background: float = 0.0) -> np.ndarray:
        """Returns a picture (height, width[, c]), float32, of values (k,) or (k, c) of the visible pixels."""
        out = np.full((self.height * self.width,) + values.shape[1:], background, np.float32)
        out[self.pixel] = values
        return out.reshape((self.height, self.width) + values.shape[1:])


def rasterise(
    points: np.ndarray,
    faces: np.ndarray,
    focal: float | np.ndarray,
    centre: np.ndarray | tuple,
    height: int,
    width: int,
    two_sided: bool | np.ndarray = False,
    near: float = 0.05,
) -> Fragments:
    """Returns the visible pixels of a mesh.

    Args:
        points: (n, 3) vertices, camera frame (x right, y down, z forward), metres.
        faces: (m, 3) vertex ids, counter-clockwise seen from outside.
        focal: pixels, a number or (2,).
        centre: (2,) pixels.
        height, width: pixels.
        two_sided: bool or (m,) bool, faces that are drawn from both sides.
        near: metres; faces with a corner nearer than that are left out.
    """
    uv = project(points, focal, centre).astype(np.float32)
    a, b, c = (np.ascontiguousarray(faces[:, k]) for k in range(3))
    px, py, pz = (np.ascontiguousarray(q, dtype=np.float32) for q in (uv[:, 0], uv[:, 1], points[:, 2]))
    x, y = (px.take(a), px.take(b), px.take(c)), (py.take(a), py.take(b), py.take(c))
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    front = (area < 0) | (two_sided & (area > 0))  # y points down
    left, right = np.ceil(reduce(np.minimum, x)), np.floor(reduce(np.maximum, x))
    top, bottom = np.ceil(reduce(np.minimum, y)), np.floor(reduce(np.maximum, y))
    z = (pz.take(a), pz.take(b), pz.take(c))
    covers = (right >= left) & (bottom >= top)  # the centre of a pixel
    in_picture = (right >= 0) & (bottom >= 0) & (left < width) & (top < height)
    keep = np.flatnonzero(front & covers & in_picture & (reduce(np.minimum, z) > near))
    x, y, z, inverse = [q[keep] for q in x], [q[keep] for q in y], [q[keep] for q in z], 1 / area[keep]
    left, top = (np.maximum(q[keep], 0).astype(np.int32) for q in (left, top))
    right = np.minimum(right[keep], width - 1).astype(np.int32)
    bottom = np.minimum(bottom[keep], height - 1).astype(np.int32)
    columns, rows = right - left + 1, bottom - top + 1

    # one entry per row of each triangle's box, then one per pixel of each row
    row_of = np.repeat(np.arange(len(keep), dtype=np.int32), rows)
    first_row = top - (np.cumsum(rows) - rows).astype(np.int32)
    row_y = np.arange(len(row_of), dtype=np.int32) + np.repeat(first_row, rows)
    n = columns[row_of]
    per_pixel = np.repeat(np.arange(len(row_of), dtype=np.int32), n)
    column = np.arange(len(per_pixel), dtype=np.int32) - np.repeat((np.cumsum(n) - n).astype(np.int32), n)
    # the barycentric weights w0, w1 and the inverse depth are affine in the pixel position
    dx0, dx1 = (y[1] - y[2]) * inverse, (y[2] - y[0]) * inverse
    dy0, dy1 = (x[2] - x[1]) * inverse, (x[0] - x[2]) * inverse
    px = (left - x[2]).astype(np.float32)[row_of]
    py = (row_y - y[2][row_of]).astype(np.float32)
    start0 = dx0[row_of] * px + dy0[row_of] * py
    start1 = dx1[row_of] * px + dy1[row_of] * py
    step = column.astype(np.float32)
    w0 = start0[per_pixel] + dx0[row_of][per_pixel] * step
    w1 = start1[per_pixel] + dx1[row_of][per_pixel] * step
    inside = np.flatnonzero((w0 >= 0) & (w1 >= 0) & (w0 + w1 <= 1))
    w0, w1, per_pixel, column = w0[inside], w1[inside], per_pixel[inside], column[inside]
    triangle = row_of[per_pixel]
    pixel = (row_y * width)[per_pixel] + left[triangle] + column
    w2 = 1 - w0 - w1
    a, b, c = w0 / z[0][triangle], w1 / z[1][triangle], w2 / z[2][triangle]
    inverse_depth = a + b + c
    nearest = np.zeros(height * width, np.float32)
    np.maximum.at(nearest, pixel, inverse_depth)
    won = np.flatnonzero(nearest[pixel] == inverse_depth)
    owner = np.empty(height * width, np.int32)  # a tie on a shared edge leaves one winner
    owner[pixel[won]] = won
    pixel = np.flatnonzero(nearest)
    won = owner[pixel]
    depth = 1 / inverse_depth[won]
    weight = np.stack([a[won], b[won], c[won]], 1) * depth[:, None]
    return Fragments(pixel, keep[triangle[won]], weight, depth, height, width)
