"""An ONNX file becomes a Graph, in the same vocabulary as a captured module.

What reads it loads with the first file: onnx takes as long to load as a tenth of torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nasplat.graph.graph import Graph


@dataclass(frozen=True)
class OnnxFile:
    """A network in an ONNX file; `graph()` reads it."""

    path: Path
    """Path of the file, which is not opened before something is asked of it."""

    @cached_property
    def _model(self) -> Any:
        from nasplat.frontends.onnx_file import parse

        return parse(self.path)

    @property
    def example_input(self) -> tuple[int, ...]:
        """Shape of the first input, sizes that the file leaves open counted as 1."""
        from nasplat.frontends.onnx_inputs import file_inputs

        return file_inputs(self._model, None).inputs[0][1] or ()

    def graph(self, example_input: Any = None) -> Graph:
        """Read the file's graph, as `capture_onnx` does.

        Args:
            example_input: Shape (or tuple of shapes) that tells the sizes which the file leaves open; 1 otherwise.

        Returns:
            The graph, in the vocabulary of captured modules.
        """
        from nasplat.frontends.onnx_inputs import file_inputs
        from nasplat.frontends.onnx_reader import Reader

        return Reader(self._model, self.path, file_inputs(self._model, example_input)).read()

    def __str__(self) -> str:
        """Path of the file, as a result names the network."""
        return str(self.path)


def capture_onnx(path: str | Path, example_input: Any = None) -> Graph:
    """Read the graph of an ONNX file.

    Args:
        path: Path of the file; external data must lie in its folder.
        example_input: Shape (or tuple of shapes) that tells the sizes which the file leaves open. What it leaves open
            too is assumed to be 1, and noted but for the number of examples.

    Returns:
        The graph; operators that the vocabulary lacks are `other:<name>`, with their domain where it is not ONNX's.

    Raises:
        InputError: no such file, no ONNX, truncated, external data that is missing or outside the folder, or an example
            that contradicts the file.
        CaptureError: the graph is cyclic or contradicts itself.
    """
    return OnnxFile(Path(path)).graph(example_input)
