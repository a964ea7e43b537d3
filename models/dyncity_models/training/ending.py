"""What a user is told when a run has ended."""

from pathlib import Path

from dyncity_models.training.loggers import LOG
from dyncity_models.training.loss_log import VALIDATED, read_log

TRY = ("evaluate: dyncity evaluate RECORDING ... --weights {weights}", "serve:    dyncity serve --weights {weights}")
NEXT: dict[str, tuple[str, ...]] = {
    "vae": ("encode:   dyncity encode RECORDING ... --autoencoder {weights} --out out/latents/train",),
    "dit": TRY,
    "distil": TRY,
}
"""What the weights of each stage are for."""


def told_at_the_end(stage: str, weights: Path) -> list[str]:
    """Lines that say what was validated last, where figures and weights lie, and what to do with the weights.

    Args:
        stage: whose run it was.
        weights: that it has exported to its folder.
    """
    log = weights.parent / LOG
    validated = [row for row in read_log(log) if VALIDATED in row]
    lines = []
    if validated:
        figures = "  ".join(f"{n} {value:.4g}" for n, value in validated[-1].items() if n not in ("step", VALIDATED))
        lines = [f"ended at: {figures}", f"figures:  {log}, curves.png beside it"]
    return [*lines, f"weights:  {weights}", *(line.format(weights=weights) for line in NEXT.get(stage, ()))]
