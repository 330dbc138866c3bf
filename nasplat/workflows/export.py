"""`export`: a module becomes an ONNX file that was checked; a file that disagrees with its module is never written.

The file needs nothing of ours. Beside it lies a certificate: versions, errors, sizes, latency, hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from nasplat import __version__
from nasplat.errors import ExportError
from nasplat.frontends import capture_module
from nasplat.frontends.calls import unpack
from nasplat.frontends.examples import Inputs, call
from nasplat.frontends.module_state import evaluating
from nasplat.probes import time_passes
from nasplat.probes.agreement import Difference, difference, ratio, scale, tolerance_of
from nasplat.probes.onnx_network import OnnxNetwork, described
from nasplat.probes.onnx_writer import Written, answer, name_of, on_cpu, reason_of, to_onnx
from nasplat.tables.rows import write_together
from nasplat.task import Task
from nasplat.task.bundle import feed

LARGE = 33
"""Batch that is compared besides small ones: networks may treat batches above 8, 16 or 32 differently."""
BATCHES = (1, 2, 7, LARGE)
"""Batch sizes on which a file is compared with its module; of a batch of one, torch.export promises nothing."""
SEEDS = (0, 1, 2)
"""Seeds of the inputs of each batch size; of the large batch, the second alone."""
MOST_NUMBERS = 2**24
"""Numbers among the inputs of a batch above which the large batch becomes smaller."""


_NOTHING = "Nothing was written: the file would not compute what the module computes."


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
    """Allowed ratio of the largest difference to the spread of an output; the largest of all outputs'."""
    max_relative_error: float
    """Largest such ratio that was found over all checks."""
    checks: list[dict[str, Any]]
    """One row for each batch size, seed, and length of sequences that is not the example's: largest difference, largest
    output, largest relative error of an output."""
    task_metric: dict[str, Any] | None
    """Metric of module and file on the same examples; None where no task was at hand."""
    macs: int
    """Multiply-accumulates of one example, or of the batch that the file is fixed to."""
    params: int
    """Number of parameters of the module."""
    graph_key: str
    """Key of the module's computation graph."""
    torch_latency_ms: float
    """Median latency of the same in torch on this machine, in milliseconds."""
    onnx_latency_ms: float
    """Median latency of the same in ONNX Runtime on this machine with default threads, in milliseconds."""
    versions: dict[str, str]
    """Versions of nasplat, torch, onnx, onnxruntime and Python."""
    machine: str
    """Device and number of threads behind the latencies."""
    bound: str = ""
    """What MACs are: '' exact, '≥' a lower bound, '≤' an upper bound, '≈' neither of the two."""
    params_bound: str = ""
    """The same of parameters."""
    batch: int | None = None
    """Number of examples that the file takes; None where it takes any number."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    """Name, type and shape of each input, 'batch' standing for an axis of any size."""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """Name, type, shape, tolerance, spread, largest difference and relative error of each output."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what the file does not do, and why."""

    def to_json(self) -> str:
        """Write all fields as text.

        Returns:
            Indented JSON.
        """
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class _Compared:
    """A file that agrees with its module."""

    tolerance: float
    checks: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    notes: tuple[str, ...]

    @property
    def error(self) -> float:
        """Largest relative error."""
        return max(row["relative_error"] for row in self.checks)


@dataclass(frozen=True)
class _Row:
    """One batch that was compared."""

    batch: int
    seed: int
    found: list[Difference]
    """One for each output."""
    length: int | None = None
    """Number of tokens of its sequences; None for those of the example."""


def export(
    module: nn.Module,
    path: str | Path,
    example_input: Any,
    task: Task | None = None,
    tolerance: float | None = None,
    opset: int = 18,
    batch: int | None = None,
) -> Certificate:
    """Write an ONNX file and its certificate, if ONNX Runtime agrees with torch.

    The file takes batches of any size where torch.export proves that the network does, and of a network that reads
    tokens sequences of any length. A network that needs the very batch or length it was given gets a file for that
    alone, and the certificate says so.

    Args:
        module: Network with trained weights; exported in eval mode, and left as it was.
        path: ONNX file to write; the certificate gets the same name with the ending .certificate.json.
        example_input: Shape of one batch (float32), a tensor, whose type is kept, a tuple of these for several
            arguments, or a dict of them for named ones.
        task: Task whose metric, on its decide split, the file must reach too; None compares outputs alone.
        tolerance: Allowed ratio of the largest difference to the spread of an output; by default 1e-4, 1e-3 for maps,
            which are outputs with more than two axes, 1e-2 in float16 and 8e-2 in bfloat16. Integers and booleans must
            be equal.
        opset: Version of the ONNX operator set.
        batch: Number of examples that the file takes; None for any number.

    Returns:
        The certificate that lies beside the file.

    Raises:
        ExportError: the exporter failed, the network computes different things for different batches or answers
            differently from call to call, or the file does not agree; nothing is written then.
        CaptureError: the example input is none.
        StorageError: the disk is full, or the folder cannot be written; old file and certificate stay then.

    Example:
        >>> import torch, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(torch.nn.Linear(4, 2), f"{folder}/net.onnx", (1, 4)).max_relative_error < 1e-4
        True
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ExportError(f"expected a path ending in .onnx, got {str(path)!r}.\n  Rename it.")
    with _undisturbed(module) as network:
        inputs = _indexing(network, Inputs.of(example_input))
        written = to_onnx(network, inputs, opset, batch)
        file = OnnxNetwork(written.data)
        compared = _compare(network, file, written, tolerance)
        metric = _compare_metric(network, file, task) if task is not None else None
        certificate = _certify(network, file, written, compared, opset, metric, path.name)
    write_together({path: written.data, path.with_suffix(".certificate.json"): certificate.to_json() + "\n"})
    return certificate


def check_export(module: nn.Module, path: str | Path, example_input: Any, tolerance: float | None = None) -> float:
    """Compare an existing ONNX file with a module on several batch sizes and inputs.

    Args:
        module: Network that the file should compute; compared in eval mode.
        path: ONNX file to check.
        example_input: Shape of one batch, a tensor, or a tuple or dict of these, as for `export`.
        tolerance: Allowed ratio of the largest difference to the spread of an output; None for the default of `export`.

    Returns:
        Largest ratio that was found. A file that is fixed to one batch is compared on that batch.

    Raises:
        ExportError: the file is missing or broken, takes or gives something else, or disagrees.
        CaptureError: the example input is none.

    Example:
        >>> check_export(module, "net.onnx", (1, 3, 32, 32))  # doctest: +SKIP
        3.1e-07
    """
    file = OnnxNetwork(path)
    with _undisturbed(module) as network:
        inputs = file.fitted(_indexing(network, Inputs.of(example_input)), network)
        names = tuple(file.names)
        return _compare(network, file, Written(b"", inputs, names, tuple(file.answers), file.batch), tolerance).error


@contextlib.contextmanager
def _undisturbed(module: nn.Module) -> Iterator[nn.Module]:
    """The module on the CPU in eval mode; modes, caches, buffers and torch's random numbers are put back afterwards."""
    if not isinstance(module, nn.Module):
        raise ExportError(f"expected a torch module, got {type(module).__name__}.\n  Wrap it in an nn.Module.")
    module = getattr(module, "_orig_mod", module)  # what torch.compile was given: its shell compiles for every size
    before = [(b, b.detach().clone()) for b in module.buffers() if b.device.type != "meta"]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluating(module):
        try:
            yield on_cpu(module)
        finally:
            for buffer, value in before:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _indexing(module: nn.Module, inputs: Inputs) -> Inputs:
    """The inputs, integers that index embeddings being known."""
    answer(module, inputs.repeated())  # whatever is wrong with the example is told in its words
    return inputs.indexing(module).sequences()


def _cases(written: Written) -> Iterator[tuple[int | None, int, int | None]]:
    """Batch sizes, seeds and lengths of the inputs that are compared; None stands for the example as it is."""
    yield from ((size, seed, None) for size, seed in _batches(written))
    have = written.inputs.length or 0
    for length in sorted({1, 2, have // 2, have - 1, 2 * have + 1} - {0, have}) if written.inputs.lengths else ():
        if length <= (written.inputs.longest or length):
            yield written.batch if written.batch is not None or written.inputs.batch is None else 2, SEEDS[1], length


def _batches(written: Written) -> Iterator[tuple[int | None, int]]:
    """Batch sizes and seeds of the inputs that are compared; a size of None stands for the example as it is."""
    if written.batch is not None or written.inputs.batch is None:
        yield from ((written.batch, seed) for seed in SEEDS)
        return
    numbers = sum(t.numel() for t in written.inputs.tensors(written.inputs.drawn(1)))
    large = max(9, min(LARGE, MOST_NUMBERS // max(numbers, 1)))
    for size in BATCHES:
        yield from ((large, seed) for seed in (SEEDS[1:2])) if size == LARGE else ((size, seed) for seed in SEEDS)


def _drawn(
    module: nn.Module, inputs: Inputs, size: int | None, seed: int, length: int | None
) -> tuple[Any, list[np.ndarray], str]:
    """Arguments for module and file, what the module answers, and why they are none but the example's own values."""
    number, note = seed * 100 + (size or 1), ""
    if length is not None:
        arguments = inputs.drawn(size, torch.Generator().manual_seed(number + length), length=length)
        return arguments, _arrays(answer(module, arguments)), ""
    if seed != SEEDS[0]:
        arguments = inputs.drawn(size, torch.Generator().manual_seed(number))
        try:
            return arguments, _arrays(answer(module, arguments)), ""
        except ExportError as err:
            note = f"compared on the example's own values alone; on others the network raises {reason_of(err)}"
    arguments = inputs.repeated(size, number)
    return arguments, _arrays(answer(module, arguments)), note


def _arrays(result: Any) -> list[np.ndarray]:
    """The tensors that a network answers, as arrays; bfloat16, which numpy lacks, as float32."""
    found = [t.detach() for t in tree_flatten(unpack(result))[0] if isinstance(t, Tensor)]
    try:
        return [(t.float() if t.dtype == torch.bfloat16 else t).resolve_conj().resolve_neg().numpy() for t in found]
    except (TypeError, RuntimeError) as err:
        raise ExportError(
            f"expected answers that are dense tensors, got others: {reason_of(err)}.\n  Let forward return .to_dense()."
        ) from err


def _precision(module: nn.Module, inputs: Inputs) -> str:
    """Coarsest number format among weights and inputs."""
    held = [*module.parameters(), *module.buffers(), *inputs.tensors(inputs.arguments)]
    found = {name_of(t.dtype) for t in held if t.is_floating_point()}
    return next((p for p in ("bfloat16", "float16", "float32", "float64") if p in found), "float32")


def _compare(module: nn.Module, file: OnnxNetwork, written: Written, tolerance: float | None) -> _Compared:
    """Compare a file with its module on all batches; raise where they disagree."""
    rows, notes, precision = list[_Row](), list[str](), _precision(module, written.inputs)
    limits, seen = list[float](), [set[float]() for _ in written.names]
    for size, seed, length in _cases(written):
        arguments, wanted, told = _drawn(module, written.inputs, size, seed, length)
        notes.append(told)
        given = written.inputs.tensors(arguments)
        for values, t in zip(seen, given, strict=True):
            if len(values) < 2:
                values.update(t.flatten().unique()[:2].tolist())
        if not rows:
            limits = [tolerance or tolerance_of(w.ndim, precision) for w in wanted]
            _check_repeatable(wanted, _arrays(answer(module, arguments)), limits, precision)
        where = f"batch {size or written.inputs.batch or 1}, seed {seed}" + (f", length {length}" if length else "")
        try:
            got = file.run(dict(zip(written.names, given, strict=True)))
            if len(wanted) != len(got):
                raise ExportError(f"{where}: expected {len(wanted)} outputs, the file gives {len(got)}.\n  {_NOTHING}")
            pairs = zip(wanted, got, written.answers, strict=True)
            found = [difference(w, g, f"{where}, {name}") for w, g, name in pairs]
        except ExportError as err:
            raise _refused(str(err), {r.batch for r in rows if r.batch != size}, written) from err
        rows.append(_Row(size or written.inputs.batch or 1, seed, found, length))
    same = zip(written.names, seen, strict=True)
    notes += [f"{name}: no value but {next(iter(v)):g} was compared" for name, v in same if len(v) == 1]
    return _judged(rows, limits, precision, written, tuple(dict.fromkeys(n for n in notes if n)))


def _refused(message: str, agreed: set[int], written: Written) -> ExportError:
    """The error of a file that disagrees; where it agrees on other batches, it says how to get a file for one."""
    if written.batch is not None or not agreed:
        return ExportError(message)
    sizes = ", ".join(map(str, sorted(agreed)))
    return ExportError(
        f"{message}\n  It agrees on batches of {sizes}: give one batch size, as export(…, batch=1) or --batch 1, for a "
        "file that takes that batch alone."
    )


def _check_repeatable(wanted: list[np.ndarray], again: list[np.ndarray], limits: list[float], precision: str) -> None:
    """Refuse a network that answers the same input differently in a second call."""
    try:
        found = [difference(w, a, "its second answer") for w, a in zip(wanted, again, strict=True)]
        same = all(ratio(d, scale([d], limit, precision)) <= limit for d, limit in zip(found, limits, strict=True))
    except (ExportError, ValueError):
        same = False
    if not same:
        raise ExportError(
            "expected a network that answers the same input alike in every call, got one that does not: it draws "
            "random numbers or changes a buffer in eval mode.\n  Nothing was written: agreement cannot be judged. "
            "Switch that off in eval mode."
        )


def _judged(
    rows: list[_Row], limits: list[float], precision: str, written: Written, notes: tuple[str, ...]
) -> _Compared:
    """Measure all differences by the spread of their output; raise where one is too large."""
    scales = [scale([r.found[i] for r in rows], limit, precision) for i, limit in enumerate(limits)]
    checks, outputs = [], [dict[str, Any]() for _ in limits]
    ratios_of = [[ratio(d, s) for d, s in zip(row.found, scales, strict=True)] for row in rows]
    wrong = {
        row.batch
        for row, ratios in zip(rows, ratios_of, strict=True)
        if not all(r <= limit for r, limit in zip(ratios, limits, strict=True))
    }
    for row, ratios in zip(rows, ratios_of, strict=True):
        for name, got, limit in zip(written.answers, ratios, limits, strict=True):
            if not got <= limit:
                message = (
                    f"batch {row.batch}, seed {row.seed}, {name}: expected max |difference| <= {limit:g} · spread of "
                    f"the output, got {got:.3g}.\n  {_NOTHING}"
                )
                raise _refused(message, {r.batch for r in rows} - wrong, written)
        worst = int(np.argmax([r / limit for r, limit in zip(ratios, limits, strict=True)]))
        checks.append(
            {
                "batch": row.batch,
                "seed": row.seed,
                **({} if row.length is None else {"length": row.length}),
                "max_difference": max(d.difference for d in row.found),
                "max_output": max(d.largest for d in row.found),
                "relative_error": max(ratios),
                "output": written.answers[worst],
            }
        )
        for about, d, got in zip(outputs, row.found, ratios, strict=True):
            about["max_difference"] = max(d.difference, about.get("max_difference", 0.0))
            about["relative_error"] = max(got, about.get("relative_error", 0.0))
    for about, name, limit, measure in zip(outputs, written.answers, limits, scales, strict=True):
        about |= {"name": name, "tolerance": limit, "scale": measure}
    ranges = [(min(r.found[i].low for r in rows), max(r.found[i].high for r in rows)) for i in range(len(limits))]
    still = [name for name, (low, high) in zip(written.answers, ranges, strict=True) if not low < high]
    told = (f"{', '.join(still)}: did not vary over the inputs that were compared",) if still else ()
    return _Compared(max(limits), checks, outputs, (*notes, *told))


@torch.no_grad()
def _compare_metric(module: nn.Module, file: OnnxNetwork, task: Task, n: int = 1000) -> dict[str, Any]:
    """The task's metric of module and file on the same examples, which must be equal but for rounding."""
    n = min(n, len(task.decide.x))
    n -= n % (file.batch or 1)
    if not n:
        raise ExportError(
            f"expected at least {file.batch} examples in the decide split, got {len(task.decide.x)}.\n"
            "  Export without the task, or for another batch."
        )
    x, y = task.decide.x[:n].cpu(), task.decide.y[:n].cpu()
    size = file.batch or n
    try:
        parts = [feed(module, x[i : i + size]) for i in range(0, n, size)]
        spec = tree_flatten(parts[0])[1]
        whole = [torch.cat(p) for p in zip(*(tree_flatten(part)[0] for part in parts), strict=True)]
        theirs = feed(file, x)
        theirs = tree_unflatten([theirs] if isinstance(theirs, Tensor) else list(theirs), spec)
        metric = [float(task.values(v, y).double().mean()) for v in (tree_unflatten(whole, spec), theirs)]
    except ExportError:
        raise
    except Exception as err:
        raise ExportError(
            f"the task's {task.metric_name} cannot be computed of this network: {reason_of(err)}.\n"
            "  Export without the task, or wrap the network so that it takes and answers what the task does."
        ) from err
    ours, got = metric
    if abs(ours - got) > 1e-3 * max(1.0, abs(ours)) + 0.2:
        raise ExportError(
            f"{task.metric_name}: expected {ours:.4g} as in torch, the file reaches {got:.4g}.\n  {_NOTHING}"
        )
    return {"metric": task.metric_name, "examples": len(x), "torch": ours, "onnx": got}


def _certify(
    module: nn.Module,
    file: OnnxNetwork,
    written: Written,
    compared: _Compared,
    opset: int,
    metric: dict[str, Any] | None,
    name: str,
) -> Certificate:
    """The certificate of a checked network; torch and ONNX Runtime are timed for it."""
    size = written.batch or (None if written.inputs.batch is None else 1)
    arguments = written.inputs.repeated(size)
    given = dict(zip(written.names, written.inputs.tensors(arguments), strict=True))
    with torch.inference_mode():
        in_torch = time_passes(lambda: call(module, arguments), repeats=20)
    in_onnx = time_passes(lambda: file.run(given), repeats=20)
    shapes = tree_map_only(Tensor, lambda t: t.to("meta") if t.is_floating_point() else t, arguments)
    graph = capture_module(module, shapes)
    about = file.session.get_outputs()
    return Certificate(
        file=name,
        sha256=hashlib.sha256(written.data).hexdigest(),
        size_bytes=len(written.data),
        opset=opset,
        tolerance=compared.tolerance,
        max_relative_error=compared.error,
        checks=compared.checks,
        task_metric=metric,
        macs=graph.macs,
        params=graph.params,
        graph_key=graph.key,
        torch_latency_ms=in_torch.median_ms,
        onnx_latency_ms=in_onnx.median_ms,
        versions={
            "nasplat": __version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        machine=f"{in_torch.device}, {in_torch.threads} threads",
        bound=graph.cost.bound,
        params_bound=graph.cost.params_bound,
        batch=written.batch,
        inputs=[described(i) for i in file.session.get_inputs()],
        outputs=[described(o) | row for o, row in zip(about, compared.outputs, strict=True)],
        notes=[*written.notes, *compared.notes],
    )
