"""Online distillation: from whom the sampled subnet of a step learns beside its targets.

In OVO both sides are sampled at every step, so that no student meets a teacher that is far out of its reach. The paper
gives no settings and no code; every part that is open is an option of `TrainConfig`, and `benchmarks/bench_teachers.py`
compares them. Source: Wei et al. 2022 (OVO), arXiv:2212.13766.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture
from nasplat.supernet.distillation import final, forward_with_features
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.task.judging import Loss


@dataclass(frozen=True)
class Answer:
    """What a teacher says of a batch."""

    output: Tensor
    """Final answer, detached: shape (B, classes) for classification, the finest of several maps otherwise."""
    features: Tensor | None
    """Inputs of the teacher's last linear layer, detached, shape (B, d); None where features are not asked for."""


@dataclass(frozen=True)
class Lecture:
    """How a teacher is sampled, whether it learns too, and what it says."""

    joint: bool
    """True trains the teacher along on the targets; False leaves its weights as they are."""
    pick: str = "uniform"
    """Which sampled subnet teaches: uniform, matched (by rank of MACs to the student) or best (of `draws`)."""
    draws: int = 3
    """Subnets that pick best compares by the loss of the batch."""
    with_features: bool = False
    """True if answers hold features."""


class Teacher(ABC):
    """Somebody from whom the subnets of a step learn."""

    is_sampled = False
    """True for a subnet, whose BatchNorm has no statistics but those of the batch."""

    def __init__(self, loss: Loss, lecture: Lecture) -> None:
        """Note how to teach.

        Args:
            loss: Loss of the task, from which a joint teacher learns.
            lecture: How the teacher is sampled and whether it learns too.
        """
        self.loss, self.lecture = loss, lecture

    @property
    def optimiser(self) -> MaskedAdamW | None:
        """Optimiser of the teacher's own weights; None where they are frozen, or belong to the student's store."""
        return None

    @abstractmethod
    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """Say what the targets of a batch are like; a joint teacher learns from the batch too.

        Args:
            x: Inputs of shape (B, …).
            y: Targets of the same examples.
            student: Subnet that learns from the answer.
            seed: Seed of the step.
            trained: Optimiser of the store that the student belongs to.

        Returns:
            The answer, detached.
        """

    def state(self) -> dict[str, Tensor]:
        """Gather what a checkpoint must hold of the teacher, beside the student's store.

        Returns:
            Tensors by name; none for a teacher that does not change.
        """
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` returned.

        Args:
            state: Tensors by name.

        Raises:
            SupernetError: this teacher has no weights of its own, and the checkpoint holds some.
        """
        if state:
            raise SupernetError(
                f"expected no weights for a teacher without any, got {len(state)}.\n  Resume with the same teacher."
            )

    def _ask(self, module: nn.Module, x: Tensor, y: Tensor, collect: Callable[[], None] | None) -> Answer:
        """Run the teaching module; where `collect` is given, its gradients of the task's loss are collected too."""
        module.train(self.lecture.joint or self.is_sampled)
        with torch.set_grad_enabled(collect is not None):
            output, features = forward_with_features(module, x, self.lecture.with_features)
            if collect is not None:
                self.loss(output.float() if isinstance(output, Tensor) else output, y).backward()
                collect()
        return Answer(final(output).detach(), None if features is None else features.detach())


class NetworkTeacher(Teacher):
    """A plain module that teaches, such as a pretrained CNN."""

    def __init__(self, module: nn.Module, loss: Loss, weight_decay: float, lecture: Lecture) -> None:
        """Wrap a module.

        Args:
            module: Network on the training device, whose outputs are those of the task.
            loss: Loss of the task, from which a joint teacher learns.
            weight_decay: Decoupled weight decay, where the module is trained along.
            lecture: Whether the teacher learns too, and whether answers hold features.
        """
        super().__init__(loss, lecture)
        self.module = module
        weights = {name: p.detach() for name, p in module.named_parameters()}
        self._optimiser = MaskedAdamW(weights, {}, weight_decay) if lecture.joint and weights else None

    @property
    def optimiser(self) -> MaskedAdamW | None:
        """Optimiser of the module's weights; None where they are frozen."""
        return self._optimiser

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """Answer with the module, whoever the student is."""
        return self._ask(self.module, x, y, self._collect if self._optimiser is not None else None)

    def _collect(self) -> None:
        assert self._optimiser is not None
        for name, parameter in self.module.named_parameters():
            if parameter.grad is not None:
                self._optimiser.add(name, parameter.grad)
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Gather weights, moments and buffers, where the module is trained along."""
        if self._optimiser is None:
            return {}
        return self._optimiser.state_with_weights() | {f"buffer/{k}": b for k, b in self.module.named_buffers()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over weights, moments and buffers, where the module is trained along."""
        if self._optimiser is not None:
            self._optimiser.load_with_weights(state)
            for name, buffer in self.module.named_buffers():
                buffer.copy_(state[f"buffer/{name}"])
