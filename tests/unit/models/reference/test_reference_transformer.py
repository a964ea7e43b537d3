import dataclasses

import pytest
import torch
from dyncity_models.diffusion.gaussian import GaussianDiffusion
from dyncity_models.reference.conditions import EmbeddedConditions, ReferenceConditions
from dyncity_models.reference.config import AUTOENCODERS, CONDITIONS, PUBLISHED_CONDITIONS, TRANSFORMERS
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.guidance import CHAIN, GuidedTransformer
from dyncity_models.reference.planes import rollout_mask
from torch import nn
from torch.nn import functional as F

from dyncity_sim.errors import ConfigError


def noisy_of(planes, batch=2, seed=0):
    shape = (batch, planes.latent_channels, *planes.rollout_shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "conditions", "cross_attention", "parameters"),
    [
        ("DiT-DC/2", (), False, 43_730_432),
        ("DiT-DC/2", PUBLISHED_CONDITIONS, False, 44_071_489),
        ("DiT-DC/2", PUBLISHED_CONDITIONS, True, 53_533_249),
        pytest.param("DiT-DC/1", PUBLISHED_CONDITIONS, True, 238_331_329, marks=pytest.mark.slow),
    ],
)
def test_the_official_sizes_have_the_published_parameter_counts(size, conditions, cross_attention, parameters):
    config = dataclasses.replace(TRANSFORMERS[size], conditions=conditions, cross_attention=cross_attention)
    built = ReferenceTransformer(config, AUTOENCODERS["official"])
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters
    assert built.tokens.numel() == 1416
    assert not built.positions.requires_grad


def test_normalisation_is_without_weights_at_the_published_epsilon(build_transformer):
    # Too small an effect for a comparison of outputs to tell.
    norms = [module for module in build_transformer().modules() if isinstance(module, nn.LayerNorm)]
    assert {(norm.eps, norm.elementwise_affine) for norm in norms} == {(1e-6, False)}


def test_a_block_is_ada_ln_zero_with_an_approximate_gelu(build_transformer):
    block = build_transformer(cross_attention=True).blocks[0].double()
    torch.manual_seed(0)
    x, c, y = (torch.randn(2, 6, 32, dtype=torch.float64) for _ in range(3))

    def heads(value):
        return value.view(2, 6, 4, 8).transpose(1, 2)

    def attend(q, k, v):
        weights = (heads(q) @ heads(k).mT / 8**0.5).softmax(dim=-1)
        return (weights @ heads(v)).transpose(1, 2).reshape(2, 6, 32)

    def norm(value):
        return (value - value.mean(-1, keepdim=True)) / (value.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()

    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c * c.sigmoid()).split(32, dim=-1)
    z = x + gate1 * block.attention.out(attend(*block.attention.qkv(norm(x) * (1 + scale1) + shift1).split(32, dim=-1)))
    z = z + block.cross.out(attend(block.cross.q(norm(z)), *block.cross.kv(y).split(32, dim=-1)))
    hidden = F.gelu(block.lift(norm(z) * (1 + scale2) + shift2), approximate="tanh")
    torch.testing.assert_close(block(x, c, y), z + gate2 * block.lower(hidden), rtol=0, atol=1e-10)


def test_outputs_in_the_padding_are_exactly_zero(build_transformer, build_conditions, even_planes):
    with torch.no_grad():
        got = build_transformer()(noisy_of(even_planes), torch.tensor([3, 900]), build_conditions())
    valid = rollout_mask(even_planes)
    assert not got[..., ~valid].any()
    assert got[..., valid].all()


@pytest.mark.parametrize("cross_attention", [False, True])
def test_modulation_once_per_sample_equals_modulation_of_every_token(build_transformer, even_planes, cross_attention):
    built = build_transformer(conditions=("trajectory", "command"), cross_attention=cross_attention)
    everywhere = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    noisy, step = noisy_of(even_planes), torch.tensor([5, 700])
    nothing = torch.zeros(2, built.tokens.numel(), 32)
    rows = []
    built.blocks[0].modulation.register_forward_hook(lambda module, inputs, output: rows.append(output.shape[1]))
    with torch.no_grad():
        once = built.predict(noisy, step, EmbeddedConditions(everywhere, None))
        plain = built.predict(noisy, step, EmbeddedConditions(everywhere, nothing))
    torch.testing.assert_close(once, plain, rtol=0, atol=1e-5)
    assert rows == [1, built.tokens.numel()]


def test_guidance_pushes_noise_but_not_variance_away_from_the_unconditional(
    build_transformer, build_conditions, even_planes
):
    built, conditions = build_transformer(), build_conditions()
    noisy, step = noisy_of(even_planes), torch.tensor([40, 40])
    with torch.no_grad():
        given, without = (built(noisy, step, of) for of in (conditions, ReferenceConditions()))
        got = GuidedTransformer(built, conditions, 3.0)(noisy, step)
    torch.testing.assert_close(got[:, 16:], given[:, 16:], rtol=0, atol=1e-5)
    torch.testing.assert_close(got[:, :16], (without + 3 * (given - without))[:, :16], rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("conditions", "kept", "scale", "rows"),
    [
        (CONDITIONS, CONDITIONS, 4.0, 2),
        (CONDITIONS, (), 4.0, 1),
        (("hexplane",), ("command",), 4.0, 1),
        (CONDITIONS, CONDITIONS, 1.0, 1),
    ],
)
def test_equal_halves_of_guidance_are_computed_once(
    build_transformer, build_conditions, even_planes, conditions, kept, scale, rows
):
    built = build_transformer(conditions=conditions)
    given = build_conditions(1).without(*(set(CONDITIONS) - set(kept)))
    batches = []
    built.embed.register_forward_hook(lambda module, inputs, output: batches.append(len(output)))
    noisy, step = noisy_of(even_planes, 1), torch.tensor([40])
    with torch.no_grad():
        got = GuidedTransformer(built, given, scale)(noisy, step)
        assert batches == [rows]
        noise, fraction = built(noisy, step, given).chunk(2, dim=1)
        noise_without, _ = built(noisy, step, ReferenceConditions()).chunk(2, dim=1)
    plain = torch.cat([noise_without + scale * (noise - noise_without), fraction], dim=1)
    torch.testing.assert_close(got, plain, rtol=0, atol=5e-5)


def test_a_dropped_condition_is_a_withheld_one(build_transformer, build_conditions, even_planes):
    built, given = build_transformer(conditions=CONDITIONS), build_conditions()
    noisy, step = noisy_of(even_planes), torch.tensor([40, 900])
    for name in CONDITIONS:
        dropped = dataclasses.replace(given, dropped={name: torch.tensor([True, False])})
        with torch.no_grad():
            got, kept, withheld = (built(noisy, step, of) for of in (dropped, given, given.without(name)))
        torch.testing.assert_close(got[0], withheld[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(got[1], kept[1], rtol=0, atol=1e-5)
        assert not torch.allclose(kept[0], withheld[0], atol=1e-3)


def test_conditions_are_dropped_independently():
    drawn = ReferenceConditions().randomly_dropped(4000, 0.1, torch.Generator().manual_seed(0)).dropped
    table = torch.stack([drawn[name] for name in CONDITIONS]).double()
    assert ((table.mean(1) - 0.1).abs() < 0.02).all()
    assert (torch.corrcoef(table).fill_diagonal_(0).abs() < 0.06).all()


def test_a_layout_lies_where_the_plane_xy_does(build_transformer, even_planes):
    layout = torch.zeros(1, 4, 4, 4)
    layout[0, 2, 1, 3] = 1
    laid_out = build_transformer().conditions.laid_out(layout)
    assert laid_out.shape == (1, 4, *even_planes.rollout_shape)
    assert laid_out[0, 2].nonzero().tolist() == [[2, 6], [2, 7], [3, 6], [3, 7]]


@pytest.mark.parametrize("grid", [(16, 32, 8), (12, 12, 4)])
def test_planes_that_the_patches_do_not_fit_are_refused(even_planes, grid):
    with pytest.raises(ConfigError, match="plane_cells"):
        ReferenceTransformer(
            TRANSFORMERS["small"], dataclasses.replace(even_planes, grid=grid, plane_down=(1, 0, 0, 1))
        )


def test_a_few_steps_of_training_lower_the_loss(build_transformer, build_conditions, even_planes):
    built = build_transformer(depth=1, cross_attention=True).train()
    process, mask = GaussianDiffusion.linear(), rollout_mask(even_planes)
    data, noise, index = noisy_of(even_planes), noisy_of(even_planes, seed=1), torch.tensor([300, 700])
    optimiser = torch.optim.AdamW(built.parameters(), lr=2e-3)
    history = []
    for _ in range(20):
        predicted = built(process.add_noise(data, noise, index), index, build_conditions())
        squared, bound = process.losses(predicted, data, noise, index, mask)
        optimiser.zero_grad()
        (squared + bound).mean().backward()
        assert all(parameter.grad is not None for parameter in built.parameters() if parameter.requires_grad)
        optimiser.step()
        history.append(float(squared.detach().mean()))
    assert history[-1] < 0.9 * history[0]


def test_each_condition_can_have_a_guidance_scale_of_its_own(build_transformer, build_conditions, even_planes):
    built, conditions = build_transformer(conditions=CONDITIONS), build_conditions()
    noisy, step = noisy_of(even_planes), torch.tensor([40, 700])
    scales = {"region": 1.0, "hexplane": 1.0, "trajectory": 3.0, "layout": 2.0, "command": 0.0}
    batches = []
    built.embed.register_forward_hook(lambda module, inputs, output: batches.append(len(output)))
    with torch.no_grad():
        got = GuidedTransformer(built, conditions, scales)(noisy, step)
        # Known planes alone, then the trajectory, then the layout; all conditions for the variance.
        assert batches == [8]
        prefixes = [CHAIN[:length] for length in (2, 3, 4, 5)]
        answers = [built(noisy, step, conditions.without(*set(CHAIN).difference(p))) for p in prefixes]
    known, moved, laid, full = (answer[:, :16] for answer in answers)
    expected = known + 3.0 * (moved - known) + 2.0 * (laid - moved)
    torch.testing.assert_close(got[:, :16], expected, rtol=0, atol=5e-5)
    torch.testing.assert_close(got[:, 16:], answers[-1][:, 16:], rtol=0, atol=1e-5)
    assert not torch.allclose(laid, full, atol=1e-3)
