"""What a network computes, op by op, without torch.

graph.py  the immutable columns      ops.py   vocabulary       cost.py        MACs, parameters, activation bytes
key.py    canonical hash             store.py json and npz     statistics.py  features of the predictor's view
"""

from nasplat.graph.graph import Graph, Node
from nasplat.graph.ops import OPS_VERSION

__all__ = ["OPS_VERSION", "Graph", "Node"]
