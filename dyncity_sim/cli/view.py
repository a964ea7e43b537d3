"""``dyncity view``: a drive, a recording or a scene to look at: a page, pictures, films, a recording of Rerun."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dyncity_sim.cli.numbers import positive
from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.shown import Shown, is_scene, shown_drive, shown_scene
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.cli.steps import Steps
from dyncity_sim.dataset.drives import LoadedDrive
from dyncity_sim.domain.base_frame import mounted
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene
from dyncity_sim.domain.sensors import SensorRig
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import whole_files
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.sensors.rig import DEFAULT_RIG, read_rig, rig_names
from dyncity_sim.preview.film import (
    PLAN_FRAMES,
    Reel,
    film_frames,
    render_beside,
    write_animation,
    write_png,
    write_video,
)
from dyncity_sim.preview.pack import PointCloud
from dyncity_sim.preview.page import PageText, build_page, build_scene_page, write_page
from dyncity_sim.preview.rerun_log import write_drive_rerun, write_scene_rerun
from dyncity_sim.preview.scene_frames import scene_frames

SUFFIXES = {"out": ".html", "png": ".png", "gif": ".gif", "webp": ".webp", "mp4": ".mp4", "rerun": ".rrd"}
"""Suffix of the file that each option writes."""

EVERY_FIRING = 2
"""Points of every other firing are shown: as much is seen, in half the bytes."""

WIDTH, LEAST_WIDTH, MOST_WIDTH = 1280, 64, 8192
"""Of a picture by default, and of one view in it; a drive beside what was recorded has two."""

EPILOG = """\
examples:
  dyncity view out/demo                                   out/demo as demo.html
  dyncity view out/demo --lidar --out out/look.html       with LiDAR points
  dyncity view out/demo/scene                             static map, tracks, lanes and the ego's way
  dyncity view data/town --sequence 3 --start 20 --frames 64
  dyncity view out/demo --png demo.png --frame 30 --mp4 demo.mp4 --gif demo.gif
  dyncity view out/demo --lidar --rerun demo.rrd          for the viewer of Rerun

PATH is what dyncity demo, cosim or generate wrote, its occupancy/ or scene/ folder, or a data set that dyncity
inspect reads. The page needs no network; press ? in it for its keys. Without options it takes the name of PATH,
in the current folder; a page is written beside other outputs when --out names it.
data/town: long drives, from dyncity record --continuous (without it, drives have 40 frames).
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "view",
        help="look at a drive or a scene: page, pictures, film, Rerun",
        description="Write a page that plays a drive or a scene in any browser, or pictures, films, a Rerun recording.",
        epilog=EPILOG,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of a drive, a scene or a data set")
    outputs = parser.add_argument_group("what is written (several may be asked for)")
    outputs.add_argument(
        "--out", type=Path, metavar="FILE.html", help="the page (default: PATH's name, if nothing else)"
    )
    outputs.add_argument("--png", type=Path, metavar="FILE", help="a picture of one frame")
    outputs.add_argument("--gif", type=Path, metavar="FILE", help="all frames, animated")
    outputs.add_argument("--webp", type=Path, metavar="FILE", help="all frames, animated, smaller and finer")
    outputs.add_argument("--mp4", type=Path, metavar="FILE", help="all frames as a film (extra: video)")
    outputs.add_argument("--rerun", type=Path, metavar="FILE.rrd", help="a recording for Rerun (extra: rerun)")
    outputs.add_argument("--force", action="store_true", help="replace files that exist")
    choice = parser.add_argument_group("what is shown")
    choice.add_argument("--sequence", type=int, default=0, metavar="N", help="sequence of a data set (default: 0)")
    choice.add_argument("--start", type=int, default=0, metavar="N", help="first frame (default: 0)")
    choice.add_argument("--frames", type=positive, metavar="N", help="how many (default: all)")
    choice.add_argument(
        "--lidar",
        nargs="?",
        const=DEFAULT_RIG,
        metavar="RIG",
        help="LiDAR points on the page and in Rerun, of a YAML file or of "
        f"{', '.join(rig_names())} (alone: {DEFAULT_RIG}; extra: scene)",
    )
    choice.add_argument(
        "--frame", type=int, metavar="N", help="frame of --png, among those shown (default: the middle)"
    )
    choice.add_argument("--width", type=positive, metavar="PX", help=f"of pictures, about (default: {WIDTH})")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open, compute what is asked for, write, and say what was written."""
    files = _files(args)
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with terminated_like_interrupted(), Progress(*columns, console=console, transient=True) as progress:
        tell = Steps(progress)
        shown = _open(args, tell)
        frame, width = _frame(args.frame, len(shown)), _width(args.width, shown)
        clouds = _clouds(shown, _sweeping(args.lidar), tell) if args.lidar and {"out", "rerun"} & set(files) else ()
        with whole_files(list(files.values())) as places:
            _write(shown, clouds, dict(zip(files, places, strict=True)), frame, width, tell)
    for file in files.values():
        Console(markup=False).print(f"{file}  {file.stat().st_size / 1e6:.1f} MB", highlight=False, soft_wrap=True)
    return 0


def _write(
    shown: Shown, clouds: tuple[PointCloud, ...], files: dict[str, Path], frame: int, width: int, tell: Steps
) -> None:
    if "out" in files:
        write_page(tell.once("page", lambda: _page(shown, clouds)), files["out"])
    if "rerun" in files:
        for _ in tell.each("Rerun", len(shown), _rerun(shown, clouds, files["rerun"])):
            pass
    if set(files) - {"out", "rerun"}:
        _pictures(shown, files, frame, width, tell)


def _files(args: argparse.Namespace) -> dict[str, Path]:
    """File of each output that is asked for, checked before any work is done."""
    files: dict[str, Path] = {option: getattr(args, option) for option in SUFFIXES if getattr(args, option) is not None}
    if not files:
        files["out"] = Path(f"{args.path.resolve().name}.html")
    for option, file in files.items():
        if file.suffix != SUFFIXES[option]:
            raise InvalidInputError(f"--{option}", str(file), f"a name ending in {SUFFIXES[option]}")
        if file.is_dir() or (file.exists() and not args.force):
            mend = "Name another file, or replace it with --force."
            raise InvalidInputError(f"--{option}", f"{file}, which exists", "a name that is free", mend)
    if args.frame is not None and "png" not in files:
        raise InvalidInputError("--frame", args.frame, "--png FILE with it, the picture to draw")
    if args.width is not None and not {"png", "gif", "webp", "mp4"} & set(files):
        raise InvalidInputError("--width", args.width, "a picture or film with it, whose width it is")
    if args.lidar and not {"out", "rerun"} & set(files):
        raise InvalidInputError("--lidar", "neither page nor --rerun", "one of them: pictures show voxels alone")
    return files


def _open(args: argparse.Namespace, tell: Steps) -> Shown:
    if not is_scene(args.path):
        return shown_drive(args.path, args.sequence, args.start, args.frames, tell)
    if (args.sequence, args.start, args.frames, args.lidar) != (0, 0, None, None):
        raise InvalidInputError(
            str(args.path), "a scene", "none of --sequence, --start, --frames, --lidar with it", "They are for drives."
        )
    return shown_scene(args.path, tell)


def _frame(asked: int | None, length: int) -> int:
    frame = length // 2 if asked is None else asked
    if not 0 <= frame < length:
        raise InvalidInputError("--frame", frame, f"0 to {length - 1}")
    return frame


def _width(asked: int | None, shown: Shown) -> int:
    width = WIDTH if asked is None else asked
    views = 1 if isinstance(shown.drive, Scene) or shown.drive.recorded is None else 2
    if not LEAST_WIDTH * views <= width <= MOST_WIDTH * views:
        raise InvalidInputError("--width", width, f"{LEAST_WIDTH * views} to {MOST_WIDTH * views} pixels")
    return width


def _sweeping(rig: str) -> SensorRig:
    """The LiDARs of a rig with fewer firings."""
    lidars = read_rig(rig).lidars
    return SensorRig(
        "page", tuple(replace(lidar, azimuth_steps=max(1, lidar.azimuth_steps // EVERY_FIRING)) for lidar in lidars)
    )


def _clouds(shown: Shown, rig: SensorRig, tell: Steps) -> tuple[PointCloud, ...]:
    drive = shown.drive
    assert isinstance(drive, LoadedDrive)
    labelled = labelled_drive(drive.occupancy, shown.tracks, drive.provenance, mounted(rig, drive.occupancy.grid))
    frames = tell.each("LiDAR", len(drive.occupancy), labelled_frames(drive.occupancy, labelled))
    return tuple(
        PointCloud(
            np.concatenate([sweep.points_ego_m for sweep in frame.sweeps]),
            np.concatenate([sweep.labels for sweep in frame.sweeps]),
        )
        for frame in frames
    )


def _page(shown: Shown, clouds: tuple[PointCloud, ...]) -> str:
    drive = shown.drive
    if isinstance(drive, Scene):
        return build_scene_page(drive, PageText(shown.name, shown.facts, shown.attribution))
    text = PageText(shown.name, shown.facts, shown.attribution, drive.captions)
    return build_page(
        drive.occupancy,
        text,
        drive.recorded,
        frames_per_chunk=drive.frames_per_chunk,
        rate_hz=drive.rate_hz,
        tracks=shown.tracks,
        clouds=clouds,
    )


def _rerun(shown: Shown, clouds: tuple[PointCloud, ...], file: Path) -> Iterator[int]:
    drive = shown.drive
    if isinstance(drive, Scene):
        return write_scene_rerun(file, shown.name, drive)
    return write_drive_rerun(file, shown.name, drive.occupancy, drive.recorded, shown.tracks, clouds)


def _pictures(shown: Shown, files: dict[str, Path], frame: int, width: int, tell: Steps) -> None:
    animations = [files[option] for option in ("gif", "webp") if option in files]
    filmed = animations or "mp4" in files
    # A picture alone needs but the way that the ego goes from there.
    part = slice(None) if filmed else slice(frame, frame + PLAN_FRAMES)
    occupancy, recorded, captions, rate_hz = _filmed(shown, part, tell)
    if "png" in files:
        at = frame if filmed else 0
        caption = captions[at] if captions else ""
        write_png(render_beside(occupancy, recorded, at, width, caption, shown.attribution), files["png"])
    if not filmed:
        return
    film = film_frames(occupancy, recorded, width, captions, shown.attribution)
    pictures: Iterable[np.ndarray] = tell.each("film", len(occupancy), film)
    if animations:
        pictures = Reel(pictures)
        for file in animations:
            tell.once(file.suffix[1:], partial(write_animation, pictures, file, rate_hz))
    if "mp4" in files:
        write_video(pictures, files["mp4"], rate_hz)


def _filmed(
    shown: Shown, frames: slice, tell: Steps
) -> tuple[OccupancySequence, OccupancySequence | None, Sequence[str], float]:
    """Frames, those of the simulator with all its cells, captions and rate."""
    drive = shown.drive
    if isinstance(drive, Scene):
        return tell.once("frames", lambda: scene_frames(drive, frames=frames)), None, (), drive.rate_hz
    recorded = None if drive.recorded is None else replace(drive.recorded[frames], observed=None)
    return drive.occupancy[frames], recorded, drive.captions[frames], drive.rate_hz
