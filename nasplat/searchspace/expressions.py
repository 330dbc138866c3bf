"""What a cell of summed edges computes becomes a text that is equal for cells of one function.

Source: `to_unique_str` of NAS-Bench-201's code (Dong & Yang 2020, arXiv:2001.00326), with sums of any order and depth.
"""

from __future__ import annotations

from collections.abc import Mapping

IDENTITY = ""
"""Operation of an edge that hands its source on unchanged."""


def cell_expression(edges: Mapping[tuple[int, int], str | None], nodes: int) -> str:
    """Write what the last node of a cell computes from the first one.

    Every node is the sum of its edges. A sum has no order, and a sum of sums is one sum; an edge of `IDENTITY` is its
    source; an edge of None is nothing, and so is any operation on a node that nothing feeds. Nodes that the last one
    does not read do not appear.

    Two kinds of cells that a network tells apart are equal here, as in the literature: one operation whose result is
    added twice and two operations of one name on the same source; and a normalised convolution of nothing, whose shift
    is a constant, and nothing. Networks of equal texts compute the same where equal operations on equal sources have
    equal weights and these shifts are 0, as they are at first.

    Args:
        edges: Name of the operation on each edge, by source and target, sources smaller than targets.
        nodes: Number of nodes; the first is the input, the last the output.

    Returns:
        The expression of the input `x`; empty where the output is always zero.

    Example:
        >>> edges = {(0, 1): "conv", (1, 2): "", (0, 2): "", (0, 3): None, (1, 3): None, (2, 3): "pool"}
        >>> cell_expression(edges, 4)
        '((x)conv+x)pool'
    """
    terms: list[list[str]] = [["x"]]
    for target in range(1, nodes):
        found: list[str] = []
        for source in range(target):
            name = edges.get((source, target))
            if name == IDENTITY:
                found += terms[source]
            elif name is not None and terms[source]:
                found.append(f"({'+'.join(terms[source])}){name}")
        terms.append(sorted(found))
    return "+".join(terms[-1])
