"""What is read off ONNX nodes alone: those of subgraphs, readers of a tensor, nodes that are one operation together.

A product and its bias are one operation of the vocabulary, and so is gelu written out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from onnx import TensorProto, helper

from nasplat.frontends.onnx_tensors import FLOATS, Tensors


def subgraphs(node: Any) -> Iterator[Any]:
    """List the graphs that a node holds.

    Args:
        node: An ONNX node.

    Returns:
        Its branches or its body.
    """
    for a in node.attribute:
        if a.HasField("g"):
            yield a.g


def all_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """List nodes, those of subgraphs included.

    Args:
        nodes: ONNX nodes of one graph.

    Returns:
        Every node before those inside it.
    """
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph.node)


def readers(nodes: Iterable[Any], outputs: Iterable[str]) -> Counter[str]:
    """Count who reads every tensor; readers inside subgraphs count twice, since nothing outside may replace them.

    Args:
        nodes: ONNX nodes of one graph.
        outputs: Names that the graph gives out.

    Returns:
        Number of readers by name.
    """
    found = Counter(name for node in nodes for name in node.input)
    found.update(outputs)
    for graph in (g for node in all_nodes(nodes) for g in subgraphs(node)):
        names = [*(n for node in graph.node for n in node.input), *(value.name for value in graph.output)]
        found.update([*names, *names])
    return found


def constant(node: Any) -> Any:
    """Read the tensor of a node that writes a constant.

    Args:
        node: An ONNX node `Constant`.

    Returns:
        The tensor, or None where the constant is a single number, a string, or sparse.
    """
    for a in node.attribute:
        if a.name == "value" and a.HasField("t"):
            return a.t
        if a.name == "value_floats":
            return helper.make_tensor("value", TensorProto.FLOAT, [len(a.floats)], a.floats)
    return None


def bias(node: Any, single: Mapping[str, Any], tensors: Tensors) -> tuple[str, str] | None:
    """Find the vector that is added to a product by a weight.

    Args:
        node: An ONNX node.
        single: The reader of every tensor that has only one.
        tensors: Weights and shapes of the file.

    Returns:
        (name of the sum, name of the vector), or None where the node is no such product.
    """
    if node.op_type != "MatMul" or node.domain not in {"", "ai.onnx"} or len(node.input) != 2 or not node.output:
        return None
    product, add = node.output[0], single.get(node.output[0])
    if add is None or add.op_type != "Add" or len(add.input) != 2 or not add.output:
        return None
    weight = tensors.shape.get(node.input[1], ())
    if node.input[1] not in tensors.value or len(weight) != 2:
        return None
    vector = add.input[1] if add.input[0] == product else add.input[0]
    shape = tensors.shape.get(vector, ())
    if (
        vector not in tensors.value
        or tensors.type.get(vector, 1) not in FLOATS
        or len(shape) != 1
        or (vector not in tensors.weight and shape != weight[1:])
    ):
        return None
    tensors.weight.setdefault(vector, (vector,))  # the bias of a layer is a weight, though a single number
    return add.output[0], vector


def gelus(nodes: Sequence[Any], readers: Counter[str]) -> dict[str, tuple[list[str], str]]:
    """Find gelu written out: x/√2 → erf → +1 → ·x → ·½, the last two in either order.

    Args:
        nodes: ONNX nodes of one graph.
        readers: How many nodes and outputs read every name.

    Returns:
        Name of the last output: (names in between, name of x).
    """
    maker = {name: n for n in nodes for name in n.output}
    reader = {name: n for n in nodes for name in n.input if readers[name] == 1}

    def next_mul(node: Any) -> Any:
        """The product that alone reads a node's first output."""
        after = reader.get(node.output[0]) if node is not None and node.output else None
        return after if after is not None and after.op_type == "Mul" and after.output else None

    found: dict[str, tuple[list[str], str]] = {}
    for erf in (n for n in nodes if n.op_type == "Erf" and n.input and n.output):
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
