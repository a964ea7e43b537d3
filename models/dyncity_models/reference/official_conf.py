"""Configurations of this family from the ``conf.yaml`` of the published trainers."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dyncity_models.reference.config import (
    MOST_CELLS,
    MOST_CHANNELS,
    MOST_CLASSES,
    MOST_HALVINGS,
    MOST_LAYERS,
    MOST_OCTAVES,
    TRANSFORMERS,
    ReferenceAutoencoderConfig,
    ReferenceClasses,
    ReferenceSpace,
    ReferenceTransformerConfig,
)
from dyncity_models.reference.conventions import Convention, OfficialConvention
from dyncity_models.reference.labels import CommandThresholds
from dyncity_models.reference.official import resolved
from dyncity_sim.domain.grid import CARLASC_GRID, OCC3D_GRID, Grid
from dyncity_sim.errors import CheckpointError, ConfigError

CARLASC = "carlasc"

CARLASC_FINE_GRID = Grid((256, 256, 16), CARLASC_GRID.lower_m, (0.2, 0.2, 0.1875))
"""CarlaSC's finer grid: the same space in cells of half the size."""

OCC3D_RATES_HZ = {"waymo": 10.0, "nuscenes": 2.0}
"""Labelled frames per second, by what the names of the data sets hold."""


class _Section:
    """One mapping of a conf, whose values are looked up with their type."""

    def __init__(self, conf: Mapping[str, Any], name: str) -> None:
        values = resolved(conf.get(name))
        if not isinstance(values, dict):
            raise CheckpointError(f"conf.yaml: {name}", repr(values), "a section with names and values")
        self.name, self.values = name, values

    def take(self, key: str, kind: type, lowest: float = 0, highest: float = MOST_CHANNELS) -> Any:
        value: Any = resolved(self.values.get(key))
        fits = isinstance(value, kind | int if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise CheckpointError(f"conf.yaml: {self.name}.{key}", repr(value), f"a value of type {kind.__name__}")
        if kind in (int, float) and not lowest <= value <= highest:
            raise CheckpointError(f"conf.yaml: {self.name}.{key}", repr(value), f"{lowest} to {highest}")
        return value

    def switch(self, key: str) -> bool:
        return bool(self.take(key, bool)) if key in self.values else False

    def demand(self, key: str, value: object, why: str) -> None:
        if self.values.get(key) != value:
            raise CheckpointError(f"conf.yaml: {self.name}.{key}", repr(self.values.get(key)), f"{value!r}: {why}")


def autoencoder_config(conf: Mapping[str, Any]) -> ReferenceAutoencoderConfig:
    """The configuration that the ``conf.yaml`` of an autoencoder describes.

    Raises:
        CheckpointError: a value is missing or out of range, or a switch is set that this family does not have.
    """
    data, model = _Section(conf, "dataset"), _Section(conf, "model")
    model.demand("vae", True, "plain autoencoders are not supported")
    model.demand("encoder_type", "tr", "the attention encoder is the only one supported")
    model.demand("decoder_type", "conv", "the convolutional decoder is the only one supported")
    grid = data.take("spatial_size", list)
    if len(grid) != 3 or not all(type(cells) is int and 0 < cells <= MOST_CELLS for cells in grid):
        raise CheckpointError("conf.yaml: dataset.spatial_size", repr(grid), "three numbers of cells, X, Y and Z")

    def halvings(axes: str, prefix: str = "") -> Any:
        return tuple(model.take(f"{prefix}down_{axis}", int, 0, MOST_HALVINGS) for axis in axes)

    try:
        return ReferenceAutoencoderConfig(
            frames=data.take("sequence_length", int, 1, MOST_CELLS),
            grid=(grid[0], grid[1], grid[2]),
            classes=data.take("num_classes", int, 2, MOST_CLASSES),
            latent_channels=model.take("latent_channels", int, 1),
            plane_channels=model.take("query_channels", int, 1),
            low_channels=model.take("conv_hidden_low_res", int, 1),
            high_channels=model.take("conv_hidden_high_res", int, 1),
            down=halvings("xyz"),
            plane_down=halvings("txyz", "hex_"),
            time_encoder=model.take("separate_t_encoder", bool),
            one_hot_time=model.take("one_hot_time", bool),
            time_reducer=model.take("separate_t_reducer", bool),
            depth=model.take("transformer_depth", int, 1, MOST_LAYERS),
            heads=model.take("transformer_heads", int, 1),
            mlp_width=model.take("transformer_dim_mlp", int, 1),
            dropout=model.take("dropout", float, 0, 1),
            hadamard=model.take("hadamard", bool),
            frequencies=model.take("pe_freq", int, 0, MOST_OCTAVES),
        )
    except ConfigError as error:
        raise CheckpointError(f"conf.yaml: {error.field}", error.got, error.expected) from error


def space_of(conf: Mapping[str, Any]) -> ReferenceSpace:
    """Where the cells of the data set that an autoencoder's ``conf.yaml`` names lie: CarlaSC (where it names none) or
    Occ3D.

    Raises:
        CheckpointError: the run is on another data set.
    """
    name, grid = _data_set(conf), tuple(_Section(conf, "dataset").take("spatial_size", list))
    if name.lower() == CARLASC and grid == CARLASC_FINE_GRID.shape:
        return ReferenceSpace(CARLASC_FINE_GRID.lower_m, CARLASC_FINE_GRID.voxel_size_m)
    if name.lower() == CARLASC:
        return ReferenceSpace.carlasc((grid[0], grid[1], grid[2]))
    rate_hz = next((rate for part, rate in OCC3D_RATES_HZ.items() if part in name.lower()), None)
    if rate_hz is None or grid != OCC3D_GRID.shape:
        raise CheckpointError(
            "conf.yaml: dataset.dataset",
            f"{name!r} with {' x '.join(map(str, grid))} cells",
            f"carlasc, or Occ3D on {' or '.join(OCC3D_RATES_HZ)} with {' x '.join(map(str, OCC3D_GRID.shape))}",
            "Where the cells of another data set lie is not known.",
        )
    return ReferenceSpace(OCC3D_GRID.lower_m, OCC3D_GRID.voxel_size_m, rate_hz)


def convention_of(conf: Mapping[str, Any], transformer_conf: Mapping[str, Any] | None = None) -> Convention:
    """How the published code saw the data set that an autoencoder's ``conf.yaml`` names: as its files have it, with
    commands by the thresholds of the transformer's ``conf.yaml``.

    Raises:
        CheckpointError: a threshold that is none.
    """
    section = _Section({"dataset": {}} | dict(transformer_conf or {}), "dataset")
    keys = {"angle_rad": "angle_thr_mul", "distance_m": "forward_thr_mul"}
    said = {name: float(section.take(key, float)) for name, key in keys.items() if key in section.values}
    return OfficialConvention(_data_set(conf).lower() == CARLASC, CommandThresholds(**said))


def _data_set(conf: Mapping[str, Any]) -> str:
    return str(_Section(conf, "dataset").values.get("dataset", CARLASC))


def class_table(conf: Mapping[str, Any]) -> ReferenceClasses:
    """Names, label map and frequencies of an autoencoder's ``conf.yaml``, as far as it has them.

    Raw labels that a map leaves out, as one of Occ3D-Waymo's 0 to 14 and 23 does, are free space that never occurs.

    Raises:
        CheckpointError: a table is not one, or maps to a class that there is not.
    """
    section = _Section(conf, "dataset")
    classes = section.take("num_classes", int, 2, MOST_CLASSES)

    def column(key: str, *kinds: type, left_out: Any = None) -> list[Any]:
        table = resolved(section.values.get(key, {}))
        numbered = isinstance(table, dict) and all(type(n) is int and 0 <= n < MOST_CLASSES for n in table)
        values = [table.get(n, left_out) for n in range(max(table, default=-1) + 1)] if numbered else [None]
        if any(isinstance(value, bool) or not isinstance(value, kinds) for value in values):
            raise CheckpointError(f"conf.yaml: dataset.{key}", repr(table)[:80], "values for 0, 1, 2, ...")
        return values

    merged = column("semantic_map", int, left_out=0)
    if not all(0 <= label < classes for label in merged):
        raise CheckpointError(
            "conf.yaml: dataset.semantic_map", f"classes {sorted(set(merged))}", f"0 to {classes - 1}"
        )
    frequency = [float(count) for count in column("semantic_frequency", int, float, left_out=0)]
    if frequency and not (min(frequency) >= 0 < sum(frequency) < math.inf):
        got = f"frequencies from {min(frequency):g} to {max(frequency):g}"
        raise CheckpointError("conf.yaml: dataset.semantic_frequency", got, "0 or more of each, and not 0 of all")
    # Weights of fewer classes than the data set has may come with its names all the same.
    return ReferenceClasses(tuple(column("semantic_names", str)[:classes]), tuple(merged), tuple(frequency))


def transformer_config(
    conf: Mapping[str, Any], tensors: Mapping[str, Tensor], heads: int | None = None
) -> ReferenceTransformerConfig:
    """The configuration of a transformer from its ``conf.yaml`` and the shapes of its tensors.

    Depth, width and patch are read off the tensors. The number of heads leaves no trace in them; it is known for the
    published sizes and has to be told for others.

    Raises:
        CheckpointError: a value is missing, or does not fit the tensors.
    """
    model = _Section(conf, "model")
    name = model.take("model", str)
    known = TRANSFORMERS.get(name) if name.startswith("DiT-DC/") else None
    if heads is None:
        if known is None:
            raise CheckpointError(
                "heads", f"none for the model {name!r}", "the number of attention heads", "Give it with --heads."
            )
        heads = known.heads
    patches = _shape(tensors, "x_embedder.proj.weight", 4)
    width, patch = patches[0], patches[2]
    blocks = {int(found[1]) for key in tensors if (found := re.match(r"blocks\.(\d{1,9})\.", key))}
    if not blocks or blocks != set(range(len(blocks))):
        raise CheckpointError("blocks", f"numbers {sorted(blocks)[:20]}", "blocks with the numbers 0, 1, 2, ...")
    if known is not None and (len(blocks), width, patch) != (known.depth, known.width, known.patch):
        raise CheckpointError(
            "conf.yaml: model.model",
            f"{name} with {len(blocks)} blocks of width {width} and patch {patch}",
            f"{known.depth} blocks of width {known.width} and patch {known.patch}",
        )
    switches = {"trajectory": "traj_cond", "command": "cmd_cond", "layout": "layout_cond", "hexplane": "hex_cond"}
    try:
        return ReferenceTransformerConfig(
            depth=len(blocks),
            width=width,
            heads=heads,
            patch=patch,
            conditions=tuple(condition for condition, switch in switches.items() if model.switch(switch)),
            cross_attention=model.switch("x_attn"),
        )
    except ConfigError as error:
        raise CheckpointError(error.field, error.got, error.expected) from error


def _shape(tensors: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    value = tensors.get(name)
    if value is None or value.dim() != axes or 0 in value.shape:
        got = "no such tensor" if value is None else f"shape {tuple(value.shape)}"
        raise CheckpointError(name, got, f"a tensor with {axes} axes")
    return tuple(value.shape)
