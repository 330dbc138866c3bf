"""What a network costs on a machine, and what can be told of it without training.

latency.py     time of a forward pass on this machine, with an interval
conditions.py  device, batch, runtime, precision and threads under which it holds; the user's cache
runtimes.py    eager torch, compiled, CUDA graph, ONNX Runtime
onnx_network.py an ONNX file that answers like a module
agreement.py   what a file answers against what its module answers
onnx_writer.py modules -> ONNX files, for any batch where torch.export proves it
zerocost.py    numbers of untrained networks
"""

from nasplat.probes.conditions import LATENCY_MS, Conditions
from nasplat.probes.latency import Clock, Latency, measure, measure_together, time_passes, time_together
from nasplat.probes.zerocost import PROXIES, proxies

__all__ = [
    "LATENCY_MS",
    "PROXIES",
    "Clock",
    "Conditions",
    "Latency",
    "measure",
    "measure_together",
    "proxies",
    "time_passes",
    "time_together",
]
