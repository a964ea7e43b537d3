"""Claims about SUMO traffic, on a small generated net with the real libsumo."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dyncity_sumo.demand import write_demand
from dyncity_sumo.network import prepare_network, run_tool
from dyncity_sumo.roads import Lane, LaneKind, RoadNetwork, Streets
from dyncity_sumo.traffic import Traffic

from dyncity_sim.errors import MapError, MissingExtraError, SimulatorError


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> RoadNetwork:
    folder = tmp_path_factory.mktemp("net")
    file = folder / "small.net.xml"
    options = ["--grid", "--grid.number=3", "--grid.length=120", "--sidewalks.guess", "--crossings.guess"]
    run_tool("netgenerate", [*options, "--walkingareas", "-j", "traffic_light", "-o", str(file)], "small")
    return prepare_network(str(file), 0, folder)


@pytest.fixture(scope="module")
def demand(network: RoadNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demand(network, np.random.default_rng(1), 120.0, tmp_path_factory.mktemp("demand") / "d.rou.xml")


@pytest.fixture
def traffic(network: RoadNetwork, demand: Path) -> Iterator[Traffic]:
    with Traffic(network.net_file, demand, seed=1) as running:
        for _ in range(150):
            running.step()
        yield running


def test_what_libsumo_has_to_say_of_other_packages_stays_off_the_terminal(network: RoadNetwork, demand: Path) -> None:
    code = f"""
from pathlib import Path
from dyncity_sumo.traffic import Traffic
Traffic(Path({str(network.net_file)!r}), Path({str(demand)!r}), seed=1).close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_cars_stand_on_the_centre_line_of_their_lane_and_face_along_it(traffic: Traffic, network: RoadNetwork) -> None:
    lanes = {lane.id: lane for lane in network.lanes_of(LaneKind.DRIVING)}
    checked = 0
    for car in traffic.cars():
        state = traffic.vehicle_state(car)
        if state.lane_id not in lanes:
            continue
        line = lanes[state.lane_id].centreline_m[:, :2]
        start, along = line[0], (line[-1] - line[0]) / np.linalg.norm(line[-1] - line[0])
        centre = np.array(state.xyz_m[:2])
        if not state.type.size_m[0] < (centre - start) @ along < np.linalg.norm(line[-1] - start):
            continue
        checked += 1
        assert abs(np.cross(np.append(along, 0), np.append(centre - start, 0))[2]) < 0.6
        assert np.cos(state.yaw_rad - np.arctan2(along[1], along[0])) > 0.98
    assert checked > 3


def test_actors_are_reported_around_watched_cars_alone_and_sorted(traffic: Traffic) -> None:
    assert len(traffic.actors()) == 0
    car = traffic.cars()[0]
    traffic.watch(car)
    traffic.step()
    actors = traffic.actors()
    centre = np.array(traffic.vehicle_state(car).xyz_m[:2])
    assert traffic.actor_id(car) in actors.ids
    assert (np.diff(actors.ids.astype(int)) > 0).all()
    assert (np.linalg.norm(actors.centres_m[:, :2] - centre, axis=1) < 70).all()
    own = actors[actors.ids == traffic.actor_id(car)]
    assert own.centres_m[0, :2] == pytest.approx(centre)
    traffic.unwatch(car)
    traffic.step()
    assert len(traffic.actors()) == 0


def test_a_car_that_was_taken_over_is_exactly_where_it_is_placed_even_off_the_road(traffic: Traffic) -> None:
    car = traffic.cars()[0]
    traffic.take_over(car)
    start = traffic.vehicle_state(car)
    for frame in range(1, 20):
        target = np.array(start.xyz_m[:2]) + frame * np.array([0.4, 0.7])
        yaw_rad = start.yaw_rad + 0.05 * frame
        traffic.place(car, target, yaw_rad, 8.0)
        traffic.step()
        state = traffic.vehicle_state(car)
        assert state.xyz_m[:2] == pytest.approx(target, abs=1e-6)
        assert np.cos(state.yaw_rad - yaw_rad) == pytest.approx(1.0, abs=1e-9)


def test_links_lead_over_inner_lanes_and_know_their_signal(traffic: Traffic, network: RoadNetwork) -> None:
    links = [link for lane in network.lanes_of(LaneKind.DRIVING) for link in traffic.junctions.links(lane.id)]
    assert {link.turn for link in links} >= {"s", "l", "r"}
    governed = [link for link in links if link.signal]
    assert governed
    for link in governed[:10]:
        assert traffic.junctions.signal_state(link) in set("rRyYgGuo")
        assert all(inner.startswith(":") for inner in traffic.junctions.inner_lanes(link))
        assert traffic.junctions.inner_lanes(link)


def test_who_must_give_way_at_a_light_is_told_by_its_state_now(traffic: Traffic, network: RoadNetwork) -> None:
    ways = [
        way for lane in network.lanes_of(LaneKind.DRIVING) for way in traffic.junctions.links(lane.id) if way.signal
    ]
    told: set[tuple[str, bool]] = set()
    for _ in range(600):
        told |= {(traffic.junctions.signal_state(way), traffic.junctions.must_give_way(way)) for way in ways}
        traffic.step()
    assert {("G", False), ("g", True)} <= told
    assert not {("G", True), ("g", False)} & told


def test_left_turns_at_a_permissive_green_are_free_at_times_and_at_others_not(
    traffic: Traffic, network: RoadNetwork
) -> None:
    lefts = [
        (lane.id, way)
        for lane in network.lanes_of(LaneKind.DRIVING)
        for way in traffic.junctions.links(lane.id)
        if way.turn == "l" and len(traffic.junctions.inner_lanes(way)) > 1
    ]
    free = []
    for _ in range(300):
        free += [
            traffic.junctions.way_is_free(*left) for left in lefts if traffic.junctions.signal_state(left[1]) == "g"
        ]
        traffic.step()
    assert 0.02 < 1 - np.mean(free) < 0.9


def test_the_same_seed_moves_everyone_the_same_way(network: RoadNetwork, demand: Path) -> None:
    def positions(seed: int) -> list[tuple[float, ...]]:
        with Traffic(network.net_file, demand, seed) as running:
            for _ in range(200):
                running.step()
            return [running.vehicle_state(car).xyz_m for car in running.cars()]

    first = positions(1)
    assert first == positions(1)
    assert first != positions(2)


def test_a_second_simulation_in_one_process_is_refused(traffic: Traffic, network: RoadNetwork, demand: Path) -> None:
    with pytest.raises(SimulatorError, match="already runs"):
        Traffic(network.net_file, demand, seed=2)
    traffic.step()


def test_a_net_that_sumo_cannot_read_is_a_simulator_error_in_its_own_words(
    tmp_path: Path, demand: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.net.xml"
    broken.write_text("not a net")
    with pytest.raises(SimulatorError, match=r"broken\.net\.xml.*invalid document structure"):
        Traffic(broken, demand, seed=1)
    assert capfd.readouterr().err == ""


def test_a_missing_libsumo_names_the_extra(network: RoadNetwork, demand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libsumo", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[sumo\]"):
        Traffic(network.net_file, demand, seed=1)


def test_a_map_of_lanes_too_short_to_set_out_from_is_refused(tmp_path: Path) -> None:
    lane = Lane("a_0", "a", LaneKind.DRIVING, np.array([[0.0, 0, 0], [11, 0, 0]]), 3.2, 13.9)
    with pytest.raises(MapError, match=r"short: .* longer than 12 m"):
        write_demand(Streets("short", (lane,), (), (), (), ()), np.random.default_rng(1), 60.0, tmp_path / "d.xml")


def test_demand_is_decided_by_its_seed_and_holds_every_kind(network: RoadNetwork, tmp_path: Path) -> None:
    def written(seed: int) -> str:
        return write_demand(network, np.random.default_rng(seed), 600.0, tmp_path / "d.xml").read_text()

    text = written(3)
    assert text == written(3)
    assert text != written(4)
    for kind in ("car_", "van_", "bus_", "truck_", "motorcycle_", "bicycle_", "pedestrian_"):
        assert f'type="{kind}' in text
