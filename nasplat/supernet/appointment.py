"""Who teaches in a training, and which strategies and settings that fits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nasplat.errors import SupernetError
from nasplat.supernet.config import TrainConfig
from nasplat.supernet.strategy import STRATEGIES, Strategy
from nasplat.supernet.subnet import Subnets
from nasplat.supernet.subnet_teachers import FormerSelf, OtherSupernet, OwnTeacher
from nasplat.supernet.teacher import Lecture, NetworkTeacher, Teacher
from nasplat.task import Task


@dataclass(frozen=True)
class Guest:
    """Another supernet that is asked to teach."""

    subnets: Subnets
    """Subnets of the other supernet, one of which teaches at every step."""
    task: Task
    """Task that the other supernet was made for."""


def appointed_teacher(
    config: TrainConfig, strategy: Strategy, subnets: Subnets, task: Task, given: nn.Module | Guest | None = None
) -> Teacher | None:
    """Make the teacher that a training asks for.

    Args:
        config: Settings of the training.
        strategy: Strategy of the training, which says whether there are lessons that are taught.
        subnets: Subnets of the store that is trained.
        task: Task of the training.
        given: Network or supernet that the caller wants to teach; None for subnets of the store itself.

    Returns:
        The teacher; None where targets are all there is to learn from.

    Raises:
        SupernetError: the strategy has no teacher, none was given, or the given one reads other inputs.
    """
    with_features = config.distill == "features"
    if strategy.remembers and config.distill_weight > 0 and given is None:
        return FormerSelf(subnets, task.objective, with_features)
    if config.strategy in STRATEGIES and not strategy.distils:
        if given is not None:
            raise SupernetError(
                f"expected strategy 'ovo' beside a teacher, got {config.strategy!r}.\n  Pass strategy=\"ovo\"."
            )
        return None
    lecture = Lecture(config.joint, config.pick, config.draws, with_features)
    if config.teacher != "given":
        return None if config.teacher == "none" else OwnTeacher(subnets, task.objective, config.teacher, lecture)
    if given is None:
        raise SupernetError(
            "teacher 'given' expected a module or a supernet, got none.\n  Pass teacher=, or use largest or sampled."
        )
    if isinstance(given, nn.Module):
        return NetworkTeacher(given.to(subnets.device), task.objective, config.weight_decay, lecture)
    if given.task.input_shape != task.input_shape:
        raise SupernetError(
            f"expected a teacher of inputs {task.input_shape}, got {given.task.input_shape}.\n  Train it on this task."
        )
    return OtherSupernet(given.subnets, given.task.objective, subnets.store.space, config.weight_decay, lecture)
