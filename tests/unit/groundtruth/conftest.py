"""A drive through the synthetic street, labelled from a rig with a camera."""

from collections.abc import Callable

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.scene.actors.find import find_tracks

EGO_FROM_CAMERA = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])

Labelled = tuple[OccupancySequence, LabelledDrive, list[LabelledFrame]]


def mounted(x_m: float, yaw_rad: float) -> np.ndarray:
    return poses_from_planar(np.array([x_m, 0.1, yaw_rad]), -0.2)


@pytest.fixture(scope="session")
def rig() -> SensorRig:
    """A LiDAR that is neither at the ego's origin nor looks along its x, and a camera that looks ahead."""
    lidar = LidarSensor(tuple(np.deg2rad(np.linspace(2, -24, 24))), 900, "top", mounted(0.3, 0.5))
    camera = CameraSensor(
        320, 180, (200.0, 200.0), (160.0, 90.0), "front", mounted(0.5, 0.05) @ EGO_FROM_CAMERA, max_range_m=40.0
    )
    return SensorRig("test-rig", (lidar,), (camera,))


@pytest.fixture(scope="session")
def label() -> Callable[..., Labelled]:
    """A function that labels occupancy."""

    def labelled(occupancy: OccupancySequence, rig: SensorRig, name: str = "street") -> Labelled:
        provenance = Provenance("model-1", (3,), "(c) makers", CARLASC.id)
        drive = labelled_drive(occupancy, find_tracks(occupancy), provenance, rig, name)
        return occupancy, drive, list(labelled_frames(occupancy, drive))

    return labelled


@pytest.fixture(scope="session")
def street(build_street, street_actor, label, rig) -> Labelled:
    """Eight frames through a bend with two cars, a bicycle and a pedestrian."""
    actors = [
        street_actor(8, -1.7, 0, 9),
        street_actor(14, 3.5, np.pi, 0),
        street_actor(4, -3.4, 0, 8, size_m=(1.7, 0.6, 1.75), rider_label=4),
        street_actor(6, 6.5, 0.0, 1.3, size_m=(0.5, 0.5, 1.75), label=4),
    ]
    return label(build_street(frames=8, actors=actors, curvature_per_m=1 / 60), rig)


@pytest.fixture(scope="session")
def write() -> Callable[..., None]:
    """A function that writes labelled frames with an opened writer."""

    def written(opener, folder, labelled: Labelled, **options) -> None:
        with opener(folder, labelled[1], **options) as writer:
            for frame in labelled[2]:
                writer.add(frame)

    return written
