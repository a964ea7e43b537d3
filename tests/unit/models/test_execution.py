import shutil

import pytest
import torch
from dyncity_models.attention import AttentionModule, choose_kernel, fused_attention
from dyncity_models.execution import Execution
from torch import nn
from torch.nn import functional as F

from dyncity_sim.errors import ConfigError

CPU = torch.device("cpu")


class Attending(AttentionModule):
    """A convolution in front of attention with two heads."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.out = nn.Linear(16, 16)

    def forward(self, image):
        tokens = self.conv(image).flatten(2).unflatten(1, (2, 8)).mT
        return self.out(F.gelu(self.kernel(tokens, tokens, tokens, None, 0.0)).mT.flatten(1, 2).mT)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Attending().eval()


def image():
    return torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("switches", "atol"),
    [
        ({}, 0.0),
        ({"channels_last": True}, 1e-6),
        ({"precision": "bf16"}, 2e-2),
        pytest.param(
            {"compile": True},
            1e-5,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
            ],
        ),
    ],
    ids=str,
)
def test_switches_change_numbers_by_rounding_alone(network, switches, atol):
    with torch.no_grad():
        plain = network(image())
        execution = Execution(**switches)
        got = execution.run(execution.prepare(network, CPU), CPU)(image())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, plain, rtol=0, atol=atol)


def test_what_cannot_run_here_is_refused(network):
    with pytest.raises(ConfigError, match="flash-attn"):
        Execution(precision="bf16", attention="flash-attn").prepare(network, CPU)
    with pytest.raises(ConfigError, match="cuda_graphs"):
        Execution(cuda_graphs=True).run(network, CPU)
    with pytest.raises(ConfigError, match="attention"):
        Execution(attention="paged").prepare(network, CPU)
    with pytest.raises(ConfigError, match="precision"):
        Execution(precision="fp8")


def test_attention_is_pytorchs_unless_another_can_run():
    assert choose_kernel("auto", "cpu", "bf16") is fused_attention
    assert choose_kernel("auto", "cuda", "fp32") is fused_attention
    assert choose_kernel("sdpa", "cuda", "fp16") is fused_attention
