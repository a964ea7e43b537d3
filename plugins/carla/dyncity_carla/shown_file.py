"""What a drive showed at each frame, as JSON lines for those who check it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from dyncity_carla.player import Figure
from dyncity_sim.domain.frames import Pose, planar_from_poses
from dyncity_sim.errors import InvalidInputError, StorageError


class ShownFile:
    """Takes one line for each frame, right-handed; use as a context manager.

    Args:
        file: made; its folder, too.

    Raises:
        InvalidInputError: something has that name already.
        StorageError: it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with self._storing():
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._stream = file.open("x", encoding="utf-8")
            except FileExistsError as error:
                raise InvalidInputError(
                    "--shown", f"{file}, which exists", "a name that is free", "Remove it or name another."
                ) from error

    def tell(
        self,
        tick: int,
        time_us: int,
        ego: tuple[int, Pose],
        figures: Sequence[Figure],
        actors: Mapping[int, int],
    ) -> None:
        """Write what one frame shows, and where the boxes' middles are.

        Args:
            tick: the server's number of it.
            time_us: the drive's time.
            ego: the server's actor of the ego, and the pose of its frame.
            figures: what was to be shown.
            actors: the server's actor of each figure that is in the world.
        """
        line = {
            "frame": tick,
            "time_us": time_us,
            "ego": {"actor": ego[0], "xyz_m": _rounded(ego[1]), "yaw_deg": _yaw_deg(ego[1])},
            "figures": [
                {
                    "track": figure.id,
                    "actor": actors[figure.id],
                    "blueprint": figure.blueprint_id,
                    "size_m": [round(edge, 4) for edge in figure.size_m],
                    "xyz_m": _rounded(figure.pose_world_from_actor),
                    "yaw_deg": _yaw_deg(figure.pose_world_from_actor),
                }
                for figure in figures
                if figure.id in actors
            ],
            "unspawned": [figure.id for figure in figures if figure.id not in actors],
        }
        with self._storing():
            self._stream.write(json.dumps(line) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._storing():
            self._stream.close()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self._file} cannot be written: {error.strerror or error}") from error


def _rounded(pose: Pose) -> list[float]:
    return [round(float(value), 6) for value in pose[:3, 3]]


def _yaw_deg(pose: Pose) -> float:
    """Counter-clockwise from the world's x axis."""
    return round(float(np.rad2deg(planar_from_poses(pose)[2])), 5)
