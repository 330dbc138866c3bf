"""An ONNX file becomes a Graph, in the same vocabulary as a captured module.

Only the file itself is read, never its weights: their shapes are enough. External data must lie in the file's folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx.inliner import inline_local_functions

from nasplat.errors import CaptureError, InputError
from nasplat.frontends.onnx_inputs import file_inputs
from nasplat.frontends.onnx_reader import MAX_NODES, Reader
from nasplat.graph.graph import Graph

MAX_BYTES = 2**31
"""Bytes up to which a protocol buffer can be read."""
OLDEST = 7
"""First operator set whose broadcasting and shapes are those of today's."""


@dataclass(frozen=True)
class OnnxFile:
    """A network in an ONNX file; `graph()` reads it."""

    path: Path
    """Path of the file, which is not opened before something is asked of it."""

    @cached_property
    def _model(self) -> Any:
        return parse(self.path)

    @property
    def example_input(self) -> tuple[int, ...]:
        """Shape of the first input, sizes that the file leaves open counted as 1."""
        return file_inputs(self._model, None).inputs[0][1] or ()

    def graph(self, example_input: Any = None) -> Graph:
        """Read the file's graph, as `capture_onnx` does.

        Args:
            example_input: Shape (or tuple of shapes) that tells the sizes which the file leaves open; 1 otherwise.

        Returns:
            The graph, in the vocabulary of captured modules.
        """
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


def parse(path: Path) -> Any:
    """Read the model in an ONNX file, and lay out its functions where they are called.

    Args:
        path: Path of the file; external data must lie in its folder.

    Returns:
        ONNX's model without functions of its own.

    Raises:
        InputError: no such file, no ONNX, truncated, an operator set that is too old or too new, or external data that
            is missing or outside the folder.
        CaptureError: functions call themselves, or unfold to too many nodes.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"expected an ONNX file of at most 2 GiB, got {str(path)!r}.\n  Save its weights as external data."
            )
        data = path.read_bytes()
    except OSError as err:
        raise InputError(f"expected an ONNX file, got {str(path)!r} ({err.strerror}).\n  Check the path.") from err
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError) as err:
        raise InputError(
            f"expected an ONNX file, got {str(path)!r}: it does not decode.\n  It is truncated, or no ONNX."
        ) from err
    del data
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise InputError(
            f"expected an ONNX file with a graph, got {str(path)!r} with {len(model.graph.node)} nodes and "
            f"{len(model.graph.output)} outputs.\n  It is truncated, or no ONNX."
        )
    version = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), OLDEST)
    if not OLDEST <= version <= onnx.defs.onnx_opset_version():
        raise InputError(
            f"{path}: expected operator set {OLDEST} to {onnx.defs.onnx_opset_version()}, got {version}.\n"
            "  Convert the file with onnx.version_converter."
        )
    check_external(model, path)
    return _inlined(model, path) if model.functions else model


def _inlined(model: Any, path: Path) -> Any:
    """The model without functions of its own."""
    bodies = {(f.domain, f.name): f for f in model.functions}
    calls = {k: {(n.domain, n.op_type) for n in _nodes(f.node)} & bodies.keys() for k, f in bodies.items()}
    size: dict[Any, int] = {}
    pending = dict(calls)
    while pending:  # innermost first; what is left at the end calls itself
        ready = [k for k, inner in pending.items() if inner <= size.keys()]
        if not ready:
            raise CaptureError(
                f"{path}: function {next(iter(pending))[1]!r} calls itself.\n  Run onnx.checker on the file."
            )
        for k in ready:
            size[k] = sum(size.get((n.domain, n.op_type), 1) for n in _nodes(bodies[k].node))
            del pending[k]
    total = sum(size.get((n.domain, n.op_type), 1) for n in _nodes(model.graph.node))
    if total > MAX_NODES:
        raise CaptureError(
            f"{path}: expected at most {MAX_NODES} nodes, functions unfold to {total}.\n  Capture a part of it."
        )
    try:
        return inline_local_functions(model)
    except Exception as err:  # raised by compiled code without a public class
        raise CaptureError(
            f"{path}: functions cannot be inlined: {_first(err)}\n  Run onnx.checker on the file."
        ) from err


def _nodes(nodes: Any) -> Iterator[Any]:
    """Nodes, those of subgraphs included."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g.node)


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those inside its nodes."""
    yield graph
    for node in _nodes(graph.node):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g


def _first(err: BaseException) -> str:
    """First line of an error's message."""
    return str(err).splitlines()[0] if str(err) else type(err).__name__


def check_external(model: Any, path: Path) -> None:
    """Refuse a model whose external tensors do not all lie in files of its folder; nothing of them is read.

    Args:
        model: The model as it was read.
        path: Path of its file.

    Raises:
        InputError: a tensor's file is outside the folder, or missing.
    """
    folder = path.resolve().parent
    for graph in _graphs(model.graph):
        tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
        for tensor in tensors:
            entries = {e.key: e.value for e in tensor.external_data}
            if tensor.data_location != 1:
                continue
            location = entries.get("location", "")
            try:
                there = (folder / location).resolve()
                inside = bool(location) and "\0" not in location and there.is_relative_to(folder)
                exists = inside and there.is_file()
            except (OSError, ValueError, RuntimeError):
                inside = exists = False
            if not inside:
                raise InputError(
                    f"{path}: external data of {tensor.name!r} expected inside {str(folder)!r}, "
                    f"got {location[:120]!r}.\n"
                    "  Put the data file beside the ONNX file."
                )
            if not exists:
                raise InputError(
                    f"{path}: external data of {tensor.name!r} expected at {str(folder / location)!r}, "
                    "which does not exist.\n"
                    "  Copy the data file too."
                )
