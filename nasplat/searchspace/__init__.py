"""A search space is a function `build(pick, …) -> nn.Module`; what `pick` is decides what happens.

pick.py          who answers a choice           architecture.py  the choices made
construction.py  stop at, or skip, construction  space.py         Space: sample, mutate, cross over, enumerate, count
registry.py      spaces by name or path         blocks.py        parts that several spaces share
structure.py     what follows which choice      feasible.py      what the choices cost; draws within limits
trials.py        a space of what an Optuna trial is asked
"""

from nasplat.searchspace.architecture import Architecture
from nasplat.searchspace.feasible import QUANTITIES
from nasplat.searchspace.pick import Option, Pick
from nasplat.searchspace.registry import list_spaces, list_variants, load_space
from nasplat.searchspace.space import Count, Space, space
from nasplat.searchspace.trials import space_of_trial

__all__ = [
    "QUANTITIES",
    "Architecture",
    "Count",
    "Option",
    "Pick",
    "Space",
    "list_spaces",
    "list_variants",
    "load_space",
    "space",
    "space_of_trial",
]
