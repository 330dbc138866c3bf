"""A search of a space is an Optuna study; here is what asks, proposes, judges, stops and stores.

search.py       one study: ask, evaluate, tell          stages.py             cheap qualities first, the truth last
objectives.py   callables of an architecture            allocation.py         a budget divided among stages
limits.py       countable limits and feasible draws     captured.py           what is remembered of architectures
proposals.py    the base of samplers                    samplers.py           listed, random, local search, evolution
predictor_sampler.py  proposals that learn              surrogate.py          the Gaussian process behind them
hypervolume.py  several objectives at once              front_pruner.py       learning curves against the front
ledger.py       what a study has met                    liveness.py           whose trials are still running
storage.py      journals and databases                  workers.py            processes that share a study
"""

from nasplat.study.front_pruner import FrontPruner
from nasplat.study.limits import Limits
from nasplat.study.objectives import (
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
from nasplat.study.predictor_sampler import PredictorSampler
from nasplat.study.samplers import EvolutionSampler, ListedSampler, LocalSearchSampler, UniqueRandomSampler

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
