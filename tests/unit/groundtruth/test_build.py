"""What a drive must be to be labelled."""

import re
from dataclasses import replace

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.sensors import Dropout, LidarSensor, Scan, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.formats.describe import described

PROVENANCE = Provenance(None, (), "", CARLASC.id)


def unseen_car(number: int) -> Track:
    """A car over the grid of the first frame that no cell belongs to."""
    pose = poses_from_planar(np.array([[10.0, 0.0, 0.0]]))
    return Track(number, ActorKind.CAR, (4.0, 2.0, 1.5), pose, np.array([0]), np.zeros((1, 3)))


def test_ids_fit_16_bits_also_of_actors_that_no_cell_belongs_to(build_street, rig):
    street = build_street(frames=1)
    drive = labelled_drive(street, (unseen_car(65_535),), PROVENANCE, rig)
    (frame,) = labelled_frames(street, drive)
    assert [(box.track_id, box.lidar_points) for box in frame.boxes] == [(65_535, 0)]
    with pytest.raises(InvalidInputError, match=r"id 65536.*at most 65535"):
        labelled_drive(street, (unseen_car(65_536),), PROVENANCE, rig)


def test_a_negative_seed_is_refused(build_street, rig):
    street = build_street(frames=1)
    with pytest.raises(InvalidInputError, match=r"seed: got -1, expected 0 or more"):
        labelled_drive(street, (), PROVENANCE, rig, seed=-1)


def crossing(number: int, x_m: float) -> Track:
    """A bus that drives along x, at one time."""
    pose = poses_from_planar(np.array([[x_m, 0.0, 0.0]]))
    return Track(number, ActorKind.BUS, (10.0, 2.4, 3.0), pose, np.array([0]), np.array([[8.0, 0.0, 0.0]]))


def test_actors_that_come_and_leave_own_their_cells_while_their_centre_is_beyond_the_grid(build_street, rig):
    street = build_street(frames=1, empty=True)
    labels = street.labels.copy()
    labels[0, -4:, 61:67, 2:6] = CARLASC.index("vehicle")
    street = replace(street, labels=labels)
    half_in, outside, near = crossing(3, 29.0), crossing(4, -40.0), crossing(5, -30.0)
    (frame,) = labelled_frames(street, labelled_drive(street, (half_in, outside, near), PROVENANCE, rig))
    (box,) = frame.boxes
    assert (box.track_id, box.kind) == (3, ActorKind.BUS)
    assert (frame.instances == 3).sum() == 4 * 6 * 4
    assert box.lidar_points == (frame.sweeps[0].instances == 3).sum() > 10
    np.testing.assert_allclose(frame.sweeps[0].velocities_ego_mps[:, 0], 8.0)


@pytest.mark.parametrize("name", ["", "..", "Train/Town01", "two\nlines", "not \udcff UTF-8"])
def test_a_name_that_not_every_format_can_hold_is_refused(build_street, rig, name):
    with pytest.raises(
        InvalidInputError, match=rf"drive\.name: got {re.escape(repr(name))}, expected a name of a file"
    ):
        labelled_drive(build_street(frames=1), (), PROVENANCE, rig, name)


def test_what_is_said_of_a_lidar_is_all_that_it_was_simulated_with(build_street):
    lidar = LidarSensor(
        (0.1, -0.2), 90, scan=Scan.ROLLING, period_s=0.05, falloff_m=20.0, range_noise_m=0.02, dropout=Dropout(0.1)
    )
    drive = labelled_drive(build_street(frames=1), (), PROVENANCE, SensorRig("noisy", (lidar,)), seed=5)
    assert described(drive)["rig"]["seed"] == 5
    said = described(drive)["rig"]["lidars"][0]
    assert (said["scan"], said["period_s"], said["falloff_m"], said["range_noise_m"]) == ("rolling", 0.05, 20.0, 0.02)
    assert said["dropout"] == {"always": 0.1, "at_max_range": 0.0, "at_grazing": 0.0, "at_dark": 0.0}
    assert said["reflectivity"]["vehicle"] == lidar.reflectivity["vehicle"]
    assert len(said) == len(vars(lidar))
