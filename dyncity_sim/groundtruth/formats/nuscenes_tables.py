"""Records of nuScenes' tables (nuscenes-devkit, ``docs/schema_nuscenes.md``)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from dyncity_sim.domain.base_frame import pose_ego_from_base
from dyncity_sim.domain.frames import Pose, inverse
from dyncity_sim.domain.ground_truth import Box3D, LabelledDrive, LabelledFrame
from dyncity_sim.domain.sensors import LidarSensor
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.boxes import MOVING_SPEED_MPS, TWO_WHEELERS
from dyncity_sim.groundtruth.formats.describe import quaternion_wxyz
from dyncity_sim.groundtruth.formats.nuscenes_classes import (
    ATTRIBUTES,
    CATEGORIES,
    CATEGORY_OF_KIND,
    VISIBILITY_LEVELS,
    attribute,
    visibility_token,
)
from dyncity_sim.groundtruth.formats.nuscenes_layout import (
    DriveMap,
    Tokens,
    pose_ego_from_channel,
    rounded,
    sample_frames,
    shared_token,
)
from dyncity_sim.groundtruth.formats.pictures import opencv_intrinsics

VERSION = "v1.0-trainval"
"""Folder of the tables: what nuScenes' own evaluations accept scenes with annotations in."""

LIDARSEG = "lidarseg"

SPLIT = "all"

Record = dict[str, Any]


class Tables:
    """All tables but those of annotations. Records come frame by frame; what links them is known beforehand."""

    def __init__(self, drive: LabelledDrive, channels: dict[str, str], drive_map: DriveMap) -> None:
        self.tokens = Tokens(drive)
        self._drive = drive
        self._channels = channels
        self._map = drive_map
        self._pose_ego_from_base = pose_ego_from_base(drive.grid)
        self._date_captured = date_captured(int(drive.times_us[0]))
        self._samples = sample_frames(drive.times_us)
        # A sweep belongs to the sample that follows it, and those after the last sample to the last.
        after = np.searchsorted(self._samples, np.arange(len(drive)))
        self._sample_of_frame = np.minimum(after, len(self._samples) - 1)
        self._sample_data: list[Record] = []
        self._ego_pose: list[Record] = []
        self._lidarseg: list[Record] = []
        self.map_file = f"maps/{self.tokens.of('map')}.png"

    def sample_token(self, number: int) -> str:
        """Sample that frame ``number`` belongs to."""
        return self.tokens.of("sample", self._sample_of_frame[number])

    def add_ego_pose(self, number: int) -> None:
        """Where the ego is in a frame; one record for all of its sensors."""
        pose = self._map.pose_global_from(self._drive.poses_world_from_ego[number] @ self._pose_ego_from_base)
        self._ego_pose.append(
            {"token": self.tokens.of("ego_pose", number), "timestamp": self._time(number)} | _placed(pose)
        )

    def add_sample_data(
        self, number: int, channel: str, ending: str, fileformat: str, width: int = 0, height: int = 0
    ) -> Record:
        """What a channel measured in a frame."""
        is_sample = number in self._samples
        folder = "samples" if is_sample else "sweeps"
        name = f"{self._drive.name}__{channel}__{self._time(number)}.{ending}"
        last = len(self._drive) - 1
        record = {
            "token": self._data_token(channel, number),
            "sample_token": self.sample_token(number),
            "ego_pose_token": self.tokens.of("ego_pose", number),
            "calibrated_sensor_token": self.tokens.of("calibrated_sensor", channel),
            "timestamp": self._time(number),
            "fileformat": fileformat,
            "is_key_frame": is_sample,
            "width": width,
            "height": height,
            "filename": f"{folder}/{channel}/{name}",
            "prev": self._data_token(channel, number - 1) if number else "",
            "next": self._data_token(channel, number + 1) if number < last else "",
        }
        self._sample_data.append(record)
        return record

    def add_lidarseg(self, sample_data_token: str) -> str:
        """File of the labels of a sweep's points."""
        filename = f"{LIDARSEG}/{VERSION}/{sample_data_token}_lidarseg.bin"
        self._lidarseg.append(
            {"token": sample_data_token, "sample_data_token": sample_data_token, "filename": filename}
        )
        return filename

    def whole(self) -> dict[str, Any]:
        """Every table by its name."""
        samples, of = len(self._samples), self.tokens.of
        scene = {
            "token": of("scene"),
            "log_token": of("log"),
            "nbr_samples": samples,
            "first_sample_token": of("sample", 0),
            "last_sample_token": of("sample", samples - 1),
            "name": self._drive.name,
            "description": self._description(),
        }
        log = {
            "token": of("log"),
            "logfile": self._drive.name,
            "vehicle": self._drive.rig.name,
            "date_captured": self._date_captured,
            "location": self._drive.name,
        }
        drive_map = {
            "token": of("map"),
            "log_tokens": [of("log")],
            "category": "semantic_prior",
            "filename": self.map_file,
        }
        return _constant_tables() | {
            "sensor": [
                {"token": shared_token("sensor", channel), "channel": channel, "modality": modality}
                for channel, modality in self._modalities()
            ],
            "calibrated_sensor": self._calibrations(),
            "ego_pose": self._ego_pose,
            "log": [log],
            "scene": [scene],
            "sample": [self._sample(number) for number in range(samples)],
            "sample_data": self._sample_data,
            "map": [drive_map],
            LIDARSEG: self._lidarseg,
            "splits": {SPLIT: [self._drive.name]},
        }

    def _sample(self, number: int) -> Record:
        last = len(self._samples) - 1
        return {
            "token": self.tokens.of("sample", number),
            "timestamp": self._time(int(self._samples[number])),
            "prev": self.tokens.of("sample", number - 1) if number else "",
            "next": self.tokens.of("sample", number + 1) if number < last else "",
            "scene_token": self.tokens.of("scene"),
        }

    def _calibrations(self) -> list[Record]:
        records = []
        for sensor in self._drive.rig.sensors:
            channel = self._channels[sensor.name]
            if isinstance(sensor, LidarSensor):
                pose, intrinsic = pose_ego_from_channel(sensor), []
            else:
                pose, intrinsic = sensor.pose_ego_from_sensor, [rounded(row) for row in opencv_intrinsics(sensor)]
            records.append(
                {
                    "token": self.tokens.of("calibrated_sensor", channel),
                    "sensor_token": shared_token("sensor", channel),
                    "camera_intrinsic": intrinsic,
                }
                | _placed(inverse(self._pose_ego_from_base) @ pose)
            )
        return records

    def _modalities(self) -> list[tuple[str, str]]:
        lidars = [(self._channels[lidar.name], "lidar") for lidar in self._drive.rig.lidars]
        return lidars + [(self._channels[camera.name], "camera") for camera in self._drive.rig.cameras]

    def _description(self) -> str:
        made_by = self._drive.provenance.model_id
        made = f"Generated by {made_by}." if made_by else "Recorded."
        return f"{made} {self._drive.provenance.attribution}".strip()

    def _data_token(self, channel: str, number: int) -> str:
        return self.tokens.of("sample_data", channel, number)

    def _time(self, number: int) -> int:
        return int(self._drive.times_us[number])


def joined_table(tables: Sequence[Any]) -> Any:
    """The same table of several drives as one: records in their order, each token once; splits with all scenes."""
    if isinstance(tables[0], dict):
        return {split: [scene for table in tables for scene in table[split]] for split in tables[0]}
    return list({record["token"]: record for table in tables for record in table}.values())


def date_captured(time_us: int) -> str:
    """Day of a time since 1970 in UTC, as YYYY-MM-DD.

    Raises:
        InvalidInputError: it is of no year from 1 to 9999, which calendars have.
    """
    try:
        return datetime.fromtimestamp(time_us // 1_000_000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInputError(
            "drive.times_us", f"{time_us} us", "a time in the years 1 to 9999", "Times are microseconds since 1970."
        ) from error


class Annotations:
    """The tables sample_annotation and instance, grown sample by sample."""

    def __init__(self, drive: LabelledDrive, tables: Tables, drive_map: DriveMap) -> None:
        self._tables = tables
        self._map = drive_map
        self._taxonomy = drive.taxonomy
        speeds = {track.id: np.linalg.norm(track.velocities_world_mps, axis=1).max() for track in drive.tracks}
        self._moving = frozenset(track for track, speed in speeds.items() if speed >= MOVING_SPEED_MPS)
        self._annotations: list[Record] = []
        self._instances: dict[int, Record] = {}
        self._last: dict[int, Record] = {}

    def add(self, number: int, frame: LabelledFrame) -> None:
        """Boxes of the sample that frame ``number`` is."""
        riders = frozenset(frame.instances[frame.labels == self._taxonomy.index("pedestrian")].tolist())
        for box in frame.boxes:
            self._add(number, frame, box, box.kind in TWO_WHEELERS and box.track_id in riders)

    def whole(self) -> dict[str, list[Record]]:
        """Both tables by name."""
        return {"sample_annotation": self._annotations, "instance": list(self._instances.values())}

    def _add(self, number: int, frame: LabelledFrame, box: Box3D, ridden: bool) -> None:
        tokens, track = self._tables.tokens, box.track_id
        length, width, height = box.size_m
        speed_mps = float(np.linalg.norm(box.velocity_ego_mps))
        named = attribute(box.kind, speed_mps, track in self._moving, ridden)
        before = self._last.get(track)
        token = tokens.of("sample_annotation", track, number)
        record: Record = {
            "token": token,
            "sample_token": self._tables.sample_token(number),
            "instance_token": tokens.of("instance", track),
            "visibility_token": visibility_token(box.visibility),
            "attribute_tokens": [shared_token("attribute", named)],
            "size": rounded([width, length, height]),
            "num_lidar_pts": box.lidar_points,
            "num_radar_pts": 0,
            "prev": before["token"] if before else "",
            "next": "",
        } | _placed(self._map.pose_global_from(frame.pose_world_from_ego @ box.pose_ego_from_actor))
        if before:
            before["next"] = token
        self._last[track] = record
        self._annotations.append(record)
        instance = self._instances.setdefault(track, self._instance(box, token))
        instance["nbr_annotations"] += 1
        instance["last_annotation_token"] = token

    def _instance(self, box: Box3D, first: str) -> Record:
        return {
            "token": self._tables.tokens.of("instance", box.track_id),
            "category_token": shared_token("category", CATEGORY_OF_KIND[box.kind]),
            "nbr_annotations": 0,
            "first_annotation_token": first,
            "last_annotation_token": first,
        }


def _constant_tables() -> dict[str, list[Record]]:
    return {
        "category": [
            {"token": shared_token("category", name), "name": name, "description": "", "index": index}
            for index, (name, _) in enumerate(CATEGORIES)
        ],
        "attribute": [
            {"token": shared_token("attribute", name), "name": name, "description": description}
            for name, description in ATTRIBUTES.items()
        ],
        "visibility": [
            {"token": token, "level": level, "description": f"visible share up to {highest:.0%}"}
            for token, (level, highest) in VISIBILITY_LEVELS.items()
        ],
    }


def _placed(pose: Pose) -> Record:
    return {"translation": rounded(pose[:3, 3]), "rotation": rounded(quaternion_wxyz(pose))}
