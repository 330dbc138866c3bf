"""What every epoch of a supernet's training says of itself, and how it is read back from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nasplat.supernet.health import Health


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Mean training loss of the epoch's subnets, in the unit of the task's loss."""
    lr: float
    """Learning rate of the last step."""
    images_per_second: float
    """Training images times subnets per second, of all processes together, without the look at some subnets."""
    seconds: float
    """Wall time of the training, without the look at some subnets."""
    phase: str = "all"
    """Name of the strategy's phase at the last step."""
    left_out: int = 0
    """Steps that changed nothing because a loss or gradient was not finite."""
    health: Health | None = None
    """Metrics of some subnets; None where `TrainConfig.watch` is off."""
    warnings: tuple[str, ...] = ()
    """Sentences about what looked wrong."""

    @staticmethod
    def of(row: dict[str, Any]) -> Epoch:
        """Read an epoch from a checkpoint.

        Args:
            row: Fields by name, as `dataclasses.asdict` writes them; fields that are younger than the row may lack.

        Returns:
            The epoch.
        """
        health = row.get("health")
        made = None if health is None else Health(**(health | {"random": tuple(health["random"])}))
        return Epoch(**(row | {"health": made, "warnings": tuple(row.get("warnings", ()))}))


Report = Callable[[Epoch, int], None]
"""Called after every epoch with (what it did, number of epochs planned)."""
