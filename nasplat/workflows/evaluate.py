"""`evaluate`: a predictor is judged on labelled networks, with MACs and parameters alone beside it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from nasplat.errors import TableError
from nasplat.learners.lessons import tell_left_out
from nasplat.predict.contract import AbstractPredictor
from nasplat.tables.metrics import interval_coverage, kendall_tau, mean_absolute_error, ndcg_at, spearman_rho
from nasplat.workflows.labelled import Labelled


@dataclass(frozen=True)
class Evaluation:
    """Quality of a predictor on labelled networks, beside the baselines."""

    n: int
    """Number of networks that were evaluated."""
    in_support: float
    """Share of them that lie inside the predictor's support, from 0 to 1."""
    kendall_tau: float
    """Rank agreement (tau-b) on those inside the support, or on all where `beyond` it."""
    spearman_rho: float
    """Spearman's rank correlation on the same networks."""
    ndcg_at_10: float
    """Gain of the ten networks ranked first, relative to the best ten, from 0 to 1."""
    mean_absolute_error: float | None
    """Mean absolute error in the label's unit; None beyond the support."""
    interval_coverage: float | None
    """Share of labels inside the intervals, which should be the predictor's level; None beyond the support."""
    macs_tau: float
    """Rank agreement of MACs alone, on the same networks."""
    params_tau: float
    """Rank agreement of parameters alone, on the same networks."""
    beyond: bool = False
    """Whether all networks were ranked, by rank scores, which promise no level."""


def evaluate(predictor: AbstractPredictor, data: Labelled, beyond: bool = False) -> Evaluation:
    """Measure rank agreement, error and interval coverage of a predictor, beside MACs and parameters alone.

    Args:
        predictor: Fitted predictor to judge.
        data: Labelled networks that it did not learn from; those without a finite label are left out.
        beyond: Whether the rank scores of all networks are judged, inside the support or not.

    Returns:
        The figures, on networks inside the support unless `beyond`.

    Raises:
        TableError: fewer than two networks lie inside the support, or the labels of those judged are all equal.
    """
    finite = [i for i, y in enumerate(data.labels) if isfinite(y)]
    if len(finite) < len(data.labels):
        tell_left_out(len(data.labels) - len(finite), len(data.labels))
        data = data.take(finite)
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
    if min(y) == max(y):
        raise TableError(
            f"expected labels that differ, got {y[0]:g} for all {len(y)} networks that are judged.\n"
            "  Check the column: there is no order to agree with."
        )
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
