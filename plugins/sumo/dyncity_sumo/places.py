"""Places where people stand: before crossings, under shelters, on pavements alone or in pairs that talk."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64
from scipy import ndimage

from dyncity_sumo.city import SHELTER_ROOF_DM
from dyncity_sumo.city.canvas import SIDEWALK
from dyncity_sumo.columns import StaticColumns
from dyncity_sumo.roads import LaneKind, Streets

PLACES = {"crossing": 0.3, "shelter": 0.2, "pair": 0.3, "alone": 0.2}
"""Share of the places where people stand, by what they stand there for."""

TALKING_M = (0.75, 1.1)
"""Distance between two who talk."""

END_M = 1.5
BESIDE_M = 1.2
"""Nobody stands this near to an end of SUMO's sidewalk, or this far beside it: SUMO would take them for people in the
middle of a junction."""

NEAR_CROSSING_M = 9.0
"""Who waits to cross stands at an end of a sidewalk within this distance of the crossing."""

ROOM_M = 0.35
"""Nothing static may stand within this radius of a person."""

ATTEMPTS = 8
"""Places are tried so many times as often as they are wanted before fewer are made."""


@dataclass(frozen=True)
class Place:
    """Where one person stands.

    Attributes:
        x_m, y_m: world.
        yaw_rad: the direction they face.
        edge_id: the street whose sidewalk they come from.
        at_m: distance along that sidewalk.
        group: the same for those who stand together.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    edge_id: str
    at_m: float
    group: int


def standing_places(streets: Streets, columns: StaticColumns, rng: np.random.Generator, wanted: int) -> Iterator[Place]:
    """Up to ``wanted`` places that are free, of the kinds of PLACES in their shares where the streets have them.

    Fewer where there is no room; one or two more where the last of them is for a group.
    """
    walks = _Walks(streets)
    if not walks.lengths_m.size:
        return
    mouths, shelters = _mouths(streets), _shelters(columns)
    shares = PLACES | ({} if len(mouths) else {"crossing": 0.0}) | ({} if len(shelters) else {"shelter": 0.0})
    weights = np.array(list(shares.values()))
    taken: list[np.ndarray] = []
    made = group = 0
    for _ in range(ATTEMPTS * wanted):
        if made >= wanted:
            return
        kind = list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        if kind == "crossing":
            stands = _before(mouths[int(rng.integers(len(mouths)))], walks, rng)
        elif kind == "shelter":
            stands = _under(shelters[int(rng.integers(len(shelters)))], rng)
        else:
            stands = _on_pavement(walks, rng, talking=kind == "pair")
        if not all(is_free(columns, xy_m) and _is_apart(xy_m, taken) for xy_m, _ in stands):
            continue
        known = [spot for xy_m, _ in stands if (spot := walks.spot(xy_m))]
        if len(known) < len(stands):
            continue
        group += 1
        for (xy_m, yaw_rad), (edge_id, at_m) in zip(stands, known, strict=True):
            taken.append(xy_m)
            made += 1
            yield Place(float(xy_m[0]), float(xy_m[1]), yaw_rad, edge_id, at_m, group)


class _Walks:
    """Sidewalk lanes to stand on or near."""

    def __init__(self, streets: Streets) -> None:
        self.lanes = streets.departures(LaneKind.SIDEWALK)
        self.lines = [shapely.linestrings(lane.centreline_m[:, :2]) for lane in self.lanes]
        self.lengths_m = shapely.length(self.lines)
        self._tree = shapely.STRtree(self.lines)

    def spot(self, xy_m: Float64[np.ndarray, "2"]) -> tuple[str, float] | None:
        """Edge of the sidewalk that one stands on there, and the distance along it; None where there is none."""
        point = shapely.Point(xy_m)
        row = int(self._tree.nearest(point))
        at_m = float(shapely.line_locate_point(self.lines[row], point))
        away_m = float(shapely.distance(self.lines[row], point))
        beside = away_m > self.lanes[row].width_m / 2 + BESIDE_M
        if beside or not END_M <= at_m <= self.lengths_m[row] - END_M:
            return None
        return self.lanes[row].edge_id, at_m

    def end_near(self, xy_m: Float64[np.ndarray, "2"], inwards_m: float) -> Float64[np.ndarray, "2"] | None:
        """The point ``inwards_m`` from the nearest end of a sidewalk, or None where none ends NEAR_CROSSING_M away."""
        point = shapely.Point(xy_m)
        row = int(self._tree.nearest(point))
        length_m = self.lengths_m[row]
        at_m = inwards_m if shapely.line_locate_point(self.lines[row], point) < length_m / 2 else length_m - inwards_m
        if shapely.distance(self.lines[row], point) > NEAR_CROSSING_M:
            return None
        return np.asarray(shapely.get_coordinates(shapely.line_interpolate_point(self.lines[row], at_m))[0])


_Stand = tuple[Float64[np.ndarray, "2"], float]
"""World x, y and the direction faced."""


def _mouths(streets: Streets) -> list[tuple[Float64[np.ndarray, "2"], float]]:
    """Both ends of each crossing: the point, and the direction across the road."""
    mouths = []
    for lane in streets.lanes_of(LaneKind.CROSSING):
        for line in (lane.centreline_m[:, :2], lane.centreline_m[::-1, :2]):
            across = line[1] - line[0]
            mouths.append((line[0], float(np.arctan2(across[1], across[0]))))
    return mouths


def _before(mouth: tuple[Float64[np.ndarray, "2"], float], walks: _Walks, rng: np.random.Generator) -> list[_Stand]:
    """Somebody near a crossing who looks across the road; nobody where no sidewalk leads there."""
    end_m, across_rad = mouth
    spot_m = walks.end_near(end_m, END_M + float(rng.uniform(0.1, 1.5)))
    if spot_m is None:
        return []
    return [(spot_m + rng.uniform(-0.9, 0.9, 2), across_rad + float(rng.normal(0, 0.25)))]


def _shelters(columns: StaticColumns) -> list[tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2"]]]:
    """Shelters that the city has built: the middle of each roof, and the direction out of it to the road."""
    roofs = (columns.span_lo_dm == SHELTER_ROOF_DM[0]) & (columns.span_hi_dm == SHELTER_ROOF_DM[1])
    numbered, count = ndimage.label(roofs.any(axis=2), structure=np.ones((3, 3)))
    shelters = []
    for number, window in enumerate(ndimage.find_objects(numbered, count), 1):
        corner = np.array([side.start for side in window])
        cells = np.argwhere(numbered[window] == number) + corner
        backed = columns.span_hi_dm[cells[:, 0], cells[:, 1], 0] == SHELTER_ROOF_DM[0]
        if not backed.any():
            continue
        middle, back = cells.mean(axis=0), cells[backed].mean(axis=0)
        out = (middle - back) / max(float(np.linalg.norm(middle - back)), 1e-6)
        shelters.append((columns.origin_m + (middle + 0.5) * columns.cell_m, out))
    return shelters


def _under(
    shelter: tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2"]], rng: np.random.Generator
) -> list[_Stand]:
    """One to three who wait under a shelter and look at the road or for the bus."""
    middle_m, out = shelter
    along = np.array([-out[1], out[0]])
    places_m = rng.permutation(np.array([-2.9, -1.6, -0.6, 0.5, 1.5, 2.7]))[: int(rng.integers(1, 4))]
    yaws_rad = np.arctan2(out[1], out[0]) + rng.normal(0, 0.5, len(places_m))
    return [
        (middle_m + rng.uniform(0.3, 0.7) * out + at_m * along, float(yaw))
        for at_m, yaw in zip(places_m, yaws_rad, strict=True)
    ]


def _on_pavement(walks: _Walks, rng: np.random.Generator, talking: bool) -> list[_Stand]:
    """Two who face each other, or one who looks anywhere, on the pavement of some street."""
    row = int(rng.choice(len(walks.lanes), p=walks.lengths_m / walks.lengths_m.sum()))
    at_m = float(rng.uniform(2.0, walks.lengths_m[row] - 2.0))
    here, ahead = shapely.get_coordinates(shapely.line_interpolate_point(walks.lines[row], [at_m, at_m + 0.5]))
    along = (ahead - here) / np.linalg.norm(ahead - here)
    reach_m = max(walks.lanes[row].width_m / 2 - 0.4, 0.0)
    middle_m = here + rng.uniform(-reach_m, reach_m) * np.array([-along[1], along[0]])
    facing_rad = float(rng.uniform(-np.pi, np.pi))
    if not talking:
        return [(middle_m, facing_rad)]
    half = rng.uniform(*TALKING_M) / 2 * np.array([np.cos(facing_rad), np.sin(facing_rad)])
    return [(middle_m - half, facing_rad), (middle_m + half, facing_rad + np.pi)]


def is_free(columns: StaticColumns, xy_m: Float64[np.ndarray, "2"]) -> bool:
    """Whether one can stand there: pavement underfoot, and nothing static in the way."""
    low = columns.index_of(xy_m - ROOM_M)
    high = columns.index_of(xy_m + ROOM_M) + 1
    if (low < 0).any() or (high > np.array(columns.shape)).any():
        return False
    around = (slice(low[0], high[0]), slice(low[1], high[1]))
    i, j = columns.index_of(xy_m)
    return bool(columns.ground_class[i, j] == SIDEWALK and not columns.is_blocked(around).any())


def _is_apart(xy_m: Float64[np.ndarray, "2"], taken: list[Float64[np.ndarray, "2"]]) -> bool:
    return not taken or bool(np.linalg.norm(np.array(taken) - xy_m, axis=1).min() > 2 * ROOM_M)
