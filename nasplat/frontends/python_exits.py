"""Python ways out of a tensor (`.numpy()`, `.tolist()`, `in`, packed sequences) answered while a capture runs.

The dispatch mode never sees them, and they fail on meta tensors. Answers are the true values where they are known, else
guesses, noted like every guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from nasplat.frontends.values import Values


class Escapes(TorchFunctionMode):
    """Answers calls that leave torch; to be entered outside a `Recorder`."""

    def __init__(self, values: Values) -> None:
        """Prepare the answers of one capture.

        Args:
            values: Values that are known to the recorder, and guesses for the others.
        """
        super().__init__()
        self.values = values
        self.answers: dict[Any, Callable[..., Any]] = {
            Tensor.numpy: lambda t, *a, **k: self._value(t).numpy(),
            Tensor.__array__: lambda t, *a, **k: self._value(t).numpy(),
            Tensor.tolist: lambda t: self._value(t).tolist(),
            Tensor.__contains__: self._contains,
            Tensor.cuda: lambda t, *a, **k: t,
            Tensor.cpu: lambda t, *a, **k: t,
            Tensor.pin_memory: lambda t, *a, **k: t,
            Tensor.__format__: lambda t, spec: format(self._value(t).item() if t.dim() == 0 else self._value(t), spec),
            Tensor.__index__: lambda t: int(self._value(t).item()),
            torch._VF._pack_padded_sequence: self._pack,  # type: ignore[attr-defined]
            torch._VF._pad_packed_sequence: self._unpack,  # type: ignore[attr-defined]
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer one call, or let torch run it."""
        answer = self.answers.get(func)
        if answer is not None:
            return answer(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _value(self, tensor: Tensor) -> Tensor:
        """A tensor with the values, or with guesses in their place."""
        known = self.values.known(tensor)
        with _disable_current_modes():
            if known is not None:
                return known.detach()
            guess = self.values.guess(tensor.dtype)
            return torch.full(tuple(tensor.shape), guess, dtype=tensor.dtype, device="cpu")

    def _contains(self, tensor: Tensor, value: Any) -> bool:
        known = self.values.known(tensor)
        if known is not None and not (isinstance(value, Tensor) and value.device.type == "meta"):
            with _disable_current_modes():
                return bool((known == value).any())
        return bool(self.values.guess(torch.bool))

    def _pack(self, data: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        """Sequences one after another: as many steps as they hold together (unknown lengths count whole)."""
        known = self.values.known(lengths)
        batch, steps = (data.shape[0], data.shape[1]) if batch_first else (data.shape[1], data.shape[0])
        with _disable_current_modes():
            sizes = known.clone() if known is not None else torch.full((batch,), steps)
            alive = torch.stack([(sizes > step).sum() for step in range(int(sizes.max()))])
        rows = data if batch_first else data.transpose(0, 1)
        total = int(alive.sum())
        return rows.reshape(batch * steps, *rows.shape[2:])[:total], alive

    def _unpack(
        self, data: Tensor, alive: Tensor, batch_first: bool, padding: float, total: int
    ) -> tuple[Tensor, Tensor]:
        """Packed sequences side by side again, and their lengths."""
        with _disable_current_modes():
            batch, steps = int(alive[0]), max(int(total), len(alive))
            lengths = torch.stack([(alive > i).sum() for i in range(batch)])
        padded = data.new_full((batch * steps, *data.shape[1:]), padding)
        padded[: data.shape[0]] = data
        padded = padded.reshape(batch, steps, *data.shape[1:])
        return (padded if batch_first else padded.transpose(0, 1)), lengths
