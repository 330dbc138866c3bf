"""What a network computes, operation by operation, without torch.

columns.py  nodes, edges and weights        graph.py        `Graph`: columns with costs, key, files, conversions
decoding.py  a decoder token by token       quantities.py   any of these by name, under conditions
cost.py     MACs, parameters, bytes         ops.py          the vocabulary of operations
key.py      canonical hash                  store.py        JSON and npz files
folding.py  no dead code, copies and zeros  rows.py         many graphs side by side as numbers
program.py  calls behind a captured graph   conversions.py  networkx and torch-geometric
compare.py  two graphs side by side         published.py    the graphs that GENNAPE and AIO-P publish
drawing.py  a graph as SVG                  summary.py      a graph in one line or one small table
bounds.py   which totals are exact          checks.py       types of columns from outside
"""

from nasplat.graph.columns import Node, Weight
from nasplat.graph.graph import Graph
from nasplat.graph.ops import OPS_VERSION

__all__ = ["OPS_VERSION", "Graph", "Node", "Weight"]
