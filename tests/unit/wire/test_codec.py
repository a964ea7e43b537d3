import dataclasses
from contextlib import suppress

import numpy as np
import pytest
from dyncity.v1 import conditions_pb2, occupancy_pb2
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dyncity_sim.domain.conditions import (
    CONDITIONS,
    Command,
    Conditions,
    Continuation,
    EgoPlan,
    SamplingOptions,
    VehicleLayout,
)
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW, TAXONOMIES
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire import codec
from dyncity_sim.wire.limits import MAX_FRAMES
from dyncity_sim.wire.server_info import ServerInfo
from dyncity_sim.wire.voxels import VoxelEncoding

metres = st.floats(-50, 50)
encodings = st.sampled_from(VoxelEncoding)


@st.composite
def grids(draw):
    positive = st.floats(1e-3, 10)
    return Grid(
        draw(st.tuples(*[st.integers(1, 5)] * 3)),
        draw(st.tuples(*[metres] * 3)),
        draw(st.tuples(*[positive] * 3)),
    )


@st.composite
def poses(draw, frames):
    planar = draw(hnp.arrays(np.float64, (frames, 3), elements=st.floats(-3, 3)))
    return poses_from_planar(planar, draw(metres))


@st.composite
def times(draw, frames):
    steps = draw(st.lists(st.integers(10**6, 10**9), min_size=frames, max_size=frames))
    return np.cumsum(steps) + draw(st.integers(-(10**15), 10**15))


@st.composite
def plans(draw):
    frames = draw(st.integers(2, 20))
    return EgoPlan(draw(poses(frames)), draw(times(frames)))


@st.composite
def occupancies(draw):
    grid = draw(grids())
    taxonomy = draw(st.sampled_from([CARLASC, CARLASC_RAW]))
    frames = draw(st.integers(1, 4))
    shape = (frames, *grid.shape)
    labels = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, len(taxonomy) - 1)))
    observed = draw(st.none() | hnp.arrays(np.bool_, shape))
    return OccupancySequence(labels, draw(poses(frames)), draw(times(frames)), grid, taxonomy, observed)


@st.composite
def regions(draw):
    occupancy = draw(occupancies())
    observed = np.zeros(occupancy.labels.shape, dtype=np.bool_)
    observed.ravel()[: draw(st.integers(1, max(1, observed.size - 1)))] = True
    return dataclasses.replace(occupancy, observed=observed)


layouts = hnp.arrays(np.bool_, st.tuples(*[st.integers(1, 9)] * 3)).map(VehicleLayout)
continuations = st.builds(Continuation, st.text(max_size=20), st.binary(max_size=64))


def through_the_wire(message):
    return type(message).FromString(message.SerializeToString())


def assert_same_occupancy(a, b):
    assert np.array_equal(a.labels, b.labels)
    assert np.array_equal(a.poses_world_from_ego, b.poses_world_from_ego)
    assert np.array_equal(a.times_us, b.times_us)
    assert (a.grid, a.taxonomy) == (b.grid, b.taxonomy)
    assert (a.observed is None) == (b.observed is None)
    assert a.observed is None or np.array_equal(a.observed, b.observed)


@settings(max_examples=60)
@given(occupancies(), encodings)
def test_occupancy_comes_back_bit_for_bit(occupancy, encoding):
    message = through_the_wire(codec.occupancy_to_proto(occupancy, encoding))
    assert_same_occupancy(codec.occupancy_from_proto(message, TAXONOMIES), occupancy)


@settings(max_examples=60)
@given(
    st.none() | plans(),
    st.none() | st.sampled_from(Command),
    st.none() | continuations,
    st.none() | layouts,
    encodings,
)
def test_conditions_come_back_and_what_is_absent_stays_absent(plan, command, continuation, layout, encoding):
    message = through_the_wire(codec.conditions_to_proto(Conditions(plan, command, continuation, layout), encoding))
    back = codec.conditions_from_proto(message, TAXONOMIES)
    assert (back.command, back.continuation) == (command, continuation)
    assert (back.layout is None) == (layout is None)
    assert layout is None or np.array_equal(back.layout.cells, layout.cells)
    assert (back.plan is None) == (plan is None)
    if plan is not None:
        assert np.array_equal(back.plan.poses_world_from_ego, plan.poses_world_from_ego)
        assert np.array_equal(back.plan.times_us, plan.times_us)


@settings(max_examples=30)
@given(regions().filter(lambda region: not region.observed.all()), encodings)
def test_a_known_region_comes_back(region, encoding):
    message = through_the_wire(codec.conditions_to_proto(Conditions(known_region=region), encoding))
    assert_same_occupancy(codec.conditions_from_proto(message, TAXONOMIES).known_region, region)


@given(
    st.builds(
        SamplingOptions,
        seed=st.none() | st.integers(0, 2**63 - 1),
        steps=st.none() | st.integers(1, 1000),
        guidance_scale=st.none() | st.floats(0, 20),
        sampler=st.none() | st.text(max_size=10),
        guidance_scales=st.dictionaries(st.sampled_from(CONDITIONS), st.floats(0, 20)),
        resamples=st.none() | st.integers(1, 50),
    )
)
def test_options_come_back_with_zero_apart_from_absent(options):
    assert codec.options_from_proto(through_the_wire(codec.options_to_proto(options))) == options


@settings(max_examples=30)
@given(occupancies(), continuations, st.integers(0, 2**63 - 1), encodings, st.tuples(*[st.integers(0, 10**9)] * 3))
def test_a_chunk_comes_back(occupancy, continuation, seed, encoding, spent_us):
    timings = Timings(*(us * 1e-6 for us in spent_us))
    chunk = GeneratedChunk(occupancy, continuation, seed, "some-model", timings)
    back = codec.chunk_from_proto(through_the_wire(codec.chunk_to_proto(chunk, encoding)), TAXONOMIES)
    assert_same_occupancy(back.occupancy, occupancy)
    assert (back.continuation, back.seed, back.model_id) == (continuation, seed, "some-model")
    assert back.timings == timings


def test_server_info_comes_back():
    model = ModelInfo("m-1", "null", CARLASC_GRID, CARLASC, 16, 10.0, ("plan", "command"), ("ddpm", "dpm"), 20, 250)
    info = ServerInfo("dyncity.v1", "0.1.0", model, 8, 2**26)
    assert codec.server_info_from_proto(through_the_wire(codec.server_info_to_proto(info))) == info


def small_message(**changes):
    shape = (2, 4, 4, 2)
    occupancy = OccupancySequence(
        np.arange(64, dtype=np.uint8).reshape(shape) % 12,
        poses_from_planar(np.zeros((2, 3))),
        np.array([0, 100_000]),
        Grid(shape[1:], (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        CARLASC,
        np.ones(shape, dtype=np.bool_),
    )
    message = codec.occupancy_to_proto(occupancy, VoxelEncoding.RAW)
    message.MergeFrom(occupancy_pb2.Occupancy(**changes))
    return message


def refused(message):
    with pytest.raises(InvalidInputError) as caught:
        codec.occupancy_from_proto(message, TAXONOMIES)
    return caught.value


def test_labels_of_another_length_name_the_field():
    assert refused(small_message(labels=b"\0" * 63)).field == "occupancy.labels"


def test_a_mask_of_another_length_names_the_field():
    assert refused(small_message(observed=b"\0")).field == "occupancy.observed"


def test_a_label_outside_the_taxonomy_is_refused():
    error = refused(small_message(labels=b"\x0c" * 64))
    assert error.field == "occupancy.labels"
    assert "label 12" in str(error)


def test_an_unknown_taxonomy_is_refused_with_the_known_ones():
    error = refused(small_message(taxonomy_id="nuscenes"))
    assert error.field == "occupancy.taxonomy_id"
    assert "'carlasc'" in error.expected


def test_data_without_an_encoding_is_refused():
    message = small_message()
    message.encoding = occupancy_pb2.VOXEL_ENCODING_UNSPECIFIED
    assert refused(message).field == "occupancy.encoding"


def test_an_encoding_of_the_future_is_refused():
    message = small_message()
    message.encoding = 17
    assert "17" in str(refused(message))


def test_a_missing_grid_is_refused():
    message = small_message()
    message.ClearField("grid")
    assert refused(message).field == "occupancy.grid.shape"


def test_a_grid_without_extent_is_refused_under_its_own_name():
    message = small_message()
    message.grid.voxel_size_m[1] = 0.0
    assert refused(message).field == "occupancy.grid.voxel_size_m"


def test_a_grid_of_absurd_size_is_refused_before_it_is_allocated():
    message = small_message()
    message.grid.shape[0] = 2**32 - 1
    error = refused(message)
    assert "at most" in error.expected


def test_more_frames_than_a_message_may_have_are_refused_before_they_are_unpacked():
    message = small_message()
    message.poses_world_from_ego.extend([message.poses_world_from_ego[0]] * MAX_FRAMES)
    assert refused(message).field == "occupancy.poses_world_from_ego"
    message = small_message()
    message.times_us.extend([0] * MAX_FRAMES)
    error = refused(message)
    assert (error.field, error.expected) == ("occupancy.times_us", f"at most {MAX_FRAMES}")


@pytest.mark.parametrize("field", ["poses_world_from_ego", "times_us"])
def test_a_plan_of_more_frames_than_a_message_may_have_is_refused(field):
    message = plan_message()
    numbers = getattr(message.plan, field)
    numbers.extend([numbers[0]] * MAX_FRAMES)
    with pytest.raises(InvalidInputError, match=f"at most {MAX_FRAMES}") as caught:
        codec.conditions_from_proto(message, TAXONOMIES)
    assert caught.value.field == f"conditions.plan.{field}"


def test_a_pose_with_missing_numbers_names_its_frame():
    message = small_message()
    message.poses_world_from_ego[1].rows.pop()
    assert refused(message).field == "occupancy.poses_world_from_ego[1].rows"


def test_no_frames_at_all_are_refused():
    message = small_message()
    message.ClearField("poses_world_from_ego")
    assert refused(message).field.startswith("occupancy.")


def plan_message(frames=3):
    plan = EgoPlan(poses_from_planar(np.zeros((frames, 3))), np.arange(frames) * 100_000)
    return codec.conditions_to_proto(Conditions(plan=plan))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_names_the_field_of_the_request(value):
    message = plan_message()
    message.plan.poses_world_from_ego[2].rows[3] = value
    with pytest.raises(InvalidInputError) as caught:
        codec.conditions_from_proto(message, TAXONOMIES)
    assert caught.value.field == "conditions.plan.poses_world_from_ego"
    assert "frame 2" in str(caught.value)


@given(st.integers(0, 11), st.sampled_from([1e308, -1e308, 1e200]))
def test_absurd_but_finite_numbers_are_refused(index, value):
    message = plan_message()
    message.plan.poses_world_from_ego[1].rows[index] = value
    with pytest.raises(InvalidInputError):
        codec.conditions_from_proto(message, TAXONOMIES)


def test_an_unknown_command_is_refused():
    with pytest.raises(InvalidInputError) as caught:
        codec.conditions_from_proto(conditions_pb2.Conditions(command=9), TAXONOMIES)
    assert caught.value.field == "conditions.command"
    assert "COMMAND_LEFT" in caught.value.expected


def region_message(**changes):
    message = conditions_pb2.Conditions(known_region=small_message())
    message.known_region.MergeFrom(occupancy_pb2.Occupancy(**changes))
    return message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (region_message(), "conditions.known_region.observed"),
        (region_message(labels=b"short"), "conditions.known_region.labels"),
        (region_message(labels=bytes([99] * 64)), "conditions.known_region.labels"),
        (region_message(taxonomy_id="other"), "conditions.known_region.taxonomy_id"),
        (region_message(times_us=[300_000]), "conditions.known_region.times_us"),
        (conditions_pb2.Conditions(layout=conditions_pb2.VehicleLayout(cells=b"1")), "conditions.layout.shape"),
        (
            conditions_pb2.Conditions(layout=conditions_pb2.VehicleLayout(cells=b"1", shape=[4, 4, 4])),
            "conditions.layout.cells",
        ),
    ],
)
def test_a_damaged_layout_or_known_region_names_the_field_of_the_request(message, field):
    with pytest.raises(InvalidInputError) as caught:
        codec.conditions_from_proto(message, TAXONOMIES)
    assert caught.value.field == field


def whole_request():
    message = plan_message()
    message.command = conditions_pb2.COMMAND_LEFT
    message.continuation.CopyFrom(conditions_pb2.Continuation(model_id="m-1", payload=b"bytes"))
    message.layout.CopyFrom(conditions_pb2.VehicleLayout(cells=b"\x0f", shape=[2, 2, 2]))
    return message


WHOLE_REQUESTS = [whole_request().SerializeToString(), region_message(observed=b"\x01" * 8).SerializeToString()]


@settings(max_examples=300)
@given(st.sampled_from(WHOLE_REQUESTS), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))))
def test_damaged_bytes_are_conditions_or_refused_and_nothing_else(request, damage):
    data = bytearray(request)
    for place, value in damage:
        data[int(place * len(data))] = value
    with suppress(DecodeError, InvalidInputError):
        codec.conditions_from_proto(conditions_pb2.Conditions.FromString(bytes(data)), TAXONOMIES)


def test_a_plan_whose_times_run_backwards_is_refused():
    message = plan_message()
    message.plan.times_us[2] = 5
    with pytest.raises(InvalidInputError) as caught:
        codec.conditions_from_proto(message, TAXONOMIES)
    assert caught.value.field == "conditions.plan.times_us"


def test_a_seed_beyond_63_bits_is_refused():
    with pytest.raises(InvalidInputError) as caught:
        codec.options_from_proto(conditions_pb2.SamplingOptions(seed=2**63))
    assert caught.value.field == "options.seed"
