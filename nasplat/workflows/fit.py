"""`fit_and_save`: a predictor learns from a labelled table and is judged on a part of it that it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasplat.errors import TableError
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.registry import make
from nasplat.tables.listing import Listing
from nasplat.tables.table import Table
from nasplat.task.settings import overridden
from nasplat.workflows.evaluate import evaluate
from nasplat.workflows.labelled import Labelled, Progress, distinct, split

FITTED = ("trees", "gennape", "count")
"""Families that learn from one table."""
LEAST = 50
"""Smallest number of distinct networks that a predictor is fitted on."""


@dataclass(frozen=True)
class FitSettings:
    """How a predictor is fitted on a table."""

    seeds: Sequence[int] = (0, 1, 2)
    """Seeds of split and predictor, one fit each; the spread of their figures tells how sure these are."""
    metric: str | None = None
    """Name and unit of the label, as predictions are described; None takes the table's column."""
    train_rows: int | None = None
    """Largest number of training networks; None takes all of the training part."""
    command: str = ""
    """Command line that made the predictor, which its recipe and card repeat."""
    workers: int = 1
    """Number of processes that capture the networks, each with one thread."""


def fit_and_save(
    table: Table,
    family: str,
    out: str | Path,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> tuple[AbstractPredictor, list[dict[str, Any]]]:
    """Fit one predictor per seed on 80 % of a table, judge each on its 10 % test part, and save the first.

    Args:
        table: Labelled architectures, loaded with a space.
        family: Family of the predictor: 'trees', 'gennape' or 'count'.
        out: Folder that the predictor is saved to.
        settings: Seeds and sizes of the fits; None for the defaults.
        progress: Called with the steps done and all steps while capturing, and also with a note while fitting.
        overrides: Fields of `FitSettings` that replace those of the settings, such as seeds=(0, 1).

    Returns:
        The saved predictor, and one row of figures for each seed.

    Raises:
        TableError: the family learns from several tables, or the table holds fewer than 50 distinct networks; or
            fewer than two networks of a test part lie inside the predictor's support.
        InputError: an override is no field of the settings.
    """
    made = overridden(settings or FitSettings(), overrides)
    if family not in FITTED:
        raise TableError(
            f"expected a family among {', '.join(FITTED)}, got {family!r}.\n"
            "  Others learn from several tables, in Python."
        )
    data = distinct(table, progress, made.workers)
    if len(data.labels) < LEAST:
        raise TableError(f"expected at least {LEAST} distinct networks, got {len(data.labels)}.\n  Label more.")
    rows: list[dict[str, Any]] = []
    saved: AbstractPredictor | None = None
    for seed in made.seeds:
        train, _, test = split(data, seed)
        options = {"metric": made.metric or table.metric} | ({} if family == "count" else {"seed": seed})
        predictor = make(family, **options)
        more: Any = {"progress": progress} if family == "gennape" else {}
        train = train.take(range(min(len(train.labels), made.train_rows or len(train.labels))))
        learnt = len(train.labels)
        predictor.fit(train.views, train.labels, groups=train.groups, **more)  # type: ignore[call-arg]
        rows.append({"seed": seed, "train": learnt} | asdict(evaluate(predictor, test)))
        saved = saved or predictor
    assert saved is not None
    about = provenance(table, data, made.seeds, made.command)
    saved.save(out, about, rows, card(Path(out).name, saved, about, rows))
    return saved, rows


def provenance(table: Table, data: Labelled, seeds: Sequence[int], command: str) -> dict[str, Any]:
    """Tell what data a predictor was made from, for its recipe.

    Args:
        table: Table that the predictor learnt from.
        data: Distinct computations of the table.
        seeds: Seeds of the splits.
        command: Command line that made the predictor; empty where there was none.

    Returns:
        Source, column, space, sizes, hash, split and seeds by name.
    """
    return {
        "table": table.source,
        "column": table.metric,
        "space": table.architectures[0].space.name,
        "rows": len(table.labelled()),
        "left_out": data.left_out,
        "networks": len(data.labels),
        "functions": len(set(data.groups)),
        "table_hash": table.content_hash,
        "split": "80/10/10 by network",
        "seeds": list(seeds),
        "command": command,
    }


def card(name: str, predictor: AbstractPredictor, about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Write the model card of a predictor, its README.md.

    Args:
        name: Name of the predictor.
        predictor: Fitted predictor that is saved.
        about: Origin of its data, as `provenance` tells it.
        rows: Figures of each seed, as `fit_and_save` returns them.

    Returns:
        Text in Markdown: what it predicts, what it learnt from, and how well it did on what it did not see.
    """
    columns = ["seed", "train", "test", "τ-b", "ρ", "NDCG@10", "MAE", "90 % interval covers"]
    figures = Listing(
        [*columns, "τ-b MACs alone", "τ-b parameters alone"],
        [
            [
                *(str(r["seed"]), str(r["train"]), str(r["n"])),
                *(f"{r[k]:.3f}" for k in ("kendall_tau", "spearman_rho", "ndcg_at_10", "mean_absolute_error")),
                *(f"{r['interval_coverage']:.1%}", f"{r['macs_tau']:.3f}", f"{r['params_tau']:.3f}"),
            ]
            for r in rows
        ],
    )
    text = (
        f"# {name}\n\nFamily `{predictor.family}`; predicts {predictor.metric}.\n"
        f"Learnt from {about['table']} ({_counts(about)}), "
        f"{about['split']}, seeds {about['seeds']}. Saved: seed {about['seeds'][0]}.\n\n{figures.markdown()}\n"
        "Outside its support (other operations, sizes far from those seen) it abstains and says why.\n"
    )
    return text + made_by(about.get("command"))


def _counts(about: dict[str, Any]) -> str:
    """How many computations and networks a table holds, and how many of its rows have no label."""
    missing = f"; {about['left_out']} more rows without a finite label" if about["left_out"] else ""
    return f"{about['networks']} computations of {about['functions']} networks in {about['rows']} rows{missing}"


def made_by(command: str | None) -> str:
    """Write the last paragraph of a model card: the command that made the predictor.

    Args:
        command: Command line; empty or None where there was none.

    Returns:
        Text in Markdown, empty without a command.
    """
    return f"\nMade by\n\n```\n{command}\n```\n" if command else ""
