"""What a network costs and reaches when it really runs.

latency.py   seconds of a forward pass on this machine     training.py  a short training from scratch
"""

from nasplat.measuring.latency import Latency, measure
from nasplat.measuring.training import Budget, Trained, train, train_architecture

__all__ = ["Budget", "Latency", "Trained", "measure", "train", "train_architecture"]
