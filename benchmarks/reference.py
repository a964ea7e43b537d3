"""Time, arithmetic and memory of the family ``reference`` beside a plain version of its layers, on the same weights.

Both run in turns in one process; figures are medians, since machines differ and are busy. Peak memory is measured in
fresh processes, one for each figure, and is what a run adds to the memory the process had. Products are counted as two
operations, those of attention included.

examples:
  python benchmarks/reference.py
  python benchmarks/reference.py encode decode --repetitions 9
  python benchmarks/reference.py --size small --no-memory
  python benchmarks/reference.py --clock cpu --threads 1      on a machine that others use, too
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import plain_reference as plain
import torch
from dyncity_models.reference.autoencoder import ReferenceAutoencoder, sample_posterior
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.config import AUTOENCODERS, TRANSFORMERS, ReferenceAutoencoderConfig
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.guidance import GuidedTransformer
from dyncity_models.training.reference_losses import autoencoder_losses
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

WANTED = {"encode": 0.6, "decode": 0.95, "guided": 0.8, "train": 0.65}
PUBLISHED = {"encode": 4.6, "decode": 1.96, "guided": 1.78, "train": 28.4}
"""Seconds of the published code at official sizes on two cores of another machine, attention in single precision."""

WANTED_MEMORY = {"train": 0.5}
"""Most that ours may take of the plain version's time and memory."""

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Network = TypeVar("Network", bound=nn.Module)
TRANSFORMER = {"official": "DiT-DC/2", "small": "small"}


class Operation(NamedTuple):
    """One thing to measure, done in two ways.

    Attributes:
        ours: does it by the modules of the family.
        plain: does it plainly.
        results: what each of the two gives for a comparison, from ``ours`` or ``plain``.
    """

    ours: Callable[[], object]
    plain: Callable[[], object]
    results: Callable[[str], list[Tensor]]


def randomised(network: Network) -> Network:
    """Random weights everywhere, instead of the zeros that some layers start with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def labels_like_streets(config: ReferenceAutoencoderConfig) -> Tensor:
    """One chunk of blocks of 8 x 8 columns, mostly free above the ground."""
    generator = torch.Generator().manual_seed(0)
    x, y, z = config.grid
    coarse = torch.randint(config.classes, (1, config.frames, x // 8, y // 8, z), generator=generator)
    coarse[..., 2:][torch.rand(coarse[..., 2:].shape, generator=generator) < 0.8] = 0
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)


def autoencoder_operation(name: str, config: ReferenceAutoencoderConfig) -> Operation:
    """Encoding or decoding a chunk."""
    autoencoder, labels = randomised(ReferenceAutoencoder(config)), labels_like_streets(config)
    if name == "encode":
        ways = {"ours": lambda: autoencoder.encode(labels), "plain": lambda: plain.encode(autoencoder, labels)}
    else:
        generator = torch.Generator().manual_seed(1)
        shapes = {axes: (1, config.latent_channels, *config.plane_shape(axes)) for axes in plain.PLANES}
        planes = plain.HexPlanes(*(torch.randn(shape, generator=generator) for shape in shapes.values()))
        ways = {"ours": lambda: autoencoder.decode(planes), "plain": lambda: plain.decode(autoencoder, planes)}

    def results(which: str) -> list[Tensor]:
        found = ways[which]()
        return [found] if isinstance(found, Tensor) else [plane for planes in found for plane in planes]

    run = {way: torch.no_grad()(function) for way, function in ways.items()}
    return Operation(run["ours"], run["plain"], torch.no_grad()(results))


def guided_operation(config: ReferenceAutoencoderConfig, size: str) -> Operation:
    """One guided step of the transformer with a plan and a command."""
    architecture = TRANSFORMERS[TRANSFORMER[size]]
    architecture = type(architecture)(**vars(architecture) | {"conditions": ("trajectory", "command")})
    transformer = randomised(ReferenceTransformer(architecture, config))
    generator = torch.Generator().manual_seed(1)
    conditions = ReferenceConditions(torch.randn(1, config.frames, 3, generator=generator), torch.tensor([2]))
    noisy = torch.randn(1, config.latent_channels, *config.rollout_shape, generator=generator)
    step = torch.tensor([444])
    with torch.no_grad():
        guided = GuidedTransformer(transformer, conditions)
        halves = [
            transformer.conditions(of, transformer.positions, transformer.tokens)
            for of in (conditions, ReferenceConditions())
        ]
    run = {
        "ours": torch.no_grad()(lambda: guided(noisy, step)),
        "plain": torch.no_grad()(lambda: plain.guided(transformer, noisy, step, halves[0], halves[1], 4.0)),
    }
    return Operation(run["ours"], run["plain"], lambda which: [run[which]()])


def train_operation(config: ReferenceAutoencoderConfig) -> Operation:
    """One training step of the autoencoder: forward, losses, backward, Adam."""
    autoencoder, labels = randomised(ReferenceAutoencoder(config)), labels_like_streets(config)
    class_weights = torch.linspace(1, 10, config.classes)
    # So slow that the weights stay those of the comparison.
    optimiser = torch.optim.Adam(autoencoder.parameters(), lr=1e-12)

    def loss(which: str) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        if which == "ours":
            logits, means, log_variances = autoencoder(labels, generator)
            return autoencoder_losses(logits, labels, means, log_variances, class_weights).total
        means, log_variances = plain.encode(autoencoder, labels)
        logits = plain.decode(autoencoder, sample_posterior(means, log_variances, generator))
        return plain.losses(logits, labels, means, log_variances, class_weights)

    def step(which: str) -> None:
        autoencoder.train()
        optimiser.zero_grad()
        loss(which).backward()
        optimiser.step()

    def results(which: str) -> list[Tensor]:
        # Without dropout, whose draws are not the same; gradients as one vector of length 1.
        autoencoder.eval()
        value = loss(which)
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(value, list(autoencoder.parameters()))])
        return [value.detach(), gradient / gradient.norm()]

    return Operation(lambda: step("ours"), lambda: step("plain"), results)


def build(name: str, size: str) -> Operation:
    """The operation by name."""
    config = AUTOENCODERS[size]
    if name in ("encode", "decode"):
        return autoencoder_operation(name, config)
    return guided_operation(config, size) if name == "guided" else train_operation(config)


def attention_operations(
    q: tuple[int, ...],
    k: tuple[int, ...],
    v: tuple[int, ...],
    *rest: object,
    out_shape: object = None,
    **options: object,
) -> int:
    """Two products of queries with keys, then of weights with values."""
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * k[2] * (width + v[3])


def attention_gradient_operations(
    gradient: object, q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *rest: object, **options: object
) -> int:
    """Five products, two of which repeat the forward pass and its kind."""
    return 5 * attention_operations(q, k, v) // 2


def giga_operations(function: Callable[[], object]) -> float:
    """What PyTorch's counter counts, and attention on a CPU, which it does not."""
    aten = torch.ops.aten
    more = {
        aten._scaled_dot_product_flash_attention_for_cpu: attention_operations,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_gradient_operations,
    }
    with FlopCounterMode(display=False, custom_mapping=more) as counter:
        function()
    return counter.get_total_flops() / 1e9


def peak_gib() -> float:
    """The most memory this process has had, on Linux.

    ``getrusage`` would start from what the parent had.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) / 2**20


def memory_in_fresh_process(name: str, way: str, arguments: argparse.Namespace) -> float:
    """GiB that one run adds."""
    options = ["--size", arguments.size, "--threads", str(arguments.threads), "--memory-of", way]
    command = [sys.executable, __file__, name, *options]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(name: str, arguments: argparse.Namespace) -> list[str]:
    """One row of the table."""
    operation, clock = build(name, arguments.size), CLOCKS[arguments.clock]
    ways = {"ours": operation.ours, "plain": operation.plain}
    operations = {way: giga_operations(function) for way, function in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.repetitions):
        for way, function in ways.items():
            started = clock()
            function()
            seconds[way].append(clock() - started)
    ours, plainly = (statistics.median(seconds[way]) for way in ways)
    difference = max(
        float((one - other).abs().max())
        for one, other in zip(operation.results("ours"), operation.results("plain"), strict=True)
    )
    row = [name, f"{ours:.2f}", f"{plainly:.2f}", f"{ours / plainly:.2f}", f"{WANTED[name]:.2f}"]
    published = f"{ours / PUBLISHED[name]:.2f}" if arguments.size == "official" else "-"
    row += [published, *(f"{operations[way]:.1f}" for way in ways)]
    if arguments.memory:
        memory = {way: memory_in_fresh_process(name, way, arguments) for way in ways}
        wanted = WANTED_MEMORY.get(name)
        row += [f"{memory[way]:.2f}" for way in ways]
        # A small run may fit in what the imports needed once.
        ratio = f"{memory['ours'] / memory['plain']:.2f}" if memory["plain"] > 0 else "-"
        row += [ratio, "" if wanted is None else f"{wanted:.2f}"]
    return [*row, f"{difference:.1e}"]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operations", nargs="*", metavar="operation", help=f"{', '.join(WANTED)} (default: all)")
    parser.add_argument("--size", choices=list(TRANSFORMER), default="official", help="sizes of the networks")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each that a median is of (default: 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="seconds that passed, or of computing")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave peak memory out")
    parser.add_argument(
        "--memory-of", choices=["ours", "plain"], help="print the GiB that one run adds, and nothing else"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.operations) - set(WANTED)
    if unknown or arguments.repetitions < 1:
        parser.error(f"got {', '.join(unknown) or 'no repetitions'}; operations are {', '.join(WANTED)}")

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.memory_of:
        operation = build(arguments.operations[0], arguments.size)
        before = peak_gib()
        getattr(operation, arguments.memory_of)()
        print(peak_gib() - before)
        return
    title = (
        f"{arguments.size}, float32, {arguments.threads} threads, {arguments.clock} clock, torch {torch.__version__}"
    )
    table = Table("operation", "s", "plain s", "ratio", "wanted", "of published", "GFLOP", "plain GFLOP", title=title)
    for column in (*(["GiB", "plain GiB", "ratio", "wanted"] if arguments.memory else []), "difference"):
        table.add_column(column)
    for name in arguments.operations or WANTED:
        table.add_row(*measure(name, arguments))
        print(f"{name} done", file=sys.stderr)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
