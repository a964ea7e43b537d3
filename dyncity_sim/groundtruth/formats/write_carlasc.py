"""CarlaSC's layout out of labelled frames; see ``carlasc_layout`` for the files and the mirror.

::

    FOLDER/<drive>/cartesian/...    one sequence
    FOLDER/<drive>/dyncity.json     grid, classes, sensors, provenance, class table

CarlaSC stores the classes of CARLA, of which the merged ones are unions: each merged class is stored as one of its
own, so that published tables merge it back to what it was. Counts of samples are not known: they are 1 in cells that
the source knows and 0 elsewhere. The points are those of the rig's first LiDAR, and of no other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dyncity_sim.domain.ground_truth import Box3D, LabelledDrive, LabelledFrame
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import whole_folder
from dyncity_sim.groundtruth.formats.carlasc_layout import CarlaScFiles, mirrored_box
from dyncity_sim.groundtruth.formats.describe import check_next, check_whole
from dyncity_sim.groundtruth.formats.metadata import check_merged, stored_grid, write_metadata
from dyncity_sim.groundtruth.formats.writer import FrameWriter
from dyncity_sim.groundtruth.resample import own_cells

RAW_OF_MERGED = {
    "free": "free",
    "building": "building",
    "barrier": "fence",
    "other": "other",
    "pedestrian": "pedestrian",
    "pole": "pole",
    "road": "road",
    "ground": "ground",
    "sidewalk": "sidewalk",
    "vegetation": "vegetation",
    "vehicle": "vehicle",
}
"""Raw class that each merged class is stored as; ``unused`` is a union of nothing, and nothing can stand for it."""


@contextmanager
def open_carlasc(folder: Path, drive: LabelledDrive) -> Iterator[FrameWriter]:
    """Write a drive as one sequence. An OpenWriter.

    Raises:
        InvalidInputError: labels of another taxonomy than CARLASC, or a cell of a class that CarlaSC does not have;
            other frames than the drive's, or the folder is not free.
        StorageError: the disk is full, or the place may not be written to.
    """
    check_merged(drive, "carlasc")
    with whole_folder(folder) as temporary:
        writer = _CarlaScWriter(temporary / drive.name, drive)
        yield writer
        writer.finish()


class _CarlaScWriter:
    def __init__(self, folder: Path, drive: LabelledDrive) -> None:
        self._folder, self._drive = folder, drive
        self._files = CarlaScFiles(folder / "cartesian", drive.grid, drive.provenance.attribution)
        self._table = np.array(
            [CARLASC_RAW.index(RAW_OF_MERGED.get(name, "free")) for name in drive.taxonomy.names], dtype=np.uint8
        )
        self._count = 0

    def add(self, frame: LabelledFrame) -> None:
        check_next(frame, self._drive, self._count)
        cells, sweep = own_cells(frame, self._drive.grid), frame.sweeps[0]
        self._files.add_points(sweep.points_ego_m, sweep.intensity, self._raw(sweep.labels))
        self._files.add(
            self._raw(cells.labels),
            cells.known.astype(np.float32),
            cells.instances,
            [_box(box) for box in frame.boxes],
            frame.pose_world_from_ego,
            frame.time_us,
        )
        self._count += 1

    def finish(self) -> None:
        check_whole(self._drive, self._count)
        self._files.finish()
        write_metadata(
            self._folder,
            self._drive,
            {
                "format": "carlasc",
                "class_table": RAW_OF_MERGED,
                "handedness": "left",
                "counts": "1 where the source knows the cell, else 0",
                **stored_grid(self._drive, None),
            },
        )

    def _raw(self, labels: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
        raw = self._table[labels]
        homeless = (raw == 0) & (labels > 0)
        if homeless.any():
            name = self._drive.taxonomy.names[int(labels[homeless][0])]
            raise InvalidInputError(
                f"frame {self._count} labels",
                f"{int(homeless.sum())} cells or points of {name!r}",
                f"classes that CarlaSC has: {', '.join(RAW_OF_MERGED)}",
                "Relabel these cells, or export to semantickitti, which marks them as unlabeled.",
            )
        return raw


def _box(box: Box3D) -> dict[str, object]:
    forward_mps = float(np.asarray(box.velocity_ego_mps) @ box.pose_ego_from_actor[:3, 0])
    return mirrored_box(box.track_id, box.kind, box.pose_ego_from_actor, box.size_m, forward_mps)
