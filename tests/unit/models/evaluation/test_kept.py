"""Chunks that are kept are not generated again."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.evaluation.kept import KeptBackend, digest_of

from dyncity_sim.domain.conditions import Command, Conditions, SamplingOptions, VehicleLayout
from dyncity_sim.errors import InvalidInputError, StorageError


@pytest.fixture
def kept(backend, tmp_path):
    return KeptBackend(backend, tmp_path / "chunks", "fp32 on cpu")


def generate(backend, conditions, seed=0, steps=1):
    calls = []
    chunk = backend.generate(conditions, SamplingOptions(seed=seed, steps=steps), calls.append)
    return chunk, len(calls)


def test_a_chunk_comes_back_as_it_was_without_the_network(kept, plan_along):
    plan = plan_along(6.0)
    first, asked = generate(kept, Conditions(plan))
    again, asked_again = generate(kept, Conditions(plan))
    assert asked > 0
    assert asked_again == 0
    assert np.array_equal(first.occupancy.labels, again.occupancy.labels)
    assert np.array_equal(first.occupancy.poses_world_from_ego, again.occupancy.poses_world_from_ego)
    assert (first.continuation, first.seed, first.timings) == (again.continuation, again.seed, again.timings)


def test_a_backend_that_runs_in_another_way_is_not_given_the_chunks_of_the_first(kept, backend, plan_along):
    plan = Conditions(plan_along(6.0))
    generate(kept, plan)
    assert generate(KeptBackend(backend, kept.folder, "bf16 on cpu"), plan)[1] > 0
    assert generate(KeptBackend(backend, kept.folder, "fp32 on cpu"), plan)[1] == 0


def test_whatever_changes_a_chunk_changes_its_digest(backend, plan_along):
    plan, cells = plan_along(6.0), np.zeros((16, 32, 32), bool)
    onward = generate(backend, Conditions(plan))[0].continuation
    conditions = [
        Conditions(plan),
        Conditions(plan_along(6.1)),
        Conditions(plan, Command.LEFT),
        Conditions(plan, continuation=onward),
        Conditions(plan, layout=VehicleLayout(cells)),
        Conditions(replace(plan, times_us=plan.times_us + 1)),
    ]
    options = [SamplingOptions(seed=0), SamplingOptions(seed=1), SamplingOptions(seed=0, steps=2)]
    digests = [digest_of("m", c, options[0]) for c in conditions] + [
        digest_of("m", conditions[0], o) for o in options[1:]
    ]
    digests.append(digest_of("other", conditions[0], options[0]))
    assert len(set(digests)) == len(digests)
    assert digest_of("m", Conditions(plan_along(6.0)), SamplingOptions(seed=0)) == digests[0]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-30], lambda content: content[:200] + bytes(99) + content[299:], lambda _: b""]
)
def test_a_kept_chunk_that_was_damaged_is_named(kept, plan_along, damage):
    generate(kept, Conditions(plan_along(6.0)))
    (file,) = kept.folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InvalidInputError, match=file.name):
        generate(kept, Conditions(plan_along(6.0)))


def test_a_chunk_that_was_not_wholly_written_is_not_there(kept, plan_along, monkeypatch):
    def broken(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(StorageError, match="disk full"):
        generate(kept, Conditions(plan_along(6.0)))
    assert list(kept.folder.iterdir()) == []


def test_a_place_that_cannot_be_a_folder_is_a_storage_error(backend, tmp_path):
    (tmp_path / "ring.png").touch()
    with pytest.raises(StorageError, match=r"ring\.png"):
        KeptBackend(backend, tmp_path / "ring.png", "here")
