"""What a network costs and reaches when it really runs.

latency.py    seconds of a forward pass on this machine     runtimes.py  eager, compiled, CUDA graph, ONNX Runtime
training.py   a short training from scratch                 zerocost.py  numbers of untrained networks
"""

from nasplat.measuring.latency import Latency, measure, measure_together, time_passes, time_together
from nasplat.measuring.zerocost import PROXIES, proxies
from nasplat.task.training import Budget, Trained, train, train_architecture

__all__ = [
    "PROXIES",
    "Budget",
    "Latency",
    "Trained",
    "measure",
    "measure_together",
    "proxies",
    "time_passes",
    "time_together",
    "train",
    "train_architecture",
]
