"""Generated towns: a bare street pattern from netgenerate, dressed as streets with lanes, kerbs and rights of way.

``netgenerate`` lays out nodes and edges; this module rewrites its plain XML so that each street has a profile
(lanes, parking, cycle lane, sidewalks, speed) that it keeps over its junctions, and each node a right of way, a
radius and, in some towns, a height on a gently rolling ground.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64

LAYOUTS = ("grid", "spider", "random")
"""Street patterns that can be generated."""

STRAIGHT_ON_RAD = math.radians(20)
"""Two edges at a node belong to one street when it bends by less."""

PARKING_LANE_M = 2.2
PARKING_SPEED_MPS = 14.0
"""On faster streets (over 50 km/h) nobody parks."""

MAPPED_SIDEWALK_M = 3.0
MAPPED_LANE_M = 3.4
MAPPED_PARKING_SHARE = 0.6
"""Share of the street sides of a map that get a parking lane."""

ROLLING_AMPLITUDE_M = 0.45
"""Height of each of the three waves that make rolling ground; grades stay under about 1.5 %, so that the road stays
in the three metres of height that a frame shows."""


@dataclass(frozen=True)
class Profile:
    """Cross-section of one direction of a street, from the kerb to the middle.

    Attributes:
        sidewalk_m: width of the sidewalk.
        cycle_lane_m: width of the cycle lane, 0 for none.
        parking_m: width of the parking lane, 0 for none.
        lanes: driving lanes.
        lane_m: width of each.
        speed_mps: speed limit.
    """

    sidewalk_m: float
    cycle_lane_m: float
    parking_m: float
    lanes: int
    lane_m: float
    speed_mps: float


def layout_options(layout: str, rng: np.random.Generator) -> list[str]:
    """Options of netgenerate for one town of this layout."""
    if layout == "grid":
        return [
            "--grid",
            f"--grid.x-number={rng.integers(5, 8)}",
            f"--grid.y-number={rng.integers(5, 7)}",
            f"--grid.x-length={rng.integers(100, 161)}",
            f"--grid.y-length={rng.integers(90, 131)}",
            f"--grid.attach-length={rng.integers(60, 101)}",
            f"--perturb-x=normc(0,{rng.integers(0, 11)},-20,20)",
            f"--perturb-y=normc(0,{rng.integers(0, 11)},-20,20)",
        ]
    if layout == "spider":
        return [
            "--spider",
            f"--spider.arm-number={rng.integers(6, 10)}",
            f"--spider.circle-number={rng.integers(3, 5)}",
            f"--spider.space-radius={rng.integers(95, 126)}",
            f"--spider.attach-length={rng.integers(60, 101)}",
            "--spider.omit-center",
        ]
    return [
        "--rand",
        f"--rand.iterations={rng.integers(32, 46)}",
        "--rand.max-distance=190",
        "--rand.min-distance=90",
        "--rand.min-angle=50",
        "--rand.connectivity=0.95",
    ]


def dress(prefix: Path, rng: np.random.Generator) -> None:
    """Rewrite ``<prefix>.nod.xml`` and ``<prefix>.edg.xml`` in place."""
    node_file, edge_file = Path(f"{prefix}.nod.xml"), Path(f"{prefix}.edg.xml")
    nodes, edges = ElementTree.parse(node_file), ElementTree.parse(edge_file)
    _dress_nodes(nodes.getroot(), edges.getroot(), rng)
    _dress_edges(nodes.getroot(), edges.getroot(), rng)
    nodes.write(node_file, encoding="utf-8", xml_declaration=True)
    edges.write(edge_file, encoding="utf-8", xml_declaration=True)


def add_kerbside(prefix: Path, rng: np.random.Generator) -> None:
    """Give the streets of ``<prefix>.edg.xml`` wider sidewalks and lanes, and many of them a parking lane.

    Maps rarely hold either: what is drawn there is a line with a number of lanes.
    """
    file = Path(f"{prefix}.edg.xml")
    edges = ElementTree.parse(file)
    for edge in edges.getroot().findall("edge"):
        lanes = edge.findall("lane")
        if len(lanes) < 2 or lanes[0].get("allow") != "pedestrian":
            continue
        lanes[0].set("width", f"{MAPPED_SIDEWALK_M:.2f}")
        for lane in lanes[1:]:
            lane.set("width", f"{MAPPED_LANE_M:.2f}")
        if rng.random() < MAPPED_PARKING_SHARE and float(edge.attrib["speed"]) < PARKING_SPEED_MPS:
            for lane in lanes[1:]:
                lane.set("index", str(int(lane.attrib["index"]) + 1))
            parking = {"index": "1", "width": f"{PARKING_LANE_M:.2f}", "disallow": "all", "type": "parking"}
            edge.insert(list(edge).index(lanes[1]), ElementTree.Element("lane", parking))
            edge.set("numLanes", str(len(lanes) + 1))
    edges.write(file, encoding="utf-8", xml_declaration=True)


def _dress_nodes(nodes: ElementTree.Element, edges: ElementTree.Element, rng: np.random.Generator) -> None:
    rolling = _rolling_ground(rng)
    hilly = bool(rng.random() < 0.3)
    degree: dict[str, int] = {}
    for edge in edges.findall("edge"):
        degree[edge.attrib["from"]] = degree.get(edge.attrib["from"], 0) + 1
    for node in sorted(nodes.findall("node"), key=lambda node: node.attrib["id"]):
        draw, radius_m = rng.random(), rng.uniform(4.0, 8.0)
        if degree.get(node.attrib["id"], 0) <= 2:
            kind = "priority"
        elif draw < 0.5:
            kind = "traffic_light"
        elif draw < 0.7:
            kind = "priority"
        elif draw < 0.85:
            kind = "allway_stop"
        else:
            kind = "right_before_left"
        node.set("type", kind)
        node.set("radius", f"{radius_m:.1f}")
        if hilly:
            node.set("z", f"{rolling(float(node.attrib['x']), float(node.attrib['y'])):.2f}")


class _RollingGround:
    def __init__(self, waves: Float64[np.ndarray, "W 3"]) -> None:
        self.waves = waves

    def __call__(self, x_m: float, y_m: float) -> float:
        phases = self.waves[:, 0] * x_m + self.waves[:, 1] * y_m + self.waves[:, 2]
        return float(ROLLING_AMPLITUDE_M * np.sin(phases).sum())


def _rolling_ground(rng: np.random.Generator) -> _RollingGround:
    """A sum of three plane waves of 350 to 700 m."""
    headings, lengths_m, phases = rng.uniform(0, 2 * np.pi, 3), rng.uniform(350, 700, 3), rng.uniform(0, 2 * np.pi, 3)
    wave_numbers = 2 * np.pi / lengths_m
    return _RollingGround(np.stack([wave_numbers * np.cos(headings), wave_numbers * np.sin(headings), phases], axis=1))


def _dress_edges(nodes: ElementTree.Element, edges: ElementTree.Element, rng: np.random.Generator) -> None:
    places = {
        node.attrib["id"]: np.array([float(node.attrib[axis]) for axis in "xy"]) for node in nodes.findall("node")
    }
    street_of = _streets(places, edges)
    profiles = {street: _draw_profile(rng) for street in sorted(set(street_of.values()))}
    for edge in edges.findall("edge"):
        profile = profiles[street_of[_ends(edge)]]
        for lane in edge.findall("lane"):
            edge.remove(lane)
        edge.set("speed", f"{profile.speed_mps:.2f}")
        edge.set("priority", str(profile.lanes))
        widths: list[tuple[float, dict[str, str]]] = [(profile.sidewalk_m, {"allow": "pedestrian"})]
        if profile.cycle_lane_m:
            widths.append((profile.cycle_lane_m, {"allow": "bicycle"}))
        if profile.parking_m:
            widths.append((profile.parking_m, {"disallow": "all", "type": "parking"}))
        widths += [(profile.lane_m, {"disallow": "pedestrian rail tram rail_urban ship"})] * profile.lanes
        edge.set("numLanes", str(len(widths)))
        for index, (width_m, access) in enumerate(widths):
            ElementTree.SubElement(edge, "lane", {"index": str(index), "width": f"{width_m:.2f}", **access})


def _draw_profile(rng: np.random.Generator) -> Profile:
    """A residential street, a collector with cycle lanes, or an avenue; widths in steps that repeat."""
    draw = rng.random()
    sidewalk_m = float(rng.choice([3.0, 3.5, 4.0, 4.5, 5.0]))
    lane_m = float(rng.choice([3.25, 3.5, 3.75]))
    parks = bool(rng.random() < 0.55)
    if draw < 0.5:
        return Profile(sidewalk_m, 0.0, PARKING_LANE_M if parks else 0.0, 1, lane_m, 8.33)
    if draw < 0.75:
        return Profile(sidewalk_m, 1.8, 0.0, 1, lane_m, 13.89)
    return Profile(sidewalk_m, 0.0, PARKING_LANE_M if parks else 0.0, 2, 3.25, 13.89)


def _ends(edge: ElementTree.Element) -> tuple[str, str]:
    first, second = sorted((edge.attrib["from"], edge.attrib["to"]))
    return first, second


def _streets(
    places: dict[str, Float64[np.ndarray, "2"]], edges: ElementTree.Element
) -> dict[tuple[str, str], tuple[str, str]]:
    """For each pair of connected nodes, the first pair of the street it belongs to: chains that go straight on."""
    links = sorted({_ends(edge) for edge in edges.findall("edge")})
    street = {link: link for link in links}

    def find(link: tuple[str, str]) -> tuple[str, str]:
        while street[link] != link:
            link = street[link]
        return link

    at_node: dict[str, list[tuple[str, str]]] = {}
    for link in links:
        for node in link:
            at_node.setdefault(node, []).append(link)
    for node, around in sorted(at_node.items()):
        headings = {link: _away(node, link, places) for link in around}
        for number, link in enumerate(around):
            for other in around[number + 1 :]:
                opposite = math.pi - abs((headings[link] - headings[other] + math.pi) % (2 * math.pi) - math.pi)
                if opposite < STRAIGHT_ON_RAD:
                    first, second = sorted((find(link), find(other)))
                    street[second] = first
    return {link: find(link) for link in links}


def _away(node: str, link: tuple[str, str], places: dict[str, Float64[np.ndarray, "2"]]) -> float:
    other = link[1] if link[0] == node else link[0]
    step = places[other] - places[node]
    return math.atan2(step[1], step[0])
