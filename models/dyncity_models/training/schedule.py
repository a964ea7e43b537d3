"""Learning rate schedules."""

from collections.abc import Callable

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dyncity_models.processes import common_clock
from dyncity_models.training.config import OptimiserConfig, RunConfig


def warm_up_constant_decay(
    optimiser: Optimizer, config: OptimiserConfig, most_minutes: float = 0.0, now: Callable[[], float] = common_clock
) -> LambdaLR:
    """Linear warm-up, constant, then linear decay to ``final_lr_share`` at the last step.

    With ``most_minutes`` the decay ends with that time, counted from now, when it is up before the last step.
    """
    started = now()

    def factor(step: int) -> float:
        if step < config.warm_up:
            return (step + 1) / config.warm_up
        done = step / config.steps
        if most_minutes:
            done = max(done, (now() - started) / (60 * most_minutes))
        if done <= config.decay_from:
            return 1.0
        progress = min(1.0, (done - config.decay_from) / max(1e-9, 1.0 - config.decay_from))
        return 1.0 - progress * (1.0 - config.final_lr_share)

    return LambdaLR(optimiser, factor)


def scheduled(optimiser: Optimizer, options: OptimiserConfig, run: RunConfig) -> OptimizerLRScheduler:
    """An optimiser whose learning rate is set at every step."""
    schedule = warm_up_constant_decay(optimiser, options, run.most_minutes)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
