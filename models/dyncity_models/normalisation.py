"""Per-channel statistics of latents, which a transformer's planes are normalised with."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dyncity_models.hexplane import Planes


class Normalisation(nn.Module):
    """Subtracts the mean and divides by the standard deviation of each channel of each plane."""

    def __init__(self, channels: int, statistics: dict[str, list[float]] | None = None) -> None:
        super().__init__()
        for name in ("xy", "tx", "ty"):
            for moment, default in (("mean", 0.0), ("std", 1.0)):
                values = statistics[f"{name}_{moment}"] if statistics else [default] * channels
                self.register_buffer(f"{name}_{moment}", torch.tensor(values)[:, None, None])

    def normalise(self, planes: Planes) -> Planes:
        """Planes with zero mean and unit deviation per channel."""
        return Planes(*(self.normalise_plane(n, p) for n, p in zip(("xy", "tx", "ty"), planes, strict=True)))

    def normalise_plane(self, name: str, plane: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """One plane normalised."""
        return (plane - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_std")

    def denormalise(self, planes: Planes) -> Planes:
        """The inverse of ``normalise``."""
        return Planes(
            *(
                p * self.get_buffer(f"{n}_std") + self.get_buffer(f"{n}_mean")
                for n, p in zip(("xy", "tx", "ty"), planes, strict=True)
            )
        )
