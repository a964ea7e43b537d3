"""The static world beside the roads: buildings, walls, trees, and poles as boxes, the same for the same seed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from dyncity_carla.loopback.geometry import overlapping
from dyncity_carla.loopback.ground import TERRAIN_TAG, Ground, Samples

EVERY_M = 12.0
MOST_BOXES = 3000
FOOTPRINT_POINTS = 7
ANY_TAG = 255


@dataclass(frozen=True)
class _Kind:
    """One kind of box: half sizes and distance from the lane's edge are drawn from ranges, in metres."""

    name: str
    tag: int
    share: float
    half_length_m: tuple[float, float]
    half_width_m: tuple[float, float]
    half_height_m: tuple[float, float]
    beyond_edge_m: tuple[float, float]


_KINDS = (
    _Kind("Building", 3, 0.30, (4.0, 9.0), (4.0, 8.0), (3.0, 9.0), (5.0, 14.0)),
    _Kind("Wall", 4, 0.10, (2.0, 5.0), (0.1, 0.2), (0.6, 1.2), (2.5, 4.0)),
    _Kind("Vegetation", 9, 0.30, (0.5, 1.6), (0.5, 1.6), (1.0, 3.5), (2.5, 8.0)),
    _Kind("Pole", 6, 0.30, (0.10, 0.15), (0.10, 0.15), (1.8, 3.5), (0.6, 1.2)),
)


@dataclass(eq=False)
class Scenery:
    """Static boxes; all boxes stand upright.

    Attributes:
        names: of each box.
        tags: ``(N,)`` semantic tags.
        centres: ``(N, 3)`` centres.
        yaws_deg: ``(N,)``.
        extents: ``(N, 3)`` half sizes.
        enabled: ``(N,)``; what a client switched off is neither seen nor hit.
    """

    names: tuple[str, ...]
    tags: UInt8[np.ndarray, " N"]
    centres: Float64[np.ndarray, "N 3"]
    yaws_deg: Float64[np.ndarray, " N"]
    extents: Float64[np.ndarray, "N 3"]
    enabled: Bool[np.ndarray, " N"]

    FIRST_ID = 10_000

    def __len__(self) -> int:
        return len(self.names)

    def of_tag(self, tag: int) -> list[int]:
        """Boxes of a semantic tag, or all of them for ANY_TAG."""
        return [n for n in range(len(self)) if tag in (ANY_TAG, int(self.tags[n]))]

    def box(self, number: int) -> list[object]:
        """The BoundingBox of a box, in the world, as it travels."""
        return [
            self.centres[number].tolist(),
            self.extents[number].tolist(),
            [0.0, float(self.yaws_deg[number]), 0.0],
            0,
        ]

    def environment_object(self, number: int) -> list[object]:
        """The EnvironmentObject of a box, as it travels."""
        transform = [self.centres[number].tolist(), [0.0, float(self.yaws_deg[number]), 0.0]]
        identity = [self.FIRST_ID + number, self.names[number], int(self.tags[number])]
        return [transform, self.box(number), *identity]

    def switch(self, ids: list[int], enabled: bool) -> None:
        """Switch boxes on or off; ids of none are passed over."""
        for number in (box_id - self.FIRST_ID for box_id in ids):
            if 0 <= number < len(self):
                self.enabled[number] = enabled


def build_scenery(samples: Samples, ground: Ground, density: float, rng: np.random.Generator) -> Scenery:
    """Boxes beside the lanes, off every road and sidewalk, none in another; only poles stand on sidewalks.

    Args:
        samples: of the lanes, 2 m apart.
        ground: under them.
        density: 1 draws one box for every EVERY_M of lane; 0 leaves the world empty.
        rng: decides everything.
    """
    count = min(int(len(samples.rows) * 2.0 / EVERY_M * density), MOST_BOXES)
    kinds = rng.choice(len(_KINDS), size=count, p=[kind.share for kind in _KINDS])
    sites = rng.choice(len(samples.rows), size=count, replace=False) if count else np.zeros(0, dtype=np.int64)
    extents = np.array([[rng.uniform(*half) for half in _halves(_KINDS[k])] for k in kinds]).reshape(-1, 3)
    beyond_m = np.array([rng.uniform(*_KINDS[k].beyond_edge_m) for k in kinds])
    yaws = samples.rows[sites, 4]
    aside_m = samples.half_widths_m[sites] + beyond_m + np.where(kinds == 0, extents[:, 1], 0.0)
    right = np.stack([-np.sin(np.radians(yaws)), np.cos(np.radians(yaws))], axis=-1)
    centres = np.column_stack([samples.rows[sites, :2] + right * aside_m[:, None], samples.rows[sites, 2]])
    centres[:, 2] = ground.height_m(centres) + extents[:, 2] if count else 0.0
    tags = np.array([_KINDS[k].tag for k in kinds], dtype=np.uint8)
    kept: list[int] = []
    for n in np.flatnonzero(_is_off_road(centres, yaws, extents, tags, ground)):
        if not overlapping(centres[n], yaws[n], extents[n], centres[kept], yaws[kept], extents[kept]).any():
            kept.append(int(n))
    names = tuple(f"{_KINDS[kinds[n]].name}_{n}" for n in kept)
    return Scenery(names, tags[kept], centres[kept], yaws[kept], extents[kept], np.ones(len(kept), dtype=bool))


def _halves(kind: _Kind) -> tuple[tuple[float, float], ...]:
    return kind.half_length_m, kind.half_width_m, kind.half_height_m


def _is_off_road(
    centres: np.ndarray, yaws: np.ndarray, extents: np.ndarray, tags: np.ndarray, ground: Ground
) -> Bool[np.ndarray, " N"]:
    """Whether the footprint of each box touches no road, and no sidewalk either unless it is a pole."""
    if not len(centres):
        return np.zeros(0, dtype=bool)
    steps = np.linspace(-1.0, 1.0, FOOTPRINT_POINTS)
    u, v = (axis.ravel() for axis in np.meshgrid(steps, steps))
    cos, sin = np.cos(np.radians(yaws))[:, None], np.sin(np.radians(yaws))[:, None]
    along, aside = u * extents[:, :1], v * extents[:, 1:2]
    x = centres[:, :1] + cos * along - sin * aside
    y = centres[:, 1:2] + sin * along + cos * aside
    z = np.broadcast_to(centres[:, 2:] - extents[:, 2:], x.shape)
    below = ground.tags(np.stack([x, y, z], axis=-1).reshape(-1, 3)).reshape(x.shape)
    free = below == TERRAIN_TAG
    free |= (tags == _KINDS[3].tag)[:, None] & (below == 2)
    return free.all(axis=1)
