"""Drives and scenes as recordings of Rerun (``.rrd``): voxels, poses, boxes and points on a timeline.

Entities: ``world`` (classes), ``world/ego`` (pose), ``world/ego/voxels``, ``world/ego/simulator`` (what a recording
had, beside the rest), ``world/ego/lidar``, ``world/tracks``, ``world/path``; a scene's ``world/static`` and
``world/lanes``. Timelines: ``frame`` and ``time``, from the first frame on. Rerun holds places in single precision, and
a world may lie millions of metres from its origin: places count from ``origin_world_m`` of ``world``, the ego's first
x and y. What is written of a drive is the same every time but for the ids that Rerun gives its rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Pose, Poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene, Track
from dyncity_sim.domain.taxonomy import CARLASC, Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.extras import import_extra
from dyncity_sim.files import whole_file
from dyncity_sim.preview.lanes import lane_borders
from dyncity_sim.preview.pack import PointCloud
from dyncity_sim.preview.scene_frames import class_name
from dyncity_sim.scene.surfaces.quads import surfaces

POINT_RADIUS_M = 0.03
LINE_RADIUS_M = 0.06


def write_drive_rerun(
    file: Path,
    name: str,
    occupancy: OccupancySequence,
    recorded: OccupancySequence | None = None,
    tracks: Sequence[Track] = (),
    clouds: Sequence[PointCloud] = (),
) -> Iterator[int]:
    """Write a drive, and yield how many frames are done after each.

    Args:
        file: what is written; it appears when the last frame has been taken from the iterator.
        name: the recording's id is made of it.
        occupancy: T frames; cells on the surface are written.
        recorded: the simulator's T frames, written one grid's width to the right, or None.
        tracks: boxes at the frames' times.
        clouds: LiDAR points of each frame, or none at all.

    Raises:
        InvalidInputError: points or a recording of other frames.
        MissingExtraError: rerun-sdk is not installed.
        StorageError: the file could not be written whole.
    """
    for field, given in (("clouds", clouds), ("recorded", recorded)):
        if given is not None and len(given) not in (0, len(occupancy)):
            raise InvalidInputError(field, f"those of {len(given)} frames", f"those of {len(occupancy)}")
    origin_m, poses = _near(occupancy.poses_world_from_ego)
    with _recording(file, name, occupancy.taxonomy, origin_m) as (rr, stream):
        _log_path(rr, stream, poses)
        for frame, (pose, time_us) in enumerate(zip(poses, occupancy.times_us, strict=True)):
            _set_time(stream, frame, occupancy.times_us)
            _log_pose(rr, stream, pose)
            stream.log("world/ego/voxels", _voxels(rr, occupancy, frame, 0.0))
            if recorded is not None:
                beside = -1.1 * (occupancy.grid.upper_m[1] - occupancy.grid.lower_m[1])
                stream.log("world/ego/simulator", _voxels(rr, recorded, frame, beside))
            if clouds:
                cloud = clouds[frame]
                points = rr.Points3D(cloud.points_ego_m, class_ids=cloud.labels, radii=[POINT_RADIUS_M])
                stream.log("world/ego/lidar", points)
            stream.log("world/tracks", _boxes(rr, tracks, int(time_us), occupancy.taxonomy, origin_m))
            yield frame + 1


def write_scene_rerun(file: Path, name: str, scene: Scene) -> Iterator[int]:
    """Write a scene, and yield how many frames are done after each: static surfaces, lanes, ego, boxes.

    Raises:
        InvalidInputError: a road that cannot be read.
        MissingExtraError: rerun-sdk is not installed.
        StorageError: the file could not be written whole.
    """
    origin_m, poses = _near(scene.ego_poses_world_from_ego)
    with _recording(file, name, CARLASC, origin_m) as (rr, stream):
        for surface in surfaces(scene.static_map):
            triangles = surface.quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
            mesh = rr.Mesh3D(
                vertex_positions=surface.vertices_world_m - origin_m,
                triangle_indices=triangles,
                albedo_factor=(*CARLASC.classes[surface.label].colour, 255),
            )
            stream.log(f"world/static/{CARLASC.names[surface.label]}", mesh, static=True)
        borders = [line - origin_m for line in lane_borders(scene.opendrive)]
        lanes = rr.LineStrips3D(borders, radii=[LINE_RADIUS_M], colors=[(240, 240, 235)])
        stream.log("world/lanes", lanes, static=True)
        _log_path(rr, stream, poses)
        for frame, (pose, time_us) in enumerate(zip(poses, scene.times_us, strict=True)):
            _set_time(stream, frame, scene.times_us)
            _log_pose(rr, stream, pose)
            stream.log("world/tracks", _boxes(rr, scene.tracks, int(time_us), CARLASC, origin_m))
            yield frame + 1


@contextmanager
def _recording(
    file: Path, name: str, taxonomy: Taxonomy, origin_m: Float64[np.ndarray, " 3"]
) -> Iterator[tuple[ModuleType, Any]]:
    rr = import_extra("rerun", "rerun-sdk", "rerun", "Writing .rrd")
    with whole_file(file) as temporary:
        stream = rr.RecordingStream("dyncity-sim", recording_id=uuid5(NAMESPACE_URL, f"dyncity-sim/{name}"))
        # Rerun's own writer of files raises nothing when the disk is full, and leaves half a file.
        encoded = stream.binary_stream()
        try:
            stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
            classes = [(label, c.name, c.colour) for label, c in enumerate(taxonomy.classes)]
            stream.log("world", rr.AnnotationContext(classes), static=True)
            stream.log("world", rr.AnyValues(origin_world_m=origin_m), static=True)
            yield rr, stream
            # All at once: each reading is a recording of its own, with an index at its end.
            temporary.write_bytes(encoded.read())
        finally:
            stream.disconnect()


def _near(poses: Poses) -> tuple[Float64[np.ndarray, " 3"], Poses]:
    """x and y of the first pose, at height 0, and the poses from there."""
    origin_m = poses[0, :3, 3] * [1.0, 1.0, 0.0]
    near = poses.copy()
    near[:, :3, 3] -= origin_m
    return origin_m, near


def _set_time(stream: Any, frame: int, times_us: Int64[np.ndarray, " T"]) -> None:
    stream.set_time("frame", sequence=frame)
    stream.set_time("time", duration=np.timedelta64(int(times_us[frame] - times_us[0]), "us"))


def _log_path(rr: ModuleType, stream: Any, poses: Poses) -> None:
    path = rr.LineStrips3D([poses[:, :3, 3]], radii=[LINE_RADIUS_M], colors=[(247, 147, 30)])
    stream.log("world/path", path, static=True)


def _log_pose(rr: ModuleType, stream: Any, pose: Pose) -> None:
    stream.log("world/ego", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))


def _voxels(rr: ModuleType, occupancy: OccupancySequence, frame: int, beside_m: float) -> Any:
    """Cells with a free neighbour as solid boxes, moved to the left by ``beside_m``."""
    grid, labels = occupancy.grid, occupancy.known_labels(frame)
    cells = _surface_cells(labels)
    size = np.asarray(grid.voxel_size_m)
    centres = np.asarray(grid.lower_m) + (cells + 0.5) * size + [0.0, beside_m, 0.0]
    return rr.Boxes3D(
        centers=centres.astype(np.float32),
        half_sizes=np.broadcast_to(size / 2, (len(cells), 3)),
        class_ids=labels[tuple(cells.T)],
        fill_mode="solid",
        show_labels=False,
    )


def _surface_cells(labels: UInt8[np.ndarray, "X Y Z"]) -> Int64[np.ndarray, "N 3"]:
    solid = np.pad(labels > 0, 1)
    inner = solid[1:-1, 1:-1, 1:-1]
    buried = inner.copy()
    for axis in range(3):
        for step in (-1, 1):
            buried &= np.roll(solid, step, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere(inner & ~buried)


def _boxes(
    rr: ModuleType, tracks: Sequence[Track], time_us: int, taxonomy: Taxonomy, origin_m: Float64[np.ndarray, " 3"]
) -> Any:
    """Boxes of the tracks that have a pose at a time; an empty batch takes away those of the frame before."""
    shown = [(track, step) for track in tracks for step in np.flatnonzero(track.times_us == time_us)]
    poses = np.array([track.poses_world_from_actor[step] for track, step in shown]).reshape(-1, 4, 4)
    return rr.Boxes3D(
        centers=poses[:, :3, 3] - origin_m,
        half_sizes=np.array([track.size_m for track, _ in shown]).reshape(-1, 3) / 2,
        quaternions=Rotation.from_matrix(poses[:, :3, :3]).as_quat() if shown else np.zeros((0, 4)),
        class_ids=[taxonomy.index(class_name(track.kind)) for track, _ in shown],
        labels=[f"{track.kind.value} {track.id}" for track, _ in shown],
    )
