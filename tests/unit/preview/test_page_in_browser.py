"""Claims about the page that a real browser confirms, by its pixels."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Provenance, Scene, Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.preview.pack import PointCloud
from dyncity_sim.preview.page import PageText, build_page, build_scene_page, write_page
from dyncity_sim.scene.build import build_scene

Build = Callable[..., Any]
TEXT = PageText("A street with a rather long name", (("model", "null"),), "Map by someone", ("chunk 1, left",) * 4)
ROAD, SIDEWALK = (CARLASC.palette[CARLASC.index(name)].astype(int) for name in ("road", "sidewalk"))
PHONE = (390, 844)
NO_CARD = "HTMLCanvasElement.prototype.getContext = () => null;"


@pytest.fixture(scope="module")
def street(build_street: Build, street_actor: Any) -> OccupancySequence:
    """A street with a car, 16 m around the ego: software draws few cells quickly."""
    whole = build_street(frames=4, actors=[street_actor(9.0, 2.0, speed_mps=5.0)])
    grid = Grid((80, 80, 8), (-16.0, -16.0, -2.0), whole.grid.voxel_size_m)
    return replace(whole, labels=whole.labels[:, 24:104, 24:104], grid=grid)


@pytest.fixture(scope="module")
def track(street: OccupancySequence) -> Track:
    poses = poses_from_planar(np.stack([9 + 0.5 * np.arange(4), np.full(4, 2.0), np.zeros(4)], axis=-1), 0.75)
    return Track(7, ActorKind.CAR, (4.5, 1.8, 1.5), poses, street.times_us, np.tile([5.0, 0.0, 0.0], (4, 1)))


@pytest.fixture(scope="module")
def page(street: OccupancySequence, track: Track, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated beside recorded, where no vehicle is, with a box and LiDAR points."""
    empty = street.labels.copy()
    empty[empty == CARLASC.index("vehicle")] = 0
    provenance = Provenance(None, (), "", CARLASC.id)
    frames = labelled_frames(street, labelled_drive(street, (track,), provenance))
    clouds = [PointCloud(frame.sweeps[0].points_ego_m, frame.sweeps[0].labels) for frame in frames]
    file = tmp_path_factory.mktemp("page") / "street.html"
    write_page(build_page(street, TEXT, replace(street, labels=empty), tracks=[track], clouds=clouds), file)
    return file


@pytest.fixture(scope="module")
def scene_page(street: OccupancySequence, track: Track, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene: Scene = build_scene(street, tracks=(track,))
    file = tmp_path_factory.mktemp("page") / "scene.html"
    write_page(build_scene_page(scene, replace(TEXT, captions=())), file)
    return file


def picture(tab: Any) -> np.ndarray:
    """What the window shows, ``(H, W, 3)``."""
    with Image.open(io.BytesIO(tab.screenshot())) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def near(shown: np.ndarray, colour: np.ndarray | tuple[int, int, int], reach: int = 12) -> np.ndarray:
    """Where a picture has about a colour, ``(H, W)``."""
    return np.asarray((abs(shown - np.asarray(colour)) < reach).all(axis=2))


def blue(shown: np.ndarray) -> np.ndarray:
    """Where a picture shows vehicles, ``(H, W)``."""
    red, green, blue = shown.transpose(2, 0, 1)
    return np.asarray((blue > red + 60) & (blue > green + 40))


def data(tab: Any, name: str) -> str:
    return str(tab.evaluate(f"document.documentElement.dataset.{name}"))


def until(tab: Any, expression: str) -> None:
    deadline = monotonic() + 20
    while not tab.evaluate(expression):
        assert monotonic() < deadline, expression
        sleep(0.02)


def exposed_faces(labels: np.ndarray) -> int:
    """Faces of occupied cells towards free ones, without those downwards."""
    solid = np.pad(labels > 0, 1)
    inner = solid[1:-1, 1:-1, 1:-1]
    sides = [solid[2:, 1:-1, 1:-1], solid[:-2, 1:-1, 1:-1], solid[1:-1, 2:, 1:-1], solid[1:-1, :-2, 1:-1]]
    return sum(int((inner & ~beside).sum()) for beside in [*sides, solid[1:-1, 1:-1, 2:]])


def test_the_page_opens_at_a_frame_with_every_visible_face_and_asks_nobody(
    tab: Any, page: Path, street: OccupancySequence
) -> None:
    tab.open(page, "play=0&frame=2")
    assert data(tab, "frame") == "2"
    assert int(data(tab, "faces").split()[0]) == exposed_faces(street.labels[2])
    assert near(picture(tab), ROAD).sum() > 5_000
    assert not tab.complaints


def test_what_was_generated_stands_beside_what_was_recorded(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=2&boxes=0&points=0")
    split = picture(tab)
    middle = tab.evaluate("document.querySelector('aside').getBoundingClientRect().left") / 2
    left, right = split[:, : int(middle)], split[:, int(middle) : -200]
    assert blue(left).sum() > 100
    assert blue(right).sum() == 0
    assert min(near(left, ROAD).sum(), near(right, ROAD).sum()) > 4_000
    tab.press("r")
    assert near(picture(tab)[:, int(middle) - 40 : int(middle) + 40], ROAD).sum() > 2_000


def test_a_class_that_is_switched_off_is_gone_and_comes_back(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=2&boxes=0&points=0&recorded=0")
    # The colour of the swatch in the list stays.
    assert blue(picture(tab)[:, :-200]).sum() > 200
    names = tab.evaluate(
        "[...document.querySelectorAll('#classes label')].map(label => label.childNodes[2].textContent)"
    )
    number = str(names.index("vehicle") + 1)
    tab.press(number)
    assert blue(picture(tab)[:, :-200]).sum() == 0
    tab.press(number)
    assert blue(picture(tab)[:, :-200]).sum() > 200
    road = near(picture(tab)[:, :-200], ROAD).sum()
    tab.open(page, "play=0&frame=2&boxes=0&points=0&recorded=0&hide=road,vehicle")
    # Walls in the shade have about the colour of roads.
    assert near(picture(tab)[:, :-200], ROAD).sum() < road / 4
    assert blue(picture(tab)[:, :-200]).sum() == 0


def test_boxes_and_trails_are_drawn_at_their_frames(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=3&points=0&recorded=0&trails=0&voxels=0")
    colour = tab.evaluate(
        "import('things').then(things => things.trackColour(7).toArray().map(v => Math.round(255 * v)))"
    )
    assert data(tab, "boxes") == "1"
    boxes = near(picture(tab), colour, 4).sum()
    assert boxes > 40
    tab.press("t")
    assert near(picture(tab), colour, 40).sum() > boxes + 50
    tab.press("t")
    tab.press("b")
    assert data(tab, "boxes") == "0"
    assert near(picture(tab), colour, 4).sum() == 0


def test_lidar_points_take_the_colours_of_their_classes(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=1&recorded=0&voxels=0&boxes=0&way=0")
    assert int(data(tab, "points")) > 50_000
    shown = picture(tab)[:, :-200]
    assert near(shown, ROAD, 4).sum() > 2_000
    assert near(shown, SIDEWALK, 4).sum() > 200
    tab.press("p")
    assert near(picture(tab)[:, :-200], ROAD, 4).sum() == 0


def test_only_what_sensors_saw_is_shown_on_demand(tab: Any, street: OccupancySequence, tmp_path: Path) -> None:
    observed = np.zeros(street.labels.shape, bool)
    observed[:, 64:] = True
    write_page(build_page(street, TEXT, replace(street, observed=observed)), tmp_path / "p.html")
    tab.open(tmp_path / "p.html", "play=0")
    before = data(tab, "faces").split()
    tab.press("v")
    after = data(tab, "faces").split()
    assert before[0] == before[1] == after[0]
    assert int(after[1]) == exposed_faces(np.where(observed[0], street.labels[0], 0))


def test_the_keyboard_steps_plays_and_explains_itself(tab: Any, page: Path) -> None:
    tab.open(page, "play=0")
    for key, frame in (("ArrowRight", "1"), ("End", "3"), ("ArrowRight", "0"), ("ArrowLeft", "3"), ("Home", "0")):
        tab.press(key)
        assert data(tab, "frame") == frame, key
    for _ in range(3):
        tab.press("+")
    assert tab.evaluate("document.getElementById('speed').value") == "3"
    tab.press(" ")
    until(tab, "document.documentElement.dataset.frame !== '0'")
    tab.press(" ")
    tab.press("?")
    assert tab.evaluate("document.getElementById('help').open")
    listed = tab.evaluate("document.getElementById('keys').textContent")
    assert all(words in listed for words in ("play, pause", "LiDAR points", "trails", "camera behind"))
    tab.press("?")
    assert not tab.evaluate("document.getElementById('help').open")


def test_what_plays_too_slowly_is_drawn_coarser_and_in_full_again_when_it_rests(tab: Any, page: Path) -> None:
    tab.open(page, "play=1&speed=3")
    tab.evaluate(
        "window.busy = setInterval(() => { const since = performance.now(); while (performance.now() < since + 150); })"
    )
    until(tab, "+document.documentElement.dataset.detail <= .5")
    assert tab.evaluate("document.getElementById('view').width < 2 * innerWidth")
    tab.press(" ")
    tab.evaluate("clearInterval(window.busy)")
    until(tab, "document.documentElement.dataset.detail === '1'")
    assert tab.evaluate("document.getElementById('view').width === 2 * innerWidth")
    assert near(picture(tab), ROAD).sum() > 5_000


def test_space_ticks_the_box_that_has_the_focus_and_does_not_play(tab: Any, page: Path) -> None:
    tab.open(page, "play=0")
    tab.evaluate("document.getElementById('boxes').focus()")
    tab.press(" ")
    assert not tab.evaluate("document.getElementById('boxes').checked")
    assert tab.evaluate("document.getElementById('play').textContent") == "▶"


def test_the_ego_stays_in_view_while_it_turns(tab: Any, build_street: Build, tmp_path: Path) -> None:
    street = build_street(frames=16)
    yaw = np.full(16, 2.0)
    yaw[0] = 0.0
    turned = replace(street, poses_world_from_ego=poses_from_planar(np.column_stack([0 * yaw, 0 * yaw, yaw]), 1.8))
    write_page(build_page(turned, replace(TEXT, captions=()), turned), tmp_path / "index.html")
    tab.open(tmp_path / "index.html", "play=0")
    tab.press("ArrowRight")
    road = near(picture(tab), ROAD)[:, :-200]
    for pane in np.array_split(road, 2, axis=1):
        assert pane[:, pane.shape[1] // 4 : -pane.shape[1] // 4].sum() > 2_000


@pytest.mark.parametrize("size", [PHONE, PHONE[::-1], (320, 568)])
def test_on_a_phone_all_controls_are_in_the_window_and_large_enough(
    tab: Any, page: Path, size: tuple[int, int]
) -> None:
    tab.window(*size, phone=True)
    tab.open(page, "play=0")
    tab.evaluate("document.getElementById('menu').click()")
    box = "(it => (b => [it.id, b.left, b.top, b.right, b.bottom])(it.getBoundingClientRect()))"
    found = tab.evaluate(f"[...document.querySelectorAll('button:not(#close), select, #track')].map({box})")
    assert {name for name, *_ in found} == {"ask", "menu", "play", "speed", "track", "home", "above"}
    aside = tab.evaluate(f"{box}(document.querySelector('aside'))")[1:]
    for name, left, top, right, bottom in [*found, ("aside", *aside)]:
        if name not in ("home", "above"):  # which the menu scrolls to
            assert 0 <= left < right <= size[0], name
            assert 0 <= top < bottom <= size[1], name
        assert bottom - top >= 44, name
        assert right - left >= 44, name
    rows = tab.evaluate("[...document.querySelectorAll('aside label')].map(row => row.getBoundingClientRect().height)")
    assert min(rows) >= 36
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_fingers_turn_the_view_and_bring_it_nearer(tab: Any, page: Path) -> None:
    tab.window(*PHONE, phone=True)
    tab.open(page, "play=0&recorded=0&boxes=0&points=0&way=0")
    before = picture(tab)[250:-250]
    tab.touch([(100.0 + 25 * n, 400.0) for n in range(5)])
    turned = picture(tab)[250:-250]
    assert (np.abs(turned - before).sum(axis=2) > 60).mean() > 0.1
    tab.touch([(170.0 - 20 * n, 400.0) for n in range(5)], [(220.0 + 20 * n, 400.0) for n in range(5)])
    orange = (247, 147, 30)
    assert near(picture(tab), orange, 30).sum() > 1.5 * near(before, orange, 30).sum()


def test_panes_stand_one_above_the_other_on_a_phone(tab: Any, page: Path) -> None:
    tab.window(*PHONE, phone=True)
    tab.open(page, "play=0&boxes=0&points=0&way=0")
    upper, lower = np.array_split(picture(tab), 2)
    assert min(near(upper, ROAD).sum(), near(lower, ROAD).sum()) > 10_000
    assert blue(upper).sum() > 300
    assert blue(lower).sum() == 0


def test_a_scene_shows_its_map_lanes_boxes_and_the_way_of_the_ego(tab: Any, scene_page: Path) -> None:
    tab.open(scene_page, "play=0&frame=2&camera=above")
    faces, shown = data(tab, "faces"), picture(tab)[:, :-200]
    assert near(shown, ROAD).sum() > 10_000
    assert data(tab, "boxes") == "1"
    white = near(shown[100:400, 200:], (242, 242, 236), 8).sum()
    tab.press("l")
    assert near(picture(tab)[100:400, 200:-200], (242, 242, 236), 8).sum() < white - 200
    tab.press("ArrowRight")
    assert data(tab, "faces") == faces
    before = picture(tab)
    tab.press("w")
    assert (np.abs(picture(tab) - before).sum(axis=2) > 60).sum() > 100
    assert not tab.complaints


def damaged(page: str, place: str, by: str) -> str:
    """The page with other characters some way after a place in it."""
    at = page.index(place) + 500
    return page[:at] + by + page[at + len(by) :]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda page: page[: page.index("importmap") + 9_000], "not whole"),
        (lambda page: page[: page.index('"labels"') + 900], "not whole"),
        (lambda page: damaged(page, '"labels"', "@@@@"), "may be damaged"),
        (lambda page: damaged(page, '"labels"', "AAAAAAAA"), "may be damaged"),
        (lambda page: page.replace("<head>", f"<head><script>{NO_CARD}</script>", 1), "needs WebGL 2"),
    ],
    ids=["cut in the modules", "cut in the labels", "not base64", "other labels", "no WebGL"],
)
def test_a_page_that_does_not_open_says_why(
    tab: Any, page: Path, tmp_path: Path, spoil: Callable[[str], str], words: str
) -> None:
    (tmp_path / "spoilt.html").write_text(spoil(page.read_text()))
    with pytest.raises(RuntimeError, match="failed"):
        tab.open(tmp_path / "spoilt.html")
    assert tab.evaluate("document.getElementById('failure').getBoundingClientRect().height") > 20
    assert words in tab.evaluate("document.getElementById('failure').textContent")


def test_a_page_that_goes_wrong_after_it_has_opened_says_so(tab: Any, page: Path) -> None:
    tab.open(page, "play=0")
    tab.evaluate("document.getElementById('scrub').remove()")
    tab.press("ArrowRight")
    until(tab, "document.getElementById('failure') !== null")
    assert tab.evaluate("document.getElementById('failure').getBoundingClientRect().height") > 20
    assert "This page went wrong (" in tab.evaluate("document.getElementById('failure').textContent")


@pytest.mark.parametrize(
    ("fragment", "frame", "speed"),
    [
        ("frame=two&speed=7", "0", "1"),
        ("frame=1.6&speed=0.5", "2", "0.5"),
        ("frame=99", "3", "1"),
        ("frame=-1", "0", "1"),
    ],
)
def test_what_an_address_asks_for_that_there_is_not_is_the_nearest_or_the_usual(
    tab: Any, page: Path, fragment: str, frame: str, speed: str
) -> None:
    tab.open(page, f"play=0&{fragment}")
    assert data(tab, "frame") == frame
    assert tab.evaluate("document.getElementById('speed').value") == speed


def test_an_address_that_is_changed_while_the_page_is_open_counts(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=1")
    tab.evaluate("location.hash = 'play=0&frame=3'")
    until(tab, "document.documentElement?.dataset.frame === '3'")


def test_a_drive_at_rest_is_drawn_again_when_the_graphics_card_comes_back(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=2")
    before = picture(tab)
    tab.evaluate(
        """(view => new Promise(gone => {
          view.addEventListener('webglcontextlost', gone);
          window.card = view.getContext('webgl2').getExtension('WEBGL_lose_context');
          card.loseContext();
        }))(document.getElementById('view'))"""
    )
    tab.evaluate("document.documentElement.dataset.detail = ''; setTimeout(() => card.restoreContext())")
    assert (np.abs(picture(tab) - before).sum(axis=2) > 60).mean() < 0.01


def test_what_moves_by_itself_does_not_where_that_is_not_wanted(tab: Any, page: Path) -> None:
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    try:
        tab.open(page)
        assert tab.evaluate("document.getElementById('play').ariaLabel") == "play"
        tab.open(page, "play=1")
        assert tab.evaluate("document.getElementById('play').ariaLabel") == "pause"
    finally:
        tab.call("Emulation.setEmulatedMedia", features=[])


def test_a_screen_reader_is_told_the_time_on_demand_and_not_ten_times_a_second(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=2")
    found = {
        node["role"]["value"]: node for node in tab.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]
    }
    told = tab.evaluate("document.getElementById('scrub').ariaValueText")
    assert told == "0.2 s · frame 3/4 · chunk 1, left"
    assert not {"status", "alert", "log", "timer"} & set(found)
    assert found["image"]["name"]["value"] == "the drive"


def test_the_help_opens_at_its_top_and_its_words_can_be_marked(tab: Any, page: Path) -> None:
    tab.window(900, 400)
    tab.open(page, "play=0")
    tab.press("?")
    assert tab.evaluate("document.getElementById('help').scrollTop") == 0
    tab.evaluate("document.querySelector('#more-facts dd').click()")
    assert tab.evaluate("document.getElementById('help').open")
    tab.evaluate("document.getElementById('close').click()")
    assert not tab.evaluate("document.getElementById('help').open")


def test_a_class_of_next_to_nothing_has_a_share_and_the_tenth_has_a_key(
    tab: Any, street: OccupancySequence, tmp_path: Path
) -> None:
    labels = np.full_like(street.labels[:1], CARLASC.index("road"))
    labels[0, 0, 0, :] = np.arange(8) + 4
    labels[0, 0, 1, :3] = np.arange(3) + 1
    first = OccupancySequence(labels, street.poses_world_from_ego[:1], street.times_us[:1], street.grid, CARLASC)
    write_page(build_page(first, PageText("all classes")), tmp_path / "p.html")
    tab.open(tmp_path / "p.html", "play=0")
    rows = tab.evaluate("[...document.querySelectorAll('#classes label')].map(row => row.textContent)")
    assert rows[0] == "building< 0.1 %"
    tab.press("0")
    boxes = "[...document.querySelectorAll('#classes input')].map(box => box.checked)"
    assert [n for n, ticked in enumerate(tab.evaluate(boxes)) if not ticked] == [9]


def test_the_view_stays_when_the_other_pane_goes(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=2&points=0&camera=above&recorded=0")
    above = picture(tab)
    tab.open(page, "play=0&frame=2&points=0&camera=above")
    tab.press("r")
    assert (np.abs(picture(tab) - above).sum(axis=2) > 60).mean() < 0.02


def test_keys_turn_the_view_and_bring_it_nearer(tab: Any, page: Path) -> None:
    tab.open(page, "play=0&frame=2&recorded=0&boxes=0&points=0&way=0")
    before, orange = picture(tab), (247, 147, 30)
    for key, back in (("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown")):
        for _ in range(3):
            tab.press(key, shift=True)
        assert (np.abs(picture(tab) - before).sum(axis=2) > 60).mean() > 0.05, key
        for _ in range(3):
            tab.press(back, shift=True)
        assert (np.abs(picture(tab) - before).sum(axis=2) > 60).mean() < 0.02, back
    assert data(tab, "frame") == "2"
    for _ in range(4):
        tab.press("PageUp")
    # What is orange but the ego lies at the window's edges.
    nearer, farther = (near(shown[60:400, :-200], orange, 30).sum() for shown in (picture(tab), before))
    assert nearer > 1.5 * farther > 100
