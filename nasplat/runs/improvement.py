"""The folder of an improvement: each network's drawing beside the original, its ONNX file, graph and weights."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from nasplat.errors import EditError, ExportError
from nasplat.frontends import rebuild
from nasplat.graph import Graph
from nasplat.graph.drawing import draw_diff
from nasplat.inputs import load_predictor, load_task, module_of, resolve
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import ImproveRun
from nasplat.runs.messages import Messages
from nasplat.runs.reading import read_json
from nasplat.tables.rows import write_atomically, write_together
from nasplat.task import Task
from nasplat.workflows.export import export
from nasplat.workflows.improve import Candidate, Improvement, ImproveSettings, improve

FILE, TABLE = "trained.json", "improved.csv"


class Trainings:
    """Trainings that an improvement has finished: metrics by the network's key, and weights in files beside them."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        """Read what was trained before.

        Args:
            folder: Folder of the improvement.
            about: Task, budget and seed of the trainings, as plain data.

        Raises:
            EditError: the folder holds trainings of another task, budget or seed.
            SearchError: the file of the trainings was altered or cut short.
        """
        self.folder = folder / "trained"
        file, about = self.folder / FILE, json.loads(json.dumps(about))
        self.rows: dict[str, dict[str, float]] = {}
        before = read_json(file)
        if before is not None:
            if before.get("about") != about:
                raise EditError(
                    f"{folder} holds trainings of {before.get('about')}, got {about}.\n  Choose another folder."
                )
            self.rows = before["rows"]
        self.about = about

    def known(self, key: str) -> dict[str, Any] | None:
        """Return what an earlier training of a network gave; None where there was none.

        Args:
            key: Canonical key of the network's graph.

        Returns:
            Fields of a `Candidate`: decide, test and weights.

        Raises:
            EditError: the file of the weights is missing, or was altered or cut short.
        """
        if key not in self.rows:
            return None
        file = self.folder / f"{key[:16]}.safetensors"
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as err:
            raise EditError(
                f"expected the weights of a training in {str(file)!r}, got: {err}.\n"
                f"  Restore the file, or remove {str(self.folder)!r} to train anew."
            ) from err
        return self.rows[key] | {"weights": weights}

    def learnt(self, key: str, candidate: Candidate) -> None:
        """Keep a training.

        Args:
            key: Canonical key of the network's graph.
            candidate: The network with its metrics and weights.
        """
        weights = save({k: v.contiguous() for k, v in (candidate.weights or {}).items()})
        write_atomically(self.folder / f"{key[:16]}.safetensors", weights)
        self.rows[key] = {"decide": candidate.decide or 0.0, "test": candidate.test or 0.0}
        write_atomically(self.folder / FILE, json.dumps({"about": self.about, "rows": self.rows}, indent=1) + "\n")


def run_improvement(run: ImproveRun, folder: RunFolder, messages: Messages | None = None) -> list[dict[str, Any]]:
    """Edit the network of a run, and write what was found.

    Args:
        run: Settings of the improvement.
        folder: Folder of the run; the same call takes trainings that an interrupted one finished.
        messages: Where progress goes; None for silence.

    Returns:
        One row per network, see `write_improvement`.

    Raises:
        InputError: the network cannot be run by torch.
        EditError: it cannot be edited, nothing found saves and keeps enough, or the folder holds other trainings.
        SearchError: the folder holds another run.
    """
    torch.manual_seed(run.seed)
    module, shape = module_of(resolve(run.network), run.shape or None)
    predictor, task, before = load_predictor(run.predictor), None, None
    resolved = {"shape": list(shape)}
    with folder.described(run, resolved), (messages or Messages()).progress("improve") as update:
        if run.task is not None:
            task = load_task(run.task)
            before = Trainings(folder.path, {"task": run.task, "budget": asdict(run.budget), "seed": run.seed})
        settings = ImproveSettings(
            rounds=run.rounds,
            finalists=run.finalists,
            seed=run.seed,
            budget=run.budget,
            report=update,
            known=before and before.known,
            learnt=before and before.learnt,
        )
        moved = task and task.to(run.device)
        found = improve(module, shape, predictor, run.cut or None, run.keep, moved, settings)
        rows = write_improvement(found, folder.path, task)
        about = {"networks": rows, "judged": found.seen, "unbuildable_edits": found.unbuildable}
        write_atomically(folder.improved, json.dumps(about, indent=1, default=str) + "\n")
        files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.path.glob("found*.onnx"))}
        folder.record(files=files)
    return rows


def write_improvement(found: Improvement, folder: str | Path, task: Task | None = None) -> list[dict[str, Any]]:
    """Write improved.csv, and for each network found1 … a drawing, an ONNX file with certificate, graph and weights.

    Args:
        found: Answer of `nasplat.improve`.
        folder: Folder to write to; it is made where there is none.
        task: Task on which the metric of file and module is compared too; None compares outputs alone.

    Returns:
        One row per network, the original first: name, edits, predicted gain, costs and shares saved, metrics, and the
        ONNX file or why there is none.
    """
    folder = Path(folder)
    rows = [_row("original", found.original)]
    for i, candidate in enumerate(found.found, 1):
        name = f"found{i}"
        write_atomically(folder / f"{name}.svg", draw_diff(found.original.graph, candidate.graph))
        module, row = candidate.module(), _row(name, candidate)
        try:
            row["largest_error"] = export(
                module, folder / f"{name}.onnx", candidate.network.example_input, task
            ).max_relative_error
            row["onnx"] = f"{name}.onnx"
        except ExportError as err:
            row["onnx"] = f"none: {str(err).splitlines()[0]}"
        kept = Graph(
            candidate.graph.nodes,
            candidate.graph.edges,
            candidate.graph.weights,
            candidate.graph.notes,
            candidate.graph.rung,
            candidate.network.program,
        )
        state = {k: v.detach().contiguous() for k, v in module.state_dict().items()}
        both = {f"{name}.graph.json": kept.to_json() + "\n", f"{name}.safetensors": save(state)}
        write_together({folder / file: content for file, content in both.items()})
        rows.append(row)
    columns, text = list(dict.fromkeys(k for row in rows for k in row)), io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / TABLE, text.getvalue())
    return rows


def read_improved(folder: str | Path, name: str) -> torch.nn.Module:
    """Rebuild a network that `write_improvement` wrote.

    Args:
        folder: Folder that was written.
        name: Name of the network, such as 'found1'.

    Returns:
        Module with its weights; it computes what the network found computes.

    Raises:
        EditError: there is no such network.
    """
    graph, weights = Path(folder) / f"{name}.graph.json", Path(folder) / f"{name}.safetensors"
    if not graph.exists() or not weights.exists():
        raise EditError(
            f"expected {graph.name} and {weights.name} in {folder}, got no such files.\n  Run nasplat improve first."
        )
    return rebuild(Graph.from_json(graph.read_text(encoding="utf-8")), load_file(weights))


def _row(name: str, c: Candidate) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "edits": c.words,
        "predicted_gain": c.gain,
        "in_support": c.prediction.mean is not None,
    }
    signs = {"macs_bound": c.prediction.bound, "params_bound": c.prediction.params_bound}
    row |= {name: sign for name, sign in signs.items() if sign}
    row |= {"predicted": c.prediction.mean, "low": c.prediction.low, "high": c.prediction.high}
    for cost, value in c.costs.items():
        row |= {cost: value, f"{cost}_saved": c.saved[cost]}
    row |= {} if c.inherited is None else {"inherited": c.inherited}
    return row | ({} if c.decide is None else {"decide": c.decide, "test": c.test})
