"""Weights shared out over the processes of a run: each keeps some rows of a tensor, and gathers the rest to use it."""

from copy import deepcopy
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from dyncity_models.training.optimiser import MuonAdamW, shared_like

T = TypeVar("T")


@runtime_checkable
class Shardable(Protocol):
    """A task whose weights can be shared out."""

    @property
    def shards(self) -> list[nn.Module]:
        """Modules that are gathered as a whole each, inner ones before outer ones; together they hold all weights."""
        ...


def whole(values: T) -> T:
    """Nested values with every shared tensor gathered; all processes must call this."""
    return cast(T, apply_to_collection(values, DTensor, DTensor.full_tensor))


def own(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process keeps, in place; the tensor itself unless it is shared."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class ShardedStrategy(DDPStrategy):
    """Fully sharded data parallelism (Zhao et al. 2023) as PyTorch's ``fully_shard`` has it, for ``Shardable`` tasks.

    Checkpoints hold whole tensors, as those of any other run do: weights are loaded before they are shared out, and
    gathered when they are saved.
    """

    def configure_ddp(self) -> None:
        """Share out the weights, in place of the copies that would be kept alike."""
        assert self.lightning_module is not None
        # For the end, because modules that were shared out cannot be made whole again in place.
        self.whole_children = {name: deepcopy(child).cpu() for name, child in self.lightning_module.named_children()}
        self.shard(self.lightning_module)

    def shard(self, task: nn.Module) -> None:
        """Share out the weights of a task in place."""
        assert isinstance(task, Shardable)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        task.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for module in task.shards:
            # The outermost module would keep whole weights after validation, which are then swapped with the average.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        assert all(isinstance(parameter, DTensor) for parameter in task.parameters())

    def gather(self) -> None:
        """Give the task and its optimisers whole tensors again, when training has ended."""
        task = self.lightning_module
        assert task is not None
        weights = whole(task.state_dict())
        for name, child in self.whole_children.items():
            child.load_state_dict(
                {key.removeprefix(f"{name}."): weights[key] for key in weights if key.startswith(f"{name}.")}
            )
            setattr(task, name, child)
        for state in _states(self.optimizers):
            state.update(whole(state))

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole weights."""
        return whole(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """The whole state of an optimiser."""
        return whole(super().optimizer_state(optimizer))

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """Restore optimisers, and share out what they keep of each parameter as the parameter is."""
        super().load_optimizer_state_dict(checkpoint)
        for optimizer in _parts(self.optimizers):
            for parameter, state in optimizer.state.items():
                for name, value in state.items():
                    if value.shape == parameter.shape:
                        state[name] = shared_like(parameter, value)


def _parts(optimizers: list[Optimizer]) -> list[Optimizer]:
    return [p for o in optimizers for p in ([o.muon, o.adamw] if isinstance(o, MuonAdamW) else [o])]


def _states(optimizers: list[Optimizer]) -> list[dict[str, Any]]:
    return [state for optimizer in _parts(optimizers) for state in optimizer.state.values()]
