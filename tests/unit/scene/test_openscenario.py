"""OpenSCENARIO documents: valid by the standard's schemas, and played back from the XML alone they are the tracks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import schemas
import xmlschema

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene, StaticMap, Track
from dyncity_sim.scene.actors.live import LiveTracks
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.motions import motions_of
from dyncity_sim.scene.package.openscenario import openscenario_1_0, openscenario_1_2

WRITERS = {"1_0": openscenario_1_0, "1_2": openscenario_1_2}
FRAME_S = 0.1
CAR_M = (4.5, 1.8, 1.5)
FIRST_US = 3_200_000


def track_along(
    number: int,
    frames: range,
    path: Callable[[np.ndarray], np.ndarray],
    kind: ActorKind = ActorKind.CAR,
) -> Track:
    """A track along a path, a function from seconds to rows of x, y, yaw; the drive starts at FIRST_US."""
    times_s = np.array(frames) * FRAME_S
    poses = poses_from_planar(path(times_s), z_m=CAR_M[2] / 2)
    velocities = np.zeros((len(frames), 3))
    return Track(number, kind, CAR_M, poses, FIRST_US + np.array(frames) * 100_000, velocities)


def line(x_m: float, y_m: float, speed_mps: float, acceleration_mps2: float = 0.0):
    def path(t: np.ndarray) -> np.ndarray:
        along = speed_mps * t + acceleration_mps2 * t**2 / 2
        return np.column_stack([x_m + along, np.full(len(t), y_m), np.zeros(len(t))])

    return path


def circle(radius_m: float, speed_mps: float):
    def path(t: np.ndarray) -> np.ndarray:
        angle = speed_mps * t / radius_m
        return np.column_stack([radius_m * np.sin(angle), radius_m * (1 - np.cos(angle)), angle])

    return path


def stop_and_go(t: np.ndarray) -> np.ndarray:
    """8 m/s, a stop of 2 s, 8 m/s, with 4 m/s^2 between them."""
    fine = np.arange(0, t[-1] + 1e-9, 0.01)
    speed = np.interp(fine, [0, 1, 3, 5, 7], [8, 8, 0, 0, 8])
    along = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 0.01)])
    return np.column_stack([np.interp(t, fine, along), np.full(len(t), -6.0), np.zeros(len(t))])


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Eight seconds: cars that come, go, turn, brake and stand, a walker, and something seen once."""
    frames = range(81)
    return Scene(
        tracks=(
            track_along(1, frames, circle(12.0, 7.0)),
            track_along(2, range(25, 81), line(-40.0, 3.0, 15.0)),
            track_along(3, range(0, 40), line(30.0, -3.0, 2.0, 3.0)),
            track_along(4, frames, stop_and_go),
            track_along(5, frames, line(12.0, 8.0, 0.0)),
            track_along(6, range(10, 70), line(5.0, 9.0, 1.4), ActorKind.PEDESTRIAN),
            track_along(7, range(33, 34), line(0.0, -9.0, 5.0)),
        ),
        static_map=StaticMap(np.zeros((1, 1, 1), np.uint8), (0.0, 0.0, 0.0), (0.4, 0.4, 0.375)),
        ego_poses_world_from_ego=poses_from_planar(line(0.0, 0.0, 8.0)(np.array(frames) * FRAME_S), z_m=1.8),
        times_us=FIRST_US + np.array(frames) * 100_000,
        opendrive="",
    )


def expected_places(scene: Scene) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Seconds and points on the ground of every entity."""
    rows = {f"actor_{t.id}": (t.times_us, t.poses_world_from_actor, t.size_m[2] / 2) for t in scene.tracks}
    places = {
        name: ((times_us - FIRST_US) * 1e-6, poses[:, :3, 3] - [0, 0, height_m])
        for name, (times_us, poses, height_m) in rows.items()
    }
    # The middle of the ego's box lies half a metre before its LiDAR; it drives east.
    ego_m = scene.ego_poses_world_from_ego[:, :3, 3] + [0.5, 0.0, -1.8]
    return places | {"hero": ((scene.times_us - FIRST_US) * 1e-6, ego_m)}


@dataclass
class Event:
    """What the XML says of an event."""

    entity: str
    from_s: float
    actions: list[ElementTree.Element]


def events_of(root: ElementTree.Element) -> list[Event]:
    return [
        Event(
            group.find("Actors/EntityRef").get("entityRef"),
            float(event.find("StartTrigger//SimulationTimeCondition").get("value")),
            list(event.iter("Action")),
        )
        for group in root.iter("ManeuverGroup")
        for event in group.iter("Event")
    ]


def vertices_of(element: ElementTree.Element) -> np.ndarray:
    """Rows of time, x, y, z, heading."""
    return np.array(
        [
            [float(v.get("time")), *(float(v.find("Position/WorldPosition").get(key)) for key in ("x", "y", "z", "h"))]
            for v in element.iter("Vertex")
        ]
    )


@pytest.fixture(scope="module", params=WRITERS)
def version(request):
    """A writer, and the schema of what it writes."""
    place = Path(next(iter(schemas.__path__))) / f"OpenSCENARIO_{request.param}.xsd"
    return WRITERS[request.param], xmlschema.XMLSchema(str(place))


def reasons(version, scene: Scene) -> list[str]:
    write, schema = version
    return [error.reason for error in schema.iter_errors(write(scene))]


def test_every_kind_of_motion_is_valid_in_both_versions(version, scene):
    assert reasons(version, scene) == []


@pytest.mark.parametrize("arguments", [{"frames": 1, "ego_speed_mps": 0.0}, {"frames": 3, "empty": True}])
def test_a_scene_without_actors_or_motion_is_valid_too(version, build_street, arguments):
    assert reasons(version, build_scene(build_street(**arguments))) == []


def test_a_scene_of_tracks_that_were_shown_is_valid_however_short_they_are(version, build_street, street_actor):
    briefly = street_actor(25, 2, np.pi, 7, absent=frozenset(range(32)) - {14, 15, 16})
    street = build_street(frames=32, actors=[street_actor(8, -1.7, 0, 9), briefly])
    live = LiveTracks()
    for first in (0, 16):
        live.add(street[first : first + 16])
    assert sorted(len(track) for track in live.tracks) == [1, 32]
    assert reasons(version, build_scene(street, tracks=live.tracks)) == []


def test_a_player_of_1_2_shows_every_track_at_its_places_and_times(scene):
    root = ElementTree.fromstring(openscenario_1_2(scene))
    timings = [timing.attrib for timing in root.iter("Timing")]
    assert timings == 8 * [{"domainAbsoluteRelative": "absolute", "scale": "1.0", "offset": "0.0"}]
    lines = {t.get("name").removesuffix("_trajectory"): vertices_of(t) for t in root.iter("Trajectory")}
    expected = expected_places(scene)
    assert set(lines) == set(expected)
    for name, (times_s, points_m) in expected.items():
        rows = lines[name][: len(times_s)]
        np.testing.assert_allclose(rows[:, 0], times_s, atol=1e-6)
        np.testing.assert_allclose(rows[:, 1:4], points_m, atol=1e-4)


def test_headings_in_1_2_are_those_of_the_tracks_and_never_turn_the_long_way_round(scene):
    root = ElementTree.fromstring(openscenario_1_2(scene))
    (turning,) = root.findall(".//Trajectory[@name='actor_1_trajectory']")
    headings = vertices_of(turning)[:, 4]
    poses = scene.tracks[0].poses_world_from_actor
    np.testing.assert_allclose(np.cos(headings), poses[:, 0, 0], atol=1e-4)
    np.testing.assert_allclose(np.sin(headings), poses[:, 1, 0], atol=1e-4)
    assert headings[-1] > np.pi
    assert np.abs(np.diff(headings)).max() < 0.1


def test_a_player_of_1_2_has_exactly_the_actors_that_are_seen(scene):
    root = ElementTree.fromstring(openscenario_1_2(scene))
    begins = {private.get("entityRef"): 0.0 for private in root.iter("Private")}
    ends = {}
    for event in events_of(root):
        for action in event.actions:
            if action.find(".//AddEntityAction") is not None:
                begins[event.entity] = event.from_s
            if action.find(".//DeleteEntityAction") is not None:
                ends[event.entity] = event.from_s
    for name, (times_s, _) in expected_places(scene).items():
        assert begins[name] == pytest.approx(times_s[0])
        held_s = FRAME_S if len(times_s) == 1 else 0.0
        assert ends.get(name, 8.0) == pytest.approx(times_s[-1] + held_s)


def test_a_player_of_1_0_that_keeps_the_speeds_is_near_the_tracks_at_all_times(scene):
    root = ElementTree.fromstring(openscenario_1_0(scene))
    assert not list(root.iter("Timing"))
    starts = {
        private.get("entityRef"): np.array([float(private.find(".//WorldPosition").get(key)) for key in "xyz"])
        for private in root.iter("Private")
    }
    lines, speeds = {}, {}
    for event in events_of(root):
        for action in event.actions:
            if action.find(".//Trajectory") is not None:
                assert event.from_s == 0.0
                lines[event.entity] = vertices_of(action)[:, 1:4]
            if action.find(".//AbsoluteTargetSpeed") is not None:
                speed = float(action.find(".//AbsoluteTargetSpeed").get("value"))
                speeds.setdefault(event.entity, []).append((event.from_s, speed))
    expected = expected_places(scene)
    assert set(starts) == set(expected)
    assert set(lines) == set(speeds) == set(expected) - {"actor_5", "actor_7"}
    for name, (times_s, points_m) in expected.items():
        played = np.array([place_at(t, starts[name], lines.get(name), speeds.get(name)) for t in times_s])
        off_m = np.linalg.norm(played - points_m, axis=1)
        assert off_m.max() < 0.3, name


def place_at(time_s: float, start_m: np.ndarray, line_m: np.ndarray | None, speeds) -> np.ndarray:
    """Where something is that follows a line at speeds which hold until the next is set."""
    if line_m is None:
        return start_m
    borders = [*(t for t, _ in speeds), np.inf]
    gone_m = sum(
        speed * max(0.0, min(time_s, until) - since)
        for (since, speed), until in zip(speeds, borders[1:], strict=True)
        if time_s > since
    )
    along_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line_m, axis=0), axis=1))])
    return np.array([np.interp(gone_m, along_m, line_m[:, axis]) for axis in range(3)])


def test_in_1_0_everything_is_there_from_the_start_and_stays(scene):
    root = ElementTree.fromstring(openscenario_1_0(scene))
    assert len(list(root.iter("Private"))) == 8
    assert not list(root.iter("EntityAction"))
    assert {e.get("name") for e in root.iter("ScenarioObject")} == {"hero", *(f"actor_{n}" for n in range(1, 8))}


def test_in_1_0_what_drives_has_a_controller_and_what_stands_or_walks_has_none(scene):
    root = ElementTree.fromstring(openscenario_1_0(scene))
    modules = {c.get("name"): c.find(".//Property[@name='module']").get("value") for c in root.iter("Controller")}
    drivers = ("hero", "actor_1", "actor_2", "actor_3", "actor_4")
    assert modules == {f"{name}_controller": "simple_vehicle_control" for name in drivers}


def test_in_1_0_walkers_are_told_to_walk(scene):
    root = ElementTree.fromstring(openscenario_1_0(scene))
    (first, *_, last) = [
        (e.from_s, float(a.find(".//AbsoluteTargetSpeed").get("value")))
        for e in events_of(root)
        for a in e.actions
        if e.entity == "actor_6" and a.find(".//AbsoluteTargetSpeed") is not None
    ]
    assert first == pytest.approx((1.0, 1.4), abs=1e-3)
    assert last == pytest.approx((6.9, 0.0), abs=1e-6)


def test_what_is_seen_once_is_there_until_the_next_frame_at_2_hz_too(scene):
    times_us = FIRST_US + 500_000 * np.arange(81)
    seen_once = track_along(7, range(33, 34), line(0.0, -9.0, 5.0))
    slow = replace(scene, tracks=(replace(seen_once, times_us=times_us[33:34]),), times_us=times_us)
    (_, actor) = motions_of(slow)
    np.testing.assert_allclose(actor.times_s, [16.5, 17.0])
