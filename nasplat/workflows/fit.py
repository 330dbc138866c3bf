"""Fit a predictor on a labelled table, and judge one beside the baselines."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from nasplat.errors import TableError
from nasplat.features.view import View, view
from nasplat.frontends import collect_rarely
from nasplat.predict.abilities import ChoosesLabels, HasEncoder
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.registry import make
from nasplat.searchspace import Architecture
from nasplat.tables.metrics import interval_coverage, kendall_tau, mean_absolute_error, ndcg_at, spearman_rho
from nasplat.tables.table import Table

Progress = Callable[..., None]
"""Called with (done, total) or (done, total, note)."""
FITTED = ("trees", "gennape", "count")
"""Families that learn from one table."""
FEW = 200
"""Fewer captures than this are not worth starting processes for."""


@dataclass(frozen=True)
class Labelled:
    """Distinct computations of a table, as predictors see them, with the mean label of each."""

    views: list[View]
    labels: list[float]
    keys: list[str]
    architectures: list[str]
    """Text of one architecture of each, the smallest; rows stand in its order."""

    def take(self, numbers: Sequence[int]) -> Labelled:
        """These rows."""
        columns = (self.views, self.labels, self.keys, self.architectures)
        return Labelled(*([c[i] for i in numbers] for c in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Evaluation:
    """Quality of a predictor on a table, beside the baselines."""

    n: int
    """Networks evaluated."""
    in_support: float
    """Share of them inside the predictor's support."""
    kendall_tau: float
    """Rank agreement (tau-b) on those inside the support, or on all `beyond` it."""
    spearman_rho: float
    ndcg_at_10: float
    """Gain of the ten networks ranked first."""
    mean_absolute_error: float | None
    """In the label's unit; None beyond the support."""
    interval_coverage: float | None
    """Share of labels inside the intervals; nominal is the predictor's level. None beyond the support."""
    macs_tau: float
    """Rank agreement of MACs alone, on the same networks."""
    params_tau: float
    """Rank agreement of parameters alone, on the same networks."""
    beyond: bool = False
    """True: all networks were ranked by rank scores, which promise no level."""


def distinct(
    table: Table,
    progress: Progress | None = None,
    workers: int = 1,
    seen: dict[Architecture, tuple[str, View]] | None = None,
) -> Labelled:
    """One view per computation: rows whose graphs have equal keys are averaged.

    Args:
        table: Loaded with a space.
        progress: Called with (networks captured, networks).
        workers: Processes that capture, of one thread each.
        seen: What was captured for another table; it is filled up.
    """
    members: dict[Architecture, list[float]] = {}
    text: dict[Architecture, str] = {}
    for architecture, row, value in zip(table.architectures, table.rows, table.labels, strict=True):
        canonical = architecture.canonical()
        members.setdefault(canonical, []).append(value)
        text.setdefault(canonical, row[table.key])
    found: dict[str, tuple[View, list[float], list[str]]] = {}
    known = {} if seen is None else seen
    new = [a for a in members if a not in known]
    for i, (architecture, pair) in enumerate(zip(new, _captured(new, workers), strict=True)):
        known[architecture] = pair
        if progress:
            progress(i + 1, len(new))
    for architecture, values in members.items():
        key, sight = known[architecture]
        _, labels, names = found.setdefault(key, (sight, [], []))
        labels.extend(values)
        names.append(text[architecture])
    # ordered by encoding, not by key: a new version of the vocabulary changes keys, and must not change any split
    order = sorted(found, key=lambda k: min(found[k][2]))
    means = [sum(found[k][1]) / len(found[k][1]) for k in order]
    return Labelled([found[k][0] for k in order], means, order, [min(found[k][2]) for k in order])


def _start() -> None:
    """A worker: Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_rarely()


def _captured(members: list[Architecture], workers: int) -> Iterator[tuple[str, View]]:
    if workers < 2 or len(members) < FEW:
        yield from map(_see, members)
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with multiprocessing.get_context("spawn").Pool(workers, _start) as pool:
            yield from pool.imap(_see_line, [m.to_json() for m in members], chunksize=16)
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _see(architecture: Architecture) -> tuple[str, View]:
    graph = architecture.graph()
    return graph.key, view(graph)


def _see_line(line: str) -> tuple[str, View]:
    return _see(Architecture.from_json(line))


def split(data: Labelled, seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> tuple[Labelled, Labelled, Labelled]:
    """Disjoint train, decide and test parts; networks with equal graph keys are one row already."""
    rows = Table(tuple({"key": k, "row": str(i)} for i, k in enumerate(data.architectures)), "row", "key")
    train, decide, test = (data.take([int(r["row"]) for r in part.rows]) for part in rows.split(seed, shares))
    return train, decide, test


def few(data: Labelled, n: int, seed: int, chooser: ChoosesLabels | None = None) -> tuple[Labelled, Labelled]:
    """A few rows, and the rest: random ones, the same for every predictor, or those that a predictor would have labelled."""
    order = list(range(len(data.labels)))
    random.Random(f"few {seed}").shuffle(order)
    if chooser is not None:
        chosen = set(chooser.choose(data.views, n, seed))
        order.sort(key=lambda i: i not in chosen)
    return data.take(order[:n]), data.take(order[n:])


def evaluate(predictor: AbstractPredictor, data: Labelled, beyond: bool = False) -> Evaluation:
    """Rank agreement, error and coverage of a predictor, with MACs and parameters beside it.

    Args:
        predictor: Fitted.
        data: Labelled networks.
        beyond: Judge the rank scores of all networks, inside the support or not.

    Raises:
        TableError: fewer than two networks lie inside the support.
    """
    answers = predictor.predict(data.views)
    inside = [i for i, p in enumerate(answers) if p.in_support]
    chosen = list(range(len(answers))) if beyond else inside
    if len(chosen) < 2:
        raise TableError(
            f"expected at least 2 networks inside the predictor's support, got {len(inside)} of {len(answers)}"
            + (f" (the first: {answers[0].reason})" if answers else "")
            + ".\n  Fine-tune it on labels of this family, or judge its rank scores beyond the support."
        )
    y = [data.labels[i] for i in chosen]
    scores = predictor.rank_scores(data.views) if beyond else [answers[i].mean or 0.0 for i in chosen]
    return Evaluation(
        n=len(answers),
        in_support=len(inside) / len(answers),
        kendall_tau=kendall_tau(scores, y),
        spearman_rho=spearman_rho(scores, y),
        ndcg_at_10=ndcg_at(10, scores, y),
        mean_absolute_error=None if beyond else mean_absolute_error(scores, y),
        interval_coverage=None
        if beyond
        else interval_coverage([answers[i].low or 0.0 for i in chosen], [answers[i].high or 0.0 for i in chosen], y),
        macs_tau=kendall_tau([answers[i].macs for i in chosen], y),
        params_tau=kendall_tau([answers[i].params for i in chosen], y),
        beyond=beyond,
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
    workers: int = 1,
) -> tuple[AbstractPredictor, list[dict[str, Any]]]:
    """Fit one predictor per seed on 80 % of a table, evaluate each on its 10 % test part, save the first.

    Args:
        table: Loaded with a space.
        family: trees, gennape or count.
        out: Folder to write.
        seeds: Of split and predictor.
        metric: Name and unit of the label; default the table's column.
        train_rows: At most so many training networks.
        command: What was typed; goes into the recipe.
        progress: Called with (done, total) while capturing, (done, total, note) while fitting.
        workers: Processes that capture.

    Returns:
        The saved predictor and one row of figures per seed.
    """
    if family not in FITTED:
        raise TableError(
            f"expected a family among {', '.join(FITTED)}, got {family!r}.\n  Others learn from several tables, in Python."
        )
    data = distinct(table, progress, workers)
    if len(data.labels) < 50:
        raise TableError(f"expected at least 50 distinct networks, got {len(data.labels)}.\n  Label more.")
    rows: list[dict[str, Any]] = []
    saved: AbstractPredictor | None = None
    for seed in seeds:
        train, _, test = split(data, seed)
        settings = {"metric": metric or table.metric} | ({} if family == "count" else {"seed": seed})
        predictor = make(family, **settings)
        more: Any = {"progress": progress} if family == "gennape" else {}
        predictor.fit(train.views[:train_rows], train.labels[:train_rows], **more)
        rows.append({"seed": seed, "train": len(train.labels[:train_rows])} | asdict(evaluate(predictor, test)))
        saved = saved or predictor
    assert saved is not None
    about = provenance(table, data, seeds, command)
    saved.save(out, about, rows, card(Path(out).name, saved, about, rows))
    return saved, rows


def fit_tasks(
    tables: Mapping[str, Table],
    encoder: Any,
    out: str | Path,
    seed: int = 0,
    scaling: str = "standard",
    epochs: int = 40,
    command: str = "",
    progress: Progress | None = None,
    workers: int = 1,
) -> tuple[AbstractPredictor, list[dict[str, Any]]]:
    """Train an adapter per task on 80 % of all networks, and judge each task on 10 %, after 20 labels of the other 10 %: its own adapter, and all others.

    A network is on one side for all tasks: the same network labelled for another task would give its rank away.

    Args:
        tables: By task; loaded with a space.
        encoder: A fitted predictor with an encoder (GENNAPE or universal).
        out: Folder to write.
        seed: Of split and adapters.
        scaling: Of labels, see `nasplat.predict.aiop`.
        epochs: That train an adapter.
        command: What was typed; goes into the recipe.
        progress: Called with (done, total) while capturing, (done, total, note) while fitting.
        workers: Processes that capture.

    Returns:
        The saved predictor, not calibrated, and one row of figures per task.

    Raises:
        TableError: fewer than 60 distinct networks of a task, or a predictor without an encoder.
    """
    if not isinstance(encoder, HasEncoder):
        raise TableError(
            f"expected a predictor with an encoder, got family {encoder.family!r}.\n  Use gennape-nb101 or base."
        )
    seen: dict[Architecture, tuple[str, View]] = {}
    data = {task: distinct(table, progress, workers, seen) for task, table in tables.items()}
    for task, found in data.items():
        if len(found.labels) < 60:
            raise TableError(
                f"expected at least 60 distinct networks of task {task!r}, got {len(found.labels)}.\n  Label more."
            )
    keys = sorted(
        {k for found in data.values() for k in found.keys}, key=lambda k: sha256(f"{seed} {k}".encode()).digest()
    )
    part = {k: 0 if i < 0.8 * len(keys) else 1 if i < 0.9 * len(keys) else 2 for i, k in enumerate(keys)}
    groups = {t: [f.take([i for i, k in enumerate(f.keys) if part[k] == n]) for n in range(3)] for t, f in data.items()}
    settings = {k: v for k, v in encoder.get_params().items() if k in {"hidden", "layers", "embedding", "trunk"}}
    model = make("aiop", **settings, scaling=scaling, epochs=epochs, seed=seed, metric="uncalibrated")
    learnt = [(v, y, t) for t, (train, _, _) in groups.items() for v, y in zip(train.views, train.labels, strict=True)]
    views, labels, names = (list(column) for column in zip(*learnt, strict=True))
    cast(Any, model).fit(views, labels, names, encoder.encoder_, progress)
    rows = []
    for task, (train, decide, test) in groups.items():
        known = cast(Any, model).only([task]).calibrate(decide.views[:20], decide.labels[:20])
        row = {"task": task, "train": len(train.labels)} | asdict(evaluate(known, test))
        if others := [t for t in groups if t != task]:  # as if the task were new
            strange = cast(Any, model).only(others).calibrate(decide.views[:20], decide.labels[:20])
            row["others_tau"] = evaluate(strange, test).kendall_tau
        rows.append(row)
    first = next(iter(tables.values()))
    about = {
        "tables": sorted({t.source for t in tables.values()}),
        "tasks": list(tables),
        "space": first.architectures[0].space.name,
        "table_hashes": [t.content_hash for t in tables.values()],
        "split": "80/10/10 by graph key, the same for all tasks",
        "seed": seed,
        "command": command,
    }
    lines = [
        f"# {Path(out).name}",
        "",
        f"Family `aiop`: adapters of {len(tables)} tasks ({', '.join(tables)}) on a frozen encoder. It answers for a task, in its unit, once some twenty labels "
        "of it are given (`calibrate`, `nasplat score --calibrate`).",
        f"Learnt from {', '.join(about['tables'])}, {about['split']}, seed {seed}. Each task's own adapter after 20 labels; beside it, the other tasks' adapters after "
        "the same 20, as if the task were new:",
        "",
        "| task | train | test | τ-b | ρ | MAE | 90 % interval covers | τ-b of the others | τ-b MACs alone | τ-b parameters alone |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        error, covered = r["mean_absolute_error"], r["interval_coverage"]  # none where no network lies in the support
        told = ("-" if error is None else f"{error:.4g}", "-" if covered is None else f"{covered:.1%}")
        strange = f"{r['others_tau']:.3f}" if "others_tau" in r else "-"
        lines.append(
            f"| {r['task']} | {r['train']} | {r['n']} | {r['kendall_tau']:.3f} | {r['spearman_rho']:.3f} | {' | '.join(told)} | {strange} | "
            f"{r['macs_tau']:.3f} | {r['params_tau']:.3f} |"
        )
    if command:
        lines += ["", "Made by", "", "```", command, "```"]
    model.save(out, about, rows, "\n".join(lines) + "\n")
    return model, rows


def provenance(table: Table, data: Labelled, seeds: Sequence[int], command: str) -> dict[str, Any]:
    """What a recipe says of the data."""
    return {
        "table": table.source,
        "column": table.metric,
        "space": table.architectures[0].space.name,
        "rows": len(table),
        "networks": len(data.labels),
        "table_hash": table.content_hash,
        "split": "80/10/10 by graph key",
        "seeds": list(seeds),
        "command": command,
    }


def card(name: str, predictor: AbstractPredictor, about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The predictor's README.md."""
    lines = [
        f"# {name}",
        "",
        f"Family `{predictor.family}`; predicts {predictor.metric}.",
        f"Learnt from {about['table']} ({about['networks']} distinct networks of {about['rows']} rows), {about['split']}, "
        f"seeds {about['seeds']}. Saved: seed {about['seeds'][0]}.",
        "",
        "| seed | train | test | τ-b | ρ | NDCG@10 | MAE | 90 % interval covers | τ-b MACs alone | τ-b parameters alone |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['seed']} | {r['train']} | {r['n']} | {r['kendall_tau']:.3f} | {r['spearman_rho']:.3f} | {r['ndcg_at_10']:.3f} | "
            f"{r['mean_absolute_error']:.3f} | {r['interval_coverage']:.1%} | {r['macs_tau']:.3f} | {r['params_tau']:.3f} |"
        )
    lines += ["", "Outside its support (other operations, sizes far from those seen) it abstains and says why."]
    if about.get("command"):
        lines += ["", "Made by", "", "```", about["command"], "```"]
    return "\n".join(lines) + "\n"
