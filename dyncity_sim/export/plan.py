"""What is exported, and what became of it."""

from dataclasses import dataclass
from pathlib import Path

from dyncity_sim.domain.sensors import SensorRig


@dataclass(frozen=True)
class ExportPlan:
    """What is exported.

    Attributes:
        formats: names, see ``dyncity_sim.groundtruth.formats.table``.
        resample: formats that are published with a grid of their own take it, by nearest neighbour.
        rig: the sensors, as ``read_rig`` gives them.
        seed: of all that is random in what sensors measure.
    """

    formats: tuple[str, ...]
    rig: SensorRig
    resample: bool = False
    seed: int = 0


@dataclass(frozen=True)
class ExportedFormat:
    """What became of one format.

    Attributes:
        name: of the format.
        place: its folder or file.
        files: how many.
        size_bytes: of all of them.
        seconds: spent on writing them.
    """

    name: str
    place: Path
    files: int
    size_bytes: int
    seconds: float


@dataclass(frozen=True)
class ExportedDrive:
    """What is in one drive.

    Attributes:
        name: of the drive.
        frames: how many.
        points: LiDAR points of all frames.
        boxes: boxes of all frames.
    """

    name: str
    frames: int
    points: int
    boxes: int


@dataclass(frozen=True)
class Report:
    """What became of an export.

    Attributes:
        formats: each format, in the order asked for.
        drives: each drive that is whole, in the order asked for.
        seconds: spent on reading, tracking and labelling, by name.
        failure: why there are no further drives; None where all are there.
    """

    formats: tuple[ExportedFormat, ...]
    drives: tuple[ExportedDrive, ...]
    seconds: dict[str, float]
    failure: BaseException | None = None

    @property
    def frames(self) -> int:
        """Of all drives."""
        return sum(drive.frames for drive in self.drives)

    @property
    def points(self) -> int:
        """LiDAR points of all drives."""
        return sum(drive.points for drive in self.drives)

    @property
    def boxes(self) -> int:
        """Boxes of all drives."""
        return sum(drive.boxes for drive in self.drives)
