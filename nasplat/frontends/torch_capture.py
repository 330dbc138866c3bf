"""Any module becomes a Graph: one run under the recorder, and other ways of running where that fails.

The ways are called rungs: `meta` (no weights, no FLOPs), `escapes` (the same, with Python's ways out of a tensor
answered and branches on unknown data taken the other way), `decomposed` (composite operators opened, with and without
gradients), `fake` (fake tensors, which claim a real device), `real` (a real run on values of its own). The graph says
which rung it stands on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.utils.flop_counter
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_flatten, tree_unflatten

from nasplat.errors import CaptureError
from nasplat.frontends.block import fill
from nasplat.frontends.calls import META, is_fake, unpack
from nasplat.frontends.examples import as_example, with_batch
from nasplat.frontends.module_state import evaluating, is_lazy, sized, with_values
from nasplat.frontends.origins import SharedInsides
from nasplat.frontends.pasting import StandIns
from nasplat.frontends.places import explain, is_own
from nasplat.frontends.program_writer import depends_on_batch, is_same_program, write_program
from nasplat.frontends.python_exits import Escapes
from nasplat.frontends.recorder import KEEP_VALUES, Recorder
from nasplat.frontends.time_limit import VARIABLE, TimeIsUp, limited, seconds_allowed
from nasplat.graph.graph import Graph

_LOCK = threading.Lock()
"""The forward hooks that tell module paths are global in torch: one capture at a time."""

_COMPILER = "torch._dynamo"
"""Module of torch's compiler, which takes seconds to load."""


def collect_rarely() -> None:
    """Make Python's garbage collection rarer, for processes that capture many networks.

    It looks at a graph's objects again and again otherwise, which takes a quarter of the time.
    """
    gc.set_threshold(200_000, 20, 100)


RUNGS = ("meta", "escapes", "decomposed", "fake", "real")
"""Ways to run a network, the cheapest first."""


def capture_module(
    module: nn.Module,
    example_input: Any,
    program: bool | None = None,
    rungs: Sequence[str] = RUNGS,
    seconds: float | None = None,
) -> Graph:
    """Record what a module computes at inference.

    Args:
        module: Any module, on any device; it is run in eval mode on meta tensors and left as it was.
        example_input: A shape tuple (float32), a tensor, or a tuple of them, nested tuples, lists and dicts of tensors
            among them; a dict at the top is passed by name. Small integer tensors with values keep them.
        program: True keeps the calls, so that the graph can be rebuilt; None records them when `rebuild` asks (the
            graph holds the module until then), False never.
        rungs: Ways to try, in order.
        seconds: Largest time for all ways together, on the wall clock; None takes that of the environment variable
            `NASPLAT_CAPTURE_SECONDS`, and without it there is no limit.

    Returns:
        The graph, inputs and outputs included; `rung` says how it was captured, `notes` what was guessed.

    Raises:
        CaptureError: no rung could run it; the message tells the first rung's operator, module and line. Or it ran
            longer than it may.

    Example:
        >>> graph = capture_module(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4))
        >>> [node.op for node in graph.nodes], graph.macs, graph.rung
        (['input', 'linear', 'relu', 'output'], 24, 'meta')
    """
    example, allowed = as_example(example_input), seconds_allowed(seconds)
    try:
        with limited(allowed):
            return _captured(module, example, program, rungs)
    except TimeIsUp as err:
        own = [f for f in traceback.extract_tb(err.__traceback__) if is_own(f.filename) and f.filename[0] != "<"]
        where = f", in {own[-1].filename}:{own[-1].lineno}" if own else ""
        raise CaptureError(
            f"expected a forward pass within {allowed:g} seconds, got one that runs longer{where}.\n"
            f"  Mend the loop there, or allow more: seconds=…, or {VARIABLE} in the environment."
        ) from err


def _captured(module: nn.Module, example: Any, program: bool | None, rungs: Sequence[str]) -> Graph:
    """The graph of the first rung that can run a module."""
    first: CaptureError | None = None
    for rung, answer in [(r, a) for r in rungs for a in ((False, True) if r == "escapes" else (False,))]:
        try:
            graph = _record(module, example, rung, answer, bool(program))
            if first is not None:  # never silently: a lower rung can hide a fault of the network, or of ours
                reason = str(first).splitlines()[0]
                graph = replace(graph, notes=(*graph.notes, f"rung {rungs[0]!r} failed: {reason}"))
            if program is None:
                return replace(graph, again=lambda rung=rung: _captured(module, example, True, (rung,)))
            return graph
        except SharedInsides:
            fill(module)
            for part in list(module.modules()):
                fill(part)
            return _record(module, example, rung, answer, bool(program))
        except CaptureError as err:
            if first is None and is_lazy(module):
                return _captured(sized(module, example), example, program, rungs)
            first = first or err
            if "expected at most" in str(err):
                raise
    assert first is not None
    raise first


class Recording:
    """The operator calls of one forward pass, as they came, on tensors without values."""

    def __init__(self, recorder: Recorder) -> None:
        """Take over what a recorder kept.

        Args:
            recorder: The recorder after the run, which kept its calls.
        """
        self._recorder = recorder
        self.inputs = recorder.inputs
        """Tensors that the network was given."""
        self.names = recorder.parts.names
        """Name of every parameter, by the identity of its tensor."""
        self.calls = [(*call, path) for call, path in zip(recorder.calls or [], recorder.paths, strict=True)]
        """(overload, args, kwargs, result, path of the module) of every call."""

    def original(self, tensor: Tensor) -> Tensor:
        """Find the tensor that an alias stands for which a module without an operation gave back.

        Args:
            tensor: Operand of a call.

        Returns:
            The tensor that went into that module; the operand itself where it is no such alias.
        """
        while id(tensor) in self._recorder.same:
            tensor = self._recorder.same[id(tensor)]
        return tensor

    def value_of(self, tensor: Tensor) -> Tensor | None:
        """Look up the values of a tensor that depends on no input.

        Args:
            tensor: Operand of a call, such as one of indices.

        Returns:
            The values; None where they are not known.
        """
        found = self._recorder.snapshots.get(id(tensor), tensor)
        return None if found.device.type == "meta" else found


def record_calls(module: nn.Module, example_input: Any) -> Recording:
    """Record the operator calls of one forward pass at inference, for rules that look at tensors rather than nodes.

    Args:
        module: Any module; it is run in eval mode and left as it was.
        example_input: A shape tuple (float32), a tensor, or a tuple or dict of them.

    Returns:
        The calls, with the names of the parameters among their operands.

    Raises:
        CaptureError: no rung could run it; the message tells the first rung's operator, module and line.

    Example:
        >>> recording = record_calls(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4))
        >>> [(func._overloadpacket.__name__, path) for func, _, _, _, path in recording.calls]
        [('linear', '0'), ('relu', '1')]
    """
    example, first = as_example(example_input), None
    for rung in (r for r in RUNGS if r != "decomposed"):
        try:
            with _LOCK, _undisturbed(), torch.random.fork_rng(devices=[], enabled=rung == "real"):
                ran = with_values(module) if rung == "real" else module
                with evaluating(ran):
                    return Recording(_run(ran, example, rung, False, True)[0])
        except CaptureError as err:
            first = first or err
    assert first is not None
    raise first


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection: what a capture makes lives to its end, and looking at it takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """What a network compiles inside runs as it is written, so that its operations are seen and nothing is compiled.

    A compiler that finds a recorder beneath it would also remember for the whole process that it cannot compile.
    """
    if _COMPILER in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
        return
    own = torch.compile  # loading the compiler for its setting alone would take seconds

    def as_written(model: Any = None, **_: Any) -> Any:
        return (lambda function: function) if model is None else model

    torch.compile = as_written  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = own


def _record(module: nn.Module, example: Any, rung: str, answer: bool, program: bool) -> Graph:
    """The graph of one run; `answer` is what a branch on unknown data is told at first."""
    with _LOCK, _undisturbed(), torch.random.fork_rng(devices=[], enabled=rung == "real"):
        ran = with_values(module) if rung == "real" else module
        with evaluating(ran) as undo:
            recorder, result = _run(ran, example, rung, answer, program)
            if not program:
                return recorder.graph(rung)
            undo()
            other = _second(ran, example, rung, answer, recorder, undo)
            written = write_program(recorder, result, other, example)
            return replace(recorder.graph(rung), program=written)


def _second(
    module: nn.Module, example: Any, rung: str, answer: bool, recorder: Recorder, undo: Callable[[], None]
) -> Any:
    """The same run on another batch, where calls hold numbers that could depend on it."""
    larger = with_batch(example)
    if larger is None or rung == "real" or not depends_on_batch(recorder):
        return None
    batch = recorder.inputs[0].shape[0]
    # a constant that grows with the batch keeps its values up to a larger size, one that does not up to the same size
    other: Any = None
    for keep in (-(-KEEP_VALUES * (batch + 1) // batch), KEEP_VALUES):
        try:
            other = _run(module, larger, rung, answer, True, keep, only_calls=True)
        except CaptureError as err:
            return err
        if is_same_program(recorder, other[0]):
            break
        undo()
    return other


def _run(
    module: nn.Module,
    example: Any,
    rung: str,
    answer: bool,
    program: bool,
    keep: int = KEEP_VALUES,
    only_calls: bool = False,
) -> tuple[Recorder, Any]:
    """The recorder after one forward pass, and what the pass returned."""
    twin = None
    if rung == "fake":
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        twin = lambda t: _faked(fake, t)  # noqa: E731
    elif rung == "real":
        twin = lambda t: t  # noqa: E731
    recorder = Recorder(module, twin, program, answer, rung == "decomposed", keep, only_calls)
    recorder.has_values = rung == "real"
    return recorder, _forward(recorder, module, example, rung)


def _forward(recorder: Recorder, module: nn.Module, example: Any, rung: str) -> Any:
    """What the module returns on stand-ins of the example, recorded."""
    leaves, spec = tree_flatten(example)
    make_twin = recorder.origins.make_twin
    lengths = _lengths(example)
    try:
        twins = [
            _stand_in(leaf, rung, make_twin) if isinstance(leaf, Tensor) and id(leaf) not in lengths else leaf
            for leaf in leaves
        ]
    except (RuntimeError, NotImplementedError) as err:
        raise CaptureError(
            f"an input of kind {_kinds(leaves)} has no stand-in without values: {str(err).partition(chr(10))[0]}\n"
            "  Pass dense tensors, or for sequences of different lengths nested tensors with layout=torch.jagged."
        ) from err
    with torch.inference_mode() if rung in {"meta", "escapes"} else torch.no_grad():
        for stand, leaf in zip(twins, leaves, strict=True):
            if isinstance(stand, Tensor) and id(leaf) not in lengths:
                for inner, value in zip(_inside(stand), _inside(leaf), strict=True):
                    recorder.add_input(inner, value)
        given = tree_unflatten(twins, spec)
        nothing = contextlib.nullcontext()
        pasting = StandIns(recorder) if recorder.calls is None else nothing
        following = nothing if recorder.only_calls else recorder.following()
        outside = Escapes(recorder.values) if rung in {"escapes", "decomposed", "fake"} else nothing
        with pasting, following, outside, _uncompiled(), recorder:
            try:
                result = module(**given) if isinstance(given, dict) else module(*given)
            except (CaptureError, SharedInsides):
                raise
            # a forward pass that ends the program (sys.exit) ends its capture alone; Ctrl-C goes through
            except (Exception, SystemExit, GeneratorExit, asyncio.CancelledError) as err:
                shapes = ", ".join(str(tuple(t.shape)) for t in leaves if isinstance(t, Tensor))
                path = recorder.parts.stack[-1] if recorder.parts.stack else ""
                raise CaptureError(explain(err, path, recorder.last, shapes)) from err
        if not recorder.only_calls:
            outputs = [t for leaf in tree_flatten(unpack(result))[0] if isinstance(leaf, Tensor) for t in _inside(leaf)]
            if not outputs:
                kind = type(result).__name__
                recorder.tape.notes.setdefault(f"the network returned no tensor that capture can find, but {kind}")
            recorder.add_outputs(outputs)
    return result


def _lengths(example: Any) -> set[int]:
    """The tensors of packed sequences that say how many go on at every step: their values are part of the structure."""
    found = tree_flatten(example, is_leaf=lambda v: isinstance(v, PackedSequence))[0]
    return {
        id(t)
        for p in found
        if isinstance(p, PackedSequence)
        for t in (p.batch_sizes, p.sorted_indices, p.unsorted_indices)
        if t is not None
    }


def _inside(tensor: Tensor) -> list[Tensor]:
    """The tensors that operators see: those inside of a subclass, such as a jagged one, else the tensor itself."""
    if type(tensor) in {Tensor, nn.Parameter} or not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    return [t for key in tensor.__tensor_flatten__()[0] for t in _inside(getattr(tensor, key))]


def _kinds(leaves: Sequence[Any]) -> str:
    """The kinds and layouts of tensors, for a message."""
    kinds = {f"{type(t).__name__} ({'nested' if t.is_nested else t.layout})" for t in leaves if isinstance(t, Tensor)}
    return ", ".join(sorted(kinds))


def _stand_in(tensor: Tensor, rung: str, twin: Any) -> Tensor:
    """The tensor that the network is given in place of an input."""
    if type(tensor) is not Tensor and is_traceable_wrapper_subclass(tensor):
        keys, context = tensor.__tensor_flatten__()
        inner = {key: _stand_in(getattr(tensor, key), rung, twin) for key in keys}
        return type(tensor).__tensor_unflatten__(inner, context, tensor.shape, tensor.stride())  # type: ignore[attr-defined]
    if tensor.is_nested:
        raise NotImplementedError("nested tensors of layout torch.strided")
    if tensor.layout is not torch.strided:  # its structure lies in values
        with torch.inference_mode(rung in {"meta", "escapes"}):  # so that its pieces are no views of it
            return tensor.clone()
    if rung == "real":
        if tensor.device.type != "meta":
            return tensor.clone()
        generator = torch.Generator().manual_seed(0)
        if tensor.is_floating_point():
            return torch.rand(tensor.shape, generator=generator, dtype=torch.float32).to(tensor.dtype)
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if rung == "fake":
        return twin(tensor)
    return (
        tensor.to(META)
        if tensor.device.type != "meta"
        else torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
    )


def _faked(fake: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A fake tensor that stands for a real or a meta tensor."""
    if is_fake(tensor):
        return tensor
    if tensor.device.type == "meta":
        with fake:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    return fake.from_tensor(tensor.detach(), static_shapes=True)
