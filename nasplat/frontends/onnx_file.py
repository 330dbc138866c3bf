"""The model in an ONNX file, checked and without functions of its own.

Only the file itself is read, never its weights: their shapes are enough. External data must lie in the file's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx.inliner import inline_local_functions

from nasplat.errors import CaptureError, InputError
from nasplat.frontends.onnx_patterns import all_nodes, subgraphs
from nasplat.frontends.onnx_reader import MAX_NODES

MAX_BYTES = 2**31
"""Bytes up to which a protocol buffer can be read."""
MAX_ENTRIES = 100_000
"""Files of a folder that are looked at for further names of a file."""
OLDEST = 7
"""First operator set whose broadcasting and shapes are those of today's."""


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
    if any(
        not isinstance(text, str) for text in _texts(model)
    ):  # protobuf hands out bytes that are no text as they are
        raise InputError(f"expected an ONNX file, got {str(path)!r}: a name in it is no text.\n  It is damaged.")
    try:
        total = sum(1 for _ in islice(all_nodes(model.graph.node), MAX_NODES + 1))
    except RecursionError as err:
        raise CaptureError(f"{path}: subgraphs are nested too deep.\n  Run onnx.checker on the file.") from err
    if total > MAX_NODES:
        raise CaptureError(f"{path}: expected at most {MAX_NODES} nodes, got more.\n  Capture a part of the network.")
    check_external(model, path)
    return _inlined(model, path) if model.functions else model


def _inlined(model: Any, path: Path) -> Any:
    """The model without functions of its own."""
    bodies = {(f.domain, f.name): f for f in model.functions}
    calls = {k: {(n.domain, n.op_type) for n in all_nodes(f.node)} & bodies.keys() for k, f in bodies.items()}
    size: dict[Any, int] = {}
    pending = dict(calls)
    while pending:  # innermost first; what is left at the end calls itself
        ready = [k for k, inner in pending.items() if inner <= size.keys()]
        if not ready:
            raise CaptureError(
                f"{path}: function {next(iter(pending))[1]!r} calls itself.\n  Run onnx.checker on the file."
            )
        for k in ready:
            size[k] = sum(size.get((n.domain, n.op_type), 1) for n in all_nodes(bodies[k].node))
            del pending[k]
    total = sum(size.get((n.domain, n.op_type), 1) for n in all_nodes(model.graph.node))
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


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those inside its nodes."""
    yield graph
    for node in all_nodes(graph.node):
        yield from subgraphs(node)


def _first(err: BaseException) -> str:
    """First line of an error's message."""
    return str(err).splitlines()[0] if str(err) else type(err).__name__


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors with values in a model, those of subgraphs and functions included."""
    graphs = [*_graphs(model.graph), *(g for f in model.functions for n in all_nodes(f.node) for g in subgraphs(n))]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in (n for nodes in (model.graph.node, *(f.node for f in model.functions)) for n in all_nodes(nodes)):
        for a in node.attribute:
            yield from ([a.t] if a.HasField("t") else [])
            yield from a.tensors
            for sparse in [*([a.sparse_tensor] if a.HasField("sparse_tensor") else []), *a.sparse_tensors]:
                yield from (sparse.values, sparse.indices)


def _texts(model: Any) -> Iterator[Any]:
    """Every name in a model."""
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
    yield from (o.domain for o in model.opset_import)
    for graph in _graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (d.dim_param for d in value.type.tensor_type.shape.dim)
    for node in (n for nodes in (model.graph.node, *(f.node for f in model.functions)) for n in all_nodes(nodes)):
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (a.name for a in node.attribute)
    for tensor in _tensors(model):
        yield tensor.name
        yield from (text for e in tensor.external_data for text in (e.key, e.value))


def check_external(model: Any, path: Path) -> None:
    """Refuse a model whose external tensors do not all lie in files of its folder; nothing of them is read.

    Args:
        model: The model as it was read.
        path: Path of its file.

    Raises:
        InputError: a tensor's file is outside the folder, by its path or by a link, or missing.
    """
    folder = path.resolve().parent
    seen: set[str] = set()
    for tensor in _tensors(model):
        if tensor.data_location != 1:
            continue
        location = {e.key: e.value for e in tensor.external_data}.get("location", "")
        if location in seen:
            continue
        seen.add(location)
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
                "  Put the data file itself, no link to it, beside the ONNX file."
            )
        if not exists:
            raise InputError(
                f"{path}: external data of {tensor.name!r} expected at {str(folder / location)!r}, "
                "which does not exist.\n"
                "  Copy the data file too."
            )
        if not _is_only_here(there, folder):
            raise InputError(
                f"{path}: external data of {tensor.name!r} expected in a file of {str(folder)!r} alone, got "
                f"{location[:120]!r}, a hard link to a file that has another name elsewhere.\n"
                "  Copy the data file instead of linking it."
            )


def _is_only_here(file: Path, folder: Path) -> bool:
    """Whether all names of a file lie in a folder; a hard link could show a file that its reader may not see."""
    about = file.stat()
    if about.st_nlink <= 1:
        return True
    names = 0
    for place in {folder, file.parent}:
        with os.scandir(place) as entries:
            for entry in islice(entries, MAX_ENTRIES):
                found = entry.stat(follow_symlinks=False)
                names += (found.st_dev, found.st_ino) == (about.st_dev, about.st_ino)
    return names >= about.st_nlink
