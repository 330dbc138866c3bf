"""One head for all bodies of a supernet, so that a new task's labels are cheap: a short training of body and head instead of a long one.

The head is trained on what a random body would answer: of a few bodies' maps, mean plus noise times spread (latent sampling); or on one body at a time, which
changes now and then (body swapping, the baseline). A pseudo label is the metric after body and head were trained together for a little while.
Source: Mills et al., AAAI 2023, arXiv:2211.17228, pseudo-labelling. Bodies are sorted into bins by MACs, as spaces differ in what depth is.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.editing.body import Body, common_sizes
from nasplat.editing.network import Network
from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture
from nasplat.supernet.supernet import Supernet
from nasplat.task import Task
from nasplat.task.stereo_loss import epe
from nasplat.task.task import accuracy
from nasplat.task.training import Budget, train

KINDS = ("classification", "dense", "reconstruction", "disparity")
WAYS = ("latent", "swap")
BINS = 5
"""Of MACs; a population has one body of each."""
TUNED = {"classification": 1e-3, "dense": 1e-2, "reconstruction": 1e-2, "disparity": 1e-3}
"""Peak learning rate of the pass that makes a pseudo label. Heads of maps begin far from where they end; one of classes loses by it what it learnt."""
STAY = 10
"""Batches after which body swapping changes the body."""
Report = Callable[[int, int, str], None]


class Head(nn.Module):
    """From maps to a task's answer; maps of fewer channels than it knows are padded with zeros."""

    def __init__(
        self,
        kind: str,
        channels: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        output: tuple[int, ...],
        width: int = 64,
    ) -> None:
        """Args:
            kind: classification (mean of the smallest maps, two linear layers), dense (laterals of all maps, upwards, as in feature pyramids),
                reconstruction (upwards from the smallest maps), or disparity (as dense, for both views; their products at C shifts, and the mean shift).
            channels: Most that a map has, largest map first.
            sizes: Of the maps.
            output: (classes,), or (C, H, W); for disparity, C candidates of 0, 1, … pixels.
            width: Of its states.

        Raises:
            SupernetError: an unknown kind.
        """
        super().__init__()
        if kind not in KINDS:
            raise SupernetError(f"expected a head among {', '.join(KINDS)}, got {kind!r}.\n  Name one of them.")
        self.kind, self.channels, self.sizes, self.output = kind, list(channels), list(sizes), tuple(output)
        if kind == "classification":
            self.answer: nn.Module = nn.Sequential(
                nn.Linear(channels[-1], 2 * width), nn.ReLU(), nn.Linear(2 * width, output[0])
            )
            return
        taps = channels[-1:] if kind == "reconstruction" else channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in taps)
        steps = max(1, round(np.log2(output[1] / sizes[-1][0])))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(steps)
        )
        self.answer = nn.Conv2d(width, width if kind == "disparity" else output[0], 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (n, C, H, W), largest first, to (n, classes) or (n, C, H, W); those of n left and n right views to (n, H, W), pixels."""
        maps = [padded(m, c) for m, c in zip(maps, self.channels, strict=True)]
        if self.kind == "classification":
            return self.answer(maps[-1].mean((2, 3)))
        sides = {
            tuple(m.shape[2:]): lateral(m) for m, lateral in zip(maps[-len(self.lateral) :], self.lateral, strict=True)
        }
        x = sides.pop(tuple(maps[-1].shape[2:]))
        for up in self.up:
            size = (min(2 * x.shape[2], self.output[1]), min(2 * x.shape[3], self.output[2]))
            x = F.interpolate(x, size, mode="nearest")
            if size in sides:
                x = x + sides.pop(size)
            x = up(x)
        if tuple(x.shape[2:]) != self.output[1:]:
            x = F.interpolate(x, self.output[1:], mode="bilinear")
        return mean_shift(self.answer(x), self.output[0]) if self.kind == "disparity" else self.answer(x)


def mean_shift(features: Tensor, candidates: int) -> Tensor:
    """Features of n left and n right views, (2 n, C, H, W), to the softmax mean of the shift, (n, H, W), pixels; beyond the border nothing is alike."""
    left, right = features.chunk(2)
    width = left.shape[3]
    alike = torch.stack([F.pad((left[..., d:] * right[..., : width - d]).sum(1), (d, 0)) for d in range(candidates)], 1)
    shifts = torch.arange(candidates, dtype=alike.dtype, device=alike.device)
    return torch.einsum("ndhw,d->nhw", (alike / left.shape[1] ** 0.5).softmax(1), shifts)


def views(x: Tensor, kind: str) -> Tensor:
    """What a body sees: images as they are; of pairs (n, 2 C, H, W), the left and then the right ones."""
    return torch.cat(x.chunk(2, 1)) if kind == "disparity" else x


def padded(maps: Tensor, channels: int) -> Tensor:
    """Zeros for the channels that a body lacks."""
    return maps if maps.shape[1] == channels else F.pad(maps, (0, 0, 0, 0, 0, channels - maps.shape[1]))


class Joined(nn.Module):
    """A body with a head."""

    def __init__(self, body: Body, head: Head) -> None:
        """Args:
        body: Of any member.
        head: Of a task.
        """
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        """Images, or pairs of them, to the task's answer."""
        maps = self.body(views(x, self.head.kind))
        known = {tuple(m.shape[2:]): m for m in maps}
        return self.head([known[size] for size in self.head.sizes])


@dataclass(frozen=True)
class PseudoLabel:
    """A member's metric on a task it was not trained for."""

    decide: float
    """After the short training, in the task's unit."""
    test: float
    untuned: float
    """On the decide split, before it."""
    seconds: float


class SharedHead:
    """A task's head for every body of a supernet."""

    def __init__(
        self, supernet: Supernet, task: Task, kind: str | None = None, pool: int = 40, width: int = 64, seed: int = 0
    ) -> None:
        """Args:
            supernet: Trained; its bodies are frozen while the head is trained.
            task: The new one, of images, or pairs, of the same shape.
            kind: Of the head; default: classification for accuracies, disparity for stereo, reconstruction where the image is the target, else dense.
            pool: Bodies drawn.
            width: Of the head.
            seed: Decides bodies, initial values, order and noise.

        Raises:
            SupernetError: images of another shape.
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
        every = [*ends, *(b for part in self.bins for b in part)]
        sizes = common_sizes(every)
        channels = [max(c for b in every for c, h, w in b.shapes if (h, w) == size) for size in sizes]
        output = tuple(task.train.y.shape[1:])
        if kind in {"classification", "disparity"}:
            output = (task.classes, *output)  # the largest number and one more: of classes, or of whole pixels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = Head(kind, channels, sizes, output, width).to(supernet.device)
        self._fresh = deepcopy(self.head.state_dict())

    def body(self, architecture: Architecture) -> Body:
        """Of a member, with inherited weights and calibrated statistics, in eval mode."""
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
            way: latent, or swap.
            epochs: Passes over the task's training split.
            batch_size: Images of a step.
            lr: Peak of AdamW's.
            report: Called with (done, all, words).

        Returns:
            Seconds.

        Raises:
            SupernetError: an unknown way.
        """
        if way not in WAYS:
            raise SupernetError(f"expected a way among {', '.join(WAYS)}, got {way!r}.\n  Name one of them.")
        started = time.perf_counter()
        self.head.load_state_dict(self._fresh)
        self.head.train()
        draw = random.Random(self.seed)
        noise = torch.Generator(self.supernet.device).manual_seed(self.seed)
        population = deque(draw.choice(part) for part in self.bins)
        optimiser = torch.optim.AdamW(self.head.parameters(), lr, weight_decay=0.01)
        steps = epochs * self.task.batches_per_epoch(batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, max(2, steps), pct_start=0.1)
        step, place = 0, 0
        for epoch in range(epochs):
            for x, y in self.task.epoch(self.seed * 100_003 + epoch + 1, batch_size):
                if way == "latent":
                    maps = self._latent(list(population), x, noise)
                    population.popleft()
                    population.append(draw.choice(self.bins[place % BINS]))
                    place += 1
                else:
                    if step % STAY == 0:
                        swapped = draw.choice(draw.choice(self.bins))
                    with torch.no_grad():
                        maps = self._maps(swapped, x)
                loss = self.task.loss(self.head(maps), y)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                step += 1
            if report is not None:
                report(epoch + 1, epochs, f"loss {loss.item():.4g}")
        self.head.eval()
        return time.perf_counter() - started

    def _maps(self, body: Body, x: Tensor) -> list[Tensor]:
        known = {tuple(m.shape[2:]): m for m in body(views(x, self.head.kind))}
        return [padded(known[size], c) for size, c in zip(self.head.sizes, self.head.channels, strict=True)]

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
        """A member's body with a copy of the head, or with one as it was before any training."""
        head = deepcopy(self.head)
        if fresh:
            head.load_state_dict(self._fresh)
        return Joined(self.body(architecture), head)

    def label(self, architecture: Architecture, budget: Budget | None = None) -> PseudoLabel:
        """Train body and head together for a little while.

        Args:
            architecture: A member.
            budget: Of it; default: one pass at the kind of head's learning rate, `TUNED`.
        """
        started = time.perf_counter()
        joined = self.joined(architecture)
        untuned = self.task.evaluate(joined.eval(), "decide")
        reached = train(joined, self.task, budget or Budget(epochs=1, lr=TUNED[self.head.kind]), self.seed)
        return PseudoLabel(reached.decide, reached.test, untuned, time.perf_counter() - started)


def _kind(task: Task) -> str:
    if task.metric is accuracy:
        return "classification"
    if task.metric is epe:
        return "disparity"
    if task.train.y.dim() != 4:
        raise SupernetError(
            f"expected classes or maps (n, C, H, W) as targets of {task.name!r}, got {tuple(task.train.y.shape)}.\n  Name a kind of head."
        )
    return "reconstruction" if torch.equal(task.train.y[:4], task.train.x[:4]) else "dense"
