"""Known regions of a chunk of the family anchored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.drive.memory import DriveMemory

from dyncity_sim.domain.conditions import Conditions, EgoPlan, VehicleLayout
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import InvalidInputError

GRID = CARLASC_GRID


@pytest.fixture(scope="module")
def left_side(build_street, street_actor):
    """A street of which the left half is known: a car stands there, the ego drives."""
    street = build_street(16, 6.0, [street_actor(10.0, 4.0)])
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[:, :, 64:] = True
    return replace(street, observed=observed)


def plan_of(street):
    return EgoPlan(street.poses_world_from_ego, street.times_us)


def test_known_cells_come_back_as_they_are_and_the_rest_is_generated(generate, left_side):
    plan = plan_of(left_side)
    chunk = generate(Conditions(plan, known_region=left_side), seed=3).occupancy
    assert np.array_equal(chunk.labels[left_side.observed], left_side.labels[left_side.observed])
    assert chunk.observed is None
    alone = generate(Conditions(plan), seed=3).occupancy
    assert not np.array_equal(chunk.labels[:, :, :64], alone.labels[:, :, :64])
    other = generate(Conditions(plan, known_region=left_side), seed=4).occupancy
    assert not np.array_equal(chunk.labels[:, :, :64], other.labels[:, :, :64])


def test_walking_intervals_again_has_an_effect_only_where_something_is_known(generate, left_side):
    plan = plan_of(left_side)
    once, twice = (generate(Conditions(plan, known_region=left_side), resamples=n).occupancy for n in (1, 2))
    assert not np.array_equal(once.labels, twice.labels)
    once, twice = (generate(Conditions(plan), resamples=n).occupancy for n in (1, 2))
    assert once.labels.tobytes() == twice.labels.tobytes()


def test_settled_latents_are_sampled_as_they_are(backend, left_side):
    planar, heights_m = planar_from_poses(left_side.poses_world_from_ego), left_side.poses_world_from_ego[:, 2, 3]
    unknown = np.full(left_side.labels.shape, UNOBSERVED, np.uint8)
    known = backend.canvas.settled(left_side, unknown, planar, 2)
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID)
    conditions = backend.canvas.conditions(Conditions(), planar, heights_m, memory, unknown)
    planes = backend.pipeline.generate(
        conditions, torch.Generator().manual_seed(0), make_sampler("heun", "flow", 3), {}, known=known
    )
    assert 0.1 < float(known.mask.float().mean()) < 0.6
    assert torch.equal(planes.flat()[known.mask], known.values[known.mask])


def test_a_known_region_is_guided_with_a_scale_of_its_own(generate, left_side):
    conditions = Conditions(plan_of(left_side), known_region=left_side)
    plain, pushed, other = (
        generate(conditions, guidance_scales=scales).occupancy.labels
        for scales in ({}, {"known_region": 4.0}, {"plan": 4.0})
    )
    assert not np.array_equal(plain, pushed)
    assert not np.array_equal(pushed, other)


def test_a_known_region_and_a_continuation_are_guided_apart(generate, known_street, left_side):
    continuation, _ = known_street
    conditions = Conditions(plan_of(left_side), continuation=continuation, known_region=left_side)
    scales = ({}, {"known_region": 3.0}, {"continuation": 3.0}, {"known_region": 3.0, "continuation": 3.0})
    labels = [generate(conditions, guidance_scales=s).occupancy.labels for s in scales]
    for first in range(len(labels)):
        for second in range(first):
            assert not np.array_equal(labels[first], labels[second]), (scales[first], scales[second])


def test_a_hole_is_filled_and_all_around_it_stays(generate, build_street):
    street = build_street(16, 6.0)
    observed = np.ones(street.labels.shape, dtype=bool)
    observed[:, 40:70, 50:90] = False
    labels = np.where(observed, street.labels, CARLASC.index("pole")).astype(np.uint8)
    region = replace(street, labels=labels, observed=observed)
    chunk = generate(Conditions(plan_of(street), known_region=region)).occupancy
    assert np.array_equal(chunk.labels[observed], street.labels[observed])
    assert len(np.unique(chunk.labels[~observed])) > 1


def test_what_is_under_the_mask_of_a_region_makes_no_difference(generate, left_side):
    """Labels of unknown cells say nothing."""
    scrambled = replace(left_side, labels=np.where(left_side.observed, left_side.labels, 7).astype(np.uint8))
    first, second = (generate(Conditions(plan_of(r), known_region=r)) for r in (left_side, scrambled))
    assert first.occupancy.labels.tobytes() == second.occupancy.labels.tobytes()
    assert first.continuation == second.continuation


def test_one_frame_becomes_a_chunk_whose_static_world_is_that_of_the_frame(
    generate, build_street, street_actor, agreement
):
    street = build_street(16, 6.0, [street_actor(10.0, 4.0)], curvature_per_m=0.02)
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[0] = True
    chunk = generate(Conditions(plan_of(street), known_region=replace(street, observed=observed))).occupancy
    assert np.array_equal(chunk.labels[0], street.labels[0])
    assert agreement(street, 0, chunk, 15) > 0.9


def test_of_one_frame_the_seed_draws_where_vehicles_go_unless_a_layout_says_it(
    with_layout, generate_with, build_street, street_actor
):
    """What is drawn reaches the network as a layout, and through holes in the known world."""
    street = build_street(16, 6.0, [street_actor(12.0, -1.0, 0.0, 6.0)])
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[0] = True
    given = Conditions(plan_of(street), known_region=replace(street, observed=observed))
    standing = np.repeat(VehicleLayout.of(street).cells[:1], 16, axis=0)
    held = replace(given, layout=VehicleLayout(standing))
    drawn, again, still = (
        generate_with(with_layout, conditions, seed=1).occupancy.labels for conditions in (given, given, held)
    )
    assert drawn.tobytes() == again.tobytes()
    assert not np.array_equal(drawn[1:], still[1:])
    assert np.array_equal(drawn[0], street.labels[0])
    assert np.array_equal(still[0], street.labels[0])


def test_a_known_region_is_believed_over_the_drive_and_taught_to_it(generate, known_street, onward, agreement):
    continuation, street = known_street
    plan = onward(street, 6.0)
    before = generate(Conditions(plan, continuation=continuation)).occupancy
    road, sidewalk = CARLASC.index("road"), CARLASC.index("sidewalk")
    observed = np.zeros(before.labels.shape, dtype=bool)
    observed[0, :, 64:, 0] = True
    paved = np.where(before.labels == road, sidewalk, before.labels).astype(np.uint8)
    region = replace(before, labels=paved, observed=observed)
    chunk = generate(Conditions(plan, continuation=continuation, known_region=region))
    was_road = before.labels == road
    assert (chunk.occupancy.labels[observed & was_road] == sidewalk).all()
    # what one frame taught holds in the others and in the next chunk, what it did not stays as the drive knew it
    later = chunk.occupancy.labels[5]
    assert (later[20:100, 70:90, 0][was_road[5, 20:100, 70:90, 0]] == sidewalk).mean() > 0.95
    assert (later[20:50, 30:55, 0][was_road[5, 20:50, 30:55, 0]] == road).mean() > 0.95
    # So slow that it does not drive over the sidewalk, which would be forgotten.
    after = generate(Conditions(onward(chunk.occupancy, 0.5), continuation=chunk.continuation))
    assert agreement(chunk.occupancy, -1, after.occupancy, 0) > 0.9


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"taxonomy": CARLASC_RAW}, "known_region.taxonomy_id"),
        ({"grid": replace(GRID, lower_m=(-25.6, -25.6, -1.8))}, "known_region.grid"),
    ],
    ids=["taxonomy", "grid"],
)
def test_a_region_of_another_grid_or_taxonomy_is_refused(generate, left_side, change, field):
    region = replace(left_side, **change)
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        generate(Conditions(plan_of(left_side), known_region=region))
