"""WebDataset shards: tar files of one sample a frame (github.com/webdataset/webdataset).

::

    FOLDER/
      dataset.json                        grid, classes, sensors, provenance, and the shards with their frames
      NNNNNN.tar                          samples DRIVE_FFFFFF, one a frame, in order; dots in the name become dashes
        .occupancy.npz                    labels, instances, flow (``occupancy_flow``), seen_by_lidar, and observed and
                                          seen_by_camera where known
        .lidar.NAME.npz                   points_ego_m, labels, instances, velocities_ego_mps, ... of each point
        .camera.NAME.labels.png           classes with their palette: a pixel's value is the label
        .camera.NAME.instances.png        16 bits: track id
        .camera.NAME.depth.npy            float32 metres along the camera's z; infinity where nothing is
        .boxes.json                       3D boxes in the ego frame
        .meta.json                        frame, time, pose

``webdataset.WebDataset(...).decode()`` gives arrays and JSON values; PNG stays bytes for a reader that keeps ids.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.extras import import_extra
from dyncity_sim.files import json_bytes, whole_folder
from dyncity_sim.groundtruth.flow import occupancy_flow
from dyncity_sim.groundtruth.formats.describe import check_next, check_whole, described, described_box, rows
from dyncity_sim.groundtruth.formats.join import joined, move, read_json
from dyncity_sim.groundtruth.formats.pictures import id_png, label_png
from dyncity_sim.groundtruth.formats.writer import FrameWriter

SHARD_BYTES = 256 * 2**20
"""A shard closes with the sample that reaches this size."""

FORMAT, FORMAT_VERSION = "dyncity-webdataset", 1

DATASET, SHARD = "dataset.json", "%06d.tar"


@contextmanager
def open_webdataset(folder: Path, drive: LabelledDrive, shard_bytes: int = SHARD_BYTES) -> Iterator[FrameWriter]:
    """Write a drive as shards. An OpenWriter.

    Raises:
        InvalidInputError: a shard size that is not positive, other frames than the drive's, or the folder is not free.
        StorageError: the disk is full, or the place may not be written to.
        MissingExtraError: webdataset is not installed.
    """
    webdataset = import_extra("webdataset", "webdataset", "export", "Writing WebDataset shards")
    if shard_bytes < 1:
        raise InvalidInputError("shard_bytes", shard_bytes, "a positive number of bytes")
    with whole_folder(folder) as temporary:
        writer = _WebdatasetWriter(drive)
        # A percent sign in the path is none of the pattern's, and USTAR cannot hold long names. Owner, mode and time
        # are fixed, so that the same frames give the same bytes.
        pattern = str(temporary.resolve()).replace("%", "%%") + f"/{SHARD}"
        options = {"user": "dyncity", "group": "dyncity", "mode": 0o644, "mtime": 0, "format": "PAX_FORMAT"}
        with webdataset.ShardWriter(
            pattern, maxsize=shard_bytes, post=writer.close_shard, verbose=0, encoder=False, **options
        ) as out:
            writer.write = out.write
            yield writer
        check_whole(drive, writer.frames)
        about = {"format": FORMAT, "version": FORMAT_VERSION, **described(drive), "shards": writer.shards}
        (temporary / DATASET).write_bytes(json_bytes(about))


def join_webdataset(parts: Sequence[Path], folder: Path) -> None:
    """Number the shards of all drives in a row; each is of one drive. A Join."""
    abouts = [read_json(part, DATASET) for part in parts]
    shards: list[dict[str, Any]] = []
    for part, about in zip(parts, abouts, strict=True):
        for shard in about.pop("shards"):
            name = SHARD % len(shards)
            move(part / shard["file"], folder / name)
            shards.append(shard | {"file": name, "drive": about["name"]})
    (folder / DATASET).write_bytes(json_bytes(joined(abouts) | {"shards": shards}))


class _WebdatasetWriter:
    def __init__(self, drive: LabelledDrive) -> None:
        self._drive = drive
        self._tracks = {track.id: track for track in drive.tracks}
        # A key ends at its first dot.
        self._key = drive.name.replace(".", "-")
        self.write: Callable[[dict[str, Any]], None]
        self.frames = 0
        self.shards: list[dict[str, Any]] = []

    def add(self, frame: LabelledFrame) -> None:
        check_next(frame, self._drive, self.frames)
        files = sample(frame, self._drive, self.frames, self._tracks)
        self.write({"__key__": f"{self._key}_{self.frames:06d}"} | files)
        self.frames += 1

    def close_shard(self, file: str) -> None:
        first = sum(shard["frames"] for shard in self.shards)
        self.shards.append({"file": Path(file).name, "first_frame": first, "frames": self.frames - first})


def sample(frame: LabelledFrame, drive: LabelledDrive, number: int, tracks: Mapping[int, Track]) -> dict[str, bytes]:
    """Content of a frame's files by their endings."""
    flow = occupancy_flow(frame, tracks, drive.grid, drive.taxonomy)
    known = {"observed": frame.observed, "seen_by_camera": frame.seen_by_camera}
    cells = {"labels": frame.labels, "instances": frame.instances, "flow": flow, "seen_by_lidar": frame.seen_by_lidar}
    cells |= {name: mask for name, mask in known.items() if mask is not None}
    meta = {
        "drive": drive.name,
        "frame": number,
        "time_us": frame.time_us,
        "pose_world_from_ego": rows(frame.pose_world_from_ego),
        "attribution": drive.provenance.attribution,
    }
    files = {
        "occupancy.npz": _npz(cells, np.savez_compressed),
        "boxes.json": json_bytes([described_box(box) for box in frame.boxes]),
        "meta.json": json_bytes(meta),
    }
    for lidar, sweep in zip(drive.rig.lidars, frame.sweeps, strict=True):
        # Points hardly shrink, and deflating them takes most of the time.
        files[f"lidar.{lidar.name}.npz"] = _npz(vars(sweep), np.savez)
    for camera, images in zip(drive.rig.cameras, frame.images, strict=True):
        files[f"camera.{camera.name}.labels.png"] = label_png(images.labels, drive.taxonomy.palette)
        files[f"camera.{camera.name}.instances.png"] = id_png(images.instances)
        files[f"camera.{camera.name}.depth.npy"] = _npy(images.depth_m)
    return files


def _npz(arrays: Mapping[str, np.ndarray], save: Callable[..., None]) -> bytes:
    content = io.BytesIO()
    save(content, allow_pickle=False, **arrays)
    return content.getvalue()


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
