"""A drive as a film: oblique pictures, generated beside recorded, with captions; PNG, GIF, WebP and MP4 files."""

import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryFile

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from dyncity_sim.domain.frames import inverse
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.extras import import_extra
from dyncity_sim.files import whole_file
from dyncity_sim.preview.oblique import Image, render_oblique

PLAN_FRAMES = 16
"""How far ahead the ego's way is drawn."""
TEXT_COLOUR = (52, 58, 66)
PLAIN = str.maketrans(
    {
        "ß": "ss",
        "ı": "i",
        "æ": "ae",
        "Æ": "Ae",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "–": "-",
        "—": "-",
        "’": "'",
        "×": "x",
    }
)
"""What is drawn for characters that are more than a letter with marks."""


def render_frame(
    occupancy: OccupancySequence, frame: int, width: int = 1000, caption: str = "", credit: str = ""
) -> Image:
    """Oblique picture of one frame, with the ego's way over the frames to come, a caption and a credit."""
    poses = occupancy.poses_world_from_ego
    ahead = inverse(poses[frame]) @ poses[frame : frame + PLAN_FRAMES]
    picture = render_oblique(
        occupancy.known_labels(frame),
        occupancy.grid,
        occupancy.taxonomy,
        width,
        plan_ego_from_ego=ahead if len(ahead) > 1 else None,
        # The ego's box is known in CarlaSC's ego frame; in another it would stand in the wrong place.
        draw_ego=occupancy.grid == CARLASC_GRID,
    )
    return with_text(picture, caption, credit)


def film_frames(
    generated: OccupancySequence,
    recorded: OccupancySequence | None = None,
    width: int = 960,
    captions: Sequence[str] = (),
    credit: str = "",
    every: int = 1,
) -> Iterator[Image]:
    """Pictures of a drive in order; a recording of the same frames stands beside what was generated.

    Args:
        generated: T frames.
        recorded: the T frames of the simulator, or None.
        width: width of each picture in pixels, about.
        captions: one for each frame, or none at all.
        credit: of the map, in each picture's lower left corner.
        every: show every so many frames.
    """
    if recorded is not None and len(recorded) != len(generated):
        raise InvalidInputError(
            "recorded", f"{len(recorded)} frames", f"{len(generated)}, those of the generated drive"
        )
    if captions and len(captions) != len(generated):
        raise InvalidInputError("captions", f"{len(captions)}", f"{len(generated)}, one for each frame")
    for frame in range(0, len(generated), every):
        caption = captions[frame] if captions else ""
        yield render_beside(generated, recorded, frame, width, caption, credit)


def render_beside(
    generated: OccupancySequence,
    recorded: OccupancySequence | None,
    frame: int,
    width: int = 960,
    caption: str = "",
    credit: str = "",
) -> Image:
    """One frame of a film: what was generated, and beside it what the simulator had where that is known."""
    if recorded is None:
        return render_frame(generated, frame, width, caption, credit)
    left = render_frame(generated, frame, width // 2, f"generated   {caption}".strip(), credit)
    right = render_frame(recorded, frame, width // 2, "simulator")
    return np.concatenate([left, right], axis=1)


def with_text(picture: Image, caption: str, credit: str) -> Image:
    """The picture with a caption in its upper and a smaller credit in its lower left corner."""
    canvas = PillowImage.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    size = max(11, picture.shape[1] // 45)
    pen.text((size, size * 0.7), _plain(caption), fill=TEXT_COLOUR, font=ImageFont.load_default(size))
    small = max(9, size * 2 // 3)
    pen.text((size, canvas.height - 1.7 * small), _plain(credit), fill=TEXT_COLOUR, font=ImageFont.load_default(small))
    return np.asarray(canvas)


def _plain(text: str) -> str:
    """The text without marks on its letters: Pillow's own font, which is the same everywhere, has boxes for them."""
    parts = unicodedata.normalize("NFKD", text.translate(PLAIN))
    return "".join(part for part in parts if not unicodedata.combining(part))


def write_png(picture: Image, file: Path) -> None:
    """Write one picture; the same picture gives the same bytes."""
    with whole_file(file) as temporary:
        PillowImage.fromarray(picture).save(temporary, format="PNG", optimize=True)


class Reel:
    """Pictures of one size, packed in memory: each is unpacked when it is asked for."""

    def __init__(self, pictures: Iterable[Image]) -> None:
        self._shape: tuple[int, ...] = ()
        self._packed: list[bytes] = []
        for picture in pictures:
            self._shape = picture.shape
            self._packed.append(zlib.compress(picture.tobytes(), 1))

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, number: int) -> Image:
        return np.frombuffer(zlib.decompress(self._packed[number]), np.uint8).reshape(self._shape)

    def __iter__(self) -> Iterator[Image]:
        return (self[number] for number in range(len(self)))


def write_animation(pictures: Iterable[Image], file: Path, rate_hz: float) -> None:
    """Write an endless animation as ``.gif`` or ``.webp``; the same pictures give the same bytes.

    Args:
        pictures: at least one, all of one size; a reel where they are wanted again.
        file: its suffix chooses the format.
        rate_hz: pictures per second; GIF rounds their duration to 10 ms.

    Raises:
        InvalidInputError: no picture, or another suffix.
        StorageError: the file could not be written.
    """
    if file.suffix not in (".gif", ".webp"):
        raise InvalidInputError("animation", repr(file.name), "a name ending in .gif or .webp")
    reel = pictures if isinstance(pictures, Reel) else Reel(pictures)
    if not len(reel):
        raise InvalidInputError("pictures", "none", "at least one")
    timing = {"save_all": True, "duration": round(1000 / rate_hz), "loop": 0}
    with whole_file(file) as temporary:
        if file.suffix == ".webp":
            _Unrolled(reel).save(temporary, format="WEBP", quality=82, method=2, **timing)
        else:
            frames = _in_common_colours(reel)
            next(frames).save(temporary, format="GIF", optimize=False, append_images=frames, **timing)


def write_video(pictures: Iterable[Image], file: Path, rate_hz: float) -> None:
    """Write an H.264 film as ``.mp4``, picture by picture; the same pictures give the same bytes.

    Args:
        pictures: at least one, all of one size; a row or column is left out where their number is odd, since the
            format stores colours for two by two pixels.
        file: its suffix is ``.mp4``.
        rate_hz: pictures per second.

    Raises:
        InvalidInputError: no picture, or another suffix.
        MissingExtraError: imageio-ffmpeg is not installed.
        StorageError: the file could not be written.
    """
    if file.suffix != ".mp4":
        raise InvalidInputError("video", repr(file.name), "a name ending in .mp4")
    imageio_ffmpeg = import_extra("imageio_ffmpeg", "imageio-ffmpeg", "video", "Writing MP4")
    rest = iter(pictures)
    first = next(rest, None)
    if first is None:
        raise InvalidInputError("pictures", "none", "at least one")
    height, width = (side - side % 2 for side in first.shape[:2])
    size, exact = f"-s {width}x{height} -r {rate_hz}", "-threads 1 -fflags +bitexact -flags:v +bitexact"
    given = f"-loglevel error -y -f rawvideo -pix_fmt rgb24 {size} -i -"
    wanted = f"-c:v libx264 -pix_fmt yuv420p -preset medium -crf 20 {exact} -movflags +faststart -f mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *given.split(), *wanted.split()]
    with whole_file(file) as temporary, TemporaryFile() as complaints:
        # Its own writer neither says when the encoder failed nor closes its pipes then.
        with Popen([*command, str(temporary)], stdin=PIPE, stderr=complaints, bufsize=0) as encoder:
            assert encoder.stdin is not None
            with suppress(BrokenPipeError):
                for picture in chain([first], rest):
                    encoder.stdin.write(np.ascontiguousarray(picture[:height, :width]).data)
        if encoder.returncode:
            complaints.seek(0)
            said = " ".join(complaints.read().decode(errors="replace").split())
            raise StorageError(f"{file} could not be written: {said or f'the encoder ended with {encoder.returncode}'}")


class _Unrolled(PillowImage.Image):
    """A reel as what Pillow takes for an image of many frames, one of which is in memory."""

    def __init__(self, reel: Reel) -> None:
        super().__init__()
        self._reel, self.n_frames = reel, len(reel)
        self.seek(0)

    def seek(self, frame: int) -> None:
        picture = PillowImage.fromarray(self._reel[frame])
        self.im, self._mode, self._size, self._frame = picture.im, picture.mode, picture.size, frame

    def tell(self) -> int:
        return self._frame


def _in_common_colours(reel: Reel) -> Iterator[PillowImage.Image]:
    """All frames in one palette, so that colours do not flicker; it is taken from some eight of them."""
    chosen = [PillowImage.fromarray(reel[number]) for number in range(0, len(reel), max(1, len(reel) // 8))]
    strip = PillowImage.new("RGB", (chosen[0].width // 2, chosen[0].height // 2 * len(chosen)))
    for number, frame in enumerate(chosen):
        strip.paste(frame.resize((strip.width, frame.height // 2)), (0, number * (frame.height // 2)))
    common = strip.quantize(256, method=PillowImage.Quantize.MAXCOVERAGE)
    return (PillowImage.fromarray(p).quantize(palette=common, dither=PillowImage.Dither.NONE) for p in reel)
