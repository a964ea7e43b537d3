import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from dyncity_sumo import network as network_module
from dyncity_sumo.netfile import read_net
from dyncity_sumo.network import CARLA_ATTRIBUTION, OSM_ATTRIBUTION, prepare_network
from dyncity_sumo.roads import LaneKind, SignalKind
from scipy.spatial import cKDTree

from dyncity_sim.errors import MapError, MissingExtraError
from dyncity_sim.scene.road.opendrive import reference_line, roads_of

pytest.importorskip("sumo", reason="eclipse-sumo is not installed")

CARLA_MAPS = Path(__file__).parents[4] / "shared" / "maps" / "carla"

ONE_STREET = """<net>
  <location netOffset="5.00,-7.00" convBoundary="0,0,100,0" origBoundary="0,0,1,1" projParameter="!"/>
  <edge id=":j_0" function="internal"><lane id=":j_0_0" index="0" speed="9" length="4" shape="100,0 104,0"/></edge>
  <edge id=":j_w0" function="walkingarea">
    <lane id=":j_w0_0" index="0" allow="pedestrian" speed="1" length="4" width="3" shape="100,-3 104,-3 104,-6"/>
  </edge>
  <edge id="a" from="i" to="j">
    <lane id="a_0" index="0" allow="pedestrian" speed="2" length="100" width="3.00" shape="0,-6.7 100,-6.7"/>
    <lane id="a_1" index="1" disallow="all" speed="9" length="100" width="2.20" type="parking" shape="0,-4 100,-4"/>
    <lane id="a_2" index="2" disallow="pedestrian tram" speed="9" length="100" shape="0,-1.6 50,-1.6,1 100,-1.6,2"/>
    <lane id="a_3" index="3" allow="rail" speed="9" length="100" shape="0,9 100,9"/>
    <lane id="a_4" index="4" allow="bus taxi" speed="9" length="100" shape="0,6 100,6"/>
    <lane id="a_5" index="5" allow="bicycle" speed="9" length="100" shape="0,3 100,3"/>
  </edge>
  <edge id="b" from="j" to="k"><lane id="b_0" index="0" speed="14" length="90" shape="104,-1.6 194,-1.6"/></edge>
  <junction id="j" type="priority" x="100" y="0" incLanes="" intLanes="" shape="100,0 104,0 104,-6 100,-6"/>
  <junction id="end" type="dead_end" x="194" y="0" incLanes="" intLanes="" shape="194,0"/>
  <connection from="a" to="b" fromLane="2" toLane="0" via=":j_0_0" dir="s" state="s"/>
</net>"""


@pytest.fixture(scope="module")
def spider(tmp_path_factory):
    return prepare_network("generated:spider", 7, tmp_path_factory.mktemp("spider"))


@pytest.fixture
def one_street(tmp_path):
    file = tmp_path / "street.net.xml"
    file.write_text(ONE_STREET)
    return read_net(file, "street")[0]


def test_lanes_are_told_apart_by_who_may_use_them(one_street):
    assert {lane.id: lane.kind for lane in one_street.lanes} == {
        ":j_0_0": LaneKind.INTERNAL,
        "a_0": LaneKind.SIDEWALK,
        "a_1": LaneKind.PARKING,
        "a_2": LaneKind.DRIVING,
        "a_4": LaneKind.RESERVED,
        "a_5": LaneKind.BICYCLE,
        "b_0": LaneKind.DRIVING,
    }


def test_heights_and_default_widths_are_read(one_street):
    lane = next(lane for lane in one_street.lanes if lane.id == "a_2")
    np.testing.assert_array_equal(lane.centreline_m, [[0, -1.6, 0], [50, -1.6, 1], [100, -1.6, 2]])
    assert lane.width_m == 3.2


def test_areas_and_junctions_with_an_outline_are_kept(one_street):
    assert [area.id for area in one_street.areas] == [":j_w0"]
    assert [junction.id for junction in one_street.junctions] == ["j"]


def test_a_stop_sign_stands_to_the_right_of_the_outermost_lane(one_street):
    stop = next(signal for signal in one_street.signals if signal.kind is SignalKind.STOP)
    assert stop.yaw_rad == pytest.approx(0.0)
    np.testing.assert_allclose(stop.position_m, [100.0, -4.0 - 1.1 - 0.6, 0.0])


def test_a_stop_line_crosses_its_lane_from_right_to_left(one_street):
    (line,) = one_street.stop_lines
    np.testing.assert_allclose(line.from_m, [100, -3.2, 2])
    np.testing.assert_allclose(line.to_m, [100, 0.0, 2])


def test_a_speed_sign_stands_where_the_limit_changes(one_street):
    signs = [signal for signal in one_street.signals if signal.kind is SignalKind.SPEED]
    assert [sign.position_m[0] for sign in signs] == [pytest.approx(119.0)]


def test_a_generated_town_has_streets_for_everyone(spider):
    kinds = Counter(lane.kind for lane in spider.lanes)
    for kind in (LaneKind.DRIVING, LaneKind.SIDEWALK, LaneKind.CROSSING, LaneKind.INTERNAL, LaneKind.PARKING):
        assert kinds[kind] > 10, kind
    assert {signal.kind for signal in spider.signals} >= {SignalKind.TRAFFIC_LIGHT, SignalKind.YIELD}
    assert spider.attribution == ""


def is_on_the_roads_of(network):
    """Whether nearly all roads of a network's OpenDRIVE document begin and end at its lanes."""
    ends_m = [reference_line(road, np.array([0.0, float(road.get("length"))])) for road in roads_of(network.opendrive)]
    lanes_m = np.concatenate([lane.centreline_m for lane in network.lanes])[:, :2]
    away_m, _ = cKDTree(lanes_m).query(np.concatenate(ends_m)[:, :2])
    return bool((away_m < 25.0).mean() > 0.9)


def test_the_opendrive_document_of_a_net_lies_on_its_lanes(spider):
    header = ElementTree.fromstring(spider.opendrive).find("header")
    points_m = np.concatenate([lane.centreline_m for lane in spider.lanes_of(LaneKind.DRIVING)])[:, :2]
    assert points_m.min(axis=0) == pytest.approx([float(header.get("west")), float(header.get("south"))], abs=15)
    assert points_m.max(axis=0) == pytest.approx([float(header.get("east")), float(header.get("north"))], abs=15)
    assert is_on_the_roads_of(spider)


def test_an_opendrive_map_is_moved_to_where_its_net_lies(pytestconfig, tmp_path):
    file = pytestconfig.rootpath / "tests" / "data" / "ring_road.xodr"
    ring = prepare_network(str(file), 1, tmp_path)
    assert is_on_the_roads_of(ring)
    assert not is_on_the_roads_of(replace(ring, opendrive=file.read_text()))


def test_the_seed_decides_a_generated_town(tmp_path, spider):
    again = prepare_network("generated:spider", 7, tmp_path)
    other = prepare_network("generated:spider", 8, tmp_path)
    assert again.opendrive == spider.opendrive
    assert re.sub("<!--.*?-->", "", again.net_file.read_text(), flags=re.DOTALL) == re.sub(
        "<!--.*?-->", "", spider.net_file.read_text(), flags=re.DOTALL
    )
    assert other.opendrive != spider.opendrive


def test_berlin_is_credited_and_has_parking_lanes(tmp_path):
    berlin = prepare_network("berlin", 1, tmp_path)
    assert berlin.attribution == OSM_ATTRIBUTION
    assert len(berlin.lanes_of(LaneKind.PARKING)) > 100
    assert len(berlin.lanes_of(LaneKind.CROSSING)) > 100


@pytest.mark.parametrize("town", ["Town01", "Town02", "Town04", "Town06"])
def test_carla_towns_keep_shoulders_closed_to_cars(town, tmp_path):
    file = CARLA_MAPS / f"{town}.xodr"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    network = prepare_network(str(file), 1, tmp_path)
    assert network.attribution == CARLA_ATTRIBUTION
    assert network.lanes_of(LaneKind.SHOULDER)
    if town != "Town06":
        assert network.lanes_of(LaneKind.CROSSING)
    assert is_on_the_roads_of(network)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("atlantis", "berlin, braunschweig"),
        ("generated:hexagon", "generated:grid"),
        ("missing.xodr", "a file that exists"),
        ("missing.net.xml", "a readable file"),
    ],
)
def test_an_unknown_map_is_refused_by_name(spec, message, tmp_path):
    with pytest.raises(MapError, match=message) as refusal:
        prepare_network(spec, 1, tmp_path)
    assert spec in str(refusal.value)


@pytest.mark.parametrize(
    "content", ["not xml", "<net><edge", "<osm/>", "<net/>", "<net><edge id='a'><lane/></edge></net>"]
)
def test_a_broken_net_is_refused_by_name(content, tmp_path):
    file = tmp_path / "broken.net.xml"
    file.write_text(content)
    with pytest.raises(MapError, match=re.escape(str(file))):
        prepare_network(str(file), 1, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("<net>", '<net lefthand="true">', "keeps right"),
        ('shape="0,-4 100,-4"', 'shape="nan,-4 100,-4"', "a_1 centreline_m"),
        ('width="2.20"', 'width="-2.20"', "a_1 width_m"),
    ],
)
def test_a_net_that_cannot_be_driven_is_refused_by_file_and_reason(right, wrong, message, tmp_path):
    file = tmp_path / "odd.net.xml"
    file.write_text(ONE_STREET.replace(right, wrong))
    with pytest.raises(MapError, match=message) as refusal:
        read_net(file, "odd")
    assert str(file) in str(refusal.value)


def test_lanes_beside_the_traffic_are_told_from_those_of_buses(tmp_path):
    file = tmp_path / "street.net.xml"
    file.write_text(ONE_STREET.replace('allow="bus taxi"', 'disallow="all" type="shoulder"'))
    assert {lane.kind for lane in read_net(file, "street")[0].lanes if lane.id == "a_4"} == {LaneKind.SHOULDER}


def test_a_cut_off_opendrive_file_is_refused_by_name(tmp_path):
    file = tmp_path / "broken.xodr"
    file.write_text('<OpenDRIVE><header revMajor="1"')
    with pytest.raises(MapError, match=re.escape(str(file))):
        prepare_network(str(file), 1, tmp_path)


def test_an_opendrive_map_whose_traffic_keeps_left_is_refused(spider, tmp_path):
    file = tmp_path / "london.xodr"
    file.write_text(spider.opendrive.replace("<road ", '<road rule="LHT" ', 1))
    with pytest.raises(MapError, match=f"{re.escape(str(file))}: left-hand traffic.* keeps right"):
        prepare_network(str(file), 1, tmp_path)


def test_a_net_of_footpaths_is_refused(tmp_path):
    file = tmp_path / "path.net.xml"
    file.write_text(
        re.sub(r'disallow="pedestrian tram"|(?<=<lane id="b_0" index="0")', ' allow="pedestrian"', ONE_STREET)
    )
    with pytest.raises(MapError):
        prepare_network(str(file), 1, tmp_path)


def test_without_sumo_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(network_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install '.[sumo]'")):
        prepare_network("generated:grid", 1, tmp_path)


def test_generated_streets_keep_their_profile_over_junctions(spider):
    widths: dict[str, list[float]] = {}
    for lane in spider.lanes_of(LaneKind.SIDEWALK):
        widths.setdefault(lane.edge_id, []).append(lane.width_m)
    # A spider's arm is one street: the edges between circles share their cross-section with those that go on.
    assert len({tuple(w) for w in widths.values()}) < len(widths) / 2
    assert all(math.isclose(w % 0.5, 0, abs_tol=1e-9) for side in widths.values() for w in side)


@pytest.mark.parametrize("name", ["a,b.net.xml", "ring,road.xodr", "x${HOME}.net.xml"])
def test_paths_that_sumo_s_tools_take_apart_are_refused_in_plain_words(name, tmp_path):
    with pytest.raises(MapError, match=r"map: got .*a path without ',' and '\$\{'"):
        prepare_network(str(tmp_path / name), 0, tmp_path)
    folder = tmp_path / "of,mine"
    folder.mkdir()
    with pytest.raises(MapError, match=r"folder for temporary files: got .*of,mine"):
        prepare_network("generated:grid", 0, folder)
