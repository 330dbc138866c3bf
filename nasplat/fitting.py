"""Fit a predictor on a labelled table, and evaluate one beside the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasplat.errors import TableError
from nasplat.graph import Graph
from nasplat.metrics import interval_coverage, kendall_tau, mean_absolute_error, spearman_rho
from nasplat.predict import AbstractPredictor
from nasplat.predict.registry import make
from nasplat.table import Table

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Labelled:
    """Distinct computations of a table with the mean label of each."""

    graphs: list[Graph]
    labels: list[float]
    keys: list[str]


@dataclass(frozen=True)
class Evaluation:
    """Quality of a predictor on a table, beside the baselines."""

    n: int
    """Networks evaluated."""
    in_support: float
    """Share of them inside the predictor's support."""
    kendall_tau: float
    """Rank agreement on those inside the support (tau-b)."""
    spearman_rho: float
    mean_absolute_error: float
    """In the label's unit."""
    interval_coverage: float
    """Share of labels inside the intervals; nominal is the predictor's level."""
    macs_tau: float
    """Rank agreement of MACs alone, on the same networks."""
    params_tau: float
    """Rank agreement of parameters alone, on the same networks."""


def distinct(table: Table, progress: Progress | None = None) -> Labelled:
    """One graph per computation: rows whose graphs have equal keys are averaged.

    Args:
        table: Loaded with a space.
        progress: Called with (rows done, rows).
    """
    members: dict[str, tuple[Graph, list[float]]] = {}
    by_architecture: dict[Any, str] = {}
    for i, (architecture, value) in enumerate(zip(table.architectures, table.labels, strict=True)):
        canonical = architecture.canonical()
        key = by_architecture.get(canonical)
        if key is None:
            graph = canonical.graph()
            key = by_architecture[canonical] = graph.key
            members.setdefault(key, (graph, []))
        members[key][1].append(value)
        if progress:
            progress(i + 1, len(table))
    order = sorted(members)
    labels = [sum(members[k][1]) / len(members[k][1]) for k in order]
    return Labelled([members[k][0] for k in order], labels, order)


def split(data: Labelled, seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> tuple[Labelled, Labelled, Labelled]:
    """Disjoint train, decide and test parts by graph key."""
    rows = Table(tuple({"key": k, "row": str(i)} for i, k in enumerate(data.keys)), "row", "key")
    parts = []
    for table in rows.split(seed, shares):
        numbers = [int(r["row"]) for r in table.rows]
        parts.append(
            Labelled([data.graphs[i] for i in numbers], [data.labels[i] for i in numbers], [data.keys[i] for i in numbers])
        )
    return parts[0], parts[1], parts[2]


def evaluate(predictor: AbstractPredictor, graphs: Sequence[Graph], labels: Sequence[float]) -> Evaluation:
    """Rank agreement, error and coverage of a predictor, with MACs and parameters beside it.

    Raises:
        TableError: fewer than two networks lie inside the support.
    """
    answers = predictor.predict(graphs)
    inside = [(p, y) for p, y in zip(answers, labels, strict=True) if p.in_support]
    if len(inside) < 2:
        raise TableError(
            f"expected at least 2 networks inside the predictor's support, got {len(inside)} of {len(answers)}"
            + (f" (the first: {answers[0].reason})" if answers else "")
            + ".\n  Evaluate on the family it learnt from, or fine-tune it."
        )
    y = [v for _, v in inside]
    means = [p.mean or 0.0 for p, _ in inside]
    return Evaluation(
        len(answers),
        len(inside) / len(answers),
        kendall_tau(means, y),
        spearman_rho(means, y),
        mean_absolute_error(means, y),
        interval_coverage([p.low or 0.0 for p, _ in inside], [p.high or 0.0 for p, _ in inside], y),
        kendall_tau([p.macs for p, _ in inside], y),
        kendall_tau([p.params for p, _ in inside], y),
    )


def fit_and_save(
    table: Table,
    family: str,
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    metric: str | None = None,
    train_rows: int | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> tuple[AbstractPredictor, list[dict[str, Any]]]:
    """Fit one predictor per seed on 80 % of a table, evaluate each on its 10 % test part, save the first.

    Args:
        table: Loaded with a space.
        family: trees or count.
        out: Folder to write.
        seeds: Of split and predictor.
        metric: Name and unit of the label; default the table's column.
        train_rows: At most so many training networks.
        command: What was typed; goes into the recipe.
        progress: Called with (rows captured, rows).

    Returns:
        The saved predictor and one row of figures per seed.
    """
    data = distinct(table, progress)
    if len(data.labels) < 50:
        raise TableError(f"expected at least 50 distinct networks, got {len(data.labels)}.\n  Label more.")
    rows: list[dict[str, Any]] = []
    saved: AbstractPredictor | None = None
    for seed in seeds:
        train, _, test = split(data, seed)
        settings = {"metric": metric or table.metric} | ({"seed": seed} if family == "trees" else {})
        graphs, labels = train.graphs[:train_rows], train.labels[:train_rows]
        predictor = make(family, **settings).fit(graphs, labels)
        rows.append({"seed": seed, "train": len(labels)} | asdict(evaluate(predictor, test.graphs, test.labels)))
        saved = saved or predictor
    assert saved is not None
    about = {
        "table": table.source,
        "column": table.metric,
        "rows": len(table),
        "networks": len(data.labels),
        "table_hash": table.content_hash,
        "split": "80/10/10 by graph key",
        "seeds": list(seeds),
        "command": command,
    }
    saved.save(out, about, rows, card(Path(out).name, saved, about, rows))
    return saved, rows


def card(name: str, predictor: AbstractPredictor, about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The predictor's README.md."""
    lines = [
        f"# {name}",
        "",
        f"Family `{predictor.family}`; predicts {predictor.metric}.",
        f"Learnt from {about['table']} ({about['networks']} distinct networks of {about['rows']} rows), {about['split']}, "
        f"seeds {about['seeds']}. Saved: seed {about['seeds'][0]}.",
        "",
        "| seed | train | test | τ-b | ρ | MAE | 90 % interval covers | τ-b MACs alone | τ-b parameters alone |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['seed']} | {r['train']} | {r['n']} | {r['kendall_tau']:.3f} | {r['spearman_rho']:.3f} | "
            f"{r['mean_absolute_error']:.3f} | {r['interval_coverage']:.1%} | {r['macs_tau']:.3f} | {r['params_tau']:.3f} |"
        )
    lines += ["", "Outside its support (other operations, sizes far from those seen) it abstains and says why."]
    if about.get("command"):
        lines += ["", "Made by", "", "```", about["command"], "```"]
    return "\n".join(lines) + "\n"
