"""`@space` makes a `Space` of a build function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nasplat.errors import SpaceError
from nasplat.searchspace.registry import declare
from nasplat.searchspace.space import Space

SIZES = {4: ("height", "width"), 3: ("length",)}
"""Presets of a space that takes any size, by the number of axes of its example input; they are the last of these."""


def space(
    example_input: Any = None, shaped: Mapping[str, str] | None = None, any_size: bool = False
) -> Callable[[Callable[..., Any]], Space]:
    """Make a search space of a function `build(pick, **presets) -> nn.Module`.

    Args:
        example_input: Shape of one input batch, or a function of the presets that returns it; None where `build`
            returns `(module, shape)` because the input is itself a choice.
        shaped: Presets that a task decides, by what it decides them with: image (side of square images), height, width,
            channels, length, features, classes or vocabulary, as in {"classes": "outputs"}. Needed only where a preset
            has another name: None takes those of these names, and of the input's those that `example_input` follows.
        any_size: Whether the networks take inputs of any size, of which `example_input` states one. The space then has
            presets `height` and `width` (`length` for sequences) that decide the example input alone.

    Returns:
        A decorator; the decorated name is a `Space`.

    Raises:
        SpaceError: `any_size` is asked for where `example_input` is no shape such as (1, 3, 32, 32), or the build
            function has such presets itself.

    Example:
        >>> import torch
        >>> @space(example_input=(1, 4))
        ... def tiny(pick, depth=2):
        ...     widths = [pick(f"layer{i}.width", (4, 8)) for i in range(depth)]
        ...     return torch.nn.Sequential(*[torch.nn.LazyLinear(w) for w in widths])
        >>> tiny.count().value
        4
        >>> @space(example_input=(1, 3, 32, 32), any_size=True)
        ... def pooled(pick, classes=10):
        ...     conv = torch.nn.Conv2d(3, classes, pick("kernel", (3, 5)))
        ...     return torch.nn.Sequential(conv, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> pooled.with_presets(height=24).sample(seed=0).example_input
        (1, 3, 24, 32)
    """

    def decorate(function: Callable[..., Any]) -> Space:
        name = function.__name__
        build, example = _sized(function, example_input) if any_size else (function, example_input)
        made = Space(build, name, example, shaped=shaped)
        declare(made)
        return made

    return decorate


def _sized(function: Callable[..., Any], example: Any) -> tuple[Callable[..., Any], Callable[..., tuple[int, ...]]]:
    """Give a build function presets for the size of its input, and make the example input follow them."""
    sizes = SIZES.get(len(example), ()) if isinstance(example, tuple | list) else ()
    signature = inspect.signature(function)
    if not sizes or any(s in signature.parameters for s in sizes):
        raise SpaceError(
            f"space {function.__name__!r} takes any size: expected example_input as a shape such as (1, 3, 32, 32), "
            f"and a build function without presets {' and '.join(sizes) or 'height and width'}.\n"
            "  Write the shape out, or let example_input follow presets of your own and leave any_size out."
        )
    defaults = dict(zip(sizes, example[-len(sizes) :], strict=True))

    @functools.wraps(function)
    def build(pick: Any, **presets: Any) -> Any:
        return function(pick, **{k: v for k, v in presets.items() if k not in sizes})

    added = [inspect.Parameter(s, inspect.Parameter.KEYWORD_ONLY, default=d) for s, d in defaults.items()]
    ordered = sorted([*signature.parameters.values(), *added], key=lambda p: p.kind)  # **presets, if any, stays last
    build.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]

    def follow(**presets: Any) -> tuple[int, ...]:
        return (*example[: -len(sizes)], *(presets.get(s, d) for s, d in defaults.items()))

    return build, follow
