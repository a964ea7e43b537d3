"""A short drive with every kind of ground truth in it: two LiDARs, a camera, boxes of all sorts, masks."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.scene.actors.find import find_tracks

FRAMES = 12

DEVKIT = "nuscenes-devkit==1.2.0"


@dataclass(frozen=True)
class Labelled:
    """A drive and all of its frames."""

    drive: LabelledDrive
    frames: tuple[LabelledFrame, ...]

    def write(self, open_writer, place, **options) -> Path:
        with open_writer(place, self.drive, **options) as writer:
            for frame in self.frames:
                writer.add(frame)
        return place


def turned(yaw_rad, x, y, z):
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw_rad), -np.sin(yaw_rad)], [np.sin(yaw_rad), np.cos(yaw_rad)]]
    pose[:3, 3] = x, y, z
    return pose


BEAMS = tuple(np.deg2rad(np.linspace(2, -20, 24)))
VIEW = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
RIG = SensorRig(
    "test rig",
    (
        LidarSensor(BEAMS, 360, "roof", turned(0.1, -0.3, 0.1, 0.2)),
        LidarSensor(BEAMS, 90, "lidar_left", turned(np.pi / 2, 1.0, 0.95, -0.6)),
    ),
    (CameraSensor(96, 54, (50.0, 52.0), (47.0, 26.0), "cam_front", turned(0.2, 1.2, 0.0, -0.3) @ VIEW),),
)


@pytest.fixture(scope="session")
def labelled(build_street, street_actor) -> Labelled:
    """Twelve frames along a bend: a car ahead, a parked one, a cyclist, a walker."""
    actors = [
        street_actor(9, -1.7, 0, 8),
        street_actor(14, 3.5, np.pi, 0),
        street_actor(5, -3.4, 0, 7.5, size_m=(1.7, 0.6, 1.75), rider_label=CARLASC.index("pedestrian")),
        street_actor(8, 6.5, 0.0, 1.3, size_m=(0.5, 0.5, 1.75), label=CARLASC.index("pedestrian")),
    ]
    occupancy = build_street(frames=FRAMES, actors=actors, curvature_per_m=1 / 60)
    provenance = Provenance("model-1", (3, 4), "(c) map makers", CARLASC.id)
    drive = labelled_drive(occupancy, find_tracks(occupancy), provenance, RIG, "street-1")
    known = np.random.default_rng(5)
    frames = []
    for frame in labelled_frames(occupancy, drive):
        seen_by_camera = known.random(frame.labels.shape) < 0.5
        frames.append(
            replace(
                frame,
                observed=known.random(frame.labels.shape) < 0.8,
                seen_by_lidar=known.random(frame.labels.shape) < 0.7,
                seen_by_camera=seen_by_camera,
                boxes=tuple(replace(b, visibility=v) for b, v in zip(frame.boxes, (0.1, 0.5, 0.7, 1.0), strict=False)),
            )
        )
    assert {b.kind for b in frames[0].boxes} >= {ActorKind.CAR, ActorKind.BICYCLE, ActorKind.PEDESTRIAN}
    return Labelled(drive, tuple(frames))


@pytest.fixture(scope="session")
def bare(build_street) -> Labelled:
    """Three frames of nothing at all, without cameras, known masks or actors."""
    occupancy = build_street(frames=3, empty=True)
    rig = SensorRig("bare", RIG.lidars[:1])
    drive = labelled_drive(occupancy, (), Provenance(None, (), "", CARLASC.id), rig, "bare")
    return Labelled(drive, tuple(labelled_frames(occupancy, drive)))


@pytest.fixture(scope="session")
def devkit(request) -> Path:
    """An interpreter that has nuscenes-devkit: it asks for an older NumPy than ours. Kept in pytest's cache."""
    name = f"{DEVKIT.replace('==', '-')}-{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path(request.config.cache.mkdir("environments")) / name
    python = folder / "bin" / "python"
    # Tests of several processes want it at once.
    with FileLock(folder.with_name(f"{name}.lock")):
        if not python.exists():
            made = folder.with_name(f"{name}.partial")
            for remains in (made, folder):
                shutil.rmtree(remains, ignore_errors=True)
            install_devkit(made)
            made.rename(folder)
    return python


def install_devkit(made: Path) -> None:
    """Makes the environment, or skips the test that asks for it when there is no way to."""
    pip = [made / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "1", DEVKIT]
    for command in ([sys.executable, "-m", "venv", made], pip):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"{DEVKIT} cannot be installed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
