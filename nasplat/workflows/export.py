"""Modules become ONNX files that were checked; a file that disagrees with its module is never written.

The file needs nothing of ours. Beside it lies a certificate: versions, errors, sizes, latency, hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nasplat import __version__
from nasplat.errors import ExportError
from nasplat.frontends import capture_module
from nasplat.probes import measure, time_passes
from nasplat.probes.runtimes import open_session, to_onnx
from nasplat.task import Task

TOLERANCE, TOLERANCE_OF_MAPS = 1e-4, 1e-3
"""Largest |difference| over largest |output|; of networks that answer maps, one of whose many pixels may round to another sampling place."""
BATCHES = (1, 2, 7)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Certificate:
    """What was checked, and with what."""

    file: str
    sha256: str
    size_bytes: int
    opset: int
    tolerance: float
    """Allowed max |difference| / max |output|."""
    max_relative_error: float
    """The largest found over all checks."""
    checks: list[dict[str, Any]]
    """One row per (batch, seed): largest difference, largest output, relative error."""
    task_metric: dict[str, Any] | None
    """The metric of module and file on the same examples, where a task was at hand."""
    macs: int
    params: int
    graph_key: str
    torch_latency_ms: float
    onnx_latency_ms: float
    """Median of batch 1 on this machine, default threads."""
    versions: dict[str, str]
    machine: str

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps(asdict(self), indent=1)


def export(
    module: nn.Module,
    path: str | Path,
    example_input: Sequence[int] | torch.Tensor,
    task: Task | None = None,
    tolerance: float | None = None,
    opset: int = 18,
) -> Certificate:
    """Write an ONNX file with a symbolic batch and its certificate, if ONNX Runtime agrees with torch.

    Args:
        module: Any module with real weights; exported in eval mode.
        path: Of the .onnx file; the certificate is written to the same name with .certificate.json.
        example_input: Shape of one batch, or a tensor.
        task: If given, the metric is compared on its decide split too.
        tolerance: Allowed max |difference| / max |output|; default 1e-4, and 1e-3 for networks that answer maps.
        opset: Version of the ONNX operator set.

    Returns:
        The certificate.

    Raises:
        ExportError: the exporter failed, or the file does not agree; nothing is written then.

    Example:
        >>> import torch, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(torch.nn.Linear(4, 2), f"{folder}/net.onnx", (1, 4)).max_relative_error < 1e-4
        True
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ExportError(f"expected a path ending in .onnx, got {str(path)!r}.\n  Rename it.")
    shape = tuple(example_input.shape) if isinstance(example_input, torch.Tensor) else tuple(example_input)
    training = module.training
    module.eval()
    try:
        tolerance = _tolerance(module, shape) if tolerance is None else tolerance
        data = to_onnx(module, shape, opset)
        session = open_session(data)
        checks = _compare(module, session, shape, tolerance)
        metric = _compare_metric(module, session, task) if task is not None else None
        certificate = _certify(module, session, data, path, shape, tolerance, opset, checks, metric)
    finally:
        module.train(training)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".onnx.partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    path.with_suffix(".certificate.json").write_text(certificate.to_json() + "\n", encoding="utf-8")
    return certificate


def check_export(
    module: nn.Module, path: str | Path, example_input: Sequence[int], tolerance: float | None = None
) -> float:
    """Compare an existing ONNX file with a module.

    Returns:
        The largest relative error.

    Raises:
        ExportError: the file is missing or broken, or disagrees.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as err:
        raise ExportError(f"expected an ONNX file, got {str(path)!r} ({err}).\n  Check the path.") from err
    training = module.training
    module.eval()
    try:
        shape = tuple(example_input)
        rows = _compare(
            module, open_session(data), shape, _tolerance(module, shape) if tolerance is None else tolerance
        )
    finally:
        module.train(training)
    return max(r["relative_error"] for r in rows)


class OnnxNetwork(nn.Module):
    """A file that answers like a module, so that two files can be compared."""

    def __init__(self, path: str | Path) -> None:
        """Args:
        path: Of the ONNX file.
        """
        super().__init__()
        self.session = open_session(Path(path).read_bytes())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The file's first output."""
        return torch.from_numpy(_run(self.session, x))


def _run(session: Any, x: torch.Tensor) -> np.ndarray:
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@torch.inference_mode()
def _tolerance(module: nn.Module, shape: tuple[int, ...]) -> float:
    """By what a network answers: classes or values, or maps."""
    found = module(torch.zeros(1, *shape[1:]))
    return TOLERANCE_OF_MAPS if isinstance(found, torch.Tensor) and found.dim() > 2 else TOLERANCE


@torch.inference_mode()
def _compare(module: nn.Module, session: Any, shape: tuple[int, ...], tolerance: float) -> list[dict[str, Any]]:
    rows = []
    for batch in BATCHES:
        for seed in SEEDS:
            x = torch.randn(batch, *shape[1:], generator=torch.Generator().manual_seed(seed * 100 + batch))
            wanted = module(x).numpy()
            try:
                got = _run(session, x)
            except Exception as err:  # as above
                raise ExportError(
                    f"ONNX Runtime failed on batch {batch}: {str(err).splitlines()[0]}\n  Nothing was written."
                ) from err
            if got.shape != wanted.shape:
                raise ExportError(
                    f"batch {batch}: expected output {wanted.shape}, the file gives {got.shape}.\n  Nothing was written."
                )
            difference, largest = float(np.abs(got - wanted).max()), float(np.abs(wanted).max())
            relative = difference / max(largest, 1e-12)
            rows.append(
                {
                    "batch": batch,
                    "seed": seed,
                    "max_difference": difference,
                    "max_output": largest,
                    "relative_error": relative,
                }
            )
            if not relative <= tolerance:
                raise ExportError(
                    f"batch {batch}, seed {seed}: expected max |difference| <= {tolerance:g} · max |output|, got {relative:.3g}.\n"
                    "  Nothing was written: the file would not compute what the module computes."
                )
    return rows


@torch.inference_mode()
def _compare_metric(module: nn.Module, session: Any, task: Task, n: int = 1000) -> dict[str, Any]:
    x, y = task.decide.x[:n].cpu(), task.decide.y[:n].cpu()
    ours = float(task.metric(module(x), y).double().mean())
    theirs = float(task.metric(torch.from_numpy(_run(session, x)), y).double().mean())
    if abs(ours - theirs) > 1e-3 * max(1.0, abs(ours)) + 0.2:
        raise ExportError(
            f"{task.metric_name}: expected {ours:.4g} as in torch, the file reaches {theirs:.4g}.\n  Nothing was written."
        )
    return {"metric": task.metric_name, "examples": len(x), "torch": ours, "onnx": theirs}


def _certify(
    module: nn.Module,
    session: Any,
    data: bytes,
    path: Path,
    shape: tuple[int, ...],
    tolerance: float,
    opset: int,
    checks: list[dict[str, Any]],
    metric: dict[str, Any] | None,
) -> Certificate:
    import onnx
    import onnxruntime

    graph = capture_module(module, (1, *shape[1:]))
    latency = measure(module, shape, repeats=20)
    x = torch.randn(1, *shape[1:], generator=torch.Generator().manual_seed(0))
    in_onnx = time_passes(lambda: _run(session, x), repeats=20)
    return Certificate(
        path.name,
        hashlib.sha256(data).hexdigest(),
        len(data),
        opset,
        tolerance,
        max(r["relative_error"] for r in checks),
        checks,
        metric,
        graph.macs,
        graph.params,
        graph.key,
        latency.median_ms,
        in_onnx.median_ms,
        {
            "nasplat": __version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        f"{latency.device}, {latency.threads} threads",
    )
