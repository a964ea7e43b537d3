"""A scene: actors with tracks, static geometry and a road, in one world frame."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from dyncity_sim.domain.conditions import CONDITIONS, Command, SamplingOptions
from dyncity_sim.domain.frames import Poses, check_poses, check_size, check_times
from dyncity_sim.domain.grid import FRAME_RATE_HZ
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Track:
    """One actor over a drive.

    Attributes:
        id: positive, unique in its scene.
        kind: what it is.
        size_m: length, width, height, constant along the track.
        poses_world_from_actor: ``(N, 4, 4)`` poses of the bounding box's centre.
        times_us: ``(N,)`` microseconds, strictly increasing; a gap is a gap in observation.
        velocities_world_mps: ``(N, 3)``.
        kind_confidence: how sure ``kind`` is, in (0, 1]; 1 where it is known.
    """

    id: int
    kind: ActorKind
    size_m: tuple[float, float, float]
    poses_world_from_actor: Poses
    times_us: Int64[np.ndarray, " N"]
    velocities_world_mps: Float64[np.ndarray, "N 3"]
    kind_confidence: float = 1.0

    def __post_init__(self) -> None:
        if self.id < 1:
            raise InvalidInputError("track.id", self.id, "a positive integer")
        check_size(self.size_m, f"track {self.id} size_m")
        if not 0 < self.kind_confidence <= 1:
            raise InvalidInputError(f"track {self.id} kind_confidence", self.kind_confidence, "a number in (0, 1]")
        poses = check_poses(self.poses_world_from_actor, f"track {self.id} poses_world_from_actor")
        times_us = check_times(self.times_us, f"track {self.id} times_us", len(poses))
        velocities = np.array(self.velocities_world_mps, dtype=np.float64)
        if velocities.shape != (len(poses), 3) or not np.isfinite(velocities).all():
            raise InvalidInputError(
                f"track {self.id} velocities_world_mps", f"shape {velocities.shape}", f"finite ({len(poses)}, 3)"
            )
        object.__setattr__(self, "poses_world_from_actor", poses)
        object.__setattr__(self, "times_us", times_us)
        object.__setattr__(self, "velocities_world_mps", velocities)

    def __len__(self) -> int:
        return len(self.times_us)


@dataclass(frozen=True, eq=False)
class StaticMap:
    """Static occupancy of a whole drive in one world-aligned grid.

    Attributes:
        labels: ``(X, Y, Z)`` uint8 CARLASC classes, 0 free or never seen; no moving classes.
        origin_world_m: corner of cell (0, 0, 0) in the world frame.
        voxel_size_m: edge lengths of a cell.
    """

    labels: UInt8[np.ndarray, "X Y Z"]
    origin_world_m: tuple[float, float, float]
    voxel_size_m: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything a simulator needs to run a generated drive.

    Attributes:
        tracks: all actors but the ego, sorted by id.
        static_map: static occupancy, which meshes are made from.
        ego_poses_world_from_ego: ``(T, 4, 4)`` the ego's track (its LiDAR frame, 1.8 m above the road).
        times_us: ``(T,)`` times of the ego's poses.
        opendrive: the road as an OpenDRIVE document.
    """

    tracks: tuple[Track, ...]
    static_map: StaticMap
    ego_poses_world_from_ego: Poses
    times_us: Int64[np.ndarray, " T"]
    opendrive: str

    @property
    def rate_hz(self) -> float:
        """Frames per second, by the usual time between two; that of a chunk where there is but one."""
        return 1e6 / float(np.median(np.diff(self.times_us))) if len(self.times_us) > 1 else FRAME_RATE_HZ


@dataclass(frozen=True)
class Provenance:
    """Where a scene comes from; it travels with everything that is made from it.

    Attributes:
        model_id: the model that generated the occupancy, or None for a recording.
        seeds: seed of each chunk, in order; empty for a recording.
        attribution: credit that the map's licence asks for, with the licence's name; empty when none is due.
        taxonomy_id: classes of the occupancy the scene was made from.
        conditions: names of what each chunk was generated from, as in ``CONDITIONS``; empty where that is not known.
        commands: the driving command that each chunk was generated from, None where there was none; likewise.
        options: how the chunks were sampled, but for the seed; None where that is not known. What is None in it was
            left to the model.

    Raises:
        InvalidInputError: conditions or commands of another number of chunks than seeds, conditions that there are not,
            or something else where text belongs.
    """

    model_id: str | None
    seeds: tuple[int, ...]
    attribution: str
    taxonomy_id: str
    conditions: tuple[tuple[str, ...], ...] = ()
    commands: tuple[Command | None, ...] = ()
    options: SamplingOptions | None = None

    def __post_init__(self) -> None:
        for name, text in (
            ("model_id", "" if self.model_id is None else self.model_id),
            ("attribution", self.attribution),
            ("taxonomy_id", self.taxonomy_id),
        ):
            if not isinstance(text, str):
                raise InvalidInputError(f"provenance.{name}", repr(text), "text")
        unknown = {repr(name) for names in self.conditions for name in names if name not in CONDITIONS}
        if unknown:
            raise InvalidInputError(
                "provenance.conditions", ", ".join(sorted(unknown)), f"names among {', '.join(CONDITIONS)}"
            )
        for name, values in (("conditions", self.conditions), ("commands", self.commands)):
            if values and len(values) != len(self.seeds):
                raise InvalidInputError(
                    f"provenance.{name}", f"those of {len(values)} chunks", f"{len(self.seeds)}, as there are seeds"
                )
