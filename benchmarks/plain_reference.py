"""The layers of the family ``reference`` with no shortcut taken, on the weights of our modules.

Written from the description of the published code: every token goes through every layer of the projections, planes
are padded to stacks for grouped convolutions, all frames are decoded at once with positions encoded cell by cell,
each token is modulated on its own, guidance computes both halves, and losses look at all cells in single precision.
Attention is PyTorch's fused kernel without dropout, as in the measurements of the published code.
"""

import torch
from dyncity_models.layers import sinusoidal_embedding
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.conditions import EmbeddedConditions
from dyncity_models.reference.config import PLANES
from dyncity_models.reference.dit import TIME_CHANNELS, Block, ReferenceTransformer
from dyncity_models.reference.encoder import Encoder
from dyncity_models.reference.planes import HexPlanes
from dyncity_models.reference.projection import Projection, ProjectionLayer
from dyncity_models.reference.voxel_encoder import VoxelEncoder, halving
from torch import Tensor, nn
from torch.nn import functional as F


def encode(autoencoder: ReferenceAutoencoder, labels_BTXYZ: Tensor) -> tuple[HexPlanes, HexPlanes]:
    """Means and log-variances."""
    moments = []
    for name, plane in zip(PLANES, _features(autoencoder.encoder, labels_BTXYZ), strict=True):
        linear = autoencoder.moments[name]
        moments.append(linear(plane.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).chunk(2, dim=1))
    return HexPlanes(*(mean for mean, _ in moments)), HexPlanes(*(log_variance for _, log_variance in moments))


def _features(encoder: Encoder, labels_BTXYZ: Tensor) -> list[Tensor]:
    config = encoder.config
    batch, frames, x, y, z = labels_BTXYZ.shape
    embedded = F.embedding(labels_BTXYZ.long(), encoder.embedding.weight)

    def volume(of: nn.Module, features_BTXYZC: Tensor) -> Tensor:
        assert isinstance(of, VoxelEncoder)
        encoded = _voxels(of, features_BTXYZC.permute(0, 1, 5, 2, 3, 4).flatten(0, 1).contiguous(), config.down)
        return encoded.unflatten(0, (batch, frames)).permute(0, 2, 1, 3, 4, 5)

    still = moving = volume(encoder.space, embedded)
    if encoder.time is not None:
        if config.one_hot_time:
            which = torch.eye(frames).view(1, frames, 1, 1, 1, frames).expand(batch, -1, x, y, z, -1)
            embedded = torch.cat([embedded, which], dim=-1)
        moving = volume(encoder.time, embedded)
    axes = "txyz"
    if config.time_reducer:
        still, axes = _project(encoder.projections["xyz"], still, axes, "xyz"), "xyz"
    planes = []
    for name in PLANES:
        source = (moving, "txyz") if "t" in name else (still, axes)
        plane = _project(encoder.projections[name], *source, name)
        for number, step in enumerate(encoder.downsamplers[name].steps):
            plane = step(F.leaky_relu(plane, 0.1) if number else plane)
        planes.append(plane)
    return planes


def _instance_norm(x: Tensor, eps: float) -> Tensor:
    normalised = F.instance_norm(x, eps=eps)
    if normalised.requires_grad:
        # On a CPU, its own gradient is wrong for one that lies in memory in another order.
        normalised.register_hook(lambda gradient: gradient.contiguous())
    return normalised


def _voxels(encoder: VoxelEncoder, x: Tensor, down: tuple[int, int, int]) -> Tensor:
    def convolve(conv: nn.Conv3d, values: Tensor) -> Tensor:
        return F.conv3d(F.pad(values, (1,) * 6, mode="replicate"), conv.weight, conv.bias)

    def residual(block: nn.Module, values: Tensor) -> Tensor:
        hidden = F.leaky_relu(_instance_norm(convolve(block.conv1, values), eps=1e-5), 0.1)
        return values + _instance_norm(convolve(block.conv2, hidden), eps=1e-5)

    x = residual(encoder.residual, convolve(encoder.stem, x))
    for number, level in enumerate(encoder.levels):
        x = F.conv3d(x, level.conv.weight, level.conv.bias, stride=halving(down, number))
        x = residual(level.residual, _instance_norm(x, eps=1e-5))
    return x


def _project(projection: Projection, volume: Tensor, axes: str, kept: str) -> Tensor:
    away = [axis for axis in axes if axis not in kept]
    order = [0, *(2 + axes.index(axis) for axis in (*kept, *away)), 1]
    sequences = volume.permute(order)
    sizes = sequences.shape[: 1 + len(kept)]
    tokens = sequences.reshape(sizes.numel(), -1, volume.shape[1])
    tokens = torch.cat([tokens, projection.token.expand(len(tokens), -1, -1)], dim=1) + projection.positions
    for layer in projection.layers:
        tokens = _layer(layer, tokens)
    plane = tokens[:, 0].reshape(*sizes, -1).movedim(-1, 1)
    return projection.head_lower(torch.tanh(projection.head_lift(plane)))


def _layer(layer: ProjectionLayer, x: Tensor) -> Tensor:
    batch, tokens, channels = x.shape
    qkv = layer.attention.qkv(layer.norm1(x)).view(batch, tokens, 3, layer.attention.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, channels)
    x = x + layer.attention.dropout(layer.attention.out(attended))
    hidden = layer.dropout(F.gelu(layer.lift(layer.norm2(x))))
    return x + layer.dropout(layer.lower(hidden))


def decode(autoencoder: ReferenceAutoencoder, planes: HexPlanes) -> Tensor:
    """Class logits of all frames, ``(B, T, X, Y, Z, K)``."""
    decoder, config = autoencoder.decoder, autoencoder.config
    wide = [*_stack(decoder.planes, planes, "still"), *_stack(decoder.planes, planes, "moving")]
    volume: Tensor | None = None
    cells = config.volume
    for name, plane in zip(PLANES, wide, strict=True):
        upsampler = decoder.upsamplers[name]
        plane = F.leaky_relu(_instance_norm(upsampler.expand(plane), eps=1e-5), 0.1)
        plane = F.leaky_relu(_instance_norm(upsampler.conv(plane), eps=1e-5), 0.1)
        shape = [cells[axis] if axis in name else 1 for axis in "txyz"]
        expanded = plane.permute(0, 2, 3, 1).reshape(len(plane), *shape, -1).expand(-1, *cells.values(), -1)
        volume = expanded if volume is None else volume * expanded if config.hadamard else volume + expanded
    assert volume is not None
    features = volume.permute(0, 1, 5, 2, 3, 4).flatten(0, 1).contiguous()
    logits = _classify(decoder.voxels, features, config.frames)
    return logits.unflatten(0, (len(planes), config.frames)).permute(0, 1, 3, 4, 5, 2)


def _stack(block: nn.Module, planes: HexPlanes, kind: str) -> list[Tensor]:
    names = [name for name in PLANES if ("t" in name) == (kind == "moving")]
    three = [getattr(planes, name) for name in names]
    sizes = [plane.shape[2:] for plane in three]
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))

    def padded(parts: list[Tensor]) -> Tensor:
        return torch.cat([F.pad(p, (0, width - p.shape[3], 0, height - p.shape[2])) for p in parts], dim=1)

    def convolved(conv: nn.Module, stack: Tensor) -> list[Tensor]:
        done = F.conv2d(stack, conv.weight, conv.bias, padding=conv.kernel // 2, groups=3)
        return [part[:, :, :h, :w] for part, (h, w) in zip(done.chunk(3, dim=1), sizes, strict=True)]

    stack = padded(three)
    hidden = convolved(block.widen[kind], stack)
    hidden = [F.silu(block.norms[name](part)) for name, part in zip(names, hidden, strict=True)]
    mixed = convolved(block.mix[kind], padded(hidden))
    return [m + s for m, s in zip(mixed, convolved(block.shortcut[kind], stack), strict=True)]


def _classify(voxels: nn.Module, x: Tensor, frames: int) -> Tensor:
    x = F.leaky_relu(voxels.conv_in(x), 0.1)
    for block in voxels.residuals:
        hidden = F.leaky_relu(_instance_norm(block.conv1(x), eps=1e-5), 0.1)
        x = x + F.leaky_relu(_instance_norm(block.conv2(hidden), eps=1e-5), 0.1)
    x = voxels.expand(x)
    grid = x.shape[2:]
    times = torch.arange(frames).repeat(len(x) // frames)
    index = torch.stack(torch.meshgrid(times, *(torch.arange(cells) for cells in grid), indexing="ij"), dim=1).float()
    waves = [wave(2**octave * index) for octave in range(voxels.frequencies) for wave in (torch.sin, torch.cos)]
    hidden = voxels.classify1(torch.cat([x, *waves], dim=1))
    return voxels.classify2(F.leaky_relu(_instance_norm(hidden, eps=1e-5), 0.1))


def losses(
    logits_BTXYZK: Tensor, labels_BTXYZ: Tensor, means: HexPlanes, log_variances: HexPlanes, class_weights: Tensor
) -> Tensor:
    """Sum of cross entropy, Lovasz-Softmax over the classes present, and weighted KL."""
    classes = logits_BTXYZK.shape[-1]
    logits, labels = logits_BTXYZK.reshape(-1, classes), labels_BTXYZ.flatten().long()
    probabilities = F.softmax(logits, dim=1)
    by_class = []
    for label in range(classes):
        foreground = (labels == label).to(logits.dtype)
        if foreground.sum() == 0:
            continue
        errors = (foreground - probabilities[:, label]).abs()
        errors_sorted, order = torch.sort(errors, dim=0, descending=True)
        sorted_foreground = foreground[order]
        total = sorted_foreground.sum()
        intersection = total - sorted_foreground.cumsum(0)
        union = total + (1 - sorted_foreground).cumsum(0)
        jaccard = 1 - intersection / union
        jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
        by_class.append(torch.dot(errors_sorted, jaccard))
    divergence = sum(
        (0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)).sum()
        for mean, log_variance in zip(means, log_variances, strict=True)
    ) / sum(mean.numel() for mean in means)
    return F.cross_entropy(logits, labels, class_weights) + torch.stack(by_class).mean() + 0.0015 * divergence


def guided(
    transformer: ReferenceTransformer,
    noisy: Tensor,
    step_B: Tensor,
    conditional: EmbeddedConditions,
    unconditional: EmbeddedConditions,
    scale: float,
) -> Tensor:
    """Noise and log-variance of one sample by a batch of two, each token modulated on its own."""
    tokens = transformer.tokens
    everywhere = torch.cat([conditional.everywhere, unconditional.everywhere])
    x = transformer.embed(torch.cat([noisy, noisy])).flatten(2).transpose(1, 2) + transformer.positions
    x = x[:, tokens]
    waves = sinusoidal_embedding(step_B.repeat(2), TIME_CHANNELS)
    embedded = transformer.time.lower(F.silu(transformer.time.lift(waves))) + everywhere
    condition = embedded[:, None].repeat(1, len(tokens), 1)
    if conditional.per_token is not None and unconditional.per_token is not None:
        condition = condition + torch.cat([conditional.per_token, unconditional.per_token])
    for block in transformer.blocks:
        x = _block(block, x, condition)
    shift, scale_by = transformer.final_modulation(F.silu(condition)).chunk(2, dim=-1)
    patches = transformer.final(transformer.final_norm(x) * (1 + scale_by) + shift)
    rows, columns = transformer.patches
    full = patches.new_zeros(2, rows * columns, patches.shape[-1])
    full[:, tokens] = patches
    patch, channels = transformer.config.patch, noisy.shape[1]
    full = full.view(2, rows, columns, patch, patch, 2 * channels).permute(0, 5, 1, 3, 2, 4)
    given, without = full.reshape(2, 2 * channels, rows * patch, columns * patch).chunk(2)
    noise = without[:, :channels] + scale * (given[:, :channels] - without[:, :channels])
    return torch.cat([noise, given[:, channels:]], dim=1)


def _block(block: Block, x: Tensor, condition: Tensor) -> Tensor:
    batch, tokens, width = x.shape
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(F.silu(condition)).chunk(6, dim=-1)
    qkv = block.attention.qkv(block.norm(x) * (1 + scale1) + shift1)
    q, k, v = qkv.view(batch, tokens, 3, block.attention.heads, -1).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
    x = x + gate1 * block.attention.out(attended)
    hidden = F.gelu(block.lift(block.norm(x) * (1 + scale2) + shift2), approximate="tanh")
    return x + gate2 * block.lower(hidden)
