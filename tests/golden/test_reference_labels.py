"""Conditions in the official convention, schedules and the position embedding equal those of the reference."""

import json
import re

import numpy as np
import pytest
import torch
from dyncity_models.diffusion.gaussian import GaussianDiffusion, respaced
from dyncity_models.reference.dit import position_embedding
from dyncity_models.reference.labels import OFFICIAL_THRESHOLDS, command_of, layout_of, trajectory_of, turns

COMMANDS = ("STATIC", "FORWARD", "LEFT", "RIGHT")


@pytest.fixture(scope="module")
def labels(golden_folder):
    with np.load(golden_folder / "labels.npz") as arrays:
        return dict(arrays)


def test_trajectories_commands_and_turns_equal_those_of_the_reference(labels):
    tracks = [name.removeprefix("poses_") for name in labels if name.startswith("poses_")]
    assert tracks
    for track in tracks:
        trajectory = trajectory_of(labels[f"poses_{track}"])
        np.testing.assert_allclose(trajectory, labels[f"traj_{track}"], rtol=0, atol=1e-12, err_msg=track)
        assert command_of(trajectory) == labels[f"cmd_{track}"], track
        assert turns(trajectory) == labels[f"turn_{track}"], track


def numbered(arrays, pattern):
    """Names of arrays that match a pattern, and the numbers in them."""
    found = [
        (match[0], [int(number) for number in match.groups()]) for match in map(pattern.fullmatch, arrays) if match
    ]
    assert found
    return found


def test_scaled_thresholds_give_the_commands_they_were_meant_to(labels, golden_folder):
    for track, official, scaled, turn, _last in json.loads((golden_folder / "labels.json").read_text()):
        trajectory = trajectory_of(labels[f"poses_{track}"])
        assert COMMANDS[command_of(trajectory)] == official
        assert COMMANDS[command_of(trajectory, OFFICIAL_THRESHOLDS.over(len(trajectory)))] == scaled
        assert turns(trajectory) == turn


def test_layouts_equal_those_of_the_reference(labels):
    for name, (down,) in numbered(labels, re.compile(r"layout_(\d+)")):
        np.testing.assert_array_equal(layout_of(labels["layout_vox"], down), labels[name], err_msg=name)


def test_schedules_equal_those_of_the_reference(labels):
    for name, (steps,) in numbered(labels, re.compile(r"sched(\d+)_t")):
        np.testing.assert_array_equal(respaced(steps), labels[name], err_msg=name)
        process = GaussianDiffusion.linear(steps)
        for ours, theirs in ((process.betas, "betas"), (process.posterior_log_variance, "plvc")):
            if f"sched{steps}_{theirs}" in labels:
                np.testing.assert_allclose(ours, labels[f"sched{steps}_{theirs}"], rtol=1e-12, atol=0, err_msg=name)


def test_position_embeddings_equal_those_of_the_reference(labels):
    for name, (width, side) in numbered(labels, re.compile(r"pos_embed_(\d+)_(\d+)")):
        ours = position_embedding(side, side, width).double()
        torch.testing.assert_close(ours, torch.from_numpy(labels[name]), rtol=0, atol=1e-6)
