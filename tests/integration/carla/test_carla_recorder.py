"""Recordings in CARLA, read back and held against what the loopback server says there was."""

import subprocess
import sys

import numpy as np
import pytest
from dyncity_carla.frames import CarlaTransform, mirrored_points, pose_from_carla

from dyncity_sim.dataset.carlasc import read_carlasc
from dyncity_sim.domain.frames import inverse, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC_RAW

MARGIN_M = 0.45
"""A cell whose centre is this far from a border is all on one side of it."""

REACH_M = 50.0
"""From the middle of the grid to its corner, and half a house."""

VEHICLE = CARLASC_RAW.index("vehicle")
GROUND_CLASS = {
    1: CARLASC_RAW.index("road"),
    2: CARLASC_RAW.index("sidewalk"),
    10: CARLASC_RAW.index("terrain"),
    25: CARLASC_RAW.index("ground"),
}
"""CarlaSC's class of each tag that the loopback's ground has."""

ROAD_LINE = CARLASC_RAW.index("road_line")

TRAFFIC = """
import sys
import carla
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(60.0)
world = client.get_world()
library = world.get_blueprint_library()
waypoints = [waypoint for waypoint in world.get_map().generate_waypoints(6.0) if not waypoint.is_junction]
start = next(waypoint for waypoint in waypoints if waypoint.next(40.0)).transform.location
made = 0
for number, waypoint in enumerate(waypoints):
    place = waypoint.transform
    away_m = place.location.distance(start)
    if away_m > 60.0 or (0.0 < away_m < 12.0) or number % 3 and away_m:
        continue
    place.location.z += 0.02
    name = "vehicle.tesla.model3" if away_m == 0.0 else ("vehicle.audi.tt", "vehicle.mercedes.sprinter")[number % 2]
    blueprint = library.find(name)
    blueprint.set_attribute("role_name", "hero" if away_m == 0.0 else "standing")
    actor = world.try_spawn_actor(blueprint, place)
    if actor is not None:
        actor.set_simulate_physics(False)
        made += 1
print(made)
"""


@pytest.fixture
def standing_traffic(loopback, state_folder):
    """An ego of another client, and vehicles on the streets around it."""

    done = subprocess.run(
        [sys.executable, "-c", TRAFFIC, str(loopback.port)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 5


@pytest.mark.usefixtures("every_town", "standing_traffic")
def test_a_carlasc_recording_is_the_world_where_it_was_observed(loopback, dyncity, finished, tmp_path):
    out, frames = tmp_path / "town", 18
    arguments = ["--minutes", str(frames / 600), "--lidars", "4", "--lidar-points", "6000", "--seed", "4"]
    code, said, complained = finished(dyncity("record", *arguments, "--format", "carlasc", "--out", str(out)), 600)
    assert code == 0, said + complained
    (folder,) = sorted(out.iterdir())
    sequence = read_carlasc(folder)
    assert len(sequence.occupancy) == frames
    assert (np.diff(sequence.occupancy.times_us) == 100_000).all()
    observed = sequence.occupancy.observed
    assert observed is not None
    assert observed.mean() > 0.02
    actors = [a for a in loopback.inspector.actors("vehicle.") if a["attributes"].get("role_name") != "hero"]
    things = [{**thing, "box_centre": [0, 0, 0], "box_extent": thing["extent"]} for thing in static_things(loopback)]
    of_vehicles = of_ground = 0
    for number in range(0, frames, 6):
        pose = sequence.occupancy.poses_world_from_ego[number]
        labels, seen = sequence.occupancy.labels[number], observed[number]
        centres = centres_in_world(pose)
        inside, near = in_boxes(centres, around(pose, actors))
        of_vehicles += int((inside & seen).sum())
        assert (labels[inside & seen] == VEHICLE).all()
        assert (sequence.instances[number][inside & seen] > 0).all()
        far = ~near & seen
        assert not (labels[far] == VEHICLE).any()
        bare = far & ~in_boxes(centres, around(pose, things))[1]
        of_ground += assert_ground_is_true(loopback, labels, bare, centres)
    assert of_vehicles > 50
    assert of_ground > 500


def static_things(loopback):
    """Poles and the like, which stand on the ground's cells."""
    return loopback.inspector.environment()


def around(pose, things):
    """Those that may reach into the grid around an ego."""
    x_m, y_m = mirrored_points(pose[:3, 3])[:2]
    return [t for t in things if np.hypot(t["transform"][0] - x_m, t["transform"][1] - y_m) < REACH_M]


def centres_in_world(pose):
    axes = np.meshgrid(*(CARLASC_GRID.centres(axis) for axis in range(3)), indexing="ij")
    return transform_points(pose, np.stack(axes, axis=-1).reshape(-1, 3)).reshape(*CARLASC_GRID.shape, 3)


def in_boxes(centres, actors):
    """Cells that lie in a vehicle by a margin, and those that may touch one."""
    inside, near = np.zeros(centres.shape[:3], bool), np.zeros(centres.shape[:3], bool)
    for actor in actors:
        pose = pose_from_carla(CarlaTransform(*actor["transform"]))
        pose[:3, 3] += pose[:3, :3] @ mirrored_points(np.array(actor["box_centre"]))
        local = np.abs(transform_points(inverse(pose), centres.reshape(-1, 3))).reshape(centres.shape)
        half = np.array(actor["box_extent"])
        inside |= (local <= half - 0.05).all(axis=-1)
        near |= (local <= half + MARGIN_M).all(axis=-1)
    return inside, near


def assert_ground_is_true(loopback, labels, far, centres):
    """Ground cells have the class of the ground in their middle, unless a border of it runs through them."""
    layer = int(CARLASC_GRID.indices(np.array([0.0, 0.0, -1.8]))[2])
    x, y = np.nonzero(far[:, :, layer] & (labels[:, :, layer] > 0))
    chosen = np.random.default_rng(0).permutation(len(x))[:250]
    x, y = x[chosen], y[chosen]
    offsets = 0.2 * np.array([[0, 0], [1, 1], [1, -1], [-1, 1], [-1, -1]])
    tags = []
    for offset in offsets:
        places = mirrored_points(centres[x, y, layer] + [*offset, 0.0])
        places[:, 2] += 5.0
        tags.append(loopback.inspector.ground(places.tolist())["tags"])
    same = (np.array(tags) == tags[0]).all(axis=0)
    compared = 0
    for row in np.nonzero(same)[0]:
        found = labels[x[row], y[row], layer]
        if found == ROAD_LINE or tags[0][row] not in GROUND_CLASS:
            continue
        assert found == GROUND_CLASS[tags[0][row]]
        compared += 1
    return compared


@pytest.mark.parametrize("option", ["--lidars", "--lidar-points"])
def test_a_recording_of_nothing_is_refused(dyncity, finished, tmp_path, option):
    code, _, complained = finished(dyncity("record", option, "0", "--out", str(tmp_path / "none")))
    assert code == 2
    assert option in complained.splitlines()[-1]


DEAD_END = """<OpenDRIVE><header revMajor="1" revMinor="4"/><road name="r" length="60" id="7" junction="-1">
<type s="0" type="town"><speed max="36" unit="km/h"/></type>
<planView><geometry s="0" x="0" y="0" hdg="0.5" length="60"><line/></geometry></planView>
<lanes><laneSection s="0"><center><lane id="0" type="none" level="false"/></center><right>
<lane id="-1" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right>
</laneSection></lanes></road></OpenDRIVE>"""


def test_a_recording_whose_road_ends_holds_what_was_driven_and_says_so(dyncity, finished, tmp_path):
    from dyncity_sim.dataset.store import Recording

    (tmp_path / "dead_end.xodr").write_text(DEAD_END, encoding="utf-8")
    arguments = ["--minutes", "2", "--lidars", "1", "--lidar-points", "320", "--timeout", "60"]
    arguments += ["--map", str(tmp_path / "dead_end.xodr")]
    code, _, complained = finished(dyncity("record", *arguments, "--out", str(tmp_path / "town")), 400)
    assert code == 0, complained
    recording = Recording.open(tmp_path / "town")
    assert 16 <= len(recording) < 1200
    said = " ".join(complained.split())
    assert f"{len(recording)} of 1200 frames: The ego's road ends" in said
    assert recording.meta.options["ended"].startswith("The ego's road ends")


def test_traffic_that_would_stand_still_in_another_client_s_ticks_is_refused(dyncity, finished, tmp_path):
    code, _, complained = finished(
        dyncity("record", "--traffic", "3", "--tick", "external", "--out", str(tmp_path / "none"))
    )
    assert code == 2
    assert "--traffic: got 3 with --tick external" in " ".join(complained.split())


def test_carla_s_own_traffic_drives_in_a_recording(loopback, dyncity, finished, map_file, tmp_path):
    from dyncity_sim.dataset.store import Recording

    arguments = ["--minutes", "0.05", "--lidars", "1", "--lidar-points", "1000", "--traffic", "3", "--timeout", "60"]
    code, _, complained = finished(dyncity("record", *arguments, "--out", str(tmp_path / "town")), 400)
    assert code == 0, complained
    recording = Recording.open(tmp_path / "town")
    assert len(recording) == 30
    assert (recording.meta.map, recording.meta.simulator) == (map_file.stem, "CARLA 0.9.16")
    assert loopback.inspector.actors() == []
