"""What guides a search: objectives, limits, and samplers of whole architectures.

objectives.py  callables of an architecture           limits.py       countable limits and feasible draws
facts.py       what is remembered of architectures    ledger.py       what a study has met
proposing.py   the base of samplers                   evolution.py    random, local search, regularised evolution
sampler.py     PredictorSampler                       surrogate.py    the Gaussian process it learns
hypervolume.py several objectives at once             stopping.py     FrontPruner: learning curves against the front
staging.py     a budget divided among stages
"""

from nasplat.searching.evolution import EvolutionSampler, ListedSampler, LocalSearchSampler, UniqueRandomSampler
from nasplat.searching.limits import Limits
from nasplat.searching.objectives import (
    AbstractObjective,
    Counted,
    Inherited,
    Measured,
    OutsideSupport,
    Predicted,
    PredictedLatency,
    Tabulated,
    Trained,
)
from nasplat.searching.sampler import PredictorSampler
from nasplat.searching.stopping import FrontPruner

__all__ = [
    "AbstractObjective",
    "Counted",
    "EvolutionSampler",
    "FrontPruner",
    "Inherited",
    "Limits",
    "ListedSampler",
    "LocalSearchSampler",
    "Measured",
    "OutsideSupport",
    "Predicted",
    "PredictedLatency",
    "PredictorSampler",
    "Tabulated",
    "Trained",
    "UniqueRandomSampler",
]
