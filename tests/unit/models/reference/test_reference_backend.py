"""The family reference as the engine sees it: every condition, continuations, known regions, drives."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.backends.load import load
from dyncity_models.backends.reference.backend import ReferenceBackend
from dyncity_models.backends.reference.continuation import EndedChunk
from dyncity_models.backends.reference.pipeline import ReferencePipeline
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.execution import Execution
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference, save_reference
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.config import (
    AUTOENCODERS,
    TRANSFORMERS,
    ReferenceAutoencoderConfig,
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSampling,
    ReferenceSpace,
    ReferenceTransformerConfig,
    with_values,
)
from dyncity_models.reference.config import CONDITIONS as REFERENCE_CONDITIONS
from dyncity_models.reference.conventions import EgoConvention, OfficialConvention
from dyncity_models.reference.dit import ReferenceTransformer
from safetensors.torch import load_file, save_file

from dyncity_sim.domain.conditions import Command, Conditions, Continuation, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.engine import Engine
from dyncity_sim.errors import CheckpointError, ConfigError, InvalidInputError, UnsupportedConditionError

FRAMES = 4
CLASSES = ("free", "road", "building", "vehicle", "pedestrian")


@pytest.fixture(scope="module")
def build_backend(even_planes, build_transformer, tmp_path_factory):
    """A function that builds the backend of random weights, by way of the disk.

    The transformer's are small, because noise that is predicted too large blows latents up, chunk after chunk.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = ReferenceAutoencoder(even_planes)

    def build(convention=None, names=CLASSES, sampling=None, **changes):
        folder = tmp_path_factory.mktemp("reference")
        transformer = build_transformer(**{"spread": 0.01} | changes)
        config = ReferenceConfig(
            even_planes,
            transformer.config,
            ReferenceClasses(names),
            ReferenceSpace.carlasc(even_planes.grid),
            sampling or ReferenceSampling("ddim", 3, 2.0),
        )
        save_reference(folder, config, autoencoder, transformer, convention or EgoConvention())
        return load(folder)

    return build


@pytest.fixture(scope="module")
def backend(build_backend):
    return build_backend()


@pytest.fixture
def save_weights(even_planes, build_autoencoder, build_transformer, tmp_path):
    """A function that writes a folder of random weights."""

    def save():
        transformer = build_transformer()
        config = ReferenceConfig(even_planes, transformer.config, ReferenceClasses(CLASSES))
        save_reference(tmp_path / "weights", config, build_autoencoder(even_planes), transformer, EgoConvention())
        return tmp_path / "weights"

    return save


@pytest.fixture
def plan():
    return plan_of(0)


def plan_of(chunk, yaw_rad=0.0):
    """Poses that bend to the left, chunk after chunk."""
    steps = np.arange(chunk * FRAMES, (chunk + 1) * FRAMES)
    turned = yaw_rad + 0.02 * steps
    planar = np.column_stack([0.5 * steps * np.cos(yaw_rad), 0.5 * steps * np.sin(yaw_rad), turned])
    return EgoPlan(poses_from_planar(planar, 1.8), steps.astype(np.int64) * 100_000)


def generated(backend, conditions, seed=1, **options):
    return backend.generate(conditions, SamplingOptions(seed=seed, **options), lambda done: None)


def layout_with(*cells):
    layout = np.zeros((FRAMES, 4, 4), np.bool_)
    layout[:, *zip(*cells, strict=True)] = True
    return VehicleLayout(layout)


def occupancy_of(backend, plan, seed=0, observed=None):
    labels = np.random.default_rng(seed).integers(0, 5, (FRAMES, *backend.grid.shape)).astype(np.uint8)
    return OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, backend.grid, backend.taxonomy, observed)


def test_the_model_tells_of_itself(backend, build_backend):
    info = backend.info
    assert (info.family, info.frames_per_chunk, info.rate_hz, info.default_steps) == ("reference", 4, 10.0, 3)
    assert info.model_id == backend.pipeline.model.model_id
    assert info.grid.shape == (16, 16, 8)
    assert info.grid.lower_m == (-3.2, -3.2, -2.0)
    assert info.taxonomy.names == CLASSES
    assert info.taxonomy.moving_labels == (3, 4)
    assert info.conditions == ("known_region", "continuation", "plan", "layout", "command")
    assert info.samplers == ("ddim", "ddpm", "dpm++2m", "unipc")
    assert build_backend(conditions=("command",)).info.conditions == ("known_region", "command")


def test_the_same_seed_gives_the_same_chunk_and_another_another(backend, plan):
    conditions = Conditions(plan, plan.command)
    first, again, other = (generated(backend, conditions, seed) for seed in (5, 5, 6))
    assert first.occupancy.labels.tobytes() == again.occupancy.labels.tobytes()
    assert first.continuation == again.continuation
    assert first.occupancy.labels.tobytes() != other.occupancy.labels.tobytes()
    assert np.array_equal(first.occupancy.poses_world_from_ego, plan.poses_world_from_ego)
    assert first.model_id == first.continuation.model_id == backend.info.model_id


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++2m", "unipc"])
def test_every_sampler_that_is_offered_generates_in_as_many_steps_as_asked_for(backend, plan, sampler):
    done = []
    options = SamplingOptions(seed=0, steps=5, sampler=sampler)
    backend.generate(Conditions(plan), options, done.append)
    assert done == list(range(6))


def test_every_condition_that_is_given_changes_what_comes(backend, plan):
    before = generated(backend, Conditions(plan)).continuation
    full = Conditions(plan, Command.LEFT, before, layout_with((1, 2)))
    changed = [
        full,
        replace(full, plan=None),
        replace(full, plan=plan_of(1)),
        replace(full, command=None),
        replace(full, command=Command.RIGHT),
        replace(full, layout=None),
        replace(full, layout=layout_with((2, 1))),
        replace(full, continuation=None),
        replace(full, continuation=backend.encode(occupancy_of(backend, plan))),
    ]
    payloads = [generated(backend, conditions).continuation.payload for conditions in changed]
    assert len(set(payloads)) == len(changed)


def test_guidance_has_a_scale_for_each_condition_that_the_network_is_asked_with(backend, plan):
    conditions = Conditions(plan, Command.LEFT)
    plain = generated(backend, conditions).continuation
    assert generated(backend, conditions, guidance_scale=2.0).continuation == plain
    assert generated(backend, conditions, guidance_scales={"plan": 2.0, "command": 2.0}).continuation == plain
    assert generated(backend, conditions, guidance_scales={"command": 5.0}).continuation != plain
    assert generated(backend, conditions, guidance_scale=1.0).continuation != plain
    with pytest.raises(InvalidInputError, match=r"expected one of plan, command, layout, continuation"):
        generated(backend, conditions, guidance_scales={"known_region": 2.0})


def test_weights_that_were_trained_with_known_regions_see_them_under_a_scale_of_their_own(build_backend, plan):
    backend = build_backend(conditions=REFERENCE_CONDITIONS)
    observed = np.zeros((FRAMES, *backend.grid.shape), np.bool_)
    observed[:, :, 8:] = True
    region = occupancy_of(backend, plan, observed=observed)
    known = backend._known(region, 1)
    given = backend._conditions(Conditions(plan), None, known).region
    assert torch.equal(given[:, -1:].bool(), known.mask)
    assert torch.equal(given[:, :-1], known.values * known.mask)

    conditions = Conditions(plan, known_region=region)
    plain = generated(backend, conditions).continuation
    assert generated(backend, conditions, guidance_scales={"known_region": 1.0}).continuation == plain
    assert generated(backend, conditions, guidance_scales={"known_region": 3.0}).continuation != plain


def test_weights_of_single_frames_take_a_known_region_and_an_observed_frame(tmp_path):
    planes = ReferenceAutoencoderConfig(
        frames=1, grid=(8, 8, 4), classes=5, plane_channels=8, low_channels=8, high_channels=8, plane_down=(0, 0, 0, 0)
    )
    transformer = ReferenceTransformer(ReferenceTransformerConfig(depth=1, width=32, heads=4, patch=1), planes)
    config = ReferenceConfig(
        planes,
        transformer.config,
        ReferenceClasses(CLASSES),
        ReferenceSpace.carlasc(planes.grid),
        ReferenceSampling("ddim", 2, 1.0),
    )
    save_reference(tmp_path, config, ReferenceAutoencoder(planes), transformer, EgoConvention())
    backend = load(tmp_path)
    observed = np.zeros((1, 8, 8, 4), np.bool_)
    observed[:, :4] = True
    labels, times_us = np.zeros((1, 8, 8, 4), np.uint8), np.zeros(1, np.int64)
    frame = OccupancySequence(labels, np.eye(4)[None], times_us, backend.grid, backend.taxonomy, observed)
    chunk = generated(backend, Conditions(known_region=frame, continuation=backend.encode(frame)))
    assert (chunk.occupancy.labels[observed] == 0).all()


def test_an_ego_trajectory_means_the_same_wherever_it_is_driven(backend):
    here, there = (generated(backend, Conditions(plan_of(0, yaw))).continuation for yaw in (0.0, 2.0))
    first, second = (EndedChunk.unpacked(c, backend.info.model_id, (16, 14, 14)).rollout for c in (here, there))
    torch.testing.assert_close(first, second, rtol=0, atol=0.1)


def test_without_a_plan_the_ego_stands_where_the_chunk_before_ended(backend, plan):
    start = generated(backend, Conditions())
    assert np.array_equal(start.occupancy.poses_world_from_ego, np.tile(np.eye(4), (FRAMES, 1, 1)))
    assert start.occupancy.times_us.tolist() == [0, 100_000, 200_000, 300_000]
    ended = generated(backend, Conditions(plan))
    standing = generated(backend, Conditions(continuation=ended.continuation)).occupancy
    assert np.array_equal(standing.poses_world_from_ego, np.tile(plan.poses_world_from_ego[-1], (FRAMES, 1, 1)))
    assert standing.times_us.tolist() == [400_000, 500_000, 600_000, 700_000]


def test_conditions_that_the_weights_lack_are_refused_by_name(build_backend, plan):
    backend = build_backend(conditions=("command",))
    reply = generated(backend, Conditions(command=Command.LEFT))
    for name, conditions in {
        "plan": Conditions(plan),
        "layout": Conditions(layout=layout_with((0, 0))),
        "continuation": Conditions(continuation=reply.continuation),
    }.items():
        with pytest.raises(UnsupportedConditionError, match=name):
            generated(backend, conditions)


def test_a_continuation_holds_the_rollout_to_half_precision_and_where_the_chunk_ended(backend, plan):
    occupancy = occupancy_of(backend, plan)
    ended = EndedChunk.unpacked(backend.encode(occupancy), backend.info.model_id, (16, 14, 14))
    expected = backend.pipeline.encode(torch.from_numpy(occupancy.labels)[None])
    assert torch.equal(ended.rollout, expected.half().float())
    assert np.array_equal(ended.pose_world_from_ego, plan.poses_world_from_ego[-1])
    assert ended.time_us == 300_000


def test_unobserved_cells_are_encoded_as_free(backend, plan):
    observed = np.zeros((FRAMES, *backend.grid.shape), np.bool_)
    observed[:, 4:12] = True
    seen = occupancy_of(backend, plan, observed=observed)
    emptied = replace(seen, labels=np.where(observed, seen.labels, 0).astype(np.uint8), observed=None)
    assert backend.encode(seen) == backend.encode(emptied)


def damaged(payload, place):
    flipped = bytearray(payload)
    flipped[place] ^= 1
    return bytes(flipped)


@pytest.mark.parametrize("place", [0, 5, 9, 20, 200, -1])
def test_a_damaged_continuation_is_refused_with_both_ids(backend, plan, place):
    whole = backend.encode(occupancy_of(backend, plan))
    for payload in (damaged(whole.payload, place), whole.payload[:-1], whole.payload + b"\0", b""):
        with pytest.raises(InvalidInputError, match=r"continuation\.payload") as caught:
            generated(backend, Conditions(plan, continuation=replace(whole, payload=payload)))
        assert str(caught.value).count(backend.info.model_id) == 2


def test_a_continuation_of_another_model_is_refused_with_both_ids(backend, plan):
    foreign = Continuation("anchored-0123", b"payload")
    with pytest.raises(InvalidInputError, match=r"continuation\.model_id.*anchored-0123.*" + backend.info.model_id):
        generated(backend, Conditions(plan, continuation=foreign))


def test_latents_that_half_precision_cannot_hold_are_no_continuation():
    with pytest.raises(CheckpointError, match="half precision"):
        EndedChunk(torch.full((1, 16, 14, 14), 1e6), np.eye(4), 0).packed("reference-0")


class TestKnownRegions:
    @pytest.fixture
    def region(self, backend, plan):
        """The left of the ego is known in all frames."""
        observed = np.zeros((FRAMES, *backend.grid.shape), np.bool_)
        observed[:, :, 8:] = True
        return occupancy_of(backend, plan, observed=observed)

    def test_end_exactly_as_they_are_known(self, backend, plan, region):
        chunk = generated(backend, Conditions(plan, known_region=region))
        assert np.array_equal(chunk.occupancy.labels[region.observed], region.labels[region.observed])

    def test_change_what_is_generated_beside_them(self, backend, plan, region):
        free, bound = (generated(backend, Conditions(plan, known_region=known)) for known in (None, region))
        beside = ~region.observed
        assert not np.array_equal(free.occupancy.labels[beside], bound.occupancy.labels[beside])

    def test_are_in_the_latents_where_they_settle_them(self, backend, plan, region):
        chunk = generated(backend, Conditions(plan, known_region=region))
        ended = EndedChunk.unpacked(chunk.continuation, backend.info.model_id, (16, 14, 14))
        known = backend._known(region, 1)
        settled = known.mask.expand_as(known.values)
        assert settled.any()
        assert torch.equal(ended.rollout[settled], known.values.half().float()[settled])

    def test_are_fitted_by_resampling(self, backend, plan, region):
        calls = []
        options = SamplingOptions(seed=0, steps=3, resamples=4)
        backend.generate(Conditions(plan, known_region=region), options, calls.append)
        assert calls == list(range(13))

    def test_of_the_first_frame_alone_become_a_chunk(self, backend, plan):
        observed = np.zeros((FRAMES, *backend.grid.shape), np.bool_)
        observed[0] = True
        region = occupancy_of(backend, plan, observed=observed)
        chunk = generated(backend, Conditions(plan, known_region=region))
        assert np.array_equal(chunk.occupancy.labels[0], region.labels[0])
        assert not np.array_equal(chunk.occupancy.labels[1], region.labels[1])

    def test_give_the_poses_where_there_is_no_plan(self, backend, region, plan):
        chunk = generated(backend, Conditions(known_region=region))
        assert np.array_equal(chunk.occupancy.poses_world_from_ego, plan.poses_world_from_ego)

    def test_too_small_to_settle_a_latent_are_kept_all_the_same(self, backend, plan):
        observed = np.zeros((FRAMES, *backend.grid.shape), np.bool_)
        observed[2, 5, 5, 5] = True
        region = occupancy_of(backend, plan, observed=observed)
        assert backend._known(region, 1) is None
        labels = generated(backend, Conditions(plan, known_region=region)).occupancy.labels
        assert labels[2, 5, 5, 5] == region.labels[2, 5, 5, 5]

    @pytest.mark.parametrize("everything", [True, False])
    def test_of_everything_or_nothing_are_refused_by_field(self, backend, plan, everything):
        observed = np.full((FRAMES, *backend.grid.shape), everything)
        with pytest.raises(InvalidInputError, match=r"known_region\.observed"):
            Conditions(plan, known_region=occupancy_of(backend, plan, observed=observed))

    def test_of_another_grid_are_refused_by_field(self, backend, plan):
        labels = np.zeros((FRAMES, *CARLASC_GRID.shape), np.uint8)
        observed = np.zeros_like(labels, np.bool_)
        observed[0] = True
        region = OccupancySequence(
            labels, plan.poses_world_from_ego, plan.times_us, CARLASC_GRID, backend.taxonomy, observed
        )
        with pytest.raises(InvalidInputError, match=r"known_region\.grid"):
            generated(backend, Conditions(plan, known_region=region))


def test_weights_of_the_official_convention_live_in_the_mirror(build_backend, plan):
    """What goes in is mirrored, and what comes out is mirrored back."""
    backend = build_backend(OfficialConvention())
    layout = layout_with((1, 3))
    given = backend._conditions(Conditions(plan, Command.LEFT, layout=layout), None, None)
    expected = OfficialConvention().trajectory(plan.poses_world_from_ego)
    assert np.allclose(given.trajectory[0], expected)
    assert np.allclose(expected[:, 2], -plan_of(0).poses_world_from_ego[:, 1, 0], atol=1e-3)
    assert given.command.tolist() == [3]
    assert given.layout[0, 0].nonzero().tolist() == [[1, 0]]

    chunk = generated(backend, Conditions(plan))
    rollout = EndedChunk.unpacked(chunk.continuation, backend.info.model_id, (16, 14, 14)).rollout
    decoded = backend.pipeline.decode(rollout)[0].numpy()
    same = (decoded[:, :, ::-1] == chunk.occupancy.labels).mean()
    assert same > 0.99
    assert (decoded == chunk.occupancy.labels).mean() < 0.9

    seen = occupancy_of(backend, plan)
    turned = torch.from_numpy(seen.labels[:, :, ::-1].copy())[None]
    ended = EndedChunk.unpacked(backend.encode(seen), backend.info.model_id, (16, 14, 14))
    assert torch.equal(ended.rollout, backend.pipeline.encode(turned).half().float())


async def test_a_drive_of_128_frames_is_the_same_by_seed_and_from_any_of_its_continuations(build_backend):
    """As many chunks as 128 frames of the published size take, through the engine."""
    engine = Engine(build_backend, 4, np.random.default_rng(0))
    await engine.start()

    async def drive(first, continuation):
        chunks = []
        for number in range(first, 8):
            plan = plan_of(number)
            conditions = Conditions(plan, plan.command, continuation)
            chunk = await engine.generate(conditions, SamplingOptions(seed=100 + number), None)
            continuation = chunk.continuation
            chunks.append(chunk)
        return chunks

    try:
        whole, again = await drive(0, None), await drive(0, None)
        replayed = await drive(5, whole[4].continuation)
    finally:
        await engine.close()
    assert len(whole) == 8
    for chunks, same in ((whole, again), (whole[5:], replayed)):
        for chunk, other in zip(chunks, same, strict=True):
            assert chunk.occupancy.labels.tobytes() == other.occupancy.labels.tobytes()
            assert chunk.continuation == other.continuation
    assert len({chunk.continuation.payload for chunk in whole}) == 8


def test_latents_of_a_drive_that_would_run_away_stay_within_their_limit(build_backend):
    """Noise that is predicted too large makes latents grow from step to step, and from chunk to chunk."""

    def largest_of_a_drive(limit):
        backend = build_backend(sampling=ReferenceSampling("ddim", 3, 2.0, latent_limit=limit), spread=0.2)
        config = backend.config.autoencoder
        shape = (config.latent_channels, *config.rollout_shape)
        continuation, largest = None, []
        for chunk in range(4):
            given = Conditions(plan_of(chunk), continuation=continuation)
            continuation = generated(backend, given, seed=chunk).continuation
            rollout = EndedChunk.unpacked(continuation, backend.info.model_id, shape).rollout
            largest.append(float(rollout.abs().max()))
        return largest

    with pytest.raises(CheckpointError, match="ran away"):
        largest_of_a_drive(None)
    assert max(largest_of_a_drive(2.0)) == pytest.approx(2.0, rel=1e-3)


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="latent_limit"):
        ReferenceSampling(latent_limit=0.0)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (ReferenceSampling(steps=0), r"sampling\.steps: got 0"),
        (ReferenceSampling(sampler="heun"), r"sampling\.sampler: got 'heun', expected one of ddpm"),
        (ReferenceSampling(guidance_scale=-1.0), r"sampling\.guidance_scale: got -1"),
        (ReferenceSampling(resamples=51), r"sampling\.resamples: got 51"),
    ],
    ids=str,
)
def test_weights_whose_defaults_no_request_could_ask_for_are_refused(build_backend, sampling, message):
    with pytest.raises(ConfigError, match=message):
        build_backend(sampling=sampling)


def test_a_caller_who_gave_up_stops_the_sampling(backend, plan):
    def leave(done):
        if done == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        backend.generate(Conditions(plan), SamplingOptions(seed=0, steps=3), leave)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": [32, 32, 8]}, "shape"),
        ({"classes": 6}, "shape"),
        ({"latent_channels": 8}, "shape"),
        ({"grid": "wide"}, "grid"),
    ],
)
def test_weights_of_another_shape_are_refused(save_weights, change, message):
    folder = save_weights()
    edit(folder, lambda described: described["config"]["autoencoder"].update(change))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def edit(folder, change):
    described = json.loads((folder / "model.json").read_text())
    change(described)
    (folder / "model.json").write_text(json.dumps(described))


def test_weights_of_another_taxonomy_or_convention_are_refused(save_weights):
    folder = save_weights()
    edit(folder, lambda described: described["config"]["classes"].update(names=["free", "road"]))
    with pytest.raises(CheckpointError, match=r"classes\.names"):
        load(folder)
    edit(folder, lambda described: described.update(convention="sideways"))
    with pytest.raises(CheckpointError, match="convention"):
        load(folder)
    edit(folder, lambda described: described.update(family="unheard of"))
    with pytest.raises(CheckpointError, match="one of anchored, reference"):
        load(folder)


@pytest.mark.parametrize("file", ["autoencoder.safetensors", "transformer.safetensors"])
def test_truncated_weights_are_refused(save_weights, file):
    folder = save_weights()
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=file):
        load(folder)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load(folder)


def test_an_autoencoder_alone_is_not_served(tmp_path, even_planes, build_autoencoder):
    save_reference(tmp_path, ReferenceConfig(even_planes), build_autoencoder(even_planes))
    with pytest.raises(CheckpointError, match="without a transformer"):
        load(tmp_path)


def test_occupancy_that_does_not_fit_is_refused_by_field(backend, plan, build_street):
    street = build_street(FRAMES)
    with pytest.raises(InvalidInputError, match=r"occupancy\.grid"):
        backend.encode(street)
    fitting = occupancy_of(backend, plan)
    with pytest.raises(InvalidInputError, match=r"occupancy\.taxonomy_id"):
        backend.encode(replace(fitting, taxonomy=CARLASC))
    with pytest.raises(InvalidInputError, match=r"occupancy\.labels"):
        replace(fitting, labels=np.full_like(fitting.labels, 9))
    with pytest.raises(InvalidInputError, match="frames"):
        backend.encode(fitting[:2])


def test_weights_of_carlascs_classes_are_served_in_carlascs_taxonomy(tmp_path):
    planes = with_values(AUTOENCODERS["small"], {"frames": 4, "low_channels": 8, "plane_channels": 8}, "model")
    small = with_values(TRANSFORMERS["small"], {"depth": 1, "width": 32, "heads": 2}, "model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder, transformer = ReferenceAutoencoder(planes), ReferenceTransformer(small, planes)
    config = ReferenceConfig(planes, small, ReferenceClasses(CARLASC.names), ReferenceSpace.carlasc(planes.grid))
    save_reference(tmp_path, config, autoencoder, transformer, EgoConvention())
    backend = ReferenceBackend(ReferencePipeline(load_reference(tmp_path), torch.device("cpu")))
    assert backend.info.taxonomy == CARLASC
    assert backend.info.grid.lower_m == (-12.8, -12.8, -2.0)


def test_a_pipeline_under_other_switches_gives_what_plain_float32_gives_up_to_rounding(save_weights, plan):
    folder = save_weights()
    plain, half = (
        ReferencePipeline(load_reference(folder), torch.device("cpu"), execution)
        for execution in (None, Execution(precision="bf16", channels_last=True))
    )
    labels = torch.from_numpy(occupancy_of(ReferenceBackend(plain), plan).labels)[None]
    rollout, rounded = plain.encode(labels), half.encode(labels)
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - rollout).square().mean().sqrt() / rollout.square().mean().sqrt()) < 3e-2
    assert (plain.decode(rollout) == half.decode(rollout)).float().mean() > 0.95
    sampler, scales = make_sampler("ddim", "gaussian", 2), dict.fromkeys(("trajectory", "command"), 2.0)
    drawn = [
        pipeline.generate(ReferenceConditions(), torch.Generator().manual_seed(0), sampler, scales)
        for pipeline in (plain, half)
    ]
    assert float((drawn[0] - drawn[1]).square().mean().sqrt() / drawn[0].square().mean().sqrt()) < 0.1


def test_weights_that_are_not_finite_are_not_written_and_those_before_them_stay(save_weights, even_planes):
    folder = save_weights()
    before = load_reference(folder)
    spoilt = ReferenceAutoencoder(even_planes)
    with torch.no_grad():
        next(spoilt.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors: .*infinity or NaN"):
        save_reference(folder, before.config, spoilt)
    assert load_reference(folder).model_id == before.model_id


def test_weights_that_are_not_finite_are_refused(save_weights):
    file = save_weights() / "transformer.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"transformer\.safetensors: .*infinity or NaN"):
        load_reference(file.parent)
