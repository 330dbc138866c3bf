"""Modules become ONNX files: torch.export reads the program and says for which batches it holds, torch.onnx writes it.

A file takes batches of any size where torch.export proves that the program does. Where the program needs the very batch
that it was read with, the file takes that batch alone and says why. Where the network computes different things for
different batches, which no file can say, it is refused unless one batch is asked for.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_unflatten

from nasplat.errors import ExportError
from nasplat.frontends.calls import unpack
from nasplat.frontends.examples import Inputs, call, distinct, parameters_of, way

MOST_BYTES = 2**31 - 2**24
"""Largest size of weights in one ONNX file; protobuf holds no message of 2 GiB."""
BATCH, LENGTH = "batch", "length"
"""Names of the axes that may have any size: examples, and tokens of a sequence."""
ANSWER = "output"
"""Name of the output of a network that answers one tensor, and beginning of others that have none."""
_VIOLATED = "onstraints violated"
"""Words of torch.export where a program does not hold for all sizes that were asked for."""
_QUIET = (
    "torch.onnx",
    "onnxscript",
    "onnx_ir",
    "torch.export",
    "torch._export",
    "torch.fx",
    "torch._dynamo",
    "torch._guards",
)
"""Loggers of torch's exporters, whose errors reach the user as an `ExportError`."""


@dataclass(frozen=True)
class Written:
    """An ONNX file in memory, and what it takes and gives."""

    data: bytes
    """Content of the file."""
    inputs: Inputs
    """Arguments of the network; its tensors are the file's inputs, and `axes` says which axes are the batch."""
    names: tuple[str, ...]
    """Names of the file's inputs, in the order of the tensors among the arguments."""
    answers: tuple[str, ...]
    """Names of the file's outputs, in the order of the tensors among the network's answers."""
    batch: int | None
    """Number of examples that the file takes; None where it takes any number."""
    notes: tuple[str, ...] = ()
    """Sentences on what the file does not do: batches that it does not take, answers that are no tensors."""


class _Violated(ExportError):
    """A program that does not hold for all batches; the message says why."""


def to_onnx(module: nn.Module, example: Any, opset: int, batch: int | None = None) -> Written:
    """Export a module to ONNX, without checking the result.

    Args:
        module: Module in eval mode on the CPU.
        example: Example input, see `nasplat.frontends.examples`, or `Inputs`.
        opset: Version of the ONNX operator set.
        batch: Number of examples that the file takes; None for any number, where the network allows it.

    Returns:
        The file, with the names of its inputs and outputs.

    Raises:
        ExportError: the network fails on the example input, computes different things for different batches, uses what
            ONNX cannot say, or is too large for one file.
    """
    inputs = Inputs.of(example)
    _check_size(module)
    if batch is not None and (inputs.batch is None or batch < 1):
        raise ExportError(
            f"expected a batch of at least 1 for inputs with a batch axis, got {batch}.\n  Leave it out, or mend the "
            "example input."
        )
    result = answer(module, inputs.repeated(batch))
    answers, left_out = _answers(result)
    with quiet():
        flat, sequences = _flat(module, inputs.arguments, result), inputs.lengths
        program, inputs, fixed, note = _read(flat, module, replace(inputs, lengths=()), batch)
        if any(axis is not None for axis in sequences):
            program, inputs, more = _of_any_length(flat, program, replace(inputs, lengths=sequences), fixed)
            note = "; ".join(n for n in (note, more) if n)
        names = inputs.names(module)
        outputs = distinct(answers, names)
        data = _write(program, opset, names, outputs, _dynamic(inputs, BATCH if fixed is None else None, LENGTH))
    notes = tuple(n for n in (note, left_out) if n)
    return Written(data, inputs, tuple(names), tuple(outputs), fixed, notes)


@torch.no_grad()
def answer(module: nn.Module, arguments: Any) -> Any:
    """Run a network, whatever it raises becoming an error that tells it.

    Args:
        module: Network, or another function.
        arguments: Its arguments, which stay as they are.

    Returns:
        What it answers.

    Raises:
        ExportError: it raised something.
    """
    leaves, spec = tree_flatten(arguments)
    given = tree_unflatten([t.clone() if isinstance(t, Tensor) else t for t in leaves], spec)
    try:
        return call(module, given)
    except (Exception, SystemExit) as err:
        raise ExportError(
            f"expected a network that runs on its example input ({shapes_of(arguments)}), it raised {reason_of(err)}.\n"
            "  Check example_input: a shape stands for float32, a tensor for its own type, a tuple for several "
            "arguments, a dict for named ones."
        ) from err


def shapes_of(arguments: Any) -> str:
    """Describe the tensors among arguments.

    Args:
        arguments: Arguments of a network.

    Returns:
        Type and shape of each, such as 'float32 (1, 8)'.
    """
    return ", ".join(f"{name_of(t.dtype)} {tuple(t.shape)}" for t in Inputs.tensors(arguments))


def name_of(dtype: torch.dtype) -> str:
    """Name a number format.

    Args:
        dtype: Number format of torch.

    Returns:
        Its name without the library's, such as 'float32'.
    """
    return str(dtype).removeprefix("torch.")


def reason_of(err: BaseException) -> str:
    """Say in one line why a library failed: the error that was first of all.

    Args:
        err: Error, with the ones that it came from.

    Returns:
        Kind of the first error, and the first line of its message.
    """
    seen = {id(err)}
    while err.__cause__ is not None and id(err.__cause__) not in seen:
        err = err.__cause__
        seen.add(id(err))
    words = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", str(err)).splitlines() if line.strip()]
    told = [w.removeprefix("- ") for w in words[1:] if w.startswith("- ")] if _VIOLATED in str(err) else []
    if words[0:1] and words[0].rstrip(".").endswith("indices"):  # ONNX Runtime tells them below
        words = [" ".join(words)]
    text = "; ".join(re.sub(r"L\['\w+'\](\[\d+\])*\.size\(\)\[\d+\]", "batch", w).strip(".") for w in told or words[:1])
    return f"{type(err).__name__}: {text[:400]}" if text else type(err).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's exporters, which warn of their own internals, while the context lasts.

    Yields:
        Nothing; whatever the exporters print or log meanwhile is dropped.
    """
    loggers = [logging.getLogger(name) for name in _QUIET]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        told = contextlib.redirect_stderr(io.StringIO())
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            with told:
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def on_cpu(module: nn.Module) -> nn.Module:
    """Return a module whose weights lie on the CPU.

    Args:
        module: Module with real weights, wherever they are.

    Returns:
        The module itself, or a copy where weights or buffers lie elsewhere.

    Raises:
        ExportError: weights have no values, or the module cannot be copied.
    """
    devices = {t.device.type for t in [*module.parameters(), *module.buffers()]}
    if "meta" in devices:
        raise ExportError("expected a network with weights, got one on the meta device.\n  Load its weights first.")
    if devices <= {"cpu"}:
        return module
    try:
        return copy.deepcopy(module).cpu()
    except Exception as err:
        raise ExportError(
            f"the network cannot be copied to the CPU: {reason_of(err)}.\n  Move it there with .cpu()."
        ) from err


def _check_size(module: nn.Module) -> None:
    """Refuse what one file cannot hold, before an hour is spent on it."""
    size = sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
    if size > MOST_BYTES:
        raise ExportError(
            f"expected weights of at most {MOST_BYTES / 2**30:.2f} GiB, which one ONNX file can hold, got "
            f"{size / 2**30:.2f} GiB.\n  Convert the network to half precision, or export it in parts."
        )


def _answers(result: Any) -> tuple[list[str], str]:
    """Names of the tensors that a network answers, and words on what else it answers."""
    found, other = [], []
    leaves, _ = tree_flatten_with_path(unpack(result))
    for path, leaf in leaves:
        if isinstance(leaf, Tensor):
            if leaf.is_complex():
                raise ExportError(
                    f"expected answers that are real numbers, got {name_of(leaf.dtype)}: ONNX has no complex tensors.\n"
                    "  Let the network answer torch.view_as_real(y)."
                )
            name = way(path)
            found.append(f"{ANSWER}_{name}" if name.isdigit() or (name[:1].isdigit()) else name or ANSWER)
        elif leaf is not None:
            other.append(f"{way(path) or 'its answer'} ({type(leaf).__name__})")
    if not found:
        raise ExportError(
            f"expected a network that answers tensors, got {type(result).__name__} without any.\n"
            "  Let forward return a tensor, or a tuple or dict of them."
        )
    return found, f"left out of the file, being no tensors: {', '.join(other)}" if other else ""


def _read(flat: nn.Module, module: nn.Module, inputs: Inputs, batch: int | None) -> tuple[Any, Inputs, int | None, str]:
    """The program, its inputs, the batch that it is fixed to or None, and why."""
    why = ""
    if batch is None and inputs.batch is not None:
        for assigned in inputs.assignments():
            several = max(2, inputs.batch)  # torch.export takes a size of one for a constant
            arguments = assigned.repeated(several)
            try:
                answer(module, arguments)
            except ExportError as err:
                why = why or f"on a batch of {several} the network raises {reason_of(err)}"
                continue
            program, reason = _unbound(flat, assigned, arguments)
            if program is not None:
                return program, assigned, None, ""
            why = f"torch.export read it with a batch of {several}: {reason.partition('. If you')[0]}"
        batch = inputs.batch
        why = f"the file takes a batch of {batch} alone: {why}"
    return _exported(flat, inputs.repeated(batch), None), inputs, batch, why


def _of_any_length(flat: nn.Module, program: Any, inputs: Inputs, fixed: int | None) -> tuple[Any, Inputs, str]:
    """The program for sequences of any length, or up to the example's, where torch.export proves that it holds."""
    several = fixed if fixed is not None or inputs.batch is None else max(2, inputs.batch)
    arguments, batch = inputs.repeated(several), torch.export.Dim(BATCH) if fixed is None else None
    reason, length = "", inputs.length or 0
    for longest in (None, length) if length > 2 else ():
        dim = torch.export.Dim(LENGTH, max=longest)
        try:
            found = _exported(flat, arguments, _dynamic(inputs, batch, dim), (False,))
            return found, replace(inputs, longest=longest), ""
        except ExportError as err:
            reason = str(err).partition("\n")[0].partition(". If you")[0]
    return program, replace(inputs, lengths=()), f"the file takes sequences of {length} tokens alone: {reason}"


def _unbound(flat: nn.Module, inputs: Inputs, arguments: Any) -> tuple[Any, str]:
    """The program for batches of any size; or None, and why it holds for one size alone."""
    axes = _dynamic(inputs, torch.export.Dim(BATCH))
    try:
        return _exported(flat, arguments, axes), ""
    except _Violated as err:
        if not _is_bound(_exported(flat, arguments, _dynamic(inputs, torch.export.Dim.AUTO)), inputs):
            raise _several(str(err)) from err
        reason = str(err)
    try:  # torch's compiler follows len(x), which tracing takes for a constant
        return _exported(flat, arguments, axes, (True,)), ""
    except _Violated as err:
        if "specialized" not in str(err):
            raise _several(str(err)) from err
    except ExportError:
        pass
    return None, reason


def _is_bound(program: Any, inputs: Inputs) -> bool:
    """Whether a program takes the very batch that it was read with."""
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    values = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and "val" in n.meta]
    given = zip(values[-len(inputs.axes) :], inputs.axes, strict=True)
    return all(axis is None or is_concrete_int(value.shape[axis]) for value, axis in given)


def _several(reason: str) -> ExportError:
    """The error of a network that no one file can say for all batches."""
    return ExportError(
        "expected a network that computes the same for batches of every size, torch.export found that it does not: "
        f"{reason}.\n  Give one batch size, as export(…, batch=1) or --batch 1, for a file that takes that batch alone."
    )


def _dynamic(inputs: Inputs, batch: Any, length: Any = None) -> tuple[dict[int, Any], ...]:
    """For every tensor, which axes have the sizes that two dimensions stand for; None for sizes that stay."""
    lengths = inputs.lengths or [None] * len(inputs.axes)
    both = [((axis, batch), (along, length)) for axis, along in zip(inputs.axes, lengths, strict=True)]
    return tuple({axis: dim for axis, dim in own if axis is not None and dim is not None} for own in both)


class _Flat(nn.Module):
    """A network that takes and answers tensors one by one, whatever its arguments and answers are made of."""

    def __init__(self, module: nn.Module, arguments: Any) -> None:
        """Keep everything among the arguments that is no tensor."""
        super().__init__()
        self.module = module
        leaves, self.spec = tree_flatten(arguments)
        self.constants = [None if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call the network, and list the tensors that it answers."""
        given = iter(tensors)
        leaves = [next(given) if constant is None else constant[0] for constant in self.constants]
        result = call(self.module, tree_unflatten(leaves, self.spec))
        return tuple(t for t in tree_flatten(unpack(result))[0] if isinstance(t, Tensor))


def _flat(module: nn.Module, arguments: Any, result: Any) -> nn.Module:
    """The network itself where it maps one tensor to one tensor, so that its weights keep their names."""
    is_single = isinstance(arguments, tuple) and len(arguments) == 1 and isinstance(arguments[0], Tensor)
    if is_single and isinstance(result, Tensor) and parameters_of(module):
        return module
    return _Flat(module, arguments).eval()


def _exported(
    flat: nn.Module, arguments: Any, axes: tuple[dict[int, Any], ...] | None, ways: Sequence[bool] = (False, True)
) -> Any:
    """torch.export's program, traced; where tracing fails, torch's compiler is asked (its way is called strict)."""
    dims = (axes,) if axes is not None and isinstance(flat, _Flat) else axes  # behind a star, they are one argument
    first: Exception | None = None
    for strict in ways:
        try:
            return torch.export.export(flat, tuple(Inputs.tensors(arguments)), dynamic_shapes=dims, strict=strict)
        except Exception as err:  # the exporter's many parts share no base
            if _VIOLATED in str(err):
                raise _Violated(reason_of(err)) from err
            first = first or err
    assert first is not None
    raise ExportError(
        f"torch.export failed with {reason_of(first)}.\n"
        "  The forward method does what no exported program can, such as branching on values; rewrite what is named."
    ) from first


def _write(
    program: Any, opset: int, names: Sequence[str], outputs: Sequence[str], free: tuple[dict[int, str], ...]
) -> bytes:
    """Bytes of the file that says a program."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        try:
            torch.onnx.export(
                program,
                (),
                file,
                opset_version=opset,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=free if any(free) else None,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            if len(list(Path(folder).iterdir())) > 1:
                raise ValueError("the network does not fit into one file of 2 GiB")
            return file.read_bytes()
        except Exception as err:
            raise ExportError(
                f"torch's ONNX exporter failed with {reason_of(err)}.\n"
                "  The module uses something ONNX cannot say; `nasplat inspect` lists its operators."
            ) from err
