"""Zero-cost proxies: numbers, computed from one batch through an untrained network, that correlate with its accuracy.

They take any module: activations are watched where torch computes them, not by the class of a layer. Larger means
better for all of them. Weights are those the module has (its initialisation); a copy is measured, so that the module
stays as it is. What is asked of a network's input is asked of its floating-point inputs alone: integers and booleans,
such as tokens and masks, stay as they were drawn. Half precision is computed in float32.

Sources: synflow Tanaka et al. 2020, arXiv:2006.05467; snip Lee et al. 2019, arXiv:1810.02340; grad_norm Abdelfattah et
al. 2021, arXiv:2101.08134; nwot Mellor et al. 2021, arXiv:2006.04647v3; jacov the same, version 1; zen Lin et al. 2021,
arXiv:2102.01063.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from nasplat.errors import InputError
from nasplat.frontends.examples import Inputs, call
from nasplat.probes.onnx_writer import reason_of

PROXIES = ("synflow", "nwot", "jacov", "snip", "grad_norm", "zen")
"""Names of the proxies."""
OF_INPUTS = ("synflow", "jacov", "zen")
"""Those that change the input, or differentiate by it, and so need one of floating-point numbers."""
_HALVES = {torch.float16, torch.bfloat16}
_JITTER = 1e-5
"""Number added to jacov's eigenvalues, so that their logarithms are finite."""
_MIX = 1e-2
"""Distance of zen's second input from its first, in standard deviations of the input."""
_BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_aten = torch.ops.aten
_GATES = {
    *(_aten.relu.default, _aten.relu_.default, _aten.gelu.default, _aten.silu.default, _aten.silu_.default),
    *(_aten.hardtanh.default, _aten.hardtanh_.default, _aten.hardswish.default, _aten.hardswish_.default),
    *(_aten.leaky_relu.default, _aten.leaky_relu_.default, _aten.elu.default, _aten.elu_.default, _aten.mish.default),
}
"""Activations with two regimes, told apart by the sign of their input."""


def proxies(
    module: nn.Module,
    example_input: Any,
    names: Sequence[str] | None = None,
    batch: tuple[Any, Tensor] | None = None,
    batch_size: int = 32,
    repeats: int = 1,
    seed: int = 0,
) -> dict[str, float]:
    """Compute zero-cost proxies of a network whose output are logits of shape (B, classes).

    Args:
        module: Untrained module, whose weights are used as they are.
        example_input: Shape (1, …) of one input, a tensor of its type, or a tuple or dict of these for several inputs.
        names: Names of the proxies to compute, among `PROXIES`; None for all that the input allows. synflow, jacov and
            zen need an input of floating-point numbers; where there are tokens alone, they are left out.
        batch: Inputs of a batch, a tensor of shape (B, …) or a tuple or dict of them, and class numbers of shape (B,);
            None for Gaussian noise, integers like those of the example, and random classes.
        batch_size: Examples in a batch of noise.
        repeats: Number of batches over which each proxy is averaged.
        seed: Number that decides the batch of noise and zen's noise.

    Returns:
        Value of each proxy by its name, larger for better; synflow, snip and grad_norm are natural logarithms. A value
        that is not finite becomes nan.

    Raises:
        InputError: a name is unknown or needs another input, the module does not run on the input, or its output is no
            logits.

    Example:
        >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> found = proxies(network, (1, 8), ["nwot", "snip"], batch_size=4)
        >>> list(found), found["nwot"] > 0
        (['nwot', 'snip'], True)
    """
    inputs = Inputs.of(example_input if batch is None else batch[0])
    names = _usable(names, inputs)
    found = {n: 0.0 for n in names}
    held = list(module.parameters())
    device = held[0].device if held else torch.device("cpu")
    if any(p.dtype in _HALVES for p in held):
        module = _copied(module).float()
    try:
        if batch is None and inputs.has_indices:
            inputs = inputs.indexing(_copied(module).eval().cpu())
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            for repeat in range(repeats):
                torch.manual_seed(seed * 1_009 + repeat)
                x = _placed(inputs.drawn(batch_size, noise=True) if batch is None else inputs.arguments, device)
                with torch.no_grad():
                    logits = call(_copied(module).train(), x)
                _check_logits(logits)
                y = (torch.randint(logits.shape[1], (len(logits),)) if batch is None else batch[1]).to(device)
                for name in names:
                    value = _MEASURES[name](_copied(module).train(), x, y)
                    found[name] += (value if math.isfinite(value) else math.nan) / repeats
    except InputError:
        raise
    except (Exception, SystemExit) as err:  # whatever a network raises
        raise InputError(
            f"expected a network whose proxies can be computed on this input, it raised {reason_of(err)}.\n  Check "
            "example_input: a shape stands for float32, a tensor for its own type, a tuple for several arguments, a "
            "dict for named ones."
        ) from err
    return found


def _usable(names: Sequence[str] | None, inputs: Inputs) -> Sequence[str]:
    """The proxies to compute: those asked for, which the inputs must allow, or all that these allow."""
    has_numbers = any(t.is_floating_point() for t in inputs.tensors(inputs.arguments))
    if names is None:
        return [n for n in PROXIES if has_numbers or n not in OF_INPUTS]
    unknown = [n for n in names if n not in PROXIES]
    if unknown:
        raise InputError(f"expected proxies among {', '.join(PROXIES)}, got {unknown[0]!r}.\n  Use some of these.")
    refused = [n for n in names if n in OF_INPUTS and not has_numbers]
    if refused:
        raise InputError(
            f"expected floating-point inputs for {', '.join(refused)}, got integers or booleans alone.\n  Use "
            f"{', '.join(n for n in PROXIES if n not in OF_INPUTS)}."
        )
    return names


def _check_logits(logits: Any) -> None:
    """Refuse answers of another form than (B, classes)."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or not logits.is_floating_point():
        raise InputError("expected a module that answers logits of shape (B, classes), got another output.\n  Wrap it.")


def _copied(module: nn.Module) -> nn.Module:
    """A copy of a module, which what follows may change."""
    try:
        return deepcopy(module)
    except Exception as err:
        raise InputError(
            f"expected a module that can be copied, copying raised {reason_of(err)}.\n  Build it without that."
        ) from err


def _placed(arguments: Any, device: torch.device) -> Any:
    """Arguments on a device, half precision as float32."""
    return tree_map_only(
        Tensor, lambda t: t.to(device, torch.float32) if t.dtype in _HALVES else t.to(device), arguments
    )


def _numbers(arguments: Any) -> list[Tensor]:
    """The floating-point tensors among arguments."""
    return [t for t in Inputs.tensors(arguments) if t.is_floating_point()]


def _with_numbers(arguments: Any, change: Any) -> Any:
    """Arguments whose floating-point tensors are changed."""
    return tree_map_only(Tensor, lambda t: change(t) if t.is_floating_point() else t, arguments)


class _Watch(TorchDispatchMode):
    """Sees the inputs of activations, and the last feature map with spatial extent."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Call this method as it is: torch would wrap it in a call to its compiler."""
        return False

    def __init__(self) -> None:
        """Begin without having seen anything."""
        super().__init__()
        self.gates: list[Tensor] = []
        self.last: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and keep what is looked for."""
        if func in _GATES:
            self.gates.append((args[0] > 0).flatten(1))
        answer = func(*args, **(kwargs or {}))
        if isinstance(answer, Tensor) and ((answer.dim() == 4 and answer.shape[-1] > 1) or answer.dim() == 3):
            self.last = answer
        return answer


def _nwot(module: nn.Module, x: Any, y: Tensor) -> float:
    """Return log |K|, where K_ij is the number of activations that agree between examples i and j."""
    kernel = torch.zeros(len(y), len(y), dtype=torch.float64, device=y.device)
    with torch.no_grad(), _Watch() as watch:
        call(module, x)
    for gate in watch.gates:
        if len(gate) == len(y):
            on = gate.double()
            kernel += on @ on.T + (1 - on) @ (1 - on).T
    return float(torch.linalg.slogdet(kernel)[1])


def _jacov(module: nn.Module, x: Any, y: Tensor) -> float:
    """Return how little correlated the gradients of the outputs with respect to different examples' inputs are."""
    inputs = _with_numbers(x, lambda t: t.clone().requires_grad_())
    answer = call(module, inputs).sum()
    if not answer.requires_grad:
        return math.nan  # the answer does not depend on the input
    answer.backward()
    grads = [t.grad.flatten(1).double() for t in _numbers(inputs) if t.grad is not None and len(t) == len(y)]
    if not grads:
        return math.nan
    correlation = torch.corrcoef(torch.cat(grads, 1))
    if not correlation.isfinite().all():
        return math.nan
    values = torch.linalg.eigvalsh(correlation) + _JITTER
    return float(-(values.log() + 1 / values).sum())


def _gradients(module: nn.Module, x: Any, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return weights and gradients of the cross-entropy, of all parameters but vectors."""
    loss = F.cross_entropy(call(module, x), y)
    if not loss.requires_grad:
        return []
    loss.backward()
    return [(p.detach(), p.grad) for p in module.parameters() if p.grad is not None and p.dim() > 1]


def _snip(module: nn.Module, x: Any, y: Tensor) -> float:
    """Return log Σ |w · ∂L/∂w| with the cross-entropy L."""
    return _log(sum(float((w * g).abs().sum()) for w, g in _gradients(module, x, y)))


def _grad_norm(module: nn.Module, x: Any, y: Tensor) -> float:
    """Return the log of the sum of the norms of all gradients of the cross-entropy."""
    return _log(sum(float(g.norm()) for _, g in _gradients(module, x, y)))


@contextmanager
def _without_batchnorm(module: nn.Module) -> Iterator[None]:
    """Let batch normalisations answer with their input inside the block."""
    hooks = [
        m.register_forward_hook(lambda _, inputs, __: inputs[0]) for m in module.modules() if isinstance(m, _BATCHNORM)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _synflow(module: nn.Module, x: Any, y: Tensor) -> float:
    """Return log Σ |w · ∂R/∂w| of the network with |w| for weights and without batch normalisation.

    R is the sum of its outputs for an input of ones, integers and booleans being those of the first example.
    """
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    first = tree_map_only(Tensor, lambda t: t[:1] if t.dim() and len(t) == len(y) else t, x)
    with _without_batchnorm(module):
        answer = call(module, _with_numbers(first, lambda t: torch.ones_like(t, dtype=torch.float64))).sum()
        if answer.requires_grad:
            answer.backward()
    return _log(
        sum(float((p.detach() * p.grad).abs().sum()) for p in module.parameters() if p.grad is not None and p.dim() > 1)
    )


@torch.no_grad()
def _zen(module: nn.Module, x: Any, y: Tensor) -> float:
    """Return the log of how far the last map moves when the input does, plus the logs of batch norms' scales."""
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(m.weight, 0.0, 1.0)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    scales: list[float] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], __: Any) -> None:
        """Keep the log of the standard deviation that a batch normalisation divides by."""
        axes = [0, *range(2, inputs[0].dim())]
        scales.append(0.5 * math.log(float(inputs[0].var(axes, unbiased=False).mean()) + 1e-12))

    hooks = [m.register_forward_hook(note) for m in module.modules() if isinstance(m, _BATCHNORM)]
    noise = _with_numbers(x, torch.randn_like)
    with _Watch() as first:
        call(module, noise)
    for hook in hooks:
        hook.remove()
    with _Watch() as second:
        call(module, _with_numbers(noise, lambda t: t + _MIX * torch.randn_like(t)))
    if first.last is None or second.last is None:
        return math.nan
    return math.log(float((first.last - second.last).abs().flatten(1).sum(1).mean()) + 1e-12) + sum(scales)


def _log(value: float) -> float:
    """Return the natural logarithm; nan of what is not positive."""
    return math.log(value) if value > 0 else math.nan


_MEASURES = {"synflow": _synflow, "nwot": _nwot, "jacov": _jacov, "snip": _snip, "grad_norm": _grad_norm, "zen": _zen}
