"""AIO-P: adapters on a frozen graph encoder, one path and one head per source task; a new task needs some twenty labels.

An adapter runs beside the encoder: its layer i reads the encoder's states after layer i and its own states before; a head reads both graph vectors. The
answer is the mean of the heads. Labels are standardised per task, on wish after they were divided by log10(GFLOPs + 1) + 1 (eqs. 4 and 5; FLOPs are
2 per MAC of our counter). Of a new task, mean and spread come from a few labelled networks (`calibrate`), whose labels may also tune heads, adapters and
encoder, or, as the AdaProxy baseline, the last linear map alone. Tasks differ in which others they are like, and some run against each other:
a Gaussian process from the heads' answers to what their mean leaves of the twenty labels is our own addition (Rasmussen & Williams 2006, chapter 2).
Source: Mills et al., AAAI 2023, arXiv:2211.17228. Written from the paper.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, Product, Sum, WhiteKernel
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.encoder import Batch, Encoder, collate
from nasplat.learners.support import Support
from nasplat.predict.finetuned import AbstractTunable
from nasplat.predict.gennape import divisor

Matrix = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
SCALINGS = ("none", "standard", "flops")
MODES = ("none", "gaussian process", "heads", "heads and encoder", "all", "heads and adapters", "adaproxy")
"""What a new task's labels tune beside mean and spread: nothing, as the paper's zero-shot; what the paths' mean leaves, ours; the paper's modes 0 to 3; and its baseline."""
FEWEST = 20
"""Labelled networks of a task that is learnt."""
FOLDS = 5
"""Of the residuals behind the interval of a tuned task."""
KERNEL = Sum(Product(ConstantKernel(1.0), Matern(3.0, (1.0, 1e3), nu=2.5)), WhiteKernel(0.3, (0.02, 1e2)))
"""Of standardised answers, and where the search for height, length and noise starts; twenty labels must not be told that they are exact, or that a tenth of a
standard deviation matters."""
MOST = 500
"""Labels that the process learns from, as its time grows with their cube."""
PENALTY = 0.1
"""λ of AdaProxy's L1 norm. Source: Lu et al. 2021."""


class Adapter(nn.Module):
    """A path beside the encoder: states of the encoder's layers to one vector per graph."""

    def __init__(self, hidden: int, layers: int, width: int) -> None:
        """Args:
        hidden: Width of the encoder's states.
        layers: Of the encoder.
        width: Of the adapter's states.
        """
        super().__init__()
        inputs = [2 * hidden, *([hidden + width] * (layers - 1))]
        self.own = nn.ModuleList(nn.Linear(n, width) for n in inputs)
        self.messages = nn.ModuleList(nn.Linear(n, 2 * width, bias=False) for n in inputs)

    def forward(self, states: Sequence[Tensor], batch: Batch) -> Tensor:
        """States (N, H) before the first layer and after each to (B, W): graph convolutions along and against the edges, tanh, mean over nodes."""
        source, target = batch.edges
        x = states[0]
        for own, messages, state in zip(self.own, self.messages, states[1:], strict=True):
            both = torch.cat([state, x], 1)
            along, against = messages(both).chunk(2, 1)
            x = torch.tanh(own(both).index_add(0, target, along[source]).index_add(0, source, against[target]))
        sums = x.new_zeros(batch.size, x.shape[1]).index_add(0, batch.graph, x)
        return sums / torch.bincount(batch.graph, minlength=batch.size).clamp_min(1)[:, None]


class Path(nn.Module):
    """Adapter and head of one task; without adapter, the head reads the encoder's vector alone."""

    def __init__(self, hidden: int, layers: int, embedding: int, width: int) -> None:
        """Args:
        hidden: As for `Adapter`.
        layers: Likewise.
        embedding: Width of the encoder's vector.
        width: Of the adapter; 0 for none.
        """
        super().__init__()
        self.adapter = Adapter(hidden, layers, width) if width else None
        self.head = nn.Sequential(
            nn.Linear(embedding + width, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, states: Sequence[Tensor], vector: Tensor, batch: Batch) -> Tensor:
        """Shape (B,)."""
        return self.head(self.features(states, vector, batch))[:, 0]

    def features(self, states: Sequence[Tensor], vector: Tensor, batch: Batch) -> Tensor:
        """What the head reads, shape (B, embedding + width)."""
        return vector if self.adapter is None else torch.cat([vector, self.adapter(states, batch)], 1)


@dataclass(frozen=True)
class Process:
    """A Gaussian process from what the paths answer to what their mean leaves: far from every label it is their mean."""

    known: Matrix
    """Standardised answers for the labelled networks, shape (n, tasks)."""
    dual: Matrix
    """Shape (n,)."""
    theta: Matrix
    """Logarithms of the kernel's height, length and noise."""
    mean: Matrix
    """Of the answers for the labelled networks, shape (tasks,)."""
    spread: Matrix

    @classmethod
    def learn(cls, outputs: Matrix, target: Matrix) -> Self:
        """Height, length and noise by marginal likelihood.

        Args:
            outputs: Of the paths on labelled networks, shape (tasks, n).
            target: Standardised labels, shape (n,).
        """
        mean, spread = outputs.mean(1), outputs.std(1) + 1e-6
        x = (outputs.T - mean) / spread
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # no noise and no signal are answers, too
            found = GaussianProcessRegressor(KERNEL).fit(x, target - x.mean(1))
        return cls(x, found.alpha_, cast(Sum, found.kernel_).theta, mean, spread)

    def __call__(self, outputs: Matrix) -> Matrix:
        """Standardised answers, shape (n,)."""
        x = (outputs.T - self.mean) / self.spread
        kernel = cast(Sum, KERNEL.clone_with_theta(self.theta))
        return x.mean(1) + kernel(x, self.known) @ self.dual


class Aiop(AbstractTunable):
    """One predictor, many tasks; see the module."""

    family: ClassVar[str] = "aiop"

    def __init__(
        self,
        hidden: int = 64,
        layers: int = 5,
        embedding: int = 64,
        trunk: str = "flow",
        width: int = 32,
        scaling: str = "standard",
        epochs: int = 40,
        batch_size: int = 32,
        lr: float = 2e-3,
        level: float = 0.9,
        metric: str = "value",
        seed: int = 0,
    ) -> None:
        """Args:
        hidden: Width of the encoder's states.
        layers: Of the encoder.
        embedding: Width of its graph vector.
        trunk: Of the encoder.
        width: Of an adapter's states; 0 leaves adapters out: heads on the frozen encoder.
        scaling: Of labels: none, standard (eq. 4) or flops (eqs. 5 and 4).
        epochs: Passes that train an adapter.
        batch_size: Networks of a step.
        lr: Peak learning rate.
        level: Of the interval.
        metric: Name and unit of the label of the task that is answered.
        seed: Decides everything random.
        """
        self.hidden, self.layers, self.embedding, self.trunk, self.width = hidden, layers, embedding, trunk, width
        self.scaling, self.epochs, self.batch_size, self.lr = scaling, epochs, batch_size, lr
        self.level, self.metric, self.seed = level, metric, seed

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
            items: Graphs, views, or what has a `graph()` method; a network stands once per task that it is labelled for.
            labels: One each, in its task's unit; larger is better in all, or smaller in all.
            tasks: Name of each row's task; default: all are one.
            encoder: Pretrained, such as `encoder_` of a fitted GENNAPE or universal predictor; it is copied and frozen. Its settings must be this
                predictor's. Default: random weights.
            progress: Called with (steps done, steps, note) for each task.

        Raises:
            PredictorError: fewer than 20 labels of a task, columns of unequal length, or an encoder of other settings.
        """
        views, y = self.views(items), np.asarray(labels, np.float64)
        names = np.asarray(tasks if tasks is not None else ["task"] * len(views))
        if not len(views) == len(y) == len(names):
            raise PredictorError(
                f"expected a label and a task per network, got {len(views)}, {len(y)} and {len(names)}.\n  Align."
            )
        if self.scaling not in SCALINGS:
            raise PredictorError(
                f"expected a scaling among {', '.join(SCALINGS)}, got {self.scaling!r}.\n  Name one of them."
            )
        self.tasks_ = sorted(set(names.tolist()))
        for task in self.tasks_:
            if (names == task).sum() < FEWEST:
                raise PredictorError(
                    f"expected at least {FEWEST} labels of task {task!r}, got {(names == task).sum()}.\n  Leave it out."
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder_ = self._encoder()
            if encoder is not None:
                try:
                    self.encoder_.load_state_dict(encoder.state_dict())
                except RuntimeError as err:
                    raise PredictorError(
                        f"the encoder has other settings than this predictor: {str(err).splitlines()[0]}\n  Pass its hidden, layers, embedding and trunk."
                    ) from err
            self.encoder_.eval().requires_grad_(False)
            self._states: dict[int, tuple[View, Tensor, Tensor]] = {}
            vectors = np.stack([self._seen(v)[2].numpy() for v in views])
            self.shift_ = np.stack([vectors.mean(0), vectors.std(0) + 1e-6]).astype(np.float64)
            self.paths_ = nn.ModuleList(self._path() for _ in self.tasks_)
            self.scales_ = np.zeros((len(self.tasks_), 2))
            for k, task in enumerate(self.tasks_):
                rows = np.flatnonzero(names == task)
                mine = [views[i] for i in rows]
                scaled = y[rows] / self._divisors(mine)
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

    def only(self, tasks: Sequence[str]) -> Aiop:
        """The same with the paths of some source tasks alone.

        Args:
            tasks: Of `tasks_`.

        Raises:
            PredictorError: none, or one that was not learnt.
        """
        unknown = [t for t in tasks if t not in self.tasks_]
        if unknown or not tasks:
            raise PredictorError(
                f"expected tasks among {', '.join(self.tasks_)}, got {', '.join(unknown) or 'none'}.\n  Name some of them."
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
    ) -> Aiop:
        """A predictor of a new task; this one stays as it is.

        Args:
            items: Networks of the task, some twenty.
            labels: One each, in its unit.
            mode: What is tuned beside mean and spread: see `MODES`.
            epochs: Passes over the labels; batch 1.
            lr: Of Adam.

        Raises:
            PredictorError: fewer than 3 labels, or not one per network; an unknown mode.
        """
        views, y = self.views(items), np.asarray(labels, np.float64)
        if mode not in MODES:
            raise PredictorError(f"expected a mode among {', '.join(MODES)}, got {mode!r}.\n  Name one of them.")
        if len(views) != len(y) or len(y) < 3:
            raise PredictorError(
                f"expected a label per network, three or more, got {len(views)} and {len(y)}.\n  Label some twenty."
            )
        found = self._tuned(views, y, mode, epochs, lr)
        if mode == "none":
            residuals = y - found._values(views)
        else:  # residuals of labels that were not shown
            folds = np.random.default_rng(self.seed).permutation(len(y)) % min(FOLDS, len(y))
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
            return found
        heads = [p for path in found._paths() for p in path.head.parameters()]
        adapters = [p for path in found._paths() if path.adapter is not None for p in path.adapter.parameters()]
        encoder = list(found.encoder_.parameters())
        if mode == "adaproxy":
            found._adaproxy(views, target)
            return found
        learnt = {"heads": heads, "heads and encoder": heads + encoder, "heads and adapters": heads + adapters}
        parameters = learnt.get(mode, heads + adapters + encoder)
        for p in parameters:
            p.requires_grad_(True)
        optimiser = torch.optim.Adam(parameters, lr)
        wanted, rng = torch.from_numpy(target).float(), np.random.default_rng(self.seed)
        features = found._features(views) if mode == "heads" else []
        if mode == "heads and adapters":
            for seen in views:
                found._seen(seen)  # the encoder answers once
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for _ in range(epochs):
                for i in rng.permutation(len(views)):
                    # each path meets the label on its own, as each will be averaged
                    answers = (
                        torch.stack(
                            [path.head(f[i : i + 1])[:, 0] for path, f in zip(found._paths(), features, strict=True)]
                        )
                        if features
                        else found._outputs([views[i]])
                    )
                    loss = (answers - wanted[i]).square().mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        found._states.clear()
        found.encoder_.requires_grad_(False)
        return found

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
        y, rng = torch.from_numpy(target).float(), np.random.default_rng(self.seed)
        size = min(self.batch_size, len(views))
        per_epoch = len(views) // size
        steps = self.epochs * per_epoch
        optimiser = torch.optim.AdamW(path.parameters(), lr=self.lr, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, max(2, steps), pct_start=0.1)
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
        return Encoder(self.hidden, self.layers, self.embedding, trunk=self.trunk)

    def _paths(self) -> list[Path]:
        return cast(list[Path], list(self.paths_))

    def _path(self) -> Path:
        return Path(self.hidden, self.layers, self.embedding, self.width)

    @torch.no_grad()
    def _seen(self, seen: View) -> tuple[View, Tensor, Tensor]:
        """States (layers + 1, N, H) and vector (E,) of a network by the frozen encoder, kept while adapters are trained."""
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
        """Of every path, standardised, shape (tasks, n)."""
        batch, states, vectors = self._inputs(views)
        return torch.stack([path(states, vectors, batch) for path in self.paths_])

    @torch.no_grad()
    def _all(self, views: Sequence[View]) -> Matrix:
        """Of every path, standardised, shape (tasks, n), without gradients."""
        return torch.cat([self._outputs(views[i : i + 128]) for i in range(0, len(views), 128)], 1).double().numpy()

    def _answers(self, views: Sequence[View]) -> Matrix:
        """Mean of the paths, or what a process makes of them, standardised, shape (n,)."""
        outputs = self._all(views)
        return outputs.mean(0) if self.process_ is None else self.process_(outputs)

    def _values(self, views: Sequence[View]) -> Matrix:
        """In the unit of the task that was calibrated."""
        return (self._answers(views) * self.moments_[1] + self.moments_[0]) * self._divisors(views)

    def _moments(self, scaled: Matrix) -> Matrix:
        return np.array([0.0, 1.0]) if self.scaling == "none" else np.array([scaled.mean(), scaled.std() + 1e-9])

    def _divisors(self, views: Sequence[View]) -> Matrix:
        return np.array([divisor(v.gigaflops) if self.scaling == "flops" else 1.0 for v in views])

    def _reason(self, seen: View) -> str:
        if np.isnan(self.width_):
            return "its task was not calibrated: the answer has no unit yet"
        return self.support_.reason_of(seen, list(seen.statistics))

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        values = self._values(seen)
        return [tuple(row) for row in np.stack([values, values - self.width_, values + self.width_], 1).tolist()]

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self._values(seen).tolist()

    # -- disk ----------------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        modules = {"encoder": self.encoder_, "paths": self.paths_}
        learnt = {
            f"{m}.{k}": t.detach().numpy() for m, module in modules.items() for k, t in module.state_dict().items()
        }
        own = {
            "shift": self.shift_,
            "scales": self.scales_,
            "moments": self.moments_,
            "width": np.array([self.width_]),
            "reference": self.reference_,
            "tasks": np.frombuffer("\n".join(self.tasks_).encode(), np.uint8),
        }
        process = {} if self.process_ is None else {f"process.{k}": v for k, v in vars(self.process_).items()}
        return learnt | own | process | self.support_.arrays()

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.tasks_ = arrays["tasks"].tobytes().decode().split("\n")
        self.encoder_, self.paths_ = self._encoder(), nn.ModuleList(self._path() for _ in self.tasks_)
        for name, module in {"encoder": self.encoder_, "paths": self.paths_}.items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in arrays.items() if k.startswith(prefix)}
            )
        self.encoder_.eval().requires_grad_(False)
        self._states = {}
        self.shift_, self.scales_, self.moments_ = arrays["shift"], arrays["scales"], arrays["moments"]
        process = {k.removeprefix("process."): v for k, v in arrays.items() if k.startswith("process.")}
        self.process_ = Process(**process) if process else None
        self.width_, self.reference_ = float(arrays["width"][0]), arrays["reference"]
        self.support_ = Support.of(arrays)
        self.fitted_ = True
