"""What a drive amounts to, in figures for people."""

import math
from collections import Counter
from xml.etree import ElementTree

from dyncity_sim.cosim.drive import Drive, drive_agreement
from dyncity_sim.cosim.outputs import Derived
from dyncity_sim.domain.scene import Scene
from dyncity_sim.errors import InvalidInputError

WAYPOINT_SPACING_M = 2.0


def drive_facts(drive: Drive) -> list[tuple[str, str]]:
    """How much was generated, how fast, and how steadily the static world stands."""
    chunks, frames = len(drive.chunks), drive.frames
    counted = "1 chunk" if chunks == 1 else f"{chunks} chunks"
    timings = [chunk.timings for chunk in drive.chunks]
    generation_s = sum(each.sampling_s + each.decoding_s for each in timings)
    waited_s = sum(chunk.waited_s for chunk in drive.chunks)
    simulation_s = sum(chunk.simulation_s for chunk in drive.chunks)
    agreement = drive_agreement(drive)
    commands = Counter(chunk.command.value for chunk in drive.chunks if chunk.command)
    return [
        ("model", f"{drive.model.model_id} ({drive.model.family})"),
        ("generated", f"{frames} frames in {counted}, {frames / drive.model.rate_hz:.1f} s of driving"),
        *([("ended early", drive.ended)] if drive.ended else []),
        ("commands", ", ".join(f"{name} {count}" for name, count in commands.items()) or "none sent"),
        ("speed", f"{generation_s / chunks:.2f} s per chunk, {frames / max(generation_s, 1e-9):.1f} frames/s"),
        ("simulator", f"{frames / max(simulation_s, 1e-9):.0f} frames/s, waited {waited_s:.1f} s for the server"),
        ("static agreement", f"{_share(agreement.within_chunks)} first to last frame of a chunk"),
        ("", f"{_share(agreement.across_borders)} over the borders of chunks"),
        ("", f"{_share(agreement.from_observed)} from the last observed to the first generated frame"),
        ("", f"{_share(agreement.recorded_within_chunks)} in the simulator's own frames"),
    ]


def derived_facts(derived: Derived) -> list[tuple[str, str]]:
    """How much was made of the occupancy."""
    kinds = Counter(track.kind.value for track in derived.scene.tracks)
    length_m, lanes, waypoints = road_extent(derived.scene)
    facts = [
        ("actors", f"{len(derived.scene.tracks)} tracks" + "".join(f", {n} {kind}" for kind, n in kinds.most_common())),
        ("road", f"{length_m:.0f} m, {lanes} driving lanes, {waypoints} waypoints {WAYPOINT_SPACING_M:g} m apart"),
    ]
    if derived.points is not None:
        facts.append(("ground truth", f"{derived.points:,} LiDAR points, {derived.boxes} boxes"))
    return facts


def road_extent(scene: Scene) -> tuple[float, int, int]:
    """Length of all roads in metres, driving lanes, and waypoints along the driving lanes of a scene's OpenDRIVE.

    Raises:
        InvalidInputError: the document is damaged.
    """
    length_m, lanes, waypoints = 0.0, 0, 0
    try:
        document = ElementTree.fromstring(scene.opendrive)
    except ElementTree.ParseError as error:
        raise InvalidInputError("OpenDRIVE", str(error), "the document as it was written") from error
    for road in document.iter("road"):
        road_m = float(road.get("length", "0"))
        driving = [lane for lane in road.iter("lane") if lane.get("type") == "driving"]
        length_m += road_m
        lanes += len(driving)
        waypoints += len(driving) * math.ceil(road_m / WAYPOINT_SPACING_M)
    return length_m, lanes, waypoints


def _share(value: float) -> str:
    return "none comparable" if math.isnan(value) else f"{100 * value:.1f} %"
