"""What guides a search: objectives, limits, and a sampler that proposes with a predictor.

objectives.py  callables of an architecture       limits.py   countable limits and feasible draws
sampler.py     PredictorSampler for Optuna
"""

from nasplat.searching.limits import Limits
from nasplat.searching.objectives import (
    AbstractObjective,
    Counted,
    Inherited,
    Measured,
    OutsideSupport,
    Predicted,
    Tabulated,
    Trained,
)
from nasplat.searching.sampler import PredictorSampler

__all__ = [
    "AbstractObjective",
    "Counted",
    "Inherited",
    "Limits",
    "Measured",
    "OutsideSupport",
    "Predicted",
    "PredictorSampler",
    "Tabulated",
    "Trained",
]
