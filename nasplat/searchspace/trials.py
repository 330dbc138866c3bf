"""A plain Optuna search space becomes a `Space`: what a trial is asked for are its choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from nasplat.searchspace import construction
from nasplat.searchspace.pick import Option, Pick
from nasplat.searchspace.space import Space

STEPS = 16
"""Options at most that a range of numbers is offered as."""


def space_of_trial(build: Callable[[Any], Any], example_input: Any = None) -> Space:
    """A space of the modules that a function of an Optuna trial builds.

    Args:
        build: Asks the trial by `suggest_categorical`, `suggest_int` and `suggest_float`, whenever it likes, and returns a module or
            (module, input shape). It is run twice to build and once to choose.
        example_input: Shape of one input batch, unless `build` returns it.

    Returns:
        The space; long ranges of integers and all floats are offered as at most `STEPS` values.

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

    return Space(function, getattr(build, "__name__", "trial"), example_input)


class _Trial:
    """What a build may ask of a trial; each parameter is answered once, as Optuna does."""

    number = 0

    def __init__(self, answer: Callable[[str, tuple[Any, ...]], Any]) -> None:
        self.answer = answer
        self.params: dict[str, Option] = {}
        self.user_attrs: dict[str, Any] = {}

    def report(self, value: float, step: int) -> None:
        """Nothing is pruned while choices are made."""

    def should_prune(self) -> bool:
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = value

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._once(name, tuple(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        return self._once(name, integers(low, high, step, log))

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        return self._once(name, floats(low, high, step, log))

    def _once(self, name: str, options: tuple[Any, ...]) -> Any:
        if name not in self.params:
            self.params[name] = self.answer(name, options)
        return self.params[name]


def integers(low: int, high: int, step: int = 1, log: bool = False) -> tuple[int, ...]:
    """Values of an integer range, at most `STEPS` of a long one."""
    every = range(low, high + 1, step)
    if len(every) <= STEPS:
        return tuple(every)
    spread = np.geomspace(low, every[-1], STEPS) if log else np.linspace(low, every[-1], STEPS)
    return tuple(sorted({every[round((v - low) / step)] for v in spread.tolist()}))


def floats(low: float, high: float, step: float | None = None, log: bool = False) -> tuple[float, ...]:
    """Values of a float range, at most `STEPS`."""
    if step is not None:
        count = int((high - low) / step + 1e-9)
        return tuple(
            low + step * i for i in sorted({round(i) for i in np.linspace(0, count, min(STEPS, count + 1)).tolist()})
        )
    spread = np.geomspace(low, high, STEPS) if log else np.linspace(low, high, STEPS)
    return tuple([low, *spread[1:-1].tolist(), high]) if high > low else (low,)
