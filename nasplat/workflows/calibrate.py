"""`calibrate` times a chosen sample of networks on this device and fits what predicts the latency of any other.

A calibration is a predictor's folder with `timings.csv` beside it, one row a timed network, appended as it goes: an interrupted
calibration goes on where it stopped. Calibrations live in the user's cache, one folder per device, runtime, precision, threads and
batch; `load_predictor` finds the one of this machine and fills `Prediction.latency_ms` with it.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from nasplat.tables.metrics import kendall_tau

POOL = 3
"""Candidates captured per network timed."""
LARGEST = 3_000_000_000
"""MACs of a candidate at most, where several families are timed: a pass should take less than a second."""
SECONDS = 1.0
"""Timed passes of a network at most, together."""
COLUMNS = ("family", "architecture", "key", "macs", "params", "median_ms", "low_ms", "high_ms", "repeats", "flags")


@dataclass(frozen=True)
class Candidate:
    """A network that may be timed."""

    family: str
    architecture: Architecture
    seen: View
    key: str


def calibrate(
    spaces: Sequence[Space | str] = (),
    n: int = 200,
    conditions: Conditions | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    report: Callable[[int, int, str], None] | None = None,
) -> LatencyPredictor:
    """Time up to `n` networks and fit a latency predictor.

    Args:
        spaces: Families to choose from; all shipped ones by default.
        n: Networks to time; those of an earlier, interrupted call count.
        conditions: Device, batch, runtime, precision and threads.
        folder: Where the calibration goes; the user's cache by default.
        seed: Decides the candidates and their order.
        report: Called with (timed, n, words about the last one).

    Returns:
        The predictor, saved; `validation_` holds its error on families left out.

    Raises:
        InputError: fewer than 20 networks.
    """
    if n < 20:
        raise InputError(f"expected at least 20 networks, got {n}.\n  Some 200 cover the shipped spaces.")
    conditions = conditions or Conditions()
    path = Path(folder) if folder is not None else conditions.folder
    path.mkdir(parents=True, exist_ok=True)
    families = [load_space(s) if isinstance(s, str) else s for s in (spaces or list_spaces())]
    chosen = choose(candidates(families, n, seed), n)
    random.Random(f"{seed} order").shuffle(chosen)  # so that what an interrupted calibration has covers all families
    file = path / "timings.csv"
    rows = _read(file)
    started, fresh = time.monotonic(), 0
    for at, candidate in enumerate(chosen):
        if candidate.key in rows:
            continue
        latency = time_architecture(candidate.architecture, conditions, seed)
        rows[candidate.key] = _append(file, candidate, latency)
        fresh += 1
        if report is not None:
            left = (time.monotonic() - started) / fresh * (len(chosen) - at - 1)
            report(at + 1, len(chosen), f"{candidate.family} {latency.median_ms:.2f} ms, {left:.0f} s left")
    known = [c for c in chosen if c.key in rows]
    labels = [float(rows[c.key]["median_ms"]) for c in known]
    predictor = LatencyPredictor(seed=seed).fit([c.seen for c in known], labels, [c.family for c in known])
    metrics = predictor.validation_ | {"families": by_family(predictor, known, labels)}
    flagged = sum(bool(rows[c.key]["flags"]) for c in known)
    about = {k: v for k, v in asdict(conditions).items() if v is not None}
    about |= {
        "device": device_name(torch.device(conditions.device)),
        "threads": conditions.threads or torch.get_num_threads(),
    }
    about |= {"networks": len(known), "flagged": flagged, "torch": torch.__version__, "seed": seed}
    predictor.save(path, about, metrics, _card(about, metrics))
    return predictor


def candidates(families: Sequence[Space], n: int, seed: int) -> list[Candidate]:
    """`POOL` times as many distinct networks as will be timed, equally many of each family."""
    found: dict[str, Candidate] = {}
    largest = LARGEST if len(families) > 1 else float("inf")
    each = -(-POOL * n // len(families))
    for space in families:
        rng, taken = random.Random(f"{seed} {space.name}"), 0
        for _ in range(4 * each):
            if taken == each:
                break
            architecture = space.sample(seed=rng.getrandbits(48))
            graph = architecture.graph()
            if graph.macs <= largest and not graph.unknown_ops and graph.key not in found:
                found[graph.key] = Candidate(space.name, architecture, view(graph), graph.key)
                taken += 1
    return list(found.values())


def choose(pool: Sequence[Candidate], n: int) -> list[Candidate]:
    """Those that lie farthest apart in what they execute, one after another (Gonzalez 1985: farthest-first traversal)."""
    x = np.log1p(np.array([c.seen.executed[0].ravel() for c in pool]))
    x = (x - x.mean(0)) / np.maximum(1e-9, x.std(0))
    chosen = [int(np.argmin((x**2).sum(1)))]
    distance = ((x - x[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(n, len(pool)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, ((x - x[chosen[-1]]) ** 2).sum(1))
        distance[chosen] = -1.0
    return [pool[i] for i in chosen]


def by_family(predictor: LatencyPredictor, known: Sequence[Candidate], labels: Sequence[float]) -> dict[str, Any]:
    """For each family: a predictor fitted on the others, its error and its rank agreement, beside that of MACs."""
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
    """A latency; once more where the machine was disturbed, and the calmer one of both."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, shape = architecture.space.construct(architecture)
    (found,) = measure_together([(module, shape)], conditions, seed=seed, seconds=SECONDS)
    if found.is_trusted:
        return found
    (again,) = measure_together([(module, shape)], conditions, seed=seed, seconds=SECONDS)
    return again if again.is_trusted or again.spread < found.spread else found


def _append(file: Path, candidate: Candidate, latency: Latency) -> dict[str, str]:
    row = {
        "family": candidate.family,
        "architecture": candidate.architecture.to_json(),
        "key": candidate.key,
        "macs": str(candidate.seen.macs),
        "params": str(candidate.seen.params),
        "median_ms": f"{latency.median_ms:.6g}",
        "low_ms": f"{latency.low_ms:.6g}",
        "high_ms": f"{latency.high_ms:.6g}",
        "repeats": str(latency.repeats),
        "flags": "; ".join(latency.flags),
    }
    is_new = not file.exists() or not file.stat().st_size
    with file.open("a", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow([row[c] for c in COLUMNS])
    return row


def _read(file: Path) -> dict[str, Mapping[str, str]]:
    if not file.exists():
        return {}
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:  # a killed process left half a row
        file.write_text(whole, encoding="utf-8")
    return {r["key"]: r for r in csv.DictReader(whole.splitlines())}


def _card(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    lines = [
        f"# Latency on {about['device']}",
        "",
        f"{about['networks']} networks timed, {about['flagged']} of them flagged as disturbed.",
    ]
    lines += [
        f"{about['runtime']}, {about['precision']}, {about['threads']} threads, batch {about['batch']}, torch {about['torch']}."
    ]
    lines += [
        "",
        f"Networks left out ({metrics['folds']}): MAPE {metrics['mape_percent']:.1f} %, τ-b {metrics['tau']:.3f}.",
    ]
    if not metrics["families"]:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "Each family predicted from the others:",
        "",
        "| family | networks | MAPE % | τ-b | τ-b of MACs |",
        "|---|---|---|---|---|",
    ]
    for name, m in metrics["families"].items():
        lines.append(f"| {name} | {m['networks']} | {m['mape_percent']:.1f} | {m['tau']:.3f} | {m['tau_macs']:.3f} |")
    return "\n".join(lines) + "\n"
