"""The axes of a network's weights, followed through the operations of one forward pass.

Every tensor has one axis (see axes.py) for each of its dimensions; what an operation does with its operands relates
them. Operations that are not listed here are tried on random numbers: an axis passes through where taking a part of it
commutes with the operation (see probing.py). What remains unknown is noted as a doubt on the axes that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from nasplat.frontends import Recording, record_calls
from nasplat.supernet.axes import Axis, doubt, factors, product, root, row, segments, unite
from nasplat.supernet.layouts import Layout, layout_of
from nasplat.supernet.probing import passed_axes

Axes = list[Axis]
_SAME = frozenset(
    "alias detach clone contiguous to _to_copy dropout feature_dropout alpha_dropout feature_alpha_dropout lift_fresh "
    "relu relu6 gelu silu mish sigmoid tanh hardswish hardsigmoid hardtanh leaky_relu elu celu selu softplus softsign "
    "abs neg exp log sqrt rsqrt square erf sin cos clamp clamp_min clamp_max softmax _softmax log_softmax _log_softmax "
    "bernoulli rand_like randn_like zeros_like ones_like full_like empty_like fill zero uniform normal rrelu "
    "cumsum positive sign round floor ceil reciprocal logsigmoid log_sigmoid threshold hardshrink softshrink "
    "nan_to_num logical_not bitwise_not isnan tril triu local_response_norm masked_fill copy add sub mul div rsub "
    "maximum minimum pow where lerp addcmul addcdiv true_divide floor_divide remainder fmod atan2 eq ne lt le gt ge "
    "logical_and logical_or bitwise_and bitwise_or prelu _prelu_kernel expand_as heaviside type_as subtract multiply "
    "divide __and__ __or__ cosine_similarity batch_norm_elemt".split()
) - {"cosine_similarity"}
"""Operations whose result has the axes of their operands, aligned from the last one as broadcasting does."""
_RESHAPE = frozenset(
    "view reshape _unsafe_view flatten unflatten squeeze unsqueeze view_as reshape_as _reshape_alias ravel".split()
)
"""Operations that keep the order of all elements."""
_REDUCE = frozenset(
    "mean sum amax amin prod var std norm linalg_vector_norm argmax argmin any all logsumexp max min nansum median "
    "var_mean std_mean count_nonzero frobenius_norm".split()
)
"""Operations that reduce whole axes."""
_SPATIAL = {
    **dict.fromkeys(("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "lp_pool1d"), 1),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "lp_pool2d"), 2),
    **dict.fromkeys(("max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d"), 3),
    **dict.fromkeys(("_adaptive_avg_pool2d", "max_pool2d_with_indices", "fractional_max_pool2d"), 2),
    **dict.fromkeys(("max_pool1d_with_indices", "upsample_nearest1d", "upsample_linear1d"), 1),
    **dict.fromkeys(
        ("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_nearest_exact2d"), 2
    ),
    **dict.fromkeys(("upsample_nearest3d", "upsample_trilinear3d", "_adaptive_avg_pool3d"), 3),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), 2),
}
"""Operations that work in space, in each channel alone, with the number of axes in space."""


class Flow:
    """One network's axes while its calls are gone through."""

    def __init__(self, recording: Recording) -> None:
        """Go through the calls of a recorded forward pass.

        Args:
            recording: Calls, and the names of the parameters among their operands.
        """
        self.recording = recording
        self.axes: dict[int, Axes] = {}
        """Axes of every tensor that was met, by identity."""
        self.parameters: dict[str, Axes] = {}
        """Axes of every parameter that was met, by name."""
        self.written: set[int] = set()
        """Memory of constants that operations wrote into."""
        self.groups: dict[str, tuple[int, int]] = {}
        """Groups of convolutions and input channels of each, by the name of the weight."""
        self.why = ""
        for tensor in recording.inputs:
            self.axes[id(tensor)] = [Axis(n, True) for n in tensor.shape]
        for func, args, kwargs, result, path in recording.calls:
            name = func._overloadpacket.__name__
            self.name = name.rstrip("_") if name.endswith("_") and not name.endswith("__") else name
            self.why = f"{self.name} in {path or 'the network itself'} is not understood along this axis"
            self._call(func, args, kwargs, result)

    def layouts(self) -> dict[str, tuple[Layout, ...]]:
        """Write down the axes of all parameters that were used.

        Returns:
            One layout for each axis, by the parameter's name.
        """
        known: dict[Axis, Layout] = {}
        return {name: tuple(layout_of(a, known) for a in axes) for name, axes in self.parameters.items()}

    # -- tensors -------------------------------------------------------------------------------------------------------

    def of(self, tensor: Tensor) -> Axes:
        """Look up the axes of an operand; a weight's are named, those of a constant belong to it alone."""
        tensor = self.recording.original(tensor)
        found = self.axes.get(id(tensor))
        if found is None:
            name = self.recording.names.get(id(tensor))
            places = [] if name is None else [[(name, i)] for i in range(tensor.dim())]
            found = [Axis(n, False, places[i] if places else ()) for i, n in enumerate(tensor.shape)]
            self.axes[id(tensor)] = found
            if name is not None:
                self.parameters[name] = found
            elif tensor.untyped_storage()._cdata in self.written:
                for axis in found:
                    doubt(axis, f"a tensor that is written part by part is read by {self.why.split(' is not')[0]}")
        return [root(a) for a in found]

    def give(self, tensor: Tensor, axes: Sequence[Axis]) -> None:
        """Give axes to a result; those that an operation made as it likes are checked by their size."""
        made = [a if root(a).size == n else Axis(n) for a, n in zip(axes, tensor.shape, strict=False)]
        made += [Axis(n) for n in tensor.shape[len(made) :]]
        self.axes[id(tensor)] = made

    def same(self, a: Axis, b: Axis) -> None:
        """Make two axes one."""
        unite(a, b, self.why)

    def _call(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        results = [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
        operands = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        if not results:
            return
        names = [a.name for a in func._schema.arguments]
        given = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
        given |= dict(zip(names, args, strict=False)) | kwargs
        if not operands:
            for r in results:
                self.give(r, [Axis(n) for n in r.shape])
            return
        first = operands[0]
        if func._schema.is_mutable and self.name not in _SAME:
            self._doubt_all(operands)
        elif self.name in _SAME:
            if func._schema.is_mutable and id(self.recording.original(first)) not in self.axes:
                self.written.add(first.untyped_storage()._cdata)  # a constant becomes data, seen through a view
            self._broadcast(operands, results)
        elif self.name in _RESHAPE:
            self.give(results[0], self.reshaped(self.of(first), results[0].shape))
        elif self.name in _REDUCE:
            self._reduce(first, given, results)
        elif self.name in _SPATIAL:
            self._in_space(first, results, first.dim() - _SPATIAL[self.name])
        else:
            rule = _RULES.get(self.name)
            if rule is not None:
                rule(self, given, operands, results)
            else:
                self._try(func, args, kwargs, operands, results)

    def _doubt_all(self, operands: list[Tensor]) -> None:
        """Doubt the features of all operands: what an operation in place does with them is not known."""
        for t in operands:
            for axis in self.of(t):
                if axis.size > 1:
                    doubt(axis, self.why)

    # -- kinds of operations -------------------------------------------------------------------------------------------

    def _broadcast(self, operands: list[Tensor], results: list[Tensor]) -> None:
        for result in results:
            made: Axes = []
            for back in range(result.dim(), 0, -1):
                size = result.shape[-back]
                here = [self.of(t)[-back] for t in operands if t.dim() >= back and t.shape[-back] == size]
                if size > 1:
                    for other in here[1:]:
                        self.same(here[0], other)
                made.append(root(here[0]) if here else Axis(size))
            if id(result) not in self.axes:
                self.give(result, made)

    def reshaped(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """Follow axes through a view of another shape, in which the order of the elements stays."""
        made: Axes = []
        left, i, j = [a for a in axes if a.size != 1], 0, 0
        if any(a.size == 0 for a in left):
            return [Axis(n) for n in shape]
        while j < len(shape):
            if shape[j] == 1:
                made.append(Axis(1))
                j += 1
                continue
            inner, outer = [left[i]], [shape[j]]
            i, j = i + 1, j + 1
            while (have := prod(a.size for a in inner)) != (want := prod(outer)):
                if have < want:
                    inner.append(left[i])
                    i += 1
                else:
                    outer.append(shape[j])
                    j += 1
            solid = iter(factors(product(inner), [n for n in outer if n != 1], self.why))
            made += [Axis(1) if n == 1 else next(solid) for n in outer]
        return made

    def _reduce(self, x: Tensor, given: dict[str, Any], results: list[Tensor]) -> None:
        dims = given.get("dim")
        dims = range(x.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
        gone = {d % x.dim() for d in dims} if x.dim() else set[int]()
        kept = [a for i, a in enumerate(self.of(x)) if i not in gone]
        for r in results:
            whole = [Axis(1) if i in gone else a for i, a in enumerate(self.of(x))]
            self.give(r, whole if r.dim() == x.dim() else kept)

    def _in_space(self, x: Tensor, results: list[Tensor], first: int) -> None:
        for r in results:
            axes = self.of(x)[:first]
            self.give(r, axes + self._space(x, r, first))

    def _space(self, x: Tensor, r: Tensor, first: int) -> Axes:
        """Axes in space: those of before where the size stays."""
        own = self.of(x)
        return [
            own[i] if i < x.dim() and own[i].size == r.shape[i] else Axis(r.shape[i], True)
            for i in range(first, r.dim())
        ]

    def _try(self, func: Any, args: Any, kwargs: Any, operands: list[Tensor], results: list[Tensor]) -> None:
        """Follow what passes through an operation that is not listed, and doubt the rest."""
        passed = passed_axes(func, args, kwargs, operands, results[0])
        seen = set[tuple[int, int]]()
        made: list[Axis | None] = [None] * results[0].dim()
        for out, sources in passed.items():
            seen |= set(sources)
            axes = [self.of(operands[o])[d] for o, d in sources]
            for other in axes[1:]:
                self.same(axes[0], other)
            made[out] = axes[0]
        for o, t in enumerate(operands):
            for d, axis in enumerate(self.of(t)):
                if (o, d) not in seen and axis.size > 1:
                    doubt(axis, self.why)
        for r in results:
            axes = [
                a if a is not None and i < r.dim() else self.doubtful(r.shape[i]) for i, a in enumerate(made[: r.dim()])
            ]
            if id(r) not in self.axes:
                self.give(r, axes + [self.doubtful(n) for n in r.shape[len(axes) :]])

    def doubtful(self, size: int) -> Axis:
        """Make an axis of which nothing is known but that this operation made it."""
        made = Axis(size)
        doubt(made, self.why)
        return made


# -- single operations: (flow, arguments by name, operands, results) ---------------------------------------------------

Rule = Callable[[Flow, dict[str, Any], list[Tensor], list[Tensor]], None]


def _convolution(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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
    flow.give(results[0], [*axes[:channel], root(out), *flow._space(x, results[0], channel + 1)])


def _linear(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    axes, own = flow.of(x), flow.of(weight)
    flow.same(axes[-1], own[-1])
    if bias is not None and own[:-1]:
        flow.same(flow.of(bias)[-1], own[0])
    flow.give(results[0], [*axes[:-1], *own[:-1]])


def _matmul(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _attention(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _norm_of_channels(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x = given["input"]
    axes = flow.of(x)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if given.get(name) is not None:
            flow.same(flow.of(given[name])[0], axes[1])
    flow.give(results[0], axes)


def _norm_of_last(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes = flow.of(given["input"])
    for name in ("weight", "bias"):
        if given.get(name) is not None:
            own = flow.of(given[name])
            for a, b in zip(reversed(own), reversed(axes), strict=False):
                flow.same(a, b)
    flow.give(results[0], axes)


def _embedding(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    weight, indices = given["weight"], given["indices"]
    flow.give(results[0], [*flow.of(indices), flow.of(weight)[1]])


def _permute(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _join(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _stack(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    along = given.get("dim", 0) % results[0].dim()
    every = [flow.of(t) for t in operands]
    for axes in every[1:]:
        for a, b in zip(every[0], axes, strict=True):
            flow.same(a, b)
    made = list(every[0])
    made.insert(along, Axis(len(operands)))
    flow.give(results[0], made)


def _split(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x = operands[0]
    along = given.get("dim", 0) % x.dim()
    axes = flow.of(x)
    parts = segments(axes[along], [r.shape[along] for r in results], flow.why)
    for r, part in zip(results, parts, strict=True):
        flow.give(r, [*axes[:along], part, *axes[along + 1 :]])


def _slice(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    along = given.get("dim", 0) % x.dim()
    axes, n, step = flow.of(x), x.shape[along], given.get("step") or 1
    start = given.get("start") or 0
    start = min(max(start + n if start < 0 else start, 0), n)
    flow.give(r, [*axes[:along], _part(flow, axes[along], start, r.shape[along], step), *axes[along + 1 :]])


def _part(flow: Flow, axis: Axis, start: int, size: int, step: int = 1) -> Axis:
    """Take every step-th position of an axis from a start."""
    if size == axis.size:
        return axis
    if step == 1 or size <= 1:
        return segments(axis, [start, size, axis.size - start - size], flow.why)[1]
    if axis.size % step == 0 and size == axis.size // step:
        return factors(axis, [size, step], flow.why)[0]
    doubt(axis, flow.why)
    return flow.doubtful(size)


def _select(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x = operands[0]
    along = given.get("dim", 0) % x.dim()
    axes = flow.of(x)
    if flow.name == "select":
        _part(flow, axes[along], given["index"] % x.shape[along], 1)
    for r in results:
        flow.give(r, [*axes[:along], *axes[along + 1 :]])


def _expand(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes, r = flow.of(operands[0]), results[0]
    new = r.dim() - len(axes)
    made = [Axis(n) for n in r.shape[:new]]
    flow.give(r, made + [a if a.size == n else Axis(n) for a, n in zip(axes, r.shape[new:], strict=True)])


def _repeat(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    axes, r = flow.of(operands[0]), results[0]
    axes = [Axis(1) for _ in range(r.dim() - len(axes))] + axes
    flow.give(r, [product([Axis(n // a.size), a]) for a, n in zip(axes, r.shape, strict=True)])


def _repeat_interleave(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    axes, along, times = flow.of(x), given.get("dim"), given.get("repeats")
    if not isinstance(times, int):
        for a in axes:
            doubt(a, flow.why)
        flow.give(r, [flow.doubtful(n) for n in r.shape])
    elif along is None:
        flow.give(r, [product([*axes, Axis(times)])])
    else:
        along %= x.dim()
        flow.give(r, [*axes[:along], product([axes[along], Axis(times)]), *axes[along + 1 :]])


def _pad(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _pixel_shuffle(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _channel_shuffle(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, groups = operands[0], given["groups"]
    axes = flow.of(x)
    parts = factors(axes[1], [n for n in (groups, x.shape[1] // groups) if n > 1], flow.why)
    flow.give(results[0], [axes[0], product(list(reversed(parts))), *axes[2:]])


def _glu(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x = operands[0]
    along = given.get("dim", -1) % x.dim()
    axes, half = flow.of(x), x.shape[along] // 2
    a, b = segments(axes[along], [half, half], flow.why)
    flow.same(a, b)
    flow.give(results[0], [*axes[:along], root(a), *axes[along + 1 :]])


def _index(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _picked(flow: Flow, axis: Axis, order: list[int] | None) -> Axis:
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


def _recurrent(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
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


def _unfold(flow: Flow, given: dict[str, Any], operands: list[Tensor], results: list[Tensor]) -> None:
    x, r = operands[0], results[0]
    axes, window = flow.of(x), prod(given["kernel_size"])
    made = product([axes[-3], Axis(window)])
    flow.give(r, [*axes[:-3], made, Axis(r.shape[-1], True)])


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        "conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d".split(),
        _convolution,
    ),
    "linear": _linear,
    **dict.fromkeys("matmul mm bmm addmm baddbmm addbmm mv addmv dot".split(), _matmul),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(
        "batch_norm instance_norm group_norm native_batch_norm native_group_norm _native_batch_norm_legit "
        "_native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_impl_index".split(),
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


def follow(module: nn.Module, example_input: Any) -> tuple[dict[str, tuple[Layout, ...]], dict[str, tuple[int, int]]]:
    """Run a network once without values, and follow the axes of its weights.

    Args:
        module: Network whose parameters need not hold values.
        example_input: Shape of one input batch, a tensor, or a tuple of them.

    Returns:
        Layout of each axis by the parameter's name; and (groups, input channels of each) of convolutions.

    Raises:
        CaptureError: the network cannot be run.
    """
    flow = Flow(record_calls(module, example_input))
    return flow.layouts(), flow.groups
