"""What a step of training the transformer of the family anchored does."""

from dataclasses import replace

import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.data.latents import LatentSample
from dyncity_models.training.config import OptimiserConfig, TransformerTrainingConfig
from dyncity_models.training.stages import start_from
from dyncity_models.training.transformer_task import TransformerTask

WITH_LAYOUT = ("continuation", "plan", "layout", "command")
STATISTICS = {f"{p}_{m}": [v] * 8 for p in ("xy", "tx", "ty") for m, v in (("mean", 0.0), ("std", 1.0))}


@pytest.fixture
def task(tiny):
    return TransformerTask(TransformerTrainingConfig(tiny.transformer), tiny.autoencoder, STATISTICS).eval()


def test_without_muon_one_optimiser_trains_every_parameter(task):
    task.config = replace(task.config, optimiser=OptimiserConfig(muon=False))
    optimiser = task.configure_optimizers()["optimizer"]
    assert type(optimiser) is torch.optim.AdamW
    trained = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert trained == {id(p) for p in task.transformer.parameters()}


def test_at_initialisation_the_loss_is_that_of_a_velocity_of_zero(task, build_planes, build_conditions):
    """Noise minus data of independent unit normals has variance two."""
    with torch.inference_mode():
        losses = task.losses(build_planes(8, 1), build_planes(8, 2), torch.full((8,), 0.5), build_conditions(8))
    assert {name: float(value) for name, value in losses.items()} == {
        name: pytest.approx(2.0, abs=0.15) for name in ("xy", "tx", "ty")
    }


def test_weights_that_learn_a_new_condition_begin_by_predicting_what_they_did(
    tiny, weights, build_planes, build_conditions
):
    config = TransformerTrainingConfig(replace(tiny.transformer, conditions=WITH_LAYOUT))
    task = TransformerTask(config, tiny.autoencoder, STATISTICS).eval()
    start_from(task, weights, config)
    model, planes, conditions = load_model(weights), build_planes(), build_conditions()
    times = torch.tensor([0.2, 0.9])
    with torch.inference_mode():
        before, after = (t(planes, times, conditions) for t in (model.transformer, task.transformer))
    assert all(torch.allclose(a, b, atol=1e-6) and a.any() for a, b in zip(after, before, strict=True))
    for name, value in model.normalisation.state_dict().items():
        assert torch.equal(task.normalisation.state_dict()[name], value)


def test_layouts_are_dropped_apart_from_the_other_conditions(tiny, build_planes, build_conditions):
    class Recording(TransformerTask):
        def losses(self, data, noise, times, conditions, share):
            self.seen = conditions
            return super().losses(data, noise, times, conditions, share)

    config = TransformerTrainingConfig(replace(tiny.transformer, conditions=WITH_LAYOUT))
    task, count = Recording(config, tiny.autoencoder, STATISTICS), 64
    task.log_dict = lambda *arguments, **options: None
    task.training_step(batch_of(build_planes(count), build_conditions(count)), 0)
    kept = task.seen.layout_given
    assert 16 < int(kept.sum()) < 48
    known = task.seen.known_mask.flatten(1).any(dim=1)
    assert all((known[kept == given] == state).any() for given in (True, False) for state in (True, False))


def batch_of(planes, conditions):
    return LatentSample(
        **{name: getattr(planes, name) for name in ("xy", "tx", "ty")},
        **{name: getattr(conditions, name) for name in ("known_xy", "known_mask", "movers", "canvas_from_ego")},
        command=conditions.command,
        layout=torch.rand(len(planes), 16, 32, 32) < 0.1,
    )


def test_errors_near_the_ego_path_count_more(task, build_planes, build_conditions):
    conditions = build_conditions(2)
    weights = task._path_weights(conditions)
    assert weights.shape == (2, 1, 16, 16)
    assert set(weights.unique().tolist()) == {1.0, 3.0}
    assert (weights[:, 0, 8, 8] == 3.0).all()
    assert (weights[:, 0, :, 0] == 1.0).all()
    data = build_planes(2)
    with torch.inference_mode():
        losses = task.losses(data, data, torch.full((2,), 0.5), conditions)
    assert all(float(value) == 0.0 for value in losses.values())
