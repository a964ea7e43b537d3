"""A generated scene, played in CARLA."""

import numpy as np
import pytest
from dyncity_carla.frames import CarlaTransform, carla_from_pose, mirrored_points, pose_from_carla
from dyncity_carla.options import ServerOptions
from dyncity_carla.plan import pose_of_car
from dyncity_carla.play import PlayOptions, ScenePlayback
from dyncity_carla.simulator import CarlaSimulator

from dyncity_sim.domain.frames import planar_from_poses, transform_points
from dyncity_sim.domain.occupancy import concatenate
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.errors import SimulatorError
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.read import read_scene
from dyncity_sim.scene.package.write import write_scene


@pytest.fixture(scope="module")
def scene(build_street, street_actor):
    return build_scene(
        build_street(
            frames=32,
            ego_speed_mps=6.0,
            actors=[
                street_actor(10.0, 3.5, np.pi, 5.0),
                street_actor(14.0, -1.0, 0.0, 6.5),
                street_actor(6.0, -6.5, 0.0, 1.2, (0.6, 0.6, 1.75), label=4),
            ],
        )
    )


@pytest.fixture(scope="module")
def scene_folder(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("played") / "scene"
    write_scene(scene, folder, Provenance("null-2", (1, 2), "", "carlasc"))
    return folder


def test_a_scene_s_actors_stand_on_their_tracks_at_their_times(loopback, scene_folder):
    scene = read_scene(scene_folder)
    options = PlayOptions(ServerOptions("127.0.0.1", loopback.port, 60.0), props=20)
    tracks = {track.id: track for track in scene.tracks}
    compared = 0
    with ScenePlayback(scene, options) as playback:
        played = []
        for frame in playback.play():
            played.append(frame)
            actors = {actor["id"]: actor for actor in loopback.inspector.actors()}
            for track_id, actor_id in frame.actors.items():
                track, actor = tracks[track_id], actors[actor_id]
                pose = pose_from_carla(CarlaTransform(*actor["transform"]))
                underside = np.array(actor["box_centre"]) - [0, 0, actor["box_extent"][2]]
                middle = transform_points(pose, mirrored_points(underside[None]))[0]
                index = int(np.searchsorted(track.times_us, frame.time_us))
                if track.times_us[index] != frame.time_us:
                    continue
                expected = track.poses_world_from_actor[index].copy()
                expected[2, 3] -= track.size_m[2] / 2
                assert np.linalg.norm(middle - expected[:3, 3]) < 0.01
                yaw_rad = planar_from_poses(pose)[2] - planar_from_poses(expected)[2]
                assert abs(np.rad2deg((yaw_rad + np.pi) % (2 * np.pi) - np.pi)) < 0.1
                compared += 1
        assert [figure for figure in playback.unspawned if figure.id > 0] == []
        props = loopback.inspector.actors("static.prop.")
        assert 0 < len(props) <= 20
    assert compared > 60
    assert [frame.time_us for frame in played] == scene.times_us.tolist()
    assert [frame.frame for frame in played] == list(range(played[0].frame, played[0].frame + len(played)))
    assert loopback.inspector.actors() == []


@pytest.mark.usefixtures("every_town")
def test_a_drive_is_played_as_it_was_shown_wherever_it_was_driven(loopback, drive_options, chunk_with_car, tmp_path):
    def generated_actors():
        actors = loopback.inspector.actors("vehicle.", "dyncity:")
        return [(actor["type"], actor["transform"]) for actor in actors]

    shown, driven = [], []
    with CarlaSimulator(drive_options(), "", 2) as simulator:
        for _ in range(2):
            plan = simulator.plan(16)
            chunk = chunk_with_car(plan)
            shown += [generated_actors() for _ in simulator.follow(plan, chunk)]
            driven.append(chunk.occupancy)
        scene = build_scene(concatenate(driven), tracks=simulator.shown_tracks)
    write_scene(scene, tmp_path / "scene", Provenance("drawn", (0,), "", "carlasc"))
    options = PlayOptions(ServerOptions("127.0.0.1", loopback.port, 60.0), props=20)
    with ScenePlayback(read_scene(tmp_path / "scene"), options) as playback:
        played = [generated_actors() for _ in playback.play()]
    assert [len(actors) for actors in shown] == [1] * 32
    for now, then in zip(played, shown, strict=True):
        ((blueprint, transform),) = now
        assert blueprint == then[0][0]
        np.testing.assert_allclose(transform[:3], then[0][1][:3], atol=0.01)
        np.testing.assert_allclose(transform[3:], then[0][1][3:], atol=0.1)


def test_an_ego_is_waited_for_no_faster_than_the_clock_where_that_is_asked_for(loopback, scene):
    slept = []
    server = ServerOptions("127.0.0.1", loopback.port, 60.0)
    options = PlayOptions(server, props=0, ego_within_s=2.0, realtime=True)
    with (
        ScenePlayback(scene, options, slept.append, lambda: sum(slept)) as playback,
        pytest.raises(SimulatorError, match="--wait-for-ego"),
    ):
        next(playback.play())
    assert sum(slept) == pytest.approx(2.0)


@pytest.mark.parametrize(("realtime", "slept_s"), [(True, 3.2), (False, 0.0)])
def test_a_scene_is_shown_no_faster_than_the_clock_where_that_is_asked_for(loopback, scene, realtime, slept_s):
    slept = []
    options = PlayOptions(ServerOptions("127.0.0.1", loopback.port, 60.0), props=0, realtime=realtime)
    # A clock that only sleeping moves.
    with ScenePlayback(scene, options, slept.append, lambda: sum(slept)) as playback:
        assert len(list(playback.play())) == 32
    assert sum(slept) == pytest.approx(slept_s)
    assert not slept or max(slept) == pytest.approx(0.1)


def test_the_player_says_where_the_ego_is_to_be_spawned(loopback, dyncity, finished, scene, scene_folder):
    code, said, complained = finished(dyncity("play", str(scene_folder), "--props", "0", "--timeout", "60"))
    assert code == 0, complained
    start = carla_from_pose(pose_of_car(scene.ego_poses_world_from_ego[0]))
    assert f"x {start.x_m:.2f}, y {start.y_m + 0.0:.2f}" in said
    assert f"32 frames of {len(scene.tracks)} actors shown; 0 found no room" in said.replace("\n", " ")
    assert loopback.inspector.actors() == []


def test_a_scene_s_road_is_the_server_s_world(loopback, scene, state_folder):
    loopback.inspector.fault("delay-waypoints", seconds=2.0)
    with ScenePlayback(scene, PlayOptions(ServerOptions("127.0.0.1", loopback.port, 60.0), props=0)) as playback:
        assert next(playback.play()).time_us == scene.times_us[0]


def test_an_ego_that_never_comes_is_said_so(loopback, dyncity, finished, scene_folder):
    code, _, complained = finished(dyncity("play", str(scene_folder), "--props", "0", "--wait-for-ego", "1"))
    assert code == 1
    assert "--wait-for-ego" in complained
    assert loopback.inspector.actors() == []


def test_a_folder_without_a_scene_is_refused(dyncity, finished, tmp_path):
    code, _, complained = finished(dyncity("play", str(tmp_path)))
    assert code == 2
    assert "scene.json" in complained
