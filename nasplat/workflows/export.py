"""`export`: a module becomes an ONNX file that was checked; a file that disagrees with its module is never written.

The file needs nothing of ours. Beside it lies a certificate: versions, errors, sizes, latency, hashes.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from nasplat import __version__
from nasplat.errors import ExportError
from nasplat.frontends import capture_module
from nasplat.probes import measure, time_passes
from nasplat.probes.runtimes import open_session, to_onnx
from nasplat.tables.rows import write_together
from nasplat.task import Task

TOLERANCE, TOLERANCE_OF_MAPS = 1e-4, 1e-3
"""Allowed ratio of the largest difference to the largest output; the second for networks that answer maps, one of
whose many
pixels may round to another sampling place."""
BATCHES = (1, 2, 7)
"""Batch sizes on which a file is compared with its module."""
SEEDS = (0, 1, 2)
"""Seeds of the random inputs of each batch size."""


@dataclass(frozen=True)
class Certificate:
    """What was checked before an ONNX file was written, and with what."""

    file: str
    """Name of the ONNX file, without its folder."""
    sha256: str
    """Hash of the file's bytes, in hexadecimal."""
    size_bytes: int
    """Size of the file in bytes."""
    opset: int
    """Version of the ONNX operator set."""
    tolerance: float
    """Allowed ratio of the largest difference to the largest output."""
    max_relative_error: float
    """Largest such ratio that was found over all checks."""
    checks: list[dict[str, Any]]
    """One row for each batch size and seed: largest difference, largest output, relative error."""
    task_metric: dict[str, Any] | None
    """Metric of module and file on the same examples; None where no task was at hand."""
    macs: int
    """Multiply-accumulates of one example."""
    params: int
    """Number of parameters of the module."""
    graph_key: str
    """Key of the module's computation graph."""
    torch_latency_ms: float
    """Median latency of one example in torch on this machine, in milliseconds."""
    onnx_latency_ms: float
    """Median latency of one example in ONNX Runtime on this machine with default threads, in milliseconds."""
    versions: dict[str, str]
    """Versions of nasplat, torch, onnx, onnxruntime and Python."""
    machine: str
    """Device and number of threads behind the latencies."""
    bound: str = ""
    """What MACs are: '' exact, '≥' a lower bound, '≤' an upper bound, '≈' neither of the two."""
    params_bound: str = ""
    """The same of parameters."""

    def to_json(self) -> str:
        """Write all fields as text.

        Returns:
            Indented JSON.
        """
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class _Checked:
    """An exported network that agrees with its module, before it is written."""

    module: nn.Module
    shape: tuple[int, ...]
    """Shape of a batch that it was exported for."""
    data: bytes
    """Content of the file."""
    session: Any
    """ONNX Runtime's session that runs it."""
    opset: int
    tolerance: float
    checks: list[dict[str, Any]]
    task_metric: dict[str, Any] | None


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
        module: Network with trained weights; exported in eval mode.
        path: ONNX file to write; the certificate gets the same name with the ending .certificate.json.
        example_input: Shape of one batch, or a tensor of it.
        task: Task whose metric, on its decide split, the file must reach too; None compares outputs alone.
        tolerance: Allowed ratio of the largest difference to the largest output; by default 1e-4, and 1e-3 for networks
            that answer maps.
        opset: Version of the ONNX operator set.

    Returns:
        The certificate that lies beside the file.

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
        certificate = _certify(_Checked(module, shape, data, session, opset, tolerance, checks, metric), path.name)
    finally:
        module.train(training)
    write_together({path: data, path.with_suffix(".certificate.json"): certificate.to_json() + "\n"})
    return certificate


def check_export(
    module: nn.Module, path: str | Path, example_input: Sequence[int], tolerance: float | None = None
) -> float:
    """Compare an existing ONNX file with a module on several batch sizes and inputs.

    Args:
        module: Network that the file should compute; compared in eval mode.
        path: ONNX file to check.
        example_input: Shape of one batch.
        tolerance: Allowed ratio of the largest difference to the largest output; None for the default of `export`.

    Returns:
        Largest ratio that was found.

    Raises:
        ExportError: the file is missing or broken, or disagrees.

    Example:
        >>> check_export(module, "net.onnx", (1, 3, 32, 32))  # doctest: +SKIP
        3.1e-07
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
        """Open a file in ONNX Runtime.

        Args:
            path: ONNX file with one input.
        """
        super().__init__()
        self.session = open_session(Path(path).read_bytes())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer as the file does.

        Args:
            x: Batch of inputs, on the CPU.

        Returns:
            The file's first output.
        """
        return torch.from_numpy(_run(self.session, x))


def _run(session: Any, x: torch.Tensor) -> np.ndarray:
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@torch.inference_mode()
def _tolerance(module: nn.Module, shape: tuple[int, ...]) -> float:
    """The tolerance for what a network answers: classes or values, or maps."""
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
                    f"batch {batch}: expected output {wanted.shape}, the file gives {got.shape}.\n"
                    "  Nothing was written."
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
                    f"batch {batch}, seed {seed}: expected max |difference| <= {tolerance:g} · max |output|, "
                    f"got {relative:.3g}.\n"
                    "  Nothing was written: the file would not compute what the module computes."
                )
    return rows


@torch.inference_mode()
def _compare_metric(module: nn.Module, session: Any, task: Task, n: int = 1000) -> dict[str, Any]:
    x, y = task.decide.x[:n].cpu(), task.decide.y[:n].cpu()
    ours = float(task.values(module(x), y).double().mean())
    theirs = float(task.values(torch.from_numpy(_run(session, x)), y).double().mean())
    if abs(ours - theirs) > 1e-3 * max(1.0, abs(ours)) + 0.2:
        raise ExportError(
            f"{task.metric_name}: expected {ours:.4g} as in torch, the file reaches {theirs:.4g}.\n"
            "  Nothing was written."
        )
    return {"metric": task.metric_name, "examples": len(x), "torch": ours, "onnx": theirs}


def _certify(found: _Checked, name: str) -> Certificate:
    """The certificate of a checked network; torch and ONNX Runtime are timed for it."""
    graph = capture_module(found.module, (1, *found.shape[1:]))
    latency = measure(found.module, found.shape, repeats=20)
    x = torch.randn(1, *found.shape[1:], generator=torch.Generator().manual_seed(0))
    in_onnx = time_passes(lambda: _run(found.session, x), repeats=20)
    return Certificate(
        file=name,
        sha256=hashlib.sha256(found.data).hexdigest(),
        size_bytes=len(found.data),
        opset=found.opset,
        tolerance=found.tolerance,
        max_relative_error=max(r["relative_error"] for r in found.checks),
        checks=found.checks,
        task_metric=found.task_metric,
        macs=graph.macs,
        params=graph.params,
        graph_key=graph.key,
        torch_latency_ms=latency.median_ms,
        onnx_latency_ms=in_onnx.median_ms,
        versions={
            "nasplat": __version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        machine=f"{latency.device}, {latency.threads} threads",
        bound=graph.cost.bound,
        params_bound=graph.cost.params_bound,
    )
