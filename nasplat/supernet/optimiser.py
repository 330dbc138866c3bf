"""AdamW whose gradient, moments and weight decay touch only the slices that were sampled.

Gradients are kept as large as the slices they are of; the update itself is torch's, applied to views of the weights and
of the moments. Where the sampled slices of one weight do not nest, the elements outside all of them are put back. A
step whose gradient is not finite changes nothing. Source: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from nasplat.errors import SupernetError
from nasplat.supernet.slicing import Rule, give, take

BETAS = (0.9, 0.98)
EPSILON = 1e-8
Shape = tuple[int, ...]
Piece = tuple[Shape, Rule | None]
"""Shape of a slice, and the rule by which one member takes it; None where all members take it by the weight's rule."""


class MaskedAdamW:
    """AdamW over the weights of a store: gradients of the sampled slices, and moments of the whole weights."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        rules: Mapping[str, Rule | None],
        weight_decay: float,
        dense: bool = False,
        gathers: bool | None = None,
    ) -> None:
        """Begin with moments of zero.

        Args:
            weights: Tensors that are trained, by address; they are changed in place.
            rules: How slices of each are taken; None, or no entry, where only the whole is.
            weight_decay: Decoupled decay, on tensors with two or more axes.
            dense: True moves every weight of a touched key, as Once-for-All does.
            gathers: Copy strided slices together for torch's fused update, which reads no strides: on a GPU fewer
                kernels, on a CPU slower than the plain update of views. None decides by the device.
        """
        self.weights, self.rules, self.weight_decay, self.dense = weights, rules, weight_decay, dense
        self.mean = {k: torch.zeros_like(w) for k, w in weights.items()}
        self.square = {k: torch.zeros_like(w) for k, w in weights.items()}
        on_gpu = any(w.is_cuda for w in weights.values())
        self.gathers = on_gpu if gathers is None else gathers
        self.steps = {k: torch.zeros((), dtype=torch.float32, device=w.device) for k, w in weights.items()}
        self.gradients: dict[str, Tensor] = {}
        """Gradients of the step that is under way, by address, each as large as the slices that were sampled."""
        self.touched: dict[str, set[Piece]] = {}
        """Slices that were sampled in this step, by address."""

    def add(self, key: str, gradient: Tensor, shape: Shape | None = None, rule: Rule | None = None) -> None:
        """Add to the gradient of the step.

        Args:
            key: Address of the weight.
            gradient: Gradient of a slice, which is taken over without a copy; or of the whole weight.
            shape: Shape of the slice that was sampled, where the gradient is that of the whole weight.
            rule: How the member takes the slice, where it is not the weight's own rule; the gradient is that of the
                whole weight then.
        """
        if self.mean.get(key, gradient.new_empty(0)).shape != self.weights[key].shape:
            self._follow(key)
        self.touched.setdefault(key, set()).add((shape or tuple(gradient.shape), rule))
        before = self.gradients.get(key)
        if before is None:
            self.gradients[key] = gradient
            return
        both = tuple(map(max, before.shape, gradient.shape))
        if both != tuple(before.shape):
            before = self._grown(key, before, both)
            self.gradients[key] = before
        self._cut(key, before, tuple(gradient.shape)).add_(gradient)

    def _follow(self, key: str) -> None:
        """Make moments for a weight that is new, or larger than before."""
        weight = self.weights[key]
        for moments in (self.mean, self.square):
            before, moments[key] = moments.get(key), torch.zeros_like(weight)
            if before is not None:
                self._cut(key, moments[key], tuple(before.shape)).copy_(before)
        self.steps.setdefault(key, torch.zeros((), dtype=torch.float32, device=weight.device))

    def _cut(self, key: str, of: Tensor, shape: Shape) -> Tensor:
        rule = self.rules.get(key)
        return of if rule is None or tuple(of.shape) == shape else take(of, shape, rule, key)

    def _grown(self, key: str, part: Tensor, shape: Shape) -> Tensor:
        grown = part.new_zeros(shape)
        self._cut(key, grown, tuple(part.shape)).copy_(part)
        return grown

    def step(self, lr: float, clip: float) -> Tensor | None:
        """Update the weights once with the gradients that were added, which are gone then.

        Args:
            lr: Learning rate of this step.
            clip: Largest global norm of the gradient; larger gradients are scaled down to it.

        Returns:
            The global norm before clipping, shape (), on the weights' device; None where nothing was added. Where it is
            not finite, nothing changed.
        """
        gradients, touched = self.gradients, self.touched
        self.gradients, self.touched = {}, {}
        if not gradients:
            return None
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        is_host = norm.device.type == "cpu"
        if is_host and not bool(torch.isfinite(norm)):
            return norm
        torch._foreach_mul_(list(gradients.values()), torch.clamp(clip / (norm + 1e-6), max=1.0))
        plain: dict[float, list[tuple[Tensor, ...]]] = {}
        fused: dict[float, list[tuple[Tensor, ...]]] = {}
        scattered: list[tuple[Tensor, Tensor]] = []
        restored: list[tuple[Tensor, Tensor, Tensor]] = []
        for key, gradient in gradients.items():
            region, is_exact = self._region(key, touched[key])
            gradient = self._fitted(key, gradient, region)
            views = [self._cut(key, t[key], region) for t in (self.weights, self.mean, self.square)]
            if not is_exact:
                outside = ~self._covered(key, gradient, touched[key])
                restored += [(v, outside, v.clone()) for v in views]
            decay = self.weight_decay if gradient.dim() > 1 else 0.0
            if all(v.is_contiguous() for v in views):
                fused.setdefault(decay, []).append((views[0], gradient.contiguous(), *views[1:], self.steps[key]))
            elif self.gathers or not is_host:  # only the fused update can leave a step out without the host knowing
                copies = [v.contiguous() for v in views]
                scattered += zip(views, copies, strict=True)
                fused.setdefault(decay, []).append((copies[0], gradient.contiguous(), *copies[1:], self.steps[key]))
            else:
                plain.setdefault(decay, []).append((views[0], gradient, *views[1:], self.steps[key]))
        found_inf = None if is_host else (~torch.isfinite(norm)).float()
        for is_fused, groups in ((True, fused), (False, plain)):
            for decay, rows in groups.items():
                self._update(rows, is_fused, decay, lr, found_inf)
        if scattered:
            torch._foreach_copy_([v for v, _ in scattered], [c for _, c in scattered])
        for view, outside, old in restored:
            view.copy_(torch.where(outside, old, view))
        return norm

    def _region(self, key: str, pieces: set[Piece]) -> tuple[Shape, bool]:
        """Shape of what is updated of a weight, and whether that is one of the sampled slices."""
        rule, whole = self.rules.get(key), tuple(self.weights[key].shape)
        shapes = {shape for shape, _ in pieces}
        if self.dense or rule is None or whole in shapes:
            return whole, True
        if any(own is not None for _, own in pieces):
            return whole, False
        shape = tuple(map(max, *shapes)) if len(shapes) > 1 else next(iter(shapes))
        return (shape, shape in shapes) if rule.is_view(whole, shape) else (whole, False)

    def _fitted(self, key: str, gradient: Tensor, region: Shape) -> Tensor:
        """Cut or pad a gradient to a region, which holds all of it."""
        have = tuple(gradient.shape)
        return (
            gradient
            if have == region
            else self._grown(key, self._cut(key, gradient, tuple(map(min, have, region))), region)
        )

    def _covered(self, key: str, gradient: Tensor, pieces: Iterable[Piece]) -> Tensor:
        """Mask of the gradient's shape: True where any of the slices reads the weight."""
        reads, rule = torch.zeros_like(gradient), self.rules[key]
        assert rule is not None
        for shape, own in pieces:
            give(reads, torch.ones(shape, dtype=gradient.dtype, device=gradient.device), own or rule, key)
        return reads != 0

    @staticmethod
    def _update(
        rows: list[tuple[Tensor, ...]], is_fused: bool, decay: float, lr: float, found_inf: Tensor | None
    ) -> None:
        weights, gradients, means, squares, steps = (list(column) for column in zip(*rows, strict=True))
        adamw(
            *(weights, gradients, means, squares, [], steps),
            foreach=not is_fused,
            fused=is_fused,
            found_inf=found_inf if is_fused else None,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr,
            weight_decay=decay,
            eps=EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Gather the moments for a checkpoint.

        Returns:
            Tensors by section and address, such as 'mean/stem.weight'.
        """
        parts = {"mean": self.mean, "square": self.square, "steps": self.steps}
        return {f"{name}/{key}": t for name, group in parts.items() for key, t in group.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over moments.

        Args:
            state: Tensors as `state` returned them; addresses that it lacks keep their moments.

        Raises:
            SupernetError: a moment does not fit its weight, or is not finite.
        """
        for name, group in {"mean": self.mean, "square": self.square, "steps": self.steps}.items():
            for key, weight in self.weights.items():
                value = state.get(f"{name}/{key}")
                if value is None:
                    continue
                whole = () if name == "steps" else tuple(weight.shape)
                # a weight that grew after its last step has smaller moments
                if value.dim() != len(whole) or any(v > w for v, w in zip(value.shape, whole, strict=True)):
                    raise SupernetError(
                        f"checkpoint expected {name} of weight {key!r} as {whole}, got {tuple(value.shape)}.\n"
                        "  Restore the file, or train again."
                    )
                if not value.is_floating_point() or not bool(value.isfinite().all()):
                    raise SupernetError(
                        f"checkpoint expected finite {name} of weight {key!r}, got others.\n  Restore the file."
                    )
                group[key] = value.to(weight.device).clone()

    def state_with_weights(self) -> dict[str, Tensor]:
        """Gather weights and moments for a checkpoint.

        Returns:
            Tensors by section and address, such as 'weight/stem.weight'.
        """
        return {f"weight/{k}": w for k, w in self.weights.items()} | self.state()

    def load_with_weights(self, state: Mapping[str, Tensor]) -> None:
        """Take over weights, in place, and moments.

        Args:
            state: Tensors as `state_with_weights` returned them.

        Raises:
            SupernetError: a weight is missing or of another shape, or a moment does not fit.
        """
        for key, weight in self.weights.items():
            value = state.get(f"weight/{key}")
            if value is None or value.shape != weight.shape:
                raise SupernetError(
                    f"checkpoint expected weight {key!r} of the teacher as {tuple(weight.shape)}, got "
                    f"{'none' if value is None else tuple(value.shape)}.\n  Resume with the same teacher."
                )
            weight.copy_(value)
        self.load(state)
