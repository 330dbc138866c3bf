"""Which part of the largest weight a smaller subnet takes.

A feature axis gives its leading slice, an odd kernel axis its centre, a table of positions is interpolated along the
token axis. Axes that hold several segments or factors (packed projections, concatenations, groups, gates) give a slice
of each: which ones they are is followed along the network's data (see following.py). Nothing else happens silently: a
module class may declare `slicing = {"parameter": ("leading", "fixed", …)}`, also for parameters of the modules inside
it, by patterns such as "*.project.weight"; {"*": "leading"} takes the beginning of every axis of features. What neither
torch nor a class declares is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from nasplat.errors import SupernetError
from nasplat.frontends.block import SHELL, SIGNATURE, fill, walk

LEADING, CENTRED, FIXED, TOKENS = "leading", "centred", "fixed", "tokens"
Runs = tuple[tuple[int, int], ...]
"""(first, one past the last) of each run of consecutive positions that an axis gives."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FEATURES = (
    *(nn.Linear, nn.Bilinear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.PReLU),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.RMSNorm, nn.Embedding),
)
_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}
_KNOWN: dict[Any, dict[str, Slot]] = {}
"""What blocks ask for, by their signature: class and arguments."""
_MOST = 3_000
"""Blocks up to which the oldest stay."""


@dataclass(frozen=True)
class Rule:
    """How each axis of one parameter is cut."""

    axes: tuple[str | Runs, ...]
    """Rule of every axis: leading, centred, fixed, tokens, stacked:k (k matrices on top of one another), or the runs of
    positions that one member takes."""
    is_declared: bool = False
    """The module's class declares the rule, so that it holds whatever the data say."""

    @property
    def is_own(self) -> bool:
        """Whether it is the rule of some members only, since it holds their positions."""
        return any(not isinstance(a, str) for a in self.axes)

    def is_view(self, stored: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        """Tell whether a slice shares memory with the stored weight, or is computed from it.

        Args:
            stored: Shape of the stored weight.
            shape: Shape of the slice, with as many axes.

        Returns:
            True where the slice is a view.
        """
        computed = (len(a) > 1 if not isinstance(a, str) else a == TOKENS or a.startswith("stacked") for a in self.axes)
        return not any(c and have != want for c, have, want in zip(computed, stored, shape, strict=True))


@dataclass(frozen=True)
class Slot:
    """What one architecture asks for at one parameter name."""

    shape: tuple[int, ...]
    """Shape that the architecture's parameter has."""
    owner: type
    """Class of the module that holds the parameter."""
    rule: Rule | None
    """How the parameter is cut from a larger one; None where it may not change shape."""


def slots(module: nn.Module) -> dict[str, Slot]:
    """Say what a module asks for at every parameter name.

    Args:
        module: Network whose parameters need not hold values; it may hold shells of blocks.

    Returns:
        Slots by parameter name; a shared parameter appears once.
    """
    parts = list(_units(module))
    if not any(SHELL in part.__dict__ for _, part in parts) or any(_is_special(part) for _, part in parts):
        return _filled_slots(module)  # what encloses blocks may declare rules for what they hold
    found: dict[str, Slot] = {}
    met: set[int] = set()
    for path, part in parts:
        if _is_block(part):
            inside = _slots_of(part)
        else:
            own = {n: p for n, p in part._parameters.items() if p is not None and id(p) not in met}
            met |= {id(p) for p in own.values()}
            inside = {n: _slot(part, n, p) for n, p in own.items()}
        found |= {f"{path}.{name}" if path else name: slot for name, slot in inside.items()}
    return found


def _units(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Go through the parts of a network, each once; blocks stay unopened."""
    seen: set[int] = set()
    stack = [("", module)]
    while stack:
        name, part = stack.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield name, part
            if part is module or not _is_block(part):
                inner = [(f"{name}.{k}" if name else k, m) for k, m in part._modules.items() if m is not None]
                stack.extend(reversed(inner))


def _is_block(part: nn.Module) -> bool:
    return part.__dict__.get(SIGNATURE) is not None


def _slots_of(part: nn.Module) -> dict[str, Slot]:
    """What a block asks for, by names inside it; found once for all blocks that are made alike."""
    signature = part.__dict__[SIGNATURE]
    if signature not in _KNOWN:
        if len(_KNOWN) >= _MOST:
            del _KNOWN[next(iter(_KNOWN))]
        _KNOWN[signature] = _filled_slots(part)
    return _KNOWN[signature]


def _filled_slots(module: nn.Module) -> dict[str, Slot]:
    for _, part in walk(module):
        fill(part)
    return _all_slots(module)


def _is_special(part: nn.Module) -> bool:
    """Whether a module says how parameters of others are cut: by its class, or because it computes them."""
    return isinstance(getattr(type(part), "slicing", None), dict) or isinstance(part, ParametrizationList)


def _all_slots(module: nn.Module) -> dict[str, Slot]:
    """Slots of a network without shells."""
    owners, stated = dict(module.named_modules()), declarations(module)
    found = {}
    for name, parameter in module.named_parameters():
        path, _, leaf = name.rpartition(".")
        owner = owners[path]
        if isinstance(owner, ParametrizationList):  # what a weight is computed from is cut as the weight is
            parent, _, inner = path.rpartition(".parametrizations.")
            owner, leaf = (owners[parent], inner) if inner else (owners[""], path.partition(".")[2])
        found[name] = _slot(owner, leaf, parameter, stated.get(name))
    return found


def _slot(owner: nn.Module, leaf: str, parameter: Tensor, stated: Any = None) -> Slot:
    cls = type(owner).__mro__[1] if is_parametrized(owner) else type(owner)  # torch makes a class for each module
    return Slot(tuple(parameter.shape), cls, rule_for(owner, leaf, parameter, stated))


def declarations(module: nn.Module) -> dict[str, Any]:
    """Gather what the classes of a network's modules declare in `slicing`.

    Args:
        module: The whole network, whose modules may declare rules.

    Returns:
        By parameter name, one rule per axis, or one word; what the innermost module says holds.
    """
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        stated: Any = getattr(type(part), "slicing", None)
        if isinstance(stated, dict):
            for name, _ in part.named_parameters():
                for pattern, axes in stated.items():
                    if fnmatchcase(name, pattern):
                        found[f"{path}.{name}" if path else name] = axes
    return found


def rule_for(owner: nn.Module, name: str, parameter: Tensor, stated: Any = None) -> Rule | None:
    """Find the rule by which a parameter is cut.

    Args:
        owner: Module that holds the parameter.
        name: Name of the parameter in that module, such as 'weight'.
        parameter: Parameter itself, of which only the number of axes is read.
        stated: What `declarations` found for it.

    Returns:
        The rule that the class declares or torch implies; None where the parameter may not change shape.

    Raises:
        SupernetError: the class declares rules for another number of axes.
    """
    if isinstance(stated, str):
        if stated != LEADING:
            raise SupernetError(
                f"slicing of {type(owner).__name__}.{name} expected one rule per axis or {LEADING!r}, got {stated!r}.\n"
                "  Write a tuple of rules."
            )
        torch_rule = rule_for(owner, name, parameter)
        return None if torch_rule is None else replace(torch_rule, is_declared=True)
    if stated is not None:
        axes = tuple(stated)
        if len(axes) != parameter.dim():
            raise SupernetError(
                f"{type(owner).__name__}.slicing[{name!r}] expected {parameter.dim()} axes, got {axes}.\n"
                "  Name one rule per axis."
            )
        return Rule(axes, True)
    rank = parameter.dim()
    if isinstance(owner, _CONVOLUTIONS):
        return Rule((LEADING,) * min(2, rank) + (CENTRED,) * (rank - 2))
    if isinstance(owner, _FEATURES):
        return Rule((LEADING,) * rank)
    gates = next((k for cls, k in _GATES.items() if isinstance(owner, cls)), 0)
    if gates:
        first = LEADING if gates == 1 or name.startswith("weight_hr") else f"stacked:{gates}"
        return Rule((first,) + (LEADING,) * (rank - 1))
    if isinstance(owner, nn.MultiheadAttention):
        return Rule((("stacked:3" if name.startswith("in_proj") else LEADING),) + (LEADING,) * (rank - 1))
    return None


def take(store: Tensor, shape: tuple[int, ...], rule: Rule, name: str) -> Tensor:
    """Cut from a stored weight the part that a subnet uses; differentiable.

    Args:
        store: Largest weight, of any number of axes.
        shape: Shape that the subnet asks for.
        rule: How each axis is cut.
        name: Name of the parameter, which errors show.

    Returns:
        The slice, as a view where the rule allows one.

    Raises:
        SupernetError: the shape is larger than the stored one, or an even kernel lies inside an odd one.

    Example:
        >>> take(torch.arange(5), (3,), Rule(("centred",)), "kernel")
        tensor([1, 2, 3])
    """
    out = store
    for axis, (have, want, how) in enumerate(zip(store.shape, shape, rule.axes, strict=True)):
        if have == want:
            continue
        if not isinstance(how, str):
            out = _picked(out, axis, how)
            continue
        if how == TOKENS:
            out = _interpolate(out, axis, want)
            continue
        if want > have or how == FIXED:
            raise SupernetError(
                f"parameter {name!r} is stored with shape {tuple(store.shape)}, got a request for {tuple(shape)} "
                f"(axis {axis}, rule {how!r}).\n  Make the covering choices reachable, or keep this axis fixed."
            )
        if how == CENTRED:
            if (have - want) % 2:
                raise SupernetError(
                    f"parameter {name!r}: a kernel of {want} has no centre in one of {have}.\n"
                    "  Use odd kernels together."
                )
            out = out.narrow(axis, (have - want) // 2, want)
        elif how.startswith("stacked"):
            k = int(how.partition(":")[2])
            parts = out.unflatten(axis, (k, have // k)).narrow(axis + 1, 0, want // k)
            out = parts.flatten(axis, axis + 1)
        else:
            out = out.narrow(axis, 0, want)
    return out


def _picked(store: Tensor, axis: int, runs: Runs) -> Tensor:
    """Take runs of positions along an axis."""
    if len(runs) == 1:
        return store.narrow(axis, runs[0][0], runs[0][1] - runs[0][0])
    return store.index_select(axis, _index(runs, store.device))


@lru_cache(4096)
def _index(runs: Runs, device: torch.device) -> Tensor:
    return torch.cat([torch.arange(a, b) for a, b in runs]).to(device)


def _interpolate(table: Tensor, axis: int, want: int) -> Tensor:
    """Resize the token axis as a square grid where both sizes are squares, else linearly."""
    have = table.shape[axis]
    moved = table.movedim(axis, -1)
    flat = moved.reshape(1, -1, have)
    side, goal = round(have**0.5), round(want**0.5)
    if side * side == have and goal * goal == want:
        grid = F.interpolate(flat.unflatten(-1, (side, side)), size=(goal, goal), mode="bilinear", align_corners=False)
        resized = grid.flatten(-2)
    else:
        resized = F.interpolate(flat, size=want, mode="linear", align_corners=False)
    return resized.reshape(*moved.shape[:-1], want).movedim(-1, axis)


def give(buffer: Tensor, part: Tensor, rule: Rule, name: str) -> None:
    """Add a slice's gradient to the gradient of the whole weight, at the place that `take` reads from.

    Args:
        buffer: Gradient of the stored weight, which is changed in place.
        part: Gradient of the slice, of the slice's shape.
        rule: How the slice is cut.
        name: Name of the parameter, which errors show.
    """
    if rule.is_view(tuple(buffer.shape), tuple(part.shape)):
        take(buffer, tuple(part.shape), rule, name).add_(part)
        return
    several = [i for i, a in enumerate(rule.axes) if not isinstance(a, str) and len(a) > 1]
    if len(several) == 1 and all(not isinstance(a, str) or a in {LEADING, CENTRED} for a in rule.axes):
        axis = several[0]
        shape = (*part.shape[:axis], buffer.shape[axis], *part.shape[axis + 1 :])
        strip = take(buffer, shape, rule, name)  # a view: all other axes are cut, this one is whole
        strip.index_add_(axis, _index(cast("Runs", rule.axes[axis]), buffer.device), part)
        return
    with torch.enable_grad():  # the transpose of a linear map is its backward pass
        probe = torch.zeros_like(buffer).requires_grad_()
        (back,) = torch.autograd.grad(take(probe, tuple(part.shape), rule, name), probe, part)
    buffer.add_(back)
