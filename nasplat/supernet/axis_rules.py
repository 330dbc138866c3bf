"""What single operations do with the axes of their operands: rules by the operation's name.

A rule gets the axes that are known, the call's arguments by name, its operands, and its results.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor

from nasplat.supernet.axes import Axis, doubt, factors, product, root, row, segments
from nasplat.supernet.tracks import Axes, Tracks

Rule = Callable[[Tracks, dict[str, Any], list[Tensor], list[Tensor]], None]


def _convolution(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, weight, bias = given.get("input", operands[0]), given["weight"], given.get("bias")
    groups = int(given.get("groups") or 1)
    is_transposed = "transpose" in flow.name or bool(given.get("transposed"))
    axes, first, second = flow.of(x), *flow.of(weight)[:2]
    channel = x.dim() - (weight.dim() - 2) - 1
    reads, makes = (first, second) if is_transposed else (second, first)
    out = makes
    if groups > 1:
        number = Axis(groups)
        number.is_outer = second.size == 1 or first.size == groups
        if is_transposed:
            inner = factors(first, [n for n in (groups, first.size // groups) if n > 1], flow.why)
            flow.same(inner[0], number)
            flow.same(axes[channel], first)
            out = product([number, second])
        else:
            flow.same(axes[channel], product([number, second]))
            inner = factors(first, [n for n in (groups, first.size // groups) if n > 1], flow.why)
            flow.same(inner[0], number)
            name = flow.recording.names.get(id(flow.recording.original(weight)))
            if name is not None:
                flow.groups[name] = (groups, second.size)
    else:
        flow.same(axes[channel], reads)
        name = flow.recording.names.get(id(flow.recording.original(weight)))
        if name is not None:
            flow.groups[name] = (1, reads.size)
    if bias is not None:
        flow.same(flow.of(bias)[0], out)
    flow.give(results[0], [*axes[:channel], root(out), *flow.space(x, results[0], channel + 1)])


def _linear(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    axes, own = flow.of(x), flow.of(weight)
    flow.same(axes[-1], own[-1])
    if bias is not None and own[:-1]:
        flow.same(flow.of(bias)[-1], own[0])
    flow.give(results[0], [*axes[:-1], *own[:-1]])


def _matmul(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    added = operands[0] if flow.name in {"addmm", "baddbmm", "addbmm", "addmv"} else None
    a, b = operands[-2:]
    x, y = flow.of(a), flow.of(b)
    flow.same(x[-1], y[-2] if len(y) > 1 else y[0])
    batch: Axes = []
    result = results[0]
    for back in range(max(len(x), len(y), 2), 2, -1):
        here = [axes[-back] for axes in (x, y) if len(axes) >= back and axes[-back].size > 1]
        for other in here[1:]:
            flow.same(here[0], other)
        batch.append(here[0] if here else Axis(1))
    made = batch + ([x[-2]] if len(x) > 1 else []) + ([y[-1]] if len(y) > 1 else [])
    if flow.name == "addbmm":
        made = made[1:]
    flow.give(result, made)
    if added is not None:
        for have, want in zip(reversed(flow.of(added)), reversed(flow.of(result)), strict=False):
            if have.size == want.size:
                flow.same(have, want)


def _distances(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, y = (flow.of(t) for t in operands[:2])
    flow.same(x[-1], y[-1])
    flow.give(results[0], [*x[:-1], y[-2]])


def _attention(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    q, k, v = (flow.of(t) for t in operands[:3])
    flow.same(q[-1], k[-1])
    flow.same(k[-2], v[-2])
    for i in range(len(q) - 2):
        for other in (k, v):
            if other[i].size == q[i].size:
                flow.same(q[i], other[i])
            elif other[i].size > 1 and q[i].size % other[i].size == 0:  # several queries share a key
                flow.same(factors(q[i], [other[i].size, q[i].size // other[i].size], flow.why)[0], other[i])
    if given.get("attn_mask") is not None:
        for have, want in zip(reversed(flow.of(given["attn_mask"])), reversed([*q[:-2], q[-2], k[-2]]), strict=False):
            if have.size == want.size:
                flow.same(have, want)
    flow.give(results[0], [*q[:-1], v[-1]])


def _norm_of_channels(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes = flow.of(operands[0])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if given.get(name) is not None and given[name].numel() > 1:
            flow.same(flow.of(given[name])[0], axes[1])
    flow.give(results[0], axes)


def _norm_of_last(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes = flow.of(given["input"])
    for name in ("weight", "bias"):
        if given.get(name) is not None:
            own = flow.of(given[name])
            for a, b in zip(reversed(own), reversed(axes), strict=False):
                flow.same(a, b)
    flow.give(results[0], axes)


def _embedding(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    weight, indices = given["weight"], given["indices"]
    flow.give(results[0], [*flow.of(indices), flow.of(weight)[1]])


def _permute(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes = flow.of(operands[0])
    n = len(axes)
    if flow.name == "permute":
        order = [d % n for d in given["dims"]]
    elif flow.name in {"movedim", "moveaxis"}:
        numbered = torch.empty(tuple(range(n)), device="meta").movedim(given["source"], given["destination"])
        order = list(numbered.shape)
    else:
        pairs = [given[k] for k in ("dim0", "dim1") if k in given] or [
            given[k] for k in ("axis0", "axis1") if k in given
        ]
        a, b = [d % n for d in pairs] if len(pairs) == 2 else (max(n - 2, 0), n - 1)
        order = list(range(n))
        if n:
            order[a], order[b] = b, a
        if flow.name == "numpy_T":
            order = list(reversed(range(n)))
    flow.give(results[0], [axes[d] for d in order])


def _join(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    parts = [t for t in operands if t.dim() == results[0].dim()]
    along = given.get("dim", 0) % results[0].dim()
    if flow.name == "hstack":
        along = min(1, results[0].dim() - 1)
    every = [flow.of(t) for t in parts]
    made: Axes = []
    for d in range(results[0].dim()):
        if d == along:
            made.append(row([axes[d] for axes in every]))
            continue
        for axes in every[1:]:
            flow.same(every[0][d], axes[d])
        made.append(every[0][d])
    flow.give(results[0], made)


def _stack(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    along = given.get("dim", 0) % results[0].dim()
    every = [flow.of(t) for t in operands]
    for axes in every[1:]:
        for a, b in zip(every[0], axes, strict=True):
            flow.same(a, b)
    made = list(every[0])
    made.insert(along, Axis(len(operands)))
    flow.give(results[0], made)


def _split(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x = operands[0]
    along = given.get("dim", 0) % x.dim()
    axes = flow.of(x)
    parts = segments(axes[along], [r.shape[along] for r in results], flow.why)
    for r, part in zip(results, parts, strict=True):
        flow.give(r, [*axes[:along], part, *axes[along + 1 :]])


def _slice(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    along = given.get("dim", 0) % x.dim()
    axes, n, step = flow.of(x), x.shape[along], given.get("step") or 1
    start = given.get("start") or 0
    start = min(max(start + n if start < 0 else start, 0), n)
    flow.give(r, [*axes[:along], _part(flow, axes[along], start, r.shape[along], step), *axes[along + 1 :]])


def _part(flow: Tracks, axis: Axis, start: int, size: int, step: int = 1) -> Axis:
    """Take every step-th position of an axis from a start."""
    if size == axis.size:
        return axis
    if step == 1 or size <= 1:
        return segments(axis, [start, size, axis.size - start - size], flow.why)[1]
    if axis.size % step == 0 and size == axis.size // step:
        return factors(axis, [size, step], flow.why)[0]
    doubt(axis, flow.why)
    return flow.doubtful(size)


def _select(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x = operands[0]
    along = given.get("dim", 0) % x.dim()
    axes = flow.of(x)
    if flow.name == "select":
        _part(flow, axes[along], given["index"] % x.shape[along], 1)
    for r in results:
        flow.give(r, [*axes[:along], *axes[along + 1 :]])


def _expand(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes, r = flow.of(operands[0]), results[0]
    new = r.dim() - len(axes)
    made = [Axis(n) for n in r.shape[:new]]
    made += [
        a if a.size == n and (n > 1 or a.is_factor) else _times(n) for a, n in zip(axes, r.shape[new:], strict=True)
    ]
    flow.give(r, made)


def _repeat(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes, r = flow.of(operands[0]), results[0]
    axes = [Axis(1) for _ in range(r.dim() - len(axes))] + axes
    flow.give(r, [product([_times(n // a.size), a]) for a, n in zip(axes, r.shape, strict=True)])


def _times(n: int) -> Axis:
    """Axis of repetitions, known as a factor also where there is one."""
    made = Axis(n)
    made.is_factor = n == 1
    return made


def _repeat_interleave(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    axes, along, times = flow.of(x), given.get("dim"), given.get("repeats")
    if not isinstance(times, int):
        for a in axes:
            doubt(a, flow.why)
        flow.give(r, [flow.doubtful(n) for n in r.shape])
    elif along is None:
        flow.give(r, [product([*axes, _times(times)])])
    else:
        along %= x.dim()
        flow.give(r, [*axes[:along], product([axes[along], _times(times)]), *axes[along + 1 :]])


def _pad(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    axes, pads = flow.of(x), list(given.get("pad", given.get("padding", ())))
    made: Axes = []
    for i, a in enumerate(axes):
        at = 2 * (x.dim() - 1 - i)
        low, high = (pads[at], pads[at + 1]) if at + 1 < len(pads) else (0, 0)
        if low == high == 0:
            made.append(a)
        elif a.is_position or min(low, high) < 0:
            made.append(Axis(r.shape[i], True))
        else:
            made.append(row([Axis(low), a, Axis(high)]))
    flow.give(r, made)


def _pixel_shuffle(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    axes, side = flow.of(x), x.dim() - 3
    if flow.name == "pixel_shuffle":
        k = given["upscale_factor"]
        channels = factors(axes[side], [n for n in (r.shape[side], k, k) if n > 1], flow.why)
        made = channels[0] if r.shape[side] > 1 else Axis(1)
    else:
        k = given["downscale_factor"]
        made = product([axes[side], Axis(k), Axis(k)])
    flow.give(r, [*axes[:side], made, *(Axis(n, True) for n in r.shape[-2:])])


def _channel_shuffle(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, groups = operands[0], given["groups"]
    axes = flow.of(x)
    parts = factors(axes[1], [n for n in (groups, x.shape[1] // groups) if n > 1], flow.why)
    flow.give(results[0], [axes[0], product(list(reversed(parts))), *axes[2:]])


def _glu(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x = operands[0]
    along = given.get("dim", -1) % x.dim()
    axes, half = flow.of(x), x.shape[along] // 2
    a, b = segments(axes[along], [half, half], flow.why)
    flow.same(a, b)
    flow.give(results[0], [*axes[:along], root(a), *axes[along + 1 :]])


def _index(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    axes = flow.of(x)
    if flow.name == "index_select":
        indices: list[Any] = [None] * (given["dim"] % x.dim()) + [given["index"]]
    else:
        indices = list(given["indices"])
    used = [i for i, t in enumerate(indices) if t is not None]
    index = indices[used[0]] if used else None
    if len(used) != 1 or index is None or index.dim() != 1 or index.dtype in (torch.bool, torch.uint8):
        for i in used:
            doubt(axes[i], flow.why)
        flow.give(r, [flow.doubtful(n) for n in r.shape])
        return
    along = used[0]
    values = flow.recording.value_of(index)
    picked = _picked(flow, axes[along], None if values is None else [int(v) % axes[along].size for v in values])
    flow.give(r, [*axes[:along], picked, *axes[along + 1 :]])


def _picked(flow: Tracks, axis: Axis, order: list[int] | None) -> Axis:
    """Follow an axis of which positions are picked by their numbers: runs of them, or a shuffle of groups."""
    if order is not None:
        n = axis.size
        if sorted(order) == list(range(n)):
            for g in (g for g in range(2, n) if n % g == 0):
                if order == torch.arange(n).view(g, n // g).t().flatten().tolist():
                    return product(list(reversed(factors(axis, [g, n // g], flow.why))))
        ends = [0, *(i for i in range(1, len(order)) if order[i] != order[i - 1] + 1), len(order)]
        runs = [(order[a], b - a) for a, b in pairwise(ends)]
        if len(runs) <= max(4, n // 4):
            return row([_part(flow, root(axis), start, size) for start, size in runs])
    doubt(axis, flow.why)
    return flow.doubtful(len(order) if order is not None else axis.size)


def _recurrent(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    """Stacked layers of torch's recurrent cells, one or two directions."""
    gates = 4 if flow.name == "lstm" else 3 if flow.name == "gru" else 1
    x, out = given["input"], results[0]
    weights = list(given["params"])
    directions = 2 if given.get("bidirectional") else 1
    layers = int(given.get("num_layers", 1))
    each = len(weights) // max(1, layers * directions)
    axes = flow.of(x)
    reads = axes[-1]
    for layer in range(layers):
        heads: Axes = []
        for way in range(directions):
            own = weights[(layer * directions + way) * each : (layer * directions + way + 1) * each]
            inner, hidden = own[0], own[1]
            state = Axis(hidden.shape[0] // gates)
            for w in own[: 2 + 2 * bool(given.get("has_biases", True))]:
                stacked = factors(flow.of(w)[0], [n for n in (gates, state.size) if n > 1], flow.why)
                if state.size > 1:
                    flow.same(stacked[-1], state)
                else:
                    root(stacked[0]).is_outer = True
            flow.same(flow.of(inner)[1], reads)
            last = root(state)
            if each == 5 or (each == 3 and not given.get("has_biases", True)):  # a projection of the state
                projection = flow.of(own[-1])
                flow.same(projection[1], state)
                last = projection[0]
            flow.same(flow.of(hidden)[1], last)
            heads.append(root(last))
        reads = row(heads)
    flow.give(out, [*axes[:-1], reads])
    for r in results[1:]:
        flow.give(r, [Axis(n) for n in r.shape[:-1]] + [root(heads[0])])


def _unfold(flow: Tracks, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    axes, window = flow.of(x), prod(given["kernel_size"])
    made = product([axes[-3], Axis(window)])
    flow.give(r, [*axes[:-3], made, Axis(r.shape[-1], True)])


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        "conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d".split(),
        _convolution,
    ),
    "linear": _linear,
    **dict.fromkeys("matmul mm bmm addmm baddbmm addbmm mv addmv dot vdot".split(), _matmul),
    **dict.fromkeys(("cdist", "_cdist_forward"), _distances),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(
        "batch_norm instance_norm group_norm native_batch_norm native_group_norm _native_batch_norm_legit "
        "_native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_impl_index prelu".split(),
        _norm_of_channels,
    ),
    **dict.fromkeys("layer_norm native_layer_norm rms_norm _fused_rms_norm".split(), _norm_of_last),
    "embedding": _embedding,
    **dict.fromkeys("permute transpose t mT mH adjoint movedim moveaxis swapaxes swapdims numpy_T".split(), _permute),
    **dict.fromkeys("cat concat concatenate hstack".split(), _join),
    "stack": _stack,
    **dict.fromkeys(
        "split chunk split_with_sizes tensor_split unsafe_split unsafe_chunk unsafe_split_with_sizes".split(),
        _split,
    ),
    "slice": _slice,
    "narrow": lambda flow, given, operands, results: _slice(flow, {**given, "step": 1}, operands, results),
    **dict.fromkeys(("select", "unbind"), _select),
    **dict.fromkeys(("expand", "broadcast_to"), _expand),
    **dict.fromkeys(("repeat", "tile"), _repeat),
    "repeat_interleave": _repeat_interleave,
    **dict.fromkeys(
        "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d "
        "reflection_pad3d replication_pad3d".split(),
        _pad,
    ),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), _pixel_shuffle),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _channel_shuffle),
    "glu": _glu,
    **dict.fromkeys(("index", "index_select"), _index),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    "im2col": _unfold,
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full"), lambda flow, given, o, r: flow.give(r[0], [])),
}
