"""An ONNX file answers like a module, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasplat.errors import ExportError
from nasplat.frontends.examples import Inputs
from nasplat.probes.onnx_writer import name_of, reason_of
from nasplat.probes.runtimes import open_session

_FORMATS = {"float": torch.float32, "double": torch.float64, "float16": torch.float16, "bool": torch.bool}
_FORMATS |= {name: getattr(torch, name) for name in ("int64", "int32", "int16", "int8", "uint8")}
"""Number formats of torch by ONNX Runtime's names."""


class OnnxNetwork(nn.Module):
    """A file that answers like a module, so that two files can be compared."""

    def __init__(self, file: str | Path | bytes) -> None:
        """Open a file in ONNX Runtime.

        Args:
            file: Path of the ONNX file, or its bytes.

        Raises:
            ExportError: there is no such file, or ONNX Runtime refuses it.
        """
        super().__init__()
        if not isinstance(file, bytes):
            try:
                file = Path(file).read_bytes()
            except OSError as err:
                raise ExportError(f"expected an ONNX file, got {str(file)!r} ({err}).\n  Check the path.") from err
        self.session = open_session(file)
        given = self.session.get_inputs()
        self.names: list[str] = [i.name for i in given]
        self.shapes: list[list[Any]] = [list(i.shape) for i in given]
        self.answers: list[str] = [o.name for o in self.session.get_outputs()]

    @property
    def batch(self) -> int | None:
        """Number of examples that the file takes; None where it takes any number, or has no batch axis."""
        first = self.shapes[0][0] if self.shapes and self.shapes[0] else None
        return first if isinstance(first, int) else None

    @property
    def example(self) -> dict[str, Tensor]:
        """Tensors without values in the types and shapes of the file's inputs by name, free sizes counted as 1."""
        kinds = {i.name: described(i)["dtype"] for i in self.session.get_inputs()}
        sizes = ([size if isinstance(size, int) else 1 for size in shape] for shape in self.shapes)
        return {
            name: torch.empty(size, dtype=_FORMATS.get(kinds[name], torch.float32), device="meta")
            for name, size in zip(self.names, sizes, strict=True)
        }

    def forward(self, *tensors: Tensor, **named: Tensor) -> Any:
        """Answer as the file does; a file that takes one batch size alone is run on one such batch after another.

        Args:
            tensors: Inputs in the order of the file's, on the CPU.
            named: Inputs by name.

        Returns:
            The file's output; a tuple where it has several.

        Raises:
            ExportError: ONNX Runtime cannot take the inputs.
        """
        given = {**dict(zip(self.names, Inputs.tensors(tensors), strict=False)), **named}
        first = given.get(self.names[0]) if self.names else None
        size, fixed = (len(first) if first is not None and first.dim() else 1), self.batch
        if fixed is None or size == fixed:
            found = self.run(given)
        elif size % fixed:
            raise ExportError(
                f"expected batches of {fixed} examples, which is all that the file takes, got {size}.\n"
                f"  Give a multiple of {fixed}."
            )
        else:
            parts = [
                self.run({k: v[i : i + fixed] if v.dim() and len(v) == size else v for k, v in given.items()})
                for i in range(0, size, fixed)
            ]
            found = [np.concatenate(part) for part in zip(*parts, strict=True)]
        answers = tuple(torch.from_numpy(np.array(a)) for a in found)
        return answers[0] if len(answers) == 1 else answers

    def run(self, given: dict[str, Tensor]) -> list[np.ndarray]:
        """Answer one batch.

        Args:
            given: Inputs by name.

        Returns:
            All outputs, in order.

        Raises:
            ExportError: ONNX Runtime cannot take the inputs.
        """
        try:
            return self.session.run(None, {k: v.detach().numpy() for k, v in given.items()})
        except Exception as err:  # onnxruntime's errors have no common public base
            shapes = ", ".join(f"{k}: {name_of(v.dtype)} {tuple(v.shape)}" for k, v in given.items())
            raise ExportError(
                f"ONNX Runtime failed on {shapes}: {reason_of(err)}.\n  The file takes other inputs, or an operator of "
                "it does not run here."
            ) from err

    def fitted(self, inputs: Inputs, module: nn.Module) -> Inputs:
        """Fit inputs of a module to those of the file.

        Args:
            inputs: Inputs of the module.
            module: Module, whose arguments may be named as the file's inputs are.

        Returns:
            The inputs, the batch being where the file's inputs have an axis of any size.

        Raises:
            ExportError: the file has another number of inputs.
        """
        given = inputs.names(module)
        if len(given) != len(self.names):
            raise ExportError(
                f"expected a file with {len(given)} inputs, got one with {len(self.names)}: {', '.join(self.names)}.\n"
                "  Check example_input: a tuple gives several arguments, a dict gives named ones."
            )
        if set(given) == set(self.names):
            order = [self.names.index(name) for name in given]
            self.names, self.shapes = [self.names[i] for i in order], [self.shapes[i] for i in order]
        if self.batch is not None:
            return inputs
        free = [[a for a, size in enumerate(shape) if not isinstance(size, int)] for shape in self.shapes]
        return Inputs(inputs.arguments, tuple(axes[0] if axes else None for axes in free), inputs.limits)


def described(value: Any) -> dict[str, Any]:
    """Describe an input or output of a file.

    Args:
        value: Input or output, as ONNX Runtime's session lists it.

    Returns:
        Its name, number format and shape.
    """
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return {"name": value.name, "dtype": kind, "shape": list(value.shape)}
