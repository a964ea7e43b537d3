import base64
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene, StaticMap, Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.page import PageText, build_page, write_page

Build = Callable[..., Any]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TEXT = PageText("A street", (("model", "null"),), "Map by </script><b>someone</b>", ("chunk 1",) * 4)


@pytest.fixture(scope="module")
def street(build_street: Build, street_actor: Any) -> OccupancySequence:
    return build_street(frames=4, actors=[street_actor(12.0, 2.0, speed_mps=5.0)])


@pytest.fixture(scope="module")
def scene(street: OccupancySequence) -> Scene:
    poses = poses_from_planar(np.stack([12 + 0.5 * np.arange(4), np.full(4, 2.0), np.zeros(4)], axis=-1), 0.75)
    track = Track(7, ActorKind.CAR, (4.5, 1.8, 1.5), poses, street.times_us, np.tile([5.0, 0.0, 0.0], (4, 1)))
    nothing = StaticMap(np.zeros((1, 1, 1), np.uint8), (0.0, 0.0, 0.0), (0.4, 0.4, 0.375))
    return Scene((track,), nothing, street.poses_world_from_ego, street.times_us, "")


class Scripts(HTMLParser):
    """Contents of the script elements by id or type, as a browser splits them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.links: list[str] = []
        self._name: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]
        if tag == "script":
            self._name = given.get("id") or given.get("type")

    def handle_endtag(self, tag: str) -> None:
        self._name = None

    def handle_data(self, data: str) -> None:
        if self._name:
            self.found[self._name] = self.found.get(self._name, "") + data


def test_the_page_carries_the_labels_exactly(street: OccupancySequence) -> None:
    drive = json.loads(Scripts(build_page(street, TEXT, street)).found["drive"])
    assert [s["name"] for s in drive["sequences"]] == ["generated", "simulator"]
    for sequence in drive["sequences"]:
        labels = np.frombuffer(zlib.decompress(base64.b64decode(sequence["labels"])), dtype=np.uint8)
        np.testing.assert_array_equal(labels.reshape(street.labels.shape), street.labels)


def test_the_page_carries_what_sensors_saw(street: OccupancySequence) -> None:
    observed = np.random.default_rng(0).random(street.labels.shape) < 0.3
    seen = replace(street, observed=observed)
    sequences = json.loads(Scripts(build_page(street, TEXT, seen)).found["drive"])["sequences"]
    assert sequences[0]["observed"] is None
    bits = np.frombuffer(zlib.decompress(base64.b64decode(sequences[1]["observed"])), dtype=np.uint8)
    np.testing.assert_array_equal(np.unpackbits(bits, count=observed.size).reshape(observed.shape), observed)


def test_words_from_outside_stay_words(street: OccupancySequence) -> None:
    scripts = Scripts(build_page(street, TEXT))
    assert json.loads(scripts.found["drive"])["attribution"] == TEXT.attribution
    assert set(scripts.found) == {"importmap", "drive", "module"}


def test_the_page_needs_no_network(street: OccupancySequence) -> None:
    scripts = Scripts(build_page(street, TEXT))
    assert not scripts.links
    modules = json.loads(scripts.found["importmap"])["imports"]
    assert set(modules) == {"three", "orbit-controls"}
    assert all(url.startswith("data:text/javascript;base64,") for url in modules.values())
    imported = set(re.findall(r"from '([^']+)'", scripts.found["module"]))
    assert imported == set(modules)


def test_the_page_carries_the_licence_of_what_it_contains(street: OccupancySequence) -> None:
    assert "The MIT License" in build_page(street, TEXT)


def test_the_same_drive_gives_the_same_page(street: OccupancySequence, scene: Scene) -> None:
    assert build_page(street, TEXT, street, scene) == build_page(street, TEXT, street, scene)


def test_boxes_stand_at_the_frames_of_their_times(street: OccupancySequence, scene: Scene) -> None:
    (track,) = json.loads(Scripts(build_page(street[1:3], PageText("t"), scene=scene)).found["drive"])["tracks"]
    assert track["frames"] == [0, 1]
    assert track["poses_world_from_actor"][0][3] == 12.5


def test_a_recording_that_does_not_match_is_refused(street: OccupancySequence) -> None:
    with pytest.raises(InvalidInputError, match="recorded"):
        build_page(street, TEXT, street[:2])
    with pytest.raises(InvalidInputError, match="captions"):
        build_page(street[:2], TEXT)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
def test_a_browser_plays_the_page(street: OccupancySequence, scene: Scene, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    write_page(build_page(street, TEXT, street, scene), page)
    dom = browse(page, "play=0&frame=2", tmp_path, "--dump-dom")
    state = dict(re.findall(r'data-([a-z]+)="([^"]*)"', dom[: dom.index(">", dom.index("<html"))]))
    assert state["state"] == "ready"
    assert state["frame"] == "2"
    faces = [int(n) for n in state["faces"].split()]
    assert faces == [exposed_faces(street.labels[2])] * 2

    browse(page, "play=0&frame=2", tmp_path, f"--screenshot={tmp_path / 'shot.png'}")
    red, green, blue = channels(tmp_path / "shot.png")
    vehicle = (blue > red + 60) & (blue > green + 40)
    half = vehicle.shape[1] // 2
    assert vehicle[:, :half].sum() > 100
    assert vehicle[:, half:].sum() > 100
    assert on_road(tmp_path / "shot.png").sum() > 10_000


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
def test_the_ego_stays_in_view_while_it_turns_and_the_page_plays(build_street: Build, tmp_path: Path) -> None:
    street = build_street(frames=16)
    yaw = np.full(16, 2.0)
    yaw[0] = 0.0
    turned = replace(street, poses_world_from_ego=poses_from_planar(np.column_stack([0 * yaw, 0 * yaw, yaw]), 1.8))
    page = tmp_path / "index.html"
    write_page(build_page(turned, replace(TEXT, captions=()), turned), page)
    browse(page, "frame=0", tmp_path, f"--screenshot={tmp_path / 'shot.png'}")
    road = on_road(tmp_path / "shot.png")
    for pane in np.split(road, 2, axis=1):
        assert pane[:, pane.shape[1] // 4 : -pane.shape[1] // 4].sum() > 5_000


def channels(picture: Path) -> np.ndarray:
    """Red, green and blue, ``(3, H, W)``."""
    with Image.open(picture) as opened:
        return np.asarray(opened.convert("RGB")).astype(int).transpose(2, 0, 1)


def on_road(picture: Path) -> np.ndarray:
    """Where a picture has the colour of roads, ``(H, W)``."""
    road = CARLASC.palette[CARLASC.index("road")].astype(int)
    return np.asarray((abs(channels(picture) - road[:, None, None]) < 12).all(axis=0))


def exposed_faces(labels: np.ndarray) -> int:
    """Faces of occupied cells towards free ones, without those downwards."""
    solid = np.pad(labels > 0, 1)
    inner = solid[1:-1, 1:-1, 1:-1]
    sides = [solid[2:, 1:-1, 1:-1], solid[:-2, 1:-1, 1:-1], solid[1:-1, 2:, 1:-1], solid[1:-1, :-2, 1:-1]]
    return sum(int((inner & ~beside).sum()) for beside in [*sides, solid[1:-1, 1:-1, 2:]])


def browse(page: Path, hash_part: str, folder: Path, want: str) -> str:
    assert CHROMIUM is not None
    flags = (
        "--headless --no-sandbox --disable-gpu --enable-unsafe-swiftshader --use-gl=angle --use-angle=swiftshader "
        "--disable-background-networking --disable-sync --no-first-run --hide-scrollbars --window-size=900,520 "
        "--virtual-time-budget=4000"
    )
    profile = f"--user-data-dir={folder / 'profile'}{want[:4]}"
    command = [CHROMIUM, *flags.split(), want, profile, f"{page.as_uri()}#{hash_part}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
