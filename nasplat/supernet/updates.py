"""One step of a supernet's training: lessons, losses, gradients, one reduction over processes, one update.

All randomness of a step derives from (seed, step), so that several processes sample the same subnets, and a resumed run
is the run that was never interrupted. A step whose gradient is not finite leaves all weights as they were.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from nasplat.supernet.config import TrainConfig
from nasplat.supernet.distillation import Imitation, distillation_loss, final, forward_with_features
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.processes import current
from nasplat.supernet.strategy import Lesson, Strategy
from nasplat.supernet.subnet import Subnets
from nasplat.supernet.teacher import Answer, Teacher
from nasplat.task import Task
from nasplat.task.judging import token_loss


class Updates:
    """Updates of one store; holds everything that learns, and its moments."""

    def __init__(
        self,
        subnets: Subnets,
        task: Task,
        seed: int,
        config: TrainConfig,
        teacher: Teacher | None,
        strategy: Strategy,
    ) -> None:
        """Make the optimisers.

        Args:
            subnets: Subnets of the store that is trained.
            task: Task whose loss is lowered.
            seed: Seed of the training, which decides what a step samples.
            config: Settings of the training.
            teacher: Teacher of the lessons that are taught; None where there is none.
            strategy: Strategy that names the lessons of a step.
        """
        self.subnets, self.store, self.task, self.seed = subnets, subnets.store, task, seed
        self.config, self.teacher, self.strategy = config, teacher, strategy
        self.processes = current()
        self.imitation = Imitation(subnets.device, config.weight_decay, seed) if config.distill == "features" else None
        self.optimiser = MaskedAdamW(self.store.weights, self.store.rules, config.weight_decay, config.dense)
        self.steps = config.epochs * task.batches_per_epoch(config.batch_size)
        """Number of steps of the whole training."""

    def step(self, x: Tensor, y: Tensor, step: int, lr: float) -> tuple[list[Tensor], Tensor | None]:
        """Train the subnets of one step.

        Args:
            x: Inputs of shape (B, …): this process's part of the batch.
            y: Targets of the same examples.
            step: Number of the step, from 0; with the seed it decides all that is random.
            lr: Learning rate of this step.

        Returns:
            Losses of the step's subnets, and the norm of the gradient of the store's weights, both on the device.
        """
        seed = self.seed * 1_000_003 + step
        self._reseed((seed * 1_024 + self.processes.rank) % 2**63)
        if self.config.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        losses, first = list[Tensor](), None
        lessons = list(self.strategy.lessons(self.store.space, seed, step / self.steps))
        for i, lesson in enumerate(lessons):
            answer = self._answer(lesson, x, y, seed)
            bound = self.subnets.bind(lesson.architecture)
            bound.module.train()
            with self._precision(x):
                output, features = forward_with_features(
                    bound.module, x, answer is not None and answer.features is not None
                )
            output = output.float() if isinstance(output, Tensor) else output
            loss = self._targeted(output, y, first if lesson.from_teacher else None)
            if answer is not None:
                loss = self._taught(loss, output, features, answer)
            loss.backward()
            bound.collect(self.store, self.optimiser)
            if first is None:
                first = final(output).detach()
            losses.append(loss.detach())
            if x.is_cuda:  # the next subnet is built while the device still computes this one's gradients
                upcoming = lessons[i + 1] if i + 1 < len(lessons) else self._upcoming(step + 1)
                if upcoming is not None:
                    self.subnets.bind(upcoming.architecture)
        return losses, self._update(losses, lr)

    def _reseed(self, seed: int) -> None:
        """Seed dropout and the like; torch.manual_seed would also note a call stack for every kind of device."""
        torch.default_generator.manual_seed(seed)
        if self.subnets.device.type == "cuda":
            torch.cuda.default_generators[self.subnets.device.index or 0].manual_seed(seed)

    def _precision(self, x: Tensor) -> Any:
        return torch.autocast(x.device.type, torch.bfloat16) if self.config.bf16 else nullcontext()

    def _upcoming(self, step: int) -> Lesson | None:
        if step >= self.steps:
            return None
        return next(
            iter(self.strategy.lessons(self.store.space, self.seed * 1_000_003 + step, step / self.steps)), None
        )

    def _answer(self, lesson: Lesson, x: Tensor, y: Tensor, seed: int) -> Answer | None:
        if not lesson.is_taught or self.teacher is None:
            return None
        with self._precision(x):
            return self.teacher.answer(x, y, lesson.architecture, seed, self.optimiser)

    def _targeted(self, output: Tensor | list[Tensor], y: Tensor, first: Tensor | None) -> Tensor:
        """Loss of the targets, or of not answering as the step's first subnet did; of several maps, both."""
        if first is not None and isinstance(output, Tensor):
            return distillation_loss(*self._places(output, first), "soft", self.config.temperature)
        loss = self.task.objective(output, y)
        if first is not None and self.config.distill_weight:
            return self._taught(loss, output, None, Answer(first, None))
        return loss

    def _taught(self, loss: Tensor, output: Tensor | list[Tensor], features: Tensor | None, answer: Answer) -> Tensor:
        """The loss of the targets, and of not being like the teacher. Source: Hinton et al. 2015."""
        share = self.config.distill_weight
        if self.imitation is not None and features is not None and answer.features is not None:
            return loss + share * self.imitation.loss(features, answer.features)
        return (1 - share) * loss + share * distillation_loss(
            *self._places(output, answer.output), self.config.distill, self.config.temperature
        )

    def _places(self, output: Tensor | list[Tensor], teacher: Tensor) -> tuple[Tensor | list[Tensor], Tensor]:
        """Answers of student and teacher, one place a row where they are scores of the next tokens."""
        if self.task.loss is token_loss and isinstance(output, Tensor):
            return output.flatten(0, -2), teacher.flatten(0, -2)
        return output, teacher

    @torch.no_grad()
    def _update(self, losses: list[Tensor], lr: float) -> Tensor | None:
        """Average over processes, in one reduction, and update everything that learns."""
        if self.imitation is not None:
            self.imitation.collect()
        others = [o.optimiser for o in (self.teacher, self.imitation) if o is not None and o.optimiser is not None]
        learners = [self.optimiser, *others]
        parts = [(learner.gradients, key) for learner in learners for key in learner.gradients]
        averaged = self.processes.average([*(gradients[key] for gradients, key in parts), *losses])
        for (gradients, key), mean in zip(parts, averaged, strict=False):
            gradients[key] = mean
        losses[:] = averaged[len(parts) :]
        norm = self.optimiser.step(lr, self.config.clip)
        for learner in others:
            learner.step(lr, self.config.clip)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Gather what a checkpoint must hold: weights, moments, and what belongs to the teacher.

        Returns:
            Tensors by name.
        """
        tensors = self.optimiser.state_with_weights()
        for name, part in (("teacher", self.teacher), ("imitation", self.imitation)):
            if part is not None:
                tensors |= {f"{name}/{k}": t for k, t in part.state().items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over moments, and what belongs to the teacher; the store's weights are `load_weights`'s.

        Args:
            tensors: Tensors by name, as `state` returned them.
        """
        self.optimiser.load(tensors)
        for name, part in (("teacher", self.teacher), ("imitation", self.imitation)):
            if part is not None:
                part.load({k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")})
