"""What clients of dyncity.v1 that are out there rely on. Additions are fine; these do not change."""

import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from dyncity.v1 import conditions_pb2, generator_pb2, geometry_pb2, occupancy_pb2

ROOT = Path(__file__).parents[2]

FIELDS = {
    "Pose": {"rows": 1},
    "Grid": {"shape": 1, "lower_m": 2, "voxel_size_m": 3},
    "SemanticClass": {"name": 1, "colour_rgb": 2, "moves": 3},
    "Taxonomy": {"id": 1, "classes": 2},
    "Occupancy": {
        "labels": 1,
        "encoding": 2,
        "poses_world_from_ego": 3,
        "times_us": 4,
        "grid": 5,
        "taxonomy_id": 6,
        "observed": 7,
    },
    "EgoPlan": {"poses_world_from_ego": 1, "times_us": 2},
    "Continuation": {"model_id": 1, "payload": 2},
    "VehicleLayout": {"cells": 1, "shape": 2},
    "Conditions": {"plan": 1, "command": 2, "continuation": 3, "layout": 4, "known_region": 5},
    "SamplingOptions": {
        "seed": 1,
        "steps": 2,
        "guidance_scale": 3,
        "sampler": 4,
        "guidance_scales": 5,
        "resamples": 6,
    },
    "GenerateChunkRequest": {"conditions": 1, "options": 2, "encoding": 3},
    "GenerateChunkResponse": {"occupancy": 1, "continuation": 2, "seed": 3, "model_id": 4, "timings": 5},
    "StreamChunksRequest": {"conditions": 1, "options": 2, "encoding": 3},
    "StreamChunksResponse": {"index": 1, "chunk": 2},
    "EncodeOccupancyRequest": {"occupancy": 1},
    "EncodeOccupancyResponse": {"continuation": 1},
    "Timings": {"queue_us": 1, "sampling_us": 2, "decoding_us": 3},
    "GetModelInfoResponse": {
        "api_version": 1,
        "server_version": 2,
        "model_id": 3,
        "family": 4,
        "grid": 5,
        "taxonomy": 6,
        "frames_per_chunk": 7,
        "rate_hz": 8,
        "conditions": 9,
        "samplers": 10,
        "default_steps": 11,
        "max_steps": 12,
        "max_queue": 13,
        "max_message_bytes": 14,
    },
}

MESSAGES = {
    name: message
    for file in (geometry_pb2, occupancy_pb2, conditions_pb2, generator_pb2)
    for name, message in file.DESCRIPTOR.message_types_by_name.items()
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_keep_their_numbers(name):
    numbers = {field.name: field.number for field in MESSAGES[name].fields}
    assert numbers.items() >= FIELDS[name].items()


def test_what_may_be_absent_can_be_told_from_zero():
    for field in ("seed", "steps", "guidance_scale", "sampler"):
        assert conditions_pb2.SamplingOptions.DESCRIPTOR.fields_by_name[field].has_presence
    assert occupancy_pb2.Occupancy.DESCRIPTOR.fields_by_name["observed"].has_presence


def test_enum_numbers_stay():
    assert dict(conditions_pb2.Command.items()).items() >= {
        "COMMAND_UNSPECIFIED": 0, "COMMAND_STATIC": 1, "COMMAND_FORWARD": 2, "COMMAND_LEFT": 3, "COMMAND_RIGHT": 4,
    }.items()  # fmt: skip
    assert dict(occupancy_pb2.VoxelEncoding.items()).items() >= {
        "VOXEL_ENCODING_UNSPECIFIED": 0, "VOXEL_ENCODING_RAW": 1, "VOXEL_ENCODING_ZSTD": 2,
    }.items()  # fmt: skip


def test_the_service_keeps_its_name_and_calls():
    service = generator_pb2.DESCRIPTOR.services_by_name["OccupancyGenerator"]
    assert service.full_name == "dyncity.v1.OccupancyGenerator"
    streaming = {method.name: (method.client_streaming, method.server_streaming) for method in service.methods}
    assert streaming.items() >= {
        "GetModelInfo": (False, False), "GenerateChunk": (False, False), "StreamChunks": (True, True),
        "EncodeOccupancy": (False, False),
    }.items()  # fmt: skip


def test_the_protos_pass_the_standard_lint():
    buf = shutil.which("buf") or str(Path(sys.executable).with_name("buf"))
    done = subprocess.run([buf, "lint", "proto"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("proto", sorted((ROOT / "proto/dyncity/v1").glob("*.proto")), ids=lambda path: path.name)
def test_every_message_field_and_value_has_a_comment(proto):
    lines = [line.strip() for line in proto.read_text().splitlines()]
    declared = re.compile(r"(message|enum|service|rpc) \w+|.* = \d+;")
    bare = [line for above, line in pairwise(lines) if declared.fullmatch(line.split(" {")[0].split("(")[0])
            and not above.startswith("//")]  # fmt: skip
    assert bare == []
