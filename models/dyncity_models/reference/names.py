"""Names of modules in the published checkpoints, and the module of this family that each one is.

Both maps are built from a configuration, so that a checkpoint with a tensor too few or too many is noticed.
Keys and values are names of modules (or of bare parameters); ``tensor_names`` adds what they hold.
"""

from collections.abc import Iterable, Iterator

from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig, ReferenceTransformerConfig


def autoencoder_modules(config: ReferenceAutoencoderConfig) -> dict[str, str]:
    """Published name to ours, of the autoencoder."""
    pairs = {"encoder.embedding": "encoder.embedding"}
    encoders = {"voxel_encoder": "space"} | ({"t_encoder": "time"} if config.time_encoder else {})
    for theirs, ours in encoders.items():
        pairs |= _voxel_encoder(f"encoder.{theirs}", f"encoder.{ours}", max(config.down))
    for axes in (*(["xyz"] if config.time_reducer else []), *PLANES):
        pairs |= _projection(axes, config.depth)
    halvings = dict(zip("txyz", config.plane_down, strict=True))
    for place, name in enumerate(PLANES):
        for step in range(max(halvings[name[0]], halvings[name[1]])):
            # Their list of steps starts with one that holds no weights.
            pairs[f"encoder.downsamplers.{place}.down.{step + 1}.0"] = f"encoder.downsamplers.{name}.steps.{step}"
        pairs[f"vae.fc_mu_logvar.{place}"] = f"moments.{name}"
        pairs[f"decoder.conv_block.norms.{place}"] = f"decoder.planes.norms.{name}"
        upsample = f"decoder.hex_upsample_block.{place}.upsample"
        pairs |= {
            f"{upsample}.0": f"decoder.upsamplers.{name}.expand",
            f"{upsample}.3": f"decoder.upsamplers.{name}.conv",
        }
    for letter, kind in (("h", "still"), ("t", "moving")):
        pairs |= {
            f"decoder.conv_block.in_layers_{letter}": f"decoder.planes.widen.{kind}",
            f"decoder.conv_block.out_layers_{letter}.1": f"decoder.planes.mix.{kind}",
            f"decoder.conv_block.shortcut_{letter}": f"decoder.planes.shortcut.{kind}",
        }
    theirs, ours = "decoder.voxel_decoder", "decoder.voxels"
    pairs[f"{theirs}.conv_in.0"] = f"{ours}.conv_in"
    for number in range(2):
        pairs[f"{theirs}.conv_layers.{number}.0"] = f"{ours}.residuals.{number}.conv1"
        pairs[f"{theirs}.conv_layers.{number}.3"] = f"{ours}.residuals.{number}.conv2"
    pairs[f"{theirs}.transpose_conv"] = f"{ours}.expand"
    pairs[f"{theirs}.final_conv.0"] = f"{ours}.classify1"
    pairs[f"{theirs}.final_conv.3"] = f"{ours}.classify2"
    return pairs


def _voxel_encoder(theirs: str, ours: str, levels: int) -> dict[str, str]:
    pairs = {
        f"{theirs}.conv0": f"{ours}.stem",
        f"{theirs}.conv1.0": f"{ours}.residual.conv1",
        f"{theirs}.conv1.3": f"{ours}.residual.conv2",
    }
    for level in range(levels):
        pairs |= {
            f"{theirs}.down.{2 * level}.0": f"{ours}.levels.{level}.conv",
            f"{theirs}.down.{2 * level + 1}.0": f"{ours}.levels.{level}.residual.conv1",
            f"{theirs}.down.{2 * level + 1}.3": f"{ours}.levels.{level}.residual.conv2",
        }
    return pairs


def _projection(axes: str, depth: int) -> dict[str, str]:
    ours = f"encoder.projections.{axes}"
    pairs = {
        f"encoder.tokens.{axes}": f"{ours}.token",
        f"encoder.pos_encodings.{axes}": f"{ours}.positions",
        f"encoder.convs.{axes}.0": f"{ours}.head_lift",
        f"encoder.convs.{axes}.2": f"{ours}.head_lower",
    }
    for layer in range(depth):
        theirs_layer, ours_layer = f"encoder.transformers.{axes}.layers.{layer}", f"{ours}.layers.{layer}"
        pairs |= {
            f"{theirs_layer}.0.0": f"{ours_layer}.norm1",
            f"{theirs_layer}.0.1.qkv": f"{ours_layer}.attention.qkv",
            f"{theirs_layer}.0.1.proj": f"{ours_layer}.attention.out",
            f"{theirs_layer}.1.0": f"{ours_layer}.norm2",
            f"{theirs_layer}.1.1.fc1": f"{ours_layer}.lift",
            f"{theirs_layer}.1.1.fc2": f"{ours_layer}.lower",
        }
    return pairs


def transformer_modules(config: ReferenceTransformerConfig) -> dict[str, str]:
    """Published name to ours, of the diffusion transformer."""
    pairs = {
        "pos_embed": "positions",
        "x_embedder.proj": "embed",
        "t_embedder.mlp.0": "time.lift",
        "t_embedder.mlp.2": "time.lower",
        "final_layer.linear": "final",
        "final_layer.adaLN_modulation.1": "final_modulation",
    }
    if "hexplane" in config.conditions:
        pairs["hex_emb.embedder.proj"] = "conditions.hexplane"
    if "layout" in config.conditions:
        pairs["layout_emb.embedder.proj"] = "conditions.layout"
    if "trajectory" in config.conditions:
        pairs |= {f"traj_emb.embedder.{2 * layer}": f"conditions.trajectory.{2 * layer}" for layer in range(3)}
    if "command" in config.conditions:
        pairs["cmd_emb.embedder"] = "conditions.command"
    for number in range(config.depth):
        block = f"blocks.{number}"
        pairs |= {
            f"{block}.attn.qkv": f"{block}.attention.qkv",
            f"{block}.attn.proj": f"{block}.attention.out",
            f"{block}.mlp.fc1": f"{block}.lift",
            f"{block}.mlp.fc2": f"{block}.lower",
            f"{block}.adaLN_modulation.1": f"{block}.modulation",
        }
        if config.cross_attention:
            pairs |= {f"{block}.x_attn.{part}": f"{block}.cross.{part}" for part in ("q", "kv")}
            pairs[f"{block}.x_attn.proj"] = f"{block}.cross.out"
    return pairs


def tensor_names(modules: dict[str, str], expected: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of published and own tensor names, one for each tensor of ours in ``expected``."""
    theirs_from_ours = {ours: theirs for theirs, ours in modules.items()}
    for name in expected:
        module, _, tensor = name.rpartition(".")
        if name in theirs_from_ours:
            yield theirs_from_ours[name], name
        else:
            yield f"{theirs_from_ours[module]}.{tensor}", name
