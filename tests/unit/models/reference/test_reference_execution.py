import shutil

import pytest
import torch
from dyncity_models.attention import choose_kernel, flash_attention, fused_attention
from dyncity_models.execution import Execution
from dyncity_models.reference.planes import pack, unpack

from dyncity_sim.errors import ConfigError

CPU = torch.device("cpu")

SWITCHES = [
    ({}, 0.0),
    ({"channels_last": True}, 1e-5),
    ({"precision": "bf16"}, 3e-2),
    ({"precision": "bf16", "channels_last": True}, 3e-2),
]
"""Switches, and the root of the mean squared deviation that they may cost, as a share of that of the values."""


def deviation(got, plain):
    assert got.dtype == plain.dtype == torch.float32
    return float((got - plain).square().mean().sqrt() / plain.square().mean().sqrt())


@pytest.mark.parametrize(("switches", "bound"), SWITCHES, ids=str)
def test_a_transformer_under_any_switch_gives_the_numbers_of_plain_float32(
    build_transformer, build_conditions, even_planes, switches, bound
):
    built, conditions, step = build_transformer(depth=1), build_conditions(), torch.tensor([7, 800])
    noisy = torch.randn(2, 16, *even_planes.rollout_shape, generator=torch.Generator().manual_seed(0))
    execution = Execution(**switches)
    with torch.no_grad():
        plain = built(noisy, step, conditions)
        ready = execution.prepare(built, CPU)
        got = execution.run(lambda noisy, step: ready(noisy, step, conditions), CPU)(noisy, step)
    assert deviation(got, plain) <= bound


@pytest.mark.parametrize(("switches", "bound"), SWITCHES, ids=str)
def test_an_autoencoder_under_any_switch_gives_the_numbers_of_plain_float32(
    build_autoencoder, even_planes, switches, bound
):
    built, execution = build_autoencoder(even_planes), Execution(**switches)
    labels = torch.randint(5, (1, 4, 16, 16, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.no_grad():
        rollout = pack(built.encode(labels)[0])
        logits = built.decode(unpack(rollout, even_planes))
        ready = execution.prepare(built, CPU)
        encoded = execution.run(lambda labels: pack(ready.encode(labels)[0]), CPU)(labels)
        decoded = execution.run(lambda rollout: ready.decode(unpack(rollout, even_planes)), CPU)(rollout)
    assert deviation(encoded, rollout) <= bound
    assert deviation(decoded, logits) <= bound


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
# The compiler's own imports use what PyTorch has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_compiled_block_gives_the_numbers_of_plain_float32(build_transformer):
    block, execution = build_transformer().blocks[0], Execution(compile=True)
    generator = torch.Generator().manual_seed(0)
    tokens, condition = torch.randn(2, 8, 32, generator=generator), torch.randn(2, 1, 32, generator=generator)
    with torch.no_grad():
        plain = block(tokens, condition, None)
        got = execution.run(lambda tokens, condition: block(tokens, condition, None), CPU)(tokens, condition)
    assert 0 <= deviation(got, plain) <= 1e-5


def test_half_precision_is_really_used(build_autoencoder, even_planes):
    built, execution = build_autoencoder(even_planes), Execution(precision="bf16")
    seen = []
    built.decoder.voxels.residuals[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    rollout = torch.randn(1, 16, *even_planes.rollout_shape)
    with torch.no_grad():
        got = execution.run(lambda rollout: built.decode(unpack(rollout, even_planes)), CPU)(rollout)
    assert set(seen) == {torch.bfloat16}
    assert got.dtype == torch.float32


def test_what_cannot_run_here_is_refused(build_autoencoder):
    built = build_autoencoder()
    with pytest.raises(ConfigError, match="flash-attn"):
        Execution(precision="bf16", attention="flash-attn").prepare(built, CPU)
    with pytest.raises(ConfigError, match="cuda_graphs"):
        Execution(cuda_graphs=True).run(built.decode, CPU)
    with pytest.raises(ConfigError, match="attention"):
        Execution(attention="paged").prepare(built, CPU)
    with pytest.raises(ConfigError, match="precision"):
        Execution(precision="fp8")


def test_attention_is_pytorchs_unless_another_can_run(monkeypatch):
    assert choose_kernel("auto", "cpu", "bf16") is fused_attention
    assert choose_kernel("auto", "cuda", "fp32") is fused_attention
    assert choose_kernel("sdpa", "cuda", "fp16") is fused_attention
    monkeypatch.setattr("dyncity_models.attention.find_spec", lambda name: object())
    assert choose_kernel("auto", "cuda", "bf16") is flash_attention
    monkeypatch.setattr("dyncity_models.attention.find_spec", lambda name: None)
    assert choose_kernel("auto", "cuda", "bf16") is fused_attention
    with pytest.raises(ConfigError, match=r"'\.\[gpu\]"):
        choose_kernel("flash-attn", "cuda", "bf16")
