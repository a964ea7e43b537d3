"""Claims about generating along recorded drives, with the null backend in this process."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.dataset.labelled import OccupancyDataset
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.conditions import Command, Conditions, Continuation, SamplingOptions, VehicleLayout
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import DyncityError, InvalidInputError, RemoteError, UnsupportedConditionError
from dyncity_sim.replay.drive import Replay, ReplayedChunk, replay_drive
from dyncity_sim.replay.regions import Region, region_mask
from dyncity_sim.replay.write import ReplayFolder

FRAMES = 40
RAW_ROAD, RAW_VEHICLE = 7, 10


class InProcess:
    """A backend as a client, which keeps what it was asked."""

    def __init__(self, conditions: tuple[str, ...] = NullBackend.info.conditions) -> None:
        self.backend = NullBackend()
        self.info = replace(NullBackend.info, conditions=conditions)
        self.asked: list[Conditions] = []
        self.encoded: list[OccupancySequence] = []

    def model_info(self) -> ModelInfo:
        return self.info

    def generate(self, conditions: Conditions, options: SamplingOptions | None = None) -> GeneratedChunk:
        assert options is not None
        self.asked.append(conditions)
        return self.backend.generate(conditions, options, lambda step: None)

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        self.encoded.append(occupancy)
        return self.backend.encode(occupancy)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, write_recording: Callable[..., Path]) -> OccupancyDataset:
    """A drive straight on past a standing vehicle; sensors see the front half."""
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, :, 0] = RAW_ROAD
    labels[80:90, 70:75, 1:4] = RAW_VEHICLE
    counts = np.ones(CARLASC_GRID.shape, np.float32)
    counts[:64] = 0
    return open_dataset(write_recording(tmp_path_factory.mktemp("replay") / "rec", labels, counts, FRAMES))


def replayed(
    dataset: OccupancyDataset, replay: Replay, generator: InProcess | None = None, seed: int = 5
) -> list[ReplayedChunk]:
    model = generator or InProcess()
    return list(replay_drive(model, dataset, dataset.sequences[0], replay, SamplingOptions(seed=seed)))


def written(chunks: Iterable[ReplayedChunk], folder: Path) -> DyncityError | None:
    filling = ReplayFolder(folder, NullBackend.info, {"attribution": ""})
    failure = filling.fill(chunks)
    filling.finish("drive", "" if failure is None else str(failure))
    return failure


@pytest.mark.parametrize(
    ("region", "share"),
    [
        (Region.FIRST_FRAME, 1 / 16),
        (Region.FIRST_HALF, 0.5),
        (Region.LEFT, 0.5),
        (Region.REAR, 0.5),
        (Region.AROUND, 1 - 44 * 44 / 128**2),
    ],
)
def test_a_region_covers_its_share_of_a_chunk(region: Region, share: float) -> None:
    assert region_mask(region, 16, CARLASC_GRID).mean() == pytest.approx(share, abs=0.02)


def test_left_is_where_y_is_positive_and_rear_where_x_is_negative() -> None:
    left, rear = (region_mask(region, 1, CARLASC_GRID)[0] for region in (Region.LEFT, Region.REAR))
    assert left[:, CARLASC_GRID.centres(1) > 0].all()
    assert not left[:, CARLASC_GRID.centres(1) < 0].any()
    assert rear[CARLASC_GRID.centres(0) < 0].all()


def test_chunks_go_on_from_each_other_along_the_recorded_poses(dataset: OccupancyDataset) -> None:
    generator = InProcess()
    chunks = replayed(dataset, Replay(start=4, chunks=2), generator)
    poses = dataset.sequences[0].poses_world_from_ego
    assert poses is not None
    for number, chunk in enumerate(chunks):
        assert np.array_equal(chunk.generated.occupancy.poses_world_from_ego, poses[4 + 16 * number : 20 + 16 * number])
        assert chunk.generated.seed == 5 + number
        assert chunk.conditions.command is Command.FORWARD
    assert generator.asked[0].continuation is None
    assert generator.asked[1].continuation == chunks[0].generated.continuation


def test_the_past_is_what_sensors_saw_of_the_chunk_before(dataset: OccupancyDataset) -> None:
    generator = InProcess()
    replayed(dataset, Replay(start=20, past=True), generator)
    (past,) = generator.encoded
    assert past.times_us[0] == 400_000
    assert past.observed is not None
    assert past.observed.mean() == pytest.approx(0.5)
    assert generator.asked[0].continuation is not None


def test_a_known_part_comes_back_and_conditions_the_first_chunk_only(dataset: OccupancyDataset) -> None:
    first, second = replayed(dataset, Replay(chunks=2, known=Region.FIRST_FRAME))
    vehicle = CARLASC.index("vehicle")
    assert (first.generated.occupancy.labels[0, 80:90, 70:75, 1:4] == vehicle).all()
    assert not (first.generated.occupancy.labels[1, 80:90, 70:75, 1:4] == vehicle).all()
    assert second.conditions.known_region is None


def test_a_layout_is_where_vehicles_were_recorded(dataset: OccupancyDataset) -> None:
    generator = InProcess(("plan", "layout"))
    (chunk,) = replayed(dataset, Replay(layout=True), generator)
    assert chunk.conditions.layout is not None
    assert np.array_equal(chunk.conditions.layout.cells, VehicleLayout.of(chunk.recorded).cells)
    assert chunk.conditions.layout.cells.any()


def test_a_command_can_be_given_instead_of_the_plans(dataset: OccupancyDataset) -> None:
    (chunk,) = replayed(dataset, Replay(command=Command.LEFT))
    assert chunk.conditions.command is Command.LEFT


def test_the_page_calls_what_stands_beside_recorded_not_a_simulators(dataset: OccupancyDataset, tmp_path: Path) -> None:
    written(replayed(dataset, Replay()), tmp_path / "out")
    found = re.search(
        r'<script type="application/json" id="drive">(.*?)</script>', (tmp_path / "out/index.html").read_text()
    )
    assert found is not None
    assert [sequence["name"] for sequence in json.loads(found[1])["sequences"]] == ["generated", "recorded"]


def broken_off(dataset: OccupancyDataset, chunks: int, error: BaseException) -> Iterator[ReplayedChunk]:
    yield from replayed(dataset, Replay(chunks=chunks))
    raise error


def test_chunks_that_came_before_a_failure_are_written_with_it(dataset: OccupancyDataset, tmp_path: Path) -> None:
    failure = RemoteError("incident 7")
    assert written(broken_off(dataset, 2, failure), tmp_path / "out") is failure
    described = json.loads((tmp_path / "out/generation.json").read_text())
    assert (len(described["chunks"]), described["ended"]) == (2, "incident 7")
    written(replayed(dataset, Replay(chunks=2)), tmp_path / "whole")
    for file in ("chunk_0000.npz", "chunk_0001.npz", "chunks.png", "index.html"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_failure_of_the_first_chunk_is_raised_and_leaves_nothing(dataset: OccupancyDataset, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="incident 7"):
        written(broken_off(dataset, 0, RemoteError("incident 7")), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_drive_of_another_rate_is_read_back_with_it(dataset: OccupancyDataset, tmp_path: Path) -> None:
    filling = ReplayFolder(tmp_path, replace(NullBackend.info, rate_hz=2.0), {"attribution": ""})
    filling.fill(replayed(dataset, Replay()))
    assert open_drive(tmp_path).rate_hz == 2.0


def test_chunks_are_on_disk_before_the_next_is_asked_for(dataset: OccupancyDataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        written(broken_off(dataset, 2, KeyboardInterrupt()), tmp_path / "out")
    assert len(open_drive(tmp_path / "out").occupancy) == 32
    described = json.loads((tmp_path / "out/generation.json").read_text())
    assert described["ended"] == "under way, or stopped from outside"


@pytest.mark.parametrize("replay", [Replay(chunks=3), Replay(start=25), Replay(start=25, past=True)])
def test_a_drive_that_is_too_short_is_refused(dataset: OccupancyDataset, replay: Replay) -> None:
    with pytest.raises(InvalidInputError, match=r"40 in drive_00000.*--continuous"):
        replayed(dataset, replay)


@pytest.mark.parametrize(
    ("replay", "message"),
    [
        (Replay(start=3, past=True), "start: got 3, expected at least 16, so that there is a chunk of the past"),
        (Replay(start=-1), "start: got -1, expected at least 0"),
    ],
)
def test_a_start_that_leaves_no_room_before_it_is_refused_by_name(
    dataset: OccupancyDataset, replay: Replay, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        replayed(dataset, replay)


def test_another_taxonomy_than_the_models_is_refused(dataset: OccupancyDataset) -> None:
    generator = InProcess()
    generator.info = replace(generator.info, taxonomy=replace(CARLASC, id="other"))
    with pytest.raises(InvalidInputError, match="other, the model's"):
        replayed(dataset, Replay(), generator)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"grid": Grid((16, 16, 8), (-3.2, -3.2, -2.0), CARLASC_GRID.voxel_size_m)},
            r"grid: got .*128.*the model's.*16",
        ),
        ({"rate_hz": 2.0}, "rate_hz: got 10, expected 2, the model's"),
    ],
)
def test_a_data_set_of_another_grid_or_rate_is_refused_whatever_is_given(
    dataset: OccupancyDataset, change: dict[str, object], message: str
) -> None:
    generator = InProcess(("command",))
    generator.info = replace(generator.info, **change)
    with pytest.raises(InvalidInputError, match=message):
        replayed(dataset, Replay(), generator)
    assert not generator.asked


def test_chunks_that_do_not_follow_one_another_are_made_one_at_a_time(dataset: OccupancyDataset) -> None:
    generator = InProcess(("command",))
    assert len(replayed(dataset, Replay(), generator)) == 1
    with pytest.raises(UnsupportedConditionError, match="neither 'plan' nor 'continuation'"):
        replayed(dataset, Replay(chunks=2), generator)
    assert len(replayed(dataset, Replay(chunks=2), InProcess(("plan",)))) == 2
