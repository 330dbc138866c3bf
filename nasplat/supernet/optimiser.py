"""AdamW whose gradient, moments and weight decay touch only the slices that were sampled.

The update itself is torch's; it is applied to views of the weights and of the moments. Where the sampled slices of one
weight do not nest, the elements outside all of them are put back.
Source: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from nasplat.supernet.slicing import Rule, give, take
from nasplat.supernet.store import Store

BETAS = (0.9, 0.98)
EPSILON = 1e-8


class MaskedAdamW:
    """Optimiser state of a store."""

    def __init__(self, store: Store, weight_decay: float, dense: bool = False) -> None:
        """Args:
        store: What is trained.
        weight_decay: Decoupled decay, on tensors with two or more axes.
        dense: True moves every weight of a touched key, as Once-for-All does.
        """
        self.store, self.weight_decay, self.dense = store, weight_decay, dense
        self.mean = {k: torch.zeros_like(w) for k, w in store.weights.items()}
        self.square = {k: torch.zeros_like(w) for k, w in store.weights.items()}
        self.steps = {k: torch.zeros((), dtype=torch.float32) for k in store.weights}

    def step(self, gradients: dict[str, Tensor], touched: dict[str, set[tuple[int, ...]]], lr: float, clip: float) -> float:
        """One update.

        Args:
            gradients: Full-sized gradient of each touched weight.
            touched: Shapes of the slices sampled of each weight.
            lr: Learning rate.
            clip: Largest global norm of the gradient.

        Returns:
            The global norm before clipping.
        """
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients.values()]))
        scale = torch.clamp(clip / (norm + 1e-6), max=1.0)
        groups: dict[float, list[tuple[Tensor, ...]]] = {}
        restore: list[tuple[Tensor, Tensor, Tensor]] = []
        for key, gradient in gradients.items():
            rule, stored = self.store.rules[key], self.store.weights[key]
            whole, views = tuple(stored.shape), [stored, gradient.mul_(scale), self.mean[key], self.square[key]]
            shape = tuple(map(max, *touched[key])) if len(touched[key]) > 1 else next(iter(touched[key]))
            if not self.dense and rule is not None and whole not in touched[key]:
                is_view = rule.is_view(whole, shape)
                if is_view:
                    views = [take(v, shape, rule, key) for v in views]
                if not is_view or shape not in touched[key]:
                    outside = ~_covered(stored, touched[key], rule, key)
                    restore += [(t, outside, t[outside]) for t in (stored, self.mean[key], self.square[key])]
            decay = self.weight_decay if stored.dim() > 1 else 0.0
            groups.setdefault(decay, []).append((*views, self.steps[key]))
        for decay, rows in groups.items():
            weights, grads, means, squares, steps = (list(column) for column in zip(*rows, strict=True))
            adamw(
                *(weights, grads, means, squares, [], steps),
                foreach=False,
                fused=False,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=lr,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )
        for tensor, outside, values in restore:
            tensor[outside] = values
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Flat tensors for a checkpoint."""
        parts = {"mean": self.mean, "square": self.square, "steps": self.steps}
        return {f"{name}/{key}": t for name, group in parts.items() for key, t in group.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` returned."""
        for name, group in {"mean": self.mean, "square": self.square, "steps": self.steps}.items():
            for key in group:
                group[key].copy_(state[f"{name}/{key}"])


def _covered(stored: Tensor, shapes: Iterable[tuple[int, ...]], rule: Rule, key: str) -> Tensor:
    """True where any of the slices reads the stored weight."""
    reads = torch.zeros_like(stored)
    for shape in shapes:
        give(reads, torch.ones(shape, dtype=stored.dtype, device=stored.device), rule, key)
    return reads != 0
