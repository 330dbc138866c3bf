"""Graphs and tables in, `Prediction`s out; no predictor sees the name of a space.

prediction.py  what is answered            predictor.py  the contract, folders on disk
support.py     what was learnt from        conformal.py  intervals
view.py        a graph as arrays           registry.py   families, loading
baselines.py   MACs and parameters alone   trees.py      gradient-boosted trees on graph statistics
encoder.py     views to vectors            contrastive.py pretraining without labels
fuzzy.py       fuzzy C-means               gennape.py    encoder, clusters, heads
finetuned.py   a few labels of another family   forest.py  extremely randomised trees
target.py      labels as normal scores      trunks.py    messages to choose from
viewstore.py   views on disk              universal.py  percentiles within many families
zoo.py         ImageNet top-1 under a recipe
"""

from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.count import CountBaseline
from nasplat.predict.prediction import Prediction
from nasplat.predict.registry import FAMILIES, load
from nasplat.predict.trees import Trees

__all__ = ["FAMILIES", "AbstractPredictor", "CountBaseline", "Prediction", "Trees", "load"]
