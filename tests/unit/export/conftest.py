"""Three short drives through the synthetic street, of unlike lengths, actors and credits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from dyncity_sim.dataset.drives import ListedDrive, LoadedDrive
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC

VIEW = np.array([[0.0, 0.0, 1.0, 0.5], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


@dataclass
class OnDemand:
    """A drive in memory that is opened like one on a disk, and how often it was."""

    loaded: LoadedDrive
    opened: int = 0

    @property
    def listed(self) -> ListedDrive:
        return ListedDrive(self.loaded.name, len(self.loaded.occupancy), self.open)

    def open(self) -> LoadedDrive:
        self.opened += 1
        return self.loaded


@pytest.fixture(scope="session")
def many_rig() -> SensorRig:
    lidar = LidarSensor(tuple(np.deg2rad([0.0, -5.0, -12.0])), 180)
    return SensorRig("small", (lidar,), (CameraSensor(64, 32, (30.0, 30.0), (32.0, 16.0), "front", VIEW),))


@pytest.fixture(scope="session")
def many(build_street, street_actor) -> tuple[LoadedDrive, ...]:
    """The first and the last differ in a letter of their names, in length, and in credit, and in nothing else."""
    car = street_actor(8, -3, 0, 6)
    made = (
        ("town-1", 7, 0.0, [car, street_actor(12, 3, np.pi)], "(c) makers"),
        ("bend", 2, 1 / 60, [], "(c) makers"),
        ("town-2", 6, 0.0, [car, street_actor(12, 3, np.pi)], "(c) others"),
    )
    drives = []
    for name, frames, curvature, actors, credit in made:
        occupancy = build_street(frames=frames, actors=actors, curvature_per_m=curvature)
        provenance = Provenance(None, (), credit, CARLASC.id)
        drives.append(LoadedDrive(name, occupancy, None, None, provenance, (), frames, 10.0))
    return tuple(drives)


@pytest.fixture
def on_demand(many) -> list[OnDemand]:
    return [OnDemand(loaded) for loaded in many]


@pytest.fixture
def stop_at() -> Callable[[int, int, BaseException], Callable[[int, int], None]]:
    """A function that gives what raises an error once an export tells of a drive and a number of its frames."""

    def stop(drive: int, frame: int, error: BaseException) -> Callable[[int, int], None]:
        def told(number: int, frames: int) -> None:
            if (number, frames) == (drive, frame):
                raise error

        return told

    return stop
