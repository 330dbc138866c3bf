"""Several ONNX nodes that are one operation of the vocabulary: a product with its bias, and gelu written out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nasplat.frontends.onnx_tensors import Tensors


def biases(graph: Any, readers: Counter[str], tensors: Tensors) -> dict[str, tuple[str, str]]:
    """Find the products by a weight whose only reader adds a vector.

    Args:
        graph: An ONNX graph.
        readers: How many nodes and outputs read every name.
        tensors: Weights and shapes of the file.

    Returns:
        Name of the product: (name of the sum, name of the vector).
    """
    products = {
        n.output[0]
        for n in graph.node
        if n.op_type == "MatMul"
        and len(n.input) == 2
        and n.output
        and n.input[1] in tensors.weight
        and readers[n.output[0]] == 1
    }
    found = {}
    for node in graph.node:
        if node.op_type != "Add" or len(node.input) != 2 or not node.output:
            continue
        for product, vector in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
            if product in products and vector in tensors.weight and len(tensors.shape.get(vector, ())) == 1:
                found[product] = (node.output[0], vector)
    return found


def gelus(graph: Any, readers: Counter[str]) -> dict[str, tuple[list[str], str]]:
    """Find gelu written out: x/√2 → erf → +1 → ·x → ·½, the last two in either order.

    Args:
        graph: An ONNX graph.
        readers: How many nodes and outputs read every name.

    Returns:
        Name of the last output: (names in between, name of x).
    """
    maker = {name: n for n in graph.node for name in n.output}
    reader = {name: n for n in graph.node for name in n.input if readers[name] == 1}

    def next_mul(node: Any) -> Any:
        """The product that alone reads a node's first output."""
        after = reader.get(node.output[0]) if node is not None and node.output else None
        return after if after is not None and after.op_type == "Mul" and after.output else None

    found: dict[str, tuple[list[str], str]] = {}
    for erf in (n for n in graph.node if n.op_type == "Erf" and n.input and n.output):
        scaled = maker.get(erf.input[0])
        plus = reader.get(erf.output[0])
        first = next_mul(plus) if plus is not None and plus.op_type == "Add" else None
        second = next_mul(first)
        if scaled is None or plus is None or first is None or second is None or not scaled.output:
            continue
        inside = [scaled.output[0], erf.output[0], plus.output[0], first.output[0]]
        x = next((n for n in scaled.input if n in (*first.input, *second.input)), None)
        if x is not None:
            found[second.output[0]] = (inside, x)
            continue
        for product in (first, second):  # x · ½ apart: (x · ½) · (1 + erf)
            half = next((maker.get(n) for n in product.input if n not in inside), None)
            if half is not None and half.op_type == "Mul" and half.output and readers[half.output[0]] == 1:
                x = next((n for n in scaled.input if n in half.input), None)
                if x is not None and product is first and first.output[0] not in found:
                    found[first.output[0]] = ([*inside[:3], half.output[0]], x)
    return found
