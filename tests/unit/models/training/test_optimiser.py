"""Muon on the matrices of blocks and AdamW on all else, as one optimiser."""

import pytest
import torch
from dyncity_models.training.config import OptimiserConfig
from dyncity_models.training.optimiser import MuonAdamW, split_parameters
from dyncity_models.training.schedule import warm_up_constant_decay
from torch import nn

RATE = 0.1


class Towers(nn.Module):
    """Two linear layers as blocks, one more as head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def stepped(model, optimiser, schedule, seeds):
    for seed in seeds:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        (model(x) - x.sum(dim=1, keepdim=True)).square().mean().backward()
        optimiser.step()
        schedule.step()
    return [p.detach().clone() for p in model.parameters()]


def towers():
    model = Towers()
    optimiser = MuonAdamW(*split_parameters(model.blocks, model), lr=RATE, weight_decay=0.01)
    return model, optimiser, warm_up_constant_decay(optimiser, OptimiserConfig(steps=20, warm_up=5, decay_from=0.5))


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_all_else():
    model = Towers()
    matrices, others = split_parameters(model.blocks, model)
    assert [tuple(p.shape) for p in matrices] == [(4, 4), (4, 4)]
    assert len(others) == 4
    assert {id(p) for p in matrices + others} == {id(p) for p in model.parameters()}


def test_both_optimisers_follow_one_schedule():
    _, optimiser, schedule = towers()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([RATE / 5] * 2)
    for _ in range(5):
        optimiser.step()
        schedule.step()
    rates = [group["lr"] for part in (optimiser, optimiser.muon, optimiser.adamw) for group in part.param_groups]
    assert rates == [RATE] * 4


def test_an_optimiser_restored_from_its_state_takes_the_same_steps(tmp_path):
    model, optimiser, schedule = towers()
    stepped(model, optimiser, schedule, range(7))
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
    torch.save(state, tmp_path / "state.ckpt")
    expected = stepped(model, optimiser, schedule, range(7, 14))

    restored, other, its_schedule = towers()
    state = torch.load(tmp_path / "state.ckpt", weights_only=False)
    restored.load_state_dict(state["model"])
    other.load_state_dict(state["optimiser"])
    its_schedule.load_state_dict(state["schedule"])
    found = stepped(restored, other, its_schedule, range(7, 14))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_muon_and_adamw_learn():
    model, optimiser, schedule = towers()
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def error():
        return float((model(x) - x.sum(dim=1, keepdim=True)).square().mean())

    before = error()
    stepped(model, optimiser, schedule, range(20))
    assert error() < 0.7 * before
