"""Files of published computation graphs (GENNAPE, AIO-P, AutoGO) become graphs: JSON, gzipped JSON, pickled caches.

A pickle can run code, so none of it is run: an unpickler of our own knows an allow-list of names, each of which makes
an inert holder of data; any other name is an error.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasplat.errors import GraphError, InputError
from nasplat.graph.graph import Graph
from nasplat.graph.published import PublishedGraph, from_fields, graph_from_published
from nasplat.tables.spreadsheets import unpacked


@dataclass(frozen=True)
class Published:
    """One network of a published file, with what the file says about it."""

    name: str
    """Name of the network in the file."""
    graph: PublishedGraph
    """The computation graph in the publication's own vocabulary."""
    label: float | None = None
    """Accuracy as a fraction, or the task's metric, as the file holds it."""
    flops: float | None = None
    """FLOPs as the file holds them."""
    params: float | None = None
    """Number of parameters as the file holds it."""
    config: Any = None
    """The network's configuration in the publication's space, plain data."""

    def as_graph(self) -> Graph:
        """Translate the computation graph into our vocabulary.

        Returns:
            A graph without a program.
        """
        return graph_from_published(self.graph)


def read_published(path: str | Path) -> list[Published]:
    """Read every graph of a published file.

    Args:
        path: A file that ends in `.json`, `.json.gz`, `.pkl` or `.pkl.gz`.

    Returns:
        One entry per network, in the order of the file.

    Raises:
        InputError: no such file, or a pickle that names anything beyond the published classes.
        GraphError: an entry holds no graph.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> relu = {"op_type_idx": 6, "resolution": [8, 8, 8, 8, 4, 4]}
        >>> graph = {"weighted_nodes": [], "regular_nodes": [relu, relu], "edge_pairs": [[0, 1]]}
        >>> file = Path(tempfile.mkdtemp()) / "graphs.json"
        >>> _ = file.write_text(json.dumps({"first": {"cg": graph, "acc": 0.93}}))
        >>> [(entry.name, entry.label, entry.graph.histogram) for entry in read_published(file)]
        [('first', 0.93, {'relu': 2})]
    """
    file = Path(path)
    try:
        data = unpacked(file.read_bytes())
    except OSError as err:
        raise InputError(f"expected a file of published graphs, got {str(file)!r} ({err}).\n  Check the path.") from err
    found = _unpickled(data, file) if ".pkl" in file.name else _decoded(data, file)
    entries: list[tuple[str, Any]]
    if isinstance(found, Mapping) and "edge_pairs" not in found:
        entries = [(str(k), v) for k, v in found.items()]
    else:
        entries = (
            [(str(i), e) for i, e in enumerate(found)]
            if isinstance(found, list | tuple)
            else [(file.name.split(".")[0], found)]
        )
    return [_entry(name, entry) for name, entry in entries]


def _decoded(data: bytes, file: Path) -> Any:
    """Contents of a JSON file."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        raise InputError(f"expected JSON of published graphs, got {str(file)!r} ({err}).\n  Check the file.") from err


def _entry(name: str, entry: Any) -> Published:
    """One entry of a file, whichever names the publication gives its fields."""
    fields = _plain(entry)
    if not isinstance(fields, Mapping):
        raise GraphError(
            f"entry {name!r} expected to hold a published graph, got {type(entry).__name__}.\n  Check the file."
        )
    graph = next((fields[k] for k in ("compute graph", "cg", "compute_graph") if k in fields), fields)
    label = fields.get("acc", fields["max_perf"] / 100 if isinstance(fields.get("max_perf"), int | float) else None)
    found = from_fields(graph, name)
    return Published(
        found.name or name,
        found,
        label,
        fields.get("flops"),
        fields.get("n_params", fields.get("params")),
        fields.get("original config", fields.get("net_config")),
    )


# -- pickles -----------------------------------------------------------------------------------------------------------


class _Holder:
    """What a published class becomes: its state, and nothing else."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args:
            self.__dict__["args"] = args
        self.__dict__.update(kwargs)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            state = {**(state[0] or {}), **state[1]}
        if isinstance(state, dict):
            self.__dict__.update({str(k): v for k, v in state.items()})


class _Array(_Holder):
    """A pickled numpy array; `value` decodes plain numbers, nothing else."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, raw = state
        self.__dict__.update(shape=shape, dtype=dtype, raw=raw)

    def value(self) -> Any:
        """The numbers as nested lists; anything else as it was pickled."""
        code = self.__dict__["dtype"].args[0] if isinstance(self.__dict__.get("dtype"), _Dtype) else "O"
        raw = self.__dict__.get("raw")
        if isinstance(raw, bytes) and str(code).lstrip("<>|=")[:1] in "biufUS":
            return np.frombuffer(raw, np.dtype(str(code))).reshape(self.__dict__["shape"]).tolist()
        return raw


class _Dtype(_Holder):
    """A pickled dtype: its code."""

    def __setstate__(self, state: Any) -> None:
        return


def _array(*args: Any) -> _Array:
    return _Array()


def _number(dtype: Any, raw: bytes = b"") -> Any:
    return np.frombuffer(raw, np.dtype(str(dtype.__dict__["args"][0])))[0].item() if isinstance(dtype, _Dtype) else None


_NUMPY: dict[str, Any] = {"_reconstruct": _array, "ndarray": _Array, "dtype": _Dtype, "scalar": _number}
_PLAIN_CLASSES = {
    ("builtins", n): t for n, t in (("set", set), ("frozenset", frozenset), ("list", list), ("dict", dict))
}
_PUBLISHED = "model_src."
"""Every class of the publications lies below this package; all of them become holders."""


class _Unpickler(pickle.Unpickler):
    """Makes holders of the published classes and plain data, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_PUBLISHED):
            return type(name.rpartition(".")[2], (_Holder,), {})
        if module in {"numpy", "numpy.core.multiarray", "numpy._core.multiarray"} and name in _NUMPY:
            return _NUMPY[name]
        if module == "collections" and name == "OrderedDict":
            return dict
        if (module, name) in _PLAIN_CLASSES:
            return _PLAIN_CLASSES[module, name]
        raise InputError(
            f"expected a pickle of published graphs, got one that names {module}.{name}.\n"
            "  Nothing but the published classes and plain data is read, because a pickle can run code."
        )

    def persistent_load(self, pid: Any) -> Any:
        raise InputError(
            "expected a pickle of published graphs, got one with outside references.\n  Nothing of it is read."
        )


def _unpickled(data: bytes, file: Path) -> Any:
    """Contents of a pickle, every published class as a holder."""
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except InputError as err:
        raise InputError(f"{file}: {err}") from err
    except Exception as err:  # a broken pickle raises whatever its opcodes run into
        raise InputError(
            f"expected a pickle of published graphs, got {str(file)!r} ({type(err).__name__}: {err}).\n  It is broken."
        ) from err


def _plain(value: Any) -> Any:
    """Plain data, in which holders are dicts and sets are lists."""
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, _Holder):
        return {k: _plain(v) for k, v in value.__dict__.items()}
    if isinstance(value, Mapping):
        return {str(k) if not isinstance(k, str) else k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return value
