from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("carla")

from dyncity_carla.loopback.geometry import overlapping
from dyncity_carla.loopback.roads import Roads
from dyncity_carla.loopback.world import COLLISION_AT_SPAWN, RefusedError, World, WorldOptions

from dyncity_sim.errors import InvalidInputError, MapError

CAR = "vehicle.tesla.model3"
ON_THE_ROAD = [50.0, 1.75, 0.3, 0.0, 0.0, 0.0]
FULL_THROTTLE = [1.0, 0.0, 0.0, False, False, False, 0]


def run(world: World, ticks: int, delta_s: float = 0.1) -> None:
    for _ in range(ticks):
        world.tick(delta_s)


@pytest.mark.parametrize("opendrive", ["", "no xml", "<OpenDRIVE></OpenDRIVE>"])
def test_a_map_without_a_lane_is_refused(opendrive: str):
    with pytest.raises(MapError, match="expected an OpenDRIVE document"):
        Roads("empty", opendrive)


@pytest.mark.parametrize("options", [{"seed": -1}, {"traffic": -1}, {"scenery": -0.5}, {"scenery": float("nan")}])
def test_an_option_out_of_range_is_refused(options: dict[str, float]):
    with pytest.raises(InvalidInputError, match="at least 0"):
        WorldOptions(**options)  # type: ignore[arg-type]


def test_two_cars_do_not_stand_in_one_place(build_world, spawn):
    world = build_world()
    spawn(world, CAR, ON_THE_ROAD)
    with pytest.raises(RefusedError, match=COLLISION_AT_SPAWN):
        spawn(world, "vehicle.audi.tt", [52.0, 1.75, 0.3, 0.0, 90.0, 0.0])
    spawn(world, "vehicle.audi.tt", [58.0, 1.75, 0.3, 0.0, 0.0, 0.0])


def test_a_car_above_another_has_room(build_world, spawn):
    world = build_world()
    spawn(world, CAR, ON_THE_ROAD)
    spawn(world, CAR, [50.0, 1.75, 3.0, 0.0, 0.0, 0.0])


def test_what_does_not_collide_leaves_room(build_world, spawn):
    world = build_world()
    spawn(world, CAR, ON_THE_ROAD).collides = False
    spawn(world, CAR, ON_THE_ROAD)


def test_a_building_leaves_no_room_until_it_is_switched_off(build_world, spawn):
    world = build_world(scenery=1.0)
    building = int(np.flatnonzero(world.scenery.tags == 3)[0])
    place = [*world.scenery.centres[building].tolist(), 0.0, 0.0, 0.0]
    with pytest.raises(RefusedError, match=COLLISION_AT_SPAWN):
        spawn(world, CAR, place)
    world.scenery.switch([world.scenery.FIRST_ID + building], False)
    spawn(world, CAR, place)


@pytest.mark.parametrize(
    ("description", "wrong"),
    [
        ([1, "vehicle.no.such", []], "invalid actor description: 1 vehicle.no.such"),
        ([9999, CAR, []], "invalid actor description: 9999"),
    ],
)
def test_a_description_of_no_blueprint_is_refused(build_world, description: list[object], wrong: str):
    with pytest.raises(RefusedError, match=wrong):
        build_world().spawn(description, np.zeros(6))


def test_an_attribute_that_a_blueprint_lacks_is_refused(build_world):
    world = build_world()
    uid = world.library.find(CAR).uid
    with pytest.raises(RefusedError, match="has no attribute wings"):
        world.spawn([uid, CAR, [["wings", 4, "two"]]], np.zeros(6))


def test_an_attached_sensor_moves_with_its_parent(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, ON_THE_ROAD)
    sensor = spawn(world, "sensor.lidar.ray_cast_semantic", [1.0, 0.5, 2.0, 0.0, 0.0, 0.0], car.id)
    world.place(car, np.array([100.0, 1.75, 0.0, 0.0, 90.0, 0.0]))
    car.simulates_physics = False
    run(world, 1)
    assert world.actors.transforms[sensor.row] == pytest.approx([99.5, 2.75, 2.0, 0.0, 90.0, 0.0])


def test_a_sensor_stays_when_its_parent_is_destroyed(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, ON_THE_ROAD)
    sensor = spawn(world, "sensor.other.imu", [0.0] * 6, car.id)
    before = world.actors.transforms[sensor.row].copy()
    world.destroy(car.id)
    run(world, 2)
    assert world.actors.transforms[sensor.row] == pytest.approx(before)


def test_the_spectator_cannot_be_destroyed_and_the_unknown_not_either(build_world):
    world = build_world()
    with pytest.raises(RefusedError, match="spectator"):
        world.destroy(world.spectator.id)
    with pytest.raises(RefusedError, match="Actor Id: 4711"):
        world.destroy(4711)


def test_throttle_moves_a_car_ahead_and_brakes_stop_it(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, ON_THE_ROAD)
    car.control = list(FULL_THROTTLE)
    run(world, 30)
    x, y, *_, yaw, _ = world.actors.transforms[car.row]
    assert x > 60
    assert (y, yaw) == pytest.approx((1.75, 0.0))
    assert world.actors.velocities[car.row, 0] == pytest.approx(car.speed_mps)
    car.control = [0.0, 0.0, 1.0, False, False, False, 0]
    run(world, 30)
    assert car.speed_mps == 0


def test_positive_steer_turns_right(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, ON_THE_ROAD)
    car.control = [1.0, 0.3, 0.0, False, False, False, 0]
    run(world, 15)
    _, y, *_, yaw, _ = world.actors.transforms[car.row]
    assert y > 1.75
    assert yaw > 0


def test_reverse_drives_backwards(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, ON_THE_ROAD)
    car.control = [1.0, 0.0, 0.0, False, True, False, -1]
    run(world, 20)
    assert world.actors.transforms[car.row, 0] < 50


def test_what_has_no_physics_stands_where_it_was_put(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, [50.0, 1.75, 7.0, 0.0, 0.0, 0.0])
    car.simulates_physics = False
    car.control = list(FULL_THROTTLE)
    run(world, 10)
    assert world.actors.transforms[car.row] == pytest.approx([50.0, 1.75, 7.0, 0.0, 0.0, 0.0])
    assert not world.actors.velocities[car.row].any()


def test_what_has_physics_falls_to_the_ground_and_stays_there(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, [50.0, 1.75, 2.0, 0.0, 0.0, 0.0])
    walker = spawn(world, "walker.pedestrian.0001", [50.0, 6.0, 3.0, 0.0, 0.0, 0.0])
    run(world, 30)
    assert world.actors.transforms[car.row, 2] == pytest.approx(0.0)
    assert world.actors.transforms[walker.row, 2] == pytest.approx(0.93)


def test_a_walker_walks_where_it_is_sent(build_world, spawn):
    world = build_world()
    walker = spawn(world, "walker.pedestrian.0001", [50.0, 6.0, 0.93, 0.0, 0.0, 0.0])
    walker.walk = [[0.0, 2.0, 0.0], 1.5, False]
    run(world, 20)
    assert world.actors.transforms[walker.row, :2] == pytest.approx([50.0, 9.0])
    assert world.actors.transforms[walker.row, 4] == pytest.approx(90.0)
    assert world.actors.velocities[walker.row] == pytest.approx([0.0, 1.5, 0.0])


def test_a_new_episode_has_no_actors_and_starts_at_zero_but_frames_go_on(build_world, spawn):
    world = build_world(traffic=2)
    spawn(world, "static.prop.box01", [0.0, 20.0, 0.0, 0.0, 0.0, 0.0])
    run(world, 5)
    episode = world.episode_id
    world.load(world.roads)
    assert world.episode_id != episode
    assert world.moment.frame == 5
    assert world.moment.elapsed_s == 0
    assert sum(not actor.own_traffic for actor in world.actors) == 1


def test_traffic_stays_on_its_lane_keeps_apart_and_gets_on(build_world: Callable[..., World]):
    world = build_world(traffic=16)
    cars = [actor for actor in world.actors if actor.own_traffic]
    start = world.actors.transforms[[car.row for car in cars], :3].copy()
    samples = world.roads.samples()
    lanes = samples.rows[samples.tags == 1, :2]
    for _ in range(60):
        run(world, 10)
        centres, yaws, extents = world.actors.boxes(cars)
        for n in range(len(cars)):
            rest = np.arange(len(cars)) != n
            assert not overlapping(centres[n], yaws[n], extents[n], centres[rest], yaws[rest], extents[rest]).any()
        away = np.hypot(*(centres[:, None, :2] - lanes[None]).transpose(2, 0, 1)).min(axis=1)
        assert away.max() < 1.2, "half the spacing of the lane's samples"
    moved = np.linalg.norm(world.actors.transforms[[car.row for car in cars], :3] - start, axis=1)
    assert np.median(moved) > 30


def test_traffic_stops_behind_what_stands_in_its_lane(build_world, spawn):
    world = build_world(traffic=1)
    (car,) = [actor for actor in world.actors if actor.own_traffic]
    run(world, 50)
    way = world.roads.walk(world.actors.transforms[car.row], 40.0, 2.0, np.random.default_rng(0))
    obstacle = spawn(world, "static.prop.container", way[-1].tolist())
    run(world, 300)
    apart_m = np.linalg.norm(world.actors.transforms[car.row, :2] - world.actors.transforms[obstacle.row, :2])
    assert car.speed_mps == pytest.approx(0.0, abs=0.05)
    assert 3.0 < apart_m < 12.0


def test_the_same_seed_gives_the_same_world_and_another_seed_another(build_world):
    def state(seed: int) -> bytes:
        world = build_world(seed=seed, traffic=5, scenery=1.0)
        run(world, 50)
        return world.actors.records().tobytes() + world.scenery.centres.tobytes()

    assert state(4) == state(4)
    assert state(4) != state(5)


def test_scenery_stands_off_the_road_and_apart(build_world):
    scenery = build_world(scenery=2.0).scenery
    assert len(scenery) > 50
    assert set(scenery.tags.tolist()) == {3, 4, 6, 9}
    for n in range(len(scenery)):
        rest = np.arange(len(scenery)) != n
        box = (scenery.centres[n], scenery.yaws_deg[n], scenery.extents[n])
        others = (scenery.centres[rest], scenery.yaws_deg[rest], scenery.extents[rest])
        assert not overlapping(*box, *others).any()


def test_no_scenery_is_an_empty_world(build_world):
    assert len(build_world(scenery=0.0).scenery) == 0


def test_the_ground_is_road_sidewalk_and_terrain_across_the_street(build_world):
    ground = build_world().ground
    across = np.array([[100.0, y, 0.0] for y in (0.5, 3.0, 4.5, 8.0, -3.0, -4.5, -8.0)])
    assert ground.tags(across).tolist() == [1, 1, 2, 10, 1, 2, 10]
    heights, tags = ground.cells(across)
    assert heights == pytest.approx(0.0)
    assert tags.tolist() == [1, 1, 2, 10, 1, 2, 10]
