"""Claims about recordings and the simulator port, on a small town with real SUMO traffic."""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dyncity_sumo.commands import RECORDER
from dyncity_sumo.egos import OwnEgo
from dyncity_sumo.network import run_tool
from dyncity_sumo.recording import SPACING_M, Crew, is_driving, manoeuvre_of
from dyncity_sumo.town import open_town
from dyncity_sumo.world import SumoSimulator

from dyncity_sim.dataset.carlasc import read_carlasc
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.agreement import static_agreement
from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import inverse, poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError

ROAD = [CARLASC_RAW.index("road"), CARLASC_RAW.index("road_line")]


@pytest.fixture
def simulator(small_net: Path) -> Iterator[SumoSimulator]:
    with SumoSimulator(str(small_net), seed=2) as running:
        yield running


def planar_drive(steps: list[tuple[float, float]]) -> np.ndarray:
    """Poses from (metres, radians) driven per frame."""
    yaw = np.cumsum([turn for _, turn in steps])
    xy = np.cumsum([[m * np.cos(y), m * np.sin(y)] for (m, _), y in zip(steps, yaw, strict=True)], axis=0)
    return poses_from_planar(np.column_stack([xy, yaw]), LIDAR_HEIGHT_M)


def test_a_burst_is_named_after_what_its_chunks_show() -> None:
    assert manoeuvre_of(planar_drive([(0.8, 0.0)] * 40)) == "straight"
    assert manoeuvre_of(planar_drive([(0.0, 0.0)] * 40)) == "standing"
    assert manoeuvre_of(planar_drive([(0.6, 0.0)] * 15 + [(0.5, 0.04)] * 25)) == "turning"
    assert manoeuvre_of(planar_drive([(0.6, 0.0)] * 38 + [(0.5, 0.04)] * 2)) == "straight"


@pytest.mark.parametrize("jump", [(6.0, 0.0), (0.8, 0.3), (1.2, 0.0)])
def test_a_teleport_a_kink_and_a_shove_are_not_driving(jump: tuple[float, float]) -> None:
    assert is_driving(planar_drive([(0.8, 0.02)] * 3))
    assert is_driving(planar_drive([(4.1, 0.0)] * 3))
    assert not is_driving(planar_drive([(0.8, 0.02), (0.8, 0.02), jump]))


def test_a_plan_is_followed_exactly_and_its_frames_fit_the_world(simulator: SumoSimulator) -> None:
    before = simulator.observe()
    for _ in range(3):
        plan = simulator.plan(16)
        assert plan.times_us[0] == before.time_us + 100_000
        frames = list(simulator.follow(plan))
        for frame, pose, time_us in zip(frames, plan.poses_world_from_ego, plan.times_us, strict=True):
            assert np.array_equal(frame.pose_world_from_ego, pose)
            assert frame.time_us == time_us
            near = frame.labels[60:68, 62:66, 0]
            assert np.isin(near, ROAD).mean() > 0.9
            pose_first_from_second = inverse(before.pose_world_from_ego) @ frame.pose_world_from_ego
            labels = before.labels, frame.labels
            assert static_agreement(*labels, pose_first_from_second, CARLASC_GRID, CARLASC_RAW) > 0.9
            before = frame


def test_plans_given_ahead_join_up_and_are_followed_in_order(simulator: SumoSimulator) -> None:
    start = simulator.observe()
    plans = [simulator.plan(16) for _ in range(3)]
    times_us = np.concatenate([plan.times_us for plan in plans])
    assert np.array_equal(times_us, start.time_us + 100_000 * np.arange(1, 49))
    assert is_driving(np.concatenate([start.pose_world_from_ego[None], *(p.poses_world_from_ego for p in plans)]))
    assert simulator.observe().time_us == start.time_us
    with pytest.raises(InvalidInputError, match="order"):
        simulator.follow(plans[1])
    for plan in plans:
        followed = np.stack([frame.pose_world_from_ego for frame in simulator.follow(plan)])
        assert np.array_equal(followed, plan.poses_world_from_ego)
    assert simulator.plan(16).times_us[0] == times_us[-1] + 100_000


def test_a_plan_made_when_all_before_it_are_followed_starts_from_what_is_there_now(simulator: SumoSimulator) -> None:
    plan = simulator.plan(8)
    swerve = plan.poses_world_from_ego.copy()
    swerve[:, :2, 3] += np.linspace(0.05, 0.6, 8)[:, None] * swerve[0, :2, 1]
    last = list(simulator.follow(EgoPlan(swerve, plan.times_us)))[-1]
    onward = simulator.plan(8).poses_world_from_ego[0]
    assert np.linalg.norm(onward[:2, 3] - last.pose_world_from_ego[:2, 3]) < 1.5
    assert np.linalg.norm(onward[:2, 3] - plan.poses_world_from_ego[-1, :2, 3]) > 0.4


def test_the_ego_is_in_no_frame_of_its_own(simulator: SumoSimulator) -> None:
    frame = next(iter(simulator.follow(simulator.plan(2))))
    assert not frame.instances[60:69, 62:66].any()
    for actor in frame.actors:
        assert np.linalg.norm(actor.pose_world_from_actor[:2, 3] - frame.pose_world_from_ego[:2, 3]) > 1.5


def test_instances_are_those_of_the_actors_listed(simulator: SumoSimulator) -> None:
    listed: set[int] = set()
    painted: set[int] = set()
    for _ in range(8):
        for frame in simulator.follow(simulator.plan(10)):
            ids = [actor.id for actor in frame.actors]
            assert ids == sorted(set(ids))
            listed |= set(ids)
            painted |= set(np.unique(frame.instances[frame.instances > 0]).tolist())
    assert painted
    assert painted <= listed


def test_a_plan_for_another_time_or_place_is_refused(simulator: SumoSimulator) -> None:
    plan = simulator.plan(4)
    with pytest.raises(InvalidInputError, match="times_us"):
        simulator.follow(EgoPlan(plan.poses_world_from_ego, plan.times_us + 100_000))
    away = plan.poses_world_from_ego.copy()
    away[:, 0, 3] += 30
    with pytest.raises(InvalidInputError, match="from the ego"):
        simulator.follow(EgoPlan(away, plan.times_us))
    with pytest.raises(InvalidInputError, match="frames"):
        simulator.plan(1)


def test_an_ego_that_stands_on_its_plans_counts_how_long(simulator: SumoSimulator) -> None:
    here = np.tile(simulator.observe().pose_world_from_ego, (16, 1, 1))
    list(simulator.follow(EgoPlan(here, simulator.plan(16).times_us)))
    assert simulator._ego._waited_s == pytest.approx(1.6)


def test_a_motorway_is_driven_at_its_speed(tmp_path: Path) -> None:
    nodes = '<nodes><node id="a" x="0" y="0"/><node id="b" x="3000" y="0"/></nodes>'
    lanes = 'numLanes="2" speed="36.1"'
    edges = f'<edges><edge id="ab" from="a" to="b" {lanes}/><edge id="ba" from="b" to="a" {lanes}/></edges>'
    for name, content in (("m.nod.xml", nodes), ("m.edg.xml", edges)):
        (tmp_path / name).write_text(content)
    file = str(tmp_path / "motorway.net.xml")
    run_tool("netconvert", ["-n", f"{tmp_path}/m.nod.xml", "-e", f"{tmp_path}/m.edg.xml", "-o", file], "motorway")
    with SumoSimulator(file, seed=0) as simulator:
        fastest_mps = 0.0
        for _ in range(4):
            poses = np.stack([frame.pose_world_from_ego for frame in simulator.follow(simulator.plan(16))])
            fastest_mps = max(fastest_mps, 10 * float(np.linalg.norm(np.diff(poses[:, :2, 3], axis=0), axis=1).max()))
    assert 26 < fastest_mps < 45


def test_an_own_plan_away_from_the_road_is_driven_all_the_same(simulator: SumoSimulator) -> None:
    start = simulator.observe().pose_world_from_ego
    offsets = np.arange(1, 17)[:, None] * np.array([0.5, 0.25, 0.0])
    poses = np.tile(start, (16, 1, 1))
    poses[:, :3, 3] = start[:3, 3] + offsets @ start[:3, :3].T
    times_us = simulator.plan(16).times_us
    frames = list(simulator.follow(EgoPlan(poses, times_us)))
    assert np.allclose(frames[-1].pose_world_from_ego, poses[-1])


def test_egos_start_apart(small_net: Path, tmp_path: Path) -> None:
    with open_town(str(small_net), 1, tmp_path, 60.0) as town:
        crew = Crew(town, 8, np.random.default_rng(1), 10**9)
        crew._enlist()
        places_m = np.array([take.ego.pose_world_from_ego()[:2, 3] for take in crew._takes])
    apart_m = np.linalg.norm(places_m[:, None] - places_m, axis=-1)[np.triu_indices(len(places_m), 1)]
    assert len(apart_m) > 1
    assert apart_m.min() > SPACING_M - 1.0


def test_what_an_ego_drove_before_it_was_moved_is_a_drive(small_net: Path, tmp_path: Path) -> None:
    with open_town(str(small_net), 1, tmp_path, 60.0) as town:
        crew = Crew(town, 2, np.random.default_rng(1), 10**9)
        while not crew._takes or len(crew._takes[0].shots) < 5:
            crew._step()
        ego, shots = crew._takes[0].ego, list(crew._takes[0].shots)
        assert isinstance(ego, OwnEgo)
        ego.driver.motion = replace(ego.driver.motion, x_m=ego.driver.motion.x_m + 3.0)
        broken = crew._step()
    assert [take.shots for take in broken if take.ego is ego] == [shots]


def run_record(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    RECORDER.add_arguments(parser)
    assert RECORDER.run(parser.parse_args(arguments)) == 0


@pytest.fixture(scope="module")
def asked(small_net: Path) -> list[str]:
    """What the recording of this module is asked for."""
    return ["--map", str(small_net), "--minutes", "0.2", "--egos", "4", "--seed", "5"]


@pytest.fixture(scope="module")
def recorded(asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recorded") / "here"
    run_record(*asked, "--out", str(out))
    return out


@pytest.mark.slow
def test_the_same_seed_records_the_same_bytes_in_another_process(
    asked: list[str], recorded: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "dyncity_sim.cli.main", "record", *asked, "--out", str(tmp_path / "there")]
    subprocess.run(command, check=True, capture_output=True)
    here, there = ({f.name: f.read_bytes() for f in out.iterdir()} for out in (recorded, tmp_path / "there"))
    assert here == there


def test_a_recording_holds_what_was_asked_for(recorded: Path) -> None:
    recording = Recording.open(recorded)
    assert len(recording) == 120
    assert {len(drive) for drive in recording.drives} == {40}
    assert recording.meta.simulator.startswith("SUMO")
    for drive in recording.drives:
        assert is_driving(drive.poses_world_from_ego)
        labels, counts = drive.arrays()
        assert np.isin(labels[:, 60:68, 62:66, 0], ROAD).mean() > 0.8
        assert 0.15 < (counts > 0).mean() < 0.95


def test_people_who_stand_and_off_nominal_egos_are_recorded_like_all_others(small_net: Path, tmp_path: Path) -> None:
    shares = ["--standing", "0.5", "--off-nominal", "0.5"]
    out = tmp_path / "r"
    run_record("--map", str(small_net), "--minutes", "0.2", "--egos", "6", "--seed", "5", *shares, "--out", str(out))
    recording = Recording.open(out)
    assert recording.meta.options["standing"] == 0.5
    assert recording.meta.options["off_nominal"] == 0.5
    still: set[int] = set()
    for drive in recording.drives:
        assert is_driving(drive.poses_world_from_ego)
        for frame in drive.frames(0, len(drive)):
            pedestrians = [a for a in frame.actors if a.kind is ActorKind.PEDESTRIAN and a.speed_mps < 0.05]
            still |= {actor.id for actor in pedestrians} & set(np.unique(frame.instances).tolist())
    assert still


def test_a_carlasc_recording_can_be_read_back(small_net: Path, tmp_path: Path) -> None:
    out = tmp_path / "carla"
    arguments = ["--minutes", "0.05", "--egos", "2", "--burst", "15", "--format", "carlasc", "--out", str(out)]
    run_record("--map", str(small_net), *arguments)
    folders = sorted(out.iterdir())
    assert len(folders) == 2
    assert len(read_carlasc(folders[0]).occupancy) == 15


IMPOSSIBLE = [
    ("--minutes", "0"),
    ("--minutes", "inf"),
    ("--town-minutes", "inf"),
    ("--egos", "0"),
    ("--seed", "-1"),
    ("--burst", "1"),
    ("--standing", "1.5"),
    ("--off-nominal", "-0.1"),
]


@pytest.mark.parametrize(("option", "value"), IMPOSSIBLE)
def test_impossible_options_are_refused_before_anything_runs(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match=option.removeprefix("--")):
        run_record(option, value, "--out", str(tmp_path / "r"))
    assert list(tmp_path.iterdir()) == []
