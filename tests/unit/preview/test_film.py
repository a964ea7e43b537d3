import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError, MissingExtraError, StorageError
from dyncity_sim.preview.film import (
    Reel,
    film_frames,
    render_frame,
    with_text,
    write_animation,
    write_png,
    write_video,
)

Build = Callable[..., Any]


@pytest.fixture(scope="module")
def street(build_street: Build, street_actor: Any) -> OccupancySequence:
    return build_street(frames=4, actors=[street_actor(10.0, 2.0, speed_mps=15.0)])


def test_cells_that_no_sensor_saw_are_shown_free(street: OccupancySequence) -> None:
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[:, :10] = True
    seen = OccupancySequence(
        street.labels, street.poses_world_from_ego, street.times_us, street.grid, street.taxonomy, observed
    )
    assert (seen.known_labels(0)[10:] == 0).all()
    np.testing.assert_array_equal(seen.known_labels(0)[:10], street.labels[0, :10])


def test_a_recording_stands_beside_what_was_generated(street: OccupancySequence) -> None:
    alone = list(film_frames(street, width=200))
    beside = list(film_frames(street, street, width=400))
    assert len(alone) == len(beside) == 4
    assert beside[0].shape[1] == 2 * alone[0].shape[1]


def test_a_caption_and_a_credit_are_drawn(street: OccupancySequence) -> None:
    plain = render_frame(street, 0, 300)
    captioned = render_frame(street, 0, 300, "chunk 1", "Map data")
    rows = np.unique(np.argwhere((plain != captioned).any(axis=2))[:, 0])
    assert rows.min() < 30
    assert rows.max() > plain.shape[0] - 30


def test_letters_with_marks_are_drawn_without_them_not_as_boxes() -> None:
    paper = np.full((60, 700, 3), 255, np.uint8)
    drawn, plain = (
        with_text(paper, *texts)
        for texts in (("Çankırı – Łódź", "© Straßenamt Köln"), ("Cankiri - Lodz", "© Strassenamt Koln"))
    )
    np.testing.assert_array_equal(drawn, plain)


def test_every_other_frame_makes_half_a_film(street: OccupancySequence) -> None:
    assert len(list(film_frames(street, width=100, every=2))) == 2


def test_captions_and_recordings_of_other_lengths_are_refused(street: OccupancySequence) -> None:
    with pytest.raises(InvalidInputError, match="captions"):
        next(film_frames(street, captions=["one"]))
    with pytest.raises(InvalidInputError, match="recorded"):
        next(film_frames(street, street[:2]))


def test_a_reel_gives_its_pictures_back_in_a_fraction_of_their_memory(street: OccupancySequence) -> None:
    pictures = list(film_frames(street, width=400))
    tracemalloc.start()
    reel = Reel(film_frames(street, width=400))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < sum(picture.nbytes for picture in pictures) / 4
    assert len(reel) == len(pictures)
    for _ in range(2):
        np.testing.assert_array_equal(list(reel), pictures)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_reads_back_with_its_frames_and_times(
    street: OccupancySequence, suffix: str, tmp_path: Path
) -> None:
    pictures = list(film_frames(street, width=160))
    files = [tmp_path / f"{n}{suffix}" for n in "ab"]
    for file in files:
        write_animation(film_frames(street, width=160), file, rate_hz=10)
    assert files[0].read_bytes() == files[1].read_bytes()
    with Image.open(files[0]) as film:
        assert film.n_frames == 4
        film.seek(2)
        film.load()
        assert film.info["duration"] == 100
        shown = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(shown - pictures[2]).mean() < 6


def test_a_video_reads_back_with_its_frames_and_times(street: OccupancySequence, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    pictures = [picture[:91, :161] for picture in film_frames(street, width=170)]
    files = [tmp_path / f"{n}.mp4" for n in "ab"]
    for file in files:
        write_video(iter(pictures), file, rate_hz=10)
    assert files[0].read_bytes() == files[1].read_bytes()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(files[0]), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    read = subprocess.run(command, capture_output=True, check=True)
    assert re.search(rb"Video: h264 .*yuv420p.* 160x90,.* 10 fps", read.stderr)
    frames = np.frombuffer(read.stdout, np.uint8).reshape(-1, 90, 160, 3).astype(int)
    assert len(frames) == 4
    for shown, picture in zip(frames, pictures, strict=True):
        assert np.abs(shown - picture[:90, :160]).mean() < 6
    assert sorted(tmp_path.iterdir()) == files


def test_what_the_encoder_cannot_write_is_an_error_with_its_words(street: OccupancySequence, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    with pytest.raises(StorageError, match=r"a\.mp4 could not be written: .*[Rr]ate"):
        write_video(film_frames(street, width=170), tmp_path / "a.mp4", rate_hz=-1)
    assert not list(tmp_path.iterdir())


def test_a_video_without_pictures_or_packages_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match="pictures"):
        write_video([], tmp_path / "a.mp4", 10)
    with pytest.raises(InvalidInputError, match="video"):
        write_video([np.zeros((4, 4, 3), np.uint8)], tmp_path / "a.avi", 10)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[video\]"):
        write_video([np.zeros((4, 4, 3), np.uint8)], tmp_path / "a.mp4", 10)
    assert not list(tmp_path.iterdir())


def test_small_bright_things_keep_their_colour_in_a_gif(street: OccupancySequence, tmp_path: Path) -> None:
    labels = street.labels.copy()
    labels[:, 90:93, 60:63, 1:5] = CARLASC.index("pedestrian")
    walked = OccupancySequence(labels, street.poses_world_from_ego, street.times_us, street.grid, street.taxonomy)
    write_animation(list(film_frames(walked, width=300)), tmp_path / "a.gif", rate_hz=10)
    with Image.open(tmp_path / "a.gif") as film:
        red, green, blue = np.asarray(film.convert("RGB")).astype(int).transpose(2, 0, 1)
    assert ((red > green + 90) & (red > blue + 70)).sum() > 10


def test_a_picture_reads_back_exactly(street: OccupancySequence, tmp_path: Path) -> None:
    picture = render_frame(street, 0, 200)
    write_png(picture, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as read:
        np.testing.assert_array_equal(np.asarray(read), picture)


def test_an_unknown_format_or_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="animation"):
        write_animation([np.zeros((4, 4, 3), np.uint8)], tmp_path / "a.mp4", 10)
    with pytest.raises(InvalidInputError, match="pictures"):
        write_animation([], tmp_path / "a.gif", 10)
