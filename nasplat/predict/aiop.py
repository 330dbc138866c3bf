"""AIO-P: adapters on a frozen graph encoder, one path and head per source task; a new task needs some twenty labels.

An adapter runs beside the encoder: its layer i reads the encoder's states after layer i and its own states before; a
head reads both graph vectors. The answer is the mean of the heads. Labels are standardised per task, on wish after they
were divided by log10(GFLOPs + 1) + 1 (eqs. 4 and 5; FLOPs are 2 per MAC of our counter). Of a new task, mean and spread
come from a few labelled networks (`calibrate`), whose labels may also tune heads, adapters and encoder, or, as the
AdaProxy baseline, the last linear map alone. Tasks differ in which others they are like, and some run against each
other: a Gaussian process from the heads' answers to what their mean leaves of the twenty labels is our own addition
(Rasmussen & Williams 2006, chapter 2).
Source: Mills et al., AAAI 2023, arXiv:2211.17228. Written from the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.adapters import Path
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.encoder import Batch, Encoder, collate
from nasplat.learners.lessons import Lessons
from nasplat.learners.packing import pack_lines, pack_modules, unpack_lines, unpack_modules
from nasplat.learners.process import Process
from nasplat.learners.schedule import one_cycle
from nasplat.learners.support import Support
from nasplat.predict.finetuned import AbstractTunable
from nasplat.predict.gennape import divisor
from nasplat.tables.splits import fold_numbers

Matrix = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
SCALINGS = ("none", "standard", "flops")
"""How labels are scaled before they are learnt: not, standardised (eq. 4), or divided by FLOPs and standardised (eq.
5)."""
MODES = ("none", "gaussian process", "heads", "heads and encoder", "all", "heads and adapters", "adaproxy")
"""What a new task's labels tune beside mean and spread: nothing, as the paper's zero-shot; what the paths' mean leaves,
which is ours; the paper's modes 0 to 3; and its baseline."""
FEWEST = 20
"""Fewest labelled networks of a task that is learnt."""
FOLDS = 5
"""Parts into which a new task's labels fall; each part is answered by a fit on the others, for the interval."""
MOST = 500
"""Largest number of labels that the process learns from, as its time grows with their cube."""
PENALTY = 0.1
"""λ of AdaProxy's L1 norm. Source: Lu et al. 2021."""

# T tasks, n networks, N nodes of all of them


@dataclass(eq=False, repr=False)
class Aiop(AbstractTunable):
    """One predictor of many tasks: adapters and heads on a frozen encoder.

    Example:
        >>> import nasplat
        >>> len(nasplat.load_predictor("aiop-transnas").tasks_)
        7
    """

    family: ClassVar[str] = "aiop"

    hidden: int = 64
    """Width H of the encoder's states; like the next three it must be the pretrained encoder's."""
    layers: int = 5
    """Number of the encoder's layers."""
    embedding: int = 64
    """Width of the encoder's graph vector."""
    trunk: str = "flow"
    """Kind of messages of the encoder, a name among `nasplat.learners.trunks.TRUNKS`."""
    width: int = 32
    """Width W of an adapter's states; 0 leaves adapters out: heads on the frozen encoder."""
    scaling: str = "standard"
    """How labels are scaled, a name among `SCALINGS`: 'none', 'standard' (eq. 4) or 'flops' (eqs. 5 and 4)."""
    epochs: int = 40
    """Passes that train an adapter."""
    batch_size: int = 32
    """Networks of a step."""
    lr: float = 2e-3
    """Peak learning rate."""
    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    metric: str = "value"
    """Name and unit of the label of the task that is answered."""
    seed: int = 0
    """Number that decides everything random."""

    # -- learning ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        tasks: Sequence[str] | None = None,
        encoder: Encoder | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn an adapter and a head per task.

        Args:
            items: Graphs, views, or what has a `graph()` method; a network stands once per task that it is labelled
                for, and rows of one network and task are one with the mean of their labels.
            labels: One value per item, in its task's unit; larger is better in all tasks, or smaller in all. Those that
                are not finite are left out.
            tasks: Name of each item's task; by default all are one.
            encoder: Pretrained encoder, such as `encoder_` of a fitted GENNAPE or universal predictor; it is copied and
                frozen. Its settings must be this predictor's. By default its weights are random.
            progress: Called after each step of each task with (steps done, steps in all, note).

        Returns:
            The predictor itself, which has no unit before it is calibrated.

        Raises:
            PredictorError: fewer than 20 distinct networks of a task with a finite label, labels of a task that are all
                equal, columns of unequal length, or an encoder of other settings.
        """
        seen = self.views(items)
        given = np.asarray(tasks if tasks is not None else ["task"] * len(seen))
        if not len(seen) == len(labels) == len(given):
            raise PredictorError(
                f"expected a label and a task per network, got {len(seen)}, {len(labels)} and {len(given)}.\n  Align."
            )
        if self.scaling not in SCALINGS:
            raise PredictorError(
                f"expected a scaling among {', '.join(SCALINGS)}, got {self.scaling!r}.\n  Name one of them."
            )
        self.tasks_ = sorted(set(given.tolist()))
        lessons: dict[str, Lessons] = {}
        for task in self.tasks_:
            rows = np.flatnonzero(given == task).tolist()
            if len(rows) < FEWEST:
                raise PredictorError(
                    f"expected at least {FEWEST} labels of task {task!r}, got {len(rows)}.\n  Leave it out."
                )
            try:
                lessons[task] = self._lessons([seen[i] for i in rows], [labels[i] for i in rows], FEWEST)
            except PredictorError as err:
                raise PredictorError(f"task {task!r}: {err}") from err
        views = [v for found in lessons.values() for v in found.views]
        y = np.concatenate([found.labels for found in lessons.values()])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder_ = self._frozen(encoder)
            self._states: dict[int, tuple[View, Tensor, Tensor]] = {}
            vectors = np.stack([self._seen(v)[2].numpy() for v in views])
            self.shift_ = np.stack([vectors.mean(0), vectors.std(0) + 1e-6]).astype(np.float64)
            self.paths_ = nn.ModuleList(self._path() for _ in self.tasks_)
            self.scales_ = np.zeros((len(self.tasks_), 2))
            for k, task in enumerate(self.tasks_):
                mine = lessons[task].views
                scaled = lessons[task].labels / self._divisors(mine)
                self.scales_[k] = self._moments(scaled)
                target = (scaled - self.scales_[k, 0]) / self.scales_[k, 1]
                self._train(self.paths_[k], mine, target, progress, task)
        self._states.clear()
        self.support_ = Support.learn(np.array([list(v.statistics.values()) for v in views]), self.seed)
        self.moments_ = self.scales_.mean(0)
        self.process_: Process | None = None
        self.width_ = float("nan")
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _frozen(self, encoder: Encoder | None) -> Encoder:
        """A copy of a pretrained encoder that does not learn; random weights without one."""
        found = self._encoder()
        if encoder is not None:
            try:
                found.load_state_dict(encoder.state_dict())
            except RuntimeError as err:
                raise PredictorError(
                    f"the encoder has other settings than this predictor: {str(err).splitlines()[0]}\n"
                    "  Pass its hidden, layers, embedding and trunk."
                ) from err
        return found.eval().requires_grad_(False)

    def only(self, tasks: Sequence[str]) -> Aiop:
        """Copy the predictor with the paths of some source tasks alone.

        Args:
            tasks: Names among `tasks_`.

        Returns:
            A predictor whose answer is the mean of these paths; it is not calibrated.

        Raises:
            PredictorError: none, or one that was not learnt.
        """
        unknown = [t for t in tasks if t not in self.tasks_]
        if unknown or not tasks:
            raise PredictorError(
                f"expected tasks among {', '.join(self.tasks_)}, got {', '.join(unknown) or 'none'}.\n"
                "  Name some of them."
            )
        places = [self.tasks_.index(t) for t in tasks]
        found = deepcopy(self)
        found.tasks_ = list(tasks)
        found.paths_ = nn.ModuleList(found.paths_[k] for k in places)
        found.scales_ = self.scales_[places]
        found.moments_ = found.scales_.mean(0)
        found.process_ = None
        return found

    def calibrate(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        mode: str = "gaussian process",
        epochs: int = 100,
        lr: float = 1e-4,
        groups: Sequence[str] | None = None,
    ) -> Aiop:
        """Make a predictor of a new task from a few labels; this one stays as it is.

        Args:
            items: Labelled networks of the task, some twenty; rows of one network are one network with the mean of
                their labels.
            labels: One value per item, in the task's unit; those that are not finite are left out.
            mode: What the labels tune beside mean and spread, a name among `MODES`.
            epochs: Passes over the labels, one network a step, for modes that tune by gradients.
            lr: Learning rate of Adam in these modes.
            groups: Name of each item's function, such as its `network_key`: networks of one function are left out
                together. By default what the items themselves say.

        Returns:
            A predictor that answers in the new task's unit.

        Raises:
            PredictorError: fewer than 3 distinct networks with a finite label, all of one function, labels not one per
                network or all equal; an unknown mode.
        """
        if mode not in MODES:
            raise PredictorError(f"expected a mode among {', '.join(MODES)}, got {mode!r}.\n  Name one of them.")
        learnt = self._lessons(items, labels, 3, groups=groups)
        views, y = learnt.views, learnt.labels
        parts = min(FOLDS, len(set(learnt.groups)))
        if parts < 2:
            raise PredictorError(
                f"expected networks of at least two functions, got one in {len(y)} networks.\n  Label others."
            )
        found = self._tuned(views, y, mode, epochs, lr)
        if mode == "none":
            residuals = y - found._values(views)
        else:  # residuals of labels that were not shown
            folds = fold_numbers(len(y), parts, self.seed, learnt.groups)
            residuals = np.empty(len(y))
            for fold in np.unique(folds):
                shown, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
                part = self._tuned([views[i] for i in shown], y[shown], mode, epochs, lr)
                residuals[held] = y[held] - part._values([views[i] for i in held])
        enough = len(y) >= fewest(self.level)
        found.width_ = half_width(residuals, self.level) if enough else float(np.abs(residuals).max())
        found.support_ = self.support_.joined(np.array([list(v.statistics.values()) for v in views]), self.seed)
        found.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        return found

    def _tuned(self, views: Sequence[View], y: Matrix, mode: str, epochs: int, lr: float) -> Aiop:
        """A copy that has learnt labels of a new task, without an interval yet."""
        found = deepcopy(self)
        found.process_ = None
        scaled = y / self._divisors(views)
        found.moments_ = self._moments(scaled)
        target = (scaled - found.moments_[0]) / found.moments_[1]
        if mode == "none":
            return found
        if mode == "gaussian process":
            chosen = np.sort(np.random.default_rng(self.seed).permutation(len(y))[:MOST])
            found.process_ = Process.learn(found._all([views[i] for i in chosen]), target[chosen])
        elif mode == "adaproxy":
            found._adaproxy(views, target)
        else:
            found._tune(views, target, mode, epochs, lr)
        return found

    def _tune(self, views: Sequence[View], target: Matrix, mode: str, epochs: int, lr: float) -> None:
        """Tune heads, adapters or encoder in place, one network a step."""
        heads = [p for path in self._paths() for p in path.head.parameters()]
        adapters = [p for path in self._paths() if path.adapter is not None for p in path.adapter.parameters()]
        encoder = list(self.encoder_.parameters())
        learnt = {"heads": heads, "heads and encoder": heads + encoder, "heads and adapters": heads + adapters}
        parameters = learnt.get(mode, heads + adapters + encoder)
        for p in parameters:
            p.requires_grad_(True)
        optimiser = torch.optim.Adam(parameters, lr)
        wanted, rng = torch.from_numpy(target).float(), np.random.default_rng(self.seed)
        features = self._features(views) if mode == "heads" else []
        if mode == "heads and adapters":
            for seen in views:
                self._seen(seen)  # the encoder answers once
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for _ in range(epochs):
                for i in rng.permutation(len(views)):
                    # each path meets the label on its own, as each will be averaged
                    answers = (
                        torch.stack(
                            [path.head(f[i : i + 1])[:, 0] for path, f in zip(self._paths(), features, strict=True)]
                        )
                        if features
                        else self._outputs([views[i]])
                    )
                    loss = (answers - wanted[i]).square().mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        self._states.clear()
        self.encoder_.requires_grad_(False)

    @torch.no_grad()
    def _features(self, views: Sequence[View]) -> list[Tensor]:
        """What each path's head reads, shape (n, embedding + width)."""
        batch, states, vectors = self._inputs(views)
        return [path.features(states, vectors, batch) for path in self._paths()]

    def _adaproxy(self, views: Sequence[View], target: Matrix) -> None:
        """The last linear map w of each head becomes (α + b) ∘ w, |b|₁ penalised; all else stays."""
        wanted = torch.from_numpy(target).float()
        for path, seen in zip(self._paths(), self._features(views), strict=True):
            last = cast(nn.Linear, path.head[-1])
            base = last.weight.detach().clone()
            alpha, shift = torch.ones((), requires_grad=True), torch.zeros_like(base, requires_grad=True)
            bias = last.bias.detach().clone().requires_grad_(True)
            with torch.no_grad():
                features = path.head[:-1](seen)
            optimiser = torch.optim.Adam([alpha, shift, bias], 1e-2)
            for _ in range(300):
                answer = features @ ((alpha + shift) * base).T + bias
                loss = F.mse_loss(answer[:, 0], wanted) + PENALTY * shift.abs().sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                last.weight.copy_((alpha + shift) * base)
                last.bias.copy_(bias)

    def _train(
        self, path: nn.Module, views: Sequence[View], target: Matrix, progress: Progress | None, task: str
    ) -> None:
        """Train the path of one task in place."""
        y, rng = torch.from_numpy(target).float(), np.random.default_rng(self.seed)
        size = min(self.batch_size, len(views))
        per_epoch = len(views) // size
        steps = self.epochs * per_epoch
        optimiser = torch.optim.AdamW(path.parameters(), lr=self.lr, weight_decay=1e-3)
        schedule = one_cycle(optimiser, self.lr, max(2, steps))
        for epoch in range(self.epochs):
            order = rng.permutation(len(views))
            for step in range(per_epoch):
                rows = order[step * size : (step + 1) * size]
                batch, states, vectors = self._inputs([views[i] for i in rows])
                loss = F.smooth_l1_loss(path(states, vectors, batch), y[rows], beta=0.5)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                if progress is not None:
                    progress(epoch * per_epoch + step + 1, steps, f"{task}: loss {loss.item():.3f}")

    # -- answering -----------------------------------------------------------------------------------------------------

    def _encoder(self) -> Encoder:
        """An encoder with random weights."""
        return Encoder(self.hidden, self.layers, self.embedding, trunk=self.trunk)

    def _paths(self) -> list[Path]:
        """The paths of all tasks, as type checkers can read them."""
        return cast(list[Path], list(self.paths_))

    def _path(self) -> Path:
        """A path with random weights."""
        return Path(self.hidden, self.layers, self.embedding, self.width)

    @torch.no_grad()
    def _seen(self, seen: View) -> tuple[View, Tensor, Tensor]:
        """States (layers + 1, N, H) and vector (E,) by the frozen encoder, kept while adapters are trained."""
        known = self._states.get(id(seen))
        if known is None:
            batch = self.encoder_.collate([seen])
            states = self.encoder_.states(batch)
            known = self._states[id(seen)] = (seen, torch.stack(states), self.encoder_.read(states[-1], batch)[0])
        return known

    def _inputs(self, views: Sequence[View]) -> tuple[Batch, list[Tensor], Tensor]:
        """A batch with its states and standardised vectors; kept ones where there are any."""
        mean, spread = (torch.from_numpy(v).float() for v in self.shift_)
        if self._states:
            batch = collate(views)
            known = [self._seen(v) for v in views]
            return (
                batch,
                list(torch.cat([s for _, s, _ in known], 1)),
                (torch.stack([v for _, _, v in known]) - mean) / spread,
            )
        batch = self.encoder_.collate(views)
        states = self.encoder_.states(batch)
        return batch, states, (self.encoder_.read(states[-1], batch) - mean) / spread

    def _outputs(self, views: Sequence[View]) -> Tensor:
        """Standardised answers of every path, shape (T, n)."""
        batch, states, vectors = self._inputs(views)
        return torch.stack([path(states, vectors, batch) for path in self.paths_])

    @torch.no_grad()
    def _all(self, views: Sequence[View]) -> Matrix:
        """Standardised answers of every path without gradients, shape (T, n)."""
        return torch.cat([self._outputs(views[i : i + 128]) for i in range(0, len(views), 128)], 1).double().numpy()

    def _answers(self, views: Sequence[View]) -> Matrix:
        """Mean of the paths, or what a process makes of them, standardised, shape (n,)."""
        outputs = self._all(views)
        return outputs.mean(0) if self.process_ is None else self.process_(outputs)

    def _values(self, views: Sequence[View]) -> Matrix:
        """Answers in the unit of the task that was calibrated, shape (n,)."""
        return (self._answers(views) * self.moments_[1] + self.moments_[0]) * self._divisors(views)

    def _moments(self, scaled: Matrix) -> Matrix:
        """Mean and spread by which labels are standardised."""
        return np.array([0.0, 1.0]) if self.scaling == "none" else np.array([scaled.mean(), scaled.std() + 1e-9])

    def _divisors(self, views: Sequence[View]) -> Matrix:
        """What each network's label is divided by."""
        return np.array([divisor(v.gigaflops) if self.scaling == "flops" else 1.0 for v in views])

    def _reason(self, seen: View) -> str:
        if np.isnan(self.width_):
            return "its task was not calibrated: the answer has no unit yet"
        return self.support_.reasons_of([seen], list(seen.statistics))[0]

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        values = self._values(seen)
        return [tuple(row) for row in np.stack([values, values - self.width_, values + self.width_], 1).tolist()]

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self._values(seen).tolist()

    # -- disk ----------------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own = {
            "shift": self.shift_,
            "scales": self.scales_,
            "moments": self.moments_,
            "width": np.array([self.width_]),
            "reference": self.reference_,
            "tasks": pack_lines(self.tasks_),
        }
        process = {} if self.process_ is None else {f"process.{k}": v for k, v in vars(self.process_).items()}
        learnt = pack_modules({"encoder": self.encoder_, "paths": self.paths_})
        return learnt | own | process | self.support_.arrays()

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.tasks_ = unpack_lines(arrays["tasks"])
        self.encoder_, self.paths_ = self._encoder(), nn.ModuleList(self._path() for _ in self.tasks_)
        unpack_modules(arrays, {"encoder": self.encoder_, "paths": self.paths_})
        self.encoder_.eval().requires_grad_(False)
        self._states = {}
        self.shift_, self.scales_, self.moments_ = arrays["shift"], arrays["scales"], arrays["moments"]
        process = {k.removeprefix("process."): v for k, v in arrays.items() if k.startswith("process.")}
        self.process_ = Process(**process) if process else None
        self.width_, self.reference_ = float(arrays["width"][0]), arrays["reference"]
        self.support_ = Support.of(arrays)
        self.fitted_ = True
