"""A search of a space is an Optuna study; here is what asks, proposes, judges, stops and stores.

search.py       one study from what was asked for       stages.py             cheap qualities first, the truth last
loop.py         ask, evaluate, tell: one worker         allocation.py         a budget divided among stages
objectives.py   callables of an architecture            captured.py           what is remembered of architectures
limits.py       countable limits and feasible draws     directions.py         what is better when larger
proposals.py    the base of samplers                    samplers.py           listed, random, local search, evolution
predictor_sampler.py  proposals that learn              surrogate.py          the Gaussian process behind them
hypervolume.py  several objectives at once              front_pruner.py       learning curves against the front
ledger.py       what a study has met                    liveness.py           whose trials are still running
storage.py      journals and databases                  workers.py            commands that share a study
pool.py         processes of one thread each
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
