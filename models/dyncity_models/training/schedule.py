"""Learning rate schedules."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dyncity_models.training.config import OptimiserConfig


def warm_up_constant_decay(optimiser: Optimizer, config: OptimiserConfig) -> LambdaLR:
    """Linear warm-up, constant, then linear decay to ``final_lr_share`` at the last step."""

    def factor(step: int) -> float:
        if step < config.warm_up:
            return (step + 1) / config.warm_up
        decay_start = config.decay_from * config.steps
        if step <= decay_start:
            return 1.0
        progress = min(1.0, (step - decay_start) / max(1.0, config.steps - decay_start))
        return 1.0 - progress * (1.0 - config.final_lr_share)

    return LambdaLR(optimiser, factor)
