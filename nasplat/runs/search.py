"""What a search is asked for, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasplat.errors import InputError
from nasplat.runs.folder import RunFolder
from nasplat.runs.guide import AUTO, FITTED
from nasplat.runs.objectives import INHERITED, LATENCY, PREDICTED
from nasplat.runs.training import loaded
from nasplat.searchspace import Space
from nasplat.supernet import TrainConfig
from nasplat.task import Task


@dataclass(frozen=True)
class SearchRun:
    """A search of one space for the Pareto set of quality and cost."""

    space: Space | str
    """Search space by name or path, such as 'vit' or './mine.py', or the space itself."""
    task: Task | str = "digits-clutter"
    """Task by name, a folder of pictures, IDX or npz files, or the task itself."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Presets of a space that is given by name, such as {'width': 8}."""
    maximize: str = INHERITED
    """Quality that is searched for: 'inherited' from a supernet, 'trained' from scratch ('trained:12' for twelve
    epochs), or 'predicted'."""
    minimize: str = "macs"
    """Cost: 'macs', 'params', 'activation_bytes', 'latency' (each network timed), 'latency_ms' (predicted), or
    'none'."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Largest allowed cost by name, in the unit of the name: {'macs': 2e6, 'latency_ms': 20}."""
    trials: int = 40
    """Number of networks to evaluate, all workers together; a resumed run may ask for more."""
    guide: str = AUTO
    """Predictor that ranks proposals by name or folder; 'auto' finds one, 'none' leaves it out, 'fitted' fits one on
    `pilots`."""
    guide_at: Mapping[str, Any] | None = None
    """Presets at which the guide scores the choices, where it learnt from another size of the space; None for those
    of the search."""
    pilots: int = 40
    """Number of random networks that are evaluated first, on which guide 'fitted' is fitted."""
    latency: Path | None = None
    """Folder of a latency calibration of this device; None times networks of the space first, where latency_ms is
    asked for."""
    timed: int = 40
    """Number of networks that are timed to predict the latency of the others."""
    runtime: str = "onnxruntime"
    """Runtime of latency_ms: 'onnxruntime', 'eager' or 'compiled'."""
    exports: int | None = None
    """Number of members of the Pareto set that are exported, judged and timed as files; None exports the chosen one
    alone."""
    prune: bool = False
    """Whether trainings that cannot reach the Pareto front are stopped; for trained quality only."""
    stages: tuple[str, ...] = ()
    """Qualities from the cheapest to the truth, such as ('predicted', 'inherited', 'trained:12'); empty searches for
    `maximize` alone."""
    budget: float | None = None
    """Seconds of evaluation for all stages and workers together; None without stages."""
    storage: str | None = None
    """Optuna storage by URL or .journal file; None for a journal in the run folder."""
    supernet: Path | None = None
    """Run folder of `nasplat train` whose supernet is used; None trains one in the run folder."""
    workers: int = 1
    """Number of processes of one thread each that share the evaluations on this machine."""
    seed: int = 0
    """Number that decides sampler, trainings and every random draw."""
    device: str = "cpu"
    """Torch device of trainings and evaluations, such as 'cuda:0'."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the supernet is trained; on a command line `--train.epochs=10`."""

    def __post_init__(self) -> None:
        """Check settings that depend on each other.

        Raises:
            InputError: stages without a budget, exports without a supernet, or a fitted guide that nothing asks.
        """
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

    def loaded(self, folder: RunFolder | None = None) -> tuple[Space, Task]:
        """Return the space with its presets, and the task.

        Args:
            folder: Folder of the run, which keeps the space that it was started with; None for a new run.

        Returns:
            Space and task.
        """
        return loaded(self.space, self.presets, self.task, folder, self.supernet and RunFolder(self.supernet))
