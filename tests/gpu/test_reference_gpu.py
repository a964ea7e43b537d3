"""The family ``reference`` on a CUDA device: every switch gives the numbers of the CPU, to a stated tolerance."""

import copy
from importlib.util import find_spec

import pytest
import torch
from dyncity_models.attention import flash_attention, fused_attention
from dyncity_models.execution import Execution
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.config import ReferenceAutoencoderConfig, ReferenceTransformerConfig
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.planes import pack, unpack
from dyncity_models.training.reference_losses import autoencoder_losses

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CUDA = torch.device("cuda")
PLANES = ReferenceAutoencoderConfig(
    frames=4, grid=(32, 32, 8), plane_channels=16, low_channels=16, high_channels=8, dropout=0.0
)
TRANSFORMER = ReferenceTransformerConfig(depth=2, width=64, heads=2)

SWITCHES = [
    ({}, 2e-3),
    ({"cuda_graphs": True}, 2e-3),
    ({"channels_last": True}, 2e-3),
    ({"precision": "bf16"}, 3e-2),
    ({"precision": "fp16"}, 1e-2),
    ({"precision": "bf16", "cuda_graphs": True, "channels_last": True}, 3e-2),
]
"""Switches, and the deviation they may cost: root mean square, as a share of that of the values.

In single precision convolutions may run in TF32.
"""

FLASH = pytest.mark.skipif(find_spec("flash_attn") is None, reason="flash-attn is not installed")


def deviation(got, plain):
    return float((got.cpu() - plain).square().mean().sqrt() / plain.square().mean().sqrt())


def randomised(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    return randomised(ReferenceAutoencoder(PLANES))


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    return randomised(ReferenceTransformer(TRANSFORMER, PLANES))


@pytest.fixture
def labels():
    return torch.randint(12, (1, 4, 32, 32, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize(("switches", "bound"), SWITCHES, ids=str)
def test_the_autoencoder_gives_the_numbers_of_the_cpu(autoencoder, labels, switches, bound):
    execution = Execution(**switches)
    with torch.no_grad():
        rollout = pack(autoencoder.encode(labels)[0])
        logits = autoencoder.decode(unpack(rollout, PLANES))
        there = execution.prepare(copy.deepcopy(autoencoder), CUDA)
        encode = execution.run(lambda labels: pack(there.encode(labels)[0]), CUDA)
        decode = execution.run(lambda rollout: there.decode(unpack(rollout, PLANES)), CUDA)
        for _ in range(2):
            assert deviation(encode(labels.cuda()), rollout) < bound
            assert deviation(decode(rollout.cuda()), logits) < bound


@pytest.mark.parametrize(
    ("switches", "bound"),
    [*SWITCHES, pytest.param({"precision": "bf16", "attention": "flash-attn"}, 3e-2, marks=FLASH)],
    ids=str,
)
def test_the_transformer_gives_the_numbers_of_the_cpu(transformer, switches, bound):
    execution = Execution(**switches)
    generator = torch.Generator().manual_seed(2)
    given = torch.randn(2, 4, 3, generator=generator), torch.tensor([1, 3])
    noisy = torch.randn(2, 16, *PLANES.rollout_shape, generator=generator)
    steps = torch.tensor([3, 900]), torch.tensor([500, 20])
    with torch.no_grad():
        plain = [transformer(noisy, step, ReferenceConditions(*given)) for step in steps]
        there = execution.prepare(copy.deepcopy(transformer), CUDA)
        conditions = ReferenceConditions(*(value.cuda() for value in given))
        predict = execution.run(lambda noisy, step: there(noisy, step, conditions), CUDA)
        for step, expected in zip(steps, plain, strict=True):
            assert deviation(predict(noisy.cuda(), step.cuda()), expected) < bound


@FLASH
@pytest.mark.parametrize("width", [8, 16, 64])
def test_flash_attention_is_attention(width):
    q, k, v = torch.randn(3, 2, 4, 257, width, device=CUDA, dtype=torch.bfloat16)
    for queries in (q, q[:, :, :1]):
        expected = fused_attention(queries.float(), k.float(), v.float(), 0.3)
        assert deviation(flash_attention(queries, k, v, 0.3).float(), expected.cpu()) < 1e-2


def test_gradients_of_a_training_step_are_those_of_the_cpu(autoencoder, labels):
    autoencoder.train()
    found = []
    for device in ("cpu", "cuda"):
        there, given = copy.deepcopy(autoencoder).to(device), labels.to(device)
        # Rounded to TF32, numbers near zero change sign, and with it the slope of leaky units.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            means, log_variances = there.encode(given)
            losses = autoencoder_losses(there.decode(means), given, means, log_variances)
            gradients = torch.autograd.grad(losses.total, list(there.parameters()))
        found.append(torch.cat([part.flatten().cpu() for part in gradients]))
    assert deviation(found[1], found[0]) < 1e-2
