"""Graphs and tables in, `Prediction`s out; no predictor sees the name of a space.

prediction.py  what is answered            predictor.py  the contract, folders on disk
support.py     what was learnt from        conformal.py  intervals
baselines.py   MACs and parameters alone   trees.py      gradient-boosted trees on graph statistics
registry.py    families, loading
"""

from nasplat.predict.baselines import CountBaseline
from nasplat.predict.prediction import Prediction
from nasplat.predict.predictor import AbstractPredictor
from nasplat.predict.registry import FAMILIES, load
from nasplat.predict.trees import Trees

__all__ = ["FAMILIES", "AbstractPredictor", "CountBaseline", "Prediction", "Trees", "load"]
