"""Servers that are away or busy are asked again, and the console says so."""

from dataclasses import dataclass

from rich.console import Console

from dyncity_sim.client import DyncityClient
from dyncity_sim.cosim.stream import Patience
from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import DyncityError


def told_patience(console: Console) -> Patience:
    """Patience that prints the first failure of each call."""

    def tell(error: DyncityError) -> None:
        console.print(f"{error} (asked again for up to {Patience.limit_s:.0f} s)", soft_wrap=True)

    return Patience(tell=tell)


@dataclass(frozen=True)
class PatientClient:
    """A client whose calls are made again with patience; fulfils ``dyncity_sim.replay.drive.Generator``."""

    client: DyncityClient
    patience: Patience

    def model_info(self) -> ModelInfo:
        """What the model can do."""
        return self.patience.call(self.client.model_info)

    def generate(self, conditions: Conditions, options: SamplingOptions | None = None) -> GeneratedChunk:
        """Generate one chunk."""
        return self.patience.call(lambda: self.client.generate(conditions, options))

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Turn observed occupancy into what the next chunk continues from."""
        return self.patience.call(lambda: self.client.encode(occupancy))
