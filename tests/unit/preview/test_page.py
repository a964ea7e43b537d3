import base64
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import OCC3D_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene, StaticMap, Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.pack import PointCloud
from dyncity_sim.preview.page import PageText, build_page, build_scene_page

Build = Callable[..., Any]
ROAD = """<OpenDRIVE><road length="10">
<planView><geometry s="0" x="0" y="0" hdg="0" length="10"><line/></geometry></planView>
<lanes><laneSection s="0">
<right><lane id="-1"><width sOffset="0" a="3" b="0" c="0" d="0"/></lane></right>
</laneSection></lanes></road></OpenDRIVE>"""
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


def test_names_may_look_like_places_of_the_template(street: OccupancySequence) -> None:
    title = "@viewer@ @licence@"
    assert json.loads(Scripts(build_page(street, PageText(title))).found["drive"])["title"] == title


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


def test_cells_that_no_sensor_saw_are_free_where_nothing_else_knows_them(street: OccupancySequence) -> None:
    observed = np.random.default_rng(0).random(street.labels.shape) < 0.3
    (shown,) = json.loads(Scripts(build_page(replace(street, observed=observed), TEXT)).found["drive"])["sequences"]
    assert shown["observed"] is None
    labels = np.frombuffer(zlib.decompress(base64.b64decode(shown["labels"])), dtype=np.uint8)
    np.testing.assert_array_equal(labels.reshape(street.labels.shape), np.where(observed, street.labels, 0))


def test_words_from_outside_stay_words(street: OccupancySequence) -> None:
    scripts = Scripts(build_page(street, TEXT))
    assert json.loads(scripts.found["drive"])["attribution"] == TEXT.attribution
    assert set(scripts.found) == {"importmap", "drive", "module"}


def test_the_page_needs_no_network(street: OccupancySequence) -> None:
    scripts = Scripts(build_page(street, TEXT))
    assert not scripts.links
    modules = json.loads(scripts.found["importmap"])["imports"]
    assert set(modules) == {"three", "orbit-controls", "voxels", "things", "pace", "drive", "panel", "view"}
    assert all(url.startswith("data:text/javascript;base64,") for url in modules.values())
    sources = [scripts.found["module"], *(base64.b64decode(url.split(",")[1]).decode() for url in modules.values())]
    assert {name for source in sources for name in re.findall(r"from '([^']+)'", source)} == set(modules)


def test_the_page_carries_the_licence_of_what_it_contains(street: OccupancySequence) -> None:
    assert "The MIT License" in build_page(street, TEXT)


def test_the_same_drive_gives_the_same_page(street: OccupancySequence, scene: Scene) -> None:
    assert build_page(street, TEXT, street, scene) == build_page(street, TEXT, street, scene)


def test_boxes_stand_at_the_frames_of_their_times(street: OccupancySequence, scene: Scene) -> None:
    (track,) = json.loads(Scripts(build_page(street[1:3], PageText("t"), scene=scene)).found["drive"])["tracks"]
    assert track["frames"] == [0, 1]
    assert track["poses_world_from_actor"][0][3] == 12.5


def test_an_actor_that_is_never_there_at_the_time_of_a_frame_is_left_out(
    street: OccupancySequence, scene: Scene
) -> None:
    later = replace(street, times_us=street.times_us + 50_000)
    assert json.loads(Scripts(build_page(later, PageText("t"), scene=scene)).found["drive"])["tracks"] == []


def test_points_come_back_to_the_centimetre(street: OccupancySequence) -> None:
    random = np.random.default_rng(1)
    clouds = [
        PointCloud(random.uniform(-120, 120, (n, 3)).astype(np.float32), random.integers(0, 12, n).astype(np.uint8))
        for n in (5, 0, 300, 1)
    ]
    points = json.loads(Scripts(build_page(street, TEXT, clouds=clouds)).found["drive"])["points"]
    data = np.frombuffer(zlib.decompress(base64.b64decode(points["packed"])), dtype=np.uint8)
    assert points["counts"] == [5, 0, 300, 1]
    start = 0
    for cloud in clouds:
        n = len(cloud.labels)
        part, start = data[start : start + 7 * n], start + 7 * n
        halves = part[: 6 * n].reshape(3, 2, n).astype(np.uint16)
        units = np.cumsum(halves[:, 0] + 256 * halves[:, 1], axis=1, dtype=np.uint16).astype(np.int16)
        assert np.abs(units.T * points["unit_m"] - cloud.points_ego_m).max(initial=0) < 0.0051
        np.testing.assert_array_equal(part[6 * n :], cloud.labels)
    assert start == len(data)


def test_points_of_other_frames_or_too_far_away_are_refused(street: OccupancySequence) -> None:
    cloud = PointCloud(np.full((1, 3), 400, np.float32), np.ones(1, np.uint8))
    with pytest.raises(InvalidInputError, match="327 m"):
        build_page(street, TEXT, clouds=[cloud] * 4)
    with pytest.raises(InvalidInputError, match="clouds"):
        build_page(street, TEXT, clouds=[cloud])


def test_a_scene_carries_its_map_without_the_empty_border(scene: Scene) -> None:
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[2:5, 3:5, 1] = 6
    shown = replace(scene, static_map=StaticMap(labels, (10.0, 20.0, -0.2), (0.4, 0.4, 0.375)), opendrive=ROAD)
    drive = json.loads(Scripts(build_scene_page(shown, PageText("s"))).found["drive"])
    assert drive["grid"]["shape"] == [3, 2, 1]
    np.testing.assert_allclose(drive["grid"]["lower_m"], [10.8, 21.2, 0.175])
    assert zlib.decompress(base64.b64decode(drive["sequences"][0]["labels"])) == bytes([6] * 6)
    assert len(drive["lanes"]) == 2
    assert drive["surface_m"] == pytest.approx(0.175)


@pytest.mark.parametrize(("step_us", "rate_hz"), [(100_000, 10), (500_000, 2)])
def test_a_scene_plays_at_the_rate_of_its_times(scene: Scene, step_us: int, rate_hz: float) -> None:
    filled = StaticMap(np.full((1, 1, 1), 6, np.uint8), (0.0, 0.0, 0.0), (0.4,) * 3)
    shown = replace(scene, static_map=filled, times_us=np.arange(4) * step_us, opendrive=ROAD)
    page = build_scene_page(shown, PageText("s"))
    assert json.loads(Scripts(page).found["drive"])["rate_hz"] == rate_hz


@pytest.mark.parametrize("lowest_m", [-3.0, 0.5])
def test_the_ego_of_a_scene_is_as_high_above_the_road_whatever_the_map_reaches(scene: Scene, lowest_m: float) -> None:
    shown = replace(scene, static_map=StaticMap(np.full((1, 1, 1), 6, np.uint8), (0.0, 0.0, lowest_m), (0.4,) * 3))
    page = build_scene_page(replace(shown, opendrive=ROAD), PageText("s"))
    assert json.loads(Scripts(page).found["drive"])["ego_height_m"] == 1.8


def test_the_ego_of_an_occ3d_drive_stands_on_the_road() -> None:
    labels = np.zeros((1, *OCC3D_GRID.shape), np.uint8)
    drive = OccupancySequence(labels, np.eye(4)[None], np.zeros(1, np.int64), OCC3D_GRID, CARLASC)
    shown = json.loads(Scripts(build_page(drive, PageText("d"))).found["drive"])
    assert (shown["ego_height_m"], shown["surface_m"]) == (0.0, 0.2)


def test_a_scene_of_nothing_is_refused(scene: Scene) -> None:
    with pytest.raises(InvalidInputError, match="static_map"):
        build_scene_page(scene, PageText("s"))


def test_a_map_that_is_too_large_for_a_page_is_refused_with_a_way_out(scene: Scene) -> None:
    endless = np.broadcast_to(np.uint8(6), (500, 500, 500))
    with pytest.raises(InvalidInputError, match=r"1\.2e\+08 cells.*fewer frames"):
        build_scene_page(replace(scene, static_map=replace(scene.static_map, labels=endless)), PageText("s"))


def test_a_recording_that_does_not_match_is_refused(street: OccupancySequence) -> None:
    with pytest.raises(InvalidInputError, match="recorded"):
        build_page(street, TEXT, street[:2])
    with pytest.raises(InvalidInputError, match="captions"):
        build_page(street[:2], TEXT)
