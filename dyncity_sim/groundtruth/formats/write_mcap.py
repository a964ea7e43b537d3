"""MCAP with Foxglove's schemas, protobuf-encoded: opens in Foxglove and in every reader of MCAP.

::

    /tf                      FrameTransforms   world from ego, ego from each sensor
    /occupancy               VoxelGrid         class, colour, instance and masks of each cell, in the ego frame
    /boxes                   SceneUpdate       a cube and its name for each actor, with its track id, in the ego frame
    /ego/path                SceneUpdate       the whole way as a line in the world frame, once
    /LIDAR/points            PointCloud        x, y, z, class, instance, ring, ... in the ego frame
    /CAMERA/calibration      CameraCalibration
    /CAMERA/labels           CompressedImage   PNG with the classes' palette
    /CAMERA/depth            RawImage          32FC1, metres
    /CAMERA/instances        RawImage          16UC1, track ids

Times of messages are those of the drive. Metadata records ``dyncity.drive``, ``dyncity.taxonomy``,
``dyncity.provenance``, ``dyncity.grid`` and ``dyncity.rig`` describe it.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame
from dyncity_sim.domain.sensors import SensorRig
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.extras import import_extra
from dyncity_sim.files import whole_file
from dyncity_sim.groundtruth.formats.describe import check_next, check_whole, described
from dyncity_sim.groundtruth.formats.writer import FrameWriter

NANOSECONDS = 1_000

LAST_TIME_US = 2**32 * 1_000_000 - 1
"""Messages hold seconds in 32 bits: to the year 2106."""

T = TypeVar("T")


@contextmanager
def open_mcap(file: Path, drive: LabelledDrive) -> Iterator[FrameWriter]:
    """Write a drive as one MCAP file. An OpenWriter.

    Raises:
        InvalidInputError: times before 0 or after LAST_TIME_US, which MCAP cannot hold, a sensor named as another frame
            of reference, other frames than the drive's, or the file is there.
        StorageError: the disk is full, or the place may not be written to.
        MissingExtraError: foxglove-sdk is not installed.
    """
    foxglove, mcap = (import_extra(n, "foxglove-sdk", "export", "Writing MCAP") for n in ("foxglove", "foxglove.mcap"))
    if file.exists():
        raise InvalidInputError("file", str(file), "a name that is free", "Remove it or name another.")
    if drive.times_us[0] < 0:
        raise InvalidInputError("drive.times_us", f"{drive.times_us[0]} us", "0 or later: MCAP has no earlier times")
    if drive.times_us[-1] > LAST_TIME_US:
        raise InvalidInputError(
            "drive.times_us",
            f"{drive.times_us[-1]} us",
            f"at most {LAST_TIME_US}: its messages hold seconds in 32 bits",
            "Times are microseconds.",
        )
    _check_names(drive.rig)
    with whole_file(file) as temporary, temporary.open("wb") as raw, ThreadPoolExecutor(1) as pool:
        stream, context = _Stream(raw), foxglove.Context()
        aside = _Aside(pool, stream)
        opening = partial(foxglove.open_mcap, stream, context=context, writer_options=mcap.MCAPWriteOptions())
        container = aside.run(opening)
        try:
            for name, content in metadata(drive).items():
                aside.run(partial(container.write_metadata, name, content))
            writer = _McapWriter(drive, context, aside)
            yield writer
            check_whole(drive, writer.frames)
        except BaseException:
            # The file is thrown away: why it cannot be closed, in a panic of the SDK too, is no news.
            with suppress(BaseException):
                aside.run(container.close)
            raise
        aside.run(container.close)


def metadata(drive: LabelledDrive) -> dict[str, dict[str, str]]:
    """Metadata records by name; values that are no texts are JSON."""
    about = described(drive)
    return {
        "dyncity.drive": {"name": drive.name, "frames": str(len(drive))},
        "dyncity.taxonomy": {"id": drive.taxonomy.id} | {str(k): name for k, name in enumerate(drive.taxonomy.names)},
        "dyncity.provenance": {key: _text(value) for key, value in about["provenance"].items()},
        "dyncity.grid": {key: _text(value) for key, value in about["grid"].items()},
        "dyncity.rig": {key: _text(value) for key, value in about["rig"].items()},
    }


def _check_names(rig: SensorRig) -> None:
    from dyncity_sim.groundtruth.formats.mcap_messages import EGO, WORLD

    for sensor in rig.sensors:
        if sensor.name in (WORLD, EGO):
            raise InvalidInputError(
                "sensor.name", repr(sensor.name), f"another than {WORLD} and {EGO}, MCAP's frames of reference"
            )


class _Stream:
    """A file that keeps its first error: the SDK logs errors of messages and goes on.

    After the error all goes on as if it were written, for the SDK panics, at length on stderr, where it is not.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._error: OSError | None = None
        self._at = self._end = 0

    def write(self, data: bytes | bytearray) -> int:
        try:
            if self._error is None:
                self._raw.write(data)
        except OSError as error:
            self._error = error
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._end)[whence]
        # Writes what is buffered, and may fail as a write does.
        try:
            if self._error is None:
                self._raw.seek(self._at)
        except OSError as error:
            self._error = error
        return self._at

    def flush(self) -> None:
        try:
            self._raw.flush()
        except OSError as error:
            self._error = self._error or error

    def check(self) -> None:
        if self._error is not None:
            raise self._error


class _Aside:
    """Calls of the SDK, one after another in a thread of their own.

    What Ctrl-C raises while the SDK writes would be lost in it as an error of the file; it is raised in the main thread
    alone, which only waits here.
    """

    def __init__(self, pool: Executor, stream: _Stream) -> None:
        self._pool, self._stream = pool, stream

    def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns. The file's error goes before the SDK's, which does not say why."""
        try:
            done = self._pool.submit(work).result()
        except BaseException:
            self._stream.check()
            raise
        self._stream.check()
        return done


class _McapWriter:
    def __init__(self, drive: LabelledDrive, context: Any, aside: _Aside) -> None:
        from foxglove import channels

        rig = drive.rig
        self._drive = drive
        self._aside = aside
        self.frames = 0
        self._transforms = channels.FrameTransformsChannel("/tf", context=context)
        self._occupancy = channels.VoxelGridChannel("/occupancy", context=context)
        self._boxes = channels.SceneUpdateChannel("/boxes", context=context)
        self._path = channels.SceneUpdateChannel("/ego/path", context=context)
        self._points = [channels.PointCloudChannel(f"/{lidar.name}/points", context=context) for lidar in rig.lidars]
        self._cameras = [
            (
                channels.CameraCalibrationChannel(f"/{camera.name}/calibration", context=context),
                channels.CompressedImageChannel(f"/{camera.name}/labels", context=context),
                channels.RawImageChannel(f"/{camera.name}/depth", context=context),
                channels.RawImageChannel(f"/{camera.name}/instances", context=context),
            )
            for camera in rig.cameras
        ]

    def add(self, frame: LabelledFrame) -> None:
        check_next(frame, self._drive, self.frames)
        self._aside.run(partial(self._log, frame))
        self.frames += 1

    def _log(self, frame: LabelledFrame) -> None:
        from dyncity_sim.groundtruth.formats import mcap_messages as build

        drive, taxonomy, time_us = self._drive, self._drive.taxonomy, frame.time_us
        at = time_us * NANOSECONDS
        if self.frames == 0:
            self._path.log(build.ego_path(drive.poses_world_from_ego, time_us), log_time=at)
        self._transforms.log(build.frame_transforms(frame.pose_world_from_ego, time_us, drive.rig), log_time=at)
        self._occupancy.log(build.voxel_grid(frame, drive.grid, taxonomy), log_time=at)
        self._boxes.log(build.scene_update(frame, taxonomy), log_time=at)
        for channel, sweep in zip(self._points, frame.sweeps, strict=True):
            channel.log(build.point_cloud(sweep, time_us, taxonomy), log_time=at)
        for channels, camera, images in zip(self._cameras, drive.rig.cameras, frame.images, strict=True):
            calibration, labels, depth, instances = channels
            calibration.log(build.camera_calibration(camera, time_us), log_time=at)
            labels.log(build.label_image(images, camera, time_us, taxonomy), log_time=at)
            depth.log(build.depth_image(images, camera, time_us), log_time=at)
            instances.log(build.instance_image(images, camera, time_us), log_time=at)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, allow_nan=False)
