"""What one step of distillation does."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dyncity_models.conditioning import CanvasConditions
from dyncity_models.data.latents import LatentSample
from dyncity_models.diffusion.flow import interpolate, noise_like
from dyncity_models.diffusion.windows import StraightPath, Windows
from dyncity_models.hexplane import Planes
from dyncity_models.processes import WHOLE, Share, own_share, randn_rows
from dyncity_models.training.config import DistilTrainingConfig
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.planes_task import PlanesTask
from dyncity_models.training.teacher import Teacher, sampled


class DistilTask(PlanesTask):
    """Piecewise rectified flow (Yan et al. 2024): the student learns, in each window of time, the straight way to where
    the teacher's path ends, so that one step of Euler's method takes it there.

    Args:
        config: the run's configuration.
        teacher: whose transformer the student begins as.
    """

    config: DistilTrainingConfig

    def __init__(self, config: DistilTrainingConfig, teacher: Teacher) -> None:
        model = teacher.model
        super().__init__(config, model.config.transformer, model.config.autoencoder)
        assert model.transformer is not None
        self.transformer.load_state_dict(model.transformer.state_dict())
        self.normalisation.load_state_dict(model.normalisation.state_dict())
        self.teacher = teacher
        self.windows = Windows(config.sampling.steps, config.sampling.shift, config.evaluations)
        self.taught: dict[int, tuple[Float[Tensor, "B N"], float]] = {}
        self.squares = [0.0, 0.0, 0.0]

    def training_step(self, batch: LatentSample, index: int) -> Tensor:
        """Loss of a batch of encoded chunks, each in a window of its own."""
        data, conditions = self.unpack(batch)
        share, device, count = own_share(), self.device, len(data)
        generator = batch_generator(self.config.run, self.global_step, index, device)
        conditions = self.withheld(conditions, generator, share)
        windows = self.windows.count
        numbers = share.drawn(lambda rows: torch.randint(windows, (rows,), generator=generator, device=device), count)
        drawn = share.drawn(lambda rows: torch.rand(rows, 2, generator=generator, device=device), count)
        passed = drawn[:, 0] * (drawn[:, 1] >= self.config.loss.at_start)
        noise = Planes(*(randn_rows(plane, generator, share) for plane in data))
        return self.weighed(self.losses(data, noise, numbers, passed, conditions, share))

    def losses(
        self,
        data: Planes,
        noise: Planes,
        numbers: Int64[Tensor, " B"],
        passed: Float[Tensor, " B"],
        conditions: CanvasConditions,
        share: Share = WHOLE,
    ) -> dict[str, Tensor]:
        """Mean squared velocity error of each plane, as ``errors`` weighs it.

        Args:
            data: normalised planes of chunks.
            noise: unit normal planes.
            numbers: of windows, the first of which begins with noise.
            passed: share of its window that has passed where each chunk is learned.
            conditions: of the chunks.
            share: that this batch is.
        """
        path = self.path(data, noise, numbers, conditions)
        latents, times = path.at(passed)
        predicted = self.transformer(data.shaped(latents), times, conditions)
        return self.errors(predicted, data.shaped(path.velocity), conditions, share)

    def path(
        self, data: Planes, noise: Planes, numbers: Int64[Tensor, " B"], conditions: CanvasConditions
    ) -> StraightPath:
        """From chunks as noisy as their windows begin with, to where the teacher leads them by the end of these."""
        times_BM = self.windows.times(numbers)
        begun = interpolate(data, noise, times_BM[:, 0]).flat()
        return StraightPath.between_ends(self.teacher.velocity(conditions, data), begun, times_BM)

    def validation_step(self, batch: LatentSample, index: int) -> None:
        """Distances of samples from the teacher's with many steps, of the same noise and conditions."""
        data, conditions = self.unpack(batch)
        conditions = self.withheld(conditions, torch.Generator(self.device).manual_seed(index))
        noise = noise_like(data, torch.Generator().manual_seed(index))
        if index not in self.taught:
            own = self.teacher.model.config.sampling
            limit = self.teacher.sample(conditions, noise, "unipc", self.config.limit_steps, own.shift)
            brief = self.teacher.sample(conditions, noise, own.sampler, self.windows.count, own.shift)
            self.taught[index] = limit, _squared(brief - limit)
        limit, of_teacher = self.taught[index]
        found = _squared(self.sample(conditions, noise) - limit), of_teacher, _squared(limit)
        self.squares = [before + more for before, more in zip(self.squares, found, strict=True)]

    def sample(self, conditions: CanvasConditions, noise: Planes) -> Float[Tensor, "B N"]:
        """What the student makes of noise in a step for each window, flat."""

        def predict(noisy_BN: Tensor, time_B: Tensor) -> Tensor:
            return self.transformer(noise.shaped(noisy_BN), time_B, conditions).flat()

        return sampled(predict, noise, "euler", self.windows.count, self.windows.shift)

    def on_validation_epoch_end(self) -> None:
        """Log the distance of the student, and of the teacher with as few steps, as shares of the samples' norm."""
        student, teacher, limit = self.squares
        for name, squared in (("val_distance", student), ("val_distance_teacher", teacher)):
            self.log(name, math.sqrt(squared / limit), prog_bar=True, sync_dist=True)
        self.squares = [0.0, 0.0, 0.0]


def _squared(values: Tensor) -> float:
    return float(values.double().square().sum())
