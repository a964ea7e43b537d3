"""What is told of a drive: numbers of actors, and the file of what was shown."""

import pytest
from dyncity_carla.census import MOST_ACTORS, Census
from dyncity_carla.frames import CarlaTransform
from dyncity_carla.ports import ActorInfo, ActorSnapshot, Blueprint, BoundingBox
from dyncity_carla.shown_file import ShownFile

from dyncity_sim.errors import SimulatorError, StorageError


class Town:
    """A world of one car after the other, and its own snapshot."""

    is_silent, elapsed_s, ids = False, 1.0, ()

    def blueprints(self):
        return [Blueprint("vehicle.audi.tt", {})]

    def actors(self):
        return [ActorInfo(number, "vehicle.audi.tt", "") for number in self.ids]

    def bounding_box(self, actor_id):
        return BoundingBox((0.0, 0.0, 0.7), (4.2, 2.0, 1.4))

    def actor(self, actor_id):
        return ActorSnapshot(CarlaTransform(0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def test_no_more_actors_are_numbered_than_cells_can_tell_apart():
    town = Town()
    census = Census(town)
    town.ids = range(100, 100 + MOST_ACTORS)
    assert census.states(town, leave_out=0)[-1].id == MOST_ACTORS
    town.ids = (99,)
    with pytest.raises(SimulatorError, match=f"More than {MOST_ACTORS} actors"):
        census.states(town, leave_out=0)


def test_a_file_of_what_was_shown_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"shown\.jsonl cannot be written"):
        ShownFile(tmp_path / "file" / "shown.jsonl")
