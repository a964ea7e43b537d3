"""nuScenes' layout (Caesar et al., CVPR 2020; nuscenes-devkit, ``docs/schema_nuscenes.md``) with lidarseg.

::

    FOLDER/
      v1.0-trainval/*.json               the 13 tables, lidarseg, and splits with the scene as split ``all``
      samples/CHANNEL/*, sweeps/CHANNEL/*    frames at 2 Hz with annotations, and those between
        *.pcd.bin                        float32 x, y, z, intensity (0 to 255), ring, in the LiDAR's frame: x right,
                                         y forward, z up; ring 0 is the lowest beam
        *.png                            lidarseg index of each pixel, with nuScenes' colours as palette
      lidarseg/v1.0-trainval/*_lidarseg.bin  uint8 index of each point of a sample
      depth/CHANNEL/*.png                16 bits: depth along the camera's z in steps of 1/256 m, 0 for nothing
      instances/CHANNEL/*.png            16 bits: track id
      maps/*.png                         255 where road or sidewalk was seen, 0.1 m a pixel
      dyncity.json                       grid, classes, sensors, provenance, and where the global frame lies

The first LiDAR is LIDAR_TOP, whatever its name; other channels are sensors' names in capitals. Sweeps belong to the
next sample, as in nuScenes, and after the last to the last. ``num_lidar_pts`` counts the points that carry the
actor's id, over all LiDARs. What no ray meets has the lowest visibility.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dyncity_sim.domain.frames import inverse, transform_points
from dyncity_sim.domain.ground_truth import CameraImages, LabelledDrive, LabelledFrame, LidarSweep
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor, SensorRig
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import json_bytes, whole_folder
from dyncity_sim.groundtruth.formats.describe import check_next, check_whole
from dyncity_sim.groundtruth.formats.join import join_metadata, move_files, read_json
from dyncity_sim.groundtruth.formats.metadata import METADATA, write_metadata
from dyncity_sim.groundtruth.formats.nuscenes_classes import MAPPED_CLASSES, PALETTE, category_indices, category_table
from dyncity_sim.groundtruth.formats.nuscenes_layout import DriveMap, pose_ego_from_channel, sample_frames
from dyncity_sim.groundtruth.formats.nuscenes_tables import LIDARSEG, VERSION, Annotations, Tables, joined_table
from dyncity_sim.groundtruth.formats.pictures import check_depth, depth_png, id_png, label_png
from dyncity_sim.groundtruth.formats.writer import FrameWriter
from dyncity_sim.groundtruth.resample import own_cells

LIDAR_TOP = "LIDAR_TOP"


@contextmanager
def open_nuscenes(folder: Path, drive: LabelledDrive) -> Iterator[FrameWriter]:
    """Write a drive as a data set of one scene. An OpenWriter.

    Raises:
        InvalidInputError: a class without a category, two sensors of one channel, a camera that sees farther than a
            depth picture holds, a drive longer than a map, times after the year 9999, other frames than the drive's, or
            the folder is not free.
        StorageError: the disk is full, or the place may not be written to.
    """
    channels = sensor_channels(drive.rig)
    table = category_table(drive.taxonomy)
    for camera in drive.rig.cameras:
        check_depth(camera)
    drive_map = DriveMap(drive.poses_world_from_ego, drive.grid)
    with whole_folder(folder) as temporary:
        writer = _NuscenesWriter(temporary, drive, channels, table, drive_map)
        yield writer
        writer.finish()


def join_nuscenes(parts: Sequence[Path], folder: Path) -> None:
    """A scene for each drive, with a log and a map of its own. A Join."""
    for part in parts:
        move_files(part, folder, (VERSION, METADATA))
    (folder / VERSION).mkdir()
    for file in sorted((parts[0] / VERSION).iterdir()):
        name = f"{VERSION}/{file.name}"
        table = joined_table([read_json(part, name) for part in parts])
        (folder / name).write_bytes(json_bytes(table))
    join_metadata(parts, folder, ("global_from_world_m",))


def sensor_channels(rig: SensorRig) -> dict[str, str]:
    """Channel of each sensor by its name.

    Raises:
        InvalidInputError: two sensors would share one.
    """
    channels = {rig.lidars[0].name: LIDAR_TOP}
    for sensor in rig.sensors[1:]:
        channel = sensor.name.upper()
        if channel in channels.values():
            raise InvalidInputError(
                "rig", f"a further sensor named {sensor.name!r}", f"one channel {channel} alone", "Rename it."
            )
        channels[sensor.name] = channel
    return channels


class _NuscenesWriter:
    def __init__(
        self, root: Path, drive: LabelledDrive, channels: dict[str, str], table: np.ndarray, drive_map: DriveMap
    ) -> None:
        self._root = root
        self._drive = drive
        self._channels = channels
        self._table = table
        self._mapped = np.isin(drive.taxonomy.names, MAPPED_CLASSES)
        self._samples = frozenset(sample_frames(drive.times_us).tolist())
        self._tables = Tables(drive, channels, drive_map)
        self._annotations = Annotations(drive, self._tables, drive_map)
        self._map = drive_map
        self._frames = 0
        (root / VERSION).mkdir()
        (root / LIDARSEG / VERSION).mkdir(parents=True)

    def add(self, frame: LabelledFrame) -> None:
        number = self._frames
        check_next(frame, self._drive, number)
        self._tables.add_ego_pose(number)
        for lidar, sweep in zip(self._drive.rig.lidars, frame.sweeps, strict=True):
            self._add_sweep(number, frame, lidar, sweep)
        for camera, images in zip(self._drive.rig.cameras, frame.images, strict=True):
            self._add_images(number, frame, camera, images)
        if number in self._samples:
            self._annotations.add(number, frame)
        cells = own_cells(frame, self._drive.grid)
        self._map.add(self._mapped[cells.labels].any(axis=2), frame.pose_world_from_ego)
        self._frames += 1

    def finish(self) -> None:
        check_whole(self._drive, self._frames)
        self._write(self._tables.map_file, self._map.png())
        for name, records in (self._tables.whole() | self._annotations.whole()).items():
            self._write(f"{VERSION}/{name}.json", json_bytes(records))
        offset_m = [float(v) for v in self._map.offset_m]
        write_metadata(self._root, self._drive, {"channels": self._channels, "global_from_world_m": offset_m})

    def _add_sweep(self, number: int, frame: LabelledFrame, lidar: LidarSensor, sweep: LidarSweep) -> None:
        record = self._tables.add_sample_data(number, self._channels[lidar.name], "pcd.bin", "pcd")
        self._write(record["filename"], point_records(sweep, lidar).tobytes())
        if record["is_key_frame"]:
            indices = category_indices(sweep.labels, sweep.instances, frame.boxes, self._table)
            self._write(self._tables.add_lidarseg(record["token"]), indices.tobytes())

    def _add_images(self, number: int, frame: LabelledFrame, camera: CameraSensor, images: CameraImages) -> None:
        channel = self._channels[camera.name]
        record = self._tables.add_sample_data(number, channel, "png", "png", camera.width, camera.height)
        indices = category_indices(images.labels, images.instances, frame.boxes, self._table)
        file = Path(record["filename"]).name
        self._write(record["filename"], label_png(indices, PALETTE))
        self._write(f"depth/{channel}/{file}", depth_png(images.depth_m))
        self._write(f"instances/{channel}/{file}", id_png(images.instances))

    def _write(self, name: str, content: bytes) -> None:
        file = self._root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def point_records(sweep: LidarSweep, lidar: LidarSensor) -> np.ndarray:
    """``(N, 5)`` float32: x, y, z (metres), intensity (0 to 255), ring (0 is the lowest beam, as in nuScenes)."""
    points = transform_points(inverse(pose_ego_from_channel(lidar)), sweep.points_ego_m.astype(np.float64))
    ring_of_beam = np.argsort(np.argsort(lidar.elevations_rad, kind="stable"))
    return np.column_stack([points, sweep.intensity * 255.0, ring_of_beam[sweep.beams]]).astype("<f4")
