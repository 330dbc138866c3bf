"""Words for quality and cost become objectives of a study."""

from __future__ import annotations

from nasplat.errors import SearchError
from nasplat.predict.latency import LatencyPredictor
from nasplat.study import AbstractObjective, Counted, Inherited, Measured, PredictedLatency, Trained
from nasplat.supernet import Supernet
from nasplat.task import Task
from nasplat.task.training import Budget

LATENCY = "latency_ms"
"""Name of the predicted latency among limits and costs."""
PREDICTED, INHERITED, TRAINED = "predicted", "inherited", "trained"
"""Words for what quality of a network is searched for."""


def quality_named(
    word: str, task: Task, supernet: Supernet | None, predicted: AbstractObjective | None, seed: int
) -> AbstractObjective:
    """Return the objective that a word names.

    Args:
        word: 'predicted', 'inherited', 'trained', or 'trained:12' for twelve epochs.
        task: Task of trained and inherited quality.
        supernet: Supernet of inherited quality; None where there is none.
        predicted: Objective that answers 'predicted'; None without a guide.
        seed: Number that decides initial values and order of the data in a training.

    Returns:
        Objective of the word.

    Raises:
        SearchError: another word, or no predictor for 'predicted', or no supernet for 'inherited'.
    """
    kind, colon, epochs = word.partition(":")
    if kind == TRAINED and (not colon or epochs.isdigit()):
        return Trained(task, Budget(epochs=int(epochs)) if colon else None, seed)
    if word == INHERITED:
        if supernet is None:
            raise SearchError("inherited quality expected a supernet, got none.\n  Pass one, or use trained quality.")
        return Inherited(supernet)
    if word != PREDICTED:
        raise SearchError(
            f"expected predicted, inherited, trained or trained:EPOCHS, got {word!r}.\n  Use one of these."
        )
    if predicted is None:
        raise SearchError("predicted quality expected a --guide, got none.\n  Name a predictor.")
    return predicted


def costs_named(word: str, latency: LatencyPredictor | None = None) -> list[AbstractObjective]:
    """Return the objectives that are minimised.

    Args:
        word: 'macs', 'params', 'activation_bytes', 'latency' (each network timed), 'latency_ms' (predicted), or 'none'.
        latency: Predictor of this device for 'latency_ms'.

    Returns:
        One objective, or none for 'none'.

    Raises:
        SearchError: another word, or no predictor for 'latency_ms'.
    """
    if word == LATENCY:
        return [predicted_latency(latency)]
    return [] if word == "none" else [Measured() if word == "latency" else Counted(word)]


def predicted_latency(predictor: LatencyPredictor | None) -> PredictedLatency:
    """Return the objective that predicts the latency of this device.

    Args:
        predictor: Predictor of this device; None where there is none.

    Returns:
        Objective in milliseconds.

    Raises:
        SearchError: there is no predictor.
    """
    if predictor is None:
        raise SearchError(
            "latency_ms expected a latency predictor of this device, got none.\n  Pass latency=nasplat.calibrate(…)."
        )
    return PredictedLatency(predictor)
