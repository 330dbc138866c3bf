"""What a network costs on a machine, and what can be told of it without training.

latency.py     seconds of a forward pass on this machine   runtimes.py  eager, compiled, CUDA graph, ONNX Runtime
conditions.py  devices, and under what a latency holds      zerocost.py  numbers of untrained networks
"""

from nasplat.probes.latency import Latency, measure, measure_together, time_passes, time_together
from nasplat.probes.zerocost import PROXIES, proxies

__all__ = ["PROXIES", "Latency", "measure", "measure_together", "proxies", "time_passes", "time_together"]
