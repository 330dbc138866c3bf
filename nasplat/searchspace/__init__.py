"""A search space is a function `build(pick, …) -> nn.Module`; what answers `pick` decides what happens.

pick.py            what a build asks for choices     construction.py  stop at, or skip, construction
registry.py        spaces by name or path            architecture.py  the choices made; what is asked of a space
rules.py           walks, and rules learned of them  structure.py     which choice follows which
counting.py        count and enumerate encodings     variation.py     random members, neighbours, children
encoded.py         encodings of the literature       costs.py         what the choices cost
expressions.py     what a cell of summed edges computes
feasible.py        draws within limits, which are:
tabulated_draws.py … uniform, by counting            fitted_draws.py  … by a fitted sum, checked
shaping.py         presets that a task decides       trials.py        a space of what an Optuna trial is asked
defined.py         what a space is, as a hash
space.py           Space, load_space                 declaration.py   @space makes a Space of a function
"""

from nasplat.searchspace.architecture import AbstractSpace, Architecture
from nasplat.searchspace.costs import QUANTITIES
from nasplat.searchspace.counting import Count
from nasplat.searchspace.declaration import space
from nasplat.searchspace.expressions import cell_expression
from nasplat.searchspace.pick import Option, Pick
from nasplat.searchspace.registry import list_spaces, list_variants
from nasplat.searchspace.space import Space, load_space
from nasplat.searchspace.trials import space_of_trial

__all__ = [
    "QUANTITIES",
    "AbstractSpace",
    "Architecture",
    "Count",
    "Option",
    "Pick",
    "Space",
    "cell_expression",
    "list_spaces",
    "list_variants",
    "load_space",
    "space",
    "space_of_trial",
]
