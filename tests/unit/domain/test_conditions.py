import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.frames import MAX_TIME_US, check_times, poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

FRAMES = 16
TIMES_US = np.arange(FRAMES) * 100_000
VEHICLE = CARLASC.index("vehicle")


def plan_along(x_m: np.ndarray, yaw_rad: np.ndarray | float = 0.0) -> EgoPlan:
    planar = np.column_stack([x_m, np.zeros(FRAMES), np.broadcast_to(yaw_rad, FRAMES)])
    return EgoPlan(poses_from_planar(planar), TIMES_US)


def region(observed: np.ndarray | None, planar: np.ndarray | None = None) -> OccupancySequence:
    labels = np.zeros((FRAMES, *CARLASC_GRID.shape), dtype=np.uint8)
    poses = poses_from_planar(np.zeros((FRAMES, 3)) if planar is None else planar)
    return OccupancySequence(labels, poses, TIMES_US, CARLASC_GRID, CARLASC, observed)


def first_frame_only() -> np.ndarray:
    observed = np.zeros((FRAMES, *CARLASC_GRID.shape), dtype=np.bool_)
    observed[0] = True
    return observed


def test_an_emergency_stop_from_motorway_speed_is_a_plan() -> None:
    speed_mps = np.maximum(40.0 - 12.0 * np.arange(FRAMES) * 0.1, 0.0)
    plan_along(np.cumsum(speed_mps * 0.1))


@pytest.mark.parametrize("first_us", [MAX_TIME_US - 1_500_000, -MAX_TIME_US])
def test_times_reach_as_far_as_their_differences_are_whole(first_us: int) -> None:
    times_us = first_us + 100_000 * np.arange(FRAMES)
    assert np.array_equal(check_times(times_us, "times", FRAMES), times_us)


@pytest.mark.parametrize(
    "times_us",
    [
        np.array([MAX_TIME_US, MAX_TIME_US + 1]),
        np.array([-MAX_TIME_US - 1, 0]),
        np.array([0, 2**64 - 1], dtype=np.uint64),
        # Their difference wraps round to a positive one.
        np.array([2**63 - 1, -(2**63)]),
    ],
)
def test_times_beyond_that_are_refused(times_us: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="microseconds"):
        check_times(times_us, "times", 2)


@given(st.lists(st.integers(-MAX_TIME_US, MAX_TIME_US), min_size=1, max_size=5))
def test_times_are_accepted_where_each_is_later_than_the_one_before(times_us: list[int]) -> None:
    if all(before < after for before, after in itertools.pairwise(times_us)):
        assert check_times(times_us, "times", len(times_us)).tolist() == times_us
    else:
        with pytest.raises(InvalidInputError, match="not later"):
            check_times(times_us, "times", len(times_us))


def test_a_plan_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_along(np.where(np.arange(FRAMES) == 3, np.nan, 0.0), 0.0)
    assert caught.value.field == "plan.poses_world_from_ego"


def test_a_spinning_car_is_a_plan_and_a_heading_may_cross_west() -> None:
    plan_along(np.arange(FRAMES) * 0.5, np.pi - 1.0 + 0.4 * np.arange(FRAMES))


@pytest.mark.parametrize(
    ("x_m", "yaw_rad", "said"),
    [
        (np.where(np.arange(FRAMES) < 8, 0.0, 5.0), 0.0, r"500 m/s\^2 between frames 6 and 8"),
        (np.where(np.arange(FRAMES) < 8, 0.0, 50.0), 0.0, "500 m/s between frames 7 and 8"),
        (np.zeros(FRAMES), np.where(np.arange(FRAMES) < 4, 0.0, 2.0), "20 rad/s between frames 3 and 4"),
    ],
)
def test_a_jump_no_vehicle_can_drive_is_refused_with_its_frames(
    x_m: np.ndarray, yaw_rad: np.ndarray | float, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        plan_along(x_m, yaw_rad)
    assert caught.value.field == "plan.poses_world_from_ego"


def test_a_layout_is_true_where_any_column_of_its_cell_holds_a_seen_vehicle() -> None:
    labels = np.zeros((2, *CARLASC_GRID.shape), dtype=np.uint8)
    labels[0, 4, 9, 3] = VEHICLE
    labels[1, 127, 127, 0] = VEHICLE
    observed = np.ones(labels.shape, dtype=np.bool_)
    observed[1] = False
    seen = OccupancySequence(labels, poses_from_planar(np.zeros((2, 3))), TIMES_US[:2], CARLASC_GRID, CARLASC, observed)
    cells = VehicleLayout.of(seen).cells
    assert cells.shape == (2, 32, 32)
    assert np.argwhere(cells).tolist() == [[0, 1, 2]]


def test_a_layout_of_numbers_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"layout\.cells"):
        VehicleLayout(np.zeros((16, 32, 32), dtype=np.uint8))  # type: ignore[arg-type]


def test_one_known_frame_is_a_region() -> None:
    assert Conditions(plan=plan_along(np.zeros(FRAMES)), known_region=region(first_frame_only())).given() == (
        "known_region",
        "plan",
    )


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (None, "covers every cell"),
        (np.ones((FRAMES, *CARLASC_GRID.shape), dtype=np.bool_), "covers every cell"),
        (np.zeros((FRAMES, *CARLASC_GRID.shape), dtype=np.bool_), "covers no cell"),
    ],
)
def test_a_mask_that_covers_all_or_nothing_is_refused(observed: np.ndarray | None, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        Conditions(known_region=region(observed))
    assert caught.value.field == "known_region.observed"


def test_a_region_away_from_the_plan_is_refused_with_its_frame() -> None:
    planar = np.zeros((FRAMES, 3))
    planar[5, 1] = 0.4
    with pytest.raises(InvalidInputError, match="at frame 5") as caught:
        Conditions(plan=plan_along(np.zeros(FRAMES)), known_region=region(first_frame_only(), planar))
    assert caught.value.field == "known_region.poses_world_from_ego"


def test_a_region_of_another_length_or_time_than_the_plan_is_refused() -> None:
    plan, known = plan_along(np.zeros(FRAMES)), region(first_frame_only())
    with pytest.raises(InvalidInputError, match=r"known_region\.labels: got 8 frames, expected 16"):
        Conditions(plan=plan, known_region=known[:8])
    late = EgoPlan(plan.poses_world_from_ego, TIMES_US + 1)
    with pytest.raises(InvalidInputError, match=r"known_region\.times_us"):
        Conditions(plan=late, known_region=known)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"guidance_scales": {"weather": 1.0}}, "options.guidance_scales"),
        ({"guidance_scales": {"plan": -1.0}}, r"options.guidance_scales[plan]"),
        ({"guidance_scales": {"plan": float("nan")}}, r"options.guidance_scales[plan]"),
        ({"resamples": 0}, "options.resamples"),
        ({"resamples": 51}, "options.resamples"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        SamplingOptions(**options)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("far_m", [1.1e9, 1e20, 1e300])
def test_poses_beyond_what_numbers_can_tell_apart_are_refused(far_m: float) -> None:
    plan_along(np.full(FRAMES, 1e9))
    with pytest.raises(InvalidInputError, match=r"a translation of .* m, expected at most 1e\+09 m"):
        plan_along(np.full(FRAMES, -far_m))
