"""Real calls over real sockets to a server in this process."""

import dataclasses
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from dyncity.v1 import generator_pb2, generator_pb2_grpc, occupancy_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from dyncity_sim.client import DyncityClient
from dyncity_sim.domain.conditions import Command, Conditions, Continuation, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import (
    CheckpointError,
    InvalidInputError,
    RemoteError,
    UnsupportedConditionError,
)
from dyncity_sim.server.background import serving
from dyncity_sim.wire.limits import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES
from dyncity_sim.wire.voxels import VoxelEncoding

LONG_S = 20.0


class BrokenBackend(NullBackend):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def warm_up(self) -> None:
        pass

    def generate(self, conditions, options, checkpoint):
        raise self.error


@pytest.fixture(scope="module")
def null_target() -> Iterator[str]:
    with serving(NullBackend) as target:
        yield target


@pytest.fixture(scope="module")
def client(null_target) -> Iterator[DyncityClient]:
    with DyncityClient(null_target) as client:
        yield client


@pytest.fixture
def stub(null_target):
    with grpc.insecure_channel(null_target, options=CHANNEL_OPTIONS) as channel:
        yield generator_pb2_grpc.OccupancyGeneratorStub(channel)


def straight_plan(frames=16, speed_mps=5.0):
    planar = np.zeros((frames, 3))
    planar[:, 0] = np.arange(frames) * speed_mps / 10
    return EgoPlan(poses_from_planar(planar), np.arange(frames) * 100_000)


def plan_after(plan):
    return EgoPlan(
        plan.poses_world_from_ego[-1] @ straight_plan(17).poses_world_from_ego[1:],
        plan.times_us[-1] + np.arange(1, 17) * 100_000,
    )


def observed_occupancy():
    labels = np.zeros((16, *CARLASC_GRID.shape), dtype=np.uint8)
    labels[:, 60:70, 40:45, 1:4] = CARLASC.index("vehicle")
    plan = straight_plan()
    return OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, CARLASC_GRID, CARLASC)


def test_a_chunk_arrives_at_the_poses_and_times_that_were_planned(client):
    plan = straight_plan()
    chunk = client.generate(Conditions(plan=plan), SamplingOptions(seed=5))
    assert chunk.occupancy.labels.shape == (16, 128, 128, 8)
    assert np.array_equal(chunk.occupancy.poses_world_from_ego, plan.poses_world_from_ego)
    assert np.array_equal(chunk.occupancy.times_us, plan.times_us)
    assert (chunk.seed, chunk.model_id) == (5, client.model_info().model_id)


def test_a_seed_that_is_left_open_comes_back_and_reproduces_the_chunk(client):
    first = client.generate(Conditions(plan=straight_plan()))
    other = client.generate(Conditions(plan=straight_plan()))
    again = client.generate(Conditions(plan=straight_plan()), SamplingOptions(seed=first.seed))
    assert np.array_equal(first.occupancy.labels, again.occupancy.labels)
    assert not np.array_equal(first.occupancy.labels, other.occupancy.labels)


def test_both_encodings_carry_the_same_labels(client, null_target):
    with DyncityClient(null_target, encoding=VoxelEncoding.RAW) as raw_client:
        conditions, options = Conditions(plan=straight_plan()), SamplingOptions(seed=1)
        raw, packed = raw_client.generate(conditions, options), client.generate(conditions, options)
    assert np.array_equal(raw.occupancy.labels, packed.occupancy.labels)


def test_the_server_packs_its_reply_when_no_encoding_is_asked_for(stub):
    reply = stub.GenerateChunk(generator_pb2.GenerateChunkRequest())
    assert reply.occupancy.encoding == occupancy_pb2.VOXEL_ENCODING_ZSTD


def test_a_continuation_carries_vehicles_into_the_next_chunk(client):
    plan = straight_plan()
    first = client.generate(Conditions(plan=plan), SamplingOptions(seed=3))
    onward = Conditions(plan=plan_after(plan), continuation=first.continuation)
    assert np.array_equal(
        client.generate(onward, SamplingOptions(seed=8)).occupancy.labels,
        client.generate(onward, SamplingOptions(seed=9)).occupancy.labels,
    )


def test_what_was_encoded_is_there_in_the_next_chunk(client):
    occupancy = observed_occupancy()
    plan = plan_after(EgoPlan(occupancy.poses_world_from_ego, occupancy.times_us))
    continuation = client.encode(occupancy)
    chunk = client.generate(Conditions(plan=plan, continuation=continuation), SamplingOptions(seed=0))
    vehicle = chunk.occupancy.labels[0] == CARLASC.index("vehicle")
    moved_cells = round(0.5 / CARLASC_GRID.voxel_size_m[0])
    assert vehicle[60 - moved_cells : 70 - moved_cells, 40:45].any()
    assert not vehicle[:50].any()


def known_half(**changes):
    observed = np.zeros((16, *CARLASC_GRID.shape), dtype=np.bool_)
    observed[:, :64] = True
    return dataclasses.replace(observed_occupancy(), observed=observed, **changes)


def test_known_cells_come_back_as_they_are_and_the_rest_is_generated(client):
    region = known_half()
    conditions = Conditions(plan=straight_plan(), known_region=region)
    labels = client.generate(conditions, SamplingOptions(seed=1)).occupancy.labels
    free = client.generate(Conditions(plan=straight_plan()), SamplingOptions(seed=1)).occupancy.labels
    assert np.array_equal(labels[region.observed], region.labels[region.observed])
    assert np.array_equal(labels[~region.observed], free[~region.observed])


def test_a_known_region_of_another_taxonomy_is_refused(client):
    with pytest.raises(InvalidInputError) as caught:
        client.generate(Conditions(plan=straight_plan(), known_region=known_half(taxonomy=CARLASC_RAW)))
    assert caught.value.field == "conditions.known_region.taxonomy_id"


def test_a_layout_of_another_grid_is_refused():
    class WithLayouts(NullBackend):
        info = dataclasses.replace(NullBackend.info, conditions=("layout",))

    with serving(WithLayouts) as target, DyncityClient(target) as client:
        client.generate(Conditions(layout=VehicleLayout(np.ones((16, 32, 32), dtype=np.bool_))))
        with pytest.raises(InvalidInputError, match=r"\(16, 32, 32\)") as caught:
            client.generate(Conditions(layout=VehicleLayout(np.ones((16, 30, 32), dtype=np.bool_))))
    assert caught.value.field == "conditions.layout.shape"


def test_the_server_describes_itself(client):
    info = client.server_info()
    assert info.model == NullBackend.info
    assert (info.api_version, info.max_queue, info.max_message_bytes) == ("dyncity.v1", 8, MAX_MESSAGE_BYTES)


def test_health_names_the_service_and_reflection_describes_it(null_target):
    with grpc.insecure_channel(null_target) as channel:
        for service in ("", "dyncity.v1.OccupancyGenerator"):
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        names = {service.name for answer in answers for service in answer.list_services_response.service}
    assert "dyncity.v1.OccupancyGenerator" in names


OTHERS = Continuation("m-2", b"")

DAMAGED = Continuation(NullBackend.info.model_id, b"x")

BAD_REQUESTS = {
    "a foreign continuation": (Conditions(continuation=OTHERS), None, "conditions.continuation.model_id"),
    "a damaged continuation": (Conditions(continuation=DAMAGED), None, "conditions.continuation.payload"),
    "a short plan": (Conditions(plan=straight_plan(frames=9)), None, "conditions.plan.poses_world_from_ego"),
    "a plan at another rate": (
        Conditions(plan=EgoPlan(straight_plan().poses_world_from_ego, np.arange(16) * 500_000)),
        None,
        "conditions.plan.times_us",
    ),
    "a guidance scale of a condition the model has not": (
        Conditions(),
        SamplingOptions(guidance_scales={"layout": 2.0}),
        "options.guidance_scales",
    ),
    "an unknown sampler": (Conditions(), SamplingOptions(sampler="magic"), "options.sampler"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_what_does_not_fit_the_model_names_the_field_of_the_request(client, case):
    conditions, options, field = BAD_REQUESTS[case]
    with pytest.raises(InvalidInputError) as caught:
        client.generate(conditions, options)
    assert caught.value.field == field
    assert caught.value.expected


def test_a_foreign_continuation_is_refused_with_both_model_ids(client):
    with pytest.raises(InvalidInputError, match=r"'m-2', expected 'null-2'"):
        client.generate(Conditions(continuation=OTHERS))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"taxonomy": CARLASC_RAW}, "occupancy.taxonomy_id"),
        ({"grid": Grid(CARLASC_GRID.shape, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}, "occupancy.grid"),
    ],
)
def test_occupancy_of_another_kind_is_not_encoded(client, change, field):
    with pytest.raises(InvalidInputError) as caught:
        client.encode(dataclasses.replace(observed_occupancy(), **change))
    assert caught.value.field == field


def refusal(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=LONG_S)
    return caught.value


def violation(error):
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in rpc_status.from_call(error).details)
    return request.field_violations[0]


def test_any_client_gets_field_violations(stub):
    request = generator_pb2.GenerateChunkRequest()
    request.conditions.command = 9
    error = refusal(stub.GenerateChunk, request)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert violation(error).field == "conditions.command"


def test_a_number_that_is_not_finite_is_refused(stub):
    request = generator_pb2.GenerateChunkRequest()
    request.conditions.plan.poses_world_from_ego.add(rows=[float("nan")] * 12)
    error = refusal(stub.GenerateChunk, request)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "finite" in violation(error).description


def test_bytes_that_are_no_request_are_refused(null_target):
    with grpc.insecure_channel(null_target) as channel:
        error = refusal(channel.unary_unary("/dyncity.v1.OccupancyGenerator/GenerateChunk"), b"\xff\xff\xff\x01junk")
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert violation(error).field == "request"


def test_damaged_zstd_is_refused(stub):
    request = generator_pb2.EncodeOccupancyRequest()
    occupancy = request.occupancy
    occupancy.encoding, occupancy.labels, occupancy.taxonomy_id = occupancy_pb2.VOXEL_ENCODING_ZSTD, b"junk", "carlasc"
    occupancy.poses_world_from_ego.add(rows=[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0])
    occupancy.grid.shape.extend([2, 2, 2])
    occupancy.grid.lower_m.extend([0, 0, 0])
    occupancy.grid.voxel_size_m.extend([1, 1, 1])
    error = refusal(stub.EncodeOccupancy, request)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert violation(error).field == "occupancy.labels"


def test_encoding_nothing_is_refused(stub):
    error = refusal(stub.EncodeOccupancy, generator_pb2.EncodeOccupancyRequest())
    assert violation(error).field == "occupancy"


def test_a_message_over_the_limit_is_refused_by_the_client(client):
    too_large = Continuation(NullBackend.info.model_id, bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(InvalidInputError, match="larger than max"):
        client.generate(Conditions(continuation=too_large))


def test_a_message_over_the_limit_is_refused_by_the_server_and_harms_nobody_else(null_target, client):
    with grpc.insecure_channel(null_target, options=[("grpc.max_send_message_length", -1)]) as channel:
        request = generator_pb2.GenerateChunkRequest()
        request.conditions.continuation.payload = bytes(MAX_MESSAGE_BYTES)
        error = refusal(generator_pb2_grpc.OccupancyGeneratorStub(channel).GenerateChunk, request)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.generate(Conditions()).model_id == "null-2"


def test_a_condition_the_weights_do_not_know_is_refused_with_those_they_do():
    class PlanOnly(NullBackend):
        info = dataclasses.replace(NullBackend.info, conditions=("plan",))

    refused = pytest.raises(UnsupportedConditionError, match=r"'command'.*supports: plan")
    with serving(PlanOnly) as target, DyncityClient(target) as client, refused:
        client.generate(Conditions(command=Command.LEFT))


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), CheckpointError("secret", 1, "2")])
def test_a_failure_of_the_server_is_an_incident_that_only_its_log_explains(error, caplog):
    told = pytest.raises(RemoteError)
    with serving(lambda: BrokenBackend(error)) as target, DyncityClient(target) as client, told as caught:
        client.generate(Conditions())
    assert "secret" not in str(caught.value)
    incident = str(caught.value).split("incident ")[1].rstrip(".")
    (record,) = [r for r in caplog.records if incident in r.getMessage()]
    assert record.exc_info[1] is error
