import dataclasses
import itertools

import pytest
import torch
from dyncity_models.reference import volumes
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.config import AUTOENCODERS, PLANES, ReferenceClasses
from dyncity_models.reference.planes import HexPlanes, pack, rollout_mask, unpack
from dyncity_models.reference.projection import Projection, ProjectionLayer
from dyncity_models.training.reference_losses import autoencoder_losses, class_weights
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dyncity_sim.errors import ConfigError


def random_labels(config, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.classes, (batch, config.frames, *config.grid), generator=generator).to(torch.uint8)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_official_size_has_the_published_parameter_counts():
    with torch.device("meta"):
        built = ReferenceAutoencoder(AUTOENCODERS["official"])
    assert [count(part) for part in (built, built.encoder, built.moments, built.decoder)] == [
        1_699_288,
        192_688,
        3_264,
        1_503_336,
    ]


def test_the_official_planes_and_rollout_have_the_published_sizes():
    config = AUTOENCODERS["official"]
    assert {name: config.plane_shape(name) for name in PLANES} == {
        "xy": (64, 64),
        "xz": (64, 4),
        "yz": (64, 4),
        "tx": (8, 64),
        "ty": (8, 64),
        "tz": (8, 4),
    }
    assert config.rollout_shape == (76, 76)
    assert int(rollout_mask(config).sum()) == 5664


def test_epsilons_and_slopes_are_those_of_the_published_code(build_autoencoder):
    # Too small an effect for a comparison of outputs to tell.
    built = build_autoencoder()
    assert volumes.NORM_EPS == 1e-5
    assert volumes.SLOPE == 0.1
    assert {norm.eps for norm in built.decoder.planes.norms.values()} == {1e-6}
    layers = [layer for projection in built.encoder.projections.values() for layer in projection.layers]
    assert {norm.eps for layer in layers for norm in (layer.norm1, layer.norm2)} == {1e-5}


def test_a_projection_layer_is_pre_norm_attention_and_an_exact_gelu():
    torch.manual_seed(0)
    layer = ProjectionLayer(16, 2, 32, 0.0, 0.0).double().eval()
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    q, k, v = (
        (F.layer_norm(x, (16,), eps=1e-5) @ layer.attention.qkv.weight.T).view(3, 5, 3, 2, 8).permute(2, 0, 3, 1, 4)
    )
    weights = (q @ k.mT / 8**0.5).softmax(dim=-1)
    y = x + layer.attention.out((weights @ v).transpose(1, 2).reshape(3, 5, 16))
    hidden = layer.lift(F.layer_norm(y, (16,), eps=1e-5))
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(layer(x), y + layer.lower(hidden), rtol=0, atol=1e-12)


def test_reading_one_token_equals_computing_all():
    torch.manual_seed(1)
    projection = Projection("xy", {"t": 3, "z": 2}, 16, 2, 2, 32, 0.0, 0.0).double().eval()
    sequences = torch.randn(4, 6, 16, dtype=torch.float64)
    tokens = torch.cat([sequences, projection.token.expand(4, -1, -1)], dim=1) + projection.positions
    for layer in projection.layers:
        tokens = layer(tokens)
    torch.testing.assert_close(projection.read_first(sequences), tokens[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_no_attention_matrix_is_materialised(build_autoencoder, tiny_autoencoder, training):
    config = dataclasses.replace(tiny_autoencoder, grid=(24, 24, 4))
    built, tokens = build_autoencoder(config), 12 * 12 + 1
    shapes = set()

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for output in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(output, torch.Tensor):
                    shapes.add(tuple(output.shape))
            return result

    built.train(training)
    with Recorder(), torch.set_grad_enabled(training):
        means, _ = built.encode(random_labels(config, batch=1))
        if training:
            sum(plane.square().sum() for plane in means).backward()
    assert any(tokens in shape for shape in shapes)
    assert not any(shape[-2:] == (tokens, tokens) for shape in shapes)


@pytest.mark.parametrize(
    ("time_encoder", "one_hot_time", "time_reducer"), list(itertools.product((False, True), repeat=3))
)
def test_every_combination_of_switches_encodes_and_decodes(
    build_autoencoder, tiny_autoencoder, time_encoder, one_hot_time, time_reducer
):
    config = dataclasses.replace(
        tiny_autoencoder,
        grid=(8, 16, 8),
        time_encoder=time_encoder,
        one_hot_time=one_hot_time,
        time_reducer=time_reducer,
        plane_down=(1, 1, 0, 1),
    )
    built = build_autoencoder(config)
    labels = random_labels(config)
    with torch.no_grad():
        means, _ = built.encode(labels)
        logits = built.decode(means)
    assert [tuple(plane.shape[2:]) for plane in means] == [config.plane_shape(name) for name in PLANES]
    assert logits.shape == (*labels.shape, config.classes)


def test_one_frame_decodes_as_it_does_among_all(build_autoencoder, tiny_autoencoder):
    built = build_autoencoder()
    with torch.no_grad():
        means, _ = built.encode(random_labels(tiny_autoencoder))
        torch.testing.assert_close(built.decode(means, torch.tensor([1]))[:, 0], built.decode(means)[:, 1])


def test_evaluation_is_not_random_though_training_drops_attention(build_autoencoder, tiny_autoencoder):
    config = dataclasses.replace(tiny_autoencoder, dropout=0.3, attention_dropout=0.3)
    built, labels = build_autoencoder(config), random_labels(config)
    with torch.no_grad():
        first, second = built.encode(labels)[0], built.encode(labels)[0]
        assert torch.equal(first.tz, second.tz)
        built.train()
        assert not torch.equal(built.encode(labels)[0].tz, second.tz)


@pytest.mark.parametrize("slope", [1.0, 0.1])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (2, 3, 4, 0, 1), (1, 4, 2, 0, 3)])
def test_a_norm_that_keeps_its_output_alone_has_the_gradients_of_its_formula(slope, order):
    generator = torch.Generator().manual_seed(0)
    x = (3 + 2 * torch.randn(2, 3, 4, 5, 2, generator=generator)).double().requires_grad_()
    mean, variance = x.mean((2, 3, 4), keepdim=True), x.var((2, 3, 4), correction=0, keepdim=True)
    plain = F.leaky_relu((x - mean) / (variance + 1e-5).sqrt(), slope)
    got = volumes.instance_norm(x) if slope == 1.0 else volumes.normalised_leaky(x)
    torch.testing.assert_close(got, plain, rtol=0, atol=1e-12)
    # Gradients lie in memory in the order of whatever came after.
    sizes = [x.shape[axis] for axis in order]
    gradient = torch.randn(sizes, generator=generator).double().permute(*torch.tensor(order).argsort().tolist())
    expected, found = (torch.autograd.grad(of, x, gradient, retain_graph=True)[0] for of in (plain, got))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("one_hot_time", [False, True])
@pytest.mark.parametrize("down", [(0, 0, 0), (1, 1, 0), (2, 1, 1)])
def test_frames_encoded_by_twos_equal_plain_convolutions_of_all_embedded_labels(
    build_autoencoder, tiny_autoencoder, down, one_hot_time
):
    config = dataclasses.replace(
        tiny_autoencoder, frames=3, plane_down=(0, 0, 0, 0), down=down, one_hot_time=one_hot_time
    )
    built, labels = build_autoencoder(config).double(), random_labels(config)
    embedded = F.embedding(labels.long(), built.encoder.embedding.weight)
    if one_hot_time:
        which = torch.eye(3, dtype=torch.float64)[:, None, None, None].expand(2, -1, *config.grid, -1)
        embedded = torch.cat([embedded, which], dim=-1)
    encoder = built.encoder.time

    def residual(block, x):
        hidden = F.leaky_relu(F.instance_norm(block.conv1(x)), 0.1)
        return x + F.instance_norm(block.conv2(hidden))

    plain = residual(encoder.residual, encoder.stem(embedded.flatten(0, 1).movedim(-1, 1)))
    for level in encoder.levels:
        plain = residual(level.residual, F.instance_norm(level.conv(plain)))
    got = built.encoder._volume(encoder, labels, one_hot_time)
    torch.testing.assert_close(got, plain.movedim(1, -1).unflatten(0, (2, 3)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("hadamard", [True, False])
@pytest.mark.parametrize("frequencies", [0, 1, 3])
@pytest.mark.parametrize("down", [(1, 1, 1), (1, 2, 0)])
def test_logits_equal_those_of_layers_one_by_one_with_raw_indices_beside_the_features(
    build_autoencoder, tiny_autoencoder, frequencies, hadamard, down
):
    config = dataclasses.replace(
        tiny_autoencoder, frames=3, frequencies=frequencies, hadamard=hadamard, down=down, plane_down=(0, 0, 0, 0)
    )
    decoder = build_autoencoder(config).decoder.double()
    generator = torch.Generator().manual_seed(0)
    planes = HexPlanes(
        *(torch.randn(2, 16, *config.plane_shape(name), generator=generator).double() for name in PLANES)
    )

    wide = HexPlanes(
        *(decoder.upsamplers[name](plane) for name, plane in zip(PLANES, decoder.planes(planes), strict=True))
    )
    cells, frames = config.volume, torch.arange(3)
    volume = None
    for name, plane in zip(PLANES, wide, strict=True):
        shape = [cells[axis] if axis in name else 1 for axis in "txyz"]
        expanded = plane.reshape(2, -1, *shape)
        volume = expanded if volume is None else (volume * expanded if hadamard else volume + expanded)

    voxels = decoder.voxels
    hidden = F.leaky_relu(voxels.conv_in(volume.movedim(2, 1).flatten(0, 1)), 0.1)
    for block in voxels.residuals:
        inner = F.leaky_relu(F.instance_norm(block.conv1(hidden)), 0.1)
        hidden = hidden + F.leaky_relu(F.instance_norm(block.conv2(inner)), 0.1)
    hidden = voxels.expand(hidden)
    axes = torch.meshgrid(frames.repeat(2), *(torch.arange(size) for size in config.grid), indexing="ij")
    index = torch.stack(axes, dim=1).double()
    waves = [wave(2**octave * index) for octave in range(frequencies) for wave in (torch.sin, torch.cos)]
    hidden = voxels.classify1(torch.cat([hidden, *waves], dim=1))
    plain = voxels.classify2(F.leaky_relu(F.instance_norm(hidden), 0.1)).movedim(1, -1).unflatten(0, (2, 3))
    # Tables of positions are made in single precision.
    torch.testing.assert_close(decoder(planes), plain, rtol=0, atol=2e-5)
    torch.testing.assert_close(decoder(planes, torch.tensor([2, 0])), plain[:, [2, 0]], rtol=0, atol=2e-5)


def test_planes_are_widened_and_upsampled_as_padded_stacks_are(build_autoencoder, tiny_autoencoder):
    config = dataclasses.replace(tiny_autoencoder, frames=4)
    block = build_autoencoder(config).decoder.planes.double()
    generator = torch.Generator().manual_seed(0)
    planes = HexPlanes(
        *(torch.randn(2, 16, *config.plane_shape(name), generator=generator).double() for name in PLANES)
    )
    for kind, names in (("still", PLANES[:3]), ("moving", PLANES[3:])):
        three = [getattr(planes, name) for name in names]
        height, width = (max(plane.shape[axis] for plane in three) for axis in (2, 3))

        def stack(parts, height=height, width=width):
            return torch.cat([F.pad(p, (0, width - p.shape[3], 0, height - p.shape[2])) for p in parts], dim=1)

        def convolved(conv, stacked, three=three):
            done = F.conv2d(stacked, conv.weight, conv.bias, padding=conv.kernel // 2, groups=3).chunk(3, dim=1)
            return [part[:, :, : p.shape[2], : p.shape[3]] for part, p in zip(done, three, strict=True)]

        hidden = convolved(block.widen[kind], stack(three))
        hidden = [F.silu(block.norms[name](part)) for name, part in zip(names, hidden, strict=True)]
        mixed, short = convolved(block.mix[kind], stack(hidden)), convolved(block.shortcut[kind], stack(three))
        for name, one, other in zip(names, mixed, short, strict=True):
            torch.testing.assert_close(getattr(block(planes), name), one + other, rtol=0, atol=1e-10)


def test_checkpointing_changes_what_is_kept_and_no_gradient(tiny_autoencoder, build_autoencoder):
    config = dataclasses.replace(tiny_autoencoder, frames=4)
    labels, kept, gradients = random_labels(config), [], []
    for checkpointing in (True, False):
        built = build_autoencoder(config).double()
        built.encoder.checkpointing = built.decoder.checkpointing = checkpointing
        sizes = []

        def pack(value, sizes=sizes):
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            logits, means, log_variances = built(labels, torch.Generator().manual_seed(0))
            loss = autoencoder_losses(logits, labels, means, log_variances).total
        kept.append(sum(sizes))
        gradients.append(torch.autograd.grad(loss, list(built.parameters())))
    assert kept[0] < 0.8 * kept[1]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_what_the_padding_of_a_rollout_holds_is_not_read(tiny_autoencoder):
    shapes = [(1, 3, *tiny_autoencoder.plane_shape(name)) for name in PLANES]
    planes = HexPlanes(*(torch.randn(shape) for shape in shapes))
    rollout = pack(planes)
    padding = ~rollout_mask(tiny_autoencoder)
    assert not rollout[..., padding].any()
    rollout[..., padding] = float("nan")
    for plane, back in zip(planes, unpack(rollout, tiny_autoencoder), strict=True):
        assert torch.equal(plane, back)


def test_class_weights_are_cube_roots_of_rarity():
    classes = ReferenceClasses(("a", "b", "c"), (0, 0, 1), (500.0, 300.0, 100.0))
    torch.testing.assert_close(class_weights(classes, 3), torch.tensor([1.0, 2.0, (8 / 9 * 1e10) ** (1 / 3)]))
    with pytest.raises(ConfigError, match="raw_frequency"):
        class_weights(ReferenceClasses(), 3)


def test_a_few_steps_of_training_lower_every_loss(build_autoencoder, tiny_autoencoder):
    built, labels = build_autoencoder().train(), random_labels(tiny_autoencoder)
    labels[..., :2] = 1
    optimiser = torch.optim.Adam(built.parameters(), lr=3e-3)
    history = []
    for _ in range(25):
        logits, means, log_variances = built(labels, torch.Generator().manual_seed(0))
        losses = autoencoder_losses(logits, labels, means, log_variances)
        optimiser.zero_grad()
        losses.total.backward()
        assert all(parameter.grad is not None for parameter in built.parameters())
        optimiser.step()
        history.append([float(losses.cross_entropy.detach()), float(losses.lovasz.detach())])
    assert history[-1][0] < 0.85 * history[0][0]
    assert history[-1][1] < history[0][1]
