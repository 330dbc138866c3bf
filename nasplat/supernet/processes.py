"""Several processes that train one supernet: each takes its part of every batch, and gradients are averaged.

All processes sample the same subnets, since a step's randomness derives from the seed and the number of the step.

No wrapper around the module is needed: the gradients of a step lie in one flat buffer, which is reduced once.
`torchrun` starts the processes; `join` reads what it left in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from nasplat.errors import SupernetError


@dataclass(frozen=True)
class Processes:
    """One process among all that train a supernet."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files, evaluates and reports."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Cut from a batch the rows that this process takes.

        Args:
            batch: Inputs or targets of the whole batch, shape (B, …).

        Returns:
            Consecutive rows; all of them where there is one process.

        Raises:
            SupernetError: there are fewer rows than processes.
        """
        if self.size == 1:
            return batch
        if len(batch) < self.size:
            raise SupernetError(
                f"expected batches of at least {self.size} examples for {self.size} processes, got {len(batch)}.\n"
                "  Raise batch_size."
            )
        return batch.tensor_split(self.size)[self.rank]

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Average tensors over all processes, by one reduction.

        Args:
            tensors: Tensors of this process; shapes must agree among processes.

        Returns:
            Means in the order and shapes of the tensors.
        """
        if self.size == 1 or not tensors:
            return list(tensors)
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([t.numel() for t in tensors])
        return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def check_equal(self, fingerprint: str) -> None:
        """Check that all processes hold the same weights.

        Args:
            fingerprint: Hash of this process's weights.

        Raises:
            SupernetError: the hashes differ.
        """
        if self.size == 1:
            return
        found: list[str] = [""] * self.size
        dist.all_gather_object(found, fingerprint)
        if len(set(found)) > 1:
            raise SupernetError(
                f"expected the same weights in all {self.size} processes, got {', '.join(f[:8] for f in found)}.\n"
                "  Give every process the same seed, task and configuration, and a build function that depends on its "
                "choices alone."
            )


def current() -> Processes:
    """Find out which processes train together.

    Returns:
        This process among those that `join` joined; one alone otherwise.
    """
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


def join(device: str = "cpu") -> tuple[Processes, str]:
    """Join the processes that `torchrun` started; a process that it did not start stays alone.

    Args:
        device: Torch device to train on: 'cpu', or 'cuda' for the GPU that torchrun assigned to this process.

    Returns:
        This process among all, and its device, such as 'cuda:1'.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return current(), device
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return current(), device


def leave() -> None:
    """Leave the processes that `join` joined; one alone stays as it is."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
