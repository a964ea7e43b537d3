"""How many processes a run has, on what they compute, and that they compute what one would."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from dyncity_models.processes import WHOLE, Share
from dyncity_models.training.config import OptimiserConfig, RunConfig
from dyncity_models.training.launch import Launch, launch_of

from dyncity_sim.errors import ConfigError


@pytest.mark.parametrize(
    ("run", "batch", "field"),
    [
        (RunConfig(devices=2), 3, r"optimiser\.batch"),
        (RunConfig(devices=0), 2, r"run\.devices"),
        (RunConfig(strategy="spread"), 2, r"run\.strategy"),
    ],
)
def test_processes_that_cannot_be_are_refused_by_field(run, batch, field):
    with pytest.raises(ConfigError, match=field):
        launch_of(run, OptimiserConfig(batch=batch))


def test_weights_are_not_shared_out_in_a_stage_that_does_not_say_how(config, trained):
    with pytest.raises(ConfigError, match=r"run\.strategy: got fsdp"):
        trained(replace(config, run=replace(config.run, strategy="fsdp")))


def test_torchrun_decides_how_many_processes_there_are(monkeypatch):
    torchrun = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert launch_of(RunConfig(), OptimiserConfig(batch=8)) == Launch(devices=2, nodes=2, strategy="ddp")
    assert launch_of(RunConfig(strategy="fsdp"), OptimiserConfig(batch=8)).strategy == "fsdp"
    with pytest.raises(ConfigError, match=r"run\.devices"):
        launch_of(RunConfig(devices=4), OptimiserConfig(batch=8))
    with pytest.raises(ConfigError, match=r"optimiser\.batch"):
        launch_of(RunConfig(devices=2), OptimiserConfig(batch=2))


def test_a_gpu_that_is_not_there_is_refused(config, trained, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"run\.accelerator"):
        trained(replace(config, run=replace(config.run, accelerator="cuda")))


def test_shares_are_the_rows_of_a_whole_one_after_the_other():
    whole = torch.arange(6)
    assert torch.cat([Share(number, 3).of(whole) for number in range(3)]).equal(whole)
    parts = [Share(number, 2).drawn(torch.arange, 4) for number in range(2)]
    assert torch.cat(parts).equal(torch.arange(8))
    assert WHOLE.of(whole).equal(whole)


GRADIENTS = """
import torch
from dyncity_models.processes import WHOLE, own_share
from dyncity_models.reference.planes import HexPlanes
from dyncity_models.training.losses import lovasz_on_observed, sampled_cross_entropy
from dyncity_models.training.reference_losses import autoencoder_losses

torch.distributed.init_process_group("gloo")
g = torch.Generator().manual_seed(0)
logits, labels = torch.randn(2, 2, 4, 4, 2, 5, generator=g), torch.randint(5, (2, 2, 4, 4, 2), generator=g)
labels = labels.clamp(max=3).byte()
observed = torch.rand(labels.shape, generator=g) < torch.tensor([0.9, 0.2]).view(2, 1, 1, 1, 1)
weights, cell_weights = torch.rand(5, generator=g), torch.rand(labels.shape, generator=g)
planes = [HexPlanes(*(torch.randn(2, 3, 4, 4, generator=g) for _ in range(6))) for _ in range(2)]

def losses(share):
    x = share.of(logits).clone().requires_grad_()
    y, w, o = (share.of(t) for t in (labels, cell_weights, observed))
    flat, numbers = x.flatten(0, -2), lambda: torch.Generator().manual_seed(1)
    entropy = sampled_cross_entropy(flat, y.flatten(), weights, w.flatten(), numbers(), share)
    lovasz = lovasz_on_observed(flat, y.flatten(), o.flatten(), 50, numbers(), share)
    reference = autoencoder_losses(x, y, *(p.map(share.of) for p in planes), weights, 0.1, share).total
    for loss in (entropy, lovasz, reference):
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        yield loss.detach(), gradient

share = own_share()
for (whole, gradient), (part, own) in zip(losses(WHOLE), losses(share)):
    assert torch.allclose(share.mean(part), whole, rtol=1e-5), (part, whole)
    # Averaging over processes divides by their number.
    assert torch.allclose(own / share.count, share.of(gradient), rtol=1e-4, atol=1e-7)
    assert gradient.any()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_losses_of_two_parts_have_the_values_and_the_gradients_of_the_whole(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
