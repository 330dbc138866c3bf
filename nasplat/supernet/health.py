"""How a supernet in training is doing: its ends and eight random subnets, after recalibration; and what looks wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nasplat.searchspace import Architecture, Space
from nasplat.supernet.extremes import end
from nasplat.task import Task

RANDOM = 8
"""Random subnets that are looked at; the same ones every epoch."""
FEWEST, MOST, SHARE = 128, 1024, 32
"""Examples of the decide split on which each is judged: an epoch's training examples / SHARE, within
FEWEST and MOST."""
SETTLED, STEPS = 0.5, 500
"""Share of a run, and steps, after which a subnet at chance level is reported."""

Evaluate = Callable[[Architecture, int], float]
"""(subnet, number of examples) -> metric on the decide split."""


@dataclass(frozen=True)
class Health:
    """The task's metric of some subnets on a part of the decide split."""

    smallest: float
    """Metric of the smallest subnet, in the task's unit."""
    largest: float
    """Metric of the largest subnet, in the task's unit."""
    random: tuple[float, ...]
    """Metrics of the random subnets, the same ones every epoch."""
    examples: int
    """Number of examples on which each was judged."""

    @property
    def gap(self) -> float:
        """Difference between the best and the worst of all that were looked at, in the task's unit."""
        found = (self.smallest, self.largest, *self.random)
        return max(found) - min(found)


class Checkup:
    """Evaluates the same subnets after every epoch, and says what looks wrong."""

    def __init__(self, space: Space, task: Task, evaluate: Evaluate) -> None:
        """Draw the subnets to look at.

        Args:
            space: Space of the supernet.
            task: Task of the supernet, which says how many examples there are and what chance level is.
            evaluate: Evaluates a subnet on some examples of the decide split.
        """
        self.evaluate, self.task = evaluate, task
        self.ends = [end(space, largest, 0) for largest in (False, True)]
        self.random = [space.sample(seed=900_000 + i) for i in range(RANDOM)]
        self.has_complained = False
        self.examples = min(len(task.decide), MOST, max(FEWEST, len(task.train) // SHARE))

    def look(self) -> Health:
        """Evaluate the ends and the random subnets.

        Returns:
            Their metrics.
        """
        known = {a: self.evaluate(a, self.examples) for a in dict.fromkeys([*self.ends, *self.random])}
        smallest, largest = (known[a] for a in self.ends)
        return Health(smallest, largest, tuple(known[a] for a in self.random), self.examples)

    def complaints(self, health: Health, progress: float, steps: int) -> list[str]:
        """Say what looks wrong, once in a training.

        Args:
            health: Metrics that `look` found just now.
            progress: Share of the training that is done, from 0 to 1.
            steps: Number of steps that are done.

        Returns:
            Sentences; none where nothing looks wrong, or it is too early to tell.
        """
        chance = self.task.chance
        if chance is None or progress < SETTLED or steps < STEPS or self.has_complained:
            return []
        names = {"the smallest": health.smallest, "the largest": health.largest} | {
            f"random subnet {i}": v for i, v in enumerate(health.random)
        }
        noise = 2 * (chance * (100 - chance) / health.examples) ** 0.5
        low = [name for name, value in names.items() if value <= chance + noise]
        if not low:
            return []
        self.has_complained = True
        return [
            f"at chance level ({chance:.1f} %, ± {noise:.1f} with {health.examples} examples) after {progress:.0%} of "
            f"the training: {', '.join(low)}. Train for longer, try another lr, or take out the choices that cannot "
            "learn."
        ]
