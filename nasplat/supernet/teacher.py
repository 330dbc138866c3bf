"""Online distillation: from whom the sampled subnet of a step learns beside its targets, and how.

In OVO both sides are sampled at every step, so that no student meets a teacher that is far out of its reach. The paper gives no settings
and no code; every part that is open is an option of `TrainConfig`, and `benchmarks/bench_teachers.py` compares them. Sources: Wei et al.
2022 (OVO), arXiv:2212.13766; Hinton et al. 2015, arXiv:1503.02531 (soft targets); Romero et al. 2015, arXiv:1412.6550 (features).
"""

from __future__ import annotations

import bisect
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.processes import current
from nasplat.supernet.store import Store
from nasplat.supernet.strategy import end
from nasplat.supernet.subnet import Bound, Subnets
from nasplat.task.task import Loss

if TYPE_CHECKING:
    from nasplat.supernet.supernet import Supernet

TEACHERS = ("none", "largest", "sampled", "given")
PICKS = ("uniform", "matched", "best")
LOSSES = ("soft", "hard", "features")
POOL = 256
"""Random architectures whose MACs tell the rank of a subnet in its space."""
NEAR = 0.05
"""A teacher is matched when its rank is that close to the student's, as a share of the pool."""


@dataclass(frozen=True)
class Answer:
    """What a teacher says of a batch."""

    output: Tensor
    """Detached; (B, classes) for classification, the finest of several maps."""
    features: Tensor | None
    """Detached inputs of its last linear layer, shape (B, d), where features are asked for."""


class Teacher(ABC):
    """Somebody to learn from."""

    is_sampled = False

    def __init__(
        self, loss: Loss, joint: bool, pick: str = "uniform", draws: int = 3, with_features: bool = False
    ) -> None:
        """Args:
        loss: Of the task.
        joint: It is trained along on the targets; otherwise its weights are left as they are.
        pick: Which of the sampled subnets teaches: uniform, matched (by rank of MACs to the student) or best (of `draws` by batch loss).
        draws: Subnets that `best` compares.
        with_features: Answers hold features.
        """
        self.loss, self.joint, self.pick, self.draws, self.with_features = loss, joint, pick, draws, with_features

    @property
    def optimiser(self) -> MaskedAdamW | None:
        """Of weights of its own, where it has any that are trained along."""
        return None

    @abstractmethod
    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """What it says of a batch; with `joint` it learns from the batch too.

        Args:
            x: Inputs.
            y: Targets.
            student: Who asks.
            seed: Of the step.
            trained: Optimiser of the store that is trained.
        """

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside the store."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` returned.

        Raises:
            SupernetError: this teacher has none.
        """
        if state:
            raise SupernetError(
                f"expected no weights for a teacher without any, got {len(state)}.\n  Resume with the same teacher."
            )

    def _ask(self, module: nn.Module, x: Tensor, y: Tensor, collect: Callable[[], None] | None) -> Answer:
        module.train(self.joint or self.is_sampled)  # a subnet's BatchNorm has no statistics but those of the batch
        with torch.set_grad_enabled(collect is not None):
            output, features = run(module, x, self.with_features)
            if collect is not None:
                self.loss(output.float() if isinstance(output, Tensor) else output, y).backward()
                collect()
        return Answer(final(output).detach(), None if features is None else features.detach())


class _Sampling(Teacher):
    """Subnets of a space."""

    is_sampled = True
    ranks: Ranks
    space: Space

    @abstractmethod
    def _bind(self, architecture: Architecture) -> Bound:
        """A module of the sampled store."""

    def _choose(self, x: Tensor, y: Tensor, student: Architecture, student_ranks: Ranks, seed: int) -> Architecture:
        rng = random.Random(f"teacher {seed}")
        if self.pick == "matched":
            return self.ranks.near(student_ranks.of(student), rng)
        drawn = [self.space.sample(seed=rng.getrandbits(48)) for _ in range(self.draws if self.pick == "best" else 1)]
        if len(drawn) == 1:
            return drawn[0]
        losses = []
        with torch.no_grad():
            for architecture in drawn:
                module = self._bind(architecture).module
                module.train()
                output = module(x)
                losses.append(self.loss(output.float() if isinstance(output, Tensor) else output, y))
        (found,) = current().average([torch.stack(losses)])
        return drawn[int(found.argmin())]  # the one place where a step waits for the device


class OwnTeacher(_Sampling):
    """A subnet of the supernet that is trained: the largest, or a sampled one."""

    def __init__(self, supernet: Supernet, kind: str, **options: Any) -> None:
        """Args:
        supernet: That is trained.
        kind: largest or sampled.
        options: As for `Teacher`.
        """
        super().__init__(supernet.task.loss, **options)
        self.supernet, self.kind, self.space = supernet, kind, supernet.space
        self.ranks = Ranks(supernet.space)

    def _bind(self, architecture: Architecture) -> Bound:
        return self.supernet.subnets.bind(architecture)

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """See the base class."""
        if self.kind == "largest":
            chosen = end(self.space, True, seed)
        else:
            chosen = self._choose(x, y, student, self.ranks, seed)
        bound = self._bind(chosen)
        store = self.supernet.store
        return self._ask(bound.module, x, y, (lambda: bound.collect(store, trained)) if self.joint else None)


class FormerSelf(Teacher):
    """The largest subnet of the supernet as it was when a phase kept the weights; silent before."""

    is_sampled = True

    def __init__(self, supernet: Supernet, **options: Any) -> None:
        """Args:
        supernet: That is trained.
        options: As for `Teacher`.
        """
        super().__init__(supernet.task.loss, joint=False, **options)
        self.space, self.store, self.device = supernet.space, supernet.store, supernet.device
        self.subnets: Subnets | None = None

    def keep(self, store: Store) -> None:
        """Teach with the weights that a store has now."""
        self.subnets = Subnets(store.with_weights({k: w.clone() for k, w in store.weights.items()}), self.device)

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """See the base class.

        Raises:
            SupernetError: nothing was kept.
        """
        if self.subnets is None:
            raise SupernetError(
                "expected weights that a phase kept, got none.\n  Let Strategy.phase say keeps_weights first."
            )
        return self._ask(self.subnets.bind(end(self.space, True, seed)).module, x, y, None)

    def state(self) -> dict[str, Tensor]:
        """See the base class."""
        return {} if self.subnets is None else dict(self.subnets.store.weights)

    def load(self, state: dict[str, Tensor]) -> None:
        """See the base class."""
        if state:
            self.keep(self.store.with_weights({k: v.to(self.device) for k, v in state.items()}))


class OtherSupernet(_Sampling):
    """A sampled subnet of another supernet, such as an elastic CNN that teaches transformers."""

    def __init__(self, teacher: Supernet, student_space: Space, weight_decay: float, **options: Any) -> None:
        """Args:
        teacher: With the same task.
        student_space: For matching by rank.
        weight_decay: Where it is trained along.
        options: As for `Teacher`.
        """
        super().__init__(teacher.task.loss, **options)
        self.teacher, self.space = teacher, teacher.space
        self.ranks, self.student_ranks = Ranks(teacher.space), Ranks(student_space)
        self._optimiser = MaskedAdamW(teacher.store.weights, teacher.store.rules, weight_decay) if self.joint else None

    @property
    def optimiser(self) -> MaskedAdamW | None:
        """See the base class."""
        return self._optimiser

    def _bind(self, architecture: Architecture) -> Bound:
        return self.teacher.subnets.bind(architecture)

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """See the base class."""
        bound, own = self._bind(self._choose(x, y, student, self.student_ranks, seed)), self._optimiser
        store = self.teacher.store
        return self._ask(bound.module, x, y, None if own is None else lambda: bound.collect(store, own))

    def state(self) -> dict[str, Tensor]:
        """See the base class."""
        return {} if self._optimiser is None else _state(self._optimiser)

    def load(self, state: dict[str, Tensor]) -> None:
        """See the base class."""
        if self._optimiser is not None:
            _load(self._optimiser, state)


class Network(Teacher):
    """A plain module, such as a pretrained CNN."""

    def __init__(self, module: nn.Module, weight_decay: float, **options: Any) -> None:
        """Args:
        module: Whose outputs are those of the task.
        weight_decay: Where it is trained along.
        options: As for `Teacher`.
        """
        super().__init__(**options)
        self.module = module
        weights = {name: p.detach() for name, p in module.named_parameters()}
        self._optimiser = MaskedAdamW(weights, {}, weight_decay) if self.joint and weights else None

    @property
    def optimiser(self) -> MaskedAdamW | None:
        """See the base class."""
        return self._optimiser

    def answer(self, x: Tensor, y: Tensor, student: Architecture, seed: int, trained: MaskedAdamW) -> Answer:
        """See the base class."""
        return self._ask(self.module, x, y, self._collect if self._optimiser is not None else None)

    def _collect(self) -> None:
        assert self._optimiser is not None
        for name, parameter in self.module.named_parameters():
            if parameter.grad is not None:
                self._optimiser.add(name, parameter.grad)
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """See the base class."""
        if self._optimiser is None:
            return {}
        return _state(self._optimiser) | {f"buffer/{k}": b for k, b in self.module.named_buffers()}

    def load(self, state: dict[str, Tensor]) -> None:
        """See the base class."""
        if self._optimiser is not None:
            _load(self._optimiser, state)
            for name, buffer in self.module.named_buffers():
                buffer.copy_(state[f"buffer/{name}"])


def _state(optimiser: MaskedAdamW) -> dict[str, Tensor]:
    return {f"weight/{k}": w for k, w in optimiser.weights.items()} | optimiser.state()


def _load(optimiser: MaskedAdamW, state: dict[str, Tensor]) -> None:
    for key, weight in optimiser.weights.items():
        weight.copy_(state[f"weight/{key}"])
    optimiser.load(state)


class Ranks:
    """Where a subnet's MACs stand in its space."""

    def __init__(self, space: Space) -> None:
        """Args:
        space: Of the subnets.
        """
        self.space = space
        self._known: dict[Architecture, float] = {}

    @cached_property
    def pool(self) -> list[tuple[float, Architecture]]:
        """Random architectures, from few MACs to many."""
        drawn = [self.space.sample(seed=i) for i in range(POOL)]
        return sorted(((float(a.graph().macs), a) for a in drawn), key=lambda row: row[0])

    def of(self, architecture: Architecture) -> float:
        """Share of the pool with fewer MACs."""
        if architecture not in self._known:
            macs = [m for m, _ in self.pool]
            self._known[architecture] = bisect.bisect_left(macs, float(architecture.graph().macs)) / len(macs)
        return self._known[architecture]

    def near(self, rank: float, rng: random.Random) -> Architecture:
        """One of the pool whose rank is near."""
        at = (rank + rng.uniform(-NEAR, NEAR)) * len(self.pool)
        return self.pool[min(len(self.pool) - 1, max(0, int(at)))][1]


class Imitation:
    """Features of the student, led by a learnt map to where the teacher's are: the mean squared difference of unit vectors."""

    def __init__(self, device: torch.device, weight_decay: float, seed: int) -> None:
        """Args:
        device: Of the features.
        weight_decay: Of the map.
        seed: Of its initial values.
        """
        self.device, self.weight_decay, self.seed = device, weight_decay, seed
        self.map: Tensor | None = None
        self.optimiser: MaskedAdamW | None = None

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Of features (B, d) and (B, e), which may be wider than any before."""
        self._grow(teacher.shape[1], student.shape[1])
        assert self.map is not None
        led = student.float() @ self.map[: teacher.shape[1], : student.shape[1]].T
        return (F.normalize(led, dim=1) - F.normalize(teacher.float(), dim=1)).square().sum(1).mean()

    def _grow(self, rows: int, columns: int) -> None:
        old = self.map
        if old is not None and old.shape[0] >= rows and old.shape[1] >= columns:
            return
        rows, columns = (max(rows, old.shape[0]), max(columns, old.shape[1])) if old is not None else (rows, columns)
        generator = torch.Generator().manual_seed(self.seed)
        fresh = torch.randn(rows, columns, generator=generator) / columns**0.5
        fresh = fresh.to(self.device)
        if old is not None:
            fresh[: old.shape[0], : old.shape[1]] = old.detach()
        self.optimiser = MaskedAdamW({"map": fresh}, {}, self.weight_decay)
        self.map = fresh.detach().requires_grad_()  # shares its memory with what the optimiser updates

    def collect(self) -> None:
        """Move the map's gradient to its optimiser."""
        if self.map is not None and self.optimiser is not None and self.map.grad is not None:
            self.optimiser.add("map", self.map.grad)
            self.map.grad = None

    def state(self) -> dict[str, Tensor]:
        """The map with its moments."""
        return {} if self.optimiser is None else _state(self.optimiser)

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` returned."""
        if state:
            self._grow(*state["weight/map"].shape)
            assert self.optimiser is not None
            _load(self.optimiser, state)


def run(module: nn.Module, x: Tensor, with_features: bool) -> tuple[Tensor | list[Tensor], Tensor | None]:
    """Output, and what its last linear layer reads, shape (B, d).

    Raises:
        SupernetError: features are asked for and there is no linear layer.
    """
    if not with_features:
        return module(x), None
    last = next((m for m in reversed(list(module.modules())) if isinstance(m, nn.Linear)), None)
    if last is None:
        raise SupernetError(
            "distillation of features expected a network with a linear layer, got none.\n  Use --train.distill=soft or hard."
        )
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        output = module(x)
    finally:
        handle.remove()
    return output, seen[-1].flatten(1) if seen[-1].dim() != 3 else seen[-1].mean(1)


def final(output: Tensor | list[Tensor]) -> Tensor:
    """What a network answers in the end, float32: the last of several maps."""
    return (output if isinstance(output, Tensor) else output[-1]).float()


def agreement(output: Tensor | list[Tensor], teacher: Tensor, kind: str, temperature: float) -> Tensor:
    """Loss of not saying what the teacher says.

    Soft or hard for classes (B, C), mean squared difference for anything else; the mean of smooth L1 over maps, where there are several.
    """
    if not isinstance(output, Tensor):
        return torch.stack([F.smooth_l1_loss(m.float(), teacher) for m in output]).mean()
    if output.dim() != 2 or output.shape[1] < 2 or not output.is_floating_point():
        return F.mse_loss(output, teacher)
    if kind == "hard":
        return F.cross_entropy(output, teacher.argmax(1))
    soft = F.log_softmax(output / temperature, 1)
    return F.kl_div(soft, F.softmax(teacher / temperature, 1), reduction="batchmean") * temperature**2
