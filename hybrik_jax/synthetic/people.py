"""The look of one synthetic person: skin, face, hair cap or long hair, clothes cut from garments, shoes.

Clothes and colours are decided in rest space: every pixel knows the rest-pose point (metres, T-pose of the
mean shape) it shows, so hems, stripes, hair lines and faces are functions of that point and move with the
body.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybrik_jax.synthetic.paint import hsv, noise_at
from hybrik_jax.synthetic.posed_body import PosedBody, Surface

Colouring = Callable[[np.ndarray], np.ndarray]  # rest points (k, 3) -> colours (k, 3)

# rest-pose landmarks of the mean body, metres: heights y, then |x| along the arm
NECK_Y, WAIST_Y, CROTCH_Y, KNEE_Y, ANKLE_Y = 0.47, 0.02, -0.17, -0.48, -0.92
SHOULDER_X, ELBOW_X, WRIST_X = 0.19, 0.45, 0.69

SKIN = np.array(
    [
        [0.96, 0.80, 0.69],
        [0.91, 0.72, 0.58],
        [0.82, 0.60, 0.46],
        [0.68, 0.47, 0.33],
        [0.50, 0.33, 0.23],
        [0.36, 0.23, 0.17],
    ],
    np.float32,
)
HAIR = np.array(
    [
        [0.05, 0.04, 0.04],
        [0.13, 0.09, 0.06],
        [0.25, 0.16, 0.10],
        [0.42, 0.28, 0.16],
        [0.66, 0.52, 0.32],
        [0.55, 0.54, 0.53],
        [0.38, 0.17, 0.09],
    ],
    np.float32,
)


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """Returns a colour (3,) that people wear: many neutrals, some denim and khaki, some saturated."""
    kind = rng.random()
    if kind < 0.32:
        hue, saturation = rng.random(), rng.uniform(0, 0.08)
        return hsv(hue, saturation, rng.choice([0.07, 0.15, 0.35, 0.6, 0.92]) * rng.uniform(0.85, 1.05))
    if kind < 0.47:
        return hsv(rng.uniform(0.57, 0.66), rng.uniform(0.3, 0.75), rng.uniform(0.15, 0.6))
    if kind < 0.57:
        return hsv(rng.uniform(0.07, 0.14), rng.uniform(0.2, 0.5), rng.uniform(0.35, 0.85))
    return hsv(rng.random(), rng.beta(2, 1.6), rng.uniform(0.2, 0.95))


def cloth_pattern(rng: np.random.Generator) -> Colouring:
    """Returns a random print."""
    a, b = cloth_colour(rng), cloth_colour(rng)
    kind = rng.choice(
        ['solid', 'stripes', 'pinstripes', 'plaid', 'blotches', 'panel', 'print'],
        p=[0.46, 0.11, 0.05, 0.09, 0.09, 0.1, 0.1],
    )
    step, phase, limit = rng.uniform(60, 260), rng.uniform(0, 6), rng.uniform(-0.6, 0.6)
    side, level = rng.integers(2), rng.uniform(0.1, 0.35)
    cx, cy = rng.normal(0, 0.02), rng.uniform(0.2, 0.33)
    rx, ry = rng.uniform(0.03, 0.1), rng.uniform(0.02, 0.09)
    scale, fine = rng.uniform(60, 260), rng.uniform(0, 0.05)

    def colour(p: np.ndarray) -> np.ndarray:
        x, y, z = p[:, 0], p[:, 1], p[:, 2]
        along = np.where(y > 0.3, np.abs(x), y) if side else y  # stripes run round the sleeves as well
        if kind == 'stripes':
            t = np.sin(along * step + phase) > limit
        elif kind == 'pinstripes':
            t = np.sin(x * step * 2) > 0.85
        elif kind == 'plaid':
            t = 0.5 * (np.sin(x * step) > 0.2) + 0.5 * (np.sin(y * step) > 0.2)
        elif kind == 'blotches':
            t = noise_at(x + z, y, scale, rng) > 0.3
        elif kind == 'panel':
            t = (y > level) if side else (np.abs(x) > 0.13)
        elif kind == 'print':
            t = (np.abs(x - cx) < rx) & (np.abs(y - cy) < ry) & (z > 0.03)
        else:
            t = np.zeros(len(p))
        out = a + (b - a) * np.asarray(t, np.float32)[:, None]
        return out * (1 + fine * noise_at(x, y + z, 900, rng, 'fine'))[:, None]

    return colour


@dataclass
class Part:
    """One piece to render.

    vertices, normals: (n, 3) in the world, the normals of length 1.
    rest: (n, 3) rest points.
    faces: (m, 3).
    colour: of rest points.
    folds: how strongly folds disturb the normals.
    gloss: of its surface.
    two_sided: whether both sides show.
    """

    vertices: np.ndarray
    normals: np.ndarray
    rest: np.ndarray
    faces: np.ndarray
    colour: Colouring
    folds: float = 0.0
    gloss: float = 0.05
    two_sided: bool = False


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns 0 below `low`, 1 above `high`, smooth between (Hermite)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def faces_within(faces: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Returns the faces (m, 3) whose three vertices are all kept; keep (n,) bool."""
    return faces[keep[faces[:, 0]] & keep[faces[:, 1]] & keep[faces[:, 2]]]


class Cut:
    """A piece of clothing cut from the tights: rest points it keeps, how far off the skin it is, metres."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self.kind = kind
        self.waist = rng.uniform(-0.10, 0.06)
        self.loose = rng.choice([0.004, 0.012, 0.022], p=[0.35, 0.4, 0.25]) * rng.uniform(0.7, 1.3)
        self.flare = rng.choice([0.0, rng.uniform(0.01, 0.045)], p=[0.45, 0.55])
        self.base = {'top': 0.012, 'bottom': 0.007, 'shoes': 0.009, 'socks': 0.004}[kind]
        self.sleeve = rng.choice([0.21, 0.34, 0.46, 0.68], p=[0.12, 0.40, 0.08, 0.40]) + rng.normal(0, 0.015)
        self.collar = rng.uniform(0.065, 0.13)
        self.hem = rng.choice([-0.30, KNEE_Y + 0.02, -0.70, ANKLE_Y], p=[0.2, 0.15, 0.1, 0.55])
        self.hem += rng.normal(0, 0.03)
        self.top_hem = self.waist - rng.choice([0.0, 0.05, 0.16], p=[0.2, 0.5, 0.3])
        self.ankle = {
            'shoes': rng.choice([-0.925, -0.88, -0.78], p=[0.6, 0.25, 0.15]),
            'socks': rng.uniform(-0.9, -0.6),
        }.get(kind, 0)

    def keeps(self, p: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Returns which rest points (n, 3) it covers; a positive margin (metres) shrinks it."""
        x, y = np.abs(p[:, 0]), p[:, 1]
        if self.kind == 'top':
            neck = np.sqrt(x**2 + (y - NECK_Y) ** 2 + (0.6 * (p[:, 2] - 0.06)) ** 2) > self.collar + margin
            inside = (y > self.top_hem + margin) & (x < self.sleeve - margin)
            return inside & neck & ((y < NECK_Y) | (x > 0.12))
        if self.kind == 'bottom':
            return (y < self.waist + 0.03 - margin) & (y > self.hem + margin)
        return y < self.ankle - margin

    def offset(self, p: np.ndarray) -> np.ndarray:
        """Returns its distance (n,) from the skin at rest points (n, 3), metres."""
        x, y = np.abs(p[:, 0]), p[:, 1]
        if self.kind == 'top':
            flare = self.flare * smoothstep(-y, -0.3, -self.top_hem)
            body = self.loose * smoothstep(-y, -0.42, -0.25) + flare
            arm = self.loose * smoothstep(x, 0.2, 0.32) + 0.5 * self.flare * smoothstep(x, 0.25, self.sleeve)
            return self.base + np.where((x > 0.2) & (y > 0.28), arm, body)
        if self.kind == 'bottom':
            inner = smoothstep(x, 0.0, 0.06)  # keeps the legs from filling the gap between them
            flare = self.flare * smoothstep(-y, 0.2, -self.hem)
            return self.base + (0.6 * self.loose + flare) * (0.35 + 0.65 * inner)
        sole = 0.006 if self.kind == 'shoes' else 0.0
        return self.base + sole * smoothstep(-y, 0.96, 0.99)


class Stylist:
    """Precomputed rest-space facts of the body and garments; `dress` draws one person's look."""

    def __init__(self, body: PosedBody, garments: dict[str, tuple[Surface, np.ndarray]]) -> None:
        self.body, self.garments = body, garments
        rest = body.surface.template
        at = {k: rest[v] for k, v in body.point.items()}
        self.top, self.nose, self.eyes = at['headtop'], at['nose'], (at['Leye'], at['Reye'])
        self.ears = at['Lear']
        self.head = np.asarray(body.surface.weights[:, 15].todense()).ravel() > 0.5
        self.tights_rest = garments['tights'][0].template
        self.tights_rest.setflags(write=False)

    def hair_mask(self, p: np.ndarray, line: float = 0.0, sharp: float = 200.0) -> np.ndarray:
        """Returns how far inside the hair line points (n, 3) are, 0..1; `line` metres moves it down."""
        height = p[:, 1] - self.top[1]
        back = p[:, 2] - self.ears[2]
        edges = [-0.215, -0.15, -0.105, -0.085, -0.062, -0.05]
        edge = np.interp(back, [-0.04, -0.012, 0.015, 0.05, 0.085, 0.10], edges)
        inside = np.clip(0.5 + (height - edge + line) * sharp, 0, 1)
        return inside * (np.abs(p[:, 0]) < 0.115) * (height > -0.26)

    def skin_colour(self, rng: np.random.Generator) -> tuple[Colouring, np.ndarray, bool, float]:
        """Returns the bare body's colouring, hair colour (3,), bald or not, shift of the hair line in m."""
        tone = rng.uniform(0, 5)
        k = int(tone)
        skin = (SKIN[k] + (SKIN[min(k + 1, 5)] - SKIN[k]) * (tone - k)) * (1 + rng.normal(0, 0.03, 3))
        hair = HAIR[rng.integers(len(HAIR))] * rng.uniform(0.8, 1.2)
        bald, line = rng.random() < 0.1, rng.normal(0, 0.008)
        stubble = rng.choice([0.0, 0.3, 0.8], p=[0.75, 0.15, 0.1])
        lips = skin * np.array([0.92, 0.62, 0.62])
        iris = np.array([0.12, 0.09, 0.07])
        neck = self.nose[1] - 0.16

        def colour(p: np.ndarray) -> np.ndarray:
            out = skin * (1 + 0.045 * noise_at(p[:, 0] + p[:, 2], p[:, 1], 90, rng)[:, None])
            out = out.astype(np.float32)
            head = np.flatnonzero((p[:, 1] > neck) & (np.abs(p[:, 0]) < 0.13))
            if not len(head):
                return out
            q = p[head]
            c = out[head]
            front = q[:, 2] > self.nose[2] - 0.085

            def spot(
                centre: np.ndarray, rx: float, ry: float, value: np.ndarray, strength: float = 1.0
            ) -> None:
                d = ((q[:, 0] - centre[0]) / rx) ** 2 + ((q[:, 1] - centre[1]) / ry) ** 2
                w = (strength * np.clip(2.2 * (1 - d), 0, 1) * front)[:, None]
                c[:] = c * (1 - w) + value * w

            mouth = self.nose - np.array([0, 0.038, 0])
            if stubble:
                low = smoothstep(-q[:, 1], -(self.nose[1] - 0.012), -(self.nose[1] - 0.03))
                w = low * smoothstep(q[:, 2], self.ears[2] + 0.01, self.ears[2] + 0.03)
                c[:] = c * (1 - stubble * w[:, None]) + hair * stubble * w[:, None]
            spot(mouth, 0.026, 0.009, lips)
            for eye in self.eyes:
                spot(eye, 0.024, 0.014, skin * 0.72, 0.6)
                spot(eye, 0.0145, 0.0065, np.array([0.88, 0.86, 0.84]))
                spot(eye, 0.0062, 0.0062, iris)
                spot(eye + np.array([0, 0.021, 0]), 0.021, 0.0048, 0.5 * hair + 0.25 * skin)
            if not bald:
                w = self.hair_mask(q, line)[:, None]
                streak = 1 + 0.25 * noise_at(q[:, 0], q[:, 2] + q[:, 1], 700, rng, 'fine')[:, None]
                c[:] = c * (1 - w) + hair * streak * w
            out[head] = c
            return out

        return colour, hair, bald, line

    def dress(
        self, rng: np.random.Generator, betas: np.ndarray, rotations: np.ndarray
    ) -> tuple[list[Part], np.ndarray, np.ndarray]:
        """Returns parts of a random look in model space, the bare body's vertices (n, 3) and joints (24, 3).

        Args:
            betas: (10,).
            rotations: (24, 3, 3) local, the world orientation in row 0.
        """
        body = self.body.surface
        world, joints, shift = self.body.skeleton(betas, rotations)
        bare = body.pose(betas, rotations, world, shift)
        normals = body.normals(bare)
        colour, hair, bald, line = self.skin_colour(rng)
        parts, hidden = [], np.zeros(len(bare), bool)

        shown = bare
        if not bald:  # the hair cap: scalp vertices pushed outwards
            scalp = body.template[self.head]
            lump = 1 + 0.25 * noise_at(scalp[:, 0] * 3, scalp[:, 1] * 3, 90, rng)
            thick = rng.choice([0.004, 0.014, 0.03, 0.055], p=[0.35, 0.35, 0.2, 0.1]) * lump
            shown = bare.copy()
            shown[self.head] += normals[self.head] * (self.hair_mask(scalp, line, 45.0) * thick)[:, None]
        style = rng.choice(['separates', 'painted', 'dress', 'underwear'], p=[0.70, 0.10, 0.14, 0.06])
        tights, covered = self.garments['tights']
        layers = {'separates': ['bottom', 'top'], 'painted': [], 'dress': ['top'], 'underwear': []}[style]
        if rng.random() < 0.3:
            layers.append('socks')
        if rng.random() < 0.8:
            layers.append('shoes')
        if layers:
            v = tights.pose(betas, rotations, world, shift)
            n = tights.normals(v)
            for kind in layers:
                cut = Cut(kind, rng)
                keep = cut.keeps(self.tights_rest)
                faces = faces_within(tights.faces, keep)
                posed = v + n * cut.offset(self.tights_rest)[:, None].astype(np.float32)
                gloss, folds = (0.12, 0.0) if kind == 'shoes' else (0.02, rng.uniform(0.05, 0.3))
                parts.append(Part(posed, n, self.tights_rest, faces, cloth_pattern(rng), folds, gloss))
                hidden |= covered & cut.keeps(body.template, 0.03)
        if style == 'dress':
            skirt, under = self.garments['skirt']
            v = skirt.pose(betas, rotations, world, shift)
            n = skirt.normals(v)
            hem = rng.choice([-0.32, -0.45, -0.75], p=[0.4, 0.4, 0.2]) + rng.normal(0, 0.03)
            keep = (skirt.template[:, 1] > hem) & (skirt.template[:, 1] < 0.12)
            faces = faces_within(skirt.faces, keep)
            same = parts[0].colour if rng.random() < 0.5 else cloth_pattern(rng)
            posed, folds = v + n * np.float32(0.012), rng.uniform(0.1, 0.35)
            parts.append(Part(posed, n, skirt.template, faces, same, folds, gloss=0.02, two_sided=True))
            hidden |= under & (body.template[:, 1] > hem + 0.12) & (body.template[:, 1] < 0.05)
        if style in ('painted', 'underwear'):
            colour = self.painted(rng, colour, style == 'underwear')
        if not bald and rng.random() < 0.38:
            strands, _ = self.garments['hair']
            v = strands.pose(betas, rotations, world, shift)
            length = self.top[1] - rng.uniform(0.16, 0.55)
            rest = strands.template
            keep = (rest[:, 1] > length) & (rest[:, 2] < self.nose[2] - rng.choice([0.02, 0.09]))
            faces = faces_within(strands.faces, keep)
            shade = rng.uniform(0.15, 0.3)

            def streaks(p: np.ndarray) -> np.ndarray:
                fine = noise_at(p[:, 0] + p[:, 2], p[:, 1] * 0.1, 900, rng, 'fine')
                return hair * (1 + shade * fine)[:, None]

            parts.append(Part(v, strands.normals(v), rest, faces, streaks, 0.15, gloss=0.1, two_sided=True))
        a, b, c = body.faces.T
        bare_faces = body.faces[~(hidden[a] & hidden[b] & hidden[c])]
        shown_normals = normals if bald else body.normals(shown)
        skin = Part(shown, shown_normals, body.template, bare_faces, colour, gloss=0.07)
        return [skin, *parts], bare, joints

    def painted(self, rng: np.random.Generator, skin: Colouring, small: bool) -> Colouring:
        """Returns a skin's colouring with tight clothes painted on; small: underwear or a swimsuit."""
        top, bottom = Cut('top', rng), Cut('bottom', rng)
        one, two = cloth_pattern(rng), cloth_pattern(rng)
        if small:
            bottom.waist, bottom.hem = rng.uniform(-0.1, 0.0), rng.uniform(-0.28, -0.18)
            top.sleeve, top.collar, top.top_hem = 0.16, 0.16, rng.choice([0.18, 0.5, bottom.waist])

        def colour(p: np.ndarray) -> np.ndarray:
            out = skin(p)
            for cut, print_ in ((bottom, two), (top, one)):
                mine = np.flatnonzero(cut.keeps(p))
                if len(mine):
                    out[mine] = print_(p[mine])
            return out

        return colour
