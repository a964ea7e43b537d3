"""Occ3D-nuScenes' layout (Tian et al. 2023; Tsinghua-MARS-Lab/Occ3D), with what follows from occupancy beside it.

::

    FOLDER/
      gts/<scene>/<token>/labels.npz   semantics (X Y Z) uint8: numbers of Occ3D-nuScenes, 17 is free
                                       mask_lidar, mask_camera (X Y Z) uint8: 1 where a ray of a sensor was
                                       flow (X Y Z 2) float16: velocity over ground along x and y, m/s, NaN unknown
                                       instances (X Y Z) uint16: track id (ours)
      bev/<scene>/<token>.npz          labels, instances, height_m, observed: ``bev_map``, labels as in semantics;
                                       drivable, visible: ``free_space`` (all ours)
      annotations.json                 scene_infos: timestamp (microseconds) and ego_pose of each token
      dyncity.json                     grid, classes, sensors, provenance, class table

Cells stand in the drive's own grid and ego frame, or, resampled, in Occ3D's grid of 200 x 200 x 16 cells of 0.4 m in
nuScenes' ego frame, on the road under the rear axle. Frames that are samples of nuScenes' tables (``write_nuscenes``)
have the sample's token. A cell that the source does not know is 17 and 0 in both masks. Occ3D accumulates
sweeps over a scene before it says what a LiDAR saw; here it is the frame's own turn of all LiDARs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from dyncity_sim.domain.base_frame import pose_ego_from_base
from dyncity_sim.domain.frames import Pose, inverse
from dyncity_sim.domain.grid import CARLASC_GRID, OCC3D_GRID, Grid
from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import json_bytes, whole_folder
from dyncity_sim.groundtruth.bev import bev_map
from dyncity_sim.groundtruth.flow import occupancy_flow
from dyncity_sim.groundtruth.formats.describe import check_next, check_whole, quaternion_wxyz
from dyncity_sim.groundtruth.formats.join import join_metadata, move_files, read_json
from dyncity_sim.groundtruth.formats.metadata import METADATA, check_merged, stored_grid, write_metadata
from dyncity_sim.groundtruth.formats.nuscenes_layout import Tokens, sample_frames
from dyncity_sim.groundtruth.formats.writer import FrameWriter
from dyncity_sim.groundtruth.free_space import free_space
from dyncity_sim.groundtruth.resample import Resampling, own_cells

ANNOTATIONS = "annotations.json"

FREE = 17

NUMBER_OF_CLASS = {
    "free": FREE,
    "building": 15,
    "barrier": 15,
    "other": 0,
    "pedestrian": 7,
    "pole": 15,
    "road": 11,
    "ground": 14,
    "sidewalk": 13,
    "vegetation": 16,
    "vehicle": 4,
    "unused": 0,
}
"""Occ3D-nuScenes' number of each of our classes. nuScenes calls buildings, walls, fences, guard rails and poles
``manmade`` (15); its ``barrier`` (1) is a temporary one. Class 0 is ``others``."""

NUMBER_OF_KIND = {
    ActorKind.CAR: 4,
    ActorKind.VAN: 4,
    ActorKind.BUS: 3,
    ActorKind.TRUCK: 10,
    ActorKind.MOTORCYCLE: 6,
    ActorKind.BICYCLE: 2,
    ActorKind.PEDESTRIAN: 7,
}
"""Number of an actor's cells, its rider's included, as nuScenes' annotators have it; vans are cars there."""

BASED_GRIDS = (CARLASC_GRID, OCC3D_GRID)
"""Grids of whose ego frame it is known where nuScenes' stands."""


@contextmanager
def open_occ3d(folder: Path, drive: LabelledDrive, resample: bool = False) -> Iterator[FrameWriter]:
    """Write a drive as a data set of one scene. An OpenWriter.

    Args:
        folder: must not exist, or be empty.
        drive: what is written.
        resample: take cells over into Occ3D's grid by nearest neighbour.

    Raises:
        InvalidInputError: labels of another taxonomy than CARLASC, a grid to be resampled of which nobody knows where
            its road is, other frames than the drive's, or the folder is not free.
        StorageError: the disk is full, or the place may not be written to.
    """
    check_merged(drive, "occ3d")
    resampling = Resampling(drive.grid, OCC3D_GRID, _pose_ego_from_base(drive.grid)) if resample else None
    with whole_folder(folder) as temporary:
        writer = _Occ3dWriter(temporary, drive, resampling)
        yield writer
        writer.finish()


def join_occ3d(parts: Sequence[Path], folder: Path) -> None:
    """A scene for each drive. A Join."""
    lists = [read_json(part, ANNOTATIONS) for part in parts]
    for part in parts:
        move_files(part, folder, (ANNOTATIONS, METADATA))
    annotations = {name: [scene for listed in lists for scene in listed[name]] for name in ("train_split", "val_split")}
    infos = {scene: frames for listed in lists for scene, frames in listed["scene_infos"].items()}
    (folder / ANNOTATIONS).write_bytes(json_bytes(annotations | {"scene_infos": infos}))
    join_metadata(parts, folder)


def occ3d_numbers(
    labels: UInt8[np.ndarray, "..."],
    instances: UInt16[np.ndarray, "..."],
    kinds: dict[int, ActorKind],
    taxonomy: Taxonomy,
) -> UInt8[np.ndarray, "..."]:
    """Occ3D-nuScenes' number of each cell: its actor's where it has one, else its class's."""
    of_track = np.full(2**16, 255, dtype=np.uint8)
    for track, kind in kinds.items():
        of_track[track] = NUMBER_OF_KIND[kind]
    own = of_track[instances]
    table = np.array([NUMBER_OF_CLASS[name] for name in taxonomy.names], dtype=np.uint8)
    return np.where((instances > 0) & (own < 255), own, table[labels])


class _Occ3dWriter:
    def __init__(self, folder: Path, drive: LabelledDrive, resampling: Resampling | None) -> None:
        self._folder, self._drive, self._resampling = folder, drive, resampling
        self._tracks = {track.id: track for track in drive.tracks}
        self._tokens = _tokens(drive)
        pose_ego_from_stored = np.eye(4) if resampling is None else resampling.pose_source_from_target
        x_m, y_m = inverse(pose_ego_from_stored)[:2, 3]
        self._origin_m = (float(x_m), float(y_m))
        self._count = 0

    def add(self, frame: LabelledFrame) -> None:
        drive, resampling = self._drive, self._resampling
        check_next(frame, drive, self._count)
        cells = own_cells(frame, drive.grid) if resampling is None else resampling.cells(frame)
        flow = occupancy_flow(frame, self._tracks, drive.grid, drive.taxonomy)[..., :2]
        if resampling is not None:
            flow = resampling.take(flow, np.nan)
        bev = bev_map(cells.labels, cells.known, cells.instances, cells.grid, drive.taxonomy)
        free = free_space(cells.labels, cells.known, cells.grid, drive.taxonomy, self._origin_m)
        kinds = {box.track_id: box.kind for box in frame.boxes}
        token = self._tokens[self._count]
        folder = self._folder / "gts" / drive.name / token
        folder.mkdir(parents=True)
        np.savez_compressed(
            folder / "labels.npz",
            semantics=occ3d_numbers(cells.labels, cells.instances, kinds, drive.taxonomy),
            mask_lidar=cells.seen_by_lidar.astype(np.uint8),
            mask_camera=cells.seen_by_camera.astype(np.uint8),
            flow=flow.astype(np.float16),
            instances=cells.instances,
        )
        views = self._folder / "bev" / drive.name
        views.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            views / f"{token}.npz",
            labels=occ3d_numbers(bev.labels, bev.instances, kinds, drive.taxonomy),
            instances=bev.instances,
            height_m=bev.height_m,
            observed=bev.observed,
            drivable=free.drivable,
            visible=free.visible,
        )
        self._count += 1

    def finish(self) -> None:
        drive, resampling = self._drive, self._resampling
        check_whole(drive, self._count)
        poses = drive.poses_world_from_ego
        if resampling is not None:
            poses = poses @ resampling.pose_source_from_target
        infos = {token: self._info(number, poses[number]) for number, token in enumerate(self._tokens)}
        annotations = {"train_split": [drive.name], "val_split": [], "scene_infos": {drive.name: infos}}
        (self._folder / ANNOTATIONS).write_bytes(json_bytes(annotations))
        notes = {
            "format": "occ3d-nuscenes",
            "class_table": NUMBER_OF_CLASS,
            "actor_table": {kind.value: number for kind, number in NUMBER_OF_KIND.items()},
            **stored_grid(drive, resampling),
        }
        write_metadata(self._folder, drive, notes)

    def _info(self, number: int, pose_world_from_base: Pose) -> dict[str, Any]:
        tokens = self._tokens
        return {
            "timestamp": str(int(self._drive.times_us[number])),
            "camera_sensor": {},
            "ego_pose": {
                "translation": [float(v) for v in pose_world_from_base[:3, 3]],
                "rotation": [float(v) for v in quaternion_wxyz(pose_world_from_base)],
            },
            "gt_path": f"gts/{self._drive.name}/{tokens[number]}/labels.npz",
            "prev": tokens[number - 1] if number else "EOF",
            "next": tokens[number + 1] if number + 1 < len(tokens) else "EOF",
        }


def _tokens(drive: LabelledDrive) -> list[str]:
    """A name for each frame: of samples, that which they have in nuScenes' tables of the same drive."""
    tokens = Tokens(drive)
    names = [tokens.of("occ3d", number) for number in range(len(drive))]
    for sample, frame in enumerate(sample_frames(drive.times_us)):
        names[frame] = tokens.of("sample", sample)
    return names


def _pose_ego_from_base(grid: Grid) -> Pose:
    if grid not in BASED_GRIDS:
        raise InvalidInputError(
            "grid for occ3d --resample",
            f"{grid}, of which nobody knows where its road is",
            "CarlaSC's grid or Occ3D's own",
            "Export without --resample: occ3d then keeps the drive's grid.",
        )
    return pose_ego_from_base(grid)
