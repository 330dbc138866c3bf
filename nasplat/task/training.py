"""Short training of one network from scratch: the honest label of an architecture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import nn

from nasplat.errors import TaskError
from nasplat.task.settings import Check
from nasplat.task.task import Task


@dataclass(frozen=True)
class Budget:
    """How long and how a network is trained."""

    epochs: int = 6
    """Passes over the training split (or as many fresh examples)."""
    batch_size: int = 64
    """Examples per step."""
    lr: float = 3e-3
    """Peak learning rate of AdamW; linear warm-up over the first tenth, then cosine to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""

    def __post_init__(self) -> None:
        """Refuse values of the wrong type or outside their range, by name."""
        check = Check(self, TaskError, "budget").types()
        check.within("epochs", "batch_size", least=1, advice="A budget of nothing trains nothing.")
        check.within("lr", above=0, advice="A budget of nothing trains nothing.").within("weight_decay", least=0)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first tenth of the steps, then cosine to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))


@dataclass(frozen=True)
class Trained:
    """A trained network with what it reached."""

    module: nn.Module
    decide: float
    """Metric on the decide split, in the task's unit."""
    test: float
    """Metric on the test split, in the task's unit."""
    seconds: float
    """Wall time of the training."""


AfterEpoch = Callable[[int, float], None]
"""Called with (epochs done, metric on the decide split); what it raises ends the training."""


def train(
    module: nn.Module, task: Task, budget: Budget | None = None, seed: int = 0, after: AfterEpoch | None = None
) -> Trained:
    """Train a module in place.

    Args:
        module: Any module that takes the task's inputs.
        task: Data, loss and metric.
        budget: How long; the default takes seconds on `digits-clutter`.
        seed: Decides the order of the data. (Initial values are the module's.)
        after: Called after each epoch, which is then evaluated: makes a learning curve.

    Returns:
        The module in eval mode with its metrics.

    Raises:
        TaskError: the loss became infinite or NaN.
    """
    budget = budget or Budget()
    started = time.perf_counter()
    steps = budget.epochs * task.batches_per_epoch(budget.batch_size)
    optimiser = torch.optim.AdamW(module.parameters(), lr=budget.lr, weight_decay=budget.weight_decay)
    module.train()
    step, decide = 0, 0.0
    for epoch in range(budget.epochs):
        for x, y in task.epoch(seed * 100_003 + epoch + 1, budget.batch_size):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, budget.lr)
            optimiser.zero_grad(set_to_none=True)
            loss = task.loss(module(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            step += 1
        if not torch.isfinite(loss):
            raise TaskError(
                f"the loss became {loss.item()} in epoch {epoch + 1}.\n  Lower the learning rate ({budget.lr})."
            )
        if after is not None:
            decide = task.evaluate(module, "decide")
            after(epoch + 1, decide)
    module.eval()
    seconds = time.perf_counter() - started
    if after is None:
        decide = task.evaluate(module, "decide")
    return Trained(module, decide, task.evaluate(module, "test"), seconds)


def train_architecture(
    architecture, task: Task, budget: Budget | None = None, seed: int = 0, after: AfterEpoch | None = None
) -> Trained:
    """Build an architecture with initial values of the seed and train it.

    Args:
        architecture: Anything with `build()`.
        task: Data, loss and metric.
        budget: How long.
        seed: Decides initial values and the order of the data.
        after: Called after each epoch, which is then evaluated: makes a learning curve.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = architecture.build()
    return train(module.to(task.train.x.device), task, budget, seed, after)
