"""A closed triangle skin from MakeHuman's body quads: no inner parts, no holes, decimated symmetrically."""

import heapq
from collections import defaultdict
from collections.abc import Iterable

import numpy as np


def outside_visibility(vertices: np.ndarray, quads: np.ndarray, rays: int = 200, seed: int = 0) -> np.ndarray:
    """Returns which share (n_quads,) of random rays from each quad's centre leaves the body unhindered."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    scene = RayMeshIntersector(trimesh.Trimesh(vertices, triangles, process=False))
    corner = vertices[quads]
    normal = np.cross(corner[:, 2] - corner[:, 0], corner[:, 3] - corner[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    origin = corner.mean(1) + 2e-4 * normal
    rng, free = np.random.default_rng(seed), np.zeros(len(quads))
    for _ in range(rays):
        d = rng.normal(size=(len(quads), 3))
        d *= np.sign((d * normal).sum(1, keepdims=True)) / np.linalg.norm(d, axis=1, keepdims=True)
        free += ~scene.intersects_any(origin, d)
    return free / rays


def connected_pieces(quads: np.ndarray, chosen: list[int]) -> list[list[int]]:
    """Returns edge-connected pieces (lists of quad ids), largest first, of the quads with ids `chosen`."""
    by_edge = defaultdict(list)
    for i in chosen:
        for a, b in zip(quads[i], np.roll(quads[i], -1), strict=True):
            by_edge[frozenset((int(a), int(b)))].append(i)
    near = defaultdict(set)
    for pair in by_edge.values():
        if len(pair) == 2:
            near[pair[0]].add(pair[1])
            near[pair[1]].add(pair[0])
    seen, pieces = set(), []
    for start in chosen:
        if start in seen:
            continue
        seen.add(start)
        piece, stack = [start], [start]
        while stack:
            for other in near[stack.pop()] - seen:
                seen.add(other)
                stack.append(other)
                piece.append(other)
        pieces.append(piece)
    return sorted(pieces, key=len, reverse=True)


def outer_quads(
    vertices: np.ndarray, quads: np.ndarray, mirror: np.ndarray, eye_centres: list[np.ndarray]
) -> np.ndarray:
    """Returns quads (m, 4) of the outer skin: without the mouth cavity and the eye sockets.

    Args:
        vertices: (19158, 3) of the neutral body.
        eye_centres: two points (3,).
    """
    visible = outside_visibility(vertices, quads)
    index = {frozenset(q.tolist()): i for i, q in enumerate(quads)}
    twin = np.array([index[frozenset(mirror[q].tolist())] for q in quads])
    visible = (visible + visible[twin]) / 2
    centre = vertices[quads].mean(1)
    drop = np.zeros(len(quads), bool)
    for eye in eye_centres:
        drop |= (np.linalg.norm(vertices[quads] - eye, axis=2) < 0.0178).all(1)
    mouth = (
        (centre[:, 1] > 0.80)
        & (centre[:, 1] < 0.9)
        & (np.abs(centre[:, 0]) < 0.05)
        & (visible < 0.06)
        & ~drop
    )
    for piece in connected_pieces(quads, np.flatnonzero(mouth).tolist()):
        if len(piece) >= 100:
            drop[piece] = True
    drop |= drop[twin]
    return quads[sorted(connected_pieces(quads, np.flatnonzero(~drop).tolist())[0])]


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """Returns loops of vertex ids along the open border, in the winding of faces that fill them."""
    edges = {(int(a), int(b)) for f in faces for a, b in zip(f, np.roll(f, -1), strict=True)}
    after = defaultdict(list)
    for a, b in edges:
        if (b, a) not in edges:
            after[b].append(a)
    loops = []
    while after:
        start = next(iter(after))
        loop, current = [start], start
        while True:
            step = after[current].pop()
            if not after[current]:
                del after[current]
            if step == start:
                break
            loop.append(step)
            current = step
        loops.append(loop)
    return loops


def fill_loop(
    vertices: np.ndarray, loop: list[int], existing: set[frozenset[int]]
) -> list[tuple[int, int, int]]:
    """Returns the minimum-area triangulation of one loop without the `existing` edges (frozensets)."""
    n, p = len(loop), vertices[loop]
    cost, split = np.zeros((n, n)), np.zeros((n, n), int)
    for length in range(2, n):
        for i in range(n - length):
            j = i + length
            taken = length < n - 1 and frozenset((loop[i], loop[j])) in existing
            k = np.arange(i + 1, j)
            area = np.linalg.norm(np.cross(p[k] - p[i], p[j] - p[i]), axis=1) / 2
            total = (
                area + cost[i, k] + cost[k, j] + 1e-3 * ((p[i] - p[j]) ** 2).sum() + (1e3 if taken else 0.0)
            )
            cost[i, j], split[i, j] = total.min(), k[total.argmin()]
    triangles, stack = [], [(0, n - 1)]
    while stack:
        i, j = stack.pop()
        if j - i >= 2:
            k = split[i, j]
            triangles.append((loop[i], loop[k], loop[j]))
            stack += [(i, k), (k, j)]
    return triangles


def closed_triangles(vertices: np.ndarray, split_by: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Returns a closed triangle mesh (t, 3) of quads (m, 4).

    Quads are split along the shorter diagonal of `split_by`, holes filled using the shape `vertices`.
    """
    a, b, c, d = quads.T
    ac = np.linalg.norm(split_by[a] - split_by[c], axis=1) <= np.linalg.norm(
        split_by[b] - split_by[d], axis=1
    )
    first = np.where(ac[:, None], np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    second = np.where(ac[:, None], np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    triangles = np.concatenate([first, second]).tolist()
    for loop in boundary_loops(quads):
        existing = {frozenset(e) for t in triangles for e in zip(t, t[1:] + t[:1], strict=True)}
        triangles += [list(t) for t in fill_loop(vertices, loop, existing)]
    return np.array(triangles)


class _Collapser:
    """State of the half-edge collapses of `decimate`."""

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        mirror: np.ndarray,
        locked: set[int],
        weight: np.ndarray,
        spread: float,
    ) -> None:
        self.v, self.mirror, self.locked, self.w, self.spread = vertices, mirror, locked, weight, spread
        self.faces = [tuple(int(x) for x in f) for f in faces]
        self.face_alive = [True] * len(self.faces)
        n = len(vertices)
        self.of_vertex = [set() for _ in range(n)]
        self.quadric = np.zeros((n, 4, 4))
        for i, f in enumerate(self.faces):
            a, b, c = vertices[list(f)]
            normal = np.cross(b - a, c - a)
            area = np.linalg.norm(normal) / 2
            for x in f:
                self.of_vertex[x].add(i)
            if area > 1e-14:
                plane = np.append(normal / (2 * area), -(normal / (2 * area)) @ a)
                for x in f:
                    self.quadric[x] += area * np.outer(plane, plane)
        self.alive = np.array([len(s) > 0 for s in self.of_vertex])

    def ring(self, v: int) -> set[int]:
        """Vertices that share a face with v."""
        return {x for i in self.of_vertex[v] for x in self.faces[i]} - {v}

    def cost(self, u: int, v: int) -> float:
        """Returns quadric error of moving u to v, plus a term against long edges (the spacing stays even)."""
        h = np.append(self.v[v], 1.0)
        error = max(0.0, h @ (self.quadric[u] + self.quadric[v]) @ h)
        length2 = ((self.v[u] - self.v[v]) ** 2).sum()
        return (error + self.spread * length2 * length2) * 0.5 * (self.w[u] + self.w[v])

    def may(self, u: int, v: int) -> bool:
        """Returns semantic vertices stay; midline vertices slide along the midline; twins never merge."""
        m = self.mirror
        return u not in self.locked and not (m[u] == u and m[v] != v) and m[u] != v

    def valid(self, u: int, v: int) -> bool:
        """Returns the collapse u -> v keeps a closed manifold without folded or sliver faces."""
        if not (self.alive[u] and self.alive[v]):
            return False
        ring_u, ring_v = self.ring(u), self.ring(v)
        common = ring_u & ring_v
        if v not in ring_u or len(common) != 2 or len(ring_u) + len(ring_v) - 4 > 11:
            return False
        if any(len(self.ring(x)) <= 3 for x in common):
            return False
        for i in self.of_vertex[u]:
            f = self.faces[i]
            if v in f:
                continue
            a, b, c = (self.v[x] for x in f)
            before = np.cross(b - a, c - a)
            a, b, c = (self.v[v if x == u else x] for x in f)
            after = np.cross(b - a, c - a)
            l0, l1 = np.linalg.norm(before), np.linalg.norm(after)
            if l1 < 1e-10 or before @ after < 0.3 * l0 * l1:
                return False
            if l1 < 0.10 * max(((a - b) ** 2).sum(), ((b - c) ** 2).sum(), ((c - a) ** 2).sum()):
                return False
        return True

    def collapse(self, u: int, v: int) -> tuple:
        """Merges u into v and returns a record for `undo`."""
        log = [(i, self.faces[i], self.face_alive[i]) for i in self.of_vertex[u]]
        for i, f, _ in log:
            if v in f:
                self.face_alive[i] = False
                for x in f:
                    self.of_vertex[x].discard(i)
            else:
                self.of_vertex[u].discard(i)
                self.faces[i] = tuple(v if x == u else x for x in f)
                self.of_vertex[v].add(i)
        record = (u, v, log, self.quadric[v].copy())
        self.quadric[v] += self.quadric[u]
        self.alive[u] = False
        return record

    def undo(self, record: tuple) -> None:
        """Takes back the collapse that returned `record`."""
        u, v, log, quadric = record
        for i, _, _ in log:
            for x in self.faces[i]:
                self.of_vertex[x].discard(i)
        for i, f, alive in log:
            self.faces[i], self.face_alive[i] = f, alive
            for x in f:
                self.of_vertex[x].add(i)
        self.quadric[v] = quadric
        self.alive[u] = True


def decimate(
    vertices: np.ndarray,
    faces: np.ndarray,
    mirror: np.ndarray,
    target: int,
    locked: Iterable[int] = (),
    weight: np.ndarray | None = None,
    spread: float = 0.02,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `target` vertices that are kept of a closed mesh, (target,), and faces of their old ids.

    Half-edge collapses, in mirrored pairs: kept vertices are a subset of the input, so that every quantity of
    its vertices can simply be indexed.

    Args:
        vertices, faces: (n, 3), (m, 3).
        mirror: (n,) the twin of each vertex.
        locked: ids of vertices that must stay.
        weight: (n,) scales the cost.
        spread: weight of the term against long edges.
    """
    locked = {int(x) for x in locked} | {int(mirror[x]) for x in locked}
    state = _Collapser(
        vertices, faces, mirror, locked, np.ones(len(vertices)) if weight is None else weight, spread
    )
    heap, stamp, left = [], np.zeros(len(vertices), int), int(state.alive.sum())

    def push(u: int) -> None:
        for x in state.ring(u):
            for a, b in ((u, x), (x, u)):
                if state.may(a, b):
                    heapq.heappush(heap, (state.cost(a, b), a, b, stamp[a], stamp[b]))

    for u in np.flatnonzero(state.alive):
        push(int(u))
    while left > target and heap:
        _, u, v, su, sv = heapq.heappop(heap)
        if su != stamp[u] or sv != stamp[v] or not state.valid(u, v):
            continue
        mu, mv = int(mirror[u]), int(mirror[v])
        if mu == u:
            state.collapse(u, v)
            left, touched = left - 1, [v]
        elif left - 2 < target:  # an odd one is left to a midline collapse
            continue
        else:
            record = state.collapse(u, v)
            if not state.valid(mu, mv):
                state.undo(record)
                continue
            state.collapse(mu, mv)
            left, touched = left - 2, [v, mv]
        for t in touched:
            stamp[t] += 1
            push(t)
    return np.flatnonzero(state.alive), np.array(
        [f for f, alive in zip(state.faces, state.face_alive, strict=True) if alive]
    )
