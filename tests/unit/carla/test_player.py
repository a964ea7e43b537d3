"""Showing figures: which commands go out, given what the world answers."""

import numpy as np
import pytest
from dyncity_carla.assets import Library
from dyncity_carla.frames import CarlaTransform, mirrored_points, pose_from_carla
from dyncity_carla.player import PERSISTENCE_TICKS, Casting, Figure, Player, Unspawned, origins_of, told_of
from dyncity_carla.ports import Blueprint, BoundingBox, Destroy, Outcome, Place, Spawn
from dyncity_carla.sizes import VEHICLE_SIZES_M
from dyncity_carla.timeline import Timeline, between
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar, transform_points
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.errors import SimulatorError

BOX = BoundingBox((0.2, -0.1, 0.7), (4.6, 1.9, 1.5))
SIZE_M = (4.4, 1.8, 1.4)


class Ledger:
    """A world that is nothing but its accounts: actors by id, refusals as told."""

    def __init__(self):
        self.actors, self.batches, self.refuses = {}, [], lambda command: ""

    def batch(self, commands):
        self.batches.append(list(commands))
        return [self._do(command) for command in commands]

    def _do(self, command):
        refusal = self.refuses(command)
        if refusal:
            return Outcome(0, refusal)
        match command:
            case Spawn():
                number = 100 + len(self.batches) * 100 + len(self.actors)
                self.actors[number] = command.settle
                return Outcome(number)
            case Place(number, to):
                self.actors[number] = to
                return Outcome(number)
            case Destroy(number):
                del self.actors[number]
                return Outcome(number)


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def player(ledger):
    return Player(ledger, lambda actor_id: BOX, lambda what: f"test:{what}")


def figure(number, x=0.0, y=0.0, yaw=0.0, z=0.7, blueprint="vehicle.audi.tt"):
    return Figure(number, blueprint, SIZE_M, poses_from_planar(np.array([x, y, yaw]), z))


def middle_of_underside(transform, box=BOX):
    point = np.array([[box.centre_m[0], box.centre_m[1], box.bottom_m]])
    return transform_points(pose_from_carla(transform), mirrored_points(point))[0]


def test_what_comes_is_spawned_what_stays_is_moved_and_what_goes_is_destroyed(ledger, player):
    player.present([figure(1), figure(2, 10)])
    player.present([figure(2, 11), figure(3, 20)])
    kinds = [type(command) for command in ledger.batches[-1]]
    assert kinds == [Destroy, Place, Spawn]
    assert set(player.shown) == {2, 3}
    assert set(player.shown.values()) == set(ledger.actors)


def test_a_tick_is_one_batch_once_a_blueprint_is_known(ledger, player):
    player.present([figure(1)])
    before = len(ledger.batches)
    player.present([figure(1, 1.0), figure(2, 10.0)])
    assert len(ledger.batches) == before + 1


def test_what_stands_still_is_not_moved(ledger, player):
    player.present([figure(1)])
    player.present([figure(1)])
    player.present([figure(1)])
    assert ledger.batches[-1] == []


@given(x=st.floats(-500, 500), y=st.floats(-500, 500), yaw=st.floats(-3.1, 3.1), z=st.floats(-5, 50))
def test_a_box_stands_on_its_figure_s_ground_middle_on_middle(x, y, yaw, z):
    one = figure(1, x, y, yaw, z)
    (transform,) = origins_of([one], {one.blueprint_id: BOX})
    np.testing.assert_allclose(middle_of_underside(transform), [x, y, z - SIZE_M[2] / 2], atol=1e-6)
    turned = planar_from_poses(pose_from_carla(transform))[2] - yaw
    assert abs((turned + np.pi) % (2 * np.pi) - np.pi) < 1e-6


def test_the_first_actor_of_a_blueprint_is_put_right_before_the_tick(ledger, player):
    player.present([figure(1, 5.0)])
    (transform,) = ledger.actors.values()
    np.testing.assert_allclose(middle_of_underside(transform), [5.0, 0.0, 0.0], atol=1e-6)


def refusing_below(lift_m):
    return lambda c: "collision" if isinstance(c, Spawn) and c.at.z_m - c.settle.z_m < lift_m else ""


@pytest.mark.parametrize(("number", "taken_up_to_m"), [(1, 0.5), (-1, 0.5), (1, 60.0)])
def test_without_room_a_figure_is_lifted_and_put_down_at_once(ledger, player, number, taken_up_to_m):
    ledger.refuses = refusing_below(taken_up_to_m)
    player.present([figure(number)])
    assert set(player.shown) == {number}
    (transform,) = ledger.actors.values()
    np.testing.assert_allclose(middle_of_underside(transform), [0.0, 0.0, 0.0], atol=1e-6)
    assert player.unspawned == ()


def test_a_prop_is_not_put_into_a_house(ledger, player):
    ledger.refuses = refusing_below(60.0)
    player.present([figure(-1)])
    assert player.shown == {}
    assert [lost.id for lost in player.unspawned] == [-1]


def test_what_finds_no_room_is_listed_and_tried_again(ledger, player):
    ledger.refuses = lambda c: "collision" if isinstance(c, Spawn) else ""
    player.present([figure(1)])
    (lost,) = player.unspawned
    assert (lost.id, lost.attempts, lost.reason, lost.shown_later) == (1, 1, "collision", False)
    ledger.refuses = lambda c: ""
    player.present([figure(1)])
    assert set(player.shown) == {1}
    assert player.unspawned[0].shown_later


def test_what_found_no_room_is_told_by_blueprint_and_reason():
    lost = [Unspawned(-1, "static.prop.bin", 3, "collision"), Unspawned(-2, "static.prop.kiosk_01", 1, "collision")]
    lost += [Unspawned(-3, "static.prop.kiosk_01", 1, "collision"), Unspawned(4, "vehicle.audi.a2", 1, "refused")]
    assert told_of(lost) == [
        "2 x static.prop.kiosk_01: collision",
        "1 x static.prop.bin: collision",
        "1 x vehicle.audi.a2: refused",
    ]


def test_what_never_finds_room_costs_a_batch_now_and_then_only(ledger, player):
    ledger.refuses = lambda c: "collision" if isinstance(c, Spawn) else ""
    for _ in range(4 * PERSISTENCE_TICKS):
        player.present([figure(1)])
    tried = sum(any(isinstance(c, Spawn) and c.at == c.settle for c in batch) for batch in ledger.batches)
    assert PERSISTENCE_TICKS < tried < 1.5 * PERSISTENCE_TICKS


def test_an_actor_that_somebody_destroyed_comes_back(ledger, player):
    player.present([figure(1)])
    ledger.refuses = lambda c: "not found" if isinstance(c, Place) else ""
    player.present([figure(1, 1.0)])
    ledger.refuses = lambda c: ""
    player.present([figure(1, 2.0)])
    assert set(player.shown) == {1}


def test_what_stands_still_comes_back_when_somebody_destroyed_it(ledger, player):
    player.present([figure(-1)])
    player.look([])
    assert set(player.shown) == {-1}, "a tick from before the batch does not have it yet"
    player.look(list(ledger.actors))
    (first,) = ledger.actors
    ledger.actors.clear()
    player.look([])
    assert player.shown == {}
    player.present([figure(-1)])
    assert set(player.shown) == {-1}
    assert set(player.shown.values()) == set(ledger.actors) != {first}


def test_commands_besides_come_first_and_their_outcomes_back(ledger, player):
    outcomes = player.present([figure(1)], [Place(7, CarlaTransform(1, 2, 3))])
    assert outcomes == [Outcome(7)]
    assert ledger.batches[0][0] == Place(7, CarlaTransform(1, 2, 3))


def blueprints(*ids, **attributes):
    return [Blueprint(name, attributes) for name in ids]


def test_the_blueprint_nearest_in_size_is_chosen_whatever_the_order_of_the_library():
    library = blueprints(*VEHICLE_SIZES_M)
    for ordered in (library, library[::-1]):
        assert Library(ordered).nearest(ActorKind.CAR, (4.18, 1.99, 1.39)).id == "vehicle.audi.tt"
        assert Library(ordered).nearest(ActorKind.BUS, (10.3, 3.9, 4.2)).id == "vehicle.mitsubishi.fusorosa"
        assert Library(ordered).nearest(ActorKind.VAN, (5.9, 2.0, 2.5)).id == "vehicle.mercedes.sprinter"


def test_police_cars_stand_for_nobody_else():
    library = Library(blueprints("vehicle.dodge.charger_police", "vehicle.audi.a2"))
    assert library.nearest(ActorKind.CAR, VEHICLE_SIZES_M["vehicle.dodge.charger_police"]).id == "vehicle.audi.a2"


def test_children_are_small_walkers():
    library = Library(blueprints("walker.pedestrian.0001", "walker.pedestrian.0048"))
    assert library.nearest(ActorKind.PEDESTRIAN, (0.4, 0.4, 1.1)).id == "walker.pedestrian.0048"
    assert library.nearest(ActorKind.PEDESTRIAN, (0.6, 0.6, 1.8)).id == "walker.pedestrian.0001"


def test_two_wheelers_are_not_cars():
    library = Library([Blueprint("vehicle.audi.a2", {}), Blueprint("vehicle.new.scooter", {"base_type": "motorcycle"})])
    assert library.nearest(ActorKind.BICYCLE, (1.7, 0.7, 1.6)).id == "vehicle.new.scooter"


def test_a_library_without_walkers_says_so():
    with pytest.raises(SimulatorError, match="pedestrian"):
        Library(blueprints("vehicle.audi.a2")).nearest(ActorKind.PEDESTRIAN, (0.5, 0.5, 1.8))


def test_an_actor_keeps_the_blueprint_it_was_first_given():
    casting = Casting(Library(blueprints(*VEHICLE_SIZES_M)))
    first = casting.blueprint(1, ActorKind.CAR, (3.7, 1.8, 1.5))
    assert casting.blueprint(1, ActorKind.CAR, (5.4, 2.0, 1.4)) == first
    assert casting.blueprint(2, ActorKind.CAR, (5.4, 2.0, 1.4)) != first


def track(times_us, xs):
    poses = poses_from_planar(np.column_stack([xs, np.zeros(len(xs)), np.linspace(0, 1, len(xs))]), 0.7)
    return Track(1, ActorKind.CAR, SIZE_M, poses, np.array(times_us), np.zeros((len(xs), 3)))


def test_a_track_is_where_it_says_at_its_times_and_on_its_way_in_between():
    timeline = Timeline([track([0, 100_000, 400_000], [0.0, 1.0, 4.0])])
    assert [pose[0, 3] for _, pose in timeline.at(100_000)] == [1.0]
    ((_, pose),) = timeline.at(200_000)
    assert pose[0, 3] == pytest.approx(2.0)
    assert planar_from_poses(pose)[2] == pytest.approx(0.5 + 0.5 / 3)
    assert list(timeline.at(400_001)) == []
    assert list(timeline.at(-1)) == []


@given(st.floats(-3.1, 3.1), st.floats(-3.1, 3.1), st.floats(0, 1))
def test_a_turn_goes_the_short_way(first, second, share):
    ends = [poses_from_planar(np.array([0.0, 0.0, yaw])) for yaw in (first, second)]
    turned = planar_from_poses(between(*ends, share))[2] - first
    whole = (second - first + np.pi) % (2 * np.pi) - np.pi
    if abs(abs(whole) - np.pi) > 1e-3:
        assert abs(((turned - share * whole) + np.pi) % (2 * np.pi) - np.pi) < 1e-6
