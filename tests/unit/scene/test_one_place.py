"""Two things are never in one place."""

import numpy as np
import pytest

from dyncity_sim.scene.actors.find import track_of
from dyncity_sim.scene.actors.instances import Instance
from dyncity_sim.scene.actors.motion import first_state
from dyncity_sim.scene.actors.one_place import in_one_place
from dyncity_sim.scene.actors.tracking import Tracklet

CELL_M = 0.4
TIMES_US = np.arange(8) * 100_000


def piece(start_m, stop_m, vehicle=True, frames=range(8)):
    """A standing thing 2 m wide that fills the columns from ``start_m`` to ``stop_m`` along x in every frame."""
    x, y = np.meshgrid(np.arange(start_m, stop_m, CELL_M), np.arange(-0.8, 1.0, CELL_M), indexing="ij")
    columns = np.stack([x.ravel(), y.ravel()], axis=-1)
    seen = Instance(vehicle, False, columns, np.full(len(columns), 1.5), 0.0, None, np.array([-9.0, 3.0]), 0.0)
    return Tracklet(vehicle, [seen] * len(frames), list(frames), first_state(seen.centre_world_m, vehicle))


def tracks_of(*tracklets):
    return in_one_place(tracklets, lambda tracklet: track_of(1, tracklet, TIMES_US[tracklet.frames], CELL_M))


def test_pieces_that_lie_in_each_other_are_one_car():
    (track,) = tracks_of(piece(0.0, 2.8), piece(1.6, 4.4, frames=range(2, 8)), piece(2.8, 4.4, frames=range(4)))
    assert len(track) == 8
    assert track.size_m[0] == pytest.approx(4.4, abs=0.5)
    assert track.poses_world_from_actor[0, 0, 3] == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param((piece(4.4, 8.8),), id="cars that touch"),
        pytest.param((piece(3.2, 8.0),), id="more than one car is long"),
        pytest.param((piece(1.0, 2.0, vehicle=False),), id="a pedestrian"),
        pytest.param((piece(2.0, 4.4, frames=range(2)),), id="a moment"),
    ],
)
def test_others_stay_apart(others):
    assert len(tracks_of(piece(0.0, 4.4), *others)) == 1 + len(others)
