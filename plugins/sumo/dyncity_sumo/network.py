"""Road networks: from a map specification to the nouns of ``roads``, through SUMO's own tools."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64

from dyncity_sim.errors import MapError, MissingExtraError
from dyncity_sim.scene.road.opendrive import roads_of
from dyncity_sumo.netfile import read_net
from dyncity_sumo.roads import RoadNetwork
from dyncity_sumo.towns import LAYOUTS, add_kerbside, dress, layout_options

BERLIN_CROP_M = (1050.0, 200.0, 2050.0, 1200.0)
"""West, south, east and north bound of the part of the Berlin net in use, in net coordinates."""

OSM_ATTRIBUTION = "(c) OpenStreetMap contributors, ODbL"
CARLA_ATTRIBUTION = "CARLA team, Computer Vision Center (CC-BY)"

TURN_OPTIONS = (
    "--junctions.limit-turn-speed=2.5",
    "--junctions.corner-detail=10",
    "--junctions.internal-link-detail=15",
)
"""Round kerbs, smooth paths over junctions, and turns slow enough for passengers (at most 2.5 m/s^2 sideways)."""

WALK_OPTIONS = ("--walkingareas", "--crossings.guess")
"""Sidewalks that join at corners, and crossings between them."""

TAKEN_APART = re.compile(r",|\$\{")
"""What SUMO's tools read in a path as the end of one file, or as the name of a variable."""

TOOL_TIMEOUT_S = 300.0
"""Longest time one of SUMO's tools may take; a large city needs about a minute."""


def prepare_network(map_spec: str, seed: int, workdir: Path) -> RoadNetwork:
    """Make or read the road network that ``map_spec`` names.

    Args:
        map_spec: ``berlin``, ``braunschweig``, ``generated:grid``, ``generated:spider``, ``generated:random``, or
            the path of an OpenDRIVE file (``.xodr``) or of a SUMO net (``.net.xml``).
        seed: decides everything about a generated town; other maps do not depend on it.
        workdir: an existing folder for the files that SUMO runs on; they must outlive the network.

    Raises:
        MapError: the map is unknown, cannot be read, keeps left, or has no lane for cars; or SUMO's tools would take
            its path, or that of ``workdir``, apart.
        MissingExtraError: eclipse-sumo is not installed.
    """
    for field, path in (("map", map_spec), ("folder for temporary files", str(workdir))):
        if TAKEN_APART.search(path):
            raise MapError(field, repr(path), "a path without ',' and '${'", "SUMO's tools take such paths apart.")
    if map_spec == "berlin":
        return _berlin(workdir)
    if map_spec == "braunschweig":
        source = sumo_home() / "tools" / "game" / "bs3d" / "bs.net.xml"
        return _mapped(
            "braunschweig", source, workdir, ("--sidewalks.guess", "--remove-edges.by-vclass=rail_urban,rail_electric")
        )
    if map_spec.startswith("generated:"):
        return _generated(map_spec, seed, workdir)
    file = Path(map_spec)
    if map_spec.endswith(".xodr"):
        return _from_opendrive(file, workdir)
    if map_spec.endswith(".net.xml"):
        return _from_net(file, workdir)
    raise MapError(
        "map",
        repr(map_spec),
        "berlin, braunschweig, " + ", ".join(f"generated:{layout}" for layout in LAYOUTS) + ", or a file",
        "Files end in .xodr (OpenDRIVE) or .net.xml (SUMO): netconvert --osm-files MAP.osm -o osm.net.xml makes a net "
        "of OpenStreetMap's.",
    )


def sumo_home() -> Path:
    """Folder of the installed eclipse-sumo package, which is what SUMO_HOME must name.

    Raises:
        MissingExtraError: eclipse-sumo is not installed.
    """
    spec = importlib.util.find_spec("sumo")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("eclipse-sumo", "sumo", "The embedded simulator")
    return Path(next(iter(spec.submodule_search_locations)))


def run_tool(tool: str, arguments: Sequence[str], source: str) -> None:
    """Run one of SUMO's command line tools.

    Raises:
        MapError: it failed on ``source``; the message holds its own first complaint.
        MissingExtraError: eclipse-sumo is not installed.
    """
    home = sumo_home()
    environment = {**os.environ, "SUMO_HOME": str(home), "PROJ_DATA": str(home / "data" / "proj")}
    try:
        done = subprocess.run(
            [str(home / "bin" / tool), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MapError(
            "map", f"{source}: {tool} ran over {TOOL_TIMEOUT_S:.0f} s", "a smaller network", "Crop it first."
        ) from error
    if done.returncode != 0:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("Error")] or [done.stderr.strip()]
        raise MapError("map", f"{source}: {complaints[0]}", f"a network that {tool} accepts", "Check the file.")


def _berlin(workdir: Path) -> RoadNetwork:
    source = sumo_home() / "tools" / "game" / "DRT" / "osm.net.xml"
    crop = (
        "--keep-edges.in-boundary=" + ",".join(f"{bound:g}" for bound in BERLIN_CROP_M),
        "--keep-edges.components=1",
        "--remove-edges.by-vclass=rail,rail_urban,rail_electric,tram",
    )
    return _mapped("berlin", source, workdir, crop)


def _mapped(name: str, source: Path, workdir: Path, options: Sequence[str]) -> RoadNetwork:
    """A net of OpenStreetMap data, with sidewalks and parking lanes that its maker left out."""
    prefix, net_file = workdir / f"{name}-plain", workdir / f"{name}.net.xml"
    run_tool("netconvert", ["-s", str(source), "--plain-output-prefix", str(prefix), *options], name)
    add_kerbside(prefix, np.random.default_rng(0))
    _build_net(prefix, net_file, name)
    return _exported(name, net_file, workdir / f"{name}.xodr", OSM_ATTRIBUTION)


def _generated(map_spec: str, seed: int, workdir: Path) -> RoadNetwork:
    layout = map_spec.partition(":")[2]
    if layout not in LAYOUTS:
        raise MapError("map", repr(map_spec), " or ".join(f"generated:{known}" for known in LAYOUTS))
    rng = np.random.default_rng([seed, LAYOUTS.index(layout)])
    name = f"{layout}-{seed}"
    prefix, net_file = workdir / f"{name}-plain", workdir / f"{name}.net.xml"
    pattern = [*layout_options(layout, rng), "--seed", str(rng.integers(2**31))]
    run_tool("netgenerate", [*pattern, "--plain-output-prefix", str(prefix), "-o", os.devnull], map_spec)
    dress(prefix, rng)
    _build_net(prefix, net_file, map_spec)
    return _exported(map_spec, net_file, workdir / f"{name}.xodr", attribution="")


def _build_net(prefix: Path, net_file: Path, source: str) -> None:
    """A net from plain nodes and edges; connections, crossings and signal programs are worked out anew."""
    run_tool(
        "netconvert",
        [
            *("-n", f"{prefix}.nod.xml", "-e", f"{prefix}.edg.xml", "-o", str(net_file)),
            *(*WALK_OPTIONS, *TURN_OPTIONS),
            *("--crossings.guess.speed-threshold=30", "--no-turnarounds.except-deadend"),
            *("--tls.default-type=actuated", "--tls.cycle.time=50", "--offset.disable-normalization"),
        ],
        source,
    )


def _from_opendrive(file: Path, workdir: Path) -> RoadNetwork:
    if not file.is_file():
        raise MapError("map", str(file), "a file that exists")
    try:
        opendrive = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MapError("map", f"{file}: {error}", "an OpenDRIVE document in UTF-8") from error
    types = sumo_home() / "data" / "typemap"
    net_file = workdir / f"{file.stem}.net.xml"
    # Only with both maps of types are shoulders closed to cars and sidewalks open to pedestrians.
    both = f"{types / 'opendriveNetconvert.typ.xml'},{types / 'opendriveNetconvertPedestrians.typ.xml'}"
    run_tool(
        "netconvert",
        [
            *("--opendrive-files", str(file), "--type-files", both, "--opendrive.import-all-lanes"),
            *("-o", str(net_file), *WALK_OPTIONS, "--crossings.guess.speed-threshold=40", *TURN_OPTIONS),
        ],
        str(file),
    )
    # Netconvert takes every road to keep right.
    if any(road.get("rule") == "LHT" for road in roads_of(opendrive)):
        raise MapError("map", f"{file}: left-hand traffic", "a map whose traffic keeps right")
    streets, offset_m = read_net(net_file, file.stem)
    attribution = CARLA_ATTRIBUTION if file.stem.startswith("Town") else ""
    placed = _moved(opendrive, offset_m)
    return RoadNetwork(**vars(streets), attribution=attribution, net_file=net_file, opendrive=placed)


def _moved(opendrive: str, offset_m: Float64[np.ndarray, "2"]) -> str:
    """The same document in the coordinates of the net, which netconvert begins at zero; these are nowhere on Earth."""
    root = ElementTree.fromstring(opendrive)
    axes = {"x": 0, "west": 0, "east": 0, "y": 1, "south": 1, "north": 1}
    for part in (*root.iter("header"), *root.iter("geometry")):
        for name in axes.keys() & part.attrib.keys():
            part.set(name, repr(float(part.attrib[name]) + float(offset_m[axes[name]])))
        for reference in part.findall("geoReference"):
            part.remove(reference)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _from_net(file: Path, workdir: Path) -> RoadNetwork:
    name = file.name.removesuffix(".net.xml")
    attribution = OSM_ATTRIBUTION if "osm" in name.lower() else ""
    return _exported(name, file, workdir / f"{name}.xodr", attribution)


def _exported(name: str, net_file: Path, opendrive_file: Path, attribution: str) -> RoadNetwork:
    """A network whose OpenDRIVE document is written from its net, in the net's own coordinates."""
    streets, _ = read_net(net_file, name)
    run_tool("netconvert", ["-s", str(net_file), "--opendrive-output", str(opendrive_file)], str(net_file))
    opendrive = _undated(opendrive_file.read_text(encoding="utf-8"))
    return RoadNetwork(**vars(streets), attribution=attribution, net_file=net_file, opendrive=opendrive)


def _undated(opendrive: str) -> str:
    """The same document without time stamp and command line: what is left depends on the net alone."""
    return re.sub(r' date="[^"]*"', "", re.sub(r"<!--.*?-->\s*", "", opendrive, count=1, flags=re.DOTALL), count=1)
