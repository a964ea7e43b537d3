import numpy as np
from dyncity_carla.loopback.actors import Actor, ActorTable
from dyncity_carla.loopback.blueprints import Blueprint, BlueprintLibrary
from hypothesis import given
from hypothesis import strategies as st

PROP = Blueprint(1, "static.prop.box01", (), (1.0, 1.0, 1.0), 1.0, 20)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=150))
def test_records_follow_any_sequence_of_spawning_and_destroying(steps: list[tuple[bool, int]]):
    table, truth, next_id = ActorTable(), {}, 1
    for spawns, number in steps:
        if spawns or not truth:
            table.add(Actor(next_id, PROP, {}, []), np.arange(6.0) + next_id)
            truth[next_id] = next_id
            next_id += 1
        else:
            gone = sorted(truth)[number % len(truth)]
            actor = table.get(gone)
            assert actor is not None
            table.remove(actor)
            del truth[gone]
    records = table.records()
    assert records["id"].tolist() == sorted(truth)
    assert records["transform"][:, 0].tolist() == sorted(truth)
    assert all(actor.row == row for row, actor in enumerate(table))


def test_a_control_reaches_its_own_record_after_another_actor_has_gone():
    library = BlueprintLibrary()
    car = library.find("vehicle.audi.tt")
    assert car is not None
    table = ActorTable()
    first, second = Actor(1, PROP, {}, []), Actor(2, car, {}, [])
    for actor in (first, second):
        table.add(actor, np.zeros(6))
    table.remove(first)
    second.control = [0.5, 0.0, 0.0, False, False, False, 1]
    table.update_details(second)
    assert np.frombuffer(table.records()["details"].tobytes()[:4], "<f4")[0] == 0.5


def test_the_library_has_the_blueprints_that_scripts_ask_for():
    library = BlueprintLibrary()
    for name in ("vehicle.tesla.model3", "vehicle.lincoln.mkz_2020", "walker.pedestrian.0001", "static.prop.box01"):
        assert library.find(name) is not None, name
    for name in ("sensor.lidar.ray_cast_semantic", "sensor.other.collision", "sensor.other.gnss", "sensor.other.imu"):
        assert library.find(name) is not None, name
    assert library.find("sensor.camera.rgb") is None


def test_every_solid_blueprint_has_a_whole_box_and_a_tag():
    for blueprint in BlueprintLibrary():
        if blueprint.is_solid:
            assert min(blueprint.extent_m) > 0, blueprint.id
            assert blueprint.semantic_tag > 0, blueprint.id
    uids = [blueprint.uid for blueprint in BlueprintLibrary()]
    assert len(set(uids)) == len(uids)
