"""The training loop of a supernet: epochs, a checkpoint after every one, resume that changes nothing.

A resumed run is, on CPU, the run that was never interrupted.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from warnings import warn

import torch
from torch import Tensor

from nasplat.errors import SupernetError, SupernetWarning
from nasplat.supernet.belonging import belonging_to, check_belongs
from nasplat.supernet.checkpoint import (
    FILE,
    FORMAT,
    fingerprint,
    history_of,
    load_weights,
    progress_of,
    read_checkpoint,
    write_checkpoint,
)
from nasplat.supernet.compiling import compile_blocks
from nasplat.supernet.config import TrainConfig
from nasplat.supernet.health import Checkup
from nasplat.supernet.history import Epoch, Report
from nasplat.supernet.processes import current
from nasplat.supernet.sorting import sort_channels
from nasplat.supernet.strategy import Strategy, strategy_named
from nasplat.supernet.subnet import Subnets
from nasplat.supernet.subnet_teachers import FormerSelf
from nasplat.supernet.teacher import Teacher
from nasplat.supernet.updates import Updates
from nasplat.task import Task


class Trainer:
    """Trains one store for the configured epochs."""

    def __init__(
        self,
        subnets: Subnets,
        task: Task,
        seed: int,
        config: TrainConfig,
        teacher: Teacher | None = None,
        checkup: Checkup | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        """Prepare the store for the configured precision, memory format and compiler.

        Args:
            subnets: Subnets of the store that is trained.
            task: Data and loss.
            seed: Seed of data order and sampling.
            config: Settings of the training.
            teacher: Teacher of the lessons that are taught; None where there is none.
            checkup: Evaluates some subnets after every epoch; None to leave that out.
            strategy: Strategy of the training; None for the one that the configuration names.
        """
        self.subnets, self.store, self.task, self.seed, self.config = subnets, subnets.store, task, seed, config
        self.checkup, self.strategy = checkup, strategy or strategy_named(config.strategy)
        self.processes = current()
        if config.channels_last:
            for key, weight in self.store.weights.items():
                if weight.dim() == 4:
                    self.store.weights[key] = weight.contiguous(memory_format=torch.channels_last)
            subnets.forget()
        subnets.finish = compile_blocks if config.compile else None
        self.updates = Updates(subnets, task, seed, config, teacher, self.strategy)
        self.done = 0
        """Number of epochs that are done."""
        self.history: list[Epoch] = []
        self._notes: list[str] = []

    def run(self, checkpoint: Path | None = None, report: Report | None = None) -> list[Epoch]:
        """Train what is left of the configured epochs.

        Args:
            checkpoint: Folder written after every epoch; training continues from it where it holds one.
            report: Called after every epoch, in the first of several processes.

        Returns:
            Epochs done, those before a resume included.

        Raises:
            SupernetError: the checkpoint belongs to another space, task, seed or configuration; no loss is finite; or
                processes disagree.
        """
        self.processes.wait()  # the first one may still be writing what the others would read
        if checkpoint is not None and (checkpoint / FILE).exists():
            self.resume(checkpoint / FILE)
        with torch.random.fork_rng([self.subnets.device] if self.subnets.device.type == "cuda" else []):
            while self.done < self.config.epochs:
                self.history.append(self._epoch(self.done))
                self.done += 1
                self.processes.check_equal(fingerprint(self.store) if self.processes.size > 1 else "")
                if self.processes.is_first:
                    if checkpoint is not None:
                        self.save(checkpoint)
                    if report is not None:
                        report(self.history[-1], self.config.epochs)
        self.processes.wait()
        return self.history

    def _epoch(self, epoch: int) -> Epoch:
        config, steps, started = self.config, self.updates.steps, time.perf_counter()
        per_epoch = self.task.batches_per_epoch(config.batch_size)
        before = {k: w.clone() for k, w in self.store.weights.items()}
        losses, norms = list[Tensor](), list[Tensor]()
        images, lr, share = 0, 0.0, self.processes.share
        for i, (x, y) in enumerate(self.task.epoch(self.seed * 100_003 + epoch + 1, config.batch_size)):
            step = epoch * per_epoch + i
            lr = self.strategy.rate(self.store.space, step, steps, config.lr)
            self._enter(step)
            step_losses, norm = self.updates.step(share(x), share(y), step, lr)
            losses += step_losses
            norms += [] if norm is None else [norm]
            images += len(x) * len(step_losses)
        mean, left_out = self._summed_up(epoch, losses, norms)
        seconds = time.perf_counter() - started
        warnings = self._complaints(before, left_out, len(norms))
        health = None
        if self.checkup is not None and self.processes.is_first:
            health = self.checkup.look()
            warnings += self.checkup.complaints(health, (epoch + 1) / config.epochs, (epoch + 1) * per_epoch)
        self._warn(epoch, warnings)
        phase = self.strategy.phase(self.store.space, (epoch * per_epoch + len(norms) - 1) / steps).name
        return Epoch(epoch + 1, mean, lr, images / seconds, seconds, phase, left_out, health, tuple(warnings))

    def _summed_up(self, epoch: int, losses: list[Tensor], norms: list[Tensor]) -> tuple[float, int]:
        """Mean of the losses that are finite, and the number of steps that were left out."""
        found = torch.stack(losses)  # nothing before this line waits for the device
        mean = float(found[found.isfinite()].mean())
        left_out = int((~torch.stack(norms).isfinite()).sum()) if norms else 0
        if left_out > len(norms) // 2 or not math.isfinite(mean):
            raise SupernetError(
                f"the loss became {float(found[-1])} in epoch {epoch + 1}: {left_out} of {len(norms)} steps were left "
                f"out; the last checkpoint is intact.\n  Lower --train.lr ({self.config.lr})."
            )
        return mean, left_out

    def _complaints(self, before: dict[str, Tensor], left_out: int, steps: int) -> list[str]:
        found, self._notes = self._notes, []
        if left_out:
            found.append(
                f"{left_out} of {steps} steps had a loss or gradient that is not finite and were left out. "
                "Lower --train.lr."
            )
        if all(k in before and torch.equal(w, before[k]) for k, w in self.store.weights.items()):
            found.append(
                "no weight moved. Are all parameters frozen (requires_grad=False), or is lr too small for float32?"
            )
        return found

    def _warn(self, epoch: int, warnings: list[str]) -> None:
        """Warn of what no earlier epoch warned of, in the first of several processes."""
        known = {w for e in self.history for w in e.warnings}
        for text in warnings:
            if self.processes.is_first and text not in known:
                warn(f"epoch {epoch + 1}: {text}", SupernetWarning, stacklevel=2)

    def _enter(self, step: int) -> None:
        """Do what a phase of the strategy asks for before its first step."""
        steps = self.updates.steps
        phase = self.strategy.phase(self.store.space, step / steps)
        if step and phase == self.strategy.phase(self.store.space, (step - 1) / steps):
            return
        if phase.keeps_weights and isinstance(self.updates.teacher, FormerSelf):
            self.updates.teacher.keep(self.store)
        if phase.sorts_channels and not sort_channels(self.store, self.updates.optimiser):
            self._notes.append(
                f"no channels could be sorted before phase {phase.name!r}: none may be permuted alone. "
                "Widths open unsorted."
            )

    def _identity(self) -> dict[str, str]:
        """What a checkpoint must agree in with the run that continues it."""
        return {
            "format": FORMAT,
            "task": repr(self.task),
            "seed": str(self.seed),
            "config": json.dumps(asdict(self.config), sort_keys=True),
            "kernels": json.dumps(self.store.kernels, sort_keys=True),
        }

    def save(self, folder: Path) -> None:
        """Write weights, moments, history, and what they belong to.

        Args:
            folder: Folder that gets the checkpoint; the one it held before is replaced.
        """
        metadata = self._identity() | belonging_to(self.store.space)
        metadata |= {
            "epochs_done": str(self.done),
            "history": json.dumps([asdict(e) for e in self.history]),
            "metric": self.task.metric_name,
            "grown": json.dumps(sorted(self.store.grown)),
        }
        write_checkpoint(folder, metadata, self.updates.state())

    def resume(self, file: Path) -> None:
        """Take over a checkpoint.

        Args:
            file: Path of the checkpoint itself, not of its folder.

        Raises:
            SupernetError: it is broken, or belongs to another run.
        """
        metadata, tensors = read_checkpoint(file)
        done, _ = progress_of(metadata, file)
        settings = asdict(TrainConfig()) | json.loads(metadata["config"])  # what is younger stood at its default
        metadata["config"] = json.dumps(settings, sort_keys=True)
        metadata.setdefault("kernels", "{}")
        check_belongs(metadata, self.store.space, file)
        for name, value in self._identity().items():
            if metadata.get(name) != value:
                raise SupernetError(
                    f"checkpoint {str(file)!r} expected {name} {value!r}, got {metadata.get(name)!r}.\n"
                    "  Resume with the same task, seed and configuration, or choose another folder."
                )
        history = history_of(metadata)
        load_weights(self.store, tensors, metadata)
        self.subnets.forget()
        self.updates.load(tensors)
        self.done, self.history = done, history
