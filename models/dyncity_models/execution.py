"""How networks are run: precision, memory format, compilation, CUDA graphs and attention kernel."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor, nn

from dyncity_models.attention import AttentionModule, choose_kernel
from dyncity_sim.errors import ConfigError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

PRODUCTS = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Modules whose inputs and weights autocast rounds."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Execution:
    """Switches that change how fast a network runs, and its numbers by rounding alone.

    Attributes:
        precision: ``fp32``, or what matrix products and convolutions are computed in: ``bf16``, ``fp16``.
        channels_last: convolution kernels lie with channels innermost, as tensor cores like them.
        compile: by ``torch.compile``; needs a C++ compiler on a CPU.
        cuda_graphs: kernels of a call are recorded once and launched together from then on.
        attention: ``sdpa``, ``flash-attn``, or ``auto`` for the latter where it can run.
    """

    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    attention: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError("execution.precision", self.precision, ", ".join(PRECISIONS))

    def prepare(self, network: Network, device: torch.device) -> Network:
        """A network on a device, its kernels laid out and its way to attend chosen: the one given, in single precision.

        Else it is another one, so that the weights given stay as they are: those of matrix products and convolutions
        are rounded once, and not by autocast in each call, which took a fifth of the time of the bundled ones on two
        cores.

        Raises:
            ConfigError: the attention kernel that is asked for cannot run there.
        """
        kernel = choose_kernel(self.attention, device.type, self.precision)
        if self.precision != "fp32":
            network = _rounded(network, PRECISIONS[self.precision])
        network = network.to(device)
        for module in network.modules():
            if isinstance(module, AttentionModule):
                module.kernel = kernel
        if self.channels_last:
            formats = {4: torch.channels_last, 5: torch.channels_last_3d}
            for parameter in network.parameters():
                if parameter.dim() in formats:
                    parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
        return network

    def run(self, function: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
        """A function of tensors that computes one tensor with a prepared network, under these switches.

        Results are in single precision. With CUDA graphs there are no gradients.

        Raises:
            ConfigError: CUDA graphs are asked for on another device.
        """
        if self.cuda_graphs and device.type != "cuda":
            raise ConfigError("execution.cuda_graphs", f"true on {device.type}", "false, or a CUDA device")
        precise = self._in_precision(function, device)
        if self.compile:
            precise = torch.compile(precise)
        return _Graphed(precise, device) if self.cuda_graphs else precise

    def _in_precision(self, function: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
        if self.precision == "fp32":
            return function

        @wraps(function)
        def call(*inputs: Tensor) -> Tensor:
            # A graph must not record the use of weights that were cast outside of it.
            with torch.autocast(device.type, PRECISIONS[self.precision], cache_enabled=not self.cuda_graphs):
                return function(*inputs).float()

        return call


def _rounded(network: Network, dtype: torch.dtype) -> Network:
    rounded = copy.deepcopy(network)
    for module in rounded.modules():
        if isinstance(module, PRODUCTS):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
    return rounded


class _Graphed:
    """A function whose kernels are recorded for each shape and type of its inputs."""

    def __init__(self, function: Callable[..., Tensor], device: torch.device) -> None:
        self.function, self.device = function, device
        self._recorded: dict[tuple[object, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        key = tuple((value.shape, value.dtype) for value in inputs)
        if key not in self._recorded:
            self._recorded[key] = self._record(inputs)
        graph, own_inputs, output = self._recorded[key]
        for own, given in zip(own_inputs, inputs, strict=True):
            own.copy_(given)
        graph.replay()
        return output.clone()

    def _record(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        own = [value.detach().to(self.device, copy=True) for value in inputs]
        # Libraries set themselves up in the first calls, which must not be recorded.
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):
            for _ in range(3):
                self.function(*own)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.function(*own)
        return graph, own, output
