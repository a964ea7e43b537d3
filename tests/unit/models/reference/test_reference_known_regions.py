"""Known regions as the backend of the family reference keeps to them."""

import numpy as np
import pytest
import torch
from dyncity_models.backends.load import load
from dyncity_models.backends.reference.continuation import EndedChunk
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import save_reference
from dyncity_models.reference.config import CONDITIONS as REFERENCE_CONDITIONS
from dyncity_models.reference.config import (
    ReferenceAutoencoderConfig,
    ReferenceConfig,
    ReferenceSampling,
    ReferenceSpace,
    ReferenceTransformerConfig,
)
from dyncity_models.reference.conventions import EgoConvention
from dyncity_models.reference.dit import ReferenceTransformer

from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import InvalidInputError


class TestKnownRegions:
    @pytest.fixture
    def region(self, plan, random_occupancy):
        """The left of the ego is known in all frames."""
        return random_occupancy(plan, np.s_[:, :, 8:])

    def test_end_exactly_as_they_are_known(self, backend, plan, region, generate):
        chunk = generate(backend, Conditions(plan, known_region=region))
        assert np.array_equal(chunk.occupancy.labels[region.observed], region.labels[region.observed])

    def test_change_what_is_generated_beside_them(self, backend, plan, region, generate):
        free, bound = (generate(backend, Conditions(plan, known_region=known)) for known in (None, region))
        beside = ~region.observed
        assert not np.array_equal(free.occupancy.labels[beside], bound.occupancy.labels[beside])

    def test_are_in_the_latents_where_they_settle_them(self, backend, plan, region, generate):
        chunk = generate(backend, Conditions(plan, known_region=region))
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

    def test_of_the_first_frame_alone_become_a_chunk(self, backend, plan, random_occupancy, generate):
        region = random_occupancy(plan, np.s_[0])
        chunk = generate(backend, Conditions(plan, known_region=region))
        assert np.array_equal(chunk.occupancy.labels[0], region.labels[0])
        assert not np.array_equal(chunk.occupancy.labels[1], region.labels[1])

    def test_give_the_poses_where_there_is_no_plan(self, backend, region, plan, generate):
        chunk = generate(backend, Conditions(known_region=region))
        assert np.array_equal(chunk.occupancy.poses_world_from_ego, plan.poses_world_from_ego)

    def test_too_small_to_settle_a_latent_are_kept_all_the_same(self, backend, plan, random_occupancy, generate):
        region = random_occupancy(plan, np.s_[2, 5, 5, 5])
        assert backend._known(region, 1) is None
        labels = generate(backend, Conditions(plan, known_region=region)).occupancy.labels
        assert labels[2, 5, 5, 5] == region.labels[2, 5, 5, 5]

    @pytest.mark.parametrize("everything", [True, False])
    def test_of_everything_or_nothing_are_refused_by_field(self, plan, everything, random_occupancy):
        region = random_occupancy(plan, np.s_[:] if everything else np.s_[:0])
        with pytest.raises(InvalidInputError, match=r"known_region\.observed"):
            Conditions(plan, known_region=region)

    def test_of_another_grid_are_refused_by_field(self, backend, plan, generate):
        labels = np.zeros((len(plan), *CARLASC_GRID.shape), np.uint8)
        observed = np.zeros_like(labels, np.bool_)
        observed[0] = True
        region = OccupancySequence(
            labels, plan.poses_world_from_ego, plan.times_us, CARLASC_GRID, backend.taxonomy, observed
        )
        with pytest.raises(InvalidInputError, match=r"known_region\.grid"):
            generate(backend, Conditions(plan, known_region=region))


def test_weights_that_were_trained_with_known_regions_see_them_under_a_scale_of_their_own(
    build_backend, plan, random_occupancy, generate
):
    backend = build_backend(conditions=REFERENCE_CONDITIONS)
    region = random_occupancy(plan, np.s_[:, :, 8:])
    known = backend._known(region, 1)
    given = backend._conditions(Conditions(plan), None, known).region
    assert torch.equal(given[:, -1:].bool(), known.mask)
    assert torch.equal(given[:, :-1], known.values * known.mask)

    conditions = Conditions(plan, known_region=region)
    plain = generate(backend, conditions).continuation
    assert generate(backend, conditions, guidance_scales={"known_region": 1.0}).continuation == plain
    assert generate(backend, conditions, guidance_scales={"known_region": 3.0}).continuation != plain


def test_weights_of_single_frames_take_a_known_region_and_an_observed_frame(tmp_path, generate, backend):
    planes = ReferenceAutoencoderConfig(
        frames=1, grid=(8, 8, 4), classes=5, plane_channels=8, low_channels=8, high_channels=8, plane_down=(0, 0, 0, 0)
    )
    transformer = ReferenceTransformer(ReferenceTransformerConfig(depth=1, width=32, heads=4, patch=1), planes)
    config = ReferenceConfig(
        planes,
        transformer.config,
        backend.config.classes,
        ReferenceSpace.carlasc(planes.grid),
        ReferenceSampling("ddim", 2, 1.0),
    )
    save_reference(tmp_path, config, ReferenceAutoencoder(planes), transformer, EgoConvention())
    of_frames = load(tmp_path)
    observed = np.zeros((1, 8, 8, 4), np.bool_)
    observed[:, :4] = True
    labels, times_us = np.ones((1, 8, 8, 4), np.uint8), np.zeros(1, np.int64)
    frame = OccupancySequence(labels, np.eye(4)[None], times_us, of_frames.grid, of_frames.taxonomy, observed)
    chunk = generate(of_frames, Conditions(known_region=frame, continuation=of_frames.encode(frame)))
    assert (chunk.occupancy.labels[observed] == 1).all()
