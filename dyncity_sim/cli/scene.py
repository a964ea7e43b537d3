"""``dyncity scene``: make a scene package of a drive, check one, or show what is in it."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.cosim.report import road_extent
from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.files import check_free
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.findings import Check, Outcome
from dyncity_sim.scene.package.read import read_provenance, read_scene
from dyncity_sim.scene.package.validate import is_valid, validate_scene
from dyncity_sim.scene.package.write import write_scene

EPILOG = """\
examples:
  dyncity scene build data/town --frames 64 --out out/scene    of a recording, with its true actors
  dyncity scene build out/dream --out out/scene                of what dyncity generate wrote
  dyncity scene validate out/demo/scene         check every file against its schema, its checksum, and the others
  dyncity scene validate out/demo/scene --json  the same for a program to read
  dyncity scene show out/demo/scene             what is in it

data/town: long drives, from dyncity record --continuous (without it, drives have 40 frames).
exit codes of validate: 0 no check failed, 1 one did
"""

STYLES = {Outcome.PASSED: "green", Outcome.WARNED: "yellow", Outcome.FAILED: "bold red", Outcome.SKIPPED: "dim"}


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "scene",
        help="make a scene package of a drive, check one, or show what is in it",
        description="Make a scene package of a drive, check one, or show what is in it.",
        epilog=EPILOG,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="make a scene of a drive", description="Make a scene of a drive.")
    build.add_argument("drive", type=Path, metavar="PATH", help="a generated drive, a recording, or a data set")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    build.add_argument("--sequence", type=int, default=0, metavar="N", help="which drive of a data set (default: 0)")
    build.add_argument("--start", type=int, default=0, metavar="N", help="first frame (default: 0)")
    build.add_argument("--frames", type=int, metavar="N", help="how many (default: all)")
    build.add_argument("--smooth", action="store_true", help="static.glb without the steps of voxels, and larger")
    build.set_defaults(run=run_build)
    for name, summary, action in (
        ("validate", "check that a scene is whole, true to its schemas, and at one with itself", run_validate),
        ("show", "show what is in a scene", run_show),
    ):
        sub = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        sub.add_argument("scene", type=Path, metavar="DIR", help="folder of the scene, as in OUT/scene")
        if name == "validate":
            sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
        sub.set_defaults(run=action)


def run_build(args: argparse.Namespace) -> int:
    """Open, make, write, show."""
    check_free(args.out)
    console = Console()
    with terminated_like_interrupted(), console.status("reading the drive") as status:
        drive = open_drive(args.drive, args.sequence, args.start, args.frames)
        status.update("making the scene")
        scene = build_scene(drive.occupancy, tracks=drive.tracks)
        status.update("writing")
        write_scene(scene, args.out, drive.provenance, args.smooth)
    console.print(_shown(args.out))
    return 0


def run_validate(args: argparse.Namespace) -> int:
    """Check and print; 1 when a check failed."""
    checks = validate_scene(args.scene)
    if args.json:
        Console().print_json(data=report(args.scene, checks))
    else:
        Console().print(table_of(args.scene, checks))
    return 0 if is_valid(checks) else 1


def report(folder: Path, checks: list[Check]) -> dict[str, object]:
    """What ``--json`` prints."""
    rows = [{"check": c.name, "outcome": c.outcome.value, "detail": c.detail} for c in checks]
    return {"scene": str(folder), "valid": is_valid(checks), "checks": rows}


def table_of(folder: Path, checks: list[Check]) -> Table:
    """A row for each check."""
    verdict = "valid" if is_valid(checks) else "not valid"
    table = Table("check", "outcome", "found", title=f"{escape(str(folder))}: {verdict}", title_justify="left")
    for check in checks:
        style = STYLES[check.outcome]
        table.add_row(check.name, f"[{style}]{check.outcome.value}[/]", escape(check.detail))
    return table


def run_show(args: argparse.Namespace) -> int:
    """Read and print."""
    Console().print(_shown(args.scene))
    return 0


def _shown(folder: Path) -> Table:
    table = Table(title=escape(str(folder)), title_justify="left", show_header=False)
    for name, value in facts(folder):
        table.add_row(name, escape(value))
    return table


def facts(folder: Path) -> list[tuple[str, str]]:
    """Name and value of what is worth knowing of a scene."""
    scene, made = read_scene(folder), read_provenance(folder)
    steps_m = np.linalg.norm(np.diff(scene.ego_poses_world_from_ego[:, :3, 3], axis=0), axis=1)
    kinds = Counter(track.kind.value for track in scene.tracks)
    length_m, lanes, _ = road_extent(scene)
    static = scene.static_map
    counts = {CARLASC.names[label]: int((static.labels == label).sum()) for label in np.unique(static.labels) if label}
    seconds = (int(scene.times_us[-1]) - int(scene.times_us[0])) * 1e-6
    return [
        ("drive", f"{len(scene.times_us)} frames over {seconds:.1f} s, {steps_m.sum():.0f} m"),
        ("tracks", ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"),
        ("road", f"{length_m:.0f} m, {lanes} driving lanes"),
        ("static", ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing"),
        ("grid", f"{' x '.join(map(str, static.labels.shape))} cells"),
        ("made by", made.model_id or "a recording"),
        ("seeds", ", ".join(map(str, made.seeds)) or "none"),
        ("attribution", made.attribution or "none due"),
    ]
