import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from dyncity_sumo.actors import KIND_CODES, ActorTable, no_actors
from dyncity_sumo.bodies import boxes_of
from dyncity_sumo.city import build_city, parking_spots
from dyncity_sumo.city.canvas import (
    BUILDING,
    POLE,
    ROAD,
    ROAD_LINE,
    SIDEWALK,
    TERRAIN,
    TRAFFIC_LIGHT,
    VEGETATION,
    WALL,
    Canvas,
    Frame,
)
from dyncity_sumo.city.parking import CLEAR_M
from dyncity_sumo.city.plan import plan_streets
from dyncity_sumo.city.raster import cells_inside
from dyncity_sumo.columns import StaticColumns, empty_columns
from dyncity_sumo.network import prepare_network
from dyncity_sumo.roads import Area, Junction, Lane, LaneKind, RoadNetwork, Signal, SignalKind, StopLine, Streets
from dyncity_sumo.scenery import build_scenery
from dyncity_sumo.visibility import count_samples, draw_rig
from dyncity_sumo.voxelise import voxelise
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC, MERGED_FROM_RAW
from dyncity_sim.errors import MapError

ARM_M = 110.0
JUNCTION_M = 11.0
CORNER_M = np.array([[5.7, 11.0], [9.7, 11.0], [11.0, 9.7], [11.0, 5.7], [7.0, 7.0]])

CARLASC_SHARES = {"road": 41.5, "sidewalk": 19.9, "ground": 15.4, "building": 7.5, "barrier": 5.9, "vegetation": 5.3}
"""Shares of seen, occupied voxels in CarlaSC, in per cent."""


def crossroads(grade=0.0) -> RoadNetwork:
    """Two streets that cross at the origin, each with driving, parking and sidewalk lanes both ways."""
    lanes = []
    for number, heading in enumerate(np.arange(4) * np.pi / 2):
        out = np.array([np.cos(heading), np.sin(heading)])
        for way, forward in (("out", out), ("in", -out)):
            right = np.array([forward[1], -forward[0]])
            edge = f"{way}{number}"
            offsets = ((LaneKind.SIDEWALK, 7.7, 4.0), (LaneKind.PARKING, 4.6, 2.2), (LaneKind.DRIVING, 1.75, 3.5))
            for index, (kind, offset_m, width_m) in enumerate(offsets):
                ends = [JUNCTION_M, ARM_M] if way == "out" else [ARM_M, JUNCTION_M]
                points = [distance * out + offset_m * right for distance in ends]
                lanes.append(Lane(f"{edge}_{index}", edge, kind, raised(points, grade), width_m, 8.3))
        right = np.array([out[1], -out[0]])
        through = [-JUNCTION_M * out + 1.75 * right, JUNCTION_M * out + 1.75 * right]
        lanes.append(Lane(f":j_{number}_0", f":j_{number}", LaneKind.INTERNAL, raised(through, grade), 3.5, 8.3))
        zebra = [(JUNCTION_M - 2) * out - 5.7 * right, (JUNCTION_M - 2) * out + 5.7 * right]
        lanes.append(Lane(f":j_c{number}_0", f":j_c{number}", LaneKind.CROSSING, raised(zebra, grade), 4.0, 1.4))
    square = raised(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * JUNCTION_M, grade)
    corners = [
        Area(
            f":j_w{n}",
            LaneKind.WALKING_AREA,
            raised(np.array([[5.7, 11], [9.7, 11], [11, 9.7], [11, 5.7], [7, 7]]) @ turn, grade),
        )
        for n, turn in enumerate(quarter_turns())
    ]
    signal = Signal(np.array([11.0, 6.3, grade * 11]), np.pi, SignalKind.TRAFFIC_LIGHT)
    line = StopLine(np.array([11.0, 3.5, grade * 11]), np.array([11.0, 0.0, grade * 11]))
    return RoadNetwork(
        "crossroads",
        tuple(sorted(lanes, key=lambda lane: lane.id)),
        (Junction("j", square, "traffic_light"),),
        tuple(corners),
        (signal,),
        (line,),
        "",
        Path("crossroads.net.xml"),
        "",
    )


def street(edge, points, kind=LaneKind.DRIVING, index=0) -> Lane:
    return Lane(f"{edge}_{index}", edge, kind, np.array(points, dtype=float), 3.2, 13.9)


def streets(*lanes) -> Streets:
    return Streets("one", lanes, (), (), (), ())


def raised(points, grade):
    points = np.asarray(points, dtype=float)
    return np.column_stack([points, grade * points[:, 0]])


def quarter_turns():
    return [np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in np.arange(4) * np.pi / 2]


def digest(columns: StaticColumns) -> str:
    hasher = hashlib.sha256(columns.origin_m.tobytes())
    for name in ("ground_class", "ground_cm", "span_class", "span_lo_dm", "span_hi_dm"):
        hasher.update(getattr(columns, name).tobytes())
    return hasher.hexdigest()


def along(lane: Lane, from_m: float, to_m: float, step_m: float = 0.5):
    line = shapely.linestrings(lane.centreline_m[:, :2])
    return shapely.get_coordinates(shapely.line_interpolate_point(line, np.arange(from_m, to_m, step_m)))


@pytest.fixture(scope="module")
def city():
    return build_city(crossroads(), np.random.default_rng(3))


@pytest.fixture
def canvas():
    canvas = Canvas(empty_columns(np.zeros(2), np.full(2, 20.0)))
    canvas.columns.ground_class[...] = TERRAIN
    return canvas


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
def test_a_cell_is_inside_a_polygon_when_its_centre_is(seed, corners):
    rng = np.random.default_rng(seed)
    ring = rng.uniform(-5, 35, (corners, 2))
    filled = np.zeros((30, 24), bool)
    patch = cells_inside([ring], filled.shape)
    filled[patch.window] = patch.inside
    x, y = np.meshgrid(np.arange(30) + 0.5, np.arange(24) + 0.5, indexing="ij")
    polygon = shapely.polygons(ring)
    winding = Outline(np.vstack([ring, ring[:1]])).contains_points(np.column_stack([x.ravel(), y.ravel()]))
    expected = winding.reshape(filled.shape)
    if shapely.is_valid(polygon):
        np.testing.assert_array_equal(filled, expected)
    else:
        assert not (filled & ~expected).any()


def test_holes_of_a_polygon_stay_empty():
    outer = np.array([[2, 2], [12, 2], [12, 12], [2, 12]], float)
    inner = np.array([[5, 5], [8, 5], [8, 8], [5, 8]], float)
    patch = cells_inside([outer, inner], (20, 20))
    assert patch.inside.sum() == 100 - 9


def test_a_polygon_off_the_raster_has_no_cells():
    patch = cells_inside([np.array([[30, 30], [40, 30], [40, 40]], float)], (20, 20))
    assert not patch.inside.any()


def test_a_column_keeps_its_first_two_spans(canvas):
    frame = Frame(np.array([5.0, 5.0]), np.array([1.0, 0.0]))
    for label, z_m in ((WALL, (0.0, 1.0)), (BUILDING, (2.0, 3.0)), (VEGETATION, (4.0, 5.0))):
        canvas.box(frame, (0.0, 2.0), (0.0, 2.0), label, z_m)
    cell = tuple(canvas.columns.index_of(np.array([6.0, 6.0])))
    np.testing.assert_array_equal(canvas.columns.span_class[cell], [WALL, BUILDING])
    np.testing.assert_array_equal(canvas.columns.span_lo_dm[cell], [0, 20])
    np.testing.assert_array_equal(canvas.columns.span_hi_dm[cell], [10, 30])


def test_a_crown_hangs_over_a_fence_but_not_inside_a_house(canvas):
    frame = Frame(np.array([5.0, 5.0]), np.array([1.0, 0.0]))
    canvas.box(frame, (0.0, 1.0), (0.0, 1.0), WALL, (0.0, 1.0))
    canvas.box(frame, (1.0, 2.0), (0.0, 1.0), BUILDING, (0.0, 9.0))
    canvas.hang(canvas.disc(np.array([6.0, 5.5]), 3.0), VEGETATION, 2.2, 6.0)
    over_fence, over_house = (tuple(canvas.columns.index_of(np.array([x, 5.5]))) for x in (5.5, 6.5))
    assert canvas.columns.span_class[over_fence][1] == VEGETATION
    assert canvas.columns.span_class[over_house][1] == 0


def test_what_hangs_leaves_the_ground_free_and_what_stands_does_not(canvas):
    patch = canvas.disc(np.array([5.0, 5.0]), 1.0)
    canvas.hang(patch, VEGETATION, 2.2, 6.0)
    assert canvas.free(patch, (TERRAIN,))
    canvas.solid(patch, VEGETATION, 0.0, 1.0)
    assert not canvas.free(patch, (TERRAIN,))


def test_driving_lanes_are_asphalt_and_clear_of_everything(city):
    for lane in crossroads().lanes_of(LaneKind.DRIVING, LaneKind.INTERNAL):
        points_m = along(lane, 1.2, lane.length_m - 1.2)
        for offset_m in ((0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            i, j = city.index_of(points_m + offset_m).T
            assert np.isin(city.ground_class[i, j], (ROAD, ROAD_LINE)).all(), lane.id
            standing = (city.span_class[i, j] != 0) & (city.span_lo_dm[i, j] < 20)
            assert not standing.any(), lane.id


def test_sidewalks_lie_beside_the_road_a_kerb_higher(city):
    for lane in crossroads().lanes_of(LaneKind.SIDEWALK):
        i, j = city.index_of(along(lane, 10.0, lane.length_m - 10.0)).T
        # Trees along the kerb stand in small pits of earth.
        assert (city.ground_class[i, j] == SIDEWALK).mean() > 0.85
        assert (city.ground_cm[i, j] == 12).mean() > 0.85


def test_crossings_and_stop_lines_are_marked(city):
    for point in ([9.0, 0.3], [11.2, 1.7]):
        i, j = city.index_of(np.array(point))
        assert (city.ground_class[i - 6 : i + 7, j - 6 : j + 7] == ROAD_LINE).any()


def test_nothing_stands_on_crossings_and_the_corners_before_them(city):
    for lane in crossroads().lanes_of(LaneKind.CROSSING):
        forward = lane.centreline_m[-1, :2] - lane.centreline_m[0, :2]
        forward /= np.linalg.norm(forward)
        tail, head = lane.centreline_m[0, :2] - 2.5 * forward, lane.centreline_m[-1, :2] + 2.5 * forward
        for share in np.linspace(0, 1, 60):
            i, j = city.index_of(tail + share * (head - tail))
            spans = city.span_class[i, j]
            assert not ((spans != 0) & (spans != POLE) & (city.span_lo_dm[i, j] < 20)).any()


def test_a_traffic_light_hangs_on_its_post(city):
    i, j = city.index_of(np.array([11.0, 6.3]))
    np.testing.assert_array_equal(city.span_class[i, j], [POLE, TRAFFIC_LIGHT])
    assert city.span_lo_dm[i, j, 1] == city.span_hi_dm[i, j, 0]


def test_streets_are_lined_with_houses_trees_and_boundaries(city):
    present = set(np.unique(city.span_class))
    assert {BUILDING, VEGETATION, POLE} <= present
    built = (city.span_class[..., 0] == BUILDING).sum() * city.cell_m**2
    assert built > 2000


def test_every_span_has_a_height_and_ground_below_it(city):
    there = city.span_class != 0
    assert (city.span_hi_dm[there] > city.span_lo_dm[there]).all()
    assert not there[city.ground_class == 0].any()
    assert not there[..., 1][~there[..., 0]].any()


def test_roads_keep_the_height_of_their_lanes_on_a_slope():
    network = crossroads(grade=0.03)
    columns = build_city(network, np.random.default_rng(3))
    for lane in network.lanes_of(LaneKind.DRIVING):
        points_m = along(lane, 5.0, lane.length_m - 5.0)
        i, j = columns.index_of(points_m).T
        assert np.abs(columns.ground_cm[i, j] - 3.0 * points_m[:, 0]).max() <= 6, lane.id


def test_roads_higher_than_columns_can_hold_are_refused():
    with pytest.raises(MapError, match=r"crossroads: ground from .* to \d+ m"):
        build_city(crossroads(grade=4.0), np.random.default_rng(3))


def test_a_town_larger_than_memory_is_refused():
    lanes = [street("a", [(0, 0, 0), (12_000, 12_000, 0)]), street("b", [(12_000, 12_000, 0), (0, 0, 0)])]
    with pytest.raises(MapError, match=r"one: 12\.1 by 12\.1 km"):
        build_city(streets(*lanes), np.random.default_rng(3))


def test_a_street_without_junctions_is_built():
    columns = build_city(streets(street("a", [(0, 0, 0), (80, 0, 0)])), np.random.default_rng(3))
    assert columns.ground_class[tuple(columns.index_of(np.array([40.0, 0.0])))] == ROAD


def test_a_bus_lane_makes_no_highway_of_a_street_and_a_shoulder_does():
    beside = {kind: street("a", [(0, -3, 0), (80, -3, 0)], kind, 1) for kind in (LaneKind.RESERVED, LaneKind.SHOULDER)}
    plans = {
        kind: plan_streets(streets(street("a", [(0, 0, 0), (80, 0, 0)]), lane), np.random.default_rng(3))
        for kind, lane in beside.items()
    }
    assert plans[LaneKind.RESERVED].highway.is_empty
    assert plans[LaneKind.RESERVED].pavement.area > 400
    assert plans[LaneKind.SHOULDER].highway.area > 400


def test_what_is_on_another_road_than_the_built_ground_is_not_shown():
    bridge = [(0, -100, 0), (0, -20, 6), (0, 20, 6), (0, 100, 0)]
    scenery = build_scenery(streets(street("a", [(-100, 0, 0), (100, 0, 0)]), street("b", bridge)), 3)
    places_m = np.array([[-90.0, 0, 0], [0, -95, 0.375], [0, 0, 6], [0, 0, 0], [0, -40, 4.5], [900, 0, 50]])
    assert scenery.carries(places_m).tolist() == [True, True, False, False, True, True]
    car = ActorTable(
        np.array([1], np.uint16), np.array([KIND_CODES[ActorKind.CAR]], np.uint8), np.array([[0.0, -4.0, 6.75]]),
        np.zeros(1), np.array([[4.5, 1.8, 1.5]]), np.zeros(1),
    )  # fmt: skip
    rig = draw_rig(np.random.default_rng(1))
    for height_m, shown in ((scenery.ground_m(np.array([0.0, -4.0]), 0.0), True), (6.0, False)):
        moving = replace(car, centres_m=car.centres_m * [1, 1, 0] + [0, 0, height_m + 0.75])
        pose = poses_from_planar(np.array([0.0, -14.0, np.pi / 2]), height_m + LIDAR_HEIGHT_M)
        assert bool(scenery.frame(pose, moving, rig, 0, CARLASC_GRID).actors) == shown


def test_the_ground_away_from_roads_is_smooth_and_never_sinks_below_them(city):
    terrain = (city.ground_class == TERRAIN) & (np.roll(city.ground_class, 1, axis=0) == TERRAIN)
    steps_cm = np.abs(np.diff(city.ground_cm.astype(int), axis=0))[terrain[1:]]
    assert steps_cm.max() <= 6
    assert city.ground_cm[city.ground_class != 0].min() >= 0


def test_another_seed_builds_another_city(city):
    assert digest(city) != digest(build_city(crossroads(), np.random.default_rng(4)))


def test_the_same_seed_builds_the_same_city_in_another_process(city):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import numpy as np, test_city\n"
        "print(test_city.digest(test_city.build_city(test_city.crossroads(), np.random.default_rng(3))))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == digest(city)


def test_kerbs_enclose_the_blocks_and_corners_cover_the_junction():
    plan = plan_streets(crossroads(), np.random.default_rng(0))
    assert shapely.contains_xy(plan.corners, 0.0, 0.0)
    assert shapely.intersection(plan.pavement, plan.asphalt).area < 1.0
    for block in plan.blocks:
        assert shapely.intersection(block, plan.asphalt).area < 0.1


def test_streets_whose_sides_have_corners_without_a_turn_are_planned_in_silence(tmp_path):
    network = prepare_network("generated:grid", 0, tmp_path)
    plan = plan_streets(network, np.random.default_rng([0, 1]).spawn(2)[0])
    assert plan.blocks


def test_parked_cars_stand_in_parking_lanes_away_from_the_ends():
    network = crossroads()
    spots = parking_spots(network, np.random.default_rng(1))
    assert len(spots) > 20
    lanes = network.lanes_of(LaneKind.PARKING)
    lines = [shapely.linestrings(lane.centreline_m[:, :2]) for lane in lanes]
    for x_m, y_m, yaw_rad in spots:
        point = shapely.points(x_m, y_m)
        distances_m = [shapely.distance(line, point) for line in lines]
        nearest = int(np.argmin(distances_m))
        assert distances_m[nearest] < 0.05
        at_m = shapely.line_locate_point(lines[nearest], point)
        assert CLEAR_M <= at_m <= lines[nearest].length - CLEAR_M
        step = lanes[nearest].centreline_m[-1] - lanes[nearest].centreline_m[0]
        assert np.cos(yaw_rad - np.arctan2(step[1], step[0])) > 0.999


def test_parked_cars_never_overlap():
    spots = parking_spots(crossroads(), np.random.default_rng(2))
    gaps_m = np.linalg.norm(spots[:, None, :2] - spots[None, :, :2], axis=-1) + 100 * np.eye(len(spots))
    assert gaps_m.min() > 5.0


@pytest.mark.slow
def test_what_sensors_see_of_a_town_is_mixed_as_in_carlasc(tmp_path):
    pytest.importorskip("sumo", reason="eclipse-sumo is not installed")
    network = prepare_network("generated:spider", 2, tmp_path)
    rng = np.random.default_rng(5)
    columns = build_city(network, rng)
    lanes = network.lanes_of(LaneKind.DRIVING)
    lengths_m = np.array([lane.length_m for lane in lanes])
    seen = np.zeros(len(CARLASC))
    for lane in rng.choice(np.array(lanes, dtype=object), 40, p=lengths_m / lengths_m.sum()):
        place_m = along(lane, rng.uniform(0, lane.length_m), lane.length_m + 1, 5.0)[0]
        step = lane.centreline_m[-1] - lane.centreline_m[0]
        i, j = columns.index_of(place_m)
        height_m = columns.ground_cm[i, j] / 100 + LIDAR_HEIGHT_M
        pose = poses_from_planar(np.array([*place_m, np.arctan2(step[1], step[0])]), height_m)
        labels = voxelise(columns, boxes_of(no_actors()), pose, CARLASC_GRID).labels
        counts = count_samples(labels, draw_rig(rng), CARLASC_GRID)
        seen += np.bincount(MERGED_FROM_RAW[labels][counts > 0], minlength=len(CARLASC))
    shares = 100 * seen / seen[1:].sum()
    for name, target in CARLASC_SHARES.items():
        assert target / 2 < shares[CARLASC.index(name)] < target * 2, name
