"""Values that are known beside the recorded nodes, and guesses where a network asks for values that nobody knows.

Small integer inputs carry their values along as shadows, so that shape logic and index arithmetic on them answer truly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from nasplat.frontends.calls import CPU, Operator, is_fake, swap
from nasplat.frontends.origins import Origins
from nasplat.frontends.places import running_line
from nasplat.graph.bounds import GUESSED


class Values:
    """Shadows of tensors that depend on known inputs, and answers for all others."""

    def __init__(self, origins: Origins, first_answer: bool) -> None:
        """Begin without any shadow.

        Args:
            origins: Tells constants from results.
            first_answer: What a branch on unknown data is told at first.
        """
        self.origins, self.first_answer = origins, first_answer
        self.tape = origins.tape
        self.shadows: dict[int, Tensor] = {}
        """Real values of tensors that stand for an input or were computed from one."""
        self.answers: dict[str, int] = {}
        """Guesses so far, by line of the network's code."""

    def shadow(self, func: Any, operator: Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Run a call on real values where every operand's values are known and at least one came from an input.

        Args:
            func: The overload that is called.
            operator: What its schema says.
            flat: Tensors among the arguments.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.

        Returns:
            The call's result, or None where values are missing or the operator refuses them.
        """
        shadows = self.shadows
        if not any(id(t) in shadows for t in flat) or not all(
            id(t) in shadows or self.origins.is_constant(t) for t in flat
        ):
            return None
        try:
            with _disable_current_modes():
                real_args, real_kwargs = (swap(a, lambda t: shadows.get(id(t), t).clone()) for a in (args, kwargs))
                real_args, real_kwargs = operator.on(CPU, real_args, real_kwargs)
                return func(*real_args, **real_kwargs)
        except (RuntimeError, NotImplementedError, TypeError):
            return None

    def keep(self, tensor: Tensor, shadow: Any, slot: int) -> None:
        """Keep the values of one output of a call, where they are small and of its shape.

        Args:
            tensor: The output, as the network sees it.
            shadow: What the call returned on real values.
            slot: Which of the call's outputs it is.
        """
        value = shadow if isinstance(shadow, Tensor) else shadow[slot] if slot < len(shadow) else None
        if isinstance(value, Tensor) and value.numel() <= self.origins.keep and value.shape == tensor.shape:
            self.shadows[id(tensor)] = value

    def known(self, tensor: Tensor) -> Tensor | None:
        """Look up the values of a tensor.

        Args:
            tensor: Any tensor the network holds.

        Returns:
            A tensor with the values, or None where nobody knows them.
        """
        if id(tensor) in self.shadows:
            return self.shadows[id(tensor)]
        return tensor if self.origins.is_constant(tensor) else None

    def scalar(self, func: Any, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Answer a call that returns a plain number or truth value, by a guess where the values are unknown.

        Args:
            func: The overload, such as that of `item`.
            flat: Tensors among the arguments.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.

        Returns:
            A number or a truth value.
        """
        values = [self.known(t) for t in flat]
        if all(v is not None for v in values):
            found: dict[int, Tensor] = {id(t): v for t, v in zip(flat, values, strict=True) if v is not None}
            with _disable_current_modes():
                return func(*swap(args, lambda t: found[id(t)]), **kwargs)
        if self.origins.make_twin is not None and not is_fake(self.origins.twin(flat[0])):
            self.tape.doubt(f"{running_line()}: a value of the data decides here; that of one run was taken", GUESSED)
            with _disable_current_modes():
                return func(*args, **kwargs)
        return self.guess(flat[0].dtype, func._overloadpacket.__name__ not in {"_local_scalar_dense", "item"})

    def guess(self, dtype: torch.dtype, is_claim: bool = False) -> Any:
        """Answer for a value nobody knows.

        The guess is noted. It changes after several visits of one line, so that loops end.

        Args:
            dtype: Type of the tensor that is asked.
            is_claim: The question is one of truth, whatever the tensor's type.

        Returns:
            A truth value, or a number of the type.
        """
        where = running_line()
        visits = self.answers[where] = self.answers.get(where, 0) + 1
        self.tape.doubt(f"{where}: a value of the data decides here; capture answered a guess", GUESSED)
        truth = (visits % 8 == 0) != self.first_answer
        if is_claim or dtype == torch.bool:
            return truth
        truth = (visits % 512 == 0) != self.first_answer  # numbers are sizes more often than conditions of a loop
        return float(truth) if dtype.is_floating_point else complex(truth) if dtype.is_complex else int(truth)
