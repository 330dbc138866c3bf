"""`calibrate` times a chosen sample of networks on this device and fits what predicts the latency of any other.

A calibration is a predictor's folder with `timings.csv` beside it, one row a timed network, appended as it goes: an
interrupted calibration goes on where it stopped. Calibrations live in the user's cache, one folder per device,
runtime, precision, threads and batch; `load_predictor` finds the one of this machine and fills
`Prediction.latency_ms` with it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasplat.errors import InputError
from nasplat.features.view import View, view
from nasplat.predict.latency import LatencyPredictor
from nasplat.probes import Latency, measure_together
from nasplat.probes.conditions import Conditions, device_name
from nasplat.searchspace import Architecture, Space, list_spaces, load_space
from nasplat.study.limits import draw_distinct
from nasplat.tables.listing import Listing
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.rows import RowFile

FEWEST = 20
"""Smallest number of networks that a predictor of latency is fitted on."""
POOL = 3
"""Number of networks captured for each one that is timed."""
LARGEST = 3_000_000_000
"""Largest number of MACs where several families are timed: a pass should take less than a second."""
SECONDS = 1.0
"""Longest time that the timed passes of one network take together, in seconds."""
COLUMNS = ("family", "architecture", "key", "macs", "params", "median_ms", "low_ms", "high_ms", "repeats", "flags")
"""Columns of timings.csv."""


@dataclass(frozen=True)
class Timeable:
    """A network that may be timed."""

    family: str
    """Name of the space that it is of."""
    architecture: Architecture
    """Choices that make the network."""
    seen: View
    """What predictors see of its graph."""
    key: str
    """Key of its graph, equal for equal computations."""


def calibrate(
    spaces: Sequence[Space | str] = (),
    n: int = 200,
    conditions: Conditions | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    report: Callable[[int, int, str], None] | None = None,
) -> LatencyPredictor:
    """Time networks on this device, and fit a predictor of the latency of any other.

    Args:
        spaces: Spaces whose networks are timed, as objects or names; all shipped ones by default.
        n: Number of networks to time; those of an earlier, interrupted call count.
        conditions: Device, batch, runtime, precision and threads under which is timed; by default one example on the
            CPU.
        folder: Folder that the calibration is kept in; by default one in the user's cache, where `load_predictor`
            finds it.
        seed: Seed of the networks and of their order.
        report: Called with the number of networks timed, the number of all, and words about the last one.

    Returns:
        The saved predictor; its `validation_` holds the error on networks that were left out.

    Raises:
        InputError: fewer than 20 networks are asked for.
        TableError: the folder holds timings with other columns.

    Example:
        >>> calibrate(["nasbench201"], n=40).validation_["mape_percent"] < 50  # doctest: +SKIP
        True
    """
    if n < FEWEST:
        raise InputError(f"expected at least {FEWEST} networks, got {n}.\n  Some 200 cover the shipped spaces.")
    conditions = conditions or Conditions()
    path = Path(folder) if folder is not None else conditions.folder
    families = [load_space(s) if isinstance(s, str) else s for s in (spaces or list_spaces())]
    chosen = spread_out(candidates(families, n, seed), n)
    random.Random(f"{seed} order").shuffle(chosen)  # so that what an interrupted calibration has covers all families
    rows = _timed(chosen, RowFile(path / "timings.csv", COLUMNS, "key"), conditions, seed, report)
    labels = [float(rows[c.key]["median_ms"]) for c in chosen]
    predictor = LatencyPredictor(seed=seed).fit([c.seen for c in chosen], labels, [c.family for c in chosen])
    metrics = predictor.validation_ | {"families": by_family(predictor, chosen, labels)}
    about = {k: v for k, v in asdict(conditions).items() if v is not None}
    about |= {
        "device": device_name(torch.device(conditions.device)),
        "threads": conditions.threads or torch.get_num_threads(),
    }
    flagged = sum(bool(rows[c.key]["flags"]) for c in chosen)
    about |= {"networks": len(chosen), "flagged": flagged, "torch": torch.__version__, "seed": seed}
    predictor.save(path, about, metrics, _card(about, metrics))
    return predictor


def _timed(
    chosen: Sequence[Timeable],
    file: RowFile,
    conditions: Conditions,
    seed: int,
    report: Callable[[int, int, str], None] | None,
) -> dict[Any, dict[str, str]]:
    """Timings of all networks by their keys; what the file lacks is timed and appended to it."""
    rows = file.rows()
    started, fresh = time.monotonic(), 0
    for at, candidate in enumerate(chosen):
        if candidate.key in rows:
            continue
        latency = time_architecture(candidate.architecture, conditions, seed)
        rows[candidate.key] = file.append(_row(candidate, latency))
        fresh += 1
        if report is not None:
            left = (time.monotonic() - started) / fresh * (len(chosen) - at - 1)
            report(at + 1, len(chosen), f"{candidate.family} {latency.median_ms:.2f} ms, {left:.0f} s left")
    return rows


def candidates(families: Sequence[Space], n: int, seed: int) -> list[Timeable]:
    """Draw the networks among which those to be timed are chosen, equally many of each family.

    Args:
        families: Spaces to draw from.
        n: Number of networks that will be timed.
        seed: Seed of the draws.

    Returns:
        `POOL` times as many distinct networks as will be timed, fewer where the spaces are small; among several
        families none that is larger than `LARGEST`, and none with an operation that nasplat does not know.
    """
    found: dict[str, Timeable] = {}
    largest = LARGEST if len(families) > 1 else float("inf")
    each = -(-POOL * n // len(families))
    graph_of = lru_cache(maxsize=1)(Architecture.graph)  # asked for twice in a row, and large
    for space in families:

        def accept(architecture: Architecture, space: Space = space) -> bool:
            graph = graph_of(architecture)
            if graph.macs > largest or graph.cost.bound or graph.key in found:
                return False
            found[graph.key] = Timeable(space.name, architecture, view(graph), graph.key)
            return True

        rng = random.Random(f"{seed} {space.name}")
        draw_distinct(space, each, rng, accept=accept, key=lambda a: graph_of(a).key, draws=4 * each)
    return list(found.values())


def spread_out(pool: Sequence[Timeable], n: int) -> list[Timeable]:
    """Choose networks that lie far apart in the work they execute, one after another.

    Args:
        pool: Networks to choose from.
        n: Number of networks to choose; all of them where there are fewer.

    Returns:
        The chosen networks; the first is the most ordinary one, each further one the farthest from all before it.

    Source: farthest-first traversal, Gonzalez 1985, Theoretical Computer Science 38.
    """
    x = np.log1p(np.array([c.seen.executed[0].ravel() for c in pool]))
    x = (x - x.mean(0)) / np.maximum(1e-9, x.std(0))
    chosen = [int(np.argmin((x**2).sum(1)))]
    distance = ((x - x[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(n, len(pool)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, ((x - x[chosen[-1]]) ** 2).sum(1))
        distance[chosen] = -1.0
    return [pool[i] for i in chosen]


def by_family(predictor: LatencyPredictor, known: Sequence[Timeable], labels: Sequence[float]) -> dict[str, Any]:
    """Measure how well each family is predicted by a predictor that learnt from the others.

    Args:
        predictor: Fitted predictor, which holds its answers on networks left out.
        known: Networks that it was fitted on.
        labels: Latency of each in milliseconds.

    Returns:
        For each family the number of networks, the mean absolute percentage error, and the rank agreement (tau-b) of
        predictions and of MACs alone; empty where there is only one family.
    """
    found: dict[str, Any] = {}
    names = sorted({c.family for c in known})
    for name in names if len(names) > 1 else ():
        inside = [i for i, c in enumerate(known) if c.family == name]
        answers = predictor.left_out_[inside]
        y, macs = np.array(labels)[inside], [float(known[i].seen.macs) for i in inside]
        if len(inside) > 1:
            found[name] = {
                "networks": len(inside),
                "mape_percent": float(np.mean(np.abs(answers / y - 1)) * 100),
                "tau": float(kendall_tau(answers.tolist(), y.tolist())),
                "tau_macs": float(kendall_tau(macs, y.tolist())),
            }
    return found


def time_architecture(architecture: Architecture, conditions: Conditions, seed: int) -> Latency:
    """Time a network with random weights, twice where the machine was disturbed.

    Args:
        architecture: Architecture to build and time.
        conditions: Device, batch, runtime, precision and threads under which is timed.
        seed: Seed of weights and inputs.

    Returns:
        The latency; of two timings the calmer one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, shape = architecture.space.construct(architecture)
    (found,) = measure_together([(module, shape)], conditions, seed=seed, seconds=SECONDS)
    if found.is_trusted:
        return found
    (again,) = measure_together([(module, shape)], conditions, seed=seed, seconds=SECONDS)
    return again if again.is_trusted or again.spread < found.spread else found


def _row(candidate: Timeable, latency: Latency) -> dict[str, object]:
    return {
        "family": candidate.family,
        "architecture": candidate.architecture.to_json(),
        "key": candidate.key,
        "macs": candidate.seen.macs,
        "params": candidate.seen.params,
        "median_ms": f"{latency.median_ms:.6g}",
        "low_ms": f"{latency.low_ms:.6g}",
        "high_ms": f"{latency.high_ms:.6g}",
        "repeats": latency.repeats,
        "flags": "; ".join(latency.flags),
    }


def _card(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    text = (
        f"# Latency on {about['device']}\n\n"
        f"{about['networks']} networks timed, {about['flagged']} of them flagged as disturbed.\n"
        f"{about['runtime']}, {about['precision']}, {about['threads']} threads, batch {about['batch']}, "
        f"torch {about['torch']}.\n\n"
        f"Networks left out ({metrics['folds']}): MAPE {metrics['mape_percent']:.1f} %, τ-b {metrics['tau']:.3f}.\n"
    )
    if not metrics["families"]:
        return text
    cells = [
        [name, str(m["networks"]), f"{m['mape_percent']:.1f}", f"{m['tau']:.3f}", f"{m['tau_macs']:.3f}"]
        for name, m in metrics["families"].items()
    ]
    figures = Listing(["family", "networks", "MAPE %", "τ-b", "τ-b of MACs"], cells)
    return f"{text}\nEach family predicted from the others:\n\n{figures.markdown()}"
