"""Losses of the autoencoder."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from dyncity_models.hexplane import compose, invert, sampling_grid
from dyncity_models.processes import WHOLE, Share

KEPT_BY_CLASS = (0.1, 0.25, 1.0, 1.0, 1.0, 1.0, 0.25, 0.25, 0.25, 1.0, 1.0)
"""Share of the cells of each class that enter the cross entropy; the rest is made up for by weight."""


def sampled_cross_entropy(
    logits_NK: Float[Tensor, "N K"],
    labels_N: UInt8[Tensor, " N"],
    class_weights: Float[Tensor, " K"],
    cell_weights: Float[Tensor, " N"],
    generator: torch.Generator | None = None,
    share: Share = WHOLE,
) -> Float[Tensor, ""]:
    """Cross entropy on a stratified sample of cells, an estimate of the weighted mean over all.

    Most cells are free space or large surfaces and tell the same; computing the loss on a sixth of
    them halves the cost of a training step. The mean over all parts of a batch is that of the whole.
    """
    kept = labels_N.new_tensor(KEPT_BY_CLASS, dtype=torch.float32)
    drawn = share.drawn(lambda count: torch.rand(count, generator=generator, device=labels_N.device), len(labels_N))
    chosen = (drawn < kept[labels_N.int()]).nonzero()[:, 0]
    labels = labels_N[chosen].long()
    weights = class_weights[labels] * cell_weights[chosen] / kept[labels]
    # Gradients of index_select are added in place; those of logits_NK[chosen] would be sorted first.
    per_cell = F.cross_entropy(logits_NK.index_select(0, chosen).float(), labels, reduction="none")
    return (per_cell * weights).sum() / share.mean(weights.sum()).clamp(min=1.0 / share.count)


def lovasz_softmax(
    probabilities_NK: Float[Tensor, "N K"], labels_N: Int64[Tensor, " N"], share: Share = WHOLE
) -> Float[Tensor, ""]:
    """Lovasz-Softmax over the classes present (Berman et al. 2018, equations 8 and 9), of all parts of a batch."""
    return _LovaszSoftmax.apply(probabilities_NK, labels_N, share)  # type: ignore[no-untyped-call]


class _LovaszSoftmax(torch.autograd.Function):
    """The loss is linear in the errors once they are sorted, so that its gradient is at hand in the forward pass.

    Of a class, cells of others whose error is less than that of all its own cells change nothing: once all its own
    cells are mispredicted, the Jaccard loss is 1, whatever else is. They are not sorted.

    Errors are sorted over all parts of a batch, one class after the other; each process keeps the gradient of its own.
    """

    @staticmethod
    def forward(ctx: Any, probabilities_NK: Tensor, labels_N: Tensor, share: Share) -> Tensor:
        probabilities_KN = probabilities_NK.T.contiguous()
        gradient_KN = torch.zeros_like(probabilities_KN)
        parts = share.gathered(labels_N)
        labels_M, before = torch.cat(tuple(parts)), sum(len(part) for part in parts[: share.number])
        present = labels_M.unique().tolist()
        loss = probabilities_NK.new_zeros(())
        for label in present:
            foreground = labels_M == label
            signed = torch.cat(tuple(share.gathered(probabilities_KN[label]))) - foreground.to(probabilities_NK.dtype)
            errors = signed.abs()
            cells = (errors >= errors[foreground].min()).nonzero()[:, 0]
            sorted_errors, order = errors[cells].sort(descending=True)
            cells = cells[order]
            slopes = _lovasz_gradient(foreground[cells].to(probabilities_NK.dtype))
            loss += torch.dot(sorted_errors, slopes)
            gradient_M = torch.zeros_like(signed)
            gradient_M[cells] = signed[cells].sign() * slopes
            gradient_KN[label] = gradient_M[before : before + len(labels_N)]
        # Each process has the loss of all parts, of which averaging over processes would leave a share.
        ctx.save_for_backward(gradient_KN.mul_(share.count / max(len(present), 1)))
        return loss / max(len(present), 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient_KN,) = ctx.saved_tensors
        return gradient_KN.T * gradients[0], None, None


def _lovasz_gradient(sorted_foreground: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Gradient of the Lovasz extension of the Jaccard loss (Berman et al. 2018, algorithm 1)."""
    total = sorted_foreground.sum()
    intersection = total - sorted_foreground.cumsum(0)
    union = total + (1.0 - sorted_foreground).cumsum(0)
    jaccard = 1.0 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def lovasz_on_observed(
    logits_NK: Float[Tensor, "N K"],
    labels_N: UInt8[Tensor, " N"],
    observed_N: Bool[Tensor, " N"],
    samples: int,
    generator: torch.Generator | None = None,
    share: Share = WHOLE,
) -> Float[Tensor, ""]:
    """Lovasz-Softmax on cells drawn from the observed ones, since sorting every cell costs too much.

    They are drawn from all parts of a batch.
    """
    cells = observed_N.nonzero()[:, 0]
    counts = [int(count) for count in share.gathered(torch.tensor([len(cells)], device=cells.device))]
    total, before = sum(counts), sum(counts[: share.number])
    if total == 0:
        return logits_NK.sum() * 0.0
    drawn = torch.randint(total, (min(samples, total),), generator=generator, device=cells.device) - before
    chosen = cells[drawn[(drawn >= 0) & (drawn < len(cells))]]
    logits = logits_NK.index_select(0, chosen).float()
    return lovasz_softmax(logits.softmax(dim=-1), labels_N[chosen].long(), share)


def moved_cells(
    labels_BFXYZ: UInt8[Tensor, "B F X Y Z"],
    canvas_from_ego: Float[Tensor, "B F 3"],
    moving_labels: tuple[int, ...],
    half_extent_m: float,
) -> Bool[Tensor, "B F X Y"]:
    """Columns of movable classes that hold none after warping to the frame most distant in the list."""
    batch, frames, cells = labels_BFXYZ.shape[:3]
    moving = torch.tensor(moving_labels, dtype=torch.uint8, device=labels_BFXYZ.device)
    movable = torch.isin(labels_BFXYZ, moving).any(dim=-1)
    other = torch.arange(frames).roll(frames // 2)
    source_from_target = compose(invert(canvas_from_ego[:, other]), canvas_from_ego)
    grid = sampling_grid(source_from_target.flatten(0, 1), cells, half_extent_m, half_extent_m)
    source = movable[:, other].flatten(0, 1).float()[:, None]
    there = F.grid_sample(source, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    inside = grid.abs().amax(dim=-1) <= 1.0
    moved = movable & ((there[:, 0] < 0.5) & inside).unflatten(0, (batch, frames))
    return moved
