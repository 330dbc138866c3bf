"""The five kinds of runs: what a search, a training, a labelling, an improvement and a demo are asked for.

Each field is an option of the command line, which shows the sentence below it as its help; see `nasplat.runs.fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from nasplat.errors import InputError
from nasplat.graph.quantities import refusal
from nasplat.inputs import load_task
from nasplat.probes.runtimes import RUNTIMES
from nasplat.runs.fields import option
from nasplat.runs.objectives import INHERITED, LATENCY, PREDICTED, TRAINED
from nasplat.runs.run import AbstractRun, refusing_unknown_names
from nasplat.searchspace import QUANTITIES, Space, load_space
from nasplat.supernet import TrainConfig
from nasplat.task import Task
from nasplat.task.settings import Check
from nasplat.task.training import Budget
from nasplat.workflows.improve import COSTS

AUTO, FITTED, NONE = "auto", "fitted", "none"
"""Guides that are no predictor's name: found by itself, fitted on pilots, or left out."""


@dataclass(frozen=True)
class AbstractSpaceRun(AbstractRun):
    """A run in one space on one task, whose fields the subclasses state."""

    space: Space | str
    """Search space by name or path, or the space itself."""
    task: Task | str = "digits-clutter"
    """Task by name or folder, or the task itself."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Presets of a space that is given by name."""

    def loaded_space(self) -> Space:
        """Return the space with its presets.

        Returns:
            Space of the run.

        Raises:
            ContentError: there is no such space.
            SpaceError: the space does not take a preset.
        """
        return load_space(self.space, **self.presets) if isinstance(self.space, str) else self.space

    def loaded_task(self) -> Task:
        """Return the task.

        Returns:
            Task of the run.

        Raises:
            TaskError: there is no such task.
        """
        return load_task(self.task) if isinstance(self.task, str) else self.task

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain data; a space that is an object is written as its name and presets.

        Returns:
            Values by name of the field, see `AbstractRun.to_dict`.
        """
        found, space = super().to_dict(), self.space
        return found | ({"space": space.name, "presets": dict(space.presets)} if isinstance(space, Space) else {})

    def to_words(self) -> list[str]:
        """Return the words of a command line that ask for this run; settings at their defaults are left out.

        Returns:
            Words behind `nasplat`, the verb first.

        Raises:
            InputError: the run holds a space or a task that no name stands for.
        """
        self.refuse_objects()
        return type(self).from_dict(self.to_dict())._plain_words()

    def _plain_words(self) -> list[str]:
        return super().to_words()

    def refuse_objects(self) -> None:
        """Refuse a space or a task that another process cannot load by its name.

        Raises:
            InputError: the task is an object, or the space one that its name does not give.
        """
        if isinstance(self.space, Space):
            try:
                is_known = load_space(self.space.name, **self.space.presets) == self.space
            except (LookupError, ValueError):
                is_known = False
            if not is_known:
                raise InputError(
                    f"expected a space by name or path, got {self.space!r}.\n  Write it in a file: space='./mine.py'."
                )
        if not isinstance(self.task, str):
            raise InputError(f"expected a task by name or folder, got {self.task!r}.\n  Pass task='digits-clutter'.")

    def check(self, check: Check) -> None:
        """Check the seed, and that presets stand beside a space's name.

        Args:
            check: Checker of this run's fields.

        Raises:
            InputError: the seed is negative, or a space that is an object was given presets.
        """
        check.within("seed", least=0)
        if isinstance(self.space, Space) and self.presets:
            raise InputError(
                f"expected presets beside a space's name, got {self.space!r}.\n  Use space.with_presets(…)."
            )


@refusing_unknown_names
@dataclass(frozen=True)
class SearchRun(AbstractSpaceRun):
    """A search of one space for the Pareto set of quality and cost.

    Example:
        >>> run = SearchRun("vit", limits={"macs": 2e6}, trials=60)
        >>> run.to_words()
        ['search', 'vit', '--limit=macs=2000000.0', '--trials=60']
        >>> SearchRun.from_words(run.to_words()[1:]) == run
        True
    """

    verb: ClassVar[str] = "search"
    growing: ClassVar[tuple[str, ...]] = ("trials", "budget", "exports", "workers")

    space: Space | str
    """Search space by name or path, such as 'vit' or './mine.py', or in Python the space itself."""
    task: Task | str = "digits-clutter"
    """Task by name, such as 'digits-clutter?train=512', or a folder of pictures, IDX or npz files, or stereo:FOLDER; in
    Python also the task itself."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Presets of a space that is given by name, such as width=8; the task decides image side, channels and classes,
    unless they are given here."""
    maximize: str = "inherited"
    """Quality that is searched for: 'inherited' from a supernet, 'trained' from scratch ('trained:12' for twelve
    epochs), or 'predicted' by the guide."""
    minimize: str = "macs"
    """Cost: 'macs', 'params', 'activation_bytes', 'weight_bytes', of decoders 'decode_macs@4096' and the like (see
    limits), 'latency' (each network timed), 'latency_ms' (predicted), or 'none'."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Largest allowed macs, params, activation_bytes, weight_bytes or latency_ms of a network, such as macs=2e6; above
    0. Of decoders also prefill_macs, decode_macs and kv_bytes. Behind an @ stand tokens, or sequences x tokens, and
    the precision of bytes: decode_macs@4096=2e9, kv_bytes@8x4096,bf16=1e9, weight_bytes@int4=2e6."""
    trials: int = 40
    """Number of networks to evaluate, at least 1, all workers together; a resumed run may ask for more."""
    guide: str = "auto"
    """Predictor that ranks what is proposed, by name or folder. 'auto' takes the shipped one that was trained on this
    very space, else base, else none where base abstains on the space; 'none' lets proposals learn from the trials
    alone; 'fitted' fine-tunes base on the pilots, and with stages answers the predicted stage."""
    guide_at: Mapping[str, Any] = field(default_factory=dict)
    """Presets of the space at which the guide scores the choices, where it learnt from another size of the space."""
    pilots: int = 40
    """Number of random networks, at least 1, that guide 'fitted' evaluates first, and that the search knows."""
    latency: Path | None = None
    """Folder of a latency calibration that answers latency_ms, or the name of a device that is not at hand, such as
    pixel2; left out, networks of the space are timed first."""
    timed: int = 40
    """Number of networks, at least 1, that are timed to predict latency_ms of the others."""
    runtime: str = "onnxruntime"
    """Runtime of latency_ms: 'onnxruntime', 'eager', 'compiled' or 'cuda-graph'."""
    exports: int | None = None
    """Number of members of the Pareto set, at least 1, that are exported, judged and timed as files; left out, the
    chosen one is exported."""
    prune: bool = False
    """Whether trainings that cannot reach the Pareto front are stopped; for trained quality alone."""
    stages: tuple[str, ...] = ()
    """Qualities from the cheapest to the truth, in the place of the one that is maximised, such as
    predicted,inherited,trained:2,trained:12."""
    budget: float | None = None
    """Seconds of evaluation, above 0, of all stages and workers together; pilots of guide 'fitted' come on top."""
    storage: str | None = None
    """Optuna storage that keeps the study, a URL or .journal file; left out, a journal in the run folder."""
    supernet: Path | None = None
    """Run folder of `nasplat train` whose supernet is used; left out, one is trained in the run folder."""
    workers: int = 1
    """Number of processes of one thread each, at least 1, that evaluate networks on this machine."""
    seed: int = 0
    """Number from 0 on that decides sampler, trainings and every random draw."""
    device: str = "cpu"
    """Torch device of trainings and evaluations, such as 'cpu' or 'cuda:0'."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the supernet is trained; on a command line `--train.epochs=10`."""

    def check(self, check: Check) -> None:
        """Check ranges, names, and settings that depend on each other.

        Args:
            check: Checker of this run's fields.

        Raises:
            InputError: a value is outside its range, stages without a budget, exports without a supernet, or a fitted
                guide that nothing asks.
        """
        super().check(check)
        check.within("trials", "pilots", "timed", "exports", "workers", least=1).within("budget", above=0)
        check.among("runtime", RUNTIMES)
        if refusal(self.minimize):
            check.among("minimize", (*QUANTITIES, "latency", LATENCY, "none"))
        _check_names("limits", self.limits, (*QUANTITIES, LATENCY))
        for word in self.qualities:
            if word not in {PREDICTED, INHERITED, TRAINED} and not _is_training(word):
                raise InputError(
                    f"expected qualities among predicted, inherited, trained or trained:EPOCHS, got {word!r}.\n"
                    "  Use one of these."
                )
        if bool(self.stages) != (self.budget is not None):
            raise InputError("expected --stages and --budget together, got one of them.\n  Give both, or neither.")
        if self.exports is not None and INHERITED not in self.qualities:
            raise InputError(
                "--exports expected inherited quality: only subnets of a supernet have weights.\n  Leave it out."
            )
        if self.guide == FITTED and self.stages and PREDICTED not in self.stages:
            raise InputError(
                "--guide fitted expected a predicted stage, which it would answer, got none.\n"
                "  Add predicted to --stages, or leave --guide out."
            )
        if self.prune and not self.qualities[-1].startswith(TRAINED):
            raise InputError(
                f"--prune expected an objective with a learning curve, got {self.qualities[-1]!r}.\n"
                "  Use --maximize trained, or leave it out."
            )

    @property
    def qualities(self) -> tuple[str, ...]:
        """Qualities that are evaluated: the stages, or the one that is maximised."""
        return self.stages or (self.maximize,)

    @property
    def is_guided(self) -> bool:
        """Whether a guide is asked: always but in stages none of which is predicted."""
        return not self.stages or PREDICTED in self.stages

    @property
    def is_timed(self) -> bool:
        """Whether a latency predictor is needed."""
        return LATENCY in self.limits or self.minimize == LATENCY


@refusing_unknown_names
@dataclass(frozen=True)
class TrainRun(AbstractSpaceRun):
    """A training of a supernet, or of one subnet of an earlier run.

    Example:
        >>> TrainRun.from_words(["vit", "--train.epochs=3"]).train.epochs
        3
    """

    verb: ClassVar[str] = "train"
    growing: ClassVar[tuple[str, ...]] = ("device",)

    space: Space | str
    """Search space by name or path, such as 'vit' or './mine.py', or in Python the space itself."""
    task: Task | str = "digits-clutter"
    """Task by name, such as 'digits-clutter?train=512', or a folder of pictures, IDX or npz files, or stereo:FOLDER; in
    Python also the task itself."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Presets of a space that is given by name, such as width=8; the task decides image side, channels and classes,
    unless they are given here."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How long and by which strategy it is trained; on a command line `--train.epochs=10`."""
    teacher: str | None = None
    """Network, or run folder of an earlier training, that teaches in strategy ovo; left out, subnets of the supernet
    teach."""
    kernel_transforms: bool = False
    """Whether smaller depthwise kernels come from larger ones by learnt matrices, as in Once-for-All, instead of
    their centre."""
    source: Path | None = None
    """Run folder of an earlier search or training, one subnet of which is trained further and exported; left out, a
    supernet is trained."""
    subnet: str | None = None
    """Encoding of the subnet that is trained further; left out, the one that the search chose."""
    seed: int = 0
    """Number from 0 on that decides initial values, the subnets sampled and the order of the data."""
    device: str = "cpu"
    """Torch device to train on, such as 'cpu' or 'cuda:0'."""

    def check(self, check: Check) -> None:
        """Check that options of one subnet and those of a supernet are not mixed.

        Args:
            check: Checker of this run's fields.

        Raises:
            InputError: options of both kinds were given.
        """
        super().check(check)
        if self.subnet is not None and self.source is None:
            raise InputError(
                "expected --from beside --subnet, got none.\n  Give the run whose supernet has the subnet."
            )
        if self.source is not None and (self.teacher is not None or self.kernel_transforms):
            raise InputError(
                "expected --from without --teacher and --kernel-transforms.\n"
                "  They belong to the training of a supernet."
            )


@refusing_unknown_names
@dataclass(frozen=True)
class LabelRun(AbstractSpaceRun):
    """A table of networks of one space, each trained from scratch.

    Example:
        >>> LabelRun("vit", n=2, budget={"epochs": 1}).budget.epochs
        1
    """

    verb: ClassVar[str] = "label"
    growing: ClassVar[tuple[str, ...]] = (
        *("n", "each_task", "spaces", "tasks", "architectures", "seeds", "repeat", "workers", "device"),
    )

    space: Space | str = ""
    """Search space by name or path, such as 'vit' or './mine.py', or in Python the space itself; left out where
    several are named by --spaces."""
    task: Task | str = "digits-clutter"
    """Task by name, such as 'digits-clutter?train=512', or a folder of pictures, IDX or npz files, or stereo:FOLDER; in
    Python also the task itself."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Presets of a space that is given by name, such as width=8; the task decides image side, channels and classes,
    unless they are given here."""
    spaces: tuple[str, ...] = ()
    """Spaces by name or path that are labelled across all of --tasks into one table, perhaps with presets behind a
    question mark, such as mixer,nasbench201?width=8&cells=1; each task decides image side, channels and classes."""
    tasks: tuple[str, ...] = ()
    """Tasks of the labels of --spaces, each as --task names one; a space that does not fit a task is left out there."""
    n: int | None = None
    """Number of distinct networks that are trained, at least 1; of a list at most its length. Left out, 30; with
    --spaces the number of each space on each task, and 6."""
    each_task: int = 0
    """Number of networks of each of --tasks, at least; where few spaces fit one, they give more than n."""
    shared: float = 0.3
    """Share of the networks of --spaces, from 0 to 0.9, that stand on two tasks."""
    edited: float = 0.2
    """Share of the networks of --spaces, from 0 to 0.9, that are edited, so that they leave their space."""
    judged: int = 1000
    """Examples of the decide and of the test split, at least 1, on which networks of --spaces are judged, at most."""
    architectures: tuple[str, ...] = ()
    """Encoding or JSON line of a network that is labelled; left out, networks are drawn at random."""
    seeds: int = 1
    """Number of trainings of each network, at least 1, with other initial values and another order of the data."""
    repeat: float = 1.0
    """Share of the networks, from 0 to 1, that gets more than the first of the seeds."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Largest allowed macs, params, activation_bytes and the like of a network, such as macs=2e6, or as a search has
    them; above 0."""
    storage: str | None = None
    """Optuna storage that keeps what is done, a URL or .journal file; left out, a journal beside the table."""
    workers: int = 1
    """Number of processes of one thread each, at least 1, that train networks on this machine."""
    seed: int = 0
    """Number from 0 on that decides the draws and the first training of a network."""
    device: str = "cpu"
    """Torch device to train on, such as 'cpu' or 'cuda:0'."""
    budget: Budget = field(default_factory=Budget)
    """How long each network is trained; on a command line `--budget.epochs=3`. Networks of --spaces are trained for
    `--budget.steps`, left out for 300, batches of 32 at a rate of 0.002."""

    def check(self, check: Check) -> None:
        """Check ranges, the names of limits, and that the run is of one space or of several.

        Args:
            check: Checker of this run's fields.

        Raises:
            InputError: a value is outside its range, a limit is on something that is not counted, or settings of one
                space stand beside several.
        """
        super().check(check)
        check.within("n", "seeds", "workers", "judged", least=1).within("repeat", least=0, most=1)
        check.within("each_task", least=0).within("shared", "edited", least=0, most=0.9)
        _check_names("limits", self.limits, QUANTITIES)
        if bool(self.spaces) != bool(self.tasks):
            raise InputError(
                "expected --spaces and --tasks together, got one of them.\n  Give both, or SPACE and --task."
            )
        if bool(self.spaces) == bool(self.space):
            raise InputError(
                "a label expected a space, or --spaces and --tasks, got "
                + ("both.\n  Leave one out." if self.space else "neither.\n  Give its name or path.")
            )
        usual = {f.name: f.default for f in fields(self)}
        alone = ("architectures", "task") if self.spaces else ("each_task", "shared", "edited", "judged")
        for name in (*alone, *(("presets",) if self.presets and self.spaces else ())):
            if name == "presets" or getattr(self, name) != usual[name]:
                raise InputError(
                    f"{option(name)} goes with {'one space' if self.spaces else '--spaces'}.\n  Leave it out"
                    + (", or write presets behind the space: 'vit?size=mini'." if name == "presets" else ".")
                )


@refusing_unknown_names
@dataclass(frozen=True)
class ImproveRun(AbstractRun):
    """Edits of one network that make it cheaper and keep it as good.

    Example:
        >>> ImproveRun("mine.py:factory", cut={"macs": 0.2}).to_words()
        ['improve', 'mine.py:factory', '--cut=macs=0.2']
    """

    verb: ClassVar[str] = "improve"
    growing: ClassVar[tuple[str, ...]] = ("cut", "keep", "predictor", "rounds", "finalists", "device")

    network: str
    """Network to edit: file.py:factory, model.onnx, timm:name, pytorchcv:name, space:encoding, or an architecture's
    JSON line."""
    shape: tuple[int, ...] = ()
    """Shape of one input batch, such as 1,3,224,224; left out, the one that the network states."""
    cut: Mapping[str, float] = field(default_factory=dict)
    """Share of macs, params or latency_ms that must go, between 0 and 1; left out, macs=0.15."""
    keep: float = 0.0
    """Loss that is allowed, of the task's metric, or without a task of the predictor's score; at least 0."""
    task: str | None = None
    """Task, as for train, on which the original and the networks found are trained and judged; left out, the predictor
    judges alone."""
    predictor: str = "base"
    """Predictor that judges the edits, by name or folder of a trained one."""
    rounds: int = 12
    """Largest number of edits between the original and a network, at least 1."""
    finalists: int = 8
    """Largest number of networks that are found, at least 1; each is trained where there is a task."""
    device: str = "cpu"
    """Torch device to train on, such as 'cpu' or 'cuda:0'."""
    seed: int = 0
    """Number from 0 on that decides the edits, the order of the data, and the initial values of an architecture."""
    budget: Budget = field(default_factory=Budget)
    """How long the networks are trained; on a command line `--budget.epochs=3`."""

    def check(self, check: Check) -> None:
        """Check ranges and the names of costs.

        Args:
            check: Checker of this run's fields.

        Raises:
            InputError: a value is outside its range, or a cost cannot be cut.
        """
        check.within("rounds", "finalists", least=1).within("seed", "keep", least=0)
        _check_names("cut", self.cut, COSTS)
        for name, share in self.cut.items():
            if share >= 1:
                raise InputError(f"cut expected a share between 0 and 1 as {name}, got {share!r}.\n  Such as 0.15.")
        if any(size < 1 for size in self.shape):
            raise InputError(f"expected shape to hold sizes of at least 1, got {self.shape}.\n  Such as 1,3,224,224.")


@refusing_unknown_names
@dataclass(frozen=True)
class DemoRun(AbstractRun):
    """The whole way on embedded data: score, supernet, guided search, export, and a fair comparison.

    Example:
        >>> DemoRun(fast=True).to_words()
        ['demo', '--fast']
    """

    verb: ClassVar[str] = "demo"

    seed: int = 0
    """Number from 0 on that decides supernet, search, rivals and trainings."""
    fast: bool = False
    """Whether a minute is taken instead of five: fewer epochs, trials and rivals."""

    def check(self, check: Check) -> None:
        """Check the seed.

        Args:
            check: Checker of this run's fields.

        Raises:
            InputError: the seed is negative.
        """
        check.within("seed", least=0)


KINDS: dict[str, type[AbstractRun]] = {k.verb: k for k in (SearchRun, TrainRun, LabelRun, ImproveRun, DemoRun)}
"""Kinds of runs by their verb."""


def _is_training(word: str) -> bool:
    kind, colon, epochs = word.partition(":")
    return kind == TRAINED and bool(colon) and epochs.isdecimal() and int(epochs) > 0


def _check_names(name: str, values: Mapping[str, float], known: tuple[str, ...]) -> None:
    for key in values:
        has_conditions = "@" in key and key.partition("@")[0] in known and name == "limits"
        if key not in known and (not has_conditions or refusal(key)):
            told = refusal(key) if has_conditions else "Use one of these."
            raise InputError(f"expected {name} on {', '.join(known)}, got {key!r}.\n  {told}")
