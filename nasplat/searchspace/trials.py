"""Make a `Space` of a plain Optuna search space: what a trial is asked for are its choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from nasplat.searchspace import construction
from nasplat.searchspace.pick import Option, Pick
from nasplat.searchspace.registry import declare
from nasplat.searchspace.space import Space

STEPS = 16
"""Options at most that stand for a range of numbers."""


def space_of_trial(build: Callable[[Any], Any], example_input: Any = None) -> Space:
    """Make a space of the modules that a function of an Optuna trial builds.

    Args:
        build: Function that asks the trial by `suggest_categorical`, `suggest_int` and `suggest_float`, whenever it
            likes, and returns a module or (module, input shape). It is run twice to build and once to choose.
        example_input: Shape of one input batch; None where `build` returns it.

    Returns:
        The space; a long range of integers, or any range of floats, becomes at most `STEPS` values.

    Example:
        >>> from torch import nn
        >>> def build(trial):
        ...     layers, width = [], 8
        ...     for i in range(trial.suggest_int("layers", 1, 3)):
        ...         out = trial.suggest_int(f"width{i}", 8, 64, log=True)
        ...         layers += [nn.Linear(width, out), nn.ReLU()]
        ...         width = out
        ...     return nn.Sequential(*layers)
        >>> space_of_trial(build, (1, 8)).sample(seed=0).graph().params > 0
        True
    """

    def function(pick: Pick) -> nn.Module:
        asked = _Trial(pick)
        with construction.watching(lambda: None), construction.uninitialised():
            build(asked)  # questions may come between modules
        return build(_Trial(lambda name, options: asked.params[name]))

    made = Space(function, getattr(build, "__name__", "trial"), example_input)
    declare(made)
    return made


class _Trial:
    """Stands in for an Optuna trial; each parameter is answered once, as Optuna does."""

    number = 0
    """Number of the trial in its study."""

    def __init__(self, answer: Callable[[str, tuple[Any, ...]], Any]) -> None:
        """Begin without any parameter.

        Args:
            answer: Function of a parameter's name and options that returns one of the options.
        """
        self.answer = answer
        self.params: dict[str, Option] = {}
        """Answers so far, by the name of the parameter."""
        self.user_attrs: dict[str, Any] = {}
        """What the build notes of the trial; nobody reads it."""

    def report(self, value: float, step: int) -> None:
        """Ignore an intermediate value: nothing is pruned while choices are made."""

    def should_prune(self) -> bool:
        """Never prune."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a note."""
        self.user_attrs[key] = value

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of the values."""
        return self._once(name, tuple(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        """Choose one of the integers that stand for the range."""
        return self._once(name, integers(low, high, step, log))

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        """Choose one of the numbers that stand for the range."""
        return self._once(name, floats(low, high, step, log))

    def _once(self, name: str, options: tuple[Any, ...]) -> Any:
        """Ask for a parameter unless it was answered before."""
        if name not in self.params:
            self.params[name] = self.answer(name, options)
        return self.params[name]


def integers(low: int, high: int, step: int = 1, log: bool = False) -> tuple[int, ...]:
    """List the integers that stand for a range.

    Args:
        low: Smallest integer of the range.
        high: Largest integer, which need not be reached by the steps.
        step: Distance of the integers.
        log: Whether a long range is thinned out evenly by ratio instead of by difference.

    Returns:
        All integers of the range, or at most `STEPS` of a long one, in ascending order.

    Example:
        >>> integers(1, 4), len(integers(8, 512))
        ((1, 2, 3, 4), 16)
    """
    every = range(low, high + 1, step)
    if len(every) <= STEPS:
        return tuple(every)
    spread = np.geomspace(low, every[-1], STEPS) if log else np.linspace(low, every[-1], STEPS)
    return tuple(sorted({every[round((v - low) / step)] for v in spread.tolist()}))


def floats(low: float, high: float, step: float | None = None, log: bool = False) -> tuple[float, ...]:
    """List the numbers that stand for a range.

    Args:
        low: Smallest number of the range.
        high: Largest number of the range.
        step: Distance of the numbers; None for a continuous range.
        log: Whether the numbers of a continuous range are spread evenly by ratio instead of by difference.

    Returns:
        At most `STEPS` numbers in ascending order.

    Example:
        >>> floats(0.0, 0.5, step=0.25)
        (0.0, 0.25, 0.5)
    """
    if step is not None:
        count = int((high - low) / step + 1e-9)
        return tuple(
            low + step * i for i in sorted({round(i) for i in np.linspace(0, count, min(STEPS, count + 1)).tolist()})
        )
    spread = np.geomspace(low, high, STEPS) if log else np.linspace(low, high, STEPS)
    return tuple([low, *spread[1:-1].tolist(), high]) if high > low else (low,)
