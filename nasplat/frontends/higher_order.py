"""Torch's operators that take functions (cond, while_loop, scan, map, flex_attention …), answered by running those.

A recorded run has to say which functions ran, and how often. Conditions are asked for their values where these are
known. Elsewhere the larger of two branches counts, and a loop's body once. What that makes of the totals is told to the
tape as a cause of bounds. Source: torch/_higher_order_ops of PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

from nasplat.errors import CaptureError
from nasplat.frontends.places import running_line
from nasplat.graph.bounds import GUESSED, HIDDEN_WEIGHTS, LARGEST, UNSEEN
from nasplat.graph.columns import Node
from nasplat.graph.cost import node_macs

Recorder = Any
"""The recorder of `recorder.py`, which imports this file."""
MAX_UNROLLED = 20_000
"""Nodes to which one loop over the steps of a sequence may unfold."""
MAX_TURNS = 100_000
"""Turns of a loop whose condition is known; one of more is taken for endless."""
_WHOLE = 1 << 29
"""Block sizes from here on are those of the mask that FlexAttention makes where none is given: one block of all."""


def answer(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    """Run what an operator with functions among its arguments runs.

    Args:
        recorder: The recorder, which does not see calls at the moment.
        func: The operator, such as `torch.ops.higher_order.cond`.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        What the operator returns.

    Raises:
        CaptureError: nothing is known about the operator but its name.
    """
    name = func.name()
    recorder.last = name
    rule = _RULES.get(name)
    if rule is not None:
        return rule(recorder, *args, **kwargs)
    dense = func.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
    if dense is None:
        path = recorder.parts.stack[-1] if recorder.parts.stack else ""
        raise CaptureError(
            f"module {path or '(root)'!r}, {running_line()}, uses torch's higher-order operator {name!r}, into which "
            "capture cannot look.\n  Capture the network without it: before it was compiled or exported, or with the "
            "part written in plain PyTorch."
        )
    with recorder:
        return dense(*args, **kwargs)


def _cond(recorder: Recorder, pred: Any, true_fn: Any, false_fn: Any, operands: Sequence[Any] = ()) -> Any:
    """Run the branch that is taken where that is known, else the one that costs more."""
    truth = _known(recorder, pred)
    if truth is not None:
        with recorder:
            return (true_fn if truth else false_fn)(*operands)
    line = running_line()
    before = _State(recorder)
    found: list[tuple[tuple[int, int], set[int], Any]] = []
    for branch in (true_fn, false_fn):
        before.restore()
        with recorder:
            result = branch(*operands)
        found.append((*before.added(), result))
    taken = int(found[1][0] > found[0][0])
    if taken == 0:
        before.restore()
        with recorder:
            result = true_fn(*operands)
    else:
        result = found[1][2]
    recorder.tape.doubt(
        f"{line}: the data decides between two branches of {_macs(found[0])} and {_macs(found[1])} MACs; the larger "
        "one is counted",
        LARGEST,
    )
    if found[1 - taken][1] - found[taken][1]:
        recorder.tape.causes.add(HIDDEN_WEIGHTS)
    recorder.unkept = f"{line}: the data decides between two branches"
    return result


def _macs(found: tuple[tuple[int, int], set[int], Any]) -> str:
    return f"{found[0][0]:,}"


def _while_loop(recorder: Recorder, cond_fn: Any, body_fn: Any, carried: Any, additional: Any = (), **_: Any) -> Any:
    """Run the body while the condition is known to hold, or once where nobody knows."""
    line, state = running_line(), tuple(carried)
    for _turn in range(MAX_TURNS):
        with recorder:
            truth = cond_fn(*state, *additional)
        known = _known(recorder, truth)
        if known is False:
            return state
        with recorder:
            state = tuple(body_fn(*state, *additional))
        if known is None:
            recorder.tape.doubt(f"{line}: the data decides how often a loop turns; one turn counts", GUESSED)
            recorder.unkept = f"{line}: the data decides how often a loop turns"
            return state
    raise CaptureError(
        f"{line}: expected a loop to end within {MAX_TURNS:,} turns, got one that goes on.\n"
        "  Capture the body alone, or let it turn less often."
    )


def _scan(recorder: Recorder, combine_fn: Any, init: Any, xs: Any, additional: Any = ()) -> Any:
    """Run the step once for every place of the first axis, and stack what it gives."""
    carry, columns, steps = list(init), [], 0
    for slices in _slices(recorder, xs):
        steps += 1
        with recorder:
            made = combine_fn(*carry, *slices, *additional)
        carry, rows = list(made[: len(carry)]), made[len(carry) :]
        columns.append(rows)
    with recorder:
        return (*carry, *_stacked(columns, xs[0].shape[0]))


def _map(recorder: Recorder, f: Any, xs: Any, additional: Any = ()) -> Any:
    """Run the function once for every place of the first axis, and stack what it gives."""
    columns = []
    for slices in _slices(recorder, xs):
        with recorder:
            made = f(*slices, *additional)
        columns.append(made if isinstance(made, list | tuple) else (made,))
    with recorder:
        return tuple(_stacked(columns, xs[0].shape[0]))


def _slices(recorder: Recorder, xs: Any) -> Any:
    """Give the places of the first axis one by one, as many as nodes are left for."""
    line, steps = running_line(), xs[0].shape[0]
    start = recorder.length()
    for step in range(steps):
        if step and (recorder.length() - start) // step * (step + 1) > MAX_UNROLLED:
            recorder.tape.doubt(f"{line}: {step} of {steps} steps of a loop are counted", UNSEEN)
            recorder.unkept = f"{line}: a loop of {steps} steps was not unfolded"
            return
        with recorder:
            slices = [x.select(0, step) for x in xs]
        yield slices


def _stacked(columns: list[Any], steps: int) -> list[Any]:
    """Stack the results of all steps, the last one in place of those that were not run."""
    columns = columns + [columns[-1]] * (steps - len(columns))
    return [torch.stack(list(rows)) if isinstance(rows[0], Tensor) else rows[0] for rows in zip(*columns, strict=True)]


def _flex_attention(
    recorder: Recorder,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Any,
    block_mask: Sequence[Any],
    *_: Any,
    **__: Any,
) -> Any:
    """Count attention over all pairs; a block mask leaves out some of them."""
    shape = (*query.shape[:-1], value.shape[-1])
    outputs = [recorder.outputs_of(query, shape, query.dtype)]
    outputs += [recorder.outputs_of(query, tuple(query.shape[:-1]), torch.float32) for _ in range(2)]
    recorder.unkept = "flex_attention takes functions"
    line = running_line()
    if not any(isinstance(v, int) and v >= _WHOLE for v in block_mask):
        recorder.tape.doubt(f"{line}: flex_attention with a block mask is counted without it", LARGEST)
    path = recorder.parts.stack[-1] if recorder.parts.stack else ""
    attributes = (("causal", 0), ("function", "flex"), ("keys", key.shape[-2]), ("width", query.shape[-1]))
    sources = [recorder.origins.source(t) for t in (query, key, value)]
    if getattr(score_mod, "__name__", "") != "_identity":
        # run for one score, so that the weights it reads are seen
        score = recorder.outputs_of(query, (), torch.float32)
        places = [recorder.outputs_of(query, (), torch.int32) for _ in range(4)]
        start = len(recorder.tape.nodes)
        recorder.origins.produced(score, *sources[0])
        with recorder:
            made = score_mod(score, *places)
        if len(recorder.tape.nodes) > start:
            sources.append(recorder.origins.source(made))
    node = Node("attention", attributes, tuple(tuple(t.shape) for t in outputs), query.element_size(), (), path)
    here = recorder.tape.append(node, sources)
    for slot, tensor in enumerate(outputs):
        recorder.origins.produced(tensor, here, slot)
    return tuple(outputs)


_RULES: dict[str, Callable[..., Any]] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
    "map_impl": _map,
    "flex_attention": _flex_attention,
}


def _known(recorder: Recorder, truth: Any) -> bool | None:
    """The value of a condition; None where the data decides."""
    if not isinstance(truth, Tensor):
        return bool(truth)
    value = recorder.values.known(truth)
    return None if value is None else bool(value)


class _State:
    """What a recorder knew at one moment, to which it can go back."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        r = recorder
        tables: list[dict[Any, Any]] = [r.origins.producer, r.origins.writer, r.origins.version, r.origins.twins]
        tables += [r.parts.rows, r.parts.views, r.parts.buffers, r.values.shadows, r.tape.notes]
        self.tables = [(table, dict(table)) for table in tables]
        self.lists: list[tuple[list[Any], int]] = [
            (made, len(made)) for made in (r.tape.nodes, r.tape.edges, r.parts.weights)
        ]
        if r.calls is not None:
            self.lists.append((r.calls, len(r.calls)))
        self.causes = set(r.tape.causes)

    def restore(self) -> None:
        """Forget everything since then."""
        for table, held in self.tables:
            table.clear()
            table.update(held)
        for made, length in self.lists:
            del made[length:]
        self.recorder.tape.causes.clear()
        self.recorder.tape.causes.update(self.causes)

    def added(self) -> tuple[tuple[int, int], set[int]]:
        """((MACs, nodes) since then, the objects of the weights that were used)."""
        nodes, start = self.recorder.tape.nodes, self.lists[0][1]
        inputs: dict[int, list[Any]] = {}
        for source, slot, target, _ in self.recorder.tape.edges[self.lists[1][1] :]:
            inputs.setdefault(target, []).append(nodes[source].shapes[slot])
        macs = sum(node_macs(nodes[i], inputs.get(i, [])) for i in range(start, len(nodes)))
        row = {number: key for key, number in self.recorder.parts.rows.items()}
        used = {row[w] for node in nodes[start:] for w in node.weights}
        return (macs, len(nodes) - start), {hash(key) for key in used}
