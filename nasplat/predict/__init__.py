"""Graphs and tables in, predictions out; no predictor sees the name of a space.

contract.py    what every predictor does           abilities.py   what some do beside, as protocols
prediction.py  what is answered                     beside.py      latency and top-1 of the same networks
folder.py      the four files on disk               registry.py    families by name, loading
count.py       MACs or parameters alone             trees.py       boosted trees on graph statistics
gennape.py     encoder, clusters, heads             universal.py   percentiles within many families
aiop.py        adapters of several tasks            zoo.py         ImageNet top-1 under a recipe
latency.py     milliseconds on this device          device.py      milliseconds on a device others timed
finetuned.py   a few labels of another family
small_images.py  top-1 on pictures of 32 x 32, such as CIFAR-10
"""

from nasplat.predict.aiop import Aiop
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.count import CountBaseline
from nasplat.predict.device import DevicePredictor
from nasplat.predict.finetuned import AbstractTunable
from nasplat.predict.gennape import Gennape
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.prediction import Prediction
from nasplat.predict.registry import FAMILIES, load
from nasplat.predict.small_images import SmallImages
from nasplat.predict.trees import Trees
from nasplat.predict.universal import Universal
from nasplat.predict.zoo import ModelZoo

__all__ = [
    "FAMILIES",
    "AbstractPredictor",
    "AbstractTunable",
    "Aiop",
    "CountBaseline",
    "DevicePredictor",
    "Gennape",
    "LatencyPredictor",
    "ModelZoo",
    "Prediction",
    "SmallImages",
    "Trees",
    "Universal",
    "load",
]
