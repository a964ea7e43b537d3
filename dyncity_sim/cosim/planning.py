"""Plans of a drive, made and asked for ahead of the chunk that is driven."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dyncity_sim.cosim.progress import Progress
from dyncity_sim.cosim.simulator import Simulator
from dyncity_sim.cosim.stream import ResumedStream
from dyncity_sim.domain.conditions import MAX_SPEED_MPS, Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.errors import InvalidInputError, RoadEndsError


class Planner:
    """Asks the simulator for plan after plan, and holds it to where each has to begin."""

    def __init__(self, simulator: Simulator, model: ModelInfo) -> None:
        self._simulator, self._frames, self._step_us = simulator, model.frames_per_chunk, round(1e6 / model.rate_hz)
        self._last: EgoPlan | None = None

    def next(self) -> EgoPlan:
        """The plan that goes on from the last.

        Raises:
            InvalidInputError: it is of another length or rate than the model's chunks, or begins at another time or
                place than the last one ends.
            RoadEndsError: the road ends before it.
        """
        plan = self._simulator.plan(self._frames)
        if len(plan) != self._frames or not (np.diff(plan.times_us) == self._step_us).all():
            raise InvalidInputError(
                "simulator.plan",
                f"{len(plan)} poses, steps of {sorted(set(np.diff(plan.times_us).tolist()))} us",
                f"{self._frames} poses every {self._step_us} us, as the model generates",
            )
        if self._last is not None:
            _check_onward(self._last, plan, self._step_us)
        self._last = plan
        return plan


class PlansAhead:
    """The plans of a drive in turn, each asked for with those that are ahead of it; none beyond the end of the road.

    Args:
        planner: makes the plans.
        stream: is asked for a chunk along each.
        model: what generates them.
        options: of the first chunk, its seed among them; each chunk has a seed one more than that of the one before.
        chunks: how many plans, if the road is long enough.
        lookahead: plans made and asked for beyond the one that is driven next.
        progress: told when the drive gets shorter.

    Attributes:
        ended: why there are fewer plans than ``chunks``; empty when there are not.
    """

    def __init__(
        self,
        planner: Planner,
        stream: ResumedStream,
        model: ModelInfo,
        options: SamplingOptions,
        chunks: int,
        lookahead: int,
        progress: Progress,
    ) -> None:
        self._planner, self._stream, self._model, self._options = planner, stream, model, options
        self._chunks, self._lookahead, self._progress = chunks, lookahead, progress
        self._waiting: deque[tuple[EgoPlan, Conditions]] = deque()
        self._asked = 0
        self.ended = ""

    def __iter__(self) -> Iterator[tuple[EgoPlan, Conditions]]:
        """(Plan, conditions that were asked with), until no more is left.

        Raises:
            InvalidInputError: a plan does not go on from the one before.
            RoadEndsError: the road ends before the first.
        """
        for number in range(self._chunks):
            while self._asked < min(number + self._lookahead + 1, self._chunks):
                self._ask_next()
            if number == self._chunks:
                return
            yield self._waiting.popleft()

    def _ask_next(self) -> None:
        try:
            plan = self._planner.next()
        except RoadEndsError as error:
            if not self._asked:
                raise
            self._progress.drop(self._chunks - self._asked)
            self._chunks, self.ended = self._asked, str(error)
            return
        conditions = _conditions(plan, self._model)
        assert self._options.seed is not None
        self._stream.ask(conditions, replace(self._options, seed=self._options.seed + self._asked))
        self._waiting.append((plan, conditions))
        self._asked += 1


def _check_onward(last: EgoPlan, plan: EgoPlan, step_us: int) -> None:
    """Raise InvalidInputError where a plan does not begin a step after the one before it, within a step's reach."""
    onward_us = int(last.times_us[-1]) + step_us
    if plan.times_us[0] != onward_us:
        raise InvalidInputError(
            "simulator.plan",
            f"a plan from {plan.times_us[0]} us on",
            f"one from {onward_us} us on, a step after the end of the last plan given",
            "A simulator that cannot plan beyond what was driven is driven with a lookahead of 0.",
        )
    jump_m = float(np.linalg.norm(plan.poses_world_from_ego[0, :3, 3] - last.poses_world_from_ego[-1, :3, 3]))
    most_m = MAX_SPEED_MPS * step_us * 1e-6
    if jump_m > most_m:
        raise InvalidInputError(
            "simulator.plan",
            f"a plan that begins {jump_m:.1f} m from the end of the last plan given",
            f"at most {most_m:.1f} m, a step at {MAX_SPEED_MPS:g} m/s",
        )


def _conditions(plan: EgoPlan, model: ModelInfo) -> Conditions:
    """All that the plan says and the weights were trained with; the stream knows what a chunk continues from."""
    return Conditions(plan=plan, command=plan.command if "command" in model.conditions else None)
