"""Views on disk: the columns of many graphs side by side in one npz file. Reading runs no code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nasplat.errors import PredictorError
from nasplat.features.view import FEATURES, VOCABULARY, View

VERSION = f"views-1 {len(VOCABULARY)} {len(FEATURES)}"
"""First line of every file; a file of another vocabulary or other features is refused."""
_COLUMNS = ("op", "features", "work", "edges")


def save_views(path: str | Path, views: Sequence[View]) -> None:
    """Write the views of many networks into one file.

    Args:
        path: File to write, ending in '.npz'.
        views: At least one view; all need the same statistics.
    """
    names = list(views[0].statistics)
    rest = {
        "version": VERSION,
        "statistics": names,
        "unknown": {i: v.unknown_ops for i, v in enumerate(views) if v.unknown_ops},
        "bounds": {i: (v.bound, v.params_bound) for i, v in enumerate(views) if v.bound or v.params_bound},
    }
    np.savez_compressed(
        path,
        about=np.frombuffer(json.dumps(rest).encode(), np.uint8),
        nodes=np.array([len(v) for v in views], np.int64),
        arcs=np.array([v.edges.shape[1] for v in views], np.int64),
        op=np.concatenate([v.op for v in views]).astype(np.int16),
        features=np.concatenate([v.features for v in views]),
        work=np.concatenate([v.work for v in views]),
        edges=np.concatenate([v.edges for v in views], 1).astype(np.int32),
        executed=np.stack([v.executed for v in views]),
        statistics=np.array([[v.statistics[n] for n in names] for v in views]),
        counts=np.array([[v.macs, v.params, v.inputs, v.outputs] for v in views], np.int64),
    )


def load_views(path: str | Path) -> list[View]:
    """Read what `save_views` wrote.

    Args:
        path: File to read; nothing in it is executed.

    Returns:
        One view per network, in the order in which they were written.

    Raises:
        PredictorError: the file is missing, broken, or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            about = json.loads(data["about"].tobytes().decode())
            if about["version"] != VERSION:
                raise PredictorError(
                    f"{str(path)!r} expected {VERSION!r}, got {about['version']!r}.\n  Make the views again."
                )
            columns = {name: data[name] for name in (*_COLUMNS, "nodes", "arcs", "executed", "statistics", "counts")}
    except (OSError, KeyError, ValueError, EOFError) as err:
        raise PredictorError(
            f"expected views written by save_views, got {str(path)!r} ({err}).\n  Check the file."
        ) from err
    nodes, arcs = (np.cumsum([0, *columns[n]]).tolist() for n in ("nodes", "arcs"))
    names, unknown = about["statistics"], {int(k): tuple(v) for k, v in about["unknown"].items()}
    # files from before bounds were kept: what is unknown was all that could be missing
    signs = {i: ("≥", "") for i in unknown} | {int(k): tuple(v) for k, v in about.get("bounds", {}).items()}
    op, edges = columns["op"].astype(np.int64), columns["edges"].astype(np.int64)
    found = []
    for i, (macs, params, *ends) in enumerate(columns["counts"].tolist()):  # older files hold no ends
        a, b, c, d = nodes[i], nodes[i + 1], arcs[i], arcs[i + 1]
        statistics = dict(zip(names, columns["statistics"][i].tolist(), strict=True))
        own = (op[a:b], columns["features"][a:b], columns["work"][a:b], edges[:, c:d], columns["executed"][i])
        found.append(View(*own, statistics, macs, params, unknown.get(i, ()), *ends, *signs.get(i, ())))
    return found
