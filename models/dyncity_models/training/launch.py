"""How many processes a run has, and what each of them computes on."""

import os
from dataclasses import dataclass

import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_utilities.core.rank_zero import rank_zero_only

from dyncity_models.training.config import OptimiserConfig, RunConfig
from dyncity_sim.errors import ConfigError

STRATEGIES = ("auto", "ddp", "fsdp")


@dataclass(frozen=True)
class Launch:
    """Processes of a run.

    Attributes:
        devices: processes on this machine.
        nodes: machines.
        strategy: how they work together, one of ``STRATEGIES``.
    """

    devices: int
    nodes: int
    strategy: str

    @property
    def processes(self) -> int:
        """Of all machines."""
        return self.devices * self.nodes

    @property
    def sharded(self) -> bool:
        """Whether each process holds a share of the weights only."""
        return self.strategy == "fsdp"


def launch_of(run: RunConfig, optimiser: OptimiserConfig) -> Launch:
    """The processes that torchrun has started, or else those that lightning is to start.

    Raises:
        ConfigError: a strategy or number that cannot be, or a batch that cannot be shared out evenly.
    """
    if run.strategy not in STRATEGIES:
        raise ConfigError("run.strategy", run.strategy, f"one of {', '.join(STRATEGIES)}")
    if run.devices < 1:
        raise ConfigError("run.devices", run.devices, "at least 1")
    devices, nodes = run.devices, 1
    if TorchElasticEnvironment.detect():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
        if run.devices not in (1, devices):
            raise ConfigError("run.devices", run.devices, f"{devices}, as torchrun was told, or nothing")
    strategy = "ddp" if run.strategy == "auto" and devices * nodes > 1 else run.strategy
    launch = Launch(devices, nodes, strategy)
    if optimiser.batch % launch.processes:
        raise ConfigError("optimiser.batch", optimiser.batch, f"a multiple of the {launch.processes} processes")
    return launch


def training_device(run: RunConfig) -> torch.device:
    """Where this process computes, and keeps its data.

    Raises:
        ConfigError: on a GPU where there is none.
    """
    if run.accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise ConfigError("run.accelerator", run.accelerator, "auto or cpu, because PyTorch finds no CUDA device")
    if run.accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local = os.environ.get("LOCAL_RANK")
    return torch.device("cuda") if local is None else torch.device("cuda", int(local))


def is_first_process() -> bool:
    """Whether this is the process that writes files."""
    return getattr(rank_zero_only, "rank", 0) == 0
