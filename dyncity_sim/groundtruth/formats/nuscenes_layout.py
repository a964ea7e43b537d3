"""Frames of reference, times, tokens and the map of a drive as nuScenes has them.

nuScenes' ego frame is that of ``domain.base_frame``. Its global frame is our world moved so that the map's corner
is its origin: pictures of maps have no other. Its LiDAR frame is x right, y forward, z up; cameras have one frame in
both.
"""

import hashlib
import io
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64
from PIL import Image

from dyncity_sim.domain.frames import Pose, Poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import LabelledDrive
from dyncity_sim.domain.sensors import LidarSensor
from dyncity_sim.errors import InvalidInputError

SAMPLE_PERIOD_US = 500_000
"""Samples are annotated at 2 Hz; what lies between are sweeps."""

TIME_TOLERANCE_US = 1_000
"""A frame that is this little early is still the next sample."""

SLOW_STEP_US = 400_000
"""Of sources whose frames are usually this far apart, as those of 2 Hz, every frame is a sample."""

MAP_PIXELS_PER_M = 10
"""Resolution of nuScenes' maps; nuscenes-devkit knows no other."""

MAP_MARGIN_M = 80.0
"""Around the ego's way: nuscenes-devkit cuts 57 m to each side out of a map, and knows no borders."""

MAX_MAP_PIXELS = 2**30

LIDAR_FROM_SENSOR = np.array([[0.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""From our LiDAR's axes (x forward, y left) to nuScenes' (x right, y forward)."""


class Tokens:
    """Names of records: hashes of what they stand for, the same in every run.

    Args:
        drive: sets its records apart from those of other drives.
    """

    def __init__(self, drive: LabelledDrive) -> None:
        content = hashlib.sha256(repr((drive.name, drive.rig.name, drive.provenance)).encode())
        content.update(drive.times_us.tobytes() + drive.poses_world_from_ego.tobytes())
        self._drive = content.hexdigest()

    def of(self, table: str, *parts: object) -> str:
        """Token of a record of this drive."""
        return shared_token(table, self._drive, *parts)


def shared_token(table: str, *parts: object) -> str:
    """Token of a record that is the same in every drive: a category, an attribute, a sensor."""
    return hashlib.sha256("\n".join(str(part) for part in (table, *parts)).encode()).hexdigest()[:32]


def sample_frames(times_us: Int64[np.ndarray, " T"]) -> Int64[np.ndarray, " S"]:
    """Frames that are samples: the first, and the first of each further half second; all of a slow source."""
    if len(times_us) > 1 and np.median(np.diff(times_us)) >= SLOW_STEP_US:
        return np.arange(len(times_us))
    slots = (times_us - times_us[0] + TIME_TOLERANCE_US) // SAMPLE_PERIOD_US
    return np.nonzero(np.diff(slots, prepend=-1))[0]


def pose_ego_from_channel(lidar: LidarSensor) -> Pose:
    """Mount of a LiDAR's frame as nuScenes has it, x right and y forward, in our ego frame."""
    return lidar.pose_ego_from_sensor @ LIDAR_FROM_SENSOR.T


def rounded(values: object) -> list[float]:
    """Nine decimals: nanometres. Adding 0.0 keeps a negative zero out of the file."""
    return [round(float(v), 9) + 0.0 for v in np.asarray(values)]


class DriveMap:
    """Binary picture of what can be driven and walked on around a drive, and the global frame it defines.

    A pixel is 255 where its middle lies under a mapped cell of any frame. Pixel (column, row) has its middle at
    x = column / 10 m, y = (height - row) / 10 m of the global frame (nuscenes-devkit, ``MapMask``).

    Args:
        poses_world_from_ego: of all frames.
        grid: of all frames.

    Raises:
        InvalidInputError: the drive spans more than a picture can hold.
    """

    def __init__(self, poses_world_from_ego: Poses, grid: Grid) -> None:
        self._grid = grid
        reach_m = float(np.hypot(*np.maximum(np.abs(grid.lower_m[:2]), np.abs(grid.upper_m[:2])))) + 1.0
        margin_m = max(reach_m, MAP_MARGIN_M)
        places = poses_world_from_ego[:, :2, 3]
        lower = np.floor(places.min(axis=0) - margin_m)
        self.size_m = np.ceil(places.max(axis=0) + margin_m) - lower
        self.offset_m: Float64[np.ndarray, " 3"] = np.array([-lower[0], -lower[1], 0.0])
        self._reach_m = reach_m
        if float(np.prod(self.size_m)) * MAP_PIXELS_PER_M**2 > MAX_MAP_PIXELS:
            raise InvalidInputError(
                "drive",
                f"{self.size_m[0]:.0f} m x {self.size_m[1]:.0f} m",
                f"an extent that a map of {MAX_MAP_PIXELS} pixels of 0.1 m covers",
                "Export a long drive in parts.",
            )

    @cached_property
    def _pixels(self) -> np.ndarray:
        width, height = (int(size) * MAP_PIXELS_PER_M for size in self.size_m)
        return np.zeros((height, width), dtype=np.uint8)

    def pose_global_from(self, pose_world: Pose) -> Pose:
        """A pose of the world frame in nuScenes' global frame."""
        moved = pose_world.copy()
        moved[:3, 3] += self.offset_m
        return moved

    def add(self, mapped: Bool[np.ndarray, "X Y"], pose_world_from_ego: Pose) -> None:
        """Paint the columns of one frame that hold a mapped class."""
        rotation_ego_from_world = pose_world_from_ego[:3, :3].T
        x_m, y_m = self.pose_global_from(pose_world_from_ego)[:2, 3]
        height, width = self._pixels.shape
        columns = np.arange(*_span(x_m, self._reach_m, width))
        rows = np.arange(*_span(height / MAP_PIXELS_PER_M - y_m, self._reach_m, height))
        east_m = (columns / MAP_PIXELS_PER_M - x_m)[None, :]
        north_m = ((height - rows) / MAP_PIXELS_PER_M - y_m)[:, None]
        cells = []
        for axis in (0, 1):
            along = rotation_ego_from_world[axis]
            local_m = along[0] * east_m + along[1] * north_m
            cells.append(
                np.floor((local_m - self._grid.lower_m[axis]) / self._grid.voxel_size_m[axis]).astype(np.int32)
            )
        # A border of False takes what lies outside of the grid.
        bordered = np.pad(mapped, 1)
        ix, iy = (np.clip(c + 1, 0, n + 1) for c, n in zip(cells, self._grid.shape[:2], strict=True))
        hit = bordered.reshape(-1)[ix * bordered.shape[1] + iy]
        self._pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][hit] = 255

    def png(self) -> bytes:
        """The picture, 8 bits a pixel."""
        content = io.BytesIO()
        Image.fromarray(self._pixels).save(content, "PNG", compress_level=1)
        return content.getvalue()


def _span(middle_m: float, reach_m: float, limit: int) -> tuple[int, int]:
    first = int(np.floor((middle_m - reach_m) * MAP_PIXELS_PER_M))
    last = int(np.ceil((middle_m + reach_m) * MAP_PIXELS_PER_M)) + 1
    return max(first, 0), min(last, limit)
