"""Street furniture of generated occupancy: what stands by the road, as boxes that props can stand for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import ndimage
from scipy.spatial import cKDTree

from dyncity_carla.assets import FURNITURE, Library
from dyncity_carla.player import Figure
from dyncity_carla.sizes import PROP_SIZES_M
from dyncity_sim.domain.frames import Pose, poses_from_planar
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.surfaces.fuse import fuse_static

PIECE_M = 2.4
"""Longer things are shown as pieces of at most this length and width."""

LEAST_CELLS = 3
"""Fewer cells are noise."""

SAME_M = 1.5
"""A piece of a class this close to one that stands already is the same."""

FORGET_M = 60.0
"""Pieces farther than this from the ego are taken away."""

PROP_GAP_M = 0.2
"""Props of a scene stand at least this far apart."""

MOST_PIECES = 60
"""The nearest so many are shown."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A box of one class of static things, upright along the world's axes.

    Attributes:
        class_name: of CARLASC.
        pose_world_from_piece: ``(4, 4)`` of its middle.
        size_m: along x, y, z.
    """

    class_name: str
    pose_world_from_piece: Pose
    size_m: tuple[float, float, float]


def find_pieces(static_map: StaticMap, classes: Iterable[str] = FURNITURE) -> list[Piece]:
    """The boxes around connected things of these classes, cut where they are longer than a piece."""
    pieces: list[Piece] = []
    for class_name in sorted(classes):
        mask = static_map.labels == CARLASC.index(class_name)
        numbered, count = ndimage.label(mask.any(axis=2))
        for number, window in enumerate(ndimage.find_objects(numbered, count), start=1):
            columns = np.argwhere(numbered[window] == number) + np.array([part.start for part in window])
            pieces.extend(_cut(class_name, columns, mask, static_map))
    return pieces


def _cut(class_name: str, columns: np.ndarray, mask: np.ndarray, static_map: StaticMap) -> Iterable[Piece]:
    size = np.asarray(static_map.voxel_size_m)
    block = np.maximum((PIECE_M / size[:2]).astype(int), 1)
    places = (columns - columns.min(axis=0)) // block
    for place in np.unique(places, axis=0):
        part = columns[(places == place).all(axis=1)]
        cells = mask[part[:, 0], part[:, 1]]
        if cells.sum() < LEAST_CELLS:
            continue
        layers = np.nonzero(cells.any(axis=0))[0]
        lower = np.array([*part.min(axis=0), layers[0]]) * size + static_map.origin_world_m
        upper = np.array([*(part.max(axis=0) + 1), layers[-1] + 1]) * size + static_map.origin_world_m
        middle = (lower + upper) / 2
        x_m, y_m, z_m = (float(edge) for edge in upper - lower)
        yield Piece(
            class_name, poses_from_planar(np.array([middle[0], middle[1], 0.0]), float(middle[2])), (x_m, y_m, z_m)
        )


def nearest_pieces(pieces: Sequence[Piece], path_m: Float64[np.ndarray, "T 2"], most: int) -> list[Piece]:
    """The ``most`` pieces that are nearest to a path."""
    if not pieces:
        return []
    places = np.array([piece.pose_world_from_piece[:2, 3] for piece in pieces])
    away_m = cKDTree(path_m).query(places)[0]
    return [pieces[index] for index in np.argsort(away_m, kind="stable")[:most]]


def figures_of(pieces: Sequence[Piece], library: Library, first_id: int = -1) -> list[Figure]:
    """The props that stand for pieces, where the library has one, without those that would stand in an earlier one;
    ids run down from ``first_id``."""
    kept: list[Figure] = []
    places: list[np.ndarray] = []
    for number, piece in enumerate(pieces):
        figure = figure_of(piece, library, first_id - number)
        if figure is None:
            continue
        place, reach_m = figure.pose_world_from_actor[:2, 3], max(PROP_SIZES_M[figure.blueprint_id][:2])
        if all(np.abs(place - other).max() > reach_m + PROP_GAP_M for other in places):
            kept.append(figure)
            places.append(place)
    return kept


def figure_of(piece: Piece, library: Library, number: int) -> Figure | None:
    """The prop that stands for a piece, its longer side along the piece's; None where there is none for its class."""
    length_m, width_m = max(piece.size_m[:2]), min(piece.size_m[:2])
    size_m = (length_m, width_m, piece.size_m[2])
    prop = library.furniture(piece.class_name, size_m)
    if prop is None:
        return None
    pose = piece.pose_world_from_piece.copy()
    if piece.size_m[1] > piece.size_m[0]:
        pose[:3, :3] = poses_from_planar(np.array([0.0, 0.0, np.pi / 2]))[:3, :3]
    return Figure(number, prop, size_m, pose)


class Furniture:
    """Keeps the pieces of a drive: each appears once, and stays until the ego is far away or too many are nearer.

    Args:
        library: the server's blueprints.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._standing: dict[int, tuple[Piece, Figure]] = {}
        self._next_id = -1

    def add(self, occupancy: OccupancySequence) -> None:
        """Take the pieces of the next chunk, at whose end the ego's place says which are near."""
        ego_m = occupancy.poses_world_from_ego[-1, :2, 3]
        for piece in nearest_pieces(find_pieces(fuse_static(occupancy)), ego_m[None], MOST_PIECES):
            if not self._stands(piece):
                self._put_up(piece)
        self._forget(ego_m)

    @property
    def figures(self) -> Sequence[Figure]:
        """All that stand; their ids are negative."""
        return [figure for _, figure in self._standing.values()]

    @property
    def pieces(self) -> Sequence[Piece]:
        """The boxes behind them."""
        return [piece for piece, _ in self._standing.values()]

    def _put_up(self, piece: Piece) -> None:
        figure = figure_of(piece, self._library, self._next_id)
        if figure is not None:
            self._standing[figure.id] = (piece, figure)
            self._next_id -= 1

    def _stands(self, piece: Piece) -> bool:
        at = piece.pose_world_from_piece[:2, 3]
        return any(
            other.class_name == piece.class_name
            and float(np.linalg.norm(other.pose_world_from_piece[:2, 3] - at)) < SAME_M
            for other, _ in self._standing.values()
        )

    def _forget(self, ego_m: np.ndarray) -> None:
        away_m = {
            number: float(np.linalg.norm(piece.pose_world_from_piece[:2, 3] - ego_m))
            for number, (piece, _) in self._standing.items()
        }
        nearest = sorted(away_m, key=lambda number: away_m[number])[:MOST_PIECES]
        kept = {number for number in nearest if away_m[number] <= FORGET_M}
        self._standing = {number: standing for number, standing in self._standing.items() if number in kept}
