"""The axes of a network's weights, followed through the operations of one forward pass.

Every tensor has one axis (see axes.py) for each of its dimensions; what an operation does with its operands relates
them. Operations that are not listed here are tried on random numbers: an axis passes through where taking a part of it
commutes with the operation (see probing.py). What remains unknown is noted as a doubt on the axes that it reads.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from nasplat.frontends import record_calls
from nasplat.supernet.axes import Axis, doubt, root
from nasplat.supernet.axis_rules import RULES
from nasplat.supernet.layouts import OF, Layout, layout_of, name_factors
from nasplat.supernet.probing import passed_axes
from nasplat.supernet.tracks import Axes, Tracks

_SAME = frozenset(
    "alias detach clone contiguous to _to_copy dropout feature_dropout alpha_dropout feature_alpha_dropout lift_fresh "
    "relu relu6 gelu silu mish sigmoid tanh hardswish hardsigmoid hardtanh leaky_relu elu celu selu softplus softsign "
    "abs neg exp log sqrt rsqrt square erf sin cos clamp clamp_min clamp_max softmax _softmax log_softmax _log_softmax "
    "bernoulli rand_like randn_like zeros_like ones_like full_like empty_like fill zero uniform normal rrelu "
    "cumsum positive sign round floor ceil reciprocal logsigmoid log_sigmoid threshold hardshrink softshrink "
    "nan_to_num logical_not bitwise_not isnan tril triu local_response_norm masked_fill copy add sub mul div rsub "
    "maximum minimum pow where lerp addcmul addcdiv true_divide floor_divide remainder fmod atan2 eq ne lt le gt ge "
    "logical_and logical_or bitwise_and bitwise_or _prelu_kernel expand_as heaviside type_as subtract multiply "
    "divide __and__ __or__".split()
)
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


class Flow(Tracks):
    """One network's axes while its calls are gone through."""

    def run(self) -> None:
        """Go through the calls of the recorded forward pass."""
        for func, args, kwargs, result, path in self.recording.calls:
            name = func._overloadpacket.__name__
            self.name = name.rstrip("_") if name.endswith("_") and not name.endswith("__") else name
            self.why = f"{self.name} in {path or 'the network itself'} is not understood along this axis"
            self._call(func, args, kwargs, result)

    def layouts(self) -> dict[str, tuple[Layout, ...]]:
        """Write down the axes of all parameters that were used.

        Returns:
            One layout for each axis, by the parameter's name.
        """
        for name, axes in self.parameters.items():
            for i, axis in enumerate(axes):
                name_factors(f"{name}{OF}{i}", axis)
        known: dict[Axis, Layout] = {}
        return {name: tuple(layout_of(a, known) for a in axes) for name, axes in self.parameters.items()}

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
            rule = RULES.get(self.name)
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
            self.give(r, axes + self.space(x, r, first))

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
    flow.run()
    return flow.layouts(), flow.groups
