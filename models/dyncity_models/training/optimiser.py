"""Muon for the matrices of transformer blocks, AdamW for everything else, as one optimiser."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Orthogonalised momentum (Muon, Jordan et al. 2024) on matrices, AdamW on the rest.

    Both share one learning rate: Muon's update is rescaled to AdamW's root mean square
    (Liu et al. 2025, section 2.2).
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[nn.Parameter], lr: float, weight_decay: float
    ) -> None:
        self.muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
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
