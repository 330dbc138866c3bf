"""What a student learns from a teacher: losses of not answering alike, and a learnt map between their features.

Sources: Hinton et al. 2015, arXiv:1503.02531 (soft targets); Romero et al. 2015, arXiv:1412.6550 (features).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import SupernetError
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.task.bundle import Bundle, feed


def forward_with_features(
    module: nn.Module, x: Tensor | Bundle, with_features: bool
) -> tuple[Tensor | list[Tensor], Tensor | None]:
    """Run a network and, where asked for, keep what its last linear layer reads.

    Args:
        module: Network to run.
        x: Inputs of shape (B, …).
        with_features: True to return features too.

    Returns:
        Output of the network, and features of shape (B, d), or None without `with_features`.

    Raises:
        SupernetError: features are asked for and there is no linear layer.
    """
    if not with_features:
        return feed(module, x), None
    last = next((m for m in reversed(list(module.modules())) if isinstance(m, nn.Linear)), None)
    if last is None:
        raise SupernetError(
            "distillation of features expected a network with a linear layer, got none.\n"
            "  Use --train.distill=soft or hard."
        )
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        output = feed(module, x)
    finally:
        handle.remove()
    return output, seen[-1].flatten(1) if seen[-1].dim() != 3 else seen[-1].mean(1)


def final(output: Tensor | list[Tensor]) -> Tensor:
    """Pick what a network answers in the end.

    Args:
        output: One tensor, or several maps from the coarsest to the finest.

    Returns:
        The tensor, or the last map, as float32.
    """
    return (output if isinstance(output, Tensor) else output[-1]).float()


def distillation_loss(output: Tensor | list[Tensor], teacher: Tensor, kind: str, temperature: float) -> Tensor:
    """Measure how far a student's answer is from its teacher's.

    Args:
        output: Answer of the student, float32, or several maps.
        teacher: Final answer of the teacher, detached; of the shape of the student's.
        kind: soft (divergence of the softened class probabilities) or hard (cross-entropy with the most likely class).
        temperature: Divides the outputs before the softmax of soft.

    Returns:
        Scalar loss: soft or hard for classes (B, C); mean squared difference for anything else; the mean of smooth L1
        over maps, where there are several.
    """
    if not isinstance(output, Tensor):
        return torch.stack([F.smooth_l1_loss(m.float(), teacher) for m in output]).mean()
    if output.dim() != 2 or output.shape[1] < 2 or not output.is_floating_point():
        return F.mse_loss(output, teacher)
    if kind == "hard":
        return F.cross_entropy(output, teacher.argmax(1))
    soft = F.log_softmax(output / temperature, 1)
    return F.kl_div(soft, F.softmax(teacher / temperature, 1), reduction="batchmean") * temperature**2


class Imitation:
    """A learnt linear map from features of the student to where the teacher's features are."""

    def __init__(self, device: torch.device, weight_decay: float, seed: int) -> None:
        """Begin without a map; the first features decide its size.

        Args:
            device: Torch device that the features are on.
            weight_decay: Decoupled weight decay of the map.
            seed: Seed of the map's initial values.
        """
        self.device, self.weight_decay, self.seed = device, weight_decay, seed
        self.map: Tensor | None = None
        self.optimiser: MaskedAdamW | None = None

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Measure how far mapped features are from the teacher's; the map grows with the features' widths.

        Args:
            student: Features of the student, shape (B, d).
            teacher: Features of the teacher, shape (B, e).

        Returns:
            Mean squared difference of the features as unit vectors, a scalar.
        """
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
        """Gather what a checkpoint must hold of the map.

        Returns:
            The map with its moments, by name; nothing before the first features.
        """
        return {} if self.optimiser is None else self.optimiser.state_with_weights()

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the map of a checkpoint.

        Args:
            state: Tensors that `state` returned.
        """
        if state:
            self._grow(*state["weight/map"].shape)
            assert self.optimiser is not None
            self.optimiser.load_with_weights(state)
