"""Checks of the road and of the scenarios."""

import shutil
import subprocess
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import numpy as np

from dyncity_sim.errors import MissingExtraError
from dyncity_sim.scene.package.findings import Findings
from dyncity_sim.scene.package.motions import EGO_NAME, Motion, motions_of
from dyncity_sim.scene.package.read import read_scene
from dyncity_sim.scene.package.write import ROAD, SCENARIO_1_0

OPENSCENARIO_TOLERANCE_M = 1e-3
OPENSCENARIO_TOLERANCE_S = 2e-6
"""Scenarios are written with four decimals of a metre and six of a second."""

NETCONVERT_LIMIT_S = 120


def check_road(folder: Path) -> Findings:
    """OpenDRIVE by the standard's schema, with a lane to drive on."""
    problems = _xsd_problems(folder / ROAD, "opendrive_17_core.xsd")
    root = ElementTree.parse(folder / ROAD).getroot()
    lanes = [lane for lane in root.iter("lane") if lane.get("type") == "driving"]
    if not lanes:
        problems = (*problems, "no driving lane")
    roads = len(root.findall("road"))
    return Findings(problems, (), f"OpenDRIVE 1.7 schema; {roads} roads, {len(lanes)} driving lanes")


def check_driven_map(folder: Path) -> Findings:
    """Whether SUMO's netconvert makes a network of the road, where it is installed."""
    places = [sysconfig.get_path("scripts"), None]
    program = next((found for place in places if (found := shutil.which("netconvert", path=place))), None)
    if program is None:
        return Findings(skipped="netconvert is not installed: pip install '.[sumo]' in the project's folder")
    with TemporaryDirectory(prefix="dyncity-") as temporary:
        network = Path(temporary) / "road.net.xml"
        command = [program, "--opendrive-files", str(folder / ROAD), "--output-file", str(network), "--no-warnings"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=NETCONVERT_LIMIT_S)
        except subprocess.TimeoutExpired:
            return Findings((f"netconvert took more than {NETCONVERT_LIMIT_S} s",))
        if done.returncode or not network.is_file():
            return Findings((f"netconvert refused it: {' '.join(done.stderr.split())[:200]}",))
        edges = [e for e in ElementTree.parse(network).getroot().iter("edge") if e.get("function") != "internal"]
    return Findings(() if edges else ("netconvert found no edge in it",), (), f"{len(edges)} edges")


def check_scenario(folder: Path, name: str) -> Findings:
    """OpenSCENARIO by the standard's schema of its version, over a road that is there."""
    minor = 0 if name == SCENARIO_1_0 else 2
    problems = list(_xsd_problems(folder / name, f"OpenSCENARIO_1_{minor}.xsd"))
    root = ElementTree.parse(folder / name).getroot()
    header = root.find("FileHeader")
    version = None if header is None else (header.get("revMajor"), header.get("revMinor"))
    if version != ("1", str(minor)):
        problems.append(f"says it is of version {version}, not 1.{minor}")
    roads = [logic.get("filepath", "") for logic in root.iter("LogicFile")]
    problems += [f"drives on {road!r}, which is not there" for road in roads if not (folder / road).is_file()]
    return Findings(tuple(problems), (), f"OpenSCENARIO 1.{minor} schema")


def check_trajectories(folder: Path, name: str) -> Findings:
    """Every entity is a track or the ego, and every vertex of its line is a place of it at its time."""
    motions = {motion.name: motion for motion in motions_of(read_scene(folder))}
    root = ElementTree.parse(folder / name).getroot()
    entities = {entity.get("name", "") for entity in root.iter("ScenarioObject")}
    problems = [f"{entity} is in the scenario or in the tracks only" for entity in sorted(entities ^ set(motions))]
    lines = {t.get("name", "").removesuffix("_trajectory"): t for t in root.iter("Trajectory")}
    for entity, line in sorted(lines.items()):
        if entity not in motions:
            problems.append(f"a trajectory of {entity!r}, which is no track")
        elif problem := _off_track(line, motions[entity], whole=name != SCENARIO_1_0):
            problems.append(f"{entity}: {problem}")
    if name != SCENARIO_1_0:
        problems += [f"{entity} has no trajectory" for entity in sorted(set(motions) - set(lines))]
    return Findings(tuple(problems), (), f"{EGO_NAME} and {len(motions) - 1} actors, {len(lines)} trajectories")


def _off_track(line: ElementTree.Element, motion: Motion, whole: bool) -> str:
    """What is wrong with a line; ``whole`` where it has to have a vertex for each time of the track."""
    rows = []
    for vertex in line.iter("Vertex"):
        position = vertex.find("Position/WorldPosition")
        if position is None:
            return "a vertex without a position in the world"
        rows.append([float(vertex.get("time", "nan")), *(float(position.get(axis, "nan")) for axis in "xyz")])
    vertices = np.array(rows).reshape(-1, 4)
    if whole and len(vertices) != len(motion.times_s):
        return f"{len(vertices)} vertices for {len(motion.times_s)} places"
    between = (motion.times_s[1:] + motion.times_s[:-1]) / 2
    nearest = np.searchsorted(between, vertices[:, 0])
    off_s = np.abs(vertices[:, 0] - motion.times_s[nearest]).max(initial=0)
    off_m = np.linalg.norm(vertices[:, 1:] - motion.places[nearest, :3], axis=1).max(initial=0)
    if off_s <= OPENSCENARIO_TOLERANCE_S and off_m <= OPENSCENARIO_TOLERANCE_M:
        return ""
    return f"vertices are up to {off_s:.3g} s and {off_m:.3g} m off the track"


def _xsd_problems(file: Path, schema: str) -> tuple[str, ...]:
    """What an XML Schema has against a document. The schemas come with scenariogeneration."""
    try:
        from lxml import etree

        place = distribution("scenariogeneration").locate_file(f"schemas/{schema}")
    except ImportError as error:
        missing = "scenariogeneration" if isinstance(error, PackageNotFoundError) else "lxml"
        raise MissingExtraError(missing, "scene", "Validating a scene") from error
    checker = etree.XMLSchema(etree.parse(str(place)))
    checker.validate(etree.parse(str(file)))
    return tuple(f"line {error.line}: {error.message}" for error in checker.error_log)
