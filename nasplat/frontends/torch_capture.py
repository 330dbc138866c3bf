"""Any module becomes a Graph: one run under the recorder, and other ways of running where that fails.

Rungs, in order: `meta` (no weights, no FLOPs), `escapes` (the same, with Python's ways out of a tensor answered and branches on
unknown data taken the other way), `decomposed` (composite operators opened, with and without gradients), `fake` (fake tensors,
which claim a real device), `real` (a real run on values of its own). The graph says which rung it stands on.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from nasplat.errors import CaptureError
from nasplat.frontends.block import SHELL, fill, walk
from nasplat.frontends.calls import META
from nasplat.frontends.python_exits import Escapes
from nasplat.frontends.recorder import KEEP_VALUES, Recorder, SharedInsides, explain
from nasplat.graph.graph import Graph

_LOCK = threading.Lock()
"""The forward hooks that tell module paths are global in torch: one capture at a time."""


def collect_rarely() -> None:
    """For processes that capture many networks: garbage collection looks at their objects less often, which saves a quarter of the time."""
    gc.set_threshold(200_000, 20, 100)


RUNGS = ("meta", "escapes", "decomposed", "fake", "real")


def capture_module(
    module: nn.Module, example_input: Any, program: bool | None = None, rungs: Sequence[str] = RUNGS
) -> Graph:
    """Record what a module computes at inference.

    Args:
        module: Any module, on any device; it is run in eval mode on meta tensors and left as it was.
        example_input: A shape tuple (float32), a tensor, or a tuple of them, nested tuples, lists and dicts of tensors among
            them; a dict at the top is passed by name. Small integer tensors with values keep them.
        program: True keeps the calls, so that the graph can be rebuilt; None records them when `rebuild` asks (the graph holds
            the module until then), False never.
        rungs: Ways to try, in order.

    Returns:
        The graph, inputs and outputs included; `rung` says how it was captured, `notes` what was guessed.

    Raises:
        CaptureError: no rung could run it; the message tells the first rung's operator, module and line.
    """
    example = as_example(example_input)
    first: CaptureError | None = None
    for rung in rungs:
        for answer in (False, True) if rung == "escapes" else (False,):
            try:
                graph = _record(module, example, rung, answer, bool(program))
                if first is not None:  # never silently: a lower rung can hide a fault of the network, or of ours
                    reason = str(first).splitlines()[0]
                    graph = replace(graph, notes=(*graph.notes, f"rung {rungs[0]!r} failed: {reason}"))
                if program is None:
                    return replace(graph, again=lambda rung=rung: capture_module(module, example_input, True, (rung,)))
                return graph
            except SharedInsides:
                fill(module)
                for part in list(module.modules()):
                    fill(part)
                return _record(module, example, rung, answer, bool(program))
            except CaptureError as err:
                first = first or err
                if "expected at most" in str(err):
                    raise
    assert first is not None
    raise first


def as_example(example: Any) -> Any:
    """An example input with shapes replaced by meta tensors; a tuple of positional arguments, or a dict of named ones."""
    if isinstance(example, Tensor):
        return (example,)
    if _is_shape(example):
        return (torch.empty(tuple(example), device=META),)
    if isinstance(example, Mapping) and example:
        return {str(k): _entry(v) for k, v in example.items()}
    if isinstance(example, Sequence) and not isinstance(example, str) and example:
        made = tuple(_entry(v) for v in example)
        if any(isinstance(leaf, Tensor) for leaf in tree_flatten(made)[0]):
            return made
    raise CaptureError(
        f"expected example_input as a shape tuple, a tensor, or a tuple or dict of them, got {example!r}.\n"
        "  Pass for instance example_input=(1, 3, 224, 224)."
    )


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and bool(value)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    )


def _entry(value: Any) -> Any:
    if _is_shape(value):
        return torch.empty(tuple(value), device=META)
    if isinstance(value, tuple | list):
        return type(value)(_entry(v) for v in value) if type(value) in {tuple, list} else value
    return {k: _entry(v) for k, v in value.items()} if type(value) is dict else value


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[Callable[[], None]]:
    """Eval mode and torch's fused fast paths off; everything as before afterwards, what a forward pass caches included.

    Gives a function that undoes what a forward pass cached.
    """
    parts = [m for _, m in walk(module)]
    modes = [(m, m.training) for m in parts]
    before = [
        (m, _state(m)) for m in parts if SHELL not in m.__dict__ and not type(m).__module__.startswith("torch.nn.")
    ]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    if any(SHELL in m.__dict__ for m in parts):
        for m in parts:
            m.training = False
    else:
        module.eval()
    torch.backends.mha.set_fastpath_enabled(False)

    def undo() -> None:
        for m, state in before:
            _restore(m, state)

    try:
        yield undo
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        undo()
        for m, training in modes:
            m.training = training


def _state(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    attributes = dict(module.__dict__)
    held = {k: copy.copy(v) for k, v in attributes.items() if type(v) in {dict, list, set}}
    return attributes, held


def _restore(module: nn.Module, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    attributes, held = state
    for name in module.__dict__.keys() - attributes.keys():
        del module.__dict__[name]
    module.__dict__.update(attributes)
    for name, value in held.items():
        own = module.__dict__[name]
        if (
            own == value
            if type(own) is not dict
            else own.keys() == value.keys() and all(own[k] is value[k] for k in value)
        ):
            continue
        own.clear()
        own.extend(value) if isinstance(own, list) else own.update(value)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection: everything a capture makes lives to its end, and looking at it again and again takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _record(module: nn.Module, example: Any, rung: str, answer: bool, program: bool) -> Graph:
    with _LOCK, _undisturbed(), torch.random.fork_rng(devices=[], enabled=rung == "real"):
        ran = _materialised(module) if rung == "real" else module
        with _evaluating(ran) as undo:
            recorder, result = _run(ran, example, rung, answer, program)
            if not program:
                return recorder.graph(rung)
            from nasplat.frontends.program_writer import write

            undo()
            other = _second(ran, example, rung, answer, recorder, undo)
            written = write(recorder, result, other, example)
            return replace(recorder.graph(rung), program=written)


def _second(
    module: nn.Module, example: Any, rung: str, answer: bool, recorder: Recorder, undo: Callable[[], None]
) -> Any:
    """The same run on another batch, where calls hold numbers that could depend on it."""
    from nasplat.frontends.program_writer import depends_on_batch, is_same_program, with_batch

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
    fake = None
    twin = None
    if rung == "fake":
        from torch._subclasses.fake_tensor import FakeTensorMode

        fake = FakeTensorMode(allow_non_fake_inputs=True)
        twin = lambda t: _faked(fake, t)  # noqa: E731
    elif rung == "real":
        twin = lambda t: t  # noqa: E731
    recorder = Recorder(module, twin, not program, answer, rung == "decomposed", keep, only_calls)
    return recorder, _forward(recorder, module, example, rung)


def _forward(recorder: Recorder, module: nn.Module, example: Any, rung: str) -> Any:
    leaves, spec = tree_flatten(example)
    twins = [_stand_in(leaf, rung, recorder.make_twin) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    gradients = torch.inference_mode() if rung in {"meta", "escapes"} else torch.no_grad()
    with gradients:
        for stand, leaf in zip(twins, leaves, strict=True):
            if isinstance(stand, Tensor):
                recorder.add_input(stand, leaf)
        given = tree_unflatten(twins, spec)
        outside = Escapes(recorder) if rung in {"escapes", "decomposed", "fake"} else contextlib.nullcontext()
        inside = contextlib.nullcontext() if recorder.only_calls else recorder.following(module)
        with inside, outside, recorder:
            try:
                result = module(**given) if isinstance(given, dict) else module(*given)
            except CaptureError:
                raise
            except Exception as err:
                shapes = ", ".join(str(tuple(t.shape)) for t in leaves if isinstance(t, Tensor))
                raise CaptureError(explain(err, recorder, shapes)) from err
        if not recorder.only_calls:
            recorder.add_outputs([t for t in tree_flatten(unpack(result))[0] if isinstance(t, Tensor)])
    return result


def _stand_in(tensor: Tensor, rung: str, twin: Any) -> Tensor:
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


def _faked(fake: Any, tensor: Tensor) -> Tensor:
    if type(tensor).__name__ == "FakeTensor":
        return tensor
    if tensor.device.type == "meta":
        with fake:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    return fake.from_tensor(tensor.detach(), static_shapes=True)


def _materialised(module: nn.Module) -> nn.Module:
    """The module itself, or where it lies on meta a copy with values."""
    if not any(t.device.type == "meta" for t in [*module.parameters(), *module.buffers()]):
        return module
    made = copy.deepcopy(module).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for t in [*made.parameters(), *made.buffers()]:
            if t.is_floating_point():
                t.copy_(torch.rand(t.shape, generator=generator) * 0.02)
            else:
                t.zero_()
    return made


def unpack(result: Any) -> Any:
    """Dataclass-like outputs (as of transformers) become dicts."""
    if isinstance(result, dict):
        return {k: unpack(v) for k, v in result.items()}
    if hasattr(result, "__dataclass_fields__") and not isinstance(result, Tensor):
        return {k: unpack(getattr(result, k)) for k in result.__dataclass_fields__ if getattr(result, k) is not None}
    if type(result) in {list, tuple}:
        return type(result)(unpack(v) for v in result)
    return result
