"""One head for all bodies of a supernet, so that labels of a new task are cheap.

A long training of every network is replaced by one of the head, and a short one of body and head together, after which
the metric is the network's pseudo label. The head is trained on what a random body would answer: of a few bodies' maps,
mean plus noise times spread (latent sampling); or on one body at a time, which changes now and then (body swapping, the
baseline). Source: Mills et al., AAAI 2023, arXiv:2211.17228, pseudo-labelling; bodies are sorted into bins by MACs, as
spaces differ in what depth is.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from nasplat.editing.body import Body, common_sizes
from nasplat.editing.network import Network
from nasplat.errors import SupernetError
from nasplat.learners.schedule import one_cycle
from nasplat.searchspace import Architecture
from nasplat.supernet import Supernet
from nasplat.task import Task
from nasplat.task.judging import accuracy
from nasplat.task.stereo_loss import epe
from nasplat.task.training import Budget, train
from nasplat.workflows.task_heads import Head, Joined, head_maps, padded

WAYS = ("latent", "swap")
BINS = 5
"""Bins of MACs; the bodies behind a latent sample are one of each."""
TUNED = {"classification": 1e-3, "dense": 1e-2, "reconstruction": 1e-2, "disparity": 1e-3}
"""Peak learning rate of the pass that makes a pseudo label, by kind of head. Heads of maps begin far from where they
end; a head of classes loses by it what it learnt."""
STAY = 10
"""Batches after which body swapping changes the body."""
Report = Callable[[int, int, str], None]
"""Called with (epochs done, all epochs, what to show beside them)."""


@dataclass(frozen=True)
class PseudoLabel:
    """A member's metric on a task it was not trained for, in the task's unit."""

    decide: float
    """Metric on the decide split after the short training."""
    test: float
    """Metric on the test split after the short training."""
    untuned: float
    """Metric on the decide split before the short training."""
    seconds: float
    """Wall time of the label, without the training of the head."""


class SharedHead:
    """A task's head for every body of a supernet.

    Example:
        >>> import nasplat
        >>> from torch import nn
        >>> @nasplat.space(example_input=(1, 1, 16, 16))
        ... def tiny(pick):
        ...     body = nn.Sequential(nn.Conv2d(1, pick("width", (2, 3, 4, 5, 6)), 3, padding=1), nn.ReLU())
        ...     return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(body[0].out_channels, 10))
        >>> supernet = nasplat.Supernet(tiny, nasplat.load_task("digits-clutter?train=64&decide=32&test=32"))
        >>> edges = nasplat.load_task("edges:digits-clutter?train=64&decide=32&test=32")
        >>> shared = SharedHead(supernet, edges, width=4)
        >>> seconds = shared.train(epochs=1)
        >>> label = shared.label(tiny.architecture({"width": 4}))
        >>> 0 <= label.decide <= 100
        True
    """

    def __init__(
        self, supernet: Supernet, task: Task, kind: str | None = None, pool: int = 40, width: int = 64, seed: int = 0
    ) -> None:
        """Draw bodies and build a head for the maps that they have in common.

        Args:
            supernet: Trained supernet, whose bodies are frozen while the head is trained.
            task: New task, of images, or pairs of images, of the same shape.
            kind: What the head answers; None for classification with accuracies, disparity with stereo, reconstruction
                where the image is the target, and dense otherwise.
            pool: Number of bodies drawn; more of them, in five bins of MACs, stand for the space better.
            width: Channels of the head's states.
            seed: Seed of bodies, initial values, order and noise.

        Raises:
            SupernetError: the task has images of another shape.
            EditError: the bodies have no maps in common.
        """
        kind = kind or _kind(task)
        channels, *size = supernet.task.input_shape
        wanted = (channels * (2 if kind == "disparity" else 1), *size)
        if task.input_shape != wanted:
            raise SupernetError(f"expected images {wanted}, got {task.input_shape} of {task.name!r}.\n  Resize them.")
        self.supernet, self.task, self.seed = supernet, task.to(supernet.device), seed
        draw = random.Random(seed)
        members = list(dict.fromkeys(supernet.space.sample(seed=draw.randrange(2**31)) for _ in range(pool)))
        ends = [self.body(a) for a in (supernet.space.extreme(False), supernet.space.extreme(True))]
        members.sort(key=lambda a: a.graph().macs)
        self.bins = [[self.body(members[i]) for i in part] for part in np.array_split(np.arange(len(members)), BINS)]
        """Bodies in bins, from few MACs to many."""
        self.head = self._fresh_head(kind, [*ends, *(b for part in self.bins for b in part)], width)
        self._fresh = deepcopy(self.head.state_dict())

    def _fresh_head(self, kind: str, bodies: list[Body], width: int) -> Head:
        sizes = common_sizes(bodies)
        channels = [max(c for b in bodies for c, h, w in b.shapes if (h, w) == size) for size in sizes]
        output = tuple(self.task.train.y.shape[1:])
        if kind in {"classification", "disparity"}:
            output = (self.task.classes, *output)  # the largest number and one more: of classes, or of whole pixels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Head(kind, channels, sizes, output, width).to(self.supernet.device)

    def body(self, architecture: Architecture) -> Body:
        """Take the head off a member.

        Args:
            architecture: Member of the supernet's space.

        Returns:
            The body with inherited weights and calibrated statistics, in eval mode.
        """
        module, shape = self.supernet.subnet(architecture), architecture.example_input
        return Body(Network.of(module, shape)).to(self.supernet.device).eval()  # type: ignore[arg-type]

    def train(
        self,
        way: str = "latent",
        epochs: int = 10,
        batch_size: int = 64,
        lr: float = 3e-3,
        report: Report | None = None,
    ) -> float:
        """Train the head anew.

        Args:
            way: What it is trained on: latent (samples around the mean of five bodies' maps) or swap (one body's maps).
            epochs: Passes over the task's training split.
            batch_size: Images of a step.
            lr: Peak learning rate of AdamW.
            report: Called after every epoch.

        Returns:
            Wall time in seconds.

        Raises:
            SupernetError: the way is unknown.
        """
        if way not in WAYS:
            raise SupernetError(f"expected a way among {', '.join(WAYS)}, got {way!r}.\n  Name one of them.")
        started = time.perf_counter()
        self.head.load_state_dict(self._fresh)
        self.head.train()
        draw = random.Random(self.seed)
        population = deque(draw.choice(part) for part in self.bins)
        maps_of = self._sampling(population, draw) if way == "latent" else self._swapping(draw)
        optimiser = torch.optim.AdamW(self.head.parameters(), lr, weight_decay=0.01)
        steps = epochs * self.task.batches_per_epoch(batch_size)
        schedule = one_cycle(optimiser, lr, max(2, steps))
        for epoch in range(epochs):
            for x, y in self.task.epoch(self.seed * 100_003 + epoch + 1, batch_size):
                loss = self.task.objective(self.head(maps_of(x)), y)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
            if report is not None:
                report(epoch + 1, epochs, f"loss {loss.item():.4g}")
        self.head.eval()
        return time.perf_counter() - started

    def _sampling(self, population: deque[Body], draw: random.Random) -> Callable[[Tensor], list[Tensor]]:
        """Latent samples of a population of one body per bin, of which the oldest is replaced after every batch."""
        noise = torch.Generator(self.supernet.device).manual_seed(self.seed)
        bins = cycle(self.bins)

        def maps_of(x: Tensor) -> list[Tensor]:
            maps = self._latent(list(population), x, noise)
            population.popleft()
            population.append(draw.choice(next(bins)))
            return maps

        return maps_of

    def _swapping(self, draw: random.Random) -> Callable[[Tensor], list[Tensor]]:
        """Maps of one body, which changes after every `STAY` batches."""

        def drawn() -> Iterator[Body]:
            while True:
                yield from [draw.choice(draw.choice(self.bins))] * STAY

        bodies = drawn()

        @torch.no_grad()
        def maps_of(x: Tensor) -> list[Tensor]:
            return self._maps(next(bodies), x)

        return maps_of

    def _maps(self, body: Body, x: Tensor) -> list[Tensor]:
        """Maps of a body, of as many channels as the head knows."""
        maps = head_maps(body, self.head, x)
        return [padded(m, c) for m, c in zip(maps, self.head.channels, strict=True)]

    @torch.no_grad()
    def _latent(self, bodies: Sequence[Body], x: Tensor, noise: torch.Generator) -> list[Tensor]:
        """Mean over bodies plus noise times the spread, element by element."""
        found = []
        for maps in zip(*(self._maps(b, x) for b in bodies), strict=True):
            stacked = torch.stack(maps)
            drawn = torch.randn(stacked.shape[1:], generator=noise, device=x.device)
            found.append(stacked.mean(0) + drawn * stacked.std(0))
        return found

    def joined(self, architecture: Architecture, fresh: bool = False) -> Joined:
        """Join a member's body with a copy of the head.

        Args:
            architecture: Member of the supernet's space.
            fresh: True for the head as it was before any training.

        Returns:
            A whole network for the task, independent of the shared head.
        """
        head = deepcopy(self.head)
        if fresh:
            head.load_state_dict(self._fresh)
        return Joined(self.body(architecture), head)

    def label(self, architecture: Architecture, budget: Budget | None = None) -> PseudoLabel:
        """Train body and head together for a little while, and measure them.

        Args:
            architecture: Member of the supernet's space.
            budget: Length and learning rate of the training; None for one pass at the learning rate that suits the kind
                of head.

        Returns:
            The metrics before and after.
        """
        started = time.perf_counter()
        joined = self.joined(architecture)
        untuned = self.task.evaluate(joined.eval(), "decide")
        reached = train(joined, self.task, budget or Budget(epochs=1, lr=TUNED[self.head.kind]), self.seed)
        return PseudoLabel(reached.decide, reached.test, untuned, time.perf_counter() - started)


def _kind(task: Task) -> str:
    """Kind of head that a task's metric and targets ask for."""
    if task.metric is accuracy:
        return "classification"
    if task.metric is epe:
        return "disparity"
    if task.train.y.dim() != 4:
        raise SupernetError(
            f"expected classes or maps (n, C, H, W) as targets of {task.name!r}, got {tuple(task.train.y.shape)}.\n"
            "  Name a kind of head."
        )
    return "reconstruction" if torch.equal(task.train.y[:4], task.train.x[:4]) else "dense"
