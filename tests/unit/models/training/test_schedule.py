"""Learning rates and averaged weights over the steps of a run."""

import numpy as np
import pytest
import torch
from dyncity_models.training.averaging import warmed_up_average
from dyncity_models.training.config import OptimiserConfig
from dyncity_models.training.schedule import warm_up_constant_decay
from torch import nn


def test_the_rate_warms_up_stays_and_decays_to_its_last_share():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    config = OptimiserConfig(steps=100, warm_up=10, decay_from=0.6, final_lr_share=0.1)
    factor = warm_up_constant_decay(optimiser, config).lr_lambdas[0]
    assert [factor(step) for step in (0, 9, 10, 60)] == [0.1, 1.0, 1.0, 1.0]
    assert factor(80) == pytest.approx(0.55)
    assert factor(100) == pytest.approx(0.1)
    assert factor(1000) == pytest.approx(0.1)
    factors = [factor(step) for step in range(101)]
    assert (np.diff(factors[60:]) < 0).all()


def test_the_rate_of_a_run_that_is_limited_in_time_decays_with_the_time():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    config = OptimiserConfig(steps=1000, warm_up=1, decay_from=0.5, final_lr_share=0.1)
    clock = iter([100.0, *np.arange(115.0, 170.0, 15.0)])
    factor = warm_up_constant_decay(optimiser, config, most_minutes=1.0, now=lambda: next(clock)).lr_lambdas[0]
    assert [factor(step) for step in (3, 4, 5, 6)] == pytest.approx([1.0, 1.0, 0.55, 0.1])


def test_averaged_weights_forget_where_a_run_began_and_then_decay_at_the_rate_asked_for():
    model = nn.Linear(1, 1, bias=False)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=warmed_up_average(0.99))
    with torch.no_grad():
        model.weight.fill_(1000.0)
        averaged.update_parameters(model)
        model.weight.fill_(1.0)
        for _ in range(300):
            averaged.update_parameters(model)
        assert averaged.module.weight.item() == pytest.approx(1.0, abs=1e-3)
        for _ in range(1000):
            averaged.update_parameters(model)
        model.weight.fill_(2.0)
        averaged.update_parameters(model)
    assert averaged.module.weight.item() == pytest.approx(1.01, abs=1e-3)
