"""Claims about people who stand and egos off their lanes, in a small town with real SUMO traffic."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from dyncity_sumo.actors import KIND_CODES
from dyncity_sumo.clearance import meets_others, share_on_road
from dyncity_sumo.demand import people_on_foot
from dyncity_sumo.egos import OwnEgo
from dyncity_sumo.network import prepare_network
from dyncity_sumo.places import PLACES, Place, is_free, standing_places
from dyncity_sumo.recording import Crew, is_driving
from dyncity_sumo.roads import RoadNetwork
from dyncity_sumo.scenery import Scenery, build_scenery
from dyncity_sumo.stays import plan_stays
from dyncity_sumo.town import Town, open_town
from dyncity_sumo.wayward import OFF_BY_M, WaywardEgo

from dyncity_sim.domain.recording import ActorKind


@pytest.fixture(scope="module")
def network(small_net: Path, tmp_path_factory: pytest.TempPathFactory) -> RoadNetwork:
    return prepare_network(str(small_net), 0, tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def scenery(network: RoadNetwork) -> Scenery:
    return build_scenery(network, 3)


@pytest.fixture
def town(small_net: Path, tmp_path: Path) -> Iterator[Town]:
    with open_town(str(small_net), 3, tmp_path, 200.0, standing=0.6) as running:
        yield running


def groups(places: list[Place]) -> list[list[Place]]:
    return [[p for p in places if p.group == group] for group in sorted({p.group for p in places})]


def test_people_stand_apart_on_free_pavement_alone_or_together(network: RoadNetwork, scenery: Scenery) -> None:
    places = list(standing_places(network, scenery.columns, np.random.default_rng(1), 60))
    assert len(places) >= 60
    spots = np.array([(place.x_m, place.y_m) for place in places])
    assert all(is_free(scenery.columns, spot) for spot in spots)
    apart_m = np.linalg.norm(spots[:, None] - spots[None], axis=2) + 9 * np.eye(len(spots))
    assert apart_m.min() > 0.6
    together = [group for group in groups(places) if len(group) > 1]
    assert together
    assert all(np.hypot(a.x_m - b.x_m, a.y_m - b.y_m) < 7 for a, b, *_ in together)


def test_two_who_talk_face_each_other(network: RoadNetwork, scenery: Scenery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyncity_sumo.places.PLACES", dict.fromkeys(PLACES, 0.0) | {"pair": 1.0})
    pairs = groups(list(standing_places(network, scenery.columns, np.random.default_rng(2), 20)))
    assert len(pairs) >= 10
    for one, other in pairs:
        bearing_rad = np.arctan2(other.y_m - one.y_m, other.x_m - one.x_m)
        assert np.cos(one.yaw_rad - bearing_rad) == pytest.approx(1.0)
        assert np.cos(other.yaw_rad - bearing_rad) == pytest.approx(-1.0)


def test_a_seed_decides_who_stands_where_and_when(network: RoadNetwork, scenery: Scenery) -> None:
    def planned(seed: int) -> list[object]:
        return plan_stays(network, scenery.columns, np.random.default_rng(seed), 8.0, 120.0)

    assert planned(1) == planned(1)
    assert planned(1) != planned(2)
    stays = planned(1)
    assert [stay.from_s for stay in stays] == sorted(stay.from_s for stay in stays)
    standing = [sum(stay.from_s <= t < stay.until_s for stay in stays) for t in np.arange(5.0, 120.0, 5.0)]
    assert 4 < np.mean(standing) < 12


def test_about_as_many_stand_as_were_asked_for_and_they_are_actors_like_all_others(town: Town) -> None:
    for car in town.traffic.cars():
        town.traffic.watch(car)
    resting = total = 0
    for _ in range(200):
        town.step()
        actors = town.traffic.actors()
        speeds_mps = actors.speeds_mps[actors.kinds == KIND_CODES[ActorKind.PEDESTRIAN]]
        resting, total = resting + int((speeds_mps < 0.05).sum()), total + len(speeds_mps)
    assert people_on_foot(town.network) > 5
    assert 0.35 < resting / total < 0.9


def test_who_stands_is_where_they_were_put_and_leaves_without_a_jump(town: Town) -> None:
    released = 0
    held: dict[str, tuple[Place, float]] = {}
    for _ in range(400):
        present = set(town.traffic.people())
        for person in list(held):
            if person not in present:
                del held[person]
        before = {person: town.traffic.person_state(person)[0] for person in held}
        town.step()
        now_s = town.traffic.time_us / 1e6
        present = set(town.traffic.people())
        for person, (place, until_s) in list(held.items()):
            if person not in present:
                continue
            xy_m, yaw_rad, _ = town.traffic.person_state(person)
            if now_s < until_s:
                assert xy_m == pytest.approx([place.x_m, place.y_m], abs=1e-6)
                assert np.cos(yaw_rad - place.yaw_rad) == pytest.approx(1.0, abs=1e-6)
            elif now_s > until_s + 0.2:
                assert np.linalg.norm(xy_m - before[person]) < 0.5
                released += 1
                del held[person]
        for stay in town.bystanders.standing:
            if stay.person in present and stay.from_s < now_s - 1:
                held.setdefault(stay.person, (stay.place, stay.until_s))
    assert released >= 2


def test_off_nominal_egos_leave_their_lines_but_not_the_road_and_hit_nobody(town: Town) -> None:
    crew = Crew(town, 8, np.random.default_rng(1), 10**9, off_nominal=1.0)
    off_m, kinds = [], set()
    for _ in range(220):
        crew._step()
        actors = town.traffic.actors()
        for take in crew._takes:
            ego = take.ego
            assert isinstance(ego, WaywardEgo)
            if not take.shots:
                continue
            motion = ego.driver.motion
            off_m.append(np.linalg.norm(ego.route.line.at(motion.s_m)[0][:2] - motion.xy_m))
            kinds.add(take.kind(len(take.shots)))
            if ego._way is not None:
                assert share_on_road([motion], ego._size_m, 0.0, town.scenery.columns)[0] >= 0.95
            assert not ego.is_astray(actors)
            assert is_driving(np.stack([shot.pose_world_from_ego for shot in take.shots[-3:]])) or len(take.shots) < 2
    assert kinds >= {"off-nominal"}
    assert (np.array(off_m) > OFF_BY_M).mean() > 0.1
    assert max(off_m) > 0.6


def test_of_the_drives_that_are_kept_about_the_share_is_off_nominal(town: Town) -> None:
    crew = Crew(town, 8, np.random.default_rng(1), 160_000_000, off_nominal=0.5)
    kinds = [capture.ego_kind for capture in islice(crew.bursts(12), 12)]
    assert len(kinds) == 12
    assert 0.25 < kinds.count("off-nominal") / len(kinds) < 0.75


def test_nobody_is_off_nominal_who_was_not_asked_to(town: Town) -> None:
    crew = Crew(town, 6, np.random.default_rng(1), 60_000_000)
    assert all(capture.ego_kind in ("own", "sumo") for capture in crew.bursts(20))


@pytest.mark.parametrize("off_nominal", [0.0, 1.0])
def test_an_overlap_is_astray(town: Town, off_nominal: float) -> None:
    crew = Crew(town, 4, np.random.default_rng(1), 10**9, off_nominal)
    crew._step()
    crew._step()
    ego = crew._takes[0].ego
    assert isinstance(ego, WaywardEgo if off_nominal else OwnEgo)
    actors = town.traffic.actors()
    other = actors[actors.ids != town.traffic.actor_id(ego.vehicle_id)]
    on_top = type(other)(
        other.ids, other.kinds, other.centres_m * [0, 0, 1] + [*ego.driver.motion.xy_m, 0], other.yaws_rad,
        other.sizes_m, other.speeds_mps,
    )  # fmt: skip
    assert ego.is_astray(on_top)
    assert not ego.is_astray(actors)
    assert meets_others([ego.driver.motion], ego._size_m, 0.0, on_top)[0]
