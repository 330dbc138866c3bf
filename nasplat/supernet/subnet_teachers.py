"""Teachers that are subnets: of the supernet that is trained, of the same one as it was, or of another."""

from __future__ import annotations

import random
from abc import abstractmethod

import torch
from torch import Tensor

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.supernet.extremes import end
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.processes import current
from nasplat.supernet.ranks import Ranks
from nasplat.supernet.store import Store
from nasplat.supernet.subnet import Bound, Subnets
from nasplat.supernet.teacher import Answer, Lecture, Teacher
from nasplat.task.bundle import feed
from nasplat.task.judging import Loss


class SampledTeacher(Teacher):
    """A teacher that is one of a store's subnets, drawn anew at every step."""

    is_sampled = True

    def __init__(self, subnets: Subnets, loss: Loss, lecture: Lecture) -> None:
        """Note whose subnets teach.

        Args:
            subnets: Subnets of the store that teaches.
            loss: Loss of the task, which picks the best teacher and from which a joint one learns.
            lecture: How the teacher is sampled, and whether it learns too.
        """
        super().__init__(loss, lecture)
        self.subnets, self.space = subnets, subnets.store.space
        self.ranks = Ranks(self.space)

    @abstractmethod
    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """Answer with a subnet that is drawn with the seed of the step."""

    def _choose(self, x: Tensor, y: Tensor, student: Architecture, student_ranks: Ranks, seed: int) -> Architecture:
        rng = random.Random(f"teacher {seed}")
        if self.lecture.pick == "matched":
            return self.ranks.near(student_ranks.of(student), rng)
        draws = self.lecture.draws if self.lecture.pick == "best" else 1
        drawn = [self.space.sample(seed=rng.getrandbits(48)) for _ in range(draws)]
        if len(drawn) == 1:
            return drawn[0]
        losses = []
        with torch.no_grad():
            for architecture in drawn:
                module = self.subnets.bind(architecture).module
                module.train()
                output = feed(module, x)
                losses.append(self.loss(output.float() if isinstance(output, Tensor) else output, y))
        (found,) = current().average([torch.stack(losses)])
        return drawn[int(found.argmin())]  # the one place where a step waits for the device

    def _answer(self, x: Tensor, y: Tensor, bound: Bound, optimiser: MaskedAdamW | None) -> Answer:
        """Answer with a bound subnet, whose gradients go to the optimiser, if there is one."""
        store = self.subnets.store
        return self._ask(bound.module, x, y, None if optimiser is None else lambda: bound.collect(store, optimiser))


class OwnTeacher(SampledTeacher):
    """A subnet of the supernet that is trained: the largest, or a sampled one."""

    def __init__(self, subnets: Subnets, loss: Loss, kind: str, lecture: Lecture) -> None:
        """Note which subnets teach.

        Args:
            subnets: Subnets of the store that is trained.
            loss: Loss of the task, from which a joint teacher learns.
            kind: largest or sampled.
            lecture: How the teacher is sampled, and whether it learns too.
        """
        super().__init__(subnets, loss, lecture)
        self.kind = kind

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """Answer with the largest subnet, or with one that is drawn."""
        if self.kind == "largest":
            chosen = end(self.space, True, seed)
        else:
            chosen = self._choose(x, y, student, self.ranks, seed)
        return self._answer(x, y, self.subnets.bind(chosen), trained if self.lecture.joint else None)


class OtherSupernet(SampledTeacher):
    """A sampled subnet of another supernet, such as an elastic CNN that teaches transformers."""

    def __init__(
        self, subnets: Subnets, loss: Loss, student_space: Space, weight_decay: float, lecture: Lecture
    ) -> None:
        """Note whose subnets teach whom.

        Args:
            subnets: Subnets of the other supernet.
            loss: Loss of its task, from which a joint teacher learns.
            student_space: Space of the students, in which their ranks are taken.
            weight_decay: Decoupled weight decay, where the other supernet is trained along.
            lecture: How the teacher is sampled, and whether it learns too.
        """
        super().__init__(subnets, loss, lecture)
        self.student_ranks = Ranks(student_space)
        store = subnets.store
        self._optimiser = MaskedAdamW(store.weights, store.rules, weight_decay) if lecture.joint else None

    @property
    def optimiser(self) -> MaskedAdamW | None:
        """Optimiser of the other supernet; None where it is frozen."""
        return self._optimiser

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """Answer with a subnet of the other supernet."""
        chosen = self._choose(x, y, student, self.student_ranks, seed)
        return self._answer(x, y, self.subnets.bind(chosen), self._optimiser)

    def state(self) -> dict[str, Tensor]:
        """Gather weights and moments, where the other supernet is trained along."""
        return {} if self._optimiser is None else self._optimiser.state_with_weights()

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over weights and moments, where the other supernet is trained along."""
        if self._optimiser is not None:
            self._optimiser.load_with_weights(state)


class FormerSelf(Teacher):
    """The largest subnet of the supernet as it was when a phase kept the weights; it may not be asked before."""

    is_sampled = True

    def __init__(self, subnets: Subnets, loss: Loss, with_features: bool) -> None:
        """Begin with no weights; `keep` takes them.

        Args:
            subnets: Subnets of the store that is trained.
            loss: Loss of the task.
            with_features: True if answers hold features.
        """
        super().__init__(loss, Lecture(joint=False, with_features=with_features))
        self.store, self.device = subnets.store, subnets.device
        self.subnets: Subnets | None = None

    def keep(self, store: Store) -> None:
        """Teach with the weights that a store has now.

        Args:
            store: Store of the supernet, which is copied.
        """
        self.subnets = Subnets(store.with_weights({k: w.clone() for k, w in store.weights.items()}), self.device)

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """Answer with the largest subnet of the weights that were kept.

        Raises:
            SupernetError: nothing was kept.
        """
        if self.subnets is None:
            raise SupernetError(
                "expected weights that a phase kept, got none.\n  Let Strategy.phase say keeps_weights first."
            )
        return self._ask(self.subnets.bind(end(self.store.space, True, seed)).module, x, y, None)

    def state(self) -> dict[str, Tensor]:
        """Gather the weights that were kept."""
        return {} if self.subnets is None else dict(self.subnets.store.weights)

    def load(self, state: dict[str, Tensor]) -> None:
        """Keep the weights of a checkpoint."""
        if state:
            self.keep(self.store.with_weights({k: v.to(self.device) for k, v in state.items()}))
