"""Muon for the matrices of transformer blocks, AdamW for everything else, as one optimiser."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class WholeMuon(torch.optim.Muon):
    """Muon on matrices that may be shared out over processes.

    Orthogonalisation needs a whole matrix, so each is gathered with its gradient and momentum, one after the other,
    stepped in every process alike, and shared out again.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        if not any(isinstance(p, DTensor) for group in self.param_groups for p in group["params"]):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None if closure is None else closure()
        for group in self.param_groups:
            options = {name: value for name, value in group.items() if name in self.defaults}
            for shared in group["params"]:
                self._step_whole(shared, options)
        return loss

    def _step_whole(self, shared: DTensor, options: dict[str, Any]) -> None:
        assert isinstance(shared.grad, DTensor)
        whole = nn.Parameter(shared.full_tensor())
        whole.grad = shared.grad.full_tensor()
        muon = torch.optim.Muon([whole], **options)
        if kept := self.state[shared]:
            muon.state[whole]["momentum_buffer"] = kept["momentum_buffer"].full_tensor()
        muon.step()
        shared.copy_(shared_like(shared, whole))
        kept["momentum_buffer"] = shared_like(shared, muon.state[whole]["momentum_buffer"])


def shared_like(shared: Tensor, whole: Tensor) -> DTensor:
    """A tensor that every process has whole, shared out as another one of its shape is."""
    assert isinstance(shared, DTensor)
    return distribute_tensor(whole, shared.device_mesh, shared.placements, src_data_rank=None)


class MuonAdamW(torch.optim.Optimizer):
    """Orthogonalised momentum (Muon, Jordan et al. 2024) on matrices, AdamW on the rest.

    Both share one learning rate: Muon's update is rescaled to AdamW's root mean square
    (Liu et al. 2025, section 2.2).
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[nn.Parameter], lr: float, weight_decay: float
    ) -> None:
        self.muon = WholeMuon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None if closure is None else closure()
        self.muon.step()
        self.adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """States of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]


def split_parameters(blocks: nn.Module, model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(weight matrices of ``blocks``, all other parameters of ``model``)."""
    matrices = [p for name, p in blocks.named_parameters() if p.ndim == 2 and name.endswith("weight")]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in model.parameters() if id(p) not in chosen]
