"""Ground truth for perception: what sensors would measure in a frame, and the boxes behind it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8, UInt16

from dyncity_sim.domain.frames import Pose, Poses, check_poses, check_size, check_times
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.sensors import SensorRig
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError

MAX_TRACK_ID = 2**16 - 1
"""Greatest id of an actor that cells, points and pixels can carry."""


@dataclass(frozen=True, eq=False)
class LidarSweep:
    """One turn of a LiDAR.

    Attributes:
        points_ego_m: first hit of each ray that comes back, ``(N, 3)`` in the ego frame at the frame's time; the ego's
            motion within a turn is taken out, that of actors is not.
        labels: class of each point, ``(N,)`` in the taxonomy of the occupancy.
        instances: track id of each point, ``(N,)``; 0 for static things and for moving cells without a track.
        incidence: cosine of the angle between ray and surface normal, ``(N,)`` in [0, 1].
        intensity: strength of what comes back, ``(N,)`` in [0, 1].
        velocities_ego_mps: velocity over ground of what each point lies on, ``(N, 3)`` along the axes of the ego frame.
        beams: which of ``elevations_rad``, ``(N,)``.
        firings: which of ``azimuth_steps``, ``(N,)``.
        time_offsets_us: when each point was measured, ``(N,)`` microseconds relative to the frame's time; 0 where the
            turn is taken as an instant.
    """

    points_ego_m: Float32[np.ndarray, "N 3"]
    labels: UInt8[np.ndarray, " N"]
    instances: UInt16[np.ndarray, " N"]
    incidence: Float32[np.ndarray, " N"]
    intensity: Float32[np.ndarray, " N"]
    velocities_ego_mps: Float32[np.ndarray, "N 3"]
    beams: UInt16[np.ndarray, " N"]
    firings: Int32[np.ndarray, " N"]
    time_offsets_us: Int32[np.ndarray, " N"]

    def __post_init__(self) -> None:
        lengths = {len(array) for array in vars(self).values()}
        if len(lengths) != 1:
            raise InvalidInputError("sweep", f"arrays of {sorted(lengths)} points", "as many of each")

    def __len__(self) -> int:
        return len(self.points_ego_m)


@dataclass(frozen=True, eq=False)
class CameraImages:
    """What a pinhole camera sees, pixel by pixel, as an instant.

    Attributes:
        depth_m: depth along the camera's z of what each pixel's middle shows, ``(H, W)``; infinity where nothing is.
        labels: its class, ``(H, W)``; 0 where nothing is.
        instances: its track id, ``(H, W)``; 0 for static things and where nothing is.
    """

    depth_m: Float32[np.ndarray, "H W"]
    labels: UInt8[np.ndarray, "H W"]
    instances: UInt16[np.ndarray, "H W"]

    def __post_init__(self) -> None:
        shapes = {array.shape for array in vars(self).values()}
        if len(shapes) != 1:
            raise InvalidInputError("images", f"shapes {sorted(shapes)}", "one shape")


@dataclass(frozen=True, eq=False)
class Box3D:
    """One actor's box in one frame.

    Attributes:
        track_id: the track it belongs to.
        kind: what it is.
        pose_ego_from_actor: ``(4, 4)`` pose of the box's centre in the ego frame.
        size_m: length, width, height.
        velocity_ego_mps: velocity over ground, along the axes of the ego frame.
        lidar_points: number of points of all sweeps that carry this track's id.
        visibility: share of the sensors' rays at the actor that nothing else stops, in [0, 1]; None where no ray of
            any sensor meets its cells.
    """

    track_id: int
    kind: ActorKind
    pose_ego_from_actor: Pose
    size_m: tuple[float, float, float]
    velocity_ego_mps: tuple[float, float, float]
    lidar_points: int = 0
    visibility: float | None = None

    def __post_init__(self) -> None:
        check_poses(self.pose_ego_from_actor[None], "box.pose_ego_from_actor")
        check_size(self.size_m, "box.size_m")


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """All ground truth of one frame; flow, BEV and free space follow from it.

    Attributes:
        labels: class of each cell, ``(X, Y, Z)``, in the drive's taxonomy and grid.
        observed: which cells the source knows, ``(X, Y, Z)``; None when it knows all.
        instances: track id of each cell of a moving class, ``(X, Y, Z)``; 0 elsewhere and where there is no track.
        seen_by_lidar: cells that a ray of a LiDAR hits or passes through, ``(X, Y, Z)``.
        seen_by_camera: the same for cameras; None in a rig without any.
        sweeps: one for each LiDAR of the rig, in its order.
        images: one for each camera of the rig, in its order.
        boxes: actors with a pose at this time whose centre lies over the grid, or beside it while they own cells in it,
            sorted by track id.
        pose_world_from_ego: ``(4, 4)`` where the ego frame stands.
        time_us: time of the frame, microseconds.
    """

    labels: UInt8[np.ndarray, "X Y Z"]
    observed: Bool[np.ndarray, "X Y Z"] | None
    instances: UInt16[np.ndarray, "X Y Z"]
    seen_by_lidar: Bool[np.ndarray, "X Y Z"]
    seen_by_camera: Bool[np.ndarray, "X Y Z"] | None
    sweeps: tuple[LidarSweep, ...]
    images: tuple[CameraImages, ...]
    boxes: tuple[Box3D, ...]
    pose_world_from_ego: Pose
    time_us: int


@dataclass(frozen=True, eq=False)
class LabelledDrive:
    """What is the same for all frames of a drive, and known before the first is labelled.

    Attributes:
        name: of the drive, fit for a file name.
        grid: where the cells of all frames lie.
        taxonomy: what labels mean.
        rig: the sensors.
        poses_world_from_ego: ``(T, 4, 4)``.
        times_us: ``(T,)`` microseconds.
        tracks: the actors of the whole drive, sorted by id; ids fit the 16 bits that cells, points and pixels hold.
        provenance: where the drive comes from.
        seed: of drop-out and noise; what a sensor draws in a frame depends on it, the frame and the sensor alone.

    Raises:
        InvalidInputError: a name, poses, times or a track's id that cannot be, or a negative seed.
    """

    name: str
    grid: Grid
    taxonomy: Taxonomy
    rig: SensorRig
    poses_world_from_ego: Poses
    times_us: Int64[np.ndarray, " T"]
    tracks: tuple[Track, ...]
    provenance: Provenance
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or "/" in self.name or not self.name.isprintable():
            raise InvalidInputError(
                "drive.name",
                repr(self.name),
                "a name of a file, in UTF-8 and on one line",
                "Rename the folder of the drive.",
            )
        if self.seed < 0:
            raise InvalidInputError("seed", self.seed, "0 or more")
        poses = check_poses(self.poses_world_from_ego, "drive.poses_world_from_ego")
        object.__setattr__(self, "poses_world_from_ego", poses)
        object.__setattr__(self, "times_us", check_times(self.times_us, "drive.times_us", len(poses)))
        highest = max((track.id for track in self.tracks), default=0)
        if highest > MAX_TRACK_ID:
            raise InvalidInputError(
                "drive.tracks", f"id {highest}", f"ids of at most {MAX_TRACK_ID}", "Number them anew from 1 on."
            )

    def __len__(self) -> int:
        return len(self.times_us)
